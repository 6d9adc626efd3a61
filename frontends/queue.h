/* SPDX-License-Identifier: MIT */
/*
 * queue.h - the life of a queue, whatever travels on its rings.
 *
 * Two threads.  The *owner* is whichever thread the user lets work with the
 * queue.  The *control* thread makes and ends connections.  They meet in one
 * atomic word, the state, and no request takes a lock:
 *
 *             owner: works              control: the connection is down
 *      IDLE  ---------------->  BUSY  ---------------------------------->  DOWN
 *       |    <----------------   |          (or the owner caught a lie)     |
 *       |     owner: at rest                                                |
 *       | control: down                   owner: has let go of the rings    |
 *       v                                                                   |
 *     DRAINED  <------------------------------------------------------------+
 *       |
 *       +--> IDLE   control: connected again
 *
 * While BUSY or DOWN the rings and the channels are the owner's, in IDLE no
 * one's, in DRAINED the control thread's.  Under load the state stays BUSY: the
 * owner pays one load, and one exchange at either end of a busy spell.  When a
 * queue is at rest its class says: blkqueue.h, netqueue.h, which have a struct
 * queue as their first member.
 *
 * A connection that ends in order is finished first: IDLE becomes QUIET, BUSY
 * becomes HUSHED.  They are the same but that the owner puts nothing new on the
 * rings; when nothing is there any more it lets go, HUSHED -> DRAINED.
 *
 * Needs no store: tests and fuzzers play the backend on the same pages.
 */
#ifndef BULKHEAD_QUEUE_H
#define BULKHEAD_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "../hyp-shim/clock.h"
#include "../hyp-shim/hyp.h"

#define QUEUE_CHANNELS_MAX 2u

enum queue_state { QUEUE_DRAINED, QUEUE_IDLE, QUEUE_BUSY, QUEUE_DOWN, QUEUE_QUIET, QUEUE_HUSHED };

/* What the owner may do with the rings now. */
enum queue_grip { QUEUE_NOTHING, QUEUE_FINISHES, QUEUE_WORKS };

/* How a backend was caught. */
struct queue_lie {
    const char *name;      /* "bad_id", for programs                             */
    const char *words;     /* for the operator                                   */
};

struct queue {
    uint32_t state;        /* enum queue_state; atomic                           */
    uint32_t gone;         /* no hypervisor any more; atomic                     */
    uint32_t kicked;       /* kick_fd is readable; atomic                        */
    uint32_t idle_rings;   /* doorbells since the last response                  */
    uint32_t asked;        /* requests put on the ring that is judged; by the owner, atomic */
    uint32_t watched;      /* the control thread looks at that; atomic           */
    uint32_t await_first;  /* the owner notes the first answer                   */
    uint32_t lies;         /* that it was caught; by the owner, atomic           */
    uint32_t left;         /* on the rings, when the owner went to rest; atomic  */
    const uint32_t *answered; /* the backend's index of the same ring, shared; NULL: none yet */
    uint64_t first_ns;     /* when the first answer came; 0: none; atomic        */
    uint64_t wake_at;      /* ms, without a connection: to be kicked then; 0: not; atomic */
    struct hyp_pool *grants;
    struct hyp_evtchn *channel[QUEUE_CHANNELS_MAX];
    unsigned nchannels;    /* 0: none                                            */
    int epoll_fd;          /* the one descriptor that users see                  */
    int kick_fd;           /* eventfd: look here although no one rang            */
    int control_fd;        /* eventfd of the control thread; not ours            */
    const struct queue_lie *lie; /* how the backend was caught, since attach; atomic */
    uint64_t doorbells, wakeups; /* by the owner, as queue_count()               */
};

/* A counter that one thread writes and any thread reads. */
static inline void queue_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static inline uint64_t queue_counted(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static inline uint32_t queue_state(const struct queue *q)
{
    return __atomic_load_n(&q->state, __ATOMIC_ACQUIRE);
}

static inline bool queue_move(struct queue *q, uint32_t from, uint32_t to)
{
    return __atomic_compare_exchange_n(&q->state, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static inline bool queue_gone(const struct queue *q)
{
    return __atomic_load_n(&q->gone, __ATOMIC_ACQUIRE);
}

/* Makes a queue, DRAINED, over a pool. control_fd must outlive it. 0 or a
 * negative errno; queue_destroy() in either case. */
int queue_init(struct queue *q, struct hyp_pool *grants, int control_fd);
void queue_destroy(struct queue *q);

/* ---- control thread */

/* DRAINED: takes the channels over, on success. */
int queue_attach(struct queue *q, struct hyp_evtchn *const *channels, unsigned n);
/* DRAINED -> IDLE: the backend is connected. */
void queue_start(struct queue *q);
/* The connection is down; -> DRAINED now, or after the owner let go. */
void queue_stop(struct queue *q);
/* The connection is to be finished: -> DRAINED now, when its owner rests and left
 * nothing, or after it let go. */
void queue_hush(struct queue *q);
bool queue_drained(const struct queue *q);
/* DRAINED: closes the channels, if any. */
void queue_detach(struct queue *q);
/* There is no hypervisor any more. */
void queue_set_gone(struct queue *q);
/* Makes the user's descriptor readable. Any thread. */
void queue_kick(struct queue *q);

/* ---- owner */

/* The owner takes the rings. */
enum queue_grip queue_take_hushed(struct queue *q);
static inline enum queue_grip queue_take(struct queue *q)
{
    uint32_t s = queue_state(q);
    if (s == QUEUE_BUSY || (s == QUEUE_IDLE && queue_move(q, QUEUE_IDLE, QUEUE_BUSY)))
        return QUEUE_WORKS;
    return queue_take_hushed(q);
}
/* The owner lets go of them, for now; left: 0, nothing is there that it waits for. */
void queue_rest(struct queue *q, uint32_t left);
/* HUSHED: for good, nothing is on them any more. */
void queue_let_go(struct queue *q);
/* The owner caught the backend: ends the connection. lie: a constant. */
void queue_caught(struct queue *q, const struct queue_lie *lie);

/* The control thread has something to look at. Any thread. */
void queue_call(struct queue *q);
/* Before and after a push that makes `asked` the number of requests on the ring: tells the
 * control thread when it does not know that there is work. */
static inline void queue_ask(struct queue *q, uint32_t asked)
{
    __atomic_store_n(&q->asked, asked, __ATOMIC_RELAXED);
}
static inline void queue_asked(struct queue *q)
{
    if (__builtin_expect(!__atomic_load_n(&q->watched, __ATOMIC_RELAXED), 0)) {
        __atomic_store_n(&q->watched, 1, __ATOMIC_RELAXED);
        queue_call(q);
    }
}
/* The backend has answered. */
void queue_note_first(struct queue *q);
static inline void queue_answer(struct queue *q)
{
    q->idle_rings = 0;
    if (__builtin_expect(q->await_first, 0))
        queue_note_first(q);
}
/* Rings channel i. */
void queue_ring(struct queue *q, unsigned i);
/* Forgets that queue_kick() was called. */
void queue_forget_kick(struct queue *q);
/* Forgets the rings so far; true: there were some. */
bool queue_take_rings(struct queue *q);
/* There were some and no response. A truthful backend rings after it responded;
 * one that rings for nothing costs a look, each time (XSA-391). True: that was
 * too often since idle_rings was set to 0, which its class does at a response. */
bool queue_storm(struct queue *q);
/* Sleeps on the descriptor; 1 perhaps, 0 timeout. */
int queue_sleep(struct queue *q, int timeout_ms);

#endif
