/* SPDX-License-Identifier: MIT */
/*
 * vublk.c - `bulkhead bench vublk`: a vhost-user guest, its door, and a disk behind a
 * driver domain; beside it qemu-storage-daemon, by the same client.
 */
#include "vublk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"
#include "cputime.h"
#include "progress.h"
#include "qsd.h"
#include "stack.h"

#define WARM_UP_S   0.3
#define SPINS       4000u /* about 100 us of polling before sleep: no sleep while busy */
#define DRIVER      "bench-disks"
#define GUEST       "bench-guest"
#define FILE_NAME   "/dev/shm/bulkhead-bench.XXXXXX"

struct vublk_bench {
    const struct vublk_options *opt;
    struct stack stack;
    struct stack_cpus cpus;
    struct qsd qsd;
    struct vublk_disk disk[VUBLK_SIDES];
    bool open[VUBLK_SIDES];
    pid_t pid[VUBLK_SIDES][VUBLK_SERVERS];
    char file[sizeof(FILE_NAME)]; /* on tmpfs; "" when there is none */
    struct load_job job;
    struct vublk_figures figures;
    uint64_t thread_cpus[LOAD_QUEUES_MAX];
    char error[600];
};

static bool on_ram(const struct vublk_options *opt)
{
    return strcmp(opt->device, "ram") == 0;
}

static bool on_null(const struct vublk_options *opt)
{
    return strcmp(opt->device, "null") == 0;
}

static int say(struct vublk_bench *b, int error, const char *what, const char *why)
{
    snprintf(b->error, sizeof(b->error), "%s: %s", what, why);
    return error;
}

/* ------------------------------------------------------------------------ set up */

static struct vublk_shape shape(const struct vublk_options *opt)
{
    return (struct vublk_shape){.queues = opt->common.queues,
                                .depth = opt->depth,
                                .bytes = opt->bs,
                                .segment = opt->segment,
                                .packed = opt->packed,
                                .indirect = !opt->direct,
                                .event_idx = !opt->no_event_idx,
                                .inflight = !opt->no_inflight};
}

static int connect_side(struct vublk_bench *b, enum vublk_sides side, const char *path)
{
    struct vublk_shape s = shape(b->opt);
    s.packed = s.packed && side != VUBLK_QSD; /* it has none */
    int error = vublk_open(&b->disk[side], path, &s);
    if (error)
        return say(b, error, "cannot use the disk", b->disk[side].client.error);
    b->open[side] = true;
    b->figures.side[side].packed = s.packed;
    b->figures.huge = b->disk[side].client.huge;
    return 0;
}

/* A file on tmpfs: what stands for memory where there are only files. */
static int make_file(struct vublk_bench *b)
{
    snprintf(b->file, sizeof(b->file), "%s", FILE_NAME);
    int fd = mkostemp(b->file, O_CLOEXEC);
    int error = fd < 0 ? -errno : 0;
    if (fd < 0)
        b->file[0] = '\0';
    else if (fallocate(fd, 0, 0, (off_t)VUBLK_RAM_BYTES) < 0)
        error = -errno;
    if (fd >= 0)
        close(fd);
    return error ? say(b, error, "cannot make a file in /dev/shm", strerror(-error)) : 0;
}

static const char *peer_path(const struct vublk_bench *b)
{
    return on_null(b->opt) ? NULL : on_ram(b->opt) ? b->file : b->opt->device;
}

static int start_stack(struct vublk_bench *b)
{
    const struct vublk_options *opt = b->opt;
    struct stack_disk disks[2] = {{.target = "vda", .bytes = VUBLK_RAM_BYTES},
                                  {.target = "vdb", .path = b->file}};
    unsigned n = b->file[0] ? 2 : 1, queues = opt->common.queues;
    unsigned workers = queues < b->cpus.backend_count ? queues : b->cpus.backend_count;
    char socket[2][STACK_SOCKET_MAX];
    if (!on_ram(opt) && !on_null(opt)) {
        disks[0].path = opt->device;
        disks[0].readonly = !load_writes(opt->op);
    }
    int error = stack_start(&b->stack);
    if (!error)
        error = stack_driver_domain(&b->stack, DRIVER, b->cpus.backend, workers);
    if (!error)
        error = stack_vhost_guest(&b->stack, GUEST, DRIVER, disks, n, queues, socket);
    if (error)
        return say(b, error, "the stack did not start", b->stack.error);
    pid_t door = stack_pid(&b->stack, GUEST), driver = stack_pid(&b->stack, DRIVER);
    cputime_place(door, b->cpus.backend, b->cpus.backend_count);
    for (unsigned i = 0; i < n && !error; i++) {
        enum vublk_sides side = i ? VUBLK_SAME : VUBLK_OURS;
        b->pid[side][0] = door;
        b->pid[side][1] = driver;
        error = connect_side(b, side, socket[i]);
    }
    return error;
}

static int start_peer(struct vublk_bench *b)
{
    const struct vublk_options *opt = b->opt;
    struct qsd_disk disk = {.path = peer_path(b),
                            .bytes = VUBLK_RAM_BYTES,
                            .writable = load_writes(opt->op) || on_ram(opt),
                            .queues = opt->common.queues};
    char why[256];
    int error = qsd_there(why, sizeof(why)) ? 0 : -ENOENT;
    if (!error)
        error = qsd_start(&b->qsd, &disk, b->cpus.backend, b->cpus.backend_count, why, sizeof(why));
    if (error)
        return say(b, error, "the peer did not start", why);
    b->pid[VUBLK_QSD][0] = b->qsd.pid;
    return connect_side(b, VUBLK_QSD, b->qsd.socket);
}

/* Who listens on the socket, as far as the kernel tells. */
static pid_t server_of(const struct vuclient *c)
{
    struct ucred who = {0};
    socklen_t bytes = sizeof(who);
    return getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) == 0 ? who.pid : 0;
}

static int set_up(struct vublk_bench *b)
{
    struct vublk_side *ours = &b->figures.side[VUBLK_OURS];
    int error = 0;
    if (b->opt->socket) {
        *ours = (struct vublk_side){.name = "socket", .server = {"server"}};
        error = connect_side(b, VUBLK_OURS, b->opt->socket);
        b->pid[VUBLK_OURS][0] = error ? 0 : server_of(&b->disk[VUBLK_OURS].client);
        return error;
    }
    *ours = (struct vublk_side){.name = "bulkhead", .server = {"door", "driver"}};
    if (b->opt->qsd && on_ram(b->opt))
        error = make_file(b);
    if (!error)
        error = start_stack(b);
    if (!error && b->opt->qsd) {
        b->figures.side[VUBLK_QSD].name = "qsd";
        b->figures.side[VUBLK_QSD].server[0] = "qsd";
        error = start_peer(b);
    }
    if (!error && b->file[0]) {
        b->figures.side[VUBLK_SAME].name = "on tmpfs";
        memcpy(b->figures.side[VUBLK_SAME].server, ours->server, sizeof(ours->server));
    }
    return error;
}

/* Whoever measures a disk that holds nothing, or the wrong thing, measures nothing.  A socket's disk
 * is looked at only, unless it is written to anyway. */
static int check_side(struct vublk_bench *b, enum vublk_sides side)
{
    const struct vublk_options *opt = b->opt;
    bool write = load_writes(opt->op), file = !opt->socket && !on_ram(opt) && !on_null(opt);
    bool ours = !opt->socket && (on_ram(opt) || (on_null(opt) && side == VUBLK_OURS));
    int fd = -1, error = 0;
    if (!b->open[side] || (opt->socket && !write) || (on_null(opt) && side == VUBLK_QSD))
        return 0;
    if (ours)
        error = vublk_prepare(&b->disk[side]);
    if (!error && file && (fd = open(opt->device, O_RDONLY | O_CLOEXEC)) < 0)
        return say(b, -errno, opt->device, strerror(errno));
    if (!error)
        error = vublk_check(&b->disk[side], opt->bs, write, fd);
    if (fd >= 0)
        close(fd);
    return error ? say(b, error, "the disk does not hold what it should", strerror(-error)) : 0;
}

/* Brings a file into the page cache, so that runs do not differ by that. */
static void read_ahead(const char *path)
{
    static char block[1 << 20];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && !bench_stop && read(fd, block, sizeof(block)) > 0)
        continue;
    if (fd >= 0)
        close(fd);
}

static int check(struct vublk_bench *b)
{
    int error = 0;
    bench_progress("checking data");
    if (!b->opt->socket && !on_ram(b->opt) && !on_null(b->opt))
        read_ahead(b->opt->device);
    for (int side = 0; side < VUBLK_SIDES && !error; side++)
        error = check_side(b, (enum vublk_sides)side);
    return error;
}

static void plan(struct vublk_bench *b)
{
    const struct vublk_options *opt = b->opt;
    for (unsigned q = 0; q < opt->common.queues; q++)
        b->thread_cpus[q] = b->cpus.guests[q % b->cpus.guests_count];
    b->job = (struct load_job){.op = opt->op, .bs = opt->bs, .depth = opt->depth,
                               .queues = opt->common.queues,
                               .spins = opt->sleeps || b->cpus.shared ? 0 : SPINS, .cpus = b->thread_cpus};
}

/* ----------------------------------------------------------------------- measure */

static int run_side(struct vublk_bench *b, enum vublk_sides side, int run)
{
    static struct load_result result;
    struct vublk_side *s = &b->figures.side[side];
    uint64_t before[VUBLK_SERVERS];
    if (!b->open[side])
        return 0;
    for (unsigned i = 0; i < VUBLK_SERVERS; i++)
        before[i] = cputime_ns(b->pid[side][i]);
    b->job.bytes = b->disk[side].bytes;
    b->job.seed = (uint64_t)run + 1; /* -1, the warm-up, is seed 0 */
    b->job.seconds = run < 0 ? WARM_UP_S : b->opt->common.seconds;
    int error = load_run(vublk_load, &b->disk[side], &b->job, &result);
    if (!error)
        error = result.error;
    if (error)
        return say(b, error, s->name, error == -EPIPE ? "the device hung up" : strerror(-error));
    if (bench_stop)
        return say(b, -EINTR, s->name, "stopped");
    if (run < 0)
        return 0;
    for (unsigned i = 0; i < VUBLK_SERVERS; i++)
        s->server_ns[i] += cputime_ns(b->pid[side][i]) - before[i];
    s->kiops[run] = load_kiops(&result);
    s->sum.ops += result.ops;
    s->sum.cpu_ns += result.cpu_ns;
    histogram_merge(&s->sum.latency, &result.latency);
    return 0;
}

/* A, B, A, B: whatever else this machine does meets all alike. */
static int measure(struct vublk_bench *b)
{
    struct vublk_side *side = b->figures.side;
    int error = 0;
    for (int run = -1; run < (int)b->opt->common.runs && !error; run++) {
        if (run < 0)
            bench_progress("warming up");
        else
            bench_progress("run %d of %u", run + 1, b->opt->common.runs);
        for (int i = 0; i < VUBLK_SIDES && !error; i++)
            error = run_side(b, (enum vublk_sides)i, run);
        if (!error && run >= 0 && b->open[VUBLK_QSD]) {
            side[VUBLK_QSD].ratio[run] = side[VUBLK_OURS].kiops[run] / side[VUBLK_QSD].kiops[run];
            b->figures.same_ratio[run] = side[VUBLK_SAME].kiops[run] / side[VUBLK_QSD].kiops[run];
        }
    }
    return error;
}

static void tear_down(struct vublk_bench *b)
{
    for (int side = 0; side < VUBLK_SIDES; side++)
        if (b->open[side])
            vublk_close(&b->disk[side]);
    qsd_end(&b->qsd);
    stack_end(&b->stack);
    if (b->file[0])
        unlink(b->file);
}

/* ------------------------------------------------------------------- the two ways */

static int run_measure(struct vublk_bench *b)
{
    bench_progress("starting");
    stack_cpus(b->opt->common.queues, &b->cpus);
    b->figures.shared = b->cpus.shared;
    int error = set_up(b);
    if (!error)
        error = check(b);
    if (!error) {
        plan(b);
        error = measure(b);
    }
    bench_progress("%s", "");
    if (error)
        fprintf(stderr, "bulkhead bench vublk: %s\n", b->error);
    tear_down(b);
    if (!error)
        vublk_report(b->opt, &b->figures);
    return error ? 1 : 0;
}

static int run_verify(struct vublk_bench *b)
{
    struct verify_tally tally;
    bench_progress("checking %s", b->opt->socket);
    int error = connect_side(b, VUBLK_OURS, b->opt->socket);
    if (error) {
        fprintf(stderr, "bulkhead bench vublk: %s\n", b->error);
        return 1;
    }
    error = vublk_verify(&b->disk[VUBLK_OURS], b->opt, &tally);
    bench_progress("%s", "");
    vublk_report_verify(b->opt, &b->disk[VUBLK_OURS], &tally, !error && !bench_stop);
    if (error || !verify_passed(&tally))
        fprintf(stderr, "bulkhead bench vublk: %s\n", tally.first[0] ? tally.first : strerror(-error));
    tear_down(b);
    return error || bench_stop || !verify_passed(&tally) ? 1 : 0;
}

int bench_vublk(const struct vublk_options *opt)
{
    struct vublk_bench *b = calloc(1, sizeof(*b));
    if (!b) {
        fprintf(stderr, "bulkhead bench vublk: out of memory\n");
        return 1;
    }
    b->opt = opt;
    int status = opt->verify ? run_verify(b) : run_measure(b);
    free(b);
    return status;
}
