/* SPDX-License-Identifier: MIT */
/*
 * What becomes of sent packets when their connection ends: lost, or sent again; and
 * a connection that is finished in order.
 */
#include "test_netfront.h"

static struct rig r;

#define PAGES 128

static int up_resend(void **state)
{
    (void)state;
    rig_up(&r, 2, PAGES);
    r.q.queue.watched = 1; /* nobody looks for stalls here */
    assert_int_equal(netqueue_resend(&r.q), 0);
    return 0;
}

static int up_drop(void **state)
{
    (void)state;
    rig_up(&r, 2, PAGES);
    r.q.queue.watched = 1;
    return 0;
}

static int down(void **state)
{
    (void)state;
    rig_down(&r);
    return 0;
}

static void send_one(uint8_t fill)
{
    struct netfront_packet p = rig_packet(&r, 64, 100u + fill, 0, fill);
    assert_int_equal(netqueue_send(&r.q, &p, 1), 1);
}

static void send_chain(uint8_t fill, uint16_t flags, uint16_t gso_size)
{
    struct netfront_packet p[3];
    for (unsigned i = 0; i < 3; i++)
        p[i] = rig_packet(&r, 0, 1000, i < 2 ? NETFRONT_MORE : 0, fill);
    p[0].flags |= flags;
    p[0].gso_size = gso_size;
    assert_int_equal(netqueue_send(&r.q, p, 3), 3);
}

/* The connection ends and another one begins, which the owner sees. */
static void reborn(void)
{
    queue_stop(&r.q.queue);
    netqueue_idle(&r.q);
    assert_true(queue_drained(&r.q.queue));
    rig_detach(&r);
    rig_attach(&r);
    queue_start(&r.q.queue);
    netqueue_idle(&r.q);
}

/* The backend takes one, whose data is this. */
static netif_tx_request_t take(uint8_t fill, uint16_t size, uint16_t flags)
{
    netif_tx_request_t req = rig_take(&r);
    assert_int_equal(req.size, size);
    assert_int_equal(req.flags, flags);
    assert_int_equal(*((uint8_t *)rig_granted(&r, req.gref) + req.offset), fill);
    return req;
}

static void test_sent_again_in_order(void **state)
{
    (void)state;
    netif_tx_request_t req[8];
    for (uint8_t i = 0; i < 8; i++)
        send_one(i);
    for (unsigned i = 0; i < 8; i++)
        req[i] = rig_take(&r);
    rig_answer(&r, req[5].id, NETIF_RSP_OKAY); /* out of order, and only some */
    rig_answer(&r, req[0].id, NETIF_RSP_OKAY);
    rig_answer(&r, req[6].id, NETIF_RSP_ERROR);
    netqueue_in_flight(&r.q);
    reborn();
    send_one(40); /* new ones follow */
    static const uint8_t again[] = { 1, 2, 3, 4, 7, 40 };
    for (unsigned i = 0; i < sizeof(again); i++) {
        netif_tx_request_t new = take(again[i], 100u + again[i], 0);
        for (unsigned k = 0; k < 8; k++)
            assert_int_not_equal(new.id, req[k].id); /* every sending has its own */
        rig_answer(&r, new.id, NETIF_RSP_OKAY);
    }
    assert_int_equal(ring_back_waiting(&r.tx), 0);
    assert_int_equal(netqueue_in_flight(&r.q), 0);
    assert_int_equal(r.q.counters.tx_resent, 5);
    assert_int_equal(r.q.counters.tx_lost, 0);
    assert_int_equal(r.q.counters.tx_packets, 9);
    assert_int_equal(rig_owned(&r.q.txbuf).by[NETBUF_FREE], r.q.txbuf.n);
}

static void test_chains_are_sent_again_whole(void **state)
{
    (void)state;
    send_chain(1, NETFRONT_GSO4, 1448);
    send_chain(2, 0, 0);
    send_one(3);
    for (unsigned life = 0; life < 3; life++) {
        reborn();
        take(1, 3000, NETTXF_more_data | NETTXF_extra_info | NETTXF_csum_blank | NETTXF_data_validated);
        netif_tx_request_t extra = rig_take(&r);
        struct netif_extra_info info;
        memcpy(&info, &extra, sizeof(info));
        assert_int_equal(info.u.gso.size, 1448);
        take(1, 1000, NETTXF_more_data);
        take(1, 1000, 0);
        take(2, 3000, NETTXF_more_data);
        take(2, 1000, NETTXF_more_data);
        take(2, 1000, 0);
        take(3, 103, 0);
        assert_int_equal(ring_back_waiting(&r.tx), 0);
    }
    assert_int_equal(r.q.counters.tx_resent, 9);
}

/* One that was answered in part was there: it is not sent in part. */
static void test_half_answered_is_not_sent_again(void **state)
{
    (void)state;
    send_chain(1, 0, 0);
    send_chain(2, 0, 0);
    netif_tx_request_t head = rig_take(&r), second;
    rig_take(&r), rig_take(&r), rig_take(&r);
    second = rig_take(&r);
    rig_answer(&r, head.id, NETIF_RSP_OKAY);
    rig_answer(&r, second.id, NETIF_RSP_OKAY);
    netqueue_in_flight(&r.q);
    reborn();
    assert_int_equal(ring_back_waiting(&r.tx), 0);
    assert_int_equal(rig_owned(&r.q.txbuf).by[NETBUF_FREE], r.q.txbuf.n);
    assert_int_equal(r.q.counters.tx_lost, 1); /* whose first part was not answered */
}

/* A full ring fits into a new one. */
static void test_a_full_ring_is_sent_again(void **state)
{
    (void)state;
    unsigned sent = 0;
    void *buf;
    while (netqueue_get(&r.q, &buf, 1) == 1) {
        struct netfront_packet p = { .data = buf, .bytes = 60 };
        *(uint8_t *)buf = (uint8_t)sent++;
        assert_int_equal(netqueue_send(&r.q, &p, 1), 1);
    }
    assert_int_equal(sent, r.q.txbuf.n);
    reborn();
    for (unsigned i = 0; i < sent; i++)
        take((uint8_t)i, 60, 0);
    assert_int_equal(netqueue_get(&r.q, &buf, 1), 0); /* they are still in flight */
}

/* The control: a NIC that is not told so loses them. */
static void test_dropped_by_default(void **state)
{
    (void)state;
    for (uint8_t i = 0; i < 8; i++)
        send_one(i);
    reborn();
    assert_int_equal(ring_back_waiting(&r.tx), 0);
    assert_int_equal(r.q.counters.tx_lost, 8);
    assert_int_equal(r.q.counters.tx_resent, 0);
    assert_int_equal(rig_owned(&r.q.txbuf).by[NETBUF_FREE], r.q.txbuf.n);
}

/* ------------------------------------------------------------------ in order */

static void test_finished_in_order(void **state)
{
    (void)state;
    for (uint8_t i = 0; i < 4; i++)
        send_one(i);
    rig_fill(&r, 0, 0, 64, 9);
    rig_push(&r, &r.rx);
    queue_hush(&r.q.queue);
    assert_int_equal(queue_state(&r.q.queue), QUEUE_HUSHED);
    struct netfront_packet p = rig_packet(&r, 0, 64, 0, 7), got[2];
    assert_int_equal(netqueue_send(&r.q, &p, 1), 0); /* waits */
    assert_int_equal(ring_back_waiting(&r.tx), 4);
    assert_int_equal(netqueue_receive(&r.q, got, 2), 1); /* what came before is had */
    netqueue_release(&r.q, got, 1);
    assert_int_equal(netqueue_idle(&r.q), 0);
    assert_int_equal(queue_state(&r.q.queue), QUEUE_QUIET);
    for (unsigned i = 0; i < 4; i++)
        rig_serve(&r, NETIF_RSP_OKAY);
    assert_true(queue_readable(&r.q.queue)); /* rung when all are answered */
    assert_int_equal(netqueue_idle(&r.q), 0);
    assert_true(queue_drained(&r.q.queue));
    assert_true(sides_control_called(&r.sides));
    rig_detach(&r);
    rig_attach(&r);
    queue_start(&r.q.queue);
    queue_kick(&r.q.queue);
    assert_int_equal(netqueue_send(&r.q, &p, 1), 1);
    take(7, 64, 0);
    assert_int_equal(r.q.counters.tx_lost, 0);
}

/* It dies before it has answered. */
static void test_death_while_hushed(void **state)
{
    (void)state;
    send_one(1);
    assert_int_equal(netqueue_idle(&r.q), 0); /* sleeps */
    queue_hush(&r.q.queue);
    assert_int_equal(queue_state(&r.q.queue), QUEUE_QUIET);
    queue_stop(&r.q.queue);
    assert_true(queue_drained(&r.q.queue)); /* a sleeper is not asked */
    rig_detach(&r);
    rig_attach(&r);
    queue_start(&r.q.queue);
    netqueue_idle(&r.q);
    assert_int_equal(r.q.counters.tx_lost, 1);
}

#define RESENT(test)  cmocka_unit_test_setup_teardown(test, up_resend, down)
#define DROPPED(test) cmocka_unit_test_setup_teardown(test, up_drop, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RESENT(test_sent_again_in_order),
        RESENT(test_chains_are_sent_again_whole),
        RESENT(test_half_answered_is_not_sent_again),
        RESENT(test_a_full_ring_is_sent_again),
        DROPPED(test_dropped_by_default),
        DROPPED(test_finished_in_order),
        DROPPED(test_death_while_hushed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
