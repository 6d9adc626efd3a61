/* SPDX-License-Identifier: MIT */
/*
 * frames - sends Ethernet frames with any header that it is told to.
 *
 *   frames INTERFACE SOURCE DESTINATION COUNT|SECONDSs [BYTES] [VLAN]
 *
 * COUNT frames of BYTES (60), a few each millisecond so that no queue runs over,
 * or as many as go out in SECONDS; with VLAN they carry an 802.1Q tag.  The type is
 * 0x88b5, for local experiments (IEEE 802); the payload is the text "frame" and
 * zeroes.  Prints how many were taken.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>

#define BATCH     64
#define PACED     8 /* frames a millisecond */
#define BYTES_MAX 9014

static uint8_t frame[BYTES_MAX];

static _Noreturn void stop(const char *what)
{
    fprintf(stderr, "frames: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void mac(const char *text, uint8_t out[6])
{
    const struct ether_addr *addr = ether_aton(text);
    if (!addr) {
        errno = EINVAL;
        stop(text);
    }
    memcpy(out, addr, 6);
}

static void build(const char *from, const char *to, unsigned long vlan)
{
    uint8_t *at = frame + 12;
    mac(to, frame);
    mac(from, frame + 6);
    if (vlan) {
        memcpy(at, (uint8_t[]){ 0x81, 0x00, (uint8_t)(vlan >> 8), (uint8_t)vlan }, 4);
        at += 4;
    }
    memcpy(at, "\x88\xb5" "frame", 7);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: frames INTERFACE SOURCE DESTINATION COUNT|SECONDSs [BYTES] [VLAN]\n");
        return 2;
    }
    char *unit;
    unsigned long long count = strtoull(argv[4], &unit, 10), sent = 0;
    double until = *unit == 's' ? now() + (double)count : 0;
    unsigned long bytes = argc > 5 ? strtoul(argv[5], NULL, 10) : 60;
    build(argv[2], argv[3], argc > 6 ? strtoul(argv[6], NULL, 10) : 0);
    if (until > 0)
        count = UINT64_MAX;
    if (bytes < 60 || bytes > BYTES_MAX) {
        errno = EINVAL;
        stop("length");
    }
    struct sockaddr_ll where = { .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(argv[1]) };
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    if (fd < 0 || where.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&where, sizeof(where)))
        stop(argv[1]);
    struct iovec iov = { frame, bytes };
    struct mmsghdr batch[BATCH];
    memset(batch, 0, sizeof(batch));
    for (int i = 0; i < BATCH; i++)
        batch[i].msg_hdr = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 };
    const unsigned burst = until > 0 ? BATCH : PACED;
    while (sent < count && (until == 0 || now() < until)) {
        int n = sendmmsg(fd, batch, count - sent < burst ? (unsigned)(count - sent) : burst, 0);
        if (n < 0 && errno != ENOBUFS && errno != EAGAIN)
            stop("send");
        if (n > 0)
            sent += (unsigned)n;
        if (until == 0)
            nanosleep(&(struct timespec){ .tv_nsec = 1000 * 1000 }, NULL);
    }
    printf("%llu\n", sent);
    return 0;
}
