/* SPDX-License-Identifier: MIT */
/* words.h - sentences of a report, one after the other. */
#ifndef BULKHEAD_BENCH_WORDS_H
#define BULKHEAD_BENCH_WORDS_H

#include <stddef.h>

struct words {
    char text[2048];
    size_t used;
};

/* What does not fit is left out as a whole. */
void words_add(struct words *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* No space at the end. */
void words_end(struct words *w);

#endif
