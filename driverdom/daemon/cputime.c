/* SPDX-License-Identifier: MIT */
#include "cputime.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#define ENOUGH_NS 50000000ull /* to answer with, many times over */

static bool read_thread(pid_t pid, const char *tid, struct cputime_thread *out)
{
    char path[64], text[96], *end;

    snprintf(path, sizeof(path), "/proc/%d/task/%.16s/schedstat", (int)pid, tid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool told = fgets(text, sizeof(text), f);
    fclose(f);
    if (!told)
        return false;
    out->tid = (pid_t)strtol(tid, NULL, 10);
    out->ran = strtoull(text, &end, 10);
    out->waited = strtoull(end, NULL, 10);
    return true;
}

bool cputime_read(pid_t pid, struct cputime *out)
{
    char path[64];

    *out = (struct cputime){0};
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    if (!dir)
        return false;
    for (const struct dirent *e; out->n < CPUTIME_THREADS_MAX && (e = readdir(dir));)
        if (e->d_name[0] != '.')
            out->n += read_thread(pid, e->d_name, &out->thread[out->n]);
    closedir(dir);
    return out->n > 0;
}

bool cputime_starved(const struct cputime *then, const struct cputime *now, uint64_t elapsed_ns)
{
    for (unsigned i = 0; i < now->n; i++) {
        struct cputime_thread t = now->thread[i];

        for (unsigned k = 0; k < then->n; k++)
            if (then->thread[k].tid == t.tid) {
                t.ran -= then->thread[k].ran;
                t.waited -= then->thread[k].waited;
            }
        if (t.ran < ENOUGH_NS && t.waited > elapsed_ns / 4)
            return true;
    }
    return false;
}
