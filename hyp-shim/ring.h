/* SPDX-License-Identifier: MIT */
/*
 * ring.h - shared rings after Xen's ring.h ABI, and the only code that touches
 * shared pages.
 *
 * The layout is that of DEFINE_RING_TYPES in <xen/io/ring.h>: four 32-bit
 * indices, padding to 64 bytes, then a power of two of equal slots.  Requests
 * and responses share slots.  Indices run free and wrap at 2^32; the
 * difference of two of them, taken in uint32_t, is always meaningful.
 *
 * Discipline.  The other side may write any shared byte at any time.
 *   - A slot is copied once into private memory, then checked, then used.
 *     ring_*_copy_*() is the only way to read one (XSA-155: no second fetch).
 *   - Our own indices are private; what we wrote to shared memory is never
 *     read back.
 *   - A foreign index is loaded once, and is wrong when it claims more than a
 *     ring's worth: RING_LIES, and the connection is broken by the caller.
 *   - A response slot is written whole, so no old bytes leak (XSA-216); pass
 *     a fully initialised object.
 *
 * Sleeping.  Before it sleeps a side publishes the index that should wake it
 * (req_event, rsp_event), issues a full barrier, and looks once more:
 * ring_*_idle().  The producer publishes, issues a full barrier and reads the
 * event index: ring_*_push() says whether to ring the doorbell.  The pair
 * cannot lose a wake-up; tests/model/ring.pml proves it.
 *
 * Nothing here allocates, locks or calls the kernel.
 */
#ifndef BULKHEAD_RING_H
#define BULKHEAD_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RING_HEADER_BYTES 64u
#define RING_LINE_BYTES   64u  /* of a cache                            */
#define RING_LIES         (-1) /* the peer's index cannot be true */

/* The shared header.  Fields are accessed with atomics only. */
struct ring_header {
    uint32_t req_prod, req_event;
    uint32_t rsp_prod, rsp_event;
    uint8_t pad[48];
};
_Static_assert(sizeof(struct ring_header) == RING_HEADER_BYTES, "Xen ring ABI");

/* Slots that fit: rounddown_pow2((bytes - header) / slot). */
static inline uint32_t ring_slots(size_t bytes, size_t slot_bytes)
{
    if (bytes < RING_HEADER_BYTES + slot_bytes)
        return 0;
    size_t n = (bytes - RING_HEADER_BYTES) / slot_bytes;
    uint32_t slots = 1;
    while (slots <= n / 2)
        slots *= 2;
    return slots;
}

/*
 * Copies between shared and private memory.  The compiler barrier keeps the
 * compiler from reading the source again later or from using the destination
 * as a second name for it.  What is written may come from registers: to read
 * back in one piece what was just stored in several stalls the processor.
 */
static inline void shared_read(void *dst, const void *shared, size_t bytes)
{
    memcpy(dst, shared, bytes);
    __asm__ volatile("" : : "r"(dst) : "memory");
}

static inline void shared_write(void *shared, const void *src, size_t bytes)
{
    memcpy(shared, src, bytes);
    __asm__ volatile("" : : "r"(shared) : "memory");
}

static inline uint32_t ring_load(const uint32_t *shared)
{
    return __atomic_load_n(shared, __ATOMIC_ACQUIRE);
}

static inline void ring_store(uint32_t *shared, uint32_t v)
{
    __atomic_store_n(shared, v, __ATOMIC_RELEASE);
}

/* Orders a store before a later load (Dekker). gcc warns that its thread sanitizer
 * does not follow fences; that costs it nothing here, since all that is handed over
 * is handed over by the acquiring and releasing accesses above. */
static inline void ring_full_barrier(void)
{
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
}

/* True when moving an index from `before` to `now` passed the index `event`. */
static inline bool ring_passed(uint32_t now, uint32_t before, uint32_t event)
{
    return (uint32_t)(now - event) < (uint32_t)(now - before);
}

/* Fetches a line in order to write it; a no-op where the processor does not know how. */
static inline void ring_prefetch_write(const uint8_t *line)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*line));
#else
    __builtin_prefetch(line, 1);
#endif
}

/* ------------------------------------------------------------ backend side */

struct ring_back {
    struct ring_header *shared;
    uint8_t *slots;
    uint32_t size;       /* slots, a power of two                             */
    uint32_t slot_bytes;
    uint32_t req_cons;   /* next request to take                              */
    uint32_t rsp_prod;   /* next response to put, private until pushed        */
    uint32_t rsp_pushed; /* what the peer was last told                       */
};

/* Continues at the peer's rsp_prod once more: the frontend made the ring anew. */
static inline void ring_back_restart(struct ring_back *r)
{
    r->req_cons = r->rsp_prod = r->rsp_pushed = ring_load(&r->shared->rsp_prod);
}

/*
 * Attaches to a mapped ring of `bytes` bytes that its frontend initialised,
 * continuing at the peer's rsp_prod (0 for a new ring).  False: too small.
 */
static inline bool ring_back_attach(struct ring_back *r, void *va, size_t bytes, size_t slot_bytes)
{
    uint32_t n = ring_slots(bytes, slot_bytes);
    if (n == 0)
        return false;
    *r = (struct ring_back){ .shared = va, .slots = (uint8_t *)va + RING_HEADER_BYTES,
                             .size = n, .slot_bytes = (uint32_t)slot_bytes };
    ring_back_restart(r);
    return true;
}

/*
 * Requests waiting, or RING_LIES.  A truthful frontend never has more than a
 * ring of requests without a response (taken ones included).
 */
static inline int ring_back_waiting(const struct ring_back *r)
{
    uint32_t prod = ring_load(&r->shared->req_prod);
    if ((uint32_t)(prod - r->rsp_prod) > r->size)
        return RING_LIES;
    /* prod behind req_cons would show as a huge distance here */
    uint32_t n = prod - r->req_cons;
    return n > r->size ? RING_LIES : (int)n;
}

/* Copies the next request out; only after ring_back_waiting() > 0 said so. */
static inline void ring_back_copy_request(struct ring_back *r, void *dst)
{
    shared_read(dst, r->slots + (size_t)(r->req_cons & (r->size - 1)) * r->slot_bytes,
                r->slot_bytes);
    r->req_cons++;
}

/*
 * Copies the next n requests out, n <= what ring_back_waiting() said, and takes
 * none: ring_back_take() does, for as many as were acted upon.  What is read
 * again because it was not taken is a new copy, to be checked anew.  The lines
 * are fetched to be written, all at once: the responses go there.
 */
static inline void ring_back_peek(const struct ring_back *r, void *dst, uint32_t n)
{
    uint32_t at = r->req_cons & (r->size - 1);
    uint32_t first = n < r->size - at ? n : r->size - at;
    const uint8_t *from = r->slots + (size_t)at * r->slot_bytes;
    size_t bytes = (size_t)first * r->slot_bytes, rest = (size_t)(n - first) * r->slot_bytes;
    for (size_t line = 0; line < bytes; line += RING_LINE_BYTES)
        ring_prefetch_write(from + line);
    for (size_t line = 0; line < rest; line += RING_LINE_BYTES)
        ring_prefetch_write(r->slots + line);
    shared_read(dst, from, bytes);
    if (rest > 0)
        shared_read((uint8_t *)dst + bytes, r->slots, rest);
}

static inline void ring_back_take(struct ring_back *r, uint32_t n)
{
    r->req_cons += n;
}

/*
 * Asks the processor to fetch the request after the next one; reads nothing.
 * Only while two or more are waiting: a slot that the frontend has yet to write
 * is left to it.  The slot's first line is fetched to be written: the response
 * goes there, and taking the line over twice costs twice.
 */
static inline void ring_back_prefetch(const struct ring_back *r)
{
    const uint8_t *slot = r->slots + (size_t)((r->req_cons + 1) & (r->size - 1)) * r->slot_bytes;
    ring_prefetch_write(slot);
    __builtin_prefetch(slot + r->slot_bytes - 1);
}

/* Puts one response of `bytes` <= slot_bytes; unseen until ring_back_push(). */
static inline void ring_back_put_response(struct ring_back *r, const void *rsp, size_t bytes)
{
    shared_write(r->slots + (size_t)(r->rsp_prod & (r->size - 1)) * r->slot_bytes, rsp, bytes);
    r->rsp_prod++;
}

/* Puts n responses of four bytes each, the way it is fastest. */
static inline void ring_back_put_words(struct ring_back *r, const uint32_t *rsp, uint32_t n)
{
    uint8_t *slots = r->slots;
    uint32_t at = r->rsp_prod, mask = r->size - 1, slot_bytes = r->slot_bytes;
    for (uint32_t i = 0; i < n; i++)
        memcpy(slots + (size_t)((at + i) & mask) * slot_bytes, &rsp[i], sizeof(rsp[i]));
    __asm__ volatile("" : : "r"(slots) : "memory");
    r->rsp_prod = at + n;
}

/* Publishes the responses put so far; true: ring the frontend's doorbell. */
static inline bool ring_back_push(struct ring_back *r)
{
    uint32_t before = r->rsp_pushed;
    if (before == r->rsp_prod)
        return false;
    ring_store(&r->shared->rsp_prod, r->rsp_prod);
    r->rsp_pushed = r->rsp_prod;
    ring_full_barrier();
    return ring_passed(r->rsp_prod, before, ring_load(&r->shared->rsp_event));
}

/*
 * About to sleep: asks to be rung at the next request.  Returns what
 * ring_back_waiting() says after that; sleep only on 0.
 */
static inline int ring_back_idle(struct ring_back *r)
{
    ring_store(&r->shared->req_event, r->req_cons + 1);
    ring_full_barrier();
    return ring_back_waiting(r);
}

/* The same for a taker that needs n requests at once, n <= size.  True: they are
 * there, or the index lies. */
static inline bool ring_back_idle_for(struct ring_back *r, uint32_t n)
{
    ring_store(&r->shared->req_event, r->req_cons + n);
    ring_full_barrier();
    int waiting = ring_back_waiting(r);
    return waiting < 0 || (uint32_t)waiting >= n;
}

/* ----------------------------------------------------------- frontend side */

struct ring_front {
    struct ring_header *shared;
    uint8_t *slots;
    uint32_t size;
    uint32_t slot_bytes;
    uint32_t req_prod;   /* next request to put, private until pushed         */
    uint32_t req_pushed;
    uint32_t rsp_cons;   /* next response to take                             */
};

/* Initialises a ring in our own granted memory.  False: too small. */
static inline bool ring_front_init(struct ring_front *r, void *va, size_t bytes, size_t slot_bytes)
{
    uint32_t n = ring_slots(bytes, slot_bytes);
    if (n == 0)
        return false;
    memset(va, 0, bytes);
    *r = (struct ring_front){ .shared = va, .slots = (uint8_t *)va + RING_HEADER_BYTES,
                              .size = n, .slot_bytes = (uint32_t)slot_bytes };
    ring_store(&r->shared->req_event, 1);
    ring_store(&r->shared->rsp_event, 1);
    return true;
}

/* Free request slots. */
static inline uint32_t ring_front_free(const struct ring_front *r)
{
    return r->size - (uint32_t)(r->req_prod - r->rsp_cons);
}

/* Puts one request; only while ring_front_free() > 0. */
static inline void ring_front_put_request(struct ring_front *r, const void *req, size_t bytes)
{
    shared_write(r->slots + (size_t)(r->req_prod & (r->size - 1)) * r->slot_bytes, req, bytes);
    r->req_prod++;
}

/* Publishes the requests put so far; true: ring the backend's doorbell. */
static inline bool ring_front_push(struct ring_front *r)
{
    uint32_t before = r->req_pushed;
    if (before == r->req_prod)
        return false;
    ring_store(&r->shared->req_prod, r->req_prod);
    r->req_pushed = r->req_prod;
    ring_full_barrier();
    return ring_passed(r->req_prod, before, ring_load(&r->shared->req_event));
}

/* Responses waiting, or RING_LIES: more than there are requests in flight. */
static inline int ring_front_waiting(const struct ring_front *r)
{
    uint32_t n = ring_load(&r->shared->rsp_prod) - r->rsp_cons;
    return n > (uint32_t)(r->req_pushed - r->rsp_cons) ? RING_LIES : (int)n;
}

/* Copies the next response out; only after ring_front_waiting() > 0 said so. */
static inline void ring_front_copy_response(struct ring_front *r, void *dst, size_t bytes)
{
    shared_read(dst, r->slots + (size_t)(r->rsp_cons & (r->size - 1)) * r->slot_bytes, bytes);
    r->rsp_cons++;
}

/*
 * Asks the processor to fetch the slots of the next n responses, n at most what
 * is waiting; reads nothing.  To be written: their next requests go there.
 */
static inline void ring_front_prefetch(const struct ring_front *r, uint32_t n)
{
    size_t total = (size_t)r->size * r->slot_bytes;
    size_t at = (size_t)(r->rsp_cons & (r->size - 1)) * r->slot_bytes;
    size_t end = at + (size_t)n * r->slot_bytes;
    for (at &= ~(size_t)(RING_LINE_BYTES - 1); at < end; at += RING_LINE_BYTES)
        ring_prefetch_write(r->slots + (at < total ? at : at - total));
}

/*
 * About to sleep: asks to be rung once n more responses are there (at least 1,
 * at most as many as there are requests without one); sleep only while fewer
 * are.  Whoever does not ask is not rung: an event index that was passed once
 * stays behind.
 */
static inline int ring_front_idle_until(struct ring_front *r, uint32_t n)
{
    ring_store(&r->shared->rsp_event, r->rsp_cons + n);
    ring_full_barrier();
    return ring_front_waiting(r);
}

/* About to sleep: asks to be rung at the next response; sleep only on 0. */
static inline int ring_front_idle(struct ring_front *r)
{
    return ring_front_idle_until(r, 1);
}

#endif
