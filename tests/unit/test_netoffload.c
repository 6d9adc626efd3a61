/* SPDX-License-Identifier: MIT */
/* Checksums and segments, against a second implementation. */
#include "test_netframes.h"

static uint8_t frame[FRAME_MAX];
static struct got got;

static const uint8_t THERE[NET_MAC_BYTES] = { 2, 0, 0, 0, 0, 9 };

static struct rte_mbuf *packet_of(const uint8_t *data, uint32_t bytes)
{
    struct rte_mbuf *m = packet_new(0, bytes);
    assert_non_null(m);
    memcpy(packet_data(m), data, bytes);
    return m;
}

static int all_pools(void **state)
{
    (void)state;
    eal_start();
    return 0;
}

static void checksums_of_every_shape(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 16; kind++) {
        for (uint32_t payload = 0; payload < 1400; payload += payload < 70 ? 1 : 131) {
            struct shape s = { .v6 = kind & 1, .tcp = kind & 2, .ip_options = kind & 4 ? 12 : 0,
                               .extensions = kind & 4 ? 16 : 0, .tcp_options = kind & 8 ? 20 : 0,
                               .payload = payload, .seq = payload };
            uint32_t bytes = build(frame, &s, THERE, OUTSIDE);
            struct rte_mbuf *m = packet_of(frame, bytes);
            assert_true(net_offload_find(m));
            assert_int_equal(m->l2_len, NET_HEADER_BYTES);
            assert_int_equal(m->l3_len, shape_l3(&s));
            assert_int_equal(m->l4_len, shape_l4(&s));
            assert_int_equal(!!(m->hash.usr & PACKET_V6), s.v6);
            assert_int_equal(!!(m->hash.usr & PACKET_TCP), s.tcp);
            net_offload_checksum(m);
            assert_int_equal(m->hash.usr & (PACKET_CSUM | PACKET_VALID), PACKET_VALID);
            assert_int_equal(l4_sum(packet_data(m)), 0xffff);
            /* Nothing else changed. */
            unsigned at = NET_HEADER_BYTES + shape_l3(&s) + (s.tcp ? 16 : 6);
            memcpy(packet_data(m) + at, frame + at, 2);
            assert_memory_equal(packet_data(m), frame, bytes);
            rte_pktmbuf_free(m);
        }
    }
}

/* A UDP sum of 0 would say that there is none. */
static void a_udp_sum_of_zero_is_sent_as_ones(void **state)
{
    (void)state;
    struct shape s = { .payload = 2 };
    bool seen = false;
    for (unsigned v = 0; v < 65536; v++) {
        uint32_t bytes = build(frame, &s, THERE, OUTSIDE);
        store_be16(frame + 42, (uint16_t)v);
        struct rte_mbuf *m = packet_of(frame, bytes);
        assert_true(net_offload_find(m));
        net_offload_checksum(m);
        uint16_t check = load_be16(packet_data(m) + 40);
        assert_int_not_equal(check, 0);
        seen |= check == 0xffff;
        rte_pktmbuf_free(m);
    }
    assert_true(seen);
}

/* What follows the IP packet in the frame (padding) is not summed. */
static void padding_is_not_summed(void **state)
{
    (void)state;
    struct shape s = { .tcp = true, .payload = 1 };
    uint32_t bytes = build(frame, &s, THERE, OUTSIDE);
    memset(frame + bytes, 0x55, 5);
    struct rte_mbuf *m = packet_of(frame, bytes + 5);
    assert_true(net_offload_find(m));
    net_offload_checksum(m);
    assert_int_equal(l4_sum(packet_data(m)), 0xffff);
    rte_pktmbuf_free(m);
}

/* Every byte of the headers with every value: never past the end (the sanitizer watches a copy of
 * exactly the frame's length), and where headers are found they are inside. */
static void odd_headers_are_refused_or_inside(void **state)
{
    (void)state;
    for (unsigned v6 = 0; v6 < 2; v6++) {
        struct shape s = { .v6 = v6, .tcp = true, .payload = 10, .extensions = v6 ? 8 : 0 };
        uint32_t bytes = build(frame, &s, THERE, OUTSIDE);
        struct rte_mbuf *m = packet_new(0, bytes);
        assert_non_null(m);
        for (unsigned at = 12; at < bytes - 10; at++)
            for (unsigned v = 0; v < 256; v++) {
                memcpy(packet_data(m), frame, bytes);
                packet_data(m)[at] = (uint8_t)v;
                m->hash.usr = 0;
                if (!net_offload_find(m)) {
                    assert_int_equal(m->hash.usr, 0);
                    continue;
                }
                assert_true((uint32_t)m->l2_len + m->l3_len + m->l4_len <= bytes);
                net_offload_checksum(m);
            }
        for (uint32_t cut = NET_HEADER_BYTES; cut < bytes; cut++) { /* a frame that ends early */
            memcpy(packet_data(m), frame, bytes);
            m->pkt_len = cut;
            m->data_len = (uint16_t)cut;
            m->hash.usr = 0;
            assert_false(net_offload_find(m));
        }
        rte_pktmbuf_free(m);
    }
}

static void fragments_and_others_have_no_checksum_here(void **state)
{
    (void)state;
    struct shape s = { .tcp = true, .payload = 40 };
    struct rte_mbuf *m = packet_of(frame, build(frame, &s, THERE, OUTSIDE));
    uint8_t *ip = packet_data(m) + NET_HEADER_BYTES;
    static const uint16_t fragments[] = { 0x2000, 0x0001, 0x1fff, 0x2001 };
    for (unsigned i = 0; i < 4; i++) {
        store_be16(ip + 6, fragments[i]);
        assert_false(net_offload_find(m));
    }
    store_be16(ip + 6, 0x4000); /* "don't" is not one */
    assert_true(net_offload_find(m));
    ip[9] = 47;
    assert_false(net_offload_find(m));
    rte_pktmbuf_free(m);
}

/* ------------------------------------------------------------------------ segments */

static void check_segment(const struct shape *s, struct rte_mbuf *seg, unsigned i, unsigned n, uint32_t size)
{
    const uint8_t *data = packet_data(seg), *ip = data + NET_HEADER_BYTES, *tcp = ip + shape_l3(s);
    uint32_t at = i * size, bytes = i + 1 < n ? size : s->payload - at;
    uint32_t headers = NET_HEADER_BYTES + shape_l3(s) + shape_l4(s);
    bool last = i + 1 == n;

    assert_int_equal(seg->pkt_len, headers + bytes);
    assert_memory_equal(data + headers, frame + headers + at, bytes);
    assert_int_equal(l4_sum(data), 0xffff);
    assert_true(ip_right(data));
    assert_int_equal((uint32_t)load_be16(tcp + 4) << 16 | load_be16(tcp + 6), (uint32_t)(s->seq + at));
    if (!s->v6)
        assert_int_equal(load_be16(ip + 4), (uint16_t)(s->ip_id + i));
    uint8_t flags = s->tcp_flags;
    if (!last)
        flags &= (uint8_t)~0x09; /* PSH and FIN are the last one's */
    if (i > 0)
        flags &= (uint8_t)~0x80; /* CWR is the first one's */
    assert_int_equal(tcp[13], flags);
    assert_int_equal(seg->hash.usr & (PACKET_GSO | PACKET_CSUM | PACKET_VALID), PACKET_VALID);
    assert_int_equal(seg->vlan_tci, 77);
}

static void segments_are_what_tcp_would_have_sent(void **state)
{
    (void)state;
    struct rte_mbuf *out[OFFLOAD_SEGMENTS_MAX];
    static const uint32_t payloads[] = { 1001, 2000, 2001, 2896, 9000, 30000, 64000 };
    for (unsigned kind = 0; kind < 4; kind++) {
        for (unsigned k = 0; k < 7; k++) {
            for (uint32_t size = 500; size <= 8948; size = size == 500    ? 1000
                                                           : size == 1000 ? 1448
                                                                          : size + 7500) {
                struct shape s = { .v6 = kind & 1, .tcp = true, .payload = payloads[k], .seq = 0xfffffc00,
                                   .ip_id = 0xfffe, .tcp_flags = 0xf9, .tcp_options = kind & 2 ? 12 : 0,
                                   .ip_options = kind & 2 ? 4 : 0, .extensions = kind & 2 ? 8 : 0 };
                uint32_t bytes = build(frame, &s, THERE, OUTSIDE);
                struct rte_mbuf *m = packet_of(frame, bytes);
                assert_true(net_offload_find(m));
                m->tso_segsz = (uint16_t)size;
                m->hash.usr |= PACKET_GSO;
                m->vlan_tci = 77;
                unsigned n = net_offload_segment(m, out);
                assert_int_equal(n, (s.payload + size - 1) / size);
                for (unsigned i = 0; i < n; i++) {
                    check_segment(&s, out[i], i, n, size);
                    rte_pktmbuf_free(out[i]);
                }
                rte_pktmbuf_free(m);
            }
        }
    }
    assert_int_equal(packets_in_use(), 0);
}

/* ------------------------------------------------------------- from guest to guest */

struct pair {
    struct rig r;
    struct guest *from, *to;
};

static void pair_open(struct pair *p, const struct guest_options *to)
{
    rig_open(&p->r, true);
    p->from = rig_guest(&p->r, &(struct guest_options){ .grants = to->grants, .mtu = to->mtu });
    p->to = rig_guest(&p->r, to);
    post_buffers(p->to, 200);
}

static uint32_t send_shape(struct pair *p, const struct shape *s, const uint8_t *to, unsigned gso_size)
{
    netif_tx_response_t rsp;
    uint32_t bytes = build(frame, s, to, p->from->port.mac);
    put_frame_gso(p->from, 0, frame, bytes, NETTXF_csum_blank | NETTXF_data_validated, gso_size,
                  s->v6 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4);
    ring_front_push(&p->from->tx);
    rig_run(&p->r);
    while (take_answer(p->from, &rsp))
        assert_true(rsp.status == NETIF_RSP_OKAY || rsp.status == NETIF_RSP_NULL);
    return bytes;
}

static void a_blank_checksum_is_passed_or_completed(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 8; k++) {
        struct pair p;
        struct shape s = { .v6 = k & 1, .tcp = k & 2, .payload = 300 };
        pair_open(&p, &(struct guest_options){ .no_csum = k & 4 });
        uint32_t bytes = send_shape(&p, &s, p.to->port.mac, 0);
        assert_true(take_frame(p.to, &got));
        assert_int_equal(got.bytes, bytes);
        if (k & 4) {
            assert_int_equal(got.flags, NETRXF_data_validated);
            assert_int_equal(l4_sum(got.frame), 0xffff);
        } else {
            assert_int_equal(got.flags, NETRXF_data_validated | NETRXF_csum_blank);
            /* The pseudo header's sum stands where the checksum will be, by the book. */
            assert_int_not_equal(l4_sum(got.frame), 0xffff);
            uint8_t *check = got.frame + NET_HEADER_BYTES + shape_l3(&s) + (s.tcp ? 16 : 6);
            uint16_t all = slow_sum(0, got.frame + NET_HEADER_BYTES + shape_l3(&s), shape_l4(&s) + s.payload);
            store_be16(check, (uint16_t)~all);
            assert_int_equal(l4_sum(got.frame), 0xffff);
        }
        send_shape(&p, &s, OUTSIDE, 0);
        struct rte_mbuf *m = wire_take();
        assert_non_null(m);
        assert_int_equal(l4_sum(packet_data(m)), 0xffff);
        rte_pktmbuf_free(m);
        rig_close(&p.r);
    }
}

static void a_large_packet_is_passed_or_cut(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 8; k++) {
        struct pair p;
        struct shape s = { .v6 = k & 1, .tcp = true, .payload = 40000, .seq = 7, .tcp_flags = 0x18 };
        pair_open(&p, &(struct guest_options){ .gso = k & 2, .grants = k & 4 ? NET_GRANTS_COPY : 0 });
        uint32_t bytes = send_shape(&p, &s, p.to->port.mac, 1400);
        if (k & 2) {
            assert_true(take_frame(p.to, &got));
            assert_int_equal(got.bytes, bytes);
            assert_int_equal(got.gso_size, 1400);
            assert_int_equal(got.gso_type, s.v6 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4);
            assert_int_equal(got.buffers, 1 + 10); /* pages and the extra */
            assert_int_equal(got.flags & (NETRXF_csum_blank | NETRXF_extra_info),
                             NETRXF_csum_blank | NETRXF_extra_info);
            uint32_t headers = bytes - s.payload;
            assert_memory_equal(got.frame + headers, frame + headers, s.payload);
        } else {
            uint32_t sum = 0;
            while (take_frame(p.to, &got)) {
                assert_int_equal(l4_sum(got.frame), 0xffff);
                assert_true(got.bytes <= 1514);
                sum += got.bytes - (bytes - s.payload);
            }
            assert_int_equal(sum, s.payload);
        }
        assert_false(take_frame(p.to, &got));
        send_shape(&p, &s, OUTSIDE, 1400);
        uint32_t sum = 0;
        for (struct rte_mbuf *m; (m = wire_take()); rte_pktmbuf_free(m)) {
            assert_int_equal(l4_sum(packet_data(m)), 0xffff);
            assert_true(m->pkt_len <= 1514);
            sum += m->pkt_len - (bytes - s.payload);
        }
        assert_int_equal(sum, s.payload);
        rig_close(&p.r);
    }
}

static void the_longest_packet_there_is(void **state)
{
    (void)state;
    struct pair p;
    struct shape s = { .tcp = true, .payload = 65535 - 14 - 40 };
    pair_open(&p, &(struct guest_options){ .gso = true });
    uint32_t bytes = send_shape(&p, &s, p.to->port.mac, 1448);
    assert_int_equal(bytes, NET_PACKET_MAX);
    assert_true(take_frame(p.to, &got));
    assert_int_equal(got.bytes, NET_PACKET_MAX);
    send_shape(&p, &s, OUTSIDE, 1448);
    assert_int_equal(wire_count(), (s.payload + 1447) / 1448);
    rig_close(&p.r);
}

/* A guest without scatter-gather gets segments even when it takes large ones. */
static void one_page_and_large_packets(void **state)
{
    (void)state;
    struct pair p;
    struct shape s = { .tcp = true, .payload = 9000 };
    pair_open(&p, &(struct guest_options){ .gso = true, .one_page = true });
    send_shape(&p, &s, p.to->port.mac, 1448);
    unsigned n = 0;
    for (; take_frame(p.to, &got); n++)
        assert_int_equal(got.buffers, 1);
    assert_int_equal(n, 7);
    rig_close(&p.r);
}

/* A large packet for everyone: whole to one, cut for the other and the wire. */
static void a_large_packet_for_everyone(void **state)
{
    (void)state;
    struct pair p;
    struct shape s = { .tcp = true, .payload = 5000 };
    pair_open(&p, &(struct guest_options){ .gso = true });
    struct guest *third = rig_guest(&p.r, &(struct guest_options){ .no_csum = true });
    post_buffers(third, 50);
    uint32_t bytes = send_shape(&p, &s, EVERYONE, 1448);
    assert_true(take_frame(p.to, &got));
    assert_int_equal(got.bytes, bytes);
    unsigned n = 0;
    for (; take_frame(third, &got); n++)
        assert_int_equal(l4_sum(got.frame), 0xffff);
    assert_int_equal(n, 4);
    assert_int_equal(wire_count(), 4);
    rig_close(&p.r);
}

/* Segments that are absurd, or of another family than the packet's. */
static void bad_segment_sizes_are_refused(void **state)
{
    (void)state;
    static const struct { bool v6; unsigned size, type; uint64_t bad; } c[] = {
        { false, 1460, XEN_NETIF_GSO_TYPE_TCPV4, 0 }, { false, 1461, XEN_NETIF_GSO_TYPE_TCPV4, 1 },
        { false, 65535, XEN_NETIF_GSO_TYPE_TCPV4, 1 }, { false, 1, XEN_NETIF_GSO_TYPE_TCPV4, 1 },
        { false, 249, XEN_NETIF_GSO_TYPE_TCPV4, 1 },   { false, 250, XEN_NETIF_GSO_TYPE_TCPV4, 0 },
        { false, 1000, XEN_NETIF_GSO_TYPE_TCPV6, 1 },  { true, 1000, XEN_NETIF_GSO_TYPE_TCPV4, 1 },
        { true, 1440, XEN_NETIF_GSO_TYPE_TCPV6, 0 },   { true, 1441, XEN_NETIF_GSO_TYPE_TCPV6, 1 },
    };
    for (unsigned i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
        struct pair p;
        netif_tx_response_t rsp;
        struct shape s = { .tcp = true, .v6 = c[i].v6, .payload = 40000 };
        pair_open(&p, &(struct guest_options){ 0 });
        uint32_t bytes = build(frame, &s, OUTSIDE, p.from->port.mac);
        put_frame_gso(p.from, 0, frame, bytes, NETTXF_csum_blank, c[i].size, c[i].type);
        ring_front_push(&p.from->tx);
        rig_run(&p.r);
        assert_int_equal(net_queue_counters(p.from->q)->bad_gso, c[i].bad);
        assert_int_equal(wire_count() == 0, c[i].bad);
        while (take_answer(p.from, &rsp))
            assert_true(rsp.status == NETIF_RSP_NULL || (rsp.status == NETIF_RSP_ERROR) == c[i].bad);
        rig_close(&p.r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksums_of_every_shape),
        cmocka_unit_test(a_udp_sum_of_zero_is_sent_as_ones),
        cmocka_unit_test(padding_is_not_summed),
        cmocka_unit_test(odd_headers_are_refused_or_inside),
        cmocka_unit_test(fragments_and_others_have_no_checksum_here),
        cmocka_unit_test(segments_are_what_tcp_would_have_sent),
        cmocka_unit_test(a_blank_checksum_is_passed_or_completed),
        cmocka_unit_test(a_large_packet_is_passed_or_cut),
        cmocka_unit_test(the_longest_packet_there_is),
        cmocka_unit_test(one_page_and_large_packets),
        cmocka_unit_test(a_large_packet_for_everyone),
        cmocka_unit_test(bad_segment_sizes_are_refused),
    };
    return cmocka_run_group_tests_name("netoffload", tests, all_pools, NULL);
}
