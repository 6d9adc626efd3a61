/* SPDX-License-Identifier: MIT */
/*
 * Fairness between guests, in cost and not in time: a device that finishes a
 * fixed cost each tick, first come first served, shared by a flooder and a
 * victim.  The figures are exact and the same on every machine.
 */
#include "test_blk.h"

#define TICK_COST  (128u << 10)
#define TICKS      4000u
#define QUEUE_MAX  8192u

/* First in, first out; the rate is what it finishes in a tick. */
struct fifo {
    struct blkdev dev;
    struct blkdev_io *io[QUEUE_MAX];
    unsigned head, n;
    uint64_t credit;
};
static struct fifo fifo;

static int fifo_submit(struct blkdev *dev, struct blkdev_io *io)
{
    struct fifo *f = (struct fifo *)dev;
    if (f->n == QUEUE_MAX)
        return -EAGAIN;
    f->io[(f->head + f->n++) % QUEUE_MAX] = io;
    return 0;
}

static void fifo_close(struct blkdev *dev)
{
    (void)dev;
}

static const struct blkdev_ops fifo_ops = { .submit = fifo_submit, .close = fifo_close };

static void fifo_init(void)
{
    fifo = (struct fifo){ .dev = { .ops = &fifo_ops, .done = &rig_sched.done } };
    ram_geometry(DISK_BYTES, false, &fifo.dev.geo);
}

static void fifo_tick(void)
{
    fifo.credit += TICK_COST;
    while (fifo.n > 0) {
        struct blkdev_io *io = fifo.io[fifo.head];
        if (io->bytes + BLK_COST_REQUEST > fifo.credit)
            return;
        fifo.credit -= io->bytes + BLK_COST_REQUEST;
        *(uint64_t *)((struct blk_req *)io)->queue->owner += io->bytes + BLK_COST_REQUEST;
        fifo.head = (fifo.head + 1) % QUEUE_MAX;
        fifo.n--;
        blkdev_done_add(fifo.dev.done, io, 0);
    }
    fifo.credit = 0; /* an idle device saves nothing up */
}

/* A guest that keeps `depth` requests of `pages` pages on its ring. */
struct guest {
    struct rig r;
    struct hyp *hyp;
    unsigned depth, pages, inflight;
};

static void guest_open(struct guest *g, struct hyp *back, domid_t domid, unsigned depth, unsigned pages,
                       uint32_t weight, uint64_t *got)
{
    *g = (struct guest){ .hyp = fake_hyp_new(domid), .depth = depth, .pages = pages };
    const struct rig_options opt = { .order = 4, .weight = weight, .device = &fifo.dev };
    rig_open_between(&g->r, &opt, g->hyp, back);
    g->r.q->owner = got; /* what the device did for this queue, in cost */
    struct blkif_request_segment *list = rig_page(&g->r, 0);
    for (unsigned i = 0; i < pages; i++)
        list[i] = (struct blkif_request_segment){ .gref = rig_ref(&g->r, 1 + i), .last_sect = 7 };
}

static void guest_step(struct guest *g)
{
    struct blkif_response rsp = { 0 };
    while (rig_take(&g->r, &rsp)) {
        assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
        g->inflight--;
    }
    for (; g->inflight < g->depth; g->inflight++) {
        struct blkif_request_indirect in = rig_indirect(&g->r, BLKIF_OP_WRITE, 0, 0, g->pages);
        rig_put(&g->r, RIG_SLOT(in));
    }
    ring_front_push(&g->r.ring);
}

static void guest_close(struct guest *g)
{
    rig_close_queue(&g->r);
    hyp_close(g->hyp);
}

static void turn(void)
{
    for (unsigned i = 0; i < 8; i++) {
        blk_sched_turn(&rig_sched);
        blk_sched_answer(&rig_sched);
    }
}

/* Serves both until the end; returns the second's share of the cost, in 1/1000. */
static unsigned share(unsigned flood_pages, uint32_t flood_weight, unsigned victim_depth,
                      unsigned victim_pages, uint32_t victim_weight)
{
    struct guest flooder, victim;
    blk_sched_init(&rig_sched);
    fifo_init();
    struct hyp *back = fake_hyp_new(BACK_DOMID);
    uint64_t f = 0, v = 0;
    guest_open(&flooder, back, FRONT_DOMID, 512, flood_pages, flood_weight, &f);
    guest_open(&victim, back, FRONT_DOMID + 1, victim_depth, victim_pages, victim_weight, &v);
    for (unsigned t = 0; t < TICKS; t++) {
        guest_step(&flooder);
        guest_step(&victim);
        turn();
        fifo_tick();
        turn();
    }
    unsigned per_mille = (unsigned)(v * 1000 / (f + v));
    for (bool one = false, two = false; !one || !two;) {
        one = blk_queue_drain(flooder.r.q);
        two = blk_queue_drain(victim.r.q);
        fifo_tick();
        blk_sched_answer(&rig_sched);
    }
    guest_close(&flooder);
    guest_close(&victim);
    hyp_close(back);
    assert_int_equal(fake_hyp_reset(), 0);
    return per_mille;
}

/* The victim asks for more than half of the device, so it gets half. */
static void flooder_gets_half(void **state)
{
    (void)state;
    static const unsigned flood_pages[] = { 1, 32, 256 };
    for (unsigned i = 0; i < 3; i++) {
        unsigned per_mille = share(flood_pages[i], 100, 32, 1, 100);
        print_message("flooder 512 x %4u KiB, victim 32 x 4 KiB: victim has %u/1000 of the cost\n",
                      flood_pages[i] * 4, per_mille);
        assert_in_range(per_mille, 450, 550);
    }
    unsigned per_mille = share(256, 100, 32, 32, 100);
    print_message("flooder 512 x 1 MiB, victim 32 x 128 KiB: victim has %u/1000 of the cost\n", per_mille);
    assert_in_range(per_mille, 450, 550);
}

/* One that asks for less is not slowed below a bounded wait: one share of the
 * flooder is ahead of it in the device, so 4 KiB at depth d get at least
 * d * 8 KiB / (256 KiB + a slice + d * 8 KiB). */
static void shallow_victim_waits_for_one_share(void **state)
{
    (void)state;
    static const unsigned depths[] = { 1, 4, 8, 16 };
    for (unsigned i = 0; i < 4; i++) {
        unsigned d = depths[i];
        unsigned per_mille = share(256, 100, d, 1, 100);
        uint64_t own = d * 2ull * HYP_PAGE_SIZE;
        uint64_t floor = own * 1000 / (DRR_INFLIGHT + DRR_QUANTUM + own + TICK_COST);
        print_message("flooder 512 x 1 MiB, victim %2u x 4 KiB: victim has %3u/1000, at least %u\n",
                      d, per_mille, (unsigned)floor);
        assert_true(per_mille >= floor);
    }
}

/* Control: with the flooder's weight at its largest the same victim starves to
 * a tenth, so it is the scheduler that made the shares above. */
static void weight_decides(void **state)
{
    (void)state;
    unsigned equal = share(32, 100, 64, 8, 100);
    unsigned half = share(32, 200, 64, 8, 100);
    unsigned tenth = share(32, 1000, 64, 8, 100);
    unsigned most = share(32, 100, 64, 8, 1000);
    print_message("weights 1:1 %u, 2:1 %u, 10:1 %u, 1:10 %u (of 1000)\n", equal, half, tenth, most);
    assert_in_range(equal, 430, 570);
    assert_in_range(half, 300, 400);
    assert_in_range(tenth, 60, 140);
    assert_in_range(most, 860, 940);
}

/* Alone, nobody is limited to a share and nothing is sliced. */
static void alone_nothing_is_limited(void **state)
{
    (void)state;
    struct guest g;
    blk_sched_init(&rig_sched);
    fifo_init();
    struct hyp *back = fake_hyp_new(BACK_DOMID);
    uint64_t got = 0;
    guest_open(&g, back, FRONT_DOMID, 64, 256, 100, &got);
    guest_step(&g);
    turn();
    assert_true(fifo.n > 1);
    assert_true(g.r.q->inflight > 2 * DRR_INFLIGHT);
    assert_int_equal(fifo.io[0]->bytes, 1 << 20);
    while (!blk_queue_drain(g.r.q)) {
        fifo_tick();
        blk_sched_answer(&rig_sched);
    }
    guest_close(&g);
    hyp_close(back);
    assert_int_equal(fake_hyp_reset(), 0);
}

/* Slices of one request move each byte once, wherever pieces end. */
static void slices_cover_the_request(void **state)
{
    (void)state;
    struct rig a, b;
    blk_sched_init(&rig_sched);
    struct hyp *back = fake_hyp_new(BACK_DOMID), *one = fake_hyp_new(FRONT_DOMID),
               *two = fake_hyp_new(FRONT_DOMID + 1);
    rig_open_between(&a, &(struct rig_options){ .order = 2 }, one, back);
    rig_open_between(&b, &(struct rig_options){ .order = 2 }, two, back);
    rig_fill(a.disk.ram, 2 << 20, 9);
    struct blkif_request_segment *list = rig_page(&a, 0);
    uint64_t bytes = 0;
    for (unsigned i = 0; i < 200; i++) {
        uint8_t first = (uint8_t)(i * 5 % 8), last = (uint8_t)(first + i * 3 % (8 - first));
        unsigned page = i < 60 ? 1 + i : 300 - i; /* some adjacent, some not */
        if (i < 60)
            first = 0, last = 7;
        list[i] = (struct blkif_request_segment){ .gref = rig_ref(&a, page), .first_sect = first,
                                                  .last_sect = last };
        bytes += (last - first + 1u) * 512u;
    }
    assert_true(bytes > 4 * DRR_SLICE);
    struct blkif_request small = rig_rw(&b, BLKIF_OP_READ, 0, 0, 1);
    struct blkif_request_indirect in = rig_indirect(&a, BLKIF_OP_READ, 40, 0, 200);
    unsigned slices = 0;
    for (unsigned round = 0; round < 3; round++) {
        struct blkif_response rsp = { 0 };
        memset(rig_page(&a, 1), 0, 400 * HYP_PAGE_SIZE);
        rig_put(&b, &small);
        ring_front_push(&b.ring);
        rig_put(&a, RIG_SLOT(in));
        rig_serve(&a);
        assert_true(rig_take(&b, &rsp));
        assert_true(rig_take(&a, &rsp));
        assert_int_equal(rsp.status, BLKIF_RSP_OKAY);
        const uint8_t *at = (uint8_t *)a.disk.ram + 40 * 512;
        for (unsigned i = 0; i < 200; i++) {
            size_t n = (list[i].last_sect - list[i].first_sect + 1u) * 512u;
            unsigned page = i < 60 ? 1 + i : 300 - i;
            assert_memory_equal((uint8_t *)rig_page(&a, page) + list[i].first_sect * 512, at, n);
            at += n;
        }
        slices += a.q->req[0].cost < bytes;
    }
    assert_true(slices > 0); /* it was sliced at least when both were active */
    rig_close_queue(&a);
    rig_close_queue(&b);
    hyp_close(one);
    hyp_close(two);
    hyp_close(back);
    assert_int_equal(fake_hyp_reset(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flooder_gets_half),
        cmocka_unit_test(shallow_victim_waits_for_one_share),
        cmocka_unit_test(weight_decides),
        cmocka_unit_test(alone_nothing_is_limited),
        cmocka_unit_test(slices_cover_the_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
