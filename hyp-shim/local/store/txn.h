/* SPDX-License-Identifier: MIT */
/*
 * txn.h - transactions.
 *
 * A transaction keeps a private copy (an entry) of each node that it has seen
 * or written, with the generation that the node had then; for a node that was
 * not there, it keeps that.  Reads and writes go to the copies, so they repeat.
 * A commit first checks that every node which was seen still has its
 * generation, and then writes: what it read and what it wrote are of one
 * moment.  If not: -EAGAIN, and nothing happened.
 *
 * Room for all that a commit writes is checked before the first write, so it
 * happens whole or not at all (XSA-415, XSA-421, XSA-440).
 */
#ifndef BULKHEAD_STORE_TXN_H
#define BULKHEAD_STORE_TXN_H

#include "conn.h"
#include "tree.h"

struct xsd_txn;

/* One node as a transaction sees it. */
struct xsd_entry {
    uint32_t next, prev;           /* of the same transaction, in order       */
    uint32_t hash_next, hash_prev; /* of the same bucket; prev 0: first       */
    uint64_t hash;
    uint32_t txn;
    uint8_t flags;
    struct xsd_blob path, value; /* charged to the transaction's domain       */
    struct xsd_perms perms;
    uint64_t generation; /* of the node when it was seen; 0: it was not there */
};

void xsd_txn_reset(void);
/* -ENOSPC: too many. */
int xsd_txn_start(struct xsd_conn *c, uint32_t *id);
/* NULL: no such transaction of this connection. */
struct xsd_txn *xsd_txn_find(struct xsd_conn *c, uint32_t id);
/* Ends it either way. -EAGAIN; -ENOSPC. */
int xsd_txn_commit(struct xsd_conn *c, struct xsd_txn *t);
void xsd_txn_abort(struct xsd_conn *c, struct xsd_txn *t);
void xsd_txn_abort_all(struct xsd_conn *c);
/* A domain is dead: transactions that would write its domid shall fail. */
void xsd_txn_purge(domid_t domid);

/* The entry for a path, made if need be. -ENOSPC. */
int xsd_txn_see(struct xsd_txn *t, const char *path, size_t len, struct xsd_entry **out);
bool xsd_entry_exists(const struct xsd_entry *e);

/* Writes; the caller has checked permissions.  All or nothing, -ENOSPC. */
int xsd_txn_make(struct xsd_txn *t, const struct xsd_path *path, domid_t by, size_t n,
                 struct xsd_entry **out); /* with room for a value of n bytes */
int xsd_txn_set_value(struct xsd_txn *t, struct xsd_entry *e, const void *bytes, size_t n);
void xsd_txn_set_perms(struct xsd_entry *e, const struct xsd_perms *perms);
void xsd_txn_remove(struct xsd_txn *t, struct xsd_entry *e);

/* Names of the children of an existing entry. */
typedef void xsd_name_fn(void *to, const char *name, size_t n);
void xsd_txn_list(struct xsd_txn *t, const struct xsd_entry *e, xsd_name_fn *fn, void *to);

#endif
