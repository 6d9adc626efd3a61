/* SPDX-License-Identifier: MIT */
/*
 * journal.h - what lets the tree outlive the store's process.
 *
 * A piece of memory that the toolstack made and keeps (a memfd): it is there as
 * long as somebody holds it.  Every change of a node, and of which domains there
 * are, is written behind the last one; then one store of one word, the tip,
 * makes all changes of a request count at once.  So whenever the process is
 * killed, the next one finds what every reply told of, and of a transaction all
 * or nothing.  What is not restored: connections, watches, open transactions.
 *
 *   | head | half 0 .................... | half 1 .................... |
 *
 * The tip says which half is in use and how much of it counts.  When the half
 * has grown to a multiple of what the tree itself takes, the tree is written
 * into the other half and the tip moves there (again one store).  A half is as
 * large as the largest tree that the accounts allow, so there is always room;
 * memory that was never written to is not there yet.
 *
 * The memory is the store's own, from process to process of one version: nobody
 * else writes to it.  It is checked all the same, whole, before anything is
 * served: what does not fit together is refused, not repaired.
 */
#ifndef BULKHEAD_STORE_JOURNAL_H
#define BULKHEAD_STORE_JOURNAL_H

#include <stdint.h>

#include "tree.h"

/*
 * Maps the journal and makes tree and accounts (which are empty yet) what it
 * says; a journal of zeros begins anew.  fd is owned from now on.  Without this
 * call changes go nowhere (tests).  0, or a negative errno with a sentence in *why:
 * -EINVAL no memory of STORE_JOURNAL_BYTES, -EPROTO of another version,
 * -EBADMSG damaged.
 */
int xsd_journal_open(int fd, const char **why);
void xsd_journal_close(void);

/* Which process this is that uses the journal: 1 the first. */
uint32_t xsd_journal_life(void);

/*
 * What changed, told by those who change it; counts from the next commit on.
 * A purge takes out the domain: with its nodes, its permissions and itself.
 */
void xsd_journal_node(xsd_ref ref); /* it is new; its value does not matter */
void xsd_journal_value(xsd_ref ref);
void xsd_journal_perms(xsd_ref ref);
void xsd_journal_removal(xsd_ref top);
void xsd_journal_domain(domid_t domid);
void xsd_journal_purge(domid_t domid);

/* Before anyone hears of the changes: from here on they survive. */
void xsd_journal_commit(void);
/* Writes the tree into the other half; commit does it when it is time. */
void xsd_journal_compact(void);

#endif
