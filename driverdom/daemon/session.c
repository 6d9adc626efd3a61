/* SPDX-License-Identifier: MIT */
/*
 * session.c - one client of bulkheadd.sock: lines of JSON in, lines of JSON
 * out.  A session that waits for a domain reads no further request.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon.h"

void session_accept(struct daemon *d)
{
    int fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    for (int i = 0; i < DAEMON_SESSIONS_MAX; i++) {
        if (d->sessions[i].fd >= 0)
            continue;
        d->sessions[i] = (struct session){.fd = fd};
        return;
    }
    static const char full[] =
        "{\"ok\":false,\"exit\":1,\"error\":\"bulkheadd has too many clients: try again\"}\n";
    if (send(fd, full, sizeof(full) - 1, MSG_NOSIGNAL) < 0)
        log_say(&d->own_log, "a client could not be told that there are too many");
    close(fd);
}

void session_close(struct session *s)
{
    if (s->fd < 0)
        return;
    close(s->fd);
    free(s->in);
    free(s->out);
    json_decref(s->later);
    *s = (struct session){.fd = -1};
}

static void flush(struct session *s)
{
    size_t done = 0;

    while (done < s->out_bytes) {
        ssize_t n = send(s->fd, s->out + done, s->out_bytes - done, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            s->ending = true;
            done = s->out_bytes;
        }
        if (n < 0)
            break;
        done += (size_t)n;
    }
    if (done)
        memmove(s->out, s->out + done, s->out_bytes - done);
    s->out_bytes -= done;
}

static bool make_room(char **buf, size_t *room, size_t want, size_t most)
{
    size_t bigger = *room ? *room : 4096;
    char *p;

    if (want > most)
        return false;
    if (want <= *room)
        return true;
    while (bigger < want)
        bigger *= 2;
    p = realloc(*buf, bigger);
    if (!p)
        return false;
    *buf = p;
    *room = bigger;
    return true;
}

void session_send(struct session *s, json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(13));
    size_t n = text ? strlen(text) : 0;

    json_decref(object);
    /* A client that does not read loses its session, not the daemon its memory. */
    if (!text || s->ending || !make_room(&s->out, &s->out_room, s->out_bytes + n + 1, DAEMON_BACKLOG_MAX)) {
        s->ending = true;
        s->out_bytes = 0;
    } else {
        memcpy(s->out + s->out_bytes, text, n);
        s->out[s->out_bytes + n] = '\n';
        s->out_bytes += n + 1;
        flush(s);
    }
    free(text);
}

void session_ok(struct session *s, json_t *more)
{
    json_t *reply = json_pack("{s:b}", "ok", 1);

    if (more)
        json_object_update(reply, more);
    json_decref(more);
    session_send(s, reply);
}

void session_fail(struct session *s, int exit_status, const char *fmt, ...)
{
    char text[DAEMON_SENTENCE_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    policy_clean_text(text);
    session_send(s, json_pack("{s:b,s:i,s:s}", "ok", 0, "exit", exit_status, "error", text));
}

/* Whole lines that came; stops at a request that waits. */
static void take_lines(struct daemon *d, struct session *s)
{
    char *end;

    while (!s->wait && !s->later && !s->ending && s->in_bytes && (end = memchr(s->in, '\n', s->in_bytes))) {
        size_t line = (size_t)(end - s->in);

        *end = '\0';
        request_handle(d, s, s->in, line);
        s->in_bytes -= line + 1;
        memmove(s->in, end + 1, s->in_bytes);
    }
}

void session_serve(struct daemon *d, struct session *s, short revents)
{
    ssize_t n;

    if (revents & POLLOUT)
        flush(s);
    if (revents & (POLLIN | POLLHUP | POLLERR)) {
        if (!make_room(&s->in, &s->in_room, s->in_bytes + 4096, DAEMON_REQUEST_MAX)) {
            session_fail(s, 2, "the request is longer than %u bytes", DAEMON_REQUEST_MAX);
            s->ending = true;
        } else {
            n = recv(s->fd, s->in + s->in_bytes, s->in_room - s->in_bytes, MSG_DONTWAIT);
            if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
                session_close(s);
                return;
            }
            s->in_bytes += n > 0 ? (size_t)n : 0;
        }
    }
    take_lines(d, s);
    if (s->ending && !s->out_bytes)
        session_close(s);
}

static json_t *describe(const struct domain *dom, bool open)
{
    json_t *out = json_pack("{s:s,s:s,s:i}", "name", dom->spec.name, "state", dom_state_name(dom),
                            "incarnation", (int)dom->incarnation);

    if (open)
        json_object_set_new(out, "mine", json_true());
    return out;
}

void session_answer(struct daemon *d, struct domain *dom, unsigned kinds, const char *sentence)
{
    for (int i = 0; i < DAEMON_SESSIONS_MAX; i++) {
        struct session *s = &d->sessions[i];

        if (s->fd < 0 || s->wait != dom || !(s->wait_for & kinds))
            continue;
        if (sentence)
            session_fail(s, 1, "%s", sentence);
        else
            session_ok(s, describe(dom, s->wait_for & WAIT_OPEN));
        s->wait = NULL;
        s->wait_for = WAIT_NOTHING;
    }
}

bool session_ask(struct daemon *d, struct session *s, struct domain *dom, unsigned what,
                 int (*act)(struct daemon *, struct domain *, char *))
{
    char why[DAEMON_SENTENCE_MAX];

    /* Waits first: what happens within the call already answers. */
    s->wait = dom;
    s->wait_for = what;
    if (!act(d, dom, why))
        return true;
    s->wait = NULL;
    s->wait_for = WAIT_NOTHING;
    session_fail(s, 1, "%s", why);
    return false;
}

void session_defer(struct session *s, json_t *request, const char *name)
{
    s->later = json_incref(request);
    snprintf(s->later_for, sizeof(s->later_for), "%s", name);
}

bool session_turns(struct daemon *d)
{
    bool any = false;

    for (int i = 0; i < DAEMON_SESSIONS_MAX; i++) {
        struct session *s = &d->sessions[i];
        const struct domain *dom = s->later ? dom_find(d, s->later_for) : NULL;
        json_t *request = s->later;

        if (!request || (dom && !definition_is_settled(dom)))
            continue;
        s->later = NULL;
        request_run(d, s, request);
        json_decref(request);
        take_lines(d, s);
        any = true;
    }
    return any;
}

void session_progress(struct daemon *d, struct domain *dom, const char *fmt, ...)
{
    char text[DAEMON_SENTENCE_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (int i = 0; i < DAEMON_SESSIONS_MAX; i++)
        if (d->sessions[i].fd >= 0 && d->sessions[i].wait == dom)
            session_send(&d->sessions[i], json_pack("{s:s}", "progress", text));
}
