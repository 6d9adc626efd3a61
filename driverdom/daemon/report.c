/* SPDX-License-Identifier: MIT */
/* report.c - what runs, who holds what, and figures. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../hyp-shim/local/jail.h"
#include "../../hyp-shim/xenbus.h"
#include "daemon.h"

#define HOLDINGS_MAX 512
#define LINKS_MAX    512

static double uptime_of(const struct domain *dom)
{
    return dom->started_at ? (double)(now_ms() - dom->started_at) / 1000.0 : 0.0;
}

static json_t *summary(const struct domain *dom)
{
    return json_pack("{s:s,s:s,s:s,s:i,s:s,s:i,s:f}", "name", dom->spec.name, "kind",
                     policy_kind_name(dom->spec.kind), "class", policy_class_name(&dom->spec), "domid",
                     (int)dom->domid, "state", dom_state_name(dom), "incarnation", (int)dom->incarnation,
                     "uptime_s", uptime_of(dom));
}

static int by_name(const void *a, const void *b)
{
    const struct domain *const *x = a, *const *y = b;

    /* Driver domains first. */
    if ((*x)->spec.kind != (*y)->spec.kind)
        return (*x)->spec.kind < (*y)->spec.kind ? -1 : 1;
    return strcmp((*x)->spec.name, (*y)->spec.name);
}

static int sorted(struct daemon *d, const struct domain *out[DAEMON_DOMAINS_MAX])
{
    int n = 0;

    for (int i = 0; i < DAEMON_DOMAINS_MAX; i++)
        if (d->domains[i].used)
            out[n++] = &d->domains[i];
    qsort(out, (size_t)n, sizeof(const struct domain *), by_name);
    return n;
}

json_t *report_list(struct daemon *d)
{
    const struct domain *all[DAEMON_DOMAINS_MAX];
    json_t *list = json_array();
    int n = sorted(d, all);

    for (int i = 0; i < n; i++)
        json_array_append_new(list, summary(all[i]));
    return list;
}

/* ------------------------------------------------------------------- info */

static const char *name_of(struct daemon *d, domid_t domid)
{
    const struct domain *dom = dom_by_domid(d, domid);

    return dom ? dom->spec.name : domid == HYP_DOMID_TOOLSTACK ? "bulkheadd" : "";
}

static const char *path_of_device(struct daemon *d, const struct domain *driver, uint32_t number)
{
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++)
        for (unsigned i = 0; d->domains[g].used && i < d->domains[g].spec.ndisks; i++)
            if (d->domains[g].vbd[i].be == driver->domid && d->domains[g].vbd[i].number == number)
                return d->domains[g].spec.disks[i].path;
    return "";
}

static void add_peer(struct daemon *d, json_t *peers, domid_t domid)
{
    json_t *peer;
    size_t i;

    json_array_foreach(peers, i,
                       peer) if (json_integer_value(json_object_get(peer, "domid")) == domid) return;
    json_array_append_new(peers, json_pack("{s:i,s:s}", "domid", (int)domid, "name", name_of(d, domid)));
}

static void add_holdings(struct daemon *d, const struct domain *dom, json_t *info)
{
    json_t *regions = json_array(), *devices = json_array(), *peers = json_array(), *doorbells = json_array();
    struct hyp_holding h;

    for (unsigned n = 0; dom->domid && n < HOLDINGS_MAX && !hyp_domain_holding(d->hyp, dom->domid, n, &h);
         n++) {
        const char *access = h.rdonly ? "read" : "read-write";

        if (h.kind == HYP_HOLDS_DEVICE) {
            json_array_append_new(devices, json_pack("{s:i,s:s,s:s}", "device", (int)h.id, "path",
                                                     path_of_device(d, dom, h.id), "access", access));
            continue;
        }
        if (h.kind == HYP_HOLDS_EVTCHN)
            json_array_append_new(doorbells, json_pack("{s:i,s:i}", "port", (int)h.id, "peer", (int)h.peer));
        else
            json_array_append_new(regions,
                                  json_pack("{s:s,s:I,s:s,s:i,s:i,s:b}", "what",
                                            h.kind == HYP_HOLDS_POOL ? "own pages, granted to the peer"
                                                                     : "pages that the peer granted",
                                            "pages", (json_int_t)h.pages, "access",
                                            h.kind == HYP_HOLDS_POOL ? "read-write" : access, "peer",
                                            (int)h.peer, "first_ref", (int)h.id, "huge", (int)h.huge));
        add_peer(d, peers, h.peer);
    }
    json_object_set_new(info, "regions", regions);
    json_object_set_new(info, "devices", devices);
    json_object_set_new(info, "doorbells", doorbells);
    json_object_set_new(info, "peers", peers);
}

struct fd_words {
    int fd;
    const char *what;
};

/* Descriptors that a domain's process starts with (proto.h). */
static const struct fd_words started_with[] = {
    {1, "log"}, {2, "log"}, {3, "core connection"}, {4, "store connection"}, {5, "log"}, {-1, NULL},
};
/* Where the NBD door (frontends/door/nbd.c) puts them for nbdkit. */
static const struct fd_words in_nbdkit[] = {
    {1, "log"},
    {2, "log"},
    {3, "door: listening socket nbd.sock"},
    {10, "core connection"},
    {11, "store connection"},
    {-1, NULL},
};

/* A link text of /proc/PID/fd in words; NULL: the text itself says it. */
static const char *fd_in_words(const struct domain *dom, int fd, const char *link)
{
    static const struct {
        const char *begins, *what;
    } kinds[] = {
        {"/dev/null", "nothing (/dev/null)"}, {"anon_inode:[io_uring]", "io_uring"},
        {"anon_inode:[eventpoll]", "epoll"},  {"anon_inode:[eventfd]", "eventfd, private"},
        {"/memfd:", "granted pages"},
    };
    bool nbd = dom->spec.door == POLICY_DOOR_NBD;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (!strncmp(link, kinds[i].begins, strlen(kinds[i].begins)))
            return kinds[i].what;
    for (const struct fd_words *w = nbd ? in_nbdkit : started_with; w->what; w++)
        if (w->fd == fd)
            return w->what;
    if (!strncmp(link, "pipe:", 5))
        return nbd ? "doorbell, or nbdkit's own pipe" : "doorbell";
    if (!strncmp(link, "socket:", 7))
        return nbd ? "NBD client" : "socket";
    return *link == '/' ? "file" : NULL;
}

/* A long link text comes cut off. */
static bool same_path(const char *path, const char *link)
{
    size_t n = strlen(link);

    return !strcmp(path, link) || (n >= HYP_LINK_MAX - 8 && !strncmp(path, link, n));
}

static json_t *describe_fd(struct daemon *d, const struct domain *dom, const char *text)
{
    char what[POLICY_PATH_MAX + 32], link[HYP_LINK_MAX];
    char *end;
    long fd = strtol(text, &end, 10);
    const char *words;

    snprintf(link, sizeof(link), "%s", *end ? end + 1 : end);
    policy_clean_text(link);
    words = fd_in_words(dom, (int)fd, link);
    snprintf(what, sizeof(what), "%s", words ? words : link);
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++)
        for (unsigned i = 0; d->domains[g].used && i < d->domains[g].spec.ndisks; i++)
            if (*link == '/' && d->domains[g].vbd[i].be == dom->domid &&
                same_path(d->domains[g].spec.disks[i].path, link))
                snprintf(what, sizeof(what), "disk %s", d->domains[g].spec.disks[i].path);
    return json_pack("{s:i,s:s,s:s}", "fd", (int)fd, "what", what, "link", link);
}

static void add_process(struct daemon *d, const struct domain *dom, json_t *info)
{
    json_t *namespaces = json_object(), *fds = json_array();
    char text[HYP_LINK_MAX];

    for (unsigned n = 0;
         dom->domid && n < LINKS_MAX && !hyp_domain_proc(d->hyp, dom->domid, HYP_PROC_NS, n, text); n++) {
        char *value = strchr(text, ' ');

        if (!value)
            continue;
        *value++ = '\0';
        json_object_set_new(namespaces, text, json_string(value));
    }
    for (unsigned n = 0;
         dom->domid && n < LINKS_MAX && !hyp_domain_proc(d->hyp, dom->domid, HYP_PROC_FD, n, text); n++)
        json_array_append_new(fds, describe_fd(d, dom, text));
    json_object_set_new(info, "namespaces", namespaces);
    json_object_set_new(info, "fds", fds);
}

static void add_syscalls(const struct domain *dom, json_t *info)
{
    json_t *names = json_array();
    const char *const *list = NULL;

    if (dom->spec.kind == POLICY_DRIVER)
        list = jail_syscalls(HYP_CLASS_BLK);
    else if (dom->spec.door == POLICY_DOOR_NBD)
        list = jail_syscalls(HYP_CLASS_NBD);
    for (; list && *list; list++)
        json_array_append_new(names, json_string(*list));
    json_object_set_new(info, "syscalls", names);
}

static json_t *describe_disks(const struct domain *dom)
{
    json_t *disks = json_array();

    for (unsigned i = 0; i < dom->spec.ndisks; i++) {
        const struct policy_disk *disk = &dom->spec.disks[i];

        json_array_append_new(
            disks, json_pack("{s:s,s:s,s:s,s:b,s:b}", "dev", disk->dev, "backend", disk->backend, "path",
                             disk->source == POLICY_SOURCE_RAM ? "ram" : disk->path, "readonly",
                             (int)disk->readonly, "connected", (int)dom->vbd[i].connected));
    }
    return disks;
}

json_t *report_info(struct daemon *d, struct domain *dom)
{
    struct hyp_domain_info core = {0};
    json_t *info = summary(dom);

    if (dom->domid && hyp_domain_info(d->hyp, dom->domid, &core))
        memset(&core, 0, sizeof(core));
    json_object_set_new(info, "pid", json_integer(core.pid));
    json_object_set_new(info, "uid", json_integer(core.uid));
    json_object_set_new(info, "restarts", json_integer(dom->restarts));
    json_object_set_new(info, "core_calls", json_integer((json_int_t)core.calls));
    json_object_set_new(info, "core_calls_refused", json_integer((json_int_t)core.refused));
    if (dom->spec.kind == POLICY_GUEST) {
        json_object_set_new(info, "disks", describe_disks(dom));
        json_object_set_new(info, "door", json_string(policy_class_name(&dom->spec)));
        if (dom->door_fd >= 0)
            json_object_set_new(info, "socket",
                                json_sprintf("%s/guests/%s/%s.sock", d->run_dir, dom->spec.name,
                                             dom->spec.door == POLICY_DOOR_NBD ? "nbd" : "attach"));
    }
    if (dom->spec.door == POLICY_DOOR_NATIVE)
        json_object_set_new(info, "attached", json_boolean(dom->attached));
    add_process(d, dom, info);
    add_syscalls(dom, info);
    add_holdings(d, dom, info);
    return info;
}

/* ---------------------------------------------------------------- metrics */

static void put_stats(struct daemon *d, FILE *out, const struct domain *guest, unsigned i)
{
    char dir[STORE_PATH_MAX], names[STORE_VALUE_MAX];
    const struct vbd *vbd = &guest->vbd[i];
    int n;

    if (!vbd->nodes_be ||
        xenbus_backend_path(dir, vbd->nodes_be, "vbd", guest->domid, guest->spec.disks[i].devid))
        return;
    strncat(dir, "/stats", STORE_PATH_MAX - 1 - strlen(dir));
    n = store_directory(d->store, STORE_NO_TXN, dir, names, sizeof(names));
    for (const char *name = names; n > 0; n--, name += strlen(name) + 1) {
        uint64_t value;

        if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(name) ||
            store_read_number(d->store, STORE_NO_TXN, dir, name, UINT64_MAX, &value))
            continue;
        fprintf(out, "bulkhead_vbd_stat{guest=\"%s\",disk=\"%s\",driver=\"%s\",stat=\"%s\"} %llu\n",
                guest->spec.name, guest->spec.disks[i].dev, guest->spec.disks[i].backend, name,
                (unsigned long long)value);
    }
}

/* Fields of /proc/PID/stat (proc(5)), counted from 1. */
enum { STAT_STATE = 3, STAT_UTIME = 14, STAT_STIME = 15, STAT_RSS = 24 };

/* Figures of /proc/PID, as far as they are readable to us. */
static bool read_process(int pid, double *cpu_seconds, uint64_t *resident)
{
    char path[64], text[1024], *at, *end;
    unsigned long long field[STAT_RSS + 1];
    FILE *f;
    size_t n;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    f = pid > 0 ? fopen(path, "re") : NULL;
    if (!f)
        return false;
    n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    at = strrchr(text, ')'); /* the name may hold anything */
    if (!at || strlen(at) < 4)
        return false;
    at += 3; /* the state, a letter */
    for (unsigned i = STAT_STATE + 1; i <= STAT_RSS; i++) {
        field[i] = strtoull(at + 1, &end, 10);
        if (end == at + 1)
            return false;
        at = end;
    }
    *cpu_seconds = (double)(field[STAT_UTIME] + field[STAT_STIME]) / (double)sysconf(_SC_CLK_TCK);
    *resident = field[STAT_RSS] * (uint64_t)sysconf(_SC_PAGESIZE);
    return true;
}

struct figures {
    const struct domain *dom;
    struct hyp_domain_info core;
    bool process;
    double cpu_seconds;
    uint64_t resident;
};

static void family(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# TYPE %s %s\n# HELP %s %s\n", name, type, name, help);
}

static void put_domains(FILE *out, const struct figures *f, int n)
{
    family(out, "bulkhead_up", "gauge", "1 while the domain runs.");
    for (int i = 0; i < n; i++)
        fprintf(out, "bulkhead_up{name=\"%s\",kind=\"%s\",class=\"%s\"} %d\n", f[i].dom->spec.name,
                policy_kind_name(f[i].dom->spec.kind), policy_class_name(&f[i].dom->spec),
                f[i].dom->state == ST_RUNNING);
    family(out, "bulkhead_incarnation", "gauge", "How often the domain was made.");
    for (int i = 0; i < n; i++)
        fprintf(out, "bulkhead_incarnation{name=\"%s\"} %u\n", f[i].dom->spec.name, f[i].dom->incarnation);
    family(out, "bulkhead_restarts", "counter", "Restarts after a death that no one asked for.");
    for (int i = 0; i < n; i++)
        fprintf(out, "bulkhead_restarts_total{name=\"%s\"} %u\n", f[i].dom->spec.name, f[i].dom->restarts);
    family(out, "bulkhead_uptime_seconds", "gauge", "Time since this incarnation runs.");
    for (int i = 0; i < n; i++)
        fprintf(out, "bulkhead_uptime_seconds{name=\"%s\"} %.3f\n", f[i].dom->spec.name, uptime_of(f[i].dom));
    family(out, "bulkhead_core_calls", "counter", "Calls of this incarnation to the core.");
    for (int i = 0; i < n; i++)
        fprintf(out, "bulkhead_core_calls_total{name=\"%s\"} %llu\n", f[i].dom->spec.name,
                (unsigned long long)f[i].core.calls);
    family(out, "bulkhead_core_calls_refused", "counter", "Of them refused.");
    for (int i = 0; i < n; i++)
        fprintf(out, "bulkhead_core_calls_refused_total{name=\"%s\"} %llu\n", f[i].dom->spec.name,
                (unsigned long long)f[i].core.refused);
    family(out, "bulkhead_cpu_seconds", "counter", "CPU time of the domain's process.");
    for (int i = 0; i < n; i++)
        if (f[i].process)
            fprintf(out, "bulkhead_cpu_seconds_total{name=\"%s\"} %.2f\n", f[i].dom->spec.name,
                    f[i].cpu_seconds);
    family(out, "bulkhead_resident_bytes", "gauge",
           "Memory of the domain's process, granted pages included.");
    for (int i = 0; i < n; i++)
        if (f[i].process)
            fprintf(out, "bulkhead_resident_bytes{name=\"%s\"} %llu\n", f[i].dom->spec.name,
                    (unsigned long long)f[i].resident);
}

json_t *report_metrics(struct daemon *d)
{
    static struct figures figures[DAEMON_DOMAINS_MAX];
    const struct domain *all[DAEMON_DOMAINS_MAX];
    int n = sorted(d, all);
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    json_t *result;

    if (!out)
        return json_string("# EOF\n");
    for (int i = 0; i < n; i++) {
        struct figures *f = &figures[i];

        memset(f, 0, sizeof(*f));
        f->dom = all[i];
        if (f->dom->domid && hyp_domain_info(d->hyp, f->dom->domid, &f->core))
            memset(&f->core, 0, sizeof(f->core));
        f->process = read_process(f->core.pid, &f->cpu_seconds, &f->resident);
    }
    put_domains(out, figures, n);
    family(out, "bulkhead_disk_connected", "gauge",
           "1 while frontend and backend of the disk are connected.");
    for (int i = 0; i < n; i++)
        for (unsigned k = 0; k < all[i]->spec.ndisks; k++)
            fprintf(out, "bulkhead_disk_connected{guest=\"%s\",disk=\"%s\",driver=\"%s\"} %d\n",
                    all[i]->spec.name, all[i]->spec.disks[k].dev, all[i]->spec.disks[k].backend,
                    all[i]->vbd[k].connected);
    family(out, "bulkhead_vbd_stat", "gauge",
           "Figures that the driver domain reports of a disk; it is not trusted.");
    for (int i = 0; i < n; i++)
        for (unsigned k = 0; k < all[i]->spec.ndisks; k++)
            put_stats(d, out, all[i], k);
    fprintf(out, "# EOF\n");
    fclose(out);
    result = json_string(text);
    free(text);
    return result;
}
