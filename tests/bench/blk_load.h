/* SPDX-License-Identifier: MIT */
/* blk_load.h - a load on a disk that a driver domain serves. */
#ifndef BULKHEAD_BENCH_BLK_LOAD_H
#define BULKHEAD_BENCH_BLK_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include <bulkhead/blkfront.h>

#include "load.h"

/* A load_fn; target is a struct blkfront.  Polls while there is work, sleeps on
 * the queue's descriptor after job->spins polls that found nothing. */
int blk_load(void *target, const struct load_job *job, unsigned queue, struct load_result *out);

/*
 * Does the disk hold what it is given?  Writes a pattern to places all over it
 * and reads them back into other buffers.  With a descriptor of the same file
 * (else -1) what was read is compared with the file as well; a disk that is
 * only read (write false) is compared with the file alone, or with what
 * blk_prepare() wrote.  0; -EILSEQ: wrong data; another negative errno.
 */
int blk_check(struct blkfront *disk, uint32_t bs, bool write, int fd);

/* Writes the whole disk once, so that no page of it is read before it exists. */
int blk_prepare(struct blkfront *disk);

#endif
