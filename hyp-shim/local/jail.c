/* SPDX-License-Identifier: MIT */
#include "jail.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the build machine's headers may be; numbers are the kernel's ABI. */
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif
#define MDWE_REFUSE_EXEC_GAIN 1ul

/* ------------------------------------------------------ steady allow-lists */

/* clang-format off */
static const char *const blk_syscalls[] = {
    "ppoll", "read", "write", "recvmsg", "sendmsg", /* doorbells, core, store  */
    "io_uring_enter", "io_uring_register",          /* the device              */
    "mmap", "munmap", "close",                      /* pools come and go       */
    "epoll_ctl",                                    /* a store that came again */
    "lseek", "ioctl",                               /* how big is the device   */
    "futex", "clock_gettime", "rt_sigreturn", "exit_group", NULL,
};

static const char *const store_syscalls[] = {
    "ppoll", "recvmsg", "sendmsg",     /* clients                     */
    "accept4", "getsockopt", "close",  /* who is it: SO_PEERCRED      */
    "clock_gettime", "rt_sigreturn", "exit_group", NULL,
};
/* nbdkit has a thread for each connection and request slot, and a heap. */
static const char *const nbd_syscalls[] = {
    "ppoll", "poll", "epoll_wait", "epoll_ctl",                                   /* who has news         */
    "read", "write", "recvmsg", "sendmsg", "recvfrom", "sendto",                  /* clients, core, store */
    "accept4", "getsockopt", "setsockopt", "shutdown", "pipe2", "close",          /* a client comes, goes */
    "clone3", "set_robust_list", "rseq", "rt_sigprocmask", "madvise", "exit",     /* a thread comes, goes */
    "mmap", "munmap", "mprotect", "mremap", "brk",                                /* pool, stacks, heap   */
    "ioctl",                                                                      /* its log: isatty()    */
    "futex", "clock_gettime", "rt_sigreturn", "exit_group",
    "restart_syscall", NULL, /* a timed poll() goes on after SIGSTOP and SIGCONT */
};
/* DPDK waits in poll() where we would in ppoll(); its interrupt thread sits in epoll_wait(). */
static const char *const net_syscalls[] = {
    "ppoll", "read", "write", "recvmsg", "sendmsg", /* doorbells, core, store, keeper */
    "sendto", "recvfrom", "poll",                   /* net_af_packet, net_af_xdp      */
    "readv", "writev",                              /* net_tap                        */
    "epoll_wait",                                   /* EAL's interrupt thread         */
    "setsockopt",                                   /* its uplink's filter goes       */
    "epoll_ctl",                                    /* a store that came again        */
    "mmap", "munmap", "close",                      /* pools come and go              */
    "futex", "clock_gettime", "rt_sigreturn", "exit_group",
    "restart_syscall", NULL, /* a timed poll() goes on after SIGSTOP and SIGCONT */
};

static const char *const tap_syscalls[] = {
    "ppoll", "poll", "epoll_wait", "epoll_ctl",     /* who has news                   */
    "read", "write", "recvmsg", "sendmsg",          /* doorbells, core, store         */
    "readv", "writev",                              /* packets and their header       */
    "mmap", "munmap", "close",                      /* pools come and go              */
    "rt_sigprocmask", "madvise", "exit",            /* the control thread, at the end */
    "futex", "clock_gettime", "rt_sigreturn", "exit_group",
    "restart_syscall", NULL, /* a timed poll() goes on after SIGSTOP and SIGCONT */
};

/* Devices come and go as long as it lives; their threads were all made before. */
static const char *const vhost_syscalls[] = {
    "ppoll", "poll", "epoll_wait", "epoll_ctl",     /* who has news                   */
    "read", "write", "recvmsg", "sendmsg",          /* doorbells, core, store, VMM    */
    "accept4", "mmap", "munmap", "close",           /* a VMM comes, with its memory   */
    "epoll_create1", "eventfd2", "brk", "madvise",  /* a device is plugged in         */
    "futex", "clock_gettime", "rt_sigreturn", "exit_group",
    "restart_syscall", NULL, /* a timed poll() goes on after SIGSTOP and SIGCONT */
};

/* The keeper of network interfaces makes namespaces, sockets and TAP devices as
 * long as it lives: it is root with three capabilities, and this is all of root
 * that it has. */
static const char *const netdev_syscalls[] = {
    "ppoll", "read", "recvmsg", "sendmsg", "write", /* toolstack, kernel, domains, its log */
    "unshare", "setns",                             /* an uplink's namespace, a guest's    */
    "openat",                                       /* what jail_confine_to() left         */
    "socket", "bind", "shutdown", "ioctl", "bpf",   /* what a driver domain gets           */
    "setsockopt",                                   /* and where it gets nothing yet       */
    "close", "exit_group", NULL,
};
/* clang-format on */

/* A class that is absent here has no steady state of its own. */
static const char *const *const steady[HYP_CLASS_COUNT] = {
    [HYP_CLASS_STORE] = store_syscalls,
    [HYP_CLASS_BLK] = blk_syscalls,
    [HYP_CLASS_NBD] = nbd_syscalls,
    [HYP_CLASS_NET] = net_syscalls,
    [HYP_CLASS_TAP] = tap_syscalls,
    [HYP_CLASS_NETDEV] = netdev_syscalls,
    [HYP_CLASS_VHOST] = vhost_syscalls,
};

const char *const *jail_syscalls(enum hyp_class cls)
{
    static const char *const none[] = { NULL };
    const char *const *list = (unsigned)cls < HYP_CLASS_COUNT ? steady[cls] : NULL;
    return list ? list : none;
}

/* --------------------------------------------------------- before threads */

/*
 * Landlock's rights by ABI version (linux: Documentation/userspace-api/
 * landlock.rst).  A ruleset that handles a right and has no rule denies it.
 */
struct ruleset {
    uint64_t fs, net, scoped;
};

static const struct {
    int abi;
    struct ruleset adds;
    size_t bytes; /* of the struct that this ABI knows */
} landlock_abis[] = {
    { 1, { .fs = (1ull << 13) - 1 }, 8 },   /* execute .. make_sym           */
    { 2, { .fs = 1ull << 13 }, 8 },         /* refer                         */
    { 3, { .fs = 1ull << 14 }, 8 },         /* truncate                      */
    { 4, { .net = 3 }, 16 },                /* bind_tcp, connect_tcp         */
    { 5, { .fs = 1ull << 15 }, 16 },        /* ioctl_dev                     */
    { 6, { .scoped = 3 }, 24 },             /* abstract unix socket, signal  */
};

static int landlock_abi(void)
{
    return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

#define IOCTL_DEV (1ull << 15)
#define OPEN_RIGHTS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | IOCTL_DEV)

static int allow_paths(int ruleset, uint64_t rights, const int *paths, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct landlock_path_beneath_attr rule = { .allowed_access = rights, .parent_fd = paths[i] };
        if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
            return -errno;
    }
    return 0;
}

/* Every path but those. */
static int deny_paths(const int *but, unsigned n)
{
    int abi = landlock_abi();
    if (abi < 1)
        return 0;
    struct ruleset deny_all = { 0 };
    size_t bytes = 0;
    for (size_t i = 0; i < sizeof(landlock_abis) / sizeof(landlock_abis[0]); i++) {
        if (landlock_abis[i].abi > abi)
            break;
        deny_all.fs |= landlock_abis[i].adds.fs;
        deny_all.net |= landlock_abis[i].adds.net;
        deny_all.scoped |= landlock_abis[i].adds.scoped;
        bytes = landlock_abis[i].bytes;
    }
    int fd = (int)syscall(SYS_landlock_create_ruleset, &deny_all, bytes, 0);
    if (fd < 0)
        return -errno;
    int err = allow_paths(fd, deny_all.fs & OPEN_RIGHTS, but, n);
    if (err == 0 && syscall(SYS_landlock_restrict_self, fd, 0))
        err = -errno;
    close(fd);
    return err;
}

unsigned jail_features(void)
{
    return (landlock_abi() >= 1 ? JAIL_LANDLOCK : 0) |
           (prctl(PR_GET_MDWE, 0ul, 0ul, 0ul, 0ul) >= 0 ? JAIL_MDWE : 0);
}

static int no_new_privileges(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1ul, 0ul, 0ul, 0ul) ? -errno : 0;
}

/* No core dump, no ptrace, no /proc/PID/mem by others of our uid. */
static int not_dumpable(void)
{
    return prctl(PR_SET_DUMPABLE, 0ul, 0ul, 0ul, 0ul) ? -errno : 0;
}

static int no_new_code(void)
{
    if (!(jail_features() & JAIL_MDWE))
        return 0;
    return prctl(PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN, 0ul, 0ul, 0ul) ? -errno : 0;
}

int jail_confine_to(const int *paths, unsigned npaths, const char **step)
{
    *step = "no new privileges";
    int err = no_new_privileges();
    if (err)
        return err;
    *step = "not dumpable";
    err = not_dumpable();
    if (err)
        return err;
    *step = "Landlock";
    err = deny_paths(paths, npaths);
    if (err)
        return err;
    *step = "memory-deny-write-execute";
    return no_new_code();
}

int jail_confine(const char **step)
{
    return jail_confine_to(NULL, 0, step);
}

/* ----------------------------------------------------------------- seccomp */

#define FILTER_MAX 256 /* BPF instructions */

/* A call with limits on its arguments: one rule each; any of the class may match. */
static const struct limit {
    const char *name;
    struct scmp_arg_cmp arg[2]; /* the second one with op 0: there is none */
    enum hyp_class only;        /* 0: every class that has the call        */
} limits[] = {
    { "mmap", { { 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0 } }, 0 },
    { "mprotect", { { 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0 } }, 0 },
    { "ioctl", { { 1, SCMP_CMP_EQ, BLKSSZGET, 0 } }, HYP_CLASS_BLK },
    { "ioctl", { { 1, SCMP_CMP_EQ, BLKPBSZGET, 0 } }, HYP_CLASS_BLK },
    { "ioctl", { { 1, SCMP_CMP_EQ, TCGETS, 0 } }, HYP_CLASS_NBD }, /* isatty(), before each line of a log */
    /* To where its socket is bound, and nowhere else. */
    { "sendto", { { 4, SCMP_CMP_EQ, 0, 0 } }, 0 },
    { "unshare", { { 0, SCMP_CMP_EQ, CLONE_NEWNET, 0 } }, HYP_CLASS_NETDEV },
    { "setns", { { 1, SCMP_CMP_EQ, CLONE_NEWNET, 0 } }, HYP_CLASS_NETDEV },
    { "bpf", { { 0, SCMP_CMP_EQ, BPF_MAP_CREATE, 0 } }, HYP_CLASS_NETDEV },
    { "bpf", { { 0, SCMP_CMP_EQ, BPF_PROG_LOAD, 0 } }, HYP_CLASS_NETDEV },
    { "socket", { { 0, SCMP_CMP_EQ, AF_INET, 0 } }, HYP_CLASS_NETDEV },
    { "socket", { { 0, SCMP_CMP_EQ, AF_NETLINK, 0 } }, HYP_CLASS_NETDEV },
    { "socket", { { 0, SCMP_CMP_EQ, AF_PACKET, 0 } }, HYP_CLASS_NETDEV },
    { "socket", { { 0, SCMP_CMP_EQ, AF_XDP, 0 } }, HYP_CLASS_NETDEV },
    { "ioctl", { { 1, SCMP_CMP_EQ, SIOCGSKNS, 0 } }, HYP_CLASS_NETDEV }, /* the namespace it is in      */
    { "ioctl", { { 1, SCMP_CMP_EQ, SIOCETHTOOL, 0 } }, HYP_CLASS_NETDEV },
    { "ioctl", { { 1, SCMP_CMP_EQ, TUNSETIFF, 0 } }, HYP_CLASS_NETDEV },
    /* An uplink's sockets take no frame before their driver domain serves. */
    { "setsockopt", { { 1, SCMP_CMP_EQ, SOL_SOCKET, 0 }, { 2, SCMP_CMP_EQ, SO_ATTACH_FILTER, 0 } },
      HYP_CLASS_NETDEV },
    { "setsockopt", { { 1, SCMP_CMP_EQ, SOL_SOCKET, 0 }, { 2, SCMP_CMP_EQ, SO_DETACH_FILTER, 0 } },
      HYP_CLASS_NET },
    { "setsockopt", { { 0, SCMP_CMP_GE, 0, 0 } }, HYP_CLASS_NBD }, /* nbdkit's own affair */
    /* A restricted ring refuses most operations itself, but some need no ring. */
    { "io_uring_register", { { 1, SCMP_CMP_EQ, IORING_REGISTER_BUFFERS_UPDATE, 0 } }, 0 },
};

static int allow(scmp_filter_ctx filter, enum hyp_class cls, const char *name)
{
    int nr = seccomp_syscall_resolve_name(name);
    if (nr == __NR_SCMP_ERROR)
        return -EINVAL;
    bool limited = false;
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        if (strcmp(limits[i].name, name) != 0)
            continue;
        limited = true;
        if (limits[i].only && limits[i].only != cls)
            continue;
        const struct scmp_arg_cmp *arg = limits[i].arg;
        int err = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, nr, arg[1].op ? 2 : 1, arg);
        if (err)
            return err;
    }
    return limited ? 0 : seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, nr, 0, NULL);
}

/* The program that the kernel runs for each call, out of libseccomp's hands:
 * what that would free after loading might reach a call that kills. */
static int export(scmp_filter_ctx filter, struct sock_filter *program, unsigned short *length)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int err = seccomp_export_bpf(filter, fd);
    ssize_t n = err ? 0 : pread(fd, program, FILTER_MAX * sizeof(*program) + 1, 0);
    close(fd);
    if (err)
        return err;
    if (n <= 0 || (size_t)n > FILTER_MAX * sizeof(*program) || (size_t)n % sizeof(*program))
        return n < 0 ? -errno : -E2BIG;
    *length = (unsigned short)((size_t)n / sizeof(*program));
    return 0;
}

static int compile(enum hyp_class cls, struct sock_filter *program, unsigned short *length,
                   const char **step)
{
    const char *const *list = jail_syscalls(cls);
    *step = "seccomp: init";
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return -ENOMEM;
    int err = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    for (; err == 0 && *list; list++) {
        *step = *list;
        err = allow(filter, cls, *list);
    }
    if (err == 0) {
        *step = "seccomp: export";
        err = export(filter, program, length);
    }
    seccomp_release(filter);
    return err;
}

int jail_seal(enum hyp_class cls, const char **step)
{
    *step = "seccomp: this class has no allow-list";
    if (!*jail_syscalls(cls))
        return -EINVAL;
    struct sock_filter program[FILTER_MAX + 1];
    struct sock_fprog prog = { .filter = program };
    int err = compile(cls, program, &prog.len, step);
    if (err)
        return err;
    *step = "seccomp: no new privileges";
    err = no_new_privileges();
    if (err)
        return err;
    *step = "seccomp: load";
    long rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog);
    /* Above 0: the number of a thread that has a filter of its own. */
    return rc < 0 ? -errno : rc > 0 ? -ESRCH : 0;
}
