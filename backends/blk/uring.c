/* SPDX-License-Identifier: MIT */
/* uring.c - the worker's io_uring: made restricted, fed in batches. */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "../../hyp-shim/crash.h"
#include "uring.h"

/* Tried in order; an older kernel refuses flags that it does not know with EINVAL.
 * Not IORING_SETUP_DEFER_TASKRUN: what a kernel worker completes (fsync, a buffered
 * write) would not wake a poll on the ring's descriptor (seen on Linux 6.18). */
static const unsigned setups[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    0,
};

static int make_ring(struct uring *u)
{
    int err = -EINVAL;
    for (size_t i = 0; i < sizeof(setups) / sizeof(setups[0]) && err == -EINVAL; i++) {
        struct io_uring_params p = { .flags = setups[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE,
                                     .cq_entries = URING_CQ_ENTRIES };
        err = io_uring_queue_init_params(URING_SQ_ENTRIES, &u->ring, &p);
        u->deferred = setups[i] & IORING_SETUP_TASKRUN_FLAG;
    }
    return err;
}

/* liburing 2.3 has functions for these, but its shared library does not export them. */
static int register_op(struct uring *u, unsigned op, void *arg, unsigned n)
{
    return io_uring_register((unsigned)u->ring.ring_fd, op, arg, n);
}

static int restrict_ring(struct uring *u)
{
    static const uint8_t sqe_ops[] = { IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READV, IORING_OP_WRITEV,
                                       IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED, IORING_OP_FSYNC,
                                       IORING_OP_FALLOCATE };
    static const uint8_t register_ops[] = { IORING_REGISTER_BUFFERS_UPDATE, IORING_REGISTER_ENABLE_RINGS };
    enum { SQE_OPS = sizeof(sqe_ops), REGISTER_OPS = sizeof(register_ops), FLAGS = 1 };
    struct io_uring_restriction r[SQE_OPS + REGISTER_OPS + FLAGS];
    unsigned n = 0;

    memset(r, 0, sizeof(r));
    for (unsigned i = 0; i < SQE_OPS; i++, n++) {
        r[n].opcode = IORING_RESTRICTION_SQE_OP;
        r[n].sqe_op = sqe_ops[i];
    }
    for (unsigned i = 0; i < REGISTER_OPS; i++, n++) {
        r[n].opcode = IORING_RESTRICTION_REGISTER_OP;
        r[n].register_op = register_ops[i];
    }
    r[n++].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED; /* none */
    return register_op(u, IORING_REGISTER_RESTRICTIONS, r, n);
}

int uring_open(struct uring *u, struct blkdev_done *done, const char **step)
{
    memset(u, 0, sizeof(*u));
    u->done = done;
    *step = "io_uring_setup";
    int err = make_ring(u);
    if (err < 0)
        return err;
    /* Without a table of buffers (an older kernel) requests take the plain path. */
    u->buffers = io_uring_register_buffers_sparse(&u->ring, URING_BUFFERS) == 0;
    *step = "io_uring: restrictions";
    err = restrict_ring(u);
    if (err < 0)
        goto undo;
    *step = "io_uring: enable";
    err = register_op(u, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    if (err < 0)
        goto undo;
    u->open = true;
    return 0;
undo:
    io_uring_queue_exit(&u->ring);
    return err;
}

void uring_close(struct uring *u)
{
    if (u->open)
        io_uring_queue_exit(&u->ring);
    u->open = false;
}

int uring_fd(const struct uring *u)
{
    return u->open ? u->ring.ring_fd : -1;
}

/* The lowest free number of a table, or -1. */
static int take_number(uint64_t *used, unsigned words)
{
    for (unsigned w = 0; w < words; w++) {
        if (used[w] == UINT64_MAX)
            continue;
        int bit = __builtin_ctzll(~used[w]);
        used[w] |= 1ull << bit;
        return (int)(w * 64) + bit;
    }
    return -1;
}

static void give_number(uint64_t *used, int n)
{
    used[n / 64] &= ~(1ull << (n % 64));
}

static int set_buffer(struct uring *u, int buffer, void *base, size_t bytes)
{
    struct iovec iov = { .iov_base = base, .iov_len = bytes };
    __u64 tag = 0;
    return io_uring_register_buffers_update_tag(&u->ring, (unsigned)buffer, &iov, &tag, 1);
}

int uring_buffer_add(struct uring *u, void *base, size_t bytes)
{
    if (!u->open || !u->buffers)
        return -ENOSYS;
    int buffer = take_number(u->buffer_used, URING_BUFFERS / 64);
    if (buffer < 0)
        return -ENFILE;
    int err = set_buffer(u, buffer, base, bytes);
    if (err < 0) {
        give_number(u->buffer_used, buffer);
        return err;
    }
    return buffer;
}

void uring_buffer_remove(struct uring *u, int buffer)
{
    set_buffer(u, buffer, NULL, 0);
    give_number(u->buffer_used, buffer);
}

struct io_uring_sqe *uring_sqe(struct uring *u)
{
    /* A full queue of completions would lose some. */
    if (u->inflight >= URING_CQ_ENTRIES)
        return NULL;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (!sqe) {
        if (io_uring_submit(&u->ring) <= 0)
            return NULL;
        u->unsubmitted = 0;
        sqe = io_uring_get_sqe(&u->ring);
        if (!sqe)
            return NULL;
    }
    u->inflight++;
    u->unsubmitted++;
    return sqe;
}

static bool kernel_has_news(const struct uring *u)
{
    return u->deferred && (__atomic_load_n(u->ring.sq.kflags, __ATOMIC_RELAXED) & IORING_SQ_TASKRUN);
}

void uring_warm(struct uring *u)
{
    struct io_uring_sqe *sqe = u->open ? uring_sqe(u) : NULL;
    if (!sqe)
        return;
    io_uring_prep_fsync(sqe, -1, 0);
    io_uring_sqe_set_data(sqe, NULL);
}

void uring_turn(struct uring *u)
{
    if (u->inflight == 0)
        return;
    if (u->unsubmitted > 0) {
        /* What the kernel does not take now (EAGAIN, EBUSY) it is told again next turn. */
        if (io_uring_submit_and_get_events(&u->ring) >= 0)
            u->unsubmitted = io_uring_sq_ready(&u->ring);
        CRASH_POINT("blk-after-submit");
    } else if (kernel_has_news(u)) {
        io_uring_get_events(&u->ring);
    }

    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    io_uring_for_each_cqe(&u->ring, head, cqe) {
        struct blkdev_io *io = io_uring_cqe_get_data(cqe);
        int error;
        n++;
        u->inflight--;
        if (io && file_answer(u, io, cqe->res, &error))
            blkdev_done_add(u->done, io, error);
    }
    io_uring_cq_advance(&u->ring, n);
}
