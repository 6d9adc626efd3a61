/* SPDX-License-Identifier: MIT */
/* heartbeat.c - a ping goes round by every worker. */
#include <stdio.h>

#include "backend.h"

static struct {
    char home[STORE_PATH_MAX];
    uint64_t number;  /* of the ping under way                  */
    unsigned awaited; /* workers that have not answered it; 0: none is under way */
    bool again;       /* ping changed meanwhile                 */
} heartbeat;

int heartbeat_init(void)
{
    char path[STORE_PATH_MAX + 8];

    heartbeat.awaited = 0;
    heartbeat.again = false;
    snprintf(heartbeat.home, sizeof(heartbeat.home), "/local/domain/%u", hyp_domid(backend_hyp()));
    snprintf(path, sizeof(path), "%s/ping", heartbeat.home);
    return store_watch(backend_store(), path, BACKEND_WATCH_PING);
}

static void begin(void)
{
    heartbeat.again = false;
    if (store_read_number(backend_store(), STORE_NO_TXN, heartbeat.home, "ping", UINT64_MAX,
                          &heartbeat.number) == 0)
        heartbeat.awaited = backend_ping_workers();
}

void heartbeat_asked(void)
{
    if (heartbeat.awaited > 0)
        heartbeat.again = true;
    else
        begin();
}

void heartbeat_answered(void)
{
    if (heartbeat.awaited == 0 || --heartbeat.awaited > 0)
        return;
    /* Lost with the store it will be asked for again. */
    store_printf(backend_store(), STORE_NO_TXN, heartbeat.home, "pong", "%llu",
                 (unsigned long long)heartbeat.number);
    if (heartbeat.again)
        begin();
}
