/* SPDX-License-Identifier: MIT */
/*
 * The local client against a core of this file's own: one thread that answers
 * calls of two domains, 1 (grants) and 2 (maps), and can be told to misbehave
 * as a real core would only under load.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../hyp-shim/local/proto.h"

#define GRANTER   1
#define MAPPER    2
#define POOLS     40
#define FIRST_REF 100u

struct pool {
    int memfd;
    grant_ref_t first;
    size_t pages;
    unsigned flags, mapped, spare;
};

static struct {
    atomic_int sock[3]; /* by domid */
    pthread_t thread;
    struct pool pools[POOLS];
    unsigned npools;
    grant_ref_t next_ref;
    int offer[2]; /* the other end of an event channel */
    atomic_uint maps, unmaps, calls;
    atomic_uint events_before_reply; /* pushed ahead of the next reply */
    atomic_int wrong_seq, version;
    atomic_bool no_store, ended, no_huge;
} core;

static void send_packet(int sock, const void *packet, size_t bytes, const int *fds, unsigned nfds)
{
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control = { .bytes = { 0 } };
    struct iovec iov = { (void *)(uintptr_t)packet, bytes };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (nfds) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
    }
    if (sendmsg(sock, &msg, MSG_NOSIGNAL) < 0 && errno != EPIPE)
        abort();
}

static void send_event(domid_t to, enum hyp_event_kind kind, uint32_t about)
{
    struct core_reply r = { .op = CORE_OP_NONE };
    r.u.event.kind = kind;
    r.u.event.domid = about;
    r.u.event.at_ns = UINT64_C(1000000000000) + about;
    send_packet(core.sock[to], &r, sizeof(r), NULL, 0);
}

static struct pool *pool_of(grant_ref_t ref)
{
    for (struct pool *p = core.pools; p < core.pools + core.npools; p++)
        if (p->memfd >= 0 && ref - p->first < p->pages)
            return p;
    return NULL;
}

static void pool_renumber(struct pool *p)
{
    p->first = core.next_ref;
    core.next_ref += (grant_ref_t)p->pages + 1;
}

/* Answers one call; returns the number of descriptors in fds, and in *close_mask
 * those that are not ours to keep. */
static unsigned answer(domid_t domid, const union core_call_any *call, struct core_reply *r, int fds[2],
                       unsigned *close_mask)
{
    struct pool *p;
    int a[2], b[2];
    switch (call->h.op) {
    case CORE_OP_HELLO:
        r->u.hello.version = (uint32_t)core.version;
        r->u.hello.domid = domid;
        return 0;
    case CORE_OP_POOL_CREATE:
        p = &core.pools[core.npools++];
        *p = (struct pool){ .memfd = memfd_create("pool", MFD_CLOEXEC), .pages = call->pool_create.pages,
                            .flags = call->pool_create.flags };
        /* Huge pages that are not there: a hole that cannot be filled. */
        if (ftruncate(p->memfd, core.no_huge && !(p->flags & CORE_POOL_SMALL)
                                    ? HYP_PAGE_SIZE : (off_t)p->pages * HYP_PAGE_SIZE))
            abort();
        pool_renumber(p);
        r->u.pool.first = p->first;
        fds[0] = p->memfd;
        return 1;
    case CORE_OP_POOL_REGRANT:
        p = pool_of(call->pool.ref);
        if (!p || p->mapped) {
            r->error = p ? -EBUSY : -ENOENT;
            return 0;
        }
        pool_renumber(p);
        r->u.pool.first = p->first;
        return 0;
    case CORE_OP_POOL_SHARE:
        p = pool_of(call->pool.ref);
        r->error = !p ? -ENOENT : p->spare ? -EBUSY : 0;
        if (r->error == 0)
            p->spare = call->pool.peer;
        return 0;
    case CORE_OP_STORE_CONNECT:
        r->error = core.no_store ? -EAGAIN : 0;
        if (r->error || socketpair(AF_UNIX, SOCK_STREAM, 0, a))
            return 0;
        close(a[1]);
        fds[0] = a[0];
        *close_mask = 1;
        return 1;
    case CORE_OP_DOMAIN_INFO:
        r->error = call->domain.domid <= 42 ? 0 : -ENOENT;
        r->u.info = (struct hyp_domain_info){ .domid = 42, .name = "forty-two" };
        return 0;
    case CORE_OP_PARCEL:
        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds))
            abort();
        *close_mask = 3;
        return 2;
    case CORE_OP_END:
        core.ended = true;
        return 0;
    case CORE_OP_POOL_END:
        p = pool_of(call->pool.ref);
        r->error = !p ? -ENOENT : p->mapped ? -EBUSY : 0;
        if (r->error == 0) {
            close(p->memfd);
            p->memfd = -1;
        }
        return 0;
    case CORE_OP_POOL_MAP:
        core.maps++;
        p = call->pool.peer == GRANTER ? pool_of(call->pool.ref) : NULL;
        if (!p || p->mapped) {
            r->error = p ? -EEXIST : -ENOENT;
            return 0;
        }
        p->mapped++;
        r->u.pool.first = p->first;
        r->u.pool.pages = p->pages;
        r->u.pool.rdonly = p->flags & HYP_POOL_RDONLY;
        fds[0] = p->memfd;
        if (p->flags & HYP_POOL_RDONLY) {
            char path[64];
            snprintf(path, sizeof(path), "/proc/self/fd/%d", p->memfd);
            fds[0] = open(path, O_RDONLY | O_CLOEXEC);
            *close_mask = 1;
        }
        return 1;
    case CORE_OP_POOL_UNMAP:
        core.unmaps++;
        p = pool_of(call->pool.ref);
        if (p)
            p->mapped = 0;
        return 0;
    case CORE_OP_EVTCHN_ALLOC:
        if (pipe2(a, O_NONBLOCK | O_CLOEXEC) || pipe2(b, O_NONBLOCK | O_CLOEXEC))
            abort();
        fds[0] = a[0];
        fds[1] = b[1];
        core.offer[0] = b[0];
        core.offer[1] = a[1];
        r->u.evtchn.port = 7;
        *close_mask = 3;
        return 2;
    case CORE_OP_EVTCHN_BIND:
        fds[0] = core.offer[0];
        fds[1] = core.offer[1];
        r->u.evtchn.port = 9;
        *close_mask = 3;
        return 2;
    case CORE_OP_READY:
    case CORE_OP_EVTCHN_CLOSE:
        return 0;
    default:
        r->error = -EPERM;
        return 0;
    }
}

static void serve(domid_t domid)
{
    union core_call_any call;
    ssize_t n = recv(core.sock[domid], &call, sizeof(call), 0);
    if (n <= 0) {
        close(core.sock[domid]);
        core.sock[domid] = -1;
        return;
    }
    struct core_reply r;
    memset(&r, 0, sizeof(r));
    r.op = call.h.op;
    r.seq = call.h.seq + (uint32_t)core.wrong_seq;
    int fds[2];
    unsigned close_mask = 0;
    unsigned nfds = answer(domid, &call, &r, fds, &close_mask);
    r.nfds = nfds;
    for (; core.events_before_reply; core.events_before_reply--)
        send_event(domid, HYP_EV_DEATH, core.events_before_reply);
    core.calls++;
    send_packet(core.sock[domid], &r, sizeof(r), fds, nfds);
    for (unsigned i = 0; i < nfds; i++)
        if (close_mask & (1u << i))
            close(fds[i]);
}

static void *core_loop(void *arg)
{
    (void)arg;
    while (core.sock[GRANTER] >= 0 || core.sock[MAPPER] >= 0) {
        struct pollfd p[2] = { { core.sock[GRANTER], POLLIN, 0 }, { core.sock[MAPPER], POLLIN, 0 } };
        poll(p, 2, -1);
        for (domid_t d = GRANTER; d <= MAPPER; d++)
            if (p[d - 1].revents)
                serve(d);
    }
    return NULL;
}

struct world {
    struct hyp *granter, *mapper;
};

static int setup(void **state)
{
    static struct world w;
    int granter[2], mapper[2];
    memset(&core, 0, sizeof(core));
    core.next_ref = FIRST_REF;
    core.version = CORE_PROTO_VERSION;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, granter) ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, mapper))
        return -1;
    core.sock[GRANTER] = granter[0];
    core.sock[MAPPER] = mapper[0];
    if (pthread_create(&core.thread, NULL, core_loop, NULL))
        return -1;
    if (hyp_local_open(&w.granter, granter[1], -1) || hyp_local_open(&w.mapper, mapper[1], -1))
        return -1;
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    hyp_close(w->granter);
    hyp_close(w->mapper);
    pthread_join(core.thread, NULL);
    for (unsigned i = 0; i < core.npools; i++)
        if (core.pools[i].memfd >= 0)
            close(core.pools[i].memfd);
    return 0;
}

static struct hyp_pool *make_pool(struct world *w, size_t pages, unsigned flags)
{
    struct hyp_pool *pool;
    assert_int_equal(hyp_pool_create(w->granter, MAPPER, pages, flags, &pool), 0);
    for (size_t i = 0; i < pages; i++)
        memset((char *)hyp_pool_base(pool) + i * HYP_PAGE_SIZE, (int)(i + 1), HYP_PAGE_SIZE);
    return pool;
}

static struct hyp_map *make_map(struct world *w)
{
    struct hyp_map *map;
    assert_int_equal(hyp_map_open(w->mapper, GRANTER, &map), 0);
    return map;
}

static bool readable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

/* ------------------------------------------------------------------- tests */

static void identity_is_told(void **state)
{
    struct world *w = *state;
    assert_int_equal(hyp_domid(w->granter), GRANTER);
    assert_int_equal(hyp_domid(w->mapper), MAPPER);
}

static void store_connections_come_from_the_core(void **state)
{
    struct world *w = *state;
    core.no_store = true;
    assert_int_equal(hyp_store_connect(w->mapper), -EAGAIN);
    assert_int_equal(hyp_store_fd(w->mapper), -EAGAIN); /* it was opened without one: it asks */
    core.no_store = false;
    int first = hyp_store_fd(w->mapper), second = hyp_store_connect(w->mapper);
    assert_true(first >= 0 && second >= 0 && first != second);
    assert_int_equal(fcntl(second, F_GETFD), FD_CLOEXEC);
    assert_int_equal(hyp_store_fd(w->mapper), -ENOENT);
    close(first);
    close(second);
}

static void toolstack_calls_say_what_they_mean(void **state)
{
    struct world *w = *state;
    struct hyp_domain_info info;
    int parcel[2];
    assert_int_equal(hyp_domain_next(w->mapper, 41, &info), 0);
    assert_int_equal(info.domid, 42);
    assert_string_equal(info.name, "forty-two");
    assert_int_equal(hyp_domain_next(w->mapper, 42, &info), -ENOENT);
    assert_int_equal(hyp_domain_next(w->mapper, 0xffff, &info), -ENOENT);
    assert_int_equal(hyp_domain_info(w->mapper, 42, &info), 0);
    assert_int_equal(hyp_domain_info(w->mapper, 41, &info), -ESRCH);
    assert_int_equal(hyp_domain_info(w->mapper, 43, &info), -ESRCH);
    assert_int_equal(hyp_local_parcel(w->mapper, parcel), 0);
    assert_int_equal(write(parcel[0], "x", 1), 1);
    char byte;
    assert_int_equal(read(parcel[1], &byte, 1), 1);
    assert_int_equal(byte, 'x');
    close(parcel[0]);
    close(parcel[1]);
    assert_false(core.ended);
    assert_int_equal(hyp_end(w->mapper), 0);
    assert_true(core.ended);
}

static void a_pool_is_shared_by_the_same_references(void **state)
{
    struct world *w = *state;
    struct hyp_pool *pool = make_pool(w, 4, 0);
    grant_ref_t first = hyp_pool_ref(pool, 0);
    assert_int_equal(hyp_pool_share(pool, 5), 0);
    assert_int_equal(core.pools[0].spare, 5);
    assert_int_equal(hyp_pool_ref(pool, 0), first);
    assert_int_equal(hyp_pool_share(pool, 6), -EBUSY);
    assert_int_equal(hyp_pool_end(pool), 0);
}

static void events_during_a_call_are_kept_and_announced(void **state)
{
    struct world *w = *state;
    struct hyp_event ev;
    assert_false(readable(hyp_fd(w->mapper)));
    assert_int_equal(hyp_next_event(w->mapper, &ev), 0);
    core.events_before_reply = 3;
    assert_int_equal(hyp_ready(w->mapper), 0);
    for (domid_t d = 3; d >= 1; d--) {
        assert_true(readable(hyp_fd(w->mapper)));
        assert_int_equal(hyp_next_event(w->mapper, &ev), 1);
        assert_int_equal(ev.kind, HYP_EV_DEATH);
        assert_int_equal(ev.domid, d);
        assert_int_equal(ev.at_ns, 1000000000000 + d);
    }
    assert_false(readable(hyp_fd(w->mapper)));
    assert_int_equal(hyp_next_event(w->mapper, &ev), 0);
    send_event(MAPPER, HYP_EV_STOP, 0);
    assert_true(readable(hyp_fd(w->mapper)));
    assert_int_equal(hyp_next_event(w->mapper, &ev), 1);
    assert_int_equal(ev.kind, HYP_EV_STOP);
    assert_false(readable(hyp_fd(w->mapper)));
}

static void the_end_of_the_core_is_told(void **state)
{
    struct world *w = *state;
    struct hyp_event ev;
    send_event(MAPPER, HYP_EV_STOP, 0);
    shutdown(core.sock[MAPPER], SHUT_RDWR);
    assert_true(readable(hyp_fd(w->mapper)));
    assert_int_equal(hyp_next_event(w->mapper, &ev), 1); /* what it said before counts */
    assert_int_equal(hyp_next_event(w->mapper, &ev), -ENOTCONN);
    assert_int_equal(hyp_ready(w->mapper), -ENOTCONN);
    assert_true(readable(hyp_fd(w->mapper)));
    struct hyp_map *map = make_map(w);
    assert_null(hyp_map_persistent(map, FIRST_REF));
    hyp_map_close(map);
}

static void a_reply_to_another_call_ends_it(void **state)
{
    struct world *w = *state;
    core.wrong_seq = 1;
    assert_int_equal(hyp_ready(w->mapper), -ENOTCONN);
    core.wrong_seq = 0;
    assert_int_equal(hyp_ready(w->mapper), -ENOTCONN);
    assert_int_equal(hyp_ready(w->granter), 0);
}

static void another_version_is_refused(void **state)
{
    (void)state;
    int pair[2];
    struct hyp *hyp;
    core.version = 99;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    struct core_reply r = { .op = CORE_OP_HELLO, .seq = 1, .u.hello = { 99, 5 } };
    send_packet(pair[0], &r, sizeof(r), NULL, 0);
    assert_int_equal(hyp_local_open(&hyp, pair[1], -1), -EPROTO);
    close(pair[0]);
}

static void persistent_maps_once(void **state)
{
    struct world *w = *state;
    struct hyp_pool *pool = make_pool(w, 16, 0), *other = make_pool(w, 4, 0);
    struct hyp_map *one = make_map(w), *two = make_map(w);
    char *base = hyp_map_persistent(one, hyp_pool_ref(pool, 0));
    assert_non_null(base);
    assert_ptr_not_equal(base, hyp_pool_base(pool));
    char *in_other = hyp_map_persistent(one, hyp_pool_ref(other, 3));
    assert_non_null(in_other);
    assert_int_equal(in_other[0], 4);
    unsigned calls = core.calls;
    for (size_t i = 0; i < 16; i++) {
        assert_ptr_equal(hyp_map_persistent(one, hyp_pool_ref(pool, i)), base + i * HYP_PAGE_SIZE);
        assert_ptr_equal(hyp_map_persistent(two, hyp_pool_ref(pool, i)), base + i * HYP_PAGE_SIZE);
        assert_int_equal(base[i * HYP_PAGE_SIZE], i + 1);
    }
    assert_int_equal(core.calls, calls);
    struct hyp_range r, s;
    assert_int_equal(hyp_map_range(one, base + 5 * HYP_PAGE_SIZE + 7, &r), 0);
    assert_ptr_equal(r.base, base);
    assert_int_equal(r.bytes, 16 * HYP_PAGE_SIZE);
    assert_int_equal(hyp_map_range(one, in_other, &s), 0);
    assert_int_not_equal(r.id, s.id);
    assert_int_equal(hyp_map_range(one, &r, &s), -ENOENT);
    assert_int_equal(hyp_pool_end(pool), -EBUSY);
    hyp_map_close(one);
    assert_int_equal(hyp_pool_end(pool), -EBUSY); /* `two` still has it */
    hyp_map_close(two);
    assert_int_equal(hyp_pool_end(pool), 0);
    assert_int_equal(hyp_pool_end(other), 0);
    assert_int_equal(core.maps, 2);
    assert_int_equal(core.unmaps, 2);
}

static void a_pool_is_allocated_or_not_made(void **state)
{
    struct world *w = *state;
    core.no_huge = true;
    struct hyp_pool *pool = make_pool(w, 8, 0); /* writes to every page */
    core.no_huge = false;
    assert_int_equal(core.npools, 2);
    assert_int_equal(core.pools[0].memfd, -1); /* tried, and given back */
    assert_int_equal(core.pools[1].flags, CORE_POOL_SMALL);
    assert_int_equal(hyp_pool_end(pool), 0);
    struct rlimit before, none = { 0, 0 };
    getrlimit(RLIMIT_AS, &before);
    none.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_AS, &none);
    int err = hyp_pool_create(w->granter, MAPPER, 8, 0, &pool);
    setrlimit(RLIMIT_AS, &before);
    assert_int_equal(err, -ENOMEM);
    assert_int_equal(core.pools[2].memfd, -1);
    assert_int_equal(core.pools[3].memfd, -1);
}

static void foreign_references_are_refused(void **state)
{
    struct world *w = *state;
    struct hyp_pool *pool = make_pool(w, 4, 0);
    struct hyp_map *map = make_map(w);
    grant_ref_t first = hyp_pool_ref(pool, 0);
    assert_null(hyp_map_persistent(map, first - 1));
    assert_null(hyp_map_persistent(map, first + 4));
    assert_null(hyp_map_persistent(map, 0));
    assert_null(hyp_map_persistent(map, ~0u));
    grant_ref_t past_end[2] = { first + 3, first + 4 };
    void *va;
    assert_int_equal(hyp_map_grants(map, past_end, 2, 0, &va), -EACCES);
    assert_int_equal(hyp_map_grants(map, past_end, 0, 0, &va), -EINVAL);
    assert_int_equal(hyp_map_grants(map, past_end, 1, 0x80, &va), -EINVAL);
    struct hyp_map *stranger;
    assert_int_equal(hyp_map_open(w->mapper, 77, &stranger), 0);
    assert_null(hyp_map_persistent(stranger, first));
    hyp_map_close(stranger);
    hyp_map_close(map);
}

static void grants_map_in_any_order(void **state)
{
    struct world *w = *state;
    struct hyp_pool *a = make_pool(w, 8, 0), *b = make_pool(w, 8, 0);
    struct hyp_map *map = make_map(w);
    grant_ref_t ra = hyp_pool_ref(a, 0), rb = hyp_pool_ref(b, 0);
    grant_ref_t run[4] = { ra + 2, ra + 3, ra + 4, ra + 5 };
    grant_ref_t mix[6] = { ra + 7, rb + 1, rb + 2, ra, ra, rb + 7 };
    static const char wants[6] = { 8, 2, 3, 1, 1, 8 };
    void *va, *scattered, *again;
    assert_int_equal(hyp_map_grants(map, run, 4, 0, &va), 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(((char *)va)[i * HYP_PAGE_SIZE], i + 3);
    assert_int_equal(hyp_map_grants(map, mix, 6, 0, &scattered), 0);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(((char *)scattered)[i * HYP_PAGE_SIZE], wants[i]);
    ((char *)scattered)[HYP_PAGE_SIZE] = 99; /* shared, not a copy */
    assert_int_equal(((char *)hyp_pool_base(b))[HYP_PAGE_SIZE], 99);
    unsigned calls = core.calls;
    assert_int_equal(hyp_map_grants(map, run, 4, 0, &again), 0);
    assert_int_equal(core.calls, calls);
    assert_int_equal(hyp_unmap_grants(map, again, 4), 0);
    assert_int_equal(hyp_unmap_grants(map, scattered, 5), -EINVAL);
    assert_int_equal(hyp_unmap_grants(map, scattered, 6), 0);
    assert_int_equal(hyp_unmap_grants(map, scattered, 6), -EINVAL);
    assert_int_equal(hyp_unmap_grants(map, va, 9), -EINVAL);
    assert_int_equal(hyp_unmap_grants(map, va, 4), 0);
    assert_int_equal(hyp_unmap_grants(map, va, 4), -EINVAL);
    assert_int_equal(hyp_map_grants(map, mix, 6, 0, &scattered), 0); /* left for close */
    hyp_map_close(map);
    assert_int_equal(hyp_pool_end(a), 0);
    assert_int_equal(hyp_pool_end(b), 0);
}

static void read_only_means_it(void **state)
{
    struct world *w = *state;
    struct hyp_pool *pool = make_pool(w, 4, HYP_POOL_RDONLY);
    struct hyp_map *map = make_map(w);
    grant_ref_t refs[2] = { hyp_pool_ref(pool, 2), hyp_pool_ref(pool, 0) };
    void *va;
    assert_null(hyp_map_persistent(map, refs[0]));
    assert_int_equal(hyp_map_grants(map, refs, 1, 0, &va), -EACCES);
    assert_int_equal(hyp_map_grants(map, refs, 2, 0, &va), -EACCES);
    assert_int_equal(hyp_map_grants(map, refs, 1, HYP_MAP_RDONLY, &va), 0);
    assert_int_equal(*(char *)va, 3);
    assert_int_equal(mprotect(va, HYP_PAGE_SIZE, PROT_READ | PROT_WRITE), -1);
    assert_int_equal(hyp_map_grants(map, refs, 2, HYP_MAP_RDONLY, &va), 0);
    assert_int_equal(((char *)va)[HYP_PAGE_SIZE], 1);
    assert_int_equal(mprotect(va, HYP_PAGE_SIZE, PROT_READ | PROT_WRITE), -1);
    char byte = 1;
    struct hyp_copy copy = { .ref = refs[0], .bytes = 1, .local = &byte, .to_grant = 1 };
    assert_int_equal(hyp_grant_copy(map, &copy, 1), -EACCES);
    copy.to_grant = 0;
    assert_int_equal(hyp_grant_copy(map, &copy, 1), 0);
    assert_int_equal(byte, 3);
    hyp_map_close(map);
}

static void copies_stay_in_their_page(void **state)
{
    struct world *w = *state;
    struct hyp_pool *pool = make_pool(w, 4, 0);
    struct hyp_map *map = make_map(w);
    char out[64] = { 0 }, in[64];
    memset(in, 0x5a, sizeof(in));
    grant_ref_t ref = hyp_pool_ref(pool, 1);
    struct hyp_copy pieces[] = {
        { .ref = ref, .offset = 4032, .bytes = 64, .local = in, .to_grant = 1 },
        { .ref = ref, .offset = 4033, .bytes = 64, .local = in, .to_grant = 1 },
        { .ref = ref, .offset = 65535, .bytes = 1, .local = in, .to_grant = 1 },
        { .ref = ref, .offset = 0, .bytes = 4097, .local = in, .to_grant = 1 },
        { .ref = ref + 7, .offset = 0, .bytes = 1, .local = in, .to_grant = 1 },
        { .ref = ref, .offset = 4032, .bytes = 64, .local = out },
        { .ref = ref, .offset = 4096, .bytes = 0, .local = out },
    };
    static const int wants[] = { 0, -EINVAL, -EINVAL, -EINVAL, -EACCES, 0, 0 };
    assert_int_equal(hyp_grant_copy(map, pieces, 7), -EINVAL);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(pieces[i].status, wants[i]);
    assert_memory_equal(in, out, 64);
    assert_int_equal(((char *)hyp_pool_base(pool))[2 * HYP_PAGE_SIZE], 3); /* the next page */
    assert_int_equal(hyp_grant_copy(map, pieces, 1), 0);
    hyp_map_close(map);
}

static void regrant_keeps_memory(void **state)
{
    struct world *w = *state;
    struct hyp_pool *pool = make_pool(w, 4, 0);
    char *base = hyp_pool_base(pool);
    grant_ref_t old = hyp_pool_ref(pool, 0);
    struct hyp_map *map = make_map(w);
    assert_non_null(hyp_map_persistent(map, old));
    assert_int_equal(hyp_pool_regrant(pool, MAPPER), -EBUSY);
    assert_int_equal(hyp_pool_ref(pool, 0), old);
    hyp_map_close(map);
    assert_int_equal(hyp_pool_regrant(pool, MAPPER), 0);
    assert_int_not_equal(hyp_pool_ref(pool, 0), old);
    assert_ptr_equal(hyp_pool_base(pool), base);
    map = make_map(w);
    assert_null(hyp_map_persistent(map, old));
    assert_int_equal(((char *)hyp_map_persistent(map, hyp_pool_ref(pool, 2)))[0], 3);
    hyp_map_close(map);
}

static void limits_are_told(void **state)
{
    struct world *w = *state;
    struct hyp_pool *pool, *pools[CORE_POOLS_EACH];
    assert_int_equal(hyp_pool_create(w->granter, MAPPER, 0, 0, &pool), -EINVAL);
    assert_int_equal(hyp_pool_create(w->granter, MAPPER, 1, 64, &pool), -EINVAL);
    assert_int_equal(hyp_pool_create(w->granter, MAPPER, CORE_POOL_PAGES_MAX + 1, 0, &pool), -EDQUOT);
    struct hyp_map *map = make_map(w);
    for (unsigned i = 0; i < CORE_POOLS_EACH; i++) {
        pools[i] = make_pool(w, 1, 0);
        assert_non_null(hyp_map_persistent(map, hyp_pool_ref(pools[i], 0)));
    }
    assert_int_equal(hyp_pool_create(w->granter, MAPPER, 1, 0, &pool), -EDQUOT);
    for (unsigned i = 0; i < CORE_POOLS_EACH; i++)
        assert_int_equal(*(char *)hyp_map_persistent(map, hyp_pool_ref(pools[i], 0)), 1);
    hyp_map_close(map);
    struct hyp_map *maps[1024];
    unsigned n = 0;
    while (n < 1024 && hyp_map_open(w->mapper, GRANTER, &maps[n]) == 0)
        n++;
    assert_int_equal(n, 512);
    while (n)
        hyp_map_close(maps[--n]);
}

static void a_full_descriptor_table_is_survived(void **state)
{
    struct world *w = *state;
    struct hyp_pool *pool = make_pool(w, 4, 0);
    struct hyp_map *map = make_map(w);
    struct rlimit old, none;
    struct hyp_evtchn *ch;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    int lowest = dup(0);
    none = (struct rlimit){ (rlim_t)lowest, old.rlim_max };
    close(lowest);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    void *va;
    grant_ref_t ref = hyp_pool_ref(pool, 0);
    int err = hyp_map_grants(map, &ref, 1, 0, &va);
    void *none_va = hyp_map_persistent(map, ref);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(err, -EMFILE);
    assert_null(none_va);
    /* The core was told each time, so it works now. */
    assert_non_null(hyp_map_persistent(map, ref));
    assert_int_equal(hyp_evtchn_alloc(w->granter, MAPPER, &ch), 0);
    close(core.offer[0]);
    close(core.offer[1]);
    hyp_map_close(map);
    hyp_evtchn_close(ch);
}

static void doorbells_ring_both_ways(void **state)
{
    struct world *w = *state;
    struct hyp_evtchn *a, *b;
    assert_int_equal(hyp_evtchn_alloc(w->granter, MAPPER, &a), 0);
    assert_int_equal(hyp_evtchn_notify(a), 0); /* before anyone listens */
    assert_int_equal(hyp_evtchn_bind(w->mapper, GRANTER, hyp_evtchn_port(a), &b), 0);
    assert_int_equal(hyp_evtchn_port(a), 7);
    assert_int_equal(hyp_evtchn_port(b), 9);
    assert_true(readable(hyp_evtchn_fd(b)));
    hyp_evtchn_clear(b);
    assert_false(readable(hyp_evtchn_fd(b)));
    for (int i = 0; i < 100000; i++) /* a full pipe is no error and blocks no one */
        assert_int_equal(hyp_evtchn_notify(b), 0);
    assert_false(readable(hyp_evtchn_fd(b)));
    assert_true(readable(hyp_evtchn_fd(a)));
    for (int i = 0; i < 1000 && readable(hyp_evtchn_fd(a)); i++)
        hyp_evtchn_clear(a);
    assert_false(readable(hyp_evtchn_fd(a)));
    hyp_evtchn_close(b);
    struct pollfd p = { .fd = hyp_evtchn_fd(a), .events = POLLIN };
    assert_int_equal(poll(&p, 1, 0), 1);
    assert_true(p.revents & POLLHUP);
    assert_int_equal(hyp_evtchn_notify(a), -EPIPE); /* and no SIGPIPE */
    hyp_evtchn_close(a);
}

/* ------------------------------------------------------- memory that leaves */

enum touch { TOUCH_PERSISTENT, TOUCH_WINDOW, TOUCH_OWN_POOL };

/* A child takes the memory away from under a mapping and touches it. */
struct hole {
    struct world *w;
    struct hyp_pool *pool;
    struct hyp_map *map;
    char *va;
};

static int hole_child(struct hole *h, bool guard)
{
    struct rlimit no_core = { 0, 0 };
    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGBUS, SIG_DFL);
    if (guard && (hyp_guard_memory_faults(h->w->mapper) || hyp_guard_memory_faults(h->w->granter)))
        return 99;
    if (!h->va || hyp_map_faulted(h->map) || hyp_pool_faulted(h->pool))
        return 97;
    if (ftruncate(core.pools[0].memfd, 0))
        return 96;
    volatile char *p = h->va;
    if (p[HYP_PAGE_SIZE] != 0)
        return 95;
    p[0] = 1;
    return 10 + (hyp_map_faulted(h->map) ? 1 : 0) + (hyp_pool_faulted(h->pool) ? 2 : 0);
}

static int run_hole(struct hole *h, bool guard)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(hole_child(h, guard));
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void lost_memory(void **state, enum touch where, int expected)
{
    struct world *w = *state;
    struct hole h = { .w = w, .pool = make_pool(w, 4, 0), .map = make_map(w) };
    grant_ref_t refs[2] = { hyp_pool_ref(h.pool, 3), hyp_pool_ref(h.pool, 1) };
    void *va;
    if (where == TOUCH_OWN_POOL)
        h.va = hyp_pool_base(h.pool);
    else if (where == TOUCH_PERSISTENT)
        h.va = hyp_map_persistent(h.map, hyp_pool_ref(h.pool, 0));
    else if (hyp_map_grants(h.map, refs, 2, 0, &va) == 0)
        h.va = va;
    assert_non_null(h.va);
    int status = run_hole(&h, true);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), expected);
    /* control: without the guard the same touch ends the process */
    assert_int_equal(ftruncate(core.pools[0].memfd, 4 * HYP_PAGE_SIZE), 0);
    status = run_hole(&h, false);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    hyp_map_close(h.map);
}

static void lost_memory_in_a_pool(void **state)
{
    lost_memory(state, TOUCH_PERSISTENT, 11);
}

static void lost_memory_in_a_window(void **state)
{
    lost_memory(state, TOUCH_WINDOW, 11);
}

static void lost_memory_of_our_own(void **state)
{
    lost_memory(state, TOUCH_OWN_POOL, 12);
}

static void another_sigbus_stays_fatal(void **state)
{
    struct world *w = *state;
    for (int sent = 0; sent < 2; sent++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct rlimit no_core = { 0, 0 };
            setrlimit(RLIMIT_CORE, &no_core);
            signal(SIGBUS, SIG_DFL);
            if (hyp_guard_memory_faults(w->mapper))
                _exit(99);
            int fd = memfd_create("not a grant", 0);
            volatile char *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
            if (p == MAP_FAILED)
                _exit(98);
            if (sent)
                kill(getpid(), SIGBUS);
            else
                (void)p[0];
            _exit(1);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    }
}

/* ------------------------------------------------------------------ opening */

static void opening_by_environment(void **state)
{
    (void)state;
    struct hyp *hyp;
    unsetenv(HYP_ENV_FDS);
    assert_int_equal(hyp_open(&hyp, NULL), -ENODEV);
    static const char *const bad[] = { "", "3", "3,", ",4", "3,4,", "3,4x", "-1,4", "3;4", "999999,4",
                                       "x,4" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setenv(HYP_ENV_FDS, bad[i], 1);
        assert_int_equal(hyp_open(&hyp, NULL), -EINVAL);
    }
    unsetenv(HYP_ENV_FDS);
    int c[2], s[2];
    char text[32];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, c), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    struct core_reply r = { .op = CORE_OP_HELLO, .seq = 1, .u.hello = { CORE_PROTO_VERSION, 5 } };
    send_packet(c[0], &r, sizeof(r), NULL, 0);
    snprintf(text, sizeof(text), "%d,%d", c[1], s[1]);
    setenv(HYP_ENV_FDS, text, 1);
    assert_int_equal(hyp_open(&hyp, NULL), 0);
    assert_int_equal(hyp_domid(hyp), 5);
    assert_null(getenv(HYP_ENV_FDS));
    assert_true(fcntl(c[1], F_GETFD) & FD_CLOEXEC);
    int store = hyp_store_fd(hyp);
    assert_int_equal(store, s[1]);
    assert_int_equal(hyp_store_fd(hyp), -ENOENT);
    hyp_close(hyp);
    assert_int_not_equal(fcntl(store, F_GETFD), -1); /* ours since we took it */
    close(store);
    close(s[0]);
    close(c[0]);
}

struct attach_case {
    int listener;
    struct attach_reply reply;
    bool with_fds;
};

static void *attach_server(void *arg)
{
    struct attach_case *c = arg;
    int conn = accept(c->listener, NULL, NULL), core_pair[2], store_pair[2];
    if (conn < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, core_pair) ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, store_pair))
        abort();
    struct core_reply r = { .op = CORE_OP_HELLO, .seq = 1, .u.hello = { CORE_PROTO_VERSION, 6 } };
    send_packet(core_pair[0], &r, sizeof(r), NULL, 0);
    int fds[2] = { core_pair[1], store_pair[1] };
    send_packet(conn, &c->reply, sizeof(c->reply), fds, c->with_fds ? 2 : 0);
    close(core_pair[1]);
    close(store_pair[1]);
    char sink[64];
    while (read(core_pair[0], sink, sizeof(sink)) > 0) /* until the new domain is gone */
        ;
    close(conn);
    close(core_pair[0]);
    close(store_pair[0]);
    return NULL;
}

static void attaching(void **state)
{
    (void)state;
    static const struct {
        struct attach_reply reply;
        bool with_fds;
        int err;
    } cases[] = {
        { { CORE_PROTO_VERSION, 0 }, true, 0 },
        { { CORE_PROTO_VERSION, -EBUSY }, false, -EBUSY },
        { { CORE_PROTO_VERSION + 1, 0 }, true, -EPROTO },
        { { CORE_PROTO_VERSION, 0 }, false, -EPROTO },
    };
    char dir[] = "/tmp/bulkhead-test-XXXXXX";
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct hyp *hyp;
    assert_non_null(mkdtemp(dir));
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/attach.sock", dir);
    assert_int_equal(hyp_open(&hyp, addr.sun_path), -ENOENT);
    struct attach_case c = { .listener = socket(AF_UNIX, SOCK_SEQPACKET, 0) };
    assert_int_equal(bind(c.listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(hyp_open(&hyp, addr.sun_path), -ENOENT); /* nobody listens */
    assert_int_equal(listen(c.listener, 4), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pthread_t t;
        c.reply = cases[i].reply;
        c.with_fds = cases[i].with_fds;
        assert_int_equal(pthread_create(&t, NULL, attach_server, &c), 0);
        assert_int_equal(hyp_open(&hyp, addr.sun_path), cases[i].err);
        if (cases[i].err == 0) {
            assert_int_equal(hyp_domid(hyp), 6);
            hyp_close(hyp);
        }
        pthread_join(t, NULL);
    }
    close(c.listener);
    unlink(addr.sun_path);
    rmdir(dir);
}

struct adopt_case {
    int listener;
    bool taken;
};

/* A core with or without a toolstack: it answers, or hangs up. */
static void *adopt_server(void *arg)
{
    struct adopt_case *c = arg;
    int conn = accept(c->listener, NULL, NULL), pair[2];
    union core_call_any call;
    while (!c->taken && recv(conn, &call, sizeof(call), 0) > 0) {
        struct core_reply r = { .op = call.h.op, .seq = call.h.seq };
        unsigned nfds = call.h.op == CORE_OP_PARCEL ? 2 : 0;
        if (call.h.op == CORE_OP_HELLO)
            r.u.hello.version = CORE_PROTO_VERSION;
        if (nfds && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
            abort();
        send_packet(conn, &r, sizeof(r), pair, nfds);
        for (unsigned i = 0; i < nfds; i++)
            close(pair[i]);
    }
    close(conn);
    return NULL;
}

static void adopting(void **state)
{
    (void)state;
    char dir[] = "/tmp/bulkhead-test-XXXXXX";
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct hyp *hyp;
    int parcel[2];
    assert_non_null(mkdtemp(dir));
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/core.sock", dir);
    assert_int_equal(hyp_local_adopt(&hyp, addr.sun_path, parcel), -ENOENT);
    struct adopt_case c = { .listener = socket(AF_UNIX, SOCK_SEQPACKET, 0) };
    assert_int_equal(bind(c.listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(hyp_local_adopt(&hyp, addr.sun_path, parcel), -ECONNREFUSED);
    assert_int_equal(listen(c.listener, 4), 0);
    for (unsigned i = 0; i < 2; i++) {
        pthread_t t;
        c.taken = i == 0;
        assert_int_equal(pthread_create(&t, NULL, adopt_server, &c), 0);
        assert_int_equal(hyp_local_adopt(&hyp, addr.sun_path, parcel), c.taken ? -EBUSY : 0);
        if (!c.taken) {
            assert_int_equal(hyp_domid(hyp), HYP_DOMID_TOOLSTACK);
            close(parcel[0]);
            close(parcel[1]);
            hyp_close(hyp);
        }
        pthread_join(t, NULL);
    }
    close(c.listener);
    unlink(addr.sun_path);
    rmdir(dir);
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(identity_is_told),
        IN_WORLD(store_connections_come_from_the_core),
        IN_WORLD(toolstack_calls_say_what_they_mean),
        IN_WORLD(a_pool_is_shared_by_the_same_references),
        IN_WORLD(events_during_a_call_are_kept_and_announced),
        IN_WORLD(the_end_of_the_core_is_told),
        IN_WORLD(a_reply_to_another_call_ends_it),
        cmocka_unit_test(another_version_is_refused),
        IN_WORLD(persistent_maps_once),
        IN_WORLD(a_pool_is_allocated_or_not_made),
        IN_WORLD(foreign_references_are_refused),
        IN_WORLD(grants_map_in_any_order),
        IN_WORLD(read_only_means_it),
        IN_WORLD(copies_stay_in_their_page),
        IN_WORLD(regrant_keeps_memory),
        IN_WORLD(limits_are_told),
        IN_WORLD(a_full_descriptor_table_is_survived),
        IN_WORLD(doorbells_ring_both_ways),
        IN_WORLD(lost_memory_in_a_pool),
        IN_WORLD(lost_memory_in_a_window),
        IN_WORLD(lost_memory_of_our_own),
        IN_WORLD(another_sigbus_stays_fatal),
        cmocka_unit_test(opening_by_environment),
        cmocka_unit_test(attaching),
        cmocka_unit_test(adopting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
