/* SPDX-License-Identifier: MIT */
/*
 * restart.h - `bulkhead bench restart`: driver domains that are killed under load,
 * and what their guests see of it.  What its files say to each other.
 */
#ifndef BULKHEAD_BENCH_RESTART_H
#define BULKHEAD_BENCH_RESTART_H

#include <sys/types.h>

#include "hugepages.h"
#include "options.h"
#include "restart_guest.h"
#include "stack.h"
#include "witness.h"

#define RESTART_DRIVER       "bench-driver"
#define RESTART_POINTS_MAX   256u
#define RESTART_OUTAGE_MS    60000 /* longer than any back-off: what takes longer never comes back */

enum restart_how { RESTART_KILL, RESTART_STOP, RESTART_PLANNED, RESTART_CRASH_POINT };

struct restart_options {
    bool net, warm, no_replay;
    enum restart_how how;
    unsigned kills, guests;
    unsigned rest_ms;      /* all is well for that long before a kill is due      */
    unsigned pace_ms;      /* and it comes at random within so long after that    */
    double patience;       /* seconds                                             */
    const char *dir;       /* for the disks' files; NULL: the run directory        */
    const char *point;     /* only crash points that begin so; NULL: all           */
    struct options_common common;
};
int restart_options_parse(struct restart_options *opt, int argc, char **argv, char *err, size_t err_bytes);
const char *restart_how_name(enum restart_how how);

struct restart_guest {
    pid_t pid;          /* 0: no process                                          */
    char name[24];
    char attach[256];
    struct guest_board *board;
    struct record *record;
    size_t record_bytes;
    bool may_die;       /* a crash point of it is armed                           */
    unsigned deaths;
};

/* A crash point, and whether anyone died of it. */
struct restart_point {
    char name[64];
    bool frontend;
    bool hit;
    const char *when;   /* what was done meanwhile                                */
};

struct restart {
    const struct restart_options *opt;
    struct stack stack;
    struct store *store;
    struct witness witness;
    struct restart_shared *shared;
    struct restart_guest guest[RESTART_GUESTS_MAX];
    unsigned kills;                        /* windows of time that have been      */
    unsigned npoints;
    struct restart_point point[RESTART_POINTS_MAX];
    char disk_place[32];                   /* kind of file system                 */
    struct hugepages huge;                 /* that were reserved for the guests   */
    bool in_huge;                          /* there are enough for them           */
};
#define RESTART_HUGE_EACH 4u               /* of 2 MiB, a guest                   */

/* How the driver domain is, by `list` and `info`. */
struct restart_look {
    bool well;             /* it runs, and has its spare where it is to have one  */
    unsigned incarnation, domid;
    unsigned spare_domid;  /* 0: none                                             */
};
int restart_look(struct restart *r, struct restart_look *out);

/* ---- restart.c.  All return 0 or a negative errno with a sentence in stack.error. */
int restart_fail(struct restart *r, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Everyone is well, and every guest's work goes on. */
int restart_settle(struct restart *r);
/* One death, and the windows of time before and after it. */
int restart_kill(struct restart *r);
/* After the moment of a death: until its work is taken over by a later incarnation. */
int restart_outlive(struct restart *r, unsigned incarnation);

/* A little time goes by: listens, and looks after the guests. end: past that it fails, as
 * "after so long, what". */
int restart_step(struct restart *r, uint64_t end, const char *what);
void restart_open_window(struct restart *r, uint32_t window);

/* ---- restart_process.c: guests' processes */
int process_start(struct restart *r, unsigned i);
/* Sees who ended. A guest that may die is started again. */
int process_look(struct restart *r);
void process_order(struct restart *r, unsigned i, enum guest_order order);
int process_leave(struct restart *r, unsigned i, enum guest_order how);
void process_end_all(struct restart *r);
uint64_t process_progress(const struct restart *r, unsigned i);

/* ---- restart_points.c */
int points_gather(struct restart *r);
int points_hit_all(struct restart *r);

/* ---- restart_report.c */
struct guest_tally restart_sum(const struct restart *r);
bool restart_passed(const struct restart *r);
void restart_report(struct restart *r);

#endif
