/* SPDX-License-Identifier: MIT */
#include "histogram.h"

#include <string.h>

#define STEP_LOG 6u /* log2 of HISTOGRAM_STEPS */

static unsigned slot_of(uint64_t ns)
{
    if (ns < HISTOGRAM_STEPS)
        return (unsigned)ns;
    unsigned log = 63u - (unsigned)__builtin_clzll(ns);
    if (log > HISTOGRAM_MAX_LOG)
        return HISTOGRAM_SLOTS - 1;
    unsigned step = (unsigned)(ns >> (log - STEP_LOG)) & (HISTOGRAM_STEPS - 1);
    return (log - STEP_LOG + 1) * HISTOGRAM_STEPS + step;
}

static uint64_t middle_of(unsigned slot)
{
    if (slot < HISTOGRAM_STEPS)
        return slot;
    unsigned shift = slot / HISTOGRAM_STEPS - 1;
    uint64_t low = (uint64_t)(HISTOGRAM_STEPS + slot % HISTOGRAM_STEPS) << shift;
    return low + ((1ull << shift) >> 1);
}

void histogram_clear(struct histogram *h)
{
    memset(h, 0, sizeof(*h));
}

void histogram_add(struct histogram *h, uint64_t ns)
{
    h->slots[slot_of(ns)]++;
    h->total++;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_SLOTS; i++)
        into->slots[i] += from->slots[i];
    into->total += from->total;
}

uint64_t histogram_quantile(const struct histogram *h, double share)
{
    if (h->total == 0)
        return 0;
    uint64_t rank = (uint64_t)(share * (double)h->total);
    if (rank >= h->total)
        rank = h->total - 1;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_SLOTS; i++) {
        seen += h->slots[i];
        if (seen > rank)
            return middle_of(i);
    }
    return middle_of(HISTOGRAM_SLOTS - 1);
}
