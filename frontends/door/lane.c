/* SPDX-License-Identifier: MIT */
#include "lane.h"

#include <poll.h>
#include <stdint.h>

#define REAP_MAX 32

struct ticket {
    bool done;
    int error;
    pthread_cond_t over;       /* done, or: take the lead           */
    struct ticket *next, **at; /* in lane->waiting; at NULL: is not */
};

void lane_init(struct lane *lane, struct blkfront *disk, unsigned queue)
{
    *lane = (struct lane){ .disk = disk, .queue = queue };
    pthread_mutex_init(&lane->lock, NULL);
    pthread_cond_init(&lane->room, NULL);
}

void lane_destroy(struct lane *lane)
{
    pthread_cond_destroy(&lane->room);
    pthread_mutex_destroy(&lane->lock);
}

void lane_release(struct lane *lane, void *buf)
{
    pthread_mutex_lock(&lane->lock);
    blkfront_free(lane->disk, lane->queue, buf);
    lane->lent--;
    pthread_cond_broadcast(&lane->room);
    pthread_mutex_unlock(&lane->lock);
}

static void start_waiting(struct lane *lane, struct ticket *t)
{
    t->next = lane->waiting;
    t->at = &lane->waiting;
    if (t->next)
        t->next->at = &t->next;
    lane->waiting = t;
}

static void stop_waiting(struct ticket *t)
{
    *t->at = t->next;
    if (t->next)
        t->next->at = t->at;
    t->at = NULL;
}

/* Hands results out; true: there were some. */
static bool dispatch(struct lane *lane)
{
    struct blkfront_result results[REAP_MAX];
    int n = blkfront_reap(lane->disk, lane->queue, results, REAP_MAX);
    for (int i = 0; i < n; i++) {
        struct ticket *t = (struct ticket *)(uintptr_t)results[i].cookie;
        t->done = true;
        t->error = results[i].error;
        if (t->at) {
            stop_waiting(t);
            pthread_cond_signal(&t->over);
        }
    }
    if (n > 0)
        pthread_cond_broadcast(&lane->room);
    return n > 0;
}

/* Something may have happened to the queue; called and left with the lock. */
static void sleep_for_all(struct lane *lane)
{
    if (dispatch(lane) || blkfront_idle(lane->disk, lane->queue) > 0)
        return;
    struct pollfd fd = { .fd = blkfront_fd(lane->disk, lane->queue), .events = POLLIN };
    pthread_mutex_unlock(&lane->lock);
    poll(&fd, 1, -1);
    pthread_mutex_lock(&lane->lock);
}

static void pass_lead(struct lane *lane)
{
    lane->led = false;
    if (lane->waiting)
        pthread_cond_signal(&lane->waiting->over);
    else
        pthread_cond_broadcast(&lane->room);
}

/* When nobody has a buffer, all are held back until the next connection. */
void *lane_buffer(struct lane *lane, size_t bytes)
{
    void *buf;
    pthread_mutex_lock(&lane->lock);
    while (!(buf = blkfront_alloc(lane->disk, lane->queue, bytes))) {
        if (lane->led || lane->lent > 0) {
            pthread_cond_wait(&lane->room, &lane->lock);
            continue;
        }
        lane->led = true;
        sleep_for_all(lane);
        pass_lead(lane);
    }
    lane->lent++;
    pthread_mutex_unlock(&lane->lock);
    return buf;
}

/* Sleeps for all until our own result is there. Only requests that are not done wait,
 * so whoever is woken to lead does, or someone else does already. */
static void lead(struct lane *lane, struct ticket *mine)
{
    lane->led = true;
    while (!mine->done)
        sleep_for_all(lane);
    pass_lead(lane);
}

static int submit(struct lane *lane, const struct blkfront_io *io)
{
    int n;
    while ((n = blkfront_submit(lane->disk, lane->queue, io, 1)) == 0)
        pthread_cond_wait(&lane->room, &lane->lock); /* ring full: its leader makes room */
    return n < 0 ? n : 0;
}

int lane_do(struct lane *lane, struct blkfront_io io)
{
    struct ticket mine = { .over = PTHREAD_COND_INITIALIZER };
    io.cookie = (uintptr_t)&mine;
    pthread_mutex_lock(&lane->lock);
    int err = submit(lane, &io);
    if (!err) {
        start_waiting(lane, &mine);
        while (!mine.done && lane->led)
            pthread_cond_wait(&mine.over, &lane->lock);
        if (!mine.done) {
            stop_waiting(&mine);
            lead(lane, &mine);
        }
        err = mine.error;
    }
    pthread_mutex_unlock(&lane->lock);
    pthread_cond_destroy(&mine.over);
    return err;
}
