/* SPDX-License-Identifier: MIT */
#include "terms.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "handshake.h"

#define RING_PAGES_DEFAULT 4u
#define POOL_PAGES_DEFAULT 512u
#define POOL_PAGES_MAX     65536u

int disk_trouble(struct blkfront *d, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(d->why, sizeof(d->why), fmt, ap);
    va_end(ap);
    xenbus_error(&d->bus, -err, d->why);
    return err;
}

/* ------------------------------------------------------- what it may offer */

struct offer {
    unsigned queues, ring_pages, max_segments;
    bool persistent, copy;
};

static unsigned bounded(struct blkfront *d, const char *key, unsigned least, unsigned most)
{
    uint64_t n = xenbus_peer_number(&d->bus, key, UINT32_MAX, least);
    return n < least ? least : n > most ? most : (unsigned)n;
}

static struct offer read_offer(struct blkfront *d)
{
    return (struct offer){
        .queues = bounded(d, "multi-queue-max-queues", 1, BLK_MAX_QUEUES),
        .ring_pages = 1u << bounded(d, "max-ring-page-order", 0, BLK_MAX_RING_ORDER),
        .max_segments = bounded(d, "feature-max-indirect-segments", BLKIF_MAX_SEGMENTS_PER_REQUEST,
                                BLK_MAX_INDIRECT_SEGMENTS),
        .persistent = xenbus_peer_flag(&d->bus, "feature-persistent"),
        .copy = xenbus_peer_flag(&d->bus, "feature-grant-copy"),
    };
}

static int choose_grants(struct blkfront *d, const struct offer *o)
{
    enum blkfront_grants want = d->want.grants;
    if (want == BLKFRONT_GRANTS_AUTO)
        want = o->persistent ? BLKFRONT_GRANTS_PERSISTENT
               : o->copy     ? BLKFRONT_GRANTS_COPY
                             : BLKFRONT_GRANTS_MAP;
    if ((want == BLKFRONT_GRANTS_PERSISTENT && !o->persistent) || (want == BLKFRONT_GRANTS_COPY && !o->copy))
        return disk_refuse(d, -EOPNOTSUPP, "disk %s: its driver domain does not offer %s grants: "
                           "ask for others", d->name,
                           want == BLKFRONT_GRANTS_COPY ? "copy" : "persistent");
    if (!d->opened)
        d->info.grants = want; /* else it is what it was, and users may read it */
    return 0;
}

/* What the toolstack configured in our own directory; it is trusted. */
static unsigned configured(struct blkfront *d, const char *key, unsigned dflt)
{
    uint64_t n;
    return store_read_number(d->guest->store, STORE_NO_TXN, d->bus.own, key, UINT32_MAX, &n) < 0
           ? dflt : (unsigned)n;
}

static enum blkfront_grants configured_grants(struct blkfront *d)
{
    char key[STORE_PATH_MAX + 32], text[16];
    snprintf(key, sizeof(key), "%s/bulkhead-grants", d->bus.own);
    if (store_read(d->guest->store, STORE_NO_TXN, key, text, sizeof(text)) < 0)
        return BLKFRONT_GRANTS_AUTO;
    return strcmp(text, "persistent") == 0 ? BLKFRONT_GRANTS_PERSISTENT
           : strcmp(text, "copy") == 0     ? BLKFRONT_GRANTS_COPY
           : strcmp(text, "map") == 0      ? BLKFRONT_GRANTS_MAP
                                           : BLKFRONT_GRANTS_AUTO;
}

/* First connection: sizes that stay for the life of the handle. */
static int settle_sizes(struct blkfront *d, const struct offer *o)
{
    unsigned queues = d->want.queues ? d->want.queues : configured(d, "bulkhead-queues", 1);
    unsigned ring = d->want.ring_pages ? d->want.ring_pages : RING_PAGES_DEFAULT;
    unsigned data = d->want.pool_pages ? d->want.pool_pages
                                       : configured(d, "bulkhead-pool-pages", POOL_PAGES_DEFAULT);
    if (d->want.grants == BLKFRONT_GRANTS_AUTO)
        d->want.grants = configured_grants(d);
    if (data < HANDSHAKE_POOL_MIN || data > POOL_PAGES_MAX)
        return disk_refuse(d, -EINVAL, "disk %s: a pool of %u pages a queue is too %s: "
                           "at least %u are needed, at most %u possible", d->name, data,
                           data < HANDSHAKE_POOL_MIN ? "small" : "large", HANDSHAKE_POOL_MIN, POOL_PAGES_MAX);
    d->nqueues = queues == 0 ? 1 : queues < o->queues ? queues : o->queues;
    d->ring_pages = ring < o->ring_pages ? ring : o->ring_pages;
    d->pool_pages = data;
    d->terms.max_segments = data < o->max_segments ? data : o->max_segments;
    return 0;
}

/* Later connections: what we were promised must still be there. */
static int still_fits(struct blkfront *d, const struct offer *o)
{
    if (o->queues >= d->nqueues && o->ring_pages >= d->ring_pages && o->max_segments >= d->terms.max_segments)
        return 0;
    return disk_trouble(d, -EPROTO, "disk %s: the driver domain offers less than the one before it "
                        "(%u of %u queues, %u of %u ring pages, %u of %u segments)", d->name, o->queues,
                        d->nqueues, o->ring_pages, d->ring_pages, o->max_segments, d->terms.max_segments);
}

int terms_accept_offer(struct blkfront *d)
{
    struct offer o = read_offer(d);
    int err = d->pool ? still_fits(d, &o) : settle_sizes(d, &o);
    return err ? err : choose_grants(d, &o);
}

/* ---------------------------------------------------------------- geometry */

/* What a Connected backend says of the disk. A lie costs only itself: all is
 * bounded, and a size that cannot be is refused. */
static int read_geometry(struct blkfront *d, struct blkqueue_terms *t, struct blkfront_info *info)
{
    uint64_t sectors = xenbus_peer_number(&d->bus, "sectors", INT64_MAX >> BLK_SECTOR_SHIFT, 0);
    uint64_t size = xenbus_peer_number(&d->bus, "sector-size", UINT32_MAX, BLK_SECTOR_BYTES);
    if (size < BLK_SECTOR_BYTES || size > HYP_PAGE_SIZE || size & (size - 1))
        return -EINVAL;
    t->sector_bytes = (uint32_t)size;
    t->disk_bytes = (sectors << BLK_SECTOR_SHIFT) & ~(size - 1);
    if (t->disk_bytes == 0)
        return -EINVAL;
    uint64_t physical = xenbus_peer_number(&d->bus, "physical-sector-size", 1u << 20, size);
    if (physical < size || physical & (physical - 1))
        physical = size;
    uint64_t granularity = xenbus_peer_number(&d->bus, "discard-granularity", 1u << 30, size);
    t->handle = (uint16_t)d->devid;
    t->readonly = xenbus_peer_number(&d->bus, "info", UINT32_MAX, 0) & VDISK_READONLY;
    t->can_flush = xenbus_peer_flag(&d->bus, "feature-flush-cache");
    t->native_fua = xenbus_peer_flag(&d->bus, "feature-write-fua");
    t->can_discard = xenbus_peer_flag(&d->bus, "feature-discard") && !t->readonly;
    t->can_zeroes = xenbus_peer_flag(&d->bus, "feature-write-zeroes") && !t->readonly;

    info->bytes = t->disk_bytes;
    info->sector_bytes = t->sector_bytes;
    info->physical_bytes = (uint32_t)physical;
    info->max_io_bytes = t->max_segments * HYP_PAGE_SIZE;
    info->queue_depth = blkqueue_slots(d->ring_pages);
    info->queues = d->nqueues;
    info->discard_granularity = !t->can_discard ? 0 : granularity ? (uint32_t)granularity : (uint32_t)size;
    info->readonly = t->readonly;
    info->can_flush = t->can_flush;
    info->can_fua = t->native_fua || t->can_flush;
    info->can_discard = t->can_discard;
    info->can_zeroes = t->can_zeroes;
    return 0;
}

/* The same disk as before, with nothing taken away? */
static bool same_disk(const struct blkfront_info *was, const struct blkfront_info *is)
{
    return was->bytes == is->bytes && was->sector_bytes == is->sector_bytes && was->readonly == is->readonly
           && was->can_flush <= is->can_flush && was->can_fua <= is->can_fua
           && was->can_discard <= is->can_discard && was->can_zeroes <= is->can_zeroes;
}

int terms_accept_disk(struct blkfront *d)
{
    struct blkqueue_terms terms = d->terms;
    struct blkfront_info info = d->info;
    if (read_geometry(d, &terms, &info))
        return disk_refuse(d, -EPROTO, "disk %s: its driver domain tells no possible size or sector size",
                           d->name);
    if (!d->opened) {
        d->info = info;
        d->terms = terms;
        return 0;
    }
    if (!same_disk(&d->info, &info))
        return disk_trouble(d, -EPROTO, "disk %s: the driver domain serves another disk than the one "
                            "before it (%llu bytes, were %llu), or with fewer features", d->name,
                            (unsigned long long)info.bytes, (unsigned long long)d->info.bytes);
    /* All that may differ: how FUA is done. The queues are drained, so ours. */
    d->terms.native_fua = terms.native_fua;
    return 0;
}
