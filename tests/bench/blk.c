/* SPDX-License-Identifier: MIT */
/* blk.c - `bulkhead bench blk`: one guest, one disk, one driver domain. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "blk_load.h"
#include "disk.h"
#include "options.h"
#include "progress.h"
#include "report.h"
#include "spread.h"
#include "stack.h"
#include "uring_peer.h"

#define WARM_UP_S  0.3
#define SPINS      4000u /* about 100 us of polling before sleep: no sleep while busy */

/* What was seen of one side over all runs. */
struct side {
    double kiops[BENCH_RUNS_MAX];
    struct load_result sum;
    uint64_t backend_ns;
};

struct blk_bench {
    const struct bench_options *opt;
    struct stack stack;
    struct stack_cpus cpus;
    struct blkfront *disk;
    struct uring_peer peer;
    struct load_job job;
    struct side bulkhead, uring;
    double ratio[BENCH_RUNS_MAX];
    uint64_t thread_cpus[LOAD_QUEUES_MAX];
};

static int say(struct blk_bench *b, int error, const char *what)
{
    snprintf(b->stack.error, sizeof(b->stack.error), "%s: %s", what, strerror(-error));
    return error;
}

/* ---------------------------------------------------------------- set up */

static int open_disk(struct blk_bench *b)
{
    const struct bench_options *opt = b->opt;
    struct stack_disk disk;
    char attach[256];
    unsigned queues = opt->common.queues;
    unsigned workers = queues < b->cpus.backend_count ? queues : b->cpus.backend_count;
    int error = bench_disk_describe(&b->stack, opt, !load_writes(opt->op), &disk);
    if (!error)
        error = stack_driver_domain(&b->stack, "bench-disks", b->cpus.backend, workers);
    if (!error)
        error = stack_guest(&b->stack, "bench-guest", "bench-disks", &disk, opt->common.queues, attach,
                            sizeof(attach));
    if (!error)
        error = bench_disk_open(&b->stack, attach, opt->common.queues, opt->depth, opt->bs, &b->disk);
    return error;
}

static int open_peer(struct blk_bench *b)
{
    int error = bench_on_ram(b->opt) ? uring_peer_open_cached(&b->peer, DISK_RAM_BYTES)
                                     : uring_peer_open(&b->peer, b->opt->device, load_writes(b->opt->op));
    return error ? say(b, error, "cannot open the file for the peer") : 0;
}

/* Whoever measures a disk that holds nothing, or the wrong thing, measures nothing. */
static int check_disk(struct blk_bench *b)
{
    int error = 0, fd = -1;
    bool write = load_writes(b->opt->op);
    if (bench_on_ram(b->opt)) {
        error = blk_prepare(b->disk);
    } else {
        fd = open(b->opt->device, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return say(b, -errno, b->opt->device);
    }
    if (!error)
        error = blk_check(b->disk, b->opt->bs, write, fd);
    if (fd >= 0)
        close(fd);
    return error ? say(b, error, "the disk does not hold what it should") : 0;
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

static void plan(struct blk_bench *b)
{
    const struct bench_options *opt = b->opt;
    for (unsigned q = 0; q < opt->common.queues; q++)
        b->thread_cpus[q] = b->cpus.guests[q % b->cpus.guests_count];
    b->job = (struct load_job){
        .op = opt->op, .bs = opt->bs, .depth = opt->depth, .queues = opt->common.queues,
        .bytes = blkfront_info(b->disk)->bytes,
        .spins = b->cpus.shared ? 0 : SPINS,
        .cpus = b->thread_cpus,
    };
}

/* --------------------------------------------------------------- measure */

static int run_side(struct blk_bench *b, struct side *side, load_fn *fn, void *target, int run)
{
    static struct load_result result;
    uint64_t before = stack_cpu_ns(&b->stack, "bench-disks");
    b->job.seed = (uint64_t)run + 1; /* -1, the warm-up, is seed 0 */
    b->job.seconds = run < 0 ? WARM_UP_S : b->opt->common.seconds;
    int error = load_run(fn, target, &b->job, &result);
    if (!error)
        error = result.error;
    if (error)
        return say(b, error, side == &b->uring ? "a request of the peer failed" : "a request failed");
    if (bench_stop)
        return say(b, -EINTR, "stopped");
    if (run < 0)
        return 0;
    side->kiops[run] = load_kiops(&result);
    side->backend_ns += stack_cpu_ns(&b->stack, "bench-disks") - before;
    side->sum.ops += result.ops;
    side->sum.cpu_ns += result.cpu_ns;
    histogram_merge(&side->sum.latency, &result.latency);
    return 0;
}

/* A, B, A, B: whatever else this machine does meets both alike. */
static int measure(struct blk_bench *b)
{
    int error = 0;
    for (int run = -1; run < (int)b->opt->common.runs && !error; run++) {
        if (run < 0)
            bench_progress("warming up");
        else
            bench_progress("run %d of %u", run + 1, b->opt->common.runs);
        error = run_side(b, &b->bulkhead, blk_load, b->disk, run);
        if (!error && b->opt->uring)
            error = run_side(b, &b->uring, uring_peer_load, &b->peer, run);
        if (!error && run >= 0 && b->opt->uring)
            b->ratio[run] = b->bulkhead.kiops[run] / b->uring.kiops[run];
    }
    bench_progress("%s", "");
    return error;
}

/* ---------------------------------------------------------------- report */

static double us(const struct side *s, double share)
{
    return (double)histogram_quantile(&s->sum.latency, share) / 1000;
}

static double per_op(uint64_t ns, const struct side *s)
{
    return s->sum.ops ? (double)ns / (double)s->sum.ops : 0;
}

static json_t *json_latency(const struct side *s)
{
    return json_pack("{s:f,s:f,s:f}", "p50", us(s, 0.5), "p99", us(s, 0.99), "p999", us(s, 0.999));
}

static void compared(const struct blk_bench *b, char *out, size_t bytes)
{
    const char *file = bench_on_ram(b->opt)
                           ? "a file in the page cache of /var/tmp, which stands for a RAM disk"
                           : "the same file, buffered";
    snprintf(out, bytes,
             "bulkhead: %u thread(s) of a guest and %s of the driver domain, on %s. uring: the same "
             "requests by %u thread(s) through plain io_uring (registered file and buffers, one call a "
             "batch) on %s, without Bulkhead. Ratios are of neighbouring runs.",
             b->opt->common.queues, b->opt->common.queues > 1 ? "workers" : "a worker",
             b->cpus.shared ? "the same CPUs" : "other CPUs", b->opt->common.queues, file);
}

static void report_json(struct blk_bench *b, struct spread k, struct spread u, struct spread r)
{
    const struct bench_options *opt = b->opt;
    json_t *peers = json_object(), *ratio = json_object();
    char text[512];
    compared(b, text, sizeof(text));
    if (opt->uring) {
        json_object_set_new(peers, "uring",
                            json_pack("{s:o,s:o,s:{s:f}}", "kiops", report_spread(u), "lat_us",
                                      json_latency(&b->uring), "cpu_ns_per_op", "frontend",
                                      per_op(b->uring.sum.cpu_ns, &b->uring)));
        json_object_set_new(ratio, "uring", report_spread(r));
    }
    json_t *all = json_pack("{s:s,s:s,s:s,s:i,s:i,s:i,s:i,s:f,s:o,s:o,s:{s:f,s:f},s:o,s:o,s:s}",
                            "bench", "blk", "device", opt->device, "op", load_op_name(opt->op),
                            "bs", (int)opt->bs, "depth", (int)opt->depth, "queues", (int)opt->common.queues,
                            "runs", (int)opt->common.runs, "seconds", opt->common.seconds,
                            "kiops", report_spread(k), "lat_us", json_latency(&b->bulkhead), "cpu_ns_per_op",
                            "frontend", per_op(b->bulkhead.sum.cpu_ns, &b->bulkhead),
                            "backend", per_op(b->bulkhead.backend_ns, &b->bulkhead),
                            "peers", peers, "ratio", ratio, "compared", text);
    report_object(all);
}

static void print_side(const char *name, struct spread k, const struct side *s, bool backend)
{
    printf("%-10s %9.1f %9.1f %9.1f   %8.1f %8.1f %8.1f   %8.0f ", name, k.min, k.median, k.max,
           us(s, 0.5), us(s, 0.99), us(s, 0.999), per_op(s->sum.cpu_ns, s));
    if (backend)
        printf("%8.0f\n", per_op(s->backend_ns, s));
    else
        printf("%8s\n", "-");
}

static void report_table(struct blk_bench *b, struct spread k, struct spread u, struct spread r)
{
    const struct bench_options *opt = b->opt;
    printf("%s of %u bytes, depth %u, %u queue%s, on %s: %u runs of %g s\n\n", load_op_name(opt->op), opt->bs,
           opt->depth, opt->common.queues, opt->common.queues > 1 ? "s" : "", opt->device, opt->common.runs,
           opt->common.seconds);
    printf("%-10s %29s   %26s   %17s\n", "", "thousand requests a second", "latency, us", "CPU ns a request");
    printf("%-10s %9s %9s %9s   %8s %8s %8s   %8s %8s\n", "", "min", "median", "max", "p50", "p99", "p99.9",
           "guest", "backend");
    print_side("bulkhead", k, &b->bulkhead, true);
    if (opt->uring) {
        print_side("uring", u, &b->uring, false);
        printf("%-10s %9.2f %9.2f %9.2f\n\n", "ratio", r.min, r.median, r.max);
        char text[512];
        compared(b, text, sizeof(text));
        report_paragraph(text);
    }
    putchar('\n');
}

static void report(struct blk_bench *b)
{
    unsigned n = b->opt->common.runs;
    struct spread r = spread_of(b->ratio, n);
    struct spread k = spread_of(b->bulkhead.kiops, n), u = spread_of(b->uring.kiops, n);
    if (b->opt->common.json)
        report_json(b, k, u, r);
    else
        report_table(b, k, u, r);
}

int bench_blk(const struct bench_options *opt)
{
    struct blk_bench *b = calloc(1, sizeof(*b));
    if (!b) {
        fprintf(stderr, "bulkhead bench blk: out of memory\n");
        return 1;
    }
    b->opt = opt;
    b->peer.fd = -1;
    stack_cpus(opt->common.queues, &b->cpus);
    bench_progress("starting a stack");
    int error = stack_start(&b->stack);
    if (!error)
        error = open_disk(b);
    if (!error && opt->uring)
        error = open_peer(b);
    if (!error) {
        bench_progress("checking data");
        if (!bench_on_ram(opt))
            read_ahead(opt->device);
        error = check_disk(b);
    }
    if (!error) {
        plan(b);
        error = measure(b);
    }
    bench_progress("%s", "");
    if (b->disk)
        blkfront_close(b->disk);
    uring_peer_close(&b->peer);
    if (error)
        fprintf(stderr, "bulkhead bench blk: %s\n", b->stack.error);
    stack_end(&b->stack);
    if (!error)
        report(b);
    free(b);
    return error ? 1 : 0;
}
