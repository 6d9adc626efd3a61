/* SPDX-License-Identifier: MIT */
/*
 * stack.h - a whole private stack for one benchmark.
 *
 * A daemon in a run directory of its own, one driver domain, some guests that
 * this process then becomes by their attach sockets.  Everything goes through
 * the daemon's socket as the `bulkhead` command would do it.  Each function
 * returns 0 or a negative errno, and says what went wrong in st->error.
 */
#ifndef BULKHEAD_BENCH_STACK_H
#define BULKHEAD_BENCH_STACK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "../../hyp-shim/store.h"

#define STACK_CPUS_MAX 64u

struct stack {
    char dir[64];    /* the private run directory; "" when there is none */
    pid_t daemon;    /* 0 when there is none                             */
    FILE *in;        /* the daemon's socket                              */
    int out;
    bool no_spare;   /* its driver domains are to have none              */
    char error[512];
};

struct stack_disk {
    const char *target; /* "vda"                                        */
    const char *path;   /* NULL: ram                                     */
    uint64_t bytes;     /* of a ram disk                                 */
    bool readonly;
};

/*
 * CPUs that this process may use, split in two: guests' threads on the first
 * part, workers of the driver domain on the rest.  When a part has fewer CPUs
 * than there are queues both get all, and share them.
 */
struct stack_cpus {
    bool shared;
    unsigned guests_count, backend_count;
    uint64_t guests[STACK_CPUS_MAX], backend[STACK_CPUS_MAX];
};
void stack_cpus(unsigned queues, struct stack_cpus *out);

/* After any outcome, stack_end() takes down what there is. */
int stack_start(struct stack *st);
void stack_end(struct stack *st);

/* A driver domain for disks with one worker on each of n CPUs. */
int stack_driver_domain(struct stack *st, const char *name, const uint64_t *cpus, unsigned n);
/* A native guest with one disk from that driver domain; attach receives the
 * socket's path. */
int stack_guest(struct stack *st, const char *name, const char *driver_domain, const struct stack_disk *disk,
                unsigned queues, char *attach, size_t attach_bytes);

/* A guest with a vhost-user door and n disks (at most STACK_VHOST_DISKS), as libvirt's XML has it; socket
 * receives the path of each.  No VMM is started: who connects is the guest. */
#define STACK_VHOST_DISKS 2u
#define STACK_SOCKET_MAX  108u
int stack_vhost_guest(struct stack *st, const char *name, const char *driver_domain,
                      const struct stack_disk *disks, unsigned n, unsigned queues,
                      char (*socket)[STACK_SOCKET_MAX]);

/* The same for NICs.  The guest's one NIC is eth0. */
struct stack_uplink {
    const char *devargs; /* NULL: none, a switch between guests          */
    unsigned mtu;
};
struct stack_nic {
    uint8_t mac[6];
    unsigned mtu, queues;
};
int stack_net_driver_domain(struct stack *st, const char *name, const struct stack_uplink *uplink,
                            const uint64_t *cpus, unsigned n);
int stack_net_guest(struct stack *st, const char *name, const char *driver_domain,
                    const struct stack_nic *nic, char *attach, size_t attach_bytes);
/* A guest with a vhost-user door and one NIC, eth0. */
int stack_vhost_net_guest(struct stack *st, const char *name, const char *driver_domain,
                          const struct stack_nic *nic, char socket[STACK_SOCKET_MAX]);
int stack_define_and_start(struct stack *st, const char *name, const char *xml);
/* Where a program of the stack is that is not a command: bulkhead-blk, ... */
int stack_program(struct stack *st, const char *name, char *path, size_t bytes);
int stack_stop_domain(struct stack *st, const char *name);

/* A connection to the stack's store, as the toolstack; store_close() it before stack_end(). */
int stack_store(struct stack *st, struct store **out);

/* A connection of its own on which the daemon's events come, a line each: a
 * descriptor of the caller's, or a negative errno. */
int stack_events(struct stack *st);

/* One request; *reply (when not NULL) is the daemon's last line, owned by the caller. */
int stack_call(struct stack *st, json_t *request, json_t **reply);
/* A request on a connection of its own, whose answer nobody waits for: a descriptor that
 * the caller closes, or a negative errno. */
int stack_post(struct stack *st, json_t *request);

/* `info` of a domain, owned by the caller; NULL and st->error: there is none. */
json_t *stack_info(struct stack *st, const char *name);
/* CPU time of all threads of a running domain so far, in ns; 0 when it cannot be told. */
uint64_t stack_cpu_ns(struct stack *st, const char *name);
/* Of a running domain; 0 when it has none. */
unsigned stack_domid(struct stack *st, const char *name);
pid_t stack_pid(struct stack *st, const char *name);

#endif
