/* SPDX-License-Identifier: MIT */
/* cputime.h - what a process has used, and where it may run. */
#ifndef BULKHEAD_BENCH_CPUTIME_H
#define BULKHEAD_BENCH_CPUTIME_H

#include <stdint.h>
#include <sys/types.h>

/* CPU time of all threads of a process so far, those that ended too, in ns; 0 when it cannot
 * be told. */
uint64_t cputime_ns(pid_t pid);

/* All threads that a process has now run on these CPUs from here on. 0 or a negative errno. */
int cputime_place(pid_t pid, const uint64_t *cpus, unsigned n);

#endif
