/* SPDX-License-Identifier: MIT */
/*
 * test_daemon.h - the daemon with net driver domains and NICs: a real store in
 * a thread of its own, a hypervisor that notes what it is asked, and the test
 * in the place of the keeper of network interfaces.
 */
#ifndef BULKHEAD_TEST_DAEMON_H
#define BULKHEAD_TEST_DAEMON_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driverdom/daemon/daemon.h"
#include "hyp-shim/local/netdev/link.h"
#include "hyp-shim/local/proto.h"
#include "hyp-shim/local/rights.h"
#include "hyp-shim/local/store/server.h"
#include "hyp-shim/xenbus.h"
#include "tests/store_control.h"

#define NS  "xmlns:b='urn:bulkhead:domain:1'"
#define LXC "xmlns:lxc='http://libvirt.org/schemas/domain/lxc/1.0'"
#define MEM "<memory unit='MiB'>64</memory>"
#define NET(name, uplink)                                                                              \
    "<domain><name>" name "</name>" MEM "<metadata><b:domain " NS " kind='driver' class='net'>" uplink \
    "</b:domain></metadata></domain>"
#define UPLINK(devargs) "<b:uplink devargs='" devargs "' mtu='9000'/>"
#define ETH1            UPLINK("net_af_packet0,iface=eth1")
#define NIC(inner)      "<interface type='ethernet'><backenddomain name='net0'/>" inner "</interface>"
#define BLK(name, inner)                                                                              \
    "<domain><name>" name "</name>" MEM "<metadata><b:domain " NS " kind='driver' class='blk'>" inner \
    "</b:domain></metadata></domain>"
#define COLD "<b:recovery spare='no'/>"
#define DISK(backend, dev, path)                                                           \
    "<disk type='file'><source file='" path "'/><backenddomain name='" backend "'/><target " \
    "dev='" dev "'/></disk>"
#define GUEST(name, door, nics)                                                                        \
    "<domain " LXC "><name>" name "</name>" MEM "<metadata><b:domain " NS " kind='guest' door='" door  \
    "'/></metadata><devices>" nics "</devices><lxc:namespace><lxc:sharenet type='netns' value='red'/>" \
    "</lxc:namespace></domain>"

/* ------------------------------------------- a hypervisor that notes what it is asked */

#define DOMAINS 64

static struct hyp {
    struct hyp_common common;
    domid_t last; /* domid that was given out                          */
    struct made {
        uint32_t cls;
        bool running, asked_to_stop, destroyed;
        int fd;    /* the one after its stderr; -1                      */
        int store; /* its connection to the store                       */
    } made[DOMAINS];
    struct {
        domid_t domid;
        uint32_t device;
        unsigned flags;
        char path[64];
        bool released;
    } assigned[64];
    unsigned nassigned;
    domid_t released[64]; /* whose devices, in order */
    unsigned nreleased;
} hyp;

static int listener; /* the other end of a session that listens to events */

static int control; /* the store's */

/* The store must know whom it gives nodes to. */
static inline void introduce(domid_t domid)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_true(store_control_say(control, STORE_CONTROL_INTRODUCE, domid, pair[1], 0));
    close(pair[1]);
    hyp.made[domid].store = pair[0];
}

static inline int domain_create(struct hyp *h, const struct hyp_domain_config *cfg, const int *fds,
                                unsigned n, domid_t *out, int conn[2])
{
    domid_t domid = ++h->last;

    assert_true(domid < DOMAINS);
    h->made[domid] =
        (struct made){.cls = cfg->class_id, .fd = n > 1 ? fcntl(fds[1], F_DUPFD_CLOEXEC, 3) : -1};
    introduce(domid);
    conn[0] = conn[1] = -1;
    *out = domid;
    return 0;
}

static inline int domain_unpause(struct hyp *h, domid_t domid)
{
    assert_false(h->made[domid].running);
    h->made[domid].running = true;
    return 0;
}

static inline int domain_stop(struct hyp *h, domid_t domid)
{
    h->made[domid].asked_to_stop = true;
    return 0;
}

static inline int domain_destroy(struct hyp *h, domid_t domid)
{
    h->made[domid].destroyed = true;
    return 0;
}

static inline int device_assign(struct hyp *h, domid_t domid, uint32_t device, const char *path,
                                unsigned flags)
{
    assert_true(h->nassigned < sizeof(h->assigned) / sizeof(h->assigned[0]));
    h->assigned[h->nassigned].domid = domid;
    h->assigned[h->nassigned].device = device;
    h->assigned[h->nassigned].flags = flags;
    snprintf(h->assigned[h->nassigned++].path, sizeof(h->assigned[0].path), "%s", path);
    return 0;
}

static inline int device_release(struct hyp *h, domid_t domid, uint32_t device)
{
    for (unsigned i = 0; i < h->nassigned; i++)
        if (h->assigned[i].domid == domid && h->assigned[i].device == device)
            h->assigned[i].released = true;
    assert_true(h->nreleased < sizeof(h->released) / sizeof(h->released[0]));
    h->released[h->nreleased++] = domid;
    return 0;
}

static const struct hyp_ops ops = {
    .domain_create = domain_create,
    .domain_unpause = domain_unpause,
    .domain_stop = domain_stop,
    .domain_destroy = domain_destroy,
    .device_assign = device_assign,
    .device_release = device_release,
};

/* -------------------------------------------------------------------- the rig */

static struct daemon d;
static pthread_t thread;
static char dir[64];

static inline void *serve(void *arg)
{
    (void)arg;
    while (!store_server_turn(-1))
        ;
    store_server_end();
    return NULL;
}

static inline int begin(void **state)
{
    int pair[2];

    (void)state;
    hyp = (struct hyp){.common = {.ops = &ops}};
    for (int i = 0; i < DOMAINS; i++)
        hyp.made[i].fd = hyp.made[i].store = -1;
    memset(&d, 0, sizeof(d));
    for (int i = 0; i < DAEMON_SESSIONS_MAX; i++)
        d.sessions[i].fd = -1;
    log_init(&d.own_log, "@bulkheadd");
    log_init(&d.core_log, "@core");
    keeper_init(&d);
    d.hyp = &hyp;
    strcpy(d.run_dir, "/RUN");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
        return -1;
    d.sessions[0] = (struct session){.fd = pair[0], .events = true};
    listener = pair[1];
    strcpy(dir, "/tmp/bulkhead-net.XXXXXX");
    if (!mkdtemp(dir) || chdir(dir) || mkdir("logs", 0755) || mkdir("guests", 0755))
        return -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return -1;
    control = pair[0];
    if (store_server_init(pair[1], -1) || pthread_create(&thread, NULL, serve, NULL))
        return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) ||
        !store_control_say(control, STORE_CONTROL_INTRODUCE, 0, pair[1], 0))
        return -1;
    close(pair[1]);
    return store_open_fd(&d.store, pair[0]);
}

static inline int end(void **state)
{
    char gate[POLICY_NAME_MAX + 16];

    (void)state;
    for (int i = 0; i < DAEMON_DOMAINS_MAX; i++) {
        if (!d.domains[i].used)
            continue;
        keeper_close_channel(d.domains[i].channel);
        keeper_close_channel(d.domains[i].spare.channel);
        door_close(&d.domains[i]);
        log_forget(&d.domains[i].log);
        log_forget(&d.domains[i].spare.log);
        snprintf(gate, sizeof(gate), "gates/%s", d.domains[i].spec.name);
        unlink(gate);
    }
    session_close(&d.sessions[0]);
    close(listener);
    rmdir("gates");
    for (int i = 0; i < DOMAINS; i++) {
        if (hyp.made[i].fd >= 0)
            close(hyp.made[i].fd);
        if (hyp.made[i].store >= 0)
            close(hyp.made[i].store);
    }
    if (d.keeper.control >= 0)
        close(d.keeper.control);
    log_forget(&d.keeper.log);
    log_forget(&d.own_log);
    store_close(d.store);
    close(control);
    pthread_join(thread, NULL);
    return rmdir("logs") || rmdir("guests") || chdir("/") || rmdir(dir);
}

static inline struct domain *define(const char *xml)
{
    static struct domain_spec spec;
    char err[POLICY_ERR_MAX];

    if (policy_parse(xml, strlen(xml), "t.xml", &spec, err, NULL))
        fail_msg("%s", err);
    return dom_new(&d, &spec);
}

static inline void must_start(struct domain *dom)
{
    char why[DAEMON_SENTENCE_MAX] = "";

    if (dom_start(&d, dom, why))
        fail_msg("%s", why);
}

static inline void must_not_start(struct domain *dom, const char *sentence)
{
    char why[DAEMON_SENTENCE_MAX] = "";

    assert_int_not_equal(dom_start(&d, dom, why), 0);
    assert_string_equal(why, sentence);
    assert_int_equal(dom->state, ST_DEFINED);
}

/* ---- as the keeper */

static inline int keeper_end_of(void)
{
    return hyp.made[d.keeper.domid].fd;
}

/* The next request; its channel, the caller's, in *channel (-1: none). */
static inline struct link_request must_hear(uint32_t op, int *channel)
{
    struct link_request req;
    struct rights fds;
    int flags;

    assert_int_equal(rights_receive(keeper_end_of(), &req, sizeof(req), &fds, 1, &flags), sizeof(req));
    assert_int_equal(req.version, LINK_VERSION);
    assert_int_equal(req.op, op);
    assert_int_equal(fds.n, op == LINK_RELEASE ? 0 : 1);
    if (channel)
        *channel = fds.n ? fds.fd[0] : -1;
    else
        rights_close(&fds);
    return req;
}

static inline void must_hear_nothing(void)
{
    struct link_request req;
    struct rights fds;
    int flags;

    assert_int_equal(rights_receive(keeper_end_of(), &req, sizeof(req), &fds, 1, &flags), -EAGAIN);
}

static inline void say(uint32_t op, uint32_t id, int error, uint32_t state, const char *why)
{
    struct link_event ev = {.op = op, .id = id, .error = error, .state = state};

    snprintf(ev.why, sizeof(ev.why), "%s", why);
    assert_int_equal(rights_send(keeper_end_of(), &ev, sizeof(ev), NULL, 0), 0);
    keeper_serve(&d, POLLIN);
}

/* ---- as what happens */

static inline void ready(struct domain *dom)
{
    driver_ready(&d, dom);
    assert_int_equal(dom->state, ST_RUNNING);
}

static inline void dies(struct domain *dom, int status)
{
    dom_died(&d, dom, status, monotonic_ns());
}

/* What is due next happens now. */
static inline void later(struct domain *dom)
{
    assert_int_not_equal(dom_next_tick(dom), 0);
    dom_tick(&d, dom, dom_next_tick(dom));
}

static inline void opened(struct domain *dom, uint32_t device, int error)
{
    const struct hyp_event ev = {
        .kind = HYP_EV_DEVICE, .domid = dom->domid, .device = device, .error = error};

    dom_event(&d, &ev);
}

static inline void frontend_connects(struct domain *guest, unsigned devid)
{
    struct store_event ev = {.path = ""};
    char f[STORE_PATH_MAX];

    xenbus_frontend_path(f, guest->domid, "vif", devid);
    assert_int_equal(store_printf(d.store, STORE_NO_TXN, f, "state", "%d", XenbusStateConnected), 0);
    guest_store_event(&d, &ev);
}

static inline struct domain *running_net0(const char *xml)
{
    struct domain *net0 = define(xml);

    must_start(net0);
    if (uplink_needs_keeper(&net0->spec)) {
        struct link_request req = must_hear(LINK_UPLINK, NULL);

        say(LINK_UPLINK, req.id, 0, LINK_UP, "");
    }
    assert_true(hyp.made[net0->domid].running);
    ready(net0);
    return net0;
}

/* A device of a disk in whichever domain it was assigned to. */
static inline void device_opens(domid_t domid, uint32_t device, uint64_t at_ns)
{
    const struct hyp_event ev = {
        .kind = HYP_EV_DEVICE, .domid = domid, .device = device, .at_ns = at_ns};

    dom_event(&d, &ev);
}

/* The guest runs: its devices are open, its frontends connected. */
static inline struct domain *running_guest(const char *xml)
{
    struct domain *guest = define(xml);

    must_start(guest);
    for (unsigned i = 0; disk_next(guest, &i); i++)
        if (guest->vbd[i].number)
            device_opens(guest->split[i].be, guest->vbd[i].number, monotonic_ns());
    assert_int_equal(guest->state, ST_RUNNING);
    return guest;
}

/* "key" of a directory of a device: "device", "twin" or "report". */
static inline void frontend_writes(struct domain *guest, unsigned i, const char *below, const char *key,
                                   const char *value)
{
    struct store_event ev;

    snprintf(ev.path, sizeof(ev.path), "/local/domain/%u/%s/%s/%u/%s", guest->domid, below,
             guest->split[i].cls, guest->split[i].devid, key);
    snprintf(ev.token, sizeof(ev.token), "%u/%u", guest->domid, i);
    assert_int_equal(store_write(d.store, STORE_NO_TXN, ev.path, value), 0);
    guest_store_event(&d, &ev);
}

static inline void connects(struct domain *guest, unsigned i)
{
    frontend_writes(guest, i, guest->split[i].live ? "twin" : "device", "state", "4");
    assert_true(guest->split[i].connected);
}

static inline void arms(struct domain *guest, unsigned i)
{
    const struct split *split = &guest->split[i];
    struct store_event ev;

    snprintf(ev.path, sizeof(ev.path), "/local/domain/%u/backend/%s/%u/%u/state",
             split->nodes_be[!split->live], split->cls, guest->domid, split->devid);
    snprintf(ev.token, sizeof(ev.token), "%u/%u", guest->domid, i);
    assert_int_equal(store_write(d.store, STORE_NO_TXN, ev.path, "3"), 0);
    guest_store_event(&d, &ev);
    assert_true(split->armed);
}

/* Whatever the incarnation waits for at the fence comes. */
static inline void fence_opens(struct domain *dom)
{
    if (dom->gate && !dom->gate_ns)
        device_opens(dom->domid, dom->gate, monotonic_ns());
    for (struct served s = {0}; driver_next(&d, dom, &s);)
        if (split_is_disk(s.i) && s.guest->vbd[s.i].device == VBD_OPENING)
            device_opens(dom->domid, s.guest->vbd[s.i].number, monotonic_ns());
}

/* Its spare is made, and says READY. */
static inline void spare_comes(struct domain *dom)
{
    struct hyp_event ev = {.kind = HYP_EV_READY};

    fence_opens(dom);
    assert_int_equal(dom->spare.at, SPARE_WAITING);
    dom_tick(&d, dom, dom->spare.make_at);
    if (uplink_needs_keeper(&dom->spec))
        say(LINK_UPLINK, must_hear(LINK_UPLINK, NULL).id, 0, LINK_UP, "");
    assert_true(dom->spare.domid && hyp.made[dom->spare.domid].running);
    ev.domid = dom->spare.domid;
    dom_event(&d, &ev);
    assert_int_equal(dom->spare.at, SPARE_READY);
}

/* The first event of that name among those not yet looked at; the caller's. */
static inline json_t *hear_event(const char *name)
{
    char line[4096];
    json_t *event;

    for (;;) {
        const char *is;
        size_t n = 0;

        while (n < sizeof(line) && recv(listener, line + n, 1, 0) == 1 && line[n] != '\n')
            n++;
        if (!n)
            fail_msg("there was no event %s", name);
        event = json_loadb(line, n, 0, NULL);
        assert_non_null(event);
        is = json_string_value(json_object_get(event, "event"));
        if (is && !strcmp(is, name))
            return event;
        json_decref(event);
    }
}

static inline void must_say(json_t *event, const char *key, const char *value)
{
    assert_string_equal(json_string_value(json_object_get(event, key)), value);
}

/* Forgets the events so far. */
static inline void hear_all(void)
{
    char bytes[4096];

    while (recv(listener, bytes, sizeof(bytes), 0) > 0)
        ;
}

static inline bool was_told(const char *name)
{
    static char bytes[65536];
    char wanted[64];
    ssize_t n = recv(listener, bytes, sizeof(bytes) - 1, 0);

    bytes[n > 0 ? n : 0] = '\0';
    snprintf(wanted, sizeof(wanted), "\"event\":\"%s\"", name);
    return strstr(bytes, wanted) != NULL;
}

/* ---- the store */

static inline void must_be(const char *path, const char *value)
{
    char got[STORE_VALUE_MAX];

    if (store_read(d.store, STORE_NO_TXN, path, got, sizeof(got)) < 0)
        fail_msg("there is no %s", path);
    assert_string_equal(got, value);
}

static inline void must_be_no(const char *path)
{
    char got[STORE_VALUE_MAX];

    assert_int_equal(store_read(d.store, STORE_NO_TXN, path, got, sizeof(got)), -ENOENT);
}

/* A directory holds these nodes and no others: "key=value" each. */
static inline void must_hold(const char *path, const char *const nodes[])
{
    char names[2048], full[STORE_PATH_MAX], line[STORE_VALUE_MAX + 64], value[STORE_VALUE_MAX];
    unsigned wanted = 0;

    for (; nodes[wanted]; wanted++) {
        size_t key = strcspn(nodes[wanted], "=");

        snprintf(full, sizeof(full), "%s/%.*s", path, (int)key, nodes[wanted]);
        if (store_read(d.store, STORE_NO_TXN, full, value, sizeof(value)) < 0)
            fail_msg("there is no %s", full);
        snprintf(line, sizeof(line), "%.*s=%s", (int)key, nodes[wanted], value);
        assert_string_equal(line, nodes[wanted]);
    }
    assert_int_equal(store_directory(d.store, STORE_NO_TXN, path, names, sizeof(names)), wanted);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

#endif
