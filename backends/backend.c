/* SPDX-License-Identifier: MIT */
/* backend.c - virtual devices come, connect, close and go. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "../hyp-shim/log.h"

#define WATCH_OWN  "own"
#define WATCH_PEER "peer" /* then .SERIAL */
#define NAMES_MAX  4096
#define TRIES      8      /* of a transaction that others disturb */

static struct {
    const struct backend_class *cls;
    struct hyp *hyp;
    struct store *store;
    struct backend_device *first, *end; /* of the class's table */
    unsigned serial;
    bool stopping;
} backend;

struct hyp *backend_hyp(void)
{
    return backend.hyp;
}

struct store *backend_store(void)
{
    return backend.store;
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

/* Ends the connection: workers finish what is in flight and give everything back. */
static void disconnect(struct backend_device *d)
{
    if (d->state != BACKEND_CONNECTED)
        return;
    d->state = BACKEND_CLOSING;
    switch_to(d, XenbusStateClosing);
    backend.cls->detach(d);
}

void backend_broken(struct backend_device *d, const char *why)
{
    if (d->state != BACKEND_CONNECTED)
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
    look_at_frontend(d);
}

static void connect_device(struct backend_device *d)
{
    const char *what;
    int err = backend.cls->connect(d, &what);
    if (err < 0) {
        refuse(d, err, what);
        return;
    }
    d->state = BACKEND_CONNECTED;
    backend.cls->attach(d);
    switch_to(d, XenbusStateConnected);
}

static void open_device(struct backend_device *d)
{
    const char *what;
    int err = backend.cls->open(d, &what);
    if (err == -EAGAIN)
        return;
    if (err < 0) {
        refuse(d, err, what);
        return;
    }
    d->open = true;
    wait_for_frontend(d);
}

/* The frontend's state changed, or ours did and its state may matter now. */
static void look_at_frontend(struct backend_device *d)
{
    enum xenbus_state peer = xenbus_peer_state(&d->bus);

    switch (d->state) {
    case BACKEND_WAITING:
        if (peer == XenbusStateInitialised || peer == XenbusStateConnected)
            connect_device(d);
        break;
    case BACKEND_CONNECTED:
        if (peer != XenbusStateInitialised && peer != XenbusStateConnected)
            disconnect(d);
        break;
    case BACKEND_CLOSED:
        if (peer == XenbusStateInitialising && d->open && !backend.stopping)
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

/* Opened when the scan has found out what is gone. */
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
    return err == 0 && state == (uint64_t)d->bus.state;
}

/* A complete directory: the toolstack makes each in one transaction. */
static bool is_complete(domid_t frontend, unsigned devid)
{
    struct xenbus_device bus;
    uint64_t id;
    return xenbus_backend_init(&bus, backend.store, hyp_domid(backend.hyp), backend.cls->name, frontend,
                               devid) == 0 &&
           store_read_number(backend.store, STORE_NO_TXN, bus.own, "frontend-id", UINT16_MAX, &id) == 0 &&
           id == frontend;
}

static void found(domid_t frontend, unsigned devid)
{
    if (!is_complete(frontend, devid))
        return;
    struct backend_device *d = find(frontend, devid);
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
    if (n < 0 && n != -ENOENT)
        log_line("%s cannot be listed (%s)", path, strerrorname_np(-n));
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
        watch_frontend(d, true);
        open_device(d);
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
        if (ev.token[0] == '\0')
            look_at_everyone(); /* too many at once; some were merged (XSA-349) */
        else if (strcmp(ev.token, WATCH_OWN) != 0)
            peer_event(ev.token);
        else if (!is_ours(ev.path))
            scan();
    }
    return got;
}

static void stop(void)
{
    backend.stopping = true;
    for (EACH_DEVICE) {
        disconnect(d);
        if (d->state == BACKEND_WAITING || d->state == BACKEND_NO_DEVICE) {
            d->state = BACKEND_CLOSED;
            switch_to(d, XenbusStateClosed);
        }
    }
}

int backend_hyp_events(void)
{
    struct hyp_event ev;
    int got;

    while ((got = hyp_next_event(backend.hyp, &ev)) > 0) {
        if (ev.kind == HYP_EV_STOP)
            stop();
        for (EACH_DEVICE) {
            if (ev.kind == HYP_EV_DEATH && d->frontend == ev.domid)
                disconnect(d);
            else if (ev.kind == HYP_EV_DEVICE && d->state == BACKEND_NO_DEVICE)
                open_device(d);
        }
    }
    return got;
}

/* ------------------------------------------------------------------ our nodes */

/* What one transaction writes. */
struct writing {
    const struct backend_node *node;
    const char *const *names;
    const uint64_t *current, *published;
    size_t n;
};

int backend_put_counters(store_txn t, const char *dir, const char *const *names, const uint64_t *current,
                         const uint64_t *published, size_t n)
{
    int err = 0;
    for (size_t i = 0; i < n && err == 0; i++)
        if (current[i] != published[i])
            err = store_printf(backend.store, t, dir, names[i], "%llu", (unsigned long long)current[i]);
    return err;
}

static int write_all(const struct backend_device *d, store_txn t, const struct writing *w)
{
    char dir[STORE_PATH_MAX + 8];
    int err = 0;

    for (size_t i = 0; w->node && i < w->n && err == 0; i++)
        err = store_printf(backend.store, t, d->bus.own, w->node[i].key, "%llu",
                           (unsigned long long)w->node[i].value);
    if (w->node)
        return err;
    snprintf(dir, sizeof(dir), "%s/stats", d->bus.own);
    return backend_put_counters(t, dir, w->names, w->current, w->published, w->n);
}

/* A directory that the toolstack removed meanwhile must not come back by our
 * writing into it, so each change looks first, in one transaction. */
static int in_transaction(const struct backend_device *d, const struct writing *w)
{
    int err = -EAGAIN;

    for (int i = 0; i < TRIES && err == -EAGAIN; i++) {
        store_txn t;
        uint64_t id;
        err = store_txn_begin(backend.store, &t);
        if (err < 0)
            return err;
        err = store_read_number(backend.store, t, d->bus.own, "frontend-id", UINT16_MAX, &id);
        if (err == 0)
            err = write_all(d, t, w);
        if (err < 0)
            store_txn_abort(backend.store, t);
        else
            err = store_txn_commit(backend.store, t);
    }
    return err;
}

int backend_write_nodes(struct backend_device *d, const struct backend_node *node, size_t n)
{
    return in_transaction(d, &(struct writing){ .node = node, .n = n });
}

void backend_add_counters(uint64_t *sum, const uint64_t *counter, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += __atomic_load_n(&counter[i], __ATOMIC_RELAXED);
}

int backend_write_counters(struct backend_device *d, const char *const *names, const uint64_t *current,
                           uint64_t *published, size_t n)
{
    if (memcmp(current, published, n * sizeof(*current)) == 0)
        return 0;
    int err = in_transaction(d, &(struct writing){ .names = names, .current = current, .published = published,
                                                   .n = n });
    if (err == 0)
        memcpy(published, current, n * sizeof(*current));
    return err;
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
    own_root(path);
    return store_watch(store, path, WATCH_OWN);
}

void backend_tick(void)
{
    for (EACH_DEVICE)
        if (d->state == BACKEND_CONNECTED)
            backend.cls->write_stats(d);
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
    if (!backend.stopping)
        return false;
    for (EACH_DEVICE)
        if (d->state == BACKEND_CONNECTED || d->state == BACKEND_CLOSING)
            return false;
    return true;
}
