/* SPDX-License-Identifier: MIT */
/*
 * test_netframes.h - TCP and UDP frames for the tests of backends/net, and a
 * second opinion on their checksums: RFC 1071 by the letter, a byte at a time.
 */
#ifndef BULKHEAD_TEST_NETFRAMES_H
#define BULKHEAD_TEST_NETFRAMES_H

#include "test_net.h"

struct shape {
    bool v6, tcp;
    unsigned ip_options, extensions, tcp_options; /* bytes, bytes, bytes */
    uint32_t payload;
    uint32_t seq;
    uint16_t ip_id;
    uint8_t tcp_flags;
};

static inline uint32_t shape_l3(const struct shape *s)
{
    return s->v6 ? 40 + s->extensions : 20 + s->ip_options;
}

static inline uint32_t shape_l4(const struct shape *s)
{
    return s->tcp ? 20 + s->tcp_options : 8;
}

static inline uint16_t slow_sum(uint32_t sum, const uint8_t *at, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        sum += i % 2 ? at[i] : (uint32_t)at[i] << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

/* Builds the frame; its checksums hold garbage, as a guest may leave them. Returns bytes. */
static inline uint32_t build(uint8_t *frame, const struct shape *s, const uint8_t *to, const uint8_t *from)
{
    uint32_t l3 = shape_l3(s), l4 = shape_l4(s), bytes = NET_HEADER_BYTES + l3 + l4 + s->payload;
    uint8_t *ip = frame + NET_HEADER_BYTES, *tp = ip + l3;
    uint8_t proto = s->tcp ? 6 : 17;

    memset(frame, 0, NET_HEADER_BYTES + l3 + l4);
    memcpy(frame, to, NET_MAC_BYTES);
    memcpy(frame + NET_MAC_BYTES, from, NET_MAC_BYTES);
    store_be16(frame + ETHERTYPE_AT, s->v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4);
    if (s->v6) {
        ip[0] = 0x60;
        store_be16(ip + 4, (uint16_t)(s->extensions + l4 + s->payload));
        ip[6] = s->extensions ? 60 : proto;
        ip[7] = 64;
        for (unsigned i = 0; i < 32; i++)
            ip[8 + i] = (uint8_t)(i * 13 + 1);
        if (s->extensions) {
            ip[40] = proto;
            ip[41] = (uint8_t)(s->extensions / 8 - 1);
        }
    } else {
        ip[0] = (uint8_t)(0x40 | l3 / 4);
        store_be16(ip + 2, (uint16_t)(l3 + l4 + s->payload));
        store_be16(ip + 4, s->ip_id);
        ip[8] = 64;
        ip[9] = proto;
        for (unsigned i = 0; i < 8; i++)
            ip[12 + i] = (uint8_t)(10 + i * 31);
        store_be16(ip + 10, (uint16_t)~slow_sum(0, ip, l3));
    }
    store_be16(tp, 1234);
    store_be16(tp + 2, 80);
    if (s->tcp) {
        store_be16(tp + 4, (uint16_t)(s->seq >> 16));
        store_be16(tp + 6, (uint16_t)s->seq);
        tp[12] = (uint8_t)(l4 / 4 << 4);
        tp[13] = s->tcp_flags;
        store_be16(tp + 14, 1000);
        store_be16(tp + 16, 0xbaad);
    } else {
        store_be16(tp + 4, (uint16_t)(l4 + s->payload));
        store_be16(tp + 6, 0xbaad);
    }
    for (uint32_t i = 0; i < s->payload; i++)
        tp[l4 + i] = (uint8_t)(i * 31 + i / 251);
    return bytes;
}

/* The sum over pseudo header and L4, the checksum included: 0xffff when that is right. */
static inline uint16_t l4_sum(const uint8_t *frame)
{
    const uint8_t *ip = frame + NET_HEADER_BYTES;
    bool v6 = load_be16(frame + ETHERTYPE_AT) == ETHERTYPE_IPV6;
    uint32_t l3 = v6 ? 40 : (ip[0] & 15u) * 4;
    uint8_t proto = v6 ? ip[6] : ip[9];
    uint32_t end = v6 ? 40u + load_be16(ip + 4) : load_be16(ip + 2);

    if (v6 && proto == 60) {
        proto = ip[40];
        l3 += (ip[41] + 1u) * 8;
    }
    uint32_t sum = v6 ? slow_sum(0, ip + 8, 32) : slow_sum(0, ip + 12, 8);
    sum += proto + (end - l3);
    return slow_sum(sum, ip + l3, end - l3);
}

static inline bool ip_right(const uint8_t *frame)
{
    const uint8_t *ip = frame + NET_HEADER_BYTES;
    return load_be16(frame + ETHERTYPE_AT) == ETHERTYPE_IPV6 || slow_sum(0, ip, (ip[0] & 15u) * 4) == 0xffff;
}

#endif
