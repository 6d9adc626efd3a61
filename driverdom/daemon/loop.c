/* SPDX-License-Identifier: MIT */
/* loop.c - the daemon's one loop: who is heard, and when it is over. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../hyp-shim/local/limits.h"
#include "daemon.h"
#include "setup.h"

#define SHUTDOWN_WAIT_MS 20000
#define STAND_BACK_NS    4000000
#define LOG_BUDGET       4096 /* bytes of one domain's log a turn */
#define NEWS_BUDGET      64   /* events a turn */
#define FIXED_FDS        8
#define POLL_MAX         (FIXED_FDS + 3 * DAEMON_DOMAINS_MAX + DAEMON_SESSIONS_MAX)

void daemon_hear(struct daemon *d, const struct hyp_event *ev)
{
    if (ev->kind == HYP_EV_DEATH && ev->domid == LOCAL_DOMID_STORE)
        store_process_died(d, ev->error);
    else if (ev->kind == HYP_EV_DEATH && ev->domid == d->keeper.domid)
        keeper_died(d, ev->error);
    else
        dom_event(d, ev);
}

/* What cannot be made again from here. */
static void lose(struct daemon *d, bool core)
{
    log_pump(&d->core_log, LOG_FILE_MAX);
    if (core)
        event_error(d, NULL,
                    "the core is gone, and every domain with it: it alone cannot be replaced; see "
                    "%s/logs/@core.log, then start bulkheadd and the domains again",
                    d->run_dir);
    else
        event_error(d, NULL,
                    "the store does not come back; what runs goes on, but nothing can be changed; see "
                    "%s/logs/@store.log, then start bulkheadd again (or end everything: kill the process "
                    "bulkhead-core)",
                    d->run_dir);
    d->core_ended = core;
    d->exit_status = 1;
    d->done = true;
}

/*
 * Calls collect events of their own: ask until neither has more, or until it is
 * the turn of others.  True: something happened, there may be more.
 */
static bool take_news(struct daemon *d)
{
    struct hyp_event hev;
    struct store_event sev;
    bool any = false;
    int budget = NEWS_BUDGET, h, s;

    do {
        h = hyp_next_event(d->hyp, &hev);
        if (h == 1)
            daemon_hear(d, &hev);
        s = store_next_event(d->store, &sev);
        if (s == 1)
            guest_store_event(d, &sev);
        any = any || h == 1 || s == 1;
    } while ((h == 1 || s == 1) && --budget);
    if ((h < 0 || s < 0) && !d->done)
        lose(d, h < 0);
    return any;
}

static void take_signal(struct daemon *d)
{
    struct signalfd_siginfo info;

    if (read(d->signal_fd, &info, sizeof(info)) != sizeof(info) || d->stopping)
        return;
    if (info.ssi_signo == SIGCHLD)
        return; /* the core: its socket tells */
    d->stopping = true;
    d->stop_deadline = now_ms() + SHUTDOWN_WAIT_MS;
    log_say(&d->own_log, "stopping");
}

/* Guests first, then what serves them; then interfaces go back where they came from. */
static void stop_step(struct daemon *d, uint64_t now)
{
    char why[DAEMON_SENTENCE_MAX];
    bool left[POLICY_GUEST + 1] = {false};

    for (enum policy_kind kind = POLICY_GUEST; kind >= POLICY_DRIVER; kind--) {
        for (int i = 0; i < DAEMON_DOMAINS_MAX; i++) {
            struct domain *dom = &d->domains[i];

            if (!dom->used || dom->spec.kind != kind || dom_is_down(dom))
                continue;
            left[kind] = true;
            if (dom->state != ST_STOPPING && dom_stop(d, dom, why)) {
                log_say(&d->own_log, "%s", why);
                hyp_domain_destroy(d->hyp, dom->domid);
                dom->state = ST_STOPPING;
            }
            left[kind] = left[kind] && !dom_is_down(dom);
        }
        if (left[kind])
            break;
    }
    if ((!left[POLICY_GUEST] && !left[POLICY_DRIVER] && keeper_end(d, now)) || now >= d->stop_deadline)
        d->done = true;
}

struct watched {
    enum { W_LISTEN, W_SIGNAL, W_HYP, W_STORE, W_KEEPER, W_LOG, W_ATTACH, W_DOOR, W_SESSION } what;
    void *of;
};

struct poll_set {
    struct pollfd fds[POLL_MAX];
    struct watched of[POLL_MAX];
    nfds_t n;
};

static void watch(struct poll_set *set, int fd, short events, struct watched of)
{
    if (fd < 0 || set->n == POLL_MAX)
        return;
    set->fds[set->n] = (struct pollfd){.fd = fd, .events = events};
    set->of[set->n++] = of;
}

static void fill(struct daemon *d, struct poll_set *set)
{
    set->n = 0;
    watch(set, d->signal_fd, POLLIN, (struct watched){W_SIGNAL, d});
    watch(set, hyp_fd(d->hyp), POLLIN, (struct watched){W_HYP, d});
    watch(set, store_fd(d->store), POLLIN, (struct watched){W_STORE, d});
    watch(set, d->core_log.pipe, POLLIN, (struct watched){W_LOG, &d->core_log});
    watch(set, d->store_process.log.pipe, POLLIN, (struct watched){W_LOG, &d->store_process.log});
    watch(set, d->keeper.log.pipe, POLLIN, (struct watched){W_LOG, &d->keeper.log});
    watch(set, d->keeper.control, (short)(POLLIN | (d->keeper.blocked ? POLLOUT : 0)),
          (struct watched){W_KEEPER, d});
    if (!d->stopping)
        watch(set, d->listen_fd, POLLIN, (struct watched){W_LISTEN, d});
    for (int i = 0; i < DAEMON_DOMAINS_MAX; i++) {
        struct domain *dom = &d->domains[i];

        if (!dom->used)
            continue;
        watch(set, dom->log.pipe, POLLIN, (struct watched){W_LOG, &dom->log});
        watch(set, dom->spare.log.pipe, POLLIN, (struct watched){W_LOG, &dom->spare.log});
        if (dom->spec.door == POLICY_DOOR_NATIVE && dom->state == ST_RUNNING)
            watch(set, dom->door_fd, POLLIN, (struct watched){W_ATTACH, dom});
        if (dom->spec.door == POLICY_DOOR_VHOST && dom->built)
            watch(set, dom->door_fd, POLLIN, (struct watched){W_DOOR, dom});
    }
    for (int i = 0; i < DAEMON_SESSIONS_MAX; i++) {
        struct session *s = &d->sessions[i];
        short want = (short)((s->wait || s->later ? 0 : POLLIN) | (s->out_bytes ? POLLOUT : 0));

        watch(set, s->fd, want, (struct watched){W_SESSION, s});
    }
}

static int poll_timeout(struct daemon *d, uint64_t now)
{
    uint64_t next = d->stopping ? d->stop_deadline : 0;

    if (d->keeper.end_at && d->keeper.end_at < next)
        next = d->keeper.end_at;
    if (d->store_process.retry_at && (!next || d->store_process.retry_at < next))
        next = d->store_process.retry_at;
    for (int i = 0; i < DAEMON_DOMAINS_MAX; i++) {
        uint64_t at = d->domains[i].used ? dom_next_tick(&d->domains[i]) : 0;

        if (at && (!next || at < next))
            next = at;
    }
    if (!next)
        return -1;
    return next <= now ? 0 : (int)(next - now);
}

static void serve(struct daemon *d, const struct poll_set *set)
{
    for (nfds_t i = 0; i < set->n; i++) {
        void *of = set->of[i].of;

        if (!set->fds[i].revents)
            continue;
        switch (set->of[i].what) {
        case W_LISTEN:
            session_accept(d);
            break;
        case W_SIGNAL:
            take_signal(d);
            break;
        case W_KEEPER:
            if (d->keeper.control == set->fds[i].fd)
                keeper_serve(d, set->fds[i].revents);
            break;
        case W_LOG:
            log_pump(of, LOG_BUDGET);
            break;
        case W_ATTACH: {
            struct domain *dom = of;

            if (dom->used && dom->state == ST_RUNNING && dom->door_fd == set->fds[i].fd)
                door_attach(d, dom);
            break;
        }
        case W_DOOR: {
            struct domain *dom = of;

            if (dom->used && dom->built && dom->door_fd == set->fds[i].fd)
                vhost_hear(d, dom);
            break;
        }
        case W_SESSION: {
            struct session *s = of;

            if (s->fd == set->fds[i].fd)
                session_serve(d, s, set->fds[i].revents);
            break;
        }
        case W_HYP:
        case W_STORE:
            break; /* take_news() */
        }
    }
}

void daemon_stand_back(void)
{
    static uint64_t last;

    if (monotonic_ns() - last > 2 * STAND_BACK_NS)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = STAND_BACK_NS}, NULL);
    last = monotonic_ns();
}

/* The log of one with a spare ends: a death, most often, whose news is on its way. */
static bool takeover_begins(const struct daemon *d, const struct poll_set *set)
{
    for (nfds_t i = 0; i < set->n; i++)
        for (int k = 0; set->fds[i].revents & POLLHUP && k < DAEMON_DOMAINS_MAX; k++)
            if (set->of[i].of == &d->domains[k].log && d->domains[k].spare.was_armed)
                return true;
    return false;
}

int daemon_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void turn(struct daemon *d, struct poll_set *set)
{
    uint64_t now;
    bool again = take_news(d);

    now = now_ms();
    for (int i = 0; i < DAEMON_DOMAINS_MAX; i++)
        if (d->domains[i].used)
            dom_tick(d, &d->domains[i], now);
    store_process_tick(d, now);
    if (d->stopping)
        stop_step(d, now);
    again |= take_news(d); /* what that set off may let the next step begin */
    again |= session_turns(d);
    if (d->done)
        return;
    state_save(d);
    adopt_park(d);
    fill(d, set);
    if (poll(set->fds, set->n, again ? 0 : poll_timeout(d, now_ms())) <= 0)
        return;
    if (takeover_begins(d, set))
        daemon_stand_back();
    serve(d, set);
}

int daemon_loop(struct daemon *d, int ready_fd)
{
    static struct poll_set set;

    if (!d->foreground)
        launch_ready(ready_fd);
    else
        launch_notify();
    log_say(&d->own_log, "bulkheadd %s serves %s", BULKHEAD_VERSION, d->run_dir);
    while (!d->done)
        turn(d, &set);
    for (int i = 0; i < DAEMON_SESSIONS_MAX; i++)
        session_close(&d->sessions[i]);
    if (d->stopping || d->core_ended)
        setup_end_core(d);
    for (int i = 0; i < DAEMON_DOMAINS_MAX; i++) {
        if (!d->domains[i].used)
            continue;
        log_pump(&d->domains[i].log, LOG_FILE_MAX);
        log_close(&d->domains[i].log);
        log_pump(&d->domains[i].spare.log, LOG_FILE_MAX);
        log_close(&d->domains[i].spare.log);
        if (d->core_ended)
            door_close(&d->domains[i]);
    }
    log_say(&d->own_log, "ended with status %d", d->exit_status);
    log_pump(&d->keeper.log, LOG_FILE_MAX);
    log_close(&d->keeper.log);
    log_pump(&d->store_process.log, LOG_FILE_MAX);
    log_close(&d->store_process.log);
    log_close(&d->core_log);
    log_close(&d->own_log);
    return d->exit_status;
}
