/* SPDX-License-Identifier: MIT */
/*
 * rx.c - what a guest gets: from packets into the buffers that it posted.
 *
 * A packet is first made fit for its guest (cut, completed, tagged), once; what
 * waits in the backlog needs nothing but buffers.  A buffer is answered in the
 * ring slot of its request, in order, as stock frontends expect.  Where in a
 * page short data begins varies: pages that all begin at the same cache line
 * number would push each other out of the guest's cache.
 */
#include <rte_byteorder.h>

#include "../../hyp-shim/crash.h"
#include "copy.h"
#include "offload.h"
#include "queue.h"

/* Put together in a register, as tx.c says it. */
static inline void answer(struct net_queue *q, uint16_t id, uint16_t offset, uint16_t flags, int status)
{
    uint64_t rsp =
        RTE_LE64((uint64_t)(uint16_t)status << 48 | (uint64_t)flags << 32 | (uint32_t)offset << 16 | id);
    _Static_assert(sizeof(rsp) == sizeof(netif_rx_response_t), "netif ABI");
    ring_back_put_response(&q->rx, &rsp, sizeof(rsp));
}

static inline void drop(uint64_t *counter, struct rte_mbuf *m)
{
    net_count(counter, 1);
    rte_pktmbuf_free(m);
}

/* Where data begins in the next buffer. */
static inline uint16_t next_offset(struct net_queue *q, uint32_t bytes)
{
    if (bytes > HYP_PAGE_SIZE / 2)
        return 0;
    q->rx_hue = (q->rx_hue + CACHE_LINE) % (HYP_PAGE_SIZE / 2);
    return (uint16_t)q->rx_hue;
}

/* True: at least n buffers are posted. */
static inline bool has_posted(struct net_queue *q, uint32_t n)
{
    if (q->rx_posted >= n)
        return true;
    int posted = ring_back_waiting(&q->rx);
    if (posted < 0)
        net_queue_break(q, "its rx ring's index cannot be true");
    q->rx_posted = posted < 0 ? 0 : (uint32_t)posted;
    return q->rx_posted >= n;
}

static inline void take_buffers(struct net_queue *q, uint32_t n)
{
    ring_back_take(&q->rx, n);
    q->rx_posted -= n;
}

/* False: its inbound rate is spent. */
static inline bool spend(struct net_queue *q, uint32_t bytes, uint64_t now)
{
    if (!net_rate_limited(&q->inbound))
        return true;
    q->rx_wait = net_rate_wait(&q->inbound, now);
    if (q->rx_wait > 0)
        return false;
    net_rate_spend(&q->inbound, bytes);
    return true;
}

static uint16_t response_flags(const struct rte_mbuf *m)
{
    return m->hash.usr & PACKET_CSUM    ? NETRXF_csum_blank | NETRXF_data_validated
           : m->hash.usr & PACKET_VALID ? NETRXF_data_validated
                                        : 0;
}

/* ------------------------------------------------------------ the usual packet */

/* One buffer, no tag, nothing to do to it. */
static inline bool is_usual(const struct net_queue *q, const struct rte_mbuf *m)
{
    return !(m->hash.usr & q->rx_unusual) && m->vlan_tci == q->port->pvid &&
           m->pkt_len <= (q->frame_max < HYP_PAGE_SIZE ? q->frame_max : HYP_PAGE_SIZE);
}

/* Places usual packets while there are buffers; returns how many are done. */
static unsigned place_run(struct net_queue *q, struct rte_mbuf **packet, unsigned n, uint64_t now)
{
    uint8_t *to[NET_BURST];
    uint64_t bytes = 0;
    unsigned good = 0, k = 0;
    const bool persistent = q->grants == NET_GRANTS_PERSISTENT;

    n = n < NET_BURST ? n : NET_BURST;
    if (!has_posted(q, n))
        n = q->rx_posted;
    if (n == 0 || !is_usual(q, packet[0]))
        return 0;
    ring_back_peek(&q->rx, q->buffer, n);
    for (; k < n && is_usual(q, packet[k]) && spend(q, packet[k]->pkt_len, now); k++) {
        uint16_t offset = next_offset(q, packet[k]->pkt_len);
        q->piece[k] = (struct hyp_copy){ .ref = q->buffer[k].gref, .offset = offset, .to_grant = 1,
                                         .bytes = packet[k]->data_len, .local = packet_data(packet[k]) };
        if (persistent) {
            uint8_t *page = hyp_run_page(q->map, q->buffer[k].gref, &q->rx_run);
            q->piece[k].status = page ? 0 : -1;
            to[k] = page ? page + offset : NULL;
            if (page)
                prefetch_write(to[k], packet[k]->pkt_len);
        }
    }
    if (!persistent)
        hyp_grant_copy(q->map, q->piece, k);
    for (unsigned i = 0; i < k; i++) {
        const struct hyp_copy *c = &q->piece[i];
        if (__builtin_expect(c->status, 0)) {
            net_count(&q->count.bad_grant, 1);
            answer(q, q->buffer[i].id, 0, 0, NETIF_RSP_ERROR);
            continue;
        }
        if (persistent)
            copy_bytes(to[i], c->local, c->bytes);
        answer(q, q->buffer[i].id, c->offset, response_flags(packet[i]), c->bytes);
        bytes += c->bytes;
        good++;
    }
    take_buffers(q, k);
    rte_pktmbuf_free_bulk(packet, k);
    net_count(&q->count.rx_packets, good);
    net_count(&q->count.rx_bytes, bytes);
    return k;
}

/* ------------------------------------------------------------- any other packet */

static unsigned buffers_for(const struct rte_mbuf *m)
{
    unsigned pages = (m->pkt_len + HYP_PAGE_SIZE - 1) / HYP_PAGE_SIZE;
    return pages + (m->hash.usr & PACKET_GSO ? 1 : 0);
}

static void answer_gso(struct net_queue *q, const struct rte_mbuf *m)
{
    struct netif_extra_info x = { .type = XEN_NETIF_EXTRA_TYPE_GSO,
                                  .u.gso = { .size = m->tso_segsz,
                                             .type = m->hash.usr & PACKET_V6 ? XEN_NETIF_GSO_TYPE_TCPV6
                                                                             : XEN_NETIF_GSO_TYPE_TCPV4 } };
    _Static_assert(sizeof(x) == 8, "no padding to leak");
    ring_back_put_response(&q->rx, &x, sizeof(x));
}

/* Copies m into the first buffers of q->buffer; returns how many went well. */
static unsigned fill_buffers(struct net_queue *q, struct rte_mbuf *m, unsigned extras, uint16_t offset)
{
    uint8_t *from = packet_data(m);
    unsigned n = 0;

    for (uint32_t left = m->pkt_len; left > 0; n++) {
        const netif_rx_request_t *b = &q->buffer[n == 0 ? 0 : n + extras];
        uint16_t bytes = (uint16_t)(left < HYP_PAGE_SIZE ? left : HYP_PAGE_SIZE);
        q->piece[n] = (struct hyp_copy){ .ref = b->gref, .offset = offset, .bytes = bytes, .local = from,
                                         .to_grant = 1 };
        if (q->grants == NET_GRANTS_PERSISTENT) {
            uint8_t *page = hyp_run_page(q->map, b->gref, &q->rx_run);
            if (!page)
                return n;
            shared_write(page + offset, from, bytes);
        }
        from += bytes;
        left -= bytes;
    }
    if (q->grants == NET_GRANTS_COPY && hyp_grant_copy(q->map, q->piece, n) < 0)
        for (unsigned i = 0; i < n; i++)
            if (q->piece[i].status)
                return i;
    return n;
}

/* A bad buffer ends the packet; those up to it are answered, the rest stay posted. */
static void refuse_buffers(struct net_queue *q, unsigned n)
{
    net_count(&q->count.bad_grant, 1);
    for (unsigned i = 0; i < n; i++)
        answer(q, q->buffer[i].id, 0, 0, NETIF_RSP_ERROR);
    take_buffers(q, n);
}

/* False: not now. */
static bool place_one(struct net_queue *q, struct rte_mbuf *m, uint64_t now)
{
    unsigned extras = m->hash.usr & PACKET_GSO ? 1 : 0, n = buffers_for(m);

    if (!has_posted(q, n) || !spend(q, m->pkt_len, now))
        return false;
    ring_back_peek(&q->rx, q->buffer, n);
    unsigned pages = n - extras;
    uint16_t offset = pages == 1 ? next_offset(q, m->pkt_len) : 0;
    unsigned done = fill_buffers(q, m, extras, offset);
    if (done < pages) {
        refuse_buffers(q, done == 0 ? 1 : done + extras + 1);
        rte_pktmbuf_free(m);
        return true;
    }
    uint16_t flags = (uint16_t)(response_flags(m) | (extras ? NETRXF_extra_info : 0));
    for (unsigned i = 0; i < pages; i++) {
        uint16_t more = i + 1 < pages ? NETRXF_more_data : 0;
        answer(q, q->buffer[i == 0 ? 0 : i + extras].id, offset, (uint16_t)(flags | more), q->piece[i].bytes);
        if (i == 0 && extras)
            answer_gso(q, m);
        flags = 0;
    }
    take_buffers(q, n);
    net_count(&q->count.rx_packets, 1);
    net_count(&q->count.rx_bytes, m->pkt_len);
    rte_pktmbuf_free(m);
    return true;
}

/* --------------------------------------------------------------------- backlog */

static bool is_large(const struct rte_mbuf *m)
{
    return m->pkt_len > PACKET_SMALL_BYTES;
}

/* A queue may have as much as is left for all. */
static bool has_room(const struct net_queue *q, const struct rte_mbuf *m)
{
    const struct net_backlog_room *r = q->room;
    if (q->backlog_n == BACKLOG_PACKETS || m->pkt_len > BACKLOG_BYTES - q->backlog_bytes)
        return false;
    return q->backlog_n < r->packets_max - r->packets &&
           (!is_large(m) || q->backlog_large < r->large_max - r->large);
}

static void backlog_add(struct net_queue *q, struct rte_mbuf *m)
{
    if (q->broken) {
        rte_pktmbuf_free(m);
        return;
    }
    if (!has_room(q, m)) {
        drop(q->rx_wait > 0 ? &q->count.over_rate : &q->count.no_buffers, m);
        return;
    }
    q->backlog[(q->backlog_first + q->backlog_n++) % BACKLOG_PACKETS] = m;
    q->backlog_bytes += m->pkt_len;
    q->backlog_large += is_large(m);
    q->room->packets++;
    q->room->large += is_large(m);
}

static void backlog_remove(struct net_queue *q, uint32_t bytes, bool large)
{
    q->backlog_first = (q->backlog_first + 1) % BACKLOG_PACKETS;
    q->backlog_n--;
    q->backlog_bytes -= bytes;
    q->backlog_large -= large;
    q->room->packets--;
    q->room->large -= large;
}

void net_queue_drop_backlog(struct net_queue *q)
{
    while (q->backlog_n > 0) {
        struct rte_mbuf *m = q->backlog[q->backlog_first];
        backlog_remove(q, m->pkt_len, is_large(m));
        rte_pktmbuf_free(m);
    }
}

bool net_queue_retry(struct net_queue *q, uint64_t now)
{
    bool moved = false;

    q->rx_wait = 0;
    while (!q->broken && q->backlog_n > 0) {
        struct rte_mbuf *m = q->backlog[q->backlog_first];
        uint32_t bytes = m->pkt_len;
        bool large = is_large(m);
        if (!place_one(q, m, now))
            break;
        backlog_remove(q, bytes, large);
        moved = true;
    }
    return moved;
}

uint32_t net_queue_wants(const struct net_queue *q)
{
    return q->backlog_n > 0 ? buffers_for(q->backlog[q->backlog_first]) : 0;
}

/* ----------------------------------------------------------- fit for its guest */

static void give_ready(struct net_queue *q, struct rte_mbuf *m, uint64_t now)
{
    if (q->backlog_n > 0 || !place_one(q, m, now))
        backlog_add(q, m);
}

/* Gives it its tag; it may be held by others, who want none or another. */
static void give_tagged(struct net_queue *q, struct rte_mbuf *m, uint64_t now)
{
    if (m->vlan_tci != q->port->pvid) {
        if (rte_mbuf_refcnt_read(m) > 1) {
            struct rte_mbuf *copy = packet_copy(m);
            rte_pktmbuf_free(m);
            if (!copy) {
                net_count(&q->count.no_memory, 1);
                return;
            }
            m = copy;
        }
        packet_tag(m, m->vlan_tci);
        m->vlan_tci = q->port->pvid;
    }
    give_ready(q, m, now);
}

static void give_cut(struct net_queue *q, struct rte_mbuf *m, uint64_t now)
{
    struct rte_mbuf *part[OFFLOAD_SEGMENTS_MAX];
    unsigned n = net_offload_segment(m, part);

    if (n == 0) {
        drop(&q->count.no_memory, m);
        return;
    }
    rte_pktmbuf_free(m);
    for (unsigned i = 0; i < n; i++)
        give_tagged(q, part[i], now);
}

static void give_one(struct net_queue *q, struct rte_mbuf *m, uint64_t now)
{
    const struct net_port *p = q->port;
    bool v6 = m->hash.usr & PACKET_V6, tag = m->vlan_tci != p->pvid;
    bool gso = m->hash.usr & PACKET_GSO;
    uint32_t longest = gso ? (uint32_t)m->l2_len + m->l3_len + m->l4_len + m->tso_segsz : m->pkt_len;

    if (longest > q->frame_max || (!p->rx_sg && longest + (tag ? NET_VLAN_BYTES : 0) > HYP_PAGE_SIZE)) {
        drop(&q->count.rx_too_big, m);
        return;
    }
    /* A guest looks for the headers where they are without a tag. */
    if (gso && (tag || !(v6 ? p->rx_gso6 : p->rx_gso4) || (!p->rx_sg && m->pkt_len > HYP_PAGE_SIZE))) {
        give_cut(q, m, now);
        return;
    }
    if ((m->hash.usr & PACKET_CSUM) && !gso && (tag || !(v6 ? p->rx_csum6 : p->rx_csum4)))
        net_offload_checksum(m);
    give_tagged(q, m, now);
}

void net_queue_give(struct net_queue *q, struct rte_mbuf **packet, unsigned n, uint64_t now)
{
    unsigned i = 0;

    while (i < n) {
        unsigned placed = q->backlog_n == 0 && !q->broken ? place_run(q, packet + i, n - i, now) : 0;
        if (placed == 0)
            give_one(q, packet[i], now);
        i += placed ? placed : 1;
    }
    CRASH_POINT("net-rx-after-copy");
}
