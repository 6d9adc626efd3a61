/* SPDX-License-Identifier: MIT */
#include "load.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOADS_MAX 4u

struct thread {
    pthread_t id;
    pthread_barrier_t *start;
    const struct load_pair *pair;
    unsigned queue;
    int error;
    struct load_result result;
};

const char *load_op_name(enum load_op op)
{
    static const char *const names[] = {"randread", "randwrite", "read", "write"};
    return names[op];
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t load_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

double load_kiops(const struct load_result *r)
{
    return r->wall_ns ? (double)r->ops * 1e6 / (double)r->wall_ns : 0;
}

double load_mib_s(const struct load_result *r, uint32_t bs)
{
    return load_kiops(r) * 1000.0 * bs / (1 << 20);
}

void load_pattern_init(struct load_pattern *p, const struct load_job *job, unsigned queue)
{
    uint64_t blocks = job->bytes / job->bs;
    *p = (struct load_pattern){.op = job->op, .bs = job->bs, .blocks = blocks};
    if (job->op == LOAD_READ || job->op == LOAD_WRITE) {
        p->blocks = blocks / job->queues;
        p->first = p->blocks * queue;
    }
    p->random = (job->seed + 1) * 0x9e3779b97f4a7c15u ^ (queue + 1) * 0xbf58476d1ce4e5b9u;
}

static uint64_t word_at(uint64_t offset, uint64_t salt)
{
    uint64_t x = offset + salt * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void load_fill(void *buf, uint32_t bytes, uint64_t offset, uint64_t salt)
{
    uint64_t *words = buf;
    for (uint32_t i = 0; i < bytes / 8; i++)
        words[i] = word_at(offset + i * 8u, salt);
}

bool load_is_filled(const void *buf, uint32_t bytes, uint64_t offset, uint64_t salt)
{
    const uint64_t *words = buf;
    for (uint32_t i = 0; i < bytes / 8; i++)
        if (words[i] != word_at(offset + i * 8u, salt))
            return false;
    return true;
}

static void *thread_main(void *arg)
{
    struct thread *t = arg;
    const struct load_job *job = t->pair->job;
    if (job->cpus) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(job->cpus[t->queue], &set);
        pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    }
    pthread_barrier_wait(t->start);
    t->error = t->pair->fn(t->pair->target, job, t->queue, &t->result);
    return NULL;
}

static void add_up(struct load_result *sum, const struct load_result *one)
{
    sum->ops += one->ops;
    sum->errors += one->errors;
    if (!sum->error)
        sum->error = one->error;
    if (one->wall_ns > sum->wall_ns)
        sum->wall_ns = one->wall_ns;
    histogram_merge(&sum->latency, &one->latency);
}

int load_run_all(const struct load_pair *pairs, unsigned n)
{
    unsigned total = 0, made = 0;
    for (unsigned i = 0; i < n; i++) {
        memset(pairs[i].out, 0, sizeof(*pairs[i].out));
        total += pairs[i].job->queues;
    }
    if (n > LOADS_MAX || total == 0 || total > LOADS_MAX * LOAD_QUEUES_MAX)
        return -EINVAL;
    struct thread *threads = calloc(total, sizeof(*threads));
    if (!threads)
        return -ENOMEM;
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, total);
    for (unsigned i = 0; i < n; i++)
        for (unsigned q = 0; q < pairs[i].job->queues; q++) {
            struct thread *t = &threads[made++];
            *t = (struct thread){.start = &start, .pair = &pairs[i], .queue = q};
            /* The others would wait at the barrier for good: there is no way on. */
            if (pthread_create(&t->id, NULL, thread_main, t) != 0)
                abort();
        }
    int error = 0;
    for (unsigned i = 0; i < total; i++) {
        pthread_join(threads[i].id, NULL);
        add_up(threads[i].pair->out, &threads[i].result);
        if (!error)
            error = threads[i].error;
    }
    pthread_barrier_destroy(&start);
    free(threads);
    return error;
}

int load_run(load_fn *fn, void *target, const struct load_job *job, struct load_result *out)
{
    struct load_pair pair = {.fn = fn, .target = target, .job = job, .out = out};
    uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID); /* with the kernel's helpers of a ring */
    int error = load_run_all(&pair, 1);
    out->cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    return error;
}
