/* SPDX-License-Identifier: MIT */
#include "stack.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cputime.h"

#define START_MS 10000
#define STOP_MS  8000
#define STEP_MS  10

__attribute__((format(printf, 3, 4)))
static int fail(struct stack *st, int error, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(st->error, sizeof(st->error), format, ap);
    va_end(ap);
    return error;
}

static void sleep_ms(unsigned ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&ts, NULL);
}

void stack_cpus(unsigned queues, struct stack_cpus *out)
{
    memset(out, 0, sizeof(*out));
    uint64_t all[STACK_CPUS_MAX];
    unsigned n = 0;
    cpu_set_t set;
    sched_getaffinity(0, sizeof(set), &set);
    for (unsigned cpu = 0; cpu < STACK_CPUS_MAX; cpu++)
        if (CPU_ISSET(cpu, &set))
            all[n++] = cpu;
    out->shared = n / 2 < queues;
    for (unsigned i = 0; i < n; i++) {
        if (out->shared || i < n / 2)
            out->guests[out->guests_count++] = all[i];
        if (out->shared || i >= n / 2)
            out->backend[out->backend_count++] = all[i];
    }
}

/* ------------------------------------------------------------- the daemon */

/* Beside this program, or where `make install` puts it. */
static int find(struct stack *st, const char *name, const char *installed, char *path, size_t bytes)
{
    const char *const places[] = {".", installed};
    char self[256];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0)
        return fail(st, -errno, "cannot tell where this program is: %s", strerror(errno));
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    *slash = '\0';
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        snprintf(path, bytes, "%s/%s/%s", self, places[i], name);
        if (access(path, X_OK) == 0)
            return 0;
    }
    return fail(st, -ENOENT, "%s is neither in %s nor in %s/%s; build or install it", name, self, self,
                installed);
}

int stack_program(struct stack *st, const char *name, char *path, size_t bytes)
{
    return find(st, name, "../libexec/bulkhead", path, bytes);
}

/* A descriptor, or a negative errno. */
static int connect_to(const struct stack *st, const char *name)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", st->dir, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

static int connect_daemon(struct stack *st)
{
    int fd = connect_to(st, "bulkheadd.sock");
    if (fd < 0)
        return fd;
    st->out = fd;
    st->in = fdopen(fd, "r");
    return st->in ? 0 : -errno;
}

int stack_store(struct stack *st, struct store **out)
{
    int fd = connect_to(st, "store.sock");
    int error = fd < 0 ? fd : store_open_fd(out, fd);
    return error ? fail(st, error, "cannot connect to %s/store.sock: %s", st->dir, strerror(-error)) : 0;
}

/* The last line that the daemon wrote before it gave up. */
static int tell_daemon_exit(struct stack *st, int status)
{
    char path[128], line[256] = "", last[256] = "no word";
    snprintf(path, sizeof(path), "%s/bulkheadd.log", st->dir);
    FILE *log = fopen(path, "re");
    while (log && fgets(line, sizeof(line), log))
        if (line[0] != '\n')
            snprintf(last, sizeof(last), "%s", line);
    if (log)
        fclose(log);
    last[strcspn(last, "\n")] = '\0';
    return fail(st, -ECHILD, "bulkheadd ended at once (status %d): %s", WEXITSTATUS(status), last);
}

static void run_daemon(const struct stack *st, const char *path)
{
    char log[128];
    snprintf(log, sizeof(log), "%s/bulkheadd.log", st->dir);
    int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || null < 0 || dup2(null, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
        _exit(127);
    /* Ctrl-C is for the benchmark, which then takes the daemon down in order. */
    setpgid(0, 0);
    execl(path, "bulkheadd", "--run-dir", st->dir, "--foreground", (char *)NULL);
    _exit(127);
}

int stack_start(struct stack *st)
{
    memset(st, 0, sizeof(*st));
    st->out = -1;
    if (geteuid() != 0)
        return fail(st, -EPERM, "starting a driver domain needs root; run this as root or with sudo");
    char path[300];
    int error = find(st, "bulkheadd", "../sbin", path, sizeof(path));
    if (error)
        return error;
    snprintf(st->dir, sizeof(st->dir), "/tmp/bulkhead-bench.XXXXXX");
    if (!mkdtemp(st->dir)) {
        st->dir[0] = '\0';
        return fail(st, -errno, "cannot make a directory in /tmp: %s", strerror(errno));
    }
    chmod(st->dir, 0755);
    st->daemon = fork();
    if (st->daemon < 0) {
        st->daemon = 0;
        return fail(st, -errno, "cannot start bulkheadd: %s", strerror(errno));
    }
    if (st->daemon == 0)
        run_daemon(st, path);
    for (unsigned ms = 0; ms < START_MS; ms += STEP_MS) {
        int status;
        if (connect_daemon(st) == 0)
            return 0;
        if (waitpid(st->daemon, &status, WNOHANG) == st->daemon) {
            st->daemon = 0;
            return tell_daemon_exit(st, status);
        }
        sleep_ms(STEP_MS);
    }
    return fail(st, -ETIMEDOUT, "bulkheadd did not open %s/bulkheadd.sock in %d s", st->dir, START_MS / 1000);
}

static int remove_one(const char *path, const struct stat *sb, int kind, struct FTW *ftw)
{
    (void)sb, (void)kind, (void)ftw;
    return remove(path);
}

/* The daemon's child, which outlives it; 0: there is none. */
static pid_t core_of(pid_t daemon)
{
    char path[64], text[32] = "";

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)daemon, (int)daemon);
    FILE *f = fopen(path, "re");
    bool told = f && fgets(text, sizeof(text), f);
    if (f)
        fclose(f);
    return told ? (pid_t)strtol(text, NULL, 10) : 0;
}

void stack_end(struct stack *st)
{
    if (st->in)
        fclose(st->in);
    st->in = NULL;
    if (st->daemon > 0) {
        kill(st->daemon, SIGTERM);
        unsigned ms = 0;
        while (waitpid(st->daemon, NULL, WNOHANG) == 0 && ms++ < STOP_MS / STEP_MS)
            sleep_ms(STEP_MS);
        if (ms > STOP_MS / STEP_MS) {
            pid_t core = core_of(st->daemon);
            kill(st->daemon, SIGKILL);
            waitpid(st->daemon, NULL, 0);
            if (core > 0)
                kill(core, SIGKILL); /* every domain dies with it */
        }
        st->daemon = 0;
    }
    if (st->dir[0])
        nftw(st->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    st->dir[0] = '\0';
}

/* --------------------------------------------------------------- requests */

int stack_events(struct stack *st)
{
    static const char ask[] = "{\"cmd\":\"events\"}\n";
    char answer[64];
    size_t n = 0;
    int fd = connect_to(st, "bulkheadd.sock");
    if (fd < 0)
        return fail(st, fd, "cannot connect to %s/bulkheadd.sock: %s", st->dir, strerror(-fd));
    bool asked = send(fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(ask) - 1;
    /* Byte by byte to the end of the line: what comes after is the caller's. */
    while (asked && n < sizeof(answer) - 1 && recv(fd, answer + n, 1, 0) == 1 && answer[n] != '\n')
        n++;
    answer[n] = '\0';
    if (strstr(answer, "\"ok\":true") || strstr(answer, "\"ok\": true"))
        return fd;
    close(fd);
    return fail(st, -EPROTO, "bulkheadd tells no events: %s", answer);
}

static int send_line(int fd, json_t *request)
{
    char *text = json_dumps(request, JSON_COMPACT);
    if (!text)
        return -ENOMEM;
    size_t n = strlen(text), at = 0;
    text[n++] = '\n';
    while (at < n) {
        ssize_t sent = send(fd, text + at, n - at, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            break;
        at += sent > 0 ? (size_t)sent : 0;
    }
    free(text);
    return at == n ? 0 : -EPIPE;
}

int stack_post(struct stack *st, json_t *request)
{
    int fd = connect_to(st, "bulkheadd.sock");
    int error = fd < 0 ? fd : send_line(fd, request);
    json_decref(request);
    if (!error)
        return fd;
    if (fd >= 0)
        close(fd);
    return fail(st, error, "cannot ask bulkheadd: %s", strerror(-error));
}

int stack_call(struct stack *st, json_t *request, json_t **reply)
{
    int error = send_line(st->out, request);
    json_decref(request);
    if (error)
        return fail(st, error, "bulkheadd hung up");
    char *line = NULL;
    size_t room = 0;
    json_t *answer = NULL, *ok = NULL;
    while (!ok) { /* lines of progress come first */
        json_decref(answer);
        if (getline(&line, &room, st->in) < 0) {
            free(line);
            return fail(st, -EPIPE, "bulkheadd hung up; its log: %s/bulkheadd.log", st->dir);
        }
        answer = json_loads(line, 0, NULL);
        ok = json_object_get(answer, "ok");
    }
    free(line);
    if (!json_is_true(ok)) {
        const char *why = json_string_value(json_object_get(answer, "error"));
        error = fail(st, -EIO, "%s", why ? why : "bulkheadd refused without a reason");
    }
    if (reply && !error)
        *reply = json_incref(answer);
    json_decref(answer);
    return error;
}

int stack_define_and_start(struct stack *st, const char *name, const char *xml)
{
    json_t *define = json_pack("{s:s,s:s+,s:s}", "cmd", "define", "file", name, ".xml", "xml", xml);
    int error = stack_call(st, define, NULL);
    if (!error)
        error = stack_call(st, json_pack("{s:s,s:s}", "cmd", "start", "name", name), NULL);
    return error;
}

int stack_stop_domain(struct stack *st, const char *name)
{
    return stack_call(st, json_pack("{s:s,s:s}", "cmd", "stop", "name", name), NULL);
}

/* ---------------------------------------------------------------- figures */

json_t *stack_info(struct stack *st, const char *name)
{
    json_t *reply = NULL;
    if (stack_call(st, json_pack("{s:s,s:s}", "cmd", "info", "name", name), &reply) != 0)
        return NULL;
    json_t *info = json_incref(json_object_get(reply, "info"));
    json_decref(reply);
    return info;
}

/* A number of `info`; 0 when there is none. */
static long info_number(struct stack *st, const char *name, const char *key)
{
    json_t *info = stack_info(st, name);
    long n = (long)json_integer_value(json_object_get(info, key));
    json_decref(info);
    return n;
}

unsigned stack_domid(struct stack *st, const char *name)
{
    return (unsigned)info_number(st, name, "domid");
}

pid_t stack_pid(struct stack *st, const char *name)
{
    return (pid_t)info_number(st, name, "pid");
}

uint64_t stack_cpu_ns(struct stack *st, const char *name)
{
    return cputime_ns(stack_pid(st, name));
}
