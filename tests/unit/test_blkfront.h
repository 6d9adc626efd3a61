/* SPDX-License-Identifier: MIT */
/*
 * test_blkfront.h - one queue of the frontend and a backend that does as told,
 * on the fake hypervisor.
 */
#ifndef BULKHEAD_TEST_BLKFRONT_H
#define BULKHEAD_TEST_BLKFRONT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../../frontends/queue.h"
#include "../fake_hyp.h"

/* The same numbers in every run. */
static inline uint32_t rig_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

#define RIG_FRONT 5
#define RIG_BACK  3

struct rig {
    struct hyp *front, *back;
    struct hyp_pool *pool;
    struct hyp_map *map;
    struct blkqueue_terms terms;
    struct blkqueue q;
    int control_fd;
    struct hyp_evtchn *doorbell; /* the backend's end */
    void *ring_va;
    uint32_t ring_pages, slots, data_pages;
    struct ring_back ring;
};

static inline void rig_attach(struct rig *r)
{
    struct hyp_evtchn *channel;
    assert_int_equal(hyp_evtchn_alloc(r->front, RIG_BACK, &channel), 0);
    assert_int_equal(blkqueue_attach(&r->q, channel), 0);
    assert_int_equal(hyp_evtchn_bind(r->back, RIG_FRONT, hyp_evtchn_port(channel), &r->doorbell), 0);
    grant_ref_t refs[BLK_MAX_RING_PAGES];
    for (uint32_t i = 0; i < r->ring_pages; i++)
        refs[i] = hyp_pool_ref(r->pool, i);
    assert_int_equal(hyp_map_grants(r->map, refs, r->ring_pages, 0, &r->ring_va), 0);
    assert_true(ring_back_attach(&r->ring, r->ring_va, r->ring_pages * HYP_PAGE_SIZE,
                                 sizeof(struct blkif_request)));
}

static inline void rig_detach(struct rig *r)
{
    assert_int_equal(hyp_unmap_grants(r->map, r->ring_va, r->ring_pages), 0);
    hyp_evtchn_close(r->doorbell);
    blkqueue_detach(&r->q);
}

/* Connected, with every operation, 1 MiB requests and a disk of 1 GiB. */
static inline void rig_up(struct rig *r, uint32_t ring_pages, uint32_t data_pages)
{
    memset(r, 0, sizeof(*r));
    r->ring_pages = ring_pages;
    r->data_pages = data_pages;
    r->slots = blkqueue_slots(ring_pages);
    r->front = fake_hyp_new(RIG_FRONT);
    r->back = fake_hyp_new(RIG_BACK);
    r->control_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_true(r->control_fd >= 0);
    r->terms = (struct blkqueue_terms){ .disk_bytes = 1ull << 30, .sector_bytes = 512,
                                        .max_segments = BLK_MAX_INDIRECT_SEGMENTS, .handle = 51712 & 0xffff,
                                        .can_flush = true, .native_fua = true, .can_discard = true,
                                        .can_zeroes = true };
    if (data_pages < r->terms.max_segments)
        r->terms.max_segments = data_pages;
    assert_int_equal(hyp_pool_create(r->front, RIG_BACK, ring_pages + r->slots + data_pages, 0, &r->pool), 0);
    struct blkqueue_place place = { .ring_page = 0, .ring_pages = ring_pages, .desc_page = ring_pages,
                                    .data_page = ring_pages + r->slots, .data_pages = data_pages };
    assert_int_equal(blkqueue_init(&r->q, r->pool, &place, &r->terms, r->control_fd), 0);
    assert_int_equal(hyp_map_open(r->back, RIG_FRONT, &r->map), 0);
    rig_attach(r);
    blkqueue_start(&r->q);
}

static inline void rig_down(struct rig *r)
{
    struct blkfront_result sink[64];
    blkqueue_stop(&r->q);
    while (blkqueue_reap(&r->q, sink, 64) > 0)
        ;
    assert_true(blkqueue_drained(&r->q));
    rig_detach(r);
    hyp_map_close(r->map);
    blkqueue_destroy(&r->q);
    assert_int_equal(hyp_pool_end(r->pool), 0);
    close(r->control_fd);
    hyp_close(r->front);
    hyp_close(r->back);
    assert_int_equal(fake_hyp_reset(), 0);
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

static inline bool rig_readable(const struct rig *r)
{
    struct pollfd p = { .fd = r->q.epoll_fd, .events = POLLIN };
    return poll(&p, 1, 0) == 1;
}

/* The control thread was called. */
static inline bool rig_control_called(struct rig *r)
{
    uint64_t n;
    return read(r->control_fd, &n, sizeof(n)) == sizeof(n);
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
