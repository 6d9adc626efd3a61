/* SPDX-License-Identifier: MIT */
/*
 * bulkhead-nbd - a guest whose door is NBD: becomes nbdkit with our plugin.
 *
 * The core starts this program as the guest's process, in its namespaces, with a
 * root directory that holds the host's programs and libraries read-only, its own
 * uid and no capability.  It puts the listening socket where nbdkit looks for it
 * (systemd's socket activation) and confines the time in which nbdkit is loaded:
 * Landlock lets it read and execute programs and libraries, and nothing else.
 * No seccomp filter yet: exec and dlopen need calls that the door never needs
 * again, and a filter that allowed them could not be made tighter for them alone.
 * The plugin enters the door's allow-list, and a Landlock without any path, as
 * soon as the disks are connected and before it serves anyone (nbd_plugin.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../hyp-shim/local/proto.h"

#define PLUGIN      "nbdkit-bulkhead-plugin.so"
#define ENV_LIBEXEC "BULKHEAD_LIBEXEC"
#define LISTEN_FROM (DOMAIN_FIRST_FD + 1) /* made by the toolstack        */
#define LISTEN_TO   3                     /* where socket activation looks */
#define CORE_TO     10
#define STORE_TO    11

static _Noreturn void stop(const char *step, int err)
{
    fprintf(stderr, "bulkhead-nbd: %s: %s\n", step, strerror(err));
    exit(1);
}

static _Noreturn void usage(int status)
{
    fprintf(status ? stderr : stdout,
            "bulkhead-nbd " BULKHEAD_VERSION ": the NBD door of a Bulkhead guest.\n"
            "bulkheadd starts it; there is nothing to run by hand.  To serve the disks of a\n"
            "guest with a native door from an nbdkit of your own:\n"
            "  nbdkit " PLUGIN " attach=RUN/guests/NAME/attach.sock [device=vda]\n");
    exit(status);
}

/* 3, 4 and 6 become 10, 11 and 3; 5, which is stderr too, is closed. */
static void place_descriptors(void)
{
    if (dup2(DOMAIN_CORE_FD, CORE_TO) < 0 || dup2(DOMAIN_STORE_FD, STORE_TO) < 0
        || dup2(LISTEN_FROM, LISTEN_TO) < 0)
        stop("put descriptors in place", errno);
    close(DOMAIN_STORE_FD);
    close(DOMAIN_FIRST_FD);
    close(LISTEN_FROM);
}

static void place_environment(void)
{
    char text[32];
    snprintf(text, sizeof(text), "%d,%d", CORE_TO, STORE_TO);
    int err = setenv(HYP_ENV_FDS, text, 1);
    snprintf(text, sizeof(text), "%d", (int)getpid());
    err |= setenv("LISTEN_PID", text, 1) | setenv("LISTEN_FDS", "1", 1);
    /* Without a limit malloc counts CPUs when it wants one more arena: openat(), which kills. */
    err |= setenv("MALLOC_ARENA_MAX", "4", 1);
    if (err)
        stop("set its environment", ENOMEM);
}

/* The rights of Landlock's first versions; a kernel with a later one knows them. */
#define READ_AND_RUN (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ALL_OF_ABI_1 ((1ull << 13) - 1)

static void allow_beneath(int rules, const char *path, uint64_t access)
{
    int dir = open(path, O_PATH | O_CLOEXEC);
    if (dir < 0 && errno == ENOENT)
        return;
    struct landlock_path_beneath_attr beneath = { .allowed_access = access, .parent_fd = dir };
    if (dir < 0 || syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0))
        stop(path, errno);
    close(dir);
}

/* Only programs and libraries, where the kernel has Landlock; the root directory
 * holds nothing else in any case. */
static void confine_paths(const char *libexec)
{
    static const char *const trees[] = { "/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc" };
    int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1)
        return;
    struct landlock_ruleset_attr all = { .handled_access_fs = ALL_OF_ABI_1 | (abi >= 3 ? 1ull << 14 : 0) };
    int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all.handled_access_fs), 0);
    if (rules < 0)
        stop("make Landlock rules", errno);
    for (size_t i = 0; i < sizeof(trees) / sizeof(trees[0]); i++)
        allow_beneath(rules, trees[i], READ_AND_RUN);
    allow_beneath(rules, libexec, READ_AND_RUN);
    /* nbdkit opens it as it starts. */
    allow_beneath(rules, "/dev/null", LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE);
    if (syscall(SYS_landlock_restrict_self, rules, 0))
        stop("enter Landlock", errno);
    close(rules);
}

int main(int argc, char **argv)
{
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "--version") == 0))
        usage(0);
    const char *libexec = getenv(ENV_LIBEXEC);
    if (!getenv(HYP_ENV_FDS) || !libexec)
        usage(2);
    char plugin[HYP_PATH_MAX];
    if (snprintf(plugin, sizeof(plugin), "%s/" PLUGIN, libexec) >= (int)sizeof(plugin))
        stop(ENV_LIBEXEC, ENAMETOOLONG);
    if (access(plugin, R_OK))
        stop(plugin, errno);

    place_descriptors();
    place_environment();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        stop("give up new privileges", errno);
    confine_paths(libexec);
    signal(SIGPIPE, SIG_IGN);

    execlp("nbdkit", "nbdkit", "--foreground", "--no-sr", "--tls=off", "--log=stderr", plugin, (char *)NULL);
    stop("run nbdkit (package nbdkit)", errno);
}
