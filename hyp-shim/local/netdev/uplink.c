/* SPDX-License-Identifier: MIT */
#include "netdev.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../rights.h"

static struct uplink uplinks[LINK_UPLINKS_MAX];
static int machine_rtnl = -1;

/* ------------------------------------------------------------------- the table */

int uplink_init(void)
{
    for (unsigned i = 0; i < LINK_UPLINKS_MAX; i++) {
        struct uplink *u = &uplinks[i];
        u->netns = u->rtnl = u->watch = -1;
        for (unsigned c = 0; c < UPLINK_CHANNELS_MAX; c++) {
            u->channel[c] = -1;
            for (unsigned k = 0; k < UPLINK_COPIES; k++)
                u->copy[c][k] = -1;
        }
    }
    machine_rtnl = rtnl_open();
    return machine_rtnl < 0 ? machine_rtnl : 0;
}

struct uplink *uplink_at(unsigned i)
{
    return &uplinks[i];
}

static struct uplink *find(uint32_t id)
{
    for (unsigned i = 0; i < LINK_UPLINKS_MAX; i++)
        if (uplinks[i].used && uplinks[i].id == id)
            return &uplinks[i];
    return NULL;
}

static struct uplink *find_name(const char *name)
{
    for (unsigned i = 0; i < LINK_UPLINKS_MAX; i++)
        if (uplinks[i].used && strcmp(uplinks[i].name, name) == 0)
            return &uplinks[i];
    return NULL;
}

static struct uplink *find_free(void)
{
    for (unsigned i = 0; i < LINK_UPLINKS_MAX; i++)
        if (!uplinks[i].used)
            return &uplinks[i];
    return NULL;
}

/* Whether it is where we put it. */
static bool held(const struct uplink *u)
{
    return u->used && (u->state == LINK_UP || u->state == LINK_DOWN);
}

/* Forgets it; what it holds must have been given back before. */
static void forget(struct uplink *u)
{
    for (unsigned c = 0; c < UPLINK_CHANNELS_MAX; c++)
        uplink_hangup(u, c);
    netdev_close(&u->rtnl);
    netdev_close(&u->watch);
    netdev_close(&u->netns);
    u->used = u->news = false;
}

/* -------------------------------------------------------------------- channels */

static int send_grant(const struct uplink *u, int channel, uint32_t index, const struct sockets *s)
{
    struct link_grant grant = { .version = LINK_VERSION, .kind = u->kind, .index = index, .state = u->state,
                                .ifindex = (uint32_t)u->link.index, .mtu = u->link.mtu, .nsockets = s->n };
    memcpy(grant.mac, u->link.mac, sizeof(grant.mac));
    memcpy(grant.name, u->name, sizeof(grant.name));
    return rights_send(channel, &grant, sizeof(grant), s->fd, s->n);
}

/* Keeps the packet sockets too, which were sent. */
static void channel_keep(struct uplink *u, int channel, struct sockets *s)
{
    unsigned c = 0;
    while (c < UPLINK_CHANNELS_MAX - 1 && u->channel[c] >= 0)
        c++;
    uplink_hangup(u, c); /* more incarnations than may be: one is dead and not yet seen to be */
    u->channel[c] = channel;
    for (unsigned k = 0; u->kind == LINK_KIND_PACKET && k < UPLINK_COPIES; k++)
        u->copy[c][k] = s->fd[--s->n];
}

void uplink_hangup(struct uplink *u, unsigned channel)
{
    netdev_close(&u->channel[channel]);
    for (unsigned k = 0; k < UPLINK_COPIES; k++)
        late_close(&u->copy[channel][k]);
}

/* ----------------------------------------------------------------------- state */

static void set_state(struct uplink *u, enum link_state state)
{
    static const struct sockets none;
    if (u->state == state)
        return;
    u->state = state;
    u->news = true;
    for (unsigned c = 0; c < UPLINK_CHANNELS_MAX; c++)
        if (u->channel[c] >= 0 && send_grant(u, u->channel[c], 0, &none) != 0)
            netdev_log("a driver domain of %s does not read its news; it is not told of this state", u->name);
}

static enum link_state state_of(const struct rtnl_link *link)
{
    return (link->flags & IFF_UP) && (link->flags & IFF_RUNNING) ? LINK_UP : LINK_DOWN;
}

void uplink_look(struct uplink *u)
{
    struct rtnl_link now;
    if (!held(u))
        return;
    int err = rtnl_find(u->kind == LINK_KIND_TAP ? machine_rtnl : u->rtnl, u->name, &now);
    if (err == 0) {
        u->link = now;
        set_state(u, state_of(&now));
    } else if (err == -ENODEV) {
        set_state(u, LINK_GONE);
        uplink_look_machine(); /* it may be there */
    }
}

void uplink_look_machine(void)
{
    struct rtnl_link now;
    for (unsigned i = 0; i < LINK_UPLINKS_MAX; i++) {
        struct uplink *u = &uplinks[i];
        if (!u->used || (u->kind != LINK_KIND_TAP && held(u)))
            continue;
        int err = rtnl_find(machine_rtnl, u->name, &now);
        if (err == -ENODEV)
            set_state(u, LINK_GONE);
        else if (err == 0)
            set_state(u, u->kind == LINK_KIND_TAP ? state_of(&now) : LINK_BACK);
    }
}

/* -------------------------------------------------------------- taking, giving */

/* Merged packets are larger than any frame; a driver domain cannot take them. */
static void no_merging(const char *name)
{
    int fd = sockets_ask();
    struct ethtool_value value = { .cmd = ETHTOOL_SGRO };
    struct ifreq ifr = { .ifr_data = (void *)&value };
    memcpy(ifr.ifr_name, name, LINK_NAME_MAX);
    if (fd < 0)
        return;
    if (ioctl(fd, SIOCETHTOOL, &ifr) < 0 && errno != EOPNOTSUPP)
        netdev_log("cannot turn GRO off on %s: %s", name, strerrordesc_np(errno));
    value = (struct ethtool_value){ .cmd = ETHTOOL_GFLAGS };
    if (ioctl(fd, SIOCETHTOOL, &ifr) == 0 && (value.data & ETH_FLAG_LRO)) {
        value.cmd = ETHTOOL_SFLAGS;
        value.data &= ~(uint32_t)ETH_FLAG_LRO;
        if (ioctl(fd, SIOCETHTOOL, &ifr) < 0)
            netdev_log("cannot turn LRO off on %s: %s", name, strerrordesc_np(errno));
    }
    close(fd);
}

/* Moves it into a namespace of its own, which an uplink that was gone has. */
static int take(struct uplink *u, char why[LINK_WHY_MAX])
{
    struct rtnl_change move = RTNL_CHANGE;
    int err = rtnl_find(machine_rtnl, u->name, &u->link);
    if (err)
        return netdev_refuse(why, err, "there is no network interface %s; see: ip link", u->name);
    if (u->link.flags & IFF_LOOPBACK)
        return netdev_refuse(why, -EINVAL, "%s is a loopback interface and leads nowhere; choose another",
                             u->name);
    if (u->link.master)
        netdev_log("%s leaves its bridge or bond to be an uplink", u->name);
    if (rtnl_addressed(machine_rtnl, u->link.index))
        netdev_log("%s has IP addresses; they are lost, since it is an uplink now", u->name);
    u->old_mtu = u->link.mtu;
    move.netns = u->netns;
    err = rtnl_change(machine_rtnl, u->link.index, &move);
    if (err)
        return netdev_refuse(why, err, "cannot move %s into a network namespace of its own: %s", u->name,
                             strerrordesc_np(-err));
    u->state = LINK_DOWN;
    return 0;
}

/* Back to the machine as it was, but down. */
static int give_back(struct uplink *u)
{
    struct rtnl_change change = RTNL_CHANGE;
    if (u->kind == LINK_KIND_TAP || !held(u))
        return 0;
    change.xdp = true;
    rtnl_change(u->rtnl, u->link.index, &change); /* there may be none */
    change = (struct rtnl_change)RTNL_CHANGE;
    change.mask = IFF_UP | IFF_PROMISC;
    change.mtu = u->old_mtu;
    rtnl_change(u->rtnl, u->link.index, &change); /* it is given back all the same */
    change = (struct rtnl_change)RTNL_CHANGE;
    change.netns = netns_machine();
    return rtnl_change(u->rtnl, u->link.index, &change);
}

/* In its namespace, as a driver domain needs it. */
static int set_up(struct uplink *u, uint32_t mtu, char why[LINK_WHY_MAX])
{
    struct rtnl_change change = RTNL_CHANGE;
    int err = rtnl_find(u->rtnl, u->name, &u->link);
    if (err)
        return netdev_refuse(why, err, "%s is gone; is its driver or its peer still there?", u->name);
    change.no_ipv6 = true;
    rtnl_change(u->rtnl, u->link.index, &change); /* a kernel without IPv6 refuses */
    change = (struct rtnl_change)RTNL_CHANGE;
    change.mtu = mtu;
    err = mtu ? rtnl_change(u->rtnl, u->link.index, &change) : 0;
    if (err)
        return netdev_refuse(why, err, "%s does not take an MTU of %u: %s", u->name, mtu,
                             strerrordesc_np(-err));
    no_merging(u->name);
    change = (struct rtnl_change)RTNL_CHANGE;
    change.flags = change.mask = IFF_UP | IFF_PROMISC;
    err = rtnl_change(u->rtnl, u->link.index, &change);
    if (err == 0)
        err = rtnl_find(u->rtnl, u->name, &u->link);
    if (err)
        return netdev_refuse(why, err, "cannot bring %s up: %s", u->name, strerrordesc_np(-err));
    return 0;
}

/* ------------------------------------------------------------------ a request */

/* Its namespace, and the sockets in it through which we set and watch it. */
static int open_netns(struct uplink *u, char why[LINK_WHY_MAX])
{
    if (u->netns >= 0)
        return 0;
    int err = u->netns = netns_new();
    if (err >= 0)
        err = netns_enter(u->netns);
    if (err >= 0) {
        u->rtnl = rtnl_open();
        u->watch = rtnl_open_news();
        err = u->rtnl < 0 ? u->rtnl : u->watch;
        netns_back();
    }
    if (err >= 0)
        return 0;
    netdev_close(&u->rtnl);
    netdev_close(&u->watch);
    netdev_close(&u->netns);
    return netdev_refuse(why, err, "cannot make a network namespace for %s: %s", u->name,
                         strerrordesc_np(-err));
}

static int open_own(struct uplink *u, const struct link_request *q, struct sockets *s, char why[LINK_WHY_MAX])
{
    int err = open_netns(u, why);
    if (err == 0 && !held(u))
        err = take(u, why);
    if (err)
        return err;
    err = netns_enter(u->netns);
    if (err)
        return netdev_refuse(why, err, "cannot enter the namespace of %s: %s", u->name,
                             strerrordesc_np(-err));
    err = set_up(u, q->mtu, why);
    if (err == 0)
        err = sockets_open(s, u->kind, u->rtnl, u->link.index, u->name, why);
    netns_back();
    return err;
}

/* NULL: *err says what, why says why. */
static struct uplink *entry_for(const struct link_request *q, int *err, char why[LINK_WHY_MAX])
{
    struct uplink *u = find(q->id), *same = find_name(q->name);
    *err = -EBUSY;
    if (same && same != u) {
        netdev_refuse(why, *err, "%s is the uplink of another driver domain already", q->name);
        return NULL;
    }
    if (u && (!same || (u->kind == LINK_KIND_TAP) != (q->kind == LINK_KIND_TAP))) {
        netdev_refuse(why, *err, "this uplink is %s; release it before it becomes another", u->name);
        return NULL;
    }
    if (!u) {
        u = find_free();
        if (!u) {
            *err = netdev_refuse(why, -ENOSPC, "%u uplinks are in use, and no more may be", LINK_UPLINKS_MAX);
            return NULL;
        }
        u->used = true;
        u->id = q->id;
        u->state = LINK_GONE;
        memcpy(u->name, q->name, sizeof(u->name));
    }
    u->kind = q->kind;
    *err = 0;
    return u;
}

int uplink_request(const struct link_request *q, int channel, struct uplink **out, char why[LINK_WHY_MAX])
{
    struct sockets s = { 0 };
    bool fresh = !find(q->id);
    int err;
    struct uplink *u = entry_for(q, &err, why);
    if (!u) {
        netdev_close(&channel);
        return err;
    }
    err = q->kind == LINK_KIND_TAP ? tap_uplink(q, &s, &u->link, why) : open_own(u, q, &s, why);
    if (err == 0) {
        u->state = state_of(&u->link);
        u->news = false; /* the answer tells */
        err = send_grant(u, channel, q->index, &s);
        if (err)
            netdev_refuse(why, err, "cannot send the sockets of %s to its driver domain: %s", u->name,
                          strerrordesc_np(-err));
    }
    if (err == 0) {
        channel_keep(u, channel, &s);
        sockets_close(&s);
        *out = u;
        return 0;
    }
    sockets_close(&s);
    netdev_close(&channel);
    if (fresh) { /* else its driver domain is told by state, or asks again */
        give_back(u);
        forget(u);
    }
    return err;
}

int uplink_release(uint32_t id, char why[LINK_WHY_MAX])
{
    struct uplink *u = find(id);
    if (!u)
        return netdev_refuse(why, -ENOENT, "there is no such uplink or TAP device (%u)", id);
    int err = give_back(u);
    if (err)
        netdev_refuse(why, err, "cannot give %s back to the machine: %s", u->name, strerrordesc_np(-err));
    forget(u);
    return err;
}

void uplink_release_all(void)
{
    char why[LINK_WHY_MAX];
    for (unsigned i = 0; i < LINK_UPLINKS_MAX; i++)
        if (uplinks[i].used && uplink_release(uplinks[i].id, why))
            netdev_log("%s", why);
}
