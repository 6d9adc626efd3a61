/* SPDX-License-Identifier: MIT */
/*
 * hook.c - what libvirt's QEMU driver calls while it starts and ends a guest
 * (https://libvirt.org/hooks.html).  It waits for us and holds the guest's
 * lock, so nothing here may ask libvirt anything.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../hyp-shim/clock.h"
#include "bridge.h"

struct operation {
    const char *name, *sub;
    bool opens;
    bool vetoes; /* a failure keeps the guest from starting */
};

/* Everything else that libvirt tells is nothing to us.  What is plugged in while a guest
 * runs comes another way: attach, or METADATA_CHANGE in follow.c. */
static const struct operation operations[] = {
    {"prepare", "begin", true, true},
    {"reconnect", "begin", true, false},
    {"release", "end", false, false},
};

/*
 * All of stdin into buf, which holds BRIDGE_XML_MAX + 1 bytes.  How many; one more
 * than BRIDGE_XML_MAX: the document is too long and was cut.  Or -ETIMEDOUT,
 * another negative errno.
 */
static ssize_t read_stdin(char *buf, unsigned timeout_s)
{
    long long end = (long long)monotonic_ms() + timeout_s * 1000LL;
    size_t bytes = 0;

    while (bytes <= BRIDGE_XML_MAX) {
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
        long long left = end - (long long)monotonic_ms();
        int ready = poll(&p, 1, left > 0 ? (int)left : 0);
        ssize_t n;

        if (ready == 0)
            return -ETIMEDOUT;
        if (ready < 0 && errno != EINTR)
            return -errno;
        if (ready < 0)
            continue;
        n = read(STDIN_FILENO, buf + bytes, BRIDGE_XML_MAX + 1 - bytes);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        bytes += n > 0 ? (size_t)n : 0;
    }
    return (ssize_t)bytes;
}

/* The whole sentence is virsh's to show: what did not happen comes first. */
static int refuse(const struct operation *op, const char *guest, const char *why)
{
    bridge_say("%s: %s", guest, why);
    return op->vetoes ? BRIDGE_FAILURE : 0;
}

static int act(const struct bridge_options *opt, const struct operation *op, const char *guest, char *xml,
               size_t bytes)
{
    char why[BRIDGE_WHY_MAX];
    bool cut = bytes > BRIDGE_XML_MAX;

    if (!guestxml_is_ours(xml, cut ? BRIDGE_XML_MAX : bytes))
        return 0;
    if (op->opens && cut) {
        snprintf(why, sizeof(why),
                 "its XML is longer than the %u bytes that bulkheadd reads: shorten its metadata",
                 BRIDGE_XML_MAX);
        return refuse(op, guest, why);
    }
    xml[bytes] = '\0';
    if (op->opens ? ask_open(opt, guest, xml, why) : ask_close(opt, guest, why))
        return refuse(op, guest, why);
    return 0;
}

int hook_run(const struct bridge_options *opt, char **args)
{
    const struct operation *op = NULL;
    char *xml;
    ssize_t n;
    int status;

    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
        if (!strcmp(args[1], operations[i].name) && !strcmp(args[2], operations[i].sub))
            op = &operations[i];
    if (!op)
        return 0;
    xml = malloc(BRIDGE_XML_MAX + 2);
    n = xml ? read_stdin(xml, opt->timeout_s) : -ENOMEM;
    if (n < 0) {
        /* Whose guest this is was not said: it is not held up. */
        bridge_say("%s: its XML did not come from libvirt: %s", args[0], strerror((int)-n));
        status = 0;
    } else {
        status = act(opt, op, args[0], xml, (size_t)n);
    }
    free(xml);
    return status;
}
