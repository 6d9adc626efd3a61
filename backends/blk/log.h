/* SPDX-License-Identifier: MIT */
/* log.h - one sentence for the operator, on stderr, without allocating. */
#ifndef BULKHEAD_BLK_LOG_H
#define BULKHEAD_BLK_LOG_H

#define BLK_LOG_MAX 512

/* Says what, where, and what to do. Adds the newline; cuts what is too long. */
void blk_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
