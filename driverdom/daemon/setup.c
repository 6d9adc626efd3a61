/* SPDX-License-Identifier: MIT */
/* setup.c - from descriptors to a daemon that can serve. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "setup.h"

/* Definitions that an earlier daemon kept. */
static void load_one(void *data, const char *name, const char *xml, size_t len)
{
    static struct domain_spec spec; /* large; one thread */
    struct daemon *d = data;
    char file[POLICY_NAME_MAX + 32], err[POLICY_ERR_MAX] = "it cannot be read";

    snprintf(file, sizeof(file), "domains/%s.xml", name);
    if (!xml || policy_parse(xml, len, file, &spec, err, NULL))
        log_say(&d->own_log, "%s is left out: %s", file, err);
    else if (strcmp(spec.name, name) != 0)
        log_say(&d->own_log, "%s is left out: it describes %s", file, spec.name);
    else if (!dom_new(d, &spec))
        log_say(&d->own_log, "%s is left out: there are too many", file);
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

void setup_logs(struct daemon *d, bool foreground)
{
    d->foreground = foreground;
    for (int i = 0; i < DAEMON_SESSIONS_MAX; i++)
        d->sessions[i].fd = -1;
    log_init(&d->core_log, "@core");
    log_init(&d->own_log, "@bulkheadd");
    keeper_init(d);
    d->core_log.echo = d->own_log.echo = d->keeper.log.echo = foreground;
}

int setup_connect(struct daemon *d, const struct launch *launch, char *why, size_t cap)
{
    int rc;

    d->core = launch->core;
    rc = hyp_local_open(&d->hyp, launch->core_fd, launch->store_fd);
    if (rc) {
        last_words_of_core(d, why, cap);
        return rc;
    }
    rc = store_open(&d->store, d->hyp);
    if (!rc)
        rc = store_printf(d->store, STORE_NO_TXN, "/local/domain/0", "name", "bulkheadd");
    if (rc) {
        snprintf(why, cap, "the store does not answer: %s; see %s/logs/@core.log", strerror(-rc), d->run_dir);
        log_pump(&d->core_log, LOG_FILE_MAX);
        return rc;
    }
    rundir_each_domain(load_one, d);
    return 0;
}
