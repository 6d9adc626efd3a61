/* SPDX-License-Identifier: MIT */
/*
 * The net backend's control side: the handshake, what the toolstack and a
 * frontend may write, and how NICs come and go.  Over the fake hypervisor, a
 * store that is a list of names, and workers that do nothing but answer their
 * mail, when the test says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <unistd.h>

#include "../../backends/net/netback.h"
#include "../../backends/net/worker.h"
#include "../fake_hyp.h"
#include "test_backend.h"

#define FRONT_DOMID 3
#define BACK_DOMID  2
#define BE_ROOT     "/local/domain/2/backend/vif"
#define B           BE_ROOT "/3/0"
#define F           "/local/domain/3/device/vif/0"
#define UP          "/local/domain/2/uplink"
#define WORKERS     3u
#define MAC         "52:54:00:00:00:01"

/* ---------------------------------------------------------- workers and queues */

/* These definitions take the place of worker.c and queue.c in this program. */
struct net_queue {
    struct net_queue_config cfg;
    struct net_counters count;
    const char *why;
};
static unsigned queues_alive, queues_armed, uplinks_given;

int net_queue_create(struct net_queue **out, const struct net_queue_config *cfg)
{
    *out = calloc(1, sizeof(**out));
    (*out)->cfg = *cfg;
    queues_alive++;
    return 0;
}

void net_queue_destroy(struct net_queue *q)
{
    free(q);
    queues_alive--;
}

void net_queue_arm(struct net_queue *q)
{
    (void)q;
    queues_armed++;
}

const struct net_counters *net_queue_counters(const struct net_queue *q)
{
    return &q->count;
}

const char *net_queue_why(const struct net_queue *q)
{
    return q->why;
}

#define ROOM 64
static struct worker {
    struct mail in[ROOM], out[ROOM];
    unsigned nin, nout;
    struct net_port *ports[ROOM]; /* that it serves */
    unsigned nports;
} workers[WORKERS];

bool net_worker_post(unsigned i, enum mail_kind kind, struct net_port *port)
{
    assert_true(i < WORKERS && workers[i].nin < ROOM);
    workers[i].in[workers[i].nin++] = (struct mail){ kind, port };
    return true;
}

bool net_worker_take(unsigned i, struct mail *out)
{
    if (workers[i].nout == 0)
        return false;
    *out = workers[i].out[0];
    memmove(workers[i].out, workers[i].out + 1, --workers[i].nout * sizeof(struct mail));
    return true;
}

static bool same_mac(const struct net_port *a, const struct net_port *b)
{
    return memcmp(a->mac, b->mac, NET_MAC_BYTES) == 0;
}

/* Worker w does what its mail says; no two of its vifs have the same address. */
static void work(unsigned w)
{
    struct worker *me = &workers[w];
    for (unsigned i = 0; i < me->nin; i++) {
        struct net_port *port = me->in[i].what;
        unsigned at = 0;
        if (me->in[i].kind == MAIL_PING || me->in[i].kind == MAIL_UPLINK) {
            if (me->in[i].kind == MAIL_PING)
                me->out[me->nout++] = (struct mail){ .kind = MAIL_PONG };
            else
                uplinks_given++;
            continue;
        }
        while (at < me->nports && me->ports[at] != port)
            at++;
        if (me->in[i].kind == MAIL_ATTACH) {
            assert_int_equal(at, me->nports);
            for (unsigned k = 0; k < me->nports; k++)
                assert_false(same_mac(port, me->ports[k]));
            me->ports[me->nports++] = port;
        } else {
            assert_true(at < me->nports);
            me->ports[at] = me->ports[--me->nports];
            me->out[me->nout++] = (struct mail){ MAIL_DETACHED, port };
        }
    }
    me->nin = 0;
}

static void all_work(void)
{
    for (unsigned w = 0; w < WORKERS; w++)
        work(w);
}

static struct net_port *port_of(unsigned w, unsigned i)
{
    assert_true(i < workers[w].nports);
    return workers[w].ports[i];
}

/* ---------------------------------------------------------------------- the stage */

static struct hyp *back, *front;
static struct uplink uplink;

static int raise_curtain(void **state)
{
    (void)state;
    nnodes = nwatches = nevents = queues_alive = queues_armed = uplinks_given = 0;
    memset(workers, 0, sizeof(workers));
    uplink = (struct uplink){ .poll_fd = -1 };
    back = fake_hyp_new(BACK_DOMID);
    front = fake_hyp_new(FRONT_DOMID);
    assert_int_equal(netback_init(back, &the_store, WORKERS, &uplink), 0);
    return 0;
}

/* Takes all that there is, without the workers. */
static void look(void)
{
    assert_int_equal(backend_store_events(), 0);
    assert_int_equal(backend_hyp_events(), 0);
    netback_mail();
    assert_int_equal(backend_store_events(), 0);
}

/* And with them. */
static void settle(void)
{
    look();
    all_work();
    look();
    all_work();
    look();
}

static int drop_curtain(void **state)
{
    (void)state;
    store_rm(&the_store, STORE_NO_TXN, BE_ROOT);
    settle();
    assert_int_equal(queues_alive, 0);
    for (unsigned w = 0; w < WORKERS; w++)
        assert_int_equal(workers[w].nports, 0);
    hyp_close(front);
    hyp_close(back);
    assert_int_equal(fake_hyp_reset(), 0);
    return 0;
}

/* What the toolstack does. */
static void make_vif_at(const char *be, const char *fe, const char *mac)
{
    char path[STORE_PATH_MAX];
    snprintf(path, sizeof(path), "%s/state", fe);
    put(path, "1");
    snprintf(path, sizeof(path), "%s/mac", be);
    put(path, mac);
    snprintf(path, sizeof(path), "%s/state", be);
    put(path, "1");
    snprintf(path, sizeof(path), "%s/frontend-id", be);
    put(path, "3");
}

static void make_vif(void)
{
    make_vif_at(B, F, MAC);
    settle();
}

static void remove_vif(void)
{
    store_rm(&the_store, STORE_NO_TXN, B);
    store_rm(&the_store, STORE_NO_TXN, F);
}

/* A frontend's pool, rings and channels for n queues. */
struct guest {
    struct hyp_pool *pool;
    struct hyp_evtchn *tx[WORKERS], *rx[WORKERS];
    unsigned queues;
};

static void guest_publish(struct guest *g, unsigned queues, bool split)
{
    char key[STORE_PATH_MAX];
    *g = (struct guest){ .queues = queues };
    assert_int_equal(hyp_pool_create(front, BACK_DOMID, 2 * (size_t)queues, 0, &g->pool), 0);
    if (queues > 1)
        put_number(F "/multi-queue-num-queues", queues);
    for (unsigned q = 0; q < queues; q++) {
        char dir[64] = F;
        if (queues > 1)
            snprintf(dir, sizeof(dir), F "/queue-%u", q);
        snprintf(key, sizeof(key), "%s/tx-ring-ref", dir);
        put_number(key, hyp_pool_ref(g->pool, 2 * q));
        snprintf(key, sizeof(key), "%s/rx-ring-ref", dir);
        put_number(key, hyp_pool_ref(g->pool, 2 * q + 1));
        assert_int_equal(hyp_evtchn_alloc(front, BACK_DOMID, &g->tx[q]), 0);
        snprintf(key, sizeof(key), split ? "%s/event-channel-tx" : "%s/event-channel", dir);
        put_number(key, hyp_evtchn_port(g->tx[q]));
        if (!split)
            continue;
        assert_int_equal(hyp_evtchn_alloc(front, BACK_DOMID, &g->rx[q]), 0);
        snprintf(key, sizeof(key), "%s/event-channel-rx", dir);
        put_number(key, hyp_evtchn_port(g->rx[q]));
    }
    put(F "/request-rx-copy", "1");
}

static void guest_end(struct guest *g)
{
    for (unsigned q = 0; q < g->queues; q++) {
        hyp_evtchn_close(g->tx[q]);
        if (g->rx[q])
            hyp_evtchn_close(g->rx[q]);
    }
    assert_int_equal(hyp_pool_end(g->pool), 0); /* so nothing of it is mapped */
}

static void connect_guest(struct guest *g, unsigned queues, bool split)
{
    guest_publish(g, queues, split);
    put(F "/state", "3");
    settle();
    assert_int_equal(get(B "/state"), XenbusStateConnected);
}

static void close_guest(struct guest *g)
{
    put(F "/state", "6");
    settle();
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    guest_end(g);
}

/* -------------------------------------------------------------------- handshake */

static void features_then_connected_then_closed(void **state)
{
    (void)state;
    struct guest g;
    for (unsigned queues = 1; queues <= WORKERS; queues++) {
        for (unsigned split = 0; split < 2; split++) {
            make_vif();
            assert_int_equal(get(B "/state"), XenbusStateInitWait);
            assert_int_equal(get(B "/feature-sg"), 1);
            assert_int_equal(get(B "/feature-gso-tcpv4"), 1);
            assert_int_equal(get(B "/feature-gso-tcpv6"), 1);
            assert_int_equal(get(B "/feature-ipv6-csum-offload"), 1);
            assert_int_equal(get(B "/feature-rx-copy"), 1);
            assert_int_equal(get(B "/feature-rx-flip"), 0);
            assert_int_equal(get(B "/feature-split-event-channels"), 1);
            assert_int_equal(get(B "/feature-persistent"), 1);
            assert_int_equal(get(B "/multi-queue-max-queues"), WORKERS);
            connect_guest(&g, queues, split);
            unsigned served[WORKERS] = { 0 };
            for (unsigned w = 0; w < WORKERS; w++) {
                struct net_port *port = port_of(w, 0);
                assert_ptr_equal(port, port_of(0, 0));
                assert_int_equal(port->nqueues, queues);
                for (unsigned q = 0; q < queues; q++)
                    served[w] += port->worker[q] == w;
                assert_true(served[w] <= 1);
            }
            for (unsigned q = 0; q < queues; q++) {
                const struct net_queue_config *cfg = &port_of(0, 0)->queue[q]->cfg;
                assert_int_equal(cfg->tx_evtchn != cfg->rx_evtchn, split);
                assert_ptr_not_equal(cfg->tx_ring, cfg->rx_ring);
                assert_int_equal(cfg->grants, NET_GRANTS_COPY);
                /* The ring is the page that the frontend named. */
                *(uint32_t *)((char *)hyp_pool_base(g.pool) + (size_t)2 * q * HYP_PAGE_SIZE) = 0xabcd + q;
                assert_int_equal(*(uint32_t *)cfg->tx_ring, 0xabcd + q);
            }
            put(F "/state", "4");
            settle();
            assert_int_equal(get(B "/state"), XenbusStateConnected);
            put(F "/state", "5");
            settle();
            assert_int_equal(get(B "/state"), XenbusStateClosed);
            guest_end(&g);
            remove_vif();
            settle();
            assert_int_equal(get(B "/state"), UINT64_MAX); /* and it stays removed */
        }
    }
}

/* Stock netfront goes straight to Connected. */
static void stock_order_of_states(void **state)
{
    (void)state;
    struct guest g;
    make_vif();
    guest_publish(&g, 1, true);
    put(F "/state", "4");
    settle();
    assert_int_equal(get(B "/state"), XenbusStateConnected);
    close_guest(&g);
}

static void frontends_offloads_are_seen(void **state)
{
    (void)state;
    struct guest g;
    make_vif();
    connect_guest(&g, 1, false);
    struct net_port *port = port_of(0, 0);
    assert_true(port->rx_csum4);
    assert_false(port->rx_sg || port->rx_gso4 || port->rx_gso6 || port->rx_csum6);
    close_guest(&g);
    put(F "/feature-sg", "1");
    put(F "/feature-gso-tcpv4", "1");
    put(F "/feature-gso-tcpv6", "1");
    put(F "/feature-ipv6-csum-offload", "1");
    put(F "/feature-persistent", "1");
    put(F "/state", "1");
    settle();
    connect_guest(&g, 1, false);
    assert_true(port->rx_csum4 && port->rx_sg && port->rx_gso4 && port->rx_gso6 && port->rx_csum6);
    assert_int_equal(port->queue[0]->cfg.grants, NET_GRANTS_PERSISTENT);
    close_guest(&g);
    put(F "/feature-no-csum-offload", "1"); /* and so no segments that lack one */
    put(F "/state", "1");
    settle();
    connect_guest(&g, 1, false);
    assert_false(port->rx_csum4 || port->rx_gso4);
    close_guest(&g);
}

/* -------------------------------------------------------------- toolstack's nodes */

static void port_is_as_configured(void **state)
{
    (void)state;
    struct guest g;
    put(B "/mtu", "9000");
    put(B "/bulkhead-weight", "250");
    put(B "/bulkhead-vlan", "42");
    put(B "/bulkhead-trunk", "1,100,4094");
    put(B "/bulkhead-isolated", "1");
    put(B "/bulkhead-inbound", "1000000 2000000 65536");
    put(B "/bulkhead-outbound", "3000000 0 0");
    make_vif_at(B, F, "52:54:00:Ab:cD:ef");
    settle();
    connect_guest(&g, 1, true);
    const struct net_port *port = port_of(0, 0);
    assert_memory_equal(port->mac, "\x52\x54\x00\xab\xcd\xef", NET_MAC_BYTES);
    assert_int_equal(port->mtu, 9000);
    assert_int_equal(port->weight, 250);
    assert_int_equal(port->pvid, 42);
    assert_true(port->trunk && port->isolated);
    for (unsigned vlan = 0; vlan < 4096; vlan++)
        assert_int_equal(port->vlans[vlan / 64] >> vlan % 64 & 1, vlan == 1 || vlan == 100 || vlan == 4094);
    assert_int_equal(port->inbound.average, 1000000);
    assert_int_equal(port->inbound.peak, 2000000);
    assert_int_equal(port->inbound.burst, 65536);
    assert_int_equal(port->outbound.average, 3000000);
    assert_int_equal(port->outbound.peak, 0);
    close_guest(&g);
}

static void port_without_hints(void **state)
{
    (void)state;
    struct guest g;
    make_vif();
    connect_guest(&g, 1, true);
    const struct net_port *port = port_of(0, 0);
    assert_int_equal(port->mtu, NET_MTU_DEFAULT);
    assert_int_equal(port->weight, 100);
    assert_int_equal(port->pvid, 0);
    assert_false(port->trunk || port->isolated);
    assert_int_equal(port->inbound.average, 0);
    assert_int_equal(port->outbound.average, 0);
    close_guest(&g);
}

static void bad_configuration_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
    } bad[] = {
        { "mac", "" },                        { "mac", "52:54:00:00:00" },
        { "mac", "52:54:00:00:00:00:01" },    { "mac", "52-54-00-00-00-01" },
        { "mac", "52:54:00:00:00:0g" },       { "mac", "53:54:00:00:00:01" }, /* multicast */
        { "mac", "00:00:00:00:00:00" },       { "mtu", "67" },
        { "mtu", "9217" },                    { "mtu", "big" },
        { "bulkhead-vlan", "4095" },          { "bulkhead-vlan", "-1" },
        { "bulkhead-trunk", "0" },            { "bulkhead-trunk", "1,4095" },
        { "bulkhead-trunk", "1;2" },          { "bulkhead-trunk", "1,x" },
        { "bulkhead-isolated", "2" },         { "bulkhead-weight", "0" },
        { "bulkhead-weight", "1001" },        { "bulkhead-inbound", "1" },
        { "bulkhead-inbound", "1 2" },        { "bulkhead-outbound", "1 2 3 4" },
        { "bulkhead-outbound", "1 2 -3" },    { "bulkhead-outbound", "99999999999999999999 0 0" },
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char key[STORE_PATH_MAX];
        put(B "/mac", MAC);
        snprintf(key, sizeof(key), B "/%s", bad[i].key);
        put(key, bad[i].value);
        put(B "/state", "1");
        put(B "/frontend-id", "3");
        settle();
        assert_int_equal(get(B "/state"), XenbusStateClosed);
        assert_true(find_node(B "/error") >= 0);
        remove_vif();
        settle();
    }
    make_vif();
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
}

/* One address, one place. */
static void second_nic_with_the_same_mac(void **state)
{
    (void)state;
    struct guest g;
    static const char *const b2 = BE_ROOT "/3/1", *const f2 = "/local/domain/3/device/vif/1";
    make_vif();
    connect_guest(&g, 1, true);
    make_vif_at(b2, f2, MAC);
    settle();
    assert_int_equal(get(BE_ROOT "/3/1/state"), XenbusStateClosed);
    assert_true(find_node(BE_ROOT "/3/1/error") >= 0);
    assert_int_equal(get(B "/state"), XenbusStateConnected); /* the first one has it */
    store_rm(&the_store, STORE_NO_TXN, b2);
    settle();
    make_vif_at(b2, f2, "52:54:00:00:00:02"); /* control */
    settle();
    assert_int_equal(get(BE_ROOT "/3/1/state"), XenbusStateInitWait);
    close_guest(&g);
}

/* A guest that starts anew has a new directory before the workers gave up the
 * old one: they hear of the end first. */
static void mac_moves_to_another_nic(void **state)
{
    (void)state;
    struct guest g;
    static const char *const b2 = BE_ROOT "/3/1", *const f2 = "/local/domain/3/device/vif/1";
    make_vif();
    connect_guest(&g, 1, true);
    make_vif_at(b2, f2, MAC);
    remove_vif(); /* both are seen at once */
    look();
    assert_int_equal(get(BE_ROOT "/3/1/state"), XenbusStateInitWait);
    settle(); /* work() sees to it that no two have the same address */
    assert_int_equal(workers[0].nports, 0);
    guest_end(&g);
}

/* --------------------------------------------------------------- hostile frontends */

/* Everything a frontend can write wrong: refused, in words, nothing kept. */
static void hostile_nodes(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
    } lies[] = {
        { "multi-queue-num-queues", "0" },       { "multi-queue-num-queues", "4" },
        { "multi-queue-num-queues", "-1" },      { "multi-queue-num-queues", "9999999999999999999999" },
        { "multi-queue-num-queues", "2" }, /* but there are no queue directories */
        { "tx-ring-ref", "4294967295" },         { "tx-ring-ref", "18446744073709551616" },
        { "tx-ring-ref", "" },                   { "rx-ring-ref", "4294967295" },
        { "rx-ring-ref", "1e3" },                { "event-channel-tx", "0" },
        { "event-channel-tx", "99999" },         { "event-channel-rx", "-5" },
        { "event-channel-rx", "77777" },         { "request-rx-copy", "0" },
        { "request-rx-copy", "" },
    };
    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        char key[STORE_PATH_MAX];
        struct guest g;
        make_vif();
        guest_publish(&g, 1, true);
        snprintf(key, sizeof(key), F "/%s", lies[i].key);
        put(key, lies[i].value);
        put(F "/state", "3");
        settle();
        assert_int_equal(get(B "/state"), XenbusStateClosed);
        assert_true(find_node(B "/error") >= 0);
        assert_int_equal(queues_alive, 0);
        guest_end(&g);
        remove_vif();
        settle();
    }
}

/* The last of several queues is bad: the others do not stay. */
static void connection_is_whole_or_not(void **state)
{
    (void)state;
    struct guest g;
    make_vif();
    guest_publish(&g, WORKERS, true);
    put(F "/queue-2/rx-ring-ref", "4294967295");
    put(F "/state", "3");
    settle();
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    assert_int_equal(queues_alive, 0);
    assert_int_equal(workers[0].nports, 0);
    guest_end(&g);
}

static void nonsense_states(void **state)
{
    (void)state;
    static const char *const nonsense[] = { "0", "9", "4294967299", "", "three", "-3" };
    struct guest g;
    make_vif();
    for (unsigned i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
        put(F "/state", nonsense[i]);
        settle();
        assert_int_equal(get(B "/state"), XenbusStateInitWait);
    }
    connect_guest(&g, 1, true);
    put(F "/state", "three");
    settle();
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    guest_end(&g);
}

static void liar_is_disconnected_and_told(void **state)
{
    (void)state;
    struct guest g;
    make_vif();
    connect_guest(&g, 2, true);
    struct net_port *port = port_of(0, 0);
    port->queue[1]->why = "a slot that is no slot";
    for (unsigned w = 0; w < 2; w++) /* two say so; once is enough */
        workers[w].out[workers[w].nout++] = (struct mail){ MAIL_BROKEN, port };
    look();
    assert_int_equal(get(B "/state"), XenbusStateClosing);
    int error = find_node(B "/error");
    assert_true(error >= 0 && strstr(node[error].value, "a slot that is no slot"));
    settle();
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    guest_end(&g);
    /* Only a new start from the beginning is listened to. */
    put(F "/state", "4");
    settle();
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    put(F "/state", "1");
    settle();
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
}

/* ------------------------------------------------------------------ coming, going */

static void closed_when_the_last_worker_gave_it_back(void **state)
{
    (void)state;
    struct guest g;
    make_vif();
    connect_guest(&g, 1, true); /* one queue, but every worker knows the vif */
    put(F "/state", "5");
    look();
    for (unsigned w = 0; w < WORKERS; w++) {
        assert_int_equal(get(B "/state"), XenbusStateClosing);
        assert_int_equal(queues_alive, 1);
        work(w);
        look();
    }
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    assert_int_equal(queues_alive, 0);
    guest_end(&g);
}

static void frontend_comes_back(void **state)
{
    (void)state;
    struct guest g;
    make_vif();
    for (unsigned life = 0; life < 20; life++) {
        connect_guest(&g, 1 + life % WORKERS, life & 2);
        put(F "/state", life & 1 ? "1" : "6"); /* in order, or started anew without a word */
        settle();
        assert_int_equal(get(B "/state"), life & 1 ? XenbusStateInitWait : XenbusStateClosed);
        guest_end(&g);
        store_rm(&the_store, STORE_NO_TXN, F);
        put(F "/state", "1");
        settle();
        assert_int_equal(get(B "/state"), XenbusStateInitWait);
    }
}

/* Removed while connected, and made again at once under the same name. */
static void removed_and_made_again(void **state)
{
    (void)state;
    struct guest g;
    make_vif();
    connect_guest(&g, WORKERS, true);
    remove_vif();
    make_vif_at(B, F, "52:54:00:00:00:09");
    settle();
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
    guest_end(&g);
    connect_guest(&g, 1, false);
    assert_int_equal(port_of(0, 0)->mac[5], 9);
    close_guest(&g);
}

static void frontend_dies(void **state)
{
    (void)state;
    struct guest g;
    make_vif();
    connect_guest(&g, 1, true);
    hyp_close(front);
    settle();
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    assert_int_equal(queues_alive, 0);
    front = fake_hyp_new(FRONT_DOMID);
    fake_hyp_reset();
}

static void asked_to_stop(void **state)
{
    (void)state;
    struct guest g;
    make_vif();
    make_vif_at(BE_ROOT "/3/1", "/local/domain/3/device/vif/1", "52:54:00:00:00:02");
    settle();
    connect_guest(&g, 2, true);
    assert_false(backend_stopped());
    fake_hyp_stop(back);
    look();
    assert_int_equal(get(BE_ROOT "/3/1/state"), XenbusStateClosed); /* it had nothing to end */
    assert_int_equal(get(B "/state"), XenbusStateClosing);
    settle();
    assert_int_equal(get(B "/state"), XenbusStateClosing);
    assert_int_equal(workers[0].nports, 1); /* served until its frontend leaves */
    assert_false(backend_stopped());
    put(F "/state", "5");
    settle();
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    assert_true(backend_stopped());
    put(F "/state", "1"); /* and nobody is served any more */
    settle();
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    guest_end(&g);
}

/* ---------------------------------------------------------------- gates and spares */

/* The same stage with a gate, which is not ours yet, and an uplink. */
static int raise_gated(void **state)
{
    raise_curtain(state);
    nwatches = nevents = 0;
    put("/local/domain/2/gate", "5");
    uplink = (struct uplink){ .poll_fd = -1, .present = true, .quiet = true };
    assert_int_equal(netback_init(back, &the_store, WORKERS, &uplink), 0);
    return 0;
}

static void give_gate(void)
{
    fake_hyp_device(back, 5, dup(STDIN_FILENO));
}

static void nobody_is_served_before_the_gate(void **state)
{
    (void)state;
    struct guest g;
    make_vif();
    assert_int_equal(get(B "/state"), XenbusStateInitialising);
    uplink.count.rx_packets = 3; /* whatever it saw is not ours to tell */
    netback_tick();
    assert_int_equal(netback_timeout_ms(), -1);
    assert_int_equal(find_node(UP "/stats/rx_packets"), -1);
    assert_false(netback_active());
    fake_hyp_device(back, 6, dup(STDIN_FILENO)); /* another device */
    settle();
    assert_int_equal(get(B "/state"), XenbusStateInitialising);
    assert_int_equal(uplinks_given, 0);
    give_gate();
    settle();
    assert_true(netback_active());
    assert_int_equal(uplinks_given, 1);
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
    connect_guest(&g, 1, true);
    assert_false(port_of(0, 0)->armed);
    assert_int_equal(queues_armed, 0);
    netback_tick();
    assert_int_equal(get(UP "/stats/rx_packets"), 3);
    close_guest(&g);
}

static void gate_that_is_open_at_once(void **state)
{
    (void)state;
    give_gate();
    nwatches = nevents = 0;
    assert_int_equal(netback_init(back, &the_store, WORKERS, &uplink), 0);
    assert_true(netback_active());
    settle();
    assert_int_equal(uplinks_given, 1);
    make_vif();
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
}

static void arm_guest(struct guest *g, unsigned queues)
{
    put(B "/standby", "1");
    make_vif();
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
    assert_int_equal(get(B "/multi-queue-max-queues"), WORKERS);
    assert_int_equal(get(B "/feature-rx-copy"), 1);
    guest_publish(g, queues, true);
    put(F "/state", "3");
    settle();
    assert_int_equal(get(B "/state"), XenbusStateInitialised);
    assert_int_equal(queues_alive, queues);
    assert_int_equal(queues_armed, queues);
    for (unsigned w = 0; w < WORKERS; w++)
        assert_int_equal(workers[w].nports, 0);
}

static void armed_vif_begins_with_the_gate(void **state)
{
    (void)state;
    struct guest g;
    arm_guest(&g, 2);
    assert_int_equal(netback_timeout_ms(), -1);
    give_gate();
    assert_int_equal(backend_hyp_events(), 0);
    for (unsigned w = 0; w < WORKERS; w++) { /* the uplink before the vif */
        assert_int_equal(workers[w].in[w == 0].kind, MAIL_ATTACH);
        assert_true(((struct net_port *)workers[w].in[w == 0].what)->armed);
    }
    assert_int_equal(workers[0].in[0].kind, MAIL_UPLINK);
    settle();
    assert_int_equal(get(B "/state"), XenbusStateConnected);
    put(F "/state", "4");
    settle();
    close_guest(&g);
    assert_int_equal(queues_alive, 0);
    store_rm(&the_store, STORE_NO_TXN, F); /* and the next time as usual, but for the doorbell */
    put(F "/state", "1");
    settle();
    connect_guest(&g, 1, true);
    assert_true(port_of(0, 0)->armed);
    close_guest(&g);
}

static void armed_vif_that_closes(void **state)
{
    (void)state;
    struct guest g;
    arm_guest(&g, 2);
    put(F "/state", "6");
    look(); /* no worker has to agree */
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    assert_int_equal(queues_alive, 0);
    guest_end(&g);
    give_gate();
    settle();
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    put(F "/state", "1");
    settle();
    assert_int_equal(get(B "/state"), XenbusStateInitWait);
}

static void armed_vif_that_goes(void **state)
{
    (void)state;
    struct guest g;
    arm_guest(&g, WORKERS);
    remove_vif();
    look();
    assert_int_equal(queues_alive, 0);
    guest_end(&g);
    queues_armed = 0;
    arm_guest(&g, 1);
    fake_hyp_stop(back);
    look();
    assert_int_equal(get(B "/state"), XenbusStateClosed);
    assert_int_equal(queues_alive, 0);
    assert_true(backend_stopped());
    guest_end(&g);
}

static void same_mac_while_armed(void **state)
{
    (void)state;
    struct guest g;
    arm_guest(&g, 1);
    make_vif_at(BE_ROOT "/3/1", "/local/domain/3/device/vif/1", MAC);
    settle();
    assert_int_equal(get(BE_ROOT "/3/1/state"), XenbusStateClosed);
    put(F "/state", "6");
    settle();
    guest_end(&g);
}

static void ping_comes_back(void **state)
{
    (void)state;
    put("/local/domain/2/ping", "7");
    look();
    for (unsigned w = 0; w < WORKERS; w++) {
        assert_int_equal(get("/local/domain/2/pong"), UINT64_MAX);
        work(w);
        look();
    }
    assert_int_equal(get("/local/domain/2/pong"), 7);
}

/* Nothing that a store says by its absence changes anything. */
static void store_goes_and_comes(void **state)
{
    (void)state;
    static const int errors[] = { -ENOTCONN, -EAGAIN };
    struct guest g;
    make_vif();
    connect_guest(&g, 1, true);
    uplink.present = true;
    for (unsigned i = 0; i < 2; i++) {
        uplink.count.rx_packets++;
        port_of(0, 0)->queue[0]->count.tx_packets++;
        store_error = errors[i];
        fire("", "");
        fire(F "/state", "peer.1");
        fire(BE_ROOT, "own");
        look();
        netback_tick();
        assert_int_equal(workers[0].nports, 1);
        store_error = 0;
        fire("", "");
        settle();
        assert_int_equal(workers[0].nports, 1);
        assert_int_equal(get(B "/state"), XenbusStateConnected);
        netback_tick();
        assert_int_equal(get(UP "/stats/rx_packets"), i + 1);
        assert_int_equal(get(B "/stats/tx_packets"), i + 1);
    }
    close_guest(&g);
}

/* XSA-349: a frontend that writes a watched node without end. */
static void xsa_349_flood_of_watch_events(void **state)
{
    (void)state;
    struct guest g;
    make_vif();
    guest_publish(&g, 1, true);
    put(F "/state", "3");
    nevents = 0; /* as if that one were among those merged */
    fire("", "");
    settle();
    assert_int_equal(get(B "/state"), XenbusStateConnected);
    for (unsigned i = 0; i < 900; i++)
        put(F "/state", "4");
    settle();
    assert_int_equal(get(B "/state"), XenbusStateConnected);
    close_guest(&g);
}

/* --------------------------------------------------------------------- statistics */

static void statistics_only_when_changed(void **state)
{
    (void)state;
    struct guest g;
    make_vif();
    assert_int_equal(netback_timeout_ms(), -1);
    connect_guest(&g, 2, true);
    assert_int_equal(netback_timeout_ms(), BACKEND_TICK_MS);
    struct net_port *port = port_of(0, 0);
    port->queue[0]->count.tx_packets = 5;
    port->queue[1]->count.tx_packets = 7;
    port->queue[1]->count.storms = 1;
    netback_tick();
    assert_int_equal(get(B "/stats/tx_packets"), 12);
    assert_int_equal(get(B "/stats/storms"), 1);
    assert_int_equal(get(B "/stats/rx_packets"), UINT64_MAX);
    put(B "/stats/tx_packets", "77"); /* would be overwritten by a needless write */
    netback_tick();
    assert_int_equal(get(B "/stats/tx_packets"), 77);
    port->queue[0]->count.tx_packets = 6;
    close_guest(&g);
    assert_int_equal(get(B "/stats/tx_packets"), 13); /* the last word before Closed */
    store_rm(&the_store, STORE_NO_TXN, F);
    put(F "/state", "1");
    settle();
    connect_guest(&g, 1, true);
    port->queue[0]->count.tx_packets = 1;
    netback_tick();
    assert_int_equal(get(B "/stats/tx_packets"), 14); /* a vif's, not a connection's */
    close_guest(&g);
}

static void uplinks_statistics(void **state)
{
    (void)state;
    netback_tick();
    assert_int_equal(find_node(UP "/stats/rx_packets"), -1);
    uplink.present = true;
    uplink.count.rx_packets = 3;
    uplink.count.rx_forged = 1;
    assert_int_equal(netback_timeout_ms(), BACKEND_TICK_MS);
    netback_tick();
    assert_int_equal(get(UP "/stats/rx_packets"), 3);
    assert_int_equal(get(UP "/stats/rx_forged"), 1);
    assert_int_equal(find_node(UP "/stats/tx_packets"), -1);
    put(UP "/stats/rx_packets", "77");
    uplink.count.rx_forged = 2;
    netback_tick();
    assert_int_equal(get(UP "/stats/rx_packets"), 77);
    assert_int_equal(get(UP "/stats/rx_forged"), 2);
}

int main(void)
{
#define STAGED(test) cmocka_unit_test_setup_teardown(test, raise_curtain, drop_curtain)
#define GATED(test)  cmocka_unit_test_setup_teardown(test, raise_gated, drop_curtain)
    const struct CMUnitTest tests[] = {
        STAGED(features_then_connected_then_closed),
        STAGED(stock_order_of_states),
        STAGED(frontends_offloads_are_seen),
        STAGED(port_is_as_configured),
        STAGED(port_without_hints),
        STAGED(bad_configuration_is_told),
        STAGED(second_nic_with_the_same_mac),
        STAGED(mac_moves_to_another_nic),
        STAGED(hostile_nodes),
        STAGED(connection_is_whole_or_not),
        STAGED(nonsense_states),
        STAGED(liar_is_disconnected_and_told),
        STAGED(closed_when_the_last_worker_gave_it_back),
        STAGED(frontend_comes_back),
        STAGED(removed_and_made_again),
        STAGED(frontend_dies),
        STAGED(asked_to_stop),
        GATED(nobody_is_served_before_the_gate),
        GATED(gate_that_is_open_at_once),
        GATED(armed_vif_begins_with_the_gate),
        GATED(armed_vif_that_closes),
        GATED(armed_vif_that_goes),
        GATED(same_mac_while_armed),
        STAGED(ping_comes_back),
        STAGED(store_goes_and_comes),
        STAGED(xsa_349_flood_of_watch_events),
        STAGED(statistics_only_when_changed),
        STAGED(uplinks_statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
