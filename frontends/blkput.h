/* SPDX-License-Identifier: MIT */
/*
 * blkput.h - how a request gets on a disk's ring: what blkqueue.c sends first and
 * blkreplay.c sends again.
 */
#ifndef BULKHEAD_BLKPUT_H
#define BULKHEAD_BLKPUT_H

#include "blkqueue.h"

#define SLOT_BITS 16u /* of an id; the rest is the sequence number */

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

static inline void put_indirect(struct blkqueue *q, struct blkqueue_shadow *s, struct shape shape)
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

static inline void put_range(struct blkqueue *q, struct blkqueue_shadow *s)
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

static inline void put_flush(struct blkqueue *q, struct blkqueue_shadow *s)
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
        if (__atomic_load_n(&q->terms->native_fua, __ATOMIC_RELAXED))
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

/* Requests on the ring, answered or not. */
static inline uint32_t on_ring(const struct blkqueue *q)
{
    return q->ring.req_prod - q->ring.rsp_cons;
}

/* The request is over; its slot may be used again. */
static inline struct blkfront_result blkqueue_finish(struct blkqueue *q, struct blkqueue_shadow *s, int error)
{
    s->id = BLKQUEUE_FREE_ID;
    q->slot[q->free_slots++] = (uint16_t)(s - q->shadow);
    q->inflight--;
    if (error)
        queue_count(&q->counters.errors, 1);
    return (struct blkfront_result){ .cookie = s->io.cookie, .error = error };
}

#endif
