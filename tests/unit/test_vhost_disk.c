/* SPDX-License-Identifier: MIT */
/* What a guest's disk requests mean, and what is refused. */
#include "test_vhost_disk.h"

static void data_goes_both_ways(void **state)
{
    (void)state;
    struct asked *w = ask(0, VIRTIO_BLK_T_OUT, 8, 5 * 512, 700);
    for (uint32_t i = 0; i < w->bytes; i++)
        w->data[i] = (uint8_t)(i * 13);
    settle();
    assert_int_equal(w->status, VIRTIO_BLK_S_OK);
    assert_memory_equal(far.bytes + 8 * 512, w->data, w->bytes);
    assert_int_equal(fed[0].done[0].written, 1);
    struct asked *r = ask(1, VIRTIO_BLK_T_IN, 7, 6 * 512, 333);
    settle();
    assert_int_equal(r->status, VIRTIO_BLK_S_OK);
    assert_memory_equal(r->data, far.bytes + 7 * 512, r->bytes);
    assert_int_equal(r->data[r->bytes], UNTOUCHED);
    assert_int_equal(fed[1].done[0].written, 6 * 512 + 1);
    forget(w);
    forget(r);
}

/* A guest may cut its request as it likes: header, data and status in one piece or many. */
static void pieces_may_lie_anyhow(void **state)
{
    (void)state;
    uint8_t out[16 + 512], in[512 + 1];
    struct virtio_blk_outhdr head = { .type = VIRTIO_BLK_T_OUT, .sector = 3 };
    memcpy(out, &head, 16);
    memset(out + 16, 0x42, 512);
    struct vhost_chain whole = { .id = 0, .slots = 3 };
    piece(&whole, out, sizeof(out), false);
    piece(&whole, in, 1, true);
    in[0] = 0xff;
    fed[0].chain[fed[0].n++] = &whole;
    settle();
    assert_int_equal(in[0], VIRTIO_BLK_S_OK);
    assert_int_equal(far.bytes[3 * 512 + 511], 0x42);

    struct vhost_chain crumbs = { .id = 1, .slots = 3 };
    head = (struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_IN, .sector = 3 };
    for (unsigned i = 0; i < 16; i++)
        piece(&crumbs, (uint8_t *)&head + i, 1, false);
    piece(&crumbs, in, 100, true);
    piece(&crumbs, in + 100, 413, true); /* data and status */
    fed[0].chain[fed[0].n++] = &crumbs;
    in[512] = 0xff;
    settle();
    assert_int_equal(in[512], VIRTIO_BLK_S_OK);
    assert_int_equal(in[0], 0x42);
    assert_int_equal(in[511], 0x42);
}

static void the_end_of_the_disk_is_the_end(void **state)
{
    (void)state;
    uint8_t two[1024] = { 0 };
    assert_int_equal(outcome(VIRTIO_BLK_T_OUT, SECTORS - 2, two, 1024), VIRTIO_BLK_S_OK);
    unsigned sent = far.nlog;
    assert_int_equal(outcome(VIRTIO_BLK_T_OUT, SECTORS - 1, two, 1024), VIRTIO_BLK_S_IOERR);
    assert_int_equal(outcome(VIRTIO_BLK_T_IN, SECTORS - 1, NULL, 1024), VIRTIO_BLK_S_IOERR);
    assert_int_equal(outcome(VIRTIO_BLK_T_IN, SECTORS, NULL, 512), VIRTIO_BLK_S_IOERR);
    assert_int_equal(outcome(VIRTIO_BLK_T_IN, UINT64_MAX, NULL, 512), VIRTIO_BLK_S_IOERR);
    assert_int_equal(outcome(VIRTIO_BLK_T_OUT, UINT64_MAX / 512 + 1, two, 512), VIRTIO_BLK_S_IOERR);
    assert_int_equal(outcome(VIRTIO_BLK_T_OUT, 1ull << 55, two, 512), VIRTIO_BLK_S_IOERR);
    assert_int_equal(far.nlog, sent); /* the driver domain heard of none */
}

static void only_whole_sectors(void **state)
{
    (void)state;
    assert_int_equal(outcome(VIRTIO_BLK_T_IN, 8, NULL, 512), VIRTIO_BLK_S_OK);
    assert_int_equal(outcome(VIRTIO_BLK_T_IN, 8, NULL, 511), VIRTIO_BLK_S_IOERR);
    assert_int_equal(outcome(VIRTIO_BLK_T_IN, 8, NULL, 513), VIRTIO_BLK_S_IOERR);
    assert_int_equal(outcome(VIRTIO_BLK_T_IN, 8, NULL, 0), VIRTIO_BLK_S_IOERR);
    far.info.sector_bytes = 4096;
    assert_int_equal(outcome(VIRTIO_BLK_T_IN, 8, NULL, 512), VIRTIO_BLK_S_IOERR);
    assert_int_equal(outcome(VIRTIO_BLK_T_IN, 1, NULL, 4096), VIRTIO_BLK_S_IOERR);
    assert_int_equal(outcome(VIRTIO_BLK_T_IN, 8, NULL, 4096), VIRTIO_BLK_S_OK);
}

static void what_is_unknown_is_unsupported(void **state)
{
    (void)state;
    static const uint32_t types[] = { 2, 3, 5, 6, 7, 9, 10, 12, 14, 15, 0x80000000u, UINT32_MAX };
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        assert_int_equal(outcome(types[i], 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(far.nlog, 0);
    assert_int_equal(outcome(VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
    assert_int_equal(far.log[0].op, BLKFRONT_FLUSH);
    far.info.can_flush = far.info.can_discard = far.info.can_zeroes = 0;
    struct virtio_blk_discard_write_zeroes range = { .sector = 0, .num_sectors = 8 };
    assert_int_equal(outcome(VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(outcome(VIRTIO_BLK_T_DISCARD, 0, &range, 16), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(outcome(VIRTIO_BLK_T_WRITE_ZEROES, 0, &range, 16), VIRTIO_BLK_S_UNSUPP);
}

/* Whoever cannot be answered broke its ring; the smallest that can be did not. */
static void a_chain_that_is_no_request_breaks_the_ring(void **state)
{
    (void)state;
    static const struct { unsigned out, in; int expected; } shapes[] = {
        { 16, 1, 0 }, { 15, 1, -EPROTO }, { 0, 1, -EPROTO }, { 16, 0, -EPROTO }, { 4096, 0, -EPROTO },
    };
    uint8_t bytes[4096] = { VIRTIO_BLK_T_FLUSH }, status = 0xff;
    for (unsigned i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        struct vhost_chain c = { .id = 1, .slots = 3 };
        if (shapes[i].out)
            piece(&c, bytes, shapes[i].out, false);
        if (shapes[i].in)
            piece(&c, &status, 1, true);
        device.queue[0].bad = VHOST_BAD_NOTHING;
        fed[0].chain[fed[0].n++] = &c;
        int got = turn();
        if (shapes[i].expected) {
            assert_int_equal(got, -EPROTO);
            assert_int_equal(device.queue[0].bad, VHOST_BAD_CLASS);
        } else {
            settle();
            assert_int_equal(status, VIRTIO_BLK_S_OK);
        }
    }
    assert_int_equal(disk.ring[0].inflight, 0);
}

static void a_read_only_disk_is_not_written(void **state)
{
    (void)state;
    uint8_t sector[512] = { 0 };
    struct virtio_blk_discard_write_zeroes range = { .sector = 0, .num_sectors = 8 };
    assert_false(disk_class.features(&disk) >> VIRTIO_BLK_F_RO & 1);
    assert_int_equal(outcome(VIRTIO_BLK_T_OUT, 0, sector, 512), VIRTIO_BLK_S_OK);
    assert_int_equal(outcome(VIRTIO_BLK_T_DISCARD, 0, &range, 16), VIRTIO_BLK_S_OK);
    unsigned sent = far.nlog;
    far.info.readonly = 1;
    assert_true(disk_class.features(&disk) >> VIRTIO_BLK_F_RO & 1);
    assert_int_equal(outcome(VIRTIO_BLK_T_OUT, 0, sector, 512), VIRTIO_BLK_S_IOERR);
    assert_int_equal(outcome(VIRTIO_BLK_T_DISCARD, 0, &range, 16), VIRTIO_BLK_S_IOERR);
    assert_int_equal(outcome(VIRTIO_BLK_T_WRITE_ZEROES, 0, &range, 16), VIRTIO_BLK_S_IOERR);
    assert_int_equal(far.nlog, sent);
    assert_int_equal(outcome(VIRTIO_BLK_T_IN, 0, NULL, 512), VIRTIO_BLK_S_OK);
}

static void it_has_a_name(void **state)
{
    (void)state;
    struct asked *a = ask(0, VIRTIO_BLK_T_GET_ID, 0, 20, 7), *b = ask(0, VIRTIO_BLK_T_GET_ID, 0, 2, 2),
                 *c = ask(0, VIRTIO_BLK_T_GET_ID, 0, 64, 64);
    settle();
    assert_memory_equal(a->data, "vda\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    assert_memory_equal(b->data, "vd\xa5", 3);
    assert_memory_equal(c->data, a->data, 20);
    assert_int_equal(c->data[20], UNTOUCHED);
    assert_int_equal(a->status | b->status | c->status, VIRTIO_BLK_S_OK);
    assert_int_equal(fed[0].done[0].written, 21);
    assert_int_equal(fed[0].done[1].written, 3);
    assert_int_equal(fed[0].done[2].written, 21);
    forget(a);
    forget(b);
    forget(c);
}

static void ranges_are_checked_before_one_is_sent(void **state)
{
    (void)state;
    enum { D = VIRTIO_BLK_T_DISCARD, Z = VIRTIO_BLK_T_WRITE_ZEROES };
    static const struct {
        uint32_t type;
        uint32_t status;
        struct virtio_blk_discard_write_zeroes range;
    } cases[] = {
        { D, VIRTIO_BLK_S_OK, { 8, 16, 0 } },
        { D, VIRTIO_BLK_S_UNSUPP, { 8, 16, 1 } },
        { D, VIRTIO_BLK_S_UNSUPP, { 8, 16, 0x80000000u } },
        { D, VIRTIO_BLK_S_OK, { SECTORS - 8, 8, 0 } },
        { D, VIRTIO_BLK_S_IOERR, { SECTORS - 8, 9, 0 } },
        { D, VIRTIO_BLK_S_IOERR, { UINT64_MAX, 8, 0 } },
        { D, VIRTIO_BLK_S_IOERR, { 8, 0, 0 } },
        { D, VIRTIO_BLK_S_IOERR, { 8, UINT32_MAX, 0 } },
        { Z, VIRTIO_BLK_S_OK, { 8, 16, 0 } },
        { Z, VIRTIO_BLK_S_OK, { 8, 16, 1 } },
        { Z, VIRTIO_BLK_S_UNSUPP, { 8, 16, 2 } },
        { Z, VIRTIO_BLK_S_IOERR, { SECTORS, 1, 0 } },
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct virtio_blk_discard_write_zeroes two[2] = { { 0, 8, 0 }, cases[i].range };
        unsigned sent = far.nlog;
        assert_int_equal(outcome(cases[i].type, 0, two, sizeof(two)), cases[i].status);
        assert_int_equal(far.nlog - sent, cases[i].status == VIRTIO_BLK_S_OK ? 2 : 0);
        if (cases[i].status != VIRTIO_BLK_S_OK)
            continue;
        const struct blkfront_io *io = &far.log[far.nlog - 1];
        assert_int_equal(io->op, cases[i].type == D ? BLKFRONT_DISCARD : BLKFRONT_ZEROES);
        assert_int_equal(io->offset, cases[i].range.sector * 512);
        assert_int_equal(io->length, cases[i].range.num_sectors * 512);
        assert_int_equal(io->flags, cases[i].range.flags ? BLKFRONT_MAY_UNMAP : 0);
    }
}

static void too_many_ranges_are_refused(void **state)
{
    (void)state;
    struct virtio_blk_discard_write_zeroes ranges[DISK_RANGES_MAX + 1];
    for (unsigned i = 0; i <= DISK_RANGES_MAX; i++)
        ranges[i] = (struct virtio_blk_discard_write_zeroes){ .sector = i * 8, .num_sectors = 8 };
    assert_int_equal(outcome(VIRTIO_BLK_T_DISCARD, 0, ranges, DISK_RANGES_MAX * 16), VIRTIO_BLK_S_OK);
    assert_int_equal(far.nlog, DISK_RANGES_MAX); /* more than the queue is deep */
    assert_int_equal(outcome(VIRTIO_BLK_T_DISCARD, 0, ranges, sizeof(ranges)), VIRTIO_BLK_S_IOERR);
    assert_int_equal(outcome(VIRTIO_BLK_T_DISCARD, 0, ranges, 15), VIRTIO_BLK_S_IOERR);
    assert_int_equal(outcome(VIRTIO_BLK_T_DISCARD, 0, ranges, 17), VIRTIO_BLK_S_IOERR);
    assert_int_equal(outcome(VIRTIO_BLK_T_DISCARD, 0, ranges, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(far.nlog, DISK_RANGES_MAX);
}

/* The pool is what the driver domain sees: of a write its bytes, of a read nothing. */
static void the_pool_gets_the_bytes_of_a_write_and_no_more(void **state)
{
    (void)state;
    struct asked *w = ask(0, VIRTIO_BLK_T_OUT, 0, 3 * 512, 4096), *r = ask(0, VIRTIO_BLK_T_IN, 8, 512, 4096);
    memset(w->data, 0x11, w->bytes);
    assert_true(turn() > 0);
    assert_int_equal(far.nwaiting[0], 2);
    const uint8_t *written = far.waiting[0][0].buf, *read = far.waiting[0][1].buf;
    for (unsigned i = 0; i < PAGE; i++) {
        assert_int_equal(written[i], i < w->bytes ? 0x11 : PAINT);
        assert_int_equal(read[i], PAINT);
    }
    settle();
    forget(w);
    forget(r);
}

/* Nothing of the pool reaches a guest whose read failed. */
static void a_failed_read_gives_nothing(void **state)
{
    (void)state;
    struct asked *a = ask(0, VIRTIO_BLK_T_IN, 0, 1024, 512), *b = ask(0, VIRTIO_BLK_T_IN, 0, 1024, 512);
    assert_true(turn() > 0);
    far_does(0, 0, -EIO);
    far_does(0, 0, 0);
    assert_true(turn() > 0);
    assert_int_equal(a->status, VIRTIO_BLK_S_IOERR);
    for (unsigned i = 0; i < a->bytes; i++)
        assert_int_equal(a->data[i], UNTOUCHED);
    assert_int_equal(b->status, VIRTIO_BLK_S_OK);
    assert_memory_equal(b->data, far.bytes, b->bytes);
    /* Of the two only the good one says that its data was written. */
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(fed[0].done[i].written, fed[0].done[i].id == a->chain.id ? 1 : 1025);
    forget(a);
    forget(b);
}

static void errors_have_a_status(void **state)
{
    (void)state;
    static const struct { int error; uint8_t status; } cases[] = {
        { 0, VIRTIO_BLK_S_OK }, { -EIO, VIRTIO_BLK_S_IOERR }, { -ETIMEDOUT, VIRTIO_BLK_S_IOERR },
        { -EOPNOTSUPP, VIRTIO_BLK_S_UNSUPP },
    };
    for (unsigned i = 0; i < 4; i++) {
        struct asked *a = ask(0, VIRTIO_BLK_T_OUT, 0, 512, 512);
        assert_true(turn() > 0);
        far_does_all(cases[i].error);
        assert_true(turn() > 0);
        assert_int_equal(a->status, cases[i].status);
        forget(a);
    }
}

/* Who does not flush has each write durable; who does, not. */
static void without_flush_every_write_is_durable(void **state)
{
    (void)state;
    uint8_t sector[512] = { 0 };
    struct virtio_blk_discard_write_zeroes range = { .sector = 8, .num_sectors = 8 };
    assert_int_equal(outcome(VIRTIO_BLK_T_OUT, 0, sector, 512), VIRTIO_BLK_S_OK);
    assert_int_equal(outcome(VIRTIO_BLK_T_WRITE_ZEROES, 0, &range, 16), VIRTIO_BLK_S_OK);
    assert_int_equal(far.log[0].flags, 0);
    assert_int_equal(far.nlog, 2);
    disk_class.agreed(&disk, 0);
    assert_int_equal(outcome(VIRTIO_BLK_T_OUT, 0, sector, 512), VIRTIO_BLK_S_OK);
    assert_int_equal(far.log[2].flags, BLKFRONT_FUA);
    struct asked *z = ask(0, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 16);
    memcpy(z->data, &range, 16);
    assert_true(turn() > 0);
    assert_int_equal(far.nwaiting[0], 1); /* the flush is not sent before it is done */
    far_does_all(0);
    assert_true(turn() > 0);
    assert_int_equal(z->status, 0xff);
    assert_int_equal(far.log[far.nlog - 1].op, BLKFRONT_FLUSH);
    settle();
    assert_int_equal(z->status, VIRTIO_BLK_S_OK);
    assert_int_equal(outcome(VIRTIO_BLK_T_IN, 0, NULL, 512), VIRTIO_BLK_S_OK);
    assert_int_equal(far.log[far.nlog - 1].flags, 0);
    forget(z);
}

static void it_says_what_it_is(void **state)
{
    (void)state;
    uint8_t out[VHOST_CONFIG_MAX];
    struct virtio_blk_config c;
    assert_int_equal(disk_class.config(&disk, out), sizeof(c));
    memcpy(&c, out, sizeof(c));
    assert_int_equal(c.capacity, SECTORS);
    assert_int_equal(c.blk_size, 512);
    assert_int_equal(c.physical_block_exp, 3);
    assert_int_equal(c.seg_max, DISK_SEG_MAX);
    assert_int_equal(c.size_max, 4 * PAGE);
    assert_int_equal(c.num_queues, QUEUES);
    assert_int_equal(c.max_discard_seg, DISK_RANGES_MAX);
    assert_int_equal(c.discard_sector_alignment, 8);
    assert_int_equal(c.max_write_zeroes_sectors, DISK_ZEROES_MAX);
    uint64_t all = disk_class.features(&disk);
    far.info.can_discard = far.info.can_zeroes = far.info.can_flush = 0;
    uint64_t few = disk_class.features(&disk);
    assert_int_equal(all & ~few, 1u << VIRTIO_BLK_F_DISCARD | 1u << VIRTIO_BLK_F_WRITE_ZEROES |
                                     1u << VIRTIO_BLK_F_FLUSH);
    disk_class.config(&disk, out);
    memcpy(&c, out, sizeof(c));
    assert_int_equal(c.max_discard_sectors | c.max_write_zeroes_sectors | c.wce, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(data_goes_both_ways),
        T(pieces_may_lie_anyhow),
        T(the_end_of_the_disk_is_the_end),
        T(only_whole_sectors),
        T(what_is_unknown_is_unsupported),
        T(a_chain_that_is_no_request_breaks_the_ring),
        T(a_read_only_disk_is_not_written),
        T(it_has_a_name),
        T(ranges_are_checked_before_one_is_sent),
        T(too_many_ranges_are_refused),
        T(the_pool_gets_the_bytes_of_a_write_and_no_more),
        T(a_failed_read_gives_nothing),
        T(errors_have_a_status),
        T(without_flush_every_write_is_durable),
        T(it_says_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
