/* SPDX-License-Identifier: MIT */
/*
 * test_blk.h - a scripted block frontend against one queue of the backend,
 * over the fake hypervisor.  Included by the tests of backends/blk.
 *
 * The frontend is as honest or as hostile as its test wants: it writes slots,
 * indices and pages itself.
 */
#ifndef BULKHEAD_TEST_BLK_H
#define BULKHEAD_TEST_BLK_H

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../backends/blk/sched.h"
#include "../../backends/blk/uring.h"
#include "../fake_hyp.h"

#define FRONT_DOMID 3
#define BACK_DOMID  2
#define DATA_PAGES  600u
#define DISK_BYTES  (8u << 20)
#define QUIET_TURNS 50000000u

struct rig_options {
    enum blk_grants grants;
    unsigned order;              /* of the ring                                    */
    uint32_t weight;             /* 0: 100                                         */
    uint32_t sector_bytes;       /* 0: 512                                         */
    bool readonly, bare;         /* bare: no discard, zeroes, FUA                  */
    struct blkdev *device;       /* NULL: a ram disk                               */
};

struct rig {
    struct hyp *front_hyp, *back_hyp;
    struct hyp_pool *pool;       /* ring pages, then data pages                    */
    unsigned ring_pages;
    struct ring_front ring;
    struct hyp_evtchn *front_ch, *back_ch;
    struct hyp_map *map;
    void *back_ring;
    struct blk_disk disk;
    struct blk_queue *q;
    struct blk_sched *sched;
    struct uring *uring;         /* NULL: none                                     */
};

/* One scheduler for each binary; several rigs may share it. */
static struct blk_sched rig_sched;

static inline void *rig_page(struct rig *r, unsigned page)
{
    return (uint8_t *)hyp_pool_base(r->pool) + (size_t)(r->ring_pages + page) * HYP_PAGE_SIZE;
}

static inline grant_ref_t rig_ref(struct rig *r, unsigned page)
{
    return hyp_pool_ref(r->pool, r->ring_pages + page);
}

static inline void rig_open_between(struct rig *r, const struct rig_options *opt, struct hyp *front,
                                    struct hyp *back)
{
    grant_ref_t refs[BLK_MAX_RING_PAGES];

    memset(r, 0, sizeof(*r));
    r->front_hyp = front;
    r->back_hyp = back;
    r->ring_pages = 1u << opt->order;
    assert_int_equal(hyp_pool_create(front, BACK_DOMID, r->ring_pages + DATA_PAGES, 0, &r->pool), 0);
    size_t bytes = (size_t)r->ring_pages * HYP_PAGE_SIZE;
    assert_true(ring_front_init(&r->ring, hyp_pool_base(r->pool), bytes, sizeof(struct blkif_request)));
    assert_int_equal(hyp_evtchn_alloc(front, BACK_DOMID, &r->front_ch), 0);
    assert_int_equal(hyp_evtchn_bind(back, hyp_domid(front), hyp_evtchn_port(r->front_ch), &r->back_ch), 0);
    assert_int_equal(hyp_map_open(back, hyp_domid(front), &r->map), 0);
    for (unsigned i = 0; i < r->ring_pages; i++)
        refs[i] = hyp_pool_ref(r->pool, i);
    assert_int_equal(hyp_map_grants(r->map, refs, r->ring_pages, 0, &r->back_ring), 0);

    r->disk.kind = BLK_DISK_RAM;
    ram_geometry(DISK_BYTES, opt->readonly, &r->disk.geo);
    if (opt->sector_bytes)
        r->disk.geo.sector_bytes = opt->sector_bytes;
    if (opt->bare) {
        r->disk.geo.discard_granularity = 0;
        r->disk.geo.fua = r->disk.geo.zeroes = false;
    }
    if (!opt->device)
        assert_int_equal(ram_alloc(DISK_BYTES, &r->disk.ram), 0);
    const struct blk_queue_config cfg = { .ring = r->back_ring, .ring_bytes = bytes, .map = r->map,
                                          .evtchn = r->back_ch, .grants = opt->grants,
                                          .weight = opt->weight ? opt->weight : 100, .disk = &r->disk };
    assert_int_equal(blk_queue_create(&r->q, &cfg), 0);
    r->sched = &rig_sched;
    if (opt->device)
        blk_queue_use(r->q, opt->device);
    else
        assert_int_equal(blk_queue_open(r->q, NULL, &r->sched->done), 0);
    assert_int_equal(blk_sched_add(r->sched, r->q), 0);
}

static inline void rig_open(struct rig *r, const struct rig_options *opt)
{
    blk_sched_init(&rig_sched);
    rig_open_between(r, opt, fake_hyp_new(FRONT_DOMID), fake_hyp_new(BACK_DOMID));
}

/* Everything but the two handles. Nothing may be in flight. */
static inline void rig_close_queue(struct rig *r)
{
    assert_true(blk_queue_drain(r->q));
    blk_sched_remove(r->sched, r->q);
    blk_queue_close(r->q);
    blk_queue_destroy(r->q);
    hyp_evtchn_close(r->back_ch);
    hyp_unmap_grants(r->map, r->back_ring, r->ring_pages);
    hyp_map_close(r->map);
    if (r->disk.ram)
        ram_free(r->disk.ram, DISK_BYTES);
    hyp_evtchn_close(r->front_ch);
    assert_int_equal(hyp_pool_end(r->pool), 0);
}

static inline void rig_close(struct rig *r)
{
    rig_close_queue(r);
    hyp_close(r->front_hyp);
    hyp_close(r->back_hyp);
    assert_int_equal(fake_hyp_reset(), 0);
}

static inline void rig_put(struct rig *r, const void *request)
{
    assert_true(ring_front_free(&r->ring) > 0);
    ring_front_put_request(&r->ring, request, sizeof(struct blkif_request));
}

/* Serves until nothing moves. */
static inline void rig_serve(struct rig *r)
{
    ring_front_push(&r->ring);
    for (unsigned i = 0; i < QUIET_TURNS; i++) {
        bool work = blk_sched_turn(r->sched);
        if (r->uring) {
            uring_turn(r->uring);
            work |= r->uring->inflight > 0;
        }
        work |= blk_sched_answer(r->sched);
        if (!work)
            return;
    }
    fail_msg("the queue never came to rest");
}

static inline bool rig_take(struct rig *r, struct blkif_response *out)
{
    int n = ring_front_waiting(&r->ring);
    assert_true(n >= 0);
    if (n == 0)
        return false;
    ring_front_copy_response(&r->ring, out, sizeof(*out));
    return true;
}

/* Puts one request, serves, and expects exactly one answer to it. */
static inline int16_t rig_ask(struct rig *r, const void *request)
{
    struct blkif_response rsp = { 0 }, extra;
    const struct blkif_request *rq = request;
    rig_put(r, request);
    rig_serve(r);
    assert_true(rig_take(r, &rsp));
    assert_int_equal(rsp.id, rq->id);
    assert_false(rig_take(r, &extra));
    return rsp.status;
}

/* A direct request over consecutive data pages, whole pages. */
static inline struct blkif_request rig_rw(struct rig *r, uint8_t op, uint64_t sector, unsigned page,
                                          unsigned n)
{
    static uint64_t next_id = 0x1122334455667788;
    struct blkif_request rq = { .operation = op, .nr_segments = (uint8_t)n, .id = next_id++,
                                .sector_number = sector };
    for (unsigned i = 0; i < n && i < BLKIF_MAX_SEGMENTS_PER_REQUEST; i++)
        rq.seg[i] = (struct blkif_request_segment){ .gref = rig_ref(r, page + i), .last_sect = 7 };
    return rq;
}

static inline struct blkif_request_discard rig_range(uint8_t op, uint8_t flag, uint64_t sector, uint64_t n)
{
    return (struct blkif_request_discard){ .operation = op, .flag = flag, .id = 77, .sector_number = sector,
                                           .nr_sectors = n };
}

/* An indirect request whose segments lie in data page `list`. */
static inline struct blkif_request_indirect rig_indirect(struct rig *r, uint8_t op, uint64_t sector,
                                                         unsigned list, unsigned n)
{
    struct blkif_request_indirect rq = { .operation = BLKIF_OP_INDIRECT, .indirect_op = op,
                                         .nr_segments = (uint16_t)n, .id = 4242, .sector_number = sector };
    rq.indirect_grefs[0] = rig_ref(r, list);
    return rq;
}

/* rig_put() copies a whole slot; the shorter layouts need the room. */
#define RIG_SLOT(var) ((const void *)&(union { __typeof__(var) v; struct blkif_request slot; }){ .v = (var) })

static inline void rig_fill(void *at, size_t bytes, unsigned seed)
{
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < bytes; i++) {
        x = x * 1664525u + 1013904223u;
        ((uint8_t *)at)[i] = (uint8_t)(x >> 24);
    }
}

#endif
