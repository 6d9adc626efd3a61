/* SPDX-License-Identifier: MIT */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../../clock.h"
#include "../proto.h"
#include "../rights.h"
#include "conn.h"
#include "count.h"
#include "journal.h"
#include "request.h"
#include "tree.h"
#include "txn.h"
#include "watch.h"

/*
 * Right of way.  Guests that keep writing what a transaction of dom0 looks at
 * could make it fail for ever (XSA-206).  After CONFLICTS_MAX failures in a
 * row the next one gets the right of way: until it ends, at most for
 * RIGHT_OF_WAY_MS, guests' writes wait in their own buffers.
 */
#define CONFLICTS_MAX   3
#define RIGHT_OF_WAY_MS 1000

static struct {
    int control, listen;
    bool full; /* no descriptor left for a new connection; wait for an old one to end */
    struct xsd_conn *first; /* who has the right of way, or NULL */
    uint64_t until_ms;
} server;

/* ------------------------------------------------------------ init and end */

int store_server_init(int control, int listen)
{
    uint64_t seed;
    int fds[] = {control, listen};

    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        return -errno;
    for (unsigned i = 0; i < 2; i++) {
        int flags = fds[i] < 0 ? 0 : fcntl(fds[i], F_GETFL);
        if (flags < 0 || (fds[i] >= 0 && fcntl(fds[i], F_SETFL, flags | O_NONBLOCK)))
            return -errno;
    }
    xsd_hash_seed(seed);
    xsd_count_reset();
    xsd_journal_close();
    xsd_account_reset();
    xsd_blob_reset();
    xsd_tree_reset();
    xsd_watch_reset();
    xsd_txn_reset();
    xsd_conn_reset();
    server.control = control;
    server.listen = listen;
    server.first = NULL;
    server.full = false;
    return 0;
}

static void drop(struct xsd_conn *c)
{
    server.full = false;
    if (server.first == c)
        server.first = NULL;
    xsd_conn_close(c);
}

void store_server_end(void)
{
    for (unsigned i = 0; i < XSD_CONNS; i++)
        if (xsd_conn_at(i)->fd >= 0)
            drop(xsd_conn_at(i));
    if (server.control >= 0)
        close(server.control);
    if (server.listen >= 0)
        close(server.listen);
    server.control = server.listen = -1;
    xsd_journal_close();
}

/* ----------------------------------------------------------------- domains */

static struct xsd_conn *connection_of(domid_t domid)
{
    for (unsigned i = 0; i < XSD_CONNS; i++)
        if (xsd_conn_at(i)->fd >= 0 && !xsd_conn_at(i)->tool && xsd_conn_at(i)->domid == domid)
            return xsd_conn_at(i);
    return NULL;
}

static int know(domid_t domid)
{
    int err = xsd_account_open(domid);

    if (err)
        return err;
    xsd_journal_domain(domid);
    xsd_journal_commit();
    xsd_count(XSD_COUNT_domains_in);
    return 0;
}

/* A domain that there is already has lost its connection, whether we saw that or
 * not: the new one takes its place. dom0 is always there. */
static void introduce(domid_t domid, int fd)
{
    bool known = xsd_account_of(domid);
    struct xsd_conn *old = connection_of(domid);

    if (!known && know(domid)) {
        xsd_count(XSD_COUNT_bad_control);
        close(fd);
        return;
    }
    if (old)
        drop(old);
    xsd_conn_open(fd, domid, false); /* fits: it has none, and is one of CORE_DOMAINS_MAX */
    if (!known)
        xsd_watch_fire_special("@introduceDomain");
}

/* After this nothing in the store knows the domid: not as owner, not in
 * permissions, not in a transaction (XSA-322, XSA-417, XSA-419). */
static void release(domid_t domid)
{
    if (!domid || !xsd_account_of(domid)) {
        xsd_count(XSD_COUNT_bad_control);
        return;
    }
    for (unsigned i = 0; i < XSD_CONNS; i++)
        if (xsd_conn_at(i)->fd >= 0 && xsd_conn_at(i)->domid == domid)
            drop(xsd_conn_at(i));
    xsd_txn_purge(domid);
    xsd_tree_purge(domid, xsd_watch_gone);
    xsd_account_close(domid);
    xsd_journal_purge(domid);
    xsd_journal_commit();
    xsd_count(XSD_COUNT_domains_out);
    xsd_watch_fire_special("@releaseDomain");
}

static bool is_named(const struct store_living *say, domid_t domid)
{
    for (uint32_t i = 0; i < say->n; i++)
        if (say->domid[i] == domid)
            return true;
    return false;
}

/* What happened while no store ran: who died, and who came. */
static bool catch_up(const struct store_living *say)
{
    if (say->n > CORE_DOMAINS_MAX)
        return false;
    for (uint32_t i = 0; i < say->n; i++)
        if (!say->domid[i] || say->domid[i] > LOCAL_DOMID_LAST)
            return false;
    for (unsigned slot = 1; slot < CORE_DOMAINS_MAX; slot++) {
        const struct xsd_account *a = xsd_account_at(slot);
        if (a->open && !is_named(say, a->domid))
            release(a->domid);
    }
    for (uint32_t i = 0; i < say->n; i++)
        if (!xsd_account_of(say->domid[i]) && know((domid_t)say->domid[i]))
            return false;
    return true;
}

union said {
    uint32_t op;
    struct store_control one;
    struct store_living living;
};

/* False: no such thing is said. Takes got's descriptor when it says true. */
static bool obey(const union said *say, size_t bytes, const struct rights *got)
{
    if (bytes == sizeof(say->living) && say->op == STORE_CONTROL_LIVING && got->n == 0)
        return catch_up(&say->living);
    if (bytes != sizeof(say->one) || say->one.domid > LOCAL_DOMID_LAST)
        return false;
    if (say->op == STORE_CONTROL_INTRODUCE && got->n == 1)
        introduce((domid_t)say->one.domid, got->fd[0]);
    else if (say->op == STORE_CONTROL_RELEASE && got->n == 0)
        release((domid_t)say->one.domid);
    else
        return false;
    return true;
}

/* 1 took one, 0 none now, -ENOTCONN. */
static int take_control(void)
{
    union said say;
    struct rights got;
    int flags;
    ssize_t n = rights_receive(server.control, &say, sizeof(say), &got, 1, &flags);

    if (n == -EAGAIN || n == -EINTR)
        return 0;
    if (n <= 0)
        return -ENOTCONN;
    if (flags & (MSG_TRUNC | MSG_CTRUNC) || !obey(&say, (size_t)n, &got)) {
        rights_close(&got);
        xsd_count(XSD_COUNT_bad_control);
    }
    return 1;
}

static int take_all_control(void)
{
    int got;

    while ((got = take_control()) > 0)
        ;
    return got;
}

/* -------------------------------------------------------------- stock tools */

static bool domid_of_uid(uid_t uid, domid_t *domid)
{
    *domid = 0;
    if (uid == 0 || uid == LOCAL_UID_BASE)
        return true;
    if (uid < LOCAL_UID_BASE || uid - LOCAL_UID_BASE > LOCAL_DOMID_LAST)
        return false;
    *domid = (domid_t)(uid - LOCAL_UID_BASE);
    return xsd_account_of(*domid) != NULL;
}

static void accept_tools(void)
{
    for (int i = 0; i < XSD_ACCEPTS; i++) {
        struct ucred peer;
        socklen_t len = sizeof(peer);
        domid_t domid;
        int fd = accept4(server.listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            server.full = errno == EMFILE || errno == ENFILE;
            return;
        }
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) || !domid_of_uid(peer.uid, &domid)) {
            xsd_count(XSD_COUNT_tools_refused);
            close(fd);
        } else if (!xsd_conn_open(fd, domid, true)) {
            xsd_count(XSD_COUNT_tools_refused);
        }
    }
}

/* ---------------------------------------------------------------- requests */

/* Returns whether the next request of c is all there. -EPROTO: too long. */
static int peek(const struct xsd_conn *c, size_t at, struct xsd_sockmsg *h)
{
    if (c->in_len - at < sizeof(*h))
        return 0;
    memcpy(h, c->in + at, sizeof(*h));
    if (h->len > XENSTORE_PAYLOAD_MAX)
        return -EPROTO;
    return c->in_len - at - sizeof(*h) >= h->len;
}

static bool must_wait(const struct xsd_conn *c, const struct xsd_sockmsg *h)
{
    return server.first && !xsd_conn_is_dom0(c) && xsd_request_writes(h);
}

static void give_way(struct xsd_conn *c, const struct xsd_sockmsg *h)
{
    if (server.first == c && !c->txns)
        server.first = NULL;
    if (!server.first && h->type == XS_TRANSACTION_START && xsd_conn_is_dom0(c) &&
        c->conflicts >= CONFLICTS_MAX && c->txns) {
        server.first = c;
        server.until_ms = monotonic_ms() + RIGHT_OF_WAY_MS;
        c->conflicts = 0;
    }
}

/* Serves what c has sent, at most its budget.  -ENOTCONN: it broke the protocol. */
static int serve(struct xsd_conn *c)
{
    struct xsd_sockmsg h;
    size_t at = 0;
    int whole = 0;

    for (int budget = XSD_BUDGET; budget && (whole = peek(c, at, &h)) > 0; budget--) {
        if (!xsd_conn_has_room(c))
            break;
        if (must_wait(c, &h)) {
            xsd_count(XSD_COUNT_held_back);
            break;
        }
        xsd_request(c, &h, (const char *)c->in + at + sizeof(h));
        give_way(c, &h);
        at += sizeof(h) + h.len;
    }
    if (whole < 0) {
        xsd_count(XSD_COUNT_bad_length);
        return -ENOTCONN;
    }
    memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
    return 0;
}

/* Could be served at once, without waiting for anyone. */
static bool is_pending(struct xsd_conn *c)
{
    struct xsd_sockmsg h;

    return peek(c, 0, &h) && xsd_conn_has_room(c) && !must_wait(c, &h);
}

static short wanted(struct xsd_conn *c)
{
    bool reads = !c->ended && c->in_len < XSD_IN_BYTES && xsd_conn_has_room(c);

    return (short)((reads ? POLLIN : 0) | (c->out_to > c->out_from ? POLLOUT : 0));
}

static bool is_same(const struct xsd_conn *c, uint32_t serial)
{
    return c->fd >= 0 && c->serial == serial;
}

/* One round for one connection. -ENOTCONN: close it. */
static int attend(struct xsd_conn *c, short asked, short told)
{
    /* Hung up, and we are not waiting for more from it: nobody reads replies. */
    if ((told & (POLLHUP | POLLERR)) && !(asked & POLLIN))
        return -ENOTCONN;
    if (told & (POLLIN | POLLHUP | POLLERR) && xsd_conn_receive(c) < 0)
        c->ended = true;
    /* What the core said before the client spoke is known before it is answered. */
    uint32_t serial = c->serial;
    int err = take_all_control();
    if (err || !is_same(c, serial))
        return 0;
    err = serve(c);
    if (!err)
        err = xsd_conn_flush(c);
    if (!err && !xsd_conn_has_room(c))
        xsd_count(XSD_COUNT_stalled);
    return err ? err : c->ended && !is_pending(c) ? -ENOTCONN : 0;
}

/* -------------------------------------------------------------------- turn */

static int wait_ms(int timeout_ms)
{
    for (unsigned i = 0; i < XSD_CONNS; i++)
        if (xsd_conn_at(i)->fd >= 0 && is_pending(xsd_conn_at(i)))
            return 0;
    if (!server.first)
        return timeout_ms;
    uint64_t now = monotonic_ms();
    if (now >= server.until_ms) {
        server.first = NULL;
        return 0;
    }
    int left = (int)(server.until_ms - now);
    return timeout_ms >= 0 && timeout_ms < left ? timeout_ms : left;
}

int store_server_turn(int timeout_ms)
{
    static struct pollfd polls[2 + XSD_CONNS];
    static struct {
        unsigned index;
        uint32_t serial;
    } who[2 + XSD_CONNS];
    nfds_t n = 2;
    int ms = wait_ms(timeout_ms);
    struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

    polls[0] = (struct pollfd){.fd = server.control, .events = POLLIN};
    polls[1] = (struct pollfd){.fd = server.full ? -1 : server.listen, .events = POLLIN};
    for (unsigned i = 0; i < XSD_CONNS; i++) {
        struct xsd_conn *c = xsd_conn_at(i);
        if (c->fd < 0)
            continue;
        who[n].index = i;
        who[n].serial = c->serial;
        polls[n++] = (struct pollfd){.fd = c->fd, .events = wanted(c)};
    }
    if (ppoll(polls, n, ms < 0 ? NULL : &wait, NULL) < 0 && errno != EINTR)
        return -errno;

    int err = take_all_control();
    if (err)
        return err;
    for (nfds_t i = 2; i < n; i++) {
        struct xsd_conn *c = xsd_conn_at(who[i].index);
        /* The slot may have been given to another since: then its turn is next. */
        if (is_same(c, who[i].serial) && (polls[i].revents || is_pending(c)) &&
            attend(c, polls[i].events, polls[i].revents))
            drop(c);
    }
    if (polls[1].revents)
        accept_tools();
    return 0;
}
