/* SPDX-License-Identifier: MIT */
/*
 * offload.h - what a sender left to others: checksums of TCP and UDP, and
 * cutting TCP into segments.
 *
 * A packet with PACKET_CSUM has its headers found (l2_len, l3_len, l4_len) and
 * the pseudo header's sum in its checksum field, computed here from the
 * private copy, whatever the guest had put there.
 *
 * Header rules: RFC 791, 8200, 9293, 768, 1071, 1624.  IPv6 extension headers are
 * followed when they are ones that hosts send before TCP or UDP.
 */
#ifndef BULKHEAD_NET_OFFLOAD_H
#define BULKHEAD_NET_OFFLOAD_H

#include "packet.h"

#define OFFLOAD_SEGMENTS_MAX 160u /* of one packet: 64 KiB at 410 bytes each */

/*
 * Finds the headers of a frame without a tag, fills the lengths in, sets
 * PACKET_CSUM, _V6 and _TCP, and puts the pseudo header's sum into the checksum
 * field.  False: it is no whole TCP or UDP packet; m is as it was.
 */
bool net_offload_find(struct rte_mbuf *m);

/* Completes the checksum of a packet with PACKET_CSUM and without PACKET_GSO;
 * the flag becomes PACKET_VALID. */
void net_offload_checksum(struct rte_mbuf *m);

/* Segments that a packet with PACKET_GSO is cut into. */
unsigned net_offload_segments(const struct rte_mbuf *m);

/*
 * Cuts a packet with PACKET_GSO into out[], each segment whole and with its
 * checksums; m is read only and stays the caller's.  Returns how many there
 * are; 0: no memory, or more than OFFLOAD_SEGMENTS_MAX.
 */
unsigned net_offload_segment(const struct rte_mbuf *m, struct rte_mbuf *out[OFFLOAD_SEGMENTS_MAX]);

#endif
