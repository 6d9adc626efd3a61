/* SPDX-License-Identifier: MIT */
#include "memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "../../../hyp-shim/local/guard.h"

/* Pages that a file can be made of, small ones first. */
static const size_t page_sizes[] = { (size_t)4 << 10, (size_t)2 << 20, (size_t)1 << 30 };
#define PAGE_SIZES (sizeof(page_sizes) / sizeof(page_sizes[0]))

/* ------------------------------------------------------------------ mapping */

/* The size of a file's pages: an offset of less than one cannot be mapped. */
static int page_size_of(int fd, size_t *out)
{
    for (unsigned i = 0; i < PAGE_SIZES; i++) {
        void *probe = mmap(NULL, page_sizes[i], PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd,
                           (off_t)page_sizes[i]);
        if (probe != MAP_FAILED) {
            munmap(probe, page_sizes[i]);
            *out = page_sizes[i];
            return 0;
        }
        if (errno != EINVAL)
            return -errno;
    }
    return -EINVAL;
}

static void region_unmap(struct vhost_region *r)
{
    guard_remove(r->guard);
    munmap(r->base, r->base_bytes);
    *r = (struct vhost_region){ .guard = -1 };
}

/* A file that is shorter shows when its last byte is touched. */
static bool ends_there(const struct vhost_region *r, const atomic_int *faulted)
{
    (void)*(volatile const char *)r->mapped;
    (void)*(volatile const char *)(r->mapped + r->at.bytes - 1);
    return atomic_load(faulted) == 0;
}

static int region_map(struct vhost_region *r, const struct vhost_region_at *at, int fd, atomic_int *faulted)
{
    size_t page = 0;
    atomic_int missing = 0;
    int err = page_size_of(fd, &page);
    if (err)
        return err;
    uint64_t into = at->offset & (page - 1);
    size_t bytes = (size_t)((into + at->bytes + page - 1) & ~(uint64_t)(page - 1));
    char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
                      (off_t)(at->offset - into));
    if (base == MAP_FAILED)
        return -errno;
    *r = (struct vhost_region){ .at = *at, .mapped = base + into, .base = base, .base_bytes = bytes };

    /* Until it is known to be whole a fault is no fault of what is in use. */
    r->guard = guard_add(base, bytes, &missing);
    if (r->guard < 0) {
        err = r->guard;
        munmap(base, bytes);
        return err;
    }
    bool whole = ends_there(r, &missing);
    guard_remove(r->guard);
    if (whole)
        r->guard = guard_add(base, bytes, faulted);
    if (!whole || r->guard < 0) {
        err = whole ? r->guard : -EINVAL;
        munmap(base, bytes);
    }
    return err;
}

/* ---------------------------------------------------------------- the table */

static bool is_right(const struct vhost_region_at *at)
{
    return at->bytes > 0 && at->bytes <= VHOST_REGION_BYTES_MAX && at->offset <= VHOST_REGION_BYTES_MAX &&
           at->bytes - 1 <= UINT64_MAX - at->guest && at->bytes - 1 <= UINT64_MAX - at->user;
}

static bool meet(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a <= b ? b - a < a_bytes : a - b < b_bytes;
}

static bool overlap(const struct vhost_region_at *a, const struct vhost_region_at *b)
{
    return meet(a->guest, a->bytes, b->guest, b->bytes) || meet(a->user, a->bytes, b->user, b->bytes);
}

/* Puts it where it belongs. */
static int insert(struct vhost_memory *mem, const struct vhost_region_at *at, int fd, atomic_int *faulted)
{
    unsigned to = mem->n;
    if (mem->n == VHOST_REGIONS_MAX)
        return -E2BIG;
    if (!is_right(at))
        return -EINVAL;
    for (unsigned i = 0; i < mem->n; i++)
        if (overlap(at, &mem->region[i].at))
            return -EINVAL;
    struct vhost_region r;
    int err = region_map(&r, at, fd, faulted);
    if (err)
        return err;
    for (; to > 0 && mem->region[to - 1].at.guest > at->guest; to--)
        mem->region[to] = mem->region[to - 1];
    mem->region[to] = r;
    mem->n++;
    mem->last = to;
    return 0;
}

static void unmap_all(struct vhost_memory *mem)
{
    for (unsigned i = 0; i < mem->n; i++)
        region_unmap(&mem->region[i]);
    mem->n = mem->last = 0;
}

int vhost_memory_set(struct vhost_memory *mem, const struct vhost_region_at *at, const int *fds, unsigned n)
{
    struct vhost_memory next = { .n = 0 };
    int err = 0;
    for (unsigned i = 0; i < n && err == 0; i++)
        err = insert(&next, &at[i], fds[i], &mem->faulted);
    if (err) {
        unmap_all(&next);
        return err;
    }
    unmap_all(mem);
    mem->n = next.n;
    mem->last = next.last;
    memcpy(mem->region, next.region, sizeof(next.region));
    return 0;
}

int vhost_memory_add(struct vhost_memory *mem, const struct vhost_region_at *at, int fd)
{
    return insert(mem, at, fd, &mem->faulted);
}

int vhost_memory_remove(struct vhost_memory *mem, const struct vhost_region_at *at)
{
    for (unsigned i = 0; i < mem->n; i++) {
        const struct vhost_region_at *have = &mem->region[i].at;
        if (have->guest != at->guest || have->user != at->user || have->bytes != at->bytes)
            continue;
        region_unmap(&mem->region[i]);
        mem->n--;
        for (; i < mem->n; i++)
            mem->region[i] = mem->region[i + 1];
        mem->last = 0;
        return 0;
    }
    return -ENOENT;
}

void vhost_memory_clear(struct vhost_memory *mem)
{
    unmap_all(mem);
    atomic_store(&mem->faulted, 0);
}

/* ---------------------------------------------------------------- addresses */

void *vhost_memory_user(struct vhost_memory *mem, uint64_t user, uint64_t bytes)
{
    for (unsigned i = 0; i < mem->n; i++) {
        const struct vhost_region *r = &mem->region[i];
        uint64_t at = user - r->at.user;
        if (user >= r->at.user && at < r->at.bytes && bytes <= r->at.bytes - at)
            return r->mapped + at;
    }
    return NULL;
}

/* The region in which an address lies. */
static struct vhost_region *find(struct vhost_memory *mem, uint64_t guest)
{
    unsigned low = 0, high = mem->n;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        struct vhost_region *r = &mem->region[mid];
        if (guest < r->at.guest) {
            high = mid;
        } else if (guest - r->at.guest >= r->at.bytes) {
            low = mid + 1;
        } else {
            mem->last = mid;
            return r;
        }
    }
    return NULL;
}

unsigned vhost_memory_guest(struct vhost_memory *mem, uint64_t guest, uint64_t bytes, struct iovec *out,
                            unsigned room)
{
    unsigned n = 0;
    void *hot = vhost_memory_hot(mem, guest, bytes);
    if (hot && bytes > 0 && room > 0) {
        out[0] = (struct iovec){ hot, bytes };
        return 1;
    }
    while (bytes > 0) {
        const struct vhost_region *r = find(mem, guest);
        if (!r || n == room)
            return 0;
        uint64_t at = guest - r->at.guest, part = r->at.bytes - at;
        if (part > bytes)
            part = bytes;
        out[n++] = (struct iovec){ r->mapped + at, part };
        bytes -= part;
        if (bytes > 0 && part > UINT64_MAX - guest)
            return 0; /* the address space ends here */
        guest += part;
    }
    return n;
}
