/* SPDX-License-Identifier: MIT */
/* Net driver domains: their uplinks, the keeper, capture files; what an answer, a death and a state lead to.
 */
#include "test_daemon.h"

static void a_switch_needs_no_keeper(void **state)
{
    struct domain *net0 = define(NET("net0", ""));

    (void)state;
    must_start(net0);
    assert_int_equal(d.keeper.domid, 0);
    assert_int_equal(hyp.made[net0->domid].cls, HYP_CLASS_NET);
    assert_true(hyp.made[net0->domid].fd >= 0); /* its channel is there all the same */
    assert_true(hyp.made[net0->domid].running);
    must_be("/local/domain/1/uplink/devargs", "");
    must_be_no("/local/domain/1/uplink/mtu");
    ready(net0);
    assert_string_equal(uplink_state(&d, net0), "");
}

static void an_uplink_is_there_before_its_domain_runs(void **state)
{
    struct domain *net0 = define(NET("net0", ETH1));
    struct link_request req;
    int channel;
    char byte;

    (void)state;
    must_start(net0);
    assert_int_equal(hyp.made[d.keeper.domid].cls, HYP_CLASS_NETDEV);
    assert_true(hyp.made[d.keeper.domid].running);
    assert_int_equal(net0->domid, 0); /* not made yet */
    req = must_hear(LINK_UPLINK, &channel);
    assert_int_equal(req.kind, LINK_KIND_PACKET);
    assert_int_equal(req.mtu, 9000);
    assert_string_equal(req.name, "eth1");
    say(LINK_UPLINK, req.id, 0, LINK_DOWN, "");
    assert_true(net0->domid && hyp.made[net0->domid].running);
    /* The channel leads to this domain. */
    assert_int_equal(send(channel, "x", 1, 0), 1);
    assert_int_equal(recv(hyp.made[net0->domid].fd, &byte, 1, MSG_DONTWAIT), 1);
    close(channel);
    must_be("/local/domain/2/uplink/devargs", "net_af_packet0,iface=eth1");
    must_be("/local/domain/2/uplink/mtu", "9000");
    ready(net0);
    assert_string_equal(uplink_state(&d, net0), "down");
}

static void a_refused_uplink_fails_the_start(void **state)
{
    struct domain *net0 = define(NET("net0", ETH1));
    struct link_request req;

    (void)state;
    must_start(net0);
    req = must_hear(LINK_UPLINK, NULL);
    say(LINK_UPLINK, req.id, -ENODEV, 0, "there is no network interface eth1; see: ip link\x1b");
    assert_int_equal(net0->state, ST_DEFINED);
    assert_int_equal(net0->incarnation, 0);
    assert_int_equal(net0->channel[0], -1);
    must_hear_nothing(); /* what was not taken is not given back */
    must_start(net0);
    assert_int_equal(must_hear(LINK_UPLINK, NULL).id, req.id);
}

static void an_interface_has_one_driver_domain(void **state)
{
    struct domain *net0 = running_net0(NET("net0", ETH1)), *net1 = define(NET("net1", ETH1));
    char why[DAEMON_SENTENCE_MAX];

    (void)state;
    must_not_start(net1, "interface eth1 is the uplink of driver domain net0 already: stop it first");
    assert_int_equal(dom_stop(&d, net0, why), 0);
    dies(net0, 0);
    must_start(net1);
}

static void a_stopped_uplink_goes_back(void **state)
{
    struct domain *net0 = running_net0(NET("net0", ETH1));
    struct link_request req;
    char why[DAEMON_SENTENCE_MAX];

    (void)state;
    assert_int_equal(dom_stop(&d, net0, why), 0);
    must_hear_nothing();
    dies(net0, 0);
    assert_int_equal(net0->state, ST_DEFINED);
    req = must_hear(LINK_RELEASE, NULL);
    assert_int_equal(req.id, net0->link_id);
    assert_string_equal(req.name, "eth1");
    /* The end of the daemon waits for the answer, then for the keeper's end. */
    assert_false(keeper_end(&d, 1));
    assert_true(d.keeper.control >= 0);
    say(LINK_RELEASE, req.id, 0, 0, "");
    assert_false(keeper_end(&d, 2));
    assert_true(d.keeper.control < 0 && hyp.made[d.keeper.domid].asked_to_stop);
    keeper_died(&d, 0);
    assert_true(keeper_end(&d, 3));
}

static void a_keeper_that_does_not_end_is_given_up(void **state)
{
    struct domain *net0 = running_net0(NET("net0", ETH1));
    char why[DAEMON_SENTENCE_MAX];

    (void)state;
    assert_int_equal(dom_stop(&d, net0, why), 0);
    dies(net0, 0);
    assert_false(keeper_end(&d, 1));
    assert_false(keeper_end(&d, KEEPER_WAIT_MS));
    assert_true(keeper_end(&d, 1 + KEEPER_WAIT_MS));
}

static void only_the_last_answer_counts(void **state)
{
    struct domain *net0 = running_net0(NET("net0", ETH1));
    uint32_t id = net0->link_id;
    char why[DAEMON_SENTENCE_MAX];

    (void)state;
    assert_int_equal(dom_stop(&d, net0, why), 0);
    dies(net0, 0);
    must_start(net0);
    must_hear(LINK_RELEASE, NULL);
    must_hear(LINK_UPLINK, NULL);
    say(LINK_RELEASE, id, 0, 0, "");
    assert_int_equal(net0->domid, 0);
    say(LINK_UPLINK, id, 0, LINK_UP, "");
    assert_true(hyp.made[net0->domid].running);
    say(LINK_UPLINK, id, -EIO, 0, "no one asked"); /* changes nothing */
    assert_int_equal(net0->state, ST_STARTING);
}

static void a_killed_driver_domain_gets_its_sockets_anew(void **state)
{
    struct domain *net0 = running_net0(NET("net0", ETH1));
    domid_t old = net0->domid;
    struct link_request req;

    (void)state;
    dies(net0, SIGKILL);
    assert_int_equal(net0->state, ST_CRASHED);
    must_hear_nothing(); /* it is not given back meanwhile */
    dom_tick(&d, net0, net0->deadline);
    req = must_hear(LINK_UPLINK, NULL);
    assert_int_equal(req.id, net0->link_id);
    assert_int_equal(net0->domid, 0);
    say(LINK_UPLINK, req.id, 0, LINK_UP, "");
    assert_int_not_equal(net0->domid, old);
    assert_true(hyp.made[net0->domid].running);
    ready(net0);
    assert_int_equal(net0->restarts, 1);
}

static void states_are_told_and_a_return_restarts(void **state)
{
    struct domain *net0 = running_net0(NET("net0", ETH1));
    domid_t old = net0->domid;
    uint32_t id = net0->link_id;

    (void)state;
    say(LINK_STATE, id, 0, LINK_DOWN, "");
    assert_string_equal(uplink_state(&d, net0), "down");
    say(LINK_STATE, id, 0, 77, "");
    assert_string_equal(uplink_state(&d, net0), "down");
    say(LINK_STATE, id, 0, LINK_GONE, "");
    assert_string_equal(uplink_state(&d, net0), "gone");
    assert_int_equal(net0->state, ST_RUNNING);
    say(LINK_STATE, id + 1, 0, LINK_BACK, ""); /* of no one */
    assert_int_equal(net0->state, ST_RUNNING);
    say(LINK_STATE, id, 0, LINK_BACK, "");
    assert_int_equal(net0->state, ST_STOPPING);
    assert_true(hyp.made[old].asked_to_stop);
    dies(net0, 0);
    assert_int_equal(net0->state, ST_STARTING);
    must_hear(LINK_UPLINK, NULL);
    say(LINK_UPLINK, id, 0, LINK_UP, "");
    ready(net0);
    assert_string_equal(uplink_state(&d, net0), "up");
}

static void a_dead_keeper_is_replaced(void **state)
{
    struct domain *net0 = running_net0(NET("net0", ETH1)), *net1 = define(NET("net1", ""));
    domid_t first = d.keeper.domid;

    (void)state;
    must_start(net1);
    ready(net1);
    keeper_died(&d, SIGKILL);
    assert_int_equal(net0->state, ST_STOPPING); /* its sockets lead nowhere */
    assert_int_equal(net1->state, ST_RUNNING);
    dies(net0, 0);
    assert_int_equal(net0->state, ST_STARTING);
    assert_int_not_equal(d.keeper.domid, first);
    say(LINK_UPLINK, must_hear(LINK_UPLINK, NULL).id, 0, LINK_UP, "");
    ready(net0);
}

static void a_keeper_that_dies_at_work_fails_the_start(void **state)
{
    struct domain *net0 = define(NET("net0", ETH1));

    (void)state;
    must_start(net0);
    keeper_died(&d, SIGSEGV);
    assert_int_equal(net0->state, ST_DEFINED);
    assert_int_equal(net0->uplink.kept.answers, 0);
    must_start(net0);
    must_hear(LINK_UPLINK, NULL);
}

static void a_busy_keeper_is_asked_later(void **state)
{
    struct link_event noise = {.op = LINK_STATE, .id = 0xffffffff};
    struct domain *net0;
    unsigned filled = 0;
    char why[DAEMON_SENTENCE_MAX];

    (void)state;
    assert_int_equal(keeper_start(&d, why), 0);
    while (!rights_send(d.keeper.control, &noise, sizeof(noise), NULL, 0))
        filled++;
    assert_true(filled > 0);
    net0 = define(NET("net0", ETH1));
    must_start(net0);
    assert_true(d.keeper.blocked);
    assert_int_equal(net0->uplink.kept.at, KEPT_TO_ASK);
    for (; filled; filled--)
        assert_int_equal(recv(keeper_end_of(), &noise, sizeof(noise), MSG_DONTWAIT), sizeof(noise));
    keeper_serve(&d, POLLOUT);
    assert_false(d.keeper.blocked);
    must_hear(LINK_UPLINK, NULL);
}

static void capture_files_are_opened_first(void **state)
{
    struct domain *net0 = define(NET("net0", "<b:uplink devargs='net_pcap0,tx_pcap=/out,rx_pcap=/in'/>"));

    (void)state;
    must_start(net0);
    assert_int_equal(d.keeper.domid, 0);
    assert_int_equal(hyp.nassigned, 3); /* the gate too */
    assert_string_equal(hyp.assigned[2].path, "/RUN/gates/net0");
    must_be("/local/domain/1/gate", "3");
    assert_string_equal(hyp.assigned[0].path, "/in");
    assert_int_equal(hyp.assigned[0].flags, HYP_DEVICE_RDONLY);
    assert_string_equal(hyp.assigned[1].path, "/out");
    assert_int_equal(hyp.assigned[1].flags, 0);
    must_be("/local/domain/1/uplink/files/0", "1");
    must_be("/local/domain/1/uplink/files/1", "2");
    opened(net0, 2, 0);
    opened(net0, 7, 0);
    assert_false(hyp.made[1].running);
    opened(net0, 1, 0);
    assert_true(hyp.made[1].running);
}

static void a_missing_capture_file_fails_the_start(void **state)
{
    struct domain *net0 = define(NET("net0", "<b:uplink devargs='net_pcap0,tx_pcap=/out'/>"));

    (void)state;
    must_start(net0);
    must_be("/local/domain/1/uplink/files/0", "1");
    must_be_no("/local/domain/1/uplink/files/1");
    opened(net0, 1, -ENOENT);
    assert_int_equal(net0->state, ST_DEFINED);
    assert_true(hyp.made[1].destroyed && !hyp.made[1].running);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_switch_needs_no_keeper),
        T(an_uplink_is_there_before_its_domain_runs),
        T(a_refused_uplink_fails_the_start),
        T(an_interface_has_one_driver_domain),
        T(a_stopped_uplink_goes_back),
        T(a_keeper_that_does_not_end_is_given_up),
        T(only_the_last_answer_counts),
        T(a_killed_driver_domain_gets_its_sockets_anew),
        T(states_are_told_and_a_return_restarts),
        T(a_dead_keeper_is_replaced),
        T(a_keeper_that_dies_at_work_fails_the_start),
        T(a_busy_keeper_is_asked_later),
        T(capture_files_are_opened_first),
        T(a_missing_capture_file_fails_the_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
