/* SPDX-License-Identifier: MIT */
/*
 * A driver domain that lies, rings or spies, against one queue of the frontend.
 * Every attack has a control: the same steps without the lie.  Advisories that
 * concern frontends of PV block devices are named where they are tested.
 */
#include "test_blkfront.h"

static struct rig r;

static int up(void **state)
{
    (void)state;
    rig_up(&r, 1, 64);
    return 0;
}

static int down(void **state)
{
    (void)state;
    rig_down(&r);
    return 0;
}

static const uint64_t all_three[] = { 10, 11, 12 };

/* Three requests in flight, all taken by the backend. */
static void three(struct blkif_request req[3])
{
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(rig_submit(&r, rig_io(&r, i == 1 ? BLKFRONT_WRITE : BLKFRONT_READ, 10 + i)), 1);
    for (unsigned i = 0; i < 3; i++)
        rig_take(&r, &req[i]);
}

/* The connection is over and nothing is believed; all that was in flight is asked
 * again in the next one, where the truth gives each one result. */
static void expect_broken(enum blkqueue_lie lie, unsigned n, const uint64_t *cookies)
{
    struct blkfront_result out[8];
    assert_int_equal(blkqueue_reap(&r.q, out, 8), 0);
    assert_int_equal(r.q.counters.lies[lie], 1);
    assert_true(sides_control_called(&r.sides)); /* drained: it may make the queue anew */
    assert_true(queue_drained(&r.q.queue));
    rig_detach(&r);
    rig_reborn(&r);
    assert_int_equal(blkqueue_reap(&r.q, out, 8), 0);
    assert_int_equal(ring_back_waiting(&r.ring), n);
    for (unsigned i = 0; i < n; i++)
        rig_serve(&r, BLKIF_RSP_OKAY);
    assert_int_equal(blkqueue_reap(&r.q, out, 8), n);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(out[i].cookie, cookies[i]);
        assert_int_equal(out[i].error, 0);
    }
    assert_int_equal(r.q.inflight, 0);
    assert_int_equal(r.q.counters.replayed, n);
}

static void expect_fine(void)
{
    struct blkfront_result out[8];
    assert_int_equal(blkqueue_reap(&r.q, out, 8), 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(out[i].error, 0);
    for (int lie = 0; lie < BLKQUEUE_LIES; lie++)
        assert_int_equal(r.q.counters.lies[lie], 0);
    assert_int_equal(r.q.queue.state, QUEUE_IDLE);
}

static void answer_all(struct blkif_request req[3])
{
    for (int i = 0; i < 3; i++)
        rig_respond(&r, req[i].id, req[i].operation, 0);
}

/* XSA-376: a frontend must not index its tables with what a backend says. */
static void test_xsa376_id_of_no_request(void **state)
{
    (void)state;
    static const uint64_t ids[] = { 0, 31, 32, 0xffff, 1ull << 16 | 5, UINT64_MAX, UINT64_MAX - 0xffff,
                                    1ull << 63 };
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct blkif_request req[3];
        three(req);
        rig_respond(&r, ids[i], BLKIF_OP_READ, 0);
        expect_broken(BLKQUEUE_BAD_ID, 3, all_three);
        down(NULL);
        up(NULL);
    }
    struct blkif_request req[3];
    three(req);
    answer_all(req);
    expect_fine();
}

/* XSA-376: an answer to a request that was answered before, even when its slot is
 * in use again. */
static void test_xsa376_replay_of_an_old_id(void **state)
{
    (void)state;
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_READ, 1)), 1);
    uint64_t old = rig_serve(&r, 0).id;
    rig_expect(&r, 1, 0);
    struct blkif_request req[3];
    three(req);
    assert_int_equal(req[0].id & 0xffff, old & 0xffff); /* the slot is the same */
    rig_respond(&r, old, BLKIF_OP_READ, 0);
    expect_broken(BLKQUEUE_BAD_ID, 3, all_three);
}

static void test_xsa376_the_same_answer_twice(void **state)
{
    (void)state;
    struct blkif_request req[3];
    struct blkfront_result out[1];
    three(req);
    rig_respond(&r, req[0].id, req[0].operation, 0);
    rig_respond(&r, req[0].id, req[0].operation, 0);
    assert_int_equal(blkqueue_reap(&r.q, out, 1), 1);
    assert_int_equal(out[0].error, 0);
    assert_int_equal(out[0].cookie, 10);
    expect_broken(BLKQUEUE_BAD_ID, 2, all_three + 1);
}

/* An answer to what was asked in an earlier connection, by one that remembers. */
static void test_xsa376_id_of_an_earlier_connection(void **state)
{
    (void)state;
    struct blkif_request before[3], after[3];
    three(before);
    rig_die(&r);
    rig_reborn(&r);
    assert_int_equal(blkqueue_idle(&r.q), 0);
    for (unsigned i = 0; i < 3; i++) {
        rig_take(&r, &after[i]);
        assert_int_equal(after[i].id & 0xffff, before[i].id & 0xffff); /* the slots are the same */
    }
    rig_respond(&r, before[0].id, before[0].operation, 0);
    r.q.counters.replayed = 0;
    expect_broken(BLKQUEUE_BAD_ID, 3, all_three);
}

/* One that lies whenever it is asked for this: a request does not go round for ever. */
static void test_lies_poison_a_request(void **state)
{
    (void)state;
    struct blkfront_result out[1];
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_READ, 1)), 1);
    for (unsigned lie = 1; lie <= BLKQUEUE_DEATHS; lie++) {
        rig_respond(&r, 12345, BLKIF_OP_READ, 0);
        assert_int_equal(blkqueue_reap(&r.q, out, 1), 0);
        assert_int_equal(r.q.counters.lies[BLKQUEUE_BAD_ID], lie);
        rig_detach(&r);
        rig_reborn(&r);
        assert_int_equal(blkqueue_idle(&r.q), lie == BLKQUEUE_DEATHS);
    }
    rig_expect(&r, 1, -EIO);
    assert_int_equal(r.q.counters.poisoned, 1);
}

/* The write of a FUA pair answered again in place of its flush. */
static void test_xsa376_write_answered_again_for_its_flush(void **state)
{
    (void)state;
    struct blkfront_result out[1];
    static const uint64_t cookie[] = { 3 };
    r.terms.native_fua = false;
    struct blkfront_io io = rig_io(&r, BLKFRONT_WRITE, 3);
    io.flags = BLKFRONT_FUA;
    assert_int_equal(rig_submit(&r, io), 1);
    uint64_t id = rig_serve(&r, 0).id;
    assert_int_equal(blkqueue_reap(&r.q, out, 1), 0);
    rig_respond(&r, id, BLKIF_OP_WRITE, 0);
    r.terms.native_fua = true; /* in the next connection */
    expect_broken(BLKQUEUE_BAD_ID, 1, cookie);
}

static void test_xsa376_wrong_operation(void **state)
{
    (void)state;
    for (unsigned operation = 0; operation < 256; operation++) {
        struct blkif_request req[3];
        three(req);
        if (operation == BLKIF_OP_READ) {
            answer_all(req);
            expect_fine();
            continue;
        }
        rig_respond(&r, req[0].id, (uint8_t)operation, 0);
        expect_broken(BLKQUEUE_BAD_OPERATION, 3, all_three);
        down(NULL);
        up(NULL);
    }
}

static void test_wrong_status(void **state)
{
    (void)state;
    static const int16_t bad[] = { 1, -3, -4095, INT16_MIN, INT16_MAX };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct blkif_request req[3];
        three(req);
        rig_respond(&r, req[1].id, req[1].operation, bad[i]);
        expect_broken(BLKQUEUE_BAD_STATUS, 3, all_three);
        down(NULL);
        up(NULL);
    }
}

/* More answers than questions: however far the index jumps. */
static void test_xsa376_index_lies(void **state)
{
    (void)state;
    static const uint32_t jumps[] = { 4, 32, 33, 1u << 31, UINT32_MAX };
    for (size_t i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
        struct blkif_request req[3];
        three(req);
        ring_store(&r.ring.shared->rsp_prod, jumps[i]);
        expect_broken(BLKQUEUE_BAD_INDEX, 3, all_three);
        down(NULL);
        up(NULL);
    }
    struct blkif_request req[3];
    three(req);
    ring_store(&r.ring.shared->rsp_prod, UINT32_MAX); /* as seen by who wants to sleep */
    assert_int_equal(blkqueue_idle(&r.q), 0);
    expect_broken(BLKQUEUE_BAD_INDEX, 3, all_three);
}

/* Answers on a ring that was asked nothing: no result, and no sleep through it. */
static void test_answers_without_questions(void **state)
{
    (void)state;
    struct blkfront_result out[1];
    ring_store(&r.ring.shared->rsp_prod, 1);
    assert_int_equal(blkqueue_reap(&r.q, out, 1), 0);
    assert_int_equal(blkqueue_idle(&r.q), 0);
    assert_int_equal(r.q.counters.lies[BLKQUEUE_BAD_INDEX], 1);
    assert_true(queue_drained(&r.q.queue));
}

/* XSA-155, in its frontend half: what was checked must be what is used.  The
 * backend rewrites request and response slots, descriptors and indices at will;
 * nothing of it is read again. */
static void test_xsa155_shared_ring_is_never_read_back(void **state)
{
    (void)state;
    struct blkfront_io big = rig_io(&r, BLKFRONT_READ, 20);
    struct blkif_request req[3];
    struct blkif_request_indirect ind;
    big.bytes = 32 * HYP_PAGE_SIZE;
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_WRITE, 21)), 1);
    assert_int_equal(rig_submit(&r, big), 1);
    rig_take(&r, &req[0]);
    rig_take(&r, &req[1]);
    memcpy(&ind, &req[1], sizeof(ind));
    memset(r.ring.slots, 0xff, (size_t)r.slots * sizeof(struct blkif_request));
    memset(hyp_map_persistent(r.sides.map, ind.indirect_grefs[0]), 0xff, HYP_PAGE_SIZE);
    ring_store(&r.ring.shared->req_prod, 0xdeadbeef); /* ours: we know what we wrote */
    ring_store(&r.ring.shared->req_event, 0xdeadbeef);
    rig_respond(&r, req[0].id, BLKIF_OP_WRITE, 0);
    rig_respond(&r, ind.id, BLKIF_OP_READ, 0);
    struct blkfront_result out[4];
    assert_int_equal(blkqueue_reap(&r.q, out, 4), 2);
    assert_int_equal(out[0].cookie, 21);
    assert_int_equal(out[1].cookie, 20);
    assert_int_equal(out[0].error | out[1].error, 0);
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_READ, 22)), 1);
    assert_int_equal(ring_load(&r.ring.shared->req_prod), 3); /* from the private index */
}

/* XSA-391: a backend that rings and rings. Each ring costs one look, and after a
 * thousand without an answer between them the connection is broken. */
static void test_xsa391_doorbell_storm(void **state)
{
    (void)state;
    static const uint64_t cookie[] = { 1 };
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_READ, 1)), 1);
    int turns = 0;
    for (; turns < 5000 && !r.q.counters.lies[BLKQUEUE_STORM]; turns++) {
        hyp_evtchn_notify(r.doorbell);
        blkqueue_wait(&r.q, 0);
    }
    assert_in_range(turns, 500, 2000);
    expect_broken(BLKQUEUE_STORM, 1, cookie);
}

static void test_xsa391_control_rings_with_answers(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 5000; i++) {
        assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_READ, i)), 1);
        hyp_evtchn_notify(r.doorbell); /* one for nothing, each time */
        blkqueue_wait(&r.q, 0);
        rig_serve(&r, 0);
        hyp_evtchn_notify(r.doorbell);
        blkqueue_wait(&r.q, 0);
        rig_expect(&r, i, 0);
    }
    assert_int_equal(r.q.counters.lies[BLKQUEUE_STORM], 0);
}

/* XSA-396: grants must have ended before their pages are anything else; a pool
 * that the backend keeps mapped is not given back. */
static void test_xsa396_mapped_pool_is_not_freed(void **state)
{
    (void)state;
    queue_stop(&r.q.queue);
    assert_int_equal(hyp_pool_end(r.sides.pool), -EBUSY); /* its ring is mapped */
    memset(hyp_pool_base(r.sides.pool), 1, HYP_PAGE_SIZE); /* and the memory still ours */
    assert_int_equal(*(uint8_t *)r.ring_va, 1);
    /* control: rig_down() unmaps, and then it can be ended */
}

/* Leaves marks on the stack, where the next call will have its variables. */
__attribute__((noinline)) static void mark_stack(void)
{
    volatile uint8_t stack[8192];
    for (size_t i = 0; i < sizeof(stack); i++)
        stack[i] = 0xa5;
}

/* XSA-403: no memory but what a request names.  Only pool pages are ever granted,
 * a request shorter than a page names its sectors only, and no byte of what we
 * build a request from (our stack) reaches the ring or a descriptor page. */
static void test_xsa403_nothing_beside_the_request(void **state)
{
    (void)state;
    static uint8_t secret[8192];
    memset(secret, 0xa5, sizeof(secret)); /* private memory: not in the pool */
    struct blkfront_io io = rig_io(&r, BLKFRONT_WRITE, 1);
    io.bytes = 512;
    io.buf = secret;
    assert_int_equal(rig_submit(&r, io), -EINVAL);

    io.buf = (uint8_t *)rig_page(&r, 1) + 512;
    struct blkfront_io ios[] = { io, rig_io(&r, BLKFRONT_WRITE, 2), rig_io(&r, BLKFRONT_WRITE, 3),
                                 rig_io(&r, BLKFRONT_DISCARD, 4), rig_io(&r, BLKFRONT_FLUSH, 5) };
    ios[1].bytes = 13 * HYP_PAGE_SIZE;
    ios[2].bytes = 5 * HYP_PAGE_SIZE;
    for (size_t i = 0; i < sizeof(ios) / sizeof(ios[0]); i++) {
        mark_stack();
        assert_int_equal(blkqueue_submit(&r.q, &ios[i], 1), 1);
    }

    struct blkif_request req;
    rig_take(&r, &req);
    assert_int_equal(req.nr_segments, 1);
    assert_int_equal(req.seg[0].first_sect, 1);
    assert_int_equal(req.seg[0].last_sect, 1);
    const uint8_t *pool = hyp_map_persistent(r.sides.map, hyp_pool_ref(r.sides.pool, 0));
    size_t shared = (size_t)(r.ring_pages + r.slots) * HYP_PAGE_SIZE, marks = 0;
    for (size_t i = 0; i < shared; i++)
        marks += pool[i] == 0xa5;
    assert_int_equal(marks, 0);
    /* control: the search finds what is there */
    ((uint8_t *)hyp_pool_base(r.sides.pool))[shared - 1] = 0xa5;
    for (size_t i = marks = 0; i < shared; i++)
        marks += pool[i] == 0xa5;
    assert_int_equal(marks, 1);
}

#define ON(test) cmocka_unit_test_setup_teardown(test, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(test_xsa376_id_of_no_request),
        ON(test_xsa376_replay_of_an_old_id),
        ON(test_xsa376_the_same_answer_twice),
        ON(test_xsa376_id_of_an_earlier_connection),
        ON(test_lies_poison_a_request),
        ON(test_xsa376_write_answered_again_for_its_flush),
        ON(test_xsa376_wrong_operation),
        ON(test_wrong_status),
        ON(test_xsa376_index_lies),
        ON(test_answers_without_questions),
        ON(test_xsa155_shared_ring_is_never_read_back),
        ON(test_xsa391_doorbell_storm),
        ON(test_xsa391_control_rings_with_answers),
        ON(test_xsa396_mapped_pool_is_not_freed),
        ON(test_xsa403_nothing_beside_the_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
