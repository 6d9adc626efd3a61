/* SPDX-License-Identifier: MIT */
/*
 * testpmd.h - what people use today between processes, measured: a pair of
 * dpdk-testpmd, one that sends (txonly) and one that receives (rxonly), over
 * memif or vhost-user.
 *
 * memif: net_memif at both ends.  vhost: net_vhost receives, net_virtio_user
 * sends, which needs huge pages, or the other way round.  Each is the stock program with the options
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
    bool backwards;      /* vhost: net_vhost sends, net_virtio_user receives */
    bool packed;         /* vhost: packed rings                            */
    double warm_up, seconds;
    const uint64_t *send_cpus, *receive_cpus;
    unsigned send_ncpus, receive_ncpus;
};
struct testpmd_result {
    double mpps;                   /* million packets a second that arrived */
    uint64_t send_ns, receive_ns;  /* CPU time of each while it was measured */
};

/* Is the program there?  False: a sentence that says what to install. */
bool testpmd_there(char *why, size_t why_bytes);

/* Starts a pair, measures, ends it. 0, or a negative errno and a sentence. */
int testpmd_run(const struct testpmd_job *job, struct testpmd_result *out, char *why, size_t why_bytes);

/*
 * A guest's NIC without a guest: dpdk-testpmd with net_virtio_user on a vhost-user
 * socket that somebody else serves.
 *
 * One that sends stops between warming up and what is measured, so that what is on its way can
 * arrive: `settled` is called then, and at the end, with the packets that it sent so far.
 */
struct testpmd_guest {
    const char *socket;
    const uint8_t *mac;
    uint32_t bytes;
    unsigned queues;
    bool sends, packed;
    double warm_up, seconds;
    const uint64_t *cpus;
    unsigned ncpus;
    int (*settled)(void *arg, uint64_t sent, bool begin);
    void *arg;
};
struct testpmd_guest_result {
    double mpps;      /* received; 0 of one that sends                     */
    uint64_t sent;    /* while it was measured                             */
    uint64_t cpu_ns, wall_ns;
};
int testpmd_guest_run(const struct testpmd_guest *job, struct testpmd_guest_result *out, char *why,
                      size_t why_bytes);

/* One answer to `show port stats`. */
struct testpmd_stats {
    uint64_t packets, bytes;      /* received so far                       */
    uint64_t packets_s;           /* since the answer before               */
};
/* Reads all answers in what testpmd wrote; *last is the last one.  Their number. */
unsigned testpmd_parse(const char *text, struct testpmd_stats *last);
/* What it sent, of the last summary that `stop` wrote; false: there is none. */
bool testpmd_parse_sent(const char *text, uint64_t *packets);

#endif
