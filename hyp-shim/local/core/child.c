/* SPDX-License-Identifier: MIT */
/*
 * What a new process does to itself, from clone to exec.  It starts as root
 * with everything that the core has, and gives it up step by step, in an order
 * in which each step still has what it needs.  A step that fails ends it.
 */
#include "core.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

/* Where descriptors stand while the others are put in their places. */
#define CHILD_SOCK    (DOMAIN_FIRST_FD + HYP_FDS_MAX)
#define CHILD_PROGRAM (CHILD_SOCK + 1)
#define CHILD_ABOVE   (CHILD_PROGRAM + 1)

static int result(long r)
{
    return r < 0 ? -errno : 0;
}

/* ----------------------------------------------------------------- descriptors */

/* Puts every descriptor in its place and closes all others.  All are copied
 * upwards first, so that none is overwritten before it was copied down. */
static int put_descriptors(const struct child *c, int sock)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const struct { int from, to, flags; } places[] = {
        { null, STDIN_FILENO, 0 },
        { null, STDOUT_FILENO, 0 },
        { c->how->log_fd, STDERR_FILENO, 0 },
        { c->how->core_fd, DOMAIN_CORE_FD, 0 },
        { c->how->store_fd, DOMAIN_STORE_FD, 0 },
        { sock, CHILD_SOCK, O_CLOEXEC },
        { c->how->program_fd, CHILD_PROGRAM, O_CLOEXEC },
    };
    const unsigned n = sizeof(places) / sizeof(places[0]);
    int copies[sizeof(places) / sizeof(places[0]) + HYP_FDS_MAX];
    for (unsigned i = 0; i < n + c->how->nfds; i++) {
        copies[i] = fcntl(i < n ? places[i].from : c->how->fds[i - n], F_DUPFD_CLOEXEC, CHILD_ABOVE);
        if (copies[i] < 0)
            return -errno;
    }
    for (unsigned i = 0; i < n + c->how->nfds; i++) {
        int to = i < n ? places[i].to : DOMAIN_FIRST_FD + (int)(i - n);
        if (dup3(copies[i], to, i < n ? places[i].flags : 0) < 0)
            return -errno;
    }
    unsigned free_from = DOMAIN_FIRST_FD + c->how->nfds;
    if (free_from < CHILD_SOCK && close_range(free_from, CHILD_SOCK - 1, 0) < 0)
        return -errno;
    return result(close_range(CHILD_ABOVE, ~0u, 0));
}

/* Nothing of the session that the core was started in. */
static int step_session(const struct child *c)
{
    (void)c;
    sigset_t none;
    sigemptyset(&none);
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL); /* refused for those that have no other way */
    umask(077);
    setsid();
    return result(sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -1 : setgroups(0, NULL));
}

static int step_namespaces(const struct child *c)
{
    int machine = c->cls->capabilities ? 0 : CLONE_NEWNS | CLONE_NEWNET;
    if (unshare(machine | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0)
        return -errno;
    return result(sethostname("domain", 6));
}

/* ------------------------------------------------------------------------ root */

/* Makes the folders of a path below the working directory. */
static int folders(const char *path)
{
    char part[HYP_PATH_MAX];
    for (size_t i = 0; i < sizeof(part); i++) {
        if ((path[i] == '/' || path[i] == '\0') && i > 0) {
            part[i] = '\0';
            if (mkdir(part, 0755) < 0 && errno != EEXIST)
                return -errno;
        }
        if (path[i] == '\0')
            return 0;
        part[i] = path[i];
    }
    return -ENAMETOOLONG;
}

/* Shows one folder, or device, of the host, read-only, at its place below the
 * working directory.  One that the host does not have is left out. */
static int show(const char *path, bool device)
{
    struct stat st;
    char target[HYP_PATH_MAX];
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        target[n < 0 ? 0 : n] = '\0';
        return result(n < 0 ? n : symlink(target, path + 1));
    }
    int error = folders(device ? "dev" : path + 1);
    if (error == 0 && device)
        error = result(mknod(path + 1, S_IFREG | 0444, 0));
    int tree = error ? -1 : open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (tree < 0)
        return error ? error : -errno;
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
                               .propagation = MS_PRIVATE };
    if (device) {
        attr.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
        attr.attr_clr = MOUNT_ATTR_NODEV;
    }
    if (mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0 ||
        move_mount(tree, "", AT_FDCWD, path + 1, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        error = -errno;
    close(tree);
    return error;
}

/* Programs and libraries of the host, nothing else of it, and /dev/null. */
static int show_host(const char *libexec)
{
    static const char *const trees[] = { "/usr", "/lib", "/lib64", "/bin", "/sbin" };
    int error = show(libexec, false); /* first: it may lie below one of the trees */
    for (unsigned i = 0; i < sizeof(trees) / sizeof(trees[0]) && error == 0; i++)
        error = show(trees[i], false);
    return error ? error : show("/dev/null", true);
}

/*
 * A new, read-only root: empty but for what the class may see.  The mount
 * namespace belongs to the machine's user namespace and so no one inside has,
 * or can get, a right over it.
 */
static int step_root(const struct child *c)
{
    const char *above = "/proc"; /* any folder that every host has */
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (c->cls->capabilities)
        return 0;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("domain", above, "tmpfs", flags, "size=64k,nr_inodes=64,mode=755") < 0 || chdir(above) < 0)
        return -errno;
    umask(0);
    int error = c->cls->host_files ? show_host(c->libexec) : 0;
    umask(077);
    if (error)
        return error;
    if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return -errno;
    return result(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL));
}

/* ---------------------------------------------------------------------- limits */

#define MEMLOCK_BYTES (UINT64_C(1) << 30) /* registered buffers count here */

static int step_limits(const struct child *c)
{
    const struct { __rlimit_resource_t what; uint64_t to; } limits[] = {
        { RLIMIT_CORE, 0 },
        { RLIMIT_MSGQUEUE, 0 },
        { RLIMIT_NOFILE, c->cls->files },
        { RLIMIT_NPROC, c->cls->tasks },
        { RLIMIT_DATA, c->how->memory },
        { RLIMIT_MEMLOCK, MEMLOCK_BYTES },
    };
    for (unsigned i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        struct rlimit r = { limits[i].to, limits[i].to };
        if (setrlimit(limits[i].what, &r) == 0)
            continue;
        if (errno != EPERM || getrlimit(limits[i].what, &r) < 0)
            return -errno;
        r.rlim_cur = r.rlim_max; /* all that this machine lets us give */
        if (setrlimit(limits[i].what, &r) < 0)
            return -errno;
    }
    return 0;
}

static int step_affinity(const struct child *c)
{
    const uint64_t *cpus = &c->how->cpus;
    return *cpus ? result(syscall(SYS_sched_setaffinity, 0, sizeof(*cpus), cpus)) : 0;
}

/* -------------------------------------------------------------------- identity */

static int step_user_namespace(const struct child *c)
{
    if (!c->cls->user_namespace)
        return 0;
    if (unshare(CLONE_NEWUSER) < 0)
        return -errno;
    struct launch_message m = { .step = LAUNCH_MAP };
    if (send(CHILD_SOCK, &m, sizeof(m), MSG_NOSIGNAL) < 0)
        return -errno;
    ssize_t n = recv(CHILD_SOCK, &m, sizeof(m), 0);
    return n == (ssize_t)sizeof(m) && m.step == LAUNCH_MAP ? 0 : -ECANCELED;
}

/* No program, whatever its file says, can have another capability again. */
static int step_bounding_set(const struct child *c)
{
    unsigned long root = c->cls->capabilities ? 0 : SECBIT_NOROOT; /* exec leaves root its bounding set */
    for (unsigned long cap = 0; cap < 64; cap++) {
        if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) < 0)
            break; /* past the last one of this kernel */
        if (!(c->cls->capabilities >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return -errno;
    }
    return result(prctl(PR_SET_SECUREBITS, root | SECBIT_NOROOT_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                        SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED, 0, 0, 0));
}

static int step_identity(const struct child *c)
{
    if (setresgid(c->id, c->id, c->id) < 0 || setresuid(c->id, c->id, c->id) < 0)
        return -errno;
    /* Out of the core's keyring.  A container may forbid keys altogether. */
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS && errno != EPERM)
        return -errno;
    return 0;
}

static int step_capabilities(const struct child *c)
{
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct kept[_LINUX_CAPABILITY_U32S_3];
    memset(kept, 0, sizeof(kept));
    for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        kept[i].effective = kept[i].permitted = (uint32_t)(c->cls->capabilities >> (32 * i));
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 || syscall(SYS_capset, &head, kept) < 0)
        return -errno;
    return result(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

/* The kernel forgets this wish when the uid changes, hence after it.  The core
 * may have died before: then nobody holds the other end of our socket.  The
 * keeper ends by itself, after it gave back what is the machine's. */
static int step_die_with_the_core(const struct child *c)
{
    if (!c->cls->capabilities && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return -errno;
    char byte;
    return recv(CHILD_SOCK, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0 ? -ECANCELED : 0;
}

#define CHILD_ENV_LIBEXEC "BULKHEAD_LIBEXEC="

static int step_exec(const struct child *c)
{
    char where[sizeof(CHILD_ENV_LIBEXEC) + HYP_PATH_MAX];
    const char *argv[] = { c->cls->program, c->name, NULL };
    const char *env[] = { HYP_ENV_FDS "=3,4", NULL, NULL, NULL };
    /* Who sees the machine's files also has to know which of them are ours. */
    if (c->cls->host_files) {
        snprintf(where, sizeof(where), CHILD_ENV_LIBEXEC "%s", c->libexec);
        env[1] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
        env[2] = where;
    }
    return result(syscall(SYS_execveat, CHILD_PROGRAM, "", argv, env, AT_EMPTY_PATH));
}

static const struct {
    const char *name;
    int (*run)(const struct child *c);
} steps[] = {
    { "leave its session and groups", step_session },
    { "enter its namespaces", step_namespaces },
    { "enter its root directory", step_root },
    { "set its limits", step_limits },
    { "run on the CPUs that it was given", step_affinity },
    { "enter its user namespace", step_user_namespace },
    { "empty its capability bounding set", step_bounding_set },
    { "change to its uid", step_identity },
    { "drop its capabilities", step_capabilities },
    { "tie its life to the core's", step_die_with_the_core },
    { "run its program", step_exec },
};

const char *child_step_name(int step)
{
    bool known = step >= 0 && (size_t)step < sizeof(steps) / sizeof(steps[0]);
    return known ? steps[step].name : "put its descriptors in place";
}

_Noreturn void child_run(const void *child, int sock)
{
    struct launch_message m = { .step = -1 };
    m.error = put_descriptors(child, sock);
    while (m.error == 0 && ++m.step < (int)(sizeof(steps) / sizeof(steps[0])))
        m.error = steps[m.step].run(child);
    rights_send(m.step < 0 ? sock : CHILD_SOCK, &m, sizeof(m), NULL, 0);
    _exit(126);
}

/* --------------------------------------------------------------- device opener */

#define CLAIM_TRIES   2000
#define CLAIM_WAIT_US 1000

/*
 * A block device is claimed as well (O_EXCL), or it could be mounted or opened by
 * another path meanwhile.  A claim that another has is refused, where a lock is
 * waited for: so first the lock, by an open that claims nothing, then the claim.
 * One who dies gives the lock a moment before the claim; anyone else who has the
 * claim then is a stranger.  The lock moves to the open that has the claim: when
 * another who waits is faster, it is the other's turn.
 */
static int device_claim(const char *path, int flags)
{
    int gate = open(path, O_RDONLY | O_CLOEXEC);
    if (gate < 0)
        return -errno;
    for (unsigned busy = 0; busy < CLAIM_TRIES;) {
        int fd = flock(gate, LOCK_EX) < 0 ? -1 : open(path, flags | O_EXCL);
        if (fd >= 0) {
            flock(gate, LOCK_UN);
            if (flock(fd, LOCK_EX | LOCK_NB) == 0)
                return fd;
            close(fd);
        } else if (errno != EBUSY) {
            return -errno;
        } else {
            busy++;
            usleep(CLAIM_WAIT_US);
        }
    }
    return -EBUSY;
}

/*
 * Looks before it opens: opening some things has effects, or waits for ever.  No
 * signal has a handler here: a lock is waited for until it comes.
 *
 * OPENER_BY_THREADS: all that is done to this file is done by threads of the process
 * that has it, before they end: reads and writes of the page cache of a local
 * file system, io_uring's workers included, which are threads of the process.
 * Nothing of it is left when the process is dead, although the kernel keeps the
 * description open for up to two ticks more (a put in a kernel thread is a delayed
 * one).  Not so direct I/O, block devices, and file systems that ask someone else
 * (FUSE, NFS): there only the end of the description proves it.
 */
static int device_open(const struct core_call_assign *how, int32_t *kind)
{
    struct stat st;
    struct statfs fs;
    int place = open(how->path, O_PATH | O_CLOEXEC);
    if (place < 0 || fstat(place, &st) < 0 || fstatfs(place, &fs) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return -ENOTBLK;
    bool rdonly = how->flags & HYP_DEVICE_RDONLY;
    int flags = O_CLOEXEC | (rdonly ? O_RDONLY : O_RDWR) | (how->flags & HYP_DEVICE_DIRECT ? O_DIRECT : 0);
    if (S_ISREG(st.st_mode) && !(flags & O_DIRECT) &&
        (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC || fs.f_type == TMPFS_MAGIC))
        *kind = OPENER_BY_THREADS;
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", place);
    if (S_ISBLK(st.st_mode) && !rdonly)
        return device_claim(path, flags);
    int fd = open(path, flags);
    return fd < 0 ? -errno : fd;
}

_Noreturn void child_open_device(const void *assign, int sock)
{
    if (dup2(sock, STDIN_FILENO) < 0 || close_range(1, ~0u, 0) < 0 ||
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        _exit(126); /* the core takes it for an I/O error */
    int32_t said = 0;
    bool sent = false;
    int fd = device_open(assign, &said);
    /* The core may lock this one too, the lock being the description's, and does so when
     * the owner before is dead: nobody needs this process to wake then. */
    const struct sched_param idle = { .sched_priority = 0 };
    if (fd >= 0 && said && flock(fd, LOCK_EX | LOCK_NB) < 0)
        sent = rights_send(STDIN_FILENO, &said, sizeof(said), &fd, 1) == 0 &&
               sched_setscheduler(0, SCHED_IDLE, &idle) == 0;
    said = fd < 0 ? fd : flock(fd, LOCK_EX) < 0 ? -errno : said | OPENER_LOCKED;
    _exit(rights_send(STDIN_FILENO, &said, sizeof(said), &fd, fd >= 0 && !sent) < 0);
}
