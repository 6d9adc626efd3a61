/* SPDX-License-Identifier: MIT */
/*
 * channel.h - what the toolstack tells a vhost-user door, and what it hears back.
 *
 * A SOCK_SEQPACKET pair; the door's end is descriptor DOOR_CHANNEL_FD.  One order
 * or answer is one packet.  To begin with there is one DOOR_OPEN for each device,
 * then DOOR_READY; any number of DOOR_OPEN and DOOR_CLOSE may follow, at any time.
 * Each OPEN and CLOSE is answered once, in no particular order between devices; an
 * OPEN that comes before READY is answered as soon as the device is connected.
 *
 *   OPEN   with one descriptor: a listening stream socket, for the VMM.  The device's
 *          nodes are in the store already.  Answered when the frontend is connected
 *          and the socket is listened to.  -EEXIST: it is open, or its CLOSE is not
 *          answered yet; -ENOSPC: too many; else what the frontend says, in `why`.
 *   CLOSE  the VMM's connection, if there is one, is closed, then the frontend.
 *          -ENOENT: it is not open.  The nodes may go after the answer.
 *   READY  no answer; hyp_ready() tells that it serves.  The door ends when one of
 *          the devices before READY cannot be opened, after its answer.
 *
 * The toolstack may die: a channel that hangs up means nothing to the door, and
 * answers wait in it for the next toolstack, which has the other end.  The toolstack
 * is trusted; a packet that is no order is logged and dropped.
 */
#ifndef BULKHEAD_DOOR_CHANNEL_H
#define BULKHEAD_DOOR_CHANNEL_H

#include <stdint.h>

#define DOOR_CHANNEL_FD 6
#define DOOR_VERSION    1
#define DOOR_DEV_BYTES  16 /* with its NUL */
#define DOOR_WHY_BYTES  200

#define DOOR_DISKS_MAX 16
#define DOOR_NICS_MAX  8

enum door_op { DOOR_OPEN = 1, DOOR_CLOSE, DOOR_READY };
enum door_class { DOOR_BLK = 1, DOOR_NET };

struct door_order {
    uint32_t version, op;
    char dev[DOOR_DEV_BYTES];
    uint8_t cls; /* enum door_class */
    uint8_t pad[3];
};

struct door_answer {
    uint32_t version, op; /* of the order                              */
    char dev[DOOR_DEV_BYTES];
    int32_t error;        /* 0 or a negative errno                     */
    char why[DOOR_WHY_BYTES]; /* one sentence, with its NUL            */
};

/* The door's side.  An order, and its descriptor (-1: none; the caller's). 1; 0: none now;
 * -ENOTCONN: nobody will ever send one; -EBADMSG: dropped one that is no order. */
int channel_receive(int channel, struct door_order *order, int *fd);
/* Never blocks; an answer that finds no room is lost. */
void channel_answer(int channel, const struct door_order *order, int error, const char *why);

#endif
