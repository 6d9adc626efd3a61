/* SPDX-License-Identifier: MIT */
/*
 * histogram.h - counts of times in nanoseconds, log-linear.
 *
 * Every power of two is cut into 64 equal steps, so a percentile is right to
 * 1.6 %.  Times past 2^40 ns (18 minutes) count as that.  No memory is
 * allocated and nothing is locked: one histogram a thread, merged afterwards.
 */
#ifndef BULKHEAD_HISTOGRAM_H
#define BULKHEAD_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS   64u
#define HISTOGRAM_MAX_LOG 40u
#define HISTOGRAM_SLOTS   ((HISTOGRAM_MAX_LOG - 4u) * HISTOGRAM_STEPS)

struct histogram {
    uint64_t total;
    uint64_t slots[HISTOGRAM_SLOTS];
};

void histogram_clear(struct histogram *h);
void histogram_add(struct histogram *h, uint64_t ns);
void histogram_merge(struct histogram *into, const struct histogram *from);

/* The time that a share of all values (0.99: ninety-nine in a hundred) does
 * not exceed: middle of its step.  0 when there are no values. */
uint64_t histogram_quantile(const struct histogram *h, double share);

#endif
