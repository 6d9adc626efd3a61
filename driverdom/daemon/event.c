/* SPDX-License-Identifier: MIT */
/* event.c - the stream that `bulkhead events` shows. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon.h"

static void put_time(json_t *line)
{
    struct timespec ts;
    struct tm tm;
    char text[40];
    size_t n;

    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof(text) - n, ".%03ldZ", ts.tv_nsec / 1000000);
    json_object_set_new(line, "time", json_string(text));
}

void event_tell(struct daemon *d, const char *event, const struct domain *dom, json_t *detail)
{
    json_t *line = json_object();

    put_time(line);
    json_object_set_new(line, "event", json_string(event));
    if (dom) {
        json_object_set_new(line, "name", json_string(dom->spec.name));
        json_object_set_new(line, "domid", json_integer(dom->domid));
        json_object_set_new(line, "incarnation", json_integer(dom->incarnation));
    }
    if (detail)
        json_object_update(line, detail);
    json_decref(detail);
    for (int i = 0; i < DAEMON_SESSIONS_MAX; i++)
        if (d->sessions[i].fd >= 0 && d->sessions[i].events)
            session_send(&d->sessions[i], json_incref(line));
    json_decref(line);
}

void event_error(struct daemon *d, const struct domain *dom, const char *fmt, ...)
{
    char text[DAEMON_SENTENCE_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    policy_clean_text(text);
    log_say(&d->own_log, "%s%s%s", dom ? dom->spec.name : "", dom ? ": " : "", text);
    event_tell(d, "error", dom, json_pack("{s:s}", "error", text));
}
