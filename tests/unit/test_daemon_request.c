/* SPDX-License-Identifier: MIT */
/*
 * Requests of clients, without a core: what is refused is answered with one
 * sentence and the right exit status, and changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../driverdom/daemon/daemon.h"

#define META(attrs) "<metadata><b:domain xmlns:b='urn:bulkhead:domain:1' " attrs "/></metadata>"
#define DRIVER(name)        \
    "<domain>\n<name>" name \
    "</name><memory unit='MiB'>64</memory>" META("kind='driver' class='blk'") "</domain>"
#define GUEST(name, backend)                                                                         \
    "<domain>\n<name>" name "</name><memory unit='MiB'>64</memory>" META(                            \
        "kind='guest' door='nbd'") "<devices><disk type='file'><source file='/img'/><backenddomain " \
                                   "name='" backend "'/><target dev='vda'/></disk>"                  \
                                   "</devices></domain>"

static struct daemon d;
static struct session *s;
static int client;
static char dir[64];

static int begin(void **state)
{
    int pair[2];

    (void)state;
    memset(&d, 0, sizeof(d));
    for (int i = 0; i < DAEMON_SESSIONS_MAX; i++)
        d.sessions[i].fd = -1;
    log_init(&d.own_log, "@bulkheadd");
    log_init(&d.core_log, "@core");
    strcpy(d.run_dir, "/RUN");
    strcpy(dir, "/tmp/bulkhead-request.XXXXXX");
    if (!mkdtemp(dir) || chdir(dir) || mkdir("logs", 0755) || mkdir("domains", 0755))
        return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair))
        return -1;
    s = &d.sessions[0];
    *s = (struct session){.fd = pair[0]};
    client = pair[1];
    return 0;
}

static int end(void **state)
{
    (void)state;
    session_close(s);
    close(client);
    log_forget(&d.own_log);
    for (int i = 0; i < DAEMON_DOMAINS_MAX; i++) {
        char path[POLICY_NAME_MAX + 32];

        if (!d.domains[i].used)
            continue;
        snprintf(path, sizeof(path), "domains/%s.xml", d.domains[i].spec.name);
        unlink(path);
    }
    return rmdir("logs") || rmdir("domains") || chdir("/") || rmdir(dir);
}

/* Through the socket, as a client would. */
static json_t *ask_text(const char *line)
{
    static char buf[1 << 16];
    json_t *reply;
    ssize_t n;

    assert_int_equal(send(client, line, strlen(line), 0), strlen(line));
    session_serve(&d, s, POLLIN);
    n = recv(client, buf, sizeof(buf) - 1, 0);
    assert_true(n > 0 && buf[n - 1] == '\n');
    reply = json_loadb(buf, (size_t)n, 0, NULL);
    assert_non_null(reply);
    return reply;
}

static json_t *ask(json_t *request)
{
    char *text = json_dumps(request, JSON_COMPACT), *line = malloc(strlen(text) + 2);
    json_t *reply;

    sprintf(line, "%s\n", text);
    reply = ask_text(line);
    free(line);
    free(text);
    json_decref(request);
    return reply;
}

static void must_fail(json_t *reply, int exit_status, const char *sentence)
{
    assert_true(json_is_false(json_object_get(reply, "ok")));
    assert_string_equal(json_string_value(json_object_get(reply, "error")), sentence);
    assert_int_equal(json_integer_value(json_object_get(reply, "exit")), exit_status);
    json_decref(reply);
}

static void must_do(json_t *reply)
{
    if (!json_is_true(json_object_get(reply, "ok")))
        fail_msg("%s", json_string_value(json_object_get(reply, "error")));
    json_decref(reply);
}

static json_t *define(const char *xml)
{
    return ask(json_pack("{s:s,s:s,s:s}", "cmd", "define", "file", "f.xml", "xml", xml));
}

static json_t *on_name(const char *cmd, const char *name)
{
    return ask(json_pack("{s:s,s:s}", "cmd", cmd, "name", name));
}

static void nonsense_is_misuse(void **state)
{
    (void)state;
    must_fail(ask_text("hello\n"), 2, "a request is one JSON object on one line");
    must_fail(ask_text("[]\n"), 2, "a request is one JSON object on one line");
    must_fail(ask_text("{\"cmd\":\"list\",\"cmd\":\"list\"}\n"), 2,
              "a request is one JSON object on one line");
    must_fail(ask_text("{\"cmd\":\"format\"}\n"), 2,
              "unknown command: update the bulkhead command or bulkheadd, they are of different versions");
    must_fail(ask_text("{\"cmd\":\"define\"}\n"), 2, "define needs \"file\" and \"xml\"");
    must_fail(ask_text("{\"cmd\":\"start\",\"name\":7}\n"), 1, "there is no domain named \"\"");
}

static void a_name_is_defined_once(void **state)
{
    (void)state;
    must_do(define(DRIVER("disk0")));
    must_fail(define(DRIVER("disk0")), 1,
              "f.xml:2: a domain named disk0 is already defined: undefine it first");
    must_fail(define("<domain>"), 1,
              "f.xml:1: not well-formed XML: Premature end of data in tag domain line 1");
    must_do(on_name("undefine", "disk0"));
    assert_int_not_equal(access("domains/disk0.xml", F_OK), 0);
    must_do(define(DRIVER("disk0")));
    assert_int_equal(access("domains/disk0.xml", F_OK), 0);
}

static void a_definition_that_cannot_be_kept_is_refused(void **state)
{
    (void)state;
    assert_int_equal(rmdir("domains"), 0);
    must_fail(define(DRIVER("disk0")), 1,
              "disk0 is not defined: cannot write /RUN/domains/disk0.xml: No such file or directory");
    assert_null(dom_find(&d, "disk0"));
    assert_int_equal(mkdir("domains", 0755), 0);
}

static void wishes_that_make_no_sense_have_their_sentence(void **state)
{
    (void)state;
    must_fail(on_name("start", "g9"), 1, "there is no domain named g9");
    must_do(define(GUEST("g1", "disk0")));
    must_fail(on_name("start", "g1"), 1,
              "disk vda of g1 names driver domain disk0, which is not defined: define it first");
    must_do(define(DRIVER("disk0")));
    must_fail(on_name("start", "g1"), 1, "driver domain disk0 is not running: start it first");
    must_fail(on_name("stop", "g1"), 1, "g1 is not running");
    must_fail(on_name("kill", "g1"), 1, "g1 is not running: there is nothing to kill");
    must_fail(on_name("restart", "g1"), 1, "g1 is not running: start it instead");
    must_fail(on_name("log", "g9"), 1, "there is no domain named g9");
}

static void what_runs_is_protected(void **state)
{
    struct domain *driver, *guest;

    (void)state;
    must_do(define(DRIVER("disk0")));
    must_do(define(GUEST("g1", "disk0")));
    driver = dom_find(&d, "disk0");
    guest = dom_find(&d, "g1");
    driver->state = guest->state = ST_RUNNING;
    must_fail(on_name("undefine", "disk0"), 1, "disk0 is running: stop it first");
    must_fail(on_name("stop", "disk0"), 1,
              "driver domain disk0 still serves running guests (g1): stop them first");
    must_fail(on_name("start", "disk0"), 1, "disk0 is already running");
    driver->state = guest->state = ST_DEFINED;
}

static void a_full_table_is_told(void **state)
{
    char xml[512];

    (void)state;
    for (int i = 0; i < DAEMON_DOMAINS_MAX; i++) {
        snprintf(xml, sizeof(xml), DRIVER("d%d"), i);
        must_do(define(xml));
    }
    must_fail(define(DRIVER("more")), 1,
              "more is not defined: there are 96 domains already, the most that bulkheadd keeps");
}

static void list_has_every_key(void **state)
{
    static const char *const keys[] = {"name",        "kind",     "class",      "domid",            "state",
                                       "incarnation", "uptime_s", "last_cause", "last_downtime_us", "spare"};
    json_t *reply, *list;

    (void)state;
    must_do(define(GUEST("g1", "disk0")));
    must_do(define(DRIVER("disk0")));
    reply = ask(json_pack("{s:s}", "cmd", "list"));
    list = json_object_get(reply, "domains");
    assert_int_equal(json_array_size(list), 2);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        assert_non_null(json_object_get(json_array_get(list, 0), keys[i]));
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "name")), "disk0");
    json_decref(reply);
}

static void list_shows_devices(void **state)
{
    json_t *reply, *list, *nic, *uplink;

    (void)state;
    must_do(define("<domain><name>net0</name><memory unit='MiB'>64</memory><metadata><b:domain "
                   "xmlns:b='urn:bulkhead:domain:1' kind='driver' class='net'><b:uplink devargs='net_null0' "
                   "mtu='9000'/></b:domain></metadata></domain>"));
    must_do(define("<domain><name>g1</name><memory unit='MiB'>64</memory>" META(
        "kind='guest' door='tap'") "<devices><interface type='ethernet'><backenddomain name='net0'/><mac "
                                   "address='52:54:00:00:00:01'/><vlan><tag id='7'/><tag id='4094'/></vlan>"
                                   "</interface></devices></domain>"));
    reply = ask(json_pack("{s:s}", "cmd", "list"));
    list = json_object_get(reply, "domains");
    uplink = json_object_get(json_array_get(list, 0), "uplink");
    assert_string_equal(json_string_value(json_object_get(uplink, "devargs")), "net_null0");
    assert_string_equal(json_string_value(json_object_get(uplink, "interface")), "");
    assert_string_equal(json_string_value(json_object_get(uplink, "state")), "");
    assert_int_equal(json_integer_value(json_object_get(uplink, "mtu")), 9000);
    nic = json_array_get(json_object_get(json_array_get(list, 1), "nics"), 0);
    assert_string_equal(json_string_value(json_object_get(nic, "dev")), "eth0");
    assert_string_equal(json_string_value(json_object_get(nic, "backend")), "net0");
    assert_string_equal(json_string_value(json_object_get(nic, "mac")), "52:54:00:00:00:01");
    assert_int_equal(json_integer_value(json_object_get(nic, "vlan")), 0);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(nic, "trunk"), 1)), 4094);
    assert_true(json_is_false(json_object_get(nic, "connected")));
    json_decref(reply);
}

static void list_says_why_there_is_no_spare(void **state)
{
    static const char *const inside[] = {"", "<b:recovery xmlns:b='urn:bulkhead:domain:1' spare='no'/>"};
    static const char *const why[] = {"the driver domain does not run", "its definition wants none"};
    char xml[512];
    json_t *reply, *spare;

    (void)state;
    for (int i = 0; i < 2; i++) {
        snprintf(xml, sizeof(xml),
                 "<domain><name>disk0</name><memory unit='MiB'>64</memory><metadata><b:domain "
                 "xmlns:b='urn:bulkhead:domain:1' kind='driver' class='blk'>%s</b:domain></metadata>"
                 "</domain>",
                 inside[i]);
        must_do(define(xml));
        reply = ask(json_pack("{s:s}", "cmd", "list"));
        spare = json_object_get(json_array_get(json_object_get(reply, "domains"), 0), "spare");
        assert_string_equal(json_string_value(json_object_get(spare, "state")), "none");
        assert_string_equal(json_string_value(json_object_get(spare, "why")), why[i]);
        assert_true(json_is_false(json_object_get(spare, "armed")));
        json_decref(reply);
        must_do(on_name("undefine", "disk0"));
    }
}

static void only_test_builds_have_crash_points(void **state)
{
    json_t *request = json_pack("{s:s,s:s,s:s}", "cmd", "kill", "name", "disk0", "at", "blk-after-submit:3");

    (void)state;
    must_do(define(DRIVER("disk0")));
#ifdef BULKHEAD_CRASH_POINTS
    must_fail(ask(request), 1, "disk0 is not running: there is nothing to kill");
    must_fail(ask(json_pack("{s:s,s:s,s:s}", "cmd", "kill", "name", "disk0", "at", "/../x")), 2,
              "a crash point is a name, or NAME:N");
#else
    must_fail(ask(request), 1, "disk0 has no crash points: they are in test builds only (make CRASH=1)");
#endif
}

/* A request that never ends is cut off; the daemon's memory is not the client's. */
static void an_endless_request_is_refused(void **state)
{
    static char much[65536];
    size_t sent = 0;

    (void)state;
    memset(much, 'x', sizeof(much));
    while (s->fd >= 0 && !s->ending && sent < 2u * DAEMON_REQUEST_MAX) {
        ssize_t n = send(client, much, sizeof(much), MSG_NOSIGNAL);

        sent += n > 0 ? (size_t)n : 0;
        session_serve(&d, s, POLLIN);
    }
    assert_true(s->fd < 0 || s->ending);
    assert_true(sent < DAEMON_REQUEST_MAX + (1u << 20));
}

/* Who does not read loses the session, not the daemon its memory. */
static void an_unread_stream_is_cut(void **state)
{
    (void)state;
    must_do(ask(json_pack("{s:s}", "cmd", "events")));
    for (int i = 0; i < 200000 && !s->ending; i++)
        event_error(&d, NULL, "something happened again, and it is a rather long story to tell in one line");
    assert_true(s->ending);
    assert_true(s->out_room <= 2u * DAEMON_BACKLOG_MAX);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        T(nonsense_is_misuse),
        T(a_name_is_defined_once),
        T(a_definition_that_cannot_be_kept_is_refused),
        T(wishes_that_make_no_sense_have_their_sentence),
        T(what_runs_is_protected),
        T(a_full_table_is_told),
        T(list_has_every_key),
        T(list_shows_devices),
        T(list_says_why_there_is_no_spare),
        T(only_test_builds_have_crash_points),
        T(an_endless_request_is_refused),
        T(an_unread_stream_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
