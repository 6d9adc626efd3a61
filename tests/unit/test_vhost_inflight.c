/* SPDX-License-Identifier: MIT */
/*
 * inflight.h: a door that dies between any two instructions.  A child serves a queue and is
 * traced step by step; after every step that changed what outlives it, a new incarnation takes
 * over a copy, and every request of the guest must have been answered once, no more, no less.
 */
#include "test_vhost.h"

#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "frontends/door/vhost_user/inflight.h"

#define SIZE 8u
#define REGION_BYTES 4096u

static bool packed_of(void **state)
{
    return *(const bool *)*state;
}

/* All that outlives the door. */
struct world {
    struct driver d;
    volatile int in_door; /* the driver's own steps are no deaths                          */
    _Alignas(64) char region[REGION_BYTES];
};

static struct guest guests[2]; /* the guest, and its copy                                 */
static struct vhost_memory memories[2];
static struct vhost_chain chain;

static void guests_begin(void)
{
    for (unsigned i = 0; i < 2; i++) {
        struct vhost_region_at at = guest_region();
        guest_open(&guests[i]);
        assert_int_equal(vhost_memory_set(&memories[i], &at, &guests[i].fd, 1), 0);
    }
}

static void guests_end(void)
{
    for (unsigned i = 0; i < 2; i++) {
        vhost_memory_clear(&memories[i]);
        guest_close(&guests[i]);
    }
}

static int attach(struct vhost_queue *q, struct vhost_inflight_queue *f, struct world *w,
                  struct vhost_memory *mem)
{
    memset(q, 0, sizeof(*q));
    driver_describe(&w->d, q, mem);
    int err = vhost_inflight_open(f, w->region, REGION_BYTES, 0, SIZE);
    q->inflight = f;
    return err ? err : vhost_queue_start(q, driver_base(&w->d)); /* the base is stale, mostly */
}

static void add_some(struct driver *d, unsigned n, unsigned seed)
{
    for (unsigned i = 0; i < n; i++) {
        struct buffer b[3] = { readable(0, 8), readable(64, 8), writable(128, 8) };
        unsigned pieces = 1 + (seed + i) % 3;
        if (driver_room(d, pieces))
            driver_add(d, b, pieces);
    }
}

static unsigned reap(struct driver *d)
{
    uint32_t len = 0;
    unsigned n = 0;
    while (driver_used(d, &len) >= 0) /* one that was not asked for fails there */
        n++;
    return n;
}

/* ------------------------------------------------------------- step by step */

/* What the traced child does: laps of taking, giving back, answering out of order. */
static void serve(struct world *w, unsigned rounds)
{
    static struct vhost_queue q;
    static struct vhost_inflight_queue f;
    w->in_door = 1;
    if (attach(&q, &f, w, &memories[0]))
        _exit(1);
    for (unsigned round = 0; round < rounds; round++) {
        struct {
            uint16_t id, slots;
        } taken[SIZE];
        unsigned n = 0;
        w->in_door = 0;
        add_some(&w->d, SIZE, round);
        w->in_door = 1;
        while (n < SIZE && vhost_queue_next(&q, &chain) == 1) {
            taken[n].id = chain.id;
            taken[n++].slots = chain.slots;
            if (round % 4 == 1 && n == 2) { /* not now: it comes again */
                vhost_queue_undo(&q, &chain);
                n--;
                break;
            }
        }
        if (round % 5 == 4 && n > 0) { /* dies, and then while it takes over */
            vhost_queue_done(&q, taken[0].id, taken[0].slots, 0);
            if (round & 1)
                vhost_queue_publish(&q);
            if (attach(&q, &f, w, &memories[0]))
                _exit(1);
            for (n = 0; n < SIZE && vhost_queue_next(&q, &chain) == 1;) {
                taken[n].id = chain.id;
                taken[n++].slots = chain.slots;
            }
        }
        /* The last first; two in one batch, then one by one. */
        for (unsigned i = n; i-- > 0;) {
            vhost_queue_done(&q, taken[i].id, taken[i].slots, round & 1);
            if (i + 2 != n || round % 3 == 0)
                vhost_queue_publish(&q);
        }
        vhost_queue_publish(&q);
        w->in_door = 0;
        reap(&w->d);
        w->in_door = 1;
    }
    w->in_door = 0;
}

/* A new incarnation in a copy of the world: each request is answered once. */
static void check_death(const struct world *w, unsigned step)
{
    static struct world copy;
    static struct vhost_queue q;
    static struct vhost_inflight_queue f;
    struct {
        uint16_t id, slots;
    } taken[SIZE];
    unsigned n = 0;
    copy = *w;
    copy.d.g = &guests[1];
    memcpy(guests[1].at, guests[0].at, RING_BYTES);
    if (step % 2) { /* the guest goes on while there is no door */
        reap(&copy.d);
        add_some(&copy.d, SIZE, step);
    }
    assert_int_equal(attach(&q, &f, &copy, &memories[1]), 0);
    while (vhost_queue_next(&q, &chain) == 1) {
        assert_true(n < SIZE);
        taken[n].id = chain.id;
        taken[n++].slots = chain.slots;
    }
    assert_int_equal(q.bad, VHOST_BAD_NOTHING);
    for (unsigned i = 0; i < n; i++) {
        vhost_queue_done(&q, taken[i].id, taken[i].slots, 0);
        vhost_queue_publish(&q);
    }
    reap(&copy.d);
    for (unsigned i = 0; i < SIZE; i++)
        assert_int_equal(copy.d.length[i], 0); /* none is lost */
    /* And it can go on. */
    for (unsigned i = 0; i < 2 * SIZE; i++) {
        add_some(&copy.d, 1, 0);
        assert_int_equal(vhost_queue_next(&q, &chain), 1);
        vhost_queue_done(&q, chain.id, chain.slots, 0);
        vhost_queue_publish(&q);
        assert_int_equal(reap(&copy.d), 1);
    }
}

static bool changed(const struct world *w, struct world *before, char *rings)
{
    if (memcmp(w->region, before->region, REGION_BYTES) == 0 && memcmp(guests[0].at, rings, RING_BYTES) == 0)
        return false;
    memcpy(before->region, w->region, REGION_BYTES);
    memcpy(rings, guests[0].at, RING_BYTES);
    return true;
}

static void test_any_instruction(void **state)
{
    static struct world before;
    static char rings[RING_BYTES];
    const unsigned rounds = 20; /* some laps */
    unsigned deaths = 0, steps = 0;
    int status;
    guests_begin();
    struct world *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(w, MAP_FAILED);
    driver_open(&w->d, &guests[0], packed_of(state), SIZE, 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        serve(w, rounds);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSTOPPED(status));
    while (WIFSTOPPED(status)) {
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        steps++;
        if (WIFSTOPPED(status) && w->in_door && changed(w, &before, rings))
            check_death(w, deaths++);
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    print_message("%u deaths in %u steps\n", deaths, steps);
    assert_true(deaths > 20 * rounds);
    munmap(w, sizeof(*w));
    guests_end();
}

/* The same deaths, and the marks are not looked at: then requests are lost or come twice. */
static void test_marks_matter(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct vhost_queue q;
    static struct vhost_inflight_queue f;
    guests_begin();
    driver_open(&w->d, &guests[0], packed_of(state), SIZE, 0);
    assert_int_equal(attach(&q, &f, w, &memories[0]), 0);
    add_some(&w->d, 3, 0);
    unsigned n = 0;
    while (vhost_queue_next(&q, &chain) == 1)
        n++;
    assert_int_equal(n, 3);
    static struct vhost_queue next;
    memset(&next, 0, sizeof(next));
    driver_describe(&w->d, &next, &memories[0]);
    /* Not tracked, with the base as QEMU restores it for a split ring: taken ones come again, but
     * where one of them was answered out of order the ring says the wrong one. */
    vhost_queue_done(&q, chain.id, chain.slots, 0);
    vhost_queue_publish(&q);
    uint16_t last = chain.id;
    uint32_t base = packed_of(state) ? 0x8000u | q.next_used : q.next_used;
    assert_int_equal(vhost_queue_start(&next, base), 0);
    bool again = false;
    while (vhost_queue_next(&next, &chain) == 1)
        again |= chain.id == last;
    assert_true(again || next.bad);

    assert_int_equal(attach(&next, &f, w, &memories[0]), 0);
    again = false;
    for (n = 0; vhost_queue_next(&next, &chain) == 1; n++)
        again |= chain.id == last;
    assert_int_equal(n, 2);
    assert_false(again);
    free(w);
    guests_end();
}

/* In the order in which they were taken, whatever their ids. */
static void test_order(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct vhost_queue q;
    static struct vhost_inflight_queue f;
    uint16_t order[SIZE];
    unsigned n = 0;
    guests_begin();
    driver_open(&w->d, &guests[0], packed_of(state), SIZE, 0);
    assert_int_equal(attach(&q, &f, w, &memories[0]), 0);
    for (unsigned i = 0; i < 5; i++) {
        struct buffer b = readable(i, 1 + i);
        order[i] = driver_add(&w->d, &b, 1);
        assert_int_equal(vhost_queue_next(&q, &chain), 1);
    }
    assert_int_equal(attach(&q, &f, w, &memories[0]), 0);
    assert_int_equal(vhost_queue_available(&q) >= 5, 1);
    for (; vhost_queue_next(&q, &chain) == 1; n++) {
        assert_int_equal(chain.id, order[n]);
        assert_int_equal(chain.out_bytes, 1 + n);
        if (n == 2) { /* not now */
            vhost_queue_undo(&q, &chain);
            assert_int_equal(vhost_queue_next(&q, &chain), 1);
            assert_int_equal(chain.id, order[n]);
        }
    }
    assert_int_equal(n, 5);
    free(w);
    guests_end();
}

/* --------------------------------------------------------------- lies in it */

struct lie {
    const char *what;
    size_t at;
    uint64_t value;
    unsigned bytes;
    bool packed_only;
};

#define ID(i) (64 + (size_t)(i) * 16)
#define PLACE(i) (64 + SIZE * 16 + (size_t)(i) * 16)

static void test_lies(void **state)
{
    static const struct lie lies[] = {
        { "magic", 0, 1, 8, false },
        { "entries", 8, SIZE * 2, 2, false },
        { "kind of ring", 10, 7, 2, false },
        { "state", ID(0), 3, 1, false },
        { "counter", ID(0) + 8, UINT64_MAX, 8, false },
        { "none", ID(0) + 4, 0, 2, true },
        { "too many", ID(0) + 4, SIZE + 1, 2, true },
        { "head outside", ID(0) + 2, SIZE, 2, true },
        { "position", 12, SIZE, 2, true },
    };
    static struct vhost_inflight_queue f;
    bool packed = packed_of(state);
    guests_begin();
    for (unsigned i = 0; i <= sizeof(lies) / sizeof(lies[0]); i++) {
        struct world *w = calloc(1, sizeof(*w));
        struct vhost_queue q;
        struct buffer b[3] = { readable(0, 1), readable(1, 1), readable(2, 1) };
        driver_open(&w->d, &guests[0], packed, SIZE, 0);
        assert_int_equal(attach(&q, &f, w, &memories[0]), 0);
        driver_add(&w->d, b, 3);
        assert_int_equal(vhost_queue_next(&q, &chain), 1);
        if (i == sizeof(lies) / sizeof(lies[0])) { /* the truth */
            assert_int_equal(attach(&q, &f, w, &memories[0]), 0);
            assert_int_equal(vhost_queue_next(&q, &chain), 1);
            assert_int_equal(chain.out_bytes, 3);
        } else if (packed || !lies[i].packed_only) {
            memcpy(w->region + lies[i].at, &lies[i].value, lies[i].bytes);
            if (packed && lies[i].at == 12)
                memcpy(w->region + 14, &lies[i].value, 2); /* and where it goes */
            if (attach(&q, &f, w, &memories[0]) != -EINVAL)
                fail_msg("believed: %s", lies[i].what);
        }
        free(w);
    }

    /* Places that are used twice, or go round: packed. */
    for (unsigned i = 0; packed && i < 2; i++) {
        struct world *w = calloc(1, sizeof(*w));
        struct vhost_queue q;
        struct buffer b[3] = { readable(0, 1), readable(1, 1), readable(2, 1) };
        driver_open(&w->d, &guests[0], packed, SIZE, 0);
        assert_int_equal(attach(&q, &f, w, &memories[0]), 0);
        driver_add(&w->d, b, 3);
        assert_int_equal(vhost_queue_next(&q, &chain), 1);
        uint16_t head, to;
        memcpy(&head, w->region + ID(chain.id) + 2, 2);
        to = i ? SIZE : head;
        memcpy(w->region + PLACE(head) + 14, &to, 2);
        assert_int_equal(attach(&q, &f, w, &memories[0]), -EINVAL);
        free(w);
    }

    /* What it says of buffers is the guest's word: checked as that. */
    if (packed) {
        struct world *w = calloc(1, sizeof(*w));
        struct vhost_queue q;
        struct buffer b = readable(0, 1);
        driver_open(&w->d, &guests[0], packed, SIZE, 0);
        assert_int_equal(attach(&q, &f, w, &memories[0]), 0);
        driver_add(&w->d, &b, 1);
        assert_int_equal(vhost_queue_next(&q, &chain), 1);
        uint16_t head;
        memcpy(&head, w->region + ID(chain.id) + 2, 2);
        memset(w->region + PLACE(head), 0xee, 8);
        assert_int_equal(attach(&q, &f, w, &memories[0]), 0);
        assert_int_equal(vhost_queue_next(&q, &chain), -EPROTO);
        assert_int_equal(q.bad, VHOST_BAD_ADDRESS);
        free(w);
    }
    guests_end();
}

static void test_bounds(void **state)
{
    static struct vhost_inflight_queue f;
    _Alignas(64) static char region[4 * REGION_BYTES];
    (void)state;
    size_t one = vhost_inflight_bytes(1, SIZE);
    assert_true(one > 0 && one <= REGION_BYTES);
    assert_int_equal(vhost_inflight_bytes(3, SIZE), 3 * one);
    assert_int_equal(vhost_inflight_bytes(0, SIZE), 0);
    assert_int_equal(vhost_inflight_bytes(1, 0), 0);
    assert_int_equal(vhost_inflight_bytes(65, 1), 0);
    assert_int_equal(vhost_inflight_bytes(1, VHOST_QUEUE_SIZE_MAX + 1), 0);
    assert_int_equal(vhost_inflight_open(&f, region, one, 0, SIZE), 0);
    assert_int_equal(vhost_inflight_open(&f, region, one, 1, SIZE), -EINVAL);
    assert_int_equal(vhost_inflight_open(&f, region, one - 1, 0, SIZE), -EINVAL);
    assert_int_equal(vhost_inflight_open(&f, region, 2 * one, 1, SIZE), 0);
    assert_int_equal(vhost_inflight_open(&f, region, sizeof(region), 0, 0), -EINVAL);
    assert_int_equal(vhost_inflight_open(&f, region, sizeof(region), 0, VHOST_QUEUE_SIZE_MAX + 1), -EINVAL);
    assert_int_equal(vhost_inflight_open(&f, region + 1, one, 0, SIZE), -EINVAL);
}

int main(void)
{
    static bool split = false, packed = true;
#define both(test) cmocka_unit_test_prestate(test, &split), cmocka_unit_test_prestate(test, &packed)
    const struct CMUnitTest tests[] = {
        both(test_any_instruction),
        both(test_marks_matter),
        both(test_order),
        both(test_lies),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
