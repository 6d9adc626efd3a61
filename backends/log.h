/* SPDX-License-Identifier: MIT */
/* log.h - one sentence for the operator, on stderr, without allocating. */
#ifndef BULKHEAD_BACKENDS_LOG_H
#define BULKHEAD_BACKENDS_LOG_H

#define BACKEND_LOG_MAX 512

/* Says what, where, and what to do. Adds the newline; cuts what is too long. */
void backend_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
