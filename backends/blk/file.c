/* SPDX-License-Identifier: MIT */
/* file.c - regular files and block devices through the worker's io_uring. */
#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdalign.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "uring.h"

#define FILE_SECTOR    512u
#define FILE_BLOCK     4096u
#define FILE_TRIES     64u          /* of one request that makes no progress  */
#define FILE_CHUNK_MAX (1u << 30)   /* one fallocate call; the kernel's own limit is near 2^63 */
#define ZERO_BYTES     (256u << 10) /* one write of zeroes                    */

/* Never written, so behind all of it is the kernel's one page of zeroes. */
static alignas(FILE_BLOCK) uint8_t zeroes[ZERO_BYTES];

/* -------------------------------------------------------------- geometry */

static int regular_sector(int fd, uint32_t *sector)
{
    /* Half a block, so that memory and length both say 512. */
    static alignas(FILE_BLOCK) uint8_t probe[FILE_BLOCK];
    if (lseek(fd, 0, SEEK_SET) < 0)
        return -errno;
    *sector = FILE_SECTOR;
    if (read(fd, probe + FILE_SECTOR, FILE_SECTOR) < 0) {
        if (errno != EINVAL)
            return -errno;
        *sector = FILE_BLOCK;
    }
    return 0;
}

int file_geometry(int fd, bool readonly, struct blkdev_geometry *geo)
{
    off_t end = lseek(fd, 0, SEEK_END);
    if (end < 0)
        return -errno;

    int sector = 0;
    unsigned physical = 0;
    *geo = (struct blkdev_geometry){ .bytes = (uint64_t)end, .discard_granularity = readonly ? 0 : FILE_BLOCK,
                                     .readonly = readonly, .fua = true, .zeroes = true };
    if (ioctl(fd, BLKSSZGET, &sector) == 0) {
        if (ioctl(fd, BLKPBSZGET, &physical) != 0)
            physical = (unsigned)sector;
        geo->sector_bytes = (uint32_t)sector;
        geo->physical_bytes = physical;
    } else if (errno == ENOTTY) {
        int err = regular_sector(fd, &geo->sector_bytes);
        if (err < 0)
            return err;
        geo->physical_bytes = FILE_BLOCK;
    } else {
        return -errno;
    }
    if (geo->sector_bytes < FILE_SECTOR || geo->sector_bytes > FILE_BLOCK)
        return -EOPNOTSUPP;
    /* The last part of a sector cannot be reached. */
    geo->bytes -= geo->bytes % geo->sector_bytes;
    return geo->bytes == 0 ? -ENXIO : 0;
}

/* -------------------------------------------------------------- requests */

static void prepare_transfer(struct io_uring_sqe *sqe, int fd, struct blkdev_io *io)
{
    bool write = io->op == BLKDEV_WRITE;
    uint64_t at = io->offset + io->progress;
    struct iovec *v = io->iov;

    if (io->niov > 1)
        io_uring_prep_rw(write ? IORING_OP_WRITEV : IORING_OP_READV, sqe, fd, v, io->niov, at);
    else if (io->buffer >= 0)
        io_uring_prep_rw(write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED, sqe, fd, v->iov_base,
                         (unsigned)v->iov_len, at);
    else
        io_uring_prep_rw(write ? IORING_OP_WRITE : IORING_OP_READ, sqe, fd, v->iov_base,
                         (unsigned)v->iov_len, at);
    if (io->niov == 1 && io->buffer >= 0)
        sqe->buf_index = (uint16_t)io->buffer;
    if (io->flags & BLKDEV_FUA)
        sqe->rw_flags = RWF_DSYNC;
}

static uint64_t chunk(const struct blkdev_io *io, uint64_t max)
{
    uint64_t left = io->bytes - io->progress;
    return left < max ? left : max;
}

/* Zeroes by fallocate while that works, by writing them from then on. */
static void prepare_zeroes(struct io_uring_sqe *sqe, int fd, struct blkdev_io *io)
{
    uint64_t at = io->offset + io->progress;
    int mode = io->flags & BLKDEV_MAY_UNMAP ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;

    if (io->buffer == BLKDEV_NO_BUFFER)
        io_uring_prep_fallocate(sqe, fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)at,
                                (off_t)chunk(io, FILE_CHUNK_MAX));
    else
        io_uring_prep_write(sqe, fd, zeroes, (unsigned)chunk(io, ZERO_BYTES), at);
}

static bool start(struct uring *u, struct blkdev_io *io)
{
    int fd = ((struct blkdev_file *)io->dev)->fd;
    struct io_uring_sqe *sqe = uring_sqe(u);
    if (!sqe)
        return false;
    switch (io->op) {
    case BLKDEV_READ:
    case BLKDEV_WRITE:
        prepare_transfer(sqe, fd, io);
        break;
    case BLKDEV_FLUSH:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    case BLKDEV_DISCARD:
        io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (off_t)(io->offset + io->progress), (off_t)chunk(io, FILE_CHUNK_MAX));
        break;
    default:
        prepare_zeroes(sqe, fd, io);
    }
    io_uring_sqe_set_data(sqe, io);
    return true;
}

static int file_submit(struct blkdev *dev, struct blkdev_io *io)
{
    io->dev = dev;
    io->progress = 0;
    io->tries = 0;
    if (io->op != BLKDEV_READ && io->op != BLKDEV_WRITE)
        io->buffer = BLKDEV_NO_BUFFER;
    return start(((struct blkdev_file *)dev)->uring, io) ? 0 : -EAGAIN;
}

/* Drops the first n bytes of what is left of the pieces. */
static void eat(struct blkdev_io *io, uint64_t n)
{
    while (n > 0 && n >= io->iov->iov_len) {
        n -= io->iov->iov_len;
        io->iov++;
        io->niov--;
    }
    if (n > 0) {
        io->iov->iov_base = (uint8_t *)io->iov->iov_base + n;
        io->iov->iov_len -= n;
    }
}

/* 0: go on with the rest; 1: whole; else an error. */
static int judge(struct blkdev_io *io, int result)
{
    bool transfer = io->op == BLKDEV_READ || io->op == BLKDEV_WRITE;
    bool written_zeroes = io->op == BLKDEV_ZEROES && io->buffer != BLKDEV_NO_BUFFER;

    if (result == -EAGAIN || result == -EINTR)
        return ++io->tries < FILE_TRIES ? 0 : -EIO;
    if (result == -EOPNOTSUPP && io->op == BLKDEV_ZEROES && !written_zeroes) {
        io->buffer = 0; /* any number: the file system cannot, so write them */
        return 0;
    }
    if (result < 0)
        return result;
    if (io->op == BLKDEV_FLUSH)
        return 1;
    uint64_t did = transfer || written_zeroes ? (uint64_t)result : chunk(io, FILE_CHUNK_MAX);
    if (did == 0 || did > io->bytes - io->progress)
        return -EIO; /* the file ends early */
    io->progress += did;
    io->tries = 0;
    if (io->progress == io->bytes)
        return 1;
    if (transfer)
        eat(io, did);
    return 0;
}

bool file_answer(struct uring *u, struct blkdev_io *io, int result, int *error)
{
    int verdict = judge(io, result);
    if (verdict == 0 && start(u, io))
        return false;
    *error = verdict == 0 ? -EIO : verdict < 0 ? verdict : 0;
    return true;
}

static int file_buffer_add(struct blkdev *dev, void *base, size_t bytes)
{
    int buffer = uring_buffer_add(((struct blkdev_file *)dev)->uring, base, bytes);
    return buffer < 0 ? BLKDEV_NO_BUFFER : buffer;
}

static void file_buffer_remove(struct blkdev *dev, int buffer)
{
    uring_buffer_remove(((struct blkdev_file *)dev)->uring, buffer);
}

static void file_close(struct blkdev *dev)
{
    dev->ops = NULL;
}

static const struct blkdev_ops file_ops = { .submit = file_submit, .buffer_add = file_buffer_add,
                                            .buffer_remove = file_buffer_remove, .close = file_close };

void blkdev_file_prepare(struct blkdev_file *file, struct uring *uring, struct blkdev_done *done)
{
    *file = (struct blkdev_file){ .dev = { .ops = &file_ops, .done = done }, .uring = uring, .fd = -1 };
}

int blkdev_file_open(struct blkdev_file *file, int fd, const struct blkdev_geometry *geo)
{
    if (!file->uring->open)
        return -ENOSYS;
    file->fd = fd;
    file->dev.geo = *geo;
    return 0;
}
