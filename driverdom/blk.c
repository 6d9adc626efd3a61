/* SPDX-License-Identifier: MIT */
/*
 * blk.c - a block driver domain: acquire, jail, ready, loop.
 *
 * The launcher has already taken everything that needs privilege to take.
 * What main still holds it gives up on the way, and each step that fails ends
 * the process: a half-jailed driver domain does not exist.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "../backends/blk/blkback.h"
#include "../backends/log.h"
#include "../hyp-shim/local/jail.h"

static struct worker workers[WORKERS_MAX];

static void must(int err, const char *what)
{
    if (err >= 0)
        return;
    backend_log("bulkhead-blk: %s: %s; this driver domain ends", what, strerrordesc_np(-err));
    exit(1);
}

/* One worker for each processor that this domain may use. */
static unsigned start_workers(int mail_fd)
{
    cpu_set_t allowed;
    unsigned n = 0;

    must(sched_getaffinity(0, sizeof(allowed), &allowed) < 0 ? -errno : 0, "which processors it may use");
    for (int cpu = 0; cpu < CPU_SETSIZE && n < WORKERS_MAX; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        must(worker_start(&workers[n], cpu, mail_fd), "starting a worker thread");
        if (workers[n].start_error && n == 0)
            backend_log("bulkhead-blk: %s: %s; only ram disks can be served (sysctl kernel.io_uring_disabled?)",
                    workers[n].start_step, strerrordesc_np(-workers[n].start_error));
        n++;
    }
    return n;
}

static void loop(struct hyp *hyp, struct store *store, int mail_fd)
{
    enum { HYP, STORE, MAIL, N };
    struct pollfd fd[N] = { { .fd = hyp_fd(hyp), .events = POLLIN },
                            { .fd = store_fd(store), .events = POLLIN },
                            { .fd = mail_fd, .events = POLLIN } };

    while (!backend_stopped()) {
        int ms = backend_timeout_ms();
        struct timespec limit = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };
        int n = ppoll(fd, N, ms < 0 ? NULL : &limit, NULL);
        if (n == 0)
            backend_tick();
        if (n <= 0)
            continue;
        if (fd[HYP].revents)
            must(backend_hyp_events(), "the hypervisor is gone");
        if (fd[STORE].revents)
            must(backend_store_events(), "the store is gone");
        if (fd[MAIL].revents) {
            mail_clear(mail_fd);
            blkback_mail();
        }
    }
}

int main(void)
{
    const char *step = "";
    struct hyp *hyp;
    struct store *store;

    int err = jail_confine(&step);
    must(err, step);
    must(hyp_open(&hyp, NULL), "joining the hypervisor");
    must(store_open(&store, hyp), "joining the store");
    must(hyp_guard_memory_faults(hyp), "guarding against memory that goes away");
    int mail_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    must(mail_fd < 0 ? -errno : 0, "making the mailbox");
    unsigned n = start_workers(mail_fd);
    must(hyp_restrict(hyp, HYP_MAY_MAP | HYP_MAY_EVTCHN | HYP_MAY_DEVICE), "giving up rights");
    err = jail_seal(HYP_CLASS_BLK, &step);
    must(err, step);

    must(blkback_init(hyp, store, workers, n), "watching its part of the store");
    must(hyp_ready(hyp), "telling that it is ready");
    loop(hyp, store, mail_fd);
    return 0;
}
