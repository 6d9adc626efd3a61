/* SPDX-License-Identifier: MIT */
/* What the toolstack tells a vhost-user door, and what the door takes for an order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../frontends/door/vhost_user/channel.h"
#include "../../hyp-shim/local/rights.h"

static int pair[2]; /* the toolstack's end, the door's */
static int some;    /* a descriptor to send */

static int set_up(void **state)
{
    (void)state;
    some = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return some < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
}

static int tear_down(void **state)
{
    (void)state;
    close(some);
    close(pair[0]);
    close(pair[1]);
    return 0;
}

static struct door_order order(enum door_op op, const char *dev, enum door_class cls)
{
    struct door_order o = { .version = DOOR_VERSION, .op = op, .cls = (uint8_t)cls };
    memcpy(o.dev, dev, strlen(dev));
    return o;
}

static int take(const void *bytes, size_t n, unsigned nfds, int *fd)
{
    struct door_order got;
    int fds[2] = { some, some };
    assert_int_equal(rights_send(pair[0], bytes, n, fds, nfds), 0);
    return channel_receive(pair[1], &got, fd);
}

static void an_order_arrives(void **state)
{
    (void)state;
    struct door_order open = order(DOOR_OPEN, "vda", DOOR_BLK), got;
    int fd;
    assert_int_equal(channel_receive(pair[1], &got, &fd), 0);
    assert_int_equal(rights_send(pair[0], &open, sizeof(open), &some, 1), 0);
    assert_int_equal(channel_receive(pair[1], &got, &fd), 1);
    assert_memory_equal(&got, &open, sizeof(open));
    assert_true(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    close(fd);
    struct door_order ends[] = { order(DOOR_CLOSE, "eth0", DOOR_NET), order(DOOR_READY, "", 0) };
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(take(&ends[i], sizeof(ends[i]), 0, &fd), 1);
        assert_int_equal(fd, -1);
    }
}

/* Each is an order but for one thing. */
static void what_is_no_order_is_dropped(void **state)
{
    (void)state;
    struct door_order good = order(DOOR_OPEN, "vda", DOOR_BLK), bad[8];
    const unsigned fds[] = { 1, 1, 1, 1, 1, 0, 1, 1 };
    for (unsigned i = 0; i < 8; i++)
        bad[i] = good;
    bad[0].version++;
    bad[1].op = 0;
    bad[2].op = DOOR_READY + 1;
    memset(bad[3].dev, 'a', sizeof(bad[3].dev));
    bad[4].cls = DOOR_NET + 1;
    bad[6].op = DOOR_CLOSE; /* with a descriptor; [5]: an open without */
    bad[7].dev[0] = '\0';
    int fd, before = dup(some);
    close(before);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(take(&bad[i], sizeof(bad[i]), fds[i], &fd), -EBADMSG);
        assert_int_equal(fd, -1);
    }
    struct { struct door_order order; char more; } longer = { good, 0 };
    assert_int_equal(take(&good, sizeof(good) - 1, 1, &fd), -EBADMSG);
    assert_int_equal(take(&longer, sizeof(good) + 1, 1, &fd), -EBADMSG);
    assert_int_equal(take(&good, sizeof(good), 2, &fd), -EBADMSG);
    int after = dup(some);
    assert_int_equal(after, before); /* their descriptors are closed */
    close(after);
    assert_int_equal(take(&good, sizeof(good), 1, &fd), 1);
    close(fd);
}

static void who_hung_up_sends_nothing(void **state)
{
    (void)state;
    struct door_order got;
    int fd;
    close(pair[0]);
    assert_int_equal(channel_receive(pair[1], &got, &fd), -ENOTCONN);
    got = order(DOOR_CLOSE, "vda", DOOR_BLK);
    channel_answer(pair[1], &got, 0, ""); /* and hears nothing: no signal, no wait */
    pair[0] = dup(some);
}

static void answers_wait(void **state)
{
    (void)state;
    struct door_order o = order(DOOR_OPEN, "vda", DOOR_BLK);
    struct door_answer got;
    char sentence[400];
    memset(sentence, 'x', sizeof(sentence) - 1);
    sentence[sizeof(sentence) - 1] = '\0';
    channel_answer(pair[1], &o, -ENODEV, sentence);
    o.op = DOOR_CLOSE;
    channel_answer(pair[1], &o, 0, "not said when all is well");
    assert_int_equal(recv(pair[0], &got, sizeof(got), MSG_DONTWAIT), sizeof(got));
    assert_int_equal(got.version, DOOR_VERSION);
    assert_int_equal(got.op, DOOR_OPEN);
    assert_string_equal(got.dev, "vda");
    assert_int_equal(got.error, -ENODEV);
    assert_int_equal(strlen(got.why), DOOR_WHY_BYTES - 1);
    assert_int_equal(recv(pair[0], &got, sizeof(got), MSG_DONTWAIT), sizeof(got));
    assert_int_equal(got.op, DOOR_CLOSE);
    assert_int_equal(got.error, 0);
    assert_string_equal(got.why, "");
    for (unsigned i = 0; i < 10000; i++) /* nobody reads: it does not wait for that */
        channel_answer(pair[1], &o, 0, "");
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(an_order_arrives),
        T(what_is_no_order_is_dropped),
        T(who_hung_up_sends_nothing),
        T(answers_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
