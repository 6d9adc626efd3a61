/* SPDX-License-Identifier: MIT */
/*
 * hugepages.h - huge pages for a peer that cannot do without.
 *
 * What the machine has free is used; what is missing is reserved for the time
 * of a benchmark and given back.
 */
#ifndef BULKHEAD_BENCH_HUGEPAGES_H
#define BULKHEAD_BENCH_HUGEPAGES_H

#include <stddef.h>

struct hugepages {
    unsigned long added; /* to what the machine was to have */
};

/* Makes sure that n of 2 MiB are free. 0, or a negative errno and a sentence;
 * then nothing is changed. */
int hugepages_reserve(struct hugepages *h, unsigned n, char *why, size_t why_bytes);
void hugepages_restore(struct hugepages *h);

#endif
