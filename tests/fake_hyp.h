/* SPDX-License-Identifier: MIT */
/*
 * fake_hyp.h - a third hypervisor, inside one test process.
 *
 * Two or more domains live in the same address space: a grant is a table
 * entry, a map is a second mapping of the same memfd, an event channel is a
 * pair of pipes.  Same rules and errno values as the real ones, so that units
 * and fuzzers drive frontends and backends through hyp.h as they are.
 */
#ifndef BULKHEAD_TESTS_FAKE_HYP_H
#define BULKHEAD_TESTS_FAKE_HYP_H

#include "../hyp-shim/hyp.h"

/*
 * A handle for one fake domain, alive until hyp_close(), which the others get
 * as HYP_EV_DEATH.  No store connection; device and toolstack calls give
 * -EOPNOTSUPP.  A domid that is alive already aborts.
 */
struct hyp *fake_hyp_new(domid_t domid);

/* From now on maps of this domain report that memory went away. */
void fake_hyp_fault(struct hyp *grantee);

/* HYP_EV_STOP, as hyp_domain_stop() sends it. */
void fake_hyp_stop(struct hyp *hyp);

/*
 * Forgets everything; all handles must be closed.  Returns what leaked since
 * the last call: handles still open, and pools, maps and event channels that
 * hyp_close() had to end since their owner had not.
 */
unsigned fake_hyp_reset(void);

#endif
