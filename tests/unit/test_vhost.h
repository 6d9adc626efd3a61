/* SPDX-License-Identifier: MIT */
/*
 * test_vhost.h - a guest for tests of the vhost-user door: memory in a memfd, and a
 * driver for split and packed rings that lies only when it is told to.
 */
#ifndef BULKHEAD_TEST_VHOST_H
#define BULKHEAD_TEST_VHOST_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "frontends/door/vhost_user/queue.h"
#include "hyp-shim/local/guard.h"

#define GUEST_AT    UINT64_C(0x100000)        /* guest physical                         */
#define GUEST_USER  UINT64_C(0x7f1200000000)  /* in the VMM                             */
#define GUEST_BYTES ((size_t)1 << 20)

/* Where things lie. */
#define RINGS_AT 0x0u
#define RING_BYTES 0x10000u /* of one queue                                            */
#define DATA_AT  0x40000u

#define F_NEXT     1u
#define F_WRITE    2u
#define F_INDIRECT 4u
#define P_AVAIL    (1u << 7)
#define P_USED     (1u << 15)

struct guest {
    int fd;
    char *at;
};

static inline void guest_open(struct guest *g)
{
    g->fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(g->fd >= 0);
    assert_int_equal(ftruncate(g->fd, GUEST_BYTES), 0);
    g->at = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, g->fd, 0);
    assert_ptr_not_equal(g->at, MAP_FAILED);
    assert_int_equal(guard_install(), 0);
}

static inline void guest_close(struct guest *g)
{
    munmap(g->at, GUEST_BYTES);
    close(g->fd);
}

static inline struct vhost_region_at guest_region(void)
{
    return (struct vhost_region_at){ .guest = GUEST_AT, .bytes = GUEST_BYTES, .user = GUEST_USER };
}

struct buffer {
    uint64_t addr; /* guest physical */
    uint32_t len;
    bool write;
};

static inline struct buffer readable(uint32_t at, uint32_t len)
{
    return (struct buffer){ GUEST_AT + DATA_AT + at, len, false };
}

static inline struct buffer writable(uint32_t at, uint32_t len)
{
    return (struct buffer){ GUEST_AT + DATA_AT + at, len, true };
}

struct raw_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t a, b; /* split: flags, next; packed: id, flags */
};

struct driver {
    struct guest *g;
    bool packed, event_idx;
    uint16_t size;
    uint32_t ring_at; /* of this queue, in the guest's memory                            */
    uint16_t next_avail, next_used;
    bool avail_wrap, used_wrap;
    uint16_t free_n, free_id[1024]; /* split: descriptors; packed: ids                   */
    uint16_t free_slots;
    uint16_t length[1024];          /* of the chain with that id                         */
    uint16_t link[1024];            /* split: what the driver believes is next           */
};

static inline struct raw_desc *driver_desc(struct driver *d, unsigned i)
{
    return (struct raw_desc *)(d->g->at + d->ring_at) + i;
}

static inline uint16_t *driver_avail(struct driver *d)
{
    return (uint16_t *)(d->g->at + d->ring_at + 0x8000);
}

static inline uint16_t *driver_used_ring(struct driver *d)
{
    return (uint16_t *)(d->g->at + d->ring_at + 0xc000);
}

static inline void driver_open(struct driver *d, struct guest *g, bool packed, uint16_t size, unsigned queue)
{
    *d = (struct driver){ .g = g, .packed = packed, .size = size, .ring_at = RINGS_AT + queue * RING_BYTES,
                          .avail_wrap = true, .used_wrap = true, .free_slots = size };
    memset(g->at + d->ring_at, 0, RING_BYTES);
    for (unsigned i = 0; i < size; i++)
        d->free_id[d->free_n++] = (uint16_t)(size - 1 - i);
}

/* Tells the queue where it is. */
static inline void driver_describe(const struct driver *d, struct vhost_queue *q, struct vhost_memory *mem)
{
    q->mem = mem;
    q->size = d->size;
    q->packed = d->packed;
    q->event_idx = d->event_idx;
    q->indirect = true;
    q->desc_user = GUEST_USER + d->ring_at;
    q->avail_user = q->desc_user + 0x8000;
    q->used_user = q->desc_user + 0xc000;
    q->call_fd = q->kick_fd = -1;
}

static inline uint32_t driver_base(const struct driver *d)
{
    return d->packed ? 0x8000 : 0;
}

static inline uint16_t packed_flags(bool wrap, uint16_t more)
{
    return (uint16_t)((wrap ? P_AVAIL : P_USED) | more);
}

static inline void driver_step(const struct driver *d, uint16_t *index, bool *wrap, unsigned by)
{
    unsigned to = *index + by;
    if (to >= d->size) {
        to -= d->size;
        *wrap = !*wrap;
    }
    *index = (uint16_t)to;
}

/* Descriptors of a table at `table` in the guest's memory. */
static inline void driver_table(struct driver *d, uint32_t table, const struct buffer *b, unsigned n)
{
    struct raw_desc *t = (struct raw_desc *)(d->g->at + table);
    for (unsigned i = 0; i < n; i++) {
        uint16_t flags = (uint16_t)((b[i].write ? F_WRITE : 0) | (i + 1 < n && !d->packed ? F_NEXT : 0));
        t[i] = (struct raw_desc){ .addr = b[i].addr, .len = b[i].len };
        t[i].a = d->packed ? 0 : flags;
        t[i].b = d->packed ? flags : (uint16_t)(i + 1);
    }
}

static inline uint16_t add_split(struct driver *d, const struct buffer *b, unsigned n, uint16_t more)
{
    uint16_t head = d->free_id[d->free_n - 1], before = head;
    for (unsigned i = 0; i < n; i++) {
        uint16_t at = d->free_id[--d->free_n];
        struct raw_desc *raw = driver_desc(d, at);
        *raw = (struct raw_desc){ .addr = b[i].addr, .len = b[i].len };
        raw->a = (uint16_t)((b[i].write ? F_WRITE : 0) | (i + 1 < n ? F_NEXT : 0) | more);
        if (i > 0) {
            driver_desc(d, before)->b = at;
            d->link[before] = at;
        }
        before = at;
    }
    d->length[head] = (uint16_t)n;
    uint16_t *avail = driver_avail(d);
    avail[2 + (d->next_avail & (d->size - 1))] = head;
    d->next_avail++;
    __atomic_store_n(&avail[1], d->next_avail, __ATOMIC_RELEASE);
    return head;
}

static inline uint16_t add_packed(struct driver *d, const struct buffer *b, unsigned n, uint16_t more)
{
    uint16_t id = d->free_id[--d->free_n], at = d->next_avail, first_flags = 0;
    bool wrap = d->avail_wrap;
    struct raw_desc *first = driver_desc(d, at);
    for (unsigned i = 0; i < n; i++) {
        unsigned kind = (b[i].write ? F_WRITE : 0) | (i + 1 < n ? F_NEXT : 0) | more;
        uint16_t flags = packed_flags(wrap, (uint16_t)kind);
        struct raw_desc *raw = driver_desc(d, at);
        raw->addr = b[i].addr;
        raw->len = b[i].len;
        raw->a = id;
        if (i == 0)
            first_flags = flags;
        else
            raw->b = flags;
        driver_step(d, &at, &wrap, 1);
    }
    __atomic_store_n(&first->b, first_flags, __ATOMIC_RELEASE);
    d->next_avail = at;
    d->avail_wrap = wrap;
    d->free_slots = (uint16_t)(d->free_slots - n);
    d->length[id] = (uint16_t)n;
    return id;
}

static inline bool driver_room(const struct driver *d, unsigned n)
{
    return d->packed ? d->free_slots >= n && d->free_n > 0 : d->free_n >= n;
}

static inline uint16_t driver_add(struct driver *d, const struct buffer *b, unsigned n)
{
    return d->packed ? add_packed(d, b, n, 0) : add_split(d, b, n, 0);
}

/* By a table that lies at `table`. */
static inline uint16_t driver_add_indirect(struct driver *d, uint32_t table, const struct buffer *b,
                                           unsigned n)
{
    struct buffer whole = { GUEST_AT + table, n * 16, false };
    driver_table(d, table, b, n);
    return d->packed ? add_packed(d, &whole, 1, F_INDIRECT) : add_split(d, &whole, 1, F_INDIRECT);
}

/* One answer: its id, or -1. */
static inline int driver_used(struct driver *d, uint32_t *len)
{
    int id;
    if (!d->packed) {
        uint16_t *used = driver_used_ring(d);
        if (__atomic_load_n(&used[1], __ATOMIC_ACQUIRE) == d->next_used)
            return -1;
        uint32_t *elem = (uint32_t *)(used + 2) + (size_t)(d->next_used & (d->size - 1)) * 2;
        id = (int)elem[0];
        *len = elem[1];
        assert_true(id < d->size && d->length[id] > 0);
        d->next_used++;
        for (uint16_t i = 0, at = (uint16_t)id; i < d->length[id]; i++, at = d->link[at])
            d->free_id[d->free_n++] = at;
    } else {
        struct raw_desc *raw = driver_desc(d, d->next_used);
        uint16_t flags = __atomic_load_n(&raw->b, __ATOMIC_ACQUIRE);
        if (!!(flags & P_AVAIL) != d->used_wrap || !!(flags & P_USED) != d->used_wrap)
            return -1;
        id = raw->a;
        *len = raw->len;
        assert_true(id < d->size && d->length[id] > 0);
        driver_step(d, &d->next_used, &d->used_wrap, d->length[id]);
        d->free_slots = (uint16_t)(d->free_slots + d->length[id]);
        d->free_id[d->free_n++] = (uint16_t)id;
    }
    d->length[id] = 0;
    return id;
}

#endif
