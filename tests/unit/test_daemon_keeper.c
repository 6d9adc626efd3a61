/* SPDX-License-Identifier: MIT */
/* What stays with the keeper of network interfaces: over a door's death, and over the daemon's own. */
#include "test_daemon.h"

static struct domain *running_tap_guest(void)
{
    struct domain *guest = define(GUEST("g", "tap", NIC("") NIC("")));

    must_start(guest);
    for (unsigned i = 0; i < 2; i++)
        say(LINK_TAP, must_hear(LINK_TAP, NULL).id, 0, LINK_UP, "");
    for (unsigned i = 0; i < 2; i++)
        frontend_connects(guest, guest->spec.nics[i].devid);
    assert_int_equal(guest->state, ST_RUNNING);
    return guest;
}

static void a_dead_door_gets_the_same_taps(void **state)
{
    struct domain *guest;

    (void)state;
    running_net0(NET("net0", ""));
    guest = running_tap_guest();
    dies(guest, SIGKILL);
    must_hear_nothing(); /* they are kept */
    if (guest->state != ST_STARTING)
        later(guest);
    assert_int_equal(must_hear(LINK_TAP, NULL).id, guest->link_id);
    assert_int_equal(must_hear(LINK_TAP, NULL).id, guest->link_id + 1);
}

static void a_stopped_guest_gives_its_taps_back(void **state)
{
    char why[DAEMON_SENTENCE_MAX];
    struct domain *guest;

    (void)state;
    running_net0(NET("net0", ""));
    guest = running_tap_guest();
    assert_int_equal(dom_stop(&d, guest, why), 0);
    dies(guest, 0);
    assert_int_equal(must_hear(LINK_RELEASE, NULL).id, guest->link_id);
    assert_int_equal(must_hear(LINK_RELEASE, NULL).id, guest->link_id + 1);
    /* The daemon does not end before they are given back. */
    assert_false(keeper_end(&d, 1));
    assert_false(hyp.made[d.keeper.domid].asked_to_stop);
    say(LINK_RELEASE, guest->link_id, 0, 0, "");
    say(LINK_RELEASE, guest->link_id + 1, -ENOENT, 0, "there is none");
    assert_false(keeper_end(&d, 1));
    assert_int_equal(d.keeper.control, -1); /* now it was told */
}

static void stopped_before_the_answer_it_is_given_back_too(void **state)
{
    char why[DAEMON_SENTENCE_MAX];
    struct domain *guest;
    uint32_t id;

    (void)state;
    running_net0(NET("net0", ""));
    guest = define(GUEST("g", "tap", NIC("")));
    must_start(guest);
    id = must_hear(LINK_TAP, NULL).id;
    assert_int_equal(dom_stop(&d, guest, why), 0);
    assert_int_equal(must_hear(LINK_RELEASE, NULL).id, id);
    say(LINK_TAP, id, 0, LINK_UP, ""); /* crossed the release */
    assert_int_equal(guest->state, ST_DEFINED);
    assert_int_equal(guest->domid, 0);
}

/* As the next daemon finds it: what was asked and not answered is not known to be either. */
static void answers_to_the_last_daemon_are_not_ours(void **state)
{
    struct domain *net0 = define(NET("net0", ETH1));
    uint32_t id, fresh;

    (void)state;
    must_start(net0);
    id = must_hear(LINK_UPLINK, NULL).id;
    keeper_adopted(&d);
    fresh = must_hear(LINK_RELEASE, NULL).id;
    assert_int_not_equal(fresh, id);
    assert_int_equal(net0->uplink.kept.at, KEPT_NONE);
    net0->uplink.kept.at = KEPT_TO_ASK; /* begun anew */
    keeper_ask(&d);
    assert_int_equal(must_hear(LINK_UPLINK, NULL).id, id);
    say(LINK_UPLINK, id, -ENODEV, 0, "of the last daemon");
    assert_int_equal(net0->state, ST_STARTING);
    assert_int_equal(net0->domid, 0);
    say(LINK_RELEASE, fresh, -ENOENT, 0, "there is none");
    assert_int_equal(net0->domid, 0);
    say(LINK_UPLINK, id, 0, LINK_UP, ""); /* ours */
    assert_int_not_equal(net0->domid, 0);
}

static void a_release_on_its_way_is_asked_for_again(void **state)
{
    struct domain *net0 = running_net0(NET("net0", ETH1));
    char why[DAEMON_SENTENCE_MAX];
    uint32_t id;

    (void)state;
    assert_int_equal(dom_stop(&d, net0, why), 0);
    dies(net0, 0);
    id = must_hear(LINK_RELEASE, NULL).id;
    keeper_adopted(&d);
    assert_int_not_equal(must_hear(LINK_RELEASE, NULL).id, id);
    assert_int_equal(must_hear(LINK_RELEASE, NULL).id, id);
}

static void a_keeper_that_cannot_be_spoken_to_is_another_one(void **state)
{
    struct domain *net0 = running_net0(NET("net0", ETH1));
    domid_t lost = d.keeper.domid;

    (void)state;
    close(d.keeper.control);
    d.keeper.control = -1;
    keeper_adopted(&d);
    assert_true(hyp.made[lost].destroyed);
    assert_int_equal(d.keeper.domid, 0);
    assert_int_equal(net0->state, ST_STOPPING); /* its interface went: it is made anew */
    assert_true(net0->start_again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_dead_door_gets_the_same_taps),
        T(a_stopped_guest_gives_its_taps_back),
        T(stopped_before_the_answer_it_is_given_back_too),
        T(answers_to_the_last_daemon_are_not_ours),
        T(a_release_on_its_way_is_asked_for_again),
        T(a_keeper_that_cannot_be_spoken_to_is_another_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
