/* SPDX-License-Identifier: MIT */
#include "record.h"

#include <string.h>

/* What a block holds, in one word: a store of it is whole or not there. */
enum { NOTHING = 0, ZEROES, DATA, ANYTHING };

static uint64_t pack(unsigned what, uint64_t sequence)
{
    return sequence << 2 | what;
}

static unsigned what_of(uint64_t held)
{
    return held & 3;
}

/* A process may be killed between two stores: they are to be made, in this order. */
static void set(uint64_t *at, uint64_t value)
{
    __atomic_store_n(at, value, __ATOMIC_SEQ_CST);
}

size_t record_bytes(uint32_t blocks)
{
    return sizeof(struct record) + blocks * sizeof(struct record_block);
}

void record_init(struct record *r, uint32_t guest, uint32_t blocks)
{
    memset(r, 0, record_bytes(blocks));
    r->guest = guest;
    r->blocks = blocks;
    for (uint32_t i = 0; i < blocks; i++)
        r->block[i] = (struct record_block){.before = pack(ZEROES, 0), .acked = pack(ZEROES, 0)};
}

uint64_t record_begin(struct record *r, uint32_t first, uint32_t n, bool zeroes)
{
    set(&r->sequence, r->sequence + 1);
    for (uint32_t i = first; i < first + n; i++)
        set(&r->block[i].begun, pack(zeroes ? ZEROES : DATA, r->sequence));
    return r->sequence;
}

/* acked moves before begun is cleared: in between the block is in doubt between
 * a write and itself. */
static void settle(struct record_block *b, uint64_t held, bool seen)
{
    if (b->acked != held) {
        b->before = b->acked;
        b->seen = false;
        set(&b->acked, held);
    }
    set(&b->begun, NOTHING);
    b->seen |= seen;
}

void record_acknowledge(struct record *r, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++)
        settle(&r->block[i], r->block[i].begun, false);
}

bool record_in_doubt(const struct record *r, uint32_t block)
{
    return r->block[block].begun != NOTHING;
}

static bool holds(struct block_content found, uint64_t held)
{
    switch (what_of(held)) {
    case ZEROES:
        return found.kind == BLOCK_ZERO;
    case DATA:
        return found.kind == BLOCK_DATA && found.sequence == held >> 2;
    default:
        return false;
    }
}

/* Neither what is acknowledged nor what is in doubt. */
static enum record_verdict name_damage(const struct record_block *b, struct block_content found)
{
    if (found.kind == BLOCK_FOREIGN)
        return RECORD_LOST;
    if (b->seen)
        return RECORD_STALE;
    if (holds(found, b->before) || found.kind == BLOCK_ZERO)
        return RECORD_LOST;
    return found.sequence < b->acked >> 2 ? RECORD_STALE : RECORD_LOST;
}

enum record_verdict record_judge(struct record *r, uint32_t block, const void *data)
{
    struct record_block *b = &r->block[block];
    struct block_content found = block_read(data, r->guest, block);
    uint64_t now = found.kind == BLOCK_DATA   ? pack(DATA, found.sequence)
                   : found.kind == BLOCK_ZERO ? pack(ZEROES, b->acked >> 2)
                                              : pack(ANYTHING, b->acked >> 2);
    enum record_verdict verdict = RECORD_RIGHT;
    if (holds(found, b->acked)) {
        now = b->acked;
    } else if (holds(found, b->begun)) {
        now = b->begun;
    } else if (what_of(b->acked) != ANYTHING && (b->begun == NOTHING || found.kind != BLOCK_FOREIGN)) {
        /* A write that never ended may have been done in part. */
        verdict = name_damage(b, found);
    }
    settle(b, now, what_of(now) != ANYTHING);
    return verdict;
}
