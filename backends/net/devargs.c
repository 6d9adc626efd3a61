/* SPDX-License-Identifier: MIT */
/* devargs.c - a known driver with harmless options, or a sentence. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "devargs.h"

#define XDP_MTU_MAX 3494u /* a frame is on one page, behind what DPDK and XDP put there */

static const struct pmd pmds[] = {
    { .name = "net_null", .keys = { "size", "copy", "no-rx" } },
    { .name = "net_ring" },
    { .name = "net_af_packet", .kind = LINK_KIND_PACKET,
      .keys = { "iface", "qpairs", "blocksz", "framesz", "framecnt", "qdisc_bypass" } },
    { .name = "net_af_xdp", .kind = LINK_KIND_XDP,
      .keys = { "iface", "start_queue", "queue_count", "busy_budget", "force_copy" } },
    { .name = "net_tap", .kind = LINK_KIND_TAP, .soft_offloads = true, .keys = { "iface", "mac" } },
    { .name = "net_pcap", .keys = { "rx_pcap", "tx_pcap", "infinite_rx" } },
};

int devargs_refuse(const struct words *why, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why->at, why->bytes, fmt, ap);
    va_end(ap);
    return err;
}

/* "net_null0": a known name and a number or nothing. */
static const struct pmd *find_pmd(const char *name)
{
    for (size_t i = 0; i < sizeof(pmds) / sizeof(pmds[0]); i++) {
        size_t n = strlen(pmds[i].name);
        if (strncmp(name, pmds[i].name, n) == 0 && name[n + strspn(name + n, "0123456789")] == '\0')
            return &pmds[i];
    }
    return NULL;
}

static bool is_key(const struct pmd *pmd, const char *key)
{
    for (unsigned i = 0; i < DEVARGS_KEYS_MAX && pmd->keys[i]; i++)
        if (strcmp(pmd->keys[i], key) == 0)
            return true;
    return false;
}

const char *devargs_value(const struct devargs *d, const char *key)
{
    for (unsigned i = 0; i < d->n; i++)
        if (strcmp(d->key[i], key) == 0)
            return d->value[i];
    return NULL;
}

/* Each key is known and given once, so there is room for all. */
static int split(struct devargs *d, const struct words *why)
{
    char *rest = d->text;
    char *name = strsep(&rest, ",");

    d->pmd = find_pmd(name);
    if (!d->pmd)
        return devargs_refuse(why, -ENOTSUP, "the uplink's driver %s is not known here", name);
    while (rest) {
        char *value = strsep(&rest, ",");
        char *key = strsep(&value, "=");
        if (!is_key(d->pmd, key) || !value || !*value || devargs_value(d, key))
            return devargs_refuse(why, -EINVAL, "the uplink's %s may not have the option \"%s\", or not so",
                                  d->pmd->name, key);
        d->key[d->n] = key;
        d->value[d->n++] = value;
    }
    return 0;
}

int devargs_parse(struct devargs *d, const char *text, uint16_t mtu, const struct words *why)
{
    *d = (struct devargs){ 0 };
    if (strlen(text) >= sizeof(d->text))
        return devargs_refuse(why, -ENAMETOOLONG, "the uplink's devargs are longer than %u characters",
                              UPLINK_DEVARGS_MAX - 1);
    memcpy(d->text, text, strlen(text) + 1);
    int err = split(d, why);
    if (err < 0)
        return err;
    const char *queues = devargs_value(d, "qpairs");
    queues = queues ? queues : devargs_value(d, "queue_count");
    if (queues && strcmp(queues, "1") != 0)
        return devargs_refuse(why, -EINVAL, "the uplink has one queue each way, not %s", queues);
    if (d->pmd->kind == LINK_KIND_XDP && mtu > XDP_MTU_MAX)
        return devargs_refuse(why, -EINVAL, "the uplink's net_af_xdp carries an MTU of at most %u, not %u",
                              XDP_MTU_MAX, mtu);
    if (d->pmd->kind && d->pmd->kind != LINK_KIND_TAP && !devargs_value(d, "iface"))
        return devargs_refuse(why, -EINVAL, "the uplink's %s needs iface=", d->pmd->name);
    return 0;
}
