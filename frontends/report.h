/* SPDX-License-Identifier: MIT */
/*
 * report.h - what a device tells the toolstack of its driver domain.
 *
 * In /local/domain/FE/report/CLS/ID, which the toolstack makes:
 *   stalled    N: work was in flight and nothing came back for a fifth of a heartbeat's
 *              period; one more for each further fifth.  That leaves the toolstack half
 *              of the period to ask and to hear nothing, and the rest to begin anew
 *   lie        "N NAME": the N-th time that the backend was caught, and how
 *   poisoned   "N OP OFFSET BYTES": the N-th request that was poisoned
 *   timed-out  N requests failed by the time limit
 *   outage     "BE DOWN ATTACHED FIRST": the connection was lost, the rings of the
 *              next one, to domain BE, were in use, the first answer came (0: there
 *              was nothing to answer); CLOCK_MONOTONIC, ns
 *
 * Stalls are judged by the ring that is asked (for a NIC: what is sent), while there
 * is work: an owner that has some after a rest wakes the control thread once, which
 * then looks five times in a period and stops when nothing happened for a while.
 */
#ifndef BULKHEAD_REPORT_H
#define BULKHEAD_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "link.h"

struct device;

struct report {
    unsigned look_ms;            /* between two looks at the work; 0: none       */
    uint64_t tick_at;            /* ms; 0: nobody works                          */
    unsigned idle_ticks;
    struct { uint32_t asked, answered; bool pending; } seen[LINK_QUEUES_MAX];
    uint64_t stalled, stalled_told;
    uint64_t lies_told, late_told;
    uint64_t poisoned_told[LINK_QUEUES_MAX], poisoned;
    const char *lie;             /* name of the last one                         */
    bool outage;                 /* one is to be told                            */
    bool flying;                 /* something was in flight when it began        */
    uint64_t down_ns, attached_ns;
    uint64_t give_up_at;         /* ms: no first answer is waited for any more; 0: no limit */
    uint64_t retry_at;           /* ms: the store did not take it; 0             */
};

/* The connection is over; the rings of the next one are attached, not yet started. */
void report_down(struct device *d);
void report_up(struct device *d);
/* Judges when it is time, and tells what is new. */
void report_step(struct device *d, uint64_t now);
uint64_t report_due(const struct device *d, uint64_t now);

#endif
