/* SPDX-License-Identifier: MIT */
/*
 * rundir.h - the directory that one daemon owns while it runs.
 *
 * RUN/bulkheadd.sock (0600)  RUN/store.sock (0666: the store asks the kernel
 * who connects)  RUN/core.sock (root's: where the next daemon finds the core)
 * RUN/domains/NAME.xml  RUN/logs/NAME.log  RUN/guests/NAME/  RUN/state/NAME.json
 * RUN/gates/NAME
 *
 * What belongs to the core's life (its and the store's socket, guests/, state/)
 * is made with a new core and stays when a daemon is killed.
 *
 * Entered while the process is still root; from then on every path is relative
 * to it, so that its parents may be closed to the daemon's uid.  Everything
 * inside is made with the daemon's own uid: root follows no link there.
 */
#ifndef BULKHEAD_DAEMON_RUNDIR_H
#define BULKHEAD_DAEMON_RUNDIR_H

#include <stdbool.h>
#include <stddef.h>

#include "../../policy/policy.h"

#define RUNDIR_CORE_SOCKET "core.sock"
#define RUNDIR_STATE_MAX   (4u << 20) /* of all domains together */

struct rundir {
    int fd;          /* the directory, locked: one daemon each               */
    int listen_fd;   /* bulkheadd.sock                                       */
    int store_fd;    /* store.sock, listening; -1: not made here             */
    int core_fd;     /* core.sock, the same                                  */
};

/* 0, or a negative errno with a sentence. */
int rundir_enter(struct rundir *run, const char *path, char *why, size_t cap);
/* No core lives: removes what the last one left, makes the sockets for a new one. */
int rundir_for_core(struct rundir *run, const char *path, char *why, size_t cap);
/* Removes all but domains/ and logs/. */
void rundir_leave(struct rundir *run);

/* domains/NAME.xml, written whole or not at all.  0 or a negative errno. */
int rundir_save_domain(const char *name, const char *xml, size_t len, bool opened);
char *rundir_read_domain(const char *name, size_t *len); /* the caller frees; NULL: it cannot be read */
bool rundir_was_opened(const char *name); /* domains/NAME.opened */
int rundir_forget_domain(const char *name);
/* Calls each(data, "NAME", xml, len) for every one; what cannot be read is told with xml NULL. */
void rundir_each_domain(void (*each)(void *data, const char *name, const char *xml, size_t len), void *data);

/* state/NAME.json, written whole or not at all. */
int rundir_save_state(const char *name, const char *text, size_t len);
char *rundir_read_state(const char *name, size_t *len); /* the caller frees; NULL: there is none */
void rundir_forget_state(const char *name);

/* guests/NAME and every socket in it. */
void rundir_remove_guest(const char *name);

/* A listening socket at a path below the run directory; an old one is replaced.
 * mode 0: as the umask has it. */
int rundir_listen(const char *path, int type, unsigned mode);

#endif
