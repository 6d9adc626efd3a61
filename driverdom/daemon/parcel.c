/* SPDX-License-Identifier: MIT */
#include "parcel.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define PARCEL_VERSION 1u

/* The next daemon may be of another build. */
struct packet {
    uint32_t version;
    uint32_t n;
    uint32_t kind[RIGHTS_MAX];
    char name[LOG_NAME_MAX];
};

void parcel_add(struct parcel_entry *entry, uint32_t kind, int fd)
{
    if (fd < 0 || entry->n == RIGHTS_MAX)
        return;
    entry->kind[entry->n] = kind;
    entry->fd[entry->n++] = fd;
}

int parcel_send(int to, const struct parcel_entry *entry)
{
    struct packet packet = {.version = PARCEL_VERSION, .n = entry->n};
    int rc;

    if (!entry->n)
        return 0;
    memcpy(packet.kind, entry->kind, sizeof(packet.kind));
    memcpy(packet.name, entry->name, sizeof(packet.name));
    rc = rights_send(to, &packet, sizeof(packet), entry->fd, entry->n);
    return rc ? rc : 1;
}

static ssize_t receive(int from, int how, struct packet *packet, struct rights *fds, int *flags)
{
    union rights_control control;
    struct iovec iov = {packet, sizeof(*packet)};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(from, &msg, how | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (n < 0)
        return -errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            rights_take(c, fds, RIGHTS_MAX);
    *flags = msg.msg_flags;
    return n;
}

static int take(int from, int how, struct parcel_entry *out)
{
    struct packet packet;
    struct rights fds = {.n = 0};
    int flags = 0;
    ssize_t n = receive(from, how, &packet, &fds, &flags);

    *out = (struct parcel_entry){.n = 0};
    if (n == -EAGAIN || n == -EINTR)
        return 0;
    if (n < 0)
        return (int)n;
    if (n == sizeof(packet) && !(flags & (MSG_TRUNC | MSG_CTRUNC)) && packet.version == PARCEL_VERSION &&
        packet.n == fds.n && memchr(packet.name, 0, sizeof(packet.name))) {
        out->n = fds.n;
        memcpy(out->kind, packet.kind, sizeof(out->kind));
        memcpy(out->fd, fds.fd, sizeof(out->fd));
        memcpy(out->name, packet.name, sizeof(out->name));
        return 1;
    }
    rights_close(&fds);
    return n == 0 ? -ENOTCONN : 1; /* one that is not understood is an empty one */
}

int parcel_receive(int from, struct parcel_entry *out)
{
    return take(from, 0, out);
}

int parcel_each(int from, void (*each)(void *data, struct parcel_entry *entry), void *data)
{
    struct parcel_entry entry;
    int at = 0, n = 0, rc;

    /* From the first on; each look moves it by one packet. */
    if (setsockopt(from, SOL_SOCKET, SO_PEEK_OFF, &at, sizeof(at)))
        return -errno;
    while ((rc = take(from, MSG_PEEK, &entry)) == 1) {
        each(data, &entry);
        n++;
    }
    at = -1;
    if (setsockopt(from, SOL_SOCKET, SO_PEEK_OFF, &at, sizeof(at)))
        return -errno;
    return rc < 0 ? rc : n;
}

void parcel_close(struct parcel_entry *entry)
{
    while (entry->n)
        close(entry->fd[--entry->n]);
}
