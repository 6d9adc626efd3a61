/* SPDX-License-Identifier: MIT */
/*
 * plugged.c - <disk type='vhostuser'> and <interface type='vhostuser'> of a guest
 * with door='vhost-user': devices that are plugged in.  Those that are ours
 * complete what our metadata says of them.
 *
 * What libvirt or QEMU refuse late, or take and do not do, is refused here: for
 * disks libvirt's virDomainDiskVhostUserValidate() has the list.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "reader.h"

#define SOCKET_SUFFIX ".sock"

struct plugged {
    const char *word; /* disk, interface              */
    char path[POLICY_SOCKET_MAX];
    char dev[POLICY_IFNAME_MAX]; /* the socket's name; "" when it is not right */
    char target[POLICY_IFNAME_MAX];
    char backend[POLICY_NAME_MAX]; /* "" not said                  */
};

/* DEV of a path .../guests/NAME/DEV.sock. */
static bool socket_names(const char *path, const char *name, char dev[POLICY_IFNAME_MAX])
{
    const char *base = strrchr(path, '/');
    size_t n = base ? strlen(base + 1) : 0, suffix = strlen(SOCKET_SUFFIX);
    char folder[sizeof("/guests/") + POLICY_NAME_MAX];
    size_t f = (size_t)snprintf(folder, sizeof(folder), "/guests/%s", name);

    *dev = '\0';
    if (!base || *path != '/' || n <= suffix || n - suffix >= POLICY_IFNAME_MAX ||
        strcmp(base + 1 + n - suffix, SOCKET_SUFFIX) != 0)
        return false;
    if ((size_t)(base - path) < f || memcmp(base - f, folder, f) != 0)
        return false;
    memcpy(dev, base + 1, n - suffix);
    dev[n - suffix] = '\0';
    return true;
}

static int check_reconnect(struct reader *r, xmlNode *source, const char *dev)
{
    xmlNode *reconnect = reader_child(source, "reconnect", 0);
    uint64_t seconds;

    if (!reader_attr_is(reconnect, "enabled", "yes"))
        return reader_refuse(r, reader_line(source),
                             "<source> of %s has no <reconnect enabled='yes' timeout='1'/>: without it the "
                             "guest loses the device for good when its door is restarted",
                             dev);
    if (reader_attr_number(reconnect, "timeout", 3600, &seconds) || seconds == 0)
        return reader_refuse(r, reader_line(reconnect),
                             "timeout of <reconnect> of %s must be a number of seconds from 1 to 3600: "
                             "write '1'",
                             dev);
    return 0;
}

/* *ours: whether it is for us.  What all our devices in <devices> have. */
static int read_plugged(struct reader *r, xmlNode *node, const struct domain_spec *spec, struct plugged *p,
                        bool *ours)
{
    xmlNode *source = reader_child(node, "source", 0), *backend = reader_child(node, "backenddomain", 0);
    xmlNode *target = reader_child(node, "target", 0);
    const char *dev;
    int rc = source ? reader_attr(source, "path", p->path, sizeof(p->path)) : -ENOENT;

    *p->dev = *p->target = *p->backend = '\0';
    *ours = false;
    if (!reader_attr_is(node, "type", "vhostuser")) {
        if (!backend)
            return 0;
        return reader_refuse(r, reader_line(node),
                             "<%s> with <backenddomain> must have type='vhostuser' in a guest with "
                             "door='vhost-user': 'bulkhead convert' writes it",
                             p->word);
    }
    if (rc || !socket_names(p->path, spec->name, p->dev))
        *p->dev = '\0';
    if (!*p->dev && !backend)
        return 0;
    *ours = true;
    if (target)
        reader_attr(target, "dev", p->target, sizeof(p->target));
    dev = *p->target ? p->target : *p->dev ? p->dev : "DEV";
    if (!*p->dev)
        return reader_refuse(r, reader_line(source ? source : node),
                             "<source> of this <%s> must have path='/run/bulkhead/guests/%s/%s" SOCKET_SUFFIX
                             "', where /run/bulkhead is bulkheadd's run directory",
                             p->word, spec->name, dev);
    if (*p->target && strcmp(p->dev, p->target) != 0)
        return reader_refuse(r, reader_line(target),
                             "<target dev='%s'> does not fit the socket, which is that of %s: they must have "
                             "one name",
                             p->target, p->dev);
    if (!reader_attr_is(source, "type", "unix"))
        return reader_refuse(r, reader_line(source), "<source> of %s must have type='unix'", p->dev);
    if (!backend)
        return check_reconnect(r, source, p->dev);
    rc = reader_attr(backend, "name", p->backend, sizeof(p->backend));
    if (rc || !policy_name_ok(p->backend))
        return reader_refuse(r, reader_line(backend),
                             "<backenddomain name='...'/> must name a driver domain");
    return check_reconnect(r, source, p->dev);
}

/* What our metadata has of it is completed, and must not say something else. */
static int merge(struct reader *r, xmlNode *node, const struct plugged *p, char backend[POLICY_NAME_MAX],
                 char socket[POLICY_SOCKET_MAX], unsigned line)
{
    if (*socket)
        return reader_refuse(r, reader_line(node), "a second <%s> uses the socket of %s", p->word, p->dev);
    if (*p->backend && *backend && strcmp(p->backend, backend) != 0)
        return reader_refuse(r, reader_line(node),
                             "%s has <backenddomain name='%s'/>, but driver='%s' in our <%s> (line %u): make "
                             "them the same",
                             p->dev, p->backend, backend, p->word, line);
    if (*p->backend)
        memcpy(backend, p->backend, POLICY_NAME_MAX);
    memcpy(socket, p->path, POLICY_SOCKET_MAX);
    return 0;
}

static int merge_number(struct reader *r, xmlNode *node, const char *what, const char *dev, unsigned here,
                        unsigned *ours)
{
    if (here && *ours && here != *ours)
        return reader_refuse(r, reader_line(node),
                             "%s of %s is %u here and %u in our metadata: make them the "
                             "same",
                             what, dev, here, *ours);
    if (here)
        *ours = here;
    return 0;
}

static int unknown(struct reader *r, xmlNode *node, const struct plugged *p)
{
    return reader_refuse(r, reader_line(node),
                         "nothing is known of %s: add <%s dev='%s'%s/> to the <domain> of " POLICY_NS
                         " in <metadata>",
                         p->dev, p->word, p->dev, *p->word == 'd' ? " file='...'" : "");
}

/* What is refused in a device, and what to do. */
struct misplaced {
    const char *name;
    const char *advice;
};

static int refuse_misplaced(struct reader *r, xmlNode *node, bool attrs, const struct misplaced *list,
                            const struct plugged *p)
{
    for (; node && list->name; list++) {
        xmlNode *child = attrs ? NULL : reader_child(node, list->name, 0);

        if (attrs ? xmlHasNsProp(node, (const xmlChar *)list->name, NULL) != NULL : child != NULL)
            return reader_refuse(r, reader_line(child ? child : node),
                                 attrs ? "%s= of %s has no use for a vhost-user device: %s"
                                       : "<%s> of %s has no use in a vhost-user device: %s",
                                 list->name, p->dev, list->advice);
    }
    return 0;
}

/* A guest's own IOMMU would have to tell the door each mapping. */
static int check_iommu(struct reader *r, xmlNode *driver, const char *dev)
{
    if (reader_attr_is(driver, "iommu", "on"))
        return reader_refuse(r, reader_line(driver), "iommu='on' of %s is not supported: leave it out", dev);
    return 0;
}

static int check_disk(struct reader *r, xmlNode *node, const struct plugged *p)
{
    static const char leave[] = "leave it out, libvirt would refuse it";
    static const struct misplaced attrs[] = {
        {"cache", "write cache= in our <disk> in <metadata>"},
        {"io", "leave it out, a driver domain has one way to do I/O"},
        {"discard", "leave it out, discards always reach the image"},
        {"error_policy", "leave it out; max-deaths= and timeout= of our <disk> say when a request fails"},
        {"rerror_policy", "leave it out; max-deaths= and timeout= of our <disk> say when a request fails"},
        {"detect_zeroes", leave},
        {"copy_on_read", leave},
        {"iothread", "leave it out, the door has its own threads"},
        {"ioeventfd", leave},
        {NULL, NULL}};
    static const struct misplaced elements[] = {
        {"readonly", "write readonly='yes' in our <disk> in <metadata>"},
        {"iotune", "leave it out; weight= of our <disk> is its share of the driver domain"},
        {"shareable", "leave it out, an image is one disk of one guest"},
        {"serial", leave},
        {"wwn", leave},
        {"vendor", leave},
        {"product", leave},
        {"geometry", leave},
        {"blockio", leave},
        {"backingStore", leave},
        {"encryption", leave},
        {"auth", leave},
        {"transient", leave},
        {"mirror", leave},
        {NULL, NULL}};
    xmlNode *driver = reader_child(node, "driver", 0), *target = reader_child(node, "target", 0);
    char text[16];
    int rc = refuse_misplaced(r, driver, true, attrs, p);

    if (!rc)
        rc = refuse_misplaced(r, node, false, elements, p);
    if (!rc)
        rc = check_iommu(r, driver, p->dev);
    if (rc)
        return rc;
    if (!*p->target)
        return reader_refuse(r, reader_line(node), "this <disk> has no <target dev='%s' bus='virtio'/>",
                             p->dev);
    if (reader_attr(target, "bus", text, sizeof(text)) != -ENOENT && strcmp(text, "virtio") != 0)
        return reader_refuse(r, reader_line(target), "bus of %s must be 'virtio'", p->dev);
    if (reader_attr(node, "device", text, sizeof(text)) != -ENOENT && strcmp(text, "disk") != 0)
        return reader_refuse(r, reader_line(node), "%s must have device='disk'", p->dev);
    if (reader_attr(node, "snapshot", text, sizeof(text)) != -ENOENT && strcmp(text, "no") != 0)
        return reader_refuse(r, reader_line(node),
                             "snapshot of %s must be 'no': libvirt cannot make one of a vhost-user disk",
                             p->dev);
    if (driver && reader_attr(driver, "type", text, sizeof(text)) != -ENOENT && strcmp(text, "raw") != 0)
        return reader_refuse(r, reader_line(driver), "driver type of %s must be 'raw'", p->dev);
    return 0;
}

/* A disk that does not say how many queues it has gets one for each processor from QEMU. */
static int check_processors(struct reader *r, xmlNode *node, const struct plugged *p)
{
    xmlNode *vcpu = reader_child(node->parent->parent, "vcpu", 0);
    uint64_t n;
    char text[16];

    if (!vcpu || (reader_attr_number(vcpu, "current", UINT32_MAX, &n) &&
                  (reader_text(vcpu, text, sizeof(text)) || units_decimal(text, UINT32_MAX, &n))))
        return 0;
    if (n <= POLICY_VHOST_QUEUES_MAX)
        return 0;
    return reader_refuse(r, reader_line(node),
                         "%s has no <driver queues='...'>: QEMU would make a queue for each of the %u "
                         "processors, "
                         "and a door has %u: write queues='%u'",
                         p->dev, (unsigned)n, POLICY_VHOST_QUEUES_MAX, POLICY_QUEUES_MAX);
}

int plugged_disk(struct reader *r, xmlNode *node, struct domain_spec *spec)
{
    static const char *const once[] = {"driver", "source", "backenddomain", "target", NULL};
    xmlNode *driver = reader_child(node, "driver", 0);
    struct plugged p = {.word = "disk"};
    struct policy_disk *disk = NULL;
    unsigned queues = 0;
    bool ours;
    int rc = read_plugged(r, node, spec, &p, &ours);

    if (rc || !ours)
        return rc;
    rc = reader_once(r, node, once);
    if (!rc)
        rc = check_disk(r, node, &p);
    if (rc)
        return rc;
    for (unsigned i = 0; i < spec->ndisks; i++)
        if (!strcmp(spec->disks[i].dev, p.dev))
            disk = &spec->disks[i];
    if (!disk)
        return unknown(r, node, &p);
    rc = merge(r, node, &p, disk->backend, disk->socket, disk->line);
    if (!rc && driver)
        rc = reader_queues(r, driver, p.dev, &queues);
    if (!rc && !queues)
        rc = check_processors(r, node, &p);
    return rc ? rc : merge_number(r, node, "queues", p.dev, queues, &disk->queues);
}

static int check_nic(struct reader *r, xmlNode *node, const struct plugged *p)
{
    static const char move[] = "move it into our <interface> in <metadata>";
    static const char leave[] = "leave it out";
    static const struct misplaced elements[] = {{"vlan", move},
                                                {"bandwidth", move},
                                                {"port", move},
                                                {"filterref", "leave it out; frames with another source than "
                                                              "its <mac> are dropped in any case"},
                                                {"virtualport", leave},
                                                {"tune", leave},
                                                {"coalesce", leave},
                                                {NULL, NULL}};
    xmlNode *source = reader_child(node, "source", 0), *model = reader_child(node, "model", 0);
    char text[32];
    int rc = refuse_misplaced(r, node, false, elements, p);

    if (!rc)
        rc = check_iommu(r, reader_child(node, "driver", 0), p->dev);
    if (rc)
        return rc;
    if (!reader_attr_is(source, "mode", "client"))
        return reader_refuse(r, reader_line(source),
                             "<source> of %s must have mode='client': it is bulkhead that listens", p->dev);
    if (!model || reader_attr(model, "type", text, sizeof(text)) || strncmp(text, "virtio", 6) != 0)
        return reader_refuse(r, reader_line(model ? model : node), "%s must have <model type='virtio'/>",
                             p->dev);
    return 0;
}

static int merge_network(struct reader *r, xmlNode *node, struct domain_spec *spec, struct policy_nic *nic)
{
    static const uint8_t none[6];
    struct policy_nic here = *nic;
    bool given = memcmp(nic->mac, none, sizeof(none)) != 0;
    int rc;

    here.mtu = 0;
    rc = nic_read_mtu(r, node, &here);
    if (!rc)
        rc = merge_number(r, node, "mtu", nic->dev, here.mtu, &nic->mtu);
    if (rc || !reader_child(node, "mac", 0))
        return rc;
    memcpy(here.mac, nic->mac, sizeof(here.mac));
    rc = nic_read_mac(r, node, spec, nic);
    if (!rc && given && memcmp(here.mac, nic->mac, sizeof(here.mac)) != 0)
        rc =
            reader_refuse(r, reader_line(reader_child(node, "mac", 0)),
                          "the address of %s is another one in our <interface> (line %u): make them the same",
                          nic->dev, nic->line);
    return rc;
}

int plugged_nic(struct reader *r, xmlNode *node, struct domain_spec *spec)
{
    static const char *const once[] = {"mac",   "source", "backenddomain", "target",
                                       "model", "mtu",    "driver",        NULL};
    xmlNode *driver = reader_child(node, "driver", 0);
    struct plugged p = {.word = "interface"};
    struct policy_nic *nic = NULL;
    unsigned queues = 0;
    bool ours;
    int rc = read_plugged(r, node, spec, &p, &ours);

    if (rc || !ours)
        return rc;
    rc = reader_once(r, node, once);
    if (!rc)
        rc = check_nic(r, node, &p);
    if (rc)
        return rc;
    for (unsigned i = 0; i < spec->nnics; i++)
        if (!strcmp(spec->nics[i].dev, p.dev))
            nic = &spec->nics[i];
    if (!nic)
        return unknown(r, node, &p);
    rc = merge(r, node, &p, nic->backend, nic->socket, nic->line);
    if (!rc && driver)
        rc = reader_queues(r, driver, p.dev, &queues);
    if (!rc)
        rc = merge_number(r, node, "queues", p.dev, queues, &nic->queues);
    return rc ? rc : merge_network(r, node, spec, nic);
}
