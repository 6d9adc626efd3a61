/* SPDX-License-Identifier: MIT */
/* switch.c - addresses of vifs, and of others. */
#include "switch.h"

static uint32_t spread(uint64_t key)
{
    return (uint32_t)((key * 0x9e3779b97f4a7c15ull) >> 40);
}

static void forget_last(struct net_switch *s)
{
    s->last_target = UINT64_MAX; /* a multicast address: never asked for */
    s->last_port = NULL;
}

void net_switch_init(struct net_switch *s)
{
    memset(s, 0, sizeof(*s));
    forget_last(s);
}

static void put(struct net_switch *s, struct net_port *port)
{
    uint64_t mac = mac_number(port->mac);
    uint32_t at = spread(mac);
    while (s->slot[at % SWITCH_SLOTS].port)
        at++;
    s->slot[at % SWITCH_SLOTS].mac = mac;
    s->slot[at % SWITCH_SLOTS].port = port;
}

static void count_members(struct net_switch *s, const struct net_port *port, int by)
{
    for (uint32_t vlan = 0; vlan <= NET_VLAN_MAX; vlan++)
        if (net_switch_member(port, (uint16_t)vlan))
            s->members[vlan] = (uint16_t)(s->members[vlan] + by);
}

bool net_switch_add(struct net_switch *s, struct net_port *port)
{
    if (port->index >= NET_PORTS_MAX || s->port[port->index])
        return false;
    s->port[port->index] = port;
    s->list[s->n++] = port;
    put(s, port);
    count_members(s, port, 1);
    forget_last(s);
    return true;
}

void net_switch_remove(struct net_switch *s, const struct net_port *port)
{
    if (port->index >= NET_PORTS_MAX || s->port[port->index] != port)
        return;
    s->port[port->index] = NULL;
    count_members(s, port, -1);
    unsigned n = 0;
    memset(s->slot, 0, sizeof(s->slot));
    for (unsigned i = 0; i < s->n; i++) {
        if (s->list[i] != port) {
            s->list[n++] = s->list[i];
            put(s, s->list[i]);
        }
    }
    s->n = n;
    forget_last(s);
}

struct net_port *net_switch_search(struct net_switch *s, uint64_t target)
{
    uint64_t mac = target >> 16;
    uint16_t vlan = (uint16_t)target;
    struct net_port *found = NULL;

    for (uint32_t at = spread(mac); !found && s->slot[at % SWITCH_SLOTS].port; at++)
        if (s->slot[at % SWITCH_SLOTS].mac == mac && net_switch_member(s->slot[at % SWITCH_SLOTS].port, vlan))
            found = s->slot[at % SWITCH_SLOTS].port;
    s->last_target = target;
    s->last_port = found;
    return found;
}

bool net_switch_owns(const struct net_switch *s, uint64_t mac)
{
    for (uint32_t at = spread(mac); s->slot[at % SWITCH_SLOTS].port; at++)
        if (s->slot[at % SWITCH_SLOTS].mac == mac)
            return true;
    return false;
}

/* -------------------------------------------------------------------- learning */

static bool is_fresh(const struct net_learned *l, uint64_t now)
{
    return l->who != 0 && now - l->heard < SWITCH_AGE_NS;
}

bool net_switch_learn(struct net_switch *s, uint64_t mac, uint16_t vlan, uint64_t now)
{
    uint64_t who = mac << 16 | vlan;
    struct net_learned *set = s->learned[spread(who) % SWITCH_SETS], *victim = &set[0];

    for (unsigned i = 0; i < SWITCH_WAYS; i++) {
        if (set[i].who == who) {
            bool old = is_fresh(&set[i], now);
            set[i].heard = now;
            return !old;
        }
        if (set[i].who == 0 || (victim->who != 0 && set[i].heard < victim->heard))
            victim = &set[i];
    }
    *victim = (struct net_learned){ who, now };
    return true;
}

bool net_switch_learned(const struct net_switch *s, uint64_t mac, uint16_t vlan, uint64_t now)
{
    uint64_t who = mac << 16 | vlan;
    const struct net_learned *set = s->learned[spread(who) % SWITCH_SETS];

    for (unsigned i = 0; i < SWITCH_WAYS; i++)
        if (set[i].who == who)
            return is_fresh(&set[i], now);
    return false;
}
