/* SPDX-License-Identifier: MIT */
/* ask.c - what is wanted of bulkheadd. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../../hyp-shim/clock.h"
#include "../cli/cli.h"
#include "bridge.h"

/* The last line of the answer; NULL: none, and *rc and why say what happened. */
static json_t *await(const struct bridge_options *opt, struct connection *c, int *rc,
                     char why[BRIDGE_WHY_MAX])
{
    uint64_t end = monotonic_ms() / 1000 + opt->timeout_s;

    while (monotonic_ms() / 1000 <= end) {
        json_t *line;

        errno = 0;
        line = connection_next(c);
        if (!line && errno != EAGAIN) {
            snprintf(why, BRIDGE_WHY_MAX,
                     "bulkheadd ended before it answered: see what it wrote last, and try again");
            *rc = -ENOTCONN;
            return NULL;
        }
        if (line && !json_object_get(line, "progress"))
            return line;
        json_decref(line);
    }
    snprintf(why, BRIDGE_WHY_MAX,
             "bulkheadd did not answer within %u s: see what it says: bulkhead log @bulkheadd",
             opt->timeout_s);
    *rc = -ETIMEDOUT;
    return NULL;
}

int ask(const struct bridge_options *opt, json_t *request, json_t **reply, char why[BRIDGE_WHY_MAX])
{
    struct connection c;
    json_t *line = NULL;
    const char *text;
    int rc = request ? connection_try(&c, opt->run_dir, opt->timeout_s) : -ENOMEM;

    if (rc) {
        json_decref(request);
        connection_why(opt->run_dir, -rc, why, BRIDGE_WHY_MAX);
        return rc == -ENOMEM ? rc : -ENOTCONN;
    }
    errno = 0;
    if (connection_send(&c, request)) {
        rc = errno == EAGAIN ? -ETIMEDOUT : -ENOTCONN;
        snprintf(why, BRIDGE_WHY_MAX,
                 "bulkheadd did not take the request: see what it says: bulkhead log @bulkheadd");
    } else {
        line = await(opt, &c, &rc, why);
    }
    connection_close(&c);
    if (line && !json_is_true(json_object_get(line, "ok"))) {
        text = json_string_value(json_object_get(line, "error"));
        snprintf(why, BRIDGE_WHY_MAX, "%.1000s", text ? text : "bulkheadd refused and gave no reason");
        rc = -EPERM;
    }
    if (!rc && reply)
        *reply = json_incref(line);
    json_decref(line);
    return rc;
}

int ask_open(const struct bridge_options *opt, const char *name, const char *xml, char why[BRIDGE_WHY_MAX])
{
    json_t *request =
        json_pack("{s:s,s:o,s:s}", "cmd", "open", "file", json_sprintf("virsh dumpxml %s", name), "xml", xml);

    if (!request) {
        snprintf(why, BRIDGE_WHY_MAX, "the XML of %s or its name is not UTF-8 text", name);
        return -EPERM;
    }
    return ask(opt, request, NULL, why);
}

int ask_close(const struct bridge_options *opt, const char *name, char why[BRIDGE_WHY_MAX])
{
    json_t *request = json_pack("{s:s,s:s}", "cmd", "close", "name", name);

    if (!request) {
        snprintf(why, BRIDGE_WHY_MAX, "the guest's name is not UTF-8 text");
        return -EPERM;
    }
    return ask(opt, request, NULL, why);
}
