/* SPDX-License-Identifier: MIT */
/* queue.c - a queue's life, its counters and its doorbell. */
#include <errno.h>
#include <sys/mman.h>

#include "../../hyp-shim/crash.h"
#include "queue.h"

int net_queue_create(struct net_queue **out, const struct net_queue_config *cfg)
{
    struct ring_back tx, rx;

    if (!ring_back_attach(&tx, cfg->tx_ring, HYP_PAGE_SIZE, NET_TX_SLOT_BYTES) ||
        !ring_back_attach(&rx, cfg->rx_ring, HYP_PAGE_SIZE, NET_RX_SLOT_BYTES))
        return -EINVAL;
    struct net_queue *q = mmap(NULL, sizeof(*q), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (q == MAP_FAILED)
        return -errno;
    const struct net_port *port = cfg->port;
    q->tx = tx;
    q->rx = rx;
    q->map = cfg->map;
    q->tx_evtchn = cfg->tx_evtchn;
    q->rx_evtchn = cfg->rx_evtchn;
    q->grants = cfg->grants;
    q->port = port;
    memcpy(&q->src_head, port->mac, sizeof(q->src_head));
    memcpy(&q->src_tail, port->mac + sizeof(q->src_head), sizeof(q->src_tail));
    q->frame_max = port->mtu + NET_HEADER_BYTES;
    q->marks = port->isolated ? PACKET_ISOLATED : 0;
    q->first_words = packet_first_words(PACKET_ROOM, port->index);
    q->last_words = packet_last_words(port->pvid, q->marks);
    q->plain = !port->trunk || port->pvid != 0;
    q->rx_unusual = PACKET_GSO | (port->rx_csum4 && port->rx_csum6 ? 0 : PACKET_CSUM);
    *out = q;
    return 0;
}

void net_queue_destroy(struct net_queue *q)
{
    munmap(q, sizeof(*q));
}

/* Meanwhile it has a ring without buffers, and what is for its guest waits. */
void net_queue_arm(struct net_queue *q)
{
    static struct ring_header empty;

    q->rx_later = q->rx.shared;
    q->rx.shared = &empty;
    q->rx.req_cons = q->rx.rsp_prod = q->rx.rsp_pushed = 0;
}

void net_queue_start(struct net_queue *q)
{
    q->rx.shared = q->rx_later;
    ring_back_restart(&q->rx);
    ring_back_restart(&q->tx);
    q->rx_posted = 0;
}

void net_queue_open(struct net_queue *q, struct net_backlog_room *room, uint64_t now)
{
    q->room = room;
    net_rate_init(&q->outbound, &q->port->outbound, now);
    net_rate_init(&q->inbound, &q->port->inbound, now);
}

void net_queue_close(struct net_queue *q)
{
    net_queue_drop_backlog(q);
}

void net_queue_break(struct net_queue *q, const char *why)
{
    if (q->broken)
        return;
    q->broken = true;
    q->why = why;
    net_count(&q->count.broken, 1);
    net_queue_drop_backlog(q);
}

const struct net_counters *net_queue_counters(const struct net_queue *q)
{
    return &q->count;
}

const char *net_queue_why(const struct net_queue *q)
{
    return q->why;
}

void net_queue_push(struct net_queue *q)
{
    if (!q->broken && hyp_map_faulted(q->map))
        net_queue_break(q, "granted memory went away");
    if (q->broken)
        return;
    bool answers = q->tx.rsp_prod != q->tx.rsp_pushed, packets = q->rx.rsp_prod != q->rx.rsp_pushed;
    if (answers)
        CRASH_POINT("net-tx-before-publish");
    if (packets)
        CRASH_POINT("net-rx-before-publish");
    bool tx = ring_back_push(&q->tx), rx = ring_back_push(&q->rx);
    if (answers)
        CRASH_POINT("net-tx-after-publish");
    if (packets)
        CRASH_POINT("net-rx-after-publish");
    if (rx && q->rx_evtchn == q->tx_evtchn) {
        tx = true;
        rx = false;
    }
    if (tx)
        hyp_evtchn_notify(q->tx_evtchn);
    if (rx)
        hyp_evtchn_notify(q->rx_evtchn);
    if (tx || rx)
        net_count(&q->count.doorbells, (uint64_t)tx + rx);
}
