/* SPDX-License-Identifier: MIT */
/*
 * vublk_queue.h - virtio-blk requests on one queue of a vhost-user client.
 *
 * A slot is a request's place: header, status, indirect table and data, in guest
 * memory.  Requests are added, shown together, and come back in any order.  One
 * thread.
 */
#ifndef BULKHEAD_BENCH_VUBLK_QUEUE_H
#define BULKHEAD_BENCH_VUBLK_QUEUE_H

#include "vuclient.h"

#define VUBLK_DEPTH_MAX 512u

struct vublk_queue {
    struct vuclient *client;
    struct vuring *ring;
    unsigned queue, depth;
    uint32_t bytes;    /* of a slot's data                                        */
    uint32_t segment;  /* a descriptor for each so many bytes of data             */
    bool indirect;
    uint8_t *heads, *tables, *data;
    size_t table_bytes;
    unsigned in_flight;
    bool busy[VUBLK_DEPTH_MAX];
    uint32_t asked[VUBLK_DEPTH_MAX]; /* bytes that the device is to write, but for the status */
};

/* Memory that one queue needs of the client's. */
size_t vublk_queue_bytes(unsigned depth, uint32_t bytes, uint32_t segment);
/* Descriptors that a request takes at most in the ring itself, without indirect ones. */
unsigned vublk_pieces(uint32_t bytes, uint32_t segment);
/* memory: vublk_queue_bytes() of the client's data, aligned to 4096. */
void vublk_queue_init(struct vublk_queue *q, struct vuclient *client, unsigned queue, unsigned depth,
                      uint32_t bytes, uint32_t segment, uint8_t *memory);

static inline uint8_t *vublk_data(const struct vublk_queue *q, unsigned slot)
{
    return q->data + (size_t)slot * q->bytes;
}

/* type: VIRTIO_BLK_T_*; bytes of the disk it is about, 0 of a flush.  0, or -ENOSPC: the ring is full. */
int vublk_ask(struct vublk_queue *q, unsigned slot, uint32_t type, uint64_t offset, uint32_t bytes);
/* Shows what was asked, and kicks where the device wants it. */
void vublk_push(struct vublk_queue *q);

/* An answer: 1; 0 none; -EPROTO: it is wrong in itself (a request that is not in flight, or more
 * written than there was room for).  error: 0, -EIO or -EOPNOTSUPP, as the status says;
 * -EBADMSG: there is none, or less was written than was read. */
struct vublk_done {
    unsigned slot;
    int error;
};
int vublk_take(struct vublk_queue *q, struct vublk_done *out);

#endif
