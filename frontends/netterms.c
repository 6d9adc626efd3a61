/* SPDX-License-Identifier: MIT */
#include "netterms.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "terms.h"

#define POOL_PAGES_DEFAULT 1024u
#define MTU_UNCHAINED      (NETFRONT_BUF_BYTES - NET_HEADER_BYTES - NET_VLAN_BYTES) /* one buffer */

static const char *const grants_names[] = {
    [NETFRONT_GRANTS_AUTO] = "auto", [NETFRONT_GRANTS_PERSISTENT] = "persistent",
    [NETFRONT_GRANTS_COPY] = "copy", NULL
};

struct offer {
    unsigned queues;
    bool persistent, split, csum6;
    uint16_t flags; /* of packets that may be sent */
};

static struct offer read_offer(struct link *l)
{
    struct offer o = {
        .queues = terms_bounded(l, "multi-queue-max-queues", 1, NET_QUEUES_MAX),
        .persistent = xenbus_peer_flag(&l->bus, "feature-persistent"),
        .split = xenbus_peer_flag(&l->bus, "feature-split-event-channels"),
        .flags = NETFRONT_CSUM_GOOD,
    };
    bool offload = !nic_of(l->device)->want.no_offload;
    bool sg = xenbus_peer_flag(&l->bus, "feature-sg");
    if (sg)
        o.flags |= NETFRONT_MORE;
    if (offload)
        o.flags |= NETFRONT_CSUM_BLANK; /* of IPv4: netif has no way to refuse it */
    o.csum6 = offload && xenbus_peer_flag(&l->bus, "feature-ipv6-csum-offload");
    if (offload && sg && xenbus_peer_flag(&l->bus, "feature-gso-tcpv4"))
        o.flags |= NETFRONT_GSO4;
    if (offload && sg && xenbus_peer_flag(&l->bus, "feature-gso-tcpv6"))
        o.flags |= NETFRONT_GSO6;
    return o;
}

/* "aa:bb:cc:dd:ee:ff" of a station: not all zero, no group's. */
static bool read_mac(struct link *l, uint8_t mac[NET_MAC_BYTES])
{
    char path[STORE_PATH_MAX + 8], text[24];
    snprintf(path, sizeof(path), "%s/mac", l->bus.own);
    if (store_read(l->device->guest->store, STORE_NO_TXN, path, text, sizeof(text)) != 3 * NET_MAC_BYTES - 1)
        return false;
    for (unsigned i = 0; i < NET_MAC_BYTES; i++) {
        const char *at = text + (size_t)3 * i;
        char *end;
        unsigned long byte = strtoul(at, &end, 16);
        if (!isxdigit((unsigned char)*at) || end != at + 2 || *end != (i < NET_MAC_BYTES - 1 ? ':' : '\0'))
            return false;
        mac[i] = (uint8_t)byte;
    }
    return !(mac[0] & 1) && (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]) != 0;
}

static bool wants_resend(struct link *l)
{
    char path[STORE_PATH_MAX + 16], text[16];
    snprintf(path, sizeof(path), "%s/bulkhead-tx", l->bus.own);
    return store_read(l->device->guest->store, STORE_NO_TXN, path, text, sizeof(text)) > 0
           && strcmp(text, "resend") == 0;
}

static int choose_grants(struct link *l, const struct offer *o)
{
    struct device *d = l->device;
    struct netfront *nic = nic_of(d);
    enum netfront_grants want = d->opened ? nic->info.grants : nic->want.grants;
    if (want == NETFRONT_GRANTS_AUTO)
        want = o->persistent ? NETFRONT_GRANTS_PERSISTENT : NETFRONT_GRANTS_COPY;
    if (want == NETFRONT_GRANTS_PERSISTENT && !o->persistent)
        return terms_refuse(l, -EOPNOTSUPP, "its driver domain does not offer persistent grants: ask for "
                            "others");
    if (!d->opened)
        nic->info.grants = want;
    return 0;
}

/* First connection: what stays for the life of the handle. */
static int settle(struct link *l, const struct offer *o)
{
    struct device *d = l->device;
    struct netfront *nic = nic_of(d);
    unsigned mtu = terms_configured(l, "mtu", NET_MTU_DEFAULT), pages;
    int err = terms_pool_pages(l, nic->want.pool_pages, POOL_PAGES_DEFAULT, NETQUEUE_PAGES_MIN, &pages);
    if (err)
        return err;
    if (nic->want.grants == NETFRONT_GRANTS_AUTO)
        nic->want.grants = terms_grants(l, grants_names);
    if (mtu < NET_MTU_MIN || mtu > NET_MTU_MAX)
        return terms_refuse(l, -EINVAL, "an MTU of %u is none: it is from %u to %u", mtu, NET_MTU_MIN,
                            NET_MTU_MAX);
    if (!read_mac(l, nic->info.mac))
        return terms_refuse(l, -EINVAL, "the store names no address for it (%s/mac)", l->bus.own);
    d->nqueues = terms_queues(l, nic->want.queues, o->queues);
    nic->queue_pages = pages;
    nic->resend = wants_resend(l);
    d->pool_pages = (size_t)d->nqueues * pages;
    nic->terms = (struct netqueue_terms){ .tx_flags = o->flags, .rx_offload = !nic->want.no_offload };
    nic->info.mtu = (uint16_t)(!(o->flags & NETFRONT_MORE) && mtu > MTU_UNCHAINED ? MTU_UNCHAINED : mtu);
    nic->info.queues = d->nqueues;
    nic->info.receive_buffers = (pages - NETQUEUE_RING_PAGES) / 2;
    nic->info.send_buffers = pages - NETQUEUE_RING_PAGES - nic->info.receive_buffers;
    nic->info.ring_slots = NET_RING_SLOTS;
    nic->info.can_csum4 = (o->flags & NETFRONT_CSUM_BLANK) != 0;
    nic->info.can_csum6 = o->csum6;
    nic->info.can_gso4 = (o->flags & NETFRONT_GSO4) != 0;
    nic->info.can_gso6 = (o->flags & NETFRONT_GSO6) != 0;
    nic->info.can_chain = (o->flags & NETFRONT_MORE) != 0;
    return 0;
}

/* Later connections: what we were promised must still be there. */
static int still_fits(struct link *l, const struct offer *o)
{
    struct netfront *nic = nic_of(l->device);
    if (o->queues >= nic->device.nqueues && !(nic->terms.tx_flags & ~o->flags)
        && nic->info.can_csum6 <= o->csum6)
        return 0;
    return terms_trouble(l, -EPROTO, "the driver domain offers less than the one before it "
                         "(%u of %u queues, or fewer features)", o->queues, nic->device.nqueues);
}

int netterms_accept_offer(struct link *l)
{
    struct offer o = read_offer(l);
    int err = l->device->pool ? still_fits(l, &o) : settle(l, &o);
    if (!err)
        err = choose_grants(l, &o);
    if (!err)
        l->nchannels = o.split ? 2 : 1;
    return err;
}
