/* SPDX-License-Identifier: MIT */
/*
 * test_backend.h - a store that is a list of names in this process, for tests
 * of a backend's control side.  Its definitions take the place of
 * hyp-shim/store.c in the program.  Include it once, after cmocka.
 */
#ifndef BULKHEAD_TEST_BACKEND_H
#define BULKHEAD_TEST_BACKEND_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../hyp-shim/store.h"

struct store {
    int unused;
};
static struct store the_store;
static struct {
    char path[STORE_PATH_MAX], value[STORE_VALUE_MAX];
} node[512];
static unsigned nnodes;
static struct {
    char path[STORE_PATH_MAX], token[STORE_TOKEN_MAX];
} watch[64];
static unsigned nwatches;
static struct store_event event[1024];
static unsigned first_event, nevents;
static int store_error; /* of every call; 0: the store is there */

static inline bool below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static inline void fire(const char *path, const char *token)
{
    assert_true(nevents < 1024);
    struct store_event *e = &event[(first_event + nevents++) % 1024];
    snprintf(e->path, sizeof(e->path), "%s", path);
    snprintf(e->token, sizeof(e->token), "%s", token);
}

static inline void changed(const char *path)
{
    for (unsigned i = 0; i < nwatches; i++)
        if (below(path, watch[i].path) || below(watch[i].path, path))
            fire(path, watch[i].token);
}

static inline int find_node(const char *path)
{
    for (unsigned i = 0; i < nnodes; i++)
        if (strcmp(node[i].path, path) == 0)
            return (int)i;
    return -1;
}

int store_write(struct store *st, store_txn t, const char *path, const char *value)
{
    (void)st, (void)t;
    if (store_error)
        return store_error;
    int i = find_node(path);
    if (i < 0) {
        assert_true(nnodes < 512);
        i = (int)nnodes++;
        snprintf(node[i].path, sizeof(node[i].path), "%s", path);
    }
    snprintf(node[i].value, sizeof(node[i].value), "%s", value);
    changed(path);
    return 0;
}

int store_read(struct store *st, store_txn t, const char *path, char *buf, size_t cap)
{
    (void)st, (void)t;
    if (store_error)
        return store_error;
    int i = find_node(path);
    if (i < 0)
        return -ENOENT;
    if (strlen(node[i].value) >= cap)
        return -E2BIG;
    return snprintf(buf, cap, "%s", node[i].value);
}

int store_read_number(struct store *st, store_txn t, const char *dir, const char *key, uint64_t max,
                      uint64_t *out)
{
    char path[STORE_PATH_MAX + 64], text[STORE_VALUE_MAX], *end;
    snprintf(path, sizeof(path), "%s/%s", dir, key);
    int n = store_read(st, t, path, text, sizeof(text));
    if (n < 0)
        return n;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end || text[0] < '0' || text[0] > '9' || v > max)
        return -EINVAL;
    *out = v;
    return 0;
}

int store_printf(struct store *st, store_txn t, const char *dir, const char *key, const char *fmt, ...)
{
    char path[STORE_PATH_MAX + 64], value[STORE_VALUE_MAX];
    va_list ap;
    snprintf(path, sizeof(path), "%s/%s", dir, key);
    va_start(ap, fmt);
    vsnprintf(value, sizeof(value), fmt, ap);
    va_end(ap);
    return store_write(st, t, path, value);
}

int store_rm(struct store *st, store_txn t, const char *path)
{
    (void)st, (void)t;
    for (unsigned i = nnodes; i-- > 0;)
        if (below(node[i].path, path))
            node[i] = node[--nnodes];
    changed(path);
    return 0;
}

int store_directory(struct store *st, store_txn t, const char *path, char *buf, size_t cap)
{
    (void)st, (void)t;
    size_t used = 0;
    int n = 0;
    if (store_error)
        return store_error;
    for (unsigned i = 0; i < nnodes; i++) {
        char name[STORE_PATH_MAX];
        if (!below(node[i].path, path) || node[i].path[strlen(path)] != '/')
            continue;
        snprintf(name, sizeof(name), "%s", node[i].path + strlen(path) + 1);
        name[strcspn(name, "/")] = '\0';
        bool twice = false;
        const char *p = buf;
        for (int k = 0; k < n; k++, p += strlen(p) + 1)
            twice |= strcmp(p, name) == 0;
        if (twice)
            continue;
        assert_true(used + strlen(name) + 1 <= cap);
        memcpy(buf + used, name, strlen(name) + 1);
        used += strlen(name) + 1;
        n++;
    }
    return n > 0 ? n : -ENOENT;
}

int store_watch(struct store *st, const char *path, const char *token)
{
    (void)st;
    assert_true(nwatches < 64);
    snprintf(watch[nwatches].path, STORE_PATH_MAX, "%s", path);
    snprintf(watch[nwatches++].token, STORE_TOKEN_MAX, "%s", token);
    fire(path, token);
    return 0;
}

int store_unwatch(struct store *st, const char *path, const char *token)
{
    (void)st;
    for (unsigned i = 0; i < nwatches; i++) {
        if (strcmp(watch[i].path, path) == 0 && strcmp(watch[i].token, token) == 0) {
            watch[i] = watch[--nwatches];
            return 0;
        }
    }
    return -ENOENT;
}

int store_next_event(struct store *st, struct store_event *ev)
{
    (void)st;
    if (nevents == 0)
        return 0;
    *ev = event[first_event];
    first_event = (first_event + 1) % 1024;
    nevents--;
    return 1;
}

int store_txn_begin(struct store *st, store_txn *t)
{
    (void)st;
    *t = 1;
    return store_error;
}

int store_txn_commit(struct store *st, store_txn t)
{
    (void)st, (void)t;
    return 0;
}

void store_txn_abort(struct store *st, store_txn t)
{
    (void)st, (void)t;
}

static inline void put(const char *path, const char *value)
{
    store_write(&the_store, STORE_NO_TXN, path, value);
}

static inline void put_number(const char *path, uint64_t v)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
    put(path, text);
}

static inline uint64_t get(const char *path)
{
    int i = find_node(path);
    if (i < 0)
        return UINT64_MAX;
    return strtoull(node[i].value, NULL, 10);
}

#endif
