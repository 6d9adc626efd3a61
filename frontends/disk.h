/* SPDX-License-Identifier: MIT */
/* disk.h - what stands behind the opaque handle of blkfront.h. */
#ifndef BULKHEAD_DISK_H
#define BULKHEAD_DISK_H

#include "blkqueue.h"
#include "device.h"

struct blkfront {
    struct device device;
    struct blkfront_options want; /* attach and device are not kept              */
    unsigned ring_pages, data_pages; /* of each queue                            */
    unsigned max_deaths, limit_ms;
    struct blkqueue_terms terms;
    struct blkfront_info info;
    struct blkqueue queues[BLK_MAX_QUEUES];
};

static inline struct blkfront *disk_of(struct device *d)
{
    return (struct blkfront *)d;
}

#endif
