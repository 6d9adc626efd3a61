/* SPDX-License-Identifier: MIT */
/* vublk.h - what `bulkhead bench vublk` has measured. */
#ifndef BULKHEAD_BENCH_VUBLK_H
#define BULKHEAD_BENCH_VUBLK_H

#include "load.h"
#include "vublk_options.h"
#include "vublk_verify.h"

#define VUBLK_RAM_BYTES (256ull << 20)
#define VUBLK_SERVERS   2u /* processes that serve one side */

/* One server of a disk, over all runs. */
struct vublk_side {
    const char *name;              /* "bulkhead", "qsd", ...; NULL: not measured   */
    const char *server[VUBLK_SERVERS]; /* whose CPU time; NULL: no more            */
    double kiops[BENCH_RUNS_MAX];
    double ratio[BENCH_RUNS_MAX];  /* of a peer: ours by its, in neighbouring runs */
    struct load_result sum;
    uint64_t server_ns[VUBLK_SERVERS];
    bool packed;
};

enum vublk_sides { VUBLK_OURS, VUBLK_QSD, VUBLK_SAME, VUBLK_SIDES };

struct vublk_figures {
    struct vublk_side side[VUBLK_SIDES];
    double same_ratio[BENCH_RUNS_MAX]; /* VUBLK_SAME by qsd                          */
    bool shared;                       /* the guest and who serves it share CPUs     */
    bool huge;                         /* the guest's memory is of huge pages        */
    char disk[128], peer_disk[128];    /* on what                                    */
};

void vublk_report(const struct vublk_options *opt, struct vublk_figures *f);
void vublk_report_verify(const struct vublk_options *opt, const struct vublk_disk *disk,
                         const struct verify_tally *t, bool ended);

#endif
