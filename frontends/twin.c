/* SPDX-License-Identifier: MIT */
#include "twin.h"

#include <errno.h>
#include <string.h>

#include "../hyp-shim/crash.h"
#include "device.h"

static void forget(struct device *d, uint64_t now)
{
    struct link *l = &d->spare;
    link_close_channels(l);
    l->hung_up = false;
    d->twin_serves = false;
    xenbus_switch(&l->bus, l->dead ? XenbusStateInitialising : XenbusStateClosing);
    link_later(l, now);
    d->twin = TWIN_RESET;
}

/* The spare may map the pool. */
static int share_pool(struct device *d)
{
    domid_t spare = d->spare.bus.peer_domid;
    if (d->grantee == spare || d->sharer == spare)
        return 0;
    int err = hyp_pool_share(d->pool, spare);
    if (!err)
        d->sharer = spare;
    return err;
}

static struct hyp_evtchn *const *armed_channels(struct link *l, unsigned i)
{
    return l->channel[i];
}

static bool offer(struct device *d, uint64_t now)
{
    struct link *l = &d->spare;
    int err = d->cls->accept_offer(l);
    if (!err)
        err = share_pool(d);
    if (!err)
        err = link_open_channels(l);
    CRASH_POINT("front-offer-before-publish");
    if (!err)
        err = link_publish(l, armed_channels);
    CRASH_POINT("front-offer-after-publish");
    if (err) {
        link_close_channels(l);
        link_later(l, now);
        return false;
    }
    l->hung_up = false;
    d->twin = TWIN_OFFERED;
    return true;
}

static bool search(struct device *d, uint64_t now)
{
    struct link *l = &d->spare;
    if (d->phase != DEVICE_SEARCH) /* which has done it */
        link_follow(l);
    /* Without a live one the spare's link is about to become it: handshake.c. */
    if (!link_usable(l) || d->live.dead || d->live.over || now < l->retry_at)
        return false;
    xenbus_switch(&l->bus, XenbusStateInitialising);
    return link_peer(l, XenbusStateUnknown) == XenbusStateInitWait && offer(d, now);
}

static bool await(struct device *d, uint64_t now)
{
    struct link *l = &d->spare;
    enum xenbus_state peer = l->dead || l->hung_up || link_moved(l)
                             ? XenbusStateUnknown : link_peer(l, l->bus.state);
    if (peer == XenbusStateInitialised || peer == XenbusStateConnected) {
        bool news = d->twin != TWIN_ARMED;
        d->twin = TWIN_ARMED;
        d->twin_serves = peer == XenbusStateConnected;
        return news;
    }
    if (peer == XenbusStateInitWait && d->twin == TWIN_OFFERED)
        return false;
    forget(d, now);
    return true;
}

static bool reset(struct device *d)
{
    if (!link_released(&d->spare))
        return false;
    if (!d->spare.dead && !link_moved(&d->spare))
        xenbus_switch(&d->spare.bus, XenbusStateClosed);
    d->twin = TWIN_SEARCH;
    return true;
}

static bool step(struct device *d, uint64_t now)
{
    switch (d->twin) {
    case TWIN_SEARCH:  return search(d, now);
    case TWIN_OFFERED:
    case TWIN_ARMED:   return await(d, now);
    case TWIN_RESET:   return reset(d);
    }
    return false;
}

void twin_step(struct device *d, uint64_t now)
{
    struct link *l = &d->spare;
    bool due = d->look || (d->twin >= TWIN_OFFERED && (l->dead || l->hung_up))
               || (d->twin == TWIN_SEARCH && l->retry_at && now >= l->retry_at);
    if (!d->opened || d->closing || d->error || !due)
        return;
    while (step(d, now))
        ;
    if (d->twin == TWIN_SEARCH && now >= l->retry_at)
        l->retry_at = 0; /* the rest is the store's to tell */
}

uint64_t twin_due(const struct device *d, uint64_t now)
{
    const struct link *l = &d->spare;
    return d->opened && !d->closing && d->twin == TWIN_SEARCH && link_usable(l) && l->retry_at > now
           ? l->retry_at : UINT64_MAX;
}

bool twin_close(struct device *d)
{
    struct link *l = &d->spare;
    if (d->twin == TWIN_OFFERED || d->twin == TWIN_ARMED) {
        link_close_channels(l);
        xenbus_switch(&l->bus, XenbusStateClosing);
        d->twin = TWIN_RESET;
    }
    return d->twin == TWIN_SEARCH || link_released(l);
}

bool twin_ready(const struct device *d)
{
    bool over = d->live.dead || d->live.over
                || (d->twin_serves && d->phase != DEVICE_LIVE && d->phase != DEVICE_QUIET);
    return d->opened && !d->closing && !d->error && over && d->twin == TWIN_ARMED && !d->spare.dead
           && !d->spare.hung_up;
}

int twin_swap(struct device *d)
{
    struct link *l = &d->live, old = d->live;
    int err = 0;
    CRASH_POINT("front-takeover-before-attach");
    *l = d->spare;
    d->spare = old;
    d->twin = old.dead || old.over ? TWIN_SEARCH : TWIN_RESET;
    for (unsigned i = 0; !err && i < d->nqueues; i++) {
        err = d->cls->attach_queue(d, i, l->channel[i], l->nchannels);
        if (!err)
            memset(l->channel[i], 0, sizeof(l->channel[i]));
    }
    link_close_channels(l);
    for (unsigned i = 0; !err && i < d->nqueues; i++)
        hyp_evtchn_notify(d->queue[i]->channel[0]);
    CRASH_POINT("front-takeover-after-attach");
    d->confirmed = d->twin_serves = false;
    d->look = true;
    return err;
}
