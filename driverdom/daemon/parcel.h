/* SPDX-License-Identifier: MIT */
/*
 * parcel.h - descriptors that outlive the daemon.
 *
 * The core keeps both ends of a socket open that it never reads
 * (hyp_local_adopt()).  What a daemon sends into one end waits there for the
 * next daemon, which receives it from the other, when the first one was killed.
 *
 * A packet names whose descriptors it carries and what each of them is.  The
 * packets wait in order and the newest of a name counts, so a set is replaced
 * without a moment in which there is none: the new one is sent, then the old
 * one is taken out.
 */
#ifndef BULKHEAD_DAEMON_PARCEL_H
#define BULKHEAD_DAEMON_PARCEL_H

#include <stdint.h>

#include "../../hyp-shim/local/rights.h"
#include "log.h"

enum parcel_kind {
    PARCEL_CORE_LOG = 1, /* read end of the core's stderr                    */
    PARCEL_STORE_LOG,
    PARCEL_STORE_LISTEN, /* listening socket store.sock                      */
    PARCEL_JOURNAL,      /* the store's tree                                 */
    PARCEL_KEEPER_LOG,
    PARCEL_KEEPER,       /* our end of the keeper's control socket           */
    PARCEL_LOG,          /* read end of a domain's stderr                    */
    PARCEL_SPARE_LOG,    /* of its spare's                                   */
    PARCEL_DOOR,         /* listening socket of a guest's door               */
};

struct parcel_entry {
    char name[LOG_NAME_MAX]; /* of a domain; "" the daemon's own             */
    unsigned n;
    uint32_t kind[RIGHTS_MAX];
    int fd[RIGHTS_MAX];
};

/* One more descriptor for the packet; -1 is none.  It stays the caller's. */
void parcel_add(struct parcel_entry *entry, uint32_t kind, int fd);
/* Sends it, unless it is empty.  1 sent, 0 empty; -EAGAIN: no room, take old
 * ones out first; -ETOOMANYREFS: no more descriptors may wait. */
int parcel_send(int to, const struct parcel_entry *entry);
/* Takes the oldest out: 1, its descriptors are the caller's; 0 none; negative errno. */
int parcel_receive(int from, struct parcel_entry *out);
/*
 * Looks at all of them, oldest first, and leaves them where they are: each() owns
 * the descriptors, which are copies.  How many there are, or a negative errno.
 */
int parcel_each(int from, void (*each)(void *data, struct parcel_entry *entry), void *data);
void parcel_close(struct parcel_entry *entry);

#endif
