/* SPDX-License-Identifier: MIT */
/*
 * blkterms.h - what a disk and its backend agree on.
 *
 * Everything read here was written by a driver domain and may be a lie: numbers
 * are bounded, what cannot be is refused with a reason.  The first connection
 * settles the terms for the life of the handle; a later backend that offers
 * less, or another disk, is refused.  Called with the guest's lock held.
 */
#ifndef BULKHEAD_BLKTERMS_H
#define BULKHEAD_BLKTERMS_H

#include "disk.h"

/* Pages that a queue must have for data: one request without indirection. */
#define BLKTERMS_POOL_MIN BLKIF_MAX_SEGMENTS_PER_REQUEST

/* As accept_offer and accept_device of struct device_class: queues, ring, pool and
 * grants from the features; size, sectors and operations. */
int blkterms_accept_offer(struct link *l);
int blkterms_accept_device(struct link *l);

#endif
