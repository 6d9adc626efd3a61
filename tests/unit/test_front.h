/* SPDX-License-Identifier: MIT */
/*
 * test_front.h - what the tests of both frontends share: a guest and a driver
 * domain on the fake hypervisor, and the pool between them.
 */
#ifndef BULKHEAD_TEST_FRONT_H
#define BULKHEAD_TEST_FRONT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../../frontends/queue.h"
#include "../fake_hyp.h"

#define RIG_FRONT 5
#define RIG_BACK  3

/* The same numbers in every run. */
static inline uint32_t rig_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

struct sides {
    struct hyp *front, *back;
    struct hyp_pool *pool; /* of the frontend     */
    struct hyp_map *map;   /* of the backend      */
    int control_fd;        /* of a control thread */
};

static inline void sides_up(struct sides *s, size_t pages)
{
    s->front = fake_hyp_new(RIG_FRONT);
    s->back = fake_hyp_new(RIG_BACK);
    s->control_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_true(s->control_fd >= 0);
    assert_int_equal(hyp_pool_create(s->front, RIG_BACK, pages, 0, &s->pool), 0);
    assert_int_equal(hyp_map_open(s->back, RIG_FRONT, &s->map), 0);
}

/* Nobody may have left anything. */
static inline void sides_down(struct sides *s)
{
    hyp_map_close(s->map);
    assert_int_equal(hyp_pool_end(s->pool), 0);
    close(s->control_fd);
    hyp_close(s->front);
    hyp_close(s->back);
    assert_int_equal(fake_hyp_reset(), 0);
}

/* The frontend's end of a new channel. */
static inline struct hyp_evtchn *sides_channel(struct sides *s)
{
    struct hyp_evtchn *channel;
    assert_int_equal(hyp_evtchn_alloc(s->front, RIG_BACK, &channel), 0);
    return channel;
}

/* The backend's. */
static inline struct hyp_evtchn *sides_bind(struct sides *s, const struct hyp_evtchn *channel)
{
    struct hyp_evtchn *doorbell;
    assert_int_equal(hyp_evtchn_bind(s->back, RIG_FRONT, hyp_evtchn_port(channel), &doorbell), 0);
    return doorbell;
}

/* The control thread was called. */
static inline bool sides_control_called(struct sides *s)
{
    uint64_t n;
    return read(s->control_fd, &n, sizeof(n)) == sizeof(n);
}

static inline bool queue_readable(const struct queue *q)
{
    struct pollfd p = { .fd = q->epoll_fd, .events = POLLIN };
    return poll(&p, 1, 0) == 1;
}

#endif
