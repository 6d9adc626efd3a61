/* SPDX-License-Identifier: MIT */
/*
 * uplink.c - <bulkhead:uplink> of a net driver domain: DPDK devargs,
 * "NAME[,KEY=VALUE]...".  Each port has its list of options; those that name
 * a path, another interface or more than one queue are in none.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "reader.h"

#define OPTIONS_MAX 8

static const struct pmd {
    const char *name;
    enum policy_pmd pmd;
    bool interface; /* needs iface= */
    const char *options[OPTIONS_MAX];
} pmds[] = {
    {"net_af_packet",
     POLICY_PMD_AF_PACKET,
     true,
     {"iface", "qpairs", "blocksz", "framesz", "framecnt", "qdisc_bypass"}},
    {"net_af_xdp",
     POLICY_PMD_AF_XDP,
     true,
     {"iface", "start_queue", "queue_count", "busy_budget", "force_copy"}},
    {"net_tap", POLICY_PMD_TAP, true, {"iface", "mac"}},
    {"net_pcap", POLICY_PMD_PCAP, false, {"rx_pcap", "tx_pcap", "infinite_rx"}},
    {"net_null", POLICY_PMD_NULL, false, {"size", "copy", "no-rx"}},
    {"net_ring", POLICY_PMD_RING, false, {NULL}},
};

/* "net_null", "net_null7": a name and perhaps its number. */
static const struct pmd *find_pmd(const char *name)
{
    for (size_t i = 0; i < sizeof(pmds) / sizeof(pmds[0]); i++) {
        size_t n = strlen(pmds[i].name);

        if (!strncmp(name, pmds[i].name, n) && strlen(name + n) <= 3 &&
            strspn(name + n, "0123456789") == strlen(name + n))
            return &pmds[i];
    }
    return NULL;
}

static bool has_option(const struct pmd *pmd, const char *key)
{
    for (unsigned i = 0; i < OPTIONS_MAX && pmd->options[i]; i++)
        if (!strcmp(pmd->options[i], key))
            return true;
    return false;
}

/* "iface, mac" */
static void list_options(const struct pmd *pmd, char *out, size_t cap)
{
    size_t at = 0;

    snprintf(out, cap, "none");
    for (unsigned i = 0; i < OPTIONS_MAX && pmd->options[i] && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%s", i ? ", " : "", pmd->options[i]);
}

static int take_interface(struct reader *r, long line, const char *value, struct domain_spec *spec)
{
    if (!policy_ifname_ok(value))
        return reader_refuse(
            r, line,
            "iface= of the uplink has 1 to %d characters of A-Z a-z 0-9 . _ - and begins with a "
            "letter or digit",
            POLICY_IFNAME_MAX - 1);
    snprintf(spec->ifname, sizeof(spec->ifname), "%s", value);
    for (unsigned i = 0; i < spec->nnets; i++)
        if (!strcmp(spec->nets[i], value))
            return 0;
    return spec->nnets ? reader_refuse(r, line, "the uplink's interface %s is none of the <hostdev>", value)
                       : 0;
}

static int take_file(struct reader *r, long line, const char *key, const char *value, char out[])
{
    if (*value != '/')
        return reader_refuse(r, line, "%s= of the uplink must be an absolute path", key);
    snprintf(out, POLICY_DEVARGS_MAX, "%s", value);
    return 0;
}

static int take_option(struct reader *r, long line, const struct pmd *pmd, const char *key, const char *value,
                       struct domain_spec *spec)
{
    char known[160];

    if (!has_option(pmd, key)) {
        list_options(pmd, known, sizeof(known));
        return reader_refuse(r, line, "%s has no option %.40s= here; its options are: %s", pmd->name, key,
                             known);
    }
    if (!strcmp(key, "rx_pcap"))
        return take_file(r, line, key, value, spec->rx_pcap);
    if (!strcmp(key, "tx_pcap"))
        return take_file(r, line, key, value, spec->tx_pcap);
    if (!strcmp(key, "iface"))
        return take_interface(r, line, value, spec);
    if (strchr(value, '/'))
        return reader_refuse(r, line, "%s= of the uplink may not be a path", key);
    if ((!strcmp(key, "qpairs") || !strcmp(key, "queue_count")) && strcmp(value, "1") != 0)
        return reader_refuse(r, line, "%s= of the uplink must be 1: it has one queue each way", key);
    return 0;
}

static int read_options(struct reader *r, long line, char *text, struct domain_spec *spec)
{
    const char *seen[OPTIONS_MAX], *name = strsep(&text, ",");
    const struct pmd *pmd = find_pmd(name);
    unsigned n = 0;
    char *part;

    if (!pmd)
        return reader_refuse(
            r, line,
            "unknown port '%.40s': an uplink is net_af_packet, net_af_xdp, net_tap, net_pcap, "
            "net_null or net_ring, with a number if you like",
            name);
    spec->pmd = pmd->pmd;
    while ((part = strsep(&text, ","))) {
        char *value = strchr(part, '=');
        int rc;

        if (value)
            *value++ = '\0';
        if (!value || !*part || !*value || strpbrk(value, "=\"'\\"))
            return reader_refuse(r, line, "devargs read NAME,KEY=VALUE,KEY=VALUE: '%.40s' is no KEY=VALUE",
                                 part);
        for (unsigned i = 0; i < n; i++)
            if (!strcmp(seen[i], part))
                return reader_refuse(r, line, "option %.40s= of the uplink is there twice", part);
        rc = take_option(r, line, pmd, part, value, spec);
        if (rc)
            return rc;
        seen[n++] = part; /* never more than there are options */
    }
    if (pmd->interface && !*spec->ifname)
        return reader_refuse(r, line, "%s needs iface=NAME", pmd->name);
    if (pmd->pmd == POLICY_PMD_PCAP && !*spec->rx_pcap && !*spec->tx_pcap)
        return reader_refuse(r, line, "net_pcap needs rx_pcap=FILE or tx_pcap=FILE");
    return 0;
}

int uplink_read(struct reader *r, xmlNode *node, struct domain_spec *spec)
{
    static const char *const known[] = {"devargs", "mtu", NULL};
    char text[POLICY_DEVARGS_MAX];
    int rc = hint_only(r, node, known);

    if (rc)
        return rc;
    rc = reader_attr(node, "devargs", spec->devargs, sizeof(spec->devargs));
    if (rc == -E2BIG)
        return reader_refuse(r, reader_line(node), "devargs are longer than %d bytes",
                             POLICY_DEVARGS_MAX - 1);
    if (rc || !*spec->devargs)
        return reader_refuse(
            r, reader_line(node),
            "our <uplink> has no devargs='...': leave it out for a switch between guests only");
    for (const char *p = spec->devargs; *p; p++)
        if (!isgraph((unsigned char)*p))
            return reader_refuse(r, reader_line(node),
                                 "devargs are printable ASCII characters without white space");
    rc = hint_number(r, node, "mtu", "the uplink", POLICY_MTU_MIN, POLICY_MTU_MAX, &spec->mtu);
    if (rc)
        return rc;
    snprintf(text, sizeof(text), "%s", spec->devargs);
    return read_options(r, reader_line(node), text, spec);
}
