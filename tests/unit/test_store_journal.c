/* SPDX-License-Identifier: MIT */
/*
 * The journal: what a killed store leaves to the next.
 *
 * Killed at every instruction: a child works under ptrace, step by step, and
 * whenever its journal's memory has changed a store is restored from a copy.
 * Killed at random instants: a store of its own process that serves a client.
 */
#include "test_store.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "hyp-shim/local/store/journal.h"
#include "hyp-shim/store.h"
#include "tests/store_dump.h"

static int journal_fd; /* the toolstack's own */

static void open_journal(int fd)
{
    const char *why = "";
    int err = xsd_journal_open(fcntl(fd, F_DUPFD_CLOEXEC, 0), &why);

    if (err)
        fail_msg("%d: %s", err, why);
}

static void introduce_all(void)
{
    introduce(&dom0, 0);
    introduce(&guest1, 1);
    introduce(&guest2, 2);
}

static int begin_journal(void **state)
{
    (void)state;
    journal_fd = store_journal_new();
    assert_true(journal_fd >= 0);
    start_store();
    open_journal(journal_fd);
    introduce_all();
    make_home(1);
    make_home(2);
    return 0;
}

static int end_journal(void **state)
{
    int err = end(state);

    close(journal_fd);
    return err;
}

/* The store is gone, all at once, and another comes. */
static void next_life(void)
{
    close(dom0.fd);
    close(guest1.fd);
    close(guest2.fd);
    store_server_end();
    close(control_fd);
    start_store();
    open_journal(journal_fd);
}

/* Nothing but connections and what belongs to them may be missing after it. */
static void restart(void)
{
    char *before = store_dump();

    next_life();
    char *after = store_dump();
    assert_string_equal(before, after);
    assert_true(store_charges_nodes_only());
    free(before);
    free(after);
    introduce_all();
}

/* ---------------------------------------------------------------- what is kept */

static void all_comes_back(void **state)
{
    static char big[XENSTORE_PAYLOAD_MAX];

    (void)state;
    assert_int_equal(put(&guest1, "a/b/c", "value"), 0);
    assert_int_equal(put(&guest1, "empty", ""), 0);
    assert_int_equal(ask_in(&guest1, XS_WRITE, 0, "nul\0v\0w\0", 8), 0);
    memset(big, 'x', sizeof(big));
    memcpy(big, "/big", 5);
    assert_int_equal(ask_in(&dom0, XS_WRITE, 0, big, sizeof(big)), 0);
    assert_int_equal(set_perms(&guest1, "a/b", "n1 r2 b0 w3"), 0);
    assert_int_equal(set_perms(&dom0, "/", "n0 r2"), 0);
    assert_int_equal(put(&dom0, "/", "of the root"), 0);
    restart();
    assert_int_equal(get(&guest1, "a/b/c"), 0);
    assert_string_equal(guest1.reply, "value");
    assert_int_equal(get(&guest2, HOME(1) "/a/b"), 0);
    assert_int_equal(get(&guest2, HOME(1) "/a/b/c"), -EACCES);
    assert_int_equal(get(&dom0, "/"), 0);
    assert_string_equal(dom0.reply, "of the root");

    /* Names come back in their order, also where nodes went and new ones came. */
    assert_int_equal(rm(&guest1, "empty"), 0);
    assert_int_equal(rm(&dom0, "/big"), 0);
    assert_int_equal(put(&guest1, "later", "1"), 0);
    assert_int_equal(put(&guest2, "z", "2"), 0);
    assert_int_equal(rm(&guest1, "a"), 0);
    restart();
    assert_int_equal(get(&guest1, "a"), -ENOENT);
    assert_int_equal(put(&guest1, "again", "1"), 0);
    restart();
    restart();
    assert_int_equal(get(&guest1, "again"), 0);
    assert_int_equal(rm(&dom0, HOME(1)), 0);
    restart();
}

static void transactions_whole_or_not(void **state)
{
    (void)state;
    assert_int_equal(put(&dom0, "/t/old", "1"), 0);
    uint32_t done = txn_begin(&dom0);
    assert_int_equal(put_in(&dom0, done, "/t/new/er", "2"), 0);
    assert_int_equal(ask_path(&dom0, XS_RM, done, "/t/old"), 0);
    assert_int_equal(chmod_in(&dom0, done, HOME(1), "n1 r2"), 0);
    assert_int_equal(put_in(&dom0, done, HOME(2) "/mine", "3"), 0);
    assert_int_equal(chmod_in(&dom0, done, HOME(2) "/mine", "n1"), 0);
    assert_int_equal(txn_end(&dom0, done, "T"), 0);
    uint32_t failed = txn_begin(&dom0);
    assert_int_equal(put_in(&dom0, failed, "/t/new", "mine"), 0);
    assert_int_equal(put(&dom0, "/t/new", "yours"), 0);
    assert_int_equal(txn_end(&dom0, failed, "T"), -EAGAIN);
    uint32_t open = txn_begin(&guest1);
    assert_int_equal(put_in(&guest1, open, "never", "x"), 0);
    restart();
    assert_int_equal(get(&dom0, "/t/old"), -ENOENT);
    assert_int_equal(get(&dom0, "/t/new"), 0);
    assert_string_equal(dom0.reply, "yours");
    assert_int_equal(get(&guest2, HOME(1)), 0);
    assert_int_equal(get(&guest1, "never"), -ENOENT);
    assert_int_equal(txn_end(&guest1, open, "T"), -ENOENT);
}

/* A reader of a long directory in parts must see that it has changed. */
static void no_generation_comes_twice(void **state)
{
    char before[24];

    (void)state;
    assert_int_equal(put(&dom0, "/d/one", "1"), 0);
    assert_int_equal(ASK(&dom0, XS_DIRECTORY_PART, "/d\0" "0"), 0);
    assert_in_range(strlen(dom0.reply), 1, sizeof(before) - 1);
    memcpy(before, dom0.reply, strlen(dom0.reply) + 1);
    restart();
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ASK(&dom0, XS_DIRECTORY_PART, "/d\0" "0"), 0);
        assert_string_not_equal(dom0.reply, before);
        assert_int_equal(put(&dom0, "/d/one", "1"), 0);
        assert_int_equal(put(&dom0, "/d/two", "1"), 0);
        assert_int_equal(rm(&dom0, "/d/two"), 0);
    }
}

static void a_share_is_still_used_up(void **state)
{
    char path[32], value[1801];
    unsigned n = 0;

    (void)state;
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    for (const char *what = value; *what;) {
        snprintf(path, sizeof(path), "fill/%u", n++);
        int err = put(&guest1, path, what);
        assert_true(err == 0 || err == -ENOSPC);
        what = err == 0 ? what : what == value ? "small" : "";
    }
    restart();
    uint32_t nodes = xsd_account_of(1)->used[XSD_NODE], blocks = xsd_account_of(1)->used[XSD_BLOCK];
    assert_int_equal(put(&guest1, "fill/more", value), -ENOSPC);
    assert_int_equal(put(&guest2, "mine", value), 0); /* the control: another's share */
    assert_int_equal(put(&dom0, HOME(1) "/from0", "slack"), 0);
    assert_int_equal(rm(&dom0, HOME(1) "/from0"), 0);
    assert_int_equal(rm(&guest1, "fill/3"), 0);
    assert_int_equal(put(&guest1, "fill/3", value), 0);
    assert_int_equal(xsd_account_of(1)->used[XSD_NODE], nodes);
    assert_int_equal(xsd_account_of(1)->used[XSD_BLOCK], blocks);
    restart();
}

/* ------------------------------------------------------------------ who there is */

static void a_dead_domain_stays_dead(void **state)
{
    (void)state;
    assert_int_equal(put(&guest1, "mine", "1"), 0);
    assert_int_equal(set_perms(&guest2, HOME(2), "n2 r1"), 0);
    assert_int_equal(set_perms(&dom0, "/", "n1"), 0);
    release(&guest1);
    char *before = store_dump();
    next_life();
    char *after = store_dump();
    assert_string_equal(before, after);
    assert_true(store_charges_nodes_only());
    free(before);
    free(after);
    introduce_all();
    assert_int_equal(get(&guest1, "mine"), -EACCES);
    assert_int_equal(get(&guest1, HOME(2)), -EACCES);
}

static void hear_who_lives(const domid_t *domid, uint32_t n)
{
    struct store_living say = {.op = STORE_CONTROL_LIVING, .n = n};

    for (uint32_t i = 0; i < n; i++)
        say.domid[i] = domid[i];
    assert_int_equal(send(control_fd, &say, sizeof(say), 0), sizeof(say));
    turn();
}

/* Nobody told the store of those who came and went while there was none. */
static void what_happened_meanwhile(void **state)
{
    (void)state;
    assert_int_equal(put(&guest1, "mine", "1"), 0);
    assert_int_equal(put(&guest2, "mine", "2"), 0);
    assert_int_equal(set_perms(&guest2, HOME(2), "n2 r1"), 0);
    next_life();
    hear_who_lives((const domid_t[]){2, 7}, 2);
    assert_null(xsd_account_of(1));
    introduce(&dom0, 0);
    introduce(&guest2, 2);
    assert_int_equal(get(&dom0, HOME(1)), -ENOENT);
    assert_int_equal(get(&guest2, "mine"), 0);
    assert_int_equal(ask_path(&guest2, XS_GET_PERMS, 0, HOME(2)), 0);
    assert_string_equal(guest2.reply, "n2");
    assert_int_equal(dom0.h.len, 7); /* "ENOENT" */
    make_home(7);                    /* dom0 may name it before it has come itself */
    introduce(&guest1, 7);
    assert_int_equal(put(&guest1, "mine", "7"), 0);
    assert_int_equal(xsd_counted(XSD_COUNT_bad_control), 0);
    char *before = store_dump();
    next_life();
    char *after = store_dump();
    assert_string_equal(before, after);
    free(before);
    free(after);
    introduce_all();
}

static void gone(const char *path, size_t len, const struct xsd_perms *perms, bool top)
{
    (void)path;
    (void)len;
    (void)perms;
    (void)top;
}

/* ----------------------------------------------------------------------- size */

static uint64_t memory_used(void)
{
    struct stat st;

    assert_int_equal(fstat(journal_fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* 20 MiB of changes to a small tree: it is rewritten again and again, and takes
 * no more memory than twice that and the room to grow. */
static void rewritten_under_load(void **state)
{
    char path[32], value[1024];

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(path, sizeof(path), "k/%u", i * 7919 % 64);
        memset(value, 'a' + (int)(i % 26), sizeof(value) - 1);
        value[i % sizeof(value)] = '\0';
        assert_int_equal(put(&guest1, path, value), 0);
        if (i % 5 == 0) {
            snprintf(path, sizeof(path), "k/%u", i * 31 % 64);
            assert_int_equal(rm(&guest1, path), 0);
        }
        if (i % 997 == 0)
            restart();
    }
    restart();
    assert_true(memory_used() < (2u << 20));
}

/* Nodes until there is no room for any; each is in the table. */
static void fill_up(domid_t d)
{
    static const char value[XSD_BLOCK_DATA];
    struct xsd_perms perms = {.n = XSD_PERMS_MAX, .p = {{.domid = d}}};
    char name[16];
    xsd_ref ref;

    for (unsigned i = 0;; i++) {
        snprintf(name, sizeof(name), "%u-%u", d, i);
        if (xsd_tree_add(XSD_ROOT, name, strlen(name), &perms, true, &ref))
            break;
        assert_in_range(ref, XSD_ROOT + 1, XSD_NODES);
        if (i % 3)
            (void)xsd_tree_set_value(ref, value, sizeof(value), true);
    }
}

/* Every domain has used up its share: the largest tree that there can be. */
static void the_largest_tree(void **state)
{
    (void)state;
    for (domid_t d = 3; d < CORE_DOMAINS_MAX; d++)
        say(STORE_CONTROL_INTRODUCE, d, guest1.fd); /* any descriptor */
    turn();
    for (domid_t d = 0; d < CORE_DOMAINS_MAX; d++)
        fill_up(d);
    xsd_journal_commit();
    assert_int_equal(xsd_account_of(1)->used[XSD_NODE], XSD_NODES_GUEST + XSD_NODES_SLACK);
    assert_int_equal(xsd_account_of(0)->used[XSD_NODE], XSD_NODES_DOM0);
    char *before = store_dump();
    next_life();
    char *after = store_dump();
    assert_true(!strcmp(before, after)); /* too long to be printed */
    assert_true(store_charges_nodes_only());
    free(before);
    free(after);

    /* What is free then is found again, wherever it is. */
    for (xsd_ref ref = 2000; ref < 2 * XSD_NODES / 3; ref++)
        if (xsd_tree_has(ref))
            xsd_tree_remove(ref, gone);
    xsd_journal_commit();
    next_life();
    for (domid_t d = 0; d < CORE_DOMAINS_MAX; d++)
        fill_up(d);
    xsd_journal_commit();
    for (domid_t d = 1; d < CORE_DOMAINS_MAX; d++)
        assert_int_equal(xsd_account_of(d)->used[XSD_NODE], XSD_NODES_GUEST + XSD_NODES_SLACK);
    introduce_all();
}

/* --------------------------------------------------------------------- damage */

static int try_open(int fd, const char **why)
{
    assert_int_equal(store_server_init(-1, -1), 0);
    return xsd_journal_open(fcntl(fd, F_DUPFD_CLOEXEC, 0), why);
}

#define HEAD_BYTES 4096u
#define LIFE_AT    20u

static void damage_is_refused(void **state)
{
    const char *why = "";
    uint32_t version;
    uint8_t *memory = mmap(NULL, STORE_JOURNAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, journal_fd, 0);
    unsigned refused = 0;

    (void)state;
    assert_ptr_not_equal(memory, MAP_FAILED);
    assert_int_equal(put(&guest1, "a/b", "some value"), 0);
    assert_int_equal(set_perms(&guest1, "a/b", "n1 r2"), 0);
    restart();
    assert_int_equal(put(&guest1, "a/c", "another"), 0);
    char *right = store_dump();
    uint64_t tip;
    memcpy(&tip, memory + 24, sizeof(tip));
    uint64_t half = tip >> 63 ? (STORE_JOURNAL_BYTES - HEAD_BYTES) / 2 : 0, counts = (uint32_t)tip;
    assert_in_range(counts, 256, 8192);

    for (uint64_t i = 0; i < 32 + counts; i++) {
        uint8_t *byte = memory + (i < 32 ? i : HEAD_BYTES + half + i - 32);
        if (i >= LIFE_AT && i < LIFE_AT + 4)
            continue; /* it only counts */
        *byte ^= (uint8_t)(1u << i % 8);
        int err = try_open(journal_fd, &why);
        if (err != -EBADMSG && err != -EPROTO)
            fail_msg("byte %u: %d", (unsigned)i, err);
        assert_non_null(strstr(why, "journal"));
        *byte ^= (uint8_t)(1u << i % 8);
        refused++;
    }
    assert_int_equal(refused, 28 + counts);
    memcpy(&version, memory + 16, 4);
    memory[16] ^= 2;
    assert_int_equal(try_open(journal_fd, &why), -EPROTO);
    assert_non_null(strstr(why, "version"));
    memcpy(memory + 16, &version, 4);

    /* The control: with every byte right again it opens, and is the same. */
    assert_int_equal(try_open(journal_fd, &why), 0);
    char *again = store_dump();
    assert_string_equal(again, right);
    free(right);
    free(again);
    munmap(memory, STORE_JOURNAL_BYTES);
    next_life();
    introduce_all();
}

static void no_journal_at_all(void **state)
{
    const char *why = "";
    int pipes[2], small = memfd_create("small", MFD_CLOEXEC);

    (void)state;
    assert_int_equal(ftruncate(small, 4096), 0);
    assert_int_equal(try_open(small, &why), -EINVAL);
    assert_non_null(strstr(why, "size"));
    close(small);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(try_open(pipes[0], &why), -EINVAL);
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(xsd_journal_open(-1, &why), -EBADF);
    assert_non_null(strstr(why, "descriptor 5"));
    next_life();
    introduce_all();
}

/* ------------------------------------------------ killed at every instruction */

static xsd_ref node_at(const char *path)
{
    return xsd_tree_find(path, strlen(path));
}

static void write_node(const char *path, domid_t by, const char *value)
{
    struct xsd_path p = {.len = strlen(path)};
    xsd_ref ref = node_at(path);

    memcpy(p.text, path, p.len + 1);
    if (!ref)
        (void)xsd_tree_make(&p, by, strlen(value), &ref);
    (void)xsd_tree_set_value(ref, value, strlen(value), false);
}

/* What the store does for a request; each ends with what all of them end with. */
static void work(unsigned step, int fd)
{
    static const struct xsd_perms shared = {.n = 2, .p = {{.domid = 2}, {.domid = 1, .may = XSD_MAY_READ}}};

    switch (step) {
    case 0: write_node("/x/y", 0, "one"); break;
    case 1: write_node(HOME(1) "/a", 1, "of the guest"); break;
    case 2: write_node("/x/y", 0, "a longer value that takes more than one block of memory"); break;
    case 3: (void)xsd_tree_set_perms(node_at(HOME(2)), &shared, true); break;
    case 4: /* a transaction: several nodes, all or none */
        xsd_tree_remove(node_at("/x"), gone);
        write_node("/x/z", 0, "two");
        write_node(HOME(2) "/b", 2, "three");
        (void)xsd_tree_set_perms(node_at(HOME(2) "/b"), &shared, true);
        break;
    case 5: xsd_journal_compact(); break;
    case 6: xsd_tree_remove(node_at(HOME(2) "/b"), gone); break;
    case 7:
        if (!xsd_account_open(9))
            xsd_journal_domain(9);
        break;
    case 8:
        xsd_tree_purge(1, gone);
        xsd_account_close(1);
        xsd_journal_purge(1);
        break;
    case 9: write_node("/last", 0, ""); break;
    case 10: xsd_journal_compact(); break;
    default: /* the next store begins, and is killed as well */
        (void)store_server_init(-1, -1);
        open_journal(fd);
        break;
    }
    xsd_journal_commit();
}
#define STEPS 12

#define WATCHED 16384u /* of each half: more than this work writes */

struct stage {
    int copy_fd;
    uint8_t *memory, *copy;
    uint8_t seen[2 * WATCHED + HEAD_BYTES];
    char *after[STEPS + 1]; /* what is right when so many steps were done */
    uint32_t *done;         /* shared with the child */
    unsigned restored, old, new;
};

static uint8_t *range_of(uint8_t *memory, unsigned i, size_t *bytes)
{
    static const uint64_t from[] = {0, HEAD_BYTES, HEAD_BYTES + (STORE_JOURNAL_BYTES - HEAD_BYTES) / 2};

    *bytes = i ? WATCHED : HEAD_BYTES;
    return memory + from[i];
}

static bool has_changed(struct stage *s)
{
    uint8_t *seen = s->seen;
    bool changed = false;
    size_t bytes;

    for (unsigned i = 0; i < 3; i++, seen += bytes) {
        const uint8_t *now = range_of(s->memory, i, &bytes);
        if (!memcmp(seen, now, bytes))
            continue;
        memcpy(seen, now, bytes);
        changed = true;
    }
    return changed;
}

/* The child is killed here: another store begins with what it leaves. */
static void restore_here(struct stage *s)
{
    const char *why = "";
    size_t bytes;
    uint32_t done = *s->done;

    for (unsigned i = 0; i < 3; i++) {
        uint8_t *to = range_of(s->copy, i, &bytes);
        memcpy(to, range_of(s->memory, i, &bytes), bytes);
    }
    int err = try_open(s->copy_fd, &why);
    if (err)
        fail_msg("after step %u: %d %s", done, err, why);
    char *now = store_dump();
    bool old = !strcmp(now, s->after[done]), new = done < STEPS && !strcmp(now, s->after[done + 1]);
    if (!old && !new)
        fail_msg("after step %u, neither before nor after the next:\n%s\n--- before:\n%s\n--- after:\n%s",
                 done, now, s->after[done], done < STEPS ? s->after[done + 1] : "");
    assert_true(store_charges_nodes_only());
    s->restored++;
    s->old += old;
    s->new += new && !old;
    free(now);
}

static void work_under_trace(uint32_t *done)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
        _exit(77);
    raise(SIGSTOP);
    for (unsigned i = 0; i < STEPS; i++) {
        work(i, journal_fd);
        __atomic_store_n(done, i + 1, __ATOMIC_RELEASE);
    }
    _exit(0);
}

/* What each step leaves, done once by ourselves in another journal. */
static void rehearse(struct stage *s)
{
    int fd = store_journal_new();

    assert_int_equal(pwrite(fd, s->memory, HEAD_BYTES, 0), HEAD_BYTES);
    size_t bytes;
    for (unsigned i = 1; i < 3; i++) {
        const uint8_t *from = range_of(s->memory, i, &bytes);
        assert_int_equal(pwrite(fd, from, bytes, from - s->memory), bytes);
    }
    assert_int_equal(store_server_init(-1, -1), 0);
    open_journal(fd);
    s->after[0] = store_dump();
    for (unsigned i = 0; i < STEPS; i++) {
        work(i, fd);
        s->after[i + 1] = store_dump();
    }
    close(fd);
}

static void killed_at_every_instruction(void **state)
{
    static struct stage s;
    int status = 0;

    (void)state;
    s = (struct stage){.copy_fd = store_journal_new()};
    s.memory = mmap(NULL, STORE_JOURNAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, journal_fd, 0);
    s.copy = mmap(NULL, STORE_JOURNAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, s.copy_fd, 0);
    s.done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(s.memory != MAP_FAILED && s.copy != MAP_FAILED && s.done != MAP_FAILED);
    rehearse(&s);
    next_life();
    pid_t child = fork();
    if (child == 0)
        work_under_trace(s.done);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip(); /* no ptrace here */
    assert_int_equal(ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_EXITKILL), 0);
    while (!WIFEXITED(status)) {
        if (has_changed(&s))
            restore_here(&s);
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) || (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP));
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(*s.done, STEPS);
    print_message("%u states of the memory: %u as before the step, %u as after it\n", s.restored, s.old,
                  s.new);
    assert_true(s.restored > 100 && s.old > 0 && s.new > 0);
    for (unsigned i = 0; i <= STEPS; i++)
        free(s.after[i]);
    munmap(s.memory, STORE_JOURNAL_BYTES);
    munmap(s.copy, STORE_JOURNAL_BYTES);
    munmap(s.done, 4096);
    close(s.copy_fd);
    next_life(); /* begins with what the child left: domain 1 is dead there */
    introduce_all();
}

/* -------------------------------------------------- killed at random instants */

#define LIVES 300

/* After so much time of its own processor: it always dies at work. */
static void serve_until_killed(int control, long ns)
{
    struct sigevent kill_us = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    const struct itimerspec when = {.it_value = {.tv_nsec = ns}};
    timer_t timer;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (store_server_init(control, -1))
        _exit(1);
    open_journal(journal_fd);
    if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &kill_us, &timer) || timer_settime(timer, 0, &when, NULL))
        _exit(1);
    while (!store_server_turn(-1))
        ;
    _exit(1);
}

/* False: the store was killed meanwhile. */
static bool number_at(struct store *st, const char *key, uint64_t *n)
{
    *n = 0;
    int err = store_read_number(st, STORE_NO_TXN, "", key, UINT64_MAX, n);

    assert_true(err == 0 || err == -ENOENT || err == -ENOTCONN);
    return err != -ENOTCONN;
}

struct told {
    uint64_t plain, pair, gone; /* the last that was acknowledged */
};

/* One number after the other, until the store dies. */
static void count_up(struct store *st, struct told *told)
{
    store_txn t;

    for (;;) {
        if (store_printf(st, STORE_NO_TXN, "", "plain", "%llu", (unsigned long long)told->plain + 1))
            return;
        told->plain++;
        /* Both sides of a pair, with nodes that come and go, are of one moment. */
        if (store_txn_begin(st, &t) ||
            store_printf(st, t, "", "left", "%llu", (unsigned long long)told->pair + 1) ||
            store_rm(st, t, "/nodes") ||
            store_printf(st, t, "/nodes", "n", "%llu", (unsigned long long)told->pair + 1) ||
            store_printf(st, t, "", "right", "%llu", (unsigned long long)told->pair + 1) ||
            store_txn_commit(st, t))
            return;
        told->pair++;
        if (store_printf(st, STORE_NO_TXN, "/comes/and", "goes", "%llu", (unsigned long long)told->gone) ||
            store_rm(st, STORE_NO_TXN, "/comes"))
            return;
        told->gone++;
    }
}

static bool check(struct store *st, struct told *told)
{
    uint64_t plain, left, right, node;

    if (!number_at(st, "plain", &plain) || !number_at(st, "left", &left) || !number_at(st, "right", &right) ||
        !number_at(st, "nodes/n", &node))
        return false;
    assert_in_range(plain, told->plain, told->plain + 1);
    assert_int_equal(left, right);
    assert_int_equal(left, node);
    assert_in_range(left, told->pair, told->pair + 1);
    told->plain = plain;
    told->pair = left;
    return true;
}

static void killed_at_random_instants(void **state)
{
    struct told told = {0};
    unsigned lives = 0;
    long span = 2000000; /* ns; more where everything is slower */

    (void)state;
    srandom(7);
    while (lives < LIVES) {
        int control[2], link[2], status;
        struct store *st;
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link), 0);
        pid_t child = fork();
        if (child == 0) {
            close(control[0]);
            close(link[0]);
            close(link[1]);
            serve_until_killed(control[1], 1 + random() % span);
        }
        close(control[1]);
        assert_true(store_control_say(control[0], STORE_CONTROL_INTRODUCE, 0, link[1], 0));
        close(link[1]);
        assert_int_equal(store_open_fd(&st, link[0]), 0);
        uint64_t before = told.plain;
        if (check(st, &told))
            count_up(st, &told);
        lives += told.plain > before;
        span += told.plain > before ? 0 : span / 16;
        store_close(st);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        close(control[0]);
    }
    print_message("%u lives, %llu numbers and %llu pairs acknowledged\n", lives,
                  (unsigned long long)told.plain, (unsigned long long)told.pair);
    next_life();
    introduce_all();
    assert_int_equal(get(&dom0, "/plain"), 0);
    assert_in_range(strtoull(dom0.reply, NULL, 10), told.plain, told.plain + 1);
}

#define JOURNAL_TEST(f) cmocka_unit_test_setup_teardown(f, begin_journal, end_journal)

int main(void)
{
    const struct CMUnitTest tests[] = {
        JOURNAL_TEST(all_comes_back),
        JOURNAL_TEST(transactions_whole_or_not),
        JOURNAL_TEST(no_generation_comes_twice),
        JOURNAL_TEST(a_share_is_still_used_up),
        JOURNAL_TEST(a_dead_domain_stays_dead),
        JOURNAL_TEST(what_happened_meanwhile),
        JOURNAL_TEST(rewritten_under_load),
        JOURNAL_TEST(the_largest_tree),
        JOURNAL_TEST(damage_is_refused),
        JOURNAL_TEST(no_journal_at_all),
        JOURNAL_TEST(killed_at_every_instruction),
        JOURNAL_TEST(killed_at_random_instants),
    };

    return cmocka_run_group_tests_name("store_journal", tests, NULL, NULL);
}
