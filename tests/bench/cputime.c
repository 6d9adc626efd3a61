/* SPDX-License-Identifier: MIT */
#include "cputime.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t cputime_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec ts;
    if (pid <= 0 || clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &ts) != 0)
        return 0;
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int cputime_place(pid_t pid, const uint64_t *cpus, unsigned n)
{
    char path[64];
    cpu_set_t set;
    CPU_ZERO(&set);
    for (unsigned i = 0; i < n; i++)
        CPU_SET(cpus[i], &set);
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (!tasks)
        return -errno;
    int error = 0;
    for (struct dirent *e; (e = readdir(tasks)) && !error;) {
        pid_t task = (pid_t)strtol(e->d_name, NULL, 10);
        if (task > 0 && sched_setaffinity(task, sizeof(set), &set) < 0)
            error = errno == ESRCH ? 0 : -errno;
    }
    closedir(tasks);
    return error;
}
