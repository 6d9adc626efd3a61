/* SPDX-License-Identifier: MIT */
/* vbd.h - one virtual disk of the backend; inside backends/blk only. */
#ifndef BULKHEAD_BLK_VBD_H
#define BULKHEAD_BLK_VBD_H

#include "../../hyp-shim/xenbus.h"
#include "blkback.h"

enum vbd_state { VBD_FREE, VBD_NO_DISK, VBD_WAITING, VBD_CONNECTED, VBD_CLOSING, VBD_CLOSED };

/* One queue of a connection, and what it is made of. */
struct vbd_queue {
    struct blk_queue *q;
    struct hyp_map *map;
    struct hyp_evtchn *evtchn;
    void *ring;
    unsigned pages;
    struct worker *worker; /* that has it; NULL: ours */
};

struct vbd {
    enum vbd_state state;
    bool gone;      /* the toolstack removed it: no more writing to its directory  */
    bool seen;      /* by the scan under way                                       */
    bool has_disk;
    domid_t frontend;
    unsigned devid;
    unsigned serial; /* tells this use of the slot from earlier ones               */
    struct xenbus_device bus;
    struct blk_disk disk;
    uint32_t weight;
    unsigned nqueues;
    struct vbd_queue queue[BLK_MAX_QUEUES];
    struct blk_counters past;      /* of queues that are gone                     */
    struct blk_counters current;   /* sum of all, at the last look                */
    struct blk_counters published; /* what B/stats says                           */
};

struct blkback {
    struct hyp *hyp;
    struct store *store;
    struct worker *workers;
    unsigned nworkers;
    unsigned serial;
    bool stopping;
    struct vbd vbd[BLKBACK_VBDS_MAX];
};

/* ----------------------------------------------------------------- vbddisk.c */

/* Opens what B/params names: device:N or ram:BYTES. -EAGAIN: the device is not
 * open yet, HYP_EV_DEVICE will say when. Else *what says what is wrong. */
int vbd_disk_open(struct blkback *bb, struct vbd *v, const char **what);
void vbd_disk_close(struct vbd *v);

/* -------------------------------------------------------------- vbdconnect.c */

/* Reads the frontend's nodes and makes its queues; nothing is kept on failure
 * and *what says, for the operator, what was wrong. */
int vbd_connect(struct blkback *bb, struct vbd *v, const char **what);
/* Hands the queues of a connected disk to the workers. */
void vbd_attach(struct blkback *bb, struct vbd *v);
/* Unmaps one queue that no worker has and frees it; keeps its counters. */
void vbd_queue_end(struct vbd *v, struct vbd_queue *vq);

/* ---------------------------------------------------------------- vbdnodes.c */

/* What we write into our own directory, each in one transaction and only while
 * the directory is there. */
int vbd_write_features(struct blkback *bb, struct vbd *v);
int vbd_write_geometry(struct blkback *bb, struct vbd *v);
/* Only counters that changed. */
int vbd_write_stats(struct blkback *bb, struct vbd *v);

#endif
