/* SPDX-License-Identifier: MIT */
/*
 * Guests with door='vhost-user': what our metadata and <devices> say together,
 * what stands ready, what is somebody else's, and each refusal with its sentence.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "test_policy.h"

/* Our metadata stands in line 4, <devices> in line 6, the first device in line 7. */
#define SHARED "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
#define GUEST_OF(type, backing, ours, devices)                                                  \
    "<domain type='" type "' id='7'>\n<name>g1</name>\n<memory unit='MiB'>512</memory>\n" META( \
        "kind='guest' door='vhost-user'", ours) backing "\n<devices>\n" devices "</devices></domain>"
#define GUEST(ours, devices) GUEST_OF("kvm", SHARED, ours, devices)

#define SOURCE(dev, more)                                                       \
    "<source type='unix' path='/run/bulkhead/guests/g1/" dev ".sock' " more ">" \
    "<reconnect enabled='yes' timeout='1'/></source>"
#define BACKEND(name) "<backenddomain name='" name "'/>"
#define VDA           "<b:disk dev='vda' file='/img'/>"
#define VDA_READY     "<b:disk dev='vda' driver='disk0' file='/img'/>"
#define ETH0          "<b:interface dev='eth0'/>"
#define MAC           "<mac address='52:54:00:aa:bb:01'/>"
#define DISK_OF(attrs, driver, source, target, more)                                      \
    "<disk type='vhostuser' " attrs "><driver name='qemu' type='raw' " driver "/>" source \
    "<target dev='" target "' bus='virtio'/>" more "</disk>\n"
#define DISK(driver, more) DISK_OF("", driver, SOURCE("vda", ""), "vda", BACKEND("disk0") "" more)
#define NIC_OF(source, more) \
    "<interface type='vhostuser'>" source "<model type='virtio'/>" more "</interface>\n"
#define NIC(more) NIC_OF(SOURCE("eth0", "mode='client'"), BACKEND("net0") MAC more)

static void reads_both_parts_of_a_device(void **state)
{
    static const uint8_t mac[6] = {0x52, 0x54, 0x00, 0xaa, 0xbb, 0x01};

    (void)state;
    must_accept(GUEST("<b:disk dev='vda' file='/img' cache='none' readonly='yes' weight='7' "
                      "timeout='2'/><b:disk dev='vdc' block='/dev/sdb' driver='disk1' max-deaths='9' "
                      "grants='copy'/><b:disk dev='vdb' ram='1048576' driver='disk0' queues='4' "
                      "cache='writeback' readonly='no'/><b:interface dev='eth0' tx='resend' "
                      "weight='3'><vlan><tag id='42'/></vlan><bandwidth><inbound average='5' "
                      "burst='2'/></bandwidth><port isolated='yes'/></b:interface>",
                      DISK("queues='2'", "") NIC("<mtu size='9000'/><driver name='vhost' queues='3'/>")));
    assert_int_equal(spec.kind, POLICY_GUEST);
    assert_int_equal(spec.door, POLICY_DOOR_VHOST);
    assert_string_equal(policy_class_name(&spec), "vhost-user");
    assert_int_equal(notes.n, 0);
    assert_int_equal(spec.cpus, 0);
    assert_int_equal(spec.ndisks, 3);
    assert_string_equal(spec.disks[0].dev, "vda");
    assert_int_equal(spec.disks[0].devid, 51712);
    assert_string_equal(spec.disks[0].backend, "disk0");
    assert_string_equal(spec.disks[0].path, "/img");
    assert_string_equal(spec.disks[0].socket, "/run/bulkhead/guests/g1/vda.sock");
    assert_int_equal(spec.disks[0].source, POLICY_SOURCE_FILE);
    assert_true(spec.disks[0].direct && spec.disks[0].readonly);
    assert_int_equal(spec.disks[0].queues, 2);
    assert_int_equal(spec.disks[0].weight, 7);
    assert_int_equal(spec.disks[0].timeout_ms, 2000);
    assert_int_equal(spec.disks[0].max_deaths, POLICY_DEATHS_DEFAULT);
    assert_int_equal(spec.disks[0].line, 4);
    assert_int_equal(spec.disks[1].devid, 51744);
    assert_int_equal(spec.disks[1].source, POLICY_SOURCE_BLOCK);
    assert_string_equal(spec.disks[1].path, "/dev/sdb");
    assert_string_equal(spec.disks[1].backend, "disk1");
    assert_string_equal(spec.disks[1].socket, "");
    assert_int_equal(spec.disks[1].max_deaths, 9);
    assert_int_equal(spec.disks[1].grants, POLICY_GRANTS_COPY);
    assert_int_equal(spec.disks[2].source, POLICY_SOURCE_RAM);
    assert_int_equal(spec.disks[2].ram_bytes, 1 << 20);
    assert_int_equal(spec.disks[2].queues, 4);
    assert_false(spec.disks[2].direct || spec.disks[2].readonly);
    assert_int_equal(spec.nnics, 1);
    assert_string_equal(spec.nics[0].dev, "eth0");
    assert_string_equal(spec.nics[0].backend, "net0");
    assert_string_equal(spec.nics[0].socket, "/run/bulkhead/guests/g1/eth0.sock");
    assert_memory_equal(spec.nics[0].mac, mac, 6);
    assert_int_equal(spec.nics[0].mtu, 9000);
    assert_int_equal(spec.nics[0].queues, 3);
    assert_int_equal(spec.nics[0].pvid, 42);
    assert_int_equal(spec.nics[0].inbound.average, 5000);
    assert_int_equal(spec.nics[0].inbound.burst, 2048);
    assert_true(spec.nics[0].isolated);
    assert_int_equal(spec.nics[0].tx, POLICY_TX_RESEND);
    assert_int_equal(spec.nics[0].weight, 3);
}

/* Another run directory, devices without <backenddomain>, the same said twice. */
static void takes_other_ways_to_say_it(void **state)
{
    (void)state;
    must_accept(GUEST("<b:disk dev='vda' driver='disk0' queues='2' file='/img'/>"
                      "<b:interface dev='web' driver='net0' queues='2'>\n<!-- its address -->\n" MAC
                      "<mtu size='1500'/></b:interface>",
                      "<disk type='vhostuser'><driver queues='2'/><source type='unix' "
                      "path='/tmp/x/guests/g1/vda.sock'><reconnect enabled='yes' timeout='3600'/></source>"
                      "<target dev='vda'/></disk>"
                      "<interface type='vhostuser'><source type='unix' path='/tmp/x/guests/g1/web.sock' "
                      "mode='client'><reconnect enabled='yes' timeout='1'/></source>"
                      "<mac address='52:54:00:AA:BB:01'/><mtu size='1500'/><model "
                      "type='virtio-non-transitional'/><driver queues='2'/></interface>"));
    assert_string_equal(spec.disks[0].socket, "/tmp/x/guests/g1/vda.sock");
    assert_string_equal(spec.nics[0].dev, "web");
    must_accept(GUEST_OF("qemu",
                         "<cpu><numa><cell memAccess='shared'/><cell memAccess='shared'/></numa></cpu>", VDA,
                         DISK("", "")));
    must_accept(GUEST_OF("qemu", SHARED "<cpu><numa><cell/><cell memAccess='shared'/></numa></cpu>", VDA,
                         DISK("", "")));
    must_accept(GUEST_OF("qemu", "<memoryBacking><hugepages/><access mode='shared'/></memoryBacking>", VDA,
                         DISK("", "")));
}

/* What libvirt adds to the XML of a running guest, and QEMU's own settings. */
static void takes_live_xml(void **state)
{
    static const char top[] =
        "<currentMemory unit='KiB'>524288</currentMemory>\n"
        "<vcpu placement='static' cpuset='0-127' current='2'>2048</vcpu>\n"
        "<resource><partition>/machine</partition></resource>\n"
        "<seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+64055</label></seclabel>\n"
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
        "<qemu:arg value='-S'/></qemu:commandline>\n";
    static const char disk[] =
        "<disk type='vhostuser' device='disk' snapshot='no'>"
        "<driver name='qemu' type='raw' packed='on' queue_size='256'/>"
        "<source type='unix' path='/run/bulkhead/guests/g1/vda.sock' index='1'>"
        "<reconnect enabled='yes' timeout='1'/></source>"
        "<backenddomain name='disk0'/><target dev='vda' bus='virtio'/>"
        "<boot order='1'/><alias name='virtio-disk0'/>"
        "<address type='pci' domain='0x0000' bus='0x03' slot='0x00' function='0x0'/></disk>\n";
    static const char nic[] =
        "<interface type='vhostuser'><mac address='52:54:00:aa:bb:01'/>"
        "<source type='unix' path='/run/bulkhead/guests/g1/eth0.sock' mode='client'>"
        "<reconnect enabled='yes' timeout='1'/></source>"
        "<backenddomain name='net0'/><target dev='eth0'/><model type='virtio'/>"
        "<driver name='vhost' rx_queue_size='256'><host csum='off'/></driver>"
        "<link state='down'/><alias name='net0'/><rom bar='off'/><address type='pci'/></interface>\n";
    static const char others[] =
        "<emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='virtio'/>"
        "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='/cd' index='2'/>"
        "<backingStore/><target dev='sda' bus='sata'/><readonly/></disk>"
        "<interface type='network'><mac address='52:54:00:00:00:09'/>"
        "<source network='default' portid='x' bridge='virbr0'/><target dev='vnet0'/>"
        "<vlan><tag id='9'/></vlan></interface>\n";
    char xml[8192];

    (void)state;
    snprintf(xml, sizeof(xml), GUEST_OF("kvm", SHARED "%s", VDA ETH0, "%s%s%s"), top, others, disk, nic);
    must_accept(xml);
    assert_int_equal(notes.n, 0);
    assert_int_equal(spec.ndisks, 1);
    assert_int_equal(spec.nnics, 1);
    assert_int_equal(spec.cpus, 0);
}

/* virDomainSetMetadata() gives our namespace to all that had none inside our element. */
static void takes_metadata_that_libvirt_has_set(void **state)
{
    (void)state;
    must_accept(GUEST("<b:interface dev='eth0' driver='net0'><b:mac address='52:54:00:aa:bb:01'/>"
                      "<b:mtu size='9000'/><b:vlan trunk='yes'><b:tag id='7'/></b:vlan>"
                      "<b:bandwidth><b:inbound average='5'/></b:bandwidth><b:port isolated='yes'/>"
                      "</b:interface>",
                      ""));
    assert_int_equal(spec.nics[0].mac[5], 1);
    assert_int_equal(spec.nics[0].mtu, 9000);
    assert_true(spec.nics[0].trunk && spec.nics[0].isolated);
    assert_int_equal(spec.nics[0].inbound.average, 5000);
    must_refuse(GUEST("<b:interface dev='eth0' driver='net0'><b:macs/></b:interface>", ""),
                "t.xml:4: unknown element <macs> in our <interface>");
    must_refuse(GUEST("<b:disk dev='vda' driver='d' file='/i'><b:mac/></b:disk>", ""),
                "t.xml:4: unknown element <mac> in our <disk>");
}

/* A backend of somebody else's, even for another guest of ours, is left alone. */
static void leaves_others_alone(void **state)
{
    (void)state;
    must_accept(GUEST(
        VDA, DISK("", "") "<disk type='vhostuser'><driver cache='none'/><source type='unix' "
                          "path='/run/spdk.sock'/><target dev='vdb'/></disk><disk type='vhostuser'><source "
                          "type='unix' path='/run/bulkhead/guests/g2/vda.sock'/><target "
                          "dev='vdc'/></disk><disk type='vhostuser'><source type='unix' "
                          "path='/run/bulkhead/guests/xg1/vda.sock'/><target dev='vdd'/></disk><interface "
                          "type='vhostuser'><source type='unix' path='/run/ovs.sock' mode='server'/><model "
                          "type='virtio'/></interface>"));
    assert_int_equal(spec.ndisks, 1);
    assert_int_equal(spec.nnics, 0);
}

static void tells_what_is_not_ours(void **state)
{
    static const char other[] =
        "<domain type='kvm'><name>a name of libvirt's</name><metadata><x xmlns='urn:x'/>"
        "</metadata></domain>";

    (void)state;
    assert_int_equal(parse(other), -ENOENT);
    assert_string_equal(err, "t.xml:1: no <metadata> with a <domain> of the namespace urn:bulkhead:domain:1: "
                             "nothing here is for bulkhead");
    assert_int_equal(parse("<network/>"), -EINVAL);
    assert_int_equal(parse("<domain>"), -EINVAL);
    assert_int_equal(parse(GUEST_OF("kvm", "", VDA, "")), -EINVAL);
}

static void refuses_unshared_memory(void **state)
{
    static const char add[] =
        ": the guest's memory is not shared with vhost-user devices: add <memoryBacking>"
        "<source type='memfd'/><access mode='shared'/></memoryBacking>";
    static const char cell[] = "t.xml:5: memory of this <cell> is not shared with vhost-user devices: write "
                               "memAccess='shared'";
    char sentence[256];

    (void)state;
    snprintf(sentence, sizeof(sentence), "t.xml:1%s", add);
    must_refuse(GUEST_OF("kvm", "", VDA, DISK("", "")), sentence);
    must_refuse(GUEST_OF("kvm", "", VDA_READY, ""), sentence);
    snprintf(sentence, sizeof(sentence), "t.xml:6%s", add);
    must_refuse(GUEST_OF("kvm", "\n<memoryBacking><hugepages/></memoryBacking>", VDA, DISK("", "")),
                sentence);
    must_refuse(
        GUEST_OF("kvm", "\n<memoryBacking><access mode='private'/></memoryBacking>", VDA, DISK("", "")),
        sentence);
    must_refuse(
        GUEST_OF("kvm", "<cpu><numa><cell memAccess='shared'/><cell/></numa></cpu>", VDA, DISK("", "")),
        cell);
    must_refuse(
        GUEST_OF("kvm", SHARED "<cpu><numa><cell memAccess='private'/></numa></cpu>", VDA, DISK("", "")),
        cell);
}

static void refuses_other_hypervisors(void **state)
{
    static const char sentence[] =
        "t.xml:1: a guest with door='vhost-user' must be a <domain type='kvm'> or 'qemu'";

    (void)state;
    must_refuse(GUEST_OF("lxc", SHARED, VDA, DISK("", "")), sentence);
    must_refuse(GUEST_OF("", SHARED, VDA, DISK("", "")), sentence);
}

static void refuses_bad_metadata(void **state)
{
    static const char one[] = "t.xml:4: our <disk dev='vda'> must have one of file='...', block='...' and "
                              "ram='...'";

    (void)state;
    must_refuse(GUEST("<b:disk dev='vda'/>", DISK("", "")), one);
    must_refuse(GUEST("<b:disk dev='vda' file='/a' block='/b'/>", DISK("", "")), one);
    must_refuse(GUEST("<b:disk dev='vda' file='/a' ram='1048576'/>", DISK("", "")), one);
    must_refuse(GUEST("<b:disk dev='vda' file='a'/>", DISK("", "")), "t.xml:4: file of vda must be a path "
                                                                     "that begins with /");
    must_refuse(GUEST("<b:disk dev='vda' block=''/>", DISK("", "")), "t.xml:4: block of vda must be a path "
                                                                     "that begins with /");
    must_refuse(GUEST("<b:disk dev='vda' ram='1000'/>", DISK("", "")),
                "t.xml:4: ram of vda must be a number of bytes, a multiple of 4096, from 1048576 to "
                "1099511627776");
    must_refuse(GUEST("<b:disk dev='sda' file='/a'/>", ""), "t.xml:4: dev of our <disk> must be vda to vdp");
    must_refuse(GUEST("<b:disk file='/a'/>", ""), "t.xml:4: dev of our <disk> must be vda to vdp");
    must_refuse(GUEST("<b:disk dev='vda' file='/a' cache='unsafe'/>", ""), "t.xml:4: cache of vda must be "
                                                                           "'none' or 'writeback'");
    must_refuse(GUEST("<b:disk dev='vda' file='/a' readonly='true'/>", ""), "t.xml:4: readonly of vda must "
                                                                            "be 'yes' or 'no'");
    must_refuse(GUEST("<b:disk dev='vda' file='/a' queues='9'/>", ""), "t.xml:4: queues of vda must be a "
                                                                       "number from 1 to 8");
    must_refuse(GUEST("<b:disk dev='vda' file='/a' driver='../x'/>", ""), "t.xml:4: driver of vda must name "
                                                                          "a driver domain");
    must_refuse(GUEST("<b:disk dev='vda' file='/a' discard='unmap'/>", ""), "t.xml:4: unknown attribute "
                                                                            "'discard' of our <disk>");
    must_refuse(GUEST(VDA "\n" VDA, DISK("", "")), "t.xml:5: our <disk dev='vda'> is there twice (first in "
                                                   "line 4)");
    must_refuse(GUEST(ETH0 "\n" ETH0, NIC("")), "t.xml:5: our <interface dev='eth0'> is there twice (first "
                                                "in line 4)");
    must_refuse(GUEST(VDA_READY "\n<b:interface dev='vda' driver='net0'>" MAC "</b:interface>", ""),
                "t.xml:5: our <interface dev='vda'> has the name of the disk in line 4: their sockets would "
                "be one");
    must_refuse(GUEST("<b:interface dev='../eth0'/>", ""), "t.xml:4: dev of our <interface> has 1 to 15 "
                                                           "characters of A-Z a-z 0-9 . _ - and begins with "
                                                           "a letter or digit");
    must_refuse(GUEST("<b:interface dev='eth0' cache='none'/>", ""), "t.xml:4: unknown attribute 'cache' of "
                                                                     "our <interface>");
    must_refuse(GUEST("<b:interface dev='eth0'><filterref/></b:interface>", ""),
                "t.xml:4: unknown element <filterref> in our <interface>");
    must_refuse(GUEST("<b:interface dev='eth0'><mac xmlns='urn:x'/></b:interface>", ""),
                "t.xml:4: unknown element <mac> in our <interface>: only the outer ones have a prefix");
    must_refuse(GUEST("<b:interface dev='eth0'>" MAC MAC "</b:interface>", ""), "t.xml:4: an <interface> has "
                                                                                "only one <mac>");
    must_refuse(GUEST("<b:interface dev='eth0'><vlan><tag id='4095'/></vlan></b:interface>", ""),
                "t.xml:4: <tag id='...'> of eth0 must be a number from 1 to 4094");
    must_refuse(GUEST("<b:recovery/>", ""), "t.xml:4: unknown element <recovery> in our <domain> of a guest");
    must_refuse(GUEST("", ""), "t.xml:2: the guest has no <disk> or <interface> in the <domain> of "
                               "urn:bulkhead:domain:1: there is nothing to serve");
}

static void refuses_more_than_there_can_be(void **state)
{
    char xml[8192], inner[4096] = "";

    (void)state;
    for (unsigned i = 0; i <= POLICY_NICS_MAX; i++)
        snprintf(inner + strlen(inner), sizeof(inner) - strlen(inner),
                 "<b:interface dev='e%u' driver='n'><mac address='52:54:00:00:00:%02u'/></b:interface>", i,
                 i);
    snprintf(xml, sizeof(xml), GUEST("%s", ""), inner);
    must_refuse(xml, "t.xml:4: more than 8 NICs");
    *inner = '\0';
    for (unsigned i = 0; i < POLICY_DISKS_MAX; i++)
        snprintf(inner + strlen(inner), sizeof(inner) - strlen(inner),
                 "<b:disk dev='vd%c' driver='d' file='/i'/>", (char)('a' + i));
    snprintf(xml, sizeof(xml), GUEST("%s", ""), inner);
    must_accept(xml);
    snprintf(xml, sizeof(xml), GUEST("%s" VDA, ""), inner);
    must_refuse(xml, "t.xml:4: more than 16 disks");
}

static void refuses_what_stands_ready_and_is_not_whole(void **state)
{
    (void)state;
    must_accept(GUEST(VDA_READY, ""));
    must_refuse(GUEST(VDA, ""), "t.xml:4: vda has no driver domain: write driver='...' in our <disk>, or "
                                "<backenddomain name='...'/> in its <disk>");
    must_accept(GUEST("<b:interface dev='eth0' driver='net0'>" MAC "</b:interface>", ""));
    must_refuse(GUEST("<b:interface dev='eth0'>" MAC "</b:interface>", ""),
                "t.xml:4: eth0 has no driver domain: write driver='...' in our <interface>, or "
                "<backenddomain name='...'/> in its <interface>");
    must_refuse(GUEST("<b:interface dev='eth0' driver='net0'/>", ""),
                "t.xml:4: eth0 is not plugged in: give our <interface> its <mac address='...'/>");
}

static void refuses_sockets_that_do_not_fit(void **state)
{
    (void)state;
    must_refuse(GUEST(VDA, DISK_OF("", "", SOURCE("vdb", ""), "vda", BACKEND("disk0"))),
                "t.xml:7: <target dev='vda'> does not fit the socket, which is that of vdb: they must have "
                "one name");
    must_refuse(
        GUEST(VDA, DISK_OF("", "", "<source type='unix' path='/run/vda.sock'/>", "vda", BACKEND("disk0"))),
        "t.xml:7: <source> of this <disk> must have path='/run/bulkhead/guests/g1/vda.sock', where "
        "/run/bulkhead is bulkheadd's run directory");
    must_refuse(
        GUEST(ETH0, NIC_OF("<source type='unix' path='/run/bulkhead/guests/g2/eth0.sock'/>", BACKEND("net"
                                                                                                     "0"))),
        "t.xml:7: <source> of this <interface> must have path='/run/bulkhead/guests/g1/DEV.sock', where "
        "/run/bulkhead is bulkheadd's run directory");
    must_refuse(GUEST(VDA, "<disk type='vhostuser'>" BACKEND("disk0") "<target dev='vda'/></disk>"),
                "t.xml:7: <source> of this <disk> must have path='/run/bulkhead/guests/g1/vda.sock', where "
                "/run/bulkhead is bulkheadd's run directory");
    must_refuse(GUEST(VDA, DISK_OF("", "", SOURCE("vdb", ""), "vdb", BACKEND("disk0"))),
                "t.xml:7: nothing is known of vdb: add <disk dev='vdb' file='...'/> to the <domain> of "
                "urn:bulkhead:domain:1 in <metadata>");
    must_refuse(GUEST(VDA, DISK("", "") NIC("")),
                "t.xml:8: nothing is known of eth0: add <interface dev='eth0'/> to the <domain> of "
                "urn:bulkhead:domain:1 in <metadata>");
    must_refuse(GUEST(VDA, DISK("", "") DISK("", "")), "t.xml:8: a second <disk> uses the socket of vda");
    must_refuse(GUEST(ETH0, NIC("") NIC("")), "t.xml:8: a second <interface> uses the socket of eth0");
    must_refuse(GUEST(VDA, "<disk type='file'><source file='/img'/>" BACKEND("disk0") "<target "
                                                                                      "dev='vda'/></disk>"),
                "t.xml:7: <disk> with <backenddomain> must have type='vhostuser' in a guest with "
                "door='vhost-user': 'bulkhead convert' writes it");
    must_refuse(GUEST(VDA, DISK_OF("", "",
                                   "<source type='tcp' path='/run/bulkhead/guests/g1/vda.sock'><reconnect "
                                   "enabled='yes' timeout='1'/></source>",
                                   "vda", BACKEND("disk0"))),
                "t.xml:7: <source> of vda must have type='unix'");
}

static void refuses_a_door_that_does_not_come_back(void **state)
{
    static const char none[] =
        "t.xml:7: <source> of vda has no <reconnect enabled='yes' timeout='1'/>: without "
        "it the guest loses the device for good when its door is restarted";
    static const char seconds[] =
        "t.xml:7: timeout of <reconnect> of vda must be a number of seconds from 1 to "
        "3600: write '1'";
#define WITH(reconnect)                                                                                   \
    GUEST(VDA_READY, "<disk type='vhostuser'><source type='unix' path='/r/guests/g1/vda.sock'>" reconnect \
                     "</source><target dev='vda'/></disk>")

    (void)state;
    must_accept(WITH("<reconnect enabled='yes' timeout='1'/>"));
    must_refuse(WITH(""), none);
    must_refuse(WITH("<reconnect enabled='no'/>"), none);
    must_refuse(WITH("<reconnect enabled='yes'/>"), seconds);
    must_refuse(WITH("<reconnect enabled='yes' timeout='0'/>"), seconds);
    must_refuse(WITH("<reconnect enabled='yes' timeout='3601'/>"), seconds);
    must_refuse(GUEST(ETH0, NIC_OF("<source type='unix' path='/run/bulkhead/guests/g1/eth0.sock' "
                                   "mode='client'/>",
                                   BACKEND("net0"))),
                "t.xml:7: <source> of eth0 has no <reconnect enabled='yes' timeout='1'/>: without it the "
                "guest loses the device for good when its door is restarted");
}

/* Each of them libvirt refuses with other words, or takes and does not do. */
static void refuses_what_has_no_use_in_a_disk(void **state)
{
    static const struct {
        const char *driver, *more, *sentence;
    } bad[] = {
        {"cache='none'", "",
         "cache= of vda has no use for a vhost-user device: write cache= in our <disk> in "
         "<metadata>"},
        {"io='native'", "",
         "io= of vda has no use for a vhost-user device: leave it out, a driver domain has one "
         "way to do I/O"},
        {"discard='unmap'", "",
         "discard= of vda has no use for a vhost-user device: leave it out, discards "
         "always reach the image"},
        {"error_policy='stop'", "",
         "error_policy= of vda has no use for a vhost-user device: leave it out; "
         "max-deaths= and timeout= of our <disk> say when a request fails"},
        {"iothread='1'", "",
         "iothread= of vda has no use for a vhost-user device: leave it out, the door has its "
         "own threads"},
        {"detect_zeroes='on'", "",
         "detect_zeroes= of vda has no use for a vhost-user device: leave it out, "
         "libvirt would refuse it"},
        {"", "<readonly/>",
         "<readonly> of vda has no use in a vhost-user device: write readonly='yes' in our "
         "<disk> in <metadata>"},
        {"", "<serial>X</serial>",
         "<serial> of vda has no use in a vhost-user device: leave it out, libvirt "
         "would refuse it"},
        {"", "<iotune/>",
         "<iotune> of vda has no use in a vhost-user device: leave it out; weight= of our <disk> "
         "is its share of the driver domain"},
        {"", "<shareable/>",
         "<shareable> of vda has no use in a vhost-user device: leave it out, an image is one "
         "disk of one guest"},
        {"", "<backingStore/>",
         "<backingStore> of vda has no use in a vhost-user device: leave it out, libvirt "
         "would refuse it"},
        {"iommu='on'", "", "iommu='on' of vda is not supported: leave it out"},
    };

    (void)state;
    must_accept(GUEST(VDA, DISK("iommu='off' event_idx='on'", "<boot order='1'/>")));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char xml[2048], sentence[512];

        snprintf(xml, sizeof(xml), GUEST(VDA, DISK("%s", "%s")), bad[i].driver, bad[i].more);
        snprintf(sentence, sizeof(sentence), "t.xml:7: %s", bad[i].sentence);
        must_refuse(xml, sentence);
    }
    must_refuse(GUEST(VDA, "<disk type='vhostuser'>" SOURCE("vda", "") BACKEND("disk0") "</disk>"),
                "t.xml:7: this <disk> has no <target dev='vda' bus='virtio'/>");
    must_refuse(GUEST(VDA, "<disk type='vhostuser'>" SOURCE("vda", "")
                               BACKEND("disk0") "<target dev='vda' bus='scsi'/></disk>"),
                "t.xml:7: bus of vda must be 'virtio'");
    must_refuse(GUEST(VDA, DISK_OF("device='lun'", "", SOURCE("vda", ""), "vda", "")), "t.xml:7: vda must "
                                                                                       "have device='disk'");
    must_refuse(GUEST(VDA, DISK_OF("snapshot='external'", "", SOURCE("vda", ""), "vda", "")),
                "t.xml:7: snapshot of vda must be 'no': libvirt cannot make one of a vhost-user disk");
    must_refuse(GUEST(VDA, "<disk type='vhostuser'><driver type='qcow2'/>" SOURCE("vda", "") "<target "
                                                                                             "dev='vda'/></"
                                                                                             "disk>"),
                "t.xml:7: driver type of vda must be 'raw'");
    must_refuse(GUEST(VDA, DISK("queues='9'", "")), "t.xml:7: queues of vda must be a number from 1 to 8");
}

static void refuses_what_has_no_use_in_a_nic(void **state)
{
    static const char *const moved[] = {"vlan", "bandwidth", "port"};

    (void)state;
    must_accept(GUEST(ETH0, NIC("")));
    for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
        char xml[2048], sentence[256];

        snprintf(xml, sizeof(xml), GUEST(ETH0, NIC("<%s/>")), moved[i]);
        snprintf(sentence, sizeof(sentence),
                 "t.xml:7: <%s> of eth0 has no use in a vhost-user device: move it into our <interface> in "
                 "<metadata>",
                 moved[i]);
        must_refuse(xml, sentence);
    }
    must_refuse(GUEST(ETH0, NIC("<filterref filter='clean-traffic'/>")),
                "t.xml:7: <filterref> of eth0 has no use in a vhost-user device: leave it out; frames with "
                "another source than its <mac> are dropped in any case");
    must_refuse(GUEST(ETH0, NIC("<driver iommu='on'/>")), "t.xml:7: iommu='on' of eth0 is not supported: "
                                                          "leave it out");
    must_refuse(GUEST(ETH0, NIC_OF(SOURCE("eth0", "mode='server'"), BACKEND("net0"))),
                "t.xml:7: <source> of eth0 must have mode='client': it is bulkhead that listens");
    must_refuse(GUEST(ETH0, "<interface type='vhostuser'>" SOURCE("eth0", "mode='client'")
                                BACKEND("net0") "<model type='e1000'/></interface>"),
                "t.xml:7: eth0 must have <model type='virtio'/>");
    must_refuse(GUEST(ETH0, "<interface type='vhostuser'>" SOURCE("eth0", "mode='client'")
                                BACKEND("net0") "</interface>"),
                "t.xml:7: eth0 must have <model type='virtio'/>");
}

/* QEMU makes a queue for each processor where none is said, and its device then does not start. */
static void refuses_more_processors_than_queues(void **state)
{
    (void)state;
    must_accept(GUEST_OF("kvm", SHARED "<vcpu>16</vcpu>", VDA, DISK("", "")));
    must_accept(GUEST_OF("kvm", SHARED "<vcpu current='16'>17</vcpu>", VDA, DISK("", "")));
    must_accept(GUEST_OF("kvm", SHARED "<vcpu>17</vcpu>", VDA, DISK("queues='8'", "")));
    must_accept(GUEST_OF("kvm", SHARED "<vcpu>17</vcpu>", VDA_READY, ""));
    must_refuse(GUEST_OF("kvm", SHARED "<vcpu>17</vcpu>", VDA, DISK("", "")),
                "t.xml:7: vda has no <driver queues='...'>: QEMU would make a queue for each of the 17 "
                "processors, and a door has 16: write queues='8'");
}

static void refuses_two_answers(void **state)
{
    (void)state;
    must_refuse(GUEST("<b:disk dev='vda' driver='disk1' file='/img'/>", DISK("", "")),
                "t.xml:7: vda has <backenddomain name='disk0'/>, but driver='disk1' in our <disk> (line 4): "
                "make them the same");
    must_refuse(GUEST("<b:disk dev='vda' queues='1' file='/img'/>", DISK("queues='2'", "")),
                "t.xml:7: queues of vda is 2 here and 1 in our metadata: make them the same");
    must_refuse(GUEST("<b:interface dev='eth0'><mac address='52:54:00:aa:bb:02'/></b:interface>", NIC("")),
                "t.xml:7: the address of eth0 is another one in our <interface> (line 4): make them the "
                "same");
    must_refuse(GUEST("<b:interface dev='eth0'><mtu size='1500'/></b:interface>", NIC("<mtu size='9000'/>")),
                "t.xml:7: mtu of eth0 is 9000 here and 1500 in our metadata: make them the same");
    must_refuse(GUEST(ETH0 "<b:interface dev='eth1' driver='net0'>" MAC "</b:interface>", NIC("")),
                "t.xml:7: MAC address 52:54:00:aa:bb:01 is used twice (first in line 4)");
}

static void the_schema_alone_refuses_too(void **state)
{
    static const char *const bad[] = {
        GUEST("<b:disk dev='vda'/>", ""),
        GUEST("<b:disk dev='vda' file='/a' block='/b'/>", ""),
        GUEST("<b:disk dev='vda' file='a'/>", ""),
        GUEST("<b:disk dev='vda' file='/a' cache='unsafe'/>", ""),
        GUEST("<b:disk dev='vda' file='/a' serial='x'/>", ""),
        GUEST("<b:interface dev='eth0'><filterref/></b:interface>", ""),
        GUEST("<b:interface dev='eth0' queues='9'/>", ""),
        GUEST("<b:interface dev='eth0'><mac address='53:54:00:00:00:01'/></b:interface>", ""),
        "<domain><name>g</name><memory>1</memory>" META("kind='guest' door='nbd'", "<b:disk dev='vda' "
                                                                                   "file='/a'/>") "</domain>",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (policy_schema_check(bad[i], strlen(bad[i]), "t.xml", err) == 0)
            fail_msg("the schema takes %s", bad[i]);
    /* A path may have any character that a path can have. */
    must_accept(GUEST("<b:disk dev='vda' driver='d' file='/a b/&#xE4;&amp;&#10;&#9;.img'/>", ""));
    assert_string_equal(spec.disks[0].path, "/a b/\xc3\xa4&\n\t.img");
}

/* Unplugging changes nothing of what is asked for. */
static void knows_the_same_device_again(void **state)
{
    static struct domain_spec before;
    const char *metadata = "<b:disk dev='vda' driver='disk0' queues='2' file='/img'/>"
                           "<b:interface dev='eth0' driver='net0'>" MAC "<mtu size='1500'/></b:interface>";
    char xml[4096];

    (void)state;
    snprintf(xml, sizeof(xml), GUEST("%s", DISK("queues='2'", "") NIC("<mtu size='1500'/>")), metadata);
    must_accept(xml);
    before = spec;
    snprintf(xml, sizeof(xml), GUEST("%s", ""), metadata);
    must_accept(xml);
    assert_string_equal(spec.disks[0].socket, "");
    assert_true(policy_same_disk(&before.disks[0], &spec.disks[0]));
    assert_true(policy_same_nic(&before.nics[0], &spec.nics[0]));
    spec.disks[0].queues = 0;
    assert_true(policy_same_disk(&before.disks[0], &spec.disks[0]));
    spec.disks[0].queues = 3;
    assert_false(policy_same_disk(&before.disks[0], &spec.disks[0]));
    spec.disks[0] = before.disks[0];
    spec.disks[0].direct = true;
    assert_false(policy_same_disk(&before.disks[0], &spec.disks[0]));
    spec.disks[0] = before.disks[0];
    spec.disks[0].path[1] = 'x';
    assert_false(policy_same_disk(&before.disks[0], &spec.disks[0]));
    spec.nics[0].devid = 3;
    assert_true(policy_same_nic(&before.nics[0], &spec.nics[0]));
    spec.nics[0].mac[5]++;
    assert_false(policy_same_nic(&before.nics[0], &spec.nics[0]));
    spec.nics[0] = before.nics[0];
    spec.nics[0].outbound.average = 1;
    assert_false(policy_same_nic(&before.nics[0], &spec.nics[0]));
    spec.nics[0] = before.nics[0];
    spec.nics[0].vlans[0] = 2;
    assert_false(policy_same_nic(&before.nics[0], &spec.nics[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_both_parts_of_a_device),
        cmocka_unit_test(takes_other_ways_to_say_it),
        cmocka_unit_test(takes_live_xml),
        cmocka_unit_test(takes_metadata_that_libvirt_has_set),
        cmocka_unit_test(leaves_others_alone),
        cmocka_unit_test(tells_what_is_not_ours),
        cmocka_unit_test(refuses_unshared_memory),
        cmocka_unit_test(refuses_other_hypervisors),
        cmocka_unit_test(refuses_bad_metadata),
        cmocka_unit_test(refuses_more_than_there_can_be),
        cmocka_unit_test(refuses_what_stands_ready_and_is_not_whole),
        cmocka_unit_test(refuses_sockets_that_do_not_fit),
        cmocka_unit_test(refuses_a_door_that_does_not_come_back),
        cmocka_unit_test(refuses_what_has_no_use_in_a_disk),
        cmocka_unit_test(refuses_what_has_no_use_in_a_nic),
        cmocka_unit_test(refuses_more_processors_than_queues),
        cmocka_unit_test(refuses_two_answers),
        cmocka_unit_test(the_schema_alone_refuses_too),
        cmocka_unit_test(knows_the_same_device_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
