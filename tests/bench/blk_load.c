/* SPDX-License-Identifier: MIT */
#include "blk_load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define BATCH         64u
#define CHECK_PLACES  256u
#define PATIENCE_MS   10000 /* a request that takes longer is an error */
#define CLOCK_EVERY   256u  /* empty polls between looks at the clock  */

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* One queue's requests.  ready[] are filled in but not yet taken by the ring. */
struct lane {
    struct blkfront *disk;
    unsigned queue, depth, ready_count, in_flight;
    struct load_pattern pattern;
    uint64_t begun[LOAD_DEPTH_MAX];
    struct blkfront_io slots[LOAD_DEPTH_MAX];
    struct blkfront_io ready[LOAD_DEPTH_MAX];
};

static void lane_close(struct lane *l)
{
    for (unsigned i = 0; i < l->depth; i++)
        if (l->slots[i].buf)
            blkfront_free(l->disk, l->queue, l->slots[i].buf);
}

static int lane_open(struct lane *l, struct blkfront *disk, const struct load_job *job, unsigned queue)
{
    memset(l, 0, sizeof(*l));
    l->disk = disk;
    l->queue = queue;
    l->depth = job->depth;
    load_pattern_init(&l->pattern, job, queue);
    for (unsigned i = 0; i < job->depth; i++) {
        l->slots[i] = (struct blkfront_io){
            .op = load_writes(job->op) ? BLKFRONT_WRITE : BLKFRONT_READ,
            .bytes = job->bs,
            .buf = blkfront_alloc(disk, queue, job->bs),
            .cookie = i,
        };
        if (!l->slots[i].buf) {
            lane_close(l);
            return -ENOMEM;
        }
        memset(l->slots[i].buf, 0x5a, job->bs);
    }
    return 0;
}

static inline void lane_ask(struct lane *l, unsigned slot, uint64_t now)
{
    l->slots[slot].offset = load_pattern_next(&l->pattern);
    l->begun[slot] = now;
    l->ready[l->ready_count++] = l->slots[slot];
}

/* Hands over what is ready; what the ring has no room for stays ready. */
static int lane_push(struct lane *l)
{
    if (l->ready_count == 0)
        return 0;
    int n = blkfront_submit(l->disk, l->queue, l->ready, l->ready_count);
    if (n < 0)
        return n == -EAGAIN ? 0 : n;
    l->in_flight += (unsigned)n;
    l->ready_count -= (unsigned)n;
    if (l->ready_count)
        memmove(l->ready, l->ready + n, l->ready_count * sizeof(l->ready[0]));
    return 0;
}

static void note_error(struct load_result *out, int error)
{
    out->errors++;
    if (!out->error)
        out->error = error;
}

static int lane_drain(struct lane *l, struct load_result *out)
{
    struct blkfront_result done[BATCH];
    while (l->in_flight) {
        int n = blkfront_reap(l->disk, l->queue, done, BATCH);
        if (n < 0)
            return n;
        for (int i = 0; i < n; i++)
            if (done[i].error)
                note_error(out, done[i].error);
        l->in_flight -= (unsigned)n;
        if (n == 0 && l->in_flight && blkfront_wait(l->disk, l->queue, PATIENCE_MS) <= 0)
            return -ETIMEDOUT;
    }
    return 0;
}

/* Nothing was done: poll again, or sleep when it has been long. */
static int lane_idle(struct lane *l, const struct load_job *job, unsigned *empty, uint64_t *now)
{
    if (++*empty < job->spins) {
        cpu_relax();
        if (*empty % CLOCK_EVERY == 0)
            *now = load_now_ns();
        return 0;
    }
    *empty = 0;
    int n = blkfront_wait(l->disk, l->queue, PATIENCE_MS);
    *now = load_now_ns();
    return n == 0 ? -ETIMEDOUT : n < 0 && n != -EINTR ? n : 0;
}

static int lane_run(struct lane *l, const struct load_job *job, struct load_result *out)
{
    struct blkfront_result done[BATCH];
    uint64_t begin = load_now_ns(), now = begin, end = begin + (uint64_t)(job->seconds * 1e9);
    unsigned empty = 0;
    for (unsigned i = 0; i < job->depth; i++)
        lane_ask(l, i, now);
    int error = lane_push(l);
    while (!error && now < end && !bench_stop && !out->errors) {
        int n = blkfront_reap(l->disk, l->queue, done, BATCH);
        if (n <= 0) {
            error = n < 0 ? n : lane_idle(l, job, &empty, &now);
            continue;
        }
        empty = 0;
        now = load_now_ns();
        l->in_flight -= (unsigned)n;
        out->ops += (unsigned)n;
        for (int i = 0; i < n; i++) {
            unsigned slot = (unsigned)done[i].cookie;
            if (done[i].error)
                note_error(out, done[i].error);
            histogram_add(&out->latency, now - l->begun[slot]);
            lane_ask(l, slot, now);
        }
        error = lane_push(l);
    }
    out->wall_ns = now - begin;
    int drained = lane_drain(l, out);
    return error ? error : drained;
}

int blk_load(void *target, const struct load_job *job, unsigned queue, struct load_result *out)
{
    struct lane *l = malloc(sizeof(*l));
    if (!l)
        return -ENOMEM;
    int error = lane_open(l, target, job, queue);
    if (!error) {
        error = lane_run(l, job, out);
        lane_close(l);
    }
    free(l);
    return error;
}

/* One request, waited for. */
static int one(struct blkfront *disk, uint8_t op, void *buf, uint32_t bytes, uint64_t offset)
{
    struct blkfront_io io = {.op = op, .bytes = bytes, .offset = offset, .buf = buf};
    struct blkfront_result done;
    int n = blkfront_submit(disk, 0, &io, 1);
    if (n != 1)
        return n < 0 ? n : -EAGAIN;
    while ((n = blkfront_reap(disk, 0, &done, 1)) == 0)
        if (blkfront_wait(disk, 0, PATIENCE_MS) == 0)
            return -ETIMEDOUT;
    return n < 0 ? n : done.error;
}

int blk_prepare(struct blkfront *disk)
{
    const struct blkfront_info *info = blkfront_info(disk);
    uint32_t bytes = 256u << 10;
    if (bytes > info->max_io_bytes)
        bytes = info->max_io_bytes;
    void *buf = blkfront_alloc(disk, 0, bytes);
    if (!buf)
        return -ENOMEM;
    int error = 0;
    for (uint64_t at = 0; at < info->bytes && !error && !bench_stop; at += bytes) {
        uint32_t n = info->bytes - at < bytes ? (uint32_t)(info->bytes - at) : bytes;
        load_fill(buf, n, at, 0);
        error = one(disk, BLKFRONT_WRITE, buf, n, at);
    }
    blkfront_free(disk, 0, buf);
    return error;
}

static int check_place(struct blkfront *disk, uint32_t bs, uint64_t at, uint64_t salt, bool write, int fd,
                       char *out, char *in, char *file)
{
    int error = 0;
    if (write) {
        load_fill(out, bs, at, salt);
        error = one(disk, BLKFRONT_WRITE, out, bs, at);
    }
    memset(in, 0xee, bs);
    if (!error)
        error = one(disk, BLKFRONT_READ, in, bs, at);
    if (error)
        return error;
    if ((write || fd < 0) && !load_is_filled(in, bs, at, salt))
        return -EILSEQ;
    if (fd < 0)
        return 0;
    ssize_t n = pread(fd, file, bs, (off_t)at);
    if (n < 0)
        return -errno;
    return n == (ssize_t)bs && memcmp(in, file, bs) == 0 ? 0 : -EILSEQ;
}

int blk_check(struct blkfront *disk, uint32_t bs, bool write, int fd)
{
    uint64_t blocks = blkfront_info(disk)->bytes / bs;
    char *out = blkfront_alloc(disk, 0, bs), *in = blkfront_alloc(disk, 0, bs), *file = malloc(bs);
    int error = out && in && file ? 0 : -ENOMEM;
    for (unsigned i = 0; i < CHECK_PLACES && !error && !bench_stop; i++) {
        uint64_t block = (uint64_t)((unsigned __int128)blocks * i / CHECK_PLACES);
        error = check_place(disk, bs, block * bs, write ? 1 : 0, write, fd, out, in, file);
    }
    if (out)
        blkfront_free(disk, 0, out);
    if (in)
        blkfront_free(disk, 0, in);
    free(file);
    return error;
}
