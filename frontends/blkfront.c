/* SPDX-License-Identifier: MIT */
#include "include/bulkhead/blkfront.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "disk.h"
#include "handshake.h"

#define TIMEOUT_DEFAULT_MS 10000
#define DIRECTORY_MAX      4096

/* One sentence for whoever asked. */
struct words {
    char *text;
    size_t bytes;
};

__attribute__((format(printf, 3, 4)))
static int say(struct words w, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (w.text && w.bytes)
        vsnprintf(w.text, w.bytes, fmt, ap);
    va_end(ap);
    return err;
}

/* ------------------------------------------------------- guest and its disks */

static int attach_failed(struct words w, const char *attach, int err)
{
    if (!attach)
        return say(w, err, "this process was not started as a guest (no %s): name the attach socket of a "
                   "guest with a native door", HYP_ENV_FDS);
    switch (err) {
    case -ENOENT:
    case -ECONNREFUSED:
        return say(w, err, "no guest listens at %s: start a guest with a native door first", attach);
    case -EACCES:
    case -EPERM:
        return say(w, err, "not permitted to be the guest at %s: the socket's owner and mode say who may",
                   attach);
    case -EBUSY:
        return say(w, err, "another program already is the guest at %s: end it first", attach);
    case -EPROTO:
        return say(w, err, "the program at %s speaks another version of the protocol", attach);
    default:
        return say(w, err, "cannot become the guest at %s: %s", attach, strerror(-err));
    }
}

struct disk_name {
    unsigned devid;
    char name[DISK_NAME_MAX];
};

static int by_devid(const void *a, const void *b)
{
    unsigned x = ((const struct disk_name *)a)->devid, y = ((const struct disk_name *)b)->devid;
    return x < y ? -1 : x > y;
}

/* The guest's disks in order; lock is held. */
static int find_disks(struct guest *g, struct disk_name found[GUEST_DISKS_MAX])
{
    char dir[STORE_PATH_MAX], key[STORE_PATH_MAX + 64], children[DIRECTORY_MAX];
    snprintf(dir, sizeof(dir), "/local/domain/%u/device/vbd", hyp_domid(g->hyp));
    int n = store_directory(g->store, STORE_NO_TXN, dir, children, sizeof(children));
    if (n < 0)
        return n == -ENOENT ? 0 : n;
    int kept = 0;
    for (const char *at = children; n > 0 && kept < GUEST_DISKS_MAX; n--, at += strlen(at) + 1) {
        char *end;
        unsigned long devid = strtoul(at, &end, 10);
        if (*at == '\0' || *end != '\0' || devid > UINT32_MAX)
            continue;
        found[kept].devid = (unsigned)devid;
        snprintf(key, sizeof(key), "%s/%lu/dev", dir, devid);
        if (store_read(g->store, STORE_NO_TXN, key, found[kept].name, DISK_NAME_MAX) > 0)
            kept++;
    }
    qsort(found, (size_t)kept, sizeof(found[0]), by_devid);
    return kept;
}

int blkfront_list(const char *attach, char *names, size_t bytes, char *err, size_t err_bytes)
{
    struct words w = { err, err_bytes };
    struct disk_name found[GUEST_DISKS_MAX];
    struct guest *g;
    int fault = guest_get(&g, attach, false);
    if (fault)
        return attach_failed(w, attach, fault);
    pthread_mutex_lock(&g->lock);
    int n = find_disks(g, found);
    pthread_mutex_unlock(&g->lock);
    if (n < 0)
        return say(w, n, "cannot read the guest's disks from the store: %s", strerror(-n));
    size_t used = 0;
    for (int i = 0; i < n; i++) {
        size_t length = strlen(found[i].name) + 1;
        if (length > bytes - used)
            return say(w, -E2BIG, "the names of the guest's disks need more than %zu bytes", bytes);
        memcpy(names + used, found[i].name, length);
        used += length;
    }
    return n;
}

static int choose_disk(struct guest *g, const char *device, struct disk_name *out, struct words w)
{
    struct disk_name found[GUEST_DISKS_MAX];
    char names[GUEST_DISKS_MAX * (DISK_NAME_MAX + 2)]; /* holds all of them */
    size_t used = 0;
    int n = find_disks(g, found);
    if (n < 0)
        return say(w, n, "cannot read the guest's disks from the store: %s", strerror(-n));
    if (n == 0)
        return say(w, -ENODEV, "the guest has no disk: add one to its XML");
    for (int i = 0; i < n; i++) {
        if (device ? strcmp(found[i].name, device) == 0 : n == 1) {
            *out = found[i];
            return 0;
        }
        used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "", found[i].name);
    }
    if (!device)
        return say(w, -EINVAL, "the guest has several disks: name one of %s", names);
    return say(w, -ENODEV, "the guest has no disk named %s; it has %s", device, names);
}

/* -------------------------------------------------------------------- open */

static int check_options(const struct blkfront_options *opt, struct words w)
{
    if (opt->ring_pages > BLK_MAX_RING_PAGES || opt->ring_pages & (opt->ring_pages - 1))
        return say(w, -EINVAL, "%u ring pages: must be a power of two, at most %u", opt->ring_pages,
                   BLK_MAX_RING_PAGES);
    if ((unsigned)opt->grants > BLKFRONT_GRANTS_MAP)
        return say(w, -EINVAL, "%d is no way to grant", (int)opt->grants);
    if (opt->timeout_ms < 0)
        return say(w, -EINVAL, "%d ms: a time limit cannot be negative", opt->timeout_ms);
    if (opt->pool_pages && opt->pool_pages < HANDSHAKE_POOL_MIN)
        return say(w, -EINVAL, "a pool of %u pages a queue is too small: at least %u are needed",
                   opt->pool_pages, HANDSHAKE_POOL_MIN);
    return 0;
}

/* Adds the disk to the guest; lock is held. */
static int add_disk(struct guest *g, const struct blkfront_options *opt, struct words w,
                    struct blkfront **out)
{
    struct disk_name disk = { 0 };
    int err = choose_disk(g, opt->device, &disk, w);
    if (err)
        return err;
    for (struct blkfront *d = g->disks; d; d = d->next)
        if (d->devid == disk.devid)
            return say(w, -EBUSY, "disk %s is open already in this process", disk.name);
    if (g->ndisks == GUEST_DISKS_MAX)
        return say(w, -ENOSPC, "a process can open %d disks at most", GUEST_DISKS_MAX);
    struct blkfront *d = calloc(1, sizeof(*d));
    if (!d)
        return say(w, -ENOMEM, "disk %s: no memory", disk.name);
    d->guest = g;
    d->devid = disk.devid;
    memcpy(d->name, disk.name, sizeof(d->name));
    d->want = *opt;
    d->want.attach = d->want.device = NULL;
    err = xenbus_frontend_init(&d->bus, g->store, hyp_domid(g->hyp), "vbd", d->devid, 0);
    d->bus.peer[0] = '\0'; /* whoever the store will name */
    char path[STORE_PATH_MAX + sizeof("/backend-id")];
    snprintf(path, sizeof(path), "%s/backend-id", d->bus.own);
    if (!err)
        err = store_watch(g->store, path, "move");
    if (err) {
        free(d);
        return say(w, err, "disk %s: cannot watch the store: %s", disk.name, strerror(-err));
    }
    d->next = g->disks;
    g->disks = d;
    g->ndisks++;
    *out = d;
    return 0;
}

static struct timespec deadline(int ms)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_sec += ms / 1000;
    ts.tv_nsec += (long)(ms % 1000) * 1000000;
    if (ts.tv_nsec >= 1000000000) {
        ts.tv_sec++;
        ts.tv_nsec -= 1000000000;
    }
    return ts;
}

/* Waits for the first connection; lock is held. */
static int await_open(struct blkfront *d, struct words w)
{
    struct guest *g = d->guest;
    int ms = d->want.timeout_ms ? d->want.timeout_ms : TIMEOUT_DEFAULT_MS;
    struct timespec limit = deadline(ms);
    guest_wake(g);
    while (!d->opened && !d->error)
        if (pthread_cond_timedwait(&g->changed, &g->lock, &limit) == ETIMEDOUT)
            break;
    if (d->opened)
        return 0;
    if (d->error)
        return say(w, d->error, "%s", d->why);
    if (d->why[0])
        return say(w, -ETIMEDOUT, "%s (no connection within %d ms)", d->why, ms);
    return say(w, -ETIMEDOUT, "disk %s: its driver domain is not running (no answer within %d ms): "
               "start it first", d->name, ms);
}

int blkfront_open(struct blkfront **out, const struct blkfront_options *opt, char *err, size_t err_bytes)
{
    static const struct blkfront_options defaults;
    struct words w = { err, err_bytes };
    struct guest *g;
    if (!opt)
        opt = &defaults;
    int fault = check_options(opt, w);
    if (fault)
        return fault;
    fault = guest_get(&g, opt->attach, true);
    if (fault)
        return attach_failed(w, opt->attach, fault);
    struct blkfront *d = NULL;
    pthread_mutex_lock(&g->lock);
    fault = add_disk(g, opt, w, &d);
    if (d)
        fault = await_open(d, w);
    pthread_mutex_unlock(&g->lock);
    if (!fault)
        *out = d;
    else if (d)
        blkfront_close(d);
    else
        guest_put(g);
    return fault;
}

/* ------------------------------------------------------------------- close */

/* Reaps and drops whatever is there. */
static void drop_results(struct blkqueue *q)
{
    struct blkfront_result sink[32];
    while (blkqueue_reap(q, sink, 32) > 0)
        ;
}

static void finish_work(struct blkfront *d)
{
    uint64_t limit = guest_now() + BLKFRONT_CLOSE_MS;
    for (unsigned i = 0; i < d->nqueues; i++) {
        struct blkqueue *q = &d->queues[i];
        for (drop_results(q); q->inflight > 0; drop_results(q)) {
            uint64_t now = guest_now();
            if (now >= limit)
                break;
            blkqueue_wait(q, (int)(limit - now));
        }
    }
}

void blkfront_close(struct blkfront *d)
{
    if (!d)
        return;
    struct guest *g = d->guest;
    if (d->opened)
        finish_work(d);
    pthread_mutex_lock(&g->lock);
    d->closing = true;
    /* This thread owns all queues now: take them down and drain them here. */
    for (unsigned i = 0; d->pool && i < d->nqueues; i++) {
        blkqueue_stop(&d->queues[i]);
        drop_results(&d->queues[i]);
    }
    guest_wake(g);
    while (d->phase != DISK_CLOSED && d->phase != DISK_ORPHAN)
        pthread_cond_wait(&g->changed, &g->lock);
    char path[STORE_PATH_MAX + sizeof("/backend-id")];
    snprintf(path, sizeof(path), "%s/backend-id", d->bus.own);
    store_unwatch(g->store, path, "move");
    if (d->phase == DISK_CLOSED) {
        struct blkfront **at = &g->disks;
        while (*at != d)
            at = &(*at)->next;
        *at = d->next;
        g->ndisks--;
        free(d);
    } else {
        d->abandoned = true;
    }
    pthread_mutex_unlock(&g->lock);
    guest_put(g);
}

/* ----------------------------------------------------------------- the rest */

const struct blkfront_info *blkfront_info(const struct blkfront *d)
{
    return &d->info;
}

void *blkfront_alloc(struct blkfront *d, unsigned queue, size_t bytes)
{
    return queue < d->nqueues ? blkpool_alloc(&d->queues[queue].pool, bytes) : NULL;
}

void blkfront_free(struct blkfront *d, unsigned queue, void *buf)
{
    if (queue < d->nqueues)
        blkpool_free(&d->queues[queue].pool, buf);
}

int blkfront_submit(struct blkfront *d, unsigned queue, const struct blkfront_io *ios, unsigned n)
{
    return queue < d->nqueues ? blkqueue_submit(&d->queues[queue], ios, n) : -EINVAL;
}

int blkfront_reap(struct blkfront *d, unsigned queue, struct blkfront_result *out, unsigned n)
{
    return queue < d->nqueues ? blkqueue_reap(&d->queues[queue], out, n) : -EINVAL;
}

int blkfront_fd(const struct blkfront *d, unsigned queue)
{
    return queue < d->nqueues ? d->queues[queue].epoll_fd : -EINVAL;
}

int blkfront_idle(struct blkfront *d, unsigned queue)
{
    return queue < d->nqueues ? blkqueue_idle(&d->queues[queue]) : -EINVAL;
}

int blkfront_wait(struct blkfront *d, unsigned queue, int timeout_ms)
{
    return queue < d->nqueues ? blkqueue_wait(&d->queues[queue], timeout_ms) : -EINVAL;
}

static uint64_t value(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

void blkfront_stats(const struct blkfront *d, struct blkfront_stats *out)
{
    *out = (struct blkfront_stats){ .reconnects = value(&d->reconnects) };
    for (unsigned i = 0; i < d->nqueues; i++) {
        const struct blkqueue_counters *c = &d->queues[i].counters;
        out->requests += value(&c->requests);
        out->bytes += value(&c->bytes);
        out->errors += value(&c->errors);
        out->doorbells += value(&c->doorbells);
        out->wakeups += value(&c->wakeups);
        for (unsigned lie = BLKQUEUE_HONEST + 1; lie < BLKQUEUE_LIES; lie++)
            out->broken += value(&c->lies[lie]);
    }
}
