/* SPDX-License-Identifier: MIT */
/*
 * rundir.h - the directory that one daemon owns while it runs.
 *
 * RUN/bulkheadd.sock (0600)  RUN/store.sock (0666: the store asks the kernel
 * who connects)  RUN/domains/NAME.xml  RUN/logs/NAME.log  RUN/guests/NAME/
 *
 * Entered while the process is still root; from then on every path is relative
 * to it, so that its parents may be closed to the daemon's uid.  Everything
 * inside is made with the daemon's own uid: root follows no link there.
 */
#ifndef BULKHEAD_DAEMON_RUNDIR_H
#define BULKHEAD_DAEMON_RUNDIR_H

#include <stddef.h>

#include "../../policy/policy.h"

struct rundir {
    int fd;          /* the directory, locked: one daemon each               */
    int listen_fd;   /* bulkheadd.sock                                       */
    int store_fd;    /* store.sock, listening                                */
};

/* 0, or a negative errno with a sentence. */
int rundir_enter(struct rundir *run, const char *path, char *why, size_t cap);
/* Removes the sockets and guests/; domains/ and logs/ stay. */
void rundir_leave(struct rundir *run);

/* domains/NAME.xml, written whole or not at all.  0 or a negative errno. */
int rundir_save_domain(const char *name, const char *xml, size_t len);
int rundir_forget_domain(const char *name);
/* Calls each(data, "NAME", xml, len) for every one; what cannot be read is told with xml NULL. */
void rundir_each_domain(void (*each)(void *data, const char *name, const char *xml, size_t len), void *data);

/* A listening socket at a path below the run directory; an old one is replaced. */
int rundir_listen(const char *path, int type, unsigned mode);

#endif
