/* SPDX-License-Identifier: MIT */
/* netback.c - vifs go to every worker and come back. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../../hyp-shim/log.h"
#include "vif.h"
#include "worker.h"

#define UPLINK_NCOUNTERS (sizeof(struct uplink_counters) / sizeof(uint64_t))

static struct {
    unsigned nworkers;
    struct uplink *uplink;
    uint32_t gate;         /* device number; 0: there is none                       */
    bool active;           /* the gate is ours: NICs may be served                   */
    struct uplink_counters published;
    struct vif vif[NET_PORTS_MAX];
} netback;

static struct vif *vif_of(struct backend_device *d)
{
    return (struct vif *)d;
}

/* ------------------------------------------------------------------- of a vif */

/* A switch that knew two places for one address would give packets to the wrong
 * one.  Who is on the way out has lost the address already: workers hear of it
 * before they hear of the next. */
static bool is_taken(const struct vif *v)
{
    for (unsigned i = 0; i < NET_PORTS_MAX; i++) {
        const struct vif *other = &netback.vif[i];
        if (other != v && (other->dev.open || other->dev.awaited) && !other->dev.gone &&
            memcmp(other->port.mac, v->port.mac, NET_MAC_BYTES) == 0)
            return true;
    }
    return false;
}

static int open_vif(struct backend_device *d, const char **what)
{
    struct vif *v = vif_of(d);
    int err = v->known ? 0 : vif_read_port(v, what);
    if (err < 0)
        return err;
    v->port.index = (uint16_t)(v - netback.vif);
    v->port.owner = v;
    *what = "another virtual NIC of this driver domain has the same MAC address; give it one of its own";
    if (!v->known && is_taken(v))
        return -EADDRINUSE;
    v->known = true;
    d->device = netback.gate;
    return netback.active ? 0 : -EAGAIN;
}

static void close_vif(struct backend_device *d)
{
    (void)d; /* it is not served from anything of its own */
}

static int write_features(struct backend_device *d)
{
    return vif_write_features(vif_of(d), netback.nworkers);
}

static int connect_vif(struct backend_device *d, const char **what)
{
    return vif_connect(vif_of(d), netback.nworkers, what);
}

static void arm(struct backend_device *d)
{
    struct vif *v = vif_of(d);
    v->port.armed = true;
    for (unsigned i = 0; i < v->port.nqueues; i++)
        net_queue_arm(v->port.queue[i]);
}

static void attach(struct backend_device *d)
{
    struct vif *v = vif_of(d);
    for (unsigned i = 0; i < v->port.nqueues; i++)
        v->port.worker[i] = (uint8_t)((v->port.index + i) % netback.nworkers);
    v->holders = netback.nworkers;
    for (unsigned w = 0; w < netback.nworkers; w++)
        net_worker_post(w, MAIL_ATTACH, &v->port);
}

static void detach(struct backend_device *d)
{
    struct vif *v = vif_of(d);
    if (v->holders == 0) { /* armed: no worker has heard of it */
        vif_queues_end(v);
        backend_closed(d);
        return;
    }
    for (unsigned w = 0; w < netback.nworkers; w++)
        net_worker_post(w, MAIL_DETACH, &v->port);
}

static void write_stats(struct backend_device *d)
{
    vif_write_stats(vif_of(d));
}

static unsigned ping(void)
{
    for (unsigned w = 0; w < netback.nworkers; w++)
        net_worker_post(w, MAIL_PING, NULL);
    return netback.nworkers;
}

/* ------------------------------------------------------------------------ gate */

static void activate(void)
{
    netback.active = true;
    if (!netback.uplink->present)
        return;
    int err = uplink_begin(netback.uplink);
    if (err < 0)
        log_line("the uplink gets no frames (%s)", strerrordesc_np(-err));
    net_worker_post(0, MAIL_UPLINK, NULL);
}

/* Who holds the gate's lock is the one that serves; the kernel gives it on when a
 * dead one is gone.  The descriptor is kept as long as this process lives. */
static void try_gate(void)
{
    int fd;
    int err = hyp_device_acquire(backend_hyp(), netback.gate, &fd);
    if (err == 0)
        activate();
    else if (err != -EAGAIN && err != -ENOENT)
        log_line("the gate cannot be taken (%s)", strerrordesc_np(-err));
}

static void device_came(uint32_t device)
{
    if (device == netback.gate && !netback.active)
        try_gate();
}

/* Without the node there is no gate. */
static int find_gate(void)
{
    char home[STORE_PATH_MAX];
    uint64_t number = 0;
    snprintf(home, sizeof(home), "/local/domain/%u", hyp_domid(backend_hyp()));
    int err = store_read_number(backend_store(), STORE_NO_TXN, home, "gate", UINT32_MAX, &number);
    if (err < 0 && err != -ENOENT)
        return err;
    netback.gate = (uint32_t)number;
    if (netback.gate == 0)
        activate();
    else
        try_gate();
    return 0;
}

bool netback_active(void)
{
    return netback.active;
}

static const struct backend_class vif_class = {
    .name = "vif",
    .device_bytes = sizeof(struct vif),
    .devices_max = NET_PORTS_MAX,
    .open = open_vif,
    .close = close_vif,
    .write_features = write_features,
    .connect = connect_vif,
    .arm = arm,
    .attach = attach,
    .detach = detach,
    .write_stats = write_stats,
    .device_came = device_came,
    .ping = ping,
};

/* ----------------------------------------------------------------------- mail */

static const char *why_broken(const struct vif *v)
{
    for (unsigned i = 0; i < v->port.nqueues; i++) {
        const char *why = net_queue_why(v->port.queue[i]);
        if (why)
            return why;
    }
    return "the frontend broke the protocol";
}

void netback_mail(void)
{
    struct mail m;

    for (unsigned w = 0; w < netback.nworkers; w++) {
        while (net_worker_take(w, &m)) {
            if (m.kind == MAIL_PONG) {
                heartbeat_answered();
                continue;
            }
            struct vif *v = ((struct net_port *)m.what)->owner;
            if (m.kind != MAIL_DETACHED) {
                backend_broken(&v->dev, why_broken(v));
            } else if (--v->holders == 0) {
                vif_queues_end(v);
                backend_closed(&v->dev);
            }
        }
    }
}

/* --------------------------------------------------------------------- uplink */

static void publish_uplink(void)
{
#define X(name) #name,
    static const char *const names[UPLINK_NCOUNTERS] = { UPLINK_COUNTERS(X) };
#undef X
    char dir[STORE_PATH_MAX];
    struct uplink_counters now = { 0 };

    if (!netback.uplink->present || !netback.active)
        return;
    backend_add_counters((uint64_t *)&now, (const uint64_t *)&netback.uplink->count, UPLINK_NCOUNTERS);
    snprintf(dir, sizeof(dir), "/local/domain/%u/uplink/stats", hyp_domid(backend_hyp()));
    int err = backend_put_counters(STORE_NO_TXN, dir, names, (const uint64_t *)&now,
                                   (const uint64_t *)&netback.published, UPLINK_NCOUNTERS);
    if (err == 0)
        netback.published = now;
    else if (!xenbus_store_away(err))
        log_line("the uplink's statistics cannot be written to the store (%s)", strerrorname_np(-err));
}

/* ------------------------------------------------------------------------ rest */

int netback_init(struct hyp *hyp, struct store *store, unsigned nworkers, struct uplink *uplink)
{
    netback.nworkers = nworkers;
    netback.uplink = uplink;
    netback.active = false;
    memset(&netback.published, 0, sizeof(netback.published));
    memset(netback.vif, 0, sizeof(netback.vif));
    int err = backend_init(&vif_class, hyp, store, netback.vif);
    return err < 0 ? err : find_gate();
}

void netback_tick(void)
{
    backend_tick();
    publish_uplink();
}

int netback_timeout_ms(void)
{
    return netback.uplink->present && netback.active ? BACKEND_TICK_MS : backend_timeout_ms();
}
