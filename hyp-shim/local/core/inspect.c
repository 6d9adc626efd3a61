/* SPDX-License-Identifier: MIT */
/* What the toolstack may ask about a domain, for `bulkhead info`. */
#include "core.h"

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
