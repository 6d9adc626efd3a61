/* SPDX-License-Identifier: MIT */
/*
 * Closing the last descriptor of a packet socket with a ring takes the kernel
 * some 40 ms, in which whoever closes it waits.  A driver domain that is killed
 * must be gone at once, since that is when the next one may begin: so the keeper
 * has a copy of its sockets, and closes it here, when nothing else is to be done.
 */
#include "netdev.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LATE_MAX 16 /* each may hold a ring of 4 MiB */

static int late[LATE_MAX];
static unsigned nlate;

void late_close(int *fd)
{
    if (*fd < 0)
        return;
    if (nlate == LATE_MAX)
        late_close_one();
    int err = sockets_take_nothing(*fd);
    if (err)
        netdev_log("cannot filter what a dead driver domain's socket receives: %s", strerrordesc_np(-err));
    late[nlate++] = *fd;
    *fd = -1;
}

bool late_waiting(void)
{
    return nlate > 0;
}

void late_close_one(void)
{
    if (nlate > 0)
        close(late[--nlate]);
}
