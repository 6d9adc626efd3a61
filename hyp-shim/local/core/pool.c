/* SPDX-License-Identifier: MIT */
/*
 * A grant pool is a memfd whose size is sealed.  The granter gets it when it
 * makes it, the grantee and its spare when they map it, no one else ever.
 *
 * The granter allocates the pages (grants.c), in its own time and on its own
 * account: one that does not, or takes them away again, is what hyp.h says of
 * memory faults.  Freeing many takes long and is left to a process of its own.
 *
 * Whoever keeps the descriptor of a pool that ended keeps its memory: that is
 * bounded by no limit here, only by a memory cgroup around the domain.
 */
#include "core.h"

#include <sys/mman.h>
#include <sys/stat.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u /* Linux 6.3 */
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif

#define HUGE_BYTES (UINT64_C(2) << 20)
#define FEW_PAGES  1024u       /* freed in no time                           */
#define MAPS_MAX   65536u      /* of one pool                                */
#define REF_LAST   0x7fffffffu /* stock frontends print and parse them       */

static uint64_t pool_bytes(const struct pool *p)
{
    return (uint64_t)p->pages << HYP_PAGE_SHIFT;
}

/* --------------------------------------------------------------------- memory */

/* Sets the pool's empty memory up, in huge pages if it may and they fit. */
static int memory_open(struct pool *p, bool huge)
{
    static const unsigned kinds[] = { MFD_HUGETLB | MFD_HUGE_2MB | MFD_NOEXEC_SEAL,
                                      MFD_HUGETLB | MFD_HUGE_2MB, MFD_NOEXEC_SEAL, 0 };
    unsigned kind = huge && pool_bytes(p) % HUGE_BYTES == 0 ? 0 : 2;
    while ((p->fd = memfd_create("bulkhead-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING | kinds[kind])) < 0)
        if (++kind == sizeof(kinds) / sizeof(kinds[0]))
            return -errno;
    p->huge = kind < 2;
    if (fchmod(p->fd, 0600) < 0 || ftruncate(p->fd, (off_t)pool_bytes(p)) < 0 ||
        fcntl(p->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    return 0;
}

/* ------------------------------------------------------------------- the table */

static struct pool *pool_new(struct core *core)
{
    EACH_OF(p, core->pools, core->pools_end)
        if (!p->granter)
            return p;
    return core->pools_end < CORE_POOLS_MAX ? &core->pools[core->pools_end++] : NULL;
}

static void pool_free(struct core *core, struct pool *p)
{
    if (p->pages > FEW_PAGES)
        helper_close(core, &p->fd); /* we may be the last to have it */
    else
        core_close(&p->fd);
    p->granter->pools--;
    p->granter->grant_pages -= p->pages;
    memset(p, 0, sizeof(*p));
    while (core->pools_end > 0 && !core->pools[core->pools_end - 1].granter)
        core->pools_end--;
}

/* The pool of that granter which has that reference. */
static struct pool *pool_find(struct core *core, uint32_t granter, uint32_t ref)
{
    EACH_OF(p, core->pools, core->pools_end)
        if (p->granter && p->granter->domid == granter && ref - p->first < p->pages)
            return p;
    return NULL;
}

/* The caller's own, named by its first reference. */
static struct pool *pool_own(struct core *core, const struct call *call)
{
    struct pool *p = pool_find(core, call->from->domid, call->in->pool.ref);
    return p && p->first == call->in->pool.ref ? p : NULL;
}

/* What that domain is to the pool, or NULL: nothing. */
static struct grantee *grantee_of(struct pool *p, const struct domain *d)
{
    return p && p->grantee.domain == d ? &p->grantee : p && p->spare.domain == d ? &p->spare : NULL;
}

/*
 * A run of references that no pool of d has.  They count up, so that those of
 * an ended pool come back only after all others.  Ends: each time round passes
 * one pool, and REF_LAST is more than all pools of a domain can have.
 */
static uint32_t refs_take(const struct core *core, struct domain *d, uint32_t pages)
{
    uint32_t first = d->next_ref;
    for (unsigned i = 0; i < core->pools_end; i++) {
        if (first > REF_LAST - pages)
            first = GNTTAB_NR_RESERVED_ENTRIES;
        const struct pool *p = &core->pools[i];
        if (p->granter == d && first < p->first + p->pages && p->first < first + pages) {
            first = p->first + p->pages;
            i = (unsigned)-1; /* look at all of them again */
        }
    }
    d->next_ref = first + pages;
    return first;
}

/* ----------------------------------------------------------------------- calls */

static void describe(const struct pool *p, struct core_answer *out)
{
    out->reply.u.pool.first = p->first;
    out->reply.u.pool.rdonly = p->rdonly;
    out->reply.u.pool.pages = p->pages;
}

/* A descriptor of the memory; to read only, it is another open of it. */
static int give(struct core_answer *out, const struct pool *p, bool rdonly)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", p->fd);
    int fd = rdonly ? open(path, O_RDONLY | O_CLOEXEC) : fcntl(p->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    core_attach(out, fd);
    return 0;
}

void pool_domain_died(struct core *core, struct domain *d)
{
    static const struct grantee nobody;
    EACH_OF(p, core->pools, core->pools_end) {
        if (p->grantee.domain == d) { /* its maps went with it */
            p->grantee = p->spare;
            p->spare = nobody;
        }
        if (p->spare.domain == d)
            p->spare = nobody;
        if (p->granter == d)
            pool_free(core, p);
    }
}

int pool_call_create(struct core *core, struct call *call)
{
    const struct core_call_pool_create *in = &call->in->pool_create;
    struct domain *d = call->from, *grantee = domain_find(core, in->grantee);
    if (in->pages == 0 || (in->flags & ~(HYP_POOL_RDONLY | CORE_POOL_SMALL)))
        return core_refuse(core, call, REFUSED_FIELD);
    if (!grantee || grantee == d)
        return core_refuse(core, call, REFUSED_DOMID);
    if (d->pools >= CORE_POOLS_EACH || in->pages > CORE_POOL_PAGES_MAX ||
        d->grant_pages > d->grant_limit || in->pages > d->grant_limit - d->grant_pages)
        return core_refuse(core, call, REFUSED_QUOTA);
    struct pool *p = pool_new(core);
    if (!p)
        return core_refuse(core, call, REFUSED_FULL);
    uint32_t pages = (uint32_t)in->pages, first = refs_take(core, d, pages);
    *p = (struct pool){ .granter = d, .grantee.domain = grantee, .fd = -1, .first = first, .pages = pages,
                        .rdonly = in->flags & HYP_POOL_RDONLY };
    d->pools++;
    d->grant_pages += pages;
    int error = memory_open(p, !(in->flags & CORE_POOL_SMALL));
    error = error ? error : give(&call->out, p, false);
    if (error) {
        pool_free(core, p);
        return error;
    }
    domain_relate(core, d, grantee);
    describe(p, &call->out);
    return 0;
}

/* To another in the place of the dead one (regrant), or to a spare as well (share). */
int pool_call_grant(struct core *core, struct call *call)
{
    struct pool *p = pool_own(core, call);
    if (!p)
        return core_refuse(core, call, REFUSED_REF);
    bool share = call->in->h.op == CORE_OP_POOL_SHARE;
    struct domain *to = domain_find(core, call->in->pool.peer);
    if (!to || to == call->from || (share && to == p->grantee.domain))
        return core_refuse(core, call, REFUSED_DOMID);
    if (share && !p->grantee.domain)
        return -ESRCH; /* it died just now: no lie */
    if (share ? p->spare.domain : p->grantee.domain)
        return -EBUSY;
    if (!share)
        p->first = refs_take(core, call->from, p->pages);
    *(share ? &p->spare : &p->grantee) = (struct grantee){ .domain = to };
    domain_relate(core, call->from, to);
    describe(p, &call->out);
    return 0;
}

int pool_call_end(struct core *core, struct call *call)
{
    struct pool *p = pool_own(core, call);
    if (call->in->pool.peer != 0)
        return core_refuse(core, call, REFUSED_FIELD);
    if (!p)
        return core_refuse(core, call, REFUSED_REF);
    if (p->grantee.mapped > 0 || p->spare.mapped > 0)
        return -EBUSY;
    pool_free(core, p);
    call->costly = true;
    return 0;
}

int pool_call_map(struct core *core, struct call *call)
{
    const struct core_call_pool *in = &call->in->pool;
    struct pool *p = pool_find(core, in->peer, in->ref);
    struct grantee *to = grantee_of(p, call->from);
    if (!to)
        return core_refuse(core, call, REFUSED_REF);
    if (to->mapped >= MAPS_MAX)
        return core_refuse(core, call, REFUSED_QUOTA);
    int error = give(&call->out, p, p->rdonly);
    if (error)
        return error;
    describe(p, &call->out);
    to->mapped++;
    return 0;
}

int pool_call_unmap(struct core *core, struct call *call)
{
    const struct core_call_pool *in = &call->in->pool;
    struct pool *p = pool_find(core, in->peer, in->ref);
    if (!p && !domain_find(core, in->peer))
        return -ESRCH; /* the granter died first, and its pools with it: no lie */
    struct grantee *to = grantee_of(p, call->from);
    if (!to || to->mapped == 0)
        return core_refuse(core, call, REFUSED_REF);
    to->mapped--;
    return 0;
}
