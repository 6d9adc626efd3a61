/* SPDX-License-Identifier: MIT */
#include "uring_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

struct ring {
    struct io_uring uring;
    unsigned depth;
    uint32_t bs;
    char *memory;
    uint64_t begun[LOAD_DEPTH_MAX];
};

int uring_peer_open(struct uring_peer *peer, const char *path, bool writable)
{
    peer->fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    return peer->fd < 0 ? -errno : 0;
}

int uring_peer_open_cached(struct uring_peer *peer, uint64_t bytes)
{
    char path[] = "/var/tmp/bulkhead-bench.XXXXXX";
    peer->fd = mkostemp(path, O_CLOEXEC);
    if (peer->fd < 0)
        return -errno;
    unlink(path);
    static char block[1 << 20];
    int error = 0;
    for (uint64_t at = 0; at < bytes && !error; at += sizeof(block)) {
        size_t n = bytes - at < sizeof(block) ? (size_t)(bytes - at) : sizeof(block);
        load_fill(block, (uint32_t)n, at, 0);
        ssize_t got = pwrite(peer->fd, block, n, (off_t)at);
        if (got != (ssize_t)n)
            error = got < 0 ? -errno : -ENOSPC;
    }
    if (error)
        uring_peer_close(peer);
    return error;
}

void uring_peer_close(struct uring_peer *peer)
{
    if (peer->fd >= 0)
        close(peer->fd);
    peer->fd = -1;
}

static void ring_close(struct ring *r)
{
    io_uring_queue_exit(&r->uring);
    munmap(r->memory, (size_t)r->bs * r->depth);
}

/* The cheapest kind of ring that this kernel knows. */
static int queue_init(struct io_uring *uring, unsigned depth)
{
    static const unsigned kinds[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
        IORING_SETUP_COOP_TASKRUN,
        0,
    };
    int error = 0;
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        error = io_uring_queue_init(depth, uring, kinds[i]);
        if (error != -EINVAL)
            break;
    }
    return error;
}

static int ring_open(struct ring *r, int fd, const struct load_job *job)
{
    r->depth = job->depth;
    r->bs = job->bs;
    size_t bytes = (size_t)r->bs * r->depth;
    r->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->memory == MAP_FAILED)
        return -errno;
    madvise(r->memory, bytes, MADV_HUGEPAGE);
    memset(r->memory, 0x5a, bytes);
    int error = queue_init(&r->uring, job->depth);
    if (error) {
        munmap(r->memory, bytes);
        return error;
    }
    struct iovec iov = {.iov_base = r->memory, .iov_len = bytes};
    error = io_uring_register_files(&r->uring, &fd, 1);
    if (!error)
        error = io_uring_register_buffers(&r->uring, &iov, 1);
    if (error)
        ring_close(r);
    return error;
}

static void ask(struct ring *r, struct load_pattern *pattern, unsigned slot, uint64_t now)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);
    char *buf = r->memory + (size_t)slot * r->bs;
    uint64_t offset = load_pattern_next(pattern);
    if (load_writes(pattern->op))
        io_uring_prep_write_fixed(sqe, 0, buf, r->bs, offset, 0);
    else
        io_uring_prep_read_fixed(sqe, 0, buf, r->bs, offset, 0);
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data64(sqe, slot);
    r->begun[slot] = now;
}

/* Takes what is done and asks again for each, unless this is the end. */
static unsigned turn(struct ring *r, struct load_pattern *pattern, bool again, uint64_t now,
                     struct load_result *out)
{
    unsigned head, n = 0;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&r->uring, head, cqe) {
        unsigned slot = (unsigned)cqe->user_data;
        n++;
        if (cqe->res != (int)r->bs) {
            out->errors++;
            if (!out->error)
                out->error = cqe->res < 0 ? cqe->res : -EIO;
        }
        if (!again)
            continue;
        out->ops++;
        histogram_add(&out->latency, now - r->begun[slot]);
        ask(r, pattern, slot, now);
    }
    io_uring_cq_advance(&r->uring, n);
    return n;
}

static int ask_kernel(struct ring *r)
{
    int n = io_uring_submit_and_wait(&r->uring, 1);
    return n < 0 && n != -EINTR ? n : 0;
}

int uring_peer_load(void *target, const struct load_job *job, unsigned queue, struct load_result *out)
{
    struct uring_peer *peer = target;
    struct ring *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    int error = ring_open(r, peer->fd, job);
    if (error) {
        free(r);
        return error;
    }
    struct load_pattern pattern;
    load_pattern_init(&pattern, job, queue);
    uint64_t begin = load_now_ns(), now = begin;
    uint64_t end = begin + (uint64_t)(job->seconds * 1e9);
    for (unsigned slot = 0; slot < job->depth; slot++)
        ask(r, &pattern, slot, now);
    while (now < end && !bench_stop && !out->errors && (error = ask_kernel(r)) == 0) {
        now = load_now_ns();
        turn(r, &pattern, true, now, out);
    }
    out->wall_ns = now - begin;
    for (unsigned left = job->depth; left && error == 0;)
        if ((error = ask_kernel(r)) == 0)
            left -= turn(r, &pattern, false, now, out);
    ring_close(r);
    free(r);
    return error;
}
