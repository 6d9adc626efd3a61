/* SPDX-License-Identifier: MIT */
/* options.h - the daemon's command line. */
#ifndef BULKHEAD_DAEMON_OPTIONS_H
#define BULKHEAD_DAEMON_OPTIONS_H

#include <stdbool.h>

#define DEFAULT_RUN_DIR     "/run/bulkhead"
#define DEFAULT_GUEST_GROUP "libvirt-qemu"

struct options {
    const char *run_dir;
    const char *guest_group; /* NULL: not said                                     */
    bool foreground;
};

/* True: go on.  False: end with *exit_status; everything is said. */
bool options_read(int argc, char **argv, struct options *out, int *exit_status);

#endif
