/* SPDX-License-Identifier: MIT */
/* device.h, request.c: what a VMM says and in which order, and what the device does then. */
#include "test_vhost_vmm.h"

#include <pthread.h>

static bool packed_of(void **state)
{
    return *(const bool *)*state;
}

/* ---------------------------------------------------------------- what works */

static void test_echo(void **state)
{
    struct vmm v;
    unsigned before = open_descriptors();
    vmm_begin(&v, packed_of(state));
    vmm_start(&v);
    for (unsigned i = 0; i < 100; i++)
        vmm_echo(&v, 0);
    assert_int_equal(v.toy.answered, 100);
    assert_int_equal(v.toy.agreed, 1);
    uint64_t calls;
    assert_int_equal(read(v.call[0], &calls, 8), 8);
    vmm_end(&v);
    assert_int_equal(open_descriptors(), before);
}

/* QEMU, a NIC of two pairs: features are said for each pair, the first one runs already. */
static void test_pairs(void **state)
{
    struct vmm v;
    vmm_begin(&v, packed_of(state));
    vmm_agree(&v);
    assert_int_equal(vmm_ask(&v, VHOST_REQ_GET_QUEUE_NUM), TOY_QUEUES / 2);
    for (unsigned q = 0; q < TOY_QUEUES; q++)
        vmm_say_file(&v, VHOST_REQ_SET_VRING_CALL, q, v.call[q]);
    for (unsigned pair = 0; pair < TOY_QUEUES / 2; pair++) {
        vmm_say_u64(&v, VHOST_REQ_SET_FEATURES, vmm_wanted(&v) | VHOST_F_PROTOCOL);
        if (pair == 0)
            vmm_memory(&v);
        for (unsigned q = pair * 2; q < pair * 2 + 2; q++)
            vmm_ring(&v, q, driver_base(&v.d[q]));
        for (unsigned q = pair * 2; q < pair * 2 + 2; q++)
            vmm_enable(&v, q, true);
    }
    for (unsigned q = 0; q < TOY_QUEUES; q++)
        vmm_echo(&v, q);
    vmm_end(&v);
}

/* DPDK's virtio_user: the bell first, then features, memory, rings. */
static void test_dpdk_order(void **state)
{
    struct vmm v;
    vmm_begin(&v, packed_of(state));
    vmm_say(&v, VHOST_REQ_SET_OWNER, NULL, 0);
    vmm_ask(&v, VHOST_REQ_GET_FEATURES);
    vmm_ask(&v, VHOST_REQ_GET_PROTOCOL_FEATURES);
    vmm_say_u64(&v, VHOST_REQ_SET_PROTOCOL_FEATURES, VHOST_P_MQ | VHOST_P_REPLY_ACK);
    for (unsigned q = 0; q < 2; q++)
        vmm_say_file(&v, VHOST_REQ_SET_VRING_CALL, q, v.call[q]);
    vmm_say_u64(&v, VHOST_REQ_SET_FEATURES, vmm_wanted(&v) | VHOST_F_PROTOCOL);
    v.need_reply = true;
    vmm_memory(&v);
    struct vhost_message m;
    assert_int_equal(vmm_hear(&v, &m), 8);
    assert_int_equal(m.u.u64, 0);
    v.need_reply = false;
    for (unsigned q = 0; q < 2; q++)
        vmm_ring(&v, q, driver_base(&v.d[q]));
    for (unsigned q = 0; q < 2; q++)
        vmm_enable(&v, q, true);
    vmm_echo(&v, 1);
    vmm_enable(&v, 1, false);
    vmm_say_state(&v, VHOST_REQ_GET_VRING_BASE, 1, 0);
    assert_int_equal(vmm_hear(&v, &m), 8);
    vmm_ring(&v, 1, m.u.state.num);
    vmm_enable(&v, 1, true);
    vmm_echo(&v, 1);
    vmm_end(&v);
}

/* Without protocol features a queue needs no enabling. */
static void test_old_front_end(void **state)
{
    struct vmm v;
    vmm_begin(&v, packed_of(state));
    vmm_say_u64(&v, VHOST_REQ_SET_FEATURES, vmm_wanted(&v));
    vmm_memory(&v);
    vmm_ring(&v, 0, driver_base(&v.d[0]));
    vmm_echo(&v, 0);
    vmm_end(&v);
}

static void test_disabled(void **state)
{
    struct vmm v;
    uint32_t len = 0;
    struct buffer b = readable(0, 1);
    vmm_begin(&v, packed_of(state));
    vmm_agree(&v);
    vmm_memory(&v);
    vmm_ring(&v, 0, driver_base(&v.d[0]));
    driver_add(&v.d[0], &b, 1);
    vmm_turns(&v);
    assert_int_equal(driver_used(&v.d[0], &len), -1);
    vmm_enable(&v, 0, true);
    assert_true(driver_used(&v.d[0], &len) >= 0);
    vmm_enable(&v, 0, false);
    driver_add(&v.d[0], &b, 1);
    vmm_turns(&v);
    assert_int_equal(driver_used(&v.d[0], &len), -1);
    vmm_enable(&v, 0, true);
    assert_true(driver_used(&v.d[0], &len) >= 0);
    vmm_end(&v);
}

/* A queue without a kick is looked at all the same. */
static void test_no_kick(void **state)
{
    struct vmm v;
    vmm_begin(&v, packed_of(state));
    vmm_start(&v);
    vmm_say_file(&v, VHOST_REQ_SET_VRING_KICK, 0, -1);
    vmm_echo(&v, 0);
    vmm_end(&v);
}

/* Stopping waits for what is in flight; messages behind it wait too. */
static void test_stop_waits(void **state)
{
    struct vmm v;
    struct vhost_message m;
    uint32_t len = 0;
    struct buffer b = readable(0, 1);
    vmm_begin(&v, packed_of(state));
    vmm_start(&v);
    v.toy.hold = true;
    driver_add(&v.d[0], &b, 1);
    vmm_turns(&v);
    assert_int_equal(v.toy.nheld, 1);
    vmm_say_state(&v, VHOST_REQ_GET_VRING_BASE, 0, 0);
    vmm_say(&v, VHOST_REQ_GET_FEATURES, NULL, 0);
    assert_int_equal(vmm_hear(&v, &m), -1);
    toy_release(&v.toy);
    vmm_turns(&v);
    assert_int_equal(vmm_hear(&v, &m), 8);
    assert_int_equal(m.head.request, VHOST_REQ_GET_VRING_BASE);
    assert_int_equal(m.u.state.num & 0xffff, driver_base(&v.d[0]) + 1);
    uint32_t base = m.u.state.num;
    assert_int_equal(vmm_hear(&v, &m), 8);
    assert_int_equal(m.head.request, VHOST_REQ_GET_FEATURES);
    assert_true(driver_used(&v.d[0], &len) >= 0);
    assert_false(v.dev.state[0].running);
    v.toy.hold = false;
    vmm_ring(&v, 0, base);
    vmm_echo(&v, 0);

    /* What takes too long is dropped. */
    v.toy.hold = true;
    driver_add(&v.d[0], &b, 1);
    vmm_turns(&v);
    vmm_say_state(&v, VHOST_REQ_GET_VRING_BASE, 0, 0);
    assert_int_equal(vmm_hear(&v, &m), -1);
    v.dev.deadline = 0;
    vmm_turns(&v);
    assert_int_equal(vmm_hear(&v, &m), 8);
    assert_int_equal(m.u.state.num & 0xffff, (base + (v.packed ? 2 : 1)) & 0xffff); /* it comes again */
    assert_int_equal(v.toy.dropped, 1);
    vmm_end(&v);
}

/* The VMM leaves while something is in flight: its memory stays until that is over. */
static void test_leaves_in_flight(void **state)
{
    struct vmm v;
    struct buffer b = readable(0, 1);
    vmm_begin(&v, packed_of(state));
    vmm_start(&v);
    v.toy.hold = true;
    driver_add(&v.d[0], &b, 1);
    vmm_turns(&v);
    close(v.fd);
    vmm_turns(&v);
    assert_int_equal(v.dev.fd, -1);
    assert_true(v.dev.mem.n > 0);
    assert_int_equal(v.dev.broken[VHOST_BROKEN_LEFT], 1);
    toy_release(&v.toy);
    vmm_turns(&v);
    assert_int_equal(v.dev.mem.n, 0);
    v.toy.hold = false;
    vmm_connect(&v); /* and the next one begins anew */
    uint32_t len = 0;
    driver_used(&v.d[0], &len);
    vmm_agree(&v);
    vmm_memory(&v);
    vmm_ring(&v, 0, v.packed ? 0x8001 : 1);
    vmm_enable(&v, 0, true);
    vmm_echo(&v, 0);
    vmm_end(&v);
}

static void test_memory_while_running(void **state)
{
    struct vmm v;
    struct vhost_message m;
    vmm_begin(&v, packed_of(state));
    vmm_start(&v);
    vmm_echo(&v, 0);
    vmm_memory(&v);
    vmm_echo(&v, 0);

    assert_int_equal(vmm_ask(&v, VHOST_REQ_GET_MAX_MEM_SLOTS), VHOST_REGIONS_MAX);
    struct vhost_one_region one = { .region = { .guest = UINT64_C(1) << 32, .bytes = 8192,
                                                .user = UINT64_C(1) << 32, .offset = 4096 } };
    v.need_reply = true;
    vmm_say_with(&v, VHOST_REQ_ADD_MEM_REG, &one, sizeof(one), &v.g.fd, 1);
    assert_int_equal(vmm_hear(&v, &m), 8);
    assert_int_equal(m.u.u64, 0);
    v.need_reply = false;
    assert_int_equal(v.dev.mem.n, 2);
    vmm_echo(&v, 0);
    vmm_say_with(&v, VHOST_REQ_REM_MEM_REG, &one, sizeof(one), &v.g.fd, 1);
    assert_int_equal(v.dev.mem.n, 1);
    vmm_echo(&v, 0);
    vmm_end(&v);
}

static void test_config(void **state)
{
    struct vmm v;
    struct vhost_message m;
    struct vhost_config c = { .offset = 0, .size = 60 };
    (void)state;
    vmm_begin(&v, false);
    vmm_agree(&v);
    memset(v.toy.config, 7, sizeof(v.toy.config));
    vmm_say(&v, VHOST_REQ_GET_CONFIG, &c, 12 + 60); /* more than there is: zeroes behind it */
    assert_int_equal(vmm_hear(&v, &m), 12 + 60);
    assert_int_equal(m.u.config.bytes[TOY_CONFIG - 1], 7);
    assert_int_equal(m.u.config.bytes[TOY_CONFIG], 0);
    c.offset = 5;
    c.size = 1;
    c.bytes[0] = 42;
    vmm_say(&v, VHOST_REQ_SET_CONFIG, &c, 12 + 1);
    assert_int_equal(v.toy.config[5], 42);

    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    vmm_say_with(&v, VHOST_REQ_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1);
    close(pair[1]);
    const uint64_t one = 1;
    atomic_store(&v.dev.config_changed, true);
    assert_int_equal(write(v.wake, &one, 8), 8);
    vmm_turns(&v);
    struct vhost_header head;
    assert_int_equal(read(pair[0], &head, sizeof(head)), sizeof(head));
    assert_int_equal(head.request, VHOST_BACKEND_CONFIG_CHANGE);
    assert_int_equal(head.size, 0);
    close(pair[0]); /* nobody listens: no harm */
    vhost_device_config_changed(&v.dev);
    assert_int_equal(v.dev.backend_fd, -1);
    vmm_ask(&v, VHOST_REQ_GET_FEATURES);
    vmm_end(&v);
}

static void test_mtu(void **state)
{
    struct vmm v;
    (void)state;
    vmm_begin(&v, false);
    vmm_agree(&v);
    vmm_say_u64(&v, VHOST_REQ_NET_SET_MTU, 1500);
    assert_int_equal(v.toy.mtu, 1500);
    assert_true(v.dev.fd >= 0);
    vmm_end(&v);
}

static void test_reset(void **state)
{
    const uint32_t requests[] = { VHOST_REQ_RESET_DEVICE, VHOST_REQ_RESET_OWNER };
    for (unsigned i = 0; i < 2; i++) {
        struct vmm v;
        vmm_begin(&v, packed_of(state));
        vmm_start(&v);
        vmm_echo(&v, 0);
        vmm_say(&v, requests[i], NULL, 0);
        assert_false(v.dev.state[0].running);
        driver_open(&v.d[0], &v.g, v.packed, 16, 0);
        vmm_say_u64(&v, VHOST_REQ_SET_FEATURES, vmm_wanted(&v) | VHOST_F_PROTOCOL);
        vmm_ring(&v, 0, driver_base(&v.d[0]));
        vmm_enable(&v, 0, true);
        vmm_echo(&v, 0);
        vmm_end(&v);
    }
}

/* A byte at a time, and many messages at once. */
static void test_pieces(void **state)
{
    struct vmm v;
    struct vhost_message m = { .head = { VHOST_REQ_SET_FEATURES, VHOST_FLAG_VERSION, 8 } };
    char many[20 * 5];
    (void)state;
    vmm_begin(&v, false);
    m.u.u64 = vmm_wanted(&v);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(v.toy.agreed, 0);
        vmm_raw(&v, vhost_message_wire(&m) + i, 1, NULL, 0);
        vmm_turns(&v);
    }
    assert_int_equal(v.toy.agreed, 1);
    for (unsigned i = 0; i < 5; i++)
        memcpy(many + (size_t)i * 20, vhost_message_wire(&m), 20);
    vmm_raw(&v, many, sizeof(many), NULL, 0);
    vmm_turns(&v);
    assert_int_equal(v.toy.agreed, 6);
    vmm_end(&v);
}

/* The door dies with requests in flight: the next one does them, once each. */
static void test_next_incarnation(void **state)
{
    struct vmm v;
    struct vhost_message m;
    uint32_t len = 0;
    int fd = -1;
    struct vhost_inflight_at at = { .queues = 1, .size = 16 };
    struct buffer b[2] = { readable(0x100, 8), writable(0x800, 8) };
    vmm_begin(&v, packed_of(state));
    vmm_agree(&v);
    vmm_say(&v, VHOST_REQ_GET_INFLIGHT_FD, &at, sizeof(at));
    assert_int_equal(vmm_hear_fd(&v, &m, &fd), sizeof(at));
    assert_true(fd >= 0);
    at = m.u.inflight;
    vmm_say_with(&v, VHOST_REQ_SET_INFLIGHT_FD, &at, sizeof(at), &fd, 1);
    vmm_memory(&v);
    vmm_ring(&v, 0, driver_base(&v.d[0]));
    vmm_enable(&v, 0, true);
    for (unsigned i = 0; i < 5; i++)
        vmm_echo(&v, 0);
    v.toy.hold = true;
    int held[3];
    for (unsigned i = 0; i < 3; i++)
        held[i] = driver_add(&v.d[0], b, 2);
    vmm_turns(&v);
    assert_int_equal(v.toy.nheld, 3);
    /* The one in the middle is answered, the others never are. */
    vhost_queue_done(&v.dev.queue[0], v.toy.held[1].id, v.toy.held[1].slots, 8);
    vhost_queue_publish(&v.dev.queue[0]);

    /* Another process, as far as the guest can tell. */
    v.toy.nheld = 0;
    memset(v.toy.running, 0, sizeof(v.toy.running));
    vhost_device_end(&v.dev);
    vhost_device_unprepare(&v.dev);
    close(v.fd);
    memset(&v.dev, 0, sizeof(v.dev));
    assert_int_equal(vhost_device_init(&v.dev, "toy0", &toy_class, &v.toy, v.listen, v.wake), 0);
    v.toy.hold = false;
    v.toy.answered = 0;
    vmm_connect(&v);
    vmm_agree(&v);
    vmm_say_with(&v, VHOST_REQ_SET_INFLIGHT_FD, &at, sizeof(at), &fd, 1);
    vmm_memory(&v);
    vmm_ring(&v, 0, driver_base(&v.d[0])); /* what QEMU says then is stale */
    vmm_enable(&v, 0, true);
    assert_int_equal(v.toy.answered, 2);
    assert_int_equal(driver_used(&v.d[0], &len), held[1]);
    assert_int_equal(driver_used(&v.d[0], &len), held[0]);
    assert_int_equal(driver_used(&v.d[0], &len), held[2]);
    assert_int_equal(driver_used(&v.d[0], &len), -1);
    for (unsigned i = 0; i < 40; i++)
        vmm_echo(&v, 0);
    close(fd);
    vmm_end(&v);
}

/* The class's hypervisor is gone. */
static void test_no_hypervisor(void **state)
{
    struct vmm v;
    (void)state;
    vmm_begin(&v, false);
    assert_true(vhost_device_turn(&v.dev) >= 0);
    v.toy.no_hypervisor = true;
    assert_int_equal(vhost_device_turn(&v.dev), -ENOTCONN);
    assert_int_equal(vhost_device_run(&v.dev), -ENOTCONN);
    vmm_end(&v);
}

static void *run_device(void *dev)
{
    return (void *)(intptr_t)vhost_device_run(dev);
}

/* With a thread of its own, asleep and woken; it leaves when it is asked. */
static void test_thread(void **state)
{
    struct vmm v;
    pthread_t thread;
    void *result;
    uint32_t len = 0;
    const uint64_t one = 1;
    struct buffer b[2] = { readable(0x100, 8), writable(0x800, 8) };
    vmm_begin(&v, packed_of(state));
    vmm_start(&v);
    assert_int_equal(pthread_create(&thread, NULL, run_device, &v.dev), 0);
    for (unsigned i = 0; i < 200; i++) {
        struct pollfd answered = { .fd = v.call[0], .events = POLLIN };
        int id = driver_add(&v.d[0], b, 2), got;
        assert_int_equal(write(v.kick[0], &one, 8), 8);
        while ((got = driver_used(&v.d[0], &len)) < 0) {
            uint64_t n;
            assert_int_equal(poll(&answered, 1, 10000), 1);
            assert_int_equal(read(v.call[0], &n, 8), 8);
        }
        assert_int_equal(got, id);
    }
    atomic_store(&v.dev.stop_asked, true);
    assert_int_equal(write(v.wake, &one, 8), 8);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_null(result);
    assert_int_equal(v.dev.mem.n, 0);
    assert_int_equal(v.dev.fd, -1);
    vmm_end(&v);
}

int main(void)
{
    static bool split = false, packed = true;
#define both(test) cmocka_unit_test_prestate(test, &split), cmocka_unit_test_prestate(test, &packed)
    const struct CMUnitTest tests[] = {
        both(test_echo),
        both(test_pairs),
        both(test_dpdk_order),
        both(test_old_front_end),
        both(test_disabled),
        both(test_no_kick),
        both(test_stop_waits),
        both(test_leaves_in_flight),
        both(test_memory_while_running),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_mtu),
        both(test_reset),
        cmocka_unit_test(test_pieces),
        both(test_next_incarnation),
        cmocka_unit_test(test_no_hypervisor),
        both(test_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
