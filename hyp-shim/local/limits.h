/* SPDX-License-Identifier: MIT */
/* limits.h - every table of the local hypervisor has its size here. */
#ifndef BULKHEAD_LOCAL_LIMITS_H
#define BULKHEAD_LOCAL_LIMITS_H

#define CORE_DOMAINS_MAX   128  /* domains alive at once, the toolstack included  */
#define CORE_POOLS_EACH    32   /* of one granter                                 */
#define CORE_EVTCHNS_EACH  128  /* allocated by one domain; it may bind any number */
#define CORE_DEVICES_EACH  64   /* of one driver domain                           */
#define CORE_DEVICES_MAX   512
#define CORE_STORE_CONNECTS 8   /* of one domain to one store; the toolstack: any  */
#define CORE_BUDGET        16   /* calls served for one domain in one turn        */
/* No domain can use up what another may have: every share exists. */
#define CORE_POOLS_MAX     (CORE_DOMAINS_MAX * CORE_POOLS_EACH)
#define CORE_EVTCHNS_MAX   (CORE_DOMAINS_MAX * CORE_EVTCHNS_EACH)
#define CORE_POOL_PAGES_MAX 262144u /* 1 GiB in one pool                          */

/* Identities.  A domain's uid is base + domid: never shared, and not reused
 * before 32,000 more domains were made. */
#define LOCAL_UID_BASE     1912602624u /* 0x72000000: in no range that others allot */
#define LOCAL_DOMID_LAST   0x7fefu     /* domids 1 .. this                        */
#define LOCAL_DOMID_STORE  0x7ffeu     /* identity of the store process           */

#endif
