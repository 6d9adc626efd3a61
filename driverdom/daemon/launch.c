/* SPDX-License-Identifier: MIT */
#include "launch.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../hyp-shim/local/proto.h"

#define CORE_PROGRAM "bulkhead-core"

int launch_background(int *ready_fd)
{
    int fds[2];
    pid_t pid;
    char byte;

    if (pipe2(fds, O_CLOEXEC))
        return -errno;
    pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        close(fds[0]);
        setsid();
        *ready_fd = fds[1];
        return 0;
    }
    close(fds[1]);
    _exit(read(fds[0], &byte, 1) == 1 ? 0 : 1);
}

void launch_ready(int ready_fd)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        close(null);
    }
    if (write(ready_fd, "1", 1) == 1)
        close(ready_fd);
}

void launch_notify(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t n = path ? strlen(path) : 0;
    int fd;

    if (n < 2 || n >= sizeof(to.sun_path) || (*path != '/' && *path != '@'))
        return;
    memcpy(to.sun_path, path, n);
    if (*path == '@')
        to.sun_path[0] = '\0'; /* in the abstract name space */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}

/* Beside bulkheadd (a build tree), else ../libexec/bulkhead (an installed one). */
static int find_libexec(char *dir, size_t cap, char *why, size_t why_cap)
{
    char self[1024], program[1200];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (n < 0)
        return -errno;
    self[n] = '\0';
    slash = strrchr(self, '/');
    *slash = '\0';
    for (int i = 0; i < 2; i++) {
        snprintf(dir, cap, "%s%s", self, i ? "/../libexec/bulkhead" : "");
        snprintf(program, sizeof(program), "%s/" CORE_PROGRAM, dir);
        if (!access(program, X_OK))
            return 0;
    }
    snprintf(why, why_cap,
             CORE_PROGRAM " is neither in %s nor in %s/../libexec/bulkhead: build or install it", self, self);
    return -ENOENT;
}

/* In the child.  Moves the two out of the way first; the rest is closed. */
static int place_descriptors(int calls, int adopt, int log_fd)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (null < 0 || dup2(null, 0) < 0 || dup2(log_fd, 1) < 0 || dup2(log_fd, 2) < 0)
        return -errno;
    calls = fcntl(calls, F_DUPFD_CLOEXEC, 16);
    adopt = fcntl(adopt, F_DUPFD_CLOEXEC, 16);
    if (calls < 0 || adopt < 0 || close_range(3, 15, 0) || dup2(calls, CORE_TOOLSTACK_FD) < 0 ||
        dup2(adopt, CORE_ADOPT_FD) < 0)
        return -errno;
    return close_range(CORE_ADOPT_FD + 1, ~0u, 0) ? -errno : 0;
}

static void exec_core(const char *libexec, int calls, int adopt, int log_fd)
{
    static char *const env[] = {NULL};
    char program[1200];
    char *argv[] = {(char *)CORE_PROGRAM, (char *)libexec, NULL};
    sigset_t none;

    snprintf(program, sizeof(program), "%s/" CORE_PROGRAM, libexec);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid(); /* the terminal's Ctrl-C is for the daemon, which then ends the core in order */
    if (!place_descriptors(calls, adopt, log_fd) && !chdir("/"))
        execve(program, argv, env);
    dprintf(STDERR_FILENO, "cannot run %s: %s\n", program, strerror(errno));
    _exit(127);
}

int launch_core(struct launch *out, int adopt_fd, struct log *log, char *why, size_t cap)
{
    char libexec[1100];
    int calls[2] = {-1, -1}, log_fd = -1, rc = find_libexec(libexec, sizeof(libexec), why, cap);
    pid_t pid;

    if (rc)
        return rc;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, calls) || log_pipe(log, &log_fd)) {
        snprintf(why, cap, "cannot make the sockets of the core: %s", strerror(errno));
        return -errno;
    }
    pid = fork();
    if (pid < 0) {
        snprintf(why, cap, "cannot start the core: %s", strerror(errno));
        return -errno;
    }
    if (pid == 0)
        exec_core(libexec, calls[1], adopt_fd, log_fd);
    close(calls[1]);
    close(log_fd);
    *out = (struct launch){.core = pid, .calls_fd = calls[0]};
    return 0;
}

void launch_raise_limits(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files))
        return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

/* Reads the sets back from the kernel: each must be empty. */
static bool sets_are_empty(void)
{
    static const capng_type_t types[] = {CAPNG_EFFECTIVE, CAPNG_PERMITTED, CAPNG_INHERITABLE,
                                         CAPNG_BOUNDING_SET, CAPNG_AMBIENT};

    if (capng_get_caps_process())
        return false;
    for (unsigned cap = 0; cap <= CAP_LAST_CAP; cap++)
        for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
            if (capng_have_capability(types[i], cap))
                return false;
    return true;
}

int launch_find_group(const char *name, const char *otherwise, gid_t *out, char *why, size_t cap)
{
    const struct group *found = getgrnam(name ? name : otherwise);

    *out = found ? found->gr_gid : 0;
    if (found || !name)
        return 0;
    snprintf(why, cap, "there is no group '%.100s': --guest-group is who runs QEMU", name);
    return -ENOENT;
}

/* It has that group and no other. */
static bool groups_are(gid_t group)
{
    gid_t have = 0;
    int n = getgroups(0, NULL);

    return n == (group != 0) && (!group || (getgroups(1, &have) == 1 && have == group));
}

int launch_drop_privileges(gid_t group, char *why, size_t cap)
{
    const uid_t id = LOCAL_UID_BASE;
    const char *step = NULL;
    uid_t r, e, s;
    gid_t gr, ge, gs;

    /* The bounding set can only be emptied while CAP_SETPCAP is still there. */
    capng_clear(CAPNG_SELECT_ALL);
    if (capng_apply(CAPNG_SELECT_BOUNDS))
        step = "emptying the capability bounding set";
    else if (setgroups(group != 0, &group))
        step = "dropping groups";
    else if (setresgid(id, id, id) || setresuid(id, id, id))
        step = "changing to the daemon's uid";
    else if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) || capng_apply(CAPNG_SELECT_CAPS))
        step = "dropping capabilities";
    else if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        step = "forbidding new privileges";
    else if (getresuid(&r, &e, &s) || getresgid(&gr, &ge, &gs) || r != id || e != id || s != id || gr != id ||
             ge != id || gs != id || !groups_are(group) || setuid(0) == 0 || !sets_are_empty() ||
             prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        step = "the check that all privileges are gone";
    if (!step)
        return 0;
    snprintf(why, cap, "%s failed: %s", step, strerror(errno));
    return -EPERM;
}
