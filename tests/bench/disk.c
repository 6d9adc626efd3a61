/* SPDX-License-Identifier: MIT */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u
#define HUGE_PAGES         512u /* pages of one */
#define RING_PAGE_REQUESTS 32u

int bench_disk_describe(struct stack *st, const struct bench_options *opt, bool readonly,
                        struct stack_disk *out)
{
    *out = (struct stack_disk){.target = "vda", .readonly = readonly};
    if (bench_on_ram(opt)) {
        out->bytes = DISK_RAM_BYTES;
        out->readonly = false;
        return 0;
    }
    struct stat sb;
    int fd = open(opt->device, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int error = fd < 0 || fstat(fd, &sb) < 0 ? -errno : 0;
    if (fd >= 0 && !error) {
        if (!S_ISREG(sb.st_mode) && !S_ISBLK(sb.st_mode))
            error = -ENOTBLK;
        out->bytes = (uint64_t)lseek(fd, 0, SEEK_END);
    }
    if (fd >= 0)
        close(fd);
    if (error == -ENOTBLK)
        snprintf(st->error, sizeof(st->error), "%s is neither a file nor a block device", opt->device);
    else if (error)
        snprintf(st->error, sizeof(st->error), "cannot open %s: %s", opt->device, strerror(-error));
    if (!error && out->bytes / opt->common.queues < opt->bs) {
        error = -EINVAL;
        snprintf(st->error, sizeof(st->error), "%s is smaller than one request a queue", opt->device);
    }
    out->path = opt->device;
    return error;
}

int bench_disk_open(struct stack *st, const char *attach, unsigned queues, unsigned depth, uint32_t bs,
                    struct blkfront **out)
{
    unsigned ring_pages = 1;
    while (ring_pages < 16 && ring_pages * RING_PAGE_REQUESTS < depth)
        ring_pages *= 2;
    /* Data, a page of segments for each long request, and the checks' buffers. */
    unsigned pages = (depth + 2) * ((bs + PAGE - 1) / PAGE + 1) + 64;
    unsigned ring = ring_pages * (1 + RING_PAGE_REQUESTS); /* with the descriptors */
    struct blkfront_options opt = {
        .attach = attach,
        .queues = queues,
        .ring_pages = ring_pages,
        .pool_pages = (pages + ring + HUGE_PAGES - 1) / HUGE_PAGES * HUGE_PAGES - ring,
    };
    int error = blkfront_open(out, &opt, st->error, sizeof(st->error));
    if (error)
        return error;
    const struct blkfront_info *info = blkfront_info(*out);
    if (info->queues >= queues && info->queue_depth >= depth && info->max_io_bytes >= bs)
        return 0;
    snprintf(st->error, sizeof(st->error),
             "the disk offers %u queue(s) of %u requests of at most %u bytes; ask for no more than that",
             info->queues, info->queue_depth, info->max_io_bytes);
    blkfront_close(*out);
    *out = NULL;
    return -EINVAL;
}
