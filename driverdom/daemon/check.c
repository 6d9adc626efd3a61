/* SPDX-License-Identifier: MIT */
/* check.c - whether a guest may have a device: what can be said before anything is made. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

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
        for (unsigned i = 0; disk_next(guest, &i); i++)
            if (!strcmp(guest->spec.disks[i].backend, driver->spec.name))
                sum += guest->spec.disks[i].ram_bytes;
    }
    return sum;
}

static int check_disk(struct daemon *d, const struct domain *guest, unsigned i, const struct domain *driver,
                      char why[DAEMON_SENTENCE_MAX])
{
    const struct policy_disk *disk = &guest->spec.disks[i];
    uint64_t ram;

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

/* One address, one NIC: the switch goes by it. */
static int check_nic(struct daemon *d, const struct domain *guest, unsigned i, const struct domain *driver,
                     char why[DAEMON_SENTENCE_MAX])
{
    const struct policy_nic *nic = &guest->spec.nics[i];
    char mac[18];

    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        const struct domain *other = &d->domains[g];

        if (!other->used || (other != guest && dom_is_down(other)))
            continue;
        for (unsigned k = 0; nic_next(other, &k); k++) {
            if ((other == guest && k == i) || strcmp(other->spec.nics[k].backend, driver->spec.name) != 0 ||
                memcmp(other->spec.nics[k].mac, nic->mac, sizeof(nic->mac)) != 0)
                continue;
            vif_mac_text(nic->mac, mac);
            snprintf(
                why, DAEMON_SENTENCE_MAX,
                "NIC %s of %s: address %s is that of %s of %s already, in driver domain %s: give it another "
                "<mac address='...'/>",
                nic->dev, guest->spec.name, mac, other->spec.nics[k].dev, other->spec.name,
                driver->spec.name);
            return -EADDRINUSE;
        }
    }
    return 0;
}

int guest_check_device(struct daemon *d, const struct domain *guest, unsigned i,
                       char why[DAEMON_SENTENCE_MAX])
{
    const struct split *split = &guest->split[i];
    const struct domain *driver = dom_find(d, split->backend);
    bool disk = split_is_disk(i);

    if (!driver || driver->spec.kind != POLICY_DRIVER) {
        snprintf(why, DAEMON_SENTENCE_MAX,
                 "%s %s of %s names driver domain %s, which is not defined: define it first", split->word,
                 split->dev, guest->spec.name, split->backend);
        return -ENOENT;
    }
    if (driver->spec.cls != (disk ? POLICY_CLASS_BLK : POLICY_CLASS_NET)) {
        snprintf(why, DAEMON_SENTENCE_MAX,
                 "%s %s of %s names driver domain %s, whose class is '%s', not '%s'", split->word, split->dev,
                 guest->spec.name, split->backend, policy_class_name(&driver->spec), disk ? "blk" : "net");
        return -EINVAL;
    }
    if (driver->state != ST_RUNNING) {
        snprintf(why, DAEMON_SENTENCE_MAX, "driver domain %s is not running: start it first", split->backend);
        return -ENOTCONN;
    }
    return disk ? check_disk(d, guest, i, driver, why)
                : check_nic(d, guest, i - FIRST_NIC, driver, why);
}
