/* SPDX-License-Identifier: MIT */
/* hint.c - what stands inside our <domain>: hints for devices, the uplink, and recovery. */
#include <errno.h>
#include <string.h>

#include "reader.h"

int hint_only(struct reader *r, xmlNode *hint, const char *const known[])
{
    for (xmlAttr *a = hint->properties; a; a = a->next) {
        bool ok = false;

        for (const char *const *name = known; *name && !ok; name++)
            ok = !a->ns && !strcmp((const char *)a->name, *name);
        if (!ok)
            return reader_refuse(r, reader_line(hint), "unknown attribute '%.40s' of our <%.40s>",
                                 (const char *)a->name, (const char *)hint->name);
    }
    return 0;
}

int hint_number(struct reader *r, xmlNode *hint, const char *name, const char *dev, uint64_t min,
                uint64_t max, unsigned *out)
{
    uint64_t v;
    int rc = reader_attr_number(hint, name, UINT64_MAX, &v);

    if (rc == -ENOENT)
        return 0;
    if (rc == 0 && v < min)
        return reader_refuse(r, reader_line(hint), "%s of %s is too small: the minimum is %llu", name, dev,
                             (unsigned long long)min);
    if (rc || v > max)
        return reader_refuse(r, reader_line(hint), "%s of %s must be a number from %llu to %llu", name, dev,
                             (unsigned long long)min, (unsigned long long)max);
    *out = (unsigned)v;
    return 0;
}

int hint_grants(struct reader *r, xmlNode *hint, const char *dev, enum policy_grants last,
                enum policy_grants *out)
{
    char text[16];

    if (reader_attr(hint, "grants", text, sizeof(text)) == -ENOENT)
        return 0;
    for (enum policy_grants g = POLICY_GRANTS_PERSISTENT; g <= last; g++) {
        if (!strcmp(text, policy_grants_name(g))) {
            *out = g;
            return 0;
        }
    }
    return reader_refuse(r, reader_line(hint), "grants of %s must be 'persistent'%s 'copy'%s", dev,
                         last == POLICY_GRANTS_MAP ? "," : " or",
                         last == POLICY_GRANTS_MAP ? " or 'map'" : "");
}

/* One <disk> or <interface> of ours and what it is about. */
static int read_device_hint(struct reader *r, xmlNode *hint, struct domain_spec *spec, uint32_t seen[2])
{
    bool disk = !strcmp((const char *)hint->name, "disk");
    const char *word = disk ? "disk" : "interface";
    unsigned n = disk ? spec->ndisks : spec->nnics, i;
    char dev[POLICY_IFNAME_MAX];

    reader_attr(hint, "dev", dev, sizeof(dev));
    for (i = 0; i < n; i++)
        if (!strcmp(disk ? spec->disks[i].dev : spec->nics[i].dev, dev))
            break;
    if (i == n)
        return reader_refuse(r, reader_line(hint),
                             "our <%s dev='%s'> names no <%s> with <backenddomain> below <devices>", word,
                             dev, word);
    if (seen[disk] & 1u << i)
        return reader_refuse(r, reader_line(hint), "our <%s dev='%s'> is there twice", word, dev);
    seen[disk] |= 1u << i;
    return disk ? disk_read_hint(r, hint, &spec->disks[i]) : nic_read_hint(r, hint, &spec->nics[i]);
}

/* <bulkhead:recovery spare='no' heartbeat='500'/> of a driver domain. */
static int read_recovery(struct reader *r, xmlNode *node, struct domain_spec *spec)
{
    static const char *const known[] = {"spare", "heartbeat", NULL};
    char text[8];
    uint64_t ms;
    int rc = hint_only(r, node, known);

    if (rc)
        return rc;
    if (reader_attr(node, "spare", text, sizeof(text)) != -ENOENT) {
        if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0)
            return reader_refuse(r, reader_line(node), "spare of our <recovery> must be 'yes' or 'no'");
        spec->spare = *text == 'y';
    }
    rc = reader_attr_number(node, "heartbeat", POLICY_HEARTBEAT_MAX, &ms);
    if (rc == -ENOENT)
        return 0;
    if (rc || (ms && ms < POLICY_HEARTBEAT_MIN))
        return reader_refuse(r, reader_line(node),
                             "heartbeat of our <recovery> must be 0, for none, or a number of milliseconds "
                             "from %u to %u",
                             POLICY_HEARTBEAT_MIN, POLICY_HEARTBEAT_MAX);
    spec->heartbeat_ms = (unsigned)ms;
    return 0;
}

/* What a driver domain's may hold, once each. */
static int read_of_driver(struct reader *r, xmlNode *node, struct domain_spec *spec, uint32_t *seen)
{
    static const struct {
        const char *name;
        bool net_only;
        int (*read)(struct reader *, xmlNode *, struct domain_spec *);
    } known[] = {{"uplink", true, uplink_read}, {"recovery", false, read_recovery}};
    const char *name = (const char *)node->name;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(name, known[i].name) != 0 || (known[i].net_only && spec->cls != POLICY_CLASS_NET))
            continue;
        if (*seen & 1u << i)
            return reader_refuse(r, reader_line(node), "a driver domain has only one <%s>", name);
        *seen |= 1u << i;
        return known[i].read(r, node, spec);
    }
    return -ENOENT;
}

int hint_read_all(struct reader *r, xmlNode *ours, struct domain_spec *spec)
{
    uint32_t devices[2] = {0}, parts = 0;

    for (xmlNode *c = ours->children; c; c = c->next) {
        const char *name = (const char *)c->name;
        int rc = -ENOENT;

        if (c->type != XML_ELEMENT_NODE)
            continue;
        if (reader_is_ours(c) && spec->kind == POLICY_DRIVER)
            rc = read_of_driver(r, c, spec, &parts);
        else if (reader_is_ours(c) && (!strcmp(name, "disk") || !strcmp(name, "interface")))
            rc = read_device_hint(r, c, spec, devices);
        if (rc == -ENOENT)
            rc = reader_refuse(r, reader_line(c), "unknown element <%.40s> in our <domain> of a %s", name,
                               policy_kind_name(spec->kind));
        if (rc)
            return rc;
    }
    return 0;
}
