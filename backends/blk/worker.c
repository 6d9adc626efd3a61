/* SPDX-License-Identifier: MIT */
/* worker.c - one thread: mail, rings, device, answers, sleep. */
#include <errno.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "../looks.h"
#include "worker.h"

/* In poll[]; the doorbells of the queues follow in the order of sched.queue[]. */
enum { POLL_MAIL, POLL_URING, POLL_DOORBELLS };

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("" ::: "memory");
#endif
}

/* ---------------------------------------------------------------------- mail */

static void break_and_report(struct worker *w, struct blk_queue *q, const char *why)
{
    blk_queue_break(q, why);
    q->reported = true;
    mail_post(&w->out, MAIL_BROKEN, q);
}

static void attach(struct worker *w, struct blk_queue *q)
{
    int err = blk_queue_open(q, &w->uring, &w->sched.done);
    if (err == 0 && !q->armed)
        err = blk_sched_add(&w->sched, q);
    if (err < 0)
        break_and_report(w, q, "its disk could not be put into the worker's io_uring");
    else if (q->armed)
        q->opened = w->look_at_armed = true;
    w->armed_turns = 0; /* look now */
}

static void arm(struct worker *w, struct blk_queue *q)
{
    blk_queue_arm(q, &w->uring, &w->sched.done);
    q->next_armed = w->armed;
    w->armed = q;
}

static void forget_armed(struct worker *w, const struct blk_queue *q)
{
    struct blk_queue **at = &w->armed;
    while (*at && *at != q)
        at = &(*at)->next_armed;
    if (*at)
        *at = q->next_armed;
}

static void read_mail(struct worker *w)
{
    struct mail m;

    while (mail_take(&w->in, &m)) {
        struct blk_queue *q = m.what;
        switch (m.kind) {
        case MAIL_ATTACH:
            attach(w, q);
            break;
        case MAIL_ARM:
            arm(w, q);
            break;
        case MAIL_PING:
            mail_post(&w->out, MAIL_PONG, NULL);
            break;
        case MAIL_DETACH:
            q->draining = true;
            q->next_draining = w->draining;
            w->draining = q;
            break;
        default:
            w->stop = true;
        }
    }
}

/* Gives back the queues whose last request came back from the device. */
static void return_drained(struct worker *w)
{
    struct blk_queue **at = &w->draining;

    while (*at) {
        struct blk_queue *q = *at;
        if (!blk_queue_drain(q)) {
            at = &q->next_draining;
            continue;
        }
        *at = q->next_draining;
        forget_armed(w, q);
        blk_sched_remove(&w->sched, q);
        blk_queue_close(q);
        mail_post(&w->out, MAIL_DETACHED, q);
    }
}

static void report_broken(struct worker *w)
{
    for (unsigned i = 0; i < w->sched.n; i++) {
        struct blk_queue *q = w->sched.queue[i];
        if (q->broken && !q->reported) {
            q->reported = true;
            mail_post(&w->out, MAIL_BROKEN, q);
        }
    }
}

/* --------------------------------------------------------------------- armed */

static bool awaits_ring(const struct blk_queue *q)
{
    return q->opened && !q->broken && !q->draining && !q->deaf;
}

/* Puts their doorbells at poll[n ...]; returns what follows them. */
static unsigned fill_poll_armed(struct worker *w, unsigned n)
{
    for (const struct blk_queue *q = w->armed; q && n < POLL_DOORBELLS + DRR_QUEUES; q = q->next_armed)
        if (awaits_ring(q))
            w->poll[n++] = (struct pollfd){ .fd = hyp_evtchn_fd(q->evtchn), .events = POLLIN };
    return n;
}

static void begin_armed(struct worker *w, struct blk_queue *q, short heard)
{
    if (!(heard & POLLIN)) {
        q->deaf = true; /* its frontend is gone; the control thread will know */
        return;
    }
    forget_armed(w, q);
    hyp_evtchn_clear(q->evtchn);
    blk_queue_start(q);
    blk_sched_be_gentle(&w->sched);
    if (blk_sched_add(&w->sched, q) < 0)
        break_and_report(w, q, "its worker has no room for another queue");
}

/* With its disk there, the first doorbell sets a queue going; what was rung
 * before that is in the channel still. */
static void hear_armed(struct worker *w, unsigned at, unsigned end)
{
    struct blk_queue *next;
    for (struct blk_queue *q = w->armed; q && at < end; q = next) {
        next = q->next_armed;
        if (awaits_ring(q) && w->poll[at++].revents)
            begin_armed(w, q, w->poll[at - 1].revents);
    }
}

static void look_at_armed(struct worker *w)
{
    unsigned n = fill_poll_armed(w, 0);
    w->look_at_armed = n > 0;
    if (n > 0 && ppoll(w->poll, n, &(struct timespec){ 0 }, NULL) > 0)
        hear_armed(w, 0, n);
}

/* --------------------------------------------------------------------- sleep */

static bool served(const struct blk_queue *q)
{
    return !q->broken && !q->draining;
}

/* Asks every frontend to ring; true when one of them has work right now. */
static bool work_appeared(struct worker *w)
{
    bool work = mail_waiting(&w->in);
    for (unsigned i = 0; i < w->sched.n; i++) {
        struct blk_queue *q = w->sched.queue[i];
        /* A full queue has waiting requests that its device must make room for. */
        if (served(q) && !q->held && !q->rest && ring_back_idle(&q->ring) != 0)
            work = true;
    }
    return work;
}

/* True: a doorbell is muted, so the sleep must be short. */
static bool fill_poll(struct worker *w)
{
    bool any_muted = false;
    w->poll[POLL_MAIL] = (struct pollfd){ .fd = w->wake_fd, .events = POLLIN };
    w->poll[POLL_URING] = (struct pollfd){ .fd = uring_fd(&w->uring), .events = POLLIN };
    for (unsigned i = 0; i < w->sched.n; i++) {
        struct blk_queue *q = w->sched.queue[i];
        bool muted = q->idle_rings >= WORKER_STORM_RINGS;
        if (muted) {
            blk_count(&q->count.storms, 1);
            q->idle_rings = WORKER_STORM_RINGS / 2;
            any_muted = true;
        }
        bool listen = served(q) && !q->deaf && !muted;
        w->poll[POLL_DOORBELLS + i] = (struct pollfd){ .fd = listen ? hyp_evtchn_fd(q->evtchn) : -1,
                                                       .events = POLLIN };
    }
    return any_muted;
}

static void hear_doorbells(struct worker *w)
{
    for (unsigned i = 0; i < w->sched.n; i++) {
        struct blk_queue *q = w->sched.queue[i];
        short heard = w->poll[POLL_DOORBELLS + i].revents;
        if (heard & POLLIN) {
            hyp_evtchn_clear(q->evtchn);
            blk_count(&q->count.wakeups, 1);
            q->idle_rings++;
        } else if (heard) {
            __atomic_store_n(&q->deaf, true, __ATOMIC_RELAXED); /* its other end is gone for good */
        }
    }
}

static void sleep_until_rung(struct worker *w)
{
    if (work_appeared(w))
        return;
    bool soon = fill_poll(w) || w->uring.unsubmitted > 0;
    struct timespec limit = { .tv_nsec = WORKER_RETRY_MS * 1000000L };
    unsigned served = POLL_DOORBELLS + w->sched.n, all = fill_poll_armed(w, served);
    int n = ppoll(w->poll, all, soon ? &limit : NULL, NULL);
    if (n <= 0)
        return;
    if (w->poll[POLL_MAIL].revents)
        mail_clear(w->wake_fd);
    hear_doorbells(w);
    hear_armed(w, served, all);
}

/* ---------------------------------------------------------------------- loop */

static void serve(struct worker *w)
{
    struct looks looks = { .credit = LOOKS_CREDIT_MAX };
    unsigned n = 0;

    while (!w->stop) {
        read_mail(w);
        if (w->look_at_armed && w->armed_turns++ % WORKER_ARMED_TURNS == 0)
            look_at_armed(w);
        bool work = blk_sched_turn(&w->sched);
        uring_turn(&w->uring);
        work |= blk_sched_answer(&w->sched);
        report_broken(w);
        return_drained(w);
        if (work) {
            looks_paid(&looks);
            n = 0;
        } else if (w->stop || looks_again(&looks, ++n < WORKER_LOOKS)) {
            relax();
        } else {
            n = 0;
            sleep_until_rung(w);
        }
    }
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;

    if (w->cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(w->cpu, &set);
        sched_setaffinity(0, sizeof(set), &set);
    }
    blk_sched_init(&w->sched);
    w->start_error = uring_open(&w->uring, &w->sched.done, &w->start_step);
    sem_post(&w->started);
    uring_warm(&w->uring);
    serve(w);
    uring_close(&w->uring);
    return NULL;
}

int worker_start(struct worker *w, int cpu, int control_fd)
{
    pthread_attr_t attr;

    w->cpu = cpu;
    w->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (w->wake_fd < 0)
        return -errno;
    w->in.wake_fd = w->wake_fd;
    w->out.wake_fd = control_fd;
    sem_init(&w->started, 0, 0);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, WORKER_STACK_BYTES);
    int err = pthread_create(&w->thread, &attr, worker_main, w);
    pthread_attr_destroy(&attr);
    if (err) {
        close(w->wake_fd);
        return -err;
    }
    while (sem_wait(&w->started) < 0)
        ;
    return 0;
}

void worker_stop(struct worker *w)
{
    mail_post(&w->in, MAIL_STOP, NULL);
    pthread_join(w->thread, NULL);
    close(w->wake_fd);
    sem_destroy(&w->started);
}
