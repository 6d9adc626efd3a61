/* SPDX-License-Identifier: MIT */
#include "xenbus.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A transaction that the peer keeps disturbing is given up after this many. */
#define TRIES 16

static int fits(int n)
{
    return n < 0 || n >= STORE_PATH_MAX ? -ENAMETOOLONG : 0;
}

int xenbus_backend_path(char out[STORE_PATH_MAX], domid_t be, const char *cls, domid_t fe, unsigned devid)
{
    return fits(snprintf(out, STORE_PATH_MAX, "/local/domain/%u/backend/%s/%u/%u", be, cls, fe, devid));
}

int xenbus_frontend_path(char out[STORE_PATH_MAX], domid_t fe, const char *cls, unsigned devid)
{
    return fits(snprintf(out, STORE_PATH_MAX, "/local/domain/%u/device/%s/%u", fe, cls, devid));
}

int xenbus_twin_path(char out[STORE_PATH_MAX], domid_t fe, const char *cls, unsigned devid)
{
    return fits(snprintf(out, STORE_PATH_MAX, "/local/domain/%u/twin/%s/%u", fe, cls, devid));
}

int xenbus_backend_init(struct xenbus_device *dev, struct store *st, domid_t be,
                        const char *cls, domid_t fe, unsigned devid)
{
    *dev = (struct xenbus_device){.store = st, .peer_domid = fe, .state = XenbusStateUnknown};
    int err = xenbus_backend_path(dev->own, be, cls, fe, devid);
    return err ? err : xenbus_frontend_path(dev->peer, fe, cls, devid);
}

int xenbus_frontend_init(struct xenbus_device *dev, struct store *st, domid_t fe,
                         const char *cls, unsigned devid, domid_t be)
{
    *dev = (struct xenbus_device){.store = st, .peer_domid = be, .state = XenbusStateUnknown};
    int err = xenbus_frontend_path(dev->own, fe, cls, devid);
    return err ? err : xenbus_backend_path(dev->peer, be, cls, fe, devid);
}

int xenbus_backend_set_peer(struct xenbus_device *dev, const char *cls, unsigned devid, const char *peer)
{
    char place[2][STORE_PATH_MAX];
    if (xenbus_frontend_path(place[0], dev->peer_domid, cls, devid) < 0 ||
        xenbus_twin_path(place[1], dev->peer_domid, cls, devid) < 0)
        return -EINVAL;
    for (int i = 0; i < 2; i++) {
        if (strcmp(peer, place[i]) == 0) {
            memcpy(dev->peer, place[i], sizeof(dev->peer));
            return 0;
        }
    }
    return -EINVAL;
}

static int read_state(struct xenbus_device *dev, store_txn t, const char *dir, uint64_t *out)
{
    return store_read_number(dev->store, t, dir, "state", XenbusStateReconfigured, out);
}

/*
 * Writes own/key, but only into a directory that is still there: a write
 * alone would bring back one that the toolstack removed meanwhile.
 */
static int write_own(struct xenbus_device *dev, const char *key, const char *value)
{
    int err = -EAGAIN;

    for (int i = 0; i < TRIES && err == -EAGAIN; i++) {
        store_txn t;
        uint64_t state;

        err = store_txn_begin(dev->store, &t);
        if (err)
            return err;
        err = read_state(dev, t, dev->own, &state);
        if (!err || err == -EINVAL)
            err = store_printf(dev->store, t, dev->own, key, "%s", value);
        if (err)
            store_txn_abort(dev->store, t);
        else
            err = store_txn_commit(dev->store, t);
    }
    return err;
}

int xenbus_switch(struct xenbus_device *dev, enum xenbus_state to)
{
    char text[12];

    if (dev->state == to)
        return 0;
    snprintf(text, sizeof(text), "%d", (int)to);
    int err = write_own(dev, "state", text);
    if (!err)
        dev->state = to;
    return err;
}

bool xenbus_store_away(int err)
{
    return err == -ENOTCONN || err == -EAGAIN;
}

int xenbus_read_peer_state(struct xenbus_device *dev, enum xenbus_state *out)
{
    uint64_t state;
    int err = read_state(dev, STORE_NO_TXN, dev->peer, &state);

    if (xenbus_store_away(err))
        return err;
    *out = err ? XenbusStateUnknown : (enum xenbus_state)state;
    return 0;
}

enum xenbus_state xenbus_peer_state(struct xenbus_device *dev)
{
    enum xenbus_state state;

    return xenbus_read_peer_state(dev, &state) ? XenbusStateUnknown : state;
}

const char *xenbus_state_name(enum xenbus_state s)
{
    static const char *const names[] = {
        [XenbusStateUnknown] = "Unknown",           [XenbusStateInitialising] = "Initialising",
        [XenbusStateInitWait] = "InitWait",         [XenbusStateInitialised] = "Initialised",
        [XenbusStateConnected] = "Connected",       [XenbusStateClosing] = "Closing",
        [XenbusStateClosed] = "Closed",             [XenbusStateReconfiguring] = "Reconfiguring",
        [XenbusStateReconfigured] = "Reconfigured",
    };

    return (unsigned)s < sizeof(names) / sizeof(names[0]) ? names[s] : "invalid";
}

uint64_t xenbus_peer_number(struct xenbus_device *dev, const char *key, uint64_t max, uint64_t dflt)
{
    uint64_t v;

    return store_read_number(dev->store, STORE_NO_TXN, dev->peer, key, max, &v) ? dflt : v;
}

bool xenbus_peer_flag(struct xenbus_device *dev, const char *key)
{
    return xenbus_peer_number(dev, key, 1, 0) == 1;
}

void xenbus_error(struct xenbus_device *dev, int err, const char *what)
{
    char text[STORE_VALUE_MAX];

    snprintf(text, sizeof(text), "%d %s", err, what);
    /* Best effort: it is said on top of a failure that the caller handles. */
    (void)write_own(dev, "error", text);
}
