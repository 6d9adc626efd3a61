/* SPDX-License-Identifier: MIT */
/*
 * TAP devices.  None is persistent: it vanishes with its last descriptor, and
 * the keeper keeps none.
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

int tap_guest(const struct link_request *q, struct rtnl_link *out, char why[LINK_WHY_MAX])
{
    if (!q->netns[0])
        return tap_make(q, out, why);
    int netns = netns_named(q->netns, why);
    if (netns < 0)
        return netns;
    int fd = netns_enter(netns);
    if (fd < 0) {
        netdev_refuse(why, fd, "cannot enter the network namespace %s: %s", q->netns, strerrordesc_np(-fd));
    } else {
        fd = tap_make(q, out, why);
        netns_back();
    }
    close(netns);
    return fd;
}

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
