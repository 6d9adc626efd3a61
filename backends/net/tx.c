/* SPDX-License-Identifier: MIT */
/*
 * tx.c - what a guest sends: from its ring into packets.
 *
 * The usual packet is one slot without extras.  A run of those is handled in
 * steps, each over the whole run, so that the processor waits for many cache
 * lines of the guest at once: find the pages and prefetch, copy, check and
 * answer.  Anything else goes one by one.
 */
#include <rte_byteorder.h>

#include "../../hyp-shim/crash.h"
#include "copy.h"
#include "offload.h"
#include "queue.h"

/* Put together in a register: read back in one piece from where it was written in
 * two, it would wait for all earlier stores to reach the cache. */
static inline uint32_t response(uint16_t id, int16_t status)
{
    _Static_assert(sizeof(netif_tx_response_t) == 4, "no padding to leak");
    return RTE_LE32((uint32_t)(uint16_t)status << 16 | id);
}

static void answer(struct net_queue *q, uint16_t id, int16_t status)
{
    uint32_t rsp = response(id, status);
    ring_back_put_words(&q->tx, &rsp, 1);
}

/* ------------------------------------------------------------ the usual packet */

struct run {
    unsigned n;
    const uint8_t *from[NET_BURST]; /* persistent grants */
    struct rte_mbuf *packet[NET_BURST];
    uint32_t answer[NET_BURST];
};

static inline bool is_usual(const netif_tx_request_t *s, uint32_t longest)
{
    return !(s->flags & ~(NETTXF_data_validated | NETTXF_csum_blank)) &&
           s->size >= NET_HEADER_BYTES && s->size <= longest && s->offset <= HYP_PAGE_SIZE - s->size;
}

/* True: the packet may be taken; what it costs is spent. */
static inline bool spend(struct net_queue *q, uint32_t bytes, int64_t *budget, uint64_t now)
{
    if (*budget <= 0)
        return false;
    if (net_rate_limited(&q->outbound)) {
        q->tx_wait = net_rate_wait(&q->outbound, now);
        if (q->tx_wait > 0)
            return false;
        net_rate_spend(&q->outbound, bytes);
    }
    *budget -= (int64_t)bytes + NET_COST_PACKET;
    return true;
}

/* How many usual packets stand at slot[0]; their pages are found and fetched. */
static void choose_run(struct net_queue *q, const netif_tx_request_t *slot, unsigned n, struct run *run,
                       int64_t *budget, uint64_t now, uint32_t index)
{
    uint32_t longest = q->frame_max < PACKET_SMALL_BYTES ? q->frame_max : PACKET_SMALL_BYTES;
    bool persistent = q->grants == NET_GRANTS_PERSISTENT;

    for (run->n = 0; run->n < n; run->n++) {
        const netif_tx_request_t *s = &slot[run->n];
        if (!is_usual(s, longest))
            return;
        if (persistent) {
            const uint8_t *page = hyp_run_page(q->map, s->gref, &q->tx_run);
            if (!page)
                return;
            run->from[run->n] = page + s->offset;
            if ((int32_t)(q->foreseen - (index + run->n)) <= 0)
                prefetch_read(page + s->offset, s->size);
        }
        if (!spend(q, s->size, budget, now))
            return;
    }
}

/* Has the data of the n slots after the run fetched meanwhile, when it is where the run's is. */
static void foresee(struct net_queue *q, const netif_tx_request_t *next, unsigned n, uint32_t index)
{
    const struct hyp_run *at = &q->tx_run;

    n = n < NET_BURST ? n : NET_BURST;
    for (unsigned i = 0; i < n; i++) {
        grant_ref_t page = next[i].gref - at->first;
        if (page < at->pages)
            prefetch_read(at->base + ((size_t)page << HYP_PAGE_SHIFT) + next[i].offset, next[i].size);
    }
    q->foreseen = index + n;
}

static void fetch_run(struct net_queue *q, const netif_tx_request_t *slot, struct run *run)
{
    if (q->grants == NET_GRANTS_PERSISTENT) {
        for (unsigned i = 0; i < run->n; i++) {
            if (i + 1 < run->n)
                prefetch_rest(run->from[i + 1], slot[i + 1].size);
            copy_bytes((uint8_t *)run->packet[i]->buf_addr + PACKET_ROOM, run->from[i], slot[i].size);
        }
        copied();
        return;
    }
    for (unsigned i = 0; i < run->n; i++)
        q->piece[i] = (struct hyp_copy){ .ref = slot[i].gref, .offset = slot[i].offset, .bytes = slot[i].size,
                                         .local = (uint8_t *)run->packet[i]->buf_addr + PACKET_ROOM };
    hyp_grant_copy(q->map, q->piece, run->n);
}

/* The address and ethertype of a usual frame in one look. */
static inline bool is_honest(const struct net_queue *q, const uint8_t *frame)
{
    uint16_t head, type;
    uint32_t tail;
    memcpy(&head, frame + 6, 2);
    memcpy(&tail, frame + 8, 4);
    memcpy(&type, frame + ETHERTYPE_AT, 2);
    return (head == q->src_head) & (tail == q->src_tail) & (type != RTE_BE16(ETHERTYPE_VLAN)) &
           (type != RTE_BE16(ETHERTYPE_QINQ)) & q->plain;
}

/* What is wrong with a fetched packet of a run: NULL, or the counter. */
static inline uint64_t *check_run(struct net_queue *q, const netif_tx_request_t *s, struct rte_mbuf *m)
{
    uint64_t *bad;

    packet_init_as(m, q->first_words, q->last_words, s->size);
    if (__builtin_expect(!is_honest(q, (uint8_t *)m->buf_addr + PACKET_ROOM), 0) &&
        (bad = net_parse_frame(q, m)))
        return bad;
    if (!(s->flags & NETTXF_csum_blank))
        return NULL;
    return net_parse_offload(q, &(struct net_tx_packet){ .csum_blank = true }, m);
}

/* Checks what was fetched; returns how many are right, and in out[]. */
static unsigned check_all(struct net_queue *q, const netif_tx_request_t *slot, struct run *run,
                          struct rte_mbuf **out)
{
    bool copies = q->grants == NET_GRANTS_COPY;
    uint64_t bytes = 0;
    unsigned good = 0;

    for (unsigned i = 0; i < run->n; i++) {
        struct rte_mbuf *m = run->packet[i];
        uint64_t *bad = copies && q->piece[i].status ? &q->count.bad_grant : check_run(q, &slot[i], m);
        run->answer[i] = response(slot[i].id, bad ? NETIF_RSP_ERROR : NETIF_RSP_OKAY);
        if (bad) {
            net_count(bad, 1);
            packet_put_raw(m);
            continue;
        }
        out[good++] = m;
        bytes += slot[i].size;
    }
    net_count(&q->count.tx_packets, good);
    net_count(&q->count.tx_bytes, bytes);
    return good;
}

/* Takes a run of usual packets, max at most; returns their slots. *got grows by the good ones.
 * index: of slot[0] on the ring. */
static unsigned take_run(struct net_queue *q, const netif_tx_request_t *slot, unsigned n, unsigned max,
                         uint32_t index, struct rte_mbuf **out, unsigned *got, int64_t *budget, uint64_t now)
{
    struct run run;

    choose_run(q, slot, n < max ? n : max, &run, budget, now, index);
    if (run.n == 0)
        return 0;
    if (q->grants == NET_GRANTS_PERSISTENT)
        foresee(q, slot + run.n, n - run.n, index + run.n);
    if (packet_get(net_pools.small, run.packet, run.n)) {
        fetch_run(q, slot, &run);
        *got += check_all(q, slot, &run, out);
    } else {
        for (unsigned i = 0; i < run.n; i++)
            run.answer[i] = response(slot[i].id, NETIF_RSP_ERROR);
        net_count(&q->count.no_memory, run.n);
    }
    ring_back_put_words(&q->tx, run.answer, run.n);
    return run.n;
}

/* ------------------------------------------------------------- any other packet */

/* Copies the data of all slots into m. NULL, or the counter. */
static uint64_t *fetch_chain(struct net_queue *q, const netif_tx_request_t *slot,
                             const struct net_tx_packet *p, struct rte_mbuf *m)
{
    uint8_t *to = packet_data(m);

    for (unsigned i = 0; i < p->slots; i++) {
        const netif_tx_request_t *s = i == 0 ? slot : slot + p->extras + i;
        uint16_t bytes = (uint16_t)(i == 0 ? p->first_bytes : s->size);
        q->piece[i] = (struct hyp_copy){ .ref = s->gref, .offset = s->offset, .bytes = bytes, .local = to };
        if (q->grants == NET_GRANTS_PERSISTENT) {
            const uint8_t *page = hyp_run_page(q->map, s->gref, &q->tx_run);
            if (!page)
                return &q->count.bad_grant;
            shared_read(to, page + s->offset, bytes);
        }
        to += bytes;
    }
    if (q->grants == NET_GRANTS_COPY && hyp_grant_copy(q->map, q->piece, p->slots) < 0)
        return &q->count.bad_grant;
    return NULL;
}

static void answer_chain(struct net_queue *q, const netif_tx_request_t *slot, const struct net_tx_packet *p,
                         int16_t status)
{
    answer(q, slot->id, status);
    for (unsigned i = 0; i < p->extras; i++)
        answer(q, 0, NETIF_RSP_NULL);
    for (unsigned i = 1; i < p->slots; i++)
        answer(q, slot[p->extras + i].id, status);
}

static uint64_t *read_chain(struct net_queue *q, const netif_tx_request_t *slot,
                            const struct net_tx_packet *p, struct rte_mbuf **out)
{
    struct rte_mbuf *m = packet_new(q->port->index, p->bytes);
    if (!m)
        return &q->count.no_memory;
    uint64_t *bad = fetch_chain(q, slot, p, m);
    bad = bad ? bad : net_parse_frame(q, m);
    bad = bad ? bad : net_parse_offload(q, p, m);
    if (bad)
        packet_put_raw(m);
    else
        *out = m;
    return bad;
}

/* Takes one packet; returns its slots, 0: not now. more: there are requests past slot[n). */
static unsigned take_one(struct net_queue *q, const netif_tx_request_t *slot, unsigned n, bool more,
                         struct rte_mbuf **out, unsigned *got, int64_t *budget, uint64_t now)
{
    struct net_tx_packet p;
    uint64_t *bad = net_parse_slots(&q->count, slot, n, &p);
    unsigned slots = (unsigned)p.slots + p.extras;

    /* The window begins with it the next time. */
    if (p.incomplete && more && n < QUEUE_WINDOW)
        return 0;
    if (!spend(q, bad ? 0 : p.bytes, budget, now))
        return 0;
    *budget -= (int64_t)(slots - 1) * NET_COST_SLOT;
    if (!bad)
        bad = read_chain(q, slot, &p, out);
    answer_chain(q, slot, &p, bad ? NETIF_RSP_ERROR : NETIF_RSP_OKAY);
    if (bad) {
        net_count(bad, 1);
        return slots;
    }
    net_count(&q->count.tx_packets, 1);
    net_count(&q->count.tx_bytes, p.bytes);
    (*got)++;
    return slots;
}

unsigned net_queue_take(struct net_queue *q, struct rte_mbuf **out, unsigned max, int64_t *budget,
                        uint64_t now)
{
    int waiting = q->broken ? 0 : ring_back_waiting(&q->tx);
    unsigned at = 0, got = 0;

    q->tx_more = false;
    q->tx_wait = 0;
    if (waiting < 0)
        net_queue_break(q, "its tx ring's index cannot be true");
    if (waiting <= 0)
        return 0;
    unsigned n = (unsigned)waiting < QUEUE_WINDOW ? (unsigned)waiting : QUEUE_WINDOW;
    ring_back_peek(&q->tx, q->slot, n);
    while (at < n && got < max) {
        unsigned taken = take_run(q, q->slot + at, n - at, max - got, q->tx.req_cons + at, out + got, &got,
                                  budget, now);
        if (taken == 0)
            taken = take_one(q, q->slot + at, n - at, at + (n - at) < (unsigned)waiting, out + got, &got,
                             budget, now);
        if (taken == 0)
            break;
        at += taken;
    }
    if (at > 0)
        CRASH_POINT("net-tx-after-copy");
    ring_back_take(&q->tx, at);
    q->tx_more = at < (unsigned)waiting;
    return got;
}
