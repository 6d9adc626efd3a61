/* SPDX-License-Identifier: MIT */
/* forward.c - which way, and what happens on it. */
#include <unistd.h>

#include "forward.h"

/* ------------------------------------------------------------- within a worker */

void net_forward_give(struct net_worker *w, struct net_queue *q, struct rte_mbuf **packet, unsigned n)
{
    net_queue_give(q, packet, n, w->now);
    if (!q->touched) {
        q->touched = true;
        q->next_touched = w->touched;
        w->touched = q;
    }
}

/* ------------------------------------------------------------- between workers */

/* Hands packets over; returns how many went, the rest stays the caller's. */
static unsigned hand_over(struct net_worker *w, unsigned to, struct rte_mbuf **packet, unsigned n)
{
    unsigned went = rte_ring_sp_enqueue_burst(w->to[to], (void **)packet, n, NULL);
    w->rung |= went > 0 ? 1u << to : 0;
    return went;
}

static void hand_over_or_drop(struct net_worker *w, unsigned to, struct rte_mbuf **packet, unsigned n)
{
    unsigned went = hand_over(w, to, packet, n);
    if (went == n)
        return;
    uint16_t from = packet[went]->port;
    struct net_queue *q = from < NET_PORTS_MAX ? w->local[from] : NULL;
    if (q)
        net_count(&q->count.no_memory, n - went);
    else if (w->uplink)
        net_count(&w->uplink->count.rx_dropped, n - went);
    rte_pktmbuf_free_bulk(packet + went, n - went);
}

void net_forward_ring(struct net_worker *w)
{
    if (w->rung == 0)
        return;
    ring_full_barrier(); /* it looks at its rings after it says that it sleeps */
    for (unsigned i = 0; i < w->workers; i++)
        if (w->rung >> i & 1 && __atomic_load_n(w->others[i].asleep, __ATOMIC_RELAXED)) {
            uint64_t one = 1;
            ssize_t rung = write(w->others[i].wake_fd, &one, sizeof(one));
            (void)rung;
        }
    w->rung = 0;
}

/* -------------------------------------------------------------------- decisions */

/* Who of a vif's workers gets what comes from there: always the same one for a sender. */
static unsigned worker_of(const struct net_port *port, uint16_t from)
{
    return port->worker[from % port->nqueues];
}

static void to_uplink(struct net_worker *w, struct rte_mbuf **packet, unsigned n, const struct net_look *look)
{
    if (!w->uplink)
        hand_over_or_drop(w, 0, packet, n);
    else
        net_wire_send_looked(w, packet, n, look);
}

static void to_port(struct net_worker *w, struct net_port *port, struct rte_mbuf **packet, unsigned n)
{
    struct net_queue *q = w->local[port->index];
    if (q)
        net_forward_give(w, q, packet, n);
    else
        hand_over_or_drop(w, worker_of(port, packet[0]->port), packet, n);
}

static bool may_reach(const struct rte_mbuf *m, const struct net_port *port)
{
    return port->index != m->port && !(port->isolated && (m->hash.usr & PACKET_ISOLATED));
}

/* To all of the VLAN that are served here; a vif with queues elsewhere too gets it
 * where its first queue is.  Returns how many got it; m stays the caller's. */
static unsigned to_all_here(struct net_worker *w, struct rte_mbuf *m)
{
    unsigned given = 0;
    for (unsigned i = 0; i < w->table.n; i++) {
        struct net_port *port = w->table.list[i];
        struct net_queue *q = w->local[port->index];
        if (!q || port->worker[0] != w->index || !may_reach(m, port) ||
            !net_switch_member(port, m->vlan_tci))
            continue;
        rte_mbuf_refcnt_update(m, 1);
        net_forward_give(w, q, &m, 1);
        given++;
    }
    return given;
}

/* Other workers that have someone for it, a bit each. */
static uint32_t workers_of_vlan(const struct net_worker *w, const struct rte_mbuf *m)
{
    uint32_t set = w->has_uplink && m->port != NET_FROM_UPLINK ? 1 : 0;
    for (unsigned i = 0; i < w->table.n; i++) {
        const struct net_port *port = w->table.list[i];
        if (may_reach(m, port) && net_switch_member(port, m->vlan_tci))
            set |= 1u << port->worker[0];
    }
    return set & ~(1u << w->index);
}

/* Broadcast and multicast.  Returns how many copies it took. */
static unsigned to_all(struct net_worker *w, struct rte_mbuf *m)
{
    unsigned copies = to_all_here(w, m);
    uint32_t others = w->workers > 1 ? workers_of_vlan(w, m) : 0;
    for (unsigned i = 0; i < w->workers; i++) {
        struct rte_mbuf *copy = others >> i & 1 ? packet_copy(m) : NULL;
        if (!copy)
            continue;
        copy->hash.usr |= PACKET_OTHERS;
        hand_over_or_drop(w, i, &copy, 1);
        copies++;
    }
    if (w->uplink && w->has_uplink && m->port != NET_FROM_UPLINK)
        net_wire_send(w, &m, 1);
    else
        rte_pktmbuf_free(m);
    return copies;
}

static bool is_group(uint64_t target)
{
    return target >> 16 & 1;
}

/* One way for n packets of q's guest that have the same target. */
static void forward_run(struct net_worker *w, struct net_queue *q, struct rte_mbuf **packet, unsigned n,
                        uint64_t target, const struct net_look *look)
{
    if (is_group(target)) {
        for (unsigned i = 0; i < n; i++)
            q->deficit -= (int64_t)to_all(w, packet[i]) * NET_COST_PACKET;
        return;
    }
    struct net_port *port = net_switch_find(&w->table, target);
    uint64_t *why = &q->count.no_port;
    if (port && may_reach(packet[0], port)) {
        to_port(w, port, packet, n);
        return;
    }
    if (!port && w->has_uplink) {
        to_uplink(w, packet, n, look);
        return;
    }
    if (port && port->index != packet[0]->port)
        why = &q->count.isolated;
    net_count(why, n);
    rte_pktmbuf_free_bulk(packet, n);
}

void net_forward_guest(void *worker, struct net_queue *q, struct rte_mbuf **packet, unsigned n)
{
    struct net_worker *w = worker;

    for (unsigned i = 0, k; i < n; i += k) {
        uint64_t target = packet_target(packet[i]);
        struct net_look look = { 0 };
        net_look_at(&look, packet[i]);
        for (k = 1; i + k < n && packet_target(packet[i + k]) == target; k++)
            net_look_at(&look, packet[i + k]);
        forward_run(w, q, packet + i, k, target, &look);
    }
}

void net_forward_uplink(struct net_worker *w, struct rte_mbuf *m)
{
    uint64_t target = packet_target(m);
    if (is_group(target)) {
        to_all(w, m);
        return;
    }
    struct net_port *port = net_switch_find(&w->table, target);
    if (port) {
        to_port(w, port, &m, 1);
        return;
    }
    net_count(&w->uplink->count.rx_no_port, 1);
    rte_pktmbuf_free(m);
}

/* Handed over: to whom of mine?  It may be nobody any more. */
static void forward_handed(struct net_worker *w, struct rte_mbuf *m)
{
    uint64_t target = packet_target(m);
    bool to_wire = w->uplink && w->has_uplink && m->port != NET_FROM_UPLINK;

    if (m->hash.usr & PACKET_OTHERS) {
        to_all_here(w, m);
    } else {
        struct net_port *port = net_switch_find(&w->table, target);
        struct net_queue *q = port ? w->local[port->index] : NULL;
        if (q && may_reach(m, port)) {
            net_forward_give(w, q, &m, 1);
            return;
        }
        to_wire = to_wire && !port;
    }
    if (to_wire)
        net_wire_send(w, &m, 1);
    else
        rte_pktmbuf_free(m);
}

bool net_forward_taken(struct net_worker *w)
{
    struct rte_mbuf *packet[NET_BURST];
    bool some = false;

    for (unsigned i = 0; i < w->workers; i++) {
        if (i == w->index)
            continue;
        unsigned n = rte_ring_sc_dequeue_burst(w->from[i], (void **)packet, NET_BURST, NULL);
        for (unsigned k = 0; k < n; k++)
            forward_handed(w, packet[k]);
        some |= n > 0;
    }
    return some;
}
