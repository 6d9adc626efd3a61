/* SPDX-License-Identifier: MIT */
/*
 * queue.h - a virtqueue, the device's side: split and packed rings (virtio 1.2,
 * 2.7 and 2.8), indirect descriptors, event indices.
 *
 * All of the ring is the guest's to write.  A descriptor is copied once, then
 * checked, then used; our own indices are private.  What cannot be true has a name
 * (enum vhost_bad) and ends the connection of this one device.  A chain is bounded
 * by the ring's size, so that a loop ends; an indirect table may not hold another.
 * No two chains that are taken and not done have the same id.
 *
 * One thread, the device's.  Nothing here calls the kernel, vhost_queue_call() apart;
 * who publishes asks vhost_queue_publish() whether the guest wants to be told.
 *
 *   queue.c   what both have in common: start, chains, addresses
 *   split.c   split rings
 *   packed.c  packed rings
 */
#ifndef BULKHEAD_VHOST_QUEUE_H
#define BULKHEAD_VHOST_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "memory.h"

#define VHOST_QUEUE_SIZE_MAX 1024u /* entries; a power of two for split rings           */
#define VHOST_PIECES_MAX     272u  /* of one chain, and of what lies across two regions  */

enum vhost_bad {
    VHOST_BAD_NOTHING,
    VHOST_BAD_INDEX,    /* more made available than the ring holds, or a head outside    */
    VHOST_BAD_LOOP,     /* longer than the ring, or than VHOST_PIECES_MAX                */
    VHOST_BAD_ADDRESS,  /* outside the guest's memory                                    */
    VHOST_BAD_INDIRECT, /* not agreed, within another, empty, not whole, or too long     */
    VHOST_BAD_ORDER,    /* something to read behind something to write                   */
    VHOST_BAD_LENGTH,   /* more than 4 GiB in all                                        */
    VHOST_BAD_ID,       /* a head or a buffer id that is in use, or outside              */
    VHOST_BAD_MEMORY,   /* the ring itself is not in the guest's memory, not aligned, or
                         * of an impossible size                                         */
    VHOST_BAD_CLASS,    /* not the ring's but the content's: the class says so           */
    VHOST_BADS
};
const char *vhost_bad_name(enum vhost_bad bad);

/* A descriptor: split rings and their indirect tables have `next`, packed ones `id` and
 * flags the other way round; copied into this form. */
struct vhost_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

/* What one chain of descriptors means; the pieces are in guest memory, valid until the
 * memory changes.  None is empty. */
struct vhost_chain {
    uint16_t id;        /* goes back with vhost_queue_done(); less than the ring's size  */
    uint16_t slots;     /* that it takes in a packed ring; goes back too                 */
    uint16_t nout, nin; /* pieces to be read, then pieces to be written                  */
    uint32_t out_bytes, in_bytes;
    struct iovec piece[VHOST_PIECES_MAX];
};

struct vhost_inflight_queue; /* inflight.h */

struct vhost_queue {
    /* As agreed; set by the server while the queue is stopped. */
    struct vhost_memory *mem;
    uint16_t size;
    bool packed, event_idx, indirect;
    uint64_t desc_user, avail_user, used_user; /* addresses of the VMM's                 */
    int call_fd, kick_fd;   /* -1: none                                                  */
    struct vhost_inflight_queue *inflight; /* NULL: not tracked                          */
    enum vhost_bad bad;     /* why -EPROTO was said                                      */

    /* Private state. */
    void *desc, *avail, *used; /* looked up when it starts                               */
    uint16_t next_avail, next_used; /* packed: without the wrap bit                      */
    uint16_t avail_seen;    /* split: available index as last read                       */
    uint16_t published;     /* split: used index as the guest sees it                    */
    uint16_t held_at;       /* packed: where the first that is held lies                 */
    uint16_t held_flags;    /* packed: its flags                                         */
    uint16_t held_slots;    /* packed: slots since the last publication                  */
    uint16_t busy_slots;    /* packed: taken, not done                                   */
    uint16_t outstanding;   /* chains that are taken, not done                           */
    bool avail_wrap, used_wrap;
    bool held;              /* packed: done, not published                               */
    bool quiet;             /* no kicks are wanted                                       */
    uint16_t again_at, again_n; /* chains of the incarnation before that come first      */
    uint64_t taken[VHOST_QUEUE_SIZE_MAX / 64];
    uint16_t again[VHOST_QUEUE_SIZE_MAX];
};

/*
 * Looks the ring up in memory; the base is what SET_VRING_BASE said (vhost-user: packed
 * rings have wrap counters in it).  With an inflight region that was in use, the region
 * and the ring say where it stands, and the base is not looked at.
 * 0; -EPROTO with ->bad; -EINVAL: the inflight region is not right.
 */
int vhost_queue_start(struct vhost_queue *q, uint32_t avail_base);
/* Where it stands, for GET_VRING_BASE: chains that are taken and not done count as not
 * taken where the ring can say that (they are the oldest), for rings that are not tracked. */
uint32_t vhost_queue_base(const struct vhost_queue *q);
/* It stopped in an orderly way, and its base will be told: a packed ring that is not tracked
 * bears no note of its own any more (see packed.c). */
void vhost_queue_stopped(struct vhost_queue *q);

/* The next chain: 1; 0 nothing; -EPROTO: the ring is broken, ->bad says how (and after that
 * there is nothing, always). */
int vhost_queue_next(struct vhost_queue *q, struct vhost_chain *out);
/* Gives the last one back untouched, the one that vhost_queue_next() said last: it comes again.
 * Again and again for those before it, the last first; only id and slots of a chain are read. */
void vhost_queue_undo(struct vhost_queue *q, const struct vhost_chain *chain);
/* How many chains the guest made available: a bound for receive queues, at most size; racy.
 * Packed rings do not say: 0 or 1, or more. */
unsigned vhost_queue_available(struct vhost_queue *q);
/* It is done, that many bytes were written to it.  Any order.  The guest sees none of them
 * before vhost_queue_publish(). */
void vhost_queue_done(struct vhost_queue *q, uint16_t id, uint16_t slots, uint32_t written);
/* Shows what is done.  True: the guest wants to be told now. */
bool vhost_queue_publish(struct vhost_queue *q);
/* Rings the guest's bell: one write(). */
void vhost_queue_call(struct vhost_queue *q);

/* No kicks, please; kicks again, please.  The second one says whether something came
 * meanwhile: do not sleep then.  The class does both, in work and idle. */
void vhost_queue_quiet(struct vhost_queue *q);
bool vhost_queue_listen(struct vhost_queue *q);

#endif
