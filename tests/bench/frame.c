/* SPDX-License-Identifier: MIT */
#include "frame.h"

#define ETHERNET 14u
#define IP       20u
#define UDP      8u
#define PORTS    0xb000u /* UDP port of flow 0 */
#define BUFFER   4096u
#define LINE     64u

const uint8_t frame_mix[FRAME_MIX] = {0, 1, 0, 0, 1, 0, 2, 0, 1, 0, 0, 1};
_Alignas(64) uint8_t frame_fills[FRAME_MAX + FRAME_FILLS * FRAME_SHIFT];

/* Bytes without a period: what is shifted by some of them is seen. */
static void make_fills(void)
{
    uint32_t x = 1;
    for (unsigned i = 0; i < sizeof(frame_fills); i++) {
        x = x * 1664525u + 1013904223u;
        frame_fills[i] = (uint8_t)(x >> 24);
    }
}

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static uint16_t ip_checksum(const uint8_t *ip)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < IP; i += 2)
        sum += (uint32_t)ip[i] << 8 | ip[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~((sum & 0xffff) + (sum >> 16));
}

/* 198.18.0.0/15 is for benchmarks (RFC 2544). */
static void make_header(uint8_t *at, uint32_t bytes, const uint8_t to[6], const uint8_t from[6], unsigned id)
{
    memset(at, 0, FRAME_HEADER);
    memcpy(at, to, 6);
    memcpy(at + 6, from, 6);
    put16(at + 12, 0x0800);
    uint8_t *ip = at + ETHERNET;
    ip[0] = 0x45;
    put16(ip + 2, bytes - ETHERNET);
    ip[8] = 64;
    ip[9] = 17;
    const uint8_t addresses[8] = {198, 18, 0, (uint8_t)(id + 1), 198, 19, 0, (uint8_t)(id + 1)};
    memcpy(ip + 12, addresses, sizeof(addresses));
    put16(ip + 10, ip_checksum(ip));
    uint8_t *udp = ip + IP; /* checksum 0: none */
    put16(udp, PORTS + id);
    put16(udp + 2, PORTS + id);
    put16(udp + 4, bytes - ETHERNET - IP);
    memcpy(at + FRAME_TIME_AT + 8, frame_fills, FRAME_HEADER - FRAME_TIME_AT - 8);
}

void frame_flow_init(struct frame_flow *f, uint32_t bytes, const uint8_t to[6], const uint8_t from[6],
                     unsigned id)
{
    static const uint32_t mix[3] = {64, 570, 1500};
    unsigned kinds = bytes ? 1 : 3;
    make_fills();
    *f = (struct frame_flow){.id = (uint16_t)id, .kinds = (uint8_t)kinds};
    for (unsigned k = 0; k < kinds; k++) {
        f->bytes[k] = bytes ? bytes : mix[k];
        make_header(f->header[k], f->bytes[k], to, from, id);
        uint32_t places = f->bytes[k] < BUFFER ? (BUFFER - f->bytes[k]) / LINE + 1 : 1;
        f->lines[k] = (1u << (31 - __builtin_clz(places))) - 1;
    }
}

bool frame_read(const uint8_t header[FRAME_HEADER], struct frame_seen *out)
{
    const uint8_t *udp = header + ETHERNET + IP;
    unsigned port = (unsigned)udp[0] << 8 | udp[1];
    memcpy(&out->number, header + FRAME_NUMBER_AT, sizeof(out->number));
    memcpy(&out->time, header + FRAME_TIME_AT, sizeof(out->time));
    out->id = (uint16_t)(port - PORTS);
    return header[12] == 8 && header[13] == 0 && port >= PORTS && port < PORTS + 256 &&
           memcmp(udp, udp + 2, 2) == 0 && out->id + 1u == header[ETHERNET + 15];
}

bool frame_is(const struct frame_flow *f, uint64_t number, uint32_t from, const uint8_t *at, uint32_t n)
{
    if (from == 0) {
        const uint8_t *header = f->header[frame_kind(f, number)];
        if (n < FRAME_HEADER || memcmp(at, header, FRAME_NUMBER_AT) != 0 ||
            memcmp(at + FRAME_NUMBER_AT, &number, sizeof(number)) != 0 ||
            memcmp(at + FRAME_TIME_AT + 8, header + FRAME_TIME_AT + 8, FRAME_HEADER - FRAME_TIME_AT - 8) != 0)
            return false;
        from = FRAME_HEADER;
        at += FRAME_HEADER;
        n -= FRAME_HEADER;
    }
    return memcmp(at, frame_fill(number, from), n) == 0;
}
