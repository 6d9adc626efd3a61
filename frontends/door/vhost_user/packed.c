/* SPDX-License-Identifier: MIT */
#include "queue_inner.h"

/*
 * In memory (virtio 1.2, 2.8): descriptors { addr, len, id, flags } that both sides write;
 * avail is what the driver wants to be told { off_wrap, flags }, used is what the device does.
 */
#define FLAG_AVAIL (1u << 7)
#define FLAG_USED  (1u << 15)
#define WRAP       (1u << 15) /* in positions                                            */

#define EVENT_ENABLE  0u
#define EVENT_DISABLE 1u
#define EVENT_DESC    2u

/*
 * A ring that is not tracked (a NIC's) cannot be asked where it stands, and what QEMU says when a
 * door died is where it stood long ago.  So the door leaves a note of its position in its own
 * part of the ring, in the word that means nothing to the driver as long as kicks are not asked
 * for by position.  A door that stops in an orderly way takes it away: then the base counts.
 */
#define NOTE       (1u << 14)
#define NOTE_INDEX (NOTE - 1u)

#define AHEAD_DATA 4u /* how far ahead what descriptors point to is fetched */

static char *desc_at(const struct vhost_queue *q, uint16_t i)
{
    return (char *)q->desc + (size_t)i * 16;
}

static uint16_t position_of(uint16_t index, bool wrap)
{
    return (uint16_t)(index | (wrap ? WRAP : 0));
}

static void advance(const struct vhost_queue *q, uint16_t *index, bool *wrap, unsigned by)
{
    unsigned to = *index + by;
    if (to >= q->size) {
        to -= q->size;
        *wrap = !*wrap;
    }
    *index = (uint16_t)to;
}

static bool is_available(uint16_t flags, bool wrap)
{
    return !!(flags & FLAG_AVAIL) == wrap && !!(flags & FLAG_USED) != wrap;
}

/* What lies where nothing was shown is a chain that the guest made available there: it
 * cannot write there again before it sees an answer. */
static bool shown_since(void *arg, uint16_t position)
{
    const struct vhost_queue *q = arg;
    uint16_t index = position & (WRAP - 1u);
    return index < q->size && !is_available(load16(desc_at(q, index) + 14), position & WRAP);
}

static void write_note(struct vhost_queue *q)
{
    store16(q->used, position_of(q->next_used | NOTE, q->used_wrap));
}

/* Where the ring stands: what is noted, and what was shown between that and a death. */
static uint16_t read_note(const struct vhost_queue *q, uint16_t base)
{
    uint16_t note = load16(q->used), index = note & NOTE_INDEX;
    bool wrap = note & WRAP;
    if (!(note & NOTE) || index >= q->size || (load16((const char *)q->used + 2) & 3u) == EVENT_DESC)
        return base;
    for (unsigned i = 0; i < q->size; i++) {
        uint16_t flags = load16(desc_at(q, index) + 14);
        if (!!(flags & FLAG_AVAIL) != wrap || !!(flags & FLAG_USED) != wrap)
            break;
        advance(q, &index, &wrap, 1);
    }
    return position_of(index, wrap);
}

void packed_take_note_away(struct vhost_queue *q)
{
    store16(q->used, 0);
}

int packed_start(struct vhost_queue *q, uint32_t base)
{
    q->desc = vhost_memory_user(q->mem, q->desc_user, (uint64_t)q->size * 16);
    q->avail = vhost_memory_user(q->mem, q->avail_user, 4);
    q->used = vhost_memory_user(q->mem, q->used_user, 4);
    uint16_t position = (uint16_t)base;
    if (!q->desc || !q->avail || !q->used || (uintptr_t)q->desc % 16 || (uintptr_t)q->avail % 4 ||
        (uintptr_t)q->used % 4 || (position & (WRAP - 1u)) >= q->size)
        return queue_bad(q, VHOST_BAD_MEMORY);

    if (!q->inflight)
        position = read_note(q, position);
    unsigned slots;
    int used = queue_recover(q, &position, shown_since, &slots);
    if (used < 0)
        return used;
    if ((position & (WRAP - 1u)) >= q->size || slots > q->size)
        return -EINVAL;
    q->next_used = q->next_avail = position & (WRAP - 1u);
    q->used_wrap = q->avail_wrap = position & WRAP;
    advance(q, &q->next_avail, &q->avail_wrap, slots);
    q->published = q->next_used;
    return 0;
}

uint32_t packed_base(const struct vhost_queue *q)
{
    uint32_t used = position_of(q->next_used, q->used_wrap);
    bool open = q->outstanding > 0 || q->again_at < q->again_n;
    return (open ? used : position_of(q->next_avail, q->avail_wrap)) | used << 16;
}

/* ------------------------------------------------------------------- taking */

static int add(struct vhost_queue *q, struct vhost_chain *out, const struct vhost_desc *d, bool alone)
{
    if (!(d->flags & DESC_INDIRECT))
        return chain_add(q, out, d);
    return alone ? chain_add_table(q, out, d) : queue_bad(q, VHOST_BAD_INDIRECT);
}

int packed_next(struct vhost_queue *q, struct vhost_chain *out)
{
    uint16_t at = q->next_avail, n = 0;
    bool wrap = q->avail_wrap;
    struct vhost_desc d, kept[VHOST_QUEUE_SIZE_MAX];
    if (!is_available(load16_acquire(desc_at(q, at) + 14), wrap))
        return 0;
    __builtin_prefetch(desc_at(q, (uint16_t)(at + 8 < q->size ? at + 8 : 0)));
    if (at + AHEAD_DATA < q->size)
        prefetch_guest(q->mem, load64(desc_at(q, at + AHEAD_DATA)));

    chain_begin(out);
    do {
        if (unlikely(q->busy_slots + n == q->size))
            return queue_bad(q, n == q->size ? VHOST_BAD_LOOP : VHOST_BAD_INDEX);
        d = desc_load_packed(desc_at(q, at));
        int err = add(q, out, &d, n == 0);
        if (unlikely(err))
            return err;
        if (unlikely(q->inflight))
            kept[n] = d;
        n++;
        advance(q, &at, &wrap, 1);
    } while (d.flags & DESC_NEXT && !(d.flags & DESC_INDIRECT));

    if (unlikely(d.next >= q->size || is_taken(q, d.next)))
        return queue_bad(q, VHOST_BAD_ID);
    out->id = d.next;
    out->slots = n;
    set_taken(q, out->id);
    q->next_avail = at;
    q->avail_wrap = wrap;
    q->outstanding++;
    q->busy_slots = (uint16_t)(q->busy_slots + n);
    if (unlikely(q->inflight))
        vhost_inflight_taken(q->inflight, out->id, kept, n);
    return 1;
}

int packed_again(struct vhost_queue *q, uint16_t id, struct vhost_chain *out)
{
    struct vhost_desc kept[VHOST_QUEUE_SIZE_MAX];
    unsigned n = vhost_inflight_read(q->inflight, id, kept, q->size);
    chain_begin(out);
    out->id = id;
    out->slots = (uint16_t)n;
    for (unsigned i = 0; i < n; i++) {
        int err = add(q, out, &kept[i], n == 1);
        if (err)
            return err;
    }
    q->busy_slots = (uint16_t)(q->busy_slots + n);
    return 0;
}

void packed_undo(struct vhost_queue *q, const struct vhost_chain *chain)
{
    q->busy_slots = (uint16_t)(q->busy_slots - chain->slots);
    if (q->next_avail < chain->slots) {
        q->next_avail = (uint16_t)(q->next_avail + q->size);
        q->avail_wrap = !q->avail_wrap;
    }
    q->next_avail = (uint16_t)(q->next_avail - chain->slots);
}

bool packed_waits(const struct vhost_queue *q)
{
    return is_available(load16_acquire(desc_at(q, q->next_avail) + 14), q->avail_wrap);
}

/* ---------------------------------------------------------------- answering */

void packed_done(struct vhost_queue *q, uint16_t id, uint16_t slots, uint32_t written)
{
    char *at = desc_at(q, q->next_used);
    uint16_t flags = (uint16_t)((q->used_wrap ? FLAG_AVAIL | FLAG_USED : 0) | (written ? DESC_WRITE : 0));
    store32(at + 8, written);
    store16(at + 12, id);
    if (!q->held) { /* the guest looks here first: it is written last */
        q->held = true;
        q->held_at = q->next_used;
        q->held_flags = flags;
        q->held_slots = 0;
    } else {
        store16_release(at + 14, flags);
    }
    q->held_slots = (uint16_t)(q->held_slots + slots);
    q->busy_slots = (uint16_t)(q->busy_slots - slots);
    advance(q, &q->next_used, &q->used_wrap, slots);
}

bool packed_publish(struct vhost_queue *q)
{
    if (!q->held)
        return false;
    q->held = false;
    if (unlikely(q->inflight))
        vhost_inflight_showing(q->inflight, position_of(q->next_used, q->used_wrap));
    store16_release(desc_at(q, q->held_at) + 14, q->held_flags);
    if (unlikely(q->inflight))
        vhost_inflight_shown(q->inflight);
    else
        write_note(q);
    ring_full_barrier();

    uint16_t wants = load16((const char *)q->avail + 2) & 3u;
    if (wants != EVENT_DESC || !q->event_idx)
        return wants != EVENT_DISABLE;
    uint16_t event = load16(q->avail), at = event & (WRAP - 1u);
    if (!!(event & WRAP) != q->used_wrap)
        at = (uint16_t)(at - q->size);
    return (uint16_t)(q->next_used - at - 1) < q->held_slots;
}

void packed_quiet(struct vhost_queue *q)
{
    store16((char *)q->used + 2, EVENT_DISABLE);
}

void packed_listen(struct vhost_queue *q)
{
    /* By position it would be no fewer: after the first kick there is quiet. */
    store16((char *)q->used + 2, EVENT_ENABLE);
}
