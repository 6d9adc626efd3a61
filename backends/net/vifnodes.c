/* SPDX-License-Identifier: MIT */
/* vifnodes.c - what the toolstack says of a vif, and what the backend tells. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vif.h"

/* ------------------------------------------------------------ toolstack's nodes */

/* Length of the text; 0: absent. */
static int read_text(struct vif *v, const char *key, char *out, size_t cap)
{
    char path[STORE_PATH_MAX + 32];
    snprintf(path, sizeof(path), "%s/%s", v->dev.bus.own, key);
    int n = store_read(backend_store(), STORE_NO_TXN, path, out, cap);
    if (n == -ENOENT)
        out[0] = '\0';
    return n == -ENOENT ? 0 : n;
}

/* A number that may be absent. */
static int read_number(struct vif *v, const char *key, uint64_t max, uint64_t absent, uint64_t *out)
{
    int err = store_read_number(backend_store(), STORE_NO_TXN, v->dev.bus.own, key, max, out);
    if (err == -ENOENT)
        *out = absent;
    return err == -ENOENT ? 0 : err;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                        : c >= 'A' && c <= 'F'   ? c - 'A' + 10
                                                                 : -1;
}

/* "52:54:00:12:34:56", of one station: neither multicast nor nobody's. */
static int read_mac(struct vif *v)
{
    char text[3 * NET_MAC_BYTES];
    unsigned any = 0;
    int n = read_text(v, "mac", text, sizeof(text));
    if (n < 0)
        return n;
    if (n != 3 * NET_MAC_BYTES - 1)
        return -EINVAL;
    for (unsigned i = 0; i < NET_MAC_BYTES; i++) {
        int high = hex_digit(text[3 * i]), low = hex_digit(text[3 * i + 1]);
        if (high < 0 || low < 0 || (i + 1 < NET_MAC_BYTES && text[3 * i + 2] != ':'))
            return -EINVAL;
        v->port.mac[i] = (uint8_t)(high << 4 | low);
        any |= v->port.mac[i];
    }
    return any && !(v->port.mac[0] & 1) ? 0 : -EINVAL;
}

/* The next number of text, which ends with `end` or the text; moves past it. */
static bool take_number(const char **text, char end, uint64_t max, uint64_t *out)
{
    char *after;
    if (**text < '0' || **text > '9')
        return false;
    errno = 0;
    *out = strtoull(*text, &after, 10);
    if (errno || *out > max || (*after && *after != end))
        return false;
    *text = after + (*after == end && end);
    return true;
}

/* "42,100". */
static int read_trunk(struct vif *v)
{
    char text[STORE_VALUE_MAX] = "";
    const char *at = text;
    int n = read_text(v, "bulkhead-trunk", text, sizeof(text));
    if (n < 0)
        return n;
    v->port.trunk = n > 0;
    while (*at) {
        uint64_t vlan;
        if (!take_number(&at, ',', NET_VLAN_MAX, &vlan) || vlan == 0)
            return -EINVAL;
        v->port.vlans[vlan / 64] |= UINT64_C(1) << vlan % 64;
    }
    return 0;
}

/* "AVERAGE PEAK BURST". */
static int read_rate(struct vif *v, const char *key, struct net_rate *rate)
{
    char text[STORE_VALUE_MAX] = "";
    const char *at = text;
    int n = read_text(v, key, text, sizeof(text));
    if (n <= 0)
        return n;
    if (!take_number(&at, ' ', INT64_MAX, &rate->average) || !take_number(&at, ' ', INT64_MAX, &rate->peak) ||
        !take_number(&at, '\0', INT64_MAX, &rate->burst))
        return -EINVAL;
    return 0;
}

int vif_read_port(struct vif *v, const char **what)
{
    uint64_t mtu = 0, pvid = 0, isolated = 0, weight = 0;

    v->port = (struct net_port){ 0 };
    *what = "mac must be the address of one station, as 52:54:00:12:34:56";
    int err = read_mac(v);
    if (err < 0)
        return err;
    *what = "mtu must be 68 to 9216";
    err = read_number(v, "mtu", NET_MTU_MAX, NET_MTU_DEFAULT, &mtu);
    if (err < 0 || mtu < NET_MTU_MIN)
        return err < 0 ? err : -EINVAL;
    *what = "bulkhead-vlan must be 1 to 4094, bulkhead-trunk a list of such numbers";
    err = read_number(v, "bulkhead-vlan", NET_VLAN_MAX, 0, &pvid);
    if (err == 0)
        err = read_trunk(v);
    if (err < 0)
        return err;
    *what = "bulkhead-isolated must be 0 or 1, bulkhead-weight 1 to 1000";
    err = read_number(v, "bulkhead-isolated", 1, 0, &isolated);
    if (err == 0)
        err = read_number(v, "bulkhead-weight", 1000, 100, &weight);
    if (err < 0 || weight == 0)
        return err < 0 ? err : -EINVAL;
    *what = "bulkhead-inbound and bulkhead-outbound must be three numbers: average, peak and burst";
    err = read_rate(v, "bulkhead-inbound", &v->port.inbound);
    if (err == 0)
        err = read_rate(v, "bulkhead-outbound", &v->port.outbound);
    v->port.mtu = (uint16_t)mtu;
    v->port.pvid = (uint16_t)pvid;
    v->port.isolated = isolated != 0;
    v->port.weight = (uint32_t)weight;
    return err;
}

/* -------------------------------------------------------------------- our nodes */

int vif_write_features(struct vif *v, unsigned queues_max)
{
    const struct backend_node nodes[] = {
        { "feature-sg", 1 },
        { "feature-gso-tcpv4", 1 },
        { "feature-gso-tcpv6", 1 },
        { "feature-ipv6-csum-offload", 1 },
        { "feature-rx-copy", 1 },
        { "feature-rx-flip", 0 },
        { "feature-split-event-channels", 1 },
        { "feature-multicast-control", 0 },
        { "feature-persistent", 1 },
        { "multi-queue-max-queues", queues_max },
    };
    return backend_write_nodes(&v->dev, nodes, sizeof(nodes) / sizeof(nodes[0]));
}

int vif_write_stats(struct vif *v)
{
#define X(name) #name,
    static const char *const names[NET_NCOUNTERS] = { NET_COUNTERS(X) };
#undef X
    struct net_counters sum = v->past;
    for (unsigned i = 0; i < NET_QUEUES_MAX; i++)
        if (v->queue[i].q)
            backend_add_counters((uint64_t *)&sum, (const uint64_t *)net_queue_counters(v->queue[i].q),
                                 NET_NCOUNTERS);
    return backend_write_counters(&v->dev, names, (const uint64_t *)&sum, (uint64_t *)&v->published,
                                  NET_NCOUNTERS);
}
