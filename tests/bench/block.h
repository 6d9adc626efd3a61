/* SPDX-License-Identifier: MIT */
/*
 * block.h - blocks that say themselves what they are.
 *
 * Whose (guest), where (number of the block), which writing of it (sequence), and
 * a checksum over all of it: what is read back can be told from what should be
 * there, and a torn or foreign block from both.
 */
#ifndef BULKHEAD_BENCH_BLOCK_H
#define BULKHEAD_BENCH_BLOCK_H

#include <stdint.h>

#define BLOCK_BYTES 4096u

/* What stands in a block. */
enum block_kind {
    BLOCK_ZERO,   /* nothing but zeroes                                          */
    BLOCK_DATA,   /* what block_write() made, for this guest and place           */
    BLOCK_FOREIGN /* anything else: torn, damaged, another guest's or place's    */
};

struct block_content {
    enum block_kind kind;
    uint64_t sequence; /* of data */
};

void block_write(void *block, uint32_t guest, uint64_t number, uint64_t sequence);
struct block_content block_read(const void *block, uint32_t guest, uint64_t number);

#endif
