/* SPDX-License-Identifier: MIT */
/* wire.c - the uplink: sending with back-pressure, receiving with checks. */
#include <rte_ethdev.h>

#include "../../hyp-shim/crash.h"
#include "forward.h"

static void count_up(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* ---------------------------------------------------------------------- sending */

static void refuse(struct net_worker *w, struct rte_mbuf *m)
{
    struct net_queue *q = m->port < NET_PORTS_MAX ? w->local[m->port] : NULL;
    if (q)
        net_count(&q->count.uplink_full, 1);
    count_up(&w->uplink->count.tx_dropped, 1);
    rte_pktmbuf_free(m);
}

/* What the port takes; the rest is held, or refused when the port is stuck. */
static void burst(struct net_worker *w, struct rte_mbuf **packet, unsigned n, uint64_t bytes)
{
    struct uplink *up = w->uplink;
    unsigned sent = w->held_n == 0 ? rte_eth_tx_burst(up->port, 0, packet, (uint16_t)n) : 0;

    if (sent > 0) {
        CRASH_POINT("net-tx-after-send");
        w->stuck = false;
    }
    if (sent < n && w->held_n == 0)
        w->held_since = w->now;
    for (unsigned i = sent; i < n; i++) {
        bytes -= packet[i]->pkt_len;
        if (!w->stuck && w->held_n < UPLINK_HELD)
            w->held[w->held_n++] = packet[i];
        else
            refuse(w, packet[i]);
    }
    count_up(&up->count.tx_packets, sent);
    count_up(&up->count.tx_bytes, bytes);
}

/* Puts packets behind what is held, as they are. */
static void park(struct net_worker *w, struct rte_mbuf **packet, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (w->parked_n < UPLINK_PARKED)
            w->parked[w->parked_n++] = packet[i];
        else
            refuse(w, packet[i]);
    }
}

bool net_wire_retry(struct net_worker *w)
{
    struct rte_mbuf *again[UPLINK_HELD + UPLINK_PARKED];
    unsigned n = w->held_n, parked = w->parked_n;
    uint64_t bytes = 0, since = w->held_since;

    if (n == 0)
        return false;
    for (unsigned i = 0; i < n; i++) {
        again[i] = w->held[i];
        bytes += again[i]->pkt_len;
    }
    w->held_n = 0;
    w->stuck = w->now - since >= UPLINK_PATIENCE_NS;
    burst(w, again, n, bytes);
    if (w->held_n == n)
        w->held_since = since;
    if (w->held_n == 0) {
        for (unsigned i = 0; i < parked; i++)
            again[i] = w->parked[i];
        w->parked_n = 0;
        net_wire_send(w, again, parked);
    }
    w->sched.pause = w->held_n > 0;
    return true;
}

void net_wire_close(struct net_worker *w)
{
    rte_pktmbuf_free_bulk(w->held, w->held_n);
    rte_pktmbuf_free_bulk(w->parked, w->parked_n);
    w->held_n = w->parked_n = 0;
}

/* One whose checksum, segments or tag are not done. The packet is the callee's. */
static void send_one(struct net_worker *w, struct rte_mbuf *m)
{
    struct rte_mbuf *part[OFFLOAD_SEGMENTS_MAX] = { m };
    struct net_queue *q = m->port < NET_PORTS_MAX ? w->local[m->port] : NULL;
    uint32_t frame_max = w->uplink->mtu + NET_HEADER_BYTES;
    unsigned n = 1;

    if (m->hash.usr & PACKET_GSO) {
        n = net_offload_segment(m, part);
        rte_pktmbuf_free(m);
        if (q)
            q->deficit -= (int64_t)n * (NET_COST_PACKET / 2);
    } else if (rte_mbuf_refcnt_read(m) > 1 && m->vlan_tci != 0) {
        part[0] = packet_copy(m);
        n = part[0] != NULL;
        rte_pktmbuf_free(m);
    }
    if (n == 0 && q)
        net_count(&q->count.no_memory, 1);
    if (n > 0 && part[0]->pkt_len > frame_max) {
        rte_pktmbuf_free_bulk(part, n);
        n = 0;
        if (q)
            net_count(&q->count.too_long, 1);
    }
    for (unsigned i = 0; i < n; i++) {
        if (part[i]->hash.usr & PACKET_CSUM)
            net_offload_checksum(part[i]);
        if (part[i]->vlan_tci != 0)
            packet_tag(part[i], part[i]->vlan_tci);
        part[i]->vlan_tci = 0;
    }
    for (unsigned i = 0; i < n; i += NET_BURST) {
        unsigned k = n - i < NET_BURST ? n - i : NET_BURST;
        uint64_t some = 0;
        for (unsigned j = i; j < i + k; j++)
            some += part[j]->pkt_len;
        burst(w, part + i, k, some);
    }
}

void net_wire_send_looked(struct net_worker *w, struct rte_mbuf **packet, unsigned n,
                          const struct net_look *look)
{
    if (w->held_n > 0)
        park(w, packet, n);
    else if (look->flags == 0 && look->longest <= w->uplink->mtu + NET_HEADER_BYTES)
        burst(w, packet, n, look->bytes);
    else
        for (unsigned i = 0; i < n; i++) {
            if (w->held_n > 0)
                park(w, packet + i, 1);
            else
                send_one(w, packet[i]);
        }
    w->sched.pause = w->held_n > 0;
}

void net_wire_send(struct net_worker *w, struct rte_mbuf **packet, unsigned n)
{
    struct net_look look = { 0 };

    for (unsigned i = 0; i < n; i++)
        net_look_at(&look, packet[i]);
    net_wire_send_looked(w, packet, n, &look);
}

/* -------------------------------------------------------------------- receiving */

/* Finds the VLAN, takes the tag out. NULL: right; else the counter. */
static uint64_t *read_frame(struct net_worker *w, struct rte_mbuf *m)
{
    struct uplink_counters *count = &w->uplink->count;
    uint16_t vlan = 0;

    if (m->nb_segs != 1 || m->pkt_len > PACKET_MEDIUM_BYTES)
        return &count->rx_dropped;
    if (m->pkt_len < NET_HEADER_BYTES)
        return &count->rx_short;
    uint64_t src = mac_number(packet_data(m) + NET_MAC_BYTES);
    if ((src & 1) || net_switch_owns(&w->table, src))
        return &count->rx_forged;
    if (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) {
        vlan = m->vlan_tci & 0xfff;
    } else if (load_be16(packet_data(m) + ETHERTYPE_AT) == ETHERTYPE_VLAN) {
        if (m->pkt_len < NET_HEADER_BYTES + NET_VLAN_BYTES)
            return &count->rx_short;
        vlan = load_be16(packet_data(m) + ETHERTYPE_AT + 2) & 0xfff;
        packet_untag(m);
    }
    if (vlan > NET_VLAN_MAX || w->table.members[vlan] == 0 ||
        is_tag(load_be16(packet_data(m) + ETHERTYPE_AT)))
        return &count->rx_bad_vlan;
    m->vlan_tci = vlan;
    m->hash.usr =
        (m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD ? PACKET_VALID : 0;
    m->ol_flags = 0;
    m->port = NET_FROM_UPLINK;
    if (net_switch_learn(&w->table, src, vlan, w->now))
        count_up(&count->learned, 1);
    return NULL;
}

bool net_wire_receive(struct net_worker *w)
{
    struct rte_mbuf *packet[NET_BURST];
    uint64_t bytes = 0, good = 0;
    unsigned n = rte_eth_rx_burst(w->uplink->port, 0, packet, NET_BURST);

    for (unsigned i = 0; i < n; i++) {
        if (i + 1 < n)
            rte_prefetch0(packet_data(packet[i + 1]));
        uint64_t *bad = read_frame(w, packet[i]);
        if (bad) {
            count_up(bad, 1);
            rte_pktmbuf_free(packet[i]);
            continue;
        }
        bytes += packet[i]->pkt_len;
        good++;
        net_forward_uplink(w, packet[i]);
    }
    count_up(&w->uplink->count.rx_packets, good);
    count_up(&w->uplink->count.rx_bytes, bytes);
    return n > 0;
}
