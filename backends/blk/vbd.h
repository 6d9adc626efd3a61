/* SPDX-License-Identifier: MIT */
/* vbd.h - one virtual disk of the backend; inside backends/blk only. */
#ifndef BULKHEAD_BLK_VBD_H
#define BULKHEAD_BLK_VBD_H

#include "blkback.h"

#define BLK_NCOUNTERS (sizeof(struct blk_counters) / sizeof(uint64_t))

/* One queue of a connection, and what it is made of. */
struct vbd_queue {
    struct blk_queue *q;
    struct hyp_map *map;
    struct hyp_evtchn *evtchn;
    void *ring;
    unsigned pages;
};

struct vbd {
    struct backend_device dev;
    struct blk_disk disk;
    bool known;            /* what the toolstack says of the disk was read         */
    uint64_t ram_bytes;
    uint32_t weight;
    bool armed;            /* its queues are with the workers, or were, without it  */
    unsigned nqueues;
    struct vbd_queue queue[BLK_MAX_QUEUES];
    struct blk_counters past;      /* of queues that are gone                     */
    struct blk_counters published; /* what B/stats says                           */
};

struct blkback {
    struct worker *workers;
    unsigned nworkers;
    struct vbd vbd[BLKBACK_VBDS_MAX];
};

/* ----------------------------------------------------------------- vbddisk.c */

/* Opens what B/params names: device:N or ram:BYTES. -EAGAIN: the device is not
 * open yet, HYP_EV_DEVICE will say when; from then on nothing of the store is
 * needed. Else *what says what is wrong. */
int vbd_disk_open(struct vbd *v, const char **what);
void vbd_disk_close(struct vbd *v);

/* -------------------------------------------------------------- vbdconnect.c */

/* Reads the frontend's nodes and makes its queues, at most max; nothing is kept
 * on failure and *what says, for the operator, what was wrong. */
int vbd_connect(struct vbd *v, unsigned max, const char **what);
/* Unmaps one queue that no worker has and frees it; keeps its counters. */
void vbd_queue_end(struct vbd *v, struct vbd_queue *vq);

/* ---------------------------------------------------------------- vbdnodes.c */

/* What we write into our own directory; without the disk, only what needs none. */
int vbd_write_features(struct vbd *v, unsigned queues_max);
int vbd_write_geometry(struct vbd *v);
/* Only counters that changed. */
int vbd_write_stats(struct vbd *v);

#endif
