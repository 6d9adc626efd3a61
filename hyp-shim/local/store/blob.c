/* SPDX-License-Identifier: MIT */
#include "blob.h"

#include <errno.h>
#include <string.h>

struct block {
    uint32_t next;
    uint8_t data[XSD_BLOCK_DATA];
};
_Static_assert(sizeof(struct block) == XSD_BLOCK_BYTES, "blocks are packed");

static struct block blocks[XSD_BLOCKS + 1]; /* [0] stands for "none" */
static uint32_t free_blocks;                /* chain of blocks used before */
static uint32_t fresh_blocks = 1;           /* from here on never touched  */

void xsd_blob_reset(void)
{
    free_blocks = 0;
    fresh_blocks = 1;
}

uint32_t xsd_blob_blocks(size_t n)
{
    return (uint32_t)((n + XSD_BLOCK_DATA - 1) / XSD_BLOCK_DATA);
}

static uint32_t take_block(void)
{
    uint32_t b = free_blocks;

    if (b)
        free_blocks = blocks[b].next;
    else
        b = fresh_blocks++; /* in range: the accounts' limits add up to XSD_BLOCKS */
    return b;
}

int xsd_blob_make(struct xsd_blob *b, struct xsd_account *a, bool slack, const void *bytes, size_t n)
{
    const uint8_t *from = bytes;
    int err = xsd_account_take(a, XSD_BLOCK, xsd_blob_blocks(n), slack);

    if (err)
        return err;
    *b = (struct xsd_blob){.bytes = (uint32_t)n};
    for (uint32_t *link = &b->first; n;) {
        uint32_t at = take_block();
        size_t piece = n < XSD_BLOCK_DATA ? n : XSD_BLOCK_DATA;
        memcpy(blocks[at].data, from, piece);
        *link = at;
        link = &blocks[at].next;
        *link = 0;
        from += piece;
        n -= piece;
    }
    return 0;
}

void xsd_blob_free(struct xsd_blob *b, struct xsd_account *a)
{
    xsd_account_give(a, XSD_BLOCK, xsd_blob_blocks(b->bytes));
    for (uint32_t at = b->first; at;) {
        uint32_t next = blocks[at].next;
        blocks[at].next = free_blocks;
        free_blocks = at;
        at = next;
    }
    *b = (struct xsd_blob){0};
}

void xsd_blob_move(const struct xsd_blob *b, struct xsd_account *from, struct xsd_account *to)
{
    xsd_account_give(from, XSD_BLOCK, xsd_blob_blocks(b->bytes));
    to->used[XSD_BLOCK] += xsd_blob_blocks(b->bytes);
}

size_t xsd_blob_copy(const struct xsd_blob *b, void *out)
{
    uint8_t *to = out;
    size_t left = b->bytes;

    for (uint32_t at = b->first; left; at = blocks[at].next) {
        size_t piece = left < XSD_BLOCK_DATA ? left : XSD_BLOCK_DATA;
        memcpy(to, blocks[at].data, piece);
        to += piece;
        left -= piece;
    }
    return b->bytes;
}

bool xsd_blob_equal(const struct xsd_blob *b, const void *bytes, size_t n)
{
    const uint8_t *with = bytes;

    if (b->bytes != n)
        return false;
    for (uint32_t at = b->first; n; at = blocks[at].next) {
        size_t piece = n < XSD_BLOCK_DATA ? n : XSD_BLOCK_DATA;
        if (memcmp(with, blocks[at].data, piece) != 0)
            return false;
        with += piece;
        n -= piece;
    }
    return true;
}
