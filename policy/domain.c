/* SPDX-License-Identifier: MIT */
/* domain.c - <domain>: everything but its disks. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "reader.h"

static xmlNode *next_in_document(xmlNode *node, const xmlNode *root)
{
    if (node->children && node->type == XML_ELEMENT_NODE)
        return node->children;
    while (node != root && !node->next)
        node = node->parent;
    return node == root ? NULL : node->next;
}

/* Our namespace appears in one place: the one element below <metadata>. */
static int find_ours(struct reader *r, xmlNode *root, xmlNode **ours)
{
    *ours = NULL;
    for (xmlNode *n = root; n; n = next_in_document(n, root)) {
        if (n->type != XML_ELEMENT_NODE)
            continue;
        for (xmlAttr *a = n->properties; a; a = a->next)
            if (a->ns && !strcmp((const char *)a->ns->href, POLICY_NS))
                return reader_refuse(r, reader_line(n),
                                     "unknown attribute '%.40s' in the namespace " POLICY_NS,
                                     (const char *)a->name);
        if (!reader_is_ours(n) || (*ours && n->parent == *ours))
            continue;
        if (strcmp((const char *)n->name, "domain") != 0 || !n->parent || !reader_is(n->parent, "metadata") ||
            n->parent->parent != root)
            return reader_refuse(r, reader_line(n), "unknown element <%.40s> in the namespace " POLICY_NS,
                                 (const char *)n->name);
        if (*ours)
            return reader_refuse(r, reader_line(n),
                                 "a second <domain> of the namespace " POLICY_NS
                                 " (first in line %ld): only one is allowed",
                                 reader_line(*ours));
        *ours = n;
    }
    if (!*ours)
        return reader_refuse(r, reader_line(root),
                             "no <metadata> with a <domain> of the namespace " POLICY_NS
                             ": nothing here is for bulkhead");
    return 0;
}

static int read_kind(struct reader *r, xmlNode *ours, struct domain_spec *spec)
{
    char kind[16], choice[16];
    const char *key;
    bool given;

    if (reader_attr(ours, "kind", kind, sizeof(kind)) == -ENOENT)
        return reader_refuse(r, reader_line(ours), "our <domain> has no kind='driver' or kind='guest'");
    if (strcmp(kind, "driver") != 0 && strcmp(kind, "guest") != 0)
        return reader_refuse(r, reader_line(ours), "unknown kind '%s': it is 'driver' or 'guest'", kind);
    spec->kind = *kind == 'd' ? POLICY_DRIVER : POLICY_GUEST;
    key = spec->kind == POLICY_DRIVER ? "class" : "door";
    for (xmlAttr *a = ours->properties; a; a = a->next)
        if (strcmp((const char *)a->name, "kind") != 0 && strcmp((const char *)a->name, key) != 0)
            return reader_refuse(r, reader_line(ours), "unknown attribute '%.40s' of our <domain kind='%s'>",
                                 (const char *)a->name, kind);
    given = reader_attr(ours, key, choice, sizeof(choice)) != -ENOENT;
    if (spec->kind == POLICY_DRIVER) {
        if (!given || strcmp(choice, "blk") != 0)
            return reader_refuse(r, reader_line(ours), "unknown class '%s': a driver domain's class is 'blk'",
                                 choice);
        spec->cls = POLICY_CLASS_BLK;
    } else if (given && !strcmp(choice, "nbd")) {
        spec->door = POLICY_DOOR_NBD;
    } else if (given && !strcmp(choice, "native")) {
        spec->door = POLICY_DOOR_NATIVE;
    } else {
        return reader_refuse(r, reader_line(ours), "unknown door '%s': a guest's door is 'nbd' or 'native'",
                             choice);
    }
    return 0;
}

static int read_name(struct reader *r, xmlNode *root, struct domain_spec *spec)
{
    xmlNode *node = reader_child(root, "name", 0);
    int rc;

    if (!node)
        return reader_refuse(r, reader_line(root), "the domain has no <name>");
    spec->name_line = (unsigned)reader_line(node);
    rc = reader_text(node, spec->name, sizeof(spec->name));
    if (rc || !policy_name_ok(spec->name))
        return reader_refuse(r, reader_line(node),
                             "a <name> has 1 to %d characters of A-Z a-z 0-9 . _ - and begins with a letter "
                             "or digit",
                             POLICY_NAME_MAX - 1);
    return 0;
}

static bool uuid_ok(char *s)
{
    size_t n = strlen(s);

    if (n != 36)
        return false;
    for (size_t i = 0; i < n; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
            return false;
        s[i] = (char)tolower((unsigned char)s[i]);
    }
    return true;
}

static int read_uuid(struct reader *r, xmlNode *root, struct domain_spec *spec)
{
    xmlNode *node = reader_child(root, "uuid", 0);

    if (node && (reader_text(node, spec->uuid, sizeof(spec->uuid)) || !uuid_ok(spec->uuid)))
        return reader_refuse(r, reader_line(node), "<uuid> must read xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
    return 0;
}

static int read_memory(struct reader *r, xmlNode *root, struct domain_spec *spec)
{
    xmlNode *node = reader_child(root, "memory", 0);
    char text[32], unit[16];
    int rc;

    if (!node)
        return reader_refuse(r, reader_line(root), "the domain has no <memory>");
    if (reader_attr(node, "unit", unit, sizeof(unit)) == -ENOENT)
        memcpy(unit, "KiB", sizeof("KiB"));
    rc = reader_text(node, text, sizeof(text));
    if (!rc)
        rc = units_bytes(text, unit, &spec->memory_bytes);
    if (rc == -EPROTOTYPE)
        return reader_refuse(r, reader_line(node),
                             "unknown unit '%s' of <memory>: write b, KB, KiB, MB, MiB, GB or GiB", unit);
    if (rc)
        return reader_refuse(r, reader_line(node), "<memory> must be a whole number that fits in 64 bits");
    if (spec->memory_bytes == 0)
        return reader_refuse(r, reader_line(node), "<memory> is 0");
    if (spec->kind == POLICY_DRIVER && spec->memory_bytes < POLICY_DRIVER_MEMORY_MIN)
        return reader_refuse(r, reader_line(node),
                             "<memory> is too small: a driver domain needs at least %llu MiB",
                             (unsigned long long)(POLICY_DRIVER_MEMORY_MIN >> 20));
    return 0;
}

static int read_vcpu(struct reader *r, xmlNode *root, struct domain_spec *spec)
{
    xmlNode *node = reader_child(root, "vcpu", 0);
    char text[256];
    uint64_t count;

    if (!node)
        return 0;
    if (reader_text(node, text, sizeof(text)) || units_decimal(text, 1024, &count) || count == 0)
        return reader_refuse(r, reader_line(node), "<vcpu> must be a number from 1 to 1024");
    if (reader_attr(node, "cpuset", text, sizeof(text)) == -ENOENT)
        return 0;
    if (units_cpuset(text, &spec->cpus))
        return reader_refuse(r, reader_line(node), "cpuset must be a set of CPUs 0 to %u, such as '0-3,^2,5'",
                             POLICY_CPUS_MAX - 1);
    return 0;
}

/* <hostdev mode='capabilities' type='storage'><source><block>/dev/sdb</block></source></hostdev> */
static int read_hostdev(struct reader *r, xmlNode *node, struct domain_spec *spec)
{
    xmlNode *source = reader_child(node, "source", 0);
    xmlNode *block = source ? reader_child(source, "block", 0) : NULL;
    char mode[16], type[16], *path;

    reader_attr(node, "mode", mode, sizeof(mode));
    reader_attr(node, "type", type, sizeof(type));
    if (strcmp(mode, "capabilities") != 0 || strcmp(type, "storage") != 0)
        return reader_refuse(r, reader_line(node),
                             "a <hostdev> of a driver domain must have mode='capabilities' type='storage'");
    if (!block)
        return reader_refuse(r, reader_line(node),
                             "this <hostdev> has no <source><block>/dev/...</block></source>");
    if (spec->nhostdevs == POLICY_HOSTDEVS_MAX)
        return reader_refuse(r, reader_line(node), "more than %d <hostdev>", POLICY_HOSTDEVS_MAX);
    path = spec->hostdevs[spec->nhostdevs++];
    if (reader_text(block, path, POLICY_PATH_MAX) || *path != '/')
        return reader_refuse(r, reader_line(block),
                             "the path in <block> must begin with / and be shorter than %d bytes",
                             POLICY_PATH_MAX);
    return 0;
}

static int read_devices(struct reader *r, xmlNode *root, struct domain_spec *spec)
{
    xmlNode *devices = reader_child(root, "devices", 0);
    const char *wanted = spec->kind == POLICY_DRIVER ? "hostdev" : "disk";

    for (xmlNode *c = devices ? devices->children : NULL; c; c = c->next) {
        int rc = 0;

        if (c->type != XML_ELEMENT_NODE)
            continue;
        if (!reader_is(c, wanted))
            reader_note(r, reader_line(c), "<%.40s> is not used", (const char *)c->name);
        else if (spec->kind == POLICY_DRIVER)
            rc = read_hostdev(r, c, spec);
        else
            rc = disk_read(r, c, spec);
        if (rc)
            return rc;
    }
    if (spec->kind == POLICY_GUEST && spec->ndisks == 0)
        return reader_refuse(r, reader_line(devices ? devices : root),
                             "the guest has no <disk> with <backenddomain>: there is nothing to serve");
    return 0;
}

/* What stands at the top: once each, and the rest is told. */
static int check_top(struct reader *r, xmlNode *root)
{
    static const char *const once[] = {"name", "uuid", "memory", "vcpu", "metadata", "devices"};
    static const char *const silent[] = {"os", "title", "description"};

    for (xmlNode *c = root->children; c; c = c->next) {
        bool known = c->type != XML_ELEMENT_NODE;

        for (size_t i = 0; i < sizeof(once) / sizeof(once[0]); i++) {
            if (!reader_is(c, once[i]))
                continue;
            known = true;
            if (reader_child(root, once[i], 0) != c)
                return reader_refuse(r, reader_line(c), "a <domain> has only one <%s>", once[i]);
        }
        for (size_t i = 0; i < sizeof(silent) / sizeof(silent[0]); i++)
            known = known || reader_is(c, silent[i]);
        if (!known)
            reader_note(r, reader_line(c), "<%.40s> is not used", (const char *)c->name);
    }
    return 0;
}

static int read_domain(struct reader *r, xmlDoc *doc, struct domain_spec *spec)
{
    xmlNode *root = xmlDocGetRootElement(doc), *ours;
    int rc;

    if (!root || !reader_is(root, "domain"))
        return reader_refuse(r, root ? reader_line(root) : 1,
                             "the outermost element must be libvirt's <domain>");
    rc = find_ours(r, root, &ours);
    if (!rc && ours)
        rc = read_kind(r, ours, spec);
    if (!rc)
        rc = check_top(r, root);
    if (!rc)
        rc = read_name(r, root, spec);
    if (!rc)
        rc = read_uuid(r, root, spec);
    if (!rc)
        rc = read_memory(r, root, spec);
    if (!rc)
        rc = read_vcpu(r, root, spec);
    if (!rc)
        rc = read_devices(r, root, spec);
    if (!rc)
        rc = disk_read_hints(r, ours, spec);
    if (!rc)
        rc = disk_check_complete(r, spec);
    return rc ? rc : schema_check(r, doc);
}

int policy_parse(const char *xml, size_t len, const char *filename, struct domain_spec *spec,
                 char err[POLICY_ERR_MAX], struct policy_notes *notes)
{
    struct reader r = {.file = filename, .err = err, .notes = notes};
    xmlDoc *doc;
    int rc;

    memset(spec, 0, sizeof(*spec));
    if (notes)
        notes->n = 0;
    doc = reader_load(&r, xml, len);
    if (!doc)
        return -EINVAL;
    rc = read_domain(&r, doc, spec);
    xmlFreeDoc(doc);
    if (rc)
        memset(spec, 0, sizeof(*spec));
    return rc;
}

int policy_schema_check(const char *xml, size_t len, const char *filename, char err[POLICY_ERR_MAX])
{
    struct reader r = {.file = filename, .err = err};
    xmlDoc *doc = reader_load(&r, xml, len);
    int rc;

    if (!doc)
        return -EINVAL;
    rc = schema_check(&r, doc);
    xmlFreeDoc(doc);
    return rc;
}
