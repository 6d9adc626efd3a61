/* SPDX-License-Identifier: MIT */
/* setup.h - from descriptors to a daemon that can serve. */
#ifndef BULKHEAD_DAEMON_SETUP_H
#define BULKHEAD_DAEMON_SETUP_H

#include "daemon.h"
#include "launch.h"
#include "rundir.h"

/* First of all; opens nothing. */
void setup_logs(struct daemon *d, bool foreground);

/* Becomes domain 0 of the core, opens the store, loads what is defined.
 * 0, or a negative errno with a sentence. */
int setup_connect(struct daemon *d, const struct launch *launch, char *why, size_t cap);

#endif
