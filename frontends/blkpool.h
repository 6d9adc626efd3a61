/* SPDX-License-Identifier: MIT */
/*
 * blkpool.h - who uses which page of a queue's part of the pool.
 *
 * Hands out runs of whole pages.  All that it knows is in private memory: the
 * pages themselves, which the driver domain can write, hold none of it.  Next
 * fit over a bit map: one page costs a few instructions, a long run a scan.
 *
 * Pages can be held: whoever worked on them when its time was up may still do so.
 * A held page that is given back is nobody's until blkpool_release().
 *
 * One thread at a time; no lock, no allocation after blkpool_init().
 */
#ifndef BULKHEAD_BLKPOOL_H
#define BULKHEAD_BLKPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blkpool {
    uint8_t *base;    /* first page                                       */
    uint32_t pages;
    uint32_t hint;    /* where the last run ended                         */
    uint32_t used;    /* pages handed out                                 */
    uint64_t *map;    /* bit set: page is in use                          */
    uint32_t *length; /* pages of the run that starts here; 0 none does   */
    uint32_t held;    /* pages that are held, or were when given back     */
    uint8_t *hold;    /* of each page: BLKPOOL_HELD, BLKPOOL_LIMBO        */
};
#define BLKPOOL_HELD  1u
#define BLKPOOL_LIMBO 2u /* given back while it was held */

/* Takes over `pages` pages at base (page-aligned). -EINVAL: none; -ENOMEM. */
int blkpool_init(struct blkpool *pool, void *base, uint32_t pages);
void blkpool_destroy(struct blkpool *pool);

/* A run of whole pages that holds `bytes` bytes. NULL: 0 bytes, or no run that
 * long is free. */
void *blkpool_alloc(struct blkpool *pool, size_t bytes);

/* Gives a run back. An address that blkpool_alloc() did not return, or that was
 * given back already, changes nothing. */
void blkpool_free(struct blkpool *pool, const void *run);

/* Holds n pages from `first` on, of whatever runs; is one of them held? */
void blkpool_hold(struct blkpool *pool, uint32_t first, uint32_t n);
bool blkpool_holds(const struct blkpool *pool, uint32_t first, uint32_t n);
/* Holds none any more; what was given back meanwhile is free. */
void blkpool_release(struct blkpool *pool);

#endif
