/* SPDX-License-Identifier: MIT */
/* driver.c - a driver domain's start, its readiness, and what its death means to guests. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon.h"

/* Its process, which does not run yet, its home, and the files of its uplink. */
static int make(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    bool net = dom->spec.cls == POLICY_CLASS_NET;
    int rc = dom_make(d, dom, &dom->channel[1], net);

    keeper_channel_passed(dom);
    if (rc) {
        snprintf(why, DAEMON_SENTENCE_MAX, "the core would not make driver domain %s: %s", dom->spec.name,
                 strerror(-rc));
        return rc;
    }
    dom->incarnation++;
    dom->next_device = 0;
    rc = home_make(d, dom);
    if (rc)
        snprintf(why, DAEMON_SENTENCE_MAX, "driver domain %s could not be set up: %s", dom->spec.name,
                 strerror(-rc));
    return rc || !net ? rc : uplink_prepare(d, dom, why);
}

int driver_start(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    int rc = uplink_check(d, dom, why);

    if (!rc && uplink_needs_keeper(&dom->spec))
        rc = keeper_start(d, why);
    if (!rc && dom->spec.cls == POLICY_CLASS_NET)
        rc = keeper_channel(dom, why);
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

static void move(struct daemon *d, struct domain *guest, unsigned i, domid_t be)
{
    struct split *split = &guest->split[i];
    int rc;

    if (i < guest->spec.ndisks)
        move_disk(d, guest, i);
    split->be = be;
    split->connected = false;
    rc = split_write_nodes(d, guest, i);
    if (rc)
        event_error(d, guest, "the store would not take the nodes of %s: %s", split->dev, strerror(-rc));
}

void driver_ready(struct daemon *d, struct domain *dom)
{
    if (dom->state != ST_STARTING)
        return;
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        struct domain *guest = &d->domains[g];

        if (!guest->used || !guest->built)
            continue;
        for (unsigned i = 0; i < guest->nsplits; i++)
            if (!strcmp(guest->split[i].backend, dom->spec.name))
                move(d, guest, i, dom->domid);
    }
    home_remove(d, dom->old_domid);
    dom->old_domid = 0;
    dom_is_running(d, dom, "ready");
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
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        struct domain *guest = &d->domains[g];
        char why[DAEMON_SENTENCE_MAX];
        bool lost = false;

        if (!guest->used || guest->spec.kind != POLICY_GUEST || !dom->domid)
            continue;
        for (unsigned i = 0; i < guest->nsplits; i++) {
            struct split *split = &guest->split[i];

            keep = keep || split->nodes_be == dom->domid;
            if (split->be != dom->domid)
                continue;
            lost = true;
            split->be = 0;
            split->connected = false;
            if (i < guest->spec.ndisks)
                guest->vbd[i] = (struct vbd){.last_error = guest->vbd[i].last_error};
        }
        if (lost && guest->state == ST_STARTING && !guest->built) {
            snprintf(why, sizeof(why), "driver domain %s died while %s was starting", dom->spec.name,
                     guest->spec.name);
            dom_start_failed(d, guest, why);
        }
    }
    if (keep)
        dom->old_domid = dom->domid;
    else
        home_remove(d, dom->domid);
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
        for (unsigned i = 0; i < guest->nsplits; i++)
            serves = serves || !strcmp(guest->split[i].backend, driver->spec.name);
        if (!serves)
            continue;
        n++;
        if (at < cap)
            at += (size_t)snprintf(names + at, cap - at, "%s%s", at ? ", " : "", guest->spec.name);
    }
    return n;
}
