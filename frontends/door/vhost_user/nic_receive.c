/* SPDX-License-Identifier: MIT */
/* nic_receive.c - from the NIC to the guest's buffers. */
#include <errno.h>
#include <string.h>

#include "nic.h"

/* What became of a packet; -EPROTO besides. */
enum fate {
    PLACED,
    DROPPED, /* it was none, and that was counted                                        */
    STARVED, /* the guest has no buffers for it now                                      */
    NEVER    /* its buffers can never hold it                                            */
};

/* --------------------------------------------------------- the guest's buffers */

/* Where the next byte goes, in pieces of guest memory. */
struct writer {
    const struct iovec *piece;
    size_t at;
};

static inline void write_bytes(struct writer *w, const void *from, size_t bytes)
{
    const uint8_t *in = from;
    while (bytes > 0) {
        size_t left = w->piece->iov_len - w->at, part = left < bytes ? left : bytes;
        memcpy((uint8_t *)w->piece->iov_base + w->at, in, part);
        in += part;
        bytes -= part;
        w->at += part;
        if (part == left) {
            w->piece++;
            w->at = 0;
        }
    }
}

static inline void write_packet(const struct nic *nic, const struct iovec *to,
                                const struct virtio_net_hdr_v1 *header, const struct netfront_packet *from,
                                unsigned n)
{
    struct writer w = { .piece = to };
    write_bytes(&w, header, nic->header);
    for (unsigned i = 0; i < n; i++)
        write_bytes(&w, from[i].data, from[i].bytes);
}

/* The next buffer, into nic->chain.  When there is none kicks are wanted. */
static inline int next_buffer(struct nic *nic, struct vhost_queue *rx)
{
    int got = vhost_queue_next(rx, &nic->chain);
    if (got == 0 && nic_listen(nic, rx))
        got = vhost_queue_next(rx, &nic->chain);
    return got;
}

/* The same, with room for a virtio header.  A guest that goes on posting others gets none. */
static inline int next_first(struct nic *nic, struct vhost_queue *rx)
{
    for (unsigned bad = 0; bad <= rx->size; bad++) {
        int got = next_buffer(nic, rx);
        if (got <= 0 || nic->chain.in_bytes >= nic->header)
            return got;
        vhost_queue_done(rx, nic->chain.id, nic->chain.slots, 0);
        nic->placed = true;
        nic_drop(nic, NIC_BAD_BUFFER);
    }
    return 0;
}

/* The chain at hand is the next buffer of the packet; false: that would be too many. */
static bool keep_buffer(struct nic *nic, unsigned n, unsigned *pieces)
{
    const struct vhost_chain *c = &nic->chain;
    if (n == NIC_MERGED_MAX || c->nin > NIC_PIECES_MAX - *pieces)
        return false;
    memcpy(nic->piece + *pieces, c->piece + c->nout, c->nin * sizeof(c->piece[0]));
    *pieces += c->nin;
    nic->buffer[n] = (struct nic_buffer){ .id = c->id, .slots = c->slots, .bytes = c->in_bytes };
    return true;
}

static void undo_buffers(struct nic *nic, struct vhost_queue *rx, unsigned n)
{
    while (n-- > 0) {
        nic->chain.id = nic->buffer[n].id;
        nic->chain.slots = nic->buffer[n].slots;
        vhost_queue_undo(rx, &nic->chain);
    }
}

/* A packet that is longer than the buffer at hand, which is the first of several. */
static int place_merged(struct nic *nic, struct vhost_queue *rx, struct virtio_net_hdr_v1 *header,
                        const struct netfront_packet *from, unsigned nfrom, uint32_t bytes)
{
    unsigned n = 0, pieces = 0, slots = 0;
    uint32_t room = 0;
    for (;;) {
        if (!keep_buffer(nic, n, &pieces)) {
            vhost_queue_undo(rx, &nic->chain);
            undo_buffers(nic, rx, n);
            return NEVER;
        }
        slots += nic->chain.slots > 1 ? nic->chain.slots : 1;
        room += nic->chain.in_bytes < bytes ? nic->chain.in_bytes : bytes; /* which bounds the sum */
        n++;
        if (room >= bytes)
            break;
        int got = next_buffer(nic, rx);
        if (got > 0)
            continue;
        undo_buffers(nic, rx, n);
        return got < 0 ? got : slots >= rx->size ? NEVER : STARVED;
    }
    header->num_buffers = (uint16_t)n;
    write_packet(nic, nic->piece, header, from, nfrom);
    for (unsigned i = 0; i < n; i++) {
        uint32_t part = nic->buffer[i].bytes < bytes ? nic->buffer[i].bytes : bytes;
        bytes -= part;
        vhost_queue_done(rx, nic->buffer[i].id, nic->buffer[i].slots, part);
    }
    nic->placed = true;
    return PLACED;
}

/* A packet in pieces of `total` bytes in all, as the guest gets it. */
static inline int place(struct nic *nic, struct vhost_queue *rx, struct virtio_net_hdr_v1 *header,
                        const struct netfront_packet *from, unsigned nfrom, size_t total)
{
    struct vhost_chain *c = &nic->chain;
    uint32_t bytes = (uint32_t)(nic->header + total);
    int got = next_first(nic, rx);
    if (got <= 0)
        return got < 0 ? got : STARVED;
    if (c->in_bytes >= bytes) {
        header->num_buffers = 1;
        write_packet(nic, c->piece + c->nout, header, from, nfrom);
        vhost_queue_done(rx, c->id, c->slots, bytes);
        nic->placed = true;
        return PLACED;
    }
    if (nic_has(nic, VIRTIO_NET_F_MRG_RXBUF))
        return place_merged(nic, rx, header, from, nfrom, bytes);
    vhost_queue_undo(rx, c);
    return NEVER;
}

/* -------------------------------------------------------- packets with offloads */

/* A packet in pieces, whose first bytes are private. */
struct view {
    uint8_t head[FRAME_HEAD_MAX];
    size_t have, total;
    unsigned n;
    struct netfront_packet piece[NETFRONT_CHAIN_MAX + 1];
};

/* What of the pieces follows `skip` bytes, `bytes` of it at most, behind piece[0]. */
static void view_rest(struct view *v, const struct netfront_packet *pieces, unsigned n, size_t skip,
                      size_t bytes)
{
    v->n = 1;
    for (unsigned i = 0; i < n && bytes > 0; i++) {
        size_t from = skip < pieces[i].bytes ? skip : pieces[i].bytes;
        size_t part = pieces[i].bytes - from < bytes ? pieces[i].bytes - from : bytes;
        skip -= from;
        bytes -= part;
        if (part > 0)
            v->piece[v->n++] = (struct netfront_packet){ .data = (uint8_t *)pieces[i].data + from,
                                                         .bytes = (uint32_t)part };
    }
}

static void view_head(struct view *v, const struct netfront_packet *pieces, unsigned n)
{
    v->have = v->total = 0;
    for (unsigned i = 0; i < n; i++) {
        size_t room = FRAME_HEAD_MAX - v->have, part = pieces[i].bytes < room ? pieces[i].bytes : room;
        memcpy(v->head + v->have, pieces[i].data, part);
        v->have += part;
        v->total += pieces[i].bytes;
    }
}

/* The guest takes no such segments: it gets packets, from nic_pair.segment on. */
static int cut(struct nic *nic, struct nic_pair *p, struct vhost_queue *rx, struct view *v,
               const struct netfront_packet *pieces, unsigned n)
{
    struct frame f;
    uint8_t headers[FRAME_HEAD_MAX];
    const size_t size = pieces->gso_size;
    if (!frame_parse(v->head, v->have, &f) || (v->total - f.payload - 1) / size >= NIC_SEGMENTS_MAX) {
        nic_drop(nic, NIC_BAD_OFFLOAD);
        return DROPPED;
    }
    bool blank = nic_has(nic, VIRTIO_NET_F_GUEST_CSUM);
    for (size_t payload = v->total - f.payload, at; (at = p->segment * size) < payload; p->segment++) {
        struct virtio_net_hdr_v1 header = { 0 };
        size_t bytes = payload - at < size ? payload - at : size;
        frame_segment(v->head, &f, p->segment, at, bytes, at + bytes == payload, headers);
        v->piece[0] = (struct netfront_packet){ .data = headers, .bytes = f.payload };
        view_rest(v, pieces, n, f.payload + at, bytes);
        if (blank) {
            header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
            header.csum_start = f.l4;
            header.csum_offset = f.csum - f.l4;
        } else {
            frame_fill_csum(v->piece, v->n, f.l4, (size_t)(f.csum - f.l4));
        }
        int fate = place(nic, rx, &header, v->piece, v->n, f.payload + bytes);
        if (fate != PLACED)
            return fate;
    }
    nic->cut++;
    return PLACED;
}

static bool takes_segments(const struct nic *nic, unsigned gso_type)
{
    return nic_has(nic, VIRTIO_NET_F_GUEST_CSUM)
           && nic_has(nic, (gso_type & ~(unsigned)VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_TCPV4
                               ? VIRTIO_NET_F_GUEST_TSO4 : VIRTIO_NET_F_GUEST_TSO6);
}

/* A packet whose checksum is blank, or which is to be cut. */
static int deliver_offload(struct nic *nic, struct nic_pair *p, struct vhost_queue *rx,
                           struct netfront_packet *pieces, unsigned n)
{
    struct view v;
    union {
        struct virtio_net_hdr legacy;
        struct virtio_net_hdr_v1 v1;
    } header = { .v1 = { 0 } };
    view_head(&v, pieces, n);
    if (!offload_to_virtio(pieces->flags, pieces->gso_size, v.head, v.have, v.total, &header.legacy)) {
        nic_drop(nic, NIC_BAD_OFFLOAD);
        return DROPPED;
    }
    if (header.v1.gso_type != VIRTIO_NET_HDR_GSO_NONE && !takes_segments(nic, header.v1.gso_type))
        return cut(nic, p, rx, &v, pieces, n);
    if (!nic_has(nic, VIRTIO_NET_F_GUEST_CSUM)) {
        frame_fill_csum(pieces, n, header.v1.csum_start, header.v1.csum_offset);
        pieces->flags &= (uint16_t)~NETFRONT_CSUM_BLANK; /* once: it may have to be placed again */
        memset(&header, 0, sizeof(header));
        return place(nic, rx, &header.v1, pieces, n, v.total);
    }
    if (!nic_has(nic, VIRTIO_NET_F_GUEST_ECN))
        header.v1.gso_type &= (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
    v.piece[0] = (struct netfront_packet){ .data = v.head, .bytes = (uint32_t)v.have };
    view_rest(&v, pieces, n, v.have, v.total - v.have);
    return place(nic, rx, &header.v1, v.piece, v.n, v.total);
}

static inline int deliver(struct nic *nic, struct nic_pair *p, struct vhost_queue *rx,
                          struct netfront_packet *pieces, unsigned n)
{
    if (pieces->flags & (NETFRONT_CSUM_BLANK | NETFRONT_GSO4 | NETFRONT_GSO6))
        return deliver_offload(nic, p, rx, pieces, n);
    struct virtio_net_hdr_v1 header = { 0 };
    size_t total = 0;
    if (pieces->flags & NETFRONT_CSUM_GOOD && nic_has(nic, VIRTIO_NET_F_GUEST_CSUM))
        header.flags = VIRTIO_NET_HDR_F_DATA_VALID;
    for (unsigned i = 0; i < n; i++)
        total += pieces[i].bytes;
    return place(nic, rx, &header, pieces, n, total);
}

/* ------------------------------------------------------------------------ turns */

/* Elements of the packet that comes next. */
static inline unsigned packet_at(const struct nic_pair *p)
{
    unsigned last = p->first;
    while (last + 1 < p->nheld && p->held[last].flags & NETFRONT_MORE)
        last++;
    return last - p->first + 1;
}

/* It is over for the packet that comes next. */
static inline void pass(struct nic_pair *p, unsigned elements)
{
    p->first += elements;
    p->segment = 0;
}

/* Gives back to the NIC what is before `first`. */
static void release(struct nic *nic, unsigned i)
{
    struct nic_pair *p = &nic->pair[i];
    if (p->first == 0)
        return;
    netfront_release(nic->front, i, p->held, p->first);
    p->nheld -= p->first;
    memmove(p->held, p->held + p->first, p->nheld * sizeof(p->held[0]));
    p->first = 0;
}

void nic_forget(struct nic *nic, unsigned i)
{
    struct nic_pair *p = &nic->pair[i];
    for (; p->first < p->nheld; pass(p, packet_at(p)))
        nic_drop(nic, NIC_NO_RING);
    release(nic, i);
}

/* The ring for what the NIC's queue i receives: its own, or the first that runs. */
static struct vhost_queue *ring_for(const struct nic *nic, unsigned i)
{
    struct vhost_queue *rx = nic->pair[i].rx;
    for (unsigned k = 0; !rx && k < nic->npairs; k++)
        rx = nic->pair[k].rx;
    return rx;
}

/* One element, and nothing to be done to it. */
static inline bool is_usual(const struct netfront_packet *packet)
{
    return !(packet->flags & ~(unsigned)NETFRONT_CSUM_GOOD);
}

/* The next packets, as long as they are usual and each goes into one piece of memory: first all
 * of the buffers, which are on their way into the cache then.  How many. */
static unsigned place_run(struct nic *nic, struct nic_pair *p, struct vhost_queue *rx)
{
    const struct netfront_packet *packet = &p->held[p->first];
    struct vhost_chain *c = &nic->chain;
    unsigned most = p->nheld - p->first, n = 0;
    for (; n < NIC_LOOK_MAX && n < most && is_usual(&packet[n]); n++) {
        if (vhost_queue_next(rx, c) <= 0)
            break; /* a broken ring stays so */
        if (c->nin != 1 || c->in_bytes < nic->header + packet[n].bytes) {
            vhost_queue_undo(rx, c);
            break;
        }
        char *at = c->piece[c->nout].iov_base;
        __builtin_prefetch(at, 1);
        __builtin_prefetch(at + NIC_LINE, 1);
        nic->piece[n].iov_base = at;
        nic->look[n].id = c->id;
        nic->look[n].slots = c->slots;
    }
    for (unsigned i = 0; i < n; i++) {
        struct virtio_net_hdr_v1 header = { .num_buffers = 1 };
        char *at = nic->piece[i].iov_base;
        if (packet[i].flags & NETFRONT_CSUM_GOOD && nic_has(nic, VIRTIO_NET_F_GUEST_CSUM))
            header.flags = VIRTIO_NET_HDR_F_DATA_VALID;
        memcpy(at, &header, nic->header);
        memcpy(at + nic->header, packet[i].data, packet[i].bytes);
        vhost_queue_done(rx, nic->look[i].id, nic->look[i].slots, nic->header + packet[i].bytes);
    }
    nic->placed |= n > 0;
    nic->to_guest += n;
    p->first += n;
    return n;
}

/* Takes what the NIC has, as far as there is room; elements. */
static int take(struct nic *nic, unsigned i)
{
    struct nic_pair *p = &nic->pair[i];
    unsigned room = NIC_HELD_MAX + NETFRONT_CHAIN_MAX - p->nheld;
    int n = netfront_receive(nic->front, i, p->held + p->nheld, room);
    if (n <= 0)
        return n == -ENETDOWN ? 0 : n;
    p->nheld += (unsigned)n;
    return n;
}

/* Places packets while the guest has buffers; how many, or -EPROTO. */
static int place_all(struct nic *nic, struct nic_pair *p, struct vhost_queue *rx)
{
    int packets = 0;
    while (p->first < p->nheld) {
        unsigned run = place_run(nic, p, rx);
        packets += (int)run;
        if (run > 0)
            continue;
        unsigned n = packet_at(p);
        int fate = deliver(nic, p, rx, p->held + p->first, n);
        if (fate < 0)
            return fate;
        if (fate == STARVED)
            break;
        if (fate == NEVER)
            nic_drop(nic, NIC_NO_FIT);
        nic->to_guest += fate == PLACED;
        pass(p, n);
        packets++;
    }
    /* The newest are worth more to who comes back. */
    while (p->nheld - p->first > NIC_HELD_MAX) {
        nic_drop(nic, NIC_NO_BUFFER);
        pass(p, packet_at(p));
    }
    return packets;
}

int nic_receive(struct nic *nic, unsigned i)
{
    struct nic_pair *p = &nic->pair[i];
    struct vhost_queue *rx = ring_for(nic, i);
    int taken = take(nic, i), packets = 0;
    if (taken < 0)
        return taken;
    if (!rx) {
        nic_forget(nic, i);
        return taken > 0;
    }
    if (p->nheld > 0)
        packets = place_all(nic, p, rx);
    release(nic, i);
    if (nic->placed && vhost_queue_publish(rx))
        vhost_queue_call(rx);
    nic->placed = false;
    if (packets < 0 || rx->bad)
        return -EPROTO;
    return taken > 0 || packets > 0;
}
