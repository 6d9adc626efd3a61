/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../../hyp-shim/local/guard.h"
#include "device_inner.h"

#define INFLIGHT_BYTES_MAX (UINT64_C(16) << 20)
#define FILE_PAGE 4096u

#define RING_FEATURES (VHOST_F_ANY_LAYOUT | VHOST_F_INDIRECT_DESC | VHOST_F_EVENT_IDX | VHOST_F_PROTOCOL | \
                       VHOST_F_VERSION_1 | VHOST_F_RING_PACKED)

static bool has_config(const struct vhost_device *dev)
{
    uint8_t bytes[VHOST_CONFIG_MAX];
    return dev->cls->config && dev->cls->config(dev->arg, bytes) > 0;
}

static uint64_t offered(const struct vhost_device *dev)
{
    return RING_FEATURES | dev->cls->features(dev->arg);
}

static uint64_t offered_protocol(const struct vhost_device *dev)
{
    uint64_t p = VHOST_P_MQ | VHOST_P_REPLY_ACK | VHOST_P_MEM_SLOTS | VHOST_P_RESET;
    if (dev->cls->mtu)
        p |= VHOST_P_NET_MTU;
    if (has_config(dev))
        p |= VHOST_P_CONFIG | VHOST_P_BACKEND_REQ;
    if (dev->inflight_fd >= 0)
        p |= VHOST_P_INFLIGHT;
    return p;
}

/* ------------------------------------------------------------------ answers */

static int send_bytes(int fd, const void *bytes, size_t n, int pass)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = { .bytes = { 0 } };
    struct iovec iov = { (void *)(uintptr_t)bytes, n };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    ssize_t sent;
    if (pass >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass, sizeof(int));
    }
    do {
        sent = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)n ? 0 : sent < 0 ? -errno : -EMSGSIZE;
}

/* dev->in is the answer, with so many bytes behind its header. */
static int answer(struct vhost_device *dev, uint32_t bytes, int pass)
{
    dev->in.head.flags = VHOST_FLAG_VERSION | VHOST_FLAG_REPLY;
    dev->in.head.size = bytes;
    int err = send_bytes(dev->fd, &dev->in.head, sizeof(dev->in.head) + bytes, pass);
    if (err == -EPIPE || err == -ECONNRESET)
        return vhost_break(dev, VHOST_BROKEN_LEFT, "the VMM is gone");
    if (err)
        return vhost_break(dev, VHOST_BROKEN_REQUEST, "the VMM does not read its answers");
    return 0;
}

static int answer_u64(struct vhost_device *dev, uint64_t value)
{
    dev->in.u.u64 = value;
    return answer(dev, sizeof(value), -1);
}

/* Done; the VMM may have asked to be told. */
static int acknowledge(struct vhost_device *dev)
{
    if (!(dev->in.head.flags & VHOST_FLAG_NEED_REPLY) || !(dev->protocol_features & VHOST_P_REPLY_ACK))
        return 0;
    return answer_u64(dev, 0);
}

void vhost_device_config_changed(struct vhost_device *dev)
{
    struct vhost_header head = { .request = VHOST_BACKEND_CONFIG_CHANGE, .flags = VHOST_FLAG_VERSION };
    if (dev->backend_fd >= 0 && send_bytes(dev->backend_fd, &head, sizeof(head), -1))
        vhost_close(&dev->backend_fd);
}

/* ----------------------------------------------------------- when, and what */

static const char *request_name(const struct vhost_device *dev)
{
    return vhost_request_name(dev->in.head.request);
}

/* The protocol feature that a request belongs to; 0: none. */
static uint64_t needs(uint32_t request)
{
    switch (request) {
    case VHOST_REQ_GET_QUEUE_NUM:
        return VHOST_P_MQ;
    case VHOST_REQ_NET_SET_MTU:
        return VHOST_P_NET_MTU;
    case VHOST_REQ_SET_BACKEND_REQ_FD:
        return VHOST_P_BACKEND_REQ;
    case VHOST_REQ_GET_CONFIG:
    case VHOST_REQ_SET_CONFIG:
        return VHOST_P_CONFIG;
    case VHOST_REQ_GET_INFLIGHT_FD:
    case VHOST_REQ_SET_INFLIGHT_FD:
        return VHOST_P_INFLIGHT;
    case VHOST_REQ_RESET_DEVICE:
        return VHOST_P_RESET;
    case VHOST_REQ_GET_MAX_MEM_SLOTS:
    case VHOST_REQ_ADD_MEM_REG:
    case VHOST_REQ_REM_MEM_REG:
        return VHOST_P_MEM_SLOTS;
    default:
        return 0;
    }
}

/* The queue that a request is about; -1: none. */
static int queue_of(const struct vhost_message *m)
{
    switch (m->head.request) {
    case VHOST_REQ_SET_VRING_NUM:
    case VHOST_REQ_SET_VRING_ADDR:
    case VHOST_REQ_SET_VRING_BASE:
    case VHOST_REQ_GET_VRING_BASE:
    case VHOST_REQ_SET_VRING_ENABLE:
        return (int)m->u.state.index;
    case VHOST_REQ_SET_VRING_KICK:
    case VHOST_REQ_SET_VRING_CALL:
    case VHOST_REQ_SET_VRING_ERR:
        return (int)(m->u.u64 & VHOST_VRING_INDEX);
    default:
        return -1;
    }
}

static bool some_run(const struct vhost_device *dev)
{
    for (unsigned i = 0; i < VHOST_QUEUES_MAX; i++)
        if (dev->state[i].running)
            return true;
    return false;
}

int vhost_request_check(struct vhost_device *dev)
{
    const struct vhost_message *m = &dev->in;
    const char *word = NULL, *name = request_name(dev);
    uint64_t needed = needs(m->head.request);
    enum vhost_broken why = vhost_message_check(m, dev->in_nfds, &word);
    if (why)
        return vhost_break(dev, why, "%s: %s", name, word);
    if (needed & ~dev->protocol_features)
        return vhost_break(dev, VHOST_BROKEN_REQUEST, "%s was not agreed", name);
    int q = queue_of(m);
    if (q >= 0 && (unsigned)q >= dev->cls->queues(dev->arg))
        return vhost_break(dev, VHOST_BROKEN_VALUE, "%s: there is no queue %d", name, q);

    bool now = true;
    switch (m->head.request) {
    case VHOST_REQ_SET_FEATURES:
        now = m->u.u64 == dev->features || !some_run(dev);
        if (m->u.u64 & ~offered(dev))
            return vhost_break(dev, VHOST_BROKEN_VALUE, "%s: features that were not offered", name);
        break;
    case VHOST_REQ_SET_PROTOCOL_FEATURES:
        now = m->u.u64 == dev->protocol_features || !some_run(dev);
        if (m->u.u64 & ~offered_protocol(dev))
            return vhost_break(dev, VHOST_BROKEN_VALUE, "%s: features that were not offered", name);
        break;
    case VHOST_REQ_SET_VRING_NUM:
    case VHOST_REQ_SET_VRING_ADDR:
    case VHOST_REQ_SET_VRING_BASE:
        now = !dev->state[q].running;
        break;
    case VHOST_REQ_GET_INFLIGHT_FD:
    case VHOST_REQ_SET_INFLIGHT_FD:
        now = !some_run(dev);
        break;
    default:
        break;
    }
    return now ? 0 : vhost_break(dev, VHOST_BROKEN_REQUEST, "%s: not while rings run", name);
}

uint32_t vhost_request_stops(const struct vhost_device *dev)
{
    const struct vhost_message *m = &dev->in;
    switch (m->head.request) {
    case VHOST_REQ_GET_VRING_BASE:
        return 1u << m->u.state.index;
    case VHOST_REQ_SET_VRING_ENABLE:
        return m->u.state.num ? 0 : 1u << m->u.state.index;
    case VHOST_REQ_SET_MEM_TABLE:
    case VHOST_REQ_REM_MEM_REG:
    case VHOST_REQ_RESET_OWNER:
    case VHOST_REQ_RESET_DEVICE:
        return UINT32_MAX;
    default:
        return 0;
    }
}

/* ------------------------------------------------------------------- memory */

static int memory_broken(struct vhost_device *dev, int err)
{
    return vhost_break(dev, VHOST_BROKEN_MEMORY, "%s: %s", request_name(dev),
                       err == -EINVAL   ? "a region that overlaps, wraps, is empty or is longer than its file"
                       : err == -E2BIG  ? "more regions than there may be"
                       : err == -ENOENT ? "there is no such region"
                       : err == -EACCES ? "a file that may not be mapped for writing"
                                        : "a file that cannot be mapped");
}

static int do_memory(struct vhost_device *dev)
{
    int err = 0;
    switch (dev->in.head.request) {
    case VHOST_REQ_SET_MEM_TABLE:
        err = vhost_memory_set(&dev->mem, dev->in.u.table.region, dev->in_fds, dev->in.u.table.n);
        break;
    case VHOST_REQ_ADD_MEM_REG:
        err = vhost_memory_add(&dev->mem, &dev->in.u.one.region, dev->in_fds[0]);
        break;
    default:
        err = vhost_memory_remove(&dev->mem, &dev->in.u.one.region);
        break;
    }
    if (err)
        return memory_broken(dev, err);
    dev->mem_set = true;
    return acknowledge(dev);
}

/* ------------------------------------------------------------------- queues */

/* An eventfd takes eight bytes and nothing else; what takes one could hold us up. */
static bool is_eventfd(int fd)
{
    const char byte = 0;
    return write(fd, &byte, 1) < 0 && errno == EINVAL;
}

static int do_file(struct vhost_device *dev, unsigned q)
{
    struct vhost_queue_state *s = &dev->state[q];
    int fd = -1;
    if (dev->in_nfds) {
        if (!is_eventfd(dev->in_fds[0]))
            return vhost_break(dev, VHOST_BROKEN_FDS, "%s: not an eventfd", request_name(dev));
        fd = dev->in_fds[0];
        dev->in_nfds = 0;
    }
    int *to = dev->in.head.request == VHOST_REQ_SET_VRING_KICK   ? &dev->queue[q].kick_fd
              : dev->in.head.request == VHOST_REQ_SET_VRING_CALL ? &dev->queue[q].call_fd
                                                                 : &s->err_fd;
    vhost_close(to);
    *to = fd;
    if (to == &dev->queue[q].kick_fd)
        s->has_kick = true;
    else if (to == &dev->queue[q].call_fd && s->running)
        vhost_queue_call(&dev->queue[q]); /* what was said before went to the old one */
    return acknowledge(dev);
}

static int do_queue(struct vhost_device *dev)
{
    const struct vhost_message *m = &dev->in;
    unsigned q = m->u.state.index;
    struct vhost_queue *queue = &dev->queue[q];
    struct vhost_queue_state *s = &dev->state[q];
    switch (m->head.request) {
    case VHOST_REQ_SET_VRING_NUM:
        queue->size = (uint16_t)m->u.state.num;
        s->has_size = true;
        break;
    case VHOST_REQ_SET_VRING_ADDR:
        queue->desc_user = m->u.addr.desc;
        queue->avail_user = m->u.addr.avail;
        queue->used_user = m->u.addr.used;
        s->has_addr = true;
        break;
    case VHOST_REQ_SET_VRING_BASE:
        s->base = m->u.state.num;
        break;
    case VHOST_REQ_SET_VRING_ENABLE:
        s->enabled = m->u.state.num;
        break;
    default: /* GET_VRING_BASE: until it is started anew */
        vhost_close(&queue->kick_fd);
        s->has_kick = false;
        dev->in.u.state.num = s->base;
        return answer(dev, sizeof(dev->in.u.state), -1);
    }
    return acknowledge(dev);
}

/* ----------------------------------------------------------------- inflight */

void vhost_inflight_drop(struct vhost_device *dev)
{
    if (dev->inflight_at) {
        guard_remove(dev->inflight_guard);
        munmap(dev->inflight_at, dev->inflight_mapped);
    }
    dev->inflight_at = NULL;
    dev->inflight_bytes = dev->inflight_mapped = 0;
    atomic_store(&dev->inflight_faulted, 0);
}

/* Maps it and looks whether all of it is there. */
static int inflight_map(struct vhost_device *dev, int fd, uint64_t bytes, uint64_t offset)
{
    vhost_inflight_drop(dev);
    size_t whole = (size_t)(bytes + FILE_PAGE - 1) & ~(size_t)(FILE_PAGE - 1);
    char *at = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    if (at == MAP_FAILED)
        return -errno;
    dev->inflight_guard = guard_add(at, whole, &dev->inflight_faulted);
    if (dev->inflight_guard < 0) {
        munmap(at, whole);
        return dev->inflight_guard;
    }
    dev->inflight_at = at;
    dev->inflight_mapped = whole;
    dev->inflight_bytes = (size_t)bytes;
    dev->inflight_queues = dev->in.u.inflight.queues;
    dev->inflight_size = dev->in.u.inflight.size;
    (void)*(volatile const char *)(at + whole - 1);
    return atomic_load(&dev->inflight_faulted) ? -EINVAL : 0;
}

static int do_inflight(struct vhost_device *dev)
{
    struct vhost_inflight_at *i = &dev->in.u.inflight;
    size_t need = vhost_inflight_bytes(i->queues, i->size);
    if (dev->in.head.request == VHOST_REQ_GET_INFLIGHT_FD) {
        uint32_t size = dev->in.head.size;
        if (inflight_map(dev, dev->inflight_fd, need, 0))
            return vhost_break(dev, VHOST_BROKEN_INFLIGHT, "GET_INFLIGHT_FD: no memory");
        memset(dev->inflight_at, 0, need);
        vhost_inflight_drop(dev);
        i->bytes = need;
        i->offset = 0;
        return answer(dev, size, dev->inflight_fd);
    }
    if (i->bytes < need || i->bytes > INFLIGHT_BYTES_MAX || i->offset > INFLIGHT_BYTES_MAX ||
        i->offset % FILE_PAGE)
        return vhost_break(dev, VHOST_BROKEN_INFLIGHT, "SET_INFLIGHT_FD: %llu bytes, where %zu belong",
                           (unsigned long long)i->bytes, need);
    if (inflight_map(dev, dev->in_fds[0], need, i->offset))
        return vhost_break(dev, VHOST_BROKEN_INFLIGHT, "SET_INFLIGHT_FD: a file that cannot be mapped");
    return acknowledge(dev);
}

/* ------------------------------------------------------------ configuration */

static int do_config(struct vhost_device *dev)
{
    struct vhost_config *c = &dev->in.u.config;
    uint8_t bytes[VHOST_CONFIG_MAX] = { 0 };
    if (dev->in.head.request == VHOST_REQ_SET_CONFIG) {
        if (!dev->cls->config_set || dev->cls->config_set(dev->arg, c->offset, c->bytes, c->size))
            return vhost_break(dev, VHOST_BROKEN_VALUE, "SET_CONFIG: cannot be changed there");
        return acknowledge(dev);
    }
    dev->cls->config(dev->arg, bytes);
    memcpy(c->bytes, bytes + c->offset, c->size);
    return answer(dev, dev->in.head.size, -1);
}

static int do_backend_fd(struct vhost_device *dev)
{
    vhost_close(&dev->backend_fd);
    dev->backend_fd = dev->in_fds[0];
    dev->in_nfds = 0;
    return acknowledge(dev);
}

static int do_mtu(struct vhost_device *dev)
{
    if (dev->cls->mtu(dev->arg, dev->in.u.u64) < 0)
        return vhost_break(dev, VHOST_BROKEN_VALUE, "NET_SET_MTU: %llu is not possible",
                           (unsigned long long)dev->in.u.u64);
    return acknowledge(dev);
}

/* ------------------------------------------------------------------ all of it */

void vhost_request_forget(struct vhost_device *dev)
{
    for (unsigned i = 0; i < VHOST_QUEUES_MAX; i++) {
        vhost_close(&dev->queue[i].kick_fd);
        vhost_close(&dev->queue[i].call_fd);
        vhost_close(&dev->state[i].err_fd);
        dev->queue[i] = (struct vhost_queue){ .mem = &dev->mem, .kick_fd = -1, .call_fd = -1 };
        dev->state[i] = (struct vhost_queue_state){ .err_fd = -1 };
    }
    dev->features = 0;
    vhost_inflight_drop(dev);
}

static int do_features(struct vhost_device *dev)
{
    if (dev->in.u.u64 != dev->features || !some_run(dev)) {
        dev->features = dev->in.u.u64;
        if (dev->cls->agreed)
            dev->cls->agreed(dev->arg, dev->features);
    }
    return acknowledge(dev);
}

int vhost_request_do(struct vhost_device *dev)
{
    switch (dev->in.head.request) {
    case VHOST_REQ_GET_FEATURES:
        return answer_u64(dev, offered(dev));
    case VHOST_REQ_SET_FEATURES:
        return do_features(dev);
    case VHOST_REQ_GET_PROTOCOL_FEATURES:
        return answer_u64(dev, offered_protocol(dev));
    case VHOST_REQ_SET_PROTOCOL_FEATURES:
        dev->protocol_features = dev->in.u.u64;
        return acknowledge(dev);
    case VHOST_REQ_GET_QUEUE_NUM:
        return answer_u64(dev, dev->cls->queues(dev->arg) / (dev->cls->mq ? 2 : 1));
    case VHOST_REQ_GET_MAX_MEM_SLOTS:
        return answer_u64(dev, VHOST_REGIONS_MAX);
    case VHOST_REQ_SET_MEM_TABLE:
    case VHOST_REQ_ADD_MEM_REG:
    case VHOST_REQ_REM_MEM_REG:
        return do_memory(dev);
    case VHOST_REQ_SET_VRING_NUM:
    case VHOST_REQ_SET_VRING_ADDR:
    case VHOST_REQ_SET_VRING_BASE:
    case VHOST_REQ_GET_VRING_BASE:
    case VHOST_REQ_SET_VRING_ENABLE:
        return do_queue(dev);
    case VHOST_REQ_SET_VRING_KICK:
    case VHOST_REQ_SET_VRING_CALL:
    case VHOST_REQ_SET_VRING_ERR:
        return do_file(dev, (unsigned)queue_of(&dev->in));
    case VHOST_REQ_GET_INFLIGHT_FD:
    case VHOST_REQ_SET_INFLIGHT_FD:
        return do_inflight(dev);
    case VHOST_REQ_GET_CONFIG:
    case VHOST_REQ_SET_CONFIG:
        return do_config(dev);
    case VHOST_REQ_SET_BACKEND_REQ_FD:
        return do_backend_fd(dev);
    case VHOST_REQ_NET_SET_MTU:
        return do_mtu(dev);
    case VHOST_REQ_RESET_OWNER:
    case VHOST_REQ_RESET_DEVICE:
        vhost_request_forget(dev);
        return acknowledge(dev);
    default: /* SET_OWNER: the connection is the owner */
        return acknowledge(dev);
    }
}
