/* SPDX-License-Identifier: MIT */
/*
 * frame.h - the packets of the network benchmarks.
 *
 * Ethernet, IPv4 and UDP headers, a number, a time, and a fill that depends on
 * the number: what arrives can be told from what should have.  Sizes count
 * from the destination address to the last byte of payload, as DPDK's do (no
 * FCS).  A frame is written anew for every packet, every byte of it.
 */
#ifndef BULKHEAD_BENCH_FRAME_H
#define BULKHEAD_BENCH_FRAME_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define FRAME_HEADER  64u   /* the part that differs: headers, number, time     */
#define FRAME_MIN     FRAME_HEADER
#define FRAME_MAX     9014u /* MTU 9000                                         */
#define FRAME_MTU_MAX 9000u
#define FRAME_FILLS   16u   /* so many fills, in turn                           */
#define FRAME_SHIFT   64u   /* bytes between where one fill begins and the next */
#define FRAME_MIX     12u   /* packets after which the mix begins again         */
#define FRAME_MIX_MEAN ((7 * 64 + 4 * 570 + 1500) / (double)FRAME_MIX)

/* What one sender sends to one address. */
struct frame_flow {
    uint16_t id;
    uint8_t kinds;                         /* 1, or 3: a mix of sizes           */
    uint32_t bytes[3];                     /* of each kind                      */
    uint32_t lines[3];                     /* mask: places to begin in a buffer */
    uint8_t header[3][FRAME_HEADER];
};

/* bytes 0: the mix, 7 of 64, 4 of 570 and 1 of 1500 bytes in every 12. */
void frame_flow_init(struct frame_flow *f, uint32_t bytes, const uint8_t to[6], const uint8_t from[6],
                     unsigned id);

extern const uint8_t frame_mix[FRAME_MIX];
extern uint8_t frame_fills[FRAME_MAX + FRAME_FILLS * FRAME_SHIFT]; /* made by frame_flow_init() */

static inline unsigned frame_kind(const struct frame_flow *f, uint64_t number)
{
    return f->kinds == 1 ? 0 : frame_mix[number % FRAME_MIX];
}

static inline const uint8_t *frame_header(const struct frame_flow *f, uint64_t number)
{
    return f->header[frame_kind(f, number)];
}

static inline uint32_t frame_bytes(const struct frame_flow *f, uint64_t number)
{
    return f->bytes[frame_kind(f, number)];
}

#define FRAME_NUMBER_AT 42u
#define FRAME_TIME_AT   50u

static inline const uint8_t *frame_fill(uint64_t number, uint32_t from)
{
    return frame_fills + number % FRAME_FILLS * FRAME_SHIFT + from;
}

/* The compiler must not know that n is bounded: it would make one string
 * instruction of the copy, which is ten times slower than the library's. */
static inline void frame_copy(uint8_t *at, const uint8_t *from, size_t n)
{
    __asm__("" : "+r"(n));
    memcpy(at, from, n);
}

/* The first n bytes of a frame, at least FRAME_HEADER, from the header of its kind. */
static inline void frame_write(const uint8_t *header, uint64_t number, uint64_t time, uint8_t *at, uint32_t n)
{
    memcpy(at, header, FRAME_HEADER);
    memcpy(at + FRAME_NUMBER_AT, &number, sizeof(number));
    memcpy(at + FRAME_TIME_AT, &time, sizeof(time));
    if (n > FRAME_HEADER)
        frame_copy(at + FRAME_HEADER, frame_fill(number, FRAME_HEADER), n - FRAME_HEADER);
}

/* n bytes of a frame from its byte `from` on, past the header. */
static inline void frame_write_more(uint64_t number, uint32_t from, uint8_t *at, uint32_t n)
{
    frame_copy(at, frame_fill(number, from), n);
}

struct frame_seen {
    uint16_t id;
    uint64_t number, time;
};
/* From a private copy of the first FRAME_HEADER bytes. False: none of ours. */
bool frame_read(const uint8_t header[FRAME_HEADER], struct frame_seen *out);

/* Is this what the flow's frame of that number has there? Whole header apart
 * from its time, then the fill. */
bool frame_is(const struct frame_flow *f, uint64_t number, uint32_t from, const uint8_t *at, uint32_t n);

#endif
