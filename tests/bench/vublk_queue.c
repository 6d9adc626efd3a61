/* SPDX-License-Identifier: MIT */
#include "vublk_queue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#define PAGE      4096u
#define HEAD      128u /* header and range, then the status on a line of its own */
#define STATUS_AT 64u
#define SECTOR    512u
#define NO_STATUS 0xffu

static uint8_t *head_of(const struct vublk_queue *q, unsigned slot)
{
    return q->heads + (size_t)slot * HEAD;
}

unsigned vublk_pieces(uint32_t bytes, uint32_t segment)
{
    unsigned data = (bytes + segment - 1) / segment;
    return 2 + (data ? data : 1); /* a discard's range is data too */
}

static size_t pages(size_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

static size_t table_bytes(uint32_t bytes, uint32_t segment)
{
    return ((size_t)vublk_pieces(bytes, segment) * 16 + 63) / 64 * 64;
}

size_t vublk_queue_bytes(unsigned depth, uint32_t bytes, uint32_t segment)
{
    return pages((size_t)depth * HEAD) + pages(depth * table_bytes(bytes, segment)) +
           pages((size_t)depth * bytes);
}

void vublk_queue_init(struct vublk_queue *q, struct vuclient *client, unsigned queue, unsigned depth,
                      uint32_t bytes, uint32_t segment, uint8_t *memory)
{
    *q = (struct vublk_queue){.client = client, .ring = &client->ring[queue], .queue = queue, .depth = depth,
                              .bytes = bytes, .segment = segment,
                              .indirect = vuclient_has(client, VIRTIO_RING_F_INDIRECT_DESC),
                              .table_bytes = table_bytes(bytes, segment)};
    q->heads = memory;
    q->tables = q->heads + pages((size_t)depth * HEAD);
    q->data = q->tables + pages(depth * q->table_bytes);
}

static unsigned put_data(const struct vublk_queue *q, struct vuring_piece *piece, uint64_t guest,
                         uint32_t bytes, bool written)
{
    unsigned n = 0;
    for (uint32_t at = 0; at < bytes; at += q->segment) {
        uint32_t len = bytes - at < q->segment ? bytes - at : q->segment;
        piece[n++] = (struct vuring_piece){guest + at, len, written};
    }
    return n;
}

/* In the header's line: of a discard or of zeroes, what it is about. */
static void put_range(const struct vublk_queue *q, unsigned slot, uint64_t offset, uint32_t bytes)
{
    struct virtio_blk_discard_write_zeroes *range =
        (void *)(head_of(q, slot) + sizeof(struct virtio_blk_outhdr));
    *range = (struct virtio_blk_discard_write_zeroes){.sector = offset / SECTOR,
                                                      .num_sectors = bytes / SECTOR};
}

int vublk_ask(struct vublk_queue *q, unsigned slot, uint32_t type, uint64_t offset, uint32_t bytes)
{
    struct vuring_piece piece[VURING_PIECES_MAX];
    struct virtio_blk_outhdr *head = (void *)head_of(q, slot);
    uint64_t head_guest = vuclient_guest(q->client, head);
    unsigned n = 1;
    bool ranged = type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES;
    bool placed = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_OUT;
    *head = (struct virtio_blk_outhdr){.type = type, .sector = placed ? offset / SECTOR : 0};
    piece[0] = (struct vuring_piece){head_guest, sizeof(*head), false};
    if (ranged) {
        put_range(q, slot, offset, bytes);
        piece[n++] = (struct vuring_piece){head_guest + sizeof(*head),
                                           sizeof(struct virtio_blk_discard_write_zeroes), false};
    } else {
        n += put_data(q, &piece[n], vuclient_guest(q->client, vublk_data(q, slot)), bytes,
                      type == VIRTIO_BLK_T_IN);
    }
    head_of(q, slot)[STATUS_AT] = NO_STATUS;
    piece[n++] = (struct vuring_piece){head_guest + STATUS_AT, 1, true};
    uint8_t *table = q->indirect ? q->tables + slot * q->table_bytes : NULL;
    uint64_t table_guest = table ? vuclient_guest(q->client, table) : 0;
    int error = vuring_add(q->ring, piece, n, table, table_guest, (uint16_t)slot);
    if (error)
        return error;
    q->busy[slot] = true;
    q->asked[slot] = type == VIRTIO_BLK_T_IN ? bytes : 0;
    q->in_flight++;
    return 0;
}

void vublk_push(struct vublk_queue *q)
{
    if (vuring_publish(q->ring))
        vuclient_kick(q->client, q->queue);
}

static int error_of(uint8_t status)
{
    return status == VIRTIO_BLK_S_OK       ? 0
           : status == VIRTIO_BLK_S_IOERR  ? -EIO
           : status == VIRTIO_BLK_S_UNSUPP ? -EOPNOTSUPP
                                           : -EBADMSG;
}

int vublk_take(struct vublk_queue *q, struct vublk_done *out)
{
    uint16_t slot;
    uint32_t written;
    int n = vuring_take(q->ring, &slot, &written);
    if (n <= 0)
        return n;
    if (slot >= q->depth || !q->busy[slot] || written > q->asked[slot] + 1)
        return -EPROTO;
    q->busy[slot] = false;
    q->in_flight--;
    *out = (struct vublk_done){.slot = slot,
                               .error = error_of(*(volatile uint8_t *)(head_of(q, slot) + STATUS_AT))};
    if (out->error == 0 && written < q->asked[slot] + 1)
        out->error = -EBADMSG;
    return 1;
}
