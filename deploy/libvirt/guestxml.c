/* SPDX-License-Identifier: MIT */
/* guestxml.c - what of a guest's XML is ours: found, added to, taken out. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <libxml/parser.h>
#include <libxml/xmlreader.h>

#include "../../policy/policy.h"
#include "bridge.h"

#define QUIETLY (XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_BIG_LINES)

/* ---------------------------------------------------------------- the tree */

/* ns NULL: libvirt's own elements have no namespace. */
static bool is_element(const xmlNode *n, const char *ns, const char *name)
{
    const char *href = n->ns ? (const char *)n->ns->href : NULL;

    if (n->type != XML_ELEMENT_NODE || strcmp((const char *)n->name, name) != 0)
        return false;
    return ns ? href && !strcmp(href, ns) : !href;
}

static xmlNode *child(const xmlNode *parent, const char *ns, const char *name)
{
    for (xmlNode *n = parent ? parent->children : NULL; n; n = n->next)
        if (is_element(n, ns, name))
            return n;
    return NULL;
}

/* Inside our element libvirt gives our namespace to what had none (virDomainSetMetadata). */
static xmlNode *child_of_either(const xmlNode *parent, const char *name)
{
    xmlNode *n = child(parent, NULL, name);

    return n ? n : child(parent, POLICY_NS, name);
}

/* An attribute into out, cut to cap; false: it is not there or empty. */
static bool attribute(const xmlNode *n, const char *name, char *out, size_t cap)
{
    xmlChar *value = n ? xmlGetNoNsProp(n, (const xmlChar *)name) : NULL;

    snprintf(out, cap, "%s", value ? (const char *)value : "");
    xmlFree(value);
    return *out;
}

static bool has_value(const xmlNode *n, const char *name, const char *value)
{
    char text[64];

    return attribute(n, name, text, sizeof(text)) && !strcmp(text, value);
}

static void set(xmlNode *n, const char *name, const char *value)
{
    char old[8];

    if (!attribute(n, name, old, sizeof(old)))
        xmlSetProp(n, (const xmlChar *)name, (const xmlChar *)value);
}

/* The child of that name, made where there is none; NULL: no memory. */
static xmlNode *need(xmlNode *parent, const char *name)
{
    xmlNode *n = child(parent, NULL, name);

    return n ? n : xmlNewChild(parent, NULL, (const xmlChar *)name, NULL);
}

static char *text_of(xmlNode *n)
{
    xmlBuffer *buf = xmlBufferCreate();
    char *text = NULL;

    if (buf && xmlNodeDump(buf, n->doc, n, 0, 1) > 0)
        text = strdup((const char *)xmlBufferContent(buf));
    xmlBufferFree(buf);
    return text;
}

/* ------------------------------------------------------------- whose is it */

bool guestxml_is_ours(const char *xml, size_t len)
{
    xmlTextReader *r = len <= BRIDGE_XML_MAX ? xmlReaderForMemory(xml, (int)len, NULL, NULL, QUIETLY) : NULL;
    bool ours = false;
    int more = r ? xmlTextReaderRead(r) : 0;

    while (more == 1 && !ours) {
        int depth = xmlTextReaderDepth(r), type = xmlTextReaderNodeType(r);
        const char *name = (const char *)xmlTextReaderConstLocalName(r);
        const char *ns = (const char *)xmlTextReaderConstNamespaceUri(r);
        bool enter = false;

        if (type == XML_READER_TYPE_DOCUMENT_TYPE)
            break;
        if (type == XML_READER_TYPE_ELEMENT && depth == 0)
            enter = !ns && !strcmp(name, "domain");
        else if (type == XML_READER_TYPE_ELEMENT && depth == 1)
            enter = !ns && !strcmp(name, "metadata");
        else if (type == XML_READER_TYPE_ELEMENT) /* of metadata: nothing else was entered */
            ours = ns && !strcmp(ns, POLICY_NS) && !strcmp(name, "domain");
        else
            enter = true;
        more = enter ? xmlTextReaderRead(r) : xmlTextReaderNext(r);
    }
    xmlFreeTextReader(r);
    return ours;
}

xmlDoc *guestxml_parse(const char *xml, size_t len)
{
    xmlDoc *doc =
        len <= BRIDGE_XML_MAX ? xmlReadMemory(xml, (int)len, NULL, NULL, QUIETLY | XML_PARSE_NOBLANKS) : NULL;
    const xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;

    if (root && !doc->intSubset && is_element(root, NULL, "domain"))
        return doc;
    xmlFreeDoc(doc);
    return NULL;
}

static xmlNode *our_element(xmlDoc *doc)
{
    return child(child(xmlDocGetRootElement(doc), NULL, "metadata"), POLICY_NS, "domain");
}

static xmlNode *our_device(xmlDoc *doc, bool disk, const char *dev)
{
    const xmlNode *ours = our_element(doc);

    for (xmlNode *n = ours ? ours->children : NULL; n; n = n->next)
        if (is_element(n, POLICY_NS, disk ? "disk" : "interface") && has_value(n, "dev", dev))
            return n;
    return NULL;
}

/* ------------------------------------------------------------ our element */

bool guestxml_names(xmlDoc *doc, bool disk, const char *dev)
{
    return our_device(doc, disk, dev);
}

static xmlNode *make_our_element(xmlDoc *doc)
{
    xmlNode *metadata = need(xmlDocGetRootElement(doc), "metadata");
    xmlNode *ours = metadata ? xmlNewChild(metadata, NULL, (const xmlChar *)"domain", NULL) : NULL;
    xmlNs *ns = ours ? xmlNewNs(ours, (const xmlChar *)POLICY_NS, (const xmlChar *)"bulkhead") : NULL;

    if (!ns)
        return NULL;
    xmlSetNs(ours, ns);
    xmlSetProp(ours, (const xmlChar *)"kind", (const xmlChar *)"guest");
    xmlSetProp(ours, (const xmlChar *)"door", (const xmlChar *)"vhost-user");
    return ours;
}

int guestxml_add(xmlDoc *doc, const char *element)
{
    xmlDoc *from = xmlReadMemory(element, (int)strlen(element), NULL, NULL, QUIETLY | XML_PARSE_NOBLANKS);
    xmlNode *what = from ? xmlDocGetRootElement(from) : NULL, *ours, *copy;
    int rc = -ENOMEM;

    if (!what || (!is_element(what, POLICY_NS, "disk") && !is_element(what, POLICY_NS, "interface"))) {
        xmlFreeDoc(from);
        return -EINVAL;
    }
    ours = our_element(doc);
    if (!ours)
        ours = make_our_element(doc);
    copy = ours ? xmlDocCopyNode(what, doc, 1) : NULL;
    if (copy && xmlAddChild(ours, copy))
        rc = 0;
    xmlFreeDoc(from);
    return rc;
}

bool guestxml_remove(xmlDoc *doc, bool disk, const char *dev)
{
    xmlNode *n = our_device(doc, disk, dev);

    if (!n)
        return false;
    xmlUnlinkNode(n);
    xmlFreeNode(n);
    return true;
}

/* Nothing points to our namespace any more ... */
static void leave_namespace(xmlNode *n)
{
    if (n->type != XML_ELEMENT_NODE)
        return;
    if (n->ns && !strcmp((const char *)n->ns->href, POLICY_NS))
        n->ns = NULL;
    for (xmlAttr *a = n->properties; a; a = a->next)
        if (a->ns && !strcmp((const char *)a->ns->href, POLICY_NS))
            a->ns = NULL;
    for (xmlNode *c = n->children; c; c = c->next)
        leave_namespace(c);
}

/* ... so that its declarations can go. */
static void drop_declarations(xmlNode *n)
{
    if (n->type != XML_ELEMENT_NODE)
        return;
    for (xmlNs **p = &n->nsDef; *p;) {
        xmlNs *ns = *p;

        if (strcmp((const char *)ns->href, POLICY_NS) != 0) {
            p = &ns->next;
            continue;
        }
        *p = ns->next;
        xmlFreeNs(ns);
    }
    for (xmlNode *c = n->children; c; c = c->next)
        drop_declarations(c);
}

char *guestxml_metadata(xmlDoc *doc)
{
    xmlNode *ours = our_element(doc);
    xmlDoc *alone = ours ? xmlNewDoc((const xmlChar *)"1.0") : NULL;
    xmlNode *copy = alone ? xmlDocCopyNode(ours, alone, 1) : NULL;
    char *text = NULL;

    if (copy) {
        xmlDocSetRootElement(alone, copy);
        leave_namespace(copy);
        drop_declarations(copy);
        text = text_of(copy);
    }
    xmlFreeDoc(alone);
    return text;
}

/* ------------------------------------------------------------ its devices */

/* Ours ends in /guests/NAME/DEV.sock. */
static bool is_socket_of(const char *path, const char *dev)
{
    const char *slash = strrchr(path, '/');
    size_t n = strlen(dev);

    return slash && strstr(path, "/guests/") && !strncmp(slash + 1, dev, n) &&
           !strcmp(slash + 1 + n, ".sock");
}

int guestxml_device(xmlDoc *doc, const char *dev, struct guestxml_device *out)
{
    const xmlNode *devices = child(xmlDocGetRootElement(doc), NULL, "devices");
    char path[POLICY_PATH_MAX];

    *out = (struct guestxml_device){.disk = false};
    for (xmlNode *n = devices ? devices->children : NULL; n; n = n->next) {
        out->disk = is_element(n, NULL, "disk");
        if (!out->disk && !is_element(n, NULL, "interface"))
            continue;
        if (!has_value(n, "type", "vhostuser") ||
            !attribute(child(n, NULL, "source"), "path", path, sizeof(path)) || !is_socket_of(path, dev))
            continue;
        snprintf(out->dev, sizeof(out->dev), "%s", dev);
        attribute(child(n, NULL, "alias"), "name", out->alias, sizeof(out->alias));
        out->xml = text_of(n);
        return out->xml ? 0 : -ENOMEM;
    }
    return -ENOENT;
}

/* ------------------------------------------------ what an operator leaves out */

/* What it is called, by its target or its socket. */
static bool device_name(const xmlNode *device, char *dev, size_t cap)
{
    char path[POLICY_PATH_MAX];
    const char *slash;
    size_t n;

    if (attribute(child(device, NULL, "target"), "dev", dev, cap))
        return true;
    if (!attribute(child(device, NULL, "source"), "path", path, sizeof(path)))
        return false;
    slash = strrchr(path, '/');
    slash = slash ? slash + 1 : path;
    n = strlen(slash);
    if (n <= 5 || strcmp(slash + n - 5, ".sock") != 0)
        return false;
    snprintf(dev, cap, "%.*s", (int)(n - 5), slash);
    return true;
}

/* One attribute of a child of our element for this device, into the same child of the device. */
static void borrow(xmlNode *device, const xmlNode *ours, const char *name, const char *attr)
{
    char value[64];
    xmlNode *n;

    if (attribute(child_of_either(ours, name), attr, value, sizeof(value)) && (n = need(device, name)))
        set(n, attr, value);
}

static int complete(xmlDoc *guest, xmlNode *device, const char *dev, const char *run_dir)
{
    bool disk = is_element(device, NULL, "disk");
    const xmlNode *ours = our_device(guest, disk, dev);
    xmlNode *source = need(device, "source"), *driver = need(device, "driver");
    xmlNode *reconnect = source ? need(source, "reconnect") : NULL;
    xmlNode *bus = need(device, disk ? "target" : "model");
    xmlChar *name = xmlNodeGetContent(child(xmlDocGetRootElement(guest), NULL, "name"));
    char path[POLICY_PATH_MAX], queues[16];

    if (!reconnect || !driver || !bus || !name) {
        xmlFree(name);
        return -ENOMEM;
    }
    snprintf(path, sizeof(path), "%s/guests/%s/%s.sock", run_dir, (const char *)name, dev);
    xmlFree(name);
    set(source, "type", "unix");
    set(source, "path", path);
    set(reconnect, "enabled", "yes");
    if (has_value(reconnect, "enabled", "yes"))
        set(reconnect, "timeout", "1");
    set(driver, "name", disk ? "qemu" : "vhost");
    if (ours && attribute(ours, "queues", queues, sizeof(queues)))
        set(driver, "queues", queues);
    set(bus, disk ? "bus" : "type", "virtio");
    if (disk) {
        set(device, "device", "disk");
        set(driver, "type", "raw");
    } else {
        set(source, "mode", "client");
        borrow(device, ours, "mac", "address");
        borrow(device, ours, "mtu", "size");
    }
    return 0;
}

static xmlDoc *read_device(const char *xml, size_t len, const char *file, char why[BRIDGE_WHY_MAX])
{
    xmlParserCtxt *ctxt = xmlNewParserCtxt();
    xmlDoc *doc =
        ctxt ? xmlCtxtReadMemory(ctxt, xml, (int)len, NULL, NULL, QUIETLY | XML_PARSE_NOBLANKS) : NULL;
    const xmlError *e = ctxt ? xmlCtxtGetLastError(ctxt) : NULL;
    const char *what = e && e->message ? e->message : "out of memory";

    if (!doc)
        snprintf(why, BRIDGE_WHY_MAX, "%.200s:%d: not well-formed XML: %.*s", file,
                 e && e->line > 0 ? e->line : 1, (int)strcspn(what, "\n"), what);
    xmlFreeParserCtxt(ctxt);
    return doc;
}

/* Whole, or not at all: NULL, and why says it. */
static xmlDoc *load_device(const char *xml, size_t len, const char *file, char why[BRIDGE_WHY_MAX])
{
    xmlDoc *doc;

    if (len > BRIDGE_XML_MAX) {
        snprintf(why, BRIDGE_WHY_MAX, "%.200s:1: the document is longer than %u bytes", file, BRIDGE_XML_MAX);
        return NULL;
    }
    doc = read_device(xml, len, file, why);
    if (doc && doc->intSubset) {
        snprintf(why, BRIDGE_WHY_MAX, "%.200s:1: a DOCTYPE is not allowed: remove it", file);
        xmlFreeDoc(doc);
        return NULL;
    }
    return doc;
}

static bool is_device(const xmlNode *n)
{
    return is_element(n, NULL, "disk") || is_element(n, NULL, "interface");
}

static int nameless(const xmlNode *device, const char *file, char why[BRIDGE_WHY_MAX])
{
    snprintf(why, BRIDGE_WHY_MAX,
             "%.200s:%ld: it does not say which device of the guest it is: add <target dev='%s'/>", file,
             xmlGetLineNo(device), is_element(device, NULL, "disk") ? "vda" : "eth0");
    return -EINVAL;
}

int guestxml_complete(xmlDoc *guest, const char *xml, size_t len, const char *file, const char *run_dir,
                      char **out, char why[BRIDGE_WHY_MAX])
{
    xmlDoc *doc = load_device(xml, len, file, why);
    xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
    char dev[16];
    int rc = 0;

    *out = NULL;
    if (!root)
        return -EINVAL;
    if (!is_device(root) || !has_value(root, "type", "vhostuser")) {
        *out = strndup(xml, len);
    } else if (!device_name(root, dev, sizeof(dev))) {
        rc = nameless(root, file, why);
    } else {
        rc = complete(guest, root, dev, run_dir);
        *out = rc ? NULL : text_of(root);
    }
    if (!rc && !*out)
        rc = -ENOMEM;
    if (rc == -ENOMEM)
        snprintf(why, BRIDGE_WHY_MAX, "%.200s: out of memory", file);
    xmlFreeDoc(doc);
    return rc;
}

/* The disk of ours that has this file or block device behind it. */
static bool find_by_path(xmlDoc *guest, const xmlNode *disk, char dev[16])
{
    const xmlNode *ours = our_element(guest), *source = child(disk, NULL, "source");
    char path[POLICY_PATH_MAX], other[POLICY_PATH_MAX];

    if (!attribute(source, "file", path, sizeof(path)) && !attribute(source, "dev", path, sizeof(path)))
        return false;
    for (const xmlNode *n = ours ? ours->children : NULL; n; n = n->next)
        if (is_element(n, POLICY_NS, "disk") &&
            (attribute(n, "file", other, sizeof(other)) || attribute(n, "block", other, sizeof(other))) &&
            !strcmp(path, other))
            return attribute(n, "dev", dev, 16);
    return false;
}

/* The interface of ours that has this address. */
static bool find_by_mac(xmlDoc *guest, const xmlNode *nic, char dev[16])
{
    const xmlNode *ours = our_element(guest);
    char mac[32], other[32];

    if (!attribute(child(nic, NULL, "mac"), "address", mac, sizeof(mac)))
        return false;
    for (const xmlNode *n = ours ? ours->children : NULL; n; n = n->next)
        if (is_element(n, POLICY_NS, "interface") &&
            attribute(child_of_either(n, "mac"), "address", other, sizeof(other)) && !strcasecmp(mac, other))
            return attribute(n, "dev", dev, 16);
    return false;
}

int guestxml_find(xmlDoc *guest, const char *xml, size_t len, const char *file, char dev[16],
                  char why[BRIDGE_WHY_MAX])
{
    xmlDoc *doc = load_device(xml, len, file, why);
    const xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
    int rc = root ? 0 : -EINVAL;

    if (root && !is_device(root)) {
        snprintf(why, BRIDGE_WHY_MAX, "%.200s:%ld: it is no <disk> and no <interface>", file,
                 xmlGetLineNo(root));
        rc = -EINVAL;
    } else if (root && has_value(root, "type", "vhostuser")) {
        if (!device_name(root, dev, 16))
            rc = nameless(root, file, why);
    } else if (root && !(is_element(root, NULL, "disk") ? find_by_path(guest, root, dev)
                                                        : find_by_mac(guest, root, dev))) {
        snprintf(why, BRIDGE_WHY_MAX,
                 "%.200s:%ld: the guest has no such %s on a driver domain: give its name instead of the file",
                 file, xmlGetLineNo(root),
                 is_element(root, NULL, "disk") ? "disk, by its <source>," : "NIC, by its <mac>,");
        rc = -ENOENT;
    }
    xmlFreeDoc(doc);
    return rc;
}
