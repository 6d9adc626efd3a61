/* SPDX-License-Identifier: MIT */
/*
 * netfront_open() to netfront_close(): handshake, features, death and rebirth of
 * the driver domain.  The hypervisor is the fake one, the store a table, the
 * backend the test itself: it sends back what it gets.
 */
#define FE 5
#define F  "/local/domain/5/device/vif/0"
#define T  "/local/domain/5/twin/vif/0"
#define B  "/local/domain/%u/backend/vif/5/0"
#include "test_front_connect.h"

#include "../../frontends/nic.h"

#define QUEUES 3

static struct { struct ring_back tx, rx; struct hyp_evtchn *tx_door, *rx_door; } rings[QUEUES];

static void told(void *arg, enum netfront_news what)
{
    assert_ptr_equal(arg, news);
    __atomic_add_fetch(&news[what], 1, __ATOMIC_RELEASE);
}

static const struct netfront_options telling = { .notify = told, .arg = news };

static void be_make(domid_t domid)
{
    static const char *const features[][2] = {
        { "feature-sg", "1" }, { "feature-gso-tcpv4", "1" }, { "feature-gso-tcpv6", "1" },
        { "feature-ipv6-csum-offload", "1" }, { "feature-rx-copy", "1" }, { "feature-rx-flip", "0" },
        { "feature-split-event-channels", "1" }, { "feature-persistent", "1" },
        { "multi-queue-max-queues", "8" },
    };
    be_make_with(domid, features, sizeof(features) / sizeof(features[0]));
}

static void be_born(domid_t domid)
{
    be_make(domid);
    be_tell();
}

static void *be_ring(unsigned q, const char *key)
{
    grant_ref_t ref = key_number(q, key);
    void *va;
    assert_int_equal(hyp_map_grants(be.map, &ref, 1, 0, &va), 0);
    return va;
}

/* Takes what the frontend offers. */
static void be_take(void)
{
    be_accept();
    assert_in_range(be.queues, 1, QUEUES);
    for (unsigned q = 0; q < be.queues; q++) {
        void *tx = be_ring(q, "tx-ring-ref"), *rx = be_ring(q, "rx-ring-ref");
        assert_true(ring_back_attach(&rings[q].tx, tx, HYP_PAGE_SIZE, NET_TX_SLOT_BYTES));
        assert_true(ring_back_attach(&rings[q].rx, rx, HYP_PAGE_SIZE, NET_RX_SLOT_BYTES));
        if (key_number(q, "event-channel") != UINT32_MAX) {
            assert_int_equal(key_number(q, "event-channel-tx"), UINT32_MAX); /* one or the other */
            rings[q].tx_door = rings[q].rx_door = be_bind(q, "event-channel");
        } else {
            rings[q].tx_door = be_bind(q, "event-channel-tx");
            rings[q].rx_door = be_bind(q, "event-channel-rx");
        }
    }
}

/* The same; -> Connected. */
static void be_connect(void)
{
    be_take();
    be_set("state", "4");
    await_state(XenbusStateConnected);
}

/* All that was sent is received again. */
static void be_echo(unsigned q)
{
    netif_tx_request_t in;
    netif_rx_request_t out;
    while (ring_back_waiting(&rings[q].tx) > 0) {
        ring_back_copy_request(&rings[q].tx, &in);
        assert_true(ring_back_waiting(&rings[q].rx) > 0);
        ring_back_copy_request(&rings[q].rx, &out);
        uint8_t *from = hyp_map_persistent(be.map, in.gref), *to = hyp_map_persistent(be.map, out.gref);
        assert_true(from && to);
        memcpy(to + 64, from + in.offset, in.size);
        netif_rx_response_t rx = { .id = out.id, .offset = 64, .status = (int16_t)in.size };
        ring_back_put_response(&rings[q].rx, &rx, sizeof(rx));
        netif_tx_response_t tx = { .id = in.id, .status = NETIF_RSP_OKAY };
        ring_back_put_response(&rings[q].tx, &tx, sizeof(tx));
    }
    if (ring_back_push(&rings[q].tx))
        hyp_evtchn_notify(rings[q].tx_door);
    if (ring_back_push(&rings[q].rx))
        hyp_evtchn_notify(rings[q].rx_door);
}

/* --------------------------------------------------------------- the frontend */

/* Opens on a thread of its own, since the test plays the backend meanwhile. */
struct opening {
    pthread_t thread;
    struct netfront_options opt;
    struct netfront *nic;
    int err;
};

static void *open_thread(void *arg)
{
    struct opening *o = arg;
    o->err = netfront_open(&o->nic, &o->opt, why, sizeof(why));
    return NULL;
}

static void open_start(struct opening *o, struct netfront_options opt)
{
    memset(o, 0, sizeof(*o));
    opt.attach = GUEST;
    o->opt = opt;
    guest_make();
    assert_int_equal(pthread_create(&o->thread, NULL, open_thread, o), 0);
}

static int open_end(struct opening *o)
{
    pthread_join(o->thread, NULL);
    return o->err;
}

/* With the backend that was made and told of. */
static struct netfront *connected_to_it(struct netfront_options opt)
{
    struct opening o;
    open_start(&o, opt);
    be_connect();
    if (open_end(&o))
        fail_msg("%s", why);
    return o.nic;
}

static struct netfront *connected(struct netfront_options opt)
{
    be_born(3);
    return connected_to_it(opt);
}

static void *close_thread(void *nic)
{
    netfront_close(nic);
    return NULL;
}

static void close_both(struct netfront *nic)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, close_thread, nic), 0);
    be_let_go();
    pthread_join(thread, NULL);
    be_dead();
}

static int up(void **state)
{
    (void)state;
    connect_up();
    set(F "/dev", "eth0");
    set(F "/mac", "52:54:00:0A:b0:Cd");
    set(F "/mtu", "9000");
    set(F "/handle", "0");
    return 0;
}

static int down(void **state)
{
    (void)state;
    assert_int_equal(fake_hyp_reset(), 0);
    return 0;
}

/* -------------------------------------------------------------------- tests */

static int send_some(struct netfront *nic, unsigned q, unsigned n, uint8_t fill)
{
    struct netfront_packet p[64];
    void *bufs[64];
    assert_int_equal(netfront_get(nic, q, bufs, n), n);
    for (unsigned i = 0; i < n; i++) {
        memset(bufs[i], fill + (int)i, 100);
        p[i] = (struct netfront_packet){ .data = bufs[i], .bytes = 100 };
    }
    int sent = netfront_send(nic, q, p, n);
    for (unsigned i = sent < 0 ? 0 : (unsigned)sent; i < n; i++)
        netfront_put(nic, q, &bufs[i], 1);
    return sent;
}

/* n packets come, in order; gives their buffers back unless they are wanted. */
static void expect(struct netfront *nic, unsigned q, unsigned n, uint8_t fill, struct netfront_packet *keep)
{
    for (unsigned got = 0; got < n; got++) {
        struct netfront_packet p;
        while (netfront_receive(nic, q, &p, 1) == 0)
            assert_int_equal(netfront_wait(nic, q, 20000), 1);
        assert_int_equal(p.bytes, 100);
        assert_int_equal(((uint8_t *)p.data)[99], (uint8_t)(fill + got));
        if (keep)
            keep[got] = p;
        else
            netfront_release(nic, q, &p, 1);
    }
    assert_true(netfront_idle(nic, q) >= 0); /* takes the answers to what was sent */
}

static void round_trip(struct netfront *nic, unsigned q)
{
    assert_true(netfront_idle(nic, q) >= 0); /* posts */
    assert_int_equal(send_some(nic, q, 40, 1), 40);
    be_echo(q);
    expect(nic, q, 40, 1, NULL);
}

static void test_open_work_close(void **state)
{
    (void)state;
    struct netfront *nic = connected((struct netfront_options){ 0 });
    const struct netfront_info *info = netfront_info(nic);
    static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0x0a, 0xb0, 0xcd };
    assert_memory_equal(info->mac, mac, 6);
    assert_int_equal(info->mtu, 9000);
    assert_int_equal(info->queues, 1);
    assert_int_equal(info->ring_slots, 256);
    assert_int_equal(info->send_buffers + info->receive_buffers, 1022);
    assert_true(info->receive_buffers > 256);
    assert_int_equal(info->grants, NETFRONT_GRANTS_PERSISTENT);
    assert_true(info->can_chain && info->can_csum4 && info->can_csum6 && info->can_gso4 && info->can_gso6);
    static const struct { const char *key; unsigned value; } keys[] = {
        { "request-rx-copy", 1 }, { "feature-rx-notify", 1 }, { "feature-sg", 1 }, { "feature-gso-tcpv4", 1 },
        { "feature-gso-tcpv6", 1 }, { "feature-ipv6-csum-offload", 1 }, { "feature-no-csum-offload", 0 },
        { "feature-persistent", 1 }, { "event-channel", UINT32_MAX },
        { "multi-queue-num-queues", UINT32_MAX },
    };
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (f_number(keys[i].key) != keys[i].value)
            fail_msg("%s is %u", keys[i].key, f_number(keys[i].key));
    for (int i = 0; i < 20; i++)
        round_trip(nic, 0);
    struct netfront_stats stats;
    netfront_stats(nic, &stats);
    assert_int_equal(stats.tx_packets, 800);
    assert_int_equal(stats.tx_bytes, 80000);
    assert_int_equal(stats.rx_packets, 800);
    assert_int_equal(stats.rx_bytes, 80000);
    assert_int_equal(stats.tx_errors + stats.tx_lost + stats.rx_errors + stats.broken + stats.reconnects, 0);
    struct netfront_packet p;
    void *buf;
    assert_int_equal(netfront_send(nic, 1, &p, 1), -EINVAL); /* no such queue */
    assert_int_equal(netfront_receive(nic, 1, &p, 1), -EINVAL);
    assert_int_equal(netfront_get(nic, 1, &buf, 1), -EINVAL);
    assert_int_equal(netfront_fd(nic, 1), -EINVAL);
    close_both(nic);
}

static void test_queues(void **state)
{
    (void)state;
    set(F "/bulkhead-queues", "3");
    set(F "/bulkhead-pool-pages", "200");
    set(F "/bulkhead-grants", "copy");
    struct netfront *nic = connected((struct netfront_options){ 0 });
    assert_int_equal(netfront_info(nic)->queues, 3);
    assert_int_equal(netfront_info(nic)->receive_buffers, 99);
    assert_int_equal(netfront_info(nic)->send_buffers, 99);
    assert_int_equal(netfront_info(nic)->grants, NETFRONT_GRANTS_COPY);
    assert_int_equal(f_number("feature-persistent"), 0);
    assert_int_equal(f_number("tx-ring-ref"), UINT32_MAX); /* only below queue-N */
    for (unsigned q = 0; q < 3; q++)
        round_trip(nic, q);
    /* A buffer of another queue is a foreign buffer. */
    void *buf;
    assert_int_equal(netfront_get(nic, 1, &buf, 1), 1);
    struct netfront_packet p = { .data = buf, .bytes = 64 };
    assert_int_equal(netfront_send(nic, 0, &p, 1), -EINVAL);
    assert_int_equal(netfront_send(nic, 1, &p, 1), 1);
    close_both(nic);
}

/* A backend that can do little, as an old one: no split channels, no chains. */
static void test_plain_backend(void **state)
{
    (void)state;
    set(F "/bulkhead-queues", "2");
    set(F "/mtu", "1500");
    memset(&be, 0, sizeof(be));
    be_make_with(3, NULL, 0);
    be_tell();
    struct netfront *nic = connected_to_it((struct netfront_options){ 0 });
    const struct netfront_info *info = netfront_info(nic);
    assert_int_equal(info->queues, 1);
    assert_int_equal(info->grants, NETFRONT_GRANTS_COPY);
    assert_false(info->can_chain || info->can_gso4 || info->can_gso6 || info->can_csum6);
    assert_true(info->can_csum4);
    assert_int_equal(f_number("event-channel-tx"), UINT32_MAX);
    assert_int_not_equal(f_number("event-channel"), UINT32_MAX);
    round_trip(nic, 0);
    void *bufs[2];
    assert_int_equal(netfront_get(nic, 0, bufs, 2), 2);
    struct netfront_packet p[2] = { { .data = bufs[0], .bytes = 64, .flags = NETFRONT_MORE },
                                    { .data = bufs[1], .bytes = 64 } };
    assert_int_equal(netfront_send(nic, 0, p, 2), -EINVAL);
    close_both(nic);
}

/* Segments and long frames need chains: offered without them they are not offered. */
static void test_offers_that_need_chains(void **state)
{
    (void)state;
    be_make(3);
    be_set("feature-sg", "0");
    be_tell();
    struct netfront *nic = connected_to_it((struct netfront_options){ 0 });
    assert_false(netfront_info(nic)->can_gso4 || netfront_info(nic)->can_gso6);
    assert_int_equal(netfront_info(nic)->mtu, 4096 - 18); /* 9000 was configured */
    close_both(nic);
}

static void test_no_offload(void **state)
{
    (void)state;
    struct netfront *nic = connected((struct netfront_options){ .no_offload = 1 });
    const struct netfront_info *info = netfront_info(nic);
    assert_false(info->can_csum4 || info->can_csum6 || info->can_gso4 || info->can_gso6);
    assert_true(info->can_chain);
    assert_int_equal(f_number("feature-no-csum-offload"), 1);
    assert_int_equal(f_number("feature-ipv6-csum-offload"), 0);
    assert_int_equal(f_number("feature-gso-tcpv4"), 0);
    assert_int_equal(f_number("feature-gso-tcpv6"), 0);
    assert_int_equal(f_number("feature-sg"), 1);
    close_both(nic);
}

static void refused(struct netfront_options opt, int err, const char *sentence)
{
    struct opening o;
    /* Refused at once; waiting for the limit would end the test instead. */
    opt.timeout_ms = opt.timeout_ms ? opt.timeout_ms : 3600000;
    open_start(&o, opt);
    assert_int_equal(open_end(&o), err);
    if (!strstr(why, sentence))
        fail_msg("\"%s\" does not say \"%s\"", why, sentence);
}

static void test_error_sentences(void **state)
{
    (void)state;
    refused((struct netfront_options){ .pool_pages = 63 }, -EINVAL, "pool of 63 pages a queue is too small");
    refused((struct netfront_options){ .timeout_ms = -1 }, -EINVAL, "time limit");
    refused((struct netfront_options){ .grants = 7 }, -EINVAL, "7 is no way to grant");
    refused((struct netfront_options){ .device = "eth9" }, -ENODEV, "no NIC named eth9; it has eth0");
    refused((struct netfront_options){ .timeout_ms = 50 }, -ETIMEDOUT,
            "NIC eth0: its driver domain is not running");
    be_born(3);
    static const char *const mtus[] = { "67", "9217", "4294967295" };
    for (size_t i = 0; i < sizeof(mtus) / sizeof(mtus[0]); i++) {
        set(F "/mtu", mtus[i]);
        refused((struct netfront_options){ 0 }, -EINVAL, "is none: it is from 68 to 9216");
    }
    set(F "/mtu", "1500");
    static const char *const macs[] = {
        "", "52:54:00:00:00", "52:54:00:00:00:01:02", "52:54:00:00:00:01 ", "52-54-00-00-00-01",
        "00:00:00:00:00:00", "53:54:00:00:00:01", "ff:ff:ff:ff:ff:ff", "52:54:00:00:00:zz",
        "52:54:00:00:00:+1", "52:54:0x:00:00:01", "52:54:00:0:000:01", " 2:54:00:00:00:01",
    };
    for (size_t i = 0; i < sizeof(macs) / sizeof(macs[0]); i++) {
        set(F "/mac", macs[i]);
        refused((struct netfront_options){ 0 }, -EINVAL, "the store names no address for it");
    }
    set(F "/mac", "52:54:00:00:00:01");
    set(F "/bulkhead-pool-pages", "63");
    refused((struct netfront_options){ 0 }, -EINVAL, "at least 64 are needed");
    set(F "/bulkhead-pool-pages", "65536");
    set(F "/bulkhead-queues", "8");
    refused((struct netfront_options){ 0 }, -EDQUOT, "more than the guest may grant");
    be_set("feature-persistent", "0");
    refused((struct netfront_options){ .pool_pages = 64, .grants = NETFRONT_GRANTS_PERSISTENT }, -EOPNOTSUPP,
            "does not offer persistent grants");
    unset_below("/local/domain/5/device");
    refused((struct netfront_options){ 0 }, -ENODEV, "the guest has no NIC");
    be_dead();
}

static void test_list(void **state)
{
    (void)state;
    set("/local/domain/5/device/vif/2/dev", "wan");
    set("/local/domain/5/device/vif/1/dev", "eth1");
    set("/local/domain/5/device/vbd/51712/dev", "vda"); /* no NIC */
    struct netfront *nic = connected((struct netfront_options){ .device = "eth0" });
    char names[32], text[128];
    assert_int_equal(netfront_list(GUEST, names, sizeof(names), text, sizeof(text)), 3);
    assert_memory_equal(names, "eth0\0eth1\0wan", 14);
    assert_int_equal(netfront_list(GUEST, names, 12, text, sizeof(text)), -E2BIG);
    struct netfront *again;
    assert_int_equal(netfront_open(&again, &(struct netfront_options){ .attach = GUEST, .device = "eth0" },
                                   text, sizeof(text)), -EBUSY);
    assert_non_null(strstr(text, "NIC eth0 is open already"));
    close_both(nic);
}

/* An MTU that nobody set is 1500; numbers that a backend may not mean well with. */
static void test_hostile_features(void **state)
{
    (void)state;
    static const char *const mad[] = { "0", "-1", "4294967295", "18446744073709551616", "none", "" };
    for (size_t i = 0; i < sizeof(mad) / sizeof(mad[0]); i++) {
        static const char *const keys[] = { "multi-queue-max-queues", "feature-sg", "feature-gso-tcpv4",
            "feature-gso-tcpv6", "feature-ipv6-csum-offload", "feature-split-event-channels",
            "feature-persistent" };
        be_born(3);
        unset_below(F "/mtu");
        for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
            be_set(keys[k], mad[i]);
        struct netfront *nic = connected_to_it((struct netfront_options){ .queues = 3, .pool_pages = 128 });
        assert_in_range(netfront_info(nic)->queues, 1, 3);
        assert_int_equal(netfront_info(nic)->mtu, 1500);
        assert_false(netfront_info(nic)->can_chain);
        round_trip(nic, 0);
        close_both(nic);
        up(NULL);
    }
}

/* ------------------------------------------------------------ death, rebirth */

static void test_death_and_rebirth(void **state)
{
    (void)state;
    struct netfront *nic = connected(telling);
    struct netfront_packet held[8];
    int fd = netfront_fd(nic, 0);
    for (unsigned life = 1; life <= 3; life++) {
        round_trip(nic, 0);
        assert_int_equal(send_some(nic, 0, 8, 100), 8);
        be_echo(0);
        expect(nic, 0, 8, 100, held);
        assert_int_equal(send_some(nic, 0, 10, 1), 10); /* on their way when it dies */
        be_dead();
        await_news(NETFRONT_DOWN, life);
        assert_int_equal(send_some(nic, 0, 3, 1), -ENETDOWN);
        assert_int_equal(netfront_receive(nic, 0, &(struct netfront_packet){ 0 }, 1), 0);
        for (unsigned i = 0; i < 8; i++) /* what was received stays */
            assert_int_equal(*(uint8_t *)held[i].data, 100 + i);
        be_born((domid_t)(3 + life * 10));
        be_connect();
        await_news(NETFRONT_UP, life);
        assert_int_equal(netfront_fd(nic, 0), fd);
        /* Sending may go on: whoever waited is woken, whoever has yet to wait does not. */
        assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 20000), 1);
        assert_int_equal(netfront_wait(nic, 0, 20000), 1);
        round_trip(nic, 0);
        for (unsigned i = 0; i < 8; i++)
            assert_int_equal(*(uint8_t *)held[i].data, 100 + i);
        netfront_release(nic, 0, held, 8);
        netfront_idle(nic, 0);
        assert_int_equal(ring_back_waiting(&rings[0].rx), 256); /* the ring is full again */
    }
    struct netfront_stats stats;
    netfront_stats(nic, &stats);
    assert_int_equal(stats.reconnects, 3);
    assert_int_equal(stats.tx_lost, 30);
    assert_int_equal(stats.broken, 0);
    close_both(nic);
}

/* A queue that nobody works with keeps no NIC from coming back. */
static void test_rebirth_with_idle_queues(void **state)
{
    (void)state;
    struct netfront_options opt = telling;
    opt.queues = 3;
    struct netfront *nic = connected(opt);
    round_trip(nic, 1);
    assert_int_equal(send_some(nic, 1, 5, 1), 5);
    netfront_idle(nic, 1);
    be_dead();
    await_news(NETFRONT_DOWN, 1);
    be_born(4);
    be_connect(); /* though no queue was looked at */
    await_news(NETFRONT_UP, 1);
    for (unsigned q = 0; q < 3; q++)
        round_trip(nic, q);
    struct netfront_stats stats;
    netfront_stats(nic, &stats);
    assert_int_equal(stats.tx_lost, 5);
    close_both(nic);
}

/* Keys of the backend before must not lead the next one astray. */
static void test_split_channels_come_and_go(void **state)
{
    (void)state;
    struct netfront_options opt = telling;
    opt.queues = 2;
    struct netfront *nic = connected(opt);
    for (unsigned life = 1; life <= 4; life++) {
        be_dead();
        await_news(NETFRONT_DOWN, life);
        be_make((domid_t)(10 + life));
        be_set("feature-split-event-channels", life % 2 ? "0" : "1");
        be_tell();
        be_connect();
        await_news(NETFRONT_UP, life);
        assert_int_equal(f_number("queue-1/event-channel") == UINT32_MAX, life % 2 == 0);
        assert_int_equal(f_number("queue-1/event-channel-tx") == UINT32_MAX, life % 2 == 1);
        assert_int_equal(f_number("queue-1/event-channel-rx") == UINT32_MAX, life % 2 == 1);
        round_trip(nic, 0);
        round_trip(nic, 1);
    }
    close_both(nic);
}

/* A spare is armed; the live one dies, then the spare does, each with packets on their
 * way.  Each time both rings are made anew and the sending one is rung. */
static void test_takeover(void **state)
{
    (void)state;
    static const char *const slots[] = { T, F };
    struct netfront *nic = connected(telling);
    for (unsigned life = 1; life <= 3; life++) {
        struct be live = be;
        be_make((domid_t)(20 + life));
        be.slot = slots[(life - 1) % 2];
        char path[STORE_PATH_MAX];
        snprintf(path, sizeof(path), "%s/state", be.slot);
        set(path, "1");
        be_tell();
        be_take(); /* the pages of both rings are the live one's still */
        be_set("state", "3");
        for (bool armed = false; !armed; nap()) {
            pthread_mutex_lock(&nic->device.guest->lock);
            armed = nic->device.twin == TWIN_ARMED;
            pthread_mutex_unlock(&nic->device.guest->lock);
        }
        struct be spare = be;
        assert_int_equal(send_some(nic, 0, 10, 1), 10);
        be = live;
        be_dead();
        be = spare;
        struct pollfd rung = { .fd = hyp_evtchn_fd(rings[0].tx_door), .events = POLLIN };
        while (poll(&rung, 1, 1) == 0)
            assert_true(netfront_idle(nic, 0) >= 0);
        assert_true(rung.revents & POLLIN);
        for (unsigned q = 0; q < be.queues; q++) { /* from the beginning */
            rings[q].tx.req_cons = rings[q].tx.rsp_prod = rings[q].tx.rsp_pushed = 0;
            rings[q].rx.req_cons = rings[q].rx.rsp_prod = rings[q].rx.rsp_pushed = 0;
        }
        await_news(NETFRONT_UP, life);
        await_state(XenbusStateConnected);
        round_trip(nic, 0);
        be_set("state", "4");
        round_trip(nic, 0);
    }
    struct netfront_stats stats;
    netfront_stats(nic, &stats);
    assert_int_equal(stats.reconnects, 3);
    assert_int_equal(stats.tx_lost, 30);
    assert_int_equal(stats.broken, 0);
    close_both(nic);
}

static void test_liar_is_shut_out_and_comes_back(void **state)
{
    (void)state;
    struct netfront *nic = connected(telling);
    for (unsigned time = 1; time <= 2; time++) {
        netif_rx_response_t lie = { .id = 12345, .status = 100 };
        assert_int_equal(send_some(nic, 0, 4, 1), 4);
        ring_back_put_response(&rings[0].rx, &lie, sizeof(lie));
        ring_back_push(&rings[0].rx);
        assert_int_equal(netfront_receive(nic, 0, &(struct netfront_packet){ 0 }, 1), 0);
        await_news(NETFRONT_DOWN, time);
        be_let_go();
        be_connect();
        await_news(NETFRONT_UP, time);
        round_trip(nic, 0);
    }
    struct netfront_stats stats;
    netfront_stats(nic, &stats);
    assert_int_equal(stats.broken, 2);
    assert_int_equal(stats.reconnects, 2);
    assert_int_equal(stats.tx_lost, 8);
    char text[256];
    assert_true(get(F "/error", text, sizeof(text)) > 0);
    assert_non_null(strstr(text, "lied (a response to no request in flight)"));
    close_both(nic);
}

static void test_backend_leaves_in_order(void **state)
{
    (void)state;
    struct netfront *nic = connected(telling);
    round_trip(nic, 0);
    be_set("state", "5");
    await_news(NETFRONT_DOWN, 1);
    netfront_idle(nic, 0); /* its owner lets go */
    await_state(XenbusStateClosed);
    be_unmap();
    be_set("state", "2");
    be_connect();
    await_news(NETFRONT_UP, 1);
    round_trip(nic, 0);
    close_both(nic);
}

/* A successor that offers less is not accepted; a right one is. */
static void test_successor_must_fit(void **state)
{
    (void)state;
    static const char *const less[] = { "feature-sg", "feature-gso-tcpv4", "feature-gso-tcpv6",
        "feature-ipv6-csum-offload", "feature-persistent", "multi-queue-max-queues" };
    struct netfront_options opt = telling;
    opt.queues = 2;
    struct netfront *nic = connected(opt);
    for (size_t i = 0; i < sizeof(less) / sizeof(less[0]); i++) {
        be_dead();
        await_news(NETFRONT_DOWN, (unsigned)i + 1);
        unset_below(F "/error"); /* that it is gone */
        be_make((domid_t)(10 + i));
        be_set(less[i], "0");
        be_tell();
        char text[256];
        for (int k = 0; k < 20000 && get(F "/error", text, sizeof(text)) < 0; k++)
            nap();
        assert_int_not_equal(f_number("state"), XenbusStateInitialised);
        assert_non_null(strstr(text, i == 4 ? "does not offer persistent" : "offers less"));
        be_dead();
        be_born((domid_t)(40 + i));
        be_connect();
        await_news(NETFRONT_UP, (unsigned)i + 1);
        round_trip(nic, 0);
    }
    close_both(nic);
}

/* XSA-396 (CVE-2022-23037): a backend that never lets go of the pool delays close() a
 * bounded time, and the pages stay granted memory until it is dead. */
static void test_xsa396_close_with_a_backend_that_clings(void **state)
{
    (void)state;
    struct netfront *nic = connected((struct netfront_options){ 0 });
    struct guest *g;
    assert_int_equal(guest_get(&g, GUEST, true), 0); /* the guest outlives its NIC */
    netfront_close(nic);
    assert_non_null(g->devices); /* still held, for nobody */
    be_dead();
    await_orphan_free(g);
    guest_put(g);
}

#define ON(test) cmocka_unit_test_setup_teardown(test, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(test_open_work_close),
        ON(test_queues),
        ON(test_plain_backend),
        ON(test_offers_that_need_chains),
        ON(test_no_offload),
        ON(test_error_sentences),
        ON(test_list),
        ON(test_hostile_features),
        ON(test_death_and_rebirth),
        ON(test_takeover),
        ON(test_rebirth_with_idle_queues),
        ON(test_split_channels_come_and_go),
        ON(test_liar_is_shut_out_and_comes_back),
        ON(test_backend_leaves_in_order),
        ON(test_successor_must_fit),
        ON(test_xsa396_close_with_a_backend_that_clings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
