/* SPDX-License-Identifier: MIT */
/*
 * bench.h - `bulkhead bench`: what a disk or a NIC served by a driver domain costs,
 * and what its deaths cost.
 *
 * A benchmark starts a stack of its own (daemon, core, store, one driver
 * domain, its guests) in a private run directory, measures, and leaves nothing
 * behind.  It needs root, as the daemon does.
 */
#ifndef BULKHEAD_BENCH_H
#define BULKHEAD_BENCH_H

#include <signal.h>
#include <stdbool.h>

/*
 * argv[0] is the benchmark ("blk", "net", ...), its options follow.  run_dir is
 * where the operator's own stack lives, which no benchmark touches.  json: one
 * object instead of a table.  Returns the exit status: 0, 1 failure, 2 misuse.
 */
int bench_main(int argc, char **argv, const char *run_dir, bool json);

/* Set by SIGINT and SIGTERM: loops end early and the stack is taken down. */
extern volatile sig_atomic_t bench_stop;

/* The benchmarks behind bench_main(); same contract. */
struct bench_options;
struct net_options;
struct restart_options;
struct vublk_options;
struct vunet_options;
int bench_blk(const struct bench_options *opt);
int bench_fair(const struct bench_options *opt);
int bench_net(const struct net_options *opt);
int bench_netfair(const struct net_options *opt);
int bench_restart(const struct restart_options *opt);
int bench_vublk(const struct vublk_options *opt);
int bench_vunet(const struct vunet_options *opt);

#endif
