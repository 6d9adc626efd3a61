/* SPDX-License-Identifier: MIT */
/*
 * Guests behind a vhost-user door: open, close, devices that come and go while the
 * guest runs.  The test is the door.
 */
#include <sys/un.h>

#include "driverdom/daemon/rundir.h"
#include "frontends/door/vhost_user/channel.h"
#include "test_daemon.h"

#define VM(name, devices)                                                                                 \
    "<domain type='kvm'><name>" name "</name>" MEM "<metadata><b:domain " NS                              \
    " kind='guest' door='vhost-user'>" devices "</b:domain></metadata>"                                   \
    "<memoryBacking><access mode='shared'/></memoryBacking></domain>"
#define VDISK(dev, file) "<b:disk dev='" dev "' driver='disk0' file='" file "'/>"
#define VNIC(dev, mac)   "<b:interface dev='" dev "' driver='net0'><mac address='" mac "'/></b:interface>"
#define VDA  VDISK("vda", "/a")
#define VDB  VDISK("vdb", "/b")
#define VDC  VDISK("vdc", "/c")
#define ETHA VNIC("eth0", "52:54:00:00:00:01")
#define ETHB VNIC("eth1", "52:54:00:00:00:02")
#define DOMAINS_DIR "domains"

static struct session *client; /* its other end is heard */
static int answers;

static int begin_vm(void **state)
{
    int pair[2];

    if (begin(state) || mkdir(DOMAINS_DIR, 0755) || mkdir("state", 0755) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
        return -1;
    client = &d.sessions[1];
    *client = (struct session){.fd = pair[0]};
    answers = pair[1];
    return 0;
}

static int end_vm(void **state)
{
    for (int i = 0; i < DAEMON_DOMAINS_MAX; i++) {
        if (!d.domains[i].used)
            continue;
        change_over(&d, &d.domains[i]);
        definition_settled(&d.domains[i]);
        rundir_forget_domain(d.domains[i].spec.name);
        rundir_forget_state(d.domains[i].spec.name);
    }
    rundir_forget_state("@bulkheadd");
    rundir_forget_state("@turn");
    session_close(client);
    close(answers);
    return rmdir(DOMAINS_DIR) || rmdir("state") || end(state);
}

/* ------------------------------------------------------------------ the client */

static void ask(const char *cmd, const char *key, const char *value)
{
    json_t *request = json_pack("{s:s,s:s,s:s}", "cmd", cmd, "file", "vm.xml", key, value);

    request_run(&d, client, request);
    json_decref(request);
}

/* The answer, when there is one; the caller's. */
static json_t *answer(void)
{
    static char text[8192];
    json_t *last = NULL;
    ssize_t n = recv(answers, text, sizeof(text) - 1, 0);
    char *rest = text;

    text[n > 0 ? n : 0] = '\0';
    for (char *line; (line = strsep(&rest, "\n"));) {
        json_t *object = *line ? json_loads(line, 0, NULL) : NULL;

        if (object && json_object_get(object, "ok"))
            last = object;
        else
            json_decref(object);
    }
    return last;
}

static void must_be_ok(void)
{
    json_t *got = answer();

    if (!got || !json_is_true(json_object_get(got, "ok")))
        fail_msg("%s", got ? json_string_value(json_object_get(got, "error")) : "no answer");
    json_decref(got);
}

static void must_be_refused(const char *sentence)
{
    json_t *got = answer();

    assert_non_null(got);
    assert_true(json_is_false(json_object_get(got, "ok")));
    assert_string_equal(json_string_value(json_object_get(got, "error")), sentence);
    json_decref(got);
}

static void no_answer_yet(void)
{
    assert_null(answer());
}

/* -------------------------------------------------------------------- the door */

static int door_of(const struct domain *vm)
{
    return hyp.made[vm->domid].fd;
}

/* The next order is that; its socket is listened to. */
static void must_be_told(const struct domain *vm, uint32_t op, const char *dev)
{
    struct door_order order;
    struct rights fds;
    int flags, listens = 0;
    socklen_t n = sizeof(listens);

    assert_int_equal(rights_receive(door_of(vm), &order, sizeof(order), &fds, 1, &flags), sizeof(order));
    assert_int_equal(order.version, DOOR_VERSION);
    assert_int_equal(order.op, op);
    assert_string_equal(order.dev, dev);
    assert_int_equal(fds.n, op == DOOR_OPEN);
    if (op == DOOR_OPEN) {
        assert_int_equal(getsockopt(fds.fd[0], SOL_SOCKET, SO_ACCEPTCONN, &listens, &n), 0);
        assert_int_equal(listens, 1);
        assert_int_equal(order.cls, *dev == 'v' ? DOOR_BLK : DOOR_NET);
    }
    rights_close(&fds);
}

static void must_be_told_nothing(const struct domain *vm)
{
    struct door_order order;
    struct rights fds;
    int flags;

    assert_int_equal(rights_receive(door_of(vm), &order, sizeof(order), &fds, 1, &flags), -EAGAIN);
}

static void door_says(struct domain *vm, uint32_t op, const char *dev, int error, const char *why)
{
    struct door_answer out = {.version = DOOR_VERSION, .op = op, .error = error};

    snprintf(out.dev, sizeof(out.dev), "%s", dev);
    snprintf(out.why, sizeof(out.why), "%s", why);
    assert_int_equal(rights_send(door_of(vm), &out, sizeof(out), NULL, 0), 0);
    vhost_hear(&d, vm);
}

static bool is_socket(const char *path)
{
    struct stat st;

    return !lstat(path, &st) && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0660;
}

/* ------------------------------------------------------------------ what happens */

static void driver_runs(const char *xml)
{
    struct domain *dom = define(xml);

    must_start(dom);
    ready(dom);
}

static void drivers_run(void)
{
    driver_runs(BLK("disk0", COLD));
    driver_runs(NET("net0", COLD));
}

/* A device that is being opened in its driver domain is open. */
static void opens(struct domain *vm, const char *dev)
{
    unsigned i = split_find(vm, dev);

    assert_int_equal(vm->vbd[i].device, VBD_OPENING);
    device_opens(vm->split[i].be, vm->vbd[i].number, monotonic_ns());
}

static void connects_dev(struct domain *vm, const char *dev)
{
    connects(vm, split_find(vm, dev));
}

/* Written down, and then begun. */
static void turns(struct domain *vm)
{
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dom_next_tick(vm), 1);
        dom_tick(&d, vm, now_ms());
    }
}

static struct domain *opened_vm(void)
{
    struct domain *vm;

    drivers_run();
    ask("open", "xml", VM("vm", VDA VDB ETHA));
    vm = dom_find(&d, "vm");
    assert_non_null(vm);
    opens(vm, "vda");
    opens(vm, "vdb");
    must_be_told(vm, DOOR_OPEN, "vda");
    must_be_told(vm, DOOR_OPEN, "vdb");
    must_be_told(vm, DOOR_OPEN, "eth0");
    must_be_told(vm, DOOR_READY, "");
    connects_dev(vm, "vda");
    connects_dev(vm, "vdb");
    no_answer_yet();
    connects_dev(vm, "eth0");
    must_be_ok();
    assert_int_equal(vm->state, ST_RUNNING);
    return vm;
}

static unsigned held_by(const char *driver)
{
    const struct domain *dom = dom_find(&d, driver);
    unsigned n = 0;

    for (unsigned i = 0; i < hyp.nassigned; i++)
        n += !hyp.assigned[i].released && (hyp.assigned[i].domid == dom->domid ||
                                           (dom->spare.domid && hyp.assigned[i].domid == dom->spare.domid));
    return n;
}

/* ----------------------------------------------------------------------- tests */

static void open_answers_when_all_is_there(void **state)
{
    struct domain *vm = opened_vm();
    json_t *list = report_list(&d);
    size_t n;
    json_t *one;

    (void)state;
    assert_int_equal(hyp.made[vm->domid].cls, HYP_CLASS_VHOST);
    assert_true(is_socket("guests/vm/vda.sock") && is_socket("guests/vm/eth0.sock"));
    assert_true(rundir_was_opened("vm"));
    json_array_foreach (list, n, one) {
        if (strcmp(json_string_value(json_object_get(one, "name")), "vm") != 0)
            continue;
        must_say(one, "class", "vhost-user");
        must_say(json_array_get(json_object_get(one, "disks"), 1), "socket", "/RUN/guests/vm/vdb.sock");
        must_say(json_array_get(json_object_get(one, "nics"), 0), "socket", "/RUN/guests/vm/eth0.sock");
    }
    json_decref(list);
    /* The same again is no news. */
    ask("open", "xml", VM("vm", VDA VDB ETHA));
    turns(vm);
    must_be_ok();
    must_be_told_nothing(vm);
}

static void what_is_not_ours_is_left_alone(void **state)
{
    json_t *got;

    (void)state;
    ask("open", "xml", "<domain type='kvm'><name>other</name></domain>");
    got = answer();
    assert_true(json_is_true(json_object_get(got, "ok")) && json_is_false(json_object_get(got, "mine")));
    json_decref(got);
    assert_null(dom_find(&d, "other"));
    ask("close", "name", "other");
    must_be_ok();
    define(BLK("disk0", COLD));
    ask("close", "name", "disk0");
    must_be_ok();
    assert_non_null(dom_find(&d, "disk0"));
    ask("open", "xml", BLK("disk1", COLD));
    must_be_refused("vm.xml:1: only guests with door='vhost-user' are opened: define disk1, then start it");
}

static void a_guest_that_cannot_be_opened_is_forgotten(void **state)
{
    struct domain *vm, *disk0;

    (void)state;
    ask("open", "xml", VM("vm", VDA));
    must_be_refused("disk vda of vm names driver domain disk0, which is not defined: define it first");
    assert_null(dom_find(&d, "vm"));
    disk0 = define(BLK("disk0", COLD));
    ask("open", "xml", VM("vm", VDA));
    must_be_refused("driver domain disk0 is not running: start it first");
    assert_null(dom_find(&d, "vm"));
    must_start(disk0);
    ready(disk0);

    ask("open", "xml", VM("vm", VDA));
    vm = dom_find(&d, "vm");
    opens(vm, "vda");
    must_be_told(vm, DOOR_OPEN, "vda");
    assert_true(is_socket("guests/vm/vda.sock"));
    door_says(vm, DOOR_OPEN, "vda", -EIO, "vda: the driver domain said no");
    must_be_refused("disk vda of vm: vda: the driver domain said no");
    later(vm);
    assert_null(dom_find(&d, "vm"));
    assert_int_equal(access("guests/vm", F_OK), -1);
    assert_int_equal(access("domains/vm.xml", F_OK), -1);
    assert_int_equal(access("domains/vm.opened", F_OK), -1);
    assert_int_equal(held_by("disk0"), 0);
    must_be_no("/local/domain/1/backend/vbd/2");
}

static void the_socket_must_be_the_right_one(void **state)
{
#define PLUGGED(path)                                                                                   \
    "<domain type='kvm'><name>vm</name>" MEM "<metadata>\n<b:domain " NS                                \
    " kind='guest' door='vhost-user'>\n" VDA "</b:domain></metadata><memoryBacking><access mode='shared'/>" \
    "</memoryBacking><devices><disk type='vhostuser' device='disk'><driver name='qemu' type='raw'/>"     \
    "<source type='unix' path='" path "'><reconnect enabled='yes' timeout='1'/></source>"               \
    "<target dev='vda' bus='virtio'/></disk></devices></domain>"
    (void)state;
    drivers_run();
    ask("open", "xml", PLUGGED("/elsewhere/guests/vm/vda.sock"));
    must_be_refused("vm.xml:3: the socket of vda is path='/RUN/guests/vm/vda.sock' in <source>, not "
                    "'/elsewhere/guests/vm/vda.sock'");
    ask("define", "xml", PLUGGED("/elsewhere/guests/vm/vda.sock"));
    must_be_refused("vm.xml:3: the socket of vda is path='/RUN/guests/vm/vda.sock' in <source>, not "
                    "'/elsewhere/guests/vm/vda.sock'");
    assert_null(dom_find(&d, "vm"));
    ask("define", "xml", PLUGGED("/RUN/guests/vm/vda.sock")); /* the control */
    must_be_ok();
}

static void a_disk_comes_and_another_goes(void **state)
{
    struct domain *vm = opened_vm();
    char path[64];
    size_t bytes;
    char *xml;
    json_t *event;

    (void)state;
    ask("open", "xml", VM("vm", VDB VDC ETHA));
    no_answer_yet();
    must_be_told_nothing(vm);
    turns(vm);
    assert_int_equal(split_find(vm, "vdb"), 1); /* where it was */
    assert_int_equal(split_find(vm, "vdc"), 2);
    must_be_no("/local/domain/3/device/vbd/51744/state");
    opens(vm, "vdc");
    must_be("/local/domain/3/device/vbd/51744/state", "1");
    must_be("/local/domain/1/backend/vbd/3/51744/params", "device:3");
    must_be_told(vm, DOOR_OPEN, "vdc");
    must_be_told_nothing(vm); /* nothing is taken before all of the new is there */
    assert_true(is_socket("guests/vm/vdc.sock"));
    connects_dev(vm, "vdc");
    no_answer_yet();
    hear_all();
    door_says(vm, DOOR_OPEN, "vdc", 0, "");
    event = hear_event("attached");
    must_say(event, "disk", "vdc");
    must_say(event, "driver", "disk0");
    json_decref(event);
    must_be_told(vm, DOOR_CLOSE, "vda");
    must_be("/local/domain/3/device/vbd/51712/state", "4"); /* until the door let go of it */
    no_answer_yet();
    door_says(vm, DOOR_CLOSE, "vda", 0, "");
    event = hear_event("detached");
    must_say(event, "disk", "vda");
    json_decref(event);
    must_be_ok();
    must_be_no("/local/domain/3/device/vbd/51712");
    must_be_no("/local/domain/3/report/vbd/51712");
    must_be_no("/local/domain/1/backend/vbd/3/51712");
    assert_int_equal(access("guests/vm/vda.sock", F_OK), -1);
    assert_int_equal(held_by("disk0"), 2);
    assert_int_equal(vm->there, 1u << 1 | 1u << 2 | 1u << FIRST_NIC);
    assert_int_equal(vm->spec.ndisks, 2);

    xml = rundir_read_domain("vm", &bytes);
    assert_non_null(xml);
    assert_int_equal(bytes, strlen(VM("vm", VDB VDC ETHA)));
    assert_memory_equal(xml, VM("vm", VDB VDC ETHA), bytes);
    free(xml);

    /* The next one takes the place that is free. */
    ask("open", "xml", VM("vm", VDB VDC VDISK("vdd", "/d") ETHA));
    turns(vm);
    assert_int_equal(split_find(vm, "vdd"), 0);
    snprintf(path, sizeof(path), "/local/domain/%u/backend/vbd/%u/51760/params", 1, vm->domid);
    opens(vm, "vdd");
    must_be(path, "device:4");
    door_says(vm, DOOR_OPEN, "vdd", 0, "");
    must_be_ok();
}

static void a_nic_keeps_its_number(void **state)
{
    struct domain *vm = opened_vm();

    (void)state;
    ask("open", "xml", VM("vm", VDA VDB ETHA ETHB));
    turns(vm);
    must_be_told(vm, DOOR_OPEN, "eth1");
    connects_dev(vm, "eth1");
    door_says(vm, DOOR_OPEN, "eth1", 0, "");
    must_be_ok();
    ask("open", "xml", VM("vm", VDA VDB ETHB));
    turns(vm);
    must_be_told(vm, DOOR_CLOSE, "eth0");
    door_says(vm, DOOR_CLOSE, "eth0", 0, "");
    must_be_ok();
    assert_int_equal(split_find(vm, "eth1"), FIRST_NIC + 1);
    must_be("/local/domain/3/device/vif/1/mac", "52:54:00:00:00:02");
    must_be_no("/local/domain/3/device/vif/0");
    /* An address that another still has. */
    ask("open", "xml", VM("vm", VDA VDB VNIC("eth2", "52:54:00:00:00:02")));
    must_be_refused("vm.xml:1: NIC eth2 of vm: address 52:54:00:00:00:02 is that of eth1 of vm already, "
                    "in driver domain net0: give it another <mac address='...'/>");
    assert_int_equal(split_find(vm, "eth2"), SPLITS_MAX);
}

static void what_is_in_use_is_not_changed(void **state)
{
    struct domain *vm = opened_vm();
    uint32_t there = vm->there;

    (void)state;
    ask("open", "xml", VM("vm", VDA VDC VDISK("vdb", "/other") ETHA));
    must_be_refused("vm.xml:1: vdb of vm is in use with other settings: detach it first, then attach "
                    "it as it is to be");
    assert_int_equal(vm->there, there);
    assert_int_equal(vm->change.at, CHANGE_NONE);
    ask("open", "xml", VM("vm", VDA VDB VDC ETHA "<b:disk dev='vdd' driver='none' file='/d'/>"));
    must_be_refused("vm.xml:1: disk vdd of vm names driver domain none, which is not defined: "
                    "define it first");
    assert_int_equal(vm->there, there);
    must_be_told_nothing(vm);
    ask("open", "xml", VM("vm", VDA VDB VDC ETHA)); /* the control */
    turns(vm);
    opens(vm, "vdc");
    must_be_told(vm, DOOR_OPEN, "vdc");
}

static void what_fails_is_undone(void **state)
{
    struct domain *vm = opened_vm();
    uint32_t there = vm->there;
    size_t bytes;
    char *xml;

    (void)state;
    ask("open", "xml", VM("vm", VDB VDC VDISK("vdd", "/d") ETHA));
    turns(vm);
    opens(vm, "vdc");
    opens(vm, "vdd");
    must_be_told(vm, DOOR_OPEN, "vdc");
    must_be_told(vm, DOOR_OPEN, "vdd");
    connects_dev(vm, "vdc");
    door_says(vm, DOOR_OPEN, "vdc", 0, "");
    door_says(vm, DOOR_OPEN, "vdd", -EIO, "vdd cannot be had");
    no_answer_yet();
    must_be_told(vm, DOOR_CLOSE, "vdc");
    must_be_told_nothing(vm);
    door_says(vm, DOOR_CLOSE, "vdc", 0, "");
    must_be_refused("disk vdd of vm: vdd cannot be had");
    assert_int_equal(vm->there, there);
    assert_int_equal(held_by("disk0"), 2);
    must_be_no("/local/domain/1/backend/vbd/3/51744");
    must_be_no("/local/domain/1/backend/vbd/3/51760");
    must_be_no("/local/domain/3/report/vbd/51760");
    assert_int_equal(access("guests/vm/vdc.sock", F_OK), -1);
    assert_int_equal(access("guests/vm/vdd.sock", F_OK), -1);
    assert_true(is_socket("guests/vm/vda.sock"));
    xml = rundir_read_domain("vm", &bytes);
    assert_int_equal(bytes, strlen(VM("vm", VDA VDB ETHA)));
    free(xml);
}

static void a_device_of_another_is_waited_for_and_not_had(void **state)
{
    struct domain *vm = opened_vm();
    unsigned i;

    (void)state;
    ask("open", "xml", VM("vm", VDA VDB VDC ETHA));
    turns(vm);
    i = split_find(vm, "vdc");
    assert_true(vm->vbd[i].give_up_at != 0);
    dom_tick(&d, vm, vm->vbd[i].give_up_at);
    must_be_refused("disk vdc of vm: /c is in use by another (waited 5 s)");
    assert_int_equal(held_by("disk0"), 2);
    assert_int_equal(split_find(vm, "vdc"), SPLITS_MAX);
    /* What is no file is refused at once. */
    ask("open", "xml", VM("vm", VDA VDB VDC ETHA));
    turns(vm);
    i = split_find(vm, "vdc");
    dom_event(&d, &(struct hyp_event){.kind = HYP_EV_DEVICE,
                                      .domid = vm->split[i].be,
                                      .device = vm->vbd[i].number,
                                      .error = -EISDIR});
    must_be_refused("disk vdc of vm: cannot open /c: it is a directory: only regular files and "
                    "block devices can be served");
    assert_int_equal(vm->state, ST_RUNNING);
}

static void a_driver_domain_dies_meanwhile(void **state)
{
    struct domain *vm = opened_vm(), *disk0 = dom_find(&d, "disk0");

    (void)state;
    ask("open", "xml", VM("vm", VDA VDB VDC ETHA));
    turns(vm);
    dies(disk0, SIGKILL);
    must_be_refused("driver domain disk0 died while devices of vm were being attached: try again");
    assert_int_equal(split_find(vm, "vdc"), SPLITS_MAX);
    later(disk0);
    ready(disk0);
    fence_opens(disk0);

    /* Nodes are there: the frontend goes on with the next incarnation. */
    ask("open", "xml", VM("vm", VDA VDB VDC ETHA));
    turns(vm);
    opens(vm, "vdc");
    must_be_told(vm, DOOR_OPEN, "vdc");
    dies(disk0, SIGKILL);
    no_answer_yet();
    if (disk0->state != ST_STARTING)
        later(disk0);
    ready(disk0);
    must_be("/local/domain/3/device/vbd/51744/backend-id", "5");
    opens(vm, "vdc");
    connects_dev(vm, "vdc");
    door_says(vm, DOOR_OPEN, "vdc", 0, "");
    must_be_ok();
}

static void the_door_dies_meanwhile(void **state)
{
    struct domain *vm = opened_vm();
    domid_t was = vm->domid;

    (void)state;
    ask("open", "xml", VM("vm", VDA VDB VDC ETHA));
    turns(vm);
    opens(vm, "vdc");
    dies(vm, SIGKILL);
    must_be_refused("vm ended while its devices were being changed: they are as they were");
    assert_int_equal(split_find(vm, "vdc"), SPLITS_MAX);
    assert_int_equal(access("guests/vm/vdc.sock", F_OK), -1);
    assert_int_equal(held_by("disk0"), 0);
    later(vm);
    opens(vm, "vda");
    opens(vm, "vdb");
    assert_int_not_equal(vm->domid, was);
    must_be_told(vm, DOOR_OPEN, "vda");
    must_be_told(vm, DOOR_OPEN, "vdb");
    must_be_told(vm, DOOR_OPEN, "eth0");
    must_be_told(vm, DOOR_READY, "");

    /* The definition was written: what is on its way out is out. */
    connects_dev(vm, "vda");
    connects_dev(vm, "vdb");
    connects_dev(vm, "eth0");
    ask("open", "xml", VM("vm", VDA));
    turns(vm);
    must_be_told(vm, DOOR_CLOSE, "vdb");
    must_be_told(vm, DOOR_CLOSE, "eth0");
    door_says(vm, DOOR_CLOSE, "eth0", 0, "");
    dies(vm, SIGKILL);
    must_be_ok();
    later(vm);
    opens(vm, "vda");
    must_be_told(vm, DOOR_OPEN, "vda");
    must_be_told(vm, DOOR_READY, "");
}

static void a_door_that_does_not_answer_is_killed(void **state)
{
    struct domain *vm = opened_vm();

    (void)state;
    ask("open", "xml", VM("vm", VDA ETHA));
    turns(vm);
    must_be_told(vm, DOOR_CLOSE, "vdb");
    assert_false(hyp.made[vm->domid].destroyed);
    later(vm);
    assert_true(hyp.made[vm->domid].destroyed);
    no_answer_yet();
    dies(vm, SIGKILL);
    must_be_ok();
    assert_int_equal(split_find(vm, "vdb"), SPLITS_MAX);
}

static void a_door_may_not_talk_without_end(void **state)
{
    struct domain *vm = opened_vm();
    struct door_answer out = {.version = DOOR_VERSION, .op = DOOR_OPEN, .dev = "vda"};

    (void)state;
    for (unsigned i = 0; i < 2 * SPLITS_MAX; i++) /* the control: as many as may be */
        assert_int_equal(rights_send(door_of(vm), &out, sizeof(out), NULL, 0), 0);
    vhost_hear(&d, vm);
    assert_false(hyp.made[vm->domid].destroyed);
    snprintf(out.dev, sizeof(out.dev), "%s", "none");
    for (unsigned i = 0; i < 5 * SPLITS_MAX; i++)
        assert_int_equal(rights_send(door_of(vm), &out, sizeof(out), NULL, 0), 0);
    vhost_hear(&d, vm);
    assert_true(hyp.made[vm->domid].destroyed);
    assert_int_equal(vm->door_fd, -1);
}

/* Then nothing can be changed any more: the next wish takes the door with it. */
static void a_door_that_hangs_up_is_killed_when_it_is_needed(void **state)
{
    struct domain *vm = opened_vm();

    (void)state;
    shutdown(door_of(vm), SHUT_RDWR);
    vhost_hear(&d, vm);
    assert_int_equal(vm->door_fd, -1);
    assert_false(hyp.made[vm->domid].destroyed);
    ask("open", "xml", VM("vm", VDA ETHA));
    turns(vm);
    assert_true(hyp.made[vm->domid].destroyed);
    dies(vm, SIGKILL);
    must_be_ok();
    later(vm);
    opens(vm, "vda");
    must_be_told(vm, DOOR_OPEN, "vda");
    must_be_told(vm, DOOR_OPEN, "eth0");
    must_be_told(vm, DOOR_READY, "");
}

static void spares_know_what_comes_and_goes(void **state)
{
    struct domain *vm, *disk0 = define(BLK("disk0", ""));
    unsigned held;

    (void)state;
    must_start(disk0);
    ready(disk0);
    ask("open", "xml", VM("vm", VDA));
    vm = dom_find(&d, "vm");
    opens(vm, "vda");
    must_be_told(vm, DOOR_OPEN, "vda");
    must_be_told(vm, DOOR_READY, "");
    connects_dev(vm, "vda");
    must_be_ok();
    spare_comes(disk0);
    arms(vm, 0);
    assert_true(spare_is_armed(&d, disk0));
    held = held_by("disk0");
    assert_int_equal(held, 2); /* one each */

    ask("open", "xml", VM("vm", VDA VDB));
    turns(vm);
    opens(vm, "vdb");
    assert_int_equal(held_by("disk0"), 3); /* ahead not before it is there */
    connects_dev(vm, "vdb");
    door_says(vm, DOOR_OPEN, "vdb", 0, "");
    must_be_ok();
    assert_int_equal(held_by("disk0"), 4);
    assert_false(spare_is_armed(&d, disk0));
    arms(vm, 1);
    assert_true(spare_is_armed(&d, disk0));
    must_be("/local/domain/2/twin/vbd/51728/backend-id", "3");

    must_be_told(vm, DOOR_OPEN, "vdb");
    ask("open", "xml", VM("vm", VDA));
    turns(vm);
    must_be_told(vm, DOOR_CLOSE, "vdb");
    door_says(vm, DOOR_CLOSE, "vdb", 0, "");
    must_be_ok();
    assert_int_equal(held_by("disk0"), held);
    must_be_no("/local/domain/2/twin/vbd/51728");
    must_be_no("/local/domain/3/backend/vbd/2/51728");
    assert_true(spare_is_armed(&d, disk0));
}

static void close_forgets_what_open_brought(void **state)
{
    struct domain *vm = opened_vm();

    (void)state;
    ask("close", "name", "vm");
    assert_true(hyp.made[vm->domid].asked_to_stop);
    no_answer_yet();
    ask("open", "xml", VM("vm", VDA)); /* waits until it is gone */
    dies(vm, 0);
    assert_false(session_turns(&d));
    later(vm);
    must_be_ok();
    assert_null(dom_find(&d, "vm"));
    assert_int_equal(access("guests/vm", F_OK), -1);
    assert_int_equal(access("domains/vm.xml", F_OK), -1);
    assert_true(session_turns(&d));
    vm = dom_find(&d, "vm");
    assert_non_null(vm);
    opens(vm, "vda");
    connects_dev(vm, "vda");
    must_be_ok();
    /* An operator's stop is no close. */
    assert_int_equal(dom_stop(&d, vm, (char[DAEMON_SENTENCE_MAX]){0}), 0);
    dies(vm, 0);
    assert_ptr_equal(dom_find(&d, "vm"), vm);
    ask("close", "name", "vm");
    must_be_ok();
    assert_null(dom_find(&d, "vm"));
}

static void what_was_defined_stays_defined(void **state)
{
    struct domain *vm;
    size_t bytes;
    char *xml;

    (void)state;
    drivers_run();
    ask("define", "xml", VM("vm", VDA));
    must_be_ok();
    ask("open", "xml", VM("vm", VDB));
    vm = dom_find(&d, "vm");
    assert_int_equal(split_find(vm, "vdb"), 0);
    dom_tick(&d, vm, vm->vbd[0].give_up_at);
    must_be_refused("disk vdb of vm: /b is in use by another (waited 5 s)");
    later(vm); /* as it was */
    assert_int_equal(split_find(vm, "vda"), 0);
    xml = rundir_read_domain("vm", &bytes);
    assert_int_equal(bytes, strlen(VM("vm", VDA)));
    assert_memory_equal(xml, VM("vm", VDA), bytes);
    free(xml);
    ask("open", "xml", VM("vm", VDB));
    opens(vm, "vdb");
    connects_dev(vm, "vdb");
    must_be_ok();
    ask("close", "name", "vm");
    dies(vm, 0);
    must_be_ok();
    assert_ptr_equal(dom_find(&d, "vm"), vm);
    assert_int_equal(split_find(vm, "vdb"), 0);
}

static void places_are_written_down(void **state)
{
    static struct daemon next; /* large */
    static struct domain_spec spec;
    struct domain *vm = opened_vm(), *got;
    char err[POLICY_ERR_MAX];
    static const char xml[] = VM("vm", VDB ETHA);

    (void)state;
    ask("open", "xml", xml);
    turns(vm);
    door_says(vm, DOOR_CLOSE, "vda", 0, "");
    must_be_ok();
    state_save(&d);
    memset(&next, 0, sizeof(next));
    keeper_init(&next);
    log_init(&next.own_log, "@next");
    assert_int_equal(policy_parse(xml, strlen(xml), "vm.xml", &spec, err, NULL), 0);
    got = dom_new(&next, &spec);
    assert_int_equal(split_find(got, "vdb"), 0);
    state_load(&next);
    assert_int_equal(got->domid, vm->domid);
    assert_int_equal(split_find(got, "vdb"), 1);
    assert_int_equal(got->there, vm->there);
    assert_int_equal(got->vbd[1].number, vm->vbd[1].number);

    /* In the middle of a change: what no definition names is known well enough to be let go of. */
    ask("open", "xml", VM("vm", VDB VDC ETHA));
    turns(vm);
    opens(vm, "vdc");
    state_save(&d);
    state_load(&next);
    assert_int_equal(got->change.at, CHANGE_CONNECTING);
    assert_int_equal(split_find(got, "vdc"), 0);
    assert_string_equal(got->split[0].backend, "disk0");
    assert_int_equal(got->split[0].devid, 51744);
    assert_int_equal(got->vbd[0].number, vm->vbd[0].number);
    assert_int_equal(got->split[0].nodes_be[0], 1);
    log_forget(&next.own_log);
    log_forget(&got->log);
    log_forget(&got->spare.log);
}

#define V(f) cmocka_unit_test_setup_teardown(f, begin_vm, end_vm)

int main(void)
{
    const struct CMUnitTest tests[] = {
        V(open_answers_when_all_is_there),
        V(what_is_not_ours_is_left_alone),
        V(a_guest_that_cannot_be_opened_is_forgotten),
        V(the_socket_must_be_the_right_one),
        V(a_disk_comes_and_another_goes),
        V(a_nic_keeps_its_number),
        V(what_is_in_use_is_not_changed),
        V(what_fails_is_undone),
        V(a_device_of_another_is_waited_for_and_not_had),
        V(a_driver_domain_dies_meanwhile),
        V(the_door_dies_meanwhile),
        V(a_door_that_does_not_answer_is_killed),
        V(a_door_may_not_talk_without_end),
        V(a_door_that_hangs_up_is_killed_when_it_is_needed),
        V(spares_know_what_comes_and_goes),
        V(close_forgets_what_open_brought),
        V(what_was_defined_stays_defined),
        V(places_are_written_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
