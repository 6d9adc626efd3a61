/* SPDX-License-Identifier: MIT */
/*
 * device.h - a disk or a NIC as the guest's control thread sees it.
 *
 * Each class of devices (disk.h, nic.h) has a struct device as the first member
 * of what stands behind its opaque handle, and a const table of what it does in
 * its own way.  Opening, the phases (handshake.h), reconnecting and closing are
 * the same for all and know nothing else of a class.
 */
#ifndef BULKHEAD_DEVICE_H
#define BULKHEAD_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../hyp-shim/xenbus.h"
#include "guest.h"
#include "queue.h"

#define DEVICE_NAME_MAX   32
#define DEVICE_WHY_MAX    256
#define DEVICE_QUEUES_MAX 8u /* BLK_MAX_QUEUES, NET_QUEUES_MAX */

enum device_phase {
    DEVICE_SEARCH,  /* we Initialising: waits for a backend in InitWait          */
    DEVICE_OFFERED, /* we Initialised: waits for Connected                       */
    DEVICE_LIVE,    /* both Connected                                            */
    DEVICE_DRAIN,   /* waits for the queues' owners to let go                    */
    DEVICE_RESET,   /* we Closing: waits for a backend that lives to follow      */
    DEVICE_CLOSING, /* the same, for good, and until the pool can be ended       */
    DEVICE_ORPHAN,  /* handle is gone, the backend still holds the pool          */
    DEVICE_LOST,    /* will never connect again                                  */
    DEVICE_CLOSED,  /* holds nothing any more                                    */
};

/* As enum blkfront_news, enum netfront_news. */
enum device_news { DEVICE_UP, DEVICE_DOWN, DEVICE_STOP, DEVICE_GONE };

struct device;

/* All but notify, finish and drop: by the control thread, with the guest's lock. */
struct device_class {
    const char *noun;      /* "disk"                                             */
    const char *directory; /* of the store: "vbd"                                */
    size_t bytes;          /* of the struct that begins with a struct device     */

    /* The backend is in InitWait.  Settles nqueues, nchannels and pool_pages from
     * its features, the first time for the life of the handle; later ones must
     * fit.  0 or an errno, with trouble told. */
    int (*accept_offer)(struct device *d);
    /* The backend is Connected: what it says only now.  NULL: nothing. */
    int (*accept_device)(struct device *d);
    /* Queue i in d->pool; sets d->queue[i]. 0 or an errno. */
    int (*make_queue)(struct device *d, unsigned i);
    void (*free_queue)(struct device *d, unsigned i);
    /* Its rings anew, over the channels, which are the queue's on success. */
    int (*attach_queue)(struct device *d, unsigned i, struct hyp_evtchn *const *channels);
    /* The keys of the device, and of queue i, which are in dir. */
    int (*publish)(struct device *d, store_txn t);
    int (*publish_queue)(struct device *d, store_txn t, const char *dir, unsigned i);

    /* By the control thread without the lock: may call the user. */
    void (*notify)(const struct device *d, enum device_news news);
    /* By the thread that closes, which owns all queues: waits for work in flight
     * until `limit` (guest_now()); then, with the queue DOWN, drops what is left. */
    void (*finish)(struct device *d, unsigned i, uint64_t limit);
    void (*drop)(struct device *d, unsigned i);
};

struct device {
    struct device *next;         /* of the guest's devices                       */
    const struct device_class *cls;
    struct guest *guest;
    unsigned devid;
    char name[DEVICE_NAME_MAX];

    enum device_phase phase;
    bool opened;                 /* was connected once: pool, queues, terms final */
    bool closing;
    bool abandoned;              /* the handle is gone: free it once CLOSED      */
    bool backend_dead;           /* the domain bus.peer_domid                    */
    bool stop_told;              /* news DEVICE_STOP                             */
    bool hung_up;                /* a channel of the connection is closed        */
    uint8_t news;                /* bits of enum device_news to tell             */
    int error;                   /* why it cannot be opened                      */
    char why[DEVICE_WHY_MAX];    /* the last trouble, in words                   */
    uint64_t retry_at;           /* ms; SEARCH waits for it; limit of CLOSING    */
    uint64_t live_since;
    unsigned backoff_ms;
    uint64_t reconnects;         /* as queue_count()                             */

    struct xenbus_device bus;    /* peer[0] == 0: no backend known yet           */
    struct hyp_pool *pool;
    domid_t grantee;             /* of the pool                                  */
    size_t pool_pages;           /* of all queues                                */
    unsigned nqueues;
    unsigned nchannels;          /* of each queue                                */
    struct queue *queue[DEVICE_QUEUES_MAX];
};

/* One sentence for whoever asked. */
struct words {
    char *text;
    size_t bytes;
};
int words_say(struct words w, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Of netfront.h and blkfront.h, for any class. */
int device_list(const struct device_class *cls, const char *attach, char *names, size_t bytes,
                struct words w);

/*
 * Makes a device of the guest and waits for its first connection.  `init` is
 * called with the new, zeroed struct, which is of cls->bytes, and takes over the
 * options.
 */
struct device_options {
    const char *attach, *device;
    int timeout_ms; /* 0: 10,000 */
    void (*init)(struct device *d, const void *arg);
    const void *arg;
};
int device_open(const struct device_class *cls, const struct device_options *opt, struct words w,
                struct device **out);
/* finish_ms: how long work in flight is waited for; only for one that was open. */
void device_close(struct device *d, unsigned finish_ms);

#endif
