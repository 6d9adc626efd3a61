/* SPDX-License-Identifier: MIT */
/* Packets with descriptors, without waiting. */
#include "core.h"

#include <sys/socket.h>

union control {
    char bytes[CMSG_SPACE(HYP_FDS_MAX * sizeof(int))];
    struct cmsghdr align;
};

int packet_send(int sock, const void *packet, size_t bytes, const int *fds, unsigned nfds)
{
    union control control;
    struct iovec iov = { (void *)(uintptr_t)packet, bytes };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (nfds > 0) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
    }
    return sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

ssize_t packet_receive(int sock, void *packet, size_t room, struct packet_fds *in, int *flags)
{
    union control control;
    struct iovec iov = { packet, room };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (in) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control);
        in->n = 0;
    }
    ssize_t n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return -errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c && in; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        in->n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(in->fd, CMSG_DATA(c), in->n * sizeof(int));
    }
    *flags = msg.msg_flags;
    return n;
}
