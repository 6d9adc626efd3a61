/* SPDX-License-Identifier: MIT */
/*
 * A driver domain that lies, rings or spies, against one queue of the network
 * frontend.  Every attack has a control: the same steps without the lie.
 * Advisories that concern PV network frontends are named where they are tested.
 */
#include "test_netfront.h"

static struct rig r;

#define BUFFERS 63u /* for each direction */

static int up(void **state)
{
    (void)state;
    rig_up(&r, 2, 2 * BUFFERS + NETQUEUE_RING_PAGES);
    return 0;
}

static int down(void **state)
{
    (void)state;
    rig_down(&r);
    return 0;
}

static void again(void)
{
    down(NULL);
    up(NULL);
}

/* The connection is over, for that reason, and every buffer is somebody's. */
static void expect_broken(enum netqueue_lie lie)
{
    struct netfront_packet p, out[1];
    void *buf;
    if (r.q.counters.lies[lie] != 1)
        for (int i = 0; i < NETQUEUE_LIES; i++)
            if (r.q.counters.lies[i])
                fail_msg("caught for %d, not %d", i, (int)lie);
    assert_int_equal(r.q.counters.lies[lie], 1);
    assert_non_null(r.q.queue.lie);
    assert_true(queue_drained(&r.q.queue));
    assert_true(sides_control_called(&r.sides)); /* it may make the queue anew */
    assert_int_equal(rig_owned(&r.q.txbuf).by[NETBUF_RING], 0);
    assert_int_equal(rig_owned(&r.q.rxbuf).by[NETBUF_RING], 0);
    assert_int_equal(rig_owned(&r.q.rxbuf).by[NETBUF_HELD], 0);
    assert_int_equal(netqueue_receive(&r.q, out, 1), 0);
    if (netqueue_get(&r.q, &buf, 1) == 1) {
        p = (struct netfront_packet){ .data = buf, .bytes = 64 };
        assert_int_equal(netqueue_send(&r.q, &p, 1), -ENETDOWN);
    }
}

static void expect_fine(void)
{
    for (int lie = 0; lie < NETQUEUE_LIES; lie++)
        assert_int_equal(r.q.counters.lies[lie], 0);
    assert_false(queue_drained(&r.q.queue));
}

/* ------------------------------------------------------------------ sending */

/* Three packets in flight, all taken by the backend. */
static void three(netif_tx_request_t req[3])
{
    struct netfront_packet p[3];
    for (int i = 0; i < 3; i++)
        p[i] = rig_packet(&r, 0, 64, 0, 1);
    assert_int_equal(netqueue_send(&r.q, p, 3), 3);
    for (int i = 0; i < 3; i++)
        req[i] = rig_take(&r);
}

/* Lends and takes back others until that one is next. */
static void until_next(uint32_t buffer)
{
    const struct netbufs *b = &r.q.txbuf;
    for (uint32_t i = 0; i < b->n && b->free[b->first] != buffer; i++) {
        struct netfront_packet p = rig_packet(&r, 0, 64, 0, 1);
        rig_give_back(&r, &p, 1);
    }
    assert_int_equal(b->free[b->first], buffer);
}

static void answer_all(const netif_tx_request_t req[3])
{
    for (int i = 0; i < 3; i++)
        rig_answer(&r, req[i].id, NETIF_RSP_OKAY);
}

/* XSA-376: a frontend must not index its tables with what a backend says. */
static void test_xsa376_id_of_no_packet(void **state)
{
    (void)state;
    netif_tx_request_t req[3];
    for (unsigned i = 0; i < 5; i++) {
        three(req);
        uint16_t free_one = 0;
        while (r.q.txbuf.buf[free_one].owner != NETBUF_FREE)
            free_one++;
        const uint16_t ids[] = { free_one, BUFFERS, 0, 0x8000, UINT16_MAX };
        rig_answer(&r, ids[i], NETIF_RSP_OKAY);
        netqueue_in_flight(&r.q);
        expect_broken(NETQUEUE_BAD_ID);
        assert_int_equal(r.q.counters.tx_lost, 3);
        again();
    }
    three(req);
    answer_all(req);
    assert_int_equal(netqueue_in_flight(&r.q), 0);
    expect_fine();
}

static void test_xsa376_the_same_answer_twice(void **state)
{
    (void)state;
    netif_tx_request_t req[3];
    three(req);
    rig_answer(&r, req[1].id, NETIF_RSP_OKAY);
    rig_answer(&r, req[1].id, NETIF_RSP_OKAY);
    netqueue_in_flight(&r.q);
    expect_broken(NETQUEUE_BAD_ID);
    assert_int_equal(r.q.counters.tx_lost, 2); /* one did leave */
}

/* A buffer that its caller writes to is not in flight, whatever is said. */
static void test_xsa376_answer_for_a_buffer_of_the_caller(void **state)
{
    (void)state;
    netif_tx_request_t req[3];
    three(req);
    rig_answer(&r, req[0].id, NETIF_RSP_OKAY);
    assert_int_equal(netqueue_in_flight(&r.q), 2);
    uint32_t i = rig_buffer(&r, req[0].id);
    until_next(i);
    struct netfront_packet mine = rig_packet(&r, 0, 64, 0, 1); /* the same one, lent again */
    assert_int_equal((uint8_t *)mine.data - r.q.txbuf.base, i * HYP_PAGE_SIZE);
    rig_answer(&r, req[0].id, NETIF_RSP_OKAY);
    netqueue_in_flight(&r.q);
    expect_broken(NETQUEUE_BAD_ID);
    assert_int_equal(r.q.txbuf.buf[i].owner, NETBUF_CALLER);
}

/* Nor is it told to have left because it did so before. */
static void test_xsa376_replay_of_an_old_id(void **state)
{
    (void)state;
    netif_tx_request_t req[3];
    uint16_t old = 0;
    for (int turn = 0; turn < 3; turn++) {
        three(req);
        if (turn < 2) {
            old = req[0].id;
            answer_all(req);
            assert_int_equal(netqueue_in_flight(&r.q), 0);
            until_next(rig_buffer(&r, old));
        }
    }
    uint16_t again_in_flight = 0;
    for (int i = 0; i < 3; i++)
        again_in_flight |= rig_buffer(&r, req[i].id) == rig_buffer(&r, old);
    assert_true(again_in_flight);
    expect_fine();
    rig_answer(&r, old, NETIF_RSP_OKAY);
    netqueue_in_flight(&r.q);
    expect_broken(NETQUEUE_BAD_ID);
}

static void test_wrong_status(void **state)
{
    (void)state;
    static const int16_t bad[] = { 2, -3, INT16_MIN, INT16_MAX };
    netif_tx_request_t req[3];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        three(req);
        rig_answer(&r, req[1].id, bad[i]);
        netqueue_in_flight(&r.q);
        expect_broken(NETQUEUE_BAD_STATUS);
        again();
    }
    static const int16_t good[] = { NETIF_RSP_OKAY, NETIF_RSP_ERROR, NETIF_RSP_DROPPED };
    three(req);
    for (int i = 0; i < 3; i++)
        rig_answer(&r, req[i].id, good[i]);
    assert_int_equal(netqueue_in_flight(&r.q), 0);
    expect_fine();
}

/* "No response" is for slots of extra info, and there are as many as were sent. */
static void test_no_response_to_a_packet(void **state)
{
    (void)state;
    netif_tx_request_t req[3];
    three(req);
    rig_answer(&r, req[0].id, NETIF_RSP_NULL);
    netqueue_in_flight(&r.q);
    expect_broken(NETQUEUE_BAD_STATUS);
    again();

    struct netfront_packet p = rig_packet(&r, 0, 2000, NETFRONT_GSO4, 1), plain = rig_packet(&r, 0, 60, 0, 1);
    p.gso_size = 1000;
    assert_int_equal(netqueue_send(&r.q, &p, 1), 1);
    assert_int_equal(netqueue_send(&r.q, &plain, 1), 1);
    rig_answer(&r, 0, NETIF_RSP_NULL); /* control: this one is true */
    assert_int_equal(netqueue_in_flight(&r.q), 2);
    expect_fine();
    rig_answer(&r, 0, NETIF_RSP_NULL);
    netqueue_in_flight(&r.q);
    expect_broken(NETQUEUE_BAD_STATUS);
}

/* More answers than questions, on either ring, however far the index jumps. */
static void test_xsa376_index_lies(void **state)
{
    (void)state;
    static const uint32_t jumps[] = { 4, 255, 256, 257, 1u << 31, UINT32_MAX };
    netif_tx_request_t req[3];
    for (size_t i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
        three(req);
        ring_store(&r.tx.shared->rsp_prod, jumps[i]);
        netqueue_in_flight(&r.q);
        expect_broken(NETQUEUE_BAD_INDEX);
        again();
        three(req);
        ring_store(&r.tx.shared->rsp_prod, jumps[i]);
        netqueue_idle(&r.q); /* as seen by who wants to sleep */
        expect_broken(NETQUEUE_BAD_INDEX);
        again();
    }
    struct netfront_packet out[64];
    static const uint32_t rx_jumps[] = { BUFFERS + 1, 256, 257, 1u << 31, UINT32_MAX };
    for (size_t i = 0; i < sizeof(rx_jumps) / sizeof(rx_jumps[0]); i++) {
        netqueue_idle(&r.q);
        ring_store(&r.rx.shared->rsp_prod, rx_jumps[i]);
        assert_int_equal(netqueue_receive(&r.q, out, 64), 0);
        expect_broken(NETQUEUE_BAD_INDEX);
        again();
        netqueue_receive(&r.q, out, 64);
        ring_store(&r.rx.shared->rsp_prod, rx_jumps[i]);
        assert_int_equal(netqueue_idle(&r.q), 0);
        expect_broken(NETQUEUE_BAD_INDEX);
        again();
    }
    three(req);
    answer_all(req);
    assert_int_equal(netqueue_idle(&r.q), 0);
    expect_fine();
}

/* ---------------------------------------------------------------- receiving */

/* What a backend does with the slots that it has; whether that is caught, as what. */
struct attack {
    const char *name;
    void (*play)(void);
    int lie; /* NETQUEUE_LIES: a control, which works ... */
    int got; /* ... and gives so many elements            */
};

static void run(const struct attack *attacks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct netfront_packet out[64];
        const struct attack *a = &attacks[i];
        netqueue_idle(&r.q);
        rig_fill(&r, 0, 0, 64, 0x77); /* an honest one before it */
        a->play();
        rig_push(&r, &r.rx);
        int got = netqueue_receive(&r.q, out, 64);
        if (got != (a->lie == NETQUEUE_LIES ? a->got + 1 : 1))
            fail_msg("%s: %d elements", a->name, got);
        /* What was received before the lie is the caller's, and as it was. */
        assert_int_equal(out[0].bytes, 64);
        assert_int_equal(*(uint8_t *)out[0].data, 0x77);
        for (int k = 0; k < got; k++) { /* all data lies in buffers */
            size_t at = (size_t)((uint8_t *)out[k].data - r.q.rxbuf.base);
            assert_true(at < BUFFERS * HYP_PAGE_SIZE);
            assert_in_range(out[k].bytes, 1, HYP_PAGE_SIZE - at % HYP_PAGE_SIZE);
        }
        if (a->lie == NETQUEUE_LIES)
            expect_fine();
        else
            expect_broken((enum netqueue_lie)a->lie);
        assert_int_equal(rig_owned(&r.q.rxbuf).by[NETBUF_CALLER], got);
        again();
    }
}

static void give(int id_off, uint16_t offset, uint16_t flags, int16_t status)
{
    rig_give(&r, (uint16_t)(rig_take_rx(&r).id + id_off), offset, flags, status);
}

static void id_before(void) { give(-1, 0, 0, 64); }
static void id_after(void) { give(1, 0, 0, 64); }
static void id_lap(void) { give(256, 0, 0, 64); } /* the same slot, a lap away */
static void id_high(void) { give(0x8000, 0, 0, 64); }
static void id_right(void) { give(0, 0, 0, 64); }
static void id_in_chain(void) { give(0, 0, NETRXF_more_data, 64); give(1, 0, 0, 64); }

static void test_xsa376_received_with_a_wrong_id(void **state)
{
    (void)state;
    static const struct attack attacks[] = {
        { "the slot before", id_before, NETQUEUE_BAD_ID, 0 },
        { "the slot after", id_after, NETQUEUE_BAD_ID, 0 },
        { "a lap ago", id_lap, NETQUEUE_BAD_ID, 0 }, { "far away", id_high, NETQUEUE_BAD_ID, 0 },
        { "in a chain", id_in_chain, NETQUEUE_BAD_ID, 0 }, { "control", id_right, NETQUEUE_LIES, 1 },
    };
    run(attacks, sizeof(attacks) / sizeof(attacks[0]));
}

static void span_byte(void) { give(0, 1, 0, 4096); }
static void span_long(void) { give(0, 0, 0, 4097); }
static void span_longest(void) { give(0, 0, 0, INT16_MAX); }
static void span_far(void) { give(0, 4096, 0, 14); }
static void span_farther(void) { give(0, 4097, 0, 14); }
static void span_farthest(void) { give(0, UINT16_MAX, 0, 14); }
static void span_wraps(void) { give(0, 0xfff2, 0, 14); } /* 65,522 + 14: 0 in sixteen bits */
static void span_chain(void) { give(0, 0, NETRXF_more_data, 64); give(0, 4090, 0, 7); }
static void span_runt(void) { give(0, 4096, 0, 1); }
static void span_exact(void) { give(0, 4096 - 14, 0, 14); give(0, 0, 0, 4096); }

/* XSA-155 and the hardening after XSA-376: data that is not in its buffer would be
 * read from the ring of another queue, or from private memory. */
static void test_xsa376_received_outside_of_its_buffer(void **state)
{
    (void)state;
    static const struct attack attacks[] = {
        { "a byte too long", span_byte, NETQUEUE_BAD_SPAN, 0 }, { "longer", span_long, NETQUEUE_BAD_SPAN, 0 },
        { "longest", span_longest, NETQUEUE_BAD_SPAN, 0 }, { "at the end", span_far, NETQUEUE_BAD_SPAN, 0 },
        { "past the end", span_farther, NETQUEUE_BAD_SPAN, 0 },
        { "far past it", span_farthest, NETQUEUE_BAD_SPAN, 0 }, { "wraps", span_wraps, NETQUEUE_BAD_SPAN, 0 },
        { "in a chain", span_chain, NETQUEUE_BAD_SPAN, 0 },
        { "too short as well", span_runt, NETQUEUE_BAD_SPAN, 0 },
        { "control", span_exact, NETQUEUE_LIES, 2 },
    };
    run(attacks, sizeof(attacks) / sizeof(attacks[0]));
}

static void status_none(void) { give(0, 0, 0, 0); }
static void status_odd(void) { give(0, 0, 0, -3); }
static void status_low(void) { give(0, 0, 0, INT16_MIN); }
static void status_in_chain(void) { give(0, 0, NETRXF_more_data, 64); give(0, 0, 0, 0); }
static void status_error(void) { give(0, 0, 0, NETIF_RSP_ERROR); give(0, 0, 0, NETIF_RSP_DROPPED); }

static void test_received_with_a_wrong_status(void **state)
{
    (void)state;
    static const struct attack attacks[] = {
        { "nothing", status_none, NETQUEUE_BAD_STATUS, 0 }, { "-3", status_odd, NETQUEUE_BAD_STATUS, 0 },
        { "lowest", status_low, NETQUEUE_BAD_STATUS, 0 },
        { "nothing in a chain", status_in_chain, NETQUEUE_BAD_STATUS, 0 },
        { "control", status_error, NETQUEUE_LIES, 0 },
    };
    run(attacks, sizeof(attacks) / sizeof(attacks[0]));
}

static void flag_prefix(void) { give(0, 0, NETRXF_gso_prefix, 64); }
static void flag_unknown(void) { give(0, 0, 0x20, 64); }
static void flag_high(void) { give(0, 0, 0x8000, 64); }
static void flag_late_csum(void) { give(0, 0, NETRXF_more_data, 64); give(0, 0, NETRXF_csum_blank, 64); }
static void flag_late_extra(void) { give(0, 0, NETRXF_more_data, 64); give(0, 0, NETRXF_extra_info, 64); }
static void flag_csum(void) { give(0, 0, NETRXF_csum_blank | NETRXF_data_validated, 64); }

static void test_received_with_flags_that_mean_nothing(void **state)
{
    (void)state;
    static const struct attack attacks[] = {
        { "a prefix that was not agreed", flag_prefix, NETQUEUE_BAD_FLAGS, 0 },
        { "unknown", flag_unknown, NETQUEUE_BAD_FLAGS, 0 },
        { "unknown, high", flag_high, NETQUEUE_BAD_FLAGS, 0 },
        { "checksum in the middle", flag_late_csum, NETQUEUE_BAD_FLAGS, 0 },
        { "extra info in the middle", flag_late_extra, NETQUEUE_BAD_FLAGS, 0 },
        { "control", flag_csum, NETQUEUE_LIES, 1 },
    };
    run(attacks, sizeof(attacks) / sizeof(attacks[0]));
}

static void with_extra(struct netif_extra_info extra)
{
    give(0, 0, NETRXF_extra_info | NETRXF_csum_blank, 2000);
    rig_extra(&r, extra);
}

static struct netif_extra_info extra_of(uint8_t type, uint8_t flags)
{
    struct netif_extra_info extra = rig_gso(XEN_NETIF_GSO_TYPE_TCPV4, 1000);
    extra.type = type;
    extra.flags = flags;
    return extra;
}

static void extra_none(void) { with_extra(extra_of(XEN_NETIF_EXTRA_TYPE_NONE, 0)); }
static void extra_mcast(void) { with_extra(extra_of(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 0)); }
static void extra_hash(void) { with_extra(extra_of(XEN_NETIF_EXTRA_TYPE_HASH, 0)); }
static void extra_unknown(void) { with_extra(extra_of(255, 0)); }
static void extra_flag(void) { with_extra(extra_of(XEN_NETIF_EXTRA_TYPE_GSO, 0x80)); }
static void extra_size(void) { with_extra(rig_gso(XEN_NETIF_GSO_TYPE_TCPV4, 0)); }
static void extra_kind(void) { with_extra(rig_gso(XEN_NETIF_GSO_TYPE_NONE, 1000)); }
static void extra_kind_unknown(void) { with_extra(rig_gso(3, 1000)); }
static void extra_good(void) { with_extra(rig_gso(XEN_NETIF_GSO_TYPE_TCPV4, 1)); }
static void extra_endless(void)
{
    give(0, 0, NETRXF_extra_info, 2000);
    while (ring_back_waiting(&r.rx) > 0)
        rig_extra(&r, extra_of(XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_FLAG_MORE));
}

static void test_received_with_wrong_extra_info(void **state)
{
    (void)state;
    static const struct attack attacks[] = {
        { "of no type", extra_none, NETQUEUE_BAD_EXTRA, 0 },
        { "multicast", extra_mcast, NETQUEUE_BAD_EXTRA, 0 },
        { "hash", extra_hash, NETQUEUE_BAD_EXTRA, 0 }, { "type 255", extra_unknown, NETQUEUE_BAD_EXTRA, 0 },
        { "unknown flag", extra_flag, NETQUEUE_BAD_EXTRA, 0 },
        { "no size", extra_size, NETQUEUE_BAD_EXTRA, 0 },
        { "segments of nothing", extra_kind, NETQUEUE_BAD_EXTRA, 0 },
        { "segments of kind 3", extra_kind_unknown, NETQUEUE_BAD_EXTRA, 0 },
        { "without end", extra_endless, NETQUEUE_BAD_EXTRA, 0 }, { "control", extra_good, NETQUEUE_LIES, 1 },
    };
    run(attacks, sizeof(attacks) / sizeof(attacks[0]));
}

static void chain(unsigned slots, int16_t bytes, bool end)
{
    for (unsigned i = 1; i <= slots; i++)
        give(0, 0, end && i == slots ? 0 : NETRXF_more_data, bytes);
}

static void chain_19(void) { chain(19, 100, true); }
static void chain_endless(void) { chain(BUFFERS - 1, 100, false); }
static void chain_bytes(void) { chain(16, 4096, true); } /* 65,536 */
static void chain_bytes_most(void) { chain(18, 4096, true); }
static void chain_cut(void) { chain(3, 100, false); }
static void chain_cut_at_once(void) { chain(1, 100, false); }
static void chain_cut_extra(void) { give(0, 0, NETRXF_extra_info, 100); }
static void chain_cut_after_extra(void)
{
    give(0, 0, NETRXF_extra_info | NETRXF_more_data, 100);
    rig_extra(&r, rig_gso(XEN_NETIF_GSO_TYPE_TCPV4, 50));
}
static void chain_cut_error(void) { give(0, 0, NETRXF_more_data, NETIF_RSP_ERROR); }
static void chain_18(void) { chain(18, 3640, true); } /* 65,520 */

static void test_received_in_a_chain_without_bounds(void **state)
{
    (void)state;
    static const struct attack attacks[] = {
        { "19 slots", chain_19, NETQUEUE_LONG_CHAIN, 0 },
        { "all slots", chain_endless, NETQUEUE_LONG_CHAIN, 0 },
        { "65,536 bytes", chain_bytes, NETQUEUE_LONG_CHAIN, 0 },
        { "73,728 bytes", chain_bytes_most, NETQUEUE_LONG_CHAIN, 0 },
        { "no last slot", chain_cut, NETQUEUE_SHORT_CHAIN, 0 },
        { "only the first slot", chain_cut_at_once, NETQUEUE_SHORT_CHAIN, 0 },
        { "no extra info", chain_cut_extra, NETQUEUE_SHORT_CHAIN, 0 },
        { "nothing after it", chain_cut_after_extra, NETQUEUE_SHORT_CHAIN, 0 },
        { "cut by an error", chain_cut_error, NETQUEUE_SHORT_CHAIN, 0 },
        { "control", chain_18, NETQUEUE_LIES, 18 },
    };
    run(attacks, sizeof(attacks) / sizeof(attacks[0]));
}

/* No offload was offered, so none may come. */
static void test_offload_that_was_refused(void **state)
{
    (void)state;
    static void (*const plays[])(void) = { flag_csum, extra_good, id_right };
    static const int lies[] = { NETQUEUE_BAD_FLAGS, NETQUEUE_BAD_FLAGS, NETQUEUE_LIES };
    struct netfront_packet out[4];
    for (int i = 0; i < 3; i++) {
        r.terms.rx_offload = false;
        netqueue_idle(&r.q);
        plays[i]();
        rig_push(&r, &r.rx);
        assert_int_equal(netqueue_receive(&r.q, out, 4), lies[i] == NETQUEUE_LIES);
        if (lies[i] == NETQUEUE_LIES)
            expect_fine();
        else
            expect_broken((enum netqueue_lie)lies[i]);
        again();
    }
    r.terms.rx_offload = false;
    netqueue_idle(&r.q);
    give(0, 0, NETRXF_extra_info, 2000);
    rig_extra(&r, rig_gso(XEN_NETIF_GSO_TYPE_TCPV4, 1000));
    rig_push(&r, &r.rx);
    assert_int_equal(netqueue_receive(&r.q, out, 4), 0);
    expect_broken(NETQUEUE_BAD_EXTRA);
}

/* ------------------------------------------------------------- memory, doorbells */

/* XSA-155, in its frontend half: what was checked must be what is used. The backend
 * rewrites both rings at will; nothing that we wrote is read again. */
static void test_xsa155_shared_rings_are_never_read_back(void **state)
{
    (void)state;
    netif_tx_request_t req[3];
    struct netfront_packet out[2];
    three(req);
    uint16_t id = rig_take_rx(&r).id;
    memset(r.tx.slots, 0xff, NET_RING_SLOTS * NET_TX_SLOT_BYTES);
    memset(r.rx.slots, 0xff, NET_RING_SLOTS * NET_RX_SLOT_BYTES);
    ring_store(&r.tx.shared->req_prod, 0xdeadbeef); /* ours: we know what we wrote */
    ring_store(&r.rx.shared->req_prod, 0xdeadbeef);
    answer_all(req);
    rig_give(&r, id, 0, 0, 64);
    rig_push(&r, &r.rx);
    assert_int_equal(netqueue_receive(&r.q, out, 2), 1);
    netqueue_release(&r.q, out, 1);
    assert_int_equal(netqueue_in_flight(&r.q), 0);
    struct netfront_packet p = rig_packet(&r, 0, 64, 0, 1);
    assert_int_equal(netqueue_send(&r.q, &p, 1), 1);
    netqueue_idle(&r.q);
    assert_int_equal(ring_load(&r.tx.shared->req_prod), 4); /* from the private index */
    assert_int_equal(ring_load(&r.rx.shared->req_prod), BUFFERS + 1);
    expect_fine();
}

/* XSA-155: a response that changes after it was looked at changes nothing. */
static void test_xsa155_a_response_is_read_once(void **state)
{
    (void)state;
    struct netfront_packet out[4];
    netqueue_idle(&r.q);
    for (int i = 0; i < 3; i++)
        rig_fill(&r, 0, i == 0 ? NETRXF_more_data : 0, 64, (uint8_t)i);
    rig_push(&r, &r.rx);
    assert_int_equal(netqueue_receive(&r.q, out, 1), -EMSGSIZE); /* looked at, not delivered */
    memset(r.rx.slots, 0xff, 2 * NET_RX_SLOT_BYTES);
    assert_int_equal(netqueue_receive(&r.q, out, 2), 2);
    assert_int_equal(out[0].bytes, 64);
    assert_int_equal(out[1].bytes, 64);
    assert_int_equal(netqueue_receive(&r.q, out + 2, 2), 1);
    expect_fine();
}

/* XSA-391 (CVE-2021-28712): a backend that rings and rings. Each ring costs one look, and
 * after a thousand without a response between them the connection is broken. */
static void storm(unsigned channel)
{
    int turns = 0;
    netqueue_idle(&r.q);
    for (; turns < 5000 && !r.q.counters.lies[NETQUEUE_STORM]; turns++) {
        hyp_evtchn_notify(r.doorbell[channel]);
        netqueue_wait(&r.q, 0);
    }
    assert_in_range(turns, 500, 2000);
    expect_broken(NETQUEUE_STORM);
}

static void test_xsa391_doorbell_storm(void **state)
{
    (void)state;
    storm(0);
    again();
    storm(1);
}

static void test_xsa391_control_rings_with_packets(void **state)
{
    (void)state;
    struct netfront_packet out[1];
    netqueue_idle(&r.q);
    for (int i = 0; i < 5000; i++) {
        hyp_evtchn_notify(r.doorbell[0]); /* one for nothing, each time */
        netqueue_wait(&r.q, 0);
        rig_fill(&r, 0, 0, 64, 1);
        rig_push(&r, &r.rx);
        netqueue_wait(&r.q, 0);
        assert_int_equal(netqueue_receive(&r.q, out, 1), 1);
        netqueue_release(&r.q, out, 1);
        netqueue_idle(&r.q);
    }
    expect_fine();
}

/* XSA-396 (CVE-2022-23037, -23042): grants must have ended before their pages are anything else;
 * a pool that the backend keeps mapped is not given back. */
static void test_xsa396_mapped_pool_is_not_freed(void **state)
{
    (void)state;
    void *va;
    grant_ref_t ref = hyp_pool_ref(r.sides.pool, 0);
    assert_int_equal(hyp_map_grants(r.sides.map, &ref, 1, 0, &va), 0);
    queue_stop(&r.q.queue);
    assert_int_equal(hyp_pool_end(r.sides.pool), -EBUSY);
    memset(hyp_pool_base(r.sides.pool), 1, HYP_PAGE_SIZE); /* the memory is still ours */
    assert_int_equal(*(uint8_t *)va, 1);
    assert_int_equal(hyp_unmap_grants(r.sides.map, va, 1), 0);
    /* control: rig_down() lets go of all, and then it can be ended */
}

/* Leaves marks on the stack, where the next call will have its variables. */
__attribute__((noinline)) static void mark_stack(void)
{
    volatile uint8_t stack[8192];
    for (size_t i = 0; i < sizeof(stack); i++)
        stack[i] = 0xa5;
}

/* XSA-403 (CVE-2022-33740, -33741): no memory but what a packet names.  Only whole pages
 * of the pool are ever granted, a request names its bytes only, and no byte of our
 * stack reaches a ring. */
static void test_xsa403_nothing_beside_the_packet(void **state)
{
    (void)state;
    static uint8_t secret[8192];
    memset(secret, 0xa5, sizeof(secret)); /* private memory: not in the pool */
    netqueue_idle(&r.q);
    struct netfront_packet p[3] = { rig_packet(&r, 100, 200, NETFRONT_GSO4 | NETFRONT_MORE, 1),
                                    rig_packet(&r, 0, 64, 0, 2), { .data = secret, .bytes = 64 } }, out[2];
    p[0].gso_size = 100;
    assert_int_equal(netqueue_send(&r.q, p + 2, 1), -EINVAL);
    mark_stack();
    assert_int_equal(netqueue_send(&r.q, p, 2), 2);
    rig_fill(&r, 0, 0, 64, 1);
    rig_push(&r, &r.rx);
    assert_int_equal(netqueue_receive(&r.q, out, 2), 1);
    mark_stack();
    netqueue_release(&r.q, out, 1);
    netqueue_idle(&r.q);

    netif_tx_request_t req = rig_take(&r);
    assert_int_equal(req.offset, 100);
    assert_int_equal(req.size, 264);
    size_t shared = NETQUEUE_RING_PAGES * HYP_PAGE_SIZE, marks = 0;
    for (size_t i = 0; i < shared; i++)
        marks += r.view[i] == 0xa5;
    assert_int_equal(marks, 0);
    /* control: the search finds what is there */
    ((uint8_t *)hyp_pool_base(r.sides.pool))[shared - 1] = 0xa5;
    for (size_t i = marks = 0; i < shared; i++)
        marks += r.view[i] == 0xa5;
    assert_int_equal(marks, 1);
}

#define ON(test) cmocka_unit_test_setup_teardown(test, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(test_xsa376_id_of_no_packet),
        ON(test_xsa376_the_same_answer_twice),
        ON(test_xsa376_answer_for_a_buffer_of_the_caller),
        ON(test_xsa376_replay_of_an_old_id),
        ON(test_wrong_status),
        ON(test_no_response_to_a_packet),
        ON(test_xsa376_index_lies),
        ON(test_xsa376_received_with_a_wrong_id),
        ON(test_xsa376_received_outside_of_its_buffer),
        ON(test_received_with_a_wrong_status),
        ON(test_received_with_flags_that_mean_nothing),
        ON(test_received_with_wrong_extra_info),
        ON(test_received_in_a_chain_without_bounds),
        ON(test_offload_that_was_refused),
        ON(test_xsa155_shared_rings_are_never_read_back),
        ON(test_xsa155_a_response_is_read_once),
        ON(test_xsa391_doorbell_storm),
        ON(test_xsa391_control_rings_with_packets),
        ON(test_xsa396_mapped_pool_is_not_freed),
        ON(test_xsa403_nothing_beside_the_packet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
