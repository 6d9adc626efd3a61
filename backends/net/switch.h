/* SPDX-License-Identifier: MIT */
/*
 * switch.h - which way a packet goes.
 *
 * Each worker has a table of its own.  A vif has one fixed address; it is found
 * by address and VLAN, and is in its access VLAN, VLAN 0 (it has none), or the
 * VLANs of its trunk.  Everyone else is behind the uplink: the table learns who,
 * for SWITCH_AGE_NS after they were last heard; what it cannot tell goes to the
 * uplink when it comes from a vif, and nowhere when it comes from the uplink.
 */
#ifndef BULKHEAD_NET_SWITCH_H
#define BULKHEAD_NET_SWITCH_H

#include "packet.h"
#include "port.h"

#define SWITCH_SLOTS     (4 * NET_PORTS_MAX)
#define SWITCH_SETS      256u /* learned addresses: sets of SWITCH_WAYS             */
#define SWITCH_WAYS      4u
#define SWITCH_AGE_NS    300000000000ull
#define SWITCH_VLANS     4096u

struct net_learned {
    uint64_t who;   /* address and VLAN; 0: free */
    uint64_t heard; /* when */
};

struct net_switch {
    /* The last answer: a flow asks the same again and again. */
    uint64_t last_target;
    struct net_port *last_port;

    struct { uint64_t mac; struct net_port *port; } slot[SWITCH_SLOTS]; /* port NULL: free */
    struct net_port *port[NET_PORTS_MAX]; /* by index */
    struct net_port *list[NET_PORTS_MAX];
    unsigned n;
    uint16_t members[SWITCH_VLANS];       /* vifs in a VLAN */
    struct net_learned learned[SWITCH_SETS][SWITCH_WAYS];
};

void net_switch_init(struct net_switch *s);
/* False: its index is taken, or not below NET_PORTS_MAX. */
bool net_switch_add(struct net_switch *s, struct net_port *port);
void net_switch_remove(struct net_switch *s, const struct net_port *port);

/* Is the vif in that VLAN? */
static inline bool net_switch_member(const struct net_port *port, uint16_t vlan)
{
    return vlan == port->pvid ? !port->trunk || vlan != 0
                              : port->trunk && vlan != 0 && (port->vlans[vlan / 64] >> vlan % 64 & 1);
}

/* The vif with that address in that VLAN, or NULL: packet_target() of a packet. */
struct net_port *net_switch_search(struct net_switch *s, uint64_t target);

static inline struct net_port *net_switch_find(struct net_switch *s, uint64_t target)
{
    return __builtin_expect(target == s->last_target, 1) ? s->last_port : net_switch_search(s, target);
}

/* True: a vif of any VLAN has that address. */
bool net_switch_owns(const struct net_switch *s, uint64_t mac);

/* An address was heard behind the uplink; true: it is a new one. */
bool net_switch_learn(struct net_switch *s, uint64_t mac, uint16_t vlan, uint64_t now);
/* True: it is known to be there. */
bool net_switch_learned(const struct net_switch *s, uint64_t mac, uint16_t vlan, uint64_t now);

#endif
