/* SPDX-License-Identifier: MIT */
#include "device.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "handshake.h"

#define TIMEOUT_DEFAULT_MS 10000
#define DIRECTORY_MAX      4096

int words_say(struct words w, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (w.text && w.bytes)
        vsnprintf(w.text, w.bytes, fmt, ap);
    va_end(ap);
    return err;
}

/* ---------------------------------------------------- guest and its devices */

static int attach_failed(struct words w, const char *attach, int err)
{
    if (!attach)
        return words_say(w, err, "this process was not started as a guest (no %s): name the attach socket "
                         "of a guest with a native door", HYP_ENV_FDS);
    switch (err) {
    case -ENOENT:
    case -ECONNREFUSED:
        return words_say(w, err, "no guest listens at %s: start a guest with a native door first", attach);
    case -EACCES:
    case -EPERM:
        return words_say(w, err, "not permitted to be the guest at %s: the socket's owner and mode say who "
                         "may", attach);
    case -EBUSY:
        return words_say(w, err, "another program already is the guest at %s: end it first", attach);
    case -EPROTO:
        return words_say(w, err, "the program at %s speaks another version of the protocol", attach);
    default:
        return words_say(w, err, "cannot become the guest at %s: %s", attach, strerror(-err));
    }
}

struct named {
    unsigned devid;
    char name[DEVICE_NAME_MAX];
};

static int by_devid(const void *a, const void *b)
{
    unsigned x = ((const struct named *)a)->devid, y = ((const struct named *)b)->devid;
    return x < y ? -1 : x > y;
}

/* The guest's devices of a class in order; lock is held. */
static int find_devices(const struct device_class *cls, struct guest *g, struct words w,
                        struct named found[GUEST_DEVICES_MAX])
{
    char dir[STORE_PATH_MAX], key[STORE_PATH_MAX + 64], children[DIRECTORY_MAX];
    snprintf(dir, sizeof(dir), "/local/domain/%u/device/%s", hyp_domid(g->hyp), cls->directory);
    int n = store_directory(g->store, STORE_NO_TXN, dir, children, sizeof(children));
    if (n == -ENOENT)
        return 0;
    if (n < 0)
        return words_say(w, n, "cannot read the guest's %ss from the store: %s", cls->noun, strerror(-n));
    int kept = 0;
    for (const char *at = children; n > 0 && kept < GUEST_DEVICES_MAX; n--, at += strlen(at) + 1) {
        char *end;
        unsigned long devid = strtoul(at, &end, 10);
        if (*at == '\0' || *end != '\0' || devid > UINT32_MAX)
            continue;
        found[kept].devid = (unsigned)devid;
        snprintf(key, sizeof(key), "%s/%lu/dev", dir, devid);
        if (store_read(g->store, STORE_NO_TXN, key, found[kept].name, DEVICE_NAME_MAX) > 0)
            kept++;
    }
    qsort(found, (size_t)kept, sizeof(found[0]), by_devid);
    return kept;
}

int device_list(const struct device_class *cls, const char *attach, char *names, size_t bytes,
                struct words w)
{
    struct named found[GUEST_DEVICES_MAX];
    struct guest *g;
    int err = guest_get(&g, attach, false);
    if (err)
        return attach_failed(w, attach, err);
    pthread_mutex_lock(&g->lock);
    int n = find_devices(cls, g, w, found);
    pthread_mutex_unlock(&g->lock);
    size_t used = 0;
    for (int i = 0; i < n; i++) {
        size_t length = strlen(found[i].name) + 1;
        if (length > bytes - used)
            return words_say(w, -E2BIG, "the names of the guest's %ss need more than %zu bytes", cls->noun,
                             bytes);
        memcpy(names + used, found[i].name, length);
        used += length;
    }
    return n;
}

static int choose(const struct device_class *cls, struct guest *g, const char *name, struct named *out,
                  struct words w)
{
    struct named found[GUEST_DEVICES_MAX];
    char names[GUEST_DEVICES_MAX * (DEVICE_NAME_MAX + 2)]; /* holds all of them */
    size_t used = 0;
    int n = find_devices(cls, g, w, found);
    if (n < 0)
        return n;
    if (n == 0)
        return words_say(w, -ENODEV, "the guest has no %s: add one to its XML", cls->noun);
    for (int i = 0; i < n; i++) {
        if (name ? strcmp(found[i].name, name) == 0 : n == 1) {
            *out = found[i];
            return 0;
        }
        used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "", found[i].name);
    }
    if (!name)
        return words_say(w, -EINVAL, "the guest has several %ss: name one of %s", cls->noun, names);
    return words_say(w, -ENODEV, "the guest has no %s named %s; it has %s", cls->noun, name, names);
}

/* -------------------------------------------------------------------- open */

/* The store node whose change says that there is another backend. */
static int watch_moves(struct link *l, int (*set)(struct store *, const char *, const char *))
{
    char path[STORE_PATH_MAX + sizeof("/backend-id")];
    snprintf(path, sizeof(path), "%s/backend-id", l->bus.own);
    return set(l->device->guest->store, path, "move");
}

/* The links of both slots, whoever the store will name there. */
static int make_links(struct device *d)
{
    struct guest *g = d->guest;
    domid_t own = hyp_domid(g->hyp);
    d->live.device = d->spare.device = d;
    d->look = true;
    d->grantee = d->sharer = DOMID_INVALID;
    int err = xenbus_frontend_init(&d->live.bus, g->store, own, d->cls->directory, d->devid, 0);
    d->live.bus.peer[0] = '\0';
    d->spare.bus = d->live.bus;
    if (!err)
        err = xenbus_twin_path(d->spare.bus.own, own, d->cls->directory, d->devid);
    if (!err)
        err = watch_moves(&d->live, store_watch);
    if (!err) {
        err = watch_moves(&d->spare, store_watch);
        if (err)
            watch_moves(&d->live, store_unwatch);
    }
    return err;
}

/* Adds the device to the guest; lock is held. */
static int add_device(const struct device_class *cls, struct guest *g, const struct device_options *opt,
                      struct words w, struct device **out)
{
    struct named named = { 0 };
    int err = choose(cls, g, opt->device, &named, w);
    if (err)
        return err;
    for (struct device *d = g->devices; d; d = d->next)
        if (d->cls == cls && d->devid == named.devid)
            return words_say(w, -EBUSY, "%s %s is open already in this process", cls->noun, named.name);
    if (g->ndevices == GUEST_DEVICES_MAX)
        return words_say(w, -ENOSPC, "a process can open %d devices at most", GUEST_DEVICES_MAX);
    struct device *d = aligned_alloc(64, (cls->bytes + 63) & ~(size_t)63);
    if (!d)
        return words_say(w, -ENOMEM, "%s %s: no memory", cls->noun, named.name);
    memset(d, 0, cls->bytes);
    d->cls = cls;
    d->guest = g;
    d->devid = named.devid;
    memcpy(d->name, named.name, sizeof(d->name));
    opt->init(d, opt->arg);
    err = make_links(d);
    if (err) {
        free(d);
        return words_say(w, err, "%s %s: cannot watch the store: %s", cls->noun, named.name, strerror(-err));
    }
    d->next = g->devices;
    g->devices = d;
    g->ndevices++;
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
static int await_open(struct device *d, int timeout_ms, struct words w)
{
    struct guest *g = d->guest;
    int ms = timeout_ms ? timeout_ms : TIMEOUT_DEFAULT_MS;
    struct timespec limit = deadline(ms);
    guest_wake(g);
    while (!d->opened && !d->error)
        if (pthread_cond_timedwait(&g->changed, &g->lock, &limit) == ETIMEDOUT)
            break;
    if (d->opened)
        return 0;
    if (d->error)
        return words_say(w, d->error, "%s", d->why);
    if (d->why[0])
        return words_say(w, -ETIMEDOUT, "%s (no connection within %d ms)", d->why, ms);
    return words_say(w, -ETIMEDOUT, "%s %s: its driver domain is not running (no answer within %d ms): "
                     "start it first", d->cls->noun, d->name, ms);
}

int device_open(const struct device_class *cls, const struct device_options *opt, struct words w,
                struct device **out)
{
    struct guest *g;
    if (opt->timeout_ms < 0)
        return words_say(w, -EINVAL, "%d ms: a time limit cannot be negative", opt->timeout_ms);
    int err = guest_get(&g, opt->attach, true);
    if (err)
        return attach_failed(w, opt->attach, err);
    struct device *d = NULL;
    pthread_mutex_lock(&g->lock);
    err = add_device(cls, g, opt, w, &d);
    if (d)
        err = await_open(d, opt->timeout_ms, w);
    pthread_mutex_unlock(&g->lock);
    if (!err)
        *out = d;
    else if (d)
        device_close(d, 0);
    else
        guest_put(g);
    return err;
}

/* ------------------------------------------------------------------- close */

void device_close(struct device *d, unsigned finish_ms)
{
    struct guest *g = d->guest;
    uint64_t limit = monotonic_ms() + finish_ms;
    for (unsigned i = 0; finish_ms > 0 && i < d->nqueues; i++)
        d->cls->finish(d, i, limit);
    pthread_mutex_lock(&g->lock);
    d->closing = true;
    /* This thread owns all queues now: take them down and drain them here. */
    for (unsigned i = 0; d->pool && i < d->nqueues; i++) {
        queue_stop(d->queue[i]);
        d->cls->drop(d, i);
    }
    guest_wake(g);
    while (d->phase != DEVICE_CLOSED && d->phase != DEVICE_ORPHAN)
        pthread_cond_wait(&g->changed, &g->lock);
    watch_moves(&d->live, store_unwatch);
    watch_moves(&d->spare, store_unwatch);
    if (d->phase == DEVICE_CLOSED) {
        struct device **at = &g->devices;
        while (*at != d)
            at = &(*at)->next;
        *at = d->next;
        g->ndevices--;
        free(d);
    } else {
        d->abandoned = true;
    }
    pthread_mutex_unlock(&g->lock);
    guest_put(g);
}
