/* SPDX-License-Identifier: MIT */
/*
 * libvirt's hook, as libvirt calls it: arguments, XML on stdin, one sentence on
 * stderr, an exit status; and a bulkheadd that answers, refuses, is silent,
 * hangs up or is not there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../deploy/libvirt/bridge.h"
#include "../../policy/policy.h"

#define OURS                                                                     \
    "<domain type='qemu'><name>g1</name><metadata><b:domain xmlns:b='" POLICY_NS \
    "' kind='guest' door='vhost-user'/></metadata></domain>"
#define OTHER "<domain type='qemu'><name>g1</name><metadata/></domain>"

static char dir[64];

/* ------------------------------------------------------- what is bulkheadd here */

static struct {
    int listener;       /* -1: it is not there                        */
    const char *answer; /* NULL: none is given                        */
    bool hangs_up;
    json_t *asked; /* the request; NULL: nothing was asked       */
} peer = {.listener = -1};

static json_t *read_request(int fd)
{
    static char line[2 * BRIDGE_XML_MAX];
    size_t bytes = 0;
    ssize_t n;

    while (bytes < sizeof(line) - 1 && (n = recv(fd, line + bytes, sizeof(line) - 1 - bytes, 0)) > 0) {
        bytes += (size_t)n;
        if (line[bytes - 1] == '\n')
            break;
    }
    return json_loadb(line, bytes, 0, NULL);
}

/* Until that process has ended. */
static void serve(pid_t pid)
{
    int ended = (int)syscall(SYS_pidfd_open, pid, 0), fd = -1;
    struct pollfd p[] = {{.fd = ended, .events = POLLIN}, {.fd = peer.listener, .events = POLLIN}};

    assert_true(ended >= 0);
    while (poll(p, 2, -1) > 0 && !p[0].revents) {
        fd = accept(peer.listener, NULL, NULL);
        assert_true(fd >= 0);
        peer.asked = read_request(fd);
        if (peer.answer)
            assert_int_equal(send(fd, peer.answer, strlen(peer.answer), MSG_NOSIGNAL), strlen(peer.answer));
        p[1].fd = -1;
        if (!peer.hangs_up)
            continue;
        close(fd);
        fd = -1;
    }
    if (fd >= 0)
        close(fd);
    close(ended);
}

static void begin(const char *answer, bool hangs_up)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    snprintf(a.sun_path, sizeof(a.sun_path), "%s/bulkheadd.sock", dir);
    peer.answer = answer;
    peer.hangs_up = hangs_up;
    peer.asked = NULL;
    peer.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(peer.listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(peer.listener, 1), 0);
}

static void end(void)
{
    char path[128];

    close(peer.listener);
    peer.listener = -1;
    json_decref(peer.asked);
    peer.asked = NULL;
    snprintf(path, sizeof(path), "%s/bulkheadd.sock", dir);
    unlink(path);
}

static const char *asked(const char *key)
{
    const char *s = json_string_value(json_object_get(peer.asked, key));

    return s ? s : "";
}

/* ------------------------------------------------------------ what is libvirt */

static char said[4096];

/* stdin -1: a pipe whose writer does nothing. */
static int hook_with(int in, const char *operation, const char *sub)
{
    char name[] = "g1", op[32], s[32], extra[] = "-";
    char *args[] = {name, op, s, extra, NULL};
    struct bridge_options opt = {.run_dir = dir, .timeout_s = 1};
    int err = memfd_create("stderr", MFD_CLOEXEC), idle[2], status;
    pid_t pid;
    ssize_t n;

    snprintf(op, sizeof(op), "%s", operation);
    snprintf(s, sizeof(s), "%s", sub);
    assert_int_equal(pipe(idle), 0);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(in >= 0 ? in : idle[0], STDIN_FILENO);
        dup2(err, STDERR_FILENO);
        _exit(hook_run(&opt, args));
    }
    serve(pid);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(idle[0]);
    close(idle[1]);
    n = pread(err, said, sizeof(said) - 1, 0);
    said[n > 0 ? n : 0] = '\0';
    close(err);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int hook_of(const char *xml, size_t bytes, const char *operation, const char *sub)
{
    int in = memfd_create("stdin", MFD_CLOEXEC), status;

    assert_int_equal(write(in, xml, bytes), bytes);
    assert_int_equal(lseek(in, 0, SEEK_SET), 0);
    status = hook_with(in, operation, sub);
    close(in);
    return status;
}

static int hook(const char *xml, const char *operation, const char *sub)
{
    return hook_of(xml, strlen(xml), operation, sub);
}

/* ---------------------------------------------------------------------- tests */

static void a_guest_of_ours_is_opened_before_it_starts(void **state)
{
    (void)state;
    begin("{\"progress\":\"vda\"}\n{\"ok\":true}\n", false);
    assert_int_equal(hook(OURS, "prepare", "begin"), 0);
    assert_string_equal(said, "");
    assert_string_equal(asked("cmd"), "open");
    assert_string_equal(asked("file"), "virsh dumpxml g1");
    assert_string_equal(asked("xml"), OURS);
    end();
}

static void a_guest_of_ours_is_closed_after_it_ended(void **state)
{
    (void)state;
    begin("{\"ok\":true}\n", false);
    assert_int_equal(hook(OURS, "release", "end"), 0);
    assert_string_equal(said, "");
    assert_string_equal(asked("cmd"), "close");
    assert_string_equal(asked("name"), "g1");
    end();
}

/* Refused at the start: vetoed.  Refused when libvirtd comes again, or at the end: said. */
static void a_refusal_vetoes_the_start_alone(void **state)
{
    static const char no[] = "{\"ok\":false,\"exit\":1,\"error\":\"f:3: vda: no such driver domain\"}\n";
    static const char *const others[][2] = {{"reconnect", "begin"}, {"release", "end"}};

    (void)state;
    begin(no, false);
    assert_int_equal(hook(OURS, "prepare", "begin"), 1);
    assert_string_equal(said, "bulkhead: g1: f:3: vda: no such driver domain\n");
    end();
    for (int i = 0; i < 2; i++) {
        begin(no, false);
        assert_int_equal(hook(OURS, others[i][0], others[i][1]), 0);
        assert_string_equal(said, "bulkhead: g1: f:3: vda: no such driver domain\n");
        end();
    }
}

static void other_operations_ask_nothing(void **state)
{
    static const char *const ops[][2] = {{"start", "begin"},   {"started", "begin"}, {"stopped", "end"},
                                         {"migrate", "begin"}, {"restore", "begin"}, {"attach", "begin"},
                                         {"prepare", "end"},   {"release", "begin"}, {"", ""}};

    (void)state;
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        begin("{\"ok\":false,\"error\":\"no\"}\n", false);
        assert_int_equal(hook(OURS, ops[i][0], ops[i][1]), 0);
        assert_string_equal(said, "");
        assert_null(peer.asked);
        end();
    }
}

/* Whatever is wrong with bulkheadd, and with the XML. */
static void a_guest_of_others_is_never_held_up(void **state)
{
    static const char *const xml[] = {OTHER, "", "no XML", "<domain><metadata>"};

    (void)state;
    for (size_t i = 0; i < sizeof(xml) / sizeof(xml[0]); i++) {
        begin("{\"ok\":false,\"error\":\"no\"}\n", false);
        assert_int_equal(hook(xml[i], "prepare", "begin"), 0);
        assert_string_equal(said, "");
        assert_null(peer.asked);
        end();
        assert_int_equal(hook(xml[i], "prepare", "begin"), 0); /* not there */
        assert_string_equal(said, "");
    }
}

static void who_is_not_there_is_named(void **state)
{
    char want[512];

    (void)state;
    snprintf(want, sizeof(want),
             "bulkhead: g1: bulkheadd is not running (no %s/bulkheadd.sock): start it with: bulkheadd "
             "--run-dir %s\n",
             dir, dir);
    assert_int_equal(hook(OURS, "prepare", "begin"), 1);
    assert_string_equal(said, want);
    assert_int_equal(hook(OURS, "reconnect", "begin"), 0);
    assert_string_equal(said, want);
}

static void silence_has_an_end(void **state)
{
    (void)state;
    begin(NULL, false);
    assert_int_equal(hook(OURS, "prepare", "begin"), 1);
    assert_string_equal(said,
                        "bulkhead: g1: bulkheadd did not answer within 1 s: see what it says: bulkhead log "
                        "@bulkheadd\n");
    end();
    begin(NULL, true);
    assert_int_equal(hook(OURS, "prepare", "begin"), 1);
    assert_string_equal(said,
                        "bulkhead: g1: bulkheadd ended before it answered: see what it wrote last, and try "
                        "again\n");
    end();
    /* libvirt gives no XML: whose guest it is is not known. */
    assert_int_equal(hook_with(-1, "prepare", "begin"), 0);
    assert_string_equal(said, "bulkhead: g1: its XML did not come from libvirt: Connection timed out\n");
}

/* Metadata stands near the beginning: whose guest it is is known, too long or not. */
static void a_long_document_is_refused_when_it_is_ours(void **state)
{
    static const char *const xml[] = {OURS, OTHER};
    static const char tail[] = "</domain>";
    char *text = malloc(BRIDGE_XML_MAX + 100);

    (void)state;
    assert_non_null(text);
    for (int i = 0; i < 2; i++) {
        size_t head = (size_t)(strstr(xml[i], tail) - xml[i]);

        memcpy(text, xml[i], head);
        memset(text + head, ' ', BRIDGE_XML_MAX + 100 - head);
        begin("{\"ok\":true}\n", false);
        assert_int_equal(hook_of(text, BRIDGE_XML_MAX + 100, "prepare", "begin"), i == 0);
        assert_string_equal(said,
                            i == 0 ? "bulkhead: g1: its XML is longer than the 1048576 bytes that bulkheadd "
                                     "reads: shorten its metadata\n"
                                   : "");
        assert_null(peer.asked);
        end();

        /* The longest that is taken. */
        memcpy(text + BRIDGE_XML_MAX - (sizeof(tail) - 1), tail, sizeof(tail));
        begin("{\"ok\":true}\n", false);
        assert_int_equal(hook_of(text, BRIDGE_XML_MAX, "prepare", "begin"), 0);
        assert_string_equal(said, "");
        assert_int_equal(strlen(asked("xml")), i == 0 ? BRIDGE_XML_MAX : 0);
        end();
    }
    free(text);
}

static int enter(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/bulkhead-hook.XXXXXX");
    return !mkdtemp(dir);
}

static int leave(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guest_of_ours_is_opened_before_it_starts),
        cmocka_unit_test(a_guest_of_ours_is_closed_after_it_ended),
        cmocka_unit_test(a_refusal_vetoes_the_start_alone),
        cmocka_unit_test(other_operations_ask_nothing),
        cmocka_unit_test(a_guest_of_others_is_never_held_up),
        cmocka_unit_test(who_is_not_there_is_named),
        cmocka_unit_test(silence_has_an_end),
        cmocka_unit_test(a_long_document_is_refused_when_it_is_ours),
    };

    return cmocka_run_group_tests_name("libvirt_hook", tests, enter, leave);
}
