/* SPDX-License-Identifier: MIT */
/* What the daemon writes down, the next one reads; what cannot be right is not believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../driverdom/daemon/daemon.h"
#include "../../driverdom/daemon/rundir.h"

static struct daemon d, next;
static char dir[64];

static const char guest_xml[] =
    "<domain><name>g1</name><memory unit='MiB'>64</memory><metadata><b:domain "
    "xmlns:b='urn:bulkhead:domain:1' kind='guest' door='nbd'/></metadata><devices>"
    "<disk type='file'><driver name='bulkhead' type='raw'/><source file='/a'/>"
    "<backenddomain name='disk0'/><target dev='vda'/></disk>"
    "<disk type='file'><driver name='bulkhead' type='raw'/><source file='/b'/>"
    "<backenddomain name='disk0'/><target dev='vdb'/></disk></devices></domain>";

static struct domain *define(struct daemon *who, const char *xml)
{
    static struct domain_spec spec;
    char err[POLICY_ERR_MAX];

    if (policy_parse(xml, strlen(xml), "t.xml", &spec, err, NULL))
        fail_msg("%s", err);
    return dom_new(who, &spec);
}

static int begin(void **state)
{
    (void)state;
    memset(&d, 0, sizeof(d));
    memset(&next, 0, sizeof(next));
    keeper_init(&d);
    keeper_init(&next);
    log_init(&d.own_log, "@bulkheadd");
    log_init(&next.own_log, "@bulkheadd");
    strcpy(dir, "/tmp/bulkhead-state.XXXXXX");
    return !mkdtemp(dir) || chdir(dir) || mkdir("logs", 0755) || mkdir("state", 0755);
}

static int end(void **state)
{
    (void)state;
    log_forget(&next.own_log);
    rundir_forget_state("g1");
    rundir_forget_state("@bulkheadd");
    rundir_forget_state("@turn");
    return rmdir("logs") || rmdir("state") || chdir("/") || rmdir(dir);
}

static void fill(struct domain *dom)
{
    dom->state = ST_RUNNING;
    dom->domid = 77;
    dom->incarnation = 12;
    dom->restarts = 11;
    dom->started_at = 1ull << 40;
    dom->deadline = 5;
    dom->alive = dom->built = true;
    dom->link_id = 4000000000u;
    dom->last_status = -3;
    dom->deaths[CAUSE_HANG] = 1ull << 33;
    dom->split[1].be = 9;
    dom->split[1].live = 1;
    dom->split[1].nodes_be[0] = 0x7fef;
    dom->split[1].nodes_be[1] = 9;
    dom->split[1].connected = true;
    dom->vbd[1].device = VBD_OPEN;
    dom->vbd[1].number = 33;
    dom->vbd[1].last_error = -16;
}

static void what_is_written_is_read(void **state)
{
    struct domain *dom = define(&d, guest_xml), *got = define(&next, guest_xml);

    (void)state;
    fill(dom);
    d.keeper.domid = 4;
    d.keeper.next_id = 99;
    state_save(&d);
    state_load(&next);
    assert_int_equal(next.keeper.domid, 4);
    assert_int_equal(next.keeper.next_id, 99);
    assert_int_equal(got->state, ST_RUNNING);
    assert_int_equal(got->domid, 77);
    assert_int_equal(got->incarnation, 12);
    assert_int_equal(got->restarts, 11);
    assert_int_equal(got->started_at, 1ull << 40);
    assert_int_equal(got->deadline, 5);
    assert_true(got->alive && got->built && !got->automatic);
    assert_int_equal(got->link_id, 4000000000u);
    assert_int_equal(got->last_status, -3);
    assert_int_equal(got->deaths[CAUSE_HANG], 1ull << 33);
    assert_int_equal(got->split[0].nodes_be[0], 0);
    assert_int_equal(got->split[1].be, 9);
    assert_int_equal(got->split[1].live, 1);
    assert_int_equal(got->split[1].nodes_be[0], 0x7fef);
    assert_int_equal(got->split[1].nodes_be[1], 9);
    assert_true(got->split[1].connected);
    assert_false(got->split[0].connected);
    assert_int_equal(got->vbd[1].device, VBD_OPEN);
    assert_int_equal(got->vbd[1].number, 33);
    assert_int_equal(got->vbd[1].last_error, -16);
    /* What is not in there is as it was. */
    assert_string_equal(got->split[1].dev, "vdb");
    assert_int_equal(got->door_fd, -1);
}

static ino_t file_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

static void only_what_changed_is_written(void **state)
{
    struct domain *dom = define(&d, guest_xml);
    ino_t first;

    (void)state;
    state_save(&d);
    first = file_of("state/g1.json");
    state_save(&d);
    assert_int_equal(file_of("state/g1.json"), first);
    dom->split[1].connected = true;
    state_save(&d);
    assert_int_not_equal(file_of("state/g1.json"), first); /* in its place: nobody sees half of it */
}

static void what_is_undefined_is_forgotten(void **state)
{
    struct domain *dom = define(&d, guest_xml);

    (void)state;
    state_save(&d);
    assert_int_equal(access("state/g1.json", F_OK), 0);
    dom->used = false;
    state_save(&d);
    assert_int_not_equal(access("state/g1.json", F_OK), 0);
}

/* The file with one piece of it replaced. */
static void spoil(const char *what, const char *by)
{
    size_t bytes;
    char *text = rundir_read_state("g1", &bytes), *at;
    static char other[65536];

    assert_non_null(text);
    text[bytes] = '\0';
    at = strstr(text, what);
    assert_non_null(at);
    snprintf(other, sizeof(other), "%.*s%s%s", (int)(at - text), text, by, at + strlen(what));
    assert_int_equal(rundir_save_state("g1", other, strlen(other)), 0);
    rundir_forget_state("@turn"); /* which has it unspoilt */
    free(text);
}

/* Killed when a turn had been written down in part: all of it counts, or nothing. */
static void a_turn_is_whole(void **state)
{
    struct domain *dom = define(&d, guest_xml), *got = define(&next, guest_xml);
    size_t bytes;
    char *before, *own;

    (void)state;
    fill(dom);
    d.keeper.domid = 4;
    state_save(&d);
    before = rundir_read_state("g1", &bytes);
    assert_non_null(before);
    dom->vbd[1].number = 34;
    d.keeper.domid = 5;
    state_save(&d);
    assert_int_equal(rundir_save_state("g1", before, bytes), 0); /* as if it had not come to this one */
    state_load(&next);
    assert_int_equal(got->vbd[1].number, 34);
    assert_int_equal(next.keeper.domid, 5);
    free(before);

    /* The control: the next turn changes one file, which is newer than what the turn before said. */
    dom->vbd[1].number = 35;
    state_save(&d);
    state_load(&next);
    assert_int_equal(got->vbd[1].number, 35);

    /* The next daemon's turns come after those of the last. */
    got->vbd[1].number = 36;
    state_save(&next);
    own = rundir_read_state("g1", &bytes);
    assert_non_null(own);
    state_load(&d);
    assert_int_equal(dom->vbd[1].number, 36);
    free(own);
}

static void what_was_undefined_does_not_come_back(void **state)
{
    struct domain *dom = define(&d, guest_xml), *got;

    (void)state;
    fill(dom);
    state_save(&d); /* its file, and the turn's */
    dom->used = false;
    state_save(&d);
    got = define(&next, guest_xml);
    state_load(&next);
    assert_int_equal(got->domid, 0);
}

static void what_cannot_be_right_is_not_believed(void **state)
{
    static const struct {
        const char *what, *by;
    } spoilt[] = {
        {"\"domid\":77", "\"domid\":65536"},   {"\"domid\":77", "\"domid\":-1"},
        {"\"domid\":77", "\"domid\":\"77\""},  {"\"alive\":1", "\"alive\":2"},
        {"\"version\":1", "\"version\":2"},    {"\"name\":\"g1\"", "\"name\":\"g2\""},
        {"\"state\":2", "\"state\":6"},        {"\"live\":1", "\"live\":2"},
        {"\"device\":2", "\"device\":3"},      {"\"splits\":[", "\"splits\":[{},"},
        {"\"domid\":77", "\"domid\":77,\"domid\":78"}, {"\"domid\":77,", ""},
        {"}", ""},
    };
    struct domain *dom = define(&d, guest_xml), *got = define(&next, guest_xml);

    (void)state;
    fill(dom);
    for (size_t i = 0; i < sizeof(spoilt) / sizeof(spoilt[0]); i++) {
        memset(d.saved, 0, sizeof(d.saved));
        state_save(&d);
        spoil(spoilt[i].what, spoilt[i].by);
        state_load(&next);
        if (got->domid || got->state != ST_DEFINED || got->incarnation)
            fail_msg("%s was believed", spoilt[i].by);
    }
    /* The control: unspoilt it is. */
    memset(d.saved, 0, sizeof(d.saved));
    state_save(&d);
    state_load(&next);
    assert_int_equal(got->domid, 77);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_is_written_is_read),
        T(only_what_changed_is_written),
        T(what_is_undefined_is_forgotten),
        T(what_cannot_be_right_is_not_believed), T(a_turn_is_whole), T(what_was_undefined_does_not_come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
