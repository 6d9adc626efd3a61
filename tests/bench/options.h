/* SPDX-License-Identifier: MIT */
/* options.h - what the operator asked a benchmark to do. */
#ifndef BULKHEAD_BENCH_OPTIONS_H
#define BULKHEAD_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "load.h"

#define BENCH_RUNS_MAX 100u

struct bench_options {
    const char *device; /* "ram" or a path                 */
    enum load_op op;
    uint32_t bs;
    unsigned depth, queues, runs;
    double seconds;     /* of one run                      */
    bool uring;         /* measure that peer as well       */
    bool json, help;
};

static inline bool bench_on_ram(const struct bench_options *opt)
{
    return opt->device[0] == 'r' && opt->device[1] == 'a' && opt->device[2] == 'm' && opt->device[3] == '\0';
}

/*
 * Reads argv[1..] over the defaults in opt.  0, or -EINVAL with one sentence
 * in err.
 */
int bench_options_parse(struct bench_options *opt, int argc, char **argv, char *err, size_t err_bytes);

#endif
