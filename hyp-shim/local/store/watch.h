/* SPDX-License-Identifier: MIT */
/*
 * watch.h - who wants to hear of what.
 *
 * A watch hears only of nodes that its owner may read: a change when the node
 * is readable before or after it, a removal when the node was (XSA-115).  The
 * special watches @introduceDomain and @releaseDomain tell of other domains
 * and so fire for dom0 alone; anyone may set them.
 */
#ifndef BULKHEAD_STORE_WATCH_H
#define BULKHEAD_STORE_WATCH_H

#include "conn.h"
#include "path.h"
#include "perm.h"

void xsd_watch_reset(void);
/* -EEXIST; -E2BIG: token too long; -ENOSPC. */
int xsd_watch_add(struct xsd_conn *c, const struct xsd_path *path, const char *token, size_t n);
/* The event that every watch begins with. */
void xsd_watch_begin(struct xsd_conn *c);
/* -ENOENT. */
int xsd_watch_remove(struct xsd_conn *c, const struct xsd_path *path, const char *token, size_t n);
void xsd_watch_drop_all(struct xsd_conn *c);

/* A node changed: tells the watches on it and on its ancestors. */
void xsd_watch_fire(const char *path, size_t len, const struct xsd_perms *now,
                    const struct xsd_perms *before);
/* As xsd_gone_fn: a node and what is below is removed; watches on or above the
 * top hear of the top alone, those below of their own node. */
void xsd_watch_gone(const char *path, size_t len, const struct xsd_perms *perms, bool top);
void xsd_watch_fire_special(const char *name);

/* Sends the events that were merged for want of room. */
void xsd_watch_resend(struct xsd_conn *c);

#endif
