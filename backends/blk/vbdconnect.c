/* SPDX-License-Identifier: MIT */
/*
 * vbdconnect.c - from what a frontend wrote to queues that can be served.
 *
 * All of it is hostile: counts are bounded before they index anything, grant
 * references and ports are only ever given to the hypervisor, which knows
 * whose they are, and a connection exists whole or not at all.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <xen/io/protocols.h>

#include "vbd.h"

/* What the frontend said about one queue. */
struct claim {
    unsigned pages;
    grant_ref_t ref[BLK_MAX_RING_PAGES];
    evtchn_port_t port;
};

/* ------------------------------------------------------------ frontend's nodes */

/* A number that may be absent: 1 present, 0 absent, else an error. */
static int optional(struct vbd *v, const char *key, uint64_t max, uint64_t *out)
{
    int err = store_read_number(v->dev.bus.store, STORE_NO_TXN, v->dev.bus.peer, key, max, out);
    return err == 0 ? 1 : err == -ENOENT ? 0 : err;
}

static int read_number(struct vbd *v, const char *dir, const char *key, uint32_t *out)
{
    uint64_t value;
    int err = store_read_number(v->dev.bus.store, STORE_NO_TXN, dir, key, UINT32_MAX, &value);
    if (err == 0)
        *out = (uint32_t)value;
    return err;
}

static int read_protocol(struct vbd *v)
{
    char path[STORE_PATH_MAX + 16], text[32];
    snprintf(path, sizeof(path), "%s/protocol", v->dev.bus.peer);
    int n = store_read(v->dev.bus.store, STORE_NO_TXN, path, text, sizeof(text));
    if (n == -ENOENT)
        return 0; /* same as ours, by convention */
    if (n < 0)
        return n;
    return strcmp(text, XEN_IO_PROTO_ABI_X86_64) == 0 ? 0 : -EPROTONOSUPPORT;
}

static int read_claim(struct vbd *v, const char *dir, unsigned pages, bool numbered, struct claim *c)
{
    int err = 0;
    c->pages = pages;
    for (unsigned i = 0; i < pages && err == 0; i++) {
        char key[16];
        snprintf(key, sizeof(key), numbered ? "ring-ref%u" : "ring-ref", i);
        err = read_number(v, dir, key, &c->ref[i]);
    }
    if (err == 0)
        err = read_number(v, dir, "event-channel", &c->port);
    return err;
}

/* Fills one claim for each queue; returns their number. */
static int read_claims(struct vbd *v, unsigned max, struct claim *claims, const char **what)
{
    uint64_t order = 0, queues = 1;

    *what = "the frontend's protocol is not x86_64-abi";
    int err = read_protocol(v);
    if (err < 0)
        return err;
    *what = "the frontend's ring-page-order is not 0 to 4";
    int numbered = optional(v, "ring-page-order", BLK_MAX_RING_ORDER, &order);
    if (numbered < 0)
        return numbered;
    *what = "the frontend asks for more queues than multi-queue-max-queues, or none";
    err = optional(v, "multi-queue-num-queues", max, &queues);
    if (err < 0 || queues == 0)
        return err < 0 ? err : -EINVAL;

    *what = "ring references and event channels of the frontend cannot be read";
    for (unsigned i = 0; i < queues; i++) {
        char dir[STORE_PATH_MAX + 16];
        /* Stock frontends write "ring-ref" for a ring of one page, and the
         * queue directories only when there are several. */
        snprintf(dir, sizeof(dir), queues > 1 ? "%s/queue-%u" : "%s", v->dev.bus.peer, i);
        err = read_claim(v, dir, 1u << order, order > 0, &claims[i]);
        if (err == -ENOENT && order == 0 && numbered)
            err = read_claim(v, dir, 1, true, &claims[i]);
        if (err < 0)
            return err;
    }
    return (int)queues;
}

static enum blk_grants negotiated(struct vbd *v)
{
    if (xenbus_peer_flag(&v->dev.bus, "feature-persistent"))
        return BLK_GRANTS_PERSISTENT;
    if (xenbus_peer_flag(&v->dev.bus, "feature-grant-copy"))
        return BLK_GRANTS_COPY;
    return BLK_GRANTS_MAP;
}

/* ---------------------------------------------------------------------- queues */

static int begin_queue(struct vbd *v, const struct claim *c, enum blk_grants grants,
                       struct vbd_queue *vq, const char **what)
{
    *what = "no room to map the frontend";
    int err = hyp_map_open(backend_hyp(), v->dev.frontend, &vq->map);
    if (err < 0)
        return err;
    *what = "the frontend's ring pages are not granted to this domain";
    err = hyp_map_grants(vq->map, c->ref, c->pages, 0, &vq->ring);
    if (err < 0)
        goto close_map;
    vq->pages = c->pages;
    *what = "the frontend's event channel is not for this domain";
    err = hyp_evtchn_bind(backend_hyp(), v->dev.frontend, c->port, &vq->evtchn);
    if (err < 0)
        goto unmap;
    *what = "no memory for the tables of a queue";
    const struct blk_queue_config cfg = { .ring = vq->ring, .ring_bytes = (size_t)c->pages * HYP_PAGE_SIZE,
                                          .map = vq->map, .evtchn = vq->evtchn, .grants = grants,
                                          .weight = v->weight, .disk = &v->disk };
    err = blk_queue_create(&vq->q, &cfg);
    if (err < 0)
        goto close_evtchn;
    vq->q->owner = v;
    return 0;

close_evtchn:
    hyp_evtchn_close(vq->evtchn);
unmap:
    hyp_unmap_grants(vq->map, vq->ring, vq->pages);
close_map:
    hyp_map_close(vq->map);
    *vq = (struct vbd_queue){ 0 };
    return err;
}

void vbd_queue_end(struct vbd *v, struct vbd_queue *vq)
{
    backend_add_counters((uint64_t *)&v->past, (const uint64_t *)&vq->q->count, BLK_NCOUNTERS);
    blk_queue_destroy(vq->q);
    hyp_evtchn_close(vq->evtchn);
    hyp_unmap_grants(vq->map, vq->ring, vq->pages);
    hyp_map_close(vq->map);
    *vq = (struct vbd_queue){ 0 };
}

int vbd_connect(struct vbd *v, unsigned max, const char **what)
{
    struct claim claims[BLK_MAX_QUEUES] = { 0 };
    int n = read_claims(v, max, claims, what);
    if (n < 0)
        return n;
    uint64_t weight;
    int given = store_read_number(backend_store(), STORE_NO_TXN, v->dev.bus.own, "bulkhead-weight", 1000,
                                  &weight);
    if (given < 0 || weight == 0)
        weight = 100;
    v->weight = (uint32_t)weight;
    enum blk_grants grants = negotiated(v);
    int err = 0;
    for (v->nqueues = 0; v->nqueues < (unsigned)n; v->nqueues++) {
        err = begin_queue(v, &claims[v->nqueues], grants, &v->queue[v->nqueues], what);
        if (err < 0)
            break;
    }
    while (err < 0 && v->nqueues > 0)
        vbd_queue_end(v, &v->queue[--v->nqueues]);
    return err;
}
