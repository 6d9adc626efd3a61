/* SPDX-License-Identifier: MIT */
/*
 * Requests are answered by the kernel before sendmsg() returns, so nothing
 * here waits.  What comes is from the kernel alone; lengths are checked as if
 * it were not.  News are only counted as "something changed" and never parsed.
 */
#include "netdev.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_BYTES 32768

struct request {
    struct nlmsghdr h;
    union {
        struct ifinfomsg link;
        struct ifaddrmsg addr;
    } u;
    char attributes[256];
};

static uint32_t sequence;

/* -------------------------------------------------------------------- sockets */

static int open_socket(uint32_t groups)
{
    struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = groups };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd < 0)
        return -errno;
    if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0)
        return fd;
    int err = -errno;
    close(fd);
    return err;
}

int rtnl_open(void)
{
    return open_socket(0);
}

int rtnl_open_news(void)
{
    return open_socket(RTMGRP_LINK);
}

void rtnl_drain(int fd)
{
    char byte;
    /* ENOBUFS: some were lost, which is news too. */
    while (read(fd, &byte, 1) >= 0 || errno == ENOBUFS || errno == EINTR)
        ;
}

/* ------------------------------------------------------------------- requests */

static void begin(struct request *q, uint16_t type, uint16_t flags, size_t fixed)
{
    memset(q, 0, sizeof(*q));
    q->h.nlmsg_type = type;
    q->h.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    q->h.nlmsg_seq = ++sequence;
    q->h.nlmsg_len = (uint32_t)NLMSG_LENGTH(fixed);
}

/* An attribute; all that are ever put fit. */
static struct rtattr *put(struct request *q, uint16_t type, const void *data, size_t bytes)
{
    size_t at = NLMSG_ALIGN(q->h.nlmsg_len);
    if (RTA_SPACE(bytes) > sizeof(*q) - at)
        return NULL;
    struct rtattr *a = (struct rtattr *)(void *)((char *)q + at);
    a->rta_type = type;
    a->rta_len = (uint16_t)RTA_LENGTH(bytes);
    if (bytes > 0)
        memcpy(RTA_DATA(a), data, bytes);
    q->h.nlmsg_len = (uint32_t)(at + RTA_LENGTH(bytes));
    return a;
}

static void put_u32(struct request *q, uint16_t type, uint32_t value)
{
    put(q, type, &value, sizeof(value));
}

static struct rtattr *nest(struct request *q, uint16_t type)
{
    return put(q, type | NLA_F_NESTED, NULL, 0);
}

static void nest_end(struct request *q, struct rtattr *a)
{
    if (a)
        a->rta_len = (uint16_t)((char *)q + q->h.nlmsg_len - (char *)a);
}

/* ------------------------------------------------------------------- answers */

typedef void take_fn(const struct nlmsghdr *h, void *to);

/* One packet of answers: 1 there is more to come, 0 all was said, or the
 * negative errno that the kernel said. */
static int answers(const char *at, size_t left, uint16_t type, take_fn *take, void *to)
{
    bool more = false;
    while (left >= sizeof(struct nlmsghdr)) {
        const struct nlmsghdr *h = (const void *)at;
        if (h->nlmsg_len < sizeof(*h) || h->nlmsg_len > left)
            return -EBADMSG;
        bool ours = h->nlmsg_seq == sequence;
        if (ours && h->nlmsg_type == NLMSG_ERROR) {
            int error;
            if (h->nlmsg_len < NLMSG_LENGTH(sizeof(error)))
                return -EBADMSG;
            memcpy(&error, NLMSG_DATA(h), sizeof(error));
            return error;
        }
        if (ours && h->nlmsg_type == NLMSG_DONE)
            return 0;
        if (ours && h->nlmsg_type == type && take)
            take(h, to);
        more |= !ours || (h->nlmsg_flags & NLM_F_MULTI);
        size_t step = NLMSG_ALIGN(h->nlmsg_len);
        if (step >= left)
            break;
        at += step;
        left -= step;
    }
    return more;
}

static int ask(int fd, struct request *q, uint16_t type, take_fn *take, void *to)
{
    static _Alignas(struct nlmsghdr) char answer[ANSWER_BYTES];
    struct sockaddr_nl from = { .nl_family = AF_NETLINK };
    struct iovec iov = { q, q->h.nlmsg_len };
    struct msghdr msg = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1 };
    if (sendmsg(fd, &msg, 0) < 0)
        return -errno;
    for (;;) {
        iov = (struct iovec){ answer, sizeof(answer) };
        msg.msg_namelen = sizeof(from);
        ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (msg.msg_namelen != sizeof(from) || from.nl_pid != 0)
            continue; /* not the kernel */
        if (msg.msg_flags & MSG_TRUNC)
            return -EMSGSIZE;
        int state = answers(answer, (size_t)n, type, take, to);
        if (state <= 0)
            return state;
    }
}

/* ---------------------------------------------------------------------- links */

static bool attribute_u32(const struct rtattr *a, uint32_t *out)
{
    if (RTA_PAYLOAD(a) < sizeof(*out))
        return false;
    memcpy(out, RTA_DATA(a), sizeof(*out));
    return true;
}

static void take_link(const struct nlmsghdr *h, void *to)
{
    struct rtnl_link *out = to;
    struct ifinfomsg link;
    uint32_t value;
    if (h->nlmsg_len < NLMSG_LENGTH(sizeof(link)))
        return;
    memcpy(&link, NLMSG_DATA(h), sizeof(link));
    memset(out, 0, sizeof(*out));
    out->index = link.ifi_index;
    out->flags = link.ifi_flags;
    size_t at = NLMSG_ALIGN(NLMSG_LENGTH(sizeof(link)));
    while (at < h->nlmsg_len && h->nlmsg_len - at >= sizeof(struct rtattr)) {
        const struct rtattr *a = (const void *)((const char *)h + at);
        if (a->rta_len < sizeof(*a) || a->rta_len > h->nlmsg_len - at)
            return;
        if (a->rta_type == IFLA_MTU && attribute_u32(a, &value))
            out->mtu = value;
        else if (a->rta_type == IFLA_MASTER && attribute_u32(a, &value))
            out->master = (int)value;
        else if (a->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(a) == sizeof(out->mac))
            memcpy(out->mac, RTA_DATA(a), sizeof(out->mac));
        at += RTA_ALIGN(a->rta_len);
    }
}

int rtnl_find(int fd, const char *name, struct rtnl_link *out)
{
    struct request q;
    begin(&q, RTM_GETLINK, 0, sizeof(q.u.link));
    put(&q, IFLA_IFNAME, name, strnlen(name, IFNAMSIZ - 1) + 1);
    out->index = 0;
    int err = ask(fd, &q, RTM_NEWLINK, take_link, out);
    return err ? err : out->index ? 0 : -ENODEV;
}

int rtnl_change(int fd, int index, const struct rtnl_change *what)
{
    struct request q;
    begin(&q, RTM_SETLINK, NLM_F_ACK, sizeof(q.u.link));
    q.u.link.ifi_index = index;
    q.u.link.ifi_flags = what->flags;
    q.u.link.ifi_change = what->mask;
    if (what->netns >= 0)
        put_u32(&q, IFLA_NET_NS_FD, (uint32_t)what->netns);
    if (what->mtu)
        put_u32(&q, IFLA_MTU, what->mtu);
    if (what->mac)
        put(&q, IFLA_ADDRESS, what->mac, 6);
    if (what->no_ipv6) {
        uint8_t none = IN6_ADDR_GEN_MODE_NONE;
        struct rtattr *all = nest(&q, IFLA_AF_SPEC), *inet6 = nest(&q, AF_INET6);
        put(&q, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof(none));
        nest_end(&q, inet6);
        nest_end(&q, all);
    }
    if (what->xdp) {
        struct rtattr *xdp = nest(&q, IFLA_XDP);
        put_u32(&q, IFLA_XDP_FD, (uint32_t)what->xdp_prog);
        put_u32(&q, IFLA_XDP_FLAGS, what->xdp_flags);
        nest_end(&q, xdp);
    }
    return ask(fd, &q, RTM_NEWLINK, NULL, NULL);
}

/* ------------------------------------------------------------------ addresses */

struct search {
    int index;
    bool found;
};

static void take_address(const struct nlmsghdr *h, void *to)
{
    struct search *s = to;
    struct ifaddrmsg addr;
    if (h->nlmsg_len < NLMSG_LENGTH(sizeof(addr)))
        return;
    memcpy(&addr, NLMSG_DATA(h), sizeof(addr));
    s->found |= (int)addr.ifa_index == s->index && addr.ifa_scope < RT_SCOPE_LINK;
}

bool rtnl_addressed(int fd, int index)
{
    struct search s = { index, false };
    struct request q;
    begin(&q, RTM_GETADDR, NLM_F_DUMP, sizeof(q.u.addr));
    return ask(fd, &q, RTM_NEWADDR, take_address, &s) == 0 && s.found;
}
