/* SPDX-License-Identifier: MIT */
/* One queue of the block backend: every operation, every kind of grant, and
 * every way to be wrong, each with its counter. */
#include "test_blk.h"

static const struct {
    const char *name;
    enum blk_grants grants;
} kinds[] = {
    { "persistent", BLK_GRANTS_PERSISTENT }, { "copy", BLK_GRANTS_COPY }, { "map", BLK_GRANTS_MAP },
};
#define EACH_KIND(opt) \
    for (unsigned k_ = 0; k_ < 3 && ((opt).grants = kinds[k_].grants, true); k_++)

static void open_plain(struct rig *r, enum blk_grants grants)
{
    rig_open(r, &(struct rig_options){ .grants = grants, .order = 1 });
}

/* ------------------------------------------------------------------ operations */

static void write_then_read(void **state)
{
    (void)state;
    struct rig_options opt = { .order = 0 };
    EACH_KIND(opt) {
        struct rig r;
        rig_open(&r, &opt);
        for (unsigned n = 1; n <= BLKIF_MAX_SEGMENTS_PER_REQUEST; n++) {
            rig_fill(rig_page(&r, 0), n * HYP_PAGE_SIZE, n);
            struct blkif_request w = rig_rw(&r, BLKIF_OP_WRITE, n * 100, 0, n);
            assert_int_equal(rig_ask(&r, &w), BLKIF_RSP_OKAY);
            assert_memory_equal((uint8_t *)r.disk.ram + n * 100 * 512, rig_page(&r, 0), n * HYP_PAGE_SIZE);
            struct blkif_request rd = rig_rw(&r, BLKIF_OP_READ, n * 100, 20, n);
            assert_int_equal(rig_ask(&r, &rd), BLKIF_RSP_OKAY);
            assert_memory_equal(rig_page(&r, 20), rig_page(&r, 0), n * HYP_PAGE_SIZE);
        }
        assert_int_equal(r.q->count.reads, 11);
        assert_int_equal(r.q->count.writes, 11);
        assert_int_equal(r.q->count.read_bytes, 66 * HYP_PAGE_SIZE);
        assert_int_equal(r.q->count.write_bytes, 66 * HYP_PAGE_SIZE);
        rig_close(&r);
    }
}

/* Scattered pages in any order, and parts of pages. */
static void odd_segments(void **state)
{
    (void)state;
    struct rig_options opt = { 0 };
    EACH_KIND(opt) {
        struct rig r;
        rig_open(&r, &opt);
        rig_fill(r.disk.ram, 64 * 512, 5);
        struct blkif_request rd = rig_rw(&r, BLKIF_OP_READ, 3, 0, 4);
        rd.seg[0] = (struct blkif_request_segment){ .gref = rig_ref(&r, 9), .first_sect = 7, .last_sect = 7 };
        rd.seg[1] = (struct blkif_request_segment){ .gref = rig_ref(&r, 4), .first_sect = 0, .last_sect = 2 };
        rd.seg[2] = (struct blkif_request_segment){ .gref = rig_ref(&r, 10), .last_sect = 7 };
        rd.seg[3] = (struct blkif_request_segment){ .gref = rig_ref(&r, 4), .first_sect = 4, .last_sect = 4 };
        memset(rig_page(&r, 0), 0xee, 16 * HYP_PAGE_SIZE);
        assert_int_equal(rig_ask(&r, &rd), BLKIF_RSP_OKAY);
        const uint8_t *disk = (uint8_t *)r.disk.ram + 3 * 512;
        assert_memory_equal((uint8_t *)rig_page(&r, 9) + 7 * 512, disk, 512);
        assert_memory_equal(rig_page(&r, 4), disk + 512, 3 * 512);
        assert_memory_equal(rig_page(&r, 10), disk + 4 * 512, 8 * 512);
        assert_memory_equal((uint8_t *)rig_page(&r, 4) + 4 * 512, disk + 12 * 512, 512);
        /* Sectors of these pages that were not asked for are as they were. */
        assert_int_equal(((uint8_t *)rig_page(&r, 9))[7 * 512 - 1], 0xee);
        assert_int_equal(((uint8_t *)rig_page(&r, 4))[3 * 512], 0xee);
        assert_int_equal(((uint8_t *)rig_page(&r, 4))[5 * 512], 0xee);
        rig_close(&r);
    }
}

static void indirect(void **state)
{
    (void)state;
    static const unsigned counts[] = { 1, 11, 12, 32, BLK_MAX_INDIRECT_SEGMENTS };
    struct rig_options opt = { 0 };
    EACH_KIND(opt) {
        for (unsigned scattered = 0; scattered < 2; scattered++) {
            struct rig r;
            rig_open(&r, &opt);
            for (unsigned c = 0; c < 5; c++) {
                unsigned n = counts[c];
                struct blkif_request_segment *list = rig_page(&r, 0);
                for (unsigned i = 0; i < n; i++)
                    list[i] = (struct blkif_request_segment){
                        .gref = rig_ref(&r, scattered ? 1 + (n - 1 - i) * 2 : 1 + i), .last_sect = 7 };
                rig_fill(rig_page(&r, 1), 2 * n * HYP_PAGE_SIZE, n);
                struct blkif_request_indirect w = rig_indirect(&r, BLKIF_OP_WRITE, 64, 0, n);
                assert_int_equal(rig_ask(&r, RIG_SLOT(w)), BLKIF_RSP_OKAY);
                for (unsigned i = 0; i < n; i++)
                    assert_memory_equal((uint8_t *)r.disk.ram + 64 * 512 + i * HYP_PAGE_SIZE,
                                        rig_page(&r, scattered ? 1 + (n - 1 - i) * 2 : 1 + i), HYP_PAGE_SIZE);
                memset(rig_page(&r, 1), 0, 2 * n * HYP_PAGE_SIZE);
                struct blkif_request_indirect rd = rig_indirect(&r, BLKIF_OP_READ, 64, 0, n);
                assert_int_equal(rig_ask(&r, RIG_SLOT(rd)), BLKIF_RSP_OKAY);
                for (unsigned i = 0; i < n; i++)
                    assert_memory_equal((uint8_t *)r.disk.ram + 64 * 512 + i * HYP_PAGE_SIZE,
                                        rig_page(&r, scattered ? 1 + (n - 1 - i) * 2 : 1 + i), HYP_PAGE_SIZE);
            }
            rig_close(&r);
        }
    }
}

/* The answer to an indirect request names the operation inside, as stock
 * frontends expect. */
static void indirect_answer_names_the_operation(void **state)
{
    (void)state;
    struct rig r;
    struct blkif_response rsp = { 0 };
    open_plain(&r, BLK_GRANTS_PERSISTENT);
    *(struct blkif_request_segment *)rig_page(&r, 0) =
        (struct blkif_request_segment){ .gref = rig_ref(&r, 1), .last_sect = 7 };
    struct blkif_request_indirect w = rig_indirect(&r, BLKIF_OP_WRITE, 0, 0, 1);
    rig_put(&r, RIG_SLOT(w));
    rig_serve(&r);
    assert_true(rig_take(&r, &rsp));
    assert_int_equal(rsp.operation, BLKIF_OP_WRITE);
    assert_int_equal(rsp.id, 4242);
    rig_close(&r);
}

static void flush_and_fua(void **state)
{
    (void)state;
    struct rig r;
    open_plain(&r, BLK_GRANTS_PERSISTENT);
    struct blkif_request flush = { .operation = BLKIF_OP_FLUSH_DISKCACHE, .id = 9 };
    assert_int_equal(rig_ask(&r, &flush), BLKIF_RSP_OKAY);
    assert_int_equal(r.q->count.flushes, 1);
    rig_fill(rig_page(&r, 0), HYP_PAGE_SIZE, 3);
    struct blkif_request fua = rig_rw(&r, BLK_OP_WRITE_FUA, 8, 0, 1);
    assert_int_equal(rig_ask(&r, &fua), BLKIF_RSP_OKAY);
    assert_memory_equal((uint8_t *)r.disk.ram + 8 * 512, rig_page(&r, 0), HYP_PAGE_SIZE);
    struct blkif_request with_data = rig_rw(&r, BLKIF_OP_FLUSH_DISKCACHE, 0, 0, 1);
    assert_int_equal(rig_ask(&r, &with_data), BLKIF_RSP_ERROR);
    assert_int_equal(r.q->count.bad_segments, 1);
    rig_close(&r);
}

static void discard_and_zeroes(void **state)
{
    (void)state;
    static const uint8_t ops[] = { BLKIF_OP_DISCARD, BLK_OP_WRITE_ZEROES };
    static const struct {
        uint64_t sector, n;
    } spans[] = { { 0, 1 }, { 3, 7 }, { 5, 40 }, { 8, 8 }, { 16, 1024 } };
    struct rig r;
    open_plain(&r, BLK_GRANTS_PERSISTENT);
    for (unsigned o = 0; o < 2; o++) {
        for (unsigned i = 0; i < 5; i++) {
            uint8_t *disk = r.disk.ram;
            uint64_t from = spans[i].sector * 512, bytes = spans[i].n * 512;
            memset(disk, 0xab, 1 << 20);
            struct blkif_request_discard rq = rig_range(ops[o], 0, spans[i].sector, spans[i].n);
            assert_int_equal(rig_ask(&r, RIG_SLOT(rq)), BLKIF_RSP_OKAY);
            for (uint64_t b = 0; b < bytes; b++)
                assert_int_equal(disk[from + b], 0);
            if (from > 0)
                assert_int_equal(disk[from - 1], 0xab);
            assert_int_equal(disk[from + bytes], 0xab);
        }
    }
    assert_int_equal(r.q->count.discards, 5);
    assert_int_equal(r.q->count.zeroes, 5);
    rig_close(&r);
}

static void not_offered_is_not_supported(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, &(struct rig_options){ .bare = true });
    struct blkif_request_discard d = rig_range(BLKIF_OP_DISCARD, 0, 0, 8);
    struct blkif_request_discard z = rig_range(BLK_OP_WRITE_ZEROES, 0, 0, 8);
    struct blkif_request fua = rig_rw(&r, BLK_OP_WRITE_FUA, 0, 0, 1);
    struct blkif_request barrier = rig_rw(&r, BLKIF_OP_WRITE_BARRIER, 0, 0, 1);
    struct blkif_request nonsense = rig_rw(&r, 200, 0, 0, 1);
    struct blkif_request_indirect ind = rig_indirect(&r, BLKIF_OP_DISCARD, 0, 0, 1);
    assert_int_equal(rig_ask(&r, RIG_SLOT(d)), BLKIF_RSP_EOPNOTSUPP);
    assert_int_equal(rig_ask(&r, RIG_SLOT(z)), BLKIF_RSP_EOPNOTSUPP);
    assert_int_equal(rig_ask(&r, &fua), BLKIF_RSP_EOPNOTSUPP);
    assert_int_equal(rig_ask(&r, &barrier), BLKIF_RSP_EOPNOTSUPP);
    assert_int_equal(rig_ask(&r, &nonsense), BLKIF_RSP_EOPNOTSUPP);
    assert_int_equal(rig_ask(&r, RIG_SLOT(ind)), BLKIF_RSP_EOPNOTSUPP);
    assert_int_equal(r.q->count.bad_op, 6);
    rig_close(&r);
}

/* -------------------------------------------------------------------- the ring */

static void rings_of_every_order(void **state)
{
    (void)state;
    for (unsigned order = 0; order <= BLK_MAX_RING_ORDER; order++) {
        struct rig r;
        rig_open(&r, &(struct rig_options){ .order = order });
        assert_int_equal(r.ring.size, 32u << order);
        rig_fill(r.disk.ram, 1 << 20, order);
        /* Full rings, often enough to wrap. */
        for (unsigned round = 0; round < 5; round++) {
            unsigned answered = 0;
            for (unsigned i = 0; i < r.ring.size; i++) {
                struct blkif_request rq = rig_rw(&r, BLKIF_OP_READ, i, i, 1);
                rq.id = i;
                rig_put(&r, &rq);
            }
            assert_int_equal(ring_front_free(&r.ring), 0);
            rig_serve(&r);
            struct blkif_response rsp = { 0 };
            for (; rig_take(&r, &rsp); answered++) {
                assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
                const uint8_t *disk = (uint8_t *)r.disk.ram + rsp.id * 512;
                assert_memory_equal(rig_page(&r, (unsigned)rsp.id), disk, 4096);
            }
            assert_int_equal(answered, r.ring.size);
        }
        rig_close(&r);
    }
}

/* Indices run free over 2^32. */
static void indices_wrap(void **state)
{
    (void)state;
    struct rig r;
    open_plain(&r, BLK_GRANTS_PERSISTENT);
    uint32_t near = UINT32_MAX - 5;
    r.ring.req_prod = r.ring.req_pushed = r.ring.rsp_cons = near;
    ring_store(&r.ring.shared->req_prod, near);
    ring_store(&r.ring.shared->rsp_prod, near);
    r.q->ring.req_cons = r.q->ring.rsp_prod = r.q->ring.rsp_pushed = near;
    for (unsigned i = 0; i < 20; i++) {
        struct blkif_request rq = rig_rw(&r, BLKIF_OP_READ, 0, 0, 1);
        assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_OKAY);
    }
    assert_false(r.q->broken);
    rig_close(&r);
}

/* The id is the frontend's business: the same one twice is two requests. */
static void ids_are_never_indices(void **state)
{
    (void)state;
    struct rig r;
    struct blkif_response rsp = { 0 };
    open_plain(&r, BLK_GRANTS_PERSISTENT);
    for (unsigned i = 0; i < 10; i++) {
        struct blkif_request rq = rig_rw(&r, BLKIF_OP_READ, 0, 0, 1);
        rq.id = i < 5 ? UINT64_MAX : 0xffffffff00000000;
        rig_put(&r, &rq);
    }
    rig_serve(&r);
    unsigned high = 0, low = 0;
    while (rig_take(&r, &rsp)) {
        assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
        high += rsp.id == UINT64_MAX;
        low += rsp.id == 0xffffffff00000000;
    }
    assert_int_equal(high, 5);
    assert_int_equal(low, 5);
    rig_close(&r);
}

static bool doorbell_rang(struct hyp_evtchn *ch)
{
    struct pollfd p = { .fd = hyp_evtchn_fd(ch), .events = POLLIN };
    bool rang = poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
    hyp_evtchn_clear(ch);
    return rang;
}

/* The doorbell is rung when the frontend asked for it, once a batch. */
static void doorbells_are_asked_for(void **state)
{
    (void)state;
    struct rig r;
    struct blkif_response rsp = { 0 };
    open_plain(&r, BLK_GRANTS_PERSISTENT);
    struct blkif_request rq = rig_rw(&r, BLKIF_OP_READ, 0, 0, 1);
    for (unsigned i = 0; i < 8; i++)
        rig_put(&r, &rq);
    assert_int_equal(ring_front_idle(&r.ring), 0);
    rig_serve(&r);
    assert_true(doorbell_rang(r.front_ch));
    assert_int_equal(r.q->count.doorbells, 1);
    while (rig_take(&r, &rsp))
        ;
    rig_put(&r, &rq); /* it polls now */
    rig_serve(&r);
    assert_false(doorbell_rang(r.front_ch));
    assert_int_equal(r.q->count.doorbells, 1);
    while (rig_take(&r, &rsp))
        ;
    rig_close(&r);
}

/* ------------------------------------------------------------- wrong requests */

static void bad_segments(void **state)
{
    (void)state;
    struct rig r;
    open_plain(&r, BLK_GRANTS_PERSISTENT);
    struct blkif_request rq = rig_rw(&r, BLKIF_OP_READ, 0, 0, 0);
    assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_ERROR);
    rq.nr_segments = BLKIF_MAX_SEGMENTS_PER_REQUEST + 1;
    assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_ERROR);
    rq.nr_segments = 255;
    assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_ERROR);
    rq = rig_rw(&r, BLKIF_OP_READ, 0, 0, 2);
    rq.seg[1].first_sect = 5;
    rq.seg[1].last_sect = 4;
    assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_ERROR);
    rq.seg[1].first_sect = 0;
    rq.seg[1].last_sect = 8;
    assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_ERROR);
    rq.seg[1].last_sect = 255;
    assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_ERROR);
    struct blkif_request_indirect in = rig_indirect(&r, BLKIF_OP_READ, 0, 0, 0);
    assert_int_equal(rig_ask(&r, RIG_SLOT(in)), BLKIF_RSP_ERROR);
    in.nr_segments = BLK_MAX_INDIRECT_SEGMENTS + 1;
    assert_int_equal(rig_ask(&r, RIG_SLOT(in)), BLKIF_RSP_ERROR);
    in.nr_segments = UINT16_MAX;
    assert_int_equal(rig_ask(&r, RIG_SLOT(in)), BLKIF_RSP_ERROR);
    assert_int_equal(r.q->count.bad_segments, 9);
    assert_int_equal(r.q->count.reads, 0);
    /* Control: the same request, right. */
    rq.seg[1].last_sect = 7;
    assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_OKAY);
    rig_close(&r);
}

static void bad_range(void **state)
{
    (void)state;
    static const uint64_t total = DISK_BYTES / 512;
    struct rig r;
    open_plain(&r, BLK_GRANTS_PERSISTENT);
    static const uint64_t sectors[] = { DISK_BYTES / 512 - 7, DISK_BYTES / 512, UINT64_MAX, UINT64_MAX - 7,
                                        1ull << 55, (1ull << 55) - 1 };
    for (unsigned i = 0; i < 6; i++) {
        struct blkif_request rq = rig_rw(&r, i & 1 ? BLKIF_OP_WRITE : BLKIF_OP_READ, sectors[i], 0, 1);
        assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_ERROR);
    }
    static const struct {
        uint64_t at, n;
    } spans[] = { { 0, 0 }, { 0, UINT64_MAX }, { 1, UINT64_MAX }, { 8, DISK_BYTES / 512 },
                  { DISK_BYTES / 512, 1 }, { UINT64_MAX, 1 }, { UINT64_MAX, UINT64_MAX },
                  { 0, (1ull << 55) + 1 } };
    for (unsigned i = 0; i < 8; i++) {
        struct blkif_request_discard d =
            rig_range(i & 1 ? BLKIF_OP_DISCARD : BLK_OP_WRITE_ZEROES, 0, spans[i].at, spans[i].n);
        assert_int_equal(rig_ask(&r, RIG_SLOT(d)), BLKIF_RSP_ERROR);
    }
    assert_int_equal(r.q->count.bad_range, 14);
    struct blkif_request last = rig_rw(&r, BLKIF_OP_READ, total - 8, 0, 1);
    assert_int_equal(rig_ask(&r, &last), BLKIF_RSP_OKAY);
    rig_close(&r);
}

static void bad_align(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, &(struct rig_options){ .sector_bytes = 4096 });
    struct blkif_request rq = rig_rw(&r, BLKIF_OP_READ, 4, 0, 1);
    assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_ERROR);
    rq = rig_rw(&r, BLKIF_OP_READ, 8, 0, 2);
    rq.seg[0].last_sect = 3;
    rq.seg[1].first_sect = 4;
    assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_ERROR);
    struct blkif_request_discard d = rig_range(BLKIF_OP_DISCARD, 0, 8, 4);
    assert_int_equal(rig_ask(&r, RIG_SLOT(d)), BLKIF_RSP_ERROR);
    assert_int_equal(r.q->count.bad_align, 3);
    rq = rig_rw(&r, BLKIF_OP_READ, 8, 0, 2);
    assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_OKAY);
    rig_close(&r);
}

static void bad_readonly(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, &(struct rig_options){ .readonly = true });
    struct blkif_request w = rig_rw(&r, BLKIF_OP_WRITE, 0, 0, 1), f = rig_rw(&r, BLK_OP_WRITE_FUA, 0, 0, 1);
    struct blkif_request_discard d = rig_range(BLKIF_OP_DISCARD, 0, 0, 8);
    struct blkif_request_discard z = rig_range(BLK_OP_WRITE_ZEROES, 0, 0, 8);
    rig_fill(r.disk.ram, HYP_PAGE_SIZE, 1);
    assert_int_equal(rig_ask(&r, &w), BLKIF_RSP_ERROR);
    assert_int_equal(rig_ask(&r, &f), BLKIF_RSP_ERROR);
    assert_int_equal(rig_ask(&r, RIG_SLOT(d)), BLKIF_RSP_ERROR);
    assert_int_equal(rig_ask(&r, RIG_SLOT(z)), BLKIF_RSP_ERROR);
    assert_int_equal(r.q->count.bad_readonly, 4);
    struct blkif_request rd = rig_rw(&r, BLKIF_OP_READ, 0, 0, 1);
    assert_int_equal(rig_ask(&r, &rd), BLKIF_RSP_OKAY);
    assert_memory_equal(rig_page(&r, 0), r.disk.ram, HYP_PAGE_SIZE);
    rig_close(&r);
}

static void bad_grant(void **state)
{
    (void)state;
    struct rig_options opt = { 0 };
    EACH_KIND(opt) {
        struct rig r;
        rig_open(&r, &opt);
        struct hyp_pool *rdonly;
        assert_int_equal(hyp_pool_create(r.front_hyp, BACK_DOMID, 1, HYP_POOL_RDONLY, &rdonly), 0);
        grant_ref_t past = rig_ref(&r, DATA_PAGES - 1) + 1;

        struct blkif_request rq = rig_rw(&r, BLKIF_OP_READ, 0, 0, 3);
        rq.seg[2].gref = past;
        assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_ERROR);
        rq = rig_rw(&r, BLKIF_OP_WRITE, 0, 0, 3);
        rq.seg[0].gref = UINT32_MAX;
        memset(rig_page(&r, 0), 0xcc, 3 * HYP_PAGE_SIZE);
        assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_ERROR);
        assert_int_equal(*(uint8_t *)r.disk.ram, 0); /* nothing of it was done */
        /* A read writes to the page: not when it was granted for reading. */
        rq = rig_rw(&r, BLKIF_OP_READ, 0, 0, 1);
        rq.seg[0].gref = hyp_pool_ref(rdonly, 0);
        assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_ERROR);
        struct blkif_request_indirect in = rig_indirect(&r, BLKIF_OP_READ, 0, 0, 1);
        in.indirect_grefs[0] = past;
        assert_int_equal(rig_ask(&r, RIG_SLOT(in)), BLKIF_RSP_ERROR);
        assert_int_equal(r.q->count.bad_grant, 4);
        assert_false(r.q->broken);
        /* Control, and nothing was used up by the failures. */
        assert_int_equal(r.q->nfree, BLK_REQUESTS);
        assert_int_equal(r.q->nlong, BLK_LONG_REQUESTS);
        rq = rig_rw(&r, BLKIF_OP_READ, 0, 0, 3);
        assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_OKAY);
        assert_int_equal(hyp_pool_end(rdonly), opt.grants == BLK_GRANTS_MAP ? 0 : -EBUSY);
        struct hyp *front = r.front_hyp, *back = r.back_hyp;
        rig_close_queue(&r);
        if (opt.grants != BLK_GRANTS_MAP)
            assert_int_equal(hyp_pool_end(rdonly), 0);
        hyp_close(front);
        hyp_close(back);
        assert_int_equal(fake_hyp_reset(), 0);
    }
}

/* ------------------------------------------------------------- device's answers */

/* A device that says what it is told to, when it is told to. */
struct puppet {
    struct blkdev dev;
    struct blkdev_io *held[256];
    unsigned n, room;
    int error;
};

static int puppet_submit(struct blkdev *dev, struct blkdev_io *io)
{
    struct puppet *p = (struct puppet *)dev;
    if (p->n == p->room)
        return -EAGAIN;
    p->held[p->n++] = io;
    return 0;
}

static void puppet_close(struct blkdev *dev)
{
    (void)dev;
}

static const struct blkdev_ops puppet_ops = { .submit = puppet_submit, .close = puppet_close };

static void puppet_init(struct puppet *p, unsigned room)
{
    *p = (struct puppet){ .dev = { .ops = &puppet_ops, .done = &rig_sched.done }, .room = room };
    ram_geometry(DISK_BYTES, false, &p->dev.geo);
}

/* Completes the newest first: order is the device's own. */
static void puppet_finish(struct puppet *p)
{
    while (p->n > 0)
        blkdev_done_add(p->dev.done, p->held[--p->n], p->error);
}

static void device_errors_reach_the_guest(void **state)
{
    (void)state;
    static const int errors[] = { -EIO, -ENOSPC, -EFAULT, -EINVAL };
    struct rig_options opt = { 0 };
    EACH_KIND(opt) {
        struct rig r;
        struct puppet p;
        struct blkif_response rsp = { 0 };
        puppet_init(&p, 256);
        opt.device = &p.dev;
        rig_open(&r, &opt);
        for (unsigned i = 0; i < 4; i++) {
            struct blkif_request w = rig_rw(&r, BLKIF_OP_WRITE, 0, 0, 2);
            struct blkif_request rd = rig_rw(&r, BLKIF_OP_READ, 0, 0, 2);
            rig_put(&r, &w);
            rig_put(&r, &rd);
            rig_serve(&r);
            assert_false(rig_take(&r, &rsp));
            p.error = errors[i];
            puppet_finish(&p);
            rig_serve(&r);
            for (unsigned k = 0; k < 2; k++) {
                assert_true(rig_take(&r, &rsp));
                assert_int_equal(rsp.status, BLKIF_RSP_ERROR);
            }
        }
        assert_int_equal(r.q->count.errors, 8);
        assert_int_equal(r.q->count.reads + r.q->count.writes, 0);
        /* A file system that cannot punch holes: the frontend learns not to ask. */
        struct blkif_request_discard d = rig_range(BLKIF_OP_DISCARD, 0, 0, 8);
        rig_put(&r, RIG_SLOT(d));
        rig_serve(&r);
        p.error = -EOPNOTSUPP;
        puppet_finish(&p);
        rig_serve(&r);
        assert_true(rig_take(&r, &rsp));
        assert_int_equal(rsp.status, BLKIF_RSP_EOPNOTSUPP);
        rig_close(&r);
    }
}

/* More requests than tables, bounce memory or the device have room for. */
static void full_tables_delay_and_lose_nothing(void **state)
{
    (void)state;
    static const unsigned rooms[] = { 1, 3, 256 };
    struct rig_options opt = { .order = 4 };
    EACH_KIND(opt) {
        for (unsigned m = 0; m < 3; m++) {
            struct rig r;
            struct puppet p;
            struct blkif_response rsp = { 0 };
            puppet_init(&p, rooms[m]);
            opt.device = &p.dev;
            rig_open(&r, &opt);
            struct blkif_request_segment *list = rig_page(&r, 0);
            for (unsigned i = 0; i < 64; i++)
                list[i] = (struct blkif_request_segment){ .gref = rig_ref(&r, 1 + 2 * i), .last_sect = 7 };
            for (unsigned i = 0; i < r.ring.size; i++) {
                if (i % 2) {
                    struct blkif_request_indirect in = rig_indirect(&r, BLKIF_OP_READ, 0, 0, 64);
                    in.id = i;
                    rig_put(&r, RIG_SLOT(in));
                } else {
                    struct blkif_request rq = rig_rw(&r, BLKIF_OP_WRITE, 0, 2, 11);
                    rq.id = i;
                    rig_put(&r, &rq);
                }
            }
            bool seen[512] = { false };
            unsigned answers = 0;
            for (unsigned turn = 0; turn < 100000 && answers < r.ring.size; turn++) {
                rig_serve(&r);
                assert_true(r.q->busy <= BLK_REQUESTS);
                puppet_finish(&p);
                for (; rig_take(&r, &rsp); answers++) {
                    assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
                    assert_false(seen[rsp.id]);
                    seen[rsp.id] = true;
                }
            }
            assert_int_equal(answers, r.ring.size);
            assert_int_equal(r.q->nfree, BLK_REQUESTS);
            assert_int_equal(r.q->nlong, BLK_LONG_REQUESTS);
            rig_close(&r);
        }
    }
}

/* Disconnecting waits for the device, and only for the device. */
static void drain_waits_for_the_device(void **state)
{
    (void)state;
    struct rig_options opt = { 0 };
    EACH_KIND(opt) {
        struct rig r;
        struct puppet p;
        puppet_init(&p, 2);
        opt.device = &p.dev;
        rig_open(&r, &opt);
        for (unsigned i = 0; i < 6; i++) {
            struct blkif_request rq = rig_rw(&r, BLKIF_OP_WRITE, 0, 0, 11);
            rig_put(&r, &rq);
        }
        rig_serve(&r);
        assert_int_equal(p.n, 2);
        assert_false(blk_queue_drain(r.q));
        puppet_finish(&p);
        rig_serve(&r);
        assert_int_equal(p.n, 0); /* nothing new was begun */
        assert_true(blk_queue_drain(r.q));
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_then_read),
        cmocka_unit_test(odd_segments),
        cmocka_unit_test(indirect),
        cmocka_unit_test(indirect_answer_names_the_operation),
        cmocka_unit_test(flush_and_fua),
        cmocka_unit_test(discard_and_zeroes),
        cmocka_unit_test(not_offered_is_not_supported),
        cmocka_unit_test(rings_of_every_order),
        cmocka_unit_test(indices_wrap),
        cmocka_unit_test(ids_are_never_indices),
        cmocka_unit_test(doorbells_are_asked_for),
        cmocka_unit_test(bad_segments),
        cmocka_unit_test(bad_range),
        cmocka_unit_test(bad_align),
        cmocka_unit_test(bad_readonly),
        cmocka_unit_test(bad_grant),
        cmocka_unit_test(device_errors_reach_the_guest),
        cmocka_unit_test(full_tables_delay_and_lose_nothing),
        cmocka_unit_test(drain_waits_for_the_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
