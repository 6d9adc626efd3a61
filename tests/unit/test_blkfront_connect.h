/* SPDX-License-Identifier: MIT */
/*
 * test_blkfront_connect.h - blkfront_open() to blkfront_close() against a driver
 * domain that the test plays: the hypervisor is the fake one, the store a table.
 */
#ifndef BULKHEAD_TEST_BLKFRONT_CONNECT_H
#define BULKHEAD_TEST_BLKFRONT_CONNECT_H

#define FE 5
#define F  "/local/domain/5/device/vbd/51712"
#define B  "/local/domain/%u/backend/vbd/5/51712"
#include "test_front_connect.h"

#include "../../frontends/disk.h"

#define BYTES  (8u << 20)
#define QUEUES 3

static struct ring_back ring[QUEUES];
static uint8_t disk[BYTES];

static inline void told(void *arg, enum blkfront_news what)
{
    assert_ptr_equal(arg, news);
    __atomic_add_fetch(&news[what], 1, __ATOMIC_RELEASE);
}

static inline void be_make(domid_t domid)
{
    static const char *const features[][2] = {
        { "feature-persistent", "1" }, { "feature-grant-copy", "1" }, { "feature-flush-cache", "1" },
        { "feature-discard", "1" }, { "discard-granularity", "4096" }, { "feature-write-zeroes", "1" },
        { "feature-write-fua", "1" }, { "feature-max-indirect-segments", "256" },
        { "max-ring-page-order", "4" }, { "multi-queue-max-queues", "8" }, { "sectors", "16384" },
        { "sector-size", "512" }, { "physical-sector-size", "4096" }, { "info", "0" },
    };
    be_make_with(domid, features, sizeof(features) / sizeof(features[0]));
}

static inline void be_born(domid_t domid)
{
    be_make(domid);
    be_tell();
}

/* Takes what the frontend offers; -> Connected. */
static inline void be_connect(void)
{
    be_accept();
    assert_in_range(be.queues, 1, QUEUES);
    unsigned order = f_number("ring-page-order"), pages = order == UINT32_MAX ? 1 : 1u << order;
    for (unsigned q = 0; q < be.queues; q++) {
        grant_ref_t refs[BLK_MAX_RING_PAGES];
        void *va;
        for (unsigned p = 0; p < pages; p++) {
            char key[24];
            snprintf(key, sizeof(key), pages > 1 ? "ring-ref%u" : "ring-ref", p);
            refs[p] = key_number(q, key);
        }
        assert_int_equal(hyp_map_grants(be.map, refs, pages, 0, &va), 0);
        assert_true(ring_back_attach(&ring[q], va, pages * HYP_PAGE_SIZE, sizeof(struct blkif_request)));
        be_bind(q, "event-channel");
    }
    be_set("state", "4");
    await_state(XenbusStateConnected);
}

static inline void move_data(const struct blkif_request *req)
{
    struct blkif_request_segment direct[BLKIF_MAX_SEGMENTS_PER_REQUEST];
    const struct blkif_request_segment *seg = direct;
    struct blkif_request_indirect ind;
    unsigned n = req->nr_segments;
    uint8_t op = req->operation;
    memcpy(direct, req->seg, sizeof(direct));
    memcpy(&ind, req, sizeof(ind));
    if (op == BLKIF_OP_INDIRECT) {
        n = ind.nr_segments;
        op = ind.indirect_op;
        seg = hyp_map_persistent(be.map, ind.indirect_grefs[0]);
    }
    uint8_t *at = disk + req->sector_number * 512;
    for (unsigned i = 0; i < n; i++) {
        uint8_t *page = hyp_map_persistent(be.map, seg[i].gref);
        assert_non_null(page);
        size_t bytes = (size_t)(seg[i].last_sect - seg[i].first_sect + 1) * 512;
        if (op == BLKIF_OP_READ)
            memcpy(page + seg[i].first_sect * 512, at, bytes);
        else
            memcpy(at, page + seg[i].first_sect * 512, bytes);
        at += bytes;
    }
}

static inline void be_respond(unsigned q, uint64_t id, uint8_t operation)
{
    struct blkif_response rsp = { 0 };
    memset(&rsp, 0, sizeof(rsp));
    rsp.id = id;
    rsp.operation = operation;
    ring_back_put_response(&ring[q], &rsp, sizeof(rsp));
    if (ring_back_push(&ring[q]))
        hyp_evtchn_notify(be.door[q]);
}

static inline void be_serve(unsigned q)
{
    while (ring_back_waiting(&ring[q]) > 0) {
        struct blkif_request req;
        ring_back_copy_request(&ring[q], &req);
        if (req.operation == BLKIF_OP_READ || req.operation == BLKIF_OP_WRITE
            || req.operation == BLK_OP_WRITE_FUA || req.operation == BLKIF_OP_INDIRECT)
            move_data(&req);
        be_respond(q, req.id, req.operation);
    }
}

/* --------------------------------------------------------------- the frontend */

/* Opens on a thread of its own, since the test plays the backend meanwhile. */
struct opening {
    pthread_t thread;
    struct blkfront_options opt;
    struct blkfront *disk;
    int err;
};

static inline void *open_thread(void *arg)
{
    struct opening *o = arg;
    o->err = blkfront_open(&o->disk, &o->opt, why, sizeof(why));
    return NULL;
}

static inline void open_start(struct opening *o, struct blkfront_options opt)
{
    memset(o, 0, sizeof(*o));
    opt.attach = GUEST;
    o->opt = opt;
    guest_make();
    assert_int_equal(pthread_create(&o->thread, NULL, open_thread, o), 0);
}

static inline int open_end(struct opening *o)
{
    pthread_join(o->thread, NULL);
    return o->err;
}

static inline struct blkfront *connected(struct blkfront_options opt)
{
    struct opening o;
    be_born(3);
    open_start(&o, opt);
    be_connect();
    if (open_end(&o))
        fail_msg("%s", why);
    return o.disk;
}

static inline void *close_thread(void *disk_)
{
    blkfront_close(disk_);
    return NULL;
}

static inline void close_both(struct blkfront *d)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, close_thread, d), 0);
    be_let_go();
    pthread_join(thread, NULL);
    be_dead();
}

static inline int one(struct blkfront *d, unsigned queue, struct blkfront_io io)
{
    struct blkfront_result done;
    int n = blkfront_submit(d, queue, &io, 1);
    if (n != 1)
        return n;
    be_serve(queue);
    while (blkfront_reap(d, queue, &done, 1) == 0)
        blkfront_wait(d, queue, 100);
    assert_int_equal(done.cookie, io.cookie);
    return done.error;
}

static inline int up(void **state)
{
    (void)state;
    connect_up();
    memset(disk, 0, sizeof(disk));
    set(F "/dev", "vda");
    set(F "/virtual-device", "51712");
    return 0;
}

static inline int down(void **state)
{
    (void)state;
    assert_int_equal(fake_hyp_reset(), 0);
    return 0;
}

static inline void round_trip(struct blkfront *d, unsigned queue, uint32_t bytes, uint64_t offset)
{
    uint8_t *buf = blkfront_alloc(d, queue, bytes), *copy = malloc(bytes);
    assert_non_null(buf);
    for (uint32_t i = 0; i < bytes; i++)
        buf[i] = copy[i] = (uint8_t)(i * 7 + i / 512 + offset);
    struct blkfront_io io = { .op = BLKFRONT_WRITE, .buf = buf, .bytes = bytes, .offset = offset };
    assert_int_equal(one(d, queue, io), 0);
    assert_memory_equal(disk + offset, copy, bytes);
    memset(buf, 0, bytes);
    io.op = BLKFRONT_READ;
    assert_int_equal(one(d, queue, io), 0);
    assert_memory_equal(buf, copy, bytes);
    blkfront_free(d, queue, buf);
    free(copy);
}

/* The backend that is there now serves all n that are in flight, or is not asked
 * because they failed; each comes once. */
static inline void expect_rest(struct blkfront *d, unsigned n, unsigned seen, int error)
{
    unsigned got = 0;
    while (got < n) {
        struct blkfront_result out[8];
        int k = blkfront_reap(d, 0, out, 8);
        be_serve(0);
        for (int i = 0; i < k; i++) {
            assert_int_equal(out[i].error, error);
            assert_int_equal(seen & 1u << out[i].cookie, 0);
            seen |= 1u << out[i].cookie;
        }
        got += (unsigned)k;
        if (k == 0)
            blkfront_wait(d, 0, 10);
    }
    assert_int_equal(got, n);
    struct blkfront_result more;
    assert_int_equal(blkfront_reap(d, 0, &more, 1), 0);
}

static inline void expect_all(struct blkfront *d, unsigned n, int error)
{
    expect_rest(d, n, 0, error);
}

static inline void nothing_comes(struct blkfront *d)
{
    struct blkfront_result out;
    assert_int_equal(blkfront_reap(d, 0, &out, 1), 0);
}

static inline void submit_reads(struct blkfront *d, void *buf, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct blkfront_io io = { .op = BLKFRONT_READ, .bytes = 4096, .buf = buf, .cookie = i };
        assert_int_equal(blkfront_submit(d, 0, &io, 1), 1);
    }
}

static const struct blkfront_options telling = { .notify = told, .arg = news };

#endif
