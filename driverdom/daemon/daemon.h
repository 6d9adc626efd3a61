/* SPDX-License-Identifier: MIT */
/*
 * daemon.h - bulkheadd: what it knows, and what its files say to each other.
 *
 * One thread, one poll loop.  Nothing waits on behalf of one client: a request
 * that takes time leaves its session in `session.wait` and is answered when
 * the domain gets there.
 *
 * Trust.  The core and the store are trusted.  What domains write to the store
 * and to their stderr, and what clients send, is bounded and cleaned before it
 * is kept or shown.  The daemon itself holds no privilege: it asks the core.
 */
#ifndef BULKHEAD_DAEMON_H
#define BULKHEAD_DAEMON_H

#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../../hyp-shim/hyp.h"
#include "../../hyp-shim/store.h"
#include "../../policy/policy.h"
#include "log.h"

#define DAEMON_DOMAINS_MAX  96
#define DAEMON_SESSIONS_MAX 32
#define DAEMON_REQUEST_MAX  (2u * POLICY_XML_MAX + 4096u) /* a line; XML grows when it is quoted */
#define DAEMON_BACKLOG_MAX  (8u << 20)  /* bytes that a session may leave unread */
#define DAEMON_SENTENCE_MAX 640
#define UPLINK_FILES        2       /* rx_pcap, tx_pcap */

/* Milliseconds. */
#define READY_WAIT_MS    10000  /* a driver domain, from start to READY      */
#define OPEN_WAIT_MS     5000   /* a device that someone else holds          */
#define OPEN_RETRY_MS    100
#define CONNECT_WAIT_MS  15000  /* a guest's disk, from start to Connected   */
#define STOP_WAIT_MS     8000   /* an ordered stop, before SIGKILL           */
#define REASSIGN_MS      1000   /* a device that did not come back           */
#define KEEPER_WAIT_MS   2000   /* at the end: for interfaces to be given back */
#define BACKOFF_FIRST_MS 50
#define BACKOFF_LAST_MS  5000
#define BACKOFF_FORGET_MS 10000 /* lived that long: the next death is a first one */

enum domain_state { ST_DEFINED, ST_STARTING, ST_RUNNING, ST_STOPPING, ST_CRASHED, ST_BACKOFF };

/*
 * A device of a guest as the store has it: a directory of each side.  A guest's
 * disks come first, then its NICs: split i is disk i or NIC i - ndisks.
 */
struct split {
    const char *cls;     /* "vbd", "vif"                                         */
    const char *word;    /* "disk", "NIC"                                        */
    const char *dev;     /* "vda", "eth0"; in the spec, as the next one          */
    const char *backend; /* name of its driver domain                            */
    unsigned devid;
    domid_t be;          /* driver domain that serves it now; 0: none            */
    domid_t nodes_be;    /* whose backend directory exists; 0: none              */
    bool connected;      /* its frontend said so                                 */
    char error[160];     /* the backend's last complaint, cleaned                */
    uint64_t error_at;
};
#define SPLITS_MAX (POLICY_DISKS_MAX + POLICY_NICS_MAX)

/* The device behind a disk, in its driver domain. */
struct vbd {
    enum { VBD_NONE, VBD_OPENING, VBD_OPEN } device;
    uint32_t number;     /* 0: a ram disk, or none                               */
    int last_error;      /* of the last opening                                  */
    uint64_t give_up_at; /* opening: when to stop trying; 0: never               */
    uint64_t retry_at;   /* 0: no retry pending                                  */
};

/* An interface that the keeper holds for a domain: an uplink, or the TAP of a NIC. */
struct kept {
    enum { KEPT_NONE, KEPT_TO_ASK, KEPT_ASKED, KEPT_HELD, KEPT_TO_RELEASE, KEPT_RELEASING } at;
    unsigned answers;    /* requests that were not answered yet; the last one counts */
};

/* The uplink of a net driver domain. */
struct uplink {
    struct kept kept;    /* of an interface                                      */
    uint32_t state;      /* enum link_state, as the keeper told; 0: not told     */
    struct uplink_file {
        uint32_t number; /* of a device; 0: none                                 */
        bool open;
    } file[UPLINK_FILES];
};

struct domain {
    bool used;
    struct domain_spec spec;
    enum domain_state state;
    domid_t domid;            /* 0: no process                                   */
    domid_t old_domid;        /* a dead incarnation whose store home still stands */
    uint32_t incarnation;     /* counts starts                                   */
    uint32_t restarts;        /* of them not asked for                           */
    uint32_t failures;        /* deaths in a row                                 */
    uint64_t started_at;      /* of this incarnation; 0: not running             */
    uint64_t deadline;        /* of the current state; 0: none                   */
    bool alive;               /* its death was not reported yet                  */
    bool built;               /* guest: nodes and process exist                  */
    bool unpaused;            /* driver: it has all that it needs                */
    bool start_again;         /* stopping as half of a restart                   */
    bool renewing;            /* a restart that no one asked for                 */
    bool automatic;           /* this start was not asked for by anyone          */
    bool attached;            /* native: a program has the connections           */
    int conn[2];              /* native: they wait here; -1                      */
    int door_fd;              /* listening socket of the door; -1                */
    int channel[2];           /* to its process, for sockets of interfaces: the keeper's end, its own; -1 */
    uint32_t link_id;         /* of its uplink, or of its first NIC: never reused */
    uint32_t next_device;     /* driver: next device number, never reused        */
    struct log log;
    unsigned nsplits;
    struct split split[SPLITS_MAX];
    struct vbd vbd[POLICY_DISKS_MAX];
    struct kept tap[POLICY_NICS_MAX]; /* guest with TAP doors                    */
    struct uplink uplink;             /* net driver domain                       */
};

enum wait_for { WAIT_NOTHING, WAIT_START = 1, WAIT_STOP = 2, WAIT_KILL = 4 };

struct session {
    int fd;              /* -1: free slot                                        */
    char *in, *out;
    size_t in_bytes, in_room, out_bytes, out_room;
    bool events;
    bool ending;         /* close when out is flushed                            */
    struct domain *wait;
    enum wait_for wait_for;
};

/* The one program that touches the machine's network interfaces. */
struct keeper {
    domid_t domid;           /* 0: it does not run                               */
    int control;             /* -1: it does not listen                           */
    bool blocked;            /* it took no more requests                         */
    uint64_t end_at;         /* it was told to end, and how long that may take   */
    uint32_t next_id;
    struct log log;
};

struct daemon {
    struct hyp *hyp;
    struct store *store;
    int listen_fd, signal_fd;
    pid_t core;
    bool foreground;
    bool stopping;           /* SIGTERM came: everything is on its way out       */
    uint64_t stop_deadline;
    int exit_status;
    bool done;
    char run_dir[256];       /* for sentences; the daemon's cwd is that directory */
    struct log core_log, own_log;
    struct keeper keeper;
    struct domain domains[DAEMON_DOMAINS_MAX];
    struct session sessions[DAEMON_SESSIONS_MAX];
};

uint64_t now_ms(void); /* CLOCK_MONOTONIC, never 0 */

/* ------------------------------------------------------------------ loop.c */
/* Serves until it is told to stop or the core is gone; returns the exit status. */
int daemon_loop(struct daemon *d, int ready_fd);

/* ---------------------------------------------------------------- domain.c */
struct domain *dom_find(struct daemon *d, const char *name);
struct domain *dom_by_domid(struct daemon *d, domid_t domid);
struct domain *dom_new(struct daemon *d, const struct domain_spec *spec);
const char *dom_state_name(const struct domain *dom);
bool dom_is_down(const struct domain *dom); /* defined: no process, none to come */

/*
 * What the operator asks for.  0: begun, its outcome will be told to waiting
 * sessions; negative errno: refused, with a sentence, and nothing changed.
 */
int dom_start(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
int dom_stop(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
int dom_restart(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
int dom_kill(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX]);

/* In order, but not asked for: its uplink must be opened anew. */
void dom_renew(struct daemon *d, struct domain *dom);

/* What happens. */
void dom_died(struct daemon *d, struct domain *dom, int status);
void dom_tick(struct daemon *d, struct domain *dom, uint64_t now);
uint64_t dom_next_tick(const struct domain *dom); /* 0: none */

enum hyp_class dom_class(const struct domain_spec *spec);

/* Shared by driver.c and guest.c. */
int dom_make(struct daemon *d, struct domain *dom, const int *more_fds, unsigned n);
void dom_is_running(struct daemon *d, struct domain *dom, const char *event);
void dom_start_failed(struct daemon *d, struct domain *dom, const char *sentence);

/* ---------------------------------------------------- driver.c and guest.c */
int driver_start(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
void driver_ready(struct daemon *d, struct domain *dom);
void driver_gone(struct daemon *d, struct domain *dom); /* its guests' devices lost it */
void driver_device(struct daemon *d, const struct hyp_event *ev);
void driver_go_on(struct daemon *d, struct domain *dom); /* runs as soon as all that it needs is there */
unsigned driver_guests(struct daemon *d, const struct domain *driver, char *names, size_t cap);

int guest_start(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
void guest_device(struct daemon *d, const struct hyp_event *ev);
void guest_go_on(struct daemon *d, struct domain *dom); /* is made as soon as all its devices are there */
void guest_store_event(struct daemon *d, const struct store_event *ev);
void guest_release(struct daemon *d, struct domain *dom); /* devices, nodes, home */
void guest_tick(struct daemon *d, struct domain *dom, uint64_t now);
uint64_t guest_next_tick(const struct domain *dom);

/* ------------------------------------------------------------------ door.c */
int door_open(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
void door_close(struct domain *dom);
void door_attach(struct daemon *d, struct domain *dom); /* the attach socket is readable */

/* ----------------------------------------------------------------- split.c */
/* One directory of nodes, gathered first and written in one go. */
#define NODES_MAX 24
struct nodes {
    unsigned n;
    struct node {
        const char *key;
        char value[STORE_VALUE_MAX];
    } node[NODES_MAX];
};
void nodes_add(struct nodes *nodes, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* What the operator configured for a frontend; 0 and AUTO: nothing. */
void nodes_add_hints(struct nodes *frontend, unsigned queues, unsigned pool_pages, enum policy_grants grants);

void split_init(struct domain *dom); /* from its spec */
/* Both directories, in one transaction; what an older backend had is removed. */
int split_write_nodes(struct daemon *d, struct domain *guest, unsigned i);
void split_remove_nodes(struct daemon *d, struct domain *guest, unsigned i);
/* The state that the frontend wrote; the backend's complaint, "" when there is none. */
unsigned split_frontend_state(struct daemon *d, const struct domain *guest, unsigned i);
void split_backend_error(struct daemon *d, const struct domain *guest, unsigned i, char *out, size_t cap);
const char *split_words(const struct domain *guest); /* "disks", "NICs", "disks and NICs" */
int home_make(struct daemon *d, const struct domain *dom);
void home_remove(struct daemon *d, domid_t domid);

/* ------------------------------------------------------- vbd.c and vif.c */
/* What is theirs of the two directories. */
void vbd_nodes(const struct domain *guest, unsigned i, struct nodes *backend, struct nodes *frontend);
void vif_nodes(const struct domain *guest, unsigned nic, struct nodes *backend, struct nodes *frontend);
/* Opens the device for disk i afresh in its driver domain, which is running. */
int vbd_assign(struct daemon *d, struct domain *guest, unsigned i);
void vbd_release(struct daemon *d, struct domain *guest, unsigned i);
void vbd_open_sentence(const struct domain *guest, unsigned i, int error, char why[DAEMON_SENTENCE_MAX]);
const char *device_error_text(int error);
void vif_mac_text(const uint8_t mac[6], char out[18]);

/* ---------------------------------------------------------------- uplink.c */
/* Refused before anything is made: its interface is another's. */
int uplink_check(struct daemon *d, const struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
/* After the domain was made, before it runs: its nodes, and its files begin to be opened. */
int uplink_prepare(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
bool uplink_files_open(const struct domain *dom);
void uplink_clear(struct domain *dom); /* this incarnation is no more */
bool uplink_needs_keeper(const struct domain_spec *spec);
/* "up", "down", "gone", "unknown", or "" when there is none or it does not run. */
const char *uplink_state(struct daemon *d, const struct domain *dom);

/* ---------------------------------------------------------------- keeper.c */
void keeper_init(struct daemon *d);
/* Starts it when it does not run. */
int keeper_start(struct daemon *d, char why[DAEMON_SENTENCE_MAX]);
int keeper_channel(struct domain *dom, char why[DAEMON_SENTENCE_MAX]); /* a new one */
void keeper_channel_passed(struct domain *dom); /* its process has its end */
void keeper_close_channel(struct domain *dom);
/* Sends all that is to be asked, as far as the keeper takes it. */
void keeper_ask(struct daemon *d);
/* The uplink goes back to the machine, whether the keeper still was to get it or has it. */
void keeper_release(struct daemon *d, struct domain *dom);
void keeper_serve(struct daemon *d, short revents);
void keeper_died(struct daemon *d, int status);
/* True: it has ended, or is given up; everything that it held was given back first. */
bool keeper_end(struct daemon *d, uint64_t now);

/* ----------------------------------------------------------------- event.c */
/* One line to all who listen.  detail is stolen, may be NULL. */
void event_tell(struct daemon *d, const char *event, const struct domain *dom, json_t *detail);
void event_error(struct daemon *d, const struct domain *dom, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* --------------------------------------------------------------- session.c */
void session_accept(struct daemon *d);
void session_serve(struct daemon *d, struct session *s, short revents);
void session_send(struct session *s, json_t *object); /* steals it */
void session_ok(struct session *s, json_t *more);     /* steals it; NULL: just ok */
void session_fail(struct session *s, int exit_status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void session_close(struct session *s);
/* The end of what sessions wait for at this domain; sentence NULL: it went well. */
void session_answer(struct daemon *d, struct domain *dom, unsigned kinds, const char *sentence);
void session_progress(struct daemon *d, struct domain *dom, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* --------------------------------------------------------------- request.c */
void request_handle(struct daemon *d, struct session *s, const char *line, size_t bytes);

/* ------------------------------------------------- report.c and metrics.c */
json_t *report_list(struct daemon *d);
json_t *report_info(struct daemon *d, struct domain *dom);
json_t *report_metrics(struct daemon *d); /* a string */
/* Driver domains first, then by name; how many. */
int report_sorted(struct daemon *d, const struct domain *out[DAEMON_DOMAINS_MAX]);
double report_uptime(const struct domain *dom); /* seconds */

#endif
