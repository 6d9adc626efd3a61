/* SPDX-License-Identifier: MIT */
/*
 * The uplink: DPDK in this process, and the ports that need no interface.
 * What a PMD does with an interface's sockets is seen where there are
 * interfaces (tests/integration).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "../../backends/net/uplink.h"
#include "../../hyp-shim/local/netdev/link.h"
#include "../../hyp-shim/local/rights.h"

#define MTU    1500
#define FRAMES 20u

static struct rte_mempool *pool;
static const int no_files[UPLINK_FILES_MAX] = { -1, -1 };
static char why[512];

static int start(void **state)
{
    (void)state;
    cpu_set_t before, after;
    const char *sentence = "";
    sched_getaffinity(0, sizeof(before), &before);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &before))
        cpu++;
    if (uplink_start_eal(cpu, 24, &sentence) < 0) {
        fprintf(stderr, "%s\n", sentence);
        return -1;
    }
    sched_getaffinity(0, sizeof(after), &after);
    pool = rte_pktmbuf_pool_create("test", 1023, 0, 0, RTE_PKTMBUF_HEADROOM + UPLINK_ROOM(MTU),
                                   SOCKET_ID_ANY);
    return pool && CPU_EQUAL(&before, &after) ? 0 : -1;
}

static void open_it(struct uplink *up, const char *devargs, const int *files)
{
    if (uplink_open(up, devargs, -1, files, MTU, pool, why, sizeof(why)) < 0)
        fail_msg("%s: %s", devargs, why);
    assert_true(up->present);
    assert_int_equal(up->mtu, MTU);
}

static void close_it(struct uplink *up)
{
    struct rte_eth_dev_info info;
    assert_int_equal(rte_eth_dev_info_get(up->port, &info), 0);
    assert_int_equal(rte_eth_dev_stop(up->port), 0);
    assert_int_equal(rte_eth_dev_close(up->port), 0);
    assert_int_equal(rte_dev_remove(info.device), 0);
    assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

/* FRAMES frames, the i-th of 60 + i bytes of i. */
static void send_frames(const struct uplink *up)
{
    for (unsigned i = 0; i < FRAMES; i++) {
        struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
        assert_non_null(m);
        memset(rte_pktmbuf_append(m, (uint16_t)(60 + i)), (int)i, 60 + i);
        assert_int_equal(rte_eth_tx_burst(up->port, 0, &m, 1), 1);
    }
}

static void expect_frames(const struct uplink *up)
{
    struct rte_mbuf *m;
    for (unsigned i = 0; i < FRAMES; i++) {
        assert_int_equal(rte_eth_rx_burst(up->port, 0, &m, 1), 1);
        assert_int_equal(rte_pktmbuf_pkt_len(m), 60 + i);
        for (unsigned k = 0; k < 60 + i; k++)
            assert_int_equal(rte_pktmbuf_mtod(m, uint8_t *)[k], i);
        rte_pktmbuf_free(m);
    }
    assert_int_equal(rte_eth_rx_burst(up->port, 0, &m, 1), 0);
}

/* ------------------------------------------------------------------------- tests */

static void no_devargs_no_port(void **state)
{
    (void)state;
    struct uplink up;
    assert_int_equal(uplink_open(&up, "", -1, no_files, MTU, pool, why, sizeof(why)), 0);
    assert_false(up.present);
    assert_int_equal(up.poll_fd, -1);
}

/* An idle domain must not spin: net_null is silent unless told otherwise. */
static void null_swallows(void **state)
{
    (void)state;
    static const char *const silent[] = { "net_null0", "net_null7,size=1500", "net_null1,no-rx=1",
                                          "net_null2,copy=1,size=64" };
    struct uplink up;
    for (unsigned i = 0; i < sizeof(silent) / sizeof(silent[0]); i++) {
        open_it(&up, silent[i], no_files);
        struct rte_mbuf *m;
        assert_int_equal(up.poll_ms, 0);
        assert_int_equal(rte_eth_rx_burst(up.port, 0, &m, 1), 0);
        send_frames(&up);
        close_it(&up);
    }
    open_it(&up, "net_null3,no-rx=0,size=100", no_files);
    struct rte_mbuf *m;
    assert_true(up.poll_ms > 0);
    assert_int_equal(rte_eth_rx_burst(up.port, 0, &m, 1), 1);
    assert_int_equal(rte_pktmbuf_pkt_len(m), 100);
    rte_pktmbuf_free(m);
    close_it(&up);
}

static void ring_gives_back(void **state)
{
    (void)state;
    struct uplink up;
    open_it(&up, "net_ring0", no_files);
    assert_true(up.poll_ms > 0);
    send_frames(&up);
    expect_frames(&up);
    close_it(&up);
}

/* No path is opened: the files are the given ones, whatever devargs calls them. */
static void pcap_writes_and_reads(void **state)
{
    (void)state;
    struct uplink up;
    int fd = memfd_create("capture", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "what was there before", 21, 100000), 21);
    open_it(&up, "net_pcap0,tx_pcap=/nowhere/out.pcap", (int[]){ fd, -1 });
    assert_int_equal(up.poll_ms, 0);
    send_frames(&up);
    close_it(&up);
    assert_true(lseek(fd, 0, SEEK_END) < 100000);
    assert_int_not_equal(access("/nowhere/out.pcap", F_OK), 0);
    open_it(&up, "net_pcap1,rx_pcap=/nowhere/in.pcap", (int[]){ fd, -1 });
    assert_true(up.poll_ms > 0);
    expect_frames(&up);
    close_it(&up);
    int copy = memfd_create("copy", MFD_CLOEXEC);
    open_it(&up, "net_pcap2,rx_pcap=a,tx_pcap=b", (int[]){ fd, copy });
    expect_frames(&up);
    send_frames(&up);
    close_it(&up);
    assert_int_equal(lseek(copy, 0, SEEK_END), lseek(fd, 0, SEEK_END));
    close(fd);
    close(copy);
}

static void files_are_counted(void **state)
{
    (void)state;
    assert_int_equal(uplink_files(""), 0);
    assert_int_equal(uplink_files("net_null0"), 0);
    assert_int_equal(uplink_files("net_pcap0,tx_pcap=/a"), 1);
    assert_int_equal(uplink_files("net_pcap0,rx_pcap=/a,tx_pcap=/b,infinite_rx=1"), 2);
    assert_int_equal(uplink_files("net_pcap0,iface=eth0"), 0);
}

/* What names a path, memory, another interface or more queues; what is unknown;
 * what is said twice. Refused in words, and no port is left. */
static void bad_devargs_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "net_virtio_user0,path=/dev/vhost-net", "net_nullx", "net_null0x", "0000:01:00.0",
        "net_null0,", "net_null0,size", "net_null0,size=", "net_null0,size=64,size=64",
        "net_null0,iface=eth0",
        "net_ring0,internal=0x1234", "net_ring0,nodeaction=a:0:CREATE", "net_af_packet0",
        "net_af_packet0,iface=eth0,qpairs=2", "net_af_xdp0,iface=eth0,xdp_prog=/tmp/x.o",
        "net_af_xdp0,iface=eth0,queue_count=2", "net_tap0,remote=eth0", "net_tap0,persist",
        "net_pcap0,iface=eth0", "net_pcap0,rx_iface=eth0", "net_pcap0,rx_pcap=a,rx_pcap=b", "net_pcap0", ",",
        "=",
    };
    struct uplink up;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        why[0] = '\0';
        assert_true(uplink_open(&up, bad[i], -1, no_files, MTU, pool, why, sizeof(why)) < 0);
        assert_false(up.present);
        assert_true(strlen(why) > 20);
        assert_int_equal(rte_eth_dev_count_avail(), 0);
    }
    char longer[UPLINK_DEVARGS_MAX + 20] = "net_pcap0,rx_pcap=";
    memset(longer + strlen(longer), 'a', sizeof(longer) - strlen(longer) - 1);
    assert_int_equal(uplink_open(&up, longer, -1, no_files, MTU, pool, why, sizeof(why)), -ENAMETOOLONG);
    assert_int_equal(uplink_open(&up, "net_af_xdp0,iface=eth0", -1, no_files, 9000, pool, why, sizeof(why)),
                     -EINVAL);
}

/* ------------------------------------------------------------------- the keeper */

static void interface_that_nobody_gives(void **state)
{
    (void)state;
    struct uplink up;
    int ch[2];
    assert_int_equal(uplink_open(&up, "net_tap0,iface=t0", -1, no_files, MTU, pool, why, sizeof(why)),
                     -ENODEV);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ch), 0);
    close(ch[1]);
    assert_int_equal(uplink_open(&up, "net_tap0,iface=t0", ch[0], no_files, MTU, pool, why, sizeof(why)),
                     -ENOTCONN);
    close(ch[0]);
}

/* A message that is no grant is refused whole: no descriptor stays. */
static void grants_that_are_none(void **state)
{
    (void)state;
    struct link_grant good = { .version = LINK_VERSION, .kind = LINK_KIND_TAP, .nsockets = 3, .name = "t0" };
    for (unsigned i = 0; i < 4; i++) {
        struct link_grant g = good;
        struct uplink up;
        int ch[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ch), 0);
        int fds[3] = { ch[1], ch[1], ch[1] };
        if (i == 1)
            g.version++;
        if (i == 2)
            g.nsockets = 2;
        if (i == 3)
            memset(g.name, 'n', sizeof(g.name));
        int highest = dup(0);
        close(highest);
        assert_int_equal(rights_send(ch[1], &g, i == 0 ? sizeof(g) - 1 : sizeof(g), fds, 3), 0);
        assert_int_equal(uplink_open(&up, "net_tap0,iface=t0", ch[0], no_files, MTU, pool, why, sizeof(why)),
                         -EPROTO);
        int now = dup(0);
        close(now);
        assert_int_equal(now, highest);
        close(ch[0]);
        close(ch[1]);
    }
}

static void states_are_heard(void **state)
{
    (void)state;
    struct link_grant g = { .version = LINK_VERSION, .kind = LINK_KIND_PACKET, .name = "eth0" };
    uint32_t got;
    int ch[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ch), 0);
    assert_int_equal(uplink_next_state(ch[0], &got), 0);
    for (g.state = LINK_UP; g.state <= LINK_GONE; g.state++) {
        assert_int_equal(rights_send(ch[1], &g, sizeof(g), NULL, 0), 0);
        assert_int_equal(uplink_next_state(ch[0], &got), 1);
        assert_int_equal(got, g.state);
    }
    assert_int_equal(rights_send(ch[1], &g, 1, NULL, 0), 0);
    assert_int_equal(uplink_next_state(ch[0], &got), -EPROTO);
    close(ch[1]);
    assert_int_equal(uplink_next_state(ch[0], &got), -ENOTCONN);
    close(ch[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_devargs_no_port),
        cmocka_unit_test(null_swallows),
        cmocka_unit_test(ring_gives_back),
        cmocka_unit_test(pcap_writes_and_reads),
        cmocka_unit_test(files_are_counted),
        cmocka_unit_test(bad_devargs_are_refused),
        cmocka_unit_test(interface_that_nobody_gives),
        cmocka_unit_test(grants_that_are_none),
        cmocka_unit_test(states_are_heard),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
