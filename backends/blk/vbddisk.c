/* SPDX-License-Identifier: MIT */
/* vbddisk.c - from B/params and B/mode to an open disk. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vbd.h"

/* "PREFIXnumber", decimal and nothing after it. */
static bool number_after(const char *text, const char *prefix, uint64_t max, uint64_t *out)
{
    size_t n = strlen(prefix);
    if (strncmp(text, prefix, n) != 0 || text[n] < '0' || text[n] > '9')
        return false;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text + n, &end, 10);
    if (errno || *end || v > max)
        return false;
    *out = v;
    return true;
}

static int open_ram(struct blk_disk *disk, uint64_t bytes, bool readonly, const char **what)
{
    if (bytes == 0 || bytes % BLK_SECTOR_BYTES != 0) {
        *what = "the size of a ram disk must be a multiple of 512 bytes and not 0";
        return -EINVAL;
    }
    int err = ram_alloc(bytes, &disk->ram);
    if (err < 0) {
        *what = "no memory for the ram disk; give the driver domain more or make the disk smaller";
        return err;
    }
    ram_geometry(bytes, readonly, &disk->geo);
    return 0;
}

static int open_device(struct hyp *hyp, struct blk_disk *disk, uint32_t number, bool readonly,
                       const char **what)
{
    int fd;
    int err = hyp_device_acquire(hyp, number, &fd);
    if (err == -EAGAIN || err == -ENOENT) {
        *what = "its device is not assigned and open yet";
        return -EAGAIN;
    }
    if (err < 0) {
        *what = "its device could not be taken";
        return err;
    }
    err = file_geometry(fd, readonly, &disk->geo);
    if (err < 0) {
        *what = "its device is empty, or its size and sector size cannot be found out";
        close(fd);
        return err;
    }
    disk->fd = fd;
    return 0;
}

/* Into v: which disk it is. */
static int read_params(struct vbd *v, const char **what)
{
    char params[STORE_VALUE_MAX], mode[8], path[STORE_PATH_MAX + 8];
    uint64_t number;

    *what = "params and mode of the virtual disk cannot be read";
    snprintf(path, sizeof(path), "%s/params", v->dev.bus.own);
    int err = store_read(backend_store(), STORE_NO_TXN, path, params, sizeof(params));
    if (err < 0)
        return err;
    snprintf(path, sizeof(path), "%s/mode", v->dev.bus.own);
    err = store_read(backend_store(), STORE_NO_TXN, path, mode, sizeof(mode));
    if (err < 0)
        return err;
    v->disk = (struct blk_disk){ .fd = -1, .geo.readonly = strcmp(mode, "w") != 0 };
    if (number_after(params, "ram:", SIZE_MAX, &number)) {
        v->disk.kind = BLK_DISK_RAM;
        v->ram_bytes = number;
    } else if (number_after(params, "device:", UINT32_MAX, &number)) {
        v->disk.kind = BLK_DISK_FILE;
        v->dev.device = (uint32_t)number;
    } else {
        *what = "params must be device:NUMBER or ram:BYTES";
        return -EINVAL;
    }
    v->known = true;
    return 0;
}

int vbd_disk_open(struct vbd *v, const char **what)
{
    int err = v->known ? 0 : read_params(v, what);
    if (err < 0)
        return err;
    bool readonly = v->disk.geo.readonly;
    if (v->disk.kind == BLK_DISK_RAM)
        return open_ram(&v->disk, v->ram_bytes, readonly, what);
    return open_device(backend_hyp(), &v->disk, v->dev.device, readonly, what);
}

void vbd_disk_close(struct vbd *v)
{
    if (v->disk.kind == BLK_DISK_RAM)
        ram_free(v->disk.ram, v->disk.geo.bytes);
    else
        close(v->disk.fd);
}
