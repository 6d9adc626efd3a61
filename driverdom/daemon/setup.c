/* SPDX-License-Identifier: MIT */
/* setup.c - from descriptors to a daemon that can serve. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../hyp-shim/local/limits.h"
#include "setup.h"

#define ADOPT_WAIT_MS  3000 /* for the core to see that the last daemon is dead */
#define ADOPT_RETRY_US 10000
#define CORE_EXIT_MS   5000
#define STORE_WAIT_MS  10000
#define STORE_RETRY_US 1000
#define PARCEL_BYTES   (1 << 20)

/* Definitions that an earlier daemon kept. */
static void load_one(void *data, const char *name, const char *xml, size_t len)
{
    static struct domain_spec spec; /* large; one thread */
    struct daemon *d = data;
    struct domain *dom;
    char file[POLICY_NAME_MAX + 32], err[POLICY_ERR_MAX] = "it cannot be read";

    snprintf(file, sizeof(file), "domains/%s.xml", name);
    if (!xml || policy_parse(xml, len, file, &spec, err, NULL))
        log_say(&d->own_log, "%s is left out: %s", file, err);
    else if (strcmp(spec.name, name) != 0)
        log_say(&d->own_log, "%s is left out: it describes %s", file, spec.name);
    else if (!(dom = dom_new(d, &spec)))
        log_say(&d->own_log, "%s is left out: there are too many", file);
    else
        dom->opened = rundir_was_opened(name);
}

/* The reason is the last line but for the core's own farewell; its time stamp ends in "Z ". */
static void last_words_of_core(struct daemon *d, char *why, size_t cap)
{
    const char *reason = "it gave no reason";
    size_t bytes;
    char *text, *rest;

    log_pump(&d->core_log, LOG_FILE_MAX);
    text = log_text(&d->core_log, &bytes);
    for (char *line = text ? strtok_r(text, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
        char *said = strstr(line, "Z ");

        if (said && !strstr(said, ": ends:"))
            reason = said + 2;
    }
    snprintf(why, cap, "the core did not start: %s", reason);
    free(text);
}

void setup_init(struct daemon *d, bool foreground)
{
    d->foreground = foreground;
    d->parcel[0] = d->parcel[1] = -1;
    d->store_process.listen_fd = d->store_process.journal_fd = -1;
    for (int i = 0; i < DAEMON_SESSIONS_MAX; i++)
        d->sessions[i].fd = -1;
    log_init(&d->core_log, "@core");
    log_init(&d->own_log, "@bulkheadd");
    log_init(&d->store_process.log, "@store");
    keeper_init(d);
    d->core_log.echo = d->own_log.echo = d->store_process.log.echo = d->keeper.log.echo = foreground;
}

/* ------------------------------------------------------------------- the core */

static int adopt_core(struct daemon *d, char *why, size_t cap)
{
    uint64_t until = now_ms() + ADOPT_WAIT_MS;
    int rc;

    while ((rc = hyp_local_adopt(&d->hyp, RUNDIR_CORE_SOCKET, d->parcel)) == -EBUSY && now_ms() < until)
        usleep(ADOPT_RETRY_US);
    d->adopted = rc != -ENOENT && rc != -ECONNREFUSED;
    if (rc && d->adopted)
        snprintf(why, cap,
                 "the core that runs in %s cannot be taken over: %s; its guests go on; to end them all, kill "
                 "the process bulkhead-core and start bulkheadd again",
                 d->run_dir,
                 rc == -EBUSY    ? "another bulkheadd has it"
                 : rc == -EPROTO ? "it is of another version"
                                 : strerror(-rc));
    return rc;
}

static int new_core(struct daemon *d, struct rundir *run, char *why, size_t cap)
{
    struct launch launch;
    int rc = rundir_for_core(run, d->run_dir, why, cap);

    if (rc)
        return rc;
    d->store_process.listen_fd = run->store_fd;
    rc = launch_core(&launch, run->core_fd, &d->core_log, why, cap);
    close(run->core_fd);
    if (rc)
        return rc;
    d->core = launch.core;
    rc = hyp_local_open(&d->hyp, launch.calls_fd, -1);
    if (!rc)
        rc = hyp_local_parcel(d->hyp, d->parcel);
    if (rc)
        last_words_of_core(d, why, cap);
    return rc;
}

int setup_reach_core(struct daemon *d, struct rundir *run, char *why, size_t cap)
{
    int rc = adopt_core(d, why, cap), room = PARCEL_BYTES;

    if (!d->adopted)
        rc = new_core(d, run, why, cap);
    if (!rc) /* what does not fit is told when it is parked */
        setsockopt(d->parcel[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
    return rc;
}

void setup_end_core(struct daemon *d)
{
    uint64_t until = now_ms() + CORE_EXIT_MS;
    bool there = d->hyp && !hyp_end(d->hyp);

    if (!d->hyp && d->core)
        kill(d->core, SIGKILL); /* one that does not even greet */

    if (d->store)
        store_close(d->store);
    if (d->hyp)
        hyp_close(d->hyp);
    d->store = NULL;
    d->hyp = NULL;
    /* Gone: when its stderr is closed, or, the surer sign, when it can be reaped. */
    while (there && now_ms() < until) {
        there = log_pump(&d->core_log, LOG_FILE_MAX) && (!d->core || waitpid(d->core, NULL, WNOHANG) == 0);
        usleep(2000);
    }
    log_pump(&d->core_log, LOG_FILE_MAX);
    d->core_ended = true;
}

/* ------------------------------------------------------------------ the store */

static int open_store(struct daemon *d, char *why, size_t cap)
{
    uint64_t until = now_ms() + STORE_WAIT_MS;
    int rc;

    while ((rc = store_open(&d->store, d->hyp)) == -EAGAIN && now_ms() < until) {
        store_process_look(d);
        usleep(STORE_RETRY_US);
    }
    if (!rc) {
        store_on_loss(d->store, store_process_look, d);
        rc = store_printf(d->store, STORE_NO_TXN, "/local/domain/0", "name", "bulkheadd");
    }
    if (rc) {
        log_pump(&d->core_log, LOG_FILE_MAX);
        log_pump(&d->store_process.log, LOG_FILE_MAX);
        snprintf(why, cap, "the store does not answer: %s; see %s/logs/@store.log%s", strerror(-rc),
                 d->run_dir,
                 d->adopted ? "; what runs goes on; to end it all, kill the process bulkhead-core" : "");
    }
    return rc;
}

int setup_connect(struct daemon *d, char *why, size_t cap)
{
    int rc;

    rundir_each_domain(load_one, d);
    rc = d->adopted ? adopt_prepare(d, why, cap) : store_process_first(d, why, cap);
    if (!rc)
        rc = open_store(d, why, cap);
    if (!rc && d->adopted)
        adopt_all(d);
    return rc;
}
