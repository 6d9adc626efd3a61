/* SPDX-License-Identifier: MIT */
/*
 * worker.h - a thread, its ring of device requests, and the queues it serves.
 *
 * Workers share nothing with each other.  One polls while there is work, goes
 * on looking for a moment, then sleeps on its doorbells, its device ring and
 * its mailbox.  All its memory is static and its io_uring exists before the
 * jail is sealed.
 */
#ifndef BULKHEAD_BLK_WORKER_H
#define BULKHEAD_BLK_WORKER_H

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>

#include "../mailbox.h"
#include "sched.h"
#include "uring.h"

#define WORKERS_MAX        8u
#define WORKER_STACK_BYTES (128u << 10)
#define WORKER_LOOKS       256u /* at empty rings before sleeping: some 20 us       */
/* A doorbell that rang this often in a row for nothing is left out of the next
 * sleep, which is then short: whoever rings it slows only itself (XSA-332). */
#define WORKER_STORM_RINGS 64u
#define WORKER_RETRY_MS    10
/* Turns between looks at the doorbells of armed queues, while there is work: a call
 * that an honest frontend makes few of. */
#define WORKER_ARMED_TURNS 8u

struct worker {
    struct mailbox in, out;
    pthread_t thread;
    int cpu;                /* pinned there; -1: anywhere                           */
    int wake_fd;
    struct uring uring;
    struct blk_sched sched;
    struct blk_queue *draining; /* to be given back when nothing is in flight        */
    struct blk_queue *armed;    /* wait for their disk, then for their first doorbell */
    bool look_at_armed;     /* one of them has its disk                             */
    unsigned armed_turns;   /* since that was noted                                 */
    bool stop;
    int start_error;        /* of uring_open(): files cannot be served              */
    const char *start_step;
    sem_t started;
    struct pollfd poll[2 + DRR_QUEUES];
};

/*
 * Starts the thread; control_fd is the eventfd that its answers ring.  Returns
 * when it is ready, with its ring open or start_error set.  0 or a negative
 * errno: no thread.
 */
int worker_start(struct worker *w, int cpu, int control_fd);
/* Asks it to end and waits; for tests. It must have no queues. */
void worker_stop(struct worker *w);

#endif
