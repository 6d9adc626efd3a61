/* SPDX-License-Identifier: MIT */
/* disk.h - what stands behind the opaque handle of blkfront.h. */
#ifndef BULKHEAD_DISK_H
#define BULKHEAD_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "../hyp-shim/xenbus.h"
#include "guest.h"
#include "queue.h"

#define DISK_NAME_MAX 32
#define DISK_WHY_MAX  256

enum disk_phase {
    DISK_SEARCH,  /* we Initialising: waits for a backend in InitWait            */
    DISK_OFFERED, /* we Initialised: waits for Connected                         */
    DISK_LIVE,    /* both Connected                                              */
    DISK_DRAIN,   /* waits for the queues' owners to reap                        */
    DISK_RESET,   /* we Closing: waits for a backend that lives to follow        */
    DISK_CLOSING, /* the same, for good, and until the pool can be ended         */
    DISK_ORPHAN,  /* handle is gone, the backend still holds the pool            */
    DISK_LOST,    /* will never connect again                                    */
    DISK_CLOSED,  /* holds nothing any more                                      */
};

struct blkfront {
    struct blkfront *next;       /* of the guest's disks                         */
    struct guest *guest;
    unsigned devid;
    char name[DISK_NAME_MAX];
    struct blkfront_options want; /* attach and device are not kept              */

    enum disk_phase phase;
    bool opened;                 /* was connected once: info, pool, queues final */
    bool closing;
    bool abandoned;              /* the handle is gone: free it once CLOSED      */
    bool backend_dead;           /* the domain bus.peer_domid                    */
    bool stop_told;              /* news BLKFRONT_STOP                           */
    bool hung_up;                /* a channel of the connection is closed        */
    uint8_t news;                /* bits of enum blkfront_news to tell           */
    int error;                   /* why it cannot be opened                      */
    char why[DISK_WHY_MAX];      /* the last trouble, in words                   */
    uint64_t retry_at;           /* ms; SEARCH waits for it; limit of CLOSING    */
    uint64_t live_since;
    unsigned backoff_ms;

    struct xenbus_device bus;    /* peer[0] == 0: no backend known yet           */
    struct hyp_pool *pool;
    domid_t grantee;             /* of the pool                                  */
    unsigned nqueues, ring_pages, pool_pages;
    struct blkqueue_terms terms;
    struct blkfront_info info;
    struct blkqueue queues[BLK_MAX_QUEUES];
    uint64_t reconnects;         /* atomic, as queue counters                    */
};

#endif
