/* SPDX-License-Identifier: MIT */
/*
 * restart_guest.h - the guests of `bulkhead bench restart`.
 *
 * Each is a process of its own, so that it can die.  What it knows is on a board in
 * memory that it shares with the benchmark: orders one way, counts the other
 * way, and the record of its disk, which outlives it.
 */
#ifndef BULKHEAD_BENCH_RESTART_GUEST_H
#define BULKHEAD_BENCH_RESTART_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "record.h"

#define RESTART_GUESTS_MAX  8u
#define RESTART_KILLS_MAX   10000u
#define RESTART_WINDOWS     (2 * RESTART_KILLS_MAX + 2)
#define RESTART_DEPTH       32u
#define RESTART_BLOCKS_MAX  16u /* of one request: 64 KiB */
#define RESTART_LOOK_MS     50  /* how often a guest that waits looks at its orders */

enum guest_order {
    GUEST_WORK,
    GUEST_LEAVE, /* take back what is in flight, and end        */
    GUEST_FINISH /* the same, but check everything before       */
};
enum guest_state { GUEST_OPENING, GUEST_WORKING, GUEST_LEFT, GUEST_FAILED };

struct guest_tally {
    uint64_t requests;             /* completed                                    */
    uint64_t lost, stale;          /* blocks, see record.h; requests that never end */
    uint64_t duplicated;           /* completions that nobody waits for             */
    uint64_t errors;               /* requests that failed                          */
    uint64_t replayed, reconnects; /* of processes that left in order               */
    uint64_t dropped;              /* NICs: frames that did not arrive              */
};

/* Of a guest with a NIC, for the process after the one that dies. */
struct guest_stream {
    uint64_t sendings; /* frames that it sent                             */
    uint64_t acked;    /* the other one has all up to here                */
    uint64_t got;      /* it has all of the other one's up to here        */
    uint64_t heard;    /* the other one's last sending that came          */
};

struct guest_board {
    uint32_t order, state; /* atomic */
    uint64_t progress;     /* atomic: completions so far */
    struct guest_tally tally;
    struct guest_stream stream;
    char error[256];       /* of GUEST_FAILED */
    char damage[160];      /* the first that was found */
    /* The longest time without a completion, although there was something to wait
     * for, in each window of time; ns. */
    uint64_t gap_ns[RESTART_WINDOWS];
};

struct restart_shared {
    uint32_t window; /* atomic; 0: none */
    struct guest_board guest[RESTART_GUESTS_MAX];
};

/* What a guest's process is told at birth. */
struct guest_life {
    unsigned index, guests;
    const char *attach;
    struct restart_shared *shared;
    struct guest_board *board;
    struct record *record; /* of its disk */
    uint64_t patience_ns;  /* what takes longer is lost */
    uint64_t seed;
};

/* The process's main. False: it failed, and board->error says why. */
bool restart_disk(const struct guest_life *life);
bool restart_stream(const struct guest_life *life);

/* ---- for the two */

/* Something was completed. last: when the one before was, or when there began to be
 * something to wait for. */
void guest_completed(const struct guest_life *life, uint64_t n, uint64_t *last, uint64_t now);
enum guest_order guest_order(const struct guest_life *life);
void guest_says(const struct guest_life *life, enum guest_state state);
/* Of damage, the first stays. */
void guest_damaged(const struct guest_life *life, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
