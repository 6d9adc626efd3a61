/* SPDX-License-Identifier: MIT */
/* Descriptors beside packets: what a hostile sender may put there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "../../hyp-shim/local/rights.h"

static struct {
    int a, b;       /* a pair; b receives */
    unsigned open;  /* descriptors of this process before the test */
} world;

static unsigned open_descriptors(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static int setup(void **state)
{
    int pair[2];
    (void)state;
    world.open = open_descriptors();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return -1;
    world.a = pair[0];
    world.b = pair[1];
    return 0;
}

/* Nothing stays open, whatever came. */
static int teardown(void **state)
{
    (void)state;
    close(world.a);
    close(world.b);
    return open_descriptors() != world.open;
}

/* Any control data at all, as an attacker would send it. */
static void send_control(const void *control, size_t bytes)
{
    char packet[8] = "hostile";
    struct iovec iov = { packet, sizeof(packet) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = (void *)(uintptr_t)control,
                          .msg_controllen = bytes };
    assert_int_equal(sendmsg(world.a, &msg, 0), sizeof(packet));
}

static void send_many(unsigned n)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(64 * sizeof(int))] = { 0 };
    struct cmsghdr *c = (struct cmsghdr *)(void *)control;
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(n * sizeof(int));
    for (unsigned i = 0; i < n; i++)
        memcpy(CMSG_DATA(c) + i * sizeof(int), &world.a, sizeof(int));
    send_control(control, CMSG_SPACE(n * sizeof(int)));
}

/* ------------------------------------------------------------------- tests */

static void descriptors_arrive_once_and_close_on_exec(void **state)
{
    (void)state;
    const int fds[3] = { world.a, world.b, world.a };
    struct rights got;
    char packet[16];
    int flags;
    assert_int_equal(rights_send(world.a, "hello", 5, fds, 3), 0);
    assert_int_equal(rights_receive(world.b, packet, sizeof(packet), &got, 3, &flags), 5);
    assert_int_equal(got.n, 3);
    assert_int_equal(flags & (MSG_TRUNC | MSG_CTRUNC), 0);
    for (unsigned i = 0; i < got.n; i++)
        assert_true(fcntl(got.fd[i], F_GETFD) & FD_CLOEXEC);
    rights_close(&got);
    assert_int_equal(got.n, 0);
    rights_close(&got); /* twice is once */
}

/* Odd counts are where the size of the control buffer is rounded up. */
static void no_more_come_than_there_is_room_for(void **state)
{
    (void)state;
    for (unsigned max = 0; max <= RIGHTS_MAX; max++)
        for (unsigned sent = 1; sent <= 20; sent++) {
            struct rights got;
            char packet[16];
            int flags;
            unsigned before = open_descriptors();
            send_many(sent);
            assert_int_equal(rights_receive(world.b, packet, sizeof(packet), &got, max, &flags), 8);
            assert_int_equal(got.n, sent < max ? sent : max);
            assert_int_equal(!!(flags & MSG_CTRUNC), sent > max);
            assert_int_equal(open_descriptors(), before + got.n);
            rights_close(&got);
        }
}

static void other_control_data_gives_none(void **state)
{
    (void)state;
    struct rights got;
    char packet[16];
    int on = 1, flags;
    assert_int_equal(setsockopt(world.b, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
    assert_int_equal(rights_send(world.a, "hello", 5, NULL, 0), 0);
    assert_int_equal(rights_receive(world.b, packet, sizeof(packet), &got, RIGHTS_MAX, &flags), 5);
    assert_int_equal(got.n, 0);
    send_many(RIGHTS_MAX); /* credentials come first and take room */
    assert_int_equal(rights_receive(world.b, packet, sizeof(packet), &got, RIGHTS_MAX, &flags), 8);
    assert_true(got.n <= RIGHTS_MAX && (flags & MSG_CTRUNC));
    rights_close(&got);
}

static void a_full_table_is_told(void **state)
{
    (void)state;
    struct rlimit old, full;
    struct rights got;
    char packet[16];
    int flags;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    full = old;
    full.rlim_cur = 3; /* all below are in use */
    send_many(2);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &full), 0);
    ssize_t n = rights_receive(world.b, packet, sizeof(packet), &got, 2, &flags);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(n, 8);
    assert_int_equal(got.n, 0);
    assert_true(flags & MSG_CTRUNC);
}

static void packets_end_where_they_end(void **state)
{
    (void)state;
    struct rights got = { .n = 7 };
    char packet[4];
    int flags;
    assert_int_equal(rights_receive(world.b, packet, sizeof(packet), &got, 1, &flags), -EAGAIN);
    assert_int_equal(got.n, 0); /* nothing to close, whatever was there */
    send_many(1);
    assert_int_equal(rights_receive(world.b, packet, sizeof(packet), &got, 1, &flags), sizeof(packet));
    assert_true(flags & MSG_TRUNC);
    assert_int_equal(got.n, 1);
    rights_close(&got);
    assert_int_equal(shutdown(world.a, SHUT_RDWR), 0);
    assert_int_equal(rights_receive(world.b, packet, sizeof(packet), &got, 1, &flags), 0);
    assert_int_equal(rights_send(world.b, "x", 1, NULL, 0), -EPIPE); /* and no signal */
}

static void limits_are_the_callers_too(void **state)
{
    (void)state;
    int many[RIGHTS_MAX + 1];
    struct rights got;
    char packet[4];
    int flags;
    for (unsigned i = 0; i <= RIGHTS_MAX; i++)
        many[i] = world.a;
    assert_int_equal(rights_send(world.a, "x", 1, many, RIGHTS_MAX + 1), -EINVAL);
    assert_int_equal(rights_receive(world.b, packet, sizeof(packet), &got, RIGHTS_MAX + 1, &flags), -EINVAL);
    while (rights_send(world.a, packet, sizeof(packet), many, 1) == 0)
        ;
    assert_int_equal(rights_send(world.a, packet, sizeof(packet), many, 1), -EAGAIN);
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(descriptors_arrive_once_and_close_on_exec),
        IN_WORLD(no_more_come_than_there_is_room_for),
        IN_WORLD(other_control_data_gives_none),
        IN_WORLD(a_full_table_is_told),
        IN_WORLD(packets_end_where_they_end),
        IN_WORLD(limits_are_the_callers_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
