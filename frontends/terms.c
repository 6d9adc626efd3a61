/* SPDX-License-Identifier: MIT */
#include "terms.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define POOL_PAGES_MAX 65536u /* of a queue */

int terms_trouble(struct device *d, int err, const char *fmt, ...)
{
    va_list ap;
    int n = snprintf(d->why, sizeof(d->why), "%s %s: ", d->cls->noun, d->name);
    va_start(ap, fmt);
    vsnprintf(d->why + n, sizeof(d->why) - (size_t)n, fmt, ap);
    va_end(ap);
    xenbus_error(&d->bus, -err, d->why);
    return err;
}

unsigned terms_bounded(struct device *d, const char *key, unsigned least, unsigned most)
{
    uint64_t n = xenbus_peer_number(&d->bus, key, UINT32_MAX, least);
    return n < least ? least : n > most ? most : (unsigned)n;
}

unsigned terms_configured(struct device *d, const char *key, unsigned dflt)
{
    uint64_t n;
    return store_read_number(d->guest->store, STORE_NO_TXN, d->bus.own, key, UINT32_MAX, &n) < 0
           ? dflt : (unsigned)n;
}

unsigned terms_queues(struct device *d, unsigned want, unsigned offered)
{
    unsigned n = want ? want : terms_configured(d, "bulkhead-queues", 1);
    return n == 0 ? 1 : n < offered ? n : offered;
}

int terms_pool_pages(struct device *d, unsigned want, unsigned dflt, unsigned least, unsigned *out)
{
    *out = want ? want : terms_configured(d, "bulkhead-pool-pages", dflt);
    if (*out >= least && *out <= POOL_PAGES_MAX)
        return 0;
    return terms_refuse(d, -EINVAL, "a pool of %u pages a queue is too %s: at least %u are needed, at most "
                        "%u possible", *out, *out < least ? "small" : "large", least, POOL_PAGES_MAX);
}

unsigned terms_grants(struct device *d, const char *const *names)
{
    char path[STORE_PATH_MAX + 32], text[16];
    snprintf(path, sizeof(path), "%s/bulkhead-grants", d->bus.own);
    if (store_read(d->guest->store, STORE_NO_TXN, path, text, sizeof(text)) < 0)
        return 0;
    for (unsigned i = 0; names[i]; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    return 0;
}
