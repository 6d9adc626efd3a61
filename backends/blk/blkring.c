/* SPDX-License-Identifier: MIT */
/* blkring.c - serves one shared ring from one device. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "../../hyp-shim/crash.h"
#include "blkring.h"

/* <xen/io/blkif.h>'s response has padding; here every byte has a name and a
 * value, so nothing of our stack reaches the ring (XSA-216). */
struct response {
    uint64_t id;
    uint8_t operation;
    uint8_t zero1;
    int16_t status;
    uint32_t zero2;
};
_Static_assert(sizeof(struct response) == sizeof(struct blkif_response), "blkif ABI");
_Static_assert(offsetof(struct response, operation) == offsetof(struct blkif_response, operation),
               "blkif ABI");
_Static_assert(offsetof(struct response, status) == offsetof(struct blkif_response, status), "blkif ABI");

/* ---------------------------------------------------------------- life cycle */

int blk_queue_create(struct blk_queue **out, const struct blk_queue_config *cfg)
{
    struct ring_back ring;
    if (!ring_back_attach(&ring, cfg->ring, cfg->ring_bytes, sizeof(struct blkif_request)))
        return -EINVAL;
    struct blk_queue *q = mmap(NULL, sizeof(*q), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (q == MAP_FAILED)
        return -errno;
    q->ring = ring;
    q->map = cfg->map;
    q->evtchn = cfg->evtchn;
    q->grants = cfg->grants;
    q->weight = cfg->weight;
    q->disk = cfg->disk;
    q->rest_tail = &q->rest;
    /* Taken from the end: the first requests are the ones that get used. */
    for (unsigned i = 0; i < BLK_REQUESTS; i++)
        q->free_req[i] = (uint8_t)(BLK_REQUESTS - 1 - i);
    q->nfree = BLK_REQUESTS;
    for (unsigned i = 0; i < BLK_LONG_REQUESTS; i++)
        q->free_long[i] = (uint8_t)(BLK_LONG_REQUESTS - 1 - i);
    q->nlong = BLK_LONG_REQUESTS;
    int err = q->grants == BLK_GRANTS_COPY ? blk_data_bounce(q) : 0;
    if (err < 0) {
        munmap(q, sizeof(*q));
        return err;
    }
    *out = q;
    return 0;
}

void blk_queue_destroy(struct blk_queue *q)
{
    if (q->bounce)
        munmap(q->bounce, BLK_BOUNCE_PAGES * HYP_PAGE_SIZE);
    munmap(q, sizeof(*q));
}

void blk_queue_use(struct blk_queue *q, struct blkdev *dev)
{
    q->dev = dev;
    blk_data_register(q);
}

void blk_queue_arm(struct blk_queue *q, struct uring *uring, struct blkdev_done *done)
{
    q->armed = true;
    blkdev_file_prepare(&q->device.file, uring, done);
    blk_queue_use(q, &q->device.file.dev);
    blk_data_register_granted(q);
}

void blk_queue_start(struct blk_queue *q)
{
    q->armed = false;
    ring_back_restart(&q->ring);
}

int blk_queue_open(struct blk_queue *q, struct uring *uring, struct blkdev_done *done)
{
    const struct blk_disk *disk = q->disk;

    if (disk->kind == BLK_DISK_RAM) {
        blkdev_ram_open(&q->device.ram, disk->ram, &disk->geo, done);
        blk_queue_use(q, &q->device.ram.dev);
        return 0;
    }
    if (!q->dev)
        blkdev_file_prepare(&q->device.file, uring, done);
    int err = blkdev_file_open(&q->device.file, disk->fd, &disk->geo);
    if (err == 0 && !q->dev)
        blk_queue_use(q, &q->device.file.dev);
    return err;
}

void blk_queue_close(struct blk_queue *q)
{
    if (!q->dev)
        return;
    blk_data_unregister(q);
    q->dev->ops->close(q->dev);
    q->dev = NULL;
}

void blk_queue_break(struct blk_queue *q, const char *why)
{
    if (q->broken)
        return;
    q->broken = true;
    q->why = why;
    blk_count(&q->count.broken, 1);
}

/* ------------------------------------------------------------------- answers */

static void respond(struct blk_queue *q, uint64_t id, uint8_t operation, int16_t status)
{
    struct response rsp = { .id = id, .operation = operation, .status = status };
    ring_back_put_response(&q->ring, &rsp, sizeof(rsp));
}

static void count_done(struct blk_queue *q, const struct blk_req *r)
{
    switch (r->io.op) {
    case BLKDEV_READ:
        blk_count(&q->count.reads, 1);
        blk_count(&q->count.read_bytes, r->bytes);
        break;
    case BLKDEV_WRITE:
        blk_count(&q->count.writes, 1);
        blk_count(&q->count.write_bytes, r->bytes);
        break;
    case BLKDEV_FLUSH:
        blk_count(&q->count.flushes, 1);
        break;
    case BLKDEV_DISCARD:
        blk_count(&q->count.discards, 1);
        break;
    default:
        blk_count(&q->count.zeroes, 1);
    }
}

static void release(struct blk_queue *q, struct blk_req *r)
{
    q->free_req[q->nfree++] = (uint8_t)(r - q->req);
    q->busy--;
}

static void put_rest(struct blk_queue *q, struct blk_req *r)
{
    r->next = NULL;
    *q->rest_tail = r;
    q->rest_tail = &r->next;
}

static struct blk_req *take_rest(struct blk_queue *q)
{
    struct blk_req *r = q->rest;
    q->rest = r->next;
    if (!q->rest)
        q->rest_tail = &q->rest;
    return r;
}

static void finish(struct blk_queue *q, struct blk_req *r, int error)
{
    int16_t status = BLKIF_RSP_OKAY;

    if (blk_data_close(q, r, error == 0) < 0) {
        blk_count(&q->count.bad_grant, 1);
        status = BLKIF_RSP_ERROR;
    } else if (error == -EOPNOTSUPP && r->nseg == 0) {
        blk_count(&q->count.bad_op, 1);
        status = BLKIF_RSP_EOPNOTSUPP;
    } else if (error != 0) {
        blk_count(&q->count.errors, 1);
        status = BLKIF_RSP_ERROR;
    } else {
        count_done(q, r);
    }
    if (!q->broken)
        respond(q, r->id, r->wire_op, status);
    release(q, r);
}

void blk_queue_done(struct blk_req *r)
{
    struct blk_queue *q = r->queue;

    CRASH_POINT("blk-after-completion");
    q->inflight -= r->cost;
    if (r->io.error == 0 && r->started < r->bytes)
        put_rest(q, r);
    else
        finish(q, r, r->io.error);
}

void blk_queue_push(struct blk_queue *q)
{
    if (hyp_map_faulted(q->map))
        blk_queue_break(q, "granted memory went away");
    if (q->broken || q->ring.rsp_prod == q->ring.rsp_pushed)
        return;
    CRASH_POINT("blk-before-publish");
    bool ring = ring_back_push(&q->ring);
    CRASH_POINT("blk-after-publish");
    if (!ring)
        return;
    hyp_evtchn_notify(q->evtchn);
    CRASH_POINT("blk-after-notify");
    blk_count(&q->count.doorbells, 1);
}

bool blk_queue_drain(struct blk_queue *q)
{
    q->draining = true;
    /* What is left of a long request is not begun; its frontend gets no answer
     * and will ask again. */
    while (q->rest) {
        struct blk_req *r = take_rest(q);
        blk_data_close(q, r, false);
        release(q, r);
    }
    return q->busy == 0;
}

/* ------------------------------------------------------------------ requests */

static bool is_transfer(uint8_t op)
{
    return op == BLKDEV_READ || op == BLKDEV_WRITE;
}

static uint32_t cost_of(uint8_t op, uint64_t bytes)
{
    if (is_transfer(op))
        return BLK_COST_REQUEST + (uint32_t)bytes;
    if (op == BLKDEV_FLUSH || bytes > BLK_COST_LONG)
        return BLK_COST_LONG;
    return BLK_COST_REQUEST + (uint32_t)bytes;
}

/* Bytes that go to the device next. */
static uint64_t slice_of(uint8_t op, uint64_t left, uint32_t max)
{
    return is_transfer(op) && left > max ? max : left;
}

/* Lists the next `bytes` of a request in r->io, splitting its last piece when
 * they end inside it. */
static void cut_slice(struct blk_req *r, uint64_t bytes)
{
    struct blkdev_io *io = &r->io;
    io->niov = 0;
    io->bytes = bytes;
    r->cut.iov_len = 0;
    if (!is_transfer(io->op))
        return;
    io->iov = &r->iov[r->at];
    if (bytes == r->bytes - r->started) {
        io->niov = (uint16_t)(r->pieces - r->at);
        return;
    }
    for (struct iovec *v = io->iov; bytes > 0; v++) {
        if (v->iov_len > bytes) {
            r->cut = (struct iovec){ (uint8_t *)v->iov_base + bytes, v->iov_len - bytes };
            v->iov_len = bytes;
        }
        bytes -= v->iov_len;
        io->niov++;
    }
}

/* Gives the next slice of the first unfinished request to the device. */
static bool start_slice(struct blk_queue *q, uint32_t cost, uint32_t max)
{
    struct blk_req *r = q->rest;

    if (r->cut.iov_len > 0)
        r->iov[--r->at] = r->cut;
    cut_slice(r, slice_of(r->io.op, r->bytes - r->started, max));
    r->io.offset = r->offset + r->started;
    uint64_t bytes = r->io.bytes;
    uint16_t niov = r->io.niov;
    if (q->dev->ops->submit(q->dev, &r->io) < 0) {
        /* As it was: the cut piece is whole again. */
        if (r->cut.iov_len > 0)
            r->iov[r->at + niov - 1].iov_len += r->cut.iov_len;
        r->cut.iov_len = 0;
        return false;
    }
    take_rest(q);
    r->started += bytes;
    r->at = (uint16_t)(r->at + niov);
    r->cost = cost;
    q->inflight += cost;
    return true;
}

/* Takes the next request off the ring into q->cmd, or answers that it is wrong. */
static enum blk_turn take_request(struct blk_queue *q, struct blk_budget *b)
{
    if (b->cost < BLK_COST_REQUEST || b->requests == 0)
        return BLK_TURN_MORE;
    if (q->waiting == 0) {
        int n = ring_back_waiting(&q->ring);
        if (n == RING_LIES)
            goto bad_index;
        if (n == 0)
            return BLK_TURN_IDLE;
        q->waiting = (uint32_t)n;
    }
    b->requests--;
    ring_back_copy_request(&q->ring, &q->wire);
    CRASH_POINT("blk-after-copy");
    if (--q->waiting > 1)
        ring_back_prefetch(&q->ring);
    q->idle_rings = 0;
    int16_t status = blk_parse(q);
    if (status != BLKIF_RSP_OKAY) {
        respond(q, q->cmd.id, q->cmd.wire_op, status);
        b->cost -= BLK_COST_REQUEST;
    }
    q->held = status == BLKIF_RSP_OKAY;
    CRASH_POINT("blk-after-check");
    return BLK_TURN_MORE;

bad_index: /* CVE-2010-4247: more requests than the ring has room for */
    blk_queue_break(q, "the request index on the ring cannot be true");
    return BLK_TURN_BROKEN;
}

/* Makes a request of q->cmd and puts it up for its first slice. */
static bool begin_request(struct blk_queue *q)
{
    if (q->nfree == 0)
        return false;
    struct blk_req *r = &q->req[q->free_req[q->nfree - 1]];
    int err = blk_data_open(q, r);
    if (err == -EAGAIN)
        return false;
    q->held = false;
    if (err < 0) {
        blk_count(&q->count.bad_grant, 1);
        respond(q, q->cmd.id, q->cmd.wire_op, BLKIF_RSP_ERROR);
        return true;
    }
    q->nfree--;
    q->busy++;
    r->queue = q;
    r->id = q->cmd.id;
    r->wire_op = q->cmd.wire_op;
    r->io.op = q->cmd.op;
    r->io.flags = q->cmd.flags;
    r->offset = q->cmd.offset;
    r->started = 0;
    r->cut.iov_len = 0;
    put_rest(q, r);
    return true;
}

static enum blk_turn take_and_start(struct blk_queue *q, struct blk_budget *b)
{
    for (;;) {
        if (!q->rest && !q->held) {
            enum blk_turn turn = take_request(q, b);
            if (!q->held && (turn != BLK_TURN_MORE || b->cost < BLK_COST_REQUEST || b->requests == 0))
                return turn;
            continue;
        }
        if (!q->rest) {
            if (!begin_request(q))
                return BLK_TURN_FULL;
            continue;
        }
        const struct blk_req *r = q->rest;
        uint32_t cost = cost_of(r->io.op, slice_of(r->io.op, r->bytes - r->started, b->slice));
        if (cost > b->cost)
            return BLK_TURN_MORE;
        if (q->inflight >= b->inflight)
            return BLK_TURN_FULL;
        if (!start_slice(q, cost, b->slice))
            return BLK_TURN_FULL;
        b->cost -= cost;
    }
}

enum blk_turn blk_queue_service(struct blk_queue *q, struct blk_budget *b)
{
    if (q->broken)
        return BLK_TURN_BROKEN;
    if (q->draining)
        return BLK_TURN_IDLE;
    uint64_t before = b->cost;
    enum blk_turn turn = take_and_start(q, b);
    if (b->cost != before && q->dev->ops->kick)
        q->dev->ops->kick(q->dev);
    return turn;
}
