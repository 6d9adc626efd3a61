/* SPDX-License-Identifier: MIT */
/*
 * test_net.h - scripted netif frontends against a worker of the network
 * backend, over the fake hypervisor.  Included by the tests of backends/net.
 *
 * The worker has no thread: rig_turn() is one turn of it at a time that the
 * test chooses.  Its uplink is a pair of rings whose other ends the test
 * holds.  A frontend is as honest or as hostile as its test wants: it writes
 * slots, indices and pages itself.
 */
#ifndef BULKHEAD_TEST_NET_H
#define BULKHEAD_TEST_NET_H

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <rte_eth_ring.h>
#include <rte_ethdev.h>

#include "../../backends/net/forward.h"
#include "../fake_hyp.h"

#define BACK_DOMID  2
#define FRONT_DOMID 10 /* of guest 0 */
#define GUESTS_MAX  8u
#define TX_RING     0u /* pages of a guest's pool */
#define RX_RING     1u
#define TX_DATA     2u
#define RX_DATA     258u
#define POOL_PAGES  514u
#define FRAME_MAX   66000u
#define UPLINK_SLOTS 512u

struct guest_options {
    enum net_grants grants;
    uint16_t mtu;                /* 0: 1500 */
    uint16_t pvid;
    bool trunk, isolated, one_page, no_csum, gso; /* one_page: no scatter-gather */
    uint16_t vlans[4];
    uint32_t weight;             /* 0: 100 */
    struct net_rate outbound, inbound;
    bool split;                  /* two event channels */
};

struct guest {
    struct hyp *hyp;
    struct hyp_pool *pool;
    struct ring_front tx, rx;
    struct hyp_evtchn *front_ch[2], *back_ch[2]; /* tx, rx */
    struct hyp_map *map;
    void *back_ring[2];
    struct net_port port;
    struct net_queue *q;
    uint16_t next_rx;            /* page of the next buffer to post */
};

/* Of the whole binary: EAL cannot be started twice. */
static struct {
    bool started;
    struct rte_ring *to_wire, *from_wire;
    struct rte_mempool *rx_pool;
} eal;

struct rig {
    struct hyp *back;
    struct uplink up;
    struct net_worker *w;
    struct guest guest[GUESTS_MAX];
    unsigned n;
    uint64_t now;
};

static struct net_worker rig_worker;

static inline void eal_start(void)
{
    const char *why = NULL;

    if (eal.started)
        return;
    assert_int_equal(uplink_start_eal(sched_getcpu(), 64, &why), 0);
    assert_int_equal(net_packets_init(NET_MTU_DEFAULT, &eal.rx_pool, &why), 0);
    eal.to_wire = rte_ring_create("to_wire", UPLINK_SLOTS, SOCKET_ID_ANY, 0);
    eal.from_wire = rte_ring_create("from_wire", UPLINK_SLOTS, SOCKET_ID_ANY, 0);
    assert_non_null(eal.to_wire);
    assert_non_null(eal.from_wire);
    int port = rte_eth_from_rings("wire", &eal.from_wire, 1, &eal.to_wire, 1, 0);
    assert_int_equal(port, 0);
    struct rte_eth_conf conf = { 0 };
    assert_int_equal(rte_eth_dev_configure(0, 1, 1, &conf), 0);
    assert_int_equal(rte_eth_rx_queue_setup(0, 0, 64, 0, NULL, eal.rx_pool), 0);
    assert_int_equal(rte_eth_tx_queue_setup(0, 0, 64, 0, NULL), 0);
    assert_int_equal(rte_eth_dev_start(0), 0);
    eal.started = true;
}

/* Packets that are in use somewhere, the caches of the pools not counted. */
static inline unsigned packets_in_use(void)
{
    return rte_mempool_in_use_count(net_pools.small) + rte_mempool_in_use_count(net_pools.medium) +
           rte_mempool_in_use_count(net_pools.large);
}

/* ------------------------------------------------------------------------ guests */

static inline uint8_t *guest_page(struct guest *g, unsigned page)
{
    return (uint8_t *)hyp_pool_base(g->pool) + (size_t)page * HYP_PAGE_SIZE;
}

static inline grant_ref_t guest_ref(struct guest *g, unsigned page)
{
    return hyp_pool_ref(g->pool, page);
}

static inline void guest_bind(struct guest *g, struct hyp *back, bool split)
{
    for (unsigned i = 0; i < (split ? 2u : 1u); i++) {
        assert_int_equal(hyp_evtchn_alloc(g->hyp, BACK_DOMID, &g->front_ch[i]), 0);
        assert_int_equal(hyp_evtchn_bind(back, hyp_domid(g->hyp), hyp_evtchn_port(g->front_ch[i]),
                                         &g->back_ch[i]), 0);
    }
    if (!split) {
        g->front_ch[1] = g->front_ch[0];
        g->back_ch[1] = g->back_ch[0];
    }
}

static inline void guest_make(struct guest *g, struct hyp *back, unsigned index,
                              const struct guest_options *o)
{
    memset(g, 0, sizeof(*g));
    g->hyp = fake_hyp_new((domid_t)(FRONT_DOMID + index));
    assert_int_equal(hyp_pool_create(g->hyp, BACK_DOMID, POOL_PAGES, 0, &g->pool), 0);
    assert_true(ring_front_init(&g->tx, guest_page(g, TX_RING), HYP_PAGE_SIZE, NET_TX_SLOT_BYTES));
    assert_true(ring_front_init(&g->rx, guest_page(g, RX_RING), HYP_PAGE_SIZE, NET_RX_SLOT_BYTES));
    guest_bind(g, back, o->split);
    assert_int_equal(hyp_map_open(back, hyp_domid(g->hyp), &g->map), 0);
    for (unsigned i = 0; i < 2; i++) {
        grant_ref_t ref = guest_ref(g, i);
        assert_int_equal(hyp_map_grants(g->map, &ref, 1, 0, &g->back_ring[i]), 0);
    }
    g->port = (struct net_port){ .index = (uint16_t)index,
                                 .mac = { 0x52, 0x54, 0, 0, 0, (uint8_t)(index + 1) },
                                 .mtu = o->mtu ? o->mtu : NET_MTU_DEFAULT,
                                 .pvid = o->pvid,
                                 .trunk = o->trunk,
                                 .isolated = o->isolated,
                                 .rx_sg = !o->one_page,
                                 .rx_gso4 = o->gso,
                                 .rx_gso6 = o->gso,
                                 .rx_csum4 = !o->no_csum,
                                 .rx_csum6 = !o->no_csum,
                                 .weight = o->weight ? o->weight : 100,
                                 .outbound = o->outbound,
                                 .inbound = o->inbound,
                                 .nqueues = 1 };
    for (unsigned i = 0; i < 4; i++)
        if (o->vlans[i])
            g->port.vlans[o->vlans[i] / 64] |= 1ull << o->vlans[i] % 64;
    const struct net_queue_config cfg = { .tx_ring = g->back_ring[0],
                                          .rx_ring = g->back_ring[1],
                                          .map = g->map,
                                          .tx_evtchn = g->back_ch[0],
                                          .rx_evtchn = g->back_ch[1],
                                          .grants = o->grants,
                                          .port = &g->port };
    assert_int_equal(net_queue_create(&g->q, &cfg), 0);
    g->port.queue[0] = g->q;
}

static inline void guest_end(struct guest *g)
{
    net_queue_destroy(g->q);
    for (unsigned i = 0; i < (g->front_ch[0] == g->front_ch[1] ? 1u : 2u); i++) {
        hyp_evtchn_close(g->back_ch[i]);
        hyp_evtchn_close(g->front_ch[i]);
    }
    for (unsigned i = 0; i < 2; i++)
        hyp_unmap_grants(g->map, g->back_ring[i], 1);
    hyp_map_close(g->map);
    assert_int_equal(hyp_pool_end(g->pool), 0);
    hyp_close(g->hyp);
}

/* ------------------------------------------------------------------------ the rig */

static inline void rig_open(struct rig *r, bool uplink)
{
    eal_start();
    memset(r, 0, sizeof(*r));
    r->back = fake_hyp_new(BACK_DOMID);
    r->up = (struct uplink){ .present = uplink, .mtu = NET_MTU_DEFAULT, .poll_fd = -1 };
    r->w = &rig_worker;
    r->now = 1000000000;
    net_worker_init(r->w, 0, 1, &r->up);
}

static inline struct guest *rig_guest(struct rig *r, const struct guest_options *o)
{
    struct guest *g = &r->guest[r->n];
    guest_make(g, r->back, r->n++, o);
    r->w->now = r->now;
    net_worker_attach(r->w, &g->port);
    return g;
}

static inline void rig_turn(struct rig *r)
{
    uint64_t wait = UINT64_MAX;
    net_worker_turn(r->w, r->now, &wait);
}

/* Until there is nothing left to do. */
static inline void rig_run(struct rig *r)
{
    uint64_t wait = UINT64_MAX;
    for (unsigned i = 0; i < 100000; i++)
        if (!net_worker_turn(r->w, r->now, &wait))
            return;
    fail_msg("it does not come to rest");
}

static inline struct rte_mbuf *wire_take(void)
{
    struct rte_mbuf *m = NULL;
    return rte_ring_dequeue(eal.to_wire, (void **)&m) == 0 ? m : NULL;
}

/* How many frames are on the wire; they are gone after that. */
static inline unsigned wire_count(void)
{
    struct rte_mbuf *m;
    unsigned n = 0;
    for (; (m = wire_take()); n++)
        rte_pktmbuf_free(m);
    return n;
}

static inline void wire_send(const void *frame, uint32_t bytes)
{
    struct rte_mbuf *m = packet_new(0, bytes);
    assert_non_null(m);
    memcpy(packet_data(m), frame, bytes);
    assert_int_equal(rte_ring_enqueue(eal.from_wire, m), 0);
}

/* All that was taken was answered, and nothing of ours is left anywhere. */
static inline void rig_close(struct rig *r)
{
    wire_count();
    for (unsigned i = 0; i < r->n; i++) {
        net_worker_detach(r->w, &r->guest[i].port);
        assert_int_equal(r->guest[i].q->tx.req_cons, r->guest[i].q->tx.rsp_prod);
        assert_int_equal(r->guest[i].q->rx.req_cons, r->guest[i].q->rx.rsp_prod);
        assert_int_equal(r->guest[i].q->backlog_n, 0);
    }
    net_wire_close(r->w);
    assert_int_equal(r->w->room.packets, 0);
    assert_int_equal(r->w->room.large, 0);
    assert_int_equal(packets_in_use(), 0);
    for (unsigned i = 0; i < r->n; i++)
        guest_end(&r->guest[i]);
    hyp_close(r->back);
    assert_int_equal(fake_hyp_reset(), 0);
}

/* ---------------------------------------------------------------- what guests do */

static inline void put_slot(struct guest *g, uint16_t id, unsigned page, unsigned offset, unsigned size,
                            unsigned flags)
{
    netif_tx_request_t rq = { .gref = guest_ref(g, page),
                              .offset = (uint16_t)offset,
                              .flags = (uint16_t)flags,
                              .id = id,
                              .size = (uint16_t)size };
    ring_front_put_request(&g->tx, &rq, sizeof(rq));
}

static inline void put_extra(struct guest *g, unsigned type, unsigned flags, unsigned gso_size,
                             unsigned gso_type)
{
    struct { struct netif_extra_info x; uint32_t pad; } slot = { .x = { .type = (uint8_t)type,
                                                                        .flags = (uint8_t)flags } };
    slot.x.u.gso.size = (uint16_t)gso_size;
    slot.x.u.gso.type = (uint8_t)gso_type;
    ring_front_put_request(&g->tx, &slot, sizeof(slot));
}

/* A frame of the guest in as many slots as it needs, from page TX_DATA + id on; extras come after
 * the first slot when gso_size is set.  Ids count up from id. */
static inline unsigned put_frame_gso(struct guest *g, uint16_t id, const uint8_t *frame, uint32_t bytes,
                                     unsigned flags, unsigned gso_size, unsigned gso_type)
{
    unsigned slots = (bytes + HYP_PAGE_SIZE - 1) / HYP_PAGE_SIZE;
    for (unsigned i = 0; i < slots; i++) {
        uint32_t at = i * HYP_PAGE_SIZE, n = bytes - at < HYP_PAGE_SIZE ? bytes - at : HYP_PAGE_SIZE;
        unsigned page = TX_DATA + (id + i) % 256;
        memcpy(guest_page(g, page), frame + at, n);
        put_slot(g, (uint16_t)(id + i), page, 0, i == 0 ? bytes : n,
                 (i == 0 ? flags : 0) | (i + 1 < slots ? NETTXF_more_data : 0) |
                     (i == 0 && gso_size ? NETTXF_extra_info : 0));
        if (i == 0 && gso_size)
            put_extra(g, XEN_NETIF_EXTRA_TYPE_GSO, 0, gso_size, gso_type);
    }
    return slots;
}

static inline unsigned put_frame(struct guest *g, uint16_t id, const uint8_t *frame, uint32_t bytes,
                                 unsigned flags)
{
    return put_frame_gso(g, id, frame, bytes, flags, 0, 0);
}

/* One answer; false: there is none. */
static inline bool take_answer(struct guest *g, netif_tx_response_t *rsp)
{
    if (ring_front_waiting(&g->tx) <= 0)
        return false;
    ring_front_copy_response(&g->tx, rsp, sizeof(*rsp));
    return true;
}

static inline void expect_answer(struct guest *g, uint16_t id, int status)
{
    netif_tx_response_t rsp = { .id = 0xdead, .status = 77 };
    assert_true(take_answer(g, &rsp));
    assert_int_equal(rsp.status, status);
    if (status != NETIF_RSP_NULL)
        assert_int_equal(rsp.id, id);
}

static inline void expect_no_answer(struct guest *g)
{
    assert_int_equal(ring_front_waiting(&g->tx), 0);
}

static inline void post_buffers(struct guest *g, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint16_t id = g->next_rx++ % 256;
        netif_rx_request_t rq = { .id = id, .gref = guest_ref(g, RX_DATA + id) };
        memset(guest_page(g, RX_DATA + id), 0xee, HYP_PAGE_SIZE);
        ring_front_put_request(&g->rx, &rq, sizeof(rq));
    }
    ring_front_push(&g->rx);
}

/* What the guest got. */
struct got {
    uint32_t bytes;
    uint16_t flags, buffers, gso_size, gso_type;
    int status;
    uint8_t frame[FRAME_MAX];
};

/* The next packet of the rx ring; false: there is none. */
static inline bool take_frame(struct guest *g, struct got *f)
{
    netif_rx_response_t rsp;
    uint16_t flags = NETRXF_more_data;

    if (ring_front_waiting(&g->rx) <= 0)
        return false;
    memset(f, 0, offsetof(struct got, frame));
    for (unsigned i = 0; flags & NETRXF_more_data; i++) {
        assert_true(ring_front_waiting(&g->rx) > 0);
        uint32_t slot = g->rx.rsp_cons % 256;
        ring_front_copy_response(&g->rx, &rsp, sizeof(rsp));
        assert_int_equal(rsp.id, slot); /* where its request was */
        flags = rsp.flags;
        if (i == 0) {
            f->flags = flags;
            f->status = rsp.status;
        }
        f->buffers++;
        if (rsp.status < 0)
            return true;
        assert_true(rsp.offset <= HYP_PAGE_SIZE && rsp.status <= (int)(HYP_PAGE_SIZE - rsp.offset));
        assert_true(f->bytes + (uint32_t)rsp.status <= FRAME_MAX);
        memcpy(f->frame + f->bytes, guest_page(g, RX_DATA + rsp.id) + rsp.offset, (size_t)rsp.status);
        f->bytes += (uint32_t)rsp.status;
        if (i == 0 && (flags & NETRXF_extra_info)) {
            struct netif_extra_info x;
            assert_true(ring_front_waiting(&g->rx) > 0);
            ring_front_copy_response(&g->rx, &x, sizeof(x));
            assert_int_equal(x.type, XEN_NETIF_EXTRA_TYPE_GSO);
            assert_int_equal(x.flags, 0);
            assert_int_equal(x.u.gso.pad, 0);
            assert_int_equal(x.u.gso.features, 0);
            f->gso_size = x.u.gso.size;
            f->gso_type = x.u.gso.type;
            f->buffers++;
        }
    }
    return true;
}

/* -------------------------------------------------------------------------- frames */

static const uint8_t OUTSIDE[NET_MAC_BYTES] = { 0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee };
static const uint8_t EVERYONE[NET_MAC_BYTES] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

/* An Ethernet header and a pattern; returns bytes. */
static inline uint32_t plain_frame(uint8_t *frame, const uint8_t *to, const uint8_t *from, uint32_t bytes)
{
    memcpy(frame, to, NET_MAC_BYTES);
    memcpy(frame + NET_MAC_BYTES, from, NET_MAC_BYTES);
    store_be16(frame + ETHERTYPE_AT, 0x88b5); /* for experiments */
    for (uint32_t i = NET_HEADER_BYTES; i < bytes; i++)
        frame[i] = (uint8_t)(i * 7 + bytes);
    return bytes;
}

/* The same with a tag. */
static inline uint32_t tagged_frame(uint8_t *frame, const uint8_t *to, const uint8_t *from, uint16_t tag,
                                    uint32_t bytes)
{
    plain_frame(frame, to, from, bytes);
    memmove(frame + 16, frame + 12, bytes - 16);
    store_be16(frame + 12, ETHERTYPE_VLAN);
    store_be16(frame + 14, tag);
    return bytes;
}

#endif
