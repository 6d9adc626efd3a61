/* SPDX-License-Identifier: MIT */
#include "words.h"

#include <stdarg.h>
#include <stdio.h>

void words_add(struct words *w, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(w->text + w->used, sizeof(w->text) - w->used, format, ap);
    va_end(ap);
    w->used += n > 0 && (size_t)n < sizeof(w->text) - w->used ? (size_t)n : 0;
    w->text[w->used] = '\0';
}

void words_end(struct words *w)
{
    while (w->used && w->text[w->used - 1] == ' ')
        w->text[--w->used] = '\0';
}
