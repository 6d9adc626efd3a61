/* SPDX-License-Identifier: MIT */
/*
 * path.h - names of nodes.
 *
 * On the wire a path is absolute, or relative to /local/domain/DOMID of the
 * sender; its characters are letters, digits and -/_@; no empty component and
 * no slash at the end (xen: docs/misc/xenstore.txt; XSA-481 is what a sloppy
 * check of "/local/domain/" can do).  Inside, every path is absolute and the
 * root is the empty string: so each prefix that ends before a slash names an
 * ancestor.
 */
#ifndef BULKHEAD_STORE_PATH_H
#define BULKHEAD_STORE_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xen/xen.h>

#include "quota.h"

struct xsd_path {
    size_t len;
    size_t cut; /* bytes of text in front of what a relative sender wrote; 0: it was absolute */
    char text[XSD_PATH_MAX + 1];
};

/* in: len bytes without a NUL. -EINVAL. */
int xsd_path_parse(struct xsd_path *out, const char *in, size_t len, domid_t sender);
/* As xsd_path_parse(), and takes the names of special watches, "@...". */
int xsd_path_parse_watch(struct xsd_path *out, const char *in, size_t len, domid_t sender);
/* Length of the parent's path; of the root's parent: 0. */
size_t xsd_path_parent(const char *text, size_t len);
/* True: below lies strictly under the path. */
bool xsd_path_is_below(const char *path, size_t len, const char *below, size_t below_len);
/* Length of the next longer prefix that names a node; len < total. */
size_t xsd_path_next(const char *text, size_t len, size_t total);

/*
 * Hash of a path, seeded at start so that no one can choose collisions.
 * Grows with the path: the hash of a longer path goes on from its prefix's.
 */
void xsd_hash_seed(uint64_t seed);
uint64_t xsd_hash_start(void);
uint64_t xsd_hash_add(uint64_t h, const char *bytes, size_t n);
uint64_t xsd_hash(const char *bytes, size_t n);

#endif
