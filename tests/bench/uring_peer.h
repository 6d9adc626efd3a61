/* SPDX-License-Identifier: MIT */
/*
 * uring_peer.h - the same load on the same file through plain io_uring.
 *
 * No Bulkhead anywhere: this process opens the file and asks the kernel, with
 * a registered file, registered buffers and one system call a batch.  That is
 * the least that any disk server on this machine could cost.
 */
#ifndef BULKHEAD_BENCH_URING_PEER_H
#define BULKHEAD_BENCH_URING_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "load.h"

struct uring_peer {
    int fd;
};

/* An existing file or block device, buffered.  0 or a negative errno. */
int uring_peer_open(struct uring_peer *peer, const char *path, bool writable);
/* What stands for a RAM disk: an unlinked file in the page cache, all written. */
int uring_peer_open_cached(struct uring_peer *peer, uint64_t bytes);
void uring_peer_close(struct uring_peer *peer);

/* A load_fn; target is a struct uring_peer. */
int uring_peer_load(void *target, const struct load_job *job, unsigned queue, struct load_result *out);

#endif
