/* SPDX-License-Identifier: MIT */
/* domains.c - the XML of a benchmark's domains. */
#include "stack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NAMESPACE "urn:bulkhead:domain:1"

static void put_escaped(FILE *xml, const char *text)
{
    for (; *text; text++) {
        if (strchr("<>&'\"", *text))
            fprintf(xml, "&#%d;", *text);
        else
            fputc(*text, xml);
    }
}

/* A document of which only what is said differs: one is being written at a time. */
struct document {
    FILE *out;
    char *text;
    size_t length;
};

static int begin(struct stack *st, struct document *doc, const char *name, unsigned mib)
{
    doc->out = open_memstream(&doc->text, &doc->length);
    if (!doc->out) {
        snprintf(st->error, sizeof(st->error), "out of memory");
        return -ENOMEM;
    }
    fprintf(doc->out, "<domain type='lxc'>\n  <name>%s</name>\n  <memory unit='MiB'>%u</memory>\n"
            "  <os><type>exe</type></os>\n", name, mib);
    return 0;
}

static int finish(struct stack *st, struct document *doc, const char *name)
{
    fputs("</domain>\n", doc->out);
    fclose(doc->out);
    int error = stack_define_and_start(st, name, doc->text);
    free(doc->text);
    return error;
}

static void put_cpus(FILE *xml, const uint64_t *cpus, unsigned n)
{
    fputs("  <vcpu cpuset='", xml);
    for (unsigned i = 0; i < n; i++)
        fprintf(xml, "%s%u", i ? "," : "", (unsigned)cpus[i]);
    fprintf(xml, "'>%u</vcpu>\n", n);
}

static const char *recovery(const struct stack *st)
{
    return st->no_spare ? "<b:recovery spare='no'/>" : "";
}

int stack_driver_domain(struct stack *st, const char *name, const uint64_t *cpus, unsigned n)
{
    struct document doc;
    int error = begin(st, &doc, name, 1024);
    if (error)
        return error;
    put_cpus(doc.out, cpus, n);
    fputs("  <metadata><b:domain xmlns:b='" NAMESPACE "' kind='driver' class='blk'>", doc.out);
    fputs(recovery(st), doc.out);
    fputs("</b:domain></metadata>\n", doc.out);
    return finish(st, &doc, name);
}

int stack_net_driver_domain(struct stack *st, const char *name, const struct stack_uplink *uplink,
                            const uint64_t *cpus, unsigned n)
{
    struct document doc;
    int error = begin(st, &doc, name, 256);
    if (error)
        return error;
    put_cpus(doc.out, cpus, n);
    fputs("  <metadata><b:domain xmlns:b='" NAMESPACE "' kind='driver' class='net'>", doc.out);
    if (uplink->devargs) {
        fputs("<b:uplink devargs='", doc.out);
        put_escaped(doc.out, uplink->devargs);
        fprintf(doc.out, "' mtu='%u'/>", uplink->mtu);
    }
    fputs(recovery(st), doc.out);
    fputs("</b:domain></metadata>\n", doc.out);
    return finish(st, &doc, name);
}

static void put_disk(FILE *xml, const struct stack_disk *disk, const char *path, const char *backend,
                     unsigned queues)
{
    struct stat sb;
    bool block = path && stat(path, &sb) == 0 && S_ISBLK(sb.st_mode);
    fprintf(xml, "<disk type='%s' device='disk'>\n"
            "<driver name='bulkhead' type='raw' cache='writeback' queues='%u'/>",
            block ? "block" : "file", queues);
    if (path) {
        fprintf(xml, "<source %s='", block ? "dev" : "file");
        put_escaped(xml, path);
        fputs("'/>", xml);
    }
    fprintf(xml, "<backenddomain name='%s'/><target dev='%s' bus='xen'/>%s</disk>\n", backend, disk->target,
            disk->readonly ? "<readonly/>" : "");
}

static void attach_path(const struct stack *st, const char *name, char *attach, size_t bytes)
{
    snprintf(attach, bytes, "%s/guests/%s/attach.sock", st->dir, name);
}

int stack_guest(struct stack *st, const char *name, const char *driver_domain, const struct stack_disk *disk,
                unsigned queues, char *attach, size_t attach_bytes)
{
    char *path = NULL;
    if (disk->path && !(path = realpath(disk->path, NULL))) {
        snprintf(st->error, sizeof(st->error), "%s: %s", disk->path, strerror(errno));
        return -errno;
    }
    struct document doc;
    int error = begin(st, &doc, name, 1024);
    if (!error) {
        fputs("  <metadata><b:domain xmlns:b='" NAMESPACE "' kind='guest' door='native'>", doc.out);
        if (!path)
            fprintf(doc.out, "<b:disk dev='%s' ram='%llu'/>", disk->target, (unsigned long long)disk->bytes);
        fputs("</b:domain></metadata>\n  <devices>", doc.out);
        put_disk(doc.out, disk, path, driver_domain, queues);
        fputs("</devices>\n", doc.out);
        error = finish(st, &doc, name);
    }
    attach_path(st, name, attach, attach_bytes);
    free(path);
    return error;
}

/* ------------------------------------------------- guests with a vhost-user door */

static int begin_vhost(struct stack *st, struct document *doc, const char *name)
{
    doc->out = open_memstream(&doc->text, &doc->length);
    if (!doc->out) {
        snprintf(st->error, sizeof(st->error), "out of memory");
        return -ENOMEM;
    }
    fprintf(doc->out, "<domain type='kvm'>\n  <name>%s</name>\n  <memory unit='MiB'>1024</memory>\n"
            "  <os><type arch='x86_64'>hvm</type></os>\n"
            "  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>\n"
            "  <metadata><b:domain xmlns:b='" NAMESPACE "' kind='guest' door='vhost-user'>", name);
    return 0;
}

static void put_socket(FILE *xml, const char *path, const char *mode)
{
    fputs("<source type='unix' path='", xml);
    put_escaped(xml, path);
    fprintf(xml, "'%s><reconnect enabled='yes' timeout='1'/></source>", mode);
}

static void put_backing(FILE *xml, const struct stack_disk *disk, const char *path)
{
    struct stat sb;
    fprintf(xml, "<b:disk dev='%s'", disk->target);
    if (path) {
        bool block = stat(path, &sb) == 0 && S_ISBLK(sb.st_mode);
        fprintf(xml, " %s='", block ? "block" : "file");
        put_escaped(xml, path);
        fputs("' cache='writeback'", xml);
    } else {
        fprintf(xml, " ram='%llu'", (unsigned long long)disk->bytes);
    }
    fprintf(xml, "%s/>", disk->readonly ? " readonly='yes'" : "");
}

static void socket_path(const struct stack *st, const char *name, const char *dev, char out[STACK_SOCKET_MAX])
{
    snprintf(out, STACK_SOCKET_MAX, "%s/guests/%s/%s.sock", st->dir, name, dev);
}

int stack_vhost_guest(struct stack *st, const char *name, const char *driver_domain,
                      const struct stack_disk *disks, unsigned n, unsigned queues,
                      char (*socket)[STACK_SOCKET_MAX])
{
    char *path[STACK_VHOST_DISKS] = {0};
    struct document doc;
    int error = 0;
    for (unsigned i = 0; i < n && !error; i++)
        if (disks[i].path && !(path[i] = realpath(disks[i].path, NULL))) {
            error = -errno;
            snprintf(st->error, sizeof(st->error), "%s: %s", disks[i].path, strerror(errno));
        }
    if (!error)
        error = begin_vhost(st, &doc, name);
    if (!error) {
        for (unsigned i = 0; i < n; i++)
            put_backing(doc.out, &disks[i], path[i]);
        fputs("</b:domain></metadata>\n  <devices>", doc.out);
        for (unsigned i = 0; i < n; i++) {
            socket_path(st, name, disks[i].target, socket[i]);
            fprintf(doc.out, "<disk type='vhostuser' device='disk'>"
                    "<driver name='qemu' type='raw' queues='%u'/>", queues);
            put_socket(doc.out, socket[i], "");
            fprintf(doc.out, "<backenddomain name='%s'/><target dev='%s' bus='virtio'/></disk>\n",
                    driver_domain, disks[i].target);
        }
        fputs("</devices>\n", doc.out);
        error = finish(st, &doc, name);
    }
    for (unsigned i = 0; i < n; i++)
        free(path[i]);
    return error;
}

int stack_vhost_net_guest(struct stack *st, const char *name, const char *driver_domain,
                          const struct stack_nic *nic, char socket[STACK_SOCKET_MAX])
{
    struct document doc;
    const uint8_t *mac = nic->mac;
    int error = begin_vhost(st, &doc, name);
    if (error)
        return error;
    socket_path(st, name, "eth0", socket);
    fprintf(doc.out, "<b:interface dev='eth0'/></b:domain></metadata>\n  <devices>"
            "<interface type='vhostuser'><mac address='%02x:%02x:%02x:%02x:%02x:%02x'/>", mac[0], mac[1],
            mac[2], mac[3], mac[4], mac[5]);
    put_socket(doc.out, socket, " mode='client'");
    fprintf(doc.out, "<backenddomain name='%s'/><target dev='eth0'/><model type='virtio'/><mtu size='%u'/>"
            "<driver name='vhost' queues='%u'/></interface></devices>\n", driver_domain, nic->mtu,
            nic->queues);
    return finish(st, &doc, name);
}

int stack_net_guest(struct stack *st, const char *name, const char *driver_domain,
                    const struct stack_nic *nic, char *attach, size_t attach_bytes)
{
    struct document doc;
    int error = begin(st, &doc, name, 256);
    if (error)
        return error;
    fputs("  <metadata><b:domain xmlns:b='" NAMESPACE "' kind='guest' door='native'/></metadata>\n", doc.out);
    const uint8_t *mac = nic->mac;
    fprintf(doc.out, "  <devices><interface type='ethernet'><mac address='%02x:%02x:%02x:%02x:%02x:%02x'/>"
            "<backenddomain name='%s'/><guest dev='eth0'/><driver queues='%u'/><mtu size='%u'/>"
            "</interface></devices>\n", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], driver_domain,
            nic->queues, nic->mtu);
    error = finish(st, &doc, name);
    attach_path(st, name, attach, attach_bytes);
    return error;
}
