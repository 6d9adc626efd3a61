/* SPDX-License-Identifier: MIT */
/* The driver's side of a virtqueue in the benchmarks, against a plain device. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <linux/virtio_ring.h>

#include "tests/bench/vuring.h"

#define SIZE     16u
#define ROUNDS   20000u
#define PIECES   4u
#define TABLE_AT 0x70000000ull /* as the device calls the table of slot 0 */

static _Alignas(4096) uint8_t memory[8192];
static struct vring_desc tables[SIZE][PIECES];
static struct vuring ring;

/* ----------------------------------------------------------- a device, by the book */

struct seen {
    uint16_t id, places;
    unsigned n;
    struct vuring_piece piece[PIECES];
};

static struct {
    uint16_t avail, used; /* split: indices; packed: places */
    bool avail_wrap, used_wrap;
} dev;

static void begin(bool packed, bool event_idx)
{
    memset(memory, 0, sizeof(memory));
    memset(&dev, 0, sizeof(dev));
    dev.avail_wrap = dev.used_wrap = true;
    size_t driver_at, device_at;
    assert_true(vuring_bytes(SIZE, packed, &driver_at, &device_at) <= sizeof(memory));
    vuring_init(&ring, memory, SIZE, packed, event_idx);
}

static uint16_t *half(uint8_t *at)
{
    return (uint16_t *)(void *)at;
}

static void see(struct seen *s, uint64_t addr, uint32_t len, uint16_t flags)
{
    assert_true(s->n < PIECES);
    s->piece[s->n++] = (struct vuring_piece){addr, len, flags & VRING_DESC_F_WRITE};
}

static bool next_split(struct seen *s)
{
    if (*half(ring.driver + 2) == dev.avail)
        return false;
    uint16_t at = half(ring.driver + 4)[dev.avail++ % SIZE];
    struct vring_desc *desc = (void *)ring.desc;
    *s = (struct seen){.id = at};
    if (desc[at].flags & VRING_DESC_F_INDIRECT) {
        desc = tables[(desc[at].addr - TABLE_AT) / sizeof(tables[0])];
        at = 0;
    }
    for (;; at = desc[at].next) {
        see(s, desc[at].addr, desc[at].len, desc[at].flags);
        if (!(desc[at].flags & VRING_DESC_F_NEXT))
            return true;
    }
}

static void answer_split(const struct seen *s, uint32_t written)
{
    struct vring_used_elem *used = (void *)(ring.device + 4);
    used[dev.used % SIZE] = (struct vring_used_elem){.id = s->id, .len = written};
    *half(ring.device + 2) = ++dev.used;
}

static bool next_packed(struct seen *s)
{
    struct vring_packed_desc *desc = (void *)ring.desc;
    *s = (struct seen){0};
    for (;;) {
        struct vring_packed_desc *d = &desc[dev.avail];
        bool avail = d->flags & 1u << VRING_PACKED_DESC_F_AVAIL;
        bool used = d->flags & 1u << VRING_PACKED_DESC_F_USED;
        if (s->places == 0 && (avail != dev.avail_wrap || used == dev.avail_wrap))
            return false;
        assert_true(avail == dev.avail_wrap && used != dev.avail_wrap); /* a chain is there as a whole */
        s->places++;
        s->id = d->id;
        if (++dev.avail == SIZE) {
            dev.avail = 0;
            dev.avail_wrap = !dev.avail_wrap;
        }
        if (d->flags & VRING_DESC_F_INDIRECT) {
            struct vring_packed_desc *table = (void *)tables[(d->addr - TABLE_AT) / sizeof(tables[0])];
            for (unsigned i = 0; i < d->len / sizeof(*table); i++)
                see(s, table[i].addr, table[i].len, table[i].flags);
            return true;
        }
        see(s, d->addr, d->len, d->flags);
        if (!(d->flags & VRING_DESC_F_NEXT))
            return true;
    }
}

static void answer_packed(const struct seen *s, uint32_t written)
{
    struct vring_packed_desc *d = (struct vring_packed_desc *)(void *)ring.desc + dev.used;
    d->id = s->id;
    d->len = written;
    d->flags = dev.used_wrap ? 1u << VRING_PACKED_DESC_F_AVAIL | 1u << VRING_PACKED_DESC_F_USED : 0;
    dev.used = (uint16_t)(dev.used + s->places);
    if (dev.used >= SIZE) {
        dev.used = (uint16_t)(dev.used - SIZE);
        dev.used_wrap = !dev.used_wrap;
    }
}

static bool dev_next(struct seen *s)
{
    return ring.packed ? next_packed(s) : next_split(s);
}

static void dev_answer(const struct seen *s, uint32_t written)
{
    if (ring.packed)
        answer_packed(s, written);
    else
        answer_split(s, written);
}

/* ----------------------------------------------------------------------- requests */

static unsigned draw(void)
{
    static uint64_t x = 88172645463325252u; /* xorshift64: the same every time */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (unsigned)(x >> 32);
}

static unsigned make_pieces(struct vuring_piece *piece, unsigned slot, unsigned round)
{
    unsigned n = 1 + draw() % PIECES, reads = draw() % (n + 1);
    for (unsigned i = 0; i < n; i++)
        piece[i] = (struct vuring_piece){0x10000ull * (round + 1) + slot * 64 + i, i + 1, i >= reads};
    return n;
}

struct asked {
    bool busy;
    unsigned n;
    struct vuring_piece piece[PIECES];
};

static int add(unsigned slot, struct asked *a, bool indirect)
{
    return vuring_add(&ring, a->piece, a->n, indirect ? tables[slot] : NULL,
                      TABLE_AT + slot * sizeof(tables[0]), (uint16_t)slot);
}

/* Whatever is asked comes to the device as it is, and back once, in whichever order it answers. */
static void all_come_back_once(bool packed, bool event_idx, bool indirect)
{
    struct asked asked[SIZE] = {0};
    struct seen held[SIZE + 1];
    unsigned holding = 0, came = 0;
    begin(packed, event_idx);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned slot = 0; slot < SIZE; slot++) {
            if (asked[slot].busy || draw() % 2)
                continue;
            asked[slot].n = make_pieces(asked[slot].piece, slot, round);
            asked[slot].busy = add(slot, &asked[slot], indirect) == 0;
        }
        struct seen s;
        assert_true(round == 0 || !dev_next(&s)); /* not before it is published */
        vuring_publish(&ring);
        while (dev_next(&held[holding])) {
            unsigned slot = (unsigned)(held[holding].piece[0].guest % 0x10000 / 64);
            assert_int_equal(held[holding].n, asked[slot].n);
            for (unsigned i = 0; i < asked[slot].n; i++) {
                assert_int_equal(held[holding].piece[i].guest, asked[slot].piece[i].guest);
                assert_int_equal(held[holding].piece[i].bytes, asked[slot].piece[i].bytes);
                assert_int_equal(held[holding].piece[i].written, asked[slot].piece[i].written);
            }
            holding++;
        }
        for (unsigned i = draw() % 5; i && holding; i--) {
            unsigned which = draw() % holding;
            dev_answer(&held[which], (uint32_t)(held[which].piece[0].guest % 0x10000 / 64));
            held[which] = held[--holding];
        }
        uint16_t slot;
        uint32_t written;
        int n;
        while ((n = vuring_take(&ring, &slot, &written)) == 1) {
            assert_true(asked[slot].busy);
            assert_int_equal(written, slot);
            asked[slot].busy = false;
            came++;
        }
        assert_int_equal(n, 0);
    }
    assert_true(came > ROUNDS);
}

static void split_rings(void **state)
{
    (void)state;
    all_come_back_once(false, false, false);
    all_come_back_once(false, true, false);
    all_come_back_once(false, true, true);
}

static void packed_rings(void **state)
{
    (void)state;
    all_come_back_once(true, false, false);
    all_come_back_once(true, true, false);
    all_come_back_once(true, true, true);
}

static void a_full_ring_says_so(void **state)
{
    (void)state;
    struct asked one = {.n = 3, .piece = {{1, 1, false}, {2, 2, false}, {3, 3, true}}};
    for (int packed = 0; packed < 2; packed++) {
        begin(packed, false);
        for (unsigned i = 0; i < SIZE / 3; i++)
            assert_int_equal(add(i, &one, false), 0);
        assert_int_equal(add(SIZE / 3, &one, false), -ENOSPC);
        assert_int_equal(add(SIZE / 3, &one, true), 0); /* one descriptor is left, and one will do */
        assert_int_equal(add(SIZE / 3 + 1, &one, true), -ENOSPC);
    }
}

static void an_answer_to_nothing_is_told(void **state)
{
    (void)state;
    struct asked one = {.n = 1, .piece = {{1, 1, true}}};
    uint16_t slot;
    uint32_t written;
    for (int packed = 0; packed < 2; packed++) {
        struct seen s;
        begin(packed, false);
        assert_int_equal(add(5, &one, false), 0);
        vuring_publish(&ring);
        assert_true(dev_next(&s));
        dev_answer(&s, 1);
        assert_int_equal(vuring_take(&ring, &slot, &written), 1); /* the control */
        assert_int_equal(slot, 5);
        dev_answer(&s, 1);
        assert_int_equal(vuring_take(&ring, &slot, &written), -EPROTO); /* twice */

        begin(packed, false);
        assert_int_equal(add(5, &one, false), 0);
        vuring_publish(&ring);
        assert_true(dev_next(&s));
        s.id = SIZE;
        dev_answer(&s, 1);
        assert_int_equal(vuring_take(&ring, &slot, &written), -EPROTO); /* there is no such one */
    }
}

/* -------------------------------------------------------------------------- bells */

static bool add_one_and_publish(unsigned slot)
{
    struct asked one = {.n = 1, .piece = {{1, 1, true}}};
    assert_int_equal(add(slot, &one, false), 0);
    return vuring_publish(&ring);
}

static void answer_one(void)
{
    struct seen s;
    uint16_t slot;
    uint32_t written;
    assert_true(dev_next(&s));
    dev_answer(&s, 1);
    assert_int_equal(vuring_take(&ring, &slot, &written), 1);
}

static void kicks_when_the_device_wants_them(void **state)
{
    (void)state;
    begin(false, false);
    assert_false(vuring_publish(&ring)); /* of nothing */
    assert_true(add_one_and_publish(0));
    *half(ring.device) = VRING_USED_F_NO_NOTIFY;
    assert_false(add_one_and_publish(1));

    begin(true, false);
    assert_true(add_one_and_publish(0));
    *half(ring.device + 2) = VRING_PACKED_EVENT_FLAG_DISABLE;
    assert_false(add_one_and_publish(1));
}

static void kicks_at_the_place_that_was_named(void **state)
{
    (void)state;
    begin(false, true);
    uint16_t *event = half(ring.device + 4 + 8 * SIZE);
    for (unsigned i = 0; i < 70000; i++) {
        *event = (uint16_t)(i + i % 2); /* this one, or the next one */
        assert_int_equal(add_one_and_publish(0), i % 2 == 0);
        answer_one();
    }
    begin(true, true);
    *half(ring.device + 2) = VRING_PACKED_EVENT_FLAG_DESC;
    for (unsigned i = 0; i < 100 * SIZE; i++) {
        unsigned place = (i + i % 3) % SIZE, lap = (i + i % 3) / SIZE;
        *half(ring.device) = (uint16_t)(place | (lap % 2 ? 0 : 0x8000));
        assert_int_equal(add_one_and_publish(0), i % 3 == 0);
        answer_one();
    }
}

/* Would the device call, once it has answered? By the book, from what the driver wrote. */
static bool would_call(void)
{
    if (!ring.packed && !ring.event_idx)
        return !(*half(ring.driver) & VRING_AVAIL_F_NO_INTERRUPT);
    if (!ring.packed)
        return vring_need_event(*half(ring.driver + 4 + 2 * SIZE), dev.used, (uint16_t)(dev.used - 1));
    uint16_t flags = *half(ring.driver + 2), off_wrap = *half(ring.driver);
    if (flags != VRING_PACKED_EVENT_FLAG_DESC)
        return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
    unsigned was = (dev.used + SIZE - 1) % SIZE;
    bool wrap = dev.used ? dev.used_wrap : !dev.used_wrap;
    return (off_wrap & 0x7fff) == was && off_wrap >> 15 == wrap;
}

static void calls_when_it_listens(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        begin(kind & 1, kind & 2);
        for (unsigned i = 0; i < 10 * SIZE; i++) {
            struct seen s;
            uint16_t slot;
            uint32_t written;
            bool listens = i % 2;
            assert_false(vuring_listen(&ring));
            if (!listens)
                vuring_quiet(&ring);
            add_one_and_publish(0);
            assert_true(dev_next(&s));
            dev_answer(&s, 1);
            assert_int_equal(would_call(), listens);
            assert_true(vuring_has_answer(&ring));
            assert_true(vuring_listen(&ring)); /* there is one already: no sleep */
            assert_int_equal(vuring_take(&ring, &slot, &written), 1);
            assert_false(vuring_has_answer(&ring));
        }
    }
}

static void where_a_ring_is_taken_up(void **state)
{
    (void)state;
    begin(true, false);
    assert_int_equal(vuring_base(&ring), 0x80008000);
    begin(false, false);
    assert_int_equal(vuring_base(&ring), 0);
    for (unsigned i = 0; i < 3; i++) {
        add_one_and_publish(i);
        answer_one();
    }
    add_one_and_publish(3);
    assert_int_equal(vuring_base(&ring), 3); /* the fourth is in flight */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_rings),
        cmocka_unit_test(packed_rings),
        cmocka_unit_test(a_full_ring_says_so),
        cmocka_unit_test(an_answer_to_nothing_is_told),
        cmocka_unit_test(kicks_when_the_device_wants_them),
        cmocka_unit_test(kicks_at_the_place_that_was_named),
        cmocka_unit_test(calls_when_it_listens),
        cmocka_unit_test(where_a_ring_is_taken_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
