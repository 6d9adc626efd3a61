/* SPDX-License-Identifier: MIT */
/* The fake hypervisor keeps the rules that hyp.h states; other tests lean on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "../fake_hyp.h"

static short ready(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    return poll(&p, 1, 0) == 1 ? p.revents : 0;
}

static void grants_follow_the_rules(void **state)
{
    (void)state;
    struct hyp *fe = fake_hyp_new(1), *be = fake_hyp_new(2), *other = fake_hyp_new(3);
    struct hyp_pool *pool;
    struct hyp_map *map, *spy;
    assert_int_equal(hyp_pool_create(fe, 9, 4, 0, &pool), -ESRCH);
    assert_int_equal(hyp_pool_create(fe, 1, 4, 0, &pool), -ESRCH);
    assert_int_equal(hyp_pool_create(fe, 2, 0, 0, &pool), -EINVAL);
    assert_int_equal(hyp_pool_create(fe, 2, 4, 0, &pool), 0);
    for (int i = 0; i < 4; i++)
        memset((char *)hyp_pool_base(pool) + i * 4096, i + 1, 4096);
    assert_int_equal(hyp_map_open(be, 1, &map), 0);
    assert_int_equal(hyp_map_open(other, 1, &spy), 0);
    grant_ref_t refs[3] = { hyp_pool_ref(pool, 3), hyp_pool_ref(pool, 0), hyp_pool_ref(pool, 0) };
    grant_ref_t bad[2] = { hyp_pool_ref(pool, 3), hyp_pool_ref(pool, 3) + 1 };
    void *va;
    assert_int_equal(hyp_map_grants(spy, refs, 1, 0, &va), -EACCES);
    assert_null(hyp_map_persistent(spy, refs[0]));
    assert_int_equal(hyp_map_grants(map, bad, 2, 0, &va), -EACCES);
    assert_int_equal(hyp_map_grants(map, refs, 3, 0, &va), 0);
    assert_int_equal(((char *)va)[0], 4);
    assert_int_equal(((char *)va)[4096], 1);
    ((char *)va)[8192] = 77;
    assert_int_equal(((char *)hyp_pool_base(pool))[0], 77);
    assert_int_equal(hyp_pool_end(pool), -EBUSY);
    assert_int_equal(hyp_pool_regrant(pool, 3), -EBUSY);
    assert_int_equal(hyp_unmap_grants(map, va, 2), -EINVAL);
    assert_int_equal(hyp_unmap_grants(map, va, 3), 0);
    char *page = hyp_map_persistent(map, hyp_pool_ref(pool, 2));
    assert_non_null(page);
    assert_int_equal(page[0], 3);
    struct hyp_range range;
    assert_int_equal(hyp_map_range(map, page, &range), 0);
    assert_ptr_equal((char *)range.base + 2 * 4096, page);
    hyp_close(be); /* the grantee dies with the pool mapped */
    struct hyp_event ev;
    assert_true(ready(hyp_fd(fe)) & POLLIN);
    assert_int_equal(hyp_next_event(fe, &ev), 1);
    assert_int_equal(ev.kind, HYP_EV_DEATH);
    assert_int_equal(ev.domid, 2);
    assert_int_equal(hyp_next_event(fe, &ev), 0);
    assert_int_equal(ready(hyp_fd(fe)), 0);
    assert_int_equal(hyp_pool_regrant(pool, 3), 0);
    assert_null(hyp_map_persistent(spy, refs[0])); /* the old number */
    page = hyp_map_persistent(spy, hyp_pool_ref(pool, 0));
    assert_int_equal(page[0], 77);
    hyp_map_close(spy);
    assert_int_equal(hyp_pool_end(pool), 0);
    hyp_close(fe);
    hyp_close(other);
    assert_int_equal(fake_hyp_reset(), 1); /* the map that died with domain 2 */
    assert_int_equal(fake_hyp_reset(), 0);
}

static domid_t next_death(struct hyp *hyp)
{
    struct hyp_event ev;
    assert_int_equal(hyp_next_event(hyp, &ev), 1);
    assert_int_equal(ev.kind, HYP_EV_DEATH);
    assert_true(ev.at_ns > 0);
    return ev.domid;
}

static void spares_inherit(void **state)
{
    (void)state;
    struct hyp *fe = fake_hyp_new(1), *be = fake_hyp_new(2);
    struct hyp *spare = fake_hyp_new(3), *other = fake_hyp_new(4);
    struct hyp_pool *pool;
    struct hyp_map *map, *early;
    assert_int_equal(hyp_pool_create(fe, 2, 4, 0, &pool), 0);
    grant_ref_t ref = hyp_pool_ref(pool, 1);
    assert_int_equal(hyp_map_open(spare, 1, &early), 0);
    assert_null(hyp_map_persistent(early, ref));
    assert_int_equal(hyp_pool_share(pool, 1), -ESRCH);
    assert_int_equal(hyp_pool_share(pool, 2), -ESRCH);
    assert_int_equal(hyp_pool_share(pool, 9), -ESRCH);
    assert_int_equal(hyp_pool_share(pool, 3), 0);
    assert_int_equal(hyp_pool_share(pool, 4), -EBUSY);
    char *page = hyp_map_persistent(early, ref);
    assert_non_null(page);
    assert_int_equal(hyp_pool_end(pool), -EBUSY);
    hyp_close(be);
    assert_int_equal(next_death(fe), 2);
    assert_int_equal(hyp_pool_ref(pool, 1), ref);
    assert_ptr_equal(hyp_map_persistent(early, ref), page);
    assert_int_equal(hyp_pool_regrant(pool, 4), -EBUSY);
    assert_int_equal(hyp_pool_share(pool, 4), 0); /* there was none any more */
    hyp_close(other);
    assert_int_equal(next_death(fe), 4);
    hyp_map_close(early);
    hyp_close(spare);
    assert_int_equal(next_death(fe), 3);
    be = fake_hyp_new(5);
    assert_int_equal(hyp_pool_share(pool, 5), -ESRCH); /* of whom? */
    assert_int_equal(hyp_pool_regrant(pool, 5), 0);
    assert_int_equal(hyp_map_open(be, 1, &map), 0);
    assert_null(hyp_map_persistent(map, ref));
    assert_non_null(hyp_map_persistent(map, hyp_pool_ref(pool, 1)));
    hyp_map_close(map);
    assert_int_equal(hyp_pool_end(pool), 0);
    hyp_close(be);
    hyp_close(fe);
    assert_int_equal(fake_hyp_reset(), 0);
}

static int connect_count;

static int give_pipe(domid_t domid)
{
    int ends[2];
    connect_count++;
    if (domid != 1 || pipe(ends))
        return -EAGAIN;
    close(ends[1]);
    return ends[0];
}

static void store_connections_and_devices_are_the_tests(void **state)
{
    (void)state;
    struct hyp *fe = fake_hyp_new(1);
    struct hyp_event ev;
    assert_int_equal(hyp_store_fd(fe), -ENOENT);
    assert_int_equal(hyp_store_connect(fe), -EAGAIN);
    fake_hyp_store(give_pipe);
    int one = hyp_store_fd(fe), two = hyp_store_connect(fe), fd = -1;
    assert_true(one >= 0 && two >= 0 && one != two);
    assert_int_equal(hyp_store_fd(fe), -ENOENT);
    assert_int_equal(connect_count, 2);
    fake_hyp_device(fe, 7, one);
    assert_int_equal(hyp_next_event(fe, &ev), 1);
    assert_int_equal(ev.kind, HYP_EV_DEVICE);
    assert_int_equal(ev.device, 7);
    assert_int_equal(hyp_device_acquire(fe, 8, &fd), -EAGAIN);
    assert_int_equal(hyp_device_acquire(fe, 7, &fd), 0);
    assert_int_equal(fd, one);
    assert_int_equal(hyp_device_acquire(fe, 7, &fd), -EAGAIN);
    close(one);
    close(two);
    hyp_close(fe);
    assert_int_equal(fake_hyp_reset(), 0);
}

static void read_only_and_copies(void **state)
{
    (void)state;
    struct hyp *fe = fake_hyp_new(1), *be = fake_hyp_new(2);
    struct hyp_pool *pool;
    struct hyp_map *map;
    void *va;
    assert_int_equal(hyp_pool_create(fe, 2, 2, HYP_POOL_RDONLY, &pool), 0);
    assert_int_equal(hyp_map_open(be, 1, &map), 0);
    grant_ref_t ref = hyp_pool_ref(pool, 1);
    assert_int_equal(hyp_map_grants(map, &ref, 1, 0, &va), -EACCES);
    assert_null(hyp_map_persistent(map, ref));
    assert_int_equal(hyp_map_grants(map, &ref, 1, HYP_MAP_RDONLY, &va), 0);
    ((char *)hyp_pool_base(pool))[4096 + 5] = 42;
    char byte = 0;
    struct hyp_copy pieces[3] = { { .ref = ref, .offset = 5, .bytes = 1, .local = &byte },
                                  { .ref = ref, .offset = 5, .bytes = 1, .local = &byte, .to_grant = 1 },
                                  { .ref = ref, .offset = 4096, .bytes = 1, .local = &byte } };
    assert_int_equal(hyp_grant_copy(map, pieces, 3), -EACCES);
    assert_int_equal(pieces[0].status, 0);
    assert_int_equal(pieces[1].status, -EACCES);
    assert_int_equal(pieces[2].status, -EINVAL);
    assert_int_equal(byte, 42);
    assert_false(hyp_map_faulted(map));
    fake_hyp_fault(be);
    assert_true(hyp_map_faulted(map));
    hyp_map_close(map);
    assert_int_equal(hyp_pool_end(pool), 0);
    int fd;
    assert_int_equal(hyp_device_acquire(be, 0, &fd), -EAGAIN);
    assert_int_equal(hyp_domain_destroy(be, 1), -EOPNOTSUPP);
    assert_int_equal(hyp_restrict(fe, HYP_MAY_EVTCHN), 0);
    assert_int_equal(hyp_pool_create(fe, 2, 2, 0, &pool), -EPERM);
    hyp_close(fe);
    hyp_close(be);
    assert_int_equal(fake_hyp_reset(), 0);
}

static void doorbells(void **state)
{
    (void)state;
    struct hyp *fe = fake_hyp_new(1), *be = fake_hyp_new(2), *spy = fake_hyp_new(3);
    struct hyp_evtchn *a, *b, *c;
    assert_int_equal(hyp_evtchn_alloc(fe, 8, &a), -ESRCH);
    assert_int_equal(hyp_evtchn_alloc(fe, 2, &a), 0);
    assert_int_equal(hyp_evtchn_bind(spy, 1, hyp_evtchn_port(a), &c), -ENOENT);
    assert_int_equal(hyp_evtchn_bind(be, 1, hyp_evtchn_port(a) + 1, &c), -ENOENT);
    assert_int_equal(hyp_evtchn_bind(be, 1, hyp_evtchn_port(a), &b), 0);
    assert_int_equal(hyp_evtchn_bind(be, 1, hyp_evtchn_port(a), &c), -ENOENT);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(hyp_evtchn_notify(a), 0);
    assert_int_equal(ready(hyp_evtchn_fd(b)), POLLIN);
    hyp_evtchn_clear(b);
    assert_int_equal(ready(hyp_evtchn_fd(b)), 0);
    assert_int_equal(hyp_evtchn_notify(b), 0);
    assert_int_equal(ready(hyp_evtchn_fd(a)), POLLIN);
    hyp_evtchn_clear(a);
    hyp_close(be); /* dies with the channel open */
    assert_true(ready(hyp_evtchn_fd(a)) & POLLHUP);
    assert_int_equal(hyp_evtchn_notify(a), -EPIPE);
    hyp_evtchn_close(a);
    hyp_close(fe);
    hyp_close(spy);
    assert_int_equal(fake_hyp_reset(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grants_follow_the_rules),
        cmocka_unit_test(spares_inherit),
        cmocka_unit_test(store_connections_and_devices_are_the_tests),
        cmocka_unit_test(read_only_and_copies),
        cmocka_unit_test(doorbells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
