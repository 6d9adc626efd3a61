/* SPDX-License-Identifier: MIT */
/* packet.c - the pools that all packets of the domain come from. */
#include <errno.h>

#include <rte_errno.h>

#include "packet.h"
#include "worker.h"

struct net_pools net_pools;

static struct rte_mempool *make(const char *name, unsigned count, unsigned cache, uint32_t room)
{
    return rte_pktmbuf_pool_create(name, count, cache, 0, (uint16_t)room, SOCKET_ID_ANY);
}

int net_packets_init(uint16_t mtu, struct rte_mempool **rx, const char **why)
{
    /* The caches are a thread's own.  They return the packet that was freed last:
     * under load the same few are used again and again, still in the cache. */
    net_pools.small = make("small", PACKET_SMALL_COUNT, 4 * NET_BURST, PACKET_ROOM + PACKET_SMALL_BYTES);
    net_pools.medium =
        make("medium", PACKET_MEDIUM_COUNT, NET_BURST / 2, PACKET_ROOM + UPLINK_ROOM(NET_MTU_MAX));
    net_pools.large = make("large", PACKET_LARGE_COUNT, 4, PACKET_LARGE_BYTES);
    if (!net_pools.small || !net_pools.medium || !net_pools.large) {
        *why = "there is no memory for packet buffers";
        return -(rte_errno ? rte_errno : ENOMEM);
    }
    *rx = UPLINK_ROOM(mtu) <= PACKET_SMALL_BYTES ? net_pools.small : net_pools.medium;
    return 0;
}

struct rte_mbuf *packet_copy(const struct rte_mbuf *m)
{
    struct rte_mbuf *copy = packet_new(m->port, m->pkt_len);
    if (!copy)
        return NULL;
    copy->vlan_tci = m->vlan_tci;
    copy->hash.usr = m->hash.usr;
    copy->tx_offload = m->tx_offload;
    memcpy(packet_data(copy), rte_pktmbuf_mtod(m, const uint8_t *), m->pkt_len);
    return copy;
}
