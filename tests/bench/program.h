/* SPDX-License-Identifier: MIT */
/* program.h - programs of others that a benchmark runs. */
#ifndef BULKHEAD_BENCH_PROGRAM_H
#define BULKHEAD_BENCH_PROGRAM_H

#include <stdbool.h>

/* Is it in $PATH? */
bool program_there(const char *name);

#endif
