/* SPDX-License-Identifier: MIT */
/* The parts of `bulkhead bench restart` that its verdict depends on: each class of
 * damage is found, and nothing else is taken for it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/bench/block.h"
#include "tests/bench/record.h"
#include "tests/bench/restart.h"
#include "tests/bench/witness.h"

#define GUEST  7u
#define BLOCKS 8u

static char data[BLOCK_BYTES], older[BLOCK_BYTES], oldest[BLOCK_BYTES], zeroes[BLOCK_BYTES];

static int fresh_record(void **state)
{
    struct record *r = malloc(record_bytes(BLOCKS));
    record_init(r, GUEST, BLOCKS);
    *state = r;
    return 0;
}

static int forget_record(void **state)
{
    free(*state);
    return 0;
}

/* A write of one block, and what it puts there. */
static void begin(struct record *r, uint32_t block, char *to)
{
    block_write(to, GUEST, block, record_begin(r, block, 1, false));
}

static void write_block(struct record *r, uint32_t block, char *to)
{
    begin(r, block, to);
    record_acknowledge(r, block, 1);
}

/* ---------------------------------------------------------------------- blocks */

static void a_block_says_what_it_is(void **state)
{
    (void)state;
    block_write(data, GUEST, 3, 99);
    struct block_content found = block_read(data, GUEST, 3);
    assert_int_equal(found.kind, BLOCK_DATA);
    assert_int_equal(found.sequence, 99);
    assert_int_equal(block_read(zeroes, GUEST, 3).kind, BLOCK_ZERO);
    assert_int_equal(block_read(data, GUEST + 1, 3).kind, BLOCK_FOREIGN);
    assert_int_equal(block_read(data, GUEST, 4).kind, BLOCK_FOREIGN);
}

static void every_bit_of_a_block_counts(void **state)
{
    (void)state;
    block_write(data, GUEST, 3, 99);
    for (unsigned i = 0; i < BLOCK_BYTES; i++) {
        data[i] = (char)(data[i] ^ 1 << i % 8);
        assert_int_equal(block_read(data, GUEST, 3).kind, BLOCK_FOREIGN);
        data[i] = (char)(data[i] ^ 1 << i % 8);
    }
    assert_int_equal(block_read(data, GUEST, 3).kind, BLOCK_DATA);
}

static void a_torn_block_is_foreign(void **state)
{
    (void)state;
    for (size_t at = 512; at < BLOCK_BYTES; at += 512) {
        block_write(data, GUEST, 3, 99);
        block_write(older, GUEST, 3, 98);
        memcpy(data + at, older + at, BLOCK_BYTES - at);
        assert_int_equal(block_read(data, GUEST, 3).kind, BLOCK_FOREIGN);
        block_write(data, GUEST, 3, 99);
        memset(data + at, 0, BLOCK_BYTES - at);
        assert_int_equal(block_read(data, GUEST, 3).kind, BLOCK_FOREIGN);
    }
}

/* ----------------------------------------------------------------------- records */

static void what_was_acknowledged_is_right(void **state)
{
    struct record *r = *state;
    assert_int_equal(record_judge(r, 0, zeroes), RECORD_RIGHT);
    write_block(r, 0, data);
    assert_int_equal(record_judge(r, 0, data), RECORD_RIGHT);
    write_block(r, 0, data);
    assert_int_equal(record_judge(r, 0, data), RECORD_RIGHT);
    record_begin(r, 0, 4, true);
    record_acknowledge(r, 0, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(record_judge(r, i, zeroes), RECORD_RIGHT);
}

static void a_write_that_is_not_there_is_lost(void **state)
{
    struct record *r = *state;
    write_block(r, 0, data);
    assert_int_equal(record_judge(r, 0, zeroes), RECORD_LOST);
    write_block(r, 1, older);
    assert_int_equal(record_judge(r, 1, older), RECORD_RIGHT);
    write_block(r, 1, data);
    assert_int_equal(record_judge(r, 1, older), RECORD_LOST);
    /* Counted once. */
    assert_int_equal(record_judge(r, 1, older), RECORD_RIGHT);
}

static void zeroes_that_are_not_there_are_lost(void **state)
{
    struct record *r = *state;
    write_block(r, 0, data);
    record_begin(r, 0, 1, true);
    record_acknowledge(r, 0, 1);
    assert_int_equal(record_judge(r, 0, data), RECORD_LOST);
}

static void garbage_is_lost(void **state)
{
    struct record *r = *state;
    write_block(r, 0, data);
    block_write(older, GUEST, 1, 1); /* of another place */
    assert_int_equal(record_judge(r, 0, older), RECORD_LOST);
    write_block(r, 1, data);
    data[100] ^= 1;
    assert_int_equal(record_judge(r, 1, data), RECORD_LOST);
    block_write(data, GUEST, 2, 1000); /* that nobody has written yet */
    assert_int_equal(record_judge(r, 2, data), RECORD_LOST);
}

static void an_old_block_over_one_that_was_seen_is_stale(void **state)
{
    struct record *r = *state;
    write_block(r, 0, older);
    write_block(r, 0, data);
    assert_int_equal(record_judge(r, 0, data), RECORD_RIGHT);
    assert_int_equal(record_judge(r, 0, older), RECORD_STALE);
    write_block(r, 1, data);
    assert_int_equal(record_judge(r, 1, data), RECORD_RIGHT);
    assert_int_equal(record_judge(r, 1, zeroes), RECORD_STALE);
}

static void a_block_older_than_the_last_but_one_is_stale(void **state)
{
    struct record *r = *state;
    write_block(r, 0, oldest);
    write_block(r, 0, older);
    write_block(r, 0, data);
    assert_int_equal(record_judge(r, 0, oldest), RECORD_STALE);
}

static void a_write_in_doubt_is_there_or_not(void **state)
{
    struct record *r = *state;
    write_block(r, 0, older);
    begin(r, 0, data);
    assert_true(record_in_doubt(r, 0));
    assert_int_equal(record_judge(r, 0, older), RECORD_RIGHT);
    assert_false(record_in_doubt(r, 0));
    /* Then it has not been done, and must not be later. */
    assert_int_equal(record_judge(r, 0, data), RECORD_STALE);

    write_block(r, 1, older);
    begin(r, 1, data);
    assert_int_equal(record_judge(r, 1, data), RECORD_RIGHT);
    assert_false(record_in_doubt(r, 1));
    assert_int_equal(record_judge(r, 1, older), RECORD_STALE);
}

static void a_write_in_doubt_excuses_nothing_else(void **state)
{
    struct record *r = *state;
    write_block(r, 0, oldest);
    write_block(r, 0, older);
    begin(r, 0, data);
    assert_int_equal(record_judge(r, 0, oldest), RECORD_LOST);
    write_block(r, 1, oldest);
    write_block(r, 1, older);
    assert_int_equal(record_judge(r, 1, older), RECORD_RIGHT);
    begin(r, 1, data);
    assert_int_equal(record_judge(r, 1, oldest), RECORD_STALE);
}

static void a_write_in_doubt_may_be_done_in_part(void **state)
{
    struct record *r = *state;
    write_block(r, 0, older);
    begin(r, 0, data);
    memcpy(data + 2048, older + 2048, 2048);
    assert_int_equal(record_judge(r, 0, data), RECORD_RIGHT);
    write_block(r, 0, data);
    assert_int_equal(record_judge(r, 0, data), RECORD_RIGHT);
    assert_int_equal(record_judge(r, 0, older), RECORD_STALE);
}

/* A record can be read at any instant: between two stores of an acknowledgment too. */
static void a_death_between_two_stores_leaves_a_whole_record(void **state)
{
    struct record *r = *state;
    write_block(r, 0, older);
    begin(r, 0, data);
    r->block[0].before = r->block[0].acked;
    r->block[0].acked = r->block[0].begun;
    assert_true(record_in_doubt(r, 0));
    assert_int_equal(record_judge(r, 0, data), RECORD_RIGHT);
    assert_false(record_in_doubt(r, 0));
}

/* ------------------------------------------------------------------------ witness */

static void the_witness_keeps_deaths_causes_and_phases(void **state)
{
    static const char lines[] =
        "{\"event\":\"died\",\"name\":\"d\",\"domid\":5,\"cause\":\"hang\"}\n"
        "{\"event\":\"spare_died\",\"name\":\"d\",\"domid\":5,\"spare_domid\":6,\"cause\":\"hang\"}\n"
        "no JSON\n"
        "{\"event\":\"recovered\",\"domid\":7,\"phases_us\":{\"detect\":100,\"fence\":20.5,\"first\":300}}\n"
        "{\"event\":\"died\",\"do";
    static const char rest[] = "mid\":8,\"signal\":9}\n";
    struct witness w;
    int pair[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(witness_start(&w, pair[0]), 0);
    assert_int_equal(write(pair[1], lines, sizeof(lines) - 1), sizeof(lines) - 1);
    assert_int_equal(witness_listen(&w, 1000), 0);
    assert_int_equal(w.deaths, 2);
    assert_int_equal(w.recovered, 1);
    assert_true(witness_died(&w, 5) && witness_died(&w, 6));
    assert_false(witness_died(&w, 8));
    assert_int_equal(w.ncauses, 1);
    assert_string_equal(w.cause[0].text, "hang");
    assert_int_equal(w.cause[0].n, 2);
    assert_int_equal(w.times[0].n, 1);
    assert_true(w.times[1].us[0] > 20 && w.times[1].us[0] < 21);
    assert_int_equal(w.times[2].n, 0);
    assert_int_equal(write(pair[1], rest, sizeof(rest) - 1), sizeof(rest) - 1);
    assert_int_equal(witness_listen(&w, 1000), 0);
    assert_true(witness_died(&w, 8));
    close(pair[1]);
    assert_int_equal(witness_listen(&w, 1000), -EPIPE);
    witness_end(&w);
}

/* ------------------------------------------------------------------------ options */

static int parse(struct restart_options *opt, int argc, const char **argv)
{
    char err[256] = "";
    *opt = (struct restart_options){.warm = true, .kills = 20, .guests = 2};
    int error = restart_options_parse(opt, argc, (char **)argv, err, sizeof(err));
    assert_true(error == 0 || *err);
    return error;
}

static void options_are_read_or_refused(void **state)
{
    struct restart_options opt;
    const char *good[] = {"restart", "--class", "net", "--kills", "300", "--spare", "none", "--how=stop",
                          "--pace", "0", "--guests", "4", "--json"};
    const char *bad[][2] = {{"--class", "scsi"}, {"--kills", "0"},     {"--guests", "9"}, {"--spare", "cold"},
                            {"--how", "ask"},    {"--kills", "10001"}, {"--pace", "x"},   {"--size", "64"},
                            {"--dir", ""}};
    const char *alone[] = {"restart", "--class", "net", "--guests", "1"};
    (void)state;
    assert_int_equal(parse(&opt, (int)(sizeof(good) / sizeof(good[0])), good), 0);
    assert_true(opt.net && !opt.warm && opt.how == RESTART_STOP && opt.common.json);
    assert_true(opt.kills == 300 && opt.guests == 4 && opt.pace_ms == 0);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(parse(&opt, 3, (const char *[]){"restart", bad[i][0], bad[i][1]}), -EINVAL);
    assert_int_equal(parse(&opt, 5, alone), -EINVAL);
}

#define WITH_RECORD(test) cmocka_unit_test_setup_teardown(test, fresh_record, forget_record)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_says_what_it_is),
        cmocka_unit_test(every_bit_of_a_block_counts),
        cmocka_unit_test(a_torn_block_is_foreign),
        WITH_RECORD(what_was_acknowledged_is_right),
        WITH_RECORD(a_write_that_is_not_there_is_lost),
        WITH_RECORD(zeroes_that_are_not_there_are_lost),
        WITH_RECORD(garbage_is_lost),
        WITH_RECORD(an_old_block_over_one_that_was_seen_is_stale),
        WITH_RECORD(a_block_older_than_the_last_but_one_is_stale),
        WITH_RECORD(a_write_in_doubt_is_there_or_not),
        WITH_RECORD(a_write_in_doubt_excuses_nothing_else),
        WITH_RECORD(a_write_in_doubt_may_be_done_in_part),
        WITH_RECORD(a_death_between_two_stores_leaves_a_whole_record),
        cmocka_unit_test(the_witness_keeps_deaths_causes_and_phases),
        cmocka_unit_test(options_are_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
