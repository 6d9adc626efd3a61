/* SPDX-License-Identifier: MIT */
/* worker.c - one thread: mail, rings, uplink, sleep. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_pause.h>

#include "../looks.h"
#include "forward.h"

#define WORKER_STACK_BYTES (256u << 10)
#define WORKER_LOOK_NS     20000u /* at empty rings before sleeping */
/* A doorbell that rang this often in a row for nothing is left out of the next
 * sleep, which is then short: whoever rings it slows only itself (XSA-332). */
#define WORKER_STORM_RINGS 64u
#define WORKER_RETRY_NS    10000000u
/* Turns between looks at the doorbells of armed queues, while there is work: a call
 * that an honest frontend makes few of. */
#define WORKER_ARMED_TURNS 32u

static struct net_worker workers[NET_WORKERS_MAX];
static unsigned nworkers;
static uint64_t tick_ns; /* nanoseconds of a tick of the counter, times 2^32 */

static uint64_t clock_ns(void)
{
    return (uint64_t)((unsigned __int128)rte_rdtsc() * tick_ns >> 32);
}

void net_worker_init(struct net_worker *w, unsigned index, unsigned n, struct uplink *uplink)
{
    memset(w, 0, sizeof(*w));
    w->index = index;
    w->workers = n;
    w->has_uplink = uplink->present;
    if (index == 0 && uplink->present)
        *(uplink->quiet ? &w->quiet : &w->uplink) = uplink;
    net_backlog_init(&w->room, n);
    net_switch_init(&w->table);
    net_sched_init(&w->sched, net_forward_guest, w);
}

/* ---------------------------------------------------------------------- mail */

static struct net_queue *queue_here(const struct net_worker *w, const struct net_port *port)
{
    for (unsigned i = 0; i < port->nqueues; i++)
        if (port->worker[i] == w->index)
            return port->queue[i];
    return NULL;
}

static void serve_queue(struct net_worker *w, struct net_queue *q)
{
    if (!net_sched_add(&w->sched, q))
        net_queue_break(q, "its worker has no room for another queue");
}

static void forget_armed(struct net_worker *w, const struct net_queue *q)
{
    struct net_queue **at = &w->armed;
    while (*at && *at != q)
        at = &(*at)->next_armed;
    if (*at)
        *at = q->next_armed;
}

void net_worker_attach(struct net_worker *w, struct net_port *port)
{
    struct net_queue *q = queue_here(w, port);

    if (!net_switch_add(&w->table, port) || !q)
        return;
    net_queue_open(q, &w->room, w->now);
    w->local[port->index] = q;
    if (!port->armed) {
        serve_queue(w, q);
        return;
    }
    q->next_armed = w->armed;
    w->armed = q;
    w->armed_turns = 0; /* look now */
}

void net_worker_detach(struct net_worker *w, struct net_port *port)
{
    struct net_queue *q = port->index < NET_PORTS_MAX ? w->local[port->index] : NULL;

    if (q && q->port == port) {
        forget_armed(w, q);
        net_sched_remove(&w->sched, q);
        net_queue_close(q);
        w->local[port->index] = NULL;
    }
    net_switch_remove(&w->table, port);
}

static void read_mail(struct net_worker *w)
{
    struct mail m;

    while (mail_take(&w->in, &m)) {
        switch (m.kind) {
        case MAIL_ATTACH:
            net_worker_attach(w, m.what);
            break;
        case MAIL_DETACH:
            net_worker_detach(w, m.what);
            mail_post(&w->out, MAIL_DETACHED, m.what);
            break;
        case MAIL_PING:
            mail_post(&w->out, MAIL_PONG, NULL);
            break;
        case MAIL_UPLINK:
            w->uplink = w->quiet;
            break;
        default:
            w->stop = true;
        }
    }
}

static void report_broken(struct net_worker *w)
{
    for (unsigned i = 0; i < w->sched.n; i++) {
        struct net_queue *q = w->sched.queue[i];
        if (q->broken && !q->reported) {
            q->reported = true;
            mail_post(&w->out, MAIL_BROKEN, (void *)(uintptr_t)q->port);
        }
    }
}

/* ------------------------------------------------------------------------ armed */

/* Puts their doorbells at poll[n ...]; returns what follows them. */
static unsigned fill_poll_armed(struct net_worker *w, unsigned n)
{
    for (const struct net_queue *q = w->armed; q; q = q->next_armed)
        w->poll[n++] = (struct pollfd){ .fd = q->deaf ? -1 : hyp_evtchn_fd(q->tx_evtchn), .events = POLLIN };
    return n;
}

/* The first doorbell sets a queue going; what was rung before is in the channel still. */
static void hear_armed(struct net_worker *w, unsigned at)
{
    struct net_queue *next;
    for (struct net_queue *q = w->armed; q; q = next, at++) {
        next = q->next_armed;
        if (w->poll[at].revents & POLLIN) {
            forget_armed(w, q);
            hyp_evtchn_clear(q->tx_evtchn);
            net_queue_start(q);
            serve_queue(w, q);
        } else if (w->poll[at].revents) {
            q->deaf = true; /* its frontend is gone; the control thread will know */
        }
    }
}

static void look_at_armed(struct net_worker *w)
{
    unsigned n = fill_poll_armed(w, 0);
    if (ppoll(w->poll, n, &(struct timespec){ 0 }, NULL) > 0)
        hear_armed(w, 0);
}

/* ------------------------------------------------------------------------ turns */

static bool retry_backlogs(struct net_worker *w, uint64_t *wait)
{
    bool work = false;

    for (unsigned i = 0; w->room.packets > 0 && i < w->sched.n; i++) {
        struct net_queue *q = w->sched.queue[i];
        if (q->backlog_n == 0)
            continue;
        if (net_queue_retry(q, w->now)) {
            work = true;
            q->idle_rings = 0;
            net_queue_push(q);
        }
        if (q->rx_wait > 0 && q->rx_wait < *wait)
            *wait = q->rx_wait;
    }
    return work;
}

static void push_touched(struct net_worker *w)
{
    while (w->touched) {
        struct net_queue *q = w->touched;
        w->touched = q->next_touched;
        q->touched = false;
        net_queue_push(q);
    }
}

bool net_worker_turn(struct net_worker *w, uint64_t now, uint64_t *wait)
{
    bool work = false;

    w->now = now;
    if (w->armed && w->armed_turns++ % WORKER_ARMED_TURNS == 0)
        look_at_armed(w);
    if (w->uplink)
        work |= net_wire_retry(w);
    if (w->held_n == 0) {
        work |= net_sched_turn(&w->sched, w->now, wait);
        work |= net_forward_taken(w);
    }
    if (w->uplink)
        work |= net_wire_receive(w);
    work |= retry_backlogs(w, wait);
    push_touched(w);
    net_forward_ring(w);
    return work;
}

/* --------------------------------------------------------------------- sleep */

/* Asks every frontend to ring; true when there is work right now. */
static bool work_appeared(struct net_worker *w)
{
    bool work = mail_waiting(&w->in);

    for (unsigned i = 0; i < w->workers; i++)
        if (i != w->index && !rte_ring_empty(w->from[i]))
            work = true;
    for (unsigned i = 0; i < w->sched.n; i++) {
        struct net_queue *q = w->sched.queue[i];
        if (q->broken)
            continue;
        if (q->tx_wait == 0 && ring_back_idle(&q->tx) != 0)
            work = true;
        uint32_t wants = q->rx_wait == 0 ? net_queue_wants(q) : 0;
        if (wants > 0 && ring_back_idle_for(&q->rx, wants))
            work = true;
    }
    return work;
}

static bool is_muted(struct net_queue *q)
{
    if (q->idle_rings < WORKER_STORM_RINGS)
        return false;
    net_count(&q->count.storms, 1);
    q->idle_rings = WORKER_STORM_RINGS / 2;
    return true;
}

/* Returns how many; shortens *wait when a doorbell is muted. */
static unsigned fill_poll(struct net_worker *w, uint64_t *wait)
{
    struct uplink *up = w->uplink;

    w->poll[POLL_MAIL] = (struct pollfd){ .fd = w->wake_fd, .events = POLLIN };
    w->poll[POLL_UPLINK] =
        (struct pollfd){ .fd = up && !w->uplink_deaf ? up->poll_fd : -1, .events = POLLIN };
    if (w->uplink_deaf && *wait > WORKER_RETRY_NS)
        *wait = WORKER_RETRY_NS;
    w->uplink_deaf = false;
    if (up && up->poll_fd < 0 && up->poll_ms > 0 && up->poll_ms * 1000000ull < *wait)
        *wait = up->poll_ms * 1000000ull;
    for (unsigned i = 0; i < w->sched.n; i++) {
        struct net_queue *q = w->sched.queue[i];
        struct pollfd *p = &w->poll[POLL_DOORBELLS + 2 * i];
        bool muted = is_muted(q), listen = !q->broken && !q->deaf && !muted;
        if (muted && *wait > WORKER_RETRY_NS)
            *wait = WORKER_RETRY_NS;
        bool split = q->rx_evtchn != q->tx_evtchn;
        p[0] = (struct pollfd){ .fd = listen ? hyp_evtchn_fd(q->tx_evtchn) : -1, .events = POLLIN };
        p[1] = (struct pollfd){ .fd = listen && split ? hyp_evtchn_fd(q->rx_evtchn) : -1, .events = POLLIN };
    }
    return POLL_DOORBELLS + 2 * w->sched.n;
}

static void hear(struct net_queue *q, struct hyp_evtchn *ch, short heard)
{
    if (heard & POLLIN) {
        hyp_evtchn_clear(ch);
        net_count(&q->count.wakeups, 1);
        q->idle_rings++;
    } else if (heard) {
        q->deaf = true; /* its other end is gone for good */
    }
}

static void sleep_until_rung(struct net_worker *w, uint64_t wait)
{
    __atomic_store_n(&w->asleep, 1, __ATOMIC_RELAXED);
    ring_full_barrier(); /* before looking at what others may have handed over */
    if (!work_appeared(w)) {
        unsigned served = fill_poll(w, &wait), n = fill_poll_armed(w, served);
        struct timespec limit = { .tv_sec = (time_t)(wait / 1000000000u),
                                  .tv_nsec = (long)(wait % 1000000000u) };
        int rung = ppoll(w->poll, n, wait == UINT64_MAX ? NULL : &limit, NULL);
        if (rung > 0) {
            if (w->poll[POLL_MAIL].revents)
                mail_clear(w->wake_fd);
            if (w->poll[POLL_UPLINK].revents & ~POLLIN)
                w->uplink_deaf = !uplink_clear_error(w->uplink);
            for (unsigned i = 0; i < w->sched.n; i++) {
                struct net_queue *q = w->sched.queue[i];
                hear(q, q->tx_evtchn, w->poll[POLL_DOORBELLS + 2 * i].revents);
                hear(q, q->rx_evtchn, w->poll[POLL_DOORBELLS + 2 * i + 1].revents);
            }
            hear_armed(w, served);
        }
    }
    __atomic_store_n(&w->asleep, 0, __ATOMIC_RELAXED);
}

/* ---------------------------------------------------------------------- thread */

static void serve(struct net_worker *w)
{
    struct looks looks = { .credit = LOOKS_CREDIT_MAX };
    uint64_t busy = clock_ns();

    while (!w->stop) {
        uint64_t wait = UINT64_MAX;
        read_mail(w);
        bool work = net_worker_turn(w, clock_ns(), &wait);
        report_broken(w);
        if (work) {
            looks_paid(&looks);
            busy = w->now;
        } else if (w->stop || looks_again(&looks, w->now - busy < WORKER_LOOK_NS)) {
            rte_pause();
        } else {
            sleep_until_rung(w, wait);
            busy = clock_ns();
        }
    }
    push_touched(w);
    net_wire_close(w);
}

static void *worker_main(void *arg)
{
    struct net_worker *w = arg;

    if (w->cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(w->cpu, &set);
        sched_setaffinity(0, sizeof(set), &set);
    }
    /* With a number of its own it has a cache of packets of its own. */
    w->start_error = rte_thread_register() < 0 ? -rte_errno : 0;
    sem_post(&w->started);
    if (w->start_error == 0) {
        serve(w);
        rte_thread_unregister();
    }
    return NULL;
}

static int start(struct net_worker *w, int control_fd)
{
    pthread_attr_t attr;

    w->in.wake_fd = w->wake_fd;
    w->out.wake_fd = control_fd;
    w->now = clock_ns();
    sem_init(&w->started, 0, 0);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, WORKER_STACK_BYTES);
    int err = pthread_create(&w->thread, &attr, worker_main, w);
    pthread_attr_destroy(&attr);
    if (err)
        return -err;
    while (sem_wait(&w->started) < 0)
        ;
    return w->start_error;
}

/* A ring from each worker to each other. */
static int connect_workers(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct net_worker *w = &workers[i];
        w->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (w->wake_fd < 0)
            return -errno;
    }
    for (unsigned i = 0; i < n; i++) {
        for (unsigned j = 0; j < n; j++) {
            char name[24];
            if (i == j)
                continue;
            snprintf(name, sizeof(name), "w%u-%u", i, j);
            struct rte_ring *r =
                rte_ring_create(name, HANDOVER_SLOTS, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
            if (!r)
                return -rte_errno;
            workers[i].to[j] = workers[j].from[i] = r;
            workers[i].others[j] = (struct net_neighbour){ &workers[j].asleep, workers[j].wake_fd };
        }
    }
    return 0;
}

int net_workers_start(unsigned n, const int *cpu, struct uplink *uplink, int control_fd)
{
    if (n == 0 || n > NET_WORKERS_MAX)
        return -EINVAL;
    tick_ns = (uint64_t)(((unsigned __int128)1000000000u << 32) / rte_get_tsc_hz());
    for (unsigned i = 0; i < n; i++) {
        net_worker_init(&workers[i], i, n, uplink);
        workers[i].cpu = cpu[i];
    }
    int err = connect_workers(n);
    for (nworkers = 0; err == 0 && nworkers < n; nworkers += err == 0)
        err = start(&workers[nworkers], control_fd);
    return err;
}

void net_workers_stop(void)
{
    struct rte_mbuf *m;

    for (unsigned i = 0; i < nworkers; i++)
        mail_post(&workers[i].in, MAIL_STOP, NULL);
    for (unsigned i = 0; i < nworkers; i++)
        pthread_join(workers[i].thread, NULL);
    for (unsigned i = 0; i < nworkers; i++) {
        for (unsigned j = 0; j < nworkers; j++) {
            while (workers[i].to[j] && rte_ring_dequeue(workers[i].to[j], (void **)&m) == 0)
                rte_pktmbuf_free(m);
            rte_ring_free(workers[i].to[j]);
        }
        close(workers[i].wake_fd);
        sem_destroy(&workers[i].started);
    }
    nworkers = 0;
}

bool net_worker_post(unsigned i, enum mail_kind kind, struct net_port *port)
{
    return i < nworkers && mail_post(&workers[i].in, kind, port);
}

bool net_worker_take(unsigned i, struct mail *out)
{
    return i < nworkers && mail_take(&workers[i].out, out);
}
