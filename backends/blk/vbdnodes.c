/* SPDX-License-Identifier: MIT */
/* vbdnodes.c - what the backend writes into its directory of one disk. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vbd.h"

#define TRIES 8 /* of a transaction that others disturb */

typedef int write_fn(struct blkback *bb, struct vbd *v, store_txn t);

/* A directory that the toolstack removed meanwhile must not come back by our
 * writing into it, so each change looks first, in one transaction. */
static int in_transaction(struct blkback *bb, struct vbd *v, write_fn *write)
{
    int err = -EAGAIN;

    for (int i = 0; i < TRIES && err == -EAGAIN; i++) {
        store_txn t;
        uint64_t id;
        err = store_txn_begin(bb->store, &t);
        if (err < 0)
            return err;
        err = store_read_number(bb->store, t, v->bus.own, "frontend-id", UINT16_MAX, &id);
        if (err == 0)
            err = write(bb, v, t);
        if (err < 0)
            store_txn_abort(bb->store, t);
        else
            err = store_txn_commit(bb->store, t);
    }
    return err;
}

struct node {
    const char *key;
    uint64_t value;
};

static int write_nodes(struct blkback *bb, store_txn t, const char *dir, const struct node *node, size_t n)
{
    int err = 0;
    for (size_t i = 0; i < n && err == 0; i++)
        err = store_printf(bb->store, t, dir, node[i].key, "%llu", (unsigned long long)node[i].value);
    return err;
}

static int features(struct blkback *bb, struct vbd *v, store_txn t)
{
    const struct blkdev_geometry *geo = &v->disk.geo;
    const struct node nodes[] = {
        { "feature-persistent", 1 },
        { "feature-grant-copy", 1 },
        { "feature-flush-cache", 1 },
        { "feature-max-indirect-segments", BLK_MAX_INDIRECT_SEGMENTS },
        { "max-ring-page-order", BLK_MAX_RING_ORDER },
        { "multi-queue-max-queues", bb->nworkers },
        { "feature-write-fua", geo->fua && !geo->readonly },
        { "feature-write-zeroes", geo->zeroes && !geo->readonly },
        { "feature-discard", geo->discard_granularity != 0 && !geo->readonly },
        { "discard-granularity", geo->discard_granularity },
        { "discard-alignment", 0 },
        { "discard-secure", 0 },
    };
    return write_nodes(bb, t, v->bus.own, nodes, sizeof(nodes) / sizeof(nodes[0]));
}

static int geometry(struct blkback *bb, struct vbd *v, store_txn t)
{
    const struct blkdev_geometry *geo = &v->disk.geo;
    const struct node nodes[] = {
        { "sectors", geo->bytes >> BLK_SECTOR_SHIFT },
        { "sector-size", geo->sector_bytes },
        { "physical-sector-size", geo->physical_bytes },
        { "info", geo->readonly ? VDISK_READONLY : 0 },
    };
    return write_nodes(bb, t, v->bus.own, nodes, sizeof(nodes) / sizeof(nodes[0]));
}

/* ----------------------------------------------------------------- statistics */

static uint64_t read_counter(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static struct blk_counters sum(const struct vbd *v)
{
    struct blk_counters total = v->past;
    for (unsigned i = 0; i < v->nqueues; i++) {
        if (!v->queue[i].q)
            continue;
        const struct blk_counters *c = &v->queue[i].q->count;
#define X(name) total.name += read_counter(&c->name);
        BLK_COUNTERS(X)
#undef X
    }
    return total;
}

static int stats(struct blkback *bb, struct vbd *v, store_txn t)
{
    char dir[STORE_PATH_MAX + 8];
    int err = 0;

    snprintf(dir, sizeof(dir), "%s/stats", v->bus.own);
#define X(name)                                                                                     \
    if (err == 0 && v->current.name != v->published.name)                                           \
        err = store_printf(bb->store, t, dir, #name, "%llu", (unsigned long long)v->current.name);
    BLK_COUNTERS(X)
#undef X
    return err;
}

/* ------------------------------------------------------------------ interface */

int vbd_write_features(struct blkback *bb, struct vbd *v)
{
    return in_transaction(bb, v, features);
}

int vbd_write_geometry(struct blkback *bb, struct vbd *v)
{
    return in_transaction(bb, v, geometry);
}

int vbd_write_stats(struct blkback *bb, struct vbd *v)
{
    v->current = sum(v);
    if (memcmp(&v->current, &v->published, sizeof(v->current)) == 0)
        return 0;
    int err = in_transaction(bb, v, stats);
    if (err == 0)
        v->published = v->current;
    return err;
}
