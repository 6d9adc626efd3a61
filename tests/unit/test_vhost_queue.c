/* SPDX-License-Identifier: MIT */
/* queue.h: split and packed rings against a driver that plays the guest, and each way a
 * ring can be broken, with a ring beside it that is not. */
#include "test_vhost.h"

#define SIZE 16u
#define TABLE 0x30000u /* of indirect descriptors */

struct rig {
    struct guest g;
    struct vhost_memory mem;
    struct driver d;
    struct vhost_queue q;
};

static struct vhost_chain chain;

static void rig_begin(struct rig *r, bool packed, uint16_t size, bool event_idx)
{
    memset(r, 0, sizeof(*r));
    guest_open(&r->g);
    struct vhost_region_at at = guest_region();
    assert_int_equal(vhost_memory_set(&r->mem, &at, &r->g.fd, 1), 0);
    driver_open(&r->d, &r->g, packed, size, 0);
    r->d.event_idx = event_idx;
    driver_describe(&r->d, &r->q, &r->mem);
    assert_int_equal(vhost_queue_start(&r->q, driver_base(&r->d)), 0);
}

static void rig_end(struct rig *r)
{
    vhost_memory_clear(&r->mem);
    guest_close(&r->g);
}

static bool packed_of(void **state)
{
    return *(const bool *)*state;
}

static char *data(struct rig *r, uint32_t at)
{
    return r->g.at + DATA_AT + at;
}

/* ---------------------------------------------------------------- what works */

static void test_one_chain(void **state)
{
    struct rig r;
    uint32_t len = 0;
    rig_begin(&r, packed_of(state), SIZE, false);
    assert_int_equal(vhost_queue_next(&r.q, &chain), 0);
    struct buffer b[] = { readable(0, 16), readable(0x1000, 32), writable(0x2000, 512) };
    memcpy(data(&r, 0x1000), "from the guest", sizeof("from the guest"));
    uint16_t id = driver_add(&r.d, b, 3);
    assert_true(vhost_queue_available(&r.q) > 0);
    assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
    assert_int_equal(chain.id, id);
    assert_int_equal(chain.nout, 2);
    assert_int_equal(chain.nin, 1);
    assert_int_equal(chain.out_bytes, 48);
    assert_int_equal(chain.in_bytes, 512);
    assert_string_equal(chain.piece[1].iov_base, "from the guest");
    memcpy(chain.piece[2].iov_base, "to it", 6);
    vhost_queue_done(&r.q, chain.id, chain.slots, 6);
    assert_int_equal(driver_used(&r.d, &len), -1); /* not published */
    assert_true(vhost_queue_publish(&r.q));
    assert_int_equal(driver_used(&r.d, &len), id);
    assert_int_equal(len, 6);
    assert_string_equal(data(&r, 0x2000), "to it");
    assert_false(vhost_queue_publish(&r.q));
    assert_int_equal(vhost_queue_next(&r.q, &chain), 0);
    rig_end(&r);
}

/* Chains of changing length, answered in another order than they came, many times round. */
static void round_and_round(bool packed, uint16_t size, bool indirect)
{
    struct rig r;
    uint32_t seed = 7, answered = 0;
    rig_begin(&r, packed, size, false);
    struct { uint16_t id, slots; uint32_t out; } taken[1024];
    unsigned ntaken = 0;
    uint32_t expect[1024] = { 0 };
    for (unsigned turn = 0; turn < 20000; turn++) {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        unsigned n = 1 + (seed >> 4) % 3, what = (seed >> 12) % 3;
        if (what == 0 && driver_room(&r.d, n)) {
            struct buffer b[3];
            for (unsigned i = 0; i < n; i++)
                b[i] = readable((turn % 64) * 64 + i * 8, 1 + turn % 60 + i);
            uint16_t id = indirect ? driver_add_indirect(&r.d, TABLE + (turn % 64) * 64, b, n)
                                   : driver_add(&r.d, b, n);
            expect[id] = 0;
            for (unsigned i = 0; i < n; i++)
                expect[id] += b[i].len;
        } else if (what == 1) {
            int got = vhost_queue_next(&r.q, &chain);
            assert_in_range(got, 0, 1);
            if (got) {
                assert_int_equal(chain.out_bytes, expect[chain.id]);
                taken[ntaken].id = chain.id;
                taken[ntaken].slots = chain.slots;
                taken[ntaken++].out = chain.out_bytes;
            }
        } else {
            if (ntaken > 0) {
                unsigned pick = (seed >> 8) % ntaken;
                vhost_queue_done(&r.q, taken[pick].id, taken[pick].slots, taken[pick].out);
                taken[pick] = taken[--ntaken];
            }
            if (seed & 1)
                vhost_queue_publish(&r.q);
            uint32_t len = 0;
            for (int id; (id = driver_used(&r.d, &len)) >= 0; answered++)
                assert_int_equal(len, expect[id]);
        }
    }
    assert_true(answered > 1000);
    assert_int_equal(r.q.bad, VHOST_BAD_NOTHING);
    rig_end(&r);
}

static void test_wraps(void **state)
{
    round_and_round(packed_of(state), 8, false);
    round_and_round(packed_of(state), 64, false);
    round_and_round(packed_of(state), 1024, false);
    if (packed_of(state)) /* any size will do */
        round_and_round(true, 7, false);
}

static void test_indirect(void **state)
{
    round_and_round(packed_of(state), 8, true);
}

static void test_undo(void **state)
{
    struct rig r;
    uint32_t len = 0;
    rig_begin(&r, packed_of(state), SIZE, false);
    /* At the ring's end too. */
    for (unsigned i = 0; i < 4 * SIZE; i++) {
        struct buffer b[2] = { readable(0, 8), readable(64, i + 1) };
        uint16_t id = driver_add(&r.d, b, 2), second = driver_add(&r.d, b, 1);
        struct vhost_chain other;
        assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
        assert_int_equal(vhost_queue_next(&r.q, &other), 1);
        assert_int_equal(other.id, second);
        vhost_queue_undo(&r.q, &other);
        vhost_queue_undo(&r.q, &chain);
        assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
        assert_int_equal(chain.id, id);
        assert_int_equal(chain.out_bytes, 8 + i + 1);
        assert_int_equal(vhost_queue_next(&r.q, &other), 1);
        vhost_queue_done(&r.q, chain.id, chain.slots, 0);
        vhost_queue_done(&r.q, other.id, other.slots, 0);
        vhost_queue_publish(&r.q);
        assert_int_equal(driver_used(&r.d, &len), id);
        assert_int_equal(driver_used(&r.d, &len), second);
    }
    rig_end(&r);
}

/* The base that a stopped queue tells is where the next one goes on. */
static void test_base(void **state)
{
    struct rig r;
    uint32_t len = 0;
    rig_begin(&r, packed_of(state), SIZE, false);
    for (unsigned i = 0; i < 5 * SIZE; i++) {
        struct buffer b = readable(0, i + 1);
        uint16_t id = driver_add(&r.d, &b, 1);
        assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
        assert_int_equal(chain.out_bytes, i + 1);
        vhost_queue_done(&r.q, chain.id, chain.slots, 0);
        vhost_queue_publish(&r.q);
        assert_int_equal(driver_used(&r.d, &len), id);
        uint32_t base = vhost_queue_base(&r.q);
        vhost_queue_stopped(&r.q);
        memset(&r.q, 0, sizeof(r.q));
        driver_describe(&r.d, &r.q, &r.mem);
        assert_int_equal(vhost_queue_start(&r.q, base), 0);
    }
    rig_end(&r);
}

/* Taken, dropped: a queue that is not tracked says it again. */
static void test_base_of_dropped(void **state)
{
    struct rig r;
    rig_begin(&r, packed_of(state), SIZE, false);
    struct buffer b = readable(0, 77);
    uint16_t first = driver_add(&r.d, &b, 1);
    driver_add(&r.d, &b, 1);
    assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
    assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
    uint32_t base = vhost_queue_base(&r.q);
    assert_int_equal(vhost_queue_start(&r.q, base), 0);
    assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
    assert_int_equal(chain.id, first);
    assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
    assert_int_equal(vhost_queue_next(&r.q, &chain), 0);
    rig_end(&r);
}

/* A door that is not tracked died, and the front-end says where a ring stood long ago: a split
 * ring goes on from what was answered (QEMU reads that), a packed one from the door's own note. */
static void test_stale_base(void **state)
{
    struct rig r;
    bool packed = packed_of(state);
    for (unsigned answered = 0; answered < 5 * SIZE; answered++) {
        struct buffer b = readable(0, 8);
        uint32_t len = 0;
        rig_begin(&r, packed, SIZE, true);
        for (unsigned i = 0; i < answered; i++) {
            driver_add(&r.d, &b, 1);
            assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
            vhost_queue_done(&r.q, chain.id, chain.slots, 0);
            vhost_queue_publish(&r.q);
            assert_true(driver_used(&r.d, &len) >= 0);
        }
        for (unsigned i = 0; i < SIZE; i++) /* a full ring, some of it taken */
            driver_add(&r.d, &b, 1);
        for (unsigned i = 0; i < answered % SIZE; i++)
            assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
        vhost_queue_listen(&r.q);

        memset(&r.q, 0, sizeof(r.q));
        driver_describe(&r.d, &r.q, &r.mem);
        assert_int_equal(vhost_queue_start(&r.q, packed ? driver_base(&r.d) : driver_used_ring(&r.d)[1]), 0);
        unsigned n = 0;
        for (; vhost_queue_next(&r.q, &chain) == 1; n++) {
            vhost_queue_done(&r.q, chain.id, chain.slots, 0);
            vhost_queue_publish(&r.q);
            assert_true(driver_used(&r.d, &len) >= 0);
        }
        assert_int_equal(n, SIZE);
        assert_int_equal(r.q.bad, VHOST_BAD_NOTHING);

        /* After an orderly stop only the base counts. */
        vhost_queue_stopped(&r.q);
        assert_int_equal(vhost_queue_start(&r.q, packed ? 0x8003 : 3), 0);
        assert_int_equal(r.q.next_avail, 3);
        rig_end(&r);
    }
}

/* A note of nonsense is not believed. */
static void test_note_of_nonsense(void **state)
{
    struct rig r;
    const uint16_t notes[] = { 0x4000 | SIZE, 0x7fff, 0xffff, 0x3fff };
    (void)state;
    for (unsigned i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
        rig_begin(&r, true, SIZE, false);
        driver_used_ring(&r.d)[0] = notes[i];
        assert_int_equal(vhost_queue_start(&r.q, driver_base(&r.d)), 0);
        assert_int_equal(r.q.next_used, 0);
        rig_end(&r);
    }
    rig_begin(&r, true, SIZE, false);
    memset(driver_desc(&r.d, 0), 0xff, SIZE * 16); /* all of it answered, for ever */
    driver_used_ring(&r.d)[0] = 0xc005;
    assert_int_equal(vhost_queue_start(&r.q, driver_base(&r.d)), 0);
    assert_true(r.q.next_used < SIZE);
    rig_end(&r);
}

static void answer_one(struct rig *r)
{
    struct buffer b = readable(0, 1);
    driver_add(&r->d, &b, 1);
    assert_int_equal(vhost_queue_next(&r->q, &chain), 1);
    vhost_queue_done(&r->q, chain.id, chain.slots, 0);
}

static bool publish_one(struct rig *r)
{
    uint32_t len = 0;
    answer_one(r);
    bool call = vhost_queue_publish(&r->q);
    assert_true(driver_used(&r->d, &len) >= 0);
    return call;
}

static void test_interrupts(void **state)
{
    struct rig r;
    bool packed = packed_of(state);
    rig_begin(&r, packed, SIZE, false);
    assert_true(publish_one(&r));
    driver_avail(&r.d)[packed ? 1 : 0] = 1; /* none, please */
    assert_false(publish_one(&r));
    driver_avail(&r.d)[packed ? 1 : 0] = 0;
    assert_true(publish_one(&r));
    rig_end(&r);
}

/* By index: just the one that was asked for, wherever in the ring it is. */
static void test_interrupt_at_index(void **state)
{
    struct rig r;
    bool packed = packed_of(state);
    rig_begin(&r, packed, SIZE, true);
    for (unsigned i = 0; i < 5 * SIZE; i++) {
        uint16_t at = r.d.next_used;
        bool wrap = r.d.used_wrap;
        if (packed) {
            driver_step(&r.d, &at, &wrap, 2);
            driver_avail(&r.d)[0] = (uint16_t)(at | (wrap ? 0x8000 : 0));
            driver_avail(&r.d)[1] = 2;
        } else {
            driver_avail(&r.d)[2 + SIZE] = (uint16_t)(at + 2);
        }
        assert_false(publish_one(&r));
        assert_false(publish_one(&r));
        assert_true(publish_one(&r));
        assert_false(publish_one(&r));
    }
    rig_end(&r);
}

static void test_kicks(void **state)
{
    bool packed = packed_of(state);
    struct buffer b = readable(0, 1);
    struct rig r;
    for (int event_idx = 0; event_idx < 2; event_idx++) {
        rig_begin(&r, packed, SIZE, event_idx);
        assert_false(vhost_queue_listen(&r.q));
        uint16_t *used = driver_used_ring(&r.d);
        if (packed)
            assert_int_equal(used[1], 0);
        else
            assert_int_equal(used[event_idx ? 2 + SIZE * 4 : 0], 0);
        vhost_queue_quiet(&r.q);
        if (packed)
            assert_int_equal(used[1], 1);
        else if (!event_idx)
            assert_int_equal(used[0], 1);
        driver_add(&r.d, &b, 1);
        assert_true(vhost_queue_listen(&r.q)); /* it came while we were quiet */
        assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
        assert_false(vhost_queue_listen(&r.q));
        if (event_idx && !packed)
            assert_int_equal(used[2 + SIZE * 4], 1);
        rig_end(&r);
    }
}

/* -------------------------------------------------------------- what does not */

/* An attack on a ring where all was well; the same ring with the right thing goes on. */
static void expect_bad(struct rig *r, enum vhost_bad bad)
{
    int got;
    do {
        got = vhost_queue_next(&r->q, &chain);
    } while (got == 1);
    assert_int_equal(got, -EPROTO);
    assert_int_equal(r->q.bad, bad);
    assert_int_equal(vhost_queue_next(&r->q, &chain), 0); /* and that was it */
    rig_end(r);
}

static void expect_good(struct rig *r)
{
    assert_int_equal(vhost_queue_next(&r->q, &chain), 1);
    assert_int_equal(r->q.bad, VHOST_BAD_NOTHING);
    rig_end(r);
}

static void test_bad_index_split(void **state)
{
    struct rig r;
    (void)state;
    struct buffer b = readable(0, 1);
    rig_begin(&r, false, SIZE, false);
    driver_add(&r.d, &b, 1);
    driver_avail(&r.d)[1] = SIZE + 1; /* more than fit */
    expect_bad(&r, VHOST_BAD_INDEX);
    rig_begin(&r, false, SIZE, false);
    driver_add(&r.d, &b, 1);
    driver_avail(&r.d)[2] = SIZE; /* a head outside */
    expect_bad(&r, VHOST_BAD_INDEX);
    rig_begin(&r, false, SIZE, false);
    driver_add(&r.d, &b, 1);
    driver_desc(&r.d, r.d.free_id[r.d.free_n])->a = F_NEXT;
    driver_desc(&r.d, r.d.free_id[r.d.free_n])->b = SIZE; /* the next one outside */
    expect_bad(&r, VHOST_BAD_INDEX);

    rig_begin(&r, false, SIZE, false);
    driver_add(&r.d, &b, 1);
    driver_avail(&r.d)[2] = SIZE - 1;
    *driver_desc(&r.d, SIZE - 1) = (struct raw_desc){ .addr = GUEST_AT, .len = 1 };
    expect_good(&r);
}

/* Once round the ring and over what is being worked on. */
static void test_bad_index_packed(void **state)
{
    struct rig r;
    (void)state;
    rig_begin(&r, true, SIZE, false);
    struct buffer b = readable(0, 1);
    for (unsigned i = 0; i < SIZE; i++)
        driver_add(&r.d, &b, 1);
    for (unsigned i = 0; i < SIZE; i++)
        assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
    driver_desc(&r.d, 0)->b = packed_flags(false, 0);
    expect_bad(&r, VHOST_BAD_INDEX);

    rig_begin(&r, true, SIZE, false);
    for (unsigned i = 0; i < SIZE; i++)
        driver_add(&r.d, &b, 1);
    expect_good(&r);
}

static void test_bad_loop(void **state)
{
    struct rig r;
    bool packed = packed_of(state);
    struct buffer b[SIZE];
    for (unsigned i = 0; i < SIZE; i++)
        b[i] = readable(i, 1);
    rig_begin(&r, packed, SIZE, false);
    driver_add(&r.d, b, SIZE);
    /* The last one leads on to the first. */
    if (packed) {
        driver_desc(&r.d, SIZE - 1)->b |= F_NEXT;
    } else {
        driver_desc(&r.d, SIZE - 1)->a |= F_NEXT;
        driver_desc(&r.d, SIZE - 1)->b = 0;
    }
    expect_bad(&r, VHOST_BAD_LOOP);
    rig_begin(&r, packed, SIZE, false);
    driver_add(&r.d, b, SIZE); /* all of the ring, once */
    expect_good(&r);

    /* Within an indirect table. */
    if (!packed) {
        rig_begin(&r, false, SIZE, false);
        driver_add_indirect(&r.d, TABLE, b, 3);
        struct raw_desc *t = (struct raw_desc *)(r.g.at + TABLE);
        t[2].a |= F_NEXT;
        t[2].b = 0;
        expect_bad(&r, VHOST_BAD_LOOP);
    }

    /* More pieces than are kept. */
    struct buffer many[VHOST_PIECES_MAX + 1];
    for (unsigned i = 0; i <= VHOST_PIECES_MAX; i++)
        many[i] = readable(i, 1);
    rig_begin(&r, packed, 512, false);
    driver_add(&r.d, many, VHOST_PIECES_MAX + 1);
    expect_bad(&r, VHOST_BAD_LOOP);
    rig_begin(&r, packed, 512, false);
    driver_add(&r.d, many, VHOST_PIECES_MAX);
    expect_good(&r);
}

static void one_buffer(struct rig *r, bool packed, struct buffer b)
{
    rig_begin(r, packed, SIZE, false);
    driver_add(&r->d, &b, 1);
}

static void test_bad_address(void **state)
{
    struct rig r;
    bool packed = packed_of(state);
    const uint64_t end = GUEST_AT + GUEST_BYTES;
    const struct buffer outside[] = {
        { end, 1, false }, { end - 1, 2, false }, { GUEST_AT - 1, 1, false }, { GUEST_AT - 1, 2, true },
        { 0, 16, false }, { UINT64_MAX, 1, true }, { UINT64_MAX - 7, 16, false },
        { GUEST_AT, UINT32_MAX, true },
    };
    for (unsigned i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        one_buffer(&r, packed, outside[i]);
        expect_bad(&r, VHOST_BAD_ADDRESS);
    }
    one_buffer(&r, packed, (struct buffer){ end - 2, 2, false });
    expect_good(&r);
    one_buffer(&r, packed, (struct buffer){ GUEST_AT, GUEST_BYTES, true });
    expect_good(&r);

    /* A table outside. */
    struct buffer b = readable(0, 1);
    rig_begin(&r, packed, SIZE, false);
    driver_add_indirect(&r.d, TABLE, &b, 1);
    driver_desc(&r.d, packed ? 0 : r.d.free_id[r.d.free_n])->addr = end - 8;
    expect_bad(&r, VHOST_BAD_ADDRESS);
}

static void indirect_of(struct rig *r, bool packed, uint32_t bytes, uint16_t more)
{
    struct buffer b[2] = { readable(0, 1), readable(8, 1) };
    rig_begin(r, packed, SIZE, false);
    driver_add_indirect(&r->d, TABLE, b, 2);
    struct raw_desc *raw = driver_desc(&r->d, packed ? 0 : r->d.free_id[r->d.free_n]);
    raw->len = bytes;
    *(packed ? &raw->b : &raw->a) |= more;
}

static void test_bad_indirect(void **state)
{
    struct rig r;
    bool packed = packed_of(state);
    const uint32_t lengths[] = { 0, 1, 15, 17, 33, (VHOST_QUEUE_SIZE_MAX + 1) * 16 };
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        indirect_of(&r, packed, lengths[i], 0);
        expect_bad(&r, VHOST_BAD_INDIRECT);
    }
    indirect_of(&r, packed, 32, F_NEXT);
    expect_bad(&r, VHOST_BAD_INDIRECT);
    indirect_of(&r, packed, 32, 0); /* one within another */
    struct raw_desc *t = (struct raw_desc *)(r.g.at + TABLE);
    *(packed ? &t[1].b : &t[1].a) |= F_INDIRECT;
    expect_bad(&r, VHOST_BAD_INDIRECT);
    indirect_of(&r, packed, 32, 0); /* not agreed */
    r.q.indirect = false;
    expect_bad(&r, VHOST_BAD_INDIRECT);
    if (!packed) {
        indirect_of(&r, packed, 32, 0); /* leads out of the table */
        t = (struct raw_desc *)(r.g.at + TABLE);
        t[0].b = 2;
        expect_bad(&r, VHOST_BAD_INDIRECT);
    }
    indirect_of(&r, packed, 32, 0);
    expect_good(&r);
}

static void test_bad_order(void **state)
{
    struct rig r;
    struct buffer b[] = { readable(0, 1), writable(8, 1), readable(16, 1) };
    rig_begin(&r, packed_of(state), SIZE, false);
    driver_add(&r.d, b, 3);
    expect_bad(&r, VHOST_BAD_ORDER);
    rig_begin(&r, packed_of(state), SIZE, false);
    driver_add(&r.d, b, 2);
    expect_good(&r);
}

/* A guest with more than 4 GiB behind one address. */
static void huge_rig(struct rig *r, bool packed, unsigned pieces, uint32_t each)
{
    struct buffer b[8];
    rig_begin(r, packed, SIZE, false);
    int fd = memfd_create("huge", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)2 << 30), 0);
    const uint64_t far = UINT64_C(1) << 40;
    struct vhost_region_at at = { .guest = far, .bytes = UINT64_C(2) << 30, .user = far };
    assert_int_equal(vhost_memory_add(&r->mem, &at, fd), 0);
    close(fd);
    for (unsigned i = 0; i < pieces; i++)
        b[i] = (struct buffer){ at.guest, each, true };
    driver_add(&r->d, b, pieces);
}

static void test_bad_length(void **state)
{
    struct rig r;
    huge_rig(&r, packed_of(state), 3, UINT32_C(0x60000000));
    expect_bad(&r, VHOST_BAD_LENGTH);
    huge_rig(&r, packed_of(state), 2, UINT32_C(0x60000000));
    expect_good(&r);
}

static void test_bad_id(void **state)
{
    struct rig r;
    bool packed = packed_of(state);
    struct buffer b = readable(0, 1);
    rig_begin(&r, packed, SIZE, false);
    uint16_t id = driver_add(&r.d, &b, 1);
    driver_add(&r.d, &b, 1);
    if (packed)
        driver_desc(&r.d, 1)->a = id;
    else
        driver_avail(&r.d)[3] = id;
    expect_bad(&r, VHOST_BAD_ID);
    if (packed) {
        rig_begin(&r, packed, SIZE, false);
        driver_add(&r.d, &b, 1);
        driver_desc(&r.d, 0)->a = SIZE;
        expect_bad(&r, VHOST_BAD_ID);
    }

    /* Once it is done it may come again. */
    rig_begin(&r, packed, SIZE, false);
    uint32_t len = 0;
    id = driver_add(&r.d, &b, 1);
    assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
    vhost_queue_done(&r.q, chain.id, chain.slots, 0);
    vhost_queue_publish(&r.q);
    assert_int_equal(driver_used(&r.d, &len), id);
    assert_int_equal(driver_add(&r.d, &b, 1), id);
    expect_good(&r);
}

static void restart_bad(struct rig *r)
{
    assert_int_equal(vhost_queue_start(&r->q, driver_base(&r->d)), -EPROTO);
    assert_int_equal(r->q.bad, VHOST_BAD_MEMORY);
    driver_describe(&r->d, &r->q, &r->mem);
    assert_int_equal(vhost_queue_start(&r->q, driver_base(&r->d)), 0);
}

static void test_bad_memory(void **state)
{
    struct rig r;
    bool packed = packed_of(state);
    rig_begin(&r, packed, SIZE, false);
    uint64_t *const rings[] = { &r.q.desc_user, &r.q.avail_user, &r.q.used_user };
    for (unsigned i = 0; i < 3; i++) {
        *rings[i] = 0;
        restart_bad(&r);
        *rings[i] = GUEST_USER + GUEST_BYTES - (packed && i > 0 ? 2 : 16);
        restart_bad(&r);
        *rings[i] = UINT64_MAX - 3;
        restart_bad(&r);
        *rings[i] = GUEST_AT; /* a guest's address is none of the VMM's */
        restart_bad(&r);
        *rings[i] |= 1;
        restart_bad(&r);
    }
    r.q.size = 0;
    restart_bad(&r);
    r.q.size = VHOST_QUEUE_SIZE_MAX + 1;
    restart_bad(&r);
    r.q.size = 15;
    if (!packed)
        restart_bad(&r);
    else
        assert_int_equal(vhost_queue_start(&r.q, SIZE), -EPROTO); /* a base outside */
    rig_end(&r);
}

/* What was taken from the ring is a copy: the guest may write what it likes then. */
static void test_copied_once(void **state)
{
    struct rig r;
    struct buffer b = readable(0, 8);
    rig_begin(&r, packed_of(state), SIZE, false);
    driver_add(&r.d, &b, 1);
    assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
    void *before = chain.piece[0].iov_base;
    memset(r.g.at, 0xff, RING_BYTES);
    assert_ptr_equal(chain.piece[0].iov_base, before);
    assert_int_equal(chain.piece[0].iov_len, 8);
    vhost_queue_done(&r.q, chain.id, chain.slots, 0);
    vhost_queue_publish(&r.q);
    rig_end(&r);
}

/* A buffer, a table and a descriptor of it that lie across two regions. */
static void test_across_regions(void **state)
{
    struct rig r;
    bool packed = packed_of(state);
    const uint64_t half = GUEST_BYTES / 2;
    struct vhost_region_at two[2] = { guest_region(), guest_region() };
    rig_begin(&r, packed, SIZE, false);
    int fds[2] = { r.g.fd, r.g.fd };
    two[0].bytes = two[1].bytes = half;
    two[1].guest += half;
    two[1].user += half + 0x100000;
    two[1].offset += half;
    assert_int_equal(vhost_memory_set(&r.mem, two, fds, 2), 0);
    assert_int_equal(vhost_queue_start(&r.q, driver_base(&r.d)), 0);
    struct buffer b[2] = { { GUEST_AT + half - 16, 32, false }, { GUEST_AT + half - 1, 2, true } };
    driver_add(&r.d, b, 2);
    assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
    assert_int_equal(chain.nout, 2);
    assert_int_equal(chain.nin, 2);
    assert_int_equal(chain.piece[0].iov_len, 16);
    assert_int_equal(chain.out_bytes, 32);

    uint32_t table = (uint32_t)half - 24;
    driver_add_indirect(&r.d, table, b, 2);
    assert_int_equal(vhost_queue_next(&r.q, &chain), 1);
    assert_int_equal(chain.nout + chain.nin, 4);
    rig_end(&r);
}

static void test_names(void **state)
{
    (void)state;
    for (int i = 0; i < VHOST_BADS; i++)
        assert_non_null(vhost_bad_name((enum vhost_bad)i));
    assert_string_equal(vhost_bad_name(VHOST_BADS), "unknown");
}

#define both(test) cmocka_unit_test_prestate(test, &split), cmocka_unit_test_prestate(test, &packed)

int main(void)
{
    static bool split = false, packed = true;
    const struct CMUnitTest tests[] = {
        both(test_one_chain),
        both(test_wraps),
        both(test_indirect),
        both(test_undo),
        both(test_base),
        both(test_base_of_dropped),
        both(test_stale_base),
        cmocka_unit_test(test_note_of_nonsense),
        both(test_interrupts),
        both(test_interrupt_at_index),
        both(test_kicks),
        cmocka_unit_test(test_bad_index_split),
        cmocka_unit_test(test_bad_index_packed),
        both(test_bad_loop),
        both(test_bad_address),
        both(test_bad_indirect),
        both(test_bad_order),
        both(test_bad_length),
        both(test_bad_id),
        both(test_bad_memory),
        both(test_copied_once),
        both(test_across_regions),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
