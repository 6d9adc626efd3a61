/* SPDX-License-Identifier: MIT */
/*
 * test_netfront.h - one queue of the network frontend and a backend that does as
 * told, on the fake hypervisor.
 */
#ifndef BULKHEAD_TEST_NETFRONT_H
#define BULKHEAD_TEST_NETFRONT_H

#include "test_front.h"

#include "../../frontends/netqueue.h"

struct rig {
    struct sides sides;
    struct netqueue_terms terms;
    struct netqueue q;
    unsigned channels;
    struct hyp_evtchn *doorbell[2]; /* the backend's ends: tx, rx; or one */
    uint8_t *view;                  /* the pool, as the backend sees it   */
    struct ring_back tx, rx;
};

#define RIG_EVERYTHING \
    (NETFRONT_MORE | NETFRONT_CSUM_BLANK | NETFRONT_CSUM_GOOD | NETFRONT_GSO4 | NETFRONT_GSO6)

static inline void rig_attach(struct rig *r)
{
    struct hyp_evtchn *channel[2];
    for (unsigned i = 0; i < r->channels; i++)
        channel[i] = sides_channel(&r->sides);
    assert_int_equal(netqueue_attach(&r->q, channel, r->channels), 0);
    for (unsigned i = 0; i < r->channels; i++)
        r->doorbell[i] = sides_bind(&r->sides, channel[i]);
    assert_true(ring_back_attach(&r->tx, r->view, HYP_PAGE_SIZE, NET_TX_SLOT_BYTES));
    assert_true(ring_back_attach(&r->rx, r->view + HYP_PAGE_SIZE, HYP_PAGE_SIZE, NET_RX_SLOT_BYTES));
}

static inline void rig_detach(struct rig *r)
{
    for (unsigned i = 0; i < r->channels; i++)
        hyp_evtchn_close(r->doorbell[i]);
    queue_detach(&r->q.queue);
}

static inline void rig_up(struct rig *r, unsigned channels, uint32_t pages)
{
    memset(r, 0, sizeof(*r));
    r->channels = channels;
    r->terms = (struct netqueue_terms){ .tx_flags = RIG_EVERYTHING, .rx_offload = true };
    sides_up(&r->sides, pages);
    assert_int_equal(netqueue_init(&r->q, r->sides.pool, 0, pages, &r->terms, r->sides.control_fd), 0);
    r->view = hyp_map_persistent(r->sides.map, hyp_pool_ref(r->sides.pool, 0));
    assert_non_null(r->view);
    rig_attach(r);
    queue_start(&r->q.queue);
}

static inline void rig_down(struct rig *r)
{
    queue_stop(&r->q.queue);
    netqueue_drop(&r->q);
    assert_true(queue_drained(&r->q.queue));
    rig_detach(r);
    netqueue_destroy(&r->q);
    sides_down(&r->sides);
}

/* Buffers of one direction by owner; all of them are someone's, once. */
struct owned {
    uint32_t by[NETBUF_CALLER + 1];
};

static inline struct owned rig_owned(const struct netbufs *b)
{
    struct owned o = { { 0 } };
    uint8_t *seen = calloc(b->n, 1);
    for (uint32_t i = 0; i < b->n; i++)
        o.by[b->buf[i].owner]++;
    assert_int_equal(o.by[NETBUF_FREE], b->nfree);
    for (uint32_t i = 0; i < b->nfree; i++) {
        uint16_t buf = b->free[netbuf_place(b, i)];
        assert_int_equal(b->buf[buf].owner, NETBUF_FREE);
        assert_int_equal(seen[buf]++, 0);
    }
    free(seen);
    return o;
}

/* ---------------------------------------------------------- what a backend does */

static inline void *rig_granted(struct rig *r, grant_ref_t ref)
{
    return hyp_map_persistent(r->sides.map, ref);
}

static inline netif_tx_request_t rig_take(struct rig *r)
{
    netif_tx_request_t req;
    assert_true(ring_back_waiting(&r->tx) > 0);
    ring_back_copy_request(&r->tx, &req);
    return req;
}

static inline void rig_push(struct rig *r, struct ring_back *ring)
{
    if (ring_back_push(ring))
        hyp_evtchn_notify(r->doorbell[ring == &r->rx ? r->channels - 1 : 0]);
}

static inline void rig_answer(struct rig *r, uint16_t id, int16_t status)
{
    netif_tx_response_t rsp = { .id = id, .status = status };
    ring_back_put_response(&r->tx, &rsp, sizeof(rsp));
    rig_push(r, &r->tx);
}

/* Takes the next request and answers it. */
static inline netif_tx_request_t rig_serve(struct rig *r, int16_t status)
{
    netif_tx_request_t req = rig_take(r);
    rig_answer(r, req.id, status);
    return req;
}

/* The buffer that the id of a sent packet means. */
static inline uint32_t rig_buffer(struct rig *r, uint16_t id)
{
    return id & (r->q.id_step - 1);
}

static inline netif_rx_request_t rig_take_rx(struct rig *r)
{
    netif_rx_request_t req;
    assert_true(ring_back_waiting(&r->rx) > 0);
    ring_back_copy_request(&r->rx, &req);
    return req;
}

/* A response with a received packet; unseen until rig_push(). */
static inline void rig_give(struct rig *r, uint16_t id, uint16_t offset, uint16_t flags, int16_t status)
{
    netif_rx_response_t rsp = { .id = id, .offset = offset, .flags = flags, .status = status };
    ring_back_put_response(&r->rx, &rsp, sizeof(rsp));
}

/* The same for the next buffer, whose data is `fill`. */
static inline netif_rx_request_t rig_fill(struct rig *r, uint16_t offset, uint16_t flags, int16_t bytes,
                                          uint8_t fill)
{
    netif_rx_request_t req = rig_take_rx(r);
    memset((uint8_t *)rig_granted(r, req.gref) + offset, fill, (size_t)bytes);
    rig_give(r, req.id, offset, flags, bytes);
    return req;
}

static inline void rig_extra(struct rig *r, struct netif_extra_info extra)
{
    rig_take_rx(r);
    ring_back_put_response(&r->rx, &extra, sizeof(extra));
}

static inline struct netif_extra_info rig_gso(uint8_t type, uint16_t size)
{
    struct netif_extra_info extra = { .type = XEN_NETIF_EXTRA_TYPE_GSO };
    extra.u.gso.size = size;
    extra.u.gso.type = type;
    return extra;
}

/* -------------------------------------------------------------- what a user does */

/* A packet in a new buffer, its data `fill`. */
static inline struct netfront_packet rig_packet(struct rig *r, uint32_t offset, uint32_t bytes,
                                                uint16_t flags, uint8_t fill)
{
    void *buf;
    assert_int_equal(netqueue_get(&r->q, &buf, 1), 1);
    memset((uint8_t *)buf + offset, fill, bytes);
    return (struct netfront_packet){ .data = (uint8_t *)buf + offset, .bytes = bytes, .flags = flags };
}

static inline void rig_give_back(struct rig *r, const struct netfront_packet *p, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        void *buf = p[i].data;
        netqueue_put(&r->q, &buf, 1);
    }
}

#endif
