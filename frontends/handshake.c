/* SPDX-License-Identifier: MIT */
#include "handshake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "terms.h"

#define BACKOFF_FIRST_MS   50u
#define BACKOFF_MAX_MS     5000u
#define STEADY_MS          10000u /* connected that long: back-off starts anew  */
#define CLOSING_MS         2000u  /* patience with a backend when we close      */
#define PENDING_MS         10u    /* look again at a pool that is still mapped  */
#define TXN_TRIES          16

/* ----------------------------------------------------------------- trouble */

static void later(struct blkfront *d, uint64_t now)
{
    d->backoff_ms = d->backoff_ms == 0 ? BACKOFF_FIRST_MS : d->backoff_ms * 2;
    if (d->backoff_ms > BACKOFF_MAX_MS)
        d->backoff_ms = BACKOFF_MAX_MS;
    d->retry_at = now + d->backoff_ms;
}

/* ------------------------------------------------------------- the backend */

static int watch_backend(struct blkfront *d, int (*set)(struct store *, const char *, const char *))
{
    char path[STORE_PATH_MAX + sizeof("/state")];
    snprintf(path, sizeof(path), "%s/state", d->bus.peer);
    return set(d->guest->store, path, "backend");
}

/* True when the store names a backend that is not the one we know. */
static bool backend_moved(struct blkfront *d, domid_t *domid, char path[STORE_PATH_MAX])
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

static bool left(struct blkfront *d)
{
    domid_t domid;
    char path[STORE_PATH_MAX];
    return backend_moved(d, &domid, path);
}

static void follow_backend(struct blkfront *d)
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

/* One pool: all rings, then the descriptor pages, then each queue's data. */
static int make_pool(struct blkfront *d)
{
    uint32_t slots = blkqueue_slots(d->ring_pages);
    size_t pages = (size_t)d->nqueues * (d->ring_pages + slots + d->pool_pages);
    int err = hyp_pool_create(d->guest->hyp, d->bus.peer_domid, pages, 0, &d->pool);
    if (err == -ENOMEM || err == -EDQUOT)
        return disk_refuse(d, err, "disk %s: its pool of %zu pages (%zu KiB) %s: give the guest more, "
                      "or ask for fewer queues or pool pages", d->name, pages, pages * (HYP_PAGE_SIZE / 1024),
                      err == -EDQUOT ? "is more than the guest may grant" : "does not fit into memory");
    if (err)
        return disk_trouble(d, err, "disk %s: cannot grant a pool to domain %u: %s", d->name,
                       d->bus.peer_domid, strerror(-err));
    d->grantee = d->bus.peer_domid;
    for (unsigned i = 0; i < d->nqueues; i++) {
        struct blkqueue_place place = {
            .ring_page = i * d->ring_pages, .ring_pages = d->ring_pages,
            .desc_page = d->nqueues * d->ring_pages + i * slots,
            .data_page = d->nqueues * (d->ring_pages + slots) + i * d->pool_pages,
            .data_pages = d->pool_pages,
        };
        err = blkqueue_init(&d->queues[i], d->pool, &place, &d->terms, d->guest->wake_fd);
        if (err) {
            while (i-- > 0)
                blkqueue_destroy(&d->queues[i]);
            hyp_pool_end(d->pool); /* not offered to anyone yet: cannot be busy */
            d->pool = NULL;
            return disk_trouble(d, err, "disk %s: no memory for its queues", d->name);
        }
    }
    return 0;
}

/* The pool is granted to the backend of now. */
static int grant_pool(struct blkfront *d)
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

static void detach_queues(struct blkfront *d)
{
    for (unsigned i = 0; d->pool && i < d->nqueues; i++)
        blkqueue_detach(&d->queues[i]);
}

static int attach_queues(struct blkfront *d)
{
    for (unsigned i = 0; i < d->nqueues; i++) {
        struct hyp_evtchn *channel;
        int err = hyp_evtchn_alloc(d->guest->hyp, d->bus.peer_domid, &channel);
        if (err == 0) {
            err = blkqueue_attach(&d->queues[i], channel);
            if (err)
                hyp_evtchn_close(channel);
        }
        if (err) {
            detach_queues(d);
            return disk_trouble(d, err, "disk %s: no event channel to domain %u: %s", d->name,
                           d->bus.peer_domid, strerror(-err));
        }
    }
    return 0;
}

/* ------------------------------------------------------------- publishing */

static int publish_queue(struct blkfront *d, store_txn t, unsigned i)
{
    struct store *st = d->guest->store;
    const struct blkqueue *q = &d->queues[i];
    char dir[STORE_PATH_MAX + 16], key[24];
    snprintf(dir, sizeof(dir), d->nqueues > 1 ? "%s/queue-%u" : "%s", d->bus.own, i);
    int err = 0;
    for (unsigned p = 0; !err && p < d->ring_pages; p++) {
        snprintf(key, sizeof(key), d->ring_pages > 1 ? "ring-ref%u" : "ring-ref", p);
        err = store_printf(st, t, dir, key, "%u", hyp_pool_ref(d->pool, q->ring_page + p));
    }
    return err ? err : store_printf(st, t, dir, "event-channel", "%u", hyp_evtchn_port(q->channel));
}

static int publish_keys(struct blkfront *d, store_txn t)
{
    struct store *st = d->guest->store;
    const char *own = d->bus.own;
    uint64_t state;
    /* Not into a directory that the toolstack removed meanwhile. */
    int err = store_read_number(st, t, own, "state", XenbusStateReconfigured, &state);
    if (!err && d->ring_pages > 1)
        err = store_printf(st, t, own, "ring-page-order", "%d", __builtin_ctz(d->ring_pages));
    if (!err && d->nqueues > 1)
        err = store_printf(st, t, own, "multi-queue-num-queues", "%u", d->nqueues);
    if (!err)
        err = store_printf(st, t, own, "protocol", "x86_64-abi");
    if (!err)
        err = store_printf(st, t, own, "feature-persistent", "%d",
                           d->info.grants == BLKFRONT_GRANTS_PERSISTENT);
    if (!err)
        err = store_printf(st, t, own, "feature-grant-copy", "%d", d->info.grants == BLKFRONT_GRANTS_COPY);
    for (unsigned i = 0; !err && i < d->nqueues; i++)
        err = publish_queue(d, t, i);
    return err;
}

static int publish(struct blkfront *d)
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
static int make_offer(struct blkfront *d)
{
    int err = terms_accept_offer(d);
    if (!err)
        err = grant_pool(d);
    if (!err)
        err = attach_queues(d);
    if (err)
        return err;
    err = publish(d);
    if (err) {
        detach_queues(d);
        return disk_trouble(d, err, "disk %s: cannot write to the store: %s", d->name, strerror(-err));
    }
    return 0;
}

/* ------------------------------------------------------------------ phases */

static void tell(struct blkfront *d, enum blkfront_news news)
{
    d->news |= (uint8_t)(1u << news);
}

static void take_down(struct blkfront *d, const char *why)
{
    for (unsigned i = 0; d->pool && i < d->nqueues; i++)
        blkqueue_stop(&d->queues[i]);
    if (d->phase == DISK_LIVE) {
        tell(d, BLKFRONT_DOWN);
        if (!d->closing)
            disk_trouble(d, -EIO, "disk %s: %s", d->name, why);
    }
    d->phase = DISK_DRAIN;
    /* At once: a backend born meanwhile must not take our old rings for new. */
    xenbus_switch(&d->bus, d->backend_dead ? XenbusStateInitialising : XenbusStateClosing);
}

static bool search(struct blkfront *d, uint64_t now)
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
    d->phase = DISK_OFFERED;
    return true;
}

static void go_live(struct blkfront *d, uint64_t now)
{
    for (unsigned i = 0; i < d->nqueues; i++)
        blkqueue_start(&d->queues[i]);
    xenbus_switch(&d->bus, XenbusStateConnected);
    if (d->opened) {
        tell(d, BLKFRONT_UP);
        __atomic_store_n(&d->reconnects, d->reconnects + 1, __ATOMIC_RELAXED);
    }
    d->want.grants = d->info.grants;
    d->opened = true;
    d->live_since = now;
    d->phase = DISK_LIVE;
    if (!d->guest->ready)
        d->guest->ready = hyp_ready(d->guest->hyp) == 0;
}

static bool await_connected(struct blkfront *d, uint64_t now)
{
    enum xenbus_state peer = xenbus_peer_state(&d->bus);
    if (d->backend_dead || d->hung_up || left(d)) {
        take_down(d, "the driver domain went away");
    } else if (peer == XenbusStateConnected) {
        if (terms_accept_disk(d))
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

static const char *caught_lying(struct blkfront *d)
{
    for (unsigned i = 0; i < d->nqueues; i++) {
        const struct blkqueue *q = &d->queues[i];
        uint32_t s = __atomic_load_n(&q->state, __ATOMIC_ACQUIRE);
        if (s == BLKQUEUE_IDLE || s == BLKQUEUE_BUSY)
            continue;
        for (int lie = BLKQUEUE_HONEST + 1; lie < BLKQUEUE_LIES; lie++)
            if (__atomic_load_n(&q->counters.lies[lie], __ATOMIC_RELAXED))
                return blkqueue_lie_name((enum blkqueue_lie)lie);
        return "closed";
    }
    return NULL;
}

static bool stay_live(struct blkfront *d, uint64_t now)
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

static bool drain(struct blkfront *d, uint64_t now)
{
    for (unsigned i = 0; d->pool && i < d->nqueues; i++)
        if (!blkqueue_drained(&d->queues[i]))
            return false;
    detach_queues(d);
    d->hung_up = false;
    d->retry_at = d->closing ? now + CLOSING_MS : now;
    d->phase = d->closing ? DISK_CLOSING : DISK_RESET;
    if (!d->closing && d->pool && hyp_pool_faulted(d->pool))
        handshake_lost(d, "memory of its pool is gone; open it again");
    return true;
}

/* Has the backend let the old connection go? */
static bool backend_quiet(struct blkfront *d)
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

static bool reset(struct blkfront *d, uint64_t now)
{
    if (!backend_quiet(d))
        return false;
    if (d->backend_dead || left(d)) {
        d->retry_at = now;
    } else {
        xenbus_switch(&d->bus, XenbusStateClosed);
        later(d, now);
    }
    d->phase = DISK_SEARCH;
    return true;
}

/* The backend must not keep pages that we give back (XSA-396): the pool ends
 * first, and only then is its memory anyone else's. */
static bool close_down(struct blkfront *d, uint64_t now)
{
    bool late = now >= d->retry_at;
    if (!backend_quiet(d) && !late)
        return false;
    xenbus_switch(&d->bus, XenbusStateClosed);
    if (d->pool && hyp_pool_end(d->pool) == -EBUSY) {
        if (!late || d->phase == DISK_ORPHAN)
            return false;
        d->phase = DISK_ORPHAN;
        return true;
    }
    if (d->bus.peer[0])
        watch_backend(d, store_unwatch);
    handshake_abandon(d);
    d->phase = DISK_CLOSED;
    return true;
}

void handshake_abandon(struct blkfront *d)
{
    for (unsigned i = 0; d->pool && i < d->nqueues; i++)
        blkqueue_destroy(&d->queues[i]);
    d->pool = NULL;
}

void handshake_lost(struct blkfront *d, const char *why)
{
    if (d->phase >= DISK_CLOSING)
        return;
    d->error = -ENOTCONN;
    snprintf(d->why, sizeof(d->why), "disk %s: %s", d->name, why);
    for (unsigned i = 0; d->pool && i < d->nqueues; i++) {
        blkqueue_set_gone(&d->queues[i]);
        blkqueue_stop(&d->queues[i]);
    }
    tell(d, BLKFRONT_GONE);
    d->phase = DISK_LOST;
}

static bool lost(struct blkfront *d, uint64_t now)
{
    if (!d->closing)
        return false;
    d->phase = DISK_DRAIN;
    return drain(d, now);
}

static bool step(struct blkfront *d, uint64_t now)
{
    if (d->closing && d->phase < DISK_DRAIN)
        take_down(d, "closed");
    switch (d->phase) {
    case DISK_SEARCH:  return search(d, now);
    case DISK_OFFERED: return await_connected(d, now);
    case DISK_LIVE:    return stay_live(d, now);
    case DISK_DRAIN:   return drain(d, now);
    case DISK_RESET:   return reset(d, now);
    case DISK_CLOSING:
    case DISK_ORPHAN:  return close_down(d, now);
    case DISK_LOST:    return lost(d, now);
    case DISK_CLOSED:  return false;
    }
    return false;
}

bool handshake_step(struct blkfront *d, uint64_t now)
{
    bool stepped = false;
    int error = d->error;
    while (step(d, now))
        stepped = true;
    return stepped || d->error != error;
}

uint64_t handshake_due(const struct blkfront *d, uint64_t now)
{
    if (d->phase == DISK_CLOSING)
        return now + PENDING_MS;
    return d->phase == DISK_SEARCH && d->retry_at > now ? d->retry_at : UINT64_MAX;
}
