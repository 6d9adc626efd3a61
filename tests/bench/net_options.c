/* SPDX-License-Identifier: MIT */
#include "net_options.h"

#include <string.h>

#include "frame.h"

#define DEVARGS_MAX 256u

const char *net_direction_name(enum net_direction direction)
{
    return direction == NET_TX ? "tx" : direction == NET_RX ? "rx" : "both";
}

/* "memif", "vhost" or both with a comma between. */
static bool parse_peers(const char *text, struct net_options *opt)
{
    opt->memif = opt->vhost = false;
    while (*text) {
        size_t n = strcspn(text, ",");
        if (n == 5 && strncmp(text, "memif", n) == 0)
            opt->memif = true;
        else if (n == 5 && strncmp(text, "vhost", n) == 0)
            opt->vhost = true;
        else
            return false;
        text += n + (text[n] == ',' && text[n + 1] != '\0');
    }
    return opt->memif || opt->vhost;
}

static bool parse_direction(const char *text, enum net_direction *out)
{
    for (int d = NET_TX; d <= NET_BOTH; d++)
        if (strcmp(text, net_direction_name((enum net_direction)d)) == 0) {
            *out = (enum net_direction)d;
            return true;
        }
    return false;
}

static int parse_value(void *of, const char *o, const char *v, char *err, size_t n)
{
    struct net_options *opt = of;
    if (strcmp(o, "--size") == 0) {
        bool mix = strcmp(v, "imix") == 0;
        opt->size = mix ? 0 : (uint32_t)options_number(v, FRAME_MIN, FRAME_MAX);
        return mix || opt->size ? 0 : options_refuse(err, n, o, v, "must be 64 to 9014, or imix");
    }
    if (strcmp(o, "--uplink") == 0) {
        opt->uplink = v;
        return *v && strlen(v) < DEVARGS_MAX
                   ? 0
                   : options_refuse(err, n, o, v, "name a DPDK device, for example net_null0");
    }
    if (strcmp(o, "--path") == 0) {
        opt->guest_guest = strcmp(v, "guest-guest") == 0;
        return opt->guest_guest || strcmp(v, "guest-uplink") == 0
                   ? 0
                   : options_refuse(err, n, o, v, "must be guest-uplink or guest-guest");
    }
    if (strcmp(o, "--direction") == 0)
        return parse_direction(v, &opt->direction) ? 0
                                                   : options_refuse(err, n, o, v, "must be tx, rx or both");
    if (strcmp(o, "--peers") == 0)
        return parse_peers(v, opt) ? 0 : options_refuse(err, n, o, v, "must be memif, vhost or memif,vhost");
    return options_common(&opt->common, o, v, err, n);
}

int net_options_parse(struct net_options *opt, int argc, char **argv, char *err, size_t err_bytes)
{
    return options_walk(&opt->common, argc, argv, parse_value, opt, err, err_bytes);
}
