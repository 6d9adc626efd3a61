/* SPDX-License-Identifier: MIT */
#include "blkqueue.h"

#include <errno.h>
#include <stdlib.h>

#include "../hyp-shim/crash.h"
#include "blkput.h"

_Static_assert(sizeof(struct blkqueue_shadow) <= 64, "one cache line");
_Static_assert(BLK_MAX_INDIRECT_SEGMENTS <= BLK_INDIRECT_PER_PAGE, "one descriptor page a slot");

static const struct queue_lie lies[BLKQUEUE_LIES] = {
    [BLKQUEUE_BAD_INDEX] = { "bad_index", "more responses than requests" },
    [BLKQUEUE_BAD_ID] = { "bad_id", "a response to no request in flight" },
    [BLKQUEUE_BAD_OPERATION] = { "bad_operation", "a response with another operation than was asked" },
    [BLKQUEUE_BAD_STATUS] = { "bad_status", "a response with a status that is none" },
    [BLKQUEUE_STORM] = { "storm", "doorbells without responses" },
};

/* Tells the backend of what was put on the ring. */
void blkqueue_push(struct blkqueue *q)
{
    if (q->ring.req_pushed == q->ring.req_prod)
        return;
    queue_ask(&q->queue, q->ring.req_prod);
    CRASH_POINT("blkfront-before-publish");
    bool ring = ring_front_push(&q->ring);
    CRASH_POINT("blkfront-after-publish");
    if (ring)
        queue_ring(&q->queue, 0);
    CRASH_POINT("blkfront-after-doorbell");
    queue_asked(&q->queue);
}

/* Nothing in flight: the owner lets go; for good, when the connection is to end and
 * has no more to answer. */
static inline void settle(struct blkqueue *q)
{
    if (__builtin_expect(q->hushed, 0) && on_ring(q) == 0)
        queue_let_go(&q->queue);
    else if (q->inflight == 0)
        queue_rest(&q->queue, 0);
}

/* The connection is over, what was in flight is not. */
static void caught(struct blkqueue *q, enum blkqueue_lie lie)
{
    queue_count(&q->counters.lies[lie], 1);
    queue_caught(&q->queue, &lies[lie]);
    queue_rest(&q->queue, 0);
}

/* ----------------------------------------------------------- what is asked */

static inline int check_range(const struct blkqueue_terms *t, uint64_t offset, uint64_t length)
{
    if (length == 0 || (offset | length) & (t->sector_bytes - 1))
        return -EINVAL;
    return offset > t->disk_bytes || length > t->disk_bytes - offset ? -EINVAL : 0;
}

static inline int check_data(const struct blkqueue *q, const struct blkfront_io *io)
{
    const struct blkqueue_terms *t = q->terms;
    int err = check_range(t, io->offset, io->bytes);
    if (err)
        return err;
    if (io->bytes > (size_t)t->max_segments * HYP_PAGE_SIZE)
        return -EMSGSIZE;
    uintptr_t at = (uintptr_t)io->buf - (uintptr_t)q->data;
    if (at & (t->sector_bytes - 1) || at > q->data_bytes || io->bytes > q->data_bytes - at)
        return -EINVAL;
    struct shape shape = shape_of(q, io);
    if (__builtin_expect(q->pool.held > 0, 0) && blkpool_holds(&q->pool, shape.first_page, shape.segments))
        return -EBUSY;
    return shape.segments > t->max_segments ? -EMSGSIZE : 0;
}

static int check(const struct blkqueue *q, const struct blkfront_io *io)
{
    const struct blkqueue_terms *t = q->terms;
    switch (io->op) {
    case BLKFRONT_READ:
        return io->flags ? -EINVAL : check_data(q, io);
    case BLKFRONT_WRITE:
        if (io->flags & ~BLKFRONT_FUA)
            return -EINVAL;
        if (t->readonly)
            return -EROFS;
        if (io->flags && !t->can_fua)
            return -EOPNOTSUPP;
        return check_data(q, io);
    case BLKFRONT_FLUSH:
        if (io->flags)
            return -EINVAL;
        return t->can_flush ? 0 : -EOPNOTSUPP;
    case BLKFRONT_DISCARD:
    case BLKFRONT_ZEROES: {
        bool zeroes = io->op == BLKFRONT_ZEROES;
        if (io->flags & (zeroes ? ~BLKFRONT_MAY_UNMAP : ~0u))
            return -EINVAL;
        if (t->readonly)
            return -EROFS;
        if (!(zeroes ? t->can_zeroes : t->can_discard))
            return -EOPNOTSUPP;
        return check_range(t, io->offset, io->length);
    }
    default:
        return -EINVAL;
    }
}

/* ---------------------------------------------------------------- what goes */

/* Out of rest, or there is no connection: then the control thread need not wait. */
static enum queue_grip take_hold(struct blkqueue *q)
{
    enum queue_grip grip = queue_take(&q->queue);
    q->hushed = grip == QUEUE_FINISHES;
    if (grip == QUEUE_NOTHING) {
        queue_rest(&q->queue, 0);
        if (q->limit_ms > 0)
            blkqueue_expire(q);
    } else if (q->seen != q->epoch) {
        if (q->hushed) { /* nothing of ours ever was on this ring */
            queue_let_go(&q->queue);
            return QUEUE_NOTHING;
        }
        blkqueue_replay(q);
    }
    return grip;
}

/* The owner takes the ring. */
static inline enum queue_grip take(struct blkqueue *q)
{
    return queue_state(&q->queue) == QUEUE_BUSY ? QUEUE_WORKS : take_hold(q);
}

int blkqueue_submit(struct blkqueue *q, const struct blkfront_io *ios, unsigned n)
{
    if (n == 0)
        return 0;
    bool connected = take(q) == QUEUE_WORKS;
    if (!connected && queue_gone(&q->queue))
        return -ENOTCONN;
    if (__builtin_expect(q->pool.held > 0, 0))
        blkqueue_unhold(q);
    unsigned taken = 0;
    uint64_t bytes = 0;
    uint64_t now = q->limit_ms > 0 ? monotonic_ms() : 0;
    int err = 0;
    for (; taken < n && q->free_slots > 0; taken++) {
        err = check(q, &ios[taken]);
        if (err)
            break;
        struct blkqueue_shadow *s = &q->shadow[q->slot[--q->free_slots]];
        s->io = ios[taken];
        s->sent = connected;
        s->deaths = 0;
        if (connected)
            put(q, s);
        else
            name_request(q, s); /* the replay sends it */
        s->order = q->sequence;
        if (q->limit_ms > 0)
            q->since[s - q->shadow] = now;
        q->inflight++;
        if (s->io.op == BLKFRONT_READ || s->io.op == BLKFRONT_WRITE)
            bytes += s->io.bytes;
    }
    CRASH_POINT("blkfront-after-shadow");
    if (taken > 0) {
        queue_count(&q->counters.requests, taken);
        queue_count(&q->counters.bytes, bytes);
        if (connected)
            blkqueue_push(q);
        return (int)taken;
    }
    settle(q);
    return err;
}

/* --------------------------------------------------------------- what comes */

/* Stock backends answer an indirect request with the operation inside it. */
static inline bool answers(const struct blkqueue_shadow *s, uint8_t operation)
{
    return operation == s->operation || operation == s->inner;
}

int blkqueue_reap(struct blkqueue *q, struct blkfront_result *out, unsigned n)
{
    if (q->inflight == 0 || n == 0)
        return 0;
    if (take(q) == QUEUE_NOTHING)
        return (int)blkqueue_reap_lost(q, out, n);
    unsigned got = q->lost + q->poisoned > 0 ? blkqueue_reap_lost(q, out, n) : 0;
    enum blkqueue_lie lie;
    int waiting = ring_front_waiting(&q->ring);
    if (waiting == RING_LIES)
        goto bad_index;
    if (waiting > 0)
        queue_answer(&q->queue);
    for (; waiting > 0 && got < n; waiting--) {
        struct blkif_response rsp;
        ring_front_copy_response(&q->ring, &rsp, sizeof(rsp));
        CRASH_POINT("blkfront-after-response-copy");
        uint64_t slot = rsp.id & ((1u << SLOT_BITS) - 1);
        if (slot >= q->slots || q->shadow[slot].id != rsp.id)
            goto bad_id;
        struct blkqueue_shadow *s = &q->shadow[slot];
        if (!answers(s, rsp.operation))
            goto bad_operation;
        int error;
        if (rsp.status == BLKIF_RSP_OKAY)
            error = 0;
        else if (rsp.status == BLKIF_RSP_ERROR)
            error = -EIO;
        else if (rsp.status == BLKIF_RSP_EOPNOTSUPP)
            error = -EOPNOTSUPP;
        else
            goto bad_status;
        if (s->then_flush && !error) {
            /* The response just taken freed the place on the ring. */
            s->then_flush = 0;
            name_request(q, s);
            put_flush(q, s);
            continue;
        }
        out[got++] = blkqueue_finish(q, s, error);
    }
    CRASH_POINT("blkfront-after-settle");
    blkqueue_push(q);
    settle(q);
    return (int)got;

bad_index:
    lie = BLKQUEUE_BAD_INDEX;
    goto broken;
bad_id:
    lie = BLKQUEUE_BAD_ID;
    goto broken;
bad_operation:
    lie = BLKQUEUE_BAD_OPERATION;
    goto broken;
bad_status:
    lie = BLKQUEUE_BAD_STATUS;
broken:
    caught(q, lie);
    return (int)got;
}

/* ----------------------------------------------------------------- sleeping */

int blkqueue_idle(struct blkqueue *q)
{
    queue_forget_kick(&q->queue);
    if (take(q) == QUEUE_NOTHING)
        return (int)blkqueue_lost(q);
    bool rung = queue_take_rings(&q->queue);
    int waiting = ring_front_idle(&q->ring);
    if (waiting == RING_LIES)
        goto bad_index;
    if (waiting == 0 && rung && queue_storm(&q->queue))
        goto storm;
    waiting += (int)blkqueue_lost(q);
    if (waiting > 0)
        return waiting;
    if (q->hushed && on_ring(q) == 0)
        queue_let_go(&q->queue);
    else /* a sleeper is not asked before the connection ends */
        queue_rest(&q->queue, on_ring(q));
    return 0;

bad_index:
    caught(q, BLKQUEUE_BAD_INDEX);
    return (int)blkqueue_lost(q);
storm:
    caught(q, BLKQUEUE_STORM);
    return (int)blkqueue_lost(q);
}

int blkqueue_wait(struct blkqueue *q, int timeout_ms)
{
    return blkqueue_idle(q) > 0 ? 1 : queue_sleep(&q->queue, timeout_ms);
}

/* ----------------------------------------------------------- made and ended */

static void free_all(struct blkqueue *q)
{
    for (uint32_t i = 0; i < q->slots; i++) {
        q->shadow[i] = (struct blkqueue_shadow){ .id = BLKQUEUE_FREE_ID };
        q->slot[i] = (uint16_t)(q->slots - 1 - i);
    }
    q->free_slots = q->slots;
    q->inflight = q->lost = q->poisoned = 0;
}

void blkqueue_drop(struct blkqueue *q)
{
    free_all(q);
    queue_rest(&q->queue, 0);
}

uint32_t blkqueue_slots(uint32_t ring_pages)
{
    return ring_slots((size_t)ring_pages * HYP_PAGE_SIZE, sizeof(struct blkif_request));
}

int blkqueue_init(struct blkqueue *q, struct hyp_pool *grants, const struct blkqueue_place *place,
                  const struct blkqueue_terms *terms, int control_fd)
{
    *q = (struct blkqueue){ .terms = terms, .slots = blkqueue_slots(place->ring_pages),
                            .ring_page = place->ring_page, .ring_pages = place->ring_pages,
                            .desc_page = place->desc_page, .data_page = place->data_page,
                            .max_deaths = BLKQUEUE_DEATHS };
    q->data = (uint8_t *)hyp_pool_base(grants) + (size_t)place->data_page * HYP_PAGE_SIZE;
    q->data_bytes = (size_t)place->data_pages * HYP_PAGE_SIZE;
    int err = queue_init(&q->queue, grants, control_fd);
    q->shadow = aligned_alloc(64, q->slots * sizeof(*q->shadow));
    q->slot = calloc(q->slots, sizeof(*q->slot));
    if (!err && (!q->shadow || !q->slot))
        err = -ENOMEM;
    if (!err)
        err = blkpool_init(&q->pool, q->data, place->data_pages);
    if (err) {
        blkqueue_destroy(q);
        return err;
    }
    free_all(q);
    return 0;
}

void blkqueue_destroy(struct blkqueue *q)
{
    blkpool_destroy(&q->pool);
    free(q->slot);
    free(q->shadow);
    free(q->since);
    q->since = NULL;
    q->slot = NULL;
    q->shadow = NULL;
    queue_destroy(&q->queue);
}

int blkqueue_attach(struct blkqueue *q, struct hyp_evtchn *channel)
{
    int err = queue_attach(&q->queue, &channel, 1);
    uint8_t *pool = hyp_pool_base(q->queue.grants);
    if (err)
        return err;
    ring_front_init(&q->ring, pool + (size_t)q->ring_page * HYP_PAGE_SIZE,
                    (size_t)q->ring_pages * HYP_PAGE_SIZE, sizeof(struct blkif_request));
    q->queue.answered = &q->ring.shared->rsp_prod;
    q->epoch++;
    return 0;
}

int blkqueue_limit(struct blkqueue *q, uint32_t ms)
{
    q->since = calloc(q->slots, sizeof(*q->since));
    if (!q->since)
        return -ENOMEM;
    q->limit_ms = ms;
    return 0;
}

void blkqueue_fenced(struct blkqueue *q)
{
    __atomic_store_n(&q->fenced, q->epoch, __ATOMIC_RELEASE);
}

void *blkqueue_alloc(struct blkqueue *q, size_t bytes)
{
    if (q->pool.held > 0)
        blkqueue_unhold(q);
    return blkpool_alloc(&q->pool, bytes);
}
