/* SPDX-License-Identifier: MIT */
/*
 * fairness.c - `bulkhead bench fair`: two guests on one driver domain with one
 * worker.  The victim reads 4 KiB; the flooder keeps 8 MiB of 256 KiB reads in
 * flight.  What the victim gets beside the flooder, as a share of what it gets
 * alone, is the figure: a worker that serves guests in turn, byte for byte,
 * leaves it about half; one that serves in order of arrival leaves it a few
 * hundredths.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "blk_load.h"
#include "disk.h"
#include "options.h"
#include "progress.h"
#include "report.h"
#include "spread.h"
#include "stack.h"

#define VICTIM_BS     4096u
#define VICTIM_DEPTH  16u
#define FLOODER_BS    (256u << 10)
#define FLOODER_DEPTH 32u
#define WARM_UP_S     0.2

struct guest {
    struct blkfront *disk;
    struct load_job job;
    struct load_result result;
    uint64_t cpu;
};

struct fair {
    const struct bench_options *opt;
    struct stack stack;
    struct guest victim, flooder;
    double alone[BENCH_RUNS_MAX], beside[BENCH_RUNS_MAX], ratio[BENCH_RUNS_MAX], flood[BENCH_RUNS_MAX];
    struct histogram latency_alone, latency_beside;
};

static int open_guest(struct fair *f, struct guest *g, const char *name, const struct stack_disk *disk,
                      uint32_t bs, unsigned depth)
{
    char attach[256];
    int error = stack_guest(&f->stack, name, "bench-disks", disk, 1, attach, sizeof(attach));
    if (!error)
        error = bench_disk_open(&f->stack, attach, 1, depth, bs, &g->disk);
    if (!error && bench_on_ram(f->opt))
        error = blk_prepare(g->disk);
    if (error)
        return error;
    g->job = (struct load_job){
        .op = LOAD_RANDREAD, .bs = bs, .depth = depth, .queues = 1,
        .bytes = blkfront_info(g->disk)->bytes, .cpus = &g->cpu,
    };
    return 0;
}

static int set_up(struct fair *f)
{
    struct stack_cpus cpus;
    struct stack_disk disk;
    stack_cpus(1, &cpus);
    int error = stack_start(&f->stack);
    if (!error)
        error = bench_disk_describe(&f->stack, f->opt, true, &disk);
    if (!error)
        error = stack_driver_domain(&f->stack, "bench-disks", cpus.backend, 1);
    f->victim.cpu = cpus.guests[0];
    f->flooder.cpu = cpus.guests[cpus.guests_count > 1 ? 1 : 0];
    if (!error)
        error = open_guest(f, &f->victim, "bench-victim", &disk, VICTIM_BS, VICTIM_DEPTH);
    if (!error)
        error = open_guest(f, &f->flooder, "bench-flooder", &disk, FLOODER_BS, FLOODER_DEPTH);
    return error;
}

static int run(struct fair *f, bool flooded, double seconds)
{
    struct load_pair pairs[2] = {
        {blk_load, f->victim.disk, &f->victim.job, &f->victim.result},
        {blk_load, f->flooder.disk, &f->flooder.job, &f->flooder.result},
    };
    f->victim.job.seconds = f->flooder.job.seconds = seconds;
    int error = load_run_all(pairs, flooded ? 2 : 1);
    if (!error)
        error = f->victim.result.error ? f->victim.result.error : flooded ? f->flooder.result.error : 0;
    if (!error && bench_stop)
        error = -EINTR;
    if (error)
        snprintf(f->stack.error, sizeof(f->stack.error), "%s",
                 error == -EINTR ? "stopped" : strerror(-error));
    return error;
}

static int measure(struct fair *f)
{
    int error = run(f, true, WARM_UP_S);
    for (unsigned i = 0; i < f->opt->common.runs && !error; i++) {
        bench_progress("run %u of %u", i + 1, f->opt->common.runs);
        error = run(f, false, f->opt->common.seconds);
        f->alone[i] = load_kiops(&f->victim.result);
        histogram_merge(&f->latency_alone, &f->victim.result.latency);
        if (!error)
            error = run(f, true, f->opt->common.seconds);
        f->beside[i] = load_kiops(&f->victim.result);
        histogram_merge(&f->latency_beside, &f->victim.result.latency);
        f->flood[i] = load_mib_s(&f->flooder.result, FLOODER_BS);
        f->ratio[i] = f->alone[i] > 0 ? f->beside[i] / f->alone[i] : 0;
    }
    return error;
}

static double us(const struct histogram *h, double share)
{
    return (double)histogram_quantile(h, share) / 1000;
}

static void report(struct fair *f)
{
    unsigned n = f->opt->common.runs;
    struct spread alone = spread_of(f->alone, n), beside = spread_of(f->beside, n);
    struct spread ratio = spread_of(f->ratio, n), flood = spread_of(f->flood, n);
    if (f->opt->common.json) {
        json_t *all = json_pack("{s:s,s:s,s:{s:o,s:f},s:{s:o,s:f},s:o,s:o}",
                                "bench", "fair", "device", f->opt->device,
                                "alone", "kiops", report_spread(alone), "p99_us", us(&f->latency_alone, 0.99),
                                "flooded", "kiops", report_spread(beside),
                                "p99_us", us(&f->latency_beside, 0.99),
                                "flooder_mib_s", report_spread(flood), "ratio", report_spread(ratio));
        report_object(all);
        return;
    }
    printf("a guest reading %u KiB (depth %u) beside one reading %u KiB (depth %u), one worker, on %s: "
           "%u runs of %g s\n\n",
           VICTIM_BS >> 10, VICTIM_DEPTH, FLOODER_BS >> 10, FLOODER_DEPTH, f->opt->device, n,
           f->opt->common.seconds);
    printf("%-24s %9s %9s %9s   %8s %8s\n", "", "min", "median", "max", "p50 us", "p99 us");
    printf("%-24s %9.1f %9.1f %9.1f   %8.1f %8.1f\n", "alone, kIOPS", alone.min, alone.median,
           alone.max, us(&f->latency_alone, 0.5), us(&f->latency_alone, 0.99));
    printf("%-24s %9.1f %9.1f %9.1f   %8.1f %8.1f\n", "beside the flood, kIOPS", beside.min, beside.median,
           beside.max, us(&f->latency_beside, 0.5), us(&f->latency_beside, 0.99));
    printf("%-24s %9.0f %9.0f %9.0f\n", "the flood, MiB/s", flood.min, flood.median, flood.max);
    printf("%-24s %9.2f %9.2f %9.2f\n\n", "what the guest keeps", ratio.min, ratio.median, ratio.max);
}

int bench_fair(const struct bench_options *opt)
{
    struct fair *f = calloc(1, sizeof(*f));
    if (!f) {
        fprintf(stderr, "bulkhead bench fair: out of memory\n");
        return 1;
    }
    f->opt = opt;
    bench_progress("starting a stack");
    int error = set_up(f);
    if (!error)
        error = measure(f);
    bench_progress("%s", "");
    if (f->victim.disk)
        blkfront_close(f->victim.disk);
    if (f->flooder.disk)
        blkfront_close(f->flooder.disk);
    if (error)
        fprintf(stderr, "bulkhead bench fair: %s\n", f->stack.error);
    else
        report(f);
    stack_end(&f->stack);
    free(f);
    return error ? 1 : 0;
}
