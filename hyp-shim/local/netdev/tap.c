/* SPDX-License-Identifier: MIT */
/*
 * TAP devices.  None is persistent: it vanishes with its last descriptor.  The
 * keeper keeps one of each guest's TAP, until it is released, and none of net_tap's.
 */
#include "netdev.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TUN_PATH "/dev/net/tun"

/* Another descriptor of the device of that name; the first one makes it, where
 * the process is. */
static int tap_open(const char *name, int flags, char why[LINK_WHY_MAX])
{
    struct ifreq ifr;
    int fd = open(TUN_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return netdev_refuse(why, -errno,
                             "cannot open " TUN_PATH ": %s; modprobe tun",
                             strerrordesc_np(errno));
    memset(&ifr, 0, sizeof(ifr));
    memcpy(ifr.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
    ifr.ifr_flags = (short)flags;
    if (ioctl(fd, TUNSETIFF, &ifr) == 0)
        return fd;
    int err = -errno;
    close(fd);
    return netdev_refuse(why, err, "cannot make the TAP device %s: %s", name, strerrordesc_np(-err));
}

/* Sets it up as asked and looks at it. */
static int tap_set_up(int rtnl, const struct link_request *q, struct rtnl_link *out, char why[LINK_WHY_MAX])
{
    static const uint8_t any[6];
    struct rtnl_change change = RTNL_CHANGE;
    int err = rtnl_find(rtnl, q->name, out);
    if (err)
        return netdev_refuse(why, err, "cannot find the TAP device %s just made: %s", q->name,
                             strerrordesc_np(-err));
    change.mtu = q->mtu;
    change.mac = memcmp(q->mac, any, sizeof(any)) ? q->mac : NULL;
    err = rtnl_change(rtnl, out->index, &change);
    if (err)
        return netdev_refuse(why, err, "cannot give the TAP device %s its MAC address and MTU %u: %s",
                             q->name, q->mtu, strerrordesc_np(-err));
    change = (struct rtnl_change)RTNL_CHANGE;
    change.flags = change.mask = IFF_UP;
    err = rtnl_change(rtnl, out->index, &change);
    if (err == 0)
        err = rtnl_find(rtnl, q->name, out);
    if (err)
        return netdev_refuse(why, err, "cannot bring the TAP device %s up: %s", q->name,
                             strerrordesc_np(-err));
    return 0;
}

static const char *place(const struct link_request *q)
{
    static char words[LINK_NETNS_MAX + 32];
    if (!q->netns[0])
        return "the machine";
    snprintf(words, sizeof(words), "the network namespace %s", q->netns);
    return words;
}

/* Where the process is: the guest's namespace. */
static int tap_make(const struct link_request *q, struct rtnl_link *out, char why[LINK_WHY_MAX])
{
    int rtnl = rtnl_open();
    if (rtnl < 0)
        return netdev_refuse(why, rtnl, "cannot ask about network interfaces: %s", strerrordesc_np(-rtnl));
    int fd;
    if (rtnl_find(rtnl, q->name, out) == 0)
        fd = netdev_refuse(why, -EEXIST, "%s has an interface %s already; choose another <guest dev=>",
                           place(q), q->name);
    else
        fd = tap_open(q->name, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, why);
    int err = fd < 0 ? fd : tap_set_up(rtnl, q, out, why);
    close(rtnl);
    if (err && fd >= 0)
        close(fd);
    return err ? err : fd;
}

/* ------------------------------------------------------------- those of guests */

/* A TAP outlives whoever got it: its carrier stays, and what the next one gets is
 * the same device. */
static struct tap {
    bool used;
    uint32_t id;
    int fd, index;
    char name[LINK_NAME_MAX], netns[LINK_NETNS_MAX];
} taps[LINK_TAPS_MAX];

static struct tap *tap_find(uint32_t id)
{
    for (unsigned i = 0; i < LINK_TAPS_MAX; i++)
        if (taps[i].used && taps[i].id == id)
            return &taps[i];
    return NULL;
}

static struct tap *tap_free(void)
{
    for (unsigned i = 0; i < LINK_TAPS_MAX; i++)
        if (!taps[i].used)
            return &taps[i];
    return NULL;
}

/* One that is there: as this request wants it. */
static int tap_again(const struct link_request *q, struct rtnl_link *out, char why[LINK_WHY_MAX])
{
    int rtnl = rtnl_open();
    if (rtnl < 0)
        return netdev_refuse(why, rtnl, "cannot ask about network interfaces: %s", strerrordesc_np(-rtnl));
    int err = rtnl_find(rtnl, q->name, out);
    if (err == 0 && out->index != tap_find(q->id)->index)
        err = -ENODEV; /* ours was removed, and this is somebody else's */
    if (err == 0)
        err = tap_set_up(rtnl, q, out, why);
    close(rtnl);
    return err;
}

typedef int tap_way(const struct link_request *q, struct rtnl_link *out, char why[LINK_WHY_MAX]);

/* Goes it in the guest's namespace. */
static int tap_at(const struct link_request *q, tap_way *way, struct rtnl_link *out, char why[LINK_WHY_MAX])
{
    if (!q->netns[0])
        return way(q, out, why);
    int netns = netns_named(q->netns, why);
    if (netns < 0)
        return netns;
    int got = netns_enter(netns);
    if (got < 0) {
        netdev_refuse(why, got, "cannot enter the network namespace %s: %s", q->netns,
                      strerrordesc_np(-got));
    } else {
        got = way(q, out, why);
        netns_back();
    }
    close(netns);
    return got;
}

int tap_release(uint32_t id)
{
    struct tap *t = tap_find(id);
    if (!t)
        return -ENOENT;
    netdev_close(&t->fd);
    t->used = false;
    return 0;
}

int tap_guest(const struct link_request *q, struct rtnl_link *out, char why[LINK_WHY_MAX])
{
    struct tap *t = tap_find(q->id);
    bool same = t && strcmp(t->name, q->name) == 0 && strcmp(t->netns, q->netns) == 0;
    if (same && tap_at(q, tap_again, out, why) == 0)
        return t->fd;
    tap_release(q->id); /* it is to be another one, or was removed */
    t = tap_free();
    if (!t)
        return netdev_refuse(why, -ENOSPC, "%u TAP devices are in use, and no more may be", LINK_TAPS_MAX);
    int fd = tap_at(q, tap_make, out, why);
    if (fd < 0)
        return fd;
    *t = (struct tap){ .used = true, .id = q->id, .fd = fd, .index = out->index };
    memcpy(t->name, q->name, sizeof(t->name));
    memcpy(t->netns, q->netns, sizeof(t->netns));
    return fd;
}

/* ----------------------------------------------------------------- of net_tap */

/* net_tap asks for packet information before each frame, so no IFF_NO_PI, and
 * for two queues: one that only keeps the device alive, which it detaches, and
 * one to use. */
int tap_uplink(const struct link_request *q, struct sockets *s, struct rtnl_link *out, char why[LINK_WHY_MAX])
{
    s->n = 0;
    int err = 0, fd = sockets_ask(), rtnl = rtnl_open();
    if (fd < 0 || rtnl < 0)
        err = netdev_refuse(why, fd < 0 ? fd : rtnl, "cannot ask about network interfaces: %s",
                            strerrordesc_np(fd < 0 ? -fd : -rtnl));
    if (fd >= 0)
        s->fd[s->n++] = fd;
    while (err == 0 && s->n < 3) {
        fd = tap_open(q->name, IFF_TAP | IFF_MULTI_QUEUE, why);
        if (fd < 0)
            err = fd;
        else
            s->fd[s->n++] = fd;
    }
    if (err == 0)
        err = tap_set_up(rtnl, q, out, why);
    netdev_close(&rtnl);
    if (err)
        sockets_close(s);
    return err;
}
