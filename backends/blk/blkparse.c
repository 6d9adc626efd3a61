/* SPDX-License-Identifier: MIT */
/*
 * blkparse.c - from a hostile request to a command that is known to be right.
 *
 * Works on q->wire, a private copy that the frontend cannot change any more
 * (XSA-155); indirect segments are fetched once into q->seg for the same
 * reason.
 */
#include <errno.h>

#include "blkring.h"

static int16_t refuse(uint64_t *counter, int16_t status)
{
    blk_count(counter, 1);
    return status;
}

/* The sectors at `first` are on the disk and whole logical sectors. */
static int16_t check_place(struct blk_queue *q, uint64_t first, uint64_t sectors)
{
    const struct blkdev_geometry *geo = &q->dev->geo;
    uint64_t total = geo->bytes >> BLK_SECTOR_SHIFT;
    uint64_t unit = geo->sector_bytes >> BLK_SECTOR_SHIFT;

    if (sectors == 0 || first > total || sectors > total - first)
        return refuse(&q->count.bad_range, BLKIF_RSP_ERROR);
    if ((first | sectors) & (unit - 1))
        return refuse(&q->count.bad_align, BLKIF_RSP_ERROR);
    q->cmd.offset = first << BLK_SECTOR_SHIFT;
    q->cmd.bytes = sectors << BLK_SECTOR_SHIFT;
    return BLKIF_RSP_OKAY;
}

static int16_t parse_transfer(struct blk_queue *q, uint8_t op, unsigned nseg,
                              const struct blkif_request_segment *seg, uint64_t first)
{
    struct blk_cmd *cmd = &q->cmd;
    const struct blkdev_geometry *geo = &q->dev->geo;
    unsigned unit = geo->sector_bytes >> BLK_SECTOR_SHIFT;
    uint64_t sectors = 0;

    for (unsigned i = 0; i < nseg; i++) {
        unsigned from = seg[i].first_sect, to = seg[i].last_sect;
        if (from > to || to >= BLK_PAGE_SECTORS)
            return refuse(&q->count.bad_segments, BLKIF_RSP_ERROR);
        if ((from | (to + 1)) & (unit - 1))
            return refuse(&q->count.bad_align, BLKIF_RSP_ERROR);
        sectors += to - from + 1;
    }
    if (op != BLKIF_OP_READ && geo->readonly)
        return refuse(&q->count.bad_readonly, BLKIF_RSP_ERROR);
    cmd->op = op == BLKIF_OP_READ ? BLKDEV_READ : BLKDEV_WRITE;
    cmd->flags = op == BLK_OP_WRITE_FUA ? BLKDEV_FUA : 0;
    cmd->nseg = (uint16_t)nseg;
    cmd->seg = seg;
    return check_place(q, first, sectors);
}

static bool is_transfer(const struct blk_queue *q, uint8_t op)
{
    return op == BLKIF_OP_READ || op == BLKIF_OP_WRITE || (op == BLK_OP_WRITE_FUA && q->dev->geo.fua);
}

static int16_t parse_direct(struct blk_queue *q)
{
    const struct blkif_request *w = &q->wire.rw;
    if (w->nr_segments == 0 || w->nr_segments > BLKIF_MAX_SEGMENTS_PER_REQUEST)
        return refuse(&q->count.bad_segments, BLKIF_RSP_ERROR);
    return parse_transfer(q, w->operation, w->nr_segments, w->seg, w->sector_number);
}

static int16_t parse_indirect(struct blk_queue *q)
{
    const struct blkif_request_indirect *w = &q->wire.indirect;
    _Static_assert(BLK_MAX_INDIRECT_SEGMENTS <= BLK_INDIRECT_PER_PAGE, "one indirect page is enough");

    /* The answer names the operation that was asked for, as stock backends do. */
    q->cmd.wire_op = w->indirect_op;
    if (!is_transfer(q, w->indirect_op))
        return refuse(&q->count.bad_op, BLKIF_RSP_EOPNOTSUPP);
    if (w->nr_segments == 0 || w->nr_segments > BLK_MAX_INDIRECT_SEGMENTS)
        return refuse(&q->count.bad_segments, BLKIF_RSP_ERROR);
    if (blk_data_fetch(q, w->indirect_grefs[0], q->seg, w->nr_segments * sizeof(q->seg[0])) < 0)
        return refuse(&q->count.bad_grant, BLKIF_RSP_ERROR);
    return parse_transfer(q, w->indirect_op, w->nr_segments, q->seg, w->sector_number);
}

static int16_t parse_flush(struct blk_queue *q)
{
    if (q->wire.rw.nr_segments != 0)
        return refuse(&q->count.bad_segments, BLKIF_RSP_ERROR);
    q->cmd.op = BLKDEV_FLUSH;
    q->cmd.flags = 0;
    q->cmd.nseg = 0;
    q->cmd.offset = q->cmd.bytes = 0;
    return BLKIF_RSP_OKAY;
}

/* Discard (CVE-2013-2140: not on a read-only disk) and write zeroes. */
static int16_t parse_range(struct blk_queue *q)
{
    const struct blkif_request_discard *w = &q->wire.discard;
    const struct blkdev_geometry *geo = &q->dev->geo;
    bool zeroes = w->operation == BLK_OP_WRITE_ZEROES;

    if (geo->readonly)
        return refuse(&q->count.bad_readonly, BLKIF_RSP_ERROR);
    if (zeroes ? !geo->zeroes : geo->discard_granularity == 0)
        return refuse(&q->count.bad_op, BLKIF_RSP_EOPNOTSUPP);
    q->cmd.op = zeroes ? BLKDEV_ZEROES : BLKDEV_DISCARD;
    q->cmd.flags = zeroes && (w->flag & BLK_ZEROES_MAY_UNMAP) ? BLKDEV_MAY_UNMAP : 0;
    q->cmd.nseg = 0;
    return check_place(q, w->sector_number, w->nr_sectors);
}

int16_t blk_parse(struct blk_queue *q)
{
    _Static_assert(offsetof(struct blkif_request, id) == offsetof(struct blkif_request_indirect, id) &&
                       offsetof(struct blkif_request, id) == offsetof(struct blkif_request_discard, id),
                   "the id is at one place in every layout");
    uint8_t op = q->wire.rw.operation;

    q->cmd.id = q->wire.rw.id;
    q->cmd.wire_op = op;
    if (is_transfer(q, op))
        return parse_direct(q);
    switch (op) {
    case BLKIF_OP_INDIRECT:
        return parse_indirect(q);
    case BLKIF_OP_FLUSH_DISKCACHE:
        return parse_flush(q);
    case BLKIF_OP_DISCARD:
    case BLK_OP_WRITE_ZEROES:
        return parse_range(q);
    default:
        return refuse(&q->count.bad_op, BLKIF_RSP_EOPNOTSUPP);
    }
}
