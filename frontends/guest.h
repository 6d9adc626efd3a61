/* SPDX-License-Identifier: MIT */
/*
 * guest.h - the domain that this process is, and the thread that speaks for it.
 *
 * All devices of a guest share one hypervisor handle, one store connection and
 * one control thread.  The thread sleeps in ppoll until the store, the
 * hypervisor, a queue or a timer has news, then lets every device take its next
 * steps (handshake.h).  `lock` guards everything here and in the devices but what
 * queue.h gives to a queue's owner; the data path never takes it.
 */
#ifndef BULKHEAD_GUEST_H
#define BULKHEAD_GUEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "../hyp-shim/hyp.h"
#include "../hyp-shim/store.h"

#define GUEST_DEVICES_MAX 64

struct device;

struct guest {
    struct guest *next;
    char *attach;         /* NULL: this process was started as the domain        */
    unsigned refs;        /* devices; guests_lock of guest.c                       */
    struct hyp *hyp;
    struct store *store;
    int wake_fd;          /* eventfd: look at the devices again                    */
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* a device took a step                              */
    struct device *devices;
    unsigned ndevices;
    bool ending;          /* the thread shall return                             */
    bool stop_asked;      /* HYP_EV_STOP came                                    */
    bool gone;            /* the hypervisor or the store is                      */
    bool ready;           /* hyp_ready() was called                              */
    int end_fd;           /* eventfd of guest_tell_end(); not ours; -1           */
    bool end_told;
};

/*
 * The guest at `attach`: the one that this process is already, or a new one.
 * With `keep` it gets a reference; without, it stays until its last one goes.
 */
int guest_get(struct guest **out, const char *attach, bool keep);
/* Gives a reference back; the last one ends the guest. */
void guest_put(struct guest *g);
/* Makes a guest of an open handle and store, which it then owns, in refusal too.
 * For guest_get() and for tests. */
int guest_new(struct guest **out, const char *attach, struct hyp *hyp, struct store *store);

/*
 * For a program that may be a guest without devices.  What ends it; fd, an eventfd, is
 * readable from then on.  And: it serves what there is, the toolstack may know.
 */
enum guest_end { GUEST_STAYS, GUEST_STOP, GUEST_GONE };
void guest_tell_end(struct guest *g, int fd);
enum guest_end guest_end(struct guest *g);
int guest_ready(struct guest *g);

/* Makes the control thread look at every device. */
void guest_wake(struct guest *g);

#endif
