/* SPDX-License-Identifier: MIT */
/* report.c - what runs, and who holds what. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../frontends/door/vhost_user/channel.h"
#include "../../hyp-shim/local/jail.h"
#include "../../hyp-shim/local/netdev/link.h"
#include "../../hyp-shim/netproto.h"
#include "daemon.h"

#define HOLDINGS_MAX 512

double report_uptime(const struct domain *dom)
{
    return dom->started_at ? (double)(now_ms() - dom->started_at) / 1000.0 : 0.0;
}

/* Where a VMM connects to that device. */
static void add_socket(struct daemon *d, const struct domain *dom, const char *dev, json_t *out)
{
    if (dom->spec.door == POLICY_DOOR_VHOST)
        json_object_set_new(out, "socket",
                            json_sprintf("%s/guests/%s/%s.sock", d->run_dir, dom->spec.name, dev));
}

static json_t *describe_disks(struct daemon *d, const struct domain *dom)
{
    json_t *disks = json_array();

    for (unsigned i = 0; disk_next(dom, &i); i++) {
        const struct policy_disk *disk = &dom->spec.disks[i];
        json_t *out = json_pack("{s:s,s:s,s:s,s:b,s:b}", "dev", disk->dev, "backend", disk->backend, "path",
                                disk->source == POLICY_SOURCE_RAM ? "ram" : disk->path, "readonly",
                                (int)disk->readonly, "connected", (int)dom->split[i].connected);

        add_socket(d, dom, disk->dev, out);
        json_array_append_new(disks, out);
    }
    return disks;
}

static json_t *describe_trunk(const struct policy_nic *nic)
{
    json_t *ids = json_array();

    for (unsigned id = 1; nic->trunk && id <= POLICY_VLAN_MAX; id++)
        if (nic->vlans[id / 64] & 1ull << id % 64)
            json_array_append_new(ids, json_integer(id));
    return ids;
}

/* vlan 0: its untagged frames are in none. */
static json_t *describe_nics(struct daemon *d, const struct domain *dom)
{
    json_t *nics = json_array();

    for (unsigned k = 0; nic_next(dom, &k); k++) {
        const struct policy_nic *nic = &dom->spec.nics[k];
        char mac[18];
        json_t *out;

        vif_mac_text(nic->mac, mac);
        out = json_pack("{s:s,s:s,s:s,s:i,s:o,s:i,s:b,s:b}", "dev", nic->dev, "backend", nic->backend, "mac",
                        mac, "vlan", (int)nic->pvid, "trunk", describe_trunk(nic), "mtu",
                        (int)(nic->mtu ? nic->mtu : NET_MTU_DEFAULT), "isolated", (int)nic->isolated,
                        "connected", (int)dom->split[FIRST_NIC + k].connected);
        add_socket(d, dom, nic->dev, out);
        json_array_append_new(nics, out);
    }
    return nics;
}

/* state: none, starting (or to be made), ready; why: what keeps it from being ready. */
static json_t *describe_spare(struct daemon *d, const struct domain *dom)
{
    static const char *const states[] = {
        [SPARE_NONE] = "none", [SPARE_WAITING] = "starting", [SPARE_STARTING] = "starting",
        [SPARE_READY] = "ready"};
    const struct spare *spare = &dom->spare;
    const char *why = spare_why_not(dom);

    if (!*why && spare->at == SPARE_NONE)
        why = dom->state == ST_RUNNING ? "it is to be made" : "the driver domain does not run";
    else if (spare->at == SPARE_WAITING)
        why = spare->failures ? "the last one died: it is made again in a moment" : "it is made in a moment";
    return json_pack("{s:s,s:s,s:i,s:b}", "state", states[spare->at], "why", why, "domid",
                     (int)spare->domid, "armed", (int)spare_is_armed(d, dom));
}

static void add_deaths(struct daemon *d, const struct domain *dom, json_t *out)
{
    char cause[32];

    cause_text(dom->last_cause, dom->last_status, cause);
    json_object_set_new(out, "last_cause", json_string(cause));
    if (dom->spec.kind != POLICY_DRIVER)
        return;
    json_object_set_new(out, "last_downtime_us", json_integer((json_int_t)dom->last_downtime_us));
    json_object_set_new(out, "spare", describe_spare(d, dom));
}

static json_t *summary(struct daemon *d, const struct domain *dom)
{
    json_t *out = json_pack("{s:s,s:s,s:s,s:i,s:s,s:i,s:f}", "name", dom->spec.name, "kind",
                            policy_kind_name(dom->spec.kind), "class", policy_class_name(&dom->spec), "domid",
                            (int)dom->domid, "state", dom_state_name(dom), "incarnation",
                            (int)dom->incarnation, "uptime_s", report_uptime(dom));

    add_deaths(d, dom, out);
    if (dom->opened) {
        json_object_set_new(out, "opened", json_true());
        json_object_set_new(out, "opens", json_integer(dom->opens));
    }
    if (dom->spec.kind == POLICY_GUEST) {
        json_object_set_new(out, "disks", describe_disks(d, dom));
        json_object_set_new(out, "nics", describe_nics(d, dom));
    } else if (dom->spec.cls == POLICY_CLASS_NET) {
        json_object_set_new(
            out, "uplink",
            json_pack("{s:s,s:s,s:i,s:s}", "devargs", dom->spec.devargs, "interface", dom->spec.ifname, "mtu",
                      (int)(dom->spec.mtu ? dom->spec.mtu : NET_MTU_DEFAULT), "state", uplink_state(d, dom)));
    }
    return out;
}

static int by_name(const void *a, const void *b)
{
    const struct domain *const *x = a, *const *y = b;

    /* Driver domains first. */
    if ((*x)->spec.kind != (*y)->spec.kind)
        return (*x)->spec.kind < (*y)->spec.kind ? -1 : 1;
    return strcmp((*x)->spec.name, (*y)->spec.name);
}

int report_sorted(struct daemon *d, const struct domain *out[DAEMON_DOMAINS_MAX])
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
    int n = report_sorted(d, all);

    for (int i = 0; i < n; i++)
        json_array_append_new(list, summary(d, all[i]));
    return list;
}

/* ------------------------------------------------------------------- info */

static const char *name_of(struct daemon *d, domid_t domid)
{
    const struct domain *dom = dom_by_domid(d, domid);

    for (int i = 0; !dom && domid && i < DAEMON_DOMAINS_MAX; i++)
        if (d->domains[i].used && d->domains[i].spare.domid == domid)
            return d->domains[i].spare.log.name;
    return dom ? dom->spec.name : domid == HYP_DOMID_TOOLSTACK ? "bulkheadd" : "";
}

static const char *path_of_device(struct daemon *d, const struct domain *driver, uint32_t number)
{
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++)
        for (unsigned i = 0; d->domains[g].used && disk_next(&d->domains[g], &i); i++)
            if (d->domains[g].split[i].be == driver->domid && d->domains[g].vbd[i].number == number)
                return d->domains[g].spec.disks[i].path;
    for (unsigned i = 0; i < UPLINK_FILES; i++)
        if (driver->uplink.file[i].number == number)
            return i == 0 ? driver->spec.rx_pcap : driver->spec.tx_pcap;
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

static void add_syscalls(const struct domain *dom, json_t *info)
{
    json_t *names = json_array();
    const char *const *list =
        dom->spec.door == POLICY_DOOR_NATIVE ? NULL : jail_syscalls(dom_class(&dom->spec));

    for (; list && *list; list++)
        json_array_append_new(names, json_string(*list));
    json_object_set_new(info, "syscalls", names);
}

json_t *report_info(struct daemon *d, struct domain *dom)
{
    struct hyp_domain_info core = {0};
    json_t *info = summary(d, dom);

    if (dom->domid && hyp_domain_info(d->hyp, dom->domid, &core))
        memset(&core, 0, sizeof(core));
    json_object_set_new(info, "pid", json_integer(core.pid));
    json_object_set_new(info, "uid", json_integer(core.uid));
    json_object_set_new(info, "restarts", json_integer(dom->restarts));
    if (dom->spec.kind == POLICY_DRIVER) {
        json_object_set_new(info, "last_warm", json_boolean(dom->last_warm));
        json_object_set_new(info, "phases_us", recovery_phases(dom));
    }
    json_object_set_new(info, "core_calls", json_integer((json_int_t)core.calls));
    json_object_set_new(info, "core_calls_refused", json_integer((json_int_t)core.refused));
    if (dom->spec.kind == POLICY_GUEST) {
        json_object_set_new(info, "door", json_string(policy_class_name(&dom->spec)));
        if (dom->door_fd >= 0 && dom->spec.door != POLICY_DOOR_VHOST)
            json_object_set_new(info, "socket",
                                json_sprintf("%s/guests/%s/%s.sock", d->run_dir, dom->spec.name,
                                             dom->spec.door == POLICY_DOOR_NBD ? "nbd" : "attach"));
    }
    if (dom->spec.door == POLICY_DOOR_TAP)
        json_object_set_new(info, "netns", json_string(dom->spec.netns));
    if (dom->spec.door == POLICY_DOOR_NATIVE)
        json_object_set_new(info, "attached", json_boolean(dom->attached));
    add_syscalls(dom, info);
    add_holdings(d, dom, info);
    return info;
}
