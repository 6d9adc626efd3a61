/* SPDX-License-Identifier: MIT */
/* blkback.c - virtual disks come, connect, close and go. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../log.h"
#include "vbd.h"

#define WATCH_OWN  "own"
#define WATCH_PEER "peer" /* then .SLOT.SERIAL */
#define NAMES_MAX  4096

static struct blkback backend;

/* ------------------------------------------------------------------ telling */

static void tell_failure(struct vbd *v, int err, const char *what)
{
    backend_log("vbd %u of domain %u: %s (%s)", v->devid, v->frontend, what, strerrorname_np(-err));
    if (!v->gone)
        xenbus_error(&v->bus, err, what);
}

static void switch_to(struct vbd *v, enum xenbus_state to)
{
    if (v->gone)
        return;
    int err = xenbus_switch(&v->bus, to);
    if (err < 0 && err != -ENOENT)
        backend_log("vbd %u of domain %u: state %s cannot be written to the store (%s)", v->devid, v->frontend,
                xenbus_state_name(to), strerrorname_np(-err));
}

/* -------------------------------------------------------------- life of a vbd */

static void scan(void);
static void look_at_frontend(struct vbd *v);

static void free_vbd(struct vbd *v)
{
    vbd_disk_close(v);
    *v = (struct vbd){ .state = VBD_FREE };
}

/* No queue is left. */
static void closed(struct vbd *v)
{
    v->nqueues = 0;
    if (v->gone) {
        free_vbd(v);
        scan(); /* a new directory of the same name may have waited for this */
        return;
    }
    vbd_write_stats(&backend, v);
    v->state = VBD_CLOSED;
    switch_to(v, XenbusStateClosed);
    look_at_frontend(v);
}

/* Ends the connection: workers finish what is in flight and give the queues back. */
static void disconnect(struct vbd *v)
{
    if (v->state != VBD_CONNECTED)
        return;
    v->state = VBD_CLOSING;
    switch_to(v, XenbusStateClosing);
    for (unsigned i = 0; i < v->nqueues; i++)
        mail_post(&v->queue[i].worker->in, MAIL_DETACH, v->queue[i].q);
}

static void wait_for_frontend(struct vbd *v)
{
    int err = vbd_write_features(&backend, v);
    if (err < 0) {
        tell_failure(v, err, "features cannot be written to the store");
        return;
    }
    v->state = VBD_WAITING;
    switch_to(v, XenbusStateInitWait);
    look_at_frontend(v);
}

static void connect_vbd(struct vbd *v)
{
    const char *what;
    int err = vbd_connect(&backend, v, &what);
    if (err < 0) {
        tell_failure(v, err, what);
        v->state = VBD_CLOSED;
        switch_to(v, XenbusStateClosed);
        return;
    }
    v->state = VBD_CONNECTED;
    vbd_attach(&backend, v);
    switch_to(v, XenbusStateConnected);
}

static void open_disk(struct vbd *v)
{
    const char *what;
    int err = vbd_disk_open(&backend, v, &what);
    if (err == -EAGAIN)
        return; /* HYP_EV_DEVICE follows */
    if (err < 0) {
        tell_failure(v, err, what);
        v->state = VBD_CLOSED;
        switch_to(v, XenbusStateClosed);
        return;
    }
    wait_for_frontend(v);
}

/* The frontend's state changed, or ours did and its state may matter now. */
static void look_at_frontend(struct vbd *v)
{
    enum xenbus_state peer = xenbus_peer_state(&v->bus);

    switch (v->state) {
    case VBD_WAITING:
        if (peer == XenbusStateInitialised || peer == XenbusStateConnected)
            connect_vbd(v);
        break;
    case VBD_CONNECTED:
        if (peer != XenbusStateInitialised && peer != XenbusStateConnected)
            disconnect(v);
        break;
    case VBD_CLOSED:
        if (peer == XenbusStateInitialising && v->has_disk && !backend.stopping)
            wait_for_frontend(v);
        break;
    default:
        break; /* something else has to happen first */
    }
}

static void peer_token(const struct vbd *v, char out[STORE_TOKEN_MAX])
{
    snprintf(out, STORE_TOKEN_MAX, WATCH_PEER ".%u.%u", (unsigned)(v - backend.vbd), v->serial);
}

static void watch_frontend(struct vbd *v, bool on)
{
    char path[STORE_PATH_MAX + 8], token[STORE_TOKEN_MAX];
    snprintf(path, sizeof(path), "%s/state", v->bus.peer);
    peer_token(v, token);
    int err = on ? store_watch(backend.store, path, token) : store_unwatch(backend.store, path, token);
    if (on && err < 0)
        tell_failure(v, err, "the frontend's state cannot be watched");
}

/* ------------------------------------------------------------ scan of our nodes */

static struct vbd *find(domid_t frontend, unsigned devid)
{
    for (unsigned i = 0; i < BLKBACK_VBDS_MAX; i++) {
        struct vbd *v = &backend.vbd[i];
        if (v->state != VBD_FREE && v->frontend == frontend && v->devid == devid)
            return v;
    }
    return NULL;
}

static void add(domid_t frontend, unsigned devid)
{
    struct vbd *v = NULL;
    for (unsigned i = 0; i < BLKBACK_VBDS_MAX && !v; i++)
        if (backend.vbd[i].state == VBD_FREE)
            v = &backend.vbd[i];
    if (!v) {
        backend_log("vbd %u of domain %u: this driver domain serves %u disks already; use another one", devid,
                frontend, BLKBACK_VBDS_MAX);
        return;
    }
    *v = (struct vbd){ .state = VBD_NO_DISK, .frontend = frontend, .devid = devid,
                       .serial = ++backend.serial, .seen = true };
    if (xenbus_backend_init(&v->bus, backend.store, hyp_domid(backend.hyp), "vbd", frontend, devid) < 0) {
        v->state = VBD_FREE;
        return;
    }
    watch_frontend(v, true);
    open_disk(v);
}

static void remove_vbd(struct vbd *v)
{
    v->gone = true;
    watch_frontend(v, false);
    disconnect(v);
    if (v->state != VBD_CLOSING)
        free_vbd(v);
}

/* The directory is there and holds what we last wrote, not a new life's 1. */
static bool same_life(struct vbd *v)
{
    uint64_t state;
    if (v->bus.state == XenbusStateUnknown)
        return true; /* nothing written yet */
    int err = store_read_number(backend.store, STORE_NO_TXN, v->bus.own, "state", UINT8_MAX, &state);
    return err == 0 && state == (uint64_t)v->bus.state;
}

/* A complete directory: the toolstack makes each in one transaction. */
static bool is_vbd(domid_t frontend, unsigned devid)
{
    struct xenbus_device bus;
    uint64_t id;
    return xenbus_backend_init(&bus, backend.store, hyp_domid(backend.hyp), "vbd", frontend, devid) == 0 &&
           store_read_number(backend.store, STORE_NO_TXN, bus.own, "frontend-id", UINT16_MAX, &id) == 0 &&
           id == frontend;
}

static void found(domid_t frontend, unsigned devid)
{
    if (!is_vbd(frontend, devid))
        return;
    struct vbd *v = find(frontend, devid);
    if (v && !v->gone && !same_life(v)) {
        remove_vbd(v);
        v = find(frontend, devid);
    }
    if (v)
        v->seen = true;
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

static void found_frontend(uint64_t domid, void *unused)
{
    static char names[NAMES_MAX];
    char path[STORE_PATH_MAX];
    domid_t frontend = (domid_t)domid;
    (void)unused;
    snprintf(path, sizeof(path), "/local/domain/%u/backend/vbd/%u", hyp_domid(backend.hyp), frontend);
    int n = each_number(path, names, UINT32_MAX, found_device, &frontend);
    if (n < 0 && n != -ENOENT)
        backend_log("the disks of domain %u cannot be listed (%s)", frontend, strerrorname_np(-n));
}

static void own_root(char path[STORE_PATH_MAX])
{
    snprintf(path, STORE_PATH_MAX, "/local/domain/%u/backend/vbd", hyp_domid(backend.hyp));
}

/* Compares the whole table with the whole directory. */
static void scan(void)
{
    static bool scanning;
    static char names[NAMES_MAX];
    char path[STORE_PATH_MAX];

    if (scanning)
        return;
    scanning = true;
    for (unsigned i = 0; i < BLKBACK_VBDS_MAX; i++)
        backend.vbd[i].seen = false;
    own_root(path);
    int n = each_number(path, names, UINT16_MAX, found_frontend, NULL);
    if (n < 0 && n != -ENOENT)
        backend_log("%s cannot be listed (%s)", path, strerrorname_np(-n));
    for (unsigned i = 0; i < BLKBACK_VBDS_MAX && (n >= 0 || n == -ENOENT); i++) {
        struct vbd *v = &backend.vbd[i];
        if (v->state != VBD_FREE && !v->seen && !v->gone)
            remove_vbd(v);
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
    return at && strcmp(at, "/frontend-id") != 0 && strcmp(at, "/params") != 0;
}

static void peer_event(const char *token)
{
    for (unsigned i = 0; i < BLKBACK_VBDS_MAX; i++) {
        char expected[STORE_TOKEN_MAX];
        struct vbd *v = &backend.vbd[i];
        if (v->state == VBD_FREE || v->gone)
            continue;
        peer_token(v, expected);
        if (strcmp(token, expected) == 0)
            look_at_frontend(v);
    }
}

static void look_at_everyone(void)
{
    scan();
    for (unsigned i = 0; i < BLKBACK_VBDS_MAX; i++)
        if (backend.vbd[i].state != VBD_FREE && !backend.vbd[i].gone)
            look_at_frontend(&backend.vbd[i]);
}

int blkback_store_events(void)
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

static void frontend_died(domid_t domid)
{
    for (unsigned i = 0; i < BLKBACK_VBDS_MAX; i++)
        if (backend.vbd[i].frontend == domid)
            disconnect(&backend.vbd[i]);
}

static void stop(void)
{
    backend.stopping = true;
    for (unsigned i = 0; i < BLKBACK_VBDS_MAX; i++) {
        struct vbd *v = &backend.vbd[i];
        disconnect(v);
        if (v->state == VBD_WAITING || v->state == VBD_NO_DISK) {
            v->state = VBD_CLOSED;
            switch_to(v, XenbusStateClosed);
        }
    }
}

int blkback_hyp_events(void)
{
    struct hyp_event ev;
    int got;

    while ((got = hyp_next_event(backend.hyp, &ev)) > 0) {
        if (ev.kind == HYP_EV_STOP)
            stop();
        else if (ev.kind == HYP_EV_DEATH)
            frontend_died(ev.domid);
        else if (ev.kind == HYP_EV_DEVICE)
            for (unsigned i = 0; i < BLKBACK_VBDS_MAX; i++)
                if (backend.vbd[i].state == VBD_NO_DISK)
                    open_disk(&backend.vbd[i]);
    }
    return got;
}

static void returned(struct vbd *v, struct blk_queue *q)
{
    bool all = true;
    for (unsigned i = 0; i < v->nqueues; i++) {
        if (v->queue[i].q == q)
            vbd_queue_end(v, &v->queue[i]);
        all &= v->queue[i].q == NULL;
    }
    if (all)
        closed(v);
}

void blkback_mail(void)
{
    struct mail m;

    for (unsigned i = 0; i < backend.nworkers; i++) {
        while (mail_take(&backend.workers[i].out, &m)) {
            struct blk_queue *q = m.what;
            struct vbd *v = q->owner;
            if (m.kind == MAIL_DETACHED) {
                returned(v, q);
            } else if (v->state == VBD_CONNECTED) {
                tell_failure(v, -EPROTO, q->why);
                disconnect(v);
            }
        }
    }
}

/* ------------------------------------------------------------------------- rest */

int blkback_init(struct hyp *hyp, struct store *store, struct worker *workers, unsigned nworkers)
{
    char path[STORE_PATH_MAX];

    backend = (struct blkback){ .hyp = hyp, .store = store, .workers = workers, .nworkers = nworkers };
    own_root(path);
    return store_watch(store, path, WATCH_OWN);
}

void blkback_tick(void)
{
    for (unsigned i = 0; i < BLKBACK_VBDS_MAX; i++)
        if (backend.vbd[i].state == VBD_CONNECTED)
            vbd_write_stats(&backend, &backend.vbd[i]);
}

int blkback_timeout_ms(void)
{
    for (unsigned i = 0; i < BLKBACK_VBDS_MAX; i++)
        if (backend.vbd[i].state == VBD_CONNECTED)
            return BLKBACK_TICK_MS;
    return -1;
}

bool blkback_stopped(void)
{
    if (!backend.stopping)
        return false;
    for (unsigned i = 0; i < BLKBACK_VBDS_MAX; i++)
        if (backend.vbd[i].state == VBD_CONNECTED || backend.vbd[i].state == VBD_CLOSING)
            return false;
    return true;
}
