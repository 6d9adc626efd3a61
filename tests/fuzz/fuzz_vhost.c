/* SPDX-License-Identifier: MIT */
/*
 * A hostile VMM and its guest against the vhost-user door: messages and ring memory from the
 * input, through device.c as it is, with a class that sends back what it gets.
 *
 * The input is a list of steps; see enum step.  What is checked beside the sanitizers: the
 * device never answers more than was taken, and when the VMM is gone nothing of it is left:
 * no descriptor, no mapping.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hyp-shim/local/guard.h"
#include "tests/unit/test_vhost_toy.h"

#define GUEST_BYTES 0x20000u
#define GUEST_AT    UINT64_C(0x100000)
#define GUEST_USER  UINT64_C(0x200000)
#define RING_BYTES  0x4000u

enum step {
    SAY,     /* a message: request, flags, length or 0xff for the usual one, descriptors, payload */
    WRITE,   /* bytes into guest memory: where (16 bits), how many, what                          */
    START,   /* all that brings a queue up, as a front-end says it: features, queue, size, base   */
    OFFER,   /* a descriptor that could be, and the index moved: queue, place, flags              */
    TURN,    /* the device's                                                                      */
    MODE,    /* of the class                                                                      */
    CUT,     /* the guest's memory, or the inflight region, off or whole again                    */
    ANEW,    /* another connection                                                                */
    STEPS
};

struct input {
    const uint8_t *at, *end;
};

static struct vhost_device dev;
static struct toy toy;
static int guest_fd = -1, wake_fd = -1, event_fd = -1, inflight_fd = -1, vmm_fd = -1;
static int other[2]; /* a socket that is nobody's */
static char *guest;
static bool packed;

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t byte(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static uint16_t word(struct input *in)
{
    uint8_t low = byte(in);
    return (uint16_t)(low | byte(in) << 8);
}

static void must(bool right)
{
    if (!right)
        abort();
}

static void set_up(void)
{
    if (guest_fd >= 0)
        return;
    guest_fd = memfd_create("guest", MFD_CLOEXEC);
    inflight_fd = memfd_create("inflight", MFD_CLOEXEC);
    wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other) == 0);
    must(ftruncate(guest_fd, GUEST_BYTES) == 0);
    guest = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, guest_fd, 0);
    must(guest != MAP_FAILED);
}

/* ------------------------------------------------------------------ the VMM */

static void turns(unsigned n)
{
    while (n-- > 0)
        vhost_device_turn(&dev);
}

static void swallow(void)
{
    char bytes[4096];
    union {
        char bytes[CMSG_SPACE(8 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = { bytes, sizeof(bytes) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
                          .msg_controllen = sizeof(control.bytes) };
    if (vmm_fd < 0 || recvmsg(vmm_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
        return;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        int fd;
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
        close(fd); /* the device's own memory for requests in flight */
    }
}

static void connect_anew(void)
{
    int pair[2];
    if (vmm_fd >= 0)
        close(vmm_fd);
    vmm_fd = -1;
    turns(2);
    if (dev.closing) { /* it holds something: for as long as it may */
        dev.deadline = 0;
        turns(2);
    }
    must(dev.fd < 0 && !dev.closing && dev.mem.n == 0);
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    vmm_fd = pair[0];
    dev.fd = pair[1];
    dev.protocol_features = 0;
}

static void send_bytes(const void *bytes, size_t n, const int *fds, unsigned nfds)
{
    union {
        char bytes[CMSG_SPACE(16 * sizeof(int))];
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
    if (sendmsg(vmm_fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return; /* it hung up, or does not read: as it likes */
}

static void say(uint32_t request, const void *payload, uint32_t bytes, int fd)
{
    struct vhost_message m = { .head = { request, VHOST_FLAG_VERSION, bytes } };
    memcpy(m.u.bytes, payload, bytes);
    send_bytes(vhost_message_wire(&m), sizeof(m.head) + bytes, &fd, fd >= 0);
    turns(1);
    swallow();
}

static void say_state(uint32_t request, uint32_t index, uint32_t num)
{
    struct vhost_vring_state s = { index, num };
    say(request, &s, sizeof(s), -1);
}

static const uint32_t usual_bytes[VHOST_REQUESTS] = {
    [VHOST_REQ_SET_FEATURES] = 8,      [VHOST_REQ_SET_MEM_TABLE] = 40,  [VHOST_REQ_SET_VRING_NUM] = 8,
    [VHOST_REQ_SET_VRING_ADDR] = 40,   [VHOST_REQ_SET_VRING_BASE] = 8,  [VHOST_REQ_GET_VRING_BASE] = 8,
    [VHOST_REQ_SET_VRING_KICK] = 8,    [VHOST_REQ_SET_VRING_CALL] = 8,  [VHOST_REQ_SET_VRING_ERR] = 8,
    [VHOST_REQ_SET_PROTOCOL_FEATURES] = 8, [VHOST_REQ_SET_VRING_ENABLE] = 8, [VHOST_REQ_NET_SET_MTU] = 8,
    [VHOST_REQ_GET_CONFIG] = 20,       [VHOST_REQ_SET_CONFIG] = 20,     [VHOST_REQ_GET_INFLIGHT_FD] = 24,
    [VHOST_REQ_SET_INFLIGHT_FD] = 24,  [VHOST_REQ_ADD_MEM_REG] = 40,    [VHOST_REQ_REM_MEM_REG] = 40,
};

static void do_say(struct input *in)
{
    struct vhost_message m = { .head = { .request = byte(in) % (VHOST_REQUESTS + 2) } };
    uint8_t flags = byte(in), length = byte(in), descriptors = byte(in);
    const int kinds[4] = { guest_fd, event_fd, inflight_fd, other[0] };
    int fds[16];
    unsigned nfds = descriptors & 15;
    m.head.flags = flags ^ VHOST_FLAG_VERSION;
    m.head.size = length != 0xff ? length : m.head.request < VHOST_REQUESTS ? usual_bytes[m.head.request] : 8;
    uint32_t bytes = m.head.size < sizeof(m.u) ? m.head.size : sizeof(m.u);
    for (uint32_t i = 0; i < bytes; i++)
        m.u.bytes[i] = byte(in);
    for (unsigned i = 0; i < nfds; i++)
        fds[i] = kinds[(descriptors >> 4) & 3];
    if (descriptors & 0x40) /* only a part of it */
        bytes /= 2;
    send_bytes(vhost_message_wire(&m), sizeof(m.head) + bytes, fds, nfds);
    if (!(descriptors & 0x80))
        turns(1);
    swallow();
}

static void do_start(struct input *in)
{
    uint8_t how = byte(in), q = byte(in) % TOY_QUEUES;
    uint16_t size = (uint16_t)(1 + byte(in) % 32), base = word(in);
    struct vhost_vring_addr addr = { .index = q, .desc = GUEST_USER + q * RING_BYTES };
    struct { uint32_t n, padding; struct vhost_region_at region; } table = {
        .n = 1, .region = { GUEST_AT, GUEST_BYTES, GUEST_USER, 0 } };
    struct vhost_inflight_at inflight = { .bytes = vhost_inflight_bytes(TOY_QUEUES, 32),
                                          .queues = TOY_QUEUES, .size = 32 };
    uint64_t features = VHOST_F_VERSION_1 | VHOST_F_INDIRECT_DESC | (how & 1 ? VHOST_F_RING_PACKED : 0) |
                        (how & 2 ? VHOST_F_EVENT_IDX : 0) | (how & 4 ? VHOST_F_PROTOCOL : 0);
    uint64_t protocol = VHOST_P_INFLIGHT | VHOST_P_MEM_SLOTS | VHOST_P_CONFIG | VHOST_P_REPLY_ACK, index = q;
    packed = how & 1;
    addr.avail = addr.desc + 0x1000;
    addr.used = addr.desc + 0x2000;
    say(VHOST_REQ_SET_PROTOCOL_FEATURES, &protocol, 8, -1);
    say(VHOST_REQ_SET_FEATURES, &features, 8, -1);
    if (how & 8)
        say(VHOST_REQ_SET_INFLIGHT_FD, &inflight, sizeof(inflight), inflight_fd);
    say(VHOST_REQ_SET_MEM_TABLE, &table, 40, guest_fd);
    say_state(VHOST_REQ_SET_VRING_NUM, q, size);
    say_state(VHOST_REQ_SET_VRING_BASE, q, base);
    say(VHOST_REQ_SET_VRING_ADDR, &addr, sizeof(addr), -1);
    say(VHOST_REQ_SET_VRING_KICK, &index, 8, event_fd);
    say(VHOST_REQ_SET_VRING_CALL, &index, 8, event_fd);
    say_state(VHOST_REQ_SET_VRING_ENABLE, q, 1);
}

/* ---------------------------------------------------------------- the guest */

static void do_write(struct input *in)
{
    unsigned at = word(in), n = byte(in) % 64;
    for (unsigned i = 0; i < n; i++)
        guest[(at + i) % GUEST_BYTES] = (char)byte(in);
}

static void do_offer(struct input *in)
{
    unsigned q = byte(in) % TOY_QUEUES, i = byte(in) % 32;
    uint8_t flags = byte(in);
    char *ring = guest + q * RING_BYTES, *desc = ring + i * 16;
    uint64_t addr = GUEST_AT + 0x10000 + (flags & 8 ? UINT64_C(0xfff8) : i * 64u);
    uint32_t len = flags & 4 ? 16u * (1 + i % 4) : 8;
    uint16_t next = (uint16_t)((i + 1) % 32), id = (uint16_t)i, kind = flags & 7, one = 1;
    memcpy(desc, &addr, 8);
    memcpy(desc + 8, &len, 4);
    if (packed) {
        kind = (uint16_t)(kind | (flags & 0x10 ? 1u << 15 : 1u << 7));
        memcpy(desc + 12, &id, 2);
        memcpy(desc + 14, &kind, 2);
        return;
    }
    memcpy(desc + 12, &kind, 2);
    memcpy(desc + 14, &next, 2);
    uint16_t *avail = (uint16_t *)(void *)(ring + 0x1000);
    avail[2 + avail[1] % 32] = id;
    avail[1] = (uint16_t)(avail[1] + one);
}

static void do_mode(struct input *in)
{
    uint8_t how = byte(in);
    toy.hold = how & 1;
    toy.broken = (how & 6) == 6;
    toy.refuse = (how & 0x18) == 0x18;
    if (how & 0x20)
        toy_release(&toy);
    if (how & 0x40)
        dev.deadline = 0;
    if (how & 0x80)
        atomic_store(&dev.config_changed, true);
}

static void do_cut(struct input *in)
{
    uint8_t how = byte(in);
    must(ftruncate(how & 1 ? guest_fd : inflight_fd, how & 2 ? 0x1000 : 0) == 0);
    turns(how & 4 ? 1 : 0);
    must(ftruncate(guest_fd, GUEST_BYTES) == 0);
    must(ftruncate(inflight_fd, 0x10000) == 0);
}

/* ------------------------------------------------------------------- all of it */

static void begin(void)
{
    set_up();
    memset(guest, 0, GUEST_BYTES);
    must(ftruncate(inflight_fd, 0) == 0 && ftruncate(inflight_fd, 0x10000) == 0);
    memset(&toy, 0, sizeof(toy));
    toy.dev = &dev;
    packed = false;
    must(guard_install() == 0);
    must(vhost_device_init(&dev, "fuzz", &toy_class, &toy, -1, wake_fd) == 0);
    for (unsigned i = 0; i < VHOST_BROKENS; i++)
        dev.broken[i] = 0x100001; /* no line in the log for each */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, data + size };
    begin();
    int first_free = dup(wake_fd);
    close(first_free);
    connect_anew();
    for (unsigned steps = 0; in.at < in.end && steps < 200; steps++) {
        switch ((enum step)(byte(&in) % STEPS)) {
        case SAY:
            do_say(&in);
            break;
        case WRITE:
            do_write(&in);
            break;
        case START:
            do_start(&in);
            break;
        case OFFER:
            do_offer(&in);
            break;
        case TURN:
            turns(2);
            break;
        case MODE:
            do_mode(&in);
            break;
        case CUT:
            do_cut(&in);
            break;
        case ANEW:
        case STEPS:
            connect_anew();
            break;
        }
        for (unsigned q = 0; q < TOY_QUEUES; q++)
            must(dev.queue[q].outstanding <= VHOST_QUEUE_SIZE_MAX);
    }
    swallow();
    connect_anew();
    close(vmm_fd);
    vmm_fd = -1;
    turns(2);
    must(toy.nheld == 0);
    vhost_device_end(&dev);
    int now_free = dup(wake_fd);
    must(now_free == first_free);
    close(now_free);
    return 0;
}
