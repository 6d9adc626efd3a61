/* SPDX-License-Identifier: MIT */
#include "terms.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define POOL_PAGES_MAX 65536u /* of a queue */

int terms_trouble(struct link *l, int err, const char *fmt, ...)
{
    struct device *d = l->device;
    va_list ap;
    int n = snprintf(d->why, sizeof(d->why), "%s %s: ", d->cls->noun, d->name);
    va_start(ap, fmt);
    vsnprintf(d->why + n, sizeof(d->why) - (size_t)n, fmt, ap);
    va_end(ap);
    xenbus_error(&l->bus, -err, d->why);
    return err;
}

unsigned terms_bounded(struct link *l, const char *key, unsigned least, unsigned most)
{
    uint64_t n = xenbus_peer_number(&l->bus, key, UINT32_MAX, least);
    return n < least ? least : n > most ? most : (unsigned)n;
}

unsigned terms_configured(struct link *l, const char *key, unsigned dflt)
{
    uint64_t n;
    return store_read_number(l->device->guest->store, STORE_NO_TXN, l->bus.own, key, UINT32_MAX, &n) < 0
           ? dflt : (unsigned)n;
}

unsigned terms_queues(struct link *l, unsigned want, unsigned offered)
{
    unsigned n = want ? want : terms_configured(l, "bulkhead-queues", 1);
    return n == 0 ? 1 : n < offered ? n : offered;
}

int terms_pool_pages(struct link *l, unsigned want, unsigned dflt, unsigned least, unsigned *out)
{
    *out = want ? want : terms_configured(l, "bulkhead-pool-pages", dflt);
    if (*out >= least && *out <= POOL_PAGES_MAX)
        return 0;
    return terms_refuse(l, -EINVAL, "a pool of %u pages a queue is too %s: at least %u are needed, at most "
                        "%u possible", *out, *out < least ? "small" : "large", least, POOL_PAGES_MAX);
}

unsigned terms_grants(struct link *l, const char *const *names)
{
    char path[STORE_PATH_MAX + 32], text[16];
    snprintf(path, sizeof(path), "%s/bulkhead-grants", l->bus.own);
    if (store_read(l->device->guest->store, STORE_NO_TXN, path, text, sizeof(text)) < 0)
        return 0;
    for (unsigned i = 0; names[i]; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    return 0;
}
