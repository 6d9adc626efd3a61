/* SPDX-License-Identifier: MIT */
/* device_inner.h - what device.c and request.c share. */
#ifndef BULKHEAD_VHOST_DEVICE_INNER_H
#define BULKHEAD_VHOST_DEVICE_INNER_H

#include "device.h"

/* Ends the connection, and says why: the sentence goes behind the device's name.  -EPROTO. */
int vhost_break(struct vhost_device *dev, enum vhost_broken why, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The queues that must be stopped before this message may be done, a bit for each. */
uint32_t vhost_request_stops(const struct vhost_device *dev);
/* Does dev->in, whole and right by itself; queues that must stop did.  0, or -EPROTO: it broke
 * the connection. */
int vhost_request_do(struct vhost_device *dev);
/* Is it for this moment and this device at all?  0 or -EPROTO. */
int vhost_request_check(struct vhost_device *dev);
/* What the VMM has said about queues and features is forgotten. */
void vhost_request_forget(struct vhost_device *dev);
/* The inflight region is given up. */
void vhost_inflight_drop(struct vhost_device *dev);

/* Starts what can run and does not.  0 or -EPROTO. */
int vhost_start_queues(struct vhost_device *dev);

void vhost_close(int *fd);

#endif
