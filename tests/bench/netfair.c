/* SPDX-License-Identifier: MIT */
/*
 * netfair.c - `bulkhead bench netfair`: two guests on one worker.  One sends
 * 1500 B packets as fast as they go.  Beside a second guest that does the same
 * it gets its fair share, half of the worker.  The figure is what it keeps of
 * that when the second guest floods 64 B packets instead, its ring always full:
 * a worker that serves guests by what they cost leaves it all, one that serves
 * packet for packet takes most of it away.  Then it sends at half of its fair
 * share, which is what a guest does that minds its own business: how long its
 * packets take, alone and beside the flood.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "net_load.h"
#include "net_options.h"
#include "nic.h"
#include "progress.h"
#include "report.h"

#define STEADY_BYTES 1500u
#define FLOOD_BYTES  64u
#define BURSTS       16u /* in one turn: more than a ring holds, so that it is full */
#define WARM_UP_S    0.2
#define SPINS        4000u

/* What the second guest does, and the first one's pace. */
enum scene { ALONE, TWIN, FLOODED, PACED_ALONE, PACED_FLOODED, SCENES };

static const char *const scene_name[SCENES] = {
    [ALONE] = "alone",
    [TWIN] = "beside its like",
    [FLOODED] = "beside the flood",
    [PACED_ALONE] = "at its pace, alone",
    [PACED_FLOODED] = "at its pace, beside the flood",
};
static const char *const scene_key[SCENES] = {
    [ALONE] = "alone", [TWIN] = "twin", [FLOODED] = "flooded",
    [PACED_ALONE] = "paced_alone", [PACED_FLOODED] = "paced_flooded",
};

struct netfair {
    const struct options_common *opt;
    struct nic_setup nics;
    struct stack_cpus cpus;
    struct net_lane lanes[2];
    uint64_t thread_cpus[2];
    struct net_run run;
    double kpps[SCENES][BENCH_RUNS_MAX], flood[BENCH_RUNS_MAX];
    double kept[BENCH_RUNS_MAX], paced_kept[BENCH_RUNS_MAX];
    struct histogram latency[SCENES];
    struct counters drops[2];
};

static int set_up(struct netfair *f)
{
    stack_cpus(1, &f->cpus);
    int error = nic_start(&f->nics, "net_null0,no-rx=1", 1, STEADY_BYTES, f->cpus.backend, 1);
    for (unsigned i = 0; i < NIC_GUESTS_MAX && !error; i++)
        error = nic_join(&f->nics, i);
    if (!error)
        error = nic_check(&f->nics, 0, 1, STEADY_BYTES);
    if (error)
        return error;
    unsigned threads = f->cpus.guests_count > 1 ? 2 : 1;
    for (unsigned i = 0; i < 2; i++) {
        f->lanes[i] = (struct net_lane){.nic = f->nics.guest[i].nic, .sends = true, .bursts = BURSTS,
                                         .thread = i % threads};
        f->thread_cpus[i] = f->cpus.guests[i % f->cpus.guests_count];
    }
    f->run = (struct net_run){.lanes = f->lanes, .threads = threads, .cpus = f->thread_cpus,
                              .spins = f->cpus.shared ? 0 : SPINS};
    return 0;
}

static int play(struct netfair *f, enum scene scene, double pace, double seconds)
{
    bool flooded = scene == FLOODED || scene == PACED_FLOODED;
    bool alone = scene == ALONE || scene == PACED_ALONE;
    for (unsigned i = 0; i < 2; i++)
        frame_flow_init(&f->lanes[i].flow, i && flooded ? FLOOD_BYTES : STEADY_BYTES, nic_outside,
                        f->nics.guest[i].mac, i);
    f->lanes[0].pace = pace;
    f->run.nlanes = alone ? 1 : 2;
    f->run.threads = alone ? 1 : f->cpus.guests_count > 1 ? 2 : 1;
    f->run.seconds = seconds;
    int error = net_run(&f->run);
    if (!error && bench_stop)
        error = -EINTR;
    if (error)
        snprintf(f->nics.stack.error, sizeof(f->nics.stack.error), "%s",
                 error == -EINTR ? "stopped" : strerror(-error));
    return error;
}

static double kpps(const struct netfair *f, unsigned lane)
{
    return f->run.drained_ns ? (double)f->lanes[lane].packets * 1e6 / (double)f->run.drained_ns : 0;
}

static int measure(struct netfair *f)
{
    int error = play(f, TWIN, 0, WARM_UP_S);
    double half = kpps(f, 0) * 1000 / 2;
    for (unsigned i = 0; i < f->opt->runs && !error; i++) {
        bench_progress("run %u of %u", i + 1, f->opt->runs);
        for (enum scene s = ALONE; s < SCENES && !error; s++) {
            error = play(f, s, s >= PACED_ALONE ? half : 0, f->opt->seconds);
            f->kpps[s][i] = kpps(f, 0);
            histogram_merge(&f->latency[s], &f->lanes[0].latency);
            if (s == TWIN)
                half = f->kpps[s][i] * 1000 / 2;
            if (s == FLOODED)
                f->flood[i] = kpps(f, 1);
        }
        f->kept[i] = f->kpps[TWIN][i] > 0 ? f->kpps[FLOODED][i] / f->kpps[TWIN][i] : 0;
        f->paced_kept[i] = half > 0 ? f->kpps[PACED_FLOODED][i] * 1000 / half : 0;
    }
    for (unsigned i = 0; i < 2 && !error; i++) {
        struct counters uplink;
        error = nic_counters(&f->nics, i, &f->drops[i], &uplink);
    }
    return error;
}

static double us(const struct histogram *h, double share)
{
    return (double)histogram_quantile(h, share) / 1000;
}

static void report_json(struct netfair *f)
{
    unsigned n = f->opt->runs;
    json_t *all = json_pack("{s:s,s:i,s:i,s:i,s:f}", "bench", "netfair", "bytes", (int)STEADY_BYTES,
                            "flood_bytes", (int)FLOOD_BYTES, "runs", (int)n, "seconds", f->opt->seconds);
    for (enum scene s = ALONE; s < SCENES; s++)
        json_object_set_new(all, scene_key[s],
                            json_pack("{s:o,s:f,s:f}", "kpps", report_spread(spread_of(f->kpps[s], n)),
                                      "p50_us", us(&f->latency[s], 0.5), "p99_us", us(&f->latency[s], 0.99)));
    json_object_set_new(all, "flood_kpps", report_spread(spread_of(f->flood, n)));
    json_object_set_new(all, "ratio", report_spread(spread_of(f->kept, n)));
    json_object_set_new(all, "paced_ratio", report_spread(spread_of(f->paced_kept, n)));
    json_object_set_new(all, "dropped", json_pack("{s:I,s:I}", "steady",
                                                  (json_int_t)counters_drops(&f->drops[0]), "flooder",
                                                  (json_int_t)counters_drops(&f->drops[1])));
    report_object(all);
}

static void print_spread(const char *name, struct spread s, int digits)
{
    printf("%-30s %9.*f %9.*f %9.*f", name, digits, s.min, digits, s.median, digits, s.max);
}

static void report_table(struct netfair *f)
{
    unsigned n = f->opt->runs;
    printf("a guest sending %u B packets beside another one, one worker: %u runs of %g s\n\n", STEADY_BYTES,
           n, f->opt->seconds);
    printf("%-30s %9s %9s %9s   %8s %8s\n", "thousand packets a second", "min", "median", "max", "p50 us",
           "p99 us");
    for (enum scene s = ALONE; s < SCENES; s++) {
        print_spread(scene_name[s], spread_of(f->kpps[s], n), 1);
        printf("   %8.1f %8.1f\n", us(&f->latency[s], 0.5), us(&f->latency[s], 0.99));
    }
    print_spread("the flood, 64 B", spread_of(f->flood, n), 1);
    putchar('\n');
    print_spread("kept of its fair share", spread_of(f->kept, n), 2);
    putchar('\n');
    print_spread("kept of its pace", spread_of(f->paced_kept, n), 2);
    printf("\ndropped: %llu of the guest's packets, %llu of the flooder's\n\n",
           (unsigned long long)counters_drops(&f->drops[0]),
           (unsigned long long)counters_drops(&f->drops[1]));
}

int bench_netfair(const struct net_options *opt)
{
    struct netfair *f = calloc(1, sizeof(*f));
    if (!f) {
        fprintf(stderr, "bulkhead bench netfair: out of memory\n");
        return 1;
    }
    f->opt = &opt->common;
    bench_progress("starting a stack");
    int error = set_up(f);
    if (!error)
        error = measure(f);
    bench_progress("%s", "");
    for (unsigned i = 0; i < 2; i++)
        net_lane_close(&f->lanes[i]);
    if (error)
        fprintf(stderr, "bulkhead bench netfair: %s\n", f->nics.stack.error);
    else if (f->opt->json)
        report_json(f);
    else
        report_table(f);
    nic_end(&f->nics);
    free(f);
    return error ? 1 : 0;
}
