/* SPDX-License-Identifier: MIT */
/*
 * inflight.h - what a device has taken and not answered, in memory that outlives
 * it: the VMM keeps the descriptor and gives it to the door's next incarnation
 * (vhost-user: GET_INFLIGHT_FD, SET_INFLIGHT_FD).
 *
 * A class has nothing to do for it: vhost_queue_start() recovers, and
 * vhost_queue_next() says again, first and in their order, the chains that the
 * incarnation before took and did not answer.
 *
 * The memory is opaque to the VMM and the layout is our own, the same for split and
 * packed rings: for each buffer id a state, and copies of the descriptors of a packed
 * ring, because there an answer may lie over a chain that is still being worked on.
 *
 * Exactly once: an answer counts when the guest can see it, which is one store in the
 * guest's ring (the used index; the flags of the first descriptor of a batch).  Before
 * that store every id of the batch is marked "about to be shown"; after it the marks go,
 * then the position moves.  Who finds such marks looks at the ring: whether that one store
 * was made tells what the marks mean.  Only the compiler may not reorder: a process dies
 * between two instructions.
 *
 * What lies there may have been changed by the VMM: it is read once, at the start of a
 * queue, and checked as anything else that comes from it.
 */
#ifndef BULKHEAD_VHOST_INFLIGHT_H
#define BULKHEAD_VHOST_INFLIGHT_H

#include <stddef.h>
#include <stdint.h>

#include "queue.h"

struct inflight_region;

/* One queue's; set up by vhost_inflight_open(). */
struct vhost_inflight_queue {
    struct inflight_region *at;
    uint16_t size;                            /* ids that it has room for                 */
    uint64_t counter;                         /* order of taking                          */
    uint16_t nfree;                           /* packed: free places for descriptors      */
    uint16_t free[VHOST_QUEUE_SIZE_MAX];
    uint16_t head[VHOST_QUEUE_SIZE_MAX], n[VHOST_QUEUE_SIZE_MAX]; /* of an id, ours        */
    uint16_t next[VHOST_QUEUE_SIZE_MAX];      /* of a place, ours                         */
    uint16_t nbatch, batch[VHOST_QUEUE_SIZE_MAX]; /* about to be shown                    */
};

/* Bytes for so many queues of that size; 0: more than there can be. */
size_t vhost_inflight_bytes(unsigned queues, unsigned size);
/* The i-th queue's part of a region of `bytes` that was made for queues of that size.
 * Memory that is all zero is new.  -EINVAL: it does not fit. */
int vhost_inflight_open(struct vhost_inflight_queue *f, void *region, size_t bytes, unsigned i,
                        unsigned size);

/* ---- for queue.c; position: split: the used index; packed: with the wrap bit */

/* desc: as copied from the ring, in their order (packed); NULL, 0 for split. */
void vhost_inflight_taken(struct vhost_inflight_queue *f, uint16_t id, const struct vhost_desc *desc,
                          unsigned n);
/* Taken back: the guest's ring still has it. */
void vhost_inflight_untaken(struct vhost_inflight_queue *f, uint16_t id);
/* Will be shown with the next publication. */
void vhost_inflight_done(struct vhost_inflight_queue *f, uint16_t id);
/* They are shown next, and then the ring stands there. */
void vhost_inflight_showing(struct vhost_inflight_queue *f, uint16_t position);
/* They were shown. */
void vhost_inflight_shown(struct vhost_inflight_queue *f);

/*
 * What the incarnation before left.  0: the region was new and is now made for that kind of
 * ring at *position; 1: it had been used, and *position is where a packed ring stands; -EINVAL:
 * it is not right.  shown(arg, position): was something shown since the ring stood there?
 */
int vhost_inflight_recover(struct vhost_inflight_queue *f, bool packed, uint16_t entries, uint16_t *position,
                           bool (*shown)(void *arg, uint16_t position), void *arg);
/* What is in flight, oldest first, and the slots it takes; how many, or -EINVAL. */
int vhost_inflight_list(struct vhost_inflight_queue *f, uint16_t ids[VHOST_QUEUE_SIZE_MAX], unsigned *slots);
/* The descriptors that were kept for an id, n of them at most; how many. */
unsigned vhost_inflight_read(const struct vhost_inflight_queue *f, uint16_t id, struct vhost_desc *desc,
                             unsigned n);

#endif
