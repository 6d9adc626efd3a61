/* SPDX-License-Identifier: MIT */
#include "hugepages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER "/sys/kernel/mm/hugepages/hugepages-2048kB/"

static int read_number(const char *path, unsigned long *out)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return -errno;
    char text[32] = "", *end = text;
    if (fgets(text, sizeof(text), f))
        *out = strtoul(text, &end, 10);
    fclose(f);
    return end != text ? 0 : -EIO;
}

static int write_number(const char *path, unsigned long value)
{
    FILE *f = fopen(path, "we");
    if (!f)
        return -errno;
    fprintf(f, "%lu", value);
    return fclose(f) == 0 ? 0 : -errno;
}

int hugepages_reserve(struct hugepages *h, unsigned n, char *why, size_t why_bytes)
{
    unsigned long total = 0, free_now = 0;
    *h = (struct hugepages){0};
    int error = read_number(FOLDER "nr_hugepages", &total);
    if (!error)
        error = read_number(FOLDER "free_hugepages", &free_now);
    if (!error && free_now >= n)
        return 0;
    if (!error)
        error = write_number(FOLDER "nr_hugepages", total + n - free_now);
    if (!error) {
        h->added = n - free_now;
        error = read_number(FOLDER "free_hugepages", &free_now);
    }
    if (!error && free_now >= n)
        return 0;
    hugepages_restore(h);
    if (error)
        snprintf(why, why_bytes, "no huge pages can be reserved here: %s", strerror(-error));
    else
        snprintf(why, why_bytes, "of %u huge pages of 2 MiB only %lu could be reserved: free some memory",
                 n, free_now);
    return error ? error : -ENOMEM;
}

/* What was added goes, rather than all but what was there: others may have
 * changed the number since. */
void hugepages_restore(struct hugepages *h)
{
    unsigned long total = 0;
    if (h->added && read_number(FOLDER "nr_hugepages", &total) == 0)
        write_number(FOLDER "nr_hugepages", total > h->added ? total - h->added : 0);
    h->added = 0;
}
