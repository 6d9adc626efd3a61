/* SPDX-License-Identifier: MIT */
/*
 * nic.h - a guest's virtio NIC behind a vhost-user socket, over a NIC of a driver
 * domain (netfront.h).
 *
 * Pair i of the guest's rings (2i: it receives, 2i + 1: it sends) works with queue i
 * of the NIC.  Payload is copied once each way, between the guest's memory and the
 * granted pool; no byte of a virtio header reaches the driver domain, and no byte of
 * the pool is believed: what the guest is told about a packet comes from a private
 * copy of its headers, and that copy is what it gets.
 *
 * What is offered.  Checksums and segments as far as the driver domain takes them; a
 * checksum that it does not take is filled in here.  What a guest did not agree to
 * receive, a checksum that is missing or a packet to be cut, is completed here too,
 * since a driver domain is told once what its frontend takes and guests change their
 * mind at each boot.
 *
 * Order.  Both rings are answered in the order of taking.  What the guest sends is
 * answered when the NIC has it: while the driver domain is dead or busy it waits in
 * the guest's own ring, and a queue that is stopped then gives it back to the ring.
 * The link is never down.
 *
 * A guest that posts no buffers holds up nobody.  So many packets as NIC_HELD_MAX
 * wait for it here, then the oldest are dropped; packets for a pair that the guest
 * does not use go to its first one, and are dropped when there is none.
 *
 * A packet that cannot be right is dropped with a name (enum nic_drop), the first one
 * of each is told.  Only a broken ring ends the connection.
 *
 * One thread, the device's, but for nic_open() and nic_close().  No heap, no lock.
 * Source: virtio 1.2, 5.1.
 */
#ifndef BULKHEAD_VHOST_NIC_H
#define BULKHEAD_VHOST_NIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../include/bulkhead/netfront.h"
#include "../frame.h"
#include "device.h"

#define NIC_PAIRS_MAX  (VHOST_QUEUES_MAX / 2)
#define NIC_BURST      128u /* packets of one ring before another has its turn            */
#define NIC_OUT_MAX    (NIC_BURST + NETFRONT_CHAIN_MAX) /* elements that were copied and not sent yet */
#define NIC_LOOK_MAX   16u  /* chains that are looked at before the first of them is copied */
#define NIC_EMPTY_MAX  64u  /* buffers that were got from the NIC at once, and a packet's  */
#define NIC_HELD_MAX   128u /* elements of packets that the guest has no buffer for yet   */
#define NIC_MERGED_MAX 128u /* buffers of the guest for one packet                        */
#define NIC_PIECES_MAX 512u /* of guest memory that they lie in                           */
#define NIC_SEGMENTS_MAX 1024u /* that one packet is cut into                             */

enum nic_drop {
    /* from the guest */
    NIC_HEADER_CUT,   /* shorter than its virtio header                                   */
    NIC_EMPTY,        /* nothing, or less than an Ethernet header, behind it              */
    NIC_TOO_LONG,     /* more than a packet may have, or than the NIC takes               */
    NIC_NOT_READABLE, /* a buffer to be written to, in the ring for sending               */
    NIC_NOT_AGREED,   /* an offload that was not agreed, or that nobody knows             */
    NIC_BAD_LENGTH,   /* headers that are longer than their packet                        */
    NIC_BAD_CSUM,     /* a checksum outside of the packet                                 */
    NIC_BAD_SEGMENTS, /* segments without a checksum, of no size, or not of this packet   */
    NIC_REFUSED,      /* the NIC says that this one can never be sent                     */
    /* to the guest */
    NIC_BAD_BUFFER,   /* of the guest: no room for a virtio header; costs no packet       */
    NIC_BAD_OFFLOAD,  /* the driver domain's flags do not fit the packet                  */
    NIC_NO_FIT,       /* longer than the guest's buffers can ever be                      */
    NIC_NO_BUFFER,    /* the guest posted none in time                                    */
    NIC_NO_RING,      /* the guest does not receive at all                                */
    NIC_DROPS
};
const char *nic_drop_name(enum nic_drop why);

/* A chain of the guest's that is taken from its ring for sending. */
struct nic_taken {
    uint16_t id, slots;
    uint16_t elements;  /* of its packet, in nic_pair.out; 0: dropped                     */
};

struct nic_pair {
    struct vhost_queue *rx, *tx; /* the guest's; NULL: not running                        */

    /* From the guest: taken in order, the packets of all of them in order. */
    unsigned next_empty, nempty, nout, ntaken;
    bool stuck;         /* the NIC fell short: wait for it, not for the guest             */
    bool done;          /* chains were answered, and are not shown yet                    */
    uint32_t hue;       /* where in its page the next short packet begins                 */
    void *empty[NIC_EMPTY_MAX];
    struct netfront_packet out[NIC_OUT_MAX];
    struct nic_taken taken[NIC_BURST];

    /* To the guest: received from queue i of the NIC. */
    unsigned first, nheld;
    struct netfront_packet held[NIC_HELD_MAX + NETFRONT_CHAIN_MAX];
    unsigned segment;   /* of the packet at `first`, when it is cut here: the next one    */
};

/* A chain that is looked at: its pieces are on their way into the cache. */
struct nic_look {
    uint16_t id, slots, nin;
    uint16_t piece;     /* the first one to be read, in nic.piece                         */
    uint32_t out_bytes;
};

/* A buffer of the guest that is taken for a packet. */
struct nic_buffer {
    uint16_t id, slots;
    uint32_t bytes;
};

struct nic {
    char name[32];
    struct netfront *front;
    const struct netfront_info *can;
    struct vhost_device *dev;
    uint64_t agreed;    /* virtio features                                                */
    unsigned header;    /* bytes of the virtio header                                     */
    unsigned npairs;
    struct nic_pair pair[NIC_PAIRS_MAX];
    uint32_t listening; /* a bit for each ring whose kicks are wanted                     */
    bool placed;        /* in the ring at hand: buffers were answered, and are not shown yet */
    struct vhost_chain chain; /* the one that is looked at                                */
    struct nic_buffer buffer[NIC_MERGED_MAX]; /* for the packet at hand                   */
    struct nic_look look[NIC_LOOK_MAX];
    struct iovec piece[NIC_PIECES_MAX];       /* of either                                */

    uint64_t to_front, to_guest, cut; /* packets; packets that were cut here              */
    uint64_t dropped[NIC_DROPS];
};

/*
 * Connects to the driver domain; `name` is the device's name in the guest's XML.
 * `notify` is called as netfront.h says, on the control thread, and is the only thing
 * that tells of its deaths.  The struct is the caller's, about 64 KiB, need not be
 * zeroed, and must not move.  A negative errno with one sentence otherwise.
 */
int nic_open(struct nic *nic, const char *name, void (*notify)(void *arg, enum netfront_news news), void *arg,
             char *why, size_t why_bytes);
/* The device that serves it; with nic_class and the nic as its argument.  Before
 * vhost_device_run(). */
void nic_serve(struct nic *nic, struct vhost_device *dev);
/* After vhost_device_run() came back. */
void nic_close(struct nic *nic);

extern const struct vhost_class nic_class;

/* ---- within: nic_send.c and nic_receive.c.  Both: as `work` and `idle` of the class. */

int nic_send(struct nic *nic, unsigned i);
int nic_receive(struct nic *nic, unsigned i);
/* Gives back to its ring what was taken and not sent, and the buffers to the NIC. */
void nic_unsend(struct nic *nic, unsigned i);
/* Drops what is held for the guest. */
void nic_forget(struct nic *nic, unsigned i);
void nic_drop(struct nic *nic, enum nic_drop why);
/* Kicks of a ring are wanted until the next turn. True: something is there already. */
bool nic_listen(struct nic *nic, struct vhost_queue *ring);

#define NIC_LINE 64u /* of the cache */

static inline bool nic_has(const struct nic *nic, unsigned feature) /* number of a virtio feature */
{
    return nic->agreed >> feature & 1;
}

#endif
