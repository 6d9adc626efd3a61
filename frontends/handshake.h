/* SPDX-License-Identifier: MIT */
/*
 * handshake.h - a device's way from phase to phase (device.h).
 *
 * Level-triggered: a step looks at the store, the queues and the clock as they
 * are now, never at which event came, so events may be lost or merged.  What a
 * backend writes to the store is hostile: numbers are bounded, absurd ones
 * refused with a reason.  Called with the guest's lock held.
 */
#ifndef BULKHEAD_HANDSHAKE_H
#define BULKHEAD_HANDSHAKE_H

#include "device.h"

/* Takes all steps that can be taken now; true: at least one was, or the device was
 * refused for good. */
bool handshake_step(struct device *d, uint64_t now);
/* Goes over to the spare when the live backend is over and the spare armed; true: it
 * did.  Before all other steps, and of all devices, since it asks nobody. */
bool handshake_hurry(struct device *d, uint64_t now);
/* When the next step is due by the clock, after steps at `now`; UINT64_MAX: never. */
uint64_t handshake_due(const struct device *d, uint64_t now);
/* The hypervisor is gone. */
void handshake_lost(struct device *d, const char *why);
/* Frees queues; the pool is left to hyp_close(). */
void handshake_abandon(struct device *d);

#endif
