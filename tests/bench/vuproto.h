/* SPDX-License-Identifier: MIT */
/*
 * vuproto.h - vhost-user messages, as the side that has the memory says them.
 *
 * Source: the vhost-user specification (QEMU docs/interop/vhost-user.rst).  Written
 * apart from the door's own definitions: that both mean the same is part of what
 * is tested.
 */
#ifndef BULKHEAD_BENCH_VUPROTO_H
#define BULKHEAD_BENCH_VUPROTO_H

#include <stdint.h>

#define VU_VERSION    1u
#define VU_REPLY      (1u << 2)
#define VU_NEED_REPLY (1u << 3)
#define VU_NO_FD      (1u << 8) /* of a kick or call descriptor's message */

enum vu_request {
    VU_GET_FEATURES = 1,
    VU_SET_FEATURES = 2,
    VU_SET_OWNER = 3,
    VU_SET_MEM_TABLE = 5,
    VU_SET_VRING_NUM = 8,
    VU_SET_VRING_ADDR = 9,
    VU_SET_VRING_BASE = 10,
    VU_GET_VRING_BASE = 11,
    VU_SET_VRING_KICK = 12,
    VU_SET_VRING_CALL = 13,
    VU_GET_PROTOCOL_FEATURES = 15,
    VU_SET_PROTOCOL_FEATURES = 16,
    VU_GET_QUEUE_NUM = 17,
    VU_SET_VRING_ENABLE = 18,
    VU_GET_CONFIG = 24,
    VU_GET_INFLIGHT_FD = 31,
    VU_SET_INFLIGHT_FD = 32
};

#define VU_F_PROTOCOL_FEATURES (1ull << 30)
#define VU_PROTOCOL_MQ         (1ull << 0)
#define VU_PROTOCOL_REPLY_ACK  (1ull << 3)
#define VU_PROTOCOL_CONFIG     (1ull << 9)
#define VU_PROTOCOL_INFLIGHT   (1ull << 12)

struct vu_header {
    uint32_t request, flags, bytes;
};
struct vu_state {
    uint32_t index, num;
};
struct vu_addr {
    uint32_t index, flags;
    uint64_t desc, used, avail, log;
};
#define VU_REGIONS 2u
struct vu_table {
    uint32_t n, padding;
    struct vu_region {
        uint64_t guest, bytes, user, offset;
    } region[VU_REGIONS];
};
#define VU_CONFIG_BYTES 60u /* of a disk, to where write-zeroes ends: what every QEMU knows */
struct vu_config {
    uint32_t offset, bytes, flags;
    uint8_t data[VU_CONFIG_BYTES];
};
struct vu_inflight {
    uint64_t bytes, offset;
    uint16_t queues, size;
} __attribute__((packed));

#endif
