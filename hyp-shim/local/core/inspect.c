/* SPDX-License-Identifier: MIT */
/* What the toolstack may ask about a domain, for `bulkhead info`. */
#include "core.h"

#include <dirent.h>
#include <sys/syscall.h>

/* Of the living domain with the lowest domid from that one on. */
int inspect_call_info(struct core *core, struct call *call)
{
    const struct core_call_domain *in = &call->in->domain;
    struct hyp_domain_info *info = &call->out.reply.u.info;
    const struct domain *found = NULL;
    if (in->n != 0)
        return core_refuse(core, call, REFUSED_FIELD);
    EACH(d, core->domains)
        if (d->state == DOMAIN_ALIVE && d->domid >= in->domid && (!found || d->domid < found->domid))
            found = d;
    if (!found)
        return -ENOENT;
    *info = (struct hyp_domain_info){
        .domid = found->domid, .class_id = found->class_id, .pid = found->pid, .uid = core_uid(found),
        .rights = found->rights, .calls = found->calls, .refused = found->refused, .ready = found->ready };
    memcpy(info->name, found->name, sizeof(info->name));
    return 0;
}

/* ------------------------------------------------------------------- holdings */

static bool pool_holding(const struct pool *p, const struct domain *d, struct hyp_holding *out)
{
    bool owns = p->granter == d;
    const struct grantee *as = p->spare.domain == d ? &p->spare : &p->grantee;
    if (!owns && (as->domain != d || as->mapped == 0))
        return false;
    const struct domain *peer = owns ? p->grantee.domain : p->granter;
    *out = (struct hyp_holding){
        .kind = owns ? HYP_HOLDS_POOL : HYP_HOLDS_MAP, .peer = peer ? peer->domid : DOMID_INVALID,
        .id = p->first, .pages = p->pages, .rdonly = p->rdonly, .huge = p->huge };
    return true;
}

static bool evtchn_holding(const struct evtchn *ch, const struct domain *d, struct hyp_holding *out)
{
    bool owns = ch->owner == d;
    if (!ch->owner || (!owns && (ch->remote != d || ch->remote_port == 0)))
        return false;
    *out = (struct hyp_holding){ .kind = HYP_HOLDS_EVTCHN, .peer = (owns ? ch->remote : ch->owner)->domid,
                                 .id = owns ? ch->port : ch->remote_port };
    return true;
}

static bool device_holding(const struct device *dev, const struct domain *d, struct hyp_holding *out)
{
    if (dev->owner != d || (dev->state != DEVICE_OPEN && dev->state != DEVICE_ACQUIRED))
        return false;
    *out = (struct hyp_holding){ .kind = HYP_HOLDS_DEVICE, .id = dev->number, .rdonly = dev->rdonly };
    return true;
}

int inspect_call_holding(struct core *core, struct call *call)
{
    const struct core_call_domain *in = &call->in->domain;
    const struct domain *d = domain_find(core, in->domid);
    struct hyp_holding *out = &call->out.reply.u.holding;
    uint32_t n = in->n;
    if (!d)
        return core_refuse(core, call, REFUSED_DOMID);
    EACH_OF(pool, core->pools, core->pools_end)
        if (pool_holding(pool, d, out) && n-- == 0)
            return 0;
    EACH_OF(evtchn, core->evtchns, core->evtchns_end)
        if (evtchn_holding(evtchn, d, out) && n-- == 0)
            return 0;
    EACH(dev, core->devices)
        if (device_holding(dev, d, out) && n-- == 0)
            return 0;
    memset(out, 0, sizeof(*out));
    return -ENOENT;
}

/* ----------------------------------------------------------------- /proc links */

/* The name of the n-th entry that is neither "." nor "..". */
static int entry_name(int dir, uint32_t n, char name[256])
{
    _Alignas(struct dirent64) char buf[2048]; /* readdir() would need a heap */
    for (long got; (got = syscall(SYS_getdents64, dir, buf, sizeof(buf))) > 0;)
        for (long at = 0; at < got;) {
            const struct dirent64 *e = (const void *)(buf + at);
            at += e->d_reclen;
            if (e->d_name[0] == '.' || n-- > 0)
                continue;
            snprintf(name, 256, "%s", e->d_name);
            return 0;
        }
    return -ENOENT; /* also when its process just ended */
}

int inspect_call_proc(struct core *core, struct call *call)
{
    const struct core_call_proc *in = &call->in->proc;
    if (in->zero != 0 || (in->dir != HYP_PROC_FD && in->dir != HYP_PROC_NS))
        return core_refuse(core, call, REFUSED_FIELD);
    const struct domain *d = domain_find(core, in->domid);
    if (!d)
        return core_refuse(core, call, REFUSED_DOMID);
    if (d->pid == 0)
        return -ESRCH;
    char path[64], name[256], target[HYP_LINK_MAX];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)d->pid, in->dir == HYP_PROC_FD ? "fd" : "ns");
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return errno == ENOENT ? -ESRCH : -errno;
    int error = entry_name(dir, in->n, name);
    ssize_t n = error ? 0 : readlinkat(dir, name, target, sizeof(target) - 1);
    if (n < 0)
        error = -errno;
    close(dir);
    if (error)
        return error;
    target[n] = '\0';
    /* A path that is too long ends early. */
    snprintf(call->out.reply.u.link, HYP_LINK_MAX, "%.20s %.*s", name, HYP_LINK_MAX - 22, target);
    return 0;
}
