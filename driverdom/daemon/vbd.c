/* SPDX-License-Identifier: MIT */
/* vbd.c - a guest's disk in the core's and the store's books. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../../hyp-shim/blkproto.h"
#include "../../hyp-shim/xenbus.h"
#include "daemon.h"

_Static_assert(POLICY_QUEUES_MAX == BLK_MAX_QUEUES, "what may be asked for is what can be served");
_Static_assert(POLICY_NAME_MAX <= HYP_NAME_MAX && POLICY_PATH_MAX <= HYP_PATH_MAX, "names fit the core's "
                                                                                   "calls");

#define TXN_TRIES 20

int vbd_assign(struct daemon *d, struct domain *guest, unsigned i)
{
    const struct policy_disk *disk = &guest->spec.disks[i];
    struct domain *driver = dom_find(d, disk->backend);
    struct vbd *vbd = &guest->vbd[i];
    unsigned flags = (disk->readonly ? HYP_DEVICE_RDONLY : 0) | (disk->direct ? HYP_DEVICE_DIRECT : 0);
    int rc = 0;

    vbd->be = driver->domid;
    vbd->connected = false;
    vbd->retry_at = 0;
    if (disk->source == POLICY_SOURCE_RAM) {
        vbd->device = VBD_OPEN;
        vbd->number = 0;
        return 0;
    }
    vbd->number = ++driver->next_device;
    vbd->device = VBD_OPENING;
    rc = hyp_device_assign(d->hyp, vbd->be, vbd->number, disk->path, flags);
    if (rc)
        vbd->device = VBD_NONE;
    return rc;
}

void vbd_release(struct daemon *d, struct domain *guest, unsigned i)
{
    struct vbd *vbd = &guest->vbd[i];

    if (vbd->device != VBD_NONE && vbd->number && vbd->be)
        hyp_device_release(d->hyp, vbd->be, vbd->number);
    vbd->device = VBD_NONE;
    vbd->number = 0;
    vbd->be = 0;
    vbd->give_up_at = vbd->retry_at = 0;
}

static int set_owner(struct daemon *d, store_txn t, const char *path, domid_t owner, domid_t reader)
{
    struct store_perm perms[2] = {{owner, 'n'}, {reader, 'r'}};

    return store_set_perms(d->store, t, path, perms, reader ? 2 : 1);
}

static int write_backend(struct daemon *d, store_txn t, const struct domain *guest, unsigned i, const char *b,
                         const char *f)
{
    const struct policy_disk *disk = &guest->spec.disks[i];
    const struct vbd *vbd = &guest->vbd[i];
    struct store *st = d->store;
    int rc = store_mkdir(st, t, b);

    if (!rc)
        rc = set_owner(d, t, b, vbd->be, guest->domid);
    if (!rc)
        rc = store_printf(st, t, b, "frontend", "%s", f);
    if (!rc)
        rc = store_printf(st, t, b, "frontend-id", "%u", guest->domid);
    if (!rc)
        rc = store_printf(st, t, b, "online", "1");
    if (!rc)
        rc = store_printf(st, t, b, "dev", "%s", disk->dev);
    if (!rc)
        rc = store_printf(st, t, b, "mode", "%s", disk->readonly ? "r" : "w");
    if (!rc)
        rc = store_printf(st, t, b, "type", "phy");
    if (!rc && disk->source == POLICY_SOURCE_RAM)
        rc = store_printf(st, t, b, "params", "ram:%llu", (unsigned long long)disk->ram_bytes);
    else if (!rc)
        rc = store_printf(st, t, b, "params", "device:%u", vbd->number);
    if (!rc)
        rc = store_printf(st, t, b, "bulkhead-weight", "%u", disk->weight);
    if (!rc)
        rc = store_printf(st, t, b, "state", "%d", XenbusStateInitialising);
    return rc;
}

static int write_frontend(struct daemon *d, store_txn t, const struct domain *guest, unsigned i,
                          const char *b, const char *f)
{
    const struct policy_disk *disk = &guest->spec.disks[i];
    domid_t be = guest->vbd[i].be;
    struct store *st = d->store;
    int rc = store_mkdir(st, t, f);

    if (!rc)
        rc = set_owner(d, t, f, guest->domid, be);
    if (!rc)
        rc = store_printf(st, t, f, "backend", "%s", b);
    if (!rc)
        rc = store_printf(st, t, f, "backend-id", "%u", be);
    if (!rc)
        rc = store_printf(st, t, f, "virtual-device", "%u", disk->devid);
    if (!rc)
        rc = store_printf(st, t, f, "device-type", "disk");
    if (!rc)
        rc = store_printf(st, t, f, "dev", "%s", disk->dev);
    if (!rc && disk->queues)
        rc = store_printf(st, t, f, "bulkhead-queues", "%u", disk->queues);
    if (!rc && disk->pool_pages)
        rc = store_printf(st, t, f, "bulkhead-pool-pages", "%u", disk->pool_pages);
    if (!rc && disk->grants != POLICY_GRANTS_AUTO)
        rc = store_printf(st, t, f, "bulkhead-grants", "%s", policy_grants_name(disk->grants));
    if (!rc)
        rc = store_printf(st, t, f, "state", "%d", XenbusStateInitialising);
    return rc;
}

static int paths_of(const struct domain *guest, unsigned i, domid_t be, char b[STORE_PATH_MAX],
                    char f[STORE_PATH_MAX])
{
    unsigned devid = guest->spec.disks[i].devid;
    int rc = xenbus_backend_path(b, be, "vbd", guest->domid, devid);

    return rc ? rc : xenbus_frontend_path(f, guest->domid, "vbd", devid);
}

/* Gone already is as good as removed. */
static int remove_path(struct daemon *d, store_txn t, const char *path)
{
    int rc = store_rm(d->store, t, path);

    return rc == -ENOENT ? 0 : rc;
}

/*
 * The frontend's directory is made anew as well: what it wrote for the old
 * backend (references, ports, its state) means nothing to the new one, and the
 * permissions must name the new one throughout.
 */
static int write_once(struct daemon *d, struct domain *guest, unsigned i)
{
    struct vbd *vbd = &guest->vbd[i];
    char b[STORE_PATH_MAX], f[STORE_PATH_MAX], old[STORE_PATH_MAX];
    store_txn t;
    int rc = paths_of(guest, i, vbd->be, b, f);

    if (!rc)
        rc = store_txn_begin(d->store, &t);
    if (rc)
        return rc;
    if (vbd->nodes_be) {
        rc = paths_of(guest, i, vbd->nodes_be, old, f);
        if (!rc)
            rc = remove_path(d, t, old);
        if (!rc)
            rc = remove_path(d, t, f);
    }
    if (!rc)
        rc = write_backend(d, t, guest, i, b, f);
    if (!rc)
        rc = write_frontend(d, t, guest, i, b, f);
    if (rc) {
        store_txn_abort(d->store, t);
        return rc;
    }
    return store_txn_commit(d->store, t);
}

static int watch_nodes(struct daemon *d, const struct domain *guest, unsigned i, bool on)
{
    const struct vbd *vbd = &guest->vbd[i];
    char b[STORE_PATH_MAX], f[STORE_PATH_MAX], token[STORE_TOKEN_MAX];
    int rc = paths_of(guest, i, vbd->nodes_be, b, f);

    if (rc)
        return rc;
    snprintf(token, sizeof(token), "%u/%u", guest->domid, i);
    strncat(f, "/state", STORE_PATH_MAX - 1 - strlen(f));
    strncat(b, "/error", STORE_PATH_MAX - 1 - strlen(b));
    if (!on) {
        store_unwatch(d->store, f, token);
        store_unwatch(d->store, b, token);
        return 0;
    }
    rc = store_watch(d->store, f, token);
    return rc ? rc : store_watch(d->store, b, token);
}

int vbd_write_nodes(struct daemon *d, struct domain *guest, unsigned i)
{
    struct vbd *vbd = &guest->vbd[i];
    int rc;

    if (vbd->nodes_be)
        watch_nodes(d, guest, i, false);
    for (int tries = 0; (rc = write_once(d, guest, i)) == -EAGAIN && tries < TXN_TRIES; tries++)
        ;
    if (rc)
        return rc;
    vbd->nodes_be = vbd->be;
    *vbd->error = '\0';
    return watch_nodes(d, guest, i, true);
}

void vbd_remove_nodes(struct daemon *d, struct domain *guest, unsigned i)
{
    struct vbd *vbd = &guest->vbd[i];
    char b[STORE_PATH_MAX], f[STORE_PATH_MAX];

    if (!vbd->nodes_be)
        return;
    watch_nodes(d, guest, i, false);
    if (!paths_of(guest, i, vbd->nodes_be, b, f)) {
        remove_path(d, STORE_NO_TXN, b);
        remove_path(d, STORE_NO_TXN, f);
        *strrchr(b, '/') = '\0'; /* .../vbd/FE: empty when this was its last disk */
        if (store_directory(d->store, STORE_NO_TXN, b, f, sizeof(f)) == 0)
            remove_path(d, STORE_NO_TXN, b);
    }
    vbd->nodes_be = 0;
    vbd->connected = false;
}

unsigned vbd_frontend_state(struct daemon *d, const struct domain *guest, unsigned i)
{
    char b[STORE_PATH_MAX], f[STORE_PATH_MAX];
    uint64_t state;

    if (paths_of(guest, i, guest->vbd[i].nodes_be, b, f) ||
        store_read_number(d->store, STORE_NO_TXN, f, "state", XenbusStateReconfigured, &state))
        return XenbusStateUnknown;
    return (unsigned)state;
}

void vbd_backend_error(struct daemon *d, const struct domain *guest, unsigned i, char *out, size_t cap)
{
    char b[STORE_PATH_MAX], f[STORE_PATH_MAX], value[STORE_VALUE_MAX];

    *out = '\0';
    if (paths_of(guest, i, guest->vbd[i].nodes_be, b, f))
        return;
    strncat(b, "/error", STORE_PATH_MAX - 1 - strlen(b));
    if (store_read(d->store, STORE_NO_TXN, b, value, sizeof(value)) <= 0)
        return;
    snprintf(out, cap, "%s", value);
    policy_clean_text(out);
}

void vbd_open_sentence(const struct domain *guest, unsigned i, int error, char why[DAEMON_SENTENCE_MAX])
{
    static const struct {
        int error;
        const char *text;
    } known[] = {
        {-ENOENT, "there is no such file or device"},
        {-ENOTDIR, "there is no such file or device"},
        {-EACCES, "no permission to open it"},
        {-EPERM, "no permission to open it"},
        {-EROFS, "it is on a read-only file system: add <readonly/>"},
        {-EISDIR, "it is a directory: only regular files and block devices can be served"},
        {-EINVAL, "it is no regular file or block device, or cannot do O_DIRECT (cache='none')"},
        {-ENOTBLK, "only regular files and block devices can be served"},
        {-ENODEV, "there is no such device"},
        {-ENXIO, "there is no such device"},
        {-ENOMEDIUM, "there is no medium in the device"},
        {-ELOOP, "it is a link that is not followed: give the real path"},
        {-EDQUOT, "the driver domain serves as many devices as it may"},
        {-ENOSPC, "the driver domain serves as many devices as it may"},
    };
    const struct policy_disk *disk = &guest->spec.disks[i];
    const char *text = strerror(-error);

    if (error == -EBUSY || error == -EAGAIN || error == -ETIMEDOUT || error == -EINPROGRESS) {
        snprintf(why, DAEMON_SENTENCE_MAX, "disk %s of %s: %.400s is in use by another (waited %d s)",
                 disk->dev, guest->spec.name, disk->path, OPEN_WAIT_MS / 1000);
        return;
    }
    for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++)
        if (known[k].error == error)
            text = known[k].text;
    snprintf(why, DAEMON_SENTENCE_MAX, "disk %s of %s: cannot open %.400s: %s", disk->dev, guest->spec.name,
             disk->path, text);
}

int home_make(struct daemon *d, const struct domain *dom)
{
    char home[STORE_PATH_MAX];
    int rc;

    snprintf(home, sizeof(home), "/local/domain/%u", dom->domid);
    rc = store_mkdir(d->store, STORE_NO_TXN, home);
    if (!rc)
        rc = set_owner(d, STORE_NO_TXN, home, dom->domid, 0);
    if (!rc)
        rc = store_printf(d->store, STORE_NO_TXN, home, "name", "%s", dom->spec.name);
    if (!rc)
        rc = store_printf(d->store, STORE_NO_TXN, home, "domid", "%u", dom->domid);
    return rc;
}

void home_remove(struct daemon *d, domid_t domid)
{
    char home[STORE_PATH_MAX];

    if (!domid)
        return;
    snprintf(home, sizeof(home), "/local/domain/%u", domid);
    remove_path(d, STORE_NO_TXN, home);
}
