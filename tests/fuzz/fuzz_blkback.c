/* SPDX-License-Identifier: MIT */
/*
 * fuzz_blkback.c - a hostile block frontend and a failing device.
 *
 * The input is a script: it fills slots, pages and indices, lets the backend
 * take a turn, changes memory between the backend's check and its use, and
 * says how the device answers.  What must hold:
 *   - each request that was taken gets exactly one answer, or the connection
 *     is broken;
 *   - the device is only ever given memory that was granted, or the backend's
 *     own bounce memory, and places on the disk;
 *   - at the end nothing is in flight, mapped or leaked.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../backends/blk/sched.h"
#include "../fake_hyp.h"

#define FRONT      3
#define BACK       2
#define DATA_PAGES 48u
#define DISK_BYTES (1u << 20)
#define HELD_MAX   256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct script {
    const uint8_t *at, *end;
};

static struct blk_sched sched;
static struct script script;
static struct hyp *front, *back;
static struct hyp_pool *pool, *rdonly;
static struct ring_front ring;
static struct hyp_evtchn *front_ch, *back_ch;
static struct hyp_map *map;
static void *back_ring;
static unsigned ring_pages;
static struct blk_queue *q;

static struct {
    struct blkdev dev;
    struct blkdev_io *io[HELD_MAX];
    unsigned n;
} device;

#define MUST(what)                                              \
    do {                                                        \
        if (!(what)) {                                          \
            fprintf(stderr, "line %d: not true: %s\n", __LINE__, #what); \
            abort();                                            \
        }                                                       \
    } while (0)

/* ---------------------------------------------------------------- the script */

static uint8_t byte(void)
{
    return script.at < script.end ? *script.at++ : 0;
}

static uint32_t word(void)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < 4; i++)
        v = v << 8 | byte();
    return v;
}

static void bytes(void *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)dst)[i] = byte();
}

static uint8_t *page(unsigned i)
{
    return (uint8_t *)hyp_pool_base(pool) + (size_t)(ring_pages + i % DATA_PAGES) * HYP_PAGE_SIZE;
}

/* Mostly references that are granted; now and then read-only, past the end or any. */
static grant_ref_t reference(void)
{
    uint8_t kind = byte();
    if (kind < 240)
        return hyp_pool_ref(pool, ring_pages + kind % DATA_PAGES);
    if (kind < 246)
        return hyp_pool_ref(rdonly, 0);
    if (kind < 250)
        return hyp_pool_ref(pool, kind % ring_pages);
    return word();
}

static struct blkif_request_segment segment(void)
{
    struct blkif_request_segment s = { .gref = reference() };
    uint8_t kind = byte();
    s.first_sect = kind & 7;
    s.last_sect = kind & 0x80 ? byte() : 7;
    return s;
}

/* -------------------------------------------------------------- hostile memory */

static void write_list(unsigned at, unsigned n)
{
    struct blkif_request_segment *list = (struct blkif_request_segment *)page(at);
    for (unsigned i = 0; i < n && i < HYP_PAGE_SIZE / sizeof(*list); i++)
        list[i] = segment();
}

static void scribble(void)
{
    uint8_t where = byte();
    uint32_t at = word();
    if (where & 1)
        page(where >> 1)[at % HYP_PAGE_SIZE] = byte();
    else
        ((uint8_t *)hyp_pool_base(pool))[at % (ring_pages * HYP_PAGE_SIZE)] = byte();
}

static void put_request(void)
{
    static const uint8_t ops[] = { BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_DISCARD,
                                   BLKIF_OP_INDIRECT, BLK_OP_WRITE_ZEROES, BLK_OP_WRITE_FUA };
    union {
        struct blkif_request rw;
        struct blkif_request_discard discard;
        struct blkif_request_indirect indirect;
    } rq;
    uint8_t op = byte(), n = byte();

    memset(&rq, 0, sizeof(rq));
    rq.rw.operation = op < 224 ? ops[op % 7] : op;
    rq.rw.id = word();
    rq.rw.sector_number = byte() < 250 ? word() % (DISK_BYTES / 512) : (uint64_t)word() << 32 | word();
    if (rq.rw.operation == BLKIF_OP_INDIRECT) {
        rq.indirect.indirect_op = op & 16 ? BLKIF_OP_WRITE : op & 32 ? byte() : BLKIF_OP_READ;
        rq.indirect.nr_segments = op & 64 ? (uint16_t)word() : n;
        rq.indirect.sector_number = word() % (DISK_BYTES / 512);
        rq.indirect.indirect_grefs[0] = reference();
    } else if (rq.rw.operation == BLKIF_OP_DISCARD || rq.rw.operation == BLK_OP_WRITE_ZEROES) {
        rq.discard.flag = n;
        rq.discard.nr_sectors = n < 250 ? word() % 4096 : (uint64_t)word() << 32 | word();
    } else {
        rq.rw.nr_segments = n < 200 ? n % 12 : n;
        for (unsigned i = 0; i < BLKIF_MAX_SEGMENTS_PER_REQUEST && i < rq.rw.nr_segments; i++)
            rq.rw.seg[i] = segment();
    }
    /* It may put more than fit: the ring is its own. */
    ring_front_put_request(&ring, &rq, sizeof(struct blkif_request));
}

/* ------------------------------------------------------------------ the device */

static bool inside(const void *p, size_t n, const void *base, size_t size)
{
    uintptr_t off = (uintptr_t)p - (uintptr_t)base;
    return off <= size && n <= size - off;
}

static void check_piece(const struct iovec *v)
{
    struct hyp_range range;
    if (q->grants == BLK_GRANTS_COPY)
        MUST(inside(v->iov_base, v->iov_len, q->bounce, BLK_BOUNCE_PAGES * HYP_PAGE_SIZE));
    else if (q->grants == BLK_GRANTS_PERSISTENT)
        MUST(hyp_map_range(q->map, v->iov_base, &range) == 0 &&
             inside(v->iov_base, v->iov_len, range.base, range.bytes));
    MUST(v->iov_len > 0 && v->iov_len % 512 == 0);
}

static int submit(struct blkdev *dev, struct blkdev_io *io)
{
    uint64_t total = 0;

    MUST(io->offset <= DISK_BYTES && io->bytes <= DISK_BYTES - io->offset);
    MUST(((io->offset | io->bytes) & (dev->geo.sector_bytes - 1)) == 0);
    MUST(io->op == BLKDEV_READ || io->op == BLKDEV_FLUSH || !dev->geo.readonly);
    if (device.n == HELD_MAX || byte() == 0xee)
        return -EAGAIN;
    if (byte() & 1)
        scribble(); /* after the check, before the use */
    for (unsigned i = 0; i < io->niov; i++) {
        check_piece(&io->iov[i]);
        total += io->iov[i].iov_len;
        if (io->op == BLKDEV_READ)
            memset(io->iov[i].iov_base, 0xa5, io->iov[i].iov_len);
        else
            for (size_t b = 0; b < io->iov[i].iov_len; b += 512)
                (void)((volatile uint8_t *)io->iov[i].iov_base)[b];
    }
    MUST(io->niov == 0 || total == io->bytes);
    device.io[device.n++] = io;
    return 0;
}

static void close_device(struct blkdev *dev)
{
    (void)dev;
}

/* Any of those held, in any order, with any outcome. */
static void complete_one(void)
{
    static const int outcomes[] = { 0, 0, 0, 0, -EIO, -ENOSPC, -EFAULT, -EOPNOTSUPP };
    if (device.n == 0)
        return;
    uint8_t choice = byte();
    unsigned i = choice % device.n;
    struct blkdev_io *io = device.io[i];
    device.io[i] = device.io[--device.n];
    blkdev_done_add(&sched.done, io, outcomes[choice >> 5]);
}

static const struct blkdev_ops device_ops = { .submit = submit, .close = close_device };

/* As the scheduler does, alone or in company: whole requests or slices. */
static void serve(void)
{
    uint8_t how = byte();
    if (how & 1) {
        blk_sched_turn(&sched);
        return;
    }
    struct blk_budget b = { .cost = (how >> 1 & 15) * 32768u, .inflight = (how >> 5 & 3) * 65536u + 1,
                            .slice = how & 128 ? DRR_SLICE : 4096, .requests = 1 + (how >> 3 & 15) };
    uint64_t before = b.cost;
    enum blk_turn turn = blk_queue_service(q, &b);
    MUST(b.cost <= before);
    MUST((turn == BLK_TURN_BROKEN) == q->broken);
}

/* ------------------------------------------------------------------- the rig */

static void open_rig(void)
{
    static const struct blk_disk disk = { .kind = BLK_DISK_RAM };
    grant_ref_t refs[BLK_MAX_RING_PAGES];
    uint8_t how = byte();

    ring_pages = 1u << (how >> 2 & 1);
    blk_sched_init(&sched);
    front = fake_hyp_new(FRONT);
    back = fake_hyp_new(BACK);
    MUST(hyp_pool_create(front, BACK, ring_pages + DATA_PAGES, 0, &pool) == 0);
    MUST(hyp_pool_create(front, BACK, 1, HYP_POOL_RDONLY, &rdonly) == 0);
    size_t ring_bytes = ring_pages * HYP_PAGE_SIZE;
    MUST(ring_front_init(&ring, hyp_pool_base(pool), ring_bytes, sizeof(struct blkif_request)));
    MUST(hyp_evtchn_alloc(front, BACK, &front_ch) == 0);
    MUST(hyp_evtchn_bind(back, FRONT, hyp_evtchn_port(front_ch), &back_ch) == 0);
    MUST(hyp_map_open(back, FRONT, &map) == 0);
    for (unsigned i = 0; i < ring_pages; i++)
        refs[i] = hyp_pool_ref(pool, i);
    MUST(hyp_map_grants(map, refs, ring_pages, 0, &back_ring) == 0);
    const struct blk_queue_config cfg = { .ring = back_ring, .ring_bytes = ring_bytes, .map = map,
                                          .evtchn = back_ch, .grants = (enum blk_grants)(how % 3),
                                          .weight = 1 + how * 3u, .disk = &disk };
    MUST(blk_queue_create(&q, &cfg) == 0);
    device.n = 0;
    device.dev = (struct blkdev){ .ops = &device_ops, .done = &sched.done };
    ram_geometry(DISK_BYTES, how & 16, &device.dev.geo);
    device.dev.geo.sector_bytes = how & 32 ? 4096 : 512;
    if (how & 64)
        device.dev.geo.discard_granularity = 0;
    device.dev.geo.fua = device.dev.geo.zeroes = !(how & 128);
    blk_queue_use(q, &device.dev);
    MUST(blk_sched_add(&sched, q) == 0);
}

/* Requests taken are answered, in the tables, or waiting for room there. */
static void check_books(void)
{
    uint32_t taken = q->ring.req_cons, answered = q->ring.rsp_prod;
    if (!q->broken && !q->draining)
        MUST(taken - answered == q->busy + q->held);
    MUST(q->busy + q->nfree == BLK_REQUESTS);
}

static void close_rig(void)
{
    while (!blk_queue_drain(q)) {
        MUST(device.n > 0 || sched.done.head); /* someone still has it */
        complete_one();
        blk_sched_answer(&sched);
    }
    check_books();
    MUST(q->nlong == BLK_LONG_REQUESTS && q->inflight == 0);
    for (unsigned i = 0; i < BLK_BOUNCE_PAGES / 64; i++)
        MUST(q->bounce_used[i] == 0);
    blk_queue_close(q);
    blk_queue_destroy(q);
    hyp_evtchn_close(back_ch);
    hyp_unmap_grants(map, back_ring, ring_pages);
    hyp_map_close(map);
    hyp_evtchn_close(front_ch);
    MUST(hyp_pool_end(pool) == 0);
    MUST(hyp_pool_end(rdonly) == 0);
    hyp_close(front);
    hyp_close(back);
    MUST(fake_hyp_reset() == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct blkif_response rsp;
    uint8_t at;

    script = (struct script){ data, data + size };
    open_rig();
    while (script.at < script.end) {
        switch (byte() % 12) {
        case 0:
        case 1:
        case 2:
            put_request();
            break;
        case 3:
            ring_front_push(&ring);
            break;
        case 4:
            ring_front_push(&ring);
            serve();
            break;
        case 5:
            complete_one();
            break;
        case 6:
            blk_sched_answer(&sched);
            break;
        case 7:
            at = byte();
            write_list(at, byte());
            break;
        case 8:
            scribble();
            break;
        case 9: /* any index, or one that is nearly right */
            at = byte();
            ring_store(&ring.shared->req_prod, at < 128 ? word() : ring.req_prod + (uint32_t)(int8_t)at);
            break;
        case 10:
            ring_back_idle(&q->ring);
            while (ring_front_waiting(&ring) > 0)
                ring_front_copy_response(&ring, &rsp, sizeof(rsp));
            break;
        default: { /* raw bytes into the next slot */
            uint8_t raw[sizeof(struct blkif_request)];
            bytes(raw, sizeof(raw));
            ring_front_put_request(&ring, raw, sizeof(raw));
        }
        }
        check_books();
    }
    close_rig();
    return 0;
}
