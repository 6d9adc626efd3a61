/* SPDX-License-Identifier: MIT */
#include "vuring.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "../../hyp-shim/ring.h"

#define DESC_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define DESC_USED  (1u << VRING_PACKED_DESC_F_USED)

/* Split: avail { flags, idx, ring[], used_event }, used { flags, idx, ring[{id, len}], avail_event }.
 * Packed: event structures { off_wrap, flags }. */

static uint16_t load16(const uint8_t *at)
{
    return __atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_ACQUIRE);
}

static void store16(uint8_t *at, uint16_t value)
{
    __atomic_store_n((uint16_t *)(void *)at, value, __ATOMIC_RELEASE);
}

static uint8_t *avail_entry(const struct vuring *r, uint16_t i)
{
    return r->driver + 4 + 2u * (i & (r->size - 1u));
}

static uint8_t *used_event(const struct vuring *r)
{
    return r->driver + 4 + 2u * r->size;
}

static uint8_t *used_entry(const struct vuring *r, uint16_t i)
{
    return r->device + 4 + 8u * (i & (r->size - 1u));
}

static uint8_t *avail_event(const struct vuring *r)
{
    return r->device + 4 + 8u * r->size;
}

size_t vuring_bytes(uint16_t size, bool packed, size_t *driver_at, size_t *device_at)
{
    size_t desc = 16u * (size_t)size;
    size_t driver = packed ? 4 : 6 + 2u * (size_t)size;
    size_t device = packed ? 4 : 6 + 8u * (size_t)size;
    *driver_at = (desc + 63) / 64 * 64;
    *device_at = (*driver_at + driver + 63) / 64 * 64; /* of lines that the device writes */
    return *device_at + device;
}

void vuring_init(struct vuring *r, void *memory, uint16_t size, bool packed, bool event_idx)
{
    size_t driver_at, device_at;
    vuring_bytes(size, packed, &driver_at, &device_at);
    memset(r, 0, sizeof(*r));
    r->size = size;
    r->packed = packed;
    r->event_idx = event_idx;
    r->desc = memory;
    r->driver = r->desc + driver_at;
    r->device = r->desc + device_at;
    r->free = size;
    for (unsigned i = 0; i < size; i++)
        r->next[i] = (uint16_t)(i + 1);
    r->avail_wrap = r->used_wrap = r->told_wrap = true;
}

uint32_t vuring_base(const struct vuring *r)
{
    return r->packed ? 0x80008000u : load16(r->device + 2);
}

/* ------------------------------------------------------------------------ split */

static uint16_t flags_of(const struct vuring_piece *p, bool more)
{
    return (uint16_t)((more ? VRING_DESC_F_NEXT : 0) | (p->written ? VRING_DESC_F_WRITE : 0));
}

static void put_split(void *at, const struct vuring_piece *p, bool more, uint16_t next)
{
    *(struct vring_desc *)at = (struct vring_desc){
        .addr = p->guest, .len = p->bytes, .flags = flags_of(p, more), .next = more ? next : 0};
}

static void add_split(struct vuring *r, const struct vuring_piece *piece, unsigned n, void *table,
                      uint64_t table_guest, uint16_t slot)
{
    struct vring_desc *desc = (void *)r->desc, *indirect = table;
    uint16_t head = r->free_id, at = head;
    unsigned count = table ? 1 : n;
    if (table) {
        for (unsigned i = 0; i < n; i++)
            put_split(&indirect[i], &piece[i], i + 1 < n, (uint16_t)(i + 1));
        desc[head] = (struct vring_desc){
            .addr = table_guest, .len = n * (uint32_t)sizeof(desc[0]), .flags = VRING_DESC_F_INDIRECT};
        r->free_id = r->next[head];
    } else {
        for (unsigned i = 0; i < n; i++, at = r->next[at])
            put_split(&desc[at], &piece[i], i + 1 < n, r->next[at]);
        r->free_id = at;
    }
    r->slot[head] = slot;
    r->count[head] = (uint16_t)count;
    r->in_flight[head] = true;
    r->free = (uint16_t)(r->free - count);
    *(uint16_t *)(void *)avail_entry(r, r->avail++) = head;
}

static bool publish_split(struct vuring *r)
{
    uint16_t before = r->told;
    if (r->avail == before)
        return false;
    store16(r->driver + 2, r->avail);
    r->told = r->avail;
    ring_full_barrier();
    if (!r->event_idx)
        return !(load16(r->device) & VRING_USED_F_NO_NOTIFY);
    uint16_t event = load16(avail_event(r));
    return (uint16_t)(r->avail - event - 1) < (uint16_t)(r->avail - before);
}

static int take_split(struct vuring *r, uint16_t *slot, uint32_t *written)
{
    if (load16(r->device + 2) == r->used)
        return 0;
    uint32_t entry[2];
    memcpy(entry, used_entry(r, r->used), sizeof(entry));
    uint32_t head = entry[0];
    if (head >= r->size || !r->in_flight[head])
        return -EPROTO;
    r->used++;
    r->in_flight[head] = false;
    *slot = r->slot[head];
    *written = entry[1];
    /* The chain goes back as a whole: its links are still in next[]. */
    uint16_t last = (uint16_t)head;
    for (unsigned i = 1; i < r->count[head]; i++)
        last = r->next[last];
    r->next[last] = r->free_id;
    r->free_id = (uint16_t)head;
    r->free = (uint16_t)(r->free + r->count[head]);
    return 1;
}

/* ----------------------------------------------------------------------- packed */

static struct vring_packed_desc *place(const struct vuring *r, uint16_t i)
{
    return (struct vring_packed_desc *)(void *)r->desc + i;
}

static uint16_t packed_flags(const struct vuring *r, uint16_t flags)
{
    return (uint16_t)(flags | (r->avail_wrap ? DESC_AVAIL : DESC_USED));
}

/* The first of all that is published together shows itself last. */
static void put_packed(struct vuring *r, struct vring_packed_desc desc, uint16_t flags)
{
    struct vring_packed_desc *at = place(r, r->avail);
    flags = packed_flags(r, flags);
    at->addr = desc.addr;
    at->len = desc.len;
    at->id = desc.id;
    if (r->places == 0)
        r->first_flags = flags;
    else
        __atomic_store_n(&at->flags, flags, __ATOMIC_RELAXED);
    r->places++;
    if (++r->avail == r->size) {
        r->avail = 0;
        r->avail_wrap = !r->avail_wrap;
    }
}

static void add_packed(struct vuring *r, const struct vuring_piece *piece, unsigned n, void *table,
                       uint64_t table_guest, uint16_t slot)
{
    struct vring_packed_desc *indirect = table;
    uint16_t id = r->free_id;
    unsigned count = table ? 1 : n;
    r->free_id = r->next[id];
    if (table) {
        for (unsigned i = 0; i < n; i++)
            indirect[i] = (struct vring_packed_desc){
                .addr = piece[i].guest, .len = piece[i].bytes, .flags = flags_of(&piece[i], false)};
        put_packed(r, (struct vring_packed_desc){.addr = table_guest, .len = n * 16, .id = id},
                   VRING_DESC_F_INDIRECT);
    } else {
        for (unsigned i = 0; i < n; i++)
            put_packed(r, (struct vring_packed_desc){.addr = piece[i].guest, .len = piece[i].bytes, .id = id},
                       flags_of(&piece[i], i + 1 < n));
    }
    r->slot[id] = slot;
    r->count[id] = (uint16_t)count;
    r->in_flight[id] = true;
    r->free = (uint16_t)(r->free - count);
}

static bool publish_packed(struct vuring *r)
{
    uint16_t at = r->told, places = r->places;
    bool wrap = r->told_wrap;
    if (places == 0)
        return false;
    __atomic_store_n(&place(r, at)->flags, r->first_flags, __ATOMIC_RELEASE);
    r->places = 0;
    r->told = r->avail;
    r->told_wrap = r->avail_wrap;
    ring_full_barrier();
    uint16_t off_wrap = load16(r->device), flags = load16(r->device + 2) & 3;
    if (flags != VRING_PACKED_EVENT_FLAG_DESC)
        return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
    /* Was the place that the device waits for among those? */
    uint16_t event = off_wrap & 0x7fff;
    uint16_t distance = (uint16_t)((event >= at ? event - at : event + r->size - at) % r->size);
    bool lap = event >= at ? wrap : !wrap;
    return distance < places && lap == (off_wrap >> 15 != 0);
}

static bool has_packed(const struct vuring *r)
{
    uint16_t flags = __atomic_load_n(&place(r, r->used)->flags, __ATOMIC_ACQUIRE);
    bool avail = flags & DESC_AVAIL, used = flags & DESC_USED;
    return avail == used && used == r->used_wrap;
}

static int take_packed(struct vuring *r, uint16_t *slot, uint32_t *written)
{
    if (!has_packed(r))
        return 0;
    uint16_t id = place(r, r->used)->id;
    if (id >= r->size || !r->in_flight[id])
        return -EPROTO;
    *written = place(r, r->used)->len;
    *slot = r->slot[id];
    r->in_flight[id] = false;
    r->next[id] = r->free_id;
    r->free_id = id;
    r->free = (uint16_t)(r->free + r->count[id]);
    r->used = (uint16_t)(r->used + r->count[id]);
    if (r->used >= r->size) {
        r->used = (uint16_t)(r->used - r->size);
        r->used_wrap = !r->used_wrap;
    }
    return 1;
}

/* ------------------------------------------------------------------------- both */

int vuring_add(struct vuring *r, const struct vuring_piece *piece, unsigned n, void *table,
               uint64_t table_guest, uint16_t slot)
{
    if ((table ? 1 : n) > r->free)
        return -ENOSPC;
    if (r->packed)
        add_packed(r, piece, n, table, table_guest, slot);
    else
        add_split(r, piece, n, table, table_guest, slot);
    return 0;
}

bool vuring_publish(struct vuring *r)
{
    return r->packed ? publish_packed(r) : publish_split(r);
}

int vuring_take(struct vuring *r, uint16_t *slot, uint32_t *written)
{
    return r->packed ? take_packed(r, slot, written) : take_split(r, slot, written);
}

bool vuring_has_answer(const struct vuring *r)
{
    return r->packed ? has_packed(r) : load16(r->device + 2) != r->used;
}

void vuring_quiet(struct vuring *r)
{
    if (r->packed)
        store16(r->driver + 2, VRING_PACKED_EVENT_FLAG_DISABLE);
    else if (r->event_idx) /* so far back that it is not met before the next listen() */
        store16(used_event(r), (uint16_t)(r->used - 1));
    else
        store16(r->driver, VRING_AVAIL_F_NO_INTERRUPT);
}

bool vuring_listen(struct vuring *r)
{
    if (r->packed && r->event_idx) {
        store16(r->driver, (uint16_t)(r->used | (r->used_wrap ? 0x8000u : 0)));
        store16(r->driver + 2, VRING_PACKED_EVENT_FLAG_DESC);
    } else if (r->packed) {
        store16(r->driver + 2, VRING_PACKED_EVENT_FLAG_ENABLE);
    } else if (r->event_idx) {
        store16(used_event(r), r->used);
    } else {
        store16(r->driver, 0);
    }
    ring_full_barrier();
    return vuring_has_answer(r);
}
