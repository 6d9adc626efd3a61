/* SPDX-License-Identifier: MIT */
/*
 * netterms.h - what a NIC and its backend agree on.
 *
 * The address and the MTU come from the toolstack, the features from the driver
 * domain, which may lie about them: numbers are bounded.  The first connection
 * settles the terms for the life of the handle; a later backend that offers
 * less is refused.  Split event channels are used whenever there are some.
 * Called with the guest's lock held.
 */
#ifndef BULKHEAD_NETTERMS_H
#define BULKHEAD_NETTERMS_H

#include "nic.h"

/* As accept_offer of struct device_class. */
int netterms_accept_offer(struct link *l);

#endif
