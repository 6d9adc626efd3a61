/* SPDX-License-Identifier: MIT */
/* Nodes, lists and permissions over the wire. */
#include "test_store.h"

static void reads_what_was_written(void **state)
{
    (void)state;
    assert_int_equal(put(&dom0, "/a/b/c", "one"), 0);
    assert_int_equal(get(&dom0, "/a/b/c"), 0);
    assert_string_equal(dom0.reply, "one");
    assert_int_equal(dom0.h.len, 3);
    assert_int_equal(get(&dom0, "/a/b"), 0);
    assert_int_equal(dom0.h.len, 0);
    assert_int_equal(get(&dom0, "/a/x"), -ENOENT);
    assert_int_equal(get(&dom0, "/"), 0);
    assert_int_equal(put(&dom0, "/a/b/c", "two, longer than one block of thirty-two bytes"), 0);
    assert_int_equal(get(&dom0, "/a/b/c"), 0);
    assert_string_equal(dom0.reply, "two, longer than one block of thirty-two bytes");
}

static void values_are_bytes(void **state)
{
    static const char payload[] = "/bytes\0a\0b\n\xff"; /* its last NUL is part of the value */

    (void)state;
    assert_int_equal(ask_in(&dom0, XS_WRITE, 0, payload, sizeof(payload)), 0);
    assert_int_equal(get(&dom0, "/bytes"), 0);
    assert_int_equal(dom0.h.len, sizeof(payload) - 7);
    assert_memory_equal(dom0.reply, payload + 7, sizeof(payload) - 7);
}

static void mkdir_keeps_what_is_there(void **state)
{
    (void)state;
    assert_int_equal(put(&dom0, "/a", "value"), 0);
    assert_int_equal(ask_path(&dom0, XS_MKDIR, 0, "/a"), 0);
    assert_int_equal(get(&dom0, "/a"), 0);
    assert_string_equal(dom0.reply, "value");
    assert_int_equal(ask_path(&dom0, XS_MKDIR, 0, "/d/e"), 0);
    assert_int_equal(get(&dom0, "/d/e"), 0);
    assert_int_equal(dom0.h.len, 0);
}

static void rm_takes_the_subtree(void **state)
{
    uint32_t before = xsd_account_of(0)->used[XSD_NODE], blocks = xsd_account_of(0)->used[XSD_BLOCK];

    (void)state;
    assert_int_equal(put(&dom0, "/a/b/c", "1"), 0);
    assert_int_equal(put(&dom0, "/a/b/d/e", "2"), 0);
    assert_int_equal(put(&dom0, "/a/z", "3"), 0);
    assert_int_equal(xsd_account_of(0)->used[XSD_NODE], before + 6);
    assert_int_equal(rm(&dom0, "/a/b"), 0);
    assert_int_equal(get(&dom0, "/a/b/d/e"), -ENOENT);
    assert_int_equal(get(&dom0, "/a/b"), -ENOENT);
    assert_int_equal(get(&dom0, "/a/z"), 0);
    assert_int_equal(rm(&dom0, "/a/b"), 0);         /* gone already, the parent is there */
    assert_int_equal(rm(&dom0, "/a/b/c"), -ENOENT); /* the parent is gone too */
    assert_int_equal(rm(&dom0, "/"), -EINVAL);
    assert_int_equal(rm(&dom0, "/a"), 0);
    assert_int_equal(xsd_account_of(0)->used[XSD_NODE], before);
    assert_int_equal(xsd_account_of(0)->used[XSD_BLOCK], blocks);
}

static void lists_children_in_order(void **state)
{
    (void)state;
    assert_int_equal(put(&dom0, "/l/b", ""), 0);
    assert_int_equal(put(&dom0, "/l/a", ""), 0);
    assert_int_equal(put(&dom0, "/l/c/deep", ""), 0);
    assert_int_equal(rm(&dom0, "/l/a"), 0);
    assert_int_equal(put(&dom0, "/l/a2", ""), 0);
    assert_int_equal(ask_path(&dom0, XS_DIRECTORY, 0, "/l"), 0);
    assert_int_equal(dom0.h.len, sizeof("b\0c\0a2"));
    assert_memory_equal(dom0.reply, "b\0c\0a2", sizeof("b\0c\0a2"));
    assert_int_equal(ask_path(&dom0, XS_DIRECTORY, 0, "/l/b"), 0);
    assert_int_equal(dom0.h.len, 0);
}

/* One part of a long list; returns its names' bytes, the end mark excluded. */
static size_t part(const char *path, size_t offset, char *names, char *generation, bool *last)
{
    char payload[128];
    int n = snprintf(payload, sizeof(payload), "%s%c%zu", path, 0, offset);

    assert_int_equal(ask_in(&dom0, XS_DIRECTORY_PART, 0, payload, (size_t)n + 1), 0);
    size_t head = strlen(dom0.reply) + 1, len = dom0.h.len - head;
    assert_true(head <= 32);
    memcpy(generation, dom0.reply, head);
    memcpy(names, dom0.reply + head, len);
    *last = len == 1 || names[len - 2] == '\0';
    return len - *last;
}

static void long_lists_come_in_parts(void **state)
{
    static char whole[65536];
    char path[64], first[32], now[32];
    size_t got = 0, want = 0;
    bool last = false;

    (void)state;
    for (int i = 0; i < 1500; i++) {
        snprintf(path, sizeof(path), "/big/child-number-%d", i);
        assert_int_equal(put(&dom0, path, ""), 0);
        want += strlen(path) - strlen("/big/") + 1;
    }
    assert_int_equal(ask_path(&dom0, XS_DIRECTORY, 0, "/big"), -E2BIG);
    while (!last) {
        got += part("/big", got, whole + got, got ? now : first, &last);
        assert_string_equal(got ? first : now, first);
    }
    assert_string_equal(now, first);
    assert_int_equal(got, want);
    assert_string_equal(whole, "child-number-0");
    /* The generation tells of every change; past the end there is nothing. */
    assert_int_equal(rm(&dom0, "/big/child-number-7"), 0);
    assert_int_equal(part("/big", want + 100, whole, now, &last), 0);
    assert_true(last);
    assert_string_not_equal(now, first);
}

static void owners_and_letters(void **state)
{
    (void)state;
    assert_int_equal(put(&guest1, "data", "mine"), 0);
    assert_int_equal(get(&guest1, HOME(1) "/data"), 0);
    assert_string_equal(guest1.reply, "mine");
    assert_int_equal(ask_path(&guest1, XS_GET_PERMS, 0, "data"), 0);
    assert_string_equal(guest1.reply, "n1");

    /* Closed to the other guest, for everything. */
    assert_int_equal(get(&guest2, HOME(1) "/data"), -EACCES);
    assert_int_equal(put(&guest2, HOME(1) "/data", "x"), -EACCES);
    assert_int_equal(put(&guest2, HOME(1) "/new", "x"), -EACCES);
    assert_int_equal(rm(&guest2, HOME(1) "/data"), -EACCES);
    assert_int_equal(ask_path(&guest2, XS_DIRECTORY, 0, HOME(1)), -EACCES);
    assert_int_equal(ask_path(&guest2, XS_GET_PERMS, 0, HOME(1) "/data"), -EACCES);
    assert_int_equal(set_perms(&guest2, HOME(1) "/data", "b2"), -EACCES);

    /* Read, write, both; and the control: the owner and dom0 always may. */
    assert_int_equal(set_perms(&guest1, "data", "n1 r2"), 0);
    assert_int_equal(get(&guest2, HOME(1) "/data"), 0);
    assert_int_equal(put(&guest2, HOME(1) "/data", "x"), -EACCES);
    assert_int_equal(set_perms(&guest1, "data", "n1 w2"), 0);
    assert_int_equal(get(&guest2, HOME(1) "/data"), -EACCES);
    assert_int_equal(put(&guest2, HOME(1) "/data", "x"), 0);
    assert_int_equal(set_perms(&guest1, "data", "b1 n2"), 0);
    assert_int_equal(get(&guest2, HOME(1) "/data"), -EACCES);
    assert_int_equal(set_perms(&guest1, "data", "b1"), 0);
    assert_int_equal(get(&guest2, HOME(1) "/data"), 0);
    assert_string_equal(guest2.reply, "x");
    assert_int_equal(put(&guest2, HOME(1) "/data", "y"), 0);
    assert_int_equal(set_perms(&guest2, HOME(1) "/data", "b1"), -EACCES); /* write is not own */
    assert_int_equal(get(&guest1, "data"), 0);
    assert_string_equal(guest1.reply, "y");
    assert_int_equal(get(&dom0, HOME(1) "/data"), 0);
    assert_int_equal(put(&dom0, HOME(1) "/data", "z"), 0);
}

static void what_a_guest_creates_it_owns(void **state)
{
    (void)state;
    assert_int_equal(set_perms(&dom0, HOME(1), "n1 b2"), 0);
    assert_int_equal(put(&guest2, HOME(1) "/by2/deep", "v"), 0);
    assert_int_equal(ask_path(&dom0, XS_GET_PERMS, 0, HOME(1) "/by2/deep"), 0);
    assert_memory_equal(dom0.reply, "n2\0b2", sizeof("n2\0b2"));
    assert_int_equal(put(&dom0, HOME(1) "/by0", "v"), 0); /* dom0 leaves it to the parent's owner */
    assert_int_equal(ask_path(&dom0, XS_GET_PERMS, 0, HOME(1) "/by0"), 0);
    assert_memory_equal(dom0.reply, "n1\0b2", sizeof("n1\0b2"));
}

/* What is missing below something unreadable is not known to be missing. */
static void absence_is_hidden(void **state)
{
    (void)state;
    assert_int_equal(put(&dom0, "/secret/is", "x"), 0);
    assert_int_equal(get(&guest1, "/secret/is"), -EACCES);
    assert_int_equal(get(&guest1, "/secret/is-not"), -EACCES);
    assert_int_equal(get(&guest1, "/nothing/at/all"), -EACCES);
    assert_int_equal(rm(&guest1, "/secret/is-not"), -EACCES);
    assert_int_equal(ask_path(&guest1, XS_MKDIR, 0, "/secret/is"), -EACCES);
    assert_int_equal(get(&guest1, "no/such"), -ENOENT); /* control: its own home it may read */
    assert_int_equal(rm(&guest1, "no/such"), -ENOENT);
}

static void bad_permissions(void **state)
{
    static const char *const bad[] = {"", "n", "1", "x1", "n-1", "n1 ", "n1 q2", "n65536", "n1 r 2", "nn1",
                                      "n01x", "n99999999999", "r9"};

    (void)state;
    assert_int_equal(put(&dom0, "/p", ""), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(set_perms(&dom0, "/p", bad[i]), -EINVAL);
    assert_int_equal(ASK(&dom0, XS_SET_PERMS, "/p"), -EINVAL);                       /* none at all */
    assert_int_equal(ask_in(&dom0, XS_SET_PERMS, 0, "/p\0n0", 5), -EINVAL);          /* no NUL */
    assert_int_equal(set_perms(&dom0, "/p", "n0 r1 r2 b1 w2 r1"), -ENOSPC);          /* too many */
    assert_int_equal(set_perms(&dom0, "/p", "n0 r9"), -EINVAL);                      /* no domain 9 */
    assert_int_equal(ask_path(&dom0, XS_GET_PERMS, 0, "/p"), 0);
    assert_string_equal(dom0.reply, "n0"); /* nothing of it stuck */
    assert_int_equal(set_perms(&dom0, "/p", "n0 r1 w2"), 0);
}

static void a_share_of_nodes(void **state)
{
    char path[64];
    int err = 0;
    unsigned made = 0;

    (void)state;
    for (; !err && made < 3 * XSD_NODES_GUEST; made += !err) {
        snprintf(path, sizeof(path), "n/%u", made);
        err = put(&guest1, path, "v");
    }
    assert_int_equal(err, -ENOSPC);
    assert_int_equal(made, XSD_NODES_GUEST - 2); /* its home and n count too */
    assert_int_equal(get(&guest1, path), -ENOENT);
    /* Others have theirs, and dom0 can still act in the full domain's home. */
    assert_int_equal(put(&guest2, "n", "v"), 0);
    assert_int_equal(put(&dom0, HOME(1) "/device/vbd/51712/state", "1"), 0);
    assert_int_equal(put(&guest1, "n/0", "changed"), 0);
    assert_int_equal(rm(&guest1, "n"), 0);
    assert_int_equal(put(&guest1, "again", "v"), 0);
}

static void a_share_of_bytes(void **state)
{
    char path[64], value[XSD_VALUE_GUEST + 1];
    int err = 0;
    unsigned made = 0;

    (void)state;
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    for (; !err && made < XSD_NODES_GUEST; made += !err) {
        snprintf(path, sizeof(path), "b/%u", made);
        err = put(&guest1, path, value);
    }
    assert_int_equal(err, -ENOSPC);
    assert_true(made < XSD_BLOCKS_GUEST / (XSD_VALUE_GUEST / 28));
    assert_int_equal(get(&guest1, path), -ENOENT); /* refused whole: no empty node either */
    assert_int_equal(put(&guest1, "b/0", value), 0); /* as long as before: still possible */
    assert_int_equal(put(&guest2, "b", value), 0);
    assert_int_equal(put(&dom0, HOME(1) "/state", "5"), 0);

    char longer[XSD_VALUE_GUEST + 2];
    memset(longer, 'v', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(put(&guest2, "long", longer), -ENOSPC);
    assert_int_equal(get(&guest2, "long"), -ENOENT);
    assert_int_equal(put(&dom0, "/long", longer), 0); /* control */
}

static void owner_changes_move_the_charge(void **state)
{
    struct xsd_account *one = xsd_account_of(1), *zero = xsd_account_of(0);
    uint32_t nodes = one->used[XSD_NODE], blocks = one->used[XSD_BLOCK], all = zero->used[XSD_NODE];

    (void)state;
    assert_int_equal(put(&dom0, "/gift", "some value"), 0);
    assert_int_equal(set_perms(&dom0, "/gift", "n1"), 0);
    assert_int_equal(one->used[XSD_NODE], nodes + 1);
    assert_int_equal(one->used[XSD_BLOCK], blocks + 2);
    assert_int_equal(zero->used[XSD_NODE], all);
    assert_int_equal(set_perms(&dom0, "/gift", "n0"), 0);
    assert_int_equal(one->used[XSD_NODE], nodes);
    assert_int_equal(one->used[XSD_BLOCK], blocks);
    assert_int_equal(rm(&dom0, "/gift"), 0);
    assert_int_equal(zero->used[XSD_NODE], all);
    /* The root too can be given and taken back. */
    assert_int_equal(set_perms(&dom0, "/", "r1"), 0);
    assert_int_equal(one->used[XSD_NODE], nodes + 1);
    assert_int_equal(put(&dom0, "/still", "works"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_what_was_written),
        TEST(values_are_bytes),
        TEST(mkdir_keeps_what_is_there),
        TEST(rm_takes_the_subtree),
        TEST(lists_children_in_order),
        TEST(long_lists_come_in_parts),
        TEST(owners_and_letters),
        TEST(what_a_guest_creates_it_owns),
        TEST(absence_is_hidden),
        TEST(bad_permissions),
        TEST(a_share_of_nodes),
        TEST(a_share_of_bytes),
        TEST(owner_changes_move_the_charge),
    };

    return cmocka_run_group_tests_name("store_tree", tests, NULL, NULL);
}
