/* SPDX-License-Identifier: MIT */
/* vbdnodes.c - what the backend writes into its directory of one disk. */
#include "vbd.h"

int vbd_write_features(struct vbd *v, unsigned queues_max)
{
    enum { OF_THE_DISK = 6 };
    const struct blkdev_geometry *geo = &v->disk.geo;
    const struct backend_node nodes[] = {
        { "feature-persistent", 1 },
        { "feature-grant-copy", 1 },
        { "feature-flush-cache", 1 },
        { "feature-max-indirect-segments", BLK_MAX_INDIRECT_SEGMENTS },
        { "max-ring-page-order", BLK_MAX_RING_ORDER },
        { "multi-queue-max-queues", queues_max },
        /* of the disk */
        { "feature-write-fua", geo->fua && !geo->readonly },
        { "feature-write-zeroes", geo->zeroes && !geo->readonly },
        { "feature-discard", geo->discard_granularity != 0 && !geo->readonly },
        { "discard-granularity", geo->discard_granularity },
        { "discard-alignment", 0 },
        { "discard-secure", 0 },
    };
    return backend_write_nodes(&v->dev, nodes,
                               v->dev.open ? sizeof(nodes) / sizeof(nodes[0]) : OF_THE_DISK);
}

int vbd_write_geometry(struct vbd *v)
{
    const struct blkdev_geometry *geo = &v->disk.geo;
    const struct backend_node nodes[] = {
        { "sectors", geo->bytes >> BLK_SECTOR_SHIFT },
        { "sector-size", geo->sector_bytes },
        { "physical-sector-size", geo->physical_bytes },
        { "info", geo->readonly ? VDISK_READONLY : 0 },
    };
    return backend_write_nodes(&v->dev, nodes, sizeof(nodes) / sizeof(nodes[0]));
}

int vbd_write_stats(struct vbd *v)
{
#define X(name) #name,
    static const char *const names[BLK_NCOUNTERS] = { BLK_COUNTERS(X) };
#undef X
    struct blk_counters sum = v->past;
    for (unsigned i = 0; i < v->nqueues; i++)
        if (v->queue[i].q)
            backend_add_counters((uint64_t *)&sum, (const uint64_t *)&v->queue[i].q->count, BLK_NCOUNTERS);
    return backend_write_counters(&v->dev, names, (const uint64_t *)&sum, (uint64_t *)&v->published,
                                  BLK_NCOUNTERS);
}
