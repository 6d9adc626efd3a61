/* SPDX-License-Identifier: MIT */
/* clock.h - a clock that never jumps: CLOCK_MONOTONIC, the same for all processes of a machine. */
#ifndef BULKHEAD_CLOCK_H
#define BULKHEAD_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static inline uint64_t monotonic_ms(void)
{
    return monotonic_ns() / 1000000;
}

#endif
