/* SPDX-License-Identifier: MIT */
#include "frame.h"

#include <string.h>

#define ETHER_BYTES    14u
#define TAG_BYTES      4u
#define TAGS_MAX       2
#define EXTENSIONS_MAX 4

enum { TYPE_IPV4 = 0x0800, TYPE_IPV6 = 0x86dd, TYPE_CTAG = 0x8100, TYPE_STAG = 0x88a8 };
enum { PROTO_HOPOPTS = 0, PROTO_TCP = 6, PROTO_UDP = 17, PROTO_ROUTING = 43, PROTO_DSTOPTS = 60 };

static unsigned be16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

/* ------------------------------------------------------------------ headers */

/* Offset and protocol of what follows the IP header; 0: not IPv4, or a fragment. */
static size_t skip_ipv4(const uint8_t *head, size_t n, size_t at, uint8_t *proto)
{
    if (n - at < 20 || head[at] >> 4 != 4 || (head[at] & 15) < 5 || be16(head + at + 6) & 0x3fff)
        return 0;
    *proto = head[at + 9];
    return at + (head[at] & 15) * 4u;
}

static size_t skip_ipv6(const uint8_t *head, size_t n, size_t at, uint8_t *proto)
{
    if (n - at < 40 || head[at] >> 4 != 6)
        return 0;
    *proto = head[at + 6];
    at += 40;
    for (int i = 0; *proto == PROTO_HOPOPTS || *proto == PROTO_ROUTING || *proto == PROTO_DSTOPTS; i++) {
        if (i == EXTENSIONS_MAX || n < at || n - at < 8)
            return 0;
        *proto = head[at];
        at += (head[at + 1] + 1u) * 8;
    }
    return at;
}

bool frame_parse(const uint8_t *head, size_t n, struct frame *out)
{
    size_t at = ETHER_BYTES;
    uint8_t proto = 0;
    if (n < at)
        return false;
    unsigned type = be16(head + at - 2);
    for (int i = 0; i < TAGS_MAX && (type == TYPE_CTAG || type == TYPE_STAG); i++) {
        at += TAG_BYTES;
        if (n < at)
            return false;
        type = be16(head + at - 2);
    }
    size_t l4 = type == TYPE_IPV4 ? skip_ipv4(head, n, at, &proto)
                : type == TYPE_IPV6 ? skip_ipv6(head, n, at, &proto) : 0;
    if (l4 == 0 || l4 > n)
        return false;
    *out = (struct frame){ .l3 = (uint16_t)at, .l4 = (uint16_t)l4, .ipv6 = type == TYPE_IPV6,
                           .tcp = proto == PROTO_TCP };
    size_t bytes;
    if (proto == PROTO_TCP && n - l4 >= 20) {
        bytes = (head[l4 + 12] >> 4) * 4u;
        if (bytes < 20)
            return false;
        out->csum = (uint16_t)(l4 + 16);
        out->cwr = head[l4 + 13] & 0x80;
    } else if (proto == PROTO_UDP && n - l4 >= 8) {
        bytes = 8;
        out->csum = (uint16_t)(l4 + 6);
    } else {
        return false;
    }
    out->payload = (uint16_t)(l4 + bytes);
    return bytes <= n - l4;
}

/* ----------------------------------------------------------------- offloads */

enum offload offload_from_virtio(const struct virtio_net_hdr *from, const uint8_t *head, size_t n,
                                 size_t total, const struct netfront_info *can, uint16_t *flags,
                                 uint16_t *gso_size)
{
    unsigned type = from->gso_type & ~(unsigned)VIRTIO_NET_HDR_GSO_ECN;
    struct frame f;
    *flags = 0;
    *gso_size = 0;
    if (!(from->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
        return type == VIRTIO_NET_HDR_GSO_NONE ? OFFLOAD_AS_TOLD : OFFLOAD_BAD;

    bool found = frame_parse(head, n, &f) && from->csum_start == f.l4
                 && from->csum_offset == f.csum - f.l4;
    if (type == VIRTIO_NET_HDR_GSO_NONE) {
        if (!found || !(f.ipv6 ? can->can_csum6 : can->can_csum4))
            return OFFLOAD_FILL;
        *flags = NETFRONT_CSUM_BLANK;
        return OFFLOAD_AS_TOLD;
    }
    if (!found || !f.tcp || from->gso_size == 0 || total <= f.payload)
        return OFFLOAD_BAD;
    if (type == VIRTIO_NET_HDR_GSO_TCPV4 && !f.ipv6 && can->can_gso4)
        *flags = NETFRONT_CSUM_BLANK | NETFRONT_GSO4;
    else if (type == VIRTIO_NET_HDR_GSO_TCPV6 && f.ipv6 && can->can_gso6)
        *flags = NETFRONT_CSUM_BLANK | NETFRONT_GSO6;
    else
        return OFFLOAD_BAD;
    *gso_size = from->gso_size;
    return OFFLOAD_AS_TOLD;
}

bool offload_to_virtio(uint16_t flags, uint16_t gso_size, const uint8_t *head, size_t n, size_t total,
                       struct virtio_net_hdr *to)
{
    unsigned gso = flags & (NETFRONT_GSO4 | NETFRONT_GSO6);
    struct frame f;
    memset(to, 0, sizeof(*to));
    if (!gso && !(flags & NETFRONT_CSUM_BLANK)) {
        to->flags = flags & NETFRONT_CSUM_GOOD ? VIRTIO_NET_HDR_F_DATA_VALID : 0;
        return true;
    }
    if (!frame_parse(head, n, &f))
        return false;
    to->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    to->csum_start = f.l4;
    to->csum_offset = f.csum - f.l4;
    if (!gso)
        return true;
    if (!f.tcp || gso != (f.ipv6 ? NETFRONT_GSO6 : NETFRONT_GSO4) || gso_size == 0 || total <= f.payload)
        return false;
    to->gso_type = (uint8_t)((f.ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4)
                             | (f.cwr ? VIRTIO_NET_HDR_GSO_ECN : 0));
    to->gso_size = gso_size;
    to->hdr_len = f.payload;
    return true;
}

/* ---------------------------------------------------------------- checksums */

/* RFC 1071 over a packet in pieces; `odd` carries over where a piece ends. */
struct sum {
    uint64_t sum;
    bool odd;
};

static void sum_add(struct sum *s, const uint8_t *bytes, size_t n)
{
    if (s->odd && n > 0) {
        s->sum += *bytes++;
        n--;
        s->odd = false;
    }
    for (; n >= 2; n -= 2, bytes += 2)
        s->sum += be16(bytes);
    if (n > 0) {
        s->sum += (unsigned)*bytes << 8;
        s->odd = true;
    }
}

static uint16_t sum_end(const struct sum *s)
{
    uint64_t sum = s->sum;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    /* 0 would mean "no checksum" in UDP; in ones' complement both are the same. */
    return sum == 0xffff ? 0xffff : (uint16_t)~sum;
}

static void put_be16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put_byte(const struct netfront_packet *pieces, size_t at, uint8_t value)
{
    for (; at >= pieces->bytes; pieces++)
        at -= pieces->bytes;
    ((uint8_t *)pieces->data)[at] = value;
}

bool frame_fill_csum(const struct netfront_packet *pieces, unsigned n, size_t start, size_t offset)
{
    struct sum s = { 0 };
    size_t total = 0, skip = start;
    for (unsigned i = 0; i < n; i++)
        total += pieces[i].bytes;
    if (start > total || total - start < 2 || offset > total - start - 2)
        return false;
    for (unsigned i = 0; i < n; i++) {
        size_t from = skip < pieces[i].bytes ? skip : pieces[i].bytes;
        sum_add(&s, (const uint8_t *)pieces[i].data + from, pieces[i].bytes - from);
        skip -= from;
    }
    uint16_t csum = sum_end(&s);
    put_byte(pieces, start + offset, (uint8_t)(csum >> 8));
    put_byte(pieces, start + offset + 1, (uint8_t)csum);
    return true;
}

/* -------------------------------------------------------------------- segments */

#define TCP_FIN_PSH 0x09u
#define TCP_CWR     0x80u
#define IPV6_BYTES  40u

void frame_segment(const uint8_t *head, const struct frame *f, unsigned index, size_t at, size_t bytes,
                   bool last, uint8_t *out)
{
    uint8_t *ip = out + f->l3, *tcp = out + f->l4;
    size_t tcp_bytes = f->payload - f->l4 + bytes;
    struct sum pseudo = { .sum = PROTO_TCP + tcp_bytes };
    memcpy(out, head, f->payload);
    if (f->ipv6) {
        put_be16(ip + 4, (unsigned)(f->l4 - f->l3 - IPV6_BYTES + tcp_bytes));
        sum_add(&pseudo, ip + 8, 32);
    } else {
        struct sum header = { 0 };
        put_be16(ip + 2, (unsigned)(f->l4 - f->l3 + tcp_bytes));
        put_be16(ip + 4, be16(ip + 4) + index);
        put_be16(ip + 10, 0);
        sum_add(&header, ip, (size_t)(f->l4 - f->l3));
        put_be16(ip + 10, sum_end(&header));
        sum_add(&pseudo, ip + 12, 8);
    }
    uint32_t sequence = (uint32_t)be16(tcp + 4) << 16 | be16(tcp + 6);
    sequence += (uint32_t)at;
    put_be16(tcp + 4, sequence >> 16);
    put_be16(tcp + 6, sequence);
    if (!last)
        tcp[13] &= (uint8_t)~TCP_FIN_PSH;
    if (index > 0)
        tcp[13] &= (uint8_t)~TCP_CWR;
    put_be16(tcp + 16, (unsigned)(uint16_t)~sum_end(&pseudo));
}
