/* SPDX-License-Identifier: MIT */
/* vublk_load.h - a load on a vhost-user disk, whoever serves it. */
#ifndef BULKHEAD_BENCH_VUBLK_LOAD_H
#define BULKHEAD_BENCH_VUBLK_LOAD_H

#include "load.h"
#include "vublk_queue.h"

struct vublk_disk {
    struct vuclient client; /* opt.path is the caller's                     */
    struct vublk_queue queue[VUCLIENT_QUEUES_MAX];
    uint64_t bytes;         /* of the disk                                   */
    bool readonly;
};

struct vublk_shape {
    unsigned queues, depth;
    uint32_t bytes;         /* of the longest request                        */
    uint32_t segment;       /* 0: a request's data is one piece              */
    bool packed, indirect, event_idx, inflight;
};

/* Connects. 0, or a negative errno and disk->client.error. */
int vublk_open(struct vublk_disk *disk, const char *path, const struct vublk_shape *shape);
void vublk_close(struct vublk_disk *disk);

/* A load_fn; target is a struct vublk_disk.  Polls, and sleeps on the call eventfd after
 * job->spins polls that found nothing; 0 spins: a guest that lives by interrupts. */
int vublk_load(void *target, const struct load_job *job, unsigned queue, struct load_result *out);

/* Writes all of the disk once, so that no page of it is read before it exists. */
int vublk_prepare(struct vublk_disk *disk);
/* As blk_check(): does it hold what it is given, and what the file holds? */
int vublk_check(struct vublk_disk *disk, uint32_t bs, bool write, int fd);

#endif
