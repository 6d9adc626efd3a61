/* SPDX-License-Identifier: MIT */
/*
 * devargs.h - which port, in DPDK's words: "net_af_packet0,iface=eth1".
 *
 * The toolstack has checked them already, and so does this: a known driver,
 * with options that are known to do no harm.  Not among those, on purpose, is
 * any that names a path to load, another interface, an address in memory, or
 * more than one queue.
 */
#ifndef BULKHEAD_NET_DEVARGS_H
#define BULKHEAD_NET_DEVARGS_H

#include "../../hyp-shim/local/netdev/link.h"
#include "uplink.h"

#define DEVARGS_KEYS_MAX 8

/* What a PMD may be told, and what is to be known about it. */
struct pmd {
    const char *name;
    const char *keys[DEVARGS_KEYS_MAX];
    enum link_kind kind; /* sockets that the keeper sends; 0: none                         */
    bool soft_offloads;  /* it computes checksums itself; that is done better before       */
};

/* Taken apart in place; text is the port's name. */
struct devargs {
    char text[UPLINK_DEVARGS_MAX];
    const struct pmd *pmd;
    unsigned n;
    const char *key[DEVARGS_KEYS_MAX], *value[DEVARGS_KEYS_MAX];
};

/* A sentence for the operator. */
struct words {
    char *at;
    size_t bytes;
};

/* 0, or a negative errno and why: nothing is left of it. */
int devargs_parse(struct devargs *d, const char *text, uint16_t mtu, const struct words *why);
/* NULL: not given. */
const char *devargs_value(const struct devargs *d, const char *key);

/* Says why and returns err. */
__attribute__((format(printf, 3, 4)))
int devargs_refuse(const struct words *why, int err, const char *fmt, ...);

#endif
