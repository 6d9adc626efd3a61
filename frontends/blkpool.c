/* SPDX-License-Identifier: MIT */
#include "blkpool.h"

#include <errno.h>
#include <stdlib.h>

#include "../hyp-shim/hyp.h"

#define WORD_BITS 64u

int blkpool_init(struct blkpool *pool, void *base, uint32_t pages)
{
    if (pages == 0)
        return -EINVAL;
    *pool = (struct blkpool){ .base = base, .pages = pages };
    size_t words = (pages + WORD_BITS - 1) / WORD_BITS;
    pool->map = calloc(words, sizeof(*pool->map));
    pool->length = calloc(pages, sizeof(*pool->length));
    pool->hold = calloc(pages, sizeof(*pool->hold));
    if (!pool->map || !pool->length || !pool->hold) {
        blkpool_destroy(pool);
        return -ENOMEM;
    }
    /* Bits past the last page are taken for good: no run can reach them. */
    if (pages % WORD_BITS)
        pool->map[words - 1] = ~0ull << (pages % WORD_BITS);
    return 0;
}

void blkpool_destroy(struct blkpool *pool)
{
    free(pool->map);
    free(pool->length);
    free(pool->hold);
    *pool = (struct blkpool){ 0 };
}

/* The first page at or after `from` that is free (or, with `used`, in use);
 * pool->pages when there is none. */
static uint32_t seek(const struct blkpool *pool, uint32_t from, bool used)
{
    while (from < pool->pages) {
        uint64_t word = pool->map[from / WORD_BITS];
        if (!used)
            word = ~word;
        word &= ~0ull << (from % WORD_BITS);
        if (word) {
            uint32_t at = from - from % WORD_BITS + (uint32_t)__builtin_ctzll(word);
            return at < pool->pages ? at : pool->pages;
        }
        from += WORD_BITS - from % WORD_BITS;
    }
    return pool->pages;
}

static void mark(struct blkpool *pool, uint32_t first, uint32_t n, bool used)
{
    while (n > 0) {
        uint32_t shift = first % WORD_BITS;
        uint32_t here = n < WORD_BITS - shift ? n : WORD_BITS - shift;
        uint64_t bits = (here == WORD_BITS ? ~0ull : (1ull << here) - 1) << shift;
        if (used)
            pool->map[first / WORD_BITS] |= bits;
        else
            pool->map[first / WORD_BITS] &= ~bits;
        first += here;
        n -= here;
    }
}

/* A free run of n pages that starts in [from, to); pool->pages: none. */
static uint32_t find(const struct blkpool *pool, uint32_t from, uint32_t to, uint32_t n)
{
    for (uint32_t at = seek(pool, from, false); at < to;) {
        uint32_t end = seek(pool, at, true);
        if (end - at >= n)
            return at;
        at = seek(pool, end, false);
    }
    return pool->pages;
}

void *blkpool_alloc(struct blkpool *pool, size_t bytes)
{
    if (bytes == 0 || bytes > (size_t)pool->pages * HYP_PAGE_SIZE)
        return NULL;
    uint32_t n = (uint32_t)((bytes + HYP_PAGE_SIZE - 1) / HYP_PAGE_SIZE);
    if (n > pool->pages - pool->used)
        return NULL;
    uint32_t at = find(pool, pool->hint, pool->pages, n);
    if (at == pool->pages)
        at = find(pool, 0, pool->hint, n);
    if (at == pool->pages)
        return NULL;
    mark(pool, at, n, true);
    pool->length[at] = n;
    pool->used += n;
    pool->hint = at + n < pool->pages ? at + n : 0;
    return pool->base + (size_t)at * HYP_PAGE_SIZE;
}

static void give_back(struct blkpool *pool, uint32_t first, uint32_t n)
{
    pool->used -= n;
    mark(pool, first, n, false);
}

/* All of a run but its held pages. */
static void give_back_some(struct blkpool *pool, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++)
        if (pool->hold[i])
            pool->hold[i] |= BLKPOOL_LIMBO;
        else
            give_back(pool, i, 1);
}

void blkpool_free(struct blkpool *pool, const void *run)
{
    uintptr_t at = (uintptr_t)run - (uintptr_t)pool->base;
    if (at % HYP_PAGE_SIZE || at / HYP_PAGE_SIZE >= pool->pages)
        return;
    uint32_t page = (uint32_t)(at / HYP_PAGE_SIZE);
    uint32_t n = pool->length[page];
    if (n == 0)
        return;
    pool->length[page] = 0;
    if (pool->held > 0)
        give_back_some(pool, page, n);
    else
        give_back(pool, page, n);
}

void blkpool_hold(struct blkpool *pool, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++)
        if (!pool->hold[i]) {
            pool->hold[i] = BLKPOOL_HELD;
            pool->held++;
        }
}

bool blkpool_holds(const struct blkpool *pool, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; pool->held > 0 && i < first + n; i++)
        if (pool->hold[i])
            return true;
    return false;
}

void blkpool_release(struct blkpool *pool)
{
    for (uint32_t i = 0; i < pool->pages && pool->held > 0; i++) {
        if (!pool->hold[i])
            continue;
        if (pool->hold[i] & BLKPOOL_LIMBO)
            give_back(pool, i, 1);
        pool->hold[i] = 0;
        pool->held--;
    }
}
