/* SPDX-License-Identifier: MIT */
/*
 * rate.h - a token bucket, exact.
 *
 * A bucket fills at `rate` bytes a second up to its depth.  A packet may pass
 * while there is credit, and then costs its bytes, so the credit may become
 * negative by one packet: no packet is too long for a bucket, and over any
 * time T no more than depth + rate * T + one packet pass.
 *
 * net_rate's average and peak are two buckets: average with the burst as its
 * depth, peak with a short one; a packet needs both.
 *
 * Credit is counted in byte-nanoseconds a second (bytes * 10^9), so nothing is
 * rounded.  The clock is the caller's, in nanoseconds, and never runs back.
 */
#ifndef BULKHEAD_NET_RATE_H
#define BULKHEAD_NET_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "port.h"

#define RATE_MAX         (1ull << 40)  /* bytes a second: more is no limit            */
#define RATE_DEPTH_MIN   16384u        /* bytes                                       */
#define RATE_DEPTH_MAX   (1ull << 32)
#define RATE_BURST_MS    20u           /* default depth: what passes in that time     */
#define RATE_PEAK_MS     2u            /* depth of the peak bucket                    */

struct rate_bucket {
    uint64_t rate;  /* bytes a second; 0: no limit */
    int64_t credit, depth;
    uint64_t filled; /* when */
};

struct rate_limit {
    struct rate_bucket average, peak;
};

/* Full buckets. */
void net_rate_init(struct rate_limit *limit, const struct net_rate *rate, uint64_t now);

static inline bool net_rate_limited(const struct rate_limit *limit)
{
    return limit->average.rate != 0;
}

/* 0: a packet may pass now.  Else nanoseconds until one may. */
uint64_t net_rate_wait(struct rate_limit *limit, uint64_t now);
/* One passed. */
void net_rate_spend(struct rate_limit *limit, uint32_t bytes);

#endif
