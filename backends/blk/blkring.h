/* SPDX-License-Identifier: MIT */
/*
 * blkring.h - one queue of a virtual disk: a shared ring served from a device.
 *
 * A queue is made by the control thread, then given to one worker and touched
 * by no one else until that worker gives it back.  It needs neither the store
 * nor a thread of its own, so tests and fuzzers drive it by hand:
 *
 *     blk_queue_service()   ring -> device: take, check, start
 *     blk_queue_done()      device -> ring: one answer for each request taken
 *     blk_queue_push()      tell the frontend, once a batch
 *
 * Everything on the ring and behind a grant is hostile.  A request that is
 * wrong is answered with an error and counted under the name of what is wrong
 * with it.  An index that cannot be true, or granted memory that goes away,
 * breaks this queue's connection: no more is taken or answered, and `why`
 * says it in words; other connections do not notice.
 *
 * Nothing here allocates, locks or waits.  Persistent grants cost no system
 * call either; copy and map cost what the hypervisor takes for them.
 */
#ifndef BULKHEAD_BLK_RING_H
#define BULKHEAD_BLK_RING_H

#include "../../hyp-shim/blkproto.h"
#include "../../hyp-shim/hyp.h"
#include "../../hyp-shim/ring.h"
#include "device.h"

#define BLK_REQUESTS      128u /* of one queue taken and not answered               */
#define BLK_LONG_REQUESTS 32u  /* of those, with more than BLK_SHORT_SEGMENTS       */
#define BLK_SHORT_SEGMENTS 11u
#define BLK_BOUNCE_PAGES  512u /* copied grants: private memory of one queue, 2 MiB */
#define BLK_RANGES        32u  /* granted memory ranges that one queue registers    */

/* What a request costs in the currency of fairness: its bytes and this much.
 * It stands for the work that is the same for every request, about the time
 * that 4 KiB take. */
#define BLK_COST_REQUEST 4096u
/* Flush, and the cap of discard and zeroes, whose length is no transfer. */
#define BLK_COST_LONG    65536u

/* Counters of a queue, and the names of the nodes below B/stats. */
#define BLK_COUNTERS(X)                                                                        \
    X(reads) X(writes) X(flushes) X(discards) X(zeroes) X(read_bytes) X(write_bytes)           \
    X(errors)       /* the device said no                                                   */ \
    X(bad_op)       /* operation unknown or not offered                                     */ \
    X(bad_segments) /* count 0 or too large; first > last; last past the page               */ \
    X(bad_range)    /* beyond the end of the disk; empty                                    */ \
    X(bad_align)    /* not whole logical sectors                                            */ \
    X(bad_readonly) /* change of a read-only disk                                           */ \
    X(bad_grant)    /* a reference that was not granted for this                            */ \
    X(broken)       /* connections ended because the frontend lied                          */ \
    X(doorbells)    /* rung                                                                 */ \
    X(wakeups)      /* heard                                                                */ \
    X(storms)       /* times that a doorbell rang for nothing so often that it was muted    */

struct blk_counters {
#define X(name) uint64_t name;
    BLK_COUNTERS(X)
#undef X
};

enum blk_grants { BLK_GRANTS_PERSISTENT, BLK_GRANTS_COPY, BLK_GRANTS_MAP };

/* What all queues of one disk share; constant while a worker serves one. */
struct blk_disk {
    enum { BLK_DISK_RAM = 1, BLK_DISK_FILE } kind;
    int fd;
    void *ram;
    struct blkdev_geometry geo;
};

struct blk_queue;

/* A request on the ring, copied and checked: what is to be done. */
struct blk_cmd {
    uint8_t op, flags; /* enum blkdev_op, BLKDEV_*                                 */
    uint8_t wire_op;   /* for the response                                         */
    uint16_t nseg;
    uint64_t id, offset, bytes;
    const struct blkif_request_segment *seg; /* private copy, nseg of them         */
};

/* A request that was taken and is not answered yet. */
struct blk_req {
    struct blkdev_io io; /* first: a finished io leads to its request               */
    struct blk_queue *queue;
    struct blk_req *next;
    uint64_t id;
    uint64_t offset;     /* of the whole request, in bytes                          */
    uint64_t bytes;      /* its length                                              */
    uint64_t started;    /* of them, given to the device                            */
    uint32_t cost;       /* of the slice that the device has                        */
    uint16_t nseg;
    uint8_t wire_op;
    bool is_long;
    uint8_t long_index;
    uint16_t at, pieces; /* iov[at .. pieces) is not given to the device yet        */
    struct iovec *iov;
    struct iovec cut;    /* what follows the slice in its last piece                */
    struct iovec one;
    void *mapped;        /* map: nseg pages; NULL: each piece is one                */
    struct blkif_request_segment *seg; /* copy: where the data goes                 */
    uint16_t bounce;     /* copy: first page of its bounce memory                   */
    union {
        struct iovec iov[BLK_SHORT_SEGMENTS];
        struct blkif_request_segment seg[BLK_SHORT_SEGMENTS];
    } store;
};

struct blk_queue {
    /* set up by the control thread */
    struct ring_back ring;
    struct hyp_map *map;
    struct hyp_evtchn *evtchn;
    enum blk_grants grants;
    uint32_t weight;             /* 1..1000, 100 is usual                           */
    const struct blk_disk *disk; /* the worker's from blk_queue_open() on           */
    void *owner;                 /* the vbd; not looked at here                     */

    /* the worker's */
    struct blkdev *dev;
    union {
        struct blkdev_ram ram;
        struct blkdev_file file;
    } device;
    uint32_t waiting;            /* on the ring when it was last looked at          */
    bool held;                   /* cmd was taken and not started                   */
    bool broken, draining, touched;
    bool reported;               /* worker.c: the control thread knows it is broken   */
    bool deaf;                   /* worker.c: the frontend's end of the channel is gone */
    bool armed;                  /* waits for its disk and its first doorbell       */
    bool opened;                 /* armed: has its disk                             */
    const char *why;             /* it is broken, in words                          */
    struct blk_cmd cmd;
    struct blk_req *rest, **rest_tail; /* requests with more to give to the device  */
    uint64_t inflight;           /* cost of what the device has                     */
    unsigned busy;               /* requests taken into reqs[]                      */
    uint64_t deficit;            /* sched.c                                         */
    uint32_t last_active;        /* sched.c: turn number                            */
    uint32_t idle_rings;         /* worker.c: doorbells in a row for nothing        */
    struct blk_queue *next_touched, *next_draining, *next_armed;
    struct blk_counters count;

    union {
        struct blkif_request rw;
        struct blkif_request_discard discard;
        struct blkif_request_indirect indirect;
    } wire;                      /* the private copy of the request at hand         */
    int16_t range_buffer[BLK_RANGES]; /* registered buffer of a range, or ..._UNKNOWN */
    int bounce_buffer;
    uint8_t *bounce;
    uint64_t bounce_used[BLK_BOUNCE_PAGES / 64];
    uint16_t nfree, nlong;
    uint8_t free_req[BLK_REQUESTS];
    uint8_t free_long[BLK_LONG_REQUESTS];
    struct blk_req req[BLK_REQUESTS];
    struct blkif_request_segment seg[BLK_MAX_INDIRECT_SEGMENTS];
    grant_ref_t refs[BLK_MAX_INDIRECT_SEGMENTS];
    struct hyp_copy pieces[BLK_MAX_INDIRECT_SEGMENTS];
    union {
        struct iovec iov[BLK_MAX_INDIRECT_SEGMENTS];
        struct blkif_request_segment seg[BLK_MAX_INDIRECT_SEGMENTS];
    } longs[BLK_LONG_REQUESTS];
};

/* Counters have one writer, the worker, and one reader at any time, the control thread. */
static inline void blk_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

struct blk_queue_config {
    void *ring;       /* mapped ring pages, consecutive                            */
    size_t ring_bytes;
    struct hyp_map *map;
    struct hyp_evtchn *evtchn;
    enum blk_grants grants;
    uint32_t weight;
    const struct blk_disk *disk; /* outlives the queue                              */
};
/*
 * Control thread.  One mapping holds all that a queue needs, so an idle table
 * of queues costs nothing; bounce memory comes only with copied grants.
 * -EINVAL the ring is too small; -ENOMEM.  The map, the ring pages and the
 * channel stay the caller's.
 */
int blk_queue_create(struct blk_queue **out, const struct blk_queue_config *cfg);
/* Control thread, after the worker gave it back. */
void blk_queue_destroy(struct blk_queue *q);

/* Worker: makes all that can be made before the disk is there: registers what the
 * frontend granted.  blk_queue_open() follows, at some time. */
void blk_queue_arm(struct blk_queue *q, struct uring *uring, struct blkdev_done *done);
/* Worker: an armed queue has its disk and was rung: it begins where its ring does. */
void blk_queue_start(struct blk_queue *q);
/* Worker: opens the disk on its own ring; finished requests go to done. */
int blk_queue_open(struct blk_queue *q, struct uring *uring, struct blkdev_done *done);
/* The same with a device that the caller made. */
void blk_queue_use(struct blk_queue *q, struct blkdev *dev);
/* Worker: nothing is in flight any more. */
void blk_queue_close(struct blk_queue *q);

enum blk_turn {
    BLK_TURN_IDLE,  /* the ring is empty                                           */
    BLK_TURN_MORE,  /* the budget is spent                                         */
    BLK_TURN_FULL,  /* nothing more until requests in flight are done              */
    BLK_TURN_BROKEN
};
struct blk_budget {
    uint64_t cost;     /* in and out                                               */
    uint64_t inflight; /* cost in the device at which no more is given to it       */
    uint32_t slice;    /* most bytes given to the device at once; whole 4 KiB      */
    uint32_t requests; /* most to take off the ring                                */
};
enum blk_turn blk_queue_service(struct blk_queue *q, struct blk_budget *budget);

/* A request came back from the device; may put it up for its next slice. */
void blk_queue_done(struct blk_req *r);

/* Publishes the answers so far, and rings when the frontend asked for it. */
void blk_queue_push(struct blk_queue *q);

/* Takes no more from the ring; true when nothing is in flight either. */
bool blk_queue_drain(struct blk_queue *q);

void blk_queue_break(struct blk_queue *q, const char *why);

/* ------------------------------------------------------------- blkparse.c */

/* Checks q->wire and fills q->cmd. BLKIF_RSP_OKAY, or the response status of
 * a request that is refused, counted. */
int16_t blk_parse(struct blk_queue *q);

/* -------------------------------------------------------------- blkdata.c */

/* Makes the data of q->cmd reachable and lists it in r. -EAGAIN: no room until
 * something is done; -EACCES: bad grant, nothing is held. */
int blk_data_open(struct blk_queue *q, struct blk_req *r);
/* Gives all of it back; copies what was read to its grants first when the
 * request went well.  0 or -EACCES. */
int blk_data_close(struct blk_queue *q, struct blk_req *r, bool ok);
/* Copies bytes from the start of one granted page, once. 0 or -EACCES. */
int blk_data_fetch(struct blk_queue *q, grant_ref_t ref, void *dst, size_t bytes);
/* Private and registered memory: made with the queue or the device. */
int blk_data_bounce(struct blk_queue *q);
void blk_data_register(struct blk_queue *q);
/* What a persistent frontend granted together with its ring, ahead of its requests. */
void blk_data_register_granted(struct blk_queue *q);
void blk_data_unregister(struct blk_queue *q);

#endif
