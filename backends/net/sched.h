/* SPDX-License-Identifier: MIT */
/*
 * sched.h - whose packets are taken next: deficit round robin over the tx rings
 * of one worker.
 *
 * The currency is cost: bytes plus NET_COST_PACKET for each packet (queue.h),
 * and what forwarding adds to it (copies for everyone, segments).  A queue that
 * has packets gets NET_QUANTUM a round, times its weight / 100.  It is served
 * while its deficit is positive, and its last packet may put it into debt, which
 * the next rounds pay; so every packet fits however long it is.  What a queue
 * does not use is lost, and nobody waits for it.  A queue that is alone is not
 * held to rounds.
 */
#ifndef BULKHEAD_NET_SCHED_H
#define BULKHEAD_NET_SCHED_H

#include "queue.h"

#define NET_QUANTUM      (NET_BURST * (NET_COST_PACKET + 64))
#define NET_TURN         (4 * NET_QUANTUM) /* of a queue that is alone, before all else is looked at */
#define NET_ACTIVE_TURNS 64u               /* turns with work that a queue stays active              */

/* What to do with the packets that were taken from q; they are its. */
typedef void net_forward(void *ctx, struct net_queue *q, struct rte_mbuf **packet, unsigned n);

struct net_sched {
    struct net_queue *queue[NET_PORTS_MAX];
    unsigned n, first;
    uint32_t turn; /* turns that found work */
    bool pause;    /* forward() wants no more for now; nothing is taken from any ring */
    net_forward *forward;
    void *ctx;
};

void net_sched_init(struct net_sched *s, net_forward *forward, void *ctx);
/* False: no room. */
bool net_sched_add(struct net_sched *s, struct net_queue *q);
void net_sched_remove(struct net_sched *s, const struct net_queue *q);

/* Visits every queue once.  True: there was work.  *wait becomes the time in ns
 * until a queue whose rate is spent may go on, when that is sooner. */
bool net_sched_turn(struct net_sched *s, uint64_t now, uint64_t *wait);

#endif
