/* SPDX-License-Identifier: MIT */
/*
 * device.h - what a block backend drives.
 *
 * Made by the control thread, then owned by one worker: nothing in here is
 * locked.  Every request that submit() took is completed exactly once, from
 * poll(), in any order, with 0 or a negative errno; a short transfer is an
 * error.  Several workers that serve queues of one disk hold one device each.
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

enum blkdev_op { BLKDEV_READ, BLKDEV_WRITE, BLKDEV_FLUSH, BLKDEV_DISCARD, BLKDEV_ZEROES };
#define BLKDEV_FUA       (1u << 0)
#define BLKDEV_MAY_UNMAP (1u << 1)

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
    struct iovec *iov;   /* owner's, valid until done                        */
    int buffer;          /* registered buffer that holds iov[0] when niov is 1; -1 none */
    struct blkdev_io *next; /* for whoever holds it                          */
};

#endif
