/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <stdio.h>
#include <string.h>

#include "options.h"

volatile sig_atomic_t bench_stop;

static const char usage[] =
    "bulkhead bench blk   throughput, latency and CPU time of a disk behind a driver domain\n"
    "bulkhead bench fair  what one guest keeps while another floods the same driver domain\n"
    "\n"
    "  --device ram|PATH   memory of the driver domain, or a file or block device (ram)\n"
    "  --op OP             randread, randwrite, read or write (randread)\n"
    "                      a write overwrites what is on PATH; a read never does\n"
    "  --bs N              bytes a request: 512 to 1M (4k)\n"
    "  --depth D           requests in flight, each queue: 1 to 512 (32)\n"
    "  --queues Q          queues, each with its thread and its worker: 1 to 8 (1)\n"
    "  --seconds S         length of one run (2)\n"
    "  --runs R            runs, interleaved with the peer's (5)\n"
    "  --peers uring       measure plain io_uring on the same file as well\n"
    "  --json              one JSON object instead of a table\n"
    "\n"
    "`fair` knows --device, --seconds, --runs and --json.\n";

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

int bench_main(int argc, char **argv, const char *run_dir, bool json)
{
    static const struct {
        const char *name;
        int (*run)(const struct bench_options *);
    } benches[] = {{"blk", bench_blk}, {"fair", bench_fair}};

    (void)run_dir;
    if (argc > 0 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) {
        fputs(usage, stdout);
        return 0;
    }
    for (unsigned i = 0; argc > 0 && i < sizeof(benches) / sizeof(benches[0]); i++) {
        if (strcmp(argv[0], benches[i].name) != 0)
            continue;
        struct bench_options opt = {
            .device = "ram", .op = LOAD_RANDREAD, .bs = 4096, .depth = 32,
            .queues = 1, .runs = 5, .seconds = 2, .json = json,
        };
        char err[256];
        if (bench_options_parse(&opt, argc, argv, err, sizeof(err)) < 0) {
            fprintf(stderr, "bulkhead bench %s: %s\n", argv[0], err);
            return 2;
        }
        if (opt.help) {
            fputs(usage, stdout);
            return 0;
        }
        catch_signals();
        return benches[i].run(&opt);
    }
    fprintf(stderr, "bulkhead bench: %s%snames no benchmark; there are blk and fair\n",
            argc > 0 ? argv[0] : "nothing", argc > 0 ? " " : " given ");
    return 2;
}
