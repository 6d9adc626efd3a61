/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <stdio.h>
#include <string.h>

#include "net_options.h"
#include "restart.h"

volatile sig_atomic_t bench_stop;

static const char usage[] =
    "bulkhead bench blk      throughput, latency and CPU time of a disk behind a driver domain\n"
    "bulkhead bench fair     what one guest keeps while another floods the same driver domain\n"
    "bulkhead bench net      throughput, latency and CPU time of a NIC behind a driver domain\n"
    "bulkhead bench netfair  what one guest keeps while another floods the same worker\n"
    "bulkhead bench restart  what guests see of a driver domain that dies again and again\n"
    "\n"
    "  --seconds S         length of one run (2)\n"
    "  --runs R            runs, interleaved with the peers' (5)\n"
    "  --queues Q          queues, each with its thread and its worker: 1 to 8 (1)\n"
    "  --json              one JSON object instead of a table\n"
    "\n"
    "disks\n"
    "  --device ram|PATH   memory of the driver domain, or a file or block device (ram)\n"
    "  --op OP             randread, randwrite, read or write (randread)\n"
    "                      a write overwrites what is on PATH; a read never does\n"
    "  --bs N              bytes a request: 512 to 1M (4k)\n"
    "  --depth D           requests in flight, each queue: 1 to 512 (32)\n"
    "  --peers uring       measure plain io_uring on the same file as well\n"
    "\n"
    "NICs\n"
    "  --size N|imix       bytes of a frame without FCS, 64 to 9014, or a mix of 64, 570 and 1500 (64)\n"
    "  --path P            guest-uplink or guest-guest (guest-uplink)\n"
    "  --direction D       of the guest: tx, rx or both (tx)\n"
    "  --uplink DEVARGS    DPDK device (net_null; for rx a net_pcap that repeats frames)\n"
    "  --peers P,...       memif, vhost: dpdk-testpmd pairs on the same CPUs\n"
    "\n"
    "deaths\n"
    "  --class C           blk or net (blk)\n"
    "  --kills N           1 to 10000 (20)\n"
    "  --guests G          each a process of its own: 1 to 8, pairs of NICs (2)\n"
    "  --spare warm|none   does the driver domain have a spare? (warm)\n"
    "  --how HOW           kill, stop (both signals), planned, or crash-point: each by name\n"
    "  --rest MS           how long all is well before a death is due (0)\n"
    "  --pace MS           which then comes at random within so long (20)\n"
    "  --patience S        a request that takes longer is lost (30)\n"
    "  --dir DIR           where the disks' files are made (the run directory, in /tmp)\n"
    "  --point NAME        crash points that begin so (all)\n"
    "  --replay on|off     off, in a build with crash points: the control\n"
    "\n"
    "`fair` knows --device, --seconds, --runs and --json; `netfair` --seconds, --runs and --json.\n";

static void on_signal(int sig)
{
    (void)sig;
    bench_stop = 1;
}

static void catch_signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGHUP, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* Disks' benchmarks, NICs' and that of deaths have options of their own. */
struct benchmark {
    const char *name;
    int (*blk)(const struct bench_options *);
    int (*net)(const struct net_options *);
    int (*restart)(const struct restart_options *);
};

static const struct benchmark benchmarks[] = {
    {.name = "blk", .blk = bench_blk},
    {.name = "fair", .blk = bench_fair},
    {.name = "net", .net = bench_net},
    {.name = "netfair", .net = bench_netfair},
    {.name = "restart", .restart = bench_restart},
};

static int run(const struct benchmark *b, int argc, char **argv, bool json)
{
    const struct options_common common = {.queues = 1, .runs = 5, .seconds = 2, .json = json};
    struct bench_options blk = {
        .device = "ram", .op = LOAD_RANDREAD, .bs = 4096, .depth = 32, .common = common};
    struct net_options net = {.size = 64, .direction = NET_TX, .common = common};
    struct restart_options restart = {
        .warm = true, .kills = 20, .guests = 2, .pace_ms = 20, .patience = 30, .common = common};
    char err[256];
    int error = b->restart ? restart_options_parse(&restart, argc, argv, err, sizeof(err))
                : b->blk   ? bench_options_parse(&blk, argc, argv, err, sizeof(err))
                           : net_options_parse(&net, argc, argv, err, sizeof(err));
    if (error) {
        fprintf(stderr, "bulkhead bench %s: %s\n", b->name, err);
        return 2;
    }
    if (blk.common.help || net.common.help || restart.common.help) {
        fputs(usage, stdout);
        return 0;
    }
    catch_signals();
    return b->restart ? b->restart(&restart) : b->blk ? b->blk(&blk) : b->net(&net);
}

int bench_main(int argc, char **argv, const char *run_dir, bool json)
{
    (void)run_dir;
    if (argc > 0 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) {
        fputs(usage, stdout);
        return 0;
    }
    for (unsigned i = 0; argc > 0 && i < sizeof(benchmarks) / sizeof(benchmarks[0]); i++)
        if (strcmp(argv[0], benchmarks[i].name) == 0)
            return run(&benchmarks[i], argc, argv, json);
    fprintf(stderr, "bulkhead bench: %s%snames no benchmark; there are blk, fair, net, netfair and restart\n",
            argc > 0 ? argv[0] : "nothing", argc > 0 ? " " : " given ");
    return 2;
}
