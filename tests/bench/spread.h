/* SPDX-License-Identifier: MIT */
/* spread.h - least, middle and most of repeated runs. */
#ifndef BULKHEAD_BENCH_SPREAD_H
#define BULKHEAD_BENCH_SPREAD_H

#include <stdlib.h>

struct spread {
    double min, median, max;
};

static inline int spread_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts values in place; n of 0 gives zeroes. */
static inline struct spread spread_of(double *values, unsigned n)
{
    if (n == 0)
        return (struct spread){0, 0, 0};
    qsort(values, n, sizeof(*values), spread_order);
    double median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
    return (struct spread){values[0], median, values[n - 1]};
}

#endif
