/* SPDX-License-Identifier: MIT */
/*
 * bad_blk - the disk driver domain, and it goes wrong where it is asked to.
 *
 * Linked with these two in front of the real ones (-Wl,--wrap=...).  A request that
 * begins in one of the last three blocks of 4 KiB of a disk is not served:
 *
 *   the last         the process dies of it
 *   the last but one its answer has an id that nobody asked with
 *   the one before   the ring says that there are more answers than requests
 *
 * All others are served as usual.
 */
#include "../../../backends/blk/blkring.h"

#define BLOCK 4096u

int16_t __real_blk_parse(struct blk_queue *q);
int16_t __wrap_blk_parse(struct blk_queue *q);
void __real_blk_queue_done(struct blk_req *r);
void __wrap_blk_queue_done(struct blk_req *r);

/* Which block before the end of the disk it begins in; 0: the last. */
static uint64_t from_the_end(const struct blk_queue *q, uint64_t offset)
{
    uint64_t bytes = q->disk->geo.bytes;
    return offset < bytes ? (bytes - 1 - offset) / BLOCK : UINT64_MAX;
}

int16_t __wrap_blk_parse(struct blk_queue *q)
{
    int16_t status = __real_blk_parse(q);
    if (status == BLKIF_RSP_OKAY && q->cmd.op != BLKDEV_FLUSH && from_the_end(q, q->cmd.offset) == 0)
        __builtin_trap();
    return status;
}

void __wrap_blk_queue_done(struct blk_req *r)
{
    struct blk_queue *q = r->queue;
    uint64_t where = r->io.op == BLKDEV_FLUSH ? UINT64_MAX : from_the_end(q, r->offset);
    if (where == 1)
        r->id ^= 0x5555;
    __real_blk_queue_done(r);
    if (where == 2)
        q->ring.rsp_prod += 1000; /* is told with the next push */
}
