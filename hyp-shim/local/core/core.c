/* SPDX-License-Identifier: MIT */
#include "core.h"

#include <stdarg.h>
#include <sys/socket.h>

#define END_WAIT_MS 1000 /* for each process, at the end */
#define SWEEP_MS    5    /* of quiet before what the dead had is closed: others have work first */
#define SWEEP_TURNS 256  /* or so many turns, where it is never quiet */

/* ----------------------------------------------------------------- dispatch */

/* A call that is not here does not exist.  HYP_MAY_CONTROL is the toolstack's
 * alone; no class has it. */
static const struct {
    call_handler *handler;
    uint16_t bytes;
    uint32_t right;
} calls[CORE_OP_COUNT] = {
    [CORE_OP_HELLO]          = { domain_call_hello, sizeof(struct core_call), 0 },
    [CORE_OP_READY]          = { domain_call_ready, sizeof(struct core_call), 0 },
    [CORE_OP_RESTRICT]       = { domain_call_restrict, sizeof(struct core_call_restrict), 0 },
    [CORE_OP_POOL_CREATE]    = { pool_call_create, sizeof(struct core_call_pool_create), HYP_MAY_GRANT },
    [CORE_OP_POOL_REGRANT]   = { pool_call_grant, sizeof(struct core_call_pool), HYP_MAY_GRANT },
    [CORE_OP_POOL_SHARE]     = { pool_call_grant, sizeof(struct core_call_pool), HYP_MAY_GRANT },
    [CORE_OP_POOL_END]       = { pool_call_end, sizeof(struct core_call_pool), HYP_MAY_GRANT },
    [CORE_OP_POOL_MAP]       = { pool_call_map, sizeof(struct core_call_pool), HYP_MAY_MAP },
    [CORE_OP_POOL_UNMAP]     = { pool_call_unmap, sizeof(struct core_call_pool), 0 },
    [CORE_OP_EVTCHN_ALLOC]   = { evtchn_call_alloc, sizeof(struct core_call_evtchn), HYP_MAY_EVTCHN },
    [CORE_OP_EVTCHN_BIND]    = { evtchn_call_bind, sizeof(struct core_call_evtchn), HYP_MAY_EVTCHN },
    [CORE_OP_EVTCHN_CLOSE]   = { evtchn_call_close, sizeof(struct core_call_evtchn), 0 },
    [CORE_OP_DEVICE_ACQUIRE] = { device_call_acquire, sizeof(struct core_call_device), HYP_MAY_DEVICE },
    [CORE_OP_STORE_CONNECT]  = { domain_call_store, sizeof(struct core_call), 0 },
    [CORE_OP_DOMAIN_CREATE]  = { domain_call_create, sizeof(struct core_call_create), HYP_MAY_CONTROL },
    [CORE_OP_DOMAIN_UNPAUSE] = { domain_call_order, sizeof(struct core_call_domain), HYP_MAY_CONTROL },
    [CORE_OP_DOMAIN_STOP]    = { domain_call_order, sizeof(struct core_call_domain), HYP_MAY_CONTROL },
    [CORE_OP_DOMAIN_DESTROY] = { domain_call_order, sizeof(struct core_call_domain), HYP_MAY_CONTROL },
    [CORE_OP_DOMAIN_INFO]    = { inspect_call_info, sizeof(struct core_call_domain), HYP_MAY_CONTROL },
    [CORE_OP_DOMAIN_HOLDING] = { inspect_call_holding, sizeof(struct core_call_domain), HYP_MAY_CONTROL },
    [CORE_OP_DEVICE_ASSIGN]  = { device_call_assign, sizeof(struct core_call_assign), HYP_MAY_CONTROL },
    [CORE_OP_DEVICE_RELEASE] = { device_call_release, sizeof(struct core_call_device), HYP_MAY_CONTROL },
    [CORE_OP_PARCEL]         = { toolstack_call_parcel, sizeof(struct core_call), HYP_MAY_CONTROL },
    [CORE_OP_END]            = { toolstack_call_end, sizeof(struct core_call), HYP_MAY_CONTROL },
};

static const struct {
    const char *name;
    int error;
} refusals[REFUSED_COUNT] = {
#define X(reason, name, error) { name, -(error) },
    CORE_REFUSALS(X)
#undef X
};

int core_refuse(struct core *core, const struct call *call, enum core_refusal why)
{
    struct domain *d = call->from;
    core->stats[why]++;
    d->refused++;
    if (!d->complained) {
        d->complained = true;
        core_log("refused a call of %s: %s (call %u); its later ones are only counted", domain_label(d),
                 refusals[why].name, call->in->h.op);
    }
    return refusals[why].error;
}

/* ------------------------------------------------------------------- helpers */

void core_log(const char *format, ...)
{
    char line[512] = "bulkhead-core: ";
    size_t at = strlen(line), room = sizeof(line) - at - 1;
    va_list args;
    va_start(args, format);
    vsnprintf(line + at, room, format, args);
    va_end(args);
    at = strlen(line);
    line[at++] = '\n';
    struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
    if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) && write(STDERR_FILENO, line, at) < 0)
        return; /* a log that is gone cannot be told of it */
}

const char *core_strerror(int error)
{
    const char *text = strerrordesc_np(error < 0 ? -error : error);
    return text ? text : "unknown error";
}

void core_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void core_attach(struct core_answer *answer, int fd)
{
    answer->fds[answer->reply.nfds++] = fd;
}

void core_discard(struct core *core, struct core_answer *answer)
{
    for (unsigned i = 0; i < answer->reply.nfds; i++) {
        if (answer->slow)
            helper_close(core, &answer->fds[i]);
        else
            core_close(&answer->fds[i]);
    }
    answer->reply.nfds = 0;
    answer->reply.op = CORE_OP_NONE;
}

/* --------------------------------------------------------------------- replies */

/* 0 sent; -EAGAIN: kept, the domain is clogged now; else it was hung up. */
static int send_or_clog(struct core *core, struct domain *to, const struct core_reply *reply, const int *fds)
{
    int err = rights_send(to->sock, reply, sizeof(*reply), fds, reply->nfds);
    if (err == -EAGAIN)
        to->clogged = true;
    else if (err)
        domain_hangup(core, to);
    return err;
}

void core_answer(struct core *core, struct domain *to, struct core_answer *answer)
{
    if (to->sock >= 0 && send_or_clog(core, to, &answer->reply, answer->fds) == -EAGAIN)
        to->unsent = *answer;
    else
        core_discard(core, answer);
}

/* Its socket may have room again. */
static void unclog(struct core *core, struct domain *d)
{
    d->clogged = false;
    if (d->unsent.reply.op != CORE_OP_NONE &&
        send_or_clog(core, d, &d->unsent.reply, d->unsent.fds) != -EAGAIN)
        core_discard(core, &d->unsent);
}

/* ---------------------------------------------------------------------- events */

/*
 * Events are state, not messages: bits that say what a domain has still to be
 * told.  So a domain that does not read costs nothing but its own slot.
 */
static bool send_event(struct core *core, struct domain *to, struct hyp_event ev, const int *fd)
{
    const struct core_reply event = { .u.event = { ev.kind, ev.domid, ev.device, ev.error, ev.at_ns },
                                      .nfds = fd != NULL };
    return send_or_clog(core, to, &event, fd) == 0;
}

static void tell_news(struct core *core, struct domain *to)
{
    bool toolstack = to == core->domains;
    size_t slot = domain_slot(core, to);
    if (to->stop_event) {
        if (!send_event(core, to, (struct hyp_event){ HYP_EV_STOP, to->domid, 0, 0, monotonic_ns() }, NULL))
            return;
        to->stop_event = false;
    }
    EACH(d, core->domains) {
        if (!d->ready_event || !toolstack)
            continue;
        if (!send_event(core, to, (struct hyp_event){ HYP_EV_READY, d->domid, 0, 0, d->at_ns }, NULL))
            return;
        d->ready_event = false;
    }
    EACH(d, core->domains) {
        if (d->state != DOMAIN_DEAD || !d->tell[slot])
            continue;
        if (!send_event(core, to, (struct hyp_event){ HYP_EV_DEATH, d->domid, 0,
                                                      toolstack ? d->wait_status : 0, d->at_ns }, NULL))
            return;
        d->tell[slot] = false;
    }
    struct device *dev;
    while ((dev = device_event(core, to))) {
        if (!send_event(core, to, (struct hyp_event){ HYP_EV_DEVICE, dev->owner->domid, dev->number,
                                                      dev->error, dev->at_ns },
                        !toolstack && dev->wanted ? &dev->fd : NULL))
            return;
        device_event_sent(core, dev, to);
    }
    to->news = false;
}

/* ----------------------------------------------------------------------- calls */

/* The handler's errno, or why it was not asked. */
static int dispatch(struct core *core, struct call *call, size_t bytes, int flags)
{
    uint32_t op = call->in->h.op;
    if (op >= CORE_OP_COUNT || !calls[op].handler)
        return core_refuse(core, call, REFUSED_OP);
    if (bytes != calls[op].bytes || (flags & MSG_TRUNC))
        return core_refuse(core, call, REFUSED_LEN);
    if ((flags & MSG_CTRUNC) || (call->in_fds.n > 0 && op != CORE_OP_DOMAIN_CREATE))
        return core_refuse(core, call, REFUSED_FDS);
    if ((call->from->rights & calls[op].right) != calls[op].right)
        return core_refuse(core, call, REFUSED_RIGHT);
    return calls[op].handler(core, call);
}

/* Serves one call.  false: none there, or enough for this turn. */
static bool serve_one(struct core *core, struct domain *d)
{
    union core_call_any in;
    struct call call = { .from = d, .in = &in };
    int flags = 0;
    memset(&in.h, 0, sizeof(in.h));
    unsigned nfds = d->rights & HYP_MAY_CONTROL ? HYP_FDS_MAX : 0;
    ssize_t n = rights_receive(d->sock, &in, sizeof(in), &call.in_fds, nfds, &flags);
    if (n == -EAGAIN || n == -EINTR)
        return false;
    if (n <= 0) { /* also an empty packet, which cannot be told from the end */
        rights_close(&call.in_fds);
        domain_hangup(core, d);
        return false;
    }
    d->calls++;
    call.out.reply = (struct core_reply){ .op = in.h.op, .seq = in.h.seq };
    int error = (size_t)n < sizeof(in.h) ? core_refuse(core, &call, REFUSED_LEN)
                                         : dispatch(core, &call, (size_t)n, flags);
    rights_close(&call.in_fds);
    call.out.reply.error = error;
    /* A packet without a call's number gets no reply: it would be an event. */
    if (in.h.op != CORE_OP_NONE && d->state == DOMAIN_ALIVE)
        core_answer(core, d, &call.out);
    return !call.costly;
}

static bool may_be_served(const struct domain *d)
{
    return d->state == DOMAIN_ALIVE && d->sock >= 0 && d->unpaused && !d->clogged;
}

/* -------------------------------------------------------------------- the loop */

static void watch(struct core *core, unsigned at, int fd, short events)
{
    core->poll[at] = (struct pollfd){ .fd = fd, .events = events };
}

static bool may_be_told(const struct domain *d)
{
    return d->news && d->state == DOMAIN_ALIVE && d->greeted && !d->clogged && d->sock >= 0;
}

/* Returns how much of the table is in use, and whether there is work that need
 * not wait for anything. */
static unsigned watch_all(struct core *core, bool *at_once)
{
    bool store_news = false;
    unsigned count = POLL_OPENER;
    *at_once = false;
    for (unsigned i = 0; i < CORE_DOMAINS_MAX; i++) {
        const struct domain *d = &core->domains[i];
        store_news |= d->release;
        *at_once |= may_be_told(d);
        watch(core, POLL_SOCK + i, d->sock, d->clogged ? POLLOUT : may_be_served(d) ? POLLIN : 0);
        watch(core, POLL_PROCESS + i, d->pidfd, POLLIN);
        watch(core, POLL_LAUNCH + i, d->launch_sock, POLLIN);
    }
    for (unsigned i = 0; i < CORE_DEVICES_MAX; i++) {
        const struct device *dev = &core->devices[i];
        watch(core, POLL_OPENER + i, dev->state == DEVICE_OPENING ? dev->sock : -1, POLLIN);
        count = dev->state == DEVICE_OPENING ? POLL_OPENER + i + 1 : count;
    }
    for (unsigned i = 0; i < CORE_HELPERS_MAX; i++)
        watch(core, POLL_HELPER + i, i < core->nhelpers ? core->helpers[i] : -1, POLLIN);
    watch(core, POLL_STORE, store_news ? core->store_control : -1, POLLOUT);
    watch(core, POLL_ADOPT, core->adopt, POLLIN);
    return core->nhelpers > 0 ? POLL_HELPER + core->nhelpers : count;
}

static void serve(struct core *core, struct domain *d, short revents)
{
    if (d->clogged)
        unclog(core, d);
    if (!may_be_served(d)) {
        if ((revents & (POLLHUP | POLLERR)) && d->sock >= 0)
            domain_hangup(core, d);
        return;
    }
    for (unsigned n = 0; n < CORE_BUDGET && may_be_served(d); n++)
        if (!serve_one(core, d))
            break;
}

static void handle_domain(struct core *core, unsigned slot)
{
    struct domain *d = &core->domains[slot];
    if (core->poll[POLL_SOCK + slot].revents && d->sock >= 0)
        serve(core, d, core->poll[POLL_SOCK + slot].revents);
    if (core->poll[POLL_LAUNCH + slot].revents && d->launch_sock >= 0)
        core->ops->launch_step(core, d);
    if (core->poll[POLL_PROCESS + slot].revents && d->pidfd >= 0)
        domain_reap(core, d);
}

int core_turn(struct core *core, int timeout_ms)
{
    bool at_once;
    unsigned count = watch_all(core, &at_once);
    int n = poll(core->poll, count, at_once ? 0 : core->sweep_due && timeout_ms ? SWEEP_MS : timeout_ms);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    core->turn++;
    for (unsigned i = 0; i < CORE_DOMAINS_MAX && !core->over; i++)
        handle_domain(core, (core->turn + i) % CORE_DOMAINS_MAX);
    for (unsigned i = 0; i < CORE_DEVICES_MAX; i++)
        if (core->poll[POLL_OPENER + i].revents && core->devices[i].state == DEVICE_OPENING)
            device_opened(core, &core->devices[i]);
    if (core->poll[POLL_ADOPT].revents)
        toolstack_adopt(core);
    helper_reap(core);
    do /* deaths first: who hears of one has more to do than who gets a device by it */
        for (unsigned i = 1; i <= CORE_DOMAINS_MAX; i++) /* the toolstack last */
            if (may_be_told(&core->domains[i % CORE_DOMAINS_MAX]))
                tell_news(core, &core->domains[i % CORE_DOMAINS_MAX]);
    while (device_pass_fences(core));
    core->sweep_due = domain_sweep(core, n == 0 || core->turn % SWEEP_TURNS == 0);
    return core->over;
}

/* ----------------------------------------------------------------- start and end */

int core_init(struct core *core, const struct core_config *config)
{
    core->ops = config->ops;
    core->libexec = config->libexec;
    EACH(d, core->domains)
        d->sock = d->pidfd = d->launch_sock = d->namespaces[0] = d->namespaces[1] = -1;
    EACH(dev, core->devices)
        dev->sock = dev->pidfd = dev->fd = -1;
    core->store_control = core->parcel[0] = core->parcel[1] = -1;
    int error = toolstack_init(core, config);
    if (error)
        core_log("cannot start: %s", core_strerror(error));
    return error;
}

void core_end(struct core *core)
{
    core->over = 1;
    for (struct domain *d = core->domains + CORE_DOMAINS_MAX; --d > core->domains;) {
        struct pollfd p = { .fd = d->pidfd, .events = POLLIN };
        if (d->state == DOMAIN_ALIVE && d->pidfd >= 0 && core_class(d->class_id)->capabilities) {
            core_close(&d->sock); /* it ends of that, and gives back what is the machine's */
            poll(&p, 1, END_WAIT_MS);
        }
        domain_kill(core, d);
    }
    EACH(d, core->domains) {
        struct pollfd p = { .fd = d->pidfd, .events = POLLIN };
        if (d->pidfd >= 0 && poll(&p, 1, END_WAIT_MS) >= 0)
            domain_reap(core, d);
        if (d->pidfd >= 0)
            core_log("%s does not end: process %d hangs in the kernel", domain_label(d), (int)d->pid);
    }
    EACH_OF(pidfd, core->helpers, core->nhelpers)
        core->ops->kill(*pidfd); /* not reaped: they may hang, and we are leaving */
    int *const ours[] = { &core->store_control, &core->adopt, &core->parcel[0], &core->parcel[1],
                          &core->domains[0].sock };
    EACH(fd, ours)
        core_close(*fd); /* the toolstack's comes last: all is over then */
}
