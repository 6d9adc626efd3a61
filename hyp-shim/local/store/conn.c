/* SPDX-License-Identifier: MIT */
#include "conn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "count.h"
#include "txn.h"
#include "watch.h"

static struct xsd_conn conns[XSD_CONNS];
/* Apart from the table, so that looking through it touches no idle page. */
static uint8_t in_buffers[XSD_CONNS][XSD_IN_BYTES];
static uint8_t out_buffers[XSD_CONNS][XSD_OUT_BYTES];
static uint32_t last_serial;
static unsigned guest_tools; /* connections of guests through the listening socket */

void xsd_conn_reset(void)
{
    for (unsigned i = 0; i < XSD_CONNS; i++)
        conns[i].fd = -1;
    guest_tools = 0;
}

struct xsd_conn *xsd_conn_at(unsigned index)
{
    return &conns[index];
}

unsigned xsd_conn_index(const struct xsd_conn *c)
{
    return (unsigned)(c - conns);
}

static bool has_its_own(domid_t domid)
{
    for (unsigned i = 0; i < XSD_CONNS; i++)
        if (conns[i].fd >= 0 && !conns[i].tool && conns[i].domid == domid)
            return true;
    return false;
}

static bool may_open(struct xsd_account *a, bool tool)
{
    if (!tool)
        return !has_its_own(a->domid);
    if (a->domid != 0 && guest_tools == XSD_TOOLS_GUESTS)
        return false;
    if (xsd_account_take(a, XSD_TOOL, 1, false))
        return false;
    guest_tools += a->domid != 0;
    return true;
}

struct xsd_conn *xsd_conn_open(int fd, domid_t domid, bool tool)
{
    struct xsd_account *a = xsd_account_of(domid);

    if (!a || !may_open(a, tool)) {
        close(fd);
        return NULL;
    }
    /* There is a slot: the limits that were just checked add up to XSD_CONNS. */
    unsigned i = 0;
    while (conns[i].fd >= 0)
        i++;
    conns[i] = (struct xsd_conn){.fd = fd, .serial = ++last_serial, .domid = domid, .tool = tool,
                                 .in = in_buffers[i], .out = out_buffers[i]};
    return &conns[i];
}

void xsd_conn_close(struct xsd_conn *c)
{
    xsd_watch_drop_all(c);
    xsd_txn_abort_all(c);
    if (c->tool) {
        xsd_account_give(xsd_account_of(c->domid), XSD_TOOL, 1);
        guest_tools -= c->domid != 0;
    }
    close(c->fd);
    c->fd = -1;
}

int xsd_conn_receive(struct xsd_conn *c)
{
    struct iovec iov = {.iov_base = c->in + c->in_len, .iov_len = XSD_IN_BYTES - c->in_len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (!iov.iov_len)
        return 0;
    ssize_t n = recvmsg(c->fd, &msg, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        return -ENOTCONN;
    c->in_len += (size_t)n;
    return 1;
}

int xsd_conn_flush(struct xsd_conn *c)
{
    while (c->out_from < c->out_to) {
        struct iovec iov = {.iov_base = c->out + c->out_from, .iov_len = c->out_to - c->out_from};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (n <= 0)
            return -ENOTCONN;
        c->out_from += (size_t)n;
    }
    c->out_from = c->out_to = 0;
    if (c->missed)
        xsd_watch_resend(c);
    return 0;
}

static size_t room(struct xsd_conn *c)
{
    return XSD_OUT_BYTES - (c->out_to - c->out_from);
}

bool xsd_conn_has_room(struct xsd_conn *c)
{
    return room(c) >= XSD_MESSAGE_MAX;
}

static void append(struct xsd_conn *c, const void *bytes, size_t n)
{
    if (n > XSD_OUT_BYTES - c->out_to) {
        memmove(c->out, c->out + c->out_from, c->out_to - c->out_from);
        c->out_to -= c->out_from;
        c->out_from = 0;
    }
    memcpy(c->out + c->out_to, bytes, n);
    c->out_to += n;
}

void xsd_conn_reply(struct xsd_conn *c, uint32_t type, uint32_t req_id, uint32_t tx_id,
                    const void *payload, size_t n)
{
    struct xsd_sockmsg h = {.type = type, .req_id = req_id, .tx_id = tx_id, .len = (uint32_t)n};

    append(c, &h, sizeof(h));
    append(c, payload, n);
}

bool xsd_conn_event(struct xsd_conn *c, const char *path, size_t n, const struct xsd_blob *token)
{
    static char text[XENSTORE_PAYLOAD_MAX];
    struct xsd_sockmsg h = {.type = XS_WATCH_EVENT, .len = (uint32_t)(n + 1 + token->bytes + 1)};

    /* The last message's worth is for a reply to the request being served. */
    if (h.len > sizeof(text) || room(c) < XSD_MESSAGE_MAX + sizeof(h) + h.len)
        return false;
    memcpy(text, path, n);
    text[n] = '\0';
    xsd_blob_copy(token, text + n + 1);
    text[h.len - 1] = '\0';
    append(c, &h, sizeof(h));
    append(c, text, h.len);
    xsd_count(XSD_COUNT_events);
    return true;
}
