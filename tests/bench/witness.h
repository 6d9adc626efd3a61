/* SPDX-License-Identifier: MIT */
/*
 * witness.h - the daemon's events, as they come.
 *
 * What a benchmark wants to know of them: who died, by domid and cause, and how
 * long each phase of each recovery took.
 */
#ifndef BULKHEAD_BENCH_WITNESS_H
#define BULKHEAD_BENCH_WITNESS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define WITNESS_PHASES   5u
#define WITNESS_TIMES    20000u /* recoveries that are kept        */
#define WITNESS_DEATHS   256u   /* the last ones                   */
#define WITNESS_CAUSES   16u

extern const char *const witness_phase[WITNESS_PHASES];

struct witness {
    int fd;                 /* -1: none; owned */
    char *line;
    size_t bytes, room;
    unsigned deaths, recovered;
    unsigned dead[WITNESS_DEATHS];             /* domids, round and round */
    struct witness_times {
        unsigned n;
        double us[WITNESS_TIMES];
    } *times;                                  /* of each phase */
    struct {
        char text[40];
        unsigned n;
    } cause[WITNESS_CAUSES];
    unsigned ncauses;
    char last_error[256];                      /* of an event "error" */
};

/* fd: a connection that was answered "ok" to `events`. 0 or -ENOMEM. */
int witness_start(struct witness *w, int fd);
void witness_end(struct witness *w);

/* Takes what has come, waiting at most so long for something. -EPIPE: the daemon hung up. */
int witness_listen(struct witness *w, int timeout_ms);
bool witness_died(const struct witness *w, unsigned domid);

/* One event. For tests too. */
void witness_take(struct witness *w, const json_t *event);

#endif
