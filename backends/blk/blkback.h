/* SPDX-License-Identifier: MIT */
/*
 * blkback.h - the block backend: what backend.h needs to serve disks.
 *
 * Opens what B/params names, tells the disk's features, maps the frontend's
 * rings, hands each queue to a worker.  All of it runs on the control thread.
 * Nothing allocates but mmap() for a connection's queues, which is bounded by
 * these tables.
 */
#ifndef BULKHEAD_BLK_BLKBACK_H
#define BULKHEAD_BLK_BLKBACK_H

#include "../backend.h"
#include "worker.h"

#define BLKBACK_VBDS_MAX 128u

/* backend_init() for disks; workers run already. */
int blkback_init(struct hyp *hyp, struct store *store, struct worker *workers, unsigned nworkers);
/* Takes all mail of the workers. */
void blkback_mail(void);

#endif
