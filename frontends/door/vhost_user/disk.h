/* SPDX-License-Identifier: MIT */
/*
 * disk.h - a guest's virtio disk behind a vhost-user socket, over a disk of a driver
 * domain (blkfront.h).
 *
 * Ring i of the guest works with queue i of the disk, modulo their number.  Data is
 * copied between the guest's memory and the granted pool: so many bytes as the
 * request has, none else.  A request's header is copied once, then checked.  One that
 * is longer than the driver domain takes, or than the pool has room for, goes in parts;
 * requests of a ring are begun in its order and end in any.
 *
 * What a request cannot be (beyond the end of the disk, no whole sectors, unknown) the
 * guest is told, as VIRTIO_BLK_S_IOERR or _UNSUPP.  A chain that is no request, without
 * a header or a place for its status, breaks the ring: -EPROTO.
 *
 * While the driver domain is dead requests wait; blkfront sends them again.
 *
 * A ring that is stopped is finished first.  Where that takes too long what is in flight
 * becomes an orphan: its data goes nowhere, and until the last orphan of the disk came
 * back no request is begun.  So what the guest was not answered cannot overtake what it
 * asks later.
 *
 * Cache.  A guest that did not agree to flush has every write durable when it is
 * answered; any other says when.  There is no switch between the two (CONFIG_WCE): a
 * door that was started again could not know how it stood.
 *
 * One thread, the device's, but for disk_open() and disk_close().  No heap, lock or
 * kernel call for a request.  Source: virtio 1.2, 5.2.
 */
#ifndef BULKHEAD_VHOST_DISK_H
#define BULKHEAD_VHOST_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../../hyp-shim/blkproto.h"
#include "../../include/bulkhead/blkfront.h"
#include "device.h"

#define DISK_BATCH       32u  /* requests that are sent with one doorbell                 */
#define DISK_TURN        128u /* requests of a ring before others, and the VMM, have their turn */
#define DISK_RANGES_MAX  16u  /* of one discard or write-zeroes request                   */
#define DISK_SEG_MAX     126u /* pieces of data of a request: fits a ring of 128          */
#define DISK_DISCARD_MAX (4194303u) /* sectors of 512 bytes in one range: 2 GiB           */
#define DISK_ZEROES_MAX  (131072u)  /* 64 MiB: a driver domain may have to write them     */

/* Where the next byte is, in the pieces of a chain. */
struct disk_cursor {
    uint16_t piece;
    uint32_t at;
};

/* A guest's request. */
struct disk_request {
    struct disk_request *next;  /* free ones                                              */
    struct disk_ring *ring;     /* NULL: free                                             */
    uint32_t type;              /* VIRTIO_BLK_T_*                                         */
    uint8_t status;             /* VIRTIO_BLK_S_*                                         */
    bool orphan;
    bool then_flush;            /* it has to be durable, and is not by itself             */
    uint32_t written;           /* to the guest's memory, with the status                 */
    uint32_t parts;             /* in flight                                              */
    uint16_t ranges, range;     /* of a discard: how many, which is next                  */
    uint32_t left;              /* bytes of data that no part has yet                     */
    uint64_t offset;            /* of them, on the disk                                   */
    struct disk_cursor data;    /* of them, in the guest's memory                         */
    uint8_t *status_at;         /* in the guest's memory                                  */
    struct vhost_chain chain;
};

/* A request of ours to the driver domain. */
struct disk_part {
    struct disk_part *next;     /* free ones                                              */
    struct disk_request *request;
    char *buf;                  /* in the pool; NULL: no data                             */
    uint32_t bytes;
    struct disk_cursor data;    /* of the first one                                       */
};

/* A queue of the driver domain's disk. */
struct disk_lane {
    unsigned inflight;          /* parts                                                  */
    bool awaited;               /* a request is short of parts or pages                   */
    unsigned nbatch;
    struct blkfront_io batch[DISK_BATCH];
    struct disk_part *free_parts;
    struct disk_part *parts;    /* as many as the queue is deep                           */
};

/* A ring of the guest's. */
struct disk_ring {
    struct vhost_queue *queue;  /* NULL: not running                                      */
    bool stopping;              /* begins nothing new                                     */
    bool answered;              /* done, not shown yet                                    */
    bool waits;                 /* what the guest has cannot be begun now: no kicks       */
    unsigned inflight;          /* requests that were taken                               */
    struct disk_request *begun; /* taken, and not in flight as a whole                    */
    /* Ranges of `begun`. */
    struct disk_range { uint64_t offset, bytes; bool unmap; } range[DISK_RANGES_MAX];
};

struct disk {
    char name[32];
    struct blkfront *front;
    const struct blkfront_info *info;
    struct vhost_device *dev;
    struct disk_request *requests, *free_requests;
    unsigned nrequests;
    unsigned orphans;           /* of them                                                */
    unsigned turn;              /* the ring that is first next time                       */
    bool durable;               /* the guest does not flush                               */
    struct disk_lane lane[BLK_MAX_QUEUES];
    struct disk_ring ring[VHOST_QUEUES_MAX];

    uint64_t done, failed;      /* requests; of them failed                               */
};

/*
 * Connects to the driver domain; `name` is the device's name in the guest's XML.
 * `notify` is called as blkfront.h says, on the control thread.  The struct is the
 * caller's, need not be zeroed, and must not move.  A negative errno with one sentence
 * otherwise.
 */
int disk_open(struct disk *disk, const char *name, void (*notify)(void *arg, enum blkfront_news news),
              void *arg, char *why, size_t why_bytes);
/* The device that serves it; with disk_class and the disk as its argument.  Before
 * vhost_device_run(). */
void disk_serve(struct disk *disk, struct vhost_device *dev);
/* After vhost_device_run() came back.  Waits for what is in flight, for BLKFRONT_CLOSE_MS. */
void disk_close(struct disk *disk);

extern const struct vhost_class disk_class;

/* ---- within: disk_request.c has the life of a request, disk.c the class */

uint64_t disk_sectors(const struct disk *disk);
/* What came back on a lane: how many, or a negative errno. */
int disk_reap(struct disk *disk, struct disk_lane *lane);
/* Begins what the ring has, as far as there is room. > 0: something; -EPROTO, -ENOTCONN. */
int disk_serve_ring(struct disk *disk, struct disk_ring *ring);
/* All of a lane's batch with one doorbell. 0 or -ENOTCONN. */
int disk_send(struct disk *disk, struct disk_lane *lane);
/* Nothing of it is in flight, and nothing will be. */
void disk_answer(struct disk *disk, struct disk_request *r);
void disk_free_request(struct disk *disk, struct disk_request *r);

#endif
