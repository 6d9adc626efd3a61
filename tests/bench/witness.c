/* SPDX-License-Identifier: MIT */
#include "witness.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES 16384u

const char *const witness_phase[WITNESS_PHASES] = {"detect", "fence", "handover", "reconnect", "first"};

int witness_start(struct witness *w, int fd)
{
    *w = (struct witness){.fd = fd, .times = calloc(WITNESS_PHASES, sizeof(*w->times))};
    return w->times ? 0 : -ENOMEM;
}

void witness_end(struct witness *w)
{
    if (w->times && w->fd >= 0)
        close(w->fd);
    free(w->line);
    free(w->times);
    *w = (struct witness){.fd = -1};
}

static const char *text_of(const json_t *event, const char *key)
{
    const char *text = json_string_value(json_object_get(event, key));
    return text ? text : "";
}

static void count_cause(struct witness *w, const char *text)
{
    unsigned i = 0;
    while (i < w->ncauses && strcmp(w->cause[i].text, text) != 0)
        i++;
    if (i == WITNESS_CAUSES)
        return;
    if (i == w->ncauses)
        snprintf(w->cause[w->ncauses++].text, sizeof(w->cause[i].text), "%s", text);
    w->cause[i].n++;
}

static void take_death(struct witness *w, const json_t *event)
{
    json_t *spare = json_object_get(event, "spare_domid");
    json_t *domid = spare ? spare : json_object_get(event, "domid");
    const char *cause = text_of(event, "cause");
    char signal[32];
    w->dead[w->deaths++ % WITNESS_DEATHS] = (unsigned)json_integer_value(domid);
    if (*cause == '\0') {
        int number = (int)json_integer_value(json_object_get(event, "signal"));
        snprintf(signal, sizeof(signal), "signal %d", number);
        cause = signal;
    }
    count_cause(w, cause);
}

static void take_recovery(struct witness *w, const json_t *event)
{
    json_t *phases = json_object_get(event, "phases_us");
    w->recovered++;
    for (unsigned i = 0; i < WITNESS_PHASES; i++) {
        json_t *us = json_object_get(phases, witness_phase[i]);
        if (json_is_number(us) && w->times[i].n < WITNESS_TIMES)
            w->times[i].us[w->times[i].n++] = json_number_value(us);
    }
}

void witness_take(struct witness *w, const json_t *event)
{
    const char *kind = text_of(event, "event");
    if (strcmp(kind, "died") == 0 || strcmp(kind, "spare_died") == 0)
        take_death(w, event);
    else if (strcmp(kind, "recovered") == 0)
        take_recovery(w, event);
    else if (strcmp(kind, "error") == 0)
        snprintf(w->last_error, sizeof(w->last_error), "%s", text_of(event, "error"));
}

static void take_lines(struct witness *w)
{
    char *at = w->line, *end = w->line + w->bytes, *newline;
    while ((newline = memchr(at, '\n', (size_t)(end - at)))) {
        json_t *event = json_loadb(at, (size_t)(newline - at), 0, NULL);
        if (event)
            witness_take(w, event);
        json_decref(event);
        at = newline + 1;
    }
    w->bytes = (size_t)(end - at);
    memmove(w->line, at, w->bytes);
}

static int make_room(struct witness *w)
{
    if (w->room - w->bytes >= READ_BYTES)
        return 0;
    char *line = realloc(w->line, w->room + READ_BYTES);
    if (!line)
        return -ENOMEM;
    w->line = line;
    w->room += READ_BYTES;
    return 0;
}

int witness_listen(struct witness *w, int timeout_ms)
{
    struct pollfd p = {.fd = w->fd, .events = POLLIN};
    int error = 0;
    while (!error && poll(&p, 1, timeout_ms) > 0) {
        error = make_room(w);
        ssize_t n = error ? 0 : recv(w->fd, w->line + w->bytes, READ_BYTES, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return error ? error : -EPIPE;
        w->bytes += n > 0 ? (size_t)n : 0;
        take_lines(w);
        timeout_ms = 0;
    }
    return error;
}

bool witness_died(const struct witness *w, unsigned domid)
{
    unsigned n = w->deaths < WITNESS_DEATHS ? w->deaths : WITNESS_DEATHS;
    for (unsigned i = 0; i < n; i++)
        if (w->dead[i] == domid)
            return true;
    return false;
}
