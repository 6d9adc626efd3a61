/* SPDX-License-Identifier: MIT */
#include "serve.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../backends/backend.h"
#include "../backends/mailbox.h"
#include "../hyp-shim/clock.h"
#include "../hyp-shim/log.h"

void must(int err, const char *what)
{
    if (err >= 0)
        return;
    log_line("%s: %s: %s; this driver domain ends", program_invocation_short_name, what,
             strerrordesc_np(-err));
    exit(1);
}

unsigned find_processors(int *cpu, unsigned max)
{
    cpu_set_t allowed;
    unsigned n = 0;

    must(sched_getaffinity(0, sizeof(allowed), &allowed) < 0 ? -errno : 0, "which processors it may use");
    for (int i = 0; i < CPU_SETSIZE && n < max; i++)
        if (CPU_ISSET(i, &allowed))
            cpu[n++] = i;
    return n;
}

/* When the next tick is; 0: none. */
static uint64_t next_tick(const struct serve *how, uint64_t due)
{
    int ms = how->timeout_ms();
    uint64_t latest = monotonic_ms() + (uint64_t)(ms < 0 ? 0 : ms);
    return ms < 0 ? 0 : due == 0 || due > latest ? latest : due;
}

/* Who is served needs no store: it goes on as it is, and ends with its last frontend. */
static void store_is_gone(struct pollfd *fd)
{
    must(backend_serving() ? 0 : -ENOTCONN, "the store is gone");
    log_line("%s: the store is gone; it goes on for those that it serves", program_invocation_short_name);
    fd->fd = -1;
}

void serve(const struct serve *how, struct hyp *hyp, struct store *store, int mail_fd)
{
    enum { HYP, STORE, MAIL, MORE, N };
    uint64_t due = 0;
    struct pollfd fd[N] = { { .fd = hyp_fd(hyp), .events = POLLIN },
                            { .fd = store_fd(store), .events = POLLIN },
                            { .fd = mail_fd, .events = POLLIN },
                            { .fd = how->fd, .events = POLLIN } };

    while (!backend_stopped()) {
        if (how->settled)
            how->settled(hyp, store);
        due = next_tick(how, due);
        uint64_t now = monotonic_ms(), left = due > now ? due - now : 0;
        struct timespec limit = { .tv_sec = (time_t)(left / 1000),
                                  .tv_nsec = (long)(left % 1000) * 1000000L };
        int n = ppoll(fd, N, due == 0 ? NULL : &limit, NULL);
        if (due > 0 && monotonic_ms() >= due) {
            how->tick();
            due = 0;
        }
        if (n <= 0)
            continue;
        if (fd[HYP].revents)
            must(backend_hyp_events(), "the hypervisor is gone");
        if (fd[STORE].revents && backend_store_events() < 0)
            store_is_gone(&fd[STORE]);
        if (fd[MAIL].revents) {
            mail_clear(mail_fd);
            how->mail();
        }
        if (fd[STORE].fd < 0)
            must(backend_serving() ? 0 : -ENOTCONN, "the store is gone");
        if (fd[MORE].revents && !how->hear(hyp, store))
            fd[MORE].fd = -1;
    }
}
