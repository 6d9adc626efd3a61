/* SPDX-License-Identifier: MIT */
/*
 * guest.c - a guest's start: everything is checked, then its devices are
 * opened in their driver domains, then its domain and nodes are made, then its
 * frontend connects.  What fails undoes all that came before.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../hyp-shim/xenbus.h"
#include "daemon.h"

#define RAM_SPARE (8ull << 20) /* what a driver domain needs besides its ram disks */

static int check_listed(const struct domain *guest, unsigned i, const struct domain *driver,
                        char why[DAEMON_SENTENCE_MAX])
{
    const struct policy_disk *disk = &guest->spec.disks[i];

    if (!driver->spec.nhostdevs || disk->source == POLICY_SOURCE_RAM)
        return 0;
    for (unsigned h = 0; h < driver->spec.nhostdevs; h++)
        if (!strcmp(driver->spec.hostdevs[h], disk->path))
            return 0;
    snprintf(why, DAEMON_SENTENCE_MAX, "driver domain %s may not serve %.400s: it is none of its <hostdev>",
             driver->spec.name, disk->path);
    return -EPERM;
}

static uint64_t ram_in_use(struct daemon *d, const struct domain *driver, const struct domain *besides)
{
    uint64_t sum = 0;

    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        const struct domain *guest = &d->domains[g];

        if (!guest->used || (dom_is_down(guest) && guest != besides))
            continue;
        for (unsigned i = 0; i < guest->spec.ndisks; i++)
            if (!strcmp(guest->spec.disks[i].backend, driver->spec.name))
                sum += guest->spec.disks[i].ram_bytes;
    }
    return sum;
}

static int check_disk(struct daemon *d, const struct domain *guest, unsigned i, char why[DAEMON_SENTENCE_MAX])
{
    const struct policy_disk *disk = &guest->spec.disks[i];
    struct domain *driver = dom_find(d, disk->backend);
    uint64_t ram;

    if (!driver || driver->spec.kind != POLICY_DRIVER) {
        snprintf(why, DAEMON_SENTENCE_MAX,
                 "disk %s of %s names driver domain %s, which is not defined: define it first", disk->dev,
                 guest->spec.name, disk->backend);
        return -ENOENT;
    }
    if (driver->state != ST_RUNNING) {
        snprintf(why, DAEMON_SENTENCE_MAX, "driver domain %s is not running: start it first", disk->backend);
        return -ENOTCONN;
    }
    ram = ram_in_use(d, driver, guest);
    if (disk->ram_bytes && (ram > driver->spec.memory_bytes || driver->spec.memory_bytes - ram < RAM_SPARE)) {
        snprintf(why, DAEMON_SENTENCE_MAX,
                 "driver domain %s has too little <memory> for the ram disks of its guests: it needs %llu "
                 "MiB",
                 disk->backend, (unsigned long long)((ram + RAM_SPARE + (1u << 20) - 1) >> 20));
        return -ENOMEM;
    }
    return check_listed(guest, i, driver, why);
}

static void build(struct daemon *d, struct domain *dom)
{
    char why[DAEMON_SENTENCE_MAX];
    const char *step = "the core would not make it";
    int rc = dom_make(d, dom, &dom->door_fd, 1);

    if (!rc) {
        dom->incarnation++;
        dom->built = true;
        step = "the store would not take its nodes";
        rc = home_make(d, dom);
    }
    for (unsigned i = 0; !rc && i < dom->spec.ndisks; i++)
        rc = vbd_write_nodes(d, dom, i);
    if (!rc) {
        step = "the core would not let it run";
        rc = hyp_domain_unpause(d->hyp, dom->domid);
    }
    if (rc) {
        struct hyp_domain_info info;

        if (dom->alive && hyp_domain_info(d->hyp, dom->domid, &info) == -ESRCH)
            snprintf(why, sizeof(why), "guest %s died as soon as it was made; see: bulkhead log @core",
                     dom->spec.name);
        else
            snprintf(why, sizeof(why), "guest %s could not be set up: %s: %s", dom->spec.name, step,
                     strerror(-rc));
        dom_start_failed(d, dom, why);
        return;
    }
    if (dom->spec.door == POLICY_DOOR_NATIVE) {
        dom_is_running(d, dom, "running");
        return;
    }
    dom->deadline = now_ms() + CONNECT_WAIT_MS;
    session_progress(d, dom, "waiting for the disks of %s to connect", dom->spec.name);
}

static bool all_open(const struct domain *dom)
{
    for (unsigned i = 0; i < dom->spec.ndisks; i++)
        if (dom->vbd[i].device != VBD_OPEN)
            return false;
    return true;
}

int guest_start(struct daemon *d, struct domain *dom, char why[DAEMON_SENTENCE_MAX])
{
    int rc = 0;

    for (unsigned i = 0; !rc && i < dom->spec.ndisks; i++)
        rc = check_disk(d, dom, i, why);
    if (!rc)
        rc = door_open(d, dom, why);
    for (unsigned i = 0; !rc && i < dom->spec.ndisks; i++) {
        rc = vbd_assign(d, dom, i);
        dom->vbd[i].give_up_at = dom->vbd[i].device == VBD_OPENING ? now_ms() + OPEN_WAIT_MS : 0;
        if (rc)
            vbd_open_sentence(dom, i, rc, why);
    }
    if (rc) {
        for (unsigned i = 0; i < dom->spec.ndisks; i++)
            vbd_release(d, dom, i);
        if (dom->state == ST_DEFINED)
            door_close(dom);
        return rc;
    }
    dom->state = ST_STARTING;
    dom->deadline = 0;
    event_tell(d, "starting", dom, NULL);
    session_progress(d, dom, "opening the disks of %s", dom->spec.name);
    if (all_open(dom))
        build(d, dom);
    return 0;
}

void guest_release(struct daemon *d, struct domain *dom)
{
    for (unsigned i = 0; i < dom->spec.ndisks; i++) {
        vbd_remove_nodes(d, dom, i);
        vbd_release(d, dom, i);
    }
    home_remove(d, dom->domid);
    dom->built = false;
}

/* ------------------------------------------------------------ devices that open */

static void device_failed(struct daemon *d, struct domain *dom, unsigned i, int error)
{
    struct vbd *vbd = &dom->vbd[i];
    bool busy = error == -EBUSY || error == -EAGAIN;
    char why[DAEMON_SENTENCE_MAX];

    vbd_open_sentence(dom, i, error, why);
    if (dom->built) {
        if (vbd->last_error != error)
            event_error(d, dom, "%s", why);
        vbd->last_error = error;
        vbd->retry_at = now_ms() + REASSIGN_MS;
    } else if (busy && now_ms() + OPEN_RETRY_MS < vbd->give_up_at) {
        vbd->retry_at = now_ms() + OPEN_RETRY_MS;
    } else {
        dom_start_failed(d, dom, why);
    }
}

void guest_device(struct daemon *d, const struct hyp_event *ev)
{
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        struct domain *dom = &d->domains[g];

        for (unsigned i = 0; dom->used && i < dom->spec.ndisks; i++) {
            struct vbd *vbd = &dom->vbd[i];

            if (vbd->device != VBD_OPENING || vbd->be != ev->domid || vbd->number != ev->device)
                continue;
            if (ev->error) {
                device_failed(d, dom, i, ev->error);
                return;
            }
            vbd->device = VBD_OPEN;
            vbd->last_error = 0;
            vbd->give_up_at = vbd->retry_at = 0;
            if (dom->state == ST_STARTING && !dom->built && all_open(dom))
                build(d, dom);
            return;
        }
    }
}

/* The same number again: the backend knows it by that. */
static void retry_device(struct daemon *d, struct domain *dom, unsigned i)
{
    const struct policy_disk *disk = &dom->spec.disks[i];
    struct vbd *vbd = &dom->vbd[i];
    unsigned flags = (disk->readonly ? HYP_DEVICE_RDONLY : 0) | (disk->direct ? HYP_DEVICE_DIRECT : 0);
    int rc;

    vbd->retry_at = 0;
    hyp_device_release(d->hyp, vbd->be, vbd->number);
    vbd->device = VBD_OPENING;
    rc = hyp_device_assign(d->hyp, vbd->be, vbd->number, disk->path, flags);
    if (rc)
        device_failed(d, dom, i, rc);
}

void guest_tick(struct daemon *d, struct domain *dom, uint64_t now)
{
    for (unsigned i = 0; i < dom->spec.ndisks; i++) {
        struct vbd *vbd = &dom->vbd[i];
        char why[DAEMON_SENTENCE_MAX];

        if (vbd->give_up_at && now >= vbd->give_up_at) {
            vbd_open_sentence(dom, i, -EBUSY, why);
            dom_start_failed(d, dom, why);
            return;
        }
        if (vbd->retry_at && now >= vbd->retry_at && vbd->be)
            retry_device(d, dom, i);
    }
}

uint64_t guest_next_tick(const struct domain *dom)
{
    uint64_t next = 0;

    for (unsigned i = 0; i < dom->spec.ndisks; i++) {
        const uint64_t times[] = {dom->vbd[i].give_up_at, dom->vbd[i].retry_at};

        for (int k = 0; k < 2; k++)
            if (times[k] && (!next || times[k] < next))
                next = times[k];
    }
    return next;
}

/* ------------------------------------------------------- what both sides write */

/* A backend may write here as often as it likes: it is heard once a second. */
static void hear_backend(struct daemon *d, struct domain *dom, unsigned i)
{
    struct vbd *vbd = &dom->vbd[i];
    char text[sizeof(vbd->error)], why[DAEMON_SENTENCE_MAX];
    uint64_t now = now_ms();

    vbd_backend_error(d, dom, i, text, sizeof(text));
    if (!*text || !strcmp(text, vbd->error) || (vbd->error_at && now - vbd->error_at < 1000))
        return;
    memcpy(vbd->error, text, sizeof(text));
    vbd->error_at = now;
    snprintf(why, sizeof(why), "disk %s of %s: driver domain %s reports: %s", dom->spec.disks[i].dev,
             dom->spec.name, dom->spec.disks[i].backend, text);
    if (dom->state == ST_STARTING)
        dom_start_failed(d, dom, why);
    else
        event_error(d, dom, "%s", why);
}

static void look_at_disk(struct daemon *d, struct domain *dom, unsigned i)
{
    struct vbd *vbd = &dom->vbd[i];
    bool connected;

    if (!dom->built || !vbd->nodes_be || !vbd->be)
        return;
    connected = vbd_frontend_state(d, dom, i) == XenbusStateConnected;
    if (connected && !vbd->connected)
        event_tell(d, "connected", dom, json_pack("{s:s}", "disk", dom->spec.disks[i].dev));
    vbd->connected = connected;
    if (dom->state == ST_STARTING) {
        bool all = true;

        for (unsigned k = 0; k < dom->spec.ndisks; k++)
            all = all && dom->vbd[k].connected;
        if (all)
            dom_is_running(d, dom, "running");
    }
    if (!connected)
        hear_backend(d, dom, i);
}

void guest_store_event(struct daemon *d, const struct store_event *ev)
{
    char *end;
    unsigned long domid = strtoul(ev->token, &end, 10);
    unsigned long disk = *end == '/' ? strtoul(end + 1, NULL, 10) : 0;
    bool everything = !*ev->token;

    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        struct domain *dom = &d->domains[g];

        for (unsigned i = 0; dom->used && i < dom->spec.ndisks; i++)
            if (everything || (dom->domid == domid && i == disk))
                look_at_disk(d, dom, i);
    }
}
