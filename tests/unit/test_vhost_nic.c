/* SPDX-License-Identifier: MIT */
/* Packets between a guest's rings and a driver domain: frontends/door/vhost_user/nic*.c */
#include "test_vhost_nic.h"

/* -------------------------------------------------------------------- what is offered */

static void test_features(void **state)
{
    (void)state;
    uint8_t config[VHOST_CONFIG_MAX];
    const uint64_t always = F(MRG_RXBUF) | F(MTU) | F(CSUM) | F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6)
                            | F(GUEST_ECN) | UINT64_C(1) << 27;
    assert_int_equal(nic_class.queues(&nic), 4);
    assert_int_equal(nic_class.features(&nic), always | F(MQ) | F(HOST_TSO4) | F(HOST_TSO6) | F(HOST_ECN));
    front.info.can_gso6 = 0;
    assert_int_equal(nic_class.features(&nic), always | F(MQ) | F(HOST_TSO4) | F(HOST_ECN));
    front.info.can_csum4 = 0;
    assert_int_equal(nic_class.features(&nic), always | F(MQ));
    front.info.can_csum4 = front.info.can_gso6 = 1;
    front.info.can_chain = 0;
    assert_int_equal(nic_class.features(&nic), always | F(MQ));
    nic.npairs = 1;
    assert_int_equal(nic_class.features(&nic), always);
    nic.npairs = 2;
    assert_int_equal(nic_class.config(&nic, config), 0);
    assert_int_equal(nic_class.mtu(&nic, 9000), 0);
    assert_int_equal(nic_class.mtu(&nic, 9001), -EINVAL);
    assert_int_equal(nic_class.mtu(&nic, UINT64_MAX), -EINVAL);
    assert_int_equal(nic_class.start(&nic, 4), -EINVAL);
    assert_true(nic_class.mq);
    for (int i = 0; i < NIC_DROPS; i++)
        assert_true(strlen(nic_drop_name((enum nic_drop)i)) > 0);
}

/* -------------------------------------------------------------------------- plain */

static void test_from_the_guest(void **state)
{
    (void)state;
    static const uint32_t sizes[] = { 14, 60, 1514, 2047, 2048, 2049, 4096, 4097, 9018, 65535 };
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        make_frame(frame, UDP, sizes[i] < 60 ? 60 : sizes[i]);
        /* The header may lie anywhere. */
        for (uint32_t cut = 0; cut <= nic.header + 1; cut++) {
            uint16_t id = send_in(1, &plain, frame, sizes[i], cut);
            assert_true(turn() > 0);
            expect_sent(frame, sizes[i], 0, 0);
            expect_used(1, id, 0);
        }
    }
    assert_int_equal(turn(), 0);
    assert_int_equal(all_drops(), 0);
    assert_int_equal(nic.to_front, 10 * 14);
}

static void test_to_the_guest(void **state)
{
    (void)state;
    static const uint32_t sizes[] = { 14, 60, 1514, 1536 - 12, 4096, 9018 };
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        make_frame(frame, UDP, sizes[i] < 60 ? 60 : sizes[i]);
        uint8_t *at = post(0, 9100);
        arrive(frame, sizes[i], 0, 0, 0);
        assert_true(turn() > 0);
        uint32_t id, bytes;
        assert_true(next_used(0, &id, &bytes));
        assert_int_equal(bytes, sizes[i] + 12);
        assert_memory_equal(at, ((struct virtio_net_hdr_v1[]){ { .num_buffers = 1 } }), 12);
        assert_memory_equal(at + 12, frame, sizes[i]);
        assert_int_equal(at[12 + sizes[i]], 0xee);
    }
    assert_int_equal(all_drops(), 0);
    assert_int_equal(nic.to_guest, 6);
}

/* Without VERSION_1 and merged buffers a header has 10 bytes, and may be split anywhere. */
static void test_legacy_header(void **state)
{
    (void)state;
    agree(F(CSUM) | F(GUEST_CSUM));
    assert_int_equal(nic.header, 10);
    make_frame(frame, UDP, 200);
    uint16_t id = send(&plain, frame, 200);
    turn();
    expect_sent(frame, 200, 0, 0);
    expect_used(1, id, 0);
    uint8_t *at = guest_alloc(4096);
    struct piece p[3] = { { at, 3, true }, { at + 100, 8, true }, { at + 200, 1000, true } };
    id = give(0, p, 3);
    arrive(frame, 200, NETRXF_data_validated, 0, 0);
    turn();
    expect_used(0, id, 210);
    assert_memory_equal(at, "\x02\0\0", 3); /* DATA_VALID */
    assert_memory_equal(at + 100, "\0\0\0\0\0\0\0", 7);
    assert_int_equal(at[107], frame[0]);
    assert_memory_equal(at + 200, frame + 1, 199);
    agree(F(MRG_RXBUF));
    assert_int_equal(nic.header, 12);
    agree(VERSION_1);
    assert_int_equal(nic.header, 12);
}

/* One doorbell and one call for a burst, used in order. */
static void test_bursts(void **state)
{
    (void)state;
    uint16_t ids[RING / 2];
    make_frame(frame, UDP, 100);
    uint64_t doorbells = r.q.queue.doorbells;
    hyp_evtchn_clear(r.doorbell[0]);
    ring_back_idle(&r.tx); /* the backend sleeps */
    for (unsigned i = 0; i < RING / 2; i++)
        ids[i] = send(&plain, frame, 60 + i);
    while (was_called(1))
        ;
    turn();
    assert_int_equal(r.q.queue.doorbells, doorbells + 1);
    assert_true(was_called(1));
    for (unsigned i = 0; i < RING / 2; i++) {
        expect_used(1, ids[i], 0);
        expect_sent(frame, 60 + i, 0, 0);
    }
    for (unsigned i = 0; i < RING; i++)
        post(0, 2048);
    for (unsigned i = 0; i < RING; i++)
        arrive(frame, 60 + i, 0, 0, 0);
    turn();
    uint64_t calls;
    assert_int_equal(read(dev.queue[0].call_fd, &calls, sizeof(calls)), sizeof(calls));
    assert_int_equal(calls, 1);
    for (unsigned i = 0; i < RING; i++)
        expect_used(0, i, 12 + 60 + i);
}

/* Round both rings many times, with what the backend answers coming late. */
static void test_wrap(void **state)
{
    (void)state;
    uint32_t seed = 7, given = 0, got = 0, posted = 0, arrived = 0, taken = 0;
    uint8_t *at[RING];
    uint16_t flags, gso;
    while (got < 5000 || taken < 5000) {
        for (unsigned k = rig_random(&seed) % 20; k > 0 && given - got < RING / 2; k--) {
            make_frame(frame, UDP, 60 + given % 3000);
            memcpy(frame + 50, &given, 4);
            send(&plain, frame, 60 + given % 3000);
            given++;
        }
        for (; posted - taken < RING; posted++)
            at[posted % RING] = post(0, 3100);
        for (unsigned k = rig_random(&seed) % 30; k > 0 && arrived - taken < 60; k--) {
            make_frame(frame, UDP, 60 + arrived % 3000);
            memcpy(frame + 50, &arrived, 4);
            arrive(frame, 60 + arrived % 3000, 0, 0, 0);
            arrived++;
        }
        turn();
        for (unsigned k = rig_random(&seed) % 25; k > 0; k--) {
            uint32_t n = sent(&flags, &gso);
            if (n == 0)
                break;
            assert_int_equal(n, 60 + got % 3000);
            assert_memory_equal(out + 50, &got, 4);
            got++;
        }
        uint32_t id, bytes;
        while (next_used(0, &id, &bytes)) {
            assert_int_equal(id, taken % RING);
            assert_int_equal(bytes, 12 + 60 + taken % 3000);
            assert_memory_equal(at[taken % RING] + 12 + 50, &taken, 4);
            taken++;
        }
        count_used(1);
    }
    assert_int_equal(all_drops(), 0);
}

/* More than are copied before they are sent, and more than the backend's ring holds. */
static void test_long_packets(void **state)
{
    (void)state;
    uint16_t flags, gso;
    unsigned got = 0;
    for (unsigned i = 0; i < 20; i++) {
        make_frame(frame, UDP, 60000 + i);
        send(&plain, frame, 60000 + i);
    }
    for (unsigned rounds = 0; got < 20 && rounds < 100; rounds++) {
        turn_all();
        for (uint32_t n; (n = sent(&flags, &gso)) > 0; got++) {
            make_frame(frame, UDP, 60000 + got);
            assert_int_equal(n, 60000 + got);
            assert_memory_equal(out, frame, n);
        }
    }
    assert_int_equal(got, 20);
    turn_all();
    assert_int_equal(count_used(1), 20);
    assert_int_equal(all_drops(), 0);
}

/* Chains of so many pieces that few of them are looked at together. */
static void test_many_pieces(void **state)
{
    (void)state;
    ring_stop(1);
    ring_start(1, 1024, true);
    make_frame(frame, UDP, 400);
    struct piece p[200];
    for (unsigned k = 0; k < 5; k++) {
        uint8_t *at = guest_alloc(200);
        memset(at, 0, 12);
        memcpy(at + 12, frame + k, 188);
        for (unsigned i = 0; i < 200; i++)
            p[i] = (struct piece){ at + i, 1, false };
        give(1, p, 200);
    }
    turn_all();
    for (unsigned k = 0; k < 5; k++)
        expect_sent(frame + k, 188, 0, 0);
    assert_int_equal(count_used(1), 5);
    assert_int_equal(all_drops(), 0);
}

/* ----------------------------------------------------------------------- offloads */

static void test_checksums_from_the_guest(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 8; kind++) {
        struct virtio_net_hdr_v1 h = blank_header(kind);
        make_frame(frame, kind, 1000);
        send(&h, frame, 1000);
        turn();
        expect_sent(frame, 1000, BLANK, 0);
        /* A NIC that cannot. */
        uint16_t flags, gso;
        *(kind & V6 ? &front.info.can_csum6 : &front.info.can_csum4) = 0;
        send(&h, frame, 1000);
        turn();
        assert_int_equal(sent(&flags, &gso), 1000);
        assert_int_equal(flags, 0);
        assert_true(is_summed(out, kind, 1000));
        front.info.can_csum4 = front.info.can_csum6 = 1;
        count_used(1);
    }
    assert_int_equal(all_drops(), 0);
}

static void test_segments_from_the_guest(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 8; kind++) {
        if (kind & UDP)
            continue;
        struct virtio_net_hdr_v1 h = segment_header(kind, 1400);
        h.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
        make_frame(frame, kind, 65535);
        uint16_t id = send(&h, frame, 65535);
        turn();
        expect_sent(frame, 65535, BLANK, 1400);
        expect_used(1, id, 0);
    }
    assert_int_equal(all_drops(), 0);
}

static void test_offloads_to_the_guest(void **state)
{
    (void)state;
    struct virtio_net_hdr_v1 want;
    uint8_t *at = post(0, 3000);
    make_frame(frame, UDP, 500);
    arrive(frame, 500, NETRXF_data_validated, 0, 0);
    turn();
    want = (struct virtio_net_hdr_v1){ .flags = VIRTIO_NET_HDR_F_DATA_VALID, .num_buffers = 1 };
    assert_memory_equal(at, &want, 12);
    for (unsigned kind = 0; kind < 8; kind++) {
        at = post(0, 3000);
        make_frame(frame, kind, 1500);
        arrive(frame, 1500, NETRXF_csum_blank | NETRXF_data_validated, 0, 0);
        turn();
        want = blank_header(kind);
        want.num_buffers = 1;
        assert_memory_equal(at, &want, 12);
        assert_memory_equal(at + 12, frame, 1500);
        if (kind & UDP)
            continue;
        at = post(0, 9000);
        make_frame(frame, kind, 8000);
        uint8_t type = kind & V6 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4;
        arrive(frame, 8000, NETRXF_csum_blank | NETRXF_data_validated, type, 1400);
        turn();
        want = segment_header(kind, 1400);
        want.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
        want.num_buffers = 1;
        assert_memory_equal(at, &want, 12);
        assert_memory_equal(at + 12, frame, 8000);
        /* Who does not know of ECN is not told. */
        agree(ALL_F & ~F(GUEST_ECN));
        at = post(0, 9000);
        arrive(frame, 8000, NETRXF_csum_blank | NETRXF_data_validated, type, 1400);
        turn();
        want.gso_type &= (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
        assert_memory_equal(at, &want, 12);
        agree(ALL_F);
    }
    assert_int_equal(all_drops(), 0);
}

/* A guest that agreed to nothing gets packets that are complete. */
static void test_checksums_are_filled_in(void **state)
{
    (void)state;
    agree(VERSION_1 | F(MRG_RXBUF));
    for (unsigned kind = 0; kind < 8; kind++) {
        uint8_t *at = post(0, 3000);
        make_frame(frame, kind, 1501);
        arrive(frame, 1501, NETRXF_csum_blank | NETRXF_data_validated, 0, 0);
        turn();
        assert_memory_equal(at, ((struct virtio_net_hdr_v1[]){ { .num_buffers = 1 } }), 12);
        assert_true(is_summed(at + 12, kind, 1501));
        assert_false(is_summed(frame, kind, 1501)); /* control */
    }
    uint8_t *told = post(0, 3000);
    arrive(frame, 1501, NETRXF_data_validated, 0, 0);
    turn();
    assert_memory_equal(told, ((struct virtio_net_hdr_v1[]){ { .num_buffers = 1 } }), 12);
    /* Once, however often it waits for buffers. */
    while (count_used(0) > 0)
        ;
    make_frame(frame, V6, 3000);
    uint8_t *a = post(0, 1012);
    arrive(frame, 3000, NETRXF_csum_blank | NETRXF_data_validated, 0, 0);
    turn_all();
    turn_all();
    assert_int_equal(count_used(0), 0);
    uint8_t *b = post(0, 1000), *c = post(0, 1000);
    turn();
    assert_int_equal(count_used(0), 3);
    memcpy(out, a + 12, 1000);
    memcpy(out + 1000, b, 1000);
    memcpy(out + 2000, c, 1000);
    assert_true(is_summed(out, V6, 3000));
    assert_int_equal(all_drops(), 0);
}

static void expect_segments(unsigned kind, uint32_t total, uint16_t size, uint8_t *const *at, unsigned first,
                            unsigned n, bool blank)
{
    uint32_t head = headers_of(kind), l4 = csum_start_of(kind);
    for (unsigned i = first; i < n; i++) {
        uint32_t from = i * size, bytes = total - head - from < size ? total - head - from : size, id, length;
        const uint8_t *s = at[i] + 12, *ip = s + l4 - (kind & V6 ? 40 : 20);
        assert_true(next_used(0, &id, &length));
        assert_int_equal(length, 12 + head + bytes);
        struct virtio_net_hdr_v1 want = { .num_buffers = 1 };
        if (blank) {
            want = blank_header(kind);
            want.num_buffers = 1;
            assert_int_equal(s[l4 + 16] << 8 | s[l4 + 17], pseudo_sum(s, kind, 20 + bytes));
        } else {
            assert_true(is_summed(s, kind, head + bytes));
        }
        assert_memory_equal(at[i], &want, 12);
        assert_memory_equal(s + head, frame + head + from, bytes);
        assert_memory_equal(s, frame, l4 - (kind & V6 ? 40 : 20));
        if (kind & V6) {
            assert_int_equal(ip[4] << 8 | ip[5], 20 + bytes);
        } else {
            assert_int_equal(ip[2] << 8 | ip[3], 40 + bytes);
            assert_int_equal((uint16_t)(ip[4] << 8 | ip[5]), (uint16_t)(0xffff + i));
        }
        uint32_t sequence;
        memcpy(&sequence, s + l4 + 4, 4);
        assert_int_equal(__builtin_bswap32(sequence), 0xffffff00u + from);
        bool last = from + bytes == total - head;
        assert_int_equal(s[l4 + 13], 0x10 | (i == 0 ? 0x80 : 0) | (last ? 0x09 : 0));
    }
}

static void test_segments_are_cut(void **state)
{
    (void)state;
    uint8_t *at[RING];
    for (unsigned kind = 0; kind < 8; kind++) {
        if (kind & UDP)
            continue;
        for (int blank = 0; blank <= 1; blank++) {
            uint32_t total = headers_of(kind) + 10 * 1400 + 33;
            agree(VERSION_1 | F(MRG_RXBUF) | (blank ? F(GUEST_CSUM) : 0)
                  | (kind & V6 ? F(GUEST_TSO4) : F(GUEST_TSO6))); /* the other one */
            make_frame(frame, kind, total);
            for (unsigned i = 0; i < 11; i++)
                at[i] = post(0, 1600);
            arrive(frame, total, NETRXF_csum_blank | NETRXF_data_validated,
                   kind & V6 ? XEN_NETIF_GSO_TYPE_TCPV6 : XEN_NETIF_GSO_TYPE_TCPV4, 1400);
            turn();
            expect_segments(kind, total, 1400, at, 0, 11, blank);
        }
    }
    /* In the midst of it there are no buffers. */
    uint32_t total = headers_of(0) + 7 * 1000;
    agree(VERSION_1);
    make_frame(frame, 0, total);
    arrive(frame, total, NETRXF_csum_blank | NETRXF_data_validated, XEN_NETIF_GSO_TYPE_TCPV4, 1000);
    for (unsigned i = 0; i < 7; i++) {
        at[i] = post(0, 1600);
        turn_all();
        expect_segments(0, total, 1000, at, i, i + 1, false);
    }
    assert_int_equal(turn(), 0);
    assert_int_equal(nic.cut, 9);
    assert_int_equal(all_drops(), 0);
}

/* ------------------------------------------------------------------ merged buffers */

static void test_merged(void **state)
{
    (void)state;
    uint8_t *at[50], whole[65535 + 12];
    uint32_t id, bytes, total = 0;
    make_frame(frame, 0, 65535);
    for (unsigned i = 0; i < 50; i++)
        at[i] = post(0, 1500);
    arrive(frame, 65535, NETRXF_csum_blank | NETRXF_data_validated, XEN_NETIF_GSO_TYPE_TCPV4, 1400);
    turn();
    for (unsigned i = 0; next_used(0, &id, &bytes); i++) {
        assert_int_equal(id, i);
        assert_int_equal(bytes, i < 43 ? 1500 : 65547 - 43 * 1500);
        memcpy(whole + total, at[i], bytes);
        total += bytes;
    }
    assert_int_equal(total, 65547);
    struct virtio_net_hdr_v1 want = segment_header(0, 1400);
    want.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
    want.num_buffers = 44;
    assert_memory_equal(whole, &want, 12);
    assert_memory_equal(whole + 12, frame, 65535);
    /* Six are left: the next one begins there, whatever its buffers look like. */
    arrive(frame, 1488, 0, 0, 0);
    turn();
    expect_used(0, 44, 1500);
    assert_memory_equal(at[44] + 12, frame, 1488);
    assert_int_equal(all_drops(), 0);
}

/* A packet waits for the last buffer that it needs; who waits wants kicks, who does not does not. */
static void test_waits_for_buffers(void **state)
{
    (void)state;
    unsigned nfds;
    uint8_t *at[4];
    struct driver *d = &guest.ring[0];
    uint16_t *event = (uint16_t *)&d->used->ring[RING];
    make_frame(frame, UDP, 7000);
    arrive(frame, 7000, 0, 0, 0);
    arrive(frame, 100, 0, 0, 0);
    for (unsigned i = 0; i < 4; i++) {
        turn_all();
        assert_int_equal(count_used(0), 0);
        if (!d->packed)
            assert_int_equal(*event, d->avail->idx); /* the next one kicks */
        assert_int_equal(idle(&nfds), 0);
        at[i] = post(0, 2000);
    }
    turn_all();
    for (unsigned i = 0; i < 4; i++)
        expect_used(0, i, i < 3 ? 2000 : 1012);
    assert_int_equal(at[0][10], 4);
    assert_memory_equal(at[0] + 12, frame, 1988);
    assert_memory_equal(at[3], frame + 5988, 1012);
    uint8_t *last = post(0, 2000);
    turn_all();
    expect_used(0, 4, 112);
    assert_memory_equal(last + 12, frame, 100);
    assert_int_equal(all_drops(), 0);
}

static void test_never_fits(void **state)
{
    (void)state;
    make_frame(frame, UDP, 5000);
    /* Without merged buffers: the buffer is used by the next one. */
    agree(VERSION_1);
    uint8_t *at = post(0, 1000);
    arrive(frame, 1000 - 11, 0, 0, 0);
    turn_all();
    assert_int_equal(nic.dropped[NIC_NO_FIT], 1);
    assert_int_equal(count_used(0), 0);
    arrive(frame, 1000 - 12, 0, 0, 0); /* control */
    turn_all();
    expect_used(0, 0, 1000);
    assert_memory_equal(at + 12, frame, 988);
    /* With them: a whole ring is not enough. */
    ring_stop(0);
    agree(ALL_F);
    ring_start(0, 4, true);
    for (unsigned i = 0; i < 4; i++)
        post(0, 1000);
    arrive(frame, 3989, 0, 0, 0);
    turn_all();
    assert_int_equal(nic.dropped[NIC_NO_FIT], 2);
    assert_int_equal(count_used(0), 0);
    arrive(frame, 3988, 0, 0, 0); /* control */
    turn_all();
    assert_int_equal(count_used(0), 4);
    assert_int_equal(all_drops(), 2);
}

/* More buffers, or more pieces, than a packet may have. */
static void test_too_many_buffers(void **state)
{
    (void)state;
    ring_stop(0);
    ring_start(0, 512, true);
    make_frame(frame, UDP, 5000);
    for (unsigned i = 0; i < 200; i++)
        post(0, 20);
    arrive(frame, 20 * NIC_MERGED_MAX - 11, 0, 0, 0);
    turn_all();
    assert_int_equal(nic.dropped[NIC_NO_FIT], 1);
    arrive(frame, 20 * NIC_MERGED_MAX - 12, 0, 0, 0); /* control */
    turn_all();
    assert_int_equal(count_used(0), NIC_MERGED_MAX);
    ring_stop(0);
    ring_start(0, 1024, true);
    uint8_t *at = guest_alloc(4096);
    struct piece p[200];
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned i = 0; i < 200; i++)
            p[i] = (struct piece){ at + i, 1, true };
        give(0, p, 200);
    }
    arrive(frame, 589, 0, 0, 0);
    turn_all();
    assert_int_equal(nic.dropped[NIC_NO_FIT], 2);
    arrive(frame, 388, 0, 0, 0); /* control */
    turn_all();
    assert_int_equal(count_used(0), 2);
}

/* A receive buffer that cannot even hold a header is handed back empty. */
static void test_bad_buffers(void **state)
{
    (void)state;
    make_frame(frame, UDP, 100);
    post(0, 11);
    struct piece to_read = { guest_alloc(500), 500, false };
    give(0, &to_read, 1);
    uint8_t *at = post(0, 500);
    arrive(frame, 100, 0, 0, 0);
    turn_all();
    expect_used(0, 0, 0);
    expect_used(0, 1, 0);
    expect_used(0, 2, 112);
    assert_memory_equal(at + 12, frame, 100);
    assert_int_equal(nic.dropped[NIC_BAD_BUFFER], 2);
    assert_int_equal(all_drops(), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_features), TEST(test_from_the_guest), TEST(test_to_the_guest), TEST(test_legacy_header),
        TEST(test_bursts), TEST(test_wrap), TEST(test_long_packets), TEST(test_many_pieces),
        TEST(test_checksums_from_the_guest), TEST(test_segments_from_the_guest),
        TEST(test_offloads_to_the_guest), TEST(test_checksums_are_filled_in), TEST(test_segments_are_cut),
        TEST(test_merged), TEST(test_waits_for_buffers), TEST(test_never_fits), TEST(test_too_many_buffers),
        TEST(test_bad_buffers), PACKED(test_from_the_guest), PACKED(test_to_the_guest), PACKED(test_bursts),
        PACKED(test_wrap), PACKED(test_long_packets), PACKED(test_many_pieces), PACKED(test_segments_are_cut),
        PACKED(test_merged), PACKED(test_waits_for_buffers), PACKED(test_never_fits),
        PACKED(test_too_many_buffers), PACKED(test_bad_buffers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
