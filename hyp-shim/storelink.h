/* SPDX-License-Identifier: MIT */
/*
 * storelink.h - the connection beneath store.h: requests and their replies,
 * events, and a new connection when the store was started again.  For store.c.
 *
 * When the connection hangs up, and there is a hypervisor to ask, the link is
 * lost: every STORE_RETRY_MS it asks for a new one.  When the store replies
 * there, the link sets all watches again and keeps one event, "look at
 * everything", for all that may have happened.  Requests wait for that; for
 * store_next_event() the timer makes store_fd() readable when it is time to try.
 * After STORE_AWAY_MS the link is broken for good, as it is at once without a
 * hypervisor.
 */
#ifndef BULKHEAD_STORELINK_H
#define BULKHEAD_STORELINK_H

#include <stdbool.h>
#include <stdint.h>

#include <errno.h> /* before xs_wire.h: only then does that have its table of errors */

#include <xen/io/xs_wire.h>

#include "store.h"

#define LINK_MESSAGE_MAX (sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX)

/* A transaction under the number that its user knows.  The store's own numbers
 * begin anew with each store, and so would name another's. */
struct link_txn {
    store_txn handle; /* STORE_NO_TXN: unused */
    uint32_t id;
};

struct link_watch {
    char path[STORE_PATH_MAX];
    char token[STORE_TOKEN_MAX];
};

struct store {
    struct hyp *hyp; /* NULL: a lost connection is lost                         */
    int fd;          /* the connection; -1 while it is lost                     */
    int kept_fd;     /* eventfd: readable while an event is kept                */
    int timer_fd;    /* every STORE_RETRY_MS; in poll_fd only while lost        */
    int poll_fd;     /* epoll over these: what store_fd() gives out             */
    bool broken;     /* for good                                                */
    bool lost;       /* for now                                                 */
    bool repeated;   /* the last request was sent to a second store as well     */
    uint64_t give_up_ms;
    store_lost_fn *lost_fn;
    void *lost_arg;
    uint32_t req_id;

    size_t have; /* bytes in rx, a partial message at most after receiving      */
    uint8_t rx[2 * LINK_MESSAGE_MAX];
    uint8_t tx[LINK_MESSAGE_MAX];

    bool replied;
    uint32_t reply_type;
    size_t reply_len;
    char reply[XENSTORE_PAYLOAD_MAX + 1];

    unsigned first, kept;
    struct store_event events[STORE_EVENTS_MAX];

    store_txn last_txn;
    struct link_txn txns[STORE_TXNS_MAX];

    unsigned nwatches, watches_max;
    struct link_watch watches[]; /* none without a hypervisor */
};

struct link_part {
    const void *bytes;
    size_t len;
};

/*
 * One request and its reply, which stays in st->reply until the next.  Sent
 * again when the store died before it replied; but within a transaction:
 * -EAGAIN, and the transaction is forgotten.  -ENOTCONN.
 */
int link_ask(struct store *st, uint32_t type, store_txn t, const struct link_part *parts, unsigned n);

/* The store broke the protocol. -ENOTCONN. */
int link_break(struct store *st);

/* Transactions of this connection.  There must be room for one before one is
 * begun: -ENOSPC. */
int link_room_for_txn(struct store *st);
store_txn link_add_txn(struct store *st, uint32_t id);
bool link_has_txn(struct store *st, store_txn t);
void link_end_txn(struct store *st, store_txn t);

/* Watches to set again.  -ENOSPC: as many as there may be. */
int link_room_for_watch(const struct store *st);
void link_add_watch(struct store *st, const char *path, const char *token);
void link_drop_watch(struct store *st, const char *path, const char *token);

#endif
