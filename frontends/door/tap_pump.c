/* SPDX-License-Identifier: MIT */
#include "tap_pump.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>

#include "tap_link.h"
#include "../../hyp-shim/log.h"

#define FRAME_MORE 18u /* Ethernet header and a VLAN tag, beyond the MTU */

static const char *drop_name(enum pump_drop why)
{
    static const char *const names[PUMP_DROPS] = {
        [PUMP_TOO_LONG] = "too long",         [PUMP_BAD_OFFLOAD] = "impossible offload",
        [PUMP_REFUSED] = "refused by the NIC", [PUMP_LINK_DOWN] = "interface down",
        [PUMP_KERNEL] = "refused by the kernel",
    };
    return names[why];
}

static void drop(struct pump *p, enum pump_drop why)
{
    if (p->dropped[why]++ == 0)
        log_line("bulkhead-tap: %s: dropped a packet: %s; more are only counted", p->name, drop_name(why));
}

/* ---------------------------------------------------------------- to the NIC */

int pump_init(struct pump *p, const char *name, struct netfront *nic, int tap, const struct pump_stop *stop)
{
    *p = (struct pump){ .name = name, .nic = nic, .can = netfront_info(nic), .stop = stop, .tap = tap };
    bool segments = p->can->can_chain && (p->can->can_gso4 || p->can->can_gso6);
    uint32_t longest = segments ? NETFRONT_PACKET_MAX : p->can->mtu + FRAME_MORE;
    /* One byte more, so that a packet which was cut off can be told. */
    p->packet_buffers = longest / NETFRONT_BUF_BYTES + 1;
    if (!p->can->can_chain)
        p->packet_buffers = 1;
    if (p->packet_buffers > p->can->send_buffers || p->packet_buffers > NETFRONT_CHAIN_MAX)
        return -ENOBUFS;
    return 0;
}

/* Sends what waits. False: some of it goes on waiting. */
static int flush(struct pump *p)
{
    while (p->nout > 0) {
        int n = netfront_send(p->nic, 0, p->out + p->out_first, p->nout);
        if (n == -EINVAL) { /* the first one: give its buffers back */
            bool more;
            do {
                more = p->out[p->out_first].flags & NETFRONT_MORE;
                netfront_put(p->nic, 0, &p->out[p->out_first].data, 1);
                p->out_first++;
                p->nout--;
            } while (more && p->nout > 0);
            drop(p, PUMP_REFUSED);
            continue;
        }
        if (n < 0 && n != -ENETDOWN)
            return n;
        if (n <= 0) {
            p->stuck = true;
            return 0;
        }
        p->out_first += (unsigned)n;
        p->nout -= (unsigned)n;
    }
    p->out_first = 0;
    return 0;
}

/* The first bytes of a packet in pieces. */
static size_t peek(const struct netfront_packet *pieces, unsigned n, uint8_t head[FRAME_HEAD_MAX])
{
    size_t have = 0;
    for (unsigned i = 0; i < n && have < FRAME_HEAD_MAX; i++) {
        size_t part = pieces[i].bytes < FRAME_HEAD_MAX - have ? pieces[i].bytes : FRAME_HEAD_MAX - have;
        memcpy(head + have, pieces[i].data, part);
        have += part;
    }
    return have;
}

/* `bytes` of a packet lie in the last empty buffers: makes it the last to be sent,
 * or leaves the buffers empty. */
static void take_packet(struct pump *p, const struct virtio_net_hdr *virtio, size_t bytes)
{
    struct netfront_packet *first = &p->out[p->out_first + p->nout];
    size_t left = bytes;
    unsigned n = 0;
    if (bytes > NETFRONT_PACKET_MAX || bytes == (size_t)p->packet_buffers * NETFRONT_BUF_BYTES) {
        drop(p, PUMP_TOO_LONG);
        return;
    }
    do {
        uint32_t part = left < NETFRONT_BUF_BYTES ? (uint32_t)left : NETFRONT_BUF_BYTES;
        left -= part;
        first[n] = (struct netfront_packet){ .data = p->empty[p->nempty - 1 - n], .bytes = part,
                                             .flags = left ? NETFRONT_MORE : 0 };
        n++;
    } while (left > 0);

    if (virtio->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM || virtio->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
        uint8_t head[FRAME_HEAD_MAX];
        uint16_t flags;
        size_t have = peek(first, n, head);
        enum offload how = offload_from_virtio(virtio, head, have, bytes, p->can, &flags, &first->gso_size);
        if (how == OFFLOAD_FILL && !frame_fill_csum(first, n, virtio->csum_start, virtio->csum_offset))
            how = OFFLOAD_BAD;
        if (how == OFFLOAD_BAD) {
            drop(p, PUMP_BAD_OFFLOAD);
            return;
        }
        first->flags |= flags;
    }
    p->nempty -= n;
    p->nout += n;
    p->to_nic++;
}

/* Empty buffers for one packet, at least. */
static bool have_buffers(struct pump *p)
{
    if (p->nempty >= p->packet_buffers)
        return true;
    int n = netfront_get(p->nic, 0, p->empty + p->nempty, PUMP_ELEMENTS_MAX - p->nempty);
    if (n > 0)
        p->nempty += (unsigned)n;
    return p->nempty >= p->packet_buffers;
}

/* 1: something was carried; 0: nothing was there, or the NIC took no more. */
static int carry_to_nic(struct pump *p)
{
    unsigned packets = 0;
    p->stuck = false;
    int err = flush(p);
    if (err || p->stuck)
        return err;
    for (; packets < PUMP_PACKETS_MAX && p->nout + p->packet_buffers <= PUMP_ELEMENTS_MAX; packets++) {
        struct virtio_net_hdr virtio;
        struct iovec iov[NETFRONT_CHAIN_MAX + 1];
        if (!have_buffers(p)) {
            p->stuck = true;
            break;
        }
        iov[0] = (struct iovec){ &virtio, sizeof(virtio) };
        for (unsigned i = 0; i < p->packet_buffers; i++)
            iov[i + 1] = (struct iovec){ p->empty[p->nempty - 1 - i], NETFRONT_BUF_BYTES };
        ssize_t n = readv(p->tap, iov, (int)p->packet_buffers + 1);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n < 0)
            return errno == EBADFD || errno == EFAULT ? -ENODEV : -errno;
        if ((size_t)n < sizeof(virtio))
            return -EPROTO; /* no TAP, or not as tap_agree() left it */
        take_packet(p, &virtio, (size_t)n - sizeof(virtio));
    }
    bool stuck = p->stuck;
    err = flush(p);
    p->stuck |= stuck;
    return err ? err : packets > 0;
}

/* ---------------------------------------------------------------- to the TAP */

static int write_packet(struct pump *p, const struct netfront_packet *pieces, unsigned n)
{
    uint8_t head[FRAME_HEAD_MAX];
    struct virtio_net_hdr virtio;
    struct iovec iov[NETFRONT_CHAIN_MAX + 2];
    size_t total = 0, have = peek(pieces, n, head), skip = have;
    int used = 2;
    iov[0] = (struct iovec){ &virtio, sizeof(virtio) };
    iov[1] = (struct iovec){ head, have };
    for (unsigned i = 0; i < n; i++) {
        size_t from = skip < pieces[i].bytes ? skip : pieces[i].bytes;
        skip -= from;
        total += pieces[i].bytes;
        if (pieces[i].bytes > from)
            iov[used++] = (struct iovec){ (char *)pieces[i].data + from, pieces[i].bytes - from };
    }
    if (!offload_to_virtio(pieces->flags, pieces->gso_size, head, have, total, &virtio)) {
        drop(p, PUMP_BAD_OFFLOAD);
        return 0;
    }
    if (writev(p->tap, iov, used) >= 0)
        p->to_tap++;
    else if (errno == EBADFD)
        return -ENODEV;
    else
        drop(p, errno == EIO ? PUMP_LINK_DOWN : PUMP_KERNEL);
    return 0;
}

static int carry_to_tap(struct pump *p)
{
    struct netfront_packet in[PUMP_PACKETS_MAX + NETFRONT_CHAIN_MAX];
    int n = netfront_receive(p->nic, 0, in, sizeof(in) / sizeof(in[0])), err = 0;
    if (n <= 0)
        return n == -ENETDOWN ? 0 : n;
    for (int i = 0, last; i < n && !err; i = last + 1) {
        for (last = i; last < n - 1 && in[last].flags & NETFRONT_MORE; last++)
            ;
        err = write_packet(p, in + i, (unsigned)(last - i + 1));
    }
    netfront_release(p->nic, 0, in, (unsigned)n);
    return err ? err : 1;
}

/* --------------------------------------------------------------------- both */

static int sleep_until_news(struct pump *p)
{
    enum { STOP, NIC, TAP, N };
    int work = netfront_idle(p->nic, 0);
    if (work > 0)
        return 0;
    if (work < 0 && work != -ENETDOWN)
        return work;
    struct pollfd fd[N] = { { .fd = p->stop->fd, .events = POLLIN },
                            { .fd = netfront_fd(p->nic, 0), .events = POLLIN },
                            { .fd = p->tap, .events = p->stuck ? 0 : POLLIN } };
    if (ppoll(fd, N, NULL, NULL) < 0)
        return errno == EINTR ? 0 : -errno;
    return fd[TAP].revents & (POLLERR | POLLHUP | POLLNVAL) ? -ENODEV : 0;
}

int pump_run(struct pump *p)
{
    while (!atomic_load_explicit(&p->stop->asked, memory_order_relaxed)) {
        int out = carry_to_nic(p);
        int in = out < 0 ? out : carry_to_tap(p);
        int err = in < 0 ? in : out || in ? 0 : sleep_until_news(p);
        if (err < 0)
            return err;
    }
    return 0;
}
