/* SPDX-License-Identifier: MIT */
/* sched.c - deficit round robin over the queues of one worker. */
#include <errno.h>

#include "sched.h"

void blk_sched_init(struct blk_sched *s)
{
    s->n = s->first = s->gentle = 0;
    s->turn = DRR_ACTIVE_TURNS;
    s->touched = NULL;
    blkdev_done_init(&s->done);
}

int blk_sched_add(struct blk_sched *s, struct blk_queue *q)
{
    if (s->n == DRR_QUEUES)
        return -ENOSPC;
    q->last_active = s->turn - DRR_ACTIVE_TURNS;
    s->queue[s->n++] = q;
    return 0;
}

void blk_sched_remove(struct blk_sched *s, struct blk_queue *q)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (s->queue[i] == q) {
            s->queue[i] = s->queue[--s->n];
            return;
        }
    }
}

static bool is_active(const struct blk_sched *s, const struct blk_queue *q)
{
    return s->turn - q->last_active < DRR_ACTIVE_TURNS;
}

static bool has_company(const struct blk_sched *s)
{
    unsigned active = 0;
    for (unsigned i = 0; i < s->n && active < 2; i++)
        active += is_active(s, s->queue[i]);
    return active > 1;
}

static void touch(struct blk_sched *s, struct blk_queue *q)
{
    if (q->touched)
        return;
    q->touched = true;
    q->next_touched = s->touched;
    s->touched = q;
}

/* One visit; returns what was spent. */
static uint64_t visit(struct blk_sched *s, struct blk_queue *q, bool company, enum blk_turn *how)
{
    uint64_t quantum = (uint64_t)DRR_QUANTUM * q->weight / 100;
    struct blk_budget b = { .cost = DRR_TURN, .inflight = DRR_INFLIGHT_ALONE, .slice = UINT32_MAX,
                            .requests = DRR_BATCH };

    if (company) {
        b.cost = q->deficit + quantum;
        b.inflight = (uint64_t)DRR_INFLIGHT * q->weight / 100;
        b.slice = DRR_SLICE;
    }
    if (s->gentle > 0)
        b.requests = DRR_GENTLE;
    uint64_t before = b.cost;
    *how = blk_queue_service(q, &b);
    uint64_t spent = before - b.cost;
    if (spent > 0)
        q->last_active = s->turn;
    if (!q->broken && q->ring.rsp_prod != q->ring.rsp_pushed)
        touch(s, q);
    /* Full: its time comes when the device is done; it does not save up for it. */
    q->deficit = !company || *how == BLK_TURN_IDLE ? 0 : b.cost;
    if (*how == BLK_TURN_FULL && q->deficit > quantum)
        q->deficit = quantum;
    return spent;
}

bool blk_sched_turn(struct blk_sched *s)
{
    bool company = has_company(s);
    uint64_t spent = 0;
    unsigned more = 0;
    enum blk_turn how;

    /* The first round visits everyone; the next ones those that have more. */
    for (unsigned i = 0; i < s->n; i++) {
        unsigned at = s->first + i;
        struct blk_queue *q = s->queue[at < s->n ? at : at - s->n];
        spent += visit(s, q, company, &how);
        if (how == BLK_TURN_MORE)
            s->again[more++] = q;
    }
    while (company && more > 0 && spent < DRR_TURN && s->gentle == 0) {
        unsigned left = 0;
        for (unsigned i = 0; i < more; i++) {
            struct blk_queue *q = s->again[i];
            spent += visit(s, q, company, &how);
            if (how == BLK_TURN_MORE)
                s->again[left++] = q;
        }
        more = left;
    }
    s->first = s->first + 1 < s->n ? s->first + 1 : 0;
    s->turn += spent > 0;
    s->gentle -= spent > 0 && s->gentle > 0;
    return spent > 0;
}

void blk_sched_be_gentle(struct blk_sched *s)
{
    s->gentle = DRR_GENTLE_TURNS;
}

bool blk_sched_answer(struct blk_sched *s)
{
    struct blkdev_io *io = blkdev_done_take(&s->done);
    bool some = io || s->touched;

    while (io) {
        struct blk_req *r = (struct blk_req *)io;
        io = io->next;
        touch(s, r->queue);
        blk_queue_done(r);
    }
    while (s->touched) {
        struct blk_queue *q = s->touched;
        s->touched = q->next_touched;
        q->touched = false;
        blk_queue_push(q);
    }
    return some;
}
