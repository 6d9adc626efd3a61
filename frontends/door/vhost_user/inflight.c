/* SPDX-License-Identifier: MIT */
#include "inflight.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define MAGIC UINT64_C(0x3174696c66686b62) /* "bkhflit1" */
#define QUEUES_MAX 64u

enum { FREE, TAKEN, SHOWING };

struct inflight_id {
    uint8_t state, padding;
    uint16_t head, n; /* packed: its descriptors' places                                 */
    uint16_t padding2;
    uint64_t counter;
};

struct inflight_region {
    uint64_t magic; /* 0: new                                                            */
    uint16_t entries, packed;
    uint16_t position; /* where the ring stands, as far as the marks tell                */
    uint16_t after;    /* where it stands when the marks are shown                       */
    uint64_t padding[6];
    struct inflight_id id[];
    /* then a struct vhost_desc for each id, `next` the next place */
};
_Static_assert(sizeof(struct inflight_region) == 64 && sizeof(struct inflight_id) == 16, "as it was");

/* What lies before this is written before what lies behind: for the next incarnation. */
#define in_this_order() atomic_signal_fence(memory_order_seq_cst)

static size_t queue_bytes(unsigned size)
{
    return sizeof(struct inflight_region) + size * (sizeof(struct inflight_id) + sizeof(struct vhost_desc));
}

size_t vhost_inflight_bytes(unsigned queues, unsigned size)
{
    if (queues == 0 || queues > QUEUES_MAX || size == 0 || size > VHOST_QUEUE_SIZE_MAX)
        return 0;
    return queues * queue_bytes(size);
}

int vhost_inflight_open(struct vhost_inflight_queue *f, void *region, size_t bytes, unsigned i,
                        unsigned size)
{
    if (size == 0 || size > VHOST_QUEUE_SIZE_MAX || i >= bytes / queue_bytes(size) || (uintptr_t)region % 8)
        return -EINVAL;
    f->at = (struct inflight_region *)((char *)region + i * queue_bytes(size));
    f->size = (uint16_t)size;
    f->counter = 0;
    f->nbatch = f->nfree = 0;
    return 0;
}

/* Read once: the VMM may be at work there. */
static struct inflight_id id_load(const struct vhost_inflight_queue *f, unsigned i)
{
    const uint64_t *at = (const uint64_t *)&f->at->id[i];
    uint64_t words[2] = { __atomic_load_n(at, __ATOMIC_RELAXED), __atomic_load_n(at + 1, __ATOMIC_RELAXED) };
    struct inflight_id id;
    memcpy(&id, words, sizeof(id));
    return id;
}

static struct vhost_desc *places(const struct vhost_inflight_queue *f)
{
    return (struct vhost_desc *)(f->at->id + f->size);
}

/* -------------------------------------------------------------- under way */

void vhost_inflight_taken(struct vhost_inflight_queue *f, uint16_t id, const struct vhost_desc *desc,
                          unsigned n)
{
    struct inflight_id *entry = &f->at->id[id];
    uint16_t head = 0, before = 0;
    for (unsigned i = 0; i < n; i++) {
        uint16_t place = f->free[--f->nfree];
        places(f)[place] = desc[i];
        if (i == 0) {
            head = place;
        } else {
            f->next[before] = place;
            places(f)[before].next = place;
        }
        before = place;
    }
    f->head[id] = head;
    f->n[id] = (uint16_t)n;
    entry->head = head;
    entry->n = (uint16_t)n;
    entry->counter = f->counter++;
    in_this_order();
    entry->state = TAKEN;
    in_this_order();
}

static void forget(struct vhost_inflight_queue *f, uint16_t id)
{
    f->at->id[id].state = FREE;
    for (uint16_t i = 0, place = f->head[id]; i < f->n[id]; i++, place = f->next[place])
        f->free[f->nfree++] = place;
    f->n[id] = 0;
}

void vhost_inflight_untaken(struct vhost_inflight_queue *f, uint16_t id)
{
    forget(f, id);
    in_this_order();
}

void vhost_inflight_done(struct vhost_inflight_queue *f, uint16_t id)
{
    f->at->id[id].state = SHOWING;
    f->batch[f->nbatch++] = id;
}

void vhost_inflight_showing(struct vhost_inflight_queue *f, uint16_t position)
{
    in_this_order();
    f->at->after = position;
    in_this_order();
}

void vhost_inflight_shown(struct vhost_inflight_queue *f)
{
    in_this_order();
    for (unsigned i = 0; i < f->nbatch; i++)
        forget(f, f->batch[i]);
    f->nbatch = 0;
    in_this_order();
    f->at->position = f->at->after;
    in_this_order();
}

/* ---------------------------------------------------------------- recovery */

static void make_new(struct vhost_inflight_queue *f, bool packed, uint16_t entries, uint16_t position)
{
    struct inflight_region *r = f->at;
    for (unsigned i = 0; i < f->size; i++)
        r->id[i] = (struct inflight_id){ .state = FREE };
    r->entries = entries;
    r->packed = packed;
    r->position = r->after = position;
    in_this_order();
    r->magic = MAGIC;
    in_this_order();
}

/* The descriptors that are kept, and the places that are free. */
static int take_over_places(struct vhost_inflight_queue *f, uint16_t entries)
{
    bool used[VHOST_QUEUE_SIZE_MAX] = { false };
    unsigned total = 0;
    for (unsigned i = 0; i < entries; i++) {
        struct inflight_id id = id_load(f, i);
        if (id.state == FREE)
            continue;
        if (id.n == 0 || id.n > entries - total)
            return -EINVAL;
        total += id.n;
        f->n[i] = id.n;
        f->head[i] = id.head;
        for (uint16_t k = 0, place = id.head; k < id.n; k++) {
            if (place >= entries || used[place])
                return -EINVAL;
            used[place] = true;
            f->next[place] = __atomic_load_n(&places(f)[place].next, __ATOMIC_RELAXED);
            place = f->next[place];
        }
    }
    for (unsigned i = 0; i < entries; i++)
        if (!used[i])
            f->free[f->nfree++] = (uint16_t)i;
    return 0;
}

/* What the marks mean: taken and not shown, or shown. */
static void settle(struct vhost_inflight_queue *f, uint16_t entries, bool shown)
{
    for (unsigned i = 0; i < entries; i++) {
        if (f->at->id[i].state != SHOWING)
            continue;
        if (shown)
            forget(f, (uint16_t)i);
        else
            f->at->id[i].state = TAKEN;
    }
}

int vhost_inflight_recover(struct vhost_inflight_queue *f, bool packed, uint16_t entries, uint16_t *position,
                           bool (*shown)(void *arg, uint16_t position), void *arg)
{
    struct inflight_region *r = f->at;
    bool showing = false;
    if (entries > f->size)
        return -EINVAL;
    f->nbatch = f->nfree = 0;
    f->counter = 0;
    memset(f->n, 0, sizeof(f->n));
    if (r->magic == 0) {
        make_new(f, packed, entries, *position);
        return packed ? take_over_places(f, entries) : 0;
    }
    uint16_t at = r->position, after = r->after;
    if (r->magic != MAGIC || r->entries != entries || r->packed != packed)
        return -EINVAL;
    for (unsigned i = 0; i < entries; i++) {
        struct inflight_id id = id_load(f, i);
        if (id.state > SHOWING || id.counter == UINT64_MAX)
            return -EINVAL;
        showing |= id.state == SHOWING;
        if (id.state != FREE && id.counter >= f->counter)
            f->counter = id.counter + 1;
    }
    if (packed && take_over_places(f, entries))
        return -EINVAL;

    /* Marks and a position that is not yet moved: only the ring knows.  No marks any more, and
     * not moved: they went because it was shown. */
    bool was_shown = packed ? at != after && (!showing || shown(arg, at)) : shown(arg, at);
    if (packed)
        *position = was_shown ? after : at;
    if (!was_shown)
        r->after = at;
    in_this_order();
    settle(f, entries, was_shown);
    in_this_order();
    r->position = r->after = *position;
    in_this_order();
    return 1;
}

int vhost_inflight_list(struct vhost_inflight_queue *f, uint16_t ids[VHOST_QUEUE_SIZE_MAX], unsigned *slots)
{
    uint64_t counter[VHOST_QUEUE_SIZE_MAX];
    unsigned n = 0;
    bool packed = f->at->packed;
    *slots = 0;
    for (unsigned i = 0; i < f->size; i++) {
        struct inflight_id id = id_load(f, i);
        if (id.state == FREE)
            continue;
        if (packed && f->n[i] == 0)
            return -EINVAL;
        unsigned to = n++;
        for (; to > 0 && counter[to - 1] > id.counter; to--) {
            counter[to] = counter[to - 1];
            ids[to] = ids[to - 1];
        }
        counter[to] = id.counter;
        ids[to] = (uint16_t)i;
        *slots += packed ? f->n[i] : 1;
    }
    return (int)n;
}

unsigned vhost_inflight_read(const struct vhost_inflight_queue *f, uint16_t id, struct vhost_desc *desc,
                             unsigned n)
{
    unsigned i = 0;
    for (uint16_t place = f->head[id]; i < f->n[id] && i < n; i++, place = f->next[place])
        desc[i] = places(f)[place];
    return i;
}
