/* SPDX-License-Identifier: MIT */
/*
 * An event channel is two pipes, one for each direction: each side gets one
 * end to read and one to write, and shares no open file description with its
 * peer.  So neither can change the other's flags, and a ring that nobody
 * looked at costs the ringer nothing.  A pipe holds one page.
 *
 * When either side closes its port or dies the channel is over.  The other
 * side sees POLLHUP; its port number means nothing any more.
 */
#include "core.h"

/* A pipe of one page. */
static int pipe_open(int ends[2])
{
    bool made = pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0 && fcntl(ends[0], F_SETPIPE_SZ, HYP_PAGE_SIZE) >= 0;
    return made ? 0 : -errno;
}

/* Ports count up and do not come again before all others were used. */
static uint32_t port_next(struct domain *d)
{
    uint32_t port = d->next_port++;
    if (d->next_port == 0)
        d->next_port = 1;
    return port;
}

static void channel_end(struct core *core, struct evtchn *ch)
{
    core_close(&ch->rd);
    core_close(&ch->wr);
    ch->owner->evtchns--;
    memset(ch, 0, sizeof(*ch));
    while (core->evtchns_end > 0 && !core->evtchns[core->evtchns_end - 1].owner)
        core->evtchns_end--;
}

static struct evtchn *channel_new(struct core *core)
{
    for (unsigned i = 0; i < core->evtchns_end; i++)
        if (!core->evtchns[i].owner)
            return &core->evtchns[i];
    return core->evtchns_end < CORE_EVTCHNS_MAX ? &core->evtchns[core->evtchns_end++] : NULL;
}

int evtchn_call_alloc(struct core *core, struct call *call)
{
    const struct core_call_evtchn *in = &call->in->evtchn;
    struct domain *d = call->from, *remote = domain_find(core, in->peer);
    if (in->port != 0)
        return core_refuse(core, call, REFUSED_FIELD);
    if (!remote || remote == d)
        return core_refuse(core, call, REFUSED_DOMID);
    if (d->evtchns >= CORE_EVTCHNS_EACH)
        return core_refuse(core, call, REFUSED_QUOTA);
    struct evtchn *ch = channel_new(core);
    if (!ch)
        return core_refuse(core, call, REFUSED_FULL);
    int ends[4] = { -1, -1, -1, -1 }, *ours = ends, *theirs = ends + 2; /* what we read, what they read */
    int error = pipe_open(ours);
    error = error ? error : pipe_open(theirs);
    if (error) {
        EACH(fd, ends)
            core_close(fd);
        return error;
    }
    *ch = (struct evtchn){ .owner = d, .remote = remote, .port = port_next(d),
                            .rd = theirs[0], .wr = ours[1] };
    d->evtchns++;
    domain_relate(core, d, remote);
    core_attach(&call->out, ours[0]);
    core_attach(&call->out, theirs[1]);
    call->out.reply.u.evtchn.port = ch->port;
    return 0;
}

int evtchn_call_bind(struct core *core, struct call *call)
{
    const struct core_call_evtchn *in = &call->in->evtchn;
    EACH_OF(ch, core->evtchns, core->evtchns_end) {
        if (ch->remote != call->from || ch->owner->domid != in->peer || ch->port != in->port ||
            ch->remote_port != 0)
            continue;
        ch->remote_port = port_next(call->from);
        core_attach(&call->out, ch->rd);
        core_attach(&call->out, ch->wr);
        ch->rd = ch->wr = -1;
        call->out.reply.u.evtchn.port = ch->remote_port;
        return 0;
    }
    return core_refuse(core, call, REFUSED_PORT);
}

int evtchn_call_close(struct core *core, struct call *call)
{
    const struct core_call_evtchn *in = &call->in->evtchn;
    const struct domain *d = call->from;
    if (in->peer != 0)
        return core_refuse(core, call, REFUSED_FIELD);
    if (in->port == 0 || in->port >= d->next_port)
        return core_refuse(core, call, REFUSED_PORT);
    EACH_OF(ch, core->evtchns, core->evtchns_end)
        if ((ch->owner == d && ch->port == in->port) || (ch->remote == d && ch->remote_port == in->port))
            channel_end(core, ch);
    return 0; /* also when the peer ended it before */
}

void evtchn_domain_died(struct core *core, struct domain *d)
{
    EACH_OF(ch, core->evtchns, core->evtchns_end)
        if (ch->owner && (ch->owner == d || ch->remote == d))
            channel_end(core, ch);
}
