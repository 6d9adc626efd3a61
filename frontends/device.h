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

#include "guest.h"
#include "link.h"
#include "queue.h"
#include "report.h"
#include "twin.h"

#define DEVICE_NAME_MAX 32
#define DEVICE_WHY_MAX  256

enum device_phase {
    DEVICE_SEARCH,  /* we Initialising: waits for a backend in InitWait          */
    DEVICE_OFFERED, /* we Initialised: waits for Connected                       */
    DEVICE_LIVE,    /* in use; both Connected, or the backend awaits its device  */
    DEVICE_QUIET,   /* the backend Closing in order: what is in flight is finished */
    DEVICE_DRAIN,   /* waits for the queues' owners to let go                    */
    DEVICE_RESET,   /* we Closing: waits for a backend that lives to follow      */
    DEVICE_CLOSING, /* the same, for good, and until the pool can be ended       */
    DEVICE_ORPHAN,  /* handle is gone, the backend still holds the pool          */
    DEVICE_LOST,    /* will never connect again                                  */
    DEVICE_CLOSED,  /* holds nothing any more                                    */
};

/* As enum blkfront_news, enum netfront_news. */
enum device_news { DEVICE_UP, DEVICE_DOWN, DEVICE_STOP, DEVICE_GONE };

/* All but notify, finish and drop: by the control thread, with the guest's lock. */
struct device_class {
    const char *noun;      /* "disk"                                             */
    const char *directory; /* of the store: "vbd"                                */
    size_t bytes;          /* of the struct that begins with a struct device     */

    /* The backend of a link is in InitWait.  Settles nqueues, pool_pages and the
     * link's nchannels from its features, the first time for the life of the handle;
     * later ones must fit.  0 or an errno, with trouble told. */
    int (*accept_offer)(struct link *l);
    /* The live one is Connected: what it says only now.  NULL: nothing. */
    int (*accept_device)(struct link *l);
    /* Queue i in d->pool; sets d->queue[i]. 0 or an errno. */
    int (*make_queue)(struct device *d, unsigned i);
    void (*free_queue)(struct device *d, unsigned i);
    /* Its rings anew, over the link's channels, which are the queue's on success. */
    int (*attach_queue)(struct device *d, unsigned i, struct hyp_evtchn *const *channels, unsigned n);
    /* The live backend has its device: it is behind the fence.  NULL: no matter. */
    void (*fenced)(struct device *d, unsigned i);
    /* Must nothing be on a ring before that?  NULL: it may. */
    bool (*await_fence)(const struct device *d);
    /* The keys of the device, and of queue i, which are in dir, with its channels. */
    int (*publish)(struct link *l, store_txn t);
    int (*publish_queue)(struct link *l, store_txn t, const char *dir, unsigned i,
                         struct hyp_evtchn *const *channels);
    /* The n-th poisoned request of queue i, in words; 0: there are no more.  NULL: none
     * ever is.  And how many requests were given up for their age. */
    int (*poisoned)(struct device *d, unsigned i, uint64_t n, char *text, size_t bytes);
    uint64_t (*late)(const struct device *d);

    /* By the control thread without the lock: may call the user. */
    void (*notify)(const struct device *d, enum device_news news);
    /* By the thread that closes, which owns all queues: waits for work in flight
     * until `limit` (monotonic_ms()); then, with the queue DOWN, drops what is left. */
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
    bool stop_told;              /* news DEVICE_STOP                             */
    bool look;                   /* the store may say something new              */
    bool confirmed;              /* the live backend was seen Connected: it has its device */
    bool untold;                 /* `why` is not in the store yet                */
    uint8_t news;                /* bits of enum device_news to tell             */
    int error;                   /* why it cannot be opened                      */
    char why[DEVICE_WHY_MAX];    /* the last trouble, in words                   */
    uint64_t live_since;         /* ms; QUIET: since when                        */
    uint64_t linger_until;       /* ms: hung up, news of a death is awaited; 0   */
    uint64_t reconnects;         /* as queue_count()                             */

    struct link live;            /* what is used, or to be used                  */
    struct link spare;           /* twin.h                                       */
    enum twin_phase twin;
    bool twin_serves;            /* the spare was seen Connected                 */
    struct hyp_pool *pool;
    domid_t grantee, sharer;     /* of the pool; DOMID_INVALID: none             */
    size_t pool_pages;           /* of all queues                                */
    unsigned nqueues;
    struct queue *queue[LINK_QUEUES_MAX];
    struct report report;
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
