/* SPDX-License-Identifier: MIT */
/* The parts of the benchmarks that figures depend on. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/bench/histogram.h"
#include "tests/bench/load.h"
#include "tests/bench/options.h"
#include "tests/bench/spread.h"

static struct histogram a, b;

static void assert_near(uint64_t got, uint64_t wanted)
{
    uint64_t slack = wanted / 60 + 1;
    assert_in_range(got, wanted - slack, wanted + slack);
}

static void quantiles_of_known_values(void **state)
{
    (void)state;
    histogram_clear(&a);
    assert_int_equal(histogram_quantile(&a, 0.5), 0);
    for (uint64_t i = 1; i <= 100000; i++)
        histogram_add(&a, i * 10);
    assert_near(histogram_quantile(&a, 0.5), 500000);
    assert_near(histogram_quantile(&a, 0.99), 990000);
    assert_near(histogram_quantile(&a, 0.999), 999000);
    assert_near(histogram_quantile(&a, 1.0), 1000000);
}

static void every_size_has_its_step(void **state)
{
    (void)state;
    for (unsigned log = 0; log < 40; log++) {
        histogram_clear(&a);
        uint64_t value = (1ull << log) + (1ull << log) / 3;
        histogram_add(&a, value);
        assert_near(histogram_quantile(&a, 0.5), value);
    }
    histogram_clear(&a);
    histogram_add(&a, UINT64_MAX);
    assert_true(histogram_quantile(&a, 0.5) >= 1ull << HISTOGRAM_MAX_LOG);
}

static void merged_counts_add_up(void **state)
{
    (void)state;
    histogram_clear(&a);
    histogram_clear(&b);
    for (unsigned i = 0; i < 90; i++)
        histogram_add(&a, 100);
    for (unsigned i = 0; i < 10; i++)
        histogram_add(&b, 100000);
    histogram_merge(&a, &b);
    assert_int_equal(a.total, 100);
    assert_near(histogram_quantile(&a, 0.5), 100);
    assert_near(histogram_quantile(&a, 0.95), 100000);
}

static void spread_of_runs(void **state)
{
    (void)state;
    double odd[] = {3, 1, 2}, even[] = {4, 1, 3, 2};
    struct spread s = spread_of(odd, 3);
    assert_true(s.min == 1 && s.median == 2 && s.max == 3);
    s = spread_of(even, 4);
    assert_true(s.min == 1 && s.median == 2.5 && s.max == 4);
    s = spread_of(odd, 0);
    assert_true(s.max == 0);
}

static void patterns_stay_on_the_disk(void **state)
{
    (void)state;
    for (int op = LOAD_RANDREAD; op <= LOAD_WRITE; op++)
        for (unsigned queue = 0; queue < 3; queue++) {
            struct load_job job = {
                .op = (enum load_op)op, .bs = 4096, .queues = 3, .bytes = 4096 * 100 + 512, .seed = 7};
            struct load_pattern p;
            unsigned seen = 0;
            load_pattern_init(&p, &job, queue);
            for (unsigned i = 0; i < 1000; i++) {
                uint64_t at = load_pattern_next(&p);
                assert_int_equal(at % job.bs, 0);
                assert_true(at + job.bs <= job.bytes);
                seen += at >= job.bytes / 2;
            }
            /* Random ones reach both halves, sequential ones keep to their third. */
            assert_true(op < LOAD_READ ? seen > 300 && seen < 700 : queue != 0 || seen == 0);
        }
}

static void a_wrong_block_is_seen(void **state)
{
    (void)state;
    static char block[4096];
    load_fill(block, sizeof(block), 8192, 1);
    assert_true(load_is_filled(block, sizeof(block), 8192, 1));
    assert_false(load_is_filled(block, sizeof(block), 4096, 1));
    assert_false(load_is_filled(block, sizeof(block), 8192, 0));
    block[4000] ^= 1;
    assert_false(load_is_filled(block, sizeof(block), 8192, 1));
}

static int parse(struct bench_options *opt, char *err, const char *one, const char *two)
{
    char *argv[] = {"blk", (char *)one, (char *)two, NULL};
    *opt = (struct bench_options){.device = "ram"};
    err[0] = '\0';
    return bench_options_parse(opt, two ? 3 : 2, argv, err, 256);
}

static void options_in_both_forms(void **state)
{
    (void)state;
    struct bench_options opt;
    char err[256];
    assert_int_equal(parse(&opt, err, "--bs", "4k"), 0);
    assert_int_equal(opt.bs, 4096);
    assert_int_equal(parse(&opt, err, "--bs=1M", NULL), 0);
    assert_int_equal(opt.bs, 1 << 20);
    assert_int_equal(parse(&opt, err, "--op=randwrite", NULL), 0);
    assert_int_equal(opt.op, LOAD_RANDWRITE);
    assert_int_equal(parse(&opt, err, "--seconds", "0.5"), 0);
    assert_true(opt.seconds == 0.5);
    assert_int_equal(parse(&opt, err, "--peers", "uring"), 0);
    assert_true(opt.uring);
    assert_int_equal(parse(&opt, err, "--json", NULL), 0);
    assert_true(opt.json);
}

static void misuse_has_its_sentence(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"--bs", "0"}, {"--bs", "513"}, {"--bs", "2M"}, {"--bs", "-4096"}, {"--bs", "4kk"},
        {"--bs", "99999999999999999999"}, {"--bs", "17592186044417k"},
        {"--depth", "0"}, {"--depth", "513"}, {"--depth", "x"}, {"--queues", "9"},
        {"--seconds", "0"}, {"--seconds", "nan"}, {"--seconds", "1s"}, {"--op", "trim"}, {"--peers", "memif"},
        {"--runs", "101"}, {"--device", ""}, {"--bs", NULL}, {"--what", "1"}, {"ram", NULL},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct bench_options opt;
        char err[256];
        assert_int_equal(parse(&opt, err, bad[i][0], bad[i][1]), -EINVAL);
        assert_true(strlen(err) > 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_of_known_values), cmocka_unit_test(every_size_has_its_step),
        cmocka_unit_test(merged_counts_add_up),      cmocka_unit_test(spread_of_runs),
        cmocka_unit_test(patterns_stay_on_the_disk), cmocka_unit_test(a_wrong_block_is_seen),
        cmocka_unit_test(options_in_both_forms),     cmocka_unit_test(misuse_has_its_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
