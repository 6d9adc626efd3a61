/* SPDX-License-Identifier: MIT */
/*
 * link.h - a device's handshake with one backend.
 *
 * A device has two: the live one, and one with the spare of the driver domain
 * (twin.h).  Each has a directory of its own, a slot: /local/domain/FE/device/..
 * or /local/domain/FE/twin/..; which one is live changes at each takeover.  Here
 * is what both do in the same way.  Called with the guest's lock held.
 */
#ifndef BULKHEAD_LINK_H
#define BULKHEAD_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "../hyp-shim/xenbus.h"
#include "queue.h"

#define LINK_QUEUES_MAX 8u /* BLK_MAX_QUEUES, NET_QUEUES_MAX */

struct device;

struct link {
    struct device *device;
    struct xenbus_device bus;    /* peer[0] == 0: no backend known yet           */
    bool dead;                   /* the domain bus.peer_domid                    */
    bool left;                   /* we said Closed in order: it shall let go     */
    bool over;                   /* and did                                      */
    bool hung_up;                /* a channel of the connection is closed        */
    bool unnamed;                /* our directory named none, or was gone, at the last look */
    uint64_t retry_at;           /* ms; limit of CLOSING                         */
    unsigned backoff_ms;
    unsigned nchannels;          /* of each queue                                */
    struct hyp_evtchn *channel[LINK_QUEUES_MAX][QUEUE_CHANNELS_MAX]; /* NULL: not made, or a queue's */
};

/* Not before: */
void link_later(struct link *l, uint64_t now);

/* Another backend than the one we know is named in our directory. */
bool link_moved(struct link *l);
/* Takes it for ours; true: it was another one. */
bool link_follow(struct link *l);
/* Forgets the backend that we know. */
void link_forget(struct link *l);
/* The backend is named as a spare. */
bool link_standby(struct link *l);
/* There is a backend that may be used. */
static inline bool link_usable(const struct link *l)
{
    return l->bus.peer[0] && !l->dead && !l->over;
}
/* Its state; XenbusStateUnknown: it has none.  While the store cannot say it is
 * `otherwise`. */
enum xenbus_state link_peer(struct link *l, enum xenbus_state otherwise);
/* It has let the old connection go, or never will; says Closed when it asks. */
bool link_released(struct link *l);

/* The channels of all queues. */
int link_open_channels(struct link *l);
void link_close_channels(struct link *l);

/* Writes the offer, with the channels of queue i as of(l, i), and says Initialised. */
int link_publish(struct link *l, struct hyp_evtchn *const *(*of)(struct link *l, unsigned i));

#endif
