/* SPDX-License-Identifier: MIT */
/* NICs of guests: their nodes, their TAP devices, their way from one driver domain to the next. */
#include "test_daemon.h"

static void nodes_of_a_vif_are_as_agreed(void **state)
{
    static const char *const back[] = {"frontend=/local/domain/2/device/vif/0",
                                       "frontend-id=2",
                                       "online=1",
                                       "dev=eth0",
                                       "handle=0",
                                       "mac=52:54:00:12:34:56",
                                       "mtu=9000",
                                       "type=vif",
                                       "bulkhead-weight=7",
                                       "bulkhead-vlan=42",
                                       "bulkhead-trunk=42,100,4094",
                                       "bulkhead-isolated=1",
                                       "bulkhead-inbound=1000000 2000000 1048576",
                                       "bulkhead-outbound=5000 0 0",
                                       "state=1",
                                       NULL};
    static const char *const front[] = {"backend=/local/domain/1/backend/vif/2/0",
                                        "backend-id=1",
                                        "dev=eth0",
                                        "handle=0",
                                        "mac=52:54:00:12:34:56",
                                        "mtu=9000",
                                        "bulkhead-heartbeat-ms=500",
                                        "bulkhead-queues=2",
                                        "bulkhead-pool-pages=64",
                                        "bulkhead-grants=copy",
                                        "state=1",
                                        NULL};
    static const char *const plain_back[] = {"frontend=/local/domain/2/device/vif/1",
                                             "frontend-id=2",
                                             "online=1",
                                             "dev=lan",
                                             "handle=1",
                                             "mac=52:54:00:12:34:57",
                                             "mtu=1500",
                                             "type=vif",
                                             "bulkhead-weight=100",
                                             "bulkhead-isolated=0",
                                             "state=1",
                                             NULL};
    static const char *const plain_front[] = {"backend=/local/domain/1/backend/vif/2/1",
                                              "backend-id=1",
                                              "dev=lan",
                                              "handle=1",
                                              "mac=52:54:00:12:34:57",
                                              "mtu=1500",
                                              "bulkhead-heartbeat-ms=500",
                                              "state=1",
                                              NULL};
    struct domain *guest;

    (void)state;
    running_net0(NET("net0", ""));
    guest = define(
        "<domain><name>g</name>" MEM "<metadata><b:domain " NS " kind='guest' door='native'>"
        "<b:interface dev='eth0' pool-pages='64' grants='copy' "
        "weight='7'/></b:domain></metadata><devices>" NIC(
            "<mac address='52:54:00:12:34:56'/><mtu size='9000'/><vlan><tag id='100'/><tag id='42' "
            "nativeMode='untagged'/><tag id='4094'/></vlan><bandwidth><inbound average='1000' "
            "peak='2000' burst='1024'/><outbound average='5'/></bandwidth><port isolated='yes'/><driver "
            "queues='2'/>")
            NIC("<mac address='52:54:00:12:34:57'/><target dev='lan'/>") "</devices></domain>");
    must_start(guest);
    assert_int_equal(guest->domid, 2);
    must_hold("/local/domain/1/backend/vif/2/0", back);
    must_hold("/local/domain/2/device/vif/0", front);
    must_hold("/local/domain/1/backend/vif/2/1", plain_back);
    must_hold("/local/domain/2/device/vif/1", plain_front);
    dies(guest, 0);
    must_be_no("/local/domain/1/backend/vif/2");
    must_be_no("/local/domain/2");
}

static void a_tap_guest_has_its_taps_first(void **state)
{
    struct domain *net0 = running_net0(NET("net0", "")), *guest;
    struct link_request req;
    int channel;
    char byte;

    (void)state;
    guest = define(GUEST(
        "g", "tap", NIC("<mac address='52:54:00:12:34:56'/><mtu size='9000'/>") NIC("<guest dev='lan'/>")));
    must_start(guest);
    assert_int_equal(guest->domid, 0); /* not made yet */
    req = must_hear(LINK_TAP, &channel);
    assert_int_equal(req.index, 0);
    assert_int_equal(req.mtu, 9000);
    assert_int_equal(req.mac[5], 0x56);
    assert_string_equal(req.name, "eth0");
    assert_string_equal(req.netns, "red");
    say(LINK_TAP, req.id, 0, LINK_UP, "");
    assert_int_equal(guest->domid, 0);
    req = must_hear(LINK_TAP, NULL);
    assert_int_equal(req.index, 1);
    assert_string_equal(req.name, "lan");
    say(LINK_TAP, req.id, 0, LINK_UP, "");
    assert_true(guest->domid && hyp.made[guest->domid].running);
    assert_int_equal(hyp.made[guest->domid].cls, HYP_CLASS_TAP);
    assert_int_equal(send(channel, "x", 1, 0), 1);
    assert_int_equal(recv(hyp.made[guest->domid].fd, &byte, 1, MSG_DONTWAIT), 1);
    close(channel);
    /* It runs when all its NICs are connected. */
    frontend_connects(guest, 1);
    assert_int_equal(guest->state, ST_STARTING);
    frontend_connects(guest, 0);
    assert_int_equal(guest->state, ST_RUNNING);
    assert_int_equal(net0->state, ST_RUNNING);
}

static void a_refused_tap_fails_the_start(void **state)
{
    struct domain *guest;

    (void)state;
    running_net0(NET("net0", ""));
    guest = define(GUEST("g", "tap", NIC("") NIC("")));
    must_start(guest);
    must_hear(LINK_TAP, NULL);
    must_hear(LINK_TAP, NULL);
    say(LINK_TAP, guest->link_id + 1, -ENOENT, 0,
        "there is no network namespace red; make it: ip netns add red");
    assert_int_equal(guest->state, ST_DEFINED);
    assert_int_equal(guest->domid, 0);
    say(LINK_TAP, guest->link_id, 0, LINK_UP, ""); /* late: no one waits for it */
    assert_int_equal(guest->state, ST_DEFINED);
    assert_int_equal(guest->channel[0], -1);
}

static void a_dead_tap_guest_gets_new_taps(void **state)
{
    struct domain *guest;

    (void)state;
    running_net0(NET("net0", ""));
    guest = define(GUEST("g", "tap", NIC("")));
    must_start(guest);
    say(LINK_TAP, must_hear(LINK_TAP, NULL).id, 0, LINK_UP, "");
    frontend_connects(guest, 0);
    dies(guest, SIGKILL);
    assert_int_equal(guest->state, ST_CRASHED);
    dom_tick(&d, guest, guest->deadline);
    assert_int_equal(guest->state, ST_STARTING);
    say(LINK_TAP, must_hear(LINK_TAP, NULL).id, 0, LINK_UP, "");
    frontend_connects(guest, 0);
    assert_int_equal(guest->state, ST_RUNNING);
    assert_int_equal(guest->incarnation, 2);
}

static void nics_move_to_the_next_incarnation(void **state)
{
    struct domain *net0 = running_net0(NET("net0", ETH1)), *guest;
    domid_t old = net0->domid;
    char path[STORE_PATH_MAX], value[STORE_PATH_MAX];

    (void)state;
    guest = define(GUEST("g", "native", NIC("")));
    must_start(guest);
    frontend_connects(guest, 0);
    assert_true(guest->split[FIRST_NIC].connected);
    dies(net0, SIGKILL);
    assert_false(guest->split[FIRST_NIC].connected);
    assert_int_equal(guest->state, ST_RUNNING);
    dom_tick(&d, net0, net0->deadline);
    say(LINK_UPLINK, must_hear(LINK_UPLINK, NULL).id, 0, LINK_UP, "");
    ready(net0);
    snprintf(path, sizeof(path), "/local/domain/%u/device/vif/0/backend-id", guest->domid);
    snprintf(value, sizeof(value), "%u", net0->domid);
    must_be(path, value);
    snprintf(path, sizeof(path), "/local/domain/%u/backend/vif/%u/0/state", net0->domid, guest->domid);
    must_be(path, "1");
    snprintf(path, sizeof(path), "/local/domain/%u", old);
    must_be_no(path);
    frontend_connects(guest, 0);
    assert_true(guest->split[FIRST_NIC].connected);
}

static void what_cannot_be_served_is_refused(void **state)
{
    static const char disk0[] = "<domain><name>disk0</name>" MEM "<metadata><b:domain " NS
                                " kind='driver' class='blk'/></metadata></domain>";
    struct domain *net0, *first, *second, *disk, *wrong;

    (void)state;
    first = define(GUEST("g1", "native", NIC("<mac address='52:54:00:12:34:56'/>")));
    must_not_start(first, "NIC eth0 of g1 names driver domain net0, which is not defined: define it first");
    net0 = define(NET("net0", ""));
    must_not_start(first, "driver domain net0 is not running: start it first");
    must_start(net0);
    ready(net0);
    must_start(first);
    second = define(GUEST("g2", "tap", NIC("<mac address='52:54:00:12:34:56'/>")));
    must_not_start(
        second, "NIC eth0 of g2: address 52:54:00:12:34:56 is that of eth0 of g1 already, in driver domain "
                "net0: give it another <mac address='...'/>");
    assert_int_equal(d.keeper.domid, 0);
    disk = define(disk0);
    must_start(disk);
    ready(disk);
    wrong = define(
        "<domain><name>g3</name>" MEM "<metadata><b:domain " NS " kind='guest' door='native'/></metadata>"
        "<devices><interface type='ethernet'><backenddomain name='disk0'/></interface></devices></domain>");
    must_not_start(wrong, "NIC eth0 of g3 names driver domain disk0, whose class is 'blk', not 'net'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(nodes_of_a_vif_are_as_agreed),      T(a_tap_guest_has_its_taps_first),
        T(a_refused_tap_fails_the_start),     T(a_dead_tap_guest_gets_new_taps),
        T(nics_move_to_the_next_incarnation), T(what_cannot_be_served_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
