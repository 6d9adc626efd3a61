/* SPDX-License-Identifier: MIT */
/*
 * sched.h - which queue of a worker is served next: deficit round robin.
 *
 * The currency is cost: bytes moved plus BLK_COST_REQUEST for each request.  A
 * queue that has requests gets DRR_QUANTUM a round, times its weight / 100;
 * what it cannot spend because its next request costs more it keeps; what it
 * does not need is lost, and nobody waits for it.
 *
 * Rounds alone would not keep a flooder from filling the device, where its
 * requests are in everyone's way.  So while more than one queue is active
 *   - a queue may have DRR_INFLIGHT of cost in the device (times weight), and
 *   - a long request is given to the device in slices of DRR_SLICE bytes,
 * which bounds what a newcomer waits for: one slice and one share in flight of
 * each of the others.  A queue that is alone has neither limit but a generous
 * one, so fairness costs nothing when there is nobody to be fair to.
 */
#ifndef BULKHEAD_BLK_SCHED_H
#define BULKHEAD_BLK_SCHED_H

#include "blkring.h"

#define DRR_QUEUES         1024u
#define DRR_QUANTUM        (64u << 10)
#define DRR_SLICE          (60u << 10)  /* with its request's cost: one quantum      */
#define DRR_INFLIGHT       (128u << 10)
#define DRR_INFLIGHT_ALONE (4u << 20)
/* Cost taken in one turn, before answers go out: the longest request fits. */
#define DRR_TURN           ((1u << 20) + BLK_COST_REQUEST)
/* Requests taken off one ring at a time.  Not all that are there: while the
 * worker serves the next batch the frontend reads the answers to this one. */
#define DRR_BATCH          16u
#define DRR_ACTIVE_TURNS   64u          /* turns with work that a queue stays active  */
#define DRR_GENTLE         2u           /* the same as DRR_BATCH, ...                 */
#define DRR_GENTLE_TURNS   8u           /* ... so many turns: blk_sched_be_gentle()   */

struct blk_sched {
    struct blk_queue *queue[DRR_QUEUES];
    struct blk_queue *again[DRR_QUEUES]; /* this turn's, that have more              */
    unsigned n, first;
    uint32_t turn;                         /* turns that found work                    */
    unsigned gentle;                       /* turns with small batches that are left   */
    struct blkdev_done done;
    struct blk_queue *touched;
};

void blk_sched_init(struct blk_sched *s);
/* -ENOSPC: no room. */
int blk_sched_add(struct blk_sched *s, struct blk_queue *q);
void blk_sched_remove(struct blk_sched *s, struct blk_queue *q);
/* Everyone has waited for long: a few at a time from each, so that the first answers are
 * out before the rest is begun. */
void blk_sched_be_gentle(struct blk_sched *s);

/* Serves all rings for at most DRR_TURN of cost.  True: there was work. */
bool blk_sched_turn(struct blk_sched *s);
/* Answers what the devices finished, then publishes all answers.  True: there
 * were some. */
bool blk_sched_answer(struct blk_sched *s);

#endif
