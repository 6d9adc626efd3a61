/* SPDX-License-Identifier: MIT */
#include "nic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net_load.h"

#define CHECKED    4096u
#define POOL_PAGES 2048u /* 1,023 buffers each way: more than a second-level cache has room for */

const uint8_t nic_outside[6] = {0x02, 0, 0, 0, 0, 0x01};

static const struct nic_guest guests[NIC_GUESTS_MAX] = {
    {.name = "bench-guest", .mac = {0x52, 0x54, 0x00, 0xbe, 0x00, 0x01}},
    {.name = "bench-other", .mac = {0x52, 0x54, 0x00, 0xbe, 0x00, 0x02}},
};

static int say(struct nic_setup *s, int error, const char *what)
{
    snprintf(s->stack.error, sizeof(s->stack.error), "%s: %s", what, strerror(-error));
    return error;
}

/* ------------------------------------------------------------------- feeding */

static void put32(FILE *f, uint32_t value)
{
    fwrite(&value, sizeof(value), 1, f); /* pcap: in the writer's order, told by its magic */
}

/* A pcap file (https://wiki.wireshark.org/Development/LibpcapFileFormat) for net_pcap's infinite_rx. */
static int write_feed(struct nic_setup *s, const char *path, uint32_t size, unsigned queues)
{
    static uint8_t frame[FRAME_MAX];
    FILE *f = fopen(path, "we");
    if (!f)
        return say(s, -errno, path);
    const uint32_t head[6] = {0xa1b2c3d4, 4u << 16 | 2, 0, 0, 65535, 1};
    for (unsigned i = 0; i < 6; i++)
        put32(f, head[i]);
    for (unsigned i = 0; i < NIC_FEED; i++) {
        struct frame_flow flow;
        frame_flow_init(&flow, size, guests[0].mac, nic_outside, i % queues);
        uint32_t bytes = frame_bytes(&flow, i);
        frame_write(frame_header(&flow, i), i, 0, frame, bytes);
        put32(f, 0);
        put32(f, 0);
        put32(f, bytes);
        put32(f, bytes);
        fwrite(frame, bytes, 1, f);
    }
    return fclose(f) == 0 ? 0 : say(s, -errno, path);
}

/* --------------------------------------------------------------------- setup */

static int start(struct nic_setup *s, const char *devargs, const uint64_t *cpus, unsigned n)
{
    struct stack_uplink uplink = {.devargs = devargs, .mtu = s->mtu};
    int error = stack_net_driver_domain(&s->stack, NIC_DRIVER, &uplink, cpus, n);
    if (!error)
        error = stack_store(&s->stack, &s->store);
    s->driver_domid = stack_domid(&s->stack, NIC_DRIVER);
    return error;
}

static void prepare(struct nic_setup *s, unsigned queues, uint32_t bytes)
{
    memset(s, 0, sizeof(*s));
    s->queues = queues;
    s->mtu = bytes > 1514 ? bytes - 14 : 1500;
}

int nic_start(struct nic_setup *s, const char *devargs, unsigned queues, uint32_t bytes, const uint64_t *cpus,
              unsigned n)
{
    prepare(s, queues, bytes);
    int error = stack_start(&s->stack);
    return error ? error : start(s, devargs, cpus, n);
}

int nic_start_fed(struct nic_setup *s, uint32_t size, unsigned queues, uint32_t bytes, const uint64_t *cpus,
                  unsigned n)
{
    char path[sizeof(s->stack.dir) + 16], devargs[sizeof(path) + 64];
    prepare(s, queues, bytes);
    int error = stack_start(&s->stack);
    snprintf(path, sizeof(path), "%s/feed.pcap", s->stack.dir);
    snprintf(devargs, sizeof(devargs), "net_pcap0,rx_pcap=%s,infinite_rx=1", path);
    if (!error)
        error = write_feed(s, path, size, queues);
    return error ? error : start(s, devargs, cpus, n);
}

void nic_end(struct nic_setup *s)
{
    for (unsigned i = 0; i < NIC_GUESTS_MAX; i++)
        if (s->guest[i].nic)
            netfront_close(s->guest[i].nic);
    if (s->store)
        store_close(s->store);
    stack_end(&s->stack);
}

int nic_join(struct nic_setup *s, unsigned i)
{
    struct nic_guest *g = &s->guest[i];
    struct stack_nic nic = {.mtu = s->mtu, .queues = s->queues};
    char attach[256];
    *g = guests[i];
    memcpy(nic.mac, g->mac, sizeof(nic.mac));
    int error = stack_net_guest(&s->stack, g->name, NIC_DRIVER, &nic, attach, sizeof(attach));
    if (error)
        return error;
    g->domid = stack_domid(&s->stack, g->name);
    struct netfront_options opt = {.attach = attach, .queues = s->queues, .pool_pages = POOL_PAGES};
    error = netfront_open(&g->nic, &opt, s->stack.error, sizeof(s->stack.error));
    if (error)
        return error;
    const struct netfront_info *info = netfront_info(g->nic);
    if (info->queues < s->queues || info->mtu < s->mtu || memcmp(info->mac, g->mac, 6) != 0) {
        snprintf(s->stack.error, sizeof(s->stack.error),
                 "%s was to have %u queue(s) and an MTU of %u, and has %u and %u, or another address",
                 g->name, s->queues, s->mtu, info->queues, info->mtu);
        return -EINVAL;
    }
    return 0;
}

int nic_open_vhost(struct nic_setup *s, unsigned i, char socket[STACK_SOCKET_MAX])
{
    struct nic_guest *g = &s->guest[i];
    struct stack_nic nic = {.mtu = s->mtu, .queues = s->queues};
    *g = guests[i];
    memcpy(nic.mac, g->mac, sizeof(nic.mac));
    int error = stack_vhost_net_guest(&s->stack, g->name, NIC_DRIVER, &nic, socket);
    g->domid = error ? 0 : stack_domid(&s->stack, g->name);
    return error;
}

void nic_leave(struct nic_setup *s, unsigned i)
{
    struct nic_guest *g = &s->guest[i];
    if (g->nic)
        netfront_close(g->nic);
    stack_stop_domain(&s->stack, g->name);
    *g = (struct nic_guest){0};
}

int nic_check(struct nic_setup *s, unsigned from, unsigned to, uint32_t size)
{
    struct frame_flow flow;
    char why[128] = "";
    frame_flow_init(&flow, size, s->guest[to].mac, s->guest[from].mac, 0);
    int error = net_check(s->guest[from].nic, s->guest[to].nic, &flow, CHECKED, why, sizeof(why));
    if (error == -EILSEQ)
        snprintf(s->stack.error, sizeof(s->stack.error), "from one guest to another: %s", why);
    else if (error == -EINTR)
        snprintf(s->stack.error, sizeof(s->stack.error), "stopped");
    else if (error)
        say(s, error, "from one guest to another");
    return error;
}

int nic_counters(struct nic_setup *s, unsigned guest, struct counters *vif, struct counters *uplink)
{
    char dir[STORE_PATH_MAX];
    snprintf(dir, sizeof(dir), "/local/domain/%u/backend/vif/%u/0/stats", s->driver_domid,
             s->guest[guest].domid);
    int error = counters_read(s->store, dir, vif);
    snprintf(dir, sizeof(dir), "/local/domain/%u/uplink/stats", s->driver_domid);
    if (!error)
        error = counters_read(s->store, dir, uplink);
    return error ? say(s, error, "cannot read the driver domain's counters") : 0;
}
