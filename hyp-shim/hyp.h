/* SPDX-License-Identifier: MIT */
/*
 * hyp.h - the one door to the hypervisor.
 *
 * A domain opens one handle and does everything through it: grants, event
 * channels, devices, news of deaths.  Two hypervisors stand behind the door,
 * chosen when the handle is opened through a const table of functions
 * (struct hyp_ops): `local`, where a domain is a jailed process and the core
 * of this project is the hypervisor, and Xen.  No caller knows which.
 *
 * Conventions.  Functions return 0 or a count on success and a negative errno
 * on failure.  A page is HYP_PAGE_SIZE bytes whatever the machine's page size
 * or the backing is.  A handle may be used from several threads; an object
 * made from it (pool, map, event channel) belongs to one thread at a time.
 *
 * Trust.  Everything that a peer domain controls (a grant reference it names,
 * a port it names, its domid in a store node) may be a lie; these calls refuse
 * lies with an errno and never act on them in part.
 */
#ifndef BULKHEAD_HYP_H
#define BULKHEAD_HYP_H

#include <stddef.h>
#include <stdint.h>

#include <xen/xen.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>

#define HYP_PAGE_SHIFT 12
#define HYP_PAGE_SIZE  (1u << HYP_PAGE_SHIFT)

/* The control domain: toolstack and store clients that run as root. */
#define HYP_DOMID_TOOLSTACK ((domid_t)0)

struct hyp;        /* one domain's handle                                  */
struct hyp_pool;   /* pages that this domain grants to one peer             */
struct hyp_map;    /* this domain's access to one peer's grants             */
struct hyp_evtchn; /* one end of an event channel                           */

/* ------------------------------------------------------------------ handle */

/*
 * Opens this domain's handle.
 *
 * where NULL: this process *is* a domain and was started as one (local: the
 * inherited descriptors that HYP_ENV_FDS names; Xen: /dev/xen).
 * where a path: become the domain whose attach socket that is (local only;
 * see `door='native'`).  The socket's file permissions say who may.
 *
 * -ENOENT no such domain; -EBUSY another program already is that domain;
 * -EACCES not allowed; -EPROTO the far end speaks another protocol version;
 * -ENODEV this process was not started as a domain and no path was given.
 *
 * SIGPIPE is ignored from then on where it had its default action: the death
 * of a peer must not end this process.
 */
int hyp_open(struct hyp **out, const char *where);

/* Ends the handle and everything made from it.  Peers see this as a death. */
void hyp_close(struct hyp *hyp);

/* Environment variable, "CORE,STORE": descriptor numbers of the core and
 * store connections of a process that was started as a domain (local). */
#define HYP_ENV_FDS "BULKHEAD_FDS"

domid_t hyp_domid(const struct hyp *hyp);

/*
 * The store connection that came with the handle (local: a connected stream
 * socket that speaks xs_wire.h, owned by the caller of this function from now
 * on; only the first call succeeds, later ones get -ENOENT).  store.h uses it.
 */
int hyp_store_fd(struct hyp *hyp);

/*
 * A new connection to the store, after the old one hung up: the store died and
 * was started again (local).  The descriptor, which the caller owns.  -EAGAIN:
 * the store does not run yet, ask again a little later; -EDQUOT: this domain
 * had its share of connections to this store; -ENOTCONN.
 */
int hyp_store_connect(struct hyp *hyp);

/*
 * Readable (POLLIN) when hyp_next_event() has something to say, its -ENOTCONN
 * included: then the hypervisor itself is gone; end the process.  Owned by the
 * handle.
 */
int hyp_fd(const struct hyp *hyp);

enum hyp_event_kind {
    HYP_EV_DEATH = 1, /* domid: a domain is dead and its process reaped      */
    HYP_EV_DEVICE,    /* domid, device, error: an assigned device was opened
                       * (error 0: hyp_device_acquire() will succeed) or not
                       * (negative errno).  Sent to its driver domain (only
                       * success) and to the toolstack.  To a driver domain that
                       * has asked for it already the descriptor comes along, and
                       * is lost when the next event is taken first          */
    HYP_EV_STOP,      /* asked to finish work in flight, then exit           */
    HYP_EV_READY,     /* domid called hyp_ready(); toolstack only            */
};

struct hyp_event {
    enum hyp_event_kind kind;
    domid_t domid;
    uint32_t device;
    int error; /* DEATH of a process, for the toolstack: its wait status */
    uint64_t at_ns; /* CLOCK_MONOTONIC, when the hypervisor learned of it   */
};

/* Takes the next event: 1 got one, 0 none now, -ENOTCONN hypervisor gone.
 * Never blocks. */
int hyp_next_event(struct hyp *hyp, struct hyp_event *ev);

/* Tells the toolstack that this domain entered its steady state. */
int hyp_ready(struct hyp *hyp);

/*
 * Gives up, for good, the right to make calls that a running domain needs no
 * more.  May be called again with a smaller set; rights never come back.
 */
#define HYP_MAY_GRANT   (1u << 0) /* make pools                              */
#define HYP_MAY_MAP     (1u << 1) /* map grants of others                    */
#define HYP_MAY_EVTCHN  (1u << 2) /* make and bind event channels            */
#define HYP_MAY_DEVICE  (1u << 3) /* acquire devices assigned to it          */
#define HYP_MAY_CONTROL (1u << 4) /* toolstack calls                         */
int hyp_restrict(struct hyp *hyp, uint32_t keep);

/* ------------------------------------------------------------ granter side */

#define HYP_POOL_RDONLY (1u << 0) /* the grantee may only read               */

/*
 * Allocates pages of zeroed memory, all granted to one peer and to no one
 * else.  local: one memfd whose size is sealed, in huge pages when the machine
 * has them free.  -ENOMEM; -EDQUOT: this domain's limit of pools or pages;
 * -ESRCH: no such peer.
 */
int hyp_pool_create(struct hyp *hyp, domid_t grantee, size_t pages,
                    unsigned flags, struct hyp_pool **out);

/* Base address; page i starts at base + i * HYP_PAGE_SIZE. */
void *hyp_pool_base(const struct hyp_pool *pool);
size_t hyp_pool_pages(const struct hyp_pool *pool);
/* The grant reference of page i; consecutive or not is the hypervisor's choice. */
grant_ref_t hyp_pool_ref(const struct hyp_pool *pool, size_t page);

/*
 * Grants the same pages, content and addresses kept, to another peer instead.
 * Only after the old grantee's death was reported: -EBUSY before.  All grant
 * references change.  This is how a frontend moves to a reborn driver domain.
 */
int hyp_pool_regrant(struct hyp_pool *pool, domid_t grantee);

/*
 * Grants the same pages, by the same references, to a second peer as well: to
 * the spare of the grantee, of the same trust.  When the grantee dies the spare
 * is the grantee, and nothing changes for anyone; when the spare dies there is
 * none again.  -EBUSY: the pool has a spare; -ESRCH: no such peer, or the
 * grantee is dead: regrant instead.
 */
int hyp_pool_share(struct hyp_pool *pool, domid_t spare);

/*
 * Ends the grants and frees the pages.  -EBUSY while the grantee has them
 * mapped: nothing changed, try again after its death or its unmap.
 */
int hyp_pool_end(struct hyp_pool *pool);

/*
 * True when memory of this pool went away (its grantee made a hole that could
 * not be filled again): what is there now is private zeroes that no peer sees.
 * End the pool and make another.  See hyp_guard_memory_faults().
 */
int hyp_pool_faulted(const struct hyp_pool *pool);

/* ------------------------------------------------------------ grantee side */

/* Access to grants of one peer.  Cheap; one for each connection and thread. */
int hyp_map_open(struct hyp *hyp, domid_t granter, struct hyp_map **out);

/* Unmaps whatever is left and ends it. */
void hyp_map_close(struct hyp_map *map);

#define HYP_MAP_RDONLY (1u << 0)

/*
 * Maps n grants, in order, at consecutive addresses.  -EACCES: a reference
 * that the peer did not grant to this domain (or not for writing); then none
 * is mapped.  -ENOSPC: too many mappings.  -EOPNOTSUPP (local): the grants are
 * not consecutive and lie in huge pages, which cannot be put together page by
 * page; map them one by one.
 *
 * local: one pool counts as mapped by this domain from the first map of one of
 * its grants until hyp_map_close(), so that mapping and unmapping consecutive
 * grants for each request costs no system call.
 */
int hyp_map_grants(struct hyp_map *map, const grant_ref_t *refs, size_t n,
                   unsigned flags, void **va);
/* Undoes one hyp_map_grants() call: the same address and count. */
int hyp_unmap_grants(struct hyp_map *map, void *va, size_t n);

/*
 * The address of one grant that stays mapped until hyp_map_close(): for peers
 * that negotiated persistent grants.  The first look-up of a page may map a
 * whole pool; later ones are a few instructions and no system call.
 * NULL: not granted, or for reading only (nothing happened).
 */
void *hyp_map_persistent(struct hyp_map *map, grant_ref_t ref);

/*
 * The same for a hot path: a run of consecutive references around ref that lie
 * at consecutive addresses, good until hyp_map_close().  A later reference that
 * is in the run needs no call; see hyp_run_page().  False: as NULL there, and
 * *out is unchanged.
 */
struct hyp_run {
    grant_ref_t first;
    uint32_t pages;
    uint8_t *base;
};
int hyp_map_run(struct hyp_map *map, grant_ref_t ref, struct hyp_run *out);

/* The page of a reference, with the run where the last one was (all zero at first);
 * NULL: not granted, or for reading only. */
static inline uint8_t *hyp_run_page(struct hyp_map *map, grant_ref_t ref, struct hyp_run *run)
{
    if (__builtin_expect((grant_ref_t)(ref - run->first) >= run->pages, 0) && !hyp_map_run(map, ref, run))
        return NULL;
    return run->base + ((size_t)(grant_ref_t)(ref - run->first) << HYP_PAGE_SHIFT);
}

/*
 * The memory range around an address that hyp_map_persistent() returned which
 * is one mapping: for registering it with the kernel (io_uring fixed buffers).
 * id is small, unique among the live ranges of this map and stable.
 */
struct hyp_range {
    void *base;
    size_t bytes;
    unsigned id;
};
int hyp_map_range(const struct hyp_map *map, const void *va, struct hyp_range *out);

/* One piece of a batched grant copy; may not cross the granted page. */
struct hyp_copy {
    grant_ref_t ref;
    uint16_t offset; /* bytes into the granted page                          */
    uint16_t bytes;  /* offset + bytes <= HYP_PAGE_SIZE                      */
    void *local;     /* private memory of the caller                         */
    int16_t status;  /* out: 0 or a negative errno                           */
    uint8_t to_grant; /* 1: local -> grant, 0: grant -> local                */
};
/* Copies n pieces; returns 0 when all went well, else the first error. */
int hyp_grant_copy(struct hyp_map *map, struct hyp_copy *pieces, size_t n);

/*
 * True when memory behind this map went away under the reader (a peer made a
 * hole that could not be filled again): what was read since is zeroes.  The
 * connection must be broken.  See hyp_guard_memory_faults().
 */
int hyp_map_faulted(const struct hyp_map *map);

/*
 * Once for each handle, before any pool or map: a fault (SIGBUS) on a mapped
 * grant or on a pool puts private zero pages there and marks the map or the
 * pool faulted instead of ending the process.  Any other SIGBUS stays fatal.
 */
int hyp_guard_memory_faults(struct hyp *hyp);

/* ---------------------------------------------------------- event channels */

/* A new channel that only `remote` may bind; publish hyp_evtchn_port(). */
int hyp_evtchn_alloc(struct hyp *hyp, domid_t remote, struct hyp_evtchn **out);
/* Binds the other end of a channel that `remote` allocated for us. -ENOENT:
 * it did not, or someone bound it already. */
int hyp_evtchn_bind(struct hyp *hyp, domid_t remote, evtchn_port_t port,
                    struct hyp_evtchn **out);
evtchn_port_t hyp_evtchn_port(const struct hyp_evtchn *ch);
/* Readable (POLLIN) when the peer rang; POLLHUP when the peer is gone. */
int hyp_evtchn_fd(const struct hyp_evtchn *ch);
/* Rings.  Never blocks; ringing a peer that has not looked yet is a no-op.
 * -EPIPE: the peer is gone. */
int hyp_evtchn_notify(struct hyp_evtchn *ch);
/* Forgets the rings so far (a flood may leave some, and hyp_evtchn_fd() then
 * stays readable).  Look at the ring *after* this. */
void hyp_evtchn_clear(struct hyp_evtchn *ch);
void hyp_evtchn_close(struct hyp_evtchn *ch);

/* ----------------------------------------------------------------- devices */

/*
 * Driver domain: takes the device that the toolstack assigned as `device`
 * (a number both know from the store) and that HYP_EV_DEVICE announced.
 * *fd is a fresh open, and carries the fence: an exclusive lock that the last
 * owner had until its last I/O was done.  The kernel says when; or its death
 * does, where its threads alone did the I/O (core/child.c).  -ENOENT nothing assigned;
 * -EAGAIN not open yet.
 */
int hyp_device_acquire(struct hyp *hyp, uint32_t device, int *fd);

/* ----------------------------------------------- toolstack only (else -EPERM) */

/* What a domain runs; the hypervisor holds a const table of programs. */
enum hyp_class {
    HYP_CLASS_STORE = 1, /* the store: see hyp_domain_create()               */
    HYP_CLASS_BLK,       /* driver domain, disks                             */
    HYP_CLASS_NBD,       /* guest behind an NBD door                         */
    HYP_CLASS_NATIVE,    /* guest: a program that attaches by itself         */
    HYP_CLASS_NET,       /* driver domain, NICs                              */
    HYP_CLASS_TAP,       /* guest behind TAP doors                           */
    HYP_CLASS_NETDEV,    /* local: keeper of the machine's network interfaces */
    HYP_CLASS_VHOST,     /* guest behind vhost-user sockets                  */
    HYP_CLASS_COUNT
};

#define HYP_NAME_MAX 64
#define HYP_FDS_MAX  4

struct hyp_domain_config {
    uint32_t class_id;          /* enum hyp_class                            */
    char name[HYP_NAME_MAX];    /* NUL-terminated; for logs only             */
    uint64_t memory_bytes;      /* limit on private memory; 0: class default */
    uint64_t grant_pages;       /* limit on pool pages;     0: class default */
    uint64_t cpus;              /* affinity bit mask;       0: all           */
};

/*
 * Makes a domain, paused.  fds (at most HYP_FDS_MAX) become descriptors 5,
 * 6, ... of its process; the caller keeps its own copies; fds[0] is also
 * its stderr.  HYP_CLASS_NATIVE has no process: conn[0] and conn[1] receive
 * its core and store connections to hand on; for other classes they get -1.
 * Its program is what its file is now.
 *
 * HYP_CLASS_STORE first, and again when it died: fds are its log (stderr), the
 * listening socket and the journal; its domid is one that is kept for it.
 * -EEXIST: there is one; for any other class -EAGAIN: there is none, or it is
 * behind, try again.
 */
int hyp_domain_create(struct hyp *hyp, const struct hyp_domain_config *cfg,
                      const int *fds, unsigned nfds, domid_t *out, int conn[2]);
int hyp_domain_unpause(struct hyp *hyp, domid_t domid);
int hyp_domain_stop(struct hyp *hyp, domid_t domid);    /* sends HYP_EV_STOP */
int hyp_domain_destroy(struct hyp *hyp, domid_t domid); /* SIGKILL; HYP_EV_DEATH follows */

struct hyp_domain_info {
    char name[HYP_NAME_MAX];
    domid_t domid;
    uint32_t class_id;
    int32_t pid;         /* as the core sees it; 0 for HYP_CLASS_NATIVE      */
    uint32_t uid;
    uint32_t rights;     /* HYP_MAY_*                                        */
    uint64_t calls;      /* core calls so far                                */
    uint64_t refused;    /* of them refused                                  */
    uint8_t ready;
};
int hyp_domain_info(struct hyp *hyp, domid_t domid, struct hyp_domain_info *out);
/* The living domain with the lowest domid above `after`; -ENOENT: no more. */
int hyp_domain_next(struct hyp *hyp, domid_t after, struct hyp_domain_info *out);

/*
 * Ends the hypervisor and every domain.  A toolstack that just goes away leaves
 * both as they are, for the next one: hyp_local_adopt().
 */
int hyp_end(struct hyp *hyp);

/* The n-th region or channel that a domain holds; -ENOENT past the last. */
struct hyp_holding {
    enum { HYP_HOLDS_POOL = 1, HYP_HOLDS_MAP, HYP_HOLDS_EVTCHN, HYP_HOLDS_DEVICE } kind;
    domid_t peer;
    uint32_t id;         /* first grant reference, port or device number     */
    uint64_t pages;
    uint8_t rdonly;
    uint8_t huge;        /* backed by huge pages                             */
};
int hyp_domain_holding(struct hyp *hyp, domid_t domid, unsigned n, struct hyp_holding *out);

#define HYP_DEVICE_RDONLY (1u << 0)
#define HYP_DEVICE_DIRECT (1u << 1) /* O_DIRECT                              */
#define HYP_PATH_MAX 1024

/*
 * Opens a file or block device afresh for a driver domain, takes the fence on
 * it and announces the outcome with HYP_EV_DEVICE to both.  Returns at once;
 * a slow file system, or I/O of an owner that is dead but for its I/O, delays
 * the event and no one else.  So does an owner that lives: assigned ahead to a
 * spare, a device comes to it as soon as the fence lets it.  A read-only device
 * too has one owner at a time.  -EEXIST: the number is in use in that domain.
 */
int hyp_device_assign(struct hyp *hyp, domid_t domid, uint32_t device,
                      const char *path, unsigned flags);
/* Frees the number; gives up waiting when it was not open yet. */
int hyp_device_release(struct hyp *hyp, domid_t domid, uint32_t device);

/* ---------------------------------------------------- for implementations */

/*
 * One hypervisor.  hyp.c holds the list; every public function above is a
 * thin call through this table.  The structs are defined by the
 * implementation and begin with the common part below.
 */
struct hyp_ops {
    const char *name;
    void (*close)(struct hyp *);
    int (*store_fd)(struct hyp *);
    int (*store_connect)(struct hyp *);
    int (*fd)(const struct hyp *);
    int (*next_event)(struct hyp *, struct hyp_event *);
    int (*ready)(struct hyp *);
    int (*restrict_to)(struct hyp *, uint32_t);

    int (*pool_create)(struct hyp *, domid_t, size_t, unsigned, struct hyp_pool **);
    int (*pool_regrant)(struct hyp_pool *, domid_t);
    int (*pool_share)(struct hyp_pool *, domid_t);
    int (*pool_end)(struct hyp_pool *);
    int (*pool_faulted)(const struct hyp_pool *);

    int (*map_open)(struct hyp *, domid_t, struct hyp_map **);
    void (*map_close)(struct hyp_map *);
    int (*map_grants)(struct hyp_map *, const grant_ref_t *, size_t, unsigned, void **);
    int (*unmap_grants)(struct hyp_map *, void *, size_t);
    void *(*map_persistent)(struct hyp_map *, grant_ref_t);
    int (*map_run)(struct hyp_map *, grant_ref_t, struct hyp_run *);
    int (*map_range)(const struct hyp_map *, const void *, struct hyp_range *);
    int (*grant_copy)(struct hyp_map *, struct hyp_copy *, size_t);
    int (*map_faulted)(const struct hyp_map *);
    int (*guard_memory_faults)(struct hyp *);

    int (*evtchn_alloc)(struct hyp *, domid_t, struct hyp_evtchn **);
    int (*evtchn_bind)(struct hyp *, domid_t, evtchn_port_t, struct hyp_evtchn **);
    int (*evtchn_notify)(struct hyp_evtchn *);
    void (*evtchn_clear)(struct hyp_evtchn *);
    void (*evtchn_close)(struct hyp_evtchn *);

    int (*device_acquire)(struct hyp *, uint32_t, int *);

    int (*domain_create)(struct hyp *, const struct hyp_domain_config *, const int *,
                         unsigned, domid_t *, int[2]);
    int (*domain_unpause)(struct hyp *, domid_t);
    int (*domain_stop)(struct hyp *, domid_t);
    int (*domain_destroy)(struct hyp *, domid_t);
    int (*domain_info)(struct hyp *, domid_t, struct hyp_domain_info *);
    int (*domain_next)(struct hyp *, domid_t, struct hyp_domain_info *);
    int (*domain_holding)(struct hyp *, domid_t, unsigned, struct hyp_holding *);
    int (*device_assign)(struct hyp *, domid_t, uint32_t, const char *, unsigned);
    int (*device_release)(struct hyp *, domid_t, uint32_t);
    int (*end)(struct hyp *);
};

struct hyp_common        { const struct hyp_ops *ops; domid_t domid; };
struct hyp_pool_common   { const struct hyp_ops *ops; void *base; size_t pages; grant_ref_t first; };
struct hyp_map_common    { const struct hyp_ops *ops; };
struct hyp_evtchn_common { const struct hyp_ops *ops; int fd; evtchn_port_t port; };

/* local/: becomes a domain over two connected sockets, which it then owns.
 * store_fd -1: hyp_store_fd() asks the core for one. */
int hyp_local_open(struct hyp **out, int core_fd, int store_fd);
/* local/: becomes the domain behind an attach socket. */
int hyp_local_attach(struct hyp **out, const char *path);
/*
 * local/: becomes the toolstack of a core whose toolstack went away.  path: its
 * socket; root only.  The events that the last one was not told of come, and
 * once more HYP_EV_READY of each living domain that is ready and HYP_EV_DEVICE
 * of each device that is open.  Who is alive, hyp_domain_next() tells: a domain
 * that is missing there and whose death does not come died before.  A device that
 * may have failed is assigned again: -EEXIST says that it has not.  The store
 * connection is a new one: hyp_store_fd().
 * -ECONNREFUSED, -ENOENT: no core listens there; -EBUSY: it has a toolstack.
 */
int hyp_local_adopt(struct hyp **out, const char *path, int parcel[2]);
/*
 * local/: the parcel, for the first toolstack too (hyp_local_adopt() does this
 * by itself): both ends of a SOCK_SEQPACKET socket that the core keeps open and
 * never reads.  What a toolstack sends into parcel[0], with the descriptors
 * beside it, the next one receives from parcel[1].  The caller owns the two, and
 * may ask again.
 */
int hyp_local_parcel(struct hyp *hyp, int parcel[2]);

#endif
