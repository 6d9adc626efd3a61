/* SPDX-License-Identifier: MIT */
/*
 * backend.h - a backend as XenStore sees it, whatever its class.
 *
 * Watches /local/domain/OWN/backend/CLASS.  The toolstack makes a directory
 * there for each device; the backend opens what the device needs, tells its
 * features, connects when the frontend's nodes are readable, and takes
 * everything back in order when either side closes:
 *
 *   NO_DEVICE -> WAITING -> CONNECTED -> CLOSING -> CLOSED -> WAITING ...
 *
 * The toolstack's nodes are trusted for control.  Everything that a frontend
 * wrote is read once and checked, by the class: a lie ends the frontend's own
 * connection, with a sentence in B/error and in the log.
 *
 * A process serves one class, on its control thread.  Nothing here allocates.
 */
#ifndef BULKHEAD_BACKENDS_BACKEND_H
#define BULKHEAD_BACKENDS_BACKEND_H

#include "../hyp-shim/hyp.h"
#include "../hyp-shim/store.h"
#include "../hyp-shim/xenbus.h"

#define BACKEND_TICK_MS 1000 /* between two looks at the statistics */

enum backend_state {
    BACKEND_FREE,
    BACKEND_NO_DEVICE, /* what it serves from is not open yet                     */
    BACKEND_WAITING,
    BACKEND_CONNECTED,
    BACKEND_CLOSING,   /* workers still have parts of it                          */
    BACKEND_CLOSED
};

/* The first member of a class's own struct. */
struct backend_device {
    enum backend_state state;
    bool gone;         /* the toolstack removed it: no more writing to its directory  */
    bool seen;         /* by the scan under way                                       */
    bool fresh;        /* found by it                                                 */
    bool open;         /* what it serves from is                                      */
    domid_t frontend;
    unsigned devid;
    unsigned serial;   /* tells this use of the struct from all others                */
    struct xenbus_device bus;
};

/* What a class does.  Errors are negative errno, with *what in words for the
 * operator where there is one. */
struct backend_class {
    const char *name;       /* in the store's paths: "vbd"                             */
    size_t device_bytes;
    unsigned devices_max;
    /* -EAGAIN: not yet, HYP_EV_DEVICE will say when. */
    int (*open)(struct backend_device *d, const char **what);
    void (*close)(struct backend_device *d);
    int (*write_features)(struct backend_device *d);
    /* Reads the frontend's nodes, makes its queues; keeps nothing on failure. */
    int (*connect)(struct backend_device *d, const char **what);
    /* Hands a connected device to the workers; asks for it back.  When nobody
     * has a part of it any more the class calls backend_closed(). */
    void (*attach)(struct backend_device *d);
    void (*detach)(struct backend_device *d);
    void (*write_stats)(struct backend_device *d);
};

/* Sets the watch; workers run already.  The rest follows from events.  devices
 * is the class's table, zeroed, devices_max of them. */
int backend_init(const struct backend_class *cls, struct hyp *hyp, struct store *store, void *devices);

struct hyp *backend_hyp(void);
struct store *backend_store(void);

/* Each takes all that is waiting of one source. Negative errno: the source is
 * gone, end the process. */
int backend_store_events(void);
int backend_hyp_events(void);

/* A worker found that the frontend lied: why, for the operator. */
void backend_broken(struct backend_device *d, const char *why);
/* Everything of a closing device is back. */
void backend_closed(struct backend_device *d);

/* Writes changed statistics to B/stats. */
void backend_tick(void);
/* How long to sleep at most, for ppoll: BACKEND_TICK_MS or -1. */
int backend_timeout_ms(void);
/* True once HYP_EV_STOP was obeyed: nothing in flight, everyone told Closed. */
bool backend_stopped(void);

/* ------------------------------------------------- writing to our own directory */

struct backend_node {
    const char *key;
    uint64_t value;
};

/* Each in one transaction, and only while the directory is there. */
int backend_write_nodes(struct backend_device *d, const struct backend_node *node, size_t n);

/* Statistics are structs of nothing but uint64_t, with a table of their names.
 * Adds those that a worker counts. */
void backend_add_counters(uint64_t *sum, const uint64_t *counter, size_t n);
/* B/stats/NAME of those that changed; published is what was written before, and
 * follows. */
int backend_write_counters(struct backend_device *d, const char *const *names, const uint64_t *current,
                           uint64_t *published, size_t n);

/* dir/NAME of those that changed, in the transaction t. */
int backend_put_counters(store_txn t, const char *dir, const char *const *names, const uint64_t *current,
                         const uint64_t *published, size_t n);

#endif
