/* SPDX-License-Identifier: MIT */
/* device.h, request.c: each way in which a VMM or its guest can be wrong, with the right one
 * beside it: one connection is broken, by name, and the next one works. */
#include "test_vhost_vmm.h"

static bool packed_of(void **state)
{
    return *(const bool *)*state;
}

static bool hung_up(struct vmm *v)
{
    char byte;
    ssize_t n = recv(v->fd, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* The connection is over, for that reason alone; the next one works. */
static void expect_broken(struct vmm *v, enum vhost_broken why)
{
    vmm_turns(v);
    assert_true(hung_up(v));
    for (int i = 0; i < VHOST_BROKENS; i++)
        assert_int_equal(v->dev.broken[i], i == (int)why);
    assert_int_equal(v->dev.mem.n, 0);
    for (unsigned i = 0; i < TOY_QUEUES; i++) {
        assert_false(v->dev.state[i].running);
        driver_open(&v->d[i], &v->g, v->packed, 16, i);
    }
    close(v->fd);
    v->need_reply = false;
    v->toy.broken = v->toy.refuse = false;
    vmm_connect(v);
    vmm_start(v);
    vmm_echo(v, 0);
    close(v->fd);
    vmm_turns(v);
    for (unsigned i = 0; i < TOY_QUEUES; i++)
        driver_open(&v->d[i], &v->g, v->packed, 16, i);
    memset(v->dev.broken, 0, sizeof(v->dev.broken));
    vmm_connect(v);
    vmm_agree(v);
}

static void expect_kept(struct vmm *v)
{
    assert_true(v->dev.fd >= 0);
    vmm_ask(v, VHOST_REQ_GET_FEATURES);
}

static void test_broken_size(void **state)
{
    struct vmm v;
    (void)state;
    uint64_t two[40] = { vmm_wanted(&(struct vmm){ .packed = false }) };
    unsigned before = open_descriptors();
    vmm_begin(&v, false);
    vmm_agree(&v);
    vmm_say(&v, VHOST_REQ_SET_FEATURES, two, 4);
    expect_broken(&v, VHOST_BROKEN_SIZE);
    vmm_say(&v, VHOST_REQ_SET_FEATURES, two, 16);
    expect_broken(&v, VHOST_BROKEN_SIZE);
    vmm_say(&v, VHOST_REQ_GET_FEATURES, two, 8);
    expect_broken(&v, VHOST_BROKEN_SIZE);
    struct vhost_header huge = { VHOST_REQ_SET_FEATURES, VHOST_FLAG_VERSION, UINT32_MAX };
    vmm_raw(&v, &huge, sizeof(huge), NULL, 0);
    expect_broken(&v, VHOST_BROKEN_SIZE);
    struct vhost_table table = { .n = 2, .region = { guest_region() } };
    vmm_say_with(&v, VHOST_REQ_SET_MEM_TABLE, &table, 8 + 32, &v.g.fd, 1);
    expect_broken(&v, VHOST_BROKEN_SIZE);
    struct vhost_config c = { .size = 4 };
    vmm_say(&v, VHOST_REQ_GET_CONFIG, &c, 12 + 8);
    expect_broken(&v, VHOST_BROKEN_SIZE);
    /* Cut off. */
    struct vhost_header half = { VHOST_REQ_SET_FEATURES, VHOST_FLAG_VERSION, 8 };
    vmm_raw(&v, &half, sizeof(half), &v.g.fd, 1);
    vmm_turns(&v);
    shutdown(v.fd, SHUT_WR);
    expect_broken(&v, VHOST_BROKEN_SIZE);
    vmm_say(&v, VHOST_REQ_SET_FEATURES, two, 8);
    expect_kept(&v);
    vmm_end(&v);
    assert_int_equal(open_descriptors(), before);
}

static void test_broken_request(void **state)
{
    struct vmm v;
    uint64_t number = 0;
    struct vhost_vring_addr addr = { .index = 0 };
    unsigned before = open_descriptors();
    vmm_begin(&v, packed_of(state));
    vmm_agree(&v);
    const uint32_t unknown[] = { 0, 6, 7, 19, 22, 39, VHOST_REQUESTS, UINT32_MAX };
    for (unsigned i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        vmm_say(&v, unknown[i], NULL, 0);
        expect_broken(&v, VHOST_BROKEN_REQUEST);
    }
    const uint32_t flags[] = { 0, 2, VHOST_FLAG_VERSION | VHOST_FLAG_REPLY };
    for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        struct vhost_header head = { VHOST_REQ_GET_FEATURES, flags[i], 0 };
        vmm_raw(&v, &head, sizeof(head), NULL, 0);
        expect_broken(&v, VHOST_BROKEN_REQUEST);
    }
    /* What was not agreed. */
    vmm_say_u64(&v, VHOST_REQ_SET_PROTOCOL_FEATURES, 0);
    expect_kept(&v);
    vmm_say(&v, VHOST_REQ_GET_QUEUE_NUM, NULL, 0);
    expect_broken(&v, VHOST_BROKEN_REQUEST);
    /* Not while rings run. */
    for (unsigned i = 0; i < 4; i++) {
        vmm_memory(&v);
        vmm_ring(&v, 0, driver_base(&v.d[0]));
        vmm_enable(&v, 0, true);
        vmm_echo(&v, 0);
        if (i == 0)
            vmm_say_state(&v, VHOST_REQ_SET_VRING_NUM, 0, 32);
        else if (i == 1)
            vmm_say_state(&v, VHOST_REQ_SET_VRING_BASE, 0, 0);
        else if (i == 2)
            vmm_say(&v, VHOST_REQ_SET_VRING_ADDR, &addr, sizeof(addr));
        else
            vmm_say_u64(&v, VHOST_REQ_SET_FEATURES, number);
        expect_broken(&v, VHOST_BROKEN_REQUEST);
    }
    /* Nobody reads the answers. */
    int small = 1;
    setsockopt(v.dev.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    struct vhost_header head = { VHOST_REQ_GET_FEATURES, VHOST_FLAG_VERSION, 0 };
    for (unsigned i = 0; i < 1000 && v.dev.fd >= 0; i++) {
        vmm_raw(&v, &head, sizeof(head), NULL, 0);
        vhost_device_turn(&v.dev);
    }
    assert_int_equal(v.dev.fd, -1);
    assert_int_equal(v.dev.broken[VHOST_BROKEN_REQUEST], 1);
    vmm_end(&v);
    assert_int_equal(open_descriptors(), before);
}

static void test_broken_fds(void **state)
{
    struct vmm v;
    (void)state;
    uint64_t q = 0, none = VHOST_VRING_NOFD;
    struct vhost_table table = { .n = 1, .region = { guest_region() } };
    unsigned before = open_descriptors();
    vmm_begin(&v, false);
    vmm_agree(&v);
    int nine[9], pair[2];
    for (unsigned i = 0; i < 9; i++)
        nine[i] = v.kick[0];
    vmm_say_with(&v, VHOST_REQ_GET_FEATURES, NULL, 0, nine, 1);
    expect_broken(&v, VHOST_BROKEN_FDS);
    vmm_say_with(&v, VHOST_REQ_GET_FEATURES, NULL, 0, nine, 9);
    expect_broken(&v, VHOST_BROKEN_FDS);
    vmm_say_with(&v, VHOST_REQ_SET_VRING_KICK, &q, 8, NULL, 0);
    expect_broken(&v, VHOST_BROKEN_FDS);
    vmm_say_with(&v, VHOST_REQ_SET_VRING_CALL, &q, 8, nine, 2);
    expect_broken(&v, VHOST_BROKEN_FDS);
    vmm_say_with(&v, VHOST_REQ_SET_VRING_CALL, &none, 8, nine, 1);
    expect_broken(&v, VHOST_BROKEN_FDS);
    vmm_say_with(&v, VHOST_REQ_SET_MEM_TABLE, &table, 8 + 32, NULL, 0);
    expect_broken(&v, VHOST_BROKEN_FDS);
    vmm_say_with(&v, VHOST_REQ_SET_MEM_TABLE, &table, 8 + 32, nine, 2);
    expect_broken(&v, VHOST_BROKEN_FDS);
    vmm_say(&v, VHOST_REQ_SET_BACKEND_REQ_FD, NULL, 0);
    expect_broken(&v, VHOST_BROKEN_FDS);
    /* Of a wrong kind: one that could hold us up, one that says nothing any more. */
    assert_int_equal(pipe(pair), 0);
    vmm_say_file(&v, VHOST_REQ_SET_VRING_CALL, 0, pair[1]);
    expect_broken(&v, VHOST_BROKEN_FDS);
    close(pair[0]);
    vmm_say_file(&v, VHOST_REQ_SET_VRING_CALL, 0, pair[1]);
    expect_broken(&v, VHOST_BROKEN_FDS);
    close(pair[1]);
    vmm_say_file(&v, VHOST_REQ_SET_VRING_KICK, 0, v.g.fd);
    expect_broken(&v, VHOST_BROKEN_FDS);

    vmm_say_file(&v, VHOST_REQ_SET_VRING_CALL, 0, v.call[0]);
    vmm_say_file(&v, VHOST_REQ_SET_VRING_ERR, 0, v.call[0]);
    vmm_say_file(&v, VHOST_REQ_SET_VRING_CALL, 0, -1);
    expect_kept(&v);
    vmm_end(&v);
    assert_int_equal(open_descriptors(), before);
}

static void test_broken_value(void **state)
{
    struct vmm v;
    (void)state;
    struct vhost_vring_addr addr = { .index = 0, .flags = 1 };
    struct vhost_inflight_at at = { .queues = 17, .size = 16 };
    struct vhost_config c = { .offset = 250, .size = 8 };
    vmm_begin(&v, false);
    vmm_agree(&v);
    vmm_say_u64(&v, VHOST_REQ_SET_FEATURES, VIRTIO_F(63));
    expect_broken(&v, VHOST_BROKEN_VALUE);
    vmm_say_u64(&v, VHOST_REQ_SET_PROTOCOL_FEATURES, VIRTIO_F(1));
    expect_broken(&v, VHOST_BROKEN_VALUE);
    const uint32_t queues[] = { TOY_QUEUES, VHOST_QUEUES_MAX, 255, UINT32_MAX };
    for (unsigned i = 0; i < sizeof(queues) / sizeof(queues[0]); i++) {
        vmm_say_state(&v, VHOST_REQ_GET_VRING_BASE, queues[i], 0);
        expect_broken(&v, VHOST_BROKEN_VALUE);
        vmm_say_state(&v, VHOST_REQ_SET_VRING_ENABLE, queues[i], 1);
        expect_broken(&v, VHOST_BROKEN_VALUE);
        vmm_say_file(&v, VHOST_REQ_SET_VRING_KICK, queues[i], v.kick[0]);
        expect_broken(&v, VHOST_BROKEN_VALUE);
    }
    vmm_say_state(&v, VHOST_REQ_SET_VRING_ENABLE, 0, 2);
    expect_broken(&v, VHOST_BROKEN_VALUE);
    vmm_say_state(&v, VHOST_REQ_SET_VRING_NUM, 0, 0);
    expect_broken(&v, VHOST_BROKEN_VALUE);
    vmm_say_state(&v, VHOST_REQ_SET_VRING_NUM, 0, VHOST_QUEUE_SIZE_MAX * 2);
    expect_broken(&v, VHOST_BROKEN_VALUE);
    vmm_say(&v, VHOST_REQ_SET_VRING_ADDR, &addr, sizeof(addr));
    expect_broken(&v, VHOST_BROKEN_VALUE);
    vmm_say(&v, VHOST_REQ_GET_INFLIGHT_FD, &at, sizeof(at));
    expect_broken(&v, VHOST_BROKEN_VALUE);
    vmm_say_u64(&v, VHOST_REQ_NET_SET_MTU, 10);
    expect_broken(&v, VHOST_BROKEN_VALUE);
    vmm_say(&v, VHOST_REQ_GET_CONFIG, &c, 12 + 8);
    expect_broken(&v, VHOST_BROKEN_VALUE);
    c.offset = TOY_CONFIG;
    vmm_say(&v, VHOST_REQ_SET_CONFIG, &c, 12 + 8);
    expect_broken(&v, VHOST_BROKEN_VALUE);
    /* The class does not want it. */
    vmm_memory(&v);
    v.toy.refuse = true;
    vmm_ring(&v, 0, 0);
    vmm_enable(&v, 0, true);
    expect_broken(&v, VHOST_BROKEN_VALUE);

    vmm_say_state(&v, VHOST_REQ_GET_VRING_BASE, TOY_QUEUES - 1, 0);
    struct vhost_message m;
    assert_int_equal(vmm_hear(&v, &m), 8);
    vmm_say_state(&v, VHOST_REQ_SET_VRING_NUM, 0, VHOST_QUEUE_SIZE_MAX);
    expect_kept(&v);
    vmm_end(&v);
}

static void say_table(struct vmm *v, struct vhost_region_at a, struct vhost_region_at b, unsigned n, int fd)
{
    struct vhost_table table = { .n = n, .region = { a, b } };
    int fds[2] = { fd, fd };
    vmm_say_with(v, VHOST_REQ_SET_MEM_TABLE, &table, 8 + 32 * n, fds, n);
}

static void test_broken_memory(void **state)
{
    struct vmm v;
    (void)state;
    struct vhost_region_at good = guest_region(), bad = good;
    struct vhost_one_region one = { .region = good };
    unsigned before = open_descriptors();
    vmm_begin(&v, false);
    vmm_agree(&v);
    say_table(&v, good, good, 2, v.g.fd); /* overlaps */
    expect_broken(&v, VHOST_BROKEN_MEMORY);
    bad.bytes *= 2; /* longer than its file */
    say_table(&v, bad, bad, 1, v.g.fd);
    expect_broken(&v, VHOST_BROKEN_MEMORY);
    say_table(&v, good, good, 1, v.wake); /* no memory */
    expect_broken(&v, VHOST_BROKEN_MEMORY);
    vmm_say_with(&v, VHOST_REQ_REM_MEM_REG, &one, sizeof(one), NULL, 0);
    expect_broken(&v, VHOST_BROKEN_MEMORY);
    one.region.bytes = 4096;
    for (unsigned i = 0; i < VHOST_REGIONS_MAX; i++) {
        one.region.guest += 8192;
        one.region.user += 8192;
        vmm_say_with(&v, VHOST_REQ_ADD_MEM_REG, &one, sizeof(one), &v.g.fd, 1);
        expect_kept(&v);
    }
    one.region.guest += 8192;
    one.region.user += 8192;
    vmm_say_with(&v, VHOST_REQ_ADD_MEM_REG, &one, sizeof(one), &v.g.fd, 1);
    expect_broken(&v, VHOST_BROKEN_MEMORY);

    say_table(&v, good, good, 1, v.g.fd);
    expect_kept(&v);
    vmm_end(&v);
    assert_int_equal(open_descriptors(), before);
}

/* One for each that the device tells from the ring alone; queue.h's test has them all. */
static void test_broken_ring(void **state)
{
    struct vmm v;
    uint64_t told;
    vmm_begin(&v, packed_of(state));
    vmm_agree(&v);
    vmm_memory(&v);
    int err = eventfd(0, EFD_NONBLOCK);
    vmm_say_file(&v, VHOST_REQ_SET_VRING_ERR, 0, err);
    vmm_ring(&v, 0, driver_base(&v.d[0]));
    vmm_enable(&v, 0, true);
    struct buffer outside = { 0, 16, true };
    driver_add(&v.d[0], &outside, 1);
    expect_broken(&v, VHOST_BROKEN_RING);
    assert_int_equal(v.dev.bad[VHOST_BAD_ADDRESS], 1);
    assert_int_equal(read(err, &told, 8), 8);
    close(err);

    vmm_memory(&v);
    vmm_ring(&v, 0, driver_base(&v.d[0]));
    v.toy.broken = true; /* what is in it makes no sense to the class */
    struct buffer fine = readable(0, 8);
    driver_add(&v.d[0], &fine, 1);
    vmm_enable(&v, 0, true);
    expect_broken(&v, VHOST_BROKEN_RING);
    assert_int_equal(v.dev.bad[VHOST_BAD_CLASS], 1);

    vmm_memory(&v);
    v.d[0].size = 15;
    v.d[0].ring_at = GUEST_BYTES;
    vmm_ring(&v, 0, driver_base(&v.d[0])); /* nowhere */
    vmm_enable(&v, 0, true);
    expect_broken(&v, VHOST_BROKEN_RING);
    assert_int_equal(v.dev.bad[VHOST_BAD_MEMORY], 1);
    vmm_end(&v);
}

/* The VMM cuts the guest's memory off under a running queue. */
static void test_broken_fault(void **state)
{
    struct vmm v;
    vmm_begin(&v, packed_of(state));
    vmm_start(&v);
    vmm_echo(&v, 0);
    struct buffer b[2] = { readable(0x1000, 64), writable(0x9000, 64) };
    driver_add(&v.d[0], b, 2);
    assert_int_equal(ftruncate(v.g.fd, DATA_AT + 0x2000), 0); /* the rings and the first buffer stay */
    vmm_turns(&v);
    assert_int_equal(v.dev.broken[VHOST_BROKEN_FAULT], 1);
    assert_int_equal(ftruncate(v.g.fd, GUEST_BYTES), 0);
    expect_broken(&v, VHOST_BROKEN_FAULT);
    vmm_end(&v);
}

static void test_broken_inflight(void **state)
{
    struct vmm v;
    struct vhost_message m;
    int fd = -1;
    struct vhost_inflight_at at = { .queues = 2, .size = 16 };
    unsigned before = open_descriptors();
    vmm_begin(&v, packed_of(state));
    vmm_agree(&v);
    vmm_say(&v, VHOST_REQ_GET_INFLIGHT_FD, &at, sizeof(at));
    assert_int_equal(vmm_hear_fd(&v, &m, &fd), sizeof(at));
    assert_int_equal(ftruncate(fd, 0), -1); /* sealed */
    at = m.u.inflight;
    const uint64_t enough = at.bytes;
    at.bytes = enough - 1;
    vmm_say_with(&v, VHOST_REQ_SET_INFLIGHT_FD, &at, sizeof(at), &fd, 1);
    expect_broken(&v, VHOST_BROKEN_INFLIGHT);
    at.bytes = UINT64_MAX;
    vmm_say_with(&v, VHOST_REQ_SET_INFLIGHT_FD, &at, sizeof(at), &fd, 1);
    expect_broken(&v, VHOST_BROKEN_INFLIGHT);
    at.bytes = enough;
    at.offset = 1;
    vmm_say_with(&v, VHOST_REQ_SET_INFLIGHT_FD, &at, sizeof(at), &fd, 1);
    expect_broken(&v, VHOST_BROKEN_INFLIGHT);
    at.offset = 0;
    vmm_say_with(&v, VHOST_REQ_SET_INFLIGHT_FD, &at, sizeof(at), &v.wake, 1);
    expect_broken(&v, VHOST_BROKEN_INFLIGHT);

    /* Shorter than it says; cut off while it is in use; full of nonsense; for fewer queues. */
    int own = memfd_create("inflight", MFD_CLOEXEC);
    vmm_say_with(&v, VHOST_REQ_SET_INFLIGHT_FD, &at, sizeof(at), &own, 1);
    expect_broken(&v, VHOST_BROKEN_INFLIGHT);
    assert_int_equal(ftruncate(own, 1 << 20), 0);
    vmm_say_with(&v, VHOST_REQ_SET_INFLIGHT_FD, &at, sizeof(at), &own, 1);
    vmm_memory(&v);
    vmm_ring(&v, 0, driver_base(&v.d[0]));
    vmm_enable(&v, 0, true);
    vmm_echo(&v, 0);
    assert_int_equal(ftruncate(own, 0), 0);
    struct buffer b = readable(0, 8);
    driver_add(&v.d[0], &b, 1);
    expect_broken(&v, VHOST_BROKEN_INFLIGHT);
    assert_int_equal(ftruncate(own, 1 << 20), 0);
    assert_int_equal(pwrite(own, "nonsense", 8, 0), 8);
    vmm_say_with(&v, VHOST_REQ_SET_INFLIGHT_FD, &at, sizeof(at), &own, 1);
    vmm_memory(&v);
    vmm_ring(&v, 0, driver_base(&v.d[0]));
    vmm_enable(&v, 0, true);
    expect_broken(&v, VHOST_BROKEN_INFLIGHT);
    vmm_say_with(&v, VHOST_REQ_SET_INFLIGHT_FD, &at, sizeof(at), &fd, 1);
    vmm_memory(&v);
    vmm_ring(&v, 2, driver_base(&v.d[2]));
    vmm_enable(&v, 2, true);
    expect_broken(&v, VHOST_BROKEN_INFLIGHT);

    vmm_say_with(&v, VHOST_REQ_SET_INFLIGHT_FD, &at, sizeof(at), &fd, 1);
    vmm_memory(&v);
    vmm_ring(&v, 0, driver_base(&v.d[0]));
    vmm_enable(&v, 0, true);
    vmm_echo(&v, 0);
    expect_kept(&v);
    close(fd);
    close(own);
    vmm_end(&v);
    assert_int_equal(open_descriptors(), before);
}

int main(void)
{
    static bool split = false, packed = true;
#define both(test) cmocka_unit_test_prestate(test, &split), cmocka_unit_test_prestate(test, &packed)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken_size),
        both(test_broken_request),
        cmocka_unit_test(test_broken_fds),
        cmocka_unit_test(test_broken_value),
        cmocka_unit_test(test_broken_memory),
        both(test_broken_ring),
        both(test_broken_fault),
        both(test_broken_inflight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
