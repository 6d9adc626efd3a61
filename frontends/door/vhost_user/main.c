/* SPDX-License-Identifier: MIT */
/*
 * main.c - a guest behind vhost-user sockets: a VMM's virtio disks and NICs are served
 * by driver domains.
 *
 * The core starts this program as the guest's process, with no path, no capability and
 * no network.  The toolstack says over a channel which devices there are, and sends a
 * listening socket for each (channel.h); more may come and go as long as it lives.
 *
 * Each device has a thread, from open to close.  All that there can be are made before
 * the seal, and wait: what is sealed makes no thread.  main gives up the rest on the way;
 * each step that fails ends the process.
 */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../../../hyp-shim/local/jail.h"
#include "../../../hyp-shim/log.h"
#include "../../guest.h"
#include "channel.h"
#include "device.h"
#include "disk.h"
#include "nic.h"

#define PROGRAM     "bulkhead-vhost"
#define SLOTS       (DOOR_DISKS_MAX + DOOR_NICS_MAX)
#define STACK_BYTES (256 * 1024)

/* Main takes a slot and asks for its end; its thread gives it back. */
enum use { FREE, OPEN, CLOSING };

/* A place for a device: the first ones are for disks. */
struct slot {
    sem_t go;              /* its thread: open; and, opened before the seal: serve         */
    _Atomic(enum use) use;
    bool waits;            /* main: opened before the seal                                 */
    struct door_order order; /* that opened it                                             */
    int wake_fd;
    struct vhost_device device;
};

static struct slot slots[SLOTS];
static struct disk disks[DOOR_DISKS_MAX];
static struct nic nics[DOOR_NICS_MAX];
static struct guest *guest;
static int end_fd = -1;
static atomic_bool sealed, lost; /* lost: a device could not be opened, or cannot go on */
static sem_t started, opened, ended;

static _Noreturn void fail(const char *what, const char *why)
{
    log_line(PROGRAM ": %s: %s; this guest ends", what, why);
    exit(1);
}

static void must(int err, const char *what)
{
    if (err < 0)
        fail(what, strerrordesc_np(-err));
}

static void wait_for(sem_t *times, unsigned n)
{
    while (n > 0)
        n -= sem_wait(times) == 0;
}

static void ring(int fd)
{
    static const uint64_t one = 1;
    if (write(fd, &one, sizeof(one)) < 0)
        return; /* full: it is readable already */
}

/* ------------------------------------------------------------------- news */

static void disk_told(void *name, enum blkfront_news news)
{
    if (news == BLKFRONT_UP)
        log_line(PROGRAM ": %s: connected to its driver domain again", (const char *)name);
    else if (news == BLKFRONT_DOWN)
        log_line(PROGRAM ": %s: lost its driver domain; requests wait until it is back", (const char *)name);
}

static void nic_told(void *name, enum netfront_news news)
{
    if (news == NETFRONT_UP)
        log_line(PROGRAM ": %s: connected to its driver domain again", (const char *)name);
    else if (news == NETFRONT_DOWN)
        log_line(PROGRAM ": %s: lost its driver domain; packets wait in the guest's ring until it is back",
                 (const char *)name);
}

/* ------------------------------------------------------- a device's thread */

static unsigned number_of(const struct slot *s)
{
    return (unsigned)(s - slots);
}

static bool is_disk(const struct slot *s)
{
    return number_of(s) < DOOR_DISKS_MAX;
}

static int open_device(struct slot *s, char *why, size_t why_bytes)
{
    struct disk *disk = &disks[number_of(s) % DOOR_DISKS_MAX];
    struct nic *nic = &nics[number_of(s) % DOOR_NICS_MAX];
    int err = is_disk(s) ? disk_open(disk, s->order.dev, disk_told, s->order.dev, why, why_bytes)
                         : nic_open(nic, s->order.dev, nic_told, s->order.dev, why, why_bytes);
    if (err)
        return err;
    if (is_disk(s))
        disk_serve(disk, &s->device);
    else
        nic_serve(nic, &s->device);
    return 0;
}

static void close_device(struct slot *s)
{
    if (is_disk(s))
        disk_close(&disks[number_of(s)]);
    else
        nic_close(&nics[number_of(s) - DOOR_DISKS_MAX]);
}

/* Gives the slot back, then answers: whoever hears that may open the device anew at once. */
static void leave(struct slot *s, int err, const char *why)
{
    struct door_order order = s->order;
    close(s->device.listen_fd);
    s->device.listen_fd = -1;
    enum use was = atomic_exchange(&s->use, FREE);
    if (err)
        channel_answer(DOOR_CHANNEL_FD, &order, err, why);
    order.op = DOOR_CLOSE;
    if (was == CLOSING)
        channel_answer(DOOR_CHANNEL_FD, &order, 0, "");
    sem_post(&ended);
}

static void serve(struct slot *s)
{
    int err = vhost_device_run(&s->device);
    if (err) {
        log_line(PROGRAM ": %s: %s; this guest ends", s->order.dev,
                 err == -ENOTCONN ? "the hypervisor is gone" : strerrordesc_np(-err));
        atomic_store(&lost, true);
        ring(end_fd);
    }
    close_device(s);
}

static void live(struct slot *s)
{
    char why[DOOR_WHY_BYTES] = "";
    bool early = !atomic_load(&sealed);
    int err = open_device(s, why, sizeof(why));
    if (err)
        log_line(PROGRAM ": %s", why);
    if (!err || early)
        channel_answer(DOOR_CHANNEL_FD, &s->order, err, why);
    if (early) {
        if (err)
            atomic_store(&lost, true);
        sem_post(&opened);
        wait_for(&s->go, 1);
    }
    if (!err)
        serve(s);
    leave(s, err, why);
}

static _Noreturn void *run_thread(void *slot)
{
    struct slot *s = slot;
    sem_post(&started);
    for (;;) {
        wait_for(&s->go, 1);
        live(s);
    }
}

/* What a device needs of the kernel that is not on the door's list. */
static int make_slot(struct slot *s)
{
    unsigned i = number_of(s);
    s->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->wake_fd < 0 || sem_init(&s->go, 0, 0))
        return -errno;
    return vhost_device_init(&s->device, s->order.dev, is_disk(s) ? &disk_class : &nic_class,
                             is_disk(s) ? (void *)&disks[i] : &nics[i - DOOR_DISKS_MAX], -1, s->wake_fd);
}

static void start_threads(void)
{
    pthread_attr_t attr;
    pthread_t thread;
    must(-pthread_attr_init(&attr), "starting threads");
    must(-pthread_attr_setstacksize(&attr, STACK_BYTES), "starting threads");
    for (struct slot *s = slots; s < slots + SLOTS; s++) {
        must(make_slot(s), "making room for devices");
        must(-pthread_create(&thread, &attr, run_thread, s), "starting threads");
    }
    pthread_attr_destroy(&attr);
    wait_for(&started, SLOTS);
}

/* ------------------------------------------------------------------ orders */

static struct slot *find(const char *dev)
{
    for (struct slot *s = slots; s < slots + SLOTS; s++)
        if (atomic_load(&s->use) != FREE && strcmp(s->order.dev, dev) == 0)
            return s;
    return NULL;
}

static struct slot *find_free(uint8_t cls)
{
    struct slot *s = cls == DOOR_BLK ? slots : slots + DOOR_DISKS_MAX;
    struct slot *end = cls == DOOR_BLK ? slots + DOOR_DISKS_MAX : slots + SLOTS;
    for (; s < end; s++)
        if (atomic_load(&s->use) == FREE)
            return s;
    return NULL;
}

static void take_open(const struct door_order *order, int fd)
{
    struct slot *s = find_free(order->cls);
    if (!s || find(order->dev)) {
        close(fd);
        channel_answer(DOOR_CHANNEL_FD, order, s ? -EEXIST : -ENOSPC,
                       s ? "the device is open already, or still being closed"
                         : "the guest has too many devices of that kind");
        return;
    }
    uint64_t sink;
    if (read(s->wake_fd, &sink, sizeof(sink)) < 0)
        sink = 0; /* nobody woke the one before */
    s->order = *order;
    s->waits = !atomic_load(&sealed);
    s->device.listen_fd = fd;
    atomic_store(&s->device.stop_asked, false);
    atomic_store(&s->use, OPEN);
    sem_post(&s->go);
}

static void ask_to_stop(struct slot *s)
{
    atomic_store(&s->device.stop_asked, true);
    ring(s->wake_fd);
}

static void take_close(const struct door_order *order)
{
    struct slot *s = find(order->dev);
    enum use open = OPEN;
    if (!s || !atomic_compare_exchange_strong(&s->use, &open, CLOSING)) {
        channel_answer(DOOR_CHANNEL_FD, order, -ENOENT, "the device is not open");
        return;
    }
    ask_to_stop(s);
}

/* Takes orders until DOOR_READY, or (`ready` was said) until the guest ends. */
static enum guest_end follow(bool ready)
{
    struct pollfd fds[] = { { .fd = end_fd, .events = POLLIN }, { .fd = DOOR_CHANNEL_FD, .events = POLLIN } };
    for (;;) {
        struct door_order order;
        int fd, got;
        while ((got = channel_receive(DOOR_CHANNEL_FD, &order, &fd)) != 0 && got != -ENOTCONN) {
            if (got < 0)
                log_line(PROGRAM ": the toolstack sent what is no order; it is dropped");
            else if (order.op == DOOR_OPEN)
                take_open(&order, fd);
            else if (order.op == DOOR_CLOSE)
                take_close(&order);
            else if (!ready)
                return GUEST_STAYS;
        }
        if (got == -ENOTCONN)
            fds[1].fd = -1; /* nobody will ever send one */
        enum guest_end end = atomic_load(&lost) && ready ? GUEST_GONE : guest_end(guest);
        if (end != GUEST_STAYS)
            return end;
        poll(fds, 2, -1);
    }
}

/* ---------------------------------------------------------------- main */

static unsigned in_use(void)
{
    unsigned n = 0;
    for (const struct slot *s = slots; s < slots + SLOTS; s++)
        n += atomic_load(&s->use) != FREE;
    return n;
}

/* Everything that was asked for before the seal is open. */
static void await_opened(void)
{
    wait_for(&opened, in_use());
    if (atomic_load(&lost))
        fail("starting", "not every device could be opened");
}

static void serve_early(void)
{
    atomic_store(&sealed, true);
    for (struct slot *s = slots; s < slots + SLOTS; s++)
        if (s->waits)
            sem_post(&s->go);
}

int main(void)
{
    const char *step = "";

    must(jail_confine(&step), step);
    /* One heap, which never shrinks: for more than one malloc would open paths. */
    if (!mallopt(M_ARENA_MAX, 1) || !mallopt(M_TRIM_THRESHOLD, INT_MAX))
        fail("limiting the heap", "malloc refuses");
    must(sem_init(&started, 0, 0) | sem_init(&opened, 0, 0) | sem_init(&ended, 0, 0), "making a way to wait");
    must(guest_get(&guest, NULL, true), "becoming the guest");
    end_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    must(end_fd < 0 ? -errno : 0, "making a way to end");
    guest_tell_end(guest, end_fd);
    start_threads();

    enum guest_end end = follow(false);
    if (end == GUEST_STOP)
        return 0; /* nobody was served */
    if (end == GUEST_STAYS) {
        await_opened();
        must(jail_seal(HYP_CLASS_VHOST, &step), step);
        serve_early();
        must(guest_ready(guest), "telling that it is ready");
        end = follow(true);
    }
    if (end == GUEST_GONE)
        fail("serving", "the hypervisor is gone");
    for (struct slot *s = slots; s < slots + SLOTS; s++)
        ask_to_stop(s);
    while (in_use() > 0)
        wait_for(&ended, 1);
    return 0;
}
