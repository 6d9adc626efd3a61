/* SPDX-License-Identifier: MIT */
/*
 * The jail, from inside.  Each attack runs in a child of its own, three times:
 * free (the control: there it succeeds), confined, and sealed (there it must
 * end the child with SIGSYS).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "../../hyp-shim/local/jail.h"

/* The limit for driver domains and the store.  The door runs nbdkit, which starts and
 * ends threads all the time; its list is as long as it is, and may not grow unnoticed. */
#define STEADY_LIMIT 27
#define DOOR_LIMIT   33

enum stage { FREE, CONFINED, SEALED };

/* What an attack works on; made before the child enters the jail. */
static struct {
    int pipe[2];
    int memfd;
    int ring;      /* io_uring, or -1 where the machine forbids it */
    int abstract;  /* a listening abstract socket of the parent    */
    struct sockaddr_un abstract_addr;
    socklen_t abstract_len;
    char *page;
} world;

static long call_open(void)
{
    return syscall(SYS_open, "/dev/null", O_RDWR);
}
static long call_openat(void)
{
    return syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY);
}
static long call_socket_unix(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0);
}
static long call_socket_inet(void)
{
    return socket(AF_INET, SOCK_STREAM, 0);
}
static long call_connect_abstract(void)
{
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    return connect(s, (const struct sockaddr *)&world.abstract_addr, world.abstract_len);
}
static long call_execve(void)
{
    char *argv[] = { (char *)(uintptr_t)"true", NULL };
    return execve("/bin/true", argv, argv + 1);
}
static long call_mmap_exec(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
}
static long call_mmap_wx(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
           MAP_FAILED ? -1 : 0;
}
static long call_mprotect_exec(void)
{
    return mprotect(world.page, 4096, PROT_READ | PROT_EXEC);
}
static long call_ptrace(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}
static long call_vm_readv(void)
{
    char byte;
    struct iovec here = { &byte, 1 }, there = { world.page, 1 };
    return process_vm_readv(getpid(), &here, 1, &there, 1, 0);
}
static long call_fork(void)
{
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        syscall(SYS_exit, 0);
    return pid;
}
static long call_fcntl(void)
{
    return fcntl(world.pipe[0], F_GETFD);
}
static long call_kill_parent(void)
{
    return syscall(SYS_kill, getppid(), 0);
}
static long call_kill_self(void)
{
    return syscall(SYS_kill, getpid(), 0);
}
static long call_prctl(void)
{
    return prctl(PR_GET_DUMPABLE, 0ul, 0ul, 0ul, 0ul);
}
static long call_setuid(void)
{
    return syscall(SYS_setuid, getuid());
}
static long call_unshare(void)
{
    return syscall(SYS_unshare, CLONE_FS);
}
static long call_chdir(void)
{
    return chdir("/");
}
static long call_memfd(void)
{
    return memfd_create("x", 0);
}
static long call_ftruncate(void)
{
    return ftruncate(world.memfd, 8192);
}
static long call_fallocate(void)
{
    return fallocate(world.memfd, 0, 0, 4096);
}
static long call_dup(void)
{
    return syscall(SYS_dup, world.pipe[0]);
}
static long call_ioctl(void)
{
    int n;
    return ioctl(world.pipe[0], FIONREAD, &n);
}

/* The NBD door may: nbdkit asks whether its log is a terminal. */
static long call_isatty(void)
{
    errno = 0;
    return isatty(world.pipe[0]) || errno == ENOTTY ? 0 : -1;
}
static long call_madvise(void)
{
    return madvise(world.page, 4096, MADV_DONTNEED);
}
static long call_ring_setup(void)
{
    struct io_uring_params p = { 0 };
    return syscall(SYS_io_uring_setup, 1, &p);
}
static long call_ring_probe(void)
{
    union {
        struct io_uring_probe probe;
        char room[sizeof(struct io_uring_probe) + 4 * sizeof(struct io_uring_probe_op)];
    } p = { .room = { 0 } };
    return syscall(SYS_io_uring_register, world.ring, IORING_REGISTER_PROBE, &p, 4);
}
static long call_brk(void)
{
    return syscall(SYS_brk, 0) < 0 ? -1 : 0;
}

struct attack {
    const char *name;
    long (*call)(void);
    enum stage refused_from;  /* CONFINED: jail_confine() alone stops it already */
    unsigned needs;           /* JAIL_* that stops it there                      */
    int landlock;             /* and at least this version of it                 */
};

static const struct attack attacks[] = {
    { "open", call_open, CONFINED, JAIL_LANDLOCK, 1 },
    { "openat", call_openat, CONFINED, JAIL_LANDLOCK, 1 },
    { "execve", call_execve, CONFINED, JAIL_LANDLOCK, 1 },
    { "connect to an abstract socket", call_connect_abstract, CONFINED, JAIL_LANDLOCK, 6 },
    { "kill the parent", call_kill_parent, CONFINED, JAIL_LANDLOCK, 6 },
    { "mmap writable and executable", call_mmap_wx, CONFINED, JAIL_MDWE, 0 },
    { "mprotect executable", call_mprotect_exec, CONFINED, JAIL_MDWE, 0 },
    { "mmap executable", call_mmap_exec, SEALED, 0, 0 },
    { "socket unix", call_socket_unix, SEALED, 0, 0 },
    { "socket inet", call_socket_inet, SEALED, 0, 0 },
    { "ptrace", call_ptrace, SEALED, 0, 0 },
    { "process_vm_readv", call_vm_readv, SEALED, 0, 0 },
    { "clone", call_fork, SEALED, 0, 0 },
    { "fcntl", call_fcntl, SEALED, 0, 0 },
    { "kill", call_kill_self, SEALED, 0, 0 },
    { "prctl", call_prctl, SEALED, 0, 0 },
    { "setuid", call_setuid, SEALED, 0, 0 },
    { "unshare", call_unshare, SEALED, 0, 0 },
    { "chdir", call_chdir, SEALED, 0, 0 },
    { "memfd_create", call_memfd, SEALED, 0, 0 },
    { "ftruncate", call_ftruncate, SEALED, 0, 0 },
    { "fallocate", call_fallocate, SEALED, 0, 0 },
    { "dup", call_dup, SEALED, 0, 0 },
    { "ioctl", call_ioctl, SEALED, 0, 0 },
    { "ioctl of a terminal", call_isatty, SEALED, 0, 0 },
    { "madvise", call_madvise, SEALED, 0, 0 },
    { "io_uring_setup", call_ring_setup, SEALED, 0, 0 },
    { "io_uring_register of something else", call_ring_probe, SEALED, 0, 0 },
    { "brk", call_brk, SEALED, 0, 0 },
};
#define ATTACKS (sizeof(attacks) / sizeof(attacks[0]))

/* ----------------------------------------------------------------- children */

#define CHILD_JAIL_FAILED 250

static void enter(enum stage stage, enum hyp_class cls)
{
    const char *step;
    if ((stage >= CONFINED && jail_confine(&step)) || (stage >= SEALED && jail_seal(cls, &step)))
        _exit(CHILD_JAIL_FAILED);
}

/* _exit(), but no sanitizer notices: what it would do then is not allowed here. */
static void leave(int status)
{
    for (;;)
        syscall(SYS_exit_group, status);
}

/* The wait status of a child that entered the stage and made one call: exit
 * status 0 success, else the errno. */
static int run(enum stage stage, enum hyp_class cls, long (*call)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        enter(stage, cls);
        leave(call() >= 0 ? 0 : errno);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int landlock_version(void)
{
    long v = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
    return v > 0 ? (int)v : 0;
}

static int setup(void **state)
{
    (void)state;
    struct io_uring_params p = { 0 };
    world.ring = (int)syscall(SYS_io_uring_setup, 1, &p);
    world.memfd = memfd_create("attack", 0);
    world.page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    world.abstract = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un autobind = { .sun_family = AF_UNIX };
    world.abstract_len = sizeof(world.abstract_addr);
    if (world.memfd < 0 || ftruncate(world.memfd, 4096) || pipe(world.pipe) || world.page == MAP_FAILED ||
        bind(world.abstract, (struct sockaddr *)&autobind, sizeof(sa_family_t)) ||
        listen(world.abstract, 64) ||
        getsockname(world.abstract, (struct sockaddr *)&world.abstract_addr, &world.abstract_len))
        return -1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close(world.ring);
    close(world.memfd);
    close(world.abstract);
    close(world.pipe[0]);
    close(world.pipe[1]);
    munmap(world.page, 4096);
    return 0;
}

/* ------------------------------------------------------------------- tests */

static void every_attack_works_outside(void **state)
{
    (void)state;
    for (size_t i = 0; i < ATTACKS; i++) {
        if (world.ring < 0 && (attacks[i].call == call_ring_setup || attacks[i].call == call_ring_probe))
            continue; /* a machine that forbids io_uring to us */
        int status = run(FREE, HYP_CLASS_BLK, attacks[i].call);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail_msg("control: %s failed outside the jail: status %#x", attacks[i].name, (unsigned)status);
    }
}

static void confinement_stops_paths_and_code(void **state)
{
    (void)state;
    unsigned has = jail_features();
    printf("           Landlock version %d, memory-deny-write-execute %s\n", landlock_version(),
           has & JAIL_MDWE ? "yes" : "no");
    for (size_t i = 0; i < ATTACKS; i++) {
        const struct attack *a = &attacks[i];
        if (a->refused_from != CONFINED || (a->needs & ~has) || landlock_version() < a->landlock)
            continue;
        int status = run(CONFINED, HYP_CLASS_BLK, a->call);
        if (!WIFEXITED(status) || WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == CHILD_JAIL_FAILED)
            fail_msg("%s when confined: status %#x", a->name, (unsigned)status);
    }
}

/* A thread that ends gives its stack back; a device that is plugged in needs the heap
 * and the pages of its pool. */
static bool needed(enum hyp_class cls, long (*call)(void))
{
    if (cls == HYP_CLASS_VHOST)
        return call == call_brk || call == call_madvise;
    return cls == HYP_CLASS_TAP && call == call_madvise;
}

static void the_seal_kills(void **state)
{
    (void)state;
    static const enum hyp_class classes[] = { HYP_CLASS_BLK, HYP_CLASS_NET, HYP_CLASS_TAP, HYP_CLASS_VHOST };
    for (size_t i = 0; i < ATTACKS * (sizeof(classes) / sizeof(classes[0])); i++) {
        const struct attack *a = &attacks[i % ATTACKS];
        if (needed(classes[i / ATTACKS], a->call))
            continue;
        int status = run(SEALED, classes[i / ATTACKS], a->call);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
            fail_msg("%s when sealed as class %d: status %#x", a->name, classes[i / ATTACKS],
                     (unsigned)status);
    }
}

/* ------------------------------------------------- what a class's list limits */

static long send_nowhere(void) /* the control: no address, and no socket to have one */
{
    errno = 0;
    return sendto(world.pipe[1], "x", 1, 0, NULL, 0) < 0 && errno == ENOTSOCK ? 0 : -1;
}
static long send_somewhere(void)
{
    const struct sockaddr *to = (const struct sockaddr *)&world.abstract_addr;
    return sendto(world.pipe[1], "x", 1, 0, to, world.abstract_len) < 0 ? 0 : -1;
}
/* Of no socket: what matters is whether the call is made. */
static long set_option(int level, int name)
{
    int value = 0;
    errno = 0;
    return setsockopt(world.pipe[1], level, name, &value, sizeof(value)) < 0 && errno == ENOTSOCK ? 0 : -1;
}
static long detach_filter(void)
{
    return set_option(SOL_SOCKET, SO_DETACH_FILTER);
}
static long attach_filter(void)
{
    return set_option(SOL_SOCKET, SO_ATTACH_FILTER);
}
static long bind_to_device(void)
{
    return set_option(SOL_SOCKET, SO_BINDTODEVICE);
}
static long packet_option(void)
{
    return set_option(SOL_PACKET, SO_DETACH_FILTER);
}
static long new_net_namespace(void)
{
    return unshare(CLONE_NEWNET) == 0 || errno == EPERM ? 0 : -1;
}
static long new_user_namespace(void)
{
    return unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 || errno == EPERM ? 0 : -1;
}
static long join_net_namespace(void)
{
    return setns(world.memfd, CLONE_NEWNET) < 0 ? 0 : -1;
}
static long join_any_namespace(void)
{
    return setns(world.memfd, 0) < 0 ? 0 : -1;
}
static long bpf_load(void)
{
    return syscall(SYS_bpf, BPF_PROG_LOAD, NULL, 0) < 0 ? 0 : -1;
}
static long bpf_pin(void)
{
    return syscall(SYS_bpf, BPF_OBJ_PIN, NULL, 0) < 0 ? 0 : -1;
}
static long bpf_by_id(void)
{
    return syscall(SYS_bpf, BPF_MAP_GET_FD_BY_ID, NULL, 0) < 0 ? 0 : -1;
}
static long make_tap(void)
{
    return ioctl(world.pipe[0], TUNSETIFF, NULL) < 0 ? 0 : -1;
}
static long set_interface_flags(void)
{
    return ioctl(world.pipe[0], SIOCSIFFLAGS, NULL) < 0 ? 0 : -1;
}
static long netlink_socket(void)
{
    return socket(AF_NETLINK, SOCK_RAW, 0);
}
static long vsock_socket(void)
{
    return socket(AF_VSOCK, SOCK_STREAM, 0) >= 0 || errno == EAFNOSUPPORT ? 0 : -1;
}

/* Each call works unsealed; sealed it goes on working, or kills. */
static void arguments_are_limited(void **state)
{
    (void)state;
    static const struct {
        long (*call)(void);
        enum hyp_class cls;
        bool kills;
    } cases[] = {
        { send_nowhere, HYP_CLASS_NET, false },
        { send_somewhere, HYP_CLASS_NET, true },
        { detach_filter, HYP_CLASS_NET, false },
        { attach_filter, HYP_CLASS_NET, true },
        { bind_to_device, HYP_CLASS_NET, true },
        { packet_option, HYP_CLASS_NET, true },
        { attach_filter, HYP_CLASS_NETDEV, false },
        { detach_filter, HYP_CLASS_NETDEV, true },
        { bind_to_device, HYP_CLASS_NBD, false },
        { detach_filter, HYP_CLASS_TAP, true },
        { send_nowhere, HYP_CLASS_NBD, false },
        { send_somewhere, HYP_CLASS_NBD, true },
        { new_net_namespace, HYP_CLASS_NETDEV, false },
        { new_user_namespace, HYP_CLASS_NETDEV, true },
        { join_net_namespace, HYP_CLASS_NETDEV, false },
        { join_any_namespace, HYP_CLASS_NETDEV, true },
        { bpf_load, HYP_CLASS_NETDEV, false },
        { bpf_pin, HYP_CLASS_NETDEV, true },
        { bpf_by_id, HYP_CLASS_NETDEV, true },
        { make_tap, HYP_CLASS_NETDEV, false },
        { set_interface_flags, HYP_CLASS_NETDEV, true },
        { netlink_socket, HYP_CLASS_NETDEV, false },
        { vsock_socket, HYP_CLASS_NETDEV, true },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int status = run(FREE, cases[i].cls, cases[i].call);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail_msg("control: case %zu unsealed: status %#x", i, (unsigned)status);
        status = run(SEALED, cases[i].cls, cases[i].call);
        bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
        if (killed != cases[i].kills || (!killed && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)))
            fail_msg("case %zu sealed: status %#x", i, (unsigned)status);
    }
}

/* What is left of the paths when the keeper confined itself. */
static void confinement_leaves_the_paths_that_it_is_told(void **state)
{
    (void)state;
    char dir[] = "/tmp/bulkhead-jail.XXXXXX", file[64];
    if (!(jail_features() & JAIL_LANDLOCK))
        skip();
    assert_non_null(mkdtemp(dir));
    snprintf(file, sizeof(file), "%s/file", dir);
    close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const char *step;
        int path = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (jail_confine_to(&path, 1, &step))
            _exit(CHILD_JAIL_FAILED);
        bool good = open(file, O_RDWR) >= 0 && open("/dev/null", O_RDWR) < 0 && open(dir, O_RDONLY) < 0 &&
                    unlink(file) < 0;
        _exit(!good);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    unlink(file);
    rmdir(dir);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Every part of what a sealed block domain lives on. */
static long steady_work(void)
{
    char byte = 'x';
    struct timespec now, no_time = { 0 };
    struct pollfd p = { .fd = world.pipe[0], .events = POLLIN };
    if (write(world.pipe[1], &byte, 1) != 1 || ppoll(&p, 1, &no_time, NULL) != 1 ||
        read(world.pipe[0], &byte, 1) != 1 || syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now))
        return -1;
    char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, world.memfd, 0);
    if (m == MAP_FAILED)
        return -1;
    m[0] = 1;
    struct iovec iov = { &byte, 1 };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    /* Allowed, and answered by the kernel with an error: these are no sockets. */
    if (munmap(m, 4096) || sendmsg(world.pipe[0], &msg, 0) >= 0 || recvmsg(world.pipe[0], &msg, 0) >= 0)
        return -1;
    int word = 0;
    syscall(SYS_futex, &word, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0);
    return close(world.pipe[1]);
}

static void steady_work_goes_on(void **state)
{
    (void)state;
    int status = run(SEALED, HYP_CLASS_BLK, steady_work);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static long store_work(void)
{
    errno = 0;
    return accept4(world.pipe[0], NULL, NULL, 0) < 0 && errno == ENOTSOCK ? 0 : -1;
}

static long call_mmap(void)
{
    return mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
}

static void the_store_takes_clients_and_no_memory(void **state)
{
    (void)state;
    int status = run(SEALED, HYP_CLASS_STORE, store_work);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    status = run(SEALED, HYP_CLASS_BLK, call_mmap); /* the control: it may */
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    long (*const killers[])(void) = { call_mmap, call_open, call_ring_setup };
    for (size_t i = 0; i < sizeof(killers) / sizeof(killers[0]); i++) {
        status = run(SEALED, HYP_CLASS_STORE, killers[i]);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    }
}

static void *open_when_told(void *arg)
{
    char byte;
    (void)arg;
    if (read(world.pipe[0], &byte, 1) == 1)
        call_open();
    return NULL;
}

/* A thread from before the seal is under it, too. */
static long attack_from_old_thread(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, open_when_told, NULL))
        return -1;
    const char *step;
    if (jail_seal(HYP_CLASS_BLK, &step))
        return -1;
    struct timespec forever = { 5, 0 };
    if (write(world.pipe[1], "x", 1) != 1)
        return -1;
    ppoll(NULL, 0, &forever, NULL);
    return 0;
}

static void the_seal_binds_every_thread(void **state)
{
    (void)state;
    int status = run(FREE, HYP_CLASS_BLK, attack_from_old_thread);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

/* A stopped and continued sleeper wakes up in no call that is not allowed. */
static long sleep_long(void)
{
    struct timespec wait = { 1, 0 };
    return write(world.pipe[1], "x", 1) == 1 && ppoll(NULL, 0, &wait, NULL) == 0 ? 0 : -1;
}

static void stop_and_continue_is_survived(void **state)
{
    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        enter(SEALED, HYP_CLASS_BLK);
        leave(sleep_long() == 0 ? 0 : 1);
    }
    char byte;
    int status;
    assert_int_equal(read(world.pipe[0], &byte, 1), 1);
    kill(pid, SIGSTOP);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    kill(pid, SIGCONT);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void lists_are_short(void **state)
{
    (void)state;
    for (unsigned cls = 0; cls < HYP_CLASS_COUNT; cls++) {
        unsigned n = 0;
        const char *const *list = jail_syscalls((enum hyp_class)cls);
        if (list[0])
            printf("           class %u:", cls);
        for (; list[n]; n++)
            printf(" %s", list[n]);
        if (n)
            printf(" (%u)\n", n);
        assert_in_range(n, 0, cls == HYP_CLASS_NBD ? DOOR_LIMIT : STEADY_LIMIT);
    }
    assert_null(jail_syscalls((enum hyp_class)HYP_CLASS_COUNT)[0]);
    assert_null(jail_syscalls((enum hyp_class)~0u)[0]);
}

static void a_class_without_list_is_refused(void **state)
{
    (void)state;
    const char *step = NULL;
    assert_int_equal(jail_seal(HYP_CLASS_NATIVE, &step), -EINVAL);
    assert_non_null(step);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_attack_works_outside, setup, teardown),
        cmocka_unit_test_setup_teardown(confinement_stops_paths_and_code, setup, teardown),
        cmocka_unit_test_setup_teardown(the_seal_kills, setup, teardown),
        cmocka_unit_test_setup_teardown(arguments_are_limited, setup, teardown),
        cmocka_unit_test(confinement_leaves_the_paths_that_it_is_told),
        cmocka_unit_test_setup_teardown(steady_work_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(the_store_takes_clients_and_no_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(the_seal_binds_every_thread, setup, teardown),
        cmocka_unit_test_setup_teardown(stop_and_continue_is_survived, setup, teardown),
        cmocka_unit_test(lists_are_short),
        cmocka_unit_test(a_class_without_list_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
