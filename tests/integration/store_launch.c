/* SPDX-License-Identifier: MIT */
/*
 * store_launch SERVER SOCKET - stands in for the core: starts the store as the
 * unprivileged user that it runs as, with a listening socket at SOCKET, and
 * passes on what it reads from standard input, a line each:
 *
 *   introduce D    release D
 *
 * and answers each with the line "done".  Ends, and the store with it, at the
 * end of input; prints the store's exit status then.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include "hyp-shim/local/proto.h"

static void die(const char *what)
{
    fprintf(stderr, "store_launch: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int listen_at(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (snprintf(a.sun_path, sizeof(a.sun_path), "%s", path) >= (int)sizeof(a.sun_path)) {
        errno = ENAMETOOLONG;
        die(path);
    }
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) || chmod(path, 0666) || listen(fd, 64))
        die(path);
    return fd;
}

static void run_server(const char *server, int control, int listening)
{
    static char *const argv[] = {"bulkhead-store", NULL}, *const envp[] = {NULL};
    uid_t uid = LOCAL_UID_BASE + LOCAL_DOMID_STORE;
    int exe = open(server, O_RDONLY | O_CLOEXEC);

    if (exe < 0)
        die(server);
    /* Out of the way of 3 and 4 first. */
    exe = fcntl(exe, F_DUPFD_CLOEXEC, 20);
    control = fcntl(control, F_DUPFD_CLOEXEC, 20);
    listening = fcntl(listening, F_DUPFD_CLOEXEC, 20);
    if (dup2(control, STORE_CONTROL_FD) < 0 || dup2(listening, STORE_LISTEN_FD) < 0)
        die("dup2");
    if (geteuid() == 0 && (setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
        die("setresuid");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fexecve(exe, argv, envp);
    die(server);
}

static void tell(int control, uint32_t op, uint32_t domid, int fd)
{
    struct store_control say = {.op = op, .domid = domid};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } space = {0};
    struct iovec iov = {.iov_base = &say, .iov_len = sizeof(say)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        msg.msg_control = &space;
        msg.msg_controllen = sizeof(space);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    if (sendmsg(control, &msg, MSG_NOSIGNAL) != sizeof(say))
        die("the store's control socket");
}

int main(int argc, char **argv)
{
    int control[2], status;
    char line[32];

    if (argc != 3) {
        fprintf(stderr, "usage: store_launch SERVER SOCKET\n");
        return 2;
    }
    int listening = listen_at(argv[2]);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control))
        die("socketpair");
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        run_server(argv[1], control[1], listening);
    close(control[1]);
    close(listening);
    printf("%d\n", pid);
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        int pair[2];
        const char *number = strchr(line, ' ');
        uint32_t domid = number ? (uint32_t)strtoul(number, NULL, 10) : 0;
        if (!strncmp(line, "introduce ", 10)) {
            /* Our end stays open until the end: the domain lives. */
            if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
                die("socketpair");
            tell(control[0], STORE_CONTROL_INTRODUCE, domid, pair[1]);
            close(pair[1]);
        } else {
            tell(control[0], STORE_CONTROL_RELEASE, domid, -1);
        }
        printf("done\n");
        fflush(stdout);
    }
    close(control[0]);
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    printf("%d\n", status);
    return 0;
}
