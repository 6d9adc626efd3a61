/* SPDX-License-Identifier: MIT */
/*
 * restart_stream.c - a guest of `bulkhead bench restart` that talks by its NIC.
 *
 * Guests talk in pairs, both ways at once.  What is lost is sent again, from the
 * oldest frame that the other one has not got (go back N), so a stream that comes
 * to an end without a gap has lost nothing.  Each sending has a number of its own:
 * one that comes twice, or after a later one, is a duplicate that the driver domain made.
 */
#include <bulkhead/netfront.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "load.h"
#include "restart_guest.h"

#define FRAME_BYTES  1024u
#define ETHERTYPE    0x88b5 /* for local experiments */
#define MAGIC        0x52545342u
#define WORDS        ((FRAME_BYTES - sizeof(struct frame)) / 8)
#define BURST        32u
#define WINDOW       128u   /* frames that are sent before the other one has them */
#define AWAY_TURNS   16u
#define AGAIN_NS     1000000u
#define ATTACH_MS    10000
#define ATTACH_STEP_US 5000
#define POOL_PAGES   512u

struct frame {
    uint8_t to[6], from[6];
    uint16_t type;
    uint8_t unused[2];
    uint32_t magic, guest;
    uint64_t number;   /* in its stream, from 1; 0: says only what it has got */
    uint64_t sending;  /* of this guest, from 1                                */
    uint64_t got;      /* the last number of the other stream, without a gap  */
    uint64_t checksum; /* of the above                                         */
};

struct stream {
    const struct guest_life *life;
    struct guest_stream *mine;       /* what survives a death            */
    struct netfront *nic;
    uint64_t next;       /* to be sent                       */
    uint64_t last, last_acked; /* ns                         */
    bool was_down, owes; /* an answer to what it has got     */
    unsigned turns;
};

static uint64_t word(uint32_t guest, uint64_t number, uint64_t i)
{
    uint64_t x = (number << 8 ^ guest) * 0x9e3779b97f4a7c15u + i * 0xbf58476d1ce4e5b9u;
    return x ^ x >> 29;
}

static uint64_t checksum(const struct frame *f)
{
    const uint64_t words[] = {f->magic, f->guest, f->number, f->sending, f->got};
    uint64_t sum = f->type;
    for (unsigned i = 0; i < 5; i++)
        sum = (sum ^ words[i]) * 0x94d049bb133111ebu + (sum >> 32);
    return sum;
}

static void address(uint8_t mac[6], unsigned index)
{
    const uint8_t all[6] = {0x52, 0x54, 0, 0xbe, 1, (uint8_t)index};
    memcpy(mac, all, sizeof(all));
}

/* ------------------------------------------------------------------- sending */

static void write_frame(const struct stream *s, uint64_t number, uint64_t sending, uint8_t *at)
{
    unsigned me = s->life->index;
    struct frame f = {.type = __builtin_bswap16(ETHERTYPE), .magic = MAGIC, .guest = me, .number = number,
                      .sending = sending, .got = s->mine->got};
    address(f.to, me ^ 1);
    address(f.from, me);
    f.checksum = checksum(&f);
    memcpy(at, &f, sizeof(f));
    for (unsigned i = 0; i < WORDS; i++) {
        uint64_t w = word(me, number, i);
        memcpy(at + sizeof(f) + i * 8, &w, 8);
    }
}

static int send_buffer(struct stream *s, void *buf)
{
    struct netfront_packet packet = {.data = buf, .bytes = FRAME_BYTES};
    int n = netfront_send(s->nic, 0, &packet, 1);
    if (n != 1)
        netfront_put(s->nic, 0, &buf, 1);
    return n;
}

/* To nobody here, so that it leaves by the uplink: that is passed through too. */
static void send_away(struct stream *s)
{
    static const uint8_t nobody[6] = {0x02, 0, 0, 0, 0, 0x01};
    void *buf;
    if (netfront_get(s->nic, 0, &buf, 1) != 1)
        return;
    write_frame(s, 0, 0, buf);
    memcpy(buf, nobody, sizeof(nobody));
    (void)send_buffer(s, buf);
}

/* One frame. 1 it went, 0 no room. */
static int send_one(struct stream *s, uint64_t number)
{
    void *buf;
    int n = netfront_get(s->nic, 0, &buf, 1);
    if (n <= 0)
        return n;
    /* Counted before: whoever goes on after a death uses no number twice. */
    uint64_t sending = s->mine->sendings + 1;
    __atomic_store_n(&s->mine->sendings, sending, __ATOMIC_SEQ_CST);
    write_frame(s, number, sending, buf);
    n = send_buffer(s, buf);
    if (n != 1)
        s->mine->sendings = sending - 1;
    return n;
}

static int send_some(struct stream *s, uint64_t now)
{
    uint64_t acked = s->mine->acked;
    if (s->next <= acked || (s->next > acked + 1 && now - s->last_acked > AGAIN_NS)) {
        s->next = acked + 1;
        s->last_acked = now;
    }
    int n = 1;
    for (unsigned i = 0; i < BURST && n == 1 && s->next <= acked + WINDOW; i++) {
        n = send_one(s, s->next);
        if (n == 1 && s->was_down) { /* nobody has what was sent meanwhile */
            s->was_down = false;
            s->next = acked;
        }
        s->next += n == 1;
        s->owes &= n != 1;
    }
    if (s->owes && n >= 0) {
        n = send_one(s, 0);
        s->owes = n != 1;
    }
    if (!s->was_down && ++s->turns % AWAY_TURNS == 0)
        send_away(s);
    s->was_down |= n == -ENETDOWN;
    return n == -ENETDOWN || n > 0 ? 0 : n;
}

/* ------------------------------------------------------------------ receiving */

static bool is_right(const struct stream *s, const struct netfront_packet *p, struct frame *f)
{
    uint64_t words[WORDS];
    if (p->bytes != FRAME_BYTES || p->flags & NETFRONT_MORE)
        return false;
    memcpy(f, p->data, sizeof(*f));
    memcpy(words, (const char *)p->data + sizeof(*f), sizeof(words));
    if (f->magic != MAGIC || f->guest != (s->life->index ^ 1) || f->checksum != checksum(f))
        return false;
    for (unsigned i = 0; i < WORDS; i++)
        if (words[i] != word(f->guest, f->number, i))
            return false;
    return true;
}

/* How many steps the two streams made by it. */
static unsigned take(struct stream *s, const struct netfront_packet *p, uint64_t now)
{
    struct guest_tally *tally = &s->life->board->tally;
    struct frame f;
    unsigned steps = 0;
    if (!is_right(s, p, &f)) {
        tally->errors++;
        guest_damaged(s->life, "a frame of %u bytes is not as it was sent", p->bytes);
        return 0;
    }
    if (f.sending <= s->mine->heard) {
        tally->duplicated++;
        guest_damaged(s->life, "sending %llu came after %llu", (unsigned long long)f.sending,
                      (unsigned long long)s->mine->heard);
        return 0;
    }
    tally->dropped += f.sending - s->mine->heard - 1;
    s->mine->heard = f.sending;
    if (f.got > s->mine->acked) {
        steps += (unsigned)(f.got - s->mine->acked);
        __atomic_store_n(&s->mine->acked, f.got, __ATOMIC_SEQ_CST);
        s->last_acked = now;
    }
    if (f.number == s->mine->got + 1) {
        __atomic_store_n(&s->mine->got, f.number, __ATOMIC_SEQ_CST);
        steps++;
    }
    s->owes |= f.number != 0;
    return steps;
}

static int receive(struct stream *s, uint64_t now)
{
    struct netfront_packet packets[NETFRONT_CHAIN_MAX + BURST];
    int n = netfront_receive(s->nic, 0, packets, NETFRONT_CHAIN_MAX + BURST);
    unsigned steps = 0;
    if (n <= 0)
        return n == -ENETDOWN ? 0 : n;
    for (int i = 0; i < n; i++)
        steps += take(s, &packets[i], now);
    netfront_release(s->nic, 0, packets, (unsigned)n);
    if (steps)
        guest_completed(s->life, steps, &s->last, now);
    s->life->board->tally.requests += steps;
    return n;
}

/* ------------------------------------------------------------------- its life */

static int talk(struct stream *s)
{
    int error = 0;
    s->last = s->last_acked = load_now_ns();
    s->next = s->mine->acked + 1;
    while (!error && !bench_stop && guest_order(s->life) == GUEST_WORK) {
        uint64_t now = load_now_ns();
        int n = receive(s, now);
        error = n < 0 ? n : send_some(s, now);
        if (!error && n == 0 && netfront_wait(s->nic, 0, 1) < 0)
            error = -EIO;
        if (!error && now - s->last > s->life->patience_ns) {
            s->life->board->tally.lost += s->next - s->mine->acked - 1;
            guest_damaged(s->life, "nothing came for %g s", (double)s->life->patience_ns / 1e9);
            error = -ETIMEDOUT;
        }
    }
    return error;
}

bool restart_stream(const struct guest_life *life)
{
    struct stream s = {.life = life, .mine = &life->board->stream};
    struct netfront_options opt = {
        .attach = life->attach, .queues = 1, .pool_pages = POOL_PAGES, .no_offload = 1};
    uint64_t end = load_now_ns() + ATTACH_MS * 1000000ull;
    int error;
    /* The daemon may not have seen yet that the one before died, or has no driver domain now. */
    while ((error = netfront_open(&s.nic, &opt, life->board->error, sizeof(life->board->error))) != 0 &&
           load_now_ns() < end)
        usleep(ATTACH_STEP_US);
    if (!error) {
        life->board->error[0] = '\0';
        guest_says(life, GUEST_WORKING);
        error = talk(&s);
        struct netfront_stats stats;
        netfront_stats(s.nic, &stats);
        life->board->tally.reconnects += stats.reconnects;
        netfront_close(s.nic);
    }
    if (error && life->board->error[0] == '\0')
        snprintf(life->board->error, sizeof(life->board->error), "its NIC: %s", strerror(-error));
    guest_says(life, error ? GUEST_FAILED : GUEST_LEFT);
    return !error;
}
