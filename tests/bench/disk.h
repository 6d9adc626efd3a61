/* SPDX-License-Identifier: MIT */
/* disk.h - what a benchmark measures on: ram of the driver domain, or a file. */
#ifndef BULKHEAD_BENCH_DISK_H
#define BULKHEAD_BENCH_DISK_H

#include <bulkhead/blkfront.h>

#include "options.h"
#include "stack.h"

#define DISK_RAM_BYTES (256ull << 20)

/* The disk that the options name. -errno and st->error when there is none. */
int bench_disk_describe(struct stack *st, const struct bench_options *opt, bool readonly,
                        struct stack_disk *out);

/* Becomes that guest, with room for depth requests of bs bytes on each queue. */
int bench_disk_open(struct stack *st, const char *attach, unsigned queues, unsigned depth, uint32_t bs,
                    struct blkfront **out);

#endif
