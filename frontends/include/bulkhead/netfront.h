/* SPDX-License-Identifier: MIT */
/*
 * netfront.h - a guest's NIC, served by a driver domain over shared rings.
 *
 * The public C API of the network frontend.  An opaque handle is one NIC; it
 * has one or more queues.  A queue is used by one thread at a time and shares
 * nothing with the other queues.  Packets go in bursts and are written and read
 * in place, in the queue's part of the pool: the only memory that the driver
 * domain can see.  It may change a received packet until the buffer is posted
 * again, and a sent one until it left: copy out before you trust.
 *
 * Buffers.  A buffer is one page of NETFRONT_BUF_BYTES.  Data may begin and end
 * anywhere within it; which buffer a pointer means is told by its page.  A
 * packet that is longer than a buffer is a chain: consecutive elements of the
 * array with NETFRONT_MORE in all but the last.  (Packets that all begin at
 * the same place of a page share few lines of the first-level cache: whoever
 * sends many small ones should begin each buffer at another line.)
 *
 * Threads, SIGPIPE and `notify`: as in blkfront.h; a program may use disks and
 * NICs of one guest at the same time.
 *
 * The other side is not trusted: a response that cannot be true breaks the
 * connection.  When a driver domain dies, or is caught lying, what was being
 * sent is lost, as on a wire; where the toolstack configured that (bulkhead-tx
 * is resend) it is sent again instead, in its order and before anything new, and
 * some of it may arrive twice.  The buffers come back, received packets that the
 * caller holds stay valid, and the NIC reconnects by itself.  Until then
 * netfront_send() takes nothing (-ENETDOWN) and netfront_receive() gives nothing.
 * A driver domain that is restarted in order finishes what it has first: nothing
 * is lost, and netfront_send() takes nothing (0) meanwhile.
 * -ENOTCONN: the hypervisor is gone, and nothing comes back.
 *
 * Functions return 0 or a count, or a negative errno.
 */
#ifndef BULKHEAD_NETFRONT_H
#define BULKHEAD_NETFRONT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct netfront;

#define NETFRONT_BUF_BYTES  4096u
#define NETFRONT_CHAIN_MAX  18u    /* buffers of one packet             */
#define NETFRONT_PACKET_MAX 65535u /* bytes of one packet, header included */

enum netfront_grants {
    NETFRONT_GRANTS_AUTO,       /* what the toolstack configured, else persistent */
    NETFRONT_GRANTS_PERSISTENT, /* the driver domain keeps the pool mapped        */
    NETFRONT_GRANTS_COPY        /* it copies, and maps nothing but the rings      */
};

enum netfront_news { NETFRONT_UP, NETFRONT_DOWN, NETFRONT_STOP, NETFRONT_GONE };

struct netfront_options {
    const char *attach;  /* attach socket of a native guest; NULL: this process
                            was started as the domain                             */
    const char *device;  /* name in the guest's XML, "eth0"; NULL: the only one    */
    unsigned queues;     /* 0: as configured; never more than the backend has      */
    unsigned pool_pages; /* a queue, rings included; 0: as configured, else 1024   */
    enum netfront_grants grants;
    int no_offload;      /* do not offer checksum and segment offload              */
    int timeout_ms;      /* for the first connection; 0: 10,000                    */
    void (*notify)(void *arg, enum netfront_news news); /* NULL: not called        */
    void *arg;
};

/* As blkfront_list(): names of the guest's NICs in order of their numbers. */
int netfront_list(const char *attach, char *names, size_t bytes, char *err, size_t err_bytes);

/* Connects.  On failure a negative errno and one sentence in err (may be NULL). */
int netfront_open(struct netfront **out, const struct netfront_options *opt, char *err, size_t err_bytes);
/* Ends the connection in order: what was sent has half a second to leave; the pool is
 * gone afterwards. */
void netfront_close(struct netfront *nic);

struct netfront_info {
    uint8_t mac[6];
    uint16_t mtu;        /* payload of an Ethernet frame                          */
    uint32_t queues;
    uint32_t send_buffers;    /* of each queue                                    */
    uint32_t receive_buffers; /* of each queue, posted or held by the caller      */
    uint32_t ring_slots;
    uint8_t can_csum4, can_csum6; /* NETFRONT_CSUM_BLANK may be sent, by IP version */
    uint8_t can_gso4, can_gso6;   /* NETFRONT_GSO4, _GSO6 may be sent             */
    uint8_t can_chain;            /* NETFRONT_MORE may be sent                    */
    enum netfront_grants grants;
};
/* Constant while the handle lives. */
const struct netfront_info *netfront_info(const struct netfront *nic);

#define NETFRONT_MORE       (1u << 0) /* the packet goes on in the next element       */
#define NETFRONT_CSUM_BLANK (1u << 1) /* TCP or UDP checksum holds the pseudo header's sum only */
#define NETFRONT_CSUM_GOOD  (1u << 2) /* received: the checksum was verified          */
#define NETFRONT_GSO4       (1u << 3) /* TCP to be cut into segments of gso_size      */
#define NETFRONT_GSO6       (1u << 4)

struct netfront_packet {
    void *data;
    uint32_t bytes;    /* of this element, at most to the end of its buffer         */
    uint16_t flags;    /* of the packet, in its first element; MORE in each          */
    uint16_t gso_size; /* in its first element                                       */
};

/*
 * Sending.  netfront_get() lends up to n empty buffers (their first bytes); it
 * takes back what the backend finished first.  netfront_send() sends whole packets
 * in order and tells the backend once; it returns how many *elements* it took,
 * never a part of a packet; those buffers are the NIC's again.  Buffers that are
 * not sent after all go back with netfront_put().  -EINVAL: the first packet can
 * never be sent (a foreign buffer, a chain without end or longer than
 * NETFRONT_CHAIN_MAX, no header, offloads that were not agreed).  0 from either:
 * nothing now, netfront_wait() or poll.
 */
int netfront_get(struct netfront *nic, unsigned queue, void **bufs, unsigned n);
void netfront_put(struct netfront *nic, unsigned queue, void *const *bufs, unsigned n);
int netfront_send(struct netfront *nic, unsigned queue, const struct netfront_packet *packets, unsigned n);

/*
 * Receiving.  Up to n elements, whole packets only; their buffers are the
 * caller's until netfront_release() posts them again (any order, any number of
 * them, by the same thread).  -EMSGSIZE: the next packet has more elements than
 * n; an array of NETFRONT_CHAIN_MAX has room for any.
 */
int netfront_receive(struct netfront *nic, unsigned queue, struct netfront_packet *packets, unsigned n);
void netfront_release(struct netfront *nic, unsigned queue, const struct netfront_packet *packets, unsigned n);

/*
 * Readable when something may have been received, or when sending may go on
 * after netfront_send() or _get() fell short (which is said once; also after
 * -ENETDOWN).  Before you sleep on it call netfront_idle(), which also posts
 * what was released: > 0 means there is work already, do not sleep.
 */
int netfront_fd(const struct netfront *nic, unsigned queue);
int netfront_idle(struct netfront *nic, unsigned queue);
/* Both in one. 1 perhaps, 0 timeout. -1: no limit. */
int netfront_wait(struct netfront *nic, unsigned queue, int timeout_ms);

struct netfront_stats {
    uint64_t tx_packets, tx_bytes, tx_errors, tx_lost; /* refused by the backend; lost with it */
    uint64_t rx_packets, rx_bytes, rx_errors;
    uint64_t doorbells, wakeups, reconnects;
    uint64_t broken; /* times that the backend was caught lying */
    uint64_t tx_resent; /* sent again in a new connection; some may have arrived before */
};
void netfront_stats(const struct netfront *nic, struct netfront_stats *out);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
