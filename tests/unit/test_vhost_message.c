/* SPDX-License-Identifier: MIT */
/* message.h: one message, right by itself or not. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "frontends/door/vhost_user/message.h"

static struct vhost_message message(uint32_t request, uint32_t bytes)
{
    struct vhost_message m;
    memset(&m, 0, sizeof(m));
    m.head = (struct vhost_header){ request, VHOST_FLAG_VERSION, bytes };
    return m;
}

static enum vhost_broken check(const struct vhost_message *m, unsigned fds)
{
    const char *word = NULL;
    enum vhost_broken why = vhost_message_check(m, fds, &word);
    assert_int_equal(why == VHOST_BROKEN_NOT, word == NULL);
    return why;
}

/* Each request as a front-end sends it: bytes and descriptors. */
static const struct {
    uint32_t request, bytes;
    unsigned fds;
} usual[] = {
    { VHOST_REQ_GET_FEATURES, 0, 0 },         { VHOST_REQ_SET_FEATURES, 8, 0 },
    { VHOST_REQ_SET_OWNER, 0, 0 },            { VHOST_REQ_RESET_OWNER, 0, 0 },
    { VHOST_REQ_SET_MEM_TABLE, 8 + 32, 1 },   { VHOST_REQ_SET_VRING_NUM, 8, 0 },
    { VHOST_REQ_SET_VRING_ADDR, 40, 0 },      { VHOST_REQ_SET_VRING_BASE, 8, 0 },
    { VHOST_REQ_GET_VRING_BASE, 8, 0 },       { VHOST_REQ_SET_VRING_KICK, 8, 1 },
    { VHOST_REQ_SET_VRING_CALL, 8, 1 },       { VHOST_REQ_SET_VRING_ERR, 8, 1 },
    { VHOST_REQ_GET_PROTOCOL_FEATURES, 0, 0 }, { VHOST_REQ_SET_PROTOCOL_FEATURES, 8, 0 },
    { VHOST_REQ_GET_QUEUE_NUM, 0, 0 },        { VHOST_REQ_SET_VRING_ENABLE, 8, 0 },
    { VHOST_REQ_NET_SET_MTU, 8, 0 },          { VHOST_REQ_SET_BACKEND_REQ_FD, 0, 1 },
    { VHOST_REQ_GET_CONFIG, 12 + 60, 0 },     { VHOST_REQ_SET_CONFIG, 12 + 1, 0 },
    { VHOST_REQ_GET_INFLIGHT_FD, 24, 0 },     { VHOST_REQ_SET_INFLIGHT_FD, 24, 1 },
    { VHOST_REQ_RESET_DEVICE, 0, 0 },         { VHOST_REQ_GET_MAX_MEM_SLOTS, 0, 0 },
    { VHOST_REQ_ADD_MEM_REG, 40, 1 },         { VHOST_REQ_REM_MEM_REG, 40, 1 },
};
#define USUAL (sizeof(usual) / sizeof(usual[0]))

static struct vhost_message usual_message(unsigned i)
{
    struct vhost_message m = message(usual[i].request, usual[i].bytes);
    switch (usual[i].request) {
    case VHOST_REQ_SET_MEM_TABLE:
        m.u.table.n = 1;
        break;
    case VHOST_REQ_SET_VRING_NUM:
        m.u.state.num = 256;
        break;
    case VHOST_REQ_GET_CONFIG:
    case VHOST_REQ_SET_CONFIG:
        m.u.config.size = usual[i].bytes - 12;
        break;
    case VHOST_REQ_GET_INFLIGHT_FD:
    case VHOST_REQ_SET_INFLIGHT_FD:
        m.u.inflight.queues = 2;
        m.u.inflight.size = 128;
        break;
    default:
        break;
    }
    return m;
}

static void test_usual(void **state)
{
    (void)state;
    for (unsigned i = 0; i < USUAL; i++) {
        struct vhost_message m = usual_message(i);
        if (check(&m, usual[i].fds) != VHOST_BROKEN_NOT)
            fail_msg("%s", vhost_request_name(usual[i].request));
        m.head.flags |= VHOST_FLAG_NEED_REPLY;
        assert_int_equal(check(&m, usual[i].fds), VHOST_BROKEN_NOT);
    }
}

/* Each of them a byte longer or shorter, with a descriptor more or less. */
static void test_lengths(void **state)
{
    (void)state;
    for (unsigned i = 0; i < USUAL; i++) {
        struct vhost_message m = usual_message(i);
        m.head.size++;
        assert_int_equal(check(&m, usual[i].fds), VHOST_BROKEN_SIZE);
        m.head.size -= 2;
        /* An inflight message has room for four bytes that mean nothing. */
        bool spare = usual[i].request == VHOST_REQ_GET_INFLIGHT_FD ||
                     usual[i].request == VHOST_REQ_SET_INFLIGHT_FD;
        assert_int_equal(check(&m, usual[i].fds), spare ? VHOST_BROKEN_NOT : VHOST_BROKEN_SIZE);
        m.head.size = UINT32_MAX;
        assert_int_equal(check(&m, usual[i].fds), VHOST_BROKEN_SIZE);
    }
}

static void test_descriptors(void **state)
{
    (void)state;
    for (unsigned i = 0; i < USUAL; i++) {
        struct vhost_message m = usual_message(i);
        assert_int_equal(check(&m, usual[i].fds + 1), VHOST_BROKEN_FDS);
        if (usual[i].fds && usual[i].request != VHOST_REQ_REM_MEM_REG)
            assert_int_equal(check(&m, 0), VHOST_BROKEN_FDS);
    }
}

static void test_unknown(void **state)
{
    (void)state;
    for (uint32_t request = 0; request < 100; request++) {
        bool known = false;
        for (unsigned i = 0; i < USUAL; i++)
            known |= usual[i].request == request;
        struct vhost_header head = { request, VHOST_FLAG_VERSION, 0 };
        assert_int_equal(vhost_message_header(&head) == VHOST_BROKEN_REQUEST, !known);
        assert_int_equal(strcmp(vhost_request_name(request), "an unknown request") == 0, !known);
    }
    for (uint32_t flags = 0; flags < 8; flags++) {
        struct vhost_header head = { VHOST_REQ_SET_OWNER, flags, 0 };
        assert_int_equal(vhost_message_header(&head), flags == 1 ? VHOST_BROKEN_NOT : VHOST_BROKEN_REQUEST);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    const uint32_t with_index[] = { VHOST_REQ_SET_VRING_NUM, VHOST_REQ_SET_VRING_ADDR,
                                    VHOST_REQ_SET_VRING_BASE, VHOST_REQ_GET_VRING_BASE,
                                    VHOST_REQ_SET_VRING_ENABLE };
    for (unsigned i = 0; i < sizeof(with_index) / sizeof(with_index[0]); i++) {
        struct vhost_message m = message(with_index[i], with_index[i] == VHOST_REQ_SET_VRING_ADDR ? 40 : 8);
        m.u.state.num = with_index[i] != VHOST_REQ_SET_VRING_ADDR;
        m.u.state.index = VHOST_QUEUE_INDEX_MAX;
        assert_int_equal(check(&m, 0), VHOST_BROKEN_VALUE);
        m.u.state.index--;
        assert_int_equal(check(&m, 0), VHOST_BROKEN_NOT);
    }
    struct vhost_message m = message(VHOST_REQ_SET_VRING_KICK, 8);
    m.u.u64 = VHOST_QUEUE_INDEX_MAX;
    assert_int_equal(check(&m, 1), VHOST_BROKEN_VALUE);
    m.u.u64 = UINT64_C(1) << 32;
    assert_int_equal(check(&m, 1), VHOST_BROKEN_VALUE);
    m.u.u64 = VHOST_VRING_NOFD;
    assert_int_equal(check(&m, 1), VHOST_BROKEN_FDS);
    assert_int_equal(check(&m, 0), VHOST_BROKEN_NOT);

    m = message(VHOST_REQ_SET_VRING_ADDR, 40);
    m.u.addr.flags = 1;
    assert_int_equal(check(&m, 0), VHOST_BROKEN_VALUE);
    const uint32_t sizes[] = { 0, 1, VHOST_QUEUE_SIZE_MAX, VHOST_QUEUE_SIZE_MAX + 1, UINT32_MAX };
    for (unsigned i = 0; i < 5; i++) {
        m = message(VHOST_REQ_SET_VRING_NUM, 8);
        m.u.state.num = sizes[i];
        assert_int_equal(check(&m, 0), i == 1 || i == 2 ? VHOST_BROKEN_NOT : VHOST_BROKEN_VALUE);
    }
}

static void test_table(void **state)
{
    (void)state;
    for (uint32_t n = 0; n <= VHOST_TABLE_REGIONS + 1; n++) {
        struct vhost_message m = message(VHOST_REQ_SET_MEM_TABLE, 8 + 32 * n);
        m.u.table.n = n;
        bool right = n > 0 && n <= VHOST_TABLE_REGIONS;
        assert_int_equal(check(&m, n), right ? VHOST_BROKEN_NOT : VHOST_BROKEN_SIZE);
        if (!right)
            continue;
        m.u.table.n = n + 1;
        assert_int_equal(check(&m, n), VHOST_BROKEN_SIZE);
        m.u.table.n = UINT32_MAX / 32 + 2; /* would wrap */
        assert_int_equal(check(&m, n), VHOST_BROKEN_SIZE);
    }
}

static void test_config(void **state)
{
    (void)state;
    const struct {
        uint32_t offset, size;
        enum vhost_broken why;
    } cases[] = {
        { 0, 1, VHOST_BROKEN_NOT },    { 0, 256, VHOST_BROKEN_NOT },        { 255, 1, VHOST_BROKEN_NOT },
        { 0, 0, VHOST_BROKEN_VALUE },  { 256, 1, VHOST_BROKEN_VALUE },      { 255, 2, VHOST_BROKEN_VALUE },
        { 1, 256, VHOST_BROKEN_VALUE }, { UINT32_MAX, 1, VHOST_BROKEN_VALUE },
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vhost_message m = message(VHOST_REQ_GET_CONFIG, 12 + cases[i].size);
        m.u.config.offset = cases[i].offset;
        m.u.config.size = cases[i].size;
        assert_int_equal(check(&m, 0), cases[i].why);
        m.u.config.size++;
        assert_int_equal(check(&m, 0), VHOST_BROKEN_SIZE);
    }
}

static void test_inflight(void **state)
{
    (void)state;
    const uint16_t queues[] = { 0, 1, VHOST_QUEUE_INDEX_MAX, VHOST_QUEUE_INDEX_MAX + 1, UINT16_MAX };
    const uint16_t sizes[] = { 0, 1, VHOST_QUEUE_SIZE_MAX, VHOST_QUEUE_SIZE_MAX + 1, UINT16_MAX };
    for (unsigned q = 0; q < 5; q++)
        for (unsigned s = 0; s < 5; s++) {
            struct vhost_message m = message(VHOST_REQ_GET_INFLIGHT_FD, 20);
            m.u.inflight.queues = queues[q];
            m.u.inflight.size = sizes[s];
            bool right = (q == 1 || q == 2) && (s == 1 || s == 2);
            assert_int_equal(check(&m, 0), right ? VHOST_BROKEN_NOT : VHOST_BROKEN_VALUE);
        }
}

static void test_names(void **state)
{
    (void)state;
    for (int i = 0; i < VHOST_BROKENS; i++)
        assert_string_not_equal(vhost_broken_name((enum vhost_broken)i), "unknown");
    assert_string_equal(vhost_broken_name(VHOST_BROKENS), "unknown");
    assert_string_equal(vhost_request_name(VHOST_REQ_SET_VRING_NUM), "SET_VRING_NUM");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usual),   cmocka_unit_test(test_lengths), cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_unknown), cmocka_unit_test(test_numbers), cmocka_unit_test(test_table),
        cmocka_unit_test(test_config),  cmocka_unit_test(test_inflight), cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
