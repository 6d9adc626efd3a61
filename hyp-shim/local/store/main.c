/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "../jail.h"
#include "../proto.h"
#include "journal.h"
#include "server.h"

static int failed(const char *what, const char *step, int err)
{
    fprintf(stderr, "bulkhead-store: %s: %s: %s; the store does not start\n", what, step, strerror(-err));
    return 1;
}

int main(void)
{
    const char *step = "";
    int err = jail_confine(&step);

    if (err)
        return failed("cannot confine itself", step, err);
    err = store_server_init(STORE_CONTROL_FD, STORE_LISTEN_FD);
    if (err)
        return failed("cannot use the descriptors 3 and 4 that the core passes", "start", err);
    err = xsd_journal_open(STORE_JOURNAL_FD, &step);
    if (err) {
        fprintf(stderr, "bulkhead-store: %s (%s); the store does not start\n", step, strerror(-err));
        return 1;
    }
    err = jail_seal(HYP_CLASS_STORE, &step);
    if (err)
        return failed("cannot give up system calls", step, err);
    while (!store_server_turn(-1))
        ;
    return 0; /* the core is gone, and with it everyone who could ask */
}
