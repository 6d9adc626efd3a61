/* SPDX-License-Identifier: MIT */
/*
 * fuzz_netback.c - two hostile network frontends, and an uplink that sends
 * anything.
 *
 * The input is a script: it fills slots, pages and indices of either guest,
 * lets the worker take turns at moments of its choice, and puts frames on the
 * uplink.  What must hold:
 *   - each slot that was taken was answered, or the connection is broken;
 *   - what reaches the uplink came from a vif: its address, its VLAN, a length
 *     that the uplink takes;
 *   - what reaches a guest's page is inside the page that was posted;
 *   - at the end no packet, map or event channel is left.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eth_ring.h>
#include <rte_ethdev.h>

#include "../../backends/net/forward.h"
#include "../fake_hyp.h"

#define BACK       2
#define GUESTS     2u
#define DATA_PAGES 40u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct guest {
    struct hyp *hyp;
    struct hyp_pool *pool, *rdonly;
    struct ring_front tx, rx;
    struct hyp_evtchn *front_ch, *back_ch;
    struct hyp_map *map;
    void *ring[2];
    struct net_port port;
    struct net_queue *q;
};

static struct { const uint8_t *at, *end; } script;
static struct hyp *back;
static struct guest guest[GUESTS];
static struct net_worker worker;
static struct uplink up;
static struct rte_ring *to_wire, *from_wire;
static uint64_t now;

#define MUST(what)                                                           \
    do {                                                                     \
        if (!(what)) {                                                       \
            fprintf(stderr, "line %d: not true: %s\n", __LINE__, #what);     \
            abort();                                                         \
        }                                                                    \
    } while (0)

/* ---------------------------------------------------------------- the script */

static uint8_t byte(void)
{
    return script.at < script.end ? *script.at++ : 0;
}

static uint32_t word(void)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < 4; i++)
        v = v << 8 | byte();
    return v;
}

static uint8_t *page(struct guest *g, unsigned i)
{
    return (uint8_t *)hyp_pool_base(g->pool) + (size_t)(2 + i % DATA_PAGES) * HYP_PAGE_SIZE;
}

/* Mostly references that are granted; now and then read-only, a ring's page, or any. */
static grant_ref_t reference(struct guest *g)
{
    uint8_t kind = byte();
    if (kind < 244)
        return hyp_pool_ref(g->pool, 2 + kind % DATA_PAGES);
    if (kind < 248)
        return hyp_pool_ref(g->rdonly, 0);
    if (kind < 252)
        return hyp_pool_ref(g->pool, kind & 1);
    return word();
}

/* -------------------------------------------------------------- hostile memory */

static const uint8_t *some_address(void)
{
    static const uint8_t outside[] = { 2, 9, 9, 9, 9, 9 }, everyone[] = { 255, 255, 255, 255, 255, 255 };
    uint8_t kind = byte() % 4;
    return kind < GUESTS ? guest[kind].port.mac : kind == 2 ? outside : everyone;
}

/* A frame that is nearly right, in a page or for the uplink. */
static unsigned write_frame(uint8_t *at, unsigned room, const uint8_t *from)
{
    uint8_t kind = byte();
    unsigned l2 = 14, bytes = 14 + word() % (kind & 1 ? room - 14 : 80);
    uint8_t *l3;

    memset(at, kind, bytes);
    memcpy(at, some_address(), 6);
    memcpy(at + 6, from, 6);
    if (kind & 2 && bytes >= 18) {
        store_be16(at + 12, kind & 4 ? ETHERTYPE_VLAN : ETHERTYPE_QINQ);
        store_be16(at + 14, byte() % 8);
        l2 = 18;
    }
    store_be16(at + l2 - 2, kind & 8 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4);
    l3 = at + l2;
    if (bytes < l2 + 60)
        return bytes;
    if (kind & 8) {
        l3[0] = 0x60;
        store_be16(l3 + 4, (uint16_t)(bytes - l2 - 40));
        l3[6] = kind & 16 ? 6 : 17;
        l3[40 + 12] = 0x50;
    } else {
        l3[0] = 0x45;
        store_be16(l3 + 2, (uint16_t)(bytes - l2));
        store_be16(l3 + 6, 0);
        l3[9] = kind & 16 ? 6 : 17;
        l3[20 + 12] = 0x50;
    }
    for (uint8_t n = byte() % 4; n > 0; n--) /* and a few bytes that are not */
        at[word() % 80] = byte();
    return bytes;
}

static void scribble(struct guest *g)
{
    uint32_t at = word();
    if (byte() & 1)
        page(g, at >> 16)[at % HYP_PAGE_SIZE] = byte();
    else
        ((uint8_t *)hyp_pool_base(g->pool))[at % (2 * HYP_PAGE_SIZE)] = byte();
}

/* A packet of several slots and extras, right but for what the script makes wrong. */
static void put_packet(struct guest *g)
{
    uint8_t shape = byte(), wrong = byte();
    unsigned slots = 1 + (shape & 3 ? 0 : shape >> 2 & 31), at = byte();
    uint32_t total = 0, sizes[32];
    netif_tx_request_t rq = { 0 };

    for (unsigned i = 0; i < slots; i++) {
        sizes[i] = i == 0 ? write_frame(page(g, at), HYP_PAGE_SIZE, g->port.mac) : word() % 4096;
        total += sizes[i];
    }
    for (unsigned i = 0; i < slots; i++) {
        rq.gref = wrong == 1 ? reference(g) : hyp_pool_ref(g->pool, 2 + (at + i) % DATA_PAGES);
        rq.id = (uint16_t)i;
        rq.offset = wrong == 2 ? (uint16_t)word() : 0;
        rq.size = wrong == 3 ? (uint16_t)word() : (uint16_t)(i == 0 ? total : sizes[i]);
        rq.flags = (uint16_t)((i + 1 < slots ? NETTXF_more_data : 0) |
                              (i == 0 ? shape >> 7 & NETTXF_csum_blank : 0));
        bool extra = i == 0 && shape & 64;
        rq.flags |= extra ? NETTXF_extra_info : wrong == 4 ? byte() : 0;
        ring_front_put_request(&g->tx, &rq, sizeof(rq));
        for (bool more = extra; more;) {
            struct {
                struct netif_extra_info x;
                uint32_t pad;
            } s = { .x = { .type = XEN_NETIF_EXTRA_TYPE_GSO } };
            s.x.u.gso.size = wrong == 5 ? (uint16_t)word() : 1000;
            s.x.u.gso.type = 1 + (wrong & 1);
            if (wrong == 6) {
                s.x.type = byte() % 7;
                s.x.flags = byte();
            }
            more = s.x.flags & XEN_NETIF_EXTRA_FLAG_MORE && script.at < script.end;
            ring_front_put_request(&g->tx, &s, sizeof(s));
        }
    }
}

static void put_raw(struct guest *g)
{
    uint8_t raw[NET_TX_SLOT_BYTES];
    for (unsigned i = 0; i < sizeof(raw); i++)
        raw[i] = byte();
    ring_front_put_request(&g->tx, raw, sizeof(raw));
}

static void post_buffers(struct guest *g)
{
    for (unsigned n = byte() % 24; n > 0; n--) {
        netif_rx_request_t rq = { .id = (uint16_t)n, .gref = reference(g) };
        ring_front_put_request(&g->rx, &rq, sizeof(rq));
    }
    ring_front_push(&g->rx);
}

/* Any index, or one that is nearly right. */
static void lie(struct guest *g)
{
    uint8_t how = byte();
    struct ring_front *ring = how & 1 ? &g->rx : &g->tx;
    ring_store(&ring->shared->req_prod, how & 2 ? word() : ring->req_prod + (uint32_t)(int8_t)byte());
}

/* ------------------------------------------------------------------- the uplink */

static void wire_send(void)
{
    uint8_t from[6] = { 2, 9, 9, 9, 9, byte() };
    struct rte_mbuf *m = packet_new(0, 2000);
    if (!m)
        return;
    unsigned bytes = write_frame(packet_data(m), 1800, byte() == 1 ? guest[0].port.mac : from);
    m->pkt_len = bytes;
    m->data_len = (uint16_t)bytes;
    if (rte_ring_enqueue(from_wire, m) < 0)
        rte_pktmbuf_free(m);
}

static void check_wire_frame(struct rte_mbuf *m)
{
    const uint8_t *data = packet_data(m);
    unsigned from = 0, l2 = 14;

    MUST(m->nb_segs == 1 && m->pkt_len == m->data_len);
    while (from < GUESTS && memcmp(data + 6, guest[from].port.mac, 6) != 0)
        from++;
    MUST(from < GUESTS);
    uint16_t vlan = 0;
    if (load_be16(data + 12) == ETHERTYPE_VLAN) {
        vlan = load_be16(data + 14);
        l2 = 18;
    }
    MUST(net_switch_member(&guest[from].port, vlan));
    MUST(!is_tag(load_be16(data + l2 - 2)));
    MUST(m->pkt_len <= up.mtu + l2);
}

static void wire_take(unsigned n)
{
    struct rte_mbuf *m;
    while (n-- > 0 && rte_ring_dequeue(to_wire, (void **)&m) == 0) {
        check_wire_frame(m);
        rte_pktmbuf_free(m);
    }
}

/* --------------------------------------------------------------------- the rig */

static void open_guest(unsigned i, uint8_t how)
{
    struct guest *g = &guest[i];
    domid_t domid = (domid_t)(3 + i);

    g->hyp = fake_hyp_new(domid);
    MUST(hyp_pool_create(g->hyp, BACK, 2 + DATA_PAGES, 0, &g->pool) == 0);
    MUST(hyp_pool_create(g->hyp, BACK, 1, HYP_POOL_RDONLY, &g->rdonly) == 0);
    MUST(ring_front_init(&g->tx, hyp_pool_base(g->pool), HYP_PAGE_SIZE, NET_TX_SLOT_BYTES));
    MUST(ring_front_init(&g->rx, (uint8_t *)hyp_pool_base(g->pool) + HYP_PAGE_SIZE, HYP_PAGE_SIZE,
                         NET_RX_SLOT_BYTES));
    MUST(hyp_evtchn_alloc(g->hyp, BACK, &g->front_ch) == 0);
    MUST(hyp_evtchn_bind(back, domid, hyp_evtchn_port(g->front_ch), &g->back_ch) == 0);
    MUST(hyp_map_open(back, domid, &g->map) == 0);
    for (unsigned r = 0; r < 2; r++) {
        grant_ref_t ref = hyp_pool_ref(g->pool, r);
        MUST(hyp_map_grants(g->map, &ref, 1, 0, &g->ring[r]) == 0);
    }
    g->port = (struct net_port){ .index = (uint16_t)i,
                                 .mac = { 2, 0, 0, 0, 0, (uint8_t)(1 + i) },
                                 .mtu = how & 1 ? 9000 : 1500,
                                 .trunk = how & 2,
                                 .isolated = how & 4,
                                 .rx_sg = how & 8,
                                 .rx_gso4 = how & 16,
                                 .rx_gso6 = how & 32,
                                 .rx_csum4 = how & 64,
                                 .rx_csum6 = how & 128,
                                 .weight = 100,
                                 .nqueues = 1,
                                 .vlans = { 0x68 } };
    g->port.pvid = how & 2 ? byte() % 2 * 5 : 0;
    const struct net_queue_config cfg = { .tx_ring = g->ring[0], .rx_ring = g->ring[1], .map = g->map,
                                          .tx_evtchn = g->back_ch, .rx_evtchn = g->back_ch,
                                          .grants = (enum net_grants)(byte() & 1), .port = &g->port };
    MUST(net_queue_create(&g->q, &cfg) == 0);
    g->port.queue[0] = g->q;
    net_worker_attach(&worker, &g->port);
}

static void close_guest(struct guest *g)
{
    net_worker_detach(&worker, &g->port);
    MUST(g->q->backlog_n == 0);
    net_queue_destroy(g->q);
    hyp_evtchn_close(g->back_ch);
    for (unsigned r = 0; r < 2; r++)
        hyp_unmap_grants(g->map, g->ring[r], 1);
    hyp_map_close(g->map);
    hyp_evtchn_close(g->front_ch);
    MUST(hyp_pool_end(g->pool) == 0);
    MUST(hyp_pool_end(g->rdonly) == 0);
    hyp_close(g->hyp);
}

static void check_books(void)
{
    unsigned waiting = 0;
    for (unsigned i = 0; i < GUESTS; i++) {
        const struct net_queue *q = guest[i].q;
        MUST(q->broken == (q->why != NULL) && q->broken == q->count.broken);
        MUST(q->tx.req_cons == q->tx.rsp_prod && q->rx.req_cons == q->rx.rsp_prod);
        MUST(q->broken || q->tx.rsp_prod == q->tx.rsp_pushed);
        MUST(q->backlog_n <= BACKLOG_PACKETS && q->backlog_bytes <= BACKLOG_BYTES);
        waiting += q->backlog_n;
    }
    MUST(worker.room.packets == waiting);
}

static void read_answers(struct guest *g)
{
    netif_tx_response_t tx;
    netif_rx_response_t rx;
    while (ring_front_waiting(&g->tx) > 0)
        ring_front_copy_response(&g->tx, &tx, sizeof(tx));
    while (ring_front_waiting(&g->rx) > 0) {
        ring_front_copy_response(&g->rx, &rx, sizeof(rx));
    }
}

static void turn(void)
{
    uint64_t wait = UINT64_MAX;
    net_worker_turn(&worker, now, &wait);
    check_books();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct rte_mempool *pool;
    struct rte_eth_conf conf = { 0 };
    const char *why;

    (void)argc;
    (void)argv;
    MUST(uplink_start_eal(sched_getcpu(), 64, &why) == 0);
    MUST(net_packets_init(NET_MTU_DEFAULT, &pool, &why) == 0);
    to_wire = rte_ring_create("to_wire", 64, SOCKET_ID_ANY, 0);
    from_wire = rte_ring_create("from_wire", 64, SOCKET_ID_ANY, 0);
    MUST(to_wire && from_wire && rte_eth_from_rings("wire", &from_wire, 1, &to_wire, 1, 0) == 0);
    MUST(rte_eth_dev_configure(0, 1, 1, &conf) == 0);
    MUST(rte_eth_rx_queue_setup(0, 0, 64, 0, NULL, pool) == 0);
    MUST(rte_eth_tx_queue_setup(0, 0, 64, 0, NULL) == 0);
    MUST(rte_eth_dev_start(0) == 0);
    return 0;
}

static void step(void)
{
    uint8_t what = byte();
    struct guest *g = &guest[what >> 7];

    switch (what % 13) {
    case 0:
    case 1:
    case 2:
        put_packet(g);
        break;
    case 3:
        put_raw(g);
        break;
    case 4:
        ring_front_push(&g->tx);
        break;
    case 5:
        ring_front_push(&g->tx);
        turn();
        break;
    case 6:
        post_buffers(g);
        break;
    case 7:
        wire_send();
        break;
    case 8:
        wire_take(byte());
        break;
    case 9:
        scribble(g);
        break;
    case 10:
        lie(g);
        break;
    case 11:
        now += word();
        turn();
        break;
    default:
        read_answers(g);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    script.at = data;
    script.end = data + size;
    now = 1000000000;
    up = (struct uplink){ .present = byte() & 1, .mtu = NET_MTU_DEFAULT, .poll_fd = -1 };
    net_worker_init(&worker, 0, 1, &up);
    back = fake_hyp_new(BACK);
    for (unsigned i = 0; i < GUESTS; i++)
        open_guest(i, byte());
    while (script.at < script.end)
        step();
    turn();
    wire_take(UINT32_MAX);
    for (unsigned i = 0; i < GUESTS; i++)
        close_guest(&guest[i]);
    net_wire_close(&worker);
    wire_take(UINT32_MAX);
    for (struct rte_mbuf *m; rte_ring_dequeue(from_wire, (void **)&m) == 0;)
        rte_pktmbuf_free(m);
    MUST(rte_mempool_in_use_count(net_pools.small) == 0 && rte_mempool_in_use_count(net_pools.medium) == 0 &&
         rte_mempool_in_use_count(net_pools.large) == 0);
    hyp_close(back);
    MUST(fake_hyp_reset() == 0);
    return 0;
}
