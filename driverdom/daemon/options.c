/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "usage: bulkheadd [--run-dir DIR] [--guest-group GROUP] [--foreground] "
                            "[--version]\n"
                            "  --run-dir DIR   where its sockets, definitions and logs are (default: "
                            "$BULKHEAD_RUN_DIR, else " DEFAULT_RUN_DIR ")\n"
                            "  --guest-group GROUP   who may connect to the sockets of vhost-user guests "
                            "(default: " DEFAULT_GUEST_GROUP ", where there is one)\n"
                            "  --foreground    stay on the terminal\n";

bool options_read(int argc, char **argv, struct options *out, int *exit_status)
{
    const char *env = getenv("BULKHEAD_RUN_DIR");

    *out = (struct options){.run_dir = env && *env ? env : DEFAULT_RUN_DIR};
    *exit_status = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--run-dir") && i + 1 < argc) {
            out->run_dir = argv[++i];
        } else if (!strncmp(argv[i], "--run-dir=", 10)) {
            out->run_dir = argv[i] + 10;
        } else if (!strcmp(argv[i], "--guest-group") && i + 1 < argc) {
            out->guest_group = argv[++i];
        } else if (!strncmp(argv[i], "--guest-group=", 14)) {
            out->guest_group = argv[i] + 14;
        } else if (!strcmp(argv[i], "--foreground")) {
            out->foreground = true;
        } else if (!strcmp(argv[i], "--version")) {
            printf("bulkheadd %s\n", BULKHEAD_VERSION);
            return false;
        } else if (!strcmp(argv[i], "--help")) {
            fputs(usage, stdout);
            return false;
        } else {
            fprintf(stderr, "bulkheadd: '%s' is not understood\n%s", argv[i], usage);
            *exit_status = 2;
            return false;
        }
    }
    return true;
}
