/* SPDX-License-Identifier: MIT */
/*
 * store_launch SERVER SOCKET - stands in for toolstack and core: starts the
 * store as the unprivileged user that it runs as, with a listening socket at
 * SOCKET and a journal, prints its pid, and does what it reads from standard
 * input, a line each:
 *
 *   introduce D    release D    to the store
 *   forget D       D died, and the store is not told
 *   kill           kills the store and starts the next; prints its pid
 *   damage         changes one bit in the journal
 *
 * and answers each with the line "done".  Ends, and the store with it, at the
 * end of input or when the store is gone by itself; prints its exit status then.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

static struct {
    const char *server;
    int control, listening, journal;
    pid_t pid;
    struct store_living living;
} store = {.living.op = STORE_CONTROL_LIVING};

static void run_server(const char *server, int control, int listening, int journal)
{
    static char *const argv[] = {"bulkhead-store", NULL}, *const envp[] = {NULL};
    uid_t uid = LOCAL_UID_BASE + LOCAL_DOMID_STORE;
    int exe = open(server, O_RDONLY | O_CLOEXEC);

    if (exe < 0)
        die(server);
    /* Out of the way of 3, 4 and 5 first. */
    exe = fcntl(exe, F_DUPFD_CLOEXEC, 20);
    control = fcntl(control, F_DUPFD_CLOEXEC, 20);
    listening = fcntl(listening, F_DUPFD_CLOEXEC, 20);
    journal = fcntl(journal, F_DUPFD_CLOEXEC, 20);
    if (dup2(control, STORE_CONTROL_FD) < 0 || dup2(listening, STORE_LISTEN_FD) < 0 ||
        dup2(journal, STORE_JOURNAL_FD) < 0)
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

/* The first word to each store: who lives. */
static void start(void)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        die("socketpair");
    if (send(pair[0], &store.living, sizeof(store.living), 0) != sizeof(store.living))
        die("the store's control socket");
    store.control = pair[0];
    store.pid = fork();
    if (store.pid < 0)
        die("fork");
    if (store.pid == 0)
        run_server(store.server, pair[1], store.listening, store.journal);
    close(pair[1]);
    printf("%d\n", store.pid);
}

static int reap(void)
{
    int status;

    if (waitpid(store.pid, &status, 0) != store.pid)
        die("waitpid");
    return status;
}

static void forget(uint32_t domid)
{
    struct store_living *l = &store.living;

    for (uint32_t i = 0; i < l->n; i++)
        if (l->domid[i] == domid)
            l->domid[i--] = l->domid[--l->n];
}

static void introduce(uint32_t domid)
{
    int pair[2];

    /* Our end stays open until the end: the domain lives. */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        die("socketpair");
    tell(store.control, STORE_CONTROL_INTRODUCE, domid, pair[1]);
    close(pair[1]);
    forget(domid);
    if (domid && store.living.n < CORE_DOMAINS_MAX)
        store.living.domid[store.living.n++] = domid;
}

/* The first record in both halves of the journal. */
static void damage(void)
{
    for (int half = 0; half < 2; half++) {
        off_t at = 4096 + half * (off_t)((STORE_JOURNAL_BYTES - 4096) / 2) + 8;
        uint8_t byte;
        if (pread(store.journal, &byte, 1, at) != 1)
            die("the journal");
        byte ^= 1;
        if (pwrite(store.journal, &byte, 1, at) != 1)
            die("the journal");
    }
}

static void obey(const char *line)
{
    const char *number = strchr(line, ' ');
    uint32_t domid = number ? (uint32_t)strtoul(number, NULL, 10) : 0;

    if (!strncmp(line, "introduce ", 10)) {
        introduce(domid);
    } else if (!strncmp(line, "forget ", 7)) {
        forget(domid);
    } else if (!strcmp(line, "kill\n")) {
        kill(store.pid, SIGKILL);
        reap();
        close(store.control);
        start();
    } else if (!strcmp(line, "damage\n")) {
        damage();
    } else {
        forget(domid);
        tell(store.control, STORE_CONTROL_RELEASE, domid, -1);
    }
}

int main(int argc, char **argv)
{
    char line[32];

    if (argc != 3) {
        fprintf(stderr, "usage: store_launch SERVER SOCKET\n");
        return 2;
    }
    store.server = argv[1];
    store.listening = listen_at(argv[2]);
    store.journal = memfd_create("journal", MFD_CLOEXEC);
    if (store.journal < 0 || ftruncate(store.journal, STORE_JOURNAL_BYTES))
        die("the journal");
    start();
    fflush(stdout);
    setvbuf(stdin, NULL, _IONBF, 0); /* what it has not read, poll() sees */
    for (;;) {
        struct pollfd p[] = {{.fd = 0, .events = POLLIN}, {.fd = store.control, .events = 0}};
        poll(p, 2, -1);
        if (p[1].revents || !fgets(line, sizeof(line), stdin))
            break;
        obey(line);
        printf("done\n");
        fflush(stdout);
    }
    close(store.control);
    printf("%d\n", reap());
    return 0;
}
