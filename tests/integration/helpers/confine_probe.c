/* SPDX-License-Identifier: MIT */
/*
 * A hostile driver domain for test_confine.c: takes one order from descriptor
 * 6, arms itself as one of its class would (grants mapped, a restricted ring, an
 * uplink's sockets, a TAP device, a socket for a VMM), goes as far into the jail as it
 * is told, attacks, and answers with what it got.  A seal that works kills it before it
 * answers.
 */
#include "attacks.h"

#include <poll.h>
#include <stdio.h>

#include "../../../backends/blk/uring.h"
#include "../../../hyp-shim/local/rights.h"

/* The descriptor that the core answers with, which hyp.h keeps to itself. */
static int raw_call(const void *call, size_t bytes)
{
    struct core_reply reply = { 0 };
    struct rights got;
    int flags;
    struct pollfd p = { .fd = DOMAIN_CORE_FD, .events = POLLIN };
    if (send(DOMAIN_CORE_FD, call, bytes, 0) < 0 || poll(&p, 1, -1) < 0)
        return -errno;
    ssize_t n = rights_receive(DOMAIN_CORE_FD, &reply, sizeof(reply), &got, 1, &flags);
    if (n < 0 || reply.error || got.n == 0)
        return n < 0 ? (int)n : reply.error ? reply.error : -EIO;
    return got.fd[0];
}

static int raw_map(const struct targets *t, uint32_t ref)
{
    const struct core_call_pool call = { { CORE_OP_POOL_MAP, 1000 + ref }, t->granter, ref };
    return raw_call(&call, sizeof(call));
}

/* A guest behind a door maps nothing: it grants. */
static int raw_create(const struct targets *t)
{
    const struct core_call_pool_create call = { { CORE_OP_POOL_CREATE, 1000 }, t->granter, 0, 2 };
    return raw_call(&call, sizeof(call));
}

static int arm(enum hyp_class cls, const struct targets *t, struct arms *a)
{
    static struct uring ring;
    static struct blkdev_done done;
    const char *step;
    int err = hyp_open(&a->hyp, NULL);
    if (err)
        return err;
    bool door = cls == HYP_CLASS_TAP || cls == HYP_CLASS_VHOST;
    a->pool_fd = door ? raw_create(t) : raw_map(t, t->own_ref);
    a->rdonly_fd = door ? 0 : raw_map(t, t->rdonly_ref);
    if (a->pool_fd < 0 || a->rdonly_fd < 0)
        return -EACCES;
    if (cls == HYP_CLASS_BLK)
        err = uring_open(&ring, &done, &step);
    a->ring = &ring.ring;
    a->packet = PACKET_FD;
    a->ask = ASK_FD;
    a->tap = TAP_FD;
    a->listener = LISTEN_FD;
    a->page = mmap(NULL, HYP_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return err;
}

int main(void)
{
    static struct order order;
    static struct arms arms;
    const char *step = "";
    if (read(COMMAND_FD, &order, sizeof(order)) != (ssize_t)sizeof(order))
        return 2;
    int err = arm((enum hyp_class)order.cls, &order.targets, &arms);
    if (err == 0 && order.stage >= CONFINED)
        err = jail_confine(&step);
    if (err == 0 && order.stage >= SEALED)
        err = jail_seal((enum hyp_class)order.cls, &step);
    if (err) {
        fprintf(stderr, "probe: cannot get ready: %s: %d\n", step, err);
        return 3;
    }
    int32_t answer = 1; /* ready */
    if (write(COMMAND_FD, &answer, sizeof(answer)) < 0)
        return 4;
    answer = attacks[order.attack].run(&order.targets, &arms);
    return write(COMMAND_FD, &answer, sizeof(answer)) < 0;
}
