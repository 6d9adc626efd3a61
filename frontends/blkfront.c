/* SPDX-License-Identifier: MIT */
#include "include/bulkhead/blkfront.h"

#include <errno.h>
#include <stdio.h>

#include "blkterms.h"
#include "disk.h"

_Static_assert((int)DEVICE_UP == (int)BLKFRONT_UP && (int)DEVICE_DOWN == (int)BLKFRONT_DOWN
               && (int)DEVICE_STOP == (int)BLKFRONT_STOP && (int)DEVICE_GONE == (int)BLKFRONT_GONE,
               "the same news");
_Static_assert(BLK_MAX_QUEUES <= LINK_QUEUES_MAX, "a disk is a device");

/* ----------------------------------------------- what a disk does in its own way */

/* One pool: all rings, then the descriptor pages, then each queue's data. */
static int make_queue(struct device *d, unsigned i)
{
    struct blkfront *disk = disk_of(d);
    uint32_t slots = blkqueue_slots(disk->ring_pages);
    struct blkqueue_place place = {
        .ring_page = i * disk->ring_pages, .ring_pages = disk->ring_pages,
        .desc_page = d->nqueues * disk->ring_pages + i * slots,
        .data_page = d->nqueues * (disk->ring_pages + slots) + i * disk->data_pages,
        .data_pages = disk->data_pages,
    };
    d->queue[i] = &disk->queues[i].queue;
    int err = blkqueue_init(&disk->queues[i], d->pool, &place, &disk->terms, d->guest->wake_fd);
    if (!err && disk->limit_ms > 0) {
        err = blkqueue_limit(&disk->queues[i], disk->limit_ms);
        if (err)
            blkqueue_destroy(&disk->queues[i]);
    }
    disk->queues[i].max_deaths = disk->max_deaths;
    return err;
}

static void free_queue(struct device *d, unsigned i)
{
    blkqueue_destroy(&disk_of(d)->queues[i]);
}

/* Whoever it will be, it can write and flush: what is sent before it says more is. */
static int attach_queue(struct device *d, unsigned i, struct hyp_evtchn *const *channels, unsigned n)
{
    struct blkfront *disk = disk_of(d);
    (void)n;
    if (disk->terms.can_flush && d->opened)
        __atomic_store_n(&disk->terms.native_fua, false, __ATOMIC_RELAXED);
    return blkqueue_attach(&disk->queues[i], channels[0]);
}

static void fenced(struct device *d, unsigned i)
{
    blkqueue_fenced(&disk_of(d)->queues[i]);
}

/* What is on a ring cannot be given up before it is answered. */
static bool await_fence(const struct device *d)
{
    return ((const struct blkfront *)d)->limit_ms > 0;
}

static int poisoned(struct device *d, unsigned i, uint64_t n, char *text, size_t bytes)
{
    static const char *const ops[] = { "read", "write", "flush", "discard", "zeroes" };
    const struct blkqueue *q = &disk_of(d)->queues[i];
    const struct blkqueue_named *named = &q->named[n % BLKQUEUE_NAMED];
    if (n >= __atomic_load_n(&q->counters.poisoned, __ATOMIC_ACQUIRE))
        return 0;
    return snprintf(text, bytes, "%s %llu %llu", ops[__atomic_load_n(&named->op, __ATOMIC_RELAXED) % 5],
                    (unsigned long long)__atomic_load_n(&named->offset, __ATOMIC_RELAXED),
                    (unsigned long long)__atomic_load_n(&named->bytes, __ATOMIC_RELAXED));
}

static uint64_t late(const struct device *d)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < d->nqueues; i++)
        n += queue_counted(&((const struct blkfront *)d)->queues[i].counters.late);
    return n;
}

static int publish(struct link *l, store_txn t)
{
    struct blkfront *disk = disk_of(l->device);
    struct store *st = l->device->guest->store;
    const char *own = l->bus.own;
    enum blkfront_grants grants = disk->info.grants;
    int err = 0;
    if (disk->ring_pages > 1)
        err = store_printf(st, t, own, "ring-page-order", "%d", __builtin_ctz(disk->ring_pages));
    if (!err)
        err = store_printf(st, t, own, "protocol", "x86_64-abi");
    if (!err)
        err = store_printf(st, t, own, "feature-persistent", "%d", grants == BLKFRONT_GRANTS_PERSISTENT);
    if (!err)
        err = store_printf(st, t, own, "feature-grant-copy", "%d", grants == BLKFRONT_GRANTS_COPY);
    return err;
}

static int publish_queue(struct link *l, store_txn t, const char *dir, unsigned i,
                         struct hyp_evtchn *const *channels)
{
    struct device *d = l->device;
    struct store *st = d->guest->store;
    const struct blkqueue *q = &disk_of(d)->queues[i];
    int err = 0;
    for (unsigned p = 0; !err && p < q->ring_pages; p++) {
        char key[24];
        snprintf(key, sizeof(key), q->ring_pages > 1 ? "ring-ref%u" : "ring-ref", p);
        err = store_printf(st, t, dir, key, "%u", hyp_pool_ref(d->pool, q->ring_page + p));
    }
    return err ? err : store_printf(st, t, dir, "event-channel", "%u", hyp_evtchn_port(channels[0]));
}

static void notify(const struct device *d, enum device_news news)
{
    const struct blkfront *disk = (const struct blkfront *)d;
    if (disk->want.notify)
        disk->want.notify(disk->want.arg, (enum blkfront_news)news);
}

static void finish(struct device *d, unsigned i, uint64_t limit)
{
    struct blkqueue *q = &disk_of(d)->queues[i];
    struct blkfront_result sink[32];
    while (q->inflight > 0) {
        if (blkqueue_reap(q, sink, 32) > 0)
            continue;
        uint64_t now = monotonic_ms();
        if (now >= limit)
            return;
        blkqueue_wait(q, (int)(limit - now));
    }
}

static void drop(struct device *d, unsigned i)
{
    blkqueue_drop(&disk_of(d)->queues[i]);
}

static const struct device_class disks = {
    .noun = "disk", .directory = "vbd", .bytes = sizeof(struct blkfront),
    .accept_offer = blkterms_accept_offer, .accept_device = blkterms_accept_device,
    .make_queue = make_queue, .free_queue = free_queue, .attach_queue = attach_queue,
    .fenced = fenced, .await_fence = await_fence, .poisoned = poisoned, .late = late,
    .publish = publish, .publish_queue = publish_queue,
    .notify = notify, .finish = finish, .drop = drop,
};

/* ----------------------------------------------------------- the public calls */

int blkfront_list(const char *attach, char *names, size_t bytes, char *err, size_t err_bytes)
{
    return device_list(&disks, attach, names, bytes, (struct words){ err, err_bytes });
}

static int check_options(const struct blkfront_options *opt, struct words w)
{
    if (opt->ring_pages > BLK_MAX_RING_PAGES || opt->ring_pages & (opt->ring_pages - 1))
        return words_say(w, -EINVAL, "%u ring pages: must be a power of two, at most %u", opt->ring_pages,
                         BLK_MAX_RING_PAGES);
    if ((unsigned)opt->grants > BLKFRONT_GRANTS_MAP)
        return words_say(w, -EINVAL, "%d is no way to grant", (int)opt->grants);
    if (opt->pool_pages && opt->pool_pages < BLKTERMS_POOL_MIN)
        return words_say(w, -EINVAL, "a pool of %u pages a queue is too small: at least %u are needed",
                         opt->pool_pages, BLKTERMS_POOL_MIN);
    if (opt->max_deaths > BLKQUEUE_DEATHS_MAX)
        return words_say(w, -EINVAL, "%u deaths: a request can live through fewer than %u", opt->max_deaths,
                         BLKQUEUE_DEATHS_MAX);
    return 0;
}

static void init(struct device *d, const void *options)
{
    struct blkfront *disk = disk_of(d);
    disk->want = *(const struct blkfront_options *)options;
    disk->want.attach = disk->want.device = NULL;
}

int blkfront_open(struct blkfront **out, const struct blkfront_options *opt, char *err, size_t err_bytes)
{
    static const struct blkfront_options defaults;
    struct words w = { err, err_bytes };
    if (!opt)
        opt = &defaults;
    int fault = check_options(opt, w);
    if (fault)
        return fault;
    struct device_options how = { .attach = opt->attach, .device = opt->device,
                                  .timeout_ms = opt->timeout_ms, .init = init, .arg = opt };
    struct device *d;
    fault = device_open(&disks, &how, w, &d);
    if (!fault)
        *out = disk_of(d);
    return fault;
}

void blkfront_close(struct blkfront *disk)
{
    if (disk)
        device_close(&disk->device, BLKFRONT_CLOSE_MS);
}

const struct blkfront_info *blkfront_info(const struct blkfront *d)
{
    return &d->info;
}

void *blkfront_alloc(struct blkfront *d, unsigned queue, size_t bytes)
{
    return queue < d->device.nqueues ? blkqueue_alloc(&d->queues[queue], bytes) : NULL;
}

void blkfront_free(struct blkfront *d, unsigned queue, void *buf)
{
    if (queue < d->device.nqueues)
        blkpool_free(&d->queues[queue].pool, buf);
}

int blkfront_submit(struct blkfront *d, unsigned queue, const struct blkfront_io *ios, unsigned n)
{
    return queue < d->device.nqueues ? blkqueue_submit(&d->queues[queue], ios, n) : -EINVAL;
}

int blkfront_reap(struct blkfront *d, unsigned queue, struct blkfront_result *out, unsigned n)
{
    return queue < d->device.nqueues ? blkqueue_reap(&d->queues[queue], out, n) : -EINVAL;
}

int blkfront_fd(const struct blkfront *d, unsigned queue)
{
    return queue < d->device.nqueues ? d->queues[queue].queue.epoll_fd : -EINVAL;
}

int blkfront_idle(struct blkfront *d, unsigned queue)
{
    return queue < d->device.nqueues ? blkqueue_idle(&d->queues[queue]) : -EINVAL;
}

int blkfront_wait(struct blkfront *d, unsigned queue, int timeout_ms)
{
    return queue < d->device.nqueues ? blkqueue_wait(&d->queues[queue], timeout_ms) : -EINVAL;
}

void blkfront_stats(const struct blkfront *d, struct blkfront_stats *out)
{
    *out = (struct blkfront_stats){ .reconnects = queue_counted(&d->device.reconnects) };
    for (unsigned i = 0; i < d->device.nqueues; i++) {
        const struct blkqueue_counters *c = &d->queues[i].counters;
        out->requests += queue_counted(&c->requests);
        out->bytes += queue_counted(&c->bytes);
        out->errors += queue_counted(&c->errors);
        out->replayed += queue_counted(&c->replayed);
        out->poisoned += queue_counted(&c->poisoned);
        out->timed_out += queue_counted(&c->late);
        out->doorbells += queue_counted(&d->queues[i].queue.doorbells);
        out->wakeups += queue_counted(&d->queues[i].queue.wakeups);
        for (unsigned lie = BLKQUEUE_HONEST + 1; lie < BLKQUEUE_LIES; lie++)
            out->broken += queue_counted(&c->lies[lie]);
    }
}
