/* SPDX-License-Identifier: MIT */
/*
 * test_blkfront.h - one queue of the frontend and a backend that does as told,
 * on the fake hypervisor.
 */
#ifndef BULKHEAD_TEST_BLKFRONT_H
#define BULKHEAD_TEST_BLKFRONT_H

#include "test_front.h"

#include "../../frontends/blkqueue.h"

struct rig {
    struct sides sides;
    struct blkqueue_terms terms;
    struct blkqueue q;
    struct hyp_evtchn *doorbell; /* the backend's end */
    void *ring_va;
    uint32_t ring_pages, slots, data_pages;
    struct ring_back ring;
};

static inline void rig_attach(struct rig *r)
{
    struct hyp_evtchn *channel = sides_channel(&r->sides);
    assert_int_equal(blkqueue_attach(&r->q, channel), 0);
    r->doorbell = sides_bind(&r->sides, channel);
    grant_ref_t refs[BLK_MAX_RING_PAGES];
    for (uint32_t i = 0; i < r->ring_pages; i++)
        refs[i] = hyp_pool_ref(r->sides.pool, i);
    assert_int_equal(hyp_map_grants(r->sides.map, refs, r->ring_pages, 0, &r->ring_va), 0);
    assert_true(ring_back_attach(&r->ring, r->ring_va, r->ring_pages * HYP_PAGE_SIZE,
                                 sizeof(struct blkif_request)));
}

static inline void rig_detach(struct rig *r)
{
    assert_int_equal(hyp_unmap_grants(r->sides.map, r->ring_va, r->ring_pages), 0);
    hyp_evtchn_close(r->doorbell);
    queue_detach(&r->q.queue);
}

/* Connected, with every operation, 1 MiB requests and a disk of 1 GiB. */
static inline void rig_up(struct rig *r, uint32_t ring_pages, uint32_t data_pages)
{
    memset(r, 0, sizeof(*r));
    r->ring_pages = ring_pages;
    r->data_pages = data_pages;
    r->slots = blkqueue_slots(ring_pages);
    r->terms = (struct blkqueue_terms){ .disk_bytes = 1ull << 30, .sector_bytes = 512,
                                        .max_segments = BLK_MAX_INDIRECT_SEGMENTS, .handle = 51712 & 0xffff,
                                        .can_flush = true, .can_fua = true, .native_fua = true,
                                        .can_discard = true, .can_zeroes = true };
    if (data_pages < r->terms.max_segments)
        r->terms.max_segments = data_pages;
    sides_up(&r->sides, ring_pages + r->slots + data_pages);
    struct blkqueue_place place = { .ring_page = 0, .ring_pages = ring_pages, .desc_page = ring_pages,
                                    .data_page = ring_pages + r->slots, .data_pages = data_pages };
    assert_int_equal(blkqueue_init(&r->q, r->sides.pool, &place, &r->terms, r->sides.control_fd), 0);
    rig_attach(r);
    blkqueue_fenced(&r->q);
    r->q.queue.watched = 1; /* nobody looks for stalls here */
    queue_start(&r->q.queue);
}

static inline void rig_down(struct rig *r)
{
    queue_stop(&r->q.queue);
    blkqueue_drop(&r->q);
    assert_true(queue_drained(&r->q.queue));
    rig_detach(r);
    blkqueue_destroy(&r->q);
    sides_down(&r->sides);
}

/* The connection ends; its owner looks, and hears of nothing. */
static inline void rig_die(struct rig *r)
{
    struct blkfront_result out[1];
    queue_stop(&r->q.queue);
    assert_int_equal(blkqueue_reap(&r->q, out, 1), 0);
    assert_int_equal(blkqueue_idle(&r->q), 0);
    assert_true(queue_drained(&r->q.queue));
    rig_detach(r);
}

/* The control thread has a new one, which its owner has yet to see; behind the fence. */
static inline void rig_reborn(struct rig *r)
{
    rig_attach(r);
    blkqueue_fenced(&r->q);
    queue_start(&r->q.queue);
    queue_kick(&r->q.queue);
}

/* The backend takes the next request. */
static inline void rig_take(struct rig *r, struct blkif_request *req)
{
    assert_true(ring_back_waiting(&r->ring) > 0);
    ring_back_copy_request(&r->ring, req);
}

static inline void rig_respond(struct rig *r, uint64_t id, uint8_t operation, int16_t status)
{
    struct blkif_response rsp = { 0 };
    memset(&rsp, 0, sizeof(rsp));
    rsp.id = id;
    rsp.operation = operation;
    rsp.status = status;
    ring_back_put_response(&r->ring, &rsp, sizeof(rsp));
    if (ring_back_push(&r->ring))
        hyp_evtchn_notify(r->doorbell);
}

/* Takes one request and answers it truthfully. */
static inline struct blkif_request rig_serve(struct rig *r, int16_t status)
{
    struct blkif_request req;
    rig_take(r, &req);
    uint64_t id = req.id;
    rig_respond(r, id, req.operation, status);
    return req;
}

static inline void *rig_page(struct rig *r, uint32_t page)
{
    return r->q.data + (size_t)page * HYP_PAGE_SIZE;
}

static inline struct blkfront_io rig_io(struct rig *r, enum blkfront_op op, uint64_t cookie)
{
    return (struct blkfront_io){ .op = (uint8_t)op, .cookie = cookie, .bytes = 4096, .length = 4096,
                                 .offset = 8192, .buf = rig_page(r, 0) };
}

static inline int rig_submit(struct rig *r, struct blkfront_io io)
{
    return blkqueue_submit(&r->q, &io, 1);
}

/* Exactly one result, with that cookie and error, and nothing in flight. */
static inline void rig_expect(struct rig *r, uint64_t cookie, int error)
{
    struct blkfront_result out[2];
    assert_int_equal(blkqueue_reap(&r->q, out, 2), 1);
    assert_int_equal(out[0].cookie, cookie);
    assert_int_equal(out[0].error, error);
    assert_int_equal(r->q.inflight, 0);
    assert_int_equal(blkqueue_reap(&r->q, out, 2), 0);
}

#endif
