/* SPDX-License-Identifier: MIT */
/*
 * vhost.c - a guest with door='vhost-user': a libvirt domain of QEMU.  Our
 * metadata element says what stands behind each device, <devices> holds those
 * that are plugged in (plugged.c); both must tell the same.
 */
#include <errno.h>
#include <string.h>

#include "reader.h"

/* ------------------------------------------------------------ shared memory */

/* A NUMA cell that says nothing has the access of <memoryBacking>. */
static int check_memory(struct reader *r, xmlNode *root)
{
    xmlNode *backing = reader_child(root, "memoryBacking", 0);
    xmlNode *cpu = reader_child(root, "cpu", 0), *numa = cpu ? reader_child(cpu, "numa", 0) : NULL, *cell;
    bool shared = backing && reader_attr_is(reader_child(backing, "access", 0), "mode", "shared");
    unsigned cells = 0;
    char text[16];

    for (; numa && (cell = reader_child(numa, "cell", cells)); cells++) {
        if (reader_attr(cell, "memAccess", text, sizeof(text)) == -ENOENT ? shared : !strcmp(text, "shared"))
            continue;
        return reader_refuse(r, reader_line(cell),
                             "memory of this <cell> is not shared with vhost-user devices: write "
                             "memAccess='shared'");
    }
    if (!cells && !shared)
        return reader_refuse(r, reader_line(backing ? backing : root),
                             "the guest's memory is not shared with vhost-user devices: add <memoryBacking>"
                             "<source type='memfd'/><access mode='shared'/></memoryBacking>");
    return 0;
}

/* --------------------------------------------------------- our metadata element */

static int read_driver(struct reader *r, xmlNode *node, const char *dev, char backend[POLICY_NAME_MAX])
{
    int rc = reader_attr(node, "driver", backend, POLICY_NAME_MAX);

    if (rc != -ENOENT && (rc || !policy_name_ok(backend)))
        return reader_refuse(r, reader_line(node), "driver of %s must name a driver domain", dev);
    return 0;
}

static int read_path(struct reader *r, xmlNode *node, const char *attr, struct policy_disk *disk)
{
    int rc = reader_attr(node, attr, disk->path, sizeof(disk->path));

    if (rc == -E2BIG)
        return reader_refuse(r, reader_line(node), "the path of %s is longer than %d bytes", disk->dev,
                             POLICY_PATH_MAX - 1);
    if (rc || *disk->path != '/')
        return reader_refuse(r, reader_line(node), "%s of %s must be a path that begins with /", attr,
                             disk->dev);
    return 0;
}

/* file=, block= or ram=: which of them, and only one. */
static int read_backing(struct reader *r, xmlNode *node, struct policy_disk *disk)
{
    static const struct {
        const char *attr;
        enum policy_source source;
    } kinds[] = {{"file", POLICY_SOURCE_FILE}, {"block", POLICY_SOURCE_BLOCK}, {"ram", POLICY_SOURCE_RAM}};
    const char *attr = NULL;
    unsigned n = 0;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (!xmlHasNsProp(node, (const xmlChar *)kinds[i].attr, NULL))
            continue;
        n++;
        attr = kinds[i].attr;
        disk->source = kinds[i].source;
    }
    if (n != 1)
        return reader_refuse(r, reader_line(node),
                             "our <disk dev='%s'> must have one of file='...', block='...' and ram='...'",
                             disk->dev);
    return disk->source == POLICY_SOURCE_RAM ? 0 : read_path(r, node, attr, disk);
}

static int read_readonly(struct reader *r, xmlNode *node, struct policy_disk *disk)
{
    char text[8];

    if (reader_attr(node, "readonly", text, sizeof(text)) == -ENOENT)
        return 0;
    if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0)
        return reader_refuse(r, reader_line(node), "readonly of %s must be 'yes' or 'no'", disk->dev);
    disk->readonly = *text == 'y';
    return 0;
}

/* Only what is libvirt's own and has a meaning there may stand in our <disk> and <interface>. */
static int check_children(struct reader *r, xmlNode *node, const char *const known[])
{
    for (xmlNode *c = node->children; c; c = c->next) {
        bool ok = c->type != XML_ELEMENT_NODE;

        for (const char *const *name = known; *name && !ok; name++)
            ok = reader_is(c, *name);
        if (!ok)
            return reader_refuse(r, reader_line(c), "unknown element <%.40s> in our <%.40s>%s",
                                 (const char *)c->name, (const char *)node->name,
                                 c->ns ? ": only the outer ones have a prefix" : "");
    }
    return reader_once(r, node, known);
}

static int read_disk(struct reader *r, xmlNode *node, struct domain_spec *spec)
{
    static const char *const known[] = {"dev",        "driver",  "file",       "block",  "ram",
                                        "cache",      "queues",  "readonly",   "grants", "weight",
                                        "max-deaths", "timeout", "pool-pages", NULL};
    static const char *const no_children[] = {NULL};
    struct policy_disk *disk = &spec->disks[spec->ndisks];
    int rc = hint_only(r, node, known);

    if (!rc)
        rc = check_children(r, node, no_children);
    if (rc)
        return rc;
    if (spec->ndisks == POLICY_DISKS_MAX)
        return reader_refuse(r, reader_line(node), "more than %d disks", POLICY_DISKS_MAX);
    *disk = (struct policy_disk){.weight = POLICY_WEIGHT_DEFAULT,
                                 .max_deaths = POLICY_DEATHS_DEFAULT,
                                 .line = (unsigned)reader_line(node)};
    if (reader_attr(node, "dev", disk->dev, sizeof(disk->dev)) || disk_number(disk->dev, &disk->devid))
        return reader_refuse(r, reader_line(node), "dev of our <disk> must be vda to vdp");
    for (unsigned i = 0; i < spec->ndisks; i++)
        if (spec->disks[i].devid == disk->devid)
            return reader_refuse(r, reader_line(node),
                                 "our <disk dev='%s'> is there twice (first in line %u)", disk->dev,
                                 spec->disks[i].line);
    rc = read_driver(r, node, disk->dev, disk->backend);
    if (!rc)
        rc = read_backing(r, node, disk);
    if (!rc)
        rc = disk_read_cache(r, node, disk);
    if (!rc)
        rc = reader_queues(r, node, disk->dev, &disk->queues);
    if (!rc)
        rc = read_readonly(r, node, disk);
    if (!rc)
        rc = disk_read_hint_values(r, node, disk);
    if (!rc)
        spec->ndisks++;
    return rc;
}

static int read_nic(struct reader *r, xmlNode *node, struct domain_spec *spec)
{
    static const char *const known[] = {"dev",    "driver", "queues",     "grants",
                                        "weight", "tx",     "pool-pages", NULL};
    static const char *const children[] = {"mac", "mtu", "vlan", "bandwidth", "port", NULL};
    struct policy_nic *nic = &spec->nics[spec->nnics];
    int rc = hint_only(r, node, known);

    if (!rc)
        rc = check_children(r, node, children);
    if (rc)
        return rc;
    if (spec->nnics == POLICY_NICS_MAX)
        return reader_refuse(r, reader_line(node), "more than %d NICs", POLICY_NICS_MAX);
    *nic = (struct policy_nic){
        .devid = spec->nnics, .weight = POLICY_WEIGHT_DEFAULT, .line = (unsigned)reader_line(node)};
    if (reader_attr(node, "dev", nic->dev, sizeof(nic->dev)) || !policy_ifname_ok(nic->dev))
        return reader_refuse(r, reader_line(node),
                             "dev of our <interface> has 1 to %d characters of A-Z a-z 0-9 . _ - and begins "
                             "with a letter or digit",
                             POLICY_IFNAME_MAX - 1);
    /* Disks and NICs have their sockets in one folder. */
    for (unsigned i = 0; i < spec->nnics; i++)
        if (!strcmp(spec->nics[i].dev, nic->dev))
            return reader_refuse(r, reader_line(node),
                                 "our <interface dev='%s'> is there twice (first in line %u)", nic->dev,
                                 spec->nics[i].line);
    rc = read_driver(r, node, nic->dev, nic->backend);
    if (!rc)
        rc = reader_queues(r, node, nic->dev, &nic->queues);
    if (!rc)
        rc = nic_read_network(r, node, spec, nic);
    if (!rc)
        rc = nic_read_hint_values(r, node, nic);
    if (!rc)
        spec->nnics++;
    return rc;
}

static int read_ours(struct reader *r, xmlNode *ours, struct domain_spec *spec)
{
    for (xmlNode *c = ours->children; c; c = c->next) {
        const char *name = (const char *)c->name;
        int rc;

        if (c->type != XML_ELEMENT_NODE)
            continue;
        if (reader_is_ours(c) && !strcmp(name, "disk"))
            rc = read_disk(r, c, spec);
        else if (reader_is_ours(c) && !strcmp(name, "interface"))
            rc = read_nic(r, c, spec);
        else
            rc = reader_refuse(r, reader_line(c), "unknown element <%.40s> in our <domain> of a guest", name);
        if (rc)
            return rc;
    }
    for (unsigned i = 0; i < spec->ndisks; i++)
        for (unsigned k = 0; k < spec->nnics; k++)
            if (!strcmp(spec->disks[i].dev, spec->nics[k].dev))
                return reader_refuse(r, spec->nics[k].line,
                                     "our <interface dev='%s'> has the name of the disk in line %u: "
                                     "their sockets would be one",
                                     spec->nics[k].dev, spec->disks[i].line);
    return 0;
}

/* ------------------------------------------------------------------- the whole */

/* What stands ready must be known whole: a guest may plug it in at any time. */
static int check_complete(struct reader *r, struct domain_spec *spec)
{
    static const char missing[] = "%s has no driver domain: write driver='...' in our <%s>, or "
                                  "<backenddomain name='...'/> in its <%s>";
    static const uint8_t none[6];

    for (unsigned i = 0; i < spec->ndisks; i++)
        if (!*spec->disks[i].backend)
            return reader_refuse(r, spec->disks[i].line, missing, spec->disks[i].dev, "disk", "disk");
    for (unsigned i = 0; i < spec->nnics; i++) {
        const struct policy_nic *nic = &spec->nics[i];

        if (!*nic->backend)
            return reader_refuse(r, nic->line, missing, nic->dev, "interface", "interface");
        if (!*nic->socket && !memcmp(nic->mac, none, sizeof(none)))
            return reader_refuse(r, nic->line,
                                 "%s is not plugged in: give our <interface> its <mac address='...'/>",
                                 nic->dev);
    }
    if (spec->ndisks + spec->nnics == 0)
        return reader_refuse(r, spec->name_line,
                             "the guest has no <disk> or <interface> in the <domain> of " POLICY_NS
                             ": there is nothing to serve");
    nic_make_addresses(spec);
    return 0;
}

int vhost_read(struct reader *r, xmlNode *root, xmlNode *ours, struct domain_spec *spec)
{
    xmlNode *devices = reader_child(root, "devices", 0);
    int rc;

    if (!reader_attr_is(root, "type", "kvm") && !reader_attr_is(root, "type", "qemu"))
        return reader_refuse(r, reader_line(root),
                             "a guest with door='vhost-user' must be a <domain type='kvm'> or 'qemu'");
    rc = check_memory(r, root);
    if (!rc)
        rc = read_ours(r, ours, spec);
    for (xmlNode *c = devices ? devices->children : NULL; c && !rc; c = c->next) {
        if (reader_is(c, "disk"))
            rc = plugged_disk(r, c, spec);
        else if (reader_is(c, "interface"))
            rc = plugged_nic(r, c, spec);
    }
    return rc ? rc : check_complete(r, spec);
}

/* ------------------------------------------------------------------ two of them */

bool policy_same_disk(const struct policy_disk *a, const struct policy_disk *b)
{
    return !strcmp(a->dev, b->dev) && !strcmp(a->backend, b->backend) && a->source == b->source &&
           !strcmp(a->path, b->path) && a->ram_bytes == b->ram_bytes && a->readonly == b->readonly &&
           a->direct == b->direct && (!a->queues || !b->queues || a->queues == b->queues) &&
           a->pool_pages == b->pool_pages && a->weight == b->weight && a->grants == b->grants &&
           a->max_deaths == b->max_deaths && a->timeout_ms == b->timeout_ms;
}

static bool same_rate(const struct policy_rate *a, const struct policy_rate *b)
{
    return a->average == b->average && a->peak == b->peak && a->burst == b->burst;
}

bool policy_same_nic(const struct policy_nic *a, const struct policy_nic *b)
{
    return !strcmp(a->dev, b->dev) && !strcmp(a->backend, b->backend) &&
           !memcmp(a->mac, b->mac, sizeof(a->mac)) && a->mtu == b->mtu && a->pvid == b->pvid &&
           a->trunk == b->trunk && !memcmp(a->vlans, b->vlans, sizeof(a->vlans)) &&
           a->isolated == b->isolated && same_rate(&a->inbound, &b->inbound) &&
           same_rate(&a->outbound, &b->outbound) && (!a->queues || !b->queues || a->queues == b->queues) &&
           a->pool_pages == b->pool_pages && a->weight == b->weight && a->grants == b->grants &&
           a->tx == b->tx;
}
