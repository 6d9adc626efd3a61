/* SPDX-License-Identifier: MIT */
/*
 * looks.h - does a worker with nothing to do look on for a moment, or sleep at once?
 *
 * Looking saves a doorbell and a wake-up when work comes from another processor.
 * Where whoever would bring it waits for this very one it never pays.  So it goes on
 * only as long as it finds something now and then, and is tried again once in a while.
 * Private to one thread.
 */
#ifndef BULKHEAD_LOOKS_H
#define BULKHEAD_LOOKS_H

#include <stdbool.h>

#define LOOKS_CREDIT_MAX  4u  /* moments in a row that may find nothing          */
#define LOOKS_PROBE_EVERY 64u /* sleeps, and then one more is tried              */

struct looks {
    unsigned credit, skipped;
    bool now; /* there was nothing, and it looks */
};

/* There is nothing; in_time: the moment is not over yet.  True: look on; false: sleep. */
static inline bool looks_again(struct looks *l, bool in_time)
{
    if (!l->now && l->credit == 0 && ++l->skipped < LOOKS_PROBE_EVERY)
        return false;
    l->skipped = 0;
    l->now = in_time;
    if (!in_time && l->credit > 0)
        l->credit--;
    return in_time;
}

/* There is something. */
static inline void looks_paid(struct looks *l)
{
    if (l->now && l->credit < LOOKS_CREDIT_MAX)
        l->credit++;
    l->now = false;
}

#endif
