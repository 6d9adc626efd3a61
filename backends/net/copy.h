/* SPDX-License-Identifier: MIT */
/*
 * copy.h - short copies between packets and granted pages.
 *
 * A packet of up to 128 bytes is copied in place, from both ends, exactly its
 * bytes; a longer one by memcpy().  After copying *from* shared memory call
 * copied() once before looking at what was copied: the compiler may not go
 * back to the shared page (as shared_read() says it for one copy).
 */
#ifndef BULKHEAD_NET_COPY_H
#define BULKHEAD_NET_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CACHE_LINE 64u

static inline void copy_bytes(uint8_t *to, const uint8_t *from, size_t n)
{
    if (n - 32 <= 32) {
        memcpy(to, from, 32);
        memcpy(to + n - 32, from + n - 32, 32);
    } else if (n - 64 <= 64) {
        memcpy(to, from, 64);
        memcpy(to + n - 64, from + n - 64, 64);
    } else {
        memcpy(to, from, n);
    }
}

static inline void copied(void)
{
    __asm__ volatile("" : : : "memory");
}

/* The first lines of each packet of a burst: all of them would not fit the cache. */
#define PREFETCH_LINES 4u

static inline void prefetch_read(const uint8_t *at, size_t n)
{
    __builtin_prefetch(at);
    if (n <= CACHE_LINE) {
        __builtin_prefetch(at + n - 1); /* it may straddle two */
        return;
    }
    for (unsigned i = 1; i < PREFETCH_LINES; i++)
        __builtin_prefetch(at + i * CACHE_LINE);
}

/* What prefetch_read() left of a long packet, while the one before it is copied. */
static inline void prefetch_rest(const uint8_t *at, size_t n)
{
    for (size_t done = PREFETCH_LINES * CACHE_LINE; done < n; done += CACHE_LINE)
        __builtin_prefetch(at + done);
}

static inline void prefetch_write(const uint8_t *at, size_t n)
{
    const uint8_t *end = at + (n < PREFETCH_LINES * CACHE_LINE ? n : PREFETCH_LINES * CACHE_LINE);
    for (; at < end; at += CACHE_LINE) {
#if defined(__x86_64__)
        __asm__ volatile("prefetchw %0" : : "m"(*at));
#else
        __builtin_prefetch(at, 1);
#endif
    }
}

#endif
