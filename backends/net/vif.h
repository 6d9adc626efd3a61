/* SPDX-License-Identifier: MIT */
/* vif.h - one virtual NIC of the backend; control half of backends/net only. */
#ifndef BULKHEAD_NET_VIF_H
#define BULKHEAD_NET_VIF_H

#include "netback.h"

#define NET_NCOUNTERS (sizeof(struct net_counters) / sizeof(uint64_t))

/* One queue of a connection, and what it is made of. */
struct vif_queue {
    struct net_queue *q;
    struct hyp_map *map;
    struct hyp_evtchn *tx_evtchn, *rx_evtchn; /* the same one when not split             */
    void *tx_ring, *rx_ring;
};

struct vif {
    struct backend_device dev;
    struct net_port port;          /* the workers' from attach until the last gave it back */
    bool known;                    /* port is as the toolstack's nodes say             */
    struct vif_queue queue[NET_QUEUES_MAX];
    unsigned holders;              /* workers that have it                             */
    struct net_counters past;      /* of queues that are gone                          */
    struct net_counters published; /* what B/stats says                                */
};

/* ---------------------------------------------------------------- vifnodes.c */

/* Fills port from the toolstack's nodes. Else *what says what is wrong. */
int vif_read_port(struct vif *v, const char **what);
int vif_write_features(struct vif *v, unsigned queues_max);
/* Only counters that changed. */
int vif_write_stats(struct vif *v);

/* -------------------------------------------------------------- vifconnect.c */

/* Reads the frontend's nodes and makes its queues, at most max; nothing is kept
 * on failure and *what says, for the operator, what was wrong. */
int vif_connect(struct vif *v, unsigned max, const char **what);
/* Takes all queues down, which no worker has; keeps their counters. */
void vif_queues_end(struct vif *v);

#endif
