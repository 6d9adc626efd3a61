/* SPDX-License-Identifier: MIT */
/*
 * twin.h - the connection to the spare of a driver domain, made ahead.
 *
 * Beside its live link a device that was opened has one to the spare, if there is
 * one: handshake, event channels and all, over the same pool, which both may map.
 * Armed, it waits.  When the live one is over, by a death or in order, the rings
 * are made anew on the same pages, the armed channels belong to them, each queue's
 * first one is rung once, and the queues work again, without a word of the store:
 * the spare serves a ring from its first doorbell on and once it has the device,
 * whichever comes later; that is the fence, and it says Connected then.
 *
 * It fails alone: whatever the spare does, the live connection goes on.
 */
#ifndef BULKHEAD_TWIN_H
#define BULKHEAD_TWIN_H

#include <stdbool.h>
#include <stdint.h>

struct device;

enum twin_phase {
    TWIN_SEARCH,  /* waits for a spare in InitWait                               */
    TWIN_OFFERED, /* we Initialised: waits for Initialised                       */
    TWIN_ARMED,   /* both Initialised, or the spare Connected                    */
    TWIN_RESET,   /* we Closing: waits for a spare that lives to follow          */
};

/* Takes all steps of the spare's link that can be taken now. */
void twin_step(struct device *d, uint64_t now);
/* When its next step is due by the clock; UINT64_MAX: never. */
uint64_t twin_due(const struct device *d, uint64_t now);
/* Ends it with the device; true: the spare has let go. */
bool twin_close(struct device *d);

/* The device can go over to the spare now, if only its own queues are drained. */
bool twin_ready(const struct device *d);
/* The queues are drained and detached: they are on the armed channels now, rung and
 * not yet started.  An errno: none is, and the spare's link is the live one. */
int twin_swap(struct device *d);

#endif
