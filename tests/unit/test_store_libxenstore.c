/* SPDX-License-Identifier: MIT */
/*
 * The real client library, libxenstore, against our store: over a socket in
 * the file system, as the stock tools come.  Needs to be dom0 for the store,
 * that is, root; else each test is skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xenstore.h>

#include "hyp-shim/local/proto.h"
#include "hyp-shim/local/store/server.h"

static struct {
    char dir[64], path[80];
    int control;
    pid_t pid;
    struct xs_handle *xs;
} world;

static void serve(int control, int listening)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (store_server_init(control, listening))
        _exit(1);
    while (!store_server_turn(-1))
        ;
    _exit(0);
}

static int begin(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int pair[2], listening;

    (void)state;
    world.pid = 0;
    if (getuid() != 0)
        return 0;
    snprintf(world.dir, sizeof(world.dir), "/tmp/bulkhead-xs.XXXXXX");
    assert_non_null(mkdtemp(world.dir));
    snprintf(world.path, sizeof(world.path), "%s/sock", world.dir);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", world.path);
    listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(listening, 8), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    world.control = pair[0];
    world.pid = fork();
    assert_true(world.pid >= 0);
    if (world.pid == 0) {
        close(pair[0]);
        serve(pair[1], listening);
    }
    close(pair[1]);
    close(listening);
    assert_int_equal(setenv("XENSTORED_PATH", world.path, 1), 0);
    world.xs = xs_open(0);
    assert_non_null(world.xs);
    return 0;
}

static int end(void **state)
{
    int status;

    (void)state;
    if (!world.pid)
        return 0;
    if (world.xs)
        xs_close(world.xs);
    close(world.control);
    assert_int_equal(waitpid(world.pid, &status, 0), world.pid);
    assert_int_equal(status, 0);
    unlink(world.path);
    rmdir(world.dir);
    return 0;
}

static bool put(xs_transaction_t t, const char *path, const char *value)
{
    return xs_write(world.xs, t, path, value, (unsigned)strlen(value));
}

static void expect(xs_transaction_t t, const char *path, const char *value)
{
    unsigned len;
    char *got = xs_read(world.xs, t, path, &len);

    assert_non_null(got);
    assert_string_equal(got, value);
    assert_int_equal(len, strlen(value));
    free(got);
}

#define ROOT_ONLY()     \
    do {                \
        (void)state;    \
        if (!world.pid) \
            skip();     \
    } while (0)

static void reads_writes_removes(void **state)
{
    ROOT_ONLY();
    assert_true(put(XBT_NULL, "/a/b", "value"));
    expect(XBT_NULL, "/a/b", "value");
    assert_true(xs_mkdir(world.xs, XBT_NULL, "/a/c"));
    expect(XBT_NULL, "/a/c", "");
    assert_true(xs_rm(world.xs, XBT_NULL, "/a"));
    assert_null(xs_read(world.xs, XBT_NULL, "/a/b", NULL));
    assert_int_equal(errno, ENOENT);
    assert_false(xs_rm(world.xs, XBT_NULL, "/a/b"));
    assert_int_equal(errno, ENOENT);
    assert_false(xs_write(world.xs, XBT_NULL, "/bad//path", "v", 1));
    assert_int_equal(errno, EINVAL);
}

static void permissions(void **state)
{
    struct xs_permissions want[] = {{.id = 0, .perms = XS_PERM_READ}}, *got;
    unsigned n;

    ROOT_ONLY();
    assert_true(put(XBT_NULL, "/p", ""));
    assert_true(xs_set_permissions(world.xs, XBT_NULL, "/p", want, 1));
    got = xs_get_permissions(world.xs, XBT_NULL, "/p", &n);
    assert_non_null(got);
    assert_int_equal(n, 1);
    assert_int_equal(got[0].id, 0);
    assert_int_equal(got[0].perms, XS_PERM_READ);
    free(got);
}

static void transactions(void **state)
{
    ROOT_ONLY();
    assert_true(put(XBT_NULL, "/t/old", "1"));
    xs_transaction_t t = xs_transaction_start(world.xs);
    assert_int_not_equal(t, XBT_NULL);
    expect(t, "/t/old", "1");
    assert_true(put(t, "/t/new", "2"));
    assert_null(xs_read(world.xs, XBT_NULL, "/t/new", NULL));
    assert_true(xs_transaction_end(world.xs, t, false));
    expect(XBT_NULL, "/t/new", "2");

    t = xs_transaction_start(world.xs);
    expect(t, "/t/old", "1");
    assert_true(put(XBT_NULL, "/t/old", "3"));
    assert_true(put(t, "/t/new", "lost"));
    assert_false(xs_transaction_end(world.xs, t, false));
    assert_int_equal(errno, EAGAIN);
    expect(XBT_NULL, "/t/new", "2");

    t = xs_transaction_start(world.xs);
    assert_true(xs_rm(world.xs, t, "/t"));
    assert_true(xs_transaction_end(world.xs, t, true)); /* abort */
    expect(XBT_NULL, "/t/old", "3");
}

/* More names than one message holds: the library goes on in parts by itself. */
static void large_directories(void **state)
{
    char path[64];
    unsigned n;

    ROOT_ONLY();
    for (int i = 0; i < 1200; i++) {
        snprintf(path, sizeof(path), "/big/a-rather-long-child-%04d", i);
        assert_true(put(XBT_NULL, path, ""));
    }
    char **names = xs_directory(world.xs, XBT_NULL, "/big", &n);
    assert_non_null(names);
    assert_int_equal(n, 1200);
    for (int i = 0; i < 1200; i++) {
        snprintf(path, sizeof(path), "a-rather-long-child-%04d", i);
        assert_string_equal(names[i], path);
    }
    free(names);
    names = xs_directory(world.xs, XBT_NULL, "/big/a-rather-long-child-0001", &n);
    assert_non_null(names);
    assert_int_equal(n, 0);
    free(names);
}

static void next_watch(const char *path, const char *token)
{
    struct pollfd p = {.fd = xs_fileno(world.xs), .events = POLLIN};
    unsigned n;

    assert_int_equal(poll(&p, 1, 10000), 1);
    char **event = xs_read_watch(world.xs, &n);
    assert_non_null(event);
    assert_string_equal(event[XS_WATCH_PATH], path);
    assert_string_equal(event[XS_WATCH_TOKEN], token);
    free(event);
}

static void watches(void **state)
{
    ROOT_ONLY();
    assert_true(xs_watch(world.xs, "/w", "tok"));
    next_watch("/w", "tok");
    assert_true(put(XBT_NULL, "/w/below", "x"));
    next_watch("/w/below", "tok");
    assert_true(xs_unwatch(world.xs, "/w", "tok"));
    assert_false(xs_unwatch(world.xs, "/w", "tok"));
    assert_int_equal(errno, ENOENT);
}

static void domains(void **state)
{
    ROOT_ONLY();
    char *path = xs_get_domain_path(world.xs, 7);
    assert_non_null(path);
    assert_string_equal(path, "/local/domain/7");
    free(path);
    assert_true(xs_is_domain_introduced(world.xs, 0));
    assert_false(xs_is_domain_introduced(world.xs, 7));
    assert_false(xs_introduce_domain(world.xs, 7, 1, 1));
    assert_int_equal(errno, ENOSYS);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_writes_removes),
        TEST(permissions),
        TEST(transactions),
        TEST(large_directories),
        TEST(watches),
        TEST(domains),
    };

    return cmocka_run_group_tests_name("store_libxenstore", tests, NULL, NULL);
}
