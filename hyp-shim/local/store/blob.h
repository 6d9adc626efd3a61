/* SPDX-License-Identifier: MIT */
/*
 * blob.h - byte strings of any length in chains of equal blocks.
 *
 * Equal blocks cannot fragment, whatever the order of allocations: what the
 * accounts allow is always there.  A blob is charged to one account, which
 * its user remembers.
 */
#ifndef BULKHEAD_STORE_BLOB_H
#define BULKHEAD_STORE_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account.h"

#define XSD_BLOCK_BYTES 32u
#define XSD_BLOCK_DATA  (XSD_BLOCK_BYTES - 4u)

struct xsd_blob {
    uint32_t first; /* 0: none */
    uint32_t bytes;
};

void xsd_blob_reset(void);
/* Blocks that n bytes need. */
uint32_t xsd_blob_blocks(size_t n);
/* Makes *b hold a copy; what *b held before is not looked at. -ENOSPC. */
int xsd_blob_make(struct xsd_blob *b, struct xsd_account *a, bool slack, const void *bytes, size_t n);
void xsd_blob_free(struct xsd_blob *b, struct xsd_account *a);
/* Charges a blob to another account, which must have room. */
void xsd_blob_move(const struct xsd_blob *b, struct xsd_account *from, struct xsd_account *to);
/* Copies all b->bytes; returns how many. */
size_t xsd_blob_copy(const struct xsd_blob *b, void *out);
bool xsd_blob_equal(const struct xsd_blob *b, const void *bytes, size_t n);

#endif
