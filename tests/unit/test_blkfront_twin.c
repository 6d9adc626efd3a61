/* SPDX-License-Identifier: MIT */
/*
 * A disk and the spare of its driver domain: the connection that is made ahead,
 * going over to it, and that it harms nothing else.
 */
#define FE 5
#define F  "/local/domain/5/device/vbd/51712"
#define T  "/local/domain/5/twin/vbd/51712"
#define R  "/local/domain/5/report/vbd/51712"
#define B  "/local/domain/%u/backend/vbd/5/51712"
#include "test_blkfront_connect.h"

/* ------------------------------------------------------- two driver domains */

/* The one that the functions of test_front_connect.h mean, and the other one. */
static struct {
    struct be be;
    struct ring_back ring[QUEUES];
} other;

static void turn_to_other(void)
{
    struct be was = be;
    struct ring_back rings[QUEUES];
    memcpy(rings, ring, sizeof(rings));
    be = other.be;
    memcpy(ring, other.ring, sizeof(ring));
    other.be = was;
    memcpy(other.ring, rings, sizeof(rings));
}

/* A spare in a slot, in InitWait without its device; the one that is served by is `other`. */
static void spare_born(domid_t domid, const char *slot)
{
    static const char *const features[][2] = {
        { "feature-persistent", "1" }, { "feature-grant-copy", "1" }, { "standby", "1" },
        { "feature-max-indirect-segments", "256" }, { "max-ring-page-order", "4" },
        { "multi-queue-max-queues", "8" },
    };
    char path[STORE_PATH_MAX];
    other.be = be;
    memcpy(other.ring, ring, sizeof(ring));
    be_make_with(domid, features, sizeof(features) / sizeof(features[0]));
    be.slot = slot;
    snprintf(path, sizeof(path), "%s/state", slot);
    set(path, "1");
    be_tell();
}

/* Maps what the frontend offers; its rings are looked at later. */
static void spare_map(void)
{
    be_accept();
    for (unsigned q = 0; q < be.queues; q++)
        be_bind(q, "event-channel");
}

static void spare_arm(void)
{
    spare_map();
    be_set("state", "3");
}

/* It has its device, and was rung: it looks at the rings.  d: its owner comes by meanwhile. */
static void spare_go(struct blkfront *d)
{
    struct pollfd first = { .fd = hyp_evtchn_fd(be.door[0]), .events = POLLIN };
    for (int i = 0; d && i < 20000 && poll(&first, 1, 1) == 0; i++)
        nothing_comes(d);

    unsigned order = f_number("ring-page-order"), pages = order == UINT32_MAX ? 1 : 1u << order;
    for (unsigned q = 0; q < be.queues; q++) {
        struct pollfd rung = { .fd = hyp_evtchn_fd(be.door[q]), .events = POLLIN };
        grant_ref_t refs[BLK_MAX_RING_PAGES];
        void *va;
        assert_int_equal(poll(&rung, 1, 20000), 1);
        assert_true(rung.revents & POLLIN);
        for (unsigned p = 0; p < pages; p++) {
            char key[24];
            snprintf(key, sizeof(key), pages > 1 ? "ring-ref%u" : "ring-ref", p);
            refs[p] = key_number(q, key);
        }
        assert_int_equal(hyp_map_grants(be.map, refs, pages, 0, &va), 0);
        assert_true(ring_back_attach(&ring[q], va, pages * HYP_PAGE_SIZE, sizeof(struct blkif_request)));
    }
}

static void spare_connected(void)
{
    static const char *const features[][2] = {
        { "feature-flush-cache", "1" }, { "feature-discard", "1" }, { "discard-granularity", "4096" },
        { "feature-write-zeroes", "1" }, { "feature-write-fua", "1" }, { "sectors", "16384" },
        { "sector-size", "512" }, { "physical-sector-size", "4096" }, { "info", "0" },
    };
    for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
        be_set(features[i][0], features[i][1]);
    be_set("state", "4");
}

static void other_dies(void)
{
    turn_to_other();
    be_dead();
    turn_to_other();
}

/* A disk with a spare that is armed in the second slot. */
static struct blkfront *with_spare(struct blkfront_options opt)
{
    struct blkfront *d = connected(opt);
    set(R, "");
    spare_born(13, T);
    spare_arm();
    return d;
}

/* Until the frontend has taken notice; the store tells nobody when it has. */
static void await_armed(struct blkfront *d)
{
    for (int i = 0; i < 20000; i++) {
        pthread_mutex_lock(&d->device.guest->lock);
        bool armed = d->device.twin == TWIN_ARMED;
        pthread_mutex_unlock(&d->device.guest->lock);
        if (armed)
            return;
        nap();
    }
    fail_msg("the spare's connection is not armed");
}

/* The outage that the frontend told of, of which the first answer is known or not. */
static void outage_is(domid_t be_domid, bool answered)
{
    char text[STORE_VALUE_MAX];
    char *at = text;
    for (int i = 0; get(R "/outage", text, sizeof(text)) < 0; i++) {
        if (i > 20000)
            fail_msg("no outage is told");
        nap();
    }
    unsigned long domid = strtoul(at, &at, 10);
    unsigned long long down_ns = strtoull(at, &at, 10), attached_ns = strtoull(at, &at, 10);
    unsigned long long first_ns = strtoull(at, &at, 10);
    assert_int_equal(*at, '\0');
    assert_int_equal(domid, be_domid);
    assert_true(down_ns > 0 && down_ns <= attached_ns);
    assert_int_equal(answered, first_ns >= attached_ns);
    assert_true(answered || first_ns == 0);
}

static struct blkfront_stats stats_of(struct blkfront *d)
{
    struct blkfront_stats s;
    blkfront_stats(d, &s);
    return s;
}

/* Both slots are let go by whoever serves them. */
static void close_with_spare(struct blkfront *d)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, close_thread, d), 0);
    await_state(XenbusStateClosing);
    be_unmap();
    be_set("state", "5");
    turn_to_other();
    be_let_go();
    pthread_join(thread, NULL);
    be_dead();
    turn_to_other();
    be_dead();
}

/* ------------------------------------------------------------------- takeover */

static void test_twin_is_armed(void **state)
{
    (void)state;
    struct blkfront *d = with_spare(telling);
    await_armed(d);
    assert_int_equal(f_number("state"), XenbusStateInitialised);
    assert_int_equal(f_number("feature-persistent"), 1);
    turn_to_other();
    round_trip(d, 0, 64 * 1024, 0); /* nothing of that disturbs the live one */
    assert_int_equal(f_number("state"), XenbusStateConnected);
    turn_to_other();
    close_with_spare(d);
}

static void takeover(unsigned inflight)
{
    struct blkfront *d = with_spare(telling);
    uint8_t *buf = blkfront_alloc(d, 0, 4096);
    int fd = blkfront_fd(d, 0);
    await_armed(d);
    memset(buf, 5, 4096);
    submit_reads(d, buf, inflight);
    assert_int_equal(blkfront_idle(d, 0), 0);
    other_dies();
    spare_go(NULL); /* rung without Connected, and with nothing to do */
    await_news(BLKFRONT_UP, 1);
    assert_int_equal(blkfront_fd(d, 0), fd);
    if (inflight > 0)
        assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 10000), 1);
    expect_all(d, inflight, 0);
    await_state(XenbusStateConnected);
    spare_connected();
    outage_is(13, inflight > 0);
    round_trip(d, 0, 64 * 1024, 0);
    struct blkfront_stats s = stats_of(d);
    assert_int_equal(s.reconnects, 1);
    assert_int_equal(s.replayed, inflight);
    assert_int_equal(s.errors + s.poisoned + s.broken, 0);
    close_both(d);
}

static void test_takeover_with_requests_in_flight(void **state)
{
    (void)state;
    takeover(10);
}

static void test_takeover_with_nothing_in_flight_rings(void **state)
{
    (void)state;
    takeover(0);
}

/* Slots change at each takeover; each time a new spare comes in the one that is free. */
static void test_takeovers_in_a_row(void **state)
{
    (void)state;
    struct blkfront *d = with_spare(telling);
    uint8_t *buf = blkfront_alloc(d, 0, 4096);
    const char *const slots[] = { F, T };
    for (unsigned life = 1; life <= 4; life++) {
        await_armed(d);
        submit_reads(d, buf, 7);
        other_dies();
        memset(&other, 0, sizeof(other));
        nothing_comes(d);
        spare_go(d);
        expect_all(d, 7, 0);
        spare_connected();
        await_state(XenbusStateConnected);
        round_trip(d, 0, 8192, 0);
        spare_born((domid_t)(20 + life), slots[(life - 1) % 2]);
        spare_arm();
    }
    assert_int_equal(stats_of(d).reconnects, 4);
    await_armed(d);
    close_with_spare(d);
}

static void test_spare_dies_while_armed(void **state)
{
    (void)state;
    struct blkfront *d = with_spare(telling);
    await_armed(d);
    be_dead();
    turn_to_other();
    round_trip(d, 0, 64 * 1024, 0);
    spare_born(14, T);
    spare_arm();
    await_armed(d);
    submit_reads(d, blkfront_alloc(d, 0, 4096), 3);
    other_dies();
    spare_go(d);
    expect_all(d, 3, 0);
    spare_connected();
    await_state(XenbusStateConnected);
    close_both(d);
}

/* The live one dies in the middle of the spare's handshake, which goes on. */
static void test_death_before_the_twin_is_armed(void **state)
{
    (void)state;
    struct blkfront *d = connected(telling);
    set(R, "");
    spare_born(13, T);
    await_state(XenbusStateInitialised);
    submit_reads(d, blkfront_alloc(d, 0, 4096), 5);
    other_dies();
    await_news(BLKFRONT_DOWN, 1);
    nothing_comes(d);
    spare_arm();
    spare_go(d);
    expect_all(d, 5, 0);
    spare_connected();
    await_state(XenbusStateConnected);
    round_trip(d, 0, 4096, 0);
    close_both(d);
}

/* It dies before the spare was offered anything: an ordinary handshake in its slot. */
static void test_death_before_the_offer(void **state)
{
    (void)state;
    struct blkfront *d = connected(telling);
    submit_reads(d, blkfront_alloc(d, 0, 4096), 5);
    be_dead();
    await_news(BLKFRONT_DOWN, 1);
    nothing_comes(d);
    be_make(13);
    be.slot = T;
    set(T "/state", "1");
    be_tell();
    be_connect();
    await_news(BLKFRONT_UP, 1);
    expect_all(d, 5, 0);
    round_trip(d, 0, 4096, 0);
    assert_int_equal(stats_of(d).replayed, 5);
    close_both(d);
}

/* Nobody died, but our directory is gone, and there is another one. */
static void test_live_slot_removed(void **state)
{
    (void)state;
    struct blkfront *d = with_spare(telling);
    await_armed(d);
    submit_reads(d, blkfront_alloc(d, 0, 4096), 4);
    turn_to_other();
    be_unmap();
    unset_below(be.dir);
    unset_below(F);
    turn_to_other();
    nothing_comes(d);
    spare_go(d);
    expect_all(d, 4, 0);
    spare_connected();
    await_state(XenbusStateConnected);
    close_both(d);
    turn_to_other();
    hyp_close(be.hyp);
}

/* ---------------------------------------------------------------- quiet drain */

static void test_quiet_drain_replays_nothing(void **state)
{
    (void)state;
    struct blkfront *d = with_spare(telling);
    uint8_t *buf = blkfront_alloc(d, 0, 4096);
    await_armed(d);
    submit_reads(d, buf, 5);
    turn_to_other();
    be_set("state", "5");
    for (int i = 0; i < 20000 && queue_state(&d->queues[0].queue) == QUEUE_BUSY; i++)
        nap();
    assert_int_equal(queue_state(&d->queues[0].queue), QUEUE_HUSHED);
    for (unsigned i = 5; i < 8; i++) { /* not for this one any more */
        struct blkfront_io io = { .op = BLKFRONT_READ, .bytes = 4096, .buf = buf, .cookie = i };
        assert_int_equal(blkfront_submit(d, 0, &io, 1), 1);
    }
    assert_int_equal(ring_back_waiting(&ring[0]), 5);
    assert_int_equal(f_number("state"), XenbusStateConnected); /* it is still used */
    be_serve(0);
    struct blkfront_result out[8];
    assert_int_equal(blkfront_reap(d, 0, out, 8), 5);
    await_state(XenbusStateClosed);
    be_dead();
    turn_to_other();
    spare_go(d);
    expect_rest(d, 3, 0x1f, 0);
    spare_connected();
    await_state(XenbusStateConnected);
    struct blkfront_stats s = stats_of(d);
    assert_int_equal(s.replayed + s.errors, 0);
    assert_int_equal(s.reconnects, 1);
    round_trip(d, 0, 4096, 0);
    close_both(d);
}

/* An owner that sleeps with nothing in flight need not come by. */
static void test_quiet_drain_of_a_sleeper(void **state)
{
    (void)state;
    struct blkfront *d = with_spare(telling);
    await_armed(d);
    turn_to_other();
    round_trip(d, 0, 4096, 0);
    assert_int_equal(blkfront_idle(d, 0), 0);
    be_set("state", "5");
    await_state(XenbusStateClosed);
    be_dead();
    turn_to_other();
    spare_go(NULL);
    spare_connected();
    await_state(XenbusStateConnected);
    round_trip(d, 0, 4096, 0);
    assert_int_equal(stats_of(d).replayed, 0);
    close_both(d);
}

static void test_death_in_a_quiet_drain(void **state)
{
    (void)state;
    struct blkfront *d = with_spare(telling);
    await_armed(d);
    submit_reads(d, blkfront_alloc(d, 0, 4096), 5);
    turn_to_other();
    be_set("state", "5");
    for (int i = 0; i < 20000 && queue_state(&d->queues[0].queue) == QUEUE_BUSY; i++)
        nap();
    be_dead();
    turn_to_other();
    nothing_comes(d);
    spare_go(d);
    expect_all(d, 5, 0);
    assert_int_equal(stats_of(d).replayed, 5);
    spare_connected();
    await_state(XenbusStateConnected);
    close_both(d);
}

/* ------------------------------------------------------------- hostile spares */

static void test_hostile_spare_harms_nothing(void **state)
{
    (void)state;
    static const char *const states[] = { "5", "6", "7", "1", "0", "12345", "x", "" };
    struct blkfront *d = connected(telling);
    for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        spare_born((domid_t)(40 + i), T);
        await_state(XenbusStateInitialised);
        if (i % 2)
            spare_arm();
        be_set("state", states[i]);
        be_dead();
        turn_to_other();
        memset(&other, 0, sizeof(other));
        round_trip(d, 0, 8192, 0);
    }
    /* One that offers less is not even offered anything. */
    spare_born(60, T);
    be_set("state", "1");
    be_set("max-ring-page-order", "0");
    be_set("state", "2");
    turn_to_other();
    round_trip(d, 0, 8192, 0);
    turn_to_other();
    struct blkfront_stats s = stats_of(d);
    assert_int_equal(s.reconnects + s.errors + s.broken, 0);
    assert_int_equal(news[BLKFRONT_DOWN], 0);
    be_dead();
    turn_to_other();
    close_both(d);
}

/* The spare turns out to serve another disk: its connection is broken, and the next
 * one does what is in flight. */
static void test_spare_with_another_disk(void **state)
{
    (void)state;
    struct blkfront *d = with_spare(telling);
    await_armed(d);
    submit_reads(d, blkfront_alloc(d, 0, 4096), 3);
    other_dies();
    nothing_comes(d);
    spare_go(d);
    be_set("sectors", "16383");
    be_set("sector-size", "512");
    be_set("state", "4");
    await_news(BLKFRONT_DOWN, 2);
    nothing_comes(d);
    assert_true(stats_of(d).errors == 0);
    be_dead();
    be_born(15);
    be_connect();
    expect_all(d, 3, 0);
    close_both(d);
}

static void report_is(const char *key, const char *value)
{
    char path[STORE_PATH_MAX], text[STORE_VALUE_MAX] = "";
    snprintf(path, sizeof(path), R "/%s", key);
    for (int i = 0; i < 20000; i++) {
        if (get(path, text, sizeof(text)) >= 0 && strcmp(text, value) == 0)
            return;
        nap();
    }
    fail_msg("report %s is \"%s\", not \"%s\"", key, text, value);
}

/* -------------------------------------------------------------------- reports */

static uint64_t ticks_of(struct blkfront *d)
{
    pthread_mutex_lock(&d->device.guest->lock);
    uint64_t at = d->device.report.tick_at;
    pthread_mutex_unlock(&d->device.guest->lock);
    return at;
}

static unsigned stalls(void)
{
    char text[STORE_VALUE_MAX];
    return get(R "/stalled", text, sizeof(text)) < 0 ? 0 : (unsigned)strtoul(text, NULL, 10);
}

/* Told while something is in flight and nothing comes back; never of a disk that is
 * idle, at which nobody looks then. */
static void test_stalled_only_with_work(void **state)
{
    (void)state;
    set(F "/bulkhead-heartbeat-ms", "20");
    struct blkfront *d = connected(telling);
    set(R, "");
    round_trip(d, 0, 4096, 0);
    for (int i = 0; i < 20000 && ticks_of(d); i++)
        nap();
    assert_int_equal(ticks_of(d), 0);
    assert_int_equal(stalls(), 0);
    submit_reads(d, blkfront_alloc(d, 0, 4096), 2);
    for (int i = 0; i < 20000 && stalls() < 3; i++)
        nap();
    assert_true(stalls() >= 3);
    expect_all(d, 2, 0);
    for (int i = 0; i < 20000 && ticks_of(d); i++)
        nap();
    unsigned before = stalls();
    assert_int_equal(ticks_of(d), 0);
    for (int i = 0; i < 100; i++)
        nap();
    assert_int_equal(stalls(), before);
    close_both(d);
}

static void test_lie_is_told(void **state)
{
    (void)state;
    struct blkfront *d = connected(telling);
    set(R, "");
    submit_reads(d, blkfront_alloc(d, 0, 4096), 2);
    be_respond(0, 12345, BLKIF_OP_READ);
    nothing_comes(d);
    report_is("lie", "1 bad_id");
    be_let_go();
    be_connect();
    expect_all(d, 2, 0);
    close_both(d);
}

static void test_poisoned_is_told_by_name(void **state)
{
    (void)state;
    set(F "/bulkhead-max-deaths", "1");
    struct blkfront *d = connected(telling);
    set(R, "");
    struct blkfront_io io = { .op = BLKFRONT_WRITE, .bytes = 8192, .offset = 12288,
                              .buf = blkfront_alloc(d, 0, 8192) };
    assert_int_equal(blkfront_submit(d, 0, &io, 1), 1);
    be_dead();
    await_news(BLKFRONT_DOWN, 1);
    nothing_comes(d);
    be_born(4);
    be_connect();
    expect_all(d, 1, -EIO);
    report_is("poisoned", "1 write 12288 8192");
    close_both(d);
}

/* Poisoned by a takeover: not before the spare is behind the fence. */
static void test_poisoned_after_the_fence_of_a_spare(void **state)
{
    (void)state;
    struct blkfront_options opt = telling;
    opt.max_deaths = 1;
    struct blkfront *d = with_spare(opt);
    await_armed(d);
    submit_reads(d, blkfront_alloc(d, 0, 4096), 2);
    other_dies();
    spare_go(d);
    await_news(BLKFRONT_UP, 1);
    nothing_comes(d);
    nothing_comes(d);
    spare_connected();
    expect_all(d, 2, -EIO);
    close_both(d);
}

static void test_time_limit_wakes_a_sleeper(void **state)
{
    (void)state;
    set(F "/bulkhead-timeout-ms", "50");
    struct blkfront *d = with_spare(telling);
    await_armed(d);
    submit_reads(d, blkfront_alloc(d, 0, 4096), 3);
    assert_int_equal(blkfront_idle(d, 0), 0);
    other_dies();
    /* The spare has it, but not its device: the fence is before it. */
    struct blkfront_result out[4];
    int n = 0;
    for (int i = 0; i < 20000 && n < 3; i++) {
        assert_true(blkfront_wait(d, 0, 20000) == 1);
        int k = blkfront_reap(d, 0, out, 4);
        for (int j = 0; j < k; j++)
            assert_int_equal(out[j].error, -ETIMEDOUT);
        n += k;
    }
    assert_int_equal(n, 3);
    report_is("timed-out", "3");
    spare_go(NULL);
    spare_connected();
    await_news(BLKFRONT_UP, 1);
    assert_int_equal(ring_back_waiting(&ring[0]), 0);
    round_trip(d, 0, 4096, 0);
    assert_int_equal(stats_of(d).timed_out, 3);
    close_both(d);
}

#define ON(test) cmocka_unit_test_setup_teardown(test, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(test_spare_dies_while_armed),
        ON(test_twin_is_armed),
        ON(test_takeover_with_requests_in_flight),
        ON(test_takeover_with_nothing_in_flight_rings),
        ON(test_takeovers_in_a_row),
        ON(test_death_before_the_twin_is_armed),
        ON(test_death_before_the_offer),
        ON(test_live_slot_removed),
        ON(test_quiet_drain_replays_nothing),
        ON(test_quiet_drain_of_a_sleeper),
        ON(test_death_in_a_quiet_drain),
        ON(test_hostile_spare_harms_nothing),
        ON(test_spare_with_another_disk),
        ON(test_stalled_only_with_work),
        ON(test_lie_is_told),
        ON(test_poisoned_is_told_by_name),
        ON(test_poisoned_after_the_fence_of_a_spare),
        ON(test_time_limit_wakes_a_sleeper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
