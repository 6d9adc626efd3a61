/* SPDX-License-Identifier: MIT */
#include "count.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static uint64_t counters[XSD_COUNT_MAX];

void xsd_count(enum xsd_counter c)
{
    counters[c]++;
}

uint64_t xsd_counted(enum xsd_counter c)
{
    return counters[c];
}

void xsd_count_reset(void)
{
    memset(counters, 0, sizeof(counters));
}

size_t xsd_count_print(char *out, size_t cap)
{
    static const char *const names[] = {
#define X(name) #name,
        XSD_COUNTERS(X)
#undef X
    };
    size_t used = 0;

    for (size_t i = 0; i < XSD_COUNT_MAX; i++) {
        int n = snprintf(out + used, cap - used, "%s %" PRIu64 "\n", names[i], counters[i]);
        if (n < 0 || (size_t)n >= cap - used)
            break;
        used += (size_t)n;
    }
    return used;
}
