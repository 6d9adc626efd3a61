/* SPDX-License-Identifier: MIT */
/* offload.c - checksums and TCP segmentation in software. */
#include "offload.h"

#define IPV4_BYTES      20u
#define IPV6_BYTES      40u
#define TCP_BYTES       20u
#define UDP_BYTES       8u
#define EXTENSIONS_MAX  6u
#define PROTO_HOPOPTS   0u
#define PROTO_TCP       6u
#define PROTO_UDP       17u
#define PROTO_ROUTING   43u
#define PROTO_DSTOPTS   60u
#define TCP_FIN_PSH     0x09u
#define TCP_CWR         0x80u

/* ----------------------------------------------------------------------- sums */

/* The sum of 16-bit words, not folded; in memory's byte order, which the
 * ones' complement sum does not mind. */
static uint64_t sum_bytes(const uint8_t *at, size_t n)
{
    uint64_t a = 0, b = 0;
    uint32_t w[8];

    for (; n >= sizeof(w); n -= sizeof(w), at += sizeof(w)) {
        memcpy(w, at, sizeof(w));
        a += (uint64_t)w[0] + w[1] + w[2] + w[3];
        b += (uint64_t)w[4] + w[5] + w[6] + w[7];
    }
    a += b;
    for (; n >= 4; n -= 4, at += 4) {
        memcpy(w, at, 4);
        a += w[0];
    }
    if (n > 0) {
        uint8_t tail[4] = { at[0], n > 1 ? at[1] : 0, n > 2 ? at[2] : 0, 0 };
        memcpy(w, tail, 4);
        a += w[0];
    }
    return a;
}

static uint16_t fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* A number as the word it would be in a frame. */
static uint64_t sum_be16(uint16_t v)
{
    uint8_t b[2];
    uint16_t w;
    store_be16(b, v);
    memcpy(&w, b, 2);
    return w;
}

static uint16_t pseudo_sum(const uint8_t *ip, bool v6, uint8_t proto, uint32_t l4_bytes)
{
    uint64_t sum = v6 ? sum_bytes(ip + 8, 32) : sum_bytes(ip + 12, 8);
    return fold(sum + sum_be16(proto) + sum_be16((uint16_t)l4_bytes) + sum_be16((uint16_t)(l4_bytes >> 16)));
}

/* Of the checksum within its header. */
static unsigned check_at(uint8_t proto)
{
    return proto == PROTO_TCP ? 16 : 6;
}

/* -------------------------------------------------------------------- headers */

struct headers {
    unsigned l3, l4;         /* lengths                         */
    uint32_t payload;        /* bytes from the L4 header on     */
    uint8_t proto;
    bool v6;
};

static bool find_ipv4(const uint8_t *ip, uint32_t bytes, struct headers *h)
{
    if (bytes < IPV4_BYTES || ip[0] >> 4 != 4)
        return false;
    h->l3 = (ip[0] & 15u) * 4;
    uint32_t total = load_be16(ip + 2);
    if (h->l3 < IPV4_BYTES || total < h->l3 || total > bytes)
        return false;
    if (load_be16(ip + 6) & 0x3fff) /* a fragment */
        return false;
    h->proto = ip[9];
    h->payload = total - h->l3;
    return true;
}

static bool find_ipv6(const uint8_t *ip, uint32_t bytes, struct headers *h)
{
    if (bytes < IPV6_BYTES || ip[0] >> 4 != 6)
        return false;
    uint32_t end = IPV6_BYTES + load_be16(ip + 4), at = IPV6_BYTES;
    if (end > bytes)
        return false;
    uint8_t next = ip[6];
    for (unsigned i = 0; i < EXTENSIONS_MAX; i++) {
        if (next != PROTO_HOPOPTS && next != PROTO_ROUTING && next != PROTO_DSTOPTS)
            break;
        if (end - at < 8 || (ip[at + 1] + 1u) * 8 > end - at)
            return false;
        if (next == PROTO_ROUTING && ip[at + 3] != 0) /* the last address is not in the header */
            return false;
        next = ip[at];
        at += (ip[at + 1] + 1u) * 8;
    }
    h->v6 = true;
    h->proto = next;
    h->l3 = at;
    h->payload = end - at;
    return true;
}

static bool find_l4(const uint8_t *l4, struct headers *h)
{
    if (h->proto == PROTO_UDP) {
        h->l4 = UDP_BYTES;
        return h->payload >= UDP_BYTES;
    }
    if (h->proto != PROTO_TCP || h->payload < TCP_BYTES)
        return false;
    h->l4 = (unsigned)(l4[12] >> 4) * 4;
    return h->l4 >= TCP_BYTES && h->l4 <= h->payload;
}

bool net_offload_find(struct rte_mbuf *m)
{
    uint8_t *ip = packet_data(m) + NET_HEADER_BYTES;
    uint32_t bytes = m->pkt_len - NET_HEADER_BYTES;
    uint16_t type = load_be16(ip - 2);
    struct headers h = { 0 };

    if (type == ETHERTYPE_IPV4 ? !find_ipv4(ip, bytes, &h)
                               : type != ETHERTYPE_IPV6 || !find_ipv6(ip, bytes, &h))
        return false;
    uint8_t *l4 = ip + h.l3;
    if (h.l3 > 511 || !find_l4(l4, &h)) /* l3_len has nine bits */
        return false;
    uint16_t seed = pseudo_sum(ip, h.v6, h.proto, h.payload);
    memcpy(l4 + check_at(h.proto), &seed, 2);
    m->tx_offload = 0;
    m->l2_len = NET_HEADER_BYTES;
    m->l3_len = h.l3 & 511;
    m->l4_len = h.l4 & 255;
    m->hash.usr |= PACKET_CSUM | (h.v6 ? PACKET_V6 : 0) | (h.proto == PROTO_TCP ? PACKET_TCP : 0);
    return true;
}

/* Bytes from the L4 header to the end of the IP packet; the frame may be longer. */
static uint32_t l4_bytes(const struct rte_mbuf *m, const uint8_t *ip)
{
    if (m->hash.usr & PACKET_V6)
        return IPV6_BYTES + load_be16(ip + 4) - m->l3_len;
    return load_be16(ip + 2) - (uint32_t)m->l3_len;
}

void net_offload_checksum(struct rte_mbuf *m)
{
    uint8_t *ip = packet_data(m) + m->l2_len;
    uint8_t *l4 = ip + m->l3_len;
    bool tcp = m->hash.usr & PACKET_TCP;
    uint16_t check = (uint16_t)~fold(sum_bytes(l4, l4_bytes(m, ip)));

    if (check == 0 && !tcp)
        check = 0xffff; /* 0 says that there is none */
    memcpy(l4 + check_at(tcp ? PROTO_TCP : PROTO_UDP), &check, 2);
    m->hash.usr = (m->hash.usr & ~PACKET_CSUM) | PACKET_VALID;
}

/* --------------------------------------------------------------- segmentation */

static uint32_t header_bytes(const struct rte_mbuf *m)
{
    return (uint32_t)m->l2_len + m->l3_len + m->l4_len;
}

/* TCP's payload: what follows the IP packet in the frame is not part of it. */
static uint32_t payload_bytes(const struct rte_mbuf *m)
{
    const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, m->l2_len);
    return l4_bytes(m, ip) - m->l4_len;
}

unsigned net_offload_segments(const struct rte_mbuf *m)
{
    return (payload_bytes(m) + m->tso_segsz - 1) / m->tso_segsz;
}

/* Makes the copied headers right for segment i, which is `at` bytes into the payload. */
static void fix_headers(struct rte_mbuf *s, unsigned i, uint32_t at, uint32_t bytes, bool last)
{
    uint8_t *ip = packet_data(s) + s->l2_len, *tcp = ip + s->l3_len;
    bool v6 = s->hash.usr & PACKET_V6;
    uint32_t seq, l4 = s->l4_len + bytes;

    if (v6) {
        store_be16(ip + 4, (uint16_t)(s->l3_len - IPV6_BYTES + l4));
    } else {
        store_be16(ip + 2, (uint16_t)(s->l3_len + l4));
        store_be16(ip + 4, (uint16_t)(load_be16(ip + 4) + i));
        store_be16(ip + 10, 0);
        uint16_t check = (uint16_t)~fold(sum_bytes(ip, s->l3_len));
        memcpy(ip + 10, &check, 2);
    }
    seq = ((uint32_t)load_be16(tcp + 4) << 16 | load_be16(tcp + 6)) + at;
    store_be16(tcp + 4, (uint16_t)(seq >> 16));
    store_be16(tcp + 6, (uint16_t)seq);
    if (!last)
        tcp[13] &= (uint8_t)~TCP_FIN_PSH;
    if (i > 0)
        tcp[13] &= (uint8_t)~TCP_CWR;
    uint16_t seed = pseudo_sum(ip, v6, PROTO_TCP, l4);
    memcpy(tcp + check_at(PROTO_TCP), &seed, 2);
}

unsigned net_offload_segment(const struct rte_mbuf *m, struct rte_mbuf *out[OFFLOAD_SEGMENTS_MAX])
{
    const uint8_t *from = rte_pktmbuf_mtod(m, const uint8_t *);
    uint32_t headers = header_bytes(m), payload = payload_bytes(m), size = m->tso_segsz;
    unsigned n = net_offload_segments(m);

    if (n > OFFLOAD_SEGMENTS_MAX || !packet_get(packet_pool(headers + size), out, n))
        return 0;
    for (unsigned i = 0; i < n; i++) {
        uint32_t at = i * size, bytes = payload - at < size ? payload - at : size;
        struct rte_mbuf *s = out[i];
        packet_init(s, m->port, headers + bytes);
        s->data_off = PACKET_ROOM;
        s->vlan_tci = m->vlan_tci;
        s->tx_offload = m->tx_offload;
        s->tso_segsz = 0;
        s->hash.usr = m->hash.usr & ~PACKET_GSO;
        memcpy(packet_data(s), from, headers);
        memcpy(packet_data(s) + headers, from + headers + at, bytes);
        fix_headers(s, i, at, bytes, i + 1 == n);
        net_offload_checksum(s);
    }
    return n;
}
