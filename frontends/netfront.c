/* SPDX-License-Identifier: MIT */
#include "include/bulkhead/netfront.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "netterms.h"
#include "nic.h"

#define FINISH_MS 500u /* close: what was sent may be on its way so long */

_Static_assert((int)DEVICE_UP == (int)NETFRONT_UP && (int)DEVICE_DOWN == (int)NETFRONT_DOWN
               && (int)DEVICE_STOP == (int)NETFRONT_STOP && (int)DEVICE_GONE == (int)NETFRONT_GONE,
               "the same news");
_Static_assert(NET_QUEUES_MAX <= LINK_QUEUES_MAX, "a NIC is a device");

/* ------------------------------------------------- what a NIC does in its own way */

/* One pool, in which each queue's pages are together. */
static int make_queue(struct device *d, unsigned i)
{
    struct netfront *nic = nic_of(d);
    d->queue[i] = &nic->queues[i].queue;
    int err = netqueue_init(&nic->queues[i], d->pool, i * nic->queue_pages, nic->queue_pages, &nic->terms,
                            d->guest->wake_fd);
    if (!err && nic->resend) {
        err = netqueue_resend(&nic->queues[i]);
        if (err)
            netqueue_destroy(&nic->queues[i]);
    }
    return err;
}

static void free_queue(struct device *d, unsigned i)
{
    netqueue_destroy(&nic_of(d)->queues[i]);
}

static int attach_queue(struct device *d, unsigned i, struct hyp_evtchn *const *channels, unsigned n)
{
    return netqueue_attach(&nic_of(d)->queues[i], channels, n);
}

static int publish(struct link *l, store_txn t)
{
    const struct netfront *nic = nic_of(l->device);
    bool offload = !nic->want.no_offload;
    const struct { const char *key; bool value; } keys[] = {
        { "request-rx-copy", true }, { "feature-rx-notify", true }, { "feature-sg", true },
        { "feature-gso-tcpv4", offload }, { "feature-gso-tcpv6", offload },
        { "feature-ipv6-csum-offload", offload }, { "feature-no-csum-offload", !offload },
        { "feature-persistent", nic->info.grants == NETFRONT_GRANTS_PERSISTENT },
    };
    int err = 0;
    for (size_t i = 0; !err && i < sizeof(keys) / sizeof(keys[0]); i++)
        err = store_printf(l->device->guest->store, t, l->bus.own, keys[i].key, "%d", keys[i].value);
    return err;
}

/* A key that the backend before this one was told, and this one is not. */
static int unpublish(struct device *d, store_txn t, const char *dir, const char *key)
{
    char path[STORE_PATH_MAX + 48];
    snprintf(path, sizeof(path), "%s/%s", dir, key);
    int err = store_rm(d->guest->store, t, path);
    return err == -ENOENT ? 0 : err;
}

static int publish_queue(struct link *l, store_txn t, const char *dir, unsigned i,
                         struct hyp_evtchn *const *channel)
{
    struct device *d = l->device;
    struct store *st = d->guest->store;
    const struct netqueue *q = &nic_of(d)->queues[i];
    bool split = l->nchannels == 2;
    int err = store_printf(st, t, dir, "tx-ring-ref", "%u", hyp_pool_ref(d->pool, q->page));
    if (!err)
        err = store_printf(st, t, dir, "rx-ring-ref", "%u", hyp_pool_ref(d->pool, q->page + 1));
    if (!err && split)
        err = store_printf(st, t, dir, "event-channel-tx", "%u", hyp_evtchn_port(channel[0]));
    if (!err)
        err = split ? store_printf(st, t, dir, "event-channel-rx", "%u", hyp_evtchn_port(channel[1]))
                    : store_printf(st, t, dir, "event-channel", "%u", hyp_evtchn_port(channel[0]));
    if (!err)
        err = unpublish(d, t, dir, split ? "event-channel" : "event-channel-tx");
    return err || split ? err : unpublish(d, t, dir, "event-channel-rx");
}

static void notify(const struct device *d, enum device_news news)
{
    const struct netfront *nic = (const struct netfront *)d;
    if (nic->want.notify)
        nic->want.notify(nic->want.arg, (enum netfront_news)news);
}

static void drop(struct device *d, unsigned i)
{
    netqueue_drop(&nic_of(d)->queues[i]);
}

/* What was sent shall leave: answers are looked for rather than waited for, since
 * no doorbell was asked for. */
static void finish(struct device *d, unsigned i, uint64_t limit)
{
    while (netqueue_in_flight(&nic_of(d)->queues[i]) > 0 && monotonic_ms() < limit)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static const struct device_class nics = {
    .noun = "NIC", .directory = "vif", .bytes = sizeof(struct netfront),
    .accept_offer = netterms_accept_offer, .make_queue = make_queue, .free_queue = free_queue,
    .attach_queue = attach_queue, .publish = publish, .publish_queue = publish_queue,
    .notify = notify, .finish = finish, .drop = drop,
};

/* ----------------------------------------------------------- the public calls */

int netfront_list(const char *attach, char *names, size_t bytes, char *err, size_t err_bytes)
{
    return device_list(&nics, attach, names, bytes, (struct words){ err, err_bytes });
}

static int check_options(const struct netfront_options *opt, struct words w)
{
    if ((unsigned)opt->grants > NETFRONT_GRANTS_COPY)
        return words_say(w, -EINVAL, "%d is no way to grant", (int)opt->grants);
    if (opt->pool_pages && opt->pool_pages < NETQUEUE_PAGES_MIN)
        return words_say(w, -EINVAL, "a pool of %u pages a queue is too small: at least %u are needed",
                         opt->pool_pages, NETQUEUE_PAGES_MIN);
    return 0;
}

static void init(struct device *d, const void *options)
{
    struct netfront *nic = nic_of(d);
    nic->want = *(const struct netfront_options *)options;
    nic->want.attach = nic->want.device = NULL;
}

int netfront_open(struct netfront **out, const struct netfront_options *opt, char *err, size_t err_bytes)
{
    static const struct netfront_options defaults;
    struct words w = { err, err_bytes };
    if (!opt)
        opt = &defaults;
    int fault = check_options(opt, w);
    if (fault)
        return fault;
    struct device_options how = { .attach = opt->attach, .device = opt->device,
                                  .timeout_ms = opt->timeout_ms, .init = init, .arg = opt };
    struct device *d;
    fault = device_open(&nics, &how, w, &d);
    if (!fault)
        *out = nic_of(d);
    return fault;
}

void netfront_close(struct netfront *nic)
{
    if (nic)
        device_close(&nic->device, FINISH_MS);
}

const struct netfront_info *netfront_info(const struct netfront *nic)
{
    return &nic->info;
}

int netfront_get(struct netfront *nic, unsigned queue, void **bufs, unsigned n)
{
    return queue < nic->device.nqueues ? netqueue_get(&nic->queues[queue], bufs, n) : -EINVAL;
}

void netfront_put(struct netfront *nic, unsigned queue, void *const *bufs, unsigned n)
{
    if (queue < nic->device.nqueues)
        netqueue_put(&nic->queues[queue], bufs, n);
}

int netfront_send(struct netfront *nic, unsigned queue, const struct netfront_packet *packets, unsigned n)
{
    return queue < nic->device.nqueues ? netqueue_send(&nic->queues[queue], packets, n) : -EINVAL;
}

int netfront_receive(struct netfront *nic, unsigned queue, struct netfront_packet *packets, unsigned n)
{
    return queue < nic->device.nqueues ? netqueue_receive(&nic->queues[queue], packets, n) : -EINVAL;
}

void netfront_release(struct netfront *nic, unsigned queue, const struct netfront_packet *packets, unsigned n)
{
    if (queue < nic->device.nqueues)
        netqueue_release(&nic->queues[queue], packets, n);
}

int netfront_fd(const struct netfront *nic, unsigned queue)
{
    return queue < nic->device.nqueues ? nic->queues[queue].queue.epoll_fd : -EINVAL;
}

int netfront_idle(struct netfront *nic, unsigned queue)
{
    return queue < nic->device.nqueues ? netqueue_idle(&nic->queues[queue]) : -EINVAL;
}

int netfront_wait(struct netfront *nic, unsigned queue, int timeout_ms)
{
    return queue < nic->device.nqueues ? netqueue_wait(&nic->queues[queue], timeout_ms) : -EINVAL;
}

void netfront_stats(const struct netfront *nic, struct netfront_stats *out)
{
    *out = (struct netfront_stats){ .reconnects = queue_counted(&nic->device.reconnects) };
    for (unsigned i = 0; i < nic->device.nqueues; i++) {
        const struct netqueue *q = &nic->queues[i];
        const struct netqueue_counters *c = &q->counters;
        out->tx_packets += queue_counted(&c->tx_packets);
        out->tx_bytes += queue_counted(&c->tx_bytes);
        out->tx_errors += queue_counted(&c->tx_errors);
        out->tx_lost += queue_counted(&c->tx_lost);
        out->tx_resent += queue_counted(&c->tx_resent);
        out->rx_packets += queue_counted(&c->rx_packets);
        out->rx_bytes += queue_counted(&c->rx_bytes);
        out->rx_errors += queue_counted(&c->rx_errors);
        out->doorbells += queue_counted(&q->queue.doorbells);
        out->wakeups += queue_counted(&q->queue.wakeups);
        for (unsigned lie = 0; lie < NETQUEUE_LIES; lie++)
            out->broken += queue_counted(&c->lies[lie]);
    }
}
