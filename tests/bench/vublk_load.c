/* SPDX-License-Identifier: MIT */
#include "vublk_load.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define SECTOR       512u
#define QUEUE_USUAL  128u  /* QEMU's own queue-size                 */
#define CHECK_PLACES 256u
#define PATIENCE_MS  10000 /* a request that takes longer is an error */
#define CLOCK_EVERY  256u  /* empty polls between looks at the clock  */

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* ---------------------------------------------------------------- open and close */

static uint16_t queue_size(const struct vublk_shape *s, uint32_t segment)
{
    unsigned need = s->depth * (s->indirect ? 1 : vublk_pieces(s->bytes, segment)), size = QUEUE_USUAL;
    while (size < need && size < VURING_SIZE_MAX)
        size *= 2;
    return (uint16_t)size;
}

/* What the device cannot do is said before anything is asked of it. */
static int suits(struct vublk_disk *disk, const struct vublk_shape *s, uint32_t segment)
{
    struct vuclient *c = &disk->client;
    unsigned pieces = vublk_pieces(s->bytes, segment);
    unsigned chain = vuclient_has(c, VIRTIO_RING_F_INDIRECT_DESC) ? 1 : pieces;
    int error = 0;
    if (disk->bytes < (uint64_t)s->bytes * s->queues) {
        error = -EINVAL;
        snprintf(c->error, sizeof(c->error), "%s: the disk is smaller than one request a queue", c->opt.path);
    } else if (pieces > VURING_PIECES_MAX || chain > c->opt.queue_size) {
        error = -EINVAL;
        snprintf(c->error, sizeof(c->error), "%s: a request of %u bytes has too many pieces", c->opt.path,
                 s->bytes);
    } else if (vuclient_has(c, VIRTIO_BLK_F_SEG_MAX) && c->config.seg_max && pieces - 2 > c->config.seg_max) {
        error = -EINVAL;
        snprintf(c->error, sizeof(c->error), "%s: it takes requests of at most %u segments", c->opt.path,
                 c->config.seg_max);
    }
    return error;
}

int vublk_open(struct vublk_disk *disk, const char *path, const struct vublk_shape *s)
{
    struct vuclient *c = &disk->client;
    uint32_t segment = s->segment ? s->segment : s->bytes;
    size_t each = vublk_queue_bytes(s->depth, s->bytes, segment);
    const struct vuclient_options opt = {.path = path, .queues = s->queues,
                                         .queue_size = queue_size(s, segment),
                                         .packed = s->packed, .indirect = s->indirect,
                                         .event_idx = s->event_idx, .inflight = s->inflight,
                                         .bytes = each * s->queues};
    int error = vuclient_open(c, &opt);
    if (error)
        return error;
    disk->bytes = c->config.capacity * SECTOR;
    disk->readonly = vuclient_has(c, VIRTIO_BLK_F_RO);
    for (unsigned q = 0; q < s->queues; q++)
        vublk_queue_init(&disk->queue[q], c, q, s->depth, s->bytes, segment, vuclient_data(c) + q * each);
    error = suits(disk, s, segment);
    if (error)
        vuclient_close(c);
    return error;
}

void vublk_close(struct vublk_disk *disk)
{
    vuclient_close(&disk->client);
}

/* --------------------------------------------------------------------------- load */

struct lane {
    struct vublk_queue *q;
    uint32_t type;
    struct load_pattern pattern;
    unsigned waiting;                /* slots that the ring has no room for */
    uint16_t wait[LOAD_DEPTH_MAX];
    uint64_t offset[LOAD_DEPTH_MAX], begun[LOAD_DEPTH_MAX];
};

static inline void lane_ask(struct lane *l, unsigned slot, uint32_t bs)
{
    if (vublk_ask(l->q, slot, l->type, l->offset[slot], bs) < 0)
        l->wait[l->waiting++] = (uint16_t)slot;
}

static inline void lane_next(struct lane *l, unsigned slot, uint32_t bs, uint64_t now)
{
    l->offset[slot] = load_pattern_next(&l->pattern);
    l->begun[slot] = now;
    lane_ask(l, slot, bs);
}

static void ask_waiting(struct lane *l, uint32_t bs)
{
    unsigned n = l->waiting;
    l->waiting = 0;
    for (unsigned i = 0; i < n; i++)
        lane_ask(l, l->wait[i], bs);
}

static void note_error(struct load_result *out, int error)
{
    out->errors++;
    if (!out->error)
        out->error = error;
}

/* A guest that sleeps is woken by the call; one that was told to be quiet looks again. */
static int lane_sleep(struct lane *l, uint64_t *now)
{
    int n = 1;
    if (!vuring_listen(l->q->ring))
        n = vuclient_wait(l->q->client, l->q->queue, PATIENCE_MS);
    vuring_quiet(l->q->ring);
    *now = load_now_ns();
    return n == 0 ? -ETIMEDOUT : n < 0 && n != -EINTR ? n : 0;
}

/* Nothing was done: poll again, or sleep when it has been long. */
static int lane_idle(struct lane *l, const struct load_job *job, unsigned *empty, uint64_t *now)
{
    if (++*empty <= job->spins) {
        cpu_relax();
        if (*empty % CLOCK_EVERY == 0)
            *now = load_now_ns();
        return 0;
    }
    *empty = 0;
    return lane_sleep(l, now);
}

static int lane_drain(struct lane *l, struct load_result *out)
{
    struct vublk_done done;
    uint64_t now;
    int n = 0;
    while (l->q->in_flight && n >= 0) {
        n = vublk_take(l->q, &done);
        if (n == 1 && done.error)
            note_error(out, done.error);
        else if (n == 0)
            n = lane_sleep(l, &now);
    }
    return n < 0 ? n : 0;
}

static int lane_run(struct lane *l, const struct load_job *job, struct load_result *out)
{
    uint64_t begin = load_now_ns(), now = begin, end = begin + (uint64_t)(job->seconds * 1e9);
    unsigned empty = 0;
    int n = 0;
    vuring_quiet(l->q->ring);
    for (unsigned i = 0; i < job->depth; i++)
        lane_next(l, i, job->bs, now);
    vublk_push(l->q);
    while (n >= 0 && now < end && !bench_stop && !out->errors) {
        struct vublk_done done[LOAD_DEPTH_MAX];
        unsigned got = 0;
        while (got < job->depth && (n = vublk_take(l->q, &done[got])) > 0)
            got++;
        if (got == 0) {
            n = n < 0 ? n : lane_idle(l, job, &empty, &now);
            continue;
        }
        empty = 0;
        now = load_now_ns();
        out->ops += got;
        if (l->waiting)
            ask_waiting(l, job->bs);
        for (unsigned i = 0; i < got; i++) {
            if (done[i].error)
                note_error(out, done[i].error);
            histogram_add(&out->latency, now - l->begun[done[i].slot]);
            lane_next(l, done[i].slot, job->bs, now);
        }
        vublk_push(l->q);
    }
    out->wall_ns = now - begin;
    int drained = n < 0 ? 0 : lane_drain(l, out);
    return n < 0 ? n : drained;
}

int vublk_load(void *target, const struct load_job *job, unsigned queue, struct load_result *out)
{
    struct vublk_disk *disk = target;
    struct lane *l = calloc(1, sizeof(*l));
    if (!l)
        return -ENOMEM;
    l->q = &disk->queue[queue];
    l->type = load_writes(job->op) ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
    load_pattern_init(&l->pattern, job, queue);
    int error = lane_run(l, job, out);
    free(l);
    return error;
}

/* ------------------------------------------------------------------ one at a time */

static int one(struct vublk_disk *disk, uint32_t type, uint64_t offset, uint32_t bytes)
{
    struct vublk_queue *q = &disk->queue[0];
    struct vublk_done done;
    int n = vublk_ask(q, 0, type, offset, bytes);
    if (n)
        return n;
    vublk_push(q);
    while ((n = vublk_take(q, &done)) == 0 && n >= 0)
        if (!vuring_listen(q->ring) && (n = vuclient_wait(q->client, 0, PATIENCE_MS)) <= 0 && n != -EINTR)
            return n < 0 ? n : -ETIMEDOUT;
    return n < 0 ? n : done.error;
}

int vublk_prepare(struct vublk_disk *disk)
{
    uint32_t bytes = disk->queue[0].bytes;
    int error = 0;
    for (uint64_t at = 0; at < disk->bytes && !error && !bench_stop; at += bytes) {
        uint32_t n = disk->bytes - at < bytes ? (uint32_t)(disk->bytes - at) : bytes;
        load_fill(vublk_data(&disk->queue[0], 0), n, at, 0);
        error = one(disk, VIRTIO_BLK_T_OUT, at, n);
    }
    return error;
}

static int check_place(struct vublk_disk *disk, uint32_t bs, uint64_t at, uint64_t salt, bool write, int fd,
                       char *file)
{
    uint8_t *data = vublk_data(&disk->queue[0], 0);
    int error = 0;
    if (write) {
        load_fill(data, bs, at, salt);
        error = one(disk, VIRTIO_BLK_T_OUT, at, bs);
    }
    memset(data, 0xee, bs);
    if (!error)
        error = one(disk, VIRTIO_BLK_T_IN, at, bs);
    if (error)
        return error;
    if ((write || fd < 0) && !load_is_filled(data, bs, at, salt))
        return -EILSEQ;
    if (fd < 0)
        return 0;
    ssize_t n = pread(fd, file, bs, (off_t)at);
    if (n < 0)
        return -errno;
    return n == (ssize_t)bs && memcmp(data, file, bs) == 0 ? 0 : -EILSEQ;
}

int vublk_check(struct vublk_disk *disk, uint32_t bs, bool write, int fd)
{
    uint64_t blocks = disk->bytes / bs;
    char *file = malloc(bs);
    int error = file ? 0 : -ENOMEM;
    for (unsigned i = 0; i < CHECK_PLACES && !error && !bench_stop; i++) {
        uint64_t block = (uint64_t)((unsigned __int128)blocks * i / CHECK_PLACES);
        error = check_place(disk, bs, block * bs, write ? 1 : 0, write, fd, file);
    }
    free(file);
    return error;
}
