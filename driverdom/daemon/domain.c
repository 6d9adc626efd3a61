/* SPDX-License-Identifier: MIT */
/*
 * domain.c - what all domains have in common: the states and how they follow
 * each other.
 *
 *   defined -> starting -> running -> stopping -> defined
 *                 |           |
 *                 |           +- died: crashed (once) or backoff (again) -+
 *                 +- failed: defined, or backoff when nobody asked        |
 *                 ^--------------------------------------------- timer ---+
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"

#define LAST_WORDS_BYTES (64u << 10)

struct domain *dom_find(struct daemon *d, const char *name)
{
    for (int i = 0; i < DAEMON_DOMAINS_MAX; i++)
        if (d->domains[i].used && !strcmp(d->domains[i].spec.name, name))
            return &d->domains[i];
    return NULL;
}

struct domain *dom_by_domid(struct daemon *d, domid_t domid)
{
    for (int i = 0; domid && i < DAEMON_DOMAINS_MAX; i++)
        if (d->domains[i].used && d->domains[i].domid == domid)
            return &d->domains[i];
    return NULL;
}

struct domain *dom_new(struct daemon *d, const struct domain_spec *spec)
{
    char spare_log[LOG_NAME_MAX];

    for (int i = 0; i < DAEMON_DOMAINS_MAX; i++) {
        struct domain *dom = &d->domains[i];

        if (dom->used)
            continue;
        memset(dom, 0, sizeof(*dom));
        dom->used = true;
        dom->spec = *spec;
        dom->conn[0] = dom->conn[1] = dom->door_fd = dom->channel[0] = dom->channel[1] = -1;
        dom->link_id = d->keeper.next_id;
        d->keeper.next_id += POLICY_NICS_MAX;
        split_init(dom);
        log_init(&dom->log, spec->name);
        snprintf(spare_log, sizeof(spare_log), "%s@spare", spec->name);
        log_init(&dom->spare.log, spare_log);
        dom->spare.channel[0] = dom->spare.channel[1] = -1;
        return dom;
    }
    return NULL;
}

const char *dom_state_name(const struct domain *dom)
{
    static const char *const names[] = {"defined", "starting", "running", "stopping", "crashed", "backoff"};

    if (dom->state == ST_RUNNING && dom->spec.door == POLICY_DOOR_NATIVE && !dom->attached)
        return "waiting";
    return names[dom->state];
}

bool dom_is_down(const struct domain *dom)
{
    return dom->state == ST_DEFINED;
}

/* --------------------------------------------------------- making, unmaking */

static void close_connections(struct domain *dom)
{
    for (int i = 0; i < 2; i++) {
        if (dom->conn[i] >= 0)
            close(dom->conn[i]);
        dom->conn[i] = -1;
    }
    dom->attached = false;
}

/* Everything that belongs to the process that is no more. */
static void clear_incarnation(struct daemon *d, struct domain *dom)
{
    close_connections(dom);
    if (dom->spec.kind == POLICY_GUEST)
        guest_release(d, dom);
    else
        driver_gone(d, dom);
    dom->alive = dom->unpaused = false;
    dom->domid = 0;
    dom->started_at = 0;
    dom->deadline = 0;
    dom->ping_until = dom->ordered_ns = 0;
    dom->ordered = CAUSE_NONE;
}

/* Kills silently, and forgets. */
static void unmake(struct daemon *d, struct domain *dom)
{
    if (dom->alive)
        hyp_domain_destroy(d->hyp, dom->domid);
    clear_incarnation(d, dom);
}

static void come_to_rest(struct daemon *d, struct domain *dom)
{
    spare_drop(d, dom);
    driver_clean_up(d, dom);
    home_remove(d, dom->old_domid);
    dom->old_domid = 0;
    dom->recovery.on = false;
    dom->plan = PLAN_NONE;
    dom->state = ST_DEFINED;
    dom->start_again = dom->renewing = false;
    dom->deadline = 0;
    door_close(dom);
    keeper_release(d, dom);
}

uint64_t backoff_ms(uint32_t failures, uint64_t most)
{
    uint64_t delay = failures > 1 ? BACKOFF_FIRST_MS : 0;

    for (uint32_t i = 2; i < failures && delay < most; i++)
        delay *= 2;
    return delay < most ? delay : most;
}

static void back_off(struct daemon *d, struct domain *dom)
{
    if (d->stopping) {
        come_to_rest(d, dom);
        session_answer(d, dom, WAIT_STOP | WAIT_KILL, NULL);
        return;
    }
    dom->failures++;
    dom->state = dom->failures > 1 ? ST_BACKOFF : ST_CRASHED;
    dom->automatic = true;
    dom->deadline = now_ms() + backoff_ms(dom->failures, BACKOFF_LAST_MS);
}

static void tell_restarted(struct daemon *d, const struct domain *dom, bool warm)
{
    char cause[32];

    cause_text(dom->last_cause, dom->last_status, cause);
    event_tell(d, "restarted", dom, json_pack("{s:s,s:b}", "cause", cause, "warm", (int)warm));
}

void dom_is_running(struct daemon *d, struct domain *dom, const char *event)
{
    bool reborn = dom->automatic;

    dom->state = ST_RUNNING;
    dom->started_at = now_ms();
    dom->deadline = 0;
    dom->automatic = false;
    event_tell(d, event, dom, NULL);
    if (reborn) {
        dom->restarts++;
        tell_restarted(d, dom, false);
    }
    session_answer(d, dom, WAIT_START, NULL);
    if (dom->spec.kind == POLICY_GUEST) {
        definition_settled(dom);
        spare_guest_up(d, dom);
        return;
    }
    spare_plan(d, dom, reborn ? SETTLE_MS : 0);
    recovery_handed_over(d, dom, false);
}

void dom_start_failed(struct daemon *d, struct domain *dom, const char *sentence)
{
    char copy[DAEMON_SENTENCE_MAX], names[256];

    snprintf(copy, sizeof(copy), "%s", sentence);
    unmake(d, dom);
    event_error(d, dom, "%s", copy);
    /* Guests wait for a driver domain: it is tried again whoever asked. */
    if (dom->automatic || (dom->spec.kind == POLICY_DRIVER && driver_guests(d, dom, names, sizeof(names))))
        back_off(d, dom);
    else
        come_to_rest(d, dom);
    session_answer(d, dom, WAIT_START, copy);
}

/* ------------------------------------------------------ the operator's wishes */

static int begin(struct daemon *d, struct domain *dom, bool automatic, char why[DAEMON_SENTENCE_MAX])
{
    dom->automatic = automatic;
    return dom->spec.kind == POLICY_DRIVER ? driver_start(d, dom, why) : guest_start(d, dom, why);
}

int dom_start(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    enum domain_state was = dom->state;
    bool was_automatic = dom->automatic;
    int rc;

    if (was == ST_STARTING)
        return 0;
    if (was == ST_RUNNING || was == ST_STOPPING || d->stopping) {
        snprintf(why, DAEMON_SENTENCE_MAX, "%s is %s", dom->spec.name,
                 d->stopping         ? "not started: bulkheadd is stopping"
                 : was == ST_RUNNING ? "already running"
                                     : "stopping: wait for it, then start it");
        return -EALREADY;
    }
    rc = begin(d, dom, false, why);
    if (rc) /* refused: a pending automatic restart stays pending */
        dom->automatic = was_automatic;
    else if (dom->state != was)
        dom->failures = 0;
    return rc;
}

int dom_stop(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    char names[256];
    int rc;

    if (dom->state == ST_DEFINED) {
        snprintf(why, DAEMON_SENTENCE_MAX, "%s is not running", dom->spec.name);
        return -EALREADY;
    }
    if (dom->spec.kind == POLICY_DRIVER && driver_guests(d, dom, names, sizeof(names))) {
        snprintf(why, DAEMON_SENTENCE_MAX,
                 "driver domain %s still serves running guests (%s): stop them first", dom->spec.name, names);
        return -EBUSY;
    }
    if (dom->state == ST_STOPPING) {
        dom->start_again = false;
        session_answer(d, dom, WAIT_START, "it was stopped before it started again");
        return 0;
    }
    if (dom->state != ST_RUNNING) {
        unmake(d, dom);
        come_to_rest(d, dom);
        event_tell(d, "stopped", dom, NULL);
        session_answer(d, dom, WAIT_START, "it was stopped before it ran");
        session_answer(d, dom, WAIT_STOP, NULL);
        return 0;
    }
    /* No program behind a native guest: no one would read the wish. */
    if (dom->spec.door == POLICY_DOOR_NATIVE && !dom->attached)
        rc = hyp_domain_destroy(d->hyp, dom->domid);
    else
        rc = hyp_domain_stop(d->hyp, dom->domid);
    if (rc) {
        snprintf(why, DAEMON_SENTENCE_MAX, "the core would not stop %s: %s", dom->spec.name, strerror(-rc));
        return rc;
    }
    spare_drop(d, dom);
    dom->plan = PLAN_NONE;
    dom->ordered = CAUSE_PLANNED;
    dom->state = ST_STOPPING;
    dom->start_again = false;
    dom->deadline = now_ms() + STOP_WAIT_MS;
    return 0;
}

static int restart_cold(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    int rc = hyp_domain_stop(d->hyp, dom->domid);

    if (rc) {
        snprintf(why, DAEMON_SENTENCE_MAX, "the core would not stop %s: %s", dom->spec.name, strerror(-rc));
        return rc;
    }
    if (dom->spec.door == POLICY_DOOR_NATIVE && !dom->attached)
        hyp_domain_destroy(d->hyp, dom->domid);
    spare_drop(d, dom);
    dom->plan = PLAN_NONE;
    dom->ordered_ns = monotonic_ns();
    dom->ordered = CAUSE_PLANNED;
    dom->state = ST_STOPPING;
    dom->start_again = true;
    dom->deadline = now_ms() + STOP_WAIT_MS;
    return 0;
}

int dom_restart(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    if (dom->state != ST_RUNNING) {
        snprintf(why, DAEMON_SENTENCE_MAX, "%s is not running: start it instead", dom->spec.name);
        return -EALREADY;
    }
    if (dom->spec.kind == POLICY_DRIVER && !*spare_why_not(dom))
        return spare_restart(d, dom, why);
    return restart_cold(d, dom, why);
}

void dom_renew(struct daemon *d, struct domain *dom)
{
    char why[DAEMON_SENTENCE_MAX];

    if (d->stopping)
        return;
    if (restart_cold(d, dom, why))
        event_error(d, dom, "%s", why);
    else
        dom->renewing = true;
}

void dom_put_down(struct daemon *d, struct domain *dom, enum cause cause)
{
    dom->ordered_ns = monotonic_ns();
    dom->ordered = cause;
    hyp_domain_destroy(d->hyp, dom->domid);
}

int dom_kill(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    uint64_t at = monotonic_ns();
    int rc = dom->domid ? hyp_domain_destroy(d->hyp, dom->domid) : -ESRCH;

    if (!rc) {
        dom->ordered_ns = at;
        dom->ordered = CAUSE_NONE;
    }
    if (rc == -ESRCH)
        snprintf(why, DAEMON_SENTENCE_MAX, "%s is not running: there is nothing to kill", dom->spec.name);
    else if (rc)
        snprintf(why, DAEMON_SENTENCE_MAX, "the core would not kill %s: %s", dom->spec.name, strerror(-rc));
    return rc;
}

/* --------------------------------------------------------------- what happens */

static void describe_end(const struct domain *dom, int status, char *out, size_t cap)
{
    if (dom->spec.door == POLICY_DOOR_NATIVE)
        snprintf(out, cap, "its program let go of it");
    else if (WIFSIGNALED(status))
        snprintf(out, cap, "it was killed by signal %d (SIG%s)", WTERMSIG(status),
                 sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "?");
    else
        snprintf(out, cap, "it exited with status %d", WEXITSTATUS(status));
}

/* What it died of, for those who ask later and for those who listen. */
static void note_cause(struct daemon *d, struct domain *dom, int status)
{
    bool broke_off = dom->ordered == CAUSE_PLANNED && WIFSIGNALED(status); /* died of something else */
    json_t *detail = json_object();
    char cause[32];

    dom->last_cause = WIFSIGNALED(status) ? CAUSE_SIGNAL : CAUSE_EXIT;
    dom->last_status = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    if (dom->spec.door == POLICY_DOOR_NATIVE)
        dom->last_cause = CAUSE_DETACHED;
    else if (dom->ordered != CAUSE_NONE && !broke_off)
        dom->last_cause = dom->ordered;
    dom->deaths[dom->last_cause]++;
    if (dom->state == ST_STOPPING || (dom->plan == PLAN_STOP && !broke_off)) { /* as it was asked to */
        json_decref(detail);
        return;
    }
    cause_text(dom->last_cause, dom->last_status, cause);
    json_object_set_new(detail, "cause", json_string(cause));
    if (dom->spec.door == POLICY_DOOR_NATIVE)
        json_object_set_new(detail, "detached", json_true());
    else if (WIFSIGNALED(status))
        json_object_set_new(detail, "signal", json_integer(WTERMSIG(status)));
    else
        json_object_set_new(detail, "exit_status", json_integer(WEXITSTATUS(status)));
    event_tell(d, "died", dom, detail);
}

static void stopped(struct daemon *d, struct domain *dom)
{
    char why[DAEMON_SENTENCE_MAX];
    bool again = dom->start_again && !d->stopping, renewing = dom->renewing;

    event_tell(d, "stopped", dom, NULL);
    clear_incarnation(d, dom);
    dom->start_again = dom->renewing = false;
    dom->state = ST_DEFINED;
    session_answer(d, dom, WAIT_STOP | WAIT_KILL, NULL);
    if (again) {
        dom->failures = 0;
        if (!begin(d, dom, renewing, why))
            return;
        event_error(d, dom, "%s", why);
        session_answer(d, dom, WAIT_START, why);
        if (renewing) {
            back_off(d, dom);
            return;
        }
    }
    come_to_rest(d, dom);
}

/* True: it goes on by its spare, or with what was to be one. */
static bool go_on(struct daemon *d, struct domain *dom, bool ordered)
{
    bool planned = dom->last_cause == CAUSE_PLANNED;

    if (spare_takes_over(d, dom)) {
        dom->failures += !ordered;
        dom->restarts += !planned;
        tell_restarted(d, dom, true);
        spare_plan(d, dom, SETTLE_MS + backoff_ms(dom->failures, SPARE_LAST_MS));
        recovery_handed_over(d, dom, true);
        return true;
    }
    if (!spare_goes_on(d, dom))
        return false;
    dom->failures++;
    dom->automatic = true;
    return true;
}

void dom_died(struct daemon *d, struct domain *dom, int status, uint64_t at_ns)
{
    char how[96], why[DAEMON_SENTENCE_MAX];
    bool was_attached = dom->attached, driver = dom->spec.kind == POLICY_DRIVER;
    bool ordered = dom->ordered_ns && (dom->ordered == CAUSE_NONE || dom->ordered == CAUSE_PLANNED);

    dom->alive = false;
    /* A loop is what never gets to serve.  An operator may kill as often as he likes,
     * and a program that came and went is no crash of a native guest. */
    if (ordered || dom->served || was_attached ||
        (dom->started_at && now_ms() - dom->started_at > BACKOFF_FORGET_MS))
        dom->failures = 0;
    dom->served = false;
    log_pump(&dom->log, LAST_WORDS_BYTES);
    if (driver && (dom->state == ST_RUNNING || (dom->state == ST_STOPPING && dom->start_again)))
        recovery_begin(d, dom, at_ns);
    describe_end(dom, status, how, sizeof(how));
    if (dom->state != ST_STOPPING)
        log_say(&dom->log, "bulkheadd: domain %u died: %s", dom->domid, how);
    note_cause(d, dom, status);
    if (dom->state == ST_STOPPING) {
        stopped(d, dom);
        return;
    }
    if (dom->state == ST_STARTING) {
        snprintf(why, sizeof(why), "%s died while it was starting: %s; see: bulkhead log %s", dom->spec.name,
                 how, dom->spec.name);
        dom_start_failed(d, dom, why);
        session_answer(d, dom, WAIT_KILL, NULL);
        return;
    }
    if (driver && !d->stopping && go_on(d, dom, ordered)) {
        session_answer(d, dom, WAIT_KILL, NULL);
        return;
    }
    clear_incarnation(d, dom);
    back_off(d, dom);
    session_answer(d, dom, WAIT_KILL, NULL);
    if (was_attached && dom->deadline)
        dom->deadline = now_ms();
}

static struct domain *dom_by_spare(struct daemon *d, domid_t domid)
{
    for (int i = 0; domid && i < DAEMON_DOMAINS_MAX; i++)
        if (d->domains[i].used && d->domains[i].spare.domid == domid)
            return &d->domains[i];
    return NULL;
}

void dom_event(struct daemon *d, const struct hyp_event *ev)
{
    struct domain *dom = dom_by_domid(d, ev->domid), *spared = dom ? NULL : dom_by_spare(d, ev->domid);

    switch (ev->kind) {
    case HYP_EV_DEATH:
        if (dom && dom->spare.was_armed)
            daemon_stand_back();
        if (dom)
            dom_died(d, dom, ev->error, ev->at_ns);
        else if (spared)
            spare_died(d, spared, ev->error);
        break;
    case HYP_EV_READY:
        if (dom && dom->spec.kind == POLICY_DRIVER)
            driver_ready(d, dom);
        else if (spared)
            spare_ready(d, spared);
        else if (dom)
            guest_connected(d, dom);
        break;
    case HYP_EV_DEVICE:
        guest_device(d, ev);
        if (dom || spared)
            driver_device(d, dom ? dom : spared, ev);
        break;
    case HYP_EV_STOP:
        break;
    }
}

/* A watch tells what is there as soon as it is set: nothing is missed. */
void dom_adopted(struct daemon *d, struct domain *dom)
{
    const domid_t processes[] = {dom->domid, dom->spare.domid};
    int rc = 0;

    for (int i = 0; dom->spec.kind == POLICY_DRIVER && i < 2; i++)
        if (processes[i] && !rc)
            rc = heartbeat_watch(d, processes[i], true);
    for (unsigned i = 0; !rc && split_next(dom, &i); i++)
        rc = split_watch(d, dom, i);
    if (rc)
        event_error(d, dom, "the store would not watch its nodes: %s", strerror(-rc));
}

/* Its start took too long. */
static void late_sentence(struct daemon *d, const struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    char error[160] = "";

    if (dom->spec.kind == POLICY_DRIVER ? !dom->unpaused : !dom->built) {
        snprintf(
            why, DAEMON_SENTENCE_MAX,
            "what %s needs was not there in %d s (the keeper of network interfaces is slow, or a file is); "
            "see: bulkhead log @netdev",
            dom->spec.name, READY_WAIT_MS / 1000);
        return;
    }
    if (dom->spec.kind == POLICY_DRIVER) {
        snprintf(why, DAEMON_SENTENCE_MAX, "driver domain %s was not ready in %d s; see: bulkhead log %s",
                 dom->spec.name, READY_WAIT_MS / 1000, dom->spec.name);
        return;
    }
    for (unsigned i = 0; !*error && split_next(dom, &i); i++)
        if (!dom->split[i].connected)
            split_backend_error(d, dom, i, error, sizeof(error));
    snprintf(why, DAEMON_SENTENCE_MAX, "the %s of %s were not connected in %d s%s%s; see: bulkhead log %s",
             split_words(dom), dom->spec.name, CONNECT_WAIT_MS / 1000, *error ? ": " : "", error,
             dom->spec.name);
}

void dom_tick(struct daemon *d, struct domain *dom, uint64_t now)
{
    char why[DAEMON_SENTENCE_MAX];

    if (dom->spec.kind == POLICY_GUEST) {
        guest_tick(d, dom, now);
    } else {
        heartbeat_tick(d, dom, now);
        recovery_tick(d, dom, now);
        spare_tick(d, dom, now);
    }
    if (!dom->deadline || now < dom->deadline)
        return;
    dom->deadline = 0;
    switch (dom->state) {
    case ST_CRASHED:
    case ST_BACKOFF:
        if (begin(d, dom, true, why)) {
            event_error(d, dom, "%s", why);
            back_off(d, dom);
        }
        break;
    case ST_STOPPING:
        event_error(d, dom, "%s did not stop in %d s: killed", dom->spec.name, STOP_WAIT_MS / 1000);
        hyp_domain_destroy(d->hyp, dom->domid);
        break;
    case ST_STARTING:
        late_sentence(d, dom, why);
        dom_start_failed(d, dom, why);
        break;
    case ST_DEFINED:
    case ST_RUNNING:
        break;
    }
}

uint64_t dom_next_tick(const struct domain *dom)
{
    bool driver = dom->spec.kind == POLICY_DRIVER;
    const uint64_t times[] = {dom->deadline, driver ? dom->ping_until : 0,
                              driver && dom->recovery.on ? dom->recovery.give_up_at : 0,
                              driver ? spare_next_tick(dom) : guest_next_tick(dom)};
    uint64_t next = 0;

    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        if (times[i] && (!next || times[i] < next))
            next = times[i];
    return next;
}
