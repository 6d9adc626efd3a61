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

#include "../../hyp-shim/clock.h"
#include "../../hyp-shim/hyp.h"
#include "../../hyp-shim/store.h"
#include "../../policy/policy.h"
#include "cputime.h"
#include "log.h"
#include "state.h"

#define DAEMON_DOMAINS_MAX  96
#define DAEMON_SESSIONS_MAX 32
#define DAEMON_REQUEST_MAX  (2u * POLICY_XML_MAX + 4096u) /* a line; XML grows when it is quoted */
#define DAEMON_BACKLOG_MAX  (8u << 20)  /* bytes that a session may leave unread */
#define DAEMON_SENTENCE_MAX 640
#define UPLINK_FILES        2       /* rx_pcap, tx_pcap */
#define LIES_MAX            3       /* driver domains that one guest's reports may end in LIES_MS */
#define LIES_MS             60000

/* Milliseconds. */
#define READY_WAIT_MS    10000  /* a driver domain, from start to READY      */
#define OPEN_WAIT_MS     5000   /* a device that someone else holds          */
#define OPEN_RETRY_MS    100
#define CONNECT_WAIT_MS  15000  /* a guest's disk, from start to Connected   */
#define STOP_WAIT_MS     8000   /* an ordered stop, before SIGKILL           */
#define REASSIGN_MS      1000   /* a device that did not come back           */
#define KEEPER_WAIT_MS   2000   /* at the end: for interfaces to be given back */
#define BACKOFF_FIRST_MS 50     /* from the second death in a row on          */
#define BACKOFF_LAST_MS  5000
#define SPARE_LAST_MS    1000   /* the longest wait before a spare is made    */
#define SETTLE_MS        100    /* a takeover has the processors to itself    */
#define CATCH_UP_MS      20     /* and so has what has waited for it          */
#define RECOVERY_WAIT_MS 5000   /* for frontends to report a recovery         */
#define BACKOFF_FORGET_MS 10000 /* lived that long: the next death is a first one */

enum domain_state { ST_DEFINED, ST_STARTING, ST_RUNNING, ST_STOPPING, ST_CRASHED, ST_BACKOFF };

/*
 * A device of a guest as the store has it: a directory of each side.  It keeps its
 * index while the guest runs, others may come and go: a disk's is below FIRST_NIC, NIC k
 * is split FIRST_NIC + k.  dom->there says which there are; spec.disks and spec.nics of
 * a domain have the same holes.
 *
 *   for (unsigned i = 0; split_next(dom, &i); i++)    all; disk_next(): disks
 *   for (unsigned k = 0; nic_next(dom, &k); k++)      NICs
 */
#define FIRST_NIC  POLICY_DISKS_MAX
#define SPLITS_MAX (FIRST_NIC + POLICY_NICS_MAX)
#define SLOTS      2
struct split {
    enum {
        SPLIT_STANDS,
        SPLIT_NEW,       /* being added: it has no nodes yet                     */
        SPLIT_COMING,    /* it has, its frontend is being opened                 */
        SPLIT_GOING      /* being removed: its frontend is being closed          */
    } at;
    const char *cls;     /* "vbd", "vif"                                         */
    const char *word;    /* "disk", "NIC"                                        */
    const char *dev;     /* "vda", "eth0"; in the spec, as the next one          */
    const char *backend; /* name of its driver domain                            */
    unsigned devid;
    domid_t be;          /* driver domain that serves it now; 0: none            */
    unsigned live;       /* which of its slots is in use, 0 or 1; see split.c    */
    domid_t nodes_be[SLOTS]; /* of each slot, whose backend directory exists; 0: none */
    bool connected;      /* its frontend said so, in the live slot               */
    bool armed;          /* the other slot: the spare said so                    */
    bool awaited;        /* a recovery waits for its report                      */
    uint32_t stalled, lies, poisoned, timed_out; /* as its frontend reported last */
    char error[160];     /* the backend's last complaint, cleaned                */
    uint64_t error_at;
};

/* The device behind a disk, in its driver domain. */
struct vbd {
    enum { VBD_NONE, VBD_OPENING, VBD_OPEN } device;
    uint32_t number;     /* 0: a ram disk, or none                               */
    int last_error;      /* of the last opening                                  */
    uint64_t give_up_at; /* opening: when to stop trying; 0: never               */
    uint64_t retry_at;   /* 0: no retry pending                                  */
    uint64_t opened_ns;  /* when the core had it open; 0: not yet                */
};

/* An interface that the keeper holds for a domain: an uplink, or the TAP of a NIC. */
struct kept {
    enum { KEPT_NONE, KEPT_TO_ASK, KEPT_ASKED, KEPT_HELD, KEPT_TO_RELEASE, KEPT_RELEASING } at;
    unsigned answers;    /* requests that were not answered yet; the last one counts */
    bool had;            /* the keeper has it until it is told to release it    */
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

/* Why an incarnation came to its end. */
enum cause {
    CAUSE_NONE,
    CAUSE_SIGNAL,
    CAUSE_EXIT,
    CAUSE_HANG,     /* no heartbeat                                              */
    CAUSE_LIE,      /* a frontend caught it: a broken ring                       */
    CAUSE_PLANNED,  /* a restart that was asked for                              */
    CAUSE_DETACHED, /* native guest: its program let go of it                    */
    CAUSE_COUNT
};

/*
 * A second process of a driver domain, ready to be its next incarnation: jailed,
 * its devices assigned (they come to it when the fence lets them), connected to
 * every frontend ahead.
 */
struct spare {
    enum {
        SPARE_NONE,
        SPARE_WAITING,       /* until make_at                                    */
        SPARE_STARTING,      /* until deadline                                   */
        SPARE_READY
    } at;
    domid_t domid;           /* 0: no process                                    */
    bool alive;              /* its death was not reported yet                   */
    bool unpaused;
    bool was_armed;          /* it was told that every connection is made        */
    uint64_t make_at;
    uint64_t deadline;
    uint64_t started_at;     /* READY since                                      */
    uint32_t failures;       /* spares that died in a row                        */
    uint32_t next_device;
    uint32_t gate;           /* as in struct domain                              */
    uint64_t gate_ns;
    int channel[2];          /* as in struct domain                              */
    struct kept kept;        /* its sockets of the uplink; answers are counted in the uplink */
    struct log log;
};

/* From a death until every connected frontend has its answer.  CLOCK_MONOTONIC, ns. */
struct recovery {
    bool on;
    bool warm;               /* a spare took over                                */
    bool planned;
    uint64_t t0_ns;          /* the kill was ordered, or the death               */
    uint64_t death_ns;
    uint64_t books_ns;       /* everything was handed over; 0: not yet           */
    uint64_t attached_ns, first_ns, down_ns; /* latest, latest, earliest report; 0: none */
    uint64_t give_up_at;     /* ms; 0: not yet running                           */
};

/* Devices that are being added to a running guest, and removed: change.c. */
struct change {
    enum {
        CHANGE_NONE,
        CHANGE_ASKED,        /* the next daemon would not know                   */
        CHANGE_NOTED,        /* it would: work may begin                         */
        CHANGE_OPENING,      /* the driver domains' devices                      */
        CHANGE_CONNECTING,   /* frontends: the door answers                      */
        CHANGE_CLOSING,      /* what is new is there; what is to go goes         */
        CHANGE_UNDOING       /* what is new goes again                           */
    } at;
    uint32_t added, removed; /* bit maps of devices                              */
    uint32_t awaited;        /* whose answer is to come                          */
    uint64_t deadline;       /* of the answers                                   */
    struct domain_spec *spec; /* what is wanted; owned                           */
    char *xml;               /* the same as it came; owned                       */
    size_t bytes;
    char why[DAEMON_SENTENCE_MAX]; /* undoing                                    */
};

enum phase { PHASE_DETECT, PHASE_FENCE, PHASE_HANDOVER, PHASE_RECONNECT, PHASE_FIRST, PHASES };

struct domain {
    bool used;
    struct domain_spec spec;
    enum domain_state state;
    domid_t domid;            /* 0: no process                                   */
    domid_t old_domid;        /* a dead incarnation whose store home still stands */
    uint32_t incarnation;     /* counts starts                                   */
    uint32_t restarts;        /* of them not asked for                           */
    uint32_t failures;        /* deaths in a row, of incarnations that never served */
    bool served;              /* this one: all its guests had answers            */
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
    int door_fd;              /* listening socket of the door; vhost-user: our end of its channel; -1 */
    int channel[2];           /* to its process, for sockets of interfaces: the keeper's end, its own; -1;
                               * vhost-user: only its own, until it has it       */
    bool opened;              /* its definition came by `open`                   */
    unsigned opens;           /* how often `open` was asked for it: `close` may name the count */
    bool forget;              /* its definition goes when it is down             */
    struct definition *before; /* to go back to when it does not start; owned, NULL */
    struct change change;     /* guest behind a vhost-user door                  */
    uint32_t link_id;         /* of its uplink, or of its first NIC: never reused */
    uint32_t next_device;     /* driver: next device number, never reused        */
    struct log log;
    uint32_t there;           /* bit map: its devices                            */
    struct split split[SPLITS_MAX];
    struct vbd vbd[POLICY_DISKS_MAX];
    struct vbd ahead[POLICY_DISKS_MAX]; /* the same in the spares                */
    struct kept tap[POLICY_NICS_MAX]; /* guest with TAP doors                    */
    struct uplink uplink;             /* net driver domain                       */
    uint32_t gate;            /* net driver domain: its device number of the gate file */
    enum { PLAN_NONE, PLAN_ARM, PLAN_STOP } plan; /* a restart through a fresh spare */
    uint64_t gate_ns;         /* when the core had the gate open; 0: not yet     */
    uint64_t plan_until;      /* of PLAN_ARM, PLAN_STOP                          */
    uint64_t ordered_ns;      /* its death was ordered then; 0: it was not       */
    enum cause ordered;       /* and is to be told as this; NONE: as what it is  */
    enum cause last_cause;    /* of the last death                               */
    int last_status;          /* its signal or exit status                       */
    bool last_warm;
    uint64_t last_downtime_us;
    uint64_t phase_us[PHASES]; /* of the last recovery                           */
    uint64_t deaths[CAUSE_COUNT];
    struct spare spare;       /* driver domain                                   */
    struct recovery recovery;
    uint64_t ping_until;      /* its answer is due; 0: none is awaited           */
    uint64_t ping_again;      /* no other before                                 */
    uint64_t pinged_ns;
    pid_t ping_pid;           /* 0: not known                                    */
    struct cputime ping_cpu;  /* of that process when it was asked               */
    uint32_t ping;            /* number of the last one                          */
    uint32_t heard;           /* guest: what was told of it in this second       */
    uint64_t heard_at;
    uint64_t lie_at[LIES_MAX]; /* guest: when driver domains died for its reports */
};

enum wait_for {
    WAIT_NOTHING,
    WAIT_START = 1,
    WAIT_STOP = 2,
    WAIT_KILL = 4,
    WAIT_CHANGE = 8,
    WAIT_CLOSE = 16, /* until it is forgotten                                     */
    WAIT_OPEN = 32,  /* besides another: it was `open` that asked                 */
};

struct session {
    int fd;              /* -1: free slot                                        */
    char *in, *out;
    size_t in_bytes, in_room, out_bytes, out_room;
    bool events;
    bool ending;         /* close when out is flushed                            */
    struct domain *wait;
    unsigned wait_for;   /* enum wait_for                                        */
    json_t *later;       /* a request that waits for its turn; NULL              */
    char later_for[POLICY_NAME_MAX]; /* whose turn that is                       */
};

/* The one program that touches the machine's network interfaces. */
struct keeper {
    domid_t domid;           /* 0: it does not run                               */
    int control;             /* -1: it does not listen                           */
    bool blocked;            /* it took no more requests                         */
    uint32_t fresh;          /* answers before the one to this id are another daemon's; 0: none */
    bool fresh_asked;
    uint64_t end_at;         /* it was told to end, and how long that may take   */
    uint32_t next_id;
    struct log log;
};

/* The process of the store: a domain that is made again whenever it dies. */
struct store_process {
    int listen_fd, journal_fd;
    uint32_t failures;       /* deaths in a row                                  */
    uint64_t started_at;
    uint64_t retry_at;       /* 0: it runs                                       */
    struct log log;
};

struct daemon {
    struct hyp *hyp;
    struct store *store;
    struct store_process store_process;
    int parcel[2];           /* in, out: parcel.h                                */
    unsigned parked;         /* packets in there                                 */
    uint64_t parked_print;   /* of what they hold                                */
    struct state_mark saved[DAEMON_DOMAINS_MAX + 1]; /* the last is the daemon's own */
    uint64_t turn;           /* the last one that was written down               */
    int state_error;         /* the last complaint                               */
    bool adopted;            /* the core was there before us                     */
    gid_t guest_group;       /* who may connect to vhost-user sockets; 0: root alone */
    bool core_ended;         /* and everything with it                           */
    int listen_fd, signal_fd;
    pid_t core;              /* 0: it is not our child                           */
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

/* Milliseconds; 0 is no time, for whoever notes one. */
static inline uint64_t now_ms(void)
{
    return monotonic_ms() + 1;
}

/* ------------------------------------------------------------------ loop.c */
/* Orders to stop wait in this descriptor from now on: one that comes before the loop begins is not
 * lost, and leaves no core behind. */
int daemon_signals(void);
/* Serves until it is told to stop or the core is gone; returns the exit status. */
int daemon_loop(struct daemon *d, int ready_fd);
/* A driver domain is dying or dead and its spare takes over: that asks nothing of the daemon, and
 * who has work goes first.  Sleeps a moment, once for one death. */
void daemon_stand_back(void);
/* News from the core. */
void daemon_hear(struct daemon *d, const struct hyp_event *ev);

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

/* At once, as the daemon's own verdict. */
void dom_put_down(struct daemon *d, struct domain *dom, enum cause cause);
/* "signal KILL", "exit 1", "hang", "broken ring", "planned"; "" when it never died. */
void cause_text(enum cause cause, int status, char out[32]);
/* Milliseconds before the next try, after so many failures in a row. */
uint64_t backoff_ms(uint32_t failures, uint64_t most);

/* What happens. */
/* A death, READY or a device, of whatever domain. */
void dom_event(struct daemon *d, const struct hyp_event *ev);
void dom_died(struct daemon *d, struct domain *dom, int status, uint64_t at_ns);
void dom_tick(struct daemon *d, struct domain *dom, uint64_t now);
uint64_t dom_next_tick(const struct domain *dom); /* 0: none */

enum hyp_class dom_class(const struct domain_spec *spec);

/* It runs on under this daemon: sets the watches again that went with the last daemon's connection,
 * of its spare too. */
void dom_adopted(struct daemon *d, struct domain *dom);

/* Shared by driver.c and guest.c. */
int dom_make(struct daemon *d, struct domain *dom, const int *more_fds, unsigned n);
int dom_make_spare(struct daemon *d, struct domain *dom, const int *more_fds, unsigned n);
void dom_is_running(struct daemon *d, struct domain *dom, const char *event);
void dom_start_failed(struct daemon *d, struct domain *dom, const char *sentence);

/* ---------------------------------------------------- driver.c and guest.c */
int driver_start(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
void driver_ready(struct daemon *d, struct domain *dom);
void driver_gone(struct daemon *d, struct domain *dom); /* its guests' devices lost it */
/* A guest's device goes to the incarnation that runs now, the ordinary way. */
void driver_move(struct daemon *d, struct domain *dom, struct domain *guest, unsigned i);
/* Nodes of the incarnation before, which a takeover left. */
void driver_clean_up(struct daemon *d, struct domain *dom);
/* Devices of guests that had this incarnation have none now. */
void driver_lost(struct daemon *d, struct domain *dom);
/* The devices that it serves, of guests that have nodes: from {0}, while true. */
struct served {
    struct domain *guest;
    unsigned i;
    struct split *split; /* guest->split[i] */
    int g;
    unsigned next;
};
bool driver_next(struct daemon *d, const struct domain *dom, struct served *at);
/* A net driver domain's gate: a file whose lock is its fence. */
int driver_gate(struct daemon *d, const struct domain *dom, domid_t domid, uint32_t number,
                char why[DAEMON_SENTENCE_MAX]);
void driver_forget_gate(const struct domain *dom);
void driver_device(struct daemon *d, struct domain *dom, const struct hyp_event *ev);
void driver_go_on(struct daemon *d, struct domain *dom); /* runs as soon as all that it needs is there */
unsigned driver_guests(struct daemon *d, const struct domain *driver, char *names, size_t cap);

int guest_start(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
void guest_device(struct daemon *d, const struct hyp_event *ev);
void guest_look(struct daemon *d, struct domain *dom, unsigned i); /* what both sides wrote for a device */
void guest_connected(struct daemon *d, struct domain *dom); /* it runs, if all its devices are */
bool guest_may_tell(struct domain *dom); /* it was not told too much of this guest in this second */
void guest_go_on(struct daemon *d, struct domain *dom); /* is made as soon as all its devices are there */
void guest_store_event(struct daemon *d, const struct store_event *ev);
void guest_release(struct daemon *d, struct domain *dom); /* devices, nodes, home */
/* One of its devices; what they all do is made of these. */
int guest_check_device(struct daemon *d, const struct domain *dom, unsigned i, char why[DAEMON_SENTENCE_MAX]);
int guest_open_device(struct daemon *d, struct domain *dom, unsigned i, char why[DAEMON_SENTENCE_MAX]);
int guest_write_device(struct daemon *d, struct domain *dom, unsigned i);
void guest_drop_device(struct daemon *d, struct domain *dom, unsigned i); /* its nodes, then its device */
void guest_tick(struct daemon *d, struct domain *dom, uint64_t now);
uint64_t guest_next_tick(const struct domain *dom);

/* ------------------------------------------------------------ definition.c */
struct wanted {
    const struct domain_spec *spec;
    const char *file, *xml;
    size_t bytes;
};
void definition_define(struct daemon *d, struct session *s, json_t *request);
void definition_undefine(struct daemon *d, struct session *s, struct domain *dom);
void definition_open(struct daemon *d, struct session *s, json_t *request);
void definition_close(struct daemon *d, struct session *s, json_t *request);
/* It is not on its way somewhere: open and close may be looked at. */
bool definition_is_settled(const struct domain *dom);
/* It runs: the definition that it started with stays. */
void definition_settled(struct domain *dom);
/* The one on disk counts: after a daemon that was killed while it changed it. */
void definition_again(struct daemon *d, struct domain *dom);
void definition_tick(struct daemon *d, struct domain *dom);
uint64_t definition_next_tick(const struct domain *dom);

/* ---------------------------------------------------------------- change.c */
/* Begins to make a running guest's devices what is wanted; its outcome is told to WAIT_CHANGE.
 * Negative errno: refused, with a sentence, and nothing changed. */
int change_ask(struct daemon *d, struct domain *dom, const struct wanted *wanted,
               char why[DAEMON_SENTENCE_MAX]);
/* What is new cannot be had. */
void change_failed(struct daemon *d, struct domain *dom, const char *why);
/* The guest's process is gone, and all that it had. */
void change_over(struct daemon *d, struct domain *dom);
/* The door's answer; why: NULL, it went well. */
void change_answered(struct daemon *d, struct domain *dom, unsigned i, bool open, const char *why);
void change_look(struct daemon *d, struct domain *dom); /* a device may have been opened */
void change_tick(struct daemon *d, struct domain *dom, uint64_t now);
uint64_t change_next_tick(const struct domain *dom);

/* ----------------------------------------------------------------- vhost.c */
/* "" is right too: it is not plugged in.  -EINVAL: another, and which one is right. */
int vhost_check_socket(const struct daemon *d, const char *name, const char *dev, const char *path,
                       char why[DAEMON_SENTENCE_MAX]);
/* Directory and channel: ours is door_fd, the door's is channel[1]. */
int vhost_open(struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
void vhost_hang_up(struct domain *dom);
/* Every device, each with its socket, then READY. */
int vhost_begin(const struct daemon *d, const struct domain *dom);
int vhost_offer(const struct daemon *d, const struct domain *dom, unsigned i);
int vhost_withdraw(const struct domain *dom, unsigned i);
void vhost_unlink(const struct domain *dom, unsigned i);
void vhost_hear(struct daemon *d, struct domain *dom);

/* ----------------------------------------------------------------- spare.c */
/* Why this driver domain has no spare; "" when it is to have one. */
const char *spare_why_not(const struct domain *dom);
/* Its incarnation runs: a spare is made in so many milliseconds. */
void spare_plan(struct daemon *d, struct domain *dom, uint64_t delay);
/* The takeover is over: no reason to wait, but for back-off. */
void spare_hurry(struct domain *dom);
/* Kills it and forgets it. */
void spare_drop(struct daemon *d, struct domain *dom);
void spare_ready(struct daemon *d, struct domain *dom);
void spare_died(struct daemon *d, struct domain *dom, int status);
void spare_failed(struct daemon *d, struct domain *dom, const char *sentence);
/* The incarnation is dead. True: its spare is the incarnation now, and all books say so. */
bool spare_takes_over(struct daemon *d, struct domain *dom);
/* True: the spare that was being made goes on as the next incarnation, which is starting. */
bool spare_goes_on(struct daemon *d, struct domain *dom);
void spare_guest_up(struct daemon *d, struct domain *guest);
/* A disk of a guest was opened in its driver domain: the spare may wait for it now. */
void spare_device_up(struct daemon *d, struct domain *guest, unsigned i);
/* Something was armed, or is no more. */
void spare_look(struct daemon *d, struct domain *dom);
bool spare_is_armed(struct daemon *d, const struct domain *dom);
/* A planned restart through a fresh spare: begun, or refused. */
int spare_restart(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
void spare_tick(struct daemon *d, struct domain *dom, uint64_t now);
uint64_t spare_next_tick(const struct domain *dom); /* 0: none */
/* Its request for sockets of the uplink was answered; error 0: they are in its channel. */
void spare_uplink(struct daemon *d, struct domain *dom, int error, const char *text);

/* ------------------------------------------------------------- heartbeat.c */
/* A frontend says that its work stands still: its driver domain is asked whether it lives. */
void heartbeat_stalled(struct daemon *d, struct domain *driver);
/* A frontend caught its driver domain lying. */
void heartbeat_lie(struct daemon *d, struct domain *guest, unsigned i, const char *what);
int heartbeat_watch(struct daemon *d, domid_t domid, bool on);
void heartbeat_store_event(struct daemon *d, domid_t domid);
void heartbeat_tick(struct daemon *d, struct domain *dom, uint64_t now);

/* -------------------------------------------------------------- recovery.c */
/* An incarnation that ran is dead; what was connected is waited for. */
void recovery_begin(struct daemon *d, struct domain *dom, uint64_t at_ns);
/* The next one runs, and everything was handed over to it. */
void recovery_handed_over(struct daemon *d, struct domain *dom, bool warm);
/* A frontend reports: "BE_DOMID DOWN_NS ATTACHED_NS FIRST_NS". */
void recovery_outage(struct daemon *d, struct domain *guest, unsigned i, const char *report);
void recovery_look(struct daemon *d, struct domain *dom);
void recovery_tick(struct daemon *d, struct domain *dom, uint64_t now);
json_t *recovery_phases(const struct domain *dom);
extern const char *const phase_names[PHASES];

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

void split_init(struct domain *dom); /* from its spec, which has no holes yet */
/* Its device i is as its spec has it there; nothing of it is made yet. */
void split_place(struct domain *dom, unsigned i);
/* The same with what spec, which has no holes, says of dev; false: nothing. */
bool split_place_from(struct domain *dom, unsigned i, const struct domain_spec *spec, const char *dev);
/* The place of that device; SPLITS_MAX: there is none. */
unsigned split_find(const struct domain *dom, const char *dev);
/* From *i on; false: there is none. */
bool split_next(const struct domain *dom, unsigned *i);
bool disk_next(const struct domain *dom, unsigned *i);
bool nic_next(const struct domain *dom, unsigned *k);
static inline bool split_is_disk(unsigned i)
{
    return i < FIRST_NIC;
}
/* Both directories of a slot, in one transaction; what an older backend had there is removed. */
int split_write_nodes(struct daemon *d, struct domain *guest, unsigned i, unsigned slot, domid_t be,
                      bool standby);
void split_remove_nodes(struct daemon *d, struct domain *guest, unsigned i, unsigned slot);
/* Its spare's nodes are those of its incarnation now. */
void split_is_live(struct daemon *d, const struct domain *guest, unsigned i);
/* Live slot: the state that the frontend wrote; the backend's complaint, "" when there is none. */
unsigned split_frontend_state(struct daemon *d, const struct domain *guest, unsigned i);
void split_backend_error(struct daemon *d, const struct domain *guest, unsigned i, char *out, size_t cap);
/* The other slot: the state that the spare wrote. */
unsigned split_standby_state(struct daemon *d, const struct domain *guest, unsigned i);
/* /local/domain/FE/report/CLS/ID, where the frontend says what it lives through. */
#define REPORT_MAX 128
int split_open_report(struct daemon *d, struct domain *guest, unsigned i);
void split_close_report(struct daemon *d, struct domain *guest, unsigned i);
bool split_read_report(struct daemon *d, const struct domain *guest, unsigned i, const char *key,
                       char out[REPORT_MAX]); /* cleaned; false: there is none */
int split_watch(struct daemon *d, const struct domain *guest, unsigned i); /* again: dom_adopted() */
const char *split_words(const struct domain *guest); /* "disks", "NICs", "disks and NICs" */
int home_make(struct daemon *d, const char *name, domid_t domid);
void home_remove(struct daemon *d, domid_t domid);

/* ------------------------------------------------------- vbd.c and vif.c */
/* What is theirs of the two directories. */
void vbd_nodes(const struct domain *guest, unsigned i, bool standby, struct nodes *backend,
               struct nodes *frontend);
void vif_nodes(const struct domain *guest, unsigned nic, struct nodes *backend, struct nodes *frontend);
/* Opens the device for disk i afresh in its driver domain, which is running. */
int vbd_assign(struct daemon *d, struct domain *guest, unsigned i);
/* The same ahead, in its spare: the fence makes it wait. */
int vbd_assign_ahead(struct daemon *d, struct domain *guest, unsigned i, struct spare *spare);
/* By the same number again, in the domain be: the backend knows it by that. */
int vbd_assign_again(struct daemon *d, const struct domain *guest, unsigned i, struct vbd *vbd, domid_t be);
void vbd_release(struct daemon *d, struct domain *guest, unsigned i);
void vbd_release_ahead(struct daemon *d, struct domain *guest, unsigned i, domid_t spare);
void vbd_open_sentence(const struct domain *guest, unsigned i, int error, char why[DAEMON_SENTENCE_MAX]);
const char *device_error_text(int error);
void vif_mac_text(const uint8_t mac[6], char out[18]);

/* ---------------------------------------------------------------- uplink.c */
/* Refused before anything is made: its interface is another's. */
int uplink_check(struct daemon *d, const struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
/* After the domain was made, before it runs: its nodes, and its files begin to be opened. */
int uplink_prepare(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
/* The same for its spare; an uplink with files has none. */
int uplink_prepare_spare(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX]);
bool uplink_files_open(const struct domain *dom);
void uplink_clear(struct domain *dom); /* this incarnation is no more */
bool uplink_needs_keeper(const struct domain_spec *spec);
/* "up", "down", "gone", "unknown", or "" when there is none or it does not run. */
const char *uplink_state(struct daemon *d, const struct domain *dom);

/* ---------------------------------------------------------------- keeper.c */
void keeper_init(struct daemon *d);
/* Starts it when it does not run. */
int keeper_start(struct daemon *d, char why[DAEMON_SENTENCE_MAX]);
int keeper_channel(int channel[2], const char *whose, char why[DAEMON_SENTENCE_MAX]); /* a new one */
void keeper_channel_passed(int channel[2]); /* its process has its end */
void keeper_close_channel(int channel[2]);
/* Sends all that is to be asked, as far as the keeper takes it. */
void keeper_ask(struct daemon *d);
/* What it has of a domain goes: the uplink back to the machine, TAP devices for good. */
void keeper_release(struct daemon *d, struct domain *dom);
/* The process that had it is no more; the keeper has it for the next one. */
void keeper_drop(struct kept *kept);
void keeper_serve(struct daemon *d, short revents);
void keeper_died(struct daemon *d, int status);
/* It runs on under this daemon, if the core and the parcel have it. */
void keeper_adopted(struct daemon *d);
/* True: it has ended, or is given up; everything that it held was given back first. */
bool keeper_end(struct daemon *d, uint64_t now);

/* ------------------------------------------------------- store_process.c */
/* Starts it, with a new journal or with the old one; 0, or a negative errno with a sentence. */
int store_process_first(struct daemon *d, char *why, size_t cap);
int store_process_start(struct daemon *d, char *why, size_t cap);
/* Its death was told. It is made again at once, or when its back-off is over. */
void store_process_died(struct daemon *d, int status);
/* Its death is suspected: as above, but for the telling. */
void store_process_look(void *daemon);
void store_process_tick(struct daemon *d, uint64_t now);

/* ----------------------------------------------------------------- adopt.c */
/*
 * The core lives, its toolstack died: takes over everything that runs.  First, before the store is
 * connected to: what was parked and written down; 0, or a negative errno with a sentence.
 */
int adopt_prepare(struct daemon *d, char *why, size_t cap);
void adopt_all(struct daemon *d);
/* Puts the descriptors that must outlive this daemon where the next one finds them. */
void adopt_park(struct daemon *d);

/* ----------------------------------------------------------------- state.c */
/* Writes down what a next daemon must know; only what changed. */
void state_save(struct daemon *d);
/* Reads it back for every domain that is defined, and the daemon's own. */
void state_load(struct daemon *d);

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
/* Waits for what act() begins; false: it was refused, and that is answered. */
bool session_ask(struct daemon *d, struct session *s, struct domain *dom, unsigned what,
                 int (*act)(struct daemon *, struct domain *, char *));
/* The request is handled anew when that domain is settled, or gone. */
void session_defer(struct session *s, json_t *request, const char *name);
/* True: some were. */
bool session_turns(struct daemon *d);
void session_progress(struct daemon *d, struct domain *dom, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* --------------------------------------------------------------- request.c */
void request_handle(struct daemon *d, struct session *s, const char *line, size_t bytes);
void request_run(struct daemon *d, struct session *s, json_t *request);

/* ------------------------------------------------- report.c and metrics.c */
json_t *report_list(struct daemon *d);
json_t *report_info(struct daemon *d, struct domain *dom);
json_t *report_metrics(struct daemon *d); /* a string */
/* Driver domains first, then by name; how many. */
int report_sorted(struct daemon *d, const struct domain *out[DAEMON_DOMAINS_MAX]);
double report_uptime(const struct domain *dom); /* seconds */

#endif
