/* SPDX-License-Identifier: MIT */
#include "store.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <xen/io/xs_wire.h>

#define MESSAGE_MAX (sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX)

struct store {
    int fd;      /* the connection                                           */
    int kept_fd; /* eventfd: readable while an event is kept                 */
    int poll_fd; /* epoll over both: what store_fd() gives out               */
    bool broken;
    uint32_t req_id;

    size_t have; /* bytes in rx, a partial message at most after receive()   */
    uint8_t rx[2 * MESSAGE_MAX];
    uint8_t tx[MESSAGE_MAX];

    bool replied;
    uint32_t reply_type;
    size_t reply_len;
    char reply[XENSTORE_PAYLOAD_MAX + 1];

    unsigned first, kept;
    struct store_event events[STORE_EVENTS_MAX];
};

/* ------------------------------------------------------------- open, close */

static int watch_readable(int poll_fd, int fd)
{
    struct epoll_event want = {.events = EPOLLIN};

    return epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &want) ? -errno : 0;
}

int store_open_fd(struct store **out, int fd)
{
    struct store *st = calloc(1, sizeof(*st));
    int err = -ENOMEM;

    if (!st) {
        close(fd);
        return err;
    }
    st->fd = fd;
    st->kept_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    st->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (st->kept_fd < 0 || st->poll_fd < 0) {
        err = -errno;
        goto fail;
    }
    err = watch_readable(st->poll_fd, st->fd);
    if (!err)
        err = watch_readable(st->poll_fd, st->kept_fd);
    if (err)
        goto fail;
    *out = st;
    return 0;
fail:
    store_close(st);
    return err;
}

int store_open(struct store **out, struct hyp *hyp)
{
    int fd = hyp_store_fd(hyp);

    return fd < 0 ? fd : store_open_fd(out, fd);
}

void store_close(struct store *st)
{
    if (!st)
        return;
    if (st->poll_fd >= 0)
        close(st->poll_fd);
    if (st->kept_fd >= 0)
        close(st->kept_fd);
    close(st->fd);
    free(st);
}

int store_fd(const struct store *st)
{
    return st->poll_fd;
}

/* ------------------------------------------------------------- kept events */

static void mark_kept(struct store *st)
{
    uint64_t one = 1;

    /* Cannot fail usefully: the counter is far from full. */
    if (write(st->kept_fd, &one, sizeof(one)) < 0)
        st->broken = true;
}

static void mark_none_kept(struct store *st)
{
    uint64_t count;

    if (read(st->kept_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
        st->broken = true;
}

static struct store_event *kept_event(struct store *st, unsigned n)
{
    return &st->events[(st->first + n) % STORE_EVENTS_MAX];
}

/* One event that stands for any number: look at everything again. */
static void keep_catch_all(struct store *st)
{
    bool was_empty = st->kept == 0;

    st->first = 0;
    st->kept = 1;
    st->events[0].path[0] = '\0';
    st->events[0].token[0] = '\0';
    if (was_empty)
        mark_kept(st);
}

static void keep_event(struct store *st, const char *path, const char *token)
{
    size_t path_len = strlen(path), token_len = strlen(token);

    if (st->kept == 1 && !kept_event(st, 0)->token[0] && !kept_event(st, 0)->path[0])
        return;
    if (path_len >= STORE_PATH_MAX || token_len >= STORE_TOKEN_MAX) {
        keep_catch_all(st);
        return;
    }
    for (unsigned i = 0; i < st->kept; i++) {
        const struct store_event *ev = kept_event(st, i);
        if (!strcmp(ev->path, path) && !strcmp(ev->token, token))
            return;
    }
    if (st->kept == STORE_EVENTS_MAX) {
        keep_catch_all(st);
        return;
    }
    struct store_event *ev = kept_event(st, st->kept++);
    memcpy(ev->path, path, path_len + 1);
    memcpy(ev->token, token, token_len + 1);
    if (st->kept == 1)
        mark_kept(st);
}

/* --------------------------------------------------------------- messages */

/* payload: "path\0token\0", NUL-terminated once more by the caller. */
static int take_event(struct store *st, const char *payload, size_t len)
{
    size_t path_len = strnlen(payload, len);

    if (path_len == len || payload[len - 1] != '\0')
        return -EPROTO;
    size_t token_at = path_len + 1;
    if (token_at == len || token_at + strlen(payload + token_at) + 1 != len)
        return -EPROTO;
    keep_event(st, payload, payload + token_at);
    return 0;
}

static int take_message(struct store *st, const struct xsd_sockmsg *h, const uint8_t *payload)
{
    if (h->type == XS_WATCH_EVENT) {
        char text[XENSTORE_PAYLOAD_MAX + 1];
        memcpy(text, payload, h->len);
        text[h->len] = '\0';
        return take_event(st, text, h->len);
    }
    if (st->replied || h->req_id != st->req_id)
        return -EPROTO;
    st->replied = true;
    st->reply_type = h->type;
    st->reply_len = h->len;
    memcpy(st->reply, payload, h->len);
    st->reply[h->len] = '\0';
    return 0;
}

/* Takes every whole message that rx holds. */
static int take_messages(struct store *st)
{
    size_t at = 0;
    int err = 0;

    while (!err && st->have - at >= sizeof(struct xsd_sockmsg)) {
        struct xsd_sockmsg h;
        memcpy(&h, st->rx + at, sizeof(h));
        if (h.len > XENSTORE_PAYLOAD_MAX)
            return -EPROTO;
        if (st->have - at - sizeof(h) < h.len)
            break;
        err = take_message(st, &h, st->rx + at + sizeof(h));
        at += sizeof(h) + h.len;
    }
    memmove(st->rx, st->rx + at, st->have - at);
    st->have -= at;
    return err;
}

static int gone(struct store *st)
{
    st->broken = true;
    return -ENOTCONN;
}

/* One receive: 1 got bytes, 0 nothing there, -ENOTCONN. */
static int receive(struct store *st)
{
    struct iovec iov = {.iov_base = st->rx + st->have, .iov_len = sizeof(st->rx) - st->have};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n = recvmsg(st->fd, &msg, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        return gone(st);
    st->have += (size_t)n;
    return take_messages(st) ? gone(st) : 1;
}

/* Sends tx; receives meanwhile, since the store stops reading from a client
 * that does not read. */
static int send_request(struct store *st, size_t len)
{
    size_t sent = 0;

    while (sent < len) {
        struct iovec iov = {.iov_base = st->tx + sent, .iov_len = len - sent};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n = sendmsg(st->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0) {
            sent += (size_t)n;
            continue;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return gone(st);
        struct pollfd p = {.fd = st->fd, .events = POLLIN | POLLOUT};
        if (ppoll(&p, 1, NULL, NULL) > 0 && (p.revents & POLLIN) && receive(st) < 0)
            return -ENOTCONN;
    }
    return 0;
}

static int error_from_name(const char *name)
{
    for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++)
        if (!strcmp(xsd_errors[i].errstring, name))
            return -xsd_errors[i].errnum;
    return -EIO;
}

struct part {
    const void *bytes;
    size_t len;
};

static struct part text_part(const char *s)
{
    return (struct part){s, strlen(s) + 1};
}

/* One request and its reply, which stays in st->reply until the next. */
static int ask(struct store *st, uint32_t type, store_txn t, const struct part *parts, unsigned n)
{
    struct xsd_sockmsg h = {.type = type, .tx_id = t};

    if (st->broken)
        return -ENOTCONN;
    for (unsigned i = 0; i < n; i++) {
        if (parts[i].len > XENSTORE_PAYLOAD_MAX - h.len)
            return -E2BIG;
        if (parts[i].len)
            memcpy(st->tx + sizeof(h) + h.len, parts[i].bytes, parts[i].len);
        h.len += (uint32_t)parts[i].len;
    }
    h.req_id = ++st->req_id;
    memcpy(st->tx, &h, sizeof(h));
    st->replied = false;

    int err = send_request(st, sizeof(h) + h.len);
    while (!err && !st->replied) {
        struct pollfd p = {.fd = st->fd, .events = POLLIN};
        if (ppoll(&p, 1, NULL, NULL) > 0 && receive(st) < 0)
            err = -ENOTCONN;
    }
    if (err)
        return err;
    if (st->reply_type == XS_ERROR)
        return error_from_name(st->reply);
    return st->reply_type == type ? 0 : gone(st);
}

static int ask_path(struct store *st, uint32_t type, store_txn t, const char *path)
{
    struct part parts[] = {text_part(path)};

    return ask(st, type, t, parts, 1);
}

/* ---------------------------------------------------------- reads, writes */

int store_read(struct store *st, store_txn t, const char *path, char *buf, size_t cap)
{
    int err = ask_path(st, XS_READ, t, path);

    if (err)
        return err;
    if (st->reply_len >= cap)
        return -E2BIG;
    if (memchr(st->reply, '\0', st->reply_len))
        return -EILSEQ;
    memcpy(buf, st->reply, st->reply_len + 1);
    return (int)st->reply_len;
}

int store_write(struct store *st, store_txn t, const char *path, const char *value)
{
    struct part parts[] = {text_part(path), {value, strlen(value)}};

    return ask(st, XS_WRITE, t, parts, 2);
}

int store_mkdir(struct store *st, store_txn t, const char *path)
{
    return ask_path(st, XS_MKDIR, t, path);
}

int store_rm(struct store *st, store_txn t, const char *path)
{
    return ask_path(st, XS_RM, t, path);
}

static int count_names(const char *names, size_t len)
{
    int n = 0;

    for (size_t i = 0; i < len; i++)
        n += names[i] == '\0';
    return n;
}

#define DIRECTORY_TRIES 16

/* A list longer than one message comes in parts.  The generation in front of
 * each part tells whether the directory changed in between; the last part
 * ends with an empty name. */
static int directory_parts(struct store *st, store_txn t, const char *path, char *buf, size_t cap)
{
    char generation[24] = "", offset[24];
    size_t got = 0;

    for (int tries = 0; tries < DIRECTORY_TRIES;) {
        snprintf(offset, sizeof(offset), "%zu", got);
        struct part parts[] = {text_part(path), text_part(offset)};
        int err = ask(st, XS_DIRECTORY_PART, t, parts, 2);
        if (err)
            return err;
        size_t head = strlen(st->reply) + 1;
        if (head > sizeof(generation) || head >= st->reply_len)
            return gone(st);
        if (got && strcmp(generation, st->reply) != 0) {
            got = 0;
            tries++;
            continue;
        }
        memcpy(generation, st->reply, head);
        const char *names = st->reply + head;
        size_t len = st->reply_len - head;
        bool last = len == 1 || names[len - 2] == '\0';
        len -= last;
        if (len > cap - got)
            return -E2BIG;
        memcpy(buf + got, names, len);
        got += len;
        if (last)
            return count_names(buf, got);
    }
    return -EAGAIN;
}

int store_directory(struct store *st, store_txn t, const char *path, char *buf, size_t cap)
{
    int err = ask_path(st, XS_DIRECTORY, t, path);

    if (err == -E2BIG)
        return directory_parts(st, t, path, buf, cap);
    if (err)
        return err;
    if (st->reply_len > cap)
        return -E2BIG;
    memcpy(buf, st->reply, st->reply_len);
    return count_names(buf, st->reply_len);
}

static int join(char out[STORE_PATH_MAX], const char *dir, const char *key)
{
    int n = snprintf(out, STORE_PATH_MAX, "%s/%s", dir, key);

    return n < 0 || n >= STORE_PATH_MAX ? -ENAMETOOLONG : 0;
}

/* Decimal digits and nothing else: no sign, no blank, no other base. */
static int parse_number(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;

    if (!*text)
        return -EINVAL;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -EINVAL;
        uint64_t digit = (uint64_t)(*text - '0');
        if (v > (max - digit) / 10 || digit > max)
            return -EINVAL;
        v = v * 10 + digit;
    }
    *out = v;
    return 0;
}

int store_read_number(struct store *st, store_txn t, const char *dir, const char *key,
                      uint64_t max, uint64_t *out)
{
    char path[STORE_PATH_MAX], text[24];
    int n = join(path, dir, key);

    if (!n)
        n = store_read(st, t, path, text, sizeof(text));
    if (n == -E2BIG || n == -EILSEQ)
        return -EINVAL;
    return n < 0 ? n : parse_number(text, max, out);
}

int store_printf(struct store *st, store_txn t, const char *dir, const char *key, const char *fmt, ...)
{
    char path[STORE_PATH_MAX], value[STORE_VALUE_MAX];
    va_list ap;
    int err = join(path, dir, key);

    if (err)
        return err;
    va_start(ap, fmt);
    int n = vsnprintf(value, sizeof(value), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(value))
        return -E2BIG;
    return store_write(st, t, path, value);
}

#define PERM_TEXT 8 /* a letter, five digits, NUL */
#define PERMS_ASK 16

int store_set_perms(struct store *st, store_txn t, const char *path,
                    const struct store_perm *perms, unsigned n)
{
    char text[PERMS_ASK][PERM_TEXT];
    struct part parts[1 + PERMS_ASK] = {text_part(path)};

    if (!n || n > PERMS_ASK)
        return -EINVAL;
    for (unsigned i = 0; i < n; i++) {
        snprintf(text[i], PERM_TEXT, "%c%u", perms[i].access, perms[i].domid);
        parts[1 + i] = text_part(text[i]);
    }
    return ask(st, XS_SET_PERMS, t, parts, 1 + n);
}

/* ------------------------------------------------------------------ watches */

static int ask_watch(struct store *st, uint32_t type, const char *path, const char *token)
{
    struct part parts[] = {text_part(path), text_part(token)};

    if (strlen(path) >= STORE_PATH_MAX || strlen(token) >= STORE_TOKEN_MAX)
        return -ENAMETOOLONG;
    return ask(st, type, STORE_NO_TXN, parts, 2);
}

int store_watch(struct store *st, const char *path, const char *token)
{
    return ask_watch(st, XS_WATCH, path, token);
}

int store_unwatch(struct store *st, const char *path, const char *token)
{
    return ask_watch(st, XS_UNWATCH, path, token);
}

int store_next_event(struct store *st, struct store_event *ev)
{
    while (!st->kept) {
        int got = st->broken ? -ENOTCONN : receive(st);
        if (got <= 0)
            return st->kept ? 0 : got;
    }
    *ev = *kept_event(st, 0);
    st->first = (st->first + 1) % STORE_EVENTS_MAX;
    if (--st->kept == 0)
        mark_none_kept(st);
    return 1;
}

/* ------------------------------------------------------------- transactions */

int store_txn_begin(struct store *st, store_txn *t)
{
    uint64_t id;
    struct part none = text_part("");
    int err = ask(st, XS_TRANSACTION_START, STORE_NO_TXN, &none, 1);

    if (err)
        return err;
    if (parse_number(st->reply, UINT32_MAX, &id) || id == STORE_NO_TXN)
        return gone(st);
    *t = (store_txn)id;
    return 0;
}

static int txn_end(struct store *st, store_txn t, const char *how)
{
    struct part part = text_part(how);

    return ask(st, XS_TRANSACTION_END, t, &part, 1);
}

int store_txn_commit(struct store *st, store_txn t)
{
    return txn_end(st, t, "T");
}

void store_txn_abort(struct store *st, store_txn t)
{
    (void)txn_end(st, t, "F");
}
