/* SPDX-License-Identifier: MIT */
#include "disk.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR_SHIFT 9
#define FEATURE(f)   (UINT64_C(1) << VIRTIO_BLK_F_##f)

/* --------------------------------------------------------------- the class */

static void show_answers(struct disk *disk)
{
    for (struct disk_ring *ring = disk->ring; ring < disk->ring + VHOST_QUEUES_MAX; ring++) {
        if (!ring->answered)
            continue;
        ring->answered = false;
        if (vhost_queue_publish(ring->queue))
            vhost_queue_call(ring->queue);
    }
}

static int work(void *arg)
{
    struct disk *disk = arg;
    int moved = 0, err = 0, n;
    for (unsigned i = 0; i < disk->info->queues; i++) {
        n = disk_reap(disk, &disk->lane[i]);
        disk->lane[i].awaited = false;
        if (n < 0)
            return n;
        moved += n;
    }
    show_answers(disk); /* a guest on another processor asks more while we copy */
    for (unsigned i = 0; i < VHOST_QUEUES_MAX && disk->orphans == 0; i++) {
        struct disk_ring *ring = &disk->ring[(disk->turn + i) % VHOST_QUEUES_MAX];
        if (!ring->queue)
            continue;
        n = disk_serve_ring(disk, ring);
        if (n < 0 && !err)
            err = n;
        moved += n > 0 ? n : 0;
    }
    disk->turn++;
    for (unsigned i = 0; i < disk->info->queues; i++) {
        n = disk_send(disk, &disk->lane[i]);
        if (n < 0)
            return n;
    }
    show_answers(disk);
    return err ? err : moved;
}

static int idle(void *arg, struct pollfd *fds, unsigned *n)
{
    struct disk *disk = arg;
    for (struct disk_ring *ring = disk->ring; ring < disk->ring + VHOST_QUEUES_MAX; ring++) {
        bool open = ring->queue && !ring->waits && !ring->stopping && disk->orphans == 0;
        if (open && vhost_queue_listen(ring->queue))
            return 1;
    }
    for (unsigned i = 0; i < disk->info->queues; i++) {
        if (disk->lane[i].inflight == 0 && !disk->lane[i].awaited)
            continue;
        int waiting = blkfront_idle(disk->front, i);
        if (waiting != 0)
            return waiting;
        fds[(*n)++] = (struct pollfd){ .fd = blkfront_fd(disk->front, i), .events = POLLIN };
    }
    return 0;
}

static unsigned queues(void *arg)
{
    (void)arg;
    return VHOST_QUEUES_MAX;
}

static uint64_t features(void *arg)
{
    const struct blkfront_info *can = ((struct disk *)arg)->info;
    return FEATURE(SIZE_MAX) | FEATURE(SEG_MAX) | FEATURE(BLK_SIZE) | FEATURE(TOPOLOGY) | FEATURE(MQ)
           | (can->readonly ? FEATURE(RO) : 0) | (can->can_flush ? FEATURE(FLUSH) : 0)
           | (can->can_discard ? FEATURE(DISCARD) : 0) | (can->can_zeroes ? FEATURE(WRITE_ZEROES) : 0);
}

static unsigned config(void *arg, uint8_t out[VHOST_CONFIG_MAX])
{
    const struct disk *disk = arg;
    const struct blkfront_info *can = disk->info;
    uint32_t physical = can->physical_bytes / can->sector_bytes;
    struct virtio_blk_config c = {
        .capacity = htole64(disk_sectors(disk)),
        .size_max = htole32(can->max_io_bytes),
        .seg_max = htole32(DISK_SEG_MAX),
        .blk_size = htole32(can->sector_bytes),
        .physical_block_exp = (uint8_t)__builtin_ctz(physical),
        .min_io_size = htole16((uint16_t)(physical < UINT16_MAX ? physical : 1)),
        .wce = can->can_flush,
        .num_queues = htole16((uint16_t)can->queues),
    };
    if (can->can_discard) {
        uint32_t sectors = can->discard_granularity >> SECTOR_SHIFT;
        c.max_discard_sectors = htole32(DISK_DISCARD_MAX);
        c.max_discard_seg = htole32(DISK_RANGES_MAX);
        c.discard_sector_alignment = htole32(sectors ? sectors : 1);
    }
    if (can->can_zeroes) {
        c.max_write_zeroes_sectors = htole32(DISK_ZEROES_MAX);
        c.max_write_zeroes_seg = htole32(DISK_RANGES_MAX);
        c.write_zeroes_may_unmap = can->can_discard;
    }
    memcpy(out, &c, sizeof(c));
    return sizeof(c);
}

static void agreed(void *arg, uint64_t bits)
{
    struct disk *disk = arg;
    disk->durable = !(bits & FEATURE(FLUSH));
}

static int start(void *arg, unsigned q)
{
    struct disk *disk = arg;
    struct disk_ring *ring = &disk->ring[q];
    struct vhost_queue *queue = &disk->dev->queue[q];
    ring->stopping = ring->answered = ring->waits = false;
    ring->begun = NULL;
    ring->inflight = 0;
    ring->queue = queue;
    return 0;
}

/* Their data goes nowhere from now on. */
static void make_orphans(struct disk *disk, struct disk_ring *ring)
{
    ring->begun = NULL;
    for (unsigned i = 0; i < disk->nrequests; i++) {
        struct disk_request *r = &disk->requests[i];
        if (r->ring != ring || r->orphan)
            continue;
        r->orphan = true;
        disk->orphans++;
        if (r->parts == 0)
            disk_answer(disk, r);
    }
}

static int stop(void *arg, unsigned q, bool drop)
{
    struct disk *disk = arg;
    struct disk_ring *ring = &disk->ring[q];
    if (!ring->queue)
        return 0;
    ring->stopping = true;
    if (ring->inflight > 0 && !drop)
        return -EAGAIN;
    make_orphans(disk, ring);
    ring->queue = NULL;
    ring->answered = false;
    return 0;
}

const struct vhost_class disk_class = {
    .word = "disk", .inflight = true,
    .queues = queues, .features = features, .config = config, .agreed = agreed,
    .start = start, .stop = stop, .work = work, .idle = idle,
};

/* ----------------------------------------------------------- open and close */

static int make_lane(struct disk_lane *lane, unsigned depth)
{
    lane->parts = calloc(depth, sizeof(*lane->parts));
    if (!lane->parts)
        return -ENOMEM;
    for (unsigned i = 0; i < depth; i++) {
        lane->parts[i].next = lane->free_parts;
        lane->free_parts = &lane->parts[i];
    }
    return 0;
}

/* Every request that is not begun has a part, and one of each ring may be begun. */
static int make_tables(struct disk *disk)
{
    unsigned depth = disk->info->queue_depth, n = disk->info->queues;
    disk->nrequests = n * depth + VHOST_QUEUES_MAX;
    disk->requests = calloc(disk->nrequests, sizeof(*disk->requests));
    if (!disk->requests)
        return -ENOMEM;
    for (unsigned i = disk->nrequests; i-- > 0;)
        disk_free_request(disk, &disk->requests[i]);
    int err = 0;
    for (unsigned i = 0; !err && i < n; i++)
        err = make_lane(&disk->lane[i], depth);
    return err;
}

int disk_open(struct disk *disk, const char *name, void (*notify)(void *arg, enum blkfront_news news),
              void *arg, char *why, size_t why_bytes)
{
    struct blkfront_options opt = { .device = disk->name, .notify = notify, .arg = arg };
    memset(disk, 0, sizeof(*disk));
    snprintf(disk->name, sizeof(disk->name), "%s", name);
    int err = blkfront_open(&disk->front, &opt, why, why_bytes);
    if (err)
        return err;
    disk->info = blkfront_info(disk->front);
    disk->durable = true;
    err = make_tables(disk);
    if (err) {
        snprintf(why, why_bytes, "disk %s: no memory for its requests", disk->name);
        disk_close(disk);
    }
    return err;
}

void disk_serve(struct disk *disk, struct vhost_device *dev)
{
    disk->dev = dev;
}

void disk_close(struct disk *disk)
{
    if (disk->front)
        blkfront_close(disk->front);
    for (unsigned i = 0; i < BLK_MAX_QUEUES; i++)
        free(disk->lane[i].parts);
    free(disk->requests);
    disk->front = NULL;
}
