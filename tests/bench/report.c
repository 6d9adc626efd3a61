/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <stdio.h>
#include <string.h>

json_t *report_spread(struct spread s)
{
    return json_pack("{s:f,s:f,s:f}", "min", s.min, "median", s.median, "max", s.max);
}

void report_object(json_t *object)
{
    json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(object);
}

void report_paragraph(const char *text)
{
    unsigned column = 0;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (column && column + n + 1 > 88) {
            putchar('\n');
            column = 0;
        }
        column += (unsigned)printf("%s%.*s", column ? " " : "", (int)n, text);
        text += n + strspn(text + n, " ");
    }
    putchar('\n');
}
