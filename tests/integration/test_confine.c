/* SPDX-License-Identifier: MIT */
/*
 * Confinement, attack by attack: a driver domain, or a guest behind a TAP or vhost-user
 * door, that the real core started (helpers/confine_probe.c) tries each at three
 * depths of the jail, and the same attack is seen to succeed outside.  Needs root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "helpers/attacks.h"
#include "helpers/start_core.h"

#define WAIT_MS 20000

static char build_dir[512];
static char run_dir[64];
static char secret_byte = 's';

static struct {
    pid_t core, victim;
    struct hyp *toolstack, *granter;
    int unix_listener, abstract_listener, inet_listener;
    int packet, ask, tap; /* a net driver domain's sockets, a guest's TAP device */
    struct targets targets;
} rig;

/* --------------------------------------------------------------------- rig */

static struct hyp *native(void)
{
    struct hyp_domain_config cfg = { .class_id = HYP_CLASS_NATIVE, .name = "guest" };
    domid_t domid;
    int conn[2];
    struct hyp *hyp;
    assert_int_equal(hyp_domain_create(rig.toolstack, &cfg, NULL, 0, &domid, conn), 0);
    assert_int_equal(hyp_domain_unpause(rig.toolstack, domid), 0);
    assert_int_equal(hyp_local_open(&hyp, conn[0], conn[1]), 0);
    return hyp;
}

static int listener_at(int family, const void *addr, socklen_t bytes)
{
    int s = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(s >= 0);
    assert_int_equal(bind(s, addr, bytes), 0);
    assert_int_equal(listen(s, 64), 0);
    return s;
}

static void set_targets(void)
{
    struct targets *t = &rig.targets;
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t bytes = sizeof(in);
    snprintf(t->path, sizeof(t->path), "%s/plain.txt", run_dir);
    snprintf(t->new_path, sizeof(t->new_path), "%s/new.txt", run_dir);
    snprintf(t->unix_path, sizeof(t->unix_path), "%s/a.sock", run_dir);
    snprintf(t->abstract, sizeof(t->abstract), "%s/b.sock", run_dir);
    int fd = open(t->path, O_WRONLY | O_CREAT, 0644);
    assert_true(fd >= 0);
    close(fd);
    memcpy(name.sun_path, t->unix_path, sizeof(t->unix_path));
    rig.unix_listener = listener_at(AF_UNIX, &name, sizeof(name));
    chmod(t->unix_path, 0777);
    memset(name.sun_path, 0, sizeof(name.sun_path));
    size_t length = strlen(t->abstract);
    memcpy(name.sun_path + 1, t->abstract, length);
    rig.abstract_listener =
        listener_at(AF_UNIX, &name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length));
    rig.inet_listener = listener_at(AF_INET, &in, sizeof(in));
    assert_int_equal(getsockname(rig.inet_listener, (struct sockaddr *)&in, &bytes), 0);
    t->port = in.sin_port;
    rig.victim = fork();
    assert_true(rig.victim >= 0);
    if (rig.victim == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    t->victim = rig.victim;
    t->secret = (uintptr_t)&secret_byte;
}

/* What the keeper would give: a socket in an uplink's namespace, one for
 * questions in the machine's, and a TAP device in a guest's. */
static void set_network(void)
{
    struct ifreq ifr = { .ifr_name = "tap0", .ifr_flags = IFF_TAP | IFF_NO_PI };
    struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    int machine = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    rig.packet = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    rig.tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    assert_int_equal(ioctl(rig.tap, TUNSETIFF, &ifr), 0);
    assert_int_equal(setns(machine, CLONE_NEWNET), 0);
    close(machine);
    rig.ask = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(rig.packet >= 0 && rig.ask >= 0);
    assert_int_equal(ioctl(rig.ask, SIOCSIFFLAGS, &lo), 0);
    shutdown(rig.ask, SHUT_RDWR);
    snprintf(rig.targets.interface, sizeof(rig.targets.interface), "machine0");
    rig.targets.ifindex = if_nametoindex("machine0");
    assert_true(rig.targets.ifindex > 2); /* no number that every namespace has */
}

static int start(void **state)
{
    (void)state;
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    assert_int_equal(system("ip link add machine0 type veth peer name far0 && ip link set machine0 up"), 0);
    rig.core = start_core(build_dir, run_dir, &rig.toolstack);
    set_network();
    rig.granter = native();
    rig.targets.granter = hyp_domid(rig.granter);
    set_targets();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    int status = 0;
    if (rig.victim <= 0) /* the start failed, and 0 would be all of us */
        return 0;
    kill(rig.victim, SIGKILL);
    waitpid(rig.victim, &status, 0);
    hyp_close(rig.granter);
    hyp_close(rig.toolstack);
    waitpid(rig.core, &status, 0);
    close(rig.unix_listener);
    close(rig.abstract_listener);
    close(rig.inet_listener);
    close(rig.packet);
    close(rig.ask);
    close(rig.tap);
    unlink(rig.targets.unix_path);
    unlink(rig.targets.path);
    return status;
}

/* ------------------------------------------------------------------- probes */

struct probe {
    domid_t domid;
    int commands;
};

static struct probe probe_start(enum hyp_class cls)
{
    struct probe p;
    int pair[2], conn[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    struct hyp_domain_config cfg = { .class_id = cls, .name = "probe" };
    bool tap = cls == HYP_CLASS_TAP, vhost = cls == HYP_CLASS_VHOST;
    int fds[4] = { STDERR_FILENO, pair[1], tap ? rig.tap : vhost ? rig.unix_listener : rig.packet, rig.ask };
    unsigned nfds = cls == HYP_CLASS_NET ? 4 : tap || vhost ? 3 : 2;
    assert_int_equal(hyp_domain_create(rig.toolstack, &cfg, fds, nfds, &p.domid, conn), 0);
    assert_int_equal(hyp_domain_unpause(rig.toolstack, p.domid), 0);
    close(pair[1]);
    p.commands = pair[0];
    return p;
}

/* Ends it; returns its wait status. */
static int probe_end(struct probe *p)
{
    close(p->commands);
    hyp_domain_destroy(rig.toolstack, p->domid); /* unless it died by itself */
    for (;;) {
        struct hyp_event ev;
        int got = hyp_next_event(rig.toolstack, &ev);
        if (got == 1 && ev.kind == HYP_EV_DEATH && ev.domid == p->domid)
            return ev.error;
        assert_true(got >= 0);
        struct pollfd fd = { .fd = hyp_fd(rig.toolstack), .events = POLLIN };
        if (got == 0)
            assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    }
}

/* One word from the probe: 1 got, 0 it is gone. */
static int probe_says(const struct probe *p, int32_t *word)
{
    struct pollfd fd = { .fd = p->commands, .events = POLLIN };
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    return recv(p->commands, word, sizeof(*word), 0) == (ssize_t)sizeof(*word);
}

/* What became of one attack: 0 success, negative errno, or 1 killed for it. */
static int attack_from(enum hyp_class cls, enum stage stage, int attack)
{
    struct probe p = probe_start(cls), other = probe_start(HYP_CLASS_BLK);
    struct hyp_pool *own, *rdonly, *foreign;
    struct hyp_evtchn *theirs;
    struct hyp_domain_info info;
    struct order order = { .cls = cls, .stage = stage, .attack = attack, .targets = rig.targets };
    assert_int_equal(hyp_domain_info(rig.toolstack, other.domid, &info), 0);
    order.targets.other = info.pid;
    assert_int_equal(hyp_evtchn_alloc(rig.granter, other.domid, &theirs), 0);
    order.targets.foreign_port = hyp_evtchn_port(theirs);
    assert_int_equal(hyp_pool_create(rig.granter, p.domid, 2, 0, &own), 0);
    assert_int_equal(hyp_pool_create(rig.granter, p.domid, 2, HYP_POOL_RDONLY, &rdonly), 0);
    assert_int_equal(hyp_pool_create(rig.granter, other.domid, 2, 0, &foreign), 0);
    order.targets.own_ref = hyp_pool_ref(own, 0);
    order.targets.rdonly_ref = hyp_pool_ref(rdonly, 0);
    order.targets.foreign_ref = hyp_pool_ref(foreign, 0);
    assert_int_equal(send(p.commands, &order, sizeof(order), MSG_NOSIGNAL), sizeof(order));
    int32_t word = 0;
    assert_true(probe_says(&p, &word)); /* armed, and as deep in the jail as told */
    assert_int_equal(word, 1);
    int answered = probe_says(&p, &word);
    struct pollfd gone = { .fd = p.commands, .events = POLLIN };
    if (!answered)
        poll(&gone, 1, WAIT_MS);
    int status = probe_end(&p);
    probe_end(&other);
    hyp_evtchn_close(theirs);
    assert_int_equal(hyp_pool_end(own), 0);
    assert_int_equal(hyp_pool_end(rdonly), 0);
    assert_int_equal(hyp_pool_end(foreign), 0);
    if (answered)
        return word;
    /* No word: it runs another program now, or was killed for trying. */
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS ? 1 : 0;
}

/* The same outside: a child of ours, root, with the same arms but no jail. */
static int attack_outside(int attack)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) {
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
    }
    struct io_uring ring;
    struct targets t = rig.targets;
    struct arms a = { .pool_fd = memfd_create("pool", 0), .ring = &ring, .tap = rig.tap,
                      .listener = rig.unix_listener,
                      .packet = socket(AF_PACKET, SOCK_RAW, 0), .ask = socket(AF_INET, SOCK_DGRAM, 0) };
    t.other = t.victim;
    a.rdonly_fd = a.pool_fd; /* no grant, no limit */
    a.page = mmap(NULL, HYP_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ftruncate(a.pool_fd, HYP_PAGE_SIZE) || io_uring_queue_init(8, &ring, IORING_SETUP_R_DISABLED))
        _exit(200);
    /* All that is missing to the probe's ring are the restrictions. */
    if (attacks[attack].run != ring_widen &&
        syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0))
        _exit(201);
    _exit(-attacks[attack].run(&t, &a));
}

/* -------------------------------------------------------------------- tests */

/* What a domain may do when it was granted, and not when another was. */
static bool granted(const struct attack *a)
{
    return a->run == map_foreign_pool || a->run == map_rdonly_for_writing || a->run == bind_foreign_channel;
}

static void attacks_succeed_outside(void **state)
{
    (void)state;
    for (size_t i = 0; i < ATTACKS; i++) {
        if (granted(&attacks[i])) /* the control is a domain that may: below */
            continue;
        int got = attack_outside((int)i);
        if (got != 0)
            fail_msg("control: outside the jail, \"%s\" failed: %s", attacks[i].what, strerror(-got));
    }
}

/* The control of those: the very same call, with a grant. */
static void a_grant_is_enough(void **state)
{
    (void)state;
    for (size_t i = 0; i < ATTACKS; i++) {
        if (!granted(&attacks[i]))
            continue;
        struct probe p = probe_start(HYP_CLASS_BLK);
        struct hyp_pool *pools[2];
        struct hyp_evtchn *channel;
        struct order order = { .cls = HYP_CLASS_BLK, .stage = SEALED, .attack = (int)i,
                               .targets = rig.targets };
        assert_int_equal(hyp_evtchn_alloc(rig.granter, p.domid, &channel), 0);
        order.targets.foreign_port = hyp_evtchn_port(channel);
        assert_int_equal(hyp_pool_create(rig.granter, p.domid, 2, 0, &pools[0]), 0);
        assert_int_equal(hyp_pool_create(rig.granter, p.domid, 2, 0, &pools[1]), 0);
        order.targets.own_ref = order.targets.foreign_ref = hyp_pool_ref(pools[0], 0);
        order.targets.rdonly_ref = hyp_pool_ref(pools[1], 0);
        assert_int_equal(send(p.commands, &order, sizeof(order), MSG_NOSIGNAL), sizeof(order));
        int32_t word = -1;
        assert_true(probe_says(&p, &word));
        assert_true(probe_says(&p, &word));
        assert_int_equal(word, 0);
        probe_end(&p);
        hyp_evtchn_close(channel);
        for (int n = 0; n < 2; n++)
            assert_int_equal(hyp_pool_end(pools[n]), 0);
    }
}

static void attacks_fail_from(enum hyp_class cls, enum stage stage)
{
    unsigned missing = ~jail_features(), tried = 0;
    unsigned succeeded = 0;
    for (size_t i = 0; i < ATTACKS; i++) {
        const struct attack *a = &attacks[i];
        if (stage < a->refused_from || !(a->classes & 1u << cls))
            continue;
        /* What confinement leaves to a kernel without these, the seal takes. */
        if (stage == CONFINED && a->refused_from == CONFINED && (missing & (JAIL_LANDLOCK | JAIL_MDWE)))
            continue;
        int got = attack_from(cls, stage, (int)i);
        printf("             %-44s %s\n", a->what,
               got == 1 ? "killed" : got == 0 ? "SUCCEEDED" : strerror(-got));
        succeeded += got == 0;
        tried++;
    }
    assert_int_equal(succeeded, 0);
    assert_true(tried > 20);
}

#define ATTACKS_OF(name, cls)                                                                  \
    static void name##_fails_once_launched(void **state)                                      \
    {                                                                                          \
        (void)state;                                                                           \
        attacks_fail_from(cls, LAUNCHED);                                                      \
    }                                                                                          \
    static void name##_fails_once_confined(void **state)                                      \
    {                                                                                          \
        (void)state;                                                                           \
        attacks_fail_from(cls, CONFINED);                                                      \
    }                                                                                          \
    static void name##_fails_once_sealed(void **state)                                        \
    {                                                                                          \
        (void)state;                                                                           \
        attacks_fail_from(cls, SEALED);                                                        \
    }
ATTACKS_OF(a_block_driver_domain, HYP_CLASS_BLK)
ATTACKS_OF(a_net_driver_domain, HYP_CLASS_NET)
ATTACKS_OF(a_tap_door, HYP_CLASS_TAP)
ATTACKS_OF(a_vhost_door, HYP_CLASS_VHOST)

int main(int argc, char **argv)
{
    (void)argc;
    if (geteuid() != 0) {
        fprintf(stderr, "test_confine: needs root\n");
        return 77;
    }
    char *self = realpath(argv[0], NULL);
    assert_non_null(self);
    for (unsigned i = 0; i < 3; i++) /* BUILD/tests/integration/test_confine */
        *strrchr(self, '/') = '\0';
    snprintf(build_dir, sizeof(build_dir), "%s", self);
    free(self);
    snprintf(run_dir, sizeof(run_dir), "/tmp/bulkhead-confine.XXXXXX");
    assert_non_null(mkdtemp(run_dir));
    assert_int_equal(chmod(run_dir, 0755), 0);
    static const char *const programs[][2] = {
        { "bulkhead-store", "bulkhead-store" },
        { "bulkhead-blk", "tests/integration/helpers/confine_probe" },
        { "bulkhead-net", "tests/integration/helpers/confine_probe" },
        { "bulkhead-tap", "tests/integration/helpers/confine_probe" },
        { "bulkhead-vhost", "tests/integration/helpers/confine_probe" },
    };
    const unsigned nprograms = sizeof(programs) / sizeof(programs[0]);
    char from[700], to[200];
    for (unsigned i = 0; i < nprograms; i++) {
        snprintf(from, sizeof(from), "%s/%s", build_dir, programs[i][1]);
        snprintf(to, sizeof(to), "%s/%s", run_dir, programs[i][0]);
        assert_int_equal(symlink(from, to), 0);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attacks_succeed_outside),
        cmocka_unit_test(a_grant_is_enough),
#define TESTS_OF(name)                                                                         \
    cmocka_unit_test(name##_fails_once_launched), cmocka_unit_test(name##_fails_once_confined), \
        cmocka_unit_test(name##_fails_once_sealed)
        TESTS_OF(a_block_driver_domain),
        TESTS_OF(a_net_driver_domain),
        TESTS_OF(a_tap_door),
        TESTS_OF(a_vhost_door),
    };
    int failed = cmocka_run_group_tests_name("confinement", tests, start, stop);
    for (unsigned i = 0; i < nprograms; i++) {
        snprintf(to, sizeof(to), "%s/%s", run_dir, programs[i][0]);
        unlink(to);
    }
    rmdir(run_dir);
    return failed;
}
