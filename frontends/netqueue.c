/* SPDX-License-Identifier: MIT */
#include "netqueue.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "../hyp-shim/crash.h"

#define RX_BATCH 32u /* a push costs a full barrier: not one for each buffer */

_Static_assert(NETFRONT_BUF_BYTES == HYP_PAGE_SIZE, "a buffer is a granted page");
_Static_assert(NETFRONT_CHAIN_MAX == NET_SLOTS_MAX, "as netif says");
_Static_assert(NETFRONT_PACKET_MAX == NET_PACKET_MAX, "as netif says");

static const struct queue_lie lies[NETQUEUE_LIES] = {
    [NETQUEUE_BAD_INDEX] = { "bad_index", "more responses than requests" },
    [NETQUEUE_BAD_ID] = { "bad_id", "a response to no request in flight" },
    [NETQUEUE_BAD_STATUS] = { "bad_status", "a response with a status that is none" },
    [NETQUEUE_BAD_SPAN] = { "bad_span", "a received packet outside of its buffer" },
    [NETQUEUE_BAD_FLAGS] = { "bad_flags", "a received packet with flags that were not agreed" },
    [NETQUEUE_BAD_EXTRA] = { "bad_extra", "a received packet with impossible extra info" },
    [NETQUEUE_SHORT_CHAIN] = { "short_chain", "a received packet without an end" },
    [NETQUEUE_LONG_CHAIN] = { "long_chain", "a received packet that is too long" },
    [NETQUEUE_STORM] = { "storm", "doorbells without responses" },
};

/* --------------------------------------------------------------- connection */

static void lose_all(struct netqueue *q)
{
    if (!q->sent)
        queue_count(&q->counters.tx_lost, netbufs_lose(&q->txbuf));
    netbufs_lose(&q->rxbuf);
    q->tx_extras = q->nheld = 0;
    q->seen = 0;
}

void netqueue_drop(struct netqueue *q)
{
    if (q->seen)
        lose_all(q);
    queue_rest(&q->queue, 0);
}

void netqueue_caught(struct netqueue *q, enum netqueue_lie lie)
{
    queue_count(&q->counters.lies[lie], 1);
    queue_caught(&q->queue, &lies[lie]);
    netqueue_drop(q);
}

/* ----------------------------------------------------------------- sending */

/* Takes all answers to what was sent; false: the backend was caught. */
bool netqueue_reap(struct netqueue *q)
{
    enum netqueue_lie lie;
    uint64_t errors = 0;
    int waiting = ring_front_waiting(&q->tx);
    if (waiting == RING_LIES)
        goto bad_index;
    if (waiting == 0)
        return true;
    queue_answer(&q->queue);
    ring_front_prefetch(&q->tx, (uint32_t)waiting);
    for (; waiting > 0; waiting--) {
        netif_tx_response_t rsp;
        ring_front_copy_response(&q->tx, &rsp, sizeof(rsp));
        if (rsp.status == NETIF_RSP_NULL) {
            if (q->tx_extras == 0)
                goto bad_status;
            q->tx_extras--;
            continue;
        }
        uint32_t i = rsp.id & (q->id_step - 1);
        if (i >= q->txbuf.n || q->txbuf.buf[i].owner != NETBUF_RING || q->txbuf.buf[i].id != rsp.id)
            goto bad_id;
        struct netbuf *buf = &q->txbuf.buf[i];
        if (rsp.status != NETIF_RSP_OKAY) {
            if (rsp.status != NETIF_RSP_ERROR && rsp.status != NETIF_RSP_DROPPED)
                goto bad_status;
            errors += buf->head;
        }
        netbuf_free(&q->txbuf, i);
    }
    if (errors)
        queue_count(&q->counters.tx_errors, errors);
    return true;

bad_index:
    lie = NETQUEUE_BAD_INDEX;
    goto broken;
bad_status:
    lie = NETQUEUE_BAD_STATUS;
    goto broken;
bad_id:
    lie = NETQUEUE_BAD_ID;
broken:
    netqueue_caught(q, lie);
    return false;
}

int netqueue_get(struct netqueue *q, void **bufs, unsigned n)
{
    struct netbufs *b = &q->txbuf;
    if (b->nfree < n && netqueue_take(q))
        netqueue_reap(q);
    unsigned got = n < b->nfree ? n : b->nfree;
    for (unsigned i = 0; i < got; i++)
        bufs[i] = netbuf_data(b, netbuf_take(b, NETBUF_CALLER));
    q->want_bufs = got < n;
    return (int)got;
}

void netqueue_put(struct netqueue *q, void *const *bufs, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        netbuf_back(&q->txbuf, bufs[i]);
}

/* The buffer of an element that may be sent; NULL: it may not. */
static inline struct netbuf *sendable(const struct netqueue *q, const struct netfront_packet *p)
{
    size_t i = netbuf_at(&q->txbuf, p->data);
    uint32_t offset = (uint32_t)((uintptr_t)p->data & (HYP_PAGE_SIZE - 1));
    if (i >= q->txbuf.n || p->bytes == 0 || p->bytes > HYP_PAGE_SIZE - offset)
        return NULL;
    struct netbuf *buf = &q->txbuf.buf[i];
    return buf->owner == NETBUF_CALLER ? buf : NULL;
}

/* A netif_tx_request_t in the two words that it is copied in: read back in other
 * pieces than it was stored in, it would cost as much as all the rest. */
struct tx_words {
    uint64_t ref_offset_flags;
    uint32_t id_size;
};
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && offsetof(netif_tx_request_t, gref) == 0
               && offsetof(netif_tx_request_t, offset) == 4 && offsetof(netif_tx_request_t, flags) == 6
               && offsetof(netif_tx_request_t, id) == 8 && offsetof(netif_tx_request_t, size) == 10,
               "netif ABI");

/* Gives a sendable element to the backend. */
static inline void put(struct netqueue *q, const struct netfront_packet *p, struct netbuf *buf,
                       uint16_t flags, uint16_t size)
{
    uint64_t offset = (uintptr_t)p->data & (HYP_PAGE_SIZE - 1);
    buf->id += (uint16_t)q->id_step;
    struct tx_words req = {
        .ref_offset_flags = buf->ref | offset << 32 | (uint64_t)flags << 48,
        .id_size = buf->id | (uint32_t)size << 16,
    };
    ring_front_put_request(&q->tx, &req, sizeof(netif_tx_request_t));
}

#define TX_GSO (NETFRONT_GSO4 | NETFRONT_GSO6)

/* The flags of a first request, without more_data and extra_info; -EINVAL: what was
 * not agreed. */
static inline int tx_flags(const struct netqueue *q, const struct netfront_packet *p)
{
    if (p->flags & ~q->terms->tx_flags)
        return -EINVAL;
    if (p->flags & TX_GSO && ((p->flags & TX_GSO) == TX_GSO || p->gso_size == 0))
        return -EINVAL;
    if (p->flags & (NETFRONT_CSUM_BLANK | TX_GSO))
        return NETTXF_csum_blank | NETTXF_data_validated;
    return p->flags & NETFRONT_CSUM_GOOD ? (int)NETTXF_data_validated : 0;
}

/* Extra info in a slot of the sending ring, whose last bytes it leaves to no one. */
static void put_gso(struct netqueue *q, const struct netfront_packet *p)
{
    union {
        struct netif_extra_info extra;
        uint8_t slot[NET_TX_SLOT_BYTES];
    } gso = { .slot = { 0 } };
    gso.extra.type = XEN_NETIF_EXTRA_TYPE_GSO;
    gso.extra.u.gso.size = p->gso_size;
    gso.extra.u.gso.type = p->flags & NETFRONT_GSO4 ? XEN_NETIF_GSO_TYPE_TCPV4 : XEN_NETIF_GSO_TYPE_TCPV6;
    ring_front_put_request(&q->tx, &gso, sizeof(gso));
    q->tx_extras++;
}

/* Marks the elements of a packet as the ring's, so that none is there twice.
 * Returns how many they are, and the sum of their bytes; -EINVAL: it can never be
 * sent, and nothing changed. */
static int mark_chain(struct netqueue *q, const struct netfront_packet *p, unsigned n, uint32_t *bytes)
{
    unsigned i = 0;
    bool more = true;
    for (*bytes = 0; more; i++) {
        struct netbuf *buf = i < n && i < NETFRONT_CHAIN_MAX ? sendable(q, &p[i]) : NULL;
        if (!buf)
            goto never;
        buf->owner = NETBUF_RING;
        *bytes += p[i].bytes;
        more = p[i].flags & NETFRONT_MORE;
    }
    if (*bytes >= NET_HEADER_BYTES && *bytes <= NET_PACKET_MAX)
        return (int)i;
never:
    while (i-- > 0)
        q->txbuf.buf[netbuf_at(&q->txbuf, p[i].data)].owner = NETBUF_CALLER;
    return -EINVAL;
}

/* A packet with extra info, or of several elements: how many were sent, 0 no room,
 * -EINVAL never. */
static int send_chain(struct netqueue *q, const struct netfront_packet *p, unsigned n, uint64_t *bytes)
{
    uint32_t total;
    int flags = tx_flags(q, p);
    int elements = flags < 0 ? flags : mark_chain(q, p, n, &total);
    if (elements < 0)
        return elements;
    bool gso = p->flags & TX_GSO;
    uint32_t slots = (uint32_t)elements + gso;
    if (ring_front_free(&q->tx) < slots) {
        for (int i = 0; i < elements; i++)
            q->txbuf.buf[netbuf_at(&q->txbuf, p[i].data)].owner = NETBUF_CALLER;
        q->want_slots = slots;
        return 0;
    }
    for (int i = 0; i < elements; i++) {
        struct netbuf *buf = &q->txbuf.buf[netbuf_at(&q->txbuf, p[i].data)];
        uint16_t more = p[i].flags & NETFRONT_MORE ? NETTXF_more_data : 0;
        buf->head = i == 0;
        if (i > 0)
            put(q, &p[i], buf, more, (uint16_t)p[i].bytes);
        else /* the first one says how long all of them are */
            put(q, &p[i], buf, (uint16_t)flags | more | (gso ? NETTXF_extra_info : 0), (uint16_t)total);
        if (i == 0 && gso)
            put_gso(q, p);
    }
    *bytes += total;
    return elements;
}

/* The usual packet; as send_chain(). */
static inline int send_one(struct netqueue *q, const struct netfront_packet *p, uint64_t *bytes)
{
    struct netbuf *buf = sendable(q, p);
    int flags = tx_flags(q, p);
    if (!buf || flags < 0 || p->bytes < NET_HEADER_BYTES)
        return -EINVAL;
    if (ring_front_free(&q->tx) == 0) {
        q->want_slots = 1;
        return 0;
    }
    buf->owner = NETBUF_RING;
    buf->head = 1;
    put(q, p, buf, (uint16_t)flags, (uint16_t)p->bytes);
    *bytes += p->bytes;
    return 1;
}

static inline void push_tx(struct netqueue *q)
{
    queue_ask(&q->queue, q->tx.req_prod);
    CRASH_POINT("netfront-tx-before-publish");
    bool ring = ring_front_push(&q->tx);
    CRASH_POINT("netfront-tx-after-publish");
    if (ring)
        queue_ring(&q->queue, 0);
    queue_asked(&q->queue);
}

static void note_sent(struct netqueue *q, const struct netfront_packet *p, unsigned n)
{
    q->order++;
    for (unsigned i = 0; i < n; i++) {
        struct netqueue_sent *s = &q->sent[netbuf_at(&q->txbuf, p[i].data)];
        *s = (struct netqueue_sent){ .order = q->order, .bytes = (uint16_t)p[i].bytes, .flags = p[i].flags,
                                     .offset = (uint16_t)((uintptr_t)p[i].data & (HYP_PAGE_SIZE - 1)),
                                     .gso_size = p[i].gso_size };
        if (i + 1 < n)
            s->next = (uint16_t)netbuf_at(&q->txbuf, p[i + 1].data);
    }
}

/* One packet, of whatever kind; as send_chain(). */
static inline int send_packet(struct netqueue *q, const struct netfront_packet *p, unsigned n,
                              uint64_t *bytes)
{
    int k = p->flags & (NETFRONT_MORE | TX_GSO) ? send_chain(q, p, n, bytes) : send_one(q, p, bytes);
    if (__builtin_expect(q->sent != NULL, 0) && k > 0)
        note_sent(q, p, (unsigned)k);
    return k;
}

/* ------------------------------------------------------------------- again */

/* Packets whose first element is in flight, in their order. */
static unsigned in_order(const struct netqueue *q, uint16_t head[NET_RING_SLOTS])
{
    unsigned n = 0;
    for (uint32_t i = 0; i < q->txbuf.n && n < NET_RING_SLOTS; i++) {
        if (q->txbuf.buf[i].owner != NETBUF_RING || !q->txbuf.buf[i].head)
            continue;
        unsigned at = n++;
        for (; at > 0 && (int32_t)(q->sent[head[at - 1]].order - q->sent[i].order) > 0; at--)
            head[at] = head[at - 1];
        head[at] = (uint16_t)i;
    }
    return n;
}

/* The elements of a packet, its buffers the caller's again; 0: a part of it was answered. */
static unsigned gather(struct netqueue *q, uint32_t at, struct netfront_packet p[NETFRONT_CHAIN_MAX])
{
    uint32_t order = q->sent[at].order;
    unsigned n = 0;
    bool more = true;
    for (; more && n < NETFRONT_CHAIN_MAX; n++) {
        const struct netqueue_sent *s = &q->sent[at];
        if (q->txbuf.buf[at].owner != NETBUF_RING || s->order != order)
            return 0;
        p[n] = (struct netfront_packet){ .data = (uint8_t *)netbuf_data(&q->txbuf, at) + s->offset,
                                         .bytes = s->bytes, .flags = s->flags, .gso_size = s->gso_size };
        more = s->flags & NETFRONT_MORE;
        at = s->next;
    }
    for (unsigned i = 0; i < n; i++)
        q->txbuf.buf[netbuf_at(&q->txbuf, p[i].data)].owner = NETBUF_CALLER;
    return n;
}

/* What was not answered in the connection before is sent in this one. */
static void resend(struct netqueue *q)
{
    uint16_t head[NET_RING_SLOTS];
    struct netfront_packet p[NETFRONT_CHAIN_MAX];
    unsigned n = in_order(q, head);
    uint32_t before = q->order;
    uint64_t again = 0, lost = 0, bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned k = gather(q, head[i], p);
        bool sent = k > 0 && send_packet(q, p, k, &bytes) > 0;
        again += sent;
        for (unsigned e = 0; !sent && e < k; e++)
            netbuf_back(&q->txbuf, p[e].data);
        lost += !sent && k > 0;
    }
    for (uint32_t i = 0; i < q->txbuf.n; i++) /* parts */
        if (q->txbuf.buf[i].owner == NETBUF_RING && (int32_t)(q->sent[i].order - before) <= 0) {
            lost += q->txbuf.buf[i].head;
            netbuf_free(&q->txbuf, i);
        }
    queue_count(&q->counters.tx_resent, again);
    queue_count(&q->counters.tx_lost, lost);
    push_tx(q);
}

void netqueue_meet(struct netqueue *q)
{
    if (q->seen)
        lose_all(q);
    q->seen = q->epoch;
    netbufs_name(&q->txbuf, q->queue.grants);
    netbufs_name(&q->rxbuf, q->queue.grants);
    if (q->sent)
        resend(q);
    netqueue_post(q);
    netqueue_push_rx(q);
}

int netqueue_send(struct netqueue *q, const struct netfront_packet *p, unsigned n)
{
    if (!netqueue_take(q) || (ring_front_free(&q->tx) < n && !netqueue_reap(q))) {
        q->want_slots = 1; /* netqueue_idle() will tell when it is up */
        return queue_gone(&q->queue) ? -ENOTCONN : -ENETDOWN;
    }
    if (__builtin_expect(netqueue_hushed(q), 0)) {
        q->want_slots = 1;
        return netqueue_reap(q) ? netqueue_settle(q) : -ENETDOWN;
    }
    unsigned done = 0;
    uint64_t bytes = 0, packets = 0;
    int k = 0;
    q->want_slots = 0;
    for (; done < n; done += (unsigned)k, packets++) {
        k = send_packet(q, p + done, n - done, &bytes);
        if (k <= 0)
            break;
    }
    if (done == 0)
        return k;
    queue_count(&q->counters.tx_packets, packets);
    queue_count(&q->counters.tx_bytes, bytes);
    push_tx(q);
    return (int)done;
}

uint32_t netqueue_in_flight(struct netqueue *q)
{
    return netqueue_take(q) && netqueue_reap(q) ? netqueue_flying(q) : 0;
}

/* ----------------------------------------------------------------- sleeping */

int netqueue_settle(struct netqueue *q)
{
    if (netqueue_flying(q) == 0 && q->nheld == 0 && ring_front_waiting(&q->rx) == 0)
        queue_let_go(&q->queue);
    return 0;
}

/* The connection is to be finished: as netqueue_idle(). */
static int idle_hushed(struct netqueue *q)
{
    uint32_t flying = netqueue_flying(q);
    int waiting = ring_front_idle(&q->rx);
    int answers = flying > 0 ? ring_front_idle_until(&q->tx, flying) : 0;
    if (waiting == RING_LIES || answers == RING_LIES)
        return RING_LIES;
    if ((uint32_t)answers < flying)
        answers = 0;
    waiting += answers + (int)q->nheld;
    if (waiting > 0)
        return waiting;
    if (flying == 0)
        queue_let_go(&q->queue);
    else
        queue_rest(&q->queue, flying);
    return 0;
}

/* Sending fell short: > 0 it may go on; else the backend will ring. RING_LIES. */
static int may_send(struct netqueue *q)
{
    for (;;) {
        uint32_t flying = netqueue_flying(q);
        if ((q->want_slots && ring_front_free(&q->tx) >= q->want_slots)
            || (q->want_bufs && q->txbuf.nfree > 0)) {
            q->want_slots = q->want_bufs = 0; /* told once: it may not want to any more */
            return 1;
        }
        if (flying == 0)
            return 0; /* the caller has all buffers itself */
        /* Woken for half a ring, not for each packet. */
        uint32_t until = flying / 2 + 1;
        int waiting = ring_front_idle_until(&q->tx, until < flying ? until : flying);
        if (waiting == RING_LIES || waiting == 0)
            return waiting;
        if (!netqueue_reap(q))
            return 0;
    }
}

int netqueue_idle(struct netqueue *q)
{
    queue_forget_kick(&q->queue);
    if (!netqueue_take(q))
        return queue_gone(&q->queue) ? -ENOTCONN : 0;
    bool rung = queue_take_rings(&q->queue);
    if (!netqueue_reap(q))
        return 0;
    if (netqueue_hushed(q)) {
        int left = idle_hushed(q);
        if (left == RING_LIES)
            goto bad_index;
        return left;
    }
    netqueue_post(q);
    netqueue_push_rx(q);
    int sending = q->want_slots | q->want_bufs ? may_send(q) : 0;
    if (queue_state(&q->queue) == QUEUE_DOWN)
        goto down;
    int waiting = ring_front_idle(&q->rx);
    if (waiting == RING_LIES || sending == RING_LIES)
        goto bad_index;
    waiting += sending + (int)q->nheld;
    if (waiting == 0 && rung && queue_storm(&q->queue))
        goto storm;
    if (waiting == 0) /* packets may come: whoever ends it in order asks the owner first */
        queue_rest(&q->queue, 1);
    return waiting;

down:
    netqueue_drop(q);
    return 0;
bad_index:
    netqueue_caught(q, NETQUEUE_BAD_INDEX);
    return 0;
storm:
    netqueue_caught(q, NETQUEUE_STORM);
    return 0;
}

int netqueue_wait(struct netqueue *q, int timeout_ms)
{
    int work = netqueue_idle(q);
    return work < 0 ? work : work > 0 ? 1 : queue_sleep(&q->queue, timeout_ms);
}

/* ----------------------------------------------------------- made and ended */

int netqueue_init(struct netqueue *q, struct hyp_pool *grants, uint32_t page, uint32_t pages,
                  const struct netqueue_terms *terms, int control_fd)
{
    *q = (struct netqueue){ .terms = terms, .page = page };
    int err = queue_init(&q->queue, grants, control_fd);
    if (!err && pages < NETQUEUE_PAGES_MIN)
        err = -EINVAL;
    uint32_t buffers = pages - NETQUEUE_RING_PAGES, receive = buffers / 2;
    uint32_t first = page + NETQUEUE_RING_PAGES;
    if (!err)
        err = netbufs_init(&q->rxbuf, grants, first, receive);
    if (!err)
        err = netbufs_init(&q->txbuf, grants, first + receive, buffers - receive);
    if (err)
        netqueue_destroy(q);
    for (q->id_step = 1; q->id_step < buffers - receive; q->id_step *= 2)
        ;
    q->batch = receive / 4 < RX_BATCH ? receive / 4 : RX_BATCH;
    return err;
}

void netqueue_destroy(struct netqueue *q)
{
    netbufs_destroy(&q->rxbuf);
    netbufs_destroy(&q->txbuf);
    free(q->sent);
    q->sent = NULL;
    queue_destroy(&q->queue);
}

int netqueue_resend(struct netqueue *q)
{
    q->sent = calloc(q->txbuf.n, sizeof(*q->sent));
    return q->sent ? 0 : -ENOMEM;
}

int netqueue_attach(struct netqueue *q, struct hyp_evtchn *const *channels, unsigned n)
{
    int err = queue_attach(&q->queue, channels, n);
    if (err)
        return err;
    uint8_t *rings = (uint8_t *)hyp_pool_base(q->queue.grants) + (size_t)q->page * HYP_PAGE_SIZE;
    ring_front_init(&q->tx, rings, HYP_PAGE_SIZE, NET_TX_SLOT_BYTES);
    ring_front_init(&q->rx, rings + HYP_PAGE_SIZE, HYP_PAGE_SIZE, NET_RX_SLOT_BYTES);
    q->queue.answered = &q->tx.shared->rsp_prod;
    if (++q->epoch == 0)
        q->epoch = 1;
    return 0;
}
