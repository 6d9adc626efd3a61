/* SPDX-License-Identifier: MIT */
/* Spares of driver domains: made, armed, promoted; what their deaths and those of others lead to. */
#include "test_daemon.h"

#define TWO_DISKS                                                                                       \
    "<domain><name>g</name>" MEM "<metadata><b:domain " NS " kind='guest' door='native'/></metadata>"   \
    "<devices>" DISK("disk0", "vda", "/a") DISK("disk0", "vdb", "/b") "</devices></domain>"
#define RAM_DISK                                                                                       \
    "<domain><name>r</name>" MEM "<metadata><b:domain " NS " kind='guest' door='native'>"              \
    "<b:disk dev='vda' ram='1048576'/></b:domain></metadata><devices><disk type='file'>"          \
    "<backenddomain name='disk0'/><target dev='vda'/></disk></devices></domain>"

static struct domain *running_blk(const char *xml)
{
    struct domain *dom = define(xml);

    must_start(dom);
    ready(dom);
    return dom;
}

__attribute__((format(printf, 2, 3))) static void must_be_at(const char *value, const char *fmt, ...)
{
    char path[STORE_PATH_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(path, sizeof(path), fmt, ap);
    va_end(ap);
    if (value)
        must_be(path, value);
    else
        must_be_no(path);
}

static unsigned assignments_of(domid_t domid)
{
    unsigned n = 0;

    for (unsigned i = 0; i < hyp.nassigned; i++)
        n += hyp.assigned[i].domid == domid && !hyp.assigned[i].released;
    return n;
}

/* disk0 with a guest that is connected, and a spare that is armed. */
static struct domain *armed(struct domain **guest)
{
    struct domain *disk0 = running_blk(BLK("disk0", ""));

    *guest = running_guest(TWO_DISKS);
    connects(*guest, 0);
    connects(*guest, 1);
    spare_comes(disk0);
    assert_false(spare_is_armed(&d, disk0));
    arms(*guest, 0);
    assert_false(spare_is_armed(&d, disk0));
    arms(*guest, 1);
    assert_true(spare_is_armed(&d, disk0));
    return disk0;
}

static void a_spare_stands_by_in_the_other_slot(void **state)
{
    struct domain *guest, *disk0 = armed(&guest);
    unsigned spare = disk0->spare.domid;

    (void)state;
    assert_int_equal(disk0->domid, 1);
    assert_int_equal(guest->domid, 2);
    assert_int_equal(assignments_of(disk0->spare.domid), 2);
    must_be_at("1", "/local/domain/%u/device/vbd/51712/backend-id", 2);
    must_be("/local/domain/2/device/vbd/51712/bulkhead-max-deaths", "3");
    must_be("/local/domain/2/twin/vbd/51712/bulkhead-heartbeat-ms", "500");
    must_be_at("1", "/local/domain/%u/backend/vbd/%u/51712/standby", spare, 2);
    must_be_at("/local/domain/2/twin/vbd/51712", "/local/domain/%u/backend/vbd/%u/51712/frontend", spare, 2);
    must_be_at("device:1", "/local/domain/%u/backend/vbd/%u/51712/params", spare, 2);
    must_be("/local/domain/2/twin/vbd/51728/backend-id", "3");
    must_be_no("/local/domain/1/backend/vbd/2/51712/standby");
    json_decref(hear_event("spare_ready"));
    json_decref(hear_event("spare_armed"));
}

static void a_death_makes_the_spare_the_incarnation(void **state)
{
    struct domain *guest, *disk0 = armed(&guest);
    domid_t old = disk0->domid, spare = disk0->spare.domid;
    json_t *event;

    (void)state;
    hear_all();
    device_opens(spare, guest->ahead[0].number, monotonic_ns()); /* the fence may be first */
    dies(disk0, SIGSEGV);
    assert_int_equal(disk0->state, ST_RUNNING);
    assert_int_equal(disk0->domid, spare);
    assert_int_equal(disk0->incarnation, 2);
    assert_int_equal(disk0->restarts, 1);
    assert_int_equal(guest->split[0].live, 1);
    assert_int_equal(guest->split[0].be, spare);
    assert_int_equal(guest->vbd[0].device, VBD_OPEN);
    assert_int_equal(guest->vbd[1].device, VBD_OPENING);
    event = hear_event("died");
    must_say(event, "cause", "signal SEGV");
    json_decref(event);
    event = hear_event("restarted");
    assert_true(json_is_true(json_object_get(event, "warm")));
    json_decref(event);
    device_opens(spare, guest->vbd[1].number, monotonic_ns());
    connects(guest, 0);
    /* What the dead one left is removed when the next spare is made, in its place. */
    must_be_at("disk0", "/local/domain/%u/name", old);
    spare_comes(disk0);
    must_be_at(NULL, "/local/domain/%u", old);
    must_be_at("4", "/local/domain/%u/device/vbd/51712/backend-id", guest->domid);
    must_be_at("/local/domain/2/device/vbd/51712", "/local/domain/%u/backend/vbd/%u/51712/frontend",
               disk0->spare.domid, guest->domid);
    /* And back again. */
    arms(guest, 0);
    dies(disk0, SIGKILL);
    assert_int_equal(guest->split[0].live, 0);
    assert_int_equal(disk0->incarnation, 3);
}

static void a_dead_spare_is_made_again(void **state)
{
    struct domain *guest, *disk0 = armed(&guest);
    domid_t spare = disk0->spare.domid;
    struct hyp_event ev = {.kind = HYP_EV_DEATH, .domid = spare, .error = SIGKILL};
    uint64_t before = now_ms();

    (void)state;
    dom_event(&d, &ev);
    assert_int_equal(disk0->state, ST_RUNNING);
    assert_int_equal(disk0->domid, 1);
    assert_int_equal(disk0->spare.at, SPARE_WAITING);
    assert_true(disk0->spare.make_at >= before + BACKOFF_FIRST_MS);
    assert_false(guest->split[0].armed);
    assert_int_equal(guest->ahead[0].device, VBD_NONE);
    must_be_at(NULL, "/local/domain/%u", spare);
    must_be("/local/domain/2/device/vbd/51712/backend-id", "1");
    must_be_no("/local/domain/2/twin/vbd/51712/backend-id");
    spare_comes(disk0);
    must_be_at("1", "/local/domain/%u/backend/vbd/%u/51712/standby", disk0->spare.domid, 2);
    /* The wait grows, to a bound. */
    disk0->spare.failures = 40;
    ev.domid = disk0->spare.domid;
    dom_event(&d, &ev);
    assert_true(disk0->spare.make_at <= now_ms() + BACKOFF_LAST_MS);
    assert_true(disk0->spare.make_at > before + BACKOFF_LAST_MS / 2);
}

static void a_death_without_a_ready_spare_goes_on_with_what_there_is(void **state)
{
    struct domain *disk0 = running_blk(BLK("disk0", "")), *guest = running_guest(TWO_DISKS);
    domid_t spare;

    (void)state;
    connects(guest, 0);
    dom_tick(&d, disk0, disk0->spare.make_at);
    spare = disk0->spare.domid;
    assert_int_equal(disk0->spare.at, SPARE_STARTING);
    dies(disk0, SIGKILL);
    assert_int_equal(disk0->state, ST_STARTING);
    assert_int_equal(disk0->domid, spare);
    assert_int_equal(disk0->spare.domid, 0);
    ready(disk0);
    assert_int_equal(disk0->incarnation, 2);
    assert_int_equal(disk0->restarts, 1);
    assert_int_equal(guest->split[0].be, spare);
    assert_int_equal(guest->split[0].live, 0);
    must_be_at("3", "/local/domain/%u/device/vbd/51712/backend-id", 2);
    assert_int_equal(disk0->spare.at, SPARE_WAITING);
}

static void without_a_spare_the_first_restart_is_at_once(void **state)
{
    struct domain *disk0 = running_blk(BLK("disk0", COLD));
    const uint64_t delays[] = {0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000};

    (void)state;
    assert_int_equal(disk0->spare.at, SPARE_NONE);
    for (size_t i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
        uint64_t before = now_ms();

        dies(disk0, SIGABRT);
        assert_int_equal(disk0->state, i ? ST_BACKOFF : ST_CRASHED);
        assert_true(disk0->deadline >= before + delays[i] && disk0->deadline <= now_ms() + delays[i]);
        later(disk0);
        ready(disk0);
    }
    /* An operator's kill is no crash loop. */
    for (int i = 0; i < 5; i++) {
        char why[DAEMON_SENTENCE_MAX];

        assert_int_equal(dom_kill(&d, disk0, why), 0);
        dies(disk0, SIGKILL);
        assert_int_equal(disk0->state, ST_CRASHED);
        assert_true(disk0->deadline <= now_ms());
        later(disk0);
        ready(disk0);
    }
    assert_int_equal(disk0->restarts, 15);
}

/* What a frontend reads meanwhile is what it knew. */
static void nodes_stay_until_an_incarnation_replaces_them(void **state)
{
    struct domain *disk0 = running_blk(BLK("disk0", COLD)), *guest = running_guest(TWO_DISKS);

    (void)state;
    dies(disk0, SIGABRT);
    for (int i = 0; i < 3; i++) {
        later(disk0);
        assert_int_equal(disk0->state, ST_STARTING);
        must_be("/local/domain/1/backend/vbd/2/51712/mode", "w");
        dies(disk0, SIGABRT);
    }
    must_be("/local/domain/1/backend/vbd/2/51712/mode", "w");
    later(disk0);
    ready(disk0);
    must_be_no("/local/domain/1");
    must_be_at("w", "/local/domain/%u/backend/vbd/2/51712/mode", disk0->domid);
    assert_int_equal(guest->split[0].live, 0);
}

static void a_crash_loop_holds_back_the_next_spare_and_no_takeover(void **state)
{
    struct domain *disk0 = running_blk(BLK("disk0", ""));

    (void)state;
    for (unsigned i = 1; i <= 12; i++) {
        uint64_t before = now_ms(), least = SETTLE_MS + backoff_ms(i, SPARE_LAST_MS);

        spare_comes(disk0);
        dies(disk0, SIGSEGV);
        assert_int_equal(disk0->state, ST_RUNNING);
        assert_int_equal(disk0->incarnation, i + 1);
        if (i == 1) /* it recovered at once: no one waited for it */
            assert_true(disk0->spare.make_at <= now_ms() + CATCH_UP_MS);
        else
            assert_true(disk0->spare.make_at >= before + least &&
                        disk0->spare.make_at <= now_ms() + SETTLE_MS + SPARE_LAST_MS);
    }
}

static void guests_come_and_go_beside_a_spare(void **state)
{
    struct domain *guest, *disk0 = running_blk(BLK("disk0", ""));
    domid_t spare;
    char why[DAEMON_SENTENCE_MAX];

    (void)state;
    spare_comes(disk0);
    spare = disk0->spare.domid;
    guest = running_guest(TWO_DISKS);
    assert_int_equal(assignments_of(spare), 2);
    must_be_at("2", "/local/domain/%u/twin/vbd/51712/backend-id", guest->domid);
    assert_int_equal(dom_kill(&d, guest, why), 0);
    dies(guest, 0);
    assert_int_equal(assignments_of(spare), 0);
    assert_int_equal(assignments_of(disk0->domid), 0);
    /* Else the spare would get it. */
    assert_true(hyp.released[0] == spare && hyp.released[2] == disk0->domid);
    must_be_no("/local/domain/2/backend/vbd/3");
    must_be_no("/local/domain/1/backend/vbd/3");
    must_be_no("/local/domain/3");
    assert_int_equal(disk0->spare.at, SPARE_READY);
}

static void a_ram_disk_moves_the_ordinary_way(void **state)
{
    struct domain *disk0 = running_blk(BLK("disk0", "")), *guest = running_guest(RAM_DISK);

    (void)state;
    connects(guest, 0);
    spare_comes(disk0);
    assert_true(spare_is_armed(&d, disk0));
    must_be_no("/local/domain/2/twin/vbd/51712");
    dies(disk0, SIGKILL);
    assert_int_equal(guest->split[0].live, 0);
    must_be("/local/domain/2/device/vbd/51712/backend-id", "3");
    must_be("/local/domain/3/backend/vbd/2/51712/state", "1");
}

/* Two who wait at one fence are let in in any order. */
static void no_spare_waits_at_a_fence_before_its_incarnation(void **state)
{
    struct domain *guest, *disk0 = armed(&guest);
    domid_t spare;

    (void)state;
    dies(disk0, SIGKILL);
    assert_int_equal(guest->vbd[0].device, VBD_OPENING);
    dom_tick(&d, disk0, disk0->spare.make_at);
    spare = disk0->spare.domid;
    dom_event(&d, &(struct hyp_event){.kind = HYP_EV_READY, .domid = spare});
    assert_int_equal(assignments_of(spare), 0);
    connects(guest, 0);
    assert_false(spare_is_armed(&d, disk0));
    device_opens(disk0->domid, guest->vbd[0].number, monotonic_ns());
    assert_int_equal(assignments_of(spare), 1);
    must_be_at("1", "/local/domain/%u/backend/vbd/2/51712/standby", spare);
    must_be_at(NULL, "/local/domain/%u/backend/vbd/2/51728/standby", spare);
    device_opens(disk0->domid, guest->vbd[1].number, monotonic_ns());
    assert_int_equal(assignments_of(spare), 2);
}

static void a_device_that_the_spare_cannot_open_is_tried_again(void **state)
{
    struct domain *guest, *disk0 = armed(&guest);
    struct hyp_event ev = {.kind = HYP_EV_DEVICE, .domid = disk0->spare.domid, .error = -ENOENT};
    uint32_t number = guest->ahead[0].number;

    (void)state;
    ev.device = number;
    dom_event(&d, &ev);
    assert_int_equal(guest->state, ST_RUNNING);
    assert_true(guest->ahead[0].retry_at != 0);
    guest_tick(&d, guest, guest->ahead[0].retry_at);
    assert_int_equal(hyp.assigned[hyp.nassigned - 1].device, number);
    assert_int_equal(hyp.assigned[hyp.nassigned - 1].domid, disk0->spare.domid);
}

static void a_spare_has_its_own_sockets_and_gate(void **state)
{
    struct domain *net0 = running_net0(NET("net0", ETH1)), *guest;
    struct link_request req;
    int channel;
    char byte;
    domid_t spare;

    (void)state;
    must_be("/local/domain/2/gate", "1");
    guest = define(GUEST("g", "native", NIC("")));
    must_start(guest);
    frontend_connects(guest, 0);
    dom_tick(&d, net0, net0->spare.make_at); /* not before its gate is open: the spare could be first there */
    must_hear_nothing();
    fence_opens(net0);
    dom_tick(&d, net0, net0->spare.make_at);
    assert_int_equal(net0->spare.domid, 0); /* its sockets first */
    req = must_hear(LINK_UPLINK, &channel);
    assert_int_equal(req.id, net0->link_id);
    say(LINK_UPLINK, req.id, 0, LINK_UP, "");
    spare = net0->spare.domid;
    assert_true(spare && hyp.made[spare].running);
    assert_int_equal(send(channel, "x", 1, 0), 1);
    assert_int_equal(recv(hyp.made[spare].fd, &byte, 1, MSG_DONTWAIT), 1);
    close(channel);
    must_be_at("1", "/local/domain/%u/gate", spare);
    must_be_at("net_af_packet0,iface=eth1", "/local/domain/%u/uplink/devargs", spare);
    assert_string_equal(hyp.assigned[hyp.nassigned - 1].path, "/RUN/gates/net0");
    dom_event(&d, &(struct hyp_event){.kind = HYP_EV_READY, .domid = spare});
    must_be_at("4", "/local/domain/%u/twin/vif/0/backend-id", guest->domid);
    arms(guest, FIRST_NIC);
    dies(net0, SIGKILL);
    assert_int_equal(net0->domid, spare);
    assert_int_equal(net0->uplink.kept.at, KEPT_HELD);
    assert_true(net0->channel[0] >= 0);
    must_hear_nothing();
    device_opens(spare, net0->gate, monotonic_ns());
    assert_true(net0->gate_ns != 0);
    assert_string_equal(uplink_state(&d, net0), "up");
}

static void a_death_while_the_keeper_is_asked_keeps_the_request(void **state)
{
    struct domain *net0 = running_net0(NET("net0", ETH1));

    (void)state;
    fence_opens(net0);
    dom_tick(&d, net0, net0->spare.make_at);
    dies(net0, SIGKILL);
    assert_int_equal(net0->state, ST_STARTING);
    assert_int_equal(net0->domid, 0);
    say(LINK_UPLINK, must_hear(LINK_UPLINK, NULL).id, 0, LINK_UP, "");
    assert_true(net0->domid && hyp.made[net0->domid].running);
    ready(net0);
    assert_int_equal(net0->incarnation, 2);
}

static void an_uplink_with_one_holder_has_no_spare(void **state)
{
    struct domain *net0 = define(NET("net0", UPLINK("net_af_xdp0,iface=eth1")));

    (void)state;
    must_start(net0);
    say(LINK_UPLINK, must_hear(LINK_UPLINK, NULL).id, 0, LINK_UP, "");
    ready(net0);
    assert_int_equal(net0->spare.at, SPARE_NONE);
    assert_string_equal(spare_why_not(net0), "its kind of uplink cannot be held twice");
}

static void a_stop_takes_the_spare_with_it(void **state)
{
    struct domain *disk0 = running_blk(BLK("disk0", ""));
    domid_t spare;
    char why[DAEMON_SENTENCE_MAX];

    (void)state;
    spare_comes(disk0);
    spare = disk0->spare.domid;
    assert_int_equal(dom_stop(&d, disk0, why), 0);
    assert_true(hyp.made[spare].destroyed && hyp.made[1].asked_to_stop);
    assert_int_equal(disk0->spare.at, SPARE_NONE);
    dies(disk0, 0);
    assert_int_equal(disk0->state, ST_DEFINED);
    /* Its death is no one's now. */
    dom_event(&d, &(struct hyp_event){.kind = HYP_EV_DEATH, .domid = spare, .error = SIGKILL});
    assert_int_equal(disk0->state, ST_DEFINED);
    must_be_at(NULL, "/local/domain/%u", spare);
    assert_int_equal(dom_next_tick(disk0), 0);
}

static void a_planned_restart_takes_a_fresh_spare(void **state)
{
    struct domain *guest, *disk0 = armed(&guest);
    domid_t old = disk0->domid, stale = disk0->spare.domid, fresh;
    char why[DAEMON_SENTENCE_MAX];
    json_t *event;

    (void)state;
    assert_int_equal(dom_restart(&d, disk0, why), 0);
    fresh = disk0->spare.domid;
    assert_true(hyp.made[stale].destroyed && fresh != stale);
    assert_int_not_equal(dom_restart(&d, disk0, why), 0);
    assert_string_equal(why, "disk0 is being restarted already");
    assert_false(hyp.made[old].asked_to_stop);
    dom_event(&d, &(struct hyp_event){.kind = HYP_EV_READY, .domid = fresh});
    arms(guest, 0);
    assert_false(hyp.made[old].asked_to_stop);
    arms(guest, 1);
    assert_true(hyp.made[old].asked_to_stop);
    assert_int_equal(disk0->state, ST_RUNNING);
    hear_all();
    dies(disk0, 0);
    assert_int_equal(disk0->domid, fresh);
    assert_int_equal(disk0->restarts, 0);
    assert_int_equal(disk0->failures, 0);
    event = hear_event("restarted");
    must_say(event, "cause", "planned");
    json_decref(event);
}

static void a_restart_that_would_not_come_back_is_not_done(void **state)
{
    struct domain *guest, *disk0 = armed(&guest);
    domid_t old = disk0->domid;
    char why[DAEMON_SENTENCE_MAX];

    (void)state;
    assert_int_equal(dom_restart(&d, disk0, why), 0);
    dom_event(&d, &(struct hyp_event){.kind = HYP_EV_DEATH, .domid = disk0->spare.domid, .error = 256});
    assert_int_equal(disk0->plan, PLAN_NONE);
    assert_int_equal(disk0->domid, old);
    assert_false(hyp.made[old].asked_to_stop);
    /* Frontends that do not arm it are waited for, and then not. */
    assert_int_equal(dom_restart(&d, disk0, why), 0);
    dom_event(&d, &(struct hyp_event){.kind = HYP_EV_READY, .domid = disk0->spare.domid});
    assert_false(hyp.made[old].asked_to_stop);
    dom_tick(&d, disk0, disk0->plan_until);
    assert_true(hyp.made[old].asked_to_stop);
    /* So is an incarnation that does not stop. */
    dom_tick(&d, disk0, disk0->plan_until);
    assert_true(hyp.made[old].destroyed);
    dies(disk0, SIGKILL);
    assert_int_equal(disk0->state, ST_RUNNING);
    assert_int_not_equal(disk0->domid, old);
}

static void a_planned_restart_without_a_spare_is_stop_and_start(void **state)
{
    struct domain *disk0 = running_blk(BLK("disk0", COLD));
    char why[DAEMON_SENTENCE_MAX];

    (void)state;
    assert_int_equal(dom_restart(&d, disk0, why), 0);
    assert_true(hyp.made[1].asked_to_stop);
    dies(disk0, 0);
    assert_int_equal(disk0->state, ST_STARTING);
    ready(disk0);
    assert_int_equal(disk0->last_cause, CAUSE_PLANNED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_spare_stands_by_in_the_other_slot),
        T(a_death_makes_the_spare_the_incarnation),
        T(a_dead_spare_is_made_again),
        T(a_death_without_a_ready_spare_goes_on_with_what_there_is),
        T(without_a_spare_the_first_restart_is_at_once),
        T(nodes_stay_until_an_incarnation_replaces_them),
        T(a_crash_loop_holds_back_the_next_spare_and_no_takeover),
        T(guests_come_and_go_beside_a_spare),
        T(a_ram_disk_moves_the_ordinary_way),
        T(no_spare_waits_at_a_fence_before_its_incarnation),
        T(a_device_that_the_spare_cannot_open_is_tried_again),
        T(a_spare_has_its_own_sockets_and_gate),
        T(a_death_while_the_keeper_is_asked_keeps_the_request),
        T(an_uplink_with_one_holder_has_no_spare),
        T(a_stop_takes_the_spare_with_it),
        T(a_planned_restart_takes_a_fresh_spare),
        T(a_restart_that_would_not_come_back_is_not_done),
        T(a_planned_restart_without_a_spare_is_stop_and_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
