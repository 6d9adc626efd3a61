/* SPDX-License-Identifier: MIT */
#include "core.h"

#include <sys/socket.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

/* -------------------------------------------------------------------- the table */

unsigned domain_slot(const struct core *core, const struct domain *d)
{
    return (unsigned)(d - core->domains);
}

struct domain *domain_find(struct core *core, uint32_t domid)
{
    for (unsigned i = 0; i < CORE_DOMAINS_MAX; i++) {
        struct domain *d = &core->domains[i];
        if (d->state == DOMAIN_ALIVE && d->domid == domid)
            return d;
    }
    return NULL;
}

const char *domain_label(const struct domain *d)
{
    static char label[HYP_NAME_MAX + 32];
    snprintf(label, sizeof(label), "\"%s\" (domid %u)", d->name, d->domid);
    return label;
}

struct domain *domain_new(struct core *core, domid_t domid, uint32_t class_id, const char *name)
{
    for (unsigned i = 0; i < CORE_DOMAINS_MAX; i++) {
        struct domain *d = &core->domains[i];
        if (d->state != DOMAIN_FREE)
            continue;
        memset(d, 0, sizeof(*d));
        d->state = DOMAIN_ALIVE;
        d->domid = domid;
        d->class_id = class_id;
        d->sock = d->pidfd = d->launch_sock = -1;
        d->next_ref = GNTTAB_NR_RESERVED_ENTRIES;
        d->next_port = 1;
        for (size_t c = 0; c < sizeof(d->name) - 1 && name[c]; c++)
            d->name[c] = name[c] > 0 && name[c] < ' ' ? '?' : name[c]; /* it goes into log lines */
        return d;
    }
    return NULL;
}

/* Round robin, so that a domid is long forgotten before it comes again. */
static domid_t domid_next(struct core *core)
{
    for (;;) {
        core->last_domid = core->last_domid >= LOCAL_DOMID_LAST ? 1 : (domid_t)(core->last_domid + 1);
        bool used = false;
        for (unsigned i = 0; i < CORE_DOMAINS_MAX; i++)
            used |= core->domains[i].state != DOMAIN_FREE && core->domains[i].domid == core->last_domid;
        if (!used)
            return core->last_domid;
    }
}

void domain_relate(struct core *core, struct domain *a, struct domain *b)
{
    a->related[domain_slot(core, b)] = true;
    b->related[domain_slot(core, a)] = true;
}

/* -------------------------------------------------------------------- the store */

int domain_tell_store(struct core *core, enum store_control_op op, domid_t domid, int fd)
{
    const struct store_control packet = { op, domid };
    return rights_send(core->store_control, &packet, sizeof(packet), &fd, fd >= 0);
}

/* ------------------------------------------------------------------------ death */

void domain_kill(struct core *core, struct domain *d)
{
    if (d->state != DOMAIN_ALIVE)
        return;
    d->state = DOMAIN_DYING;
    if (d->pidfd >= 0)
        core->ops->kill(d->pidfd); /* first, or it might end by itself of the hang-up */
    core_close(&d->sock);
    if (d->pidfd < 0)
        domain_died(core, d); /* no process: its connection was its life */
}

void domain_hangup(struct core *core, struct domain *d)
{
    if (d == core->domains)
        core->over = core->over ? core->over : 1;
    else
        domain_kill(core, d);
}

void domain_died(struct core *core, struct domain *d)
{
    unsigned slot = domain_slot(core, d);
    core_close(&d->sock);
    core_close(&d->pidfd);
    core_close(&d->launch_sock);
    core_discard(core, &d->unsent);
    pool_domain_died(core, d);
    evtchn_domain_died(core, d);
    device_domain_died(core, d);
    d->state = DOMAIN_DEAD;
    d->ready_event = d->stop_event = d->news = d->clogged = false;
    d->release = d->class_id != HYP_CLASS_STORE;
    if (d->class_id == HYP_CLASS_STORE && !core->over) {
        core_log("the store ended (status %d); nothing can go on without it", d->wait_status);
        core->over = -EPIPE;
    }
    for (unsigned i = 0; i < CORE_DOMAINS_MAX; i++) {
        struct domain *other = &core->domains[i];
        other->tell[slot] = false;
        /* One that never greeted knows of no one. */
        d->tell[i] = other->state == DOMAIN_ALIVE && (i == 0 || (d->related[i] && other->greeted));
        other->news |= d->tell[i];
    }
}

void domain_reap(struct core *core, struct domain *d)
{
    if (core->ops->reap(d->pidfd, &d->wait_status) == 1) {
        if (d->launch_sock >= 0) /* its last words come first */
            core->ops->launch_step(core, d);
        domain_died(core, d);
    }
}

void domain_sweep(struct core *core)
{
    for (unsigned i = 1; i < CORE_DOMAINS_MAX; i++) {
        struct domain *d = &core->domains[i];
        if (d->state != DOMAIN_DEAD)
            continue;
        if (d->release)
            d->release = domain_tell_store(core, STORE_CONTROL_RELEASE, d->domid, -1) == -EAGAIN;
        for (unsigned j = 1; j < CORE_DOMAINS_MAX; j++)
            if (d->tell[j] && core->domains[j].clogged) {
                core_log("ending %s: it does not read what it is sent", domain_label(&core->domains[j]));
                domain_kill(core, &core->domains[j]);
            }
        if (d->release || memchr(d->tell, true, sizeof(d->tell)))
            continue;
        for (unsigned j = 0; j < CORE_DOMAINS_MAX; j++)
            core->domains[j].related[i] = false;
        d->state = DOMAIN_FREE;
    }
}

/* ------------------------------------------------------------------------ calls */

int domain_call_hello(struct core *core, struct call *call)
{
    (void)core;
    call->from->greeted = true;
    call->from->news = true;
    call->out.reply.u.hello.version = CORE_PROTO_VERSION;
    call->out.reply.u.hello.domid = call->from->domid;
    return 0;
}

int domain_call_ready(struct core *core, struct call *call)
{
    struct domain *d = call->from;
    if (!d->ready && d != core->domains) {
        d->ready = d->ready_event = true;
        core->domains[0].news = true;
    }
    return 0;
}

int domain_call_restrict(struct core *core, struct call *call)
{
    const struct core_call_restrict *in = &call->in->restrict_to;
    const uint32_t known = HYP_MAY_GRANT | HYP_MAY_MAP | HYP_MAY_EVTCHN | HYP_MAY_DEVICE | HYP_MAY_CONTROL;
    if (in->zero != 0 || (in->keep & ~known))
        return core_refuse(core, call, REFUSED_FIELD);
    call->from->rights &= in->keep;
    return 0;
}

/* Unpause, stop, destroy: any domain but the toolstack and the store. */
int domain_call_order(struct core *core, struct call *call)
{
    const struct core_call_domain *in = &call->in->domain;
    if (in->n != 0)
        return core_refuse(core, call, REFUSED_FIELD);
    struct domain *d = domain_find(core, in->domid);
    if (!d || d == core->domains || d->class_id == HYP_CLASS_STORE)
        return core_refuse(core, call, REFUSED_DOMID);
    if (in->h.op == CORE_OP_DOMAIN_UNPAUSE)
        d->unpaused = true;
    else if (in->h.op == CORE_OP_DOMAIN_STOP)
        d->stop_event = d->news = true;
    else
        domain_kill(core, d);
    return 0;
}

/* ----------------------------------------------------------------------- create */

static bool config_good(const struct core_call_create *in, const struct call *call)
{
    const struct hyp_domain_config *cfg = &in->cfg;
    return in->zero == 0 && in->nfds == call->in_fds.n && core_class(cfg->class_id) &&
           cfg->class_id != HYP_CLASS_STORE && cfg->name[0] != '\0' &&
           memchr(cfg->name, 0, sizeof(cfg->name)) != NULL &&
           (core_class(cfg->class_id)->program || in->nfds == 0);
}

/* The two connections of a domain: ours or the store's end, then its own. */
enum { CORE_OURS, CORE_THEIRS, STORE_OURS, STORE_THEIRS, ENDS };

static int connections_open(int ends[ENDS])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, &ends[CORE_OURS]) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, &ends[STORE_OURS]) < 0)
        return -errno;
    /* No descriptors can come in from it: closing a hostile one might take for
     * ever.  Before Linux 6.16: README.md says what is left then. */
    int off = 0;
    if (setsockopt(ends[CORE_OURS], SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off)) < 0 && errno != ENOPROTOOPT)
        return -errno;
    return 0;
}

static int start(struct core *core, struct domain *d, struct call *call, int ends[ENDS])
{
    const struct hyp_domain_config *cfg = &call->in->create.cfg;
    const struct core_class *cls = core_class(cfg->class_id);
    if (!cls->program) {
        core_attach(&call->out, ends[CORE_THEIRS]);
        core_attach(&call->out, ends[STORE_THEIRS]);
        ends[CORE_THEIRS] = ends[STORE_THEIRS] = -1;
        return 0;
    }
    const struct launch how = {
        .core_fd = ends[CORE_THEIRS], .store_fd = ends[STORE_THEIRS],
        .fds = call->in_fds.fd, .nfds = call->in_fds.n,
        .memory = cfg->memory_bytes ? cfg->memory_bytes : cls->memory, .cpus = cfg->cpus,
    };
    int error = core_program(core, cfg->class_id, true);
    return error ? error : core->ops->launch(core, d, &how);
}

int domain_call_create(struct core *core, struct call *call)
{
    const struct hyp_domain_config *cfg = &call->in->create.cfg;
    if (!config_good(&call->in->create, call))
        return core_refuse(core, call, REFUSED_FIELD);
    struct domain *d = domain_new(core, domid_next(core), cfg->class_id, cfg->name);
    if (!d)
        return core_refuse(core, call, REFUSED_FULL);
    int ends[ENDS] = { -1, -1, -1, -1 };
    int error = connections_open(ends);
    if (error == 0)
        error = domain_tell_store(core, STORE_CONTROL_INTRODUCE, d->domid, ends[STORE_OURS]);
    d->release = error == 0;
    if (error == 0)
        error = start(core, d, call, ends);
    if (error == 0) {
        d->sock = ends[CORE_OURS];
        ends[CORE_OURS] = -1;
        d->release = false;
        d->rights = core_class(cfg->class_id)->rights;
        d->grant_limit = cfg->grant_pages ? cfg->grant_pages : core_class(cfg->class_id)->grant_pages;
        call->out.reply.u.domain.domid = d->domid;
    } else {
        core_log("cannot start %s: %s", domain_label(d), core_strerror(error));
        d->state = DOMAIN_DEAD; /* told to no one; swept when the store knows */
    }
    for (unsigned i = 0; i < ENDS; i++)
        core_close(&ends[i]);
    call->costly = true;
    return error;
}
