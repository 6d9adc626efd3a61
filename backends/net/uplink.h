/* SPDX-License-Identifier: MIT */
/*
 * uplink.h - the driver domain's way out: one DPDK port, and DPDK itself.
 *
 * EAL runs in the jail: no path, no capability, no hugetlbfs.  What it or a
 * PMD would open is answered from what the launcher and the keeper gave
 * (eal.c and answers.c: a few calls are wrapped at link time).  After
 * uplink_open() the port needs no call that the class's allow-list does not
 * have.
 */
#ifndef BULKHEAD_NET_UPLINK_H
#define BULKHEAD_NET_UPLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_mempool.h>

#define UPLINK_DEVARGS_MAX 256
#define UPLINK_FILES_MAX   2

/* Room for data that a buffer of the pool must have (headroom apart): the
 * frame, its tag, and what net_af_packet puts before it, in its steps. */
#define UPLINK_ROOM(mtu) (((mtu) + 84u + 511u) / 512u * 512u) /* 9728 at most */

/* Of the uplink; names of the nodes below /local/domain/OWN/uplink/stats. */
#define UPLINK_COUNTERS(X)                                                                     \
    X(tx_packets) X(tx_bytes) X(rx_packets) X(rx_bytes)                                        \
    X(tx_dropped)  /* the port took no more                                                 */ \
    X(rx_no_port)  /* for nobody here                                                       */ \
    X(rx_forged)   /* a source address that is one of our vifs'                             */ \
    X(rx_bad_vlan) /* of a VLAN that no vif is in                                           */ \
    X(rx_dropped)  /* no room on the way to another worker, or longer than any MTU           */ \
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
    int poll_fd;          /* readable when packets came; -1: the PMD has none           */
    uint32_t poll_ms;     /* no poll_fd: look again after that long; 0: nothing ever comes by itself */
    uint8_t mac[6];
    uint32_t state;       /* enum link_state, when it was opened                        */
    bool filtered;        /* poll_fd takes no frame before uplink_begin()               */
    bool quiet;           /* worker 0 leaves it alone until MAIL_UPLINK                 */
    struct uplink_counters count; /* worker 0's, relaxed                                */
};

/*
 * Starts EAL on CPU `cpu` with `mib` MiB of heap, in huge pages where there
 * are some.  Once, before other threads, after jail_confine().  The calling
 * thread keeps its affinity.  0 or a negative errno with a sentence.
 */
int uplink_start_eal(int cpu, unsigned mib, const char **why);

/* MiB that the port itself needs of that heap. */
unsigned uplink_heap_mib(const char *devargs);

/*
 * Opens the port that devargs names ("net_null0", "net_af_packet0,iface=eth1";
 * "" none: present stays false) with one queue each way, started, promiscuous.
 * channel: descriptor on which the keeper sends the interface's sockets, used
 * when the PMD needs some (waits up to 10 s); -1: none.  files: of net_pcap,
 * rx_pcap's first, then tx_pcap's, as many as devargs names; they stay the
 * caller's.  rx frames come from pool, whose buffers have
 * UPLINK_ROOM(mtu).  A packet to send is one buffer.  Before jail_seal().
 *
 * Two PMDs are not opened as their devargs would have it.  net_null makes
 * packets without end when it is asked for some, which an idle domain must not
 * do: it receives only when devargs say no-rx=0.  net_af_packet gets a ring
 * that fits the MTU where devargs do not say how large it is.
 */
int uplink_open(struct uplink *up, const char *devargs, int channel, const int files[UPLINK_FILES_MAX],
                uint16_t mtu, struct rte_mempool *pool, char *why, size_t why_bytes);

/* Frames come in from now on: for who serves, not for its spare.  May be called when the
 * jail is sealed. 0 or a negative errno. */
int uplink_begin(struct uplink *up);

/* How many files devargs names. */
unsigned uplink_files(const char *devargs);

/*
 * The keeper's next word on the interface: 1 and an enum link_state, 0 none
 * now, -ENOTCONN the keeper is gone, other negative errno: nonsense, skipped.
 */
int uplink_next_state(int channel, uint32_t *state);

/*
 * poll_fd reported something other than data: takes the error off it, so that
 * it is not reported again (net_af_packet: the interface went down).  False: it
 * stays (the interface is gone); leave poll_fd out of the next sleep, which is
 * then a short one.
 */
bool uplink_clear_error(const struct uplink *up);

#endif
