/* SPDX-License-Identifier: MIT */
/*
 * client.h - the local implementation of hyp.h: what its files share.
 *
 *   client.c  the connection to the core: calls, replies, events; channels;
 *             devices; the toolstack's calls
 *   grants.c  pools, maps and grant copy
 *   guard.c   SIGBUS on granted memory
 *
 * Everything lives in tables inside the handle, which hyp_open() maps once: a
 * sealed domain cannot allocate.  One mutex guards the tables and the
 * connection.  What a request touches (a map's slots, a channel's pipes)
 * belongs to one thread and is used without it.
 */
#ifndef BULKHEAD_LOCAL_CLIENT_H
#define BULKHEAD_LOCAL_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto.h"

#define CLIENT_MAPS_MAX    512
#define CLIENT_MAPPED_MAX  512  /* pools of others, mapped by this process      */
#define CLIENT_WINDOWS_MAX 1024 /* groups of scattered grants, mapped           */
#define CLIENT_SLOTS_MAX   CORE_POOLS_EACH /* pools of one peer                 */
#define CLIENT_EVTCHNS_MAX CORE_EVTCHNS_MAX
#define CLIENT_EVENTS_MAX  4096 /* a power of two                               */

/* A range that guard.c knows.  base is set last and cleared first, so that a
 * signal handler may look at any time. */
struct guarded {
    _Atomic(char *) base; /* NULL: unused                                       */
    size_t bytes;         /* as mapped: whole huge pages for a huge pool        */
    atomic_int *faulted;  /* set when the range was replaced                    */
};

/* Our own pool. */
struct local_pool {
    struct hyp_pool_common c;
    struct local_hyp *hyp; /* NULL: unused                                      */
    struct guarded range;
    atomic_int faulted;
};

/* A peer's pool, mapped once for the whole process. */
struct mapped_pool {
    struct guarded range;
    atomic_int faulted;
    unsigned users; /* slots that point here; 0: unused                         */
    domid_t granter;
    grant_ref_t first;
    uint32_t pages;
    int memfd;      /* for windows                                              */
    bool rdonly, huge;
};

/* A map's private view of a mapped pool: all that a look-up touches. */
struct slot {
    grant_ref_t first;
    uint32_t pages;
    char *base;
    struct mapped_pool *pool;
    uint32_t uses; /* hyp_map_grants() calls not undone                         */
    bool rdonly;
};

/* Scattered grants that were put together page by page. */
struct window {
    struct guarded range;
    struct local_map *map; /* NULL: unused                                      */
    struct window *next;   /* of the same map                                   */
    size_t pages;
};

struct local_map {
    struct hyp_map_common c;
    struct slot *hot; /* the last one found                                     */
    unsigned nslots;
    domid_t granter;
    struct local_hyp *hyp; /* NULL: unused                                      */
    struct window *windows;
    atomic_int window_faulted;
    struct slot slots[CLIENT_SLOTS_MAX];
};

struct local_evtchn {
    struct hyp_evtchn_common c; /* fd: our end to read                          */
    int wr;
    domid_t peer;
    struct local_hyp *hyp; /* NULL: unused                                      */
};

struct local_hyp {
    struct hyp_common c;
    pthread_mutex_t lock;
    int core_fd;
    int store_fd; /* -1: to be had from the core                                */
    bool store_taken;
    int wake_fd;  /* eventfd, not zero while `events` has something             */
    int poll_fd;  /* epoll over core_fd and wake_fd                             */
    uint32_t seq;
    bool gone;    /* the core hung up                                           */
    uint32_t events_in, events_out;
    struct hyp_event events[CLIENT_EVENTS_MAX];
    int event_fds[CLIENT_EVENTS_MAX]; /* that came along; -1                    */
    uint32_t device; /* of the last event taken, and what came along: -1 none   */
    int device_fd;
    uint64_t dead[LOCAL_DOMID_LAST / 64 + 1]; /* told so; until it is met again  */
    struct local_pool pools[CORE_POOLS_EACH];
    struct local_evtchn evtchns[CLIENT_EVTCHNS_MAX];
    struct mapped_pool mapped[CLIENT_MAPPED_MAX];
    struct window windows[CLIENT_WINDOWS_MAX];
    struct local_map maps[CLIENT_MAPS_MAX];
};

/*
 * One call and its reply; the caller holds the lock.  call->seq is filled in.
 * Exactly nfds descriptors come with a good reply, or it is -EMFILE (some were
 * lost: ours is a full table) and none is kept.
 */
int client_call(struct local_hyp *h, struct core_call *call, size_t bytes, struct core_reply *reply,
                int *fds, unsigned nfds);

/* grants.c */
extern const struct hyp_ops client_ops;
int client_pool_create(struct hyp *hyp, domid_t grantee, size_t pages, unsigned flags, struct hyp_pool **out);
int client_pool_regrant(struct hyp_pool *pool, domid_t grantee);
int client_pool_share(struct hyp_pool *pool, domid_t spare);
int client_pool_end(struct hyp_pool *pool);
int client_pool_faulted(const struct hyp_pool *pool);
int client_map_open(struct hyp *hyp, domid_t granter, struct hyp_map **out);
void client_map_close(struct hyp_map *map);
int client_map_grants(struct hyp_map *map, const grant_ref_t *refs, size_t n, unsigned flags, void **va);
int client_unmap_grants(struct hyp_map *map, void *va, size_t n);
void *client_map_persistent(struct hyp_map *map, grant_ref_t ref);
int client_map_run(struct hyp_map *map, grant_ref_t ref, struct hyp_run *out);
int client_map_range(const struct hyp_map *map, const void *va, struct hyp_range *out);
int client_grant_copy(struct hyp_map *map, struct hyp_copy *pieces, size_t n);
int client_map_faulted(const struct hyp_map *map);
/* Unmaps everything, without a word to the core. */
void client_grants_drop(struct local_hyp *h);

/* guard.c */
int client_guard(struct hyp *hyp);
void client_unguard(struct local_hyp *h);

#endif
