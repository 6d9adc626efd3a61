/* SPDX-License-Identifier: MIT */
/* store_control.h - what the core says to the store, said by a test. */
#ifndef BULKHEAD_TESTS_STORE_CONTROL_H
#define BULKHEAD_TESTS_STORE_CONTROL_H

#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "../hyp-shim/local/proto.h"

/* One word about a domain, with a descriptor unless fd is -1; fd stays the
 * caller's.  True: it was sent. */
static inline bool store_control_say(int control, uint32_t op, uint32_t domid, int fd, int flags)
{
    struct store_control word = {.op = op, .domid = domid};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } space = {0};
    struct iovec iov = {.iov_base = &word, .iov_len = sizeof(word)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        msg.msg_control = &space;
        msg.msg_controllen = sizeof(space);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    return sendmsg(control, &msg, flags) == (ssize_t)sizeof(word);
}

#endif
