/* SPDX-License-Identifier: MIT */
/*
 * The client of store.h when the store dies and comes again: against the real
 * store, whose thread ends and begins anew with its journal, and against a
 * listener that counts what it is asked and hangs up when it likes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "hyp-shim/local/proto.h"
#include "hyp-shim/local/store/server.h"
#include "hyp-shim/storelink.h"
#include "tests/fake_hyp.h"
#include "tests/store_control.h"
#include "tests/store_dump.h"

/* ---------------------------------------------------------------- the real store */

static struct {
    pthread_t thread;
    pthread_mutex_t lock; /* of control: clients ask in their own threads */
    int control;          /* -1: there is no store now */
    int journal;
    unsigned tries, starts_after; /* asked for a connection; start it at this try */
    struct hyp *hyp;
    struct store *guest;
} world = {.lock = PTHREAD_MUTEX_INITIALIZER, .control = -1};

static void *serve(void *arg)
{
    (void)arg;
    while (!store_server_turn(-1))
        ;
    store_server_end();
    return NULL;
}

static void start_store(void)
{
    const char *why = "";
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(store_server_init(pair[1], -1), 0);
    assert_int_equal(xsd_journal_open(fcntl(world.journal, F_DUPFD_CLOEXEC, 0), &why), 0);
    assert_int_equal(pthread_create(&world.thread, NULL, serve, NULL), 0);
    pthread_mutex_lock(&world.lock);
    world.control = pair[0];
    pthread_mutex_unlock(&world.lock);
}

static void stop_store(void)
{
    if (world.control < 0)
        return;
    pthread_mutex_lock(&world.lock);
    close(world.control);
    world.control = -1;
    pthread_mutex_unlock(&world.lock);
    pthread_join(world.thread, NULL);
}

/* As the core: a connection to the store, or there is none. */
static int connect_real(domid_t domid)
{
    int pair[2] = {-EAGAIN, -1};

    world.tries++;
    if (world.starts_after && world.tries == world.starts_after)
        start_store();
    pthread_mutex_lock(&world.lock);
    if (world.control >= 0) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
            abort();
        if (!store_control_say(world.control, STORE_CONTROL_INTRODUCE, domid, pair[1], 0))
            abort();
        close(pair[1]);
    }
    pthread_mutex_unlock(&world.lock);
    return pair[0];
}

static void make_home(domid_t domid)
{
    const struct store_perm owner = {.domid = domid, .access = 'n'};
    struct store *dom0;
    char home[32];

    assert_int_equal(store_open_fd(&dom0, connect_real(0)), 0);
    snprintf(home, sizeof(home), "/local/domain/%u", domid);
    assert_int_equal(store_mkdir(dom0, STORE_NO_TXN, home), 0);
    assert_int_equal(store_set_perms(dom0, STORE_NO_TXN, home, &owner, 1), 0);
    store_close(dom0);
}

static int begin(void **state)
{
    (void)state;
    world.journal = store_journal_new();
    start_store();
    fake_hyp_store(connect_real);
    world.hyp = fake_hyp_new(3);
    assert_int_equal(store_open(&world.guest, world.hyp), 0);
    make_home(3);
    world.tries = world.starts_after = 0;
    return 0;
}

static int end(void **state)
{
    (void)state;
    store_close(world.guest);
    hyp_close(world.hyp);
    stop_store();
    close(world.journal);
    return fake_hyp_reset() ? -1 : 0;
}

static bool is_readable(struct store *st, int ms)
{
    struct pollfd p = {.fd = store_fd(st), .events = POLLIN};

    return poll(&p, 1, ms) == 1 && (p.revents & POLLIN);
}

/* Asks as a poll loop does, until there is an event. */
static void next_is(struct store *st, const char *path, const char *token)
{
    struct store_event ev;
    int got = 0;

    for (int i = 0; i < 10000 && got == 0; i++) {
        assert_true(is_readable(st, 10000));
        got = store_next_event(st, &ev);
    }
    assert_int_equal(got, 1);
    assert_string_equal(ev.path, path);
    assert_string_equal(ev.token, token);
}

static void nothing_more(struct store *st)
{
    struct store_event ev;
    char buf[8];

    /* What the store had said before it replied to this is here now. */
    (void)store_read(st, STORE_NO_TXN, "none", buf, sizeof(buf));
    assert_int_equal(store_next_event(st, &ev), 0);
    assert_false(is_readable(st, 0));
}

static void a_call_waits_for_the_store(void **state)
{
    char buf[16];
    int fd = store_fd(world.guest);

    (void)state;
    assert_int_equal(store_write(world.guest, STORE_NO_TXN, "x", "before"), 0);
    stop_store();
    world.starts_after = 4;
    assert_int_equal(store_read(world.guest, STORE_NO_TXN, "x", buf, sizeof(buf)), 6);
    assert_string_equal(buf, "before");
    assert_int_equal(world.tries, 4);
    assert_int_equal(store_write(world.guest, STORE_NO_TXN, "x", "after"), 0);
    next_is(world.guest, "", ""); /* it may have missed something */
    nothing_more(world.guest);
    assert_int_equal(store_fd(world.guest), fd);
}

/* Nobody calls: a poll loop alone brings the connection back. */
static void watches_are_set_again(void **state)
{
    struct store_event ev;

    (void)state;
    assert_int_equal(store_watch(world.guest, "a", "1"), 0);
    assert_int_equal(store_watch(world.guest, "b", "2"), 0);
    assert_int_equal(store_watch(world.guest, "b", "gone"), 0);
    assert_int_equal(store_unwatch(world.guest, "b", "gone"), 0);
    while (store_next_event(world.guest, &ev) > 0)
        ;
    assert_int_equal(store_write(world.guest, STORE_NO_TXN, "a", "x"), 0);
    next_is(world.guest, "a", "1");
    stop_store();
    world.starts_after = 3;
    next_is(world.guest, "", ""); /* and nothing of what watches begin with */
    assert_int_equal(world.tries, 3);
    nothing_more(world.guest);
    assert_int_equal(store_write(world.guest, STORE_NO_TXN, "a/x", "1"), 0);
    assert_int_equal(store_write(world.guest, STORE_NO_TXN, "b", "1"), 0);
    next_is(world.guest, "a/x", "1");
    next_is(world.guest, "b", "2");
    nothing_more(world.guest);
    assert_int_equal(store_unwatch(world.guest, "b", "2"), 0);
    assert_int_equal(store_unwatch(world.guest, "b", "gone"), -ENOENT);
}

/* What was heard before, and not taken yet, is in the one event as well. */
static void one_event_for_all(void **state)
{
    char buf[8];

    (void)state;
    assert_int_equal(store_watch(world.guest, "a", "1"), 0);
    assert_int_equal(store_write(world.guest, STORE_NO_TXN, "a/b", "x"), 0);
    assert_int_equal(store_write(world.guest, STORE_NO_TXN, "a/c", "x"), 0);
    stop_store();
    world.starts_after = 1;
    assert_int_equal(store_read(world.guest, STORE_NO_TXN, "a/b", buf, sizeof(buf)), 1);
    next_is(world.guest, "", "");
    nothing_more(world.guest);
}

static void transactions_begin_again(void **state)
{
    char buf[16];
    store_txn old, older, now;

    (void)state;
    assert_int_equal(store_txn_begin(world.guest, &older), 0);
    assert_int_equal(store_txn_begin(world.guest, &old), 0);
    assert_int_equal(store_write(world.guest, old, "t", "old"), 0);
    stop_store();
    world.starts_after = 1;
    assert_int_equal(store_write(world.guest, old, "t", "older"), -EAGAIN);
    /* The new store gives the same numbers again; they are not ours of before. */
    assert_int_equal(store_txn_begin(world.guest, &now), 0);
    assert_int_equal(store_write(world.guest, now, "t", "new"), 0);
    assert_int_equal(store_txn_commit(world.guest, old), -EAGAIN);
    assert_int_equal(store_read(world.guest, older, "t", buf, sizeof(buf)), -EAGAIN);
    store_txn_abort(world.guest, older);
    store_txn_abort(world.guest, old);
    assert_int_equal(store_read(world.guest, STORE_NO_TXN, "t", buf, sizeof(buf)), -ENOENT);
    assert_int_equal(store_txn_commit(world.guest, now), 0);
    assert_int_equal(store_read(world.guest, STORE_NO_TXN, "t", buf, sizeof(buf)), 3);
    assert_string_equal(buf, "new");
}

static void transactions_have_a_limit(void **state)
{
    store_txn t[STORE_TXNS_MAX], more;

    (void)state;
    for (unsigned i = 0; i < STORE_TXNS_MAX; i++)
        assert_int_equal(store_txn_begin(world.guest, &t[i]), 0);
    assert_int_equal(store_txn_begin(world.guest, &more), -ENOSPC);
    assert_int_equal(store_txn_commit(world.guest, t[3]), 0);
    assert_int_equal(store_txn_begin(world.guest, &more), 0);
    for (unsigned i = 0; i < STORE_TXNS_MAX; i++)
        assert_int_not_equal(more, t[i]);
}

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* However long it takes: no more tries, nor wake-ups, than one each period. */
static void waiting_is_not_spinning(void **state)
{
    struct store_event ev;
    char buf[8];
    unsigned wakes = 0;

    (void)state;
    uint64_t begun = now_ms();
    stop_store();
    world.starts_after = 11;
    (void)store_read(world.guest, STORE_NO_TXN, "x", buf, sizeof(buf));
    assert_true(world.tries <= (now_ms() - begun) / STORE_RETRY_MS + 1);
    next_is(world.guest, "", "");

    begun = now_ms();
    stop_store();
    world.tries = 0;
    while (world.tries < 11 && is_readable(world.guest, 10000)) {
        wakes++;
        int got = store_next_event(world.guest, &ev);
        assert_int_equal(got, world.tries == 11);
    }
    assert_true(wakes <= (now_ms() - begun) / STORE_RETRY_MS + 2); /* the hang-up is one more */
}

/* The one who has to start it does so from within its own waiting call. */
static unsigned asked;

static void start_it(void *arg)
{
    assert_ptr_equal(arg, &world);
    if (++asked == 2)
        start_store();
}

static void who_waits_may_start_it(void **state)
{
    char buf[8];

    (void)state;
    asked = 0;
    store_on_loss(world.guest, start_it, &world);
    stop_store();
    assert_int_equal(store_read(world.guest, STORE_NO_TXN, "x", buf, sizeof(buf)), -ENOENT);
    assert_int_equal(asked, 2);
    assert_int_equal(world.tries, 2);
    next_is(world.guest, "", "");
    stop_store();
    asked = 1;
    next_is(world.guest, "", ""); /* in store_next_event() as well */
    assert_int_equal(asked, 2);
}

static void no_store_at_first(void **state)
{
    struct store *st;
    char buf[8];

    (void)state;
    stop_store();
    struct hyp *hyp = fake_hyp_new(4), *toolstack = fake_hyp_new(0);
    world.tries = 0;
    assert_int_equal(store_open(&st, toolstack), -EAGAIN);
    assert_int_equal(world.tries, 1);
    world.starts_after = 5;
    assert_int_equal(store_open(&st, hyp), 0);
    assert_int_equal(store_read(st, STORE_NO_TXN, "x", buf, sizeof(buf)), -EACCES); /* no home yet */
    store_close(st);
    assert_int_equal(store_open(&st, toolstack), 0);
    store_close(st);
    hyp_close(hyp);
    hyp_close(toolstack);
}

/* -------------------------------------------------------- it does not come back */

static struct store *doomed;

static int connect_too_late(domid_t domid)
{
    (void)domid;
    world.tries++;
    doomed->give_up_ms = 0; /* STORE_AWAY_MS are over */
    return -EAGAIN;
}

static int connect_without_hypervisor(domid_t domid)
{
    (void)domid;
    world.tries++;
    return -ENOTCONN;
}

static void gone_for_good(int (*connect)(domid_t))
{
    struct store_event ev;
    char buf[8];
    store_txn t;

    assert_int_equal(store_txn_begin(world.guest, &t), 0);
    fake_hyp_store(connect);
    doomed = world.guest;
    stop_store();
    assert_int_equal(store_read(world.guest, STORE_NO_TXN, "x", buf, sizeof(buf)), -ENOTCONN);
    assert_int_equal(store_write(world.guest, STORE_NO_TXN, "x", "y"), -ENOTCONN);
    assert_int_equal(store_write(world.guest, t, "x", "y"), -ENOTCONN);
    assert_int_equal(store_watch(world.guest, "x", "t"), -ENOTCONN);
    assert_true(is_readable(world.guest, 1000));
    assert_int_equal(store_next_event(world.guest, &ev), -ENOTCONN);
    assert_int_equal(store_next_event(world.guest, &ev), -ENOTCONN);
    assert_true(is_readable(world.guest, 0));
    assert_int_equal(world.tries, 1);
}

static void it_does_not_come_back(void **state)
{
    (void)state;
    gone_for_good(connect_too_late);
}

static void the_hypervisor_is_gone(void **state)
{
    (void)state;
    gone_for_good(connect_without_hypervisor);
}

/* The same for a loop that only polls. */
static void it_does_not_come_back_to_a_loop(void **state)
{
    struct store_event ev;
    int got = 0;

    (void)state;
    fake_hyp_store(connect_too_late);
    doomed = world.guest;
    stop_store();
    for (int i = 0; i < 100 && got == 0; i++) {
        assert_true(is_readable(world.guest, 10000));
        got = store_next_event(world.guest, &ev);
    }
    assert_int_equal(got, -ENOTCONN);
    assert_true(is_readable(world.guest, 1000));
}

/* ------------------------------------------------------ a store that we play */

/*
 * Each connection is answered by a script: how many requests to answer with
 * "OK" (the one that comes after them is taken and never answered), and what to
 * say to the request that is of the wanted type instead.
 */
struct answer {
    unsigned ok;
    uint32_t wanted;
    const char *error; /* NULL: "OK" as well */
};

static struct {
    const struct answer *script;
    unsigned connections;
    char asked[16][64]; /* "connection:type payload" of all that was asked, NULs as spaces */
    unsigned nasked;
    pthread_t threads[4];
    int fds[4];
} play;

static void *answer(void *arg)
{
    unsigned connection = (unsigned)(uintptr_t)arg;
    int fd = play.fds[connection];
    struct answer a = play.script[connection];
    struct xsd_sockmsg h;
    char payload[XENSTORE_PAYLOAD_MAX + 1];

    while (recv(fd, &h, sizeof(h), MSG_WAITALL) == sizeof(h)) {
        if (h.len && recv(fd, payload, h.len, MSG_WAITALL) != (ssize_t)h.len)
            break;
        for (unsigned i = 0; i < h.len; i++)
            payload[i] = payload[i] ? payload[i] : ' ';
        payload[h.len] = '\0';
        pthread_mutex_lock(&world.lock);
        if (play.nasked < 16)
            snprintf(play.asked[play.nasked++], 64, "%u:%u %.40s", connection, h.type, payload);
        pthread_mutex_unlock(&world.lock);
        if (!a.ok--)
            break;
        bool refused = a.error && h.type == a.wanted;
        const char *say = refused ? a.error : h.type == XS_TRANSACTION_START ? "5" : "OK";
        h.type = refused ? XS_ERROR : h.type;
        h.len = (uint32_t)strlen(say) + 1;
        if (send(fd, &h, sizeof(h), MSG_NOSIGNAL) < 0 || send(fd, say, h.len, MSG_NOSIGNAL) < 0)
            break;
    }
    close(fd);
    return NULL;
}

static int connect_play(domid_t domid)
{
    int pair[2];

    (void)domid;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        abort();
    unsigned i = play.connections++;
    if (i == 4)
        abort();
    play.fds[i] = pair[1];
    if (pthread_create(&play.threads[i], NULL, answer, (void *)(uintptr_t)i))
        abort();
    return pair[0];
}

static struct hyp *play_with(const struct answer *script, struct store **st)
{
    memset(&play, 0, sizeof(play));
    play.script = script;
    fake_hyp_store(connect_play);
    struct hyp *hyp = fake_hyp_new(3);
    assert_int_equal(store_open(st, hyp), 0);
    return hyp;
}

static void stop_playing(struct hyp *hyp, struct store *st)
{
    store_close(st);
    hyp_close(hyp);
    for (unsigned i = 0; i < play.connections; i++)
        pthread_join(play.threads[i], NULL);
    assert_int_equal(fake_hyp_reset(), 0);
}

/* XS_WATCH is 4, XS_TRANSACTION_START 6, _END 7, XS_WRITE 11, XS_RM 13, XS_RESET_WATCHES 21. */
static void asked_was(const char *const *lines, unsigned n)
{
    for (unsigned i = 0; i < n && i < play.nasked; i++)
        assert_string_equal(play.asked[i], lines[i]);
    assert_int_equal(play.nasked, n);
}

/* It died after it took the request: asked again, after the watches. */
static void what_was_asked_is_asked_again(void **state)
{
    static const struct answer script[] = {{.ok = 1}, {.ok = 1}, {.ok = 99}};
    static const char *const lines[] = {"0:4 a t ", "0:11 k value", "1:21  ", "1:4 a t ",
                                        "2:21  ",   "2:4 a t ",     "2:11 k value"};
    struct store *st;

    (void)state;
    struct hyp *hyp = play_with(script, &st);
    assert_int_equal(store_watch(st, "a", "t"), 0);
    assert_int_equal(store_write(st, STORE_NO_TXN, "k", "value"), 0);
    stop_playing(hyp, st);
    asked_was(lines, 7);
}

/* The first of the two may have removed what the second does not find. */
static void removed_is_removed(void **state)
{
    static const struct answer script[] = {{.ok = 0}, {.ok = 99, .wanted = XS_RM, .error = "ENOENT"}};
    struct store *st;

    (void)state;
    struct hyp *hyp = play_with(script, &st);
    assert_int_equal(store_rm(st, STORE_NO_TXN, "k/l"), 0);
    assert_int_equal(store_rm(st, STORE_NO_TXN, "k/l"), -ENOENT); /* the control: asked once */
    stop_playing(hyp, st);
}

/* A commit that was not answered may have happened: the caller decides. */
static void a_commit_is_not_asked_again(void **state)
{
    static const struct answer script[] = {{.ok = 2}, {.ok = 99}};
    static const char *const lines[] = {"0:6  ", "0:11 k 1", "0:7 T ", "1:21  ", "1:11 k 2"};
    struct store *st;
    store_txn t;

    (void)state;
    struct hyp *hyp = play_with(script, &st);
    assert_int_equal(store_txn_begin(st, &t), 0);
    assert_int_equal(store_write(st, t, "k", "1"), 0);
    assert_int_equal(store_txn_commit(st, t), -EAGAIN);
    assert_int_equal(store_write(st, STORE_NO_TXN, "k", "2"), 0);
    stop_playing(hyp, st);
    asked_was(lines, 5);
}

/* A watch that cannot be set again is no reason to go on without it. */
static void a_watch_that_is_refused(void **state)
{
    static const struct answer script[] = {
        {.ok = 1}, {.ok = 99, .wanted = XS_WATCH, .error = "ENOSPC"}, {.ok = 99}};
    static const char *const lines[] = {"0:4 a t ", "0:11 k v", "1:21  ",  "1:4 a t ",
                                        "2:21  ",   "2:4 a t ", "2:11 k v"};
    struct store *st;

    (void)state;
    struct hyp *hyp = play_with(script, &st);
    assert_int_equal(store_watch(st, "a", "t"), 0);
    assert_int_equal(store_write(st, STORE_NO_TXN, "k", "v"), 0);
    stop_playing(hyp, st);
    asked_was(lines, 7);
}

static void watches_have_a_limit(void **state)
{
    static const struct answer script[] = {{.ok = 100000}};
    struct store *st;
    char token[16];

    (void)state;
    struct hyp *hyp = play_with(script, &st);
    for (unsigned i = 0; i < STORE_WATCHES_MAX; i++) {
        snprintf(token, sizeof(token), "%u", i);
        assert_int_equal(store_watch(st, "a", token), 0);
    }
    assert_int_equal(store_watch(st, "a", "more"), -ENOSPC);
    assert_int_equal(store_unwatch(st, "a", "7"), 0);
    assert_int_equal(store_watch(st, "a", "more"), 0);
    stop_playing(hyp, st);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_call_waits_for_the_store),
        TEST(watches_are_set_again),
        TEST(one_event_for_all),
        TEST(transactions_begin_again),
        TEST(transactions_have_a_limit),
        TEST(waiting_is_not_spinning),
        TEST(who_waits_may_start_it),
        TEST(no_store_at_first),
        TEST(it_does_not_come_back),
        TEST(the_hypervisor_is_gone),
        TEST(it_does_not_come_back_to_a_loop),
        cmocka_unit_test(what_was_asked_is_asked_again),
        cmocka_unit_test(removed_is_removed),
        cmocka_unit_test(a_commit_is_not_asked_again),
        cmocka_unit_test(a_watch_that_is_refused),
        cmocka_unit_test(watches_have_a_limit),
    };

    return cmocka_run_group_tests_name("store_reconnect", tests, NULL, NULL);
}
