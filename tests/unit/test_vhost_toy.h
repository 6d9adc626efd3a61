/* SPDX-License-Identifier: MIT */
/*
 * test_vhost_toy.h - a device behind the vhost-user door that sends back what it gets, for
 * tests and fuzzers.
 */
#ifndef BULKHEAD_TEST_VHOST_TOY_H
#define BULKHEAD_TEST_VHOST_TOY_H

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "frontends/door/vhost_user/device.h"

#define TOY_QUEUES 4u
#define TOY_CONFIG 32u

struct toy {
    struct vhost_device *dev;
    bool running[TOY_QUEUES];
    bool stopping[TOY_QUEUES];
    bool hold;    /* keeps what it takes                                                 */
    bool refuse;  /* starts nothing                                                      */
    bool broken;  /* says that the guest's requests are nonsense                         */
    bool no_hypervisor;
    unsigned answered, dropped, agreed;
    uint64_t mtu;
    uint8_t config[TOY_CONFIG];
    struct {
        uint16_t q, id, slots;
    } held[64];
    unsigned nheld;
    struct vhost_chain chain;
};

static inline unsigned toy_queues(void *arg)
{
    (void)arg;
    return TOY_QUEUES;
}

static inline uint64_t toy_features(void *arg)
{
    (void)arg;
    return VIRTIO_F(5);
}

static inline unsigned toy_config(void *arg, uint8_t out[VHOST_CONFIG_MAX])
{
    memcpy(out, ((struct toy *)arg)->config, TOY_CONFIG);
    return TOY_CONFIG;
}

static inline int toy_config_set(void *arg, uint32_t offset, const uint8_t *bytes, uint32_t n)
{
    struct toy *t = arg;
    if (offset > TOY_CONFIG || n > TOY_CONFIG - offset)
        return -EINVAL;
    memcpy(t->config + offset, bytes, n);
    return 0;
}

static inline int toy_mtu(void *arg, uint64_t mtu)
{
    ((struct toy *)arg)->mtu = mtu;
    return mtu < 68 || mtu > 9000 ? -EINVAL : 0;
}

static inline void toy_agreed(void *arg, uint64_t features)
{
    (void)features;
    ((struct toy *)arg)->agreed++;
}

static inline int toy_start(void *arg, unsigned q)
{
    struct toy *t = arg;
    if (t->refuse)
        return -EINVAL;
    t->running[q] = true;
    t->stopping[q] = false;
    return 0;
}

static inline int toy_stop(void *arg, unsigned q, bool drop)
{
    struct toy *t = arg;
    bool has = false;
    t->stopping[q] = true;
    for (unsigned i = 0; i < t->nheld; i++) {
        if (t->held[i].q != q)
            continue;
        has = true;
        if (drop) {
            t->dropped++;
            t->held[i--] = t->held[--t->nheld];
        }
    }
    if (has && !drop)
        return -EAGAIN;
    t->running[q] = t->stopping[q] = false;
    return 0;
}

/* What was to be read goes where there is to be written. */
static inline uint32_t toy_copy(const struct vhost_chain *c)
{
    uint32_t written = 0;
    for (unsigned i = 0, o = 0; i < c->nin && o < c->nout; i++, o++) {
        const struct iovec *to = &c->piece[c->nout + i], *from = &c->piece[o];
        size_t n = to->iov_len < from->iov_len ? to->iov_len : from->iov_len;
        memcpy(to->iov_base, from->iov_base, n);
        written += (uint32_t)n;
    }
    return written;
}

static inline void toy_publish(struct toy *t, unsigned q)
{
    if (vhost_queue_publish(&t->dev->queue[q]))
        vhost_queue_call(&t->dev->queue[q]);
}

/* Lets go of what it holds, the last one first. */
static inline void toy_release(struct toy *t)
{
    while (t->nheld > 0) {
        unsigned i = --t->nheld, q = t->held[i].q;
        vhost_queue_done(&t->dev->queue[q], t->held[i].id, t->held[i].slots, 0);
        toy_publish(t, q);
        t->answered++;
    }
}

static inline int toy_work(void *arg)
{
    struct toy *t = arg;
    int moved = 0;
    if (t->no_hypervisor)
        return -ENOTCONN;
    for (unsigned q = 0; q < TOY_QUEUES; q++) {
        struct vhost_queue *queue = &t->dev->queue[q];
        if (!t->running[q] || t->stopping[q])
            continue;
        vhost_queue_quiet(queue);
        for (unsigned n = 0; n < 64 && t->nheld < 64; n++) {
            int got = vhost_queue_next(queue, &t->chain);
            if (got < 0)
                return got;
            if (got == 0)
                break;
            moved = 1;
            if (t->broken) {
                queue->bad = VHOST_BAD_CLASS;
                return -EPROTO;
            }
            if (t->hold) {
                t->held[t->nheld].q = (uint16_t)q;
                t->held[t->nheld].id = t->chain.id;
                t->held[t->nheld++].slots = t->chain.slots;
                continue;
            }
            vhost_queue_done(queue, t->chain.id, t->chain.slots, toy_copy(&t->chain));
            t->answered++;
        }
        toy_publish(t, q);
    }
    return moved;
}

static inline int toy_idle(void *arg, struct pollfd *fds, unsigned *n)
{
    struct toy *t = arg;
    int more = 0;
    (void)fds;
    *n = 0;
    for (unsigned q = 0; q < TOY_QUEUES; q++)
        if (t->running[q] && !t->stopping[q] && vhost_queue_listen(&t->dev->queue[q]))
            more = 1;
    return more;
}

static const struct vhost_class toy_class = {
    .word = "toy", .inflight = true, .mq = true, .queues = toy_queues, .features = toy_features,
    .config = toy_config, .config_set = toy_config_set, .mtu = toy_mtu, .agreed = toy_agreed,
    .start = toy_start, .stop = toy_stop, .work = toy_work, .idle = toy_idle,
};

#endif
