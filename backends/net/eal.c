/* SPDX-License-Identifier: MIT */
/*
 * eal.c - DPDK's environment layer, started without a file system.
 *
 * EAL asks sysfs for processors, and takes its heap from a memfd when it has
 * no hugetlbfs.  Both are answered here, by the wrapped calls below.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

#include "../../hyp-shim/log.h"
#include "eal.h"
#include "uplink.h"

#define MIB            ((size_t)1 << 20)
#define HUGE_BYTES     (2 * MIB)
#define LOG_LINES_MAX  100 /* of DPDK's, in the life of this process: some are for each bad packet */
#define LOG_LINE_BYTES 256

static cpu_set_t allowed;  /* processors of this process */
static size_t heap_bytes;
static bool heap_is_huge;

/* --------------------------------------------------------------- processors */

/* One node, each processor a core of its own: nothing here depends on more. */
WRAP(int, eal_cpu_detected, unsigned cpu)
{
    return cpu < CPU_SETSIZE && CPU_ISSET(cpu, &allowed);
}

WRAP(unsigned, eal_cpu_core_id, unsigned cpu)
{
    return cpu;
}

WRAP(unsigned, eal_cpu_socket_id, unsigned cpu)
{
    (void)cpu;
    return 0;
}

/* VFIO, asked for in sysfs: not here. */
WRAP(int, rte_eal_check_module, const char *name)
{
    (void)name;
    return 0;
}

/* --------------------------------------------------------------------- heap */

/* Huge pages without hugetlbfs: all of them now, or ordinary ones. */
WRAP(int, memfd_create, const char *name, unsigned flags)
{
    if (strcmp(name, "nohuge") == 0) {
        int fd = __real_memfd_create(name, flags | MFD_HUGETLB);
        heap_is_huge = fd >= 0 && fallocate(fd, 0, 0, (off_t)heap_bytes) == 0;
        if (heap_is_huge)
            return fd;
        if (fd >= 0)
            close(fd);
    }
    return __real_memfd_create(name, flags);
}

/* EAL reserves addresses for its heap first, at any page. */
static void *reserve_aligned(void *at, int prot, int flags, int fd, off_t offset)
{
    size_t bytes = heap_bytes + HUGE_BYTES;
    uint8_t *got = __real_mmap64(at, bytes, prot, flags, fd, offset);
    if (got == MAP_FAILED)
        return got;
    uint8_t *heap = (uint8_t *)(((uintptr_t)got + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
    if (heap > got)
        munmap(got, (size_t)(heap - got));
    size_t rest = (size_t)(got + bytes - (heap + heap_bytes));
    if (rest > 0)
        munmap(heap + heap_bytes, rest);
    return heap;
}

WRAP(void *, mmap64, void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
    if (heap_is_huge && prot == PROT_NONE && bytes == heap_bytes)
        return reserve_aligned(at, prot, flags, fd, offset);
    return answers_mmap64(at, bytes, prot, flags, fd, offset);
}

/* ---------------------------------------------------------------------- log */

static bool listening;
static char said[LOG_LINE_BYTES];

static ssize_t take_line(void *cookie, const char *text, size_t bytes)
{
    static unsigned lines;
    int n = (int)strcspn(text, "\n");

    (void)cookie;
    if (n > (int)bytes)
        n = (int)bytes;
    if (listening)
        snprintf(said, sizeof(said), "%.*s", n, text);
    else if (n > 0 && __atomic_fetch_add(&lines, 1, __ATOMIC_RELAXED) < LOG_LINES_MAX)
        log_line("DPDK: %.*s", n, text);
    return (ssize_t)bytes;
}

static bool open_log(void)
{
    FILE *f = fopencookie(NULL, "w", (cookie_io_functions_t){ .write = take_line });
    return f && setvbuf(f, NULL, _IONBF, 0) == 0 && rte_openlog_stream(f) == 0;
}

void eal_listen(bool on)
{
    listening = on;
    if (on)
        said[0] = '\0';
}

const char *eal_said(void)
{
    return said;
}

/* -------------------------------------------------------------------- start */

int uplink_start_eal(int cpu, unsigned mib, const char **why)
{
    char lcores[32], heap[16];
    char *argv[] = { "bulkhead-net", "--lcores", lcores, "-m", heap, "--no-huge", "--no-pci", "--no-shconf",
                     "--no-telemetry", "--log-level", "error", NULL };
    static char sentence[LOG_LINE_BYTES + 64];

    *why = sentence;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0) {
        snprintf(sentence, sizeof(sentence), "which processors this domain may use cannot be found out");
        return -errno;
    }
    mib += mib & 1; /* whole huge pages */
    heap_bytes = mib * MIB;
    snprintf(lcores, sizeof(lcores), "0@%d", cpu);
    snprintf(heap, sizeof(heap), "%u", mib);
    if (!open_log()) {
        snprintf(sentence, sizeof(sentence), "DPDK's log cannot be redirected");
        return -ENOMEM;
    }
    eal_listen(true);
    int got = rte_eal_init((int)(sizeof(argv) / sizeof(argv[0])) - 1, argv);
    int err = got < 0 ? -rte_errno : 0;
    eal_listen(false);
    if (got < 0) {
        snprintf(sentence, sizeof(sentence), "DPDK does not start with %u MiB on processor %d: %s", mib,
                 cpu, said);
        return err < 0 ? err : -EIO;
    }
    /* EAL has pinned this thread; only workers are pinned here. */
    return sched_setaffinity(0, sizeof(allowed), &allowed) < 0 ? -errno : 0;
}
