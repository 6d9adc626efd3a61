/* SPDX-License-Identifier: MIT */
/*
 * netback.h - the net backend: what ../backend.h needs to serve NICs.
 *
 * Reads from the toolstack's nodes what a vif is in the switch (its one
 * address, its VLANs, its bandwidth), from the frontend's its rings, and gives
 * the vif to every worker: each must know where packets for it go.  One address
 * is one vif's: a second vif that has it is refused.
 *
 * Several incarnations of a driver domain may have the uplink open, one serves:
 * the one that holds the gate, a device whose number /local/domain/OWN/gate says.
 * Until it is ours no vif is open and the uplink is quiet; NICs are made ready all
 * the same (backend.h, ARMED).  Without that node (numbers begin at 1) there is no
 * gate.
 *
 * All of it runs on the control thread.  Nothing allocates but mmap() for a
 * connection's queues, which is bounded by these tables.
 */
#ifndef BULKHEAD_NET_NETBACK_H
#define BULKHEAD_NET_NETBACK_H

#include "../backend.h"
#include "port.h"
#include "uplink.h"

/* backend_init() for NICs; n workers run already.  uplink is theirs, quiet until the
 * gate is ours; its counters are published below our own home. */
int netback_init(struct hyp *hyp, struct store *store, unsigned nworkers, struct uplink *uplink);
/* The gate is ours, or there is none. */
bool netback_active(void);
/* Takes all mail of the workers. */
void netback_mail(void);

/* backend_tick() and the uplink's statistics. */
void netback_tick(void);
int netback_timeout_ms(void);

#endif
