/* SPDX-License-Identifier: MIT */
/* net_check.c - are they the packets that were sent?  Every byte of them. */
#include "net_load.h"

#include <errno.h>
#include <stdio.h>

#include "bench.h"
#include "load.h"

#define IN_FLIGHT   128u /* few enough for any backlog: nothing may be dropped */
#define RECEIVE     32u
#define PATIENCE_NS 5000000000ull

struct check {
    struct netfront *from, *to;
    const struct frame_flow *flow;
    uint64_t sent, seen;
    char *why;
    size_t why_bytes;
};

static int send_one(struct check *c)
{
    void *bufs[NETFRONT_CHAIN_MAX];
    struct netfront_packet out[NETFRONT_CHAIN_MAX];
    uint32_t bytes = frame_bytes(c->flow, c->sent), at = 0;
    unsigned pieces = (bytes + NETFRONT_BUF_BYTES - 1) / NETFRONT_BUF_BYTES;
    int n = netfront_get(c->from, 0, bufs, pieces);
    if (n < 0)
        return n;
    for (unsigned i = 0; (unsigned)n == pieces && i < pieces; i++) {
        uint32_t part = bytes - at < NETFRONT_BUF_BYTES ? bytes - at : NETFRONT_BUF_BYTES;
        uint8_t *buf = bufs[i];
        if (i == 0) { /* odd places too: nothing says that data begins on a line */
            buf += pieces == 1 ? (c->sent * 7) % (NETFRONT_BUF_BYTES - bytes + 1) : 0;
            frame_write(frame_header(c->flow, c->sent), c->sent, 0, buf, part);
        } else {
            frame_write_more(c->sent, at, buf, part);
        }
        out[i] = (struct netfront_packet){
            .data = buf, .bytes = part, .flags = i + 1 < pieces ? NETFRONT_MORE : 0};
        at += part;
    }
    int taken = (unsigned)n == pieces ? netfront_send(c->from, 0, out, pieces) : 0;
    if (taken <= 0)
        netfront_put(c->from, 0, bufs, (unsigned)n);
    else
        c->sent++;
    return taken;
}

static int wrong(struct check *c, const char *what)
{
    snprintf(c->why, c->why_bytes, "packet %llu of %llu %s", (unsigned long long)c->seen,
             (unsigned long long)c->sent, what);
    return -EILSEQ;
}

/* One burst from one queue: the number of elements. */
static int receive_some(struct check *c, unsigned queue)
{
    struct netfront_packet in[RECEIVE];
    static uint8_t copy[NETFRONT_BUF_BYTES];
    uint32_t at = 0;
    int n = netfront_receive(c->to, queue, in, RECEIVE);
    for (int i = 0; i < n; i++) {
        if (in[i].bytes > sizeof(copy))
            return wrong(c, "is longer than its buffer");
        memcpy(copy, in[i].data, in[i].bytes);
        if (at + in[i].bytes > frame_bytes(c->flow, c->seen))
            return wrong(c, "arrived longer than it was sent");
        if (!frame_is(c->flow, c->seen, at, copy, in[i].bytes))
            return wrong(c, "did not arrive as it was sent, or not in its place");
        at += in[i].bytes;
        if (in[i].flags & NETFRONT_MORE)
            continue;
        if (at != frame_bytes(c->flow, c->seen))
            return wrong(c, "arrived shorter than it was sent");
        c->seen++;
        at = 0;
    }
    if (n > 0)
        netfront_release(c->to, queue, in, (unsigned)n);
    return n;
}

int net_check(struct netfront *from, struct netfront *to, const struct frame_flow *flow, uint64_t n,
              char *why, size_t why_bytes)
{
    struct check c = {.from = from, .to = to, .flow = flow, .why = why, .why_bytes = why_bytes};
    uint64_t heard = load_now_ns();
    while (c.seen < n && !bench_stop) {
        int moved = 0, error = 0;
        if (c.sent < n && c.sent - c.seen < IN_FLIGHT)
            error = moved = send_one(&c);
        for (unsigned q = 0; error >= 0 && q < netfront_info(to)->queues; q++) {
            error = receive_some(&c, q);
            moved += error;
        }
        if (error < 0)
            return error;
        uint64_t now = load_now_ns();
        if (moved)
            heard = now;
        else if (now - heard > PATIENCE_NS)
            return wrong(&c, "never arrived");
    }
    return bench_stop ? -EINTR : 0;
}
