/* SPDX-License-Identifier: MIT */
/*
 * The service that follows libvirt, between libvirt's test driver and a bulkheadd
 * that is played here: what it asks, and what it never asks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../deploy/libvirt/bridge.h"
#include "../../policy/policy.h"

#define CLIENTS 8
#define ASKED   64
#define TAIL    "<memory>65536</memory><vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os></domain>"

/* Two guests run there; one is ours. */
static const char node[] =
    "<node><domain type='test'><name>g1</name><metadata><b:domain xmlns:b='" POLICY_NS
    "' kind='guest' door='vhost-user'><b:disk dev='vda' ram='1M' driver='d'/></b:domain></metadata>" TAIL
    "<domain type='test'><name>other</name>" TAIL "</node>";

static char dir[64], path[96], here[128], nowhere[128];

static struct {
    int listener;
    struct pollfd client[CLIENTS];
    int events; /* the connection that gets them, by index; -1: none    */
    unsigned events_seen;
    const char *list;  /* what the answer to "list" holds                      */
    unsigned refusals; /* so many opens are refused                            */
    unsigned lists, n;
    char asked[ASKED][96]; /* "open g1", "close g1 7"                              */
} peer;

static int child, words;

/* -------------------------------------------------------- what is bulkheadd here */

static void note(const json_t *request, const char *cmd)
{
    const json_t *opens = json_object_get(request, "opens");
    const char *name = json_string_value(json_object_get(request, "name"));
    const char *file = json_string_value(json_object_get(request, "file"));

    assert_true(peer.n < ASKED);
    snprintf(peer.asked[peer.n++], sizeof(peer.asked[0]), "%s %s %d", cmd,
             name   ? name
             : file ? file
                    : "",
             opens ? (int)json_integer_value(opens) : -1);
}

static void answer(int i, const char *line)
{
    json_t *request = json_loads(line, 0, NULL);
    const char *cmd = json_string_value(json_object_get(request, "cmd"));
    char text[1024] = "{\"ok\":true}\n";

    assert_non_null(cmd);
    if (!strcmp(cmd, "events")) {
        peer.events = i;
        peer.events_seen++;
    } else if (!strcmp(cmd, "list")) {
        peer.lists++;
        snprintf(text, sizeof(text), "{\"ok\":true,\"domains\":[%s]}\n", peer.list);
    } else {
        note(request, cmd);
        if (!strcmp(cmd, "open") && peer.refusals && peer.refusals--)
            strcpy(text, "{\"ok\":false,\"exit\":1,\"error\":\"no such driver domain\"}\n");
    }
    assert_int_equal(send(peer.client[i].fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    json_decref(request);
}

static void hang_up(int i)
{
    close(peer.client[i].fd);
    peer.client[i].fd = -1;
    if (peer.events == i)
        peer.events = -1;
}

static void take(int i)
{
    static char line[65536];
    ssize_t n = recv(peer.client[i].fd, line, sizeof(line) - 1, 0);

    if (n <= 0) {
        hang_up(i);
        return;
    }
    line[n] = '\0';
    assert_int_equal(line[n - 1], '\n'); /* they are short: one piece */
    answer(i, line);
}

/* Until that is so; it comes to pass, or the test has failed. */
static void serve_until(bool (*done)(void))
{
    while (!done()) {
        struct pollfd p[CLIENTS + 1];
        int fd;

        memcpy(p, peer.client, sizeof(peer.client));
        p[CLIENTS] = (struct pollfd){.fd = peer.listener, .events = POLLIN};
        if (poll(p, CLIENTS + 1, 20000) <= 0)
            fail_msg("nothing comes any more");
        for (int i = 0; i < CLIENTS; i++)
            if (p[i].fd >= 0 && p[i].revents)
                take(i);
        if (!p[CLIENTS].revents)
            continue;
        fd = accept(peer.listener, NULL, NULL);
        for (int i = 0; fd >= 0 && i < CLIENTS; i++)
            if (peer.client[i].fd < 0) {
                peer.client[i].fd = fd;
                fd = -1;
            }
        assert_true(fd < 0);
    }
}

static unsigned times_asked(const char *what)
{
    unsigned n = 0;

    for (unsigned i = 0; i < peer.n; i++)
        n += !strcmp(peer.asked[i], what);
    return n;
}

/* ---------------------------------------------------------------------- follow */

static void follow(const char *uri, const char *list)
{
    struct bridge_options opt = {.run_dir = dir, .uri = uri, .timeout_s = 20};

    peer.list = list;
    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(words, STDERR_FILENO);
        _exit(follow_run(&opt));
    }
}

static unsigned times_said(const char *what)
{
    static char text[16384];
    ssize_t n = pread(words, text, sizeof(text) - 1, 0);
    unsigned times = 0;

    text[n > 0 ? n : 0] = '\0';
    for (const char *p = text; (p = strstr(p, what)); p++)
        times++;
    return times;
}

static bool said(const char *what)
{
    for (int i = 0; i < 1000 && !times_said(what); i++)
        usleep(10000);
    return times_said(what);
}

#define G1_IS_OPENED "open virsh dumpxml g1 -1"

static bool first_compared(void)
{
    return times_asked(G1_IS_OPENED) >= 1 && times_asked("close ghost 7") >= 1 && peer.events >= 0;
}
static bool compared_again(void)
{
    return times_asked(G1_IS_OPENED) >= 2;
}
static bool tried_four_times(void)
{
    return times_asked(G1_IS_OPENED) >= 4;
}
static bool listens(void)
{
    return peer.events >= 0;
}

/* Of what bulkheadd has, what was opened and does not run is closed, by the count that was
 * seen; what runs is opened, when it is ours.  All that again when bulkheadd comes again. */
static void both_sides_are_compared(void **state)
{
    (void)state;
    follow(here, "{\"name\":\"ghost\",\"opened\":true,\"opens\":7},{\"name\":\"byhand\"},"
                 "{\"name\":\"other\",\"opened\":true,\"opens\":2}");
    serve_until(first_compared);
    peer.list = "{\"name\":\"g1\",\"opened\":true,\"opens\":1}";
    hang_up(peer.events);
    serve_until(compared_again);
    assert_int_equal(times_asked(G1_IS_OPENED), 2);
    assert_int_equal(times_asked("close ghost 7"), 1);
    assert_int_equal(peer.n, 3);
    assert_true(said("bulkhead: g1 runs: its doors are open\n"));
    assert_true(said("bulkhead: ghost does not run: its doors are closed\n"));
    assert_true(said("has ended; doors stay as they are until it is back\n"));
}

/* As above, but for libvirt: not a word about any guest. */
static void nothing_is_closed_while_libvirt_is_away(void **state)
{
    (void)state;
    follow(nowhere,
           "{\"name\":\"ghost\",\"opened\":true,\"opens\":7},{\"name\":\"g1\",\"opened\":true,\"opens\":1}");
    for (int i = 0; i < 3; i++) {
        serve_until(listens);
        hang_up(peer.events);
    }
    serve_until(listens);
    assert_int_equal(peer.n, 0);
    assert_int_equal(times_said("is away ("), 1);
}

/* It is tried again, and said once. */
static void what_is_refused_is_tried_again(void **state)
{
    (void)state;
    peer.refusals = 3;
    follow(here, "");
    serve_until(tried_four_times);
    assert_true(said("bulkhead: g1 runs: its doors are open\n"));
    assert_int_equal(times_asked(G1_IS_OPENED), 4);
    assert_int_equal(times_said("bulkhead: g1: no such driver domain\n"), 1);
}

static int enter(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    FILE *f;

    (void)state;
    strcpy(dir, "/tmp/bulkhead-follow.XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    snprintf(path, sizeof(path), "%s/node.xml", dir);
    snprintf(here, sizeof(here), "test://%s", path);
    snprintf(nowhere, sizeof(nowhere), "qemu:///system?socket=%s/libvirt-sock", dir);
    f = fopen(path, "w");
    if (!f || fputs(node, f) < 0 || fclose(f))
        return 1;
    snprintf(a.sun_path, sizeof(a.sun_path), "%s/bulkheadd.sock", dir);
    memset(&peer, 0, sizeof(peer));
    for (int i = 0; i < CLIENTS; i++)
        peer.client[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    peer.events = -1;
    peer.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    words = memfd_create("words", MFD_CLOEXEC);
    child = -1;
    return words < 0 || bind(peer.listener, (struct sockaddr *)&a, sizeof(a)) ||
           listen(peer.listener, CLIENTS);
}

static int leave(void **state)
{
    (void)state;
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    for (int i = 0; i < CLIENTS; i++)
        if (peer.client[i].fd >= 0)
            close(peer.client[i].fd);
    close(peer.listener);
    close(words);
    unlink(path);
    snprintf(path, sizeof(path), "%s/bulkheadd.sock", dir);
    unlink(path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_sides_are_compared, enter, leave),
        cmocka_unit_test_setup_teardown(nothing_is_closed_while_libvirt_is_away, enter, leave),
        cmocka_unit_test_setup_teardown(what_is_refused_is_tried_again, enter, leave),
    };

    return cmocka_run_group_tests_name("libvirt_follow", tests, NULL, NULL);
}
