/* SPDX-License-Identifier: MIT */
/*
 * netqueue.h - one queue of a NIC: a ring each way, buffers, doorbells.
 *
 * The hot path of the network frontend.  Who owns a buffer is known in private
 * memory alone; the rings are written here but never believed.  A response is
 * copied once and checked: one to a sent packet must bear the id of a buffer that
 * is in flight, and of this sending, not one before; one with a received packet
 * must bear the number of the request in its slot, and data that lies within that
 * request's buffer.
 *
 * Threads and states: queue.h.  The buffers are the owner's at all times, the
 * rings while it has taken them.  It lets go of them when netqueue_idle() finds
 * nothing to do, whatever is in flight: so a queue whose user sleeps, or never
 * comes, keeps no NIC from reconnecting.  The first call on a new connection
 * takes the buffers back that were on the old one's rings, and posts receive
 * buffers anew.  What was sent and not answered is lost, or, if the NIC is told
 * so, sent again, in its order and before anything new: it may arrive twice then.
 * A connection that is finished in order loses nothing and needs none of that:
 * netqueue_send() takes nothing more, and answers are awaited.
 */
#ifndef BULKHEAD_NETQUEUE_H
#define BULKHEAD_NETQUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "../hyp-shim/netproto.h"
#include "../hyp-shim/ring.h"
#include "include/bulkhead/netfront.h"
#include "netbuf.h"
#include "queue.h"

#define NETQUEUE_RING_PAGES 2u  /* one for each direction                         */
#define NETQUEUE_PAGES_MIN  64u /* of a queue, rings included                     */

/* What was agreed with the backend. */
struct netqueue_terms {
    uint16_t tx_flags; /* NETFRONT_* that may be sent                              */
    bool rx_offload;   /* blank checksums and segments may be received            */
};

/* How a backend can be caught. */
enum netqueue_lie {
    NETQUEUE_BAD_INDEX,   /* more responses than requests                         */
    NETQUEUE_BAD_ID,      /* sent: not in flight; received: not of its slot        */
    NETQUEUE_BAD_STATUS,
    NETQUEUE_BAD_SPAN,    /* data past its buffer                                 */
    NETQUEUE_BAD_FLAGS,   /* unknown, not agreed, or inside of a packet           */
    NETQUEUE_BAD_EXTRA,   /* extra info of another type, twice, or absurd         */
    NETQUEUE_SHORT_CHAIN, /* a packet that has no end                             */
    NETQUEUE_LONG_CHAIN,  /* more than NETFRONT_CHAIN_MAX or NETFRONT_PACKET_MAX  */
    NETQUEUE_STORM,       /* rings on and on and answers nothing                  */
    NETQUEUE_LIES
};

/* A packet's element that is in flight: enough to send it again. */
struct netqueue_sent {
    uint32_t order;        /* of its packet                                        */
    uint16_t offset, bytes;
    uint16_t flags, gso_size;
    uint16_t next;         /* buffer of the next element, when flags say MORE      */
};

/* As queue_count(). */
struct netqueue_counters {
    uint64_t tx_packets, tx_bytes, tx_errors, tx_lost, tx_resent;
    uint64_t rx_packets, rx_bytes, rx_errors;
    uint64_t lies[NETQUEUE_LIES];
};

struct netqueue {
    struct queue queue;
    const struct netqueue_terms *terms;
    uint32_t epoch;        /* of the connection; by the control thread, DRAINED    */
    uint32_t seen;         /* the epoch that the buffers know; 0: none             */

    struct ring_front tx;
    struct netbufs txbuf;
    uint32_t id_step;      /* power of two, no less than send buffers              */
    uint32_t tx_extras;    /* slots in flight that hold no packet's data           */
    struct netqueue_sent *sent; /* of each send buffer; NULL: what is lost is lost */
    uint32_t order;        /* of the packet sent last                              */
    uint32_t want_slots;   /* netqueue_send() fell short of these; 0: it did not   */
    uint32_t want_bufs;    /* netqueue_get() fell short                            */

    struct ring_front rx;
    struct netbufs rxbuf;
    uint32_t batch;        /* requests that are posted at once                     */
    uint32_t nheld;
    uint16_t posted[NET_RING_SLOTS];                /* buffer of each slot          */
    struct netfront_packet held[NETFRONT_CHAIN_MAX]; /* a whole packet             */

    uint32_t page;         /* of the rings                                         */
    struct netqueue_counters counters;
};

/*
 * Makes a queue, DRAINED, of `pages` pages from `page` on: the ring for sending,
 * the ring for receiving, receive buffers, send buffers.  terms and control_fd
 * must outlive it.  -EINVAL: fewer than NETQUEUE_PAGES_MIN; -ENOMEM.
 */
int netqueue_init(struct netqueue *q, struct hyp_pool *grants, uint32_t page, uint32_t pages,
                  const struct netqueue_terms *terms, int control_fd);
void netqueue_destroy(struct netqueue *q);

/* Control thread, before the first use: what is in flight when a connection ends is
 * sent again in the next one. -ENOMEM. */
int netqueue_resend(struct netqueue *q);

/* Control thread, DRAINED: makes the rings anew and takes the channels over, on
 * success; one channel for each direction, or one for both. */
int netqueue_attach(struct netqueue *q, struct hyp_evtchn *const *channels, unsigned n);

/* ---- owner; as the functions of netfront.h */

int netqueue_get(struct netqueue *q, void **bufs, unsigned n);
void netqueue_put(struct netqueue *q, void *const *bufs, unsigned n);
int netqueue_send(struct netqueue *q, const struct netfront_packet *packets, unsigned n);
int netqueue_receive(struct netqueue *q, struct netfront_packet *packets, unsigned n);
void netqueue_release(struct netqueue *q, const struct netfront_packet *packets, unsigned n);
int netqueue_idle(struct netqueue *q);
int netqueue_wait(struct netqueue *q, int timeout_ms);
/* Takes answers to what was sent; returns how many slots are still in flight. */
uint32_t netqueue_in_flight(struct netqueue *q);
/* DOWN -> DRAINED: the owner lets go. */
void netqueue_drop(struct netqueue *q);

/* ---- within: netqueue.c sends, sleeps, and begins and ends; netreceive.c receives */

/* The first call on a new connection. */
void netqueue_meet(struct netqueue *q);
/* The owner caught the backend; nothing of the connection is left. */
void netqueue_caught(struct netqueue *q, enum netqueue_lie lie);
/* Takes all answers to what was sent; false: the backend was caught. */
bool netqueue_reap(struct netqueue *q);
/* Puts free receive buffers on the ring; tells the backend of them. */
void netqueue_post(struct netqueue *q);
void netqueue_push_rx(struct netqueue *q);

/* HUSHED: lets go when nothing is left on the rings; 0. */
int netqueue_settle(struct netqueue *q);

/* The connection is to be finished: nothing new goes on the rings. */
static inline bool netqueue_hushed(const struct netqueue *q)
{
    return __atomic_load_n(&q->queue.state, __ATOMIC_RELAXED) == QUEUE_HUSHED;
}

/* Slots of what was sent and not answered yet, or not looked at. */
static inline uint32_t netqueue_flying(const struct netqueue *q)
{
    return q->tx.req_prod - q->tx.rsp_cons;
}

/* The owner takes the rings, if only to finish; false: there is no connection. */
static inline bool netqueue_take(struct netqueue *q)
{
    enum queue_grip grip = queue_take(&q->queue);
    if (grip != QUEUE_NOTHING && q->seen == q->epoch)
        return true;
    if (grip == QUEUE_WORKS) {
        netqueue_meet(q);
        return true;
    }
    if (grip == QUEUE_FINISHES) /* nothing of ours ever was on these rings */
        queue_let_go(&q->queue);
    netqueue_drop(q);
    return false;
}

#endif
