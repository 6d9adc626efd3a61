/* SPDX-License-Identifier: MIT */
/*
 * testpmd.h - what people use today between processes, measured: a pair of
 * dpdk-testpmd, one that sends (txonly) and one that receives (rxonly), over
 * memif or vhost-user.
 *
 * memif: net_memif at both ends.  vhost: net_vhost receives, net_virtio_user
 * sends, which needs huge pages.  Each is the stock program with the options
 * that its documentation gives; the figure is the receiver's own.
 */
#ifndef BULKHEAD_BENCH_TESTPMD_H
#define BULKHEAD_BENCH_TESTPMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TESTPMD_HUGE_PAGES 64u /* of 2 MiB, for vhost */

enum testpmd_kind { TESTPMD_MEMIF, TESTPMD_VHOST };
const char *testpmd_name(enum testpmd_kind kind);

struct testpmd_job {
    enum testpmd_kind kind;
    uint32_t bytes;      /* of a frame                                     */
    unsigned queues;
    double warm_up, seconds;
    const uint64_t *send_cpus, *receive_cpus;
    unsigned send_ncpus, receive_ncpus;
};

/* Is the program there?  False: a sentence that says what to install. */
bool testpmd_there(char *why, size_t why_bytes);

/* Starts a pair, measures, ends it. 0 and million packets a second that arrived, or a
 * negative errno and a sentence. */
int testpmd_run(const struct testpmd_job *job, double *mpps, char *why, size_t why_bytes);

/* One answer to `show port stats`. */
struct testpmd_stats {
    uint64_t packets, bytes;      /* received so far                       */
    uint64_t packets_s;           /* since the answer before               */
};
/* Reads all answers in what testpmd wrote; *last is the last one.  Their number. */
unsigned testpmd_parse(const char *text, struct testpmd_stats *last);

#endif
