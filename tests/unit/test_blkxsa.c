/* SPDX-License-Identifier: MIT */
/*
 * What went wrong in PV block backends before, each by the name under which it
 * was published, tried against ours.  Those that need a running worker
 * (XSA-332, XSA-350) are in test_blkworker.c, the one that needs the store
 * (XSA-349) in test_blkback.c.  XSA-391, 396 and 403 are about frontends and
 * are tested there; here is the backend's half of each.
 */
#include <pthread.h>

#include "test_blk.h"

/* A device that holds requests until told, so that a test can act while one is
 * between the backend's checks and its answer. */
struct holder {
    struct blkdev dev;
    struct blkdev_io *io;
    int error;
};

static int holder_submit(struct blkdev *dev, struct blkdev_io *io)
{
    struct holder *h = (struct holder *)dev;
    if (h->io)
        return -EAGAIN;
    h->io = io;
    return 0;
}

static void holder_close(struct blkdev *dev)
{
    (void)dev;
}

static const struct blkdev_ops holder_ops = { .submit = holder_submit, .close = holder_close };

static void holder_init(struct holder *h)
{
    *h = (struct holder){ .dev = { .ops = &holder_ops, .done = &rig_sched.done } };
    ram_geometry(DISK_BYTES, false, &h->dev.geo);
}

static void holder_finish(struct holder *h, uint8_t fill)
{
    struct blkdev_io *io = h->io;
    assert_non_null(io);
    if (!io)
        return;
    h->io = NULL;
    if (io->op == BLKDEV_READ && h->error == 0)
        for (unsigned i = 0; i < io->niov; i++)
            memset(io->iov[i].iov_base, fill, io->iov[i].iov_len);
    blkdev_done_add(h->dev.done, io, h->error);
}

static struct blkif_request *slot(struct rig *r, uint32_t index)
{
    size_t at = (size_t)(index & (r->ring.size - 1)) * r->ring.slot_bytes;
    return (struct blkif_request *)(r->ring.slots + at);
}

/* --------------------------------------------------------- XSA-155: double fetch */

/* The slot is rewritten after the checks: everything done later, the copy to
 * the guest's pages and the answer, follows what was checked. */
static void xsa_155_slot_rewritten_after_the_check(void **state)
{
    (void)state;
    static const enum blk_grants kinds[] = { BLK_GRANTS_PERSISTENT, BLK_GRANTS_COPY, BLK_GRANTS_MAP };
    for (unsigned k = 0; k < 3; k++) {
        struct rig r;
        struct holder h;
        struct blkif_response rsp = { 0 };
        holder_init(&h);
        rig_open(&r, &(struct rig_options){ .grants = kinds[k], .device = &h.dev });
        struct blkif_request rq = rig_rw(&r, BLKIF_OP_READ, 8, 0, 2);
        rig_put(&r, &rq);
        rig_serve(&r);
        assert_non_null(h.io);
        struct blkif_request *s = slot(&r, 0);
        s->id = 0xbad;
        s->operation = BLKIF_OP_WRITE;
        s->nr_segments = 11;
        s->seg[0].gref = rig_ref(&r, 5);
        s->seg[1] = (struct blkif_request_segment){ .gref = UINT32_MAX, .first_sect = 9, .last_sect = 255 };
        holder_finish(&h, 0x5a);
        rig_serve(&r);
        assert_true(rig_take(&r, &rsp));
        assert_int_equal(rsp.id, rq.id);
        assert_int_equal(rsp.operation, BLKIF_OP_READ);
        assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
        assert_int_equal(*(uint8_t *)rig_page(&r, 0), 0x5a);
        assert_int_equal(*(uint8_t *)rig_page(&r, 1), 0x5a);
        assert_int_equal(*(uint8_t *)rig_page(&r, 5), 0);
        rig_close(&r);
    }
}

static void xsa_155_indirect_list_rewritten_after_the_check(void **state)
{
    (void)state;
    static const enum blk_grants kinds[] = { BLK_GRANTS_PERSISTENT, BLK_GRANTS_COPY, BLK_GRANTS_MAP };
    for (unsigned k = 0; k < 3; k++) {
        struct rig r;
        struct holder h;
        struct blkif_response rsp = { 0 };
        holder_init(&h);
        rig_open(&r, &(struct rig_options){ .grants = kinds[k], .device = &h.dev });
        struct blkif_request_segment *list = rig_page(&r, 0);
        for (unsigned i = 0; i < 40; i++)
            list[i] = (struct blkif_request_segment){ .gref = rig_ref(&r, 1 + i), .last_sect = 7 };
        struct blkif_request_indirect in = rig_indirect(&r, BLKIF_OP_READ, 0, 0, 40);
        rig_put(&r, RIG_SLOT(in));
        rig_serve(&r);
        assert_non_null(h.io);
        for (unsigned i = 0; i < 40; i++)
            list[i] = (struct blkif_request_segment){ .gref = rig_ref(&r, 100), .last_sect = 255 };
        holder_finish(&h, 0x77);
        rig_serve(&r);
        assert_true(rig_take(&r, &rsp));
        assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
        for (unsigned i = 0; i < 40; i++)
            assert_int_equal(((uint8_t *)rig_page(&r, 1 + i))[4095], 0x77);
        assert_int_equal(*(uint8_t *)rig_page(&r, 100), 0);
        /* Control: changed before it is sent, the list does matter. */
        rig_put(&r, RIG_SLOT(in));
        rig_serve(&r);
        assert_true(rig_take(&r, &rsp));
        assert_int_equal(rsp.status, BLKIF_RSP_ERROR);
        rig_close(&r);
    }
}

struct flipper {
    struct rig *r;
    bool stop;
};

/* Turns every number of every slot and of the indirect list over and over. */
static void *flip(void *arg)
{
    struct flipper *f = arg;
    struct blkif_request_segment *list = rig_page(f->r, 0);
    for (unsigned n = 0; !__atomic_load_n(&f->stop, __ATOMIC_RELAXED); n++) {
        volatile struct blkif_request *s = slot(f->r, n);
        s->nr_segments = n & 1 ? 255 : 1;
        s->seg[0].last_sect = n & 2 ? 255 : 7;
        volatile struct blkif_request_indirect *in = (volatile struct blkif_request_indirect *)s;
        in->nr_segments = n & 4 ? UINT16_MAX : 20;
        s->sector_number = n & 8 ? UINT64_MAX - 3 : 0;
        volatile struct blkif_request_segment *l = &list[n % 64];
        l->last_sect = n & 1 ? 200 : 7;
        l->first_sect = n & 2 ? 100 : 0;
        l->gref = n & 4 ? UINT32_MAX : rig_ref(f->r, 1);
    }
    return NULL;
}

/* The same with a thread that changes the slots at any moment: the answers are
 * one for each request, and the sanitizers see no stray access. */
static void xsa_155_racing_frontend(void **state)
{
    (void)state;
    static const enum blk_grants kinds[] = { BLK_GRANTS_PERSISTENT, BLK_GRANTS_COPY, BLK_GRANTS_MAP };
    for (unsigned k = 0; k < 3; k++) {
        struct rig r;
        pthread_t thread;
        struct blkif_response rsp = { 0 };
        rig_open(&r, &(struct rig_options){ .grants = kinds[k] });
        struct flipper f = { .r = &r };
        assert_int_equal(pthread_create(&thread, NULL, flip, &f), 0);
        unsigned asked = 0, answered = 0;
        for (unsigned round = 0; round < 200; round++) {
            for (unsigned i = 0; i < 16; i++, asked += 2) {
                struct blkif_request rq = rig_rw(&r, BLKIF_OP_WRITE, 0, 1, 1);
                struct blkif_request_indirect in = rig_indirect(&r, BLKIF_OP_READ, 0, 0, 20);
                rig_put(&r, &rq);
                rig_put(&r, RIG_SLOT(in));
            }
            rig_serve(&r);
            while (rig_take(&r, &rsp))
                answered++;
        }
        __atomic_store_n(&f.stop, true, __ATOMIC_RELAXED);
        pthread_join(thread, NULL);
        assert_int_equal(answered, asked);
        assert_false(r.q->broken);
        rig_close(&r);
    }
}

/* ----------------------------------------------- XSA-216: stack in the response */

static void xsa_216_every_byte_of_a_response_is_meant(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, &(struct rig_options){ 0 });
    for (unsigned bad = 0; bad < 2; bad++) {
        struct blkif_request rq = rig_rw(&r, BLKIF_OP_READ, 0, 0, bad ? 0 : 1);
        uint32_t index = r.ring.req_prod;
        memset(slot(&r, index), 0xff, r.ring.slot_bytes);
        memset((uint8_t *)&rq + offsetof(struct blkif_request, seg[1]), 0xff,
               sizeof(rq) - offsetof(struct blkif_request, seg[1]));
        struct blkif_response expected, rsp = { 0 };
        memset(&expected, 0, sizeof(expected));
        expected.id = rq.id;
        expected.operation = BLKIF_OP_READ;
        expected.status = bad ? BLKIF_RSP_ERROR : BLKIF_RSP_OKAY;
        rig_put(&r, &rq);
        rig_serve(&r);
        /* Padding included, and nothing behind it was touched. */
        assert_memory_equal(slot(&r, index), &expected, sizeof(expected));
        assert_memory_equal((uint8_t *)slot(&r, index) + sizeof(rsp), (uint8_t *)&rq + sizeof(rsp),
                            sizeof(rq) - sizeof(rsp));
        assert_true(rig_take(&r, &rsp));
    }
    rig_close(&r);
}

/* ------------------------- XSA-361, 362, 365, 371, 71: errors while mapping grants */

/* One bad reference at each place of a request: the error of one page is not
 * covered by the success of another (361, 365), nothing ends the process
 * (362), nothing stays mapped or used up (365, 371; qdisk: 71). */
static void xsa_365_one_bad_grant_refuses_the_request(void **state)
{
    (void)state;
    static const enum blk_grants kinds[] = { BLK_GRANTS_PERSISTENT, BLK_GRANTS_COPY, BLK_GRANTS_MAP };
    for (unsigned k = 0; k < 3; k++) {
        struct rig r;
        unsigned asked = 0;
        rig_open(&r, &(struct rig_options){ .grants = kinds[k] });
        for (unsigned at = 0; at < BLKIF_MAX_SEGMENTS_PER_REQUEST; at++, asked += 2) {
            struct blkif_request rq = rig_rw(&r, BLKIF_OP_WRITE, 0, 0, BLKIF_MAX_SEGMENTS_PER_REQUEST);
            rq.seg[at].gref = 1;
            assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_ERROR);
            rq.operation = BLKIF_OP_READ;
            assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_ERROR);
        }
        struct blkif_request_segment *list = rig_page(&r, 0);
        for (unsigned at = 0; at < BLK_MAX_INDIRECT_SEGMENTS; at += 15, asked++) {
            for (unsigned i = 0; i < BLK_MAX_INDIRECT_SEGMENTS; i++)
                list[i] = (struct blkif_request_segment){ .gref = rig_ref(&r, 1 + i), .last_sect = 7 };
            list[at].gref = 1;
            struct blkif_request_indirect in =
                rig_indirect(&r, BLKIF_OP_WRITE, 0, 0, BLK_MAX_INDIRECT_SEGMENTS);
            assert_int_equal(rig_ask(&r, RIG_SLOT(in)), BLKIF_RSP_ERROR);
        }
        assert_int_equal(r.q->count.bad_grant, asked);
        assert_int_equal(r.q->nfree, BLK_REQUESTS);
        assert_int_equal(r.q->nlong, BLK_LONG_REQUESTS);
        for (unsigned i = 0; i < BLK_BOUNCE_PAGES / 64; i++)
            assert_int_equal(r.q->bounce_used[i], 0);
        struct blkif_request good = rig_rw(&r, BLKIF_OP_READ, 0, 0, 11);
        assert_int_equal(rig_ask(&r, &good), BLKIF_RSP_OKAY);
        rig_close(&r); /* the pool can be ended: nothing is mapped */
    }
}

/* --------------------------------------------------------- XSA-229: merged pieces */

/* Pieces merge when they are adjacent in our memory, in the order of the
 * request, and not otherwise. */
static void xsa_229_only_adjacent_memory_merges(void **state)
{
    (void)state;
    struct rig r;
    struct holder h;
    struct blkif_response rsp = { 0 };
    holder_init(&h);
    rig_open(&r, &(struct rig_options){ .device = &h.dev });
    static const struct {
        unsigned page[3];
        uint8_t first[3], last[3];
        unsigned pieces;
    } cases[] = {
        { { 1, 2, 3 }, { 0, 0, 0 }, { 7, 7, 7 }, 1 }, { { 3, 2, 1 }, { 0, 0, 0 }, { 7, 7, 7 }, 3 },
        { { 1, 2, 3 }, { 4, 0, 0 }, { 7, 7, 2 }, 1 }, { { 1, 2, 3 }, { 0, 1, 0 }, { 7, 7, 7 }, 2 },
        { { 1, 2, 3 }, { 0, 0, 0 }, { 6, 7, 7 }, 2 }, { { 1, 1, 1 }, { 0, 2, 4 }, { 1, 3, 5 }, 1 },
        { { 1, 1, 1 }, { 0, 0, 0 }, { 7, 7, 7 }, 3 },
    };
    for (unsigned c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct blkif_request rq = rig_rw(&r, BLKIF_OP_READ, 0, 0, 3);
        for (unsigned i = 0; i < 3; i++)
            rq.seg[i] = (struct blkif_request_segment){ .gref = rig_ref(&r, cases[c].page[i]),
                                                        .first_sect = cases[c].first[i],
                                                        .last_sect = cases[c].last[i] };
        rig_put(&r, &rq);
        rig_serve(&r);
        assert_int_equal(h.io->niov, cases[c].pieces);
        uint64_t sum = 0;
        for (unsigned i = 0; i < h.io->niov; i++)
            sum += h.io->iov[i].iov_len;
        assert_int_equal(sum, h.io->bytes);
        holder_finish(&h, 0);
        rig_serve(&r);
        assert_true(rig_take(&r, &rsp));
    }
    rig_close(&r);
}

/* ---------------------------------- CVE-2010-4247 and kin: indices that cannot be */

static void cve_2010_4247_lying_index_breaks_its_own_connection(void **state)
{
    (void)state;
    static const int32_t lies[] = { 33, 1000, INT32_MAX, -1, -32, INT32_MIN };
    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct rig liar, other;
        blk_sched_init(&rig_sched);
        struct hyp *back = fake_hyp_new(BACK_DOMID);
        struct hyp *one = fake_hyp_new(FRONT_DOMID), *two = fake_hyp_new(FRONT_DOMID + 1);
        rig_open_between(&liar, &(struct rig_options){ 0 }, one, back);
        rig_open_between(&other, &(struct rig_options){ 0 }, two, back);
        struct blkif_request rq = rig_rw(&liar, BLKIF_OP_READ, 0, 0, 1);
        struct blkif_request ok = rig_rw(&other, BLKIF_OP_READ, 0, 0, 1);
        assert_int_equal(rig_ask(&liar, &rq), BLKIF_RSP_OKAY);
        ring_store(&liar.ring.shared->req_prod, liar.ring.req_prod + (uint32_t)lies[i]);
        for (unsigned turn = 0; turn < 3; turn++)
            assert_int_equal(rig_ask(&other, &ok), BLKIF_RSP_OKAY);
        assert_true(liar.q->broken);
        assert_non_null(liar.q->why);
        assert_int_equal(liar.q->count.broken, 1);
        assert_false(other.q->broken);
        rig_close_queue(&liar);
        rig_close_queue(&other);
        hyp_close(one);
        hyp_close(two);
        hyp_close(back);
        assert_int_equal(fake_hyp_reset(), 0);
    }
}

/* A frontend may write the indices of our side too: they are never read back. */
static void our_own_indices_are_private(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, &(struct rig_options){ 0 });
    struct blkif_request rq = rig_rw(&r, BLKIF_OP_READ, 0, 0, 1);
    assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_OKAY);
    ring_store(&r.ring.shared->rsp_prod, 12345);
    ring_store(&r.ring.shared->req_event, 777);
    rig_put(&r, &rq);
    rig_serve(&r);
    assert_false(r.q->broken);
    assert_int_equal(ring_load(&r.ring.shared->rsp_prod), 2);
    r.ring.rsp_cons = 2;
    rig_close(&r);
}

/* ------------------------------------------------------- memory that goes away */

static void granted_memory_goes_away(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, &(struct rig_options){ 0 });
    struct blkif_request rq = rig_rw(&r, BLKIF_OP_WRITE, 0, 0, 1);
    assert_int_equal(rig_ask(&r, &rq), BLKIF_RSP_OKAY);
    uint32_t answered = ring_load(&r.ring.shared->rsp_prod);
    rig_put(&r, &rq);
    fake_hyp_fault(r.back_hyp);
    rig_serve(&r);
    assert_true(r.q->broken);
    assert_int_equal(r.q->count.broken, 1);
    /* No success is claimed for what may have been zeroes. */
    assert_int_equal(ring_load(&r.ring.shared->rsp_prod), answered);
    rig_close(&r);
}

/* ------------------------------------------------ backend's half of XSA-396, 403 */

/* XSA-396 is about frontends that end a grant which is still mapped.  Ours are
 * not mapped any more once the answer is out. */
static void xsa_396_nothing_stays_mapped_after_the_answer(void **state)
{
    (void)state;
    struct rig r;
    struct holder h;
    struct blkif_response rsp = { 0 };
    struct hyp_pool *pool;
    holder_init(&h);
    rig_open(&r, &(struct rig_options){ .grants = BLK_GRANTS_MAP, .device = &h.dev });
    assert_int_equal(hyp_pool_create(r.front_hyp, BACK_DOMID, 2, 0, &pool), 0);
    struct blkif_request rq = rig_rw(&r, BLKIF_OP_READ, 0, 0, 2);
    rq.seg[0].gref = hyp_pool_ref(pool, 0);
    rq.seg[1].gref = hyp_pool_ref(pool, 1);
    rig_put(&r, &rq);
    rig_serve(&r);
    assert_int_equal(hyp_pool_end(pool), -EBUSY); /* control: in flight */
    holder_finish(&h, 1);
    rig_serve(&r);
    assert_true(rig_take(&r, &rsp));
    assert_int_equal(hyp_pool_end(pool), 0);
    rig_close(&r);
}

/* XSA-403 is about frontends that share pages with more in them than was
 * meant.  The backend's half: a read that fails brings nothing from bounce
 * memory, where another request's data was, to the guest. */
static void xsa_403_failed_read_brings_no_old_data(void **state)
{
    (void)state;
    struct rig r;
    struct holder h;
    struct blkif_response rsp = { 0 };
    holder_init(&h);
    rig_open(&r, &(struct rig_options){ .grants = BLK_GRANTS_COPY, .device = &h.dev });
    struct blkif_request rq = rig_rw(&r, BLKIF_OP_READ, 0, 0, 2);
    for (unsigned fails = 0; fails < 2; fails++) {
        memset(rig_page(&r, 0), 0x11, 2 * HYP_PAGE_SIZE);
        h.error = fails ? -EIO : 0;
        rig_put(&r, &rq);
        rig_serve(&r);
        holder_finish(&h, 0x99);
        rig_serve(&r);
        assert_true(rig_take(&r, &rsp));
        assert_int_equal(rsp.status, fails ? BLKIF_RSP_ERROR : BLKIF_RSP_OKAY);
        assert_int_equal(*(uint8_t *)rig_page(&r, 0), fails ? 0x11 : 0x99);
        assert_int_equal(((uint8_t *)rig_page(&r, 1))[4095], fails ? 0x11 : 0x99);
    }
    rig_close(&r);
}

/* ------------------------------------------- XSA-142, CVE-2013-2140: read-only */

/* A read-only disk stays as it is whatever is asked; discard was forgotten once. */
static void xsa_142_readonly_disk_is_never_changed(void **state)
{
    (void)state;
    static const uint8_t ops[] = { BLKIF_OP_DISCARD, BLK_OP_WRITE_ZEROES };
    for (unsigned readonly = 0; readonly < 2; readonly++) {
        struct rig r;
        rig_open(&r, &(struct rig_options){ .readonly = readonly });
        for (unsigned i = 0; i < 2; i++) {
            memset(r.disk.ram, 0x42, HYP_PAGE_SIZE);
            struct blkif_request_discard d = rig_range(ops[i], BLK_ZEROES_MAY_UNMAP, 0, 8);
            assert_int_equal(rig_ask(&r, RIG_SLOT(d)), readonly ? BLKIF_RSP_ERROR : BLKIF_RSP_OKAY);
            assert_int_equal(*(uint8_t *)r.disk.ram, readonly ? 0x42 : 0);
        }
        struct blkif_request_segment *list = rig_page(&r, 0);
        list[0] = (struct blkif_request_segment){ .gref = rig_ref(&r, 1), .last_sect = 7 };
        struct blkif_request_indirect in = rig_indirect(&r, BLKIF_OP_WRITE, 0, 0, 1);
        assert_int_equal(rig_ask(&r, RIG_SLOT(in)), readonly ? BLKIF_RSP_ERROR : BLKIF_RSP_OKAY);
        assert_int_equal(r.q->count.bad_readonly, readonly ? 3 : 0);
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xsa_155_slot_rewritten_after_the_check),
        cmocka_unit_test(xsa_155_indirect_list_rewritten_after_the_check),
        cmocka_unit_test(xsa_155_racing_frontend),
        cmocka_unit_test(xsa_216_every_byte_of_a_response_is_meant),
        cmocka_unit_test(xsa_365_one_bad_grant_refuses_the_request),
        cmocka_unit_test(xsa_229_only_adjacent_memory_merges),
        cmocka_unit_test(cve_2010_4247_lying_index_breaks_its_own_connection),
        cmocka_unit_test(our_own_indices_are_private),
        cmocka_unit_test(granted_memory_goes_away),
        cmocka_unit_test(xsa_396_nothing_stays_mapped_after_the_answer),
        cmocka_unit_test(xsa_403_failed_read_brings_no_old_data),
        cmocka_unit_test(xsa_142_readonly_disk_is_never_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
