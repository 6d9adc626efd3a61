/* SPDX-License-Identifier: MIT */
/*
 * serve.h - what the mains of all driver domains do alike: end at the first
 * step that fails, find their processors, and run the control loop.
 */
#ifndef BULKHEAD_DRIVERDOM_SERVE_H
#define BULKHEAD_DRIVERDOM_SERVE_H

#include <stdbool.h>

#include "../hyp-shim/hyp.h"
#include "../hyp-shim/store.h"

/* Ends the process, with a sentence, when err is a negative errno: a half-jailed
 * driver domain does not exist. */
void must(int err, const char *what);

/* The processors that this domain may use, at most max; one worker each. */
unsigned find_processors(int *cpu, unsigned max);

/* What differs from class to class. */
struct serve {
    void (*mail)(void);       /* takes all mail of the workers                     */
    void (*tick)(void);       /* every timeout_ms()                                */
    int (*timeout_ms)(void);  /* -1: not now                                       */
    void (*settled)(struct hyp *hyp, struct store *store); /* all that came was taken; NULL: no matter */
    int fd;                   /* one more to listen to; -1: none                   */
    bool (*hear)(struct hyp *hyp, struct store *store); /* it is readable; false: never again */
};

/* Until the backend is stopped.  Ends the process when the hypervisor is gone; when the
 * store is gone for good, after the last frontend. */
void serve(const struct serve *how, struct hyp *hyp, struct store *store, int mail_fd);

#endif
