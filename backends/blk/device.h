/* SPDX-License-Identifier: MIT */
/*
 * device.h - what a block backend drives.
 *
 * A device object belongs to one queue, and so to one worker: nothing in here
 * is locked.  Several queues of one disk have one object each over the same
 * descriptor or memory.
 *
 * Every request that submit() took is completed exactly once: the device sets
 * io->error to 0 or a negative errno and appends the request to the list that
 * it was opened with, at once or later, in any order.  The worker empties that
 * list.  A transfer is whole or it is an error.
 *
 * The data of a request is a list of pieces in granted or private memory.  The
 * guest may change granted memory during the transfer: that is its own loss.
 */
#ifndef BULKHEAD_BLK_DEVICE_H
#define BULKHEAD_BLK_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct blkdev;
struct uring;

enum blkdev_op { BLKDEV_READ, BLKDEV_WRITE, BLKDEV_FLUSH, BLKDEV_DISCARD, BLKDEV_ZEROES };
#define BLKDEV_FUA       (1u << 0)
#define BLKDEV_MAY_UNMAP (1u << 1)

#define BLKDEV_NO_BUFFER (-1)

struct blkdev_geometry {
    uint64_t bytes;
    uint32_t sector_bytes, physical_bytes;
    uint32_t discard_granularity; /* 0: no discard */
    bool readonly, fua, zeroes;
};

/* Embedded in the owner's request; the owner keeps it alive until done. */
struct blkdev_io {
    uint8_t op, flags;
    uint16_t niov;
    int error;           /* filled before done                               */
    uint64_t offset;     /* bytes                                            */
    uint64_t bytes;      /* sum of iov, or the length for discard and zeroes */
    struct iovec *iov;   /* owner's, valid until done; the device may eat it */
    int buffer;          /* registered buffer that holds iov[0] when niov is 1 */
    uint32_t tries;      /* the device's own, as are the next two            */
    uint64_t progress;
    struct blkdev *dev;
    struct blkdev_io *next; /* for whoever holds it                          */
};

/* Requests that are done, oldest first. */
struct blkdev_done {
    struct blkdev_io *head, **tail;
};

static inline void blkdev_done_init(struct blkdev_done *d)
{
    d->head = NULL;
    d->tail = &d->head;
}

static inline void blkdev_done_add(struct blkdev_done *d, struct blkdev_io *io, int error)
{
    io->error = error;
    io->next = NULL;
    *d->tail = io;
    d->tail = &io->next;
}

/* Takes the whole list. */
static inline struct blkdev_io *blkdev_done_take(struct blkdev_done *d)
{
    struct blkdev_io *all = d->head;
    blkdev_done_init(d);
    return all;
}

struct blkdev_ops {
    /* 0 taken; -EAGAIN no room now, nothing happened: try again after some
     * requests are done. */
    int (*submit)(struct blkdev *dev, struct blkdev_io *io);
    /* The batch is complete: begin now what submit() only noted.  NULL: nothing is. */
    void (*kick)(struct blkdev *dev);
    /* Registers memory for faster transfers: a number for io->buffer, or
     * BLKDEV_NO_BUFFER when that cannot be (no harm done).  NULL: pointless. */
    int (*buffer_add)(struct blkdev *dev, void *base, size_t bytes);
    void (*buffer_remove)(struct blkdev *dev, int buffer);
    /* No request in flight.  Does not close the descriptor or free memory. */
    void (*close)(struct blkdev *dev);
};

struct blkdev {
    const struct blkdev_ops *ops;
    struct blkdev_done *done;
    struct blkdev_geometry geo;
};

/* ----------------------------------------------------------------- ram.c */

/* A disk in private memory: for tests and benchmarks.  submit() asks the
 * processor for the first bytes, kick() copies: by then they have arrived. */
struct blkdev_ram {
    struct blkdev dev;
    uint8_t *base;
    struct blkdev_done noted;
};
/* Any thread; the memory is zeroed and shared by all queues of the disk. */
int ram_alloc(uint64_t bytes, void **base);
void ram_free(void *base, uint64_t bytes);
void ram_geometry(uint64_t bytes, bool readonly, struct blkdev_geometry *geo);
void blkdev_ram_open(struct blkdev_ram *ram, void *base, const struct blkdev_geometry *geo,
                     struct blkdev_done *done);

/* ---------------------------------------------------------------- file.c */

/* A regular file or block device over the worker's ring. */
struct blkdev_file {
    struct blkdev dev;
    struct uring *uring;
    int fd; /* the disk's, or -1 */
};
/*
 * What an open descriptor is.  Needs lseek, ioctl and, for a regular file that
 * may be O_DIRECT, one read of 512 bytes: ENOTTY tells a file from a block
 * device, EINVAL tells that 512 bytes are too little for direct I/O there.
 */
int file_geometry(int fd, bool readonly, struct blkdev_geometry *geo);
/* On the worker's own thread, as all that follows.  Memory can be registered from
 * here on, requests be submitted after blkdev_file_open(). */
void blkdev_file_prepare(struct blkdev_file *file, struct uring *uring, struct blkdev_done *done);
/* -ENFILE: the ring's table is full; it stays prepared. */
int blkdev_file_open(struct blkdev_file *file, int fd, const struct blkdev_geometry *geo);

#endif
