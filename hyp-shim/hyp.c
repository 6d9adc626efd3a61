/* SPDX-License-Identifier: MIT */
#include "hyp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

/*
 * Each object begins with its common part (hyp.h), which names the hypervisor
 * that made it.  A function that a hypervisor's table leaves out is refused.
 */
#define COMMON(kind, obj) ((const struct kind##_common *)(const void *)(obj))
#define OPS(kind, obj)    (COMMON(kind, obj)->ops)
#define CALL(kind, obj, fn, ...) \
    (OPS(kind, obj)->fn ? OPS(kind, obj)->fn(__VA_ARGS__) : -EOPNOTSUPP)

/* ------------------------------------------------------------------ handle */

/* A descriptor number from the environment: decimal, up to `end`. */
static int parse_fd(const char *text, char end, const char **after)
{
    char *stop;
    errno = 0;
    long n = strtol(text, &stop, 10);
    if (errno || stop == text || *stop != end || n < 0 || n > 0xffff)
        return -EINVAL;
    *after = stop + 1;
    return (int)n;
}

static int open_inherited(struct hyp **out, const char *fds)
{
    const char *next = fds;
    int core = parse_fd(next, ',', &next);
    int store = core < 0 ? core : parse_fd(next, '\0', &next);
    if (store < 0 || fcntl(core, F_SETFD, FD_CLOEXEC) || fcntl(store, F_SETFD, FD_CLOEXEC))
        return -EINVAL;
    /* They are ours now; a program that we start is another domain or none. */
    unsetenv(HYP_ENV_FDS);
    return hyp_local_open(out, core, store);
}

int hyp_open(struct hyp **out, const char *where)
{
    if (where)
        return hyp_local_attach(out, where);
    const char *fds = getenv(HYP_ENV_FDS);
    return fds ? open_inherited(out, fds) : -ENODEV;
}

void hyp_close(struct hyp *hyp)
{
    if (hyp)
        OPS(hyp, hyp)->close(hyp);
}

domid_t hyp_domid(const struct hyp *hyp)
{
    return COMMON(hyp, hyp)->domid;
}

int hyp_store_fd(struct hyp *hyp)
{
    return OPS(hyp, hyp)->store_fd(hyp);
}

int hyp_store_connect(struct hyp *hyp)
{
    return CALL(hyp, hyp, store_connect, hyp);
}

int hyp_fd(const struct hyp *hyp)
{
    return OPS(hyp, hyp)->fd(hyp);
}

int hyp_next_event(struct hyp *hyp, struct hyp_event *ev)
{
    return OPS(hyp, hyp)->next_event(hyp, ev);
}

int hyp_ready(struct hyp *hyp)
{
    return OPS(hyp, hyp)->ready(hyp);
}

int hyp_restrict(struct hyp *hyp, uint32_t keep)
{
    return OPS(hyp, hyp)->restrict_to(hyp, keep);
}

/* ------------------------------------------------------------ granter side */

int hyp_pool_create(struct hyp *hyp, domid_t grantee, size_t pages, unsigned flags, struct hyp_pool **out)
{
    return OPS(hyp, hyp)->pool_create(hyp, grantee, pages, flags, out);
}

void *hyp_pool_base(const struct hyp_pool *pool)
{
    return COMMON(hyp_pool, pool)->base;
}

size_t hyp_pool_pages(const struct hyp_pool *pool)
{
    return COMMON(hyp_pool, pool)->pages;
}

grant_ref_t hyp_pool_ref(const struct hyp_pool *pool, size_t page)
{
    return COMMON(hyp_pool, pool)->first + (grant_ref_t)page;
}

int hyp_pool_regrant(struct hyp_pool *pool, domid_t grantee)
{
    return OPS(hyp_pool, pool)->pool_regrant(pool, grantee);
}

int hyp_pool_share(struct hyp_pool *pool, domid_t spare)
{
    return CALL(hyp_pool, pool, pool_share, pool, spare);
}

int hyp_pool_end(struct hyp_pool *pool)
{
    return OPS(hyp_pool, pool)->pool_end(pool);
}

int hyp_pool_faulted(const struct hyp_pool *pool)
{
    return OPS(hyp_pool, pool)->pool_faulted(pool);
}

/* ------------------------------------------------------------ grantee side */

int hyp_map_open(struct hyp *hyp, domid_t granter, struct hyp_map **out)
{
    return OPS(hyp, hyp)->map_open(hyp, granter, out);
}

void hyp_map_close(struct hyp_map *map)
{
    if (map)
        OPS(hyp_map, map)->map_close(map);
}

int hyp_map_grants(struct hyp_map *map, const grant_ref_t *refs, size_t n, unsigned flags, void **va)
{
    return OPS(hyp_map, map)->map_grants(map, refs, n, flags, va);
}

int hyp_unmap_grants(struct hyp_map *map, void *va, size_t n)
{
    return OPS(hyp_map, map)->unmap_grants(map, va, n);
}

void *hyp_map_persistent(struct hyp_map *map, grant_ref_t ref)
{
    return OPS(hyp_map, map)->map_persistent(map, ref);
}

int hyp_map_run(struct hyp_map *map, grant_ref_t ref, struct hyp_run *out)
{
    return OPS(hyp_map, map)->map_run(map, ref, out);
}

int hyp_map_range(const struct hyp_map *map, const void *va, struct hyp_range *out)
{
    return OPS(hyp_map, map)->map_range(map, va, out);
}

int hyp_grant_copy(struct hyp_map *map, struct hyp_copy *pieces, size_t n)
{
    return OPS(hyp_map, map)->grant_copy(map, pieces, n);
}

int hyp_map_faulted(const struct hyp_map *map)
{
    return OPS(hyp_map, map)->map_faulted(map);
}

int hyp_guard_memory_faults(struct hyp *hyp)
{
    return OPS(hyp, hyp)->guard_memory_faults(hyp);
}

/* ---------------------------------------------------------- event channels */

int hyp_evtchn_alloc(struct hyp *hyp, domid_t remote, struct hyp_evtchn **out)
{
    return OPS(hyp, hyp)->evtchn_alloc(hyp, remote, out);
}

int hyp_evtchn_bind(struct hyp *hyp, domid_t remote, evtchn_port_t port, struct hyp_evtchn **out)
{
    return OPS(hyp, hyp)->evtchn_bind(hyp, remote, port, out);
}

evtchn_port_t hyp_evtchn_port(const struct hyp_evtchn *ch)
{
    return COMMON(hyp_evtchn, ch)->port;
}

int hyp_evtchn_fd(const struct hyp_evtchn *ch)
{
    return COMMON(hyp_evtchn, ch)->fd;
}

int hyp_evtchn_notify(struct hyp_evtchn *ch)
{
    return OPS(hyp_evtchn, ch)->evtchn_notify(ch);
}

void hyp_evtchn_clear(struct hyp_evtchn *ch)
{
    OPS(hyp_evtchn, ch)->evtchn_clear(ch);
}

void hyp_evtchn_close(struct hyp_evtchn *ch)
{
    if (ch)
        OPS(hyp_evtchn, ch)->evtchn_close(ch);
}

/* --------------------------------- devices and domains: not every hypervisor */

int hyp_device_acquire(struct hyp *hyp, uint32_t device, int *fd)
{
    return CALL(hyp, hyp, device_acquire, hyp, device, fd);
}

int hyp_domain_create(struct hyp *hyp, const struct hyp_domain_config *cfg, const int *fds,
                      unsigned nfds, domid_t *out, int conn[2])
{
    return CALL(hyp, hyp, domain_create, hyp, cfg, fds, nfds, out, conn);
}

int hyp_domain_unpause(struct hyp *hyp, domid_t domid)
{
    return CALL(hyp, hyp, domain_unpause, hyp, domid);
}

int hyp_domain_stop(struct hyp *hyp, domid_t domid)
{
    return CALL(hyp, hyp, domain_stop, hyp, domid);
}

int hyp_domain_destroy(struct hyp *hyp, domid_t domid)
{
    return CALL(hyp, hyp, domain_destroy, hyp, domid);
}

int hyp_domain_info(struct hyp *hyp, domid_t domid, struct hyp_domain_info *out)
{
    return CALL(hyp, hyp, domain_info, hyp, domid, out);
}

int hyp_domain_next(struct hyp *hyp, domid_t after, struct hyp_domain_info *out)
{
    return CALL(hyp, hyp, domain_next, hyp, after, out);
}

int hyp_domain_holding(struct hyp *hyp, domid_t domid, unsigned n, struct hyp_holding *out)
{
    return CALL(hyp, hyp, domain_holding, hyp, domid, n, out);
}

int hyp_device_assign(struct hyp *hyp, domid_t domid, uint32_t device, const char *path, unsigned flags)
{
    return CALL(hyp, hyp, device_assign, hyp, domid, device, path, flags);
}

int hyp_device_release(struct hyp *hyp, domid_t domid, uint32_t device)
{
    return CALL(hyp, hyp, device_release, hyp, domid, device);
}

int hyp_end(struct hyp *hyp)
{
    return CALL(hyp, hyp, end, hyp);
}
