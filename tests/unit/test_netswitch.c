/* SPDX-License-Identifier: MIT */
/* Which way a frame goes, each rule with its control. */
#include "test_net.h"

static uint8_t frame[FRAME_MAX];
static struct got got;

static const struct net_counters *counters(const struct guest *g)
{
    return net_queue_counters(g->q);
}

/* Sends one frame from g and lets everything run. */
static void send_frame(struct rig *r, struct guest *g, uint32_t bytes)
{
    netif_tx_response_t rsp;
    put_frame(g, 0, frame, bytes, 0);
    ring_front_push(&g->tx);
    rig_run(r);
    while (take_answer(g, &rsp))
        ;
}

static void send_plain(struct rig *r, struct guest *from, const uint8_t *to)
{
    send_frame(r, from, plain_frame(frame, to, from->port.mac, 64));
}

static void send_tagged(struct rig *r, struct guest *from, const uint8_t *to, uint16_t tag)
{
    send_frame(r, from, tagged_frame(frame, to, from->port.mac, tag, 64));
}

/* How many frames a guest got, all of them taken. */
static unsigned got_frames(struct guest *g)
{
    unsigned n = 0;
    while (take_frame(g, &got))
        n++;
    return n;
}

static struct guest *guest(struct rig *r, const struct guest_options *o)
{
    struct guest *g = rig_guest(r, o);
    post_buffers(g, 200);
    return g;
}

static void unicast_goes_to_one(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *a = guest(&r, &(struct guest_options){ 0 }), *b = guest(&r, &(struct guest_options){ 0 });
    struct guest *c = guest(&r, &(struct guest_options){ 0 });
    send_plain(&r, a, b->port.mac);
    assert_int_equal(got_frames(b), 1);
    assert_int_equal(got_frames(c), 0);
    assert_int_equal(got_frames(a), 0);
    assert_int_equal(wire_count(), 0);
    send_plain(&r, a, OUTSIDE);
    assert_int_equal(got_frames(b) + got_frames(c), 0);
    assert_int_equal(wire_count(), 1);
    rig_close(&r);
}

static void broadcast_goes_to_all_others(void **state)
{
    (void)state;
    static const uint8_t group[NET_MAC_BYTES] = { 0x01, 0x00, 0x5e, 1, 2, 3 };
    struct rig r;
    rig_open(&r, true);
    struct guest *a = guest(&r, &(struct guest_options){ 0 }), *b = guest(&r, &(struct guest_options){ 0 });
    struct guest *c = guest(&r, &(struct guest_options){ 0 });
    for (unsigned i = 0; i < 2; i++) {
        send_plain(&r, a, i ? group : EVERYONE);
        assert_int_equal(got_frames(a), 0);
        assert_int_equal(got_frames(b), 1);
        assert_memory_equal(got.frame, frame, 64);
        assert_int_equal(got_frames(c), 1);
        assert_int_equal(wire_count(), 1);
    }
    wire_send(frame, plain_frame(frame, EVERYONE, OUTSIDE, 64));
    rig_run(&r);
    assert_int_equal(got_frames(a) + got_frames(b) + got_frames(c), 3);
    assert_int_equal(wire_count(), 0);
    rig_close(&r);
}

static void without_uplink_there_is_no_way_out(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, false);
    struct guest *a = guest(&r, &(struct guest_options){ 0 }), *b = guest(&r, &(struct guest_options){ 0 });
    send_plain(&r, a, OUTSIDE);
    assert_int_equal(counters(a)->no_port, 1);
    send_plain(&r, a, EVERYONE);
    assert_int_equal(got_frames(b), 1);
    assert_int_equal(counters(a)->no_port, 1);
    rig_close(&r);
}

static void to_itself_goes_nowhere(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *a = guest(&r, &(struct guest_options){ 0 });
    send_plain(&r, a, a->port.mac);
    assert_int_equal(got_frames(a), 0);
    assert_int_equal(wire_count(), 0);
    assert_int_equal(counters(a)->no_port, 1);
    rig_close(&r);
}

static void forged_addresses_are_dropped(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *a = guest(&r, &(struct guest_options){ 0 }), *b = guest(&r, &(struct guest_options){ 0 });
    for (unsigned byte = 0; byte < NET_MAC_BYTES; byte++) {
        uint8_t mac[NET_MAC_BYTES];
        memcpy(mac, a->port.mac, sizeof(mac));
        mac[byte] ^= 0x10;
        send_frame(&r, a, plain_frame(frame, b->port.mac, mac, 64));
        assert_int_equal(counters(a)->forged_mac, byte + 1);
    }
    send_frame(&r, a, plain_frame(frame, OUTSIDE, b->port.mac, 64)); /* a real one, but another's */
    assert_int_equal(counters(a)->forged_mac, NET_MAC_BYTES + 1);
    assert_int_equal(got_frames(b), 0);
    assert_int_equal(wire_count(), 0);
    send_plain(&r, a, b->port.mac);
    assert_int_equal(got_frames(b), 1);
    rig_close(&r);
}

static void our_addresses_do_not_come_from_outside(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *a = guest(&r, &(struct guest_options){ 0 }),
                 *b = guest(&r, &(struct guest_options){ .pvid = 5 });
    wire_send(frame, plain_frame(frame, a->port.mac, b->port.mac, 64)); /* from another VLAN's vif too */
    wire_send(frame, plain_frame(frame, a->port.mac, EVERYONE, 64));    /* no one's address */
    rig_run(&r);
    assert_int_equal(r.up.count.rx_forged, 2);
    assert_int_equal(got_frames(a), 0);
    wire_send(frame, plain_frame(frame, a->port.mac, OUTSIDE, 64));
    rig_run(&r);
    assert_int_equal(got_frames(a), 1);
    rig_close(&r);
}

static void frames_for_nobody_and_short_ones_are_counted(void **state)
{
    (void)state;
    static const uint8_t nobody[NET_MAC_BYTES] = { 0x52, 0x54, 9, 9, 9, 9 };
    struct rig r;
    rig_open(&r, true);
    struct guest *a = guest(&r, &(struct guest_options){ 0 });
    wire_send(frame, plain_frame(frame, nobody, OUTSIDE, 64));
    wire_send(frame, 13);
    rig_run(&r);
    assert_int_equal(r.up.count.rx_no_port, 1);
    assert_int_equal(r.up.count.rx_short, 1);
    assert_int_equal(got_frames(a), 0);
    rig_close(&r);
}

/* ----------------------------------------------------------------------- isolation */

static void isolated_vifs_do_not_reach_each_other(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *a = guest(&r, &(struct guest_options){ .isolated = true });
    struct guest *b = guest(&r, &(struct guest_options){ .isolated = true });
    struct guest *c = guest(&r, &(struct guest_options){ 0 });
    send_plain(&r, a, b->port.mac);
    assert_int_equal(counters(a)->isolated, 1);
    send_plain(&r, a, EVERYONE);
    assert_int_equal(got_frames(b), 0);
    assert_int_equal(got_frames(c), 1); /* the control */
    assert_int_equal(wire_count(), 1);
    send_plain(&r, a, c->port.mac);
    assert_int_equal(got_frames(c), 1);
    send_plain(&r, c, a->port.mac);
    assert_int_equal(got_frames(a), 1);
    send_plain(&r, c, EVERYONE);
    assert_int_equal(got_frames(a) + got_frames(b), 2);
    wire_count();
    rig_close(&r);
}

/* ----------------------------------------------------------------------------- VLAN */

static void vlans_are_apart(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *none = guest(&r, &(struct guest_options){ 0 });
    struct guest *five = guest(&r, &(struct guest_options){ .pvid = 5 });
    struct guest *five2 = guest(&r, &(struct guest_options){ .pvid = 5 });
    struct guest *six = guest(&r, &(struct guest_options){ .pvid = 6 });
    send_plain(&r, five, EVERYONE);
    assert_int_equal(got_frames(none) + got_frames(six), 0);
    assert_int_equal(got_frames(five2), 1);
    struct rte_mbuf *m = wire_take();
    assert_non_null(m);
    assert_int_equal(m->pkt_len, 68);
    assert_int_equal(load_be16(packet_data(m) + 12), ETHERTYPE_VLAN);
    assert_int_equal(load_be16(packet_data(m) + 14), 5);
    assert_memory_equal(packet_data(m) + 16, frame + 12, 52);
    assert_memory_equal(packet_data(m), frame, 12);
    rte_pktmbuf_free(m);
    /* Another VLAN's vif is unknown: its frame goes out in the sender's VLAN. */
    send_plain(&r, five, six->port.mac);
    assert_int_equal(got_frames(six), 0);
    assert_int_equal(wire_count(), 1);
    send_plain(&r, five, five2->port.mac);
    assert_int_equal(got_frames(five2), 1);
    rig_close(&r);
}

static void tags_from_the_uplink_choose_the_vlan(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *none = guest(&r, &(struct guest_options){ 0 });
    struct guest *five = guest(&r, &(struct guest_options){ .pvid = 5 });
    wire_send(frame, tagged_frame(frame, five->port.mac, OUTSIDE, 5, 64));
    rig_run(&r);
    assert_int_equal(got_frames(five), 1);
    assert_int_equal(got.bytes, 60);
    assert_memory_equal(got.frame + 12, frame + 16, 48);
    wire_send(frame, tagged_frame(frame, EVERYONE, OUTSIDE, 0x6005, 64)); /* with a priority */
    rig_run(&r);
    assert_int_equal(got_frames(five), 1);
    assert_int_equal(got_frames(none), 0);
    wire_send(frame, plain_frame(frame, five->port.mac, OUTSIDE, 64));
    wire_send(frame, tagged_frame(frame, none->port.mac, OUTSIDE, 5, 64));
    wire_send(frame, tagged_frame(frame, none->port.mac, OUTSIDE, 0, 64)); /* a priority only */
    rig_run(&r);
    assert_int_equal(got_frames(five), 0);
    assert_int_equal(got_frames(none), 1);
    assert_int_equal(r.up.count.rx_no_port, 2);
    /* VLANs of nobody, the reserved one, a tag in a tag */
    wire_send(frame, tagged_frame(frame, EVERYONE, OUTSIDE, 6, 64));
    wire_send(frame, tagged_frame(frame, EVERYONE, OUTSIDE, 4095, 64));
    tagged_frame(frame, EVERYONE, OUTSIDE, 5, 64);
    store_be16(frame + 16, ETHERTYPE_VLAN);
    wire_send(frame, 64);
    rig_run(&r);
    assert_int_equal(r.up.count.rx_bad_vlan, 3);
    assert_int_equal(got_frames(five) + got_frames(none), 0);
    rig_close(&r);
}

/* What the port has taken out of the frame counts as well. */
static void a_tag_that_the_port_took_out(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *five = guest(&r, &(struct guest_options){ .pvid = 5 });
    struct rte_mbuf *m = packet_new(0, plain_frame(frame, five->port.mac, OUTSIDE, 64));
    memcpy(packet_data(m), frame, 64);
    m->ol_flags = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
    m->vlan_tci = 0x2005;
    assert_int_equal(rte_ring_enqueue(eal.from_wire, m), 0);
    rig_run(&r);
    assert_int_equal(got_frames(five), 1);
    rig_close(&r);
}

static void untagged_vifs_may_not_tag(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *none = guest(&r, &(struct guest_options){ 0 });
    struct guest *five = guest(&r, &(struct guest_options){ .pvid = 5 });
    send_tagged(&r, none, OUTSIDE, 5);
    send_tagged(&r, none, OUTSIDE, 0);
    assert_int_equal(counters(none)->bad_vlan, 2);
    send_tagged(&r, five, OUTSIDE, 5);
    send_tagged(&r, five, OUTSIDE, 6);
    assert_int_equal(counters(five)->bad_vlan, 2);
    tagged_frame(frame, OUTSIDE, none->port.mac, 5, 64);
    store_be16(frame + 12, ETHERTYPE_QINQ);
    send_frame(&r, none, 64);
    assert_int_equal(counters(none)->bad_vlan, 3);
    assert_int_equal(wire_count(), 0);
    rig_close(&r);
}

static void a_trunk_sends_what_it_may(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *t = guest(&r, &(struct guest_options){ .trunk = true, .vlans = { 42, 100 } });
    struct guest *n = guest(&r, &(struct guest_options){ .trunk = true, .pvid = 7, .vlans = { 42 } });
    struct guest *a = guest(&r, &(struct guest_options){ .pvid = 42 });
    struct guest *s = guest(&r, &(struct guest_options){ .pvid = 7 });
    send_tagged(&r, t, a->port.mac, 42);
    assert_int_equal(got_frames(a), 1);
    assert_int_equal(got.bytes, 60); /* without the tag: it is a's own VLAN */
    send_tagged(&r, t, n->port.mac, 42);
    assert_int_equal(got_frames(n), 1);
    assert_int_equal(got.bytes, 64); /* with it */
    assert_memory_equal(got.frame, frame, 64);
    send_tagged(&r, t, OUTSIDE, 100);
    struct rte_mbuf *m = wire_take();
    assert_non_null(m);
    assert_memory_equal(packet_data(m), frame, 64);
    rte_pktmbuf_free(m);
    /* What it may not: untagged without a VLAN for it, another VLAN, a tag in a tag */
    send_plain(&r, t, OUTSIDE);
    send_tagged(&r, t, OUTSIDE, 0);
    send_tagged(&r, t, OUTSIDE, 43);
    send_tagged(&r, t, OUTSIDE, 4095);
    tagged_frame(frame, OUTSIDE, t->port.mac, 42, 64);
    store_be16(frame + 16, ETHERTYPE_VLAN);
    send_frame(&r, t, 64);
    assert_int_equal(counters(t)->bad_vlan, 5);
    assert_int_equal(wire_count(), 0);
    /* With one: untagged and priority-tagged frames are in it. */
    send_plain(&r, n, s->port.mac);
    send_tagged(&r, n, s->port.mac, 0);
    send_tagged(&r, n, s->port.mac, 7);
    assert_int_equal(got_frames(s), 3);
    send_plain(&r, s, n->port.mac);
    assert_int_equal(got_frames(n), 1);
    assert_int_equal(got.bytes, 64);
    rig_close(&r);
}

/* One broadcast, three shapes: with tag, without, and tagged on the wire. */
static void each_gets_a_broadcast_in_its_own_shape(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *t = guest(&r, &(struct guest_options){ .trunk = true, .vlans = { 42 } });
    struct guest *a = guest(&r, &(struct guest_options){ .pvid = 42 });
    struct guest *b = guest(&r, &(struct guest_options){ .pvid = 42 });
    send_plain(&r, a, EVERYONE);
    assert_int_equal(got_frames(t), 1);
    assert_int_equal(got.bytes, 68);
    assert_int_equal(load_be16(got.frame + 14), 42);
    assert_int_equal(got_frames(b), 1);
    assert_int_equal(got.bytes, 64);
    assert_memory_equal(got.frame, frame, 64);
    struct rte_mbuf *m = wire_take();
    assert_non_null(m);
    assert_int_equal(m->pkt_len, 68);
    rte_pktmbuf_free(m);
    rig_close(&r);
}

/* The same address in two VLANs is two vifs. */
static void one_address_in_two_vlans(void **state)
{
    (void)state;
    struct net_switch *s = calloc(1, sizeof(*s));
    struct net_port p[2] = { { .index = 3, .pvid = 5, .mac = { 2, 1, 1, 1, 1, 1 } },
                             { .index = 4, .pvid = 6, .mac = { 2, 1, 1, 1, 1, 1 } } };
    uint64_t mac = mac_number(p[0].mac) << 16;
    net_switch_init(s);
    assert_true(net_switch_add(s, &p[0]));
    assert_true(net_switch_add(s, &p[1]));
    assert_false(net_switch_add(s, &p[1]));
    assert_ptr_equal(net_switch_find(s, mac | 5), &p[0]);
    assert_ptr_equal(net_switch_find(s, mac | 6), &p[1]);
    assert_null(net_switch_find(s, mac));
    assert_null(net_switch_find(s, mac | 7));
    net_switch_remove(s, &p[0]);
    assert_null(net_switch_find(s, mac | 5));
    assert_ptr_equal(net_switch_find(s, mac | 6), &p[1]);
    assert_true(net_switch_owns(s, mac >> 16));
    net_switch_remove(s, &p[1]);
    assert_false(net_switch_owns(s, mac >> 16));
    free(s);
}

/* As many vifs as there may be, added and removed in any order. */
static void the_table_holds_all_vifs(void **state)
{
    (void)state;
    static struct net_port p[NET_PORTS_MAX];
    struct net_switch *s = calloc(1, sizeof(*s));
    net_switch_init(s);
    for (unsigned i = 0; i < NET_PORTS_MAX; i++) {
        p[i] =
            (struct net_port){ .index = (uint16_t)i, .mac = { 2, 0, (uint8_t)(i / 16), 0, 0, (uint8_t)i } };
        assert_true(net_switch_add(s, &p[i]));
    }
    struct net_port extra = { .index = NET_PORTS_MAX };
    assert_false(net_switch_add(s, &extra));
    for (unsigned i = 0; i < NET_PORTS_MAX; i += 2)
        net_switch_remove(s, &p[i]);
    for (unsigned i = 0; i < NET_PORTS_MAX; i++)
        assert_ptr_equal(net_switch_find(s, mac_number(p[i].mac) << 16), i % 2 ? &p[i] : NULL);
    assert_int_equal(s->members[0], NET_PORTS_MAX / 2);
    for (unsigned i = 1; i < NET_PORTS_MAX; i += 2)
        net_switch_remove(s, &p[i]);
    assert_int_equal(s->members[0], 0);
    free(s);
}

/* ------------------------------------------------------------------------- learning */

static void addresses_are_learned_and_forgotten(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *a = guest(&r, &(struct guest_options){ 0 });
    uint64_t outside = mac_number(OUTSIDE);
    wire_send(frame, plain_frame(frame, a->port.mac, OUTSIDE, 64));
    wire_send(frame, plain_frame(frame, a->port.mac, OUTSIDE, 64));
    rig_run(&r);
    assert_int_equal(r.up.count.learned, 1);
    assert_true(net_switch_learned(&r.w->table, outside, 0, r.now));
    assert_false(net_switch_learned(&r.w->table, outside, 1, r.now));
    assert_true(net_switch_learned(&r.w->table, outside, 0, r.now + SWITCH_AGE_NS - 1));
    assert_false(net_switch_learned(&r.w->table, outside, 0, r.now + SWITCH_AGE_NS));
    r.now += SWITCH_AGE_NS - 1;
    wire_send(frame, plain_frame(frame, a->port.mac, OUTSIDE, 64)); /* heard again in time */
    rig_run(&r);
    assert_int_equal(r.up.count.learned, 1);
    r.now += SWITCH_AGE_NS;
    wire_send(frame, plain_frame(frame, a->port.mac, OUTSIDE, 64));
    rig_run(&r);
    assert_int_equal(r.up.count.learned, 2);
    /* Forged ones are not learned. */
    assert_false(net_switch_learned(&r.w->table, mac_number(a->port.mac), 0, r.now));
    rig_close(&r);
}

/* More addresses than it has room for: the ones heard last are kept. */
static void the_oldest_is_forgotten_first(void **state)
{
    (void)state;
    struct net_switch *s = calloc(1, sizeof(*s));
    unsigned known = 0;
    net_switch_init(s);
    for (uint64_t i = 1; i <= 100000; i++)
        net_switch_learn(s, i << 8, 0, i);
    for (uint64_t i = 1; i <= 100000; i++)
        known += net_switch_learned(s, i << 8, 0, 100000);
    assert_int_equal(known, SWITCH_SETS * SWITCH_WAYS);
    assert_true(net_switch_learned(s, 100000 << 8, 0, 100000));
    assert_false(net_switch_learned(s, 1 << 8, 0, 100000));
    free(s);
}

/* -------------------------------------------------------------------------- pressure */

/* The uplink takes no more: guests wait in their rings; once it is stuck, frames are dropped by
 * name, and other ways stay open. */
static void a_full_uplink_holds_then_drops(void **state)
{
    (void)state;
    struct rig r;
    netif_tx_response_t rsp;
    rig_open(&r, true);
    struct guest *a = guest(&r, &(struct guest_options){ 0 }), *b = guest(&r, &(struct guest_options){ 0 });
    plain_frame(guest_page(a, TX_DATA), OUTSIDE, a->port.mac, 64);
    unsigned sent = 0;
    for (unsigned i = 0; i < 1000; i++) { /* more than fit */
        if (ring_front_free(&a->tx) > 0)
            put_slot(a, (uint16_t)i, TX_DATA, 0, 64, 0);
        ring_front_push(&a->tx);
        rig_turn(&r);
        while (take_answer(a, &rsp))
            sent++;
    }
    unsigned fits = rte_ring_count(eal.to_wire);
    assert_int_equal(fits, UPLINK_SLOTS - 1);
    assert_true(r.w->held_n > 0 && r.w->sched.pause);
    assert_true(sent < fits + NET_BURST + 1);
    assert_int_equal(counters(a)->uplink_full, 0);
    r.now += UPLINK_PATIENCE_NS;
    rig_turn(&r);
    assert_true(counters(a)->uplink_full > 0);
    assert_false(r.w->sched.pause);
    rig_run(&r);
    while (take_answer(a, &rsp))
        ;
    uint64_t dropped = counters(a)->uplink_full;
    assert_int_equal(r.up.count.tx_dropped, dropped);
    assert_int_equal(dropped + fits, counters(a)->tx_packets); /* nothing is lost without a name */
    send_plain(&r, a, b->port.mac);
    assert_int_equal(got_frames(b), 1);
    /* It takes some again. */
    assert_int_equal(wire_count(), fits);
    send_plain(&r, a, OUTSIDE);
    assert_int_equal(wire_count(), 1);
    assert_int_equal(counters(a)->uplink_full, dropped);
    rig_close(&r);
}

/* Held frames go out in their order when there is room again in time. */
static void what_was_held_goes_out_in_order(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *a = guest(&r, &(struct guest_options){ .pvid = 3 }); /* tagged: one by one */
    netif_tx_response_t rsp;
    unsigned n = 0, next = 0;
    while (next < 900) {
        while (n < 900 && ring_front_free(&a->tx) > 0) {
            plain_frame(frame, OUTSIDE, a->port.mac, 64);
            store_be16(frame + 20, (uint16_t)n);
            put_frame(a, (uint16_t)n++, frame, 64, 0);
        }
        ring_front_push(&a->tx);
        for (unsigned i = 0; i < 20; i++)
            rig_turn(&r);
        while (take_answer(a, &rsp))
            ;
        for (unsigned i = 0; i < 40; i++) {
            struct rte_mbuf *m = wire_take();
            if (!m)
                break;
            assert_int_equal(load_be16(packet_data(m) + 24), next++);
            rte_pktmbuf_free(m);
        }
    }
    assert_int_equal(counters(a)->uplink_full, 0);
    rig_close(&r);
}

/* The uplink's MTU holds for whoever has a larger one. */
static void too_long_for_the_uplink(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *a = guest(&r, &(struct guest_options){ .mtu = 9000 });
    send_frame(&r, a, plain_frame(frame, OUTSIDE, a->port.mac, 1515));
    assert_int_equal(counters(a)->too_long, 1);
    assert_int_equal(wire_count(), 0);
    send_frame(&r, a, plain_frame(frame, OUTSIDE, a->port.mac, 1514));
    assert_int_equal(wire_count(), 1);
    rig_close(&r);
}

/* One guest that does not read leaves room in the backlog for others. */
static void a_guest_that_does_not_read_leaves_room(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, true);
    struct guest *g[6];
    for (unsigned i = 0; i < 6; i++)
        g[i] = rig_guest(&r, &(struct guest_options){ 0 });
    for (unsigned k = 0; k < 6; k++)
        for (unsigned i = 0; i < 300; i++) {
            wire_send(frame, plain_frame(frame, g[k]->port.mac, OUTSIDE, 64));
            rig_turn(&r);
        }
    unsigned last = g[5]->q->backlog_n;
    assert_true(last > 0 && last < BACKLOG_PACKETS);
    assert_true(r.w->room.packets < BACKLOG_SHARED_PACKETS);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unicast_goes_to_one),
        cmocka_unit_test(broadcast_goes_to_all_others),
        cmocka_unit_test(without_uplink_there_is_no_way_out),
        cmocka_unit_test(to_itself_goes_nowhere),
        cmocka_unit_test(forged_addresses_are_dropped),
        cmocka_unit_test(our_addresses_do_not_come_from_outside),
        cmocka_unit_test(frames_for_nobody_and_short_ones_are_counted),
        cmocka_unit_test(isolated_vifs_do_not_reach_each_other),
        cmocka_unit_test(vlans_are_apart),
        cmocka_unit_test(tags_from_the_uplink_choose_the_vlan),
        cmocka_unit_test(a_tag_that_the_port_took_out),
        cmocka_unit_test(untagged_vifs_may_not_tag),
        cmocka_unit_test(a_trunk_sends_what_it_may),
        cmocka_unit_test(each_gets_a_broadcast_in_its_own_shape),
        cmocka_unit_test(one_address_in_two_vlans),
        cmocka_unit_test(the_table_holds_all_vifs),
        cmocka_unit_test(addresses_are_learned_and_forgotten),
        cmocka_unit_test(the_oldest_is_forgotten_first),
        cmocka_unit_test(a_full_uplink_holds_then_drops),
        cmocka_unit_test(what_was_held_goes_out_in_order),
        cmocka_unit_test(too_long_for_the_uplink),
        cmocka_unit_test(a_guest_that_does_not_read_leaves_room),
    };
    return cmocka_run_group_tests_name("netswitch", tests, NULL, NULL);
}
