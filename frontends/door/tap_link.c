/* SPDX-License-Identifier: MIT */
#include "tap_link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../../hyp-shim/local/netdev/link.h"
#include "../../hyp-shim/local/rights.h"

#define PATIENCE_MS 10000

/* One grant and its descriptor (-1: came without). 0 or a negative errno. */
static int next_grant(int channel, struct link_grant *grant, int *fd)
{
    struct pollfd ready = { .fd = channel, .events = POLLIN };
    struct rights rights;
    int flags, news = poll(&ready, 1, PATIENCE_MS);
    *fd = -1;
    if (news <= 0)
        return news < 0 ? -errno : -ETIMEDOUT;
    ssize_t n = rights_receive(channel, grant, sizeof(*grant), &rights, 1, &flags);
    if (n <= 0)
        return n < 0 ? (int)n : -ECONNRESET;
    if (rights.n)
        *fd = rights.fd[0];
    bool whole = (size_t)n == sizeof(*grant) && !(flags & (MSG_TRUNC | MSG_CTRUNC));
    return whole && grant->version == LINK_VERSION ? 0 : -EPROTO;
}

/* A TAP device of ours: whole Ethernet frames behind a virtio header. */
static int check_tap(int fd)
{
    struct ifreq ifr = { 0 };
    if (ioctl(fd, TUNGETIFF, &ifr))
        return -errno;
    unsigned short flags = (unsigned short)ifr.ifr_flags;
    if (!(flags & IFF_TAP) || !(flags & IFF_NO_PI) || !(flags & IFF_VNET_HDR))
        return -EMEDIUMTYPE;
    int mode = fcntl(fd, F_GETFL);
    return mode < 0 || fcntl(fd, F_SETFL, mode | O_NONBLOCK) ? -errno : 0;
}

int tap_receive(int channel, int *fds, unsigned n, char *why, size_t why_bytes)
{
    unsigned have = 0;
    int fd = -1, err = 0;
    for (unsigned i = 0; i < n; i++)
        fds[i] = -1;
    while (have < n) {
        struct link_grant grant;
        err = next_grant(channel, &grant, &fd);
        if (err == -EINTR || err == -EAGAIN)
            continue;
        if (err) {
            snprintf(why, why_bytes, "has %u of %u TAP devices, and no more come: %s", have, n,
                     strerror(-err));
            break;
        }
        if (fd < 0)
            continue; /* news of a state */
        err = grant.index < n && fds[grant.index] < 0 ? check_tap(fd) : -EBADSLT;
        if (err) {
            snprintf(why, why_bytes, "the descriptor for NIC %u is not a TAP device of this guest: %s",
                     grant.index, strerror(-err));
            break;
        }
        fds[grant.index] = fd;
        fd = -1;
        have++;
    }
    if (!err)
        return 0;
    if (fd >= 0)
        close(fd);
    for (unsigned i = 0; i < n; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return err;
}

int tap_agree(int tap, const struct netfront_info *can)
{
    int header = (int)TAP_HEADER_BYTES;
    unsigned offload = 0;
    /* What only one IP version can, the door completes for the other. */
    if (can->can_csum4 || can->can_csum6)
        offload |= TUN_F_CSUM;
    if (can->can_csum4 && can->can_gso4 && can->can_chain)
        offload |= TUN_F_TSO4 | TUN_F_TSO_ECN;
    if (can->can_csum6 && can->can_gso6 && can->can_chain)
        offload |= TUN_F_TSO6 | TUN_F_TSO_ECN;
    if (ioctl(tap, TUNSETVNETHDRSZ, &header))
        return -errno;
    return ioctl(tap, TUNSETOFFLOAD, (unsigned long)offload) ? -errno : 0;
}
