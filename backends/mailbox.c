/* SPDX-License-Identifier: MIT */
/* mailbox.c - one writer, one reader, no lock. */
#include <unistd.h>

#include "mailbox.h"

bool mail_post(struct mailbox *box, enum mail_kind kind, void *what)
{
    uint32_t at = box->written;
    if (at - __atomic_load_n(&box->taken, __ATOMIC_ACQUIRE) == MAIL_SLOTS)
        return false;
    box->slot[at % MAIL_SLOTS] = (struct mail){ .kind = kind, .what = what };
    __atomic_store_n(&box->written, at + 1, __ATOMIC_RELEASE);
    /* It fails only while it is readable anyway. */
    uint64_t one = 1;
    ssize_t rung = write(box->wake_fd, &one, sizeof(one));
    (void)rung;
    return true;
}

bool mail_take(struct mailbox *box, struct mail *out)
{
    if (!mail_waiting(box))
        return false;
    uint32_t at = box->taken;
    *out = box->slot[at % MAIL_SLOTS];
    __atomic_store_n(&box->taken, at + 1, __ATOMIC_RELEASE);
    return true;
}

void mail_clear(int wake_fd)
{
    uint64_t rings;
    ssize_t got = read(wake_fd, &rings, sizeof(rings)); /* one read takes them all */
    (void)got;
}
