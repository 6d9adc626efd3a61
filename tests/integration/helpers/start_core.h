/* SPDX-License-Identifier: MIT */
/* start_core.h - a core of a test's own, whose toolstack the test is. */
#ifndef BULKHEAD_TEST_START_CORE_H
#define BULKHEAD_TEST_START_CORE_H

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../../hyp-shim/hyp.h"

/* build_dir has the core, libexec what it starts. */
static inline pid_t start_core(const char *build_dir, const char *libexec, struct hyp **toolstack)
{
    int calls[2], store[2];
    char core[600];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, calls), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, store), 0);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(core, sizeof(core), "%s/bulkhead-core", build_dir);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int high[3] = { fcntl(calls[0], F_DUPFD, 50), fcntl(store[0], F_DUPFD, 50),
                        fcntl(listener, F_DUPFD, 50) };
        for (int i = 0; i < 3; i++)
            if (dup2(high[i], 3 + i) < 0)
                _exit(126);
        execl(core, "bulkhead-core", libexec, NULL);
        _exit(127);
    }
    close(calls[0]);
    close(store[0]);
    close(listener);
    assert_int_equal(hyp_local_open(toolstack, calls[1], store[1]), 0);
    return pid;
}

#endif
