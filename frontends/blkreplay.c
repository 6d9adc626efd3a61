/* SPDX-License-Identifier: MIT */
/* blkreplay.c - what becomes of requests whose connection ended. */
#include <errno.h>

#include "../hyp-shim/crash.h"
#include "blkput.h"

#ifdef BULKHEAD_CRASH_POINTS
#include <stdlib.h>
#endif

#define SLOTS_MAX (BLK_MAX_RING_PAGES * HYP_PAGE_SIZE / sizeof(struct blkif_request))

static inline bool pending(const struct blkqueue_shadow *s)
{
    return s->id <= BLKQUEUE_IDS_MAX;
}

/* All that is not answered, in the order of its issue; returns how many. */
static uint32_t in_order(const struct blkqueue *q, uint16_t slot[SLOTS_MAX])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < q->slots; i++) {
        const struct blkqueue_shadow *s = &q->shadow[i];
        if (!pending(s))
            continue;
        uint32_t at = n++;
        for (; at > 0 && q->shadow[slot[at - 1]].order > s->order; at--)
            slot[at] = slot[at - 1];
        slot[at] = (uint16_t)i;
    }
    return n;
}

/* It may be what ends connections: it is failed, and the operator told which it was. */
static void poison(struct blkqueue *q, struct blkqueue_shadow *s)
{
    CRASH_POINT("blkfront-poison");
    bool data = s->io.op == BLKFRONT_READ || s->io.op == BLKFRONT_WRITE;
    struct blkqueue_named *named = &q->named[q->counters.poisoned % BLKQUEUE_NAMED];
    __atomic_store_n(&named->op, s->io.op, __ATOMIC_RELAXED);
    __atomic_store_n(&named->offset, s->io.op == BLKFRONT_FLUSH ? 0 : s->io.offset, __ATOMIC_RELAXED);
    __atomic_store_n(&named->bytes, data ? s->io.bytes : s->io.op == BLKFRONT_FLUSH ? 0 : s->io.length,
                     __ATOMIC_RELAXED);
    s->id = BLKQUEUE_POISONED_ID;
    q->poisoned++;
    __atomic_store_n(&q->counters.poisoned, q->counters.poisoned + 1, __ATOMIC_RELEASE);
    queue_call(&q->queue);
}

/* The control of tests: what a system does that keeps no shadow. */
static bool forgets(struct blkqueue *q, struct blkqueue_shadow *s)
{
#ifdef BULKHEAD_CRASH_POINTS
    if (s->sent && getenv("BULKHEAD_NO_REPLAY")) {
        s->id = BLKQUEUE_FORGOT_ID;
        q->lost++;
        return true;
    }
#endif
    (void)q, (void)s;
    return false;
}

/* A new connection: all is sent again, but for what was sent in too many that ended. */
void blkqueue_replay(struct blkqueue *q)
{
    uint16_t slot[SLOTS_MAX];
    uint32_t n = in_order(q, slot), replayed = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct blkqueue_shadow *s = &q->shadow[slot[i]];
        if (forgets(q, s))
            continue;
        if (s->sent && ++s->deaths >= q->max_deaths) {
            poison(q, s);
            continue;
        }
        replayed += s->sent;
        s->sent = true;
        put(q, s);
        CRASH_POINT("blkfront-replay-middle");
    }
    q->seen = q->epoch;
    queue_count(&q->counters.replayed, replayed);
    blkqueue_push(q);
}

/* ---------------------------------------------------------------- time limit */

/* Its time is over.  The dead may still work on its buffer. */
static void give_up(struct blkqueue *q, struct blkqueue_shadow *s)
{
    if (s->sent && (s->io.op == BLKFRONT_READ || s->io.op == BLKFRONT_WRITE)) {
        struct shape shape = shape_of(q, &s->io);
        blkpool_hold(&q->pool, shape.first_page, shape.segments);
        q->hold_seen = q->seen;
    }
    s->id = BLKQUEUE_LATE_ID;
    q->lost++;
    queue_count(&q->counters.late, 1);
}

void blkqueue_expire(struct blkqueue *q)
{
    uint64_t now = monotonic_ms(), next = UINT64_MAX;
    uint32_t lost = q->lost;
    if (q->inflight == 0)
        return;
    for (uint32_t i = 0; i < q->slots; i++) {
        struct blkqueue_shadow *s = &q->shadow[i];
        if (!pending(s))
            continue;
        uint64_t at = q->since[i] + q->limit_ms;
        if (at <= now)
            give_up(q, s);
        else if (at < next)
            next = at;
    }
    /* A sleeper is woken by the control thread when the next one is due. */
    if (next == UINT64_MAX)
        next = 0;
    bool news = q->lost != lost || (next && next != __atomic_load_n(&q->queue.wake_at, __ATOMIC_RELAXED));
    __atomic_store_n(&q->queue.wake_at, next, __ATOMIC_RELAXED);
    if (news)
        queue_call(&q->queue);
}

/* What was sent in that connection is behind the fence of a later one. */
static bool past(const struct blkqueue *q, uint32_t epoch)
{
    return (int32_t)(__atomic_load_n(&q->fenced, __ATOMIC_ACQUIRE) - epoch) > 0;
}

void blkqueue_unhold(struct blkqueue *q)
{
    if (past(q, q->hold_seen))
        blkpool_release(&q->pool);
}

/* -------------------------------------------------------------------- reaping */

/* Poisoned requests were sent in the connections before the one that is seen. */
static uint32_t lost(const struct blkqueue *q, bool fenced)
{
    return q->lost + (fenced ? q->poisoned : 0);
}

uint32_t blkqueue_lost(const struct blkqueue *q)
{
    if (queue_gone(&q->queue))
        return q->inflight;
    return lost(q, q->poisoned > 0 && past(q, q->seen - 1));
}

unsigned blkqueue_reap_lost(struct blkqueue *q, struct blkfront_result *out, unsigned n)
{
    unsigned got = 0;
    bool gone = queue_gone(&q->queue), fenced = gone || past(q, q->seen - 1);
    uint32_t left = gone ? q->inflight : lost(q, fenced);
    for (; got < n && left > 0; q->lost_slot = (q->lost_slot + 1) % q->slots) {
        struct blkqueue_shadow *s = &q->shadow[q->lost_slot];
        int error;
        if (s->id == BLKQUEUE_FREE_ID || (s->id == BLKQUEUE_POISONED_ID && !fenced) || (pending(s) && !gone))
            continue;
        if (s->id == BLKQUEUE_POISONED_ID) {
            q->poisoned--;
            error = -EIO;
        } else if (pending(s)) {
            error = -ENOTCONN;
        } else {
            q->lost--;
            error = s->id == BLKQUEUE_LATE_ID ? -ETIMEDOUT : 0;
        }
        out[got++] = blkqueue_finish(q, s, error);
        left--;
    }
    return got;
}
