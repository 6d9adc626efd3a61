/* SPDX-License-Identifier: MIT */
/*
 * guest.c - a guest's start: everything is checked, then its devices are
 * opened in their driver domains, then its domain and nodes are made, then its
 * frontend connects.  What fails undoes all that came before.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../hyp-shim/xenbus.h"
#include "daemon.h"

#define RAM_SPARE (8ull << 20) /* what a driver domain needs besides its ram disks */

static int check_listed(const struct domain *guest, unsigned i, const struct domain *driver,
                        char why[DAEMON_SENTENCE_MAX])
{
    const struct policy_disk *disk = &guest->spec.disks[i];

    if (!driver->spec.nhostdevs || disk->source == POLICY_SOURCE_RAM)
        return 0;
    for (unsigned h = 0; h < driver->spec.nhostdevs; h++)
        if (!strcmp(driver->spec.hostdevs[h], disk->path))
            return 0;
    snprintf(why, DAEMON_SENTENCE_MAX, "driver domain %s may not serve %.400s: it is none of its <hostdev>",
             driver->spec.name, disk->path);
    return -EPERM;
}

static uint64_t ram_in_use(struct daemon *d, const struct domain *driver, const struct domain *besides)
{
    uint64_t sum = 0;

    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        const struct domain *guest = &d->domains[g];

        if (!guest->used || (dom_is_down(guest) && guest != besides))
            continue;
        for (unsigned i = 0; i < guest->spec.ndisks; i++)
            if (!strcmp(guest->spec.disks[i].backend, driver->spec.name))
                sum += guest->spec.disks[i].ram_bytes;
    }
    return sum;
}

static int check_disk(struct daemon *d, const struct domain *guest, unsigned i, const struct domain *driver,
                      char why[DAEMON_SENTENCE_MAX])
{
    const struct policy_disk *disk = &guest->spec.disks[i];
    uint64_t ram;

    ram = ram_in_use(d, driver, guest);
    if (disk->ram_bytes && (ram > driver->spec.memory_bytes || driver->spec.memory_bytes - ram < RAM_SPARE)) {
        snprintf(why, DAEMON_SENTENCE_MAX,
                 "driver domain %s has too little <memory> for the ram disks of its guests: it needs %llu "
                 "MiB",
                 disk->backend, (unsigned long long)((ram + RAM_SPARE + (1u << 20) - 1) >> 20));
        return -ENOMEM;
    }
    return check_listed(guest, i, driver, why);
}

/* One address, one NIC: the switch goes by it. */
static int check_nic(struct daemon *d, const struct domain *guest, unsigned i, const struct domain *driver,
                     char why[DAEMON_SENTENCE_MAX])
{
    const struct policy_nic *nic = &guest->spec.nics[i];
    char mac[18];

    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        const struct domain *other = &d->domains[g];

        if (!other->used || other == guest || dom_is_down(other))
            continue;
        for (unsigned k = 0; k < other->spec.nnics; k++) {
            if (strcmp(other->spec.nics[k].backend, driver->spec.name) != 0 ||
                memcmp(other->spec.nics[k].mac, nic->mac, sizeof(nic->mac)) != 0)
                continue;
            vif_mac_text(nic->mac, mac);
            snprintf(
                why, DAEMON_SENTENCE_MAX,
                "NIC %s of %s: address %s is that of %s of %s already, in driver domain %s: give it another "
                "<mac address='...'/>",
                nic->dev, guest->spec.name, mac, other->spec.nics[k].dev, other->spec.name,
                driver->spec.name);
            return -EADDRINUSE;
        }
    }
    return 0;
}

static int check_split(struct daemon *d, const struct domain *guest, unsigned i,
                       char why[DAEMON_SENTENCE_MAX])
{
    const struct split *split = &guest->split[i];
    const struct domain *driver = dom_find(d, split->backend);
    bool disk = i < guest->spec.ndisks;

    if (!driver || driver->spec.kind != POLICY_DRIVER) {
        snprintf(why, DAEMON_SENTENCE_MAX,
                 "%s %s of %s names driver domain %s, which is not defined: define it first", split->word,
                 split->dev, guest->spec.name, split->backend);
        return -ENOENT;
    }
    if (driver->spec.cls != (disk ? POLICY_CLASS_BLK : POLICY_CLASS_NET)) {
        snprintf(why, DAEMON_SENTENCE_MAX,
                 "%s %s of %s names driver domain %s, whose class is '%s', not '%s'", split->word, split->dev,
                 guest->spec.name, split->backend, policy_class_name(&driver->spec), disk ? "blk" : "net");
        return -EINVAL;
    }
    if (driver->state != ST_RUNNING) {
        snprintf(why, DAEMON_SENTENCE_MAX, "driver domain %s is not running: start it first", split->backend);
        return -ENOTCONN;
    }
    return disk ? check_disk(d, guest, i, driver, why)
                : check_nic(d, guest, i - guest->spec.ndisks, driver, why);
}

static void build(struct daemon *d, struct domain *dom)
{
    char why[DAEMON_SENTENCE_MAX];
    const char *step = "the core would not make it";
    bool tap = dom->spec.door == POLICY_DOOR_TAP;
    int rc = dom_make(d, dom, tap ? &dom->channel[1] : &dom->door_fd, 1);

    keeper_channel_passed(dom->channel);
    if (!rc) {
        dom->incarnation++;
        dom->built = true;
        step = "the store would not take its nodes";
        rc = home_make(d, dom->spec.name, dom->domid);
    }
    for (unsigned i = 0; !rc && i < dom->nsplits; i++) {
        rc = split_open_report(d, dom, i);
        if (!rc)
            rc = split_write_nodes(d, dom, i, dom->split[i].live, dom->split[i].be, false);
    }
    if (!rc) {
        step = "the core would not let it run";
        rc = hyp_domain_unpause(d->hyp, dom->domid);
    }
    if (rc) {
        struct hyp_domain_info info;

        if (dom->alive && hyp_domain_info(d->hyp, dom->domid, &info) == -ESRCH)
            snprintf(why, sizeof(why), "guest %s died as soon as it was made; see: bulkhead log @core",
                     dom->spec.name);
        else
            snprintf(why, sizeof(why), "guest %s could not be set up: %s: %s", dom->spec.name, step,
                     strerror(-rc));
        dom_start_failed(d, dom, why);
        return;
    }
    if (dom->spec.door == POLICY_DOOR_NATIVE) {
        dom_is_running(d, dom, "running");
        return;
    }
    dom->deadline = now_ms() + CONNECT_WAIT_MS;
    session_progress(d, dom, "waiting for the %s of %s to connect", split_words(dom), dom->spec.name);
}

static bool all_there(const struct domain *dom)
{
    for (unsigned i = 0; i < dom->spec.ndisks; i++)
        if (dom->vbd[i].device != VBD_OPEN)
            return false;
    for (unsigned i = 0; i < dom->spec.nnics && dom->spec.door == POLICY_DOOR_TAP; i++)
        if (dom->tap[i].at != KEPT_HELD)
            return false;
    return true;
}

void guest_go_on(struct daemon *d, struct domain *dom)
{
    if (dom->state == ST_STARTING && !dom->built && all_there(dom))
        build(d, dom);
}

/* A TAP device for each NIC, which its process finds in its channel. */
static int want_taps(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    int rc;

    if (dom->spec.door != POLICY_DOOR_TAP)
        return 0;
    rc = keeper_start(d, why);
    if (!rc)
        rc = keeper_channel(dom->channel, dom->spec.name, why);
    for (unsigned i = 0; !rc && i < dom->spec.nnics; i++)
        dom->tap[i].at = KEPT_TO_ASK;
    return rc;
}

static void release_devices(struct daemon *d, struct domain *dom)
{
    for (unsigned i = 0; i < dom->spec.ndisks; i++)
        vbd_release(d, dom, i);
    for (unsigned i = 0; i < dom->spec.nnics; i++) {
        dom->split[dom->spec.ndisks + i].be = 0;
        keeper_drop(&dom->tap[i]);
    }
    keeper_close_channel(dom->channel);
}

int guest_start(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < dom->nsplits; i++)
        rc = check_split(d, dom, i, why);
    if (!rc)
        rc = door_open(d, dom, why);
    if (!rc)
        rc = want_taps(d, dom, why);
    for (unsigned i = 0; !rc && i < dom->spec.ndisks; i++) {
        rc = vbd_assign(d, dom, i);
        dom->vbd[i].give_up_at = dom->vbd[i].device == VBD_OPENING ? now_ms() + OPEN_WAIT_MS : 0;
        if (rc)
            vbd_open_sentence(dom, i, rc, why);
    }
    if (rc) {
        release_devices(d, dom);
        if (dom->state == ST_DEFINED)
            door_close(dom);
        return rc;
    }
    for (unsigned i = 0; i < dom->spec.nnics; i++)
        dom->split[dom->spec.ndisks + i].be = dom_find(d, dom->spec.nics[i].backend)->domid;
    dom->state = ST_STARTING;
    dom->deadline = dom->spec.door == POLICY_DOOR_TAP ? now_ms() + READY_WAIT_MS : 0;
    event_tell(d, "starting", dom, NULL);
    session_progress(d, dom, "opening the %s of %s", split_words(dom), dom->spec.name);
    keeper_ask(d);
    guest_go_on(d, dom);
    return 0;
}

void guest_release(struct daemon *d, struct domain *dom)
{
    spare_guest_down(d, dom);
    for (unsigned i = 0; i < dom->nsplits; i++) {
        struct split *split = &dom->split[i];

        split_remove_nodes(d, dom, i, split->live);
        split_remove_nodes(d, dom, i, !split->live);
        split->live = 0;
        split->awaited = false;
        if (dom->built)
            split_close_report(d, dom, i);
    }
    release_devices(d, dom);
    home_remove(d, dom->domid);
    dom->built = false;
    for (unsigned i = 0; i < dom->nsplits; i++) { /* none waits for its report any more */
        struct domain *driver = dom_find(d, dom->split[i].backend);

        if (driver)
            recovery_look(d, driver);
        if (driver)
            spare_look(d, driver);
    }
}

/* ------------------------------------------------------------ devices that open */

static void device_failed(struct daemon *d, struct domain *dom, unsigned i, struct vbd *vbd, int error)
{
    bool busy = error == -EBUSY || error == -EAGAIN;
    char why[DAEMON_SENTENCE_MAX];

    vbd_open_sentence(dom, i, error, why);
    if (dom->built) {
        if (vbd->last_error != error)
            event_error(d, dom, "%s", why);
        vbd->last_error = error;
        vbd->retry_at = now_ms() + REASSIGN_MS;
    } else if (busy && now_ms() + OPEN_RETRY_MS < vbd->give_up_at) {
        vbd->retry_at = now_ms() + OPEN_RETRY_MS;
    } else {
        dom_start_failed(d, dom, why);
    }
}

static domid_t spare_of(struct daemon *d, const struct split *split)
{
    const struct domain *driver = dom_find(d, split->backend);

    return driver ? driver->spare.domid : 0;
}

/* The device of that number in that domain, if it is to be opened for this disk. */
static struct vbd *opening(struct daemon *d, struct domain *dom, unsigned i, domid_t domid, uint32_t number)
{
    if (dom->vbd[i].device == VBD_OPENING && dom->vbd[i].number == number && dom->split[i].be == domid)
        return &dom->vbd[i];
    if (dom->ahead[i].device == VBD_OPENING && dom->ahead[i].number == number &&
        spare_of(d, &dom->split[i]) == domid)
        return &dom->ahead[i];
    return NULL;
}

void guest_device(struct daemon *d, const struct hyp_event *ev)
{
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        struct domain *dom = &d->domains[g];

        for (unsigned i = 0; dom->used && i < dom->spec.ndisks; i++) {
            struct vbd *vbd = opening(d, dom, i, ev->domid, ev->device);

            if (!vbd)
                continue;
            if (ev->error) {
                device_failed(d, dom, i, vbd, ev->error);
                return;
            }
            vbd->device = VBD_OPEN;
            vbd->opened_ns = ev->at_ns;
            vbd->last_error = 0;
            vbd->give_up_at = vbd->retry_at = 0;
            guest_go_on(d, dom);
            recovery_look(d, dom_find(d, dom->split[i].backend));
            spare_device_up(d, dom, i);
            return;
        }
    }
}

static void retry(struct daemon *d, struct domain *dom, unsigned i, struct vbd *vbd, domid_t be)
{
    int rc;

    vbd->retry_at = 0;
    rc = be ? vbd_assign_again(d, dom, i, vbd, be) : 0;
    if (rc)
        device_failed(d, dom, i, vbd, rc);
}

void guest_tick(struct daemon *d, struct domain *dom, uint64_t now)
{
    for (unsigned i = 0; i < dom->spec.ndisks; i++) {
        struct vbd *vbd = &dom->vbd[i];
        char why[DAEMON_SENTENCE_MAX];

        if (vbd->give_up_at && now >= vbd->give_up_at) {
            vbd_open_sentence(dom, i, -EBUSY, why);
            dom_start_failed(d, dom, why);
            return;
        }
        if (vbd->retry_at && now >= vbd->retry_at)
            retry(d, dom, i, vbd, dom->split[i].be);
        if (dom->ahead[i].retry_at && now >= dom->ahead[i].retry_at)
            retry(d, dom, i, &dom->ahead[i], spare_of(d, &dom->split[i]));
    }
}

uint64_t guest_next_tick(const struct domain *dom)
{
    uint64_t next = 0;

    for (unsigned i = 0; i < dom->spec.ndisks; i++) {
        const uint64_t times[] = {dom->vbd[i].give_up_at, dom->vbd[i].retry_at, dom->ahead[i].retry_at};

        for (int k = 0; k < 3; k++)
            if (times[k] && (!next || times[k] < next))
                next = times[k];
    }
    return next;
}

/* ------------------------------------------------------- what both sides write */

/* A backend may write here as often as it likes: it is heard once a second. */
static void hear_backend(struct daemon *d, struct domain *dom, unsigned i)
{
    struct split *split = &dom->split[i];
    char text[sizeof(split->error)], why[DAEMON_SENTENCE_MAX];
    uint64_t now = now_ms();

    split_backend_error(d, dom, i, text, sizeof(text));
    if (!*text || !strcmp(text, split->error) || (split->error_at && now - split->error_at < 1000))
        return;
    memcpy(split->error, text, sizeof(text));
    split->error_at = now;
    snprintf(why, sizeof(why), "%s %s of %s: driver domain %s reports: %s", split->word, split->dev,
             dom->spec.name, split->backend, text);
    if (dom->state == ST_STARTING)
        dom_start_failed(d, dom, why);
    else
        event_error(d, dom, "%s", why);
}

/* What the spare wrote of the connection that is made ahead. */
static void look_ahead(struct daemon *d, struct domain *dom, unsigned i)
{
    struct split *split = &dom->split[i];
    struct domain *driver = dom_find(d, split->backend);
    unsigned state;

    if (!driver || !driver->spare.domid || split->nodes_be[!split->live] != driver->spare.domid)
        return;
    state = split_standby_state(d, dom, i);
    split->armed = state == XenbusStateInitialised || state == XenbusStateConnected;
    spare_look(d, driver);
}

void guest_look(struct daemon *d, struct domain *dom, unsigned i)
{
    struct split *split = &dom->split[i];
    bool connected;

    if (!dom->built)
        return;
    look_ahead(d, dom, i);
    if (!split->nodes_be[split->live] || !split->be)
        return;
    connected = split_frontend_state(d, dom, i) == XenbusStateConnected;
    if (connected && !split->connected)
        event_tell(d, "connected", dom,
                   json_pack("{s:s}", i < dom->spec.ndisks ? "disk" : "nic", split->dev));
    split->connected = connected;
    if (connected)
        recovery_look(d, dom_find(d, split->backend));
    if (dom->state == ST_STARTING) {
        bool all = true;

        for (unsigned k = 0; k < dom->nsplits; k++)
            all = all && dom->split[k].connected;
        if (all)
            dom_is_running(d, dom, "running");
    }
    if (!connected)
        hear_backend(d, dom, i);
}

/* ------------------------------------------------------ what frontends report */

/* It may report as often as it likes: so much of it is told in a second. */
#define TOLD_MAX 16

bool guest_may_tell(struct domain *dom)
{
    uint64_t second = now_ms() / 1000;

    if (dom->heard_at != second)
        dom->heard = 0;
    dom->heard_at = second;
    return dom->heard++ < TOLD_MAX;
}

/* The number that a report begins with, in *after what follows.  False: not one, or the one we know. */
static bool is_news(const char *text, uint32_t *known, const char **after)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || n > UINT32_MAX || n == *known || (*end && *end != ' '))
        return false;
    *known = (uint32_t)n;
    *after = *end ? end + 1 : end;
    return n != 0;
}

/* "N OP OFFSET BYTES" */
static void hear_poisoned(struct daemon *d, struct domain *dom, const struct split *split, const char *what)
{
    size_t n = strspn(what, "abcdefghijklmnopqrstuvwxyz");
    unsigned long long offset, bytes;
    char op[16], *end;

    if (n == 0 || n >= sizeof(op) || what[n] != ' ')
        return;
    memcpy(op, what, n);
    op[n] = '\0';
    offset = strtoull(what + n + 1, &end, 10);
    if (end == what + n + 1 || *end != ' ')
        return;
    bytes = strtoull(end + 1, &end, 10);
    if (*end || !guest_may_tell(dom))
        return;
    log_say(&d->own_log, "%s: %s: a %s of %llu bytes at %llu failed: in flight through too many deaths",
            dom->spec.name, split->dev, op, bytes, offset);
    event_tell(d, "poisoned", dom,
               json_pack("{s:s,s:s,s:s,s:I,s:I,s:i}", "disk", split->dev, "driver", split->backend, "op", op,
                         "offset", (json_int_t)offset, "bytes", (json_int_t)bytes, "count",
                         (int)(split->poisoned & INT32_MAX)));
}

static void hear_report(struct daemon *d, struct domain *dom, unsigned i, const char *key)
{
    struct split *split = &dom->split[i];
    struct domain *driver = dom_find(d, split->backend);
    char text[REPORT_MAX];
    const char *rest;

    if (!driver || !split_read_report(d, dom, i, key, text))
        return;
    if (!strcmp(key, "stalled")) {
        if (is_news(text, &split->stalled, &rest))
            heartbeat_stalled(d, driver);
    } else if (!strcmp(key, "lie")) {
        if (is_news(text, &split->lies, &rest))
            heartbeat_lie(d, dom, i, rest);
    } else if (!strcmp(key, "poisoned")) {
        if (is_news(text, &split->poisoned, &rest))
            hear_poisoned(d, dom, split, rest);
    } else if (!strcmp(key, "timed-out")) {
        if (is_news(text, &split->timed_out, &rest) && guest_may_tell(dom))
            event_tell(d, "timed_out", dom,
                       json_pack("{s:s,s:s,s:i}", "disk", split->dev, "driver", split->backend, "count",
                                 (int)(split->timed_out & INT32_MAX)));
    } else if (!strcmp(key, "outage")) {
        recovery_outage(d, dom, i, text);
    }
}

/* path: what changed; a directory, or "": look at everything. */
static void hear(struct daemon *d, struct domain *dom, unsigned i, const char *path)
{
    static const char *const keys[] = {"stalled", "lie", "poisoned", "timed-out", "outage"};
    const char *last = strrchr(path, '/');
    bool report = strstr(path, "/report/") != NULL, one = false;

    for (size_t k = 0; report && last && k < sizeof(keys) / sizeof(keys[0]); k++)
        one = one || !strcmp(last + 1, keys[k]);
    if (!report)
        guest_look(d, dom, i);
    for (size_t k = 0; (report || !*path) && dom->built && k < sizeof(keys) / sizeof(keys[0]); k++)
        if (!one || !strcmp(last + 1, keys[k]))
            hear_report(d, dom, i, keys[k]);
}

void guest_store_event(struct daemon *d, const struct store_event *ev)
{
    char *end;
    unsigned long domid = strtoul(ev->token, &end, 10);
    unsigned long split = *end == '/' ? strtoul(end + 1, NULL, 10) : 0;
    bool everything = !*ev->token;

    if (everything || !strcmp(end, "/pong"))
        heartbeat_store_event(d, (domid_t)domid);
    if (!strcmp(end, "/pong"))
        return;
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        struct domain *dom = &d->domains[g];

        for (unsigned i = 0; dom->used && i < dom->nsplits; i++)
            if (everything || (dom->domid == domid && i == split))
                hear(d, dom, i, ev->path);
    }
}
