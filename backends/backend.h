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
 * In a spare (the directory says standby=1) everything but the device is made
 * ahead, and the device itself is what sets it going:
 *
 *   NO_DEVICE -> WAITING -> ARMED -> CONNECTED
 *                InitWait   Initialised
 *
 * An armed device looks at no ring.  When its device is there its workers have
 * it before the store hears of it; they serve a queue from its first doorbell
 * on, since until then its ring may hold what a dead one left.  If the device
 * comes before the frontend, the rest is the ordinary handshake; the doorbell is
 * waited for all the same, since what the frontend offers may be older than that.
 *
 * Asked to stop, a backend says Closing and goes on serving until each frontend
 * has finished what is in flight and closes too, BACKEND_LEAVE_MS at most.
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

#define BACKEND_TICK_MS  1000 /* between two looks at the statistics      */
#define BACKEND_LEAVE_MS 5000 /* that frontends have to leave in order    */

enum backend_state {
    BACKEND_FREE,
    BACKEND_NO_DEVICE, /* what it serves from is not open yet                     */
    BACKEND_WAITING,
    BACKEND_ARMED,     /* connected but for the device                            */
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
    bool awaited;      /* HYP_EV_DEVICE will say when it is; not open                 */
    bool standby;      /* makes connections without it                                */
    bool untold;       /* set going; the store has still to hear of it                */
    domid_t frontend;
    unsigned devid;
    uint32_t device;   /* the number that HYP_EV_DEVICE will name; the class's        */
    unsigned serial;   /* tells this use of the struct from all others                */
    struct xenbus_device bus;
};

/* What a class does.  Errors are negative errno, with *what in words for the
 * operator where there is one. */
struct backend_class {
    const char *name;       /* in the store's paths: "vbd"                             */
    size_t device_bytes;
    unsigned devices_max;
    /* -EAGAIN: not yet, HYP_EV_DEVICE with d->device will say when; called again
     * it then needs nothing of the store. */
    int (*open)(struct backend_device *d, const char **what);
    void (*close)(struct backend_device *d);
    /* What a frontend chooses from; not open: only what needs no device. */
    int (*write_features)(struct backend_device *d);
    /* Reads the frontend's nodes, makes its queues; keeps nothing on failure. */
    int (*connect)(struct backend_device *d, const char **what);
    /* Lets the workers make ready for a device that is connected and not open.
     * NULL: nothing is to be made. */
    void (*arm)(struct backend_device *d);
    /* Hands a connected device to the workers, armed before or not; asks for it
     * back, or for one that is only armed.  When nobody has a part of it any more
     * the class calls backend_closed(). */
    void (*attach)(struct backend_device *d);
    void (*detach)(struct backend_device *d);
    /* What a frontend is told with Connected. NULL: nothing. */
    int (*write_geometry)(struct backend_device *d);
    void (*write_stats)(struct backend_device *d);
    /* An assigned device is there, before those that wait for it are opened.
     * NULL: nothing else waits. */
    void (*device_came)(uint32_t device);
    /* Sends MAIL_PING to every worker; returns how many. */
    unsigned (*ping)(void);
};

/* Sets the watch; workers run already.  The rest follows from events.  devices
 * is the class's table, zeroed, devices_max of them. */
int backend_init(const struct backend_class *cls, struct hyp *hyp, struct store *store, void *devices);

struct hyp *backend_hyp(void);
struct store *backend_store(void);
unsigned backend_ping_workers(void);

/* Each takes all that is waiting of one source. Negative errno: the source is
 * gone; without the hypervisor end the process. */
int backend_store_events(void);
int backend_hyp_events(void);

/* A worker found that the frontend lied: why, for the operator. */
void backend_broken(struct backend_device *d, const char *why);
/* Everything of a closing device is back. */
void backend_closed(struct backend_device *d);

/* Writes changed statistics to B/stats; ends what leaves too late. */
void backend_tick(void);
/* How long until the next backend_tick(), for ppoll: at most BACKEND_TICK_MS, or -1. */
int backend_timeout_ms(void);
/* True while a worker serves someone. */
bool backend_serving(void);
/* True once HYP_EV_STOP was obeyed: nothing in flight, everyone told Closed. */
bool backend_stopped(void);

/* ---------------------------------------------------------------- heartbeat.c */

/*
 * The toolstack writes a number to /local/domain/OWN/ping, and finds it in
 * /local/domain/OWN/pong when the control thread and every worker have come
 * round.  One ping is under way at a time; of those that come meanwhile the last
 * one counts.
 */
#define BACKEND_WATCH_PING "ping"
int heartbeat_init(void);
/* ping changed. */
void heartbeat_asked(void);
/* A worker answered: MAIL_PONG. */
void heartbeat_answered(void);

/* --------------------------------- nodes.c: writing to our own directory */

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
