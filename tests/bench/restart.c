/* SPDX-License-Identifier: MIT */
#include "restart.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/statfs.h>
#include <fcntl.h>
#include <unistd.h>

#include "bench.h"
#include "progress.h"

#define DISK_BLOCKS  4096u /* of each guest: 16 MiB */
#define STEP_MS      2
#define GOES_ON      (2 * RESTART_DEPTH) /* completions after which work goes on: more than were waited for */
#define UNDISTURBED_MS 10

int restart_fail(struct restart *r, int error, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(r->stack.error, sizeof(r->stack.error), format, ap);
    va_end(ap);
    return error;
}

static int stopped(struct restart *r)
{
    return restart_fail(r, -EINTR, "stopped");
}

/* ------------------------------------------------------------------ waiting */

static json_t *find_domain(json_t *list, const char *name)
{
    json_t *one;
    size_t i;
    json_array_foreach(list, i, one) {
        const char *is = json_string_value(json_object_get(one, "name"));
        if (is && strcmp(is, name) == 0)
            return one;
    }
    return NULL;
}

int restart_look(struct restart *r, struct restart_look *out)
{
    json_t *reply = NULL;
    int error = stack_call(&r->stack, json_pack("{s:s}", "cmd", "list"), &reply);
    if (error)
        return error;
    json_t *dom = find_domain(json_object_get(reply, "domains"), RESTART_DRIVER);
    json_t *spare = json_object_get(dom, "spare");
    const char *state = json_string_value(json_object_get(dom, "state"));
    *out = (struct restart_look){
        .well = state && strcmp(state, "running") == 0 &&
                (!r->opt->warm || json_is_true(json_object_get(spare, "armed"))),
        .incarnation = (unsigned)json_integer_value(json_object_get(dom, "incarnation")),
        .domid = (unsigned)json_integer_value(json_object_get(dom, "domid")),
        .spare_domid = (unsigned)json_integer_value(json_object_get(spare, "domid")),
    };
    json_decref(reply);
    return 0;
}

/* Listens, and looks after the guests. */
int restart_step(struct restart *r, uint64_t end, const char *what)
{
    int error = witness_listen(&r->witness, STEP_MS);
    if (error)
        return restart_fail(r, error, "bulkheadd hung up");
    error = process_look(r);
    if (error)
        return error;
    if (bench_stop)
        return stopped(r);
    if (load_now_ns() > end)
        return restart_fail(r, -ETIMEDOUT, "after %d s %s%s%s", RESTART_OUTAGE_MS / 1000, what,
                            *r->witness.last_error ? "; its last complaint: " : "", r->witness.last_error);
    return 0;
}

static uint64_t outage_end(void)
{
    return load_now_ns() + RESTART_OUTAGE_MS * 1000000ull;
}

/* Every guest has completed some more since it was looked at. */
static int wait_for_work(struct restart *r)
{
    uint64_t before[RESTART_GUESTS_MAX] = {0}, end = outage_end();
    for (unsigned i = 0; i < r->opt->guests; i++)
        before[i] = process_progress(r, i);
    for (unsigned i = 0; i < r->opt->guests; i++) {
        pid_t pid = r->guest[i].pid;
        while (process_progress(r, i) - before[i] < GOES_ON) {
            int error = restart_step(r, end, "a guest's work does not go on");
            if (error)
                return error;
            if (r->guest[i].pid != pid) { /* started again: it settles its doubts first */
                pid = r->guest[i].pid;
                before[i] = process_progress(r, i);
            }
        }
    }
    return 0;
}

int restart_settle(struct restart *r)
{
    uint64_t end = outage_end();
    struct restart_look look = {0};
    for (;;) {
        int error = restart_look(r, &look);
        if (error)
            return error;
        if (look.well)
            return wait_for_work(r);
        error = restart_step(r, end,
                             r->opt->warm ? "the driver domain does not run with a spare that is ready"
                                          : "the driver domain does not run");
        if (error)
            return error;
    }
}

int restart_outlive(struct restart *r, unsigned incarnation)
{
    uint64_t end = outage_end();
    struct restart_look look = {0};
    int error = witness_listen(&r->witness, UNDISTURBED_MS); /* who looks takes part */
    while (!error && look.incarnation <= incarnation) {
        error = restart_step(r, end, "the driver domain is not replaced");
        if (!error)
            error = restart_look(r, &look);
    }
    return error ? error : wait_for_work(r);
}

/* ------------------------------------------------------------------ killing */

void restart_open_window(struct restart *r, uint32_t window)
{
    __atomic_store_n(&r->shared->window, window, __ATOMIC_RELEASE);
}

static int rest(struct restart *r)
{
    uint32_t random = 0;
    ssize_t n = getrandom(&random, sizeof(random), 0);
    uint64_t end = load_now_ns() + r->opt->rest_ms * 1000000ull +
                   (n > 0 ? random % (r->opt->pace_ms * 1000 + 1) : 0) * 1000ull;
    while (load_now_ns() < end) {
        uint64_t left = (end - load_now_ns()) / 1000000;
        int error = witness_listen(&r->witness, left < 10 ? (int)left : 10);
        if (!error)
            error = process_look(r);
        if (error)
            return error;
    }
    return bench_stop ? stopped(r) : 0;
}

int restart_kill(struct restart *r)
{
    struct restart_look look;
    int error = restart_settle(r);
    if (!error)
        error = restart_look(r, &look);
    pid_t pid = error ? 0 : stack_pid(&r->stack, RESTART_DRIVER);
    if (!error && pid <= 1)
        error = restart_fail(r, -ESRCH, "the driver domain has no process");
    if (!error) {
        restart_open_window(r, 2 * r->kills + 1);
        error = rest(r);
    }
    if (error)
        return error;
    restart_open_window(r, 2 * r->kills + 2);
    int asked = -1;
    if (r->opt->how == RESTART_PLANNED)
        asked = stack_post(&r->stack, json_pack("{s:s,s:s}", "cmd", "restart", "name", RESTART_DRIVER));
    else if (kill(pid, r->opt->how == RESTART_STOP ? SIGSTOP : SIGKILL) < 0)
        error = restart_fail(r, -errno, "cannot kill the driver domain: %s", strerror(errno));
    if (error || (r->opt->how == RESTART_PLANNED && asked < 0))
        return error ? error : asked;
    r->kills++;
    error = restart_outlive(r, look.incarnation);
    if (asked >= 0)
        close(asked);
    restart_open_window(r, 0);
    return error;
}

/* ------------------------------------------------------------------- set up */

static const char *kind_of(const char *dir)
{
    static const struct {
        long magic;
        const char *name;
    } known[] = {{0x01021994, "tmpfs"},  {0xef53, "ext4"},        {0x58465342, "xfs"},
                 {0x9123683e, "btrfs"}, {0x794c7630, "overlay"}};
    struct statfs fs;
    if (statfs(dir, &fs) == 0)
        for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            if ((long)fs.f_type == known[i].magic)
                return known[i].name;
    return "other";
}

static void path_of_disk(const struct restart *r, unsigned i, char *path, size_t bytes)
{
    const char *dir = r->opt->dir ? r->opt->dir : r->stack.dir;
    snprintf(path, bytes, "%s/bulkhead-restart.%d.%u.img", dir, (int)getpid(), i);
}

static int make_disk(struct restart *r, const char *path, struct stack_disk *disk)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int error = fd < 0 || ftruncate(fd, (off_t)DISK_BLOCKS * BLOCK_BYTES) < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    *disk = (struct stack_disk){.target = "vda", .path = path};
    return error ? restart_fail(r, error, "%s: %s", path, strerror(-error)) : 0;
}

static void *shared_memory(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static int add_guest(struct restart *r, unsigned i)
{
    struct restart_guest *g = &r->guest[i];
    snprintf(g->name, sizeof(g->name), "bench-g%u", i);
    g->board = &r->shared->guest[i];
    if (r->opt->net) {
        struct stack_nic nic = {.mac = {0x52, 0x54, 0, 0xbe, 1, (uint8_t)i}, .mtu = 1500, .queues = 1};
        return stack_net_guest(&r->stack, g->name, RESTART_DRIVER, &nic, g->attach, sizeof(g->attach));
    }
    struct stack_disk disk;
    char path[300];
    g->record_bytes = record_bytes(DISK_BLOCKS);
    g->record = shared_memory(g->record_bytes);
    if (!g->record)
        return restart_fail(r, -ENOMEM, "out of memory");
    record_init(g->record, i + 1, DISK_BLOCKS);
    snprintf(r->disk_place, sizeof(r->disk_place), "%s", kind_of(r->opt->dir ? r->opt->dir : r->stack.dir));
    path_of_disk(r, i, path, sizeof(path));
    int error = make_disk(r, path, &disk);
    if (!error)
        error = stack_guest(&r->stack, g->name, RESTART_DRIVER, &disk, 1, g->attach, sizeof(g->attach));
    return error;
}

static int set_up(struct restart *r)
{
    struct stack_cpus cpus;
    struct stack_uplink uplink = {.devargs = "net_null0,no-rx=1", .mtu = 1500};
    stack_cpus(1, &cpus);
    r->shared = shared_memory(sizeof(*r->shared));
    if (!r->shared)
        return restart_fail(r, -ENOMEM, "out of memory");
    int error = stack_start(&r->stack);
    r->stack.no_spare = !r->opt->warm;
    if (!error)
        error = r->opt->net ? stack_net_driver_domain(&r->stack, RESTART_DRIVER, &uplink, cpus.backend, 1)
                            : stack_driver_domain(&r->stack, RESTART_DRIVER, cpus.backend, 1);
    int events = error ? -1 : stack_events(&r->stack);
    if (events >= 0)
        error = witness_start(&r->witness, events);
    else if (!error)
        error = events;
    for (unsigned i = 0; i < r->opt->guests && !error; i++)
        error = add_guest(r, i);
    if (!error && r->opt->how == RESTART_CRASH_POINT)
        error = stack_store(&r->stack, &r->store);
    if (!error && r->opt->how == RESTART_CRASH_POINT)
        error = points_gather(r);
    for (unsigned i = 0; i < r->opt->guests && !error; i++)
        error = process_start(r, i);
    return error;
}

/* What lies on the disks when nobody holds them any more. */
static int check_files(struct restart *r)
{
    static char block[BLOCK_BYTES];
    char path[300];
    for (unsigned i = 0; i < r->opt->guests && !r->opt->net; i++) {
        struct restart_guest *g = &r->guest[i];
        path_of_disk(r, i, path, sizeof(path));
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        for (uint32_t k = 0; fd >= 0 && k < g->record->blocks; k++) {
            if (pread(fd, block, sizeof(block), (off_t)k * BLOCK_BYTES) != (ssize_t)sizeof(block))
                memset(block, 0xee, sizeof(block));
            enum record_verdict verdict = record_judge(g->record, k, block);
            g->board->tally.lost += verdict == RECORD_LOST;
            g->board->tally.stale += verdict == RECORD_STALE;
        }
        if (fd < 0)
            return restart_fail(r, -errno, "%s: %s", path, strerror(errno));
        close(fd);
    }
    return 0;
}

static int run(struct restart *r)
{
    int error = 0;
    if (r->opt->how == RESTART_CRASH_POINT) {
        error = points_hit_all(r);
    } else {
        for (unsigned k = 0; k < r->opt->kills && !error; k++) {
            bench_progress("kill %u of %u", k + 1, r->opt->kills);
            error = restart_kill(r);
        }
    }
    for (unsigned i = 0; i < r->opt->guests && !error; i++)
        error = process_leave(r, i, GUEST_FINISH);
    for (unsigned i = 0; i < r->opt->guests && !error; i++)
        error = stack_stop_domain(&r->stack, r->guest[i].name);
    return error ? error : check_files(r);
}

static void take_down(struct restart *r)
{
    process_end_all(r);
    if (r->witness.times)
        witness_end(&r->witness);
    if (r->store)
        store_close(r->store);
    for (unsigned i = 0; i < r->opt->guests && r->opt->dir; i++) {
        char path[300];
        path_of_disk(r, i, path, sizeof(path));
        unlink(path);
    }
    stack_end(&r->stack);
    hugepages_restore(&r->huge);
    for (unsigned i = 0; i < r->opt->guests; i++)
        if (r->guest[i].record)
            munmap(r->guest[i].record, r->guest[i].record_bytes);
    if (r->shared)
        munmap(r->shared, sizeof(*r->shared));
}

int bench_restart(const struct restart_options *opt)
{
    struct restart *r = calloc(1, sizeof(*r));
    if (!r) {
        fprintf(stderr, "bulkhead bench restart: out of memory\n");
        return 1;
    }
    r->opt = opt;
    bench_progress("starting a stack");
    /* As on a server that runs this: without them a death takes longer, and is told so. */
    char why[256];
    r->in_huge = hugepages_reserve(&r->huge, opt->guests * RESTART_HUGE_EACH, why, sizeof(why)) == 0;
    if (!r->in_huge)
        fprintf(stderr, "bulkhead bench restart: %s; guests' pools lie in small pages\n", why);
    int error = set_up(r);
    if (!error)
        error = run(r);
    bench_progress("%s", "");
    if (error)
        fprintf(stderr, "bulkhead bench restart: %s\n", r->stack.error);
    /* What was found is told also when it could not go on. */
    if (r->shared && (!error || r->kills))
        restart_report(r);
    bool passed = !error && restart_passed(r);
    take_down(r);
    free(r);
    return passed ? 0 : 1;
}
