/* SPDX-License-Identifier: MIT */
/* restart_disk.c - a guest of `bulkhead bench restart` that works on a disk. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "disk.h"
#include "restart_guest.h"

#define MAX_BYTES (RESTART_BLOCKS_MAX * BLOCK_BYTES)
#define BATCH     64
#define ATTACH_MS 10000
#define ATTACH_STEP_US 5000
#define TRIES     8 /* for a place that nobody works on */

struct slot {
    struct blkfront_io io;
    void *buf;
    uint32_t first, blocks; /* none: a flush                                */
    uint64_t begun_ns;      /* 0: not yet taken by the ring                */
    bool waiting, given_up;
};

struct disk {
    const struct guest_life *life;
    struct blkfront *front;
    const struct blkfront_info *info;
    struct slot slot[RESTART_DEPTH];
    unsigned ready[RESTART_DEPTH], nready; /* begun, not yet taken by the ring */
    unsigned waiting;                      /* slots that wait for an answer    */
    bool *busy;                            /* blocks that a request is about   */
    uint64_t random, asked, last;
};

static uint64_t pick(struct disk *d, uint64_t below)
{
    d->random ^= d->random << 13; /* xorshift64 */
    d->random ^= d->random >> 7;
    d->random ^= d->random << 17;
    return (uint64_t)(((unsigned __int128)d->random * below) >> 64);
}

/* ------------------------------------------------------------------- asking */

static bool is_free(const struct disk *d, uint32_t first, uint32_t n, bool *in_doubt)
{
    for (uint32_t i = first; i < first + n; i++) {
        if (d->busy[i])
            return false;
        *in_doubt |= record_in_doubt(d->life->record, i);
    }
    return true;
}

static bool find_place(struct disk *d, struct slot *s, bool *in_doubt)
{
    for (unsigned i = 0; i < TRIES; i++) {
        s->blocks = 1u << (pick(d, 2) ? 0 : pick(d, 5));
        s->first = (uint32_t)pick(d, d->life->record->blocks - s->blocks + 1);
        *in_doubt = false;
        if (is_free(d, s->first, s->blocks, in_doubt))
            return true;
    }
    return false;
}

/* Of a hundred requests. What the disk does not offer is a write instead. */
static void choose(struct disk *d, struct blkfront_io *io)
{
    uint64_t n = pick(d, 100);
    io->op = n < 40 ? BLKFRONT_READ : BLKFRONT_WRITE;
    io->flags = n >= 40 && n < 50 && d->info->can_fua ? BLKFRONT_FUA : 0;
    if (n >= 88 && n < 92 && d->info->can_flush)
        io->op = BLKFRONT_FLUSH;
    else if (n >= 92 && n < 96 && d->info->can_zeroes)
        io->op = BLKFRONT_ZEROES;
    else if (n >= 96 && d->info->can_discard && BLOCK_BYTES % d->info->discard_granularity == 0)
        io->op = BLKFRONT_DISCARD;
}

static void begin(struct disk *d, unsigned i)
{
    struct slot *s = &d->slot[i];
    struct record *record = d->life->record;
    bool in_doubt;

    s->io = (struct blkfront_io){.cookie = ++d->asked << 8 | i};
    choose(d, &s->io);
    s->blocks = 0;
    s->begun_ns = 0;
    if (s->io.op != BLKFRONT_FLUSH) {
        if (!find_place(d, s, &in_doubt))
            return;
        if (in_doubt) { /* a write would hide which one it was */
            s->io.op = BLKFRONT_READ;
            s->io.flags = 0;
        }
        s->io.offset = (uint64_t)s->first * BLOCK_BYTES;
        s->io.buf = s->buf;
        if (s->io.op == BLKFRONT_READ || s->io.op == BLKFRONT_WRITE)
            s->io.bytes = s->blocks * BLOCK_BYTES;
        else
            s->io.length = (uint64_t)s->blocks * BLOCK_BYTES;
        memset(d->busy + s->first, true, s->blocks);
    }
    if (s->io.op == BLKFRONT_READ)
        memset(s->buf, 0xee, s->io.bytes);
    if (s->io.op == BLKFRONT_ZEROES || s->io.op == BLKFRONT_DISCARD)
        record_begin(record, s->first, s->blocks, true);
    if (s->io.op == BLKFRONT_WRITE) {
        uint64_t sequence = record_begin(record, s->first, s->blocks, false);
        for (uint32_t k = 0; k < s->blocks; k++)
            block_write((char *)s->buf + k * BLOCK_BYTES, record->guest, s->first + k, sequence);
    }
    s->waiting = true;
    d->ready[d->nready++] = i;
}

static int push(struct disk *d)
{
    struct blkfront_io ios[RESTART_DEPTH];
    if (d->nready == 0)
        return 0;
    uint64_t now = load_now_ns();
    for (unsigned i = 0; i < d->nready; i++)
        ios[i] = d->slot[d->ready[i]].io;
    if (d->waiting == 0)
        d->last = now;
    int n = blkfront_submit(d->front, 0, ios, d->nready);
    if (n < 0)
        return n == -EAGAIN ? 0 : n;
    for (int i = 0; i < n; i++)
        d->slot[d->ready[i]].begun_ns = now;
    d->waiting += (unsigned)n;
    d->nready -= (unsigned)n;
    memmove(d->ready, d->ready + n, d->nready * sizeof(d->ready[0]));
    return 0;
}

/* ------------------------------------------------------------------ answers */

static void judge(struct disk *d, uint32_t first, uint32_t blocks, const void *data)
{
    struct guest_tally *tally = &d->life->board->tally;
    for (uint32_t i = 0; i < blocks; i++) {
        const void *block = (const char *)data + i * BLOCK_BYTES;
        enum record_verdict verdict = record_judge(d->life->record, first + i, block);
        if (verdict == RECORD_RIGHT)
            continue;
        *(verdict == RECORD_LOST ? &tally->lost : &tally->stale) += 1;
        guest_damaged(d->life, "block %u is %s", first + i, verdict == RECORD_LOST ? "lost" : "stale");
    }
}

static void answered(struct disk *d, const struct blkfront_result *result)
{
    struct guest_tally *tally = &d->life->board->tally;
    unsigned i = (unsigned)(result->cookie & 0xff);
    struct slot *s = &d->slot[i < RESTART_DEPTH ? i : 0];

    if (s->io.cookie == result->cookie && s->given_up)
        return; /* late: it counts as lost */
    if (s->io.cookie != result->cookie || !s->waiting) {
        tally->duplicated++;
        guest_damaged(d->life, "a completion that nobody waits for: %llx",
                      (unsigned long long)result->cookie);
        return;
    }
    s->waiting = false;
    d->waiting--;
    memset(d->busy + s->first, false, s->blocks);
    tally->requests++;
    if (result->error) {
        tally->errors++;
        guest_damaged(d->life, "operation %u of %u blocks at %u: %s", s->io.op, s->blocks, s->first,
                      strerror(-result->error));
    } else if (s->io.op == BLKFRONT_READ) {
        judge(d, s->first, s->blocks, s->buf);
    } else if (s->io.op != BLKFRONT_FLUSH) {
        record_acknowledge(d->life->record, s->first, s->blocks);
    }
}

static int reap(struct disk *d)
{
    struct blkfront_result done[BATCH];
    int n = blkfront_reap(d->front, 0, done, BATCH);
    if (n <= 0)
        return n;
    guest_completed(d->life, (uint64_t)n, &d->last, load_now_ns());
    for (int i = 0; i < n; i++)
        answered(d, &done[i]);
    return n;
}

/* What takes too long is lost; its slot and its blocks are used no more. */
static void give_up(struct disk *d)
{
    uint64_t now = load_now_ns();
    for (unsigned i = 0; i < RESTART_DEPTH; i++) {
        struct slot *s = &d->slot[i];
        if (!s->waiting || s->given_up || s->begun_ns == 0 || now - s->begun_ns < d->life->patience_ns)
            continue;
        s->given_up = true;
        d->waiting--;
        d->life->board->tally.lost++;
        guest_damaged(d->life, "operation %u of %u blocks at %u never ended", s->io.op, s->blocks, s->first);
    }
}

/* Sleeps until there are answers, or it is time to look at the orders. */
static int sleep_a_little(struct disk *d)
{
    int n = blkfront_wait(d->front, 0, RESTART_LOOK_MS);
    if (n == 0)
        give_up(d);
    return n < 0 && n != -EINTR ? n : 0;
}

static int drain(struct disk *d)
{
    int error = 0;
    while (!error && (d->waiting || d->nready)) {
        error = push(d);
        int n = error ? 0 : reap(d);
        if (n <= 0 && !error)
            error = n < 0 ? n : sleep_a_little(d);
    }
    return error;
}

/* --------------------------------------------------------------- whole passes */

static int read_and_judge(struct disk *d, uint32_t first, uint32_t blocks)
{
    struct slot *s = &d->slot[0];
    while (s->given_up && s < &d->slot[RESTART_DEPTH - 1])
        s++;
    if (s->given_up)
        return -ETIMEDOUT;
    unsigned i = (unsigned)(s - d->slot);
    s->first = first;
    s->blocks = blocks;
    s->io = (struct blkfront_io){.op = BLKFRONT_READ, .bytes = blocks * BLOCK_BYTES, .buf = s->buf,
                                 .offset = (uint64_t)first * BLOCK_BYTES, .cookie = ++d->asked << 8 | i};
    s->waiting = true;
    s->begun_ns = 0;
    d->ready[d->nready++] = i;
    int error = drain(d);
    return !error && s->given_up ? -ETIMEDOUT : error;
}

/* What a guest before this one had in flight when it died. */
static int settle_doubts(struct disk *d)
{
    int error = 0;
    for (uint32_t i = 0; i < d->life->record->blocks && !error; i++)
        if (record_in_doubt(d->life->record, i))
            error = read_and_judge(d, i, 1);
    return error;
}

static int check_all(struct disk *d)
{
    uint32_t all = d->life->record->blocks;
    int error = 0;
    for (uint32_t at = 0; at < all && !error; at += RESTART_BLOCKS_MAX)
        error = read_and_judge(d, at, all - at < RESTART_BLOCKS_MAX ? all - at : RESTART_BLOCKS_MAX);
    return error;
}

/* -------------------------------------------------------------------- its life */

static int work(struct disk *d)
{
    int error = 0;
    while (!error && !bench_stop && guest_order(d->life) == GUEST_WORK) {
        unsigned usable = 0;
        for (unsigned i = 0; i < RESTART_DEPTH; i++) {
            usable += !d->slot[i].given_up;
            if (!d->slot[i].waiting)
                begin(d, i);
        }
        if (usable == 0)
            return -ETIMEDOUT;
        error = push(d);
        int n = error ? 0 : reap(d);
        if (n <= 0 && !error)
            error = n < 0 ? n : sleep_a_little(d);
    }
    return error ? error : drain(d);
}

static int open_disk(struct disk *d)
{
    struct stack said = {.error = ""};
    uint64_t end = load_now_ns() + ATTACH_MS * 1000000ull;
    int error;
    /* The daemon may not have seen yet that the one before died, or has no driver domain now. */
    while ((error = bench_disk_open(&said, d->life->attach, 1, RESTART_DEPTH, MAX_BYTES, &d->front)) != 0 &&
           load_now_ns() < end)
        usleep(ATTACH_STEP_US);
    if (error) {
        snprintf(d->life->board->error, sizeof(d->life->board->error), "%.*s",
                 (int)sizeof(d->life->board->error) - 1, said.error);
        return error;
    }
    d->info = blkfront_info(d->front);
    d->busy = calloc(d->life->record->blocks, sizeof(*d->busy));
    for (unsigned i = 0; i < RESTART_DEPTH; i++)
        if (!(d->slot[i].buf = blkfront_alloc(d->front, 0, MAX_BYTES)))
            error = -ENOMEM;
    return d->busy ? error : -ENOMEM;
}

static void close_disk(struct disk *d)
{
    if (d->front) {
        struct blkfront_stats stats;
        blkfront_stats(d->front, &stats);
        d->life->board->tally.replayed += stats.replayed;
        d->life->board->tally.reconnects += stats.reconnects;
        blkfront_close(d->front);
    }
    free(d->busy);
}

bool restart_disk(const struct guest_life *life)
{
    static struct disk d; /* one in a process */
    d = (struct disk){.life = life, .random = life->seed | 1};
    int error = open_disk(&d);
    if (!error)
        error = settle_doubts(&d);
    if (!error) {
        guest_says(life, GUEST_WORKING);
        error = work(&d);
    }
    if (!error && guest_order(life) == GUEST_FINISH)
        error = check_all(&d);
    if (error && life->board->error[0] == '\0')
        snprintf(life->board->error, sizeof(life->board->error), "its disk: %s", strerror(-error));
    close_disk(&d);
    guest_says(life, error ? GUEST_FAILED : GUEST_LEFT);
    return !error;
}
