/* SPDX-License-Identifier: MIT */
/*
 * store.h - a domain's connection to XenStore.
 *
 * XenStore is a small tree of names and values that every domain reads and
 * writes under permissions by domid (xen: docs/misc/xenstore.txt; wire format:
 * <xen/io/xs_wire.h>).  It carries control only: names, states, grant
 * references, port numbers.
 *
 * Locally this client speaks the wire protocol itself over the connection that
 * came with the hyp handle.  libxenstore would be the library to use, and the
 * stock tools that are built on it work against our store; but it opens a path
 * (a jail has none), starts a thread for watches and allocates for each
 * message.  This client does none of the three after store_open().
 *
 * One thread at a time.  Calls that expect a reply wait for it (the store is
 * trusted and never waits for anyone); watch events that arrive meanwhile are
 * kept, at most STORE_EVENTS_MAX of them.  Past that they are merged into one
 * with path "" and token "": "look at everything again".
 *
 * Values are bytes on the wire and C strings here: a value with a NUL inside
 * is refused with -EILSEQ, since whoever wrote it wanted to fool someone.
 */
#ifndef BULKHEAD_STORE_H
#define BULKHEAD_STORE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "hyp.h"

#define STORE_PATH_MAX   256  /* longest path that we ourselves use, with NUL */
#define STORE_VALUE_MAX  1024 /* longest value that we ourselves use, with NUL */
#define STORE_TOKEN_MAX  32
#define STORE_EVENTS_MAX 64

struct store;
typedef uint32_t store_txn;
#define STORE_NO_TXN ((store_txn)0)

/*
 * The store may die and be started again, with its tree.  A handle that was
 * opened with a hypervisor then goes on by itself: a call that waits for its
 * reply, or comes meanwhile, waits until the store is back and repeats its
 * request; watches are set again and one event with path "" and token "" stands
 * for all that was missed; a transaction that was begun before fails with
 * -EAGAIN at its next use, its commit included.  (When the store died just then,
 * a commit that fails so may have happened: what is written in a transaction
 * must bear to be written twice.)  When the store is not back after
 * STORE_AWAY_MS, or the hypervisor is gone, every call fails with -ENOTCONN.
 */
#define STORE_RETRY_MS  10
#define STORE_AWAY_MS   10000
/* Watches at once; as many as our store allows a domain, and the toolstack. */
#define STORE_WATCHES_MAX       256
#define STORE_WATCHES_TOOLSTACK 8192
#define STORE_TXNS_MAX  8 /* transactions open at once */

/* -EAGAIN, for the toolstack alone: there is no store yet; others wait for it. */
int store_open(struct store **out, struct hyp *hyp);
/* The same over any connected stream socket, which is owned from now on and
 * closed on failure too (tools, tests); when it hangs up the store is gone. */
int store_open_fd(struct store **out, int fd);
void store_close(struct store *st);

/*
 * For who has to start the store again while its own calls wait for that: fn is
 * called when the store is lost, from within any call, before each try for a new
 * connection.  It must not use this handle.
 */
typedef void store_lost_fn(void *arg);
void store_on_loss(struct store *st, store_lost_fn *fn, void *arg);

/*
 * Readable when store_next_event() may have something to say: also for events
 * that arrived while another call waited for its reply, and when the store is
 * gone.  The same number until store_close().  For polling only; never read it.
 */
int store_fd(const struct store *st);

/* Length of the value (which is NUL-terminated in buf), or -ENOENT, -EACCES,
 * -E2BIG (does not fit), -EILSEQ. */
int store_read(struct store *st, store_txn t, const char *path, char *buf, size_t cap);
/* Creates parents as needed. */
int store_write(struct store *st, store_txn t, const char *path, const char *value);
int store_mkdir(struct store *st, store_txn t, const char *path);
/* Removes a subtree; -ENOENT when its parent does not exist either. */
int store_rm(struct store *st, store_txn t, const char *path);
/* Names of the children, each NUL-terminated, one after the other in buf;
 * returns their number. -E2BIG: does not fit. */
int store_directory(struct store *st, store_txn t, const char *path, char *buf, size_t cap);

/* path/key as an unsigned decimal number. -EINVAL: it is not one, or past max. */
int store_read_number(struct store *st, store_txn t, const char *dir, const char *key,
                      uint64_t max, uint64_t *out);
/* path/key from a format. */
int store_printf(struct store *st, store_txn t, const char *dir, const char *key,
                 const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* Permissions: the first entry is the owner and everyone else's default. */
struct store_perm {
    domid_t domid;
    char access; /* 'n' none, 'r' read, 'w' write, 'b' both */
};
int store_set_perms(struct store *st, store_txn t, const char *path,
                    const struct store_perm *perms, unsigned n);

/* A watch fires once when it is set, and whenever path or something below it
 * changes. The token comes back with each event. -ENOSPC: too many. */
int store_watch(struct store *st, const char *path, const char *token);
int store_unwatch(struct store *st, const char *path, const char *token);

struct store_event {
    char path[STORE_PATH_MAX];
    char token[STORE_TOKEN_MAX];
};
/* 1 got one, 0 none now, -ENOTCONN the store is gone. Waits for nothing, but for
 * the first replies of a store that was just started again. */
int store_next_event(struct store *st, struct store_event *ev);

/*
 * Transactions: between begin and a successful commit no one sees the changes;
 * -EAGAIN from commit: someone changed what we read or wrote, do all of it again.
 * From begin: -ENOSPC, too many.
 */
int store_txn_begin(struct store *st, store_txn *t);
int store_txn_commit(struct store *st, store_txn t);
void store_txn_abort(struct store *st, store_txn t);

#endif
