/* SPDX-License-Identifier: MIT */
/* backend.c - virtual devices come, connect, close and go. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend.h"
#include "../hyp-shim/clock.h"
#include "../hyp-shim/crash.h"
#include "../hyp-shim/log.h"

#define STAND_BACK_MS 3
#define WATCH_OWN  "own"
#define WATCH_PEER "peer" /* then .SERIAL */
#define NAMES_MAX  4096

static struct {
    const struct backend_class *cls;
    struct hyp *hyp;
    struct store *store;
    struct backend_device *first, *end; /* of the class's table */
    unsigned serial;
    bool stopping;
    uint64_t leave_by_ms; /* stopping: the end of everyone's patience */
} backend;

struct hyp *backend_hyp(void)
{
    return backend.hyp;
}

struct store *backend_store(void)
{
    return backend.store;
}

unsigned backend_ping_workers(void)
{
    return backend.cls->ping();
}

static struct backend_device *after(struct backend_device *d)
{
    return (struct backend_device *)(void *)((char *)d + backend.cls->device_bytes);
}

#define EACH_DEVICE struct backend_device *d = backend.first; d != backend.end; d = after(d)

/* ------------------------------------------------------------------ telling */

static void tell_failure(struct backend_device *d, int err, const char *what)
{
    log_line("%s %u of domain %u: %s (%s)", backend.cls->name, d->devid, d->frontend, what,
                strerrorname_np(-err));
    if (!d->gone)
        xenbus_error(&d->bus, err, what);
}

static void switch_to(struct backend_device *d, enum xenbus_state to)
{
    if (d->gone)
        return;
    int err = xenbus_switch(&d->bus, to);
    if (err < 0 && err != -ENOENT)
        log_line("%s %u of domain %u: state %s cannot be written to the store (%s)", backend.cls->name,
                    d->devid, d->frontend, xenbus_state_name(to), strerrorname_np(-err));
}

/* ----------------------------------------------------------- life of a device */

static void scan(void);
static void look_at_frontend(struct backend_device *d);

static void free_device(struct backend_device *d)
{
    if (d->open)
        backend.cls->close(d);
    memset(d, 0, backend.cls->device_bytes);
}

void backend_closed(struct backend_device *d)
{
    if (d->gone) {
        free_device(d);
        scan(); /* a new directory of the same name may have waited for this */
        return;
    }
    backend.cls->write_stats(d);
    d->state = BACKEND_CLOSED;
    switch_to(d, XenbusStateClosed);
    look_at_frontend(d);
}

static bool has_queues(const struct backend_device *d)
{
    return d->state == BACKEND_CONNECTED || d->state == BACKEND_ARMED;
}

/* Ends the connection: workers finish what is in flight and give everything back. */
static void disconnect(struct backend_device *d)
{
    if (!has_queues(d))
        return;
    d->state = BACKEND_CLOSING;
    d->untold = false;
    switch_to(d, XenbusStateClosing);
    backend.cls->detach(d);
}

void backend_broken(struct backend_device *d, const char *why)
{
    if (!has_queues(d))
        return;
    tell_failure(d, -EPROTO, why);
    disconnect(d);
}

static void refuse(struct backend_device *d, int err, const char *what)
{
    tell_failure(d, err, what);
    d->state = BACKEND_CLOSED;
    switch_to(d, XenbusStateClosed);
}

static void wait_for_frontend(struct backend_device *d)
{
    int err = backend.cls->write_features(d);
    if (err < 0) {
        tell_failure(d, err, "features cannot be written to the store");
        return;
    }
    d->state = BACKEND_WAITING;
    switch_to(d, XenbusStateInitWait);
    CRASH_POINT("back-initwait");
    look_at_frontend(d);
}

/* Workers have it from here on. */
static void set_going(struct backend_device *d)
{
    CRASH_POINT("back-go-before-attach");
    d->state = BACKEND_CONNECTED;
    d->untold = true;
    backend.cls->attach(d);
    CRASH_POINT("back-go-after-attach");
}

static void tell_connected(struct backend_device *d)
{
    int err = backend.cls->write_geometry && !d->gone ? backend.cls->write_geometry(d) : 0;
    d->untold = false;
    if (err < 0 && err != -ENOENT) {
        tell_failure(d, err, "what is to be known of it cannot be written to the store");
        disconnect(d);
        return;
    }
    switch_to(d, XenbusStateConnected);
    CRASH_POINT("back-connected");
}

static void connect_device(struct backend_device *d)
{
    const char *what;
    CRASH_POINT("back-connect-before-map");
    int err = backend.cls->connect(d, &what);
    if (err < 0) {
        refuse(d, err, what);
        return;
    }
    CRASH_POINT("back-connect-after-map");
    if (d->open) {
        /* The offer may be older than the device: its ring is a dead one's until it rings. */
        if (d->standby && backend.cls->arm)
            backend.cls->arm(d);
        set_going(d);
        tell_connected(d);
        return;
    }
    d->state = BACKEND_ARMED;
    if (backend.cls->arm)
        backend.cls->arm(d);
    switch_to(d, XenbusStateInitialised);
    CRASH_POINT("back-armed");
}

/* -EAGAIN: not yet. */
static int try_open(struct backend_device *d, const char **what)
{
    int err = backend.cls->open(d, what);
    d->awaited = err == -EAGAIN;
    d->open = err == 0;
    return err;
}

static void open_device(struct backend_device *d)
{
    const char *what;
    int err = try_open(d, &what);
    if (err < 0 && err != -EAGAIN)
        refuse(d, err, what);
    else if (err == 0 || d->standby)
        wait_for_frontend(d);
}

/* What d waited for may be there. */
static void device_came(struct backend_device *d)
{
    const char *what;
    int err = try_open(d, &what);
    if (err == -EAGAIN)
        return;
    CRASH_POINT("back-device-acquired");
    if (err < 0 && d->state == BACKEND_ARMED) {
        tell_failure(d, err, what);
        disconnect(d);
    } else if (err < 0 && d->state != BACKEND_CLOSING) {
        refuse(d, err, what);
    } else if (err == 0 && d->state == BACKEND_ARMED) {
        set_going(d);
    } else if (err == 0 && (d->state == BACKEND_NO_DEVICE || d->state == BACKEND_WAITING)) {
        wait_for_frontend(d);
    }
}

/* The frontend's state changed, or ours did and its state may matter now. */
static void look_at_frontend(struct backend_device *d)
{
    enum xenbus_state peer;

    if (xenbus_read_peer_state(&d->bus, &peer) < 0)
        return; /* the store is away; it will say when to look again */
    switch (d->state) {
    case BACKEND_WAITING:
        if (peer == XenbusStateInitialised || peer == XenbusStateConnected)
            connect_device(d);
        break;
    case BACKEND_ARMED:
    case BACKEND_CONNECTED:
        if (peer != XenbusStateInitialised && peer != XenbusStateConnected)
            disconnect(d);
        break;
    case BACKEND_CLOSED:
        if (peer == XenbusStateInitialising && (d->open || (d->standby && d->awaited)) && !backend.stopping)
            wait_for_frontend(d);
        break;
    default:
        break; /* something else has to happen first */
    }
}

static void peer_token(const struct backend_device *d, char out[STORE_TOKEN_MAX])
{
    snprintf(out, STORE_TOKEN_MAX, WATCH_PEER ".%u", d->serial);
}

static void watch_frontend(struct backend_device *d, bool on)
{
    char path[STORE_PATH_MAX + 8], token[STORE_TOKEN_MAX];
    snprintf(path, sizeof(path), "%s/state", d->bus.peer);
    peer_token(d, token);
    int err = on ? store_watch(backend.store, path, token) : store_unwatch(backend.store, path, token);
    if (on && err < 0)
        tell_failure(d, err, "the frontend's state cannot be watched");
}

/* ------------------------------------------------------------ scan of our nodes */

static struct backend_device *find(domid_t frontend, unsigned devid)
{
    for (EACH_DEVICE)
        if (d->state != BACKEND_FREE && d->frontend == frontend && d->devid == devid)
            return d;
    return NULL;
}

static struct backend_device *find_free(void)
{
    for (EACH_DEVICE)
        if (d->state == BACKEND_FREE)
            return d;
    return NULL;
}

/* Begun when the scan has found out what is gone. */
static void add(domid_t frontend, unsigned devid)
{
    struct backend_device *d = find_free();
    if (!d) {
        log_line("%s %u of domain %u: this driver domain serves %u devices already; use another one",
                    backend.cls->name, devid, frontend, backend.cls->devices_max);
        return;
    }
    *d = (struct backend_device){ .state = BACKEND_NO_DEVICE, .frontend = frontend, .devid = devid,
                                  .serial = ++backend.serial, .seen = true, .fresh = true };
    if (xenbus_backend_init(&d->bus, backend.store, hyp_domid(backend.hyp), backend.cls->name, frontend,
                            devid) < 0)
        d->state = BACKEND_FREE;
}

/* Where the frontend's directory is.  The toolstack says so, and still it must be
 * one of that frontend's; without a word it is the usual one. */
static int find_peer(struct backend_device *d)
{
    char path[STORE_PATH_MAX + 16], peer[STORE_PATH_MAX];
    snprintf(path, sizeof(path), "%s/frontend", d->bus.own);
    int n = store_read(backend.store, STORE_NO_TXN, path, peer, sizeof(peer));
    if (n < 0)
        return n == -ENOENT ? 0 : n;
    return xenbus_backend_set_peer(&d->bus, backend.cls->name, d->devid, peer);
}

static void begin(struct backend_device *d)
{
    uint64_t standby;
    int err = find_peer(d);
    if (err < 0) {
        refuse(d, err, "the node frontend of its directory names no directory of its frontend's");
        return;
    }
    d->standby =
        store_read_number(backend.store, STORE_NO_TXN, d->bus.own, "standby", 1, &standby) == 0 && standby;
    watch_frontend(d, true);
    open_device(d);
}

static void remove_device(struct backend_device *d)
{
    d->gone = true;
    watch_frontend(d, false);
    disconnect(d);
    if (d->state != BACKEND_CLOSING)
        free_device(d);
}

/* The directory is there and holds what we last wrote, not a new life's 1. */
static bool same_life(struct backend_device *d)
{
    uint64_t state;
    if (d->bus.state == XenbusStateUnknown)
        return true; /* nothing written yet */
    int err = store_read_number(backend.store, STORE_NO_TXN, d->bus.own, "state", UINT8_MAX, &state);
    return xenbus_store_away(err) || (err == 0 && state == (uint64_t)d->bus.state);
}

/* A complete directory: the toolstack makes each in one transaction.  1, 0, or a
 * negative errno: the store is away. */
static int is_complete(domid_t frontend, unsigned devid)
{
    struct xenbus_device bus;
    uint64_t id;
    if (xenbus_backend_init(&bus, backend.store, hyp_domid(backend.hyp), backend.cls->name, frontend,
                            devid) < 0)
        return 0;
    int err = store_read_number(backend.store, STORE_NO_TXN, bus.own, "frontend-id", UINT16_MAX, &id);
    return xenbus_store_away(err) ? err : err == 0 && id == frontend;
}

static void found(domid_t frontend, unsigned devid)
{
    int complete = is_complete(frontend, devid);
    struct backend_device *d = find(frontend, devid);
    if (complete < 0 && d)
        d->seen = true;
    if (complete <= 0)
        return;
    if (d && !d->gone && !same_life(d)) {
        remove_device(d);
        d = find(frontend, devid);
    }
    if (d)
        d->seen = true;
    else if (!backend.stopping)
        add(frontend, devid);
}

/* Calls fn for each child of path whose name is a number. */
static int each_number(const char *path, char names[NAMES_MAX], uint64_t max,
                       void (*fn)(uint64_t, void *), void *arg)
{
    int n = store_directory(backend.store, STORE_NO_TXN, path, names, NAMES_MAX);
    const char *name = names;
    for (int i = 0; i < n; i++, name += strlen(name) + 1) {
        char *end;
        unsigned long long number = strtoull(name, &end, 10);
        if (*name >= '0' && *name <= '9' && !*end && number <= max)
            fn(number, arg);
    }
    return n;
}

static void found_device(uint64_t devid, void *frontend)
{
    found(*(domid_t *)frontend, (unsigned)devid);
}

static void own_root(char path[STORE_PATH_MAX])
{
    snprintf(path, STORE_PATH_MAX, "/local/domain/%u/backend/%s", hyp_domid(backend.hyp), backend.cls->name);
}

static void found_frontend(uint64_t domid, void *unused)
{
    static char names[NAMES_MAX];
    char root[STORE_PATH_MAX], path[STORE_PATH_MAX + 16];
    domid_t frontend = (domid_t)domid;
    (void)unused;
    own_root(root);
    snprintf(path, sizeof(path), "%s/%u", root, frontend);
    int n = each_number(path, names, UINT32_MAX, found_device, &frontend);
    if (n >= 0 || n == -ENOENT)
        return;
    log_line("%s cannot be listed (%s)", path, strerrorname_np(-n));
    for (EACH_DEVICE)
        if (d->frontend == frontend)
            d->seen = true; /* nobody said that they are gone */
}

/* Compares the whole table with the whole directory.  What is gone goes before
 * what is new is opened: the one may have been what the other is now. */
static void scan(void)
{
    static bool scanning;
    static char names[NAMES_MAX];
    char path[STORE_PATH_MAX];

    if (scanning)
        return;
    scanning = true;
    for (EACH_DEVICE)
        d->seen = false;
    own_root(path);
    int n = each_number(path, names, UINT16_MAX, found_frontend, NULL);
    if (n < 0 && n != -ENOENT)
        log_line("%s cannot be listed (%s)", path, strerrorname_np(-n));
    for (EACH_DEVICE)
        if (d->state != BACKEND_FREE && !d->seen && !d->gone && (n >= 0 || n == -ENOENT))
            remove_device(d);
    for (EACH_DEVICE) {
        if (!d->fresh)
            continue;
        d->fresh = false;
        begin(d);
    }
    scanning = false;
}

/* ----------------------------------------------------------------------- events */

/* Most changes below our directory are our own: states and statistics. */
static bool is_ours(const char *path)
{
    char root[STORE_PATH_MAX];
    own_root(root);
    size_t n = strlen(root);
    if (strncmp(path, root, n) != 0)
        return false;
    const char *at = path + n;
    for (int level = 0; level < 2 && at; level++) /* past /FE/DEVID to the key */
        at = *at ? strchr(at + 1, '/') : NULL;
    return at && strcmp(at, "/frontend-id") != 0;
}

static void peer_event(const char *token)
{
    for (EACH_DEVICE) {
        char expected[STORE_TOKEN_MAX];
        if (d->state == BACKEND_FREE || d->gone)
            continue;
        peer_token(d, expected);
        if (strcmp(token, expected) == 0)
            look_at_frontend(d);
    }
}

static void look_at_everyone(void)
{
    scan();
    for (EACH_DEVICE)
        if (d->state != BACKEND_FREE && !d->gone)
            look_at_frontend(d);
}

int backend_store_events(void)
{
    struct store_event ev;
    int got;

    while ((got = store_next_event(backend.store, &ev)) > 0) {
        if (ev.token[0] == '\0') /* too many at once (XSA-349), or the store was away */
            look_at_everyone();
        if (ev.token[0] == '\0' || strcmp(ev.token, BACKEND_WATCH_PING) == 0)
            heartbeat_asked();
        else if (strcmp(ev.token, CRASH_WATCH) == 0)
            crash_look(backend.store, hyp_domid(backend.hyp));
        else if (strcmp(ev.token, WATCH_OWN) != 0)
            peer_event(ev.token);
        else if (!is_ours(ev.path))
            scan();
    }
    return got;
}

/* Who is connected is served until its frontend has closed: it puts nothing new on
 * its ring once it reads this. */
static void stop(void)
{
    if (backend.stopping)
        return;
    backend.stopping = true;
    backend.leave_by_ms = monotonic_ms() + BACKEND_LEAVE_MS;
    for (EACH_DEVICE) {
        if (d->state == BACKEND_CONNECTED) {
            d->untold = false;
            switch_to(d, XenbusStateClosing);
        } else if (d->state == BACKEND_ARMED) {
            disconnect(d);
        } else if (d->state == BACKEND_WAITING || d->state == BACKEND_NO_DEVICE) {
            d->state = BACKEND_CLOSED;
            switch_to(d, XenbusStateClosed);
        }
    }
    CRASH_POINT("back-leaving");
}

static void stop_waiting(void)
{
    if (backend.stopping && monotonic_ms() >= backend.leave_by_ms)
        for (EACH_DEVICE)
            disconnect(d);
}

static int take_hyp_events(void)
{
    struct hyp_event ev;
    int got;

    while ((got = hyp_next_event(backend.hyp, &ev)) > 0) {
        if (ev.kind == HYP_EV_STOP)
            stop();
        if (ev.kind == HYP_EV_DEVICE && backend.cls->device_came)
            backend.cls->device_came(ev.device);
        for (EACH_DEVICE) {
            if (ev.kind == HYP_EV_DEATH && d->frontend == ev.domid)
                disconnect(d);
            else if (ev.kind == HYP_EV_DEVICE && d->awaited && d->device == ev.device && !d->gone &&
                     !backend.stopping)
                device_came(d);
        }
    }
    return got;
}

static struct backend_device *find_untold(void)
{
    for (EACH_DEVICE)
        if (d->untold)
            return d;
    return NULL;
}

/* Telling takes its time, and serving must not wait for it: everyone who can be
 * is set going first, also who can only be meanwhile, and has the processors to
 * himself for a moment. */
int backend_hyp_events(void)
{
    const struct timespec moment = { .tv_nsec = STAND_BACK_MS * 1000000L };
    struct pollfd more = { .fd = hyp_fd(backend.hyp), .events = POLLIN };
    struct backend_device *d;
    int got;

    while ((got = take_hyp_events()) == 0 && find_untold() && ppoll(&more, 1, &moment, NULL) > 0)
        ;
    while (got == 0 && (d = find_untold())) {
        tell_connected(d);
        got = take_hyp_events();
    }
    return got;
}

/* ------------------------------------------------------------------------- rest */

int backend_init(const struct backend_class *cls, struct hyp *hyp, struct store *store, void *devices)
{
    char path[STORE_PATH_MAX];

    backend.cls = cls;
    backend.hyp = hyp;
    backend.store = store;
    backend.first = devices;
    backend.end = (struct backend_device *)(void *)((char *)devices + cls->devices_max * cls->device_bytes);
    backend.serial = 0;
    backend.stopping = false;
    int err = heartbeat_init();
    if (err == 0)
        err = crash_watch(store, hyp_domid(hyp));
    own_root(path);
    return err < 0 ? err : store_watch(store, path, WATCH_OWN);
}

void backend_tick(void)
{
    stop_waiting();
    for (EACH_DEVICE)
        if (d->state == BACKEND_CONNECTED)
            backend.cls->write_stats(d);
}

bool backend_serving(void)
{
    for (EACH_DEVICE)
        if (d->state == BACKEND_CONNECTED || d->state == BACKEND_CLOSING)
            return true;
    return false;
}

int backend_timeout_ms(void)
{
    for (EACH_DEVICE)
        if (d->state == BACKEND_CONNECTED)
            return BACKEND_TICK_MS;
    return -1;
}

bool backend_stopped(void)
{
    return backend.stopping && !backend_serving();
}
