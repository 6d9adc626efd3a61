/* SPDX-License-Identifier: MIT */
#include "net_load.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "bench.h"
#include "load.h"

#define BUFFER       NETFRONT_BUF_BYTES
#define PIECES_MAX   ((FRAME_MAX + BUFFER - 1) / BUFFER)
#define ELEMENTS     (NET_BURST * PIECES_MAX)
#define RECEIVE      64u
#define PATIENCE_NS  5000000000ull /* for buffers to come back                    */
#define QUIET_NS     20000000ull   /* nothing more is on its way                  */
#define SLEEP_MS     50
#define CREDIT       64u           /* packets that a paced sender may be behind   */
#define RESTS        100u          /* attempts; who is fed for ever never rests   */
#define CLOCK_EVERY  64u           /* empty turns between looks at the clock      */

struct net_lane_work {
    struct netfront_packet out[ELEMENTS]; /* written, not yet taken: first..count */
    unsigned first, count;
    void **stock;        /* free buffers, first in first out; nbufs when all are */
    unsigned nstock, nbufs, next, mask;
    const void *sampled; /* the buffer whose return is waited for */
    uint64_t sampled_at;
    double credit;
    uint64_t credited_at;
    struct netfront_packet in[RECEIVE];
    unsigned bursts;
};

struct thread {
    pthread_t id;
    struct net_run *run;
    pthread_barrier_t *start;
    atomic_uint *sending; /* threads that still send or drain */
    uint64_t wall_ns, drained_ns;
    unsigned index;
    int error;
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* ---------------------------------------------------------------- sending */

static unsigned pieces_of(uint32_t bytes)
{
    return (bytes + BUFFER - 1) / BUFFER;
}

static inline void *buffer_of(const void *data)
{
    return (void *)((uintptr_t)data & ~(uintptr_t)(BUFFER - 1));
}

/* Where in its buffer a frame begins: another line in each. */
static inline uint8_t *place(void *buf, uint32_t lines)
{
    return (uint8_t *)buf + ((uint32_t)((uintptr_t)buf / BUFFER) & lines) * 64u;
}

static inline void *next_buffer(struct net_lane_work *w)
{
    w->nstock--;
    return w->stock[w->next++ & w->mask];
}

static inline void keep_buffer(struct net_lane_work *w, void *buf)
{
    w->stock[(w->next + w->nstock++) & w->mask] = buf;
}

/* What the backend is done with comes back, all of it: 0 or a negative errno. */
static int refill(struct net_lane *l, uint64_t now)
{
    struct net_lane_work *w = l->work;
    int n = 1;
    while (n > 0 && w->nstock < w->nbufs) {
        unsigned at = (w->next + w->nstock) & w->mask, room = w->mask + 1 - at, all = w->nbufs - w->nstock;
        void **fresh = w->stock + at;
        n = netfront_get(l->nic, l->queue, fresh, room < all ? room : all);
        for (int i = 0; w->sampled && i < n; i++)
            if (fresh[i] == w->sampled) {
                histogram_add(&l->latency, now - w->sampled_at);
                w->sampled = NULL;
            }
        w->nstock += n > 0 ? (unsigned)n : 0;
        if (n < (int)room)
            break; /* that was all */
    }
    return n < 0 ? n : 0;
}

/* Writes at most n frames, of one size and in one buffer each. */
static void write_alike(struct net_lane *l, uint64_t now, unsigned n)
{
    struct net_lane_work *w = l->work;
    const uint8_t *header = l->flow.header[0];
    uint32_t bytes = l->flow.bytes[0], lines = l->flow.lines[0], next = w->next, mask = w->mask;
    uint64_t number = l->number;
    void **stock = w->stock;
    n = n < w->nstock ? n : w->nstock;
    for (unsigned i = 0; i < n; i++) {
        uint8_t *at = place(stock[(next + i) & mask], lines);
        frame_write(header, number + i, now, at, bytes);
        w->out[i] = (struct netfront_packet){.data = at, .bytes = bytes};
    }
    w->first = 0;
    w->count = n;
    w->next += n;
    w->nstock -= n;
    l->number += n;
}

/* Writes at most n frames of any sizes into as many buffers as they need. */
static void write_frames(struct net_lane *l, uint64_t now, unsigned n)
{
    struct net_lane_work *w = l->work;
    w->first = w->count = 0;
    for (; n > 0; n--, l->number++) {
        uint32_t bytes = frame_bytes(&l->flow, l->number);
        if (w->nstock < pieces_of(bytes))
            break;
        uint32_t part = bytes < BUFFER ? bytes : BUFFER;
        unsigned kind = frame_kind(&l->flow, l->number);
        uint8_t *at = place(next_buffer(w), l->flow.lines[kind]);
        frame_write(l->flow.header[kind], l->number, now, at, part);
        w->out[w->count] = (struct netfront_packet){.data = at, .bytes = part};
        for (uint32_t from = part; from < bytes; from += part) {
            w->out[w->count++].flags = NETFRONT_MORE;
            part = bytes - from < BUFFER ? bytes - from : BUFFER;
            at = next_buffer(w);
            frame_write_more(l->number, from, at, part);
            w->out[w->count] = (struct netfront_packet){.data = at, .bytes = part};
        }
        w->count++;
    }
}

static unsigned allowance(struct net_lane *l, uint64_t now)
{
    struct net_lane_work *w = l->work;
    if (l->pace <= 0)
        return NET_BURST;
    w->credit += (double)(now - w->credited_at) * l->pace / 1e9;
    w->credited_at = now;
    if (w->credit > CREDIT)
        w->credit = CREDIT;
    return w->credit < NET_BURST ? (unsigned)w->credit : NET_BURST;
}

/* The number of packets that went, or a negative errno. */
static int send_burst(struct net_lane *l, uint64_t now)
{
    struct net_lane_work *w = l->work;
    if (w->first == w->count) {
        unsigned n = allowance(l, now);
        int error = refill(l, now);
        if (error || n == 0)
            return error;
        if (l->flow.kinds == 1 && l->flow.bytes[0] <= BUFFER)
            write_alike(l, now, n);
        else
            write_frames(l, now, n);
        if (w->count == 0)
            return 0;
    }
    int n = netfront_send(l->nic, l->queue, w->out + w->first, w->count - w->first);
    if (n <= 0)
        return n;
    if (!w->sampled) {
        w->sampled = buffer_of(w->out[w->first].data);
        w->sampled_at = now;
    }
    int packets = 0;
    for (const struct netfront_packet *p = w->out + w->first, *end = p + n; p < end; p++)
        packets += !(p->flags & NETFRONT_MORE);
    w->first += (unsigned)n;
    l->packets += (uint64_t)packets;
    w->credit -= packets;
    return packets;
}

static int send_turn(struct net_lane *l, uint64_t now)
{
    int n = send_burst(l, now), sum = n;
    for (unsigned i = 1; i < l->bursts && n > 0; i++) {
        n = send_burst(l, now);
        sum += n;
    }
    return n < 0 ? n : sum;
}

/* What was written and not sent is taken back: the next run begins with it. */
static void unsend(struct net_lane *l)
{
    struct net_lane_work *w = l->work;
    for (; w->first < w->count; w->first++) {
        keep_buffer(w, buffer_of(w->out[w->first].data));
        l->number -= !(w->out[w->first].flags & NETFRONT_MORE);
    }
    w->sampled = NULL;
}

/* 1 every buffer is free, 0 not yet. */
static int drain_turn(struct net_lane *l, uint64_t now)
{
    struct net_lane_work *w = l->work;
    int error = w->nstock < w->nbufs ? refill(l, now) : 0;
    if (error || w->nstock < w->nbufs)
        return error;
    while (w->nstock) {
        unsigned at = w->next & w->mask, run = w->mask + 1 - at;
        run = run < w->nstock ? run : w->nstock;
        netfront_put(l->nic, l->queue, w->stock + at, run);
        w->next += run;
        w->nstock -= run;
    }
    return 1;
}

/* Takes all buffers, to send from each in its turn: what was read by another CPU
 * lately is slow to write to, and that is how to leave it alone for longest. */
static int begin_sending(struct net_lane *l)
{
    struct net_lane_work *w = l->work;
    w->nbufs = netfront_info(l->nic)->send_buffers;
    w->nstock = 0;
    int error = refill(l, 0);
    return error || w->nstock == w->nbufs ? error : -EBUSY;
}

/* -------------------------------------------------------------- receiving */

static void note(struct net_lane *l, const struct frame_seen *seen, bool sample, uint64_t now)
{
    uint64_t *expected = &l->expected[seen->id];
    if (seen->number < *expected && !l->endless) {
        l->strange++;
        return;
    }
    if (!l->endless)
        l->missing += seen->number - *expected;
    *expected = seen->number + 1;
    if (sample && !l->endless && now > seen->time)
        histogram_add(&l->latency, now - seen->time);
}

/* Headers are copied out and read; the rest stays where it is. */
static unsigned look(struct net_lane *l, unsigned n, uint64_t now)
{
    struct net_lane_work *w = l->work;
    unsigned packets = 0, sample = w->bursts++ % n;
    bool begins = true;
    for (unsigned i = 0; i < n; i++) {
        const struct netfront_packet *p = &w->in[i];
        if (begins) {
            uint8_t header[FRAME_HEADER];
            struct frame_seen seen;
            packets++;
            if (p->bytes >= FRAME_HEADER)
                memcpy(header, p->data, FRAME_HEADER);
            if (p->bytes < FRAME_HEADER || !frame_read(header, &seen) || seen.id >= NET_FLOWS_MAX)
                l->strange++;
            else
                note(l, &seen, i == sample, now);
        }
        begins = !(p->flags & NETFRONT_MORE);
    }
    return packets;
}

static int receive_turn(struct net_lane *l, uint64_t now, bool counts)
{
    struct net_lane_work *w = l->work;
    int n = netfront_receive(l->nic, l->queue, w->in, RECEIVE);
    if (n <= 0)
        return n;
    unsigned packets = look(l, (unsigned)n, now);
    netfront_release(l->nic, l->queue, w->in, (unsigned)n);
    if (counts)
        l->packets += packets;
    else
        l->tail += packets;
    return (int)packets;
}

/* ---------------------------------------------------------------- threads */

/* The thread's lane after l, or its first one; NULL: there is none. */
static struct net_lane *next_lane(const struct thread *t, struct net_lane *l)
{
    struct net_lane *end = t->run->lanes + t->run->nlanes;
    for (l = l ? l + 1 : t->run->lanes; l < end; l++)
        if (l->thread == t->index)
            return l;
    return NULL;
}

/* Sleeps until one of the lanes may go on. */
static int sleep_turn(const struct thread *t)
{
    struct pollfd fds[NET_LANES_MAX];
    unsigned n = 0;
    for (struct net_lane *l = next_lane(t, NULL); l; l = next_lane(t, l)) {
        int busy = netfront_idle(l->nic, l->queue);
        if (busy)
            return busy < 0 ? busy : 0;
        fds[n++] = (struct pollfd){.fd = netfront_fd(l->nic, l->queue), .events = POLLIN};
    }
    return poll(fds, n, SLEEP_MS) < 0 && errno != EINTR ? -errno : 0;
}

/* One turn of each lane: packets moved, or a negative errno. */
static int turn(const struct thread *t, uint64_t now, bool counts)
{
    int moved = 0;
    for (struct net_lane *l = next_lane(t, NULL); l; l = next_lane(t, l)) {
        int n = l->sends ? counts ? send_turn(l, now) : 0 : receive_turn(l, now, counts);
        if (n < 0)
            return n;
        moved += n;
    }
    return moved;
}

static int count(struct thread *t, uint64_t begin)
{
    uint64_t now = begin, end = begin + (uint64_t)(t->run->seconds * 1e9);
    unsigned empty = 0;
    int n = 0;
    while (now < end && !bench_stop && (n = turn(t, now, true)) >= 0) {
        if (n > 0) {
            empty = 0;
            now = load_now_ns();
            continue;
        }
        if (++empty < t->run->spins) {
            cpu_relax();
            if (empty % CLOCK_EVERY == 0)
                now = load_now_ns();
            continue;
        }
        empty = 0;
        if ((n = sleep_turn(t)) < 0)
            break;
        now = load_now_ns();
    }
    t->wall_ns = now - begin;
    return n < 0 ? n : 0;
}

/* Lets go of the rings, as whoever has nothing to do must: a NIC that is held
 * cannot reconnect. */
static void rest(struct thread *t)
{
    for (struct net_lane *l = next_lane(t, NULL); l; l = next_lane(t, l))
        for (unsigned i = 0; i < RESTS && netfront_idle(l->nic, l->queue) > 0; i++)
            if (!l->sends && receive_turn(l, load_now_ns(), false) < 0)
                break;
}

/* Sent buffers come back, receivers take what is still on its way. */
static int settle(struct thread *t, uint64_t begin)
{
    bool drained[NET_LANES_MAX] = {false}, told = false, endless = false;
    uint64_t now = load_now_ns(), until = now + PATIENCE_NS, heard = now;
    for (struct net_lane *l = next_lane(t, NULL); l; l = next_lane(t, l)) {
        endless |= l->endless;
        if (l->sends)
            unsend(l);
    }
    for (;;) {
        bool all = true;
        int n = turn(t, now, false);
        if (n < 0)
            return n;
        now = load_now_ns();
        if (n > 0 || !told || atomic_load(t->sending))
            heard = now;
        for (struct net_lane *l = next_lane(t, NULL); l; l = next_lane(t, l)) {
            bool *done = &drained[l - t->run->lanes];
            if (l->sends && !*done) {
                if ((n = drain_turn(l, now)) < 0)
                    return n;
                *done = n > 0;
                all &= *done;
            }
        }
        if (all && !told) {
            t->drained_ns = now - begin;
            atomic_fetch_sub(t->sending, 1);
            told = true;
        }
        if (told && (endless || now - heard > QUIET_NS))
            return 0;
        if (now > until)
            return told ? 0 : -ETIMEDOUT;
        sched_yield(); /* no one counts any more */
    }
}

static void *thread_main(void *arg)
{
    struct thread *t = arg;
    if (t->run->cpus) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(t->run->cpus[t->index], &set);
        pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    }
    pthread_barrier_wait(t->start);
    uint64_t begin = load_now_ns();
    for (struct net_lane *l = next_lane(t, NULL); l; l = next_lane(t, l))
        l->work->credited_at = begin;
    t->error = count(t, begin);
    if (t->error)
        atomic_fetch_sub(t->sending, 1);
    else
        t->error = settle(t, begin);
    if (!t->error)
        rest(t);
    return NULL;
}

static int lane_begin(struct net_lane *l)
{
    if (!l->work) {
        l->work = calloc(1, sizeof(*l->work));
        if (!l->work)
            return -ENOMEM;
        unsigned room = 1;
        while (room < netfront_info(l->nic)->send_buffers)
            room *= 2;
        l->work->mask = room - 1;
        l->work->stock = calloc(room, sizeof(void *));
        if (!l->work->stock)
            return -ENOMEM;
    }
    l->packets = l->tail = l->missing = l->strange = 0;
    l->work->credit = 0;
    histogram_clear(&l->latency);
    return l->sends ? begin_sending(l) : 0;
}

void net_lane_close(struct net_lane *l)
{
    if (l->work)
        free(l->work->stock);
    free(l->work);
    l->work = NULL;
}

static uint64_t process_cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int net_run(struct net_run *run)
{
    struct thread threads[NET_THREADS_MAX];
    pthread_barrier_t start;
    atomic_uint sending = run->threads;
    int error = run->nlanes <= NET_LANES_MAX && run->threads <= NET_THREADS_MAX ? 0 : -EINVAL;
    for (unsigned i = 0; i < run->nlanes && !error; i++)
        error = lane_begin(&run->lanes[i]);
    if (error)
        return error;
    uint64_t cpu = process_cpu_ns();
    pthread_barrier_init(&start, NULL, run->threads);
    for (unsigned i = 0; i < run->threads; i++) {
        threads[i] = (struct thread){.index = i, .run = run, .start = &start, .sending = &sending};
        /* The others would wait at the barrier for good: there is no way on. */
        if (pthread_create(&threads[i].id, NULL, thread_main, &threads[i]) != 0)
            abort();
    }
    run->wall_ns = run->drained_ns = 0;
    for (unsigned i = 0; i < run->threads; i++) {
        pthread_join(threads[i].id, NULL);
        error = error ? error : threads[i].error;
        run->wall_ns = threads[i].wall_ns > run->wall_ns ? threads[i].wall_ns : run->wall_ns;
        run->drained_ns = threads[i].drained_ns > run->drained_ns ? threads[i].drained_ns : run->drained_ns;
    }
    pthread_barrier_destroy(&start);
    run->cpu_ns = process_cpu_ns() - cpu;
    return error;
}
