/* SPDX-License-Identifier: MIT */
/*
 * test_vhost_vmm.h - a VMM that says what a test tells it to.  All in one thread: who says
 * something lets the device take turns.
 */
#ifndef BULKHEAD_TEST_VHOST_VMM_H
#define BULKHEAD_TEST_VHOST_VMM_H

#include "test_vhost.h"
#include "test_vhost_toy.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

/* ------------------------------------------------------------------- the VMM */

struct vmm {
    struct vhost_device dev;
    struct toy toy;
    struct guest g;
    struct driver d[TOY_QUEUES];
    char path[64];
    int listen, wake, fd;
    int kick[TOY_QUEUES], call[TOY_QUEUES];
    bool packed, need_reply;
};

static inline void vmm_turns(struct vmm *v)
{
    for (unsigned i = 0; i < 20; i++)
        vhost_device_turn(&v->dev);
}

static inline void vmm_connect(struct vmm *v)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    snprintf(at.sun_path, sizeof(at.sun_path), "%s", v->path);
    v->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(v->fd, (struct sockaddr *)&at, sizeof(at)), 0);
    vmm_turns(v);
    assert_true(v->dev.fd >= 0);
}

static inline void vmm_begin(struct vmm *v, bool packed)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    memset(v, 0, sizeof(*v));
    v->packed = packed;
    v->toy.dev = &v->dev;
    guest_open(&v->g);
    char dir[] = "/tmp/bulkhead-vmm.XXXXXX";
    assert_non_null(mkdtemp(dir));
    snprintf(v->path, sizeof(v->path), "%s/s", dir);
    snprintf(at.sun_path, sizeof(at.sun_path), "%s", v->path);
    v->listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(v->listen, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(v->listen, 4), 0);
    v->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (unsigned i = 0; i < TOY_QUEUES; i++) {
        v->kick[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        v->call[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        driver_open(&v->d[i], &v->g, packed, 16, i);
    }
    assert_int_equal(vhost_device_init(&v->dev, "toy0", &toy_class, &v->toy, v->listen, v->wake), 0);
    vmm_connect(v);
}

static inline void vmm_end(struct vmm *v)
{
    close(v->fd);
    vmm_turns(v);
    vhost_device_end(&v->dev);
    vhost_device_unprepare(&v->dev);
    for (unsigned i = 0; i < TOY_QUEUES; i++) {
        close(v->kick[i]);
        close(v->call[i]);
    }
    close(v->wake);
    close(v->listen);
    unlink(v->path);
    *strrchr(v->path, '/') = '\0';
    rmdir(v->path);
    guest_close(&v->g);
}

/* Bytes as they are. */
static inline void vmm_raw(struct vmm *v, const void *bytes, size_t n, const int *fds, unsigned nfds)
{
    union {
        char bytes[CMSG_SPACE(32 * sizeof(int))];
        struct cmsghdr align;
    } control = { .bytes = { 0 } };
    struct iovec iov = { (void *)(uintptr_t)bytes, n };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (nfds) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
    }
    assert_int_equal(sendmsg(v->fd, &msg, MSG_NOSIGNAL), (ssize_t)n);
}

static inline void vmm_say_with(struct vmm *v, uint32_t request, const void *payload, uint32_t bytes,
                                const int *fds, unsigned nfds)
{
    uint32_t flags = VHOST_FLAG_VERSION | (v->need_reply ? VHOST_FLAG_NEED_REPLY : 0);
    struct vhost_message m = { .head = { request, flags, bytes } };
    if (bytes)
        memcpy(m.u.bytes, payload, bytes);
    vmm_raw(v, vhost_message_wire(&m), sizeof(m.head) + bytes, fds, nfds);
    vmm_turns(v);
}

static inline void vmm_say(struct vmm *v, uint32_t request, const void *payload, uint32_t bytes)
{
    vmm_say_with(v, request, payload, bytes, NULL, 0);
}

static inline void vmm_say_u64(struct vmm *v, uint32_t request, uint64_t value)
{
    vmm_say(v, request, &value, sizeof(value));
}

static inline void vmm_say_state(struct vmm *v, uint32_t request, uint32_t index, uint32_t num)
{
    struct vhost_vring_state s = { index, num };
    vmm_say(v, request, &s, sizeof(s));
}

/* The next answer; its payload's bytes, -1: there is none. */
static inline int vmm_hear_fd(struct vmm *v, struct vhost_message *m, int *fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = { vhost_message_wire(m), sizeof(m->head) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
                          .msg_controllen = sizeof(control.bytes) };
    ssize_t n = recvmsg(v->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n != (ssize_t)sizeof(m->head))
        return -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (fd)
        *fd = -1;
    if (c && fd)
        memcpy(fd, CMSG_DATA(c), sizeof(int));
    assert_int_equal(m->head.flags, VHOST_FLAG_VERSION | VHOST_FLAG_REPLY);
    assert_true(m->head.size <= sizeof(m->u));
    assert_int_equal(recv(v->fd, &m->u, m->head.size, MSG_DONTWAIT), m->head.size);
    return (int)m->head.size;
}

static inline int vmm_hear(struct vmm *v, struct vhost_message *m)
{
    return vmm_hear_fd(v, m, NULL);
}

static inline uint64_t vmm_ask(struct vmm *v, uint32_t request)
{
    struct vhost_message m;
    vmm_say(v, request, NULL, 0);
    assert_int_equal(vmm_hear(v, &m), 8);
    assert_int_equal(m.head.request, request);
    return m.u.u64;
}

static inline void vmm_say_file(struct vmm *v, uint32_t request, uint64_t q, int fd)
{
    if (fd < 0)
        q |= VHOST_VRING_NOFD;
    vmm_say_with(v, request, &q, sizeof(q), &fd, fd >= 0);
}

static inline void vmm_memory(struct vmm *v)
{
    struct vhost_table table = { .n = 1, .region = { guest_region() } };
    vmm_say_with(v, VHOST_REQ_SET_MEM_TABLE, &table, 8 + 32, &v->g.fd, 1);
}

static inline uint64_t vmm_wanted(const struct vmm *v)
{
    return VHOST_F_VERSION_1 | VHOST_F_INDIRECT_DESC | (v->packed ? VHOST_F_RING_PACKED : 0);
}

static inline void vmm_agree(struct vmm *v)
{
    uint64_t features = vmm_ask(v, VHOST_REQ_GET_FEATURES);
    assert_int_equal(vmm_wanted(v) & ~features, 0);
    uint64_t protocol = vmm_ask(v, VHOST_REQ_GET_PROTOCOL_FEATURES);
    vmm_say_u64(v, VHOST_REQ_SET_PROTOCOL_FEATURES, protocol);
    vmm_say(v, VHOST_REQ_SET_OWNER, NULL, 0);
    vmm_say_u64(v, VHOST_REQ_SET_FEATURES, vmm_wanted(v) | VHOST_F_PROTOCOL);
}

static inline void vmm_ring(struct vmm *v, unsigned q, uint32_t base)
{
    struct vhost_vring_addr addr = { .index = q, .desc = GUEST_USER + v->d[q].ring_at };
    addr.avail = addr.desc + 0x8000;
    addr.used = addr.desc + 0xc000;
    vmm_say_state(v, VHOST_REQ_SET_VRING_NUM, q, v->d[q].size);
    vmm_say_state(v, VHOST_REQ_SET_VRING_BASE, q, base);
    vmm_say(v, VHOST_REQ_SET_VRING_ADDR, &addr, sizeof(addr));
    vmm_say_file(v, VHOST_REQ_SET_VRING_KICK, q, v->kick[q]);
    vmm_say_file(v, VHOST_REQ_SET_VRING_CALL, q, v->call[q]);
}

static inline void vmm_enable(struct vmm *v, unsigned q, bool on)
{
    vmm_say_state(v, VHOST_REQ_SET_VRING_ENABLE, q, on);
}

/* Everything until queue 0 runs. */
static inline void vmm_start(struct vmm *v)
{
    vmm_agree(v);
    vmm_memory(v);
    vmm_ring(v, 0, driver_base(&v->d[0]));
    vmm_enable(v, 0, true);
    assert_true(v->dev.state[0].running);
}

/* One request through queue q, and its answer. */
static inline void vmm_echo(struct vmm *v, unsigned q)
{
    static uint32_t count;
    uint32_t len = 0;
    struct buffer b[2] = { readable(0x100, 64), writable(0x800, 64) };
    count++;
    memcpy(v->g.at + DATA_AT + 0x100, &count, sizeof(count));
    int id = driver_add(&v->d[q], b, 2);
    vmm_turns(v);
    assert_int_equal(driver_used(&v->d[q], &len), id);
    assert_int_equal(len, 64);
    assert_memory_equal(v->g.at + DATA_AT + 0x800, &count, sizeof(count));
}

static inline unsigned open_descriptors(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

#endif
