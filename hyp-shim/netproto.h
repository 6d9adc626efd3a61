/* SPDX-License-Identifier: MIT */
/*
 * netproto.h - netif as both sides of this project speak it.
 *
 * The protocol is <xen/io/netif.h>, unchanged: stock frontends and backends
 * are our peers.  This file adds limits, and the one key that is ours.
 *
 * Store keys, stock names unless said otherwise:
 *   backend   feature-sg feature-gso-tcpv4 feature-gso-tcpv6 feature-ipv6-csum-offload feature-rx-copy
 *             feature-rx-flip=0 feature-split-event-channels multi-queue-max-queues, and feature-persistent
 *   toolstack (backend's directory) handle mac mtu bulkhead-weight bulkhead-vlan bulkhead-trunk
 *             bulkhead-isolated bulkhead-inbound bulkhead-outbound, see port.h of the backend
 *   frontend  tx-ring-ref rx-ring-ref event-channel-tx event-channel-rx | event-channel request-rx-copy=1
 *             feature-rx-notify=1 feature-sg feature-gso-tcpv4 feature-gso-tcpv6 feature-ipv6-csum-offload
 *             feature-no-csum-offload multi-queue-num-queues queue-N/..., and feature-persistent
 *
 * Grant handling, chosen by the frontend as for disks:
 *   feature-persistent = 1 (both)   pages stay mapped, no system call a packet
 *   neither                         grant copy; only the rings are mapped (as stock netback)
 */
#ifndef BULKHEAD_NETPROTO_H
#define BULKHEAD_NETPROTO_H

#include <stdint.h>

#include <xen/xen.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/io/netif.h>

#define NET_RING_SLOTS   256u  /* of each of the two rings of a queue; one page each   */
#define NET_SLOTS_MAX    XEN_NETIF_NR_SLOTS_MIN /* slots of one packet, extras apart: 18 */
#define NET_EXTRAS_MAX   (XEN_NETIF_EXTRA_TYPE_MAX - 1) /* one of each type            */
#define NET_HEADER_BYTES 14u   /* Ethernet                                             */
#define NET_VLAN_BYTES   4u
#define NET_PACKET_MAX   65535u /* a packet on a ring, header included (netif's size is 16 bits) */
#define NET_QUEUES_MAX   8u    /* "multi-queue-max-queues" at most                     */
#define NET_MTU_MIN      68u
#define NET_MTU_DEFAULT  1500u
#define NET_MTU_MAX      9216u
#define NET_MAC_BYTES    6u
#define NET_VLAN_MAX     4094u

_Static_assert(sizeof(netif_tx_request_t) == 12, "netif ABI");
_Static_assert(sizeof(netif_tx_response_t) == 4, "netif ABI");
_Static_assert(sizeof(netif_rx_request_t) == 8, "netif ABI");
_Static_assert(sizeof(netif_rx_response_t) == 8, "netif ABI");
_Static_assert(sizeof(struct netif_extra_info) == 8, "netif ABI");

/* Slot sizes on the ring: the union of request and response. */
#define NET_TX_SLOT_BYTES 12u
#define NET_RX_SLOT_BYTES 8u

#endif
