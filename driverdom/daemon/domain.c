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

enum hyp_class dom_class(const struct domain_spec *spec)
{
    static const enum hyp_class doors[] = {
        [POLICY_DOOR_NBD] = HYP_CLASS_NBD,
        [POLICY_DOOR_NATIVE] = HYP_CLASS_NATIVE,
        [POLICY_DOOR_TAP] = HYP_CLASS_TAP,
    };

    if (spec->kind == POLICY_DRIVER)
        return spec->cls == POLICY_CLASS_NET ? HYP_CLASS_NET : HYP_CLASS_BLK;
    return doors[spec->door];
}

/* fds[0] is the domain's stderr, which it keeps as descriptor 5. */
int dom_make(struct daemon *d, struct domain *dom, const int *more_fds, unsigned n)
{
    struct hyp_domain_config cfg = {.class_id = dom_class(&dom->spec), .cpus = dom->spec.cpus};
    int fds[HYP_FDS_MAX], writer, rc;

    /* A guest's <memory> is the guest's own; what serves it is sized by its class. */
    if (dom->spec.kind == POLICY_DRIVER)
        cfg.memory_bytes = dom->spec.memory_bytes;
    snprintf(cfg.name, sizeof(cfg.name), "%s", dom->spec.name);
    if (cfg.class_id == HYP_CLASS_NATIVE) {
        rc = hyp_domain_create(d->hyp, &cfg, NULL, 0, &dom->domid, dom->conn);
        dom->alive = !rc;
        return rc;
    }
    log_pump(&dom->log, LAST_WORDS_BYTES);
    rc = log_pipe(&dom->log, &writer);
    if (rc)
        return rc;
    fds[0] = writer;
    for (unsigned i = 0; i < n; i++)
        fds[1 + i] = more_fds[i];
    rc = hyp_domain_create(d->hyp, &cfg, fds, 1 + n, &dom->domid, dom->conn);
    close(writer);
    dom->alive = !rc;
    return rc;
}

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
    home_remove(d, dom->old_domid);
    dom->old_domid = 0;
    dom->state = ST_DEFINED;
    dom->start_again = dom->renewing = false;
    dom->deadline = 0;
    door_close(dom);
    keeper_release(d, dom);
}

static void back_off(struct daemon *d, struct domain *dom)
{
    uint64_t delay = BACKOFF_FIRST_MS;

    if (d->stopping) {
        come_to_rest(d, dom);
        session_answer(d, dom, WAIT_STOP | WAIT_KILL, NULL);
        return;
    }
    for (uint32_t i = 1; i < dom->failures && delay < BACKOFF_LAST_MS; i++)
        delay *= 2;
    if (delay > BACKOFF_LAST_MS)
        delay = BACKOFF_LAST_MS;
    dom->failures++;
    dom->state = dom->failures > 1 ? ST_BACKOFF : ST_CRASHED;
    dom->automatic = true;
    dom->deadline = now_ms() + delay;
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
        event_tell(d, "restarted", dom, NULL);
    }
    session_answer(d, dom, WAIT_START, NULL);
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
    dom->state = ST_STOPPING;
    dom->start_again = false;
    dom->deadline = now_ms() + STOP_WAIT_MS;
    return 0;
}

int dom_restart(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    int rc;

    if (dom->state != ST_RUNNING) {
        snprintf(why, DAEMON_SENTENCE_MAX, "%s is not running: start it instead", dom->spec.name);
        return -EALREADY;
    }
    rc = hyp_domain_stop(d->hyp, dom->domid);
    if (rc) {
        snprintf(why, DAEMON_SENTENCE_MAX, "the core would not stop %s: %s", dom->spec.name, strerror(-rc));
        return rc;
    }
    if (dom->spec.door == POLICY_DOOR_NATIVE && !dom->attached)
        hyp_domain_destroy(d->hyp, dom->domid);
    dom->state = ST_STOPPING;
    dom->start_again = true;
    dom->deadline = now_ms() + STOP_WAIT_MS;
    return 0;
}

void dom_renew(struct daemon *d, struct domain *dom)
{
    char why[DAEMON_SENTENCE_MAX];

    if (d->stopping)
        return;
    if (dom_restart(d, dom, why))
        event_error(d, dom, "%s", why);
    else
        dom->renewing = true;
}

int dom_kill(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    int rc = dom->domid ? hyp_domain_destroy(d->hyp, dom->domid) : -ESRCH;

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

static void tell_died(struct daemon *d, const struct domain *dom, int status)
{
    json_t *detail = json_object();

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

void dom_died(struct daemon *d, struct domain *dom, int status)
{
    char how[96], why[DAEMON_SENTENCE_MAX];
    bool was_attached = dom->attached;

    dom->alive = false;
    log_pump(&dom->log, LAST_WORDS_BYTES);
    if (dom->state == ST_STOPPING) {
        stopped(d, dom);
        return;
    }
    describe_end(dom, status, how, sizeof(how));
    log_say(&dom->log, "bulkheadd: domain %u died: %s", dom->domid, how);
    tell_died(d, dom, status);
    if (dom->state == ST_STARTING) {
        snprintf(why, sizeof(why), "%s died while it was starting: %s; see: bulkhead log %s", dom->spec.name,
                 how, dom->spec.name);
        dom_start_failed(d, dom, why);
        session_answer(d, dom, WAIT_KILL, NULL);
        return;
    }
    /* A program that came and went is no crash of a native guest. */
    if (was_attached || now_ms() - dom->started_at > BACKOFF_FORGET_MS)
        dom->failures = 0;
    clear_incarnation(d, dom);
    back_off(d, dom);
    session_answer(d, dom, WAIT_KILL, NULL);
    if (was_attached && dom->deadline)
        dom->deadline = now_ms();
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
    for (unsigned i = 0; i < dom->nsplits && !*error; i++)
        if (!dom->split[i].connected)
            split_backend_error(d, dom, i, error, sizeof(error));
    snprintf(why, DAEMON_SENTENCE_MAX, "the %s of %s were not connected in %d s%s%s; see: bulkhead log %s",
             split_words(dom), dom->spec.name, CONNECT_WAIT_MS / 1000, *error ? ": " : "", error,
             dom->spec.name);
}

void dom_tick(struct daemon *d, struct domain *dom, uint64_t now)
{
    char why[DAEMON_SENTENCE_MAX];

    if (dom->spec.kind == POLICY_GUEST)
        guest_tick(d, dom, now);
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
    uint64_t disks = dom->spec.kind == POLICY_GUEST ? guest_next_tick(dom) : 0;

    if (!dom->deadline || (disks && disks < dom->deadline))
        return disks;
    return dom->deadline;
}
