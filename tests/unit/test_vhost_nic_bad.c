/* SPDX-License-Identifier: MIT */
/*
 * The NIC of the vhost-user door with a guest or a driver domain that is hostile, dies or
 * does not listen: frontends/door/vhost_user/nic*.c
 */
#include "test_vhost_nic.h"

/* ------------------------------------------------------------------------- hostile */

static struct virtio_net_hdr_v1 with(struct virtio_net_hdr_v1 h, size_t field, unsigned value, size_t bytes)
{
    memcpy((uint8_t *)&h + field, &value, bytes);
    return h;
}

static void test_hostile_headers(void **state)
{
    (void)state;
    struct virtio_net_hdr_v1 csum = blank_header(0), tso = segment_header(0, 1400);
    static const struct virtio_net_hdr_v1 none;
    make_frame(frame, 0, 9000);
    const struct {
        const char *what;
        struct virtio_net_hdr_v1 header;
        uint32_t bytes;
        uint64_t agreed;
        enum nic_drop why; /* NIC_DROPS: a control, it is sent */
    } cases[] = {
#define WITH(base, field, value) \
    with(base, offsetof(struct virtio_net_hdr_v1, field), value, sizeof(plain.field))
        { "nothing", none, 0, ALL_F, NIC_EMPTY },
        { "13 bytes", none, 13, ALL_F, NIC_EMPTY },
        { "14 bytes", none, 14, ALL_F, NIC_DROPS },
        { "a checksum", csum, 1000, ALL_F, NIC_DROPS },
        { "start at the end", WITH(csum, csum_start, 1000), 1000, ALL_F, NIC_BAD_CSUM },
        { "start at the last byte", WITH(csum, csum_start, 999), 1000, ALL_F, NIC_BAD_CSUM },
        { "start far outside", WITH(csum, csum_start, 65535), 1000, ALL_F, NIC_BAD_CSUM },
        { "field behind the end", WITH(csum, csum_offset, 1000 - 34 - 1), 1000, ALL_F, NIC_BAD_CSUM },
        { "field far outside", WITH(csum, csum_offset, 65535), 1000, ALL_F, NIC_BAD_CSUM },
        { "field at the very end", WITH(csum, csum_offset, 1000 - 34 - 2), 1000, ALL_F, NIC_DROPS },
        { "checksum not agreed", csum, 1000, ALL_F & ~F(CSUM), NIC_NOT_AGREED },
        { "segments", tso, 9000, ALL_F, NIC_DROPS },
        { "segments not agreed", tso, 9000, ALL_F & ~F(HOST_TSO4), NIC_NOT_AGREED },
        { "the other segments", WITH(tso, gso_type, VIRTIO_NET_HDR_GSO_TCPV6), 9000, ALL_F & ~F(HOST_TSO6),
          NIC_NOT_AGREED },
        { "segments of another IP", WITH(tso, gso_type, VIRTIO_NET_HDR_GSO_TCPV6), 9000, ALL_F,
          NIC_BAD_SEGMENTS },
        { "ECN not agreed", WITH(tso, gso_type, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN), 9000,
          ALL_F & ~F(HOST_ECN), NIC_NOT_AGREED },
        { "UDP fragments", WITH(tso, gso_type, VIRTIO_NET_HDR_GSO_UDP), 9000, ALL_F, NIC_NOT_AGREED },
        { "UDP segments", WITH(tso, gso_type, 5), 9000, ALL_F, NIC_NOT_AGREED },
        { "unknown segments", WITH(tso, gso_type, 0x7f), 9000, ALL_F, NIC_NOT_AGREED },
        { "segments, no checksum", WITH(tso, flags, 0), 9000, ALL_F, NIC_BAD_SEGMENTS },
        { "segments of no size", WITH(tso, gso_size, 0), 9000, ALL_F, NIC_BAD_SEGMENTS },
        { "segments, checksum elsewhere", WITH(tso, csum_start, 14), 9000, ALL_F, NIC_BAD_SEGMENTS },
        { "nothing to cut", tso, 54, ALL_F, NIC_BAD_SEGMENTS },
        { "headers longer than all", WITH(tso, hdr_len, 9001), 9000, ALL_F, NIC_BAD_LENGTH },
        { "headers far longer", WITH(csum, hdr_len, 65535), 1000, ALL_F, NIC_BAD_LENGTH },
        { "headers as long as all", WITH(tso, hdr_len, 9000), 9000, ALL_F, NIC_DROPS },
        { "unknown flags", WITH(none, flags, 0xfe), 1000, ALL_F, NIC_DROPS },
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t before[NIC_DROPS], drops = all_drops();
        memcpy(before, nic.dropped, sizeof(before));
        agree(cases[i].agreed);
        uint16_t id = send(&cases[i].header, frame, cases[i].bytes);
        turn_all();
        expect_used(1, id, 0);
        uint16_t flags, gso;
        uint32_t n = sent(&flags, &gso);
        if (n != (cases[i].why == NIC_DROPS ? cases[i].bytes : 0))
            fail_msg("%s: %u bytes", cases[i].what, n);
        if (cases[i].why == NIC_DROPS)
            assert_int_equal(all_drops(), drops);
        else if (nic.dropped[cases[i].why] != before[cases[i].why] + 1 || all_drops() != drops + 1)
            fail_msg("%s: not counted as that", cases[i].what);
    }
}

static void test_hostile_chains(void **state)
{
    (void)state;
    uint8_t *at = guest_alloc(70000);
    memset(at, 0, 70000);
    make_frame(at + 12, UDP, 69000);
    const struct {
        const char *what;
        struct piece p[2];
        unsigned n;
        enum nic_drop why;
    } cases[] = {
        { "half a header", { { at, 11, false } }, 1, NIC_HEADER_CUT },
        { "a byte", { { at, 1, false } }, 1, NIC_HEADER_CUT },
        { "only a header", { { at, 12, false } }, 1, NIC_EMPTY },
        { "to be written", { { at, 1000, true } }, 1, NIC_NOT_READABLE },
        { "partly to be written", { { at, 1000, false }, { at, 1000, true } }, 2, NIC_NOT_READABLE },
        { "65,536 bytes", { { at, 12 + 65536, false } }, 1, NIC_TOO_LONG },
        { "65,535 bytes", { { at, 12 + 65535, false } }, 1, NIC_DROPS },
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t drops = all_drops(), before = cases[i].why == NIC_DROPS ? 0 : nic.dropped[cases[i].why];
        uint16_t id = give(1, cases[i].p, cases[i].n), flags, gso;
        turn_all();
        expect_used(1, id, 0);
        assert_int_equal(sent(&flags, &gso), cases[i].why == NIC_DROPS ? 65535 : 0);
        assert_int_equal(all_drops(), drops + (cases[i].why != NIC_DROPS));
        if (cases[i].why != NIC_DROPS && nic.dropped[cases[i].why] != before + 1)
            fail_msg("%s: not counted as that", cases[i].what);
    }
    /* What a NIC without chains cannot take. */
    front.info.can_chain = 0;
    send(&plain, at + 12, 4097);
    turn_all();
    expect_nothing_sent();
    assert_int_equal(nic.dropped[NIC_TOO_LONG], 2);
    send(&plain, at + 12, 4096); /* control */
    turn_all();
    expect_sent(at + 12, 4096, 0, 0);
}

/* Dropped ones are answered in their place. */
static void test_drops_keep_the_order(void **state)
{
    (void)state;
    uint16_t ids[6];
    make_frame(frame, UDP, 200);
    for (unsigned i = 0; i < 6; i++)
        ids[i] = send(&plain, frame, i % 2 ? 100 : 5);
    turn_all();
    for (unsigned i = 0; i < 6; i++)
        expect_used(1, ids[i], 0);
    for (unsigned i = 0; i < 3; i++)
        expect_sent(frame, 100, 0, 0);
    assert_int_equal(nic.dropped[NIC_EMPTY], 3);
    assert_int_equal(nic.to_front, 3);
}

/* The NIC says that it will never take this one: the ones after it go on. */
static void test_refused(void **state)
{
    (void)state;
    struct virtio_net_hdr_v1 h = blank_header(UDP);
    make_frame(frame, UDP, 9000);
    r.terms.tx_flags = NETFRONT_MORE;
    uint16_t a = send(&plain, frame, 100), b = send(&h, frame, 9000), c = send(&plain, frame, 100);
    turn_all();
    expect_used(1, a, 0);
    expect_used(1, b, 0);
    expect_used(1, c, 0);
    expect_sent(frame, 100, 0, 0);
    expect_sent(frame, 100, 0, 0);
    assert_int_equal(nic.dropped[NIC_REFUSED], 1);
    assert_int_equal(nic.to_front, 2);
    r.terms.tx_flags = RIG_EVERYTHING; /* control */
    send(&h, frame, 9000);
    turn_all();
    expect_sent(frame, 9000, BLANK, 0);
}

/* What the driver domain says of a packet does not fit it. */
static void test_hostile_driver_domain(void **state)
{
    (void)state;
    make_frame(frame, 0, 2000);
    post(0, 3000);
    put(frame + 12, "\x08\x06", 2); /* no IP */
    arrive(frame, 1000, NETRXF_csum_blank | NETRXF_data_validated, 0, 0);
    turn_all();
    assert_int_equal(nic.dropped[NIC_BAD_OFFLOAD], 1);
    put(frame + 12, "\x08\0", 2);
    arrive(frame, 2000, NETRXF_csum_blank | NETRXF_data_validated, XEN_NETIF_GSO_TYPE_TCPV6, 1000);
    turn_all();
    assert_int_equal(nic.dropped[NIC_BAD_OFFLOAD], 2);
    /* More segments than anyone makes. */
    agree(VERSION_1);
    const uint16_t flags = NETRXF_csum_blank | NETRXF_data_validated;
    arrive(frame, 54 + NIC_SEGMENTS_MAX + 1, flags, XEN_NETIF_GSO_TYPE_TCPV4, 1);
    turn_all();
    assert_int_equal(nic.dropped[NIC_BAD_OFFLOAD], 3);
    assert_int_equal(count_used(0), 0);
    arrive(frame, 54 + NIC_SEGMENTS_MAX, flags, XEN_NETIF_GSO_TYPE_TCPV4, 1);
    for (unsigned i = 0; i < NIC_SEGMENTS_MAX; i++) {
        turn_all();
        assert_int_equal(count_used(0), 1);
        post(0, 3000);
    }
    assert_int_equal(nic.cut, 1);
    assert_int_equal(all_drops(), 3);
}

/* The guest breaks its ring: what it had sent before goes out, then the connection ends. */
static void test_broken_ring(void **state)
{
    (void)state;
    make_frame(frame, UDP, 100);
    uint16_t id = send(&plain, frame, 100);
    struct driver *d = &guest.ring[1];
    d->avail->ring[d->avail->idx % RING] = RING; /* a head outside */
    __atomic_store_n(&d->avail->idx, (uint16_t)(d->avail->idx + 1), __ATOMIC_RELEASE);
    assert_int_equal(nic_class.work(&nic), -EPROTO);
    expect_sent(frame, 100, 0, 0);
    expect_used(1, id, 0);
    ring_stop(1);
    d = &guest.ring[0];
    d->avail->idx = 1000;
    arrive(frame, 100, 0, 0, 0);
    assert_int_equal(nic_class.work(&nic), -EPROTO);
    ring_stop(0);
    ring_start(0, RING, true); /* and all is well again */
    uint8_t *at = post(0, 1000);
    turn_all();
    expect_used(0, 0, 112);
    assert_memory_equal(at + 12, frame, 100);
}

/* ------------------------------------------------------------- the driver domain dies */

static void die(void)
{
    queue_stop(&r.q.queue);
}

static void reborn(void)
{
    assert_true(queue_drained(&r.q.queue));
    rig_detach(&r);
    rig_attach(&r);
    queue_start(&r.q.queue);
}

static void test_death_and_rebirth(void **state)
{
    (void)state;
    unsigned nfds;
    make_frame(frame, UDP, 1000);
    die();
    uint16_t ids[10];
    for (unsigned i = 0; i < 10; i++)
        ids[i] = send(&plain, frame, 100 + i);
    turn_all();
    assert_int_equal(idle(&nfds), 0);
    assert_int_equal(nfds, 2);
    assert_int_equal(count_used(1), 0); /* it waits in the guest's ring */
    turn_all();
    reborn();
    turn_all();
    for (unsigned i = 0; i < 10; i++) {
        expect_used(1, ids[i], 0);
        expect_sent(frame, 100 + i, 0, 0);
    }
    expect_nothing_sent();
    uint8_t *at = post(0, 2000);
    arrive(frame, 1000, 0, 0, 0);
    turn_all();
    assert_memory_equal(at + 12, frame, 1000);
    assert_int_equal(all_drops(), 0);
}

/* The guest's ring is stopped meanwhile: what was not sent is in it still. */
static void test_stop_while_dead(void **state)
{
    (void)state;
    make_frame(frame, UDP, 9000);
    send(&plain, frame, 60);
    turn_all();
    expect_sent(frame, 60, 0, 0);
    die();
    for (unsigned i = 0; i < 10; i++)
        send(&plain, frame, i % 3 ? 100 + i : 9000);
    turn_all();
    unsigned lent = rig_owned(&r.q.txbuf).by[NETBUF_CALLER];
    assert_int_equal(nic_class.stop(&nic, 1, false), 0);
    assert_true(rig_owned(&r.q.txbuf).by[NETBUF_CALLER] < lent);
    uint32_t base = vhost_queue_base(&dev.queue[1]);
    assert_int_equal(base, packed_rings ? 0x80028002 : 1); /* what was answered, in slots */
    /* Another door, or this one, begins where the used ring stands. */
    reborn();
    assert_int_equal(vhost_queue_start(&dev.queue[1], base), 0);
    assert_int_equal(nic_class.start(&nic, 1), 0);
    turn_all();
    for (unsigned i = 0; i < 10; i++)
        expect_sent(frame, i % 3 ? 100 + i : 9000, 0, 0);
    assert_int_equal(count_used(1), 11);
    assert_int_equal(all_drops(), 0);
}

/* A backend that takes nothing: the guest's packets wait, and go in order. */
static void test_full_ring(void **state)
{
    (void)state;
    unsigned nfds;
    uint16_t flags, gso;
    uint32_t given = 0, got = 0;
    make_frame(frame, UDP, 200);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < RING / 2 && given - (got + count_used(1)) < 1000; i++, given++)
            if (guest.ring[1].avail->idx - guest.ring[1].used->idx < (int)RING / 2)
                send(&plain, frame, 60 + given % 100);
            else
                break;
        turn_all();
    }
    assert_true(given > NET_RING_SLOTS);
    assert_true((uint16_t)(guest.ring[1].avail->idx - guest.ring[1].used->idx) > 0);
    assert_int_equal(idle(&nfds), 0); /* it waits for the NIC, not for the guest */
    for (; got < given; got++) {
        uint32_t n = sent(&flags, &gso);
        if (n == 0) {
            turn_all();
            n = sent(&flags, &gso);
        }
        assert_int_equal(n, 60 + got % 100);
    }
    expect_nothing_sent();
    turn_all();
    assert_int_equal(guest.ring[1].avail->idx, guest.ring[1].used->idx);
    assert_int_equal(all_drops(), 0);
}

static void test_hypervisor_gone(void **state)
{
    (void)state;
    unsigned nfds;
    assert_int_equal(idle(&nfds), 0); /* control */
    front.gone = true;
    assert_int_equal(idle(&nfds), -ENOTCONN);
    front.gone = false;
}

/* ------------------------------------------------------------------------ who waits */

/* A guest that does not read keeps nobody waiting: not the NIC, and not its own sending. */
static void test_guest_does_not_read(void **state)
{
    (void)state;
    unsigned nfds;
    make_frame(frame, UDP, 200);
    for (uint32_t i = 0; i < 1000; i++) {
        memcpy(frame + 50, &i, 4);
        arrive(frame, 100, 0, 0, 0);
        turn_all();
    }
    assert_int_equal(idle(&nfds), 0);
    assert_int_equal(nic.dropped[NIC_NO_BUFFER], 1000 - NIC_HELD_MAX);
    assert_int_equal(rig_owned(&r.q.rxbuf).by[NETBUF_CALLER], NIC_HELD_MAX);
    send(&plain, frame, 100);
    turn_all();
    expect_sent(frame, 100, 0, 0);
    /* It gets the newest, in order. */
    for (uint32_t i = 1000 - NIC_HELD_MAX; i < 1000; i++) {
        uint8_t *at = post(0, 1000);
        turn_all();
        assert_int_equal(count_used(0), 1);
        assert_memory_equal(at + 12 + 50, &i, 4);
    }
    assert_int_equal(all_drops(), 1000 - NIC_HELD_MAX);
}

static void test_no_ring(void **state)
{
    (void)state;
    make_frame(frame, UDP, 200);
    arrive(frame, 100, 0, 0, 0);
    turn_all(); /* held: the guest has no buffers */
    ring_stop(0);
    turn_all();
    assert_int_equal(nic.dropped[NIC_NO_RING], 1);
    for (unsigned i = 0; i < 300; i++) {
        arrive(frame, 100, 0, 0, 0);
        turn_all();
    }
    assert_int_equal(nic.dropped[NIC_NO_RING], 301);
    ring_start(0, RING, true);
    uint8_t *at = post(0, 1000);
    arrive(frame, 150, 0, 0, 0); /* nothing old comes before it */
    turn_all();
    expect_used(0, 0, 162);
    assert_memory_equal(at + 12, frame, 150);
}

/* Packets of a queue whose pair the guest does not use. */
static void test_pairs(void **state)
{
    (void)state;
    uint8_t second[4096];
    make_frame(second, UDP, 300);
    uint8_t *at = post(0, 1000);
    front.second = (struct netfront_packet){ .data = second, .bytes = 300 };
    turn_all();
    expect_used(0, 0, 312);
    assert_memory_equal(at + 12, second, 300);
    assert_int_equal(front.released, 1);
    /* Once it runs it has its own. */
    ring_start(2, RING, true);
    ring_start(3, RING, true);
    post(0, 1000);
    at = post(2, 1000);
    front.second = (struct netfront_packet){ .data = second, .bytes = 250 };
    turn_all();
    assert_int_equal(count_used(0), 0);
    expect_used(2, 0, 262);
    assert_memory_equal(at + 12, second, 250);
    send_in(3, &plain, second, 100, 0); /* its queue of the NIC has no buffers: it waits */
    turn_all();
    assert_int_equal(count_used(3), 0);
    ring_stop(3);
    assert_int_equal(vhost_queue_base(&dev.queue[3]), 0);
    assert_int_equal(all_drops(), 0);
}

/* Kicks are wanted for sending, while it can be sent; not for buffers that nobody needs. */
static void test_kicks(void **state)
{
    (void)state;
    unsigned nfds;
    ring_stop(0);
    ring_stop(1);
    ring_start(0, RING, false);
    ring_start(1, RING, false);
    assert_int_equal(guest.ring[0].used->flags, VRING_USED_F_NO_NOTIFY);
    assert_int_equal(guest.ring[1].used->flags, VRING_USED_F_NO_NOTIFY);
    post(0, 1000);
    assert_int_equal(idle(&nfds), 0);
    assert_int_equal(nfds, 2);
    assert_int_equal(guest.ring[0].used->flags, VRING_USED_F_NO_NOTIFY);
    assert_int_equal(guest.ring[1].used->flags, 0);
    make_frame(frame, UDP, 100);
    send(&plain, frame, 100);
    assert_true(idle(&nfds) > 0); /* it came meanwhile */
    turn_all();
    assert_int_equal(guest.ring[1].used->flags, VRING_USED_F_NO_NOTIFY);
    expect_sent(frame, 100, 0, 0);
    arrive(frame, 100, 0, 0, 0);
    assert_true(idle(&nfds) > 0); /* the NIC has something */
    arrive(frame, 100, 0, 0, 0);
    turn_all();
    assert_int_equal(count_used(0), 1);
    assert_int_equal(idle(&nfds), 0);
    assert_int_equal(guest.ring[0].used->flags, 0); /* the second one waits for a buffer */
    post(0, 1000);
    turn_all();
    assert_int_equal(count_used(0), 1);
    assert_int_equal(guest.ring[0].used->flags, VRING_USED_F_NO_NOTIFY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_hostile_headers), TEST(test_hostile_chains), TEST(test_drops_keep_the_order),
        TEST(test_refused), TEST(test_hostile_driver_domain), TEST(test_broken_ring),
        TEST(test_death_and_rebirth), TEST(test_stop_while_dead), TEST(test_full_ring),
        TEST(test_hypervisor_gone), TEST(test_guest_does_not_read), TEST(test_no_ring), TEST(test_pairs),
        TEST(test_kicks), PACKED(test_drops_keep_the_order), PACKED(test_death_and_rebirth),
        PACKED(test_stop_while_dead), PACKED(test_guest_does_not_read), PACKED(test_no_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
