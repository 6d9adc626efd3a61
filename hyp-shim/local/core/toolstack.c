/* SPDX-License-Identifier: MIT */
/*
 * The toolstack is the one domain that outlives its process.  When that goes
 * away without a word, everything goes on; what it was not told is kept for the
 * next one, and so is the parcel: what it left there for it.
 */
#include "core.h"

#include <sys/socket.h>

static struct ucred peer_of(int sock)
{
    struct ucred who = { .uid = (uid_t)-1 };
    socklen_t bytes = sizeof(who);
    getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &bytes);
    return who;
}

static void become(struct domain *toolstack, int sock)
{
    toolstack->sock = sock;
    toolstack->pid = peer_of(sock).pid;
    toolstack->rights = HYP_MAY_CONTROL;
    toolstack->unpaused = true;
}

int toolstack_init(struct core *core, const struct core_config *config)
{
    become(domain_new(core, HYP_DOMID_TOOLSTACK, 0, "toolstack"), config->toolstack); /* the first slot */
    core->adopt = config->adopt;
    if (core->adopt >= 0 && fcntl(core->adopt, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, core->parcel) < 0 ? -errno : 0;
}

/* What was sent may never have been read: what still holds is told again. */
void toolstack_left(struct core *core)
{
    struct domain *toolstack = core->domains;
    core_close(&toolstack->sock);
    core_discard(core, &toolstack->unsent);
    toolstack->greeted = toolstack->clogged = false;
    if (core->adopt < 0)
        core->over = 1;
    else
        core_log("the toolstack went away; everything goes on until the next one comes");
    EACH(d, core->domains)
        d->ready_event = d->state == DOMAIN_ALIVE && d->ready;
    EACH(dev, core->devices)
        dev->tell_toolstack |= dev->state == DEVICE_OPEN || dev->state == DEVICE_ACQUIRED;
}

/* Root alone, as we are, and one alone. */
void toolstack_adopt(struct core *core)
{
    int sock = accept4(core->adopt, NULL, NULL, SOCK_CLOEXEC);
    if (sock < 0)
        return;
    struct ucred who = peer_of(sock);
    bool welcome = who.uid == geteuid() && core->domains[0].sock < 0;
    if (welcome || who.uid != geteuid()) /* who is early tries again, and again */
        core_log("process %d (uid %u) %s the toolstack", who.pid, who.uid, welcome ? "is now" : "cannot be");
    welcome ? become(core->domains, sock) : (void)close(sock);
}

/* ----------------------------------------------------------------------- calls */

int toolstack_call_parcel(struct core *core, struct call *call)
{
    for (unsigned i = 0; i < 2; i++) {
        int fd = fcntl(core->parcel[i], F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
            return -errno;
        core_attach(&call->out, fd);
    }
    return 0;
}

int toolstack_call_end(struct core *core, struct call *call)
{
    (void)call;
    core->over = 1;
    return 0;
}
