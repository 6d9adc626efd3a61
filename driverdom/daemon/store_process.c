/* SPDX-License-Identifier: MIT */
/*
 * store_process.c - the store's process.  It may die at any time: its tree is in
 * a journal that we hold, and its listening socket is ours, so another one goes
 * on where it was.  Who has a connection to it makes a new one (store.h), we too:
 * the store's client calls us while it waits, since only we can end its waiting.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../hyp-shim/local/proto.h"
#include "daemon.h"

#define STORE_BACKOFF_FIRST_MS 20
#define STORE_BACKOFF_LAST_MS  1000 /* clients wait 10 s for it */

static int make(struct daemon *d)
{
    struct store_process *store = &d->store_process;
    struct hyp_domain_config cfg = {.class_id = HYP_CLASS_STORE, .name = "store"};
    int fds[3], unused[2], rc;
    domid_t domid;

    log_pump(&store->log, LOG_FILE_MAX);
    rc = log_pipe(&store->log, &fds[0]);
    if (rc)
        return rc;
    fds[1] = store->listen_fd;
    fds[2] = store->journal_fd;
    rc = hyp_domain_create(d->hyp, &cfg, fds, 3, &domid, unused);
    close(fds[0]);
    return rc;
}

static bool is_there(struct daemon *d)
{
    struct hyp_domain_info info;

    return hyp_domain_info(d->hyp, LOCAL_DOMID_STORE, &info) != -ESRCH;
}

/* The next try, when this one fails or its process dies at once. */
static void back_off(struct store_process *store)
{
    uint64_t now = now_ms(), delay = STORE_BACKOFF_FIRST_MS;

    if (now - store->started_at > BACKOFF_FORGET_MS)
        store->failures = 0;
    for (uint32_t i = 1; i < store->failures && delay < STORE_BACKOFF_LAST_MS; i++)
        delay *= 2;
    if (delay > STORE_BACKOFF_LAST_MS)
        delay = STORE_BACKOFF_LAST_MS;
    store->retry_at = store->failures++ ? now + delay : now;
}

int store_process_start(struct daemon *d, char *why, size_t cap)
{
    int rc = make(d);

    d->store_process.started_at = now_ms();
    d->store_process.retry_at = 0;
    if (rc)
        snprintf(why, cap, "the core would not start the store: %s; see %s/logs/@core.log", strerror(-rc),
                 d->run_dir);
    return rc;
}

/* The journal waits in the parcel before there is anything in it: from then on nothing is lost. */
int store_process_first(struct daemon *d, char *why, size_t cap)
{
    int fd = memfd_create("bulkhead-journal", MFD_CLOEXEC), rc = 0;

    if (fd < 0 || ftruncate(fd, STORE_JOURNAL_BYTES)) {
        rc = -errno;
        snprintf(why, cap, "cannot make the store's journal: %s", strerror(-rc));
        return rc;
    }
    d->store_process.journal_fd = fd;
    adopt_park(d);
    return store_process_start(d, why, cap);
}

static void start_again(struct daemon *d)
{
    struct store_process *store = &d->store_process;
    char why[DAEMON_SENTENCE_MAX];

    if (!store_process_start(d, why, sizeof(why))) {
        event_tell(d, "restarted", NULL, json_pack("{s:s}", "name", store->log.name));
        return;
    }
    event_error(d, NULL, "%s", why);
    back_off(store);
}

void store_process_died(struct daemon *d, int status)
{
    struct store_process *store = &d->store_process;

    log_pump(&store->log, LOG_FILE_MAX);
    log_say(&d->own_log, "the store died (%s %d); see %s/logs/%s.log",
            WIFSIGNALED(status) ? "signal" : "exit status",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), d->run_dir, store->log.name);
    event_tell(d, "died", NULL,
               json_pack("{s:s,s:i}", "name", store->log.name,
                         WIFSIGNALED(status) ? "signal" : "exit_status",
                         WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)));
    store_process_look(d);
}

/* Perhaps it is there again already: the store's client noticed before we were told. */
void store_process_look(void *daemon)
{
    struct daemon *d = daemon;

    if (!d->store_process.retry_at && !is_there(d))
        back_off(&d->store_process);
    store_process_tick(d, now_ms());
}

void store_process_tick(struct daemon *d, uint64_t now)
{
    if (d->store_process.retry_at && now >= d->store_process.retry_at)
        start_again(d);
}
