/* SPDX-License-Identifier: MIT */
/* Workers: who is served when (without a clock), packets between workers, threads that sleep and wake. */
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "test_net.h"

static uint8_t frame[FRAME_MAX];
static struct got got;

static const struct net_counters *counters(const struct guest *g)
{
    return net_queue_counters(g->q);
}

/* As the control thread does while the worker counts. */
static uint64_t read_counter(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------------------- fairness */

/* A guest that always has its ring full of frames of that size. */
static void fill(struct guest *g, unsigned size)
{
    netif_tx_response_t rsp;
    while (take_answer(g, &rsp))
        ;
    while (ring_front_free(&g->tx) > 0)
        put_slot(g, 0, TX_DATA, 0, size, 0);
    ring_front_push(&g->tx);
}

/* Cost of what each of two guests sent in many turns, the first one's share in thousandths. */
static unsigned share_of(unsigned size_a, unsigned weight_a, unsigned size_b, unsigned weight_b)
{
    struct rig r;
    rig_open(&r, true);
    struct guest *a = rig_guest(&r, &(struct guest_options){ .weight = weight_a });
    struct guest *b = rig_guest(&r, &(struct guest_options){ .weight = weight_b });
    plain_frame(guest_page(a, TX_DATA), OUTSIDE, a->port.mac, size_a);
    plain_frame(guest_page(b, TX_DATA), OUTSIDE, b->port.mac, size_b);
    for (unsigned i = 0; i < 20000; i++) {
        fill(a, size_a);
        fill(b, size_b);
        rig_turn(&r);
        wire_count();
    }
    const struct net_counters *ca = counters(a), *cb = counters(b);
    uint64_t cost_a = ca->tx_bytes + ca->tx_packets * NET_COST_PACKET;
    uint64_t cost_b = cb->tx_bytes + cb->tx_packets * NET_COST_PACKET;
    assert_int_equal(ca->uplink_full + cb->uplink_full, 0);
    for (unsigned i = 0; i < 2000; i++) { /* empty the rings */
        rig_turn(&r);
        wire_count();
    }
    rig_close(&r);
    return (unsigned)(1000 * cost_a / (cost_a + cost_b));
}

static void shares_follow_cost_and_weight(void **state)
{
    (void)state;
    static const struct { unsigned size_a, weight_a, size_b, weight_b, share; } c[] = {
        { 1500, 100, 1500, 100, 500 }, { 1500, 100, 64, 100, 500 }, { 64, 100, 1500, 100, 500 },
        { 1500, 200, 1500, 100, 667 }, { 1500, 100, 64, 300, 250 }, { 1500, 1000, 64, 100, 909 },
        { 700, 100, 64, 1, 990 },
    };
    for (unsigned i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
        unsigned share = share_of(c[i].size_a, c[i].weight_a, c[i].size_b, c[i].weight_b);
        print_message("   %4u B weight %4u against %4u B weight %4u: %u of 1000\n", c[i].size_a,
                      c[i].weight_a, c[i].size_b, c[i].weight_b, share);
        assert_in_range(share, c[i].share - 8, c[i].share + 8);
    }
}

/* One that asks for less than its share gets what it asks for, at once. */
static void who_asks_little_gets_it(void **state)
{
    (void)state;
    struct rig r;
    netif_tx_response_t rsp;
    rig_open(&r, true);
    struct guest *flooder = rig_guest(&r, &(struct guest_options){ 0 });
    struct guest *victim = rig_guest(&r, &(struct guest_options){ 0 });
    plain_frame(guest_page(flooder, TX_DATA), OUTSIDE, flooder->port.mac, 64);
    plain_frame(guest_page(victim, TX_DATA), OUTSIDE, victim->port.mac, 1500);
    for (unsigned i = 0; i < 5000; i++) {
        fill(flooder, 64);
        if (i % 10 == 0) {
            put_slot(victim, 1, TX_DATA, 0, 1500, 0);
            ring_front_push(&victim->tx);
        }
        rig_turn(&r);
        if (i % 10 == 0)
            assert_true(take_answer(victim, &rsp)); /* in the same turn */
        wire_count();
    }
    assert_int_equal(counters(victim)->tx_packets, 500);
    for (unsigned i = 0; i < 100; i++) {
        rig_turn(&r);
        wire_count();
    }
    rig_close(&r);
}

/* A flood of broadcasts pays for its copies. */
static void copies_for_everyone_are_paid_for(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *a = rig_guest(&r, &(struct guest_options){ 0 }),
                 *b = rig_guest(&r, &(struct guest_options){ 0 });
    for (unsigned i = 0; i < 4; i++)
        rig_guest(&r, &(struct guest_options){ 0 });
    plain_frame(guest_page(a, TX_DATA), EVERYONE, a->port.mac, 64);
    plain_frame(guest_page(b, TX_DATA), OUTSIDE, b->port.mac, 64);
    for (unsigned i = 0; i < 5000; i++) {
        fill(a, 64);
        fill(b, 64);
        rig_turn(&r);
        wire_count();
    }
    assert_true(counters(b)->tx_packets > 4 * counters(a)->tx_packets);
    for (unsigned i = 0; i < 5000; i++) {
        rig_turn(&r);
        wire_count();
    }
    rig_close(&r);
}

/* ---------------------------------------------------------------------------- threads */

#define WORKERS 2u

struct stack {
    struct hyp *back;
    struct uplink up;
    int control_fd;
    struct guest guest[4];
    unsigned n;
};

static void stack_open(struct stack *s, unsigned workers, bool uplink)
{
    static const int anywhere[NET_WORKERS_MAX] = { -1, -1, -1, -1, -1, -1, -1, -1 };
    eal_start();
    memset(s, 0, sizeof(*s));
    s->back = fake_hyp_new(BACK_DOMID);
    s->up = (struct uplink){ .present = uplink, .mtu = NET_MTU_DEFAULT, .poll_fd = -1, .poll_ms = 1 };
    s->control_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_int_equal(net_workers_start(workers, anywhere, &s->up, s->control_fd), 0);
}

static struct guest *stack_guest(struct stack *s, unsigned workers, unsigned worker,
                                 const struct guest_options *o)
{
    struct guest *g = &s->guest[s->n];
    guest_make(g, s->back, s->n++, o);
    g->port.worker[0] = (uint8_t)worker;
    for (unsigned i = 0; i < workers; i++)
        assert_true(net_worker_post(i, MAIL_ATTACH, &g->port));
    return g;
}

/* Waits for mail of worker i. */
static struct mail await_mail(struct stack *s, unsigned i)
{
    struct mail m = { 0 };
    while (!net_worker_take(i, &m)) {
        struct pollfd p = { .fd = s->control_fd, .events = POLLIN };
        assert_int_equal(poll(&p, 1, 20000), 1);
        mail_clear(s->control_fd);
    }
    return m;
}

/* All vifs given back and the threads ended; counters may be read after that. */
static void stack_stop(struct stack *s, unsigned workers)
{
    for (unsigned g = 0; g < s->n; g++)
        for (unsigned i = 0; i < workers; i++) {
            assert_true(net_worker_post(i, MAIL_DETACH, &s->guest[g].port));
            struct mail m = await_mail(s, i);
            while (m.kind == MAIL_BROKEN)
                m = await_mail(s, i);
            assert_int_equal(m.kind, MAIL_DETACHED);
            assert_ptr_equal(m.what, &s->guest[g].port);
        }
    net_workers_stop();
}

static void stack_close(struct stack *s, unsigned workers)
{
    stack_stop(s, workers);
    wire_count();
    assert_int_equal(packets_in_use(), 0);
    for (unsigned g = 0; g < s->n; g++)
        guest_end(&s->guest[g]);
    close(s->control_fd);
    hyp_close(s->back);
    assert_int_equal(fake_hyp_reset(), 0);
}

static void push_tx(struct guest *g)
{
    if (ring_front_push(&g->tx))
        hyp_evtchn_notify(g->front_ch[0]);
}

/* Sleeps on a ring of the guest until something is there. */
static void await_ring(struct guest *g, struct ring_front *ring, unsigned ch)
{
    while (ring_front_waiting(ring) == 0 && ring_front_idle(ring) == 0) {
        struct pollfd p = { .fd = hyp_evtchn_fd(g->front_ch[ch]), .events = POLLIN };
        assert_int_equal(poll(&p, 1, 20000), 1);
        hyp_evtchn_clear(g->front_ch[ch]);
    }
    assert_true(ring_front_waiting(ring) > 0);
}

/* Each frame after the worker went to sleep: a lost wake-up would hang it. */
static void a_sleeping_worker_hears_every_doorbell(void **state)
{
    (void)state;
    struct stack s;
    netif_tx_response_t rsp;
    stack_open(&s, 1, false);
    struct guest *a = stack_guest(&s, 1, 0, &(struct guest_options){ .split = true });
    struct guest *b = stack_guest(&s, 1, 0, &(struct guest_options){ .split = true });
    for (unsigned i = 0; i < 500; i++) {
        post_buffers(b, 1);
        put_frame(a, (uint16_t)i, frame, plain_frame(frame, b->port.mac, a->port.mac, 100), 0);
        push_tx(a);
        await_ring(a, &a->tx, 0);
        assert_true(take_answer(a, &rsp));
        await_ring(b, &b->rx, 1);
        assert_true(take_frame(b, &got));
        assert_memory_equal(got.frame, frame, 100);
        if (i % 50 == 0)
            nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    assert_true(read_counter(&counters(a)->wakeups) > 0);
    stack_close(&s, 1);
}

/* ------------------------------------------------------------------------------ armed */

/* A vif of which its worker hears before its frontend has made its rings anew. */
static void arm(struct guest *g)
{
    ring_store(&g->tx.shared->req_prod, 0x80000000); /* what a dead one left may be anything */
    ring_store(&g->rx.shared->req_prod, 0x80000000);
    net_queue_arm(g->q);
    g->port.armed = true;
}

static void make_rings_anew(struct guest *g)
{
    assert_true(ring_front_init(&g->tx, guest_page(g, TX_RING), HYP_PAGE_SIZE, NET_TX_SLOT_BYTES));
    assert_true(ring_front_init(&g->rx, guest_page(g, RX_RING), HYP_PAGE_SIZE, NET_RX_SLOT_BYTES));
}

static struct guest *rig_armed(struct rig *r)
{
    struct guest *g = &r->guest[r->n];
    guest_make(g, r->back, r->n++, &(struct guest_options){ .split = true });
    arm(g);
    net_worker_attach(r->w, &g->port);
    return g;
}

static void many_turns(struct rig *r)
{
    for (unsigned i = 0; i < 100; i++)
        rig_turn(r);
}

static void an_armed_vif_is_not_looked_at_before_its_doorbell(void **state)
{
    (void)state;
    struct rig r;
    netif_tx_response_t rsp;
    rig_open(&r, false);
    struct guest *a = rig_guest(&r, &(struct guest_options){ 0 });
    struct guest *b = rig_armed(&r);
    many_turns(&r);
    assert_false(b->q->broken);
    put_frame(a, 1, frame, plain_frame(frame, b->port.mac, a->port.mac, 100), 0);
    ring_front_push(&a->tx);
    many_turns(&r);
    assert_true(take_answer(a, &rsp));
    make_rings_anew(b);
    post_buffers(b, 2);
    put_frame(b, 7, frame, plain_frame(frame, a->port.mac, b->port.mac, 100), 0);
    ring_front_push(&b->tx);
    post_buffers(a, 1);
    many_turns(&r);
    assert_false(take_answer(b, &rsp));
    hyp_evtchn_notify(b->front_ch[1]); /* not that one */
    many_turns(&r);
    assert_false(take_answer(b, &rsp));
    hyp_evtchn_notify(b->front_ch[0]);
    many_turns(&r);
    assert_true(take_answer(b, &rsp));
    assert_true(take_frame(a, &got));
    assert_true(take_frame(b, &got)); /* and what came for it meanwhile was kept */
    assert_false(take_frame(b, &got));
    rig_close(&r);
}

static void an_armed_vif_may_go(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, false);
    struct guest *a = rig_guest(&r, &(struct guest_options){ 0 });
    struct guest *b = rig_armed(&r);
    for (unsigned i = 0; i < 10; i++) {
        put_frame(a, (uint16_t)i, frame, plain_frame(frame, b->port.mac, a->port.mac, 100), 0);
        ring_front_push(&a->tx);
        many_turns(&r);
    }
    assert_null(r.w->sched.queue[1]);
    hyp_evtchn_close(b->front_ch[0]); /* a channel that is gone is no doorbell */
    many_turns(&r);
    assert_non_null(r.w->armed);
    net_worker_detach(r.w, &b->port);
    assert_null(r.w->armed);
    assert_int_equal(hyp_evtchn_alloc(b->hyp, BACK_DOMID, &b->front_ch[0]), 0); /* for rig_close() */
    many_turns(&r);
    rig_close(&r);
}

/* The worker sleeps when the doorbell comes, and when it is asked whether it is there. */
static void a_sleeping_worker_hears_an_armed_doorbell(void **state)
{
    (void)state;
    struct stack s;
    netif_tx_response_t rsp = { .id = 0 };
    stack_open(&s, 1, false);
    struct guest *b = &s.guest[s.n];
    guest_make(b, s.back, s.n++, &(struct guest_options){ .split = true });
    arm(b);
    assert_true(net_worker_post(0, MAIL_ATTACH, &b->port));
    for (unsigned i = 0; i < 3; i++) {
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        assert_true(net_worker_post(0, MAIL_PING, NULL));
        assert_int_equal(await_mail(&s, 0).kind, MAIL_PONG);
    }
    make_rings_anew(b);
    put_frame(b, 7, frame, plain_frame(frame, OUTSIDE, b->port.mac, 100), 0);
    ring_front_push(&b->tx);
    hyp_evtchn_notify(b->front_ch[0]);
    await_ring(b, &b->tx, 0);
    assert_true(take_answer(b, &rsp));
    assert_int_equal(rsp.id, 7);
    stack_close(&s, 1);
}

/* Before it is told that the uplink is its own it takes nothing from it. */
static void a_quiet_uplink_is_left_alone(void **state)
{
    (void)state;
    static const int anywhere[NET_WORKERS_MAX] = { -1, -1, -1, -1, -1, -1, -1, -1 };
    struct stack s = { .up = { .present = true, .mtu = NET_MTU_DEFAULT, .poll_fd = -1, .poll_ms = 1,
                               .quiet = true } };
    eal_start();
    s.back = fake_hyp_new(BACK_DOMID);
    s.control_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_int_equal(net_workers_start(1, anywhere, &s.up, s.control_fd), 0);
    struct guest *a = stack_guest(&s, 1, 0, &(struct guest_options){ .split = true });
    post_buffers(a, 2);
    wire_send(frame, plain_frame(frame, a->port.mac, OUTSIDE, 100));
    assert_true(net_worker_post(0, MAIL_PING, NULL));
    assert_int_equal(await_mail(&s, 0).kind, MAIL_PONG);
    nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
    assert_int_equal(rte_ring_count(eal.from_wire), 1);
    assert_true(net_worker_post(0, MAIL_UPLINK, NULL));
    await_ring(a, &a->rx, 1);
    assert_true(take_frame(a, &got));
    stack_close(&s, 1);
}

/* ------------------------------------------------------------------------------ sleep */

/* The backlog waits for buffers while the worker sleeps; posting them wakes it. */
static void posting_buffers_wakes_it(void **state)
{
    (void)state;
    struct stack s;
    netif_tx_response_t rsp;
    stack_open(&s, 1, false);
    struct guest *a = stack_guest(&s, 1, 0, &(struct guest_options){ .mtu = 9000 });
    struct guest *b = stack_guest(&s, 1, 0, &(struct guest_options){ .mtu = 9000, .split = true });
    for (unsigned i = 0; i < 100; i++) {
        unsigned slots = put_frame(a, 0, frame, plain_frame(frame, b->port.mac, a->port.mac, 9000), 0);
        push_tx(a);
        for (unsigned k = 0; k < slots; k++) {
            await_ring(a, &a->tx, 0);
            assert_true(take_answer(a, &rsp));
        }
        if (i % 10 == 0)
            nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        for (unsigned k = 0; k < 3; k++) { /* one by one: the last one completes it */
            uint16_t id = b->next_rx++ % 256;
            netif_rx_request_t rq = { .id = id, .gref = guest_ref(b, RX_DATA + id) };
            ring_front_put_request(&b->rx, &rq, sizeof(rq));
            if (ring_front_push(&b->rx))
                hyp_evtchn_notify(b->front_ch[1]);
        }
        await_ring(b, &b->rx, 1);
        assert_true(take_frame(b, &got));
        assert_int_equal(got.bytes, 9000);
    }
    stack_close(&s, 1);
}

/* Packets between vifs of two workers, both ways, unicast and broadcast, and to the uplink. */
static void packets_cross_workers(void **state)
{
    (void)state;
    struct stack s;
    netif_tx_response_t rsp;
    stack_open(&s, WORKERS, true);
    struct guest *a = stack_guest(&s, WORKERS, 0, &(struct guest_options){ .split = true });
    struct guest *b = stack_guest(&s, WORKERS, 1, &(struct guest_options){ .split = true });
    for (unsigned i = 0; i < 400; i++) {
        struct guest *from = i % 2 ? a : b, *to = i % 2 ? b : a;
        const uint8_t *mac = i % 4 < 2 ? to->port.mac : EVERYONE;
        post_buffers(to, 1);
        put_frame(from, 0, frame, plain_frame(frame, mac, from->port.mac, 200), 0);
        push_tx(from);
        await_ring(from, &from->tx, 0);
        assert_true(take_answer(from, &rsp));
        await_ring(to, &to->rx, 1);
        assert_true(take_frame(to, &got));
        assert_memory_equal(got.frame, frame, 200);
    }
    /* From worker 1 to the uplink, which is worker 0's. */
    unsigned before = wire_count(), seen = 0;
    assert_int_equal(before, 200);
    for (unsigned i = 0; i < 50; i++) {
        put_frame(b, 0, frame, plain_frame(frame, OUTSIDE, b->port.mac, 100), 0);
        push_tx(b);
        await_ring(b, &b->tx, 0);
        assert_true(take_answer(b, &rsp));
        for (unsigned k = 0; seen == i && k < 20000; k++) {
            seen += wire_count();
            nanosleep(&(struct timespec){ .tv_nsec = 1000 }, NULL);
        }
        assert_int_equal(seen, i + 1);
    }
    stack_close(&s, WORKERS);
}

static void *flood(void *arg)
{
    struct guest **pair = arg;
    netif_tx_response_t rsp;
    plain_frame(guest_page(pair[0], TX_DATA), pair[1]->port.mac, pair[0]->port.mac, 64);
    for (unsigned sent = 0; sent < 100000;) {
        while (take_answer(pair[0], &rsp))
            ;
        while (ring_front_free(&pair[0]->tx) > 0 && sent++ < 100000)
            put_slot(pair[0], 0, TX_DATA, 0, 64, 0);
        push_tx(pair[0]);
    }
    while (ring_front_free(&pair[0]->tx) < 256)
        if (!take_answer(pair[0], &rsp))
            sched_yield();
    return NULL;
}

/* What came for a guest: it got it, it was dropped, or it waits. */
static uint64_t frames_of(const struct guest *g)
{
    const struct net_counters *c = net_queue_counters(g->q);
    return read_counter(&c->rx_packets) + read_counter(&c->no_buffers) +
           __atomic_load_n(&g->q->backlog_n, __ATOMIC_RELAXED);
}

/* Two workers flood each other's guests, which do not read: nothing is lost without a name. */
static void floods_between_workers_are_accounted_for(void **state)
{
    (void)state;
    struct stack s;
    pthread_t t[2];
    stack_open(&s, WORKERS, false);
    struct guest *a = stack_guest(&s, WORKERS, 0, &(struct guest_options){ 0 });
    struct guest *b = stack_guest(&s, WORKERS, 1, &(struct guest_options){ 0 });
    struct guest *there[] = { a, b }, *back[] = { b, a };
    post_buffers(a, 256);
    post_buffers(b, 256);
    pthread_create(&t[0], NULL, flood, there);
    pthread_create(&t[1], NULL, flood, back);
    pthread_join(t[0], NULL);
    pthread_join(t[1], NULL);
    /* What the other worker still has on its way goes into a's and b's rings or backlog. */
    for (unsigned i = 0; i < 2; i++) {
        struct guest *g = i ? b : a, *o = i ? a : b;
        /* Not at once: a frame on its way from one place to the next is in both, or in none. */
        for (unsigned k = 0; k < 50000 && frames_of(g) + read_counter(&counters(o)->no_memory) != 100000; k++)
            nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
        assert_int_equal(frames_of(g) + read_counter(&counters(o)->no_memory), 100000);
    }
    stack_close(&s, WORKERS);
}

/* A doorbell that rings for nothing is muted; the one who rings it loses, others do not. */
static void a_storm_is_muted(void **state)
{
    (void)state;
    struct stack s;
    netif_tx_response_t rsp;
    stack_open(&s, 1, false);
    struct guest *a = stack_guest(&s, 1, 0, &(struct guest_options){ 0 });
    struct guest *b = stack_guest(&s, 1, 0, &(struct guest_options){ 0 });
    while (read_counter(&counters(a)->storms) == 0)
        hyp_evtchn_notify(a->front_ch[0]);
    assert_true(read_counter(&counters(a)->wakeups) >= 64);
    for (unsigned i = 0; i < 100; i++) {
        hyp_evtchn_notify(a->front_ch[0]);
        put_frame(b, 0, frame, plain_frame(frame, a->port.mac, b->port.mac, 60), 0);
        push_tx(b);
        await_ring(b, &b->tx, 0);
        assert_true(take_answer(b, &rsp));
    }
    put_frame(a, 5, frame, plain_frame(frame, b->port.mac, a->port.mac, 60), 0);
    push_tx(a); /* it is served too, if late */
    await_ring(a, &a->tx, 0);
    assert_true(take_answer(a, &rsp));
    stack_close(&s, 1);
}

static void a_broken_queue_is_reported_once(void **state)
{
    (void)state;
    struct stack s;
    netif_tx_response_t rsp;
    stack_open(&s, 1, false);
    struct guest *a = stack_guest(&s, 1, 0, &(struct guest_options){ 0 });
    struct guest *b = stack_guest(&s, 1, 0, &(struct guest_options){ 0 });
    ring_store(&a->tx.shared->req_prod, 9999);
    hyp_evtchn_notify(a->front_ch[0]);
    struct mail m = await_mail(&s, 0);
    assert_int_equal(m.kind, MAIL_BROKEN);
    assert_ptr_equal(m.what, &a->port);
    assert_non_null(net_queue_why(a->q));
    put_frame(b, 0, frame, plain_frame(frame, OUTSIDE, b->port.mac, 60), 0);
    push_tx(b); /* another one does not notice */
    await_ring(b, &b->tx, 0);
    assert_true(take_answer(b, &rsp));
    assert_false(net_worker_take(0, &m));
    stack_close(&s, 1);
}

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Workers with nothing to do use no processor. The measure is CPU time, not the clock. */
static void idle_workers_sleep(void **state)
{
    (void)state;
    struct stack s;
    stack_open(&s, WORKERS, false);
    stack_guest(&s, WORKERS, 0, &(struct guest_options){ 0 });
    stack_guest(&s, WORKERS, 1, &(struct guest_options){ 0 });
    nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
    uint64_t before = cpu_ns();
    nanosleep(&(struct timespec){ .tv_nsec = 400000000 }, NULL);
    assert_true(cpu_ns() - before < 40000000); /* spinning would use it all */
    stack_close(&s, WORKERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_follow_cost_and_weight),
        cmocka_unit_test(who_asks_little_gets_it),
        cmocka_unit_test(copies_for_everyone_are_paid_for),
        cmocka_unit_test(a_sleeping_worker_hears_every_doorbell),
        cmocka_unit_test(an_armed_vif_is_not_looked_at_before_its_doorbell),
        cmocka_unit_test(an_armed_vif_may_go),
        cmocka_unit_test(a_sleeping_worker_hears_an_armed_doorbell),
        cmocka_unit_test(a_quiet_uplink_is_left_alone),
        cmocka_unit_test(posting_buffers_wakes_it),
        cmocka_unit_test(packets_cross_workers),
        cmocka_unit_test(floods_between_workers_are_accounted_for),
        cmocka_unit_test(a_storm_is_muted),
        cmocka_unit_test(a_broken_queue_is_reported_once),
        cmocka_unit_test(idle_workers_sleep),
    };
    return cmocka_run_group_tests_name("networker", tests, NULL, NULL);
}
