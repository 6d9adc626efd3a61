/* SPDX-License-Identifier: MIT */
#include "handshake.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../hyp-shim/crash.h"
#include "terms.h"

#define HEARTBEAT_MS 500u /* of the toolstack's, unless it says otherwise         */
#define LOOKS        5u   /* in a period: report.h                              */
#define STEADY_MS  10000u /* connected that long: back-off starts anew            */
#define CLOSING_MS 2000u  /* patience with a backend when we close                */
#define PENDING_MS 10u    /* look again at a pool that is still mapped            */
#define LINGER_MS  20u    /* a spare is armed: from a hang-up to news of a death  */
#define QUIET_MS   10000u /* for what is in flight, when the backend leaves       */

/* -------------------------------------------------------- pool and queues */

static int make_pool(struct device *d)
{
    domid_t be = d->live.bus.peer_domid;
    int err = hyp_pool_create(d->guest->hyp, be, d->pool_pages, 0, &d->pool);
    if (err == -ENOMEM || err == -EDQUOT)
        return terms_refuse(&d->live, err, "its pool of %zu pages (%zu KiB) %s: give the guest more, or ask "
                            "for fewer queues or pool pages", d->pool_pages,
                            d->pool_pages * (HYP_PAGE_SIZE / 1024),
                            err == -EDQUOT ? "is more than the guest may grant" : "does not fit into memory");
    if (err)
        return terms_trouble(&d->live, err, "cannot grant a pool to domain %u: %s", be, strerror(-err));
    d->grantee = be;
    d->report.look_ms = terms_configured(&d->live, "bulkhead-heartbeat-ms", HEARTBEAT_MS) / LOOKS;
    for (unsigned i = 0; i < d->nqueues; i++) {
        err = d->cls->make_queue(d, i);
        if (err) {
            while (i-- > 0)
                d->cls->free_queue(d, i);
            hyp_pool_end(d->pool); /* not offered to anyone yet: cannot be busy */
            d->pool = NULL;
            return terms_trouble(&d->live, err, "no memory for its queues");
        }
    }
    return 0;
}

/* The pool is granted to the backend of now. */
static int grant_pool(struct device *d)
{
    domid_t be = d->live.bus.peer_domid;
    if (!d->pool)
        return make_pool(d);
    if (d->grantee == be || d->sharer == be)
        return 0;
    int err = hyp_pool_regrant(d->pool, be);
    if (err == 0)
        d->grantee = be;
    return err; /* -EBUSY: the old one's death was not told yet */
}

static void detach_queues(struct device *d)
{
    for (unsigned i = 0; d->pool && i < d->nqueues; i++)
        queue_detach(d->queue[i]);
}

static int attach_queues(struct device *d)
{
    struct link *l = &d->live;
    int err = link_open_channels(l);
    for (unsigned i = 0; !err && i < d->nqueues; i++) {
        err = d->cls->attach_queue(d, i, l->channel[i], l->nchannels);
        if (!err)
            memset(l->channel[i], 0, sizeof(l->channel[i]));
    }
    link_close_channels(l);
    if (err) {
        detach_queues(d);
        return terms_trouble(l, err, "no event channel to domain %u: %s", l->bus.peer_domid, strerror(-err));
    }
    return 0;
}

/* The backend is in InitWait: offers it our rings. */
static struct hyp_evtchn *const *attached_channels(struct link *l, unsigned i)
{
    return l->device->queue[i]->channel;
}

static int make_offer(struct device *d)
{
    int err = d->cls->accept_offer(&d->live);
    if (!err)
        err = grant_pool(d);
    if (!err)
        err = attach_queues(d);
    if (err)
        return err;
    err = link_publish(&d->live, attached_channels);
    if (err) {
        detach_queues(d);
        return terms_trouble(&d->live, err, "cannot write to the store: %s", strerror(-err));
    }
    return 0;
}

/* ------------------------------------------------------------------ phases */

static void tell(struct device *d, enum device_news news)
{
    d->news |= (uint8_t)(1u << news);
}

static bool awaits_fence(const struct device *d)
{
    return d->cls->await_fence && d->cls->await_fence(d);
}

/* What the store has to hear of an end. */
static void say_goodbye(struct device *d)
{
    if (d->untold)
        xenbus_error(&d->live.bus, EIO, d->why);
    d->untold = false;
    /* At once: a backend born meanwhile must not take our old rings for new. */
    xenbus_switch(&d->live.bus, d->live.dead ? XenbusStateInitialising : XenbusStateClosing);
}

/* why: a sentence; NULL: it was told. */
static void take_down(struct device *d, const char *why)
{
    for (unsigned i = 0; d->pool && i < d->nqueues; i++)
        queue_stop(d->queue[i]);
    for (unsigned i = 0; d->pool && awaits_fence(d) && i < d->nqueues; i++)
        queue_kick(d->queue[i]); /* sleepers shall say when the next request is too old */
    if (d->phase == DEVICE_LIVE || d->phase == DEVICE_QUIET) {
        tell(d, DEVICE_DOWN);
        report_down(d);
        if (!d->closing && why) {
            snprintf(d->why, sizeof(d->why), "%s %s: %s", d->cls->noun, d->name, why);
            d->untold = true;
        }
    }
    d->phase = DEVICE_DRAIN;
    d->linger_until = 0;
    if (!twin_ready(d)) /* else the store can wait for the spare */
        say_goodbye(d);
}

static void swap_links(struct device *d)
{
    struct link live = d->live;
    d->live = d->spare;
    d->spare = live;
}

/* The other slot has a backend, and this one none that will serve us. */
static bool change_slot(struct device *d)
{
    if (d->twin != TWIN_SEARCH || !link_usable(&d->spare))
        return false;
    if (link_usable(&d->live) && !d->live.unnamed
        && (!link_standby(&d->live) || link_standby(&d->spare)))
        return false;
    swap_links(d);
    return true;
}

static bool search(struct device *d, uint64_t now)
{
    struct link *l = &d->live;
    if (!d->look && now < l->retry_at)
        return false;
    link_follow(l);
    if (d->twin == TWIN_SEARCH)
        link_follow(&d->spare);
    if (d->error)
        return false;
    change_slot(d);
    if (d->opened && l->unnamed)
        l->over = true; /* nothing is left there; the spare may have us */
    if (!l->bus.peer[0] || l->dead || now < l->retry_at)
        return false;
    xenbus_switch(&l->bus, XenbusStateInitialising);
    if (link_peer(l, XenbusStateUnknown) != XenbusStateInitWait)
        return false;
    if (make_offer(d)) {
        link_later(l, now);
        return false;
    }
    l->left = l->over = l->hung_up = false;
    d->confirmed = false;
    d->phase = DEVICE_OFFERED;
    return true;
}

/* The queues are attached: their owners work again. */
static void go_live(struct device *d, uint64_t now)
{
    report_up(d);
    for (unsigned i = 0; i < d->nqueues; i++) {
        hyp_evtchn_notify(d->queue[i]->channel[0]); /* who was a spare waits for that */
        queue_start(d->queue[i]);
        queue_kick(d->queue[i]); /* there may be work before anyone rings */
    }
    CRASH_POINT("front-live");
    if (d->opened) {
        tell(d, DEVICE_UP);
        queue_count(&d->reconnects, 1);
    }
    d->opened = d->look = true;
    d->live_since = now;
    d->phase = DEVICE_LIVE;
    if (!d->guest->ready)
        d->guest->ready = hyp_ready(d->guest->hyp) == 0;
}

/* The backend is Connected: what was agreed on holds, and nothing older can touch the
 * device or a buffer any more. */
static bool confirm(struct device *d)
{
    if (d->cls->accept_device && d->cls->accept_device(&d->live))
        return false;
    for (unsigned i = 0; d->cls->fenced && i < d->nqueues; i++)
        d->cls->fenced(d, i);
    d->confirmed = true;
    return true;
}

static bool await_connected(struct device *d, uint64_t now)
{
    struct link *l = &d->live;
    if (!d->look && !l->dead && !l->hung_up)
        return false;
    enum xenbus_state peer = l->dead ? XenbusStateUnknown : link_peer(l, XenbusStateInitialised);
    if (l->dead || l->hung_up || link_moved(l)) {
        take_down(d, "the driver domain went away");
    } else if (peer == XenbusStateConnected) {
        if (!confirm(d))
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
        const struct queue_lie *lie = __atomic_load_n(&d->queue[i]->lie, __ATOMIC_RELAXED);
        uint32_t s = queue_state(d->queue[i]);
        if (lie)
            return lie->words;
        if (d->phase == DEVICE_LIVE && s != QUEUE_IDLE && s != QUEUE_BUSY)
            return "closed";
    }
    return NULL;
}

/* Who hangs up is about to die, most often: the news is on its way, and what there is to do
 * is done at once then.  The dying one needs the processor more. */
static bool lingers(struct device *d, uint64_t now)
{
    if (d->twin != TWIN_ARMED)
        return false;
    if (!d->linger_until)
        d->linger_until = now + LINGER_MS;
    return now < d->linger_until;
}

/* An end that needs no look at the store to be seen; true: it was one. */
static bool broken(struct device *d, uint64_t now)
{
    const char *lie = caught_lying(d);
    if (lie) {
        char why[128];
        snprintf(why, sizeof(why), "the driver domain lied (%s); connection broken", lie);
        take_down(d, why);
    } else if (hyp_pool_faulted(d->pool)) {
        take_down(d, "the driver domain destroyed memory of the pool");
    } else if (d->live.dead || (d->live.hung_up && !lingers(d, now))) {
        take_down(d, "the driver domain is gone");
    } else {
        return false;
    }
    return true;
}

/* The backend leaves in order: what is in flight is finished before. */
static void be_quiet(struct device *d, uint64_t now)
{
    CRASH_POINT("front-quiet");
    for (unsigned i = 0; i < d->nqueues; i++)
        queue_hush(d->queue[i]);
    d->live_since = now;
    d->phase = DEVICE_QUIET;
}

static bool stay_live(struct device *d, uint64_t now)
{
    struct link *l = &d->live;
    if (broken(d, now))
        return true;
    if (now - d->live_since > STEADY_MS)
        l->backoff_ms = 0;
    if (!d->look)
        return false;
    xenbus_switch(&l->bus, XenbusStateConnected);
    enum xenbus_state peer = link_peer(l, d->confirmed ? XenbusStateConnected : XenbusStateInitialised);
    if (link_moved(l)) {
        take_down(d, "the driver domain is gone");
    } else if (peer == XenbusStateClosing) {
        be_quiet(d, now);
    } else if (peer == XenbusStateConnected && !d->confirmed) {
        if (!confirm(d))
            take_down(d, NULL);
        for (unsigned i = 0; i < d->nqueues; i++)
            queue_kick(d->queue[i]);
        return d->phase != DEVICE_LIVE;
    } else if (peer != XenbusStateConnected && (d->confirmed || peer != XenbusStateInitialised)) {
        take_down(d, "the driver domain left the connection");
    } else {
        return false;
    }
    return true;
}

static bool stay_quiet(struct device *d, uint64_t now)
{
    struct link *l = &d->live;
    bool drained = true;
    if (broken(d, now))
        return true;
    for (unsigned i = 0; i < d->nqueues; i++)
        drained &= queue_drained(d->queue[i]);
    if (drained) {
        tell(d, DEVICE_DOWN);
        report_down(d);
        for (unsigned i = 0; awaits_fence(d) && i < d->nqueues; i++)
            queue_kick(d->queue[i]);
        CRASH_POINT("front-closing");
        xenbus_switch(&l->bus, XenbusStateClosed);
        l->left = true; /* it may look at the ring until it has let go itself */
        d->phase = DEVICE_DRAIN;
        return true;
    }
    if (now - d->live_since >= QUIET_MS)
        take_down(d, "the driver domain left and did not finish what was in flight");
    else if (d->look && (link_moved(l) || link_peer(l, XenbusStateClosing) != XenbusStateClosing))
        take_down(d, "the driver domain left the connection");
    else
        return false;
    return true;
}

static bool drain(struct device *d, uint64_t now)
{
    for (unsigned i = 0; d->pool && i < d->nqueues; i++)
        if (!queue_drained(d->queue[i]))
            return false;
    detach_queues(d);
    d->live.hung_up = false;
    d->live.retry_at = d->closing ? now + CLOSING_MS : now;
    d->phase = d->closing ? DEVICE_CLOSING : DEVICE_RESET;
    if (!d->closing && d->pool && hyp_pool_faulted(d->pool))
        handshake_lost(d, "memory of its pool is gone; open it again");
    return true;
}

static bool reset(struct device *d, uint64_t now)
{
    struct link *l = &d->live;
    if (!l->over && !l->left)
        say_goodbye(d);
    if (!link_released(l))
        return false;
    l->over |= l->left;
    if (l->dead || l->over || link_moved(l)) {
        l->retry_at = now;
    } else {
        xenbus_switch(&l->bus, XenbusStateClosed);
        link_later(l, now);
    }
    d->look = true;
    d->phase = DEVICE_SEARCH;
    return true;
}

/* ----------------------------------------------------------------- takeover */

/* Without a word of the store until the queues work again. */
static void take_over(struct device *d, uint64_t now)
{
    int err = twin_swap(d);
    d->untold = false;
    d->phase = DEVICE_OFFERED;
    if (err)
        take_down(d, NULL);
    else if (!awaits_fence(d))
        go_live(d, now);
}

bool handshake_hurry(struct device *d, uint64_t now)
{
    if (!twin_ready(d))
        return false;
    if (d->phase == DEVICE_LIVE || d->phase == DEVICE_QUIET || d->phase == DEVICE_OFFERED)
        take_down(d, "the driver domain is gone");
    if (d->phase == DEVICE_DRAIN)
        drain(d, now);
    if (d->phase != DEVICE_RESET && d->phase != DEVICE_SEARCH)
        return false;
    take_over(d, now);
    return true;
}

/* -------------------------------------------------------------------- ends */

/* The backend must not keep pages that we give back (XSA-396): the pool ends
 * first, and only then is its memory anyone else's. */
static bool close_down(struct device *d, uint64_t now)
{
    bool late = now >= d->live.retry_at;
    bool released = link_released(&d->live);
    released &= twin_close(d);
    if (!released && !late)
        return false;
    xenbus_switch(&d->live.bus, XenbusStateClosed);
    xenbus_switch(&d->spare.bus, XenbusStateClosed);
    if (d->pool && hyp_pool_end(d->pool) == -EBUSY) {
        if (!late || d->phase == DEVICE_ORPHAN)
            return false;
        d->phase = DEVICE_ORPHAN;
        return true;
    }
    link_forget(&d->live);
    link_forget(&d->spare);
    handshake_abandon(d);
    d->phase = DEVICE_CLOSED;
    return true;
}

void handshake_abandon(struct device *d)
{
    for (unsigned i = 0; d->pool && i < d->nqueues; i++)
        d->cls->free_queue(d, i);
    link_close_channels(&d->live);
    link_close_channels(&d->spare);
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
    if (handshake_hurry(d, now))
        return true;
    switch (d->phase) {
    case DEVICE_SEARCH:  return search(d, now);
    case DEVICE_OFFERED: return await_connected(d, now);
    case DEVICE_LIVE:    return stay_live(d, now);
    case DEVICE_QUIET:   return stay_quiet(d, now);
    case DEVICE_DRAIN:   return drain(d, now);
    case DEVICE_RESET:   return reset(d, now);
    case DEVICE_CLOSING:
    case DEVICE_ORPHAN:  return close_down(d, now);
    case DEVICE_LOST:    return lost(d, now);
    case DEVICE_CLOSED:  return false;
    }
    return false;
}

/* Without a connection: requests of a sleeper may have a time limit. */
static void wake_owners(struct device *d, uint64_t now)
{
    for (unsigned i = 0; d->pool && i < d->nqueues; i++) {
        uint64_t at = __atomic_load_n(&d->queue[i]->wake_at, __ATOMIC_RELAXED);
        if (at && at <= now) {
            __atomic_store_n(&d->queue[i]->wake_at, 0, __ATOMIC_RELAXED);
            queue_kick(d->queue[i]);
        }
    }
}

bool handshake_step(struct device *d, uint64_t now)
{
    bool stepped = false, again;
    int error = d->error;
    do {
        enum twin_phase twin = d->twin;
        bool serves = d->twin_serves;
        while (step(d, now))
            stepped = true;
        twin_step(d, now);
        again = d->twin != twin || d->twin_serves != serves;
    } while (again && twin_ready(d));
    d->look = false;
    wake_owners(d, now);
    report_step(d, now);
    return stepped || d->error != error;
}

uint64_t handshake_due(const struct device *d, uint64_t now)
{
    uint64_t due = report_due(d, now), twin = twin_due(d, now), own = UINT64_MAX;
    if (d->phase == DEVICE_CLOSING)
        own = now + PENDING_MS;
    else if (d->phase == DEVICE_QUIET)
        own = d->live_since + QUIET_MS;
    else if (d->linger_until > now)
        own = d->linger_until;
    else if (d->phase == DEVICE_SEARCH && d->live.retry_at > now)
        own = d->live.retry_at;
    for (unsigned i = 0; d->pool && i < d->nqueues; i++) {
        uint64_t at = __atomic_load_n(&d->queue[i]->wake_at, __ATOMIC_RELAXED);
        if (at && at < due)
            due = at;
    }
    due = twin < due ? twin : due;
    return own < due ? own : due;
}
