/* SPDX-License-Identifier: MIT */
/*
 * memory.h - a guest's memory, as its VMM shows it to one device: regions of
 * memfds, mapped here.
 *
 * The VMM and the guest may change any byte at any time, and may make a region
 * shorter than it was: what is read here is copied once, checked, then used, and a
 * page that is gone is zeroes of our own with a mark (vhost_memory_faulted()), no
 * SIGBUS.  Addresses are looked up at each use; a region ends, none wraps.
 *
 * One thread, the device's.  vhost-user: SET_MEM_TABLE, ADD_MEM_REG, REM_MEM_REG.
 */
#ifndef BULKHEAD_VHOST_MEMORY_H
#define BULKHEAD_VHOST_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define VHOST_REGIONS_MAX 32u
#define VHOST_REGION_BYTES_MAX (UINT64_C(1) << 44)

/* As the VMM names it. */
struct vhost_region_at {
    uint64_t guest;  /* guest physical address                                     */
    uint64_t bytes;
    uint64_t user;   /* address in the VMM: ring addresses come as those           */
    uint64_t offset; /* into the file                                              */
};

struct vhost_region {
    struct vhost_region_at at;
    char *mapped;    /* byte 0 of the region                                       */
    void *base;      /* what was mapped: whole pages                               */
    size_t base_bytes;
    int guard;       /* its entry in the guard's table                             */
};

struct vhost_memory {
    unsigned n;      /* regions, sorted by guest address                           */
    unsigned last;   /* found there before: looked at first                        */
    struct vhost_region region[VHOST_REGIONS_MAX];
    atomic_int faulted; /* set by the guard                                        */
};

/* All at once: what was before is unmapped when all of it is right, else stays.  fds are
 * the caller's, to close.  -EINVAL: overlaps, wraps, is empty, or is longer than its file;
 * -E2BIG, and what mmap() says.  guard_install() was called.
 * The file is the VMM's: one that answers page faults late (FUSE, userfaultfd) holds up the
 * thread of this device, no other. */
int vhost_memory_set(struct vhost_memory *mem, const struct vhost_region_at *at, const int *fds, unsigned n);
int vhost_memory_add(struct vhost_memory *mem, const struct vhost_region_at *at, int fd);
/* By guest address, user address and length, as the protocol wants; -ENOENT. */
int vhost_memory_remove(struct vhost_memory *mem, const struct vhost_region_at *at);
void vhost_memory_clear(struct vhost_memory *mem);

/* bytes at an address of the VMM's, all in one region; NULL: there is no such place. */
void *vhost_memory_user(struct vhost_memory *mem, uint64_t user, uint64_t bytes);
/* bytes of guest memory in pieces; how many, 0: outside, or more pieces than room. */
unsigned vhost_memory_guest(struct vhost_memory *mem, uint64_t guest, uint64_t bytes, struct iovec *out,
                            unsigned room);
/* The same where most lie: in one region, and at a glance. */
static inline void *vhost_memory_hot(const struct vhost_memory *mem, uint64_t guest, uint64_t bytes)
{
    const struct vhost_region *r = &mem->region[mem->last];
    uint64_t at = guest - r->at.guest;
    if (mem->n == 0 || at >= r->at.bytes || bytes > r->at.bytes - at)
        return NULL;
    return r->mapped + at;
}
/* A page of it was gone when it was touched: the connection is broken. */
static inline bool vhost_memory_faulted(const struct vhost_memory *mem)
{
    return atomic_load_explicit(&mem->faulted, memory_order_relaxed);
}

#endif
