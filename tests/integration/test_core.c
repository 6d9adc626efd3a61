/* SPDX-License-Identifier: MIT */
/*
 * The core as it is: its program, real jails, and a small program inside them
 * (helpers/core_domain.c) that tries what it is told to try.  Needs root.
 *
 * Whatever a domain is refused, someone who may is seen to get.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/loop.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../hyp-shim/local/proto.h"
#include "../../hyp-shim/local/rights.h"
#include "helpers/start_core.h"

#define WAIT_MS 20000

static char build_dir[512]; /* where bulkhead-core is */
static char run_dir[64];

static struct {
    pid_t core;
    struct hyp *toolstack;
    int store;   /* what the store says */
    int log;     /* what the core says  */
    int journal;
} rig;

/* ------------------------------------------------------------------------- rig */

static void link_program(const char *name, const char *target)
{
    char from[1200], to[1200];
    snprintf(from, sizeof(from), "%s/%s", build_dir, target);
    snprintf(to, sizeof(to), "%s/%s", run_dir, name);
    assert_int_equal(symlink(from, to), 0);
}

static const char *adopt_path(void)
{
    static char path[100];
    snprintf(path, sizeof(path), "%s.sock", run_dir); /* beside it: some domains see what is in it */
    return path;
}

static int adopt_listener(void)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", adopt_path());
    unlink(addr.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(chmod(addr.sun_path, 0600), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static void start_store_again(void)
{
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    start_store(rig.toolstack, listener, rig.journal);
    close(listener);
}

static int start(void **state)
{
    (void)state;
    int log[2], adopt = adopt_listener();
    assert_int_equal(pipe2(log, O_CLOEXEC), 0);
    rig.core = start_core_alone(build_dir, run_dir, adopt, log[1], &rig.toolstack);
    close(adopt);
    close(log[1]);
    rig.log = log[0];
    fcntl(rig.log, F_SETFL, O_NONBLOCK);
    rig.journal = new_journal();
    start_store_again();
    rig.store = hyp_store_fd(rig.toolstack);
    assert_true(rig.store >= 0);
    return 0;
}

/* What the core said since the last time. */
static const char *said(void)
{
    static char text[8192];
    ssize_t n = read(rig.log, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static int core_status(void)
{
    int status = -1;
    assert_int_equal(waitpid(rig.core, &status, 0), rig.core);
    rig.core = 0;
    return status;
}

static int stop(void **state)
{
    (void)state;
    if (rig.toolstack) {
        hyp_end(rig.toolstack);
        hyp_close(rig.toolstack);
    }
    rig.toolstack = NULL;
    int status = rig.core ? core_status() : 0;
    close(rig.store);
    close(rig.log);
    close(rig.journal);
    return status;
}

struct guest { /* a domain of this test, with or without a process */
    domid_t domid;
    pid_t pid;
    int commands;
    struct hyp *hyp; /* native */
};

static struct guest new_process(uint32_t class_id, uint64_t cpus)
{
    struct guest g = { .hyp = NULL };
    int pair[2], conn[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    struct hyp_domain_config cfg = { .class_id = class_id, .name = "probe", .cpus = cpus };
    int fds[2] = { STDERR_FILENO, pair[1] };
    assert_int_equal(hyp_domain_create(rig.toolstack, &cfg, fds, 2, &g.domid, conn), 0);
    close(pair[1]);
    g.commands = pair[0];
    struct hyp_domain_info info;
    assert_int_equal(hyp_domain_info(rig.toolstack, g.domid, &info), 0);
    g.pid = info.pid;
    assert_int_equal(hyp_domain_unpause(rig.toolstack, g.domid), 0);
    return g;
}

static struct guest new_driver(void)
{
    return new_process(HYP_CLASS_BLK, 0);
}

static struct guest new_native(void)
{
    struct guest g = { .commands = -1 };
    struct hyp_domain_config cfg = { .class_id = HYP_CLASS_NATIVE, .name = "native" };
    int conn[2];
    assert_int_equal(hyp_domain_create(rig.toolstack, &cfg, NULL, 0, &g.domid, conn), 0);
    assert_int_equal(hyp_domain_unpause(rig.toolstack, g.domid), 0);
    assert_int_equal(hyp_local_open(&g.hyp, conn[0], conn[1]), 0);
    assert_int_equal(hyp_domid(g.hyp), g.domid);
    return g;
}

/* Tells a domain's program to do something; returns its words. */
static const char *ask(const struct guest *g, const char *format, ...) __attribute__((format(printf, 2, 3)));
static const char *ask(const struct guest *g, const char *format, ...)
{
    static char line[600];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (send(g->commands, line, strlen(line), MSG_NOSIGNAL) < 0)
        return "gone";
    struct pollfd p = { .fd = g->commands, .events = POLLIN };
    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    ssize_t n = recv(g->commands, line, sizeof(line) - 1, 0);
    if (n <= 0)
        return "gone";
    line[n] = '\0';
    return line;
}

static int number(const char *words)
{
    assert_string_not_equal(words, "gone");
    return (int)strtol(words, NULL, 10);
}

/* The next event of that kind about that domain; others are dropped. */
static struct hyp_event wait_event(struct hyp *hyp, enum hyp_event_kind kind, domid_t domid)
{
    for (;;) {
        struct hyp_event ev;
        int got = hyp_next_event(hyp, &ev);
        if (got == 1 && ev.kind == kind && ev.domid == domid)
            return ev;
        assert_true(got >= 0);
        struct pollfd p = { .fd = hyp_fd(hyp), .events = POLLIN };
        if (got == 0)
            assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    }
}

static void end(struct guest *g)
{
    if (g->hyp)
        hyp_close(g->hyp);
    else
        assert_int_equal(hyp_domain_destroy(rig.toolstack, g->domid), 0);
    wait_event(rig.toolstack, HYP_EV_DEATH, g->domid);
    if (g->commands >= 0)
        close(g->commands);
}

/* What the store says, up to that line. */
static const char *store_told(const char *line)
{
    static char told[256];
    size_t have = 0;
    do {
        ssize_t n = read(rig.store, told + have, sizeof(told) - 1 - have);
        assert_true(n > 0);
        have += (size_t)n;
        told[have] = '\0';
    } while (!strstr(told, line));
    return told;
}

/* ------------------------------------------------------------------------ jail */

#define LINK_MAX_BYTES 64
static void link_of(const char *pid, const char *ns, char out[LINK_MAX_BYTES])
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%s/ns/%s", pid, ns);
    ssize_t n = readlink(path, out, LINK_MAX_BYTES - 1);
    assert_true(n > 0);
    out[n] = '\0';
}

static void namespaces_are_its_own(void **state)
{
    (void)state;
    struct guest g = new_driver();
    assert_int_equal(number(ask(&g, "entries /")), 0); /* it runs: its namespaces are final */
    static const char *const own[] = { "user", "pid", "mnt", "net", "ipc", "uts", "cgroup" };
    char theirs[LINK_MAX_BYTES], ours[LINK_MAX_BYTES], pid[16];
    snprintf(pid, sizeof(pid), "%d", g.pid);
    for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        link_of(pid, own[i], theirs);
        link_of("self", own[i], ours);
        assert_string_not_equal(theirs, ours);
    }
    assert_int_equal(number(ask(&g, "escape pid")), 1);
    assert_int_equal(number(ask(&g, "escape parent")), 0);
    end(&g);
}

/* The value of a line of /proc/PID/status. */
static const char *status_line(pid_t pid, const char *key)
{
    static char line[256];
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    bool found = false;
    while (!found && fgets(line, sizeof(line), f))
        found = strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ':';
    fclose(f);
    assert_true(found);
    line[strcspn(line, "\n")] = '\0';
    return line + strlen(key) + 1 + strspn(line + strlen(key) + 1, " \t");
}

static void check_powerless(pid_t pid, domid_t domid)
{
    char ids[128];
    unsigned id = LOCAL_UID_BASE + domid;
    snprintf(ids, sizeof(ids), "%u\t%u\t%u\t%u", id, id, id, id);
    assert_string_equal(status_line(pid, "Uid"), ids);
    assert_string_equal(status_line(pid, "Gid"), ids);
    assert_string_equal(status_line(pid, "Groups"), "");
    static const char *const sets[] = { "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb" };
    for (unsigned i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
        assert_string_equal(status_line(pid, sets[i]), "0000000000000000");
    assert_string_equal(status_line(pid, "NoNewPrivs"), "1");
}

static void has_no_privilege(void **state)
{
    (void)state;
    struct guest g = new_driver();
    assert_int_equal(number(ask(&g, "entries /")), 0);
    check_powerless(g.pid, g.domid);
    assert_string_not_equal(status_line(getpid(), "CapEff"), "0000000000000000"); /* control */
    assert_true(number(ask(&g, "escape user")) < 0);
    assert_true(number(ask(&g, "escape mount")) < 0);
    assert_true(number(ask(&g, "escape remount")) < 0);
    struct hyp_domain_info info;
    assert_int_equal(hyp_domain_info(rig.toolstack, g.domid, &info), 0);
    assert_int_equal(info.uid, LOCAL_UID_BASE + g.domid);
    assert_int_equal(info.rights, HYP_MAY_MAP | HYP_MAY_EVTCHN | HYP_MAY_DEVICE);
    end(&g);
}

static void store_has_no_privilege(void **state)
{
    (void)state;
    struct hyp_domain_info info;
    assert_int_equal(hyp_domain_info(rig.toolstack, LOCAL_DOMID_STORE, &info), 0);
    struct guest g = new_native(); /* the store said so: it runs */
    char line[32];
    assert_true(read(rig.store, line, sizeof(line)) > 0);
    check_powerless(info.pid, LOCAL_DOMID_STORE);
    char theirs[LINK_MAX_BYTES], ours[LINK_MAX_BYTES], pid[16];
    snprintf(pid, sizeof(pid), "%d", info.pid);
    link_of(pid, "user", theirs);
    link_of("self", "user", ours);
    assert_string_equal(theirs, ours); /* it has to see the uids of its clients */
    link_of(pid, "mnt", theirs);
    link_of("self", "mnt", ours);
    assert_string_not_equal(theirs, ours);
    end(&g);
}

static void root_is_empty_and_stays_so(void **state)
{
    (void)state;
    struct guest g = new_driver();
    struct stat st;
    assert_int_equal(stat("/etc/passwd", &st), 0); /* control */
    assert_int_equal(number(ask(&g, "entries /")), 0);
    assert_int_equal(number(ask(&g, "read /etc/passwd")), -ENOENT);
    assert_int_equal(number(ask(&g, "read /proc/self/status")), -ENOENT);
    assert_int_equal(number(ask(&g, "write /new")), -EROFS);
    assert_int_equal(number(ask(&g, "escape fds")), 0x1ff); /* 0 to 6, and two that hyp_open() makes */
    assert_int_equal(number(ask(&g, "escape store")), SOCK_STREAM);
    end(&g);
}

static void host_class_sees_programs_only(void **state)
{
    (void)state;
    struct guest g = new_process(HYP_CLASS_NBD, 0);
    assert_true(number(ask(&g, "entries /usr/bin")) > 10);
    assert_int_equal(number(ask(&g, "read /usr/bin/env")), 0);
    assert_int_equal(number(ask(&g, "write /dev/null")), 0);
    assert_int_equal(number(ask(&g, "entries /dev")), 1);
    assert_int_equal(number(ask(&g, "read /etc/shadow")), -ENOENT);
    assert_int_equal(number(ask(&g, "read /proc/self/status")), -ENOENT);
    assert_int_equal(number(ask(&g, "read /root")), -ENOENT);
    assert_int_equal(number(ask(&g, "write /usr/bin/new")), -EROFS);
    assert_int_equal(number(ask(&g, "write /new")), -EROFS);
    assert_int_equal(number(ask(&g, "entries %s", run_dir)), 3); /* our own programs */
    check_powerless(g.pid, g.domid);
    end(&g);
}

/* ----------------------------------------------------------------------- death */

static void death_is_told(void **state)
{
    (void)state;
    struct guest a = new_driver(), b = new_driver();
    struct guest g = new_native();
    struct hyp_evtchn *ch;
    assert_int_equal(hyp_evtchn_alloc(g.hyp, a.domid, &ch), 0);
    assert_string_equal(ask(&a, "exit 3"), "gone");
    struct hyp_event ev = wait_event(rig.toolstack, HYP_EV_DEATH, a.domid);
    assert_int_equal(ev.error, 3 << 8);
    assert_true(ev.at_ns > 0);
    ev = wait_event(g.hyp, HYP_EV_DEATH, a.domid); /* it shared a channel */
    assert_int_equal(ev.error, 0);                 /* how it died is none of its business */
    assert_int_equal(kill(b.pid, SIGKILL), 0);
    ev = wait_event(rig.toolstack, HYP_EV_DEATH, b.domid);
    assert_int_equal(ev.error, SIGKILL);
    assert_int_equal(hyp_next_event(g.hyp, &ev), 0); /* it shared nothing with that one */
    char expected[64];
    snprintf(expected, sizeof(expected), "-%u\n", b.domid);
    const char *told = store_told(expected);
    snprintf(expected, sizeof(expected), "+%u\n", a.domid);
    assert_non_null(strstr(told, expected));
    close(a.commands);
    close(b.commands);
    end(&g);
}

static void failed_start_is_a_death_with_a_sentence(void **state)
{
    (void)state;
    said();
    struct guest g = { .commands = -1 };
    struct hyp_domain_config cfg = { .class_id = HYP_CLASS_BLK, .name = "nowhere",
                                     .cpus = UINT64_C(1) << 63 };
    int conn[2];
    assert_int_equal(hyp_domain_create(rig.toolstack, &cfg, NULL, 0, &g.domid, conn), 0);
    wait_event(rig.toolstack, HYP_EV_DEATH, g.domid);
    assert_non_null(strstr(said(), "cannot run on the CPUs that it was given"));
    g = new_process(HYP_CLASS_BLK, 1); /* control: that CPU exists */
    assert_int_equal(number(ask(&g, "entries /")), 0);
    assert_string_equal(status_line(g.pid, "Cpus_allowed_list"), "0");
    end(&g);
}

/* ---------------------------------------------------------------------- grants */

static void pool_is_for_its_grantee_alone(void **state)
{
    (void)state;
    struct guest g = new_native(), a = new_driver(), b = new_driver();
    struct hyp_pool *pool;
    assert_int_equal(hyp_pool_create(g.hyp, a.domid, 16, 0, &pool), 0);
    unsigned ref = hyp_pool_ref(pool, 3);
    uint32_t *page = (uint32_t *)((char *)hyp_pool_base(pool) + 3 * HYP_PAGE_SIZE);
    *page = 4711;
    assert_int_equal(number(ask(&b, "peek %u %u", g.domid, ref)), -EACCES);
    assert_int_equal(number(ask(&a, "peek %u %u", g.domid, ref)), 4711); /* control */
    assert_int_equal(number(ask(&a, "poke %u %u 815", g.domid, ref)), 815);
    assert_int_equal(*page, 815);
    assert_int_equal(number(ask(&a, "peek %u %u", g.domid, hyp_pool_ref(pool, 15) + 1)), -EACCES);
    assert_int_equal(hyp_pool_end(pool), -EBUSY);
    assert_int_equal(hyp_pool_regrant(pool, b.domid), -EBUSY);
    assert_int_equal(number(ask(&a, "unmap")), 0);
    assert_int_equal(hyp_pool_end(pool), 0);
    assert_int_equal(number(ask(&a, "peek %u %u", g.domid, ref)), -EACCES);
    end(&a);
    end(&b);
    end(&g);
}

static void pool_size_is_sealed(void **state)
{
    (void)state;
    struct guest g = new_native(), a = new_driver();
    struct hyp_pool *rw, *ro;
    assert_int_equal(hyp_pool_create(g.hyp, a.domid, 4, 0, &rw), 0);
    assert_int_equal(hyp_pool_create(g.hyp, a.domid, 4, HYP_POOL_RDONLY, &ro), 0);
    char expected[128];
    snprintf(expected, sizeof(expected), "0 grow %d shrink %d seal %d write 0", -EPERM, -EPERM, -EPERM);
    assert_string_equal(ask(&a, "rawmap %u %u", g.domid, hyp_pool_ref(rw, 0)), expected);
    snprintf(expected, sizeof(expected), "0 grow %d shrink %d seal %d write %d", -EINVAL, -EINVAL, -EPERM,
             -EACCES);
    assert_string_equal(ask(&a, "rawmap %u %u", g.domid, hyp_pool_ref(ro, 0)), expected);
    end(&a);
    end(&g);
}

static void pool_moves_to_the_successor(void **state)
{
    (void)state;
    struct guest g = new_native(), a = new_driver(), b = new_driver();
    struct hyp_pool *pool;
    assert_int_equal(hyp_pool_create(g.hyp, a.domid, 8, 0, &pool), 0);
    unsigned old = hyp_pool_ref(pool, 0);
    *(uint32_t *)hyp_pool_base(pool) = 99;
    assert_int_equal(number(ask(&a, "peek %u %u", g.domid, old)), 99);
    end(&a);
    wait_event(g.hyp, HYP_EV_DEATH, a.domid);
    assert_int_equal(hyp_pool_regrant(pool, b.domid), 0);
    assert_int_not_equal(hyp_pool_ref(pool, 0), old);
    assert_int_equal(number(ask(&b, "peek %u %u", g.domid, old)), -EACCES);
    assert_int_equal(number(ask(&b, "peek %u %u", g.domid, hyp_pool_ref(pool, 0))), 99);
    end(&g);
    end(&b);
}

static void pool_goes_to_the_spare_by_itself(void **state)
{
    (void)state;
    struct guest g = new_native(), a = new_driver(), b = new_driver(), c = new_driver();
    struct hyp_pool *pool;
    assert_int_equal(hyp_pool_create(g.hyp, a.domid, 8, 0, &pool), 0);
    unsigned ref = hyp_pool_ref(pool, 2);
    assert_int_equal(number(ask(&b, "peek %u %u", g.domid, ref)), -EACCES);
    assert_int_equal(hyp_pool_share(pool, b.domid), 0);
    assert_int_equal(hyp_pool_share(pool, c.domid), -EBUSY);
    assert_int_equal(number(ask(&a, "poke %u %u 5", g.domid, ref)), 5);
    assert_int_equal(number(ask(&b, "peek %u %u", g.domid, ref)), 5); /* mapped before it has to be */
    assert_int_equal(kill(a.pid, SIGKILL), 0);
    wait_event(g.hyp, HYP_EV_DEATH, a.domid);
    assert_int_equal(hyp_pool_ref(pool, 2), ref);
    assert_int_equal(number(ask(&b, "poke %u %u 6", g.domid, ref)), 6);
    assert_int_equal(((uint32_t *)hyp_pool_base(pool))[(size_t)2 * 1024], 6);
    assert_int_equal(hyp_pool_regrant(pool, c.domid), -EBUSY);
    assert_int_equal(hyp_pool_share(pool, c.domid), 0);
    assert_int_equal(hyp_pool_end(pool), -EBUSY);
    assert_int_equal(number(ask(&b, "unmap")), 0);
    assert_int_equal(hyp_pool_end(pool), 0);
    close(a.commands);
    end(&b);
    end(&c);
    end(&g);
}

static void large_pool_counts_as_a_whole(void **state)
{
    (void)state;
    struct guest g = new_native(), a = new_driver();
    struct hyp_pool *pool;
    assert_int_equal(hyp_pool_create(g.hyp, a.domid, 16384 + 1, 0, &pool), 0);
    ((uint32_t *)hyp_pool_base(pool))[(size_t)16384 * 1024] = 12;
    assert_int_equal(number(ask(&a, "peek %u %u", g.domid, hyp_pool_ref(pool, 16384))), 12);
    struct hyp_holding h;
    assert_int_equal(hyp_domain_holding(rig.toolstack, a.domid, 0, &h), 0);
    assert_int_equal(h.kind, HYP_HOLDS_MAP);
    assert_int_equal(h.pages, 16385);
    assert_int_equal(h.peer, g.domid);
    assert_int_equal(hyp_domain_holding(rig.toolstack, a.domid, 1, &h), -ENOENT);
    assert_int_equal(number(ask(&a, "unmap")), 0);
    assert_int_equal(hyp_pool_end(pool), 0);
    /* Its pages are free again: the limit is 65536. */
    struct hyp_pool *more[4];
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(hyp_pool_create(g.hyp, a.domid, 16384, 0, &more[i]), 0);
    struct hyp_pool *none;
    assert_int_equal(hyp_pool_create(g.hyp, a.domid, 1, 0, &none), -EDQUOT);
    end(&a);
    end(&g);
}

/* ---------------------------------------------------------------- event channels */

static short readable(struct hyp_evtchn *ch)
{
    struct pollfd p = { .fd = hyp_evtchn_fd(ch), .events = POLLIN };
    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    return p.revents;
}

static void channel_is_for_its_remote_alone(void **state)
{
    (void)state;
    struct guest g = new_native(), a = new_driver(), b = new_driver();
    struct hyp_evtchn *ch;
    assert_int_equal(hyp_evtchn_alloc(g.hyp, a.domid, &ch), 0);
    unsigned port = hyp_evtchn_port(ch);
    assert_int_equal(number(ask(&b, "bind %u %u", g.domid, port)), -ENOENT);
    assert_int_equal(number(ask(&a, "bind %u %u", g.domid, port)), 0); /* control */
    assert_int_equal(number(ask(&a, "bind %u %u", g.domid, port)), -ENOENT); /* once */
    assert_int_equal(hyp_evtchn_notify(ch), 0);
    assert_int_equal(number(ask(&a, "heard")), POLLIN);
    assert_int_equal(number(ask(&a, "ring")), 0);
    assert_int_equal(readable(ch), POLLIN);
    for (unsigned i = 0; i < 20000; i++) /* more than a pipe holds */
        assert_int_equal(hyp_evtchn_notify(ch), 0);
    hyp_evtchn_clear(ch);
    end(&a);
    assert_int_equal(readable(ch), POLLHUP);
    end(&b);
    end(&g);
}

/* --------------------------------------------------------------------- devices */

static const char *file_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", run_dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    close(fd);
    return path;
}

static void fence_holds_back_the_successor(void **state)
{
    (void)state;
    struct guest a = new_driver(), b = new_driver();
    const char *path = file_of("disk");
    assert_int_equal(hyp_device_assign(rig.toolstack, a.domid, 1, path, 0), 0);
    assert_int_equal(hyp_device_assign(rig.toolstack, a.domid, 1, path, 0), -EEXIST);
    assert_int_equal(wait_event(rig.toolstack, HYP_EV_DEVICE, a.domid).error, 0);
    assert_int_equal(number(ask(&a, "event")), HYP_EV_DEVICE);
    assert_int_equal(number(ask(&b, "acquire 1")), -ENOENT);
    assert_int_equal(number(ask(&a, "acquire 1")), 0);
    assert_int_equal(number(ask(&a, "acquire 1")), -ENOENT); /* there is but one */
    assert_int_equal(hyp_device_assign(rig.toolstack, b.domid, 1, path, 0), 0);
    assert_int_equal(hyp_device_release(rig.toolstack, a.domid, 1), 0); /* the number, not the file */
    struct hyp_event ev;
    for (unsigned i = 0; i < 50; i++) { /* time enough for the opener, were there no lock */
        assert_int_equal(number(ask(&b, "acquire 1")), -EAGAIN);
        assert_int_equal(hyp_next_event(rig.toolstack, &ev), 0);
        usleep(2000);
    }
    assert_int_equal(number(ask(&a, "close")), 0);
    assert_int_equal(wait_event(rig.toolstack, HYP_EV_DEVICE, b.domid).error, 0);
    assert_int_equal(number(ask(&b, "acquire 1")), 0);
    end(&a);
    end(&b);
    unlink(path);
}

/* To a spare, ahead: what the active's last breath gives it. */
static void device_comes_to_the_spare_when_its_owner_dies(void **state)
{
    (void)state;
    const char *path = file_of("disk");
    for (unsigned i = 0; i < 2; i++) {
        unsigned flags = i == 0 ? 0 : HYP_DEVICE_RDONLY; /* no two at a time, readers neither */
        struct guest a = new_driver(), b = new_driver();
        struct hyp_event ev;
        assert_int_equal(hyp_device_assign(rig.toolstack, a.domid, 1, path, flags), 0);
        assert_int_equal(wait_event(rig.toolstack, HYP_EV_DEVICE, a.domid).error, 0);
        assert_int_equal(number(ask(&a, "acquire 1")), 0);
        assert_int_equal(hyp_device_assign(rig.toolstack, b.domid, 1, path, flags), 0);
        usleep(50000); /* time enough, were there no lock */
        assert_int_equal(number(ask(&b, "acquire 1")), -EAGAIN);
        assert_int_equal(hyp_next_event(rig.toolstack, &ev), 0);
        struct timespec before;
        clock_gettime(CLOCK_MONOTONIC, &before);
        assert_int_equal(kill(a.pid, SIGKILL), 0);
        ev = wait_event(rig.toolstack, HYP_EV_DEVICE, b.domid);
        assert_int_equal(ev.error, 0);
        assert_true(ev.at_ns > (uint64_t)before.tv_sec * 1000000000u + (uint64_t)before.tv_nsec);
        assert_int_equal(number(ask(&b, "event")), HYP_EV_DEVICE);
        assert_int_equal(number(ask(&b, "acquire 1")), 0);
        close(a.commands);
        end(&b);
    }
    unlink(path);
}

/* A block device over a file, or -1: this machine has none to give. */
static int loop_over(const char *path, char name[32])
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), file = open(path, O_RDWR | O_CLOEXEC);
    int n = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
    struct loop_config config = { .fd = (uint32_t)file, .info.lo_flags = LO_FLAGS_AUTOCLEAR };
    snprintf(name, 32, "/dev/loop%d", n);
    int loop = n < 0 ? -1 : open(name, O_RDWR | O_CLOEXEC);
    if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) < 0) {
        close(loop);
        loop = -1;
    }
    close(control);
    close(file);
    return loop;
}

static void block_device_is_waited_for_and_claimed(void **state)
{
    (void)state;
    char name[32];
    const char *path = file_of("disk");
    int loop = loop_over(path, name);
    unlink(path);
    if (loop < 0)
        skip();
    struct guest a = new_driver(), b = new_driver(), c = new_driver();
    struct guest *later[2] = { &b, &c };
    assert_int_equal(hyp_device_assign(rig.toolstack, a.domid, 1, name, 0), 0);
    assert_int_equal(wait_event(rig.toolstack, HYP_EV_DEVICE, a.domid).error, 0);
    assert_int_equal(number(ask(&a, "acquire 1")), 0);
    assert_int_equal(open(name, O_RDWR | O_EXCL | O_CLOEXEC), -1); /* it is claimed */
    assert_int_equal(errno, EBUSY);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(hyp_device_assign(rig.toolstack, later[i]->domid, 1, name, 0), 0);
    struct hyp_event ev;
    usleep(100000);
    assert_int_equal(hyp_next_event(rig.toolstack, &ev), 0); /* no one is told that it is busy */
    assert_int_equal(kill(a.pid, SIGKILL), 0);
    wait_event(rig.toolstack, HYP_EV_DEATH, a.domid);
    unsigned first = 2; /* whichever is faster */
    while (first == 2)
        for (unsigned i = 0; i < 2; i++)
            if (number(ask(later[i], "acquire 1")) == 0)
                first = i;
    assert_int_equal(open(name, O_RDWR | O_EXCL | O_CLOEXEC), -1);
    assert_int_equal(number(ask(later[1 - first], "acquire 1")), -EAGAIN);
    assert_int_equal(number(ask(later[first], "close")), 0);
    assert_int_equal(wait_event(rig.toolstack, HYP_EV_DEVICE, later[1 - first]->domid).error, 0);
    assert_int_equal(number(ask(later[1 - first], "acquire 1")), 0);
    assert_int_equal(number(ask(later[1 - first], "close")), 0);
    int stranger;
    while ((stranger = open(name, O_RDWR | O_EXCL | O_CLOEXEC)) < 0) /* free again */
        usleep(1000);
    assert_int_equal(hyp_device_assign(rig.toolstack, b.domid, 2, name, 0), 0);
    do /* who does not lock, but has claimed it */
        ev = wait_event(rig.toolstack, HYP_EV_DEVICE, b.domid);
    while (ev.device != 2);
    assert_int_equal(ev.error, -EBUSY);
    close(stranger);
    close(loop);
    close(a.commands);
    end(&b);
    end(&c);
}

static int assigned(const struct guest *g, const char *path, unsigned flags)
{
    static uint32_t device = 100;
    assert_int_equal(hyp_device_assign(rig.toolstack, g->domid, ++device, path, flags), 0);
    struct hyp_event ev = wait_event(rig.toolstack, HYP_EV_DEVICE, g->domid);
    assert_int_equal(ev.device, device);
    return ev.error;
}

static void only_disks_are_opened(void **state)
{
    (void)state;
    struct guest g = new_driver();
    char path[128];
    snprintf(path, sizeof(path), "%s/fifo", run_dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(assigned(&g, path, 0), -ENOTBLK);
    unlink(path);
    assert_int_equal(assigned(&g, "/nowhere/disk", 0), -ENOENT);
    assert_int_equal(assigned(&g, "/dev/zero", 0), -ENOTBLK);
    assert_int_equal(assigned(&g, "/", 0), -ENOTBLK);
    assert_int_equal(hyp_device_assign(rig.toolstack, g.domid, 1, "disk", 0), -EINVAL);
    const char *file = file_of("disk");
    assert_int_equal(assigned(&g, file, HYP_DEVICE_RDONLY), 0); /* control */
    unlink(file);
    struct guest n = new_native();
    assert_int_equal(hyp_device_assign(rig.toolstack, n.domid, 1, file, 0), -ESRCH); /* no driver domain */
    end(&n);
    end(&g);
}

static void open_that_hangs_delays_nobody(void **state)
{
    (void)state;
    struct guest a = new_driver();
    const char *path = file_of("held");
    int held = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(held, LOCK_EX), 0);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(hyp_device_assign(rig.toolstack, a.domid, i, path, 0), 0);
    struct guest b = new_driver(); /* all of it works meanwhile */
    assert_int_equal(number(ask(&b, "entries /")), 0);
    for (uint32_t i = 0; i < 19; i++)
        assert_int_equal(hyp_device_release(rig.toolstack, a.domid, i), 0);
    assert_int_equal(number(ask(&a, "acquire 19")), -EAGAIN);
    close(held);
    assert_int_equal(wait_event(rig.toolstack, HYP_EV_DEVICE, a.domid).device, 19);
    assert_int_equal(number(ask(&a, "acquire 19")), 0);
    end(&a);
    end(&b);
    unlink(path);
}

/* ----------------------------------------------------------------------- floods */

static void flood_delays_its_sender_alone(void **state)
{
    (void)state;
    struct hyp_domain_config cfg = { .class_id = HYP_CLASS_NATIVE, .name = "flood" };
    struct guest b = new_driver();
    domid_t domid;
    int conn[2];
    assert_int_equal(hyp_domain_create(rig.toolstack, &cfg, NULL, 0, &domid, conn), 0);
    assert_int_equal(hyp_domain_unpause(rig.toolstack, domid), 0);
    struct core_call call = { CORE_OP_HELLO, 1 };
    unsigned sent = 0;
    for (unsigned quiet = 0; quiet < 20; quiet++) { /* until no one takes any more */
        while (send(conn[0], &call, sizeof(call), MSG_DONTWAIT) > 0) {
            sent++;
            quiet = 0;
        }
        usleep(1000);
    }
    assert_true(sent > 200);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(number(ask(&b, "ready")), 0);
    struct hyp_domain_info info;
    assert_int_equal(hyp_domain_info(rig.toolstack, domid, &info), 0);
    uint64_t before = info.calls;
    struct core_reply reply; /* it reads again, so it is served again */
    unsigned replies = 0;
    struct pollfd p = { .fd = conn[0], .events = POLLIN };
    while (replies < sent && poll(&p, 1, WAIT_MS) == 1 && recv(conn[0], &reply, sizeof(reply), 0) > 0)
        replies++;
    assert_int_equal(replies, sent);
    assert_int_equal(hyp_domain_info(rig.toolstack, domid, &info), 0);
    assert_int_equal(info.calls, sent);
    assert_true(before < sent);
    close(conn[0]);
    close(conn[1]);
    wait_event(rig.toolstack, HYP_EV_DEATH, domid);
    end(&b);
}

static void gifts_are_refused(void **state)
{
    (void)state;
    struct guest a = new_driver();
    int refused = number(ask(&a, "escape passfd"));
    assert_true(refused == -EINVAL || refused == -EPERM); /* by the core, or by the kernel for it */
    assert_int_equal(number(ask(&a, "ready")), 0); /* control: the same call without */
    end(&a);
}

static void rights_go_and_stay_away(void **state)
{
    (void)state;
    struct guest g = new_native(), a = new_driver();
    struct hyp_pool *pool;
    assert_int_equal(hyp_pool_create(g.hyp, a.domid, 1, 0, &pool), 0);
    assert_int_equal(number(ask(&a, "peek %u %u", g.domid, hyp_pool_ref(pool, 0))), 0);
    assert_int_equal(number(ask(&a, "unmap")), 0);
    assert_int_equal(number(ask(&a, "restrict %u", HYP_MAY_EVTCHN)), 0);
    assert_int_equal(number(ask(&a, "restrict %u", HYP_MAY_EVTCHN | HYP_MAY_MAP)), 0);
    assert_int_equal(number(ask(&a, "peek %u %u", g.domid, hyp_pool_ref(pool, 0))), -EPERM);
    domid_t unused;
    int conn[2];
    struct hyp_domain_config cfg = { .class_id = HYP_CLASS_NATIVE, .name = "forged" };
    assert_int_equal(hyp_domain_create(g.hyp, &cfg, NULL, 0, &unused, conn), -EPERM);
    assert_int_equal(hyp_domain_destroy(g.hyp, a.domid), -EPERM);
    end(&a);
    end(&g);
}

/* -------------------------------------------------------------------- the end */

static void core_is_small_and_idle(void **state)
{
    (void)state;
    struct guest a = new_driver();
    assert_int_equal(number(ask(&a, "entries /")), 0);
    long kib = strtol(status_line(rig.core, "VmRSS"), NULL, 10);
    assert_true(kib < 2048);
    end(&a);
}

static unsigned core_descriptors(void)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)rig.core);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    unsigned n = 0;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* Once the store is under way and the last death is swept up. */
static unsigned settled_descriptors(void)
{
    unsigned n = core_descriptors(), same = 0;
    for (unsigned i = 0; same < 10; i++) {
        assert_true(i * 10 < WAIT_MS);
        usleep(10000);
        unsigned now = core_descriptors();
        same = now == n ? same + 1 : 0;
        n = now;
    }
    return n;
}

/* Descriptors of what is closed off the path, namespaces among them, are closed. */
static void deaths_leave_no_descriptor(void **state)
{
    (void)state;
    const char *path = file_of("disk");
    struct guest first = new_driver();
    end(&first);
    unsigned before = settled_descriptors(), most = 0;
    for (unsigned i = 0; i < 10; i++) {
        struct guest a = new_driver(), g = new_native();
        struct hyp_pool *pool;
        assert_int_equal(hyp_pool_create(g.hyp, a.domid, 4096, 0, &pool), 0);
        assert_int_equal(hyp_device_assign(rig.toolstack, a.domid, 1, path, 0), 0);
        wait_event(rig.toolstack, HYP_EV_DEVICE, a.domid);
        unsigned now = core_descriptors();
        most = now > most ? now : most;
        end(&a);
        end(&g);
    }
    assert_true(most > before); /* control */
    assert_int_equal(settled_descriptors(), before);
    unlink(path);
}

static void nothing_is_left_behind(void **state)
{
    (void)state;
    struct guest a = new_driver(), b = new_process(HYP_CLASS_NBD, 0);
    assert_int_equal(number(ask(&a, "entries /")), 0);
    assert_true(number(ask(&b, "entries /")) > 0);
    struct hyp_domain_info store;
    assert_int_equal(hyp_domain_info(rig.toolstack, LOCAL_DOMID_STORE, &store), 0);
    assert_int_equal(kill(store.pid, 0), 0);
    struct hyp_event ev;
    assert_int_equal(hyp_end(rig.toolstack), 0);
    while (hyp_next_event(rig.toolstack, &ev) != -ENOTCONN) /* which is the last that it does */
        poll(&(struct pollfd){ .fd = hyp_fd(rig.toolstack), .events = POLLIN }, 1, WAIT_MS);
    assert_int_equal(kill(a.pid, 0), -1);
    hyp_close(rig.toolstack);
    rig.toolstack = NULL;
    assert_int_equal(core_status(), 0);
    assert_int_equal(kill(a.pid, 0), -1);
    assert_int_equal(kill(b.pid, 0), -1);
    assert_int_equal(kill(store.pid, 0), -1);
    close(a.commands);
    close(b.commands);
}

/* With the core goes everything, however it went. */
static void domains_die_with_the_core(void **state)
{
    (void)state;
    struct guest a = new_driver();
    assert_int_equal(number(ask(&a, "entries /")), 0);
    assert_int_equal(kill(rig.core, SIGKILL), 0);
    struct pollfd p = { .fd = a.commands, .events = POLLIN };
    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    assert_int_equal(core_status(), SIGKILL);
    close(a.commands);
}

/* ---------------------------------------------- the store and the toolstack come again */

static void store_is_made_again(void **state)
{
    (void)state;
    struct hyp_domain_info store, again;
    store_told("=0 1\n"); /* nobody lived, and its journal was new */
    assert_int_equal(hyp_domain_info(rig.toolstack, LOCAL_DOMID_STORE, &store), 0);
    struct guest a = new_driver(), b = new_native();
    assert_int_equal(number(ask(&a, "entries /")), 0);
    assert_int_equal(kill(store.pid, SIGKILL), 0);
    assert_int_equal(wait_event(rig.toolstack, HYP_EV_DEATH, LOCAL_DOMID_STORE).error, SIGKILL);
    struct hyp_event ev;
    assert_int_equal(hyp_next_event(b.hyp, &ev), 0);
    assert_int_equal(number(ask(&a, "ready")), 0); /* they live on */
    assert_int_equal(number(ask(&a, "reconnect")), -EAGAIN);
    assert_int_equal(hyp_store_connect(rig.toolstack), -EAGAIN);
    struct hyp_domain_config cfg = { .class_id = HYP_CLASS_NATIVE, .name = "early" };
    domid_t none;
    int conn[2];
    assert_int_equal(hyp_domain_create(rig.toolstack, &cfg, NULL, 0, &none, conn), -EAGAIN);
    start_store_again();
    close(rig.store);
    rig.store = hyp_store_connect(rig.toolstack); /* it need not have come up yet */
    assert_true(rig.store >= 0);
    assert_int_equal(hyp_domain_info(rig.toolstack, LOCAL_DOMID_STORE, &again), 0);
    assert_int_not_equal(again.pid, store.pid);
    store_told("=2 2\n");
    assert_true(number(ask(&a, "reconnect")) >= 0);
    char expected[32];
    snprintf(expected, sizeof(expected), "+%u\n", a.domid);
    store_told(expected);
    end(&a);
    snprintf(expected, sizeof(expected), "-%u\n", a.domid);
    store_told(expected);
    end(&b);
}

static unsigned living(void)
{
    struct hyp_domain_info info = { .domid = 0 };
    unsigned n = 0;
    while (hyp_domain_next(rig.toolstack, info.domid, &info) == 0)
        n++;
    return n;
}

static void toolstack_is_lost_and_found(void **state)
{
    (void)state;
    struct hyp *none;
    int parcel[2], pipe_ends[2];
    struct guest a = new_driver(), b = new_driver(), g = new_native();
    struct hyp_evtchn *ch;
    assert_int_equal(hyp_local_adopt(&none, adopt_path(), parcel), -EBUSY); /* there is one */
    assert_int_equal(hyp_evtchn_alloc(g.hyp, a.domid, &ch), 0);
    assert_int_equal(number(ask(&a, "bind %u %u", g.domid, hyp_evtchn_port(ch))), 0);
    assert_int_equal(number(ask(&a, "ready")), 0);
    assert_int_equal(hyp_local_parcel(rig.toolstack, parcel), 0);
    assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
    assert_int_equal(rights_send(parcel[0], "pipe", 4, &pipe_ends[1], 1), 0);
    close(pipe_ends[1]);
    close(parcel[0]);
    close(parcel[1]);
    said();
    hyp_close(rig.toolstack); /* as its death would */
    close(rig.store);
    assert_int_equal(kill(b.pid, SIGKILL), 0);
    assert_int_equal(number(ask(&a, "ring")), 0); /* nobody misses it */
    assert_int_equal(readable(ch), POLLIN);
    int error;
    while ((error = hyp_local_adopt(&rig.toolstack, adopt_path(), parcel)) == -EBUSY)
        usleep(1000); /* until the core saw it go */
    assert_int_equal(error, 0);
    const char *words = said();
    assert_non_null(strstr(words, "the toolstack went away"));
    assert_non_null(strstr(words, "is now the toolstack"));
    assert_int_equal(hyp_domid(rig.toolstack), HYP_DOMID_TOOLSTACK);
    wait_event(rig.toolstack, HYP_EV_READY, a.domid);
    assert_int_equal(wait_event(rig.toolstack, HYP_EV_DEATH, b.domid).error, SIGKILL);
    struct rights in = { .n = 0 };
    char text[8], byte;
    int flags;
    assert_int_equal(rights_receive(parcel[1], text, sizeof(text), &in, 1, &flags), 4);
    assert_int_equal(in.n, 1);
    assert_int_equal(write(in.fd[0], "x", 1), 1); /* the very same pipe */
    assert_int_equal(read(pipe_ends[0], &byte, 1), 1);
    rights_close(&in);
    close(parcel[0]);
    close(parcel[1]);
    close(pipe_ends[0]);
    assert_int_equal(living(), 3); /* a, g and the store */
    struct hyp_domain_info info;
    assert_int_equal(hyp_domain_info(rig.toolstack, a.domid, &info), 0);
    assert_string_equal(info.name, "probe");
    assert_true(info.ready);
    rig.store = hyp_store_fd(rig.toolstack);
    assert_true(rig.store >= 0);
    struct guest c = new_driver(); /* it may do what the first one might */
    assert_int_equal(number(ask(&c, "entries /")), 0);
    close(b.commands);
    end(&a);
    end(&c);
    end(&g);
}

static void only_root_is_the_toolstack(void **state)
{
    (void)state;
    int parcel[2], status;
    hyp_close(rig.toolstack);
    rig.toolstack = NULL;
    assert_int_equal(chmod(run_dir, 0755), 0);
    assert_int_equal(chmod(adopt_path(), 0666), 0); /* were the file itself no hindrance */
    pid_t pid = fork();
    if (pid == 0) {
        struct hyp *hyp;
        _exit(setuid(65534) == 0 && hyp_local_adopt(&hyp, adopt_path(), parcel) == -EBUSY ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_non_null(strstr(said(), "(uid 65534) cannot be the toolstack"));
    assert_int_equal(hyp_local_adopt(&rig.toolstack, adopt_path(), parcel), 0); /* control */
    close(parcel[0]);
    close(parcel[1]);
}

static void next_domain_runs_the_new_program(void **state)
{
    (void)state;
    char to[1200], other[1200], from[1200];
    struct hyp_domain_info info;
    struct guest a = new_driver();
    assert_int_equal(number(ask(&a, "entries /")), 0);
    snprintf(to, sizeof(to), "%s/bulkhead-blk", run_dir);
    snprintf(other, sizeof(other), "%s/new", run_dir);
    assert_int_equal(symlink("/nowhere/bulkhead-blk", other), 0);
    assert_int_equal(rename(other, to), 0);
    struct hyp_domain_config cfg = { .class_id = HYP_CLASS_BLK, .name = "new" };
    int conn[2];
    said();
    assert_int_equal(hyp_domain_create(rig.toolstack, &cfg, NULL, 0, &info.domid, conn), -ENOENT);
    assert_non_null(strstr(said(), "is the installation complete?"));
    assert_int_equal(number(ask(&a, "entries /")), 0); /* the old one has its own */
    snprintf(from, sizeof(from), "%s/tests/integration/helpers/core_domain", build_dir);
    assert_int_equal(symlink(from, other), 0);
    assert_int_equal(rename(other, to), 0);
    struct guest b = new_driver();
    assert_int_equal(number(ask(&b, "entries /")), 0);
    end(&a);
    end(&b);
}

int main(int argc, char **argv)
{
    (void)argc;
    if (geteuid() != 0) {
        fprintf(stderr, "test_core: needs root\n");
        return 77;
    }
    char *self = realpath(argv[0], NULL);
    assert_non_null(self);
    for (unsigned i = 0; i < 3; i++) /* BUILD/tests/integration/test_core */
        *strrchr(self, '/') = '\0';
    snprintf(build_dir, sizeof(build_dir), "%s", self);
    free(self);
    snprintf(run_dir, sizeof(run_dir), "/tmp/bulkhead-test-core.XXXXXX");
    assert_non_null(mkdtemp(run_dir));
    assert_int_equal(chmod(run_dir, 0755), 0);
    static const char *const programs[] = { "bulkhead-store", "bulkhead-blk", "bulkhead-nbd" };
    for (unsigned i = 0; i < 3; i++)
        link_program(programs[i], "tests/integration/helpers/core_domain");
#define WITH_CORE(test) cmocka_unit_test_setup_teardown(test, start, stop)
    const struct CMUnitTest tests[] = {
        WITH_CORE(namespaces_are_its_own),
        WITH_CORE(has_no_privilege),
        WITH_CORE(store_has_no_privilege),
        WITH_CORE(root_is_empty_and_stays_so),
        WITH_CORE(host_class_sees_programs_only),
        WITH_CORE(death_is_told),
        WITH_CORE(failed_start_is_a_death_with_a_sentence),
        WITH_CORE(pool_is_for_its_grantee_alone),
        WITH_CORE(pool_size_is_sealed),
        WITH_CORE(pool_moves_to_the_successor),
        WITH_CORE(pool_goes_to_the_spare_by_itself),
        WITH_CORE(large_pool_counts_as_a_whole),
        WITH_CORE(channel_is_for_its_remote_alone),
        WITH_CORE(fence_holds_back_the_successor),
        WITH_CORE(device_comes_to_the_spare_when_its_owner_dies),
        WITH_CORE(block_device_is_waited_for_and_claimed),
        WITH_CORE(only_disks_are_opened),
        WITH_CORE(open_that_hangs_delays_nobody),
        WITH_CORE(flood_delays_its_sender_alone),
        WITH_CORE(gifts_are_refused),
        WITH_CORE(rights_go_and_stay_away),
        WITH_CORE(core_is_small_and_idle),
        WITH_CORE(deaths_leave_no_descriptor),
        WITH_CORE(nothing_is_left_behind),
        WITH_CORE(domains_die_with_the_core),
        WITH_CORE(store_is_made_again),
        WITH_CORE(toolstack_is_lost_and_found),
        WITH_CORE(only_root_is_the_toolstack),
        WITH_CORE(next_domain_runs_the_new_program),
    };
    int failed = cmocka_run_group_tests_name("core", tests, NULL, NULL);
    char path[600];
    static const char *const left[] = { "bulkhead-store", "bulkhead-blk", "bulkhead-nbd",
                                        "disk", "held", "fifo", "new" };
    for (unsigned i = 0; i < sizeof(left) / sizeof(left[0]); i++) { /* the last four after a failure */
        snprintf(path, sizeof(path), "%s/%s", run_dir, left[i]);
        unlink(path);
    }
    unlink(adopt_path());
    rmdir(run_dir);
    return failed;
}
