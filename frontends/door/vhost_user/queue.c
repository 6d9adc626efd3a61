/* SPDX-License-Identifier: MIT */
#include "queue.h"

#include <unistd.h>

#include "queue_inner.h"

const char *vhost_bad_name(enum vhost_bad bad)
{
    static const char *const names[VHOST_BADS] = {
        [VHOST_BAD_NOTHING] = "nothing",
        [VHOST_BAD_INDEX] = "an index outside the ring",
        [VHOST_BAD_LOOP] = "a chain that is too long or goes round",
        [VHOST_BAD_ADDRESS] = "a buffer outside the guest's memory",
        [VHOST_BAD_INDIRECT] = "an impossible indirect table",
        [VHOST_BAD_ORDER] = "a buffer to read behind one to write",
        [VHOST_BAD_LENGTH] = "a chain of 4 GiB or more",
        [VHOST_BAD_ID] = "a buffer id that is in use or outside the ring",
        [VHOST_BAD_MEMORY] = "a ring that is not in the guest's memory, not aligned or of an impossible size",
        [VHOST_BAD_CLASS] = "an impossible request",
    };
    return bad < VHOST_BADS ? names[bad] : "unknown";
}

/* ------------------------------------------------------------------- chains */

/* Empty, across regions, one too many, or outside. */
int chain_add_slow(struct vhost_queue *q, struct vhost_chain *out, const struct vhost_desc *d)
{
    unsigned n = (unsigned)out->nout + out->nin;
    bool write = d->flags & DESC_WRITE;
    if (!write && out->nin > 0)
        return queue_bad(q, VHOST_BAD_ORDER);
    if (d->len == 0)
        return 0;
    uint32_t *bytes = write ? &out->in_bytes : &out->out_bytes;
    if (d->len > UINT32_MAX - *bytes)
        return queue_bad(q, VHOST_BAD_LENGTH);
    if (n == VHOST_PIECES_MAX)
        return queue_bad(q, VHOST_BAD_LOOP);
    unsigned more = vhost_memory_guest(q->mem, d->addr, d->len, out->piece + n, VHOST_PIECES_MAX - n);
    if (more == 0)
        return queue_bad(q, VHOST_BAD_ADDRESS);
    *bytes += d->len;
    if (write)
        out->nin = (uint16_t)(out->nin + more);
    else
        out->nout = (uint16_t)(out->nout + more);
    return 0;
}

/* The i-th descriptor of a table that may lie across regions. */
static bool table_entry(struct vhost_queue *q, const struct vhost_desc *table, unsigned i,
                        struct vhost_desc *out)
{
    struct {
        _Alignas(8) char bytes[16];
    } copy;
    struct iovec piece[2];
    uint64_t into = (uint64_t)i * sizeof(copy);
    if (into > UINT64_MAX - table->addr)
        return false;
    unsigned n = vhost_memory_guest(q->mem, table->addr + into, sizeof(copy), piece, 2);
    size_t have = 0;
    for (unsigned k = 0; k < n; k++) {
        memcpy(copy.bytes + have, piece[k].iov_base, piece[k].iov_len);
        have += piece[k].iov_len;
    }
    if (n > 0)
        *out = q->packed ? desc_load_packed(copy.bytes) : desc_load(copy.bytes);
    return n > 0;
}

int chain_add_table(struct vhost_queue *q, struct vhost_chain *out, const struct vhost_desc *table)
{
    unsigned n = table->len / 16, i = 0;
    if (!q->indirect || n == 0 || table->len % 16 || n > VHOST_QUEUE_SIZE_MAX || table->flags & DESC_NEXT)
        return queue_bad(q, VHOST_BAD_INDIRECT);
    const char *at = vhost_memory_hot(q->mem, table->addr, table->len);
    if ((uintptr_t)at % 8)
        at = NULL;
    for (unsigned count = 0; count < n; count++) {
        struct vhost_desc d;
        if (likely(at))
            d = q->packed ? desc_load_packed(at + (size_t)i * 16) : desc_load(at + (size_t)i * 16);
        else if (!table_entry(q, table, i, &d))
            return queue_bad(q, VHOST_BAD_ADDRESS);
        if (d.flags & DESC_INDIRECT)
            return queue_bad(q, VHOST_BAD_INDIRECT);
        int err = chain_add(q, out, &d);
        if (err)
            return err;
        if (q->packed) { /* all of them, in their order */
            i++;
            continue;
        }
        if (!(d.flags & DESC_NEXT))
            return 0;
        if (d.next >= n)
            return queue_bad(q, VHOST_BAD_INDIRECT);
        i = d.next;
    }
    return q->packed ? 0 : queue_bad(q, VHOST_BAD_LOOP);
}

/* -------------------------------------------------------------------- start */

int queue_recover(struct vhost_queue *q, uint16_t *position, bool (*shown)(void *, uint16_t),
                  unsigned *slots)
{
    *slots = 0;
    if (!q->inflight)
        return 0;
    int used = vhost_inflight_recover(q->inflight, q->packed, q->size, position, shown, q);
    if (used <= 0)
        return used;
    int n = vhost_inflight_list(q->inflight, q->again, slots);
    if (n < 0)
        return n;
    q->again_n = (uint16_t)n;
    return 1;
}

int vhost_queue_start(struct vhost_queue *q, uint32_t avail_base)
{
    q->bad = VHOST_BAD_NOTHING;
    q->outstanding = q->busy_slots = q->again_at = q->again_n = 0;
    q->held = q->quiet = false;
    q->held_slots = 0;
    memset(q->taken, 0, sizeof(q->taken));
    if (q->size == 0 || q->size > VHOST_QUEUE_SIZE_MAX || (!q->packed && q->size & (q->size - 1)))
        return queue_bad(q, VHOST_BAD_MEMORY);
    return q->packed ? packed_start(q, avail_base) : split_start(q, avail_base);
}

uint32_t vhost_queue_base(const struct vhost_queue *q)
{
    unsigned open = (unsigned)q->outstanding + q->again_n - q->again_at;
    return q->packed ? packed_base(q) : (uint16_t)(q->next_avail - open);
}

void vhost_queue_stopped(struct vhost_queue *q)
{
    if (q->packed && !q->inflight)
        packed_take_note_away(q);
}

/* --------------------------------------------------------------------- both */

static int next_again(struct vhost_queue *q, struct vhost_chain *out)
{
    uint16_t id = q->again[q->again_at];
    if (is_taken(q, id))
        return queue_bad(q, VHOST_BAD_ID);
    int err = q->packed ? packed_again(q, id, out) : split_again(q, id, out);
    if (err)
        return err;
    set_taken(q, id);
    q->again_at++;
    q->outstanding++;
    return 1;
}

int vhost_queue_next(struct vhost_queue *q, struct vhost_chain *out)
{
    if (unlikely(q->bad))
        return 0;
    if (unlikely(q->again_at < q->again_n))
        return next_again(q, out);
    return q->packed ? packed_next(q, out) : split_next(q, out);
}

void vhost_queue_undo(struct vhost_queue *q, const struct vhost_chain *chain)
{
    clear_taken(q, chain->id);
    q->outstanding--;
    if (q->again_at > 0 && q->again[q->again_at - 1] == chain->id) { /* it was not from the ring */
        q->again_at--;
        if (q->packed)
            q->busy_slots = (uint16_t)(q->busy_slots - chain->slots);
        return;
    }
    if (q->inflight)
        vhost_inflight_untaken(q->inflight, chain->id);
    if (q->packed)
        packed_undo(q, chain);
    else
        q->next_avail--;
}

unsigned vhost_queue_available(struct vhost_queue *q)
{
    unsigned again = (unsigned)(q->again_n - q->again_at);
    unsigned n = q->packed ? packed_waits(q) : split_available(q);
    return again + n < q->size ? again + n : q->size;
}

void vhost_queue_done(struct vhost_queue *q, uint16_t id, uint16_t slots, uint32_t written)
{
    clear_taken(q, id);
    q->outstanding--;
    if (unlikely(q->inflight))
        vhost_inflight_done(q->inflight, id);
    if (q->packed)
        packed_done(q, id, slots, written);
    else
        split_done(q, id, written);
}

bool vhost_queue_publish(struct vhost_queue *q)
{
    return q->packed ? packed_publish(q) : split_publish(q);
}

void vhost_queue_call(struct vhost_queue *q)
{
    const uint64_t one = 1;
    /* Full means that the guest has been told already. */
    if (q->call_fd >= 0 && write(q->call_fd, &one, sizeof(one)) < 0)
        return;
}

void vhost_queue_quiet(struct vhost_queue *q)
{
    if (q->quiet)
        return;
    q->quiet = true;
    if (q->packed)
        packed_quiet(q);
    else
        split_quiet(q);
}

bool vhost_queue_listen(struct vhost_queue *q)
{
    q->quiet = false;
    if (q->packed)
        packed_listen(q);
    else
        split_listen(q);
    ring_full_barrier();
    return vhost_queue_available(q) > 0;
}
