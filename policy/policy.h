/* SPDX-License-Identifier: MIT */
/*
 * policy.h - what an operator describes: driver domains and guests, in libvirt
 * domain XML (https://libvirt.org/formatdomain.html) with one <metadata>
 * element of our own namespace.  README.md in this folder is the manual of
 * what is read; bulkhead.rng is the schema.
 *
 * Pure functions: no file, no clock, no global state but libxml2's.  The text
 * may come from anyone: it is bounded, it may not have a DOCTYPE, and it is
 * refused whole with one sentence or understood whole.
 */
#ifndef BULKHEAD_POLICY_H
#define BULKHEAD_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POLICY_NS "urn:bulkhead:domain:1"

#define POLICY_XML_MAX      (1u << 20) /* bytes of one document                    */
#define POLICY_NAME_MAX     48         /* with NUL                                 */
#define POLICY_PATH_MAX     1024       /* with NUL                                 */
#define POLICY_UUID_MAX     37         /* with NUL                                 */
#define POLICY_DISKS_MAX    16         /* vda .. vdp                               */
#define POLICY_NICS_MAX     8
#define POLICY_HOSTDEVS_MAX 16
#define POLICY_IFNAME_MAX   16         /* with NUL                                 */
#define POLICY_DEVARGS_MAX  256        /* with NUL                                 */
#define POLICY_SOCKET_MAX   108        /* of a Unix socket's path, with NUL: sun_path */
#define POLICY_ERR_MAX      512        /* a sentence, with NUL                     */
#define POLICY_NOTES_MAX    32
#define POLICY_NOTE_MAX     256

#define POLICY_VLAN_MAX     4094u
#define POLICY_VLANS_MAX    200        /* tags of one trunk: their list is one store value */
#define POLICY_MTU_MIN      68u
#define POLICY_MTU_MAX      9216u
#define POLICY_RATE_MAX     1000000000u /* kilobytes a second, or KiB of a burst      */

#define POLICY_DRIVER_MEMORY_MIN (16ull << 20) /* class blk                         */
#define POLICY_NET_MEMORY_MIN    (64ull << 20) /* class net: DPDK and packet buffers */
#define POLICY_QUEUES_MAX        8u
#define POLICY_VHOST_QUEUES_MAX  16u    /* that QEMU may make on a door; a backend has at most those above */
#define POLICY_POOL_PAGES_MIN    64u    /* of 4 KiB, a queue                       */
#define POLICY_POOL_PAGES_MAX    65536u
#define POLICY_WEIGHT_MAX        1000u
#define POLICY_WEIGHT_DEFAULT    100u
#define POLICY_RAM_MIN           (1ull << 20)
#define POLICY_RAM_MAX           (1ull << 40)
#define POLICY_CPUS_MAX          64u

#define POLICY_HEARTBEAT_MIN     100u   /* milliseconds                             */
#define POLICY_HEARTBEAT_MAX     60000u
#define POLICY_HEARTBEAT_DEFAULT 500u
#define POLICY_DEATHS_MAX        65535u /* that a request may have been in flight through */
#define POLICY_DEATHS_DEFAULT    3u
#define POLICY_TIMEOUT_MIN       100u   /* milliseconds                             */
#define POLICY_TIMEOUT_MAX       86400000u

enum policy_kind { POLICY_DRIVER = 1, POLICY_GUEST };
enum policy_class { POLICY_CLASS_NONE, POLICY_CLASS_BLK, POLICY_CLASS_NET };
enum policy_door {
    POLICY_DOOR_NONE,
    POLICY_DOOR_NBD,
    POLICY_DOOR_NATIVE,
    POLICY_DOOR_TAP,
    POLICY_DOOR_VHOST /* "vhost-user": a libvirt guest of QEMU                    */
};
enum policy_grants { POLICY_GRANTS_AUTO, POLICY_GRANTS_PERSISTENT, POLICY_GRANTS_COPY, POLICY_GRANTS_MAP };
/* What becomes of packets that a guest has sent and a dead driver domain may have sent on. */
enum policy_tx { POLICY_TX_DROP, POLICY_TX_RESEND };
/* What a net driver domain's uplink may be. */
enum policy_pmd {
    POLICY_PMD_NONE,
    POLICY_PMD_NULL,
    POLICY_PMD_RING,
    POLICY_PMD_AF_PACKET,
    POLICY_PMD_AF_XDP,
    POLICY_PMD_TAP,
    POLICY_PMD_PCAP
};
enum policy_source { POLICY_SOURCE_FILE = 1, POLICY_SOURCE_BLOCK, POLICY_SOURCE_RAM };

/*
 * A guest with door='vhost-user' is an ordinary libvirt domain of QEMU.  Its
 * devices are those that our metadata element names, in that order; what the
 * <disk type='vhostuser'> or <interface type='vhostuser'> in <devices> says of one
 * (driver domain, queues, address, MTU) has been merged in.  socket is the path
 * there, "" when there is none: then the door only stands ready, for
 * virsh attach-device.  The path ends in /guests/NAME/DEV.sock; what stands
 * before that is for the caller to compare with its run directory.  Plugging and
 * unplugging change socket and line and nothing else of a device whose metadata
 * names driver=, queues= and <mac>, <mtu>: policy_same_disk(), policy_same_nic().
 */
struct policy_disk {
    char dev[8];                    /* "vda"                                       */
    unsigned devid;                 /* its virtual device number, 51712 for vda    */
    char backend[POLICY_NAME_MAX];  /* the driver domain that serves it            */
    enum policy_source source;
    char path[POLICY_PATH_MAX];     /* absolute; "" for a ram disk                 */
    uint64_t ram_bytes;             /* 0 unless a ram disk                         */
    bool readonly;
    bool direct;                    /* cache='none': O_DIRECT                      */
    unsigned queues;                /* 0: not said                                 */
    unsigned pool_pages;            /* a queue; 0: not said                        */
    unsigned weight;                /* 1 .. POLICY_WEIGHT_MAX                      */
    enum policy_grants grants;
    unsigned max_deaths;            /* a request fails that was in flight through so many */
    unsigned timeout_ms;            /* a request fails after so long; 0: it waits  */
    unsigned line;                  /* of <disk>; vhost-user: of our <disk>        */
    char socket[POLICY_SOCKET_MAX]; /* vhost-user: where QEMU connects; "" not plugged in */
};

/* Bandwidth in one direction, bytes; average 0: no limit. libvirt: kilobytes of 1000 a
 * second, burst in KiB: see README.md. */
struct policy_rate {
    uint64_t average, peak, burst;
};

/* One <interface> of a guest. */
struct policy_nic {
    char dev[POLICY_IFNAME_MAX];    /* <guest dev=> or <target dev=>, else eth0, eth1, ... */
    unsigned devid;                 /* 0, 1, ... in the order of the document      */
    char backend[POLICY_NAME_MAX];
    uint8_t mac[6];                 /* given, or made from the guest's uuid, else name */
    unsigned mtu;                   /* 0: not said                                 */
    unsigned pvid;                  /* VLAN of its untagged frames; 0: none        */
    bool trunk;
    uint64_t vlans[64];             /* bit map: VLANs of the trunk, its native one too */
    bool isolated;                  /* <port isolated='yes'/>                      */
    struct policy_rate inbound, outbound;
    unsigned queues;                /* <driver queues=>; 0: not said               */
    unsigned pool_pages;
    unsigned weight;
    enum policy_grants grants;      /* AUTO, PERSISTENT or COPY                    */
    enum policy_tx tx;
    unsigned line;                  /* of <interface>; vhost-user: of our <interface> */
    char socket[POLICY_SOCKET_MAX]; /* as for a disk                               */
};

struct domain_spec {
    enum policy_kind kind;
    enum policy_class cls;          /* of a driver domain                          */
    enum policy_door door;          /* of a guest                                  */
    char name[POLICY_NAME_MAX];
    char uuid[POLICY_UUID_MAX];     /* lower case; "" when not said                */
    uint64_t memory_bytes;
    uint64_t cpus;                  /* bit mask; 0: any                            */
    unsigned name_line;
    bool spare;                     /* driver: the next incarnation is kept ready  */
    unsigned heartbeat_ms;          /* driver: silent so long, with work to do, it hangs; 0: not judged */
    unsigned nhostdevs;             /* driver: the block devices that it may serve; 0: any */
    char hostdevs[POLICY_HOSTDEVS_MAX][POLICY_PATH_MAX];
    char devargs[POLICY_DEVARGS_MAX]; /* net driver domain: its uplink; "" none    */
    enum policy_pmd pmd;             /* the first word of devargs                  */
    char ifname[POLICY_IFNAME_MAX];  /* the interface that its iface= names; ""    */
    char rx_pcap[POLICY_DEVARGS_MAX]; /* net_pcap: absolute paths; "" none          */
    char tx_pcap[POLICY_DEVARGS_MAX];
    unsigned mtu;                    /* of the uplink; 0: not said                 */
    unsigned nnets;                  /* driver: the interfaces that it may have; 0: any */
    char nets[POLICY_HOSTDEVS_MAX][POLICY_IFNAME_MAX];
    char netns[POLICY_NAME_MAX];     /* guest with TAP doors: namespace below /run/netns */
    unsigned nnics;                 /* guest                                       */
    struct policy_nic nics[POLICY_NICS_MAX];
    unsigned ndisks;                /* guest                                       */
    struct policy_disk disks[POLICY_DISKS_MAX];
};

/* What the document says that is accepted and not used: "FILE:LINE: note: ...". */
struct policy_notes {
    unsigned n;
    char text[POLICY_NOTES_MAX][POLICY_NOTE_MAX];
};

/*
 * Reads one document.  filename is used in sentences only.  0, or -EINVAL with
 * one sentence "FILE:LINE: ..." in err and *spec zeroed; -ENOMEM likewise.
 * -ENOENT, with a sentence as well: a <domain> in which our namespace does not
 * appear at all; somebody else's guest, nothing is wrong with it.
 * Nothing in *spec points into xml.
 */
int policy_parse(const char *xml, size_t len, const char *filename, struct domain_spec *spec,
                 char err[POLICY_ERR_MAX], struct policy_notes *notes);

/*
 * The schema alone, for tests that it agrees with policy_parse().  0 or
 * -EINVAL with a sentence.
 */
int policy_schema_check(const char *xml, size_t len, const char *filename, char err[POLICY_ERR_MAX]);

/* "" or 1 .. POLICY_NAME_MAX - 1 of A-Z a-z 0-9 . _ -, beginning with one of the
 * first three kinds: safe as a file name. */
bool policy_name_ok(const char *name);

/*
 * Makes text from elsewhere fit for a terminal, a log line and JSON, in place:
 * control characters and bytes that are not UTF-8 become '?'.
 */
void policy_clean_text(char *s);

/* As policy_name_ok(), at most POLICY_IFNAME_MAX - 1 long: a network interface. */
bool policy_ifname_ok(const char *name);

/* Whether two descriptions of a device ask for the same thing: all but line,
 * socket and a NIC's devid, which is only its place in the document.  Queues that
 * one of them does not say are those of the other. */
bool policy_same_disk(const struct policy_disk *a, const struct policy_disk *b);
bool policy_same_nic(const struct policy_nic *a, const struct policy_nic *b);

/* libvirt's words for kinds and choices; never NULL. */
const char *policy_kind_name(enum policy_kind kind);
const char *policy_class_name(const struct domain_spec *spec); /* blk, net, nbd, tap, native, vhost-user */
const char *policy_grants_name(enum policy_grants grants);
const char *policy_tx_name(enum policy_tx tx);

#endif
