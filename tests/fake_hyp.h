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
 * as HYP_EV_DEATH.  No store connection and no devices but those that
 * fake_hyp_store() and fake_hyp_device() give; toolstack calls give
 * -EOPNOTSUPP.  A domid that is alive already aborts.
 */
struct hyp *fake_hyp_new(domid_t domid);

/* From now on maps of this domain report that memory went away. */
void fake_hyp_fault(struct hyp *grantee);

/*
 * From now on hyp_store_fd() (once for each handle) and hyp_store_connect()
 * return what connect() does: a descriptor that becomes the caller's, or a
 * negative errno.  NULL, as at first: -ENOENT and -EAGAIN.
 */
void fake_hyp_store(int (*connect)(domid_t domid));

/* The device is there: HYP_EV_DEVICE, and hyp_device_acquire() gives fd, once. */
void fake_hyp_device(struct hyp *hyp, uint32_t number, int fd);

/* HYP_EV_STOP, as hyp_domain_stop() sends it. */
void fake_hyp_stop(struct hyp *hyp);

/*
 * Forgets everything; all handles must be closed.  Returns what leaked since
 * the last call: handles still open, and pools, maps and event channels that
 * hyp_close() had to end since their owner had not.
 */
unsigned fake_hyp_reset(void);

#endif
