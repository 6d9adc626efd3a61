/* SPDX-License-Identifier: MIT */
/*
 * record.h - what a guest was promised for each of its blocks.
 *
 * A write is begun, and then acknowledged, or for ever in doubt: it failed, or the
 * guest died with it in flight.  A block in doubt may hold the one or the other,
 * and once it was read no longer.  Everything is in memory that the caller gives
 * and that may be shared: the record of a guest that died is whole, whenever
 * that was.  One writer; one write at a time to a block.
 *
 * Judging a block that was read:
 *   lost   an acknowledged write is not there: what it overwrote is, or garbage
 *   stale  something else is back: what is acknowledged had been seen there, or what
 *          is there is older still than what that had overwritten
 */
#ifndef BULKHEAD_BENCH_RECORD_H
#define BULKHEAD_BENCH_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block.h"

struct record {
    uint32_t guest;
    uint32_t blocks;
    uint64_t sequence; /* of the last write that was begun */
    struct record_block {
        uint64_t before, acked, begun; /* what a block holds, packed; begun 0: none */
        bool seen;                     /* acked was read from the block             */
    } block[];
};

size_t record_bytes(uint32_t blocks);
void record_init(struct record *r, uint32_t guest, uint32_t blocks); /* all zeroes on the disk */

/* A sequence for a write of n blocks, which are begun.  zeroes: it makes zeroes of
 * them, or discards them. */
uint64_t record_begin(struct record *r, uint32_t first, uint32_t n, bool zeroes);
void record_acknowledge(struct record *r, uint32_t first, uint32_t n);
bool record_in_doubt(const struct record *r, uint32_t block);

/* Of a block that nobody writes now. After damage what was found is what is
 * expected: each is counted once. */
enum record_verdict { RECORD_RIGHT, RECORD_LOST, RECORD_STALE };
enum record_verdict record_judge(struct record *r, uint32_t block, const void *data);

#endif
