/* SPDX-License-Identifier: MIT */
/*
 * spare.c - the next incarnation of a driver domain, kept ready.
 *
 * A spare is a second process of the same kind.  It lacks one thing, the device:
 * that was assigned to it ahead, and the core's opener waits at the fence.  When
 * the incarnation dies the fence itself starts the spare, whether this daemon
 * looks or not; what is here are the books.
 *
 *   none -> waiting -> starting -> ready -> (it is the incarnation)
 *              ^           |         |
 *              +-----------+---------+ died: again, with back-off
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"

const char *spare_why_not(const struct domain *dom)
{
    if (dom->spec.kind != POLICY_DRIVER || !dom->spec.spare)
        return "its definition wants none";
    switch (dom->spec.pmd) {
    case POLICY_PMD_AF_XDP:
    case POLICY_PMD_TAP:
    case POLICY_PMD_PCAP:
        return "its kind of uplink cannot be held twice";
    default:
        return "";
    }
}

/* ------------------------------------------------------------ connections ahead */

static bool is_ram(const struct domain *guest, unsigned i)
{
    return split_is_disk(i) && guest->spec.disks[i].source == POLICY_SOURCE_RAM;
}

/* A second who waits at the fence may be let in first: the incarnation has it before. */
static bool has_device(const struct domain *dom, const struct domain *guest, unsigned i)
{
    return split_is_disk(i) ? guest->vbd[i].device == VBD_OPEN : !dom->gate || dom->gate_ns;
}

/* A device that cannot stand by moves in the ordinary way when its time comes. */
static void stand_by(struct daemon *d, struct domain *dom, struct domain *guest, unsigned i)
{
    struct split *split = &guest->split[i];
    char why[DAEMON_SENTENCE_MAX];
    int rc = 0;

    if (is_ram(guest, i) || split->at != SPLIT_STANDS || guest->state != ST_RUNNING ||
        !has_device(dom, guest, i))
        return;
    if (split_is_disk(i))
        rc = vbd_assign_ahead(d, guest, i, &dom->spare);
    if (rc) {
        vbd_open_sentence(guest, i, rc, why);
        event_error(d, guest, "%s", why);
        return;
    }
    split->armed = false;
    rc = split_write_nodes(d, guest, i, !split->live, dom->spare.domid, true);
    if (!rc)
        return;
    event_error(d, guest, "the store would not take the nodes of %s: %s", split->dev, strerror(-rc));
    if (split_is_disk(i))
        vbd_release_ahead(d, guest, i, dom->spare.domid);
}

void spare_guest_up(struct daemon *d, struct domain *guest)
{
    for (unsigned i = 0; split_next(guest, &i); i++) {
        struct domain *dom = dom_find(d, guest->split[i].backend);

        if (!dom || dom->spare.at != SPARE_READY)
            continue;
        stand_by(d, dom, guest, i);
        spare_look(d, dom);
    }
}

void spare_device_up(struct daemon *d, struct domain *guest, unsigned i)
{
    struct domain *dom = dom_find(d, guest->split[i].backend);

    if (!dom || dom->spare.at != SPARE_READY ||
        guest->split[i].nodes_be[!guest->split[i].live] == dom->spare.domid)
        return;
    stand_by(d, dom, guest, i);
    spare_look(d, dom);
}

bool spare_is_armed(struct daemon *d, const struct domain *dom)
{
    if (dom->spare.at != SPARE_READY)
        return false;
    for (struct served s = {0}; driver_next(d, dom, &s);)
        if (s.split->connected && !s.split->armed && !is_ram(s.guest, s.i))
            return false;
    return true;
}

/* ------------------------------------------------------------- making, unmaking */

/* Everything of a process that is dead, or as good as. */
static void forget(struct daemon *d, struct domain *dom)
{
    struct spare *spare = &dom->spare;

    for (struct served s = {0}; spare->domid && driver_next(d, dom, &s);) {
        if (split_is_disk(s.i))
            vbd_release_ahead(d, s.guest, s.i, 0);
        if (s.split->nodes_be[!s.split->live] == spare->domid)
            split_remove_nodes(d, s.guest, s.i, !s.split->live);
    }
    if (spare->domid) {
        heartbeat_watch(d, spare->domid, false);
        home_remove(d, spare->domid);
    }
    keeper_close_channel(spare->channel);
    spare->kept.at = KEPT_NONE;
    spare->at = SPARE_NONE;
    spare->domid = 0;
    spare->alive = spare->unpaused = spare->was_armed = false;
    spare->make_at = spare->deadline = spare->started_at = 0;
    spare->gate = 0;
}

void spare_drop(struct daemon *d, struct domain *dom)
{
    if (dom->spare.at == SPARE_NONE)
        return;
    if (dom->spare.alive)
        hyp_domain_destroy(d->hyp, dom->spare.domid);
    forget(d, dom);
}

/* A planned restart is not done when there is nothing to go on with. */
static void give_up_plan(struct daemon *d, struct domain *dom, const char *sentence)
{
    if (dom->plan != PLAN_ARM)
        return;
    dom->plan = PLAN_NONE;
    session_answer(d, dom, WAIT_START, sentence);
}

static void again(struct daemon *d, struct domain *dom)
{
    uint32_t failures = ++dom->spare.failures;

    forget(d, dom);
    if (d->stopping)
        return;
    dom->spare.at = SPARE_WAITING;
    dom->spare.make_at = now_ms() + backoff_ms(failures + 1, BACKOFF_LAST_MS);
}

void spare_failed(struct daemon *d, struct domain *dom, const char *sentence)
{
    char copy[DAEMON_SENTENCE_MAX];

    snprintf(copy, sizeof(copy), "%s", sentence);
    if (dom->spare.alive)
        hyp_domain_destroy(d->hyp, dom->spare.domid);
    event_error(d, dom, "its spare: %s", copy);
    give_up_plan(d, dom, copy);
    again(d, dom);
}

static int set_up(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    struct spare *spare = &dom->spare;
    int rc = home_make(d, dom->spec.name, spare->domid);

    if (!rc)
        rc = heartbeat_watch(d, spare->domid, true);
    if (!rc && dom->spec.cls == POLICY_CLASS_NET) {
        spare->gate = ++spare->next_device;
        rc = uplink_prepare_spare(d, dom, why);
        return rc ? rc : driver_gate(d, dom, spare->domid, spare->gate, why);
    }
    if (rc)
        snprintf(why, DAEMON_SENTENCE_MAX, "it could not be set up: %s", strerror(-rc));
    return rc;
}

static void launch(struct daemon *d, struct domain *dom)
{
    struct spare *spare = &dom->spare;
    char why[DAEMON_SENTENCE_MAX];
    int rc = dom_make_spare(d, dom, &spare->channel[1], dom->spec.cls == POLICY_CLASS_NET);

    keeper_channel_passed(spare->channel);
    spare->next_device = 0;
    spare->gate_ns = 0;
    if (rc) {
        snprintf(why, sizeof(why), "the core would not make it: %s", strerror(-rc));
    } else {
        rc = set_up(d, dom, why);
        if (!rc) {
            rc = hyp_domain_unpause(d->hyp, spare->domid);
            snprintf(why, sizeof(why), "it could not be set up: %s", strerror(-rc));
        }
    }
    if (rc)
        spare_failed(d, dom, why);
    else
        spare->unpaused = true;
}

/* The sockets of its uplink first, as for any incarnation. */
static void make(struct daemon *d, struct domain *dom)
{
    struct spare *spare = &dom->spare;
    char why[DAEMON_SENTENCE_MAX];

    spare->at = SPARE_STARTING;
    spare->make_at = 0;
    spare->deadline = now_ms() + READY_WAIT_MS;
    if (dom->spec.cls == POLICY_CLASS_NET && keeper_channel(spare->channel, dom->spec.name, why)) {
        spare_failed(d, dom, why);
    } else if (uplink_needs_keeper(&dom->spec)) {
        spare->kept.at = KEPT_TO_ASK;
        keeper_ask(d);
    } else {
        launch(d, dom);
    }
}

void spare_uplink(struct daemon *d, struct domain *dom, int error, const char *text)
{
    if (error) {
        spare_failed(d, dom, text);
        return;
    }
    dom->spare.kept.at = KEPT_HELD;
    launch(d, dom);
}

void spare_plan(struct daemon *d, struct domain *dom, uint64_t delay)
{
    if (*spare_why_not(dom) || d->stopping)
        return;
    dom->spare.at = SPARE_WAITING;
    dom->spare.make_at = now_ms() + delay;
}

void spare_hurry(struct domain *dom)
{
    if (dom->spare.at == SPARE_WAITING && !dom->spare.failures && !backoff_ms(dom->failures, SPARE_LAST_MS))
        dom->spare.make_at = now_ms() + CATCH_UP_MS;
}

/* ------------------------------------------------------------------ what happens */

void spare_ready(struct daemon *d, struct domain *dom)
{
    if (dom->spare.at != SPARE_STARTING)
        return;
    dom->spare.at = SPARE_READY;
    dom->spare.deadline = 0;
    dom->spare.started_at = now_ms();
    for (struct served s = {0}; driver_next(d, dom, &s);)
        stand_by(d, dom, s.guest, s.i);
    event_tell(d, "spare_ready", dom, json_pack("{s:i}", "spare_domid", (int)dom->spare.domid));
    spare_look(d, dom);
}

void spare_died(struct daemon *d, struct domain *dom, int status)
{
    struct spare *spare = &dom->spare;
    char sentence[DAEMON_SENTENCE_MAX], cause[32];

    log_pump(&spare->log, LOG_FILE_MAX);
    spare->alive = false;
    if (spare->started_at && now_ms() - spare->started_at > BACKOFF_FORGET_MS)
        spare->failures = 0;
    cause_text(WIFSIGNALED(status) ? CAUSE_SIGNAL : CAUSE_EXIT,
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), cause);
    event_tell(d, "spare_died", dom,
               json_pack("{s:i,s:s}", "spare_domid", (int)spare->domid, "cause", cause));
    snprintf(sentence, sizeof(sentence), "the spare of %s died (%s); see: bulkhead log %s", dom->spec.name,
             cause, spare->log.name);
    give_up_plan(d, dom, sentence);
    again(d, dom);
}

static void stop_incarnation(struct daemon *d, struct domain *dom)
{
    char why[DAEMON_SENTENCE_MAX];
    int rc = hyp_domain_stop(d->hyp, dom->domid);

    if (rc) {
        snprintf(why, sizeof(why), "the core would not stop %s: %s", dom->spec.name, strerror(-rc));
        give_up_plan(d, dom, why);
        return;
    }
    dom->plan = PLAN_STOP;
    dom->plan_until = now_ms() + STOP_WAIT_MS;
    dom->ordered_ns = monotonic_ns();
    dom->ordered = CAUSE_PLANNED;
}

void spare_look(struct daemon *d, struct domain *dom)
{
    bool armed = spare_is_armed(d, dom);

    if (armed && !dom->spare.was_armed)
        event_tell(d, "spare_armed", dom, json_pack("{s:i}", "spare_domid", (int)dom->spare.domid));
    dom->spare.was_armed = armed;
    if (armed && dom->plan == PLAN_ARM)
        stop_incarnation(d, dom);
}

int spare_restart(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    if (dom->plan != PLAN_NONE) {
        snprintf(why, DAEMON_SENTENCE_MAX, "%s is being restarted already", dom->spec.name);
        return -EALREADY;
    }
    spare_drop(d, dom);
    driver_clean_up(d, dom);
    dom->spare.failures = 0;
    dom->plan = PLAN_ARM;
    dom->plan_until = now_ms() + READY_WAIT_MS;
    session_progress(d, dom, "making the next incarnation of %s", dom->spec.name);
    make(d, dom);
    return 0;
}

/* --------------------------------------------------------------------- takeover */

/* Its process and all that is its own. */
static void become(struct domain *dom)
{
    struct spare *spare = &dom->spare;

    dom->domid = spare->domid;
    dom->alive = spare->alive;
    dom->unpaused = spare->unpaused;
    dom->next_device = spare->next_device;
    dom->gate = spare->gate;
    dom->gate_ns = spare->gate_ns;
    memcpy(dom->channel, spare->channel, sizeof(dom->channel));
    spare->channel[0] = spare->channel[1] = -1;
    /* Its stderr is heard in the domain's log from now on. */
    if (dom->log.pipe >= 0)
        close(dom->log.pipe);
    dom->log.pipe = spare->log.pipe;
    dom->log.fill = spare->log.fill;
    memcpy(dom->log.line, spare->log.line, spare->log.fill);
    spare->log.pipe = -1;
    spare->log.fill = 0;
    spare->kept.at = KEPT_NONE;
    spare->at = SPARE_NONE;
    spare->domid = 0;
    spare->gate = 0;
    spare->alive = spare->unpaused = spare->was_armed = false;
    spare->make_at = spare->deadline = spare->started_at = 0;
    dom->plan = PLAN_NONE;
    dom->ping_until = dom->ordered_ns = 0;
    dom->ordered = CAUSE_NONE;
}

bool spare_takes_over(struct daemon *d, struct domain *dom)
{
    if (dom->spare.at != SPARE_READY)
        return false;
    driver_clean_up(d, dom);
    uplink_clear(dom);
    driver_lost(d, dom);
    dom->old_domid = dom->domid;
    become(dom);
    dom->spare.failures = 0;
    dom->incarnation++;
    dom->started_at = now_ms();
    for (struct served s = {0}; driver_next(d, dom, &s);) {
        if (s.split->nodes_be[!s.split->live] != dom->domid) {
            driver_move(d, dom, s.guest, s.i);
            continue;
        }
        s.split->live = !s.split->live;
        s.split->be = dom->domid;
        s.split->armed = false;
        *s.split->error = '\0';
        split_is_live(d, s.guest, s.i);
        if (split_is_disk(s.i)) {
            s.guest->vbd[s.i] = s.guest->ahead[s.i];
            s.guest->ahead[s.i] = (struct vbd){.device = VBD_NONE};
        }
    }
    return true;
}

bool spare_goes_on(struct daemon *d, struct domain *dom)
{
    if (dom->spare.at != SPARE_STARTING)
        return false;
    driver_gone(d, dom);
    if (uplink_needs_keeper(&dom->spec))
        dom->uplink.kept.at = dom->spare.kept.at;
    become(dom);
    if (dom->domid)
        dom->incarnation++;
    dom->started_at = 0;
    dom->state = ST_STARTING;
    dom->deadline = now_ms() + READY_WAIT_MS;
    event_tell(d, "starting", dom, NULL);
    return true;
}

/* ------------------------------------------------------------------------- time */

void spare_tick(struct daemon *d, struct domain *dom, uint64_t now)
{
    char why[DAEMON_SENTENCE_MAX];

    if (dom->state != ST_RUNNING)
        return;
    if (dom->spare.at == SPARE_WAITING && now >= dom->spare.make_at && dom->gate && !dom->gate_ns) {
        dom->spare.make_at = now + OPEN_RETRY_MS; /* as has_device(): the gate is one too */
    } else if (dom->spare.at == SPARE_WAITING && now >= dom->spare.make_at) {
        driver_clean_up(d, dom);
        make(d, dom);
    }
    if (dom->spare.at == SPARE_STARTING && now >= dom->spare.deadline) {
        snprintf(why, sizeof(why), "it was not ready in %d s; see: bulkhead log %s", READY_WAIT_MS / 1000,
                 dom->spare.log.name);
        spare_failed(d, dom, why);
    }
    if (dom->plan == PLAN_ARM && now >= dom->plan_until) {
        /* Frontends that did not arm it come the ordinary way. */
        if (dom->spare.at == SPARE_READY)
            stop_incarnation(d, dom);
        else
            give_up_plan(d, dom, "its next incarnation was not ready; the old one runs on");
    } else if (dom->plan == PLAN_STOP && dom->plan_until && now >= dom->plan_until) {
        dom->plan_until = 0;
        event_error(d, dom, "%s did not stop in %d s: killed", dom->spec.name, STOP_WAIT_MS / 1000);
        hyp_domain_destroy(d->hyp, dom->domid);
    }
}

uint64_t spare_next_tick(const struct domain *dom)
{
    const uint64_t times[] = {dom->spare.at == SPARE_WAITING ? dom->spare.make_at : 0,
                              dom->spare.at == SPARE_STARTING ? dom->spare.deadline : 0,
                              dom->plan != PLAN_NONE ? dom->plan_until : 0};
    uint64_t next = 0;

    for (int i = 0; i < 3 && dom->state == ST_RUNNING; i++)
        if (times[i] && (!next || times[i] < next))
            next = times[i];
    return next;
}
