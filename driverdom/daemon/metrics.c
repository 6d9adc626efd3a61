/* SPDX-License-Identifier: MIT */
/* metrics.c - figures as OpenMetrics text. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../hyp-shim/xenbus.h"
#include "daemon.h"

/* Where the driver domain writes what it counts of a device.  It is not trusted. */
static bool stats_of(const struct domain *guest, unsigned i, char dir[STORE_PATH_MAX])
{
    const struct split *split = &guest->split[i];

    domid_t be = split->nodes_be[split->live];

    if (!be || xenbus_backend_path(dir, be, split->cls, guest->domid, split->devid))
        return false;
    strncat(dir, "/stats", STORE_PATH_MAX - 1 - strlen(dir));
    return true;
}

static void put_disk_stats(struct daemon *d, FILE *out, const struct domain *guest, unsigned i)
{
    char dir[STORE_PATH_MAX], names[STORE_VALUE_MAX];
    int n;

    if (!stats_of(guest, i, dir))
        return;
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
        fprintf(out, "bulkhead_uptime_seconds{name=\"%s\"} %.3f\n", f[i].dom->spec.name,
                report_uptime(f[i].dom));
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

/* ---------------------------------------------------- deaths and recoveries */

static const char *const cause_names[CAUSE_COUNT] = {
    [CAUSE_SIGNAL] = "signal", [CAUSE_EXIT] = "exit",       [CAUSE_HANG] = "hang",
    [CAUSE_LIE] = "broken ring", [CAUSE_PLANNED] = "planned", [CAUSE_DETACHED] = "detached"};

static void put_deaths(struct daemon *d, FILE *out, const struct domain *const *all, int n)
{
    family(out, "bulkhead_deaths", "counter", "Incarnations that ended, by cause.");
    for (int i = 0; i < n; i++)
        for (int c = CAUSE_NONE + 1; c < CAUSE_COUNT; c++)
            if (all[i]->deaths[c])
                fprintf(out, "bulkhead_deaths_total{name=\"%s\",cause=\"%s\"} %llu\n", all[i]->spec.name,
                        cause_names[c], (unsigned long long)all[i]->deaths[c]);
    family(out, "bulkhead_downtime_seconds", "gauge", "Of the last recovery: until all guests were served.");
    for (int i = 0; i < n; i++)
        if (all[i]->spec.kind == POLICY_DRIVER)
            fprintf(out, "bulkhead_downtime_seconds{name=\"%s\"} %.6f\n", all[i]->spec.name,
                    (double)all[i]->last_downtime_us / 1e6);
    family(out, "bulkhead_recovery_phase_seconds", "gauge",
           "Of the last recovery: detect from the order, the others from the death.");
    for (int i = 0; i < n; i++)
        for (int p = 0; p < PHASES && all[i]->spec.kind == POLICY_DRIVER; p++)
            fprintf(out, "bulkhead_recovery_phase_seconds{name=\"%s\",phase=\"%s\"} %.6f\n",
                    all[i]->spec.name, phase_names[p], (double)all[i]->phase_us[p] / 1e6);
    family(out, "bulkhead_spare_ready", "gauge", "1 while a spare is connected to every guest.");
    for (int i = 0; i < n; i++)
        if (all[i]->spec.kind == POLICY_DRIVER)
            fprintf(out, "bulkhead_spare_ready{name=\"%s\"} %d\n", all[i]->spec.name,
                    spare_is_armed(d, all[i]));
}

/* What frontends report; they are not trusted. */
static void put_failed_requests(FILE *out, const struct domain *const *all, int n)
{
    family(out, "bulkhead_disk_poisoned", "counter",
           "Requests failed because they were in flight through too many deaths.");
    for (int i = 0; i < n; i++)
        for (unsigned k = 0; disk_next(all[i], &k); k++)
            fprintf(out, "bulkhead_disk_poisoned_total{guest=\"%s\",disk=\"%s\",driver=\"%s\"} %u\n",
                    all[i]->spec.name, all[i]->split[k].dev, all[i]->split[k].backend,
                    all[i]->split[k].poisoned);
    family(out, "bulkhead_disk_timed_out", "counter", "Requests failed by the disk's time limit.");
    for (int i = 0; i < n; i++)
        for (unsigned k = 0; disk_next(all[i], &k); k++)
            fprintf(out, "bulkhead_disk_timed_out_total{guest=\"%s\",disk=\"%s\",driver=\"%s\"} %u\n",
                    all[i]->spec.name, all[i]->split[k].dev, all[i]->split[k].backend,
                    all[i]->split[k].timed_out);
}

/* ------------------------------------------------------- NICs and uplinks */

/* A counter of a driver domain and its place here; neighbours of one family stand together. */
struct counter {
    const char *family, *help;
    const char *node;
    bool cause; /* the node's name is the cause of a drop */
};

static const struct counter vif_counters[] = {
    {"bulkhead_vif_tx_packets", "Packets that the guest sent.", "tx_packets", false},
    {"bulkhead_vif_tx_bytes", "Bytes that the guest sent.", "tx_bytes", false},
    {"bulkhead_vif_rx_packets", "Packets that the guest got.", "rx_packets", false},
    {"bulkhead_vif_rx_bytes", "Bytes that the guest got.", "rx_bytes", false},
#define DROP(cause)                                                                         \
    {                                                                                       \
        "bulkhead_vif_drops", "Packets of or for the guest that were dropped.", cause, true \
    }
    DROP("bad_slots"),
    DROP("bad_extra"),
    DROP("bad_gso"),
    DROP("bad_csum"),
    DROP("bad_grant"),
    DROP("too_long"),
    DROP("too_short"),
    DROP("forged_mac"),
    DROP("bad_vlan"),
    DROP("isolated"),
    DROP("no_port"),
    DROP("uplink_full"),
    DROP("no_memory"),
    DROP("no_buffers"),
    DROP("over_rate"),
    DROP("rx_too_big"),
#undef DROP
    {"bulkhead_vif_broken", "Connections ended because the frontend lied.", "broken", false},
    {"bulkhead_vif_doorbells", "Doorbells rung.", "doorbells", false},
    {"bulkhead_vif_wakeups", "Doorbells heard.", "wakeups", false},
    {"bulkhead_vif_storms", "Doorbells muted for ringing for nothing.", "storms", false},
};

static const struct counter uplink_counters[] = {
    {"bulkhead_uplink_tx_packets", "Packets sent through the uplink.", "tx_packets", false},
    {"bulkhead_uplink_tx_bytes", "Bytes sent through the uplink.", "tx_bytes", false},
    {"bulkhead_uplink_rx_packets", "Packets that came from the uplink.", "rx_packets", false},
    {"bulkhead_uplink_rx_bytes", "Bytes that came from the uplink.", "rx_bytes", false},
#define DROP(cause)                                                            \
    {                                                                          \
        "bulkhead_uplink_drops", "Packets dropped at the uplink.", cause, true \
    }
    DROP("tx_dropped"),
    DROP("rx_no_port"),
    DROP("rx_forged"),
    DROP("rx_bad_vlan"),
    DROP("rx_short"),
#undef DROP
    {"bulkhead_uplink_learned", "Addresses that were learned behind the uplink.", "learned", false},
};

/* One sample; labels without the braces. */
static void put_counter(struct daemon *d, FILE *out, const struct counter *c, const char *dir,
                        const char *labels)
{
    uint64_t value = 0;
    int rc = store_read_number(d->store, STORE_NO_TXN, dir, c->node, UINT64_MAX, &value);

    if (rc && rc != -ENOENT) /* what was never counted has no node */
        return;
    fprintf(out, "%s_total{%s", c->family, labels);
    if (c->cause)
        fprintf(out, ",cause=\"%s\"", c->node);
    fprintf(out, "} %llu\n", (unsigned long long)value);
}

static void begin_family(FILE *out, const struct counter *table, size_t i)
{
    if (i == 0 || strcmp(table[i].family, table[i - 1].family) != 0)
        family(out, table[i].family, "counter", table[i].help);
}

static void nic_labels(const struct domain *guest, unsigned nic, char *out, size_t cap)
{
    snprintf(out, cap, "guest=\"%s\",nic=\"%s\",driver=\"%s\"", guest->spec.name, guest->spec.nics[nic].dev,
             guest->spec.nics[nic].backend);
}

static void put_nics(struct daemon *d, FILE *out, const struct domain *const *all, int n)
{
    char labels[3 * POLICY_NAME_MAX + 32], dir[STORE_PATH_MAX];

    family(out, "bulkhead_nic_connected", "gauge", "1 while frontend and backend of the NIC are connected.");
    for (int i = 0; i < n; i++) {
        for (unsigned k = 0; nic_next(all[i], &k); k++) {
            nic_labels(all[i], k, labels, sizeof(labels));
            fprintf(out, "bulkhead_nic_connected{%s} %d\n", labels,
                    all[i]->split[FIRST_NIC + k].connected);
        }
    }
    for (size_t c = 0; c < sizeof(vif_counters) / sizeof(vif_counters[0]); c++) {
        begin_family(out, vif_counters, c);
        for (int i = 0; i < n; i++) {
            for (unsigned k = 0; nic_next(all[i], &k); k++) {
                if (!stats_of(all[i], FIRST_NIC + k, dir))
                    continue;
                nic_labels(all[i], k, labels, sizeof(labels));
                put_counter(d, out, &vif_counters[c], dir, labels);
            }
        }
    }
}

static void put_uplinks(struct daemon *d, FILE *out, const struct domain *const *all, int n)
{
    char labels[2 * POLICY_NAME_MAX + 32], dir[STORE_PATH_MAX];

    family(out, "bulkhead_uplink_up", "gauge", "1 while the uplink of the driver domain is up.");
    for (int i = 0; i < n; i++)
        if (*all[i]->spec.devargs)
            fprintf(out, "bulkhead_uplink_up{driver=\"%s\",interface=\"%s\"} %d\n", all[i]->spec.name,
                    all[i]->spec.ifname, !strcmp(uplink_state(d, all[i]), "up"));
    for (size_t c = 0; c < sizeof(uplink_counters) / sizeof(uplink_counters[0]); c++) {
        begin_family(out, uplink_counters, c);
        for (int i = 0; i < n; i++) {
            if (!*all[i]->spec.devargs || all[i]->state != ST_RUNNING)
                continue;
            snprintf(labels, sizeof(labels), "driver=\"%s\",interface=\"%s\"", all[i]->spec.name,
                     all[i]->spec.ifname);
            snprintf(dir, sizeof(dir), "/local/domain/%u/uplink/stats", all[i]->domid);
            put_counter(d, out, &uplink_counters[c], dir, labels);
        }
    }
}

json_t *report_metrics(struct daemon *d)
{
    static struct figures figures[DAEMON_DOMAINS_MAX];
    const struct domain *all[DAEMON_DOMAINS_MAX];
    int n = report_sorted(d, all);
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
    put_deaths(d, out, all, n);
    family(out, "bulkhead_disk_connected", "gauge",
           "1 while frontend and backend of the disk are connected.");
    for (int i = 0; i < n; i++)
        for (unsigned k = 0; disk_next(all[i], &k); k++)
            fprintf(out, "bulkhead_disk_connected{guest=\"%s\",disk=\"%s\",driver=\"%s\"} %d\n",
                    all[i]->spec.name, all[i]->spec.disks[k].dev, all[i]->spec.disks[k].backend,
                    all[i]->split[k].connected);
    family(out, "bulkhead_vbd_stat", "gauge",
           "Figures that the driver domain reports of a disk; it is not trusted.");
    for (int i = 0; i < n; i++)
        for (unsigned k = 0; disk_next(all[i], &k); k++)
            put_disk_stats(d, out, all[i], k);
    put_failed_requests(out, all, n);
    put_nics(d, out, all, n);
    put_uplinks(d, out, all, n);
    fprintf(out, "# EOF\n");
    fclose(out);
    result = json_string(text);
    free(text);
    return result;
}
