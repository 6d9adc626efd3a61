/* SPDX-License-Identifier: MIT */
/*
 * launch.h - how the daemon comes to be: into the background, the core
 * started unless one lives, every privilege gone.  Each step needs the one before it; the
 * order is in main().
 */
#ifndef BULKHEAD_DAEMON_LAUNCH_H
#define BULKHEAD_DAEMON_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "log.h"

/*
 * Leaves the terminal.  The caller's process waits until the child closes or
 * writes to *ready_fd, then exits 0 if a byte came and 1 if not: a shell that
 * ran the daemon has it serving when it gets its prompt back.
 */
int launch_background(int *ready_fd);
/* Says that the daemon serves, and lets go of the terminal. */
void launch_ready(int ready_fd);
/* In the foreground: tells the service manager that started it, if one did (sd_notify(3)). */
void launch_notify(void);

struct launch {
    pid_t core;
    int calls_fd; /* domid 0's                                               */
};

/*
 * Starts bulkhead-core as root, with nothing but the descriptors of the contract
 * (local/proto.h: "How it all starts") and an empty environment.  Its stderr goes
 * to `log`.
 */
int launch_core(struct launch *out, int adopt_fd, struct log *log, char *why, size_t cap);

/* As many descriptors as the machine allows; those that wait in the parcel count too. */
void launch_raise_limits(void);

/* The number of a group; 0 when `name` is NULL and there is no `otherwise`. -ENOENT with a sentence. */
int launch_find_group(const char *name, const char *otherwise, gid_t *out, char *why, size_t cap);

/*
 * For good: uid and gid LOCAL_UID_BASE, no group but `group` (0: none), no capability in
 * any set, no new privileges.  Verified; any doubt is an error, on which the caller
 * must exit at once.
 */
int launch_drop_privileges(gid_t group, char *why, size_t cap);

#endif
