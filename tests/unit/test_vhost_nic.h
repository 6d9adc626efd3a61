/* SPDX-License-Identifier: MIT */
/*
 * test_vhost_nic.h - the NIC of the vhost-user door between a guest's rings, in memory
 * of its own, and a queue of the network frontend with a backend that does as told.
 */
#ifndef BULKHEAD_TEST_VHOST_NIC_H
#define BULKHEAD_TEST_VHOST_NIC_H

#include "test_netfront.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "../../frontends/door/vhost_user/nic.h"
#include "../../hyp-shim/local/guard.h"

/* ------------------------------------------------- netfront.h, over one netqueue */

struct netfront {
    struct netfront_info info;
    int fd;                        /* of queue 1                                     */
    struct netfront_packet second; /* that queue 1 receives next; no data: nothing    */
    unsigned released;             /* of queue 1                                     */
    bool gone;
};

static struct rig r;
static struct netfront front;

int netfront_open(struct netfront **out, const struct netfront_options *opt, char *err, size_t err_bytes)
{
    (void)err;
    (void)err_bytes;
    assert_string_equal(opt->device, "eth0");
    *out = &front;
    return 0;
}

void netfront_close(struct netfront *n) { n->info.queues = 0; }
const struct netfront_info *netfront_info(const struct netfront *n) { return &n->info; }
int netfront_fd(const struct netfront *n, unsigned q) { return q ? n->fd : r.q.queue.epoll_fd; }

int netfront_idle(struct netfront *n, unsigned q)
{
    return n->gone ? -ENOTCONN : q ? 0 : netqueue_idle(&r.q);
}

int netfront_get(struct netfront *n, unsigned q, void **bufs, unsigned count)
{
    (void)n;
    return q ? 0 : netqueue_get(&r.q, bufs, count);
}

void netfront_put(struct netfront *n, unsigned q, void *const *bufs, unsigned count)
{
    (void)n;
    assert_int_equal(q, 0);
    netqueue_put(&r.q, bufs, count);
}

int netfront_send(struct netfront *n, unsigned q, const struct netfront_packet *p, unsigned count)
{
    (void)n;
    return q ? -ENETDOWN : netqueue_send(&r.q, p, count);
}

int netfront_receive(struct netfront *n, unsigned q, struct netfront_packet *p, unsigned count)
{
    if (q == 0)
        return netqueue_receive(&r.q, p, count);
    assert_true(count >= NETFRONT_CHAIN_MAX);
    if (!n->second.data)
        return 0;
    *p = n->second;
    n->second.data = NULL;
    return 1;
}

void netfront_release(struct netfront *n, unsigned q, const struct netfront_packet *p, unsigned count)
{
    if (q == 0)
        netqueue_release(&r.q, p, count);
    else
        n->released += count;
}

/* ------------------------------------------------------------------------ guest */

#define MEM_BYTES  (4u << 20)
#define GUEST_BASE UINT64_C(0x100000)
#define USER_BASE  UINT64_C(0x7f0000000000)
#define RINGS      4u
#define RING_BYTES 32768u

/* The driver's side of a ring, split or packed. */
struct driver {
    unsigned size;
    bool packed;
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint16_t next_desc, seen; /* packed: they count on */
    struct vring_packed_desc *pdesc;
    uint16_t slots[1024];     /* packed: of the chain that begins there */
};

static struct {
    int fd;
    uint8_t *mem;
    uint32_t next; /* free memory */
    struct driver ring[RINGS];
} guest;

static struct vhost_device dev;
static struct nic nic;
static bool packed_rings;

static inline uint64_t guest_address(const void *at)
{
    return GUEST_BASE + (uint64_t)((const uint8_t *)at - guest.mem);
}

static inline uint8_t *guest_alloc(uint32_t bytes)
{
    if (guest.next + bytes > MEM_BYTES)
        guest.next = RINGS * RING_BYTES;
    uint8_t *at = guest.mem + guest.next;
    guest.next += bytes;
    return at;
}

static inline void ring_start(unsigned q, unsigned size, bool event_idx)
{
    struct driver *d = &guest.ring[q];
    struct vhost_queue *ring = &dev.queue[q];
    uint8_t *at = guest.mem + (size_t)q * RING_BYTES;
    memset(at, 0, RING_BYTES);
    *d = (struct driver){ .size = size, .packed = packed_rings, .desc = (void *)at, .pdesc = (void *)at,
                          .avail = (void *)(at + 16384), .used = (void *)(at + 16384 + 4096) };
    *ring = (struct vhost_queue){ .mem = &dev.mem, .size = (uint16_t)size, .packed = packed_rings,
                                  .event_idx = event_idx, .indirect = true,
                                  .desc_user = USER_BASE + q * RING_BYTES,
                                  .avail_user = USER_BASE + q * RING_BYTES + 16384,
                                  .used_user = USER_BASE + q * RING_BYTES + 16384 + 4096,
                                  .call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .kick_fd = -1 };
    assert_int_equal(vhost_queue_start(ring, packed_rings ? 0x80008000 : 0), 0);
    assert_int_equal(nic_class.start(&nic, q), 0);
}

static inline void ring_stop(unsigned q)
{
    assert_int_equal(nic_class.stop(&nic, q, false), 0);
    close(dev.queue[q].call_fd);
    guest.ring[q].size = 0;
}

struct piece {
    void *at;
    uint32_t bytes;
    bool write;
};

/* virtio 1.2, 2.8: a descriptor is available when its first bit is as the wrap counter and its
 * second one is not. */
static inline uint16_t packed_flags(const struct driver *d, uint16_t at, bool used)
{
    bool wrap = !(at / d->size % 2);
    return (uint16_t)((wrap ? 1 << VRING_PACKED_DESC_F_AVAIL : 0)
                      | (wrap == used ? 1 << VRING_PACKED_DESC_F_USED : 0));
}

static inline uint16_t give_packed(struct driver *d, const struct piece *p, unsigned n)
{
    uint16_t first = d->next_desc, id = first % d->size;
    d->slots[id] = (uint16_t)n;
    for (unsigned i = n; i-- > 0;) {
        uint16_t at = (uint16_t)(first + i), flags = packed_flags(d, at, false);
        struct vring_packed_desc *desc = &d->pdesc[at % d->size];
        flags |= (p[i].write ? VRING_DESC_F_WRITE : 0) | (i + 1 < n ? VRING_DESC_F_NEXT : 0);
        desc->addr = guest_address(p[i].at);
        desc->len = p[i].bytes;
        desc->id = id;
        __atomic_store_n(&desc->flags, flags, __ATOMIC_RELEASE);
    }
    d->next_desc = (uint16_t)(first + n);
    return id;
}

/* Makes a chain available; its id. */
static inline uint16_t give(unsigned q, const struct piece *p, unsigned n)
{
    struct driver *d = &guest.ring[q];
    if (d->packed)
        return give_packed(d, p, n);
    uint16_t head = d->next_desc % d->size;
    for (unsigned i = 0; i < n; i++) {
        uint16_t at = d->next_desc++ % d->size;
        d->desc[at] = (struct vring_desc){ .addr = guest_address(p[i].at), .len = p[i].bytes,
                                           .flags = (p[i].write ? VRING_DESC_F_WRITE : 0)
                                                    | (i + 1 < n ? VRING_DESC_F_NEXT : 0),
                                           .next = (uint16_t)(d->next_desc % d->size) };
    }
    d->avail->ring[d->avail->idx % d->size] = head;
    __atomic_store_n(&d->avail->idx, (uint16_t)(d->avail->idx + 1), __ATOMIC_RELEASE);
    return head;
}

/* The next that is used. */
static inline bool next_used(unsigned q, uint32_t *id, uint32_t *bytes)
{
    struct driver *d = &guest.ring[q];
    *id = *bytes = 0;
    if (d->packed) {
        const struct vring_packed_desc *desc = &d->pdesc[d->seen % d->size];
        uint16_t mask = 1 << VRING_PACKED_DESC_F_AVAIL | 1 << VRING_PACKED_DESC_F_USED;
        if ((__atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE) & mask) != packed_flags(d, d->seen, true))
            return false;
        *id = desc->id;
        *bytes = desc->len;
        d->seen = (uint16_t)(d->seen + d->slots[*id]);
        return true;
    }
    if (__atomic_load_n(&d->used->idx, __ATOMIC_ACQUIRE) == d->seen)
        return false;
    *id = d->used->ring[d->seen % d->size].id;
    *bytes = d->used->ring[d->seen % d->size].len;
    d->seen++;
    return true;
}

static inline unsigned count_used(unsigned q)
{
    uint32_t id, bytes;
    unsigned n = 0;
    while (next_used(q, &id, &bytes))
        n++;
    return n;
}

static inline bool was_called(unsigned q)
{
    uint64_t n;
    return read(dev.queue[q].call_fd, &n, sizeof(n)) == sizeof(n);
}

/* Sends a packet behind a header, in two pieces; the header is cut at `cut`, 0: not. */
static inline uint16_t send_in(unsigned q, const struct virtio_net_hdr_v1 *header, const uint8_t *bytes,
                               uint32_t n, uint32_t cut)
{
    uint8_t *at = guest_alloc(nic.header + n);
    memcpy(at, header, nic.header);
    memcpy(at + nic.header, bytes, n);
    uint32_t first = cut ? cut : nic.header;
    struct piece p[2] = { { at, first, false }, { at + first, nic.header + n - first, false } };
    return give(q, p, nic.header + n == first ? 1 : 2);
}

static inline uint16_t send(const struct virtio_net_hdr_v1 *header, const uint8_t *bytes, uint32_t n)
{
    return send_in(1, header, bytes, n, 0);
}

static inline uint8_t *post(unsigned q, uint32_t bytes)
{
    uint8_t *at = guest_alloc(bytes);
    memset(at, 0xee, bytes);
    give(q, &(struct piece){ at, bytes, true }, 1);
    return at;
}

/* ----------------------------------------------------------------- the other side */

static uint8_t out[NETFRONT_PACKET_MAX + 1];

/* What the backend got: a packet, into `out`; 0: none. */
static inline uint32_t sent(uint16_t *flags, uint16_t *gso)
{
    netif_tx_request_t req[20];
    unsigned n = 0;
    uint32_t total, at = 0, rest = 0;
    *flags = *gso = 0;
    if (ring_back_waiting(&r.tx) <= 0)
        return 0;
    req[n++] = rig_take(&r);
    total = req[0].size;
    if (req[0].flags & NETTXF_extra_info) {
        netif_tx_request_t slot = rig_take(&r);
        struct netif_extra_info extra;
        memcpy(&extra, &slot, sizeof(extra));
        *gso = extra.u.gso.size;
        rig_answer(&r, 0, NETIF_RSP_NULL);
    }
    while (req[n - 1].flags & NETTXF_more_data)
        req[n++] = rig_take(&r);
    for (unsigned i = 1; i < n; i++)
        rest += req[i].size;
    req[0].size = (uint16_t)(total - rest);
    for (unsigned i = 0; i < n; i++) {
        memcpy(out + at, (uint8_t *)rig_granted(&r, req[i].gref) + req[i].offset, req[i].size);
        at += req[i].size;
        rig_answer(&r, req[i].id, NETIF_RSP_OKAY);
    }
    *flags = req[0].flags & (uint16_t)~(NETTXF_more_data | NETTXF_extra_info);
    return total;
}

/* The backend hands over a packet. */
static inline void arrive(const uint8_t *bytes, uint32_t n, uint16_t flags, uint8_t gso_type, uint16_t gso)
{
    for (uint32_t at = 0; at < n;) {
        uint32_t part = n - at < HYP_PAGE_SIZE ? n - at : HYP_PAGE_SIZE;
        netif_rx_request_t req = rig_take_rx(&r);
        memcpy(rig_granted(&r, req.gref), bytes + at, part);
        uint16_t f = at + part < n ? NETRXF_more_data : 0;
        if (at == 0)
            f |= flags | (gso ? NETRXF_extra_info : 0);
        rig_give(&r, req.id, 0, f, (int16_t)part);
        if (at == 0 && gso)
            rig_extra(&r, rig_gso(gso_type, gso));
        at += part;
    }
    rig_push(&r, &r.rx);
}

static inline int turn(void)
{
    int did = nic_class.work(&nic);
    assert_true(did >= 0);
    return did;
}

static inline void turn_all(void)
{
    while (turn() > 0)
        ;
}

static inline int idle(unsigned *nfds)
{
    struct pollfd fds[VHOST_CLASS_FDS];
    *nfds = 0;
    return nic_class.idle(&nic, fds, nfds);
}

/* ----------------------------------------------------------------------- frames */

enum { V6 = 1, UDP = 2, TAG = 4 };

static inline uint32_t headers_of(unsigned kind)
{
    return 14 + (kind & TAG ? 4 : 0) + (kind & V6 ? 40 : 20) + (kind & UDP ? 8 : 20);
}

static inline uint16_t csum_start_of(unsigned kind)
{
    return (uint16_t)(14 + (kind & TAG ? 4 : 0) + (kind & V6 ? 40 : 20));
}

static inline uint32_t sum_words(const uint8_t *at, size_t n, uint32_t sum)
{
    for (size_t i = 0; i < n; i++)
        sum += i % 2 ? at[i] : (uint32_t)at[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static inline uint32_t pseudo_sum(const uint8_t *frame, unsigned kind, uint32_t l4_bytes)
{
    uint16_t l4 = csum_start_of(kind);
    uint32_t addresses = kind & V6 ? 32 : 8;
    return sum_words(frame + l4 - addresses, addresses, (kind & UDP ? 17 : 6) + l4_bytes);
}

static inline void put(uint8_t *at, const void *bytes, size_t n)
{
    memcpy(at, bytes, n);
}

/* A frame of n bytes with payload, its checksum blank: the pseudo header's sum. */
static inline void make_frame(uint8_t *f, unsigned kind, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        f[i] = (uint8_t)(i * 131 + n);
    put(f, "\x52\x54\0\0\0\1\x52\x54\0\0\0\2", 12);
    uint8_t *ip = f + 14;
    if (kind & TAG) {
        put(f + 12, "\x81\0\0\x2a", 4);
        ip += 4;
    }
    put(ip - 2, kind & V6 ? "\x86\xdd" : "\x08\0", 2);
    uint32_t ip_bytes = n - (uint32_t)(ip - f);
    if (kind & V6) {
        uint16_t rest = (uint16_t)(ip_bytes - 40);
        put(ip, (uint8_t[]){ 0x60, 0, 0, 0, (uint8_t)(rest >> 8), (uint8_t)rest, kind & UDP ? 17 : 6, 64 },
            8);
    } else {
        put(ip, (uint8_t[]){ 0x45, 0, (uint8_t)(ip_bytes >> 8), (uint8_t)ip_bytes, 0xff, 0xff, 0x40, 0, 64,
                                kind & UDP ? 17 : 6, 0, 0 }, 12);
        uint32_t sum = ~sum_words(ip, 20, 0);
        ip[10] = (uint8_t)(sum >> 8);
        ip[11] = (uint8_t)sum;
    }
    uint8_t *l4 = f + csum_start_of(kind);
    uint32_t l4_bytes = n - csum_start_of(kind), sum = pseudo_sum(f, kind, l4_bytes);
    if (!(kind & UDP)) {
        put(l4 + 4, "\xff\xff\xff\x00", 4); /* wraps soon */
        l4[12] = 0x50;
        l4[13] = 0x99; /* CWR, ACK, PSH, FIN */
    }
    l4[kind & UDP ? 6 : 16] = (uint8_t)(sum >> 8);
    l4[kind & UDP ? 7 : 17] = (uint8_t)sum;
}

/* All of the checksums of a frame are right. */
static inline bool is_summed(const uint8_t *f, unsigned kind, uint32_t n)
{
    uint16_t l4 = csum_start_of(kind);
    if (!(kind & V6) && sum_words(f + l4 - 20, 20, 0) != 0xffff)
        return false;
    return sum_words(f + l4, n - l4, pseudo_sum(f, kind, n - l4)) == 0xffff;
}

static const struct virtio_net_hdr_v1 plain = { 0 };

static inline struct virtio_net_hdr_v1 blank_header(unsigned kind)
{
    return (struct virtio_net_hdr_v1){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                       .csum_start = csum_start_of(kind),
                                       .csum_offset = kind & UDP ? 6 : 16 };
}

static inline struct virtio_net_hdr_v1 segment_header(unsigned kind, uint16_t size)
{
    struct virtio_net_hdr_v1 h = blank_header(kind);
    h.gso_type = kind & V6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
    h.gso_size = size;
    h.hdr_len = (uint16_t)headers_of(kind);
    return h;
}

/* -------------------------------------------------------------------- up and down */

#define F(name)   (UINT64_C(1) << VIRTIO_NET_F_##name)
#define VERSION_1 (UINT64_C(1) << 32)
#define ALL_F                                                                                              \
    (VERSION_1 | F(MRG_RXBUF) | F(CSUM) | F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6) | F(GUEST_ECN)     \
     | F(HOST_TSO4) | F(HOST_TSO6) | F(HOST_ECN))
#define RING 64u

static uint8_t frame[NETFRONT_PACKET_MAX + 1];

static inline void agree(uint64_t features)
{
    nic_class.agreed(&nic, features);
}

static inline int up(void **state)
{
    (void)state;
    char why[128];
    guard_install();
    rig_up(&r, 2, 512);
    front = (struct netfront){ .info = { .mtu = 9000, .queues = 2, .can_csum4 = 1, .can_csum6 = 1,
                                         .can_gso4 = 1, .can_gso6 = 1, .can_chain = 1,
                                         .send_buffers = r.q.txbuf.n, .receive_buffers = r.q.rxbuf.n,
                                         .ring_slots = NET_RING_SLOTS },
                               .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
    guest.fd = memfd_create("guest", MFD_CLOEXEC);
    assert_int_equal(ftruncate(guest.fd, MEM_BYTES), 0);
    guest.mem = mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, guest.fd, 0);
    assert_ptr_not_equal(guest.mem, MAP_FAILED);
    guest.next = RINGS * RING_BYTES;
    memset(&dev, 0, sizeof(dev));
    struct vhost_region_at at = { .guest = GUEST_BASE, .bytes = MEM_BYTES, .user = USER_BASE };
    assert_int_equal(vhost_memory_set(&dev.mem, &at, &guest.fd, 1), 0);
    assert_int_equal(nic_open(&nic, "eth0", NULL, NULL, why, sizeof(why)), 0);
    nic_serve(&nic, &dev);
    agree(ALL_F);
    ring_start(0, RING, true);
    ring_start(1, RING, true);
    turn_all();
    return 0;
}

static inline int up_packed(void **state)
{
    packed_rings = true;
    return up(state);
}

/* Nothing is lost on the way: every buffer of the NIC is somebody's. */
static inline int down(void **state)
{
    (void)state;
    for (unsigned q = 0; q < RINGS; q++)
        if (guest.ring[q].size)
            ring_stop(q);
    turn_all();
    unsigned kept = 0;
    for (unsigned i = 0; i < NIC_PAIRS_MAX; i++)
        kept += nic.pair[i].nempty - nic.pair[i].next_empty;
    assert_int_equal(rig_owned(&r.q.rxbuf).by[NETBUF_CALLER], 0);
    assert_int_equal(rig_owned(&r.q.txbuf).by[NETBUF_CALLER], kept);
    nic_close(&nic);
    assert_int_equal(front.info.queues, 0);
    vhost_memory_clear(&dev.mem);
    munmap(guest.mem, MEM_BYTES);
    close(guest.fd);
    close(front.fd);
    rig_down(&r);
    packed_rings = false;
    return 0;
}

static inline void expect_sent(const uint8_t *bytes, uint32_t n, uint16_t want_flags, uint16_t want_gso)
{
    uint16_t flags, gso;
    assert_int_equal(sent(&flags, &gso), n);
    assert_int_equal(flags, want_flags);
    assert_int_equal(gso, want_gso);
    assert_memory_equal(out, bytes, n);
}

static inline void expect_used(unsigned q, uint32_t want_id, uint32_t want_bytes)
{
    uint32_t id, bytes;
    assert_true(next_used(q, &id, &bytes));
    assert_int_equal(id, want_id);
    assert_int_equal(bytes, want_bytes);
}

static inline void expect_nothing_sent(void)
{
    uint16_t flags, gso;
    assert_int_equal(sent(&flags, &gso), 0);
}

static inline uint64_t all_drops(void)
{
    uint64_t n = 0;
    for (int i = 0; i < NIC_DROPS; i++)
        n += nic.dropped[i];
    return n;
}

#define BLANK (NETTXF_csum_blank | NETTXF_data_validated)

#define TEST(name)   cmocka_unit_test_setup_teardown(name, up, down)
#define PACKED(name) { #name " (packed)", name, up_packed, down, NULL }

#endif
