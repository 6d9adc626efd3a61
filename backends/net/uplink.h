/* SPDX-License-Identifier: MIT */
/*
 * uplink.h - the driver domain's way out: one DPDK port, and DPDK itself.
 *
 * EAL runs in the jail: no path, no capability, no hugetlbfs.  What it or a
 * PMD would open is answered from what the launcher and the keeper gave
 * (eal.c: a few libc calls are wrapped at link time).  After uplink_open() the
 * port needs no call that the class's allow-list does not have.
 */
#ifndef BULKHEAD_NET_UPLINK_H
#define BULKHEAD_NET_UPLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_mempool.h>

#define UPLINK_DEVARGS_MAX 256

/* Of the uplink; names of the nodes below /local/domain/OWN/uplink/stats. */
#define UPLINK_COUNTERS(X)                                                                     \
    X(tx_packets) X(tx_bytes) X(rx_packets) X(rx_bytes)                                        \
    X(tx_dropped)  /* the port took no more                                                 */ \
    X(rx_no_port)  /* for nobody here                                                       */ \
    X(rx_forged)   /* a source address that is one of our vifs'                             */ \
    X(rx_bad_vlan) /* of a VLAN that no vif is in                                           */ \
    X(rx_short)                                                                                \
    X(learned)     /* addresses that were learned behind it                                 */

struct uplink_counters {
#define X(name) uint64_t name;
    UPLINK_COUNTERS(X)
#undef X
};

struct uplink {
    bool present;         /* there is a port                                            */
    uint16_t port;        /* its number; rx queue 0, tx queue 0; worker 0 has it alone  */
    uint16_t mtu;
    bool hw_csum, hw_tso; /* the port fills checksums in, cuts segments                 */
    int poll_fd;          /* readable when packets came; -1: the PMD has none            */
    uint32_t poll_ms;     /* no poll_fd: look again after that long; 0: nothing ever comes by itself */
    uint8_t mac[6];
    struct uplink_counters count; /* worker 0's, relaxed                                 */
};

/*
 * Starts EAL on CPU `cpu` with `mib` MiB of heap, in huge pages where there
 * are some.  Once, before other threads, after jail_confine().  0 or a negative
 * errno with a sentence.
 */
int uplink_start_eal(int cpu, unsigned mib, const char **why);

/*
 * Opens the port that devargs names ("net_null0", "net_af_packet0,iface=eth1";
 * "" none: present stays false) with one queue each way, started, promiscuous.
 * channel: descriptor on which the keeper sends the interface's sockets, used
 * when the PMD needs some (waits up to 10 s); -1: none.  rx frames come from
 * pool.  Before jail_seal().
 */
int uplink_open(struct uplink *up, const char *devargs, int channel, uint16_t mtu,
                struct rte_mempool *pool, char *why, size_t why_bytes);

#endif
