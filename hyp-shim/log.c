/* SPDX-License-Identifier: MIT */
/* log.c - lines on stderr. */
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "log.h"

void log_line(const char *fmt, ...)
{
    char line[LOG_SENTENCE_BYTES];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    size_t bytes = (size_t)n < sizeof(line) - 1 ? (size_t)n : sizeof(line) - 2;
    line[bytes++] = '\n';
    /* A log that nobody reads any more is no reason to fail. */
    ssize_t wrote = write(STDERR_FILENO, line, bytes);
    (void)wrote;
}
