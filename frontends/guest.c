/* SPDX-License-Identifier: MIT */
#include "guest.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../hyp-shim/clock.h"
#include "../hyp-shim/crash.h"
#include "device.h"
#include "handshake.h"

#define STAND_BACK_MS 3
#define POLLED_MAX (3 + 2 * GUEST_DEVICES_MAX * LINK_QUEUES_MAX * QUEUE_CHANNELS_MAX)

static pthread_mutex_t guests_lock = PTHREAD_MUTEX_INITIALIZER;
static struct guest *guests;

static void ring_eventfd(int fd)
{
    uint64_t one = 1;
    /* Can fail only when the counter is full, and then it is readable too. */
    ssize_t n = write(fd, &one, sizeof(one));
    (void)n;
}

void guest_wake(struct guest *g)
{
    ring_eventfd(g->wake_fd);
}

/* -------------------------------------------------------------------- news */

static void domain_died(struct guest *g, domid_t domid)
{
    for (struct device *d = g->devices; d; d = d->next) {
        if (d->live.bus.peer[0] && d->live.bus.peer_domid == domid)
            d->live.dead = true;
        if (d->spare.bus.peer[0] && d->spare.bus.peer_domid == domid)
            d->spare.dead = true;
        /* As hyp_pool_share() says. */
        if (d->grantee == domid && d->sharer != DOMID_INVALID)
            d->grantee = d->sharer;
        else if (d->sharer != domid)
            continue;
        d->sharer = DOMID_INVALID;
        d->spare.retry_at = 0; /* the pool may be shared again */
        d->look = true;
    }
}

/* Deaths come first, and what they need to be outlived asks nobody. */
static void take_hyp_events(struct guest *g)
{
    struct hyp_event ev;
    uint64_t sink;
    int got;
    ssize_t n = read(g->wake_fd, &sink, sizeof(sink));
    (void)n;
    while ((got = hyp_next_event(g->hyp, &ev)) > 0) {
        if (ev.kind == HYP_EV_DEATH)
            domain_died(g, ev.domid);
        else if (ev.kind == HYP_EV_STOP)
            g->stop_asked = true;
    }
    if (got < 0)
        g->gone = true;
}

static bool hurry(struct guest *g)
{
    uint64_t now = monotonic_ms();
    bool moved = false;
    for (struct device *d = g->devices; d && !g->gone; d = d->next)
        moved |= handshake_hurry(d, now);
    return moved;
}

/* Which node changed does not matter: every device looks at what it needs. */
static void take_store_events(struct guest *g)
{
    struct store_event changed;
    bool some = false;
    int got;
    while ((got = store_next_event(g->store, &changed)) > 0)
        some = true;
    if (got < 0)
        g->gone = true;
    for (struct device *d = g->devices; d && some; d = d->next)
        d->look = true;
    if (some)
        crash_look(g->store, hyp_domid(g->hyp));
}

static void step_devices(struct guest *g, uint64_t now, bool stepped)
{
    for (struct device **at = &g->devices; *at;) {
        struct device *d = *at;
        if (g->gone)
            handshake_lost(d, "the hypervisor is gone");
        stepped |= handshake_step(d, now);
        if (d->phase == DEVICE_CLOSED && d->abandoned) {
            *at = d->next;
            g->ndevices--;
            free(d);
        } else {
            at = &d->next;
        }
    }
    if (stepped || g->gone)
        pthread_cond_broadcast(&g->changed);
}

static void tell_end(struct guest *g)
{
    if (g->end_fd < 0 || g->end_told || !(g->stop_asked || g->gone))
        return;
    ring_eventfd(g->end_fd);
    g->end_told = true;
}

/* Without the lock: what it calls may call us. A device cannot go away meanwhile,
 * since it leaves only after a step that this thread takes. */
static void tell_news(struct guest *g)
{
    static const enum device_news order[] = { DEVICE_DOWN, DEVICE_UP, DEVICE_STOP, DEVICE_GONE };
    struct { const struct device *device; uint8_t news; } told[GUEST_DEVICES_MAX];
    unsigned n = 0;
    for (struct device *d = g->devices; d; d = d->next) {
        uint8_t news = d->news;
        d->news = 0;
        if (g->stop_asked && !d->stop_told) {
            d->stop_told = true;
            news |= 1u << DEVICE_STOP;
        }
        if (news && !d->closing) {
            told[n].device = d;
            told[n++].news = news;
        }
    }
    if (n == 0)
        return;
    pthread_mutex_unlock(&g->lock);
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < sizeof(order) / sizeof(order[0]); k++)
            if (told[i].news & 1u << order[k])
                told[i].device->cls->notify(told[i].device, order[k]);
    pthread_mutex_lock(&g->lock);
}

/* ------------------------------------------------------------------ thread */

struct polled {
    struct pollfd fds[POLLED_MAX];
    bool *hung_up[POLLED_MAX];
    unsigned n;
};

static void poll_for(struct polled *p, int fd, short events, bool *hung_up)
{
    p->fds[p->n] = (struct pollfd){ .fd = fd, .events = events };
    p->hung_up[p->n++] = hung_up;
}

/* Rings are for the queue's owner; only a hang-up is for us. */
static void gather_channels(struct device *d, struct polled *p)
{
    bool in_use = (d->phase == DEVICE_LIVE || d->phase == DEVICE_OFFERED || d->phase == DEVICE_QUIET)
                  && !d->live.hung_up; /* it would be readable for ever */
    for (unsigned i = 0; i < d->nqueues; i++) {
        for (unsigned k = 0; in_use && k < d->queue[i]->nchannels; k++)
            poll_for(p, hyp_evtchn_fd(d->queue[i]->channel[k]), 0, &d->live.hung_up);
        for (unsigned k = 0; k < QUEUE_CHANNELS_MAX; k++)
            if (d->spare.channel[i][k])
                poll_for(p, hyp_evtchn_fd(d->spare.channel[i][k]), 0, &d->spare.hung_up);
    }
}

static void gather(struct guest *g, struct polled *p)
{
    p->n = 0;
    poll_for(p, g->wake_fd, POLLIN, NULL);
    if (g->gone)
        return;
    poll_for(p, hyp_fd(g->hyp), POLLIN, NULL);
    poll_for(p, store_fd(g->store), POLLIN, NULL);
    for (struct device *d = g->devices; d; d = d->next)
        gather_channels(d, p);
}

static int until_due(struct guest *g, uint64_t now)
{
    uint64_t due = UINT64_MAX;
    for (struct device *d = g->devices; d; d = d->next) {
        uint64_t at = handshake_due(d, now);
        if (at < due)
            due = at;
    }
    return due == UINT64_MAX ? -1 : due <= now ? 0 : (int)(due - now);
}

/* Sleeps without the lock. Devices are only added meanwhile, and channels are
 * closed by this thread alone, so what was gathered stays what it was. */
static void sleep_on(struct guest *g, struct polled *p, int timeout)
{
    pthread_mutex_unlock(&g->lock);
    int n = poll(p->fds, p->n, timeout);
    pthread_mutex_lock(&g->lock);
    for (unsigned i = 3; n > 0 && i < p->n; i++)
        if (p->fds[i].revents & (POLLHUP | POLLERR))
            *p->hung_up[i] = true;
    if (n > 0 && p->n >= 3 && p->fds[1].revents & (POLLHUP | POLLERR))
        g->gone = true;
}

/* Rings are in use again: who serves them and who waits for them need the
 * processors now, and what is left to write to the store can wait a little. */
static void stand_back(struct guest *g)
{
    struct pollfd news[] = { { .fd = hyp_fd(g->hyp), .events = POLLIN },
                             { .fd = g->wake_fd, .events = POLLIN } };
    pthread_mutex_unlock(&g->lock);
    poll(news, sizeof(news) / sizeof(news[0]), STAND_BACK_MS);
    pthread_mutex_lock(&g->lock);
}

static void *control(void *arg)
{
    struct guest *g = arg;
    struct polled p;
    pthread_mutex_lock(&g->lock);
    while (!g->ending) {
        bool moved = false;
        for (take_hyp_events(g); hurry(g); take_hyp_events(g)) {
            moved = true;
            stand_back(g);
        }
        take_store_events(g);
        uint64_t now = monotonic_ms();
        step_devices(g, now, moved);
        tell_end(g);
        tell_news(g);
        if (g->ending)
            break;
        gather(g, &p);
        sleep_on(g, &p, until_due(g, now));
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

/* A thread that takes no signal meant for the program. */
static int start_thread(struct guest *g)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(&g->thread, NULL, control, g);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -err;
}

/* ---------------------------------------------------------------- lifetime */

static void let_go(struct guest *g)
{
    while (g->devices) {
        struct device *d = g->devices;
        g->devices = d->next;
        handshake_abandon(d);
        free(d);
    }
    if (g->store)
        store_close(g->store);
    hyp_close(g->hyp);
    if (g->wake_fd >= 0)
        close(g->wake_fd);
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    free(g->attach);
    free(g);
}

/* guests_lock is held. */
static int add_guest(struct guest **out, const char *attach, struct hyp *hyp, struct store *store)
{
    struct guest *g = calloc(1, sizeof(*g));
    if (!g) {
        store_close(store);
        hyp_close(hyp);
        return -ENOMEM;
    }
    g->hyp = hyp;
    g->store = store;
    g->end_fd = -1;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&g->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&g->lock, NULL);
    g->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int err = g->wake_fd < 0 ? -errno : 0;
    if (!err && attach && !(g->attach = strdup(attach)))
        err = -ENOMEM;
    /* A frontend grants and rings; the rest of its rights it will not miss. */
    if (!err)
        err = hyp_restrict(hyp, HYP_MAY_GRANT | HYP_MAY_EVTCHN);
    if (!err)
        err = hyp_guard_memory_faults(hyp);
    if (!err)
        err = crash_watch(store, hyp_domid(hyp));
    if (!err)
        err = start_thread(g);
    if (err) {
        let_go(g);
        return err;
    }
    g->next = guests;
    guests = g;
    *out = g;
    return 0;
}

int guest_new(struct guest **out, const char *attach, struct hyp *hyp, struct store *store)
{
    pthread_mutex_lock(&guests_lock);
    int err = add_guest(out, attach, hyp, store);
    pthread_mutex_unlock(&guests_lock);
    return err;
}

static int open_guest(struct guest **out, const char *attach)
{
    struct hyp *hyp;
    struct store *store;
    int err = hyp_open(&hyp, attach);
    if (err)
        return err;
    err = store_open(&store, hyp);
    if (err) {
        hyp_close(hyp);
        return err;
    }
    return add_guest(out, attach, hyp, store);
}

int guest_get(struct guest **out, const char *attach, bool keep)
{
    pthread_mutex_lock(&guests_lock);
    struct guest *g = guests;
    while (g && (attach ? !g->attach || strcmp(g->attach, attach) != 0 : g->attach != NULL))
        g = g->next;
    int err = g ? 0 : open_guest(&g, attach);
    if (!err && keep)
        g->refs++;
    pthread_mutex_unlock(&guests_lock);
    if (!err)
        *out = g;
    return err;
}

void guest_tell_end(struct guest *g, int fd)
{
    pthread_mutex_lock(&g->lock);
    g->end_fd = fd;
    g->end_told = false;
    pthread_mutex_unlock(&g->lock);
    guest_wake(g);
}

enum guest_end guest_end(struct guest *g)
{
    pthread_mutex_lock(&g->lock);
    enum guest_end end = g->gone ? GUEST_GONE : g->stop_asked ? GUEST_STOP : GUEST_STAYS;
    pthread_mutex_unlock(&g->lock);
    return end;
}

int guest_ready(struct guest *g)
{
    pthread_mutex_lock(&g->lock);
    int err = g->ready ? 0 : hyp_ready(g->hyp);
    g->ready |= err == 0;
    pthread_mutex_unlock(&g->lock);
    return err;
}

void guest_put(struct guest *g)
{
    pthread_mutex_lock(&guests_lock);
    bool last = --g->refs == 0;
    for (struct guest **at = &guests; last && *at; at = &(*at)->next)
        if (*at == g) {
            *at = g->next;
            break;
        }
    pthread_mutex_unlock(&guests_lock);
    if (!last)
        return;
    pthread_mutex_lock(&g->lock);
    g->ending = true;
    pthread_mutex_unlock(&g->lock);
    guest_wake(g);
    pthread_join(g->thread, NULL);
    let_go(g);
}
