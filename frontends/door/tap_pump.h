/* SPDX-License-Identifier: MIT */
/*
 * tap_pump.h - carries packets between one TAP device and one NIC, both ways.
 *
 * Payload is copied once each way, by the kernel: from the TAP into buffers of
 * the pool, and from the pool into the TAP.  What the kernel is told about a
 * packet (where its checksum goes, how long its headers are) comes from a
 * private copy of the headers, and that copy is what it gets: the driver domain
 * may change the pool meanwhile and changes payload only.
 *
 * No heap, no lock.  While the NIC takes nothing (ring full, driver domain
 * dead) the TAP is not read: the kernel keeps its usual queue of packets and
 * drops past that, and the guest's interface keeps its carrier.
 */
#ifndef BULKHEAD_TAP_PUMP_H
#define BULKHEAD_TAP_PUMP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "frame.h"

#define PUMP_ELEMENTS_MAX 128 /* on their way to the NIC, or empty buffers for them */
#define PUMP_PACKETS_MAX  32  /* one way, before the other way has its turn          */

/* Why a packet was dropped here. */
enum pump_drop {
    PUMP_TOO_LONG,    /* to the NIC: more than it can ever take                     */
    PUMP_BAD_OFFLOAD, /* either way: the flags do not fit the packet                 */
    PUMP_REFUSED,     /* to the NIC: it says that this packet can never be sent      */
    PUMP_LINK_DOWN,   /* to the TAP: the guest's interface is down                   */
    PUMP_KERNEL,      /* to the TAP: the kernel does not take it                     */
    PUMP_DROPS
};

/* Asks every pump of the process to end; once asked, for good. */
struct pump_stop {
    atomic_bool asked;
    int fd; /* eventfd; readable from then on, wakes who sleeps                     */
};

struct pump {
    const char *name; /* of the NIC, for sentences                                  */
    struct netfront *nic;
    const struct netfront_info *can;
    const struct pump_stop *stop;
    int tap;
    unsigned packet_buffers; /* that the longest packet from the TAP may need       */

    bool stuck;       /* the NIC fell short: wait for it, not for the TAP           */
    unsigned nempty, nout, out_first; /* out[out_first] and on: wait to be sent     */
    void *empty[PUMP_ELEMENTS_MAX];
    struct netfront_packet out[PUMP_ELEMENTS_MAX];

    uint64_t to_nic, to_tap, dropped[PUMP_DROPS];
};

/* Everything before that is the caller's and lives longer. -ENOBUFS: the NIC's
 * pool is too small for one packet. */
int pump_init(struct pump *p, const char *name, struct netfront *nic, int tap, const struct pump_stop *stop);

/*
 * Until asked to stop: 0.  -ENODEV: the TAP's interface is gone.  -ENOTCONN: the
 * hypervisor is.  The first drop for each cause is told.
 */
int pump_run(struct pump *p);

#endif
