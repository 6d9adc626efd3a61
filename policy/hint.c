/* SPDX-License-Identifier: MIT */
/* hint.c - what stands inside our <domain>: hints for devices, and the uplink. */
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

int hint_read_all(struct reader *r, xmlNode *ours, struct domain_spec *spec)
{
    uint32_t seen[2] = {0};
    bool uplink = false;

    for (xmlNode *c = ours->children; c; c = c->next) {
        const char *name = (const char *)c->name;
        bool mine = c->type == XML_ELEMENT_NODE && reader_is_ours(c);
        int rc;

        if (c->type != XML_ELEMENT_NODE)
            continue;
        if (mine && spec->kind == POLICY_GUEST && (!strcmp(name, "disk") || !strcmp(name, "interface"))) {
            rc = read_device_hint(r, c, spec, seen);
        } else if (mine && spec->cls == POLICY_CLASS_NET && !strcmp(name, "uplink")) {
            rc = uplink ? reader_refuse(r, reader_line(c), "a driver domain has only one <uplink>")
                        : uplink_read(r, c, spec);
            uplink = true;
        } else {
            rc = reader_refuse(r, reader_line(c), "unknown element <%.40s> in our <domain> of a %s", name,
                               policy_kind_name(spec->kind));
        }
        if (rc)
            return rc;
    }
    return 0;
}
