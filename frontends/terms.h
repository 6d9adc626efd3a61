/* SPDX-License-Identifier: MIT */
/*
 * terms.h - what a disk and its backend agree on.
 *
 * Everything read here was written by a driver domain and may be a lie: numbers
 * are bounded, what cannot be is refused with a reason.  The first connection
 * settles the terms for the life of the handle; a later backend that offers
 * less, or another disk, is refused.  Called with the guest's lock held.
 */
#ifndef BULKHEAD_TERMS_H
#define BULKHEAD_TERMS_H

#include "disk.h"

/* The backend is in InitWait: queues, ring, pool and grants, from its features. */
int terms_accept_offer(struct blkfront *d);
/* The backend is Connected: size, sectors and operations. */
int terms_accept_disk(struct blkfront *d);

/* Notes what went wrong, here and in the store for the operator; returns err. */
int disk_trouble(struct blkfront *d, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* As disk_trouble(), and there is no sense in trying to open the disk further. One
 * that was open tries again: the next driver domain may be a better one. */
#define disk_refuse(d, err, ...) \
    ((d)->opened ? disk_trouble((d), (err), __VA_ARGS__) \
                 : ((d)->error = disk_trouble((d), (err), __VA_ARGS__)))

#endif
