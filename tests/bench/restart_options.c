/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "restart.h"

const char *restart_how_name(enum restart_how how)
{
    static const char *const names[] = {"kill", "stop", "planned", "crash-point"};
    return names[how];
}

/* Which of two words; refused otherwise. */
static int either(const char *o, const char *v, const char *no, const char *yes, bool *out, char *err,
                  size_t n)
{
    char wanted[64];
    *out = strcmp(v, yes) == 0;
    if (*out || strcmp(v, no) == 0)
        return 0;
    snprintf(wanted, sizeof(wanted), "must be %s or %s", no, yes);
    return options_refuse(err, n, o, v, wanted);
}

static int parse_how(struct restart_options *opt, const char *o, const char *v, char *err, size_t n)
{
    for (int how = RESTART_KILL; how <= RESTART_CRASH_POINT; how++)
        if (strcmp(v, restart_how_name((enum restart_how)how)) == 0) {
            opt->how = (enum restart_how)how;
#ifndef BULKHEAD_CRASH_POINTS
            if (opt->how == RESTART_CRASH_POINT)
                return options_refuse(err, n, o, v, "this build has no crash points: make CRASH=1");
#endif
            return 0;
        }
    return options_refuse(err, n, o, v, "must be kill, stop, planned or crash-point");
}

static int parse_count(const char *o, const char *v, uint64_t min, uint64_t max, unsigned *out, char *err,
                       size_t n)
{
    char wanted[64];
    bool zero = strcmp(v, "0") == 0;
    *out = zero ? 0 : (unsigned)options_number(v, min, max);
    snprintf(wanted, sizeof(wanted), "must be %u to %u", (unsigned)min, (unsigned)max);
    return *out || (zero && min == 0) ? 0 : options_refuse(err, n, o, v, wanted);
}

static int parse_value(void *of, const char *o, const char *v, char *err, size_t n)
{
    struct restart_options *opt = of;
    unsigned x;
    int error;
    if (strcmp(o, "--class") == 0)
        return either(o, v, "blk", "net", &opt->net, err, n);
    if (strcmp(o, "--spare") == 0)
        return either(o, v, "none", "warm", &opt->warm, err, n);
    if (strcmp(o, "--replay") == 0) {
#ifdef BULKHEAD_CRASH_POINTS
        bool on;
        error = either(o, v, "off", "on", &on, err, n);
        opt->no_replay = !on;
        return error;
#else
        return options_refuse(err, n, o, v, "this build cannot go without it: make CRASH=1");
#endif
    }
    if (strcmp(o, "--how") == 0)
        return parse_how(opt, o, v, err, n);
    if (strcmp(o, "--kills") == 0)
        return parse_count(o, v, 1, RESTART_KILLS_MAX, &opt->kills, err, n);
    if (strcmp(o, "--guests") == 0)
        return parse_count(o, v, 1, RESTART_GUESTS_MAX, &opt->guests, err, n);
    if (strcmp(o, "--pace") == 0)
        return parse_count(o, v, 0, 60000, &opt->pace_ms, err, n);
    if (strcmp(o, "--rest") == 0)
        return parse_count(o, v, 0, 60000, &opt->rest_ms, err, n);
    if (strcmp(o, "--patience") == 0) {
        error = parse_count(o, v, 1, 3600, &x, err, n);
        opt->patience = x;
        return error;
    }
    if (strcmp(o, "--dir") == 0 || strcmp(o, "--point") == 0) {
        *(o[2] == 'd' ? &opt->dir : &opt->point) = v;
        return *v ? 0 : options_refuse(err, n, o, v, "needs a value");
    }
    return options_refuse(err, n, "no such option", o, "see bulkhead bench --help");
}

int restart_options_parse(struct restart_options *opt, int argc, char **argv, char *err, size_t err_bytes)
{
    int error = options_walk(&opt->common, argc, argv, parse_value, opt, err, err_bytes);
    if (!error && opt->net && opt->guests < 2)
        error = options_refuse(err, err_bytes, "--guests", "1", "NICs need somebody to talk to: 2 to 8");
    if (!error && opt->net && opt->guests % 2)
        error = options_refuse(err, err_bytes, "--guests", "", "NICs talk in pairs: an even number");
    return error;
}
