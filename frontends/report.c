/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "../hyp-shim/clock.h"
#include "../hyp-shim/ring.h"
#include "device.h"

#define IDLE_TICKS   10u   /* without work: nobody looks any more                */
#define RETRY_MS     100u
#define FIRST_MS     1000u /* a NIC's first packet may never come                */
#define TXN_TRIES    16
#define WORDS_MAX    128

static uint32_t asked(const struct queue *q)
{
    return __atomic_load_n(&q->asked, __ATOMIC_RELAXED);
}

/* The backend's word, for what it is worth: it is only ever compared. */
static uint32_t answered(const struct queue *q)
{
    return q->answered ? __atomic_load_n(q->answered, __ATOMIC_RELAXED) : asked(q);
}

/* ------------------------------------------------------------------ telling */

/* key of the directory, if the toolstack made one. */
static int write_node(struct device *d, const char *key, const char *value)
{
    struct store *st = d->guest->store;
    char dir[STORE_PATH_MAX], sink[8];
    snprintf(dir, sizeof(dir), "/local/domain/%u/report/%s/%u", hyp_domid(d->guest->hyp), d->cls->directory,
             d->devid);
    int err = -EAGAIN;
    for (int i = 0; i < TXN_TRIES && err == -EAGAIN; i++) {
        store_txn t;
        err = store_txn_begin(st, &t);
        if (err)
            continue;
        err = store_read(st, t, dir, sink, sizeof(sink));
        if (err >= 0 || err == -E2BIG)
            err = store_printf(st, t, dir, key, "%s", value);
        if (err)
            store_txn_abort(st, t);
        else
            err = store_txn_commit(st, t);
    }
    return err == -ENOENT || err == -EACCES ? 0 : err; /* nobody wants to know */
}

/* True: it was told, or never will be. */
static bool tell(struct device *d, uint64_t now, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static bool tell(struct device *d, uint64_t now, const char *key, const char *fmt, ...)
{
    char value[WORDS_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(value, sizeof(value), fmt, ap);
    va_end(ap);
    if (write_node(d, key, value) == 0)
        return true;
    d->report.retry_at = now + RETRY_MS;
    return false;
}

static void tell_lies(struct device *d, uint64_t now)
{
    struct report *r = &d->report;
    uint64_t lies = 0;
    for (unsigned i = 0; i < d->nqueues; i++) {
        const struct queue_lie *lie = __atomic_load_n(&d->queue[i]->lie, __ATOMIC_RELAXED);
        lies += __atomic_load_n(&d->queue[i]->lies, __ATOMIC_RELAXED);
        if (lie)
            r->lie = lie->name;
    }
    if (lies != r->lies_told && r->lie && tell(d, now, "lie", "%llu %s", (unsigned long long)lies, r->lie))
        r->lies_told = lies;
}

static void tell_poisoned(struct device *d, uint64_t now)
{
    struct report *r = &d->report;
    char text[WORDS_MAX / 2];
    for (unsigned i = 0; d->cls->poisoned && i < d->nqueues; i++)
        while (d->cls->poisoned(d, i, r->poisoned_told[i], text, sizeof(text)) > 0) {
            if (!tell(d, now, "poisoned", "%llu %s", (unsigned long long)r->poisoned + 1, text))
                return;
            r->poisoned++;
            r->poisoned_told[i]++;
        }
}

/* ------------------------------------------------------------------- stalls */

static void judge(struct device *d)
{
    struct report *r = &d->report;
    bool stalled = false, work = false;
    for (unsigned i = 0; i < d->nqueues; i++) {
        uint32_t put = asked(d->queue[i]), got = answered(d->queue[i]);
        bool pending = put != got;
        stalled |= pending && r->seen[i].pending && got == r->seen[i].answered;
        work |= pending || put != r->seen[i].asked;
        r->seen[i].asked = put;
        r->seen[i].answered = got;
        r->seen[i].pending = pending;
    }
    r->stalled += stalled;
    r->idle_ticks = work ? 0 : r->idle_ticks + 1;
}

/* Owners shall say when they have work again; false: one has some already. */
static bool stop_watching(struct device *d)
{
    bool idle = true;
    for (unsigned i = 0; i < d->nqueues; i++)
        __atomic_store_n(&d->queue[i]->watched, 0, __ATOMIC_RELAXED);
    /* They ask, pass the barrier of ring_front_push(), and look. */
    ring_full_barrier();
    for (unsigned i = 0; i < d->nqueues; i++)
        if (asked(d->queue[i]) != d->report.seen[i].asked) {
            __atomic_store_n(&d->queue[i]->watched, 1, __ATOMIC_RELAXED);
            idle = false;
        }
    return idle;
}

static bool watched(const struct device *d)
{
    for (unsigned i = 0; i < d->nqueues; i++)
        if (__atomic_load_n(&d->queue[i]->watched, __ATOMIC_RELAXED))
            return true;
    return false;
}

static void tick(struct device *d, uint64_t now)
{
    struct report *r = &d->report;
    if (r->look_ms == 0 || (d->phase != DEVICE_LIVE && d->phase != DEVICE_QUIET)) {
        r->tick_at = 0;
        return;
    }
    if (r->tick_at == 0) {
        if (!watched(d))
            return;
        r->idle_ticks = 0;
        judge(d);
        r->tick_at = now + r->look_ms;
        return;
    }
    if (now < r->tick_at)
        return;
    judge(d);
    r->tick_at = r->idle_ticks >= IDLE_TICKS && stop_watching(d) ? 0 : now + r->look_ms;
}

/* ------------------------------------------------------------------ outages */

void report_down(struct device *d)
{
    struct report *r = &d->report;
    bool flying = false;
    for (unsigned i = 0; i < d->nqueues; i++) {
        const struct queue_lie *lie = __atomic_load_n(&d->queue[i]->lie, __ATOMIC_RELAXED);
        flying |= asked(d->queue[i]) != answered(d->queue[i]);
        if (lie)
            r->lie = lie->name;
    }
    if (!r->outage) {
        r->down_ns = monotonic_ns();
        r->flying = false;
    }
    r->outage = true;
    r->flying |= flying;
    r->give_up_at = 0;
}

void report_up(struct device *d)
{
    struct report *r = &d->report;
    for (unsigned i = 0; i < d->nqueues; i++) {
        d->queue[i]->await_first = r->outage;
        r->seen[i].pending = false;
        r->seen[i].asked = 0;
    }
    r->attached_ns = monotonic_ns();
}

static uint64_t first_answer(const struct device *d)
{
    uint64_t first = 0;
    for (unsigned i = 0; i < d->nqueues; i++) {
        uint64_t at = __atomic_load_n(&d->queue[i]->first_ns, __ATOMIC_ACQUIRE);
        if (at && (!first || at < first))
            first = at;
    }
    return first;
}

static void tell_outage(struct device *d, uint64_t now)
{
    struct report *r = &d->report;
    if (!r->outage || d->phase != DEVICE_LIVE)
        return;
    uint64_t first = first_answer(d);
    bool packets = !d->cls->poisoned; /* what was on its way is not answered any more */
    if (!first && !d->confirmed)
        return;
    if (!first && packets && !r->give_up_at)
        r->give_up_at = now + FIRST_MS;
    if (!first && (packets ? now < r->give_up_at : r->flying))
        return;
    if (tell(d, now, "outage", "%u %llu %llu %llu", d->live.bus.peer_domid, (unsigned long long)r->down_ns,
             (unsigned long long)r->attached_ns, (unsigned long long)first)) {
        r->outage = false;
        r->give_up_at = 0;
    }
}

/* ------------------------------------------------------------------------ all */

void report_step(struct device *d, uint64_t now)
{
    struct report *r = &d->report;
    if (!d->opened || d->closing || d->error)
        return;
    tick(d, now);
    if (now < r->retry_at)
        return;
    r->retry_at = 0;
    if (r->stalled != r->stalled_told && tell(d, now, "stalled", "%llu", (unsigned long long)r->stalled))
        r->stalled_told = r->stalled;
    tell_lies(d, now);
    tell_poisoned(d, now);
    uint64_t late = d->cls->late ? d->cls->late(d) : 0;
    if (late != r->late_told && tell(d, now, "timed-out", "%llu", (unsigned long long)late))
        r->late_told = late;
    tell_outage(d, now);
}

uint64_t report_due(const struct device *d, uint64_t now)
{
    const struct report *r = &d->report;
    uint64_t due = UINT64_MAX;
    if (!d->opened || d->closing || d->error)
        return due;
    if (r->tick_at)
        due = r->tick_at;
    if (r->retry_at && r->retry_at < due)
        due = r->retry_at;
    if (r->give_up_at && r->outage && r->give_up_at < due)
        due = r->give_up_at;
    return due > now ? due : now;
}
