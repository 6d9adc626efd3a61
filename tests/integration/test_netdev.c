/* SPDX-License-Identifier: MIT */
/*
 * The keeper of network interfaces as it is: its program, started by the real
 * core, on veth pairs in a network namespace of the test's own, which is the
 * machine's for it, and so is its /run.  Needs root and iproute2.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../hyp-shim/local/client.h"
#include "../../hyp-shim/local/netdev/link.h"
#include "../../hyp-shim/local/rights.h"
#include "helpers/start_core.h"

#define WAIT_MS 20000
#define NEWS_MAX 64

static char build_dir[512];
static char netns[32]; /* of a guest */

static struct {
    pid_t core;
    struct hyp *toolstack;
    domid_t keeper;
    int control;
    struct link_event news[NEWS_MAX]; /* LINK_STATE, not yet looked at */
    unsigned nnews;
} rig;

/* --------------------------------------------------------------------- rig */

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (system(line) != 0)
        fail_msg("failed: %s", line);
}

/* First line that the command prints. */
static const char *output(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *output(const char *format, ...)
{
    static char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    FILE *f = popen(line, "r");
    assert_non_null(f);
    if (!fgets(line, sizeof(line), f))
        line[0] = '\0';
    pclose(f);
    line[strcspn(line, "\n")] = '\0';
    return line;
}

static void wait_event(enum hyp_event_kind kind, domid_t domid)
{
    for (;;) {
        struct hyp_event ev;
        struct pollfd fd = { .fd = hyp_fd(rig.toolstack), .events = POLLIN };
        int got = hyp_next_event(rig.toolstack, &ev);
        assert_true(got >= 0);
        if (got == 1 && ev.kind == kind && ev.domid == domid)
            return;
        assert_true(got == 0 || ev.kind != HYP_EV_DEATH);
        if (got == 0)
            assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    }
}

static void start_keeper(void)
{
    int pair[2], conn[2];
    struct hyp_domain_config cfg = { .class_id = HYP_CLASS_NETDEV, .name = "netdev" };
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    int fds[2] = { STDERR_FILENO, pair[1] };
    assert_int_equal(hyp_domain_create(rig.toolstack, &cfg, fds, 2, &rig.keeper, conn), 0);
    assert_int_equal(hyp_domain_unpause(rig.toolstack, rig.keeper), 0);
    close(pair[1]);
    rig.control = pair[0];
    rig.nnews = 0;
    wait_event(HYP_EV_READY, rig.keeper);
}

static int start(void **state)
{
    (void)state;
    snprintf(netns, sizeof(netns), "bhtest%d", (int)getpid());
    assert_int_equal(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
    assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    assert_int_equal(mount("none", "/run", "tmpfs", 0, "size=1m"), 0);
    assert_int_equal(mount("none", "/sys", "sysfs", 0, NULL), 0); /* with the interfaces of that namespace */
    rig.core = start_core(build_dir, build_dir, &rig.toolstack);
    start_keeper();
    run("ip netns add %s", netns); /* the first on this machine, and the keeper was there before it */
    return 0;
}

static int stop(void **state)
{
    (void)state;
    int status = 0;
    close(rig.control);
    hyp_close(rig.toolstack);
    waitpid(rig.core, &status, 0);
    run("ip netns delete %s", netns);
    return status;
}

static void pair_up(void)
{
    run("ip link add up0 type veth peer name far0 && ip link set far0 up");
}

static int pair_down(void **state)
{
    (void)state;
    return system("ip link delete far0 2>/dev/null") < 0;
}

/* ---------------------------------------------------------------- requests */

static struct link_request request(uint32_t op, uint32_t id, const char *name)
{
    struct link_request q = { .version = LINK_VERSION, .op = op, .id = id, .kind = LINK_KIND_PACKET };
    memcpy(q.name, name, strlen(name) + 1);
    return q;
}

static struct link_event next_event(void)
{
    struct link_event e;
    struct rights none;
    int flags;
    struct pollfd fd = { .fd = rig.control, .events = POLLIN };
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    assert_int_equal(rights_receive(rig.control, &e, sizeof(e), &none, 1, &flags), sizeof(e));
    assert_int_equal(none.n, 0);
    return e;
}

static struct link_event answer_to(uint32_t op)
{
    for (;;) {
        struct link_event e = next_event();
        if (e.op == op)
            return e;
        assert_int_equal(e.op, LINK_STATE);
        assert_true(rig.nnews < NEWS_MAX);
        rig.news[rig.nnews++] = e;
    }
}

/* Sends it with the keeper's end of a new channel; *channel: ours. */
static struct link_event ask(const struct link_request *q, int *channel)
{
    int pair[2] = { -1, -1 };
    if (channel)
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(rights_send(rig.control, q, sizeof(*q), &pair[1], channel ? 1 : 0), 0);
    if (channel) {
        close(pair[1]);
        *channel = pair[0];
    }
    return answer_to(q->op);
}

static void refused(const struct link_request *q, int error, const char *words)
{
    int channel = -1;
    struct link_event e = ask(q, q->op == LINK_RELEASE ? NULL : &channel);
    if (e.error != error || !strstr(e.why, words))
        fail_msg("expected %d and \"%s\", got %d: %s", error, words, e.error, e.why);
    if (q->op != LINK_RELEASE)
        close(channel);
}

/* Until the toolstack is told of that state. */
static void wait_state(uint32_t id, uint32_t state)
{
    for (unsigned i = 0; i < rig.nnews; i++)
        if (rig.news[i].id == id && rig.news[i].state == state) {
            rig.nnews = 0;
            return;
        }
    rig.nnews = 0;
    for (;;) {
        struct link_event e = next_event();
        assert_int_equal(e.op, LINK_STATE);
        if (e.id == id && e.state == state)
            return;
    }
}

static struct rights grant_from(int channel, struct link_grant *g)
{
    struct rights r;
    int flags;
    struct pollfd fd = { .fd = channel, .events = POLLIN };
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    assert_int_equal(rights_receive(channel, g, sizeof(*g), &r, RIGHTS_MAX, &flags), sizeof(*g));
    assert_int_equal(flags & (MSG_TRUNC | MSG_CTRUNC), 0);
    assert_int_equal(g->version, LINK_VERSION);
    assert_int_equal(g->nsockets, r.n);
    return r;
}

/* Until the domain at the other end is told of that state. */
static void channel_state(int channel, uint32_t state)
{
    struct link_grant g;
    do {
        struct rights r = grant_from(channel, &g);
        assert_int_equal(r.n, 0);
    } while (g.state != state);
}

static struct rights uplink(uint32_t id, uint32_t kind, uint32_t mtu, int *channel, struct link_grant *g)
{
    struct link_request q = request(LINK_UPLINK, id, "up0");
    q.kind = kind;
    q.mtu = mtu;
    q.index = 3;
    struct link_event e = ask(&q, channel);
    if (e.error)
        fail_msg("no uplink: %s", e.why);
    assert_int_equal(e.id, id);
    struct rights r = grant_from(*channel, g);
    assert_int_equal(g->kind, kind);
    assert_int_equal(g->index, 3);
    assert_string_equal(g->name, "up0");
    assert_int_equal(r.n, 3);
    return r;
}

static void release(uint32_t id)
{
    struct link_request q = request(LINK_RELEASE, id, "");
    struct link_event e = ask(&q, NULL);
    if (e.error)
        fail_msg("not released: %s", e.why);
}

static int domain_of(int fd)
{
    int domain = -1;
    socklen_t n = sizeof(domain);
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n);
    return domain;
}

static bool here(const char *name)
{
    return if_nametoindex(name) != 0;
}

/* Runs a command in the network namespace of a socket; its first line. */
static const char *output_at(int fd, const char *command)
{
    char path[64];
    int ns = ioctl(fd, SIOCGSKNS), own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    assert_true(ns >= 0 && own >= 0);
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), ns);
    const char *line = output("nsenter --net=%s %s", path, command);
    close(ns);
    close(own);
    return line;
}

/* ------------------------------------------------------------------- tests */

static bool has(int pid, const char *line)
{
    char path[64], got[256];
    bool found = false;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(got, sizeof(got), f))
        found |= strncmp(got, line, strlen(line)) == 0;
    fclose(f);
    return found;
}

static bool same_namespace(int pid, const char *kind)
{
    char path[64], theirs[64] = "", ours[64] = "";
    snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, kind);
    assert_true(readlink(path, theirs, sizeof(theirs) - 1) > 0);
    snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
    assert_true(readlink(path, ours, sizeof(ours) - 1) > 0);
    return strcmp(theirs, ours) == 0;
}

static void it_has_three_capabilities(void **state)
{
    (void)state;
    struct hyp_domain_info info;
    assert_int_equal(hyp_domain_info(rig.toolstack, rig.keeper, &info), 0);
    assert_int_equal(info.uid, 0);
    assert_int_equal(info.rights, 0);
    /* CAP_NET_ADMIN 12, CAP_NET_RAW 13, CAP_SYS_ADMIN 21 */
    assert_true(has(info.pid, "CapBnd:\t0000000000203000"));
    assert_true(has(info.pid, "CapEff:\t0000000000203000"));
    assert_true(has(info.pid, "CapPrm:\t0000000000203000"));
    assert_true(has(info.pid, "CapInh:\t0000000000000000"));
    assert_true(has(info.pid, "CapAmb:\t0000000000000000"));
    assert_true(has(info.pid, "Uid:\t0\t0\t0\t0"));
    assert_true(has(info.pid, "NoNewPrivs:\t1"));
    assert_true(has(info.pid, "Seccomp:\t2"));
    static const char *const shared[] = { "user", "mnt", "net" };
    static const char *const own[] = { "pid", "ipc", "uts", "cgroup" };
    for (unsigned i = 0; i < sizeof(shared) / sizeof(shared[0]); i++)
        assert_true(same_namespace(info.pid, shared[i]));
    for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        assert_false(same_namespace(info.pid, own[i]));
}

/* A frame that goes out of socket s on interface index arrives at far0. */
static void frame_arrives(int s, int index)
{
    struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = index, .sll_protocol = htons(0x88b5) };
    struct sockaddr_ll at = to;
    uint8_t frame[60] = { 2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x88, 0xb5, 'h', 'i' }, got[100];
    int far = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x88b5));
    at.sll_ifindex = (int)if_nametoindex("far0");
    assert_int_equal(bind(far, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(bind(s, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(send(s, frame, sizeof(frame), 0), sizeof(frame));
    struct pollfd fd = { .fd = far, .events = POLLIN };
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    assert_int_equal(recv(far, got, sizeof(got), 0), sizeof(frame));
    assert_memory_equal(got, frame, sizeof(frame));
    close(far);
}

static void an_uplink_is_taken_and_given_back(void **state)
{
    (void)state;
    struct link_grant g;
    struct ifreq ifr = { .ifr_name = "up0" };
    int channel;
    pair_up();
    run("ip addr add 192.0.2.1/24 dev up0 && ethtool -K up0 gro on");
    struct rights r = uplink(1, LINK_KIND_PACKET, 9000, &channel, &g);
    assert_false(here("up0"));
    assert_int_equal(domain_of(r.fd[0]), AF_INET);
    assert_int_equal(domain_of(r.fd[1]), AF_PACKET);
    assert_int_equal(domain_of(r.fd[2]), AF_PACKET);
    assert_int_equal(g.mtu, 9000);
    assert_int_equal(ioctl(r.fd[0], SIOCGIFHWADDR, &ifr), 0);
    assert_memory_equal(ifr.ifr_hwaddr.sa_data, g.mac, 6);
    assert_int_equal(ioctl(r.fd[0], SIOCGIFFLAGS, &ifr), 0);
    assert_true((ifr.ifr_flags & (IFF_UP | IFF_PROMISC)) == (IFF_UP | IFF_PROMISC));
    assert_string_equal(output_at(r.fd[0], "cat /proc/sys/net/ipv6/conf/up0/disable_ipv6"), "1");
    assert_string_equal(output_at(r.fd[0], "ip -o addr show up0"), "");
    assert_string_equal(output_at(r.fd[0], "ethtool -k up0 | grep ^generic-receive"),
                        "generic-receive-offload: off");
    frame_arrives(r.fd[1], (int)g.ifindex);
    rights_close(&r);
    close(channel);
    release(1);
    assert_true(here("up0"));
    assert_string_equal(output("ip -o link show up0 | grep -o 'mtu 1500'"), "mtu 1500");
    assert_string_equal(output("ip -o link show up0 up"), "");
}

/* It is for questions: the same in the machine's namespace would be a way out. */
static void the_asking_socket_sends_nothing(void **state)
{
    (void)state;
    struct link_grant g;
    int channel, s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(9),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    run("ip link set lo up");
    struct link_request q = request(LINK_UPLINK, 7, "up0");
    q.kind = LINK_KIND_TAP;
    struct link_event e = ask(&q, &channel);
    assert_int_equal(e.error, 0);
    struct rights r = grant_from(channel, &g);
    assert_int_equal(sendto(s, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)), 1); /* the control */
    assert_int_equal(sendto(r.fd[0], "x", 1, MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof(to)), -1);
    assert_int_equal(errno, EPIPE);
    rights_close(&r);
    close(channel);
    close(s);
    wait_state(7, LINK_GONE); /* a TAP that nobody has */
    release(7);
}

static void a_reborn_driver_domain_gets_its_own_sockets(void **state)
{
    (void)state;
    struct link_grant g, g2;
    int channel, channel2;
    pair_up();
    struct rights r = uplink(1, LINK_KIND_PACKET, 0, &channel, &g);
    struct rights r2 = uplink(1, LINK_KIND_PACKET, 0, &channel2, &g2);
    assert_int_equal(g.ifindex, g2.ifindex);
    frame_arrives(r2.fd[1], (int)g2.ifindex);
    rights_close(&r);
    close(channel); /* the first one died */
    frame_arrives(r2.fd[2], (int)g2.ifindex);
    run("ip link set far0 down");
    channel_state(channel2, LINK_DOWN);
    rights_close(&r2);
    close(channel2);
    release(1);
}

static void its_state_is_told(void **state)
{
    (void)state;
    struct link_grant g;
    int channel;
    pair_up();
    struct rights r = uplink(2, LINK_KIND_PACKET, 0, &channel, &g);
    run("ip link set far0 down");
    wait_state(2, LINK_DOWN);
    channel_state(channel, LINK_DOWN);
    run("ip link set far0 up");
    wait_state(2, LINK_UP);
    channel_state(channel, LINK_UP);
    run("ip link delete far0");
    wait_state(2, LINK_GONE);
    channel_state(channel, LINK_GONE);
    struct link_request q = request(LINK_UPLINK, 2, "up0");
    refused(&q, -ENODEV, "there is no network interface up0");
    pair_up();
    wait_state(2, LINK_BACK);
    channel_state(channel, LINK_BACK);
    run("ip link delete far0");
    wait_state(2, LINK_GONE);
    pair_up();
    wait_state(2, LINK_BACK);
    rights_close(&r);
    close(channel);
    r = uplink(2, LINK_KIND_PACKET, 0, &channel, &g);
    assert_false(here("up0"));
    frame_arrives(r.fd[1], (int)g.ifindex);
    rights_close(&r);
    close(channel);
    release(2);
    assert_true(here("up0"));
}

static void xdp_gets_a_map_and_a_program(void **state)
{
    (void)state;
    struct link_grant g;
    int channel;
    pair_up();
    struct rights r = uplink(3, LINK_KIND_XDP, 0, &channel, &g);
    assert_int_equal(domain_of(r.fd[0]), AF_INET);
    assert_int_equal(domain_of(r.fd[1]), AF_XDP);
    assert_string_equal(
        output_at(r.fd[0], "ip -d link show up0 | grep -o 'prog/xdp.*name uplink'")[0] ? "yes" : "no", "yes");
    rights_close(&r);
    close(channel);
    /* To packets and back without release: the program must not stay. */
    r = uplink(3, LINK_KIND_PACKET, 0, &channel, &g);
    assert_string_equal(output_at(r.fd[0], "ip -d link show up0 | grep -o prog/xdp"), "");
    rights_close(&r);
    close(channel);
    release(3);
    assert_string_equal(output("ip -d link show up0 | grep -o prog/xdp"), "");
}

static void a_tap_appears_in_its_namespace(void **state)
{
    (void)state;
    struct link_request q = request(LINK_TAP, 5, "eth0");
    static const uint8_t mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };
    struct link_grant g;
    int channel;
    q.index = 1;
    q.mtu = 4000;
    memcpy(q.mac, mac, sizeof(mac));
    memcpy(q.netns, netns, strlen(netns) + 1);
    struct link_event e = ask(&q, &channel);
    if (e.error)
        fail_msg("no TAP: %s", e.why);
    struct rights r = grant_from(channel, &g);
    assert_int_equal(r.n, 1);
    assert_int_equal(g.kind, 0);
    assert_int_equal(g.index, 1);
    assert_int_equal(g.mtu, 4000);
    assert_memory_equal(g.mac, mac, sizeof(mac));
    assert_memory_equal(e.mac, mac, sizeof(mac));
    assert_false(here("eth0"));
    assert_string_equal(output("ip netns exec %s ip -o link show eth0 up | grep -o 'mtu 4000'", netns),
                        "mtu 4000");
    assert_string_equal(output("ip netns exec %s ip -o link show eth0 | grep -o 52:54:00:01:02:03", netns),
                        "52:54:00:01:02:03");
    q.id = 6;
    refused(&q, -EEXIST, "has an interface eth0 already");
    q.id = 5;
    rights_close(&r);
    close(channel);
    e = ask(&q, &channel);
    assert_int_equal(e.error, 0);
    close(channel); /* not even taken */
    q.netns[0] = '\0'; /* the machine's */
    e = ask(&q, &channel);
    assert_int_equal(e.error, 0);
    assert_true(here("eth0"));
    assert_string_equal(output("ip netns exec %s ip -o link show eth0 2>/dev/null", netns), "");
    close(channel);
    assert_true(here("eth0"));
    release(5);
    assert_false(here("eth0"));
}

/* Its door dies, and the next one gets the same device: up, with what arrived meanwhile. */
static void a_tap_survives_its_door(void **state)
{
    (void)state;
    struct link_request q = request(LINK_TAP, 5, "eth0");
    struct link_grant g, g2;
    int channel;
    assert_int_equal(ask(&q, &channel).error, 0);
    struct rights r = grant_from(channel, &g);
    rights_close(&r);
    close(channel);
    assert_string_equal(output("cat /sys/class/net/eth0/carrier"), "1");
    char *changes = strdup(output("cat /sys/class/net/eth0/carrier_changes"));
    int s = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x88b5));
    struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = (int)g.ifindex,
                              .sll_protocol = htons(0x88b5) };
    uint8_t frame[60] = { 2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x88, 0xb5, 'h', 'i' }, got[200];
    assert_int_equal(bind(s, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(send(s, frame, sizeof(frame), 0), sizeof(frame));
    q.mtu = 2000;
    assert_int_equal(ask(&q, &channel).error, 0);
    r = grant_from(channel, &g2);
    assert_int_equal(g2.ifindex, g.ifindex);
    assert_int_equal(g2.mtu, 2000);
    assert_string_equal(output("cat /sys/class/net/eth0/carrier_changes"), changes);
    free(changes);
    ssize_t n;
    do { /* the machine may have said something of its own there */
        struct pollfd fd = { .fd = r.fd[0], .events = POLLIN };
        assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
        n = read(r.fd[0], got, sizeof(got));
    } while (n < (ssize_t)sizeof(frame) || memcmp(got + n - sizeof(frame), frame, sizeof(frame)) != 0);
    run("ip link delete eth0"); /* then there is nothing to give again */
    rights_close(&r);
    close(channel);
    assert_int_equal(ask(&q, &channel).error, 0);
    r = grant_from(channel, &g);
    assert_int_equal(r.n, 1);
    assert_int_not_equal(g.ifindex, g2.ifindex);
    release(5);
    assert_true(here("eth0")); /* somebody has it */
    rights_close(&r);
    close(channel);
    close(s);
    assert_false(here("eth0"));
    q = request(LINK_RELEASE, 5, "");
    refused(&q, -ENOENT, "no such uplink or TAP");
}

static bool arrives(int s, int from)
{
    uint8_t frame[60] = { 2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x88, 0xb5, 'h', 'i' }, got[100];
    assert_int_equal(send(from, frame, sizeof(frame), 0), sizeof(frame));
    /* A veth gives a frame to its other end before send() is over, or soon after. */
    struct pollfd fd = { .fd = s, .events = POLLIN };
    return poll(&fd, 1, 200) == 1 && recv(s, got, sizeof(got), 0) == sizeof(frame);
}

/* A spare hears nothing of what its uplink receives until it takes the filter off. */
static void a_spare_hears_nothing(void **state)
{
    (void)state;
    struct link_grant g;
    int channel, unused = 0;
    pair_up();
    struct rights r = uplink(1, LINK_KIND_PACKET, 0, &channel, &g);
    struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_ifindex = (int)g.ifindex,
                              .sll_protocol = htons(0x88b5) };
    struct sockaddr_ll far = at;
    int from = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    far.sll_ifindex = (int)if_nametoindex("far0");
    far.sll_protocol = 0;
    assert_int_equal(bind(from, (struct sockaddr *)&far, sizeof(far)), 0);
    for (unsigned i = 1; i < 3; i++) {
        assert_int_equal(bind(r.fd[i], (struct sockaddr *)&at, sizeof(at)), 0);
        assert_false(arrives(r.fd[i], from));
        assert_int_equal(setsockopt(r.fd[i], SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof(unused)), 0);
        assert_true(arrives(r.fd[i], from));
    }
    rights_close(&r);
    close(channel);
    close(from);
    release(1);
}

static void errors_are_sentences(void **state)
{
    (void)state;
    struct link_grant g;
    int channel;
    pair_up();
    struct link_request q = request(LINK_UPLINK, 1, "nosuch0");
    refused(&q, -ENODEV, "there is no network interface nosuch0; see: ip link");
    q = request(LINK_UPLINK, 1, "lo");
    refused(&q, -EINVAL, "loopback");
    q = request(LINK_UPLINK, 1, "a/b");
    refused(&q, -EINVAL, "cannot be the name");
    q = request(LINK_UPLINK, 1, "tap%d");
    refused(&q, -EINVAL, "cannot be the name");
    q = request(LINK_UPLINK, 1, "");
    refused(&q, -EINVAL, "cannot be the name");
    q = request(LINK_UPLINK, 1, "up0");
    memset(q.name, 'x', sizeof(q.name)); /* without end */
    refused(&q, -EINVAL, "cannot be the name");
    q = request(LINK_UPLINK, 1, "up0");
    q.kind = 9;
    refused(&q, -EINVAL, "kind 9");
    q = request(LINK_UPLINK, 1, "up0");
    q.mtu = 1u << 30;
    refused(&q, -EINVAL, "does not take an MTU");
    assert_true(here("up0")); /* given back at once */
    q = request(9, 1, "up0");
    refused(&q, -ENOSYS, "no request 9");
    q = request(LINK_UPLINK, 1, "up0");
    q.version = 7;
    refused(&q, -EPROTO, "version");
    q.version = LINK_VERSION;
    q.zero[1] = 1;
    refused(&q, -EPROTO, "understand");
    q = request(LINK_RELEASE, 1, "");
    refused(&q, -ENOENT, "no such uplink");
    struct rights r = uplink(1, LINK_KIND_PACKET, 0, &channel, &g);
    q = request(LINK_UPLINK, 2, "up0");
    refused(&q, -EBUSY, "another driver domain");
    q = request(LINK_UPLINK, 1, "far0");
    refused(&q, -EBUSY, "this uplink is up0");
    rights_close(&r);
    close(channel);
    release(1);
    q = request(LINK_TAP, 1, "eth0");
    memcpy(q.netns, "nosuch", 7);
    refused(&q, -ENOENT, "there is no network namespace nosuch; make it: ip netns add nosuch");
    memcpy(q.netns, "../self", 8);
    refused(&q, -EINVAL, "no name of a network namespace");
    q = request(LINK_TAP, 1, "eth0");
    q.mac[0] = 1;
    refused(&q, -EINVAL, "MAC");
    q = request(LINK_TAP, 1, "lo");
    refused(&q, -EEXIST, "the machine has an interface lo already");
    /* Not a request at all, and one without the channel that it needs. */
    assert_int_equal(send(rig.control, "x", 1, 0), 1);
    assert_int_equal(next_event().error, -EPROTO);
    q = request(LINK_UPLINK, 1, "up0");
    assert_int_equal(ask(&q, NULL).error, -EPROTO);
}

static unsigned keepers_descriptors(void)
{
    struct hyp_domain_info info;
    char path[64];
    unsigned n = 0;
    assert_int_equal(hyp_domain_info(rig.toolstack, rig.keeper, &info), 0);
    snprintf(path, sizeof(path), "/proc/%d/fd", info.pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void nothing_is_kept_that_was_lent(void **state)
{
    (void)state;
    struct link_grant g;
    int channel;
    struct link_request tap = request(LINK_TAP, 9, "eth0"), none = request(LINK_UPLINK, 2, "nosuch0");
    memcpy(tap.netns, netns, strlen(netns) + 1);
    struct link_request other = tap;
    pair_up();
    unsigned before = keepers_descriptors();
    for (unsigned i = 0; i < 6; i++) {
        struct rights r = uplink(1, i & 1 ? LINK_KIND_PACKET : LINK_KIND_XDP, 0, &channel, &g);
        rights_close(&r);
        close(channel);
        refused(&none, -ENODEV, "nosuch0");
        assert_int_equal(ask(&tap, &channel).error, 0);
        close(channel);
        other.id = 10 + i;
        refused(&other, -EEXIST, "eth0");
        if (i % 2)
            release(9);
        if (i % 3 == 2)
            release(1);
    }
    while (keepers_descriptors() > before) /* some are closed when there is time */
        usleep(10000);
    assert_int_equal(keepers_descriptors(), before);
}

static void at_its_end_it_gives_everything_back(void **state)
{
    (void)state;
    struct link_grant g;
    int channel;
    pair_up();
    struct rights r = uplink(1, LINK_KIND_PACKET, 9000, &channel, &g);
    close(rig.control); /* the toolstack hangs up */
    wait_event(HYP_EV_DEATH, rig.keeper);
    assert_true(here("up0"));
    rights_close(&r);
    close(channel);
    start_keeper();
    r = uplink(1, LINK_KIND_PACKET, 0, &channel, &g);
    assert_false(here("up0"));
    assert_int_equal(hyp_domain_stop(rig.toolstack, rig.keeper), 0);
    wait_event(HYP_EV_DEATH, rig.keeper);
    assert_true(here("up0"));
    rights_close(&r);
    close(channel);
    close(rig.control);
    start_keeper();
    struct hyp_domain_info info;
    r = uplink(1, LINK_KIND_PACKET, 0, &channel, &g);
    assert_int_equal(hyp_domain_info(rig.toolstack, rig.keeper, &info), 0);
    assert_int_equal(kill(info.pid, SIGTERM), 0);
    wait_event(HYP_EV_DEATH, rig.keeper);
    assert_true(here("up0"));
    rights_close(&r);
    close(channel);
    close(rig.control);
    start_keeper();
}

static void end_core(void)
{
    int status;
    hyp_close(rig.toolstack);
    assert_int_equal(waitpid(rig.core, &status, 0), rig.core);
}

/* Whoever ends, and however: here the toolstack, whose other socket stays open,
 * and then the core, which is killed. */
static void nobodys_death_loses_an_interface(void **state)
{
    (void)state;
    struct link_grant g;
    int channel;
    pair_up();
    struct rights r = uplink(1, LINK_KIND_PACKET, 0, &channel, &g);
    end_core();
    assert_true(here("up0"));
    rights_close(&r);
    close(channel);
    close(rig.control);
    rig.core = start_core(build_dir, build_dir, &rig.toolstack);
    start_keeper();
    r = uplink(1, LINK_KIND_PACKET, 0, &channel, &g);
    assert_int_equal(kill(rig.core, SIGKILL), 0);
    end_core();
    struct pollfd gone = { .fd = rig.control, .events = POLLIN };
    char byte;
    do
        assert_int_equal(poll(&gone, 1, WAIT_MS), 1);
    while (recv(rig.control, &byte, 1, 0) > 0);
    assert_true(here("up0"));
    rights_close(&r);
    close(channel);
    close(rig.control);
    rig.core = start_core(build_dir, build_dir, &rig.toolstack);
    start_keeper();
}

int main(int argc, char **argv)
{
    (void)argc;
    if (geteuid() != 0) {
        fprintf(stderr, "test_netdev: needs root\n");
        return 77;
    }
    char *self = realpath(argv[0], NULL);
    assert_non_null(self);
    for (unsigned i = 0; i < 3; i++) /* BUILD/tests/integration/test_netdev */
        *strrchr(self, '/') = '\0';
    snprintf(build_dir, sizeof(build_dir), "%s", self);
    free(self);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_has_three_capabilities),
        cmocka_unit_test_teardown(an_uplink_is_taken_and_given_back, pair_down),
        cmocka_unit_test(the_asking_socket_sends_nothing),
        cmocka_unit_test_teardown(a_reborn_driver_domain_gets_its_own_sockets, pair_down),
        cmocka_unit_test_teardown(its_state_is_told, pair_down),
        cmocka_unit_test_teardown(xdp_gets_a_map_and_a_program, pair_down),
        cmocka_unit_test(a_tap_appears_in_its_namespace),
        cmocka_unit_test(a_tap_survives_its_door),
        cmocka_unit_test_teardown(a_spare_hears_nothing, pair_down),
        cmocka_unit_test_teardown(errors_are_sentences, pair_down),
        cmocka_unit_test_teardown(nothing_is_kept_that_was_lent, pair_down),
        cmocka_unit_test_teardown(at_its_end_it_gives_everything_back, pair_down),
        cmocka_unit_test_teardown(nobodys_death_loses_an_interface, pair_down),
    };
    return cmocka_run_group_tests_name("netdev", tests, start, stop);
}
