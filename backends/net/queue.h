/* SPDX-License-Identifier: MIT */
/*
 * queue.h - one queue of a vif: a ring of what its guest sends, and a ring of
 * buffers for what it gets.
 *
 * A queue is made by the control thread, then given to one worker and touched
 * by no one else until that worker gives it back.  It needs neither the store
 * nor a thread, so tests and fuzzers drive it by hand:
 *
 *     net_queue_take()   tx ring -> packets: copy, check, answer
 *     net_queue_give()   packets -> rx ring, or its backlog
 *     net_queue_retry()  backlog -> rx ring
 *     net_queue_push()   tell the frontend, once a batch
 *
 * Everything on the rings and behind a grant is hostile.  A packet that is
 * wrong is dropped whole, each of its slots is answered with an error, and it is
 * counted under the name of what is wrong with it.  An index that cannot be
 * true, or granted memory that goes away, breaks this queue's connection.
 *
 * A slot is answered in the call that takes it, once its data is in private
 * memory: after a call req_cons equals rsp_prod, on both rings, always.
 *
 * Nothing here allocates (but from the packets' pools), locks or waits.
 * Persistent grants cost no system call either.
 */
#ifndef BULKHEAD_NET_QUEUE_H
#define BULKHEAD_NET_QUEUE_H

#include "../../hyp-shim/hyp.h"
#include "../../hyp-shim/ring.h"
#include "packet.h"
#include "port.h"
#include "rate.h"

/* Slots looked at together: a whole packet and its extras always fit, and behind
 * a burst the next one is seen coming. */
#define QUEUE_WINDOW (2 * NET_BURST)
_Static_assert(NET_BURST >= NET_SLOTS_MAX + NET_EXTRAS_MAX, "a packet fits the window");

/* A packet's cost in the currency of fairness is its bytes and this much; it
 * stands for the work that is the same for each.  As measured between neighbouring
 * processors: 64 bytes take 26 ns of a worker, 1500 bytes 71, which this makes
 * 832 and 2268. */
#define NET_COST_PACKET 768
#define NET_COST_SLOT   64 /* each further slot, and each slot of a packet that is wrong */

/* Packets that wait for their guest to post buffers, or for its inbound rate. */
#define BACKLOG_PACKETS 256u
#define BACKLOG_BYTES   (1u << 20)
/* All queues of one worker together have so many, and all workers together less
 * than the pools hold.  A queue may have as much as is left for all, so that one
 * guest that does not read leaves room for others. */
#define BACKLOG_SHARED_PACKETS 1024u
#define BACKLOG_SHARED_LARGE   48u
#define BACKLOG_ALL_PACKETS    (PACKET_SMALL_COUNT * 3 / 4)
#define BACKLOG_ALL_LARGE      (PACKET_LARGE_COUNT * 3 / 4)

struct net_backlog_room {
    unsigned packets, large; /* that wait; large: longer than a small packet is */
    unsigned packets_max, large_max;
};

static inline void net_backlog_init(struct net_backlog_room *r, unsigned workers)
{
    unsigned packets = BACKLOG_ALL_PACKETS / workers, large = BACKLOG_ALL_LARGE / workers;
    *r = (struct net_backlog_room){
        .packets_max = packets < BACKLOG_SHARED_PACKETS ? packets : BACKLOG_SHARED_PACKETS,
        .large_max = large < BACKLOG_SHARED_LARGE ? large : BACKLOG_SHARED_LARGE };
}

struct net_queue {
    /* set up by the control thread */
    struct ring_back tx, rx;
    struct hyp_map *map;
    struct hyp_evtchn *tx_evtchn, *rx_evtchn;
    struct ring_header *rx_later; /* armed: where its rx ring will be; rx has no buffers   */
    enum net_grants grants;
    const struct net_port *port;

    /* tx; the worker's, as all that follows */
    uint16_t src_head;         /* the vif's address where it stands in a frame: bytes 6, 7 */
    uint32_t src_tail;         /* and 8 to 11                                      */
    uint32_t frame_max;        /* longest frame of one segment, without a tag      */
    uint32_t marks;            /* PACKET_* that each of its packets gets           */
    bool tx_more;              /* requests are left on the tx ring                 */
    struct hyp_run tx_run, rx_run; /* where the last granted page was               */
    uint64_t first_words, last_words; /* of each packet's mbuf, its length apart    */
    uint32_t foreseen;         /* tx index up to which data was prefetched         */
    bool plain;                /* VLAN 0 or an access VLAN: no tag is ever right   */
    struct rate_limit outbound, inbound;
    uint64_t tx_wait;          /* ns until the outbound rate allows more; 0: now   */

    /* rx */
    uint32_t rx_posted;        /* buffers known to be there                        */
    uint32_t rx_unusual;       /* PACKET_* that it cannot take as they are         */
    uint32_t rx_hue;           /* of the next buffer: where in its page data begins */
    struct net_backlog_room *room; /* what the worker's queues share               */
    uint32_t backlog_first, backlog_n, backlog_bytes, backlog_large;
    uint64_t rx_wait;

    bool broken;
    const char *why;           /* it is broken, in words                           */
    struct net_counters count;

    /* sched.c, worker.c */
    int64_t deficit;
    uint32_t last_active;
    uint32_t idle_rings;       /* doorbells in a row for nothing                   */
    bool deaf;                 /* the frontend's end of the channel is gone        */
    bool reported, touched, on_backlog;
    struct net_queue *next_touched, *next_armed;

    netif_tx_request_t slot[QUEUE_WINDOW];  /* the private copies at hand          */
    netif_rx_request_t buffer[QUEUE_WINDOW];
    struct hyp_copy piece[QUEUE_WINDOW];
    struct rte_mbuf *backlog[BACKLOG_PACKETS];
};

/* Counters have one writer, the worker, and one reader at any time, the control thread. */
static inline void net_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* Worker: it is its from now on; *room is what its queues share, or the test's. */
void net_queue_open(struct net_queue *q, struct net_backlog_room *room, uint64_t now);
/* Worker: it was armed, and rung: it begins where its rings do. */
void net_queue_start(struct net_queue *q);
/* Worker: drops what waits. */
void net_queue_close(struct net_queue *q);
void net_queue_break(struct net_queue *q, const char *why);

/*
 * Takes packets off the tx ring while *budget is positive, at most max <=
 * NET_BURST; what they cost is subtracted, so it may become negative.  Returns
 * how many are in out[], checked: they have a header, the vif's source address,
 * a VLAN that it may use, and offsets for the checksum when it is to be filled
 * in.  They are the caller's.  0 with tx_more set means that the budget or the rate is
 * spent, or there is no memory, or that all were wrong.
 */
unsigned net_queue_take(struct net_queue *q, struct rte_mbuf **out, unsigned max, int64_t *budget,
                        uint64_t now);

/* Hands over n packets for the guest; they are the queue's from now on. */
void net_queue_give(struct net_queue *q, struct rte_mbuf **packet, unsigned n, uint64_t now);
/* Tries again what waits; true: something moved. */
bool net_queue_retry(struct net_queue *q, uint64_t now);

/* Buffers that the first packet of the backlog needs; 0: there is none. */
uint32_t net_queue_wants(const struct net_queue *q);

/* Publishes the answers so far, and rings when the frontend asked for it. */
void net_queue_push(struct net_queue *q);

/* -------------------------------------------------------------- between files */

/* A packet on the tx ring, copied and checked. */
struct net_tx_packet {
    uint16_t slots, extras;  /* taken from the ring; the extras follow the first slot   */
    uint32_t bytes;
    uint32_t first_bytes;    /* of the first slot: the rest of bytes                     */
    uint16_t gso_size;       /* 0: none                                                  */
    uint8_t gso_type;
    bool csum_blank;
    bool incomplete;         /* slot[] ended before it did                               */
};

/*
 * parse.c.  Reads one packet from slot[0..n), n > 0.  Fills p; slots + extras is
 * what it takes off the ring even when it is wrong.  A chain that goes on past
 * n is wrong there, and `incomplete`: with the rest in view it might be right.
 * NULL: it is right; else the counter of what is wrong with it.
 */
uint64_t *net_parse_slots(struct net_counters *count, const netif_tx_request_t *slot, unsigned n,
                          struct net_tx_packet *p);
/*
 * parse.c.  Checks the frame in m against what its vif may send, takes a tag out,
 * and sets m's VLAN and flags.  NULL, or the counter.
 */
uint64_t *net_parse_frame(struct net_queue *q, struct rte_mbuf *m);
/* parse.c.  The same for what the slots said about checksum and segments. */
uint64_t *net_parse_offload(struct net_queue *q, const struct net_tx_packet *p, struct rte_mbuf *m);

/* rx.c */
void net_queue_drop_backlog(struct net_queue *q);

#endif
