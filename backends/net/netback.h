/* SPDX-License-Identifier: MIT */
/*
 * netback.h - the net backend: what ../backend.h needs to serve NICs.
 *
 * Reads from the toolstack's nodes what a vif is in the switch (its one
 * address, its VLANs, its bandwidth), from the frontend's its rings, and gives
 * the vif to every worker: each must know where packets for it go.  One address
 * is one vif's: a second vif that has it is refused.
 *
 * All of it runs on the control thread.  Nothing allocates but mmap() for a
 * connection's queues, which is bounded by these tables.
 */
#ifndef BULKHEAD_NET_NETBACK_H
#define BULKHEAD_NET_NETBACK_H

#include "../backend.h"
#include "port.h"
#include "uplink.h"

/* backend_init() for NICs; n workers run already.  uplink is theirs; its
 * counters are published below our own home. */
int netback_init(struct hyp *hyp, struct store *store, unsigned nworkers, const struct uplink *uplink);
/* Takes all mail of the workers. */
void netback_mail(void);

/* backend_tick() and the uplink's statistics. */
void netback_tick(void);
int netback_timeout_ms(void);

#endif
