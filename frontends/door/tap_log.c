/* SPDX-License-Identifier: MIT */
#include "tap_log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

void tap_log(const char *fmt, ...)
{
    char line[512] = "bulkhead-tap: ";
    size_t used = sizeof("bulkhead-tap: ") - 1, room = sizeof(line) - used - 1;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line + used, room, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    used += (size_t)n < room ? (size_t)n : room - 1;
    line[used++] = '\n';
    if (write(STDERR_FILENO, line, used) < 0)
        return; /* nobody reads the log: nothing to be done about it */
}
