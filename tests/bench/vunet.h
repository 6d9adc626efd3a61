/* SPDX-License-Identifier: MIT */
/* vunet.h - what `bulkhead bench vunet` was asked, and has measured. */
#ifndef BULKHEAD_BENCH_VUNET_H
#define BULKHEAD_BENCH_VUNET_H

#include "counters.h"
#include "options.h"

struct vunet_options {
    uint32_t size;   /* of a frame                                            */
    bool rx;         /* the guest receives; else it sends                     */
    bool packed;
    bool vhost;      /* measure testpmd's net_vhost as well                   */
    struct options_common common;
};

/* As bench_options_parse(); --packed takes no value. */
int vunet_options_parse(struct vunet_options *opt, int argc, char **argv, char *err, size_t err_bytes);

struct vunet_figures {
    double mpps[BENCH_RUNS_MAX], peer_mpps[BENCH_RUNS_MAX], ratio[BENCH_RUNS_MAX];
    double packets, peer_packets;              /* that arrived, all runs      */
    uint64_t sent;                             /* by the guest                */
    uint64_t guest_ns, door_ns, driver_ns;     /* CPU                         */
    uint64_t peer_guest_ns, peer_vhost_ns;
    struct counters vif, uplink;
    double apart[BENCH_RUNS_MAX];              /* round trip between the two CPUs, ns */
    unsigned repeated, moved;                  /* runs in which that changed  */
    bool shared;                               /* all have to share CPUs      */
    bool peer_there;
    char peer_why[256];                        /* why not                     */
};

void vunet_report(const struct vunet_options *opt, struct vunet_figures *f);

#endif
