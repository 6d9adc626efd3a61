/* SPDX-License-Identifier: MIT */
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../../../hyp-shim/clock.h"
#include "../../../hyp-shim/local/guard.h"
#include "../../../hyp-shim/log.h"
#include "device_inner.h"

#define NS_OF_MS UINT64_C(1000000)
#define NS_OF_S  UINT64_C(1000000000)

/*
 * Where the VMM, the door and the driver domain share two processors, who spins holds up
 * the one it waits for.  So spinning has to earn its keep: one that was of use is worth
 * another one, one that was not takes that away, and without credit only one of many
 * chances is tried.
 */
#define SPIN_NS          10000u
#define SPIN_CREDIT_MAX  4
#define SPIN_PROBE_EVERY 64u
#define SPIN_TURNS       16u /* between two looks at the clock                            */

#define CONTROL_EVERY 256u             /* busy turns between two looks at the sockets     */
#define BARE_SLEEP_NS 50000u           /* a queue without kicks is looked at so often     */
#define STOP_SLEEP_NS (5 * NS_OF_MS)   /* while something is to stop                      */
#define ACCEPT_RETRY_NS NS_OF_S

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void vhost_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* ---------------------------------------------------------------- the end */

static void close_message(struct vhost_device *dev)
{
    for (unsigned i = 0; i < dev->in_nfds; i++)
        close(dev->in_fds[i]);
    dev->in_nfds = 0;
    dev->in_have = 0;
    dev->waits = false;
}

/* Nobody fills the log by breaking one connection after the other. */
static bool worth_a_line(uint64_t count)
{
    return (count & (count - 1)) == 0;
}

static void begin_closing(struct vhost_device *dev)
{
    close_message(dev);
    vhost_close(&dev->fd);
    vhost_close(&dev->backend_fd);
    dev->closing = true;
    dev->deadline = monotonic_ns() + VHOST_STOP_MS * NS_OF_MS;
    for (unsigned i = 0; i < VHOST_QUEUES_MAX; i++)
        dev->state[i].stopping = dev->state[i].running;
}

int vhost_break(struct vhost_device *dev, enum vhost_broken why, const char *fmt, ...)
{
    char sentence[160];
    va_list args;
    if (dev->fd < 0)
        return -EPROTO;
    dev->broken[why]++;
    if (why != VHOST_BROKEN_LEFT && worth_a_line(dev->broken[why])) {
        va_start(args, fmt);
        vsnprintf(sentence, sizeof(sentence), fmt, args);
        va_end(args);
        log_line("bulkhead-vhost: %s: connection to the VMM closed: %s; it may connect again%s", dev->name,
                 sentence, dev->broken[why] > 1 ? " (not for the first time)" : "");
    }
    begin_closing(dev);
    return -EPROTO;
}

static int break_ring(struct vhost_device *dev, unsigned q)
{
    const uint64_t one = 1;
    enum vhost_bad bad = dev->queue[q].bad;
    if (dev->fd < 0)
        return -EPROTO;
    dev->bad[bad]++;
    if (dev->state[q].err_fd >= 0 && write(dev->state[q].err_fd, &one, sizeof(one)) < 0)
        vhost_close(&dev->state[q].err_fd);
    return vhost_break(dev, VHOST_BROKEN_RING, "its guest broke queue %u: %s", q, vhost_bad_name(bad));
}

/* Some page was gone: what was read since is zeroes. */
static bool faulted(struct vhost_device *dev)
{
    if (vhost_memory_faulted(&dev->mem))
        vhost_break(dev, VHOST_BROKEN_FAULT, "a part of the guest's memory is gone");
    else if (atomic_load_explicit(&dev->inflight_faulted, memory_order_relaxed))
        vhost_break(dev, VHOST_BROKEN_INFLIGHT, "a part of the inflight region is gone");
    else
        return false;
    return true;
}

/* ----------------------------------------------------------- life of a queue */

static bool can_run(const struct vhost_device *dev, unsigned q)
{
    const struct vhost_queue_state *s = &dev->state[q];
    bool enabled = s->enabled || !(dev->features & VHOST_F_PROTOCOL);
    return dev->mem_set && s->has_size && s->has_addr && s->has_kick && enabled;
}

static int start_queue(struct vhost_device *dev, unsigned q)
{
    struct vhost_queue *queue = &dev->queue[q];
    struct vhost_queue_state *s = &dev->state[q];
    queue->packed = dev->features & VHOST_F_RING_PACKED;
    queue->event_idx = dev->features & VHOST_F_EVENT_IDX;
    queue->indirect = dev->features & VHOST_F_INDIRECT_DESC;
    queue->inflight = NULL;
    if (dev->inflight_at) {
        if (q >= dev->inflight_queues || vhost_inflight_open(&dev->inflight[q], dev->inflight_at,
                                                             dev->inflight_bytes, q, dev->inflight_size))
            return vhost_break(dev, VHOST_BROKEN_INFLIGHT, "the inflight region has no queue %u", q);
        queue->inflight = &dev->inflight[q];
    }
    int err = vhost_queue_start(queue, s->base);
    if (faulted(dev))
        return -EPROTO;
    if (err == -EINVAL)
        return vhost_break(dev, VHOST_BROKEN_INFLIGHT, "the inflight region of queue %u is not right", q);
    if (err)
        return break_ring(dev, q);
    if (dev->cls->start(dev->arg, q) < 0)
        return vhost_break(dev, VHOST_BROKEN_VALUE, "queue %u cannot be served", q);
    s->running = true;
    vhost_queue_call(queue); /* the incarnation before may have died before it rang */
    return 0;
}

int vhost_start_queues(struct vhost_device *dev)
{
    unsigned n = dev->cls->queues(dev->arg);
    for (unsigned q = 0; q < n && q < VHOST_QUEUES_MAX; q++) {
        int err = dev->state[q].running || !can_run(dev, q) ? 0 : start_queue(dev, q);
        if (err)
            return err;
    }
    return 0;
}

/* Asks what has to stop.  True: nothing is left of it. */
static bool stop_queues(struct vhost_device *dev)
{
    bool all = true, drop = false;
    for (unsigned q = 0; q < VHOST_QUEUES_MAX; q++) {
        struct vhost_queue_state *s = &dev->state[q];
        if (!s->stopping)
            continue;
        if (dev->cls->stop(dev->arg, q, drop)) {
            drop = drop || monotonic_ns() >= dev->deadline;
            if (!drop || dev->cls->stop(dev->arg, q, true)) {
                all = false;
                continue;
            }
        }
        s->base = vhost_queue_base(&dev->queue[q]);
        if (!dev->closing)
            vhost_queue_stopped(&dev->queue[q]);
        s->running = s->stopping = false;
    }
    return all;
}

/* ------------------------------------------------------------------ messages */

static int finish_message(struct vhost_device *dev)
{
    int err = vhost_request_do(dev);
    if (err)
        return err;
    close_message(dev);
    return vhost_start_queues(dev);
}

static int begin_message(struct vhost_device *dev)
{
    int err = vhost_request_check(dev);
    if (err)
        return err;
    uint32_t stops = vhost_request_stops(dev);
    bool wait = false;
    for (unsigned q = 0; q < VHOST_QUEUES_MAX; q++)
        if (stops >> q & 1 && dev->state[q].running)
            wait = dev->state[q].stopping = true;
    if (!wait)
        return finish_message(dev);
    dev->waits = true;
    dev->deadline = monotonic_ns() + VHOST_STOP_MS * NS_OF_MS;
    return stop_queues(dev) ? finish_message(dev) : 0;
}

/* Descriptors that came with some bytes.  False: more than belong to one message. */
static bool keep_fds(struct vhost_device *dev, struct msghdr *msg)
{
    bool all = !(msg->msg_flags & MSG_CTRUNC);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (dev->in_nfds < VHOST_MESSAGE_FDS) {
                dev->in_fds[dev->in_nfds++] = fd;
            } else {
                close(fd);
                all = false;
            }
        }
    }
    return all;
}

/* A header, then what it announces.  1: something came; 0: nothing is there now. */
static int read_some(struct vhost_device *dev)
{
    union {
        char bytes[CMSG_SPACE(2 * VHOST_MESSAGE_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    const size_t head = sizeof(dev->in.head);
    size_t want = dev->in_have < head ? head : head + dev->in.head.size;
    struct iovec iov = { (char *)&dev->in.head + dev->in_have, want - dev->in_have };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
                          .msg_controllen = sizeof(control.bytes) };
    ssize_t n = recvmsg(dev->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        return dev->in_have ? vhost_break(dev, VHOST_BROKEN_SIZE, "a message that was cut off")
                            : vhost_break(dev, VHOST_BROKEN_LEFT, "the VMM closed it");
    if (!keep_fds(dev, &msg))
        return vhost_break(dev, VHOST_BROKEN_FDS, "more descriptors than a message may have");
    dev->in_have += (size_t)n;
    if (dev->in_have == head) {
        enum vhost_broken why = vhost_message_header(&dev->in.head);
        if (why)
            return vhost_break(dev, why, "%s (%u) of %u bytes: %s", vhost_request_name(dev->in.head.request),
                               dev->in.head.request, dev->in.head.size, vhost_broken_name(why));
    }
    if (dev->in_have < head || dev->in_have < head + dev->in.head.size)
        return 1;
    int err = begin_message(dev);
    return err ? err : 1;
}

static void read_messages(struct vhost_device *dev)
{
    for (unsigned i = 0; i < 64 && dev->fd >= 0 && !dev->waits; i++)
        if (read_some(dev) <= 0)
            return;
}

static void take_connection(struct vhost_device *dev)
{
    int fd = accept4(dev->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
            dev->accept_after = monotonic_ns() + ACCEPT_RETRY_NS;
        return;
    }
    dev->fd = fd;
    dev->connections++;
    dev->protocol_features = 0;
    dev->mem_set = false;
}

/* What was waiting for queues to stop. */
static void go_on(struct vhost_device *dev)
{
    if (!dev->waits && !dev->closing)
        return;
    if (!stop_queues(dev))
        return;
    if (dev->waits) {
        finish_message(dev);
        return;
    }
    vhost_request_forget(dev);
    vhost_memory_clear(&dev->mem);
    dev->mem_set = false;
    dev->closing = false;
}

/* ------------------------------------------------------------------- sleeping */

enum { WAKE, LISTEN, VMM, FIRST_KICK };
#define POLL_MAX (FIRST_KICK + VHOST_QUEUES_MAX + VHOST_CLASS_FDS)

struct sleep {
    struct pollfd fd[POLL_MAX];
    uint8_t queue[VHOST_QUEUES_MAX]; /* whose kick it is                              */
    unsigned kicks, n;
    bool bare; /* a queue that nobody kicks                                         */
};

static void control_fds(const struct vhost_device *dev, struct sleep *s)
{
    bool listens = dev->fd < 0 && !dev->closing && dev->accept_after == 0;
    s->fd[WAKE] = (struct pollfd){ .fd = dev->wake_fd, .events = POLLIN };
    s->fd[LISTEN] = (struct pollfd){ .fd = listens ? dev->listen_fd : -1, .events = POLLIN };
    /* While a message waits, only that the VMM goes away is news. */
    s->fd[VMM] = (struct pollfd){ .fd = dev->fd, .events = dev->waits ? 0 : POLLIN };
    s->n = FIRST_KICK;
    s->kicks = 0;
    s->bare = false;
}

static void kick_fds(const struct vhost_device *dev, struct sleep *s)
{
    for (unsigned q = 0; q < VHOST_QUEUES_MAX; q++) {
        if (!dev->state[q].running)
            continue;
        if (dev->queue[q].kick_fd < 0) {
            s->bare = true;
            continue;
        }
        s->queue[s->kicks++] = (uint8_t)q;
        s->fd[s->n++] = (struct pollfd){ .fd = dev->queue[q].kick_fd, .events = POLLIN };
    }
}

static void drain(int fd)
{
    uint64_t count;
    if (read(fd, &count, sizeof(count)) < 0)
        return; /* someone else did: it was one wake-up */
}

static void after_poll(struct vhost_device *dev, const struct sleep *s)
{
    /* Kicks first: messages may close their descriptors. */
    for (unsigned i = 0; i < s->kicks; i++) {
        const struct pollfd *p = &s->fd[FIRST_KICK + i];
        if (p->revents & POLLIN)
            drain(p->fd);
        else if (p->revents) /* it will never kick again, and would wake us for ever */
            vhost_close(&dev->queue[s->queue[i]].kick_fd);
    }
    if (s->fd[WAKE].revents & POLLIN)
        drain(dev->wake_fd);
    if (atomic_exchange(&dev->config_changed, false))
        vhost_device_config_changed(dev);
    if (s->fd[LISTEN].revents)
        take_connection(dev);
    if (dev->waits && s->fd[VMM].revents & (POLLHUP | POLLERR))
        vhost_break(dev, VHOST_BROKEN_LEFT, "the VMM closed it");
    else if (s->fd[VMM].revents && dev->fd >= 0)
        read_messages(dev);
}

/* A look at the sockets without sleeping. */
static void look(struct vhost_device *dev)
{
    struct sleep s;
    static const struct timespec none = { 0, 0 };
    dev->control_turns = 0;
    if (dev->accept_after && monotonic_ns() >= dev->accept_after)
        dev->accept_after = 0;
    control_fds(dev, &s);
    if (ppoll(s.fd, s.n, &none, NULL) > 0)
        after_poll(dev, &s);
    else if (atomic_exchange(&dev->config_changed, false))
        vhost_device_config_changed(dev);
}

/* Moves what there is: > 0, 0, or -ENOTCONN. */
static int move(struct vhost_device *dev)
{
    int moved = dev->cls->work(dev->arg);
    if (moved == -ENOTCONN)
        return moved;
    if (dev->fd >= 0 && !faulted(dev) && moved < 0) {
        unsigned q = 0;
        while (q < VHOST_QUEUES_MAX && !(dev->state[q].running && dev->queue[q].bad))
            q++;
        if (q < VHOST_QUEUES_MAX)
            break_ring(dev, q);
        else
            vhost_break(dev, VHOST_BROKEN_RING, "its guest broke a queue");
    }
    if (dev->waits || dev->closing) {
        bool before = dev->waits;
        go_on(dev);
        if (before != dev->waits)
            return 1;
    }
    return moved > 0;
}

static int spin(struct vhost_device *dev)
{
    int moved = 0;
    if (dev->spin_credit == 0 && ++dev->spin_skipped < SPIN_PROBE_EVERY)
        return 0;
    dev->spin_skipped = 0;
    uint64_t until = monotonic_ns() + SPIN_NS;
    do {
        for (unsigned i = 0; i < SPIN_TURNS && moved == 0; i++) {
            relax();
            moved = move(dev);
        }
    } while (moved == 0 && monotonic_ns() < until);
    if (moved > 0 && dev->spin_credit < SPIN_CREDIT_MAX)
        dev->spin_credit++;
    else if (moved == 0 && dev->spin_credit > 0)
        dev->spin_credit--;
    return moved;
}

/* Sleeps until there is news.  0, or what the class's idle said when that is bad. */
static int sleep_now(struct vhost_device *dev)
{
    struct sleep s;
    struct timespec limit = { 0, 0 };
    unsigned n = 0;
    control_fds(dev, &s);
    kick_fds(dev, &s);
    int busy = dev->cls->idle(dev->arg, s.fd + s.n, &n);
    if (busy == -ENOTCONN)
        return busy;
    s.n += n < VHOST_CLASS_FDS ? n : VHOST_CLASS_FDS;
    if (dev->waits || dev->closing)
        limit.tv_nsec = (long)STOP_SLEEP_NS;
    if (s.bare)
        limit.tv_nsec = (long)BARE_SLEEP_NS;
    if (dev->accept_after && limit.tv_nsec == 0)
        limit.tv_sec = 1;
    bool bounded = busy > 0 || limit.tv_nsec || limit.tv_sec;
    if (busy > 0)
        limit = (struct timespec){ 0, 0 };
    if (dev->accept_after && monotonic_ns() >= dev->accept_after)
        dev->accept_after = 0;
    dev->control_turns = 0;
    if (ppoll(s.fd, s.n, bounded ? &limit : NULL, NULL) > 0)
        after_poll(dev, &s);
    return 0;
}

/* ---------------------------------------------------------------------- all */

int vhost_device_turn(struct vhost_device *dev)
{
    uint64_t connections = dev->connections;
    int fd = dev->fd;
    look(dev);
    int moved = move(dev);
    return moved ? moved : fd != dev->fd || connections != dev->connections;
}

/* The connection goes, and all that is held of the guest. */
static int leave(struct vhost_device *dev)
{
    int err = 0;
    if (dev->fd >= 0)
        begin_closing(dev);
    while (dev->closing && err >= 0) {
        err = move(dev);
        if (err == 0 && dev->closing)
            err = sleep_now(dev);
    }
    return err < 0 ? err : 0;
}

int vhost_device_run(struct vhost_device *dev)
{
    while (!atomic_load_explicit(&dev->stop_asked, memory_order_relaxed)) {
        int moved = move(dev);
        if (moved == 0)
            moved = spin(dev);
        if (moved == 0)
            moved = sleep_now(dev);
        else if (moved > 0 && ++dev->control_turns >= CONTROL_EVERY)
            look(dev);
        if (moved < 0)
            return moved;
    }
    return leave(dev);
}

/* Sealed, so that the VMM cannot cut it off under us. */
static int make_inflight(void)
{
    int fd = memfd_create("bulkhead-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)vhost_inflight_bytes(VHOST_QUEUES_MAX, VHOST_QUEUE_SIZE_MAX)) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

int vhost_device_prepare(struct vhost_device *dev, bool inflight)
{
    memset(dev, 0, sizeof(*dev));
    dev->inflight_fd = inflight ? make_inflight() : -1;
    if (inflight && dev->inflight_fd < 0)
        return dev->inflight_fd;
    int err = signal(SIGPIPE, SIG_IGN) == SIG_ERR ? -errno : guard_install();
    dev->prepared = err == 0;
    if (err)
        vhost_close(&dev->inflight_fd);
    return err;
}

int vhost_device_init(struct vhost_device *dev, const char *name, const struct vhost_class *cls, void *arg,
                      int listen_fd, int wake_fd)
{
    if (!dev->prepared) {
        int err = vhost_device_prepare(dev, cls->inflight);
        if (err)
            return err;
    }
    int inflight_fd = dev->inflight_fd;
    memset(dev, 0, sizeof(*dev));
    dev->prepared = true;
    dev->inflight_fd = inflight_fd;
    dev->name = name;
    dev->cls = cls;
    dev->arg = arg;
    dev->listen_fd = listen_fd;
    dev->wake_fd = wake_fd;
    dev->fd = dev->backend_fd = -1;
    for (unsigned i = 0; i < VHOST_QUEUES_MAX; i++) {
        dev->queue[i] = (struct vhost_queue){ .mem = &dev->mem, .kick_fd = -1, .call_fd = -1 };
        dev->state[i].err_fd = -1;
    }
    return 0;
}

void vhost_device_end(struct vhost_device *dev)
{
    close_message(dev);
    vhost_request_forget(dev);
    vhost_memory_clear(&dev->mem);
    vhost_close(&dev->fd);
    vhost_close(&dev->backend_fd);
}

void vhost_device_unprepare(struct vhost_device *dev)
{
    vhost_close(&dev->inflight_fd);
    dev->prepared = false;
}
