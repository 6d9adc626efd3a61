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

int guest_write_device(struct daemon *d, struct domain *dom, unsigned i)
{
    int rc = split_open_report(d, dom, i);

    return rc ? rc : split_write_nodes(d, dom, i, dom->split[i].live, dom->split[i].be, false);
}

static void build(struct daemon *d, struct domain *dom)
{
    char why[DAEMON_SENTENCE_MAX];
    const char *step = "the core would not make it";
    int rc = dom_make(d, dom, dom->channel[1] >= 0 ? &dom->channel[1] : &dom->door_fd, 1);

    keeper_channel_passed(dom->channel);
    if (!rc) {
        dom->incarnation++;
        dom->built = true;
        step = "the store would not take its nodes";
        rc = home_make(d, dom->spec.name, dom->domid);
    }
    for (unsigned i = 0; !rc && split_next(dom, &i); i++)
        rc = guest_write_device(d, dom, i);
    if (!rc && dom->spec.door == POLICY_DOOR_VHOST) {
        step = "its sockets cannot be made";
        rc = vhost_begin(d, dom);
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
    for (unsigned i = 0; disk_next(dom, &i); i++)
        if (dom->vbd[i].device != VBD_OPEN)
            return false;
    for (unsigned k = 0; dom->spec.door == POLICY_DOOR_TAP && nic_next(dom, &k); k++)
        if (dom->tap[k].at != KEPT_HELD)
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
    for (unsigned k = 0; !rc && nic_next(dom, &k); k++)
        dom->tap[k].at = KEPT_TO_ASK;
    return rc;
}

static domid_t spare_of(struct daemon *d, const struct split *split)
{
    const struct domain *driver = dom_find(d, split->backend);

    return driver ? driver->spare.domid : 0;
}

static void release_devices(struct daemon *d, struct domain *dom)
{
    for (unsigned i = 0; disk_next(dom, &i); i++)
        vbd_release(d, dom, i);
    for (unsigned k = 0; nic_next(dom, &k); k++) {
        dom->split[FIRST_NIC + k].be = 0;
        keeper_drop(&dom->tap[k]);
    }
    keeper_close_channel(dom->channel);
}

int guest_open_device(struct daemon *d, struct domain *dom, unsigned i, char why[DAEMON_SENTENCE_MAX])
{
    int rc;

    if (!split_is_disk(i)) {
        dom->split[i].be = dom_find(d, dom->split[i].backend)->domid;
        return 0;
    }
    rc = vbd_assign(d, dom, i);
    dom->vbd[i].give_up_at = dom->vbd[i].device == VBD_OPENING ? now_ms() + OPEN_WAIT_MS : 0;
    if (rc)
        vbd_open_sentence(dom, i, rc, why);
    return rc;
}

int guest_start(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    int rc = 0;

    for (unsigned i = 0; !rc && split_next(dom, &i); i++)
        rc = guest_check_device(d, dom, i, why);
    if (!rc)
        rc = door_open(d, dom, why);
    if (!rc)
        rc = want_taps(d, dom, why);
    for (unsigned i = 0; !rc && split_next(dom, &i); i++)
        rc = guest_open_device(d, dom, i, why);
    if (rc) {
        release_devices(d, dom);
        if (dom->state == ST_DEFINED)
            door_close(dom);
        return rc;
    }
    dom->state = ST_STARTING;
    dom->deadline = dom->spec.door == POLICY_DOOR_TAP ? now_ms() + READY_WAIT_MS : 0;
    event_tell(d, "starting", dom, NULL);
    session_progress(d, dom, "opening the %s of %s", split_words(dom), dom->spec.name);
    keeper_ask(d);
    guest_go_on(d, dom);
    return 0;
}

static void remove_nodes(struct daemon *d, struct domain *dom, unsigned i)
{
    struct split *split = &dom->split[i];

    if (split_is_disk(i))
        vbd_release_ahead(d, dom, i, spare_of(d, split));
    split_remove_nodes(d, dom, i, split->live);
    split_remove_nodes(d, dom, i, !split->live);
    split->live = 0;
    split->awaited = false;
    if (dom->built)
        split_close_report(d, dom, i);
}

/* Nobody waits for its report any more. */
static void not_awaited(struct daemon *d, const char *backend)
{
    struct domain *driver = dom_find(d, backend);

    if (driver)
        recovery_look(d, driver);
    if (driver)
        spare_look(d, driver);
}

void guest_drop_device(struct daemon *d, struct domain *dom, unsigned i)
{
    remove_nodes(d, dom, i);
    if (split_is_disk(i))
        vbd_release(d, dom, i);
    dom->split[i].be = 0;
    not_awaited(d, dom->split[i].backend);
}

void guest_release(struct daemon *d, struct domain *dom)
{
    for (unsigned i = 0; split_next(dom, &i); i++)
        remove_nodes(d, dom, i);
    release_devices(d, dom);
    home_remove(d, dom->domid);
    dom->built = false;
    for (unsigned i = 0; split_next(dom, &i); i++)
        not_awaited(d, dom->split[i].backend);
    change_over(d, dom);
}

/* ------------------------------------------------------------ devices that open */

static void not_opened(struct daemon *d, struct domain *dom, const char *why)
{
    if (dom->built)
        change_failed(d, dom, why);
    else
        dom_start_failed(d, dom, why);
}

static void device_failed(struct daemon *d, struct domain *dom, unsigned i, struct vbd *vbd, int error)
{
    bool busy = error == -EBUSY || error == -EAGAIN;
    char why[DAEMON_SENTENCE_MAX];

    vbd_open_sentence(dom, i, error, why);
    if (dom->built && dom->split[i].at != SPLIT_NEW) {
        if (vbd->last_error != error)
            event_error(d, dom, "%s", why);
        vbd->last_error = error;
        vbd->retry_at = now_ms() + REASSIGN_MS;
    } else if (busy && now_ms() + OPEN_RETRY_MS < vbd->give_up_at) {
        vbd->retry_at = now_ms() + OPEN_RETRY_MS;
    } else {
        not_opened(d, dom, why);
    }
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

        for (unsigned i = 0; dom->used && disk_next(dom, &i); i++) {
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
            change_look(d, dom);
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
    for (unsigned i = 0; disk_next(dom, &i); i++) {
        struct vbd *vbd = &dom->vbd[i];
        char why[DAEMON_SENTENCE_MAX];

        if (vbd->give_up_at && now >= vbd->give_up_at) {
            vbd_open_sentence(dom, i, -EBUSY, why);
            not_opened(d, dom, why);
            return;
        }
        if (vbd->retry_at && now >= vbd->retry_at)
            retry(d, dom, i, vbd, dom->split[i].be);
        if (dom->ahead[i].retry_at && now >= dom->ahead[i].retry_at)
            retry(d, dom, i, &dom->ahead[i], spare_of(d, &dom->split[i]));
    }
    if (dom->state == ST_RUNNING)
        change_tick(d, dom, now);
    definition_tick(d, dom);
}

uint64_t guest_next_tick(const struct domain *dom)
{
    const uint64_t own[] = {dom->state == ST_RUNNING ? change_next_tick(dom) : 0, definition_next_tick(dom)};
    uint64_t next = own[0] ? own[0] : own[1];

    for (unsigned i = 0; disk_next(dom, &i); i++) {
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
    else if (split->at == SPLIT_COMING)
        change_failed(d, dom, why);
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

void guest_connected(struct daemon *d, struct domain *dom)
{
    bool all = dom->built && dom->state == ST_STARTING;

    for (unsigned i = 0; split_next(dom, &i); i++)
        all = all && dom->split[i].connected;
    if (all)
        dom_is_running(d, dom, "running");
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
                   json_pack("{s:s}", split_is_disk(i) ? "disk" : "nic", split->dev));
    split->connected = connected;
    if (connected)
        recovery_look(d, dom_find(d, split->backend));
    guest_connected(d, dom);
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
    if (!(dom->there & 1u << i)) /* it was being attached, and that failed */
        return;
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

        for (unsigned i = 0; dom->used && split_next(dom, &i); i++)
            if (everything || (dom->domid == domid && i == split))
                hear(d, dom, i, ev->path);
    }
}
