/* SPDX-License-Identifier: MIT */
#include "channel.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../../hyp-shim/local/rights.h"

static bool right(const struct door_order *order, bool has_fd)
{
    if (order->version != DOOR_VERSION)
        return false;
    if (order->op == DOOR_READY)
        return !has_fd;
    return (order->op == DOOR_OPEN || order->op == DOOR_CLOSE) && has_fd == (order->op == DOOR_OPEN)
           && order->dev[0] && memchr(order->dev, '\0', DOOR_DEV_BYTES)
           && (order->cls == DOOR_BLK || order->cls == DOOR_NET);
}

int channel_receive(int channel, struct door_order *order, int *fd)
{
    struct rights rights;
    int flags;
    ssize_t n;
    *fd = -1;
    do
        n = rights_receive(channel, order, sizeof(*order), &rights, 1, &flags);
    while (n == -EINTR);
    if (n == -EAGAIN)
        return 0;
    if (n <= 0)
        return -ENOTCONN;
    if ((size_t)n != sizeof(*order) || flags & (MSG_TRUNC | MSG_CTRUNC) || !right(order, rights.n == 1)) {
        rights_close(&rights);
        return -EBADMSG;
    }
    if (rights.n)
        *fd = rights.fd[0];
    return 1;
}

void channel_answer(int channel, const struct door_order *order, int error, const char *why)
{
    struct door_answer answer = { .version = DOOR_VERSION, .op = order->op, .error = error };
    memcpy(answer.dev, order->dev, sizeof(answer.dev));
    if (error)
        snprintf(answer.why, sizeof(answer.why), "%s", why);
    while (rights_send(channel, &answer, sizeof(answer), NULL, 0) == -EINTR)
        ;
}
