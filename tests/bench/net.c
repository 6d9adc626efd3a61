/* SPDX-License-Identifier: MIT */
/* net.c - `bulkhead bench net`: guests' packets through one net driver domain. */
#include "net.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "distance.h"
#include "hugepages.h"
#include "net_load.h"
#include "nic.h"
#include "progress.h"

#define WARM_UP_S   0.3
#define SPINS       4000u /* about 100 us of polling before sleep: no sleep while busy */
#define SETTLE_MS   3000u /* counters are published about once a second                */
#define STEP_MS     50u
#define UPLINK_USUAL "net_null0,no-rx=1"

struct net_bench {
    const struct net_options *opt;
    struct nic_setup nics;
    struct stack_cpus cpus;
    struct net_placement where;
    struct net_lane lanes[NET_LANES_MAX];
    uint64_t thread_cpus[NET_THREADS_MAX];
    struct net_run run;
    struct hugepages huge;
    pid_t driver;                        /* when it has to be paused; 0            */
    struct net_figures figures, before;  /* before the run that is going on        */
};

static int stopped(struct net_bench *b)
{
    snprintf(b->nics.stack.error, sizeof(b->nics.stack.error), "stopped");
    return -EINTR;
}

static int say(struct net_bench *b, int error, const char *what)
{
    snprintf(b->nics.stack.error, sizeof(b->nics.stack.error), "%s: %s", what, strerror(-error));
    return error;
}

static uint32_t longest(const struct net_options *opt)
{
    return opt->size ? opt->size : 1500;
}

/* Does the uplink send for ever, whether or not anyone measures? */
static bool is_fed(const struct net_options *opt)
{
    return !opt->guest_guest && opt->direction & NET_RX;
}

/* ---------------------------------------------------------------- set up */

static int set_up(struct net_bench *b)
{
    const struct net_options *opt = b->opt;
    unsigned queues = opt->common.queues;
    unsigned workers = queues < b->cpus.backend_count ? queues : b->cpus.backend_count;
    const char *devargs = opt->uplink ? opt->uplink : opt->guest_guest ? NULL : UPLINK_USUAL;
    int error = is_fed(opt) && !opt->uplink
                    ? nic_start_fed(&b->nics, opt->size, queues, longest(opt), b->cpus.backend, workers)
                    : nic_start(&b->nics, devargs, queues, longest(opt), b->cpus.backend, workers);
    for (unsigned i = 0; i < NIC_GUESTS_MAX && !error; i++)
        error = nic_join(&b->nics, i);
    return error;
}

/* Whoever measures packets that arrive wrong, or not, measures nothing. */
static int check(struct net_bench *b)
{
    int error = nic_check(&b->nics, 0, 1, b->opt->size);
    if (!error && b->opt->guest_guest)
        error = nic_check(&b->nics, 1, 0, b->opt->size);
    if (!error && !b->opt->guest_guest)
        nic_leave(&b->nics, 1);
    return error;
}

static struct net_lane *add_lane(struct net_bench *b, unsigned guest, unsigned queue, unsigned thread)
{
    struct net_lane *l = &b->lanes[b->run.nlanes++];
    l->nic = b->nics.guest[guest].nic;
    l->queue = queue;
    l->thread = thread;
    return l;
}

static void add_sender(struct net_bench *b, unsigned guest, const uint8_t to[6], unsigned queue,
                       unsigned thread)
{
    struct net_lane *l = add_lane(b, guest, queue, thread);
    l->sends = true;
    frame_flow_init(&l->flow, b->opt->size, to, b->nics.guest[guest].mac, queue);
}

static void add_receiver(struct net_bench *b, unsigned guest, unsigned queue, unsigned thread)
{
    add_lane(b, guest, queue, thread)->endless = is_fed(b->opt);
}

/* A thread a queue; between guests two when there are CPUs for them. */
static void plan(struct net_bench *b)
{
    const struct net_options *opt = b->opt;
    unsigned queues = opt->common.queues;
    b->where.together = opt->guest_guest && b->cpus.guests_count < 2 * queues;
    unsigned apart = opt->guest_guest && !b->where.together ? queues : 0;
    b->run = (struct net_run){.lanes = b->lanes, .threads = queues + apart, .cpus = b->thread_cpus,
                              .spins = b->cpus.shared ? 0 : SPINS};
    for (unsigned q = 0; q < queues; q++) {
        if (!opt->guest_guest) {
            if (opt->direction & NET_TX)
                add_sender(b, 0, nic_outside, q, q);
            if (opt->direction & NET_RX)
                add_receiver(b, 0, q, q);
            continue;
        }
        if (opt->direction & NET_TX) {
            add_sender(b, 0, b->nics.guest[1].mac, q, q);
            add_receiver(b, 1, q, q + apart);
        }
        if (opt->direction & NET_RX) {
            add_sender(b, 1, b->nics.guest[0].mac, q, q + apart);
            add_receiver(b, 0, q, q);
        }
    }
    for (unsigned t = 0; t < b->run.threads; t++)
        b->thread_cpus[t] = b->cpus.guests[t % b->cpus.guests_count];
}

/* Late: huge pages that are reserved for a peer must not come to serve us. */
static void prepare_peers(struct net_bench *b)
{
    struct net_peer *memif = &b->figures.peer[TESTPMD_MEMIF], *vhost = &b->figures.peer[TESTPMD_VHOST];
    memif->asked = b->opt->memif;
    vhost->asked = b->opt->vhost;
    memif->there = memif->asked && testpmd_there(memif->why, sizeof(memif->why));
    vhost->there = vhost->asked && testpmd_there(vhost->why, sizeof(vhost->why)) &&
                   hugepages_reserve(&b->huge, TESTPMD_HUGE_PAGES, vhost->why, sizeof(vhost->why)) == 0;
}

/* --------------------------------------------------------------- measure */

/* The counters of every guest, added up, and the uplink's. */
static int read_counters(struct net_bench *b, struct counters *vifs, struct counters *uplink)
{
    static const struct counters none;
    vifs->n = 0;
    int error = 0;
    for (unsigned i = 0; i < NIC_GUESTS_MAX && !error; i++) {
        struct counters one;
        if (!b->nics.guest[i].nic)
            continue;
        error = nic_counters(&b->nics, i, &one, uplink);
        counters_add(vifs, &none, &one);
    }
    return error;
}

struct tally {
    uint64_t sent, received, tail, strange;
};

static struct tally add_up(const struct net_bench *b)
{
    struct tally t = {0};
    for (unsigned i = 0; i < b->run.nlanes; i++) {
        const struct net_lane *l = &b->lanes[i];
        if (l->sends) {
            t.sent += l->packets;
        } else {
            t.received += l->packets;
            t.tail += l->tail;
            t.strange += l->strange;
        }
    }
    return t;
}

/* What this run added, once it has been published. */
static int settle(struct net_bench *b, const struct counters *vifs, const struct counters *uplink,
                  const struct tally *t, struct counters *vifs_more, struct counters *uplink_more)
{
    int error = 0;
    for (unsigned ms = 0; ms < SETTLE_MS && !bench_stop && !error; ms += STEP_MS) {
        struct counters vifs_now, uplink_now = {0};
        error = read_counters(b, &vifs_now, &uplink_now);
        vifs_more->n = uplink_more->n = 0;
        counters_add(vifs_more, vifs, &vifs_now);
        counters_add(uplink_more, uplink, &uplink_now);
        uint64_t arrived = counters_get(b->opt->guest_guest ? vifs_more : uplink_more,
                                        b->opt->guest_guest ? "rx_packets" : "tx_packets");
        if (arrived + counters_drops(vifs_more) >= t->sent &&
            counters_get(vifs_more, "rx_packets") >= t->received)
            break;
        nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000}, NULL);
    }
    return error;
}

static void note_run(struct net_bench *b, int run, const struct tally *t, const struct counters *vifs,
                     const struct counters *uplink)
{
    static const struct counters none;
    const struct net_options *opt = b->opt;
    struct net_figures *f = &b->figures;
    uint64_t taken = opt->guest_guest ? 0 : counters_get(uplink, "tx_packets");
    uint64_t arrived = t->received + (taken < t->sent ? taken : t->sent);
    uint64_t landed = (opt->guest_guest ? t->received + t->tail : taken) + counters_drops(vifs);
    uint64_t wall = opt->direction == NET_TX && !opt->guest_guest ? b->run.drained_ns : b->run.wall_ns;
    double bytes = opt->size ? opt->size : FRAME_MIX_MEAN;
    f->mpps[run] = wall ? (double)arrived * 1e3 / (double)wall : 0;
    f->gbps[run] = f->mpps[run] * bytes * 8 / 1e3;
    f->sent += t->sent;
    f->received += t->received + t->tail;
    f->taken += taken;
    f->arrived += arrived;
    f->unaccounted += t->sent > landed ? t->sent - landed : 0;
    f->strange += t->strange;
    f->guest_ns += b->run.cpu_ns;
    counters_add(&f->vif, &none, vifs);
    counters_add(&f->uplink, &none, uplink);
    for (unsigned i = 0; i < b->run.nlanes; i++)
        if (b->lanes[i].sends != opt->guest_guest)
            histogram_merge(&f->latency, &b->lanes[i].latency);
}

static int run_ours(struct net_bench *b, int run)
{
    struct counters vifs, uplink = {0}, vifs_more, uplink_more;
    b->run.seconds = run < 0 ? WARM_UP_S : b->opt->common.seconds;
    int error = read_counters(b, &vifs, &uplink);
    if (error)
        return error;
    uint64_t cpu = stack_cpu_ns(&b->nics.stack, NIC_DRIVER);
    error = net_run(&b->run);
    cpu = stack_cpu_ns(&b->nics.stack, NIC_DRIVER) - cpu;
    if (error)
        return say(b, error, error == -ENETDOWN ? "the driver domain went away" : "the guest's NIC failed");
    struct tally t = add_up(b);
    error = settle(b, &vifs, &uplink, &t, &vifs_more, &uplink_more);
    if (error)
        return error;
    if (bench_stop)
        return stopped(b);
    if (run >= 0) {
        note_run(b, run, &t, &vifs_more, &uplink_more);
        b->figures.driver_ns += cpu;
    }
    return 0;
}

static int run_peer(struct net_bench *b, enum testpmd_kind kind, unsigned run)
{
    struct net_peer *peer = &b->figures.peer[kind];
    const struct net_options *opt = b->opt;
    struct testpmd_job job = {
        .kind = kind,
        .bytes = opt->size ? opt->size : (uint32_t)(FRAME_MIX_MEAN + 0.5),
        .queues = opt->common.queues,
        .warm_up = WARM_UP_S,
        .seconds = opt->common.seconds,
        .send_cpus = b->cpus.guests, .send_ncpus = b->cpus.guests_count,
        .receive_cpus = b->cpus.backend, .receive_ncpus = b->cpus.backend_count,
    };
    if (!peer->there)
        return 0;
    bench_progress("run %u of %u, %s", run + 1, opt->common.runs, testpmd_name(kind));
    struct testpmd_result result = {0};
    int error = testpmd_run(&job, &result, peer->why, sizeof(peer->why));
    if (error == -EINTR)
        return stopped(b);
    peer->there = !error; /* said in the report: a peer that fails is absent, not slow */
    peer->mpps[run] = result.mpps;
    peer->ratio[run] = error ? 0 : b->figures.mpps[run] / peer->mpps[run];
    return 0;
}

/* A fed uplink never rests, and others need the CPU. */
static void pause_driver(const struct net_bench *b, bool pause)
{
    if (b->driver > 0)
        kill(b->driver, pause ? SIGSTOP : SIGCONT);
}

/* Has this machine kept its CPUs where they were? */
static bool still(const struct net_bench *b, double apart)
{
    return distance_same(apart, distance_ns((unsigned)b->cpus.guests[0], (unsigned)b->cpus.backend[0]));
}

/* Ours, memif, vhost: neighbours, of which nothing counts when the CPUs moved: then the
 * group ends early, unless it is kept whatever comes. */
static int run_group(struct net_bench *b, unsigned run, bool keep, bool *stayed)
{
    double apart = distance_ns((unsigned)b->cpus.guests[0], (unsigned)b->cpus.backend[0]);
    pause_driver(b, false);
    int error = run_ours(b, (int)run);
    pause_driver(b, true);
    *stayed = still(b, apart);
    for (int kind = TESTPMD_MEMIF; kind <= TESTPMD_VHOST && !error && (*stayed || keep); kind++) {
        error = run_peer(b, (enum testpmd_kind)kind, run);
        *stayed = *stayed && still(b, apart);
    }
    b->figures.apart[run] = apart;
    return error;
}

/* Ours, memif, vhost, ours, ...: whatever else this machine does meets all alike. */
static int measure(struct net_bench *b)
{
    b->driver = is_fed(b->opt) ? stack_pid(&b->nics.stack, NIC_DRIVER) : 0;
    bench_progress("warming up");
    int error = run_ours(b, -1);
    pause_driver(b, true);
    for (unsigned run = 0, more = 2 * b->opt->common.runs; run < b->opt->common.runs && !error;) {
        bool stayed;
        bench_progress("run %u of %u", run + 1, b->opt->common.runs);
        b->before = b->figures;
        error = run_group(b, run, more == 0, &stayed);
        if (stayed || error || more == 0) {
            b->figures.moved += !stayed;
            run++;
            continue;
        }
        more--;
        b->before.repeated++;
        b->figures = b->before;
    }
    pause_driver(b, false);
    return error;
}

int bench_net(const struct net_options *opt)
{
    struct net_bench *b = calloc(1, sizeof(*b));
    if (!b) {
        fprintf(stderr, "bulkhead bench net: out of memory\n");
        return 1;
    }
    b->opt = opt;
    stack_cpus(opt->common.queues, &b->cpus);
    b->where.shared = b->cpus.shared;
    bench_progress("starting a stack");
    int error = set_up(b);
    if (!error) {
        bench_progress("checking data");
        error = check(b);
    }
    if (!error) {
        plan(b);
        prepare_peers(b);
        error = measure(b);
    }
    bench_progress("%s", "");
    hugepages_restore(&b->huge);
    for (unsigned i = 0; i < b->run.nlanes; i++)
        net_lane_close(&b->lanes[i]);
    if (error)
        fprintf(stderr, "bulkhead bench net: %s\n", b->nics.stack.error);
    nic_end(&b->nics);
    if (!error)
        net_report(opt, &b->figures, &b->where);
    free(b);
    return error ? 1 : 0;
}
