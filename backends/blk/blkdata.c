/* SPDX-License-Identifier: MIT */
/*
 * blkdata.c - the data of a request, by the kind of grants negotiated.
 *
 *   persistent  the page is mapped already, or is from now on
 *   copy        the data passes through private bounce memory
 *   map         mapped for this request alone
 *
 * Pieces merge only when their addresses here are adjacent, never because
 * references or frames look adjacent (XSA-229).  Either all pages of a request
 * are reachable or nothing is held and the request is refused: no error of one
 * page is covered by the success of another (XSA-361, XSA-365).
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "blkring.h"

#define RANGE_UNKNOWN (-2) /* in range_buffer: not tried yet */

static size_t seg_bytes(const struct blkif_request_segment *s)
{
    return (size_t)(s->last_sect - s->first_sect + 1) << BLK_SECTOR_SHIFT;
}

static size_t seg_offset(const struct blkif_request_segment *s)
{
    return (size_t)s->first_sect << BLK_SECTOR_SHIFT;
}

static void add_piece(struct blk_req *r, void *at, size_t bytes)
{
    if (r->pieces > 0) {
        struct iovec *last = &r->iov[r->pieces - 1];
        if ((uint8_t *)last->iov_base + last->iov_len == at) {
            last->iov_len += bytes;
            return;
        }
    }
    r->iov[r->pieces++] = (struct iovec){ .iov_base = at, .iov_len = bytes };
}

/* ------------------------------------------------------------ bounce memory */

int blk_data_bounce(struct blk_queue *q)
{
    void *va = mmap(NULL, BLK_BOUNCE_PAGES * HYP_PAGE_SIZE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (va == MAP_FAILED)
        return -errno;
    q->bounce = va;
    return 0;
}

static bool page_used(const struct blk_queue *q, unsigned page)
{
    return q->bounce_used[page / 64] >> (page % 64) & 1;
}

static void mark_pages(struct blk_queue *q, unsigned first, unsigned n)
{
    for (unsigned page = first; page < first + n; page++)
        q->bounce_used[page / 64] ^= 1ull << (page % 64);
}

/* n consecutive pages, lowest first so that few are ever touched; -1: none. */
static int take_pages(struct blk_queue *q, unsigned n)
{
    unsigned first = 0, run = 0;
    while (run < n) {
        if (first + n > BLK_BOUNCE_PAGES)
            return -1;
        if (page_used(q, first + run)) {
            first += run + 1;
            run = 0;
            if (first % 64 == 0)
                while (first < BLK_BOUNCE_PAGES && q->bounce_used[first / 64] == UINT64_MAX)
                    first += 64;
        } else {
            run++;
        }
    }
    mark_pages(q, first, n);
    return (int)first;
}

static unsigned pages_of(uint64_t bytes)
{
    return (unsigned)((bytes + HYP_PAGE_SIZE - 1) >> HYP_PAGE_SHIFT);
}

static int copy_segments(struct blk_queue *q, const struct blk_req *r, bool to_grant)
{
    uint8_t *at = q->bounce + (size_t)r->bounce * HYP_PAGE_SIZE;
    for (unsigned i = 0; i < r->nseg; i++) {
        const struct blkif_request_segment *s = &r->seg[i];
        q->pieces[i] = (struct hyp_copy){ .ref = s->gref, .offset = (uint16_t)seg_offset(s),
                                          .bytes = (uint16_t)seg_bytes(s), .local = at,
                                          .to_grant = to_grant };
        at += seg_bytes(s);
    }
    return hyp_grant_copy(q->map, q->pieces, r->nseg) < 0 ? -EACCES : 0;
}

static int open_copied(struct blk_queue *q, struct blk_req *r)
{
    int first = take_pages(q, pages_of(r->bytes));
    if (first < 0)
        return -EAGAIN;
    r->bounce = (uint16_t)first;
    r->seg = r->is_long ? q->longs[r->long_index].seg : r->store.seg;
    memcpy(r->seg, q->cmd.seg, r->nseg * sizeof(*r->seg));
    r->iov = &r->one;
    add_piece(r, q->bounce + (size_t)first * HYP_PAGE_SIZE, r->bytes);
    r->io.buffer = q->bounce_buffer;
    if (q->cmd.op == BLKDEV_READ)
        return 0;
    int err = copy_segments(q, r, false);
    if (err < 0)
        mark_pages(q, r->bounce, pages_of(r->bytes));
    return err;
}

static int close_copied(struct blk_queue *q, struct blk_req *r, bool ok)
{
    int err = ok && r->io.op == BLKDEV_READ ? copy_segments(q, r, true) : 0;
    mark_pages(q, r->bounce, pages_of(r->bytes));
    return err;
}

/* ------------------------------------------------------- persistent and mapped */

/* The registered buffer that holds all of a piece, or BLKDEV_NO_BUFFER. */
static int registered_buffer(struct blk_queue *q, const struct iovec *piece)
{
    struct hyp_range range;
    if (hyp_map_range(q->map, piece->iov_base, &range) < 0 || range.id >= BLK_RANGES)
        return BLKDEV_NO_BUFFER;
    size_t before = (size_t)((uint8_t *)piece->iov_base - (uint8_t *)range.base);
    if (piece->iov_len > range.bytes - before)
        return BLKDEV_NO_BUFFER;
    if (q->range_buffer[range.id] == RANGE_UNKNOWN)
        q->range_buffer[range.id] = (int16_t)q->dev->ops->buffer_add(q->dev, range.base, range.bytes);
    return q->range_buffer[range.id];
}

static int open_persistent(struct blk_queue *q, struct blk_req *r)
{
    const struct blkif_request_segment *s = q->cmd.seg;
    for (unsigned i = 0; i < r->nseg; i++, s++) {
        uint8_t *page = hyp_map_persistent(q->map, s->gref);
        if (!page)
            return -EACCES;
        add_piece(r, page + seg_offset(s), seg_bytes(s));
    }
    if (r->pieces == 1 && q->dev->ops->buffer_add)
        r->io.buffer = registered_buffer(q, r->iov);
    return 0;
}

static void unmap_singly(struct blk_queue *q, const struct blk_req *r, unsigned n)
{
    /* A piece may have been eaten into, but never to its end. */
    for (unsigned i = 0; i < n; i++) {
        uintptr_t at = (uintptr_t)r->iov[i].iov_base;
        hyp_unmap_grants(q->map, (void *)(at - at % HYP_PAGE_SIZE), 1);
    }
}

/* For grants that the hypervisor cannot put side by side: one piece a page. */
static int map_singly(struct blk_queue *q, struct blk_req *r, unsigned flags)
{
    const struct blkif_request_segment *s = q->cmd.seg;
    r->mapped = NULL;
    for (; r->pieces < r->nseg; r->pieces++, s++) {
        void *page;
        if (hyp_map_grants(q->map, &s->gref, 1, flags, &page) < 0) {
            unmap_singly(q, r, r->pieces);
            return -EACCES;
        }
        r->iov[r->pieces] = (struct iovec){ (uint8_t *)page + seg_offset(s), seg_bytes(s) };
    }
    return 0;
}

static int open_mapped(struct blk_queue *q, struct blk_req *r)
{
    const struct blkif_request_segment *s = q->cmd.seg;
    unsigned flags = q->cmd.op == BLKDEV_WRITE ? HYP_MAP_RDONLY : 0;
    for (unsigned i = 0; i < r->nseg; i++)
        q->refs[i] = s[i].gref;
    int err = hyp_map_grants(q->map, q->refs, r->nseg, flags, &r->mapped);
    if (err == -EOPNOTSUPP)
        return map_singly(q, r, flags);
    if (err < 0)
        return -EACCES;
    for (unsigned i = 0; i < r->nseg; i++)
        add_piece(r, (uint8_t *)r->mapped + (size_t)i * HYP_PAGE_SIZE + seg_offset(&s[i]), seg_bytes(&s[i]));
    return 0;
}

static void close_mapped(struct blk_queue *q, struct blk_req *r)
{
    if (r->mapped)
        hyp_unmap_grants(q->map, r->mapped, r->nseg);
    else
        unmap_singly(q, r, r->nseg);
}

/* ---------------------------------------------------------------- interface */

int blk_data_open(struct blk_queue *q, struct blk_req *r)
{
    int err = 0;

    r->nseg = q->cmd.nseg;
    r->bytes = q->cmd.bytes;
    r->at = r->pieces = 0;
    r->io.buffer = BLKDEV_NO_BUFFER;
    r->is_long = r->nseg > BLK_SHORT_SEGMENTS;
    if (r->nseg == 0)
        return 0;
    if (r->is_long) {
        if (q->nlong == 0)
            return -EAGAIN;
        r->long_index = q->free_long[--q->nlong];
    }
    r->iov = r->is_long ? q->longs[r->long_index].iov : r->store.iov;
    switch (q->grants) {
    case BLK_GRANTS_PERSISTENT:
        err = open_persistent(q, r);
        break;
    case BLK_GRANTS_COPY:
        err = open_copied(q, r);
        break;
    case BLK_GRANTS_MAP:
        err = open_mapped(q, r);
        break;
    }
    if (err < 0 && r->is_long)
        q->free_long[q->nlong++] = r->long_index;
    return err;
}

int blk_data_close(struct blk_queue *q, struct blk_req *r, bool ok)
{
    int err = 0;

    if (r->nseg == 0)
        return 0;
    if (q->grants == BLK_GRANTS_COPY)
        err = close_copied(q, r, ok);
    else if (q->grants == BLK_GRANTS_MAP)
        close_mapped(q, r);
    if (r->is_long)
        q->free_long[q->nlong++] = r->long_index;
    return err;
}

int blk_data_fetch(struct blk_queue *q, grant_ref_t ref, void *dst, size_t bytes)
{
    void *page;
    struct hyp_copy piece = { .ref = ref, .bytes = (uint16_t)bytes, .local = dst };

    switch (q->grants) {
    case BLK_GRANTS_PERSISTENT:
        page = hyp_map_persistent(q->map, ref);
        if (!page)
            return -EACCES;
        shared_read(dst, page, bytes);
        return 0;
    case BLK_GRANTS_COPY:
        return hyp_grant_copy(q->map, &piece, 1) < 0 ? -EACCES : 0;
    default:
        if (hyp_map_grants(q->map, &ref, 1, HYP_MAP_RDONLY, &page) < 0)
            return -EACCES;
        shared_read(dst, page, bytes);
        hyp_unmap_grants(q->map, page, 1);
        return 0;
    }
}

void blk_data_register(struct blk_queue *q)
{
    for (unsigned i = 0; i < BLK_RANGES; i++)
        q->range_buffer[i] = RANGE_UNKNOWN;
    q->bounce_buffer = BLKDEV_NO_BUFFER;
    if (q->bounce && q->dev->ops->buffer_add)
        q->bounce_buffer = q->dev->ops->buffer_add(q->dev, q->bounce, BLK_BOUNCE_PAGES * HYP_PAGE_SIZE);
}

void blk_data_register_granted(struct blk_queue *q)
{
    struct hyp_range range;
    if (q->grants == BLK_GRANTS_PERSISTENT && hyp_map_range(q->map, q->ring.shared, &range) == 0 &&
        range.id < BLK_RANGES)
        q->range_buffer[range.id] = (int16_t)q->dev->ops->buffer_add(q->dev, range.base, range.bytes);
}

void blk_data_unregister(struct blk_queue *q)
{
    for (unsigned i = 0; i < BLK_RANGES; i++)
        if (q->range_buffer[i] >= 0)
            q->dev->ops->buffer_remove(q->dev, q->range_buffer[i]);
    if (q->bounce_buffer >= 0)
        q->dev->ops->buffer_remove(q->dev, q->bounce_buffer);
}
