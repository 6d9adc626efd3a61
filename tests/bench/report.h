/* SPDX-License-Identifier: MIT */
/* report.h - figures as people and programs read them. */
#ifndef BULKHEAD_BENCH_REPORT_H
#define BULKHEAD_BENCH_REPORT_H

#include <jansson.h>

#include "spread.h"

/* {"min":..,"median":..,"max":..}, owned by the caller. */
json_t *report_spread(struct spread s);

/* One line on stdout; the object is given away. */
void report_object(json_t *object);

/* Words on lines of 88 columns. */
void report_paragraph(const char *text);

#endif
