/* SPDX-License-Identifier: MIT */
/* net_options.h - what the operator asked a network benchmark to do. */
#ifndef BULKHEAD_BENCH_NET_OPTIONS_H
#define BULKHEAD_BENCH_NET_OPTIONS_H

#include "options.h"

enum net_direction { NET_TX = 1, NET_RX = 2, NET_BOTH = NET_TX | NET_RX }; /* of the guest */

struct net_options {
    uint32_t size;       /* of a frame, 0: the mix                      */
    const char *uplink;  /* devargs; NULL: one that suits the direction */
    bool guest_guest;    /* else guest to uplink                        */
    enum net_direction direction;
    bool memif, vhost;   /* measure these peers as well                 */
    struct options_common common;
};

const char *net_direction_name(enum net_direction direction);

/* As bench_options_parse(). */
int net_options_parse(struct net_options *opt, int argc, char **argv, char *err, size_t err_bytes);

#endif
