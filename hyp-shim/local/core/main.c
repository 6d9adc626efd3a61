/* SPDX-License-Identifier: MIT */
/*
 * bulkhead-core LIBEXECDIR
 *
 * Started as root by bulkheadd, the first toolstack, with two descriptors:
 *   3  the toolstack's calls (SOCK_SEQPACKET)
 *   6  a listening SOCK_SEQPACKET socket, where the next toolstack connects when
 *      this one went away
 * Ends, and takes every domain along, when the toolstack says so; without 6 also
 * when it goes away.
 * Exit status: 0 it was ended; 1 the core could not start or go on; 2 misuse.
 */
#include "core.h"

#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define CORE_NICE (-10)

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
    /* The toolstack alone ends it, whatever the terminal sends. */
    static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE };
    EACH(sig, ignored)
        signal(*sig, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* were it ignored, the kernel would reap for us */
    umask(077);
    if (close_range(CORE_TOOLSTACK_FD + 1, CORE_ADOPT_FD - 1, 0) < 0 ||
        close_range(CORE_ADOPT_FD + 1, ~0u, 0) < 0 || chdir("/") < 0 || setgroups(0, NULL) < 0 ||
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
        core_log("cannot drop what it was started with");
        return 1;
    }
    struct rlimit files; /* full tables need some 20,000 */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    setpriority(PRIO_PROCESS, 0, CORE_NICE); /* everyone waits for its turns, which are short */
    bool adopts = fcntl(CORE_ADOPT_FD, F_GETFD) >= 0;
    const struct core_config config = { CORE_TOOLSTACK_FD, adopts ? CORE_ADOPT_FD : -1, argv[1],
                                        &core_processes };
    int state = core_init(&core, &config);
    while (state == 0)
        state = core_turn(&core, -1);
    if (state < 0)
        core_log("ends: %s", core_strerror(state));
    core_end(&core);
    return state < 0;
}
