/* SPDX-License-Identifier: MIT */
/*
 * The client of store.h: against the real store, which turns in a thread of
 * its own, and against a store that breaks the protocol.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <xen/io/xs_wire.h>

#include "hyp-shim/local/proto.h"
#include "hyp-shim/local/store/server.h"
#include "tests/store_control.h"
#include "hyp-shim/store.h"

static struct {
    pthread_t thread;
    int control;
    struct store *dom0, *guest;
} world;

static void *serve(void *arg)
{
    (void)arg;
    while (!store_server_turn(-1))
        ;
    store_server_end();
    return NULL;
}

static void introduce(domid_t domid, struct store **st)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_true(store_control_say(world.control, STORE_CONTROL_INTRODUCE, domid, pair[1], 0));
    close(pair[1]);
    assert_int_equal(store_open_fd(st, pair[0]), 0);
}

static int begin(void **state)
{
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    world.control = pair[0];
    assert_int_equal(store_server_init(pair[1], -1), 0);
    assert_int_equal(pthread_create(&world.thread, NULL, serve, NULL), 0);
    introduce(0, &world.dom0);
    introduce(3, &world.guest);
    assert_int_equal(store_mkdir(world.dom0, STORE_NO_TXN, "/local/domain/3"), 0);
    const struct store_perm owner = {.domid = 3, .access = 'n'};
    assert_int_equal(store_set_perms(world.dom0, STORE_NO_TXN, "/local/domain/3", &owner, 1), 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    store_close(world.dom0);
    store_close(world.guest);
    close(world.control);
    pthread_join(world.thread, NULL);
    return 0;
}

static bool is_readable(const struct store *st, int ms)
{
    struct pollfd p = {.fd = store_fd(st), .events = POLLIN};

    return poll(&p, 1, ms) == 1 && (p.revents & POLLIN);
}

static void reads_and_writes(void **state)
{
    char buf[STORE_VALUE_MAX];

    (void)state;
    assert_int_equal(store_write(world.dom0, STORE_NO_TXN, "/a/b", "value"), 0);
    assert_int_equal(store_read(world.dom0, STORE_NO_TXN, "/a/b", buf, sizeof(buf)), 5);
    assert_string_equal(buf, "value");
    assert_int_equal(store_read(world.dom0, STORE_NO_TXN, "/a/b", buf, 6), 5); /* just fits */
    assert_int_equal(store_read(world.dom0, STORE_NO_TXN, "/a/b", buf, 5), -E2BIG);
    assert_int_equal(store_read(world.dom0, STORE_NO_TXN, "/a/c", buf, sizeof(buf)), -ENOENT);
    assert_int_equal(store_read(world.guest, STORE_NO_TXN, "/a/b", buf, sizeof(buf)), -EACCES);
    assert_int_equal(store_read(world.dom0, STORE_NO_TXN, "bad path", buf, sizeof(buf)), -EINVAL);
    assert_int_equal(store_rm(world.dom0, STORE_NO_TXN, "/a"), 0);
    assert_int_equal(store_rm(world.dom0, STORE_NO_TXN, "/a/b"), -ENOENT);
}

/* A NUL inside a value: what one reader takes for the whole, another does not. */
static void a_nul_inside_is_refused(void **state)
{
    char buf[64];
    int pair[2];
    struct store *st;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(store_open_fd(&st, pair[0]), 0);
    struct xsd_sockmsg reply = {.type = XS_READ, .req_id = 1, .len = 3};
    assert_int_equal(write(pair[1], &reply, sizeof(reply)), sizeof(reply));
    assert_int_equal(write(pair[1], "v\0w", 3), 3);
    assert_int_equal(store_read(st, STORE_NO_TXN, "x", buf, sizeof(buf)), -EILSEQ);
    store_close(st);
    close(pair[1]);
}

static void numbers(void **state)
{
    static const struct {
        const char *text;
        uint64_t max, want;
        int err;
    } cases[] = {
        {"0", 0, 0, 0},
        {"7", 7, 7, 0},
        {"8", 7, 0, -EINVAL},
        {"18446744073709551615", UINT64_MAX, UINT64_MAX, 0},
        {"18446744073709551616", UINT64_MAX, 0, -EINVAL},
        {"99999999999999999999999", UINT64_MAX, 0, -EINVAL},
        {"4294967296", UINT32_MAX, 0, -EINVAL},
        {"", 9, 0, -EINVAL},
        {"-1", 9, 0, -EINVAL},
        {"+1", 9, 0, -EINVAL},
        {" 1", 9, 0, -EINVAL},
        {"1 ", 9, 0, -EINVAL},
        {"0x1", 9, 0, -EINVAL},
        {"1\n", 9, 0, -EINVAL},
        {"0000000000000000000000000001", 9, 0, -EINVAL}, /* longer than any number */
        {"10", 9, 0, -EINVAL},
    };
    uint64_t v = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(store_printf(world.dom0, STORE_NO_TXN, "/n", "k", "%s", cases[i].text), 0);
        int err = store_read_number(world.dom0, STORE_NO_TXN, "/n", "k", cases[i].max, &v);
        if (err != cases[i].err || (!err && v != cases[i].want))
            fail_msg("\"%s\": %d", cases[i].text, err);
    }
    assert_int_equal(store_read_number(world.dom0, STORE_NO_TXN, "/n", "none", 9, &v), -ENOENT);
}

static void long_directories(void **state)
{
    static char names[65536];
    char key[32];
    const char *at = names;

    (void)state;
    for (int i = 0; i < 700; i++) {
        snprintf(key, sizeof(key), "a-child-%d", i);
        assert_int_equal(store_printf(world.dom0, STORE_NO_TXN, "/dir", key, "%d", i), 0);
    }
    assert_int_equal(store_directory(world.dom0, STORE_NO_TXN, "/dir", names, sizeof(names)), 700);
    for (int i = 0; i < 700; i++, at += strlen(at) + 1) {
        snprintf(key, sizeof(key), "a-child-%d", i);
        assert_string_equal(at, key);
    }
    assert_int_equal(store_directory(world.dom0, STORE_NO_TXN, "/dir", names, 5000), -E2BIG);
    assert_int_equal(store_directory(world.dom0, STORE_NO_TXN, "/dir/a-child-1", names, 10), 0);
    assert_int_equal(store_directory(world.dom0, STORE_NO_TXN, "/", names, 10), 2); /* "local\0dir\0" */
    assert_int_equal(store_directory(world.dom0, STORE_NO_TXN, "/", names, 9), -E2BIG);
}

static void too_long_to_say(void **state)
{
    static char path[XENSTORE_PAYLOAD_MAX + 10];

    (void)state;
    memset(path, 'a', sizeof(path) - 1);
    path[0] = '/';
    assert_int_equal(store_write(world.dom0, STORE_NO_TXN, path, "v"), -E2BIG);
    assert_int_equal(store_printf(world.dom0, STORE_NO_TXN, path, "k", "v"), -ENAMETOOLONG);
    assert_int_equal(store_printf(world.dom0, STORE_NO_TXN, "/p", "k", "%2000d", 1), -E2BIG);
    assert_int_equal(store_watch(world.dom0, path, "t"), -ENAMETOOLONG);
    path[40] = '\0';
    assert_int_equal(store_watch(world.dom0, "/p", path), -ENAMETOOLONG);
    assert_int_equal(store_set_perms(world.dom0, STORE_NO_TXN, "/p", NULL, 0), -EINVAL);
}

static void transactions(void **state)
{
    char buf[16];
    store_txn t;

    (void)state;
    assert_int_equal(store_txn_begin(world.dom0, &t), 0);
    assert_int_equal(store_write(world.dom0, t, "/t", "1"), 0);
    assert_int_equal(store_read(world.dom0, STORE_NO_TXN, "/t", buf, sizeof(buf)), -ENOENT);
    assert_int_equal(store_write(world.dom0, STORE_NO_TXN, "/t", "2"), 0);
    assert_int_equal(store_txn_commit(world.dom0, t), -EAGAIN);
    assert_int_equal(store_txn_begin(world.dom0, &t), 0);
    assert_int_equal(store_write(world.dom0, t, "/t", "3"), 0);
    assert_int_equal(store_txn_commit(world.dom0, t), 0);
    assert_int_equal(store_read(world.dom0, STORE_NO_TXN, "/t", buf, sizeof(buf)), 1);
    assert_string_equal(buf, "3");
    assert_int_equal(store_txn_begin(world.dom0, &t), 0);
    assert_int_equal(store_rm(world.dom0, t, "/t"), 0);
    store_txn_abort(world.dom0, t);
    assert_int_equal(store_read(world.dom0, STORE_NO_TXN, "/t", buf, sizeof(buf)), 1);
}

static void next_is(struct store *st, const char *path, const char *token)
{
    struct store_event ev;

    assert_true(is_readable(st, 10000));
    assert_int_equal(store_next_event(st, &ev), 1);
    assert_string_equal(ev.path, path);
    assert_string_equal(ev.token, token);
}

/* An event that came while a call waited for its reply is not lost, and the
 * descriptor tells of it though the socket has nothing more to read. */
static void events_during_a_call(void **state)
{
    struct store_event ev;
    char buf[16];

    (void)state;
    assert_int_equal(store_watch(world.guest, "x", "tok"), 0);
    next_is(world.guest, "x", "tok");
    assert_int_equal(store_next_event(world.guest, &ev), 0);
    assert_false(is_readable(world.guest, 0));
    assert_int_equal(store_write(world.dom0, STORE_NO_TXN, "/local/domain/3/x/y", "1"), 0);
    assert_int_equal(store_write(world.dom0, STORE_NO_TXN, "/local/domain/3/x/y", "2"), 0);
    assert_int_equal(store_read(world.guest, STORE_NO_TXN, "x/y", buf, sizeof(buf)), 1);
    next_is(world.guest, "x/y", "tok"); /* two of the same became one */
    assert_int_equal(store_next_event(world.guest, &ev), 0);
    assert_false(is_readable(world.guest, 0));
    assert_int_equal(store_unwatch(world.guest, "x", "tok"), 0);
    assert_int_equal(store_unwatch(world.guest, "x", "tok"), -ENOENT);
}

static void too_many_events_become_one(void **state)
{
    struct store_event ev;
    char key[16];

    (void)state;
    assert_int_equal(store_watch(world.dom0, "/many", "t"), 0);
    for (int i = 0; i <= STORE_EVENTS_MAX; i++) {
        snprintf(key, sizeof(key), "%d", i);
        assert_int_equal(store_printf(world.dom0, STORE_NO_TXN, "/many", key, "x"), 0);
    }
    next_is(world.dom0, "", "");
    assert_int_equal(store_next_event(world.dom0, &ev), 0);
    /* A path longer than we use: look at everything again. */
    char path[STORE_PATH_MAX + 8];
    memset(path, 'a', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    memcpy(path, "/many/", 6);
    assert_int_equal(store_write(world.dom0, STORE_NO_TXN, path, ""), 0);
    next_is(world.dom0, "", "");
    assert_int_equal(store_printf(world.dom0, STORE_NO_TXN, "/many", "z", "x"), 0);
    next_is(world.dom0, "/many/z", "t");
}

static void the_store_goes(void **state)
{
    struct store_event ev;
    struct store *st;
    char buf[8];
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(store_open_fd(&st, pair[0]), 0);
    assert_int_equal(store_next_event(st, &ev), 0);
    close(pair[1]);
    assert_true(is_readable(st, 1000));
    assert_int_equal(store_next_event(st, &ev), -ENOTCONN);
    assert_int_equal(store_read(st, STORE_NO_TXN, "x", buf, sizeof(buf)), -ENOTCONN);
    store_close(st);
}

/* What breaks the protocol breaks the connection, and nothing else. */
static void a_store_that_talks_nonsense(void **state)
{
    static const struct {
        struct xsd_sockmsg h;
        char payload[8];
    } cases[] = {
        {{.type = XS_READ, .req_id = 1, .len = XENSTORE_PAYLOAD_MAX + 1}, ""},
        {{.type = XS_READ, .req_id = 2, .len = 0}, ""},        /* not what was asked */
        {{.type = XS_WRITE, .req_id = 1, .len = 3}, "OK"},     /* another kind */
        {{.type = XS_WATCH_EVENT, .len = 0}, ""},              /* no path */
        {{.type = XS_WATCH_EVENT, .len = 4}, "abcd"},          /* no NUL */
        {{.type = XS_WATCH_EVENT, .len = 3}, "ab"},            /* no token */
        {{.type = XS_WATCH_EVENT, .len = 5}, "a\0bcd"},        /* token without NUL */
        {{.type = XS_WATCH_EVENT, .len = 6}, "a\0b\0c"},       /* one too many */
    };
    struct store_event ev;
    char buf[8];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct store *st;
        int pair[2];
        uint8_t message[sizeof(struct xsd_sockmsg) + sizeof(cases[0].payload)];
        size_t n = cases[i].h.len <= sizeof(cases[0].payload) ? cases[i].h.len : 0;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        assert_int_equal(store_open_fd(&st, pair[0]), 0);
        memcpy(message, &cases[i].h, sizeof(cases[i].h));
        memcpy(message + sizeof(cases[i].h), cases[i].payload, n);
        assert_int_equal(write(pair[1], message, sizeof(cases[i].h) + n), sizeof(cases[i].h) + n);
        assert_int_equal(store_read(st, STORE_NO_TXN, "x", buf, sizeof(buf)), -ENOTCONN);
        assert_int_equal(store_next_event(st, &ev), -ENOTCONN);
        store_close(st);
        close(pair[1]);
    }
}

static void error_names(void **state)
{
    struct store *st;
    int pair[2];
    uint32_t id = 0;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(store_open_fd(&st, pair[0]), 0);
    for (size_t i = 0; i <= sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++) {
        bool known = i < sizeof(xsd_errors) / sizeof(xsd_errors[0]);
        const char *name = known ? xsd_errors[i].errstring : "ENONSENSE";
        struct xsd_sockmsg h = {.type = XS_ERROR, .req_id = ++id, .len = (uint32_t)strlen(name) + 1};
        assert_int_equal(write(pair[1], &h, sizeof(h)), sizeof(h));
        assert_int_equal(write(pair[1], name, h.len), h.len);
        assert_int_equal(store_rm(st, STORE_NO_TXN, "x"), known ? -xsd_errors[i].errnum : -EIO);
    }
    store_close(st);
    close(pair[1]);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_and_writes),
        cmocka_unit_test(a_nul_inside_is_refused),
        TEST(numbers),
        TEST(long_directories),
        TEST(too_long_to_say),
        TEST(transactions),
        TEST(events_during_a_call),
        TEST(too_many_events_become_one),
        cmocka_unit_test(the_store_goes),
        cmocka_unit_test(a_store_that_talks_nonsense),
        cmocka_unit_test(error_names),
    };

    return cmocka_run_group_tests_name("store_client", tests, NULL, NULL);
}
