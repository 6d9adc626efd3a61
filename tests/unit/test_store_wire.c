/* SPDX-License-Identifier: MIT */
/* Hostile bytes: each gets its errno, or the end of that one connection. */
#include "test_store.h"

#include <poll.h>
#include <sys/un.h>

static void unknown_types(void **state)
{
    static const uint32_t types[] = {XS_WATCH_EVENT, XS_ERROR, 20, XS_TYPE_COUNT, XS_TYPE_COUNT + 1,
                                     XS_INVALID, 0x80000000u, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        assert_int_equal(ask_in(&guest1, types[i], 0, "x", 2), -ENOSYS);
    assert_int_equal(xsd_counted(XSD_COUNT_bad_type), sizeof(types) / sizeof(types[0]));
}

static void bad_paths(void **state)
{
    static const char *const bad[] = {"", "//", "/a/", "a/", "/a//b", "a//b", "/a b", "/a.b", "/a\n",
                                      "/\x80", "/a*", "@x", "/local/domain/", "/local/domain//",
                                      " /a", "/~"};
    static char path[XENSTORE_PAYLOAD_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(get(&dom0, bad[i]), -EINVAL);
        assert_int_equal(put(&dom0, bad[i], "v"), -EINVAL);
        assert_int_equal(rm(&dom0, bad[i]), -EINVAL);
        assert_int_equal(ask_path(&dom0, XS_MKDIR, 0, bad[i]), -EINVAL);
        assert_int_equal(ask_path(&dom0, XS_DIRECTORY, 0, bad[i]), -EINVAL);
        assert_int_equal(ask_path(&dom0, XS_GET_PERMS, 0, bad[i]), -EINVAL);
        assert_int_equal(set_perms(&dom0, bad[i], "n0"), -EINVAL);
        if (bad[i][0] != '@')
            assert_int_equal(watch(&dom0, bad[i], "t"), -EINVAL);
    }
    /* The longest is still good, one more is not. */
    memset(path, 'a', sizeof(path));
    path[0] = '/';
    path[XENSTORE_ABS_PATH_MAX] = '\0';
    assert_int_equal(put(&dom0, path, "v"), 0);
    assert_int_equal(get(&dom0, path), 0);
    path[XENSTORE_ABS_PATH_MAX] = 'a';
    path[XENSTORE_ABS_PATH_MAX + 1] = '\0';
    assert_int_equal(get(&dom0, path), -EINVAL);
    path[0] = 'a';
    path[XENSTORE_REL_PATH_MAX] = '\0';
    assert_int_equal(put(&dom0, path, "v"), 0);
    path[XENSTORE_REL_PATH_MAX] = 'a';
    path[XENSTORE_REL_PATH_MAX + 1] = '\0';
    assert_int_equal(put(&dom0, path, "v"), -EINVAL);
}

static void bad_payloads(void **state)
{
    static const uint32_t types[] = {XS_READ, XS_WRITE, XS_MKDIR, XS_RM, XS_DIRECTORY, XS_DIRECTORY_PART,
                                     XS_GET_PERMS, XS_SET_PERMS, XS_WATCH, XS_UNWATCH, XS_GET_DOMAIN_PATH,
                                     XS_IS_DOMAIN_INTRODUCED};

    (void)state;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        assert_int_equal(ask_in(&dom0, types[i], 0, "", 0), -EINVAL);
        assert_int_equal(ask_in(&dom0, types[i], 0, "/a", 2), -EINVAL); /* no NUL */
    }
    assert_int_equal(ASK(&dom0, XS_READ, "/\0/"), -EINVAL); /* one too many */
    assert_int_equal(ASK(&dom0, XS_RM, "/a\0"), -EINVAL);
    assert_int_equal(ASK(&dom0, XS_WATCH, "/a"), -EINVAL); /* no token */
    assert_int_equal(ASK(&dom0, XS_DIRECTORY_PART, "/\0-1"), -EINVAL);
    assert_int_equal(ASK(&dom0, XS_DIRECTORY_PART, "/\0"
                                                   "4294967296"), -EINVAL);
    assert_int_equal(ASK(&dom0, XS_DIRECTORY_PART, "/\0"
                                                   "4294967295"), 0);
    assert_int_equal(ASK(&dom0, XS_GET_DOMAIN_PATH, "x"), -EINVAL);
    assert_int_equal(ASK(&dom0, XS_GET_DOMAIN_PATH, "65536"), -EINVAL);
    assert_int_equal(ASK(&dom0, XS_GET_DOMAIN_PATH, "7"), 0);
    assert_string_equal(dom0.reply, "/local/domain/7");
}

static void dom0_only(void **state)
{
    (void)state;
    assert_int_equal(ASK(&guest1, XS_CONTROL, "help"), -EACCES);
    assert_int_equal(ASK(&guest1, XS_INTRODUCE, "5\0001\0001"), -EACCES);
    assert_int_equal(ASK(&guest1, XS_RELEASE, "2"), -EACCES);
    assert_int_equal(ASK(&guest1, XS_RESUME, "2"), -EACCES);
    assert_int_equal(ASK(&guest1, XS_SET_TARGET, "1\0002"), -EACCES);
    assert_int_equal(ASK(&guest1, XS_IS_DOMAIN_INTRODUCED, "2"), -EACCES);
    assert_int_equal(ASK(&guest1, XS_IS_DOMAIN_INTRODUCED, "9"), -EACCES);
    assert_int_equal(ASK(&guest1, XS_IS_DOMAIN_INTRODUCED, "1"), 0);
    assert_string_equal(guest1.reply, "T");

    assert_int_equal(ASK(&dom0, XS_RELEASE, "2"), -ENOSYS); /* the core's to do */
    assert_int_equal(ASK(&dom0, XS_IS_DOMAIN_INTRODUCED, "2"), 0);
    assert_string_equal(dom0.reply, "T");
    assert_int_equal(ASK(&dom0, XS_IS_DOMAIN_INTRODUCED, "9"), 0);
    assert_string_equal(dom0.reply, "F");
    assert_int_equal(ASK(&dom0, XS_CONTROL, "counters"), 0);
    assert_non_null(strstr(dom0.reply, "not_privileged 7\n"));
    assert_int_equal(ASK(&dom0, XS_CONTROL, "help"), 0);
    assert_int_equal(ASK(&dom0, XS_CONTROL, "live-update"), -EINVAL);
}

static void too_long_ends_the_connection(void **state)
{
    struct xsd_sockmsg h = {.type = XS_READ, .len = XENSTORE_PAYLOAD_MAX + 1};

    (void)state;
    send_raw(&guest1, &h, sizeof(h));
    turn();
    turn();
    receive(&guest1);
    assert_true(guest1.closed);
    assert_int_equal(xsd_counted(XSD_COUNT_bad_length), 1);
    assert_int_equal(put(&guest2, "fine", "x"), 0);
    h.len = UINT32_MAX;
    send_raw(&guest2, &h, sizeof(h));
    turn();
    turn();
    receive(&guest2);
    assert_true(guest2.closed);
    assert_int_equal(put(&dom0, "/fine", "x"), 0);
}

static void bytes_may_come_one_by_one(void **state)
{
    uint8_t message[sizeof(struct xsd_sockmsg) + 2];
    struct xsd_sockmsg h = {.type = XS_READ, .req_id = 77, .len = 2};

    (void)state;
    memcpy(message, &h, sizeof(h));
    memcpy(message + sizeof(h), "/", 2);
    for (size_t i = 0; i < sizeof(message); i++) {
        assert_false(dom0.replied && i > 0 && dom0.h.req_id == 77);
        send_raw(&dom0, message + i, 1);
        dom0.replied = false;
        turn();
        receive(&dom0);
    }
    assert_true(dom0.replied);
    assert_int_equal(dom0.h.req_id, 77);
}

/* Many requests at once: all are answered, in order, a budget a turn; the
 * others get their turn in between. */
static void a_flood_delays_only_itself(void **state)
{
    enum { MANY = 200 };
    unsigned before;
    uint32_t first = guest1.req_id + 1;

    (void)state;
    for (int i = 0; i < MANY; i++)
        send_request(&guest1, XS_READ, 0, "x", 2);
    before = (unsigned)xsd_counted(XSD_COUNT_requests);
    send_request(&dom0, XS_READ, 0, "/", 2);
    dom0.replied = false;
    turn();
    receive(&dom0);
    assert_true(dom0.replied); /* in the very first turn */
    assert_true(xsd_counted(XSD_COUNT_requests) - before <= XSD_BUDGET + 1);

    struct xsd_sockmsg h;
    char name[16];
    for (uint32_t id = first; id < first + MANY; id++) {
        for (int i = 0; i < 100; i++) {
            struct pollfd p = {.fd = guest1.fd, .events = POLLIN};
            if (poll(&p, 1, 0) == 1)
                break;
            turn();
        }
        assert_int_equal(recv(guest1.fd, &h, sizeof(h), MSG_WAITALL), sizeof(h));
        assert_int_equal(h.req_id, id);
        assert_true(h.len <= sizeof(name));
        assert_int_equal(recv(guest1.fd, name, h.len, MSG_WAITALL), h.len);
    }
}

/* From the core, which is trusted: refused all the same. */
static void odd_control_messages(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    say(STORE_CONTROL_INTRODUCE, 5, -1);                   /* no connection */
    say(STORE_CONTROL_INTRODUCE, LOCAL_DOMID_LAST + 1, fds[1]);
    say(STORE_CONTROL_RELEASE, 9, -1);
    say(STORE_CONTROL_RELEASE, 0, -1);
    say(STORE_CONTROL_RELEASE, 1, fds[1]);
    say(0, 1, -1);
    say(77, 1, -1);
    assert_int_equal(send(control_fd, "abc", 3, 0), 3);
    assert_int_equal(send(control_fd, "abcdefghijklmnop", 16, 0), 16);
    turn();
    struct store_living living = {.op = STORE_CONTROL_LIVING, .n = CORE_DOMAINS_MAX + 1};
    assert_int_equal(send(control_fd, &living, sizeof(living), 0), sizeof(living));
    living = (struct store_living){.op = STORE_CONTROL_LIVING, .n = 2, .domid = {1, LOCAL_DOMID_LAST + 1}};
    assert_int_equal(send(control_fd, &living, sizeof(living), 0), sizeof(living));
    living = (struct store_living){.op = STORE_CONTROL_INTRODUCE, .n = 1};
    assert_int_equal(send(control_fd, &living, sizeof(living), 0), sizeof(living));
    turn();
    assert_int_equal(xsd_counted(XSD_COUNT_bad_control), 12);
    close(fds[1]);
    struct pollfd p = {.fd = fds[0], .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 1);
    assert_true(p.revents & POLLHUP); /* none of the copies was kept */
    close(fds[0]);
    assert_int_equal(put(&guest1, "still", "here"), 0);
}

/* A domain that asked for a connection again has lost the old one, with all that
 * belonged to it; its nodes stay. */
static void a_new_connection_takes_the_place(void **state)
{
    struct client again;

    (void)state;
    assert_int_equal(watch(&dom0, "@introduceDomain", "t"), 0);
    assert_int_equal(watch(&guest1, "data", "t"), 0);
    assert_int_equal(put(&guest1, "data", "kept"), 0);
    txn_begin(&guest1);
    settle(&dom0);
    introduce(&again, 1);
    receive(&guest1);
    assert_true(guest1.closed);
    assert_int_equal(get(&again, "data"), 0);
    assert_string_equal(again.reply, "kept");
    assert_int_equal(xsd_account_of(1)->used[XSD_WATCH], 0);
    assert_int_equal(xsd_account_of(1)->used[XSD_TXN], 0);
    assert_int_equal(events_of(&dom0, "@introduceDomain", "t"), 0); /* it was there before */
    assert_int_equal(xsd_counted(XSD_COUNT_bad_control), 0);
    close(guest1.fd);
    guest1 = again;
    introduce(&again, 0);
    receive(&dom0);
    assert_true(dom0.closed);
    close(dom0.fd);
    dom0 = again;
    assert_int_equal(get(&dom0, HOME(1) "/data"), 0);
}

static void every_domain_has_room(void **state)
{
    static struct client more[CORE_DOMAINS_MAX];
    unsigned n = 0;

    (void)state;
    for (; n < CORE_DOMAINS_MAX - 3; n++)
        introduce(&more[n], (domid_t)(10 + n));
    assert_int_equal(xsd_counted(XSD_COUNT_bad_control), 0);
    introduce(&more[n], (domid_t)(10 + n)); /* one too many */
    assert_int_equal(xsd_counted(XSD_COUNT_bad_control), 1);
    receive(&more[n]);
    assert_true(more[n].closed);
    close(more[n].fd);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(get(&more[i], "x"), -EACCES); /* it has no home yet, but is served */
        release(&more[i]);
    }
}

static void the_end_of_the_core_is_the_end(void **state)
{
    (void)state;
    int fd = dup(guest1.fd); /* end() closes the other */
    assert_true(fd >= 0);
    close(fd);
    shutdown(control_fd, SHUT_RDWR);
    assert_int_equal(store_server_turn(0), -ENOTCONN);
    /* A new one, so that end() finds what it expects. */
    store_server_end();
    close(control_fd);
    close(dom0.fd);
    close(guest1.fd);
    close(guest2.fd);
    begin(state);
}

static void who_comes_through_the_socket(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(sa_family_t); /* autobind: an abstract name */
    int pair[2], l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_dom0 = getuid() == 0 || getuid() == LOCAL_UID_BASE;
    static struct client tools[XSD_TOOLS_DOM0 + 1];

    (void)state;
    assert_int_equal(bind(l, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(l, 100), 0);
    len = sizeof(a);
    assert_int_equal(getsockname(l, (struct sockaddr *)&a, &len), 0);
    store_server_end();
    close(control_fd);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    control_fd = pair[0];
    assert_int_equal(store_server_init(pair[1], l), 0);

    for (unsigned i = 0; i <= XSD_TOOLS_DOM0; i++) {
        tools[i] = (struct client){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        assert_int_equal(connect(tools[i].fd, (struct sockaddr *)&a, len), 0);
        turn();
    }
    for (unsigned i = 0; i <= XSD_TOOLS_DOM0; i++) {
        if (is_dom0 && i < XSD_TOOLS_DOM0) {
            assert_int_equal(get(&tools[i], "/"), 0);
        } else {
            receive(&tools[i]);
            assert_true(tools[i].closed);
        }
        close(tools[i].fd);
    }
    turn();
    turn();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(unknown_types),
        TEST(bad_paths),
        TEST(bad_payloads),
        TEST(dom0_only),
        TEST(too_long_ends_the_connection),
        TEST(bytes_may_come_one_by_one),
        TEST(a_flood_delays_only_itself),
        TEST(odd_control_messages),
        TEST(a_new_connection_takes_the_place),
        TEST(every_domain_has_room),
        TEST(the_end_of_the_core_is_the_end),
        TEST(who_comes_through_the_socket),
    };

    return cmocka_run_group_tests_name("store_wire", tests, NULL, NULL);
}
