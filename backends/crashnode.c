/* SPDX-License-Identifier: MIT */
/* crashnode.c - /local/domain/OWN/crash-point arms a crash point; in builds for tests only. */
#include "../hyp-shim/crash.h"

#ifdef BULKHEAD_CRASH_POINTS

#include <stdio.h>

#include "../hyp-shim/log.h"
#include "backend.h"

static void crash_path(char path[STORE_PATH_MAX])
{
    snprintf(path, STORE_PATH_MAX, "/local/domain/%u/crash-point", hyp_domid(backend_hyp()));
}

int crash_node_watch(void)
{
    char path[STORE_PATH_MAX];
    crash_path(path);
    return store_watch(backend_store(), path, BACKEND_WATCH_CRASH);
}

void crash_node_changed(void)
{
    char path[STORE_PATH_MAX], what[STORE_VALUE_MAX];
    crash_path(path);
    if (store_read(backend_store(), STORE_NO_TXN, path, what, sizeof(what)) >= 0 && crash_arm(what) < 0)
        log_line("there is no crash point %s here", what);
}

#else
typedef int crashnode_is_empty_here;
#endif
