/* SPDX-License-Identifier: MIT */
/*
 * mailbox.h - messages from one thread to one other, without a lock.
 *
 * A ring of fixed length with one writer and one reader.  It is long enough
 * for every message that can be on its way at once, so a full mailbox is a
 * fault of ours.  The writer rings the reader's eventfd after each message:
 * these are rare.  What the writer wrote before mail_post() the reader sees
 * after mail_take(): that is how a queue changes hands.
 */
#ifndef BULKHEAD_BACKENDS_MAILBOX_H
#define BULKHEAD_BACKENDS_MAILBOX_H

#include <stdbool.h>
#include <stdint.h>

#define MAIL_SLOTS 2048u /* a power of two: three and more for each queue that a worker can have */

enum mail_kind {
    MAIL_ATTACH = 1, /* control -> worker: serve this                            */
    MAIL_DETACH,     /* control -> worker: finish what is in flight, give it back */
    MAIL_STOP,       /* control -> worker: end the thread; it has nothing left   */
    MAIL_ARM,        /* control -> worker: make ready to serve this              */
    MAIL_PING,       /* control -> worker: are you there?                        */
    MAIL_UPLINK,     /* control -> worker: the uplink is open now                */
    MAIL_DETACHED,   /* worker -> control: the answer; it is yours               */
    MAIL_BROKEN,     /* worker -> control: look why, then detach it              */
    MAIL_PONG        /* worker -> control: the answer to MAIL_PING               */
};

struct mail {
    enum mail_kind kind;
    void *what; /* blk: a struct blk_queue; net: a struct net_port */
};

struct mailbox {
    _Alignas(64) uint32_t written; /* by the writer */
    _Alignas(64) uint32_t taken;   /* by the reader */
    int wake_fd;                   /* eventfd of the reader, non-blocking */
    struct mail slot[MAIL_SLOTS];
};

static inline bool mail_waiting(const struct mailbox *box)
{
    return __atomic_load_n(&box->written, __ATOMIC_ACQUIRE) != __atomic_load_n(&box->taken, __ATOMIC_RELAXED);
}

/* False: full, nothing was posted. */
bool mail_post(struct mailbox *box, enum mail_kind kind, void *what);
/* False: empty. */
bool mail_take(struct mailbox *box, struct mail *out);
/* Forgets the rings so far; take mail *after* this. */
void mail_clear(int wake_fd);

#endif
