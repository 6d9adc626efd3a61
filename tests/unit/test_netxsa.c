/* SPDX-License-Identifier: MIT */
/*
 * What went wrong in network backends before, each by the name under which it
 * was published, tried against ours.  XSA-391, 396, 403, 457 and 465 are about
 * frontends and are tested there; here is the backend's half, where it has one.
 */
#include <pthread.h>

#include "test_netframes.h"

static uint8_t frame[FRAME_MAX];
static struct got got;

static const struct net_counters *counters(const struct guest *g)
{
    return net_queue_counters(g->q);
}

static netif_tx_request_t *tx_slot(struct guest *g, uint32_t index)
{
    return (netif_tx_request_t *)(g->tx.slots + (size_t)(index % NET_RING_SLOTS) * NET_TX_SLOT_BYTES);
}

static unsigned take_answers(struct guest *g)
{
    netif_tx_response_t rsp;
    unsigned n = 0;
    while (take_answer(g, &rsp))
        n++;
    return n;
}

static void send_all(struct rig *r, struct guest *g)
{
    ring_front_push(&g->tx);
    rig_run(r);
}

/* XSA-39 (CVE-2013-0216): garbage on the ring made the backend loop or run out of memory. */
static void xsa_39_garbage_on_the_ring(void **state)
{
    (void)state;
    uint64_t seed = 39;
    for (unsigned k = 0; k < 2; k++) {
        struct rig r;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = k ? NET_GRANTS_COPY : 0 });
        for (unsigned round = 0; round < 300; round++) {
            unsigned n = 1 + round % NET_RING_SLOTS;
            for (unsigned i = 0; i < n; i++) {
                uint8_t slot[NET_TX_SLOT_BYTES];
                for (unsigned b = 0; b < sizeof(slot); b++) {
                    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
                    slot[b] = (uint8_t)(seed >> 56);
                }
                ring_front_put_request(&g->tx, slot, sizeof(slot));
            }
            send_all(&r, g);
            assert_int_equal(take_answers(g), n); /* each slot once */
            wire_count();
        }
        assert_int_equal(counters(g)->broken, 0);
        plain_frame(guest_page(g, TX_DATA), OUTSIDE, g->port.mac, 64);
        put_slot(g, 1, TX_DATA, 0, 64, 0);
        send_all(&r, g);
        assert_int_equal(wire_count(), 1);
        take_answers(g);
        rig_close(&r);
    }
}

/* XSA-39 (CVE-2013-0217): an error half way through a chain leaked what was taken so far. rig_close()
 * counts packets. */
static void xsa_39_errors_half_way_leak_nothing(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ 0 });
    for (unsigned i = 0; i < 6000; i++) {
        netif_tx_request_t bad = { .gref = 0xffffffff, .size = 10 };
        put_slot(g, 0, TX_DATA, 0, 100, NETTXF_more_data);
        put_slot(g, 1, TX_DATA, 0, 10, NETTXF_more_data);
        ring_front_put_request(&g->tx, &bad, sizeof(bad));
        send_all(&r, g);
        assert_int_equal(take_answers(g), 3);
    }
    assert_int_equal(counters(g)->bad_grant + counters(g)->forged_mac, 6000);
    rig_close(&r);
}

/* XSA-90 (CVE-2014-2580): a malformed packet made the backend switch the vif off, at a moment when it could
 * not.  Ours drops the packet and goes on; what does end a connection ends it with packets in flight. */
static void xsa_90_a_malformed_packet_does_not_end_the_vif(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ 0 });
    plain_frame(guest_page(g, TX_DATA), OUTSIDE, g->port.mac, 64);
    put_slot(g, 0, TX_DATA, 0, 64, 0);
    put_slot(g, 1, TX_DATA, 4090, 64, 0);
    put_slot(g, 2, TX_DATA, 0, 64, 0);
    send_all(&r, g);
    assert_int_equal(take_answers(g), 3);
    assert_int_equal(counters(g)->broken, 0);
    assert_int_equal(wire_count(), 2);
    rig_close(&r);
}

/* XSA-155: shared memory read twice, checked once.  Slots and frame are rewritten by another thread all the
 * time; whatever leaves is one that was allowed. */
static struct { struct guest *g; int stop; } rewriter;

static void *rewrite(void *arg)
{
    struct guest *g = rewriter.g;
    (void)arg;
    for (uint32_t i = 0; !__atomic_load_n(&rewriter.stop, __ATOMIC_RELAXED); i++) {
        uint8_t *page = guest_page(g, TX_DATA);
        volatile netif_tx_request_t *s = tx_slot(g, i);
        ((volatile uint8_t *)page)[6 + i % 6] ^= 1; /* the source address */
        s->size = i % 3 ? 64 : 4000;
        s->offset = i % 5 ? 0 : 4090;
        ((volatile uint8_t *)page)[6 + i % 6] ^= 1;
        ((volatile uint8_t *)page)[12] = i % 7 ? 0x88 : 0x81; /* a tag or none */
        ((volatile uint8_t *)page)[13] = i % 7 ? 0xb5 : 0x00;
    }
    return NULL;
}

static void xsa_155_frames_rewritten_under_the_backend(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct rig r;
        pthread_t t;
        unsigned sent = 0;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = k ? NET_GRANTS_COPY : 0 });
        plain_frame(guest_page(g, TX_DATA), OUTSIDE, g->port.mac, 64);
        rewriter.g = g;
        __atomic_store_n(&rewriter.stop, 0, __ATOMIC_RELAXED);
        assert_int_equal(pthread_create(&t, NULL, rewrite, NULL), 0);
        /* Some get through, in the moments in which the other thread does not run if in no other. */
        for (unsigned round = 0; round < 2000 || (sent == 0 && round < 2000000); round++) {
            for (unsigned i = 0; i < 32; i++)
                put_slot(g, (uint16_t)i, TX_DATA, 0, 64, 0);
            send_all(&r, g);
            take_answers(g);
            for (struct rte_mbuf *m; (m = wire_take()); rte_pktmbuf_free(m), sent++) {
                const uint8_t *data = packet_data(m);
                assert_memory_equal(data + 6, g->port.mac, NET_MAC_BYTES);
                assert_false(is_tag(load_be16(data + 12)));
                assert_int_equal(m->pkt_len, 64);
            }
        }
        __atomic_store_n(&rewriter.stop, 1, __ATOMIC_RELAXED);
        pthread_join(t, NULL);
        assert_true(sent > 0);
        rig_close(&r);
    }
}

/* XSA-155 on the rx ring: the buffer's grant is changed between look and use. */
static void xsa_155_the_answer_follows_the_copy(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ 0 });
    post_buffers(g, 4);
    g->q->rx_posted = 0;
    wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 64));
    rig_run(&r);
    netif_rx_request_t *s = (netif_rx_request_t *)(g->rx.slots + NET_RX_SLOT_BYTES);
    s->id = 3; /* the next one: the answer has the id that is there when it is taken, once */
    wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 65));
    rig_run(&r);
    netif_rx_response_t rsp[2] = { { 0 } };
    ring_front_copy_response(&g->rx, &rsp[0], sizeof(rsp[0]));
    ring_front_copy_response(&g->rx, &rsp[1], sizeof(rsp[1]));
    assert_int_equal(rsp[0].id, 0);
    assert_int_equal(rsp[1].id, 3);
    assert_int_equal(rsp[1].status, 65);
    rig_close(&r);
}

/* XSA-216: bytes of the backend's stack in the padding of a response. Every byte of the rings that the guest
 * did not write is one that is meant. */
static void xsa_216_answers_have_no_bytes_of_ours(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ .gso = true, .mtu = 9000 });
    struct guest *o = rig_guest(&r, &(struct guest_options){ .mtu = 9000 });
    plain_frame(guest_page(g, TX_DATA), OUTSIDE, g->port.mac, 64);
    put_slot(g, 0x1234, TX_DATA, 0, 64, NETTXF_extra_info);
    put_extra(g, XEN_NETIF_EXTRA_TYPE_HASH, 0, 0, 0);
    uint8_t before[2 * NET_TX_SLOT_BYTES];
    memcpy(before, tx_slot(g, 0), sizeof(before));
    send_all(&r, g);
    const uint8_t *after = (const uint8_t *)tx_slot(g, 0);
    static const uint8_t first[] = { 0x34, 0x12, 0, 0 }, second[] = { 0, 0, 1, 0 };
    assert_memory_equal(after, first, 4);
    assert_memory_equal(after + 4, before + 4, 8); /* the guest's own */
    assert_memory_equal(after + 12, second, 4);
    assert_memory_equal(after + 16, before + 16, 8);
    /* Extra info to a guest: eight bytes, six of them meant and two zero. */
    post_buffers(g, 20);
    struct shape s = { .tcp = true, .payload = 20000 };
    uint32_t bytes = build(frame, &s, g->port.mac, o->port.mac);
    put_frame_gso(o, 0, frame, bytes, NETTXF_csum_blank, 1448, XEN_NETIF_GSO_TYPE_TCPV4);
    send_all(&r, o);
    const uint8_t *extra = g->rx.slots + NET_RX_SLOT_BYTES;
    static const uint8_t meant[] = { XEN_NETIF_EXTRA_TYPE_GSO, 0, 0xa8, 0x05,
                                     XEN_NETIF_GSO_TYPE_TCPV4, 0, 0,    0 };
    assert_memory_equal(extra, meant, sizeof(meant));
    wire_count();
    take_answers(g);
    take_answers(o);
    while (take_frame(g, &got))
        ;
    rig_close(&r);
}

/* XSA-270 (CVE-2018-15471): a hash as extra info was used as an index. Ours is not used at all. */
static void xsa_270_a_hash_is_not_used(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ 0 });
    plain_frame(guest_page(g, TX_DATA), OUTSIDE, g->port.mac, 64);
    for (unsigned v = 0; v < 256; v++) {
        struct { struct netif_extra_info x; uint32_t pad; } slot;
        memset(&slot, (int)v, sizeof(slot));
        slot.x.type = XEN_NETIF_EXTRA_TYPE_HASH;
        slot.x.flags = 0;
        put_slot(g, 0, TX_DATA, 0, 64, NETTXF_extra_info);
        ring_front_put_request(&g->tx, &slot, sizeof(slot));
        send_all(&r, g);
        assert_int_equal(take_answers(g), 2);
    }
    assert_int_equal(wire_count(), 256);
    rig_close(&r);
}

/* XSA-362, 367 (CVE-2021-26931, 28038): errors of grant operations ended the backend, or were not looked at.
 */
static void xsa_362_367_grant_errors_are_an_answer(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct rig r;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = k ? NET_GRANTS_COPY : 0 });
        netif_tx_request_t rq[4];
        for (unsigned i = 0; i < 32; i++) {
            rq[0] = (netif_tx_request_t){ .gref = i * 0x08080808u, .id = (uint16_t)i, .size = 64 };
            ring_front_put_request(&g->tx, rq, sizeof(rq[0]));
        }
        send_all(&r, g);
        for (uint16_t i = 0; i < 32; i++)
            expect_answer(g, i, NETIF_RSP_ERROR);
        assert_int_equal(counters(g)->bad_grant, 32);
        assert_int_equal(wire_count(), 0);
        assert_int_equal(counters(g)->broken, 0);
        rig_close(&r);
    }
}

/* XSA-374 (CVE-2021-28691): a packet that ended the vif let its structures be used after they were freed.
 * Here: the connection ends with packets of it in the backlog, at the uplink and between workers. */
static void xsa_374_the_end_with_packets_on_their_way(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ 0 }),
                 *o = rig_guest(&r, &(struct guest_options){ 0 });
    plain_frame(guest_page(g, TX_DATA), o->port.mac, g->port.mac, 64);
    plain_frame(guest_page(g, TX_DATA + 1), OUTSIDE, g->port.mac, 64);
    for (unsigned i = 0; i < 100; i++)
        put_slot(g, 0, TX_DATA + i % 2, 0, 64, 0);
    send_all(&r, g);
    assert_true(o->q->backlog_n == 50);
    ring_store(&g->tx.shared->req_prod, g->tx.req_prod + 1000);
    rig_run(&r);
    assert_int_equal(counters(g)->broken, 1);
    net_worker_detach(r.w, &g->port);
    post_buffers(o, 60);
    rig_run(&r);
    unsigned n = 0;
    while (take_frame(o, &got))
        n++;
    assert_int_equal(n, 50);
    assert_int_equal(wire_count(), 50);
    rig_close(&r);
}

/* XSA-391: event storms (of a backend, there); this is the other way round, and muted in test_networker.c.
 * What a doorbell costs when there is nothing on the ring is a look. */
static void xsa_391_nothing_on_the_ring_is_nothing(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ 0 });
    for (unsigned i = 0; i < 1000; i++) {
        hyp_evtchn_notify(g->front_ch[0]);
        ring_front_push(&g->tx);
        rig_run(&r);
    }
    assert_int_equal(counters(g)->doorbells, 0);
    assert_int_equal(counters(g)->tx_packets, 0);
    rig_close(&r);
}

/* XSA-392 (CVE-2021-28714, 28715): a guest that does not read made the backend queue without limit. */
static void xsa_392_a_guest_that_does_not_read(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g = rig_guest(&r, &(struct guest_options){ .mtu = 9000, .gso = true });
    struct guest *o = rig_guest(&r, &(struct guest_options){ .mtu = 9000 });
    struct shape s = { .tcp = true, .payload = 60000 };
    uint32_t bytes = build(frame, &s, g->port.mac, o->port.mac);
    for (unsigned i = 0; i < 200; i++) { /* large ones */
        put_frame_gso(o, 0, frame, bytes, NETTXF_csum_blank, 8000, XEN_NETIF_GSO_TYPE_TCPV4);
        send_all(&r, o);
        take_answers(o);
        assert_true(g->q->backlog_bytes <= BACKLOG_BYTES);
        assert_true(g->q->backlog_large <= BACKLOG_SHARED_LARGE / 2 + 1);
    }
    assert_true(counters(g)->no_buffers > 150);
    for (unsigned i = 0; i < 1000; i++) { /* small ones */
        wire_send(frame, plain_frame(frame, g->port.mac, OUTSIDE, 64));
        rig_run(&r);
        assert_true(g->q->backlog_n <= BACKLOG_PACKETS);
    }
    assert_true(packets_in_use() <= BACKLOG_PACKETS);
    rig_close(&r);
}

/* XSA-403: what else is in memory that is shared. The backend shares none of its own; nothing of one guest's
 * frame reaches another beyond its length (also only_the_frame_is_written() in test_netqueue.c). */
static void xsa_403_no_other_guests_bytes(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *a = rig_guest(&r, &(struct guest_options){ 0 }),
                 *b = rig_guest(&r, &(struct guest_options){ 0 });
    post_buffers(b, 200);
    memset(frame, 0x5e, 1514);
    for (unsigned i = 0; i < 64; i++) { /* secrets pass through all buffers that will be used again */
        plain_frame(frame, OUTSIDE, a->port.mac, 14);
        put_frame(a, 0, frame, 1514, 0);
    }
    send_all(&r, a);
    assert_int_equal(wire_count(), 64);
    take_answers(a);
    for (uint32_t size = 14; size < 200; size += 3) {
        plain_frame(frame, b->port.mac, a->port.mac, size);
        put_frame(a, 0, frame, size, 0);
    }
    send_all(&r, a);
    take_answers(a);
    for (unsigned page = 0; page < 200; page++)
        for (unsigned i = 0; i + 16 < HYP_PAGE_SIZE; i++)
            assert_false(!memcmp(guest_page(b, RX_DATA + page) + i, "\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e", 8));
    rig_close(&r);
}

/* XSA-423 (CVE-2022-3643): headers split over slots reached a NIC driver in pieces. XSA-432 (CVE-2023-34319):
 * the fix overran when a short packet came in as many slots as there may be. */
static void xsa_423_432_headers_split_over_slots(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        for (unsigned slots = 2; slots <= NET_SLOTS_MAX; slots++) {
            struct rig r;
            struct shape s = { .tcp = true, .payload = 64 };
            rig_open(&r, true);
            struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = k ? NET_GRANTS_COPY : 0 });
            uint32_t bytes = build(frame, &s, OUTSIDE, g->port.mac), first = bytes - (slots - 1), at = 1;
            memcpy(guest_page(g, TX_DATA), frame, bytes);
            /* Slots of one byte first, so that every header is cut somewhere; the long rest last. */
            put_slot(g, 0, TX_DATA, 0, bytes, NETTXF_csum_blank | NETTXF_more_data);
            for (unsigned i = 1; i < slots; i++, at++)
                put_slot(g, (uint16_t)i, TX_DATA, at, i + 1 < slots ? 1 : first,
                         i + 1 < slots ? NETTXF_more_data : 0);
            send_all(&r, g);
            assert_int_equal(take_answers(g), slots);
            struct rte_mbuf *m = wire_take();
            assert_non_null(m);
            assert_int_equal(m->nb_segs, 1);
            assert_int_equal(m->pkt_len, bytes);
            assert_int_equal(l4_sum(packet_data(m)), 0xffff);
            rte_pktmbuf_free(m);
            rig_close(&r);
        }
    }
}

/* XSA-424 (CVE-2022-42328, 42329): dropping a packet dead-locked. Every way to drop one, many times in a row.
 */
static void xsa_424_drops_of_every_kind_in_a_row(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, false);
    struct guest *a =
        rig_guest(&r, &(struct guest_options){ .isolated = true, .outbound = { 1ull << 30, 0, 1 << 30 } });
    struct guest *b = rig_guest(&r, &(struct guest_options){ .isolated = true });
    plain_frame(guest_page(a, TX_DATA), OUTSIDE, a->port.mac, 2000);
    plain_frame(guest_page(a, TX_DATA + 1), b->port.mac, a->port.mac, 64);
    plain_frame(guest_page(a, TX_DATA + 2), OUTSIDE, b->port.mac, 64);
    tagged_frame(guest_page(a, TX_DATA + 3), OUTSIDE, a->port.mac, 5, 64);
    for (unsigned i = 0; i < 3000; i++) {
        put_slot(a, 0, TX_DATA, 0, 64, 0);                 /* nobody */
        put_slot(a, 0, TX_DATA + 1, 0, 64, 0);             /* isolated */
        put_slot(a, 0, TX_DATA + 2, 0, 64, 0);             /* forged */
        put_slot(a, 0, TX_DATA + 3, 0, 64, 0);             /* tagged */
        put_slot(a, 0, TX_DATA, 0, 2000, 0);               /* too long */
        put_slot(a, 0, TX_DATA, 0, 5, 0);                  /* too short */
        put_slot(a, 0, TX_DATA, 0, 64, NETTXF_csum_blank); /* no checksum */
        put_slot(a, 0, TX_DATA, 0, 64, NETTXF_extra_info);
        put_extra(a, 9, 0, 0, 0);
        send_all(&r, a);
        assert_int_equal(take_answers(a), 9);
    }
    const struct net_counters *c = counters(a);
    assert_int_equal(c->no_port, 3000);
    assert_int_equal(c->isolated, 3000);
    assert_int_equal(c->forged_mac, 3000);
    assert_int_equal(c->bad_vlan, 3000);
    assert_int_equal(c->too_long, 3000);
    assert_int_equal(c->too_short, 3000);
    assert_int_equal(c->bad_csum, 3000);
    assert_int_equal(c->bad_extra, 3000);
    rig_close(&r);
}

/* XSA-448 (CVE-2023-46838): a slot of no bytes within a packet was not expected. */
static void xsa_448_slots_of_no_bytes(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct rig r;
        rig_open(&r, true);
        struct guest *g = rig_guest(&r, &(struct guest_options){ .grants = k ? NET_GRANTS_COPY : 0 });
        plain_frame(frame, OUTSIDE, g->port.mac, 64);
        memcpy(guest_page(g, TX_DATA), frame, 64);
        put_slot(g, 0, TX_DATA, 0, 64, NETTXF_more_data); /* all in the first */
        put_slot(g, 1, TX_DATA + 1, 4096, 0, NETTXF_more_data);
        put_slot(g, 2, TX_DATA + 1, 0, 0, 0);
        put_slot(g, 3, TX_DATA + 1, 7, 64, NETTXF_more_data); /* none in the first */
        put_slot(g, 4, TX_DATA, 0, 64, 0);
        put_slot(g, 5, TX_DATA, 0, 0, NETTXF_more_data); /* none at all */
        put_slot(g, 6, TX_DATA, 0, 0, 0);
        send_all(&r, g);
        for (uint16_t id = 0; id < 7; id++)
            expect_answer(g, id, id < 5 ? NETIF_RSP_OKAY : NETIF_RSP_ERROR);
        for (unsigned i = 0; i < 2; i++) {
            struct rte_mbuf *m = wire_take();
            assert_non_null(m);
            assert_int_equal(m->pkt_len, 64);
            assert_memory_equal(packet_data(m), frame, 64);
            rte_pktmbuf_free(m);
        }
        assert_int_equal(counters(g)->too_short, 1);
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xsa_39_garbage_on_the_ring),
        cmocka_unit_test(xsa_39_errors_half_way_leak_nothing),
        cmocka_unit_test(xsa_90_a_malformed_packet_does_not_end_the_vif),
        cmocka_unit_test(xsa_155_frames_rewritten_under_the_backend),
        cmocka_unit_test(xsa_155_the_answer_follows_the_copy),
        cmocka_unit_test(xsa_216_answers_have_no_bytes_of_ours),
        cmocka_unit_test(xsa_270_a_hash_is_not_used),
        cmocka_unit_test(xsa_362_367_grant_errors_are_an_answer),
        cmocka_unit_test(xsa_374_the_end_with_packets_on_their_way),
        cmocka_unit_test(xsa_391_nothing_on_the_ring_is_nothing),
        cmocka_unit_test(xsa_392_a_guest_that_does_not_read),
        cmocka_unit_test(xsa_403_no_other_guests_bytes),
        cmocka_unit_test(xsa_423_432_headers_split_over_slots),
        cmocka_unit_test(xsa_424_drops_of_every_kind_in_a_row),
        cmocka_unit_test(xsa_448_slots_of_no_bytes),
    };
    return cmocka_run_group_tests_name("netxsa", tests, NULL, NULL);
}
