/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../ring.h"
#include "client.h"

#define HUGE_BYTES     ((size_t)2 << 20)
/* A larger pool of a peer is faulted in as it is used: populating it at once
 * would hold up everyone else's look-ups. 64 MiB. */
#define POPULATE_PAGES 16384u
#define WINDOW_PAGES_MAX 4096u

#define likely(x) __builtin_expect(!!(x), 1)

static size_t round_huge(size_t bytes)
{
    return (bytes + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
}

/* ------------------------------------------------------------ whole pools */

/* In huge pages?  Then an offset of one small page cannot be mapped. */
static bool is_huge(int fd, size_t bytes)
{
    if (bytes < HUGE_BYTES)
        return false;
    void *probe = mmap(NULL, HYP_PAGE_SIZE, PROT_NONE, MAP_SHARED, fd, HYP_PAGE_SIZE);
    if (probe == MAP_FAILED)
        return errno == EINVAL;
    munmap(probe, HYP_PAGE_SIZE);
    return false;
}

/* Maps a pool's memfd and makes the range known to the guard. */
static int range_map(struct guarded *g, int fd, size_t bytes, int prot, bool populate, bool huge,
                     atomic_int *faulted)
{
    size_t whole = huge ? round_huge(bytes) : bytes;
    char *base = mmap(NULL, whole, prot, MAP_SHARED | (populate ? MAP_POPULATE : 0), fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    atomic_store_explicit(faulted, 0, memory_order_relaxed);
    g->bytes = whole;
    g->faulted = faulted;
    atomic_store_explicit(&g->base, base, memory_order_release);
    return 0;
}

static void range_unmap(struct guarded *g)
{
    char *base = atomic_load_explicit(&g->base, memory_order_relaxed);
    if (!base)
        return;
    atomic_store_explicit(&g->base, NULL, memory_order_release);
    munmap(base, g->bytes);
}

static char *range_base(const struct guarded *g)
{
    return atomic_load_explicit(&g->base, memory_order_relaxed);
}

/* ----------------------------------------------------------------- granter */

static int pool_call(struct local_hyp *h, uint32_t op, domid_t peer, grant_ref_t ref,
                     struct core_reply *reply, int *fds, unsigned nfds)
{
    struct core_call_pool call = { .h.op = op, .peer = peer, .ref = ref };
    return client_call(h, &call.h, sizeof(call), reply, fds, nfds);
}

/* Maps our own pool and allocates all its pages, so that no one meets a fault
 * that cannot be served: huge ones when it is mapped, or that fails. */
static int pool_map(struct local_pool *p, int fd, size_t bytes)
{
    int err = range_map(&p->range, fd, bytes, PROT_READ | PROT_WRITE, false, is_huge(fd, bytes), &p->faulted);
    if (err == 0 && madvise(range_base(&p->range), p->range.bytes, MADV_POPULATE_WRITE) && errno != EINVAL) {
        range_unmap(&p->range);
        err = -ENOMEM;
    }
    return err;
}

static int pool_make(struct local_hyp *h, struct local_pool *p, domid_t grantee, size_t pages, unsigned flags)
{
    struct core_call_pool_create call = { .h.op = CORE_OP_POOL_CREATE, .grantee = grantee,
                                          .flags = flags, .pages = pages };
    struct core_reply reply = { .error = -ENOTCONN }, ended;
    int fd = -1;
    int err = client_call(h, &call.h, sizeof(call), &reply, &fd, 1);
    if (err == 0) {
        err = pool_map(p, fd, pages * HYP_PAGE_SIZE);
        close(fd);
    }
    if (err && reply.error == 0)
        pool_call(h, CORE_OP_POOL_END, 0, reply.u.pool.first, &ended, NULL, 0);
    if (err == -ENOMEM && !(flags & CORE_POOL_SMALL))
        return pool_make(h, p, grantee, pages, flags | CORE_POOL_SMALL);
    if (err)
        return err;
    p->c = (struct hyp_pool_common){ &client_ops, range_base(&p->range), pages, reply.u.pool.first };
    p->hyp = h;
    return 0;
}

int client_pool_create(struct hyp *hyp, domid_t grantee, size_t pages, unsigned flags, struct hyp_pool **out)
{
    struct local_hyp *h = (struct local_hyp *)hyp;
    if (pages == 0 || (flags & ~HYP_POOL_RDONLY))
        return -EINVAL;
    if (pages > CORE_POOL_PAGES_MAX)
        return -EDQUOT;
    pthread_mutex_lock(&h->lock);
    struct local_pool *p = h->pools;
    while (p < h->pools + CORE_POOLS_EACH && p->hyp)
        p++;
    int err = p < h->pools + CORE_POOLS_EACH ? pool_make(h, p, grantee, pages, flags) : -EDQUOT;
    pthread_mutex_unlock(&h->lock);
    if (err == 0)
        *out = (struct hyp_pool *)p;
    return err;
}

int client_pool_regrant(struct hyp_pool *pool, domid_t grantee)
{
    struct local_pool *p = (struct local_pool *)pool;
    struct core_reply reply;
    pthread_mutex_lock(&p->hyp->lock);
    int err = pool_call(p->hyp, CORE_OP_POOL_REGRANT, grantee, p->c.first, &reply, NULL, 0);
    if (err == 0)
        p->c.first = reply.u.pool.first;
    pthread_mutex_unlock(&p->hyp->lock);
    return err;
}

int client_pool_share(struct hyp_pool *pool, domid_t spare)
{
    struct local_pool *p = (struct local_pool *)pool;
    struct core_reply reply;
    pthread_mutex_lock(&p->hyp->lock);
    int err = pool_call(p->hyp, CORE_OP_POOL_SHARE, spare, p->c.first, &reply, NULL, 0);
    pthread_mutex_unlock(&p->hyp->lock);
    return err;
}

int client_pool_end(struct hyp_pool *pool)
{
    struct local_pool *p = (struct local_pool *)pool;
    struct local_hyp *h = p->hyp;
    struct core_reply reply;
    pthread_mutex_lock(&h->lock);
    int err = pool_call(h, CORE_OP_POOL_END, 0, p->c.first, &reply, NULL, 0);
    if (err == 0) {
        range_unmap(&p->range);
        p->hyp = NULL;
    }
    pthread_mutex_unlock(&h->lock);
    return err;
}

int client_pool_faulted(const struct hyp_pool *pool)
{
    return atomic_load_explicit(&((const struct local_pool *)pool)->faulted, memory_order_relaxed);
}

/* ------------------------------------------------- pools of others, shared */

static struct mapped_pool *mapped_find(struct local_hyp *h, domid_t granter, grant_ref_t ref)
{
    for (struct mapped_pool *p = h->mapped; p < h->mapped + CLIENT_MAPPED_MAX; p++)
        if (p->users && p->granter == granter && (grant_ref_t)(ref - p->first) < p->pages)
            return p;
    return NULL;
}

static struct mapped_pool *mapped_free(struct local_hyp *h)
{
    for (struct mapped_pool *p = h->mapped; p < h->mapped + CLIENT_MAPPED_MAX; p++)
        if (p->users == 0)
            return p;
    return NULL;
}

static void mapped_put(struct local_hyp *h, struct mapped_pool *p)
{
    struct core_reply reply;
    if (--p->users)
        return;
    range_unmap(&p->range);
    close(p->memfd);
    pool_call(h, CORE_OP_POOL_UNMAP, p->granter, p->first, &reply, NULL, 0);
}

/* What the core said, as hyp.h tells it. */
static int map_error(int err)
{
    return err == -ENOENT || err == -ESRCH ? -EACCES : err;
}

static int mapped_make(struct local_hyp *h, domid_t granter, grant_ref_t ref, struct mapped_pool *p)
{
    struct core_reply reply, undone;
    int fd = -1;
    int err = pool_call(h, CORE_OP_POOL_MAP, granter, ref, &reply, &fd, 1);
    if (err == 0) {
        uint32_t pages = (uint32_t)reply.u.pool.pages;
        size_t bytes = (size_t)pages * HYP_PAGE_SIZE;
        bool rdonly = reply.u.pool.rdonly != 0, huge = is_huge(fd, bytes);
        p->granter = granter;
        p->first = reply.u.pool.first;
        p->pages = pages;
        p->memfd = fd;
        p->rdonly = rdonly;
        p->huge = huge;
        err = range_map(&p->range, fd, bytes, rdonly ? PROT_READ : PROT_READ | PROT_WRITE,
                        pages <= POPULATE_PAGES, huge, &p->faulted);
        if (err)
            close(fd);
    } else if (reply.error || err != -EMFILE) {
        return map_error(err);
    }
    if (err)
        pool_call(h, CORE_OP_POOL_UNMAP, granter, reply.u.pool.first, &undone, NULL, 0);
    return err;
}

/* ------------------------------------------------------------------- slots */

/* The first look-up in a pool: maps it, or shares what another map mapped. */
static struct slot *slot_attach(struct local_map *m, grant_ref_t ref, int *err)
{
    struct local_hyp *h = m->hyp;
    struct slot *s = NULL;
    *err = -ENOSPC;
    if (m->nslots == CLIENT_SLOTS_MAX)
        return NULL;
    pthread_mutex_lock(&h->lock);
    struct mapped_pool *p = mapped_find(h, m->granter, ref);
    if (p) {
        *err = 0;
    } else {
        p = mapped_free(h);
        if (p)
            *err = mapped_make(h, m->granter, ref, p);
    }
    if (*err == 0) {
        p->users++;
        s = &m->slots[m->nslots++];
        *s = (struct slot){ .first = p->first, .pages = p->pages, .base = range_base(&p->range),
                            .pool = p, .rdonly = p->rdonly };
        m->hot = s;
    }
    pthread_mutex_unlock(&h->lock);
    return s;
}

static __attribute__((noinline)) struct slot *slot_search(struct local_map *m, grant_ref_t ref, int *err)
{
    for (struct slot *s = m->slots; s < m->slots + m->nslots; s++)
        if ((grant_ref_t)(ref - s->first) < s->pages)
            return m->hot = s;
    return slot_attach(m, ref, err);
}

/* The slot that holds ref.  Nearly always the last one again. */
static inline struct slot *slot_of(struct local_map *m, grant_ref_t ref, int *err)
{
    struct slot *s = m->hot;
    if (likely((grant_ref_t)(ref - s->first) < s->pages))
        return s;
    return slot_search(m, ref, err);
}

static inline char *slot_page(const struct slot *s, grant_ref_t ref)
{
    return s->base + ((size_t)(grant_ref_t)(ref - s->first) << HYP_PAGE_SHIFT);
}

static inline bool slot_has(const struct slot *s, const void *va)
{
    return (uintptr_t)va - (uintptr_t)s->base < (size_t)s->pages << HYP_PAGE_SHIFT;
}

static struct slot *slot_at(struct local_map *m, const void *va)
{
    for (struct slot *s = m->slots; s < m->slots + m->nslots; s++)
        if (slot_has(s, va))
            return s;
    return NULL;
}

/* ----------------------------------------------------------------- windows */

static struct window *window_take(struct local_map *m)
{
    for (struct window *w = m->hyp->windows; w < m->hyp->windows + CLIENT_WINDOWS_MAX; w++)
        if (!w->map) {
            w->map = m;
            return w;
        }
    return NULL;
}

/* Lays the grants at va, one run of neighbours at a time. */
static int window_fill(struct local_map *m, const grant_ref_t *refs, size_t n, unsigned flags, char *va)
{
    for (size_t i = 0, run; i < n; i += run) {
        int err;
        const struct slot *s = slot_of(m, refs[i], &err);
        if (!s)
            return err;
        if (s->rdonly && !(flags & HYP_MAP_RDONLY))
            return -EACCES;
        if (s->pool->huge)
            return -EOPNOTSUPP;
        uint32_t at = refs[i] - s->first;
        for (run = 1; i + run < n && run < s->pages - at && refs[i + run] == refs[i] + run;)
            run++;
        int prot = flags & HYP_MAP_RDONLY ? PROT_READ : PROT_READ | PROT_WRITE;
        if (mmap(va + i * HYP_PAGE_SIZE, run * HYP_PAGE_SIZE, prot, MAP_SHARED | MAP_FIXED | MAP_POPULATE,
                 s->pool->memfd, (off_t)at * HYP_PAGE_SIZE) == MAP_FAILED)
            return errno == ENOMEM ? -ENOSPC : -errno;
    }
    return 0;
}

static int window_map(struct local_map *m, const grant_ref_t *refs, size_t n, unsigned flags, void **va)
{
    size_t bytes = n * HYP_PAGE_SIZE;
    char *at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return -ENOSPC;
    int err = window_fill(m, refs, n, flags, at);
    struct window *w = NULL;
    if (err == 0) {
        pthread_mutex_lock(&m->hyp->lock);
        w = window_take(m);
        pthread_mutex_unlock(&m->hyp->lock);
    }
    if (!w) {
        munmap(at, bytes);
        return err ? err : -ENOSPC;
    }
    w->pages = n;
    w->next = m->windows;
    m->windows = w;
    w->range.bytes = bytes;
    w->range.faulted = &m->window_faulted;
    atomic_store_explicit(&w->range.base, at, memory_order_release);
    *va = at;
    return 0;
}

static void window_end(struct window **link)
{
    struct window *w = *link;
    struct local_hyp *h = w->map->hyp;
    *link = w->next;
    range_unmap(&w->range);
    pthread_mutex_lock(&h->lock);
    w->map = NULL;
    pthread_mutex_unlock(&h->lock);
}

/* -------------------------------------------------------------------- maps */

int client_map_open(struct hyp *hyp, domid_t granter, struct hyp_map **out)
{
    struct local_hyp *h = (struct local_hyp *)hyp;
    pthread_mutex_lock(&h->lock);
    struct local_map *m = h->maps;
    while (m < h->maps + CLIENT_MAPS_MAX && m->hyp)
        m++;
    bool found = m < h->maps + CLIENT_MAPS_MAX;
    if (found) {
        m->c.ops = &client_ops;
        m->hot = m->slots;
        m->slots[0].pages = 0; /* matches no reference */
        m->nslots = 0;
        m->granter = granter;
        m->windows = NULL;
        atomic_store_explicit(&m->window_faulted, 0, memory_order_relaxed);
        m->hyp = h;
        *out = (struct hyp_map *)m;
    }
    pthread_mutex_unlock(&h->lock);
    return found ? 0 : -ENOSPC;
}

void client_map_close(struct hyp_map *map)
{
    struct local_map *m = (struct local_map *)map;
    struct local_hyp *h = m->hyp;
    while (m->windows)
        window_end(&m->windows);
    pthread_mutex_lock(&h->lock);
    for (unsigned i = 0; i < m->nslots; i++)
        mapped_put(h, m->slots[i].pool);
    m->hyp = NULL;
    pthread_mutex_unlock(&h->lock);
}

int client_map_grants(struct hyp_map *map, const grant_ref_t *refs, size_t n, unsigned flags, void **va)
{
    struct local_map *m = (struct local_map *)map;
    if (n == 0 || n > WINDOW_PAGES_MAX || (flags & ~HYP_MAP_RDONLY))
        return -EINVAL;
    int err;
    struct slot *s = slot_of(m, refs[0], &err);
    if (!s)
        return err;
    if (s->rdonly && !(flags & HYP_MAP_RDONLY))
        return -EACCES;
    size_t run = 1;
    while (run < n && refs[run] == refs[0] + run)
        run++;
    if (run < n || n > s->pages - (refs[0] - s->first))
        return window_map(m, refs, n, flags, va);
    s->uses++;
    *va = slot_page(s, refs[0]);
    return 0;
}

int client_unmap_grants(struct hyp_map *map, void *va, size_t n)
{
    struct local_map *m = (struct local_map *)map;
    struct slot *s = m->hot;
    if (slot_has(s, va) || (s = slot_at(m, va))) {
        size_t at = (size_t)((char *)va - s->base) >> HYP_PAGE_SHIFT;
        if (n == 0 || n > s->pages - at || s->uses == 0)
            return -EINVAL;
        s->uses--;
        return 0;
    }
    for (struct window **w = &m->windows; *w; w = &(*w)->next)
        if (range_base(&(*w)->range) == va && (*w)->pages == n) {
            window_end(w);
            return 0;
        }
    return -EINVAL;
}

void *client_map_persistent(struct hyp_map *map, grant_ref_t ref)
{
    int err;
    const struct slot *s = slot_of((struct local_map *)map, ref, &err);
    return likely(s && !s->rdonly) ? slot_page(s, ref) : NULL;
}

int client_map_run(struct hyp_map *map, grant_ref_t ref, struct hyp_run *out)
{
    int err;
    const struct slot *s = slot_of((struct local_map *)map, ref, &err);
    if (!s || s->rdonly)
        return false;
    *out = (struct hyp_run){ s->first, s->pages, (uint8_t *)s->base };
    return true;
}

int client_map_range(const struct hyp_map *map, const void *va, struct hyp_range *out)
{
    const struct local_map *m = (const struct local_map *)map;
    const struct slot *s = m->hot;
    if (!slot_has(s, va)) {
        for (s = m->slots; s < m->slots + m->nslots && !slot_has(s, va);)
            s++;
        if (s == m->slots + m->nslots)
            return -ENOENT;
    }
    *out = (struct hyp_range){ s->base, (size_t)s->pages << HYP_PAGE_SHIFT, (unsigned)(s - m->slots) };
    return 0;
}

static inline int copy_one(struct local_map *m, const struct hyp_copy *c)
{
    if (c->offset > HYP_PAGE_SIZE || c->bytes > HYP_PAGE_SIZE - c->offset)
        return -EINVAL;
    int err;
    const struct slot *s = slot_of(m, c->ref, &err);
    if (!s)
        return err;
    char *at = slot_page(s, c->ref) + c->offset;
    if (!c->to_grant)
        shared_read(c->local, at, c->bytes);
    else if (s->rdonly)
        return -EACCES;
    else
        shared_write(at, c->local, c->bytes);
    return 0;
}

int client_grant_copy(struct hyp_map *map, struct hyp_copy *pieces, size_t n)
{
    int first = 0;
    for (size_t i = 0; i < n; i++) {
        int err = copy_one((struct local_map *)map, &pieces[i]);
        pieces[i].status = (int16_t)err;
        if (first == 0)
            first = err;
    }
    return first;
}

int client_map_faulted(const struct hyp_map *map)
{
    const struct local_map *m = (const struct local_map *)map;
    int faulted = atomic_load_explicit(&m->window_faulted, memory_order_relaxed);
    for (unsigned i = 0; i < m->nslots; i++)
        faulted |= atomic_load_explicit(&m->slots[i].pool->faulted, memory_order_relaxed);
    return faulted;
}

void client_grants_drop(struct local_hyp *h)
{
    for (struct window *w = h->windows; w < h->windows + CLIENT_WINDOWS_MAX; w++)
        range_unmap(&w->range);
    for (struct mapped_pool *p = h->mapped; p < h->mapped + CLIENT_MAPPED_MAX; p++)
        if (p->users) {
            range_unmap(&p->range);
            close(p->memfd);
        }
    for (struct local_pool *p = h->pools; p < h->pools + CORE_POOLS_EACH; p++)
        range_unmap(&p->range);
}
