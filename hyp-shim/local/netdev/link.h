/* SPDX-License-Identifier: MIT */
/*
 * link.h - what the toolstack, the netdev keeper and those who get a network
 * interface from it say to each other.
 *
 * The keeper (bulkhead-netdev, class HYP_CLASS_NETDEV) is the one program that
 * touches the machine's network interfaces.  It takes an uplink into a network
 * namespace that holds nothing else, opens the sockets that a driver domain's
 * PMD would open, and makes the TAP devices of guests.  It is as trusted as the
 * core for the machine's network; it hears nobody but the toolstack and the
 * kernel, and never reads from a channel that leads to a domain.
 *
 *   toolstack  --- link_request (+ channel) --->  keeper     one SOCK_SEQPACKET socket,
 *   toolstack  <--------- link_event ----------   keeper     descriptor LINK_CONTROL_FD
 *   keeper     --- link_grant (+ sockets) ----->  domain     one SOCK_SEQPACKET channel for each
 *                                                            incarnation, descriptor LINK_CHANNEL_FD
 *
 * An uplink stays in its namespace from its first request until LINK_RELEASE,
 * whatever happens to the driver domains that use it; then it goes back to the
 * machine's namespace.  Several incarnations of a driver domain may have it at
 * once, with net_af_packet: one that serves, and its spares, which hear nothing.
 * The keeper ends when the toolstack's end of its socket is closed everywhere: one
 * that someone keeps for the next toolstack keeps it too.  Losing the keeper loses virtual interfaces (a veth dies
 * with its namespace) and gives hardware back to the machine.
 */
#ifndef BULKHEAD_LOCAL_LINK_H
#define BULKHEAD_LOCAL_LINK_H

#include <stdint.h>

#define LINK_VERSION     1u
#define LINK_NAME_MAX    16   /* IFNAMSIZ, with NUL                                    */
#define LINK_NETNS_MAX   64   /* a name below /run/netns, with NUL; "" the machine's    */
#define LINK_SOCKETS_MAX 8
#define LINK_UPLINKS_MAX 32
#define LINK_TAPS_MAX    256
#define LINK_WHY_MAX     200

#define LINK_CONTROL_FD  6    /* keeper: the toolstack                                  */
#define LINK_CHANNEL_FD  6    /* driver domain, TAP door: the keeper                    */

enum link_op {
    LINK_UPLINK = 1, /* take the interface (once), send its sockets over the channel    */
    LINK_TAP,        /* make a TAP device in a namespace, send it over the channel; it has
                      * IFF_NO_PI and IFF_VNET_HDR. Asked for again by the same id it is
                      * the same one, up all the while, unless name or netns differ      */
    LINK_RELEASE,    /* uplink: back to the machine's namespace; TAP: removed, once nobody
                      * else has it                                                      */
    LINK_STATE       /* event only: an uplink's state changed                            */
};

/* What a PMD will do with an uplink, and so which sockets it gets.  [0] is always
 * an AF_INET socket that is good for ioctl and shut for anything else. */
enum link_kind {
    LINK_KIND_PACKET = 1, /* net_af_packet: [1..2] AF_PACKET, not bound, with a filter that drops
                           * everything: whoever serves takes it off (SO_DETACH_FILTER)   */
    LINK_KIND_XDP,        /* net_af_xdp: [1] AF_XDP, [2] XSK map with the program attached */
    LINK_KIND_TAP         /* net_tap: [1..2] /dev/net/tun of one TAP (IFF_MULTI_QUEUE, with packet
                           * information, both queues attached); it is made, in the machine's
                           * namespace, and removed with the last holder                  */
};

enum link_state { LINK_UP = 1, LINK_DOWN, LINK_GONE /* no such interface any more */,
                  LINK_BACK /* there is one of that name again; ask anew to get it */ };

struct link_request {
    uint32_t version;
    uint32_t op;      /* enum link_op                                                   */
    uint32_t id;      /* chosen by the toolstack; names the uplink or TAP in events      */
    uint32_t kind;    /* enum link_kind; uplink                                          */
    uint32_t index;   /* comes with the grant: which NIC of that domain                  */
    uint32_t mtu;     /* 0: leave it                                                     */
    uint8_t mac[6];   /* TAP                                                             */
    uint8_t zero[2];
    char name[LINK_NAME_MAX];
    char netns[LINK_NETNS_MAX]; /* TAP: where                                            */
}; /* UPLINK, TAP: with one descriptor, the keeper's end of the channel to the domain    */

/* One for each request, in order, and LINK_STATE at any time. */
struct link_event {
    uint32_t op, id;
    int32_t error;    /* 0 or a negative errno                                           */
    uint32_t state;   /* enum link_state                                                 */
    uint32_t mtu;     /* as it is now                                                    */
    uint8_t mac[6];
    uint8_t zero[2];
    char why[LINK_WHY_MAX]; /* error: one sentence                                        */
};

/* With sockets: here it is.  Without: its state changed. */
struct link_grant {
    uint32_t version;
    uint32_t kind;    /* enum link_kind, 0 for a guest's TAP                              */
    uint32_t index;
    uint32_t state;
    uint32_t ifindex;
    uint32_t mtu;
    uint8_t mac[6];
    uint8_t zero[2];
    char name[LINK_NAME_MAX];
    uint32_t nsockets;
};

#endif
