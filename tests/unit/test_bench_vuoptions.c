/* SPDX-License-Identifier: MIT */
/* What people may ask of the vhost-user benchmarks, and what testpmd says of itself. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/bench/testpmd.h"
#include "tests/bench/vublk_options.h"
#include "tests/bench/vunet.h"

static char err[256];
static struct vublk_options blk;
static struct vunet_options net;

static int parse_blk(const char *text)
{
    static char copy[256];
    char *argv[32] = {"vublk"}, *rest = copy;
    int argc = 1;
    blk = (struct vublk_options){.device = "ram", .bs = 4096, .depth = 32, .patience = 30};
    snprintf(copy, sizeof(copy), "%s", text);
    for (char *word; (word = strsep(&rest, " "));)
        if (*word)
            argv[argc++] = word;
    err[0] = '\0';
    return vublk_options_parse(&blk, argc, argv, err, sizeof(err));
}

static int parse_net(const char *text)
{
    static char copy[256];
    char *argv[32] = {"vunet"}, *rest = copy;
    int argc = 1;
    net = (struct vunet_options){.size = 64};
    snprintf(copy, sizeof(copy), "%s", text);
    for (char *word; (word = strsep(&rest, " "));)
        if (*word)
            argv[argc++] = word;
    err[0] = '\0';
    return vunet_options_parse(&net, argc, argv, err, sizeof(err));
}

static void disks(void **state)
{
    (void)state;
    assert_int_equal(parse_blk(""), 0);
    assert_false(blk.packed || blk.verify || blk.qsd || blk.sleeps || blk.direct);
    assert_int_equal(parse_blk("--packed --bs 64k --depth=8 --queues 2 --rw randwrite --peers qsd "
                               "--wait sleep"), 0);
    assert_true(blk.packed && blk.qsd && blk.sleeps);
    assert_int_equal(blk.bs, 65536);
    assert_int_equal(blk.depth, 8);
    assert_int_equal(blk.common.queues, 2);
    assert_int_equal(blk.op, LOAD_RANDWRITE);
    assert_int_equal(parse_blk("--socket /x --verify --reconnect --hang-up 20 --span 64M --seed 7 "
                               "--patience 5 --no-inflight --no-indirect --no-event-idx --segment 4k "
                               "--json"), 0);
    assert_true(blk.verify && blk.reconnect && blk.no_inflight && blk.direct && blk.no_event_idx);
    assert_true(blk.common.json && blk.patience == 5);
    assert_int_equal(blk.span, 64 << 20);
    assert_int_equal(blk.hang_up_ms, 20);
    assert_int_equal(blk.seed, 7);
    assert_int_equal(blk.segment, 4096);
    assert_string_equal(blk.socket, "/x");
    assert_int_equal(parse_blk("--verify --help"), 0); /* help is never misuse */
}

static void refused_disks(void **state)
{
    (void)state;
    static const char *const bad[] = {"--bs 1000", "--bs 2M", "--depth 0", "--depth 513", "--queues 9",
                                      "--peers spdk", "--wait up", "--rw trim", "--socket=", "--verify=1",
                                      "--socket /x --peers qsd", "--reconnect", "--hang-up 5", "--verify",
                                      "--span 64M", "--packed yes", "--nonsense 1", "--device",
                                      "--socket /x --verify --span 4k"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (parse_blk(bad[i]) == 0)
            fail_msg("%s was accepted", bad[i]);
        assert_true(err[0]);
    }
}

static void nics(void **state)
{
    (void)state;
    static const char *const bad[] = {"--size 63", "--size 1515", "--direction both", "--peers memif",
                                      "--uplink x"};
    assert_int_equal(parse_net("--size 1500 --packed --direction rx --peers vhost --queues 2"), 0);
    assert_true(net.packed && net.rx && net.vhost && net.size == 1500 && net.common.queues == 2);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(parse_net(bad[i]), -EINVAL);
        assert_true(err[0]);
    }
}

static void what_testpmd_sent(void **state)
{
    (void)state;
    static const char before[] =
        "  ---------------------- Forward statistics for port 0  ----------------------\n"
        "  RX-packets: 0              RX-dropped: 0             RX-total: 0\n"
        "  TX-packets: 700            TX-dropped: 12            TX-total: 712\n";
    static const char all[] =
        "  +++++++++++++++ Accumulated forward statistics for all ports+++++++++++++++\n"
        "  RX-packets: 0              RX-dropped: 0             RX-total: 0\n"
        "  TX-packets: 123456789      TX-dropped: 12            TX-total: 712\n";
    char text[1024];
    uint64_t n = 0;
    assert_false(testpmd_parse_sent(before, &n));
    snprintf(text, sizeof(text), "%s%s", before, all);
    assert_true(testpmd_parse_sent(text, &n));
    assert_int_equal(n, 123456789);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(disks),
        cmocka_unit_test(refused_disks),
        cmocka_unit_test(nics),
        cmocka_unit_test(what_testpmd_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
