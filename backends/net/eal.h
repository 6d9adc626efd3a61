/* SPDX-License-Identifier: MIT */
/* eal.h - between eal.c, answers.c and uplink.c. */
#ifndef BULKHEAD_NET_EAL_H
#define BULKHEAD_NET_EAL_H

#include <sys/types.h>

/* A call that the linker sends here, and the real one. */
#define WRAP(type, name, ...)            \
    type __real_##name(__VA_ARGS__);     \
    type __wrap_##name(__VA_ARGS__);     \
    type __wrap_##name(__VA_ARGS__)

void *__real_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
/* mmap64() of anything but EAL's heap. */
void *answers_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);

/* What DPDK logs goes to eal_said() from now on instead of the log, until
 * eal_listen(false): a PMD that opens as it can, with a complaint, is no news;
 * one that does not open says why. */
void eal_listen(bool on);
/* Its last line, "" if none. */
const char *eal_said(void);

#endif
