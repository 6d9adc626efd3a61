/* SPDX-License-Identifier: MIT */
/*
 * load.h - one load, run the same way against whatever serves it.
 *
 * A job says what to do (operation, size, depth, time).  A target does it on
 * one queue: Bulkhead's frontend, or a peer.  load_run() starts one thread for
 * each queue, lets them begin together, and adds up what they report.
 */
#ifndef BULKHEAD_BENCH_LOAD_H
#define BULKHEAD_BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"

#define LOAD_QUEUES_MAX 8u   /* as BLK_MAX_QUEUES                        */
#define LOAD_DEPTH_MAX  512u /* as many as the largest ring has requests */

enum load_op { LOAD_RANDREAD, LOAD_RANDWRITE, LOAD_READ, LOAD_WRITE };
static inline bool load_writes(enum load_op op)
{
    return op == LOAD_RANDWRITE || op == LOAD_WRITE;
}
const char *load_op_name(enum load_op op);

struct load_job {
    enum load_op op;
    uint32_t bs;       /* bytes a request                                   */
    unsigned depth;    /* requests in flight, each queue                    */
    unsigned queues;
    uint64_t bytes;    /* size of the disk                                  */
    double seconds;
    uint64_t seed;     /* equal seeds visit the same blocks in the same order */
    unsigned spins;    /* empty polls before sleeping                       */
    const uint64_t *cpus; /* NULL, or the CPU of each queue's thread        */
};

struct load_result {
    uint64_t ops, errors;
    int error;         /* the first one                                     */
    uint64_t cpu_ns;   /* CPU time of this process; load_run() only         */
    uint64_t wall_ns;  /* longest thread                                    */
    struct histogram latency;
};

/*
 * Runs the job on one queue until the deadline, then takes what is in flight
 * back uncounted.  0, or a negative errno when it could not go on at all.
 */
typedef int load_fn(void *target, const struct load_job *job, unsigned queue, struct load_result *out);

/* All queues of one job; out is cleared first.  0 or a negative errno. */
int load_run(load_fn *fn, void *target, const struct load_job *job, struct load_result *out);

/* Two jobs at once, for measuring one beside the other. */
struct load_pair {
    load_fn *fn;
    void *target;
    const struct load_job *job;
    struct load_result *out;
};
int load_run_all(const struct load_pair *pairs, unsigned n);

double load_kiops(const struct load_result *r);
double load_mib_s(const struct load_result *r, uint32_t bs);

/* Which block comes next. */
struct load_pattern {
    enum load_op op;
    uint32_t bs;
    uint64_t first, blocks, next; /* this queue's share, in blocks */
    uint64_t random;
};
void load_pattern_init(struct load_pattern *p, const struct load_job *job, unsigned queue);
static inline uint64_t load_pattern_next(struct load_pattern *p)
{
    uint64_t block;
    if (p->op == LOAD_RANDREAD || p->op == LOAD_RANDWRITE) {
        p->random ^= p->random << 13; /* xorshift64 */
        p->random ^= p->random >> 7;
        p->random ^= p->random << 17;
        block = (uint64_t)(((unsigned __int128)p->random * p->blocks) >> 64);
    } else {
        block = p->next;
        p->next = p->next + 1 == p->blocks ? 0 : p->next + 1;
    }
    return (p->first + block) * p->bs;
}

uint64_t load_now_ns(void);

/* Writes, or checks, what a block at this offset should hold: every 8 bytes
 * depend on the place and the salt. */
void load_fill(void *buf, uint32_t bytes, uint64_t offset, uint64_t salt);
bool load_is_filled(const void *buf, uint32_t bytes, uint64_t offset, uint64_t salt);

#endif
