/* SPDX-License-Identifier: MIT */
/* The page allocator of a queue: frontends/blkpool.c */
#include "test_blkfront.h"

#include "../../frontends/blkpool.h"

static void *const base = (void *)0x100000;

static uint8_t *page(uint32_t n)
{
    return (uint8_t *)base + (size_t)n * HYP_PAGE_SIZE;
}

static void test_every_page_once(void **state)
{
    (void)state;
    static const uint32_t sizes[] = { 1, 11, 63, 64, 65, 130, 1024 };
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct blkpool pool;
        uint8_t seen[1024] = { 0 };
        assert_int_equal(blkpool_init(&pool, base, sizes[s]), 0);
        for (uint32_t i = 0; i < sizes[s]; i++) {
            uint8_t *run = blkpool_alloc(&pool, 1);
            assert_non_null(run);
            uint32_t at = (uint32_t)((run - page(0)) / HYP_PAGE_SIZE);
            assert_true(at < sizes[s]);
            assert_int_equal(seen[at]++, 0);
        }
        assert_null(blkpool_alloc(&pool, 1));
        for (uint32_t i = 0; i < sizes[s]; i++)
            blkpool_free(&pool, page(i));
        assert_ptr_equal(blkpool_alloc(&pool, (size_t)sizes[s] * HYP_PAGE_SIZE), page(0));
        blkpool_destroy(&pool);
    }
}

static void test_impossible_sizes(void **state)
{
    (void)state;
    struct blkpool pool;
    assert_int_equal(blkpool_init(&pool, base, 0), -EINVAL);
    assert_int_equal(blkpool_init(&pool, base, 8), 0);
    assert_null(blkpool_alloc(&pool, 0));
    assert_null(blkpool_alloc(&pool, 8 * HYP_PAGE_SIZE + 1));
    assert_null(blkpool_alloc(&pool, SIZE_MAX));
    assert_int_equal(pool.used, 0);
    blkpool_destroy(&pool);
}

static void test_free_of_what_was_not_allocated(void **state)
{
    (void)state;
    struct blkpool pool;
    assert_int_equal(blkpool_init(&pool, base, 8), 0);
    uint8_t *run = blkpool_alloc(&pool, 3 * HYP_PAGE_SIZE);
    assert_ptr_equal(run, page(0));
    blkpool_free(&pool, NULL);
    blkpool_free(&pool, run + HYP_PAGE_SIZE); /* inside, not its start */
    blkpool_free(&pool, run + 1);
    blkpool_free(&pool, page(5));
    blkpool_free(&pool, page(8));
    blkpool_free(&pool, page(0) - HYP_PAGE_SIZE);
    assert_int_equal(pool.used, 3);
    blkpool_free(&pool, run);
    blkpool_free(&pool, run); /* twice */
    assert_int_equal(pool.used, 0);
    blkpool_destroy(&pool);
}

static void test_long_run_needs_neighbours(void **state)
{
    (void)state;
    struct blkpool pool;
    assert_int_equal(blkpool_init(&pool, base, 128), 0);
    for (uint32_t i = 0; i < 128; i++)
        assert_non_null(blkpool_alloc(&pool, 1));
    for (uint32_t i = 0; i < 128; i += 2)
        blkpool_free(&pool, page(i));
    assert_int_equal(pool.used, 64);
    assert_null(blkpool_alloc(&pool, 2 * HYP_PAGE_SIZE)); /* 64 free, no two in a row */
    blkpool_free(&pool, page(63));
    assert_ptr_equal(blkpool_alloc(&pool, 3 * HYP_PAGE_SIZE), page(62)); /* across a word */
    blkpool_destroy(&pool);
}

/* Random use against a plain table. */
static void test_against_a_model(void **state)
{
    (void)state;
    enum { PAGES = 200, RUNS = 64 };
    struct blkpool pool;
    uint8_t taken[PAGES] = { 0 };
    struct { uint32_t at, n; } runs[RUNS] = { 0 };
    assert_int_equal(blkpool_init(&pool, base, PAGES), 0);
    uint32_t seed = 1;
    for (int turn = 0; turn < 20000; turn++) {
        unsigned i = rig_random(&seed) % RUNS;
        if (runs[i].n) {
            blkpool_free(&pool, page(runs[i].at));
            memset(taken + runs[i].at, 0, runs[i].n);
            runs[i].n = 0;
            continue;
        }
        uint32_t n = 1 + rig_random(&seed) % 20;
        uint8_t *run = blkpool_alloc(&pool, n * HYP_PAGE_SIZE - rig_random(&seed) % HYP_PAGE_SIZE);
        uint32_t longest = 0;
        for (uint32_t p = 0, length = 0; p < PAGES; p++) {
            length = taken[p] ? 0 : length + 1;
            longest = length > longest ? length : longest;
        }
        assert_int_equal(run != NULL, longest >= n);
        if (!run)
            continue;
        uint32_t at = (uint32_t)((run - page(0)) / HYP_PAGE_SIZE);
        assert_true(at + n <= PAGES);
        for (uint32_t p = at; p < at + n; p++)
            assert_int_equal(taken[p]++, 0);
        runs[i].at = at;
        runs[i].n = n;
    }
    blkpool_destroy(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_page_once),
        cmocka_unit_test(test_impossible_sizes),
        cmocka_unit_test(test_free_of_what_was_not_allocated),
        cmocka_unit_test(test_long_run_needs_neighbours),
        cmocka_unit_test(test_against_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
