/* SPDX-License-Identifier: MIT */
/*
 * What has gone wrong in XenStore daemons before (xenbits.xen.org/xsa), tried
 * on this one.  Each test is named after its advisory and has a control.
 *
 * Not here: XSA-354 (a toolstack's own reaction to watch events), XSA-38 and
 * XSA-420 (the shared ring and 31-bit integers, of which there are none here).
 */
#include "hyp-shim/local/store/conn.h"
#include "test_store.h"

/* Oversized replies: a list that does not fit in one message is refused. */
static void xsa_72(void **state)
{
    char path[XENSTORE_ABS_PATH_MAX];

    (void)state;
    memset(path, 'a', sizeof(path));
    memcpy(path, "big/", 4);
    path[1500] = '\0';
    for (int i = 0; i < 3; i++) {
        path[4] = "abc"[i];
        assert_int_equal(put(&guest1, path, ""), 0);
        if (i == 1) /* control: two fit */
            assert_int_equal(ask_path(&guest1, XS_DIRECTORY, 0, "big"), 0);
    }
    assert_int_equal(ask_path(&guest1, XS_DIRECTORY, 0, "big"), -E2BIG);
    assert_int_equal(put(&guest1, "still", "served"), 0);
}

/* A watch tells nothing of nodes that its owner may not read. */
static void xsa_115_watch(void **state)
{
    (void)state;
    assert_int_equal(watch(&guest1, "/", "spy"), 0);
    assert_int_equal(watch(&guest1, HOME(2), "spy"), 0);
    assert_int_equal(watch(&guest1, HOME(2) "/key", "spy"), 0);
    settle(&guest1);
    assert_int_equal(put(&guest2, "key", "secret"), 0);
    assert_int_equal(put(&guest2, "key", "changed"), 0);
    assert_int_equal(set_perms(&guest2, "key", "n2 w1"), 0);
    assert_int_equal(rm(&guest2, "key"), 0);
    assert_int_equal(put(&dom0, "/elsewhere", "x"), 0);
    uint32_t t = txn_begin(&guest2);
    assert_int_equal(put_in(&guest2, t, HOME(2) "/key", "secret"), 0);
    assert_int_equal(txn_end(&guest2, t, "T"), 0);
    turn();
    receive(&guest1);
    assert_int_equal(guest1.nevents, 0);

    /* Control: once it may read, it hears; and of the loss of that right too. */
    assert_int_equal(set_perms(&guest2, "key", "n2 r1"), 0);
    assert_int_equal(events_of(&guest1, HOME(2) "/key", "spy"), 3);
    assert_int_equal(put(&guest2, "key", "shown"), 0);
    assert_int_equal(events_of(&guest1, HOME(2) "/key", "spy"), 6);
    assert_int_equal(set_perms(&guest2, "key", "n2"), 0);
    assert_int_equal(events_of(&guest1, HOME(2) "/key", "spy"), 9);
    assert_int_equal(put(&guest2, "key", "hidden"), 0);
    assert_int_equal(rm(&guest2, "key"), 0);
    assert_int_equal(events_of(&guest1, HOME(2) "/key", "spy"), 9);
}

/* Nor of other domains' coming and going. */
static void xsa_115_special(void **state)
{
    static struct client guest3;

    (void)state;
    assert_int_equal(watch(&guest1, "@introduceDomain", "spy"), 0);
    assert_int_equal(watch(&guest1, "@releaseDomain", "spy"), 0);
    assert_int_equal(watch(&dom0, "@introduceDomain", "d"), 0);
    settle(&guest1);
    settle(&dom0);
    introduce(&guest3, 3);
    assert_int_equal(events_of(&dom0, "@introduceDomain", "d"), 1); /* control */
    release(&guest3);
    turn();
    receive(&guest1);
    assert_int_equal(guest1.nevents, 0);
}

/* Guests that keep changing what dom0's transaction reads cannot make it fail
 * for ever. */
static void xsa_206(void **state)
{
    int failures = 0, err = -EAGAIN;

    (void)state;
    assert_int_equal(put(&guest1, "hot", "0"), 0);
    for (; err == -EAGAIN && failures < 20; failures += err != 0) {
        uint32_t t = txn_begin(&dom0);
        assert_int_equal(get_in(&dom0, t, HOME(1) "/hot"), 0);
        /* The guest writes in each gap. */
        receive(&guest1);
        guest1.replied = false;
        send_request(&guest1, XS_WRITE, 0, "hot\0x", 5);
        turn();
        turn();
        assert_int_equal(put_in(&dom0, t, HOME(1) "/seen", "1"), 0);
        err = txn_end(&dom0, t, "T");
    }
    assert_int_equal(err, 0);
    assert_in_range(failures, 1, 5); /* it did conflict at first: the attack is real */
    assert_true(xsd_counted(XSD_COUNT_held_back) > 0);
    for (int i = 0; i < 10 && !guest1.replied; i++) {
        turn();
        receive(&guest1);
    }
    assert_true(guest1.replied); /* delayed, not lost */
    assert_int_equal(put(&guest1, "hot", "1"), 0);
}

/* A new domain inherits nothing from a dead one with the same domid. */
static void xsa_322(void **state)
{
    (void)state;
    assert_int_equal(put(&guest1, "private", "x"), 0);
    assert_int_equal(put(&dom0, "/outside", "x"), 0);
    assert_int_equal(set_perms(&dom0, "/outside", "n1"), 0);
    assert_int_equal(put(&guest2, "shared", "for domain 1"), 0);
    assert_int_equal(set_perms(&guest2, "shared", "n2 b1"), 0);
    assert_int_equal(get(&guest1, HOME(2) "/shared"), 0); /* control */

    release(&guest1);
    assert_int_equal(get(&dom0, HOME(1)), -ENOENT);
    assert_int_equal(get(&dom0, HOME(1) "/private"), -ENOENT);
    assert_int_equal(get(&dom0, "/outside"), -ENOENT);
    introduce(&guest1, 1);
    assert_int_equal(get(&guest1, HOME(2) "/shared"), -EACCES);
    assert_int_equal(put(&guest1, HOME(2) "/shared", "y"), -EACCES);
    assert_int_equal(get(&guest1, "private"), -EACCES);
    assert_int_equal(put(&guest1, "private", "y"), -EACCES);
    assert_int_equal(ask_path(&guest2, XS_GET_PERMS, 0, "shared"), 0);
    assert_string_equal(guest2.reply, "n2");
    assert_int_equal(guest2.h.len, 3);
}

/* The length that counts is that of the whole path. */
static void xsa_323(void **state)
{
    char path[XENSTORE_ABS_PATH_MAX + 2];

    (void)state;
    memset(path, 'a', sizeof(path));
    path[XENSTORE_REL_PATH_MAX] = '\0';
    assert_int_equal(put(&guest1, path, "x"), 0); /* control: the longest relative one */
    path[XENSTORE_REL_PATH_MAX] = 'a';
    path[XENSTORE_ABS_PATH_MAX - 5] = '\0'; /* would be too long once /local/domain/1/ is in front */
    assert_int_equal(put(&guest1, path, "x"), -EINVAL);
}

/* Token and path together may not be longer than a message. */
static void xsa_324(void **state)
{
    char token[XENSTORE_PAYLOAD_MAX], path[XENSTORE_ABS_PATH_MAX + 1];

    (void)state;
    memset(token, 't', sizeof(token));
    token[XSD_TOKEN_MAX + 1] = '\0';
    assert_int_equal(watch(&guest1, HOME(1), token), -E2BIG);
    token[XSD_TOKEN_MAX] = '\0';
    assert_int_equal(watch(&guest1, HOME(1), token), 0);
    settle(&guest1);
    /* The longest path there is, below: the event still fits, to the byte. */
    memset(path, 'p', sizeof(path));
    memcpy(path, HOME(1) "/", strlen(HOME(1) "/"));
    path[XENSTORE_ABS_PATH_MAX] = '\0';
    assert_int_equal(put(&guest1, path, "x"), 0);
    turn();
    receive(&guest1); /* digest() checks the event's form */
    assert_int_equal(guest1.nevents, 1);
    assert_false(guest1.closed);
}

/* A protocol violation ends the connection, not the domain: its release is
 * still told, and cleans up, when it really dies. */
static void xsa_325(void **state)
{
    struct xsd_sockmsg h = {.type = XS_READ, .len = 1u << 20};

    (void)state;
    assert_int_equal(put(&guest1, "node", "x"), 0);
    assert_int_equal(watch(&dom0, "@releaseDomain", "r"), 0);
    settle(&dom0);
    send_raw(&guest1, &h, sizeof(h));
    turn();
    turn();
    receive(&guest1);
    assert_true(guest1.closed);
    assert_int_equal(events_of(&dom0, "@releaseDomain", "r"), 0);
    assert_int_equal(ASK(&dom0, XS_IS_DOMAIN_INTRODUCED, "1"), 0);
    assert_string_equal(dom0.reply, "T");
    assert_int_equal(get(&dom0, HOME(1) "/node"), 0);
    release(&guest1);
    assert_int_equal(events_of(&dom0, "@releaseDomain", "r"), 1);
    assert_int_equal(get(&dom0, HOME(1) "/node"), -ENOENT);
}

/* Memory: requests whose replies are not read.  The store stops reading them,
 * and others are served as before. */
static void xsa_326_unread_replies(void **state)
{
    enum { AT_ONCE = 2 * XSD_BUDGET };
    struct xsd_sockmsg h = {.type = XS_READ, .len = 2};
    uint8_t messages[AT_ONCE][sizeof(h) + 2];
    char value[XSD_VALUE_GUEST + 1];
    uint64_t served, last = 0;
    unsigned quiet = 0;

    (void)state;
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    assert_int_equal(put(&guest1, "x", value), 0);
    for (int i = 0; i < AT_ONCE; i++) {
        memcpy(messages[i], &h, sizeof(h));
        memcpy(messages[i] + sizeof(h), "x", 2);
    }
    /* Until neither side moves any more. */
    for (int i = 0; i < 1000000 && quiet < 50; i++) {
        bool sent = send(guest1.fd, messages, sizeof(messages), MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
        turn();
        for (unsigned k = 0; k < XSD_CONNS; k++)
            assert_true(xsd_conn_at(k)->out_to <= XSD_OUT_BYTES);
        served = xsd_counted(XSD_COUNT_requests);
        quiet = !sent && served == last ? quiet + 1 : 0;
        last = served;
    }
    assert_int_equal(quiet, 50);
    assert_true(xsd_counted(XSD_COUNT_stalled) > 0);
    assert_int_equal(put(&guest2, "others", "served"), 0);
    assert_int_equal(put(&dom0, HOME(1) "/x", "still"), 0);
}

/* Memory: as many watches as allowed, then the removal of many nodes. */
static void xsa_326_watch_storm(void **state)
{
    char text[64];

    (void)state;
    for (unsigned i = 0; i < XSD_WATCHES_GUEST; i++) {
        snprintf(text, sizeof(text), "token-%u", i);
        assert_int_equal(watch(&guest1, HOME(1), text), 0);
    }
    for (unsigned i = 0; i < 500; i++) {
        snprintf(text, sizeof(text), "many/%u", i);
        assert_int_equal(put(&guest1, text, "x"), 0);
    }
    settle(&guest1);
    /* Not reading now: 256 watches, 1000 changes. */
    uint32_t blocks = xsd_account_of(1)->used[XSD_BLOCK];
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(text, sizeof(text), HOME(1) "/many/%u", i % 500);
        assert_int_equal(put(&dom0, text, "y"), 0);
    }
    assert_int_equal(rm(&dom0, HOME(1) "/many"), 0);
    assert_true(xsd_account_of(1)->used[XSD_BLOCK] < blocks);
    assert_true(xsd_counted(XSD_COUNT_events_merged) > 100000);
    /* Control: it reads, and each watch has been told. */
    guest1.nevents = 0;
    for (int i = 0; i < 200; i++) {
        turn();
        receive(&guest1);
    }
    assert_true(guest1.nevents >= XSD_WATCHES_GUEST);
}

/* Memory: RESET_WATCHES gives everything back, however often. */
static void xsa_330(void **state)
{
    uint32_t blocks = xsd_account_of(1)->used[XSD_BLOCK];

    (void)state;
    for (int round = 0; round < 1000; round++) {
        assert_int_equal(watch(&guest1, "some/path/that/is/longer/than/one/block", "token"), 0);
        (void)txn_begin(&guest1);
        assert_int_equal(ASK(&guest1, XS_RESET_WATCHES, ""), 0);
        assert_int_equal(xsd_account_of(1)->used[XSD_BLOCK], blocks);
    }
    assert_int_equal(xsd_account_of(1)->used[XSD_WATCH], 0);
}

/* An owner cannot give its node, and what it costs, to another. */
static void xsa_352(void **state)
{
    (void)state;
    assert_int_equal(put(&guest1, "mine", "x"), 0);
    assert_int_equal(set_perms(&guest1, "mine", "n2"), -EPERM);
    assert_int_equal(set_perms(&guest1, "mine", "n0"), -EPERM);
    uint32_t t = txn_begin(&guest1);
    assert_int_equal(chmod_in(&guest1, t, "mine", "n2"), -EPERM);
    assert_int_equal(txn_end(&guest1, t, "T"), 0);
    assert_int_equal(ask_path(&guest1, XS_GET_PERMS, 0, "mine"), 0);
    assert_string_equal(guest1.reply, "n1");
    assert_int_equal(set_perms(&guest1, "mine", "r1"), 0); /* control */
    assert_int_equal(set_perms(&dom0, HOME(1) "/mine", "n2"), 0);
}

/* The root has permissions like any node. */
static void xsa_353(void **state)
{
    (void)state;
    assert_int_equal(ask_path(&guest1, XS_DIRECTORY, 0, "/"), -EACCES);
    assert_int_equal(get(&guest1, "/"), -EACCES);
    assert_int_equal(put(&guest1, "/", "x"), -EACCES);
    assert_int_equal(set_perms(&guest1, "/", "b1"), -EACCES);
    assert_int_equal(put(&guest1, "/mine", "x"), -EACCES);
    assert_int_equal(ask_path(&dom0, XS_DIRECTORY, 0, "/"), 0); /* control */
    assert_int_equal(set_perms(&dom0, "/", "r0"), 0);
    assert_int_equal(ask_path(&guest1, XS_DIRECTORY, 0, "/"), 0);
}

/* A creation that fails for want of room, with parents to be made, leaves no
 * part of itself: no crash (414), no orphan (415). */
static void xsa_414_415(void **state)
{
    char path[64];
    int err = 0;

    (void)state;
    for (unsigned i = 0; !err; i++) {
        snprintf(path, sizeof(path), "n%u", i);
        err = ask_path(&guest1, XS_MKDIR, 0, path);
    }
    assert_int_equal(rm(&guest1, "n7"), 0); /* room for one, not for four */
    uint32_t nodes = xsd_account_of(1)->used[XSD_NODE], blocks = xsd_account_of(1)->used[XSD_BLOCK];
    assert_int_equal(ask_path(&guest1, XS_MKDIR, 0, "a/b/c/d"), -ENOSPC);
    assert_int_equal(put(&guest1, "a/b", "x"), -ENOSPC);
    uint32_t t = txn_begin(&guest1);
    assert_int_equal(put_in(&guest1, t, "a/b/c/d", "x"), 0);
    assert_int_equal(txn_end(&guest1, t, "T"), -ENOSPC);
    assert_int_equal(get(&guest1, "a"), -ENOENT);
    assert_int_equal(xsd_account_of(1)->used[XSD_NODE], nodes);
    assert_int_equal(xsd_account_of(1)->used[XSD_BLOCK], blocks);
    assert_int_equal(put(&guest1, "a", "x"), 0); /* control: the one there was room for */
}

/* Permissions given to a domid that is no domain do not wait for the next one. */
static void xsa_417(void **state)
{
    static struct client guest3;

    (void)state;
    assert_int_equal(put(&guest2, "open", "secret"), 0);
    assert_int_equal(set_perms(&guest2, "open", "n2 b3"), 0); /* no telling which domains exist */
    assert_int_equal(set_perms(&dom0, HOME(2) "/open", "n2 b3"), -EINVAL);
    assert_int_equal(set_perms(&dom0, HOME(2) "/open", "n3"), -EINVAL);
    uint32_t t = txn_begin(&dom0);
    assert_int_equal(put_in(&dom0, t, "/later", "x"), 0);
    assert_int_equal(chmod_in(&dom0, t, "/later", "n0 b1"), 0);
    release(&guest1); /* named in a transaction that is still open */
    assert_int_equal(txn_end(&dom0, t, "T"), -EAGAIN);
    introduce(&guest3, 3);
    introduce(&guest1, 1);
    assert_int_equal(get(&guest3, HOME(2) "/open"), -EACCES);
    assert_int_equal(put(&guest3, HOME(2) "/open", "x"), -EACCES);
    assert_int_equal(get(&guest1, "/later"), -EACCES);
    assert_int_equal(set_perms(&guest2, "open", "n2 b3"), 0); /* control: now there is one */
    assert_int_equal(get(&guest3, HOME(2) "/open"), 0);
    release(&guest3);
}

/* Depth costs no stack: the deepest tree there can be, removed in one go. */
static void xsa_418(void **state)
{
    char path[XENSTORE_ABS_PATH_MAX + 1];
    size_t n = strlen(HOME(1));

    (void)state;
    memcpy(path, HOME(1), n);
    for (; n + 2 <= XENSTORE_ABS_PATH_MAX; n += 2)
        memcpy(path + n, "/d", 2);
    path[n] = '\0';
    assert_int_equal(put(&guest1, path, "bottom"), 0);
    assert_int_equal(get(&guest1, path), 0);
    assert_string_equal(guest1.reply, "bottom");
    assert_true(xsd_account_of(1)->used[XSD_NODE] > 1500);
    assert_int_equal(rm(&guest1, "d"), 0);
    assert_int_equal(xsd_account_of(1)->used[XSD_NODE], 1);
    assert_int_equal(put(&guest1, path, "bottom"), 0);
    release(&guest1); /* and by the death of its owner */
    assert_int_equal(get(&dom0, HOME(1)), -ENOENT);
}

/* Two guests together cannot make nodes without end, nor ones that outlive
 * them: what one makes in the other's home is its own, and dies with it. */
static void xsa_419(void **state)
{
    char path[64];
    int err = 0;
    unsigned made = 0;

    (void)state;
    assert_int_equal(set_perms(&guest1, HOME(1), "n1 b2"), 0);
    for (; !err && made < 10000; made += !err) {
        snprintf(path, sizeof(path), HOME(1) "/x%u", made);
        err = put(&guest2, path, "");
    }
    assert_int_equal(err, -ENOSPC);
    assert_int_equal(made, XSD_NODES_GUEST - 1);
    assert_int_equal(xsd_account_of(1)->used[XSD_NODE], 1);
    release(&guest2);
    assert_int_equal(ask_path(&guest1, XS_DIRECTORY, 0, HOME(1)), 0);
    assert_int_equal(guest1.h.len, 0);
    introduce(&guest2, 2);
    assert_int_equal(put(&guest2, HOME(1) "/x", ""), -EACCES); /* its right went too */
}

/* A node made and removed in one transaction is no trouble at its end, and
 * the count stays true. */
static void xsa_421(void **state)
{
    uint32_t nodes = xsd_account_of(1)->used[XSD_NODE];

    (void)state;
    for (int i = 0; i < 100; i++) {
        uint32_t t = txn_begin(&guest1);
        assert_int_equal(put_in(&guest1, t, "brief/life", "x"), 0);
        assert_int_equal(ask_path(&guest1, XS_RM, t, "brief"), 0);
        assert_int_equal(put_in(&guest1, t, "kept", "x"), 0);
        assert_int_equal(txn_end(&guest1, t, "T"), 0);
        assert_int_equal(xsd_account_of(1)->used[XSD_NODE], nodes + 1);
        assert_int_equal(get(&guest1, "brief"), -ENOENT);
        assert_int_equal(get(&guest1, "kept"), 0);
        assert_int_equal(xsd_account_of(1)->used[XSD_ENTRY], 0);
    }
}

/* Transactions cannot get past the share of nodes either. */
static void xsa_421_quota(void **state)
{
    char path[64];
    int err = 0;

    (void)state;
    for (unsigned round = 0; !err && round < 100; round++) {
        uint32_t t = txn_begin(&guest1);
        for (unsigned i = 0; i < 100; i++) {
            snprintf(path, sizeof(path), "r%u/%u", round, i);
            assert_int_equal(ask_path(&guest1, XS_MKDIR, t, path), 0);
        }
        err = txn_end(&guest1, t, "T");
    }
    assert_int_equal(err, -ENOSPC);
    assert_true(xsd_account_of(1)->used[XSD_NODE] > XSD_NODES_GUEST / 2);
    assert_true(xsd_account_of(1)->used[XSD_NODE] <= XSD_NODES_GUEST);
}

/* RELEASE by way of the protocol is the core's alone; nothing breaks. */
static void xsa_425(void **state)
{
    (void)state;
    assert_int_equal(ASK(&guest1, XS_RELEASE, "1"), -EACCES);
    assert_int_equal(ASK(&dom0, XS_RELEASE, "1"), -ENOSYS);
    assert_int_equal(put(&guest1, "alive", "x"), 0);
}

/* Nodes removed outside while a transaction creates: the count never goes
 * below nothing. */
static void xsa_440(void **state)
{
    (void)state;
    assert_int_equal(put(&guest1, "a/1", ""), 0);
    assert_int_equal(put(&guest1, "b/1", ""), 0);
    uint32_t t = txn_begin(&guest1);
    assert_int_equal(ask_path(&guest1, XS_RM, t, "a"), 0);
    assert_int_equal(put_in(&guest1, t, "c", ""), 0);
    assert_int_equal(rm(&guest1, "b"), 0);
    assert_int_equal(rm(&dom0, HOME(1) "/a"), 0);
    assert_int_equal(txn_end(&guest1, t, "T"), -EAGAIN);
    assert_int_equal(xsd_account_of(1)->used[XSD_NODE], 1);
    assert_int_equal(xsd_account_of(1)->used[XSD_BLOCK], 1);
}

/* The node path "/local/domain/". */
static void xsa_481(void **state)
{
    (void)state;
    assert_int_equal(get(&guest1, "/local/domain/"), -EINVAL);
    assert_int_equal(watch(&guest1, "/local/domain/", "t"), -EINVAL);
    assert_int_equal(get(&guest1, "/local/domain"), -EACCES);
    assert_int_equal(put(&guest1, "alive", "x"), 0);
}

/* RESET_WATCHES with a transaction's id. */
static void cve_2026_23557(void **state)
{
    (void)state;
    uint32_t t = txn_begin(&guest1);
    assert_int_equal(put_in(&guest1, t, "x", "y"), 0);
    assert_int_equal(ask_in(&guest1, XS_RESET_WATCHES, t, "", 1), 0);
    assert_int_equal(txn_end(&guest1, t, "T"), -ENOENT);
    assert_int_equal(get(&guest1, "x"), -ENOENT);
    assert_int_equal(put(&guest1, "alive", "x"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(xsa_72),
        TEST(xsa_115_watch),
        TEST(xsa_115_special),
        TEST(xsa_206),
        TEST(xsa_322),
        TEST(xsa_323),
        TEST(xsa_324),
        TEST(xsa_325),
        TEST(xsa_326_unread_replies),
        TEST(xsa_326_watch_storm),
        TEST(xsa_330),
        TEST(xsa_352),
        TEST(xsa_353),
        TEST(xsa_414_415),
        TEST(xsa_417),
        TEST(xsa_418),
        TEST(xsa_419),
        TEST(xsa_421),
        TEST(xsa_421_quota),
        TEST(xsa_425),
        TEST(xsa_440),
        TEST(xsa_481),
        TEST(cve_2026_23557),
    };

    return cmocka_run_group_tests_name("store_xsa", tests, NULL, NULL);
}
