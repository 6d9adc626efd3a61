/* SPDX-License-Identifier: MIT */
/* nic_send.c - from the guest's ring to the NIC. */
#include <errno.h>
#include <string.h>

#include "nic.h"

#define ETHERNET_BYTES 14u
#define GET_AT_ONCE    32u
#define HUES           (NETFRONT_BUF_BYTES / 2) /* packets up to there begin anywhere before that */

_Static_assert(GET_AT_ONCE + NETFRONT_CHAIN_MAX <= NIC_EMPTY_MAX, "a packet's buffers have room");

/* ----------------------------------------------------------- buffers, elements */

static inline unsigned empties(const struct nic_pair *p)
{
    return p->nempty - p->next_empty;
}

static bool get_buffers(struct nic *nic, unsigned i, unsigned n)
{
    struct nic_pair *p = &nic->pair[i];
    unsigned have = empties(p);
    memmove(p->empty, p->empty + p->next_empty, have * sizeof(p->empty[0]));
    int got = netfront_get(nic->front, i, p->empty + have, GET_AT_ONCE);
    p->next_empty = 0;
    p->nempty = have + (got > 0 ? (unsigned)got : 0);
    return p->nempty >= n;
}

static void put_elements(struct nic *nic, unsigned i, const struct netfront_packet *e, unsigned n)
{
    for (unsigned k = 0; k < n; k++) {
        void *buf = e[k].data;
        netfront_put(nic->front, i, &buf, 1);
    }
}

/* ------------------------------------------------------------------ answering */

/* The first `elements` that wait are the NIC's now: their chains are answered, and those
 * of dropped packets between them. */
static void answer(struct nic *nic, struct nic_pair *p, unsigned elements)
{
    unsigned k = 0, left = elements;
    for (; k < p->ntaken && p->taken[k].elements <= left; k++) {
        left -= p->taken[k].elements;
        nic->to_front += p->taken[k].elements > 0;
        vhost_queue_done(p->tx, p->taken[k].id, p->taken[k].slots, 0);
    }
    p->done |= k > 0;
    p->ntaken -= k;
    p->nout -= elements;
    if (p->ntaken > 0)
        memmove(p->taken, p->taken + k, p->ntaken * sizeof(p->taken[0]));
    if (p->nout > 0)
        memmove(p->out, p->out + elements, p->nout * sizeof(p->out[0]));
}

/* The packet at out[at] will never be sent; how many elements it has. */
static unsigned refuse(struct nic *nic, unsigned i, unsigned at)
{
    const struct nic_pair *p = &nic->pair[i];
    unsigned n = 1;
    while (p->out[at + n - 1].flags & NETFRONT_MORE)
        n++;
    put_elements(nic, i, &p->out[at], n);
    nic_drop(nic, NIC_REFUSED);
    nic->to_front--; /* answer() counts it */
    return n;
}

/* Gives the NIC what waits; what it does not take goes on waiting. */
static int flush(struct nic *nic, unsigned i)
{
    struct nic_pair *p = &nic->pair[i];
    unsigned sent = 0;
    int err = 0;
    while (sent < p->nout) {
        int n = netfront_send(nic->front, i, p->out + sent, p->nout - sent);
        if (n == -EINVAL) {
            n = (int)refuse(nic, i, sent);
        } else if (n <= 0) {
            p->stuck = true;
            err = n == -ENETDOWN ? 0 : n;
            break;
        }
        sent += (unsigned)n;
    }
    answer(nic, p, sent);
    return err;
}

void nic_unsend(struct nic *nic, unsigned i)
{
    struct nic_pair *p = &nic->pair[i];
    while (p->ntaken > 0) { /* the last one first, as the ring wants it */
        const struct nic_taken *t = &p->taken[--p->ntaken];
        nic->chain.id = t->id;
        nic->chain.slots = t->slots;
        vhost_queue_undo(p->tx, &nic->chain);
    }
    put_elements(nic, i, p->out, p->nout);
    p->nout = 0;
    p->stuck = false;
}

/* ------------------------------------------------------------------- one packet */

/* Where the next byte of a chain is. */
struct reader {
    const struct iovec *piece;
    size_t at;
};

static inline void read_bytes(struct reader *r, void *to, size_t bytes)
{
    uint8_t *out = to;
    while (bytes > 0) {
        size_t left = r->piece->iov_len - r->at, part = left < bytes ? left : bytes;
        memcpy(out, (const uint8_t *)r->piece->iov_base + r->at, part);
        out += part;
        bytes -= part;
        r->at += part;
        if (part == left) {
            r->piece++;
            r->at = 0;
        }
    }
}

/* May the guest ask for these segments? */
static bool agreed_segments(const struct nic *nic, unsigned gso_type)
{
    if (gso_type & VIRTIO_NET_HDR_GSO_ECN && !nic_has(nic, VIRTIO_NET_F_HOST_ECN))
        return false;
    switch (gso_type & ~(unsigned)VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_NONE:
        return true;
    case VIRTIO_NET_HDR_GSO_TCPV4:
        return nic_has(nic, VIRTIO_NET_F_HOST_TSO4);
    case VIRTIO_NET_HDR_GSO_TCPV6:
        return nic_has(nic, VIRTIO_NET_F_HOST_TSO6);
    default:
        return false;
    }
}

/* What is left to be done to a packet that was copied: its flags, or its checksum now.
 * NIC_DROPS: it may be sent. */
static enum nic_drop complete(struct nic *nic, const struct virtio_net_hdr *virtio,
                              struct netfront_packet *first, unsigned n, size_t total)
{
    uint8_t head[FRAME_HEAD_MAX];
    uint16_t flags, gso_size;
    bool blank = virtio->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
    if ((blank && !nic_has(nic, VIRTIO_NET_F_CSUM)) || !agreed_segments(nic, virtio->gso_type))
        return NIC_NOT_AGREED;
    if (virtio->hdr_len > total)
        return NIC_BAD_LENGTH;
    if (blank && (virtio->csum_start >= total || total - virtio->csum_start < 2
                  || virtio->csum_offset > total - virtio->csum_start - 2))
        return NIC_BAD_CSUM;
    size_t have = first->bytes < FRAME_HEAD_MAX ? first->bytes : FRAME_HEAD_MAX;
    memcpy(head, first->data, have);
    enum offload how = offload_from_virtio(virtio, head, have, total, nic->can, &flags, &gso_size);
    if (how == OFFLOAD_FILL && !frame_fill_csum(first, n, virtio->csum_start, virtio->csum_offset))
        return NIC_BAD_CSUM;
    if (how == OFFLOAD_BAD)
        return NIC_BAD_SEGMENTS;
    first->flags |= flags;
    first->gso_size = gso_size;
    return NIC_DROPS;
}

/* Copies a packet of `total` bytes into empty buffers; how many. */
static inline unsigned copy_packet(struct nic_pair *p, struct reader *from, size_t total)
{
    struct netfront_packet *first = &p->out[p->nout];
    if (total <= HUES) { /* all at the same place of a page would share few lines of the cache */
        *first = (struct netfront_packet){ .data = (uint8_t *)p->empty[p->next_empty] + p->hue,
                                           .bytes = (uint32_t)total };
        p->hue = (p->hue + NIC_LINE) % HUES;
        read_bytes(from, first->data, total);
        return 1;
    }
    unsigned n = 0;
    for (size_t left = total; left > 0; n++) {
        uint32_t part = left < NETFRONT_BUF_BYTES ? (uint32_t)left : NETFRONT_BUF_BYTES;
        left -= part;
        first[n] = (struct netfront_packet){ .data = p->empty[p->next_empty + n], .bytes = part,
                                             .flags = left > 0 ? NETFRONT_MORE : 0 };
        read_bytes(from, first[n].data, part);
    }
    return n;
}

/* NIC_DROPS: a packet of so many bytes may be there. */
static inline enum nic_drop check_shape(const struct nic *nic, const struct nic_look *c)
{
    if (c->nin > 0)
        return NIC_NOT_READABLE;
    if (c->out_bytes < nic->header)
        return NIC_HEADER_CUT;
    size_t total = c->out_bytes - nic->header;
    if (total < ETHERNET_BYTES)
        return NIC_EMPTY;
    if (total > (nic->can->can_chain ? NETFRONT_PACKET_MAX : NETFRONT_BUF_BYTES))
        return NIC_TOO_LONG;
    return NIC_DROPS;
}

/* A chain becomes the last packet to be sent, or a dropped one.  False: there are no buffers for
 * it, or no room. */
static inline bool take_packet(struct nic *nic, unsigned i, const struct nic_look *c)
{
    struct nic_pair *p = &nic->pair[i];
    unsigned elements = 0;
    enum nic_drop why = check_shape(nic, c);
    if (why == NIC_DROPS) {
        struct reader from = { .piece = nic->piece + c->piece };
        struct virtio_net_hdr_v1 header = { 0 };
        size_t total = c->out_bytes - nic->header;
        unsigned need = (unsigned)((total + NETFRONT_BUF_BYTES - 1) / NETFRONT_BUF_BYTES);
        if (p->nout + need > NIC_OUT_MAX)
            return false;
        if (empties(p) < need && !get_buffers(nic, i, need)) {
            p->stuck = true;
            return false;
        }
        read_bytes(&from, &header, nic->header);
        elements = copy_packet(p, &from, total);
        if (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM || header.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
            struct virtio_net_hdr virtio;
            memcpy(&virtio, &header, sizeof(virtio));
            why = complete(nic, &virtio, &p->out[p->nout], elements, total);
        }
    }
    if (why != NIC_DROPS) {
        nic_drop(nic, why);
        elements = 0; /* its buffers are empty still */
    }
    p->next_empty += elements;
    p->nout += elements;
    p->taken[p->ntaken++] = (struct nic_taken){ c->id, c->slots, (uint16_t)elements };
    return true;
}

/* ------------------------------------------------------------------------ turns */

/* The headers lie before the payload, mostly in another line. */
static inline void fetch(const struct iovec *piece)
{
    const char *at = piece->iov_base;
    __builtin_prefetch(at);
    if (piece->iov_len > NIC_LINE)
        __builtin_prefetch(at + NIC_LINE);
}

/* The next chains, n at most; how many. */
static unsigned look(struct nic *nic, struct nic_pair *p, unsigned n)
{
    struct vhost_chain *c = &nic->chain;
    unsigned pieces = 0, have = 0;
    for (; have < n && NIC_PIECES_MAX - pieces >= VHOST_PIECES_MAX; have++) {
        if (vhost_queue_next(p->tx, c) <= 0)
            break; /* a broken ring stays so */
        nic->look[have] = (struct nic_look){ .id = c->id, .slots = c->slots, .nin = c->nin,
                                             .piece = (uint16_t)pieces, .out_bytes = c->out_bytes };
        memcpy(nic->piece + pieces, c->piece, c->nout * sizeof(c->piece[0]));
        if (c->nout > 0)
            fetch(c->piece);
        if (c->nout > 1)
            fetch(c->piece + 1);
        pieces += c->nout;
    }
    return have;
}

static void unlook(struct nic *nic, const struct nic_pair *p, unsigned from, unsigned to)
{
    while (to-- > from) {
        nic->chain.id = nic->look[to].id;
        nic->chain.slots = nic->look[to].slots;
        vhost_queue_undo(p->tx, &nic->chain);
    }
}

/* Takes packets while there are some, and room. */
static void take(struct nic *nic, unsigned i)
{
    struct nic_pair *p = &nic->pair[i];
    while (p->ntaken < NIC_BURST) {
        unsigned room = NIC_BURST - p->ntaken, done = 0;
        unsigned n = look(nic, p, room < NIC_LOOK_MAX ? room : NIC_LOOK_MAX);
        while (done < n && take_packet(nic, i, &nic->look[done]))
            done++;
        unlook(nic, p, done, n);
        if (n == 0 || done < n)
            return;
    }
}

int nic_send(struct nic *nic, unsigned i)
{
    struct nic_pair *p = &nic->pair[i];
    int err = 0;
    if (!p->tx)
        return 0;
    p->stuck = false;
    if (p->ntaken > 0)
        err = flush(nic, i);
    if (err == 0 && p->ntaken == 0) {
        take(nic, i);
        err = flush(nic, i);
    }
    if (err == 0 && p->tx->bad)
        err = -EPROTO;
    bool moved = p->done;
    if (p->done && vhost_queue_publish(p->tx))
        vhost_queue_call(p->tx);
    p->done = false;
    return err ? err : moved;
}
