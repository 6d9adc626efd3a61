/* SPDX-License-Identifier: MIT */
/*
 * change.c - devices come to a guest that runs, and go: a guest behind a vhost-user door.
 *
 *   none -> asked -> noted -> opening -> connecting -> closing -> none
 *                                |           |
 *                                +-----------+- failed: undoing -> none
 *
 * All is checked first.  Then what is new is opened in its driver domains, gets its
 * nodes and is offered to the door.  When the door has all of it the new definition is
 * written, and only then what is not in there any more is taken away: until then
 * everything can be undone, and from then on nothing fails.
 *
 * It is written down that a change was begun before anything is done (asked: not yet; noted).  A
 * daemon that finds one under way makes the door anew, with what the definition says:
 * of that, too, the guest sees no more than a pause.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"
#include "rundir.h"

static bool is_awaited(const struct domain *dom, unsigned i)
{
    return dom->change.awaited & 1u << i;
}

static void end(struct domain *dom)
{
    free(dom->change.spec);
    free(dom->change.xml);
    dom->change = (struct change){.at = CHANGE_NONE};
}

/* Its place is free again; nothing of it is left. */
static void vacate(struct domain *dom, unsigned i)
{
    dom->there &= ~(1u << i);
    dom->change.added &= ~(1u << i);
    dom->change.removed &= ~(1u << i);
    dom->change.awaited &= ~(1u << i);
    dom->split[i] = (struct split){.be = 0};
    if (split_is_disk(i)) {
        dom->spec.disks[i] = (struct policy_disk){.devid = 0};
        dom->vbd[i] = dom->ahead[i] = (struct vbd){.device = VBD_NONE};
    } else {
        dom->spec.nics[i - FIRST_NIC] = (struct policy_nic){.devid = 0};
    }
}

static void tell(struct daemon *d, const struct domain *dom, unsigned i, const char *event)
{
    event_tell(d, event, dom,
               json_pack("{s:s,s:s}", split_is_disk(i) ? "disk" : "nic", dom->split[i].dev, "driver",
                         dom->split[i].backend));
}

/* The door does not do what it is told: another one will. */
static void give_door_up(struct daemon *d, struct domain *dom, const char *why)
{
    dom->change.deadline = 0;
    event_error(d, dom, "its door %s: killed", why);
    hyp_domain_destroy(d->hyp, dom->domid);
}

/* -------------------------------------------------------------------- going away */

static void answer(struct daemon *d, struct domain *dom, const char *sentence)
{
    char copy[DAEMON_SENTENCE_MAX];

    snprintf(copy, sizeof(copy), "%s", sentence ? sentence : "");
    end(dom);
    session_answer(d, dom, WAIT_CHANGE, sentence ? copy : NULL);
}

/* The order went out, or there is no one to hear it: then its death takes the device. */
static void withdraw(struct daemon *d, struct domain *dom, unsigned i)
{
    dom->change.awaited |= 1u << i;
    if (vhost_withdraw(dom, i))
        give_door_up(d, dom, "takes no orders");
}

static void drop(struct daemon *d, struct domain *dom, unsigned i)
{
    guest_drop_device(d, dom, i);
    vhost_unlink(dom, i);
    vacate(dom, i);
}

static void undo(struct daemon *d, struct domain *dom, const char *why)
{
    struct change *c = &dom->change;

    snprintf(c->why, sizeof(c->why), "%s", why);
    c->at = CHANGE_UNDOING;
    c->deadline = now_ms() + STOP_WAIT_MS;
    c->awaited = 0;
    for (unsigned i = 0; split_next(dom, &i); i++) {
        if (dom->split[i].at == SPLIT_NEW)
            drop(d, dom, i);
        else if (dom->split[i].at == SPLIT_COMING)
            withdraw(d, dom, i);
    }
    if (!c->awaited)
        answer(d, dom, why);
}

void change_failed(struct daemon *d, struct domain *dom, const char *why)
{
    char copy[DAEMON_SENTENCE_MAX];

    if (dom->change.at == CHANGE_NONE || dom->change.at >= CHANGE_CLOSING)
        return;
    snprintf(copy, sizeof(copy), "%s", why);
    event_error(d, dom, "%s", copy);
    undo(d, dom, copy);
}

void change_over(struct daemon *d, struct domain *dom)
{
    bool done = dom->change.at == CHANGE_CLOSING;
    char why[DAEMON_SENTENCE_MAX];

    if (dom->change.at == CHANGE_NONE)
        return;
    if (*dom->change.why)
        snprintf(why, sizeof(why), "%s", dom->change.why);
    else
        snprintf(why, sizeof(why), "%s ended while its devices were being changed: they are as they were",
                 dom->spec.name);
    for (unsigned i = 0; split_next(dom, &i); i++) {
        if (dom->split[i].at == SPLIT_STANDS)
            continue;
        if (dom->split[i].at == SPLIT_GOING)
            tell(d, dom, i, "detached");
        vhost_unlink(dom, i);
        vacate(dom, i);
    }
    answer(d, dom, done ? NULL : why);
}

/* ------------------------------------------------------------------------ asking */

static unsigned free_place(const struct domain *dom, bool disk)
{
    for (unsigned i = disk ? 0 : FIRST_NIC; i < (disk ? FIRST_NIC : SPLITS_MAX); i++)
        if (!(dom->there & 1u << i))
            return i;
    return SPLITS_MAX;
}

/* What is asked of one device, and where. */
struct wish {
    bool disk;
    const char *dev;
    unsigned line;
    const void *device; /* struct policy_disk, policy_nic */
};

static struct wish wish_of(const struct domain_spec *spec, unsigned n)
{
    const struct policy_disk *disk = &spec->disks[n < spec->ndisks ? n : 0];
    const struct policy_nic *nic = &spec->nics[n < spec->ndisks ? 0 : n - spec->ndisks];

    return n < spec->ndisks ? (struct wish){true, disk->dev, disk->line, disk}
                            : (struct wish){false, nic->dev, nic->line, nic};
}

static bool is_same(const struct domain *dom, unsigned i, const struct wish *wish)
{
    if (split_is_disk(i) != wish->disk)
        return false;
    return wish->disk ? policy_same_disk(&dom->spec.disks[i], wish->device)
                      : policy_same_nic(&dom->spec.nics[i - FIRST_NIC], wish->device);
}

/* One device of what is wanted: it is there, or gets its place. */
static int compare(struct daemon *d, struct domain *dom, const struct wish *wish, uint32_t *wanted,
                   char why[DAEMON_SENTENCE_MAX])
{
    unsigned i = split_find(dom, wish->dev);

    if (i < SPLITS_MAX) {
        *wanted |= 1u << i;
        if (is_same(dom, i, wish))
            return 0;
        snprintf(why, DAEMON_SENTENCE_MAX,
                 "%s of %s is in use with other settings: detach it first, then attach it as it is to be",
                 wish->dev, dom->spec.name);
        return -EBUSY;
    }
    i = free_place(dom, wish->disk);
    if (i == SPLITS_MAX) {
        snprintf(why, DAEMON_SENTENCE_MAX, "%s has as many %s as it may: detach one before you attach %s",
                 dom->spec.name, wish->disk ? "disks" : "NICs", wish->dev);
        return -ENOSPC;
    }
    split_place_from(dom, i, dom->change.spec, wish->dev);
    dom->split[i].at = SPLIT_NEW;
    dom->change.added |= 1u << i;
    *wanted |= 1u << i;
    return guest_check_device(d, dom, i, why);
}

static int take(struct change *c, const struct domain_spec *spec, const char *xml, size_t bytes)
{
    c->spec = malloc(sizeof(*spec));
    c->xml = malloc(bytes + 1);
    if (!c->spec || !c->xml)
        return -ENOMEM;
    *c->spec = *spec;
    memcpy(c->xml, xml, bytes);
    c->bytes = bytes;
    return 0;
}

int change_ask(struct daemon *d, struct domain *dom, const struct wanted *wanted,
               char why[DAEMON_SENTENCE_MAX])
{
    char sentence[DAEMON_SENTENCE_MAX] = "out of memory";
    uint32_t all = 0;
    unsigned line = 0;
    int rc = take(&dom->change, wanted->spec, wanted->xml, wanted->bytes);

    for (unsigned n = 0; !rc && n < wanted->spec->ndisks + wanted->spec->nnics; n++) {
        struct wish wish = wish_of(wanted->spec, n);

        line = wish.line;
        rc = compare(d, dom, &wish, &all, sentence);
    }
    if (rc) {
        snprintf(why, DAEMON_SENTENCE_MAX, "%.200s:%u: %.400s", wanted->file, line, sentence);
        for (unsigned i = 0; split_next(dom, &i); i++)
            if (dom->split[i].at == SPLIT_NEW)
                vacate(dom, i);
        end(dom);
        return rc;
    }
    dom->change.removed = dom->there & ~all;
    dom->change.at = CHANGE_ASKED;
    return 0;
}

/* ------------------------------------------------------------------------- doing */

/* From here on the definition is the new one. */
static int commit(struct domain *dom)
{
    static struct domain_spec next; /* large; one thread */
    struct change *c = &dom->change;
    int rc = rundir_save_domain(dom->spec.name, c->xml, c->bytes, dom->opened);

    if (rc)
        return rc;
    next = *c->spec;
    memcpy(next.disks, dom->spec.disks, sizeof(next.disks));
    memcpy(next.nics, dom->spec.nics, sizeof(next.nics));
    for (unsigned n = 0; n < next.ndisks + next.nnics; n++) {
        struct wish wish = wish_of(c->spec, n);
        unsigned i = split_find(dom, wish.dev);

        if (wish.disk) {
            memcpy(next.disks[i].socket, c->spec->disks[n].socket, sizeof(next.disks[i].socket));
            next.disks[i].line = wish.line;
        } else {
            struct policy_nic *nic = &next.nics[i - FIRST_NIC];

            memcpy(nic->socket, c->spec->nics[n - next.ndisks].socket, sizeof(nic->socket));
            nic->line = wish.line;
        }
    }
    dom->spec = next;
    return 0;
}

static void close_what_goes(struct daemon *d, struct domain *dom)
{
    struct change *c = &dom->change;

    c->at = CHANGE_CLOSING;
    c->deadline = now_ms() + STOP_WAIT_MS;
    for (unsigned i = 0; split_next(dom, &i); i++) {
        if (!(c->removed & 1u << i))
            continue;
        dom->split[i].at = SPLIT_GOING;
        withdraw(d, dom, i);
    }
    if (!c->awaited)
        answer(d, dom, NULL);
}

static void all_added(struct daemon *d, struct domain *dom)
{
    char why[DAEMON_SENTENCE_MAX];
    int rc = commit(dom);

    if (rc) {
        snprintf(why, sizeof(why), "cannot write %s/domains/%s.xml: %s", d->run_dir, dom->spec.name,
                 strerror(-rc));
        change_failed(d, dom, why);
        return;
    }
    for (unsigned i = 0; split_next(dom, &i); i++) {
        if (!(dom->change.added & 1u << i))
            continue;
        dom->split[i].at = SPLIT_STANDS;
        tell(d, dom, i, "attached");
        spare_device_up(d, dom, i);
    }
    close_what_goes(d, dom);
}

static void connect_what_comes(struct daemon *d, struct domain *dom)
{
    struct change *c = &dom->change;
    char why[DAEMON_SENTENCE_MAX];

    c->at = CHANGE_CONNECTING;
    c->deadline = now_ms() + CONNECT_WAIT_MS;
    for (unsigned i = 0; split_next(dom, &i); i++) {
        const struct split *split = &dom->split[i];
        int rc;

        if (split->at != SPLIT_NEW)
            continue;
        rc = guest_write_device(d, dom, i);
        if (!rc)
            rc = vhost_offer(d, dom, i);
        if (rc) {
            snprintf(why, sizeof(why), "%s %s of %s could not be set up: %s", split->word, split->dev,
                     dom->spec.name, strerror(-rc));
            change_failed(d, dom, why);
            return;
        }
        dom->split[i].at = SPLIT_COMING;
        c->awaited |= 1u << i;
    }
    if (!c->awaited)
        all_added(d, dom);
}

void change_look(struct daemon *d, struct domain *dom)
{
    if (dom->change.at != CHANGE_OPENING)
        return;
    for (unsigned i = 0; disk_next(dom, &i); i++)
        if (dom->split[i].at == SPLIT_NEW && dom->vbd[i].device != VBD_OPEN)
            return;
    connect_what_comes(d, dom);
}

static void open_what_comes(struct daemon *d, struct domain *dom)
{
    char why[DAEMON_SENTENCE_MAX];

    dom->change.at = CHANGE_OPENING;
    for (unsigned i = 0; split_next(dom, &i); i++) {
        if (dom->split[i].at != SPLIT_NEW)
            continue;
        if (guest_check_device(d, dom, i, why) || guest_open_device(d, dom, i, why)) {
            change_failed(d, dom, why);
            return;
        }
    }
    change_look(d, dom);
}

/* ------------------------------------------------------------------ what happens */

void change_answered(struct daemon *d, struct domain *dom, unsigned i, bool open, const char *why)
{
    struct change *c = &dom->change;

    if (!is_awaited(dom, i) || open != (c->at == CHANGE_CONNECTING))
        return;
    c->awaited &= ~(1u << i);
    if (c->at == CHANGE_CONNECTING) {
        if (why) {
            drop(d, dom, i); /* the door does not have it */
            change_failed(d, dom, why);
        } else if (!c->awaited) {
            all_added(d, dom);
        }
        return;
    }
    if (c->at == CHANGE_CLOSING)
        tell(d, dom, i, "detached");
    drop(d, dom, i);
    if (!c->awaited)
        answer(d, dom, c->at == CHANGE_UNDOING ? c->why : NULL);
}

static void not_connected(struct daemon *d, struct domain *dom)
{
    char why[DAEMON_SENTENCE_MAX], error[160] = "";
    const char *dev = "";

    for (unsigned i = 0; split_next(dom, &i); i++) {
        if (!is_awaited(dom, i) || *error)
            continue;
        dev = dom->split[i].dev;
        split_backend_error(d, dom, i, error, sizeof(error));
    }
    snprintf(why, sizeof(why), "%s of %s was not connected in %d s%s%s; see: bulkhead log %s", dev,
             dom->spec.name, CONNECT_WAIT_MS / 1000, *error ? ": " : "", error, dom->spec.name);
    change_failed(d, dom, why);
}

void change_tick(struct daemon *d, struct domain *dom, uint64_t now)
{
    struct change *c = &dom->change;

    if (c->at == CHANGE_ASKED) {
        c->at = CHANGE_NOTED;
    } else if (c->at == CHANGE_NOTED) {
        open_what_comes(d, dom);
    } else if (c->deadline && now >= c->deadline) {
        if (c->at == CHANGE_CONNECTING)
            not_connected(d, dom);
        else
            give_door_up(d, dom, "does not answer");
    }
}

uint64_t change_next_tick(const struct domain *dom)
{
    if (dom->change.at == CHANGE_ASKED || dom->change.at == CHANGE_NOTED)
        return 1; /* at once */
    return dom->change.deadline;
}
