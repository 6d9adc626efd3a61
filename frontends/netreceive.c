/* SPDX-License-Identifier: MIT */
#include "netqueue.h"

#include <errno.h>

#include "../hyp-shim/crash.h"

void netqueue_post(struct netqueue *q)
{
    if (netqueue_hushed(q))
        return;
    while (q->rxbuf.nfree > 0 && ring_front_free(&q->rx) > 0) {
        uint32_t i = netbuf_take(&q->rxbuf, NETBUF_RING);
        q->posted[q->rx.req_prod & (NET_RING_SLOTS - 1)] = (uint16_t)i;
        netif_rx_request_t req = { .id = (uint16_t)q->rx.req_prod, .gref = q->rxbuf.buf[i].ref };
        ring_front_put_request(&q->rx, &req, sizeof(req));
    }
}

void netqueue_push_rx(struct netqueue *q)
{
    if (ring_front_push(&q->rx))
        queue_ring(&q->queue, q->queue.nchannels - 1);
}

#define RX_FLAGS_FIRST \
    (NETRXF_data_validated | NETRXF_csum_blank | NETRXF_more_data | NETRXF_extra_info)

/* The next response, copied, and the buffer of its slot. */
static inline uint32_t next_response(struct netqueue *q, void *rsp)
{
    uint32_t i = q->posted[q->rx.rsp_cons & (NET_RING_SLOTS - 1)];
    ring_front_copy_response(&q->rx, rsp, sizeof(netif_rx_response_t));
    return i;
}

/* Does its data lie within one buffer? */
static inline bool spans(const netif_rx_response_t *rsp)
{
    return rsp->offset <= HYP_PAGE_SIZE && (uint32_t)rsp->status <= HYP_PAGE_SIZE - rsp->offset;
}

static inline uint16_t rx_flags(uint16_t flags)
{
    return (uint16_t)((flags & NETRXF_csum_blank ? NETFRONT_CSUM_BLANK : 0)
                      | (flags & NETRXF_data_validated ? NETFRONT_CSUM_GOOD : 0));
}

/* Extra info of a received packet: one segment size, or a lie. */
static int take_gso(struct netqueue *q, struct netfront_packet *head)
{
    struct netif_extra_info extra;
    netbuf_free(&q->rxbuf, next_response(q, &extra));
    if (!q->terms->rx_offload || extra.type != XEN_NETIF_EXTRA_TYPE_GSO || extra.flags != 0
        || extra.u.gso.size == 0)
        return NETQUEUE_BAD_EXTRA;
    if (extra.u.gso.type == XEN_NETIF_GSO_TYPE_TCPV4)
        head->flags |= NETFRONT_GSO4;
    else if (extra.u.gso.type == XEN_NETIF_GSO_TYPE_TCPV6)
        head->flags |= NETFRONT_GSO6;
    else
        return NETQUEUE_BAD_EXTRA;
    /* Segments cannot have one checksum: it is blank, whatever was said. */
    head->flags |= NETFRONT_CSUM_BLANK;
    head->gso_size = extra.u.gso.size;
    return NETQUEUE_LIES;
}

/* What a packet has been put together of so far. */
struct parse {
    uint32_t bytes;
    int waiting;  /* responses that are there                                     */
    bool failed;  /* the backend says so itself                                   */
};

/* One element, into q->held; a lie or NETQUEUE_LIES. */
static int take_element(struct netqueue *q, const netif_rx_response_t *rsp, uint32_t buf, struct parse *p)
{
    q->rxbuf.buf[buf].owner = NETBUF_HELD;
    struct netfront_packet *e = &q->held[q->nheld++];
    *e = (struct netfront_packet){ .data = netbuf_data(&q->rxbuf, buf) };
    if (rsp->flags & NETRXF_more_data)
        e->flags = NETFRONT_MORE;
    if (rsp->status == NETIF_RSP_ERROR || rsp->status == NETIF_RSP_DROPPED) {
        p->failed = true;
        return NETQUEUE_LIES;
    }
    if (rsp->status <= 0)
        return NETQUEUE_BAD_STATUS;
    if (!spans(rsp))
        return NETQUEUE_BAD_SPAN;
    e->data = (uint8_t *)e->data + rsp->offset;
    e->bytes = (uint32_t)rsp->status;
    p->bytes += e->bytes;
    return NETQUEUE_LIES;
}

/* The packet that begins with rsp, whatever it is, into q->held; a lie or
 * NETQUEUE_LIES. */
static int take_chain(struct netqueue *q, netif_rx_response_t rsp, uint32_t buf, struct parse *p)
{
    uint16_t allowed = q->terms->rx_offload ? RX_FLAGS_FIRST : RX_FLAGS_FIRST & ~NETRXF_csum_blank;
    for (;;) {
        if (rsp.flags & ~allowed)
            return NETQUEUE_BAD_FLAGS;
        int lie = take_element(q, &rsp, buf, p);
        if (lie != NETQUEUE_LIES)
            return lie;
        if (q->nheld == 1) {
            q->held[0].flags |= rx_flags(rsp.flags);
            allowed = NETRXF_more_data;
            if (rsp.flags & NETRXF_extra_info) {
                if (p->waiting-- == 0)
                    return NETQUEUE_SHORT_CHAIN;
                lie = take_gso(q, &q->held[0]);
                if (lie != NETQUEUE_LIES)
                    return lie;
            }
        }
        if (!(rsp.flags & NETRXF_more_data))
            return p->bytes > NET_PACKET_MAX ? NETQUEUE_LONG_CHAIN : NETQUEUE_LIES;
        if (q->nheld == NETFRONT_CHAIN_MAX)
            return NETQUEUE_LONG_CHAIN;
        if (p->waiting-- == 0)
            return NETQUEUE_SHORT_CHAIN;
        uint16_t id = (uint16_t)q->rx.rsp_cons;
        buf = next_response(q, &rsp);
        if (rsp.id != id)
            return NETQUEUE_BAD_ID;
    }
}

/* Gives the packet in q->held to the caller; 0: it has no room. */
static unsigned deliver(struct netqueue *q, struct netfront_packet *out, unsigned n)
{
    unsigned k = q->nheld;
    if (k > n)
        return 0;
    for (unsigned i = 0; i < k; i++) {
        out[i] = q->held[i];
        q->rxbuf.buf[netbuf_at(&q->rxbuf, out[i].data)].owner = NETBUF_CALLER;
    }
    q->nheld = 0;
    return k;
}

/* The packet in q->held is none: its buffers come back. */
static void discard(struct netqueue *q)
{
    for (; q->nheld > 0; q->nheld--)
        netbuf_free(&q->rxbuf, (uint32_t)netbuf_at(&q->rxbuf, q->held[q->nheld - 1].data));
    queue_count(&q->counters.rx_errors, 1);
}

struct received {
    unsigned elements;
    uint64_t packets, bytes;
};

/* Takes whole packets while there are some and there is room; a lie or
 * NETQUEUE_LIES. */
static int take_packets(struct netqueue *q, struct netfront_packet *out, unsigned n, int waiting,
                        struct received *r)
{
    uint16_t plain = NETRXF_data_validated | (q->terms->rx_offload ? NETRXF_csum_blank : 0);
    while (waiting-- > 0 && r->elements < n) {
        netif_rx_response_t rsp;
        uint16_t id = (uint16_t)q->rx.rsp_cons;
        uint32_t i = next_response(q, &rsp);
        if (rsp.id != id)
            return NETQUEUE_BAD_ID;
        if (!(rsp.flags & ~plain) && rsp.status >= (int)NET_HEADER_BYTES) {
            if (!spans(&rsp))
                return NETQUEUE_BAD_SPAN;
            q->rxbuf.buf[i].owner = NETBUF_CALLER;
            uint8_t *data = (uint8_t *)netbuf_data(&q->rxbuf, i) + rsp.offset;
            __builtin_prefetch(data);
            out[r->elements++] = (struct netfront_packet){ .data = data, .bytes = (uint32_t)rsp.status,
                                                           .flags = rx_flags(rsp.flags) };
            r->bytes += (uint32_t)rsp.status;
            r->packets++;
            continue;
        }
        struct parse p = { .waiting = waiting };
        int lie = take_chain(q, rsp, i, &p);
        if (lie != NETQUEUE_LIES)
            return lie;
        waiting = p.waiting;
        if (p.failed || p.bytes < NET_HEADER_BYTES) {
            discard(q);
            continue;
        }
        r->bytes += p.bytes;
        r->packets++;
        unsigned k = deliver(q, out + r->elements, n - r->elements);
        r->elements += k;
        if (k == 0)
            break;
    }
    return NETQUEUE_LIES;
}

int netqueue_receive(struct netqueue *q, struct netfront_packet *out, unsigned n)
{
    if (!netqueue_take(q))
        return queue_gone(&q->queue) ? -ENOTCONN : 0;
    struct received r = { 0 };
    if (q->nheld > 0 && (r.elements = deliver(q, out, n)) == 0)
        return n ? -EMSGSIZE : 0;
    int waiting = ring_front_waiting(&q->rx);
    int lie = NETQUEUE_BAD_INDEX;
    if (waiting > 0) {
        uint32_t most = n - r.elements;
        queue_answer(&q->queue);
        ring_front_prefetch(&q->rx, (uint32_t)waiting < most ? (uint32_t)waiting : most);
        lie = take_packets(q, out, n, waiting, &r);
        CRASH_POINT("netfront-rx-after-copy");
        queue_count(&q->counters.rx_packets, r.packets);
        queue_count(&q->counters.rx_bytes, r.bytes);
    } else if (waiting == 0) {
        if (!netqueue_hushed(q)) {
            netqueue_post(q);
            netqueue_push_rx(q);
        } else if (netqueue_reap(q)) {
            netqueue_settle(q);
        }
        return (int)r.elements;
    }
    if (lie != NETQUEUE_LIES)
        netqueue_caught(q, (enum netqueue_lie)lie);
    return r.elements == 0 && q->nheld > 0 && n > 0 ? -EMSGSIZE : (int)r.elements;
}

void netqueue_release(struct netqueue *q, const struct netfront_packet *p, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        netbuf_back(&q->rxbuf, p[i].data);
    if (!netqueue_take(q))
        return;
    CRASH_POINT("netfront-rx-repost");
    netqueue_post(q);
    if ((uint32_t)(q->rx.req_prod - q->rx.req_pushed) >= q->batch)
        netqueue_push_rx(q);
}
