/* SPDX-License-Identifier: MIT */
/*
 * attach.c - a disk or a NIC on a driver domain is plugged into a guest, and
 * unplugged: what is behind it goes into the guest's metadata, its door opens,
 * libvirt plugs it in; and back.  Both happen in the guest that runs and in its
 * definition, where there are such.  What cannot be done is undone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "../../policy/policy.h"
#include "../cli/convert.h"
#include "bridge.h"

/* The guest as it runs, and as it is defined. */
enum { LIVE, CONFIG, SIDES };

struct side {
    bool there;
    unsigned affects;
    xmlDoc *doc;
    char *xml;
    char *before; /* our metadata, as it was; NULL: none                 */
    bool changed; /* it is another now                                   */
};

struct patient {
    const struct bridge_options *opt;
    const char *name;
    virConnectPtr conn;
    virDomainPtr dom;
    struct side side[SIDES];
};

static const char *libvirt_why(void)
{
    const virError *e = virGetLastError();

    return e && e->message ? e->message : "libvirt does not say why";
}

static void no_words(void *opaque, virErrorPtr e)
{
    (void)opaque, (void)e;
}

/* ---------------------------------------------------------------- the guest */

static bool read_side(struct patient *p, struct side *s, unsigned flags)
{
    s->xml = virDomainGetXMLDesc(p->dom, flags);
    s->doc = s->xml ? guestxml_parse(s->xml, strlen(s->xml)) : NULL;
    if (!s->doc) {
        bridge_say("%s: its XML cannot be read: %s", p->name,
                   s->xml ? "not as libvirt writes it" : libvirt_why());
        return false;
    }
    s->before = guestxml_metadata(s->doc);
    s->there = true;
    return true;
}

static bool meet(struct patient *p)
{
    int active = -1, persistent = -1;

    virSetErrorFunc(NULL, no_words);
    if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0 ||
        !(p->conn = virConnectOpen(p->opt->uri))) {
        bridge_say("libvirt at %s cannot be reached: %s", p->opt->uri, libvirt_why());
        return false;
    }
    p->dom = virDomainLookupByName(p->conn, p->name);
    if (p->dom) {
        active = virDomainIsActive(p->dom);
        persistent = virDomainIsPersistent(p->dom);
    }
    if (active < 0 || persistent < 0) {
        bridge_say("%s: %s; see: virsh list --all", p->name, libvirt_why());
        return false;
    }
    p->side[LIVE].affects = VIR_DOMAIN_AFFECT_LIVE;
    p->side[CONFIG].affects = VIR_DOMAIN_AFFECT_CONFIG;
    if ((active && !read_side(p, &p->side[LIVE], 0)) ||
        (persistent && !read_side(p, &p->side[CONFIG], VIR_DOMAIN_XML_INACTIVE)))
        return false;
    if (!p->side[LIVE].there && !p->side[CONFIG].there) { /* it was transient */
        bridge_say("%s: it has just ended; see: virsh list --all", p->name);
        return false;
    }
    return true;
}

static void part(struct patient *p)
{
    for (int i = 0; i < SIDES; i++) {
        xmlFreeDoc(p->side[i].doc);
        free(p->side[i].xml);
        free(p->side[i].before);
    }
    if (p->dom)
        virDomainFree(p->dom);
    if (p->conn)
        virConnectClose(p->conn);
}

/* What is asked first: the guest that runs, else its definition. */
static struct side *first(struct patient *p)
{
    return &p->side[p->side[LIVE].there ? LIVE : CONFIG];
}

static unsigned affected(const struct patient *p)
{
    return (p->side[LIVE].there ? VIR_DOMAIN_AFFECT_LIVE : 0u) |
           (p->side[CONFIG].there ? VIR_DOMAIN_AFFECT_CONFIG : 0u);
}

/* ----------------------------------------------------------- its metadata */

/* text NULL: there is to be none. */
static bool put_metadata(struct patient *p, const struct side *s, const char *text)
{
    return virDomainSetMetadata(p->dom, VIR_DOMAIN_METADATA_ELEMENT, text, text ? "bulkhead" : NULL,
                                POLICY_NS, s->affects) == 0;
}

static bool write_metadata(struct patient *p, struct side *s, char why[BRIDGE_WHY_MAX])
{
    char *text = guestxml_metadata(s->doc);

    s->changed = text && put_metadata(p, s, text);
    if (!s->changed)
        snprintf(why, BRIDGE_WHY_MAX, "its metadata cannot be changed: %s",
                 text ? libvirt_why() : "out of memory");
    free(text);
    return s->changed;
}

/* The doors, as the guest's XML is now; nothing to do for a guest that does not run. */
static bool open_doors(struct patient *p, char why[BRIDGE_WHY_MAX])
{
    char *xml;
    int rc;

    if (!p->side[LIVE].there)
        return true;
    xml = virDomainGetXMLDesc(p->dom, 0);
    if (!xml) {
        snprintf(why, BRIDGE_WHY_MAX, "its XML cannot be read: %s", libvirt_why());
        return false;
    }
    rc = ask_open(p->opt, p->name, xml, why);
    free(xml);
    return rc == 0;
}

/* Says what is left where that fails too. */
static void undo(struct patient *p)
{
    char why[BRIDGE_WHY_MAX];
    bool live = p->side[LIVE].changed;

    for (int i = 0; i < SIDES; i++) {
        struct side *s = &p->side[i];

        if (s->changed && !put_metadata(p, s, s->before))
            bridge_say("%s: its metadata could not be put back: %s; see: virsh edit %s", p->name,
                       libvirt_why(), p->name);
    }
    if (live && p->side[LIVE].before && !open_doors(p, why))
        bridge_say("%s: its doors are not as they were: %s", p->name, why);
    else if (live && !p->side[LIVE].before && ask_close(p->opt, p->name, why))
        bridge_say("%s: its door is still open: %s", p->name, why);
}

/* ------------------------------------------------------------------- attach */

/* For free(); NULL: said why. */
static char *read_file(const char *path, size_t *bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *buf = malloc(BRIDGE_XML_MAX + 1);
    ssize_t n = -1;

    *bytes = 0;
    if (fd >= 0 && buf)
        while (*bytes <= BRIDGE_XML_MAX && (n = read(fd, buf + *bytes, BRIDGE_XML_MAX + 1 - *bytes)) > 0)
            *bytes += (size_t)n;
    if (fd < 0 || !buf || n < 0)
        bridge_say("cannot read %s: %s", path, strerror(errno));
    else if (*bytes > BRIDGE_XML_MAX)
        bridge_say("%s:1: the document is longer than %u bytes", path, BRIDGE_XML_MAX);
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && buf && n >= 0 && *bytes <= BRIDGE_XML_MAX)
        return buf;
    free(buf);
    return NULL;
}

/* What an operator wrote becomes what libvirt plugs in, and what stands behind it. */
static bool prepare_device(struct patient *p, const char *path, struct convert_result *device)
{
    static struct convert_notes notes; /* large */
    struct convert_options how = {.file = path, .run_dir = p->opt->run_dir};
    const struct side *s = first(p);
    char why[BRIDGE_WHY_MAX], *xml, *whole = NULL;
    size_t bytes;
    bool good;

    xml = read_file(path, &bytes);
    if (!xml)
        return false;
    good = !guestxml_complete(s->doc, xml, bytes, path, p->opt->run_dir, &whole, why);
    free(xml);
    if (!good) {
        bridge_say("%s: %s", p->name, why);
        return false;
    }
    good = !convert_device(whole, strlen(whole), s->xml, strlen(s->xml), &how, device, &notes);
    free(whole);
    for (unsigned i = 0; i < notes.n; i++)
        bridge_say("%s", notes.text[i]);
    if (!good) {
        bridge_say("%s: %s", p->name, notes.error);
    } else if (!device->metadata && !guestxml_names(s->doc, device->disk, device->dev)) {
        bridge_say(
            "%s: %s: no <bulkhead:%s dev='%s'> in the guest's metadata says what is behind it: add it there, "
            "or give an ordinary %s with <backenddomain>",
            p->name, path, device->disk ? "disk" : "interface", device->dev,
            device->disk ? "<disk type='file'>" : "<interface type='bridge'>");
        convert_free(device);
        good = false;
    }
    return good;
}

static bool add_metadata(struct patient *p, const struct convert_result *device, char why[BRIDGE_WHY_MAX])
{
    for (int i = 0; device->metadata && i < SIDES; i++) {
        struct side *s = &p->side[i];

        if (!s->there || guestxml_names(s->doc, device->disk, device->dev))
            continue;
        if (guestxml_add(s->doc, device->metadata)) {
            snprintf(why, BRIDGE_WHY_MAX, "its metadata cannot be changed: out of memory");
            return false;
        }
        if (!write_metadata(p, s, why))
            return false;
    }
    return true;
}

static void tell(const struct patient *p, const char *did, const char *dev, const char *to)
{
    json_t *out = p->opt->json ? json_pack("{s:s,s:s}", "name", p->name, "dev", dev) : NULL;

    if (out)
        json_dumpf(out, stdout, JSON_INDENT(2));
    else
        printf("%s %s %s %s", did, dev, to, p->name);
    putchar('\n');
    json_decref(out);
}

int attach_run(const struct bridge_options *opt, const char *guest, const char *path)
{
    struct patient p = {.opt = opt, .name = guest};
    struct convert_result device = {.disk = false};
    char why[BRIDGE_WHY_MAX] = "";
    bool good = meet(&p) && prepare_device(&p, path, &device);

    if (good) {
        good = add_metadata(&p, &device, why) && open_doors(&p, why);
        if (good && virDomainAttachDeviceFlags(p.dom, device.device, affected(&p)) < 0) {
            snprintf(why, sizeof(why), "%.1000s", libvirt_why());
            good = false;
        }
        if (!good) {
            undo(&p);
            bridge_say("%s: %s is not plugged in: %s", guest, device.dev, why);
        } else {
            tell(&p, "attached", device.dev, "to");
        }
        convert_free(&device);
    }
    part(&p);
    return good ? 0 : BRIDGE_FAILURE;
}

/* ------------------------------------------------------------------- detach */

struct wait {
    const char *alias;
    bool gone, refused, over;
};

static void on_removed(virConnectPtr conn, virDomainPtr dom, const char *alias, void *opaque)
{
    struct wait *w = opaque;

    (void)conn, (void)dom;
    w->gone = w->gone || !strcmp(alias, w->alias);
}

static void on_refused(virConnectPtr conn, virDomainPtr dom, const char *alias, void *opaque)
{
    struct wait *w = opaque;

    (void)conn, (void)dom;
    w->refused = w->refused || !strcmp(alias, w->alias);
}

static void on_time(int timer, void *opaque)
{
    (void)timer;
    ((struct wait *)opaque)->over = true;
}

static bool still_plugged_in(struct patient *p, const char *dev)
{
    char *xml = virDomainGetXMLDesc(p->dom, 0);
    xmlDoc *doc = xml ? guestxml_parse(xml, strlen(xml)) : NULL;
    struct guestxml_device d = {.xml = NULL};
    bool there = !doc || guestxml_device(doc, dev, &d) != -ENOENT;

    free(d.xml);
    xmlFreeDoc(doc);
    free(xml);
    return there;
}

/* Asks the guest to let go of it, and waits until it has. */
static bool unplug_live(struct patient *p, const struct guestxml_device *d, char why[BRIDGE_WHY_MAX])
{
    struct wait w = {.alias = d->alias};
    int timer = virEventAddTimeout((int)p->opt->timeout_s * 1000, on_time, &w, NULL);
    int removed = virConnectDomainEventRegisterAny(p->conn, p->dom, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
                                                   VIR_DOMAIN_EVENT_CALLBACK(on_removed), &w, NULL);
    int refused = virConnectDomainEventRegisterAny(p->conn, p->dom, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
                                                   VIR_DOMAIN_EVENT_CALLBACK(on_refused), &w, NULL);

    if (timer < 0 || removed < 0 || refused < 0 ||
        virDomainDetachDeviceFlags(p->dom, d->xml, VIR_DOMAIN_AFFECT_LIVE) < 0)
        snprintf(why, BRIDGE_WHY_MAX, "%.1000s", libvirt_why());
    else
        for (w.gone = !still_plugged_in(p, d->dev); !w.gone && !w.refused && !w.over;)
            if (virEventRunDefaultImpl() < 0)
                w.over = true;
    if (!*why && !w.gone)
        snprintf(why, BRIDGE_WHY_MAX,
                 "the guest %s: nothing was changed; try again when the guest does not use it",
                 w.refused ? "does not let go of it" : "has not let go of it in time");
    if (timer >= 0)
        virEventRemoveTimeout(timer);
    if (removed >= 0)
        virConnectDomainEventDeregisterAny(p->conn, removed);
    if (refused >= 0)
        virConnectDomainEventDeregisterAny(p->conn, refused);
    return w.gone;
}

/* From one side; a device that is not plugged in there is no failure. */
static bool unplug(struct patient *p, int i, const char *dev, bool *there, char why[BRIDGE_WHY_MAX])
{
    struct guestxml_device d = {.xml = NULL};
    int rc = p->side[i].there ? guestxml_device(p->side[i].doc, dev, &d) : -ENOENT;
    bool good = rc == 0 || rc == -ENOENT;

    if (!good)
        snprintf(why, BRIDGE_WHY_MAX, "out of memory");
    *there = *there || rc == 0;
    if (rc == 0 && i == LIVE) {
        good = unplug_live(p, &d, why);
    } else if (rc == 0 && virDomainDetachDeviceFlags(p->dom, d.xml, VIR_DOMAIN_AFFECT_CONFIG) < 0) {
        snprintf(why, BRIDGE_WHY_MAX, "%.1000s", libvirt_why());
        good = false;
    }
    free(d.xml);
    return good;
}

/* The metadata of what is unplugged, and then its door. */
static bool forget_device(struct patient *p, const char *dev, bool *there, char why[BRIDGE_WHY_MAX])
{
    for (int i = 0; i < SIDES; i++) {
        struct side *s = &p->side[i];

        if (!s->there || (!guestxml_remove(s->doc, true, dev) && !guestxml_remove(s->doc, false, dev)))
            continue;
        *there = true;
        if (!write_metadata(p, s, why))
            return false;
    }
    return !p->side[LIVE].changed || open_doors(p, why);
}

/* A file's name, or a device's; false: said why. */
static bool which_device(struct patient *p, const char *what, char dev[16])
{
    size_t bytes, n = strlen(what);
    char why[BRIDGE_WHY_MAX], *xml;
    int rc;

    if (!strchr(what, '/') && (n < 4 || strcmp(what + n - 4, ".xml") != 0)) {
        snprintf(dev, 16, "%s", what);
        return true;
    }
    xml = read_file(what, &bytes);
    rc = xml ? guestxml_find(first(p)->doc, xml, bytes, what, dev, why) : -EINVAL;
    if (xml && rc)
        bridge_say("%s: %s", p->name, why);
    free(xml);
    return rc == 0;
}

int detach_run(const struct bridge_options *opt, const char *guest, const char *what)
{
    struct patient p = {.opt = opt, .name = guest};
    char dev[16], why[BRIDGE_WHY_MAX] = "";
    bool there = false;
    bool good = meet(&p) && which_device(&p, what, dev);

    if (good) {
        good = unplug(&p, LIVE, dev, &there, why) && unplug(&p, CONFIG, dev, &there, why) &&
               forget_device(&p, dev, &there, why);
        if (!good) {
            bridge_say("%s: %s is not detached: %s", guest, dev, why);
        } else if (!there) {
            bridge_say("%s: it has no device %s on a driver domain; see: bulkhead info %s", guest, dev,
                       guest);
            good = false;
        } else {
            tell(&p, "detached", dev, "from");
        }
    }
    part(&p);
    return good ? 0 : BRIDGE_FAILURE;
}
