/* SPDX-License-Identifier: MIT */
/*
 * recovery.c - how long a driver domain's death lasted, and where the time went.
 *
 *   t0         the kill was ordered, or (when nobody ordered it) the death
 *   detect     until the core had seen the death
 *   fence      from there until the last device was open in the next incarnation
 *   handover   from there until the daemon's books were done
 *   reconnect  from there until the last frontend's rings were in use
 *   first      from there until the last frontend had its first answer
 *
 * The downtime ends when it has its devices and the last frontend its answer.
 * What frontends report may be lies, and only about themselves: it is bounded by
 * the death and by now.  A frontend that had nothing in flight has its answer as
 * soon as its rings are in use.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"

const char *const phase_names[PHASES] = {"detect", "fence", "handover", "reconnect", "first"};

static uint64_t microseconds(uint64_t from, uint64_t to)
{
    return to > from ? (to - from) / 1000 : 0;
}

static uint64_t clamp(uint64_t value, uint64_t least, uint64_t most)
{
    return value < least ? least : value > most ? most : value;
}

void recovery_begin(struct daemon *d, struct domain *dom, uint64_t at_ns)
{
    struct recovery *r = &dom->recovery;
    uint64_t now = monotonic_ns(), t0;

    at_ns = at_ns && at_ns < now ? at_ns : now;
    t0 = dom->ordered_ns && dom->ordered_ns < at_ns ? dom->ordered_ns : at_ns;
    /* Dead again before it recovered: one outage, and its phases are those of the last death. */
    if (!r->on)
        *r = (struct recovery){.on = true, .t0_ns = t0};
    r->planned = dom->ordered == CAUSE_PLANNED;
    r->death_ns = at_ns;
    r->books_ns = r->attached_ns = r->first_ns = r->down_ns = r->give_up_at = 0;
    dom->phase_us[PHASE_DETECT] = microseconds(t0, at_ns);
    for (struct served s = {0}; driver_next(d, dom, &s);)
        s.split->awaited = s.split->awaited || s.split->connected;
}

void recovery_handed_over(struct daemon *d, struct domain *dom, bool warm)
{
    struct recovery *r = &dom->recovery;
    char report[REPORT_MAX];

    if (!r->on)
        return;
    r->books_ns = monotonic_ns();
    r->warm = warm;
    r->give_up_at = now_ms() + RECOVERY_WAIT_MS;
    /* Frontends need not wait for us. */
    for (struct served s = {0}; warm && driver_next(d, dom, &s);) {
        guest_look(d, s.guest, s.i);
        if (s.split->awaited && split_read_report(d, s.guest, s.i, "outage", report))
            recovery_outage(d, s.guest, s.i, report);
    }
    recovery_look(d, dom);
}

/* False: not four numbers. */
static bool parse(const char *text, uint64_t out[4])
{
    for (int i = 0; i < 4; i++) {
        char *end;

        if (*text < '0' || *text > '9')
            return false;
        out[i] = strtoull(text, &end, 10);
        if (*end != (i < 3 ? ' ' : '\0'))
            return false;
        text = end + 1;
    }
    return true;
}

void recovery_outage(struct daemon *d, struct domain *guest, unsigned i, const char *report)
{
    struct split *split = &guest->split[i];
    struct domain *dom = dom_find(d, split->backend);
    struct recovery *r = dom ? &dom->recovery : NULL;
    uint64_t n[4], now = monotonic_ns(), down, attached, first;

    if (!r || !r->on || !split->awaited || !parse(report, n) || n[0] != dom->domid)
        return;
    down = clamp(n[1], r->t0_ns, now);
    attached = clamp(n[2], r->death_ns, now);
    first = clamp(n[3] ? n[3] : n[2], attached, now);
    split->awaited = false;
    r->down_ns = r->down_ns && r->down_ns < down ? r->down_ns : down;
    r->attached_ns = r->attached_ns > attached ? r->attached_ns : attached;
    r->first_ns = r->first_ns > first ? r->first_ns : first;
    recovery_look(d, dom);
}

json_t *recovery_phases(const struct domain *dom)
{
    json_t *phases = json_object();

    for (int i = 0; i < PHASES; i++)
        json_object_set_new(phases, phase_names[i], json_integer((json_int_t)dom->phase_us[i]));
    return phases;
}

/* When the last device of this incarnation was open; 0: it has none. */
static uint64_t fence_of(struct daemon *d, const struct domain *dom)
{
    uint64_t last = dom->gate_ns;

    for (struct served s = {0}; driver_next(d, dom, &s);)
        if (split_is_disk(s.i) && s.guest->vbd[s.i].opened_ns > last)
            last = s.guest->vbd[s.i].opened_ns;
    return last;
}

static bool is_behind_its_fence(struct daemon *d, const struct domain *dom)
{
    for (struct served s = {0}; driver_next(d, dom, &s);)
        if (split_is_disk(s.i) && s.guest->vbd[s.i].device == VBD_OPENING)
            return false;
    return !dom->gate || dom->gate_ns;
}

static void finish(struct daemon *d, struct domain *dom)
{
    struct recovery *r = &dom->recovery;
    uint64_t fence = fence_of(d, dom), end = r->first_ns > fence ? r->first_ns : fence;
    /* Until it was drained a planned restart was no outage. */
    uint64_t t0 = r->planned && r->down_ns ? r->down_ns : r->t0_ns;
    int missing = 0;
    char cause[32];

    for (struct served s = {0}; driver_next(d, dom, &s);) {
        missing += s.split->awaited;
        s.split->awaited = false;
    }
    if (!r->first_ns && r->books_ns > end) /* nobody said when */
        end = r->books_ns;
    dom->phase_us[PHASE_FENCE] = microseconds(r->death_ns, fence);
    dom->phase_us[PHASE_HANDOVER] = microseconds(r->death_ns, r->books_ns);
    dom->phase_us[PHASE_RECONNECT] = microseconds(r->death_ns, r->attached_ns);
    dom->phase_us[PHASE_FIRST] = microseconds(r->death_ns, r->first_ns);
    dom->last_downtime_us = microseconds(t0, end);
    dom->last_warm = r->warm;
    r->on = false;
    dom->served = !missing && r->attached_ns; /* by someone who says so */
    cause_text(dom->last_cause, dom->last_status, cause);
    event_tell(d, "recovered", dom,
               json_pack("{s:s,s:b,s:I,s:o,s:i}", "cause", cause, "warm", (int)r->warm, "downtime_us",
                         (json_int_t)dom->last_downtime_us, "phases_us", recovery_phases(dom), "missing",
                         missing));
    session_answer(d, dom, WAIT_START, NULL);
    spare_hurry(dom);
}

void recovery_look(struct daemon *d, struct domain *dom)
{
    bool serves = true, reported = true;

    if (!dom || !dom->recovery.on || !dom->recovery.books_ns || dom->state != ST_RUNNING)
        return;
    for (struct served s = {0}; driver_next(d, dom, &s);) {
        serves = serves && (s.split->connected || !s.split->awaited);
        reported = reported && !s.split->awaited;
    }
    if (serves)
        session_answer(d, dom, WAIT_START, NULL);
    if (reported && is_behind_its_fence(d, dom))
        finish(d, dom);
}

void recovery_tick(struct daemon *d, struct domain *dom, uint64_t now)
{
    if (dom->recovery.on && dom->recovery.give_up_at && now >= dom->recovery.give_up_at &&
        dom->state == ST_RUNNING)
        finish(d, dom);
}
