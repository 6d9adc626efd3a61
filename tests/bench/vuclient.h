/* SPDX-License-Identifier: MIT */
/*
 * vuclient.h - a vhost-user client for a disk: what a VMM does for its guest, in a
 * process without a VMM.
 *
 * Memory is one memfd, of huge pages where there are, in two regions with a gap
 * between: rings in one, everything else in the other.  It keeps what a VMM keeps
 * over a lost connection: memory, rings, descriptors, and the inflight region.
 *
 * Messages come from one thread; each ring belongs to one thread.
 */
#ifndef BULKHEAD_BENCH_VUCLIENT_H
#define BULKHEAD_BENCH_VUCLIENT_H

#include <linux/virtio_blk.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vuring.h"

#define VUCLIENT_QUEUES_MAX 8u

struct vuclient_options {
    const char *path;
    unsigned queues;
    uint16_t queue_size;           /* of each ring: a power of two, at most VURING_SIZE_MAX */
    bool packed;                   /* refused when the device has no packed rings           */
    bool indirect, event_idx, inflight; /* used where the device offers them                */
    size_t bytes;                  /* memory for requests                                   */
};

struct vuclient {
    struct vuclient_options opt;
    int fd;                        /* -1: not connected                                    */
    uint64_t features, protocol;   /* as agreed                                            */
    uint32_t connections;
    struct virtio_blk_config config;

    int memfd;
    bool huge;
    uint8_t *memory;               /* the ring's region, then that of requests             */
    size_t rings_bytes, memory_bytes;
    struct vuring ring[VUCLIENT_QUEUES_MAX];
    int kick[VUCLIENT_QUEUES_MAX], call[VUCLIENT_QUEUES_MAX]; /* eventfds                  */

    int inflight_fd;               /* -1: none                                             */
    uint64_t inflight_bytes, inflight_offset;
    char error[256];               /* of the last failure                                  */
};

/* Connects and starts all rings. 0, or a negative errno and ->error; then nothing is left. */
int vuclient_open(struct vuclient *c, const struct vuclient_options *opt);
void vuclient_close(struct vuclient *c);

/* The connection is gone (or is to go): what is in flight stays so. */
void vuclient_hang_up(struct vuclient *c);
/* Has the device hung up? */
bool vuclient_gone(const struct vuclient *c);
/* Connects anew, hands over what is in flight, and kicks. */
int vuclient_again(struct vuclient *c);

static inline bool vuclient_has(const struct vuclient *c, unsigned bit)
{
    return c->features >> bit & 1;
}

/* Memory for requests, and how the device calls a place in it. */
static inline uint8_t *vuclient_data(const struct vuclient *c)
{
    return c->memory + c->rings_bytes;
}
uint64_t vuclient_guest(const struct vuclient *c, const void *at);

/* The bells of a queue. */
void vuclient_kick(const struct vuclient *c, unsigned queue);
/* Waits for a call: 1 it came, 0 time is up, or a negative errno. */
int vuclient_wait(const struct vuclient *c, unsigned queue, int timeout_ms);
/* Takes a call that has come. */
bool vuclient_called(const struct vuclient *c, unsigned queue);

#endif
