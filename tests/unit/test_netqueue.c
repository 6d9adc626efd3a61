/* SPDX-License-Identifier: MIT */
/* One queue of a vif: every way in which a packet can be right or wrong, with
 * persistent grants and with grant copy. */
#include "test_net.h"

static const enum net_grants both[] = { NET_GRANTS_PERSISTENT, NET_GRANTS_COPY };
static uint8_t frame[FRAME_MAX];
static struct got got;

static const struct net_counters *counters(const struct guest *g)
{
    return net_queue_counters(g->q);
}

/* ---------------------------------------------------------------------- tx, right */

static void a_frame_reaches_the_uplink(void **state)
{
    (void)state;
    static const uint32_t sizes[] = { 14, 15, 31, 32, 33, 60, 63, 64, 65, 127, 128, 129, 500, 1514 };
    for (unsigned k = 0; k < 2; k++) {
        struct rig r;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = both[k] });
        uint64_t bytes = 0;
        for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            plain_frame(frame, OUTSIDE, g->port.mac, sizes[i]);
            put_frame(g, (uint16_t)i, frame, sizes[i], 0);
            ring_front_push(&g->tx);
            rig_run(&r);
            expect_answer(g, (uint16_t)i, NETIF_RSP_OKAY);
            struct rte_mbuf *m = wire_take();
            assert_non_null(m);
            assert_int_equal(m->pkt_len, sizes[i]);
            assert_memory_equal(packet_data(m), frame, sizes[i]);
            rte_pktmbuf_free(m);
            bytes += sizes[i];
        }
        assert_int_equal(counters(g)->tx_packets, sizeof(sizes) / sizeof(sizes[0]));
        assert_int_equal(counters(g)->tx_bytes, bytes);
        assert_int_equal(r.up.count.tx_packets, counters(g)->tx_packets);
        assert_int_equal(r.up.count.tx_bytes, bytes);
        rig_close(&r);
    }
}

/* Data that ends with the page, at any place in it. */
static void data_may_end_with_its_page(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct rig r;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = both[k] });
        for (unsigned size = 14; size < 300; size += 13) {
            plain_frame(guest_page(g, TX_DATA) + HYP_PAGE_SIZE - size, OUTSIDE, g->port.mac, size);
            put_slot(g, (uint16_t)size, TX_DATA, HYP_PAGE_SIZE - size, size, 0);
            ring_front_push(&g->tx);
            rig_run(&r);
            expect_answer(g, (uint16_t)size, NETIF_RSP_OKAY);
            struct rte_mbuf *m = wire_take();
            assert_non_null(m);
            assert_int_equal(m->pkt_len, size);
            assert_memory_equal(packet_data(m), guest_page(g, TX_DATA) + HYP_PAGE_SIZE - size, size);
            rte_pktmbuf_free(m);
        }
        rig_close(&r);
    }
}

static void a_frame_in_many_slots(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct rig r;
        rig_open(&r, true);
        r.up.mtu = 9000;
        struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = both[k], .mtu = 9000 });
        plain_frame(frame, OUTSIDE, g->port.mac, 9014);
        /* 18 slots of unequal length and offset; the first says the whole size */
        unsigned slots = 18, at = 0;
        for (unsigned i = 0; i < slots; i++) {
            unsigned n = i + 1 < slots ? 300 + i * 17 : 9014 - at, offset = i * 11;
            memcpy(guest_page(g, TX_DATA + i) + offset, frame + at, n);
            put_slot(g, (uint16_t)(50 + i), TX_DATA + i, offset, i == 0 ? 9014 : n,
                     i + 1 < slots ? NETTXF_more_data : 0);
            at += n;
        }
        ring_front_push(&g->tx);
        rig_run(&r);
        for (unsigned i = 0; i < slots; i++)
            expect_answer(g, (uint16_t)(50 + i), NETIF_RSP_OKAY);
        struct rte_mbuf *m = wire_take();
        assert_non_null(m);
        assert_int_equal(m->pkt_len, 9014);
        assert_memory_equal(packet_data(m), frame, 9014);
        rte_pktmbuf_free(m);
        assert_int_equal(counters(g)->tx_packets, 1);
        rig_close(&r);
    }
}

/* Chains in a row, so that bursts end in the middle of one, around the ring's end too. */
static void chains_at_every_place_of_the_ring(void **state)
{
    (void)state;
    struct rig r;
    uint16_t id = 0;
    rig_open(&r, true);
    r.up.mtu = 9000;
    struct guest *g = rig_guest(&r, &(struct guest_options){ .mtu = 9000 });
    for (unsigned round = 0; round < 40; round++) {
        unsigned packets = 0, slots = 0;
        while (slots + 3 <= 200) {
            uint32_t bytes = packets % 3 == 0 ? 9000 : packets % 3 == 1 ? 64 : 5000;
            plain_frame(frame, OUTSIDE, g->port.mac, bytes);
            slots += put_frame(g, (uint16_t)(id + slots), frame, bytes, 0);
            packets++;
        }
        ring_front_push(&g->tx);
        rig_run(&r);
        for (unsigned i = 0; i < slots; i++)
            expect_answer(g, (uint16_t)(id + i), NETIF_RSP_OKAY);
        id = (uint16_t)(id + slots);
        assert_int_equal(wire_count(), packets);
    }
    assert_int_equal(counters(g)->bad_slots, 0);
    rig_close(&r);
}

static void a_hash_is_ignored(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ 0 });
    plain_frame(guest_page(g, TX_DATA), OUTSIDE, g->port.mac, 100);
    put_slot(g, 9, TX_DATA, 0, 100, NETTXF_extra_info);
    put_extra(g, XEN_NETIF_EXTRA_TYPE_HASH, 0, 0, 0);
    ring_front_push(&g->tx);
    rig_run(&r);
    expect_answer(g, 9, NETIF_RSP_OKAY);
    expect_answer(g, 0, NETIF_RSP_NULL);
    expect_no_answer(g);
    assert_int_equal(wire_count(), 1);
    rig_close(&r);
}

/* ---------------------------------------------------------------------- tx, wrong */

/* What each wrong packet is: up to four slots, and the counter that must say so. */
struct wrong {
    const char *name;
    size_t counter; /* offset in struct net_counters */
    struct { unsigned page, offset, size, flags; } slot[4];
    struct { unsigned type, flags, gso_size, gso_type; } extra[3];
    unsigned slots, extras;
};

#define COUNTER(x) offsetof(struct net_counters, x)
#define MORE  NETTXF_more_data
#define EXTRA NETTXF_extra_info
#define GSO   XEN_NETIF_EXTRA_TYPE_GSO
#define XMORE XEN_NETIF_EXTRA_FLAG_MORE
#define V4    XEN_NETIF_GSO_TYPE_TCPV4

static const struct wrong wrongs[] = {
    { "past its page", COUNTER(bad_slots), { { TX_DATA, 4000, 100, 0 } }, .slots = 1 },
    { "offset past its page", COUNTER(bad_slots), { { TX_DATA, 4097, 20, 0 } }, .slots = 1 },
    { "offset and size wrap", COUNTER(bad_slots), { { TX_DATA, 0xffff, 0xffff, 0 } }, .slots = 1 },
    { "second past its page",
      COUNTER(bad_slots),
      { { TX_DATA, 0, 200, MORE }, { TX_DATA + 1, 4090, 100, 0 } },
      .slots = 2 },
    { "second offset wraps",
      COUNTER(bad_slots),
      { { TX_DATA, 0, 200, MORE }, { TX_DATA + 1, 0xffff, 100, 0 } },
      .slots = 2 },
    { "others longer than all",
      COUNTER(bad_slots),
      { { TX_DATA, 0, 50, MORE }, { TX_DATA + 1, 0, 51, 0 } },
      .slots = 2 },
    { "others' sum wraps 16 bits",
      COUNTER(bad_slots),
      { { TX_DATA, 0, 100, MORE },
        { TX_DATA, 0, 4096, MORE },
        { TX_DATA, 0, 4096, MORE },
        { TX_DATA, 0, 4096, 0 } },
      .slots = 4 },
    { "first longer than its page",
      COUNTER(bad_slots),
      { { TX_DATA, 0, 5000, MORE }, { TX_DATA, 0, 100, 0 } },
      .slots = 2 },
    { "first's rest past its page",
      COUNTER(bad_slots),
      { { TX_DATA, 4000, 300, MORE }, { TX_DATA, 0, 100, 0 } },
      .slots = 2 },
    { "chain without an end",
      COUNTER(bad_slots),
      { { TX_DATA, 0, 100, MORE }, { TX_DATA, 0, 10, MORE } },
      .slots = 2 },
    { "no bytes", COUNTER(too_short), { { TX_DATA, 0, 0, 0 } }, .slots = 1 },
    { "13 bytes", COUNTER(too_short), { { TX_DATA, 0, 13, 0 } }, .slots = 1 },
    { "13 bytes in two", COUNTER(too_short), { { TX_DATA, 0, 13, MORE }, { TX_DATA, 0, 5, 0 } }, .slots = 2 },
    { "1515 bytes", COUNTER(too_long), { { TX_DATA, 0, 1515, 0 } }, .slots = 1 },
    { "extra of type 0", COUNTER(bad_extra), { { TX_DATA, 0, 60, EXTRA } }, { { 0 } }, 1, 1 },
    { "extra of type 5", COUNTER(bad_extra), { { TX_DATA, 0, 60, EXTRA } }, { { 5, 0, 0, 0 } }, 1, 1 },
    { "extra of type 255", COUNTER(bad_extra), { { TX_DATA, 0, 60, EXTRA } }, { { 255, 0, 0, 0 } }, 1, 1 },
    { "multicast", COUNTER(bad_extra), { { TX_DATA, 0, 60, EXTRA } }, { { 2, 0, 0, 0 } }, 1, 1 },
    { "gso twice",
      COUNTER(bad_extra),
      { { TX_DATA, 0, 60, EXTRA } },
      { { GSO, XMORE, 500, V4 }, { GSO, 0, 500, V4 } },
      1,
      2 },
    { "bad extra, then a good slot",
      COUNTER(bad_extra),
      { { TX_DATA, 0, 160, EXTRA | MORE }, { TX_DATA, 0, 60, 0 } },
      { { 9, 0, 0, 0 } },
      2,
      1 },
    { "no extra where one is said", COUNTER(bad_extra), { { TX_DATA, 0, 60, EXTRA } }, .slots = 1 },
    { "extras without an end",
      COUNTER(bad_extra),
      { { TX_DATA, 0, 60, EXTRA } },
      { { GSO, XMORE, 500, V4 }, { 4, XMORE, 0, 0 } },
      1,
      2 },
    { "segments of 0", COUNTER(bad_gso), { { TX_DATA, 0, 60, EXTRA } }, { { GSO, 0, 0, V4 } }, 1, 1 },
    { "segment type 0", COUNTER(bad_gso), { { TX_DATA, 0, 60, EXTRA } }, { { GSO, 0, 500, 0 } }, 1, 1 },
    { "segment type 3", COUNTER(bad_gso), { { TX_DATA, 0, 60, EXTRA } }, { { GSO, 0, 500, 3 } }, 1, 1 },
    { "segments of no TCP", COUNTER(bad_gso), { { TX_DATA, 0, 600, EXTRA } }, { { GSO, 0, 500, V4 } }, 1, 1 },
    { "checksum of nothing", COUNTER(bad_csum), { { TX_DATA, 0, 600, NETTXF_csum_blank } }, .slots = 1 },
    { "checksum of a header only", COUNTER(bad_csum), { { TX_DATA, 0, 14, NETTXF_csum_blank } }, .slots = 1 },
};

static uint64_t value(const struct guest *g, size_t counter)
{
    return *(const uint64_t *)((const uint8_t *)counters(g) + counter);
}

static void put_wrong(struct guest *g, const struct wrong *c)
{
    for (unsigned i = 0; i < c->slots; i++) {
        put_slot(g, (uint16_t)(i + 1), c->slot[i].page, c->slot[i].offset, c->slot[i].size, c->slot[i].flags);
        for (unsigned x = 0; i == 0 && x < c->extras; x++)
            put_extra(g, c->extra[x].type, c->extra[x].flags, c->extra[x].gso_size, c->extra[x].gso_type);
    }
}

/* Each is dropped whole, every slot of it answered, one counter and no other says so, and a
 * good packet before and after it goes its way. */
static void wrong_packets_are_dropped_by_name(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        for (unsigned c = 0; c < sizeof(wrongs) / sizeof(wrongs[0]); c++) {
            const struct wrong *wrong = &wrongs[c];
            struct rig r;
            rig_open(&r, true);
            struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = both[k] });
            plain_frame(guest_page(g, TX_DATA), OUTSIDE, g->port.mac, 4096);
            put_slot(g, 100, TX_DATA, 0, 64, 0);
            put_wrong(g, wrong);
            ring_front_push(&g->tx);
            rig_run(&r);
            put_slot(g, 101, TX_DATA, 0, 64, 0);
            ring_front_push(&g->tx);
            rig_run(&r);
            print_message("   %s\n", wrong->name);
            expect_answer(g, 100, NETIF_RSP_OKAY);
            expect_answer(g, 1, NETIF_RSP_ERROR);
            for (unsigned x = 0; x < wrong->extras; x++)
                expect_answer(g, 0, NETIF_RSP_NULL);
            for (unsigned i = 1; i < wrong->slots; i++)
                expect_answer(g, (uint16_t)(i + 1), NETIF_RSP_ERROR);
            expect_answer(g, 101, NETIF_RSP_OKAY);
            expect_no_answer(g);
            assert_int_equal(wire_count(), 2);
            assert_int_equal(counters(g)->tx_packets, 2);
            for (size_t at = COUNTER(bad_slots); at < COUNTER(doorbells); at += sizeof(uint64_t))
                assert_int_equal(value(g, at), at == wrong->counter);
            rig_close(&r);
        }
    }
}

static void nineteen_slots_are_too_many(void **state)
{
    (void)state;
    for (unsigned slots = 18; slots <= 20; slots++) {
        struct rig r;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ 0 });
        plain_frame(guest_page(g, TX_DATA), OUTSIDE, g->port.mac, 200);
        put_slot(g, 0, TX_DATA, 0, 100 + slots - 1, MORE);
        for (unsigned i = 1; i < slots; i++)
            put_slot(g, (uint16_t)i, TX_DATA + 1, 0, 1, i + 1 < slots ? MORE : 0);
        put_slot(g, 200, TX_DATA, 0, 64, 0);
        ring_front_push(&g->tx);
        rig_run(&r);
        for (unsigned i = 0; i < slots; i++)
            expect_answer(g, (uint16_t)i, slots == 18 ? NETIF_RSP_OKAY : NETIF_RSP_ERROR);
        expect_answer(g, 200, NETIF_RSP_OKAY);
        assert_int_equal(counters(g)->bad_slots, slots > 18);
        assert_int_equal(wire_count(), slots == 18 ? 2 : 1);
        rig_close(&r);
    }
}

/* A whole ring of one chain, and one of extras: all answered, nothing sent, and it goes on. */
static void chains_as_long_as_the_ring(void **state)
{
    (void)state;
    for (unsigned extras = 0; extras < 2; extras++) {
        struct rig r;
        netif_tx_response_t rsp;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ 0 });
        for (unsigned i = 0; i < 256; i++) {
            if (extras && i > 0)
                put_extra(g, XEN_NETIF_EXTRA_TYPE_HASH, XMORE, 0, 0);
            else
                put_slot(g, (uint16_t)i, TX_DATA, 0, 100, extras ? EXTRA : MORE);
        }
        ring_front_push(&g->tx);
        rig_run(&r);
        for (unsigned i = 0; i < 256; i++) {
            assert_true(take_answer(g, &rsp));
            assert_true(rsp.status == NETIF_RSP_ERROR || (extras && rsp.status == NETIF_RSP_NULL));
        }
        assert_int_equal(wire_count(), 0);
        assert_int_equal(counters(g)->tx_packets, 0);
        assert_true(counters(g)->bad_slots + counters(g)->bad_extra > 0);
        plain_frame(guest_page(g, TX_DATA), OUTSIDE, g->port.mac, 64);
        put_slot(g, 3, TX_DATA, 0, 64, 0);
        ring_front_push(&g->tx);
        rig_run(&r);
        expect_answer(g, 3, NETIF_RSP_OKAY);
        assert_int_equal(wire_count(), 1);
        rig_close(&r);
    }
}

static void bad_grants_of_tx(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct rig r;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = both[k] });
        plain_frame(guest_page(g, TX_DATA), OUTSIDE, g->port.mac, 200);
        netif_tx_request_t rq = { .gref = 0xfffffff0, .id = 5, .size = 64 };
        put_slot(g, 4, TX_DATA, 0, 64, 0);
        ring_front_put_request(&g->tx, &rq, sizeof(rq));
        put_slot(g, 6, TX_DATA, 0, 64, 0);
        put_slot(g, 7, TX_DATA, 0, 100, MORE);
        rq.id = 8;
        rq.size = 20;
        ring_front_put_request(&g->tx, &rq, sizeof(rq));
        put_slot(g, 9, TX_DATA, 0, 64, 0);
        ring_front_push(&g->tx);
        rig_run(&r);
        expect_answer(g, 4, NETIF_RSP_OKAY);
        expect_answer(g, 5, NETIF_RSP_ERROR);
        expect_answer(g, 6, NETIF_RSP_OKAY);
        expect_answer(g, 7, NETIF_RSP_ERROR);
        expect_answer(g, 8, NETIF_RSP_ERROR);
        expect_answer(g, 9, NETIF_RSP_OKAY);
        assert_int_equal(counters(g)->bad_grant, 2);
        assert_int_equal(counters(g)->broken, 0);
        assert_int_equal(wire_count(), 3);
        rig_close(&r);
    }
}

/* No packet buffers: the guest is told, nothing is lost of what comes later. */
static void no_memory_is_counted(void **state)
{
    (void)state;
    static struct rte_mbuf *all[PACKET_SMALL_COUNT];
    struct rig r;
    unsigned n = 0;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ 0 });
    plain_frame(guest_page(g, TX_DATA), OUTSIDE, g->port.mac, 200);
    while (n < PACKET_SMALL_COUNT && packet_get(net_pools.small, &all[n], 1))
        n++;
    put_slot(g, 1, TX_DATA, 0, 64, 0);
    put_slot(g, 2, TX_DATA, 0, 150, MORE);
    put_slot(g, 3, TX_DATA, 0, 50, 0);
    ring_front_push(&g->tx);
    rig_run(&r);
    for (unsigned i = 0; i < n; i++)
        packet_put_raw(all[i]);
    for (uint16_t id = 1; id <= 3; id++)
        expect_answer(g, id, NETIF_RSP_ERROR);
    assert_int_equal(counters(g)->no_memory, 2);
    put_slot(g, 4, TX_DATA, 0, 64, 0);
    ring_front_push(&g->tx);
    rig_run(&r);
    expect_answer(g, 4, NETIF_RSP_OKAY);
    assert_int_equal(wire_count(), 1);
    rig_close(&r);
}

/* ---------------------------------------------------------------------- broken */

static void a_tx_index_that_cannot_be_true_breaks_it(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ 0 });
    ring_store(&g->tx.shared->req_prod, 257);
    rig_run(&r);
    assert_non_null(net_queue_why(g->q));
    assert_int_equal(counters(g)->broken, 1);
    ring_store(&g->tx.shared->req_prod, 1);
    rig_run(&r);
    assert_int_equal(counters(g)->broken, 1);
    assert_int_equal(ring_load(&g->tx.shared->rsp_prod), 0);
    rig_close(&r);
}

static void an_rx_index_that_cannot_be_true_breaks_it(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ 0 });
    ring_store(&g->rx.shared->req_prod, UINT32_MAX);
    wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 100));
    rig_run(&r);
    assert_non_null(net_queue_why(g->q));
    assert_int_equal(counters(g)->broken, 1);
    wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 100));
    rig_run(&r);
    rig_close(&r);
}

/* The backlog goes with the connection. */
static void memory_that_went_away_breaks_it(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ 0 });
    wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 100));
    rig_run(&r);
    assert_int_equal(g->q->backlog_n, 1);
    fake_hyp_fault(r.back);
    plain_frame(guest_page(g, TX_DATA), OUTSIDE, g->port.mac, 64);
    put_slot(g, 1, TX_DATA, 0, 64, 0);
    ring_front_push(&g->tx);
    rig_run(&r);
    assert_string_equal(net_queue_why(g->q), "granted memory went away");
    assert_int_equal(g->q->backlog_n, 0);
    expect_no_answer(g);
    wire_count();
    rig_close(&r);
}

/* ----------------------------------------------------------------------------- rx */

static void frames_of_all_lengths_reach_the_guest(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct rig r;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = both[k] });
        post_buffers(g, 200);
        unsigned n = 0;
        uint64_t bytes = 0;
        for (uint32_t size = 14; size <= 1514; size += size < 140 ? 1 : 61, n++) {
            plain_frame(frame, g->port.mac, OUTSIDE, size);
            wire_send(frame, size);
            rig_run(&r);
            assert_true(take_frame(g, &got));
            assert_int_equal(got.bytes, size);
            assert_memory_equal(got.frame, frame, size);
            assert_int_equal(got.flags, 0);
            bytes += size;
        }
        assert_false(take_frame(g, &got));
        assert_int_equal(counters(g)->rx_packets, n);
        assert_int_equal(counters(g)->rx_bytes, bytes);
        rig_close(&r);
    }
}

/* Not a byte past the data is written. */
static void only_the_frame_is_written(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct rig r;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = both[k] });
        post_buffers(g, 150);
        for (uint32_t size = 14; size < 150; size++) {
            wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, size));
            rig_run(&r);
            netif_rx_response_t rsp = { 0 };
            assert_true(ring_front_waiting(&g->rx) > 0);
            ring_front_copy_response(&g->rx, &rsp, sizeof(rsp));
            const uint8_t *page = guest_page(g, RX_DATA + rsp.id);
            for (unsigned i = 0; i < HYP_PAGE_SIZE; i++)
                if (i < rsp.offset || i >= rsp.offset + size)
                    assert_int_equal(page[i], 0xee);
        }
        rig_close(&r);
    }
}

static void a_jumbo_frame_takes_a_chain(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct rig r;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = both[k], .mtu = 9000 });
        post_buffers(g, 10);
        for (unsigned i = 0; i < 3; i++) {
            plain_frame(frame, g->port.mac, OUTSIDE, 9014);
            wire_send(frame, 9014);
            rig_run(&r);
            assert_true(take_frame(g, &got));
            assert_int_equal(got.bytes, 9014);
            assert_int_equal(got.buffers, 3);
            assert_memory_equal(got.frame, frame, 9014);
        }
        assert_int_equal(counters(g)->rx_packets, 3);
        rig_close(&r);
    }
}

static void without_scatter_gather_a_page_is_the_limit(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ .mtu = 9000, .one_page = true });
    post_buffers(g, 10);
    wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 4097));
    wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 4096));
    rig_run(&r);
    assert_true(take_frame(g, &got));
    assert_int_equal(got.bytes, 4096);
    assert_int_equal(got.buffers, 1);
    assert_false(take_frame(g, &got));
    assert_int_equal(counters(g)->rx_too_big, 1);
    rig_close(&r);
}

static void more_than_its_mtu_is_too_big(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ 0 });
    post_buffers(g, 10);
    wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 1515));
    rig_run(&r);
    assert_false(take_frame(g, &got));
    assert_int_equal(counters(g)->rx_too_big, 1);
    rig_close(&r);
}

static void no_buffers_then_some(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ 0 });
    for (unsigned i = 0; i < BACKLOG_PACKETS + 10; i++) {
        plain_frame(frame, g->port.mac, OUTSIDE, 100);
        store_be16(frame + 20, (uint16_t)i);
        wire_send(frame, 100);
        rig_run(&r);
    }
    assert_int_equal(counters(g)->no_buffers, 10);
    assert_int_equal(g->q->backlog_n, BACKLOG_PACKETS);
    post_buffers(g, 256);
    rig_run(&r);
    for (unsigned i = 0; i < BACKLOG_PACKETS; i++) {
        assert_true(take_frame(g, &got));
        assert_int_equal(load_be16(got.frame + 20), i); /* in order */
    }
    assert_false(take_frame(g, &got));
    rig_close(&r);
}

/* One that waits for three buffers does not take two, and nothing overtakes it. */
static void a_chain_waits_for_all_its_buffers(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ .mtu = 9000 });
    post_buffers(g, 2);
    wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 9014));
    rig_run(&r);
    wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 64));
    rig_run(&r);
    assert_false(take_frame(g, &got));
    assert_int_equal(net_queue_wants(g->q), 3);
    post_buffers(g, 2);
    rig_run(&r);
    assert_true(take_frame(g, &got));
    assert_int_equal(got.bytes, 9014);
    assert_true(take_frame(g, &got));
    assert_int_equal(got.bytes, 64);
    rig_close(&r);
}

static void bad_grants_of_rx(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct rig r;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = both[k], .mtu = 9000 });
        const netif_rx_request_t bad = { .id = 1, .gref = 0xfffffff0 };
        post_buffers(g, 1);
        g->next_rx++;
        ring_front_put_request(&g->rx, &bad, sizeof(bad));
        post_buffers(g, 5);
        wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 64));
        wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 65));
        wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 66));
        rig_run(&r);
        assert_true(take_frame(g, &got));
        assert_int_equal(got.bytes, 64);
        assert_true(take_frame(g, &got));
        assert_int_equal(got.status, NETIF_RSP_ERROR);
        assert_int_equal(got.flags, 0);
        assert_true(take_frame(g, &got));
        assert_int_equal(got.bytes, 66);
        assert_int_equal(counters(g)->bad_grant, 1);
        rig_close(&r);
    }
}

/* A bad buffer in a chain: those up to it are answered with an error, the rest stay posted. */
static void a_bad_grant_ends_a_chain(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct rig r;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = both[k], .mtu = 9000 });
        const netif_rx_request_t bad = { .id = 1, .gref = 0xfffffff0 };
        post_buffers(g, 1);
        g->next_rx++;
        ring_front_put_request(&g->rx, &bad, sizeof(bad));
        post_buffers(g, 5);
        wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 9014));
        rig_run(&r);
        assert_true(take_frame(g, &got));
        assert_int_equal(got.status, NETIF_RSP_ERROR);
        assert_true(take_frame(g, &got));
        assert_int_equal(got.status, NETIF_RSP_ERROR);
        assert_false(take_frame(g, &got));
        wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 9014));
        rig_run(&r);
        assert_true(take_frame(g, &got));
        assert_int_equal(got.bytes, 9014);
        assert_int_equal(counters(g)->bad_grant, 1);
        assert_int_equal(counters(g)->rx_packets, 1);
        rig_close(&r);
    }
}

/* ----------------------------------------------------------------------- bandwidth */

static void inbound_rate_fills_the_backlog_then_drops(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ .inbound = { 1000000, 0, RATE_DEPTH_MIN } });
    post_buffers(g, 256);
    /* 16384 bytes of credit: 17 packets of 1000, the last one on credit */
    for (unsigned i = 0; i < 17 + BACKLOG_PACKETS + 5; i++) {
        wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 1000));
        rig_run(&r);
    }
    assert_int_equal(counters(g)->rx_packets, 17);
    assert_int_equal(counters(g)->over_rate, 5);
    assert_int_equal(counters(g)->no_buffers, 0);
    uint64_t wait = UINT64_MAX;
    net_worker_turn(r.w, r.now, &wait);
    assert_int_equal(wait, 616000 + 1); /* 17000 - 16384 bytes at 1 MB/s */
    r.now += wait - 1;
    rig_run(&r);
    assert_int_equal(counters(g)->rx_packets, 17);
    r.now += 1;
    rig_run(&r);
    assert_int_equal(counters(g)->rx_packets, 18);
    r.now += 10000000;
    rig_run(&r);
    assert_int_equal(counters(g)->rx_packets, 28);
    rig_close(&r);
}

static void outbound_rate_leaves_requests_in_the_ring(void **state)
{
    (void)state;
    for (unsigned many = 0; many < 2; many++) { /* in one slot each, in two */
        struct rig r;
        rig_open(&r, true);
        struct guest *g =
            rig_guest(&r, &(struct guest_options){ .outbound = { 1000000, 0, RATE_DEPTH_MIN } });
        plain_frame(guest_page(g, TX_DATA), OUTSIDE, g->port.mac, 1000);
        for (unsigned i = 0; i < 100; i++) {
            put_slot(g, (uint16_t)i, TX_DATA, 0, 1000, many ? MORE : 0);
            if (many)
                put_slot(g, (uint16_t)i, TX_DATA, 0, 10, 0);
        }
        ring_front_push(&g->tx);
        rig_run(&r);
        assert_int_equal(wire_count(), 17);
        assert_int_equal(g->q->tx.req_cons, many ? 34 : 17);
        uint64_t wait = UINT64_MAX;
        net_worker_turn(r.w, r.now, &wait);
        assert_int_equal(wait, 616000 + 1);
        r.now += wait - 1;
        rig_run(&r);
        assert_int_equal(wire_count(), 0);
        r.now += 1;
        rig_run(&r);
        assert_int_equal(wire_count(), 1);
        rig_close(&r);
    }
}

/* ----------------------------------------------------------------------- doorbells */

static bool heard(struct hyp_evtchn *ch)
{
    struct pollfd p = { .fd = hyp_evtchn_fd(ch), .events = POLLIN };
    bool yes = poll(&p, 1, 0) == 1;
    hyp_evtchn_clear(ch);
    return yes;
}

static void doorbells_ring_where_they_should(void **state)
{
    (void)state;
    for (unsigned split = 0; split < 2; split++) {
        struct rig r;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ .split = split });
        plain_frame(guest_page(g, TX_DATA), OUTSIDE, g->port.mac, 64);
        put_slot(g, 1, TX_DATA, 0, 64, 0);
        ring_front_push(&g->tx);
        rig_run(&r);
        assert_true(heard(g->front_ch[0]));
        post_buffers(g, 4);
        wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 64));
        rig_run(&r);
        assert_true(heard(g->front_ch[1]));
        if (split)
            assert_false(heard(g->front_ch[0]));
        assert_int_equal(counters(g)->doorbells, 2);
        /* Nobody asked to be rung again. */
        put_slot(g, 2, TX_DATA, 0, 64, 0);
        ring_front_push(&g->tx);
        rig_run(&r);
        assert_false(heard(g->front_ch[0]));
        assert_int_equal(counters(g)->doorbells, 2);
        wire_count();
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_reaches_the_uplink),
        cmocka_unit_test(data_may_end_with_its_page),
        cmocka_unit_test(a_frame_in_many_slots),
        cmocka_unit_test(chains_at_every_place_of_the_ring),
        cmocka_unit_test(a_hash_is_ignored),
        cmocka_unit_test(wrong_packets_are_dropped_by_name),
        cmocka_unit_test(nineteen_slots_are_too_many),
        cmocka_unit_test(chains_as_long_as_the_ring),
        cmocka_unit_test(bad_grants_of_tx),
        cmocka_unit_test(no_memory_is_counted),
        cmocka_unit_test(a_tx_index_that_cannot_be_true_breaks_it),
        cmocka_unit_test(an_rx_index_that_cannot_be_true_breaks_it),
        cmocka_unit_test(memory_that_went_away_breaks_it),
        cmocka_unit_test(frames_of_all_lengths_reach_the_guest),
        cmocka_unit_test(only_the_frame_is_written),
        cmocka_unit_test(a_jumbo_frame_takes_a_chain),
        cmocka_unit_test(without_scatter_gather_a_page_is_the_limit),
        cmocka_unit_test(more_than_its_mtu_is_too_big),
        cmocka_unit_test(no_buffers_then_some),
        cmocka_unit_test(a_chain_waits_for_all_its_buffers),
        cmocka_unit_test(bad_grants_of_rx),
        cmocka_unit_test(a_bad_grant_ends_a_chain),
        cmocka_unit_test(inbound_rate_fills_the_backlog_then_drops),
        cmocka_unit_test(outbound_rate_leaves_requests_in_the_ring),
        cmocka_unit_test(doorbells_ring_where_they_should),
    };
    return cmocka_run_group_tests_name("netqueue", tests, NULL, NULL);
}
