/* SPDX-License-Identifier: MIT */
/*
 * port.h - a vif as the data path sees it, and the counters that say what
 * became of its packets.
 *
 * The control thread fills a port in, makes its queues, and gives it to every
 * worker (MAIL_ATTACH); nothing in it changes until every worker gave it back
 * (MAIL_DETACHED), except what is said to be a worker's.
 */
#ifndef BULKHEAD_NET_PORT_H
#define BULKHEAD_NET_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "../../hyp-shim/hyp.h"
#include "../../hyp-shim/netproto.h"

#define NET_PORTS_MAX 128u /* vifs of one driver domain */

/* Counters of a queue, and the names of the nodes below B/stats.  tx and rx are
 * the guest's: tx is what it sends. */
#define NET_COUNTERS(X)                                                                        \
    X(tx_packets) X(tx_bytes) X(rx_packets) X(rx_bytes)                                        \
    X(bad_slots)    /* tx: too many slots, a slot past its page, sizes that do not add up    */ \
    X(bad_extra)    /* tx: extra info of an unknown type, twice, or without end              */ \
    X(bad_gso)      /* tx: segment size 0 or absurd, type unknown, or no TCP header for it    */ \
    X(bad_csum)     /* tx: a checksum to be filled in where no header has room for it        */ \
    X(bad_grant)    /* a reference that was not granted for this                             */ \
    X(too_long)     /* tx: more than the MTU allows                                          */ \
    X(too_short)    /* tx: no Ethernet header                                                */ \
    X(forged_mac)   /* tx: another source address than the vif's                             */ \
    X(bad_vlan)     /* tx: a tag that the vif may not send                                    */ \
    X(isolated)     /* tx: for a vif that this one is kept from                               */ \
    X(no_port)      /* tx: for nobody here, and there is no uplink                            */ \
    X(uplink_full)  /* tx: the uplink took no more                                            */ \
    X(no_memory)    /* tx: no packet buffer, or the other worker's queue is full              */ \
    X(no_buffers)   /* rx: the guest posted no buffers and its backlog is full                */ \
    X(over_rate)    /* rx: more than its inbound bandwidth and its backlog is full            */ \
    X(rx_too_big)   /* rx: more than the guest takes                                          */ \
    X(broken)       /* connections ended because the frontend lied                           */ \
    X(doorbells)    /* rung                                                                  */ \
    X(wakeups)      /* heard                                                                 */ \
    X(storms)       /* times that a doorbell rang for nothing so often that it was muted     */

struct net_counters {
#define X(name) uint64_t name;
    NET_COUNTERS(X)
#undef X
};

/* Bandwidth in one direction, as libvirt's <bandwidth> has it, in bytes.
 * average 0: no limit. */
struct net_rate {
    uint64_t average; /* bytes a second                                                */
    uint64_t peak;    /* bytes a second while the burst lasts; 0: as fast as it goes   */
    uint64_t burst;   /* bytes that may be sent at peak; 0: a default                  */
};

enum net_grants { NET_GRANTS_PERSISTENT, NET_GRANTS_COPY };

struct net_queue;

struct net_port {
    uint64_t vlans[64];       /* bit map of the VLANs of a trunk                        */
    struct net_rate outbound, inbound; /* from the guest, to the guest                  */
    struct net_queue *queue[NET_QUEUES_MAX];
    void *owner;              /* the vif; not looked at here                            */
    unsigned nqueues;
    uint32_t weight;          /* 1..1000, 100 is usual                                  */
    uint8_t worker[NET_QUEUES_MAX];    /* who serves it; at most one queue a worker      */
    uint16_t index;           /* of the vif, below NET_PORTS_MAX                        */
    uint16_t mtu;
    uint16_t pvid;            /* VLAN of its untagged frames; 0: none                   */
    uint8_t mac[NET_MAC_BYTES];
    bool trunk;               /* may also send and get tagged frames of vlans[]         */
    bool isolated;            /* from other isolated vifs                               */
    bool armed;               /* its queues wait for their first doorbell               */
    bool rx_sg, rx_gso4, rx_gso6, rx_csum4, rx_csum6; /* what its frontend takes        */
};

/* ---- queues: made and ended by the control thread, served by one worker */

struct net_queue_config {
    void *tx_ring, *rx_ring;  /* mapped, one page each                                  */
    struct hyp_map *map;
    struct hyp_evtchn *tx_evtchn, *rx_evtchn; /* the same one when not split            */
    enum net_grants grants;
    const struct net_port *port;
};
/* One mapping holds all that a queue needs. -EINVAL, -ENOMEM. Map, rings and
 * channels stay the caller's. */
int net_queue_create(struct net_queue **out, const struct net_queue_config *cfg);
void net_queue_destroy(struct net_queue *q);
/* Before a worker has it: its rings are not its frontend's yet, and are not looked at
 * before the first doorbell of tx. */
void net_queue_arm(struct net_queue *q);

/* Read by the control thread at any time, relaxed. */
const struct net_counters *net_queue_counters(const struct net_queue *q);
/* Why it is broken, in words; NULL: it is not. After MAIL_BROKEN. */
const char *net_queue_why(const struct net_queue *q);

#endif
