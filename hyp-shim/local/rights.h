/* SPDX-License-Identifier: MIT */
/*
 * rights.h - packets with descriptors beside them (SCM_RIGHTS), sent and
 * received without waiting.  Header only: every program that passes a
 * descriptor does it here.
 *
 * What is received may come from anybody.  Control data of another kind, or
 * cut short, gives no descriptor; no more descriptors are taken than the
 * caller has room for, and the rest is closed (MSG_CTRUNC tells).  All are
 * close-on-exec.
 */
#ifndef BULKHEAD_LOCAL_RIGHTS_H
#define BULKHEAD_LOCAL_RIGHTS_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RIGHTS_MAX 8 /* descriptors with one packet */

struct rights {
    unsigned n;
    int fd[RIGHTS_MAX];
};

union rights_control {
    char bytes[CMSG_SPACE(RIGHTS_MAX * sizeof(int))];
    struct cmsghdr align;
};

static inline void rights_close(struct rights *r)
{
    while (r->n > 0)
        close(r->fd[--r->n]);
}

/* Sends one packet with n descriptors (at most RIGHTS_MAX), which
 * stay the caller's.  0 or a negative errno; -EAGAIN: no room now. */
static inline int rights_send(int sock, const void *packet, size_t bytes, const int *fds, unsigned n)
{
    union rights_control control;
    struct iovec iov = { (void *)(uintptr_t)packet, bytes };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (n > RIGHTS_MAX)
        return -EINVAL;
    if (n > 0) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n * sizeof(int));
    }
    return sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The descriptors of one control message, as far as there is room. */
static inline void rights_take(const struct cmsghdr *c, struct rights *r, unsigned max)
{
    int fd;
    for (size_t at = 0; c->cmsg_len >= CMSG_LEN(at + sizeof(fd)); at += sizeof(fd)) {
        memcpy(&fd, CMSG_DATA(c) + at, sizeof(fd));
        if (r->n < max)
            r->fd[r->n++] = fd;
        else
            close(fd);
    }
}

/*
 * Receives one packet: at most room bytes of it, and at most max descriptors
 * (max <= RIGHTS_MAX), which become the caller's; 0: none, as if there were no
 * such thing.  Its length (0: the end) or a negative errno; flags: those of
 * recvmsg(2), MSG_TRUNC and MSG_CTRUNC among them.
 */
static inline ssize_t rights_receive(int sock, void *packet, size_t room, struct rights *r, unsigned max,
                                     int *flags)
{
    union rights_control control;
    struct iovec iov = { packet, room };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    r->n = 0;
    *flags = 0;
    if (max > RIGHTS_MAX)
        return -EINVAL;
    if (max > 0) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_LEN(max * sizeof(int)); /* to the byte: CMSG_SPACE() may be one more */
    }
    ssize_t n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return -errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c && max > 0; c = CMSG_NXTHDR(&msg, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            rights_take(c, r, max);
    *flags = msg.msg_flags;
    return n;
}

#endif
