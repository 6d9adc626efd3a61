/* SPDX-License-Identifier: MIT */
/*
 * follow.c - the service: what libvirt's guests do, their doors do.
 *
 * Two sides come and go on their own, libvirtd and bulkheadd.  Whenever one is
 * there again everything is compared; between that, what libvirt tells of a
 * guest makes that guest due.  A guest that is due is looked at as it is now, not
 * as it was when the event was made: so events may come late, twice or never.
 *
 * A door is closed only when libvirt, which is there, says that its guest does
 * not run.  The hook may open the same guest's doors at that moment (libvirt
 * starts it again): bulkheadd counts how often a guest was opened, we read the
 * count before we ask libvirt, and bulkheadd closes nothing whose count is
 * another.
 *
 * One thread.  A guest that is being started is locked in libvirt until its hook
 * has ended, and we wait for it; the hook never waits for us.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "../../hyp-shim/clock.h"
#include "../../policy/policy.h"
#include "../cli/cli.h"
#include "bridge.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MOST_MS  5000
#define KEEPALIVE_S      5
#define KEEPALIVE_COUNT  5
#define ANSWER_S         20u /* less than libvirtd waits for a sign of life: 30 s */

/* Not before at; then twice as long. */
struct backoff {
    long long at;
    int wait_ms;
};

struct guest {
    char *name;
    bool due;     /* to be looked at                                       */
    bool open;    /* it has been said that its doors are open              */
    bool changed; /* its metadata, since we looked last                  */
    char *said;   /* the last complaint: said once                         */
};

enum { EVENTS = 5 };

struct follow {
    struct bridge_options opt;
    virConnectPtr libvirt;
    int callback[EVENTS];
    bool libvirt_lost;
    struct connection events; /* of bulkheadd: tells us that it ends     */
    int watch;
    bool events_lost;
    struct backoff to_libvirt, to_bulkheadd, again;
    bool libvirt_missed, bulkheadd_missed; /* said                        */
    bool compare;                          /* every guest is due, also those we do not know */
    struct guest *guests;
    size_t n, room;
};

static void wait_longer(struct backoff *b)
{
    b->wait_ms = b->wait_ms ? 2 * b->wait_ms : BACKOFF_FIRST_MS;
    if (b->wait_ms > BACKOFF_MOST_MS)
        b->wait_ms = BACKOFF_MOST_MS;
    b->at = (long long)monotonic_ms() + b->wait_ms;
}

/* ------------------------------------------------------------------ guests */

/* NULL: no memory. */
static struct guest *guest_of(struct follow *f, const char *name)
{
    struct guest *g;

    for (size_t i = 0; i < f->n; i++)
        if (!strcmp(f->guests[i].name, name))
            return &f->guests[i];
    if (f->n == f->room) {
        size_t room = f->room ? 2 * f->room : 16;

        g = realloc(f->guests, room * sizeof(*g));
        if (!g)
            return NULL;
        f->guests = g;
        f->room = room;
    }
    g = &f->guests[f->n];
    *g = (struct guest){.name = strdup(name)};
    if (!g->name)
        return NULL;
    f->n++;
    return g;
}

static struct guest *make_due(struct follow *f, const char *name)
{
    struct guest *g = guest_of(f, name);

    if (g)
        g->due = true;
    else
        f->compare = true;
    f->again = (struct backoff){.at = 0};
    return g;
}

static void forget_idle(struct follow *f)
{
    size_t kept = 0;

    for (size_t i = 0; i < f->n; i++) {
        struct guest *g = &f->guests[i];

        if (g->due || g->open) {
            f->guests[kept++] = *g;
            continue;
        }
        free(g->name);
        free(g->said);
    }
    f->n = kept;
}

static void complain(struct guest *g, const char *why)
{
    if (!g->said || strcmp(g->said, why) != 0)
        bridge_say("%s: %s", g->name, why);
    free(g->said);
    g->said = strdup(why);
}

/* -------------------------------------------------------- what libvirt tells */

static const char *libvirt_why(void)
{
    const virError *e = virGetLastError();

    return e && e->message ? e->message : "it does not say why";
}

static int on_lifecycle(virConnectPtr conn, virDomainPtr dom, int event, int detail, void *opaque)
{
    (void)conn, (void)detail;
    if (event == VIR_DOMAIN_EVENT_STARTED || event == VIR_DOMAIN_EVENT_STOPPED ||
        event == VIR_DOMAIN_EVENT_CRASHED)
        make_due(opaque, virDomainGetName(dom));
    return 0;
}

static void on_metadata(virConnectPtr conn, virDomainPtr dom, int type, const char *ns, void *opaque)
{
    struct guest *g;

    (void)conn;
    if (type != VIR_DOMAIN_METADATA_ELEMENT || !ns || strcmp(ns, POLICY_NS) != 0)
        return;
    g = make_due(opaque, virDomainGetName(dom));
    if (g)
        g->changed = true;
}

static void tell_device(virDomainPtr dom, const char *device, struct follow *f, const char *what)
{
    for (size_t i = 0; i < f->n; i++)
        if (!strcmp(f->guests[i].name, virDomainGetName(dom)) && f->guests[i].open)
            bridge_say("%s: device %s %s", f->guests[i].name, device, what);
}

static void on_added(virConnectPtr conn, virDomainPtr dom, const char *device, void *opaque)
{
    (void)conn;
    tell_device(dom, device, opaque, "was plugged in");
}

static void on_removed(virConnectPtr conn, virDomainPtr dom, const char *device, void *opaque)
{
    (void)conn;
    tell_device(dom, device, opaque, "was unplugged");
}

static void on_removal_failed(virConnectPtr conn, virDomainPtr dom, const char *device, void *opaque)
{
    (void)conn;
    tell_device(dom, device, opaque, "is not let go by the guest");
}

static const struct {
    int id;
    virConnectDomainEventGenericCallback call;
} wanted[EVENTS] = {
    {VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle)},
    {VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(on_metadata)},
    {VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, VIR_DOMAIN_EVENT_CALLBACK(on_added)},
    {VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_removed)},
    {VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, VIR_DOMAIN_EVENT_CALLBACK(on_removal_failed)},
};

/* ------------------------------------------------------------- the two sides */

static void on_close(virConnectPtr conn, int reason, void *opaque)
{
    (void)conn, (void)reason;
    ((struct follow *)opaque)->libvirt_lost = true;
}

static void leave_libvirt(struct follow *f)
{
    for (int i = 0; i < EVENTS; i++)
        if (f->callback[i] >= 0)
            virConnectDomainEventDeregisterAny(f->libvirt, f->callback[i]);
    virConnectUnregisterCloseCallback(f->libvirt, on_close);
    virConnectClose(f->libvirt);
    f->libvirt = NULL;
    f->libvirt_lost = false;
}

static void miss_libvirt(struct follow *f, const char *why)
{
    if (!f->libvirt_missed)
        bridge_say("libvirt at %s is away (%s): guests and doors stay as they are until it is back",
                   f->opt.uri, why);
    f->libvirt_missed = true;
    wait_longer(&f->to_libvirt);
}

static void reach_libvirt(struct follow *f)
{
    bool good = true;

    f->libvirt = virConnectOpen(f->opt.uri);
    if (!f->libvirt) {
        miss_libvirt(f, libvirt_why());
        return;
    }
    virConnectSetKeepAlive(f->libvirt, KEEPALIVE_S, KEEPALIVE_COUNT);
    virConnectRegisterCloseCallback(f->libvirt, on_close, f, NULL);
    for (int i = 0; i < EVENTS; i++) {
        f->callback[i] =
            virConnectDomainEventRegisterAny(f->libvirt, NULL, wanted[i].id, wanted[i].call, f, NULL);
        good = good && f->callback[i] >= 0;
    }
    if (!good) {
        miss_libvirt(f, libvirt_why());
        leave_libvirt(f);
        return;
    }
    bridge_say("connected to libvirt at %s", f->opt.uri);
    f->libvirt_missed = false;
    f->to_libvirt = (struct backoff){.at = 0};
    f->compare = true;
}

/* Nothing of what comes is read but that it ends. */
static void on_bulkheadd(int watch, int fd, int what, void *opaque)
{
    struct follow *f = opaque;
    char buf[65536];
    ssize_t n;

    (void)watch, (void)what;
    do
        n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
    while (n > 0 || (n < 0 && errno == EINTR));
    if (n == 0 || errno != EAGAIN)
        f->events_lost = true;
}

static void leave_bulkheadd(struct follow *f)
{
    if (f->watch >= 0)
        virEventRemoveHandle(f->watch);
    connection_close(&f->events);
    f->watch = -1;
    f->events_lost = false;
}

static void reach_bulkheadd(struct follow *f)
{
    int rc = connection_try(&f->events, f->opt.run_dir, ANSWER_S);
    json_t *line = NULL;
    char why[BRIDGE_WHY_MAX];

    if (!rc && !connection_send(&f->events, json_pack("{s:s}", "cmd", "events")) &&
        (line = connection_next(&f->events)) && json_is_true(json_object_get(line, "ok")))
        f->watch = virEventAddHandle(f->events.fd, VIR_EVENT_HANDLE_READABLE | VIR_EVENT_HANDLE_HANGUP,
                                     on_bulkheadd, f, NULL);
    json_decref(line);
    if (f->watch >= 0) {
        bridge_say("connected to bulkheadd in %s", f->opt.run_dir);
        f->bulkheadd_missed = false;
        f->to_bulkheadd = (struct backoff){.at = 0};
        f->compare = true;
        return;
    }
    if (!rc)
        leave_bulkheadd(f);
    connection_why(f->opt.run_dir, rc ? -rc : EIO, why, sizeof(why));
    if (!f->bulkheadd_missed)
        bridge_say("%s; trying until it is there", why);
    f->bulkheadd_missed = true;
    wait_longer(&f->to_bulkheadd);
}

/* ------------------------------------------------------------------ compare */

/* What bulkheadd has under that name and that came by `open`; NULL: nothing. */
static const json_t *opened(const json_t *list, const char *name)
{
    const json_t *d;
    size_t i;

    json_array_foreach(json_object_get(list, "domains"), i, d)
    {
        const char *known = json_string_value(json_object_get(d, "name"));

        if (known && !strcmp(known, name) && json_is_true(json_object_get(d, "opened")))
            return d;
    }
    return NULL;
}

/* Every guest that runs there, and every one that was opened here. */
static bool make_all_due(struct follow *f, const json_t *list)
{
    virDomainPtr *doms = NULL;
    int n = virConnectListAllDomains(f->libvirt, &doms, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    const json_t *d;
    size_t i;

    if (n < 0)
        return false;
    for (int k = 0; k < n; k++) {
        make_due(f, virDomainGetName(doms[k]));
        virDomainFree(doms[k]);
    }
    free(doms);
    json_array_foreach(json_object_get(list, "domains"), i, d) if (json_is_true(json_object_get(d, "opened")))
        make_due(f, json_string_value(json_object_get(d, "name")));
    return true;
}

enum runs { RUNS_NOT, RUNS_OURS, RUNS_OTHER, RUNS_UNKNOWN };

/* How the guest is now; *xml for free() when it is ours. */
static enum runs look(struct follow *f, const char *name, char **xml)
{
    virDomainPtr dom = virDomainLookupByName(f->libvirt, name);
    enum runs runs = RUNS_UNKNOWN;
    int active;

    *xml = NULL;
    if (!dom)
        return virGetLastErrorCode() == VIR_ERR_NO_DOMAIN ? RUNS_NOT : RUNS_UNKNOWN;
    active = virDomainIsActive(dom);
    if (active == 1)
        *xml = virDomainGetXMLDesc(dom, 0);
    if (active == 0)
        runs = RUNS_NOT;
    else if (*xml)
        runs = guestxml_is_ours(*xml, strlen(*xml)) ? RUNS_OURS : RUNS_OTHER;
    virDomainFree(dom);
    if (runs == RUNS_OURS)
        return runs;
    free(*xml);
    *xml = NULL;
    return runs;
}

static void open_guest(struct follow *f, struct guest *g, const char *xml)
{
    char why[BRIDGE_WHY_MAX];

    if (ask_open(&f->opt, g->name, xml, why)) {
        complain(g, why);
        return;
    }
    if (!g->open || g->said)
        bridge_say("%s runs: its doors are open", g->name);
    else if (g->changed)
        bridge_say("%s: its metadata changed: its doors are as it says now", g->name);
    free(g->said);
    g->said = NULL;
    g->open = true;
    g->due = g->changed = false;
}

static void close_guest(struct follow *f, struct guest *g, const json_t *known)
{
    json_t *request = json_pack("{s:s,s:s}", "cmd", "close", "name", g->name);
    json_t *opens = json_object_get(known, "opens");
    char why[BRIDGE_WHY_MAX];

    if (opens)
        json_object_set(request, "opens", opens);
    if (ask(&f->opt, request, NULL, why)) {
        complain(g, why);
        return;
    }
    bridge_say("%s does not run: its doors are closed", g->name);
    g->open = g->due = false;
}

static void settle_guest(struct follow *f, struct guest *g, const json_t *list)
{
    const json_t *known = opened(list, g->name);
    char *xml;

    switch (look(f, g->name, &xml)) {
    case RUNS_OURS:
        open_guest(f, g, xml);
        break;
    case RUNS_NOT:
        if (known) {
            close_guest(f, g, known);
            break;
        }
        if (g->open)
            bridge_say("%s does not run: its doors are closed already", g->name);
        g->open = g->due = false;
        break;
    case RUNS_OTHER:
        g->open = g->due = false;
        break;
    case RUNS_UNKNOWN:
        break;
    }
    free(xml);
}

static bool is_due(const struct follow *f)
{
    bool due = f->compare;

    for (size_t i = 0; i < f->n; i++)
        due = due || f->guests[i].due;
    return due;
}

/* bulkheadd's list comes first: see above. */
static void settle(struct follow *f)
{
    json_t *list = NULL;
    char why[BRIDGE_WHY_MAX];
    struct backoff again = f->again;

    if (!ask(&f->opt, json_pack("{s:s}", "cmd", "list"), &list, why)) {
        if (f->compare && make_all_due(f, list))
            f->compare = false;
        for (size_t i = 0; !f->compare && i < f->n; i++)
            if (f->guests[i].due)
                settle_guest(f, &f->guests[i], list);
        json_decref(list);
        forget_idle(f);
    }
    f->again = again;
    if (is_due(f))
        wait_longer(&f->again);
    else
        f->again = (struct backoff){.at = 0};
    if (virConnectIsAlive(f->libvirt) != 1)
        f->libvirt_lost = true;
}

/* ------------------------------------------------------------------ the loop */

static void on_time(int timer, void *opaque)
{
    (void)timer, (void)opaque;
}

static void no_words(void *opaque, virErrorPtr e)
{
    (void)opaque, (void)e;
}

/* Milliseconds to when there is something to do without an event; -1: never. */
static int next_wait(const struct follow *f)
{
    long long at = -1, left;

    if (!f->libvirt)
        at = f->to_libvirt.at;
    if (f->watch < 0 && (at < 0 || f->to_bulkheadd.at < at))
        at = f->to_bulkheadd.at;
    if (f->libvirt && f->watch >= 0 && is_due(f))
        at = f->again.at;
    if (f->libvirt_lost || f->events_lost)
        at = 0;
    left = at - (long long)monotonic_ms();
    return at < 0 ? -1 : left > 0 ? (int)left : 0;
}

static void step(struct follow *f)
{
    if (f->libvirt_lost) {
        miss_libvirt(f, "the connection ended");
        leave_libvirt(f);
    }
    if (f->events_lost) {
        bridge_say("bulkheadd in %s has ended; doors stay as they are until it is back", f->opt.run_dir);
        f->bulkheadd_missed = true;
        leave_bulkheadd(f);
    }
    if (!f->libvirt && (long long)monotonic_ms() >= f->to_libvirt.at)
        reach_libvirt(f);
    if (f->watch < 0 && (long long)monotonic_ms() >= f->to_bulkheadd.at)
        reach_bulkheadd(f);
    if (f->libvirt && f->watch >= 0 && is_due(f) && (long long)monotonic_ms() >= f->again.at)
        settle(f);
}

int follow_run(const struct bridge_options *opt)
{
    struct follow f = {.opt = *opt, .events = {.fd = -1}, .watch = -1};
    int timer;

    if (f.opt.timeout_s > ANSWER_S)
        f.opt.timeout_s = ANSWER_S;
    virSetErrorFunc(NULL, no_words);
    if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0 ||
        (timer = virEventAddTimeout(-1, on_time, NULL, NULL)) < 0) {
        bridge_say("libvirt's library cannot be used: %s", libvirt_why());
        return BRIDGE_FAILURE;
    }
    for (;;) {
        step(&f);
        virEventUpdateTimeout(timer, next_wait(&f));
        if (virEventRunDefaultImpl() < 0)
            usleep(BACKOFF_FIRST_MS * 1000);
    }
}
