/* SPDX-License-Identifier: MIT */
/*
 * tcp_check - a TCP transfer whose every byte is checked.
 *
 *   tcp_check serve ADDRESS PORT BYTES SEED
 *   tcp_check send  ADDRESS PORT BYTES SEED [DAMAGED-OFFSET]
 *
 * The sender writes a stream that follows from SEED and the offset; the server
 * takes one connection, checks each byte, and says how fast it was, in MiB/s.  A byte
 * that is wrong, missing or too much ends it with status 1.  DAMAGED-OFFSET: that one
 * byte is sent wrong, so that the check itself can be checked.
 *
 * BYTES 0: as many as come.  The sender goes on until SIGTERM, and ends the stream in
 * order then; the server says how many bytes they were.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_BYTES (256u * 1024)
#define CONNECT_TRIES 100
#define SILENCE_S 120 /* no byte for that long: it will not end */

static volatile sig_atomic_t enough;
static uint8_t buffer[CHUNK_BYTES], expected[CHUNK_BYTES];

static _Noreturn void stop(const char *what)
{
    fprintf(stderr, "tcp_check: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* splitmix64: every word of the stream differs from its neighbours in half its bits. */
static uint64_t word(uint64_t seed, uint64_t index)
{
    uint64_t z = (seed << 40) + index * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* offset is a multiple of CHUNK_BYTES. */
static void fill(uint8_t *to, uint64_t seed, uint64_t offset)
{
    for (uint64_t i = 0; i < CHUNK_BYTES / 8; i++) {
        uint64_t w = word(seed, offset / 8 + i);
        memcpy(to + i * 8, &w, 8);
    }
}

/* IPv4 or IPv6. */
union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static union address address(const char *text, const char *port)
{
    union address a = { .v6 = { .sin6_port = htons((uint16_t)strtoul(port, NULL, 10)) } };
    a.any.sa_family = strchr(text, ':') ? AF_INET6 : AF_INET;
    void *to = a.any.sa_family == AF_INET ? (void *)&a.v4.sin_addr : (void *)&a.v6.sin6_addr;
    if (inet_pton(a.any.sa_family, text, to) != 1) {
        errno = EINVAL;
        stop(text);
    }
    return a;
}

static void serve(union address where, uint64_t bytes, uint64_t seed)
{
    int one = 1, listener = socket(where.any.sa_family, SOCK_STREAM, 0);
    struct timeval silence = { .tv_sec = SILENCE_S };
    struct timespec begin, end;
    uint64_t total = 0;
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one))
        || bind(listener, &where.any, sizeof(where.v6)) || listen(listener, 1))
        stop("listen");
    int fd = accept(listener, NULL, NULL);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence)))
        stop("accept");
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (uint64_t at = 0;;) {
        size_t in_chunk = at % CHUNK_BYTES;
        if (in_chunk == 0)
            fill(expected, seed, at);
        ssize_t n = recv(fd, buffer + in_chunk, CHUNK_BYTES - in_chunk, 0);
        if (n < 0)
            stop("receive");
        if (n == 0 || (bytes && (uint64_t)n > bytes - at)) {
            if (n == 0 && (!bytes || at == bytes))
                break;
            fprintf(stderr, "tcp_check: %s %" PRIu64 " bytes of %" PRIu64 "\n", n ? "more than" : "only",
                    n ? bytes : at, bytes);
            exit(1);
        }
        if (memcmp(buffer + in_chunk, expected + in_chunk, (size_t)n) != 0) {
            while (buffer[at % CHUNK_BYTES] == expected[at % CHUNK_BYTES])
                at++;
            fprintf(stderr, "tcp_check: the byte at %" PRIu64 " is wrong\n", at);
            exit(1);
        }
        at += (uint64_t)n;
        total = at;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (!bytes) {
        printf("%" PRIu64 "\n", total);
        return;
    }
    double s = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf("%.0f\n", (double)bytes / 1048576.0 / s);
}

static int connect_to(union address where)
{
    for (int i = 0; i < CONNECT_TRIES; i++) {
        int fd = socket(where.any.sa_family, SOCK_STREAM, 0);
        if (fd >= 0 && connect(fd, &where.any, sizeof(where.v6)) == 0)
            return fd;
        close(fd);
        nanosleep(&(struct timespec){ .tv_nsec = 50 * 1000 * 1000 }, NULL);
    }
    stop("connect");
}

static void on_term(int signal)
{
    (void)signal;
    enough = 1;
}

static void send_all(union address where, uint64_t bytes, uint64_t seed, uint64_t damaged)
{
    int fd = connect_to(where);
    signal(SIGTERM, bytes ? SIG_DFL : on_term);
    for (uint64_t at = 0; bytes ? at < bytes : !enough;) {
        size_t in_chunk = at % CHUNK_BYTES;
        if (in_chunk == 0) {
            fill(buffer, seed, at);
            if (damaged >= at && damaged - at < CHUNK_BYTES)
                buffer[damaged - at] ^= 1;
        }
        size_t part = CHUNK_BYTES - in_chunk;
        if (bytes && part > bytes - at)
            part = (size_t)(bytes - at);
        ssize_t n = send(fd, buffer + in_chunk, part, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            stop("send");
        at += (uint64_t)n;
    }
    /* The end of the stream is only seen when the other side has it all. */
    if (shutdown(fd, SHUT_WR) || recv(fd, buffer, 1, 0) != 0)
        stop("end");
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "usage: tcp_check serve|send ADDRESS PORT BYTES SEED [DAMAGED-OFFSET]\n");
        return 2;
    }
    union address where = address(argv[2], argv[3]);
    uint64_t bytes = strtoull(argv[4], NULL, 10), seed = strtoull(argv[5], NULL, 10);
    if (strcmp(argv[1], "serve") == 0)
        serve(where, bytes, seed);
    else
        send_all(where, bytes, seed, argc > 6 ? strtoull(argv[6], NULL, 10) : UINT64_MAX);
    return 0;
}
