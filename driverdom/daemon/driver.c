/* SPDX-License-Identifier: MIT */
/* driver.c - a driver domain's start, its readiness, and what its death means to guests. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon.h"

static void gate_file(const struct domain *dom, char out[POLICY_NAME_MAX + 16])
{
    snprintf(out, POLICY_NAME_MAX + 16, "gates/%s", dom->spec.name);
}

/*
 * The gate is to a net driver domain what its disk is to the other kind: the
 * kernel gives the lock to the next incarnation when the last one is gone.
 */
int driver_gate(struct daemon *d, const struct domain *dom, domid_t domid, uint32_t number,
                char why[DAEMON_SENTENCE_MAX])
{
    char file[POLICY_NAME_MAX + 16], path[HYP_PATH_MAX], home[STORE_PATH_MAX];
    int fd, rc = 0;

    gate_file(dom, file);
    fd = open(file, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno == ENOENT && !mkdir("gates", 0755))
        fd = open(file, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        rc = -errno;
    else
        close(fd);
    snprintf(path, sizeof(path), "%s/%s", d->run_dir, file);
    if (!rc)
        rc = hyp_device_assign(d->hyp, domid, number, path, 0);
    snprintf(home, sizeof(home), "/local/domain/%u", domid);
    if (!rc)
        rc = store_printf(d->store, STORE_NO_TXN, home, "gate", "%u", number);
    if (rc)
        snprintf(why, DAEMON_SENTENCE_MAX, "driver domain %s: cannot use %.300s: %s", dom->spec.name, path,
                 device_error_text(rc));
    return rc;
}

void driver_forget_gate(const struct domain *dom)
{
    char file[POLICY_NAME_MAX + 16];

    gate_file(dom, file);
    unlink(file);
}

/* Its process, which does not run yet, its home, and the files of its uplink. */
static int make(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    bool net = dom->spec.cls == POLICY_CLASS_NET;
    int rc = dom_make(d, dom, &dom->channel[1], net);

    keeper_channel_passed(dom->channel);
    if (rc) {
        snprintf(why, DAEMON_SENTENCE_MAX, "the core would not make driver domain %s: %s", dom->spec.name,
                 strerror(-rc));
        return rc;
    }
    dom->incarnation++;
    dom->next_device = 0;
    rc = home_make(d, dom->spec.name, dom->domid);
    if (!rc)
        rc = heartbeat_watch(d, dom->domid, true);
    if (rc)
        snprintf(why, DAEMON_SENTENCE_MAX, "driver domain %s could not be set up: %s", dom->spec.name,
                 strerror(-rc));
    if (rc || !net)
        return rc;
    rc = uplink_prepare(d, dom, why);
    dom->gate = ++dom->next_device;
    dom->gate_ns = 0;
    return rc ? rc : driver_gate(d, dom, dom->domid, dom->gate, why);
}

int driver_start(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    int rc = uplink_check(d, dom, why);

    if (!rc && uplink_needs_keeper(&dom->spec))
        rc = keeper_start(d, why);
    if (!rc && dom->spec.cls == POLICY_CLASS_NET)
        rc = keeper_channel(dom->channel, dom->spec.name, why);
    if (rc)
        return rc;
    if (uplink_needs_keeper(&dom->spec))
        dom->uplink.kept.at = KEPT_TO_ASK;
    dom->state = ST_STARTING;
    dom->deadline = now_ms() + READY_WAIT_MS;
    event_tell(d, "starting", dom, NULL);
    session_progress(d, dom, "waiting for driver domain %s", dom->spec.name);
    keeper_ask(d);
    driver_go_on(d, dom);
    return 0;
}

/* The interface first: as long as there is none, there is no use for a process. */
void driver_go_on(struct daemon *d, struct domain *dom)
{
    char why[DAEMON_SENTENCE_MAX];
    int rc = 0;

    if (dom->state != ST_STARTING || dom->unpaused ||
        (uplink_needs_keeper(&dom->spec) && dom->uplink.kept.at != KEPT_HELD))
        return;
    if (!dom->domid)
        rc = make(d, dom, why);
    if (!rc && uplink_files_open(dom)) {
        rc = hyp_domain_unpause(d->hyp, dom->domid);
        dom->unpaused = !rc;
        if (rc)
            snprintf(why, sizeof(why), "driver domain %s could not be set up: %s", dom->spec.name,
                     strerror(-rc));
    }
    if (rc)
        dom_start_failed(d, dom, why);
}

/* A guest's disk moves to the new incarnation. */
static void move_disk(struct daemon *d, struct domain *guest, unsigned i)
{
    struct vbd *vbd = &guest->vbd[i];
    char why[DAEMON_SENTENCE_MAX];
    int rc = vbd_assign(d, guest, i);

    vbd->give_up_at = 0; /* no outage is too long */
    if (rc) {
        vbd_open_sentence(guest, i, rc, why);
        event_error(d, guest, "%s", why);
        vbd->retry_at = now_ms() + REASSIGN_MS;
    }
}

void driver_move(struct daemon *d, struct domain *dom, struct domain *guest, unsigned i)
{
    struct split *split = &guest->split[i];
    int rc;

    if (split_is_disk(i))
        move_disk(d, guest, i);
    split->be = dom->domid;
    split->connected = false;
    rc = split_write_nodes(d, guest, i, split->live, dom->domid, false);
    if (rc)
        event_error(d, guest, "the store would not take the nodes of %s: %s", split->dev, strerror(-rc));
}

bool driver_next(struct daemon *d, const struct domain *dom, struct served *at)
{
    for (; at->g < DAEMON_DOMAINS_MAX; at->g++, at->next = 0) {
        at->guest = &d->domains[at->g];
        while (at->guest->used && at->guest->built && split_next(at->guest, &at->next)) {
            at->i = at->next++;
            at->split = &at->guest->split[at->i];
            if (at->split->at != SPLIT_NEW && !strcmp(at->split->backend, dom->spec.name))
                return true;
        }
    }
    return false;
}

void driver_clean_up(struct daemon *d, struct domain *dom)
{
    if (!dom->old_domid)
        return;
    for (struct served s = {0}; driver_next(d, dom, &s);)
        if (s.split->nodes_be[s.split->live] == dom->old_domid)
            return; /* nothing has taken their place yet */
    for (struct served s = {0}; driver_next(d, dom, &s);)
        if (s.split->nodes_be[!s.split->live] == dom->old_domid)
            split_remove_nodes(d, s.guest, s.i, !s.split->live);
    heartbeat_watch(d, dom->old_domid, false); /* a takeover had no time for it */
    home_remove(d, dom->old_domid);
    dom->old_domid = 0;
}

void driver_ready(struct daemon *d, struct domain *dom)
{
    if (dom->state != ST_STARTING)
        return;
    for (struct served s = {0}; driver_next(d, dom, &s);)
        driver_move(d, dom, s.guest, s.i);
    driver_clean_up(d, dom);
    dom_is_running(d, dom, "ready");
}

/* A guest that has no nodes yet: what was opened for it is gone. */
static void fail_start(struct daemon *d, const struct domain *dom, struct domain *guest)
{
    char why[DAEMON_SENTENCE_MAX];

    snprintf(why, sizeof(why), "driver domain %s died while %s was starting", dom->spec.name,
             guest->spec.name);
    dom_start_failed(d, guest, why);
}

static void fail_change(struct daemon *d, const struct domain *dom, struct domain *guest)
{
    char why[DAEMON_SENTENCE_MAX];

    snprintf(why, sizeof(why), "driver domain %s died while devices of %s were being attached: try again",
             dom->spec.name, guest->spec.name);
    change_failed(d, guest, why);
}

void driver_lost(struct daemon *d, struct domain *dom)
{
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        struct domain *guest = &d->domains[g];
        bool lost = false, coming = false;

        if (!guest->used || guest->spec.kind != POLICY_GUEST || !dom->domid)
            continue;
        for (unsigned i = 0; split_next(guest, &i); i++) {
            struct split *split = &guest->split[i];

            if (split->be != dom->domid)
                continue;
            lost = true;
            coming = coming || split->at == SPLIT_NEW;
            split->be = 0;
            split->connected = false;
            if (split_is_disk(i))
                guest->vbd[i] = (struct vbd){.last_error = guest->vbd[i].last_error};
        }
        if (lost && guest->state == ST_STARTING && !guest->built)
            fail_start(d, dom, guest);
        if (coming)
            fail_change(d, dom, guest);
    }
}

/*
 * The directories that its guests' devices had under its home stay until the
 * next incarnation replaces them: a frontend that reads them meanwhile finds
 * what it knew.
 */
void driver_gone(struct daemon *d, struct domain *dom)
{
    bool keep = false;

    uplink_clear(dom);
    driver_clean_up(d, dom);
    driver_lost(d, dom);
    for (struct served s = {0}; dom->domid && driver_next(d, dom, &s);)
        keep = keep || s.split->nodes_be[s.split->live] == dom->domid;
    if (dom->domid)
        heartbeat_watch(d, dom->domid, false);
    dom->gate = 0;
    if (!keep) {
        home_remove(d, dom->domid);
        return;
    }
    home_remove(d, dom->old_domid); /* another one's nodes are what is known now */
    dom->old_domid = dom->domid;
}

unsigned driver_guests(struct daemon *d, const struct domain *driver, char *names, size_t cap)
{
    unsigned n = 0;
    size_t at = 0;

    *names = '\0';
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        const struct domain *guest = &d->domains[g];
        bool serves = false;

        if (!guest->used || dom_is_down(guest))
            continue;
        for (unsigned i = 0; split_next(guest, &i); i++)
            serves = serves || !strcmp(guest->split[i].backend, driver->spec.name);
        if (!serves)
            continue;
        n++;
        if (at < cap)
            at += (size_t)snprintf(names + at, cap - at, "%s%s", at ? ", " : "", guest->spec.name);
    }
    return n;
}
