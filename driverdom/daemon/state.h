/* SPDX-License-Identifier: MIT */
/*
 * state.h - what the daemon knows of the domains that run, in RUN/state/NAME.json:
 * written at every turn that changed it, so that a daemon that was killed at any
 * instruction can be followed by another.  A turn is there whole or not at all, also
 * when it changed several domains: a device that a driver domain has, and the guest
 * whose it is, are told together.
 *
 * Definitions are not in there (RUN/domains has them), and nothing that the core
 * or the store can be asked.  Times are CLOCK_MONOTONIC: the files mean nothing
 * after a reboot, and are removed when a new core is started.
 */
#ifndef BULKHEAD_DAEMON_STATE_H
#define BULKHEAD_DAEMON_STATE_H

#include <stdint.h>

#include "../../policy/policy.h"

/* What was written last of one domain. */
struct state_mark {
    char name[POLICY_NAME_MAX]; /* "": no file                               */
    uint64_t print;
};

#endif
