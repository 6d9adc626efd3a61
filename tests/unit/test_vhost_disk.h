/* SPDX-License-Identifier: MIT */
/*
 * test_vhost_disk.h - the virtio disk behind a vhost-user socket, without a socket, a
 * ring or a driver domain: a feed of chains stands for the guest's rings, and a disk that does as it is
 * told, in the order that it is told, for the driver domain's.
 */
#ifndef BULKHEAD_TEST_VHOST_DISK_H
#define BULKHEAD_TEST_VHOST_DISK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>

#include "../../frontends/door/vhost_user/disk.h"

#define SECTORS    4096u
#define PAGE       4096u
#define POOL_PAGES 16u
#define DEPTH      8u
#define QUEUES     2u
#define PAINT      0xee /* of a page of the pool that nobody has written */
#define UNTOUCHED  0xa5 /* of guest memory likewise                      */

/* ---------------------------------------------- a disk that does as it is told */

static uint8_t pages[QUEUES][POOL_PAGES][PAGE];

static struct {
    struct blkfront_info info;
    uint8_t bytes[SECTORS * 512];
    unsigned run[QUEUES][POOL_PAGES]; /* pages of the run that begins there */
    bool taken[QUEUES][POOL_PAGES];
    struct blkfront_io waiting[QUEUES][DEPTH];
    unsigned nwaiting[QUEUES];
    struct blkfront_result ready[QUEUES][DEPTH];
    unsigned nready[QUEUES];
    unsigned submits, closed;
    bool gone, refuse;
    struct blkfront_io log[512];
    unsigned nlog;
} far;

int blkfront_open(struct blkfront **out, const struct blkfront_options *opt, char *err, size_t err_bytes)
{
    (void)err;
    (void)err_bytes;
    assert_string_equal(opt->device, "vda");
    *out = (struct blkfront *)&far;
    return 0;
}

void blkfront_close(struct blkfront *disk)
{
    assert_ptr_equal(disk, &far);
    far.closed++;
}

const struct blkfront_info *blkfront_info(const struct blkfront *disk)
{
    (void)disk;
    return &far.info;
}

void *blkfront_alloc(struct blkfront *disk, unsigned queue, size_t bytes)
{
    unsigned n = (unsigned)((bytes + PAGE - 1) / PAGE), free_run = 0;
    (void)disk;
    for (unsigned i = 0; i < POOL_PAGES; i++) {
        free_run = far.taken[queue][i] ? 0 : free_run + 1;
        if (free_run < n)
            continue;
        unsigned first = i + 1 - n;
        for (unsigned k = first; k <= i; k++)
            far.taken[queue][k] = true;
        far.run[queue][first] = n;
        memset(pages[queue][first], PAINT, (size_t)n * PAGE);
        return pages[queue][first];
    }
    return NULL;
}

void blkfront_free(struct blkfront *disk, unsigned queue, void *buf)
{
    unsigned first = (unsigned)(((uint8_t *)buf - pages[queue][0]) / PAGE);
    (void)disk;
    assert_true(far.run[queue][first] > 0);
    for (unsigned i = 0; i < far.run[queue][first]; i++)
        far.taken[queue][first + i] = false;
    far.run[queue][first] = 0;
}

int blkfront_submit(struct blkfront *disk, unsigned queue, const struct blkfront_io *ios, unsigned n)
{
    (void)disk;
    far.submits++;
    if (far.gone)
        return -ENOTCONN;
    if (far.refuse)
        return -EOPNOTSUPP;
    unsigned taken = 0;
    while (taken < n && far.nwaiting[queue] + far.nready[queue] < DEPTH) {
        assert_true(far.nlog < 512);
        far.log[far.nlog++] = ios[taken];
        far.waiting[queue][far.nwaiting[queue]++] = ios[taken++];
    }
    return (int)taken;
}

int blkfront_reap(struct blkfront *disk, unsigned queue, struct blkfront_result *out, unsigned n)
{
    (void)disk;
    unsigned got = 0;
    while (got < n && far.nready[queue] > 0)
        out[got++] = far.ready[queue][--far.nready[queue]];
    return (int)got;
}

int blkfront_fd(const struct blkfront *disk, unsigned queue)
{
    (void)disk;
    return 100 + (int)queue;
}

int blkfront_idle(struct blkfront *disk, unsigned queue)
{
    (void)disk;
    return (int)far.nready[queue];
}

/* Does the i-th request that waits. */
static inline void far_does(unsigned queue, unsigned i, int error)
{
    assert_true(i < far.nwaiting[queue]);
    struct blkfront_io io = far.waiting[queue][i];
    memmove(&far.waiting[queue][i], &far.waiting[queue][i + 1],
            (--far.nwaiting[queue] - i) * sizeof(far.waiting[queue][0]));
    if (!error && io.op == BLKFRONT_READ)
        memcpy(io.buf, far.bytes + io.offset, io.bytes);
    if (!error && io.op == BLKFRONT_WRITE)
        memcpy(far.bytes + io.offset, io.buf, io.bytes);
    if (!error && io.op == BLKFRONT_ZEROES)
        memset(far.bytes + io.offset, 0, io.length);
    far.ready[queue][far.nready[queue]++] = (struct blkfront_result){ .cookie = io.cookie, .error = error };
}

static inline void far_does_all(int error)
{
    for (unsigned q = 0; q < QUEUES; q++)
        while (far.nwaiting[q] > 0)
            far_does(q, 0, error);
}

static inline unsigned pages_taken(void)
{
    unsigned n = 0;
    for (unsigned q = 0; q < QUEUES; q++)
        for (unsigned i = 0; i < POOL_PAGES; i++)
            n += far.taken[q][i];
    return n;
}

/* -------------------------------------------------- rings that say what we like */

#define CHAINS 256

static struct {
    struct vhost_chain *chain[CHAINS];
    unsigned n, next;
    struct { uint16_t id; uint32_t written; } done[CHAINS];
    unsigned ndone, published, calls;
    bool wants_call;
} fed[VHOST_QUEUES_MAX];
static bool listening[VHOST_QUEUES_MAX]; /* kicks are wanted */

static struct vhost_device device;
static struct disk disk;

static inline unsigned ring_of(const struct vhost_queue *q)
{
    return (unsigned)(q - device.queue);
}

int vhost_queue_next(struct vhost_queue *q, struct vhost_chain *out)
{
    unsigned r = ring_of(q);
    if (fed[r].next == fed[r].n)
        return 0;
    *out = *fed[r].chain[fed[r].next++];
    return 1;
}

void vhost_queue_done(struct vhost_queue *q, uint16_t id, uint16_t slots, uint32_t written)
{
    unsigned r = ring_of(q);
    assert_int_equal(slots, 3);
    fed[r].done[fed[r].ndone].id = id;
    fed[r].done[fed[r].ndone++].written = written;
}

bool vhost_queue_publish(struct vhost_queue *q)
{
    fed[ring_of(q)].published++;
    return fed[ring_of(q)].wants_call;
}

void vhost_queue_call(struct vhost_queue *q)
{
    fed[ring_of(q)].calls++;
}

void vhost_queue_quiet(struct vhost_queue *q)
{
    listening[ring_of(q)] = false;
}

bool vhost_queue_listen(struct vhost_queue *q)
{
    unsigned r = ring_of(q);
    listening[r] = true;
    return fed[r].next < fed[r].n;
}

/* ------------------------------------------------------------------- requests */

#define GUEST_BYTES (1u << 20)

/* One request of a guest, with memory of its own. */
struct asked {
    struct virtio_blk_outhdr head;
    uint8_t *data;
    uint32_t bytes;
    uint8_t status;
    struct vhost_chain chain;
};

static inline void piece(struct vhost_chain *c, void *at, size_t bytes, bool in)
{
    c->piece[c->nout + c->nin] = (struct iovec){ at, bytes };
    *(in ? &c->nin : &c->nout) += 1;
    *(in ? &c->in_bytes : &c->out_bytes) += (uint32_t)bytes;
}

/* The data lies in pieces of so many bytes. */
static inline struct asked *ask(unsigned ring, uint32_t type, uint64_t sector, uint32_t bytes, uint32_t each)
{
    struct asked *a = calloc(1, sizeof(*a));
    bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
    assert_non_null(a);
    a->head = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
    a->bytes = bytes;
    a->data = malloc(bytes + 1);
    memset(a->data, UNTOUCHED, bytes + 1);
    a->status = 0xff;
    piece(&a->chain, &a->head, sizeof(a->head), false);
    for (uint32_t at = 0; at < bytes; at += each)
        piece(&a->chain, a->data + at, bytes - at < each ? bytes - at : each, in);
    piece(&a->chain, &a->status, 1, true);
    a->chain.id = (uint16_t)fed[ring].n;
    a->chain.slots = 3;
    fed[ring].chain[fed[ring].n++] = &a->chain;
    return a;
}

static inline void forget(struct asked *a)
{
    free(a->data);
    free(a);
}

static inline int turn(void)
{
    return disk_class.work(&disk);
}

/* Until nothing moves, with a driver domain that does all. */
static inline void settle(void)
{
    int n;
    do {
        n = turn();
        assert_true(n >= 0);
        for (unsigned q = 0; q < QUEUES; q++)
            n += (int)far.nwaiting[q];
        far_does_all(0);
    } while (n > 0);
}

/* One request, to its end; its status. */
static inline uint8_t outcome(uint32_t type, uint64_t sector, const void *data, uint32_t bytes)
{
    struct asked *a = ask(0, type, sector, bytes, 512);
    if (data)
        memcpy(a->data, data, bytes);
    settle();
    uint8_t status = a->status;
    assert_int_equal(a->data[bytes], UNTOUCHED);
    forget(a);
    return status;
}

static inline int set_up(void **state)
{
    char why[200];
    (void)state;
    memset(&far, 0, sizeof(far));
    memset(fed, 0, sizeof(fed));
    memset(&device, 0, sizeof(device));
    memset(listening, 0, sizeof(listening));
    far.info = (struct blkfront_info){
        .bytes = sizeof(far.bytes), .sector_bytes = 512, .physical_bytes = 4096, .max_io_bytes = 4 * PAGE,
        .queue_depth = DEPTH, .queues = QUEUES, .discard_granularity = 4096, .can_flush = 1,
        .can_discard = 1, .can_zeroes = 1, .can_fua = 1 };
    for (unsigned i = 0; i < sizeof(far.bytes); i++)
        far.bytes[i] = (uint8_t)(i * 7 + i / 512);
    assert_int_equal(disk_open(&disk, "vda", NULL, NULL, why, sizeof(why)), 0);
    disk_serve(&disk, &device);
    disk_class.agreed(&disk, disk_class.features(&disk));
    for (unsigned r = 0; r < 3; r++) {
        fed[r].wants_call = true;
        assert_int_equal(disk_class.start(&disk, r), 0);
    }
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    far.gone = far.refuse = false;
    settle();
    assert_int_equal(pages_taken(), 0); /* nothing leaks, whatever the test did */
    for (unsigned i = 0; i < QUEUES; i++)
        assert_int_equal(disk.lane[i].inflight, 0);
    assert_int_equal(disk.orphans, 0);
    disk_close(&disk);
    assert_int_equal(far.closed, 1);
    return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

#endif
