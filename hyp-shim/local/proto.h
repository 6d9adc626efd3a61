/* SPDX-License-Identifier: MIT */
/*
 * proto.h - what a domain and the core say to each other.
 *
 * One SOCK_SEQPACKET socket for each domain.  A domain sends calls, the core
 * sends one reply for each call, in order, and events at any time.  Every
 * packet is one fixed-size struct; a call of another length than its own is
 * refused.  Descriptors travel beside the packet (SCM_RIGHTS).
 *
 * Everything that a call says is hostile input to the core; nothing that the
 * core says is hostile to a domain.
 */
#ifndef BULKHEAD_LOCAL_PROTO_H
#define BULKHEAD_LOCAL_PROTO_H

#include <stdint.h>

#include "../hyp.h"
#include "limits.h"

/*
 * How it all starts.  The first toolstack makes a socket pair and starts the
 * core with it as CORE_TOOLSTACK_FD, and with a listening SOCK_SEQPACKET socket
 * of root's alone as CORE_ADOPT_FD.  The core starts nothing by itself.  The
 * toolstack says HELLO (hyp_local_open() with store_fd -1), then makes the store:
 * hyp_domain_create(), class HYP_CLASS_STORE, fds { log, listening socket of the
 * store, journal }.  From then on hyp_store_fd() and hyp_store_connect() give it
 * connections; nobody has to wait for the store to have started.  Any other
 * domain is made after that: -EAGAIN while there is no store.
 *
 * When the store dies the toolstack is told (HYP_EV_DEATH, LOCAL_DOMID_STORE,
 * wait status) and makes it again, with the same journal.  The others see their
 * store connection hang up, and ask for a new one (CORE_OP_STORE_CONNECT).
 *
 * When the toolstack goes away without CORE_OP_END, everything goes on.  The next
 * one connects to the socket (hyp_local_adopt()), gets what waits in the parcel,
 * is told of every death that the last one was not told of, and again of each
 * living domain's READY and of each device that is open.  Deaths that the last
 * one was told but did not live to write down: domains that hyp_domain_next()
 * does not name.  A core that was given no CORE_ADOPT_FD ends with its toolstack.
 */
#define CORE_TOOLSTACK_FD 3
#define CORE_ADOPT_FD     6 /* 4 and 5 are not used */

#define CORE_PROTO_VERSION 2u

enum core_op {
    CORE_OP_NONE,
    /* any domain */
    CORE_OP_HELLO,          /* -> version, own domid                           */
    CORE_OP_READY,
    CORE_OP_RESTRICT,
    CORE_OP_POOL_CREATE,    /* -> first ref; fd, whose pages the caller allocates */
    CORE_OP_POOL_REGRANT,   /* -> first ref                                    */
    CORE_OP_POOL_SHARE,
    CORE_OP_POOL_END,
    CORE_OP_POOL_MAP,       /* -> first ref, pages, rdonly; fd                 */
    CORE_OP_POOL_UNMAP,
    CORE_OP_EVTCHN_ALLOC,   /* -> port; fds: ours to read, ours to write       */
    CORE_OP_EVTCHN_BIND,    /* -> port; fds: ours to read, ours to write       */
    CORE_OP_EVTCHN_CLOSE,
    CORE_OP_DEVICE_ACQUIRE, /* -> fd                                           */
    CORE_OP_STORE_CONNECT,  /* -> fd; -EAGAIN: no store now; a few for each store */
    /* the toolstack only */
    CORE_OP_DOMAIN_CREATE,  /* fds in: 5, 6, ... of the child; native: 2 fds out;
                             * the store: its log, STORE_LISTEN_FD, STORE_JOURNAL_FD */
    CORE_OP_DOMAIN_UNPAUSE,
    CORE_OP_DOMAIN_STOP,
    CORE_OP_DOMAIN_DESTROY,
    CORE_OP_DOMAIN_INFO,    /* -> info of the first living domain, from domid on */
    CORE_OP_DOMAIN_HOLDING,
    CORE_OP_DEVICE_ASSIGN,
    CORE_OP_DEVICE_RELEASE,
    CORE_OP_PARCEL,         /* -> fds: both ends of the parcel, see hyp_local_adopt() */
    CORE_OP_END,
    CORE_OP_COUNT
};

/* Calls.  Each begins with this header. */
struct core_call { uint32_t op; uint32_t seq; };

struct core_call_restrict    { struct core_call h; uint32_t keep; uint32_t zero; };
struct core_call_pool_create { struct core_call h; uint32_t grantee; uint32_t flags; uint64_t pages; };
/* flags: HYP_POOL_*, and this one: no huge pages, there were not enough. */
#define CORE_POOL_SMALL (1u << 31)
/* peer: the new grantee (regrant), the spare (share) or the granter (map, unmap) */
struct core_call_pool        { struct core_call h; uint32_t peer; uint32_t ref; };
/* alloc: peer; bind: peer and its port; close: our port */
struct core_call_evtchn      { struct core_call h; uint32_t peer; uint32_t port; };
struct core_call_device      { struct core_call h; uint32_t domid; uint32_t device; };
struct core_call_domain      { struct core_call h; uint32_t domid; uint32_t n; };
struct core_call_create      { struct core_call h; struct hyp_domain_config cfg; uint32_t nfds; uint32_t zero; };
struct core_call_assign      { struct core_call h; uint32_t domid; uint32_t device; uint32_t flags; uint32_t zero; char path[HYP_PATH_MAX]; };

union core_call_any {
    struct core_call h;
    struct core_call_restrict restrict_to;
    struct core_call_pool_create pool_create;
    struct core_call_pool pool;
    struct core_call_evtchn evtchn;
    struct core_call_device device;
    struct core_call_domain domain;
        struct core_call_create create;
    struct core_call_assign assign;
};

/* From the core: a reply (op and seq of the call) or an event (op CORE_OP_NONE). */
struct core_reply {
    uint32_t op;
    uint32_t seq;
    int32_t error;  /* 0 or a negative errno                                   */
    uint32_t nfds;  /* descriptors that came with it                           */
    union {
        struct { uint32_t version; uint32_t domid; } hello;
        struct { uint32_t first; uint32_t rdonly; uint64_t pages; } pool;
        struct { uint32_t port; } evtchn;
        struct { uint32_t domid; } domain;
        struct hyp_domain_info info;
        struct hyp_holding holding;
        struct { uint32_t kind, domid, device; int32_t error; uint64_t at_ns; } event;
    } u;
};

/*
 * Attach socket (SOCK_SEQPACKET): whoever connects gets one of these; with
 * error 0 it carries the two connections of the domain that the caller now is.
 */
struct attach_reply {
    uint32_t version; /* CORE_PROTO_VERSION */
    int32_t error;
};

/*
 * The core tells the store about domains over a SOCK_SEQPACKET socket
 * (descriptor STORE_CONTROL_FD of the store): `introduce` carries the store's
 * end of that domain's connection, and replaces the one that it may have;
 * `release` means that it is dead.
 *
 * The first packet to every store is a struct store_living: who is alive, the
 * toolstack and the store left out.  A domain that the journal knows and that
 * is not there died meanwhile: release it.
 */
enum store_control_op { STORE_CONTROL_INTRODUCE = 1, STORE_CONTROL_RELEASE, STORE_CONTROL_LIVING };
struct store_control { uint32_t op; uint32_t domid; };
struct store_living { uint32_t op; uint32_t n; uint32_t domid[CORE_DOMAINS_MAX]; };

/* Descriptors that a domain's process starts with. */
#define DOMAIN_CORE_FD   3
#define DOMAIN_STORE_FD  4
#define DOMAIN_FIRST_FD  5
#define STORE_CONTROL_FD 3
#define STORE_LISTEN_FD  4
#define STORE_JOURNAL_FD 5
/* A memfd of this size, of zeros at first; pages that were never used take no memory. */
#define STORE_JOURNAL_BYTES (96u << 20)

#endif
