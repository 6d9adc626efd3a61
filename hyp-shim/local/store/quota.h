/* SPDX-License-Identifier: MIT */
/*
 * quota.h - what a domain may hold in the store.
 *
 * Every table is static and as large as the sum of what all domains may hold
 * in it: a domain that uses up its share takes nothing from another, and the
 * store never asks the kernel for memory (XSA-326, XSA-419).  All of them
 * together are below 64 MiB, which the process's limit must allow; pages that
 * are never used are never touched, so an idle store is small.
 *
 * A guest's share has some slack that only the toolstack may use: so a guest
 * cannot, by filling its share, keep the toolstack from writing its nodes.
 */
#ifndef BULKHEAD_STORE_QUOTA_H
#define BULKHEAD_STORE_QUOTA_H

#include <errno.h> /* before xs_wire.h: only then does that have its table of errors */

#include <xen/io/xs_wire.h>

#include "../limits.h"

#define XSD_GUESTS (CORE_DOMAINS_MAX - 1) /* all but the toolstack, domid 0 */

/*                          each guest      more, when    the toolstack
 *                          by itself       dom0 asks     itself          */
#define XSD_NODES_GUEST     2048u
#define XSD_NODES_SLACK     128u
#define XSD_NODES_DOM0      16384u
#define XSD_BLOCKS_GUEST    6144u /* of XSD_BLOCK_BYTES: names, values, watches, transactions */
#define XSD_BLOCKS_SLACK    512u
#define XSD_BLOCKS_DOM0     49152u
#define XSD_WATCHES_GUEST   256u
#define XSD_WATCHES_DOM0    8192u
#define XSD_TXNS_GUEST      8u
#define XSD_TXNS_DOM0       64u
#define XSD_ENTRIES_GUEST   512u  /* nodes seen or written in open transactions */
#define XSD_ENTRIES_DOM0    8192u
#define XSD_TOOLS_GUEST     4u    /* connections through the listening socket */
#define XSD_TOOLS_DOM0      32u

#define XSD_NODES    (XSD_GUESTS * (XSD_NODES_GUEST + XSD_NODES_SLACK) + XSD_NODES_DOM0)
#define XSD_BLOCKS   (XSD_GUESTS * (XSD_BLOCKS_GUEST + XSD_BLOCKS_SLACK) + XSD_BLOCKS_DOM0)
#define XSD_WATCHES  (XSD_GUESTS * XSD_WATCHES_GUEST + XSD_WATCHES_DOM0)
#define XSD_TXNS     (XSD_GUESTS * XSD_TXNS_GUEST + XSD_TXNS_DOM0)
#define XSD_ENTRIES  (XSD_GUESTS * XSD_ENTRIES_GUEST + XSD_ENTRIES_DOM0)
/* All guests together get this many connections of the listening socket; the
 * rest is the toolstack's. */
#define XSD_TOOLS_GUESTS 32u
#define XSD_TOOLS    (XSD_TOOLS_GUESTS + XSD_TOOLS_DOM0)
#define XSD_CONNS    (CORE_DOMAINS_MAX + XSD_TOOLS)

#define XSD_VALUE_GUEST 2048u /* bytes in a value that a guest writes        */
#define XSD_PERMS_MAX   5u    /* entries on one node                         */
#define XSD_PATH_MAX    XENSTORE_ABS_PATH_MAX /* bytes, without the NUL      */

/* A watch event must fit in one message, whatever the path (XSA-324). */
#define XSD_TOKEN_MAX   (XENSTORE_PAYLOAD_MAX - (XSD_PATH_MAX + 1) - 1)

#define XSD_MESSAGE_MAX (sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX)
#define XSD_IN_BYTES    (2 * XSD_MESSAGE_MAX)
#define XSD_OUT_BYTES   (4 * XSD_MESSAGE_MAX)

#define XSD_BUDGET      16 /* requests of one connection in one turn         */
#define XSD_ACCEPTS     4  /* new connections in one turn                    */

#endif
