/* SPDX-License-Identifier: MIT */
/*
 * forward.h - what one worker owns, and what it does with packets: to a vif of
 * its own, to the uplink, or over to another worker.
 *
 * Between workers a packet is handed over whole or as a copy, through a ring
 * with one writer and one reader.  Whoever gets one looks it up in its own
 * table and delivers it to its own vifs and, worker 0, to the uplink; it never
 * hands it on, so nothing goes in circles.
 *
 * The uplink may be slow.  What it does not take is held, and while some is held
 * no vif's ring is looked at: the guests wait, each in its own ring, and the
 * scheduler's order is kept.  An uplink that takes nothing for UPLINK_PATIENCE_NS is
 * stuck: then what is for it is dropped at once, and the rest goes on.
 */
#ifndef BULKHEAD_NET_FORWARD_H
#define BULKHEAD_NET_FORWARD_H

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>

#include <rte_ring.h>

#include "offload.h"
#include "sched.h"
#include "switch.h"
#include "worker.h"

#define HANDOVER_SLOTS     256u
#define UPLINK_PATIENCE_NS 200000u
#define UPLINK_HELD        OFFLOAD_SEGMENTS_MAX /* ready to go                         */
#define UPLINK_PARKED      (4 * NET_BURST)      /* behind those, as they came          */

/* In poll[]; two doorbells for each queue follow in the order of sched.queue[]. */
enum { POLL_MAIL, POLL_UPLINK, POLL_DOORBELLS };

/* What a worker knows of another one. */
struct net_neighbour {
    const int *asleep; /* ring wake_fd after handing something over */
    int wake_fd;
};

struct net_worker {
    struct mailbox in, out;
    int asleep;                          /* read by the others: among what rarely changes */
    int wake_fd;
    pthread_t thread;
    sem_t started;
    int start_error;
    int cpu;                             /* pinned there; -1: anywhere                  */
    unsigned index, workers;
    bool has_uplink;                     /* the domain has one                          */
    bool uplink_deaf;                    /* its descriptor reports an error that stays  */
    bool stuck, stop;
    struct uplink *uplink;               /* worker 0's; else NULL                       */
    struct uplink *quiet;                /* the same until it is open                   */
    struct net_queue *armed;             /* of attached vifs: not rung yet              */
    unsigned armed_turns;                /* since one came                              */
    struct rte_ring *to[NET_WORKERS_MAX], *from[NET_WORKERS_MAX];
    struct net_neighbour others[NET_WORKERS_MAX];

    uint64_t now;                        /* ns, of this turn                            */
    struct net_sched sched;
    struct net_switch table;
    struct net_queue *local[NET_PORTS_MAX]; /* the queue of a vif that is served here   */
    struct net_queue *touched;           /* to be pushed                                */
    struct net_backlog_room room;
    struct rte_mbuf *held[UPLINK_HELD], *parked[UPLINK_PARKED];
    uint64_t held_since;
    unsigned held_n, parked_n;
    uint32_t rung;                       /* workers that were given something, a bit each */
    struct pollfd poll[POLL_DOORBELLS + 2 * NET_PORTS_MAX]; /* one queue a vif, served or armed */
};

/* ------------------------------------------------------------------- worker.c */

/* Worker `index` of n, without a thread: its maker calls the rest by hand. */
void net_worker_init(struct net_worker *w, unsigned index, unsigned n, struct uplink *uplink);
void net_worker_attach(struct net_worker *w, struct net_port *port);
void net_worker_detach(struct net_worker *w, struct net_port *port);
/* All there is to do once, at that time in ns.  True: there was something; else *wait
 * becomes the ns until there is something that no doorbell tells, when that is sooner. */
bool net_worker_turn(struct net_worker *w, uint64_t now, uint64_t *wait);

/* ------------------------------------------------------------------ forward.c */

/* What net_sched calls: packets that q's guest sent. */
void net_forward_guest(void *worker, struct net_queue *q, struct rte_mbuf **packet, unsigned n);
/* Takes what other workers handed over; true: there was some. */
bool net_forward_taken(struct net_worker *w);
/* Rings those that sleep and were given something. */
void net_forward_ring(struct net_worker *w);
/* Gives what is for a vif with a queue here, and has it pushed at the turn's end. */
void net_forward_give(struct net_worker *w, struct net_queue *q, struct rte_mbuf **packet, unsigned n);
/* From the uplink, with its VLAN known. */
void net_forward_uplink(struct net_worker *w, struct rte_mbuf *m);

/* --------------------------------------------------------------------- wire.c */

/* What several packets are together: one pass over them serves all who ask. */
struct net_look {
    uint64_t bytes;
    uint32_t longest;
    uint32_t flags; /* all PACKET_*, and any VLAN */
};

static inline void net_look_at(struct net_look *l, const struct rte_mbuf *m)
{
    l->bytes += m->pkt_len;
    l->longest = m->pkt_len > l->longest ? m->pkt_len : l->longest;
    l->flags |= (m->hash.usr & (PACKET_CSUM | PACKET_GSO)) | (uint32_t)m->vlan_tci << 16;
}

/* Sends to the uplink; the packets are its. Worker 0. */
void net_wire_send(struct net_worker *w, struct rte_mbuf **packet, unsigned n);
void net_wire_send_looked(struct net_worker *w, struct rte_mbuf **packet, unsigned n,
                          const struct net_look *look);
/* Tries again what is held; true: something moved. */
bool net_wire_retry(struct net_worker *w);
/* Takes a burst from the uplink and forwards it; true: there was one. */
bool net_wire_receive(struct net_worker *w);
/* Drops what is held. */
void net_wire_close(struct net_worker *w);

#endif
