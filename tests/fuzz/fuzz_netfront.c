/* SPDX-License-Identifier: MIT */
/*
 * A driver domain made of the input, against the network frontend: what it writes
 * to the store, and then whatever it likes, wherever it can reach: responses,
 * extra info, indices, any byte of the rings, doorbells, its death.
 *
 * Must hold: every buffer is at all times somebody's, once, and the caller's are
 * those that it was given and did not give back; what is received lies within
 * such buffers, in whole packets of possible lengths; the frontend writes to no
 * buffer; nothing is left behind.
 */
static const char *const feature_keys[] = {
    "multi-queue-max-queues", "feature-sg", "feature-gso-tcpv4", "feature-gso-tcpv6",
    "feature-ipv6-csum-offload", "feature-split-event-channels", "feature-persistent",
};

#include "fuzz_front.h"

#include "../../frontends/netterms.h"
#include "../../frontends/nic.h"

#define SENDABLE \
    (NETFRONT_MORE | NETFRONT_CSUM_BLANK | NETFRONT_CSUM_GOOD | NETFRONT_GSO4 | NETFRONT_GSO6)

static struct netfront nic;

/* False: refused, as it should be now and then. */
static bool agree(void)
{
    static const struct device_class cls = { .noun = "NIC" };
    struct device *d = &nic.device;
    memset(&nic, 0, sizeof(nic));
    make_device(d, &cls);
    uint8_t how = byte();
    nic.want.pool_pages = NETQUEUE_PAGES_MIN + byte() % 64;
    nic.want.queues = how & 15;
    nic.want.no_offload = how >> 4 & 1;
    nic.want.grants = (how >> 5) % 3;
    if (netterms_accept_offer(&d->live)) {
        must(d->error < 0 && d->why[0]);
        return false;
    }
    const struct netfront_info *info = &nic.info;
    must(d->nqueues >= 1 && d->nqueues <= NET_QUEUES_MAX);
    must(d->pool_pages == d->nqueues * nic.queue_pages);
    must(d->live.nchannels == 1 || d->live.nchannels == 2);
    must(!(nic.terms.tx_flags & ~SENDABLE) && (info->can_chain || !(info->can_gso4 || info->can_gso6)));
    bool offload = info->can_csum4 || info->can_csum6 || info->can_gso4 || info->can_gso6;
    must(!nic.want.no_offload || !(offload || nic.terms.rx_offload));
    must(info->send_buffers + info->receive_buffers + NETQUEUE_RING_PAGES == nic.queue_pages);
    return true;
}

/* ------------------------------------------------------- frontend and backend */

static struct {
    struct hyp *front, *back;
    struct hyp_pool *pool;
    struct hyp_map *map;
    struct netqueue q;
    uint8_t *view; /* the pool as the backend sees it */
    struct ring_back tx, rx;
    struct hyp_evtchn *doorbell[2];
    netif_tx_request_t sent[16]; /* requests that the backend remembers */
    netif_rx_request_t posted[16];
    unsigned nsent, nposted;
} w;

#define BUFFERS_MAX 64
static bool lent[BUFFERS_MAX]; /* send buffers that the caller has */
static struct netfront_packet held[BUFFERS_MAX];
static unsigned nheld;

static void attach(void)
{
    struct hyp_evtchn *channel[2];
    unsigned n = nic.device.live.nchannels;
    for (unsigned i = 0; i < n; i++)
        must(hyp_evtchn_alloc(w.front, BACK, &channel[i]) == 0);
    must(netqueue_attach(&w.q, channel, n) == 0);
    for (unsigned i = 0; i < n; i++)
        must(hyp_evtchn_bind(w.back, FRONT, hyp_evtchn_port(channel[i]), &w.doorbell[i]) == 0);
    must(ring_back_attach(&w.tx, w.view, HYP_PAGE_SIZE, NET_TX_SLOT_BYTES));
    must(ring_back_attach(&w.rx, w.view + HYP_PAGE_SIZE, HYP_PAGE_SIZE, NET_RX_SLOT_BYTES));
    w.nsent = w.nposted = 0;
    queue_start(&w.q.queue);
}

static void detach(void)
{
    for (unsigned i = 0; i < nic.device.live.nchannels; i++)
        hyp_evtchn_close(w.doorbell[i]);
    queue_detach(&w.q.queue);
}

static void up(int control_fd)
{
    memset(&w, 0, sizeof(w));
    memset(lent, 0, sizeof(lent));
    nheld = 0;
    w.front = fake_hyp_new(FRONT);
    w.back = fake_hyp_new(BACK);
    must(hyp_pool_create(w.front, BACK, nic.queue_pages, 0, &w.pool) == 0);
    must(netqueue_init(&w.q, w.pool, 0, nic.queue_pages, &nic.terms, control_fd) == 0);
    must(hyp_map_open(w.back, FRONT, &w.map) == 0);
    w.view = hyp_map_persistent(w.map, hyp_pool_ref(w.pool, 0));
    must(w.view != NULL);
    size_t rings = NETQUEUE_RING_PAGES * HYP_PAGE_SIZE;
    memset(w.view + rings, DATA, nic.queue_pages * HYP_PAGE_SIZE - rings);
    attach();
}

/* ----------------------------------------------------------------- what must hold */

static void check_bufs(const struct netbufs *b, const bool *callers)
{
    bool is_free[BUFFERS_MAX] = { false };
    must(b->n <= BUFFERS_MAX && b->nfree <= b->n);
    for (uint32_t i = 0; i < b->nfree; i++) {
        uint16_t buf = b->free[netbuf_place(b, i)];
        must(buf < b->n && !is_free[buf]);
        is_free[buf] = true;
    }
    for (uint32_t i = 0; i < b->n; i++) {
        must((b->buf[i].owner == NETBUF_FREE) == is_free[i]);
        must((b->buf[i].owner == NETBUF_CALLER) == callers[i]);
    }
}

static void check(void)
{
    bool callers[BUFFERS_MAX] = { false };
    for (unsigned i = 0; i < nheld; i++) {
        size_t at = (size_t)((uint8_t *)held[i].data - w.q.rxbuf.base);
        must(at / HYP_PAGE_SIZE < w.q.rxbuf.n && !callers[at / HYP_PAGE_SIZE]);
        callers[at / HYP_PAGE_SIZE] = true;
    }
    check_bufs(&w.q.rxbuf, callers);
    check_bufs(&w.q.txbuf, lent);
}

/* -------------------------------------------------------------- what the caller does */

static void get(void)
{
    void *bufs[32];
    int n = netqueue_get(&w.q, bufs, byte() % 33);
    must(n >= 0 && n <= 32);
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)((uint8_t *)bufs[i] - w.q.txbuf.base);
        must(at % HYP_PAGE_SIZE == 0 && at / HYP_PAGE_SIZE < w.q.txbuf.n && !lent[at / HYP_PAGE_SIZE]);
        lent[at / HYP_PAGE_SIZE] = true;
    }
}

static void put(void)
{
    uint32_t page = byte() % (w.q.txbuf.n + 2);
    void *buf = w.q.txbuf.base + (size_t)page * HYP_PAGE_SIZE + word() % HYP_PAGE_SIZE;
    netqueue_put(&w.q, &buf, 1);
    if (page < w.q.txbuf.n)
        lent[page] = false;
}

static void send(void)
{
    struct netfront_packet p[24];
    unsigned n = 1 + byte() % 24;
    uint32_t page = byte() % w.q.txbuf.n;
    for (unsigned i = 0; i < n; i++) {
        uint8_t how = byte();
        for (uint32_t k = 0; k < w.q.txbuf.n && !lent[page]; k++) /* mostly one that may be sent */
            page = (page + 1) % w.q.txbuf.n;
        if (how == 255)
            page = byte();
        uint32_t offset = how & 64 ? word() % HYP_PAGE_SIZE : 0;
        p[i] = (struct netfront_packet){ .data = w.q.txbuf.base + (size_t)page * HYP_PAGE_SIZE + offset,
                                         .bytes = how & 128 ? word() % 8192 : 60, .gso_size = how & 32,
                                         .flags = how & 31 };
        page = (page + 1) % w.q.txbuf.n;
    }
    int taken = netqueue_send(&w.q, p, n);
    must(taken <= (int)n);
    for (int i = 0; i < taken; i++) {
        size_t at = (size_t)((uint8_t *)p[i].data - w.q.txbuf.base);
        must(at / HYP_PAGE_SIZE < w.q.txbuf.n && lent[at / HYP_PAGE_SIZE]);
        must(p[i].bytes <= HYP_PAGE_SIZE - at % HYP_PAGE_SIZE);
        lent[at / HYP_PAGE_SIZE] = false;
    }
    must(taken <= 0 || !(p[taken - 1].flags & NETFRONT_MORE)); /* never a part of a packet */
}

static void receive(void)
{
    unsigned room = BUFFERS_MAX - nheld, n = byte() % 64, elements = 0;
    uint64_t bytes = 0;
    struct netfront_packet *out = held + nheld;
    int got = netqueue_receive(&w.q, out, n < room ? n : room);
    must(got == -EMSGSIZE || (got >= 0 && got <= (int)n));
    for (int i = 0; i < got; i++) {
        size_t at = (size_t)((uint8_t *)out[i].data - w.q.rxbuf.base);
        must(out[i].bytes > 0 && out[i].bytes <= HYP_PAGE_SIZE - at % HYP_PAGE_SIZE);
        must(elements == 0 || !(out[i].flags & ~NETFRONT_MORE));
        must(nic.terms.rx_offload || !(out[i].flags & (NETFRONT_CSUM_BLANK | NETFRONT_GSO4 | NETFRONT_GSO6)));
        elements++;
        bytes += out[i].bytes;
        if (!(out[i].flags & NETFRONT_MORE)) {
            must(elements <= NETFRONT_CHAIN_MAX && bytes >= NET_HEADER_BYTES && bytes <= NETFRONT_PACKET_MAX);
            elements = 0;
            bytes = 0;
        }
    }
    must(elements == 0);
    nheld += got > 0 ? (unsigned)got : 0;
}

static void release(void)
{
    for (unsigned n = byte() % 16; n > 0 && nheld > 0; n--) {
        unsigned pick = byte() % nheld;
        netqueue_release(&w.q, &held[pick], 1);
        held[pick] = held[--nheld];
    }
}

/* -------------------------------------------------- what the backend gets up to */

static void push(struct ring_back *ring)
{
    if (ring_back_push(ring))
        hyp_evtchn_notify(w.doorbell[ring == &w.rx ? nic.device.live.nchannels - 1 : 0]);
}

static void look(void)
{
    for (int n = ring_back_waiting(&w.tx); n > 0; n--)
        ring_back_copy_request(&w.tx, &w.sent[w.nsent++ % 16]);
}

/* The right answer to some packet it has seen, with one thing changed perhaps. */
static void answer(void)
{
    uint8_t how = byte();
    netif_tx_response_t rsp = { .id = w.sent[how % 16].id };
    switch (how >> 4) {
    case 0: rsp.id ^= (uint16_t)(1u << byte() % 16); break;
    case 1: rsp.status = (int16_t)word(); break;
    case 2: rsp.status = NETIF_RSP_ERROR; break;
    case 3: rsp.status = NETIF_RSP_DROPPED; break;
    case 4:
    case 5: rsp.status = NETIF_RSP_NULL; break;
    default: break;
    }
    ring_back_put_response(&w.tx, &rsp, sizeof(rsp));
    push(&w.tx);
}

/* A received packet's slot: right, but for one thing perhaps. */
static void give(uint8_t how)
{
    netif_rx_request_t req;
    if (ring_back_waiting(&w.rx) <= 0)
        return;
    ring_back_copy_request(&w.rx, &req);
    netif_rx_response_t rsp = { .id = req.id, .status = 64, .flags = how & 15 };
    switch (how >> 4) {
    case 0: rsp.id ^= (uint16_t)(1u << byte() % 16); break;
    case 1: rsp.status = (int16_t)word(); break;
    case 2: rsp.offset = (uint16_t)word(); break;
    case 3: rsp.flags ^= (uint16_t)(1u << byte() % 16); break;
    case 4: rsp.status = NETIF_RSP_ERROR; break;
    case 5: rsp.status = 4096; break;
    case 6: rsp.flags = 0; break;
    default: rsp.offset = how; break;
    }
    ring_back_put_response(&w.rx, &rsp, sizeof(rsp));
}

static void extra(void)
{
    netif_rx_request_t req;
    uint8_t how = byte();
    if (ring_back_waiting(&w.rx) <= 0)
        return;
    ring_back_copy_request(&w.rx, &req);
    struct netif_extra_info info = { .type = XEN_NETIF_EXTRA_TYPE_GSO };
    info.u.gso.size = 1000;
    info.u.gso.type = how & 3;
    if (how >= 192)
        take(&info, sizeof(info));
    ring_back_put_response(&w.rx, &info, sizeof(info));
}

static void deliver(void)
{
    for (unsigned n = byte() % 24; n > 0; n--) {
        uint8_t how = byte();
        if (how == 255)
            extra();
        else
            give(how);
    }
    push(&w.rx);
}

static void scribble(void)
{
    uint32_t rings = NETQUEUE_RING_PAGES * HYP_PAGE_SIZE, at = word() % rings, n = byte();
    take(w.view + at, n < rings - at ? n : rings - at);
}

static void turn(void)
{
    switch (byte() % 15) {
    case 0: get(); break;
    case 1: put(); break;
    case 2:
    case 3: send(); break;
    case 4:
    case 5: receive(); break;
    case 6: release(); break;
    case 7: look(); break;
    case 8: answer(); break;
    case 9:
    case 10: deliver(); break;
    case 11: ring_store(byte() & 1 ? &w.tx.shared->rsp_prod : &w.rx.shared->rsp_prod, word()); break;
    case 12: scribble(); break;
    case 13:
        hyp_evtchn_notify(w.doorbell[0]);
        must(netqueue_idle(&w.q) >= 0);
        must(netqueue_wait(&w.q, 0) >= 0);
        break;
    case 14: queue_hush(&w.q.queue); break;
    }
    check();
    if (!queue_drained(&w.q.queue) && left > 0 && byte() == 255) {
        queue_stop(&w.q.queue); /* it died */
        if (byte() & 1)
            netqueue_drop(&w.q);
    }
    if (queue_drained(&w.q.queue) && left > 0 && byte() & 1) {
        detach();
        attach();
    }
}

static void down(void)
{
    queue_stop(&w.q.queue);
    netqueue_drop(&w.q);
    must(queue_drained(&w.q.queue));
    check();
    for (uint32_t i = 0; i < w.q.txbuf.n; i++) {
        uint8_t owner = w.q.txbuf.buf[i].owner;
        bool again = w.q.sent && owner == NETBUF_RING; /* would be sent again */
        must(lent[i] ? owner == NETBUF_CALLER : owner == NETBUF_FREE || again);
    }
    must(w.q.rxbuf.nfree + nheld == w.q.rxbuf.n);
    detach();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    in = data;
    left = size;
    take_features();
    if (!agree())
        return 0;
    int control_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    up(control_fd);
    if (byte() & 1)
        must(netqueue_resend(&w.q) == 0);
    for (int i = 0; left > 0 && i < 512; i++)
        turn();
    down();
    for (size_t i = NETQUEUE_RING_PAGES * HYP_PAGE_SIZE; i < nic.queue_pages * HYP_PAGE_SIZE; i++)
        must(w.view[i] == DATA);
    hyp_map_close(w.map);
    netqueue_destroy(&w.q);
    must(hyp_pool_end(w.pool) == 0);
    hyp_close(w.front);
    hyp_close(w.back);
    must(fake_hyp_reset() == 0);
    close(control_fd);
    return 0;
}
