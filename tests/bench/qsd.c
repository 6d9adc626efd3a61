/* SPDX-License-Identifier: MIT */
#include "qsd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "program.h"

#define PROGRAM   "qemu-storage-daemon"
#define START_MS  10000
#define STOP_MS   5000
#define STEP_MS   10
#define DIRECTORY "/tmp/bulkhead-bench-qsd.XXXXXX"

bool qsd_there(char *why, size_t why_bytes)
{
    bool found = program_there(PROGRAM);
    if (!found)
        snprintf(why, why_bytes, PROGRAM " is not installed; it is in the package qemu-system-common");
    return found;
}

/* A comma ends a value, two of them are one. */
static void put_value(char *to, size_t bytes, const char *text)
{
    size_t n = 0;
    for (; *text && n + 2 < bytes; text++) {
        to[n++] = *text;
        if (*text == ',')
            to[n++] = ',';
    }
    to[n] = '\0';
}

static void run_program(const struct qsd *q, const struct qsd_disk *disk, int log)
{
    char path[512], node[640], export[256];
    if (disk->path) {
        put_value(path, sizeof(path), disk->path);
        snprintf(node, sizeof(node), "driver=file,node-name=disk,filename=%s,aio=io_uring,cache.direct=off%s",
                 path, disk->writable ? "" : ",read-only=on");
    } else {
        snprintf(node, sizeof(node), "driver=null-co,node-name=disk,size=%llu,read-zeroes=off",
                 (unsigned long long)disk->bytes);
    }
    snprintf(export, sizeof(export),
             "type=vhost-user-blk,id=disk,node-name=disk,addr.type=unix,addr.path=%s,writable=%s,"
             "num-queues=%u,iothread=io",
             q->socket, disk->writable ? "on" : "off", disk->queues);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0); /* Ctrl-C is for the benchmark, which then ends it in order */
    if (null < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
        _exit(127);
    execlp(PROGRAM, PROGRAM, "--object", "iothread,id=io", "--blockdev", node, "--export", export,
           (char *)NULL);
    _exit(127);
}

static void sleep_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)ms * 1000000}, NULL);
}

static int wait_ready(struct qsd *q, char *why, size_t why_bytes)
{
    char said[200] = "";
    struct stat sb;
    for (unsigned ms = 0; ms < START_MS; ms += STEP_MS) {
        int status;
        if (stat(q->socket, &sb) == 0)
            return 0;
        if (waitpid(q->pid, &status, WNOHANG) == q->pid) {
            q->pid = 0;
            ssize_t n = read(q->log, said, sizeof(said) - 1);
            said[n > 0 ? n : 0] = '\0';
            said[strcspn(said, "\n")] = '\0';
            snprintf(why, why_bytes, PROGRAM " ended at once: %s", said);
            return -ECHILD;
        }
        sleep_ms(STEP_MS);
    }
    snprintf(why, why_bytes, PROGRAM " did not listen within %d s", START_MS / 1000);
    return -ETIMEDOUT;
}

int qsd_start(struct qsd *q, const struct qsd_disk *disk, const uint64_t *cpus, unsigned n, char *why,
              size_t why_bytes)
{
    int out[2];
    cpu_set_t set;
    CPU_ZERO(&set);
    for (unsigned i = 0; i < n; i++)
        CPU_SET(cpus[i], &set);
    *q = (struct qsd){.log = -1, .dir = DIRECTORY};
    if (!mkdtemp(q->dir)) {
        q->dir[0] = '\0';
        snprintf(why, why_bytes, "cannot make a directory in /tmp: %s", strerror(errno));
        return -errno;
    }
    snprintf(q->socket, sizeof(q->socket), "%s/disk.sock", q->dir);
    if (pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0) {
        snprintf(why, why_bytes, "cannot make a pipe: %s", strerror(errno));
        return -errno;
    }
    q->log = out[0];
    q->pid = fork();
    if (q->pid == 0) {
        sched_setaffinity(0, sizeof(set), &set);
        run_program(q, disk, out[1]);
    }
    int error = q->pid < 0 ? -errno : 0;
    close(out[1]);
    if (!error)
        return wait_ready(q, why, why_bytes);
    q->pid = 0;
    snprintf(why, why_bytes, "cannot start " PROGRAM ": %s", strerror(-error));
    return error;
}

void qsd_end(struct qsd *q)
{
    if (q->pid > 0) {
        kill(q->pid, SIGTERM);
        unsigned ms = 0;
        while (waitpid(q->pid, NULL, WNOHANG) == 0 && ms++ < STOP_MS / STEP_MS)
            sleep_ms(STEP_MS);
        if (ms > STOP_MS / STEP_MS) {
            kill(q->pid, SIGKILL);
            waitpid(q->pid, NULL, 0);
        }
        close(q->log);
    }
    q->pid = 0;
    if (q->dir[0]) {
        unlink(q->socket);
        rmdir(q->dir);
    }
    q->dir[0] = '\0';
}
