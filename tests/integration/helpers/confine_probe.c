/* SPDX-License-Identifier: MIT */
/*
 * A hostile driver domain for test_confine.c: takes one order from descriptor
 * 6, arms itself as a driver domain would (grants mapped, a restricted ring),
 * goes as far into the jail as it is told, attacks, and answers with what it
 * got.  A seal that works kills it before it answers.
 */
#include "attacks.h"

#include <stdio.h>

#include "../../../backends/blk/uring.h"

static int raw_map(const struct targets *t, uint32_t ref)
{
    struct core_call_pool call = { { CORE_OP_POOL_MAP, 1000 + ref }, t->granter, ref };
    struct core_reply reply;
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = { &reply, sizeof(reply) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                          .msg_controllen = sizeof(control) };
    if (send(DOMAIN_CORE_FD, &call, sizeof(call), 0) < 0 || recvmsg(DOMAIN_CORE_FD, &msg, 0) < 0)
        return -errno;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (reply.error || !c)
        return reply.error ? reply.error : -EIO;
    int fd;
    memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    return fd;
}

static int arm(const struct targets *t, struct arms *a)
{
    static struct uring ring;
    static struct blkdev_done done;
    const char *step;
    int err = hyp_open(&a->hyp, NULL);
    if (err)
        return err;
    a->pool_fd = raw_map(t, t->own_ref);
    a->rdonly_fd = raw_map(t, t->rdonly_ref);
    if (a->pool_fd < 0 || a->rdonly_fd < 0)
        return -EACCES;
    err = uring_open(&ring, &done, &step);
    a->ring = &ring.ring;
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
    int err = arm(&order.targets, &arms);
    if (err == 0 && order.stage >= CONFINED)
        err = jail_confine(&step);
    if (err == 0 && order.stage >= SEALED)
        err = jail_seal(HYP_CLASS_BLK, &step);
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
