/* SPDX-License-Identifier: MIT */
/*
 * bulkhead-core LIBEXECDIR
 *
 * Started as root by bulkheadd, which keeps the other ends:
 *   3  the toolstack's calls (SOCK_SEQPACKET)
 *   4  the store's end of the toolstack's store connection
 *   5  a listening socket for the store
 * Ends when the toolstack does, and takes every domain along.
 * Exit status: 0 the toolstack left; 1 the core could not start or go on; 2 misuse.
 */
#include "core.h"

#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { TOOLSTACK_FD = 3, TOOLSTACK_STORE_FD = 4, STORE_SOCKET_FD = 5, FIRST_UNUSED_FD = 6 };

static struct core core;

int main(int argc, char **argv)
{
    if (argc != 2 || argv[1][0] != '/' || strlen(argv[1]) >= HYP_PATH_MAX) {
        core_log("usage: bulkhead-core LIBEXECDIR (an absolute path); bulkheadd starts it");
        return 2;
    }
    if (geteuid() != 0) {
        core_log("must be started as root; it is what makes the jails");
        return 1;
    }
    /* Lives exactly as long as the toolstack, whatever the terminal sends. */
    static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE };
    for (unsigned i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* were it ignored, the kernel would reap for us */
    umask(077);
    if (close_range(FIRST_UNUSED_FD, ~0u, 0) < 0 || chdir("/") < 0 || setgroups(0, NULL) < 0 ||
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
        core_log("cannot drop what it was started with");
        return 1;
    }
    struct rlimit files; /* full tables need some 20,000 */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    const struct core_config config = { TOOLSTACK_FD, TOOLSTACK_STORE_FD, STORE_SOCKET_FD, argv[1],
                                        &core_processes };
    int state = core_init(&core, &config);
    close(TOOLSTACK_STORE_FD); /* the store has them now */
    close(STORE_SOCKET_FD);
    while (state == 0)
        state = core_turn(&core, -1);
    if (state < 0)
        core_log("ends: %s", core_strerror(state));
    core_end(&core);
    return state < 0;
}
