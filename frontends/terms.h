/* SPDX-License-Identifier: MIT */
/*
 * terms.h - how terms are read, and told when there are none: what blkterms.h and
 * netterms.h have in common.  Called with the guest's lock held.
 */
#ifndef BULKHEAD_TERMS_H
#define BULKHEAD_TERMS_H

#include "device.h"

/* Notes what went wrong, here and in the store for the operator, as "NOUN NAME: ...";
 * returns err. */
int terms_trouble(struct link *l, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* As terms_trouble(), and there is no sense in trying to open the device further.
 * One that was open tries again: the next driver domain may be a better one. */
#define terms_refuse(l, err, ...) \
    ((l)->device->opened ? terms_trouble((l), (err), __VA_ARGS__) \
                         : ((l)->device->error = terms_trouble((l), (err), __VA_ARGS__)))

/* A number of the backend's, which may be a lie: within least..most, least when it
 * is none. */
unsigned terms_bounded(struct link *l, const char *key, unsigned least, unsigned most);
/* What the toolstack configured in our own directory; it is trusted. */
unsigned terms_configured(struct link *l, const char *key, unsigned dflt);
/* How many queues: as wanted, else as configured, else 1; never more than offered. */
unsigned terms_queues(struct link *l, unsigned want, unsigned offered);
/* Pages of each queue: as wanted, else as configured, else dflt; refuses fewer than
 * `least`, and too many. */
int terms_pool_pages(struct link *l, unsigned want, unsigned dflt, unsigned least, unsigned *out);
/* What "bulkhead-grants" says: its index in names, which ends with NULL; else 0. */
unsigned terms_grants(struct link *l, const char *const *names);

#endif
