/* SPDX-License-Identifier: MIT */
/*
 * uring.h - one io_uring a worker, shared by all files that it serves.
 *
 * The ring would otherwise be a way around seccomp, so it is made disabled,
 * restricted, then enabled: for the rest of its life it takes reads, writes,
 * fsync and fallocate, and its table of buffers may be changed; nothing else.  It
 * is made, used and closed by one thread.
 *
 * Files are not registered with it.  What is registered goes with the ring, and that
 * goes tens of milliseconds after its process (a grace period of RCU); a descriptor
 * goes with its process and the last request, and that is what the next incarnation
 * waits for.
 */
#ifndef BULKHEAD_BLK_URING_H
#define BULKHEAD_BLK_URING_H

#include <liburing.h>

#include "device.h"

/* The kernel and we walk round both in turn: small ones stay in the first-level
 * cache. */
#define URING_SQ_ENTRIES 64u
#define URING_CQ_ENTRIES 1024u /* also the limit of requests in flight */
#define URING_BUFFERS    512u

struct uring {
    struct io_uring ring;
    struct blkdev_done *done;
    unsigned inflight;      /* taken and not done                            */
    unsigned unsubmitted;   /* of those, written to the queue but not told    */
    bool open, deferred;    /* deferred: completions need a call (DEFER_TASKRUN) */
    bool buffers;           /* the kernel has a table of buffers for us       */
    uint64_t buffer_used[URING_BUFFERS / 64];
};

/* On the worker's thread, before the jail is sealed.  On failure *step names
 * what failed, and the ring is not open: only ram disks can be served. */
int uring_open(struct uring *u, struct blkdev_done *done, const char **step);
void uring_close(struct uring *u);

/* Readable when requests are done: for ppoll(). -1 when not open. */
int uring_fd(const struct uring *u);

/* Has the kernel start one of the threads that do what cannot be done at once, ahead of the
 * first request that needs it; it stays.  By the thread that uses the ring. */
void uring_warm(struct uring *u);

/*
 * Tells the kernel about new requests and moves what is done to the list.
 * At most one system call, none when there is nothing to tell or to fetch.
 */
void uring_turn(struct uring *u);

/* The table. A number, or a negative errno. */
int uring_buffer_add(struct uring *u, void *base, size_t bytes);
void uring_buffer_remove(struct uring *u, int buffer);

/* An entry for one more request, or NULL: too many in flight. */
struct io_uring_sqe *uring_sqe(struct uring *u);

/* file.c: the kernel's answer to a request. True: done, *error set. False: the
 * rest was submitted again. */
bool file_answer(struct uring *u, struct blkdev_io *io, int result, int *error);

#endif
