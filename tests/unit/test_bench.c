/* SPDX-License-Identifier: MIT */
/* The parts of the benchmarks that figures depend on. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/bench/counters.h"
#include "tests/bench/frame.h"
#include "tests/bench/histogram.h"
#include "tests/bench/load.h"
#include "tests/bench/net_options.h"
#include "tests/bench/options.h"
#include "tests/bench/spread.h"
#include "tests/bench/testpmd.h"

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
    assert_true(opt.common.seconds == 0.5);
    assert_int_equal(parse(&opt, err, "--peers", "uring"), 0);
    assert_true(opt.uring);
    assert_int_equal(parse(&opt, err, "--json", NULL), 0);
    assert_true(opt.common.json);
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

static int parse_net(struct net_options *opt, char *err, const char *one, const char *two)
{
    char *argv[] = {"net", (char *)one, (char *)two, NULL};
    *opt = (struct net_options){.size = 64, .direction = NET_TX};
    err[0] = '\0';
    return net_options_parse(opt, two ? 3 : 2, argv, err, 256);
}

static void options_of_nics(void **state)
{
    (void)state;
    struct net_options opt;
    char err[256];
    assert_int_equal(parse_net(&opt, err, "--size", "1500"), 0);
    assert_int_equal(opt.size, 1500);
    assert_int_equal(parse_net(&opt, err, "--size=imix", NULL), 0);
    assert_int_equal(opt.size, 0);
    assert_int_equal(parse_net(&opt, err, "--peers", "vhost,memif"), 0);
    assert_true(opt.memif && opt.vhost);
    assert_int_equal(parse_net(&opt, err, "--peers=memif", NULL), 0);
    assert_true(opt.memif && !opt.vhost);
    assert_int_equal(parse_net(&opt, err, "--direction", "both"), 0);
    assert_int_equal(opt.direction, NET_BOTH);
    assert_int_equal(parse_net(&opt, err, "--path", "guest-guest"), 0);
    assert_true(opt.guest_guest);
    assert_int_equal(parse_net(&opt, err, "--uplink", "net_null0,size=64"), 0);
    assert_string_equal(opt.uplink, "net_null0,size=64");
    assert_int_equal(parse_net(&opt, err, "--queues", "2"), 0);
    assert_int_equal(opt.common.queues, 2);

    static const char *const bad[][2] = {
        {"--size", "63"}, {"--size", "9015"}, {"--size", "mix"}, {"--size", "-64"}, {"--size", ""},
        {"--peers", "uring"}, {"--peers", ""}, {"--peers", "memif,"}, {"--peers", "memif,,vhost"},
        {"--path", "uplink"}, {"--direction", "up"}, {"--uplink", ""}, {"--bs", "4k"}, {"--queues", "0"},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(parse_net(&opt, err, bad[i][0], bad[i][1]), -EINVAL);
        assert_true(strlen(err) > 10);
    }
}

/* As DPDK 22.11 writes it. */
static const char testpmd_said[] =
    "testpmd> show port stats 0\n\n"
    "  ######################## NIC statistics for port 0  ########################\n"
    "  RX-packets: 76561376   RX-missed: 0          RX-bytes:  4899928064\n"
    "  RX-errors: 0\n  RX-nombuf:  0         \n"
    "  TX-packets: 0          TX-errors: 0          TX-bytes:  0\n\n"
    "  Throughput (since last show)\n"
    "  Rx-pps:            0          Rx-bps:            0\n"
    "  Tx-pps:            0          Tx-bps:            0\n"
    "testpmd> show port stats 0\n\n"
    "  ######################## NIC statistics for port 0  ########################\n"
    "  RX-packets: 97643808   RX-missed: 0          RX-bytes:  6249203712\n"
    "  TX-packets: 0          TX-errors: 0          TX-bytes:  0\n\n"
    "  Throughput (since last show)\n"
    "  Rx-pps:     21050424          Rx-bps:  10777817312\n"
    "  Tx-pps:            0          Tx-bps:            0\n"
    "testpmd> quit\n\n"
    "  ---------------------- Forward statistics for port 0  ----------------------\n"
    "  RX-packets: 103888800      RX-dropped: 0             RX-total: 103888800\n";

static void what_testpmd_says(void **state)
{
    (void)state;
    struct testpmd_stats s = {0};
    assert_int_equal(testpmd_parse(testpmd_said, &s), 2);
    assert_int_equal(s.packets, 97643808);
    assert_int_equal(s.bytes, 6249203712);
    assert_int_equal(s.packets_s, 21050424);
    assert_int_equal(testpmd_parse("", &s), 0);
    assert_int_equal(testpmd_parse("EAL: Error - exiting with code: 1\n", &s), 0);
    /* An answer that breaks off is none, and none is made up of two. */
    char half[sizeof(testpmd_said)];
    memcpy(half, testpmd_said, sizeof(half));
    *strstr(half, "Rx-pps:     21050424") = '\0';
    assert_int_equal(testpmd_parse(half, &s), 1);
    assert_int_equal(s.packets_s, 0);
}

static const uint8_t here[6] = {2, 0, 0, 0, 0, 1}, there[6] = {2, 0, 0, 0, 0, 2};

static void a_wrong_frame_is_seen(void **state)
{
    (void)state;
    static uint8_t at[FRAME_MAX];
    static const uint32_t sizes[] = {64, 65, 1500, FRAME_MAX, 0};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct frame_flow f;
        struct frame_seen seen;
        frame_flow_init(&f, sizes[i], there, here, 3);
        for (uint64_t number = 0; number < 130; number++) {
            uint32_t n = frame_bytes(&f, number);
            memset(at, 0xee, sizeof(at));
            frame_write(frame_header(&f, number), number, 77, at, n);
            assert_true(frame_is(&f, number, 0, at, n));
            assert_true(frame_read(at, &seen));
            assert_true(seen.id == 3 && seen.number == number && seen.time == 77);
            assert_false(frame_is(&f, number + 1, 0, at, n));
            at[n - 1] ^= 1;
            assert_false(frame_is(&f, number, 0, at, n));
        }
        at[12] = 0x86;
        assert_false(frame_read(at, &seen));
    }
}

/* In parts, as over the buffers of a chain, it is the same frame. */
static void frames_in_parts(void **state)
{
    (void)state;
    static uint8_t whole[FRAME_MAX], parts[FRAME_MAX];
    struct frame_flow f;
    frame_flow_init(&f, FRAME_MAX, there, here, 0);
    frame_write(frame_header(&f, 9), 9, 0, whole, FRAME_MAX);
    frame_write(frame_header(&f, 9), 9, 0, parts, 4096);
    frame_write_more(9, 4096, parts + 4096, 4096);
    frame_write_more(9, 8192, parts + 8192, FRAME_MAX - 8192);
    assert_memory_equal(whole, parts, FRAME_MAX);
    assert_true(frame_is(&f, 9, 4096, parts + 4096, 4096));
    assert_false(frame_is(&f, 9, 4096, parts, 4096));
}

static void headers_are_well_formed(void **state)
{
    (void)state;
    struct frame_flow f;
    uint32_t sum = 0, bytes = 0;
    frame_flow_init(&f, 1500, there, here, 1);
    const uint8_t *h = f.header[0];
    assert_memory_equal(h, there, 6);
    assert_memory_equal(h + 6, here, 6);
    assert_int_equal(h[16] << 8 | h[17], 1500 - 14);
    assert_int_equal(h[38] << 8 | h[39], 1500 - 34);
    for (unsigned i = 14; i < 34; i += 2)
        sum += (uint32_t)h[i] << 8 | h[i + 1];
    assert_int_equal((sum & 0xffff) + (sum >> 16), 0xffff);

    frame_flow_init(&f, 0, there, here, 1);
    for (unsigned i = 0; i < FRAME_MIX; i++)
        bytes += frame_bytes(&f, i);
    assert_true(bytes == FRAME_MIX_MEAN * FRAME_MIX);
}

static void counters_add_up(void **state)
{
    (void)state;
    struct counters before = {.n = 2, .at = {{"tx_packets", 10}, {"forged_mac", 1}}};
    struct counters after = {.n = 3, .at = {{"tx_packets", 15}, {"forged_mac", 4}, {"a_new_cause", 2}}};
    struct counters sum = {0};
    counters_add(&sum, &before, &after);
    counters_add(&sum, &before, &after);
    assert_int_equal(counters_get(&sum, "tx_packets"), 10);
    assert_int_equal(counters_get(&sum, "nothing"), 0);
    assert_int_equal(counters_drops(&sum), 2 * (3 + 2));
    assert_false(counter_is_drop("rx_bytes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_of_known_values), cmocka_unit_test(every_size_has_its_step),
        cmocka_unit_test(merged_counts_add_up),      cmocka_unit_test(spread_of_runs),
        cmocka_unit_test(patterns_stay_on_the_disk), cmocka_unit_test(a_wrong_block_is_seen),
        cmocka_unit_test(options_in_both_forms),     cmocka_unit_test(misuse_has_its_sentence),
        cmocka_unit_test(options_of_nics),           cmocka_unit_test(what_testpmd_says),
        cmocka_unit_test(a_wrong_frame_is_seen),     cmocka_unit_test(frames_in_parts),
        cmocka_unit_test(headers_are_well_formed),   cmocka_unit_test(counters_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
