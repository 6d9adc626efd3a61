/* SPDX-License-Identifier: MIT */
#include "crash.h"

#ifdef BULKHEAD_CRASH_POINTS

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

/* Of the section, by the linker. Weak: a program may have no point at all. */
extern const struct crash_point __start_crash_points[] __attribute__((weak, visibility("hidden")));
extern const struct crash_point __stop_crash_points[] __attribute__((weak, visibility("hidden")));

static const struct crash_point *armed; /* atomic */
static uint32_t left;                   /* atomic */

void crash_pass(const struct crash_point *here)
{
    if (__atomic_load_n(&armed, __ATOMIC_ACQUIRE) != here)
        return;
    if (__atomic_sub_fetch(&left, 1, __ATOMIC_RELAXED) != 0)
        return;
    kill(getpid(), SIGKILL); /* a sealed jail kills for the call itself: as good */
    for (;;)
        __builtin_trap();
}

int crash_arm(const char *what)
{
    size_t length = strcspn(what, ":");
    unsigned long n = what[length] ? strtoul(what + length + 1, NULL, 10) : 1;

    __atomic_store_n(&armed, NULL, __ATOMIC_RELEASE);
    for (unsigned i = 0; length > 0 && &__start_crash_points[i] < __stop_crash_points; i++) {
        const struct crash_point *p = &__start_crash_points[i];
        if (strlen(p->name) != length || strncmp(p->name, what, length) != 0)
            continue;
        __atomic_store_n(&left, n ? (uint32_t)n : 1, __ATOMIC_RELAXED);
        __atomic_store_n(&armed, p, __ATOMIC_RELEASE);
        return 0;
    }
    return length > 0 ? -ENOENT : 0;
}

static void node_of(domid_t self, char path[STORE_PATH_MAX])
{
    snprintf(path, STORE_PATH_MAX, "/local/domain/%u/crash-point", self);
}

int crash_watch(struct store *st, domid_t self)
{
    char path[STORE_PATH_MAX];

    node_of(self, path);
    return store_watch(st, path, CRASH_WATCH);
}

void crash_look(struct store *st, domid_t self)
{
    static char seen[64];
    char path[STORE_PATH_MAX], what[sizeof(seen)] = "";

    node_of(self, path);
    if (store_read(st, STORE_NO_TXN, path, what, sizeof(what)) < 0 || strcmp(what, seen) == 0)
        return;
    memcpy(seen, what, sizeof(seen));
    if (crash_arm(what) < 0)
        log_line("there is no crash point %s here", what);
}

const char *crash_name(unsigned i)
{
    return &__start_crash_points[i] < __stop_crash_points ? __start_crash_points[i].name : NULL;
}

bool crash_listed(int argc, char **argv)
{
    const char *name;

    if (argc != 2 || strcmp(argv[1], "--crash-points") != 0)
        return false;
    for (unsigned i = 0; (name = crash_name(i)); i++)
        puts(name);
    return true;
}

#else
typedef int crash_is_empty_here;
#endif
