/* SPDX-License-Identifier: MIT */
/*
 * A disk's time limit: what fails by it, when, and what becomes of its buffer; and
 * that a poisoned request waits for the fence.
 */
#include "test_blkfront.h"

#define LIMIT_MS 3600000u /* nothing gets that old here unless the test says so */

static struct rig r;

static int up(void **state)
{
    (void)state;
    rig_up(&r, 1, 64);
    assert_int_equal(blkqueue_limit(&r.q, LIMIT_MS), 0);
    return 0;
}

static int down(void **state)
{
    (void)state;
    rig_down(&r);
    return 0;
}

static void ask(enum blkfront_op op, void *buf, uint64_t cookie)
{
    struct blkfront_io io = rig_io(&r, op, cookie);
    io.buf = buf;
    assert_int_equal(rig_submit(&r, io), 1);
}

/* All that was asked until now is past its limit. */
static void grow_old(void)
{
    for (uint32_t i = 0; i < r.slots; i++)
        r.q.since[i] = monotonic_ms() - LIMIT_MS;
}

static void nothing_comes(void)
{
    struct blkfront_result out[4];
    assert_int_equal(blkqueue_reap(&r.q, out, 4), 0);
}

/* As many pages as there are; is one of them this? */
static bool all_pages_hold(const void *page)
{
    void *got[64];
    unsigned n = 0;
    bool found = false;
    for (; n < 64 && (got[n] = blkqueue_alloc(&r.q, HYP_PAGE_SIZE)); n++)
        found |= got[n] == page;
    while (n-- > 0)
        blkpool_free(&r.q.pool, got[n]);
    return found;
}

static void test_no_limit_while_connected(void **state)
{
    (void)state;
    ask(BLKFRONT_READ, rig_page(&r, 0), 1);
    grow_old();
    nothing_comes();
    assert_int_equal(blkqueue_idle(&r.q), 0);
    rig_serve(&r, BLKIF_RSP_OKAY);
    rig_expect(&r, 1, 0);
}

static void test_late_fails_in_the_outage(void **state)
{
    (void)state;
    ask(BLKFRONT_READ, rig_page(&r, 0), 1);
    rig_die(&r);
    ask(BLKFRONT_WRITE, rig_page(&r, 1), 2); /* waits for its own time */
    nothing_comes();
    for (uint32_t i = 0; i < r.slots; i++)
        if (r.q.shadow[i].io.cookie == 1)
            r.q.since[i] -= LIMIT_MS;
    assert_int_equal(blkqueue_idle(&r.q), 1);
    struct blkfront_result out[2];
    assert_int_equal(blkqueue_reap(&r.q, out, 2), 1);
    assert_int_equal(out[0].cookie, 1);
    assert_int_equal(out[0].error, -ETIMEDOUT);
    nothing_comes();
    rig_reborn(&r);
    nothing_comes();
    assert_int_equal(ring_back_waiting(&r.ring), 1); /* the late one is not sent */
    rig_serve(&r, BLKIF_RSP_OKAY);
    rig_expect(&r, 2, 0);
    assert_int_equal(r.q.counters.late, 1);
    assert_int_equal(r.q.counters.replayed, 0);
}

/* A sleeper says when it is to be woken. */
static void test_sleeper_is_woken(void **state)
{
    (void)state;
    ask(BLKFRONT_READ, rig_page(&r, 0), 1);
    rig_die(&r);
    assert_true(sides_control_called(&r.sides));
    assert_true(r.q.queue.wake_at > monotonic_ms());
    assert_int_equal(blkqueue_idle(&r.q), 0);
    assert_false(sides_control_called(&r.sides)); /* once is enough */
    rig_reborn(&r);
}

/* What the dead may still write to is nobody's before the fence. */
static void test_buffer_is_held(void **state)
{
    (void)state;
    uint8_t *buf = blkqueue_alloc(&r.q, HYP_PAGE_SIZE);
    ask(BLKFRONT_READ, buf, 1);
    rig_die(&r);
    grow_old();
    rig_expect(&r, 1, -ETIMEDOUT);
    struct blkfront_io again = rig_io(&r, BLKFRONT_WRITE, 2);
    again.buf = buf;
    assert_int_equal(rig_submit(&r, again), -EBUSY);
    blkpool_free(&r.q.pool, buf);
    assert_false(all_pages_hold(buf));
    rig_attach(&r);
    queue_start(&r.q.queue);
    nothing_comes();
    assert_false(all_pages_hold(buf)); /* connected, and not behind the fence yet */
    blkqueue_fenced(&r.q);
    assert_true(all_pages_hold(buf));
    assert_int_equal(rig_submit(&r, again), 1);
    rig_serve(&r, BLKIF_RSP_OKAY);
    rig_expect(&r, 2, 0);
}

/* The control: given back at once it is used again, and a late read spoils it. */
static void test_control_without_quarantine(void **state)
{
    (void)state;
    for (unsigned held = 0; held <= 1; held++) {
        uint8_t *buf = blkqueue_alloc(&r.q, HYP_PAGE_SIZE), *reused;
        uint32_t page = (uint32_t)(buf - r.q.data) / HYP_PAGE_SIZE;
        uint8_t *dead = hyp_map_persistent(r.sides.map, hyp_pool_ref(r.sides.pool, r.q.data_page + page));
        ask(BLKFRONT_READ, buf, 1);
        rig_die(&r);
        grow_old();
        rig_expect(&r, 1, -ETIMEDOUT);
        if (!held)
            blkpool_release(&r.q.pool);
        blkpool_free(&r.q.pool, buf);
        r.q.pool.hint = page;
        reused = blkqueue_alloc(&r.q, HYP_PAGE_SIZE);
        memset(reused, 'n', HYP_PAGE_SIZE);
        memset(dead, 'o', HYP_PAGE_SIZE);
        assert_int_equal(reused[0], held ? 'n' : 'o');
        blkpool_free(&r.q.pool, reused);
        rig_reborn(&r);
        nothing_comes();
    }
}

/* One that was never sent has a buffer that nobody knows. */
static void test_unsent_is_not_held(void **state)
{
    (void)state;
    rig_die(&r);
    uint8_t *buf = blkqueue_alloc(&r.q, HYP_PAGE_SIZE);
    ask(BLKFRONT_READ, buf, 1);
    grow_old();
    rig_expect(&r, 1, -ETIMEDOUT);
    blkpool_free(&r.q.pool, buf);
    assert_true(all_pages_hold(buf));
    rig_reborn(&r);
}

/* A run is given back but for what is held of it. */
static void test_a_part_of_a_run_is_held(void **state)
{
    (void)state;
    uint8_t *run = blkqueue_alloc(&r.q, (size_t)64 * HYP_PAGE_SIZE);
    ask(BLKFRONT_WRITE, run + 5 * HYP_PAGE_SIZE, 1);
    rig_die(&r);
    grow_old();
    rig_expect(&r, 1, -ETIMEDOUT);
    blkpool_free(&r.q.pool, run);
    assert_int_equal(r.q.pool.used, 1);
    assert_null(blkqueue_alloc(&r.q, (size_t)60 * HYP_PAGE_SIZE));
    void *rest = blkqueue_alloc(&r.q, (size_t)58 * HYP_PAGE_SIZE);
    assert_ptr_equal(rest, run + 6 * HYP_PAGE_SIZE);
    blkpool_free(&r.q.pool, rest);
    rig_reborn(&r);
    nothing_comes();
    assert_ptr_equal(blkqueue_alloc(&r.q, (size_t)64 * HYP_PAGE_SIZE), run);
    assert_int_equal(r.q.pool.held, 0);
}

/* The connection is there before its fence: what is poisoned waits for that. */
static void test_poisoned_waits_for_the_fence(void **state)
{
    (void)state;
    r.q.max_deaths = 1;
    ask(BLKFRONT_READ, rig_page(&r, 0), 1);
    rig_die(&r);
    rig_attach(&r);
    queue_start(&r.q.queue);
    nothing_comes();
    assert_int_equal(r.q.counters.poisoned, 1);
    assert_int_equal(blkqueue_idle(&r.q), 0);
    blkqueue_fenced(&r.q);
    assert_int_equal(blkqueue_idle(&r.q), 1);
    rig_expect(&r, 1, -EIO);
}

#define ON(test) cmocka_unit_test_setup_teardown(test, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(test_no_limit_while_connected),
        ON(test_late_fails_in_the_outage),
        ON(test_sleeper_is_woken),
        ON(test_buffer_is_held),
        ON(test_control_without_quarantine),
        ON(test_unsent_is_not_held),
        ON(test_a_part_of_a_run_is_held),
        ON(test_poisoned_waits_for_the_fence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
