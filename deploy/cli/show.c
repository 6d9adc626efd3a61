/* SPDX-License-Identifier: MIT */
/* show.c - the daemon's answers for people. */
#include <string.h>

#include "cli.h"

static const char *text_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));

    return s ? s : "";
}

static long long number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void uptime_text(double s, char out[32])
{
    unsigned long long t = (unsigned long long)s;

    if (t < 60)
        snprintf(out, 32, "%.1fs", s);
    else if (t < 3600)
        snprintf(out, 32, "%llum%02llus", t / 60, t % 60);
    else if (t < 86400)
        snprintf(out, 32, "%lluh%02llum", t / 3600, t / 60 % 60);
    else
        snprintf(out, 32, "%llud%02lluh", t / 86400, t / 3600 % 24);
}

/* "signal KILL, 0.8 ms" */
static void last_text(const json_t *d, char out[48])
{
    const char *cause = text_of(d, "last_cause");
    double ms = (double)number_of(d, "last_downtime_us") / 1000.0;

    if (!*cause)
        snprintf(out, 48, "-");
    else if (ms > 0)
        snprintf(out, 48, "%.24s, %.*f ms", cause, ms < 100, ms);
    else
        snprintf(out, 48, "%.24s", cause);
}

/* none, starting, ready (not connected to every guest yet) or armed */
static const char *spare_text(const json_t *d)
{
    const json_t *spare = json_object_get(d, "spare");

    if (!spare)
        return "-";
    return json_is_true(json_object_get(spare, "armed")) ? "armed" : text_of(spare, "state");
}

/* "vda@disk0 eth0@net0", with a ! where it is not connected; "eth1 up" of an uplink. */
static void put_devices(const json_t *d, FILE *out)
{
    static const char *const kinds[] = {"disks", "nics"};
    const json_t *uplink = json_object_get(d, "uplink"), *e;
    const char *between = "";
    size_t i;

    for (int k = 0; k < 2; k++) {
        json_array_foreach(json_object_get(d, kinds[k]), i, e)
        {
            fprintf(out, "%s%s@%s%s", between, text_of(e, "dev"), text_of(e, "backend"),
                    json_is_true(json_object_get(e, "connected")) ? "" : "!");
            between = " ";
        }
    }
    if (*text_of(uplink, "devargs"))
        fprintf(out, "%s %s", text_of(uplink, *text_of(uplink, "interface") ? "interface" : "devargs"),
                text_of(uplink, "state"));
    else if (uplink)
        fputs("no uplink", out);
}

void show_list(const json_t *domains, FILE *out)
{
    int width = 4;
    const json_t *d;
    size_t i;

    json_array_foreach(domains, i, d) if ((int)strlen(text_of(d, "name")) > width) width =
        (int)strlen(text_of(d, "name"));
    fprintf(out, "%-*s  %-6s  %-10s  %5s  %-8s  %11s  %8s  %-21s  %-8s  %s\n", width, "NAME", "KIND", "CLASS",
            "DOMID", "STATE", "INCARNATION", "UPTIME", "LAST DEATH", "SPARE", "DEVICES");
    json_array_foreach(domains, i, d)
    {
        char domid[16] = "-", uptime[32] = "-", last[48];

        last_text(d, last);
        if (number_of(d, "domid")) {
            snprintf(domid, sizeof(domid), "%lld", number_of(d, "domid"));
            uptime_text(json_number_value(json_object_get(d, "uptime_s")), uptime);
        }
        fprintf(out, "%-*s  %-6s  %-10s  %5s  %-8s  %11lld  %8s  %-21s  %-8s  ", width, text_of(d, "name"),
                text_of(d, "kind"), text_of(d, "class"), domid, text_of(d, "state"),
                number_of(d, "incarnation"), uptime, last, spare_text(d));
        put_devices(d, out);
        fputc('\n', out);
    }
}

static const char *connected_text(const json_t *device)
{
    return json_is_true(json_object_get(device, "connected")) ? "connected" : "not connected";
}

static void show_disks(const json_t *disks, FILE *out)
{
    const json_t *d;
    size_t i;

    json_array_foreach(disks, i, d)
        fprintf(out, "disk         %s: %s of %s%s, %s\n", text_of(d, "dev"), text_of(d, "path"),
                text_of(d, "backend"), json_is_true(json_object_get(d, "readonly")) ? ", read-only" : "",
                connected_text(d));
}

static void show_nics(const json_t *nics, FILE *out)
{
    const json_t *d, *id;
    size_t i, k;

    json_array_foreach(nics, i, d)
    {
        const json_t *trunk = json_object_get(d, "trunk");

        fprintf(out, "NIC          %s: %s of %s, MTU %lld", text_of(d, "dev"), text_of(d, "mac"),
                text_of(d, "backend"), number_of(d, "mtu"));
        if (number_of(d, "vlan"))
            fprintf(out, ", VLAN %lld", number_of(d, "vlan"));
        json_array_foreach(trunk, k, id)
            fprintf(out, "%s%lld", k ? "," : ", trunk of ", (long long)json_integer_value(id));
        fprintf(out, "%s, %s\n", json_is_true(json_object_get(d, "isolated")) ? ", isolated" : "",
                connected_text(d));
    }
}

static void show_uplink(const json_t *uplink, FILE *out)
{
    if (!uplink)
        return;
    if (!*text_of(uplink, "devargs"))
        fputs("uplink       none: a switch between guests\n", out);
    else
        fprintf(out, "uplink       %s, MTU %lld%s%s\n", text_of(uplink, "devargs"), number_of(uplink, "mtu"),
                *text_of(uplink, "state") ? ", " : "", text_of(uplink, "state"));
}

static void show_recovery(const json_t *info, FILE *out)
{
    const json_t *spare = json_object_get(info, "spare"), *value;
    const char *key, *between = "             ";

    if (*text_of(info, "last_cause"))
        fprintf(out, "last death   %s\n", text_of(info, "last_cause"));
    if (!spare)
        return;
    if (number_of(info, "last_downtime_us")) {
        fprintf(out, "downtime     %lld us, %s\n", number_of(info, "last_downtime_us"),
                json_is_true(json_object_get(info, "last_warm")) ? "by its spare" : "started anew");
        json_object_foreach(json_object_get(info, "phases_us"), key, value)
        {
            fprintf(out, "%s%s %lld us", between, key, (long long)json_integer_value(value));
            between = ", ";
        }
        fputc('\n', out);
    }
    fprintf(out, "spare        %s%s%s\n", spare_text(info), *text_of(spare, "why") ? ": " : "",
            text_of(spare, "why"));
}

static void show_lists(const json_t *info, FILE *out)
{
    const json_t *e, *value;
    const char *key;
    size_t i;

    json_object_foreach(json_object_get(info, "namespaces"), key, value)
        fprintf(out, "namespace    %s %s\n", key, json_string_value(value) ? json_string_value(value) : "");
    json_array_foreach(json_object_get(info, "fds"), i, e)
        fprintf(out, "descriptor   %lld %s\n", number_of(e, "fd"), text_of(e, "what"));
    json_array_foreach(json_object_get(info, "regions"), i, e)
        fprintf(out, "region       %s: %lld pages, %s, peer %lld\n", text_of(e, "what"),
                number_of(e, "pages"), text_of(e, "access"), number_of(e, "peer"));
    json_array_foreach(json_object_get(info, "devices"), i, e) fprintf(
        out, "device       %lld %s, %s\n", number_of(e, "device"), text_of(e, "path"), text_of(e, "access"));
    json_array_foreach(json_object_get(info, "peers"), i, e)
        fprintf(out, "peer         %lld %s\n", number_of(e, "domid"), text_of(e, "name"));
}

static void show_syscalls(const json_t *names, FILE *out)
{
    const json_t *name;
    size_t i;

    fprintf(out, "system calls %zu:", json_array_size(names));
    json_array_foreach(names, i, name) fprintf(out, " %s", json_string_value(name));
    fputc('\n', out);
}

void show_info(const json_t *info, FILE *out)
{
    char uptime[32];

    uptime_text(json_number_value(json_object_get(info, "uptime_s")), uptime);
    fprintf(out, "name         %s\nkind         %s, %s\nstate        %s\n", text_of(info, "name"),
            text_of(info, "kind"), text_of(info, "class"), text_of(info, "state"));
    fprintf(out, "incarnation  %lld, %lld restarts that no one asked for\n", number_of(info, "incarnation"),
            number_of(info, "restarts"));
    show_recovery(info, out);
    if (*text_of(info, "socket"))
        fprintf(out, "socket       %s\n", text_of(info, "socket"));
    if (*text_of(info, "netns"))
        fprintf(out, "netns        %s\n", text_of(info, "netns"));
    show_disks(json_object_get(info, "disks"), out);
    show_nics(json_object_get(info, "nics"), out);
    show_uplink(json_object_get(info, "uplink"), out);
    if (!number_of(info, "domid"))
        return;
    fprintf(out, "domid        %lld\nuptime       %s\n", number_of(info, "domid"), uptime);
    if (number_of(info, "pid"))
        fprintf(out, "process      %lld, uid %lld\n", number_of(info, "pid"), number_of(info, "uid"));
    fprintf(out, "core calls   %lld, %lld refused\n", number_of(info, "core_calls"),
            number_of(info, "core_calls_refused"));
    show_lists(info, out);
    show_syscalls(json_object_get(info, "syscalls"), out);
}

void show_json(const json_t *object, FILE *out)
{
    json_dumpf(object, out, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    fputc('\n', out);
}
