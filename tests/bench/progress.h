/* SPDX-License-Identifier: MIT */
/* progress.h - what a benchmark is at. */
#ifndef BULKHEAD_BENCH_PROGRESS_H
#define BULKHEAD_BENCH_PROGRESS_H

/* A line that replaces itself on a terminal; nothing elsewhere.
 * "" wipes it. */
void bench_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
