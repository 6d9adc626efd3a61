/* SPDX-License-Identifier: MIT */
/*
 * A grant pool is a memfd whose size is sealed.  The granter gets it when it
 * makes it, the grantee when it maps it, no one else ever.
 *
 * All pages are allocated when the pool is made, so that no one meets a fault
 * that cannot be served.  That takes long for a large pool: it is done in
 * slices, one in each turn, while the domain that waits for it makes no other
 * call.  Freeing takes long too and is left to a process of its own.
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

#define HUGE_BYTES  (UINT64_C(2) << 20)
#define SLICE_BYTES (UINT64_C(4) << 20)
#define MAPS_MAX    65536u      /* of one pool                                */
#define REF_LAST    0x7fffffffu /* stock frontends print and parse them       */

static uint64_t pool_bytes(const struct pool *p)
{
    return (uint64_t)p->pages << HYP_PAGE_SHIFT;
}

/* --------------------------------------------------------------------- memory */

/* Sets the pool's empty memory up, in huge pages if it may and can. */
static int memory_open(struct pool *p, bool huge)
{
    static const unsigned kinds[] = { MFD_HUGETLB | MFD_HUGE_2MB | MFD_NOEXEC_SEAL,
                                      MFD_HUGETLB | MFD_HUGE_2MB, MFD_NOEXEC_SEAL, 0 };
    unsigned kind = huge && pool_bytes(p) % HUGE_BYTES == 0 ? 0 : 2;
    while ((p->fd = memfd_create("bulkhead-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING | kinds[kind])) < 0)
        if (++kind == sizeof(kinds) / sizeof(kinds[0]))
            return -errno;
    p->huge = kind < 2;
    p->done = 0;
    if (fchmod(p->fd, 0600) < 0 || ftruncate(p->fd, (off_t)pool_bytes(p)) < 0 ||
        fcntl(p->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    return 0;
}

/* Allocates one slice: 1 all done, 0 more to do, or a negative errno. */
static int memory_slice(struct pool *p)
{
    uint64_t left = pool_bytes(p) - p->done;
    uint64_t bytes = left < SLICE_BYTES ? left : SLICE_BYTES;
    if (fallocate(p->fd, 0, (off_t)p->done, (off_t)bytes) < 0)
        return errno == EINTR ? 0 : -errno;
    p->done += bytes;
    return p->done == pool_bytes(p);
}

/* ------------------------------------------------------------------- the table */

static struct pool *pool_new(struct core *core)
{
    for (unsigned i = 0; i < CORE_POOLS_MAX; i++) {
        if (core->pools[i].state != POOL_FREE)
            continue;
        if (i >= core->pools_end)
            core->pools_end = i + 1;
        return &core->pools[i];
    }
    return NULL;
}

static void pool_free(struct core *core, struct pool *p)
{
    core->filling -= p->state == POOL_FILLING;
    if (p->done > SLICE_BYTES)
        helper_close(core, &p->fd); /* we may be the last to have it: freeing takes long */
    else
        core_close(&p->fd);
    p->granter->pools--;
    p->granter->grant_pages -= p->pages;
    memset(p, 0, sizeof(*p));
    while (core->pools_end > 0 && core->pools[core->pools_end - 1].state == POOL_FREE)
        core->pools_end--;
}

/* The live pool of that granter which has that reference. */
static struct pool *pool_find(struct core *core, uint32_t granter, uint32_t ref)
{
    for (unsigned i = 0; i < core->pools_end; i++) {
        struct pool *p = &core->pools[i];
        if (p->state == POOL_LIVE && p->granter->domid == granter && ref >= p->first &&
            ref - p->first < p->pages)
            return p;
    }
    return NULL;
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
        bool clash = p->granter == d && p->pages > 0 && first < p->first + p->pages &&
                     p->first < first + pages;
        if (clash) {
            first = p->first + p->pages;
            i = (unsigned)-1; /* look at all of them again */
        }
    }
    d->next_ref = first + pages;
    return first;
}

/* --------------------------------------------------------------------- filling */

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

/* One slice.  At the end of it all, or when it failed, the granter gets its answer. */
static void fill(struct core *core, struct pool *p)
{
    struct domain *d = p->granter;
    struct core_answer out = { .reply = { .op = CORE_OP_POOL_CREATE, .seq = p->seq } };
    int error = memory_slice(p);
    if (error < 0 && p->huge) { /* not so many huge pages: start again without */
        core_close(&p->fd);
        error = memory_open(p, false);
    }
    if (error == 0)
        return;
    d->filling = NULL;
    if (error > 0)
        error = give(&out, p, false);
    if (error == 0) {
        core->filling--;
        p->state = POOL_LIVE;
        if (p->grantee) /* it may have died meanwhile; the pool can be granted anew */
            domain_relate(core, d, p->grantee);
        describe(p, &out);
    } else {
        pool_free(core, p);
    }
    out.reply.error = error == -ENOSPC ? -ENOMEM : error;
    core_answer(core, d, &out);
}

void pool_fill_more(struct core *core)
{
    for (unsigned n = 0; core->filling > 0 && n < core->pools_end; n++) {
        struct pool *p = &core->pools[(core->turn + n) % core->pools_end];
        if (p->state == POOL_FILLING) {
            fill(core, p);
            return;
        }
    }
}

void pool_domain_died(struct core *core, struct domain *d)
{
    for (unsigned i = 0; i < core->pools_end; i++) {
        struct pool *p = &core->pools[i];
        if (p->state != POOL_FREE && p->grantee == d) { /* its maps went with it */
            p->grantee = NULL;
            p->mapped = 0;
        }
        if (p->state != POOL_FREE && p->granter == d)
            pool_free(core, p);
    }
    d->filling = NULL;
}

/* ----------------------------------------------------------------------- calls */

int pool_call_create(struct core *core, struct call *call)
{
    const struct core_call_pool_create *in = &call->in->pool_create;
    struct domain *d = call->from, *grantee = domain_find(core, in->grantee);
    if (in->pages == 0 || (in->flags & ~HYP_POOL_RDONLY))
        return core_refuse(core, call, REFUSED_FIELD);
    if (!grantee || grantee == d)
        return core_refuse(core, call, REFUSED_DOMID);
    if (d->pools >= CORE_POOLS_EACH || in->pages > CORE_POOL_PAGES_MAX ||
        d->grant_pages > d->grant_limit || in->pages > d->grant_limit - d->grant_pages)
        return core_refuse(core, call, REFUSED_QUOTA);
    struct pool *p = pool_new(core);
    if (!p)
        return core_refuse(core, call, REFUSED_FULL);
    uint32_t pages = (uint32_t)in->pages;
    *p = (struct pool){ .state = POOL_FILLING, .granter = d, .grantee = grantee, .fd = -1,
                        .rdonly = in->flags & HYP_POOL_RDONLY, .seq = in->h.seq };
    p->first = refs_take(core, d, pages);
    p->pages = pages;
    d->pools++;
    d->grant_pages += pages;
    core->filling++;
    int error = memory_open(p, true);
    if (error) {
        pool_free(core, p);
        return error;
    }
    d->filling = p;
    return CALL_LATER;
}

int pool_call_regrant(struct core *core, struct call *call)
{
    const struct core_call_pool *in = &call->in->pool;
    struct pool *p = pool_find(core, call->from->domid, in->ref);
    if (!p || p->first != in->ref)
        return core_refuse(core, call, REFUSED_REF);
    struct domain *grantee = domain_find(core, in->peer);
    if (!grantee || grantee == call->from)
        return core_refuse(core, call, REFUSED_DOMID);
    if (p->grantee)
        return -EBUSY;
    p->first = refs_take(core, call->from, p->pages);
    p->grantee = grantee;
    domain_relate(core, call->from, grantee);
    describe(p, &call->out);
    return 0;
}

int pool_call_end(struct core *core, struct call *call)
{
    const struct core_call_pool *in = &call->in->pool;
    struct pool *p = pool_find(core, call->from->domid, in->ref);
    if (in->peer != 0)
        return core_refuse(core, call, REFUSED_FIELD);
    if (!p || p->first != in->ref)
        return core_refuse(core, call, REFUSED_REF);
    if (p->mapped > 0)
        return -EBUSY;
    pool_free(core, p);
    call->costly = true;
    return 0;
}

int pool_call_map(struct core *core, struct call *call)
{
    const struct core_call_pool *in = &call->in->pool;
    struct pool *p = pool_find(core, in->peer, in->ref);
    if (!p || p->grantee != call->from)
        return core_refuse(core, call, REFUSED_REF);
    if (p->mapped >= MAPS_MAX)
        return core_refuse(core, call, REFUSED_QUOTA);
    int error = give(&call->out, p, p->rdonly);
    if (error)
        return error;
    describe(p, &call->out);
    p->mapped++;
    return 0;
}

int pool_call_unmap(struct core *core, struct call *call)
{
    const struct core_call_pool *in = &call->in->pool;
    struct pool *p = pool_find(core, in->peer, in->ref);
    if (!p && !domain_find(core, in->peer))
        return -ESRCH; /* the granter died first, and its pools with it: no lie */
    if (!p || p->grantee != call->from || p->mapped == 0)
        return core_refuse(core, call, REFUSED_REF);
    p->mapped--;
    return 0;
}
