/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BS_MAX (1u << 20) /* 256 indirect segments of a page */

uint64_t options_number(const char *text, uint64_t min, uint64_t max)
{
    if (text[0] < '0' || text[0] > '9')
        return 0;
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    unsigned shift = *end == 'k' || *end == 'K' ? 10 : *end == 'm' || *end == 'M' ? 20 : 0;
    if (shift)
        end++;
    if (errno || *end || n > (max >> shift) || n << shift < min)
        return 0;
    return n << shift;
}

int options_refuse(char *err, size_t err_bytes, const char *option, const char *value, const char *wanted)
{
    snprintf(err, err_bytes, "%s %s: %s", option, value, wanted);
    return -EINVAL;
}

bool options_op(const char *text, enum load_op *op)
{
    for (int i = LOAD_RANDREAD; i <= LOAD_WRITE; i++)
        if (strcmp(text, load_op_name((enum load_op)i)) == 0) {
            *op = (enum load_op)i;
            return true;
        }
    return false;
}

static bool parse_seconds(const char *text, double *out)
{
    char *end;
    double s = strtod(text, &end);
    if (end == text || *end || !(s >= 0.05 && s <= 3600))
        return false;
    *out = s;
    return true;
}

int options_walk(struct options_common *common, int argc, char **argv, options_value *value_of, void *opt,
                 char *err, size_t err_bytes)
{
    for (int i = 1; i < argc; i++) {
        const char *o = argv[i];
        if (strcmp(o, "--json") == 0) {
            common->json = true;
        } else if (strcmp(o, "--help") == 0 || strcmp(o, "-h") == 0) {
            common->help = true;
        } else if (strncmp(o, "--", 2) != 0) {
            return options_refuse(err, err_bytes, "unexpected", o,
                                  "an option begins with --, see bulkhead bench --help");
        } else {
            char name[32];
            const char *eq = strchr(o, '=');
            const char *value = eq ? eq + 1 : i + 1 < argc ? argv[++i] : NULL;
            size_t len = eq ? (size_t)(eq - o) : strlen(o);
            snprintf(name, sizeof(name), "%.*s", (int)(len < sizeof(name) ? len : sizeof(name) - 1), o);
            if (!value)
                return options_refuse(err, err_bytes, name, "", "needs a value");
            int error = value_of(opt, name, value, err, err_bytes);
            if (error)
                return error;
        }
    }
    return 0;
}

int options_common(struct options_common *c, const char *o, const char *v, char *err, size_t n)
{
    uint64_t x = 0;
    if (strcmp(o, "--seconds") == 0)
        return parse_seconds(v, &c->seconds) ? 0 : options_refuse(err, n, o, v, "must be 0.05 to 3600");
    if (strcmp(o, "--queues") == 0) {
        c->queues = (unsigned)(x = options_number(v, 1, LOAD_QUEUES_MAX));
        return x ? 0 : options_refuse(err, n, o, v, "must be 1 to 8");
    }
    if (strcmp(o, "--runs") == 0) {
        c->runs = (unsigned)(x = options_number(v, 1, BENCH_RUNS_MAX));
        return x ? 0 : options_refuse(err, n, o, v, "must be 1 to 100");
    }
    return options_refuse(err, n, "no such option", o, "see bulkhead bench --help");
}

static int parse_value(void *of, const char *o, const char *v, char *err, size_t n)
{
    struct bench_options *opt = of;
    uint64_t x = 0;
    if (strcmp(o, "--device") == 0) {
        opt->device = v;
        return *v ? 0 : options_refuse(err, n, o, v, "name a file, a block device or ram");
    }
    if (strcmp(o, "--op") == 0)
        return options_op(v, &opt->op)
                   ? 0
                   : options_refuse(err, n, o, v, "must be randread, randwrite, read or write");
    if (strcmp(o, "--peers") == 0) {
        opt->uring = strcmp(v, "uring") == 0;
        return opt->uring ? 0 : options_refuse(err, n, o, v, "the only peer of a disk is uring");
    }
    if (strcmp(o, "--bs") == 0) {
        x = options_number(v, 512, BS_MAX);
        opt->bs = (uint32_t)x;
        return x && x % 512 == 0 ? 0 : options_refuse(err, n, o, v, "must be a multiple of 512, at most 1M");
    }
    if (strcmp(o, "--depth") == 0) {
        opt->depth = (unsigned)(x = options_number(v, 1, LOAD_DEPTH_MAX));
        return x ? 0 : options_refuse(err, n, o, v, "must be 1 to 512");
    }
    return options_common(&opt->common, o, v, err, n);
}

int bench_options_parse(struct bench_options *opt, int argc, char **argv, char *err, size_t err_bytes)
{
    return options_walk(&opt->common, argc, argv, parse_value, opt, err, err_bytes);
}
