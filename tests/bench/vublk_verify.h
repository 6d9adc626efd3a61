/* SPDX-License-Identifier: MIT */
/*
 * vublk_verify.h - is a vhost-user disk right?
 *
 * Writes all of a span of the disk with blocks that say what they are (block.h), then a
 * mix of reads, writes, flushes, zeroes and discards of 1 to 16 blocks, then reads all
 * of it back.  Every block that is read is judged (record.h), every request has to
 * come back once, with a call, within the patience.  Where that is asked for, a device
 * that hangs up is called again, and is handed what was in flight.
 *
 * What was on the span is gone.  One thread for all queues.
 */
#ifndef BULKHEAD_BENCH_VUBLK_VERIFY_H
#define BULKHEAD_BENCH_VUBLK_VERIFY_H

#include <stdint.h>

#include "vublk_load.h"
#include "vublk_options.h"

struct verify_tally {
    uint64_t requests, reads, writes, others; /* that came back                         */
    uint64_t errors;      /* came back failed                                           */
    uint64_t lost, stale; /* blocks, see record.h                                       */
    uint64_t missing;     /* requests that did not come back in time                    */
    uint64_t wrong;       /* answers to what nobody asks: done twice                    */
    uint64_t uncalled;    /* answers that were there for a second without a call         */
    uint32_t reconnects;
    uint64_t longest_ns;  /* that a request took                                        */
    char first[256];      /* the first thing that was wrong                             */
};

/* 0: it went to its end, whatever was found (verify_passed()); or a negative errno and tally->first:
 * it could not. */
int vublk_verify(struct vublk_disk *disk, const struct vublk_options *opt, struct verify_tally *tally);
bool verify_passed(const struct verify_tally *t);

#endif
