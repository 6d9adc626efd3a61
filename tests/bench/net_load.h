/* SPDX-License-Identifier: MIT */
/*
 * net_load.h - packets sent and received through NICs, for a while.
 *
 * A lane is one direction of one queue of one NIC.  Lanes are dealt to threads;
 * a thread serves its lanes in turn, a burst each, and polls while there is
 * work.  (A sender and a receiver that have to share a CPU are two lanes of
 * one thread: two pollers on one CPU would only wait for the scheduler.)
 */
#ifndef BULKHEAD_BENCH_NET_LOAD_H
#define BULKHEAD_BENCH_NET_LOAD_H

#include <bulkhead/netfront.h>

#include "frame.h"
#include "histogram.h"

#define NET_LANES_MAX   32u
#define NET_THREADS_MAX 16u
#define NET_FLOWS_MAX   16u
#define NET_BURST       32u

struct net_lane {
    /* What it does. */
    struct netfront *nic;
    unsigned queue, thread;
    bool sends;
    struct frame_flow flow; /* what it sends, from number 0 on, run after run           */
    double pace;            /* packets a second; 0: as many as go                       */
    unsigned bursts;        /* at most, in one turn; 0: one                             */
    bool endless;           /* receives from a source that never stops                  */
    /* What it did, from net_run(). */
    uint64_t packets;        /* sent; or arrived before the run was over                */
    uint64_t tail;           /* arrived afterwards                                       */
    uint64_t missing;        /* numbers that never arrived, of flows that come in order  */
    uint64_t strange;        /* arrived, but none of ours, or late by its number          */
    struct histogram latency; /* sends: until the buffer was free again; receives: one
                               * way, from when the frame was written.  Samples.         */
    /* Its own; outlives a run. */
    uint64_t number;                  /* of the next frame                               */
    uint64_t expected[NET_FLOWS_MAX]; /* of the next frame of each flow                  */
    struct net_lane_work *work;
};

struct net_run {
    struct net_lane *lanes;
    unsigned nlanes, threads;
    double seconds;
    unsigned spins;          /* empty turns before sleep                                 */
    const uint64_t *cpus;    /* of each thread                                           */
    uint64_t wall_ns;        /* longest thread, until it stopped to send and count       */
    uint64_t drained_ns;     /* ... until every buffer it had sent was free again         */
    uint64_t cpu_ns;         /* of this process                                          */
};

/*
 * Runs all lanes, then lets what is on its way arrive.  0 or a negative errno:
 * -ENETDOWN a driver domain is gone, -ETIMEDOUT buffers never came back.
 */
int net_run(struct net_run *run);
void net_lane_close(struct net_lane *lane);

/*
 * Sends n frames of the flow from one NIC to another, one thread, and looks at
 * every byte of what arrives: once each, in order.  0; -EILSEQ and a sentence
 * when something is wrong with them.
 */
int net_check(struct netfront *from, struct netfront *to, const struct frame_flow *flow, uint64_t n,
              char *why, size_t why_bytes);

#endif
