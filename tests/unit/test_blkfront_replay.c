/* SPDX-License-Identifier: MIT */
/*
 * The end of a connection, and what becomes of the requests: the rules of
 * tests/model/rebirth.pml, as far as they are the frontend's.  A backend that
 * dies is one whose ring and channel are taken away; the fence is rig_reborn().
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

/* Request number i is of block i, so that the ring tells which one it is. */
static struct blkfront_io numbered(enum blkfront_op op, uint64_t i)
{
    struct blkfront_io io = rig_io(&r, op, i);
    io.offset = i * 4096;
    return io;
}

static void ask(uint64_t i)
{
    assert_int_equal(rig_submit(&r, numbered(i % 2 ? BLKFRONT_READ : BLKFRONT_WRITE, i)), 1);
}

static uint64_t number_of(const struct blkif_request *req)
{
    return req->sector_number / 8;
}

static void nothing_comes(void)
{
    struct blkfront_result out[4];
    assert_int_equal(blkqueue_reap(&r.q, out, 4), 0);
}

/* -------------------------------------------------------------- down and up */

static void test_down_with_nothing_in_flight(void **state)
{
    (void)state;
    queue_stop(&r.q.queue);
    assert_true(queue_drained(&r.q.queue)); /* no one need call for that */
    assert_int_equal(blkqueue_idle(&r.q), 0);
    rig_detach(&r);
    rig_reborn(&r);
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_READ, 2)), 1);
    rig_serve(&r, BLKIF_RSP_OKAY);
    rig_expect(&r, 2, 0);
    assert_int_equal(ring_back_waiting(&r.ring), 0);
    assert_int_equal(r.q.counters.replayed, 0);
}

/* Nobody wakes one that sleeps before the connection is back. */
static void test_a_sleeper_is_not_asked(void **state)
{
    (void)state;
    ask(1);
    assert_int_equal(blkqueue_idle(&r.q), 0);
    queue_stop(&r.q.queue);
    assert_true(queue_drained(&r.q.queue));
    rig_detach(&r);
    assert_false(queue_readable(&r.q.queue));
    rig_reborn(&r);
    assert_true(queue_readable(&r.q.queue));
    assert_int_equal(blkqueue_wait(&r.q, 0), 0); /* sent; there is no answer yet */
    rig_serve(&r, BLKIF_RSP_OKAY);
    rig_expect(&r, 1, 0);
}

/* One that works is waited for. */
static void test_a_worker_lets_go_when_it_comes_by(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct blkfront_result out[1];
        ask(i);
        queue_stop(&r.q.queue);
        assert_false(queue_drained(&r.q.queue));
        assert_true(queue_readable(&r.q.queue));
        assert_false(sides_control_called(&r.sides));
        if (i == 0)
            assert_int_equal(blkqueue_reap(&r.q, out, 1), 0);
        else if (i == 1)
            assert_int_equal(blkqueue_idle(&r.q), 0);
        else
            ask(3);
        assert_true(sides_control_called(&r.sides));
        assert_true(queue_drained(&r.q.queue));
        rig_detach(&r);
        rig_reborn(&r);
    }
}

/* However long it is out: nothing comes back, and the queue takes what it has room for. */
static void test_an_outage(void **state)
{
    (void)state;
    int fd = r.q.queue.epoll_fd;
    uint64_t next = 0;
    uint8_t got[64] = { 0 };
    for (; next < 20; next++)
        ask(next);
    rig_serve(&r, BLKIF_RSP_OKAY); /* answered and not reaped: not believed any more */
    rig_die(&r);
    for (; next < r.slots; next++)
        ask(next);
    assert_int_equal(rig_submit(&r, numbered(BLKFRONT_READ, 99)), 0);
    struct blkfront_io bad = numbered(BLKFRONT_READ, 99);
    bad.bytes = 1;
    assert_int_equal(rig_submit(&r, bad), 0);
    nothing_comes();
    assert_int_equal(blkqueue_wait(&r.q, 0), 0);
    assert_int_equal(r.q.inflight, r.slots);

    rig_reborn(&r);
    assert_true(queue_readable(&r.q.queue));
    assert_int_equal(blkqueue_idle(&r.q), 0);
    assert_int_equal(ring_back_waiting(&r.ring), r.slots);
    assert_int_equal(r.q.counters.replayed, 20); /* the others were not sent before */
    assert_int_equal(r.q.queue.epoll_fd, fd);
    for (unsigned i = 0; i < r.slots; i++)
        rig_serve(&r, BLKIF_RSP_OKAY);
    assert_true(queue_readable(&r.q.queue)); /* the same descriptor, the new channel */
    struct blkfront_result out[64];
    assert_int_equal(blkqueue_reap(&r.q, out, 64), r.slots);
    for (unsigned i = 0; i < r.slots; i++) {
        assert_int_equal(out[i].error, 0);
        assert_int_equal(got[out[i].cookie]++, 0);
    }
    assert_int_equal(r.q.counters.requests, r.slots);
    assert_int_equal(r.q.queue.state, QUEUE_IDLE);
}

static void test_refused_during_an_outage(void **state)
{
    (void)state;
    rig_die(&r);
    struct blkfront_io bad = numbered(BLKFRONT_READ, 1);
    bad.bytes = 1;
    assert_int_equal(rig_submit(&r, bad), -EINVAL);
    assert_int_equal(r.q.inflight, 0);
    rig_reborn(&r);
    assert_int_equal(blkqueue_idle(&r.q), 0);
    assert_int_equal(ring_back_waiting(&r.ring), 0);
}

/* ------------------------------------------------------------- order and ids */

static void test_sent_again_in_order_with_new_ids(void **state)
{
    (void)state;
    uint64_t next = 0, last = 0;
    struct blkfront_result out[32];
    struct blkif_request req[32];
    /* Slots are used in another order than requests come. */
    for (; next < 24; next++)
        ask(next);
    for (unsigned i = 0; i < 24; i++)
        rig_take(&r, &req[i]);
    for (unsigned i = 0; i < 24; i += 1 + i % 3)
        rig_respond(&r, req[i].id, req[i].operation, 0);
    int n = blkqueue_reap(&r.q, out, 32);
    assert_true(n > 8);
    for (; next < 30; next++)
        ask(next);
    for (unsigned death = 0; death < BLKQUEUE_DEATHS - 1; death++) {
        uint64_t before = UINT64_MAX, newest = last;
        rig_die(&r);
        ask(next++);
        rig_reborn(&r);
        ask(next++); /* sees the connection first; what is older goes before it */
        assert_int_equal(ring_back_waiting(&r.ring), (int)next - n);
        bool slots_in_order = true;
        for (unsigned i = 0; i < next - (unsigned)n; i++) {
            struct blkif_request again;
            rig_take(&r, &again);
            assert_true(before == UINT64_MAX || number_of(&again) > before);
            slots_in_order &= i == 0 || (again.id & 0xffff) > (last & 0xffff);
            before = number_of(&again);
            assert_true(again.id >> 16 > newest >> 16);
            last = newest = again.id;
            req[i] = again;
        }
        assert_false(slots_in_order); /* control: slots alone would have been wrong */
        assert_int_equal(before, next - 1);
    }
    for (unsigned i = 0; i < next - (unsigned)n; i++)
        rig_respond(&r, req[i].id, req[i].operation, 0);
    assert_int_equal(blkqueue_reap(&r.q, out, 32), (int)next - n);
    assert_int_equal(r.q.inflight, 0);
}

/* All of it: no byte of rings and descriptor pages that was there before is used. */
static void test_sent_again_whole(void **state)
{
    (void)state;
    struct blkfront_io ios[] = { numbered(BLKFRONT_WRITE, 1), numbered(BLKFRONT_READ, 2),
                                 numbered(BLKFRONT_DISCARD, 3), numbered(BLKFRONT_ZEROES, 4),
                                 numbered(BLKFRONT_WRITE, 5), numbered(BLKFRONT_FLUSH, 6) };
    enum { N = sizeof(ios) / sizeof(ios[0]) };
    struct blkif_request first[N], again[N];
    struct blkif_request_segment seg[2][20];
    ios[1].bytes = 20 * HYP_PAGE_SIZE; /* indirect */
    ios[3].flags = BLKFRONT_MAY_UNMAP;
    ios[4].flags = BLKFRONT_FUA;
    assert_int_equal(blkqueue_submit(&r.q, ios, N), N);
    for (int life = 0; life < 2; life++) {
        struct blkif_request *req = life ? again : first;
        memset(req, 0, sizeof(first));
        for (unsigned i = 0; i < N; i++) {
            rig_take(&r, &req[i]);
            /* What is not part of the request may be anything. */
            if (req[i].operation != BLKIF_OP_INDIRECT && req[i].operation != BLKIF_OP_DISCARD
                && req[i].operation != BLK_OP_WRITE_ZEROES)
                memset(&req[i].seg[req[i].nr_segments], 0,
                       sizeof(req[i].seg) - req[i].nr_segments * sizeof(req[i].seg[0]));
        }
        struct blkif_request_indirect ind;
        memcpy(&ind, &req[1], sizeof(ind));
        memcpy(seg[life], hyp_map_persistent(r.sides.map, ind.indirect_grefs[0]), sizeof(seg[0]));
        if (life)
            break;
        memset(hyp_pool_base(r.sides.pool), 0xff, (size_t)(r.ring_pages + r.slots) * HYP_PAGE_SIZE);
        rig_die(&r);
        rig_reborn(&r);
        assert_int_equal(blkqueue_idle(&r.q), 0);
    }
    for (unsigned i = 0; i < N; i++) {
        uint64_t id = again[i].id;
        if (i == 1) { /* the id is elsewhere in an indirect one */
            struct blkif_request_indirect a, b;
            memcpy(&a, &first[i], sizeof(a));
            memcpy(&b, &again[i], sizeof(b));
            assert_int_not_equal(a.id, b.id);
            a.id = b.id;
            assert_memory_equal(&a, &b, offsetof(struct blkif_request_indirect, indirect_grefs)
                                        + sizeof(a.indirect_grefs[0]));
            continue;
        }
        assert_int_not_equal(first[i].id, id);
        first[i].id = id;
        assert_memory_equal(&first[i], &again[i], offsetof(struct blkif_request, seg));
        if (i == 0 || i == 4)
            assert_memory_equal(first[i].seg, again[i].seg, sizeof(first[i].seg[0]));
    }
    assert_memory_equal(seg[0], seg[1], sizeof(seg[0]));
}

/* -------------------------------------------------------------- exactly once */

enum step { SENT, TAKEN, ANSWERED, ONE_ANSWERED, ONE_REAPED, ASKED_LATER, STEPS };

/* Dies at a step of its work on two requests; returns how many came. */
static int die_at(enum step step, unsigned *got)
{
    struct blkif_request req;
    struct blkfront_result out[2];
    int n = 0;
    if (step == ASKED_LATER) {
        rig_die(&r);
        return 0;
    }
    for (int i = 0; i < 2 && step != SENT; i++) {
        rig_take(&r, &req);
        if (step == ANSWERED || (i == 0 && step >= ONE_ANSWERED))
            rig_respond(&r, req.id, req.operation, 0);
    }
    if (step == ONE_REAPED) {
        n = blkqueue_reap(&r.q, out, 2);
        assert_int_equal(n, 1);
        assert_int_equal(out[0].error, 0);
        got[out[0].cookie]++;
    }
    rig_die(&r);
    return n;
}

static void test_exactly_once_wherever_it_dies(void **state)
{
    (void)state;
    for (unsigned first = 0; first < STEPS; first++)
        for (unsigned second = 0; second < ASKED_LATER; second++) {
            unsigned got[2] = { 0 };
            struct blkfront_result out[4];
            int done = 0;
            if (first == ASKED_LATER)
                done = die_at(ASKED_LATER, got);
            ask(0);
            ask(1);
            if (first != ASKED_LATER)
                done = die_at((enum step)first, got);
            rig_reborn(&r);
            nothing_comes();
            if (done == 0) /* else there is one left, and nothing to choose */
                done = die_at((enum step)second, got);
            else
                rig_die(&r);
            rig_reborn(&r);
            nothing_comes();
            assert_int_equal(ring_back_waiting(&r.ring), 2 - done);
            for (int i = done; i < 2; i++)
                rig_serve(&r, BLKIF_RSP_OKAY);
            int n = blkqueue_reap(&r.q, out, 4);
            assert_int_equal(n, 2 - done);
            for (int i = 0; i < n; i++) {
                assert_int_equal(out[i].error, 0);
                got[out[i].cookie]++;
            }
            assert_int_equal(got[0], 1);
            assert_int_equal(got[1], 1);
            assert_int_equal(r.q.inflight, 0);
        }
}

/* ------------------------------------------------------------ flush and FUA */

static void test_fua_is_sent_again_whole(void **state)
{
    (void)state;
    struct blkfront_io io = numbered(BLKFRONT_WRITE, 7);
    io.flags = BLKFRONT_FUA;
    r.terms.native_fua = false;
    for (int written = 0; written < 2; written++) {
        assert_int_equal(rig_submit(&r, io), 1);
        if (written) {
            rig_serve(&r, BLKIF_RSP_OKAY);
            nothing_comes(); /* its flush is on the ring now */
            assert_int_equal(ring_back_waiting(&r.ring), 1);
        }
        rig_die(&r);
        rig_reborn(&r);
        nothing_comes();
        /* The write anew, also when it was done: its flush must cover it. */
        assert_int_equal(rig_serve(&r, BLKIF_RSP_OKAY).operation, BLKIF_OP_WRITE);
        nothing_comes();
        assert_int_equal(rig_serve(&r, BLKIF_RSP_OKAY).operation, BLKIF_OP_FLUSH_DISKCACHE);
        rig_expect(&r, 7, 0);
    }
}

/* Done in the way of the backend that is there. */
static void test_fua_follows_the_backend(void **state)
{
    (void)state;
    struct blkfront_io io = numbered(BLKFRONT_WRITE, 7);
    io.flags = BLKFRONT_FUA;
    r.terms.native_fua = false;
    assert_int_equal(rig_submit(&r, io), 1);
    rig_serve(&r, BLKIF_RSP_OKAY);
    nothing_comes();
    rig_die(&r);
    r.terms.native_fua = true;
    rig_reborn(&r);
    nothing_comes();
    assert_int_equal(rig_serve(&r, BLKIF_RSP_OKAY).operation, BLK_OP_WRITE_FUA);
    rig_expect(&r, 7, 0);

    assert_int_equal(rig_submit(&r, io), 1);
    rig_die(&r);
    r.terms.native_fua = false;
    rig_reborn(&r);
    nothing_comes();
    assert_int_equal(rig_serve(&r, BLKIF_RSP_OKAY).operation, BLKIF_OP_WRITE);
    nothing_comes();
    assert_int_equal(rig_serve(&r, BLKIF_RSP_OKAY).operation, BLKIF_OP_FLUSH_DISKCACHE);
    rig_expect(&r, 7, 0);
}

/* What the dead one did proves nothing: answered or not, a flush is done anew. */
static void test_flush_is_done_anew(void **state)
{
    (void)state;
    ask(2);
    rig_serve(&r, BLKIF_RSP_OKAY);
    rig_expect(&r, 2, 0);
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_FLUSH, 3)), 1);
    rig_serve(&r, BLKIF_RSP_OKAY);
    rig_die(&r);
    rig_reborn(&r);
    nothing_comes();
    assert_int_equal(rig_serve(&r, BLKIF_RSP_OKAY).operation, BLKIF_OP_FLUSH_DISKCACHE);
    rig_expect(&r, 3, 0);
}

/* --------------------------------------------------------------------- poison */

static void test_poison(void **state)
{
    (void)state;
    static const uint32_t limits[] = { BLKQUEUE_DEATHS, 1, 5 };
    assert_int_equal(r.q.max_deaths, BLKQUEUE_DEATHS);
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        r.q.max_deaths = limits[i];
        ask(1);
        for (uint32_t death = 1; death < limits[i]; death++) {
            rig_die(&r);
            rig_reborn(&r);
            assert_int_equal(blkqueue_idle(&r.q), 0);
            assert_int_equal(ring_back_waiting(&r.ring), 1);
        }
        if (limits[i] > 1)
            ask(2); /* was sent once when the first one has its last death */
        rig_die(&r); /* looks, and is told nothing: the fence is not known */
        ask(3);      /* was never sent */
        rig_reborn(&r);
        assert_int_equal(blkqueue_idle(&r.q), 1);
        assert_int_equal(blkqueue_wait(&r.q, -1), 1); /* does not sleep on it */
        struct blkfront_result out[4];
        assert_int_equal(blkqueue_reap(&r.q, out, 4), 1);
        assert_int_equal(out[0].cookie, 1);
        assert_int_equal(out[0].error, -EIO);
        assert_int_equal(blkqueue_idle(&r.q), 0);
        int others = limits[i] > 1 ? 2 : 1;
        assert_int_equal(ring_back_waiting(&r.ring), others);
        for (int k = 0; k < others; k++)
            rig_serve(&r, BLKIF_RSP_OKAY);
        assert_int_equal(blkqueue_reap(&r.q, out, 4), others);
        for (int k = 0; k < others; k++)
            assert_int_equal(out[k].error, 0);
        assert_int_equal(r.q.counters.poisoned, i + 1);
        assert_int_equal(r.q.counters.errors, i + 1);
        assert_int_equal(r.q.inflight, 0);
    }
}

/* A connection in which it was not sent does not count. */
static void test_deaths_before_the_replay_do_not_count(void **state)
{
    (void)state;
    ask(1);
    rig_die(&r);
    for (unsigned i = 0; i < 2 * BLKQUEUE_DEATHS; i++) {
        rig_reborn(&r);
        queue_stop(&r.q.queue); /* before its owner came by */
        assert_true(queue_drained(&r.q.queue));
        rig_detach(&r);
    }
    rig_reborn(&r);
    nothing_comes();
    rig_serve(&r, BLKIF_RSP_OKAY);
    rig_expect(&r, 1, 0);
}

/* One that came in an outage counts from its first sending on, as any other. */
static void test_deaths_count_from_the_first_sending(void **state)
{
    (void)state;
    rig_die(&r);
    ask(1);
    for (uint32_t sent = 0; sent < BLKQUEUE_DEATHS; sent++) {
        rig_reborn(&r);
        assert_int_equal(blkqueue_idle(&r.q), 0);
        assert_int_equal(ring_back_waiting(&r.ring), 1);
        assert_int_equal(r.q.counters.replayed, sent);
        rig_die(&r);
    }
    rig_reborn(&r);
    assert_int_equal(blkqueue_idle(&r.q), 1);
    rig_expect(&r, 1, -EIO);
}

/* Judged behind a fence it stays judged: it is not sent, and needs no other fence. */
static void test_poisoned_is_reaped_in_the_next_outage(void **state)
{
    (void)state;
    struct blkfront_result out[4];
    r.q.max_deaths = 1;
    ask(1);
    ask(2);
    rig_die(&r);
    rig_reborn(&r);
    assert_int_equal(blkqueue_idle(&r.q), 2);
    queue_stop(&r.q.queue);
    assert_int_equal(blkqueue_idle(&r.q), 2);
    assert_true(queue_drained(&r.q.queue)); /* and holds up nothing */
    assert_int_equal(blkqueue_reap(&r.q, out, 1), 1);
    rig_detach(&r);
    rig_reborn(&r);
    assert_int_equal(blkqueue_reap(&r.q, out, 4), 1);
    assert_int_equal(out[0].cookie, 2);
    assert_int_equal(out[0].error, -EIO);
    assert_int_equal(r.q.counters.poisoned, 2);
    assert_int_equal(r.q.inflight, 0);
}

/* ------------------------------------------------------------------- the end */

static void test_hypervisor_gone(void **state)
{
    (void)state;
    ask(1);
    assert_int_equal(blkqueue_idle(&r.q), 0);
    queue_stop(&r.q.queue);
    ask(2);
    nothing_comes();
    assert_int_equal(blkqueue_idle(&r.q), 0);
    assert_false(queue_readable(&r.q.queue));
    queue_set_gone(&r.q.queue);
    assert_true(queue_readable(&r.q.queue)); /* a sleeper hears of it */
    assert_int_equal(blkqueue_idle(&r.q), 2);
    struct blkfront_result out[4];
    assert_int_equal(blkqueue_reap(&r.q, out, 1), 1);
    assert_int_equal(out[0].error, -ENOTCONN);
    uint64_t one = out[0].cookie;
    assert_int_equal(blkqueue_reap(&r.q, out, 4), 1);
    assert_int_equal(out[0].error, -ENOTCONN);
    assert_int_equal(one + out[0].cookie, 3);
    assert_int_equal(blkqueue_idle(&r.q), 0);
    assert_int_equal(rig_submit(&r, rig_io(&r, BLKFRONT_READ, 2)), -ENOTCONN);
}

static void test_dropped_in_an_outage(void **state)
{
    (void)state;
    ask(1);
    queue_stop(&r.q.queue);
    ask(2);
    blkqueue_drop(&r.q);
    assert_true(queue_drained(&r.q.queue));
    assert_int_equal(r.q.inflight, 0);
    nothing_comes();
}

/* --------------------------------------------------------------- two threads */

/* The owner works while the control thread takes the queue down and up again, and
 * serves some of it in between. */
struct shared {
    int rounds;
    uint32_t ended;
};

static void serve_some(unsigned most)
{
    for (; most > 0 && ring_back_waiting(&r.ring) > 0; most--) {
        struct blkif_request req;
        ring_back_copy_request(&r.ring, &req);
        rig_respond(&r, req.id, req.operation, 0);
    }
}

static void *control(void *arg)
{
    struct shared *s = arg;
    for (int i = 0; i < s->rounds; i++) {
        struct pollfd p = { .fd = r.sides.control_fd, .events = POLLIN };
        poll(&p, 1, i % 3); /* a little time for the owner */
        serve_some((unsigned)i % 7);
        queue_stop(&r.q.queue);
        while (!queue_drained(&r.q.queue)) {
            poll(&p, 1, 10);
            sides_control_called(&r.sides);
        }
        rig_detach(&r);
        rig_reborn(&r);
    }
    __atomic_store_n(&s->ended, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void test_owner_and_control_meet(void **state)
{
    (void)state;
    enum { MANY = 1u << 20 };
    struct shared s = { 300, 0 };
    pthread_t thread;
    uint8_t *got = calloc(MANY, 1);
    uint64_t taken = 0, reaped = 0, failed = 0;
    assert_int_equal(pthread_create(&thread, NULL, control, &s), 0);
    for (bool ended = false; !ended || r.q.inflight > 0;) {
        struct blkfront_result out[16];
        ended = __atomic_load_n(&s.ended, __ATOMIC_ACQUIRE);
        if (!ended && taken < MANY) {
            int n = rig_submit(&r, rig_io(&r, BLKFRONT_READ, taken));
            assert_in_range(n, 0, 1);
            taken += (unsigned)n;
        } else if (ended) {
            blkqueue_idle(&r.q);
            serve_some(r.slots);
        }
        int n = blkqueue_reap(&r.q, out, 16);
        assert_in_range(n, 0, 16);
        for (int i = 0; i < n; i++) {
            assert_true(out[i].error == 0 || out[i].error == -EIO);
            failed += out[i].error != 0;
            assert_int_equal(got[out[i].cookie]++, 0);
        }
        reaped += (unsigned)n;
        if (taken % 3 == 0)
            blkqueue_wait(&r.q, 1);
    }
    pthread_join(thread, NULL);
    assert_int_equal(taken, reaped);
    assert_true(taken > failed);
    assert_int_equal(failed, r.q.counters.poisoned);
    for (int lie = 0; lie < BLKQUEUE_LIES; lie++)
        assert_int_equal(r.q.counters.lies[lie], 0);
    free(got);
}

#define ON(test) cmocka_unit_test_setup_teardown(test, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(test_down_with_nothing_in_flight),
        ON(test_a_sleeper_is_not_asked),
        ON(test_a_worker_lets_go_when_it_comes_by),
        ON(test_an_outage),
        ON(test_refused_during_an_outage),
        ON(test_sent_again_in_order_with_new_ids),
        ON(test_sent_again_whole),
        ON(test_exactly_once_wherever_it_dies),
        ON(test_fua_is_sent_again_whole),
        ON(test_fua_follows_the_backend),
        ON(test_flush_is_done_anew),
        ON(test_poison),
        ON(test_deaths_before_the_replay_do_not_count),
        ON(test_deaths_count_from_the_first_sending),
        ON(test_poisoned_is_reaped_in_the_next_outage),
        ON(test_hypervisor_gone),
        ON(test_dropped_in_an_outage),
        ON(test_owner_and_control_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
