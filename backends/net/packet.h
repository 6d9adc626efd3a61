/* SPDX-License-Identifier: MIT */
/*
 * packet.h - a packet inside the driver domain, and where its memory is from.
 *
 * A packet is one rte_mbuf of one segment.  Inside, it has a VLAN id and no
 * tag, and what its sender left for others to do (checksum, segmentation)
 * stands in flags that this file names.  Used as DPDK has them: data_off,
 * pkt_len, data_len, refcnt, l2_len, l3_len, l4_len, tso_segsz.  Used in our
 * own way until a packet reaches the uplink:
 *   vlan_tci   VLAN id, 0: untagged
 *   port       index of the vif that sent it; NET_FROM_UPLINK
 *   hash.usr   PACKET_* flags
 *
 * Whose it is.  A packet belongs to one worker at a time; another one gets it
 * whole (handed over) or gets a copy.  Within a worker several queues may hold
 * it (refcnt).  Then it is changed only in ways that are right for every
 * holder, as filling in its checksum is; for any other change it is copied.
 */
#ifndef BULKHEAD_NET_PACKET_H
#define BULKHEAD_NET_PACKET_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include "../../hyp-shim/netproto.h"

/* Three sizes.  The pools have 22 MiB resident when idle (each object's header was
 * written once, and DPDK's caches for threads that are not there), 33 MiB with
 * everything in use. */
#define PACKET_SMALL_BYTES  2048u
#define PACKET_MEDIUM_BYTES (NET_MTU_MAX + NET_HEADER_BYTES + NET_VLAN_BYTES)
#define PACKET_LARGE_BYTES  NET_PACKET_MAX
#define PACKET_SMALL_COUNT  4096u
#define PACKET_MEDIUM_COUNT 512u
#define PACKET_LARGE_COUNT  128u
/* Before the data: a tag fits.  Large ones have none, since an mbuf has 16 bits
 * for its length; they are cut before they get a tag. */
#define PACKET_ROOM         RTE_PKTMBUF_HEADROOM

#define NET_BURST 32u /* packets handled at a time */

#define NET_FROM_UPLINK UINT16_MAX /* no vif's index */

/* hash.usr */
#define PACKET_CSUM     (1u << 0) /* the TCP or UDP checksum holds the pseudo header's sum only */
#define PACKET_GSO      (1u << 1) /* TCP, to be cut into segments of tso_segsz; CSUM is set too */
#define PACKET_V6       (1u << 2) /* with CSUM: IPv6, else IPv4                                 */
#define PACKET_TCP      (1u << 3) /* with CSUM: TCP, else UDP                                   */
#define PACKET_VALID    (1u << 4) /* the checksum is known to be right                          */
#define PACKET_ISOLATED (1u << 5) /* its sender may not reach isolated vifs                     */
#define PACKET_OTHERS   (1u << 6) /* handed over: for all of the VLAN that the receiver has     */

struct net_pools {
    struct rte_mempool *small, *medium, *large;
};
extern struct net_pools net_pools;

/* The pool for packets of that many bytes. */
static inline struct rte_mempool *packet_pool(uint32_t bytes)
{
    return bytes <= PACKET_SMALL_BYTES    ? net_pools.small
           : bytes <= PACKET_MEDIUM_BYTES ? net_pools.medium
                                          : net_pools.large;
}

static inline uint8_t *packet_data(struct rte_mbuf *m)
{
    return rte_pktmbuf_mtod(m, uint8_t *);
}

/*
 * What a packet taken from a pool raw must be given; the rest is as it should be
 * in every free mbuf.  Fields are written several in one store, since they are
 * read so: a wide read of what narrow stores wrote waits for all earlier stores
 * to reach the cache.
 */
static inline uint64_t packet_first_words(uint16_t room, uint16_t port)
{
    struct { uint16_t data_off, refcnt, nb_segs, port; } f = { room, 1, 1, port };
    uint64_t words;
    memcpy(&words, &f, sizeof(words));
    return words;
}

/* Without the length. */
static inline uint64_t packet_last_words(uint16_t vlan, uint32_t flags)
{
    struct { uint16_t data_len, vlan_tci; uint32_t usr; } f = { 0, vlan, flags };
    uint64_t words;
    memcpy(&words, &f, sizeof(words));
    return words;
}

static inline void packet_init_as(struct rte_mbuf *m, uint64_t first_words, uint64_t last_words,
                                  uint32_t bytes)
{
    uint64_t type_and_length = RTE_LE64((uint64_t)bytes << 32);
    last_words |= RTE_LE64((uint64_t)(uint16_t)bytes);
    memcpy(&m->rearm_data, &first_words, 8);
    m->ol_flags = 0;
    memcpy(&m->packet_type, &type_and_length, 8);
    memcpy(&m->data_len, &last_words, 8);
}
_Static_assert(offsetof(struct rte_mbuf, pkt_len) == offsetof(struct rte_mbuf, packet_type) + 4 &&
               offsetof(struct rte_mbuf, vlan_tci) == offsetof(struct rte_mbuf, data_len) + 2 &&
               offsetof(struct rte_mbuf, hash) == offsetof(struct rte_mbuf, data_len) + 4 &&
               offsetof(struct rte_mbuf, port) == offsetof(struct rte_mbuf, data_off) + 6, "DPDK's mbuf");

static inline void packet_init(struct rte_mbuf *m, uint16_t port, uint32_t bytes)
{
    packet_init_as(m, packet_first_words(bytes <= PACKET_MEDIUM_BYTES ? PACKET_ROOM : 0, port), 0, bytes);
}

/* n raw packets, or none. */
static inline bool packet_get(struct rte_mempool *pool, struct rte_mbuf **out, unsigned n)
{
    return rte_mempool_get_bulk(pool, (void **)out, n) == 0;
}

static inline struct rte_mbuf *packet_new(uint16_t port, uint32_t bytes)
{
    struct rte_mbuf *m;
    if (!packet_get(packet_pool(bytes), &m, 1))
        return NULL;
    packet_init(m, port, bytes);
    return m;
}

/* Gives back raw packets whose count of holders is one. */
static inline void packet_put_raw(struct rte_mbuf *m)
{
    rte_mempool_put(m->pool, m);
}

/* A copy that nobody else holds; NULL: no memory. */
struct rte_mbuf *packet_copy(const struct rte_mbuf *m);

/* Destination and VLAN as one number: what the switch goes by. */
static inline uint64_t packet_target(struct rte_mbuf *m)
{
    uint64_t first;
    memcpy(&first, packet_data(m), sizeof(first));
    return first << 16 | m->vlan_tci;
}

/* A six-byte address as a number, first byte lowest. */
static inline uint64_t mac_number(const uint8_t *mac)
{
    uint64_t n = 0;
    memcpy(&n, mac, NET_MAC_BYTES);
    return n;
}

static inline uint16_t load_be16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline void store_be16(uint8_t *at, uint16_t v)
{
    at[0] = (uint8_t)(v >> 8);
    at[1] = (uint8_t)v;
}

#define ETHERTYPE_AT   12u
#define ETHERTYPE_IPV4 0x0800u
#define ETHERTYPE_IPV6 0x86ddu
#define ETHERTYPE_VLAN 0x8100u
#define ETHERTYPE_QINQ 0x88a8u

static inline bool is_tag(uint16_t ethertype)
{
    return ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ;
}

/* Takes the tag out of the frame.  It is there: the frame is longer than a
 * header and a tag. */
static inline void packet_untag(struct rte_mbuf *m)
{
    uint8_t *data = packet_data(m);
    memmove(data + NET_VLAN_BYTES, data, ETHERTYPE_AT);
    m->data_off += NET_VLAN_BYTES;
    m->data_len -= NET_VLAN_BYTES;
    m->pkt_len -= NET_VLAN_BYTES;
}

/* Puts one in; nobody else holds the packet. */
static inline void packet_tag(struct rte_mbuf *m, uint16_t vlan)
{
    m->data_off -= NET_VLAN_BYTES;
    m->data_len += NET_VLAN_BYTES;
    m->pkt_len += NET_VLAN_BYTES;
    uint8_t *data = packet_data(m);
    memmove(data, data + NET_VLAN_BYTES, ETHERTYPE_AT);
    store_be16(data + ETHERTYPE_AT, ETHERTYPE_VLAN);
    store_be16(data + ETHERTYPE_AT + 2, vlan);
    if (m->hash.usr & PACKET_CSUM)
        m->l2_len += NET_VLAN_BYTES;
}

#endif
