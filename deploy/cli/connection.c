/* SPDX-License-Identifier: MIT */
/* connection.c - lines of JSON to and from bulkheadd. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli.h"

#define LINE_MAX_BYTES (64u << 20)

void connection_why(const char *run_dir, int error, char *why, size_t cap)
{
    if (error == EACCES || error == EPERM)
        snprintf(why, cap, "no permission to use %s/bulkheadd.sock: run this as root or with sudo", run_dir);
    else if (error == ENOENT || error == ENOTDIR)
        snprintf(why, cap,
                 "bulkheadd is not running (no %s/bulkheadd.sock): start it with: bulkheadd --run-dir %s",
                 run_dir, run_dir);
    else if (error == ECONNREFUSED)
        snprintf(why, cap,
                 "bulkheadd is not running (it left %s/bulkheadd.sock behind): start it with: "
                 "bulkheadd --run-dir %s",
                 run_dir, run_dir);
    else
        snprintf(why, cap, "cannot reach bulkheadd at %s/bulkheadd.sock: %s", run_dir, strerror(error));
}

/* Through the directory's descriptor: a socket address holds 107 bytes, a path may be longer. */
static int connect_in(const char *run_dir, unsigned seconds)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = (time_t)seconds};
    int dir = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd, rc = 0;

    if (dir < 0)
        return -errno;
    snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/bulkheadd.sock", dir);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) ||
        connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
        rc = -errno;
    close(dir);
    if (rc && fd >= 0)
        close(fd);
    return rc ? rc : fd;
}

int connection_try(struct connection *c, const char *run_dir, unsigned seconds)
{
    int fd = connect_in(run_dir, seconds);

    *c = (struct connection){.fd = fd < 0 ? -1 : fd};
    return fd < 0 ? fd : 0;
}

int connection_open(struct connection *c, const char *run_dir, bool quiet)
{
    int rc = connection_try(c, run_dir, 0);
    char why[1024];

    if (!rc)
        return 0;
    connection_why(run_dir, -rc, why, sizeof(why));
    if (!quiet)
        fprintf(stderr, "bulkhead: %s\n", why);
    return CLI_FAILURE;
}

void connection_close(struct connection *c)
{
    if (c->fd >= 0)
        close(c->fd);
    free(c->buf);
    *c = (struct connection){.fd = -1};
}

int connection_send(struct connection *c, json_t *request)
{
    char *text = json_dumps(request, JSON_COMPACT);
    size_t n = text ? strlen(text) : 0, done = 0;

    json_decref(request);
    if (!text)
        return CLI_FAILURE;
    text[n++] = '\n';
    while (done < n) {
        ssize_t sent = send(c->fd, text + done, n - done, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            break;
        done += (size_t)sent;
    }
    free(text);
    return done == n ? 0 : CLI_FAILURE;
}

static bool read_more(struct connection *c)
{
    ssize_t n;

    if (c->bytes == c->room) {
        size_t room = c->room ? 2 * c->room : 65536;
        char *p = room > LINE_MAX_BYTES ? NULL : realloc(c->buf, room);

        if (!p)
            return false;
        c->buf = p;
        c->room = room;
    }
    do
        n = recv(c->fd, c->buf + c->bytes, c->room - c->bytes, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return false;
    c->bytes += (size_t)n;
    return true;
}

json_t *connection_next(struct connection *c)
{
    char *end;

    for (;;) {
        size_t line;
        json_t *object;

        end = c->bytes ? memchr(c->buf, '\n', c->bytes) : NULL;
        if (!end) {
            if (!read_more(c))
                return NULL;
            continue;
        }
        line = (size_t)(end - c->buf) + 1;
        object = json_loadb(c->buf, line, 0, NULL);
        c->bytes -= line;
        memmove(c->buf, c->buf + line, c->bytes);
        return object;
    }
}
