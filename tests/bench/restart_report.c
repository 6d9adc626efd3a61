/* SPDX-License-Identifier: MIT */
/* restart_report.c - what came of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "restart.h"

struct times {
    double p50, p99, max;
};

static double quantile(const double *sorted, unsigned n, double share)
{
    unsigned i = (unsigned)(share * n);
    return n ? sorted[i < n ? i : n - 1] : 0;
}

static struct times times_of(double *values, unsigned n)
{
    qsort(values, n, sizeof(*values), spread_order);
    return (struct times){quantile(values, n, 0.5), quantile(values, n, 0.99), n ? values[n - 1] : 0};
}

/* Of every kill the guest that waited longest; before: in as many windows without one. */
static struct times gaps(const struct restart *r, bool before)
{
    static double ms[RESTART_KILLS_MAX];
    for (unsigned k = 0; k < r->kills; k++) {
        uint64_t longest = 0;
        for (unsigned i = 0; i < r->opt->guests; i++) {
            uint64_t gap = r->shared->guest[i].gap_ns[2 * k + (before ? 1 : 2)];
            longest = gap > longest ? gap : longest;
        }
        ms[k] = (double)longest / 1e6;
    }
    return times_of(ms, r->kills);
}

struct guest_tally restart_sum(const struct restart *r)
{
    struct guest_tally sum = {0};
    for (unsigned i = 0; i < r->opt->guests; i++) {
        const struct guest_tally *one = &r->shared->guest[i].tally;
        sum.requests += one->requests;
        sum.lost += one->lost;
        sum.stale += one->stale;
        sum.duplicated += one->duplicated;
        sum.errors += one->errors;
        sum.replayed += one->replayed;
        sum.reconnects += one->reconnects;
        sum.dropped += one->dropped;
    }
    return sum;
}

static unsigned not_hit(const struct restart *r)
{
    unsigned n = 0;
    for (unsigned i = 0; i < r->npoints; i++)
        n += !r->point[i].hit;
    return n;
}

bool restart_passed(const struct restart *r)
{
    struct guest_tally sum = restart_sum(r);
    return sum.lost == 0 && sum.stale == 0 && sum.duplicated == 0 && sum.errors == 0 && not_hit(r) == 0;
}

static const char *first_damage(const struct restart *r)
{
    for (unsigned i = 0; i < r->opt->guests; i++)
        if (r->shared->guest[i].damage[0])
            return r->shared->guest[i].damage;
    return NULL;
}

static unsigned guest_deaths(const struct restart *r)
{
    unsigned n = 0;
    for (unsigned i = 0; i < r->opt->guests; i++)
        n += r->guest[i].deaths;
    return n;
}

/* Of each phase the median; none, when none was told. */
static json_t *phases(const struct restart *r)
{
    json_t *all = json_object();
    for (unsigned i = 0; i < WITNESS_PHASES && r->witness.times; i++) {
        struct witness_times *t = &r->witness.times[i];
        if (t->n)
            json_object_set_new(all, witness_phase[i], json_real(spread_of(t->us, t->n).median));
    }
    return all;
}

static json_t *points(const struct restart *r)
{
    json_t *hit = json_array(), *missed = json_array();
    for (unsigned i = 0; i < r->npoints; i++) {
        const struct restart_point *p = &r->point[i];
        if (p->hit)
            json_array_append_new(hit, json_pack("{s:s,s:s}", "name", p->name, "when", p->when));
        else
            json_array_append_new(missed, json_string(p->name));
    }
    return json_pack("{s:o,s:o}", "hit", hit, "not_hit", missed);
}

static json_t *json_times(struct times t)
{
    return json_pack("{s:f,s:f,s:f}", "p50", t.p50, "p99", t.p99, "max", t.max);
}

static void report_json(const struct restart *r)
{
    struct guest_tally sum = restart_sum(r);
    json_t *all = json_pack("{s:s,s:i,s:I,s:I,s:I,s:I,s:o,s:o}", "bench", "restart", "kills", (int)r->kills,
                            "lost", (json_int_t)sum.lost, "duplicated", (json_int_t)sum.duplicated, "stale",
                            (json_int_t)sum.stale, "errors", (json_int_t)sum.errors, "downtime_ms",
                            json_times(gaps(r, false)), "phases_us", phases(r));
    json_t *more = json_pack("{s:s,s:i,s:s,s:s,s:i,s:i,s:I,s:I,s:I,s:i,s:o}", "class",
                             r->opt->net ? "net" : "blk", "guests", (int)r->opt->guests, "spare",
                             r->opt->warm ? "warm" : "none", "how", restart_how_name(r->opt->how), "rest_ms",
                             (int)r->opt->rest_ms, "pace_ms", (int)r->opt->pace_ms, "requests",
                             (json_int_t)sum.requests, "replayed", (json_int_t)sum.replayed, "reconnects",
                             (json_int_t)sum.reconnects, "guest_deaths", (int)guest_deaths(r), "quiet_ms",
                             json_times(gaps(r, true)));
    json_object_update_new(all, more);
    json_t *causes = json_object();
    for (unsigned i = 0; i < r->witness.ncauses; i++)
        json_object_set_new(causes, r->witness.cause[i].text, json_integer(r->witness.cause[i].n));
    json_object_set_new(all, "causes", causes);
    json_object_set_new(all, "huge_pages", json_boolean(r->in_huge));
    json_object_set_new(all, "recovered", json_integer(r->witness.recovered));
    if (r->opt->net)
        json_object_set_new(all, "dropped", json_integer((json_int_t)sum.dropped));
    else
        json_object_set_new(all, "disk", json_string(r->disk_place));
    if (r->opt->how == RESTART_CRASH_POINT)
        json_object_set_new(all, "points", points(r));
    if (first_damage(r))
        json_object_set_new(all, "damage", json_string(first_damage(r)));
    report_object(all);
}

static void print_points(const struct restart *r)
{
    for (unsigned i = 0; i < r->npoints; i++)
        printf("  %-32s %s\n", r->point[i].name, r->point[i].hit ? r->point[i].when : "NOT HIT");
}

static void report_text(const struct restart *r)
{
    struct guest_tally sum = restart_sum(r);
    struct times down = gaps(r, false), quiet = gaps(r, true);
    printf("%u deaths of a %s driver domain (%s, %s spare) under %u guests at depth %u%s%s\n\n", r->kills,
           r->opt->net ? "net" : "disk", restart_how_name(r->opt->how), r->opt->warm ? "warm" : "no",
           r->opt->guests, RESTART_DEPTH, r->opt->net ? "" : ", files on ", r->disk_place);
    printf("%-26s %9s %9s %9s\n", "longest wait of a guest, ms", "p50", "p99", "max");
    printf("%-26s %9.2f %9.2f %9.2f\n", "  around a death", down.p50, down.p99, down.max);
    printf("%-26s %9.2f %9.2f %9.2f\n\n", "  before it", quiet.p50, quiet.p99, quiet.max);
    for (unsigned i = 0; i < WITNESS_PHASES && r->witness.times; i++)
        if (r->witness.times[i].n)
            printf("%s%s %.0f us", i ? ", " : "phases, median: ", witness_phase[i],
                   spread_of(r->witness.times[i].us, r->witness.times[i].n).median);
    printf("\n%llu requests, %llu sent again: %llu lost, %llu duplicated, %llu stale, %llu errors\n",
           (unsigned long long)sum.requests, (unsigned long long)sum.replayed, (unsigned long long)sum.lost,
           (unsigned long long)sum.duplicated, (unsigned long long)sum.stale, (unsigned long long)sum.errors);
    if (r->opt->net)
        printf("%llu frames were dropped on the way\n", (unsigned long long)sum.dropped);
    if (first_damage(r))
        printf("the first damage: %s\n", first_damage(r));
    print_points(r);
}

void restart_report(struct restart *r)
{
    if (r->opt->common.json)
        report_json(r);
    else
        report_text(r);
}
