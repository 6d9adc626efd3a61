/* SPDX-License-Identifier: MIT */
#include "link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "device.h"

#define BACKOFF_FIRST_MS 50u
#define BACKOFF_MAX_MS   5000u
#define TXN_TRIES        16

void link_later(struct link *l, uint64_t now)
{
    l->backoff_ms = l->backoff_ms == 0 ? BACKOFF_FIRST_MS : l->backoff_ms * 2;
    if (l->backoff_ms > BACKOFF_MAX_MS)
        l->backoff_ms = BACKOFF_MAX_MS;
    l->retry_at = now + l->backoff_ms;
}

/* ------------------------------------------------------------- the backend */

static struct store *store_of(const struct link *l)
{
    return l->device->guest->store;
}

static void watch_backend(struct link *l, int (*set)(struct store *, const char *, const char *))
{
    char path[STORE_PATH_MAX + sizeof("/state")];
    snprintf(path, sizeof(path), "%s/state", l->bus.peer);
    if (l->bus.peer[0])
        set(store_of(l), path, "backend");
}

/* What our directory names; false: nothing. */
static bool named(struct link *l, domid_t *domid, char path[STORE_PATH_MAX])
{
    uint64_t be;
    char key[STORE_PATH_MAX + sizeof("/backend")];
    snprintf(key, sizeof(key), "%s/backend", l->bus.own);
    int err = store_read_number(store_of(l), STORE_NO_TXN, l->bus.own, "backend-id",
                                DOMID_FIRST_RESERVED - 1, &be);
    l->unnamed = err == -ENOENT;
    if (err || store_read(store_of(l), STORE_NO_TXN, key, path, STORE_PATH_MAX) <= 0)
        return false;
    *domid = (domid_t)be;
    return true;
}

static bool is_other(struct link *l, domid_t *domid, char path[STORE_PATH_MAX])
{
    return named(l, domid, path) && (*domid != l->bus.peer_domid || strcmp(path, l->bus.peer) != 0);
}

bool link_moved(struct link *l)
{
    domid_t domid;
    char path[STORE_PATH_MAX];
    return is_other(l, &domid, path);
}

static enum xenbus_state own_state(struct link *l)
{
    uint64_t state;
    return store_read_number(store_of(l), STORE_NO_TXN, l->bus.own, "state", XenbusStateReconfigured, &state)
           ? XenbusStateUnknown : (enum xenbus_state)state;
}

bool link_follow(struct link *l)
{
    domid_t domid;
    char path[STORE_PATH_MAX];
    if (!is_other(l, &domid, path))
        return false;
    watch_backend(l, store_unwatch);
    l->bus.peer_domid = domid;
    memcpy(l->bus.peer, path, sizeof(l->bus.peer));
    l->bus.state = own_state(l); /* the directory may be a new one */
    l->dead = l->left = l->over = false;
    l->backoff_ms = 0;
    l->retry_at = 0;
    watch_backend(l, store_watch);
    return true;
}

void link_forget(struct link *l)
{
    watch_backend(l, store_unwatch);
    l->bus.peer[0] = '\0';
}

bool link_standby(struct link *l)
{
    return xenbus_peer_flag(&l->bus, "standby");
}

enum xenbus_state link_peer(struct link *l, enum xenbus_state otherwise)
{
    enum xenbus_state state;
    int err = xenbus_read_peer_state(&l->bus, &state);
    return err == 0 ? state : xenbus_store_away(err) ? otherwise : XenbusStateUnknown;
}

bool link_released(struct link *l)
{
    if (!l->bus.peer[0] || l->dead || link_moved(l))
        return true;
    switch (link_peer(l, XenbusStateConnected)) {
    case XenbusStateConnected:
    case XenbusStateInitialised:
        return false;
    case XenbusStateClosing:
        xenbus_switch(&l->bus, XenbusStateClosed);
        return false;
    default:
        return true;
    }
}

/* ---------------------------------------------------------------- channels */

int link_open_channels(struct link *l)
{
    int err = 0;
    for (unsigned i = 0; !err && i < l->device->nqueues; i++)
        for (unsigned k = 0; !err && k < l->nchannels; k++)
            err = hyp_evtchn_alloc(l->device->guest->hyp, l->bus.peer_domid, &l->channel[i][k]);
    if (err)
        link_close_channels(l);
    return err;
}

void link_close_channels(struct link *l)
{
    for (unsigned i = 0; i < LINK_QUEUES_MAX; i++)
        for (unsigned k = 0; k < QUEUE_CHANNELS_MAX; k++) {
            if (l->channel[i][k])
                hyp_evtchn_close(l->channel[i][k]);
            l->channel[i][k] = NULL;
        }
}

/* ------------------------------------------------------------- publishing */

static int publish_keys(struct link *l, store_txn t,
                        struct hyp_evtchn *const *(*of)(struct link *l, unsigned i))
{
    struct device *d = l->device;
    uint64_t state;
    /* Not into a directory that the toolstack removed meanwhile. */
    int err = store_read_number(store_of(l), t, l->bus.own, "state", XenbusStateReconfigured, &state);
    if (!err && d->nqueues > 1)
        err = store_printf(store_of(l), t, l->bus.own, "multi-queue-num-queues", "%u", d->nqueues);
    if (!err)
        err = d->cls->publish(l, t);
    for (unsigned i = 0; !err && i < d->nqueues; i++) {
        char dir[STORE_PATH_MAX + 16];
        snprintf(dir, sizeof(dir), d->nqueues > 1 ? "%s/queue-%u" : "%s", l->bus.own, i);
        err = d->cls->publish_queue(l, t, dir, i, of(l, i));
    }
    return err ? err : store_printf(store_of(l), t, l->bus.own, "state", "%d", XenbusStateInitialised);
}

int link_publish(struct link *l, struct hyp_evtchn *const *(*of)(struct link *l, unsigned i))
{
    int err = -EAGAIN;
    for (int i = 0; i < TXN_TRIES && err == -EAGAIN; i++) {
        store_txn t;
        err = store_txn_begin(store_of(l), &t);
        if (err)
            continue;
        err = publish_keys(l, t, of);
        if (err)
            store_txn_abort(store_of(l), t);
        else
            err = store_txn_commit(store_of(l), t);
    }
    if (!err)
        l->bus.state = XenbusStateInitialised;
    return err;
}
