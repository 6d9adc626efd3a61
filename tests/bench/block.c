/* SPDX-License-Identifier: MIT */
#include "block.h"

#include <string.h>

#define MAGIC 0x4b4c42484b4c5542ull /* "BULKHBLK" */
#define WORDS (BLOCK_BYTES / 8u)

enum { AT_MAGIC, AT_CHECKSUM, AT_GUEST, AT_NUMBER, AT_SEQUENCE, AT_FILL };

/* Four sums side by side, so that no multiplication waits for another. */
static uint64_t checksum(const uint64_t *words)
{
    uint64_t sum[4] = {1, 2, 3, 4};
    for (unsigned i = 0; i < WORDS; i += 4)
        for (unsigned k = 0; k < 4; k++)
            sum[k] = (sum[k] ^ words[i + k] ^ i) * 0x9e3779b97f4a7c15u;
    uint64_t all = 0;
    for (unsigned k = 0; k < 4; k++) {
        all = (all ^ sum[k] ^ sum[k] >> 29) * 0xbf58476d1ce4e5b9u;
        all ^= all >> 32;
    }
    return all;
}

static void sign(uint64_t *words)
{
    words[AT_CHECKSUM] = 0;
    words[AT_CHECKSUM] = checksum(words);
}

void block_write(void *block, uint32_t guest, uint64_t number, uint64_t sequence)
{
    uint64_t words[WORDS];
    uint64_t fill = (sequence + 1) * 0x94d049bb133111ebu ^ number << 20 ^ guest;
    words[AT_MAGIC] = MAGIC;
    words[AT_GUEST] = guest;
    words[AT_NUMBER] = number;
    words[AT_SEQUENCE] = sequence;
    for (unsigned i = AT_FILL; i < WORDS; i++)
        words[i] = fill += 0x9e3779b97f4a7c15u;
    sign(words);
    memcpy(block, words, sizeof(words));
}

struct block_content block_read(const void *block, uint32_t guest, uint64_t number)
{
    static const uint64_t zeroes[WORDS];
    uint64_t words[WORDS]; /* the driver domain may still write to the block */
    memcpy(words, block, sizeof(words));
    if (words[AT_MAGIC] == 0 && memcmp(words, zeroes, sizeof(words)) == 0)
        return (struct block_content){.kind = BLOCK_ZERO};
    uint64_t said = words[AT_CHECKSUM];
    sign(words);
    if (words[AT_MAGIC] != MAGIC || words[AT_GUEST] != guest || words[AT_NUMBER] != number ||
        words[AT_CHECKSUM] != said)
        return (struct block_content){.kind = BLOCK_FOREIGN};
    return (struct block_content){.kind = BLOCK_DATA, .sequence = words[AT_SEQUENCE]};
}
