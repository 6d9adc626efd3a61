/* SPDX-License-Identifier: MIT */
/* sched.c - deficit round robin over the queues of one worker. */
#include "sched.h"

void net_sched_init(struct net_sched *s, net_forward *forward, void *ctx)
{
    *s = (struct net_sched){ .turn = NET_ACTIVE_TURNS, .forward = forward, .ctx = ctx };
}

bool net_sched_add(struct net_sched *s, struct net_queue *q)
{
    if (s->n == NET_PORTS_MAX)
        return false;
    q->last_active = s->turn - NET_ACTIVE_TURNS;
    q->deficit = 0;
    s->queue[s->n++] = q;
    return true;
}

void net_sched_remove(struct net_sched *s, const struct net_queue *q)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (s->queue[i] == q) {
            s->queue[i] = s->queue[--s->n];
            s->first = 0;
            return;
        }
    }
}

static bool has_company(const struct net_sched *s)
{
    unsigned active = 0;
    for (unsigned i = 0; i < s->n && active < 2; i++)
        active += s->turn - s->queue[i]->last_active < NET_ACTIVE_TURNS;
    return active > 1;
}

/* True: it had something to take. */
static bool visit(struct net_sched *s, struct net_queue *q, bool company, uint64_t now)
{
    struct rte_mbuf *packet[NET_BURST];
    int64_t quantum = (int64_t)NET_QUANTUM * q->port->weight / 100;
    uint32_t before = q->tx.req_cons;

    if (company)
        q->deficit = q->deficit > 0 ? quantum : q->deficit + quantum;
    else
        q->deficit = NET_TURN;
    while (q->deficit > 0) {
        uint32_t at = q->tx.req_cons;
        unsigned n = net_queue_take(q, packet, NET_BURST, &q->deficit, now);
        if (n > 0)
            s->forward(s->ctx, q, packet, n);
        if (!q->tx_more || q->tx.req_cons == at || s->pause)
            break;
    }
    if (q->tx.req_cons == before) {
        if (q->deficit > 0 || !q->tx_more)
            return false;
        q->last_active = s->turn; /* in debt: its time will come */
        return true;
    }
    q->last_active = s->turn;
    q->idle_rings = 0;
    net_queue_push(q);
    return true;
}

bool net_sched_turn(struct net_sched *s, uint64_t now, uint64_t *wait)
{
    bool company = has_company(s), work = false;

    for (unsigned i = 0; i < s->n; i++) {
        unsigned at = s->first + i;
        struct net_queue *q = s->queue[at < s->n ? at : at - s->n];
        if (s->pause) { /* goes on from here */
            s->first = at < s->n ? at : at - s->n;
            return true;
        }
        if (q->broken)
            continue;
        work |= visit(s, q, company, now);
        if (q->tx_wait > 0 && q->tx_wait < *wait)
            *wait = q->tx_wait;
    }
    s->first = s->first + 1 < s->n ? s->first + 1 : 0;
    s->turn += work;
    return work;
}
