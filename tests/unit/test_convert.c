/* SPDX-License-Identifier: MIT */
/*
 * Conversion of ordinary libvirt guests: what moves where, what stays as it was
 * and why, and that what comes out is taken by the policy. The guests are those
 * that tests/vm/convert.sh gives to libvirt.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test_policy.h"
#include "../../deploy/cli/convert.h"

#define DOMAINS "tests/vm/domains"

static struct convert_notes told;
static char *out;

static int forget(void **state)
{
    (void)state;
    free(out);
    out = NULL;
    return 0;
}

static int convert(const char *xml)
{
    const struct convert_options opt = {.file = "g.xml"};

    free(out);
    return convert_domain(xml, strlen(xml), &opt, &out, &told);
}

static void must_convert(const char *xml, unsigned devices, unsigned left)
{
    if (convert(xml))
        fail_msg("%s", told.error);
    if (told.converted != devices || told.left != left)
        fail_msg("%u devices converted and %u left of %s", told.converted, told.left, xml);
    must_accept(out);
    assert_int_equal(spec.door, POLICY_DOOR_VHOST);
    assert_int_equal(notes.n, 0);
}

static const char *load(const char *name)
{
    static char xml[65536];
    char path[512];
    size_t n;
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", DOMAINS, name);
    f = fopen(path, "re");
    if (!f)
        fail_msg("no %s", path);
    n = fread(xml, 1, sizeof(xml) - 1, f);
    xml[n] = '\0';
    fclose(f);
    return xml;
}

static bool has_note(const char *text)
{
    for (unsigned i = 0; i < told.n; i++)
        if (!strcmp(told.text[i], text))
            return true;
    return false;
}

static void must_tell(const char *text)
{
    if (has_note(text))
        return;
    for (unsigned i = 0; i < told.n; i++)
        print_message("%s\n", told.text[i]);
    fail_msg("not told: %s", text);
}

static void must_have(const char *text)
{
    if (!strstr(out, text))
        fail_msg("no %s in %s", text, out);
}

static void must_not_have(const char *text)
{
    if (strstr(out, text))
        fail_msg("%s in %s", text, out);
}

/* The first device stands in line 6. */
#define GUEST_OF(attrs, top, devices)                                                               \
    "<domain " attrs ">\n  <name>g1</name>\n  <memory>65536</memory>\n" top "  <devices>\n" devices \
    "  </devices>\n</domain>\n"
#define GUEST(devices) GUEST_OF("type='kvm'", "  <os><type>hvm</type></os>\n", devices)
#define DISK_OF(attrs, driver, source, target, more)                                                        \
    "    <disk " attrs ">\n      <driver " driver "/>\n      " source "\n      <target " target "/>\n" more \
    "    </disk>\n"
#define DISK(driver, more) \
    DISK_OF("type='file' device='disk'", driver, "<source file='/img'/>", "dev='vda' bus='virtio'", more)
#define NIC_OF(attrs, inner) "    <interface " attrs ">\n" inner "    </interface>\n"
#define MAC                  "      <mac address='52:54:00:01:02:03'/>\n"
#define NIC(inner) \
    NIC_OF("type='bridge'", MAC "      <source bridge='br0'/>\n      <model type='virtio'/>\n" inner)

static void converts_guests_found_in_the_wild(void **state)
{
    static const struct {
        const char *file;
        unsigned disks, nics, left;
    } guests[] = {
        {"block.xml", 2, 1, 2},          {"cloud-init.xml", 1, 1, 1},  {"debian.xml", 1, 1, 0},
        {"hugepages-numa.xml", 1, 1, 0}, {"i440fx-ide.xml", 1, 1, 2},  {"live.xml", 1, 1, 0},
        {"macvtap.xml", 1, 2, 1},        {"openvswitch.xml", 1, 2, 1}, {"spice-desktop.xml", 1, 1, 2},
        {"uefi.xml", 1, 1, 3},           {"virtio-scsi.xml", 4, 1, 0}, {"windows.xml", 1, 1, 2},
    };
    struct dirent *e;
    DIR *dir = opendir(DOMAINS);
    size_t files = 0;

    (void)state;
    assert_non_null(dir);
    while ((e = readdir(dir)))
        files += strstr(e->d_name, ".xml") != NULL;
    closedir(dir);
    assert_int_equal(files, sizeof(guests) / sizeof(guests[0]));
    for (size_t i = 0; i < files; i++) {
        char *once;

        must_convert(load(guests[i].file), guests[i].disks + guests[i].nics, guests[i].left);
        assert_int_equal(spec.ndisks, guests[i].disks);
        assert_int_equal(spec.nnics, guests[i].nics);
        for (unsigned k = 0; k < spec.ndisks; k++)
            assert_true(*spec.disks[k].socket && !strcmp(spec.disks[k].backend, "disk0"));
        for (unsigned k = 0; k < spec.nnics; k++)
            assert_true(*spec.nics[k].socket && !strcmp(spec.nics[k].backend, "net0"));
        /* A second time there is nothing to do. */
        once = strdup(out);
        assert_non_null(once);
        assert_int_equal(convert(once), 0);
        assert_int_equal(told.converted, 0);
        assert_int_equal(told.already, guests[i].disks + guests[i].nics);
        assert_int_equal(told.left, guests[i].left);
        assert_string_equal(out, once);
        free(once);
    }
}

static void the_rest_is_kept(void **state)
{
    (void)state;
    must_convert(load("spice-desktop.xml"), 2, 2);
    must_have("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!--\n  A desktop, as virt-manager writes "
              "it.\n-->\n");
    must_have("<libosinfo:os id=\"http://fedoraproject.org/fedora/38\"/>");
    must_have("<notes xmlns=\"urn:example:notes\">J\xc3\xbcrgen's desktop &lt;3</notes>");
    must_have("  <qemu:commandline>\n    <qemu:arg value=\"-fw_cfg\"/>\n    <qemu:arg "
              "value=\"name=opt/org.example/x,string=&quot;y&quot;\"/>\n");
    must_have("    <disk type=\"volume\" device=\"disk\">\n      <driver name=\"qemu\" type=\"raw\"/>\n"
              "      <source pool=\"default\" volume=\"scratch.img\"/>\n");
    must_have("<boot order=\"1\"/>");
    must_have("<address type=\"pci\" domain=\"0x0000\" bus=\"0x01\" slot=\"0x00\" function=\"0x0\"/>");
    must_convert(load("i440fx-ide.xml"), 2, 2);
    must_not_have("<?xml");
    must_have("    <!-- the system disk -->\n    <disk type='vhostuser' device='disk'>\n");
    must_have("file='/var/lib/libvirt/images/old &amp; slow.img'/>\n");
    must_have("  <os>\n    <type arch='i686' machine='pc-i440fx-7.2'>hvm</type>\n    <boot dev='cdrom'/>\n");
    must_have("    <disk type='file' device='cdrom'>\n      <target dev='hdc' bus='ide'/>\n      "
              "<readonly/>\n");
    must_convert(load("uefi.xml"), 2, 3);
    must_have("    <loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>\n");
    must_have("      <rom enabled='no'/>\n      <boot order='2'/>\n");
    must_have("        <source file='/srv/base.qcow2'/>\n");
}

static void both_parts_of_a_disk(void **state)
{
    (void)state;
    must_convert(GUEST(DISK("name='qemu' type='raw' cache='none' queues='4' event_idx='on'",
                            "      <boot order='1'/>\n      <readonly/>\n")),
                 1, 0);
    must_have("      <bulkhead:disk dev='vda' driver='disk0' queues='4' file='/img' cache='none' "
              "readonly='yes'/>\n");
    must_have("    <disk type='vhostuser' device='disk'>\n"
              "      <driver name='qemu' type='raw' queues='4' event_idx='on'/>\n"
              "      <source type='unix' path='/run/bulkhead/guests/g1/vda.sock'>\n"
              "        <reconnect enabled='yes' timeout='1'/>\n      </source>\n"
              "      <backenddomain name='disk0'/>\n      <target dev='vda' bus='virtio'/>\n"
              "      <boot order='1'/>\n    </disk>\n");
    must_have("  <memory>65536</memory>\n  <memoryBacking>\n    <source type='memfd'/>\n    <access "
              "mode='shared'/>\n  </memoryBacking>\n");
    assert_true(spec.disks[0].direct && spec.disks[0].readonly);
    assert_int_equal(told.n, 2);
    must_tell("g.xml:3: the guest's memory is shared with its devices now: <access mode='shared'/>");
    must_tell("g.xml:1: live migration and saving to a file are not possible with vhost-user devices, nor "
              "are snapshots and block jobs of these disks");
}

/* QEMU would make more queues than a door has. */
static void a_guest_of_many_processors(void **state)
{
    (void)state;
    must_convert(GUEST_OF("type='kvm'", "  <vcpu>16</vcpu>\n", DISK("type='raw'", "")), 1, 0);
    assert_int_equal(spec.disks[0].queues, 0);
    must_convert(GUEST_OF("type='kvm'", "  <vcpu current='2'>17</vcpu>\n", DISK("type='raw'", "")), 1, 0);
    assert_int_equal(spec.disks[0].queues, 0);
    must_convert(GUEST_OF("type='kvm'", "  <vcpu>17</vcpu>\n", DISK("type='raw'", "")), 1, 0);
    assert_int_equal(spec.disks[0].queues, 8);
    must_tell("g.xml:6: vda: gets queues='8': QEMU would make one for each processor, and a door has 16");
    must_have("<driver type='raw' name='qemu' queues='8'/>");
    must_convert(GUEST_OF("type='kvm'", "  <vcpu>17</vcpu>\n", DISK("type='raw' queues='2'", "")), 1, 0);
    assert_int_equal(spec.disks[0].queues, 2);
}

static void options_name_other_places(void **state)
{
    const struct convert_options opt = {"g.xml", "/tmp/run", "fast", "dmz"};
    static const char xml[] =
        GUEST(DISK("type='raw'", "") NIC("") NIC_OF("type='user'", "      <backenddomain name='other'/>\n"));

    (void)state;
    free(out);
    assert_int_equal(convert_domain(xml, strlen(xml), &opt, &out, &told), 0);
    must_accept(out);
    assert_string_equal(spec.disks[0].backend, "fast");
    assert_string_equal(spec.disks[0].socket, "/tmp/run/guests/g1/vda.sock");
    assert_string_equal(spec.nics[0].backend, "dmz");
    assert_string_equal(spec.nics[1].backend, "other");
}

static void what_a_disk_loses_is_told(void **state)
{
    (void)state;
    must_convert(load("block.xml"), 3, 2);
    must_tell("g.xml:11: vda: io='native' is dropped: a driver domain has one way to do I/O");
    must_tell("g.xml:11: vda: discard='unmap' is dropped: discards of the guest always reach the image");
    must_tell("g.xml:11: vda: iothread='1' is dropped: QEMU does no I/O for this disk any more");
    must_tell("g.xml:11: vda: queues='16' becomes '8': a driver domain serves that many");
    must_tell("g.xml:14: vda: <iotune> is dropped: driver domains share by weight, see weight= of our "
              "<disk>");
    must_tell("g.xml:10: vda: snapshot='external' is dropped: libvirt cannot make one of a vhost-user disk");
    must_tell("g.xml:21: vdb: cache='directsync' becomes 'none': the guest sees a write cache, and flushes "
              "it when it needs to");
    assert_int_equal(spec.disks[0].source, POLICY_SOURCE_BLOCK);
    assert_string_equal(spec.disks[0].path, "/dev/vg0/database");
    assert_int_equal(spec.disks[0].queues, 8);
    must_have("<address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>");
    must_convert(load("windows.xml"), 2, 2);
    must_tell("g.xml:28: vda: <serial> is dropped: the guest sees no serial number: names below "
              "/dev/disk/by-id go away");
    must_tell("g.xml:25: vda: error_policy='stop' is dropped: the guest sees an I/O error of the image, and "
              "waits while its driver domain is away");
    must_tell(
        "g.xml:24: vda: was sda on bus sata, is a virtio disk now, its address is dropped: the guest needs a "
        "virtio-blk driver, and what names /dev/sda (/etc/fstab, the boot loader) must name /dev/vda, or "
        "better a UUID or label");
    must_tell("g.xml:27: vda: rotation_rate is dropped: virtio disks have none");
    must_have("<boot order='1'/>");
    must_convert(GUEST(DISK("cache='writethrough'", "")), 1, 0);
    must_tell("g.xml:7: vda: cache='writethrough' becomes 'writeback': the guest sees a write cache, and "
              "flushes it when it needs to");
    must_convert(GUEST(DISK("cache='unsafe'", "")), 1, 0);
    must_tell("g.xml:7: vda: cache='unsafe' becomes 'writeback': flushes are done");
    assert_false(spec.disks[0].direct);
}

/* Each of these stays exactly as it was. */
static void what_cannot_be_a_disk_of_a_driver_domain_stays(void **state)
{
    static const struct {
        const char *disk, *why;
    } bad[] = {
        {DISK("type='qcow2'", ""), "g.xml:6: vda: stays as it is: its image is qcow2, driver domains serve "
                                   "raw images only: with the guest "
                                   "off, qemu-img convert -f qcow2 -O raw /img NEW.img, and write type='raw' "
                                   "and NEW.img here"},
        {DISK("type='raw'", "      <backingStore type='file'><source file='/b'/></backingStore>\n"),
         "g.xml:10: vda: stays as it is: its image stands on another one: make one image of the chain "
         "(qemu-img convert -O raw /img NEW.img, with the guest off) and name that here"},
        {DISK("type='raw'", "      <shareable/>\n"), "g.xml:10: vda: stays as it is: it is shared with other "
                                                     "guests, and an image is one disk of one guest on a "
                                                     "driver domain"},
        {DISK("type='raw'", "      <transient/>\n"), "g.xml:10: vda: stays as it is: what is written is to "
                                                     "be thrown away, a driver domain would keep it"},
        {DISK("type='raw'", "      <encryption format='luks'/>\n"),
         "g.xml:10: vda: stays as it is: its image is encrypted by QEMU, a driver domain would serve what is "
         "encrypted"},
        {DISK("type='raw' iommu='on'", ""), "g.xml:6: vda: stays as it is: iommu='on' is not supported by "
                                            "vhost-user devices of bulkhead"},
        {DISK_OF("type='file' device='cdrom'", "type='raw'", "<source file='/cd'/>", "dev='sda'", ""),
         "g.xml:6: sda: stays as it is: a cdrom is no disk of a driver domain"},
        {DISK_OF("type='network'", "type='raw'", "<source protocol='rbd'/>", "dev='vda'", ""),
         "g.xml:6: vda: stays as it is: a driver domain serves files and block devices, not type='network'"},
        {DISK_OF("type='file'", "type='raw'", "<source file='img'/>", "dev='vda'", ""),
         "g.xml:6: vda: stays as it is: its <source> names no image by a path that begins with /"},
        {DISK_OF("type='block'", "type='raw'", "<source file='/img'/>", "dev='vda'", ""),
         "g.xml:6: vda: stays as it is: its <source> names no image by a path that begins with /"},
        {DISK_OF("type='file'", "type='raw'", "<source file='/i'><slices><slice/></slices></source>",
                 "dev='vda'", ""),
         "g.xml:8: vda: stays as it is: its <source> has a <slices>, which a driver domain does not know"},
        {DISK_OF("type='vhostuser'", "type='raw'", "<source type='unix' path='/run/spdk.sock'/>", "dev='vda'",
                 ""),
         "g.xml:6: disk: stays as it is: it is a vhost-user device of another program"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char xml[4096];

        /* Alone: the document is the same, byte for byte. */
        snprintf(xml, sizeof(xml), GUEST("%s"), bad[i].disk);
        assert_int_equal(convert(xml), 0);
        assert_int_equal(told.converted + told.already, 0);
        assert_int_equal(told.left, 1);
        assert_int_equal(told.n, 1);
        assert_string_equal(told.text[0], bad[i].why);
        assert_string_equal(out, xml);
        /* Beside one that is converted. */
        snprintf(xml, sizeof(xml), GUEST("%s" NIC("")), bad[i].disk);
        must_convert(xml, 1, 1);
        must_tell(bad[i].why);
        must_have(bad[i].disk);
    }
}

static void names_of_disks_do_not_collide(void **state)
{
    char xml[8192] = "", *p = xml;

    (void)state;
    must_convert(load("virtio-scsi.xml"), 5, 0);
    assert_string_equal(spec.disks[0].dev, "vda");
    assert_string_equal(spec.disks[0].path, "/var/lib/libvirt/images/scsi-root.img");
    assert_string_equal(spec.disks[1].dev, "vdc"); /* was sdb: vdb is there */
    assert_string_equal(spec.disks[2].dev, "vdb");
    assert_string_equal(spec.disks[2].path, "/var/lib/libvirt/images/virtio.img");
    assert_string_equal(spec.disks[3].dev, "vdd");
    for (unsigned i = 0; i < 17; i++)
        p += snprintf(p, sizeof(xml) - (size_t)(p - xml),
                      "<disk type='file'><source file='/%u'/><target dev='sd%c'/></disk>\n", i,
                      (char)('a' + i));
    {
        char whole[10000];

        snprintf(whole, sizeof(whole), GUEST("%s"), xml);
        must_convert(whole, 16, 1);
    }
    must_tell("g.xml:22: sdq: stays as it is: a guest has at most 16 disks on driver domains, vda to vdp");
}

static void both_parts_of_a_nic(void **state)
{
    (void)state;
    must_convert(GUEST(NIC("      <mtu size='9000'/>\n"
                           "      <vlan><tag id='42'/></vlan>\n"
                           "      <bandwidth>\n              <inbound average='10'/>\n      </bandwidth>\n"
                           "      <port isolated='yes'/>\n"
                           "      <target dev='vnet3'/>\n"
                           "      <driver name='vhost' queues='2' rx_queue_size='512'/>\n"
                           "      <boot order='2'/>\n")),
                 1, 0);
    must_have("      <bulkhead:interface dev='eth0' driver='net0' queues='2'>\n"
              "        <mac address='52:54:00:01:02:03'/>\n        <mtu size='9000'/>\n"
              "        <vlan>\n          <tag id='42'/>\n        </vlan>\n"
              "        <bandwidth>\n          <inbound average='10'/>\n        </bandwidth>\n"
              "        <port isolated='yes'/>\n      </bulkhead:interface>\n");
    must_have("    <interface type='vhostuser'>\n      <mac address='52:54:00:01:02:03'/>\n"
              "      <source type='unix' path='/run/bulkhead/guests/g1/eth0.sock' mode='client'>\n"
              "        <reconnect enabled='yes' timeout='1'/>\n      </source>\n"
              "      <backenddomain name='net0'/>\n      <model type='virtio'/>\n      <mtu size='9000'/>\n"
              "      <target dev='eth0'/>\n"
              "      <driver name='vhost' queues='2' rx_queue_size='512'/>\n      <boot order='2'/>\n"
              "    </interface>\n");
    assert_int_equal(spec.nics[0].pvid, 42);
    assert_int_equal(spec.nics[0].inbound.average, 10000);
    assert_int_equal(spec.nics[0].mtu, 9000);
    assert_true(spec.nics[0].isolated);
    assert_int_equal(told.n, 3);
    must_tell("g.xml:6: eth0: leaves the bridge 'br0': driver domain net0 is its switch now, whose uplink "
              "must lead there");
}

static void what_a_nic_loses_is_told(void **state)
{
    uint8_t mac[6];

    (void)state;
    must_convert(load("macvtap.xml"), 3, 1);
    must_tell("g.xml:13: eth0: leaves macvtap on 'eth0': driver domain net0 is its switch now, whose uplink "
              "must be that interface or lead to its network");
    must_tell("g.xml:13: eth0: trustGuestRxFilters is dropped: the guest's <mac> is its only address");
    must_tell("g.xml:20: interface: stays as it is: its switch needs <virtualport type='802.1Qbg'>");
    must_tell("g.xml:25: eth1: was model e1000, is a virtio NIC now: the guest needs a virtio-net driver, "
              "and may call it another name");
    must_tell("g.xml:26: eth1: the machine's interface 'tap-edge' goes away");
    must_convert(load("openvswitch.xml"), 3, 1);
    must_tell("g.xml:16: eth0: <virtualport> is dropped: there is no port of another switch");
    must_tell(
        "g.xml:40: 52:54:00:55:02:05: stays as it is: its network filter 'clean-traffic' would no longer "
        "apply: take <filterref> out if it is enough that frames with another source than its <mac> are "
        "dropped");
    assert_true(spec.nics[0].trunk);
    assert_int_equal(spec.nics[0].pvid, 47);
    must_convert(load("hugepages-numa.xml"), 2, 0);
    must_tell("g.xml:32: eth0: leaves the libvirt network 'trunk' with its DHCP, DNS, NAT and rules, and "
              "what its portgroup says: driver domain net0 is its switch now, whose uplink must lead there");
    must_tell("g.xml:32: eth0: floor of <inbound> is dropped: a driver domain guarantees nobody a rate");
    must_tell("g.xml:22: memAccess='private' of a NUMA <cell> becomes 'shared'");
    must_have("    <hugepages>\n      <page size='2' unit='MiB'/>\n    </hugepages>\n    <nosharepages/>\n"
              "    <locked/>\n    <access mode='shared'/>\n  </memoryBacking>\n");
    /* An address is made once, and always the same. */
    must_convert(GUEST(NIC_OF("type='user'", "")), 1, 0);
    memcpy(mac, spec.nics[0].mac, sizeof(mac));
    must_convert(GUEST(NIC_OF("type='user'", "")), 1, 0);
    assert_memory_equal(mac, spec.nics[0].mac, sizeof(mac));
}

static void what_cannot_be_a_nic_of_a_driver_domain_stays(void **state)
{
    static const struct {
        const char *nic, *why;
    } bad[] = {
        {NIC_OF("type='hostdev'", MAC), "g.xml:6: 52:54:00:01:02:03: stays as it is: type='hostdev': it is a "
                                        "device of the machine that the guest drives itself"},
        {NIC_OF("type='mcast'", ""), "g.xml:6: interface: stays as it is: type='mcast': it is a tunnel "
                                     "between programs of QEMU"},
        {NIC_OF("type='new'", ""), "g.xml:6: interface: stays as it is: nothing is known of type='new'"},
        {NIC("      <vlan><tag id='0'/></vlan>\n"), "g.xml:10: 52:54:00:01:02:03: stays as it is: a driver "
                                                    "domain knows VLANs 1 to 4094, 200 at most"},
        {NIC("      <vlan><tag id='1' nativeMode='tagged'/></vlan>\n"),
         "g.xml:10: 52:54:00:01:02:03: stays as it is: a driver domain does not tag a native VLAN: "
         "nativeMode='tagged'"},
        {NIC("      <bandwidth><inbound average='0'/></bandwidth>\n"), "g.xml:10: 52:54:00:01:02:03: stays "
                                                                       "as it is: average of <inbound> must "
                                                                       "be a number from 1 to 1000000000 "
                                                                       "for a driver domain"},
        {NIC("      <mtu size='65535'/>\n"), "g.xml:10: 52:54:00:01:02:03: stays as it is: its MTU must be "
                                             "68 to 9216 on a driver domain"},
        {NIC("      <teaming type='persistent'/>\n"), "g.xml:10: 52:54:00:01:02:03: stays as it is: it is "
                                                      "teamed with another device"},
        {NIC_OF("type='bridge'", "      <mac address='53:54:00:01:02:03'/>\n"),
         "g.xml:7: 53:54:00:01:02:03: stays as it is: its address is none that a NIC can have"},
        {NIC_OF("type='vhostuser'", "      <source type='unix' path='/run/ovs.sock' mode='server'/>\n"),
         "g.xml:6: interface: stays as it is: it is a vhost-user device of another program"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char xml[4096];

        snprintf(xml, sizeof(xml), GUEST("%s" DISK("type='raw'", "")), bad[i].nic);
        must_convert(xml, 1, 1);
        must_tell(bad[i].why);
        must_have(bad[i].nic);
    }
}

/* What our metadata names already is completed, not made anew. */
static void a_guest_that_is_half_converted(void **state)
{
    static const char half[] =
        GUEST_OF("type='kvm'",
                 "  <metadata>\n    <my:domain xmlns:my='urn:bulkhead:domain:1' kind='guest' "
                 "door='vhost-user'>\n      <my:disk dev='vda' driver='disk0' file='/old'/>\n"
                 "      <my:interface dev='eth0' driver='net0'><mac address='52:54:00:09:09:09'/>"
                 "</my:interface>\n    </my:domain>\n  </metadata>\n"
                 "  <memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>\n",
                 DISK_OF("type='file'", "type='raw'", "<source file='/img'/>", "dev='hda'", "") NIC(""));

    (void)state;
    must_convert(half, 2, 0);
    assert_int_equal(spec.ndisks, 2);
    assert_string_equal(spec.disks[0].socket, "");
    assert_string_equal(spec.disks[1].dev, "vdb");
    assert_string_equal(spec.nics[1].dev, "eth1");
    must_have("      <my:disk dev='vdb' driver='disk0' file='/img'/>\n");
    must_have("<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>");
}

static void refuse(const char *xml, const char *sentence)
{
    assert_int_equal(convert(xml), -EINVAL);
    assert_string_equal(told.error, sentence);
    assert_null(out);
}

static void refuses_what_is_no_guest(void **state)
{
    char name[128];

    (void)state;
    refuse("<domain type='kvm'>\n<name>x</nam>",
           "g.xml:2: not well-formed XML: Opening and ending tag mismatch: "
           "name line 2 and nam");
    refuse("<!DOCTYPE domain [<!ENTITY e 'x'>]>\n<domain/>", "g.xml:1: a DOCTYPE is not allowed: remove it");
    refuse("<network/>", "g.xml:1: the outermost element must be libvirt's <domain>");
    refuse(GUEST_OF("type='xen'", "", ""), "g.xml:1: only a <domain type='kvm'> or 'qemu' can have "
                                           "vhost-user devices");
    refuse(GUEST_OF("type='kvm'", "  <launchSecurity type='sev'/>\n", ""),
           "g.xml:4: the guest's memory is encrypted (<launchSecurity>): nobody could serve its devices from "
           "outside");
    refuse("<domain type='kvm'><name>my guest</name></domain>",
           "g.xml:1: the <name> of a guest on driver domains has 1 to 47 characters of A-Z a-z 0-9 . _ - and "
           "begins with a letter or digit: virsh domrename");
    memset(name, 'x', 100);
    snprintf(name + 48, 80, "</name></domain>");
    {
        char xml[256];

        snprintf(xml, sizeof(xml), "<domain type='kvm'><name>%s", name);
        assert_int_equal(convert(xml), -EINVAL);
    }
    refuse("<domain type='kvm'><name>g</name><metadata><b:domain xmlns:b='urn:bulkhead:domain:1' "
           "kind='guest' door='nbd'/></metadata></domain>",
           "g.xml:1: it is a domain of bulkhead of another kind already");
}

/* ---------------------------------------------------------------- one device */

static struct convert_result result;

static int device(const char *xml, const char *domain)
{
    const struct convert_options opt = {.file = "d.xml"};

    convert_free(&result);
    return convert_device(xml, strlen(xml), domain, strlen(domain), &opt, &result, &told);
}

static void converts_one_device(void **state)
{
    static const char guest[] =
        GUEST_OF("type='kvm'",
                 "<metadata><b:domain xmlns:b='urn:bulkhead:domain:1' kind='guest' door='vhost-user'>"
                 "<b:disk dev='vda' file='/a'/><b:interface dev='eth0'/></b:domain></metadata>\n",
                 "<disk type='file'><source file='/x'/><target dev='vdc'/></disk>\n");

    (void)state;
    if (device("<disk type='file'><driver type='raw' queues='2'/><source file='/new'/><backenddomain "
               "name='d7'/><target dev='vda' bus='virtio'/><readonly/></disk>",
               guest))
        fail_msg("%s", told.error);
    assert_true(result.disk);
    assert_string_equal(result.dev, "vdb"); /* vda and vdc are taken */
    assert_string_equal(result.metadata,
                        "<bulkhead:disk xmlns:bulkhead=\"urn:bulkhead:domain:1\" dev=\"vdb\" driver=\"d7\" "
                        "queues=\"2\" file=\"/new\" readonly=\"yes\"/>");
    assert_string_equal(
        result.device,
        "<disk type=\"vhostuser\" device=\"disk\"><driver type=\"raw\" queues=\"2\" name=\"qemu\"/>"
        "<source type=\"unix\" path=\"/run/bulkhead/guests/g1/vdb.sock\"><reconnect enabled=\"yes\" "
        "timeout=\"1\"/></source><backenddomain name=\"d7\"/><target dev=\"vdb\" bus=\"virtio\"/>"
        "</disk>");
    assert_int_equal(device("<interface type='network'>\n  <mac address='52:54:00:01:02:03'/>\n  <source "
                            "network='default'/>\n  <vlan>\n    <tag id='7'/>\n  </vlan>\n</interface>\n",
                            guest),
                     0);
    assert_false(result.disk);
    assert_string_equal(result.dev, "eth1");
    assert_string_equal(result.metadata, "<bulkhead:interface xmlns:bulkhead=\"urn:bulkhead:domain:1\" "
                                         "dev=\"eth1\" driver=\"net0\">"
                                         "<mac address=\"52:54:00:01:02:03\"/><vlan><tag "
                                         "id=\"7\"/></vlan></bulkhead:interface>");
    assert_non_null(strstr(result.device, "/guests/g1/eth1.sock"));
    assert_null(strstr(result.device, "vlan"));
    /* A vhost-user device is taken as it is; what is behind it stands in the metadata. */
    assert_int_equal(device("<disk type='vhostuser'><source type='unix' "
                            "path='/r/guests/g1/vde.sock'/><target "
                            "dev='vde'/></disk>",
                            guest),
                     0);
    assert_string_equal(result.dev, "vde");
    assert_null(result.metadata);
    assert_non_null(strstr(result.device, "/r/guests/g1/vde.sock"));
    convert_free(&result);
}

static void refuses_one_device(void **state)
{
    (void)state;
    assert_int_equal(device("<disk type='file'><driver type='qcow2'/><source file='/q'/><target "
                            "dev='vda'/></disk>",
                            GUEST("")),
                     -EINVAL);
    assert_string_equal(told.error, "d.xml:1: vda: stays as it is: its image is qcow2, driver domains serve "
                                    "raw images only: with the guest off, qemu-img convert -f qcow2 -O raw "
                                    "/q NEW.img, and write type='raw' and NEW.img here");
    assert_null(result.device);
    assert_int_equal(device("<hostdev/>", GUEST("")), -EINVAL);
    assert_string_equal(told.error, "d.xml:1: it must be one <disk> or <interface>");
    assert_int_equal(device("<disk", GUEST("")), -EINVAL);
    assert_int_equal(
        device("<disk type='vhostuser'><source type='unix' path='/run/spdk.sock'/></disk>", GUEST("")),
        -EINVAL);
    assert_string_equal(told.error, "d.xml:1: it is a vhost-user device of another program: use virsh "
                                    "attach-device");
    assert_int_equal(device("<interface type='bridge'/>", "<domain type='lxc'><name>g</name></domain>"),
                     -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(converts_guests_found_in_the_wild),
        cmocka_unit_test(the_rest_is_kept),
        cmocka_unit_test(both_parts_of_a_disk),
        cmocka_unit_test(a_guest_of_many_processors),
        cmocka_unit_test(options_name_other_places),
        cmocka_unit_test(what_a_disk_loses_is_told),
        cmocka_unit_test(what_cannot_be_a_disk_of_a_driver_domain_stays),
        cmocka_unit_test(names_of_disks_do_not_collide),
        cmocka_unit_test(both_parts_of_a_nic),
        cmocka_unit_test(what_a_nic_loses_is_told),
        cmocka_unit_test(what_cannot_be_a_nic_of_a_driver_domain_stays),
        cmocka_unit_test(a_guest_that_is_half_converted),
        cmocka_unit_test(refuses_what_is_no_guest),
        cmocka_unit_test(converts_one_device),
        cmocka_unit_test(refuses_one_device),
    };

    return cmocka_run_group_tests(tests, NULL, forget);
}
