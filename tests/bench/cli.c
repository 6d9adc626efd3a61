/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <stdio.h>
#include <string.h>

#include "net_options.h"
#include "restart.h"
#include "vublk_options.h"
#include "vunet.h"

volatile sig_atomic_t bench_stop;

static const char usage[] =
    "bulkhead bench blk      throughput, latency and CPU time of a disk behind a driver domain\n"
    "bulkhead bench fair     what one guest keeps while another floods the same driver domain\n"
    "bulkhead bench net      throughput, latency and CPU time of a NIC behind a driver domain\n"
    "bulkhead bench netfair  what one guest keeps while another floods the same worker\n"
    "bulkhead bench restart  what guests see of a driver domain that dies again and again\n"
    "bulkhead bench vublk    a disk as a QEMU guest has it: behind a vhost-user door\n"
    "bulkhead bench vunet    the same for a NIC\n"
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
    "vhost-user disks\n"
    "  --device, --bs, --depth, --rw OP (or --op); --device null: the peer's does nothing, ours is ram\n"
    "  --peers qsd         measure qemu-storage-daemon by the same client as well\n"
    "  --wait poll|sleep   does the guest poll, or sleep until it is called? (poll)\n"
    "  --packed            packed rings; --no-indirect, --no-event-idx, --no-inflight: without those\n"
    "  --segment N         bytes of a request that lie together in the guest's memory (all)\n"
    "  --socket PATH       measure the disk that is there, any vhost-user-blk\n"
    "  --verify            instead write and read that disk for --seconds: is every block right, does every\n"
    "                      request come back once?  Overwrites it.  Exit status 1: no\n"
    "  --span N            bytes of it, from its beginning (256M)\n"
    "  --reconnect         when it hangs up, connect again, and hand over what is in flight\n"
    "  --hang-up MS        and hang up ourselves, about so often\n"
    "  --patience S        a request, or a connection, that takes longer is lost (30)\n"
    "  --seed N            visit the same blocks in the same order\n"
    "\n"
    "vhost-user NICs (the guest is dpdk-testpmd on net_virtio_user)\n"
    "  --size N            bytes of a frame without FCS, 64 to 1514 (64)\n"
    "  --direction D       of the guest: tx or rx (tx)\n"
    "  --packed            packed rings\n"
    "  --peers vhost       measure the plain hop to net_vhost as well\n"
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

/* Each family of benchmarks has options of its own. */
struct benchmark {
    const char *name;
    int (*blk)(const struct bench_options *);
    int (*net)(const struct net_options *);
    int (*restart)(const struct restart_options *);
    int (*vublk)(const struct vublk_options *);
    int (*vunet)(const struct vunet_options *);
};

static const struct benchmark benchmarks[] = {
    {.name = "blk", .blk = bench_blk},
    {.name = "fair", .blk = bench_fair},
    {.name = "net", .net = bench_net},
    {.name = "netfair", .net = bench_netfair},
    {.name = "restart", .restart = bench_restart},
    {.name = "vublk", .vublk = bench_vublk},
    {.name = "vunet", .vunet = bench_vunet},
};

struct all_options {
    struct bench_options blk;
    struct net_options net;
    struct restart_options restart;
    struct vublk_options vublk;
    struct vunet_options vunet;
};

static struct all_options defaults(bool json)
{
    const struct options_common common = {.queues = 1, .runs = 5, .seconds = 2, .json = json};
    return (struct all_options){
        .blk = {.device = "ram", .op = LOAD_RANDREAD, .bs = 4096, .depth = 32, .common = common},
        .net = {.size = 64, .direction = NET_TX, .common = common},
        .restart = {.warm = true, .kills = 20, .guests = 2, .pace_ms = 20, .patience = 30, .common = common},
        .vublk = {.device = "ram", .op = LOAD_RANDREAD, .bs = 4096, .depth = 32, .patience = 30,
                  .common = common},
        .vunet = {.size = 64, .common = common},
    };
}

static int parse(const struct benchmark *b, struct all_options *all, int argc, char **argv, bool *help,
                 char *err, size_t n)
{
    int error = b->blk       ? bench_options_parse(&all->blk, argc, argv, err, n)
                : b->net     ? net_options_parse(&all->net, argc, argv, err, n)
                : b->restart ? restart_options_parse(&all->restart, argc, argv, err, n)
                : b->vublk   ? vublk_options_parse(&all->vublk, argc, argv, err, n)
                             : vunet_options_parse(&all->vunet, argc, argv, err, n);
    *help = all->blk.common.help || all->net.common.help || all->restart.common.help ||
            all->vublk.common.help || all->vunet.common.help;
    return error;
}

static int run(const struct benchmark *b, int argc, char **argv, bool json)
{
    struct all_options all = defaults(json);
    bool help;
    char err[256];
    if (parse(b, &all, argc, argv, &help, err, sizeof(err))) {
        fprintf(stderr, "bulkhead bench %s: %s\n", b->name, err);
        return 2;
    }
    if (help) {
        fputs(usage, stdout);
        return 0;
    }
    catch_signals();
    return b->blk       ? b->blk(&all.blk)
           : b->net     ? b->net(&all.net)
           : b->restart ? b->restart(&all.restart)
           : b->vublk   ? b->vublk(&all.vublk)
                        : b->vunet(&all.vunet);
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
    fprintf(stderr,
            "bulkhead bench: %s%snames no benchmark; there are blk, fair, net, netfair, restart, vublk and "
            "vunet\n",
            argc > 0 ? argv[0] : "nothing", argc > 0 ? " " : " given ");
    return 2;
}
