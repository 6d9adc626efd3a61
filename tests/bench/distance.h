/* SPDX-License-Identifier: MIT */
/*
 * distance.h - how far two CPUs are from each other.
 *
 * What goes from one core to another costs what their caches make of it.  A
 * virtual machine's CPUs may be two threads of one core in one minute and on two
 * sockets in the next, and figures of different minutes then differ by a factor
 * of five that has nothing to do with what is measured.
 */
#ifndef BULKHEAD_BENCH_DISTANCE_H
#define BULKHEAD_BENCH_DISTANCE_H

#include <stdbool.h>
#include <stdint.h>

/* Round trip of one cache line between two CPUs in ns, least of a few trials of
 * thousands; takes some milliseconds.  0: they are the same CPU. */
double distance_ns(unsigned a, unsigned b);

/* Are two such figures of the same place? */
static inline bool distance_same(double x, double y)
{
    return x <= y * 1.6 && y <= x * 1.6; /* both 0 too */
}

#endif
