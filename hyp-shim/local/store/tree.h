/* SPDX-License-Identifier: MIT */
/*
 * tree.h - the nodes.
 *
 * Mechanism only: who may do what is decided in access.h.  A node is charged,
 * with its name and value, to the account of its owner.  The journal is told
 * of every change.
 */
#ifndef BULKHEAD_STORE_TREE_H
#define BULKHEAD_STORE_TREE_H

#include "blob.h"
#include "path.h"
#include "perm.h"

typedef uint32_t xsd_ref; /* a node; good until the node is removed */
#define XSD_NO_NODE 0u
#define XSD_ROOT    1u

struct xsd_node {
    xsd_ref parent, first_child, last_child, next, prev;
    uint32_t name_hash;
    struct xsd_blob name, value;
    struct xsd_perms perms; /* n is 0 in an unused slot */
    /* Of the last change to value, permissions or list of children; never 0,
     * never the same for two nodes or two changes. */
    uint64_t generation;
};

/* An empty tree: the root, owned by dom0, closed to everyone else. */
void xsd_tree_reset(void);
struct xsd_node *xsd_tree_node(xsd_ref ref);

xsd_ref xsd_tree_find(const char *path, size_t len);
/* The deepest existing node on the way, and the length of its path. */
xsd_ref xsd_tree_nearest(const char *path, size_t len, size_t *found_len);
void xsd_tree_path_of(xsd_ref ref, struct xsd_path *out);

/*
 * What a new node below `parent` gets: the parent's permissions; but what a
 * guest creates, it owns.
 */
struct xsd_perms xsd_tree_inherit(const struct xsd_perms *parent, domid_t by);

/* Adds one child, which must not exist, with an empty value. -ENOSPC. */
int xsd_tree_add(xsd_ref parent, const char *name, size_t n, const struct xsd_perms *perms,
                 bool slack, xsd_ref *out);
/* Makes a missing node and its missing parents; all or none.  Afterwards the
 * node has room for a value of n bytes. -ENOSPC. */
int xsd_tree_make(const struct xsd_path *path, domid_t by, size_t n, xsd_ref *out);
/* -ENOSPC. */
int xsd_tree_set_value(xsd_ref ref, const void *bytes, size_t n, bool slack);
/* Takes over a blob that was charged to `from`; the owner must have room. */
void xsd_tree_take_value(xsd_ref ref, struct xsd_blob *value, struct xsd_account *from);
/* -ENOSPC: the new owner has no room. */
int xsd_tree_set_perms(xsd_ref ref, const struct xsd_perms *perms, bool slack);

/*
 * Removes a node and all below it, children first, without recursion
 * (XSA-418), after telling `gone` of each with its path.
 */
typedef void xsd_gone_fn(const char *path, size_t len, const struct xsd_perms *perms, bool top);
void xsd_tree_remove(xsd_ref top, xsd_gone_fn *gone);

/* Takes a dead domain out of the tree: its nodes with all below them, and its
 * entries in the permissions of others.  The journal hears of it from the caller. */
void xsd_tree_purge(domid_t domid, xsd_gone_fn *gone);

/*
 * For the journal, into an empty tree.  Generations are never those of an
 * earlier life.  A node without a value, in its old place: -EBADMSG it cannot be
 * there.  xsd_tree_restored() once at the end.
 */
void xsd_tree_age(uint32_t life);
bool xsd_tree_has(xsd_ref ref);
int xsd_tree_restore(xsd_ref ref, xsd_ref parent, const char *name, size_t n,
                     const struct xsd_perms *perms);
void xsd_tree_restored(void);

#endif
