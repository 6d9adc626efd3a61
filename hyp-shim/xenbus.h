/* SPDX-License-Identifier: MIT */
/*
 * xenbus.h - the XenbusState handshake of a split driver.
 *
 * A device has two directories in the store, one for each side.  Each side
 * writes only its own and reads the other's; the node `state` in each drives
 * the handshake (<xen/io/xenbus.h>):
 *
 *   backend                           frontend
 *   Initialising   (toolstack made both directories)   Initialising
 *   InitWait       features are readable
 *                                     Initialised   rings and port are readable
 *   Connected      rings mapped, size and sectors readable
 *                                     Connected
 *   ... Closing / Closed on either side, then from the start again.
 *
 * Stock frontends and backends do the same.  Whatever the peer writes is
 * hostile input: a state that is no state reads as XenbusStateUnknown.
 */
#ifndef BULKHEAD_XENBUS_H
#define BULKHEAD_XENBUS_H

#include <stdbool.h>

#include <xen/io/xenbus.h>

#include "store.h"

struct xenbus_device {
    struct store *store;
    char own[STORE_PATH_MAX];  /* our directory   */
    char peer[STORE_PATH_MAX]; /* the other one's */
    domid_t peer_domid;
    enum xenbus_state state;   /* what we last wrote */
};

/* "/local/domain/BE/backend/CLASS/FE/DEVID" and ".../FE/device/CLASS/DEVID"; twin: the
 * frontend's second place, ".../FE/twin/CLASS/DEVID". */
int xenbus_backend_path(char out[STORE_PATH_MAX], domid_t be, const char *cls, domid_t fe, unsigned devid);
int xenbus_frontend_path(char out[STORE_PATH_MAX], domid_t fe, const char *cls, unsigned devid);
int xenbus_twin_path(char out[STORE_PATH_MAX], domid_t fe, const char *cls, unsigned devid);

/* Fills dev for either side; reads nothing. */
int xenbus_backend_init(struct xenbus_device *dev, struct store *st, domid_t be,
                        const char *cls, domid_t fe, unsigned devid);
int xenbus_frontend_init(struct xenbus_device *dev, struct store *st, domid_t fe,
                         const char *cls, unsigned devid, domid_t be);

/* Backend: the frontend's directory is at peer. -EINVAL: that is neither of the two
 * places for it, and nothing changed. */
int xenbus_backend_set_peer(struct xenbus_device *dev, const char *cls, unsigned devid, const char *peer);

/* Writes our state (only when it differs).  -ENOENT: the toolstack removed our
 * directory; it is not brought back. */
int xenbus_switch(struct xenbus_device *dev, enum xenbus_state to);
/* The peer's state; XenbusStateUnknown when unreadable or nonsense. */
enum xenbus_state xenbus_peer_state(struct xenbus_device *dev);
/* The same, but the store may be away: then negative errno, and nobody knows. */
int xenbus_read_peer_state(struct xenbus_device *dev, enum xenbus_state *out);
/* Whether that error of a store call says nothing about what is in the store. */
bool xenbus_store_away(int err);
const char *xenbus_state_name(enum xenbus_state s);

/* Feature flags and parameters of the peer. Absent, unreadable or out of
 * 0..max: dflt. */
uint64_t xenbus_peer_number(struct xenbus_device *dev, const char *key, uint64_t max, uint64_t dflt);
bool xenbus_peer_flag(struct xenbus_device *dev, const char *key);

/* What went wrong, for the operator: own/error, as stock drivers do. */
void xenbus_error(struct xenbus_device *dev, int err, const char *what);

#endif
