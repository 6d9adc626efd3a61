/* SPDX-License-Identifier: MIT */
#include "blkqueue.h"

#include <errno.h>
#include <stdlib.h>

#define SLOT_BITS 16u /* of an id; the rest is the sequence number */
#define SLOTS_MAX (BLK_MAX_RING_PAGES * HYP_PAGE_SIZE / sizeof(struct blkif_request))

_Static_assert(sizeof(struct blkqueue_shadow) <= 64, "one cache line");
_Static_assert(BLK_MAX_INDIRECT_SEGMENTS <= BLK_INDIRECT_PER_PAGE, "one descriptor page a slot");

static const char *const lie_names[BLKQUEUE_LIES] = {
    [BLKQUEUE_BAD_INDEX] = "more responses than requests",
    [BLKQUEUE_BAD_ID] = "a response to no request in flight",
    [BLKQUEUE_BAD_OPERATION] = "a response with another operation than was asked",
    [BLKQUEUE_BAD_STATUS] = "a response with a status that is none",
    [BLKQUEUE_STORM] = "doorbells without responses",
};

/* Nothing in flight: the owner lets go. */
static inline void settle(struct blkqueue *q)
{
    if (q->inflight == 0)
        queue_rest(&q->queue);
}

/* The connection is over, what was in flight is not. */
static void caught(struct blkqueue *q, enum blkqueue_lie lie)
{
    queue_count(&q->counters.lies[lie], 1);
    queue_caught(&q->queue, lie_names[lie]);
    queue_rest(&q->queue);
}

/* ----------------------------------------------------------- what is asked */

struct shape {
    uint32_t first_page; /* of the data pages */
    uint32_t segments;
};

static inline struct shape shape_of(const struct blkqueue *q, const struct blkfront_io *io)
{
    size_t at = (size_t)((uint8_t *)io->buf - q->data);
    uint32_t first = (uint32_t)(at >> HYP_PAGE_SHIFT);
    uint32_t last = (uint32_t)((at + io->bytes - 1) >> HYP_PAGE_SHIFT);
    return (struct shape){ first, last - first + 1 };
}

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
    return shape_of(q, io).segments > t->max_segments ? -EMSGSIZE : 0;
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

/* -------------------------------------------------------------- on the ring */

/* The only place that knows where grant references come from. */
static inline grant_ref_t grant_of(const struct blkqueue *q, uint32_t page)
{
    return hyp_pool_ref(q->queue.grants, page);
}

/* One page of a request. All eight bytes are set: what was on our stack must not
 * reach the ring. */
static inline void describe(const struct blkqueue *q, uint32_t data_page, uint8_t first_sect,
                            uint8_t last_sect, struct blkif_request_segment *seg)
{
    struct blkif_request_segment whole;
    memset(&whole, 0, sizeof(whole));
    whole.gref = grant_of(q, q->data_page + data_page);
    whole.first_sect = first_sect;
    whole.last_sect = last_sect;
    memcpy(seg, &whole, sizeof(whole));
}

/* All pages of a request. */
static inline void describe_all(const struct blkqueue *q, const struct blkfront_io *io, struct shape shape,
                                struct blkif_request_segment *seg)
{
    size_t at = (size_t)((uint8_t *)io->buf - q->data);
    uint8_t first_sect = (uint8_t)((at & (HYP_PAGE_SIZE - 1)) >> BLK_SECTOR_SHIFT);
    uint8_t last_sect = (uint8_t)(((at + io->bytes - 1) & (HYP_PAGE_SIZE - 1)) >> BLK_SECTOR_SHIFT);
    for (uint32_t i = 0; i < shape.segments; i++)
        describe(q, shape.first_page + i, i == 0 ? first_sect : 0,
                 i == shape.segments - 1 ? last_sect : BLK_PAGE_SECTORS - 1, &seg[i]);
}

static inline void put_direct(struct blkqueue *q, struct blkqueue_shadow *s, struct shape shape)
{
    const size_t head = offsetof(struct blkif_request, seg);
    struct blkif_request req;
    memset(&req, 0, head);
    req.operation = s->operation = s->inner;
    req.nr_segments = (uint8_t)shape.segments;
    req.handle = q->terms->handle;
    req.id = s->id;
    req.sector_number = s->io.offset >> BLK_SECTOR_SHIFT;
    describe_all(q, &s->io, shape, req.seg);
    if (shape.segments == 1) /* most are; a copy of known length is a few moves */
        ring_front_put_request(&q->ring, &req, head + sizeof(req.seg[0]));
    else
        ring_front_put_request(&q->ring, &req, head + shape.segments * sizeof(req.seg[0]));
}

static void put_indirect(struct blkqueue *q, struct blkqueue_shadow *s, struct shape shape)
{
    struct blkif_request_segment seg[BLK_MAX_INDIRECT_SEGMENTS];
    uint32_t desc = q->desc_page + (uint32_t)(s - q->shadow);
    describe_all(q, &s->io, shape, seg);
    shared_write((uint8_t *)hyp_pool_base(q->queue.grants) + (size_t)desc * HYP_PAGE_SIZE, seg,
                 shape.segments * sizeof(seg[0]));

    struct blkif_request_indirect req;
    memset(&req, 0, sizeof(req));
    req.operation = s->operation = BLKIF_OP_INDIRECT;
    req.indirect_op = s->inner;
    req.nr_segments = (uint16_t)shape.segments;
    req.handle = q->terms->handle;
    req.id = s->id;
    req.sector_number = s->io.offset >> BLK_SECTOR_SHIFT;
    req.indirect_grefs[0] = grant_of(q, desc);
    ring_front_put_request(&q->ring, &req, sizeof(req));
}

static void put_range(struct blkqueue *q, struct blkqueue_shadow *s)
{
    struct blkif_request_discard req;
    memset(&req, 0, sizeof(req));
    req.operation = s->operation = s->inner;
    if (s->io.op == BLKFRONT_ZEROES && s->io.flags & BLKFRONT_MAY_UNMAP)
        req.flag = BLK_ZEROES_MAY_UNMAP;
    req.handle = q->terms->handle;
    req.id = s->id;
    req.sector_number = s->io.offset >> BLK_SECTOR_SHIFT;
    req.nr_sectors = s->io.length >> BLK_SECTOR_SHIFT;
    ring_front_put_request(&q->ring, &req, sizeof(req));
}

static void put_flush(struct blkqueue *q, struct blkqueue_shadow *s)
{
    struct blkif_request req;
    memset(&req, 0, offsetof(struct blkif_request, seg));
    req.operation = s->operation = s->inner = BLKIF_OP_FLUSH_DISKCACHE;
    req.handle = q->terms->handle;
    req.id = s->id;
    ring_front_put_request(&q->ring, &req, offsetof(struct blkif_request, seg));
}

/* Every sending has an id of its own. */
static inline void name_request(struct blkqueue *q, struct blkqueue_shadow *s)
{
    s->id = ++q->sequence << SLOT_BITS | (uint64_t)(s - q->shadow);
}

/* Puts a checked request on the ring, from its shadow alone. A call would be felt. */
__attribute__((always_inline)) static inline void put(struct blkqueue *q, struct blkqueue_shadow *s)
{
    static const uint8_t operations[] = {
        [BLKFRONT_READ] = BLKIF_OP_READ,       [BLKFRONT_WRITE] = BLKIF_OP_WRITE,
        [BLKFRONT_FLUSH] = BLKIF_OP_FLUSH_DISKCACHE, [BLKFRONT_DISCARD] = BLKIF_OP_DISCARD,
        [BLKFRONT_ZEROES] = BLK_OP_WRITE_ZEROES,
    };
    name_request(q, s);
    s->inner = operations[s->io.op];
    s->then_flush = 0;
    if (s->io.op == BLKFRONT_FLUSH) {
        put_flush(q, s);
        return;
    }
    if (s->io.op == BLKFRONT_DISCARD || s->io.op == BLKFRONT_ZEROES) {
        put_range(q, s);
        return;
    }
    if (s->io.op == BLKFRONT_WRITE && s->io.flags & BLKFRONT_FUA) {
        if (q->terms->native_fua)
            s->inner = BLK_OP_WRITE_FUA;
        else
            s->then_flush = 1;
    }
    struct shape shape = shape_of(q, &s->io);
    if (shape.segments <= BLKIF_MAX_SEGMENTS_PER_REQUEST)
        put_direct(q, s, shape);
    else
        put_indirect(q, s, shape);
}

static inline void push(struct blkqueue *q)
{
    if (ring_front_push(&q->ring))
        queue_ring(&q->queue, 0);
}

/* ------------------------------------------------------------------- replay */

/* All that is not answered, in the order of its issue; returns how many. */
static uint32_t in_order(const struct blkqueue *q, uint16_t slot[SLOTS_MAX])
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < q->slots; i++) {
        const struct blkqueue_shadow *s = &q->shadow[i];
        if (s->id == BLKQUEUE_FREE_ID || s->id == BLKQUEUE_POISONED_ID)
            continue;
        uint32_t at = n++;
        for (; at > 0 && q->shadow[slot[at - 1]].order > s->order; at--)
            slot[at] = slot[at - 1];
        slot[at] = (uint16_t)i;
    }
    return n;
}

/* A new connection, behind the fence: all is sent again, but for what was sent in
 * too many that ended.  Nothing touches the block or the buffer of that any more. */
static void replay(struct blkqueue *q)
{
    uint16_t slot[SLOTS_MAX];
    uint32_t n = in_order(q, slot), poisoned = q->poisoned, replayed = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct blkqueue_shadow *s = &q->shadow[slot[i]];
        if (s->sent && ++s->deaths >= q->max_deaths) {
            s->id = BLKQUEUE_POISONED_ID;
            q->poisoned++;
            continue;
        }
        replayed += s->sent;
        s->sent = true;
        put(q, s);
    }
    q->seen = q->epoch;
    queue_count(&q->counters.replayed, replayed);
    queue_count(&q->counters.poisoned, q->poisoned - poisoned);
    push(q);
}

/* Out of rest, or there is no connection: then the control thread need not wait. */
static bool take_over(struct blkqueue *q)
{
    if (!queue_take(&q->queue)) {
        queue_rest(&q->queue);
        return false;
    }
    if (q->seen != q->epoch)
        replay(q);
    return true;
}

/* The owner takes the ring; false: there is no connection. */
static inline bool take(struct blkqueue *q)
{
    return queue_state(&q->queue) == QUEUE_BUSY || take_over(q);
}

/* ---------------------------------------------------------------- what goes */

int blkqueue_submit(struct blkqueue *q, const struct blkfront_io *ios, unsigned n)
{
    if (n == 0)
        return 0;
    bool connected = take(q);
    if (!connected && queue_gone(&q->queue))
        return -ENOTCONN;
    unsigned taken = 0;
    uint64_t bytes = 0;
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
        q->inflight++;
        if (s->io.op == BLKFRONT_READ || s->io.op == BLKFRONT_WRITE)
            bytes += s->io.bytes;
    }
    if (taken > 0) {
        queue_count(&q->counters.requests, taken);
        queue_count(&q->counters.bytes, bytes);
        if (connected)
            push(q);
        return (int)taken;
    }
    settle(q);
    return err;
}

/* --------------------------------------------------------------- what comes */

/* The request is over; its slot may be used again. */
static inline struct blkfront_result finish(struct blkqueue *q, struct blkqueue_shadow *s, int error)
{
    s->id = BLKQUEUE_FREE_ID;
    q->slot[q->free_slots++] = (uint16_t)(s - q->shadow);
    q->inflight--;
    if (error)
        queue_count(&q->counters.errors, 1);
    return (struct blkfront_result){ .cookie = s->io.cookie, .error = error };
}

/* What will not be answered: poisoned requests, or all when nothing comes back. */
static unsigned reap_lost(struct blkqueue *q, struct blkfront_result *out, unsigned n)
{
    unsigned got = 0;
    bool gone = queue_gone(&q->queue);
    for (; got < n && (gone ? q->inflight : q->poisoned) > 0; q->lost_slot = (q->lost_slot + 1) % q->slots) {
        struct blkqueue_shadow *s = &q->shadow[q->lost_slot];
        if (s->id == BLKQUEUE_POISONED_ID) {
            q->poisoned--;
            out[got++] = finish(q, s, -EIO);
        } else if (gone && s->id != BLKQUEUE_FREE_ID) {
            out[got++] = finish(q, s, -ENOTCONN);
        }
    }
    return got;
}

/* Stock backends answer an indirect request with the operation inside it. */
static inline bool answers(const struct blkqueue_shadow *s, uint8_t operation)
{
    return operation == s->operation || operation == s->inner;
}

int blkqueue_reap(struct blkqueue *q, struct blkfront_result *out, unsigned n)
{
    if (q->inflight == 0 || n == 0)
        return 0;
    if (!take(q))
        return (int)reap_lost(q, out, n);
    unsigned got = q->poisoned > 0 ? reap_lost(q, out, n) : 0;
    enum blkqueue_lie lie;
    int waiting = ring_front_waiting(&q->ring);
    if (waiting == RING_LIES)
        goto bad_index;
    if (waiting > 0)
        q->queue.idle_rings = 0;
    for (; waiting > 0 && got < n; waiting--) {
        struct blkif_response rsp;
        ring_front_copy_response(&q->ring, &rsp, sizeof(rsp));
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
        out[got++] = finish(q, s, error);
    }
    push(q);
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
    if (!take(q))
        return (int)(queue_gone(&q->queue) ? q->inflight : q->poisoned);
    bool rung = queue_take_rings(&q->queue);
    int waiting = ring_front_idle(&q->ring);
    if (waiting == RING_LIES)
        goto bad_index;
    if (waiting == 0 && rung && queue_storm(&q->queue))
        goto storm;
    waiting += (int)q->poisoned;
    if (waiting == 0) /* a sleeper is not asked before the connection ends */
        queue_rest(&q->queue);
    return waiting;

bad_index:
    caught(q, BLKQUEUE_BAD_INDEX);
    return (int)q->poisoned;
storm:
    caught(q, BLKQUEUE_STORM);
    return (int)q->poisoned;
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
    q->inflight = q->poisoned = 0;
}

void blkqueue_drop(struct blkqueue *q)
{
    free_all(q);
    queue_rest(&q->queue);
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
    q->epoch++;
    return 0;
}
