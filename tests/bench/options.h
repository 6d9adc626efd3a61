/* SPDX-License-Identifier: MIT */
/* options.h - what the operator asked a benchmark to do. */
#ifndef BULKHEAD_BENCH_OPTIONS_H
#define BULKHEAD_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "load.h"

#define BENCH_RUNS_MAX 100u

/* What every benchmark has. */
struct options_common {
    unsigned queues, runs;
    double seconds;     /* of one run                      */
    bool json, help;
};

/* Of a disk. */
struct bench_options {
    const char *device; /* "ram" or a path                 */
    enum load_op op;
    uint32_t bs;
    unsigned depth;
    bool uring;         /* measure that peer as well       */
    struct options_common common;
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

/* ---- for those who read options of their own */

/* Takes one option and its value: 0, or -EINVAL with a sentence. */
typedef int options_value(void *opt, const char *name, const char *value, char *err, size_t err_bytes);
/* argv[1..] as "--name value" or "--name=value"; --json and --help are known. */
int options_walk(struct options_common *common, int argc, char **argv, options_value *value_of, void *opt,
                 char *err, size_t err_bytes);
/* An options_value for the options that every benchmark has. */
int options_common(struct options_common *c, const char *name, const char *value, char *err,
                   size_t err_bytes);
/* "4096", "4k", "1M": 0 when it is no number in min..max. */
uint64_t options_number(const char *text, uint64_t min, uint64_t max);
/* "randread", ...: false when it is none. */
bool options_op(const char *text, enum load_op *op);
/* Writes the sentence; always -EINVAL. */
int options_refuse(char *err, size_t err_bytes, const char *option, const char *value, const char *wanted);

#endif
