/* SPDX-License-Identifier: MIT */
/* The token bucket, exactly: no clock but the test's. */
#include "test_net.h"

#define SECOND 1000000000ull

static void no_rate_is_no_limit(void **state)
{
    (void)state;
    struct rate_limit l;
    net_rate_init(&l, &(struct net_rate){ 0, 500, 500 }, 7); /* a peak alone says nothing */
    assert_false(net_rate_limited(&l));
    net_rate_spend(&l, UINT32_MAX);
    assert_int_equal(net_rate_wait(&l, 7), 0);
}

static void a_burst_passes_then_it_waits_exactly(void **state)
{
    (void)state;
    struct rate_limit l;
    net_rate_init(&l, &(struct net_rate){ 1000, 0, 100000 }, 0);
    assert_int_equal(net_rate_wait(&l, 0), 0);
    net_rate_spend(&l, 99999);
    assert_int_equal(net_rate_wait(&l, 0), 0); /* one byte of credit is enough */
    net_rate_spend(&l, 1501);                  /* into debt by 1500 bytes: one and a half seconds */
    assert_int_equal(net_rate_wait(&l, 0), 1500000000ull + 1);
    assert_int_equal(net_rate_wait(&l, 1499999999ull), 2);
    assert_int_equal(net_rate_wait(&l, 1500000000ull), 1);
    assert_int_equal(net_rate_wait(&l, 1500000001ull), 0);
}

/* Whatever the sizes and moments: never more than depth + rate * time + one packet, never less than
 * rate * time when someone always waits. */
static void over_any_time_it_is_exact(void **state)
{
    (void)state;
    static const uint64_t rates[] = { 1, 999, 1000003, 125000000, 12500000000ull, 99999999999ull };
    for (unsigned k = 0; k < 6; k++) {
        struct rate_limit l;
        uint64_t rate = rates[k], now = 12345, start = now, sent = 0, seed = 1;
        net_rate_init(&l, &(struct net_rate){ rate, 0, 50000 }, now);
        for (unsigned i = 0; i < 20000; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            uint32_t size = 60 + (uint32_t)(seed >> 33) % 9000;
            uint64_t wait = net_rate_wait(&l, now);
            if (wait > 0 && wait < 100 * SECOND) {
                assert_true(net_rate_wait(&l, now + wait - 1) > 0);
                now += wait - 1;
                assert_int_equal(net_rate_wait(&l, now), 1);
                now++;
            } else if (wait > 0) {
                now += wait;
            }
            assert_int_equal(net_rate_wait(&l, now), 0);
            net_rate_spend(&l, size);
            sent += size;
            unsigned __int128 earned = (unsigned __int128)(now - start) * rate / SECOND;
            assert_true(sent <= 50000 + earned + size);
            assert_true(sent + 1 >= earned);
        }
    }
}

static void credit_stops_at_the_depth(void **state)
{
    (void)state;
    struct rate_limit l;
    net_rate_init(&l, &(struct net_rate){ 1000000, 0, 20000 }, 0);
    uint64_t now = 1000000 * SECOND, sent = 0;
    while (net_rate_wait(&l, now) == 0) {
        net_rate_spend(&l, 1000);
        sent += 1000;
    }
    assert_int_equal(sent, 20000);
    now += UINT64_MAX / 4; /* idle for a century */
    for (sent = 0; net_rate_wait(&l, now) == 0; sent += 1000)
        net_rate_spend(&l, 1000);
    assert_int_equal(sent, 20000);
}

/* The peak holds while the burst lasts, then the average. */
static void peak_and_average_together(void **state)
{
    (void)state;
    struct rate_limit l;
    uint64_t now = 0, sent = 0, after_burst = 0;
    net_rate_init(&l, &(struct net_rate){ 1000000, 50000000, 1000000 }, 0);
    while (now < SECOND) {
        uint64_t wait = net_rate_wait(&l, now);
        if (wait == 0) {
            net_rate_spend(&l, 1000);
            sent += 1000;
            if (sent == 1000000)
                after_burst = now;
        }
        now += wait;
    }
    /* 1 MB at 50 MB/s takes 20 ms less the peak's own depth of 2 ms (100 kB). */
    assert_true(after_burst >= 17900000 && after_burst <= 18100000);
    assert_true(sent >= 2000000 - 2000 && sent <= 2000000 + 2000);
}

static void absurd_rates_are_no_limit_or_the_greatest(void **state)
{
    (void)state;
    struct rate_limit l;
    net_rate_init(&l, &(struct net_rate){ UINT64_MAX, UINT64_MAX, UINT64_MAX }, 0);
    assert_false(net_rate_limited(&l));
    net_rate_init(&l, &(struct net_rate){ RATE_MAX, RATE_MAX, UINT64_MAX }, 0);
    for (uint64_t now = 0; now < 100 * SECOND; now += SECOND / 7) {
        if (net_rate_wait(&l, now) == 0)
            net_rate_spend(&l, UINT32_MAX);
        assert_true(l.average.credit <= l.average.depth && l.peak.credit <= l.peak.depth);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_rate_is_no_limit),
        cmocka_unit_test(a_burst_passes_then_it_waits_exactly),
        cmocka_unit_test(over_any_time_it_is_exact),
        cmocka_unit_test(credit_stops_at_the_depth),
        cmocka_unit_test(peak_and_average_together),
        cmocka_unit_test(absurd_rates_are_no_limit_or_the_greatest),
    };
    return cmocka_run_group_tests_name("netrate", tests, NULL, NULL);
}
