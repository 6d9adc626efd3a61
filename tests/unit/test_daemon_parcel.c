/* SPDX-License-Identifier: MIT */
/* What a killed daemon leaves for the next one: descriptors in a socket that somebody else keeps open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../driverdom/daemon/daemon.h"
#include "../../driverdom/daemon/parcel.h"

static int ends[2];

static int begin(void **state)
{
    (void)state;
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

static int end(void **state)
{
    (void)state;
    return close(ends[0]) || close(ends[1]);
}

static ino_t inode(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    return st.st_ino;
}

static int a_pipe(void)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    close(fds[1]);
    return fds[0];
}

/* How many descriptors this process has. */
static int open_files(void)
{
    int n = 0;

    for (int fd = 0; fd < 4096; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void what_is_sent_is_received(void **state)
{
    struct parcel_entry entry = {.name = "g1"}, got;
    int log = a_pipe(), door = a_pipe();

    (void)state;
    parcel_add(&entry, PARCEL_LOG, log);
    parcel_add(&entry, PARCEL_SPARE_LOG, -1);
    parcel_add(&entry, PARCEL_DOOR, door);
    assert_int_equal(parcel_send(ends[0], &entry), 1);
    assert_int_equal(parcel_receive(ends[1], &got), 1);
    assert_string_equal(got.name, "g1");
    assert_int_equal(got.n, 2);
    assert_int_equal(got.kind[0], PARCEL_LOG);
    assert_int_equal(got.kind[1], PARCEL_DOOR);
    assert_int_equal(inode(got.fd[0]), inode(log));
    assert_int_equal(inode(got.fd[1]), inode(door));
    assert_true(fcntl(got.fd[0], F_GETFD) & FD_CLOEXEC);
    parcel_close(&got);
    assert_int_equal(parcel_receive(ends[1], &got), 0);
    close(log);
    close(door);
}

static void an_empty_one_is_not_sent(void **state)
{
    struct parcel_entry entry = {.name = "g1"}, got;

    (void)state;
    parcel_add(&entry, PARCEL_LOG, -1);
    assert_int_equal(parcel_send(ends[0], &entry), 0);
    assert_int_equal(parcel_receive(ends[1], &got), 0);
}

static void what_is_not_understood_carries_nothing(void **state)
{
    static const char text[] = "of another build";
    int before, fd = a_pipe();
    struct parcel_entry got;

    (void)state;
    before = open_files();
    assert_int_equal(rights_send(ends[0], text, sizeof(text), &fd, 1), 0);
    assert_int_equal(parcel_receive(ends[1], &got), 1);
    assert_int_equal(got.n, 0);
    assert_int_equal(open_files(), before);
    close(fd);
}

#define SEEN_MAX 64

static void note(void *data, struct parcel_entry *entry)
{
    char *seen = data;
    size_t at = strlen(seen);

    snprintf(seen + at, SEEN_MAX - at, "%s ", entry->name);
    parcel_close(entry);
}

static void a_look_leaves_all_where_it_is(void **state)
{
    static const char *const names[] = {"one", "two", "three"};
    char seen[SEEN_MAX];
    struct parcel_entry got;
    int before, fd = a_pipe();

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct parcel_entry entry = {.n = 0};

        snprintf(entry.name, sizeof(entry.name), "%s", names[i]);
        parcel_add(&entry, PARCEL_LOG, fd);
        assert_int_equal(parcel_send(ends[0], &entry), 1);
    }
    before = open_files();
    for (int look = 0; look < 2; look++) {
        *seen = '\0';
        assert_int_equal(parcel_each(ends[1], note, seen), 3);
        assert_string_equal(seen, "one two three ");
    }
    assert_int_equal(open_files(), before);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(parcel_receive(ends[1], &got), 1);
        assert_string_equal(got.name, names[i]);
        parcel_close(&got);
    }
    assert_int_equal(parcel_receive(ends[1], &got), 0);
    close(fd);
}

/* ----------------------------------------------------------- as the daemon does it */

static struct daemon d, next;

static void empty(struct daemon *who)
{
    memset(who, 0, sizeof(*who));
    who->parcel[0] = ends[0];
    who->parcel[1] = ends[1];
    who->store_process.listen_fd = who->store_process.journal_fd = who->keeper.control = -1;
    log_init(&who->core_log, "@core");
    log_init(&who->store_process.log, "@store");
    log_init(&who->keeper.log, "@netdev");
    log_init(&who->own_log, "@bulkheadd");
    who->store_process.retry_at = 1ull << 62; /* the store's process is another test's */
}

static void add(struct daemon *who, int g)
{
    struct domain *dom = &who->domains[g];

    *dom = (struct domain){.used = true, .door_fd = -1};
    snprintf(dom->spec.name, sizeof(dom->spec.name), "guest%d", g);
    log_init(&dom->log, dom->spec.name);
    log_init(&dom->spare.log, dom->spec.name);
}

static void close_all(struct daemon *who)
{
    close(who->store_process.listen_fd);
    close(who->store_process.journal_fd);
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        if (!who->domains[g].used)
            continue;
        close(who->domains[g].log.pipe);
        close(who->domains[g].spare.log.pipe);
        close(who->domains[g].door_fd);
    }
}

static void fill(struct daemon *who)
{
    who->store_process.listen_fd = a_pipe();
    who->store_process.journal_fd = a_pipe();
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        add(who, g);
        who->domains[g].log.pipe = a_pipe();
        who->domains[g].spare.log.pipe = a_pipe();
        who->domains[g].door_fd = a_pipe();
    }
}

static void the_next_daemon_has_them_all(void **state)
{
    char why[DAEMON_SENTENCE_MAX] = "";

    (void)state;
    empty(&d);
    fill(&d);
    adopt_park(&d);
    assert_int_equal(d.parked, DAEMON_DOMAINS_MAX + 1);
    /* Every domain has changed: old and new fit together. */
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        close(d.domains[g].log.pipe);
        d.domains[g].log.pipe = a_pipe();
    }
    adopt_park(&d);
    assert_int_equal(d.parked, DAEMON_DOMAINS_MAX + 1);

    empty(&next);
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++)
        add(&next, g);
    assert_int_equal(adopt_prepare(&next, why, sizeof(why)), 0);
    assert_int_equal(inode(next.store_process.journal_fd), inode(d.store_process.journal_fd));
    assert_int_equal(inode(next.store_process.listen_fd), inode(d.store_process.listen_fd));
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        assert_int_equal(inode(next.domains[g].log.pipe), inode(d.domains[g].log.pipe));
        assert_int_equal(inode(next.domains[g].spare.log.pipe), inode(d.domains[g].spare.log.pipe));
        assert_int_equal(inode(next.domains[g].door_fd), inode(d.domains[g].door_fd));
    }
    assert_int_equal(next.parked, DAEMON_DOMAINS_MAX + 1);
    log_forget(&next.own_log);
    close_all(&d);
    close_all(&next);
}

static void only_what_changed_is_parked_anew(void **state)
{
    struct parcel_entry got;

    (void)state;
    empty(&d);
    d.store_process.listen_fd = a_pipe();
    d.store_process.journal_fd = a_pipe();
    add(&d, 0);
    d.domains[0].log.pipe = a_pipe();
    adopt_park(&d);
    assert_int_equal(d.parked, 2);
    adopt_park(&d); /* nothing happened: what waits is the same */
    /* Another pipe behind the same number is another one. */
    int old = d.domains[0].log.pipe, other = a_pipe();

    assert_int_equal(dup3(other, old, O_CLOEXEC), old);
    adopt_park(&d);
    assert_int_equal(d.parked, 2);
    assert_int_equal(parcel_receive(ends[1], &got), 1);
    assert_string_equal(got.name, "");
    parcel_close(&got);
    assert_int_equal(parcel_receive(ends[1], &got), 1);
    assert_string_equal(got.name, "guest0");
    assert_int_equal(inode(got.fd[0]), inode(other));
    parcel_close(&got);
    assert_int_equal(parcel_receive(ends[1], &got), 0);
    close(other);
    close_all(&d);
}

static void killed_between_new_and_old_the_new_counts(void **state)
{
    char why[DAEMON_SENTENCE_MAX] = "";
    struct parcel_entry entry = {.name = "guest0"};

    (void)state;
    empty(&d);
    d.store_process.listen_fd = a_pipe();
    d.store_process.journal_fd = a_pipe();
    add(&d, 0);
    d.domains[0].log.pipe = a_pipe();
    adopt_park(&d);
    /* The new set had been begun: of guest0 there are two now. */
    int newer = a_pipe();

    parcel_add(&entry, PARCEL_LOG, newer);
    assert_int_equal(parcel_send(ends[0], &entry), 1);

    empty(&next);
    add(&next, 0);
    assert_int_equal(adopt_prepare(&next, why, sizeof(why)), 0);
    assert_int_equal(inode(next.domains[0].log.pipe), inode(newer));
    assert_int_equal(next.parked, 3);
    adopt_park(&next);
    assert_int_equal(next.parked, 2); /* and one again */
    log_forget(&next.own_log);
    close(newer);
    close_all(&d);
    close_all(&next);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_is_sent_is_received),
        T(an_empty_one_is_not_sent),
        T(what_is_not_understood_carries_nothing),
        T(a_look_leaves_all_where_it_is),
        T(the_next_daemon_has_them_all),
        T(only_what_changed_is_parked_anew),
        T(killed_between_new_and_old_the_new_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
