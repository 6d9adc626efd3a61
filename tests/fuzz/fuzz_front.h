/* SPDX-License-Identifier: MIT */
/*
 * fuzz_front.h - what the fuzzers of both frontends share: the input, and the
 * store as far as their terms need it.
 *
 * Before it: feature_keys, the keys of the backend that the input sets.
 */
#ifndef BULKHEAD_FUZZ_FRONT_H
#define BULKHEAD_FUZZ_FRONT_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../../frontends/device.h"
#include "../fake_hyp.h"

#define FRONT 5
#define BACK  3
#define DATA  0x5a

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* -------------------------------------------------------------------- input */

static const uint8_t *in;
static size_t left;

static void take(void *out, size_t n)
{
    size_t have = n < left ? n : left;
    memset(out, 0, n);
    memcpy(out, in, have);
    in += have;
    left -= have;
}

static uint8_t byte(void)
{
    uint8_t b;
    take(&b, 1);
    return b;
}

static uint32_t word(void)
{
    uint32_t w;
    take(&w, 4);
    return w;
}

/* ------------------------------------------------------------------- the store */

#define FEATURES (sizeof(feature_keys) / sizeof(feature_keys[0]))
static struct { bool there; uint64_t value; } features[FEATURES];

/* One byte says absent, small, a power of two, its neighbours, or eight raw bytes. */
static void take_features(void)
{
    for (size_t i = 0; i < FEATURES; i++) {
        uint8_t how = byte();
        features[i].there = how != 0;
        if (how < 128)
            features[i].value = how - 1u;
        else if (how < 255)
            features[i].value = (1ull << (how & 63)) - (how >> 6 & 1);
        else
            take(&features[i].value, 8);
    }
}

int store_read_number(struct store *st, store_txn t, const char *dir, const char *key, uint64_t max,
                      uint64_t *out)
{
    (void)st, (void)t;
    for (size_t i = 0; i < FEATURES && strcmp(dir, "/peer") == 0; i++)
        if (strcmp(key, feature_keys[i]) == 0 && features[i].there) {
            *out = features[i].value;
            return *out > max ? -EINVAL : 0;
        }
    return -ENOENT;
}

int store_read(struct store *st, store_txn t, const char *path, char *buf, size_t cap)
{
    (void)st, (void)t;
    if (strcmp(path, "/own/mac") != 0)
        return -ENOENT;
    return snprintf(buf, cap, "52:54:00:12:34:56");
}

int store_printf(struct store *st, store_txn t, const char *dir, const char *key, const char *fmt, ...)
{
    (void)st, (void)t, (void)dir, (void)key, (void)fmt;
    return 0;
}

int store_txn_begin(struct store *st, store_txn *t)
{
    (void)st;
    *t = 1;
    return 0;
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

/* A device of /own whose backend is /peer. */
static void make_device(struct device *d, const struct device_class *cls)
{
    static struct guest guest;
    d->guest = &guest;
    d->cls = cls;
    d->live.device = d;
    strcpy(d->live.bus.own, "/own");
    strcpy(d->live.bus.peer, "/peer");
}

#endif
