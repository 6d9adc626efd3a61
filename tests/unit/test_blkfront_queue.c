/* SPDX-License-Identifier: MIT */
/* Requests, results and sleeping of one queue: frontends/blkqueue.c */
#include "test_blkfront.h"

static struct rig r;

static int up(void **state)
{
    (void)state;
    rig_up(&r, 1, 64);
    return 0;
}

static int up_large(void **state)
{
    (void)state;
    rig_up(&r, 4, 1024);
    return 0;
}

static int down(void **state)
{
    (void)state;
    rig_down(&r);
    return 0;
}

/* ------------------------------------------------------- what the ring says */

static void test_read_and_write_are_described_to_the_byte(void **state)
{
    (void)state;
    static const struct { enum blkfront_op op; uint8_t flags, wire; } kinds[] = {
        { BLKFRONT_READ, 0, BLKIF_OP_READ },
        { BLKFRONT_WRITE, 0, BLKIF_OP_WRITE },
        { BLKFRONT_WRITE, BLKFRONT_FUA, BLK_OP_WRITE_FUA },
    };
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        struct blkfront_io io = rig_io(&r, kinds[k].op, 77 + k);
        io.flags = kinds[k].flags;
        io.buf = (uint8_t *)rig_page(&r, 2) + 1024; /* sector 2 of page 2 .. sector 0 of page 4 */
        io.bytes = 2 * HYP_PAGE_SIZE - 512;
        assert_int_equal(rig_submit(&r, io), 1);
        struct blkif_request req = rig_serve(&r, BLKIF_RSP_OKAY);
        assert_int_equal(req.operation, kinds[k].wire);
        assert_int_equal(req.nr_segments, 3);
        assert_int_equal(req.handle, r.terms.handle);
        assert_int_equal(req.sector_number, io.offset / 512);
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(req.seg[i].gref, hyp_pool_ref(r.sides.pool, r.q.data_page + 2 + i));
            assert_int_equal(req.seg[i].first_sect, i == 0 ? 2 : 0);
            assert_int_equal(req.seg[i].last_sect, i == 2 ? 0 : 7);
        }
        rig_expect(&r, 77 + k, 0);
    }
    assert_int_equal(r.q.counters.requests, 3);
    assert_int_equal(r.q.counters.bytes, 3 * (2 * HYP_PAGE_SIZE - 512));
    assert_int_equal(r.q.counters.errors, 0);
}

static void test_flush_discard_zeroes(void **state)
{
    (void)state;
    struct blkfront_io io = rig_io(&r, BLKFRONT_FLUSH, 1);
    assert_int_equal(rig_submit(&r, io), 1);
    struct blkif_request req = rig_serve(&r, BLKIF_RSP_OKAY);
    assert_int_equal(req.operation, BLKIF_OP_FLUSH_DISKCACHE);
    assert_int_equal(req.nr_segments, 0);
    rig_expect(&r, 1, 0);

    static const struct { enum blkfront_op op; uint8_t flags, wire, flag; } kinds[] = {
        { BLKFRONT_DISCARD, 0, BLKIF_OP_DISCARD, 0 },
        { BLKFRONT_ZEROES, 0, BLK_OP_WRITE_ZEROES, 0 },
        { BLKFRONT_ZEROES, BLKFRONT_MAY_UNMAP, BLK_OP_WRITE_ZEROES, BLK_ZEROES_MAY_UNMAP },
    };
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        io = rig_io(&r, kinds[k].op, 2 + k);
        io.flags = kinds[k].flags;
        io.offset = 512 * 1024;
        io.length = r.terms.disk_bytes - io.offset; /* longer than 32 bits of bytes may say */
        assert_int_equal(rig_submit(&r, io), 1);
        req = rig_serve(&r, BLKIF_RSP_OKAY);
        struct blkif_request_discard range;
        memcpy(&range, &req, sizeof(range));
        assert_int_equal(range.operation, kinds[k].wire);
        assert_int_equal(range.flag, kinds[k].flag);
        assert_int_equal(range.sector_number, 1024);
        assert_int_equal(range.nr_sectors, io.length / 512);
        rig_expect(&r, 2 + k, 0);
    }
}

/* 12 pages and more go through a descriptor page; 11 do not. */
static void test_indirect(void **state)
{
    (void)state;
    static const uint32_t sizes[] = { 11, 12, 255, 256 };
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        struct blkfront_io io = rig_io(&r, BLKFRONT_WRITE, k);
        io.bytes = sizes[k] * HYP_PAGE_SIZE;
        io.buf = rig_page(&r, 3);
        assert_int_equal(rig_submit(&r, io), 1);
        struct blkif_request req;
        rig_take(&r, &req);
        if (sizes[k] <= BLKIF_MAX_SEGMENTS_PER_REQUEST) {
            assert_int_equal(req.operation, BLKIF_OP_WRITE);
            rig_respond(&r, req.id, req.operation, 0);
            rig_expect(&r, k, 0);
            continue;
        }
        struct blkif_request_indirect ind;
        memcpy(&ind, &req, sizeof(ind));
        assert_int_equal(ind.operation, BLKIF_OP_INDIRECT);
        assert_int_equal(ind.indirect_op, BLKIF_OP_WRITE);
        assert_int_equal(ind.nr_segments, sizes[k]);
        assert_int_equal(ind.sector_number, io.offset / 512);
        const struct blkif_request_segment *seg = hyp_map_persistent(r.sides.map, ind.indirect_grefs[0]);
        assert_non_null(seg);
        for (uint32_t i = 0; i < sizes[k]; i++) {
            assert_int_equal(seg[i].gref, hyp_pool_ref(r.sides.pool, r.q.data_page + 3 + i));
            assert_int_equal(seg[i].first_sect, 0);
            assert_int_equal(seg[i].last_sect, 7);
        }
        /* Stock backends answer with the inner operation, others with the outer. */
        rig_respond(&r, ind.id, k % 2 ? BLKIF_OP_INDIRECT : BLKIF_OP_WRITE, 0);
        rig_expect(&r, k, 0);
    }
}

static void test_every_slot_has_its_own_descriptor_page(void **state)
{
    (void)state;
    grant_ref_t seen[BLK_MAX_RING_PAGES * 32];
    for (uint32_t i = 0; i < r.slots; i++) {
        struct blkfront_io io = rig_io(&r, BLKFRONT_READ, i);
        io.bytes = 16 * HYP_PAGE_SIZE;
        assert_int_equal(rig_submit(&r, io), 1);
        struct blkif_request req;
        struct blkif_request_indirect ind;
        rig_take(&r, &req);
        memcpy(&ind, &req, sizeof(ind));
        seen[i] = ind.indirect_grefs[0];
        uint32_t page = seen[i] - hyp_pool_ref(r.sides.pool, 0);
        assert_in_range(page, r.ring_pages, r.ring_pages + r.slots - 1);
        for (uint32_t j = 0; j < i; j++)
            assert_int_not_equal(seen[i], seen[j]);
    }
}

/* ----------------------------------------------------------- what is refused */

static void test_refused_whole(void **state)
{
    (void)state;
    uint8_t *data = r.q.data;
    static const struct { const char *why; enum blkfront_op op; unsigned flags; int64_t at; uint64_t bytes;
                          uint64_t offset, length; int64_t err; } bad[] = {
        { "no such operation", (enum blkfront_op)9, 0, 0, 512, 0, 512, -EINVAL },
        { "flag of another operation", BLKFRONT_READ, BLKFRONT_FUA, 0, 512, 0, 0, -EINVAL },
        { "unknown flag", BLKFRONT_WRITE, 0x80, 0, 512, 0, 0, -EINVAL },
        { "flag on a flush", BLKFRONT_FLUSH, 1, 0, 0, 0, 0, -EINVAL },
        { "flag on a discard", BLKFRONT_DISCARD, 1, 0, 0, 0, 512, -EINVAL },
        { "nothing to read", BLKFRONT_READ, 0, 0, 0, 0, 0, -EINVAL },
        { "part of a sector", BLKFRONT_READ, 0, 0, 100, 0, 0, -EINVAL },
        { "odd offset", BLKFRONT_WRITE, 0, 0, 512, 100, 0, -EINVAL },
        { "past the end", BLKFRONT_READ, 0, 0, 1024, (1ull << 30) - 512, 0, -EINVAL },
        { "far past the end", BLKFRONT_READ, 0, 0, 512, UINT64_MAX - 511, 0, -EINVAL },
        { "discard past the end", BLKFRONT_DISCARD, 0, 0, 0, 512, 1ull << 30, -EINVAL },
        { "zeroes that wrap", BLKFRONT_ZEROES, 0, 0, 0, 512, UINT64_MAX - 511, -EINVAL },
        { "nothing to discard", BLKFRONT_DISCARD, 0, 0, 0, 0, 0, -EINVAL },
        { "buffer before the pool", BLKFRONT_READ, 0, -512, 1024, 0, 0, -EINVAL },
        { "buffer past the pool", BLKFRONT_READ, 0, 64 * 4096, 512, 0, 0, -EINVAL },
        { "buffer over the end", BLKFRONT_WRITE, 0, 64 * 4096 - 512, 1024, 0, 0, -EINVAL },
        { "buffer off a sector", BLKFRONT_WRITE, 0, 100, 512, 0, 0, -EINVAL },
        { "too long", BLKFRONT_WRITE, 0, 0, 65 * 4096, 0, 0, -EMSGSIZE },
    };
    struct blkif_request req;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct blkfront_io io = { .op = (uint8_t)bad[i].op, .flags = (uint8_t)bad[i].flags,
                                  .bytes = (uint32_t)bad[i].bytes,
                                  .offset = bad[i].offset, .length = bad[i].length, .buf = data + bad[i].at };
        int err = rig_submit(&r, io);
        if (err != bad[i].err)
            fail_msg("%s: %d, not %d", bad[i].why, err, (int)bad[i].err);
    }
    assert_int_equal(ring_back_waiting(&r.ring), 0);
    assert_int_equal(r.q.inflight, 0);
    /* control: the same with nothing wrong */
    struct blkfront_io good = { .op = BLKFRONT_READ, .bytes = 512, .offset = (1ull << 30) - 512,
                                .buf = data + 64 * 4096 - 512 };
    assert_int_equal(rig_submit(&r, good), 1);
    rig_take(&r, &req);
}

static void test_refused_by_terms(void **state)
{
    (void)state;
    r.terms.readonly = true;
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_WRITE, 0)), -EROFS);
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_DISCARD, 0)), -EROFS);
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_ZEROES, 0)), -EROFS);
    r.terms.readonly = r.terms.can_flush = r.terms.can_discard = r.terms.can_zeroes = false;
    r.terms.native_fua = r.terms.can_fua = false;
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_FLUSH, 0)), -EOPNOTSUPP);
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_DISCARD, 0)), -EOPNOTSUPP);
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_ZEROES, 0)), -EOPNOTSUPP);
    struct blkfront_io io = rig_io(&r, BLKFRONT_WRITE, 0);
    io.flags = BLKFRONT_FUA;
    assert_int_equal(rig_submit(&r, io), -EOPNOTSUPP);
    r.terms.max_segments = 2;
    io = rig_io(&r, BLKFRONT_WRITE, 0);
    io.bytes = 2 * HYP_PAGE_SIZE;
    io.buf = (uint8_t *)rig_page(&r, 0) + 512; /* touches three pages */
    assert_int_equal(rig_submit(&r, io), -EMSGSIZE);
    r.terms.sector_bytes = 4096;
    io = rig_io(&r, BLKFRONT_WRITE, 0);
    io.offset = 512;
    assert_int_equal(rig_submit(&r, io), -EINVAL);
    io.offset = 4096;
    assert_int_equal(rig_submit(&r, io), 1);
}

static void test_bad_one_ends_the_batch_before_it(void **state)
{
    (void)state;
    struct blkfront_io ios[4] = { rig_io(&r, BLKFRONT_READ, 1), rig_io(&r, BLKFRONT_WRITE, 2),
                                  rig_io(&r, BLKFRONT_READ, 3), rig_io(&r, BLKFRONT_READ, 4) };
    ios[2].bytes = 1;
    assert_int_equal(blkqueue_submit(&r.q, ios, 4), 2);
    assert_int_equal(ring_back_waiting(&r.ring), 2);
    assert_int_equal(blkqueue_submit(&r.q, ios + 2, 2), -EINVAL);
    assert_int_equal(ring_back_waiting(&r.ring), 2);
}

/* ------------------------------------------------------------ flow and order */

static void test_full_ring(void **state)
{
    (void)state;
    struct blkfront_io ios[40];
    for (unsigned i = 0; i < 40; i++)
        ios[i] = rig_io(&r, BLKFRONT_READ, i);
    assert_int_equal(r.slots, 32);
    assert_int_equal(blkqueue_submit(&r.q, ios, 40), 32);
    assert_int_equal(blkqueue_submit(&r.q, ios + 32, 8), 0);
    for (int i = 0; i < 3; i++)
        rig_serve(&r, BLKIF_RSP_OKAY);
    struct blkfront_result out[40];
    assert_int_equal(blkqueue_reap(&r.q, out, 2), 2); /* no more than asked for */
    assert_int_equal(blkqueue_reap(&r.q, out, 40), 1);
    assert_int_equal(out[0].cookie, 2);
    assert_int_equal(blkqueue_submit(&r.q, ios + 32, 8), 3);
    for (int i = 0; i < 32; i++)
        rig_serve(&r, BLKIF_RSP_OKAY);
    assert_int_equal(blkqueue_reap(&r.q, out, 40), 32);
}

/* Answers come out of order; indices wrap at 2^32; each result comes once. */
static void test_wrap_and_any_order(void **state)
{
    (void)state;
    r.q.ring.req_prod = r.q.ring.req_pushed = r.q.ring.rsp_cons = UINT32_MAX - 100;
    r.ring.req_cons = r.ring.rsp_prod = r.ring.rsp_pushed = UINT32_MAX - 100;
    r.ring.shared->req_prod = r.ring.shared->rsp_prod = UINT32_MAX - 100;
    uint32_t seed = 2;
    struct blkif_request held[32];
    uint8_t got[2000] = { 0 };
    unsigned nheld = 0, next = 0, results = 0;
    while (results < 2000) {
        while (next < 2000 && rig_random(&seed) % 4) {
            int n = rig_submit(&r, rig_io(&r, next % 2 ? BLKFRONT_READ : BLKFRONT_WRITE, next));
            assert_in_range(n, 0, 1);
            if (n == 0)
                break;
            next++;
        }
        while (ring_back_waiting(&r.ring) > 0)
            rig_take(&r, &held[nheld++]);
        for (unsigned k = rig_random(&seed) % (nheld + 1); k > 0 && nheld > 0; k--) {
            unsigned pick = rig_random(&seed) % nheld;
            rig_respond(&r, held[pick].id, held[pick].operation, BLKIF_RSP_OKAY);
            held[pick] = held[--nheld];
        }
        struct blkfront_result out[8];
        int n = blkqueue_reap(&r.q, out, 8);
        assert_in_range(n, 0, 8);
        for (int i = 0; i < n; i++, results++) {
            assert_int_equal(out[i].error, 0);
            assert_int_equal(got[out[i].cookie]++, 0);
        }
    }
    assert_true(r.q.ring.rsp_cons < UINT32_MAX - 100); /* it did wrap */
    assert_int_equal(r.q.inflight, 0);
}

static void test_statuses(void **state)
{
    (void)state;
    static const struct { int16_t status; int error; } all[] = {
        { BLKIF_RSP_OKAY, 0 }, { BLKIF_RSP_ERROR, -EIO }, { BLKIF_RSP_EOPNOTSUPP, -EOPNOTSUPP },
    };
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_WRITE, i)), 1);
        rig_serve(&r, all[i].status);
        rig_expect(&r, i, all[i].error);
    }
    assert_int_equal(r.q.counters.errors, 2);
    assert_int_equal(r.q.queue.state, QUEUE_IDLE);
}

/* ----------------------------------------------------------------------- FUA */

static struct blkfront_io fua(uint64_t cookie)
{
    struct blkfront_io io = rig_io(&r, BLKFRONT_WRITE, cookie);
    io.flags = BLKFRONT_FUA;
    return io;
}

static void test_fua_by_write_then_flush(void **state)
{
    (void)state;
    struct blkfront_result out[4];
    r.terms.native_fua = false;
    assert_int_equal(rig_submit(&r, fua(5)), 1);
    struct blkif_request write = rig_serve(&r, BLKIF_RSP_OKAY);
    assert_int_equal(write.operation, BLKIF_OP_WRITE);
    assert_int_equal(blkqueue_reap(&r.q, out, 4), 0); /* written, not durable yet */
    struct blkif_request flush = rig_serve(&r, BLKIF_RSP_OKAY);
    assert_int_equal(flush.operation, BLKIF_OP_FLUSH_DISKCACHE);
    assert_int_not_equal(flush.id, write.id);
    rig_expect(&r, 5, 0);
}

static void test_fua_failures_come_once(void **state)
{
    (void)state;
    struct blkfront_result out[4];
    r.terms.native_fua = false;
    assert_int_equal(rig_submit(&r, fua(6)), 1);
    rig_serve(&r, BLKIF_RSP_ERROR);
    rig_expect(&r, 6, -EIO);
    assert_int_equal(ring_back_waiting(&r.ring), 0); /* no flush for a failed write */
    assert_int_equal(rig_submit(&r, fua(7)), 1);
    rig_serve(&r, BLKIF_RSP_OKAY);
    assert_int_equal(blkqueue_reap(&r.q, out, 4), 0);
    rig_serve(&r, BLKIF_RSP_ERROR);
    rig_expect(&r, 7, -EIO);
}

/* The flush takes the place that the write's answer left, full ring or not. */
static void test_fua_on_a_full_ring(void **state)
{
    (void)state;
    struct blkfront_result out[64];
    r.terms.native_fua = false;
    for (unsigned i = 0; i < r.slots; i++)
        assert_int_equal(rig_submit(&r, fua(i)), 1);
    for (unsigned i = 0; i < r.slots; i++)
        rig_serve(&r, BLKIF_RSP_OKAY);
    assert_int_equal(blkqueue_reap(&r.q, out, 64), 0);
    assert_int_equal(ring_back_waiting(&r.ring), (int)r.slots);
    assert_int_equal(rig_submit(&r, fua(99)), 0);
    for (unsigned i = 0; i < r.slots; i++)
        assert_int_equal(rig_serve(&r, BLKIF_RSP_OKAY).operation, BLKIF_OP_FLUSH_DISKCACHE);
    assert_int_equal(blkqueue_reap(&r.q, out, 64), (int)r.slots);
}

/* ---------------------------------------------------------- doorbells, sleep */

static void test_one_doorbell_for_a_batch_and_none_while_the_backend_works(void **state)
{
    (void)state;
    struct blkfront_io ios[8];
    for (unsigned i = 0; i < 8; i++)
        ios[i] = rig_io(&r, BLKFRONT_READ, i);
    assert_int_equal(blkqueue_submit(&r.q, ios, 8), 8);
    assert_int_equal(r.q.queue.doorbells, 1);
    assert_int_equal(blkqueue_submit(&r.q, ios, 8), 8); /* req_event is behind: awake already */
    assert_int_equal(r.q.queue.doorbells, 1);
    struct blkif_request req;
    for (int i = 0; i < 16; i++)
        rig_take(&r, &req);
    assert_int_equal(ring_back_idle(&r.ring), 0); /* it sleeps */
    assert_int_equal(blkqueue_submit(&r.q, ios, 1), 1);
    assert_int_equal(r.q.queue.doorbells, 2);
}

static void test_sleep_and_wake(void **state)
{
    (void)state;
    assert_int_equal(blkqueue_idle(&r.q), 0);
    assert_int_equal(blkqueue_wait(&r.q, 0), 0);
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_READ, 1)), 1);
    assert_int_equal(blkqueue_idle(&r.q), 0);
    assert_false(queue_readable(&r.q.queue));
    rig_serve(&r, BLKIF_RSP_OKAY);
    assert_true(queue_readable(&r.q.queue));
    assert_int_equal(blkqueue_wait(&r.q, -1), 1);
    rig_expect(&r, 1, 0);
    assert_int_equal(blkqueue_idle(&r.q), 0); /* the ring is forgotten */
    assert_false(queue_readable(&r.q.queue));
    /* A response before the sleep is seen without any doorbell. */
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_READ, 2)), 1);
    rig_serve(&r, BLKIF_RSP_OKAY);
    assert_int_equal(blkqueue_idle(&r.q), 1);
    rig_expect(&r, 2, 0);
}

#define ON(setup, test) cmocka_unit_test_setup_teardown(test, setup, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(up, test_read_and_write_are_described_to_the_byte),
        ON(up, test_flush_discard_zeroes),
        ON(up_large, test_indirect),
        ON(up_large, test_every_slot_has_its_own_descriptor_page),
        ON(up, test_refused_whole),
        ON(up, test_refused_by_terms),
        ON(up, test_bad_one_ends_the_batch_before_it),
        ON(up, test_full_ring),
        ON(up, test_wrap_and_any_order),
        ON(up, test_statuses),
        ON(up, test_fua_by_write_then_flush),
        ON(up, test_fua_failures_come_once),
        ON(up, test_fua_on_a_full_ring),
        ON(up, test_one_doorbell_for_a_batch_and_none_while_the_backend_works),
        ON(up, test_sleep_and_wake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
