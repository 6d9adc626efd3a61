/* SPDX-License-Identifier: MIT */
/* command.c - the command line of bulkhead-libvirt. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../cli/cli.h"
#include "bridge.h"

static const char usage[] =
    "usage: bulkhead-libvirt [--run-dir DIR] [--uri URI] [--timeout SECONDS] COMMAND\n"
    "  follow                          a service: doors open and close with libvirt's guests\n"
    "  hook GUEST OPERATION SUB EXTRA  libvirt's hook for QEMU guests; the guest's XML on stdin\n"
    "  attach GUEST FILE.xml           plug a disk or a NIC on a driver domain into a guest\n"
    "  detach GUEST DEV|FILE.xml       unplug it\n"
    "--run-dir: where bulkheadd runs (default: $BULKHEAD_RUN_DIR, else " CLI_DEFAULT_RUN_DIR ")\n"
    "--uri:     libvirt's (default: $LIBVIRT_DEFAULT_URI, else " BRIDGE_URI ")\n"
    "--timeout: for bulkheadd to answer, for a guest to let go (default: 60)\n";

void bridge_say(const char *fmt, ...)
{
    char line[BRIDGE_WHY_MAX + 256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
    fprintf(stderr, "bulkhead: %s\n", line);
    fflush(stderr);
}

static int misuse(const char *what, const char *why)
{
    fprintf(stderr, "bulkhead: %s %s\nsee: bulkhead-libvirt --help\n", what, why);
    return BRIDGE_MISUSE;
}

static bool take_seconds(const char *text, unsigned *out)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    *out = (unsigned)n;
    return *text >= '0' && *text <= '9' && !*end && n >= 1 && n <= 3600;
}

/* Takes the options out of argv, wherever they stand, but for what follows "hook": that is
 * libvirt's.  How many arguments are left, or -1 after saying what is wrong. */
static int take_options(int argc, char **argv, struct bridge_options *opt)
{
    int n = 0;

    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        bool known = !strcmp(name, "--run-dir") || !strcmp(name, "--uri") || !strcmp(name, "--timeout");

        if (n && !strcmp(argv[0], "hook")) {
            argv[n++] = argv[i];
        } else if (!strcmp(name, "--json")) {
            opt->json = true;
        } else if (!known) {
            argv[n++] = argv[i];
        } else if (!value || (!strcmp(name, "--timeout") && !take_seconds(value, &opt->timeout_s))) {
            misuse(name,
                   !strcmp(name, "--timeout") ? "needs a number of seconds, 1 to 3600" : "needs a value");
            return -1;
        } else {
            if (!strcmp(name, "--run-dir"))
                opt->run_dir = value;
            else if (!strcmp(name, "--uri"))
                opt->uri = value;
            i++;
        }
    }
    argv[n] = NULL;
    return n;
}

static const struct {
    const char *name;
    int args;
    const char *what;
} commands[] = {
    {"follow", 0, ""},
    {"hook", 4, " GUEST OPERATION SUB-OPERATION EXTRA"},
    {"attach", 2, " GUEST FILE.xml"},
    {"detach", 2, " GUEST DEV|FILE.xml"},
};

static int dispatch(const struct bridge_options *opt, int n, char **args)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(args[0], commands[i].name) != 0)
            continue;
        if (n - 1 != commands[i].args) {
            fprintf(stderr, "bulkhead: usage: bulkhead-libvirt %s%s\n", commands[i].name, commands[i].what);
            return BRIDGE_MISUSE;
        }
        switch (i) {
        case 0:
            return follow_run(opt);
        case 1:
            return hook_run(opt, args + 1);
        case 2:
            return attach_run(opt, args[1], args[2]);
        default:
            return detach_run(opt, args[1], args[2]);
        }
    }
    return misuse(args[0], *args[0] == '-' ? "is no option" : "is no command");
}

int bridge_run(int argc, char **argv)
{
    const char *run_dir = getenv("BULKHEAD_RUN_DIR"), *uri = getenv("LIBVIRT_DEFAULT_URI");
    struct bridge_options opt = {.run_dir = run_dir && *run_dir ? run_dir : CLI_DEFAULT_RUN_DIR,
                                 .uri = uri && *uri ? uri : BRIDGE_URI,
                                 .timeout_s = BRIDGE_TIMEOUT_S};
    int n = take_options(argc, argv, &opt);

    if (n < 0)
        return BRIDGE_MISUSE;
    if (n == 0) {
        fputs(usage, stderr);
        return BRIDGE_MISUSE;
    }
    if (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h")) {
        fputs(usage, stdout);
        return 0;
    }
    return dispatch(&opt, n, argv);
}
