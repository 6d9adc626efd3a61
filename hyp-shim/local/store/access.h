/* SPDX-License-Identifier: MIT */
/*
 * access.h - what one client may do with nodes, inside a transaction or not.
 *
 * Needs: to read a value, a list of children or permissions: read.  To write,
 * create below, or remove with all below: write (creation: on the nearest
 * ancestor that exists).  To set permissions: to be the owner or dom0.
 * A client that could not have seen a missing node, because it may not read
 * (or write) the nearest ancestor, gets -EACCES and not -ENOENT.
 */
#ifndef BULKHEAD_STORE_ACCESS_H
#define BULKHEAD_STORE_ACCESS_H

#include "txn.h"

struct xsd_ctx {
    struct xsd_conn *conn;
    struct xsd_txn *txn; /* NULL: none */
};

/* out: XENSTORE_PAYLOAD_MAX bytes; returns the length, or a negative errno. */
int xsd_read(struct xsd_ctx *x, const struct xsd_path *path, char *out);
int xsd_write(struct xsd_ctx *x, const struct xsd_path *path, const void *value, size_t n);
int xsd_mkdir(struct xsd_ctx *x, const struct xsd_path *path);
int xsd_remove(struct xsd_ctx *x, const struct xsd_path *path);
int xsd_get_perms(struct xsd_ctx *x, const struct xsd_path *path, struct xsd_perms *out);
int xsd_set_perms(struct xsd_ctx *x, const struct xsd_path *path, const struct xsd_perms *perms);
/* Calls fn for each child; *generation changes whenever the node does. */
int xsd_list(struct xsd_ctx *x, const struct xsd_path *path, uint64_t *generation,
             xsd_name_fn *fn, void *to);

#endif
