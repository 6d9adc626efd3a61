/* SPDX-License-Identifier: MIT */
/*
 * vunet.c - `bulkhead bench vunet`: a NIC as a QEMU guest has it, behind a vhost-user
 * door and a driver domain; beside it the plain hop to DPDK's own vhost port.  The
 * guest is dpdk-testpmd in both.
 */
#include "vunet.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "cputime.h"
#include "distance.h"
#include "hugepages.h"
#include "nic.h"
#include "progress.h"
#include "testpmd.h"

#define WARM_UP_S 0.5
#define SETTLE_MS 4000u /* counters are published about once a second, */
#define STILL_MS  1500u /* so that what does not change for so long is all there is */
#define STEP_MS   50u
#define UPLINK    "net_null0,no-rx=1"

struct vunet_bench {
    const struct vunet_options *opt;
    struct nic_setup nics;
    struct stack_cpus cpus;
    struct hugepages huge;
    char socket[STACK_SOCKET_MAX];
    pid_t door, driver;
    struct vunet_figures figures, before;      /* before the run that is going on */
    /* Of the run that is going on. */
    uint64_t sent_before;
    struct counters vif, uplink, vif_more, uplink_more;
    uint64_t door_ns, driver_ns;
};

/* ------------------------------------------------------------------------ set up */

static int set_up(struct vunet_bench *b)
{
    const struct vunet_options *opt = b->opt;
    unsigned queues = opt->common.queues;
    unsigned workers = queues < b->cpus.backend_count ? queues : b->cpus.backend_count;
    int error = opt->rx ? nic_start_fed(&b->nics, opt->size, queues, opt->size, b->cpus.backend, workers)
                        : nic_start(&b->nics, UPLINK, queues, opt->size, b->cpus.backend, workers);
    if (!error)
        error = nic_open_vhost(&b->nics, 0, b->socket);
    if (error)
        return error;
    b->door = stack_pid(&b->nics.stack, b->nics.guest[0].name);
    b->driver = stack_pid(&b->nics.stack, NIC_DRIVER);
    return cputime_place(b->door, b->cpus.backend, b->cpus.backend_count);
}

/* The guest needs huge pages as well, here. */
static int prepare(struct vunet_bench *b)
{
    char *why = b->nics.stack.error;
    size_t bytes = sizeof(b->nics.stack.error);
    if (!testpmd_there(why, bytes))
        return -ENOENT;
    b->figures.peer_there = b->opt->vhost;
    return hugepages_reserve(&b->huge, TESTPMD_HUGE_PAGES, why, bytes);
}

/* ----------------------------------------------------------------------- measure */

/* Everything that was sent has arrived, or is counted as dropped, or it has been long enough. */
static int wait_counted(struct vunet_bench *b, const struct counters *vif, const struct counters *uplink,
                        uint64_t sent)
{
    int error = 0;
    uint64_t last = UINT64_MAX;
    unsigned still = 0;
    for (unsigned ms = 0; ms < SETTLE_MS && still < STILL_MS && !bench_stop && !error; ms += STEP_MS) {
        struct counters vif_now = {0}, uplink_now = {0};
        error = nic_counters(&b->nics, 0, &vif_now, &uplink_now);
        b->vif_more.n = b->uplink_more.n = 0;
        counters_add(&b->vif_more, vif, &vif_now);
        counters_add(&b->uplink_more, uplink, &uplink_now);
        uint64_t landed = counters_get(&b->uplink_more, "tx_packets") + counters_drops(&b->vif_more);
        if (landed >= sent)
            break;
        still = landed == last ? still + STEP_MS : 0;
        last = landed;
        nanosleep(&(struct timespec){.tv_nsec = STEP_MS * 1000000}, NULL);
    }
    return error;
}

static int settled(void *arg, uint64_t sent, bool begin)
{
    struct vunet_bench *b = arg;
    int error = 0;
    if (!begin) { /* first: nothing after the end is of this run */
        b->door_ns = cputime_ns(b->door) - b->door_ns;
        b->driver_ns = cputime_ns(b->driver) - b->driver_ns;
    }
    if (!b->opt->rx)
        error = wait_counted(b, &b->vif, &b->uplink, sent - b->sent_before);
    if (begin) {
        b->sent_before = sent;
        if (!error)
            error = nic_counters(&b->nics, 0, &b->vif, &b->uplink);
        b->door_ns = cputime_ns(b->door);
        b->driver_ns = cputime_ns(b->driver);
    }
    return bench_stop ? -EINTR : error;
}

static int run_ours(struct vunet_bench *b, unsigned run)
{
    const struct vunet_options *opt = b->opt;
    struct vunet_figures *f = &b->figures;
    static const struct counters none;
    struct testpmd_guest_result result;
    char why[sizeof(b->nics.stack.error)];
    const struct testpmd_guest job = {.socket = b->socket, .mac = b->nics.guest[0].mac, .bytes = opt->size,
                                      .queues = opt->common.queues, .sends = !opt->rx, .packed = opt->packed,
                                      .warm_up = WARM_UP_S, .seconds = opt->common.seconds,
                                      .cpus = b->cpus.guests, .ncpus = b->cpus.guests_count,
                                      .settled = settled, .arg = b};
    b->sent_before = 0;
    int error = nic_counters(&b->nics, 0, &b->vif, &b->uplink);
    if (!error && (error = testpmd_guest_run(&job, &result, why, sizeof(why))))
        snprintf(b->nics.stack.error, sizeof(b->nics.stack.error), "%s", why);
    if (error)
        return error;
    double packets = opt->rx ? result.mpps * (double)result.wall_ns / 1e3
                             : (double)counters_get(&b->uplink_more, "tx_packets");
    f->mpps[run] = result.wall_ns ? packets * 1e3 / (double)result.wall_ns : 0;
    f->packets += packets;
    f->sent += result.sent;
    f->guest_ns += result.cpu_ns;
    f->door_ns += b->door_ns;
    f->driver_ns += b->driver_ns;
    if (!opt->rx) {
        counters_add(&f->vif, &none, &b->vif_more);
        counters_add(&f->uplink, &none, &b->uplink_more);
    }
    return 0;
}

static int run_peer(struct vunet_bench *b, unsigned run)
{
    const struct vunet_options *opt = b->opt;
    struct vunet_figures *f = &b->figures;
    bool rx = opt->rx;
    struct testpmd_result result;
    const struct testpmd_job job = {
        .kind = TESTPMD_VHOST, .bytes = opt->size, .queues = opt->common.queues, .backwards = rx,
        .packed = opt->packed, .warm_up = WARM_UP_S, .seconds = opt->common.seconds,
        .send_cpus = rx ? b->cpus.backend : b->cpus.guests,
        .send_ncpus = rx ? b->cpus.backend_count : b->cpus.guests_count,
        .receive_cpus = rx ? b->cpus.guests : b->cpus.backend,
        .receive_ncpus = rx ? b->cpus.guests_count : b->cpus.backend_count,
    };
    if (!f->peer_there)
        return 0;
    bench_progress("run %u of %u, vhost", run + 1, opt->common.runs);
    int error = testpmd_run(&job, &result, f->peer_why, sizeof(f->peer_why));
    if (error == -EINTR)
        return error;
    f->peer_there = !error; /* said in the report: a peer that fails is absent, not slow */
    if (error)
        return 0;
    f->peer_mpps[run] = result.mpps;
    f->ratio[run] = f->mpps[run] / result.mpps;
    f->peer_packets += result.mpps * 1e6 * opt->common.seconds;
    f->peer_guest_ns += rx ? result.receive_ns : result.send_ns;
    f->peer_vhost_ns += rx ? result.send_ns : result.receive_ns;
    return 0;
}

/* A fed uplink never rests, and others need the CPU. */
static void pause_driver(const struct vunet_bench *b, bool pause)
{
    if (b->opt->rx && b->driver > 0)
        kill(b->driver, pause ? SIGSTOP : SIGCONT);
}

static double apart_now(const struct vunet_bench *b)
{
    return distance_ns((unsigned)b->cpus.guests[0], (unsigned)b->cpus.backend[0]);
}

/* Ours, vhost: neighbours, whose ratio says nothing when the CPUs moved. */
static int run_group(struct vunet_bench *b, unsigned run, bool *stayed)
{
    pause_driver(b, true);
    double apart = apart_now(b);
    pause_driver(b, false);
    int error = run_ours(b, run);
    pause_driver(b, true);
    if (!error)
        error = run_peer(b, run);
    *stayed = distance_same(apart, apart_now(b));
    pause_driver(b, false);
    b->figures.apart[run] = apart;
    return error;
}

static int measure(struct vunet_bench *b)
{
    int error = 0;
    for (unsigned run = 0, more = 2 * b->opt->common.runs; run < b->opt->common.runs && !error;) {
        bool stayed;
        bench_progress("run %u of %u", run + 1, b->opt->common.runs);
        b->before = b->figures;
        error = run_group(b, run, &stayed);
        if (stayed || error || more == 0 || !b->opt->vhost) {
            b->figures.moved += !stayed;
            run++;
            continue;
        }
        more--;
        b->before.repeated++;
        b->figures = b->before;
    }
    return error;
}

int bench_vunet(const struct vunet_options *opt)
{
    struct vunet_bench *b = calloc(1, sizeof(*b));
    if (!b) {
        fprintf(stderr, "bulkhead bench vunet: out of memory\n");
        return 1;
    }
    b->opt = opt;
    stack_cpus(opt->common.queues, &b->cpus);
    b->figures.shared = b->cpus.shared;
    bench_progress("starting a stack");
    int error = set_up(b);
    if (!error)
        error = prepare(b);
    if (!error)
        error = measure(b);
    bench_progress("%s", "");
    hugepages_restore(&b->huge);
    if (error)
        fprintf(stderr, "bulkhead bench vunet: %s\n",
                bench_stop                ? "stopped"
                : b->nics.stack.error[0] ? b->nics.stack.error
                                         : strerror(-error));
    nic_end(&b->nics);
    if (!error)
        vunet_report(opt, &b->figures);
    free(b);
    return error ? 1 : 0;
}
