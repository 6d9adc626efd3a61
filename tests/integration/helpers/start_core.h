/* SPDX-License-Identifier: MIT */
/* start_core.h - a core of a test's own, whose toolstack the test is. */
#ifndef BULKHEAD_TEST_START_CORE_H
#define BULKHEAD_TEST_START_CORE_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../../hyp-shim/hyp.h"
#include "../../../hyp-shim/local/proto.h"

/* build_dir has the core, libexec what it starts.  adopt: where it finds its next
 * toolstack, or -1: it ends with this one.  log: what it says, or -1: our stderr. */
static inline pid_t start_core_alone(const char *build_dir, const char *libexec, int adopt, int log,
                                     struct hyp **toolstack)
{
    int calls[2];
    char core[600];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, calls), 0);
    snprintf(core, sizeof(core), "%s/bulkhead-core", build_dir);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int from[] = { calls[0], adopt, log < 0 ? STDERR_FILENO : log };
        static const int to[] = { CORE_TOOLSTACK_FD, CORE_ADOPT_FD, STDERR_FILENO };
        for (int i = 0; i < 3; i++)
            from[i] = from[i] < 0 ? -1 : fcntl(from[i], F_DUPFD_CLOEXEC, 50);
        close_range(CORE_TOOLSTACK_FD, 49, 0);
        for (int i = 0; i < 3; i++)
            if (from[i] >= 0 && dup2(from[i], to[i]) < 0)
                _exit(126);
        execl(core, "bulkhead-core", libexec, NULL);
        _exit(127);
    }
    close(calls[0]);
    assert_int_equal(hyp_local_open(toolstack, calls[1], -1), 0);
    return pid;
}

/* The store, which then hears from listener (nobody connects there when it is no
 * listening socket) and finds its tree in journal.  Both stay the caller's. */
static inline void start_store(struct hyp *toolstack, int listener, int journal)
{
    struct hyp_domain_config cfg = { .class_id = HYP_CLASS_STORE, .name = "store" };
    int fds[3] = { STDERR_FILENO, listener, journal }, none[2];
    domid_t domid;
    assert_int_equal(hyp_domain_create(toolstack, &cfg, fds, 3, &domid, none), 0);
    assert_int_equal(domid, LOCAL_DOMID_STORE);
}

static inline int new_journal(void)
{
    int fd = memfd_create("journal", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, STORE_JOURNAL_BYTES), 0);
    return fd;
}

/* Both. */
static inline pid_t start_core(const char *build_dir, const char *libexec, struct hyp **toolstack)
{
    pid_t pid = start_core_alone(build_dir, libexec, -1, -1, toolstack);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), journal = new_journal();
    start_store(*toolstack, listener, journal);
    close(listener);
    close(journal);
    return pid;
}

#endif
