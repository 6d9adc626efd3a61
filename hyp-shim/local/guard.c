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

#define GUARDED_MAX 64 /* handles of one process */

static _Atomic(struct local_hyp *) handles[GUARDED_MAX];
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

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
    (void)context;
    int saved = errno;
    if (info->si_code > 0) /* from the kernel, for an address */
        for (unsigned i = 0; i < GUARDED_MAX; i++) {
            struct local_hyp *h = atomic_load(&handles[i]);
            if (h && replace_in(h, info->si_addr)) {
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
