/* SPDX-License-Identifier: MIT */
/* counters.h - what a driver domain says of its packets, read from the store. */
#ifndef BULKHEAD_BENCH_COUNTERS_H
#define BULKHEAD_BENCH_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "../../hyp-shim/store.h"

#define COUNTERS_MAX 40u

struct counter {
    char name[32];
    uint64_t value;
};

struct counters {
    unsigned n;
    struct counter at[COUNTERS_MAX];
};

/* All numbers below dir; none there are none of. 0 or a negative errno. */
int counters_read(struct store *store, const char *dir, struct counters *out);
/* 0 when there is none of that name. */
uint64_t counters_get(const struct counters *c, const char *name);
/* sum += after - before, name by name. */
void counters_add(struct counters *sum, const struct counters *before, const struct counters *after);

/* Does it count packets that went nowhere?  Every counter does that is not known
 * to count something else: a new cause is never taken for nothing. */
bool counter_is_drop(const char *name);
uint64_t counters_drops(const struct counters *c);

#endif
