/* SPDX-License-Identifier: MIT */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STAMP_MAX 32

static void path_of(const struct log *log, const char *suffix, char out[LOG_NAME_MAX + 16])
{
    snprintf(out, LOG_NAME_MAX + 16, "logs/%s.log%s", log->name, suffix);
}

void log_init(struct log *log, const char *name)
{
    memset(log, 0, sizeof(*log));
    log->pipe = log->file = -1;
    snprintf(log->name, sizeof(log->name), "%s", name);
}

static int open_file(struct log *log)
{
    char path[LOG_NAME_MAX + 16];
    struct stat st;

    if (log->file >= 0)
        return 0;
    path_of(log, "", path);
    log->file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (log->file < 0)
        return -errno;
    log->file_bytes = fstat(log->file, &st) ? 0 : (size_t)st.st_size;
    return 0;
}

static void rotate(struct log *log)
{
    char from[LOG_NAME_MAX + 16], to[LOG_NAME_MAX + 16];

    path_of(log, "", from);
    path_of(log, ".1", to);
    rename(from, to);
    close(log->file);
    log->file = -1;
}

static size_t stamp(char out[STAMP_MAX])
{
    struct timespec ts;
    struct tm tm;
    size_t n;

    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    n = strftime(out, STAMP_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    return n + (size_t)snprintf(out + n, STAMP_MAX - n, ".%03ldZ ", ts.tv_nsec / 1000000);
}

/* A log that cannot be written (a full disk) loses lines and nothing else. */
static void write_line(struct log *log, const char *text, size_t n)
{
    char out[STAMP_MAX + 4 * LOG_LINE_MAX + 2];
    size_t at = stamp(out);

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c >= 0x20 && c < 0x7f)
            out[at++] = (char)c;
        else
            at += (size_t)snprintf(out + at, 5, "\\x%02x", c);
    }
    out[at++] = '\n';
    if (log->echo && write(STDERR_FILENO, out, at) < 0)
        log->echo = false;
    if (open_file(log))
        return;
    if (log->file_bytes > LOG_FILE_MAX - at) {
        rotate(log);
        if (open_file(log))
            return;
    }
    if (write(log->file, out, at) == (ssize_t)at)
        log->file_bytes += at;
}

static void flush_line(struct log *log)
{
    if (log->fill)
        write_line(log, log->line, log->fill);
    log->fill = 0;
}

int log_pipe(struct log *log, int *writer)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
        return -errno;
    if (log->pipe >= 0)
        close(log->pipe);
    log->pipe = fds[0];
    *writer = fds[1];
    return 0;
}

int log_pump(struct log *log, size_t budget)
{
    char buf[4096];

    while (log->pipe >= 0 && budget) {
        size_t want = budget < sizeof(buf) ? budget : sizeof(buf);
        ssize_t n = read(log->pipe, buf, want);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 1;
        if (n <= 0) {
            flush_line(log);
            close(log->pipe);
            log->pipe = -1;
            return 0;
        }
        budget -= (size_t)n;
        for (ssize_t i = 0; i < n; i++) {
            if (buf[i] == '\n') {
                flush_line(log);
                continue;
            }
            log->line[log->fill++] = buf[i];
            if (log->fill == LOG_LINE_MAX)
                flush_line(log);
        }
    }
    return log->pipe >= 0;
}

void log_say(struct log *log, const char *fmt, ...)
{
    char text[LOG_LINE_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    flush_line(log);
    write_line(log, text, strlen(text));
}

void log_close(struct log *log)
{
    flush_line(log);
    if (log->pipe >= 0)
        close(log->pipe);
    if (log->file >= 0)
        close(log->file);
    log->pipe = log->file = -1;
}

void log_forget(struct log *log)
{
    char path[LOG_NAME_MAX + 16];

    log_close(log);
    path_of(log, "", path);
    unlink(path);
    path_of(log, ".1", path);
    unlink(path);
}

static size_t append_file(const char *path, char *out, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    size_t at = 0;
    ssize_t n;

    if (fd < 0)
        return 0;
    while (at < room && (n = read(fd, out + at, room - at)) > 0)
        at += (size_t)n;
    close(fd);
    return at;
}

char *log_text(const struct log *log, size_t *bytes)
{
    char path[LOG_NAME_MAX + 16];
    char *out = malloc(2 * (size_t)LOG_FILE_MAX + 1);

    if (!out)
        return NULL;
    path_of(log, ".1", path);
    *bytes = append_file(path, out, LOG_FILE_MAX);
    path_of(log, "", path);
    *bytes += append_file(path, out + *bytes, LOG_FILE_MAX);
    out[*bytes] = '\0';
    return out;
}
