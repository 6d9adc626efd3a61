/* SPDX-License-Identifier: MIT */
/*
 * vuring.h - a virtqueue, the driver's side: split and packed, with or without
 * indirect descriptors and event indices (virtio 1.2, 2.7 and 2.8).
 *
 * What a guest's kernel does, in a benchmark's process.  The ring lies in memory
 * that a device maps as well; what the device may not write is kept here too, so
 * that a wrong answer is told from a right one.  One thread.
 */
#ifndef BULKHEAD_BENCH_VURING_H
#define BULKHEAD_BENCH_VURING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VURING_SIZE_MAX   1024u
#define VURING_PIECES_MAX 260u /* of one request: header, 256 pages, status */

/* A piece of a request: where it is in guest memory. */
struct vuring_piece {
    uint64_t guest;
    uint32_t bytes;
    bool written; /* by the device */
};

struct vuring {
    uint16_t size; /* a power of two */
    bool packed, event_idx;
    uint8_t *desc, *driver, *device; /* the three parts, where they are mapped here */

    uint16_t free;     /* descriptors (packed: places)                                 */
    uint16_t free_id;  /* split: first free descriptor; packed: first free buffer id    */
    uint16_t next[VURING_SIZE_MAX];   /* free list                                      */
    uint16_t slot[VURING_SIZE_MAX];   /* of what is in flight, by head or id            */
    uint16_t count[VURING_SIZE_MAX];  /* descriptors that it has                        */
    bool in_flight[VURING_SIZE_MAX];
    uint16_t avail, used;             /* split: indices; packed: places                 */
    bool avail_wrap, used_wrap;       /* packed                                         */
    uint16_t told;                    /* avail when last published                      */
    bool told_wrap;                   /* packed                                         */
    uint16_t first_flags;             /* packed: of the first that is not yet published */
    uint16_t places;                  /* packed: taken since the last publication       */
};

/* Bytes of the three parts, one behind the other, with where the second and third begin. */
size_t vuring_bytes(uint16_t size, bool packed, size_t *driver_at, size_t *device_at);
/* In zeroed memory of vuring_bytes(), aligned to 4096. */
void vuring_init(struct vuring *r, void *memory, uint16_t size, bool packed, bool event_idx);

/*
 * Adds a request of n pieces, those that the device reads first; slot (under
 * VURING_SIZE_MAX) comes back with its answer.  table: guest memory for an indirect
 * table of n entries, at table_guest; NULL: a chain in the ring.  0, or -ENOSPC.  The device
 * sees it with vuring_publish().
 */
int vuring_add(struct vuring *r, const struct vuring_piece *piece, unsigned n, void *table,
               uint64_t table_guest, uint16_t slot);
/* True: the device wants to be kicked for what was added. */
bool vuring_publish(struct vuring *r);

/* The next answer: 1 with its slot, 0 none, -EPROTO: the device answers what nobody asks. */
int vuring_take(struct vuring *r, uint16_t *slot, uint32_t *written);

/* No calls, please; calls again, please.  The second says whether an answer came
 * meanwhile: do not sleep then. */
void vuring_quiet(struct vuring *r);
bool vuring_listen(struct vuring *r);
bool vuring_has_answer(const struct vuring *r);

/* For SET_VRING_BASE: of a new ring, and of one whose device went away without a word.  Of a
 * packed ring only the device could tell: it is where it began. */
uint32_t vuring_base(const struct vuring *r);

#endif
