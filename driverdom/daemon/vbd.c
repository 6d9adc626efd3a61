/* SPDX-License-Identifier: MIT */
/* vbd.c - a guest's disk: its device in the core's books, and its nodes. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../../hyp-shim/blkproto.h"
#include "daemon.h"

_Static_assert(POLICY_QUEUES_MAX == BLK_MAX_QUEUES, "what may be asked for is what can be served");
_Static_assert(POLICY_NAME_MAX <= HYP_NAME_MAX && POLICY_PATH_MAX <= HYP_PATH_MAX, "names fit the core's "
                                                                                   "calls");

static int assign(struct daemon *d, const struct policy_disk *disk, struct vbd *vbd, domid_t be)
{
    unsigned flags = (disk->readonly ? HYP_DEVICE_RDONLY : 0) | (disk->direct ? HYP_DEVICE_DIRECT : 0);

    vbd->retry_at = vbd->opened_ns = 0;
    vbd->device = VBD_OPENING;
    return hyp_device_assign(d->hyp, be, vbd->number, disk->path, flags);
}

int vbd_assign(struct daemon *d, struct domain *guest, unsigned i)
{
    const struct policy_disk *disk = &guest->spec.disks[i];
    struct domain *driver = dom_find(d, disk->backend);
    struct split *split = &guest->split[i];
    struct vbd *vbd = &guest->vbd[i];
    int rc;

    split->be = driver->domid;
    split->connected = false;
    if (disk->source == POLICY_SOURCE_RAM) {
        *vbd = (struct vbd){.device = VBD_OPEN};
        return 0;
    }
    vbd->number = ++driver->next_device;
    rc = assign(d, disk, vbd, split->be);
    if (rc)
        vbd->device = VBD_NONE;
    return rc;
}

int vbd_assign_ahead(struct daemon *d, struct domain *guest, unsigned i, struct spare *spare)
{
    struct vbd *vbd = &guest->ahead[i];
    int rc;

    *vbd = (struct vbd){.number = ++spare->next_device};
    rc = assign(d, &guest->spec.disks[i], vbd, spare->domid);
    if (rc)
        *vbd = (struct vbd){.device = VBD_NONE};
    return rc;
}

int vbd_assign_again(struct daemon *d, const struct domain *guest, unsigned i, struct vbd *vbd, domid_t be)
{
    hyp_device_release(d->hyp, be, vbd->number);
    return assign(d, &guest->spec.disks[i], vbd, be);
}

void vbd_release_ahead(struct daemon *d, struct domain *guest, unsigned i, domid_t spare)
{
    struct vbd *vbd = &guest->ahead[i];

    if (vbd->device != VBD_NONE && vbd->number && spare)
        hyp_device_release(d->hyp, spare, vbd->number);
    *vbd = (struct vbd){.device = VBD_NONE};
}

void vbd_release(struct daemon *d, struct domain *guest, unsigned i)
{
    struct split *split = &guest->split[i];
    struct vbd *vbd = &guest->vbd[i];

    if (vbd->device != VBD_NONE && vbd->number && split->be)
        hyp_device_release(d->hyp, split->be, vbd->number);
    *vbd = (struct vbd){.device = VBD_NONE, .last_error = vbd->last_error};
    split->be = 0;
}

void vbd_nodes(const struct domain *guest, unsigned i, bool standby, struct nodes *backend,
               struct nodes *frontend)
{
    const struct policy_disk *disk = &guest->spec.disks[i];

    nodes_add(backend, "mode", "%s", disk->readonly ? "r" : "w");
    nodes_add(backend, "type", "phy");
    if (disk->source == POLICY_SOURCE_RAM)
        nodes_add(backend, "params", "ram:%llu", (unsigned long long)disk->ram_bytes);
    else
        nodes_add(backend, "params", "device:%u", (standby ? guest->ahead : guest->vbd)[i].number);
    nodes_add(backend, "bulkhead-weight", "%u", disk->weight);
    nodes_add(frontend, "virtual-device", "%u", disk->devid);
    nodes_add(frontend, "device-type", "disk");
    nodes_add_hints(frontend, disk->queues, disk->pool_pages, disk->grants);
    nodes_add(frontend, "bulkhead-max-deaths", "%u", disk->max_deaths);
    if (disk->timeout_ms)
        nodes_add(frontend, "bulkhead-timeout-ms", "%u", disk->timeout_ms);
}

const char *device_error_text(int error)
{
    static const struct {
        int error;
        const char *text;
    } known[] = {
        {-ENOENT, "there is no such file or device"},
        {-ENOTDIR, "there is no such file or device"},
        {-ESRCH, "the driver domain died: try again"},
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

    for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++)
        if (known[k].error == error)
            return known[k].text;
    return strerror(-error);
}

void vbd_open_sentence(const struct domain *guest, unsigned i, int error, char why[DAEMON_SENTENCE_MAX])
{
    const struct policy_disk *disk = &guest->spec.disks[i];

    if (error == -EBUSY || error == -EAGAIN || error == -ETIMEDOUT || error == -EINPROGRESS)
        snprintf(why, DAEMON_SENTENCE_MAX, "disk %s of %s: %.400s is in use by another (waited %d s)",
                 disk->dev, guest->spec.name, disk->path, OPEN_WAIT_MS / 1000);
    else
        snprintf(why, DAEMON_SENTENCE_MAX, "disk %s of %s: cannot open %.400s: %s", disk->dev,
                 guest->spec.name, disk->path, device_error_text(error));
}
