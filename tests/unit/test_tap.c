/* SPDX-License-Identifier: MIT */
/*
 * The TAP door without a TAP and without a NIC: a socket pair that keeps packets
 * apart stands for one, and a NIC that does as it is told for the other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../../frontends/door/tap_link.h"
#include "../../frontends/door/tap_pump.h"

/* -------------------------------------------------------------------- frames */

enum { V4 = 1, V6 = 2, TCP = 4, UDP = 8, TAG = 16, TAG2 = 32, TAG3 = 64, FRAGMENT = 128, OPTIONS = 256,
       EXTENSION = 512, CWR = 1024, ICMP = 2048 };

static size_t put(uint8_t *at, const void *bytes, size_t n)
{
    memcpy(at, bytes, n);
    return n;
}

/* A frame with these headers and no payload; its length. */
static size_t make_headers(uint8_t *f, unsigned kind)
{
    size_t n = put(f, "\x52\x54\0\0\0\1\x52\x54\0\0\0\2", 12);
    uint8_t proto = kind & TCP ? 6 : kind & UDP ? 17 : 1;
    for (unsigned tag = TAG; tag <= TAG3; tag <<= 1)
        if (kind & tag)
            n += put(f + n, tag == TAG ? "\x81\x00\x00\x2a" : "\x88\xa8\x00\x2b", 4);
    n += put(f + n, kind & V4 ? "\x08\x00" : kind & V6 ? "\x86\xdd" : "\x08\x06", 2);
    size_t ip = n;
    if (kind & V4) {
        memset(f + n, 0, 60);
        f[n] = kind & OPTIONS ? 0x4f : 0x45;
        f[n + 6] = kind & FRAGMENT ? 0x20 : 0x40;
        f[n + 9] = proto;
        n += (f[ip] & 15u) * 4;
    } else if (kind & V6) {
        memset(f + n, 0, 64);
        f[n] = 0x60;
        f[n + 6] = kind & FRAGMENT ? 44 : kind & EXTENSION ? 0 : proto;
        n += 40;
        if (kind & (EXTENSION | FRAGMENT)) {
            f[n] = proto;
            f[n + 1] = kind & EXTENSION ? 1 : 0;
            n += kind & EXTENSION ? 16 : 8;
        }
    }
    memset(f + n, 0, 60);
    if (kind & TCP) {
        f[n + 12] = kind & OPTIONS ? 0xf0 : 0x50;
        f[n + 13] = kind & CWR ? 0x90 : 0x10;
        n += kind & OPTIONS ? 60 : 20;
    } else {
        n += 8;
    }
    return n;
}

static void test_parse(void **state)
{
    (void)state;
    static const struct { unsigned kind; bool ok; unsigned l4; } cases[] = {
        { V4 | TCP, true, 34 }, { V4 | UDP, true, 34 }, { V4 | TCP | OPTIONS, true, 74 },
        { V4 | TCP | TAG, true, 38 }, { V4 | TCP | OPTIONS | TAG | TAG2, true, 82 },
        { V6 | TCP, true, 54 }, { V6 | UDP | TAG, true, 58 }, { V6 | TCP | EXTENSION | OPTIONS, true, 70 },
        { V4 | TCP | TAG | TAG2 | TAG3, false, 0 }, { V4 | TCP | FRAGMENT, false, 0 },
        { V6 | UDP | FRAGMENT, false, 0 }, { V4 | ICMP, false, 0 }, { 0, false, 0 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t whole[256];
        size_t n = make_headers(whole, cases[i].kind);
        struct frame f;
        assert_true(n <= FRAME_HEAD_MAX);
        /* Every shorter length ends before its last byte, in memory that ends there too. */
        for (size_t cut = 0; cut < n; cut++) {
            uint8_t *part = malloc(cut + 1);
            assert_non_null(part);
            memcpy(part + 1, whole, cut);
            assert_false(frame_parse(part + 1, cut, &f));
            free(part);
        }
        assert_int_equal(frame_parse(whole, n, &f), cases[i].ok);
        if (!cases[i].ok)
            continue;
        bool tcp = cases[i].kind & TCP;
        assert_int_equal(f.l4, cases[i].l4);
        assert_int_equal(f.csum, cases[i].l4 + (tcp ? 16 : 6));
        assert_int_equal(f.payload, n);
        assert_int_equal(f.ipv6, !!(cases[i].kind & V6));
        assert_int_equal(f.tcp, tcp);
    }
}

static void test_parse_lies(void **state)
{
    (void)state;
    uint8_t f[256];
    struct frame out;
    size_t n = make_headers(f, V4 | TCP);
    f[14] = 0x44; /* a header of 16 bytes */
    assert_false(frame_parse(f, n, &out));
    f[14] = 0x65;
    assert_false(frame_parse(f, n, &out));
    n = make_headers(f, V4 | TCP);
    f[34 + 12] = 0x40;
    assert_false(frame_parse(f, n, &out));
    f[34 + 12] = 0x60; /* longer than what is there */
    assert_false(frame_parse(f, n, &out));
    n = make_headers(f, V6 | TCP | EXTENSION);
    f[54 + 1] = 255;
    assert_false(frame_parse(f, n, &out));
    /* Extension headers without end. */
    memset(f + 54, 0, sizeof(f) - 54);
    assert_false(frame_parse(f, sizeof(f), &out));
}

/* ------------------------------------------------------------------ offloads */

static const struct netfront_info able = { .can_csum4 = 1, .can_csum6 = 1, .can_gso4 = 1, .can_gso6 = 1,
                                           .can_chain = 1, .send_buffers = 256, .mtu = 1500 };

#define NEEDS VIRTIO_NET_HDR_F_NEEDS_CSUM
#define TSO4  VIRTIO_NET_HDR_GSO_TCPV4
#define TSO6  VIRTIO_NET_HDR_GSO_TCPV6
#define ECN   VIRTIO_NET_HDR_GSO_ECN
#define BLANK NETFRONT_CSUM_BLANK
#define SEG4  NETFRONT_GSO4
#define SEG6  NETFRONT_GSO6

static void test_from_virtio(void **state)
{
    (void)state;
    static const struct {
        unsigned kind;
        struct virtio_net_hdr header;
        unsigned total;
        unsigned without; /* V4, V6: that checksum cannot be left blank; TCP: no segments */
        enum offload want;
        unsigned flags;
    } cases[] = {
        { V4 | TCP, { 0 }, 60, 0, OFFLOAD_AS_TOLD, 0 },
        { V4 | ICMP, { .flags = VIRTIO_NET_HDR_F_DATA_VALID }, 60, 0, OFFLOAD_AS_TOLD, 0 },
        { V4 | TCP, { .flags = NEEDS, .csum_start = 34, .csum_offset = 16 }, 60, 0, OFFLOAD_AS_TOLD, BLANK },
        { V6 | UDP, { .flags = NEEDS, .csum_start = 54, .csum_offset = 6 }, 80, 0, OFFLOAD_AS_TOLD, BLANK },
        { V6 | UDP, { .flags = NEEDS, .csum_start = 54, .csum_offset = 6 }, 80, V6, OFFLOAD_FILL, 0 },
        { V4 | UDP, { .flags = NEEDS, .csum_start = 34, .csum_offset = 6 }, 80, V4, OFFLOAD_FILL, 0 },
        /* A place that netif cannot name. */
        { V4 | TCP, { .flags = NEEDS, .csum_start = 34, .csum_offset = 14 }, 60, 0, OFFLOAD_FILL, 0 },
        { V4 | TCP, { .flags = NEEDS, .csum_start = 14, .csum_offset = 16 }, 60, 0, OFFLOAD_FILL, 0 },
        { V4 | ICMP, { .flags = NEEDS, .csum_start = 34, .csum_offset = 2 }, 60, 0, OFFLOAD_FILL, 0 },
        { V4 | TCP, { NEEDS, TSO4, 54, 1448, 34, 16 }, 9000, 0, OFFLOAD_AS_TOLD, BLANK | SEG4 },
        { V4 | TCP | TAG, { NEEDS, TSO4 | ECN, 58, 1448, 38, 16 }, 9000, 0, OFFLOAD_AS_TOLD,
          BLANK | SEG4 },
        { V6 | TCP, { NEEDS, TSO6, 74, 1428, 54, 16 }, 9000, 0, OFFLOAD_AS_TOLD, BLANK | SEG6 },
        { V6 | TCP, { NEEDS, TSO4, 74, 1428, 54, 16 }, 9000, 0, OFFLOAD_BAD, 0 },
        { V4 | TCP, { NEEDS, TSO4, 54, 1448, 34, 16 }, 9000, TCP, OFFLOAD_BAD, 0 },
        { V4 | TCP, { NEEDS, TSO4, 54, 0, 34, 16 }, 9000, 0, OFFLOAD_BAD, 0 },
        { V4 | TCP, { NEEDS, TSO4, 54, 1448, 34, 16 }, 54, 0, OFFLOAD_BAD, 0 },
        { V4 | TCP, { 0, TSO4, 54, 1448, 34, 16 }, 9000, 0, OFFLOAD_BAD, 0 },
        { V4 | UDP, { NEEDS, TSO4, 42, 1448, 34, 6 }, 9000, 0, OFFLOAD_BAD, 0 },
        { V4 | UDP, { NEEDS, VIRTIO_NET_HDR_GSO_UDP, 42, 1448, 34, 6 }, 9000, 0, OFFLOAD_BAD, 0 },
        { V4 | UDP, { NEEDS, 5 /* USO */, 42, 1448, 34, 6 }, 9000, 0, OFFLOAD_BAD, 0 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t head[256];
        uint16_t flags, gso_size;
        struct netfront_info can = able;
        size_t n = make_headers(head, cases[i].kind);
        can.can_csum4 = !(cases[i].without & V4);
        can.can_csum6 = !(cases[i].without & V6);
        can.can_gso4 = can.can_gso6 = !(cases[i].without & TCP);
        enum offload got = offload_from_virtio(&cases[i].header, head, n, cases[i].total, &can, &flags,
                                               &gso_size);
        assert_int_equal(got, cases[i].want);
        if (cases[i].want != OFFLOAD_AS_TOLD)
            continue;
        assert_int_equal(flags, cases[i].flags);
        assert_int_equal(gso_size, flags & (SEG4 | SEG6) ? cases[i].header.gso_size : 0);
    }
}

static void test_to_virtio(void **state)
{
    (void)state;
    static const struct {
        unsigned kind;
        uint16_t flags, gso;
        size_t total;
        bool ok;
        struct virtio_net_hdr want;
    } cases[] = {
        { V4 | ICMP, 0, 0, 60, true, { 0 } },
        { V4 | TCP, NETFRONT_CSUM_GOOD, 0, 60, true, { .flags = VIRTIO_NET_HDR_F_DATA_VALID } },
        { V4 | TCP, BLANK, 0, 60, true, { .flags = NEEDS, .csum_start = 34, .csum_offset = 16 } },
        { V6 | UDP | TAG, BLANK, 0, 90, true, { .flags = NEEDS, .csum_start = 58, .csum_offset = 6 } },
        { V4 | TCP, BLANK | SEG4, 1448, 9000, true, { NEEDS, TSO4, 54, 1448, 34, 16 } },
        { V4 | TCP | CWR, SEG4, 1448, 9000, true, { NEEDS, TSO4 | ECN, 54, 1448, 34, 16 } },
        { V6 | TCP, BLANK | SEG6, 1428, 9000, true, { NEEDS, TSO6, 74, 1428, 54, 16 } },
        /* Flags that do not fit the packet. */
        { V4 | ICMP, BLANK, 0, 60, false, { 0 } },
        { V4 | TCP | FRAGMENT, BLANK, 0, 60, false, { 0 } },
        { V4 | UDP, SEG4, 1448, 9000, false, { 0 } },
        { V4 | TCP, SEG6, 1448, 9000, false, { 0 } },
        { V6 | TCP, SEG4, 1448, 9000, false, { 0 } },
        { V4 | TCP, SEG4 | SEG6, 1448, 9000, false, { 0 } },
        { V4 | TCP, SEG4, 0, 9000, false, { 0 } },
        { V4 | TCP, SEG4, 1448, 54, false, { 0 } },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t head[256];
        struct virtio_net_hdr got;
        size_t n = make_headers(head, cases[i].kind);
        bool ok = offload_to_virtio(cases[i].flags, cases[i].gso, head, n, cases[i].total, &got);
        assert_int_equal(ok, cases[i].ok);
        if (cases[i].ok)
            assert_memory_equal(&got, &cases[i].want, sizeof(got));
    }
}

/* ----------------------------------------------------------------- checksums */

/* RFC 1071, plainly. */
static uint16_t plain_sum(const uint8_t *bytes, size_t n)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void test_fill_csum(void **state)
{
    (void)state;
    uint8_t packet[200], copy[200];
    for (size_t i = 0; i < sizeof(packet); i++)
        packet[i] = (uint8_t)(i * 37 + 11);
    /* Wherever the pieces end, between two bytes of the field too. */
    for (uint32_t a = 0; a <= 120; a++) {
        for (uint32_t total = 199; total <= 200; total++) {
            memcpy(copy, packet, sizeof(copy));
            struct netfront_packet pieces[3] = { { .data = copy, .bytes = a },
                                                 { .data = copy + a, .bytes = 7 },
                                                 { .data = copy + a + 7, .bytes = total - a - 7 } };
            uint16_t want = plain_sum(packet + 34, total - 34);
            assert_true(frame_fill_csum(pieces, 3, 34, 16));
            assert_int_equal(copy[50] << 8 | copy[51], want);
            copy[50] = packet[50];
            copy[51] = packet[51];
            assert_memory_equal(copy, packet, sizeof(copy));
        }
    }
    struct netfront_packet one = { .data = copy, .bytes = 100 };
    assert_false(frame_fill_csum(&one, 1, 101, 0));
    assert_false(frame_fill_csum(&one, 1, 100, 0));
    assert_false(frame_fill_csum(&one, 1, 99, 0));
    assert_false(frame_fill_csum(&one, 1, 34, 65));
    assert_false(frame_fill_csum(&one, 1, 34, 65535));
    assert_true(frame_fill_csum(&one, 1, 34, 64));
    /* A sum of all ones is written as such: 0 would be "no checksum". */
    memset(copy, 0, sizeof(copy));
    copy[0] = copy[1] = 0xff;
    assert_true(frame_fill_csum(&one, 1, 0, 50));
    assert_int_equal(copy[50] << 8 | copy[51], 0xffff);
}

/* ------------------------------------------------------- a NIC for the pump */

#define PAGES 96
#define SENT_MAX 64

struct netfront {
    struct netfront_info info;
    uint8_t page[PAGES][NETFRONT_BUF_BYTES];
    bool lent[PAGES], is_free[PAGES];
    int budget;               /* elements that are taken; then 0; -1: no limit    */
    int down, refuse;         /* calls of send that say so                        */
    unsigned held;            /* elements of received packets that the pump has   */
    struct netfront_packet in[2 * NETFRONT_CHAIN_MAX];
    unsigned nin;
    struct { uint8_t bytes[NETFRONT_PACKET_MAX]; size_t n; uint16_t flags, gso; } sent[SENT_MAX];
    unsigned nsent;
    int idle_calls, stop_after;
    struct pump_stop *stop;
};

static struct netfront nic;
static struct pump pump;
static struct pump_stop stop;
static int kernel_end;

const struct netfront_info *netfront_info(const struct netfront *n) { return &n->info; }
int netfront_fd(const struct netfront *n, unsigned q) { (void)q; return n->stop->fd; }

static unsigned page_of(const void *data)
{
    size_t at = (size_t)((const uint8_t *)data - &nic.page[0][0]);
    assert_true(at < sizeof(nic.page));
    return (unsigned)(at / NETFRONT_BUF_BYTES);
}

int netfront_get(struct netfront *n, unsigned q, void **bufs, unsigned max)
{
    unsigned got = 0;
    assert_int_equal(q, 0);
    for (unsigned i = 0; i < PAGES && got < max; i++) {
        if (!n->is_free[i])
            continue;
        n->is_free[i] = false;
        n->lent[i] = true;
        bufs[got++] = n->page[i];
    }
    return (int)got;
}

static void give_back(void *buf)
{
    unsigned i = page_of(buf);
    assert_true(nic.lent[i]);
    nic.lent[i] = false;
    nic.is_free[i] = true;
}

void netfront_put(struct netfront *n, unsigned q, void *const *bufs, unsigned count)
{
    (void)n;
    (void)q;
    for (unsigned i = 0; i < count; i++)
        give_back(bufs[i]);
}

static int countdown(int *calls)
{
    return *calls > 0 ? (*calls)-- : 0;
}

int netfront_send(struct netfront *n, unsigned q, const struct netfront_packet *p, unsigned count)
{
    unsigned taken = 0;
    (void)q;
    if (countdown(&n->down))
        return -ENETDOWN;
    if (countdown(&n->refuse))
        return -EINVAL;
    while (taken < count) {
        unsigned last = taken;
        while (p[last].flags & NETFRONT_MORE)
            assert_true(++last < count); /* whole packets */
        unsigned elements = last - taken + 1;
        assert_true(elements <= NETFRONT_CHAIN_MAX);
        if (n->budget >= 0 && (unsigned)n->budget < elements)
            break;
        n->budget -= n->budget >= 0 ? (int)elements : 0;
        assert_true(n->nsent < SENT_MAX);
        n->sent[n->nsent].n = 0;
        n->sent[n->nsent].flags = p[taken].flags & (uint16_t)~NETFRONT_MORE;
        n->sent[n->nsent].gso = p[taken].gso_size;
        for (; taken <= last; taken++) {
            memcpy(n->sent[n->nsent].bytes + n->sent[n->nsent].n, p[taken].data, p[taken].bytes);
            n->sent[n->nsent].n += p[taken].bytes;
            give_back(p[taken].data);
        }
        n->nsent++;
    }
    return (int)taken;
}

int netfront_receive(struct netfront *n, unsigned q, struct netfront_packet *p, unsigned max)
{
    (void)q;
    assert_true(max >= n->nin);
    memcpy(p, n->in, n->nin * sizeof(*p));
    int got = (int)n->nin;
    n->held += n->nin;
    n->nin = 0;
    return got;
}

void netfront_release(struct netfront *n, unsigned q, const struct netfront_packet *p, unsigned count)
{
    (void)q;
    (void)p;
    assert_true(n->held >= count);
    n->held -= count;
}

int netfront_idle(struct netfront *n, unsigned q)
{
    (void)q;
    if (++n->idle_calls >= n->stop_after)
        atomic_store(&n->stop->asked, true);
    if (n->budget >= 0)
        n->budget = 20; /* the backend took some */
    return 1;
}

static int set_up(void **state)
{
    (void)state;
    int pair[2];
    int big = 4 << 20;
    memset(&nic, 0, sizeof(nic));
    nic.info = able;
    nic.budget = -1;
    nic.stop = &stop;
    nic.stop_after = 3;
    memset(nic.is_free, true, sizeof(nic.is_free));
    atomic_store(&stop.asked, false);
    stop.fd = eventfd(1, EFD_NONBLOCK);
    if (stop.fd < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair))
        return -1;
    for (int i = 0; i < 2; i++)
        setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
    kernel_end = pair[0];
    return pump_init(&pump, "eth0", &nic, pair[1], &stop);
}

static int tear_down(void **state)
{
    (void)state;
    close(kernel_end);
    close(pump.tap);
    close(stop.fd);
    return 0;
}

static uint8_t pattern(size_t i, unsigned seed) { return (uint8_t)(i * 7 + i / 251 + seed); }

/* The kernel's packet: a header and n bytes that follow from the seed; a good TCP header before. */
static void kernel_sends(struct virtio_net_hdr header, unsigned kind, size_t n, unsigned seed)
{
    static uint8_t bytes[70000];
    for (size_t i = 0; i < n; i++)
        bytes[i] = pattern(i, seed);
    if (kind) {
        uint8_t head[256];
        size_t h = make_headers(head, kind);
        memcpy(bytes, head, h < n ? h : n);
    }
    struct iovec iov[2] = { { &header, sizeof(header) }, { bytes, n } };
    assert_int_equal(writev(kernel_end, iov, 2), n + sizeof(header));
}

static void sent_is(unsigned at, size_t n, unsigned seed, size_t skip)
{
    assert_true(at < nic.nsent);
    assert_int_equal(nic.sent[at].n, n);
    for (size_t i = skip; i < n; i++)
        assert_int_equal(nic.sent[at].bytes[i], pattern(i, seed));
}

static unsigned all_buffers(void)
{
    unsigned n = pump.nempty;
    for (unsigned i = 0; i < PAGES; i++)
        n += nic.is_free[i];
    return n;
}

static void test_to_nic(void **state)
{
    (void)state;
    static const size_t lengths[] = { 14, 60, 1514, 4096, 4097, 8192, 9014, 65535 };
    for (unsigned i = 0; i < 8; i++)
        kernel_sends((struct virtio_net_hdr){ 0 }, 0, lengths[i], i);
    kernel_sends((struct virtio_net_hdr){ NEEDS, TSO4, 54, 1448, 34, 16 }, V4 | TCP, 60000, 9);
    assert_int_equal(pump_run(&pump), 0);
    assert_int_equal(nic.nsent, 9);
    for (unsigned i = 0; i < 8; i++)
        sent_is(i, lengths[i], i, 0);
    sent_is(8, 60000, 9, 54);
    assert_int_equal(nic.sent[8].flags, BLANK | SEG4);
    assert_int_equal(nic.sent[8].gso, 1448);
    assert_int_equal(pump.to_nic, 9);
    assert_int_equal(all_buffers(), PAGES);
}

/* What can never be sent costs itself and nothing else. */
static void test_to_nic_drops(void **state)
{
    (void)state;
    kernel_sends((struct virtio_net_hdr){ 0 }, 0, 65536, 1);
    kernel_sends((struct virtio_net_hdr){ 0 }, 0, 69632, 1);
    kernel_sends((struct virtio_net_hdr){ NEEDS, TSO4, 54, 0, 34, 16 }, V4 | TCP, 6000, 1);
    kernel_sends((struct virtio_net_hdr){ .flags = NEEDS, .csum_start = 90, .csum_offset = 20 }, 0, 100, 1);
    kernel_sends((struct virtio_net_hdr){ 0 }, 0, 9000, 2); /* the NIC refuses this one */
    nic.refuse = 1;
    kernel_sends((struct virtio_net_hdr){ 0 }, 0, 100, 3);
    assert_int_equal(pump_run(&pump), 0);
    assert_int_equal(nic.nsent, 1);
    sent_is(0, 100, 3, 0);
    assert_int_equal(pump.dropped[PUMP_TOO_LONG], 2);
    assert_int_equal(pump.dropped[PUMP_BAD_OFFLOAD], 2);
    assert_int_equal(pump.dropped[PUMP_REFUSED], 1);
    assert_int_equal(all_buffers(), PAGES);
}

/* A NIC that takes little, or nothing for a while: order and content stay. */
static void test_back_pressure(void **state)
{
    (void)state;
    nic.budget = 2;
    nic.down = 3;
    nic.stop_after = 60;
    for (unsigned i = 0; i < 40; i++)
        kernel_sends((struct virtio_net_hdr){ 0 }, 0, 100 + i * 400, i);
    assert_int_equal(pump_run(&pump), 0);
    assert_int_equal(nic.nsent, 40);
    for (unsigned i = 0; i < 40; i++)
        sent_is(i, 100 + i * 400, i, 0);
    assert_int_equal(all_buffers(), PAGES);
}

/* A NIC without offloads: what the kernel left blank is filled in here. */
static void test_fills_in(void **state)
{
    (void)state;
    uint8_t head[256];
    nic.info.can_csum4 = nic.info.can_gso4 = nic.info.can_gso6 = nic.info.can_chain = 0;
    assert_int_equal(pump_init(&pump, "eth0", &nic, pump.tap, &stop), 0);
    assert_int_equal(pump.packet_buffers, 1);
    const struct virtio_net_hdr blank = { .flags = NEEDS, .csum_start = 34, .csum_offset = 16 };
    kernel_sends(blank, V4 | TCP, 1001, 5);
    kernel_sends((struct virtio_net_hdr){ 0 }, 0, 4096, 6); /* perhaps longer, and cut off */
    assert_int_equal(pump_run(&pump), 0);
    assert_int_equal(nic.nsent, 1);
    sent_is(0, 1001, 5, make_headers(head, V4 | TCP));
    assert_int_equal(nic.sent[0].flags, 0);
    assert_int_equal(plain_sum(nic.sent[0].bytes + 34, 1001 - 34), 0);
    assert_int_equal(pump.dropped[PUMP_TOO_LONG], 1);
    nic.info.send_buffers = 0;
    assert_int_equal(pump_init(&pump, "eth0", &nic, pump.tap, &stop), -ENOBUFS);
}

/* A received packet of these pieces; flags go into the first. */
static void nic_receives(unsigned kind, const uint32_t *pieces, unsigned n, uint16_t flags, uint16_t gso)
{
    uint8_t head[256];
    size_t h = kind ? make_headers(head, kind) : 0, at = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned page = PAGES - 1 - nic.nin;
        for (uint32_t k = 0; k < pieces[i]; k++, at++)
            nic.page[page][k] = at < h ? head[at] : pattern(at, n);
        nic.in[nic.nin++] = (struct netfront_packet){
            .data = nic.page[page], .bytes = pieces[i], .gso_size = i ? 0 : gso,
            .flags = (uint16_t)((i ? 0 : flags) | (i + 1 < n ? NETFRONT_MORE : 0)) };
    }
}

static size_t kernel_got(struct virtio_net_hdr *header, uint8_t *bytes, size_t room)
{
    struct iovec iov[2] = { { header, sizeof(*header) }, { bytes, room } };
    ssize_t n = readv(kernel_end, iov, 2);
    return n < 0 ? 0 : (size_t)n - sizeof(*header);
}

static void test_to_tap(void **state)
{
    (void)state;
    static uint8_t bytes[70000];
    struct virtio_net_hdr header;
    nic_receives(0, (uint32_t[]){ 60 }, 1, 0, 0);
    nic_receives(V4 | TCP, (uint32_t[]){ 20, 100, 3000 }, 3, BLANK, 0); /* headers in two pieces */
    nic_receives(V4 | TCP | CWR, (uint32_t[]){ 4096, 4096, 4096, 1 }, 4, BLANK | SEG4, 1448);
    nic_receives(V4 | ICMP, (uint32_t[]){ 80 }, 1, BLANK, 0); /* cannot be */
    nic_receives(0, (uint32_t[]){ 192, 1 }, 2, NETFRONT_CSUM_GOOD, 0);
    assert_int_equal(pump_run(&pump), 0);
    assert_int_equal(nic.held, 0);
    assert_int_equal(pump.to_tap, 4);
    assert_int_equal(pump.dropped[PUMP_BAD_OFFLOAD], 1);

    static const struct { size_t n, skip; unsigned seed; struct virtio_net_hdr header; } want[] = {
        { 60, 0, 1, { 0 } },
        { 3120, 54, 3, { .flags = NEEDS, .csum_start = 34, .csum_offset = 16 } },
        { 12289, 54, 4, { NEEDS, TSO4 | ECN, 54, 1448, 34, 16 } },
        { 193, 0, 2, { .flags = VIRTIO_NET_HDR_F_DATA_VALID } },
    };
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(kernel_got(&header, bytes, sizeof(bytes)), want[i].n);
        assert_memory_equal(&header, &want[i].header, sizeof(header));
        for (size_t k = want[i].skip; k < want[i].n; k++)
            assert_int_equal(bytes[k], pattern(k, want[i].seed));
    }
    assert_int_equal(kernel_got(&header, bytes, sizeof(bytes)), 0);
}

static void test_ends(void **state)
{
    (void)state;
    nic.stop_after = 1000;
    close(kernel_end);
    assert_int_equal(pump_run(&pump), -EPROTO); /* a socket pair's end is no TAP's */
    kernel_end = -1;
    int pipe_fds[2];
    assert_int_equal(pipe2(pipe_fds, O_NONBLOCK), 0);
    assert_int_equal(tap_agree(pipe_fds[0], &able), -ENOTTY);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_lies),
        cmocka_unit_test(test_from_virtio),
        cmocka_unit_test(test_to_virtio),
        cmocka_unit_test(test_fill_csum),
        cmocka_unit_test_setup_teardown(test_to_nic, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_to_nic_drops, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_back_pressure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fills_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_to_tap, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ends, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
