/* SPDX-License-Identifier: MIT */
/*
 * core_rig.h - a core inside a test, with processes that are none.
 *
 * A process of the rig is a pipe: the core's "pidfd" is its end to read, and
 * the process is dead when the other end is closed.  What the process would
 * have inherited is kept for the test to use.
 *
 * Devices: a path that begins with "/ok" opens, "/hang" does not come to an
 * end, anything else is -ENOENT.
 *
 * One rig at a time.  rig_stop() gives every descriptor back.
 */
#ifndef BULKHEAD_TESTS_CORE_RIG_H
#define BULKHEAD_TESTS_CORE_RIG_H

#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "../hyp-shim/local/core/core.h"

#define RIG_PROCESSES 2048

struct rig_process {
    int pidfd; /* the core's; 0: unused entry                                  */
    int life;  /* closing it is death; -1 dead                                 */
    int core, store; /* its ends; or -1                                        */
    int extra; /* its first other one; of an opener that hangs: its end; or -1 */
    dev_t program; /* a device file, in this rig                               */
};

static struct {
    struct core core;
    int toolstack;       /* our end of its calls                               */
    int shared;          /* what devices named /shared are; 0: not made yet    */
    int store_control;   /* what the core tells the store                      */
    struct sockaddr_un adopt; /* where the next toolstack connects             */
    socklen_t adopt_bytes;
    unsigned nprocesses;
    struct rig_process processes[RIG_PROCESSES];
    bool launch_fails;
} rig;

static char rig_libexec[64];
static struct store_living rig_living; /* the first word to the last store         */

static inline struct rig_process *rig_process(int pidfd)
{
    for (unsigned i = 0; i < rig.nprocesses; i++)
        if (rig.processes[i].pidfd == pidfd && rig.processes[i].life >= 0)
            return &rig.processes[i];
    return NULL;
}

static inline void rig_die(struct rig_process *p)
{
    if (rig.store_control == p->core)
        rig.store_control = -1;
    core_close(&p->life);
    core_close(&p->core);
    core_close(&p->store);
    core_close(&p->extra);
}

/* Entries of the dead are used again. */
static inline struct rig_process *rig_spawn(int *pidfd)
{
    int ends[2];
    struct rig_process *p = NULL;
    for (unsigned i = 0; i < rig.nprocesses && !p; i++)
        if (rig.processes[i].life < 0)
            p = &rig.processes[i];
    if (!p && rig.nprocesses < RIG_PROCESSES)
        p = &rig.processes[rig.nprocesses++];
    if (!p || pipe2(ends, O_CLOEXEC) < 0)
        return NULL;
    *p = (struct rig_process){ ends[0], ends[1], -1, -1, -1, 0 };
    *pidfd = ends[0];
    return p;
}

static inline int rig_copy(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static int rig_launch(struct core *core, struct domain *d, const struct launch *how)
{
    (void)core;
    struct rig_process *p = rig.launch_fails ? NULL : rig_spawn(&d->pidfd);
    if (!p)
        return -EAGAIN;
    struct stat st;
    p->program = fstat(how->program_fd, &st) == 0 ? st.st_rdev : 0;
    p->core = rig_copy(how->core_fd);
    p->store = rig_copy(how->store_fd);
    p->extra = how->nfds > 0 ? rig_copy(how->fds[0]) : -1;
    d->pid = 1;
    return 0;
}

static void rig_launch_step(struct core *core, struct domain *d)
{
    (void)core;
    (void)d;
}

static int rig_kill(int pidfd)
{
    struct rig_process *p = rig_process(pidfd);
    if (p)
        rig_die(p);
    return 0;
}

static int rig_reap(int pidfd, int *status)
{
    if (rig_process(pidfd))
        return 0;
    *status = 9;
    return 1;
}

/* A fresh open of what all devices named /shared are. */
static int rig_open_shared(void)
{
    char path[32];
    if (rig.shared <= 0)
        rig.shared = memfd_create("shared", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", rig.shared);
    return open(path, O_RDWR | O_CLOEXEC);
}

static int rig_open_device(const struct core_call_assign *how, int *sock, int *pidfd)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    struct rig_process *p = rig_spawn(pidfd);
    *sock = pair[0];
    if (p && strncmp(how->path, "/hang", 5) == 0) {
        p->extra = pair[1];
        return 0;
    }
    bool shared = strncmp(how->path, "/shared", 7) == 0;
    bool threads = shared || strncmp(how->path, "/threads", 8) == 0;
    int32_t said = threads ? OPENER_LOCKED | OPENER_BY_THREADS
                           : strncmp(how->path, "/ok", 3) == 0 ? OPENER_LOCKED : -ENOENT;
    int fd = said < 0 ? -1 : shared ? rig_open_shared() : memfd_create("device", MFD_CLOEXEC);
    bool waits = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
    if (waits)
        said &= ~OPENER_LOCKED;
    rights_send(pair[1], &said, sizeof(said), &fd, fd >= 0);
    core_close(&fd);
    if (p && waits) {
        p->extra = pair[1];
        return 0;
    }
    core_close(&pair[1]);
    if (!p) {
        core_close(sock);
        return -EAGAIN;
    }
    rig_die(p);
    return 0;
}

static int rig_close_slow(int fd, int *pidfd)
{
    struct rig_process *p = rig_spawn(pidfd);
    if (!p)
        return -EAGAIN;
    close(fd);
    rig_die(p);
    return 0;
}

static const struct core_process_ops rig_ops = {
    .launch = rig_launch, .launch_step = rig_launch_step, .kill = rig_kill, .reap = rig_reap,
    .open_device = rig_open_device, .close_slow = rig_close_slow,
};

static inline void rig_forget_folder(void)
{
    char path[128];
    for (uint32_t i = HYP_CLASS_STORE; i < HYP_CLASS_COUNT; i++) {
        if (!core_class(i)->program)
            continue;
        snprintf(path, sizeof(path), "%s/%s", rig_libexec, core_class(i)->program);
        unlink(path);
    }
    rmdir(rig_libexec);
}

/* A folder with something for each program, as long as this process lives. */
static inline void rig_folder(void)
{
    char path[128];
    if (rig_libexec[0])
        return;
    snprintf(rig_libexec, sizeof(rig_libexec), "/tmp/bulkhead-core-rig.XXXXXX");
    if (!mkdtemp(rig_libexec))
        abort();
    atexit(rig_forget_folder);
    for (uint32_t i = HYP_CLASS_STORE; i < HYP_CLASS_COUNT; i++) {
        if (!core_class(i)->program)
            continue;
        snprintf(path, sizeof(path), "%s/%s", rig_libexec, core_class(i)->program);
        if (symlink("/dev/null", path) < 0)
            abort();
    }
}

static inline void rig_turn(void)
{
    core_turn(&rig.core, 0);
}

/* One packet: 1 got one, with *nfds descriptors that are the caller's; 0 none. */
static inline int rig_receive(int sock, struct core_reply *r, int fds[HYP_FDS_MAX], unsigned *nfds)
{
    struct rights in;
    int flags;
    ssize_t n = rights_receive(sock, r, sizeof(*r), &in, HYP_FDS_MAX, &flags);
    if (n != (ssize_t)sizeof(*r))
        return 0;
    *nfds = in.n;
    memcpy(fds, in.fd, in.n * sizeof(int));
    return 1;
}

/* Makes the store as a toolstack does, once or again: the errno of the call.  Then
 * it is the newest process, and its first word has been heard. */
static inline int rig_store(void)
{
    const struct core_call_create c = { .h = { CORE_OP_DOMAIN_CREATE, 0 }, .nfds = 3,
                                        .cfg = { .class_id = HYP_CLASS_STORE, .name = "store" } };
    struct core_reply r = { .op = CORE_OP_NONE };
    struct store_living living;
    int none[HYP_FDS_MAX], fds[3] = { STDERR_FILENO, memfd_create("listen", MFD_CLOEXEC),
                                      memfd_create("journal", MFD_CLOEXEC) };
    unsigned nfds;
    rights_send(rig.toolstack, &c, sizeof(c), fds, 3);
    close(fds[1]);
    close(fds[2]);
    rig_turn();
    while (r.op != CORE_OP_DOMAIN_CREATE && rig_receive(rig.toolstack, &r, none, &nfds)) /* events first */
        while (nfds > 0)
            close(none[--nfds]);
    struct domain *d = domain_find(&rig.core, LOCAL_DOMID_STORE);
    if (r.error || !d)
        return r.error ? r.error : -EIO;
    rig.store_control = rig_process(d->pidfd)->core;
    if (recv(rig.store_control, &living, sizeof(living), MSG_DONTWAIT) != (ssize_t)sizeof(living) ||
        living.op != STORE_CONTROL_LIVING)
        return -EPROTO;
    rig_living = living;
    return 0;
}

/* The next toolstack, once the last one is gone. */
static inline int rig_adopt(void)
{
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (connect(sock, (const struct sockaddr *)&rig.adopt, rig.adopt_bytes) < 0)
        abort();
    rig_turn();
    return sock;
}

static inline void rig_start(void)
{
    int calls[2], adopt = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    rig_folder();
    memset(&rig, 0, sizeof(rig));
    rig.adopt.sun_family = AF_UNIX; /* and no name: the kernel gives it one that is no file */
    rig.adopt_bytes = sizeof(rig.adopt);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, calls) < 0 ||
        bind(adopt, (const struct sockaddr *)&rig.adopt, sizeof(sa_family_t)) < 0 || listen(adopt, 4) < 0 ||
        getsockname(adopt, (struct sockaddr *)&rig.adopt, &rig.adopt_bytes) < 0)
        abort();
    const struct core_config config = { calls[0], adopt, rig_libexec, &rig_ops };
    rig.toolstack = calls[1];
    if (core_init(&rig.core, &config) != 0 || rig_store() != 0)
        abort();
}

static inline void rig_stop(void)
{
    core_close(&rig.toolstack);
    for (unsigned i = 1; i < CORE_DOMAINS_MAX; i++) { /* the keeper ends by itself, and is waited for */
        const struct domain *d = &rig.core.domains[i];
        struct rig_process *p = d->class_id == HYP_CLASS_NETDEV ? rig_process(d->pidfd) : NULL;
        if (p)
            rig_die(p);
    }
    core_end(&rig.core);
    for (unsigned i = 0; i < rig.nprocesses; i++)
        rig_die(&rig.processes[i]);
    for (unsigned i = 0; i < rig.core.nhelpers; i++)
        core_close(&rig.core.helpers[i]);
}

/* ------------------------------------------------------------------ invariants */

#define RIG_MUST(what) do { if (!(what)) rig_broken(#what, __LINE__); } while (0)

static inline void rig_broken(const char *what, int line)
{
    fprintf(stderr, "core_rig.h:%d: does not hold: %s\n", line, what);
    abort();
}

static inline bool rig_in_table(const struct domain *d)
{
    return d >= rig.core.domains && d < rig.core.domains + CORE_DOMAINS_MAX &&
           (d->state == DOMAIN_ALIVE || d->state == DOMAIN_DYING);
}

static inline void rig_check_pools(uint64_t pages[CORE_DOMAINS_MAX])
{
    const struct core *c = &rig.core;
    for (unsigned i = 0; i < c->pools_end + 1 && i < CORE_POOLS_MAX; i++) {
        const struct pool *p = &c->pools[i];
        if (!p->granter) {
            RIG_MUST(p->pages == 0 && !p->grantee.domain && !p->spare.domain);
            continue;
        }
        RIG_MUST(i < c->pools_end && rig_in_table(p->granter) && p->fd >= 0);
        RIG_MUST(!p->grantee.domain || rig_in_table(p->grantee.domain));
        RIG_MUST(!p->spare.domain || rig_in_table(p->spare.domain));
        RIG_MUST(p->grantee.domain || !p->spare.domain);
        RIG_MUST(p->grantee.domain != p->granter && p->spare.domain != p->granter);
        RIG_MUST(!p->spare.domain || p->spare.domain != p->grantee.domain);
        RIG_MUST(p->pages > 0 && p->first >= 8 && p->first + p->pages > p->first);
        RIG_MUST((p->grantee.domain || p->grantee.mapped == 0) && (p->spare.domain || p->spare.mapped == 0));
        struct stat st;
        RIG_MUST(fstat(p->fd, &st) == 0 && st.st_size == (off_t)p->pages * HYP_PAGE_SIZE);
        RIG_MUST(fcntl(p->fd, F_GET_SEALS) >= (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW));
        pages[domain_slot(c, p->granter)] += p->pages;
        for (unsigned j = 0; j < i; j++) {
            const struct pool *q = &c->pools[j];
            if (q->granter == p->granter)
                RIG_MUST(q->first + q->pages <= p->first || p->first + p->pages <= q->first);
        }
    }
}

static inline void rig_check_channels(void)
{
    const struct core *c = &rig.core;
    unsigned owned[CORE_DOMAINS_MAX] = { 0 };
    for (unsigned i = 0; i < c->evtchns_end + 1 && i < CORE_EVTCHNS_MAX; i++) {
        const struct evtchn *ch = &c->evtchns[i];
        if (!ch->owner)
            continue;
        RIG_MUST(i < c->evtchns_end && rig_in_table(ch->owner) && rig_in_table(ch->remote));
        RIG_MUST(ch->owner != ch->remote && ch->port != 0 && ch->port < ch->owner->next_port);
        RIG_MUST((ch->remote_port == 0) == (ch->rd >= 0) && (ch->rd >= 0) == (ch->wr >= 0));
        owned[domain_slot(c, ch->owner)]++;
    }
    for (unsigned i = 0; i < CORE_DOMAINS_MAX; i++) {
        const struct domain *d = &c->domains[i];
        if (rig_in_table(d))
            RIG_MUST(d->evtchns == owned[i] && owned[i] <= CORE_EVTCHNS_EACH);
    }
}

static inline void rig_check_devices(void)
{
    const struct core *c = &rig.core;
    unsigned owned[CORE_DOMAINS_MAX] = { 0 };
    for (unsigned i = 0; i < CORE_DEVICES_MAX; i++) {
        const struct device *dev = &c->devices[i];
        if (dev->state == DEVICE_FREE) {
            RIG_MUST(dev->sock == -1 && dev->pidfd == -1 && !dev->tell_owner && !dev->tell_toolstack);
            continue;
        }
        RIG_MUST(rig_in_table(dev->owner) &&
                 (dev->owner->class_id == HYP_CLASS_BLK || dev->owner->class_id == HYP_CLASS_NET));
        RIG_MUST((dev->state == DEVICE_OPENING) == (dev->pidfd >= 0));
        owned[domain_slot(c, dev->owner)]++;
        for (unsigned j = 0; j < i; j++)
            RIG_MUST(c->devices[j].owner != dev->owner || c->devices[j].number != dev->number);
    }
    for (unsigned i = 0; i < CORE_DOMAINS_MAX; i++)
        if (rig_in_table(&c->domains[i]))
            RIG_MUST(c->domains[i].devices == owned[i] && owned[i] <= CORE_DEVICES_EACH);
}

/* What holds between two turns, whatever was sent. */
static inline void rig_check(void)
{
    const struct core *c = &rig.core;
    uint64_t pages[CORE_DOMAINS_MAX] = { 0 };
    rig_check_pools(pages);
    rig_check_channels();
    rig_check_devices();
    for (unsigned i = 0; i < CORE_DOMAINS_MAX; i++) {
        const struct domain *d = &c->domains[i];
        RIG_MUST(d->state != DOMAIN_FREE || (d->sock < 0 && d->pidfd < 0 && d->unsent.reply.nfds == 0));
        RIG_MUST(d->state != DOMAIN_DEAD || (d->sock < 0 && d->pidfd < 0 && pages[i] == 0));
        if (!rig_in_table(d))
            continue;
        RIG_MUST(d->grant_pages == pages[i] && pages[i] <= d->grant_limit && d->pools <= CORE_POOLS_EACH);
        RIG_MUST((d->rights & HYP_MAY_CONTROL) == 0 || i == 0);
        RIG_MUST(d->refused <= d->calls);
        for (unsigned j = 0; j < i; j++)
            RIG_MUST(!(d->domid == LOCAL_DOMID_STORE ? rig_in_table(&c->domains[j])
                                                     : c->domains[j].state != DOMAIN_FREE) ||
                     c->domains[j].domid != d->domid); /* a dead store may be told of later */
    }
}

#endif
