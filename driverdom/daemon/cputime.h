/* SPDX-License-Identifier: MIT */
/*
 * cputime.h - what a process has had of the machine's processors, and what it
 * has waited for them (Linux: Documentation/scheduler/sched-stats.rst).
 */
#ifndef BULKHEAD_DAEMON_CPUTIME_H
#define BULKHEAD_DAEMON_CPUTIME_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CPUTIME_THREADS_MAX 24 /* more are not looked at */

/* Of each thread that lives, in ns. */
struct cputime {
    unsigned n;
    struct cputime_thread {
        pid_t tid;
        uint64_t ran, waited;
    } thread[CPUTIME_THREADS_MAX];
};

/* False: the kernel does not tell. */
bool cputime_read(pid_t pid, struct cputime *out);

/* Has a process that did not answer for elapsed_ns been kept from it?  True as
 * long as one of its threads waited for a processor for a good part of that time
 * and had too little to tell whether it would answer: neither one that is stopped
 * nor one that runs in circles. */
bool cputime_starved(const struct cputime *then, const struct cputime *now, uint64_t elapsed_ns);

#endif
