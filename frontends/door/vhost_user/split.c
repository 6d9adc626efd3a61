/* SPDX-License-Identifier: MIT */
#include "queue_inner.h"

/*
 * In memory (virtio 1.2, 2.7): descriptors of 16 bytes; available: flags, idx, ring[size],
 * used_event; used: flags, idx, { id, len }[size], avail_event.
 */
#define AVAIL_RING 4u
#define USED_RING  4u
#define AVAIL_NO_INTERRUPT 1u
#define USED_NO_NOTIFY     1u

/* How far ahead descriptors and what they point to are fetched. */
#define AHEAD_DESC 6u
#define AHEAD_DATA 3u

static const char *desc_at(const struct vhost_queue *q, uint16_t i)
{
    return (const char *)q->desc + (size_t)i * 16;
}

static const char *avail_at(const struct vhost_queue *q, uint16_t index)
{
    return (const char *)q->avail + AVAIL_RING + (size_t)(index & (q->size - 1)) * 2;
}

static char *used_at(const struct vhost_queue *q, uint16_t index)
{
    return (char *)q->used + USED_RING + (size_t)(index & (q->size - 1)) * 8;
}

static bool shown_since(void *arg, uint16_t position)
{
    const struct vhost_queue *q = arg;
    return load16((const char *)q->used + 2) != position;
}

int split_start(struct vhost_queue *q, uint32_t base)
{
    size_t event = q->event_idx ? 2 : 0;
    q->desc = vhost_memory_user(q->mem, q->desc_user, (uint64_t)q->size * 16);
    q->avail = vhost_memory_user(q->mem, q->avail_user, AVAIL_RING + (uint64_t)q->size * 2 + event);
    q->used = vhost_memory_user(q->mem, q->used_user, USED_RING + (uint64_t)q->size * 8 + event);
    if (!q->desc || !q->avail || !q->used || (uintptr_t)q->desc % 16 || (uintptr_t)q->avail % 2 ||
        (uintptr_t)q->used % 4)
        return queue_bad(q, VHOST_BAD_MEMORY);

    unsigned slots;
    uint16_t position = load16((const char *)q->used + 2);
    q->next_used = q->published = position;
    int used = queue_recover(q, &position, shown_since, &slots);
    if (used < 0)
        return used;
    q->next_avail = used ? (uint16_t)(q->next_used + slots) : (uint16_t)base;
    q->avail_seen = q->next_avail;
    return 0;
}

/* Follows a chain from its head. */
static int walk(struct vhost_queue *q, uint16_t head, struct vhost_chain *out)
{
    struct vhost_desc d = desc_load(desc_at(q, head));
    chain_begin(out);
    out->id = head;
    out->slots = 1;
    for (unsigned count = 1;; count++) {
        if (d.flags & DESC_INDIRECT)
            return chain_add_table(q, out, &d);
        int err = chain_add(q, out, &d);
        if (err)
            return err;
        if (!(d.flags & DESC_NEXT))
            return 0;
        if (count == q->size)
            return queue_bad(q, VHOST_BAD_LOOP);
        if (d.next >= q->size)
            return queue_bad(q, VHOST_BAD_INDEX);
        d = desc_load(desc_at(q, d.next));
    }
}

int split_again(struct vhost_queue *q, uint16_t id, struct vhost_chain *out)
{
    return walk(q, id, out);
}

/* The guest may be at work there: nothing that is read here is believed. */
static void look_ahead(const struct vhost_queue *q)
{
    uint16_t waiting = (uint16_t)(q->avail_seen - q->next_avail);
    if (waiting <= AHEAD_DATA)
        return;
    uint16_t near = load16(avail_at(q, (uint16_t)(q->next_avail + AHEAD_DATA))) & (q->size - 1);
    prefetch_guest(q->mem, load64(desc_at(q, near)));
    if (waiting > AHEAD_DESC) {
        uint16_t far = load16(avail_at(q, (uint16_t)(q->next_avail + AHEAD_DESC))) & (q->size - 1);
        __builtin_prefetch(desc_at(q, far));
    }
}

int split_next(struct vhost_queue *q, struct vhost_chain *out)
{
    if (q->avail_seen == q->next_avail) {
        q->avail_seen = load16_acquire((const char *)q->avail + 2);
        if (q->avail_seen == q->next_avail)
            return 0;
        if (unlikely((uint16_t)(q->avail_seen - q->next_avail) > q->size)) {
            q->avail_seen = q->next_avail;
            return queue_bad(q, VHOST_BAD_INDEX);
        }
    }
    look_ahead(q);
    uint16_t head = load16(avail_at(q, q->next_avail));
    if (unlikely(head >= q->size))
        return queue_bad(q, VHOST_BAD_INDEX);
    if (unlikely(is_taken(q, head)))
        return queue_bad(q, VHOST_BAD_ID);
    int err = walk(q, head, out);
    if (unlikely(err))
        return err;
    set_taken(q, head);
    q->next_avail++;
    q->outstanding++;
    if (unlikely(q->inflight))
        vhost_inflight_taken(q->inflight, head, NULL, 0);
    return 1;
}

unsigned split_available(struct vhost_queue *q)
{
    uint16_t n = (uint16_t)(load16_acquire((const char *)q->avail + 2) - q->next_avail);
    return n < q->size ? n : q->size;
}

void split_done(struct vhost_queue *q, uint16_t id, uint32_t written)
{
    char *at = used_at(q, q->next_used++);
    store32(at, id);
    store32(at + 4, written);
}

bool split_publish(struct vhost_queue *q)
{
    uint16_t old = q->published;
    if (q->next_used == old)
        return false;
    q->published = q->next_used;
    if (unlikely(q->inflight))
        vhost_inflight_showing(q->inflight, q->next_used);
    store16_release((char *)q->used + 2, q->next_used);
    if (unlikely(q->inflight))
        vhost_inflight_shown(q->inflight);
    ring_full_barrier();
    if (!q->event_idx)
        return !(load16(q->avail) & AVAIL_NO_INTERRUPT);
    uint16_t event = load16((const char *)q->avail + AVAIL_RING + (size_t)q->size * 2);
    return (uint16_t)(q->next_used - event - 1) < (uint16_t)(q->next_used - old);
}

void split_quiet(struct vhost_queue *q)
{
    /* With an event index the one that was asked for stays behind. */
    if (!q->event_idx)
        store16(q->used, USED_NO_NOTIFY);
}

void split_listen(struct vhost_queue *q)
{
    if (q->event_idx)
        store16((char *)q->used + USED_RING + (size_t)q->size * 8, q->next_avail);
    else
        store16(q->used, 0);
}
