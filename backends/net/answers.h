/* SPDX-License-Identifier: MIT */
/*
 * answers.h - what the calls of a PMD are answered with while it opens a port.
 *
 * A PMD opens sockets, devices and files by itself, asks for an interface's
 * number and address, and sets what only root may set.  In the jail there is
 * none of that: the keeper of network interfaces did it, and sent the
 * descriptors.  Between answers_begin() and answers_end() the wrapped calls
 * (answers.c) hand them out; outside they are the real ones.
 */
#ifndef BULKHEAD_NET_ANSWERS_H
#define BULKHEAD_NET_ANSWERS_H

#include "../../hyp-shim/local/netdev/link.h"
#include "uplink.h"

struct answers {
    struct link_grant link;        /* kind 0: no interface                              */
    int socket[LINK_SOCKETS_MAX];  /* as link.h says for the kind; -1: handed out       */
    const char *path[UPLINK_FILES_MAX]; /* as devargs names them; NULL: none            */
    int file[UPLINK_FILES_MAX];
};

/* The answers stay the caller's until answers_end(), and are changed. */
void answers_begin(struct answers *a);
void answers_end(void);

/* From now on poll() on this descriptor never waits: a worker waits in one
 * place only, and that is not inside a PMD. */
void answers_never_wait(int fd);

#endif
