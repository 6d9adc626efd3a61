/* SPDX-License-Identifier: MIT */
/* vublk_options.h - what the operator asked `bulkhead bench vublk` to do. */
#ifndef BULKHEAD_BENCH_VUBLK_OPTIONS_H
#define BULKHEAD_BENCH_VUBLK_OPTIONS_H

#include "options.h"

struct vublk_options {
    const char *device;   /* "ram", "null" or a path                              */
    enum load_op op;
    uint32_t bs;
    uint32_t segment;     /* bytes that lie together in guest memory; 0: all of a request */
    unsigned depth;
    bool packed, direct;  /* direct: no indirect descriptors                      */
    bool no_event_idx;
    bool sleeps;          /* the guest waits for interrupts, it does not poll     */
    bool qsd;             /* measure that peer as well                            */
    const char *socket;   /* measure what is there; NULL: a stack of its own      */
    bool verify;          /* check every block instead of measuring               */
    bool reconnect;       /* a device that hangs up is called again               */
    bool no_inflight;
    uint64_t span;        /* verify: bytes of the disk, from its beginning; 0: all, at most 256 MiB */
    unsigned hang_up_ms;  /* verify: how often it hangs up by itself; 0: never    */
    double patience;      /* verify: s; a request that takes longer is lost       */
    uint64_t seed;        /* verify: 0: another one each time                     */
    struct options_common common;
};

/* As bench_options_parse(); --packed, --verify and others take no value. */
int vublk_options_parse(struct vublk_options *opt, int argc, char **argv, char *err, size_t err_bytes);

#endif
