/* SPDX-License-Identifier: MIT */
#include "blkterms.h"

#include <errno.h>

#include "terms.h"

#define RING_PAGES_DEFAULT 4u
#define HUGE_PAGES 512u /* pages of one huge page                              */
#define DATA_LEAST 256u /* of a queue for which nothing is configured          */

static const char *const grants_names[] = {
    [BLKFRONT_GRANTS_AUTO] = "auto", [BLKFRONT_GRANTS_PERSISTENT] = "persistent",
    [BLKFRONT_GRANTS_COPY] = "copy", [BLKFRONT_GRANTS_MAP] = "map", NULL
};

/* ------------------------------------------------------- what it may offer */

struct offer {
    unsigned queues, ring_pages, max_segments;
    bool persistent, copy;
};

static struct offer read_offer(struct link *l)
{
    return (struct offer){
        .queues = terms_bounded(l, "multi-queue-max-queues", 1, BLK_MAX_QUEUES),
        .ring_pages = 1u << terms_bounded(l, "max-ring-page-order", 0, BLK_MAX_RING_ORDER),
        .max_segments = terms_bounded(l, "feature-max-indirect-segments", BLKIF_MAX_SEGMENTS_PER_REQUEST,
                                       BLK_MAX_INDIRECT_SEGMENTS),
        .persistent = xenbus_peer_flag(&l->bus, "feature-persistent"),
        .copy = xenbus_peer_flag(&l->bus, "feature-grant-copy"),
    };
}

static int choose_grants(struct link *l, const struct offer *o)
{
    struct device *d = l->device;
    struct blkfront *disk = disk_of(d);
    /* Once open it is what it was, and users may read it. */
    enum blkfront_grants want = d->opened ? disk->info.grants : disk->want.grants;
    if (want == BLKFRONT_GRANTS_AUTO)
        want = o->persistent ? BLKFRONT_GRANTS_PERSISTENT
               : o->copy     ? BLKFRONT_GRANTS_COPY
                             : BLKFRONT_GRANTS_MAP;
    if ((want == BLKFRONT_GRANTS_PERSISTENT && !o->persistent) || (want == BLKFRONT_GRANTS_COPY && !o->copy))
        return terms_refuse(l, -EOPNOTSUPP, "its driver domain does not offer %s grants: ask for others",
                            grants_names[want]);
    if (!d->opened)
        disk->info.grants = want;
    return 0;
}

/* So that a queue with its ring fills huge pages: where the machine has some free the
 * pool lies in those, and a driver domain that dies has few to give back. */
static unsigned data_default(unsigned ring_pages)
{
    unsigned ring = ring_pages + blkqueue_slots(ring_pages);
    return (ring + DATA_LEAST + HUGE_PAGES - 1) / HUGE_PAGES * HUGE_PAGES - ring;
}

/* First connection: sizes that stay for the life of the handle. */
static int settle_sizes(struct link *l, const struct offer *o)
{
    struct device *d = l->device;
    struct blkfront *disk = disk_of(d);
    unsigned ring = disk->want.ring_pages ? disk->want.ring_pages : RING_PAGES_DEFAULT, data;
    disk->ring_pages = ring < o->ring_pages ? ring : o->ring_pages;
    int err = terms_pool_pages(l, disk->want.pool_pages, data_default(disk->ring_pages), BLKTERMS_POOL_MIN,
                               &data);
    if (err)
        return err;
    if (disk->want.grants == BLKFRONT_GRANTS_AUTO)
        disk->want.grants = terms_grants(l, grants_names);
    d->nqueues = terms_queues(l, disk->want.queues, o->queues);
    disk->data_pages = data;
    disk->max_deaths = disk->want.max_deaths ? disk->want.max_deaths
                                             : terms_configured(l, "bulkhead-max-deaths", BLKQUEUE_DEATHS);
    if (disk->max_deaths == 0 || disk->max_deaths > BLKQUEUE_DEATHS_MAX)
        disk->max_deaths = BLKQUEUE_DEATHS;
    disk->limit_ms = terms_configured(l, "bulkhead-timeout-ms", 0);
    d->pool_pages = (size_t)d->nqueues * (disk->ring_pages + blkqueue_slots(disk->ring_pages) + data);
    disk->terms.max_segments = data < o->max_segments ? data : o->max_segments;
    return 0;
}

/* Later connections: what we were promised must still be there. */
static int still_fits(struct link *l, const struct offer *o)
{
    struct device *d = l->device;
    struct blkfront *disk = disk_of(d);
    if (o->queues >= d->nqueues && o->ring_pages >= disk->ring_pages
        && o->max_segments >= disk->terms.max_segments)
        return 0;
    return terms_trouble(l, -EPROTO, "the driver domain offers less than the one before it (%u of %u queues, "
                         "%u of %u ring pages, %u of %u segments)", o->queues, d->nqueues, o->ring_pages,
                         disk->ring_pages, o->max_segments, disk->terms.max_segments);
}

int blkterms_accept_offer(struct link *l)
{
    struct offer o = read_offer(l);
    l->nchannels = 1;
    int err = l->device->pool ? still_fits(l, &o) : settle_sizes(l, &o);
    return err ? err : choose_grants(l, &o);
}

/* ---------------------------------------------------------------- geometry */

/* What a Connected backend says of the disk. A lie costs only itself: all is
 * bounded, and a size that cannot be is refused. */
static int read_geometry(struct link *l, struct blkqueue_terms *t, struct blkfront_info *info)
{
    struct device *d = l->device;
    uint64_t sectors = xenbus_peer_number(&l->bus, "sectors", INT64_MAX >> BLK_SECTOR_SHIFT, 0);
    uint64_t size = xenbus_peer_number(&l->bus, "sector-size", UINT32_MAX, BLK_SECTOR_BYTES);
    if (size < BLK_SECTOR_BYTES || size > HYP_PAGE_SIZE || size & (size - 1))
        return -EINVAL;
    t->sector_bytes = (uint32_t)size;
    t->disk_bytes = (sectors << BLK_SECTOR_SHIFT) & ~(size - 1);
    if (t->disk_bytes == 0)
        return -EINVAL;
    uint64_t physical = xenbus_peer_number(&l->bus, "physical-sector-size", 1u << 20, size);
    if (physical < size || physical & (physical - 1))
        physical = size;
    uint64_t granularity = xenbus_peer_number(&l->bus, "discard-granularity", 1u << 30, size);
    t->handle = (uint16_t)d->devid;
    t->readonly = xenbus_peer_number(&l->bus, "info", UINT32_MAX, 0) & VDISK_READONLY;
    t->can_flush = xenbus_peer_flag(&l->bus, "feature-flush-cache");
    t->native_fua = xenbus_peer_flag(&l->bus, "feature-write-fua");
    t->can_fua = t->native_fua || t->can_flush;
    t->can_discard = xenbus_peer_flag(&l->bus, "feature-discard") && !t->readonly;
    t->can_zeroes = xenbus_peer_flag(&l->bus, "feature-write-zeroes") && !t->readonly;

    info->bytes = t->disk_bytes;
    info->sector_bytes = t->sector_bytes;
    info->physical_bytes = (uint32_t)physical;
    info->max_io_bytes = t->max_segments * HYP_PAGE_SIZE;
    info->queue_depth = blkqueue_slots(disk_of(d)->ring_pages);
    info->queues = d->nqueues;
    info->discard_granularity = !t->can_discard ? 0 : granularity ? (uint32_t)granularity : (uint32_t)size;
    info->readonly = t->readonly;
    info->can_flush = t->can_flush;
    info->can_fua = t->can_fua;
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

int blkterms_accept_device(struct link *l)
{
    struct device *d = l->device;
    struct blkfront *disk = disk_of(d);
    struct blkqueue_terms terms = disk->terms;
    struct blkfront_info info = disk->info;
    if (read_geometry(l, &terms, &info))
        return terms_refuse(l, -EPROTO, "its driver domain tells no possible size or sector size");
    if (!d->opened) {
        disk->info = info;
        disk->terms = terms;
        return 0;
    }
    if (!same_disk(&disk->info, &info))
        return terms_trouble(l, -EPROTO, "the driver domain serves another disk than the one before it "
                             "(%llu bytes, were %llu), or with fewer features",
                             (unsigned long long)info.bytes, (unsigned long long)disk->info.bytes);
    /* All that may differ: how FUA is done. A request has its own way noted. */
    __atomic_store_n(&disk->terms.native_fua, terms.native_fua, __ATOMIC_RELAXED);
    return 0;
}
