/* SPDX-License-Identifier: MIT */
/*
 * netdev.h - the keeper of the machine's network interfaces (see link.h for
 * what it does and what it says to whom).
 *
 *   main.c     its start, its jail and the loop; requests and answers
 *   uplink.c   the table of uplinks: taken, watched, given back
 *   sockets.c  what a driver domain gets for an uplink
 *   late.c     what is closed later
 *   tap.c      TAP devices, of guests and of net_tap
 *   netns.c    network namespaces
 *   rtnl.c     links, over rtnetlink
 *
 * One thread, no heap, every table here.  A function returns 0 or a
 * descriptor, or a negative errno; with `why` it then also says one sentence:
 * what, where, what to do.
 *
 * The process is in the machine's network namespace but for moments: who
 * enters another goes back before it returns (netns.c ends the process when
 * that fails).
 */
#ifndef BULKHEAD_LOCAL_NETDEV_H
#define BULKHEAD_LOCAL_NETDEV_H

#include <stdbool.h>
#include <stdint.h>

#include "../../log.h"
#include "link.h"

/* ------------------------------------------------------------------- main.c */

/* "bulkhead-netdev: ...", one line. */
#define netdev_log(...) log_line("bulkhead-netdev: " __VA_ARGS__)
/* Puts the sentence in why and returns error. */
int netdev_refuse(char why[LINK_WHY_MAX], int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void netdev_close(int *fd); /* closes unless -1; leaves -1 */

/* ------------------------------------------------------------------ netns.c */

/* First: where the process is now is the machine's. */
int netns_init(void);
int netns_machine(void); /* descriptor of it */
/* An empty one, with IPv6 off where the kernel lets us; lives as long as the
 * descriptor, or something in it. */
int netns_new(void);
/* The one that `ip netns` calls so. */
int netns_named(const char *name, char why[LINK_WHY_MAX]);
/* Into it, and back.  back() does not fail: it ends the process instead. */
int netns_enter(int fd);
void netns_back(void);
/* Of the keeper's jail: what netns_new(), netns_named() and tap.c open below.
 * Makes the folders that this machine does not have yet. */
#define NETNS_PATHS_MAX 3
unsigned netns_paths(int paths[NETNS_PATHS_MAX]);

/* ------------------------------------------------------------------- rtnl.c */

/* A link as the kernel describes it. */
struct rtnl_link {
    int index;
    unsigned flags;  /* IFF_*                                                  */
    uint32_t mtu;
    int master;      /* of which bridge or bond; 0 none                        */
    uint8_t mac[6];
};

/* What is to be changed; zero means leave it, but for netns and xdp: -1. */
struct rtnl_change {
    unsigned flags, mask; /* of mask, those bits of IFF_*                      */
    uint32_t mtu;
    const uint8_t *mac;
    bool no_ipv6;         /* makes no address by itself                        */
    int netns;            /* move it there                                     */
    bool xdp;             /* attach xdp_prog, -1: detach                       */
    int xdp_prog;
    uint32_t xdp_flags;
};
#define RTNL_CHANGE { .netns = -1, .xdp_prog = -1 }

/* A socket for requests, or one that becomes readable when a link changes; in
 * the namespace in which the process is now. */
int rtnl_open(void);
int rtnl_open_news(void);
/* Forgets what it said: who is interested looks again. */
void rtnl_drain(int fd);
int rtnl_find(int fd, const char *name, struct rtnl_link *out); /* -ENODEV: none */
int rtnl_change(int fd, int index, const struct rtnl_change *what);
/* Whether it has an address that is of use beyond the link. */
bool rtnl_addressed(int fd, int index);

/* ---------------------------------------------------------------- sockets.c */

struct sockets {
    unsigned n;
    int fd[LINK_SOCKETS_MAX];
};

/* A socket that is good for asking about interfaces and for nothing else: it
 * sends nothing, even in the machine's namespace. */
int sockets_ask(void);
/* What link.h lists for PACKET and XDP, in the namespace in which the process
 * is now; XDP: the program is attached to that link over rtnl. */
int sockets_open(struct sockets *s, uint32_t kind, int rtnl, int index, const char *name,
                 char why[LINK_WHY_MAX]);
void sockets_close(struct sockets *s);
/* A filter that drops everything, until someone takes it off. */
int sockets_take_nothing(int fd);

/* ------------------------------------------------------------------- late.c */

#define LATE_MS 100 /* of quiet, before one is closed */

/* Closes it, but later; leaves -1. It takes no frame any more. */
void late_close(int *fd);
bool late_waiting(void);
void late_close_one(void);

/* -------------------------------------------------------------------- tap.c */

/* A guest's TAP where the request says, up; out: as it is.  The same one as before
 * when it was asked for by this id.  Its descriptor, which stays the keeper's. */
int tap_guest(const struct link_request *q, struct rtnl_link *out, char why[LINK_WHY_MAX]);
/* -ENOENT: there is none of this id. */
int tap_release(uint32_t id);
/* What link.h lists for LINK_KIND_TAP, in the machine's namespace. */
int tap_uplink(const struct link_request *q, struct sockets *s, struct rtnl_link *out,
               char why[LINK_WHY_MAX]);

/* ----------------------------------------------------------------- uplink.c */

#define UPLINK_CHANNELS_MAX 4 /* incarnations of its driver domain that may live at once */
#define UPLINK_COPIES       2 /* packet sockets of one */

struct uplink {
    uint32_t id, kind;
    char name[LINK_NAME_MAX];
    bool used;
    bool news;             /* the toolstack has still to be told of state       */
    enum link_state state;
    struct rtnl_link link; /* as last seen                                      */
    uint32_t old_mtu;      /* before it was ours                                */
    int netns;             /* its own; -1 for LINK_KIND_TAP                     */
    int rtnl, watch;       /* sockets in it; -1 for LINK_KIND_TAP               */
    int channel[UPLINK_CHANNELS_MAX]; /* -1: unused                             */
    int copy[UPLINK_CHANNELS_MAX][UPLINK_COPIES]; /* of what went there: see late.c */
};

int uplink_init(void);
struct uplink *uplink_at(unsigned i); /* below LINK_UPLINKS_MAX */
/* Takes it if need be, opens its sockets, sends them over the channel, which it
 * owns from now on.  *out: the uplink. */
int uplink_request(const struct link_request *q, int channel, struct uplink **out, char why[LINK_WHY_MAX]);
int uplink_release(uint32_t id, char why[LINK_WHY_MAX]);
void uplink_release_all(void);
/* Links changed there: looks at what may be concerned. */
void uplink_look(struct uplink *u);
void uplink_look_machine(void);
/* The other end of that channel is gone. */
void uplink_hangup(struct uplink *u, unsigned channel);

#endif
