/* SPDX-License-Identifier: MIT */
/* nodes.c - what a backend writes into its own directories. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "backend.h"

#define TRIES 8 /* of a transaction that others disturb, or that the store's end cut off */

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
            err = store_printf(backend_store(), t, dir, names[i], "%llu", (unsigned long long)current[i]);
    return err;
}

static int write_all(const struct backend_device *d, store_txn t, const struct writing *w)
{
    char dir[STORE_PATH_MAX + 8];
    int err = 0;

    for (size_t i = 0; w->node && i < w->n && err == 0; i++)
        err = store_printf(backend_store(), t, d->bus.own, w->node[i].key, "%llu",
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
        err = store_txn_begin(backend_store(), &t);
        if (err < 0)
            continue;
        err = store_read_number(backend_store(), t, d->bus.own, "frontend-id", UINT16_MAX, &id);
        if (err == 0)
            err = write_all(d, t, w);
        if (err < 0)
            store_txn_abort(backend_store(), t);
        else
            err = store_txn_commit(backend_store(), t);
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
