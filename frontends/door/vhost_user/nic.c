/* SPDX-License-Identifier: MIT */
#include "nic.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../../../hyp-shim/log.h"

#define FEATURE(f) (UINT64_C(1) << VIRTIO_NET_F_##f)
#define ANY_LAYOUT (UINT64_C(1) << 27) /* virtio 1.2, 6.3: a legacy guest may put its header anywhere */
#define VERSION_1  32u

const char *nic_drop_name(enum nic_drop why)
{
    static const char *const names[NIC_DROPS] = {
        [NIC_HEADER_CUT] = "from the guest: shorter than its virtio header",
        [NIC_EMPTY] = "from the guest: shorter than an Ethernet header",
        [NIC_TOO_LONG] = "from the guest: too long",
        [NIC_NOT_READABLE] = "from the guest: a buffer to be written to in the ring for sending",
        [NIC_NOT_AGREED] = "from the guest: an offload that was not agreed",
        [NIC_BAD_LENGTH] = "from the guest: headers longer than their packet",
        [NIC_BAD_CSUM] = "from the guest: a checksum outside of the packet",
        [NIC_BAD_SEGMENTS] = "from the guest: impossible segments",
        [NIC_REFUSED] = "from the guest: refused by the NIC",
        [NIC_BAD_BUFFER] = "a receive buffer of the guest without room for a virtio header",
        [NIC_BAD_OFFLOAD] = "to the guest: flags of the driver domain that do not fit the packet",
        [NIC_NO_FIT] = "to the guest: longer than its buffers",
        [NIC_NO_BUFFER] = "to the guest: it posts no buffers",
        [NIC_NO_RING] = "to the guest: it does not receive",
    };
    return names[why];
}

void nic_drop(struct nic *nic, enum nic_drop why)
{
    /* That nobody listens is no news while a guest boots. */
    if (nic->dropped[why]++ == 0 && why != NIC_NO_RING)
        log_line("bulkhead-vhost: %s: dropped %s; more are only counted", nic->name, nic_drop_name(why));
}

/* ------------------------------------------------------------- opened and closed */

int nic_open(struct nic *nic, const char *name, void (*notify)(void *arg, enum netfront_news news), void *arg,
             char *why, size_t why_bytes)
{
    struct netfront_options opt = { .device = name, .notify = notify, .arg = arg };
    memset(nic, 0, sizeof(*nic));
    snprintf(nic->name, sizeof(nic->name), "%s", name);
    int err = netfront_open(&nic->front, &opt, why, why_bytes);
    if (err)
        return err;
    nic->can = netfront_info(nic->front);
    nic->npairs = nic->can->queues < NIC_PAIRS_MAX ? nic->can->queues : NIC_PAIRS_MAX;
    return 0;
}

void nic_serve(struct nic *nic, struct vhost_device *dev)
{
    nic->dev = dev;
}

void nic_close(struct nic *nic)
{
    netfront_close(nic->front); /* with all buffers */
    nic->front = NULL;
}

/* ------------------------------------------------------------------ the class */

static unsigned queues(void *arg)
{
    const struct nic *nic = arg;
    return 2 * nic->npairs;
}

/* Nothing is said of the MAC address and of the link: they are the VMM's. */
static uint64_t features(void *arg)
{
    const struct nic *nic = arg;
    const struct netfront_info *can = nic->can;
    uint64_t f = FEATURE(MRG_RXBUF) | FEATURE(MTU) | FEATURE(CSUM) | FEATURE(GUEST_CSUM) | FEATURE(GUEST_TSO4)
                 | FEATURE(GUEST_TSO6) | FEATURE(GUEST_ECN) | ANY_LAYOUT;
    if (can->can_csum4 && can->can_gso4 && can->can_chain)
        f |= FEATURE(HOST_TSO4) | FEATURE(HOST_ECN);
    if (can->can_csum6 && can->can_gso6 && can->can_chain)
        f |= FEATURE(HOST_TSO6) | FEATURE(HOST_ECN);
    return nic->npairs > 1 ? f | FEATURE(MQ) : f;
}

static unsigned config(void *arg, uint8_t out[VHOST_CONFIG_MAX])
{
    (void)arg;
    (void)out;
    return 0;
}

static int mtu(void *arg, uint64_t bytes)
{
    const struct nic *nic = arg;
    return bytes > nic->can->mtu ? -EINVAL : 0;
}

static void agreed(void *arg, uint64_t feature_bits)
{
    struct nic *nic = arg;
    nic->agreed = feature_bits;
    nic->header = nic_has(nic, VERSION_1) || nic_has(nic, VIRTIO_NET_F_MRG_RXBUF)
                      ? sizeof(struct virtio_net_hdr_v1) : sizeof(struct virtio_net_hdr);
}

static int start(void *arg, unsigned q)
{
    struct nic *nic = arg;
    if (q / 2 >= nic->npairs)
        return -EINVAL;
    struct vhost_queue *ring = &nic->dev->queue[q];
    *(q % 2 ? &nic->pair[q / 2].tx : &nic->pair[q / 2].rx) = ring;
    vhost_queue_quiet(ring);
    return 0;
}

/* What was taken goes back to the ring; what is held was not copied yet. */
static int stop(void *arg, unsigned q, bool drop)
{
    struct nic *nic = arg;
    (void)drop;
    if (q / 2 >= nic->npairs)
        return 0;
    struct nic_pair *p = &nic->pair[q / 2];
    if (q % 2) {
        nic_unsend(nic, q / 2);
        p->tx = NULL;
    } else {
        p->rx = NULL;
    }
    nic->listening &= ~(UINT32_C(1) << q);
    return 0;
}

bool nic_listen(struct nic *nic, struct vhost_queue *ring)
{
    nic->listening |= UINT32_C(1) << (ring - nic->dev->queue);
    return vhost_queue_listen(ring);
}

static void listen_no_more(struct nic *nic)
{
    for (unsigned q = 0; nic->listening; q++, nic->listening >>= 1)
        if (nic->listening & 1)
            vhost_queue_quiet(&nic->dev->queue[q]);
}

static int work(void *arg)
{
    struct nic *nic = arg;
    int moved = 0;
    listen_no_more(nic);
    for (unsigned i = 0; i < nic->npairs; i++) {
        int sent = nic_send(nic, i);
        if (sent < 0)
            return sent;
        int received = nic_receive(nic, i);
        if (received < 0)
            return received;
        moved += sent + received;
    }
    return moved;
}

static int idle(void *arg, struct pollfd *fds, unsigned *n)
{
    struct nic *nic = arg;
    for (unsigned i = 0; i < nic->npairs; i++) {
        struct nic_pair *p = &nic->pair[i];
        if (p->tx && !p->stuck && nic_listen(nic, p->tx))
            return 1;
        int work_there = netfront_idle(nic->front, i);
        if (work_there < 0 && work_there != -ENETDOWN)
            return work_there;
        if (work_there > 0)
            return 1;
        fds[(*n)++] = (struct pollfd){ .fd = netfront_fd(nic->front, i), .events = POLLIN };
    }
    return 0;
}

const struct vhost_class nic_class = {
    .word = "NIC",
    .mq = true,
    .queues = queues,
    .features = features,
    .config = config,
    .mtu = mtu,
    .agreed = agreed,
    .start = start,
    .stop = stop,
    .work = work,
    .idle = idle,
};
