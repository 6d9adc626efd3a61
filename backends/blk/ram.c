/* SPDX-License-Identifier: MIT */
/* ram.c - a disk in private memory. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "device.h"

#define RAM_PAGE       4096u
#define PREFETCH_LINES 4u /* the processor sees the pattern from there on */

int ram_alloc(uint64_t bytes, void **base)
{
    if (bytes == 0 || bytes > SIZE_MAX)
        return -EINVAL;
    void *va = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (va == MAP_FAILED)
        return -errno;
    *base = va;
    return 0;
}

void ram_free(void *base, uint64_t bytes)
{
    munmap(base, bytes);
}

void ram_geometry(uint64_t bytes, bool readonly, struct blkdev_geometry *geo)
{
    *geo = (struct blkdev_geometry){ .bytes = bytes, .sector_bytes = 512, .physical_bytes = RAM_PAGE,
                                     .discard_granularity = RAM_PAGE, .readonly = readonly,
                                     .fua = true, .zeroes = true };
}

/* Whole pages are given back to the system, which makes them zero; the ends are cleared. */
static int zero_range(uint8_t *at, uint64_t bytes)
{
    uint64_t lead = -(uintptr_t)at % RAM_PAGE;
    if (bytes <= lead || bytes - lead < RAM_PAGE) {
        memset(at, 0, bytes);
        return 0;
    }
    uint64_t pages = (bytes - lead) / RAM_PAGE * RAM_PAGE;
    uint64_t tail = bytes - lead - pages;
    memset(at, 0, lead);
    memset(at + lead + pages, 0, tail);
    void *va = mmap(at + lead, pages, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return va == MAP_FAILED ? -errno : 0;
}

static uint8_t *disk_at(struct blkdev *dev, const struct blkdev_io *io)
{
    return ((struct blkdev_ram *)dev)->base + io->offset;
}

static int ram_submit(struct blkdev *dev, struct blkdev_io *io)
{
    const uint8_t *at = disk_at(dev, io);
    if (io->niov > 0)
        for (unsigned line = 0; line < PREFETCH_LINES; line++)
            __builtin_prefetch(at + line * 64);
    blkdev_done_add(&((struct blkdev_ram *)dev)->noted, io, 0);
    return 0;
}

static int carry_out(struct blkdev *dev, const struct blkdev_io *io)
{
    uint8_t *at = disk_at(dev, io);

    switch (io->op) {
    case BLKDEV_READ:
        for (unsigned i = 0; i < io->niov; at += io->iov[i++].iov_len)
            memcpy(io->iov[i].iov_base, at, io->iov[i].iov_len);
        return 0;
    case BLKDEV_WRITE:
        for (unsigned i = 0; i < io->niov; at += io->iov[i++].iov_len)
            memcpy(at, io->iov[i].iov_base, io->iov[i].iov_len);
        return 0;
    case BLKDEV_FLUSH:
        return 0;
    default:
        return zero_range(at, io->bytes);
    }
}

static void ram_kick(struct blkdev *dev)
{
    struct blkdev_io *io = blkdev_done_take(&((struct blkdev_ram *)dev)->noted);
    while (io) {
        struct blkdev_io *next = io->next;
        blkdev_done_add(dev->done, io, carry_out(dev, io));
        io = next;
    }
}

static void ram_close(struct blkdev *dev)
{
    dev->ops = NULL;
}

static const struct blkdev_ops ram_ops = { .submit = ram_submit, .kick = ram_kick, .close = ram_close };

void blkdev_ram_open(struct blkdev_ram *ram, void *base, const struct blkdev_geometry *geo,
                     struct blkdev_done *done)
{
    *ram = (struct blkdev_ram){ .dev = { .ops = &ram_ops, .done = done, .geo = *geo }, .base = base };
    blkdev_done_init(&ram->noted);
}
