/* SPDX-License-Identifier: MIT */
/*
 * A peer can make a hole in memory that both have mapped; the size of a pool
 * is sealed, its content is not.  The next touch fills the hole again, unless
 * the machine has no page to give: then it is a SIGBUS, in whoever touched it.
 * The handler below puts private zeroes over the whole range and leaves a
 * mark.  It uses only mmap and memory, and so works in a sealed domain.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

#include "client.h"
#include "guard.h"

#define GUARDED_MAX 64 /* handles of one process */

static _Atomic(struct local_hyp *) handles[GUARDED_MAX];
static struct guarded ranges[GUARD_RANGES_MAX];
static atomic_uint ranges_end; /* one behind the last that was ever used */
static struct sigaction before;
static pthread_mutex_t setup = PTHREAD_MUTEX_INITIALIZER;
static bool installed;

/* True when addr lay in the range, which is now zeroes of our own. */
static bool replace(struct guarded *g, const void *addr)
{
    char *base = atomic_load_explicit(&g->base, memory_order_acquire);
    size_t bytes = g->bytes;
    /* Another thread may be reusing this entry for another range; not ours then. */
    if (!base || (uintptr_t)addr - (uintptr_t)base >= bytes || atomic_load(&g->base) != base)
        return false;
    if (mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
             -1, 0) == MAP_FAILED)
        return false;
    atomic_store(g->faulted, 1);
    return true;
}

static bool replace_in(struct local_hyp *h, const void *addr)
{
    for (unsigned i = 0; i < CLIENT_MAPPED_MAX; i++)
        if (replace(&h->mapped[i].range, addr))
            return true;
    for (unsigned i = 0; i < CLIENT_WINDOWS_MAX; i++)
        if (replace(&h->windows[i].range, addr))
            return true;
    for (unsigned i = 0; i < CORE_POOLS_EACH; i++)
        if (replace(&h->pools[i].range, addr))
            return true;
    return false;
}

static bool replace_range(const void *addr)
{
    unsigned end = atomic_load(&ranges_end);
    for (unsigned i = 0; i < end; i++)
        if (replace(&ranges[i], addr))
            return true;
    return false;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
    (void)context;
    int saved = errno;
    if (info->si_code > 0) { /* from the kernel, for an address */
        bool found = replace_range(info->si_addr);
        for (unsigned i = 0; i < GUARDED_MAX && !found; i++) {
            struct local_hyp *h = atomic_load(&handles[i]);
            found = h && replace_in(h, info->si_addr);
        }
        if (found) {
            errno = saved;
            return;
        }
    }
    /* Not ours.  The fault comes again when we return, a sent signal does not;
     * in a sealed domain these two calls end the process, which is the point. */
    sigaction(SIGBUS, &before, NULL);
    if (info->si_code <= 0)
        raise(sig);
    errno = saved;
}

static int install(void)
{
    struct sigaction ours = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
    sigemptyset(&ours.sa_mask);
    if (sigaction(SIGBUS, &ours, &before))
        return -errno;
    installed = true;
    return 0;
}

int guard_install(void)
{
    struct sigaction now;
    pthread_mutex_lock(&setup);
    /* Someone may have put his own handler over ours. */
    bool ours = installed && sigaction(SIGBUS, NULL, &now) == 0 && now.sa_sigaction == on_sigbus;
    int err = ours ? 0 : install();
    pthread_mutex_unlock(&setup);
    return err;
}

int guard_add(void *base, size_t bytes, atomic_int *faulted)
{
    int at = 0;
    pthread_mutex_lock(&setup);
    while (at < GUARD_RANGES_MAX && atomic_load(&ranges[at].base))
        at++;
    if (at < GUARD_RANGES_MAX) {
        ranges[at].bytes = bytes;
        ranges[at].faulted = faulted;
        atomic_store_explicit(&ranges[at].base, base, memory_order_release);
        if ((unsigned)at >= atomic_load(&ranges_end))
            atomic_store(&ranges_end, (unsigned)at + 1);
    } else {
        at = -ENOSPC;
    }
    pthread_mutex_unlock(&setup);
    return at;
}

void guard_remove(int number)
{
    atomic_store_explicit(&ranges[number].base, NULL, memory_order_release);
}

int client_guard(struct hyp *hyp)
{
    struct local_hyp *h = (struct local_hyp *)hyp;
    pthread_mutex_lock(&setup);
    int err = installed ? 0 : install();
    unsigned at = 0;
    while (at < GUARDED_MAX && atomic_load(&handles[at]) && atomic_load(&handles[at]) != h)
        at++;
    if (err == 0 && at == GUARDED_MAX)
        err = -ENOSPC;
    if (err == 0)
        atomic_store(&handles[at], h);
    pthread_mutex_unlock(&setup);
    return err;
}

void client_unguard(struct local_hyp *h)
{
    pthread_mutex_lock(&setup);
    for (unsigned i = 0; i < GUARDED_MAX; i++)
        if (atomic_load(&handles[i]) == h)
            atomic_store(&handles[i], NULL);
    pthread_mutex_unlock(&setup);
}
