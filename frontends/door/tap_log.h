/* SPDX-License-Identifier: MIT */
/* tap_log.h - one sentence for the operator, on stderr, without a heap. */
#ifndef BULKHEAD_TAP_LOG_H
#define BULKHEAD_TAP_LOG_H

/* Adds the program's name and the newline; cuts what is too long. */
void tap_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
