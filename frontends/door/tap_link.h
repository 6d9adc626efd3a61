/* SPDX-License-Identifier: MIT */
/*
 * tap_link.h - the TAP devices that the keeper made for this guest.
 *
 * The keeper makes them in the guest's network namespace and sends one
 * descriptor for each NIC over LINK_CHANNEL_FD (link.h).  It is trusted; what
 * comes is checked all the same, since a wrong descriptor would serve a wrong
 * interface.
 */
#ifndef BULKHEAD_TAP_LINK_H
#define BULKHEAD_TAP_LINK_H

#include <stddef.h>

#include <linux/virtio_net.h>

#include "../include/bulkhead/netfront.h"

/* What the kernel puts before each packet, as tap_agree() asks for. */
#define TAP_HEADER_BYTES sizeof(struct virtio_net_hdr)

/* Waits for n descriptors, by index; they do not block and are the caller's.
 * 0 or a negative errno with a sentence. */
int tap_receive(int channel, int *fds, unsigned n, char *why, size_t why_bytes);

/* Asks the kernel to leave undone what the NIC can do later, and nothing else.
 * Before jail_seal(). 0 or a negative errno. */
int tap_agree(int tap, const struct netfront_info *can);

#endif
