/* SPDX-License-Identifier: MIT */
/* domain.c - <domain>: everything but its disks, NICs and uplink. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "reader.h"

#define LXC_NS "http://libvirt.org/schemas/domain/lxc/1.0"

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
    if (*ours)
        return 0;
    reader_refuse(r, reader_line(root),
                  "no <metadata> with a <domain> of the namespace " POLICY_NS
                  ": nothing here is for bulkhead");
    return -ENOENT;
}

static int read_kind(struct reader *r, xmlNode *ours, struct domain_spec *spec)
{
    static const struct {
        enum policy_kind kind;
        const char *word;
        enum policy_class cls;
        enum policy_door door;
    } choices[] = {
        {POLICY_DRIVER, "blk", POLICY_CLASS_BLK, POLICY_DOOR_NONE},
        {POLICY_DRIVER, "net", POLICY_CLASS_NET, POLICY_DOOR_NONE},
        {POLICY_GUEST, "nbd", POLICY_CLASS_NONE, POLICY_DOOR_NBD},
        {POLICY_GUEST, "tap", POLICY_CLASS_NONE, POLICY_DOOR_TAP},
        {POLICY_GUEST, "native", POLICY_CLASS_NONE, POLICY_DOOR_NATIVE},
        {POLICY_GUEST, "vhost-user", POLICY_CLASS_NONE, POLICY_DOOR_VHOST},
    };
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
    for (size_t i = 0; given && i < sizeof(choices) / sizeof(choices[0]); i++) {
        if (choices[i].kind != spec->kind || strcmp(choices[i].word, choice) != 0)
            continue;
        spec->cls = choices[i].cls;
        spec->door = choices[i].door;
        if (spec->kind == POLICY_DRIVER) {
            spec->spare = true;
            spec->heartbeat_ms = POLICY_HEARTBEAT_DEFAULT;
        }
        return 0;
    }
    return spec->kind == POLICY_DRIVER
               ? reader_refuse(r, reader_line(ours),
                               "unknown class '%s': a driver domain's class is 'blk' or 'net'", choice)
               : reader_refuse(r, reader_line(ours),
                               "unknown door '%s': a guest's door is 'vhost-user', 'nbd', 'tap' or 'native'",
                               choice);
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
    uint64_t least = spec->cls == POLICY_CLASS_NET ? POLICY_NET_MEMORY_MIN : POLICY_DRIVER_MEMORY_MIN;
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
    if (spec->kind == POLICY_DRIVER && spec->memory_bytes < least)
        return reader_refuse(r, reader_line(node),
                             "<memory> is too small: a%s driver domain needs at least %llu MiB",
                             spec->cls == POLICY_CLASS_NET ? " net" : "", (unsigned long long)(least >> 20));
    return 0;
}

static int read_vcpu(struct reader *r, xmlNode *root, struct domain_spec *spec)
{
    xmlNode *node = reader_child(root, "vcpu", 0);
    char text[256];
    uint64_t count;

    if (!node || spec->door == POLICY_DOOR_VHOST) /* where QEMU's processors run is libvirt's */
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

/*
 * <hostdev mode='capabilities' type='storage'><source><block>/dev/sdb</block></source></hostdev>
 * <hostdev mode='capabilities' type='net'><source><interface>eth1</interface></source></hostdev>
 */
static int read_hostdev(struct reader *r, xmlNode *node, struct domain_spec *spec)
{
    bool net = spec->cls == POLICY_CLASS_NET;
    const char *wanted = net ? "net" : "storage", *what = net ? "interface" : "block";
    xmlNode *source = reader_child(node, "source", 0);
    xmlNode *named = source ? reader_child(source, what, 0) : NULL;
    char mode[16], type[16];

    reader_attr(node, "mode", mode, sizeof(mode));
    reader_attr(node, "type", type, sizeof(type));
    if (strcmp(mode, "capabilities") != 0 || strcmp(type, wanted) != 0)
        return reader_refuse(r, reader_line(node),
                             "a <hostdev> of a %sdriver domain must have mode='capabilities' type='%s'",
                             net ? "net " : "", wanted);
    if (!named)
        return reader_refuse(r, reader_line(node), "this <hostdev> has no <source><%s>%s</%s></source>", what,
                             net ? "..." : "/dev/...", what);
    if ((net ? spec->nnets : spec->nhostdevs) == POLICY_HOSTDEVS_MAX)
        return reader_refuse(r, reader_line(node), "more than %d <hostdev>", POLICY_HOSTDEVS_MAX);
    if (net) {
        char *name = spec->nets[spec->nnets++];

        if (reader_text(named, name, POLICY_IFNAME_MAX) || !policy_ifname_ok(name))
            return reader_refuse(
                r, reader_line(named),
                "the name in <interface> has 1 to %d characters of A-Z a-z 0-9 . _ - and begins "
                "with a letter or digit",
                POLICY_IFNAME_MAX - 1);
    } else {
        char *path = spec->hostdevs[spec->nhostdevs++];

        if (reader_text(named, path, POLICY_PATH_MAX) || *path != '/')
            return reader_refuse(r, reader_line(named),
                                 "the path in <block> must begin with / and be shorter than %d bytes",
                                 POLICY_PATH_MAX);
    }
    return 0;
}

/* An <interface> of an NBD guest may well be its hypervisor's own. */
static int read_devices(struct reader *r, xmlNode *root, struct domain_spec *spec)
{
    static const struct {
        enum policy_kind kind;
        const char *name;
        int (*read)(struct reader *, xmlNode *, struct domain_spec *);
    } known[] = {
        {POLICY_DRIVER, "hostdev", read_hostdev},
        {POLICY_GUEST, "disk", disk_read},
        {POLICY_GUEST, "interface", nic_read},
    };
    static const char *const served[] = {
        [POLICY_DOOR_NONE] = "",
        [POLICY_DOOR_NBD] = "<disk>",
        [POLICY_DOOR_NATIVE] = "<disk> or <interface>",
        [POLICY_DOOR_TAP] = "<interface>",
    };
    xmlNode *devices = reader_child(root, "devices", 0);

    for (xmlNode *c = devices ? devices->children : NULL; c; c = c->next) {
        size_t i, n = sizeof(known) / sizeof(known[0]);
        int rc;

        for (i = 0; i < n && !(known[i].kind == spec->kind && reader_is(c, known[i].name)); i++)
            ;
        if (c->type != XML_ELEMENT_NODE)
            continue;
        if (i == n) {
            reader_note(r, reader_line(c), "<%.40s> is not used", (const char *)c->name);
            continue;
        }
        rc = known[i].read(r, c, spec);
        if (rc)
            return rc;
    }
    nic_make_addresses(spec);
    if (spec->kind == POLICY_GUEST && spec->ndisks + spec->nnics == 0)
        return reader_refuse(r, reader_line(devices ? devices : root),
                             "the guest has no %s with <backenddomain>: there is nothing to serve",
                             served[spec->door]);
    return 0;
}

/* ------------------------------------------------------------ <lxc:namespace> */

static xmlNode *lxc_child(xmlNode *parent, const char *name, unsigned n)
{
    for (xmlNode *c = parent->children; c; c = c->next)
        if (c->ns && c->ns->href && !strcmp((const char *)c->ns->href, LXC_NS) &&
            !strcmp((const char *)c->name, name) && n-- == 0)
            return c;
    return NULL;
}

/* Where a guest's TAP devices are: libvirt-lxc's way to say it.  Not said: the machine's own. */
static int read_netns(struct reader *r, xmlNode *root, struct domain_spec *spec)
{
    xmlNode *ns = lxc_child(root, "namespace", 0), *share = ns ? lxc_child(ns, "sharenet", 0) : NULL;
    xmlNode *again = lxc_child(root, "namespace", 1);
    char type[16];

    if (spec->door != POLICY_DOOR_TAP || !ns)
        return 0;
    if (again || (again = lxc_child(ns, "sharenet", 1)))
        return reader_refuse(r, reader_line(again), "there is only one <namespace> with one <sharenet>");
    if (!share)
        return reader_refuse(r, reader_line(ns), "<namespace> has no <sharenet type='netns' value='...'/>");
    if (reader_attr(share, "type", type, sizeof(type)) || strcmp(type, "netns") != 0)
        return reader_refuse(r, reader_line(share),
                             "the type of <sharenet> must be 'netns': a namespace made by: ip netns add");
    if (reader_attr(share, "value", spec->netns, sizeof(spec->netns)) || !policy_name_ok(spec->netns))
        return reader_refuse(
            r, reader_line(share),
            "the value of <sharenet> is a name that 'ip netns' shows, 1 to %d characters of A-Z "
            "a-z 0-9 . _ -",
            POLICY_NAME_MAX - 1);
    return 0;
}

/* What stands at the top: once each, and the rest is told, unless libvirt and QEMU use it. */
static int check_top(struct reader *r, xmlNode *root, const struct domain_spec *spec)
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
        known = known || spec->door == POLICY_DOOR_VHOST ||
                (spec->door == POLICY_DOOR_TAP && c == lxc_child(root, "namespace", 0));
        if (!known)
            reader_note(r, reader_line(c), "<%.40s> is not used", (const char *)c->name);
    }
    return 0;
}

static int read_parts(struct reader *r, xmlNode *root, xmlNode *ours, struct domain_spec *spec)
{
    int rc;

    if (spec->door == POLICY_DOOR_VHOST)
        return vhost_read(r, root, ours, spec);
    rc = read_devices(r, root, spec);
    if (!rc)
        rc = read_netns(r, root, spec);
    if (!rc)
        rc = hint_read_all(r, ours, spec);
    if (!rc)
        rc = disk_check_complete(r, spec);
    return rc;
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
        rc = check_top(r, root, spec);
    if (!rc)
        rc = read_name(r, root, spec);
    if (!rc)
        rc = read_uuid(r, root, spec);
    if (!rc)
        rc = read_memory(r, root, spec);
    if (!rc)
        rc = read_vcpu(r, root, spec);
    if (!rc)
        rc = read_parts(r, root, ours, spec);
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
