/* SPDX-License-Identifier: MIT */
/*
 * The core's side of starting processes.
 *
 * A domain's process is cloned into a new pid namespace and takes every other
 * step itself (child.c), so that a slow one delays no one.  For one step it
 * needs us: only we may write its uid and gid maps.  It asks over a socket
 * that closes by itself when the program runs, and says over the same socket
 * which step failed, if one did.
 *
 * The program runs at once.  A domain that is still paused waits in its first
 * call, which the core does not answer yet.
 */
#include "core.h"

#include <linux/sched.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* As fork(): 0 in the child. */
static pid_t spawn(uint64_t flags, int *pidfd)
{
    struct clone_args args = { .flags = flags | CLONE_PIDFD, .pidfd = (uintptr_t)pidfd,
                               .exit_signal = SIGCHLD };
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0)
        setpriority(PRIO_PROCESS, 0, 0); /* not the core's own */
    return pid < 0 ? -errno : pid;
}

/* A child that runs run(what, its end of *sock), which does not return. */
static pid_t spawn_talking(uint64_t flags, void (*run)(const void *, int), const void *what, int *sock,
                           int *pidfd)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    pid_t pid = spawn(flags, pidfd);
    if (pid == 0)
        run(what, pair[1]);
    core_close(&pair[1]);
    if (pid < 0)
        core_close(&pair[0]);
    *sock = pair[0];
    return pid;
}

static int launch_process(struct core *core, struct domain *d, const struct launch *how)
{
    const struct child child = {
        .cls = core_class(d->class_id), .how = how, .libexec = core->libexec, .name = d->name,
        .id = core_uid(d),
    };
    pid_t pid = spawn_talking(CLONE_NEWPID, child_run, &child, &d->launch_sock, &d->pidfd);
    if (pid < 0)
        return pid;
    d->pid = pid;
    return 0;
}

/* ------------------------------------------------------------------ maps */

static int write_proc(pid_t pid, const char *file, const char *text)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int error = write(fd, text, strlen(text)) < 0 ? -errno : 0;
    close(fd);
    return error;
}

/* Its uid and gid mean themselves inside; no others mean anything. */
static int write_maps(const struct domain *d)
{
    char map[64];
    unsigned id = core_uid(d);
    snprintf(map, sizeof(map), "%u %u 1", id, id);
    int error = write_proc(d->pid, "setgroups", "deny");
    if (error == 0)
        error = write_proc(d->pid, "gid_map", map);
    return error ? error : write_proc(d->pid, "uid_map", map);
}

/*
 * To take a mount namespace down costs a process that dies a millisecond (RCU)
 * before its files are closed and so before the fence: who has the device next
 * waits for it.  We have the last reference instead, and drop it when everyone
 * was told (domain_sweep()).
 */
static void hold_namespaces(struct domain *d)
{
    char path[64];
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)d->pid, i == 0 ? "mnt" : "net");
        d->namespaces[i] = open(path, O_RDONLY | O_CLOEXEC);
    }
}

static void launch_step(struct core *core, struct domain *d)
{
    struct launch_message m;
    ssize_t n = recv(d->launch_sock, &m, sizeof(m), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    int error = 0;
    if (n == (ssize_t)sizeof(m)) {
        bool maps = m.step == LAUNCH_MAP;
        error = maps ? write_maps(d) : m.error;
        if (maps && error == 0)
            error = rights_send(d->launch_sock, &m, sizeof(m), NULL, 0);
        if (maps && error == 0)
            return;
        core_log("cannot start %s: cannot %s: %s", domain_label(d),
                 maps ? "write its uid map" : child_step_name(m.step), core_strerror(error));
    }
    core_close(&d->launch_sock); /* it runs its program now, or never will */
    if (error)
        domain_kill(core, d);
    else
        hold_namespaces(d);
}

/* ------------------------------------------------------------- kill, reap */

static int process_kill(int pidfd)
{
    return pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0 ? -errno : 0;
}

static int process_reap(int pidfd, int *status)
{
    siginfo_t info = { .si_pid = 0 };
    if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
        return 0;
    *status = info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8
                                         : info.si_status | (info.si_code == CLD_DUMPED ? 0x80 : 0);
    return 1;
}

/* ---------------------------------------------------------------- devices */

static int open_device(const struct core_call_assign *how, int *sock, int *pidfd)
{
    pid_t pid = spawn_talking(0, child_open_device, how, sock, pidfd);
    return pid < 0 ? pid : 0;
}

/* The child shares our descriptor table and nothing else: it is the child
 * that waits in close(). */
static int close_slow(int fd, int *pidfd)
{
    pid_t pid = spawn(CLONE_FILES, pidfd);
    if (pid == 0) {
        close(fd);
        _exit(0);
    }
    return pid < 0 ? pid : 0;
}

const struct core_process_ops core_processes = {
    .launch = launch_process,
    .launch_step = launch_step,
    .kill = process_kill,
    .reap = process_reap,
    .open_device = open_device,
    .close_slow = close_slow,
};
