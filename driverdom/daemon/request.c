/* SPDX-License-Identifier: MIT */
/* request.c - what a client may ask: a const table of commands. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"
#include "rundir.h"

typedef void (*handler)(struct daemon *d, struct session *s, json_t *request, struct domain *dom);

static void do_define(struct daemon *d, struct session *s, json_t *request, struct domain *dom)
{
    (void)dom;
    definition_define(d, s, request);
}

static void do_undefine(struct daemon *d, struct session *s, json_t *request, struct domain *dom)
{
    (void)request;
    definition_undefine(d, s, dom);
}

static void do_open(struct daemon *d, struct session *s, json_t *request, struct domain *dom)
{
    (void)dom;
    definition_open(d, s, request);
}

static void do_close(struct daemon *d, struct session *s, json_t *request, struct domain *dom)
{
    (void)dom;
    definition_close(d, s, request);
}

static void do_start(struct daemon *d, struct session *s, json_t *request, struct domain *dom)
{
    (void)request;
    session_ask(d, s, dom, WAIT_START, dom_start);
}

static void do_stop(struct daemon *d, struct session *s, json_t *request, struct domain *dom)
{
    (void)request;
    session_ask(d, s, dom, WAIT_STOP, dom_stop);
}

static void do_restart(struct daemon *d, struct session *s, json_t *request, struct domain *dom)
{
    (void)request;
    session_ask(d, s, dom, WAIT_START, dom_restart);
}

#ifdef BULKHEAD_CRASH_POINTS
/* A word, or a word and a count: "blk-after-submit:3". */
static bool is_crash_point(const char *text)
{
    size_t word = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");
    const char *count = text + word + (text[word] == ':');

    if (!word || strlen(text) >= 64)
        return false;
    return !text[word] || (text[word] == ':' && *count && strspn(count, "0123456789") == strlen(count));
}
#endif

/* kill with "at": the domain is to end itself there.  Answered at once; it dies when it comes by. */
static void arm(struct daemon *d, struct session *s, struct domain *dom, const json_t *at)
{
#ifdef BULKHEAD_CRASH_POINTS
    const char *point = json_string_value(at);
    char home[STORE_PATH_MAX];
    int rc;

    if (!point || !is_crash_point(point)) {
        session_fail(s, 2, "a crash point is a name, or NAME:N");
        return;
    }
    if (!dom->domid) {
        session_fail(s, 1, "%s is not running: there is nothing to kill", dom->spec.name);
        return;
    }
    snprintf(home, sizeof(home), "/local/domain/%u", dom->domid);
    rc = store_printf(d->store, STORE_NO_TXN, home, "crash-point", "%s", point);
    if (rc)
        session_fail(s, 1, "the store would not take the crash point of %s: %s", dom->spec.name,
                     strerror(-rc));
    else
        session_ok(s, json_pack("{s:s,s:s}", "name", dom->spec.name, "armed", point));
#else
    (void)d, (void)at;
    session_fail(s, 1, "%s has no crash points: they are in test builds only (make CRASH=1)",
                 dom->spec.name);
#endif
}

static void do_kill(struct daemon *d, struct session *s, json_t *request, struct domain *dom)
{
    const json_t *at = json_object_get(request, "at");

    if (at)
        arm(d, s, dom, at);
    else
        session_ask(d, s, dom, WAIT_KILL, dom_kill);
}

static void do_list(struct daemon *d, struct session *s, json_t *request, struct domain *dom)
{
    (void)request, (void)dom;
    session_ok(s, json_pack("{s:o}", "domains", report_list(d)));
}

static void do_info(struct daemon *d, struct session *s, json_t *request, struct domain *dom)
{
    (void)request;
    session_ok(s, json_pack("{s:o}", "info", report_info(d, dom)));
}

static void send_log(struct session *s, const struct log *log)
{
    size_t bytes;
    char *text = log_text(log, &bytes);

    if (!text)
        session_fail(s, 1, "out of memory while reading the log");
    else
        session_ok(s, json_pack("{s:s,s:s%}", "name", log->name, "text", text, bytes));
    free(text);
}

/* Besides domains: @core, @store, @netdev and @bulkheadd. */
static void do_log(struct daemon *d, struct session *s, json_t *request, struct domain *unused)
{
    const struct log *own[] = {&d->core_log, &d->store_process.log, &d->keeper.log, &d->own_log};
    const char *name = json_string_value(json_object_get(request, "name"));
    struct domain *dom = name ? dom_find(d, name) : NULL;
    const struct log *log = dom ? &dom->log : NULL;

    (void)unused;
    for (int i = 0; name && !log && i < DAEMON_DOMAINS_MAX; i++)
        if (d->domains[i].used && !strcmp(d->domains[i].spare.log.name, name))
            log = &d->domains[i].spare.log;
    for (size_t i = 0; name && !log && i < sizeof(own) / sizeof(own[0]); i++)
        if (!strcmp(own[i]->name, name))
            log = own[i];
    if (log)
        send_log(s, log);
    else
        session_fail(s, name ? 1 : 2, "there is no domain named %.100s", name ? name : "\"\"");
}

static void do_events(struct daemon *d, struct session *s, json_t *request, struct domain *dom)
{
    (void)d, (void)request, (void)dom;
    session_ok(s, NULL);
    s->events = true;
}

static void do_metrics(struct daemon *d, struct session *s, json_t *request, struct domain *dom)
{
    (void)request, (void)dom;
    session_ok(s, json_pack("{s:o}", "text", report_metrics(d)));
}

static void do_version(struct daemon *d, struct session *s, json_t *request, struct domain *dom)
{
    (void)d, (void)request, (void)dom;
    session_ok(s, json_pack("{s:s}", "version", BULKHEAD_VERSION));
}

static const struct command {
    const char *name;
    handler run;
    bool needs_domain;
} commands[] = {
    {"define", do_define, false}, {"undefine", do_undefine, true}, {"start", do_start, true},
    {"stop", do_stop, true},      {"restart", do_restart, true},   {"kill", do_kill, true},
    {"open", do_open, false},     {"close", do_close, false},
    {"list", do_list, false},     {"info", do_info, true},         {"log", do_log, false},
    {"events", do_events, false}, {"metrics", do_metrics, false},  {"version", do_version, false},
};

static const struct command *find_command(json_t *request)
{
    const char *cmd = json_string_value(json_object_get(request, "cmd"));

    for (size_t i = 0; cmd && i < sizeof(commands) / sizeof(commands[0]); i++)
        if (!strcmp(commands[i].name, cmd))
            return &commands[i];
    return NULL;
}

void request_run(struct daemon *d, struct session *s, json_t *request)
{
    const struct command *cmd = find_command(request);
    const char *name = json_string_value(json_object_get(request, "name"));
    struct domain *dom = name ? dom_find(d, name) : NULL;

    if (!json_is_object(request))
        session_fail(s, 2, "a request is one JSON object on one line");
    else if (!cmd)
        session_fail(s, 2,
                     "unknown command: update the bulkhead command or bulkheadd, they are of different "
                     "versions");
    else if (cmd->needs_domain && !dom)
        session_fail(s, 1, "there is no domain named %.100s", name ? name : "\"\"");
    else
        cmd->run(d, s, request, dom);
}

void request_handle(struct daemon *d, struct session *s, const char *line, size_t bytes)
{
    json_t *request = json_loadb(line, bytes, JSON_REJECT_DUPLICATES, NULL);

    request_run(d, s, request);
    json_decref(request);
}
