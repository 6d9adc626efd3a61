/* SPDX-License-Identifier: MIT */
/* convert.c - the domain around its devices: who it is, its memory, our metadata. */
#include "convert.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libxml/SAX2.h>
#include <libxml/parser.h>
#include <libxml/xmlerror.h>

#include "convert_tree.h"

__attribute__((format(printf, 3, 4))) static int refuse(struct convert_notes *notes, int rc, const char *fmt,
                                                        ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(notes->error, sizeof(notes->error), fmt, ap);
    va_end(ap);
    policy_clean_text(notes->error);
    return rc;
}

/* ------------------------------------------------------------------- reading */

struct reading {
    struct convert_notes *notes;
    const char *file;
};

/* A DOCTYPE stops the parser before a single declaration is read. */
static void refuse_doctype(void *ctx, const xmlChar *name, const xmlChar *ext, const xmlChar *sys)
{
    xmlParserCtxt *ctxt = ctx;
    struct reading *r = ctxt->_private;

    (void)name, (void)ext, (void)sys;
    if (!*r->notes->error)
        refuse(r->notes, 0, "%.150s:%d: a DOCTYPE is not allowed: remove it", r->file,
               xmlSAX2GetLineNumber(ctxt));
    xmlStopParser(ctxt);
}

static void keep_first(void *ctx, xmlError *e)
{
    struct reading *r = ((xmlParserCtxt *)ctx)->_private;
    const char *what = e->message ? e->message : "not readable";

    if (!*r->notes->error && e->level >= XML_ERR_ERROR)
        refuse(r->notes, 0, "%.150s:%d: not well-formed XML: %.*s", r->file, e->line > 0 ? e->line : 1,
               (int)strcspn(what, "\n"), what);
}

static xmlDoc *load(const char *xml, size_t len, const char *file, struct convert_notes *notes)
{
    struct reading r = {notes, file};
    xmlParserCtxt *ctxt;
    xmlDoc *doc;

    if (len > CONVERT_XML_MAX) {
        refuse(notes, 0, "%.150s:1: the document is longer than %u bytes", file, CONVERT_XML_MAX);
        return NULL;
    }
    ctxt = xmlNewParserCtxt();
    if (!ctxt) {
        refuse(notes, 0, "out of memory");
        return NULL;
    }
    ctxt->_private = &r;
    ctxt->sax->internalSubset = refuse_doctype;
    ctxt->sax->serror = keep_first;
    doc = xmlCtxtReadMemory(ctxt, xml, (int)len, NULL, NULL,
                            XML_PARSE_NONET | XML_PARSE_BIG_LINES | XML_PARSE_NOENT);
    if (doc && *notes->error) {
        xmlFreeDoc(doc);
        doc = NULL;
    }
    if (!doc && !*notes->error)
        refuse(notes, 0, "%.150s:1: not well-formed XML", file);
    xmlFreeParserCtxt(ctxt);
    return doc;
}

static bool is_ours(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && node->ns && node->ns->href &&
           !strcmp((const char *)node->ns->href, POLICY_NS) && !strcmp((const char *)node->name, name);
}

/* ------------------------------------------------------------- the guest itself */

static int read_text(const xmlNode *node, char *buf, size_t cap)
{
    xmlChar *text = node ? xmlNodeGetContent(node) : NULL;
    const char *from = text ? (const char *)text + strspn((const char *)text, " \t\r\n") : "";
    size_t n = strcspn(from, " \t\r\n");
    bool fits = n < cap && strspn(from + n, " \t\r\n") == strlen(from + n);

    snprintf(buf, cap, "%.*s", fits ? (int)n : 0, from);
    xmlFree(text);
    return fits ? 0 : -EINVAL;
}

static int read_guest(struct convert *c, const xmlNode *root)
{
    const xmlNode *name = tree_child(root, "name");
    const char *type = tree_attr(root, "type");
    const char *current = tree_attr(tree_child(root, "vcpu"), "current");
    char processors[16];

    if (!tree_is(root, "domain"))
        return refuse(c->notes, -EINVAL, "%.150s:%ld: the outermost element must be libvirt's <domain>",
                      c->file, xmlGetLineNo(root));
    if (!type || (strcmp(type, "kvm") != 0 && strcmp(type, "qemu") != 0))
        return refuse(c->notes, -EINVAL,
                      "%.150s:%ld: only a <domain type='kvm'> or 'qemu' can have vhost-user devices", c->file,
                      xmlGetLineNo(root));
    if (read_text(name, c->guest, sizeof(c->guest)) || !policy_name_ok(c->guest))
        return refuse(c->notes, -EINVAL,
                      "%.150s:%ld: the <name> of a guest on driver domains has 1 to %d characters of A-Z a-z "
                      "0-9 . _ - and begins with a letter or digit: virsh domrename",
                      c->file, xmlGetLineNo(name ? name : root), POLICY_NAME_MAX - 1);
    if (current)
        snprintf(processors, sizeof(processors), "%.15s", current);
    else if (read_text(tree_child(root, "vcpu"), processors, sizeof(processors)))
        *processors = '\0';
    if (!tree_number(processors, 1, UINT32_MAX, &c->processors))
        c->processors = 0;
    if (read_text(tree_child(root, "uuid"), c->uuid, sizeof(c->uuid)))
        *c->uuid = '\0';
    if (tree_child(root, "launchSecurity"))
        return refuse(c->notes, -EINVAL,
                      "%.150s:%ld: the guest's memory is encrypted (<launchSecurity>): nobody could serve "
                      "its devices from outside",
                      c->file, xmlGetLineNo(tree_child(root, "launchSecurity")));
    return 0;
}

static void note_device(struct convert *c, const xmlNode *node)
{
    const char *dev = tree_attr(node, "dev");

    if (!dev)
        return;
    if (is_ours(node, "disk")) {
        size_t n = strlen(dev);

        c->ndisks++;
        if (n && dev[n - 1] >= 'a' && dev[n - 1] < 'a' + POLICY_DISKS_MAX) {
            c->letters |= 1u << (dev[n - 1] - 'a');
            c->behind |= 1u << (dev[n - 1] - 'a');
        }
    } else if (is_ours(node, "interface") && c->nnics < POLICY_NICS_MAX) {
        snprintf(c->nics[c->nnics++], POLICY_IFNAME_MAX, "%.15s", dev);
    }
}

/* Names that are taken, in <devices> and in our metadata.  Finds our <domain>. */
static int read_taken(struct convert *c, const xmlNode *root, xmlNode **found)
{
    const xmlNode *metadata = tree_child(root, "metadata"), *devices = tree_child(root, "devices");

    *found = NULL;
    for (xmlNode *n = metadata ? metadata->children : NULL; n; n = n->next)
        if (is_ours(n, "domain"))
            *found = n;
    if (*found && (!tree_attr_is(*found, "kind", "guest") || !tree_attr_is(*found, "door", "vhost-user")))
        return refuse(c->notes, -EINVAL, "%.150s:%ld: it is a domain of bulkhead of another kind already",
                      c->file, xmlGetLineNo(*found));
    if (*found && !(*found)->ns->prefix)
        return refuse(c->notes, -EINVAL,
                      "%.150s:%ld: give the namespace of our <domain> a prefix: "
                      "xmlns:bulkhead='" POLICY_NS "'",
                      c->file, xmlGetLineNo(*found));
    for (const xmlNode *n = *found ? (*found)->children : NULL; n; n = n->next)
        note_device(c, n);
    for (const xmlNode *n = tree_child(devices, "disk"); n; n = tree_next(n, "disk")) {
        const char *dev = tree_attr(tree_child(n, "target"), "dev");

        if (dev && strlen(dev) == 3 && !strncmp(dev, "vd", 2) && dev[2] >= 'a' &&
            dev[2] < 'a' + POLICY_DISKS_MAX)
            c->letters |= 1u << (dev[2] - 'a');
    }
    return 0;
}

/* QEMU's memory must be mapped by the door as well. */
static void share_memory(struct convert *c, xmlNode *root)
{
    xmlNode *backing = tree_child(root, "memoryBacking"), *memory = tree_child(root, "memory");
    xmlNode *source, *access, *after;
    xmlNode *numa = tree_child(tree_child(root, "cpu"), "numa"), *devices = tree_child(root, "devices");

    if (!backing) {
        after = tree_child(root, "currentMemory") ? tree_child(root, "currentMemory") : memory;
        backing = after ? tree_add_after(c, after, "memoryBacking") : tree_add(c, root, "memoryBacking");
    }
    source = tree_child(backing, "source");
    if (!source && !tree_child(backing, "hugepages"))
        tree_set(c, tree_add(c, backing, "source"), "type", "memfd");
    else if (tree_attr_is(source, "type", "anonymous"))
        tree_set(c, source, "type", "memfd");
    access = tree_child(backing, "access");
    if (!tree_attr_is(access, "mode", "shared")) {
        tree_note(c, memory ? memory : root, NULL,
                  "the guest's memory is shared with its devices now: <access mode='shared'/>");
        if (!access)
            access = tree_add(c, backing, "access");
        tree_set(c, access, "mode", "shared");
    }
    for (xmlNode *cell = tree_child(numa, "cell"); cell; cell = tree_next(cell, "cell")) {
        if (!tree_attr_is(cell, "memAccess", "private"))
            continue;
        tree_note(c, cell, NULL, "memAccess='private' of a NUMA <cell> becomes 'shared'");
        tree_set(c, cell, "memAccess", "shared");
    }
    for (xmlNode *dimm = tree_child(devices, "memory"); dimm; dimm = tree_next(dimm, "memory")) {
        if (!tree_attr_is(dimm, "access", "private"))
            continue;
        tree_note(c, dimm, NULL, "access='private' of a <memory> device becomes 'shared'");
        tree_set(c, dimm, "access", "shared");
    }
}

/* -------------------------------------------------- what both kinds of devices need */

const char *convert_driver(const xmlNode *device, const char *fallback)
{
    const xmlNode *backend = tree_child(device, "backenddomain");
    const char *name = backend ? tree_attr(backend, "name") : fallback;

    return name && policy_name_ok(name) ? name : NULL;
}

unsigned convert_queues(struct convert *c, xmlNode *device, const char *dev)
{
    xmlNode *driver = tree_child(device, "driver");
    const char *text = tree_attr(driver, "queues");
    char most[16];
    uint64_t n;

    if (!text)
        return 0;
    if (tree_number(text, 1, POLICY_QUEUES_MAX, &n))
        return (unsigned)n;
    tree_note(c, driver, dev, "queues='%.20s' becomes '%u': a driver domain serves that many", text,
              POLICY_QUEUES_MAX);
    snprintf(most, sizeof(most), "%u", POLICY_QUEUES_MAX);
    tree_set(c, driver, "queues", most);
    return POLICY_QUEUES_MAX;
}

void convert_source(struct convert *c, xmlNode *device, const char *dev, bool client, const char *driver)
{
    xmlNode *source = tree_child(device, "source"), *backend, *reconnect;
    xmlNode *mac = tree_child(device, "mac");
    char path[4200];

    if (source)
        tree_empty(source);
    else
        source = mac ? tree_add_after(c, mac, "source") : tree_add(c, device, "source");
    snprintf(path, sizeof(path), "%.4000s/guests/%s/%s.sock", c->run_dir, c->guest, dev);
    tree_set(c, source, "type", "unix");
    tree_set(c, source, "path", path);
    if (client)
        tree_set(c, source, "mode", "client");
    reconnect = tree_add(c, source, "reconnect");
    tree_set(c, reconnect, "enabled", "yes");
    tree_set(c, reconnect, "timeout", "1");
    backend = tree_child(device, "backenddomain");
    if (!backend)
        backend = tree_add_after(c, source, "backenddomain");
    tree_set(c, backend, "name", driver);
}

xmlNode *convert_metadata(struct convert *c, const char *name, const char *dev, const char *driver)
{
    xmlNode *node =
        c->ours ? tree_add(c, c->ours, name) : xmlNewDocNode(c->doc, NULL, (const xmlChar *)name, NULL);
    xmlNs *ns = !node     ? NULL
                : c->ours ? c->ours->ns
                          : xmlNewNs(node, (const xmlChar *)POLICY_NS, (const xmlChar *)"bulkhead");

    if (!ns) {
        c->no_memory = true;
        if (!c->ours)
            xmlFreeNode(node);
        return NULL;
    }
    xmlSetNs(node, ns);
    tree_set(c, node, "dev", dev);
    tree_set(c, node, "driver", driver);
    c->made = node;
    snprintf(c->made_dev, sizeof(c->made_dev), "%s", dev);
    return node;
}

/* Whether a vhost-user device is one of ours: by its socket, or because it says so. */
static bool is_converted(const struct convert *c, const xmlNode *device)
{
    const char *path = tree_attr(tree_child(device, "source"), "path");
    char folder[64];

    snprintf(folder, sizeof(folder), "/guests/%s/", c->guest);
    return tree_child(device, "backenddomain") || (path && strstr(path, folder));
}

static void convert_one(struct convert *c, xmlNode *device, bool (*convert)(struct convert *, xmlNode *))
{
    if (!tree_attr_is(device, "type", "vhostuser"))
        convert(c, device);
    else if (is_converted(c, device))
        c->notes->already++;
    else
        tree_stays(c, device, tree_is(device, "disk") ? "disk" : "interface",
                   "it is a vhost-user device of another program");
}

/* ------------------------------------------------------------------- the whole */

/* Our <domain>, made where it is missing. */
static xmlNode *make_ours(struct convert *c, xmlNode *root)
{
    xmlNode *metadata = tree_child(root, "metadata"), *after, *node;
    xmlNs *ns;

    if (!metadata) {
        after = tree_child(root, "uuid") ? tree_child(root, "uuid") : tree_child(root, "name");
        metadata = tree_add_after(c, after, "metadata");
    }
    node = tree_add(c, metadata, "domain");
    ns = node ? xmlNewNs(node, (const xmlChar *)POLICY_NS, (const xmlChar *)"bulkhead") : NULL;
    if (!ns) {
        c->no_memory = true;
        return NULL;
    }
    xmlSetNs(node, ns);
    tree_set(c, node, "kind", "guest");
    tree_set(c, node, "door", "vhost-user");
    return node;
}

static void convert_devices(struct convert *c, xmlNode *root)
{
    xmlNode *devices = tree_child(root, "devices"), *next;

    for (xmlNode *n = devices ? devices->children : NULL; n && !c->no_memory; n = next) {
        next = n->next;
        if (tree_is(n, "disk"))
            convert_one(c, n, convert_disk);
        else if (tree_is(n, "interface"))
            convert_one(c, n, convert_nic);
    }
    if (!c->notes->converted)
        return;
    share_memory(c, root);
    tree_note(c, root, NULL, "live migration and saving to a file are not possible with vhost-user devices%s",
              c->disks_changed ? ", nor are snapshots and block jobs of these disks" : "");
}

/* Written as it was read: with an XML declaration only where there was one. */
static char *write_document(xmlDoc *doc, bool declared)
{
    xmlBuffer *buf = xmlBufferCreate();
    char *out = NULL;

    if (buf && declared) {
        xmlChar *text = NULL;
        int n;

        xmlDocDumpMemory(doc, &text, &n);
        xmlBufferFree(buf);
        out = text ? strdup((const char *)text) : NULL;
        xmlFree(text);
        return out;
    }
    for (xmlNode *n = buf ? doc->children : NULL; n; n = n->next)
        if (xmlNodeDump(buf, doc, n, 0, 0) < 0 || xmlBufferAdd(buf, (const xmlChar *)"\n", 1))
            goto done;
    if (buf)
        out = strdup((const char *)xmlBufferContent(buf));
done:
    xmlBufferFree(buf);
    return out;
}

static void begin(struct convert *c, const struct convert_options *opt, struct convert_notes *notes)
{
    *c = (struct convert){
        .file = opt->file ? opt->file : "-",
        .run_dir = opt->run_dir ? opt->run_dir : "/run/bulkhead",
        .disk_driver = opt->disk_driver ? opt->disk_driver : "disk0",
        .net_driver = opt->net_driver ? opt->net_driver : "net0",
        .notes = notes,
    };
    notes->n = notes->converted = notes->already = notes->left = 0;
    *notes->error = '\0';
}

static int check_options(struct convert *c)
{
    if (!policy_name_ok(c->disk_driver) || !policy_name_ok(c->net_driver))
        return refuse(c->notes, -EINVAL,
                      "a driver domain's name has 1 to %d characters of A-Z a-z 0-9 . _ - and "
                      "begins with a letter or digit",
                      POLICY_NAME_MAX - 1);
    /* /guests/NAME/DEV.sock behind it must fit in a socket's address. */
    if (*c->run_dir != '/' ||
        strlen(c->run_dir) + strlen("/guests/") + strlen(c->guest) + strlen("/eth10.sock") >=
            POLICY_SOCKET_MAX)
        return refuse(c->notes, -EINVAL,
                      "the run directory %.60s must begin with / and be short enough for sockets' addresses",
                      c->run_dir);
    return 0;
}

int convert_domain(const char *xml, size_t len, const struct convert_options *opt, char **out,
                   struct convert_notes *notes)
{
    struct convert c;
    xmlNode *root, *ours;
    xmlDoc *doc;
    int rc;

    *out = NULL;
    begin(&c, opt, notes);
    doc = load(xml, len, c.file, notes);
    if (!doc)
        return -EINVAL;
    root = xmlDocGetRootElement(doc);
    rc = read_guest(&c, root);
    if (!rc)
        rc = check_options(&c);
    if (!rc)
        rc = read_taken(&c, root, &ours);
    if (!rc) {
        c.ours = ours ? ours : make_ours(&c, root);
        convert_devices(&c, root);
        if (!c.no_memory)
            *out = notes->converted ? write_document(doc, len >= 5 && !memcmp(xml, "<?xml", 5))
                                    : strndup(xml, len);
        if (*out && notes->converted && tree_has_single_quotes(xml, len))
            tree_use_single_quotes(*out);
        if (!*out)
            rc = refuse(notes, -ENOMEM, "out of memory");
    }
    xmlFreeDoc(doc);
    return rc;
}

/* ------------------------------------------------------------------ one device */

static char *write_node(xmlDoc *doc, xmlNode *node)
{
    xmlBuffer *buf = node ? xmlBufferCreate() : NULL;
    char *out = NULL;

    if (buf && xmlNodeDump(buf, doc, node, 0, 0) >= 0)
        out = strdup((const char *)xmlBufferContent(buf));
    xmlBufferFree(buf);
    return out;
}

static int name_of_vhostuser(struct convert *c, const xmlNode *device, char dev[POLICY_IFNAME_MAX])
{
    const char *path = tree_attr(tree_child(device, "source"), "path");
    const char *base = path ? strrchr(path, '/') : NULL;
    size_t n = base ? strlen(++base) : 0;

    if (!is_converted(c, device))
        return refuse(c->notes, -EINVAL,
                      "%.150s:%ld: it is a vhost-user device of another program: use virsh "
                      "attach-device",
                      c->file, xmlGetLineNo(device));
    if (n <= 5 || n - 5 >= POLICY_IFNAME_MAX || strcmp(base + n - 5, ".sock") != 0)
        return refuse(c->notes, -EINVAL, "%.150s:%ld: its <source> must have path='%.60s/guests/%s/DEV.sock'",
                      c->file, xmlGetLineNo(device), c->run_dir, c->guest);
    snprintf(dev, POLICY_IFNAME_MAX, "%.*s", (int)(n - 5), base);
    return 0;
}

static int convert_device_node(struct convert *c, xmlDoc *doc, struct convert_result *result)
{
    xmlNode *device = xmlDocGetRootElement(doc);
    bool done;

    c->doc = doc;
    result->disk = tree_is(device, "disk");
    if (!result->disk && !tree_is(device, "interface"))
        return refuse(c->notes, -EINVAL, "%.150s:%ld: it must be one <disk> or <interface>", c->file,
                      xmlGetLineNo(device));
    if (tree_attr_is(device, "type", "vhostuser")) {
        int rc = name_of_vhostuser(c, device, result->dev);

        c->notes->already = !rc;
        if (!rc && !(result->device = write_node(doc, device)))
            rc = refuse(c->notes, -ENOMEM, "out of memory");
        return rc;
    }
    done = (result->disk ? convert_disk : convert_nic)(c, device);
    if (!done && !c->no_memory) /* why it stays is the last note */
        return refuse(c->notes, -EINVAL, "%s", c->notes->n ? c->notes->text[--c->notes->n] : "");
    if (!c->no_memory) {
        snprintf(result->dev, sizeof(result->dev), "%s", c->made_dev);
        result->device = write_node(doc, device);
        result->metadata = write_node(doc, c->made);
    }
    xmlFreeNode(c->made);
    return result->device && result->metadata ? 0 : refuse(c->notes, -ENOMEM, "out of memory");
}

int convert_device(const char *xml, size_t len, const char *domain, size_t domain_len,
                   const struct convert_options *opt, struct convert_result *result,
                   struct convert_notes *notes)
{
    struct convert c;
    xmlDoc *guest, *doc = NULL;
    xmlNode *ours;
    int rc;

    memset(result, 0, sizeof(*result));
    begin(&c, opt, notes);
    guest = load(domain, domain_len, "the guest's XML", notes);
    if (!guest)
        return -EINVAL;
    rc = read_guest(&c, xmlDocGetRootElement(guest));
    if (!rc)
        rc = check_options(&c);
    if (!rc)
        rc = read_taken(&c, xmlDocGetRootElement(guest), &ours);
    if (!rc && !(doc = load(xml, len, c.file, notes)))
        rc = -EINVAL;
    if (!rc)
        rc = convert_device_node(&c, doc, result);
    if (rc)
        convert_free(result);
    xmlFreeDoc(doc);
    xmlFreeDoc(guest);
    return rc;
}

void convert_free(struct convert_result *result)
{
    free(result->device);
    free(result->metadata);
    memset(result, 0, sizeof(*result));
}
