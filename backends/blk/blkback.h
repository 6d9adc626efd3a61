/* SPDX-License-Identifier: MIT */
/*
 * blkback.h - the block backend of a driver domain, as XenStore sees it.
 *
 * Watches /local/domain/OWN/backend/vbd.  The toolstack makes a directory
 * there for each virtual disk; blkback opens its device, tells its features,
 * maps the frontend's rings when those are readable, hands each queue to a
 * worker, and takes everything back in order when either side closes:
 *
 *   NO_DISK -> WAITING -> CONNECTED -> CLOSING -> CLOSED -> WAITING ...
 *
 * The toolstack's nodes are trusted for control.  Everything that a frontend
 * wrote is read once and checked: a lie ends its own connection, with a
 * sentence in B/error and in the log.
 *
 * All of it runs on the control thread.  Nothing allocates but mmap() for a
 * connection's queues, which is bounded by these tables.
 */
#ifndef BULKHEAD_BLK_BLKBACK_H
#define BULKHEAD_BLK_BLKBACK_H

#include "../../hyp-shim/hyp.h"
#include "../../hyp-shim/store.h"
#include "worker.h"

#define BLKBACK_VBDS_MAX 128u
#define BLKBACK_TICK_MS  1000 /* between two looks at the statistics */

/* Sets the watch; workers run already. The rest follows from events. */
int blkback_init(struct hyp *hyp, struct store *store, struct worker *workers, unsigned nworkers);

/* Each takes all that is waiting of one source. Negative errno: the source is
 * gone, end the process. */
int blkback_store_events(void);
int blkback_hyp_events(void);
void blkback_mail(void);

/* Writes changed statistics to B/stats. */
void blkback_tick(void);
/* How long to sleep at most, for ppoll: BLKBACK_TICK_MS or -1. */
int blkback_timeout_ms(void);

/* True once HYP_EV_STOP was obeyed: nothing in flight, everyone told Closed. */
bool blkback_stopped(void);

#endif
