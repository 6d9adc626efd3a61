/* SPDX-License-Identifier: MIT */
#include "netbuf.h"

#include <errno.h>
#include <stdlib.h>

int netbufs_init(struct netbufs *b, struct hyp_pool *pool, uint32_t page, uint32_t n)
{
    uint8_t *base = hyp_pool_base(pool);
    *b = (struct netbufs){ .base = base + (size_t)page * HYP_PAGE_SIZE, .n = n, .page = page };
    b->buf = calloc(n, sizeof(*b->buf));
    b->free = calloc(n, sizeof(*b->free));
    if (!b->buf || !b->free)
        return -ENOMEM;
    for (; b->nfree < n; b->nfree++) {
        b->buf[b->nfree].id = (uint16_t)b->nfree;
        b->free[b->nfree] = (uint16_t)b->nfree;
    }
    return 0;
}

void netbufs_destroy(struct netbufs *b)
{
    free(b->buf);
    free(b->free);
    *b = (struct netbufs){ 0 };
}

uint64_t netbufs_lose(struct netbufs *b)
{
    uint64_t packets = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        struct netbuf *buf = &b->buf[i];
        if (buf->owner != NETBUF_RING && buf->owner != NETBUF_HELD)
            continue;
        packets += buf->head;
        netbuf_free(b, i);
    }
    return packets;
}

void netbufs_name(struct netbufs *b, const struct hyp_pool *pool)
{
    for (uint32_t i = 0; i < b->n; i++)
        b->buf[i].ref = hyp_pool_ref(pool, b->page + i);
}
