/* SPDX-License-Identifier: MIT */
/*
 * core.h - the local hypervisor: the only process with every privilege (the
 * keeper of network interfaces, netdev/, has three capabilities).
 *
 * It owns who exists, who granted which pages to whom, who rings whom, and who
 * has which device.  It never sees payload: it hands out descriptors.
 *
 *   core.c     the loop, the dispatch table, replies and events
 *   domain.c   the table of domains: create, destroy, death
 *   toolstack.c  the one that says what is to be: how it goes and comes again
 *   pool.c     grant pools          evtchn.c  event channels
 *   device.c   assignment, opening and the fence
 *   launch.c   the privileged half of starting a process; child.c is the half
 *              that the new process runs itself, up to exec; classes.c says
 *              which program and which limits each class has
 *   inspect.c  answers to `bulkhead info`
 *
 * Rules that hold throughout:
 * - One thread.  Nothing waits: sockets are used with MSG_DONTWAIT, and work
 *   that may take long (opening a file, closing one, freeing a large pool) is
 *   done by a throw-away process.
 * - No heap.  Every table is here and has its size in limits.h.
 * - A call is hostile.  It is refused whole, for a reason that has a name and
 *   a counter, or carried out whole.
 * - What poll() said is a hint: things end while a turn goes on, so each
 *   handler asks the kernel again and takes "nothing there" for an answer.  A
 *   domain's slot is free for another only after the turn (domain_sweep()).
 *
 * Every test that needs a core makes a struct core, and may replace the
 * functions that touch processes (struct core_process_ops) by its own.
 */
#ifndef BULKHEAD_CORE_H
#define BULKHEAD_CORE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "../../clock.h"
#include "../proto.h"
#include "../rights.h"

/* ------------------------------------------------------------------ tables */

/* For each entry of a table, or of its first n; e is a new name.
 * NOLINTNEXTLINE(bugprone-macro-parentheses) */
#define EACH_OF(e, table, n) for (__typeof__(&(table)[0]) e = (table); e < (table) + (n); e++)
#define EACH(e, table) EACH_OF(e, table, sizeof(table) / sizeof((table)[0]))

enum domain_state {
    DOMAIN_FREE,
    DOMAIN_ALIVE,
    DOMAIN_DYING, /* SIGKILL sent, not reaped; makes no calls any more         */
    DOMAIN_DEAD,  /* everything of it freed; some have still to be told        */
};

/* A reply on its way, and the descriptors that go with it; they are ours. */
struct core_answer {
    struct core_reply reply; /* op CORE_OP_NONE: no answer here                */
    int fds[2];
    bool slow;               /* they may take long to close                    */
};

struct domain {
    enum domain_state state;
    domid_t domid;
    uint32_t class_id;   /* enum hyp_class; 0 for the toolstack                */
    uint32_t rights;     /* HYP_MAY_*                                          */
    char name[HYP_NAME_MAX];

    int sock;            /* its core connection; -1 none                       */
    int pidfd;           /* -1: no process                                     */
    int launch_sock;     /* to the child until it has called exec; -1 after    */
    int namespaces[2];   /* of its process, or -1: see launch_step()           */
    pid_t pid;
    int wait_status;

    bool unpaused;       /* its calls are served                               */
    bool greeted;        /* said HELLO: it may be sent events                  */
    bool ready;
    bool clogged;        /* its socket is full: nothing is done for it         */
    bool news;           /* there may be an event for it                       */
    bool complained;     /* its first refusal was logged                       */
    bool stop_event;     /* HYP_EV_STOP to be sent to it                       */
    bool ready_event;    /* its HYP_EV_READY to be sent to the toolstack       */
    bool release;        /* the store has still to be told of its death        */
    bool related[CORE_DOMAINS_MAX]; /* by slot: shares, or shared, something   */
    bool tell[CORE_DOMAINS_MAX];    /* DOMAIN_DEAD: has still to be told       */

    uint64_t at_ns;      /* when it was ready, or died                         */
    uint64_t calls, refused;
    uint64_t grant_limit, grant_pages; /* pages allowed, pages in pools        */
    uint32_t pools, evtchns, devices;  /* how many it has                      */
    uint32_t store_connects;           /* to this store                        */
    uint32_t next_ref, next_port;
    struct core_answer unsent;
};

struct grantee {
    struct domain *domain;  /* NULL: none, or dead                             */
    uint32_t mapped;        /* its maps                                        */
};

struct pool {
    struct domain *granter; /* NULL: free                                      */
    struct grantee grantee; /* without one there is no spare                   */
    struct grantee spare;   /* the grantee when that one dies                  */
    int fd;                 /* the sealed memfd                                */
    bool rdonly, huge;
    uint32_t first, pages;  /* grant references first .. first + pages - 1     */
};

struct evtchn {
    struct domain *owner;   /* who allocated it; NULL: free                    */
    struct domain *remote;
    uint32_t port, remote_port; /* remote_port 0: not bound                    */
    int rd, wr;             /* the remote's ends until it binds, then -1       */
};

enum device_state { DEVICE_FREE, DEVICE_OPENING, DEVICE_FAILED, DEVICE_OPEN, DEVICE_ACQUIRED };

struct device {
    enum device_state state;
    struct domain *owner;
    uint32_t number;
    bool rdonly;
    bool by_threads; /* its fence is the death of its owner: child.c           */
    bool wanted; /* the owner asked: it gets the descriptor with the event     */
    bool tell_owner, tell_toolstack;
    int sock;    /* OPENING: to the opener                                     */
    int pidfd;   /* OPENING: the opener, to kill it; a copy of the helper's    */
    int fd;      /* OPENING and by_threads: it still waits for its lock. OPEN: what
                  * was opened.  ACQUIRED: a copy, if by_threads, to be unlocked at the
                  * owner's death; else no table but the owner's has it        */
    int error;
    uint64_t at_ns; /* when that was known                                     */
};

/* Throw-away processes, until reaped: openers may be half of them, the rest
 * close what may take long to close. */
#define CORE_HELPERS_MAX (2 * CORE_DEVICES_MAX)

/* Why calls were refused: its name in the log, and the errno that it gets. */
#define CORE_REFUSALS(X) \
    X(LEN, "bad_len", EINVAL)       /* not the call's own length                    */ \
    X(OP, "bad_op", ENOSYS)         /* no such call                                 */ \
    X(RIGHT, "bad_right", EPERM)    /* the caller has not, or has given up, the right */ \
    X(FDS, "bad_fds", EINVAL)       /* descriptors where there may be none, or too many */ \
    X(FIELD, "bad_field", EINVAL)   /* a field out of range, a reserved one not zero */ \
    X(DOMID, "bad_domid", ESRCH)    /* no such domain, or not that one              */ \
    X(REF, "bad_ref", EACCES)       /* not granted to the caller                    */ \
    X(PORT, "bad_port", ENOENT)     /* not the caller's, or not offered to it       */ \
    X(DEVICE, "bad_device", ENOENT) /* not assigned to the caller                   */ \
    X(QUOTA, "quota", EDQUOT)       /* the caller has its share                     */ \
    X(FULL, "full", ENOSPC)         /* a table is full                              */
enum core_refusal {
#define X(reason, name, error) REFUSED_##reason,
    CORE_REFUSALS(X) REFUSED_COUNT
#undef X
};

struct core_process_ops;

struct core_config {
    int toolstack;        /* SOCK_SEQPACKET: the toolstack, domid 0            */
    int adopt;            /* where the next toolstack connects; -1: there is none */
    const char *libexec;  /* absolute path of the directory of programs        */
    const struct core_process_ops *ops;
};

/* Where in the poll table each kind of descriptor stands, by slot. */
enum {
    POLL_STORE,
    POLL_ADOPT,
    POLL_SOCK,                                  /* of domains                  */
    POLL_PROCESS = POLL_SOCK + CORE_DOMAINS_MAX,
    POLL_LAUNCH = POLL_PROCESS + CORE_DOMAINS_MAX,
    POLL_OPENER = POLL_LAUNCH + CORE_DOMAINS_MAX,
    POLL_HELPER = POLL_OPENER + CORE_DEVICES_MAX,
    POLL_COUNT = POLL_HELPER + CORE_HELPERS_MAX
};

struct core {
    const struct core_process_ops *ops;
    const char *libexec;
    int store_control;            /* our end; -1: there is no store            */
    int adopt;                    /* listens; -1: we end with the toolstack    */
    int parcel[2];                /* what toolstacks leave for each other      */
    int over;                     /* 1: it was ended                           */

    struct domain domains[CORE_DOMAINS_MAX]; /* [0]: the toolstack             */
    struct pool pools[CORE_POOLS_MAX];
    struct evtchn evtchns[CORE_EVTCHNS_MAX];
    struct device devices[CORE_DEVICES_MAX];
    int helpers[CORE_HELPERS_MAX];           /* pidfds, the first nhelpers     */
    unsigned pools_end, evtchns_end;         /* no entry in use from here on   */
    unsigned nhelpers;
    unsigned turn;                           /* rotates who is served first    */
    bool sweep_due, fences_due;
    domid_t last_domid;

    uint64_t stats[REFUSED_COUNT];

    struct pollfd poll[POLL_COUNT];
};

/* ------------------------------------------------------------- life (core.c) */

/* Fills *core (all zero before), which owns the sockets from then on.  0 or a
 * negative errno, with one line said on stderr. */
int core_init(struct core *core, const struct core_config *config);

/* Waits at most timeout_ms (-1: for ever) and does one round of work.
 * 0: go on; 1: it was ended; negative: the core cannot go on. */
int core_turn(struct core *core, int timeout_ms);

/* Kills every domain, waits for them and closes everything. */
void core_end(struct core *core);

/* ------------------------------------------------------------- calls (core.c) */

struct call {
    struct domain *from;
    const union core_call_any *in;
    struct rights in_fds;     /* closed after the call                         */
    struct core_answer out;   /* out.fds are sent and closed                   */
    bool costly;              /* enough for this turn                          */
};

typedef int call_handler(struct core *core, struct call *call);

/* Counts and returns the errno of that refusal. */
int core_refuse(struct core *core, const struct call *call, enum core_refusal why);
/* Sends, or keeps to be sent when there is room; closes the descriptors. */
void core_answer(struct core *core, struct domain *to, struct core_answer *answer);
/* Closes the descriptors of an answer that is not to be sent. */
void core_discard(struct core *core, struct core_answer *answer);
/* One more descriptor for an answer, which owns it from now on. */
void core_attach(struct core_answer *answer, int fd);

/* One line on stderr: "bulkhead-core: ...".  Lost rather than waited for. */
void core_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The kernel's words for an errno of either sign. */
const char *core_strerror(int error);
void core_close(int *fd); 
/* ------------------------------------------------------------------ domain.c */

call_handler domain_call_hello, domain_call_ready, domain_call_restrict, domain_call_store,
    domain_call_create, domain_call_order;

/* A free slot set up as a domain; NULL when there is none. */
struct domain *domain_new(struct core *core, domid_t domid, uint32_t class_id, const char *name);
/* The living domain of that number, or NULL. */
struct domain *domain_find(struct core *core, uint32_t domid);
unsigned domain_slot(const struct core *core, const struct domain *d);
/* "name" and domid for log lines; static buffer. */
const char *domain_label(const struct domain *d);
/* From now on each is told of the other's death. */
void domain_relate(struct core *core, struct domain *a, struct domain *b);
/* Ends it: SIGKILL and, when reaped, domain_died(). */
void domain_kill(struct core *core, struct domain *d);
/* Its connection hung up.  The toolstack lives in its next process. */
void domain_hangup(struct core *core, struct domain *d);
/* Its process ended, if it did. */
void domain_reap(struct core *core, struct domain *d);
/* Frees everything of it. */
void domain_died(struct core *core, struct domain *d);
/* Frees the slots of dead domains of which everyone was told, and closes what is
 * left of them, when it is quiet.  True: that is to be done. */
bool domain_sweep(struct core *core, bool quiet);

/* --------------------------------------------------------------- toolstack.c */

call_handler toolstack_call_parcel, toolstack_call_end;
int toolstack_init(struct core *core, const struct core_config *config);
/* Its connection hung up. */
void toolstack_left(struct core *core);
/* Someone connected to become it. */
void toolstack_adopt(struct core *core);

/* -------------------------------------------------------------------- pool.c */

call_handler pool_call_create, pool_call_grant, pool_call_end, pool_call_map, pool_call_unmap;
void pool_domain_died(struct core *core, struct domain *d);

/* ------------------------------------------------------------------ evtchn.c */

call_handler evtchn_call_alloc, evtchn_call_bind, evtchn_call_close;
void evtchn_domain_died(struct core *core, struct domain *d);

/* ------------------------------------------------------------------ device.c */

call_handler device_call_acquire, device_call_assign, device_call_release;
/* The opener of that device said something, or ended. */
void device_opened(struct core *core, struct device *dev);
/* Frees what need not be unlocked first; told: everyone was, and all of it goes. */
void device_domain_died(struct core *core, struct domain *d, bool told);
/* Unlocks what the dead had, where their death is the fence.  True: someone waited for it. */
bool device_pass_fences(struct core *core);
/* The next event about a device for that domain; sent() when it was sent. */
struct device *device_event(struct core *core, const struct domain *to);
void device_event_sent(struct core *core, struct device *dev, const struct domain *to);
/* Closes a descriptor that may take long to close, in a process of its own. */
void helper_close(struct core *core, int *fd);
/* Forgets helpers that ended. */
void helper_reap(struct core *core);

/* ----------------------------------------------------------------- inspect.c */

call_handler inspect_call_info, inspect_call_holding;

/* ----------------------------------------------------------------- classes.c */

/* What a class runs and gets.  A class that is not there cannot be made. */
struct core_class {
    const char *program;    /* in the libexec directory; NULL: no process      */
    bool user_namespace;
    bool host_files;        /* the host's programs and libraries, read-only    */
    uint32_t rights;        /* HYP_MAY_*                                       */
    uint64_t capabilities;  /* bit mask, 0 none.  Who has some stays root, in
                             * the machine's user, mount and net namespaces    */
    uint64_t grant_pages;   /* default limit                                   */
    uint64_t memory;        /* default RLIMIT_DATA                             */
    uint64_t files;         /* RLIMIT_NOFILE                                   */
    uint64_t tasks;         /* RLIMIT_NPROC                                    */
};
const struct core_class *core_class(uint32_t class_id);
/* The uid, and gid, that a domain's process has. */
uid_t core_uid(const struct domain *d);

/* ------------------------------------------------------------------ launch.c */

struct launch {
    int program_fd;
    int log_fd;             /* becomes stderr                                  */
    int core_fd, store_fd;  /* become DOMAIN_CORE_FD and DOMAIN_STORE_FD       */
    const int *fds;         /* become DOMAIN_FIRST_FD and up                   */
    unsigned nfds;
    uint64_t memory;        /* RLIMIT_DATA                                     */
    uint64_t cpus;          /* affinity mask; 0: all                           */
};

/* What touches processes.  Every function returns at once. */
struct core_process_ops {
    /* Starts the process of d; sets its pid, pidfd and launch_sock. */
    int (*launch)(struct core *core, struct domain *d, const struct launch *how);
    /* The launch socket of d is readable. */
    void (*launch_step)(struct core *core, struct domain *d);
    int (*kill)(int pidfd);
    /* 1 ended, with its wait status; 0 still there. */
    int (*reap)(int pidfd, int *status);
    /* A process that opens a device; through *sock it sends an int32_t, OPENER_* bits or
     * a negative errno, and once the descriptor: without OPENER_LOCKED there is more to
     * come. */
    int (*open_device)(const struct core_call_assign *how, int *sock, int *pidfd);
    /* A process that closes fd in our table. */
    int (*close_slow)(int fd, int *pidfd);
};
extern const struct core_process_ops core_processes;
#define OPENER_LOCKED     1 /* it has its lock                                 */
#define OPENER_BY_THREADS 2 /* see child.c                                     */

/* From a child that is not yet its program: it failed in that step.  Or, with
 * LAUNCH_MAP: write my uid and gid maps and send this back. */
struct launch_message {
    int32_t step, error;
};
#define LAUNCH_MAP (-2)

/* ------------------------------------------------------------------- child.c */

struct child {
    const struct core_class *cls;
    const struct launch *how;
    const char *libexec, *name;
    uid_t id;               /* uid and gid                                     */
};

/* Becomes the program of a struct child; sock: far end of launch_sock. */
_Noreturn void child_run(const void *child, int sock);
/* Words for the step that failed: "enter its user namespace". */
const char *child_step_name(int step);
/* Opens the device that a struct core_call_assign names and sends it. */
_Noreturn void child_open_device(const void *assign, int sock);

#endif
