/* SPDX-License-Identifier: MIT */
/*
 * Domain XML from anyone.  Beyond not failing: what is refused says where and
 * why and leaves nothing; what is accepted keeps every limit that the daemon
 * builds on, passes the schema, and is told in clean text.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libxml/parser.h>

#include "../../policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static void require(int holds)
{
    if (!holds)
        abort();
}

static int is_clean(const char *s)
{
    char copy[POLICY_ERR_MAX > POLICY_NOTE_MAX ? POLICY_ERR_MAX : POLICY_NOTE_MAX];

    snprintf(copy, sizeof(copy), "%s", s);
    policy_clean_text(copy);
    return !strcmp(copy, s);
}

/* Where QEMU connects is the guest's own folder, whatever stands before it. */
static void check_socket(const struct domain_spec *spec, const char *socket, const char *dev)
{
    char tail[POLICY_SOCKET_MAX];
    size_t n = strlen(socket);
    int t = snprintf(tail, sizeof(tail), "/guests/%s/%s.sock", spec->name, dev);

    require(n < POLICY_SOCKET_MAX && is_clean(dev));
    if (n)
        require(spec->door == POLICY_DOOR_VHOST && *socket == '/' && n >= (size_t)t &&
                !strcmp(socket + n - (size_t)t, tail));
}

static void check_disk(const struct domain_spec *spec, unsigned i)
{
    const struct policy_disk *disk = &spec->disks[i];

    require(policy_name_ok(disk->backend));
    require(disk->devid >= 51712 && disk->devid < 51712 + 16 * POLICY_DISKS_MAX && disk->devid % 16 == 0);
    for (unsigned k = 0; k < i; k++)
        require(spec->disks[k].devid != disk->devid);
    require((disk->source == POLICY_SOURCE_RAM) == (disk->ram_bytes != 0));
    require(disk->source == POLICY_SOURCE_RAM ? !*disk->path : *disk->path == '/');
    require(disk->queues <= POLICY_QUEUES_MAX);
    require(!disk->pool_pages ||
            (disk->pool_pages >= POLICY_POOL_PAGES_MIN && disk->pool_pages <= POLICY_POOL_PAGES_MAX));
    require(disk->weight >= 1 && disk->weight <= POLICY_WEIGHT_MAX);
    check_socket(spec, disk->socket, disk->dev);
    require(policy_same_disk(disk, disk));
}

static void check_nic(const struct domain_spec *spec, unsigned i)
{
    const struct policy_nic *nic = &spec->nics[i];
    unsigned vlans = 0;

    require(policy_name_ok(nic->backend) && policy_ifname_ok(nic->dev) && nic->devid == i);
    require(!(nic->mac[0] & 1) &&
            (nic->mac[0] | nic->mac[1] | nic->mac[2] | nic->mac[3] | nic->mac[4] | nic->mac[5]));
    for (unsigned k = 0; k < i; k++)
        require(strcmp(spec->nics[k].dev, nic->dev) != 0 && memcmp(spec->nics[k].mac, nic->mac, 6) != 0);
    require(!nic->mtu || (nic->mtu >= POLICY_MTU_MIN && nic->mtu <= POLICY_MTU_MAX));
    for (unsigned id = 0; id < 4096; id++)
        vlans += nic->vlans[id / 64] >> id % 64 & 1;
    require(vlans <= POLICY_VLANS_MAX && nic->trunk == (vlans != 0) && nic->pvid <= POLICY_VLAN_MAX);
    require(!(nic->vlans[0] & 1) && !(nic->vlans[63] >> 63));
    require(!nic->trunk || !nic->pvid || (nic->vlans[nic->pvid / 64] >> nic->pvid % 64 & 1));
    require(nic->inbound.average || (!nic->inbound.peak && !nic->inbound.burst));
    require(!nic->outbound.peak || nic->outbound.peak >= nic->outbound.average);
    require(nic->queues <= POLICY_QUEUES_MAX && nic->weight >= 1 && nic->weight <= POLICY_WEIGHT_MAX);
    require(nic->grants <= POLICY_GRANTS_COPY);
    check_socket(spec, nic->socket, nic->dev);
    require(policy_same_nic(nic, nic));
}

/* What someone else opens for the driver domain is nothing but what it says. */
static void check_uplink(const struct domain_spec *spec)
{
    bool interface =
        spec->pmd == POLICY_PMD_AF_PACKET || spec->pmd == POLICY_PMD_AF_XDP || spec->pmd == POLICY_PMD_TAP;

    require(spec->cls == POLICY_CLASS_NET || (!*spec->devargs && !spec->nnets));
    require((spec->pmd == POLICY_PMD_NONE) == !*spec->devargs && interface == (*spec->ifname != '\0'));
    require(!*spec->ifname || policy_ifname_ok(spec->ifname));
    require(!*spec->rx_pcap || (*spec->rx_pcap == '/' && spec->pmd == POLICY_PMD_PCAP));
    require(!*spec->tx_pcap || (*spec->tx_pcap == '/' && spec->pmd == POLICY_PMD_PCAP));
    require(!strpbrk(spec->devargs, " \t\n") &&
            (spec->pmd == POLICY_PMD_PCAP || !strchr(spec->devargs, '/')));
    require(spec->nnets <= POLICY_HOSTDEVS_MAX);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    xmlInitParser();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct domain_spec spec;
    static struct policy_notes notes;
    char err[POLICY_ERR_MAX] = "";

    if (policy_parse((const char *)data, size, "f.xml", &spec, err, &notes)) {
        require(!strncmp(err, "f.xml:", 6) && is_clean(err));
        for (size_t i = 0; i < sizeof(spec); i++)
            require(((const unsigned char *)&spec)[i] == 0);
        return 0;
    }
    require(policy_name_ok(spec.name) && spec.memory_bytes);
    require((spec.kind == POLICY_DRIVER) == (spec.ndisks + spec.nnics == 0));
    require(spec.ndisks <= POLICY_DISKS_MAX && spec.nnics <= POLICY_NICS_MAX);
    require(spec.door != POLICY_DOOR_TAP || spec.ndisks == 0);
    require(spec.door != POLICY_DOOR_NBD || spec.nnics == 0);
    require(!*spec.netns || policy_name_ok(spec.netns));
    check_uplink(&spec);
    require(spec.nhostdevs <= POLICY_HOSTDEVS_MAX && notes.n <= POLICY_NOTES_MAX);
    for (unsigned i = 0; i < spec.ndisks; i++)
        check_disk(&spec, i);
    for (unsigned i = 0; i < spec.nnics; i++)
        check_nic(&spec, i);
    for (unsigned i = 0; i < notes.n; i++)
        require(is_clean(notes.text[i]));
    return 0;
}
