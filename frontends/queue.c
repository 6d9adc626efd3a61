/* SPDX-License-Identifier: MIT */
#include "queue.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define IDLE_RINGS_MAX 1000u

static void ring_eventfd(int fd)
{
    uint64_t one = 1;
    /* Can fail only when the counter is full, and then it is readable too. */
    ssize_t n = write(fd, &one, sizeof(one));
    (void)n;
}

int queue_init(struct queue *q, struct hyp_pool *grants, int control_fd)
{
    *q = (struct queue){ .state = QUEUE_DRAINED, .grants = grants, .control_fd = control_fd };
    q->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    q->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (q->epoll_fd < 0 || q->kick_fd < 0)
        return -errno;
    struct epoll_event ev = { .events = EPOLLIN, .data.fd = q->kick_fd };
    return epoll_ctl(q->epoll_fd, EPOLL_CTL_ADD, q->kick_fd, &ev) == 0 ? 0 : -errno;
}

void queue_destroy(struct queue *q)
{
    if (q->kick_fd >= 0)
        close(q->kick_fd);
    if (q->epoll_fd >= 0)
        close(q->epoll_fd);
    q->kick_fd = q->epoll_fd = -1;
}

/* ------------------------------------------------------- the control thread */

int queue_attach(struct queue *q, struct hyp_evtchn *const *channels, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct epoll_event ev = { .events = EPOLLIN, .data.fd = hyp_evtchn_fd(channels[i]) };
        if (epoll_ctl(q->epoll_fd, EPOLL_CTL_ADD, ev.data.fd, &ev) == 0)
            continue;
        int err = -errno;
        while (i-- > 0)
            epoll_ctl(q->epoll_fd, EPOLL_CTL_DEL, hyp_evtchn_fd(channels[i]), NULL);
        return err;
    }
    for (unsigned i = 0; i < n; i++)
        q->channel[i] = channels[i];
    q->nchannels = n;
    q->idle_rings = 0;
    __atomic_store_n(&q->asked, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&q->first_ns, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&q->lie, NULL, __ATOMIC_RELAXED);
    return 0;
}

void queue_start(struct queue *q)
{
    queue_move(q, QUEUE_DRAINED, QUEUE_IDLE);
}

void queue_stop(struct queue *q)
{
    for (;;) {
        if (queue_move(q, QUEUE_IDLE, QUEUE_DRAINED) || queue_move(q, QUEUE_QUIET, QUEUE_DRAINED))
            return;
        if (queue_move(q, QUEUE_BUSY, QUEUE_DOWN) || queue_move(q, QUEUE_HUSHED, QUEUE_DOWN)) {
            queue_kick(q);
            return;
        }
        uint32_t s = queue_state(q);
        if (s == QUEUE_DOWN || s == QUEUE_DRAINED)
            return;
    }
}

void queue_hush(struct queue *q)
{
    while (!queue_move(q, QUEUE_BUSY, QUEUE_HUSHED)) {
        if (queue_move(q, QUEUE_IDLE, QUEUE_QUIET)) {
            /* An owner that took it meanwhile puts nothing there any more. */
            if (__atomic_load_n(&q->left, __ATOMIC_RELAXED) == 0 && queue_move(q, QUEUE_QUIET, QUEUE_DRAINED))
                return;
            break;
        }
        uint32_t s = queue_state(q);
        if (s != QUEUE_BUSY && s != QUEUE_IDLE)
            return;
    }
    queue_kick(q);
}

bool queue_drained(const struct queue *q)
{
    return queue_state(q) == QUEUE_DRAINED;
}

void queue_detach(struct queue *q)
{
    q->answered = NULL;
    for (; q->nchannels > 0; q->nchannels--) {
        struct hyp_evtchn *channel = q->channel[q->nchannels - 1];
        epoll_ctl(q->epoll_fd, EPOLL_CTL_DEL, hyp_evtchn_fd(channel), NULL);
        hyp_evtchn_close(channel);
    }
}

void queue_set_gone(struct queue *q)
{
    __atomic_store_n(&q->gone, 1, __ATOMIC_RELEASE);
    queue_kick(q);
}

void queue_kick(struct queue *q)
{
    if (!__atomic_exchange_n(&q->kicked, 1, __ATOMIC_ACQ_REL))
        ring_eventfd(q->kick_fd);
}

/* ------------------------------------------------------------------- owner */

enum queue_grip queue_take_hushed(struct queue *q)
{
    return queue_state(q) == QUEUE_HUSHED || queue_move(q, QUEUE_QUIET, QUEUE_HUSHED) ? QUEUE_FINISHES
                                                                                       : QUEUE_NOTHING;
}

void queue_rest(struct queue *q, uint32_t left)
{
    __atomic_store_n(&q->left, left, __ATOMIC_RELAXED);
    for (;;) {
        uint32_t s = queue_state(q);
        if (s != QUEUE_BUSY && s != QUEUE_HUSHED && s != QUEUE_DOWN)
            return;
        uint32_t to = s == QUEUE_BUSY ? QUEUE_IDLE : s == QUEUE_HUSHED && left ? QUEUE_QUIET : QUEUE_DRAINED;
        if (!queue_move(q, s, to))
            continue;
        if (to == QUEUE_DRAINED)
            queue_call(q);
        return;
    }
}

void queue_let_go(struct queue *q)
{
    if (queue_move(q, QUEUE_HUSHED, QUEUE_DRAINED))
        queue_call(q);
}

void queue_caught(struct queue *q, const struct queue_lie *lie)
{
    __atomic_store_n(&q->lie, lie, __ATOMIC_RELAXED);
    __atomic_store_n(&q->lies, __atomic_load_n(&q->lies, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
    if (!queue_move(q, QUEUE_BUSY, QUEUE_DOWN))
        queue_move(q, QUEUE_HUSHED, QUEUE_DOWN);
    queue_kick(q);
    queue_call(q);
}

void queue_call(struct queue *q)
{
    ring_eventfd(q->control_fd);
}

void queue_note_first(struct queue *q)
{
    q->await_first = 0;
    __atomic_store_n(&q->first_ns, monotonic_ns(), __ATOMIC_RELEASE);
    queue_call(q);
}

void queue_ring(struct queue *q, unsigned i)
{
    queue_count(&q->doorbells, 1);
    hyp_evtchn_notify(q->channel[i]);
}

void queue_forget_kick(struct queue *q)
{
    if (!__atomic_load_n(&q->kicked, __ATOMIC_ACQUIRE))
        return;
    uint64_t n;
    ssize_t got = read(q->kick_fd, &n, sizeof(n));
    (void)got;
    /* A kick between the read and this wrote nothing, but this exchange then reads
     * what that one wrote, so the state that it announced is seen from here on. */
    __atomic_exchange_n(&q->kicked, 0, __ATOMIC_ACQ_REL);
}

bool queue_take_rings(struct queue *q)
{
    struct epoll_event ev[QUEUE_CHANNELS_MAX + 1];
    bool rung = false;
    int n = epoll_wait(q->epoll_fd, ev, QUEUE_CHANNELS_MAX + 1, 0);
    for (int i = 0; i < n; i++)
        for (unsigned k = 0; k < q->nchannels; k++) {
            if (ev[i].data.fd != hyp_evtchn_fd(q->channel[k]))
                continue;
            /* Readable for ever: who waits would go round and round, and keep the thread
             * off this processor that makes the connection anew. */
            if (ev[i].events & (EPOLLHUP | EPOLLERR)) {
                epoll_ctl(q->epoll_fd, EPOLL_CTL_DEL, ev[i].data.fd, NULL);
            } else if (ev[i].events & EPOLLIN) {
                hyp_evtchn_clear(q->channel[k]);
                rung = true;
            }
        }
    return rung;
}

bool queue_storm(struct queue *q)
{
    if (++q->idle_rings <= IDLE_RINGS_MAX)
        return false;
    q->idle_rings = 0;
    return true;
}

int queue_sleep(struct queue *q, int timeout_ms)
{
    struct epoll_event ev;
    if (epoll_wait(q->epoll_fd, &ev, 1, timeout_ms) == 0)
        return 0;
    queue_count(&q->wakeups, 1);
    return 1;
}
