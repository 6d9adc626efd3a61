/* SPDX-License-Identifier: MIT */
/*
 * vifconnect.c - from what a frontend wrote to queues that can be served.
 *
 * All of it is hostile: counts are bounded before they index anything, grant
 * references and ports are only ever given to the hypervisor, which knows
 * whose they are, and a connection exists whole or not at all.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vif.h"

/* What the frontend said about one queue. */
struct claim {
    uint32_t tx_ref, rx_ref;
    uint32_t tx_port, rx_port; /* the same when not split */
};

/* ------------------------------------------------------------ frontend's nodes */

static int read_number(const char *dir, const char *key, uint32_t *out)
{
    uint64_t value;
    int err = store_read_number(backend_store(), STORE_NO_TXN, dir, key, UINT32_MAX, &value);
    if (err == 0)
        *out = (uint32_t)value;
    return err;
}

static int read_claim(const char *dir, struct claim *c)
{
    int err = read_number(dir, "tx-ring-ref", &c->tx_ref);
    if (err == 0)
        err = read_number(dir, "rx-ring-ref", &c->rx_ref);
    if (err < 0)
        return err;
    err = read_number(dir, "event-channel-tx", &c->tx_port);
    if (err == 0)
        return read_number(dir, "event-channel-rx", &c->rx_port);
    if (err != -ENOENT)
        return err;
    err = read_number(dir, "event-channel", &c->tx_port);
    c->rx_port = c->tx_port;
    return err;
}

/* Fills one claim for each queue; returns their number. */
static int read_claims(struct vif *v, unsigned max, struct claim *claims, const char **what)
{
    uint64_t queues = 1;

    *what = "the frontend asks for more queues than multi-queue-max-queues, or none";
    int err = store_read_number(backend_store(), STORE_NO_TXN, v->dev.bus.peer, "multi-queue-num-queues", max,
                                &queues);
    if ((err < 0 && err != -ENOENT) || queues == 0)
        return err < 0 ? err : -EINVAL;
    *what = "ring references and event channels of the frontend cannot be read";
    for (unsigned i = 0; i < queues; i++) {
        char dir[STORE_PATH_MAX + 16];
        /* Stock frontends make the queue directories only when there are several. */
        snprintf(dir, sizeof(dir), queues > 1 ? "%s/queue-%u" : "%s", v->dev.bus.peer, i);
        err = read_claim(dir, &claims[i]);
        if (err < 0)
            return err;
    }
    return (int)queues;
}

static void read_offloads(struct vif *v)
{
    struct xenbus_device *bus = &v->dev.bus;
    v->port.rx_sg = xenbus_peer_flag(bus, "feature-sg");
    v->port.rx_csum4 = !xenbus_peer_flag(bus, "feature-no-csum-offload");
    v->port.rx_csum6 = xenbus_peer_flag(bus, "feature-ipv6-csum-offload");
    /* A segment that is not cut needs several slots and has no checksum yet. */
    v->port.rx_gso4 = v->port.rx_sg && v->port.rx_csum4 && xenbus_peer_flag(bus, "feature-gso-tcpv4");
    v->port.rx_gso6 = v->port.rx_sg && v->port.rx_csum6 && xenbus_peer_flag(bus, "feature-gso-tcpv6");
}

/* ---------------------------------------------------------------------- queues */

static void end_queue(struct vif_queue *vq)
{
    if (vq->q)
        net_queue_destroy(vq->q);
    if (vq->rx_evtchn && vq->rx_evtchn != vq->tx_evtchn)
        hyp_evtchn_close(vq->rx_evtchn);
    if (vq->tx_evtchn)
        hyp_evtchn_close(vq->tx_evtchn);
    if (vq->rx_ring)
        hyp_unmap_grants(vq->map, vq->rx_ring, 1);
    if (vq->tx_ring)
        hyp_unmap_grants(vq->map, vq->tx_ring, 1);
    if (vq->map)
        hyp_map_close(vq->map);
    *vq = (struct vif_queue){ 0 };
}

static int bind_channels(struct vif *v, const struct claim *c, struct vif_queue *vq)
{
    int err = hyp_evtchn_bind(backend_hyp(), v->dev.frontend, c->tx_port, &vq->tx_evtchn);
    if (err < 0 || c->rx_port != c->tx_port)
        return err < 0 ? err : hyp_evtchn_bind(backend_hyp(), v->dev.frontend, c->rx_port, &vq->rx_evtchn);
    vq->rx_evtchn = vq->tx_evtchn;
    return 0;
}

/* What was made before a failure stays for end_queue(). */
static int begin_queue(struct vif *v, const struct claim *c, enum net_grants grants, struct vif_queue *vq,
                       const char **what)
{
    *what = "no room to map the frontend";
    int err = hyp_map_open(backend_hyp(), v->dev.frontend, &vq->map);
    if (err < 0)
        return err;
    *what = "the frontend's ring pages are not granted to this domain";
    err = hyp_map_grants(vq->map, &c->tx_ref, 1, 0, &vq->tx_ring);
    if (err == 0)
        err = hyp_map_grants(vq->map, &c->rx_ref, 1, 0, &vq->rx_ring);
    if (err < 0)
        return err;
    *what = "the frontend's event channel is not for this domain";
    err = bind_channels(v, c, vq);
    if (err < 0)
        return err;
    *what = "no memory for the tables of a queue";
    return net_queue_create(&vq->q, &(struct net_queue_config){
                                        .tx_ring = vq->tx_ring, .rx_ring = vq->rx_ring, .map = vq->map,
                                        .tx_evtchn = vq->tx_evtchn, .rx_evtchn = vq->rx_evtchn,
                                        .grants = grants, .port = &v->port });
}

void vif_queues_end(struct vif *v)
{
    for (unsigned i = 0; i < v->port.nqueues; i++) {
        struct vif_queue *vq = &v->queue[i];
        if (vq->q)
            backend_add_counters((uint64_t *)&v->past, (const uint64_t *)net_queue_counters(vq->q),
                                 NET_NCOUNTERS);
        end_queue(vq);
        v->port.queue[i] = NULL;
    }
    v->port.nqueues = 0;
    v->port.armed = false;
}

int vif_connect(struct vif *v, unsigned max, const char **what)
{
    struct claim claims[NET_QUEUES_MAX] = { 0 };

    *what = "the frontend does not say request-rx-copy=1, and pages are not flipped here";
    if (!xenbus_peer_flag(&v->dev.bus, "request-rx-copy"))
        return -EOPNOTSUPP;
    int n = read_claims(v, max, claims, what);
    if (n < 0)
        return n;
    read_offloads(v);
    enum net_grants grants = xenbus_peer_flag(&v->dev.bus, "feature-persistent") ? NET_GRANTS_PERSISTENT
                                                                                 : NET_GRANTS_COPY;
    int err = 0;
    v->port.nqueues = 0;
    for (int i = 0; i < n && err == 0; i++) {
        err = begin_queue(v, &claims[i], grants, &v->queue[i], what);
        v->port.queue[i] = v->queue[i].q;
        v->port.nqueues++;
    }
    if (err < 0)
        vif_queues_end(v);
    return err;
}
