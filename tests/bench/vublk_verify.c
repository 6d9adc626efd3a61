/* SPDX-License-Identifier: MIT */
#include "vublk_verify.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "record.h"

#define REQUEST_BLOCKS 16u
#define SPAN_USUAL     (256ull << 20)
#define LOOK_MS        100  /* how often someone who waits looks at the clock */
#define DIAL_MS        20   /* between two attempts to connect                */
#define UNCALLED_NS    1000000000ull
#define TRIES          8u   /* to find blocks that nobody else is at          */

enum phase { FILL, MIX, READ_BACK, PHASES /* nothing more to ask */ };

struct request {
    uint32_t type, first, n; /* blocks of the queue's share */
    uint64_t begun;
};

/* One queue, and its share of the disk: nobody else writes there. */
struct lane {
    struct vublk_queue *q;
    struct record *record;
    uint64_t at;             /* byte of the disk where the share begins        */
    uint32_t cursor;         /* of a phase that goes from first to last        */
    bool *taken;             /* blocks that a request is at                    */
    struct request request[VUBLK_DEPTH_MAX];
    unsigned idle;           /* slots that are free                            */
    uint16_t slot[VUBLK_DEPTH_MAX];
    uint64_t unheard;        /* since when there is an answer without a call   */
};

struct verify {
    struct vublk_disk *disk;
    const struct vublk_options *opt;
    struct verify_tally *tally;
    struct lane lane[VUCLIENT_QUEUES_MAX];
    unsigned lanes;
    uint32_t most;           /* blocks of one request */
    enum phase phase;
    uint64_t random, patience_ns, hang_up_at;
};

__attribute__((format(printf, 2, 3)))
static void note(struct verify *v, const char *format, ...)
{
    va_list ap;
    if (v->tally->first[0])
        return;
    va_start(ap, format);
    vsnprintf(v->tally->first, sizeof(v->tally->first), format, ap);
    va_end(ap);
}

static uint64_t draw(struct verify *v, uint64_t below)
{
    v->random ^= v->random << 13; /* xorshift64 */
    v->random ^= v->random >> 7;
    v->random ^= v->random << 17;
    return (uint64_t)(((unsigned __int128)v->random * below) >> 64);
}

bool verify_passed(const struct verify_tally *t)
{
    return t->errors + t->lost + t->stale + t->missing + t->wrong + t->uncalled == 0;
}

/* ------------------------------------------------------------------- what to ask */

static bool is_free(const struct lane *l, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++)
        if (l->taken[i])
            return false;
    return true;
}

static uint32_t draw_type(struct verify *v)
{
    const struct vuclient *c = &v->disk->client;
    uint64_t x = draw(v, 100);
    if (x < 45)
        return VIRTIO_BLK_T_IN;
    if (x < 90)
        return VIRTIO_BLK_T_OUT;
    if (x < 94 && vuclient_has(c, VIRTIO_BLK_F_WRITE_ZEROES))
        return VIRTIO_BLK_T_WRITE_ZEROES;
    if (x < 97 && vuclient_has(c, VIRTIO_BLK_F_DISCARD))
        return VIRTIO_BLK_T_DISCARD;
    return vuclient_has(c, VIRTIO_BLK_F_FLUSH) ? VIRTIO_BLK_T_FLUSH : VIRTIO_BLK_T_IN;
}

/* False: nothing to ask in this phase, or nothing that does not meet another request. */
static bool choose(struct verify *v, struct lane *l, struct request *out)
{
    if (v->phase == PHASES)
        return false;
    if (v->phase != MIX) {
        uint32_t rest = l->record->blocks - l->cursor;
        out->type = v->phase == FILL ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
        out->first = l->cursor;
        out->n = rest < v->most ? rest : v->most;
        l->cursor += out->n;
        return rest > 0;
    }
    out->type = draw_type(v);
    out->first = out->n = 0;
    if (out->type == VIRTIO_BLK_T_FLUSH)
        return true;
    for (unsigned i = 0; i < TRIES; i++) {
        out->n = 1 + (uint32_t)draw(v, v->most);
        out->first = (uint32_t)draw(v, l->record->blocks - out->n + 1);
        if (is_free(l, out->first, out->n))
            return true;
    }
    return false;
}

static void prepare(struct lane *l, unsigned slot, const struct request *r)
{
    uint8_t *data = vublk_data(l->q, slot);
    uint32_t guest = l->record->guest;
    for (uint32_t i = r->first; i < r->first + r->n; i++)
        l->taken[i] = true;
    if (r->type == VIRTIO_BLK_T_OUT) {
        uint64_t sequence = record_begin(l->record, r->first, r->n, false);
        for (uint32_t i = 0; i < r->n; i++)
            block_write(data + (size_t)i * BLOCK_BYTES, guest, r->first + i, sequence);
    } else if (r->type == VIRTIO_BLK_T_IN) {
        memset(data, 0xee, (size_t)r->n * BLOCK_BYTES);
    } else if (r->type != VIRTIO_BLK_T_FLUSH) {
        record_begin(l->record, r->first, r->n, true);
    }
}

static void ask_more(struct verify *v, struct lane *l, uint64_t now)
{
    while (l->idle && !bench_stop) {
        struct request r;
        unsigned slot = l->slot[l->idle - 1];
        if (l->q->ring->free < (l->q->indirect ? 1 : vublk_pieces(l->q->bytes, l->q->segment)) ||
            !choose(v, l, &r))
            break;
        l->idle--;
        prepare(l, slot, &r);
        r.begun = now;
        l->request[slot] = r;
        /* There is room: that was looked at. */
        vublk_ask(l->q, slot, r.type, l->at + (uint64_t)r.first * BLOCK_BYTES, r.n * BLOCK_BYTES);
    }
    vublk_push(l->q);
}

/* --------------------------------------------------------------------- what comes */

static void judge(struct verify *v, struct lane *l, unsigned slot, const struct request *r)
{
    const uint8_t *data = vublk_data(l->q, slot);
    for (uint32_t i = 0; i < r->n; i++) {
        enum record_verdict verdict = record_judge(l->record, r->first + i, data + (size_t)i * BLOCK_BYTES);
        if (verdict == RECORD_RIGHT)
            continue;
        v->tally->lost += verdict == RECORD_LOST;
        v->tally->stale += verdict == RECORD_STALE;
        uint64_t at = l->at + (uint64_t)(r->first + i) * BLOCK_BYTES;
        note(v, "block at byte %llu is %s", (unsigned long long)at,
             verdict == RECORD_LOST ? "lost" : "stale");
    }
}

static void finish(struct verify *v, struct lane *l, const struct vublk_done *done, uint64_t now)
{
    const struct request *r = &l->request[done->slot];
    struct verify_tally *t = v->tally;
    if (done->error) {
        t->errors++;
        note(v, "a request of type %u failed: %s", r->type,
             done->error == -EBADMSG ? "no status, or fewer bytes than it was to read"
                                     : strerror(-done->error));
    } else if (r->type == VIRTIO_BLK_T_IN) {
        judge(v, l, done->slot, r);
    } else if (r->type == VIRTIO_BLK_T_OUT || r->type == VIRTIO_BLK_T_WRITE_ZEROES) {
        record_acknowledge(l->record, r->first, r->n);
    } /* what was discarded may be there or not */
    t->requests++;
    *(r->type == VIRTIO_BLK_T_IN ? &t->reads : r->type == VIRTIO_BLK_T_OUT ? &t->writes : &t->others) += 1;
    if (now - r->begun > t->longest_ns)
        t->longest_ns = now - r->begun;
    for (uint32_t i = r->first; i < r->first + r->n; i++)
        l->taken[i] = false;
    l->slot[l->idle++] = (uint16_t)done->slot;
}

static int take_all(struct verify *v, struct lane *l)
{
    struct vublk_done done;
    uint64_t now = load_now_ns();
    int n;
    l->unheard = 0;
    do {
        vuring_quiet(l->q->ring);
        while ((n = vublk_take(l->q, &done)) > 0)
            finish(v, l, &done, now);
        if (n < 0) {
            v->tally->wrong++;
            note(v, "queue %u: an answer to a request that is not in flight, or of too many bytes",
                 l->q->queue);
            return n;
        }
        ask_more(v, l, now);
    } while (vuring_listen(l->q->ring));
    return 0;
}

/* An answer that nobody calls for would never be seen by a guest. */
static int look_for_uncalled(struct verify *v, struct lane *l, uint64_t now)
{
    if (!vuring_has_answer(l->q->ring)) {
        l->unheard = 0;
        return 0;
    }
    if (!l->unheard)
        l->unheard = now;
    if (now - l->unheard < UNCALLED_NS)
        return 0;
    v->tally->uncalled++;
    note(v, "queue %u: there was an answer for a second, and no call", l->q->queue);
    return take_all(v, l);
}

static unsigned overdue(const struct verify *v, const struct lane *l, uint64_t now)
{
    unsigned n = 0;
    for (unsigned i = 0; i < l->q->depth; i++)
        n += l->q->busy[i] && now - l->request[i].begun > v->patience_ns;
    return n;
}

/* -------------------------------------------------------------------- connections */

static int dial_again(struct verify *v)
{
    struct vuclient *c = &v->disk->client;
    uint64_t until = load_now_ns() + v->patience_ns;
    int error = vuclient_again(c);
    while (error && load_now_ns() < until && !bench_stop) {
        nanosleep(&(struct timespec){.tv_nsec = DIAL_MS * 1000000}, NULL);
        error = vuclient_again(c);
    }
    if (error)
        note(v, "cannot connect again: %s", c->error);
    v->tally->reconnects += !error;
    return error;
}

static void plan_hang_up(struct verify *v)
{
    uint64_t ms = v->opt->hang_up_ms;
    v->hang_up_at = ms ? load_now_ns() + (1 + draw(v, 2 * ms)) * 1000000 : UINT64_MAX;
}

static int mind_connection(struct verify *v, bool gone)
{
    int error = 0;
    if (gone && !v->opt->reconnect) {
        note(v, "%s: it hung up", v->opt->socket);
        return -EPIPE;
    }
    if (gone || (v->phase == MIX && load_now_ns() >= v->hang_up_at)) {
        vuclient_hang_up(&v->disk->client);
        error = dial_again(v);
        plan_hang_up(v);
    }
    return error;
}

/* --------------------------------------------------------------------------- loop */

static int wait_for_calls(struct verify *v)
{
    struct pollfd p[VUCLIENT_QUEUES_MAX + 1];
    for (unsigned i = 0; i < v->lanes; i++)
        p[i] = (struct pollfd){.fd = v->disk->client.call[i], .events = POLLIN};
    p[v->lanes] = (struct pollfd){.fd = v->disk->client.fd, .events = POLLRDHUP};
    int timeout = v->opt->hang_up_ms && v->opt->hang_up_ms < LOOK_MS ? (int)v->opt->hang_up_ms : LOOK_MS;
    int error = poll(p, v->lanes + 1, timeout) < 0 && errno != EINTR ? -errno : 0;
    bool gone = p[v->lanes].revents && vuclient_gone(&v->disk->client);
    for (unsigned i = 0; i < v->lanes && !error; i++)
        if (p[i].revents && vuclient_called(&v->disk->client, i))
            error = take_all(v, &v->lane[i]);
    return error ? error : mind_connection(v, gone);
}

static int look_around(struct verify *v)
{
    uint64_t now = load_now_ns();
    int error = 0;
    for (unsigned i = 0; i < v->lanes && !error; i++) {
        error = look_for_uncalled(v, &v->lane[i], now);
        unsigned late = overdue(v, &v->lane[i], now);
        v->tally->missing += late;
        if (late) {
            note(v, "queue %u: %u request(s) did not come back in %g s", i, late, v->opt->patience);
            error = -ETIMEDOUT;
        }
    }
    return error;
}

static bool in_flight(const struct verify *v)
{
    for (unsigned i = 0; i < v->lanes; i++)
        if (v->lane[i].q->in_flight)
            return true;
    return false;
}

static bool phase_goes_on(const struct verify *v, uint64_t end)
{
    if (bench_stop)
        return false;
    if (v->phase == MIX)
        return load_now_ns() < end;
    for (unsigned i = 0; i < v->lanes; i++)
        if (v->lane[i].cursor < v->lane[i].record->blocks)
            return true;
    return false;
}

static int run_phase(struct verify *v, enum phase phase)
{
    uint64_t end = load_now_ns() + (uint64_t)(v->opt->common.seconds * 1e9), look = 0;
    int error = 0;
    bool more = true;
    v->phase = phase;
    for (unsigned i = 0; i < v->lanes && !error; i++) {
        v->lane[i].cursor = 0;
        error = take_all(v, &v->lane[i]);
    }
    while (!error && (more || in_flight(v))) {
        if (more && !phase_goes_on(v, end)) {
            more = false;
            v->phase = PHASES;
        }
        error = wait_for_calls(v);
        if (!error && load_now_ns() >= look) {
            error = look_around(v);
            look = load_now_ns() + LOOK_MS * 1000000ull;
        }
    }
    return error;
}

/* ------------------------------------------------------------------------- set up */

static int set_up_lane(struct verify *v, unsigned i, uint64_t blocks)
{
    struct lane *l = &v->lane[i];
    l->q = &v->disk->queue[i];
    l->at = i * blocks * BLOCK_BYTES;
    l->record = calloc(1, record_bytes((uint32_t)blocks));
    l->taken = calloc(blocks, sizeof(*l->taken));
    if (!l->record || !l->taken)
        return -ENOMEM;
    record_init(l->record, (uint32_t)draw(v, UINT32_MAX), (uint32_t)blocks);
    for (unsigned slot = 0; slot < l->q->depth; slot++)
        l->slot[l->idle++] = (uint16_t)slot;
    return 0;
}

static int set_up(struct verify *v)
{
    const struct vublk_options *opt = v->opt;
    uint64_t span = opt->span ? opt->span : SPAN_USUAL;
    if (span > v->disk->bytes)
        span = v->disk->bytes;
    uint64_t blocks = span / BLOCK_BYTES / opt->common.queues;
    v->most = v->disk->queue[0].bytes / BLOCK_BYTES;
    if (v->most > REQUEST_BLOCKS)
        v->most = REQUEST_BLOCKS;
    if (v->disk->readonly || v->most == 0 || blocks < v->most) {
        note(v, "%s: the disk is read-only, or too small to be checked", opt->socket);
        return -EINVAL;
    }
    v->lanes = opt->common.queues;
    v->patience_ns = (uint64_t)(opt->patience * 1e9);
    v->random = (opt->seed ? opt->seed : load_now_ns()) * 0x9e3779b97f4a7c15u | 1;
    int error = 0;
    for (unsigned i = 0; i < v->lanes && !error; i++)
        error = set_up_lane(v, i, blocks);
    plan_hang_up(v);
    return error;
}

int vublk_verify(struct vublk_disk *disk, const struct vublk_options *opt, struct verify_tally *tally)
{
    struct verify *v = calloc(1, sizeof(*v));
    memset(tally, 0, sizeof(*tally));
    if (!v)
        return -ENOMEM;
    v->disk = disk;
    v->opt = opt;
    v->tally = tally;
    int error = set_up(v);
    for (int phase = FILL; phase < PHASES && !error && !bench_stop; phase++)
        error = run_phase(v, (enum phase)phase);
    for (unsigned i = 0; i < v->lanes; i++) {
        free(v->lane[i].record);
        free(v->lane[i].taken);
    }
    free(v);
    return error;
}
