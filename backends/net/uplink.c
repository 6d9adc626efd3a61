/* SPDX-License-Identifier: MIT */
/* uplink.c - from devargs to a started port. */
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <rte_bus_vdev.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "../../hyp-shim/clock.h"
#include "../../hyp-shim/local/rights.h"
#include "../../hyp-shim/netproto.h"
#include "answers.h"
#include "devargs.h"
#include "eal.h"

#define GRANT_WAIT_MS   10000
#define SOCKETS         3 /* of every link_kind */
#define SOURCE_MS       1 /* between looks at what cannot be waited for */
#define DESCRIPTORS     1024u
#define XDP_BUFFERS     3071u /* its fill ring keeps 2048; all of them are locked, often 8 MiB at most */
#define XDP_FRAME_BYTES 4096u /* a frame and what DPDK puts before it: at most a page */
#define XDP_HEAP_MIB    14u
#define RING_BYTES_MAX  (4u << 20)
#define RING_FRAMES     512u
#define RING_FRAMES_MIN 32u
#define BLOCK_FRAMES    8u /* of 512 bytes times something: a block is then whole pages */

unsigned uplink_heap_mib(const char *devargs)
{
    return strncmp(devargs, "net_af_xdp", 10) == 0 ? XDP_HEAP_MIB : 0;
}

unsigned uplink_files(const char *devargs)
{
    struct devargs d;
    char unused[1];
    if (devargs_parse(&d, devargs, 0, &(struct words){ unused, sizeof(unused) }) < 0)
        return 0;
    return !!devargs_value(&d, "rx_pcap") + !!devargs_value(&d, "tx_pcap");
}

/* ------------------------------------------------------------- the interface */

/* One message of the keeper: the number of descriptors that came with it. */
static int receive(int channel, struct link_grant *link, struct rights *sockets)
{
    int flags;
    ssize_t got = rights_receive(channel, link, sizeof(*link), sockets, LINK_SOCKETS_MAX, &flags);
    if (got == sizeof(*link) && !(flags & (MSG_TRUNC | MSG_CTRUNC)) && link->version == LINK_VERSION &&
        link->nsockets == sockets->n && memchr(link->name, '\0', sizeof(link->name)))
        return (int)sockets->n;
    rights_close(sockets);
    return got < 0 ? (int)got : got == 0 ? -ENOTCONN : -EPROTO;
}

/* Waits for the sockets; news of the interface's state may come before them. */
static int await_grant(int channel, struct answers *a, enum link_kind kind)
{
    uint64_t end = monotonic_ms() + GRANT_WAIT_MS;

    for (uint64_t t = monotonic_ms(); t < end; t = monotonic_ms()) {
        struct pollfd p = { .fd = channel, .events = POLLIN };
        uint64_t left = end - t;
        struct timespec limit = { .tv_sec = (time_t)(left / 1000), .tv_nsec = (long)(left % 1000) * 1000000 };
        if (ppoll(&p, 1, &limit, NULL) <= 0)
            continue;
        struct rights sockets;
        int n = receive(channel, &a->link, &sockets);
        if (n < 0)
            return n;
        if (n == SOCKETS && a->link.kind == kind) {
            memcpy(a->socket, sockets.fd, SOCKETS * sizeof(int));
            return 0;
        }
        rights_close(&sockets);
    }
    return -ETIMEDOUT;
}

int uplink_next_state(int channel, uint32_t *state)
{
    struct link_grant link;
    struct rights sockets;
    int n = receive(channel, &link, &sockets);
    if (n < 0)
        return n == -EAGAIN ? 0 : n;
    rights_close(&sockets); /* a port is opened once */
    *state = link.state;
    return 1;
}

/* The interface shows its frames to others than its own address only when asked. */
static int be_promiscuous(const struct answers *a, int fd)
{
    struct packet_mreq m = { .mr_ifindex = (int)a->link.ifindex, .mr_type = PACKET_MR_PROMISC };
    return setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof(m)) ? -errno : 0;
}

static int get_interface(struct uplink *up, const struct devargs *d, int channel, struct answers *a,
                         const struct words *why)
{
    if (!d->pmd->kind)
        return 0;
    if (channel < 0)
        return devargs_refuse(why, -ENODEV, "the uplink's %s needs an interface, and nobody gives one",
                              d->pmd->name);
    int err = await_grant(channel, a, d->pmd->kind);
    if (err == 0 && d->pmd->kind == LINK_KIND_PACKET)
        err = be_promiscuous(a, a->socket[2]);
    if (err < 0)
        return devargs_refuse(why, err, "the uplink's interface did not come: %s", strerrordesc_np(-err));
    up->poll_fd = a->socket[d->pmd->kind == LINK_KIND_XDP ? 1 : 2];
    up->filtered = d->pmd->kind == LINK_KIND_PACKET;
    memcpy(up->mac, a->link.mac, sizeof(up->mac));
    up->state = a->link.state;
    return 0;
}

/* --------------------------------------------------------- the PMD's options */

struct text {
    char at[UPLINK_DEVARGS_MAX + 128];
    size_t used;
};

__attribute__((format(printf, 2, 3)))
static void add(struct text *t, const char *fmt, ...)
{
    va_list ap;
    if (t->used > 0 && t->used < sizeof(t->at))
        t->at[t->used++] = ',';
    va_start(ap, fmt);
    t->used += (size_t)vsnprintf(t->at + t->used, sizeof(t->at) - t->used, fmt, ap);
    va_end(ap);
}

/* A ring whose frames hold the MTU, of a size that suits it. */
static void add_ring(struct text *t, const struct devargs *d, uint16_t mtu)
{
    unsigned frame = UPLINK_ROOM(mtu), frames = RING_FRAMES;
    while (frames > RING_FRAMES_MIN && frame * frames > RING_BYTES_MAX)
        frames /= 2;
    if (devargs_value(d, "framesz") || devargs_value(d, "blocksz"))
        return;
    add(t, "framesz=%u", frame);
    add(t, "blocksz=%u", frame * BLOCK_FRAMES);
    if (!devargs_value(d, "framecnt"))
        add(t, "framecnt=%u", frames);
}

static void make_options(struct text *t, const struct devargs *d, const struct answers *a, uint16_t mtu)
{
    for (unsigned i = 0; i < d->n; i++)
        if (strcmp(d->key[i], "iface") != 0)
            add(t, "%s=%s", d->key[i], d->value[i]);
    if (d->pmd->kind)
        add(t, "iface=%s", a->link.name);
    if (d->pmd->kind == LINK_KIND_PACKET)
        add_ring(t, d, mtu);
}

/* -------------------------------------------------------------------- the port */

/* Something that brings packets, in a port without an interface. */
static bool has_source(const struct devargs *d)
{
    const char *no_rx = devargs_value(d, "no-rx");
    if (strcmp(d->pmd->name, "net_null") == 0)
        return no_rx && strcmp(no_rx, "0") == 0;
    return strcmp(d->pmd->name, "net_ring") == 0 || devargs_value(d, "rx_pcap");
}

static uint16_t receive_nothing(void *queue, struct rte_mbuf **packet, uint16_t n)
{
    (void)queue, (void)packet, (void)n;
    return 0;
}

/* Buffers that lie one after the other, whatever pages they are on.  DPDK puts
 * none across a page boundary where pages are small, and then net_af_xdp tells
 * the kernel of too little memory: half of the buffers would not be in it. */
static struct rte_mempool *make_dense_pool(const char *name, unsigned count, unsigned room)
{
    struct rte_pktmbuf_pool_private terms = { .mbuf_data_room_size = (uint16_t)room };
    struct rte_mempool *mp =
        rte_mempool_create_empty(name, count, (unsigned)sizeof(struct rte_mbuf) + room, 0, sizeof(terms),
                                 SOCKET_ID_ANY, RTE_MEMPOOL_F_NO_IOVA_CONTIG);
    if (!mp)
        return NULL;
    rte_pktmbuf_pool_init(mp, &terms);
    if (rte_mempool_populate_default(mp) < 0) {
        rte_mempool_free(mp);
        return NULL;
    }
    rte_mempool_obj_iter(mp, rte_pktmbuf_init, NULL);
    return mp;
}

/* Zero-copy reception keeps its buffers in the kernel's hands. */
static struct rte_mempool *rx_pool(const struct devargs *d, uint16_t mtu, struct rte_mempool *given)
{
    if (d->pmd->kind != LINK_KIND_XDP)
        return given;
    unsigned most = XDP_FRAME_BYTES - sizeof(struct rte_mbuf) - rte_mempool_calc_obj_size(0, 0, NULL);
    unsigned room = RTE_PKTMBUF_HEADROOM + XDP_PACKET_HEADROOM + NET_HEADER_BYTES + NET_VLAN_BYTES + mtu;
    room = ((room < most ? room : most) + 63) & ~63u;
    return make_dense_pool("af_xdp", XDP_BUFFERS, room);
}

/* The kernel locks the buffers of net_af_xdp, and would only say that it cannot. */
static int may_lock(const struct rte_mempool *mp, const struct words *why)
{
    uint64_t bytes = (uint64_t)mp->size * (mp->header_size + mp->elt_size + mp->trailer_size);
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur >= bytes)
        return 0;
    return devargs_refuse(why, -EPERM,
                          "the uplink's net_af_xdp locks %llu KiB of buffers, and this domain may lock %llu "
                          "KiB; use a smaller MTU or net_af_packet",
                          (unsigned long long)bytes / 1024, (unsigned long long)limit.rlim_cur / 1024);
}

/* One queue each way, with what the port does better than we. */
static int configure(struct uplink *up, const struct pmd *pmd)
{
    const uint64_t csum = RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
    struct rte_eth_dev_info info;
    struct rte_eth_conf conf = { .rxmode = { .mtu = up->mtu } };

    int err = rte_eth_dev_info_get(up->port, &info);
    if (err < 0)
        return err;
    /* net_af_packet says 1518 whatever its ring is, and minds no MTU. */
    if (pmd->kind == LINK_KIND_PACKET)
        conf.rxmode.mtu = RTE_ETHER_MTU;
    up->hw_csum = !pmd->soft_offloads && (info.tx_offload_capa & csum) == csum;
    up->hw_tso = up->hw_csum && (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_TCP_TSO);
    if (up->hw_csum)
        conf.txmode.offloads |= csum | (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
    if (up->hw_tso)
        conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_TCP_TSO;
    return rte_eth_dev_configure(up->port, 1, 1, &conf);
}

static int start(struct uplink *up, const struct pmd *pmd, struct rte_mempool *pool, const char **what)
{
    uint16_t rx = DESCRIPTORS, tx = DESCRIPTORS;

    *what = "configured";
    int err = configure(up, pmd);
    if (err == 0)
        err = rte_eth_dev_adjust_nb_rx_tx_desc(up->port, &rx, &tx);
    if (err < 0)
        return err;
    if (pmd->kind == LINK_KIND_TAP)
        rx = 1; /* buffers that it takes from the pool and holds */
    *what = "given a queue to receive";
    err = rte_eth_rx_queue_setup(up->port, 0, rx, SOCKET_ID_ANY, NULL, pool);
    if (err < 0)
        return err;
    *what = "given a queue to send";
    err = rte_eth_tx_queue_setup(up->port, 0, tx, SOCKET_ID_ANY, NULL);
    if (err < 0)
        return err;
    *what = "started";
    return rte_eth_dev_start(up->port);
}

static int open_port(struct uplink *up, struct devargs *d, struct answers *a, struct rte_mempool *pool,
                     const struct words *why)
{
    struct text options = { .used = 0 };
    const char *what = "opened";
    struct rte_ether_addr mac;

    make_options(&options, d, a, up->mtu);
    pool = rx_pool(d, up->mtu, pool);
    if (!pool)
        return devargs_refuse(why, -ENOMEM, "no memory for the uplink's buffers");
    int err = d->pmd->kind == LINK_KIND_XDP ? may_lock(pool, why) : 0;
    if (err < 0)
        return err;
    eal_listen(true);
    answers_begin(a);
    err = rte_vdev_init(d->text, options.at);
    if (err == 0)
        err = rte_eth_dev_get_port_by_name(d->text, &up->port);
    if (err == 0)
        err = start(up, d->pmd, pool, &what);
    if (err == 0)
        rte_eth_promiscuous_enable(up->port); /* some are always, and say that they cannot */
    answers_end();
    eal_listen(false);
    if (err == -1)
        err = -EIO; /* what some PMDs say, whatever it was */
    if (err < 0) {
        rte_vdev_uninit(d->text);
        return devargs_refuse(why, err, "the uplink %s,%s cannot be %s (%s): %s", d->text, options.at, what,
                              strerrordesc_np(-err), eal_said());
    }
    if (!d->pmd->kind && rte_eth_macaddr_get(up->port, &mac) == 0)
        memcpy(up->mac, &mac, sizeof(up->mac));
    if (!d->pmd->kind && has_source(d))
        up->poll_ms = SOURCE_MS;
    else if (!d->pmd->kind)
        rte_eth_fp_ops[up->port].rx_pkt_burst = receive_nothing;
    up->present = true;
    answers_never_wait(up->poll_fd);
    return 0;
}

/* What was not handed out, and what was only duplicated, is not ours to keep. */
static void put_down(struct answers *a)
{
    for (unsigned i = 0; i < LINK_SOCKETS_MAX; i++)
        if (a->socket[i] >= 0)
            close(a->socket[i]);
}

int uplink_open(struct uplink *up, const char *devargs, int channel, const int files[UPLINK_FILES_MAX],
                uint16_t mtu, struct rte_mempool *pool, char *why, size_t why_bytes)
{
    const struct words sentence = { why, why_bytes };
    struct devargs d;
    struct answers a = { .link = { .kind = 0 } };

    *up = (struct uplink){ .mtu = mtu, .poll_fd = -1, .state = LINK_UP };
    if (devargs[0] == '\0')
        return 0;
    int err = devargs_parse(&d, devargs, mtu, &sentence);
    if (err < 0)
        return err;
    for (unsigned i = 0; i < LINK_SOCKETS_MAX; i++)
        a.socket[i] = -1;
    a.path[0] = devargs_value(&d, "rx_pcap");
    a.path[1] = devargs_value(&d, "tx_pcap");
    for (unsigned i = 0, given = 0; i < UPLINK_FILES_MAX; i++)
        a.file[i] = a.path[i] ? files[given++] : -1;
    err = get_interface(up, &d, channel, &a, &sentence);
    if (err == 0)
        err = open_port(up, &d, &a, pool, &sentence);
    put_down(&a);
    return err;
}

int uplink_begin(struct uplink *up)
{
    int unused = 0;
    if (!up->filtered)
        return 0;
    up->filtered = false;
    return setsockopt(up->poll_fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof(unused)) ? -errno : 0;
}

bool uplink_clear_error(const struct uplink *up)
{
    struct pollfd p = { .fd = up->poll_fd };
    recv(up->poll_fd, NULL, 0, MSG_DONTWAIT);
    return ppoll(&p, 1, &(struct timespec){ 0 }, NULL) == 0;
}
