/* SPDX-License-Identifier: MIT */
/*
 * crash.h - named places where a process can be made to die.
 *
 *   CRASH_POINT("blk-after-submit");
 *
 * Only builds for tests have them (make CRASH=1, -DBULKHEAD_CRASH_POINTS):
 * elsewhere they are nothing.  A name is lower case letters, digits and '-', says
 * whose side it is on first ("blk-", "net-", "blkfront-", "netfront-", "back-",
 * "front-"), and stands at one place.
 *
 * Whoever writes NAME or NAME:N to /local/domain/DOMID/crash-point arms that
 * domain: its control thread watches the node and looks at it.  The N-th time
 * (1 when not given) that any thread comes by, the process is gone at once, with
 * nothing flushed and nobody told, as by SIGKILL.
 */
#ifndef BULKHEAD_CRASH_H
#define BULKHEAD_CRASH_H

#include <stdbool.h>

#include "store.h"

#define CRASH_WATCH "crash" /* token of crash_watch() */

#ifdef BULKHEAD_CRASH_POINTS

struct crash_point {
    const char *name;
};

#define CRASH_POINT(text)                                                                       \
    do {                                                                                        \
        static const struct crash_point here_                                                   \
            __attribute__((section("crash_points"), used, aligned(sizeof(void *)))) = { text }; \
        crash_pass(&here_);                                                                     \
    } while (0)

void crash_pass(const struct crash_point *here);
/* "NAME" or "NAME:N"; "" disarms. -ENOENT: this program has no such point. */
int crash_arm(const char *what);
/* Watches the node of the domain that this process is. */
int crash_watch(struct store *st, domid_t self);
/* The node may have changed: arms what it says, once for each change. */
void crash_look(struct store *st, domid_t self);
/* The i-th point of this program; NULL past the last. */
const char *crash_name(unsigned i);
/* Prints all names, one a line, when the only argument is --crash-points; true:
 * it did, the program is done. */
bool crash_listed(int argc, char **argv);

#else

#define CRASH_POINT(text) ((void)0)

static inline int crash_watch(struct store *st, domid_t self)
{
    (void)st, (void)self;
    return 0;
}

static inline void crash_look(struct store *st, domid_t self)
{
    (void)st, (void)self;
}

static inline bool crash_listed(int argc, char **argv)
{
    (void)argc, (void)argv;
    return false;
}

#endif
#endif
