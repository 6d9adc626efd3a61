/* SPDX-License-Identifier: MIT */
#include "disk.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <string.h>

#include "../../../hyp-shim/hyp.h"

#define SECTOR_SHIFT 9
#define REAP_MAX     32

/* ------------------------------------------------------- the guest's memory */

/* Copies between bytes of ours and the pieces from the cursor on, which have as many. */
static void copy_pieces(const struct iovec *piece, struct disk_cursor *c, char *ours, uint32_t bytes,
                        bool to_guest)
{
    while (bytes > 0) {
        size_t here = piece[c->piece].iov_len - c->at;
        char *theirs = (char *)piece[c->piece].iov_base + c->at;
        size_t n = here < bytes ? here : bytes;
        if (to_guest)
            memcpy(theirs, ours, n);
        else
            memcpy(ours, theirs, n);
        ours += n;
        bytes -= (uint32_t)n;
        c->at += (uint32_t)n;
        if (n == here)
            *c = (struct disk_cursor){ .piece = (uint16_t)(c->piece + 1) };
    }
}

static void skip_pieces(const struct iovec *piece, struct disk_cursor *c, uint32_t bytes)
{
    while (bytes > 0) {
        size_t here = piece[c->piece].iov_len - c->at;
        if (bytes < here) {
            c->at += bytes;
            return;
        }
        bytes -= (uint32_t)here;
        *c = (struct disk_cursor){ .piece = (uint16_t)(c->piece + 1) };
    }
}

/* The very last byte that may be written. */
static uint8_t *last_byte(const struct vhost_chain *chain)
{
    const struct iovec *piece = &chain->piece[chain->nout + chain->nin - 1];
    return (uint8_t *)piece->iov_base + piece->iov_len - 1;
}

/* -------------------------------------------------------------- what is done */

static struct disk_lane *lane_of(struct disk *disk, const struct disk_ring *ring)
{
    return &disk->lane[(unsigned)(ring - disk->ring) % disk->info->queues];
}

static unsigned queue_of(const struct disk *disk, const struct disk_lane *lane)
{
    return (unsigned)(lane - disk->lane);
}

void disk_free_request(struct disk *disk, struct disk_request *r)
{
    r->ring = NULL;
    r->next = disk->free_requests;
    disk->free_requests = r;
}

/* Nothing of it is in flight, and nothing will be. */
void disk_answer(struct disk *disk, struct disk_request *r)
{
    struct disk_ring *ring = r->ring;
    bool good = r->status == VIRTIO_BLK_S_OK;
    if (r->orphan) {
        disk->orphans--;
    } else {
        *(volatile uint8_t *)r->status_at = r->status;
        vhost_queue_done(ring->queue, r->chain.id, r->chain.slots, good ? r->written : 1);
        ring->answered = true;
        ring->inflight--;
    }
    disk->done++;
    disk->failed += !good;
    disk_free_request(disk, r);
}

/* What is not in flight of it will not be. */
static void spoil(struct disk_request *r, uint8_t status)
{
    r->status = status;
    r->left = 0;
    r->range = r->ranges;
    r->then_flush = false;
}

static void part_done(struct disk *disk, struct disk_lane *lane, struct disk_part *p, int error)
{
    struct disk_request *r = p->request;
    if (error)
        spoil(r, error == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR);
    else if (r->type == VIRTIO_BLK_T_IN && !r->orphan)
        copy_pieces(r->chain.piece, &p->data, p->buf, p->bytes, true);
    if (p->buf)
        blkfront_free(disk->front, queue_of(disk, lane), p->buf);
    p->next = lane->free_parts;
    lane->free_parts = p;
    lane->inflight--;
    if (--r->parts == 0 && r->ring->begun != r)
        disk_answer(disk, r);
}

int disk_reap(struct disk *disk, struct disk_lane *lane)
{
    struct blkfront_result result[REAP_MAX];
    int n, all = 0;
    do {
        n = lane->inflight ? blkfront_reap(disk->front, queue_of(disk, lane), result, REAP_MAX) : 0;
        for (int i = 0; i < n; i++)
            part_done(disk, lane, (struct disk_part *)(uintptr_t)result[i].cookie, result[i].error);
        all += n > 0 ? n : 0;
    } while (n == REAP_MAX);
    return n < 0 ? n : all;
}

/* --------------------------------------------------------------- what is sent */

/* All of a lane's batch with one doorbell. */
int disk_send(struct disk *disk, struct disk_lane *lane)
{
    for (unsigned at = 0; at < lane->nbatch;) {
        int n = blkfront_submit(disk->front, queue_of(disk, lane), &lane->batch[at], lane->nbatch - at);
        if (n == -ENOTCONN)
            return n;
        if (n <= 0) /* this one is refused; there is a place in the ring for each part */
            part_done(disk, lane, (struct disk_part *)(uintptr_t)lane->batch[at].cookie, n ? n : -EIO);
        at += n > 0 ? (unsigned)n : 1;
    }
    lane->nbatch = 0;
    return 0;
}

static void put_part(struct disk_lane *lane, struct disk_request *r, struct blkfront_io io)
{
    struct disk_part *p = lane->free_parts;
    lane->free_parts = p->next;
    *p = (struct disk_part){ .request = r, .buf = io.buf, .bytes = io.bytes, .data = r->data };
    io.cookie = (uintptr_t)p;
    lane->batch[lane->nbatch++] = io;
    lane->inflight++;
    r->parts++;
}

/* Pages for the next part; *bytes, how many of them there are.  NULL: later. */
static char *pages(struct disk *disk, struct disk_lane *lane, uint32_t *bytes)
{
    unsigned queue = queue_of(disk, lane);
    char *buf = blkfront_alloc(disk->front, queue, *bytes);
    /* What is in flight gives pages back; if nothing is, less than we want is all there is. */
    while (!buf && lane->inflight == 0 && *bytes > HYP_PAGE_SIZE) {
        *bytes = (*bytes / 2 + HYP_PAGE_SIZE - 1) & ~(HYP_PAGE_SIZE - 1);
        buf = blkfront_alloc(disk->front, queue, *bytes);
    }
    return buf;
}

static bool put_data(struct disk *disk, struct disk_lane *lane, struct disk_request *r)
{
    uint32_t bytes = r->left < disk->info->max_io_bytes ? r->left : disk->info->max_io_bytes;
    bool write = r->type == VIRTIO_BLK_T_OUT;
    char *buf = pages(disk, lane, &bytes);
    if (!buf)
        return false;
    put_part(lane, r, (struct blkfront_io){
        .op = write ? BLKFRONT_WRITE : BLKFRONT_READ, .buf = buf, .bytes = bytes, .offset = r->offset,
        .flags = write && disk->durable && disk->info->can_fua ? BLKFRONT_FUA : 0 });
    if (write)
        copy_pieces(r->chain.piece, &r->data, buf, bytes, false);
    else
        skip_pieces(r->chain.piece, &r->data, bytes);
    r->offset += bytes;
    r->left -= bytes;
    return true;
}

static void put_range(struct disk_lane *lane, struct disk_request *r)
{
    const struct disk_range *range = &r->ring->range[r->range++];
    put_part(lane, r, (struct blkfront_io){
        .op = r->type == VIRTIO_BLK_T_DISCARD ? BLKFRONT_DISCARD : BLKFRONT_ZEROES,
        .flags = range->unmap ? BLKFRONT_MAY_UNMAP : 0, .offset = range->offset, .length = range->bytes });
}

/* Puts what can be put of the request that is begun: 1 all, 0 it waits; -ENOTCONN. */
static int go_on(struct disk *disk, struct disk_ring *ring)
{
    struct disk_request *r = ring->begun;
    struct disk_lane *lane = lane_of(disk, ring);
    while (r->left > 0 || r->range < r->ranges || r->then_flush) {
        bool flush = r->left == 0 && r->range == r->ranges;
        int err = lane->nbatch == DISK_BATCH ? disk_send(disk, lane) : 0;
        if (err)
            return err;
        if (!lane->free_parts || (flush && r->parts > 0) || (r->left > 0 && !put_data(disk, lane, r))) {
            lane->awaited = true;
            return 0;
        }
        if (r->ranges > r->range)
            put_range(lane, r);
        else if (flush) {
            r->then_flush = false;
            put_part(lane, r, (struct blkfront_io){ .op = BLKFRONT_FLUSH });
        }
    }
    ring->begun = NULL;
    if (r->parts == 0)
        disk_answer(disk, r);
    return 1;
}

/* ---------------------------------------------------------- what is asked */

uint64_t disk_sectors(const struct disk *disk)
{
    return disk->info->bytes >> SECTOR_SHIFT;
}

/* Whole sectors of the disk, and within it; *offset in bytes. */
static bool within(const struct disk *disk, uint64_t sector, uint64_t bytes, uint64_t *offset)
{
    if (sector > disk_sectors(disk) || bytes > (disk_sectors(disk) - sector) << SECTOR_SHIFT)
        return false;
    *offset = sector << SECTOR_SHIFT;
    return ((*offset | bytes) & (disk->info->sector_bytes - 1)) == 0;
}

static void begin_data(struct disk *disk, struct disk_request *r, uint64_t sector, uint32_t bytes)
{
    if (bytes == 0 || !within(disk, sector, bytes, &r->offset))
        spoil(r, VIRTIO_BLK_S_IOERR);
    else if (r->type == VIRTIO_BLK_T_OUT && disk->info->readonly)
        spoil(r, VIRTIO_BLK_S_IOERR);
    else
        r->left = bytes;
}

static uint8_t check_range(const struct disk *disk, uint32_t type,
                           const struct virtio_blk_discard_write_zeroes *asked, struct disk_range *out)
{
    bool zeroes = type == VIRTIO_BLK_T_WRITE_ZEROES;
    uint32_t sectors = le32toh(asked->num_sectors), flags = le32toh(asked->flags);
    if (flags & (zeroes ? ~(uint32_t)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : ~0u))
        return VIRTIO_BLK_S_UNSUPP;
    *out = (struct disk_range){ .bytes = (uint64_t)sectors << SECTOR_SHIFT, .unmap = flags != 0 };
    if (sectors == 0 || sectors > (zeroes ? DISK_ZEROES_MAX : DISK_DISCARD_MAX))
        return VIRTIO_BLK_S_IOERR;
    bool inside = within(disk, le64toh(asked->sector), out->bytes, &out->offset);
    return inside ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
}

/* All ranges are looked at before the first one is sent. */
static void begin_ranges(struct disk *disk, struct disk_request *r, uint32_t bytes)
{
    const struct blkfront_info *can = disk->info;
    struct virtio_blk_discard_write_zeroes asked[DISK_RANGES_MAX];
    uint32_t n = bytes / sizeof(asked[0]);
    if (!(r->type == VIRTIO_BLK_T_DISCARD ? can->can_discard : can->can_zeroes)) {
        spoil(r, VIRTIO_BLK_S_UNSUPP);
        return;
    }
    if (n == 0 || n > DISK_RANGES_MAX || bytes % sizeof(asked[0])) {
        spoil(r, VIRTIO_BLK_S_IOERR);
        return;
    }
    copy_pieces(r->chain.piece, &r->data, (char *)asked, bytes, false);
    for (uint32_t i = 0; i < n && r->status == VIRTIO_BLK_S_OK; i++)
        r->status = check_range(disk, r->type, &asked[i], &r->ring->range[i]);
    if (r->status != VIRTIO_BLK_S_OK)
        return;
    r->ranges = (uint16_t)n;
    r->then_flush = disk->durable && can->can_flush;
}

static void begin_name(const struct disk *disk, struct disk_request *r, uint32_t room)
{
    char id[VIRTIO_BLK_ID_BYTES] = { 0 };
    uint32_t n = room < sizeof(id) ? room : (uint32_t)sizeof(id);
    memcpy(id, disk->name, sizeof(id));
    copy_pieces(r->chain.piece, &r->data, id, n, true);
    r->written = n + 1;
}

/* The chain of a new request, as it came: 0, or -EPROTO. */
static int begin(struct disk *disk, struct disk_ring *ring, struct disk_request *r)
{
    struct vhost_chain *chain = &r->chain;
    struct virtio_blk_outhdr head;
    if (chain->out_bytes < sizeof(head) || chain->in_bytes < 1) {
        ring->queue->bad = VHOST_BAD_CLASS;
        return -EPROTO;
    }
    r->ring = ring;
    r->status = VIRTIO_BLK_S_OK;
    r->orphan = r->then_flush = false;
    r->parts = r->left = 0;
    r->ranges = r->range = 0;
    r->written = 1;
    r->status_at = last_byte(chain);
    r->data = (struct disk_cursor){ 0 };
    copy_pieces(chain->piece, &r->data, (char *)&head, sizeof(head), false);
    uint32_t out = chain->out_bytes - (uint32_t)sizeof(head), in = chain->in_bytes - 1;
    r->type = le32toh(head.type);
    if (r->type == VIRTIO_BLK_T_IN || r->type == VIRTIO_BLK_T_GET_ID)
        r->data = (struct disk_cursor){ .piece = chain->nout };
    switch (r->type) {
    case VIRTIO_BLK_T_IN:
        begin_data(disk, r, le64toh(head.sector), in);
        r->written = chain->in_bytes;
        break;
    case VIRTIO_BLK_T_OUT:
        begin_data(disk, r, le64toh(head.sector), out);
        break;
    case VIRTIO_BLK_T_FLUSH:
        r->then_flush = disk->info->can_flush;
        if (!r->then_flush)
            spoil(r, VIRTIO_BLK_S_UNSUPP);
        break;
    case VIRTIO_BLK_T_GET_ID:
        begin_name(disk, r, in);
        break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        if (disk->info->readonly)
            spoil(r, VIRTIO_BLK_S_IOERR);
        else
            begin_ranges(disk, r, out);
        break;
    default:
        spoil(r, VIRTIO_BLK_S_UNSUPP);
    }
    ring->begun = r;
    ring->inflight++;
    return 0;
}

/* Begins what the ring has, as far as there is room. > 0: something. */
int disk_serve_ring(struct disk *disk, struct disk_ring *ring)
{
    struct disk_lane *lane = lane_of(disk, ring);
    int begun = 0, err;
    ring->waits = false;
    for (;;) {
        if (ring->begun) {
            err = go_on(disk, ring);
            if (err <= 0) {
                ring->waits = true;
                return err ? err : begun;
            }
        }
        if (begun == (int)DISK_TURN)
            return begun;
        struct disk_request *r = disk->free_requests;
        if (!r || !lane->free_parts) {
            lane->awaited = ring->waits = true;
            return begun;
        }
        int got = ring->stopping ? 0 : vhost_queue_next(ring->queue, &r->chain);
        if (got <= 0)
            return got ? got : begun;
        if (begun++ == 0)
            vhost_queue_quiet(ring->queue);
        disk->free_requests = r->next;
        err = begin(disk, ring, r);
        if (err) {
            disk_free_request(disk, r);
            return err;
        }
    }
}
