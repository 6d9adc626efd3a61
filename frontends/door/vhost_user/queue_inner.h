/* SPDX-License-Identifier: MIT */
/* queue_inner.h - what queue.c, split.c and packed.c share. */
#ifndef BULKHEAD_VHOST_QUEUE_INNER_H
#define BULKHEAD_VHOST_QUEUE_INNER_H

#include <errno.h>
#include <string.h>

#include "../../../hyp-shim/ring.h"
#include "inflight.h"
#include "memory.h"
#include "queue.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u

/* Shared memory is read and written through these: once, whole. */
static inline uint16_t load16(const void *p)
{
    return __atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED);
}

static inline uint16_t load16_acquire(const void *p)
{
    return __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE);
}

static inline uint64_t load64(const void *p)
{
    return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
}

static inline void store16(void *p, uint16_t value)
{
    __atomic_store_n((uint16_t *)p, value, __ATOMIC_RELAXED);
}

static inline void store16_release(void *p, uint16_t value)
{
    __atomic_store_n((uint16_t *)p, value, __ATOMIC_RELEASE);
}

static inline void store32(void *p, uint32_t value)
{
    __atomic_store_n((uint32_t *)p, value, __ATOMIC_RELAXED);
}

/* A descriptor as it lies in memory, the last two words as they come. */
static inline struct vhost_desc desc_load(const void *at)
{
    uint64_t addr = load64(at), rest = load64((const char *)at + 8);
    return (struct vhost_desc){ .addr = addr, .len = (uint32_t)rest, .flags = (uint16_t)(rest >> 32),
                                .next = (uint16_t)(rest >> 48) };
}

static inline struct vhost_desc desc_load_packed(const void *at)
{
    struct vhost_desc d = desc_load(at);
    uint16_t id = d.flags;
    d.flags = d.next;
    d.next = id;
    return d;
}

static inline int queue_bad(struct vhost_queue *q, enum vhost_bad bad)
{
    q->bad = bad;
    return -EPROTO;
}

static inline bool is_taken(const struct vhost_queue *q, uint16_t id)
{
    return q->taken[id / 64] >> (id % 64) & 1;
}

static inline void set_taken(struct vhost_queue *q, uint16_t id)
{
    q->taken[id / 64] |= UINT64_C(1) << (id % 64);
}

static inline void clear_taken(struct vhost_queue *q, uint16_t id)
{
    q->taken[id / 64] &= ~(UINT64_C(1) << (id % 64));
}

/* Somewhere to touch soon, for reading; wherever it points. */
static inline void prefetch_guest(const struct vhost_memory *mem, uint64_t addr)
{
    const void *at = vhost_memory_hot(mem, addr, 1);
    if (at)
        __builtin_prefetch(at);
}

int chain_add_slow(struct vhost_queue *q, struct vhost_chain *out, const struct vhost_desc *d);

static inline void chain_begin(struct vhost_chain *out)
{
    out->nout = out->nin = 0;
    out->out_bytes = out->in_bytes = 0;
}

/* One descriptor's bytes. */
static inline int chain_add(struct vhost_queue *q, struct vhost_chain *out, const struct vhost_desc *d)
{
    unsigned n = (unsigned)out->nout + out->nin;
    void *at = vhost_memory_hot(q->mem, d->addr, d->len);
    if (unlikely(!at || d->len == 0 || n == VHOST_PIECES_MAX))
        return chain_add_slow(q, out, d);
    uint32_t *bytes = d->flags & DESC_WRITE ? &out->in_bytes : &out->out_bytes;
    if (unlikely(!(d->flags & DESC_WRITE) && out->nin > 0))
        return queue_bad(q, VHOST_BAD_ORDER);
    if (unlikely(d->len > UINT32_MAX - *bytes))
        return queue_bad(q, VHOST_BAD_LENGTH);
    *bytes += d->len;
    out->piece[n] = (struct iovec){ at, d->len };
    if (d->flags & DESC_WRITE)
        out->nin++;
    else
        out->nout++;
    return 0;
}

/* All of an indirect table. */
int chain_add_table(struct vhost_queue *q, struct vhost_chain *out, const struct vhost_desc *table);

int split_start(struct vhost_queue *q, uint32_t base);
int split_next(struct vhost_queue *q, struct vhost_chain *out);
int split_again(struct vhost_queue *q, uint16_t id, struct vhost_chain *out);
unsigned split_available(struct vhost_queue *q);
void split_done(struct vhost_queue *q, uint16_t id, uint32_t written);
bool split_publish(struct vhost_queue *q);
void split_quiet(struct vhost_queue *q);
void split_listen(struct vhost_queue *q);

int packed_start(struct vhost_queue *q, uint32_t base);
uint32_t packed_base(const struct vhost_queue *q);
int packed_next(struct vhost_queue *q, struct vhost_chain *out);
int packed_again(struct vhost_queue *q, uint16_t id, struct vhost_chain *out);
void packed_undo(struct vhost_queue *q, const struct vhost_chain *chain);
bool packed_waits(const struct vhost_queue *q);
void packed_done(struct vhost_queue *q, uint16_t id, uint16_t slots, uint32_t written);
bool packed_publish(struct vhost_queue *q);
void packed_quiet(struct vhost_queue *q);
void packed_listen(struct vhost_queue *q);
void packed_take_note_away(struct vhost_queue *q);

/* What the incarnation before left comes first.  slots: what it takes. */
int queue_recover(struct vhost_queue *q, uint16_t *position, bool (*shown)(void *, uint16_t),
                  unsigned *slots);

#endif
