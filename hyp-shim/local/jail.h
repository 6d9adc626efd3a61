/* SPDX-License-Identifier: MIT */
/*
 * jail.h - what a local domain's process may do, and how the rest is taken
 * away.
 *
 * Two halves.  launch.c, in the core's child before exec, takes away what
 * needs privilege to take: identity, namespaces, the root directory,
 * capabilities, limits.  This file is the other half: the program itself,
 * which by then holds no privilege and no path, gives up what is left.
 *
 *   jail_confine()  first thing in main, while there is one thread
 *   ... acquire, map, start the worker threads ...
 *   jail_seal()     after which only the class's allow-list is left
 *
 * Each step that fails ends the process: a half-jailed domain does not exist.
 * Landlock and memory-deny-write-execute are applied where the kernel has
 * them; their absence is told by jail_features(), not hidden.
 */
#ifndef BULKHEAD_JAIL_H
#define BULKHEAD_JAIL_H

#include <stddef.h>
#include <stdint.h>

#include "../hyp.h"

/* The steady-state allow-list of a class, by name, ending with NULL: the one
 * source for the filter, for `bulkhead info` and for the tests.  Empty for a
 * class that is never sealed by this program. */
const char *const *jail_syscalls(enum hyp_class cls);

#define JAIL_LANDLOCK (1u << 0)
#define JAIL_MDWE     (1u << 1)
/* What this kernel has. */
unsigned jail_features(void);

/*
 * No new privileges; Landlock with no rule at all (every path, TCP port,
 * abstract socket and outside signal denied); no memory both writable and
 * executable ever again; not dumpable.  Landlock binds the calling thread and
 * those it starts later, hence: before any other thread.
 * 0, or a negative errno with *step naming what failed; print both and exit.
 */
int jail_confine(const char **step);

/*
 * The same, but files at or below these paths (descriptors, O_PATH is enough)
 * may still be opened to read, to write and for ioctl: for the keeper of the
 * machine's network interfaces.  They are found by what they are now: a file
 * that is removed and made anew later is another.
 */
int jail_confine_to(const int *paths, unsigned npaths, const char **step);

/*
 * seccomp for all threads at once (TSYNC): the class's allow-list, arguments
 * checked where they matter (no PROT_EXEC in mmap and mprotect; ioctl only for
 * a disk's sector sizes; io_uring_register only to update the files and buffers
 * of a ring; setsockopt only for an uplink's filter; what the keeper may make);
 * anything else kills the process.
 * Call it in the main thread.  malloc and free are not usable after it where
 * the class has no brk.  Returns as jail_confine().
 */
int jail_seal(enum hyp_class cls, const char **step);

#endif
