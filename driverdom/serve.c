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
#include "../hyp-shim/log.h"

void must(int err, const char *what)
{
    if (err >= 0)
        return;
    log_line("%s: %s: %s; this driver domain ends", program_invocation_short_name, what, strerrordesc_np(-err));
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

void serve(const struct serve *how, struct hyp *hyp, struct store *store, int mail_fd)
{
    enum { HYP, STORE, MAIL, MORE, N };
    struct pollfd fd[N] = { { .fd = hyp_fd(hyp), .events = POLLIN },
                            { .fd = store_fd(store), .events = POLLIN },
                            { .fd = mail_fd, .events = POLLIN },
                            { .fd = how->fd, .events = POLLIN } };

    while (!backend_stopped()) {
        int ms = how->timeout_ms();
        struct timespec limit = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };
        int n = ppoll(fd, N, ms < 0 ? NULL : &limit, NULL);
        if (n == 0)
            how->tick();
        if (n <= 0)
            continue;
        if (fd[HYP].revents)
            must(backend_hyp_events(), "the hypervisor is gone");
        if (fd[STORE].revents)
            must(backend_store_events(), "the store is gone");
        if (fd[MAIL].revents) {
            mail_clear(mail_fd);
            how->mail();
        }
        if (fd[MORE].revents && !how->hear(hyp, store))
            fd[MORE].fd = -1;
    }
}
