/* SPDX-License-Identifier: MIT */
/* Transactions: isolation, conflicts, all or nothing, limits. */
#include "test_store.h"

static void commit_shows_all_at_once(void **state)
{
    (void)state;
    assert_int_equal(put(&dom0, "/t/old", "1"), 0);
    uint32_t t = txn_begin(&dom0);
    assert_int_equal(put_in(&dom0, t, "/t/new/deep", "2"), 0);
    assert_int_equal(put_in(&dom0, t, "/t/old", "3"), 0);
    assert_int_equal(get_in(&dom0, t, "/t/new/deep"), 0); /* it sees its own writes */
    assert_string_equal(dom0.reply, "2");
    assert_int_equal(get(&dom0, "/t/new"), -ENOENT); /* no one else does */
    assert_int_equal(get(&dom0, "/t/old"), 0);
    assert_string_equal(dom0.reply, "1");
    assert_int_equal(txn_end(&dom0, t, "T"), 0);
    assert_int_equal(get(&dom0, "/t/new/deep"), 0);
    assert_string_equal(dom0.reply, "2");
    assert_int_equal(get(&dom0, "/t/old"), 0);
    assert_string_equal(dom0.reply, "3");
    assert_int_equal(txn_end(&dom0, t, "T"), -ENOENT); /* over */
}

static void abort_leaves_nothing(void **state)
{
    uint32_t nodes = xsd_account_of(0)->used[XSD_NODE], blocks = xsd_account_of(0)->used[XSD_BLOCK];
    uint32_t t = txn_begin(&dom0);

    (void)state;
    assert_int_equal(put_in(&dom0, t, "/gone/deep", "2"), 0);
    assert_int_equal(txn_end(&dom0, t, "F"), 0);
    assert_int_equal(get(&dom0, "/gone"), -ENOENT);
    assert_int_equal(xsd_account_of(0)->used[XSD_NODE], nodes);
    assert_int_equal(xsd_account_of(0)->used[XSD_BLOCK], blocks);
    assert_int_equal(xsd_account_of(0)->used[XSD_ENTRY], 0);
    assert_int_equal(xsd_account_of(0)->used[XSD_TXN], 0);
}

/* Runs `in` in a transaction with `out` outside in between; the commit's result. */
static int race(int (*in)(uint32_t t), int (*out)(void))
{
    uint32_t t = txn_begin(&dom0);

    assert_int_equal(in(t), 0);
    assert_int_equal(out(), 0);
    return txn_end(&dom0, t, "T");
}

static int in_reads(uint32_t t) { return get_in(&dom0, t, "/r/a"); }
static int in_writes(uint32_t t) { return put_in(&dom0, t, "/r/a", "in"); }
static int in_lists(uint32_t t) { return ask_path(&dom0, XS_DIRECTORY, t, "/r"); }
static int in_misses(uint32_t t) { return get_in(&dom0, t, "/r/none") == -ENOENT ? 0 : -1; }
static int in_creates(uint32_t t) { return put_in(&dom0, t, "/r/none", "in"); }
static int in_removes(uint32_t t) { return ask_path(&dom0, XS_RM, t, "/r/a"); }
static int out_writes(void) { return put(&dom0, "/r/a", "out"); }
static int out_same(void) { return put(&dom0, "/r/a", "v"); }
static int out_other(void) { return put(&dom0, "/r/b", "out"); }
static int out_creates(void) { return put(&dom0, "/r/none", "out"); }
static int out_removes(void) { return rm(&dom0, "/r/a"); }
static int out_chmods(void) { return set_perms(&dom0, "/r/a", "r0"); }
static int out_reborn(void) { return rm(&dom0, "/r/a") ? -1 : put(&dom0, "/r/a", "v"); }

static void conflicts_are_seen(void **state)
{
    static const struct {
        int (*in)(uint32_t);
        int (*out)(void);
        int want;
    } races[] = {
        {in_reads, out_writes, -EAGAIN},  {in_reads, out_same, -EAGAIN},    {in_reads, out_removes, -EAGAIN},
        {in_reads, out_chmods, -EAGAIN},  {in_reads, out_reborn, -EAGAIN},  {in_reads, out_other, 0},
        {in_writes, out_writes, -EAGAIN}, {in_writes, out_removes, -EAGAIN}, {in_writes, out_other, 0},
        {in_lists, out_creates, -EAGAIN}, {in_lists, out_removes, -EAGAIN}, {in_lists, out_writes, 0},
        {in_misses, out_creates, -EAGAIN}, {in_misses, out_writes, 0},
        {in_creates, out_creates, -EAGAIN}, {in_removes, out_writes, -EAGAIN},
        {in_removes, out_removes, -EAGAIN}, {in_removes, out_other, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(races) / sizeof(races[0]); i++) {
        (void)rm(&dom0, "/r");
        assert_int_equal(put(&dom0, "/r/a", "v"), 0);
        assert_int_equal(put(&dom0, "/r/b", "v"), 0);
        int got = race(races[i].in, races[i].out);
        if (got != races[i].want)
            fail_msg("race %zu: commit said %d, expected %d", i, got, races[i].want);
    }
}

static void a_failed_commit_changes_nothing(void **state)
{
    (void)state;
    assert_int_equal(put(&dom0, "/f/seen", "1"), 0);
    uint32_t t = txn_begin(&dom0);
    assert_int_equal(get_in(&dom0, t, "/f/seen"), 0);
    assert_int_equal(put_in(&dom0, t, "/f/made", "x"), 0);
    assert_int_equal(ask_path(&dom0, XS_RM, t, "/f/seen"), 0);
    assert_int_equal(put(&dom0, "/f/seen", "2"), 0);
    assert_int_equal(txn_end(&dom0, t, "T"), -EAGAIN);
    assert_int_equal(get(&dom0, "/f/made"), -ENOENT);
    assert_int_equal(get(&dom0, "/f/seen"), 0);
    assert_string_equal(dom0.reply, "2");
}

static void reads_repeat(void **state)
{
    (void)state;
    assert_int_equal(put(&dom0, "/x", "before"), 0);
    uint32_t t = txn_begin(&dom0);
    assert_int_equal(get_in(&dom0, t, "/x"), 0);
    assert_int_equal(put(&dom0, "/x", "after"), 0);
    assert_int_equal(get_in(&dom0, t, "/x"), 0);
    assert_string_equal(dom0.reply, "before");
    assert_int_equal(txn_end(&dom0, t, "T"), -EAGAIN);
}

static void removal_and_rebirth_inside(void **state)
{
    (void)state;
    assert_int_equal(put(&dom0, "/r/a/x", "old"), 0);
    assert_int_equal(put(&dom0, "/r/a/y/z", "old"), 0);
    uint32_t t = txn_begin(&dom0);
    assert_int_equal(put_in(&dom0, t, "/r/a/q", "lost"), 0);
    assert_int_equal(ask_path(&dom0, XS_RM, t, "/r/a"), 0);
    assert_int_equal(get_in(&dom0, t, "/r/a/x"), -ENOENT);
    assert_int_equal(get_in(&dom0, t, "/r/a/q"), -ENOENT);
    assert_int_equal(put_in(&dom0, t, "/r/a/y/new", "new"), 0);
    assert_int_equal(get_in(&dom0, t, "/r/a/y/z"), -ENOENT);
    assert_int_equal(ask_path(&dom0, XS_DIRECTORY, t, "/r/a"), 0);
    assert_memory_equal(dom0.reply, "y", 2);
    assert_int_equal(dom0.h.len, 2);
    assert_int_equal(ask_path(&dom0, XS_DIRECTORY, t, "/r/a/y"), 0);
    assert_memory_equal(dom0.reply, "new", 4);
    assert_int_equal(dom0.h.len, 4);
    assert_int_equal(txn_end(&dom0, t, "T"), 0);
    assert_int_equal(get(&dom0, "/r/a/x"), -ENOENT);
    assert_int_equal(get(&dom0, "/r/a/q"), -ENOENT);
    assert_int_equal(get(&dom0, "/r/a/y/z"), -ENOENT);
    assert_int_equal(get(&dom0, "/r/a/y/new"), 0);
    assert_string_equal(dom0.reply, "new");
}

static void lists_mix_tree_and_transaction(void **state)
{
    (void)state;
    assert_int_equal(put(&dom0, "/m/keep", ""), 0);
    assert_int_equal(put(&dom0, "/m/drop", ""), 0);
    assert_int_equal(put(&dom0, "/m/touch", ""), 0);
    uint32_t t = txn_begin(&dom0);
    assert_int_equal(ask_path(&dom0, XS_RM, t, "/m/drop"), 0);
    assert_int_equal(put_in(&dom0, t, "/m/touch", "x"), 0);
    assert_int_equal(put_in(&dom0, t, "/m/add/below", "x"), 0);
    assert_int_equal(put_in(&dom0, t, "/m/brief", "x"), 0);
    assert_int_equal(ask_path(&dom0, XS_RM, t, "/m/brief"), 0);
    assert_int_equal(ask_path(&dom0, XS_DIRECTORY, t, "/m"), 0);
    assert_int_equal(dom0.h.len, sizeof("keep\0touch\0add"));
    assert_memory_equal(dom0.reply, "keep\0touch\0add", sizeof("keep\0touch\0add"));
    assert_int_equal(txn_end(&dom0, t, "T"), 0);
    assert_int_equal(ask_path(&dom0, XS_DIRECTORY, 0, "/m"), 0);
    assert_int_equal(dom0.h.len, sizeof("keep\0touch\0add"));
    assert_memory_equal(dom0.reply, "keep\0touch\0add", sizeof("keep\0touch\0add"));
}

/* The toolstack's own move: both directories of a device, with owners, at once. */
static void makes_a_device(void **state)
{
    static const char b[] = HOME(2) "/backend/vbd/1/51712", f[] = HOME(1) "/device/vbd/51712";
    uint32_t t = txn_begin(&dom0);
    char path[128];

    (void)state;
    assert_int_equal(ask_path(&dom0, XS_MKDIR, t, b), 0);
    assert_int_equal(chmod_in(&dom0, t, b, "n2 r1"), 0);
    assert_int_equal(ask_path(&dom0, XS_MKDIR, t, f), 0);
    assert_int_equal(chmod_in(&dom0, t, f, "n1 r2"), 0);
    snprintf(path, sizeof(path), "%s/state", b);
    assert_int_equal(put_in(&dom0, t, path, "1"), 0);
    assert_int_equal(chmod_in(&dom0, t, path, "n2 r1"), 0);
    snprintf(path, sizeof(path), "%s/state", f);
    assert_int_equal(put_in(&dom0, t, path, "1"), 0);
    assert_int_equal(txn_end(&dom0, t, "T"), 0);
    assert_int_equal(get(&guest2, path), 0);
    assert_int_equal(put(&guest1, path, "3"), 0);
    assert_int_equal(put(&guest2, path, "4"), -EACCES);
    snprintf(path, sizeof(path), "%s/state", b);
    assert_int_equal(get(&guest1, path), 0);
    assert_int_equal(put(&guest2, path, "2"), 0);
    assert_int_equal(put(&guest1, path, "4"), -EACCES);
}

static void permissions_hold_inside(void **state)
{
    (void)state;
    assert_int_equal(put(&guest2, "own", "x"), 0);
    uint32_t t = txn_begin(&guest1);
    assert_int_equal(get_in(&guest1, t, HOME(2) "/own"), -EACCES);
    assert_int_equal(put_in(&guest1, t, HOME(2) "/own", "y"), -EACCES);
    assert_int_equal(put_in(&guest1, t, HOME(2) "/new", "y"), -EACCES);
    assert_int_equal(ask_path(&guest1, XS_RM, t, HOME(2) "/own"), -EACCES);
    assert_int_equal(chmod_in(&guest1, t, HOME(2) "/own", "b1"), -EACCES);
    assert_int_equal(put_in(&guest1, t, "fine", "y"), 0);
    assert_int_equal(txn_end(&guest1, t, "T"), 0);
    assert_int_equal(get(&guest1, "fine"), 0);
    assert_int_equal(get(&guest2, "own"), 0);
    assert_string_equal(guest2.reply, "x");
}

/* A right that was taken away before the commit is not used by it. */
static void a_right_lost_meanwhile(void **state)
{
    (void)state;
    assert_int_equal(put(&dom0, "/shared", ""), 0);
    assert_int_equal(set_perms(&dom0, "/shared", "n0 b1"), 0);
    uint32_t t = txn_begin(&guest1);
    assert_int_equal(put_in(&guest1, t, "/shared/mine", "y"), 0);
    assert_int_equal(set_perms(&dom0, "/shared", "n0"), 0);
    assert_int_equal(txn_end(&guest1, t, "T"), -EAGAIN);
    assert_int_equal(get(&dom0, "/shared/mine"), -ENOENT);
}

static void ids_belong_to_a_connection(void **state)
{
    uint32_t t = txn_begin(&dom0);

    (void)state;
    assert_int_equal(put_in(&guest1, t + 1000, "x", "y"), -ENOENT);
    assert_int_equal(put_in(&guest1, t, "x", "y"), -ENOENT);
    assert_int_equal(txn_end(&guest1, t, "T"), -ENOENT);
    assert_int_equal(ask_in(&dom0, XS_TRANSACTION_START, t, "", 1), -EBUSY);
    assert_int_equal(txn_end(&dom0, t, "X"), -EINVAL);
    assert_int_equal(ask_in(&dom0, XS_TRANSACTION_END, t, "T", 1), -EINVAL); /* no NUL */
    assert_int_equal(ask_in(&dom0, XS_TRANSACTION_END, 0, "T", 2), -ENOENT);
    assert_int_equal(txn_end(&dom0, t, "F"), 0);
}

static void a_share_of_transactions(void **state)
{
    char path[64];
    int err = 0;
    unsigned seen = 0;

    (void)state;
    uint32_t t = txn_begin(&guest1);
    for (unsigned i = 1; i < XSD_TXNS_GUEST; i++)
        (void)txn_begin(&guest1);
    assert_int_equal(ASK(&guest1, XS_TRANSACTION_START, ""), -ENOSPC);
    for (; !err && seen < 10000; seen++) {
        snprintf(path, sizeof(path), "none/%u", seen);
        err = get_in(&guest1, t, path);
        err = err == -ENOENT ? 0 : err;
    }
    assert_int_equal(err, -ENOSPC);
    assert_true(seen <= XSD_ENTRIES_GUEST);
    (void)txn_begin(&guest2); /* others have their own */
    assert_int_equal(ASK(&guest1, XS_RESET_WATCHES, ""), 0);
    assert_int_equal(xsd_account_of(1)->used[XSD_ENTRY], 0);
    assert_int_equal(xsd_account_of(1)->used[XSD_TXN], 0);
}

static void end_of_connection_ends_them(void **state)
{
    (void)state;
    uint32_t t = txn_begin(&guest1);
    assert_int_equal(put_in(&guest1, t, "x", "y"), 0);
    close(guest1.fd);
    guest1.fd = -1;
    turn();
    turn();
    assert_int_equal(xsd_account_of(1)->used[XSD_TXN], 0);
    assert_int_equal(xsd_account_of(1)->used[XSD_ENTRY], 0);
    assert_int_equal(get(&dom0, HOME(1) "/x"), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(commit_shows_all_at_once),
        TEST(abort_leaves_nothing),
        TEST(conflicts_are_seen),
        TEST(a_failed_commit_changes_nothing),
        TEST(reads_repeat),
        TEST(removal_and_rebirth_inside),
        TEST(lists_mix_tree_and_transaction),
        TEST(makes_a_device),
        TEST(permissions_hold_inside),
        TEST(a_right_lost_meanwhile),
        TEST(ids_belong_to_a_connection),
        TEST(a_share_of_transactions),
        TEST(end_of_connection_ends_them),
    };

    return cmocka_run_group_tests_name("store_txn", tests, NULL, NULL);
}
