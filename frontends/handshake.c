/* SPDX-License-Identifier: MIT */
#include "handshake.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "terms.h"

#define BACKOFF_FIRST_MS   50u
#define BACKOFF_MAX_MS     5000u
#define STEADY_MS          10000u /* connected that long: back-off starts anew  */
#define CLOSING_MS         2000u  /* patience with a backend when we close      */
#define PENDING_MS         10u    /* look again at a pool that is still mapped  */
#define TXN_TRIES          16

/* ----------------------------------------------------------------- trouble */

static void later(struct device *d, uint64_t now)
{
    d->backoff_ms = d->backoff_ms == 0 ? BACKOFF_FIRST_MS : d->backoff_ms * 2;
    if (d->backoff_ms > BACKOFF_MAX_MS)
        d->backoff_ms = BACKOFF_MAX_MS;
    d->retry_at = now + d->backoff_ms;
}

/* ------------------------------------------------------------- the backend */

static int watch_backend(struct device *d, int (*set)(struct store *, const char *, const char *))
{
    char path[STORE_PATH_MAX + sizeof("/state")];
    snprintf(path, sizeof(path), "%s/state", d->bus.peer);
    return set(d->guest->store, path, "backend");
}

/* True when the store names a backend that is not the one we know. */
static bool backend_moved(struct device *d, domid_t *domid, char path[STORE_PATH_MAX])
{
    uint64_t be;
    char key[STORE_PATH_MAX + sizeof("/backend")];
    snprintf(key, sizeof(key), "%s/backend", d->bus.own);
    if (store_read_number(d->guest->store, STORE_NO_TXN, d->bus.own, "backend-id",
                          DOMID_FIRST_RESERVED - 1, &be) < 0
        || store_read(d->guest->store, STORE_NO_TXN, key, path, STORE_PATH_MAX) <= 0)
        return false;
    *domid = (domid_t)be;
    return *domid != d->bus.peer_domid || strcmp(path, d->bus.peer) != 0;
}

static bool left(struct device *d)
{
    domid_t domid;
    char path[STORE_PATH_MAX];
    return backend_moved(d, &domid, path);
}

static void follow_backend(struct device *d)
{
    domid_t domid;
    char path[STORE_PATH_MAX];
    if (!backend_moved(d, &domid, path))
        return;
    if (d->bus.peer[0])
        watch_backend(d, store_unwatch);
    d->bus.peer_domid = domid;
    memcpy(d->bus.peer, path, sizeof(d->bus.peer));
    d->backend_dead = false;
    d->backoff_ms = 0;
    watch_backend(d, store_watch);
}

/* -------------------------------------------------------- pool and queues */

static int make_pool(struct device *d)
{
    int err = hyp_pool_create(d->guest->hyp, d->bus.peer_domid, d->pool_pages, 0, &d->pool);
    if (err == -ENOMEM || err == -EDQUOT)
        return terms_refuse(d, err, "its pool of %zu pages (%zu KiB) %s: give the guest more, or ask for "
                            "fewer queues or pool pages", d->pool_pages,
                            d->pool_pages * (HYP_PAGE_SIZE / 1024),
                            err == -EDQUOT ? "is more than the guest may grant" : "does not fit into memory");
    if (err)
        return terms_trouble(d, err, "cannot grant a pool to domain %u: %s", d->bus.peer_domid,
                             strerror(-err));
    d->grantee = d->bus.peer_domid;
    for (unsigned i = 0; i < d->nqueues; i++) {
        err = d->cls->make_queue(d, i);
        if (err) {
            while (i-- > 0)
                d->cls->free_queue(d, i);
            hyp_pool_end(d->pool); /* not offered to anyone yet: cannot be busy */
            d->pool = NULL;
            return terms_trouble(d, err, "no memory for its queues");
        }
    }
    return 0;
}

/* The pool is granted to the backend of now. */
static int grant_pool(struct device *d)
{
    if (!d->pool)
        return make_pool(d);
    if (d->grantee == d->bus.peer_domid)
        return 0;
    int err = hyp_pool_regrant(d->pool, d->bus.peer_domid);
    if (err == 0)
        d->grantee = d->bus.peer_domid;
    return err; /* -EBUSY: the old one's death was not told yet */
}

static void detach_queues(struct device *d)
{
    for (unsigned i = 0; d->pool && i < d->nqueues; i++)
        queue_detach(d->queue[i]);
}

static int attach_queue(struct device *d, unsigned i)
{
    struct hyp_evtchn *channel[QUEUE_CHANNELS_MAX];
    unsigned n = 0;
    int err = 0;
    for (; !err && n < d->nchannels; n += !err)
        err = hyp_evtchn_alloc(d->guest->hyp, d->bus.peer_domid, &channel[n]);
    if (!err)
        err = d->cls->attach_queue(d, i, channel);
    while (err && n > 0)
        hyp_evtchn_close(channel[--n]);
    return err;
}

static int attach_queues(struct device *d)
{
    for (unsigned i = 0; i < d->nqueues; i++) {
        int err = attach_queue(d, i);
        if (err) {
            detach_queues(d);
            return terms_trouble(d, err, "no event channel to domain %u: %s", d->bus.peer_domid,
                                 strerror(-err));
        }
    }
    return 0;
}

/* ------------------------------------------------------------- publishing */

static int publish_keys(struct device *d, store_txn t)
{
    struct store *st = d->guest->store;
    uint64_t state;
    /* Not into a directory that the toolstack removed meanwhile. */
    int err = store_read_number(st, t, d->bus.own, "state", XenbusStateReconfigured, &state);
    if (!err && d->nqueues > 1)
        err = store_printf(st, t, d->bus.own, "multi-queue-num-queues", "%u", d->nqueues);
    if (!err)
        err = d->cls->publish(d, t);
    for (unsigned i = 0; !err && i < d->nqueues; i++) {
        char dir[STORE_PATH_MAX + 16];
        snprintf(dir, sizeof(dir), d->nqueues > 1 ? "%s/queue-%u" : "%s", d->bus.own, i);
        err = d->cls->publish_queue(d, t, dir, i);
    }
    return err;
}

static int publish(struct device *d)
{
    int err = -EAGAIN;
    for (int i = 0; i < TXN_TRIES && err == -EAGAIN; i++) {
        store_txn t;
        err = store_txn_begin(d->guest->store, &t);
        if (err)
            return err;
        err = publish_keys(d, t);
        if (err)
            store_txn_abort(d->guest->store, t);
        else
            err = store_txn_commit(d->guest->store, t);
    }
    return err ? err : xenbus_switch(&d->bus, XenbusStateInitialised);
}

/* The backend is in InitWait: offers it our rings. */
static int make_offer(struct device *d)
{
    int err = d->cls->accept_offer(d);
    if (!err)
        err = grant_pool(d);
    if (!err)
        err = attach_queues(d);
    if (err)
        return err;
    err = publish(d);
    if (err) {
        detach_queues(d);
        return terms_trouble(d, err, "cannot write to the store: %s", strerror(-err));
    }
    return 0;
}

/* ------------------------------------------------------------------ phases */

static void tell(struct device *d, enum device_news news)
{
    d->news |= (uint8_t)(1u << news);
}

static void take_down(struct device *d, const char *why)
{
    for (unsigned i = 0; d->pool && i < d->nqueues; i++)
        queue_stop(d->queue[i]);
    if (d->phase == DEVICE_LIVE) {
        tell(d, DEVICE_DOWN);
        if (!d->closing)
            terms_trouble(d, -EIO, "%s", why);
    }
    d->phase = DEVICE_DRAIN;
    /* At once: a backend born meanwhile must not take our old rings for new. */
    xenbus_switch(&d->bus, d->backend_dead ? XenbusStateInitialising : XenbusStateClosing);
}

static bool search(struct device *d, uint64_t now)
{
    follow_backend(d);
    if (!d->bus.peer[0] || d->backend_dead || now < d->retry_at || d->error)
        return false;
    xenbus_switch(&d->bus, XenbusStateInitialising);
    if (xenbus_peer_state(&d->bus) != XenbusStateInitWait)
        return false;
    if (make_offer(d)) {
        later(d, now);
        return false;
    }
    d->phase = DEVICE_OFFERED;
    return true;
}

static void go_live(struct device *d, uint64_t now)
{
    for (unsigned i = 0; i < d->nqueues; i++) {
        queue_start(d->queue[i]);
        queue_kick(d->queue[i]); /* there may be work before anyone rings */
    }
    xenbus_switch(&d->bus, XenbusStateConnected);
    if (d->opened) {
        tell(d, DEVICE_UP);
        queue_count(&d->reconnects, 1);
    }
    d->opened = true;
    d->live_since = now;
    d->phase = DEVICE_LIVE;
    if (!d->guest->ready)
        d->guest->ready = hyp_ready(d->guest->hyp) == 0;
}

static bool await_connected(struct device *d, uint64_t now)
{
    enum xenbus_state peer = xenbus_peer_state(&d->bus);
    if (d->backend_dead || d->hung_up || left(d)) {
        take_down(d, "the driver domain went away");
    } else if (peer == XenbusStateConnected) {
        if (d->cls->accept_device && d->cls->accept_device(d))
            take_down(d, "refused");
        else
            go_live(d, now);
    } else if (peer != XenbusStateInitWait && peer != XenbusStateInitialised) {
        take_down(d, "the driver domain refused the connection");
    } else {
        return false;
    }
    return true;
}

static const char *caught_lying(const struct device *d)
{
    for (unsigned i = 0; i < d->nqueues; i++) {
        uint32_t s = queue_state(d->queue[i]);
        if (s == QUEUE_IDLE || s == QUEUE_BUSY)
            continue;
        const char *lie = __atomic_load_n(&d->queue[i]->lie, __ATOMIC_RELAXED);
        return lie ? lie : "closed";
    }
    return NULL;
}

static bool stay_live(struct device *d, uint64_t now)
{
    const char *lie = caught_lying(d);
    if (lie) {
        char why[128];
        snprintf(why, sizeof(why), "the driver domain lied (%s); connection broken", lie);
        take_down(d, why);
    } else if (hyp_pool_faulted(d->pool)) {
        take_down(d, "the driver domain destroyed memory of the pool");
    } else if (d->backend_dead || d->hung_up || left(d)) {
        take_down(d, "the driver domain is gone");
    } else if (xenbus_peer_state(&d->bus) != XenbusStateConnected) {
        take_down(d, "the driver domain left the connection");
    } else {
        if (now - d->live_since > STEADY_MS)
            d->backoff_ms = 0;
        return false;
    }
    return true;
}

static bool drain(struct device *d, uint64_t now)
{
    for (unsigned i = 0; d->pool && i < d->nqueues; i++)
        if (!queue_drained(d->queue[i]))
            return false;
    detach_queues(d);
    d->hung_up = false;
    d->retry_at = d->closing ? now + CLOSING_MS : now;
    d->phase = d->closing ? DEVICE_CLOSING : DEVICE_RESET;
    if (!d->closing && d->pool && hyp_pool_faulted(d->pool))
        handshake_lost(d, "memory of its pool is gone; open it again");
    return true;
}

/* Has the backend let the old connection go? */
static bool backend_quiet(struct device *d)
{
    if (!d->bus.peer[0] || d->backend_dead || left(d))
        return true;
    switch (xenbus_peer_state(&d->bus)) {
    case XenbusStateConnected:
    case XenbusStateInitialised:
        return false;
    case XenbusStateClosing:
        xenbus_switch(&d->bus, XenbusStateClosed);
        return false;
    default:
        return true;
    }
}

static bool reset(struct device *d, uint64_t now)
{
    if (!backend_quiet(d))
        return false;
    if (d->backend_dead || left(d)) {
        d->retry_at = now;
    } else {
        xenbus_switch(&d->bus, XenbusStateClosed);
        later(d, now);
    }
    d->phase = DEVICE_SEARCH;
    return true;
}

/* The backend must not keep pages that we give back (XSA-396): the pool ends
 * first, and only then is its memory anyone else's. */
static bool close_down(struct device *d, uint64_t now)
{
    bool late = now >= d->retry_at;
    if (!backend_quiet(d) && !late)
        return false;
    xenbus_switch(&d->bus, XenbusStateClosed);
    if (d->pool && hyp_pool_end(d->pool) == -EBUSY) {
        if (!late || d->phase == DEVICE_ORPHAN)
            return false;
        d->phase = DEVICE_ORPHAN;
        return true;
    }
    if (d->bus.peer[0])
        watch_backend(d, store_unwatch);
    handshake_abandon(d);
    d->phase = DEVICE_CLOSED;
    return true;
}

void handshake_abandon(struct device *d)
{
    for (unsigned i = 0; d->pool && i < d->nqueues; i++)
        d->cls->free_queue(d, i);
    d->pool = NULL;
}

void handshake_lost(struct device *d, const char *why)
{
    if (d->phase >= DEVICE_CLOSING)
        return;
    d->error = -ENOTCONN;
    snprintf(d->why, sizeof(d->why), "%s %s: %s", d->cls->noun, d->name, why);
    for (unsigned i = 0; d->pool && i < d->nqueues; i++) {
        queue_stop(d->queue[i]);
        queue_set_gone(d->queue[i]); /* kicks: all that there is to see is there */
    }
    tell(d, DEVICE_GONE);
    d->phase = DEVICE_LOST;
}

static bool lost(struct device *d, uint64_t now)
{
    if (!d->closing)
        return false;
    d->phase = DEVICE_DRAIN;
    return drain(d, now);
}

static bool step(struct device *d, uint64_t now)
{
    if (d->closing && d->phase < DEVICE_DRAIN)
        take_down(d, "closed");
    switch (d->phase) {
    case DEVICE_SEARCH:  return search(d, now);
    case DEVICE_OFFERED: return await_connected(d, now);
    case DEVICE_LIVE:    return stay_live(d, now);
    case DEVICE_DRAIN:   return drain(d, now);
    case DEVICE_RESET:   return reset(d, now);
    case DEVICE_CLOSING:
    case DEVICE_ORPHAN:  return close_down(d, now);
    case DEVICE_LOST:    return lost(d, now);
    case DEVICE_CLOSED:  return false;
    }
    return false;
}

bool handshake_step(struct device *d, uint64_t now)
{
    bool stepped = false;
    int error = d->error;
    while (step(d, now))
        stepped = true;
    return stepped || d->error != error;
}

uint64_t handshake_due(const struct device *d, uint64_t now)
{
    if (d->phase == DEVICE_CLOSING)
        return now + PENDING_MS;
    return d->phase == DEVICE_SEARCH && d->retry_at > now ? d->retry_at : UINT64_MAX;
}
