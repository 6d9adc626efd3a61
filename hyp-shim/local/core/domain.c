/* SPDX-License-Identifier: MIT */
#include "core.h"

#include <sys/socket.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

#define STORE_FDS 3 /* log, listening socket, journal */

/* -------------------------------------------------------------------- the table */

unsigned domain_slot(const struct core *core, const struct domain *d)
{
    return (unsigned)(d - core->domains);
}

struct domain *domain_find(struct core *core, uint32_t domid)
{
    EACH(d, core->domains)
        if (d->state == DOMAIN_ALIVE && d->domid == domid)
            return d;
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
    EACH(d, core->domains) {
        if (d->state != DOMAIN_FREE)
            continue;
        *d = (struct domain){ .state = DOMAIN_ALIVE, .domid = domid, .class_id = class_id,
                              .sock = -1, .pidfd = -1, .launch_sock = -1, .namespaces = { -1, -1 },
                              .next_ref = GNTTAB_NR_RESERVED_ENTRIES, .next_port = 1 };
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
        EACH(d, core->domains)
            used |= d->state != DOMAIN_FREE && d->domid == core->last_domid;
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

/* fd (-1: none): its end of that domain's connection; stays ours.  -EAGAIN: there
 * is no store, or it is slow. */
static int tell_store(const struct core *core, enum store_control_op op, domid_t domid, int fd)
{
    const struct store_control packet = { op, domid };
    int error = core->store_control < 0 ||
                rights_send(core->store_control, &packet, sizeof(packet), &fd, fd >= 0);
    return error ? -EAGAIN : 0;
}

/* Its end of a new connection to the store, or a negative errno. */
static int store_connection(const struct core *core, struct domain *d)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    int error = tell_store(core, STORE_CONTROL_INTRODUCE, d->domid, pair[0]);
    close(pair[0]);
    d->store_connects += !error;
    if (error)
        close(pair[1]);
    return error ? error : pair[1];
}

/* A new store's socket, with the first word in it: who lives.  Whoever died and
 * was not released, is not there. */
static int store_control(struct core *core, int pair[2])
{
    struct store_living living = { .op = STORE_CONTROL_LIVING };
    EACH(d, core->domains) {
        if ((d->state == DOMAIN_ALIVE || d->state == DOMAIN_DYING) && d->class_id > HYP_CLASS_STORE)
            living.domid[living.n++] = d->domid;
        d->store_connects = 0;
        d->release = false;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    return rights_send(pair[0], &living, sizeof(living), NULL, 0);
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
        toolstack_left(core);
    else
        domain_kill(core, d);
}

void domain_died(struct core *core, struct domain *d)
{
    unsigned slot = domain_slot(core, d);
    d->at_ns = monotonic_ns();
    core_close(&d->sock);
    core_close(&d->pidfd);
    core_close(&d->launch_sock);
    core_discard(core, &d->unsent);
    pool_domain_died(core, d);
    evtchn_domain_died(core, d);
    device_domain_died(core, d, false);
    d->state = DOMAIN_DEAD;
    d->ready_event = d->stop_event = d->news = d->clogged = false;
    d->release = d->class_id != HYP_CLASS_STORE;
    if (d->class_id == HYP_CLASS_STORE)
        core_close(&core->store_control);
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

bool domain_sweep(struct core *core, bool quiet)
{
    bool due = false;
    EACH(d, core->domains) {
        if (d->state != DOMAIN_DEAD)
            continue;
        if (d->release)
            d->release = core->store_control >= 0 && tell_store(core, STORE_CONTROL_RELEASE, d->domid, -1);
        EACH_OF(other, core->domains + 1, CORE_DOMAINS_MAX - 1)
            if (d->tell[domain_slot(core, other)] && other->clogged) {
                core_log("ending %s: it does not read what it is sent", domain_label(other));
                domain_kill(core, other);
            }
        if (d->release || memchr(d->tell, true, sizeof(d->tell)) || (due |= !quiet))
            continue;
        EACH(other, core->domains)
            other->related[domain_slot(core, d)] = false;
        EACH(ns, d->namespaces)
            helper_close(core, ns);
        device_domain_died(core, d, true);
        d->state = DOMAIN_FREE;
    }
    return due;
}

/* ------------------------------------------------------------------------ calls */

int domain_call_hello(struct core *core, struct call *call)
{
    (void)core;
    call->from->greeted = call->from->news = true;
    call->out.reply.u.hello.version = CORE_PROTO_VERSION;
    call->out.reply.u.hello.domid = call->from->domid;
    return 0;
}

int domain_call_ready(struct core *core, struct call *call)
{
    struct domain *d = call->from;
    if (!d->ready && d != core->domains) {
        d->ready = d->ready_event = true;
        d->at_ns = monotonic_ns();
        core->domains[0].news = true;
    }
    return 0;
}

int domain_call_store(struct core *core, struct call *call)
{
    struct domain *d = call->from;
    if (d->store_connects >= CORE_STORE_CONNECTS && d != core->domains)
        return core_refuse(core, call, REFUSED_QUOTA);
    call->costly = true;
    int fd = store_connection(core, d);
    if (fd < 0)
        return fd;
    core_attach(&call->out, fd);
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

/* Unpause, stop, destroy: any domain but the toolstack. */
int domain_call_order(struct core *core, struct call *call)
{
    const struct core_call_domain *in = &call->in->domain;
    if (in->n != 0)
        return core_refuse(core, call, REFUSED_FIELD);
    struct domain *d = domain_find(core, in->domid);
    if (!d || d == core->domains)
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
    const struct core_class *cls = core_class(cfg->class_id);
    if (!cls || in->zero != 0 || in->nfds != call->in_fds.n || cfg->name[0] == '\0' ||
        !memchr(cfg->name, 0, sizeof(cfg->name)))
        return false;
    return cfg->class_id == HYP_CLASS_STORE ? in->nfds == STORE_FDS : cls->program || in->nfds == 0;
}

/* What a new domain's connections are called: ours, its own, its own to the store. */
enum { OURS, THEIRS, STORE, ENDS };

static int connections(const struct core *core, struct domain *d, int ends[ENDS])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, &ends[OURS]) < 0)
        return -errno;
    /* No descriptors can come in from it: closing a hostile one might take for
     * ever.  Before Linux 6.16: README.md says what is left then. */
    int off = 0;
    if (setsockopt(ends[OURS], SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off)) < 0 && errno != ENOPROTOOPT)
        return -errno;
    ends[STORE] = store_connection(core, d);
    return ends[STORE] < 0 ? ends[STORE] : 0;
}

/* The program is the one that is there now: who puts another in its place has
 * it run from the next domain on. */
static int start_process(struct core *core, struct domain *d, const struct call *call, const int ends[ENDS])
{
    const struct hyp_domain_config *cfg = &call->in->create.cfg;
    const struct core_class *cls = core_class(cfg->class_id);
    const struct rights *in = &call->in_fds;
    unsigned first = cfg->class_id == HYP_CLASS_STORE ? STORE_FDS - 1 : 0; /* the others have their places */
    char path[HYP_PATH_MAX + HYP_NAME_MAX];
    snprintf(path, sizeof(path), "%s/%s", core->libexec, cls->program);
    const struct launch how = {
        .program_fd = open(path, O_PATH | O_CLOEXEC), .log_fd = in->n > 0 ? in->fd[0] : STDERR_FILENO,
        .core_fd = ends[THEIRS], .store_fd = first ? in->fd[1] : ends[STORE],
        .fds = in->fd + first, .nfds = in->n - first,
        .memory = cfg->memory_bytes ? cfg->memory_bytes : cls->memory, .cpus = cfg->cpus,
    };
    int error = how.program_fd < 0 ? -errno : core->ops->launch(core, d, &how);
    if (how.program_fd < 0)
        core_log("cannot open %s: %s; is the installation complete?", path, core_strerror(error));
    else
        close(how.program_fd);
    return error;
}

static int start(struct core *core, struct domain *d, struct call *call)
{
    bool is_store = d->class_id == HYP_CLASS_STORE;
    int ends[ENDS] = { -1, -1, -1 };
    int error = is_store ? store_control(core, ends) : connections(core, d, ends);
    if (error == 0 && core_class(d->class_id)->program) {
        error = start_process(core, d, call, ends);
    } else if (error == 0) {
        core_attach(&call->out, ends[THEIRS]);
        core_attach(&call->out, ends[STORE]);
        ends[THEIRS] = ends[STORE] = -1;
    }
    if (error == 0) {
        *(is_store ? &core->store_control : &d->sock) = ends[OURS];
        ends[OURS] = -1;
    }
    EACH(fd, ends)
        core_close(fd);
    return error;
}

int domain_call_create(struct core *core, struct call *call)
{
    const struct hyp_domain_config *cfg = &call->in->create.cfg;
    if (!config_good(&call->in->create, call))
        return core_refuse(core, call, REFUSED_FIELD);
    const struct core_class *cls = core_class(cfg->class_id);
    bool is_store = cfg->class_id == HYP_CLASS_STORE;
    if (is_store && core->store_control >= 0)
        return -EEXIST;
    domid_t domid = is_store ? LOCAL_DOMID_STORE : domid_next(core);
    struct domain *d = domain_new(core, domid, cfg->class_id, cfg->name);
    if (!d)
        return core_refuse(core, call, REFUSED_FULL);
    call->costly = true;
    d->rights = cls->rights;
    d->grant_limit = cfg->grant_pages ? cfg->grant_pages : cls->grant_pages;
    call->out.reply.u.domain.domid = d->domid;
    int error = start(core, d, call);
    if (error) {
        core_log("cannot start %s: %s", domain_label(d), core_strerror(error));
        d->state = DOMAIN_DEAD; /* told to no one; swept when the store knows */
        d->release = d->store_connects > 0;
    }
    return error;
}
