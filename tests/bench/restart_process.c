/* SPDX-License-Identifier: MIT */
/* restart_process.c - the guests' processes. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "restart.h"

#define LOOK_MS 5

uint64_t process_progress(const struct restart *r, unsigned i)
{
    return __atomic_load_n(&r->guest[i].board->progress, __ATOMIC_ACQUIRE);
}

static enum guest_state state_of(const struct restart_guest *g)
{
    return (enum guest_state)__atomic_load_n(&g->board->state, __ATOMIC_ACQUIRE);
}

static _Noreturn void live(const struct restart *r, unsigned i)
{
    const struct restart_guest *g = &r->guest[i];
    struct guest_life life = {
        .index = i, .guests = r->opt->guests, .attach = g->attach, .shared = r->shared, .board = g->board,
        .record = g->record, .patience_ns = (uint64_t)(r->opt->patience * 1e9),
    };
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, g->name);
    close_range(3, ~0u, 0); /* the stack is the benchmark's business */
    if (getrandom(&life.seed, sizeof(life.seed), 0) < 0)
        life.seed = (uint64_t)getpid();
    if (r->opt->no_replay)
        setenv("BULKHEAD_NO_REPLAY", "1", 1);
    _exit((r->opt->net ? restart_stream : restart_disk)(&life) ? 0 : 1);
}

int process_start(struct restart *r, unsigned i)
{
    struct restart_guest *g = &r->guest[i];
    __atomic_store_n(&g->board->order, GUEST_WORK, __ATOMIC_RELEASE);
    __atomic_store_n(&g->board->state, GUEST_OPENING, __ATOMIC_RELEASE);
    fflush(NULL);
    g->pid = fork();
    if (g->pid < 0) {
        g->pid = 0;
        return restart_fail(r, -errno, "cannot start a guest's process: %s", strerror(errno));
    }
    if (g->pid == 0)
        live(r, i);
    return 0;
}

static int ended(struct restart *r, unsigned i, int status)
{
    struct restart_guest *g = &r->guest[i];
    g->pid = 0;
    if (WIFSIGNALED(status) && g->may_die) {
        g->deaths++;
        g->may_die = false;
        return process_start(r, i);
    }
    if (WIFSIGNALED(status))
        return restart_fail(r, -ECHILD, "guest %s died by signal %d", g->name, WTERMSIG(status));
    if (state_of(g) == GUEST_FAILED)
        return restart_fail(r, -EIO, "guest %s: %s", g->name, g->board->error);
    return 0;
}

int process_look(struct restart *r)
{
    int status, error = 0;
    for (unsigned i = 0; i < r->opt->guests && !error; i++)
        if (r->guest[i].pid && waitpid(r->guest[i].pid, &status, WNOHANG) == r->guest[i].pid)
            error = ended(r, i, status);
    return error;
}

void process_order(struct restart *r, unsigned i, enum guest_order order)
{
    __atomic_store_n(&r->guest[i].board->order, order, __ATOMIC_RELEASE);
}

int process_leave(struct restart *r, unsigned i, enum guest_order how)
{
    uint64_t end = load_now_ns() + (uint64_t)(r->opt->patience * 1e9) + RESTART_OUTAGE_MS * 1000000ull;
    process_order(r, i, how);
    while (r->guest[i].pid) {
        int error = process_look(r);
        if (error)
            return error;
        if (load_now_ns() > end)
            return restart_fail(r, -ETIMEDOUT, "guest %s does not end", r->guest[i].name);
        witness_listen(&r->witness, LOOK_MS);
    }
    return 0;
}

void process_end_all(struct restart *r)
{
    for (unsigned i = 0; i < r->opt->guests; i++) {
        if (!r->guest[i].pid)
            continue;
        kill(r->guest[i].pid, SIGKILL);
        waitpid(r->guest[i].pid, NULL, 0);
        r->guest[i].pid = 0;
    }
}
