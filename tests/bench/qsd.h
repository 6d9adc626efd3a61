/* SPDX-License-Identifier: MIT */
/*
 * qsd.h - what people use today for vhost-user disks: qemu-storage-daemon, with the
 * options that its documentation gives.
 */
#ifndef BULKHEAD_BENCH_QSD_H
#define BULKHEAD_BENCH_QSD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct qsd {
    pid_t pid;       /* 0: none */
    int log;         /* what it says; -1 */
    char dir[64], socket[80];
};

struct qsd_disk {
    const char *path; /* NULL: null-co, which neither reads nor writes a byte */
    uint64_t bytes;   /* of null-co                                           */
    bool writable;
    unsigned queues;
};

/* Is the program there?  False: a sentence that says what to install. */
bool qsd_there(char *why, size_t why_bytes);

/* On those CPUs, until it listens on q->socket. 0, or a negative errno and a sentence.  Files are
 * read and written through the page cache, by io_uring. */
int qsd_start(struct qsd *q, const struct qsd_disk *disk, const uint64_t *cpus, unsigned n, char *why,
              size_t why_bytes);
void qsd_end(struct qsd *q);

#endif
