/* SPDX-License-Identifier: MIT */
/*
 * blkfront_open() to blkfront_close(): handshake, hostile features, death and
 * rebirth of the driver domain.  The hypervisor is the fake one, the store a
 * table, the backend the test itself.
 */
#include "test_blkfront_connect.h"

/* -------------------------------------------------------------------- tests */

static void test_open_work_close(void **state)
{
    (void)state;
    struct blkfront *d = connected((struct blkfront_options){ .ring_pages = 1 });
    const struct blkfront_info *info = blkfront_info(d);
    assert_int_equal(info->bytes, BYTES);
    assert_int_equal(info->sector_bytes, 512);
    assert_int_equal(info->physical_bytes, 4096);
    assert_int_equal(info->max_io_bytes, 1 << 20);
    assert_int_equal(info->queue_depth, 32);
    assert_int_equal(info->queues, 1);
    assert_int_equal(info->discard_granularity, 4096);
    assert_int_equal(info->grants, BLKFRONT_GRANTS_PERSISTENT);
    assert_true(info->can_flush && info->can_fua && info->can_discard && info->can_zeroes && !info->readonly);
    assert_int_equal(f_number("ring-page-order"), UINT32_MAX);
    assert_int_equal(f_number("feature-persistent"), 1);
    assert_int_equal(f_number("feature-grant-copy"), 0);
    round_trip(d, 0, 512, 0);
    round_trip(d, 0, 11 * 4096, 4096);
    round_trip(d, 0, 1 << 20, BYTES - (1 << 20));
    struct blkfront_stats stats;
    blkfront_stats(d, &stats);
    assert_int_equal(stats.requests, 6);
    assert_int_equal(stats.errors + stats.broken + stats.reconnects, 0);
    assert_int_equal(blkfront_submit(d, 1, NULL, 0), -EINVAL); /* no such queue */
    assert_null(blkfront_alloc(d, 1, 4096));
    close_both(d);
}

static void test_queues_and_ring_pages(void **state)
{
    (void)state;
    set(F "/bulkhead-queues", "3");
    set(F "/bulkhead-pool-pages", "100");
    set(F "/bulkhead-grants", "copy");
    struct blkfront *d = connected((struct blkfront_options){ 0 });
    const struct blkfront_info *info = blkfront_info(d);
    assert_int_equal(info->queues, 3);
    assert_int_equal(info->queue_depth, 128);
    assert_int_equal(info->max_io_bytes, 100 * 4096);
    assert_int_equal(info->grants, BLKFRONT_GRANTS_COPY);
    assert_int_equal(f_number("ring-page-order"), 2);
    assert_int_equal(f_number("feature-persistent"), 0);
    assert_int_equal(f_number("feature-grant-copy"), 1);
    for (unsigned q = 0; q < 3; q++) {
        round_trip(d, q, 100 * 4096, q * (1u << 20));
        assert_true(blkfront_fd(d, q) >= 0);
    }
    /* A buffer of another queue is a foreign buffer. */
    struct blkfront_io io = { .op = BLKFRONT_READ, .bytes = 512, .buf = blkfront_alloc(d, 1, 512) };
    assert_int_equal(blkfront_submit(d, 0, &io, 1), -EINVAL);
    close_both(d);
}

static void test_readonly_disk(void **state)
{
    (void)state;
    struct opening o;
    be_make(3);
    be_set("info", "4");
    be_set("sector-size", "4096");
    be_tell();
    open_start(&o, (struct blkfront_options){ .device = "vda" });
    be_connect();
    assert_int_equal(open_end(&o), 0);
    assert_true(blkfront_info(o.disk)->readonly);
    assert_false(blkfront_info(o.disk)->can_discard);
    assert_int_equal(blkfront_info(o.disk)->sector_bytes, 4096);
    struct blkfront_io io = { .op = BLKFRONT_WRITE, .bytes = 4096, .buf = blkfront_alloc(o.disk, 0, 4096) };
    assert_int_equal(blkfront_submit(o.disk, 0, &io, 1), -EROFS);
    close_both(o.disk);
}

static void refused(struct blkfront_options opt, int err, const char *sentence)
{
    struct opening o;
    /* Refused at once; waiting for the limit would end the test instead. */
    opt.timeout_ms = opt.timeout_ms ? opt.timeout_ms : 3600000;
    open_start(&o, opt);
    assert_int_equal(open_end(&o), err);
    if (!strstr(why, sentence))
        fail_msg("\"%s\" does not say \"%s\"", why, sentence);
}

static void test_error_sentences(void **state)
{
    (void)state;
    char text[256];
    assert_int_equal(blkfront_open(&(struct blkfront *){ 0 }, &(struct blkfront_options){
                     .attach = "/nonexistent/attach.sock" }, text, sizeof(text)), -ENOENT);
    assert_non_null(strstr(text, "no guest listens at /nonexistent/attach.sock"));
    refused((struct blkfront_options){ .ring_pages = 3 }, -EINVAL, "3 ring pages");
    refused((struct blkfront_options){ .pool_pages = 10 }, -EINVAL, "pool of 10 pages a queue is too small");
    refused((struct blkfront_options){ .timeout_ms = -1 }, -EINVAL, "time limit");
    refused((struct blkfront_options){ .max_deaths = 65536 }, -EINVAL, "65536 deaths");
    refused((struct blkfront_options){ .device = "vdx" }, -ENODEV, "no disk named vdx; it has vda");
    refused((struct blkfront_options){ .timeout_ms = 50 }, -ETIMEDOUT,
            "disk vda: its driver domain is not running");
    set("/local/domain/5/device/vbd/51728/dev", "vdb");
    refused((struct blkfront_options){ 0 }, -EINVAL, "name one of vda, vdb");
    set(F "/bulkhead-pool-pages", "5");
    be_born(3);
    refused((struct blkfront_options){ .device = "vda" }, -EINVAL, "a pool of 5 pages a queue is too small: "
            "at least 11");
    set(F "/bulkhead-pool-pages", "65536");
    set(F "/bulkhead-queues", "8");
    refused((struct blkfront_options){ .device = "vda" }, -EDQUOT, "more than the guest may grant");
    be_set("feature-persistent", "0");
    refused((struct blkfront_options){ .device = "vda", .pool_pages = 64,
                                       .grants = BLKFRONT_GRANTS_PERSISTENT },
            -EOPNOTSUPP, "does not offer persistent grants");
    unset_below("/local/domain/5/device");
    refused((struct blkfront_options){ 0 }, -ENODEV, "the guest has no disk");
    be_dead();
}

static void test_list(void **state)
{
    (void)state;
    set("/local/domain/5/device/vbd/51744/dev", "vdc");
    set("/local/domain/5/device/vbd/51728/dev", "vdb");
    struct blkfront *d = connected((struct blkfront_options){ .device = "vda" });
    char names[32], text[128];
    assert_int_equal(blkfront_list(GUEST, names, sizeof(names), text, sizeof(text)), 3);
    assert_memory_equal(names, "vda\0vdb\0vdc", 12);
    assert_int_equal(blkfront_list(GUEST, names, 11, text, sizeof(text)), -E2BIG);
    struct blkfront *again;
    assert_int_equal(blkfront_open(&again, &(struct blkfront_options){ .attach = GUEST, .device = "vda" },
                                   text, sizeof(text)), -EBUSY);
    assert_non_null(strstr(text, "open already"));
    close_both(d);
}

/* Numbers that a backend may not mean well with. */
static void test_hostile_features(void **state)
{
    (void)state;
    static const char *const mad[] = { "0", "-1", "4294967295", "18446744073709551616", "none", "" };
    for (size_t i = 0; i < sizeof(mad) / sizeof(mad[0]); i++) {
        static const char *const keys[] = { "multi-queue-max-queues", "max-ring-page-order",
            "feature-max-indirect-segments", "feature-persistent", "physical-sector-size",
            "discard-granularity", "info" };
        struct opening o;
        be_born(3);
        for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
            be_set(keys[k], mad[i]);
        open_start(&o, (struct blkfront_options){ .queues = 3, .pool_pages = 300 });
        be_connect();
        assert_int_equal(open_end(&o), 0);
        const struct blkfront_info *info = blkfront_info(o.disk);
        assert_in_range(info->queues, 1, 3);
        assert_in_range(info->queue_depth, 32, 512);
        assert_in_range(info->max_io_bytes, 11 * 4096, 256 * 4096);
        assert_int_equal(info->physical_bytes, 512);
        if (!info->readonly)
            round_trip(o.disk, 0, 11 * 4096, 0);
        close_both(o.disk);
        up(NULL);
    }
}

static void test_impossible_geometry(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        { "sectors", "0" }, { "sectors", "9223372036854775807" }, { "sectors", "big" }, { "sectors", "-5" },
        { "sector-size", "0" }, { "sector-size", "1" }, { "sector-size", "513" }, { "sector-size", "8192" },
        { "sector-size", "2147483648" },
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct opening o;
        be_born(3);
        be_set(bad[i][0], bad[i][1]);
        open_start(&o, (struct blkfront_options){ 0 });
        await_state(XenbusStateInitialised);
        be_set("state", "4");
        await_state(XenbusStateClosing);
        be_set("state", "6");
        assert_int_equal(open_end(&o), -EPROTO);
        assert_non_null(strstr(why, "no possible size"));
        be_dead();
        up(NULL);
    }
}

/* ------------------------------------------------------------ death, rebirth */

static void test_death_and_rebirth(void **state)
{
    (void)state;
    struct blkfront *d = connected(telling);
    uint8_t *buf = blkfront_alloc(d, 0, 4096);
    int fd = blkfront_fd(d, 0);
    for (unsigned life = 1; life <= 3; life++) {
        memset(buf, (int)life, 4096);
        submit_reads(d, buf, 10);
        be_dead();
        await_news(BLKFRONT_DOWN, life);
        struct blkfront_io io = { .op = BLKFRONT_READ, .bytes = 4096, .buf = buf, .cookie = 10 };
        assert_int_equal(blkfront_submit(d, 0, &io, 1), 1);
        nothing_comes(d);
        assert_int_equal(blkfront_idle(d, 0), 0); /* goes to sleep */
        be_born((domid_t)(3 + life * 10));
        be_connect();
        await_news(BLKFRONT_UP, life);
        assert_int_equal(buf[0], life); /* same address, same content */
        assert_int_equal(blkfront_fd(d, 0), fd);
        assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 10000), 1);
        expect_all(d, 11, 0);
        round_trip(d, 0, 64 * 1024, 0);
    }
    struct blkfront_stats stats;
    blkfront_stats(d, &stats);
    assert_int_equal(stats.reconnects, 3);
    assert_int_equal(stats.replayed, 30);
    assert_int_equal(stats.errors + stats.poisoned + stats.broken, 0);
    close_both(d);
}

/* An idle guest sees no error at all when it asks only after the rebirth. */
static void test_death_of_an_idle_connection(void **state)
{
    (void)state;
    struct blkfront *d = connected(telling);
    be_dead();
    await_news(BLKFRONT_DOWN, 1);
    be_born(4);
    be_connect();
    await_news(BLKFRONT_UP, 1);
    round_trip(d, 0, 4096, 0);
    struct blkfront_stats stats;
    blkfront_stats(d, &stats);
    assert_int_equal(stats.errors, 0);
    close_both(d);
}

/* The control of the replay: a disk whose requests may live through no death. */
static void test_poison_by_the_first_death(void **state)
{
    (void)state;
    struct blkfront_options opt = telling;
    opt.max_deaths = 1;
    struct blkfront *d = connected(opt);
    submit_reads(d, blkfront_alloc(d, 0, 4096), 5);
    be_dead();
    await_news(BLKFRONT_DOWN, 1);
    nothing_comes(d); /* the dead one's read may still fill the buffer */
    be_born(4);
    await_state(XenbusStateInitialised);
    nothing_comes(d); /* nor is it behind the fence yet */
    be_connect();
    await_news(BLKFRONT_UP, 1);
    expect_all(d, 5, -EIO);
    round_trip(d, 0, 4096, 0);
    struct blkfront_stats stats;
    blkfront_stats(d, &stats);
    assert_int_equal(stats.poisoned, 5);
    assert_int_equal(stats.errors, 5);
    assert_int_equal(stats.replayed, 0);
    close_both(d);
}

/* What is in flight is waited for: a disk that is back in time does it. */
static void test_close_in_an_outage(void **state)
{
    (void)state;
    pthread_t thread;
    struct blkfront *d = connected(telling);
    uint8_t *buf = blkfront_alloc(d, 0, 4096);
    memset(buf, 7, 4096);
    struct blkfront_io io = { .op = BLKFRONT_WRITE, .bytes = 4096, .buf = buf };
    assert_int_equal(blkfront_submit(d, 0, &io, 1), 1);
    be_dead();
    await_news(BLKFRONT_DOWN, 1);
    assert_int_equal(pthread_create(&thread, NULL, close_thread, d), 0);
    be_born(4);
    be_connect();
    while (f_number("state") == XenbusStateConnected) {
        be_serve(0);
        nap();
    }
    be_let_go();
    pthread_join(thread, NULL);
    assert_int_equal(disk[4095], 7);
    be_dead();
}

/* One that does not come back holds close() up a bounded time. */
static void test_close_in_a_long_outage(void **state)
{
    (void)state;
    struct blkfront *d = connected(telling);
    submit_reads(d, blkfront_alloc(d, 0, 4096), 5);
    be_dead();
    await_news(BLKFRONT_DOWN, 1);
    submit_reads(d, blkfront_alloc(d, 0, 4096), 5);
    blkfront_close(d);
}

static void test_liar_is_shut_out_and_comes_back(void **state)
{
    (void)state;
    struct blkfront *d = connected(telling);
    uint8_t *buf = blkfront_alloc(d, 0, 4096);
    for (unsigned time = 1; time <= 2; time++) {
        submit_reads(d, buf, 5);
        be_respond(0, 12345, BLKIF_OP_READ);
        nothing_comes(d);
        await_news(BLKFRONT_DOWN, time);
        be_let_go();
        be_connect();
        await_news(BLKFRONT_UP, time);
        expect_all(d, 5, 0);
        round_trip(d, 0, 8192, 0);
    }
    struct blkfront_stats stats;
    blkfront_stats(d, &stats);
    assert_int_equal(stats.errors, 0);
    assert_int_equal(stats.broken, 2);
    assert_int_equal(stats.reconnects, 2);
    char text[256];
    assert_true(get(F "/error", text, sizeof(text)) > 0);
    assert_non_null(strstr(text, "lied"));
    close_both(d);
}

/* What is in flight is finished first; nothing is sent again. */
static void test_backend_leaves_in_order(void **state)
{
    (void)state;
    struct blkfront *d = connected(telling);
    submit_reads(d, blkfront_alloc(d, 0, 4096), 3);
    be_set("state", "5");
    expect_all(d, 3, 0);
    await_state(XenbusStateClosed);
    await_news(BLKFRONT_DOWN, 1);
    be_unmap();
    be_set("state", "2");
    be_connect();
    await_news(BLKFRONT_UP, 1);
    round_trip(d, 0, 4096, 0);
    struct blkfront_stats stats;
    blkfront_stats(d, &stats);
    assert_int_equal(stats.replayed, 0);
    close_both(d);
}

/* A successor that offers another disk, or less, is not accepted; a right one is. */
static void test_successor_must_fit(void **state)
{
    (void)state;
    static const char *const less[][2] = {
        { "max-ring-page-order", "1" }, { "feature-max-indirect-segments", "100" },
        { "sectors", "16383" }, { "sector-size", "4096" }, { "info", "4" }, { "feature-flush-cache", "0" },
        { "feature-write-zeroes", "0" },
    };
    struct blkfront *d = connected(telling);
    for (size_t i = 0; i < sizeof(less) / sizeof(less[0]); i++) {
        be_dead();
        await_news(BLKFRONT_DOWN, (unsigned)i + 1);
        be_make((domid_t)(10 + i));
        be_set(less[i][0], less[i][1]);
        be_tell();
        for (int k = 0; k < 20 && f_number("state") != XenbusStateInitialised; k++)
            nap();
        if (f_number("state") == XenbusStateInitialised) {
            be_set("state", "4");
            await_state(XenbusStateClosing);
        }
        assert_int_equal(__atomic_load_n(&news[BLKFRONT_UP], __ATOMIC_ACQUIRE), i);
        be_dead();
        be_born((domid_t)(40 + i));
        be_connect();
        await_news(BLKFRONT_UP, (unsigned)i + 1);
        round_trip(d, 0, 4096, 0);
    }
    close_both(d);
}

/* FUA may be done in another way by the successor. */
static void test_successor_without_native_fua(void **state)
{
    (void)state;
    struct blkfront *d = connected(telling);
    be_dead();
    await_news(BLKFRONT_DOWN, 1);
    be_make(4);
    be_set("feature-write-fua", "0");
    be_tell();
    be_connect();
    await_news(BLKFRONT_UP, 1);
    struct blkfront_io io = { .op = BLKFRONT_WRITE, .flags = BLKFRONT_FUA, .bytes = 4096,
                              .buf = blkfront_alloc(d, 0, 4096) };
    struct blkfront_result out;
    assert_int_equal(blkfront_submit(d, 0, &io, 1), 1);
    be_serve(0);
    assert_int_equal(blkfront_reap(d, 0, &out, 1), 0);
    be_serve(0);
    assert_int_equal(blkfront_reap(d, 0, &out, 1), 1);
    assert_int_equal(out.error, 0);
    close_both(d);
}

/* XSA-396: a backend that never lets go of the pool delays close() a bounded time,
 * and the pages stay granted memory until it is dead. */
static void test_xsa396_close_with_a_backend_that_clings(void **state)
{
    (void)state;
    struct blkfront *d = connected((struct blkfront_options){ 0 });
    struct guest *g;
    assert_int_equal(guest_get(&g, GUEST, true), 0); /* the guest outlives its disk */
    blkfront_close(d);
    assert_non_null(g->devices); /* still held, for nobody */
    be_dead();
    await_orphan_free(g);
    guest_put(g);
}

#define ON(test) cmocka_unit_test_setup_teardown(test, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(test_open_work_close),
        ON(test_queues_and_ring_pages),
        ON(test_readonly_disk),
        ON(test_error_sentences),
        ON(test_list),
        ON(test_hostile_features),
        ON(test_impossible_geometry),
        ON(test_death_and_rebirth),
        ON(test_death_of_an_idle_connection),
        ON(test_poison_by_the_first_death),
        ON(test_close_in_an_outage),
        ON(test_close_in_a_long_outage),
        ON(test_liar_is_shut_out_and_comes_back),
        ON(test_backend_leaves_in_order),
        ON(test_successor_must_fit),
        ON(test_successor_without_native_fua),
        ON(test_xsa396_close_with_a_backend_that_clings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
