/* SPDX-License-Identifier: MIT */
/*
 * guard.h - memory of others that can vanish under us: ranges that do not come from
 * grants (those are guarded by hyp_guard_memory_faults()), such as a guest's memory that
 * its VMM may cut short.
 *
 * A touch of a page that is gone is a SIGBUS; for a range that is known here it puts
 * private zeroes over the whole range, sets the flag and goes on.  Works in a sealed
 * domain: the handler uses mmap alone.
 */
#ifndef BULKHEAD_LOCAL_GUARD_H
#define BULKHEAD_LOCAL_GUARD_H

#include <stdatomic.h>
#include <stddef.h>

#define GUARD_RANGES_MAX 1024 /* of one process                                          */

/* Before the process is sealed, once at least.  Negative errno. */
int guard_install(void);
/* The range was mapped and is whole pages (huge ones for a huge file); the flag lives
 * until it is removed.  Its number, or -ENOSPC.  Any thread. */
int guard_add(void *base, size_t bytes, atomic_int *faulted);
/* Before it is unmapped. */
void guard_remove(int number);

#endif
