/* SPDX-License-Identifier: MIT */
/*
 * ring.h against <xen/io/ring.h>, which stock drivers are built from: the
 * macros there play the peer of each of our sides.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <limits.h>
#include <string.h>

#include <xen/xen.h>
#define mb()  __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define wmb() __atomic_thread_fence(__ATOMIC_RELEASE)
#include <xen/io/blkif.h>
#include <xen/io/ring.h>

#include "../../hyp-shim/ring.h"

struct test_request {
    uint64_t id;
    uint8_t body[40];
};
struct test_response {
    uint64_t id;
    int32_t status;
};
DEFINE_RING_TYPES(test, struct test_request, struct test_response);

#define BYTES 4096u
#define SLOT  sizeof(union test_sring_entry)

static _Alignas(64) char page[BYTES];

static const uint32_t starts[] = { 0, 1, 0x7ffffff0u, 0xffffffffu, 0xfffffff0u, 0x80000000u };
#define STARTS (sizeof(starts) / sizeof(starts[0]))

/* Our front end and back end, and the oracle's, on the page, all at one index. */
struct sides {
    struct ring_front front;
    struct ring_back back;
    test_front_ring_t xen_front;
    test_back_ring_t xen_back;
};

static void begin(struct sides *s, uint32_t at)
{
    assert_true(ring_front_init(&s->front, page, BYTES, SLOT));
    struct ring_header *h = s->front.shared;
    h->req_prod = h->rsp_prod = at;
    h->req_event = h->rsp_event = at + 1;
    s->front.req_prod = s->front.req_pushed = s->front.rsp_cons = at;
    assert_true(ring_back_attach(&s->back, page, BYTES, SLOT));
    FRONT_RING_ATTACH(&s->xen_front, (test_sring_t *)(void *)page, at, BYTES);
    BACK_RING_ATTACH(&s->xen_back, (test_sring_t *)(void *)page, at, BYTES);
    assert_int_equal(s->back.req_cons, at);
}

static struct test_request request(uint64_t id)
{
    struct test_request r = { .id = id };
    memset(r.body, (int)(id & 0xff), sizeof(r.body));
    return r;
}

/* ------------------------------------------------------------------ layout */

static void layout_is_xens(void **state)
{
    (void)state;
    assert_int_equal(offsetof(test_sring_t, req_prod), offsetof(struct ring_header, req_prod));
    assert_int_equal(offsetof(test_sring_t, req_event), offsetof(struct ring_header, req_event));
    assert_int_equal(offsetof(test_sring_t, rsp_prod), offsetof(struct ring_header, rsp_prod));
    assert_int_equal(offsetof(test_sring_t, rsp_event), offsetof(struct ring_header, rsp_event));
    assert_int_equal(offsetof(test_sring_t, ring), RING_HEADER_BYTES);
}

static void sizes_are_xens(void **state)
{
    (void)state;
    for (size_t order = 0; order <= 4; order++) {
        size_t bytes = (size_t)4096 << order;
        assert_int_equal(ring_slots(bytes, SLOT), __CONST_RING_SIZE(test, bytes));
    }
    assert_int_equal(ring_slots(4096, 112), 32);  /* blkif, one page */
    assert_int_equal(ring_slots(65536, 112), 512);
    assert_int_equal(ring_slots(RING_HEADER_BYTES + 4 * 112, 112), 4);
    assert_int_equal(ring_slots(RING_HEADER_BYTES + 112, 112), 1);
    assert_int_equal(ring_slots(RING_HEADER_BYTES + 111, 112), 0);
    assert_int_equal(ring_slots(0, 112), 0);
    struct ring_front f;
    struct ring_back b;
    assert_false(ring_front_init(&f, page, RING_HEADER_BYTES, SLOT));
    assert_false(ring_back_attach(&b, page, RING_HEADER_BYTES, SLOT));
}

static void a_new_ring_is_as_xen_makes_it(void **state)
{
    (void)state;
    static _Alignas(64) char theirs[BYTES];
    struct ring_front f;
    memset(page, 0xee, sizeof(page));
    assert_true(ring_front_init(&f, page, BYTES, SLOT));
    memset(theirs, 0, sizeof(theirs));
    test_sring_t *sring = (test_sring_t *)(void *)theirs;
    SHARED_RING_INIT(sring);
    assert_memory_equal(page, theirs, BYTES);
}

/* ---------------------------------------------------- us with Xen's macros */

/* Our front end, Xen's back end: `rounds` batches of `batch` requests. */
static void front_against_xen(uint32_t at, uint32_t batch, unsigned rounds)
{
    struct sides s;
    begin(&s, at);
    uint64_t sent = 0, served = 0, done = 0;
    for (unsigned round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < batch; i++) {
            struct test_request r = request(sent++);
            ring_front_put_request(&s.front, &r, sizeof(r));
        }
        /* The back end sleeps, as BACK ring macros left it, until rung. */
        assert_true(ring_front_push(&s.front));
        assert_int_equal(ring_front_free(&s.front), s.front.size - batch);
        int more;
        do {
            while (RING_HAS_UNCONSUMED_REQUESTS(&s.xen_back)) {
                struct test_request r;
                RING_COPY_REQUEST(&s.xen_back, s.xen_back.req_cons, &r);
                s.xen_back.req_cons++;
                struct test_request wanted = request(served++);
                assert_memory_equal(&r, &wanted, sizeof(r));
                struct test_response rsp = { .id = r.id, .status = -(int32_t)r.id };
                memcpy(RING_GET_RESPONSE(&s.xen_back, s.xen_back.rsp_prod_pvt), &rsp, sizeof(rsp));
                s.xen_back.rsp_prod_pvt++;
            }
            RING_FINAL_CHECK_FOR_REQUESTS(&s.xen_back, more);
        } while (more);
        int notify;
        RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&s.xen_back, notify);
        assert_true(notify); /* we slept, too */
        int n;
        do {
            while ((n = ring_front_waiting(&s.front)) > 0) {
                struct test_response rsp;
                ring_front_copy_response(&s.front, &rsp, sizeof(rsp));
                assert_int_equal(rsp.id, done);
                assert_int_equal(rsp.status, -(int32_t)done);
                done++;
            }
            assert_int_equal(n, 0);
        } while (ring_front_idle(&s.front) > 0);
    }
    assert_int_equal(done, sent);
}

/* Xen's front end, our back end. */
static void xen_against_back(uint32_t at, uint32_t batch, unsigned rounds)
{
    struct sides s;
    begin(&s, at);
    uint64_t sent = 0, served = 0, done = 0;
    for (unsigned round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < batch; i++) {
            assert_false(RING_FULL(&s.xen_front));
            *RING_GET_REQUEST(&s.xen_front, s.xen_front.req_prod_pvt) = request(sent++);
            s.xen_front.req_prod_pvt++;
        }
        int notify;
        RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&s.xen_front, notify);
        assert_true(notify);
        do {
            while (ring_back_waiting(&s.back) > 0) {
                struct test_request r, wanted = request(served++);
                ring_back_copy_request(&s.back, &r);
                assert_memory_equal(&r, &wanted, sizeof(r));
                struct test_response rsp = { .id = r.id, .status = 7 };
                ring_back_put_response(&s.back, &rsp, sizeof(rsp));
            }
        } while (ring_back_idle(&s.back) > 0);
        assert_true(ring_back_push(&s.back));
        assert_false(ring_back_push(&s.back)); /* nothing new */
        int more;
        do {
            while (RING_HAS_UNCONSUMED_RESPONSES(&s.xen_front)) {
                assert_int_equal(RING_GET_RESPONSE(&s.xen_front, s.xen_front.rsp_cons)->id, done++);
                s.xen_front.rsp_cons++;
            }
            RING_FINAL_CHECK_FOR_RESPONSES(&s.xen_front, more);
        } while (more);
    }
    assert_int_equal(done, sent);
}

static void our_front_speaks_with_xen(void **state)
{
    (void)state;
    for (size_t i = 0; i < STARTS; i++)
        for (uint32_t batch = 1; batch <= ring_slots(BYTES, SLOT); batch++)
            front_against_xen(starts[i], batch, 5);
}

static void our_back_speaks_with_xen(void **state)
{
    (void)state;
    for (size_t i = 0; i < STARTS; i++)
        for (uint32_t batch = 1; batch <= ring_slots(BYTES, SLOT); batch++)
            xen_against_back(starts[i], batch, 5);
}

/* ----------------------------------------------------------------- doorbell */

/* The doorbell is rung exactly when Xen's macros would ring it. */
static void doorbells_are_xens(void **state)
{
    (void)state;
    for (size_t i = 0; i < STARTS; i++)
        for (uint32_t pushed = 1; pushed <= 8; pushed++)
            for (int event = -10; event <= 10; event++) {
                struct sides s;
                int theirs;
                begin(&s, starts[i]);
                s.front.shared->req_event = starts[i] + (uint32_t)event;
                struct test_request r = request(1);
                for (uint32_t n = 0; n < pushed; n++)
                    ring_front_put_request(&s.front, &r, sizeof(r));
                int ours = ring_front_push(&s.front);
                s.front.shared->req_prod = starts[i];
                s.xen_front.req_prod_pvt = starts[i] + pushed;
                RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&s.xen_front, theirs);
                assert_int_equal(ours, theirs);

                begin(&s, starts[i]);
                s.front.shared->rsp_event = starts[i] + (uint32_t)event;
                struct test_response p = { .id = 1 };
                for (uint32_t n = 0; n < pushed; n++)
                    ring_back_put_response(&s.back, &p, sizeof(p));
                ours = ring_back_push(&s.back);
                s.front.shared->rsp_prod = starts[i];
                s.xen_back.rsp_prod_pvt = starts[i] + pushed;
                RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&s.xen_back, theirs);
                assert_int_equal(ours, theirs);
            }
}

/* Who is awake is not rung; who asked is rung once. */
static void an_awake_peer_is_not_rung(void **state)
{
    (void)state;
    struct sides s;
    struct test_request r = request(1);
    begin(&s, 0xfffffffeu);
    for (int i = 0; i < 5; i++) {
        ring_front_put_request(&s.front, &r, sizeof(r));
        assert_int_equal(ring_front_push(&s.front), i == 0);
    }
    for (int i = 0; i < 5; i++)
        ring_back_copy_request(&s.back, &r);
    assert_int_equal(ring_back_idle(&s.back), 0);
    ring_front_put_request(&s.front, &r, sizeof(r));
    assert_true(ring_front_push(&s.front));
    assert_int_equal(ring_back_waiting(&s.back), 1);
}

/* --------------------------------------------------------------------- lies */

static void a_lying_frontend_is_caught(void **state)
{
    (void)state;
    for (size_t i = 0; i < STARTS; i++) {
        struct sides s;
        struct test_request r;
        begin(&s, starts[i]);
        uint32_t at = starts[i], size = s.back.size;
        s.front.shared->req_prod = at + size;
        assert_int_equal(ring_back_waiting(&s.back), (int)size);
        s.front.shared->req_prod = at + size + 1;
        assert_int_equal(ring_back_waiting(&s.back), RING_LIES);
        assert_int_equal(ring_back_idle(&s.back), RING_LIES);
        s.front.shared->req_prod = at - 1; /* backwards */
        assert_int_equal(ring_back_waiting(&s.back), RING_LIES);
        s.front.shared->req_prod = at + 0x80000000u;
        assert_int_equal(ring_back_waiting(&s.back), RING_LIES);
        /* Taken but not answered still fills the ring. */
        s.front.shared->req_prod = at + 4;
        for (int n = 0; n < 4; n++)
            ring_back_copy_request(&s.back, &r);
        s.front.shared->req_prod = at + size;
        assert_int_equal(ring_back_waiting(&s.back), (int)size - 4);
        s.front.shared->req_prod = at + size + 1;
        assert_int_equal(ring_back_waiting(&s.back), RING_LIES);
        /* Behind what we took: not even though the peer has room to say so. */
        for (uint32_t behind = 1; behind <= 4; behind++) {
            s.front.shared->req_prod = at + 4 - behind;
            assert_int_equal(ring_back_waiting(&s.back), RING_LIES);
        }
        /* A response frees one place. */
        struct test_response p = { .id = 0 };
        ring_back_put_response(&s.back, &p, sizeof(p));
        s.front.shared->req_prod = at + size + 1;
        assert_int_equal(ring_back_waiting(&s.back), (int)size - 3);
    }
}

static void a_lying_backend_is_caught(void **state)
{
    (void)state;
    for (size_t i = 0; i < STARTS; i++) {
        struct sides s;
        begin(&s, starts[i]);
        uint32_t at = starts[i];
        struct test_request r = request(1);
        s.front.shared->rsp_prod = at + 1; /* nothing was asked */
        assert_int_equal(ring_front_waiting(&s.front), RING_LIES);
        ring_front_put_request(&s.front, &r, sizeof(r));
        assert_int_equal(ring_front_waiting(&s.front), RING_LIES); /* put is not pushed */
        ring_front_push(&s.front);
        assert_int_equal(ring_front_waiting(&s.front), 1);
        s.front.shared->rsp_prod = at + 2;
        assert_int_equal(ring_front_waiting(&s.front), RING_LIES);
        assert_int_equal(ring_front_idle(&s.front), RING_LIES);
        s.front.shared->rsp_prod = at - 1;
        assert_int_equal(ring_front_waiting(&s.front), RING_LIES);
        s.front.shared->rsp_prod = at + 0x80000001u;
        assert_int_equal(ring_front_waiting(&s.front), RING_LIES);
    }
}

/* XSA-155: what was copied does not change when the page does. */
static void a_copy_is_a_copy(void **state)
{
    (void)state;
    struct sides s;
    begin(&s, 5);
    struct test_request r = request(0x11), got;
    ring_front_put_request(&s.front, &r, sizeof(r));
    ring_front_push(&s.front);
    ring_back_copy_request(&s.back, &got);
    memset(page + RING_HEADER_BYTES, 0xff, BYTES - RING_HEADER_BYTES);
    assert_memory_equal(&got, &r, sizeof(r));
}

/* What we wrote to the page is never believed: the peer may write there, too. */
static void our_own_indices_are_private(void **state)
{
    (void)state;
    struct sides s;
    begin(&s, 100);
    struct test_request r = request(1);
    struct test_response p = { .id = 1 };
    ring_front_put_request(&s.front, &r, sizeof(r));
    ring_front_push(&s.front);
    s.front.shared->req_prod = 0xdeadbeef;
    assert_int_equal(ring_front_free(&s.front), s.front.size - 1);
    ring_front_put_request(&s.front, &r, sizeof(r));
    ring_front_push(&s.front);
    assert_int_equal(s.front.shared->req_prod, 102);
    ring_back_put_response(&s.back, &p, sizeof(p));
    s.front.shared->rsp_prod = 0xdeadbeef;
    ring_back_push(&s.back);
    assert_int_equal(s.front.shared->rsp_prod, 101);
}

/* A backend that comes later goes on where the ring is. */
static void attach_goes_on(void **state)
{
    (void)state;
    struct sides s;
    begin(&s, UINT_MAX);
    struct test_request r = request(1), got = { 0 };
    struct test_response p = { .id = 1 };
    for (int i = 0; i < 3; i++) {
        ring_front_put_request(&s.front, &r, sizeof(r));
        ring_front_push(&s.front);
        ring_back_copy_request(&s.back, &got);
        ring_back_put_response(&s.back, &p, sizeof(p));
        ring_back_push(&s.back);
        ring_front_copy_response(&s.front, &p, sizeof(p));
    }
    struct ring_back again = { 0 };
    assert_true(ring_back_attach(&again, page, BYTES, SLOT));
    assert_int_equal(again.req_cons, 2);
    assert_int_equal(ring_back_waiting(&again), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout_is_xens),
        cmocka_unit_test(sizes_are_xens),
        cmocka_unit_test(a_new_ring_is_as_xen_makes_it),
        cmocka_unit_test(our_front_speaks_with_xen),
        cmocka_unit_test(our_back_speaks_with_xen),
        cmocka_unit_test(doorbells_are_xens),
        cmocka_unit_test(an_awake_peer_is_not_rung),
        cmocka_unit_test(a_lying_frontend_is_caught),
        cmocka_unit_test(a_lying_backend_is_caught),
        cmocka_unit_test(a_copy_is_a_copy),
        cmocka_unit_test(our_own_indices_are_private),
        cmocka_unit_test(attach_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
