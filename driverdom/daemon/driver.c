/* SPDX-License-Identifier: MIT */
/* driver.c - a driver domain's start, its readiness, and what its death means to guests. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon.h"

int driver_start(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    int rc = dom_make(d, dom, NULL, 0);

    if (rc) {
        snprintf(why, DAEMON_SENTENCE_MAX, "the core would not make driver domain %s: %s", dom->spec.name,
                 strerror(-rc));
        return rc;
    }
    dom->incarnation++;
    dom->next_device = 0;
    rc = home_make(d, dom);
    if (!rc)
        rc = hyp_domain_unpause(d->hyp, dom->domid);
    if (rc) {
        snprintf(why, DAEMON_SENTENCE_MAX, "driver domain %s could not be set up: %s", dom->spec.name,
                 strerror(-rc));
        home_remove(d, dom->domid);
        hyp_domain_destroy(d->hyp, dom->domid);
        dom->domid = 0;
        return rc;
    }
    dom->state = ST_STARTING;
    dom->deadline = now_ms() + READY_WAIT_MS;
    event_tell(d, "starting", dom, NULL);
    session_progress(d, dom, "waiting for driver domain %s", dom->spec.name);
    return 0;
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
    rc = vbd_write_nodes(d, guest, i);
    if (rc)
        event_error(d, guest, "the store would not take the nodes of %s: %s", guest->spec.disks[i].dev,
                    strerror(-rc));
}

void driver_ready(struct daemon *d, struct domain *dom)
{
    if (dom->state != ST_STARTING)
        return;
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        struct domain *guest = &d->domains[g];

        if (!guest->used || !guest->built)
            continue;
        for (unsigned i = 0; i < guest->spec.ndisks; i++)
            if (!strcmp(guest->spec.disks[i].backend, dom->spec.name))
                move_disk(d, guest, i);
    }
    home_remove(d, dom->old_domid);
    dom->old_domid = 0;
    dom_is_running(d, dom, "ready");
}

/*
 * The directories that its guests' disks had under its home stay until the
 * next incarnation replaces them: a frontend that reads them meanwhile finds
 * what it knew.
 */
void driver_gone(struct daemon *d, struct domain *dom)
{
    bool keep = false;

    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        struct domain *guest = &d->domains[g];
        char why[DAEMON_SENTENCE_MAX];
        bool lost = false;

        if (!guest->used || guest->spec.kind != POLICY_GUEST || !dom->domid)
            continue;
        for (unsigned i = 0; i < guest->spec.ndisks; i++) {
            struct vbd *vbd = &guest->vbd[i];

            keep = keep || vbd->nodes_be == dom->domid;
            if (vbd->be != dom->domid)
                continue;
            lost = true;
            vbd->device = VBD_NONE;
            vbd->be = 0;
            vbd->number = 0;
            vbd->connected = false;
            vbd->give_up_at = vbd->retry_at = 0;
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
        for (unsigned i = 0; i < guest->spec.ndisks; i++)
            serves = serves || !strcmp(guest->spec.disks[i].backend, driver->spec.name);
        if (!serves)
            continue;
        n++;
        if (at < cap)
            at += (size_t)snprintf(names + at, cap - at, "%s%s", at ? ", " : "", guest->spec.name);
    }
    return n;
}
