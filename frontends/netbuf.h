/* SPDX-License-Identifier: MIT */
/*
 * netbuf.h - who owns which buffer of a NIC's queue.
 *
 * A buffer is a page of the pool.  All that is known of it is in private memory.
 * One thread at a time.
 */
#ifndef BULKHEAD_NETBUF_H
#define BULKHEAD_NETBUF_H

#include <stddef.h>
#include <stdint.h>

#include "../hyp-shim/hyp.h"

enum netbuf_owner {
    NETBUF_FREE,   /* ours: to be lent, or to be posted                            */
    NETBUF_RING,   /* in flight, or posted                                         */
    NETBUF_HELD,   /* of a received packet that the caller had no room for         */
    NETBUF_CALLER,
};

struct netbuf {
    grant_ref_t ref;
    uint16_t id;   /* of its last sending: its number, and above that a count       */
    uint8_t owner; /* enum netbuf_owner                                            */
    uint8_t head;  /* in flight: first of its packet                               */
};

/*
 * The buffers of one direction, and a queue of the free ones: first in, first out.
 * The other side read, or wrote, a buffer that was just given back, and its processor
 * still holds the lines: writing to it at once costs 6 ns a line, five times as much
 * between distant processors.  The buffer that was given back longest ago costs least.
 */
struct netbufs {
    uint8_t *base;
    struct netbuf *buf;
    uint16_t *free;
    uint32_t first, nfree; /* free[first] is next; wraps at n                      */
    uint32_t n;
    uint32_t page; /* of the first one, in the pool                                */
};

/* n buffers from `page` of the pool on, all free. -ENOMEM; netbufs_destroy() in either case. */
int netbufs_init(struct netbufs *b, struct hyp_pool *pool, uint32_t page, uint32_t n);
void netbufs_destroy(struct netbufs *b);
/* There is no ring any more: takes back what was there; returns the packets. */
uint64_t netbufs_lose(struct netbufs *b);
/* Looks the grant references up; they change when the pool has another grantee. */
void netbufs_name(struct netbufs *b, const struct hyp_pool *pool);

/* The buffer that holds this address; b->n or more: none. */
static inline size_t netbuf_at(const struct netbufs *b, const void *data)
{
    return (size_t)((uintptr_t)data - (uintptr_t)b->base) >> HYP_PAGE_SHIFT;
}

static inline void *netbuf_data(const struct netbufs *b, uint32_t i)
{
    return b->base + (size_t)i * HYP_PAGE_SIZE;
}

/* The k-th of the free ones, k < nfree: its place in `free`. */
static inline uint32_t netbuf_place(const struct netbufs *b, uint32_t k)
{
    uint32_t at = b->first + k;
    return at < b->n ? at : at - b->n;
}

static inline void netbuf_free(struct netbufs *b, uint32_t i)
{
    b->buf[i].owner = NETBUF_FREE;
    b->free[netbuf_place(b, b->nfree++)] = (uint16_t)i;
}

static inline uint32_t netbuf_take(struct netbufs *b, enum netbuf_owner owner)
{
    uint32_t i = b->free[b->first];
    b->first = netbuf_place(b, 1);
    b->nfree--;
    b->buf[i].owner = (uint8_t)owner;
    return i;
}

/* From the caller; what is not the caller's changes nothing. */
static inline void netbuf_back(struct netbufs *b, const void *data)
{
    size_t i = netbuf_at(b, data);
    if (i < b->n && b->buf[i].owner == NETBUF_CALLER)
        netbuf_free(b, (uint32_t)i);
}

#endif
