/* SPDX-License-Identifier: MIT */
/*
 * blkproto.h - blkif as both sides of this project speak it.
 *
 * The protocol is <xen/io/blkif.h>, unchanged: stock frontends and backends
 * are our peers.  This file adds limits, and three operations that are used
 * only when the backend offers them by the feature named beside each.
 */
#ifndef BULKHEAD_BLKPROTO_H
#define BULKHEAD_BLKPROTO_H

#include <stdint.h>

#include <xen/xen.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>

#define BLK_SECTOR_SHIFT 9 /* sectors on the ring are 512 bytes, always */
#define BLK_SECTOR_BYTES (1u << BLK_SECTOR_SHIFT)
#define BLK_PAGE_SECTORS 8u

/* Layout of struct blkif_request_discard; flag bit 0: may unmap.
 * "feature-write-zeroes" = 1 */
#define BLK_OP_WRITE_ZEROES     64
#define BLK_ZEROES_MAY_UNMAP    (1u << 0)
/* As BLKIF_OP_WRITE (also as indirect_op); done when durable.
 * "feature-write-fua" = 1 */
#define BLK_OP_WRITE_FUA        65

/* Grant handling, chosen by the frontend among what the backend offers:
 *   feature-persistent = 1 (both)   pages stay mapped; stock name
 *   feature-grant-copy = 1 (both)   the backend copies and maps nothing but rings
 *   neither                         map and unmap for each request, as blkback
 * feature-persistent wins when both are set. */

#define BLK_MAX_INDIRECT_SEGMENTS 256u /* "feature-max-indirect-segments"; 1 MiB */
#define BLK_INDIRECT_PER_PAGE     (4096u / sizeof(struct blkif_request_segment))
#define BLK_MAX_RING_ORDER        4u   /* "max-ring-page-order"; 16 pages, 512 slots */
#define BLK_MAX_RING_PAGES        (1u << BLK_MAX_RING_ORDER)
#define BLK_MAX_QUEUES            8u   /* "multi-queue-max-queues" */

_Static_assert(sizeof(struct blkif_request) == 112, "blkif x86_64 ABI");
_Static_assert(sizeof(struct blkif_request_indirect) <= sizeof(struct blkif_request), "blkif ABI");
_Static_assert(sizeof(struct blkif_response) == 16, "blkif x86_64 ABI");
_Static_assert(sizeof(struct blkif_request_segment) == 8, "blkif ABI");

#endif
