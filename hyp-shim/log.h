/* SPDX-License-Identifier: MIT */
/* log.h - one sentence for the operator, on stderr, without allocating. */
#ifndef BULKHEAD_LOG_H
#define BULKHEAD_LOG_H

#define LOG_SENTENCE_BYTES 512

/* Says what, where, and what to do. Adds the newline; cuts what is too long. */
void log_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
