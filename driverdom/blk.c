/* SPDX-License-Identifier: MIT */
/*
 * blk.c - a block driver domain: acquire, jail, ready, loop.
 *
 * The launcher has already taken everything that needs privilege to take.
 * What main still holds it gives up on the way, and each step that fails ends
 * the process: a half-jailed driver domain does not exist.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "../backends/blk/blkback.h"
#include "../hyp-shim/crash.h"
#include "../hyp-shim/local/jail.h"
#include "../hyp-shim/log.h"
#include "serve.h"

static struct worker workers[WORKERS_MAX];

/* One worker for each processor that this domain may use. */
static unsigned start_workers(int mail_fd)
{
    int cpu[WORKERS_MAX];
    unsigned n = find_processors(cpu, WORKERS_MAX);

    for (unsigned i = 0; i < n; i++) {
        must(worker_start(&workers[i], cpu[i], mail_fd), "starting a worker thread");
        if (workers[i].start_error && i == 0)
            log_line("bulkhead-blk: %s: %s; only ram disks can be served (sysctl kernel.io_uring_disabled?)",
                     workers[i].start_step, strerrordesc_np(-workers[i].start_error));
    }
    return n;
}

int main(int argc, char **argv)
{
    const char *step = "";
    struct hyp *hyp;
    struct store *store;

    if (crash_listed(argc, argv))
        return 0;
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
    const struct serve disks = { .mail = blkback_mail, .tick = backend_tick, .timeout_ms = backend_timeout_ms,
                                 .fd = -1 };
    serve(&disks, hyp, store, mail_fd);
    return 0;
}
