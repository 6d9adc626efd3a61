/* SPDX-License-Identifier: MIT */
/*
 * restart_points.c - every crash point once, by name.
 *
 * A point is armed in the process that is to die of it, and then something is done
 * that is likely to pass it.  What is tried, in this order, until somebody dies:
 * nothing but load, a takeover and the birth of the spare after it, a planned restart, a
 * guest that leaves and comes.  Only a request that was in flight through three deaths
 * passes a point of poison: for that every driver domain dies of its first request.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "../../hyp-shim/crash.h"
#include "bench.h"
#include "progress.h"
#include "restart.h"

#define ROUNDS       2u
#define PASSES_MAX   50u    /* under load a point is passed often: which time is by chance */
#define LOAD_MS      1500   /* what load passes at all it passes in that time               */
#define ORDERLY_MS   4000   /* shorter than the daemon waits before it kills                */
#define OUTAGE_MS    15000  /* with three deaths in it                                      */
#define NONE         (~0u)
#define DIES_OF_A_REQUEST "blk-after-copy"

/* ----------------------------------------------------------------- which there are */

static bool is_wanted(const struct restart *r, const char *name)
{
    return !r->opt->point || strncmp(name, r->opt->point, strlen(r->opt->point)) == 0;
}

static int add_point(struct restart *r, const char *name, bool frontend)
{
    if (!is_wanted(r, name))
        return 0;
    if (r->npoints == RESTART_POINTS_MAX)
        return restart_fail(r, -E2BIG, "there are more than %u crash points", RESTART_POINTS_MAX);
    for (unsigned i = 0; i < r->npoints; i++)
        if (strcmp(r->point[i].name, name) == 0)
            return restart_fail(r, -EEXIST, "the crash point %s is in two places", name);
    struct restart_point *p = &r->point[r->npoints++];
    snprintf(p->name, sizeof(p->name), "%s", name);
    p->frontend = frontend;
    p->when = "";
    return 0;
}

static int gather_backend(struct restart *r)
{
    char path[300], command[320], name[64];
    int error = stack_program(&r->stack, r->opt->net ? "bulkhead-net" : "bulkhead-blk", path, sizeof(path));
    if (error)
        return error;
    snprintf(command, sizeof(command), "'%s' --crash-points", path);
    FILE *list = popen(command, "re");
    while (list && !error && fgets(name, sizeof(name), list)) {
        name[strcspn(name, "\n")] = '\0';
        error = add_point(r, name, false);
    }
    if (!list || pclose(list) != 0)
        return restart_fail(r, -EIO, "%s --crash-points fails: is it of this build?", path);
    return error;
}

/* Both kinds of frontend are in this program; only one of them is at work. */
static int gather_frontend(struct restart *r)
{
    int error = 0;
    (void)r;
#ifdef BULKHEAD_CRASH_POINTS
    const char *name, *other = r->opt->net ? "blkfront-" : "netfront-";
    for (unsigned i = 0; !error && (name = crash_name(i)); i++)
        if (strstr(name, "front-") && strncmp(name, other, strlen(other)) != 0)
            error = add_point(r, name, true);
#endif
    return error;
}

int points_gather(struct restart *r)
{
    int error = gather_backend(r);
    if (!error)
        error = gather_frontend(r);
    if (!error && r->npoints == 0)
        error = restart_fail(r, -ENOENT, "there are no crash points%s%s",
                             r->opt->point ? " that begin with " : "", r->opt->point ? r->opt->point : "");
    if (!error && (error = store_watch(r->store, "/local/domain", "homes")) != 0)
        return restart_fail(r, error, "the store sets no watch: %s", strerror(-error));
    return error;
}

/* ------------------------------------------------------------------------- arming */

/* One try: who has the point armed, and who was killed by us. */
struct attempt {
    const struct restart_point *point;
    unsigned passes;
    unsigned armed[8], narmed; /* domids of driver domains                  */
    unsigned killed;           /* domid of the one that we killed; NONE     */
    unsigned deaths;           /* of guest 0 before                         */
    bool births;               /* arm every domain that is made             */
    const char *others;        /* with this point; NULL: with ours          */
    unsigned youngest;         /* domid; older ones were there before       */
};

static void write_point(struct restart *r, unsigned domid, const char *text)
{
    char dir[32];
    uint64_t found;
    snprintf(dir, sizeof(dir), "/local/domain/%u", domid);
    /* A domain that died meanwhile has no home any more, and is to get none. */
    if (store_read_number(r->store, STORE_NO_TXN, dir, "domid", UINT32_MAX, &found) == 0)
        (void)store_printf(r->store, STORE_NO_TXN, dir, "crash-point", "%s", text);
}

static void arm(struct restart *r, struct attempt *a, unsigned domid, const char *name)
{
    char text[80];
    if (domid == 0 || a->narmed == sizeof(a->armed) / sizeof(a->armed[0]))
        return;
    snprintf(text, sizeof(text), "%s:%u", name, a->passes);
    write_point(r, domid, text);
    a->armed[a->narmed++] = domid;
}

/* Homes that were made since: the daemon makes one just before its domain runs. */
static void arm_births(struct restart *r, struct attempt *a)
{
    static const char homes[] = "/local/domain/";
    struct store_event ev;
    while (store_next_event(r->store, &ev) > 0) {
        char *end = ev.path;
        unsigned domid = 0;
        if (strncmp(ev.path, homes, sizeof(homes) - 1) == 0)
            domid = (unsigned)strtoul(ev.path + sizeof(homes) - 1, &end, 10);
        if (!a->births || *end != '\0' || domid <= a->youngest)
            continue;
        a->youngest = domid;
        arm(r, a, domid, a->others ? a->others : a->point->name);
    }
}

static bool is_hit(struct restart *r, const struct attempt *a)
{
    if (a->point->frontend)
        return r->guest[0].deaths > a->deaths;
    for (unsigned i = 0; i < a->narmed; i++)
        if (a->armed[i] != a->killed && witness_died(&r->witness, a->armed[i]))
            return true;
    return false;
}

/* Until the point is hit, or it is clear that it will not be. */
static int wait_for_hit(struct restart *r, struct attempt *a, unsigned ms)
{
    uint64_t end = load_now_ns() + ms * 1000000ull;
    int error = 0;
    while (!error && !is_hit(r, a) && load_now_ns() < end) {
        arm_births(r, a);
        error = restart_step(r, end + 1000000000ull, "");
    }
    return error;
}

/* Whoever is to die of it and lives. */
static void arm_living(struct restart *r, struct attempt *a, const struct restart_look *look)
{
    if (a->point->frontend) {
        arm(r, a, stack_domid(&r->stack, r->guest[0].name), a->point->name);
        return;
    }
    arm(r, a, look->domid, a->point->name);
    arm(r, a, look->spare_domid, a->point->name);
}

/* ------------------------------------------------------------------------- trying */

static int under_load(struct restart *r, struct attempt *a, const struct restart_look *look)
{
    (void)look;
    return wait_for_hit(r, a, LOAD_MS);
}

static int at_a_takeover(struct restart *r, struct attempt *a, const struct restart_look *look)
{
    pid_t pid = stack_pid(&r->stack, RESTART_DRIVER);
    a->killed = look->domid;
    a->births = !a->point->frontend;
    if (pid > 1)
        kill(pid, SIGKILL);
    return wait_for_hit(r, a, LOAD_MS);
}

static int at_a_planned_restart(struct restart *r, struct attempt *a, const struct restart_look *look)
{
    (void)look;
    a->births = !a->point->frontend;
    int fd = stack_post(&r->stack, json_pack("{s:s,s:s}", "cmd", "restart", "name", RESTART_DRIVER));
    if (fd < 0)
        return fd;
    int error = wait_for_hit(r, a, ORDERLY_MS);
    close(fd);
    return error;
}

static int when_a_guest_leaves(struct restart *r, struct attempt *a, const struct restart_look *look)
{
    struct restart_guest *g = &r->guest[0];
    unsigned deaths = g->deaths;
    uint64_t end = load_now_ns() + ORDERLY_MS * 1000000ull;
    int error = 0;
    (void)look;
    process_order(r, 0, GUEST_LEAVE);
    while (!error && g->pid && g->deaths == deaths && load_now_ns() < end)
        error = restart_step(r, end + 1000000000ull, "");
    if (error || g->pid)
        return error; /* it died of it, and is back */
    a->births = a->point->frontend;
    if (a->births) {
        /* Its domain is made anew, which takes a moment, and waits for a program. */
        uint64_t limit = load_now_ns() + LOAD_MS * 1000000ull;
        unsigned armed = a->narmed;
        while (!error && a->narmed == armed && load_now_ns() < limit) {
            arm_births(r, a);
            error = restart_step(r, end + 1000000000ull, "");
        }
    }
    if (!error)
        error = process_start(r, 0);
    return error ? error : wait_for_hit(r, a, LOAD_MS);
}

/* Alone: others' requests would be poisoned as well, and fail. */
static int at_the_third_death(struct restart *r, struct attempt *a, const struct restart_look *look)
{
    int error = 0;
    for (unsigned i = 1; i < r->opt->guests && !error; i++)
        error = process_leave(r, i, GUEST_LEAVE);
    a->others = DIES_OF_A_REQUEST;
    a->births = true;
    arm(r, a, look->spare_domid, a->others);
    arm(r, a, look->domid, a->others);
    if (!error)
        error = wait_for_hit(r, a, OUTAGE_MS);
    for (unsigned i = 1; i < r->opt->guests && !error; i++)
        error = process_start(r, i);
    return error;
}

static bool is_poison(const struct restart_point *point)
{
    return strstr(point->name, "poison") != NULL;
}

static const struct provocation {
    const char *when;
    int (*provoke)(struct restart *r, struct attempt *a, const struct restart_look *look);
} provocations[] = {
    {"under load", under_load},
    {"at a takeover", at_a_takeover},
    {"at a planned restart", at_a_planned_restart},
    {"when a guest leaves and comes", when_a_guest_leaves},
}, poisoning = {"at the third death of a request", at_the_third_death};

static unsigned by_chance(unsigned below)
{
    unsigned n = 0;
    ssize_t got = getrandom(&n, sizeof(n), 0);
    return got == (ssize_t)sizeof(n) ? n % below : 0;
}

static int try_once(struct restart *r, struct restart_point *point, const struct provocation *how, bool *hit)
{
    struct restart_look look;
    struct attempt a = {.point = point, .killed = NONE, .deaths = r->guest[0].deaths,
                        .passes = how->provoke == under_load ? 1 + by_chance(PASSES_MAX) : 1};
    int error = restart_settle(r);
    if (!error)
        error = restart_look(r, &look);
    if (error)
        return error;
    arm_births(r, &a); /* what was before is forgotten */
    a.youngest = look.domid > look.spare_domid ? look.domid : look.spare_domid;
    r->guest[0].may_die = point->frontend;
    restart_open_window(r, 2 * r->kills + 2);
    arm_living(r, &a, &look);
    error = how->provoke(r, &a, &look);
    *hit = !error && is_hit(r, &a);
    for (unsigned i = 0; i < a.narmed; i++)
        write_point(r, a.armed[i], "");
    if (!error)
        error = restart_settle(r);
    r->guest[0].may_die = false;
    restart_open_window(r, 0);
    r->kills += *hit;
    return error;
}

static int hit_point(struct restart *r, struct restart_point *point)
{
    unsigned n = sizeof(provocations) / sizeof(provocations[0]);
    int error = 0;
    for (unsigned i = 0; i < ROUNDS * n && !error && !point->hit; i++) {
        const struct provocation *how = is_poison(point) ? &poisoning : &provocations[i % n];
        bench_progress("%s %s", point->name, how->when);
        error = try_once(r, point, how, &point->hit);
        point->when = how->when;
    }
    return error;
}

int points_hit_all(struct restart *r)
{
    int error = 0;
    for (unsigned i = 0; i < r->npoints && !error; i++) {
        error = hit_point(r, &r->point[i]);
        if (error) {
            char said[sizeof(r->stack.error)];
            snprintf(said, sizeof(said), "%s", r->stack.error);
            return restart_fail(r, error, "%s: %.400s", r->point[i].name, said);
        }
    }
    return error;
}
