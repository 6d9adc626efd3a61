/* SPDX-License-Identifier: MIT */
/* count.h - what happened, by name.  `XS_CONTROL counters` tells dom0. */
#ifndef BULKHEAD_STORE_COUNT_H
#define BULKHEAD_STORE_COUNT_H

#include <stddef.h>
#include <stdint.h>

#define XSD_COUNTERS(X)                                                        \
    X(requests)                                                                \
    X(events)                                                                  \
    X(events_merged)   /* the reader was slow: told "look again" instead    */ \
    X(bad_length)      /* message longer than the protocol allows           */ \
    X(bad_type)                                                                \
    X(bad_payload)     /* missing or embedded NUL, wrong number of strings  */ \
    X(bad_path)                                                                \
    X(bad_txn)                                                                 \
    X(bad_perms)                                                               \
    X(bad_control)     /* from the core: should stay 0                      */ \
    X(not_permitted)                                                           \
    X(not_privileged)  /* a call that only dom0 may make                    */ \
    X(over_quota)                                                              \
    X(txn_conflicts)                                                           \
    X(held_back)       /* guests' writes delayed for a starved transaction  */ \
    X(stalled)         /* no request is taken: the sender does not read     */ \
    X(tools_refused)   /* connections of unknown uids, or too many          */ \
    X(domains_in)                                                              \
    X(domains_out)

enum xsd_counter {
#define X(name) XSD_COUNT_##name,
    XSD_COUNTERS(X)
#undef X
    XSD_COUNT_MAX
};

void xsd_count(enum xsd_counter c);
uint64_t xsd_counted(enum xsd_counter c);
void xsd_count_reset(void);
/* "name value\n" lines; returns the bytes written, less than cap. */
size_t xsd_count_print(char *out, size_t cap);

#endif
