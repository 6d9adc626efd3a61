/* SPDX-License-Identifier: MIT */
/* convert_disk.c - an ordinary <disk> becomes a vhost-user one. */
#include <stdio.h>
#include <string.h>

#include "convert_tree.h"

struct plan {
    const char *name;   /* what the guest's XML calls it now */
    char dev[8];        /* what it will be called: vd        */
    unsigned letter;    /* and this one; 0 is a              */
    const char *driver; /* the driver domain                 */
    const char *path;
    bool block;
    const char *bus; /* now                               */
};

/* The bus that libvirt takes for a name when none is said. */
static const char *bus_of(const xmlNode *target, const char *name)
{
    const char *bus = tree_attr(target, "bus");

    if (bus)
        return bus;
    return !strncmp(name, "vd", 2)    ? "virtio"
           : !strncmp(name, "hd", 2)  ? "ide"
           : !strncmp(name, "xvd", 3) ? "xen"
           : !strncmp(name, "fd", 2)  ? "fdc"
                                      : "scsi";
}

/* sdb becomes vdb, or the first one that is free. */
static bool choose_name(const struct convert *c, struct plan *p)
{
    size_t n = strlen(p->name);
    unsigned letter = n ? (unsigned char)p->name[n - 1] - 'a' : POLICY_DISKS_MAX;
    bool plain = n == 3 && letter < POLICY_DISKS_MAX;
    /* A virtio disk is itself the one that took its name. */
    uint32_t taken =
        !strcmp(p->bus, "virtio") && !strncmp(p->name, "vd", 2) && c->ours ? c->behind : c->letters;

    if (!plain || taken & 1u << letter)
        for (letter = 0; letter < POLICY_DISKS_MAX && c->letters & 1u << letter; letter++)
            ;
    p->letter = letter % POLICY_DISKS_MAX;
    snprintf(p->dev, sizeof(p->dev), "vd%c", (char)('a' + p->letter));
    return letter < POLICY_DISKS_MAX;
}

static bool check_image(struct convert *c, const xmlNode *disk, const struct plan *p)
{
    const char *format = tree_attr(tree_child(disk, "driver"), "type");
    const xmlNode *chain = tree_child(disk, "backingStore");

    if (chain && (tree_attr(chain, "type") || tree_child(chain, "source")))
        return tree_stays(c, chain, p->name,
                          "its image stands on another one: make one image of the chain (qemu-img convert -O "
                          "raw %.80s NEW.img, with the guest off) and name that here",
                          p->path);
    if (format && strcmp(format, "raw") != 0)
        return tree_stays(c, disk, p->name,
                          "its image is %.20s, driver domains serve raw images only: with the guest off, "
                          "qemu-img convert -f %.20s -O raw %.80s NEW.img, and write type='raw' and NEW.img "
                          "here",
                          format, format, p->path);
    return true;
}

/* What a vhost-user disk cannot do at all, and a guest may rely on. */
static bool check_needs(struct convert *c, const xmlNode *disk, const struct plan *p)
{
    static const struct {
        const char *element, *why;
    } needs[] = {
        {"encryption", "its image is encrypted by QEMU, a driver domain would serve what is encrypted"},
        {"auth", "its source asks for a password"},
        {"shareable", "it is shared with other guests, and an image is one disk of one guest on a driver "
                      "domain"},
        {"transient", "what is written is to be thrown away, a driver domain would keep it"},
        {"mirror", "a copy of it is being made: let that end first"},
    };
    const xmlNode *source = tree_child(disk, "source");

    for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
        const xmlNode *found = tree_child(disk, needs[i].element);

        if (!found)
            found = tree_child(source, needs[i].element);
        if (found)
            return tree_stays(c, found, p->name, "%s", needs[i].why);
    }
    for (const xmlNode *n = source->children; n; n = n->next)
        if (n->type == XML_ELEMENT_NODE && !tree_is(n, "seclabel") && !tree_is(n, "privateData"))
            return tree_stays(c, n, p->name,
                              "its <source> has a <%.30s>, which a driver domain does not know",
                              (const char *)n->name);
    if (tree_attr_is(tree_child(disk, "driver"), "iommu", "on"))
        return tree_stays(c, disk, p->name, "iommu='on' is not supported by vhost-user devices of bulkhead");
    return true;
}

/* All that may be wrong is found before anything changes. */
static bool make_plan(struct convert *c, const xmlNode *disk, struct plan *p)
{
    const char *type = tree_attr(disk, "type"), *device = tree_attr(disk, "device");
    const xmlNode *source = tree_child(disk, "source"), *target = tree_child(disk, "target");

    *p = (struct plan){.name = tree_attr(target, "dev"), .bus = ""};
    if (!p->name)
        p->name = "disk";
    if (device && strcmp(device, "disk") != 0)
        return tree_stays(c, disk, p->name, "a %.20s is no disk of a driver domain", device);
    if (!type || (strcmp(type, "file") != 0 && strcmp(type, "block") != 0))
        return tree_stays(c, disk, p->name,
                          "a driver domain serves files and block devices, not type='%.20s'",
                          type ? type : "");
    p->block = *type == 'b';
    p->path = tree_attr(source, p->block ? "dev" : "file");
    if (!target || !*p->name)
        return tree_stays(c, disk, "disk", "it has no <target dev='...'>");
    if (!p->path || *p->path != '/' || strlen(p->path) >= POLICY_PATH_MAX)
        return tree_stays(c, disk, p->name, "its <source> names no image by a path that begins with /");
    if (!check_image(c, disk, p) || !check_needs(c, disk, p))
        return false;
    p->bus = bus_of(target, p->name);
    p->driver = convert_driver(disk, c->disk_driver);
    if (!p->driver)
        return tree_stays(c, disk, p->name, "its <backenddomain> does not name a driver domain");
    if (c->ndisks == POLICY_DISKS_MAX || !choose_name(c, p))
        return tree_stays(c, disk, p->name, "a guest has at most %d disks on driver domains, vda to vdp",
                          POLICY_DISKS_MAX);
    return true;
}

/* ------------------------------------------------------------------ changes */

static const char *convert_cache(struct convert *c, xmlNode *driver, const struct plan *p)
{
    const char *cache = tree_attr(driver, "cache"), *result = NULL;

    if (!cache)
        return NULL;
    if (!strcmp(cache, "none") || !strcmp(cache, "directsync"))
        result = "none";
    if (!strcmp(cache, "directsync") || !strcmp(cache, "writethrough"))
        tree_note(c, driver, p->dev,
                  "cache='%.20s' becomes '%s': the guest sees a write cache, and flushes it when it needs to",
                  cache, result ? result : "writeback");
    else if (!strcmp(cache, "unsafe"))
        tree_note(c, driver, p->dev, "cache='unsafe' becomes 'writeback': flushes are done");
    tree_unset(driver, "cache");
    return result;
}

static void drop_attributes(struct convert *c, xmlNode *disk, xmlNode *driver, const struct plan *p)
{
    static const struct {
        const char *name, *why;
    } of_driver[] = {
        {"io", "a driver domain has one way to do I/O"},
        {"discard", "discards of the guest always reach the image"},
        {"detect_zeroes", "zeroes are written as they come; the guest may discard"},
        {"error_policy", "the guest sees an I/O error of the image, and waits while its driver domain is "
                         "away"},
        {"rerror_policy", "the guest sees an I/O error of the image, and waits while its driver domain is "
                          "away"},
        {"copy_on_read", "it has no meaning for a raw image"},
        {"iothread", "QEMU does no I/O for this disk any more"},
        {"ioeventfd", "vhost-user devices always use one"},
    };
    static const char *const of_disk[] = {"sgio", "rawio", "model"};

    for (size_t i = 0; i < sizeof(of_driver) / sizeof(of_driver[0]); i++) {
        const char *value = tree_attr(driver, of_driver[i].name);

        if (!value)
            continue;
        tree_note(c, driver, p->dev, "%s='%.20s' is dropped: %s", of_driver[i].name, value, of_driver[i].why);
        tree_unset(driver, of_driver[i].name);
    }
    for (size_t i = 0; i < sizeof(of_disk) / sizeof(of_disk[0]); i++) {
        const char *value = tree_attr(disk, of_disk[i]);

        if (!value || !strncmp(value, "virtio", 6))
            continue;
        tree_note(c, disk, p->dev, "%s='%.20s' is dropped: it has no meaning for a vhost-user disk",
                  of_disk[i], value);
        tree_unset(disk, of_disk[i]);
    }
    if (tree_attr(disk, "snapshot") && !tree_attr_is(disk, "snapshot", "no")) {
        tree_note(c, disk, p->dev,
                  "snapshot='%.20s' is dropped: libvirt cannot make one of a vhost-user disk",
                  tree_attr(disk, "snapshot"));
        tree_unset(disk, "snapshot");
    }
}

static void drop_elements(struct convert *c, xmlNode *disk, const struct plan *p)
{
    static const struct {
        const char *name, *why;
    } dropped[] = {
        {"serial", "the guest sees no serial number: names below /dev/disk/by-id go away"},
        {"wwn", "virtio disks have none: names below /dev/disk/by-id go away"},
        {"vendor", "virtio disks have none"},
        {"product", "virtio disks have none"},
        {"geometry", "a vhost-user disk has none"},
        {"blockio", "the block size is the image's own"},
        {"iotune", "driver domains share by weight, see weight= of our <disk>"},
        {"seclabel", "bulkheadd opens the image, not QEMU"},
    };
    xmlNode *source = tree_child(disk, "source");

    for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++) {
        xmlNode *found = tree_child(disk, dropped[i].name);

        if (!found && !tree_child(source, dropped[i].name))
            continue;
        tree_note(c, found ? found : source, p->dev, "<%s> is dropped: %s", dropped[i].name, dropped[i].why);
        if (found)
            tree_remove(found);
    }
    if (tree_attr(source, "startupPolicy"))
        tree_note(c, source, p->dev, "startupPolicy is dropped: a guest does not start without its image");
    if (tree_child(disk, "backingStore")) /* empty: the end of a chain of one */
        tree_remove(tree_child(disk, "backingStore"));
    if (tree_child(tree_child(disk, "driver"), "metadata_cache"))
        tree_remove(tree_child(tree_child(disk, "driver"), "metadata_cache"));
}

static void change_bus(struct convert *c, xmlNode *disk, xmlNode *target, const struct plan *p)
{
    static const char *const of_target[] = {"tray", "removable", "rotation_rate"};
    xmlNode *address = tree_child(disk, "address");
    const char *kind = tree_attr(address, "type");
    bool other = strcmp(p->bus, "virtio") != 0;
    bool dropped = address && (other || !kind || !strcmp(kind, "drive") || !strcmp(kind, "usb"));

    if (other)
        tree_note(
            c, disk, p->dev,
            "was %.20s on bus %.10s, is a virtio disk now%s: the guest needs a virtio-blk driver, and what "
            "names /dev/%.20s (/etc/fstab, the boot loader) must name /dev/%s, or better a UUID or label",
            p->name, p->bus, dropped ? ", its address is dropped" : "", p->name, p->dev);
    else if (strcmp(p->name, p->dev) != 0)
        tree_note(c, disk, p->dev, "was %.20s: a disk on a driver domain is one of vda to vdp", p->name);
    if (dropped)
        tree_remove(address);
    for (size_t i = 0; i < sizeof(of_target) / sizeof(of_target[0]); i++)
        if (tree_unset(target, of_target[i]))
            tree_note(c, target, p->dev, "%s is dropped: virtio disks have none", of_target[i]);
    tree_set(c, target, "dev", p->dev);
    tree_set(c, target, "bus", "virtio");
}

bool convert_disk(struct convert *c, xmlNode *disk)
{
    xmlNode *target = tree_child(disk, "target"), *driver, *ours, *readonly;
    char path[POLICY_PATH_MAX], driver_domain[POLICY_NAME_MAX], name[64], queues[16];
    const char *cache;
    struct plan p;
    unsigned n;

    if (!make_plan(c, disk, &p))
        return false;
    /* What the plan points to goes away below. */
    snprintf(path, sizeof(path), "%s", p.path);
    snprintf(driver_domain, sizeof(driver_domain), "%s", p.driver);
    snprintf(name, sizeof(name), "%.60s", p.name);
    p.path = path, p.driver = driver_domain, p.name = name;

    drop_elements(c, disk, &p);
    driver = tree_ensure(c, disk, "driver");
    cache = convert_cache(c, driver, &p);
    drop_attributes(c, disk, driver, &p);
    change_bus(c, disk, target, &p);
    n = convert_queues(c, disk, p.dev);
    if (!n && c->processors > POLICY_VHOST_QUEUES_MAX) {
        n = POLICY_QUEUES_MAX;
        tree_note(c, disk, p.dev,
                  "gets queues='%u': QEMU would make one for each processor, and a door has %u", n,
                  POLICY_VHOST_QUEUES_MAX);
    }
    tree_set(c, driver, "name", "qemu");
    tree_set(c, driver, "type", "raw");
    tree_set(c, disk, "type", "vhostuser");
    tree_set(c, disk, "device", "disk");
    convert_source(c, disk, p.dev, false, p.driver);
    readonly = tree_child(disk, "readonly");

    ours = convert_metadata(c, "disk", p.dev, p.driver);
    if (n) {
        snprintf(queues, sizeof(queues), "%u", n);
        tree_set(c, ours, "queues", queues);
        tree_set(c, driver, "queues", queues);
    }
    tree_set(c, ours, p.block ? "block" : "file", p.path);
    if (cache)
        tree_set(c, ours, "cache", cache);
    if (readonly) {
        tree_set(c, ours, "readonly", "yes");
        tree_remove(readonly);
    }
    c->letters |= 1u << p.letter;
    c->behind |= 1u << p.letter;
    c->ndisks++;
    c->disks_changed = true;
    c->notes->converted++;
    return true;
}
