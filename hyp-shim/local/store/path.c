/* SPDX-License-Identifier: MIT */
#include "path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "count.h"

static bool allowed(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_' || c == '@';
}

/* One or more components with one slash between two. */
static bool well_formed(const char *s, size_t len)
{
    bool slash = true;

    for (size_t i = 0; i < len; i++) {
        if (s[i] == '/' ? slash : !allowed(s[i]))
            return false;
        slash = s[i] == '/';
    }
    return !slash;
}

static int parse(struct xsd_path *out, const char *in, size_t len, domid_t sender)
{
    out->len = 0;
    out->cut = 0;
    if (len == 1 && in[0] == '/')
        return 0;
    if (len > 0 && in[0] == '/') {
        if (len > XSD_PATH_MAX || !well_formed(in + 1, len - 1))
            return -EINVAL;
    } else {
        if (len > XENSTORE_REL_PATH_MAX || !well_formed(in, len))
            return -EINVAL;
        out->cut = (size_t)snprintf(out->text, sizeof(out->text), "/local/domain/%u/", sender);
    }
    memcpy(out->text + out->cut, in, len);
    out->len = out->cut + len;
    out->text[out->len] = '\0';
    return 0;
}
_Static_assert(XENSTORE_REL_PATH_MAX + sizeof("/local/domain/65535/") <= XSD_PATH_MAX, "relative paths fit");

int xsd_path_parse(struct xsd_path *out, const char *in, size_t len, domid_t sender)
{
    int err = len && in[0] == '@' ? -EINVAL : parse(out, in, len, sender);

    if (err)
        xsd_count(XSD_COUNT_bad_path);
    return err;
}

int xsd_path_parse_watch(struct xsd_path *out, const char *in, size_t len, domid_t sender)
{
    if (!len || in[0] != '@')
        return xsd_path_parse(out, in, len, sender);
    if (len > XENSTORE_REL_PATH_MAX || !well_formed(in, len)) {
        xsd_count(XSD_COUNT_bad_path);
        return -EINVAL;
    }
    out->cut = 0;
    out->len = len;
    memcpy(out->text, in, len);
    out->text[len] = '\0';
    return 0;
}

size_t xsd_path_parent(const char *text, size_t len)
{
    while (len && text[--len] != '/')
        ;
    return len;
}

bool xsd_path_is_below(const char *path, size_t len, const char *below, size_t below_len)
{
    return below_len > len && !memcmp(path, below, len) && below[len] == '/';
}

size_t xsd_path_next(const char *text, size_t len, size_t total)
{
    do
        len++;
    while (len < total && text[len] != '/');
    return len;
}

static uint64_t hash_seed;

void xsd_hash_seed(uint64_t seed)
{
    hash_seed = seed;
}

uint64_t xsd_hash_start(void)
{
    return hash_seed;
}

uint64_t xsd_hash_add(uint64_t h, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        h = (h ^ (uint8_t)bytes[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return h;
}

uint64_t xsd_hash(const char *bytes, size_t n)
{
    return xsd_hash_add(hash_seed, bytes, n);
}
