/* SPDX-License-Identifier: MIT */
/*
 * blkfront.h - a guest's disk, served by a driver domain over shared rings.
 *
 * The public C API of the block frontend.  An opaque handle is one disk; it
 * has one or more queues.  A queue is used by one thread at a time and shares
 * nothing with the other queues.  Requests are asynchronous: submit many, reap
 * what is done, wait on a descriptor when there is nothing to do.
 *
 * Memory.  I/O happens in the queue's part of the pool, the only memory that
 * the driver domain can see.  Allocate buffers with blkfront_alloc() and read
 * and write them in place: no copy is made.  The driver domain may change a
 * buffer of a request at any time until that request is reaped: copy out
 * before you trust.
 *
 * Threads.  One thread of the library's own serves all disks of a guest: it
 * waits for news of the driver domain and makes the connection anew.  It calls
 * nothing but `notify`.  A program that has not said what SIGPIPE shall do
 * ignores it from the first blkfront_open() on: the doorbell of a driver domain
 * that just died would raise it.
 *
 * Death and rebirth.  The other side is not trusted: it may die at any time, and
 * a response that cannot be true ends the connection like a death.  Neither ends
 * a request.  What is in flight stays so, however long the outage is, and is sent
 * again, in the order of its submission, when a driver domain is there and
 * nothing of the dead one can reach the disk or a buffer any more.  Each request
 * is reaped exactly once.  It may then have been done more than once, but not
 * after that.  New requests are taken meanwhile, up to the queue's depth.
 *
 * - A buffer is the driver domain's, dead or alive, until its request is reaped.
 * - Requests that are in flight together have no order, less so through a death:
 *   of two writes to one block either may be found, and first the one, then the
 *   other, until both are reaped.  A flush that is sent again covers all that was
 *   reaped before it was submitted, whoever wrote it.
 * - Poison.  A request that was sent in options.max_deaths connections which all
 *   ended before it was answered may be what ends them: it fails with -EIO once
 *   nothing can do it any more, so it too is reaped only when the disk is back.
 *   Its blocks hold what they held, or what it wrote, whole or in part.
 * - Time limit.  Where the toolstack configured one (bulkhead-timeout-ms), a request
 *   that is older while there is no connection fails with -ETIMEDOUT.  A kernel that
 *   still works for the dead may touch its blocks and its buffer later: that buffer
 *   is refused (-EBUSY) until the disk is back, and blkfront_free() of it takes
 *   effect only then.
 * - A driver domain that is restarted in order finishes what it has first: nothing
 *   is sent again then.
 * - A thread that works with a queue must come by (submit, reap or idle) before
 *   the disk can come back; one that sleeps after blkfront_idle() said 0 need
 *   not: its descriptor becomes readable when the disk is back.
 *
 * -ENOTCONN: nothing comes back, the hypervisor being gone (or memory of the pool,
 * destroyed by the driver domain), and no fence can be waited for.  All in flight
 * is reaped with it, once.  A kernel that still works for the dead may touch
 * blocks and buffers of such requests later: use those buffers for nothing else,
 * and leave the pool to blkfront_close().  That is safe, since the kernel holds
 * the pages that it works on.
 *
 * Functions return 0 or a count, or a negative errno.
 */
#ifndef BULKHEAD_BLKFRONT_H
#define BULKHEAD_BLKFRONT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct blkfront;

enum blkfront_grants {
    BLKFRONT_GRANTS_AUTO,       /* what the toolstack configured, else persistent */
    BLKFRONT_GRANTS_PERSISTENT, /* the driver domain keeps the pool mapped        */
    BLKFRONT_GRANTS_COPY,       /* it copies, and maps nothing but the rings      */
    BLKFRONT_GRANTS_MAP         /* it maps and unmaps for each request            */
};

/* What `notify` may say. */
enum blkfront_news {
    BLKFRONT_UP,   /* connected again                                            */
    BLKFRONT_DOWN, /* the driver domain died, lied or left; requests wait        */
    BLKFRONT_STOP, /* the toolstack asks this guest to finish and end            */
    BLKFRONT_GONE  /* the hypervisor is gone; the disk will not come back        */
};

struct blkfront_options {
    const char *attach;  /* attach socket of a native guest; NULL: this process
                            was started as a domain                               */
    const char *device;  /* target name in the guest's XML, "vda"; NULL: the only one */
    unsigned queues;     /* 0: as configured; never more than the backend has     */
    unsigned ring_pages; /* power of two, at most 16; 0: 4 (128 requests a queue) */
    unsigned pool_pages; /* data pages a queue; 0: as configured, else 380, which with
                            the ring and its descriptors fill a huge page          */
    enum blkfront_grants grants;
    int timeout_ms;      /* for the first connection; 0: 10,000                   */
    /* Called by the library's thread, which it must not hold up; may not close
     * the disk. NULL: not called. */
    void (*notify)(void *arg, enum blkfront_news news);
    void *arg;
    unsigned max_deaths; /* at most 65,535; 0: as configured, else 3              */
};

/*
 * Names of the guest's disks in order of their device numbers, each
 * NUL-terminated, one after the other in names; returns their number.  Makes
 * this process the guest, as blkfront_open() does, and leaves it so until it
 * ends or closes its last disk.  -E2BIG: does not fit.
 */
int blkfront_list(const char *attach, char *names, size_t bytes, char *err, size_t err_bytes);

/*
 * Connects to the disk.  On failure returns a negative errno and, when err is
 * not NULL, puts one sentence there that says what, where and what to do.
 */
int blkfront_open(struct blkfront **out, const struct blkfront_options *opt, char *err, size_t err_bytes);

/*
 * Ends the connection in order.  Requests in flight are waited for, at most
 * BLKFRONT_CLOSE_MS, and their results dropped; whether one that was waited for
 * in vain is done, and when, is not known before the disk is open again.  The
 * pool is gone afterwards: what the device still does with it, it does to pages
 * that are nobody else's until then.  No other thread may use the disk any more.
 */
#define BLKFRONT_CLOSE_MS 5000
void blkfront_close(struct blkfront *disk);

struct blkfront_info {
    uint64_t bytes;            /* size of the disk                                */
    uint32_t sector_bytes;     /* offsets and lengths are multiples of this       */
    uint32_t physical_bytes;
    uint32_t max_io_bytes;     /* longest read or write of a page-aligned buffer; one
                                  that is not touches a page more and may be too long */
    uint32_t queue_depth;      /* requests a queue can have in flight             */
    uint32_t queues;
    uint32_t discard_granularity;
    uint8_t readonly, can_flush, can_discard, can_zeroes;
    uint8_t can_fua;           /* the backend's own, or a write and then a flush  */
    enum blkfront_grants grants; /* the outcome of the negotiation                */
};
/* Constant while the handle lives: a driver domain that offers less when it comes
 * back is refused. */
const struct blkfront_info *blkfront_info(const struct blkfront *disk);

/* A buffer of whole pages, contiguous, page-aligned, in the pool of a queue.
 * NULL: none that long is free. */
void *blkfront_alloc(struct blkfront *disk, unsigned queue, size_t bytes);
void blkfront_free(struct blkfront *disk, unsigned queue, void *buf);

enum blkfront_op {
    BLKFRONT_READ,
    BLKFRONT_WRITE,
    BLKFRONT_FLUSH,   /* all writes that were reaped before are durable           */
    BLKFRONT_DISCARD,
    BLKFRONT_ZEROES
};
#define BLKFRONT_FUA       (1u << 0) /* write: done when durable                  */
#define BLKFRONT_MAY_UNMAP (1u << 1) /* zeroes: may deallocate                    */

struct blkfront_io {
    uint8_t op;      /* enum blkfront_op                                          */
    uint8_t flags;
    uint32_t bytes;  /* read, write: length                                       */
    uint64_t offset; /* bytes into the disk                                       */
    uint64_t length; /* discard, zeroes: length                                   */
    void *buf;       /* read, write: sector-aligned, in this queue's pool         */
    uint64_t cookie; /* comes back with the result                                */
};

/*
 * Queues up to n requests, in order, and tells the backend once.  Returns how
 * many were taken (fewer when the queue is full: reap, then go on).  A request
 * that can never be right (-EINVAL alignment, end of disk, foreign buffer;
 * -EMSGSIZE too long; -EROFS; -EOPNOTSUPP; -EBUSY for now) is refused when it is the first,
 * and ends the batch before it otherwise.  -ENOTCONN: as above.
 */
int blkfront_submit(struct blkfront *disk, unsigned queue, const struct blkfront_io *ios, unsigned n);

struct blkfront_result {
    uint64_t cookie;
    int error; /* 0 or a negative errno */
};
/* Takes up to n results.  Never blocks. */
int blkfront_reap(struct blkfront *disk, unsigned queue, struct blkfront_result *out, unsigned n);

/*
 * Readable when the queue may have results.  Before you sleep on it call
 * blkfront_idle(): > 0 means there is work already, do not sleep.
 */
int blkfront_fd(const struct blkfront *disk, unsigned queue);
int blkfront_idle(struct blkfront *disk, unsigned queue);
/* Both in one: sleeps until there may be results. 1 perhaps, 0 timeout. -1: no limit. */
int blkfront_wait(struct blkfront *disk, unsigned queue, int timeout_ms);

struct blkfront_stats {
    uint64_t requests, bytes, errors, doorbells, wakeups, reconnects;
    uint64_t broken;   /* times that the backend was caught lying               */
    uint64_t replayed; /* requests that were sent again, each time              */
    uint64_t poisoned; /* requests that failed for it                           */
    uint64_t timed_out; /* requests that failed by the time limit               */
};
void blkfront_stats(const struct blkfront *disk, struct blkfront_stats *out);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
