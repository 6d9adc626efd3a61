/* SPDX-License-Identifier: MIT */
/*
 * uplink.c - the way out of a net driver domain: what it is told of it in its
 * home before it runs, its files from the core, its interface from the keeper.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../../hyp-shim/local/netdev/link.h"
#include "daemon.h"

bool uplink_needs_keeper(const struct domain_spec *spec)
{
    return *spec->ifname != '\0';
}

static const char *file_path(const struct domain_spec *spec, unsigned i)
{
    return i == 0 ? spec->rx_pcap : spec->tx_pcap;
}

int uplink_check(struct daemon *d, const struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    for (int i = 0; i < DAEMON_DOMAINS_MAX; i++) {
        const struct domain *other = &d->domains[i];

        if (!other->used || other == dom || dom_is_down(other) || !*dom->spec.ifname ||
            strcmp(other->spec.ifname, dom->spec.ifname) != 0)
            continue;
        snprintf(why, DAEMON_SENTENCE_MAX,
                 "interface %s is the uplink of driver domain %s already: stop it first", dom->spec.ifname,
                 other->spec.name);
        return -EBUSY;
    }
    return 0;
}

static int write_home(struct daemon *d, const struct domain *dom, domid_t domid,
                      char why[DAEMON_SENTENCE_MAX])
{
    char dir[STORE_PATH_MAX], key[16];
    unsigned n = 0;
    int rc;

    snprintf(dir, sizeof(dir), "/local/domain/%u/uplink", domid);
    rc = store_printf(d->store, STORE_NO_TXN, dir, "devargs", "%s", dom->spec.devargs);
    if (!rc && dom->spec.mtu)
        rc = store_printf(d->store, STORE_NO_TXN, dir, "mtu", "%u", dom->spec.mtu);
    for (unsigned i = 0; !rc && i < UPLINK_FILES; i++) {
        if (!dom->uplink.file[i].number)
            continue;
        snprintf(key, sizeof(key), "files/%u", n++);
        rc = store_printf(d->store, STORE_NO_TXN, dir, key, "%u", dom->uplink.file[i].number);
    }
    if (rc)
        snprintf(why, DAEMON_SENTENCE_MAX, "the store would not take the nodes of driver domain %s: %s",
                 dom->spec.name, strerror(-rc));
    return rc;
}

int uplink_prepare(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    int rc;

    for (unsigned i = 0; i < UPLINK_FILES; i++) {
        const char *path = file_path(&dom->spec, i);

        if (!*path)
            continue;
        dom->uplink.file[i] = (struct uplink_file){.number = ++dom->next_device};
        rc = hyp_device_assign(d->hyp, dom->domid, dom->uplink.file[i].number, path,
                               i == 0 ? HYP_DEVICE_RDONLY : 0);
        if (rc) {
            snprintf(why, DAEMON_SENTENCE_MAX, "uplink of %s: cannot open %.300s: %s", dom->spec.name, path,
                     device_error_text(rc));
            return rc;
        }
    }
    return write_home(d, dom, dom->domid, why);
}

int uplink_prepare_spare(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    return write_home(d, dom, dom->spare.domid, why);
}

bool uplink_files_open(const struct domain *dom)
{
    for (unsigned i = 0; i < UPLINK_FILES; i++)
        if (dom->uplink.file[i].number && !dom->uplink.file[i].open)
            return false;
    return true;
}

void uplink_clear(struct domain *dom)
{
    memset(dom->uplink.file, 0, sizeof(dom->uplink.file));
    keeper_close_channel(dom->channel);
}

/* The gate of the incarnation, or of its spare.  True: it was that. */
static bool gate_opened(struct daemon *d, struct domain *dom, const struct hyp_event *ev)
{
    bool spare = dom->spare.domid && ev->domid == dom->spare.domid;
    char why[DAEMON_SENTENCE_MAX];

    if (ev->device != (spare ? dom->spare.gate : dom->gate) || !ev->device)
        return false;
    if (!ev->error) {
        *(spare ? &dom->spare.gate_ns : &dom->gate_ns) = ev->at_ns;
        recovery_look(d, dom);
        return true;
    }
    snprintf(why, sizeof(why), "driver domain %s: cannot open %s/gates/%s: %s", dom->spec.name, d->run_dir,
             dom->spec.name, device_error_text(ev->error));
    if (spare)
        spare_failed(d, dom, why);
    else if (dom->state == ST_STARTING)
        dom_start_failed(d, dom, why);
    else {
        event_error(d, dom, "%s", why);
        hyp_domain_destroy(d->hyp, dom->domid);
    }
    return true;
}

void driver_device(struct daemon *d, struct domain *dom, const struct hyp_event *ev)
{
    char why[DAEMON_SENTENCE_MAX];

    if (dom->spec.cls != POLICY_CLASS_NET || gate_opened(d, dom, ev) || ev->domid != dom->domid)
        return;
    for (unsigned i = 0; i < UPLINK_FILES; i++) {
        struct uplink_file *file = &dom->uplink.file[i];

        if (!file->number || file->number != ev->device || file->open)
            continue;
        if (ev->error) {
            snprintf(why, sizeof(why), "uplink of %s: cannot open %.300s: %s", dom->spec.name,
                     file_path(&dom->spec, i),
                     ev->error == -EBUSY ? "it is in use by another" : device_error_text(ev->error));
            dom_start_failed(d, dom, why);
            return;
        }
        file->open = true;
        driver_go_on(d, dom);
        return;
    }
}

/* The keeper's word counts; what has no interface is told by the driver domain, if it says one of the words.
 */
const char *uplink_state(struct daemon *d, const struct domain *dom)
{
    static const char *const words[] = {"up", "down", "gone"};
    static const char *const kept[] = {
        [LINK_UP] = "up", [LINK_DOWN] = "down", [LINK_GONE] = "gone", [LINK_BACK] = "back"};
    char path[STORE_PATH_MAX], value[16];

    if (!*dom->spec.devargs || dom->state != ST_RUNNING)
        return "";
    if (uplink_needs_keeper(&dom->spec) && dom->uplink.state >= LINK_UP && dom->uplink.state <= LINK_BACK)
        return kept[dom->uplink.state];
    snprintf(path, sizeof(path), "/local/domain/%u/uplink/state", dom->domid);
    if (store_read(d->store, STORE_NO_TXN, path, value, sizeof(value)) > 0)
        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
            if (!strcmp(words[i], value))
                return words[i];
    return "unknown";
}
