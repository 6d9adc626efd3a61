/* SPDX-License-Identifier: MIT */
/*
 * device.h - one device of a guest behind a vhost-user socket: who connects, what
 * it says, when rings run.
 *
 * The VMM connects to us; one connection at a time, and the next one may come at
 * any time (the VMM reconnects by itself).  A message that cannot be right breaks
 * the connection, and nothing else: said once in the log, counted, and the next
 * connection begins anew.  The class below (disk or NIC) goes on serving its driver
 * domain's rings meanwhile.  What a VMM can do beyond that hits its own device alone:
 * memory or an eventfd that answers late holds up this device's thread, and who hands us
 * the other end of its own connection keeps that open until the door is closed.
 *
 * One thread serves a device, vhost_device_run(): messages, rings, the frontend.
 * System calls while it runs: ppoll, read, write, recvmsg, sendmsg, accept4, mmap,
 * munmap, close, clock_gettime (where there is no vDSO), and rt_sigreturn when a page
 * of the guest's memory is gone.  Nothing is allocated.
 *
 * Agreed are: split and packed rings, indirect descriptors, event indices, any layout;
 * MQ, REPLY_ACK, CONFIG and BACKEND_REQ (where the class has a configuration), NET_MTU,
 * INFLIGHT_SHMFD (where the class wants it), CONFIGURE_MEM_SLOTS, RESET_DEVICE.  Not:
 * STATUS (no front-end needs it), logging of what is written (VHOST_F_LOG_ALL: a guest
 * on this door cannot be migrated live), postcopy, IOTLB.
 *
 *   message.c  is one message right by itself
 *   request.c  what each request does
 *   device.c   the connection, the life of the rings, the loop
 *
 * Source: the vhost-user specification (QEMU docs/interop/vhost-user.rst).
 */
#ifndef BULKHEAD_VHOST_DEVICE_H
#define BULKHEAD_VHOST_DEVICE_H

#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "inflight.h"
#include "memory.h"
#include "message.h"
#include "queue.h"

#define VHOST_QUEUES_MAX VHOST_QUEUE_INDEX_MAX /* a NIC has two for each pair             */
#define VHOST_CLASS_FDS  16u  /* descriptors that a class may wait for                  */

struct vhost_device;

/*
 * What a disk and a NIC do differently.  All are called by the device's thread.
 *
 * A queue is started when it has a size, addresses, a kick descriptor (or was told that there
 * is none: then it is looked at all the time) and, where there are protocol features, is
 * enabled.  What the incarnation before left comes first out of vhost_queue_next().  `stop`:
 * nothing of it may touch guest memory once it said 0; -EAGAIN: it has work in flight, takes
 * no more, and is asked again, for VHOST_STOP_MS at most, and then it must drop what it has
 * (drop = true).
 */
#define VHOST_STOP_MS 5000
struct vhost_class {
    const char *word;            /* "disk", "NIC"                                       */
    bool inflight;               /* offer INFLIGHT_SHMFD                                */
    bool mq;                     /* GET_QUEUE_NUM counts pairs: a NIC                    */
    unsigned (*queues)(void *arg); /* all of them; a NIC has two for each pair           */
    uint64_t (*features)(void *arg); /* virtio feature bits beside those of rings        */
    /* The virtio device's configuration space; bytes of it, 0: no such thing. */
    unsigned (*config)(void *arg, uint8_t out[VHOST_CONFIG_MAX]);
    int (*config_set)(void *arg, uint32_t offset, const uint8_t *bytes, uint32_t n); /* may be NULL */
    int (*mtu)(void *arg, uint64_t mtu); /* NET_SET_MTU, < 0: refused; NULL: NET_MTU is not offered */
    /* Features as agreed, before any queue starts. */
    void (*agreed)(void *arg, uint64_t features);
    int (*start)(void *arg, unsigned q);
    int (*stop)(void *arg, unsigned q, bool drop);
    /* Moves what can be moved, with or without a VMM. > 0 something was; 0 nothing; -EPROTO: the
     * guest broke its ring (->bad of the queue says how, VHOST_BAD_CLASS set by the class), the
     * connection is to be broken; -ENOTCONN: the hypervisor is gone. */
    int (*work)(void *arg);
    /* About to sleep: vhost_queue_listen() where something that comes is work. > 0: do not sleep.
     * It may name descriptors to wake for: *n of them, at most
     * VHOST_CLASS_FDS, n is 0 before. work() is for vhost_queue_quiet(). */
    int (*idle)(void *arg, struct pollfd *fds, unsigned *n);
};

/* What of a queue the VMM has said. */
struct vhost_queue_state {
    bool has_size, has_addr, has_kick; /* kick: a descriptor, or that there is none      */
    bool enabled, running, stopping;
    uint32_t base;
    int err_fd; /* -1: none                                                              */
};

/* The class uses `queue` and `features`; anyone may read the counters; the rest is
 * device.c's and request.c's. */
struct vhost_device {
    bool prepared;
    const char *name; /* "vda"                                                            */
    const struct vhost_class *cls;
    void *arg;        /* the class's own                                                  */
    int listen_fd;    /* -1: none                                                         */
    int wake_fd;      /* eventfd: `stop_asked` changed                                    */
    atomic_bool stop_asked;      /* set by another thread, which then writes to wake_fd   */
    atomic_bool config_changed;  /* the same                                              */

    int fd;                      /* of the connection; -1: none                           */
    uint64_t features;           /* as agreed                                             */
    uint64_t protocol_features;
    bool mem_set;
    struct vhost_memory mem;
    struct vhost_queue queue[VHOST_QUEUES_MAX];         /* the class takes and answers    */
    struct vhost_queue_state state[VHOST_QUEUES_MAX];
    struct vhost_inflight_queue inflight[VHOST_QUEUES_MAX];
    int inflight_fd;             /* memory for GET_INFLIGHT_FD, made ahead; -1            */
    void *inflight_at;           /* the region in use; NULL: none                         */
    size_t inflight_bytes, inflight_mapped;
    unsigned inflight_queues, inflight_size;
    int inflight_guard;
    atomic_int inflight_faulted;
    int backend_fd;              /* SET_BACKEND_REQ_FD; -1                                */

    struct vhost_message in;     /* as far as it has come                                 */
    size_t in_have;
    int in_fds[VHOST_MESSAGE_FDS];
    unsigned in_nfds;
    bool waits;                  /* the message is whole, and queues have to stop first    */
    bool closing;                /* the connection is over, and queues have to stop       */
    uint64_t deadline;           /* of what is asked to stop, ns                          */
    uint64_t accept_after;       /* no connection could be taken, ns                      */
    int spin_credit;
    unsigned spin_skipped, control_turns;

    uint64_t connections, broken[VHOST_BROKENS], bad[VHOST_BADS]; /* counters              */
};

/*
 * Before the process is sealed, for a device that is all zero: opens the memory for
 * GET_INFLIGHT_FD where that is wanted (memfd_create, ftruncate, fcntl), installs the guard
 * against pages that are gone (sigaction) and ignores SIGPIPE.  It stays for every device that
 * is put there, one after the other.  Negative errno.
 */
int vhost_device_prepare(struct vhost_device *dev, bool inflight);
/*
 * A device in a place that is prepared (then nothing is opened, no system call is made), or all
 * zero (then that is done first).  Everything that is named is the caller's and lives longer.
 * Negative errno.
 */
int vhost_device_init(struct vhost_device *dev, const char *name, const struct vhost_class *cls, void *arg,
                      int listen_fd, int wake_fd);
/*
 * Serves until stop_asked: 0; then nothing of the guest is held any more.  -ENOTCONN: the
 * hypervisor is gone.  Spins for a moment before it sleeps, and only while that pays.
 */
int vhost_device_run(struct vhost_device *dev);
/* One turn without sleeping, for tests and fuzzers: > 0 something happened. */
int vhost_device_turn(struct vhost_device *dev);
/* The configuration changed (a disk grew): the guest is told where it asked for that.  By the
 * device's thread; another one sets config_changed and writes to wake_fd. */
void vhost_device_config_changed(struct vhost_device *dev);
/* Closes and unmaps all that came over the socket, after the last run or turn; the place can be
 * used again. */
void vhost_device_end(struct vhost_device *dev);
/* Undoes prepare, for tests. */
void vhost_device_unprepare(struct vhost_device *dev);

#endif
