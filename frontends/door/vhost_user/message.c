/* SPDX-License-Identifier: MIT */
#include "message.h"

#include <stdbool.h>
#include <stddef.h>

const char *vhost_broken_name(enum vhost_broken why)
{
    static const char *const names[VHOST_BROKENS] = {
        [VHOST_BROKEN_NOT] = "not broken",
        [VHOST_BROKEN_LEFT] = "the VMM closed it",
        [VHOST_BROKEN_SIZE] = "a message of a wrong length",
        [VHOST_BROKEN_REQUEST] = "a request that is unknown or not possible now",
        [VHOST_BROKEN_FDS] = "descriptors that are missing, too many or of a wrong kind",
        [VHOST_BROKEN_VALUE] = "an impossible number",
        [VHOST_BROKEN_MEMORY] = "an impossible memory table",
        [VHOST_BROKEN_RING] = "a broken ring",
        [VHOST_BROKEN_FAULT] = "guest memory that is gone",
        [VHOST_BROKEN_INFLIGHT] = "an impossible inflight region",
    };
    return why < VHOST_BROKENS ? names[why] : "unknown";
}

/* Payload bytes and descriptors of each request. */
static const struct request {
    const char *name; /* NULL: unknown                                                    */
    uint16_t least, most;
    uint8_t fds_least, fds_most;
} requests[VHOST_REQUESTS] = {
    [VHOST_REQ_GET_FEATURES] = { "GET_FEATURES", 0, 0, 0, 0 },
    [VHOST_REQ_SET_FEATURES] = { "SET_FEATURES", 8, 8, 0, 0 },
    [VHOST_REQ_SET_OWNER] = { "SET_OWNER", 0, 0, 0, 0 },
    [VHOST_REQ_RESET_OWNER] = { "RESET_OWNER", 0, 0, 0, 0 },
    [VHOST_REQ_SET_MEM_TABLE] = { "SET_MEM_TABLE", 8 + 32, 8 + 32 * VHOST_TABLE_REGIONS, 1,
                                  VHOST_TABLE_REGIONS },
    [VHOST_REQ_SET_VRING_NUM] = { "SET_VRING_NUM", 8, 8, 0, 0 },
    [VHOST_REQ_SET_VRING_ADDR] = { "SET_VRING_ADDR", 40, 40, 0, 0 },
    [VHOST_REQ_SET_VRING_BASE] = { "SET_VRING_BASE", 8, 8, 0, 0 },
    [VHOST_REQ_GET_VRING_BASE] = { "GET_VRING_BASE", 8, 8, 0, 0 },
    [VHOST_REQ_SET_VRING_KICK] = { "SET_VRING_KICK", 8, 8, 0, 1 },
    [VHOST_REQ_SET_VRING_CALL] = { "SET_VRING_CALL", 8, 8, 0, 1 },
    [VHOST_REQ_SET_VRING_ERR] = { "SET_VRING_ERR", 8, 8, 0, 1 },
    [VHOST_REQ_GET_PROTOCOL_FEATURES] = { "GET_PROTOCOL_FEATURES", 0, 0, 0, 0 },
    [VHOST_REQ_SET_PROTOCOL_FEATURES] = { "SET_PROTOCOL_FEATURES", 8, 8, 0, 0 },
    [VHOST_REQ_GET_QUEUE_NUM] = { "GET_QUEUE_NUM", 0, 0, 0, 0 },
    [VHOST_REQ_SET_VRING_ENABLE] = { "SET_VRING_ENABLE", 8, 8, 0, 0 },
    [VHOST_REQ_NET_SET_MTU] = { "NET_SET_MTU", 8, 8, 0, 0 },
    [VHOST_REQ_SET_BACKEND_REQ_FD] = { "SET_BACKEND_REQ_FD", 0, 0, 1, 1 },
    [VHOST_REQ_GET_CONFIG] = { "GET_CONFIG", 12, 12 + VHOST_CONFIG_MAX, 0, 0 },
    [VHOST_REQ_SET_CONFIG] = { "SET_CONFIG", 12, 12 + VHOST_CONFIG_MAX, 0, 0 },
    [VHOST_REQ_GET_INFLIGHT_FD] = { "GET_INFLIGHT_FD", VHOST_INFLIGHT_AT_BYTES, 24, 0, 0 },
    [VHOST_REQ_SET_INFLIGHT_FD] = { "SET_INFLIGHT_FD", VHOST_INFLIGHT_AT_BYTES, 24, 1, 1 },
    [VHOST_REQ_RESET_DEVICE] = { "RESET_DEVICE", 0, 0, 0, 0 },
    [VHOST_REQ_GET_MAX_MEM_SLOTS] = { "GET_MAX_MEM_SLOTS", 0, 0, 0, 0 },
    [VHOST_REQ_ADD_MEM_REG] = { "ADD_MEM_REG", 40, 40, 1, 1 },
    [VHOST_REQ_REM_MEM_REG] = { "REM_MEM_REG", 40, 40, 0, 1 },
};

const char *vhost_request_name(uint32_t request)
{
    return request < VHOST_REQUESTS && requests[request].name ? requests[request].name : "an unknown request";
}

enum vhost_broken vhost_message_header(const struct vhost_header *head)
{
    if (head->request >= VHOST_REQUESTS || !requests[head->request].name)
        return VHOST_BROKEN_REQUEST;
    if ((head->flags & VHOST_FLAG_VERSION_OF) != VHOST_FLAG_VERSION || head->flags & VHOST_FLAG_REPLY)
        return VHOST_BROKEN_REQUEST;
    const struct request *r = &requests[head->request];
    return head->size < r->least || head->size > r->most ? VHOST_BROKEN_SIZE : VHOST_BROKEN_NOT;
}

static enum vhost_broken wrong(enum vhost_broken why, const char **word, const char *what)
{
    *word = what;
    return why;
}

static bool is_vring(uint32_t request)
{
    return (request >= VHOST_REQ_SET_VRING_NUM && request <= VHOST_REQ_GET_VRING_BASE) ||
           request == VHOST_REQ_SET_VRING_ENABLE;
}

static enum vhost_broken check_config(const struct vhost_message *m, const char **word)
{
    const struct vhost_config *c = &m->u.config;
    if (m->head.size - offsetof(struct vhost_config, bytes) != c->size)
        return wrong(VHOST_BROKEN_SIZE, word, "not as long as it says");
    if (c->size == 0 || c->offset > VHOST_CONFIG_MAX || c->size > VHOST_CONFIG_MAX - c->offset)
        return wrong(VHOST_BROKEN_VALUE, word, "outside the configuration");
    return VHOST_BROKEN_NOT;
}

static enum vhost_broken check_file(const struct vhost_message *m, unsigned fds, const char **word)
{
    if (m->u.u64 & ~(uint64_t)(VHOST_VRING_INDEX | VHOST_VRING_NOFD) ||
        (m->u.u64 & VHOST_VRING_INDEX) >= VHOST_QUEUE_INDEX_MAX)
        return wrong(VHOST_BROKEN_VALUE, word, "there is no such queue");
    bool none = m->u.u64 & VHOST_VRING_NOFD;
    if (fds != (none ? 0 : 1))
        return wrong(VHOST_BROKEN_FDS, word, "a descriptor missing, or one too many");
    return VHOST_BROKEN_NOT;
}

static enum vhost_broken check_inflight(const struct vhost_message *m, const char **word)
{
    const struct vhost_inflight_at *i = &m->u.inflight;
    if (i->queues == 0 || i->queues > VHOST_QUEUE_INDEX_MAX || i->size == 0 || i->size > VHOST_QUEUE_SIZE_MAX)
        return wrong(VHOST_BROKEN_VALUE, word, "so many queues, or such queues, there cannot be");
    return VHOST_BROKEN_NOT;
}

enum vhost_broken vhost_message_check(const struct vhost_message *m, unsigned fds, const char **word)
{
    const uint32_t request = m->head.request;
    enum vhost_broken why = vhost_message_header(&m->head);
    if (why)
        return wrong(why, word, why == VHOST_BROKEN_SIZE ? "a wrong length" : "unknown");
    const struct request *r = &requests[request];
    if (fds < r->fds_least || fds > r->fds_most)
        return wrong(VHOST_BROKEN_FDS, word, "a descriptor missing, or one too many");
    if (is_vring(request) && m->u.state.index >= VHOST_QUEUE_INDEX_MAX)
        return wrong(VHOST_BROKEN_VALUE, word, "there is no such queue");

    switch (request) {
    case VHOST_REQ_SET_MEM_TABLE:
        if (m->u.table.n == 0 || m->u.table.n > VHOST_TABLE_REGIONS || m->head.size != 8 + m->u.table.n * 32)
            return wrong(VHOST_BROKEN_SIZE, word, "not as many regions as it says");
        if (fds != m->u.table.n)
            return wrong(VHOST_BROKEN_FDS, word, "not one descriptor for each region");
        break;
    case VHOST_REQ_SET_VRING_NUM:
        if (m->u.state.num == 0 || m->u.state.num > VHOST_QUEUE_SIZE_MAX)
            return wrong(VHOST_BROKEN_VALUE, word, "a queue has 1 to 1024 entries");
        break;
    case VHOST_REQ_SET_VRING_ENABLE:
        if (m->u.state.num > 1)
            return wrong(VHOST_BROKEN_VALUE, word, "neither on nor off");
        break;
    case VHOST_REQ_SET_VRING_ADDR:
        if (m->u.addr.flags)
            return wrong(VHOST_BROKEN_VALUE, word, "logging was not agreed");
        break;
    case VHOST_REQ_SET_VRING_KICK:
    case VHOST_REQ_SET_VRING_CALL:
    case VHOST_REQ_SET_VRING_ERR:
        return check_file(m, fds, word);
    case VHOST_REQ_GET_CONFIG:
    case VHOST_REQ_SET_CONFIG:
        return check_config(m, word);
    case VHOST_REQ_GET_INFLIGHT_FD:
    case VHOST_REQ_SET_INFLIGHT_FD:
        return check_inflight(m, word);
    default:
        break;
    }
    return VHOST_BROKEN_NOT;
}
