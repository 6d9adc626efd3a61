/* SPDX-License-Identifier: MIT */
/*
 * frame.h - what a virtio header and a netif packet each say of checksums and
 * segments, and how one becomes the other.
 *
 * virtio names places in the packet (virtio 1.2, 5.1.6.2); netif says only what
 * is missing, and whoever completes it finds the place by itself.  So headers
 * are read here, from a private copy of the packet's first bytes: the rest may
 * be shared memory and is never looked at for a decision.
 *
 * Pure functions; none of them keeps a pointer.
 */
#ifndef BULKHEAD_FRAME_H
#define BULKHEAD_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#include "../include/bulkhead/netfront.h"

/* Enough for two VLAN tags and the longest IPv4 and TCP headers, or for IPv6 with
 * some extension headers. */
#define FRAME_HEAD_MAX 192u

/* A TCP or UDP packet; offsets from the first byte of the frame. */
struct frame {
    uint16_t l3;      /* the IP header        */
    uint16_t l4;      /* its header           */
    uint16_t csum;    /* the checksum field   */
    uint16_t payload; /* behind the header    */
    bool ipv6, tcp;
    bool cwr;         /* TCP: congestion window reduced (RFC 3168) */
};

/* False: another protocol, a fragment, or headers that do not fit in n bytes. */
bool frame_parse(const uint8_t *head, size_t n, struct frame *out);

enum offload {
    OFFLOAD_AS_TOLD, /* flags and gso_size say it all                          */
    OFFLOAD_FILL,    /* frame_fill_csum() first: the NIC cannot                 */
    OFFLOAD_BAD      /* nobody can: drop it                                     */
};

/* From a kernel, a TAP's or a guest's, to a NIC that can do what *can says; total bytes, head is the
 * first n of them. */
enum offload offload_from_virtio(const struct virtio_net_hdr *from, const uint8_t *head, size_t n,
                                 size_t total, const struct netfront_info *can, uint16_t *flags,
                                 uint16_t *gso_size);

/* From a NIC to a kernel. False: the flags do not fit the packet. */
bool offload_to_virtio(uint16_t flags, uint16_t gso_size, const uint8_t *head, size_t n, size_t total,
                       struct virtio_net_hdr *to);

/*
 * One segment of a TCP packet that was to be cut: writes its headers, f->payload bytes, from
 * those of the whole.  The index-th one, of `bytes` of payload from `at` on; `last` of all.
 * Its checksum field holds the pseudo header's sum.  head and f are as frame_parse() had them.
 */
void frame_segment(const uint8_t *head, const struct frame *f, unsigned index, size_t at, size_t bytes,
                   bool last, uint8_t *out);

/* Sums the packet from byte `start` on, where the field at start + offset holds
 * the pseudo header's sum, and writes the checksum there.  False: there is no such
 * place in the packet. */
bool frame_fill_csum(const struct netfront_packet *pieces, unsigned n, size_t start, size_t offset);

#endif
