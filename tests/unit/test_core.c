/* SPDX-License-Identifier: MIT */
/* The core's rules, without processes: see core_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/wait.h>

#include "../core_rig.h"

struct dom {
    int sock;
    domid_t domid;
};

static int stderr_copy;

static int setup(void **state)
{
    (void)state;
    rig_start();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_stop();
    return 0;
}

/* One call and its reply; events in between are dropped. */
static int ask(int sock, void *packet, size_t bytes, struct core_reply *r, int *fds)
{
    struct core_call *h = packet;
    static uint32_t seq;
    int got[HYP_FDS_MAX];
    unsigned nfds = 0;
    h->seq = ++seq;
    assert_true(send(sock, packet, bytes, MSG_NOSIGNAL) == (ssize_t)bytes);
    for (unsigned i = 0; i < 400; i++) {
        rig_turn();
        rig_check();
        while (rig_receive(sock, r, got, &nfds)) {
            for (unsigned f = 0; f < nfds; f++)
                if (fds && r->op == h->op)
                    fds[f] = got[f];
                else
                    close(got[f]);
            if (r->op != h->op || r->op == CORE_OP_NONE)
                continue;
            assert_int_equal(r->seq, h->seq);
            return r->error;
        }
    }
    fail_msg("no reply to call %u", h->op);
    return 0;
}

static int simple(int sock, uint32_t op)
{
    struct core_call c = { op, 0 };
    struct core_reply r;
    return ask(sock, &c, sizeof(c), &r, NULL);
}

static int on_domain(uint32_t op, domid_t domid, struct core_reply *r)
{
    struct core_call_domain c = { { op, 0 }, domid, 0 };
    return ask(rig.toolstack, &c, sizeof(c), r, NULL);
}

static int create(uint32_t class_id, struct dom *d)
{
    struct core_call_create c = { .h = { CORE_OP_DOMAIN_CREATE, 0 },
                                  .cfg = { .class_id = class_id, .name = "unit", .grant_pages = 1000 } };
    struct core_reply r;
    int fds[2] = { -1, -1 };
    *d = (struct dom){ -1, 0 };
    int error = ask(rig.toolstack, &c, sizeof(c), &r, fds);
    if (error)
        return error;
    d->domid = (domid_t)r.u.domain.domid;
    d->sock = class_id == HYP_CLASS_NATIVE
                  ? fds[0]
                  : rig_copy(rig_process(domain_find(&rig.core, d->domid)->pidfd)->core);
    core_close(&fds[1]);
    return 0;
}

static struct dom start(uint32_t class_id)
{
    struct dom d;
    struct core_reply r;
    assert_int_equal(create(class_id, &d), 0);
    assert_int_equal(on_domain(CORE_OP_DOMAIN_UNPAUSE, d.domid, &r), 0);
    assert_int_equal(simple(d.sock, CORE_OP_HELLO), 0);
    return d;
}

static void finish(struct dom *d)
{
    struct domain *in_core = domain_find(&rig.core, d->domid);
    core_close(&d->sock);
    if (in_core && in_core->pidfd >= 0)
        rig_kill(in_core->pidfd);
    rig_turn();
    rig_turn();
    rig_check();
}

static int pool(const struct dom *from, domid_t to, uint64_t pages, uint32_t flags, uint32_t *first)
{
    struct core_call_pool_create c = { { CORE_OP_POOL_CREATE, 0 }, to, flags, pages };
    struct core_reply r;
    int error = ask(from->sock, &c, sizeof(c), &r, NULL);
    if (first && error == 0)
        *first = r.u.pool.first;
    return error;
}

static int on_pool(const struct dom *d, uint32_t op, uint32_t peer, uint32_t ref, struct core_reply *r)
{
    struct core_call_pool c = { { op, 0 }, peer, ref };
    return ask(d->sock, &c, sizeof(c), r, NULL);
}

static int on_channel(const struct dom *d, uint32_t op, domid_t peer, uint32_t port, struct core_reply *r)
{
    struct core_call_evtchn c = { { op, 0 }, peer, port };
    return ask(d->sock, &c, sizeof(c), r, NULL);
}

/* The next event that waits in a socket: its kind, or 0. */
static uint32_t event(int sock, struct core_reply *r)
{
    int fds[HYP_FDS_MAX];
    unsigned nfds;
    rig_turn();
    if (!rig_receive(sock, r, fds, &nfds))
        return 0;
    assert_int_equal(r->op, CORE_OP_NONE);
    return r->u.event.kind;
}

/* -------------------------------------------------------------------- refusals */

static void calls_of_a_wrong_length_are_refused(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE);
    struct core_reply r;
    union core_call_any c;
    for (uint32_t op = CORE_OP_HELLO; op < CORE_OP_COUNT; op++) {
        memset(&c, 0, sizeof(c));
        c.h.op = op;
        uint64_t before = rig.core.stats[REFUSED_LEN];
        assert_int_equal(ask(g.sock, &c, sizeof(c.h) + 1, &r, NULL), -EINVAL);
        assert_int_equal(rig.core.stats[REFUSED_LEN], before + 1);
    }
    uint8_t most[sizeof(c) + 8] = { CORE_OP_DEVICE_ASSIGN };
    assert_int_equal(ask(g.sock, most, sizeof(most), &r, NULL), -EINVAL); /* cut to the right length */
    assert_int_equal(simple(g.sock, CORE_OP_READY), 0);                   /* control */
    finish(&g);
}

static void unknown_calls_are_refused(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE);
    assert_int_equal(simple(g.sock, CORE_OP_COUNT), -ENOSYS);
    assert_int_equal(simple(g.sock, UINT32_MAX), -ENOSYS);
    assert_int_equal(rig.core.stats[REFUSED_OP], 2);
    struct core_call none = { CORE_OP_NONE, 1 };
    struct core_reply r;
    assert_true(send(g.sock, &none, sizeof(none), 0) > 0);
    assert_true(send(g.sock, &none, 3, 0) > 0);
    assert_int_equal(event(g.sock, &r), 0); /* no reply: it would look like an event */
    assert_int_equal(rig.core.stats[REFUSED_OP], 3);
    assert_int_equal(rig.core.stats[REFUSED_LEN], 1);
    assert_int_equal(on_domain(CORE_OP_DOMAIN_INFO, g.domid, &r), 0);
    assert_int_equal(r.u.info.calls, 5);
    assert_int_equal(r.u.info.refused, 4);
    finish(&g);
}

static void classes_have_no_right_that_they_do_not_need(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), b = start(HYP_CLASS_BLK);
    struct core_reply r;
    uint32_t first = 0;
    assert_int_equal(pool(&b, g.domid, 1, 0, NULL), -EPERM);
    assert_int_equal(pool(&g, b.domid, 1, 0, &first), 0);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_MAP, b.domid, first, &r), -EPERM);
    assert_int_equal(on_pool(&b, CORE_OP_POOL_MAP, g.domid, first, &r), 0);
    struct core_call_device acquire = { { CORE_OP_DEVICE_ACQUIRE, 0 }, g.domid, 0 };
    assert_int_equal(ask(g.sock, &acquire, sizeof(acquire), &r, NULL), -EPERM);
    struct core_call_domain destroy = { { CORE_OP_DOMAIN_DESTROY, 0 }, b.domid, 0 };
    assert_int_equal(ask(g.sock, &destroy, sizeof(destroy), &r, NULL), -EPERM);
    assert_int_equal(ask(b.sock, &destroy, sizeof(destroy), &r, NULL), -EPERM);
    assert_non_null(domain_find(&rig.core, b.domid));
    assert_int_equal(ask(rig.toolstack, &destroy, sizeof(destroy), &r, NULL), 0);
    finish(&b);
    finish(&g);
}

static void reserved_fields_must_be_zero(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), b = start(HYP_CLASS_BLK);
    struct core_reply r;
    struct core_call_restrict keep = { { CORE_OP_RESTRICT, 0 }, HYP_MAY_GRANT, 1 };
    assert_int_equal(ask(g.sock, &keep, sizeof(keep), &r, NULL), -EINVAL);
    keep.zero = 0;
    keep.keep = 1u << 30;
    assert_int_equal(ask(g.sock, &keep, sizeof(keep), &r, NULL), -EINVAL);
    assert_int_equal(on_channel(&g, CORE_OP_EVTCHN_ALLOC, b.domid, 1, &r), -EINVAL);
    assert_int_equal(on_channel(&g, CORE_OP_EVTCHN_ALLOC, b.domid, 0, &r), 0);
    assert_int_equal(on_channel(&g, CORE_OP_EVTCHN_CLOSE, b.domid, 1, &r), -EINVAL);
    assert_int_equal(pool(&g, b.domid, 1, 2, NULL), -EINVAL);
    struct core_call_create c = { .h = { CORE_OP_DOMAIN_CREATE, 0 }, .cfg = { .class_id = HYP_CLASS_BLK } };
    assert_int_equal(ask(rig.toolstack, &c, sizeof(c), &r, NULL), -EINVAL); /* no name */
    memset(c.cfg.name, 'x', sizeof(c.cfg.name));
    assert_int_equal(ask(rig.toolstack, &c, sizeof(c), &r, NULL), -EINVAL); /* no end of it */
    c.cfg.name[5] = '\0';
    c.nfds = 1;
    assert_int_equal(ask(rig.toolstack, &c, sizeof(c), &r, NULL), -EINVAL); /* where is it? */
    c.nfds = 0;
    c.cfg.class_id = HYP_CLASS_STORE;
    assert_int_equal(ask(rig.toolstack, &c, sizeof(c), &r, NULL), -EINVAL);
    c.cfg.class_id = HYP_CLASS_COUNT;
    assert_int_equal(ask(rig.toolstack, &c, sizeof(c), &r, NULL), -EINVAL);
    finish(&g);
    finish(&b);
}

static void descriptors_only_where_they_belong(void **state)
{
    (void)state;
    struct core_call c = { CORE_OP_HELLO, 77 };
    struct core_reply r;
    int none[HYP_FDS_MAX], gifts[6] = { 0, 1, 2, 0, 1, 2 };
    unsigned n, before = rig.nprocesses;
    assert_int_equal(rights_send(rig.toolstack, &c, sizeof(c), gifts, 1), 0);
    rig_turn();
    assert_int_equal(rig_receive(rig.toolstack, &r, none, &n), 1);
    assert_int_equal(r.error, -EINVAL);
    struct core_call_create create5 = { .h = { CORE_OP_DOMAIN_CREATE, 0 }, .nfds = 4,
                                        .cfg = { .class_id = HYP_CLASS_BLK, .name = "x" } };
    struct iovec iov = { &create5, sizeof(create5) };
    char control[CMSG_SPACE(sizeof(gifts))] __attribute__((aligned(8))) = { 0 };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
                          .msg_controllen = sizeof(control) };
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(gifts));
    memcpy(CMSG_DATA(h), gifts, sizeof(gifts));
    assert_true(sendmsg(rig.toolstack, &msg, 0) > 0);
    rig_turn();
    assert_int_equal(rig_receive(rig.toolstack, &r, none, &n), 1);
    assert_int_equal(r.error, -EINVAL);
    assert_int_equal(rig.core.stats[REFUSED_FDS], 2);
    assert_int_equal(rig.nprocesses, before);
}

/* ------------------------------------------------------------------------ pools */

static void sizes_do_not_overflow(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), b = start(HYP_CLASS_BLK);
    static const uint64_t wrong[] = { UINT64_MAX, UINT64_MAX - 999, UINT64_C(1) << 52, UINT64_C(1) << 32,
                                      (UINT64_C(1) << 32) + 1, CORE_POOL_PAGES_MAX + 1, 1001 };
    assert_int_equal(pool(&g, b.domid, 0, 0, NULL), -EINVAL);
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(pool(&g, b.domid, wrong[i], 0, NULL), -EDQUOT);
    assert_int_equal(pool(&g, b.domid, 600, 0, NULL), 0);
    assert_int_equal(pool(&g, b.domid, 401, 0, NULL), -EDQUOT);
    assert_int_equal(pool(&g, b.domid, 400, 0, NULL), 0);
    assert_int_equal(pool(&g, b.domid, 1, 0, NULL), -EDQUOT);
    finish(&g);
    finish(&b);
}

static void pools_have_a_number_too(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), b = start(HYP_CLASS_BLK);
    struct core_reply r;
    uint32_t first = 0;
    for (unsigned i = 0; i < CORE_POOLS_EACH; i++)
        assert_int_equal(pool(&g, b.domid, 1, 0, &first), 0);
    assert_int_equal(pool(&g, b.domid, 1, 0, NULL), -EDQUOT);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_END, 0, first, &r), 0);
    assert_int_equal(pool(&g, b.domid, 1, 0, NULL), 0);
    finish(&g);
    finish(&b);
}

static void references_are_never_ambiguous(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), b = start(HYP_CLASS_BLK);
    struct core_reply r;
    uint32_t a1 = 0, a2 = 0, a3 = 0;
    assert_int_equal(pool(&g, b.domid, 3, 0, &a1), 0);
    assert_true(a1 >= 8); /* the first are reserved in Xen */
    assert_int_equal(pool(&g, b.domid, 3, 0, &a2), 0);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_END, 0, a2, &r), 0);
    assert_int_equal(pool(&g, b.domid, 3, 0, &a3), 0);
    assert_true(a3 != a2 && a3 != a1); /* not again so soon */
    assert_int_equal(on_pool(&b, CORE_OP_POOL_MAP, g.domid, a2, &r), -EACCES);
    assert_int_equal(on_pool(&b, CORE_OP_POOL_MAP, g.domid, a1 + 2, &r), 0);
    assert_int_equal(r.u.pool.first, a1);
    assert_int_equal(r.u.pool.pages, 3);
    assert_int_equal(on_pool(&b, CORE_OP_POOL_MAP, g.domid, 0, &r), -EACCES);
    assert_int_equal(on_pool(&b, CORE_OP_POOL_MAP, g.domid, UINT32_MAX, &r), -EACCES);
    /* Once round: the next free ones are behind those in use. */
    domain_find(&rig.core, g.domid)->next_ref = 0x7fffffff - 2;
    assert_int_equal(pool(&g, b.domid, 3, 0, &a2), 0);
    assert_true(a2 >= 8 && a2 < 100 && (a2 >= a1 + 3 || a2 + 3 <= a1) && (a2 >= a3 + 3 || a2 + 3 <= a3));
    finish(&g);
    finish(&b);
}

static void a_pool_is_its_grantees_alone(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), b = start(HYP_CLASS_BLK), c = start(HYP_CLASS_BLK);
    struct core_reply r;
    uint32_t first = 0;
    assert_int_equal(pool(&g, 999, 1, 0, NULL), -ESRCH);
    assert_int_equal(pool(&g, g.domid, 1, 0, NULL), -ESRCH);
    assert_int_equal(pool(&g, b.domid, 4, 0, &first), 0);
    assert_int_equal(on_pool(&c, CORE_OP_POOL_MAP, g.domid, first, &r), -EACCES);
    assert_int_equal(on_pool(&c, CORE_OP_POOL_UNMAP, g.domid, first, &r), -EACCES);
    assert_int_equal(on_pool(&b, CORE_OP_POOL_UNMAP, g.domid, first, &r), -EACCES); /* not mapped yet */
    assert_int_equal(on_pool(&b, CORE_OP_POOL_MAP, g.domid, first, &r), 0);
    assert_int_equal(on_pool(&b, CORE_OP_POOL_MAP, g.domid, first, &r), 0);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_END, 0, first + 1, &r), -EACCES); /* by its first only */
    assert_int_equal(on_pool(&g, CORE_OP_POOL_END, 0, first, &r), -EBUSY);
    assert_int_equal(on_pool(&b, CORE_OP_POOL_UNMAP, g.domid, first, &r), 0);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_END, 0, first, &r), -EBUSY);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_REGRANT, c.domid, first, &r), -EBUSY);
    finish(&b); /* its maps go with it */
    assert_int_equal(on_pool(&g, CORE_OP_POOL_REGRANT, 999, first, &r), -ESRCH);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_REGRANT, c.domid, first, &r), 0);
    uint32_t again = r.u.pool.first;
    assert_int_not_equal(again, first);
    assert_int_equal(on_pool(&c, CORE_OP_POOL_MAP, g.domid, first, &r), -EACCES);
    assert_int_equal(on_pool(&c, CORE_OP_POOL_MAP, g.domid, again, &r), 0);
    finish(&g); /* and with a granter its pools */
    uint64_t refused = rig.core.stats[REFUSED_REF];
    assert_int_equal(on_pool(&c, CORE_OP_POOL_UNMAP, g.domid, again, &r), -ESRCH);
    assert_int_equal(rig.core.stats[REFUSED_REF], refused); /* c could not know: no lie */
    assert_int_equal(rig.core.pools_end, 0);
    finish(&c);
}

static bool holds(const struct dom *d, uint32_t kind, uint64_t *pages)
{
    struct core_reply r;
    int error = on_domain(CORE_OP_DOMAIN_HOLDING, d->domid, &r);
    if (error == 0 && pages)
        *pages = r.u.holding.pages;
    return error == 0 && r.u.holding.kind == kind;
}

static void a_spare_has_the_same_pages_by_the_same_references(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), b = start(HYP_CLASS_BLK), c = start(HYP_CLASS_BLK);
    struct dom h = start(HYP_CLASS_NATIVE);
    struct core_reply r;
    uint32_t first = 0;
    uint64_t pages = 0;
    assert_int_equal(pool(&g, b.domid, 4, 0, &first), 0);
    assert_int_equal(on_pool(&c, CORE_OP_POOL_MAP, g.domid, first, &r), -EACCES);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_SHARE, c.domid, first, &r), 0);
    assert_int_equal(r.u.pool.first, first);
    assert_int_equal(on_pool(&c, CORE_OP_POOL_UNMAP, g.domid, first, &r), -EACCES); /* not its map */
    assert_int_equal(on_pool(&b, CORE_OP_POOL_MAP, g.domid, first + 1, &r), 0);
    assert_int_equal(on_pool(&c, CORE_OP_POOL_UNMAP, g.domid, first, &r), -EACCES); /* that is b's */
    assert_int_equal(on_pool(&c, CORE_OP_POOL_MAP, g.domid, first + 3, &r), 0);
    assert_int_equal(r.u.pool.first, first);
    assert_true(holds(&c, HYP_HOLDS_MAP, &pages) && pages == 4);
    assert_int_equal(on_pool(&h, CORE_OP_POOL_MAP, g.domid, first, &r), -EPERM);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_END, 0, first, &r), -EBUSY);
    assert_int_equal(on_pool(&b, CORE_OP_POOL_UNMAP, g.domid, first, &r), 0);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_END, 0, first, &r), -EBUSY); /* the spare alone */
    assert_int_equal(on_pool(&b, CORE_OP_POOL_MAP, g.domid, first, &r), 0);
    finish(&b);
    assert_int_equal(event(g.sock, &r), HYP_EV_DEATH);
    assert_int_equal(event(c.sock, &r), 0);
    struct dom e = start(HYP_CLASS_BLK);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_REGRANT, e.domid, first, &r), -EBUSY); /* it has a grantee */
    assert_int_equal(on_pool(&c, CORE_OP_POOL_MAP, g.domid, first, &r), 0);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_SHARE, e.domid, first, &r), 0); /* and no spare */
    assert_int_equal(on_pool(&c, CORE_OP_POOL_UNMAP, g.domid, first, &r), 0);
    assert_int_equal(on_pool(&c, CORE_OP_POOL_UNMAP, g.domid, first, &r), 0);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_END, 0, first, &r), 0);
    assert_int_equal(on_pool(&e, CORE_OP_POOL_MAP, g.domid, first, &r), -EACCES);
    finish(&g);
    finish(&h);
    finish(&c);
    finish(&e);
}

static void a_spare_dies_and_another_comes(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), b = start(HYP_CLASS_BLK), c = start(HYP_CLASS_BLK);
    struct core_reply r;
    uint32_t first = 0;
    assert_int_equal(pool(&g, b.domid, 4, 0, &first), 0);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_SHARE, c.domid, first, &r), 0);
    assert_int_equal(on_pool(&c, CORE_OP_POOL_MAP, g.domid, first, &r), 0);
    finish(&c);
    assert_int_equal(event(g.sock, &r), HYP_EV_DEATH); /* it shared something with it */
    assert_int_equal(r.u.event.domid, c.domid);
    c = start(HYP_CLASS_BLK);
    assert_int_equal(on_pool(&c, CORE_OP_POOL_MAP, g.domid, first, &r), -EACCES);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_SHARE, c.domid, first, &r), 0);
    assert_int_equal(on_pool(&c, CORE_OP_POOL_MAP, g.domid, first, &r), 0);
    finish(&b); /* c inherits */
    finish(&c); /* and nobody is left */
    b = start(HYP_CLASS_BLK);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_SHARE, b.domid, first, &r), -ESRCH);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_REGRANT, b.domid, first, &r), 0);
    assert_int_not_equal(r.u.pool.first, first);
    finish(&g); /* a granter's death ends it for both */
    assert_int_equal(rig.core.pools_end, 0);
    finish(&b);
}

static void a_pool_is_shared_by_its_granter_with_one(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), h = start(HYP_CLASS_NATIVE);
    struct dom b = start(HYP_CLASS_BLK), c = start(HYP_CLASS_BLK), e = start(HYP_CLASS_BLK);
    struct core_reply r;
    uint32_t first = 0;
    assert_int_equal(pool(&g, b.domid, 4, 0, &first), 0);
    assert_int_equal(on_pool(&h, CORE_OP_POOL_SHARE, c.domid, first, &r), -EACCES); /* not h's */
    assert_int_equal(on_pool(&b, CORE_OP_POOL_SHARE, c.domid, first, &r), -EPERM);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_SHARE, c.domid, first + 1, &r), -EACCES);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_SHARE, 999, first, &r), -ESRCH);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_SHARE, UINT32_MAX, first, &r), -ESRCH);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_SHARE, 65536u + c.domid, first, &r), -ESRCH);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_SHARE, g.domid, first, &r), -ESRCH);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_SHARE, b.domid, first, &r), -ESRCH); /* it has it */
    assert_int_equal(on_pool(&g, CORE_OP_POOL_SHARE, c.domid, first, &r), 0);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_SHARE, e.domid, first, &r), -EBUSY);
    assert_int_equal(on_pool(&g, CORE_OP_POOL_SHARE, c.domid, first, &r), -EBUSY);
    assert_int_equal(on_pool(&e, CORE_OP_POOL_MAP, g.domid, first, &r), -EACCES);
    struct dom *all[] = { &g, &h, &b, &c, &e };
    for (unsigned i = 0; i < 5; i++)
        finish(all[i]);
}

/* --------------------------------------------------------------- event channels */

static void a_channel_ends_with_either_side(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), b = start(HYP_CLASS_BLK), c = start(HYP_CLASS_BLK);
    struct core_reply r;
    assert_int_equal(on_channel(&g, CORE_OP_EVTCHN_ALLOC, g.domid, 0, &r), -ESRCH);
    assert_int_equal(on_channel(&g, CORE_OP_EVTCHN_ALLOC, b.domid, 0, &r), 0);
    uint32_t port = r.u.evtchn.port;
    assert_int_equal(on_channel(&g, CORE_OP_EVTCHN_BIND, b.domid, port, &r), -ENOENT); /* not its remote */
    assert_int_equal(on_channel(&b, CORE_OP_EVTCHN_BIND, g.domid, port + 1, &r), -ENOENT);
    assert_int_equal(on_channel(&c, CORE_OP_EVTCHN_BIND, g.domid, port, &r), -ENOENT);
    assert_int_equal(on_channel(&b, CORE_OP_EVTCHN_BIND, g.domid, port, &r), 0);
    uint32_t theirs = r.u.evtchn.port;
    assert_int_equal(on_channel(&b, CORE_OP_EVTCHN_BIND, g.domid, port, &r), -ENOENT); /* once */
    finish(&c);
    assert_int_equal(on_channel(&b, CORE_OP_EVTCHN_CLOSE, 0, theirs + 1, &r), -ENOENT); /* never was one */
    assert_int_equal(on_channel(&g, CORE_OP_EVTCHN_CLOSE, 0, port, &r), 0);
    assert_int_equal(on_channel(&b, CORE_OP_EVTCHN_CLOSE, 0, theirs, &r), 0); /* over already */
    assert_int_equal(rig.core.evtchns_end, 0);
    for (unsigned i = 0; i < CORE_EVTCHNS_EACH; i++)
        assert_int_equal(on_channel(&g, CORE_OP_EVTCHN_ALLOC, b.domid, 0, &r), 0);
    assert_int_equal(on_channel(&g, CORE_OP_EVTCHN_ALLOC, b.domid, 0, &r), -EDQUOT);
    assert_int_equal(on_channel(&b, CORE_OP_EVTCHN_ALLOC, g.domid, 0, &r), 0); /* the other's share */
    finish(&b);
    assert_int_equal(rig.core.evtchns_end, 0);
    assert_int_equal(on_channel(&g, CORE_OP_EVTCHN_ALLOC, b.domid, 0, &r), -ESRCH);
    finish(&g);
}

/* ---------------------------------------------------------------------- devices */

static int assign(domid_t domid, uint32_t device, const char *path)
{
    struct core_call_assign c = { .h = { CORE_OP_DEVICE_ASSIGN, 0 }, .domid = domid, .device = device };
    struct core_reply r;
    snprintf(c.path, sizeof(c.path), "%s", path);
    return ask(rig.toolstack, &c, sizeof(c), &r, NULL);
}

static int take(const struct dom *d, uint32_t device, int *fd)
{
    struct core_call_device c = { { CORE_OP_DEVICE_ACQUIRE, 0 }, d->domid, device };
    struct core_reply r;
    int error = ask(d->sock, &c, sizeof(c), &r, fd);
    assert_true((*fd >= 0) == (error == 0));
    return error;
}

static int acquire(const struct dom *d, uint32_t device)
{
    int fd = -1, error = take(d, device, &fd);
    core_close(&fd);
    return error;
}

/* A fresh open gets the lock. */
static bool is_free(int fd)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int fresh = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fresh >= 0);
    bool got = flock(fresh, LOCK_EX | LOCK_NB) == 0;
    close(fresh);
    return got;
}

/* Our copy stands for what the kernel still holds open after the death. */
static void what_ends_with_its_process_is_unlocked_at_its_death(void **state)
{
    (void)state;
    int plain = -1, threads = -1, released = -1;
    struct dom b = start(HYP_CLASS_BLK);
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0);
    assert_int_equal(assign(b.domid, 1, "/ok"), 0);
    assert_int_equal(assign(b.domid, 2, "/threads"), 0);
    assert_int_equal(assign(b.domid, 3, "/threads"), 0);
    rig_turn();
    assert_int_equal(take(&b, 1, &plain), 0);
    assert_int_equal(take(&b, 2, &threads), 0);
    assert_int_equal(take(&b, 3, &released), 0);
    struct core_call_device release = { { CORE_OP_DEVICE_RELEASE, 0 }, b.domid, 3 };
    struct core_reply r;
    assert_int_equal(ask(rig.toolstack, &release, sizeof(release), &r, NULL), 0);
    assert_false(is_free(plain));
    assert_false(is_free(threads));
    assert_false(is_free(released)); /* who has it lives: it is still at it */
    finish(&b);
    assert_false(is_free(plain)); /* the control: only the last I/O gives this back */
    assert_true(is_free(threads));
    core_close(&plain);
    core_close(&threads);
    core_close(&released);
}

/* The next event and what came along, or -1. */
static uint32_t event_with(int sock, struct core_reply *r, int *fd)
{
    int fds[HYP_FDS_MAX];
    unsigned n = 0;
    *fd = -1;
    rig_turn();
    if (!rig_receive(sock, r, fds, &n))
        return 0;
    assert_true(n <= 1 && r->nfds == n);
    if (n > 0)
        *fd = fds[0];
    return r->u.event.kind;
}

/* The spare has asked: the death of the one that has it is all that it waits for. */
static void who_waits_has_it_when_the_owner_is_dead(void **state)
{
    (void)state;
    struct dom active = start(HYP_CLASS_BLK), spare = start(HYP_CLASS_BLK), late = start(HYP_CLASS_BLK);
    struct core_reply r;
    int fd, got = -1;
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0);
    assert_int_equal(assign(active.domid, 1, "/shared"), 0);
    rig_turn();
    assert_int_equal(event_with(active.sock, &r, &fd), HYP_EV_DEVICE);
    assert_int_equal(fd, -1); /* it has not asked yet */
    assert_int_equal(take(&active, 1, &got), 0);
    assert_int_equal(assign(spare.domid, 2, "/shared"), 0);
    assert_int_equal(acquire(&spare, 2), -EAGAIN);
    assert_int_equal(assign(late.domid, 3, "/shared"), 0);
    rig_turn();
    assert_int_equal(event_with(spare.sock, &r, &fd), 0); /* the control: the owner lives */
    finish(&active);
    assert_int_equal(event_with(spare.sock, &r, &fd), HYP_EV_DEVICE);
    assert_int_equal(r.u.event.device, 2);
    assert_true(fd >= 0);
    assert_false(is_free(fd)); /* and locked */
    assert_int_equal(acquire(&spare, 2), -ENOENT); /* it has it */
    assert_int_equal(event_with(late.sock, &r, &got), 0);
    assert_int_equal(acquire(&late, 3), -EAGAIN);
    core_close(&fd);
    finish(&spare);
    do
        assert_int_not_equal(event_with(late.sock, &r, &fd), 0);
    while (r.u.event.kind != HYP_EV_DEVICE);
    assert_int_equal(r.u.event.device, 3);
    core_close(&fd);
    finish(&late);
}

static void a_device_is_taken_once(void **state)
{
    (void)state;
    struct dom b = start(HYP_CLASS_BLK), c = start(HYP_CLASS_BLK), g = start(HYP_CLASS_NATIVE);
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0);
    assert_int_equal(assign(g.domid, 1, "/ok"), -ESRCH); /* no driver domain */
    assert_int_equal(assign(b.domid, 1, "ok"), -EINVAL); /* no absolute path */
    assert_int_equal(assign(b.domid, 1, "/hang"), 0);
    assert_int_equal(assign(b.domid, 1, "/ok"), -EEXIST);
    assert_int_equal(acquire(&b, 1), -EAGAIN);
    struct core_call_device release = { { CORE_OP_DEVICE_RELEASE, 0 }, b.domid, 1 };
    struct core_reply r;
    assert_int_equal(ask(rig.toolstack, &release, sizeof(release), &r, NULL), 0);
    assert_int_equal(acquire(&b, 1), -ENOENT);
    assert_int_equal(assign(b.domid, 1, "/ok"), 0);
    rig_turn();
    uint64_t before = monotonic_ns();
    assert_int_equal(event(b.sock, &r), HYP_EV_DEVICE);
    assert_int_equal(r.u.event.device, 1);
    assert_true(r.u.event.at_ns > 0 && r.u.event.at_ns < before); /* when it was known, not told */
    assert_int_equal(acquire(&c, 1), -ENOENT);
    assert_int_equal(acquire(&b, 1), 0);
    assert_int_equal(acquire(&b, 1), -ENOENT);
    assert_int_equal(assign(b.domid, 1, "/ok"), -EEXIST); /* it has it */
    for (uint32_t i = 2; i <= CORE_DEVICES_EACH; i++)
        assert_int_equal(assign(b.domid, i, "/ok"), 0);
    assert_int_equal(assign(b.domid, 1000, "/ok"), -EDQUOT);
    finish(&b);
    finish(&c);
    finish(&g);
}

static void a_failed_open_is_told_and_forgotten(void **state)
{
    (void)state;
    struct dom b = start(HYP_CLASS_BLK);
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0);
    struct core_reply r;
    struct core_call_assign c = { .h = { CORE_OP_DEVICE_ASSIGN, 3 }, .domid = b.domid, .device = 9,
                                  .path = "/no" };
    assert_true(send(rig.toolstack, &c, sizeof(c), 0) > 0);
    int fds[HYP_FDS_MAX];
    unsigned n;
    rig_turn();
    rig_turn();
    assert_int_equal(rig_receive(rig.toolstack, &r, fds, &n), 1);
    assert_int_equal(r.error, 0);
    assert_int_equal(event(rig.toolstack, &r), HYP_EV_DEVICE);
    assert_int_equal(r.u.event.error, -ENOENT);
    assert_int_equal(event(b.sock, &r), 0); /* only what succeeds is its business */
    assert_int_equal(assign(b.domid, 9, "/ok"), 0);
    finish(&b);
}

/* --------------------------------------------------------------- domains, events */

static void domids_come_back_late(void **state)
{
    (void)state;
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0); /* so that it is told of deaths */
    struct dom a = start(HYP_CLASS_NATIVE), b = start(HYP_CLASS_NATIVE);
    assert_int_equal(a.domid, 1);
    assert_int_equal(b.domid, 2);
    finish(&a);
    a = start(HYP_CLASS_NATIVE);
    assert_int_equal(a.domid, 3);
    rig.core.last_domid = LOCAL_DOMID_LAST - 1;
    struct dom c = start(HYP_CLASS_NATIVE), d = start(HYP_CLASS_NATIVE), e = start(HYP_CLASS_NATIVE);
    assert_int_equal(c.domid, LOCAL_DOMID_LAST);
    assert_int_equal(d.domid, 1);
    assert_int_equal(e.domid, 4); /* 2 and 3 live */
    struct dom *all[] = { &a, &b, &c, &d, &e };
    for (unsigned i = 0; i < 5; i++)
        finish(all[i]);
}

static void the_table_may_be_full(void **state)
{
    (void)state;
    static struct dom many[CORE_DOMAINS_MAX];
    unsigned n = 0;
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0);
    while (create(HYP_CLASS_NATIVE, &many[n]) == 0) {
        n++;
        char words[64];
        while (recv(rig.store_control, words, sizeof(words), MSG_DONTWAIT) > 0)
            ;
    }
    assert_int_equal(n, CORE_DOMAINS_MAX - 2); /* all but the toolstack and the store */
    assert_int_equal(rig.core.stats[REFUSED_FULL], 1);
    finish(&many[0]);
    assert_int_equal(create(HYP_CLASS_NATIVE, &many[0]), 0);
    for (unsigned i = 0; i < n; i++)
        core_close(&many[i].sock);
}

/* A disk stack needs no net driver domain's program, and says so when it does. */
static void a_missing_program_is_missed_when_it_is_needed(void **state)
{
    (void)state;
    char path[128];
    struct dom d;
    snprintf(path, sizeof(path), "%s/bulkhead-net", rig_libexec);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(create(HYP_CLASS_NET, &d), -ENOENT);
    d = start(HYP_CLASS_BLK);
    finish(&d);
    assert_int_equal(symlink("/dev/null", path), 0);
    d = start(HYP_CLASS_NET);
    assert_int_equal(domain_find(&rig.core, d.domid)->rights, HYP_MAY_MAP | HYP_MAY_EVTCHN | HYP_MAY_DEVICE);
    finish(&d);
}

static dev_t program_of(const struct dom *d)
{
    return rig_process(domain_find(&rig.core, d->domid)->pidfd)->program;
}

static void a_new_program_is_for_the_next_domain(void **state)
{
    (void)state;
    char path[128], other[128];
    struct dom old = start(HYP_CLASS_BLK);
    assert_int_equal(program_of(&old), makedev(1, 3));
    snprintf(path, sizeof(path), "%s/bulkhead-blk", rig_libexec);
    snprintf(other, sizeof(other), "%s/bulkhead-new", rig_libexec);
    assert_int_equal(symlink("/dev/zero", other), 0);
    assert_int_equal(rename(other, path), 0);
    struct dom new = start(HYP_CLASS_BLK);
    assert_int_equal(program_of(&new), makedev(1, 5));
    assert_int_equal(program_of(&old), makedev(1, 3));
    assert_int_equal(symlink("/dev/null", other), 0);
    assert_int_equal(rename(other, path), 0);
    finish(&old);
    finish(&new);
}

static void a_failed_launch_leaves_nothing(void **state)
{
    (void)state;
    struct dom d;
    rig.launch_fails = true;
    assert_int_equal(create(HYP_CLASS_BLK, &d), -EAGAIN);
    rig.launch_fails = false;
    rig_turn();
    struct store_control w[4];
    unsigned n = 0;
    while (n < 4 && recv(rig.store_control, &w[n], sizeof(w[0]), MSG_DONTWAIT) > 0)
        n++;
    assert_int_equal(n, 2); /* that one and its end */
    assert_int_equal(w[0].op, STORE_CONTROL_INTRODUCE);
    assert_int_equal(w[1].op, STORE_CONTROL_RELEASE);
    assert_int_equal(w[0].domid, w[1].domid);
    for (unsigned i = 2; i < CORE_DOMAINS_MAX; i++)
        assert_int_equal(rig.core.domains[i].state, DOMAIN_FREE);
}

static void a_paused_domain_waits(void **state)
{
    (void)state;
    struct dom d;
    struct core_reply r;
    struct core_call hello = { CORE_OP_HELLO, 1 };
    assert_int_equal(create(HYP_CLASS_NATIVE, &d), 0);
    assert_true(send(d.sock, &hello, sizeof(hello), 0) > 0);
    assert_int_equal(on_domain(CORE_OP_DOMAIN_STOP, d.domid, &r), 0);
    assert_int_equal(event(d.sock, &r), 0); /* neither a reply nor an event */
    assert_int_equal(on_domain(CORE_OP_DOMAIN_UNPAUSE, d.domid, &r), 0);
    int fds[HYP_FDS_MAX];
    unsigned n;
    rig_turn();
    assert_int_equal(rig_receive(d.sock, &r, fds, &n), 1);
    assert_int_equal(r.op, CORE_OP_HELLO);
    assert_int_equal(event(d.sock, &r), HYP_EV_STOP);
    finish(&d);
    assert_int_equal(create(HYP_CLASS_NATIVE, &d), 0); /* one may also die waiting */
    finish(&d);
    assert_null(domain_find(&rig.core, d.domid));
}

static void deaths_are_told_to_those_concerned(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), h = start(HYP_CLASS_NATIVE), b = start(HYP_CLASS_BLK);
    struct core_reply r;
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0);
    assert_int_equal(pool(&g, b.domid, 1, 0, NULL), 0);
    uint64_t before = monotonic_ns();
    finish(&b);
    uint64_t after = monotonic_ns();
    assert_int_equal(event(rig.toolstack, &r), HYP_EV_DEATH);
    assert_int_equal(r.u.event.domid, b.domid);
    assert_int_equal(r.u.event.error, 9);
    assert_true(r.u.event.at_ns > before && r.u.event.at_ns < after);
    assert_int_equal(event(g.sock, &r), HYP_EV_DEATH);
    assert_int_equal(r.u.event.domid, b.domid);
    assert_int_equal(event(h.sock, &r), 0);
    b = start(HYP_CLASS_BLK); /* in the same slot, and a stranger to g */
    finish(&b);
    assert_int_equal(event(rig.toolstack, &r), HYP_EV_DEATH);
    assert_int_equal(event(g.sock, &r), 0);
    finish(&g);
    finish(&h);
}

/* Fills a domain's socket with replies that it does not read. */
static void fill_up(const struct dom *d)
{
    struct core_call c = { CORE_OP_READY, 0 };
    struct domain *in_core = domain_find(&rig.core, d->domid);
    for (unsigned i = 0; i < 10000 && !in_core->clogged; i++) {
        while (send(d->sock, &c, sizeof(c), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
            ;
        rig_turn();
    }
    assert_true(in_core->clogged);
}

static void a_flood_gets_its_budget_and_no_more(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), h = start(HYP_CLASS_NATIVE);
    struct core_call c = { CORE_OP_READY, 0 };
    for (unsigned i = 0; i < 100; i++)
        assert_true(send(g.sock, &c, sizeof(c), MSG_DONTWAIT) > 0);
    assert_true(send(h.sock, &c, sizeof(c), MSG_DONTWAIT) > 0);
    uint64_t g0 = domain_find(&rig.core, g.domid)->calls, h0 = domain_find(&rig.core, h.domid)->calls;
    rig_turn();
    assert_int_equal(domain_find(&rig.core, g.domid)->calls - g0, CORE_BUDGET);
    assert_int_equal(domain_find(&rig.core, h.domid)->calls - h0, 1);
    finish(&g);
    finish(&h);
}

static void who_does_not_read_is_not_served(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), b = start(HYP_CLASS_BLK);
    fill_up(&g);
    uint64_t calls = domain_find(&rig.core, g.domid)->calls;
    rig_turn();
    rig_turn();
    assert_int_equal(domain_find(&rig.core, g.domid)->calls, calls);
    assert_int_equal(simple(b.sock, CORE_OP_READY), 0); /* others are */
    struct core_reply r;
    int fds[HYP_FDS_MAX];
    unsigned n, read = 0;
    for (unsigned i = 0; i < 10000 && read < calls; i++) { /* it reads: every reply is there */
        while (rig_receive(g.sock, &r, fds, &n))
            read++;
        rig_turn();
    }
    assert_true(domain_find(&rig.core, g.domid)->calls > calls);
    finish(&g);
    finish(&b);
}

static void who_does_not_read_keeps_no_slot(void **state)
{
    (void)state;
    struct dom b = start(HYP_CLASS_BLK), g = start(HYP_CLASS_NATIVE);
    assert_int_equal(pool(&g, b.domid, 1, 0, NULL), 0);
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0);
    fill_up(&g);
    rig_kill(domain_find(&rig.core, b.domid)->pidfd);
    core_turn(&rig.core, -1);
    assert_null(domain_find(&rig.core, g.domid));
    core_turn(&rig.core, -1); /* does not wait: there is that death to tell */
    struct core_reply r;
    int fds[HYP_FDS_MAX];
    unsigned n;
    bool told = false;
    while (rig_receive(rig.toolstack, &r, fds, &n))
        told |= r.u.event.kind == HYP_EV_DEATH && r.u.event.domid == g.domid;
    assert_true(told);
    core_close(&g.sock);
    core_close(&b.sock);
}

static void a_slow_store_is_told_later(void **state)
{
    (void)state;
    struct dom d = start(HYP_CLASS_NATIVE);
    struct store_control filler = { 0, 0 };
    while (send(rig.core.store_control, &filler, sizeof(filler), MSG_DONTWAIT) > 0)
        ;
    struct dom none;
    assert_int_equal(create(HYP_CLASS_NATIVE, &none), -EAGAIN);
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0);
    finish(&d);
    struct store_control w = { 0, 0 };
    bool told = false;
    for (unsigned i = 0; i < 100000 && !told; i++) {
        if (recv(rig.store_control, &w, sizeof(w), MSG_DONTWAIT) < 0)
            rig_turn();
        told = w.op == STORE_CONTROL_RELEASE && w.domid == d.domid;
    }
    assert_true(told);
}

/* -------------------------------------------------------------------- the store */

static int store_connect(int sock, int *fd)
{
    struct core_call c = { CORE_OP_STORE_CONNECT, 0 };
    struct core_reply r;
    *fd = -1;
    return ask(sock, &c, sizeof(c), &r, fd);
}

static void kill_store(void)
{
    rig_kill(domain_find(&rig.core, LOCAL_DOMID_STORE)->pidfd);
    rig_turn();
    rig_check();
}

static void domains_outlive_the_store(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), b = start(HYP_CLASS_BLK), c = start(HYP_CLASS_BLK), none;
    struct core_reply r;
    int fd;
    assert_int_equal(rig_living.n, 0);
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0);
    assert_int_equal(rig_store(), -EEXIST);
    kill_store();
    assert_int_equal(event(rig.toolstack, &r), HYP_EV_DEATH);
    assert_int_equal(r.u.event.domid, LOCAL_DOMID_STORE);
    assert_int_equal(r.u.event.error, 9);
    assert_int_equal(event(g.sock, &r), 0);
    assert_int_equal(pool(&g, b.domid, 1, 0, NULL), 0); /* they go on */
    assert_int_equal(store_connect(g.sock, &fd), -EAGAIN);
    assert_int_equal(create(HYP_CLASS_BLK, &none), -EAGAIN);
    finish(&c); /* its release reaches no store */
    assert_int_equal(event(rig.toolstack, &r), HYP_EV_DEATH);
    assert_int_equal(rig_store(), 0);
    assert_int_equal(rig_living.n, 2);
    assert_int_equal(rig_living.domid[0], g.domid);
    assert_int_equal(rig_living.domid[1], b.domid);
    assert_int_equal(store_connect(g.sock, &fd), 0);
    struct store_control w;
    struct rights theirs;
    int flags;
    assert_true(rights_receive(rig.store_control, &w, sizeof(w), &theirs, 1, &flags) == (ssize_t)sizeof(w));
    assert_int_equal(w.op, STORE_CONTROL_INTRODUCE);
    assert_int_equal(w.domid, g.domid);
    assert_int_equal(write(theirs.fd[0], "x", 1), 1); /* one and the same connection */
    char byte;
    assert_int_equal(read(fd, &byte, 1), 1);
    rights_close(&theirs);
    close(fd);
    finish(&b);
    assert_true(recv(rig.store_control, &w, sizeof(w), MSG_DONTWAIT) > 0);
    assert_int_equal(w.op, STORE_CONTROL_RELEASE);
    assert_int_equal(w.domid, b.domid);
    finish(&g);
}

static void connections_to_a_store_are_bounded(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE), h = start(HYP_CLASS_NATIVE);
    int fd;
    for (unsigned i = 1; i < CORE_STORE_CONNECTS; i++) { /* it came with one */
        assert_int_equal(store_connect(g.sock, &fd), 0);
        close(fd);
    }
    assert_int_equal(store_connect(g.sock, &fd), -EDQUOT);
    assert_int_equal(store_connect(h.sock, &fd), 0); /* another's share */
    close(fd);
    for (unsigned i = 0; i < 2 * CORE_STORE_CONNECTS; i++) {
        assert_int_equal(store_connect(rig.toolstack, &fd), 0);
        close(fd);
    }
    kill_store();
    assert_int_equal(rig_store(), 0);
    assert_int_equal(store_connect(g.sock, &fd), 0);
    close(fd);
    finish(&g);
    finish(&h);
}

static void the_store_gets_what_it_needs_and_its_place(void **state)
{
    (void)state;
    struct core_call_create c = { .h = { CORE_OP_DOMAIN_CREATE, 0 }, .nfds = 2,
                                  .cfg = { .class_id = HYP_CLASS_STORE, .name = "store" } };
    struct core_reply r;
    int two[2] = { STDERR_FILENO, STDERR_FILENO }, none[HYP_FDS_MAX];
    unsigned n;
    struct rig_process *p = rig_process(domain_find(&rig.core, LOCAL_DOMID_STORE)->pidfd);
    struct stat st;
    char name[64], path[64];
    assert_int_equal(fstat(p->store, &st), 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", p->store);
    assert_true(readlink(path, name, sizeof(name)) > 0 && strstr(name, "listen"));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", p->extra);
    assert_true(readlink(path, name, sizeof(name)) > 0 && strstr(name, "journal"));
    struct core_call_domain destroy = { { CORE_OP_DOMAIN_DESTROY, 0 }, LOCAL_DOMID_STORE, 0 };
    assert_int_equal(ask(rig.toolstack, &destroy, sizeof(destroy), &r, NULL), 0);
    rig_turn();
    assert_int_equal(rights_send(rig.toolstack, &c, sizeof(c), two, 2), 0);
    rig_turn();
    assert_int_equal(rig_receive(rig.toolstack, &r, none, &n), 1);
    assert_int_equal(r.error, -EINVAL);
    rig.launch_fails = true;
    assert_int_equal(rig_store(), -EAGAIN);
    rig.launch_fails = false;
    assert_int_equal(rig_store(), 0); /* the failed one left nothing */
}

/* ---------------------------------------------------------------- the toolstack */

static void the_core_ends_when_it_is_told_to(void **state)
{
    (void)state;
    struct dom d = start(HYP_CLASS_NATIVE);
    assert_int_equal(simple(d.sock, CORE_OP_END), -EPERM);
    assert_int_equal(core_turn(&rig.core, 0), 0);
    assert_int_equal(simple(rig.toolstack, CORE_OP_END), 0);
    assert_int_equal(core_turn(&rig.core, 0), 1);
    core_close(&d.sock);
}

static void without_a_place_for_the_next_it_ends_with_its_toolstack(void **state)
{
    (void)state;
    core_close(&rig.core.adopt);
    assert_int_equal(core_turn(&rig.core, 0), 0);
    core_close(&rig.toolstack);
    assert_int_equal(core_turn(&rig.core, 0), 1);
}

static int parcel(int sock, int fds[2])
{
    struct core_call c = { CORE_OP_PARCEL, 0 };
    struct core_reply r;
    fds[0] = fds[1] = -1;
    return ask(sock, &c, sizeof(c), &r, fds);
}

static void lose_toolstack(void)
{
    core_close(&rig.toolstack);
    assert_int_equal(core_turn(&rig.core, 0), 0);
    rig_check();
}

static void the_next_toolstack_finds_what_the_last_one_left(void **state)
{
    (void)state;
    struct dom g = start(HYP_CLASS_NATIVE);
    int ends[2], note = memfd_create("note", MFD_CLOEXEC);
    assert_int_equal(parcel(g.sock, ends), -EPERM);
    assert_int_equal(parcel(rig.toolstack, ends), 0);
    assert_int_equal(rights_send(ends[0], "note", 4, &note, 1), 0);
    close(note);
    close(ends[0]);
    close(ends[1]);
    lose_toolstack();
    assert_int_equal(simple(g.sock, CORE_OP_READY), 0); /* it is served meanwhile */
    rig.toolstack = rig_adopt();
    assert_int_equal(parcel(rig.toolstack, ends), 0);
    struct rights in;
    char words[8], path[64], name[64];
    int flags;
    assert_int_equal(rights_receive(ends[1], words, sizeof(words), &in, 1, &flags), 4);
    assert_int_equal(in.n, 1);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", in.fd[0]);
    assert_true(readlink(path, name, sizeof(name)) > 0 && strstr(name, "note"));
    rights_close(&in);
    close(ends[0]);
    close(ends[1]);
    finish(&g);
}

static void what_happened_meanwhile_is_told_to_the_next(void **state)
{
    (void)state;
    struct dom b = start(HYP_CLASS_BLK), c = start(HYP_CLASS_BLK), e = start(HYP_CLASS_BLK), none;
    struct core_reply r;
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0);
    assert_int_equal(simple(b.sock, CORE_OP_READY), 0);
    assert_int_equal(assign(b.domid, 1, "/ok"), 0);
    assert_int_equal(assign(e.domid, 4, "/missing"), 0);
    while (event(rig.toolstack, &r)) /* it hears of some of it, but who knows what it made of that */
        ;
    assert_int_equal(assign(e.domid, 5, "/hang"), 0);
    lose_toolstack();
    assert_int_equal(simple(e.sock, CORE_OP_READY), 0);
    finish(&c);
    rig.toolstack = rig_adopt();
    assert_int_equal(event(rig.toolstack, &r), 0); /* not before its first word */
    assert_int_equal(simple(rig.toolstack, CORE_OP_READY), 0);
    assert_int_equal(event(rig.toolstack, &r), 0);
    struct core_call hello = { CORE_OP_HELLO, 1 };
    assert_true(send(rig.toolstack, &hello, sizeof(hello), 0) > 0);
    rig_turn();
    int fds[HYP_FDS_MAX];
    unsigned n;
    assert_int_equal(rig_receive(rig.toolstack, &r, fds, &n), 1);
    assert_int_equal(r.op, CORE_OP_HELLO);
    assert_int_equal(event(rig.toolstack, &r), HYP_EV_READY);
    assert_int_equal(r.u.event.domid, b.domid);
    assert_int_equal(event(rig.toolstack, &r), HYP_EV_READY);
    assert_int_equal(r.u.event.domid, e.domid);
    assert_int_equal(event(rig.toolstack, &r), HYP_EV_DEATH);
    assert_int_equal(r.u.event.domid, c.domid);
    assert_int_equal(r.u.event.error, 9);
    assert_int_equal(event(rig.toolstack, &r), HYP_EV_DEVICE);
    assert_int_equal(r.u.event.domid, b.domid);
    assert_int_equal(r.u.event.device, 1);
    assert_int_equal(r.u.event.error, 0);
    assert_int_equal(event(rig.toolstack, &r), 0);
    assert_int_equal(assign(e.domid, 5, "/ok"), -EEXIST); /* its opener still waits */
    assert_int_equal(acquire(&b, 1), 0);
    assert_int_equal(on_domain(CORE_OP_DOMAIN_DESTROY, b.domid, &r), 0); /* and it has every right */
    assert_int_equal(create(HYP_CLASS_BLK, &none), 0);
    finish(&b);
    finish(&e);
    finish(&none);
}

static bool hung_up(int sock)
{
    char byte;
    return recv(sock, &byte, 1, MSG_DONTWAIT) == 0;
}

static void there_is_one_toolstack(void **state)
{
    (void)state;
    int second = rig_adopt();
    assert_true(hung_up(second));
    close(second);
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0);
    lose_toolstack();
    rig.toolstack = rig_adopt();
    assert_false(hung_up(rig.toolstack));
    second = rig_adopt();
    assert_true(hung_up(second));
    close(second);
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0);
}

static void the_toolstack_is_root(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip(); /* all that this process can be is the core's own uid */
    int go[2], status;
    char byte = 0;
    lose_toolstack();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, go), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int sock = setuid(65534) == 0 ? socket(AF_UNIX, SOCK_SEQPACKET, 0) : -1;
        if (sock < 0 || connect(sock, (const struct sockaddr *)&rig.adopt, rig.adopt_bytes) < 0 ||
            write(go[1], "", 1) != 1)
            _exit(2);
        _exit(recv(sock, &byte, 1, 0) == 0 ? 0 : 1); /* it waits until it is hung up */
    }
    assert_int_equal(read(go[0], &byte, 1), 1);
    rig_turn();
    assert_int_equal(rig.core.domains[0].sock, -1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(go[0]);
    close(go[1]);
    rig.toolstack = rig_adopt(); /* control */
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0);
}

static void a_toolstack_that_does_not_read_is_lost_too(void **state)
{
    (void)state;
    struct dom d = start(HYP_CLASS_NATIVE);
    struct core_call c = { CORE_OP_READY, 0 };
    struct domain *in_core = rig.core.domains;
    for (unsigned i = 0; i < 10000 && !in_core->clogged; i++) {
        while (send(rig.toolstack, &c, sizeof(c), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
            ;
        rig_turn();
    }
    assert_true(in_core->clogged);
    lose_toolstack();
    assert_int_equal(in_core->sock, -1);
    rig.toolstack = rig_adopt();
    assert_int_equal(simple(rig.toolstack, CORE_OP_HELLO), 0);
    finish(&d);
}

static void domains_are_counted_by_domid(void **state)
{
    (void)state;
    struct dom a = start(HYP_CLASS_NATIVE), b = start(HYP_CLASS_BLK), c = start(HYP_CLASS_NATIVE);
    struct core_reply r;
    finish(&a);
    assert_int_equal(on_domain(CORE_OP_DOMAIN_INFO, a.domid, &r), 0);
    assert_int_equal(r.u.info.domid, b.domid);
    assert_int_equal(r.u.info.class_id, HYP_CLASS_BLK);
    assert_string_equal(r.u.info.name, "unit");
    a = start(HYP_CLASS_NATIVE); /* in the free slot, with a higher number */
    assert_int_equal(on_domain(CORE_OP_DOMAIN_INFO, (domid_t)(b.domid + 1), &r), 0);
    assert_int_equal(r.u.info.domid, c.domid);
    assert_int_equal(on_domain(CORE_OP_DOMAIN_INFO, (domid_t)(c.domid + 1), &r), 0);
    assert_int_equal(r.u.info.domid, a.domid);
    assert_int_equal(on_domain(CORE_OP_DOMAIN_INFO, (domid_t)(a.domid + 1), &r), 0);
    assert_int_equal(r.u.info.domid, LOCAL_DOMID_STORE);
    assert_int_equal(on_domain(CORE_OP_DOMAIN_INFO, LOCAL_DOMID_STORE + 1, &r), -ENOENT);
    assert_int_equal(on_domain(CORE_OP_DOMAIN_INFO, 0, &r), 0);
    assert_int_equal(r.u.info.domid, 0);
    finish(&a);
    finish(&b);
    finish(&c);
}

static int quiet(void **state)
{
    (void)state; /* what the core says about refusals is not this test's output */
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    stderr_copy = dup(STDERR_FILENO);
    dup2(null, STDERR_FILENO);
    close(null);
    return 0;
}

static int loud(void **state)
{
    (void)state;
    dup2(stderr_copy, STDERR_FILENO);
    close(stderr_copy);
    return 0;
}

int main(void)
{
#define WITH_CORE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_CORE(calls_of_a_wrong_length_are_refused),
        WITH_CORE(unknown_calls_are_refused),
        WITH_CORE(classes_have_no_right_that_they_do_not_need),
        WITH_CORE(reserved_fields_must_be_zero),
        WITH_CORE(descriptors_only_where_they_belong),
        WITH_CORE(sizes_do_not_overflow),
        WITH_CORE(pools_have_a_number_too),
        WITH_CORE(references_are_never_ambiguous),
        WITH_CORE(a_pool_is_its_grantees_alone),
        WITH_CORE(a_spare_has_the_same_pages_by_the_same_references),
        WITH_CORE(a_spare_dies_and_another_comes),
        WITH_CORE(a_pool_is_shared_by_its_granter_with_one),
        WITH_CORE(a_channel_ends_with_either_side),
        WITH_CORE(a_device_is_taken_once),
        WITH_CORE(what_ends_with_its_process_is_unlocked_at_its_death),
        WITH_CORE(who_waits_has_it_when_the_owner_is_dead),
        WITH_CORE(a_failed_open_is_told_and_forgotten),
        WITH_CORE(domids_come_back_late),
        WITH_CORE(the_table_may_be_full),
        WITH_CORE(a_missing_program_is_missed_when_it_is_needed),
        WITH_CORE(a_new_program_is_for_the_next_domain),
        WITH_CORE(a_failed_launch_leaves_nothing),
        WITH_CORE(a_paused_domain_waits),
        WITH_CORE(deaths_are_told_to_those_concerned),
        WITH_CORE(a_flood_gets_its_budget_and_no_more),
        WITH_CORE(who_does_not_read_is_not_served),
        WITH_CORE(who_does_not_read_keeps_no_slot),
        WITH_CORE(a_slow_store_is_told_later),
        WITH_CORE(domains_outlive_the_store),
        WITH_CORE(connections_to_a_store_are_bounded),
        WITH_CORE(the_store_gets_what_it_needs_and_its_place),
        WITH_CORE(the_core_ends_when_it_is_told_to),
        WITH_CORE(without_a_place_for_the_next_it_ends_with_its_toolstack),
        WITH_CORE(the_next_toolstack_finds_what_the_last_one_left),
        WITH_CORE(what_happened_meanwhile_is_told_to_the_next),
        WITH_CORE(there_is_one_toolstack),
        WITH_CORE(the_toolstack_is_root),
        WITH_CORE(a_toolstack_that_does_not_read_is_lost_too),
        WITH_CORE(domains_are_counted_by_domid),
    };
    return cmocka_run_group_tests_name("core", tests, quiet, loud);
}
