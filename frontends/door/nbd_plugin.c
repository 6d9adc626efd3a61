/* SPDX-License-Identifier: MIT */
/*
 * nbd_plugin.c - the NBD door: an nbdkit plugin that serves a guest's disks.
 *
 * Every disk of the guest is an export named as its target ("vda"); the default
 * export is the first.  A disk is opened once and shared by all connections.
 * NBD brings its own buffers, so each transfer is copied between them and the
 * pool: what the driver domain can see is the pool, never nbdkit's memory.
 *
 * Started as a domain (bulkhead-nbd did it) the plugin seals the process once the
 * disks are connected: no path, no exec, and only the door's allow-list of system
 * calls.  As an operator's own nbdkit (attach=...) it leaves the process alone.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../hyp-shim/local/jail.h"
#include "../include/bulkhead/blkfront.h"
#include "lane.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define EXPORTS_MAX 64
#define QUEUES_MAX  8
#define NAMES_MAX   4096
#define HEAPS_MAX   4

struct export {
    const char *name;
    struct blkfront *disk;
    const struct blkfront_info *info;
    struct lane lanes[QUEUES_MAX];
};

static struct blkfront_options options;
static struct export exports[EXPORTS_MAX];
static unsigned nexports;
static char names[NAMES_MAX];

/* ------------------------------------------------------------ configuration */

static int config_number(const char *key, const char *value, unsigned *out)
{
    return nbdkit_parse_unsigned(key, value, out);
}

static int config(const char *key, const char *value)
{
    if (strcmp(key, "attach") == 0) {
        options.attach = nbdkit_absolute_path(value);
        return options.attach ? 0 : -1;
    }
    if (strcmp(key, "device") == 0) {
        options.device = nbdkit_strdup_intern(value);
        return options.device ? 0 : -1;
    }
    if (strcmp(key, "queues") == 0)
        return config_number(key, value, &options.queues);
    if (strcmp(key, "pool-pages") == 0)
        return config_number(key, value, &options.pool_pages);
    if (strcmp(key, "timeout") == 0) {
        unsigned ms;
        if (nbdkit_parse_unsigned(key, value, &ms))
            return -1;
        if (ms > 3600000) {
            nbdkit_error("timeout=%u: at most 3600000 ms", ms);
            return -1;
        }
        options.timeout_ms = (int)ms;
        return 0;
    }
    nbdkit_error("unknown parameter %s", key);
    return -1;
}

#define CONFIG_HELP \
    "attach=SOCKET      Attach socket of a guest with a native door.\n" \
    "device=NAME        Serve only this disk, as vda (default: all the guest has).\n" \
    "queues=N           Queues a disk (default: as configured for the guest).\n" \
    "pool-pages=N       Data pages a queue (default: as configured, else 380).\n" \
    "timeout=MS         Patience with a driver domain at start (default: 10000)."

static void dump(void)
{
    printf("bulkhead_version=%s\n", BULKHEAD_VERSION);
    printf("bulkhead_door=nbd\n");
}

/* -------------------------------------------------------------------- disks */

static void told(void *arg, enum blkfront_news news)
{
    const struct export *e = arg;
    switch (news) {
    case BLKFRONT_UP:
        nbdkit_error("disk %s: connected to its driver domain again", e->name);
        break;
    case BLKFRONT_DOWN:
        nbdkit_error("disk %s: lost its driver domain; requests wait until it is back", e->name);
        break;
    case BLKFRONT_GONE:
        nbdkit_error("disk %s: the hypervisor is gone; ending", e->name);
        nbdkit_shutdown();
        break;
    case BLKFRONT_STOP:
        nbdkit_shutdown();
        break;
    }
}

static int open_disk(const char *name)
{
    char why[256];
    struct export *e = &exports[nexports];
    struct blkfront_options opt = options;
    opt.device = name;
    opt.notify = told;
    opt.arg = e;
    e->name = name;
    if (blkfront_open(&e->disk, &opt, why, sizeof(why))) {
        nbdkit_error("%s", why);
        return -1;
    }
    e->info = blkfront_info(e->disk);
    for (unsigned i = 0; i < e->info->queues; i++)
        lane_init(&e->lanes[i], e->disk, i);
    nexports++;
    return 0;
}

static int open_disks(void)
{
    char why[256];
    if (options.device)
        return open_disk(options.device);
    int n = blkfront_list(options.attach, names, sizeof(names), why, sizeof(why));
    if (n <= 0 || n > EXPORTS_MAX) {
        nbdkit_error("%s", n < 0 ? why : n == 0 ? "the guest has no disk: add one to its XML"
                                                : "the guest has too many disks");
        return -1;
    }
    for (const char *name = names; n > 0; n--, name += strlen(name) + 1)
        if (open_disk(name))
            return -1;
    return 0;
}

/* In the process that will serve, before it has threads. */
static int after_fork(void)
{
    const char *step = NULL;
    bool domain = !options.attach;
    int err = domain ? jail_confine(&step) : 0;
    /* malloc opens paths: to count the CPUs when a thread needs a heap of its own,
     * unless their number is set; and before it gives back the top of one. */
    if (!err && domain && (!mallopt(M_ARENA_MAX, HEAPS_MAX) || !mallopt(M_TRIM_THRESHOLD, INT_MAX))) {
        step = "limit the heaps";
        err = -EINVAL;
    }
    if (!err && open_disks())
        return -1;
    if (!err && domain)
        err = jail_seal(HYP_CLASS_NBD, &step);
    if (err) {
        nbdkit_error("cannot seal the door: %s: %s", step, strerror(-err));
        return -1;
    }
    return 0;
}

static void cleanup(void)
{
    for (unsigned i = 0; i < nexports; i++) {
        struct export *e = &exports[i];
        for (unsigned q = 0; q < e->info->queues; q++)
            lane_destroy(&e->lanes[q]);
        blkfront_close(e->disk);
    }
    nexports = 0;
}

static void unload(void)
{
    free((char *)options.attach);
}

/* ------------------------------------------------------------------ exports */

static int list_exports(int readonly, int is_tls, struct nbdkit_exports *list)
{
    (void)readonly;
    (void)is_tls;
    for (unsigned i = 0; i < nexports; i++)
        if (nbdkit_add_export(list, exports[i].name, NULL))
            return -1;
    return 0;
}

static const char *default_export(int readonly, int is_tls)
{
    (void)readonly;
    (void)is_tls;
    return nexports ? exports[0].name : NULL;
}

static void *open_export(int readonly)
{
    (void)readonly;
    const char *wanted = nbdkit_export_name();
    if (!wanted)
        return NULL;
    for (unsigned i = 0; i < nexports; i++)
        if (!*wanted || strcmp(wanted, exports[i].name) == 0)
            return &exports[i];
    nbdkit_error("the guest has no disk named %s", wanted);
    return NULL;
}

static int64_t get_size(void *handle)
{
    return (int64_t)((struct export *)handle)->info->bytes;
}

static int block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    const struct blkfront_info *info = ((struct export *)handle)->info;
    *minimum = info->sector_bytes;
    *preferred = info->physical_bytes > 4096 ? info->physical_bytes : 4096;
    *maximum = info->max_io_bytes > *preferred ? info->max_io_bytes : *preferred;
    return 0;
}

static int can_write(void *handle)
{
    return !((struct export *)handle)->info->readonly;
}

static int can_flush(void *handle)
{
    return ((struct export *)handle)->info->can_flush;
}

static int can_trim(void *handle)
{
    return ((struct export *)handle)->info->can_discard;
}

static int can_zero(void *handle)
{
    return ((struct export *)handle)->info->can_zeroes;
}

static int can_fua(void *handle)
{
    return ((struct export *)handle)->info->can_fua ? NBDKIT_FUA_NATIVE : NBDKIT_FUA_NONE;
}

/* One disk behind all connections: a flush on one covers the writes of all. */
static int can_multi_conn(void *handle)
{
    (void)handle;
    return 1;
}

/* ----------------------------------------------------------------- requests */

/* Threads spread over the queues and stay there. */
static struct lane *my_lane(struct export *e)
{
    static unsigned threads;
    static _Thread_local unsigned mine;
    if (mine == 0)
        mine = __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED);
    return &e->lanes[mine % e->info->queues];
}

static int outcome(int err)
{
    if (err == 0)
        return 0;
    nbdkit_set_error(err == -ENOTCONN || err == -EMSGSIZE || err == -ETIMEDOUT ? EIO : -err);
    return -1;
}

static int transfer(struct export *e, enum blkfront_op op, uint8_t flags, char *buf, uint32_t count,
                    uint64_t offset)
{
    struct lane *lane = my_lane(e);
    int err = 0;
    while (count > 0 && !err) {
        uint32_t part = count < e->info->max_io_bytes ? count : e->info->max_io_bytes;
        char *pages = lane_buffer(lane, part);
        if (op == BLKFRONT_WRITE)
            memcpy(pages, buf, part);
        err = lane_do(lane, (struct blkfront_io){ .op = (uint8_t)op, .flags = flags, .bytes = part,
                                                  .offset = offset, .buf = pages });
        if (op == BLKFRONT_READ && !err)
            memcpy(buf, pages, part);
        lane_release(lane, pages);
        buf += part;
        offset += part;
        count -= part;
    }
    return outcome(err);
}

static int door_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)flags;
    return transfer(handle, BLKFRONT_READ, 0, buf, count, offset);
}

static int door_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    return transfer(handle, BLKFRONT_WRITE, flags & NBDKIT_FLAG_FUA ? BLKFRONT_FUA : 0, (char *)buf, count,
                    offset);
}

static int door_flush(void *handle, uint32_t flags)
{
    (void)flags;
    return outcome(lane_do(my_lane(handle), (struct blkfront_io){ .op = BLKFRONT_FLUSH }));
}

/* Discard and zeroes have no FUA of their own: a flush follows. */
static int door_range(void *handle, enum blkfront_op op, uint8_t how, uint32_t count, uint64_t offset,
                      uint32_t flags)
{
    struct lane *lane = my_lane(handle);
    int err = lane_do(lane, (struct blkfront_io){ .op = (uint8_t)op, .flags = how, .length = count,
                                                  .offset = offset });
    if (!err && flags & NBDKIT_FLAG_FUA)
        err = lane_do(lane, (struct blkfront_io){ .op = BLKFRONT_FLUSH });
    return outcome(err);
}

static int door_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    return door_range(handle, BLKFRONT_DISCARD, 0, count, offset, flags);
}

static int door_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    return door_range(handle, BLKFRONT_ZEROES, flags & NBDKIT_FLAG_MAY_TRIM ? BLKFRONT_MAY_UNMAP : 0, count,
                      offset, flags);
}

static struct nbdkit_plugin plugin = {
    .name = "bulkhead",
    .longname = "Bulkhead NBD door",
    .version = BULKHEAD_VERSION,
    .description = "Serves a guest's disks, which live in a confined driver domain, to any NBD client.",
    .config = config,
    .config_help = CONFIG_HELP,
    .dump_plugin = dump,
    .after_fork = after_fork,
    .cleanup = cleanup,
    .unload = unload,
    .list_exports = list_exports,
    .default_export = default_export,
    .open = open_export,
    .get_size = get_size,
    .block_size = block_size,
    .can_write = can_write,
    .can_flush = can_flush,
    .can_trim = can_trim,
    .can_zero = can_zero,
    .can_fua = can_fua,
    .can_multi_conn = can_multi_conn,
    .pread = door_pread,
    .pwrite = door_pwrite,
    .flush = door_flush,
    .trim = door_trim,
    .zero = door_zero,
};

#pragma GCC visibility push(default)
struct nbdkit_plugin *plugin_init(void);
#pragma GCC visibility pop
NBDKIT_REGISTER_PLUGIN(plugin)
