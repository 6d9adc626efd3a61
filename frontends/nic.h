/* SPDX-License-Identifier: MIT */
/* nic.h - what stands behind the opaque handle of netfront.h. */
#ifndef BULKHEAD_NIC_H
#define BULKHEAD_NIC_H

#include "device.h"
#include "netqueue.h"

struct netfront {
    struct device device;
    struct netfront_options want; /* attach and device are not kept              */
    unsigned queue_pages;         /* of the pool, for each queue                 */
    bool resend;                  /* what is in flight at the end of a connection */
    struct netqueue_terms terms;
    struct netfront_info info;
    struct netqueue queues[NET_QUEUES_MAX];
};

static inline struct netfront *nic_of(struct device *d)
{
    return (struct netfront *)d;
}

#endif
