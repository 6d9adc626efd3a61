/* SPDX-License-Identifier: MIT */
/*
 * blkqueue.h - one queue of a disk: ring, shadow, doorbell, replay.
 *
 * The hot path of the block frontend.  Every request in flight has a private
 * shadow that holds all of it; the shared ring, the descriptor pages and the
 * data are written here but never believed.  A response is copied once and
 * checked against the shadow: the id (slot and sequence number, so that an id
 * answered before is no id), the operation and the status.
 *
 * A connection that ends, however it does, ends no request.  What is not
 * answered stays in its shadow, with its buffer, and is sent again when the next
 * one begins.  Whoever takes it from the ring then is behind the fence, and says
 * Connected when it is (tests/model/rebirth.pml has the rules).  New requests go
 * into the shadow too while there is no connection, as far as it has room; and
 * while one is to be finished, of which nothing is sent again then.
 *
 * A request can have a time limit, for when there is no connection.  It is given
 * back then, and a buffer of it that was on a ring is kept back instead of freed
 * (blkpool.h) until the fence is behind us.
 *
 * Threads and states: queue.h.  At rest is a queue that has nothing in flight,
 * or whose owner goes to sleep.  The shadow is the owner's in every state, the
 * control thread never looks at it: so the owner replays, when it first takes
 * the queue in a new connection.  What the control thread does then is to kick.
 */
#ifndef BULKHEAD_BLKQUEUE_H
#define BULKHEAD_BLKQUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "../hyp-shim/blkproto.h"
#include "../hyp-shim/hyp.h"
#include "../hyp-shim/ring.h"
#include "blkpool.h"
#include "include/bulkhead/blkfront.h"
#include "queue.h"

/* What was agreed with the backend. Checked by whoever fills it in. */
struct blkqueue_terms {
    uint64_t disk_bytes;
    uint32_t sector_bytes; /* 512, 1024, 2048 or 4096                            */
    uint32_t max_segments; /* pages of a request, at most BLK_MAX_INDIRECT_SEGMENTS */
    uint16_t handle;
    bool readonly, can_flush, can_fua, can_discard, can_zeroes;
    bool native_fua;       /* alone may change, with the connection              */
};

/* How a backend can be caught. */
enum blkqueue_lie {
    BLKQUEUE_HONEST,
    BLKQUEUE_BAD_INDEX,     /* more responses than requests                      */
    BLKQUEUE_BAD_ID,        /* of no request in flight                           */
    BLKQUEUE_BAD_OPERATION, /* not what was asked                                */
    BLKQUEUE_BAD_STATUS,
    BLKQUEUE_STORM,         /* rings on and on and answers nothing               */
    BLKQUEUE_LIES
};

/* A request in flight: enough to send it again. */
struct blkqueue_shadow {
    uint64_t id;           /* sequence number and slot; BLKQUEUE_FREE_ID: free   */
    uint64_t order;        /* sequence number of its first sending               */
    struct blkfront_io io; /* as submitted                                       */
    uint8_t operation;     /* on the ring now                                    */
    uint8_t inner;         /* of an indirect request; else as operation          */
    uint8_t then_flush;    /* a write whose FUA is a flush that follows it       */
    uint8_t sent;          /* in the connection that the owner knows             */
    uint16_t deaths;       /* connections that it was sent in and that ended     */
};
/* Of slots that no ring has. */
#define BLKQUEUE_FREE_ID     UINT64_MAX
#define BLKQUEUE_POISONED_ID (UINT64_MAX - 1) /* waits for the fence, then is -EIO */
#define BLKQUEUE_LATE_ID     (UINT64_MAX - 2) /* waits to be reaped as -ETIMEDOUT */
#define BLKQUEUE_FORGOT_ID   (UINT64_MAX - 3) /* the same as 0: a control of tests */
#define BLKQUEUE_IDS_MAX     (UINT64_MAX - 4) /* of requests on a ring            */

#define BLKQUEUE_DEATHS      3u /* a request may live through fewer, by default  */
#define BLKQUEUE_DEATHS_MAX  UINT16_MAX

/* As queue_count(). */
struct blkqueue_counters {
    uint64_t requests, bytes, errors;
    uint64_t replayed, poisoned, late;
    uint64_t lies[BLKQUEUE_LIES];
};

/* Poisoned requests by name, for the operator; atomic, the last ones of them. */
#define BLKQUEUE_NAMED 16u
struct blkqueue_named {
    uint64_t offset, bytes;
    uint8_t op;            /* enum blkfront_op                                   */
};

struct blkqueue {
    struct queue queue;
    uint32_t inflight;     /* accepted and not yet reaped                        */
    uint32_t poisoned;     /* of them, until they are reaped                     */
    uint32_t lost;         /* of them, given up for another reason, likewise     */
    uint32_t hold_seen;    /* the last epoch of what is held in the pool         */
    uint32_t limit_ms;     /* of a request without a connection; 0: none         */
    uint64_t *since;       /* ms, of each slot; when there is a limit            */
    uint32_t free_slots;   /* entries on the stack `slot`                        */
    uint32_t slots;        /* of the ring and of the shadow                      */
    struct ring_front ring;
    struct blkqueue_shadow *shadow;
    uint16_t *slot;
    uint64_t sequence;     /* of the last request sent                           */
    const struct blkqueue_terms *terms;
    uint8_t *data;         /* the queue's data pages                             */
    size_t data_bytes;
    uint32_t data_page;    /* index of the first of them in the pool             */
    uint32_t desc_page;    /* index of the descriptor page of slot 0             */
    uint32_t ring_page, ring_pages;
    struct blkqueue_counters counters;
    struct blkpool pool;
    uint32_t lost_slot;    /* next slot to look at for what will not be answered */
    uint32_t max_deaths;   /* 1..BLKQUEUE_DEATHS_MAX: that many poison a request */
    uint32_t epoch;        /* of the connection; by the control thread, DRAINED  */
    uint32_t seen;         /* the epoch that the shadow knows                    */
    uint32_t fenced;       /* the last epoch behind its fence; control thread, atomic */
    bool hushed;           /* the owner holds the ring to finish with it         */
    struct blkqueue_named named[BLKQUEUE_NAMED]; /* poisoned request n is n % NAMED */
};

/* Where a queue lives in its pool, in pages. */
struct blkqueue_place {
    uint32_t ring_page, ring_pages; /* 1..BLK_MAX_RING_PAGES, a power of two     */
    uint32_t desc_page;             /* one page for each slot                    */
    uint32_t data_page, data_pages;
};

/* Slots of a queue with that many ring pages. */
uint32_t blkqueue_slots(uint32_t ring_pages);

/* Makes a queue, DRAINED. The pool must hold all pages of the place. terms and
 * control_fd must outlive the queue. */
int blkqueue_init(struct blkqueue *q, struct hyp_pool *grants, const struct blkqueue_place *place,
                  const struct blkqueue_terms *terms, int control_fd);
void blkqueue_destroy(struct blkqueue *q);

/* Control thread, DRAINED: makes the ring anew and takes the channel over, on
 * success. */
int blkqueue_attach(struct blkqueue *q, struct hyp_evtchn *channel);
/* Control thread: the backend has its device, nothing older can touch a buffer. */
void blkqueue_fenced(struct blkqueue *q);
/* Control thread, before the first use: limit_ms. -ENOMEM. */
int blkqueue_limit(struct blkqueue *q, uint32_t ms);

/* ---- owner; as the functions of blkfront.h */

int blkqueue_submit(struct blkqueue *q, const struct blkfront_io *ios, unsigned n);
int blkqueue_reap(struct blkqueue *q, struct blkfront_result *out, unsigned n);
int blkqueue_idle(struct blkqueue *q);
int blkqueue_wait(struct blkqueue *q, int timeout_ms);
/* The queue was stopped for good: forgets what is in flight. */
void blkqueue_drop(struct blkqueue *q);
void *blkqueue_alloc(struct blkqueue *q, size_t bytes);

/* ---- within: blkqueue.c sends and reaps, blkreplay.c has what outlives a connection */

void blkqueue_push(struct blkqueue *q);
/* The first hold of a new connection. */
void blkqueue_replay(struct blkqueue *q);
/* There is none: gives up what is older than the limit. */
void blkqueue_expire(struct blkqueue *q);
/* How many can be reaped that nobody answers; reaps them. */
uint32_t blkqueue_lost(const struct blkqueue *q);
unsigned blkqueue_reap_lost(struct blkqueue *q, struct blkfront_result *out, unsigned n);

/* Pages that were held are free when nothing can touch them any more. */
void blkqueue_unhold(struct blkqueue *q);

#endif
