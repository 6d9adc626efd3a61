/* SPDX-License-Identifier: MIT */
#include "vuclient.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "vuproto.h"

#define ANSWER_S    10
#define HUGE        (2u << 20)
#define PAGE        4096u
#define RINGS_GUEST 0x40000000ull  /* where a PC has memory below 4 GiB ... */
#define DATA_GUEST  0x100000000ull /* ... and above                         */

__attribute__((format(printf, 3, 4)))
static int fail(struct vuclient *c, int error, const char *format, ...)
{
    va_list ap;
    int at = snprintf(c->error, sizeof(c->error), "%s: ", c->opt.path);
    if (at < 0 || (size_t)at >= sizeof(c->error))
        return error;
    va_start(ap, format);
    vsnprintf(c->error + at, sizeof(c->error) - (size_t)at, format, ap);
    va_end(ap);
    return error;
}

/* --------------------------------------------------------------------- messages */

static const char *request_name(enum vu_request request)
{
    static const char *const names[] = {
        [VU_GET_FEATURES] = "GET_FEATURES",
        [VU_SET_FEATURES] = "SET_FEATURES",
        [VU_SET_OWNER] = "SET_OWNER",
        [VU_SET_MEM_TABLE] = "SET_MEM_TABLE",
        [VU_SET_VRING_NUM] = "SET_VRING_NUM",
        [VU_SET_VRING_ADDR] = "SET_VRING_ADDR",
        [VU_SET_VRING_BASE] = "SET_VRING_BASE",
        [VU_GET_VRING_BASE] = "GET_VRING_BASE",
        [VU_SET_VRING_KICK] = "SET_VRING_KICK",
        [VU_SET_VRING_CALL] = "SET_VRING_CALL",
        [VU_GET_PROTOCOL_FEATURES] = "GET_PROTOCOL_FEATURES",
        [VU_SET_PROTOCOL_FEATURES] = "SET_PROTOCOL_FEATURES",
        [VU_GET_QUEUE_NUM] = "GET_QUEUE_NUM",
        [VU_SET_VRING_ENABLE] = "SET_VRING_ENABLE",
        [VU_GET_CONFIG] = "GET_CONFIG",
        [VU_GET_INFLIGHT_FD] = "GET_INFLIGHT_FD",
        [VU_SET_INFLIGHT_FD] = "SET_INFLIGHT_FD",
    };
    return names[request];
}

static int send_message(struct vuclient *c, enum vu_request request, uint32_t flags, const void *payload,
                        uint32_t bytes, const int *fds, unsigned nfds)
{
    struct vu_header head = {.request = request, .flags = VU_VERSION | flags, .bytes = bytes};
    struct iovec iov[2] = {{&head, sizeof(head)}, {(void *)payload, bytes}};
    union {
        char room[CMSG_SPACE(VU_REGIONS * sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = bytes ? 2 : 1};
    if (nfds) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, nfds * sizeof(int));
    }
    ssize_t n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
    if (n == (ssize_t)(sizeof(head) + bytes))
        return 0;
    int error = n < 0 ? -errno : -EPIPE;
    return fail(c, error, "cannot send %s: %s", request_name(request), strerror(-error));
}

/* The whole of it, with the one descriptor that may come with its beginning. */
static int receive(struct vuclient *c, void *to, size_t bytes, int *fd)
{
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    size_t have = 0;
    while (have < bytes) {
        struct iovec iov = {(char *)to + have, bytes - have};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        if (fd && *fd < 0) {
            msg.msg_control = &control;
            msg.msg_controllen = sizeof(control);
        }
        ssize_t n = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? -EPIPE : errno == EAGAIN ? -ETIMEDOUT : -errno;
        struct cmsghdr *cmsg = msg.msg_control ? CMSG_FIRSTHDR(&msg) : NULL;
        if (fd && cmsg && cmsg->cmsg_type == SCM_RIGHTS)
            memcpy(fd, CMSG_DATA(cmsg), sizeof(*fd));
        have += (size_t)n;
    }
    return 0;
}

static int receive_answer(struct vuclient *c, enum vu_request request, void *payload, uint32_t bytes, int *fd)
{
    struct vu_header head;
    const char *name = request_name(request);
    int error = receive(c, &head, sizeof(head), fd);
    if (error)
        return fail(c, error, "no answer to %s: %s", name, error == -EPIPE ? "it hung up" : strerror(-error));
    if (head.request != request || (head.flags & 7) != (VU_VERSION | VU_REPLY) || head.bytes != bytes)
        return fail(c, -EPROTO, "the answer to %s is request %u, flags %#x, %u bytes (%u expected)", name,
                    head.request, head.flags, head.bytes, bytes);
    error = receive(c, payload, bytes, NULL);
    return error ? fail(c, error, "the answer to %s was cut off", name) : 0;
}

/* A request that has no answer of its own; acknowledged where that is agreed. */
static int tell(struct vuclient *c, enum vu_request request, const void *payload, uint32_t bytes,
                const int *fds, unsigned nfds)
{
    bool ack = c->protocol & VU_PROTOCOL_REPLY_ACK;
    uint64_t refused = 0;
    int error = send_message(c, request, ack ? VU_NEED_REPLY : 0, payload, bytes, fds, nfds);
    if (!error && ack)
        error = receive_answer(c, request, &refused, sizeof(refused), NULL);
    if (!error && refused)
        error = fail(c, -EREMOTEIO, "%s was refused", request_name(request));
    return error;
}

static int tell_u64(struct vuclient *c, enum vu_request request, uint64_t value)
{
    return tell(c, request, &value, sizeof(value), NULL, 0);
}

static int tell_state(struct vuclient *c, enum vu_request request, unsigned index, uint32_t num)
{
    struct vu_state s = {index, num};
    return tell(c, request, &s, sizeof(s), NULL, 0);
}

static int tell_fd(struct vuclient *c, enum vu_request request, unsigned index, int fd)
{
    uint64_t value = index;
    return tell(c, request, &value, sizeof(value), &fd, 1);
}

static int ask_u64(struct vuclient *c, enum vu_request request, uint64_t *out)
{
    int error = send_message(c, request, 0, NULL, 0, NULL, 0);
    return error ? error : receive_answer(c, request, out, sizeof(*out), NULL);
}

/* -------------------------------------------------------------------- handshake */

/* Everything that a plain Linux guest would take, of what the device offers. */
static uint64_t wanted(const struct vuclient *c)
{
    uint64_t bits = 1ull << VIRTIO_F_VERSION_1 | VU_F_PROTOCOL_FEATURES | 1ull << VIRTIO_BLK_F_SIZE_MAX |
                    1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_RO | 1ull << VIRTIO_BLK_F_BLK_SIZE |
                    1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_TOPOLOGY |
                    1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
    if (c->opt.queues > 1)
        bits |= 1ull << VIRTIO_BLK_F_MQ;
    if (c->opt.packed)
        bits |= 1ull << VIRTIO_F_RING_PACKED;
    if (c->opt.indirect)
        bits |= 1ull << VIRTIO_RING_F_INDIRECT_DESC;
    if (c->opt.event_idx)
        bits |= 1ull << VIRTIO_RING_F_EVENT_IDX;
    return bits;
}

static int agree_protocol(struct vuclient *c)
{
    uint64_t offered = 0, queues = 1;
    int error = ask_u64(c, VU_GET_PROTOCOL_FEATURES, &offered);
    uint64_t agreed = offered & (VU_PROTOCOL_MQ | VU_PROTOCOL_REPLY_ACK | VU_PROTOCOL_CONFIG |
                                 (c->opt.inflight ? VU_PROTOCOL_INFLIGHT : 0));
    if (!error && !(agreed & VU_PROTOCOL_CONFIG))
        error = fail(c, -EPROTO, "it does not tell a disk's configuration (no CONFIG)");
    if (!error)
        error = send_message(c, VU_SET_PROTOCOL_FEATURES, 0, &agreed, sizeof(agreed), NULL, 0);
    c->protocol = agreed;
    if (!error && agreed & VU_PROTOCOL_MQ)
        error = ask_u64(c, VU_GET_QUEUE_NUM, &queues);
    if (!error && queues < c->opt.queues)
        error = fail(c, -EINVAL, "it has %llu queue(s), not %u", (unsigned long long)queues, c->opt.queues);
    return error;
}

static int agree(struct vuclient *c)
{
    uint64_t offered = 0;
    c->protocol = 0;
    int error = ask_u64(c, VU_GET_FEATURES, &offered);
    if (!error && !(offered & VU_F_PROTOCOL_FEATURES))
        error = fail(c, -EPROTO, "it has no protocol features");
    if (!error && !(offered >> VIRTIO_F_VERSION_1 & 1))
        error = fail(c, -EPROTO, "it is no virtio 1 device");
    if (!error && c->opt.packed && !(offered >> VIRTIO_F_RING_PACKED & 1))
        error = fail(c, -EOPNOTSUPP, "it has no packed rings");
    if (!error)
        error = agree_protocol(c);
    if (!error)
        error = tell(c, VU_SET_OWNER, NULL, 0, NULL, 0);
    c->features = offered & wanted(c);
    return error;
}

static int read_config(struct vuclient *c)
{
    struct vu_config config = {.bytes = VU_CONFIG_BYTES};
    _Static_assert(VU_CONFIG_BYTES <= sizeof(c->config), "a disk's configuration has to hold that");
    int error = send_message(c, VU_GET_CONFIG, 0, &config, sizeof(config), NULL, 0);
    if (!error)
        error = receive_answer(c, VU_GET_CONFIG, &config, sizeof(config), NULL);
    if (!error)
        memcpy(&c->config, config.data, VU_CONFIG_BYTES);
    return error;
}

/* What the device of before had taken; of the first, nothing. */
static int hand_over(struct vuclient *c)
{
    struct vu_inflight desc = {.queues = (uint16_t)c->opt.queues, .size = c->opt.queue_size};
    if (!(c->protocol & VU_PROTOCOL_INFLIGHT))
        return 0;
    if (c->inflight_fd < 0) {
        int error = send_message(c, VU_GET_INFLIGHT_FD, 0, &desc, sizeof(desc), NULL, 0);
        if (!error)
            error = receive_answer(c, VU_GET_INFLIGHT_FD, &desc, sizeof(desc), &c->inflight_fd);
        if (!error && c->inflight_fd < 0)
            error = fail(c, -EPROTO, "GET_INFLIGHT_FD was answered without a descriptor");
        if (error)
            return error;
        c->inflight_bytes = desc.bytes;
        c->inflight_offset = desc.offset;
    }
    desc = (struct vu_inflight){.bytes = c->inflight_bytes, .offset = c->inflight_offset,
                                .queues = (uint16_t)c->opt.queues, .size = c->opt.queue_size};
    return tell(c, VU_SET_INFLIGHT_FD, &desc, sizeof(desc), &c->inflight_fd, 1);
}

static int show_memory(struct vuclient *c)
{
    uint64_t user = (uintptr_t)c->memory;
    struct vu_table table = {
        .n = VU_REGIONS,
        .region = {{RINGS_GUEST, c->rings_bytes, user, 0},
                   {DATA_GUEST, c->memory_bytes - c->rings_bytes, user + c->rings_bytes, c->rings_bytes}},
    };
    const int fds[VU_REGIONS] = {c->memfd, c->memfd};
    return tell(c, VU_SET_MEM_TABLE, &table, sizeof(table), fds, VU_REGIONS);
}

static int start_ring(struct vuclient *c, unsigned q)
{
    struct vuring *r = &c->ring[q];
    struct vu_addr addr = {.index = q,
                           .desc = (uintptr_t)r->desc,
                           .avail = (uintptr_t)r->driver,
                           .used = (uintptr_t)r->device};
    int error = tell_state(c, VU_SET_VRING_NUM, q, r->size);
    if (!error)
        error = tell_state(c, VU_SET_VRING_BASE, q, vuring_base(r));
    if (!error)
        error = tell(c, VU_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
    if (!error)
        error = tell_fd(c, VU_SET_VRING_KICK, q, c->kick[q]);
    if (!error)
        error = tell_fd(c, VU_SET_VRING_CALL, q, c->call[q]);
    return error;
}

static int dial(struct vuclient *c)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(c->opt.path) >= sizeof(addr.sun_path))
        return fail(c, -ENAMETOOLONG, "a socket's path is at most %zu bytes", sizeof(addr.sun_path) - 1);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", c->opt.path);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval patience = {.tv_sec = ANSWER_S};
    if (c->fd < 0 || setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
        connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return fail(c, -errno, "%s", strerror(errno));
    return 0;
}

/* In QEMU's order; features come before the inflight region, and once more after it. */
static int shake_hands(struct vuclient *c)
{
    int error = dial(c);
    if (!error)
        error = agree(c);
    if (!error)
        error = read_config(c);
    if (!error)
        error = tell_u64(c, VU_SET_FEATURES, c->features);
    if (!error)
        error = hand_over(c);
    if (!error)
        error = tell_u64(c, VU_SET_FEATURES, c->features);
    if (!error)
        error = show_memory(c);
    return error;
}

static int start_rings(struct vuclient *c)
{
    int error = 0;
    for (unsigned q = 0; q < c->opt.queues && !error; q++)
        error = start_ring(c, q);
    for (unsigned q = 0; q < c->opt.queues && !error; q++)
        error = tell_state(c, VU_SET_VRING_ENABLE, q, 1);
    c->connections += !error;
    return error;
}

/* ----------------------------------------------------------------------- memory */

/* All of it is there now: a page that is missing later is a SIGBUS. */
static int make_memfd(size_t bytes, unsigned flags)
{
    int fd = memfd_create("bench-guest", MFD_CLOEXEC | flags);
    if (fd >= 0 && (ftruncate(fd, (off_t)bytes) < 0 || fallocate(fd, 0, 0, (off_t)bytes) < 0)) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static int make_memory(struct vuclient *c)
{
    size_t driver_at, device_at;
    size_t ring = round_up(vuring_bytes(c->opt.queue_size, c->opt.packed, &driver_at, &device_at), PAGE);
    c->rings_bytes = round_up(ring * c->opt.queues, HUGE);
    c->memory_bytes = c->rings_bytes + round_up(c->opt.bytes, HUGE);
    c->memfd = make_memfd(c->memory_bytes, MFD_HUGETLB);
    c->huge = c->memfd >= 0;
    if (!c->huge)
        c->memfd = make_memfd(c->memory_bytes, 0);
    if (c->memfd < 0)
        return fail(c, -errno, "no memory: %s", strerror(errno));
    void *at = mmap(NULL, c->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, c->memfd, 0);
    if (at == MAP_FAILED)
        return fail(c, -errno, "no memory: %s", strerror(errno));
    c->memory = at;
    for (unsigned q = 0; q < c->opt.queues; q++) {
        c->kick[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        c->call[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (c->kick[q] < 0 || c->call[q] < 0)
            return fail(c, -errno, "no eventfd: %s", strerror(errno));
    }
    return 0;
}

static void make_rings(struct vuclient *c)
{
    size_t driver_at, device_at;
    size_t ring = round_up(vuring_bytes(c->opt.queue_size, c->opt.packed, &driver_at, &device_at), PAGE);
    for (unsigned q = 0; q < c->opt.queues; q++)
        vuring_init(&c->ring[q], c->memory + q * ring, c->opt.queue_size, c->opt.packed,
                    vuclient_has(c, VIRTIO_RING_F_EVENT_IDX));
}

uint64_t vuclient_guest(const struct vuclient *c, const void *at)
{
    return DATA_GUEST + (uint64_t)((const uint8_t *)at - vuclient_data(c));
}

/* ------------------------------------------------------------------ life and death */

int vuclient_open(struct vuclient *c, const struct vuclient_options *opt)
{
    memset(c, 0, sizeof(*c));
    c->opt = *opt;
    c->fd = c->memfd = c->inflight_fd = -1;
    memset(c->kick, -1, sizeof(c->kick));
    memset(c->call, -1, sizeof(c->call));
    int error = make_memory(c);
    if (!error)
        error = shake_hands(c);
    if (!error) {
        make_rings(c);
        error = start_rings(c);
    }
    if (error)
        vuclient_close(c);
    return error;
}

void vuclient_hang_up(struct vuclient *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

bool vuclient_gone(const struct vuclient *c)
{
    char byte;
    if (c->fd < 0)
        return true;
    ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

int vuclient_again(struct vuclient *c)
{
    uint64_t features = c->features;
    vuclient_hang_up(c);
    int error = shake_hands(c);
    if (!error && c->features != features)
        error = fail(c, -EPROTO, "it offers other features than before: %#llx, not %#llx",
                     (unsigned long long)c->features, (unsigned long long)features);
    c->features = features;
    if (!error)
        error = start_rings(c);
    for (unsigned q = 0; q < c->opt.queues && !error; q++)
        vuclient_kick(c, q);
    if (error)
        vuclient_hang_up(c);
    return error;
}

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void vuclient_close(struct vuclient *c)
{
    vuclient_hang_up(c);
    for (unsigned q = 0; q < VUCLIENT_QUEUES_MAX; q++) {
        close_one(&c->kick[q]);
        close_one(&c->call[q]);
    }
    if (c->memory)
        munmap(c->memory, c->memory_bytes);
    c->memory = NULL;
    close_one(&c->memfd);
    close_one(&c->inflight_fd);
}

/* ------------------------------------------------------------------------ bells */

void vuclient_kick(const struct vuclient *c, unsigned queue)
{
    const uint64_t one = 1;
    if (write(c->kick[queue], &one, sizeof(one)) < 0)
        return; /* it counts as rung already */
}

bool vuclient_called(const struct vuclient *c, unsigned queue)
{
    uint64_t n;
    return read(c->call[queue], &n, sizeof(n)) == sizeof(n);
}

int vuclient_wait(const struct vuclient *c, unsigned queue, int timeout_ms)
{
    struct pollfd p[2] = {{.fd = c->call[queue], .events = POLLIN}, {.fd = c->fd, .events = POLLRDHUP}};
    int n = poll(p, 2, timeout_ms);
    if (n <= 0)
        return n < 0 ? -errno : 0;
    if (!p[0].revents)
        return -EPIPE;
    vuclient_called(c, queue);
    return 1;
}
