/* SPDX-License-Identifier: MIT */
/*
 * adopt.c - a daemon that was killed is followed by another, and nothing that
 * runs notices.  The core has the domains, the parcel the descriptors, the state
 * files what else must be known.
 *
 * The files may be a turn older than the world: so the core is asked who lives,
 * and its word counts.  What was on its way when the daemon was killed is not
 * carried on in the middle: it is undone and begun again.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../hyp-shim/local/limits.h"
#include "daemon.h"
#include "parcel.h"
#include "rundir.h"

#define NUMBERS_MISSING 16

/* ------------------------------------------------------------------ the parcel */

struct place {
    uint32_t kind;
    int *fd;
};

/* The daemon's own (dom NULL), or a domain's.  Channels to the keeper are not
 * among them: they are used up when a domain runs. */
static unsigned places_of(struct daemon *d, struct domain *dom, struct place out[RIGHTS_MAX])
{
    unsigned n = 0;

    if (dom) {
        out[n++] = (struct place){PARCEL_LOG, &dom->log.pipe};
        out[n++] = (struct place){PARCEL_SPARE_LOG, &dom->spare.log.pipe};
        out[n++] = (struct place){PARCEL_DOOR, &dom->door_fd};
        return n;
    }
    out[n++] = (struct place){PARCEL_CORE_LOG, &d->core_log.pipe};
    out[n++] = (struct place){PARCEL_STORE_LOG, &d->store_process.log.pipe};
    out[n++] = (struct place){PARCEL_STORE_LISTEN, &d->store_process.listen_fd};
    out[n++] = (struct place){PARCEL_JOURNAL, &d->store_process.journal_fd};
    out[n++] = (struct place){PARCEL_KEEPER_LOG, &d->keeper.log.pipe};
    out[n++] = (struct place){PARCEL_KEEPER, &d->keeper.control};
    return n;
}

static struct parcel_entry entry_of(struct daemon *d, struct domain *dom)
{
    struct parcel_entry entry = {.n = 0};
    struct place place[RIGHTS_MAX];
    unsigned n = places_of(d, dom, place);

    if (dom)
        memcpy(entry.name, dom->spec.name, sizeof(dom->spec.name));
    for (unsigned i = 0; i < n; i++)
        parcel_add(&entry, place[i].kind, *place[i].fd);
    return entry;
}

/* Another file behind the same number is another descriptor. */
static uint64_t print_of(const struct parcel_entry *entry, uint64_t print)
{
    struct stat st;

    for (unsigned i = 0; i < entry->n; i++) {
        uint64_t ino = fstat(entry->fd[i], &st) ? 0 : (uint64_t)st.st_ino;

        print = (print ^ ino ^ (uint64_t)entry->kind[i] << 56) * 0x9e3779b97f4a7c15u;
        print ^= print >> 29;
    }
    return print;
}

static bool take_out(struct daemon *d)
{
    struct parcel_entry old;

    if (!d->parked || parcel_receive(d->parcel[1], &old) != 1)
        return false;
    parcel_close(&old);
    d->parked--;
    return true;
}

/* Room for it is made at the cost of the oldest. */
static int put_in(struct daemon *d, const struct parcel_entry *entry, unsigned *fresh)
{
    int rc;

    while ((rc = parcel_send(d->parcel[0], entry)) == -EAGAIN || rc == -ETOOMANYREFS)
        if (!take_out(d))
            return rc;
    *fresh += rc == 1;
    return rc < 0 ? rc : 0;
}

void adopt_park(struct daemon *d)
{
    uint64_t print = 1;
    unsigned fresh = 0;
    int rc = 0;

    for (int g = -1; g < DAEMON_DOMAINS_MAX; g++) {
        struct domain *dom = g < 0 ? NULL : &d->domains[g];
        struct parcel_entry entry = !dom || dom->used ? entry_of(d, dom) : (struct parcel_entry){.n = 0};

        print = print_of(&entry, print + (unsigned)g);
    }
    if (print == d->parked_print || d->parcel[0] < 0)
        return;
    for (int g = -1; g < DAEMON_DOMAINS_MAX && !rc; g++) {
        struct domain *dom = g < 0 ? NULL : &d->domains[g];

        if (dom && !dom->used)
            continue;
        struct parcel_entry entry = entry_of(d, dom);
        rc = put_in(d, &entry, &fresh);
    }
    if (rc)
        log_say(&d->own_log,
                "the descriptors of some domains do not fit where the next bulkheadd would find them (%s): "
                "were this one killed, they would be lost",
                strerror(-rc));
    while (take_out(d))
        ;
    d->parked = fresh;
    d->parked_print = print;
}

static void unpack_entry(void *daemon, struct parcel_entry *entry)
{
    struct daemon *d = daemon;
    struct domain *dom = *entry->name ? dom_find(d, entry->name) : NULL;
    struct place place[RIGHTS_MAX];
    unsigned n = *entry->name && !dom ? 0 : places_of(d, dom, place);

    for (unsigned i = 0; i < n; i++) {
        if (*place[i].fd >= 0)
            close(*place[i].fd); /* an older one */
        *place[i].fd = -1;
        for (unsigned k = 0; k < entry->n; k++) {
            if (entry->kind[k] != place[i].kind)
                continue;
            *place[i].fd = entry->fd[k];
            entry->fd[k] = entry->fd[--entry->n];
            entry->kind[k] = entry->kind[entry->n];
            break;
        }
    }
    parcel_close(entry);
}

int adopt_prepare(struct daemon *d, char *why, size_t cap)
{
    int n = parcel_each(d->parcel[1], unpack_entry, d);

    if (n < 0) {
        snprintf(why, cap, "cannot look at what the last bulkheadd left: %s", strerror(-n));
        return n;
    }
    d->parked = (unsigned)n;
    /* Nothing was made yet: the store, which comes first, was not. */
    if (d->store_process.journal_fd < 0 || d->store_process.listen_fd < 0) {
        if (d->store_process.listen_fd < 0)
            d->store_process.listen_fd = rundir_listen("store.sock", SOCK_STREAM, 0666);
        return store_process_first(d, why, cap);
    }
    state_load(d);
    store_process_look(d);
    return 0;
}

/* -------------------------------------------------------------------- who lives */

static bool lives(struct daemon *d, domid_t domid)
{
    struct hyp_domain_info info;

    return hyp_domain_info(d->hyp, domid, &info) != -ESRCH;
}

static bool is_known(struct daemon *d, domid_t domid)
{
    bool known = domid == LOCAL_DOMID_STORE || domid == d->keeper.domid;

    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++)
        known |= d->domains[g].used && (d->domains[g].domid == domid || d->domains[g].spare.domid == domid);
    return known;
}

static void remove_below(struct daemon *d, domid_t driver, const char *cls, domid_t guest)
{
    char path[STORE_PATH_MAX];

    if (!driver)
        return;
    snprintf(path, sizeof(path), "/local/domain/%u/backend/%s/%u", driver, cls, guest);
    store_rm(d->store, STORE_NO_TXN, path);
}

/* What driver domains have for it, and what it has. */
static void remove_everywhere(struct daemon *d, domid_t domid)
{
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        const struct domain *driver = &d->domains[g];
        const domid_t homes[] = {driver->domid, driver->old_domid, driver->spare.domid};

        for (size_t k = 0; driver->used && driver->spec.kind == POLICY_DRIVER && k < 3; k++) {
            remove_below(d, homes[k], "vbd", domid);
            remove_below(d, homes[k], "vif", domid);
        }
    }
    home_remove(d, domid);
}

/* Made in the turn in which the last daemon was killed. */
static void destroy_unknown(struct daemon *d)
{
    struct hyp_domain_info info;

    for (domid_t after = 0; !hyp_domain_next(d->hyp, after, &info); after = info.domid) {
        if (is_known(d, info.domid))
            continue;
        log_say(&d->own_log, "domain %u (%.*s) is destroyed: it had only just been made", info.domid,
                HYP_NAME_MAX, info.name);
        hyp_domain_destroy(d->hyp, info.domid);
        remove_everywhere(d, info.domid);
    }
}

/* Devices that were assigned in that turn: no one knows for whom.  A few numbers
 * may be missing among them. */
static void release_unknown(struct daemon *d, domid_t domid, uint32_t *next_device)
{
    for (unsigned missing = 0; domid && missing < NUMBERS_MISSING; missing++)
        if (!hyp_device_release(d->hyp, domid, ++*next_device))
            missing = 0;
}

static void begin_again(struct daemon *d, struct domain *dom)
{
    char why[DAEMON_SENTENCE_MAX];

    snprintf(why, sizeof(why), "%s was starting when bulkheadd was killed: it is started anew",
             dom->spec.name);
    dom->automatic = true;
    dom_start_failed(d, dom, why);
}

/* Its devices were being changed; a frontend's nodes may be there that no file tells of. */
static void begin_changed(struct daemon *d, struct domain *dom)
{
    char why[DAEMON_SENTENCE_MAX];
    domid_t domid = dom->domid;

    if (dom->state == ST_STOPPING && !dom->start_again) {
        dom->state = ST_STARTING; /* there is nothing in it to be stopped in order */
        dom_stop(d, dom, why);
    } else {
        snprintf(why, sizeof(why),
                 "devices of %s were being changed when bulkheadd was killed: its door is made anew",
                 dom->spec.name);
        dom->automatic = true;
        dom_start_failed(d, dom, why);
    }
    if (domid)
        remove_everywhere(d, domid);
    definition_again(d, dom);
}

/* As if its death had just been told; the core tells how it died, unless the last daemon had heard it. */
static void find_dead(struct daemon *d, domid_t domid)
{
    struct hyp_event ev = {.kind = HYP_EV_DEATH, .domid = domid, .at_ns = monotonic_ns()};

    if (domid && !lives(d, domid))
        daemon_hear(d, &ev);
}

void adopt_all(struct daemon *d)
{
    struct hyp_event ev;
    unsigned n = 0;

    keeper_adopted(d);
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        struct domain *dom = &d->domains[g];

        if (!dom->used)
            continue;
        if (dom->spec.kind == POLICY_DRIVER) {
            release_unknown(d, dom->domid, &dom->next_device);
            release_unknown(d, dom->spare.domid, &dom->spare.next_device);
        }
        if (dom->state == ST_STARTING)
            begin_again(d, dom);
        else if (dom->change.at != CHANGE_NONE)
            begin_changed(d, dom);
        else if (dom->domid)
            dom_adopted(d, dom);
        n += dom->state == ST_RUNNING;
    }
    while (hyp_next_event(d->hyp, &ev) == 1)
        daemon_hear(d, &ev);
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        find_dead(d, d->domains[g].used ? d->domains[g].domid : 0);
        find_dead(d, d->domains[g].used ? d->domains[g].spare.domid : 0);
    }
    destroy_unknown(d);
    log_say(&d->own_log, "took over from a bulkheadd that was killed: %u domains run", n);
}
