/* SPDX-License-Identifier: MIT */
/*
 * convert.h - an ordinary libvirt guest of QEMU becomes one on driver domains:
 * its disks and NICs become vhost-user devices, and what stands behind them
 * moves into our metadata element (../README.md).  Pure: no file, no libvirt.
 *
 * A device is converted whole or stays exactly as it was.  All else in the
 * document (comments, other namespaces, what we do not know) is kept.
 */
#ifndef BULKHEAD_CONVERT_H
#define BULKHEAD_CONVERT_H

#include <stdbool.h>
#include <stddef.h>

#define CONVERT_XML_MAX    (1u << 20)
#define CONVERT_NOTES_MAX  200
#define CONVERT_NOTE_MAX   400
#define CONVERT_DRIVER_MAX 48 /* of a driver domain's name, with NUL */

struct convert_options {
    const char *file;        /* named in notes and sentences                       */
    const char *run_dir;     /* NULL: /run/bulkhead                                */
    const char *disk_driver; /* for a disk without <backenddomain>; NULL: disk0    */
    const char *net_driver;  /* for a NIC; NULL: net0                              */
};

/* What could not be carried over or was changed, and why: "FILE:LINE: vda: ...". */
struct convert_notes {
    unsigned n;
    unsigned converted; /* devices that this call converted                         */
    unsigned already;   /* that were on driver domains before                       */
    unsigned left;      /* disks and NICs that stay as they are                     */
    char text[CONVERT_NOTES_MAX][CONVERT_NOTE_MAX];
    char error[CONVERT_NOTE_MAX]; /* one sentence, when the call failed; else ""    */
};

/*
 * A whole <domain>.  0: *out is the new document, the caller's to free(); with
 * notes->converted == 0 it is the old one, byte for byte.  -EINVAL: not a guest
 * that can be converted, notes->error says why and *out is NULL; -ENOMEM likewise.
 */
int convert_domain(const char *xml, size_t len, const struct convert_options *opt, char **out,
                   struct convert_notes *notes);

/* One device, for a guest that has our metadata element. */
struct convert_result {
    bool disk;      /* else an interface                                           */
    char dev[16];   /* vda, eth0: what both parts are called                       */
    char *device;   /* <disk type='vhostuser'>, <interface type='vhostuser'>: for libvirt */
    char *metadata; /* <bulkhead:disk .../> or <bulkhead:interface>, which declares xmlns:bulkhead
                       itself: for our <domain> in <metadata>.  It names the driver domain, the
                       queues, <mac> and <mtu> as well, so that it can stand alone.  NULL: the
                       device was a vhostuser one already, and what is behind it must be in the
                       guest's metadata */
};

/*
 * xml is one <disk> or <interface>.  domain is the guest's XML: its name, and
 * the device names that are taken (those in our metadata too).  A device that
 * names none gets the first free one, as does a disk whose name is taken.  0, and
 * *result is for convert_free(); or -EINVAL, -ENOMEM with notes->error.  An
 * ordinary device that cannot be converted is an error here.
 */
int convert_device(const char *xml, size_t len, const char *domain, size_t domain_len,
                   const struct convert_options *opt, struct convert_result *result,
                   struct convert_notes *notes);
void convert_free(struct convert_result *result);

#endif
