/* SPDX-License-Identifier: MIT */
/* Watches: who hears of what, and what becomes of events that no one reads. */
#include "hyp-shim/local/store/conn.h"
#include "test_store.h"

static void begins_with_an_event(void **state)
{
    (void)state;
    assert_int_equal(watch(&dom0, "/not/there", "tok"), 0);
    assert_int_equal(events_of(&dom0, "/not/there", "tok"), 1);
    assert_int_equal(watch(&dom0, "/not/there", "tok"), -EEXIST);
    assert_int_equal(watch(&dom0, "/not/there", "tok2"), 0);
    assert_int_equal(watch(&dom0, "/", "root"), 0);
    assert_int_equal(events_of(&dom0, "/", "root"), 1);
    assert_int_equal(ASK(&dom0, XS_UNWATCH, "/not/there\0tok"), 0);
    assert_int_equal(ASK(&dom0, XS_UNWATCH, "/not/there\0tok"), -ENOENT);
    assert_int_equal(ASK(&dom0, XS_UNWATCH, "/not\0tok2"), -ENOENT);
    settle(&dom0);
    assert_int_equal(put(&dom0, "/not/there", ""), 0);
    assert_int_equal(events_of(&dom0, "/not/there", "tok"), 0);
    assert_int_equal(events_of(&dom0, "/not/there", "tok2"), 1);
    assert_int_equal(events_of(&dom0, "/not/there", "root"), 1);
    assert_int_equal(dom0.nevents, 2);
}

static void hears_of_what_is_below(void **state)
{
    (void)state;
    assert_int_equal(watch(&dom0, "/w/a", "t"), 0);
    settle(&dom0);
    assert_int_equal(put(&dom0, "/w/a/b/c", "1"), 0);
    assert_int_equal(put(&dom0, "/w/a", "1"), 0);
    assert_int_equal(put(&dom0, "/w/ab", "1"), 0); /* not below */
    assert_int_equal(put(&dom0, "/w", "1"), 0);    /* above */
    assert_int_equal(set_perms(&dom0, "/w/a/b", "r0"), 0);
    assert_int_equal(ask_path(&dom0, XS_MKDIR, 0, "/w/a/d"), 0);
    assert_int_equal(ask_path(&dom0, XS_MKDIR, 0, "/w/a/d"), 0); /* changes nothing */
    assert_int_equal(events_of(&dom0, "/w/a/b/c", "t"), 1);
    assert_int_equal(events_of(&dom0, "/w/a", "t"), 1);
    assert_int_equal(events_of(&dom0, "/w/a/b", "t"), 1);
    assert_int_equal(events_of(&dom0, "/w/a/d", "t"), 1);
    assert_int_equal(dom0.nevents, 4);
}

static void relative_stays_relative(void **state)
{
    (void)state;
    assert_int_equal(watch(&guest1, "device", "rel"), 0);
    assert_int_equal(watch(&guest1, HOME(1) "/device", "abs"), 0);
    assert_int_equal(events_of(&guest1, "device", "rel"), 1);
    settle(&guest1);
    assert_int_equal(put(&guest1, "device/vbd/1", "x"), 0);
    assert_int_equal(events_of(&guest1, "device/vbd/1", "rel"), 1);
    assert_int_equal(events_of(&guest1, HOME(1) "/device/vbd/1", "abs"), 1);
}

static void removal_tells_each_side_its_own(void **state)
{
    (void)state;
    assert_int_equal(put(&dom0, "/w/a/b/c", "1"), 0);
    assert_int_equal(put(&dom0, "/w/a/b/d", "1"), 0);
    assert_int_equal(watch(&dom0, "/w", "above"), 0);
    assert_int_equal(watch(&dom0, "/w/a", "top"), 0);
    assert_int_equal(watch(&dom0, "/w/a/b/c", "below"), 0);
    assert_int_equal(watch(&dom0, "/w/a/b/none", "none"), 0);
    settle(&dom0);
    assert_int_equal(rm(&dom0, "/w/a"), 0);
    assert_int_equal(events_of(&dom0, "/w/a", "above"), 1);
    assert_int_equal(events_of(&dom0, "/w/a", "top"), 1);
    assert_int_equal(events_of(&dom0, "/w/a/b/c", "below"), 1);
    assert_int_equal(dom0.nevents, 3);
}

static void a_transaction_tells_at_its_end(void **state)
{
    (void)state;
    assert_int_equal(put(&dom0, "/w/old", ""), 0);
    assert_int_equal(watch(&guest1, HOME(1), "g"), 0);
    assert_int_equal(watch(&dom0, "/w", "t"), 0);
    settle(&dom0);
    uint32_t t = txn_begin(&dom0);
    assert_int_equal(put_in(&dom0, t, "/w/x", "1"), 0);
    assert_int_equal(ask_path(&dom0, XS_RM, t, "/w/old"), 0);
    assert_int_equal(get_in(&dom0, t, "/w"), 0); /* reading is no event */
    assert_int_equal(events_of(&dom0, "/w/x", "t"), 0);
    assert_int_equal(txn_end(&dom0, t, "T"), 0);
    assert_int_equal(events_of(&dom0, "/w/x", "t"), 1);
    assert_int_equal(events_of(&dom0, "/w/old", "t"), 1);
    assert_int_equal(dom0.nevents, 2);

    settle(&dom0);
    t = txn_begin(&dom0);
    assert_int_equal(put_in(&dom0, t, "/w/y", "1"), 0);
    assert_int_equal(txn_end(&dom0, t, "F"), 0);
    assert_int_equal(events_of(&dom0, "/w/y", "t"), 0);
}

static void domains_come_and_go(void **state)
{
    static struct client guest3;

    (void)state;
    assert_int_equal(watch(&dom0, "@introduceDomain", "in"), 0);
    assert_int_equal(watch(&dom0, "@releaseDomain", "out"), 0);
    assert_int_equal(watch(&dom0, "@neither", "no"), 0);
    assert_int_equal(events_of(&dom0, "@introduceDomain", "in"), 1);
    settle(&dom0);
    introduce(&guest3, 3);
    assert_int_equal(events_of(&dom0, "@introduceDomain", "in"), 1);
    assert_int_equal(events_of(&dom0, "@releaseDomain", "out"), 0);
    release(&guest3);
    assert_int_equal(events_of(&dom0, "@releaseDomain", "out"), 1);
    assert_int_equal(dom0.nevents, 2);
    assert_int_equal(get(&dom0, "@introduceDomain"), -EINVAL); /* no node */
}

static void a_share_of_watches(void **state)
{
    char token[32];
    int err = 0;
    unsigned made = 0;

    (void)state;
    for (; !err && made < 10 * XSD_WATCHES_GUEST; made += !err) {
        snprintf(token, sizeof(token), "t%u", made);
        err = watch(&guest1, "here", token);
    }
    assert_int_equal(err, -ENOSPC);
    assert_int_equal(made, XSD_WATCHES_GUEST);
    assert_int_equal(watch(&guest2, "here", "t"), 0);
    settle(&guest1);
    assert_int_equal(put(&guest1, "here", "x"), 0);
    turn();
    receive(&guest1);
    assert_int_equal(guest1.nevents, XSD_WATCHES_GUEST);
    assert_int_equal(ASK(&guest1, XS_RESET_WATCHES, ""), 0);
    assert_int_equal(xsd_account_of(1)->used[XSD_WATCH], 0);
    settle(&guest1);
    assert_int_equal(put(&guest1, "here", "y"), 0);
    turn();
    receive(&guest1);
    assert_int_equal(guest1.nevents, 0);
}

/* A reader that was away learns, for each watch, that something changed. */
static void events_merge_when_no_one_reads(void **state)
{
    char path[64];

    (void)state;
    assert_int_equal(watch(&guest1, "", ""), -EINVAL);
    assert_int_equal(watch(&guest1, HOME(1), "one"), 0);
    assert_int_equal(watch(&guest1, HOME(1) "/d", "two"), 0);
    settle(&guest1);
    for (int i = 0; i < 100000; i++) {
        snprintf(path, sizeof(path), HOME(1) "/d/%d", i % 50);
        assert_int_equal(put(&dom0, path, "x"), 0);
    }
    assert_true(xsd_counted(XSD_COUNT_events_merged) > 0);
    settle(&dom0);
    /* It reads at last: a bounded number of events, and one for what was merged. */
    guest1.nevents = 0;
    for (int i = 0; i < 100; i++) {
        turn();
        receive(&guest1);
    }
    assert_true(guest1.nevents > 2);
    assert_true(guest1.nevents < 20000);
    assert_true(events_of(&guest1, HOME(1), "one") == 1 || guest1.nevents > EVENTS_KEPT);
    /* And then everything is as before. */
    guest1.nevents = 0;
    assert_int_equal(put(&dom0, HOME(1) "/d/7", "x"), 0);
    assert_int_equal(events_of(&guest1, HOME(1) "/d/7", "one"), 1);
    assert_int_equal(events_of(&guest1, HOME(1) "/d/7", "two"), 1);
}

/* A request's own events, to a client that does not read, never take the room
 * of its reply: what arrives at last is whole, and each request is answered. */
static void own_events_leave_room_for_the_reply(void **state)
{
    enum { WATCHES = 200, REQUESTS = 150 };
    static uint8_t stream[8 << 20];
    char token[16];
    size_t have = 0, at = 0;
    unsigned replies = 0, events = 0;
    struct xsd_sockmsg h;

    (void)state;
    for (unsigned i = 0; i < WATCHES; i++) {
        snprintf(token, sizeof(token), "%u", i);
        assert_int_equal(watch(&guest1, "self", token), 0);
    }
    settle(&guest1);
    uint32_t first = guest1.req_id + 1;
    for (unsigned i = 0; i < REQUESTS; i++) {
        send_request(&guest1, XS_WRITE, 0, "self\0v", 6);
        turn();
        for (unsigned k = 0; k < XSD_CONNS; k++)
            assert_true(xsd_conn_at(k)->out_to <= XSD_OUT_BYTES);
    }
    for (int idle = 0; idle < 3;) {
        ssize_t n = recv(guest1.fd, stream + have, sizeof(stream) - have, MSG_DONTWAIT);
        idle = n > 0 ? 0 : idle + 1;
        have += n > 0 ? (size_t)n : 0;
        turn();
    }
    for (; have - at >= sizeof(h); at += sizeof(h) + h.len) {
        memcpy(&h, stream + at, sizeof(h));
        assert_true(h.len <= XENSTORE_PAYLOAD_MAX && h.len <= have - at - sizeof(h));
        if (h.type == XS_WATCH_EVENT) {
            assert_string_equal(stream + at + sizeof(h), "self");
            events++;
        } else {
            assert_int_equal(h.type, XS_WRITE);
            assert_int_equal(h.req_id, first + replies);
            replies++;
        }
    }
    assert_int_equal(at, have);
    assert_int_equal(replies, REQUESTS);
    assert_true(events >= WATCHES);
    assert_true(xsd_counted(XSD_COUNT_events_merged) > 0); /* the buffer was full: it was a test */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(begins_with_an_event),
        TEST(hears_of_what_is_below),
        TEST(relative_stays_relative),
        TEST(removal_tells_each_side_its_own),
        TEST(a_transaction_tells_at_its_end),
        TEST(domains_come_and_go),
        TEST(a_share_of_watches),
        TEST(events_merge_when_no_one_reads),
        TEST(own_events_leave_room_for_the_reply),
    };

    return cmocka_run_group_tests_name("store_watch", tests, NULL, NULL);
}
