/* SPDX-License-Identifier: MIT */
/* disk.c - <disk> of a guest, and what our metadata adds to it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "reader.h"

/* Xen's numbering of xvda, xvdb, ...: major 202, 16 minors each
 * (xen: docs/man/xen-vbd-interface.7). */
#define DEVID_FIRST 51712u
#define DEVID_STEP  16u

static const char *const children[] = {"driver", "source", "backenddomain", "target", "readonly", NULL};
static const char *const driver_attrs[] = {"name", "type", "cache", "queues", NULL};

int disk_number(const char *dev, unsigned *devid)
{
    const char *letter = !strncmp(dev, "vd", 2) ? dev + 2 : !strncmp(dev, "xvd", 3) ? dev + 3 : "";

    if (*letter < 'a' || *letter >= 'a' + POLICY_DISKS_MAX || letter[1])
        return -EINVAL;
    *devid = DEVID_FIRST + DEVID_STEP * (unsigned)(*letter - 'a');
    return 0;
}

static int read_target(struct reader *r, xmlNode *node, struct domain_spec *spec, struct policy_disk *disk)
{
    xmlNode *target = reader_child(node, "target", 0);
    char bus[16];

    if (!target || reader_attr(target, "dev", disk->dev, sizeof(disk->dev)) == -ENOENT)
        return reader_refuse(r, reader_line(node), "this <disk> has no <target dev='...'/>");
    if (disk_number(disk->dev, &disk->devid))
        return reader_refuse(r, reader_line(target), "target dev must be vda to vdp");
    for (unsigned i = 0; i < spec->ndisks; i++)
        if (spec->disks[i].devid == disk->devid)
            return reader_refuse(r, reader_line(target), "target dev '%s' is used twice (first in line %u)",
                                 disk->dev, spec->disks[i].line);
    if (reader_attr(target, "bus", bus, sizeof(bus)) != -ENOENT && strcmp(bus, "virtio") != 0 &&
        strcmp(bus, "xen") != 0)
        return reader_refuse(r, reader_line(target), "bus of %s must be 'virtio' or 'xen'", disk->dev);
    return 0;
}

static int read_path(struct reader *r, xmlNode *node, struct policy_disk *disk)
{
    xmlNode *source = reader_child(node, "source", 0);
    const char *attr = disk->source == POLICY_SOURCE_FILE ? "file" : "dev";
    int rc;

    if (!source)
        return 0; /* right for a ram disk: disk_check_complete() */
    rc = reader_attr(source, attr, disk->path, sizeof(disk->path));
    if (rc == -E2BIG)
        return reader_refuse(r, reader_line(source), "the path of %s is longer than %d bytes", disk->dev,
                             POLICY_PATH_MAX - 1);
    if (rc || !*disk->path)
        return reader_refuse(r, reader_line(source), "<source> of %s has no %s='...'", disk->dev, attr);
    if (*disk->path != '/')
        return reader_refuse(r, reader_line(source), "the path of %s is relative: '%.100s' must begin with /",
                             disk->dev, disk->path);
    return 0;
}

int disk_read_cache(struct reader *r, xmlNode *node, struct policy_disk *disk)
{
    char text[32];

    if (reader_attr(node, "cache", text, sizeof(text)) == -ENOENT)
        return 0;
    if (strcmp(text, "none") != 0 && strcmp(text, "writeback") != 0)
        return reader_refuse(r, reader_line(node), "cache of %s must be 'none' or 'writeback'", disk->dev);
    disk->direct = !strcmp(text, "none");
    return 0;
}

/* Attributes that change nothing here are told; those that would lie are refused. */
static int read_driver(struct reader *r, xmlNode *node, struct policy_disk *disk)
{
    xmlNode *driver = reader_child(node, "driver", 0);
    char text[32];
    int rc;

    if (!driver)
        return 0;
    if (reader_attr(driver, "name", text, sizeof(text)) != -ENOENT && strcmp(text, "bulkhead") != 0)
        return reader_refuse(r, reader_line(driver), "driver name of %s must be 'bulkhead'", disk->dev);
    if (reader_attr(driver, "type", text, sizeof(text)) != -ENOENT && strcmp(text, "raw") != 0)
        return reader_refuse(r, reader_line(driver),
                             "driver type of %s must be 'raw': no other image format is served", disk->dev);
    rc = disk_read_cache(r, driver, disk);
    if (!rc)
        rc = reader_queues(r, driver, disk->dev, &disk->queues);
    if (!rc)
        reader_note_attrs(r, driver, driver_attrs);
    return rc;
}

int disk_read(struct reader *r, xmlNode *node, struct domain_spec *spec)
{
    xmlNode *backend = reader_child(node, "backenddomain", 0);
    struct policy_disk *disk;
    char text[32];
    int rc;

    if (!backend) {
        reader_note(r, reader_line(node), "a <disk> without <backenddomain> is not served by bulkhead");
        return 0;
    }
    if (spec->door == POLICY_DOOR_TAP)
        return reader_refuse(r, reader_line(node),
                             "a guest with door='tap' has no disks: use door='native', or a guest of its own "
                             "with door='nbd'");
    if (spec->ndisks == POLICY_DISKS_MAX)
        return reader_refuse(r, reader_line(node), "more than %d disks", POLICY_DISKS_MAX);
    disk = &spec->disks[spec->ndisks];
    *disk = (struct policy_disk){.weight = POLICY_WEIGHT_DEFAULT,
                                 .max_deaths = POLICY_DEATHS_DEFAULT,
                                 .line = (unsigned)reader_line(node)};
    rc = reader_once(r, node, children);
    if (rc)
        return rc;
    if (reader_attr(node, "device", text, sizeof(text)) != -ENOENT && strcmp(text, "disk") != 0)
        return reader_refuse(r, reader_line(node), "a <disk> with <backenddomain> must have device='disk'");
    reader_attr(node, "type", text, sizeof(text));
    disk->source = !strcmp(text, "file") ? POLICY_SOURCE_FILE : POLICY_SOURCE_BLOCK;
    if (strcmp(text, "file") != 0 && strcmp(text, "block") != 0)
        return reader_refuse(r, reader_line(node), "disk type must be 'file' or 'block', not '%s'", text);
    rc = reader_attr(backend, "name", disk->backend, sizeof(disk->backend));
    if (rc || !policy_name_ok(disk->backend))
        return reader_refuse(r, reader_line(backend),
                             "<backenddomain name='...'/> must name a driver domain");
    rc = read_target(r, node, spec, disk);
    if (!rc)
        rc = read_path(r, node, disk);
    if (!rc)
        rc = read_driver(r, node, disk);
    if (rc)
        return rc;
    disk->readonly = reader_child(node, "readonly", 0) != NULL;
    reader_note_children(r, node, children);
    spec->ndisks++;
    return 0;
}

/* ------------------------------------------------ <bulkhead:disk dev='vda' .../> */

static int hint_ram(struct reader *r, xmlNode *hint, struct policy_disk *disk)
{
    uint64_t bytes;
    int rc = reader_attr_number(hint, "ram", POLICY_RAM_MAX, &bytes);

    if (rc == -ENOENT)
        return 0;
    if (rc || bytes < POLICY_RAM_MIN || bytes % 4096)
        return reader_refuse(r, reader_line(hint),
                             "ram of %s must be a number of bytes, a multiple of 4096, from %llu to %llu",
                             disk->dev, (unsigned long long)POLICY_RAM_MIN,
                             (unsigned long long)POLICY_RAM_MAX);
    if (*disk->path)
        return reader_refuse(r, reader_line(hint), "%s has both ram and a <source>: keep one", disk->dev);
    disk->source = POLICY_SOURCE_RAM;
    disk->ram_bytes = bytes;
    return 0;
}

static int hint_timeout(struct reader *r, xmlNode *hint, struct policy_disk *disk)
{
    char text[32];
    uint64_t ms;
    int rc = reader_attr(hint, "timeout", text, sizeof(text));

    if (rc == -ENOENT)
        return 0;
    if (!rc)
        rc = units_seconds(text, POLICY_TIMEOUT_MAX, &ms);
    if (rc || ms < POLICY_TIMEOUT_MIN)
        return reader_refuse(r, reader_line(hint),
                             "timeout of %s must be a number of seconds from 0.1 to %u, with up to three "
                             "decimals",
                             disk->dev, POLICY_TIMEOUT_MAX / 1000);
    disk->timeout_ms = (unsigned)ms;
    return 0;
}

int disk_read_hint(struct reader *r, xmlNode *hint, struct policy_disk *disk)
{
    static const char *const known[] = {"dev",        "pool-pages", "grants", "weight",
                                        "max-deaths", "timeout",    "ram",    NULL};
    int rc = hint_only(r, hint, known);

    return rc ? rc : disk_read_hint_values(r, hint, disk);
}

int disk_read_hint_values(struct reader *r, xmlNode *hint, struct policy_disk *disk)
{
    int rc = hint_number(r, hint, "pool-pages", disk->dev, POLICY_POOL_PAGES_MIN, POLICY_POOL_PAGES_MAX,
                         &disk->pool_pages);

    if (!rc)
        rc = hint_number(r, hint, "weight", disk->dev, 1, POLICY_WEIGHT_MAX, &disk->weight);
    if (!rc)
        rc = hint_grants(r, hint, disk->dev, POLICY_GRANTS_MAP, &disk->grants);
    if (!rc)
        rc = hint_number(r, hint, "max-deaths", disk->dev, 1, POLICY_DEATHS_MAX, &disk->max_deaths);
    if (!rc)
        rc = hint_timeout(r, hint, disk);
    if (!rc)
        rc = hint_ram(r, hint, disk);
    return rc;
}

int disk_check_complete(struct reader *r, struct domain_spec *spec)
{
    for (unsigned i = 0; i < spec->ndisks; i++)
        if (spec->disks[i].source != POLICY_SOURCE_RAM && !*spec->disks[i].path)
            return reader_refuse(r, spec->disks[i].line, "disk %s has no <source>", spec->disks[i].dev);
    return 0;
}
