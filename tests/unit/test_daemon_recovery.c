/* SPDX-License-Identifier: MIT */
/* What frontends report of a driver domain: hangs, lies, poison, outages; and what is made of it. */
#include "test_daemon.h"

#define ONE_DISK(name)                                                                                      \
    "<domain><name>" name "</name>" MEM "<metadata><b:domain " NS " kind='guest' door='native'/></metadata>" \
    "<devices>" DISK("disk0", "vda", "/" name) "</devices></domain>"

static struct domain *disk0, *guest;

static int begin_with_guest(void **state)
{
    if (begin(state))
        return -1;
    disk0 = define(BLK("disk0", ""));
    must_start(disk0);
    ready(disk0);
    guest = running_guest(ONE_DISK("g"));
    connects(guest, 0);
    spare_comes(disk0);
    arms(guest, 0);
    hear_all();
    return 0;
}

static void reports(const char *key, const char *value)
{
    frontend_writes(guest, 0, "report", key, value);
}

static void pongs(domid_t domid, unsigned n)
{
    struct store_event ev;

    snprintf(ev.path, sizeof(ev.path), "/local/domain/%u", domid);
    snprintf(ev.token, sizeof(ev.token), "%u/pong", domid);
    assert_int_equal(store_printf(d.store, STORE_NO_TXN, ev.path, "pong", "%u", n), 0);
    guest_store_event(&d, &ev);
}

/* ------------------------------------------------------------------ heartbeat */

static void who_answers_lives(void **state)
{
    uint64_t due;

    (void)state;
    must_be_no("/local/domain/1/ping");
    reports("stalled", "1");
    must_be("/local/domain/1/ping", "1");
    due = disk0->ping_until;
    assert_true(due && due <= now_ms() + 250);
    reports("stalled", "2"); /* one at a time */
    must_be("/local/domain/1/ping", "1");
    pongs(1, 0);
    assert_int_equal(disk0->ping_until, due);
    pongs(1, 1);
    assert_int_equal(disk0->ping_until, 0);
    dom_tick(&d, disk0, due);
    assert_false(hyp.made[1].destroyed);
    reports("stalled", "3"); /* and one in half a period, whatever a guest writes */
    must_be("/local/domain/1/ping", "1");
    disk0->ping_again = 0;
    reports("stalled", "4");
    must_be("/local/domain/1/ping", "2");
}

static void who_does_not_answer_hangs(void **state)
{
    json_t *event;

    (void)state;
    reports("stalled", "1");
    dom_tick(&d, disk0, disk0->ping_until - 1);
    assert_false(hyp.made[1].destroyed);
    dom_tick(&d, disk0, disk0->ping_until);
    assert_true(hyp.made[1].destroyed);
    json_decref(hear_event("hang"));
    dies(disk0, SIGKILL);
    assert_int_equal(disk0->last_cause, CAUSE_HANG);
    assert_int_equal(disk0->deaths[CAUSE_HANG], 1);
    assert_int_equal(disk0->incarnation, 2);
    event = hear_event("died");
    must_say(event, "cause", "hang");
    json_decref(event);
    /* The next one is not judged by that. */
    assert_int_equal(disk0->ping_until, 0);
}

static void nobody_is_judged_without_a_heartbeat(void **state)
{
    (void)state;
    disk0->spec.heartbeat_ms = 0;
    reports("stalled", "1");
    must_be_no("/local/domain/1/ping");
    assert_int_equal(disk0->ping_until, 0);
}

/* ----------------------------------------------------------------------- lies */

static void a_lie_ends_an_incarnation_three_times_a_minute(void **state)
{
    json_t *event;

    (void)state;
    for (unsigned i = 1; i <= 3; i++) {
        char text[32];
        domid_t liar = disk0->domid;

        snprintf(text, sizeof(text), "%u bad_id", i);
        reports("lie", text);
        assert_true(hyp.made[liar].destroyed);
        reports("lie", text); /* it is the same one */
        dies(disk0, SIGKILL);
        assert_int_equal(disk0->last_cause, CAUSE_LIE);
        event = hear_event("lie");
        must_say(event, "what", "bad_id");
        must_say(event, "guest", "g");
        json_decref(event);
        event = hear_event("died");
        must_say(event, "cause", "broken ring");
        json_decref(event);
        spare_comes(disk0);
        arms(guest, 0);
    }
    hear_all();
    reports("lie", "4 bad_id");
    assert_false(hyp.made[disk0->domid].destroyed);
    assert_true(was_told("error"));
    /* A minute later it is believed again. */
    for (int i = 0; i < LIES_MAX; i++)
        guest->lie_at[i] = 1;
    assert_true(now_ms() > LIES_MS + 1);
    reports("lie", "5 bad_id");
    assert_true(hyp.made[disk0->domid].destroyed);
}

/* ---------------------------------------------------------- poison and timeouts */

static void a_poisoned_request_is_named(void **state)
{
    json_t *event;

    (void)state;
    reports("poisoned", "1 write 1048576 4096");
    event = hear_event("poisoned");
    must_say(event, "name", "g");
    must_say(event, "disk", "vda");
    must_say(event, "driver", "disk0");
    must_say(event, "op", "write");
    assert_int_equal(json_integer_value(json_object_get(event, "offset")), 1048576);
    assert_int_equal(json_integer_value(json_object_get(event, "bytes")), 4096);
    json_decref(event);
    assert_int_equal(guest->split[0].poisoned, 1);
    reports("poisoned", "1 write 1048576 4096");
    assert_false(was_told("poisoned"));
    reports("timed-out", "7");
    event = hear_event("timed_out");
    assert_int_equal(json_integer_value(json_object_get(event, "count")), 7);
    json_decref(event);
}

static void hostile_reports_are_bounded(void **state)
{
    static const char *const nonsense[] = {
        "",  "x",       "-1 write 0 0", "99999999999 write 0 0",
        "2", "3 write", "4 WRITE 0 0",  "5 write 0",
        "0 write 0 0", "6\nwrite 0", "7  write 0 4096"};
    char text[64];
    unsigned told = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
        reports("poisoned", nonsense[i]);
        assert_false(was_told("poisoned"));
    }
    memset(text, '9', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (int i = 0; i < 5; i++)
        reports((const char *const[]){"stalled", "lie", "poisoned", "timed-out", "outage"}[i], text);
    assert_false(hyp.made[1].destroyed);
    /* It may write as fast as it can. */
    for (unsigned i = 100; i < 400; i++) {
        snprintf(text, sizeof(text), "%u", i);
        reports("timed-out", text);
        told += was_told("timed_out");
    }
    assert_in_range(told, 1, 48); /* 16 a second */
    assert_int_equal(guest->split[0].timed_out, 399);
}

/* ------------------------------------------------------------------- recovery */

static uint64_t phase(const json_t *event, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(json_object_get(event, "phases_us"), name));
}

static void outage(uint64_t be, uint64_t down, uint64_t attached, uint64_t first)
{
    char text[128];

    snprintf(text, sizeof(text), "%llu %llu %llu %llu", (unsigned long long)be, (unsigned long long)down,
             (unsigned long long)attached, (unsigned long long)first);
    reports("outage", text);
}

#define MS 1000000u /* ns */

static void a_recovery_is_told_with_its_phases(void **state)
{
    uint64_t death = monotonic_ns() - 100 * MS;
    domid_t next = disk0->spare.domid;
    json_t *event;

    (void)state;
    disk0->ordered_ns = death - 3 * MS; /* by the operator */
    device_opens(next, guest->ahead[0].number, death + 2 * MS);
    dom_died(&d, disk0, SIGKILL, death);
    assert_true(disk0->recovery.on);
    outage(1, death, death + MS, death + MS); /* of the dead one: an older story */
    assert_true(disk0->recovery.on);
    outage(next, death + MS / 2, death + 4 * MS, death + 5 * MS);
    assert_false(disk0->recovery.on);
    event = hear_event("recovered");
    must_say(event, "cause", "signal KILL");
    assert_true(json_is_true(json_object_get(event, "warm")));
    assert_int_equal(phase(event, "detect"), 3000);
    assert_int_equal(phase(event, "fence"), 2000);
    assert_int_equal(phase(event, "reconnect"), 4000);
    assert_int_equal(phase(event, "first"), 5000);
    assert_true(phase(event, "handover") >= 100000);
    assert_int_equal(json_integer_value(json_object_get(event, "downtime_us")), 8000);
    assert_int_equal(json_integer_value(json_object_get(event, "missing")), 0);
    json_decref(event);
    assert_int_equal(disk0->last_downtime_us, 8000);
}

static void reports_are_bounded_by_death_and_now(void **state)
{
    uint64_t death = monotonic_ns() - 10 * MS, before;
    domid_t next = disk0->spare.domid;
    json_t *event;

    (void)state;
    device_opens(next, guest->ahead[0].number, death - MS); /* the lock may be free before the core sees it */
    dom_died(&d, disk0, SIGKILL, death);
    outage(next, 0, UINT64_MAX, 1);
    before = monotonic_ns();
    event = hear_event("recovered");
    assert_int_equal(phase(event, "fence"), 0);
    assert_true(phase(event, "first") <= (before - death) / 1000);
    assert_true(phase(event, "first") >= phase(event, "reconnect"));
    json_decref(event);
}

static void nothing_in_flight_counts_as_attached(void **state)
{
    uint64_t death = monotonic_ns() - 10 * MS;
    domid_t next = disk0->spare.domid;
    json_t *event;

    (void)state;
    dom_died(&d, disk0, SIGKILL, death);
    outage(next, death, death + 2 * MS, 0);
    assert_true(disk0->recovery.on); /* its device is behind the fence */
    device_opens(next, guest->vbd[0].number, death + 3 * MS);
    event = hear_event("recovered");
    assert_int_equal(phase(event, "first"), 2000);
    assert_int_equal(json_integer_value(json_object_get(event, "downtime_us")), 3000);
    json_decref(event);
}

/* A frontend need not wait for the daemon: it may have reported before the death was heard of. */
static void an_early_report_is_not_lost(void **state)
{
    uint64_t death = monotonic_ns() - 10 * MS;
    domid_t next = disk0->spare.domid;

    (void)state;
    device_opens(next, guest->ahead[0].number, death + MS);
    outage(next, death, death + MS, death + 2 * MS);
    dom_died(&d, disk0, SIGKILL, death);
    assert_false(disk0->recovery.on);
    assert_int_equal(disk0->last_downtime_us, 2000);
}

static void a_frontend_that_never_reports_is_not_waited_for(void **state)
{
    json_t *event;

    (void)state;
    dies(disk0, SIGKILL);
    assert_true(disk0->recovery.on);
    assert_true(disk0->recovery.give_up_at <= now_ms() + RECOVERY_WAIT_MS);
    recovery_tick(&d, disk0, disk0->recovery.give_up_at);
    event = hear_event("recovered");
    assert_int_equal(json_integer_value(json_object_get(event, "missing")), 1);
    json_decref(event);
    assert_false(guest->split[0].awaited);
}

/* However often: a crash loop is what never gets to serve. */
static void who_served_begins_no_loop(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        uint64_t death = monotonic_ns() - 10 * MS;

        device_opens(disk0->spare.domid, guest->ahead[0].number, death + MS);
        outage(disk0->spare.domid, death, death + MS, death + 2 * MS);
        dom_died(&d, disk0, SIGSEGV, death);
        assert_false(disk0->recovery.on);
        assert_int_equal(disk0->failures, 1);
        assert_true(disk0->spare.make_at <= now_ms() + CATCH_UP_MS);
        connects(guest, 0);
        spare_comes(disk0);
        arms(guest, 0);
    }
    dies(disk0, SIGSEGV);
    assert_int_equal(disk0->failures, 1);
    spare_comes(disk0);
    dies(disk0, SIGSEGV); /* nobody had an answer of it */
    assert_int_equal(disk0->failures, 2);
    assert_true(disk0->spare.make_at > now_ms() + CATCH_UP_MS);
}

static void a_guest_that_goes_is_not_waited_for(void **state)
{
    (void)state;
    dies(disk0, SIGKILL);
    assert_true(disk0->recovery.on);
    dies(guest, 0);
    assert_false(disk0->recovery.on);
}

static void two_deaths_in_one_outage_are_one_downtime(void **state)
{
    uint64_t death = monotonic_ns() - 100 * MS;
    domid_t next;
    json_t *event;

    (void)state;
    dom_died(&d, disk0, SIGKILL, death);
    device_opens(disk0->domid, guest->vbd[0].number, death + 20 * MS);
    spare_comes(disk0);
    next = disk0->spare.domid;
    device_opens(next, guest->ahead[0].number, death + 51 * MS);
    dom_died(&d, disk0, SIGKILL, death + 50 * MS);
    outage(next, death, death + 51 * MS, death + 52 * MS);
    event = hear_event("recovered");
    assert_int_equal(json_integer_value(json_object_get(event, "downtime_us")), 52000);
    assert_int_equal(phase(event, "first"), 2000);
    json_decref(event);
}

static void a_planned_restart_answers_when_it_serves(void **state)
{
    uint64_t asked, death;
    char why[DAEMON_SENTENCE_MAX];
    domid_t next;
    json_t *event;

    (void)state;
    assert_int_equal(dom_restart(&d, disk0, why), 0);
    next = disk0->spare.domid;
    d.sessions[0].wait = disk0;
    d.sessions[0].wait_for = WAIT_START;
    dom_event(&d, &(struct hyp_event){.kind = HYP_EV_READY, .domid = next});
    arms(guest, 0);
    asked = disk0->ordered_ns;
    assert_true(asked != 0);
    while (monotonic_ns() < asked + 5 * MS)
        ;
    death = monotonic_ns();
    dom_died(&d, disk0, 0, death);
    assert_non_null(d.sessions[0].wait);
    device_opens(next, guest->vbd[0].number, death);
    connects(guest, 0);
    assert_null(d.sessions[0].wait);
    outage(next, death - MS, death, death); /* it was drained: down from then on */
    event = hear_event("recovered");
    must_say(event, "cause", "planned");
    assert_int_equal(json_integer_value(json_object_get(event, "downtime_us")), 1000);
    json_decref(event);
}

#define W(f) cmocka_unit_test_setup_teardown(f, begin_with_guest, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        W(who_answers_lives),
        W(who_does_not_answer_hangs),
        W(nobody_is_judged_without_a_heartbeat),
        W(a_lie_ends_an_incarnation_three_times_a_minute),
        W(a_poisoned_request_is_named),
        W(hostile_reports_are_bounded),
        W(a_recovery_is_told_with_its_phases),
        W(reports_are_bounded_by_death_and_now),
        W(nothing_in_flight_counts_as_attached),
        W(an_early_report_is_not_lost),
        W(a_frontend_that_never_reports_is_not_waited_for),
        W(who_served_begins_no_loop),
        W(a_guest_that_goes_is_not_waited_for),
        W(two_deaths_in_one_outage_are_one_downtime),
        W(a_planned_restart_answers_when_it_serves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
