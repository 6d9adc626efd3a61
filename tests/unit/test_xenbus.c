/* SPDX-License-Identifier: MIT */
/* The handshake of both sides over a real store in a thread of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hyp-shim/local/proto.h"
#include "hyp-shim/local/store/server.h"
#include "tests/store_control.h"
#include "hyp-shim/xenbus.h"

#define BE 2
#define FE 3
#define DEV 51712
#define B_DIR "/local/domain/2/backend/vbd/3/51712"
#define F_DIR "/local/domain/3/device/vbd/51712"

static pthread_t thread;
static int control;
static struct store *dom0, *back, *front;
static struct xenbus_device be, fe;

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
    assert_true(store_control_say(control, STORE_CONTROL_INTRODUCE, domid, pair[1], 0));
    close(pair[1]);
    assert_int_equal(store_open_fd(st, pair[0]), 0);
}

static void put(const char *path, const char *value, domid_t owner, domid_t reader)
{
    const struct store_perm perms[] = {{owner, 'n'}, {reader, 'r'}};

    assert_int_equal(store_write(dom0, STORE_NO_TXN, path, value), 0);
    assert_int_equal(store_set_perms(dom0, STORE_NO_TXN, path, perms, 2), 0);
}

static int begin(void **state)
{
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    control = pair[0];
    assert_int_equal(store_server_init(pair[1], -1), 0);
    assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
    introduce(0, &dom0);
    introduce(BE, &back);
    introduce(FE, &front);
    put("/local/domain/2", "", BE, BE);
    put("/local/domain/3", "", FE, FE);
    put(B_DIR, "", BE, FE);
    put(B_DIR "/state", "1", BE, FE);
    put(F_DIR, "", FE, BE);
    put(F_DIR "/state", "1", FE, BE);
    assert_int_equal(xenbus_backend_init(&be, back, BE, "vbd", FE, DEV), 0);
    assert_int_equal(xenbus_frontend_init(&fe, front, FE, "vbd", DEV, BE), 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    store_close(dom0);
    store_close(back);
    store_close(front);
    close(control);
    pthread_join(thread, NULL);
    return 0;
}

static void knows_both_directories(void **state)
{
    char path[STORE_PATH_MAX], cls[STORE_PATH_MAX];

    (void)state;
    assert_string_equal(be.own, B_DIR);
    assert_string_equal(be.peer, F_DIR);
    assert_string_equal(fe.own, F_DIR);
    assert_string_equal(fe.peer, B_DIR);
    assert_int_equal(be.peer_domid, FE);
    assert_int_equal(fe.peer_domid, BE);
    memset(cls, 'c', sizeof(cls) - 1);
    cls[sizeof(cls) - 1] = '\0';
    assert_int_equal(xenbus_backend_path(path, BE, cls, FE, DEV), -ENAMETOOLONG);
    assert_int_equal(xenbus_frontend_path(path, FE, cls, DEV), -ENAMETOOLONG);
}

static void shakes_hands(void **state)
{
    (void)state;
    assert_int_equal(xenbus_peer_state(&fe), XenbusStateInitialising);
    assert_int_equal(xenbus_switch(&be, XenbusStateInitWait), 0);
    assert_int_equal(xenbus_peer_state(&fe), XenbusStateInitWait);
    assert_int_equal(xenbus_switch(&fe, XenbusStateInitialised), 0);
    assert_int_equal(xenbus_peer_state(&be), XenbusStateInitialised);
    assert_int_equal(xenbus_switch(&be, XenbusStateConnected), 0);
    assert_int_equal(xenbus_switch(&fe, XenbusStateConnected), 0);
    assert_int_equal(xenbus_peer_state(&be), XenbusStateConnected);
    assert_int_equal(be.state, XenbusStateConnected);
}

/* The same state again is no write, so no event for the peer. */
static void writes_only_what_differs(void **state)
{
    struct store_event ev;
    uint64_t n;

    (void)state;
    assert_int_equal(xenbus_switch(&be, XenbusStateInitWait), 0);
    assert_int_equal(store_watch(front, B_DIR "/state", "s"), 0);
    assert_int_equal(store_read_number(front, STORE_NO_TXN, B_DIR, "state", 9, &n), 0);
    while (store_next_event(front, &ev) == 1)
        ;
    assert_int_equal(xenbus_switch(&be, XenbusStateInitWait), 0);
    assert_int_equal(store_read_number(front, STORE_NO_TXN, B_DIR, "state", 9, &n), 0);
    assert_int_equal(store_next_event(front, &ev), 0);
    assert_int_equal(xenbus_switch(&be, XenbusStateConnected), 0); /* control */
    assert_int_equal(store_read_number(front, STORE_NO_TXN, B_DIR, "state", 9, &n), 0);
    assert_int_equal(store_next_event(front, &ev), 1);
}

/* What the toolstack removed stays removed. */
static void never_brings_a_directory_back(void **state)
{
    char buf[8];

    (void)state;
    assert_int_equal(store_rm(dom0, STORE_NO_TXN, B_DIR), 0);
    assert_int_equal(xenbus_switch(&be, XenbusStateClosed), -ENOENT);
    xenbus_error(&be, -EIO, "too late");
    assert_int_equal(store_read(dom0, STORE_NO_TXN, B_DIR, buf, sizeof(buf)), -ENOENT);
    assert_int_equal(be.state, XenbusStateUnknown);
    assert_int_equal(xenbus_peer_state(&fe), XenbusStateUnknown);
    assert_int_equal(xenbus_switch(&fe, XenbusStateClosing), 0); /* control */
}

static void nonsense_reads_as_unknown(void **state)
{
    static const char *const bad[] = {"", "9", "-1", "4 ", " 4", "4x", "connected",
                                      "18446744073709551620", "4294967300"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(store_write(front, STORE_NO_TXN, F_DIR "/state", bad[i]), 0);
        assert_int_equal(xenbus_peer_state(&be), XenbusStateUnknown);
    }
    assert_int_equal(store_write(front, STORE_NO_TXN, F_DIR "/state", "8"), 0);
    assert_int_equal(xenbus_peer_state(&be), XenbusStateReconfigured);
    /* Own nonsense does not stop a switch. */
    assert_int_equal(store_write(dom0, STORE_NO_TXN, B_DIR "/state", "junk"), 0);
    assert_int_equal(xenbus_switch(&be, XenbusStateInitWait), 0);
    assert_int_equal(xenbus_peer_state(&fe), XenbusStateInitWait);
}

static void numbers_and_flags(void **state)
{
    (void)state;
    assert_int_equal(xenbus_peer_number(&be, "multi-queue-num-queues", 16, 1), 1);
    assert_int_equal(store_printf(front, STORE_NO_TXN, F_DIR, "multi-queue-num-queues", "%u", 4), 0);
    assert_int_equal(xenbus_peer_number(&be, "multi-queue-num-queues", 16, 1), 4);
    assert_int_equal(xenbus_peer_number(&be, "multi-queue-num-queues", 3, 1), 1);
    assert_false(xenbus_peer_flag(&be, "feature-persistent"));
    assert_int_equal(store_printf(front, STORE_NO_TXN, F_DIR, "feature-persistent", "1"), 0);
    assert_true(xenbus_peer_flag(&be, "feature-persistent"));
    assert_int_equal(store_printf(front, STORE_NO_TXN, F_DIR, "feature-persistent", "2"), 0);
    assert_false(xenbus_peer_flag(&be, "feature-persistent"));
}

static void says_what_went_wrong(void **state)
{
    char buf[STORE_VALUE_MAX];

    (void)state;
    xenbus_error(&be, -EINVAL, "ring-ref is no grant of this domain");
    assert_true(store_read(dom0, STORE_NO_TXN, B_DIR "/error", buf, sizeof(buf)) > 0);
    assert_string_equal(buf, "-22 ring-ref is no grant of this domain");
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(xenbus_state_name(XenbusStateConnected), "Connected");
    assert_string_equal(xenbus_state_name(XenbusStateUnknown), "Unknown");
    assert_string_equal(xenbus_state_name((enum xenbus_state)77), "invalid");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(knows_both_directories),
        TEST(shakes_hands),
        TEST(writes_only_what_differs),
        TEST(never_brings_a_directory_back),
        TEST(nonsense_reads_as_unknown),
        TEST(numbers_and_flags),
        TEST(says_what_went_wrong),
        cmocka_unit_test(names),
    };

    return cmocka_run_group_tests_name("xenbus", tests, NULL, NULL);
}
