/* SPDX-License-Identifier: MIT */
#include "storelink.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

/* Inside only: the connection hung up, and there may be another. */
#define LOST (-EPIPE)

static int poll_for(struct store *st, int fd)
{
    struct epoll_event want = {.events = EPOLLIN};

    return epoll_ctl(st->poll_fd, EPOLL_CTL_ADD, fd, &want) ? -errno : 0;
}

/* A copy of fd in a child of ours must not go on telling. */
static void poll_no_more(struct store *st, int fd)
{
    (void)epoll_ctl(st->poll_fd, EPOLL_CTL_DEL, fd, NULL);
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

    if (!st->broken && read(st->kept_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
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

static void keep_none(struct store *st)
{
    if (st->kept)
        mark_none_kept(st);
    st->kept = 0;
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

/* From now on store_fd() is readable for good. */
int link_break(struct store *st)
{
    if (!st->broken)
        mark_kept(st);
    st->broken = true;
    return -ENOTCONN;
}

/* True: STORE_RETRY_MS are over, and the next begin now. */
static bool next_try(struct store *st)
{
    uint64_t ticks;

    return read(st->timer_fd, &ticks, sizeof(ticks)) > 0;
}

/* The connection hung up: nothing of it means anything to the next. */
static int lose(struct store *st)
{
    if (!st->hyp)
        return link_break(st);
    if (st->fd >= 0) {
        poll_no_more(st, st->fd);
        close(st->fd);
    }
    st->fd = -1;
    st->have = 0;
    memset(st->txns, 0, sizeof(st->txns));
    keep_none(st);
    if (!st->lost) {
        st->lost = true;
        st->give_up_ms = monotonic_ms() + STORE_AWAY_MS;
        (void)next_try(st);
        if (poll_for(st, st->timer_fd))
            return link_break(st);
    }
    return LOST;
}

/* One receive: 1 got bytes, 0 nothing there, LOST, -ENOTCONN. */
static int receive(struct store *st)
{
    struct iovec iov = {.iov_base = st->rx + st->have, .iov_len = sizeof(st->rx) - st->have};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n = recvmsg(st->fd, &msg, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        return lose(st);
    st->have += (size_t)n;
    return take_messages(st) ? link_break(st) : 1;
}

/* Waits for a living store as long as it takes, but not for a new one. */
static int receive_more(struct store *st, short also)
{
    struct pollfd p = {.fd = st->fd, .events = (short)(POLLIN | also)};
    uint64_t now = st->lost ? monotonic_ms() : 0;
    uint64_t ms = st->lost && now < st->give_up_ms ? st->give_up_ms - now : 0;
    struct timespec limit = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    int n = ppoll(&p, 1, st->lost ? &limit : NULL, NULL);

    if (n == 0)
        return link_break(st);
    int got = n > 0 && (p.revents & ~POLLOUT) ? receive(st) : 0;
    return got < 0 ? got : 0;
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
            return lose(st);
        int err = receive_more(st, POLLOUT);
        if (err)
            return err;
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

/* Puts a request into tx and returns its length. -E2BIG. */
static int compose(struct store *st, uint32_t type, uint32_t tx_id, const struct link_part *parts, unsigned n)
{
    struct xsd_sockmsg h = {.type = type, .tx_id = tx_id};

    for (unsigned i = 0; i < n; i++) {
        if (parts[i].len > XENSTORE_PAYLOAD_MAX - h.len)
            return -E2BIG;
        if (parts[i].len)
            memcpy(st->tx + sizeof(h) + h.len, parts[i].bytes, parts[i].len);
        h.len += (uint32_t)parts[i].len;
    }
    h.req_id = ++st->req_id;
    memcpy(st->tx, &h, sizeof(h));
    return (int)(sizeof(h) + h.len);
}

/* 0: it replied, in st->reply. LOST, -ENOTCONN, -E2BIG. */
static int converse(struct store *st, uint32_t type, uint32_t tx_id, const struct link_part *parts,
                    unsigned n)
{
    int len = compose(st, type, tx_id, parts, n);

    if (len < 0)
        return len;
    st->replied = false;
    int err = send_request(st, (size_t)len);
    while (!err && !st->replied)
        err = receive_more(st, 0);
    return err;
}

/* --------------------------------------------------------- a new connection */

static int set_watches(struct store *st)
{
    for (unsigned i = 0; i < st->nwatches; i++) {
        const struct link_watch *w = &st->watches[i];
        const struct link_part parts[] = {{w->path, strlen(w->path) + 1}, {w->token, strlen(w->token) + 1}};
        int err = converse(st, XS_WATCH, 0, parts, 2);
        if (err || st->reply_type != XS_WATCH)
            return err ? err : LOST;
    }
    return 0;
}

/* The first request proves that there is a store at the other end. What watches
 * say first is all in the one event that is kept already. */
static int begin_again(struct store *st, int fd)
{
    const struct link_part none = {"", 1};

    st->fd = fd;
    int err = poll_for(st, fd);
    keep_catch_all(st);
    if (!err)
        err = converse(st, XS_RESET_WATCHES, 0, &none, 1);
    if (!err)
        err = st->reply_type == XS_RESET_WATCHES ? set_watches(st) : LOST;
    return err;
}

/* 0: it is back; -EAGAIN: not yet; -ENOTCONN: for good. */
static int rejoin(struct store *st)
{
    if (st->lost_fn)
        st->lost_fn(st->lost_arg);
    int fd = hyp_store_connect(st->hyp);
    if (fd == -ENOTCONN || fd == -EOPNOTSUPP)
        return link_break(st);
    if (fd >= 0 && begin_again(st, fd) == 0) {
        st->lost = false;
        poll_no_more(st, st->timer_fd);
        return 0;
    }
    if (st->fd >= 0 && !st->broken)
        (void)lose(st);
    return st->broken || monotonic_ms() >= st->give_up_ms ? link_break(st) : -EAGAIN;
}

/* Until there is a connection again. -ENOTCONN. */
static int await_store(struct store *st)
{
    int err = st->broken ? -ENOTCONN : 0;

    while (!err && st->lost) {
        struct pollfd p = {.fd = st->timer_fd, .events = POLLIN};
        if (ppoll(&p, 1, NULL, NULL) > 0 && next_try(st)) {
            err = rejoin(st);
            err = err == -EAGAIN ? 0 : err;
        }
    }
    return err;
}

/* ----------------------------------------------------------------- requests */

static struct link_txn *find_txn(struct store *st, store_txn t)
{
    for (unsigned i = 0; i < STORE_TXNS_MAX; i++)
        if (st->txns[i].handle == t)
            return &st->txns[i];
    return NULL;
}

int link_ask(struct store *st, uint32_t type, store_txn t, const struct link_part *parts, unsigned n)
{
    st->repeated = false;
    for (;;) {
        const struct link_txn *txn = t ? find_txn(st, t) : NULL;
        if (t && !txn && !st->broken)
            return -EAGAIN;
        int err = await_store(st);
        if (!err)
            err = converse(st, type, txn ? txn->id : 0, parts, n);
        if (err && err != LOST)
            return err;
        if (!err)
            break;
        st->repeated = true;
    }
    if (st->reply_type == XS_ERROR)
        return error_from_name(st->reply);
    return st->reply_type == type ? 0 : link_break(st);
}

int store_next_event(struct store *st, struct store_event *ev)
{
    while (st->lost || !st->kept) {
        if (st->broken)
            return -ENOTCONN;
        if (st->lost) {
            if (!next_try(st))
                return 0;
            (void)rejoin(st);
        } else if (receive(st) == 0) {
            return 0;
        }
    }
    *ev = *kept_event(st, 0);
    st->first = (st->first + 1) % STORE_EVENTS_MAX;
    if (--st->kept == 0)
        mark_none_kept(st);
    return 1;
}

/* ------------------------------------------------- transactions and watches */

int link_room_for_txn(struct store *st)
{
    return find_txn(st, STORE_NO_TXN) ? 0 : -ENOSPC;
}

store_txn link_add_txn(struct store *st, uint32_t id)
{
    struct link_txn *unused = find_txn(st, STORE_NO_TXN);

    do
        st->last_txn++;
    while (find_txn(st, st->last_txn)); /* also past STORE_NO_TXN, which `unused` has */
    *unused = (struct link_txn){.handle = st->last_txn, .id = id};
    return st->last_txn;
}

bool link_has_txn(struct store *st, store_txn t)
{
    return t != STORE_NO_TXN && find_txn(st, t);
}

void link_end_txn(struct store *st, store_txn t)
{
    struct link_txn *txn = find_txn(st, t);

    if (txn)
        *txn = (struct link_txn){0};
}

int link_room_for_watch(const struct store *st)
{
    return st->hyp && st->nwatches == st->watches_max ? -ENOSPC : 0;
}

void link_add_watch(struct store *st, const char *path, const char *token)
{
    if (st->nwatches == st->watches_max)
        return; /* only without a hypervisor: never set again */
    struct link_watch *w = &st->watches[st->nwatches++];
    memcpy(w->path, path, strlen(path) + 1);
    memcpy(w->token, token, strlen(token) + 1);
}

void link_drop_watch(struct store *st, const char *path, const char *token)
{
    for (unsigned i = 0; i < st->nwatches; i++) {
        struct link_watch *w = &st->watches[i];
        if (strcmp(w->path, path) != 0 || strcmp(w->token, token) != 0)
            continue;
        *w = st->watches[--st->nwatches];
        return;
    }
}

/* -------------------------------------------------------------- open, close */

static int make_timer(int *fd)
{
    const struct itimerspec every = {.it_value.tv_nsec = STORE_RETRY_MS * 1000000l,
                                     .it_interval.tv_nsec = STORE_RETRY_MS * 1000000l};

    *fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    /* Set once and for all, since a jail has no call to set it: it stops by
     * itself until it is read. */
    return *fd < 0 || timerfd_settime(*fd, 0, &every, NULL) ? -errno : 0;
}

static int make(struct store **out, struct hyp *hyp)
{
    unsigned watches = !hyp ? 0 : hyp_domid(hyp) ? STORE_WATCHES_MAX : STORE_WATCHES_TOOLSTACK;
    struct store *st = calloc(1, sizeof(*st) + watches * sizeof(st->watches[0]));

    if (!st)
        return -ENOMEM;
    st->hyp = hyp;
    st->watches_max = watches;
    st->fd = st->timer_fd = -1;
    st->kept_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    st->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    int err = st->kept_fd < 0 || st->poll_fd < 0 ? -errno : poll_for(st, st->kept_fd);
    if (!err && hyp)
        err = make_timer(&st->timer_fd);
    if (err)
        store_close(st);
    else
        *out = st;
    return err;
}

int store_open_fd(struct store **out, int fd)
{
    struct store *st;
    int err = make(&st, NULL);

    if (err) {
        close(fd);
        return err;
    }
    st->fd = fd;
    err = poll_for(st, fd);
    if (err)
        store_close(st);
    else
        *out = st;
    return err;
}

int store_open(struct store **out, struct hyp *hyp)
{
    struct store *st;
    int err = make(&st, hyp);

    if (err)
        return err;
    int fd = hyp_store_fd(hyp);
    if (fd >= 0) {
        st->fd = fd;
        err = poll_for(st, fd);
    } else if (fd == -EAGAIN && hyp_domid(hyp) != 0) {
        (void)lose(st); /* as if it had been there */
        err = await_store(st);
    } else {
        err = fd;
    }
    if (err)
        store_close(st);
    else
        *out = st;
    return err;
}

void store_on_loss(struct store *st, store_lost_fn *fn, void *arg)
{
    st->lost_fn = fn;
    st->lost_arg = arg;
}

void store_close(struct store *st)
{
    if (!st)
        return;
    const int fds[] = {st->poll_fd, st->kept_fd, st->timer_fd, st->fd};
    for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(st);
}

int store_fd(const struct store *st)
{
    return st->poll_fd;
}
