/* SPDX-License-Identifier: MIT */
#include "fake_hyp.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../hyp-shim/local/limits.h"

#define FIRST_REF  8u  /* as Xen, whose first references are reserved */
#define REF_GAP    3u  /* pools never touch: ref + 1 past the end is no grant */
#define DEVICES_MAX 64
#define SLOTS_MAX  CORE_POOLS_EACH
#define ALL_RIGHTS (HYP_MAY_GRANT | HYP_MAY_MAP | HYP_MAY_EVTCHN | HYP_MAY_DEVICE | HYP_MAY_CONTROL)

struct fake_event {
    struct hyp_event ev;
    struct fake_event *next;
};

struct fake_hyp {
    struct hyp_common c;
    struct fake_hyp *next;
    struct fake_pool *pools;
    struct fake_map *maps;
    struct fake_evtchn *evtchns;
    struct fake_event *events;
    uint32_t rights;
    int wake; /* eventfd, not zero while there are events */
    unsigned npools, nevtchns;
    bool faulted;
    bool store_taken; /* hyp_store_fd() gave it */
    unsigned ndevices;
    struct { uint32_t number; int fd; } device[DEVICES_MAX]; /* there and not taken */
};

/* Lives until its owner ended it or died, and the last map of it is gone. */
struct fake_pool {
    struct hyp_pool_common c;
    struct fake_hyp *owner; /* NULL: dead */
    struct fake_pool *next;
    domid_t grantee, spare; /* DOMID_INVALID: none */
    int memfd;
    unsigned mapped;
    bool rdonly;
};

/* One whole pool that stays mapped. */
struct slot {
    struct fake_pool *pool;
    char *base;
    size_t pages;
    grant_ref_t first;
};

/* One hyp_map_grants() call. */
struct window {
    void *va;
    size_t pages;
    struct fake_pool **pools; /* one a page */
    struct window *next;
};

struct fake_map {
    struct hyp_map_common c;
    struct fake_hyp *owner;
    struct fake_map *next;
    domid_t granter;
    unsigned nslots;
    struct slot slots[SLOTS_MAX];
    struct window *windows;
};

struct fake_evtchn {
    struct hyp_evtchn_common c;
    struct fake_hyp *owner;
    struct fake_evtchn *next;
    domid_t remote;
    int wr;
    int offer_rd, offer_wr; /* the other end's descriptors until it binds; else -1 */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake_hyp *domains;
static grant_ref_t next_ref = FIRST_REF;
static evtchn_port_t next_port = 1;
static unsigned leaked;
static int (*store_connect)(domid_t); /* NULL: no store */

static struct fake_hyp *domain_find(domid_t domid)
{
    struct fake_hyp *h = domains;
    while (h && h->c.domid != domid)
        h = h->next;
    return h;
}

/* Any domain but h itself. */
static struct fake_hyp *peer_find(const struct fake_hyp *h, domid_t domid)
{
    return domid == h->c.domid ? NULL : domain_find(domid);
}

#define UNLINK(head, node)                     \
    do {                                       \
        __typeof__(head) *at_ = &(head);       \
        while (*at_ && *at_ != (node))         \
            at_ = &(*at_)->next;               \
        if (*at_)                              \
            *at_ = (node)->next;               \
    } while (0)

/* ------------------------------------------------------------------ events */

static void event_push(struct fake_hyp *to, struct hyp_event ev)
{
    struct fake_event *e = calloc(1, sizeof(*e));
    struct timespec now;
    if (!e || clock_gettime(CLOCK_MONOTONIC, &now))
        abort();
    ev.at_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    e->ev = ev;
    struct fake_event **at = &to->events;
    while (*at)
        at = &(*at)->next;
    *at = e;
    uint64_t one = 1;
    if (write(to->wake, &one, sizeof(one)) != sizeof(one))
        abort();
}

static int fake_fd(const struct hyp *hyp)
{
    return ((const struct fake_hyp *)hyp)->wake;
}

static int fake_next_event(struct hyp *hyp, struct hyp_event *ev)
{
    struct fake_hyp *h = (struct fake_hyp *)hyp;
    pthread_mutex_lock(&lock);
    struct fake_event *e = h->events;
    if (e) {
        *ev = e->ev;
        h->events = e->next;
        free(e);
    }
    uint64_t drained;
    if (!h->events && read(h->wake, &drained, sizeof(drained)) < 0 && errno != EAGAIN)
        abort();
    pthread_mutex_unlock(&lock);
    return e != NULL;
}

static int fake_ready(struct hyp *hyp)
{
    struct fake_hyp *h = (struct fake_hyp *)hyp;
    pthread_mutex_lock(&lock);
    struct fake_hyp *toolstack = domain_find(HYP_DOMID_TOOLSTACK);
    if (toolstack)
        event_push(toolstack, (struct hyp_event){ .kind = HYP_EV_READY, .domid = h->c.domid });
    pthread_mutex_unlock(&lock);
    return 0;
}

static int fake_restrict(struct hyp *hyp, uint32_t keep)
{
    ((struct fake_hyp *)hyp)->rights &= keep;
    return 0;
}

static int fake_store_connect(struct hyp *hyp)
{
    const struct fake_hyp *h = (const struct fake_hyp *)hyp;
    return store_connect ? store_connect(h->c.domid) : -EAGAIN;
}

static int fake_store_fd(struct hyp *hyp)
{
    struct fake_hyp *h = (struct fake_hyp *)hyp;
    int fd = h->store_taken || !store_connect ? -ENOENT : fake_store_connect(hyp);
    h->store_taken |= fd >= 0;
    return fd;
}

/* ------------------------------------------------------------------- pools */

static void pool_put(struct fake_pool *p)
{
    if (p->owner || p->mapped)
        return;
    close(p->memfd);
    free(p);
}

/* The owner lets go; whoever has it mapped keeps the memory. */
static void pool_drop(struct fake_pool *p)
{
    munmap(p->c.base, p->c.pages * HYP_PAGE_SIZE);
    UNLINK(p->owner->pools, p);
    p->owner->npools--;
    p->owner = NULL;
    pool_put(p);
}

static int pool_number(struct fake_pool *p)
{
    p->c.first = next_ref;
    next_ref += (grant_ref_t)p->c.pages + REF_GAP;
    return 0;
}

static const struct hyp_ops fake_ops;

static int pool_make(struct fake_hyp *h, domid_t grantee, size_t pages, unsigned flags,
                     struct fake_pool **out)
{
    if (!(h->rights & HYP_MAY_GRANT))
        return -EPERM;
    if (pages == 0 || (flags & ~HYP_POOL_RDONLY))
        return -EINVAL;
    if (!peer_find(h, grantee))
        return -ESRCH;
    if (pages > CORE_POOL_PAGES_MAX || h->npools == CORE_POOLS_EACH)
        return -EDQUOT;
    struct fake_pool *p = calloc(1, sizeof(*p));
    int fd = memfd_create("fake-pool", MFD_CLOEXEC);
    size_t bytes = pages * HYP_PAGE_SIZE;
    void *base = MAP_FAILED;
    if (p && fd >= 0 && ftruncate(fd, (off_t)bytes) == 0)
        base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        if (fd >= 0)
            close(fd);
        free(p);
        return -ENOMEM;
    }
    *p = (struct fake_pool){ .c = { &fake_ops, base, pages, 0 }, .owner = h, .next = h->pools,
                             .grantee = grantee, .spare = DOMID_INVALID, .memfd = fd,
                             .rdonly = flags & HYP_POOL_RDONLY };
    pool_number(p);
    h->pools = p;
    h->npools++;
    *out = p;
    return 0;
}

static int fake_pool_create(struct hyp *hyp, domid_t grantee, size_t pages, unsigned flags,
                            struct hyp_pool **out)
{
    struct fake_pool *p;
    pthread_mutex_lock(&lock);
    int err = pool_make((struct fake_hyp *)hyp, grantee, pages, flags, &p);
    pthread_mutex_unlock(&lock);
    if (err == 0)
        *out = (struct hyp_pool *)p;
    return err;
}

static int fake_pool_regrant(struct hyp_pool *pool, domid_t grantee)
{
    struct fake_pool *p = (struct fake_pool *)pool;
    pthread_mutex_lock(&lock);
    int err = !(p->owner->rights & HYP_MAY_GRANT) ? -EPERM
              : !peer_find(p->owner, grantee)     ? -ESRCH
              : domain_find(p->grantee)           ? -EBUSY
                                                  : pool_number(p);
    if (err == 0)
        p->grantee = grantee;
    pthread_mutex_unlock(&lock);
    return err;
}

static int fake_pool_share(struct hyp_pool *pool, domid_t spare)
{
    struct fake_pool *p = (struct fake_pool *)pool;
    pthread_mutex_lock(&lock);
    bool peers = peer_find(p->owner, spare) && domain_find(p->grantee) && spare != p->grantee;
    int err = !(p->owner->rights & HYP_MAY_GRANT) ? -EPERM
              : !peers                            ? -ESRCH
              : p->spare != DOMID_INVALID         ? -EBUSY
                                                  : 0;
    if (err == 0)
        p->spare = spare;
    pthread_mutex_unlock(&lock);
    return err;
}

/* The spare of a dead grantee is the grantee, by the same references. */
static void pool_inherit(struct fake_pool *p, domid_t dead)
{
    if (p->grantee == dead && p->spare != DOMID_INVALID)
        p->grantee = p->spare;
    else if (p->spare != dead)
        return;
    p->spare = DOMID_INVALID;
}

static int fake_pool_end(struct hyp_pool *pool)
{
    struct fake_pool *p = (struct fake_pool *)pool;
    pthread_mutex_lock(&lock);
    int err = p->mapped ? -EBUSY : 0;
    if (err == 0)
        pool_drop(p);
    pthread_mutex_unlock(&lock);
    return err;
}

static int fake_pool_faulted(const struct hyp_pool *pool)
{
    (void)pool;
    return 0;
}

/* The pool of granter that holds ref and is granted to h; else NULL. */
static struct fake_pool *grant_find(const struct fake_hyp *h, domid_t granter, grant_ref_t ref)
{
    struct fake_hyp *g = domain_find(granter);
    if (!(h->rights & HYP_MAY_MAP))
        return NULL;
    for (struct fake_pool *p = g ? g->pools : NULL; p; p = p->next)
        if ((p->grantee == h->c.domid || p->spare == h->c.domid) &&
            (grant_ref_t)(ref - p->c.first) < p->c.pages)
            return p;
    return NULL;
}

/* -------------------------------------------------------------------- maps */

static int fake_map_open(struct hyp *hyp, domid_t granter, struct hyp_map **out)
{
    struct fake_hyp *h = (struct fake_hyp *)hyp;
    struct fake_map *m = calloc(1, sizeof(*m));
    if (!m)
        return -ENOMEM;
    m->c.ops = &fake_ops;
    m->owner = h;
    m->granter = granter;
    pthread_mutex_lock(&lock);
    m->next = h->maps;
    h->maps = m;
    pthread_mutex_unlock(&lock);
    *out = (struct hyp_map *)m;
    return 0;
}

static void window_end(struct window *w)
{
    munmap(w->va, w->pages * HYP_PAGE_SIZE);
    for (size_t i = 0; i < w->pages; i++) {
        w->pools[i]->mapped--;
        pool_put(w->pools[i]);
    }
    free(w->pools);
    free(w);
}

static void map_drop(struct fake_map *m)
{
    for (struct window *w = m->windows; w;) {
        struct window *next = w->next;
        window_end(w);
        w = next;
    }
    for (unsigned i = 0; i < m->nslots; i++) {
        munmap(m->slots[i].base, m->slots[i].pages * HYP_PAGE_SIZE);
        m->slots[i].pool->mapped--;
        pool_put(m->slots[i].pool);
    }
    UNLINK(m->owner->maps, m);
    free(m);
}

static void fake_map_close(struct hyp_map *map)
{
    pthread_mutex_lock(&lock);
    map_drop((struct fake_map *)map);
    pthread_mutex_unlock(&lock);
}

/* Puts the grants at va, which is reserved; fills pools. */
static int window_fill(const struct fake_map *m, const grant_ref_t *refs, size_t n, unsigned flags,
                       char *va, struct fake_pool **pools)
{
    for (size_t i = 0; i < n; i++) {
        pools[i] = grant_find(m->owner, m->granter, refs[i]);
        if (!pools[i] || (pools[i]->rdonly && !(flags & HYP_MAP_RDONLY)))
            return -EACCES;
        int prot = flags & HYP_MAP_RDONLY ? PROT_READ : PROT_READ | PROT_WRITE;
        off_t at = (off_t)(grant_ref_t)(refs[i] - pools[i]->c.first) * HYP_PAGE_SIZE;
        if (mmap(va + i * HYP_PAGE_SIZE, HYP_PAGE_SIZE, prot, MAP_SHARED | MAP_FIXED,
                 pools[i]->memfd, at) == MAP_FAILED)
            return -ENOSPC;
    }
    for (size_t i = 0; i < n; i++)
        pools[i]->mapped++;
    return 0;
}

static int fake_map_grants(struct hyp_map *map, const grant_ref_t *refs, size_t n, unsigned flags,
                           void **va)
{
    struct fake_map *m = (struct fake_map *)map;
    if (n == 0 || n > CORE_POOL_PAGES_MAX || (flags & ~HYP_MAP_RDONLY))
        return -EINVAL;
    struct window *w = calloc(1, sizeof(*w));
    struct fake_pool **pools = calloc(n, sizeof(struct fake_pool *));
    void *at = mmap(NULL, n * HYP_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int err = !w || !pools || at == MAP_FAILED ? -ENOSPC : 0;
    pthread_mutex_lock(&lock);
    if (err == 0)
        err = window_fill(m, refs, n, flags, at, pools);
    if (err == 0) {
        *w = (struct window){ at, n, pools, m->windows };
        m->windows = w;
        *va = at;
    }
    pthread_mutex_unlock(&lock);
    if (err) {
        if (at != MAP_FAILED)
            munmap(at, n * HYP_PAGE_SIZE);
        free(pools);
        free(w);
    }
    return err;
}

static int fake_unmap_grants(struct hyp_map *map, void *va, size_t n)
{
    struct fake_map *m = (struct fake_map *)map;
    pthread_mutex_lock(&lock);
    struct window *w = m->windows;
    while (w && (w->va != va || w->pages != n))
        w = w->next;
    if (w) {
        UNLINK(m->windows, w);
        window_end(w);
    }
    pthread_mutex_unlock(&lock);
    return w ? 0 : -EINVAL;
}

static struct slot *slot_find(struct fake_map *m, grant_ref_t ref)
{
    for (unsigned i = 0; i < m->nslots; i++)
        if ((grant_ref_t)(ref - m->slots[i].first) < m->slots[i].pages)
            return &m->slots[i];
    return NULL;
}

/* The slot for ref, which may map its pool; NULL: not granted. */
static struct slot *slot_get(struct fake_map *m, grant_ref_t ref)
{
    struct slot *s = slot_find(m, ref);
    if (s)
        return s;
    pthread_mutex_lock(&lock);
    struct fake_pool *p = grant_find(m->owner, m->granter, ref);
    if (p && m->nslots < SLOTS_MAX) {
        int prot = p->rdonly ? PROT_READ : PROT_READ | PROT_WRITE;
        void *base = mmap(NULL, p->c.pages * HYP_PAGE_SIZE, prot, MAP_SHARED, p->memfd, 0);
        if (base != MAP_FAILED) {
            s = &m->slots[m->nslots++];
            *s = (struct slot){ p, base, p->c.pages, p->c.first };
            p->mapped++;
        }
    }
    pthread_mutex_unlock(&lock);
    return s;
}

static char *slot_page(const struct slot *s, grant_ref_t ref)
{
    return s->base + (size_t)(grant_ref_t)(ref - s->first) * HYP_PAGE_SIZE;
}

static void *fake_map_persistent(struct hyp_map *map, grant_ref_t ref)
{
    struct slot *s = slot_get((struct fake_map *)map, ref);
    return s && !s->pool->rdonly ? slot_page(s, ref) : NULL;
}

static int fake_map_run(struct hyp_map *map, grant_ref_t ref, struct hyp_run *out)
{
    struct slot *s = slot_get((struct fake_map *)map, ref);
    if (!s || s->pool->rdonly)
        return false;
    *out = (struct hyp_run){ s->first, (uint32_t)s->pages, (uint8_t *)s->base };
    return true;
}

static int fake_map_range(const struct hyp_map *map, const void *va, struct hyp_range *out)
{
    const struct fake_map *m = (const struct fake_map *)map;
    for (unsigned i = 0; i < m->nslots; i++) {
        const struct slot *s = &m->slots[i];
        if ((uintptr_t)va - (uintptr_t)s->base < s->pages * HYP_PAGE_SIZE) {
            *out = (struct hyp_range){ s->base, s->pages * HYP_PAGE_SIZE, i };
            return 0;
        }
    }
    return -ENOENT;
}

static int copy_one(struct fake_map *m, const struct hyp_copy *c)
{
    if (c->offset > HYP_PAGE_SIZE || c->bytes > HYP_PAGE_SIZE - c->offset)
        return -EINVAL;
    struct slot *s = slot_get(m, c->ref);
    if (!s || (c->to_grant && s->pool->rdonly))
        return -EACCES;
    char *at = slot_page(s, c->ref) + c->offset;
    if (c->to_grant)
        memcpy(at, c->local, c->bytes);
    else
        memcpy(c->local, at, c->bytes);
    return 0;
}

static int fake_grant_copy(struct hyp_map *map, struct hyp_copy *pieces, size_t n)
{
    int first = 0;
    for (size_t i = 0; i < n; i++) {
        pieces[i].status = (int16_t)copy_one((struct fake_map *)map, &pieces[i]);
        if (first == 0)
            first = pieces[i].status;
    }
    return first;
}

static int fake_map_faulted(const struct hyp_map *map)
{
    return __atomic_load_n(&((const struct fake_map *)map)->owner->faulted, __ATOMIC_RELAXED);
}

static int fake_guard(struct hyp *hyp)
{
    (void)hyp;
    return 0;
}

/* ---------------------------------------------------------- event channels */

static struct fake_evtchn *evtchn_make(struct fake_hyp *h, domid_t remote, int rd, int wr)
{
    struct fake_evtchn *ch = calloc(1, sizeof(*ch));
    if (!ch)
        abort();
    *ch = (struct fake_evtchn){ .c = { &fake_ops, rd, next_port++ }, .owner = h, .next = h->evtchns,
                                .remote = remote, .wr = wr, .offer_rd = -1, .offer_wr = -1 };
    h->evtchns = ch;
    h->nevtchns++;
    return ch;
}

static int evtchn_may(const struct fake_hyp *h)
{
    if (!(h->rights & HYP_MAY_EVTCHN))
        return -EPERM;
    return h->nevtchns == CORE_EVTCHNS_EACH ? -EDQUOT : 0;
}

static int fake_evtchn_alloc(struct hyp *hyp, domid_t remote, struct hyp_evtchn **out)
{
    struct fake_hyp *h = (struct fake_hyp *)hyp;
    int here[2] = { -1, -1 }, there[2] = { -1, -1 };
    pthread_mutex_lock(&lock);
    int err = evtchn_may(h);
    if (err == 0 && !peer_find(h, remote))
        err = -ESRCH;
    if (err == 0 && (pipe2(here, O_NONBLOCK | O_CLOEXEC) || pipe2(there, O_NONBLOCK | O_CLOEXEC)))
        err = -errno;
    if (err == 0) {
        struct fake_evtchn *ch = evtchn_make(h, remote, here[0], there[1]);
        ch->offer_rd = there[0];
        ch->offer_wr = here[1];
        *out = (struct hyp_evtchn *)ch;
    } else if (here[0] >= 0) {
        close(here[0]);
        close(here[1]);
    }
    pthread_mutex_unlock(&lock);
    return err;
}

static int fake_evtchn_bind(struct hyp *hyp, domid_t remote, evtchn_port_t port, struct hyp_evtchn **out)
{
    struct fake_hyp *h = (struct fake_hyp *)hyp;
    pthread_mutex_lock(&lock);
    int err = evtchn_may(h);
    struct fake_hyp *peer = domain_find(remote);
    struct fake_evtchn *theirs = peer ? peer->evtchns : NULL;
    while (theirs && theirs->c.port != port)
        theirs = theirs->next;
    if (err == 0 && (!theirs || theirs->remote != h->c.domid || theirs->offer_rd < 0))
        err = -ENOENT;
    if (err == 0) {
        *out = (struct hyp_evtchn *)evtchn_make(h, remote, theirs->offer_rd, theirs->offer_wr);
        theirs->offer_rd = theirs->offer_wr = -1;
    }
    pthread_mutex_unlock(&lock);
    return err;
}

static int fake_evtchn_notify(struct hyp_evtchn *ch)
{
    return write(((struct fake_evtchn *)ch)->wr, "", 1) == 1 || errno == EAGAIN ? 0 : -errno;
}

static void fake_evtchn_clear(struct hyp_evtchn *ch)
{
    char sink[64];
    while (read(((struct fake_evtchn *)ch)->c.fd, sink, sizeof(sink)) == (ssize_t)sizeof(sink))
        ;
}

static void evtchn_drop(struct fake_evtchn *ch)
{
    close(ch->c.fd);
    close(ch->wr);
    if (ch->offer_rd >= 0) {
        close(ch->offer_rd);
        close(ch->offer_wr);
    }
    UNLINK(ch->owner->evtchns, ch);
    ch->owner->nevtchns--;
    free(ch);
}

static void fake_evtchn_close(struct hyp_evtchn *ch)
{
    pthread_mutex_lock(&lock);
    evtchn_drop((struct fake_evtchn *)ch);
    pthread_mutex_unlock(&lock);
}

/* ------------------------------------------------------------------ handle */

static void fake_close(struct hyp *hyp)
{
    struct fake_hyp *h = (struct fake_hyp *)hyp;
    pthread_mutex_lock(&lock);
    for (struct fake_map *m = h->maps, *next; m; m = next, leaked++) {
        next = m->next;
        map_drop(m);
    }
    for (struct fake_pool *p = h->pools, *next; p; p = next, leaked++) {
        next = p->next;
        pool_drop(p);
    }
    for (struct fake_evtchn *ch = h->evtchns, *next; ch; ch = next, leaked++) {
        next = ch->next;
        evtchn_drop(ch);
    }
    for (unsigned i = 0; i < h->ndevices; i++)
        close(h->device[i].fd);
    for (struct fake_event *e; (e = h->events); free(e))
        h->events = e->next;
    close(h->wake);
    UNLINK(domains, h);
    for (struct fake_hyp *o = domains; o; o = o->next) {
        for (struct fake_pool *p = o->pools; p; p = p->next)
            pool_inherit(p, h->c.domid);
        event_push(o, (struct hyp_event){ .kind = HYP_EV_DEATH, .domid = h->c.domid });
    }
    free(h);
    pthread_mutex_unlock(&lock);
}

/* ----------------------------------------------------------------- devices */

static int fake_device_acquire(struct hyp *hyp, uint32_t number, int *fd)
{
    struct fake_hyp *h = (struct fake_hyp *)hyp;
    pthread_mutex_lock(&lock);
    int err = h->rights & HYP_MAY_DEVICE ? -EAGAIN : -EPERM;
    for (unsigned i = 0; err == -EAGAIN && i < h->ndevices; i++)
        if (h->device[i].number == number) {
            *fd = h->device[i].fd;
            h->device[i] = h->device[--h->ndevices];
            err = 0;
        }
    pthread_mutex_unlock(&lock);
    return err;
}

static const struct hyp_ops fake_ops = {
    .name = "fake",
    .close = fake_close,
    .store_fd = fake_store_fd,
    .store_connect = fake_store_connect,
    .fd = fake_fd,
    .next_event = fake_next_event,
    .ready = fake_ready,
    .restrict_to = fake_restrict,
    .pool_create = fake_pool_create,
    .pool_regrant = fake_pool_regrant,
    .pool_share = fake_pool_share,
    .pool_end = fake_pool_end,
    .pool_faulted = fake_pool_faulted,
    .map_open = fake_map_open,
    .map_close = fake_map_close,
    .map_grants = fake_map_grants,
    .unmap_grants = fake_unmap_grants,
    .map_persistent = fake_map_persistent,
    .map_run = fake_map_run,
    .map_range = fake_map_range,
    .grant_copy = fake_grant_copy,
    .map_faulted = fake_map_faulted,
    .guard_memory_faults = fake_guard,
    .evtchn_alloc = fake_evtchn_alloc,
    .evtchn_bind = fake_evtchn_bind,
    .evtchn_notify = fake_evtchn_notify,
    .evtchn_clear = fake_evtchn_clear,
    .evtchn_close = fake_evtchn_close,
    .device_acquire = fake_device_acquire,
};

struct hyp *fake_hyp_new(domid_t domid)
{
    struct fake_hyp *h = calloc(1, sizeof(*h));
    if (!h)
        abort();
    signal(SIGPIPE, SIG_IGN);
    h->c = (struct hyp_common){ &fake_ops, domid };
    h->rights = ALL_RIGHTS;
    h->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_lock(&lock);
    if (h->wake < 0 || domain_find(domid))
        abort();
    h->next = domains;
    domains = h;
    pthread_mutex_unlock(&lock);
    return (struct hyp *)h;
}

void fake_hyp_fault(struct hyp *grantee)
{
    __atomic_store_n(&((struct fake_hyp *)grantee)->faulted, true, __ATOMIC_RELAXED);
}

void fake_hyp_store(int (*connect)(domid_t))
{
    store_connect = connect;
}

void fake_hyp_device(struct hyp *hyp, uint32_t number, int fd)
{
    struct fake_hyp *h = (struct fake_hyp *)hyp;
    pthread_mutex_lock(&lock);
    if (h->ndevices == DEVICES_MAX)
        abort();
    h->device[h->ndevices].number = number;
    h->device[h->ndevices++].fd = fd;
    event_push(h, (struct hyp_event){ .kind = HYP_EV_DEVICE, .domid = h->c.domid, .device = number });
    pthread_mutex_unlock(&lock);
}

void fake_hyp_stop(struct hyp *hyp)
{
    pthread_mutex_lock(&lock);
    event_push((struct fake_hyp *)hyp, (struct hyp_event){ .kind = HYP_EV_STOP });
    pthread_mutex_unlock(&lock);
}

unsigned fake_hyp_reset(void)
{
    pthread_mutex_lock(&lock);
    unsigned n = leaked;
    for (struct fake_hyp *h = domains; h; h = h->next)
        n++;
    leaked = 0;
    store_connect = NULL;
    next_ref = FIRST_REF;
    next_port = 1;
    pthread_mutex_unlock(&lock);
    return n;
}
