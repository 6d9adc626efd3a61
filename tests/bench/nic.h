/* SPDX-License-Identifier: MIT */
/*
 * nic.h - what a network benchmark measures on: a net driver domain and native
 * guests with one NIC each, all of which this process is at once.
 */
#ifndef BULKHEAD_BENCH_NIC_H
#define BULKHEAD_BENCH_NIC_H

#include <bulkhead/netfront.h>

#include "counters.h"
#include "frame.h"
#include "stack.h"

#define NIC_GUESTS_MAX 2u
#define NIC_DRIVER     "bench-net"

struct nic_guest {
    const char *name; /* NULL: not there */
    uint8_t mac[6];
    struct netfront *nic;
    unsigned domid;
};

struct nic_setup {
    struct stack stack;
    struct store *store; /* of the stack */
    unsigned driver_domid;
    unsigned mtu, queues;
    struct nic_guest guest[NIC_GUESTS_MAX];
};

/* An address that nobody here has: on the far side of the uplink. */
extern const uint8_t nic_outside[6];

/*
 * A stack with a net driver domain, one worker on each of n CPUs.  bytes: the
 * longest frame.  devargs: its uplink; NULL: none.  After any outcome nic_end()
 * takes down what there is.
 */
int nic_start(struct nic_setup *s, const char *devargs, unsigned queues, uint32_t bytes, const uint64_t *cpus,
              unsigned n);
/* The same, and the uplink sends frames of that size (0: the mix) to guest 0,
 * NIC_FEED of them in turn, for ever. */
#define NIC_FEED 120u
int nic_start_fed(struct nic_setup *s, uint32_t size, unsigned queues, uint32_t bytes, const uint64_t *cpus,
                  unsigned n);
void nic_end(struct nic_setup *s);

/* Starts guest i and becomes it; nic_leave() ends it. */
int nic_join(struct nic_setup *s, unsigned i);
void nic_leave(struct nic_setup *s, unsigned i);

/* Starts guest i with a vhost-user door; whoever connects to the socket becomes it. */
int nic_open_vhost(struct nic_setup *s, unsigned i, char socket[STACK_SOCKET_MAX]);

/* Checks that frames get from one guest to another as they are. */
int nic_check(struct nic_setup *s, unsigned from, unsigned to, uint32_t size);

/* What the driver domain counted so far for a guest's vif, and for the uplink. */
int nic_counters(struct nic_setup *s, unsigned guest, struct counters *vif, struct counters *uplink);

#endif
