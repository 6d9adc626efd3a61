/* SPDX-License-Identifier: MIT */
/*
 * lane.h - one queue of a disk, shared by threads that each wait for their own
 * request.
 *
 * A queue belongs to one thread at a time; a lane lends it round under a lock
 * that is never held while someone sleeps.  Of the threads that wait, one leads:
 * it sleeps on the queue's descriptor and hands results to the others.  When its
 * own result came it passes the lead on.
 */
#ifndef BULKHEAD_LANE_H
#define BULKHEAD_LANE_H

#include <pthread.h>
#include <stdbool.h>

#include "../include/bulkhead/blkfront.h"

struct ticket;

struct lane {
    struct blkfront *disk;
    unsigned queue;
    pthread_mutex_t lock;
    pthread_cond_t room;     /* a ring slot or buffer was freed               */
    bool led;                /* someone sleeps for all                        */
    unsigned lent;           /* buffers                                       */
    struct ticket *waiting;  /* requests that are not done, but the leader's */
};

void lane_init(struct lane *lane, struct blkfront *disk, unsigned queue);
void lane_destroy(struct lane *lane);

/* A buffer of the queue's pool; waits until one is free. bytes at most the
 * disk's max_io_bytes. */
void *lane_buffer(struct lane *lane, size_t bytes);
void lane_release(struct lane *lane, void *buf);

/* Does one request and waits for it: 0 or a negative errno. io->cookie is
 * the lane's. */
int lane_do(struct lane *lane, struct blkfront_io io);

#endif
