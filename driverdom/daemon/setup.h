/* SPDX-License-Identifier: MIT */
/* setup.h - from descriptors to a daemon that can serve. */
#ifndef BULKHEAD_DAEMON_SETUP_H
#define BULKHEAD_DAEMON_SETUP_H

#include "daemon.h"
#include "launch.h"
#include "rundir.h"

/* First of all; opens nothing. */
void setup_init(struct daemon *d, bool foreground);

/*
 * Becomes domain 0: of the core that a killed daemon left behind (d->adopted),
 * else of a new one.  As root.  0, or a negative errno with a sentence.
 */
int setup_reach_core(struct daemon *d, struct rundir *run, char *why, size_t cap);

/* The store, what is defined, and what runs already.  0, or a negative errno with a sentence. */
int setup_connect(struct daemon *d, char *why, size_t cap);

/* Ends the core and waits for it; everything ends with it. */
void setup_end_core(struct daemon *d);

#endif
