/* SPDX-License-Identifier: MIT */
/*
 * test_front_connect.h - what the tests of blkfront_open() and netfront_open()
 * share: a store that is a table in this file, the toolstack's part, and a
 * driver domain as far as the class of its devices does not matter.
 *
 * Before it: FE, the guest's domid; F, the frontend's directory; B, the format
 * of the backend's with its domid.
 */
#ifndef BULKHEAD_TEST_FRONT_CONNECT_H
#define BULKHEAD_TEST_FRONT_CONNECT_H

#include "test_front.h"

#include <stdio.h>
#include <time.h>

#include "../../frontends/guest.h"
#include "../../hyp-shim/store.h"
#include "../../hyp-shim/xenbus.h"

/* ------------------------------------------------------------ a small store */

#define NODES   256
#define WATCHES 32

struct store {
    int fd;
    char watch[WATCHES][STORE_PATH_MAX];
    unsigned fired;
};

static pthread_mutex_t store_lock = PTHREAD_MUTEX_INITIALIZER;
static struct { char path[STORE_PATH_MAX], value[STORE_VALUE_MAX]; } nodes[NODES];
static struct store *client;

static inline int node_at(const char *path)
{
    for (int i = 0; i < NODES; i++)
        if (strcmp(nodes[i].path, path) == 0)
            return i;
    return -1;
}

static inline void fire(const char *path)
{
    uint64_t one = 1;
    for (int i = 0; client && i < WATCHES; i++) {
        size_t n = strlen(client->watch[i]);
        if (n && strncmp(path, client->watch[i], n) == 0 && (path[n] == '\0' || path[n] == '/')) {
            client->fired++;
            assert_int_equal(write(client->fd, &one, sizeof(one)), sizeof(one));
        }
    }
}

static inline void set(const char *path, const char *value)
{
    pthread_mutex_lock(&store_lock);
    int i = node_at(path);
    if (i < 0 && (i = node_at("")) < 0)
        abort();
    if (snprintf(nodes[i].path, sizeof(nodes[i].path), "%s", path) >= (int)sizeof(nodes[i].path))
        abort();
    snprintf(nodes[i].value, sizeof(nodes[i].value), "%s", value);
    fire(path);
    pthread_mutex_unlock(&store_lock);
}

static inline int get(const char *path, char *buf, size_t cap)
{
    pthread_mutex_lock(&store_lock);
    int i = node_at(path);
    if (i >= 0)
        snprintf(buf, cap, "%s", nodes[i].value);
    pthread_mutex_unlock(&store_lock);
    return i < 0 ? -ENOENT : (int)strlen(buf);
}

static inline void unset_below(const char *dir)
{
    size_t n = strlen(dir);
    pthread_mutex_lock(&store_lock);
    for (int i = 0; i < NODES; i++)
        if (strncmp(nodes[i].path, dir, n) == 0 && (nodes[i].path[n] == '/' || nodes[i].path[n] == '\0')) {
            fire(nodes[i].path);
            nodes[i].path[0] = '\0';
        }
    pthread_mutex_unlock(&store_lock);
}

int store_open(struct store **out, struct hyp *hyp)
{
    (void)hyp;
    *out = client = calloc(1, sizeof(**out));
    client->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return 0;
}

void store_close(struct store *st)
{
    client = NULL;
    close(st->fd);
    free(st);
}

int store_fd(const struct store *st)
{
    return st->fd;
}

int store_read(struct store *st, store_txn t, const char *path, char *buf, size_t cap)
{
    (void)st, (void)t;
    return get(path, buf, cap);
}

int store_write(struct store *st, store_txn t, const char *path, const char *value)
{
    (void)st, (void)t;
    set(path, value);
    return 0;
}

int store_mkdir(struct store *st, store_txn t, const char *path)
{
    return store_write(st, t, path, "");
}

int store_rm(struct store *st, store_txn t, const char *path)
{
    (void)st, (void)t;
    unset_below(path);
    return 0;
}

int store_directory(struct store *st, store_txn t, const char *path, char *buf, size_t cap)
{
    (void)st, (void)t, (void)cap;
    size_t n = strlen(path), used = 0;
    int names = 0;
    pthread_mutex_lock(&store_lock);
    for (int i = 0; i < NODES; i++) {
        char name[64];
        if (strncmp(nodes[i].path, path, n) != 0 || nodes[i].path[n] != '/'
            || sscanf(nodes[i].path + n + 1, "%63[^/]", name) != 1)
            continue;
        size_t at = 0;
        while (at < used && strcmp(buf + at, name) != 0)
            at += strlen(buf + at) + 1;
        if (at == used) {
            memcpy(buf + used, name, strlen(name) + 1);
            used += strlen(name) + 1;
            names++;
        }
    }
    pthread_mutex_unlock(&store_lock);
    return names ? names : -ENOENT;
}

int store_read_number(struct store *st, store_txn t, const char *dir, const char *key, uint64_t max,
                      uint64_t *out)
{
    char path[2 * STORE_PATH_MAX], text[STORE_VALUE_MAX], *end;
    snprintf(path, sizeof(path), "%s/%s", dir, key);
    int n = store_read(st, t, path, text, sizeof(text));
    if (n < 0)
        return n;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno || n == 0 || *end || text[0] == '-' || *out > max ? -EINVAL : 0;
}

int store_printf(struct store *st, store_txn t, const char *dir, const char *key, const char *fmt, ...)
{
    char path[2 * STORE_PATH_MAX], text[STORE_VALUE_MAX];
    va_list ap;
    snprintf(path, sizeof(path), "%s/%s", dir, key);
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return store_write(st, t, path, text);
}

static inline int watch_change(struct store *st, const char *from, const char *to)
{
    int err = -ENOSPC;
    pthread_mutex_lock(&store_lock);
    for (int i = 0; err && i < WATCHES; i++)
        if (strcmp(st->watch[i], from) == 0) {
            snprintf(st->watch[i], STORE_PATH_MAX, "%s", to);
            err = 0;
        }
    if (!err && *to)
        fire(to);
    pthread_mutex_unlock(&store_lock);
    return err;
}

int store_watch(struct store *st, const char *path, const char *token)
{
    (void)token;
    return watch_change(st, "", path);
}

int store_unwatch(struct store *st, const char *path, const char *token)
{
    (void)token;
    return watch_change(st, path, "");
}

int store_next_event(struct store *st, struct store_event *ev)
{
    uint64_t n;
    memset(ev, 0, sizeof(*ev));
    pthread_mutex_lock(&store_lock);
    int some = st->fired > 0;
    st->fired -= some ? 1 : 0;
    if (!st->fired && read(st->fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
        abort();
    pthread_mutex_unlock(&store_lock);
    return some;
}

int store_txn_begin(struct store *st, store_txn *t)
{
    (void)st;
    *t = 1;
    return 0;
}

/* Every second commit must be done again. */
int store_txn_commit(struct store *st, store_txn t)
{
    static unsigned commits;
    (void)st, (void)t;
    return commits++ % 2 ? 0 : -EAGAIN;
}

void store_txn_abort(struct store *st, store_txn t)
{
    (void)st, (void)t;
}

/* ----------------------------------------------------- toolstack and backend */

#define GUEST "/tests/attach.sock"

/* The driver domain of now, and what it took from the frontend. */
static struct be {
    domid_t domid;
    char dir[STORE_PATH_MAX];
    const char *slot; /* the frontend's directory */
    struct hyp *hyp;
    struct hyp_map *map;
    unsigned queues, channels;
    struct hyp_evtchn *door[16];
} be;

static char why[256];
static unsigned news[4];

static inline void be_set(const char *key, const char *value)
{
    char path[2 * STORE_PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", be.dir, key);
    set(path, value);
}

/* A key of the frontend's; UINT32_MAX: not there. */
static inline unsigned f_number(const char *key)
{
    char path[2 * STORE_PATH_MAX], text[STORE_VALUE_MAX];
    snprintf(path, sizeof(path), "%s/%s", be.slot ? be.slot : F, key);
    return get(path, text, sizeof(text)) < 0 ? UINT32_MAX : (unsigned)strtoul(text, NULL, 10);
}

/* The same of one of its queues. */
static inline unsigned key_number(unsigned queue, const char *key)
{
    char name[64];
    snprintf(name, sizeof(name), be.queues > 1 ? "queue-%u/%s" : "%.0u%s", queue, key);
    return f_number(name);
}

static inline void nap(void)
{
    nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
}

static inline void await_state(enum xenbus_state state)
{
    for (int i = 0; f_number("state") != state; i++) {
        if (i > 20000)
            fail_msg("frontend stays in state %u, not %u", f_number("state"), state);
        nap();
    }
}

static inline void await_news(unsigned what, unsigned n)
{
    for (int i = 0; __atomic_load_n(&news[what], __ATOMIC_ACQUIRE) < n; i++) {
        if (i > 20000)
            fail_msg("news %u did not come", what);
        nap();
    }
}

/* A new driver domain, in InitWait with these features. */
static inline void be_make_with(domid_t domid, const char *const features[][2], size_t n)
{
    memset(&be, 0, sizeof(be));
    be.domid = domid;
    be.slot = F;
    be.hyp = fake_hyp_new(domid);
    snprintf(be.dir, sizeof(be.dir), B, domid);
    for (size_t i = 0; i < n; i++)
        be_set(features[i][0], features[i][1]);
    be_set("state", "2");
}

/* The toolstack tells the guest of it. */
static inline void be_tell(void)
{
    char path[2 * STORE_PATH_MAX], text[16];
    snprintf(path, sizeof(path), "%s/backend", be.slot);
    set(path, be.dir);
    snprintf(path, sizeof(path), "%s/backend-id", be.slot);
    snprintf(text, sizeof(text), "%u", be.domid);
    set(path, text);
}

/* It has seen our Initialised, and takes what is the same for all classes. */
static inline void be_accept(void)
{
    await_state(XenbusStateInitialised);
    be.queues = f_number("multi-queue-num-queues") == UINT32_MAX ? 1 : f_number("multi-queue-num-queues");
    assert_int_equal(hyp_map_open(be.hyp, FE, &be.map), 0);
}

static inline struct hyp_evtchn *be_bind(unsigned queue, const char *key)
{
    struct hyp_evtchn **door = &be.door[be.channels++];
    assert_int_equal(hyp_evtchn_bind(be.hyp, FE, key_number(queue, key), door), 0);
    return *door;
}

static inline void be_unmap(void)
{
    if (be.map)
        hyp_map_close(be.map);
    while (be.channels > 0)
        hyp_evtchn_close(be.door[--be.channels]);
    be.map = NULL;
    be.queues = 0;
}

static inline void be_dead(void)
{
    be_unmap();
    hyp_close(be.hyp);
    unset_below(be.dir);
    memset(&be, 0, sizeof(be));
}

/* Follows the frontend's Closing; -> InitWait. */
static inline void be_let_go(void)
{
    await_state(XenbusStateClosing);
    be_unmap();
    be_set("state", "5");
    await_state(XenbusStateClosed);
    be_set("state", "2");
}

/* --------------------------------------------------------------- the frontend */

/* The guest of this process, since hyp_open() knows no fake one. */
static inline void guest_make(void)
{
    struct guest *g;
    struct store *st;
    if (guest_get(&g, GUEST, false) == 0)
        return; /* there is one already */
    struct hyp *hyp = fake_hyp_new(FE);
    assert_int_equal(store_open(&st, hyp), 0);
    assert_int_equal(guest_new(&g, GUEST, hyp, st), 0);
}

static inline void connect_up(void)
{
    memset(nodes, 0, sizeof(nodes));
    memset(news, 0, sizeof(news));
    why[0] = '\0';
    set(F "/state", "1");
}

/* For nobody any more: its backend still holds the pool. Waits until that is dead. */
static inline void await_orphan_free(struct guest *g)
{
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&g->lock);
        bool free_now = !g->devices;
        pthread_mutex_unlock(&g->lock);
        if (free_now)
            return;
        nap();
    }
    fail_msg("the orphan stays");
}

#endif
