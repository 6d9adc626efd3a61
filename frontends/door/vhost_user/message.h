/* SPDX-License-Identifier: MIT */
/*
 * message.h - what goes over a vhost-user socket, and whether one message can be
 * right at all.
 *
 * Source: the vhost-user specification (QEMU docs/interop/vhost-user.rst), names
 * after it.  Numbers are in the machine's own byte order.  A message is a header,
 * then `size` bytes; descriptors come with it as SCM_RIGHTS.
 */
#ifndef BULKHEAD_VHOST_MESSAGE_H
#define BULKHEAD_VHOST_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "memory.h"
#include "queue.h"

enum vhost_request {
    VHOST_REQ_GET_FEATURES = 1,
    VHOST_REQ_SET_FEATURES = 2,
    VHOST_REQ_SET_OWNER = 3,
    VHOST_REQ_RESET_OWNER = 4,
    VHOST_REQ_SET_MEM_TABLE = 5,
    VHOST_REQ_SET_VRING_NUM = 8,
    VHOST_REQ_SET_VRING_ADDR = 9,
    VHOST_REQ_SET_VRING_BASE = 10,
    VHOST_REQ_GET_VRING_BASE = 11,
    VHOST_REQ_SET_VRING_KICK = 12,
    VHOST_REQ_SET_VRING_CALL = 13,
    VHOST_REQ_SET_VRING_ERR = 14,
    VHOST_REQ_GET_PROTOCOL_FEATURES = 15,
    VHOST_REQ_SET_PROTOCOL_FEATURES = 16,
    VHOST_REQ_GET_QUEUE_NUM = 17,
    VHOST_REQ_SET_VRING_ENABLE = 18,
    VHOST_REQ_NET_SET_MTU = 20,
    VHOST_REQ_SET_BACKEND_REQ_FD = 21,
    VHOST_REQ_GET_CONFIG = 24,
    VHOST_REQ_SET_CONFIG = 25,
    VHOST_REQ_GET_INFLIGHT_FD = 31,
    VHOST_REQ_SET_INFLIGHT_FD = 32,
    VHOST_REQ_RESET_DEVICE = 34,
    VHOST_REQ_GET_MAX_MEM_SLOTS = 36,
    VHOST_REQ_ADD_MEM_REG = 37,
    VHOST_REQ_REM_MEM_REG = 38,
    VHOST_REQUESTS
};
#define VHOST_BACKEND_CONFIG_CHANGE 2u /* from us, on the other socket                   */

#define VHOST_FLAG_VERSION    0x1u
#define VHOST_FLAG_VERSION_OF 0x3u
#define VHOST_FLAG_REPLY      0x4u
#define VHOST_FLAG_NEED_REPLY 0x8u

/* Feature bits of the ring and the transport. */
#define VIRTIO_F(bit)           (UINT64_C(1) << (bit))
#define VHOST_F_NOTIFY_ON_EMPTY VIRTIO_F(24)
#define VHOST_F_ANY_LAYOUT      VIRTIO_F(27)
#define VHOST_F_INDIRECT_DESC   VIRTIO_F(28)
#define VHOST_F_EVENT_IDX       VIRTIO_F(29)
#define VHOST_F_PROTOCOL        VIRTIO_F(30) /* VHOST_USER_F_PROTOCOL_FEATURES            */
#define VHOST_F_VERSION_1       VIRTIO_F(32)
#define VHOST_F_RING_PACKED     VIRTIO_F(34)

/* Protocol features. */
#define VHOST_P_MQ          VIRTIO_F(0)
#define VHOST_P_REPLY_ACK   VIRTIO_F(3)
#define VHOST_P_NET_MTU     VIRTIO_F(4)
#define VHOST_P_BACKEND_REQ VIRTIO_F(5)
#define VHOST_P_CONFIG      VIRTIO_F(9)
#define VHOST_P_INFLIGHT    VIRTIO_F(12)
#define VHOST_P_RESET       VIRTIO_F(13)
#define VHOST_P_MEM_SLOTS   VIRTIO_F(15)

#define VHOST_MESSAGE_FDS   8u /* with one message, the protocol says                     */
#define VHOST_TABLE_REGIONS 8u /* in one SET_MEM_TABLE                                    */
#define VHOST_CONFIG_MAX    256u
#define VHOST_QUEUE_INDEX_MAX 16u /* queues of one device                                */

struct vhost_header {
    uint32_t request, flags, size;
};

/* KICK, CALL, ERR: the index, and whether there is no descriptor. */
#define VHOST_VRING_INDEX 0xffu
#define VHOST_VRING_NOFD  0x100u

struct vhost_vring_state {
    uint32_t index, num;
};

struct vhost_vring_addr {
    uint32_t index, flags; /* flags: bit 0, log what is written; not offered              */
    uint64_t desc, used, avail, log;
};

/* As struct vhost_region_at: guest, bytes, user, offset. */
struct vhost_table {
    uint32_t n, padding;
    struct vhost_region_at region[VHOST_TABLE_REGIONS];
};

struct vhost_one_region {
    uint64_t padding;
    struct vhost_region_at region;
};

struct vhost_config {
    uint32_t offset, size, flags;
    uint8_t bytes[VHOST_CONFIG_MAX];
};

struct vhost_inflight_at {
    uint64_t bytes, offset;
    uint16_t queues, size;
    uint32_t padding;
};
#define VHOST_INFLIGHT_AT_BYTES 20u /* without the padding: both lengths are seen          */

struct vhost_message {
    uint32_t before; /* nobody's: so that what is in `u` is aligned, and lies behind the header */
    struct vhost_header head;
    union {
        uint64_t u64;
        struct vhost_vring_state state;
        struct vhost_vring_addr addr;
        struct vhost_table table;
        struct vhost_one_region one;
        struct vhost_config config;
        struct vhost_inflight_at inflight;
        uint8_t bytes[512];
    } u;
};
_Static_assert(sizeof(struct vhost_header) == 12, "as on the wire");
_Static_assert(offsetof(struct vhost_message, u) == offsetof(struct vhost_message, head) + 12, "no gap");
_Static_assert(sizeof(struct vhost_vring_addr) == 40, "as on the wire");
_Static_assert(sizeof(struct vhost_region_at) == 32, "as on the wire");

static inline char *vhost_message_wire(struct vhost_message *m)
{
    return (char *)m + offsetof(struct vhost_message, head);
}

/* Why a connection is broken; 0: it is not. */
enum vhost_broken {
    VHOST_BROKEN_NOT,
    VHOST_BROKEN_LEFT,     /* the VMM closed it: no fault                               */
    VHOST_BROKEN_SIZE,     /* a message of a wrong length, or cut off                   */
    VHOST_BROKEN_REQUEST,  /* unknown, or not now                                       */
    VHOST_BROKEN_FDS,      /* descriptors missing, too many, or of a wrong kind          */
    VHOST_BROKEN_VALUE,    /* a number that cannot be                                   */
    VHOST_BROKEN_MEMORY,   /* its memory table                                          */
    VHOST_BROKEN_RING,     /* see vhost_bad                                             */
    VHOST_BROKEN_FAULT,    /* a page of its memory is gone                              */
    VHOST_BROKEN_INFLIGHT, /* its inflight region                                       */
    VHOST_BROKENS
};
const char *vhost_broken_name(enum vhost_broken why);

/* By the header alone: how many bytes follow must be known before they are read. */
enum vhost_broken vhost_message_header(const struct vhost_header *head);
/*
 * The whole message: its length is the request's, as many descriptors came as belong
 * to it, and every number in it can be.  Pure: what depends on the state of the device
 * (not now, not agreed, not so many queues) is device.c's to say.  *word: what is wrong,
 * a part of a sentence.
 */
enum vhost_broken vhost_message_check(const struct vhost_message *m, unsigned fds, const char **word);
/* "SET_VRING_NUM"; "an unknown request". */
const char *vhost_request_name(uint32_t request);

#endif
