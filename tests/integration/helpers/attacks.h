/* SPDX-License-Identifier: MIT */
/*
 * attacks.h - what a hostile driver domain would try.  The probe runs these
 * inside a jail, the test runs the same functions outside as controls.
 *
 * Each returns 0 when it got what it wanted, else a negative errno.
 */
#ifndef BULKHEAD_TESTS_ATTACKS_H
#define BULKHEAD_TESTS_ATTACKS_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <liburing.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../../hyp-shim/local/jail.h"
#include "../../../hyp-shim/local/proto.h"

#define COMMAND_FD (DOMAIN_FIRST_FD + 1)

/* How far the probe goes into the jail before it attacks. */
enum stage {
    OUTSIDE,  /* the control                                                 */
    LAUNCHED, /* only what the core took away before exec                    */
    CONFINED, /* and jail_confine()                                          */
    SEALED,   /* and jail_seal()                                             */
};

/* What there is to attack. */
struct targets {
    int32_t victim;       /* a process                                       */
    uint64_t secret;      /* address of a byte in it                         */
    char path[128];       /* a file that anybody may read                    */
    char new_path[128];   /* a file that root could make                     */
    char unix_path[100];  /* a listening socket                              */
    char abstract[100];   /* another, its name without the leading NUL       */
    uint16_t port;        /* a listening port of 127.0.0.1, network order    */
    uint32_t granter;
    uint32_t own_ref;     /* granted to the attacker                         */
    uint32_t rdonly_ref;  /* the same, for reading                           */
    uint32_t foreign_ref; /* granted to another domain                       */
};

/* What the attacker got before the jail closed. */
struct arms {
    struct hyp *hyp;
    int pool_fd;          /* behind own_ref                                  */
    int rdonly_fd;        /* behind rdonly_ref                               */
    char *page;           /* private, writable                               */
    struct io_uring *ring;
};

struct order {
    int32_t stage, attack;
    struct targets targets;
};

static inline int result(long r)
{
    return r < 0 ? -errno : 0;
}

/* -------------------------------------------------------------------- paths */

static int read_a_file(const struct targets *t, struct arms *a)
{
    (void)a;
    return result(open(t->path, O_RDONLY));
}

static int make_a_file(const struct targets *t, struct arms *a)
{
    (void)a;
    int fd = open(t->new_path, O_WRONLY | O_CREAT, 0600);
    if (fd >= 0)
        unlink(t->new_path);
    return result(fd);
}

static int open_the_root(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    return result(open("/", O_RDONLY | O_DIRECTORY));
}

/* ---------------------------------------------------------------- processes */

static int signal_a_process(const struct targets *t, struct arms *a)
{
    (void)a;
    return result(kill(t->victim, 0));
}

static int trace_a_process(const struct targets *t, struct arms *a)
{
    (void)a;
    return result(ptrace(PTRACE_SEIZE, t->victim, NULL, NULL));
}

static int read_a_process(const struct targets *t, struct arms *a)
{
    (void)a;
    char byte;
    struct iovec here = { &byte, 1 }, there = { (void *)(uintptr_t)t->secret, 1 };
    return result(process_vm_readv(t->victim, &here, 1, &there, 1, 0));
}

static int grip_a_process(const struct targets *t, struct arms *a)
{
    (void)a;
    return result(syscall(SYS_pidfd_open, t->victim, 0));
}

/* ------------------------------------------------------------------ sockets */

static int dial(int family, const void *addr, socklen_t bytes)
{
    int s = socket(family, SOCK_STREAM, 0);
    return s < 0 ? -errno : result(connect(s, addr, bytes));
}

static int dial_inet(const struct targets *t, struct arms *a)
{
    (void)a;
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = t->port,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    return dial(AF_INET, &to, sizeof(to));
}

static int dial_unix_path(const struct targets *t, struct arms *a)
{
    (void)a;
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    memcpy(to.sun_path, t->unix_path, sizeof(t->unix_path));
    return dial(AF_UNIX, &to, sizeof(to));
}

static int dial_unix_abstract(const struct targets *t, struct arms *a)
{
    (void)a;
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    size_t length = strnlen(t->abstract, sizeof(t->abstract));
    memcpy(to.sun_path + 1, t->abstract, length);
    return dial(AF_UNIX, &to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length));
}

/* ------------------------------------------------------------------- grants */

static int map_ref(const struct targets *t, struct arms *a, grant_ref_t ref)
{
    struct hyp_map *map;
    void *va;
    int err = hyp_map_open(a->hyp, (domid_t)t->granter, &map);
    return err ? err : hyp_map_grants(map, &ref, 1, 0, &va);
}

static int map_foreign_pool(const struct targets *t, struct arms *a)
{
    return map_ref(t, a, t->foreign_ref);
}

static int map_rdonly_for_writing(const struct targets *t, struct arms *a)
{
    return map_ref(t, a, t->rdonly_ref);
}

static int grow_pool(const struct targets *t, struct arms *a)
{
    (void)t;
    return result(ftruncate(a->pool_fd, 1 << 24));
}

/* The same with calls that are always allowed: reads up to the end, writes. */
static int grow_pool_by_writing(const struct targets *t, struct arms *a)
{
    (void)t;
    ssize_t n;
    while ((n = read(a->pool_fd, a->page, HYP_PAGE_SIZE)) > 0)
        ;
    return n < 0 ? -errno : result(write(a->pool_fd, a->page, 1));
}

static int shrink_pool(const struct targets *t, struct arms *a)
{
    (void)t;
    return result(ftruncate(a->pool_fd, 0));
}

static int write_rdonly_by_mapping(const struct targets *t, struct arms *a)
{
    (void)t;
    void *va = mmap(NULL, HYP_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, a->rdonly_fd, 0);
    return va == MAP_FAILED ? -errno : 0;
}

static int write_rdonly_by_call(const struct targets *t, struct arms *a)
{
    (void)t;
    return result(write(a->rdonly_fd, "x", 1));
}

static int write_rdonly_by_mprotect(const struct targets *t, struct arms *a)
{
    (void)t;
    void *va = mmap(NULL, HYP_PAGE_SIZE, PROT_READ, MAP_SHARED, a->rdonly_fd, 0);
    return va == MAP_FAILED ? -errno : result(mprotect(va, HYP_PAGE_SIZE, PROT_READ | PROT_WRITE));
}

/* --------------------------------------------------------------- privileges */

static int become_root(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    return result(syscall(SYS_setresuid, 0, 0, 0));
}

static int take_capabilities(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct all[_LINUX_CAPABILITY_U32S_3] = { { 0x1, 0x1, 0 }, { 0, 0, 0 } };
    return result(syscall(SYS_capset, &head, all));
}

static int mount_something(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    int err = result(unshare(CLONE_NEWNS)); /* outside: harms no one */
    return err ? err : result(mount("none", "/", "tmpfs", 0, NULL));
}

static int leave_the_root(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    return result(chroot("/"));
}

static int new_net_namespace(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    return result(unshare(CLONE_NEWNET));
}

static int new_user_namespace(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    return result(unshare(CLONE_NEWUSER));
}

/* ----------------------------------------------------------------- new code */

static int run_a_program(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    char *argv[] = { (char *)(uintptr_t)"true", NULL };
    return result(execve("/bin/true", argv, argv + 1));
}

static int map_code(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    void *va = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return va == MAP_FAILED ? -errno : 0;
}

static int write_code(const struct targets *t, struct arms *a)
{
    (void)t;
    return result(mprotect(a->page, HYP_PAGE_SIZE, PROT_READ | PROT_EXEC));
}

static int map_pool_as_code(const struct targets *t, struct arms *a)
{
    (void)t;
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, a->pool_fd, 0) == MAP_FAILED ? -errno : 0;
}

static int start_a_process(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        syscall(SYS_exit_group, 0);
    return result(pid);
}

/* ----------------------------------------------------------------- io_uring */

/* One request on the ring that was made before the seal, and its result. */
typedef void prepare_fn(struct io_uring_sqe *, const struct targets *, struct arms *);
static int ring_do(struct arms *a, prepare_fn *prepare, const struct targets *t)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(a->ring);
    struct io_uring_cqe *cqe;
    if (!sqe)
        return -EBUSY;
    prepare(sqe, t, a);
    int err = io_uring_submit_and_wait(a->ring, 1);
    if (err < 0 || io_uring_peek_cqe(a->ring, &cqe))
        return err < 0 ? err : -EIO;
    err = cqe->res < 0 ? cqe->res : 0;
    io_uring_cqe_seen(a->ring, cqe);
    return err;
}

static void prepare_open(struct io_uring_sqe *sqe, const struct targets *t, struct arms *a)
{
    (void)a;
    io_uring_prep_openat(sqe, AT_FDCWD, t->path, O_RDONLY, 0);
}

static void prepare_socket(struct io_uring_sqe *sqe, const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    memset(sqe, 0, sizeof(*sqe));
    sqe->opcode = 45; /* IORING_OP_SOCKET, Linux 5.19 */
    sqe->fd = AF_UNIX;
    sqe->off = SOCK_STREAM;
}

/* On a descriptor of its own instead of a registered file. */
static void prepare_read(struct io_uring_sqe *sqe, const struct targets *t, struct arms *a)
{
    (void)t;
    io_uring_prep_read(sqe, a->pool_fd, a->page, 1, 0);
}

static int ring_open(const struct targets *t, struct arms *a)
{
    return ring_do(a, prepare_open, t);
}

static int ring_socket(const struct targets *t, struct arms *a)
{
    return ring_do(a, prepare_socket, t);
}

static int ring_read_descriptor(const struct targets *t, struct arms *a)
{
    return ring_do(a, prepare_read, t);
}

static int ring_widen(const struct targets *t, struct arms *a)
{
    (void)t;
    struct io_uring_restriction all = { .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_OPENAT };
    return result(syscall(SYS_io_uring_register, a->ring->ring_fd, IORING_REGISTER_RESTRICTIONS, &all, 1));
}

static int ring_of_its_own(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    struct io_uring_params p = { 0 };
    return result(syscall(SYS_io_uring_setup, 4, &p));
}

/* -------------------------------------------------------------------- table */

struct attack {
    const char *what;
    int (*run)(const struct targets *, struct arms *);
    enum stage refused_from; /* and at every later stage */
};

static const struct attack attacks[] = {
    { "read a file", read_a_file, LAUNCHED },
    { "make a file", make_a_file, LAUNCHED },
    { "open its own root", open_the_root, CONFINED },
    { "signal a process", signal_a_process, LAUNCHED },
    { "trace a process", trace_a_process, LAUNCHED },
    { "read a process's memory", read_a_process, LAUNCHED },
    { "get a descriptor of a process", grip_a_process, LAUNCHED },
    { "connect by TCP", dial_inet, LAUNCHED },
    { "connect to a socket by path", dial_unix_path, LAUNCHED },
    { "connect to an abstract socket", dial_unix_abstract, LAUNCHED },
    { "map a pool granted to another", map_foreign_pool, LAUNCHED },
    { "map a read-only grant for writing", map_rdonly_for_writing, LAUNCHED },
    { "grow a pool", grow_pool, LAUNCHED },
    { "grow a pool by writing past its end", grow_pool_by_writing, LAUNCHED },
    { "shrink a pool", shrink_pool, LAUNCHED },
    { "write a read-only grant through a mapping", write_rdonly_by_mapping, LAUNCHED },
    { "write a read-only grant with a call", write_rdonly_by_call, LAUNCHED },
    { "write a read-only grant after mprotect", write_rdonly_by_mprotect, LAUNCHED },
    { "become root", become_root, LAUNCHED },
    { "take a capability", take_capabilities, LAUNCHED },
    { "mount", mount_something, LAUNCHED },
    { "chroot", leave_the_root, LAUNCHED },
    { "enter a new net namespace", new_net_namespace, LAUNCHED },
    { "enter a new user namespace", new_user_namespace, SEALED },
    { "run a program", run_a_program, LAUNCHED },
    { "map executable memory", map_code, SEALED },
    { "make written memory executable", write_code, CONFINED },
    { "map a pool executable", map_pool_as_code, SEALED },
    { "start a process", start_a_process, SEALED },
    { "open a file by io_uring", ring_open, LAUNCHED },
    { "make a socket by io_uring", ring_socket, LAUNCHED },
    { "use an unregistered file by io_uring", ring_read_descriptor, LAUNCHED },
    { "widen a ring's restrictions", ring_widen, LAUNCHED },
    { "make a ring of its own", ring_of_its_own, SEALED },
};
#define ATTACKS (sizeof(attacks) / sizeof(attacks[0]))

#endif
