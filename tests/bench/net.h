/* SPDX-License-Identifier: MIT */
/* net.h - what `bulkhead bench net` has measured. */
#ifndef BULKHEAD_BENCH_NET_H
#define BULKHEAD_BENCH_NET_H

#include "counters.h"
#include "histogram.h"
#include "net_options.h"
#include "testpmd.h"

#define NET_PEERS 2u

struct net_peer {
    bool asked, there;
    char why[256];                 /* it is not there                                */
    double mpps[BENCH_RUNS_MAX], ratio[BENCH_RUNS_MAX]; /* ours by its, neighbours    */
};

struct net_figures {
    double mpps[BENCH_RUNS_MAX], gbps[BENCH_RUNS_MAX];
    struct histogram latency;
    uint64_t sent;        /* by guests, all runs                                      */
    uint64_t received;    /* by guests                                                */
    uint64_t taken;       /* by the uplink's port                                     */
    uint64_t arrived;     /* what mpps counts                                         */
    uint64_t unaccounted; /* sent, not arrived, and in no counter                     */
    uint64_t strange;     /* received, but wrong or out of order                      */
    uint64_t guest_ns, driver_ns;
    struct counters vif, uplink; /* of all guests                                     */
    struct net_peer peer[NET_PEERS]; /* by enum testpmd_kind                          */
    double apart[BENCH_RUNS_MAX];    /* round trip between the two sides' CPUs, ns    */
    unsigned repeated, moved;        /* runs in which that changed: done anew, or left */
};

/* What the machine had for it. */
struct net_placement {
    bool shared;   /* guests and driver domain have to share CPUs            */
    bool together; /* sender and receiver are one thread                     */
};

void net_report(const struct net_options *opt, struct net_figures *f, const struct net_placement *where);

#endif
