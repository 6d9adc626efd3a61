/* SPDX-License-Identifier: MIT */
/*
 * <interface>, <bulkhead:uplink> and what goes with them: libvirt's meaning of
 * VLANs, bandwidth and addresses, and the sentence for everything else.  What
 * our checks accept, the schema accepts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "test_policy.h"

#define LXC                "xmlns:lxc='http://libvirt.org/schemas/domain/lxc/1.0'"
#define MEMORY             "<memory unit='MiB'>64</memory>\n"
#define HEAD(name)         "<domain type='lxc' " LXC ">\n<name>" name "</name>\n" MEMORY
/* <metadata> is line 4, <devices> line 5, the first device line 6. */
#define GUEST_AS(name, door, hints, devices, more)                                                      \
    HEAD(name) META("kind='guest' door='" door "'", hints) "<devices>\n" devices "</devices>" more "</" \
                                                                                                   "domain>"
#define GUEST(hints, devices) GUEST_AS("g1", "tap", hints, devices, "")
#define BACK                  "<backenddomain name='net0'/>"
#define NIC(inner)            "<interface type='ethernet'>" BACK inner "</interface>\n"
#define DRIVER(inner, devices) \
    HEAD("net0") META("kind='driver' class='net'", inner) "<devices>\n" devices "</devices></domain>"
#define UPLINK(devargs) DRIVER("<b:uplink devargs='" devargs "'/>", "")
#define NETDEV(name)                           \
    "<hostdev mode='capabilities' type='net'>" \
    "<source><interface>" name "</interface></source></hostdev>\n"
#define NETNS(inner) "<lxc:namespace>" inner "</lxc:namespace>"

static bool has_vlan(const struct policy_nic *nic, unsigned id)
{
    return nic->vlans[id / 64] >> id % 64 & 1;
}

static unsigned vlans_of(const struct policy_nic *nic)
{
    unsigned n = 0;

    for (unsigned id = 0; id < 4096; id++)
        n += has_vlan(nic, id);
    return n;
}

static void reads_a_nic(void **state)
{
    static const uint8_t mac[6] = {0x52, 0x54, 0x00, 0xAB, 0xcd, 0xef};

    (void)state;
    must_accept(
        GUEST_AS("g1", "tap", "<b:interface dev='lan' pool-pages='64' grants='copy' weight='1000'/>",
                 NIC("<mac address='52:54:00:AB:cd:ef'/><guest dev='lan'/><target dev='vnet7'/>"
                     "<mtu size='9216'/><driver queues='8'/><port isolated='yes'/><link state='up'/>"),
                 NETNS("<lxc:sharenet type='netns' value='red'/>")));
    assert_int_equal(spec.door, POLICY_DOOR_TAP);
    assert_string_equal(policy_class_name(&spec), "tap");
    assert_string_equal(spec.netns, "red");
    assert_int_equal(spec.nnics, 1);
    assert_int_equal(spec.ndisks, 0);
    assert_string_equal(spec.nics[0].dev, "lan");
    assert_string_equal(spec.nics[0].backend, "net0");
    assert_memory_equal(spec.nics[0].mac, mac, 6);
    assert_int_equal(spec.nics[0].devid, 0);
    assert_int_equal(spec.nics[0].mtu, 9216);
    assert_int_equal(spec.nics[0].queues, 8);
    assert_int_equal(spec.nics[0].pool_pages, 64);
    assert_int_equal(spec.nics[0].weight, 1000);
    assert_int_equal(spec.nics[0].grants, POLICY_GRANTS_COPY);
    assert_int_equal(spec.nics[0].line, 6);
    assert_true(spec.nics[0].isolated);
    assert_false(spec.nics[0].trunk);
    assert_int_equal(spec.nics[0].pvid, 0);
    assert_int_equal(spec.nics[0].tx, POLICY_TX_DROP);
    assert_int_equal(notes.n, 0);
}

static void reads_what_becomes_of_packets(void **state)
{
    (void)state;
    must_accept(GUEST("<b:interface dev='eth0' tx='resend'/><b:interface dev='eth1' tx='drop'/>",
                      NIC("") NIC("")));
    assert_int_equal(spec.nics[0].tx, POLICY_TX_RESEND);
    assert_int_equal(spec.nics[1].tx, POLICY_TX_DROP);
    must_refuse(GUEST("<b:interface dev='eth0' tx='twice'/>", NIC("")),
                "t.xml:4: tx of eth0 must be 'drop' or 'resend'");
}

static void what_is_not_said_has_a_default(void **state)
{
    (void)state;
    must_accept(GUEST_AS("g1", "native", "", NIC("") NIC("<target dev='wan'/>") NIC(""), ""));
    assert_int_equal(spec.nnics, 3);
    assert_string_equal(spec.nics[0].dev, "eth0");
    assert_string_equal(spec.nics[1].dev, "wan");
    assert_string_equal(spec.nics[2].dev, "eth2");
    assert_int_equal(spec.nics[2].devid, 2);
    assert_int_equal(spec.nics[2].weight, POLICY_WEIGHT_DEFAULT);
    assert_int_equal(spec.nics[2].mtu, 0);
    assert_int_equal(spec.nics[2].inbound.average, 0);
    assert_false(spec.nics[2].isolated);
    assert_string_equal(spec.netns, "");
}

static void a_native_guest_may_have_both(void **state)
{
    (void)state;
    must_accept(GUEST_AS("g1", "native", "<b:disk dev='vda' ram='1048576'/><b:interface dev='eth0'/>",
                         "<disk type='file'><backenddomain name='disk0'/><target dev='vda'/></disk>" NIC(""),
                         ""));
    assert_int_equal(spec.ndisks, 1);
    assert_int_equal(spec.nnics, 1);
}

/* The same document gives the same address for ever; another domain or NIC another one. */
static void made_addresses_are_stable_and_local(void **state)
{
    static const uint8_t prefix[3] = {0x52, 0x54, 0x00};
    uint8_t first[6], second[6];

    (void)state;
    must_accept(GUEST("", NIC("") NIC("")));
    memcpy(first, spec.nics[0].mac, 6);
    memcpy(second, spec.nics[1].mac, 6);
    assert_memory_equal(first, prefix, 3);
    assert_memory_not_equal(first, second, 6);
    must_accept(GUEST("", NIC("<mtu size='1400'/>") NIC("")));
    assert_memory_equal(spec.nics[0].mac, first, 6);
    assert_memory_equal(spec.nics[1].mac, second, 6);
    must_accept(GUEST_AS("g2", "tap", "", NIC(""), ""));
    assert_memory_not_equal(spec.nics[0].mac, first, 6);
}

static void the_uuid_makes_the_address(void **state)
{
#define TAP_META "kind='guest' door='tap'"
#define WITH_UUID(name, uuid)                                                                       \
    "<domain><name>" name "</name><uuid>" uuid "</uuid>" MEMORY META(TAP_META, "") "<devices>" NIC( \
        "") "</devices></domain>"
    uint8_t first[6];

    (void)state;
    must_accept(WITH_UUID("a", "6f1d3c52-8f0e-4c7e-9a55-2d7d3b1c9e10"));
    memcpy(first, spec.nics[0].mac, 6);
    must_accept(WITH_UUID("b", "6F1D3C52-8f0e-4c7e-9a55-2d7d3b1c9e10"));
    assert_memory_equal(spec.nics[0].mac, first, 6);
    must_accept(WITH_UUID("a", "6f1d3c52-8f0e-4c7e-9a55-2d7d3b1c9e11"));
    assert_memory_not_equal(spec.nics[0].mac, first, 6);
}

/* An address that was given is not made again. */
static void made_addresses_give_way(void **state)
{
    char xml[2048];

    (void)state;
    must_accept(GUEST("", NIC("")));
    snprintf(xml, sizeof(xml), GUEST("", NIC("") NIC("<mac address='52:54:00:%02x:%02x:%02x'/>")),
             spec.nics[0].mac[3], spec.nics[0].mac[4], spec.nics[0].mac[5]);
    must_accept(xml);
    assert_memory_not_equal(spec.nics[0].mac, spec.nics[1].mac, 6);
}

static void refuses_bad_addresses(void **state)
{
    (void)state;
    must_refuse(GUEST("", NIC("\n<mac address='01:00:5e:00:00:01'/>")),
                "t.xml:7: the MAC address 01:00:5e:00:00:01 of eth0 is a multicast address");
    must_refuse(GUEST("", NIC("<mac address='00:00:00:00:00:00'/>")),
                "t.xml:6: the MAC address of eth0 is all zero");
    must_refuse(GUEST("", NIC("<mac address='52:54:00:12:34'/>")),
                "t.xml:6: <mac address='...'> of eth0 must read xx:xx:xx:xx:xx:xx");
    must_refuse(GUEST("", NIC("<mac address='52-54-00-12-34-56'/>")),
                "t.xml:6: <mac address='...'> of eth0 must read xx:xx:xx:xx:xx:xx");
    must_refuse(GUEST("", NIC("<mac/>")), "t.xml:6: <mac address='...'> of eth0 must read xx:xx:xx:xx:xx:xx");
    must_refuse(
        GUEST("", NIC("<mac address='52:54:00:12:34:56'/>") NIC("<mac address='52:54:00:12:34:56'/>")),
        "t.xml:7: MAC address 52:54:00:12:34:56 is used twice (first in line 6)");
}

static void refuses_bad_names(void **state)
{
    (void)state;
    must_refuse(GUEST("", NIC("<guest dev='a b'/>")),
                "t.xml:6: the name of a NIC has 1 to 15 characters of A-Z a-z 0-9 . _ - and begins with a "
                "letter or digit");
    must_refuse(GUEST("", NIC("<guest dev='../eth0'/>")),
                "t.xml:6: the name of a NIC has 1 to 15 characters of A-Z a-z 0-9 . _ - and begins with a "
                "letter or digit");
    must_refuse(GUEST("", NIC("<target dev='sixteen-letters-'/>")),
                "t.xml:6: the name of a NIC has 1 to 15 characters of A-Z a-z 0-9 . _ - and begins with a "
                "letter or digit");
    must_refuse(GUEST("", NIC("") NIC("<guest dev='eth0'/>")),
                "t.xml:7: NIC name 'eth0' is used twice (first in "
                "line 6)");
    must_refuse(GUEST("", "<interface type='ethernet'><backenddomain/></interface>"),
                "t.xml:6: <backenddomain name='...'/> must name a driver domain");
    must_refuse(GUEST("", NIC("<mtu size='1500'/><mtu size='1500'/>")),
                "t.xml:6: an <interface> has only one <mtu>");
    must_refuse(GUEST("", "<interface type='direct'>" BACK "</interface>"),
                "t.xml:6: interface type must be 'ethernet', 'bridge' or 'network', not 'direct'");
}

static void vlans_mean_what_libvirt_says(void **state)
{
    (void)state;
    must_accept(GUEST(
        "", NIC("<vlan><tag id='42'/></vlan>") NIC("<vlan trunk='no'><tag id='4094'/></vlan>")
                NIC("<vlan trunk='yes'><tag id='1'/></vlan>") NIC("<vlan><tag id='42'/><tag id='47'/></vlan>")
                    NIC("<vlan trunk='yes'><tag id='42' nativeMode='untagged'/><tag id='47'/></vlan>")
                        NIC("<vlan><tag id='9' nativeMode='untagged'/></vlan>")));
    assert_int_equal(spec.nics[0].pvid, 42);
    assert_false(spec.nics[0].trunk);
    assert_int_equal(vlans_of(&spec.nics[0]), 0);
    assert_int_equal(spec.nics[1].pvid, 4094);
    assert_false(spec.nics[1].trunk);
    assert_int_equal(spec.nics[2].pvid, 0);
    assert_true(spec.nics[2].trunk && has_vlan(&spec.nics[2], 1));
    assert_int_equal(spec.nics[3].pvid, 0);
    assert_true(spec.nics[3].trunk && has_vlan(&spec.nics[3], 42) && has_vlan(&spec.nics[3], 47));
    assert_int_equal(vlans_of(&spec.nics[3]), 2);
    assert_int_equal(spec.nics[4].pvid, 42);
    assert_int_equal(vlans_of(&spec.nics[4]), 2);
    assert_int_equal(spec.nics[5].pvid, 9);
    assert_true(spec.nics[5].trunk);
}

static void refuses_bad_vlans(void **state)
{
    static char xml[16384];
    size_t at;

    (void)state;
    must_refuse(GUEST("", NIC("<vlan>\n<tag id='4095'/></vlan>")),
                "t.xml:7: <tag id='...'> of eth0 must be a number from 1 to 4094");
    must_refuse(GUEST("", NIC("<vlan><tag id='0'/></vlan>")),
                "t.xml:6: <tag id='...'> of eth0 must be a number from 1 to 4094");
    must_refuse(GUEST("", NIC("<vlan><tag/></vlan>")),
                "t.xml:6: <tag id='...'> of eth0 must be a number from 1 to 4094");
    must_refuse(GUEST("", NIC("<vlan/>")), "t.xml:6: <vlan> of eth0 has no <tag id='...'/>");
    must_refuse(GUEST("", NIC("<vlan trunk='maybe'><tag id='1'/></vlan>")),
                "t.xml:6: trunk of eth0 must be 'yes' or "
                "'no'");
    must_refuse(GUEST("", NIC("<vlan><tag id='1'/><tag id='1'/></vlan>")),
                "t.xml:6: VLAN 1 of eth0 is there twice");
    must_refuse(GUEST("", NIC("<vlan trunk='no'><tag id='1'/><tag id='2'/></vlan>")),
                "t.xml:6: eth0 has trunk='no', but several tags: write trunk='yes', or keep one plain <tag>");
    must_refuse(GUEST("", NIC("<vlan trunk='no'><tag id='1' nativeMode='untagged'/></vlan>")),
                "t.xml:6: eth0 has trunk='no', but a nativeMode: write trunk='yes', or keep one plain <tag>");
    must_refuse(
        GUEST("", NIC("<vlan><tag id='1' nativeMode='tagged'/></vlan>")),
        "t.xml:6: nativeMode='tagged' of eth0 is not supported: leave nativeMode out and let the guest "
        "tag, or write 'untagged'");
    must_refuse(GUEST("", NIC("<vlan><tag id='1' nativeMode='odd'/></vlan>")),
                "t.xml:6: nativeMode of eth0 must be 'untagged', not 'odd'");
    must_refuse(
        GUEST("", NIC("<vlan><tag id='1' nativeMode='untagged'/><tag id='2' nativeMode='untagged'/></vlan>")),
        "t.xml:6: eth0 has two native VLANs, 1 and 2: keep one");

    at = (size_t)snprintf(xml, sizeof(xml), "%s",
                          HEAD("g1") META("kind='guest' door='tap'", "") "<devices>\n"
                                                                         "<interface type='ethernet'>" BACK
                                                                         "<vlan>");
    for (unsigned id = 1; id <= 201; id++)
        at += (size_t)snprintf(xml + at, sizeof(xml) - at, "<tag id='%u'/>", id);
    snprintf(xml + at, sizeof(xml) - at, "</vlan></interface></devices></domain>");
    must_refuse(xml, "t.xml:6: eth0 has more than 200 VLANs");
}

/* average and peak in kilobytes of 1000 a second, burst in KiB. */
static void bandwidth_is_in_libvirts_units(void **state)
{
    (void)state;
    must_accept(
        GUEST("", NIC("<bandwidth><inbound average='1000' peak='5000' burst='1024'/>"
                      "<outbound average='128'/></bandwidth>")
                      NIC("<bandwidth><inbound average='1000000000' peak='1000000000' burst='1000000000'/>"
                          "</bandwidth>") NIC("<bandwidth/>")));
    assert_int_equal(spec.nics[0].inbound.average, 1000000);
    assert_int_equal(spec.nics[0].inbound.peak, 5000000);
    assert_int_equal(spec.nics[0].inbound.burst, 1048576);
    assert_int_equal(spec.nics[0].outbound.average, 128000);
    assert_int_equal(spec.nics[0].outbound.peak, 0);
    assert_int_equal(spec.nics[0].outbound.burst, 0);
    assert_int_equal(spec.nics[1].inbound.average, 1000000000000);
    assert_int_equal(spec.nics[1].inbound.burst, 1024000000000);
    assert_int_equal(spec.nics[1].outbound.average, 0);
    assert_int_equal(spec.nics[2].inbound.average, 0);
}

static void refuses_bad_bandwidth(void **state)
{
    (void)state;
    must_refuse(GUEST("", NIC("<bandwidth>\n<inbound average='fast'/></bandwidth>")),
                "t.xml:7: average of eth0 must be a number from 1 to 1000000000");
    must_refuse(GUEST("", NIC("<bandwidth><inbound average='-1'/></bandwidth>")),
                "t.xml:6: average of eth0 must be a number from 1 to 1000000000");
    must_refuse(GUEST("", NIC("<bandwidth><inbound average='1000000001'/></bandwidth>")),
                "t.xml:6: average of eth0 must be a number from 1 to 1000000000");
    must_refuse(GUEST("", NIC("<bandwidth><inbound peak='10'/></bandwidth>")),
                "t.xml:6: <inbound> of eth0 has no "
                "average='...'");
    must_refuse(GUEST("", NIC("<bandwidth><outbound/></bandwidth>")), "t.xml:6: <outbound> of eth0 has no "
                                                                      "average='...'");
    must_refuse(GUEST("", NIC("<bandwidth><outbound average='10' peak='9'/></bandwidth>")),
                "t.xml:6: peak of <outbound> of eth0 is below its average");
    must_refuse(GUEST("", NIC("<bandwidth><outbound average='10' floor='9'/></bandwidth>")),
                "t.xml:6: <outbound> of eth0 has a floor: only <inbound> may");
    must_refuse(GUEST("", NIC("<bandwidth><inbound floor='5' burst='1'/></bandwidth>")),
                "t.xml:6: <inbound> of eth0 has no average='...'");
    must_refuse(GUEST("", NIC("<bandwidth><inbound average='1'/><inbound average='1'/></bandwidth>")),
                "t.xml:6: a <bandwidth> has only one <inbound>");
}

static void refuses_bad_numbers_and_choices(void **state)
{
    (void)state;
    must_refuse(GUEST("", NIC("<mtu size='67'/>")),
                "t.xml:6: <mtu size='...'> of eth0 must be a number from 68 to 9216");
    must_refuse(GUEST("", NIC("<mtu size='9217'/>")),
                "t.xml:6: <mtu size='...'> of eth0 must be a number from 68 to 9216");
    must_refuse(GUEST("", NIC("<mtu/>")),
                "t.xml:6: <mtu size='...'> of eth0 must be a number from 68 to 9216");
    must_refuse(GUEST("", NIC("<driver queues='9'/>")),
                "t.xml:6: queues of eth0 must be a number from 1 to 8");
    must_refuse(GUEST("", NIC("<port isolated='1'/>")), "t.xml:6: isolated of eth0 must be 'yes' or 'no'");
    must_refuse(GUEST("", NIC("<link state='sideways'/>")),
                "t.xml:6: <link state='...'/> of eth0 must be 'up' or "
                "'down'");
    must_refuse(
        GUEST("<b:interface dev='eth1'/>", NIC("")),
        "t.xml:4: our <interface dev='eth1'> names no <interface> with <backenddomain> below <devices>");
    must_refuse(GUEST("<b:interface dev='eth0'/><b:interface dev='eth0'/>", NIC("")),
                "t.xml:4: our <interface dev='eth0'> is there twice");
    must_refuse(GUEST("<b:interface dev='eth0' ram='1'/>", NIC("")),
                "t.xml:4: unknown attribute 'ram' of our "
                "<interface>");
    must_refuse(GUEST("<b:interface dev='eth0' grants='map'/>", NIC("")),
                "t.xml:4: grants of eth0 must be 'persistent' or 'copy'");
    must_refuse(GUEST("<b:interface dev='eth0' weight='0'/>", NIC("")),
                "t.xml:4: weight of eth0 is too small: the "
                "minimum is 1");
    must_refuse(GUEST("", NIC("") NIC("") NIC("") NIC("") NIC("") NIC("") NIC("") NIC("") NIC("")),
                "t.xml:14: more than 8 NICs");
}

static void doors_and_devices_go_together(void **state)
{
    (void)state;
    must_refuse(GUEST_AS("g1", "nbd", "", NIC(""), ""),
                "t.xml:6: a guest with door='nbd' has no NICs: use door='native', or a guest of its own with "
                "door='tap'");
    must_refuse(
        GUEST("", "<disk type='file'><source file='/x'/><backenddomain name='d'/><target "
                  "dev='vda'/></disk>"),
        "t.xml:6: a guest with door='tap' has no disks: use door='native', or a guest of its own with "
        "door='nbd'");
    must_refuse(GUEST("", ""),
                "t.xml:5: the guest has no <interface> with <backenddomain>: there is nothing to "
                "serve");
    must_refuse(GUEST_AS("g1", "native", "", "", ""), "t.xml:5: the guest has no <disk> or <interface> with "
                                                      "<backenddomain>: there is nothing to serve");
    /* An <interface> of someone else's is no reason to refuse a guest. */
    must_accept(
        GUEST_AS("g1", "nbd", "",
                 "<disk type='file'><source file='/x'/><backenddomain name='d'/><target dev='vda'/></disk>\n"
                 "<interface type='direct'><source dev='eth0'/></interface>",
                 ""));
    assert_int_equal(notes.n, 1);
    assert_string_equal(notes.text[0],
                        "t.xml:7: note: an <interface> without <backenddomain> is not served by "
                        "bulkhead");
}

static void tells_what_it_does_not_use(void **state)
{
    (void)state;
    must_accept(
        GUEST("", "<interface type='network'><source network='default'/>" BACK "<model type='virtio'/>"
                  "<link state='down'/><driver name='vhost'/>\n<bandwidth><inbound average='5' floor='4'/>"
                  "</bandwidth><alias name='net0'/></interface>"));
    assert_int_equal(notes.n, 7);
    assert_string_equal(notes.text[0],
                        "t.xml:6: note: type='network' is taken as 'ethernet': the driver domain is "
                        "the switch");
    assert_string_equal(notes.text[1], "t.xml:7: note: floor of <inbound> is not used");
    assert_string_equal(notes.text[2], "t.xml:6: note: attribute name of <driver> is not used");
    assert_string_equal(notes.text[3], "t.xml:6: note: <link state='down'/> is not used: eth0 will be up");
    assert_string_equal(notes.text[4], "t.xml:6: note: <source> in <interface> is not used");
    assert_string_equal(notes.text[5], "t.xml:6: note: <model> in <interface> is not used");
    assert_string_equal(notes.text[6], "t.xml:7: note: <alias> in <interface> is not used");
    assert_int_equal(spec.nics[0].inbound.average, 5000);
}

static void names_a_network_namespace(void **state)
{
    (void)state;
    must_refuse(GUEST_AS("g1", "tap", "", NIC(""), "\n" NETNS("<lxc:sharenet type='name' value='x'/>")),
                "t.xml:8: the type of <sharenet> must be 'netns': a namespace made by: ip netns add");
    must_refuse(
        GUEST_AS("g1", "tap", "", NIC(""), NETNS("<lxc:sharenet type='netns' value='../x'/>")),
        "t.xml:7: the value of <sharenet> is a name that 'ip netns' shows, 1 to 47 characters of A-Z a-z "
        "0-9 . _ -");
    must_refuse(
        GUEST_AS("g1", "tap", "", NIC(""), NETNS("<lxc:sharenet type='netns'/>")),
        "t.xml:7: the value of <sharenet> is a name that 'ip netns' shows, 1 to 47 characters of A-Z a-z "
        "0-9 . _ -");
    must_refuse(GUEST_AS("g1", "tap", "", NIC(""), NETNS("<lxc:shareipc type='netns' value='x'/>")),
                "t.xml:7: <namespace> has no <sharenet type='netns' value='...'/>");
    must_refuse(GUEST_AS("g1", "tap", "", NIC(""), NETNS("<lxc:sharenet type='netns' value='x'/>") NETNS("")),
                "t.xml:7: there is only one <namespace> with one <sharenet>");
    /* Elsewhere it is libvirt's own affair. */
    must_accept(GUEST_AS("g1", "native", "", NIC(""), NETNS("<lxc:sharenet type='netns' value='x'/>")));
    assert_string_equal(notes.text[0], "t.xml:7: note: <namespace> is not used");
    assert_string_equal(spec.netns, "");
}

static void reads_an_uplink(void **state)
{
    (void)state;
    must_accept(DRIVER("<b:uplink devargs='net_af_packet0,iface=eth1,framecnt=512' mtu='9000'/>",
                       NETDEV("eth0") NETDEV("eth1")));
    assert_int_equal(spec.kind, POLICY_DRIVER);
    assert_int_equal(spec.cls, POLICY_CLASS_NET);
    assert_string_equal(policy_class_name(&spec), "net");
    assert_string_equal(spec.devargs, "net_af_packet0,iface=eth1,framecnt=512");
    assert_string_equal(spec.ifname, "eth1");
    assert_int_equal(spec.pmd, POLICY_PMD_AF_PACKET);
    assert_int_equal(spec.mtu, 9000);
    assert_int_equal(spec.nnets, 2);
    assert_string_equal(spec.nets[1], "eth1");
    must_accept(DRIVER("", ""));
    assert_string_equal(spec.devargs, "");
    assert_int_equal(spec.pmd, POLICY_PMD_NONE);
    must_accept(UPLINK("net_null"));
    assert_string_equal(spec.ifname, "");
    assert_int_equal(spec.mtu, 0);
    must_accept(UPLINK("net_null12,size=64,copy=1"));
    must_accept(UPLINK("net_ring0"));
    must_accept(UPLINK("net_tap0,iface=dtap0"));
    must_accept(UPLINK("net_af_xdp0,iface=eth1,start_queue=0"));
    must_accept(UPLINK("net_pcap0,rx_pcap=/var/tmp/in.pcap,tx_pcap=/var/tmp/out.pcap"));
    assert_string_equal(spec.rx_pcap, "/var/tmp/in.pcap");
    assert_string_equal(spec.tx_pcap, "/var/tmp/out.pcap");
}

static void refuses_bad_uplinks(void **state)
{
    (void)state;
    must_refuse(UPLINK("net_virtio0"),
                "t.xml:4: unknown port 'net_virtio0': an uplink is net_af_packet, net_af_xdp, "
                "net_tap, net_pcap, net_null or net_ring, with a number if you like");
    must_refuse(UPLINK("net_nullx"),
                "t.xml:4: unknown port 'net_nullx': an uplink is net_af_packet, net_af_xdp, "
                "net_tap, net_pcap, net_null or net_ring, with a number if you like");
    must_refuse(UPLINK(""),
                "t.xml:4: our <uplink> has no devargs='...': leave it out for a switch between guests "
                "only");
    must_refuse(UPLINK("net_null0 size=64"),
                "t.xml:4: devargs are printable ASCII characters without white space");
    must_refuse(UPLINK("net_null0,"), "t.xml:4: devargs read NAME,KEY=VALUE,KEY=VALUE: '' is no KEY=VALUE");
    must_refuse(UPLINK("net_null0,size"),
                "t.xml:4: devargs read NAME,KEY=VALUE,KEY=VALUE: 'size' is no KEY=VALUE");
    must_refuse(UPLINK("net_null0,size=6=4"), "t.xml:4: devargs read NAME,KEY=VALUE,KEY=VALUE: 'size' is no "
                                              "KEY=VALUE");
    must_refuse(UPLINK("net_null0,size=64,size=64"), "t.xml:4: option size= of the uplink is there twice");
    must_refuse(UPLINK("net_af_packet0"), "t.xml:4: net_af_packet needs iface=NAME");
    must_refuse(
        UPLINK("net_af_packet0,iface=a/b"),
        "t.xml:4: iface= of the uplink has 1 to 15 characters of A-Z a-z 0-9 . _ - and begins with a letter "
        "or digit");
    must_refuse(UPLINK("net_af_packet0,iface=eth1,qpairs=2"),
                "t.xml:4: qpairs= of the uplink must be 1: it has one "
                "queue each way");
    must_refuse(
        UPLINK("net_af_xdp0,iface=eth1,xdp_prog=/tmp/x.o"),
        "t.xml:4: net_af_xdp has no option xdp_prog= here; its options are: iface, start_queue, queue_count, "
        "busy_budget, force_copy");
    must_refuse(UPLINK("net_tap0,iface=t,remote=eth1"),
                "t.xml:4: net_tap has no option remote= here; its options "
                "are: iface, mac");
    must_refuse(UPLINK("net_ring0,nodeaction=x"),
                "t.xml:4: net_ring has no option nodeaction= here; its options "
                "are: none");
    must_refuse(UPLINK("net_pcap0,iface=eth1"),
                "t.xml:4: net_pcap has no option iface= here; its options are: "
                "rx_pcap, tx_pcap, infinite_rx");
    must_refuse(UPLINK("net_null0,size=/dev/zero"), "t.xml:4: size= of the uplink may not be a path");
    must_refuse(UPLINK("net_pcap0"), "t.xml:4: net_pcap needs rx_pcap=FILE or tx_pcap=FILE");
    must_refuse(UPLINK("net_pcap0,rx_pcap=in.pcap"),
                "t.xml:4: rx_pcap= of the uplink must be an absolute path");
    must_refuse(DRIVER("<b:uplink devargs='net_null0' mtu='20'/>", ""),
                "t.xml:4: mtu of the uplink is too small: the "
                "minimum is 68");
    must_refuse(DRIVER("<b:uplink devargs='net_null0' speed='9'/>", ""),
                "t.xml:4: unknown attribute 'speed' of our "
                "<uplink>");
    must_refuse(DRIVER("<b:uplink devargs='net_null0'/><b:uplink devargs='net_null1'/>", ""),
                "t.xml:4: a driver domain has only one <uplink>");
    must_refuse(DRIVER("<b:uplink devargs='net_af_packet0,iface=eth2'/>", NETDEV("eth1")),
                "t.xml:4: the uplink's interface eth2 is none of the <hostdev>");
    must_refuse(DRIVER("", "<hostdev mode='capabilities' type='storage'/>"),
                "t.xml:6: a <hostdev> of a net driver domain must have mode='capabilities' type='net'");
    must_refuse(DRIVER("", "<hostdev mode='capabilities' type='net'/>"),
                "t.xml:6: this <hostdev> has no <source><interface>...</interface></source>");
    must_refuse(DRIVER("", NETDEV("a b")),
                "t.xml:6: the name in <interface> has 1 to 15 characters of A-Z a-z 0-9 . _ "
                "- and begins with a letter or digit");
    must_refuse(HEAD("d") META("kind='driver' class='blk'", "<b:uplink devargs='net_null0'/>") "</domain>",
                "t.xml:4: unknown element <uplink> in our <domain> of a driver");
    must_refuse("<domain><name>d</name>\n<memory unit='MiB'>63</memory>" META("kind='driver' class='net'",
                                                                              "") "</domain>",
                "t.xml:2: <memory> is too small: a net driver domain needs at least 64 MiB");
}

static void devargs_have_a_limit(void **state)
{
    char xml[1024], name[300];

    (void)state;
    memset(name, 'x', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    snprintf(xml, sizeof(xml), UPLINK("net_pcap0,rx_pcap=/%s"), name);
    must_refuse(xml, "t.xml:4: devargs are longer than 255 bytes");
    name[255 - strlen("net_pcap0,rx_pcap=/")] = '\0';
    snprintf(xml, sizeof(xml), UPLINK("net_pcap0,rx_pcap=/%s"), name);
    must_accept(xml);
    assert_int_equal(strlen(spec.devargs), 255);
}

/* The schema is a net of its own: it refuses without our checks. */
static void schema_stands_alone(void **state)
{
    static const char *const bad[] = {
        GUEST("", NIC("<mac address='01:00:5e:00:00:01'/>")),
        GUEST("", NIC("<mac address='5254:00'/>")),
        GUEST("", NIC("<mtu size='10'/>")),
        GUEST("", NIC("<vlan/>")),
        GUEST("", NIC("<vlan><tag id='4095'/></vlan>")),
        GUEST("", NIC("<vlan trunk='1'><tag id='1'/></vlan>")),
        GUEST("", NIC("<vlan><tag id='1' nativeMode='tagged'/></vlan>")),
        GUEST("", NIC("<bandwidth><inbound average='x'/></bandwidth>")),
        GUEST("", NIC("<driver queues='9'/>")),
        GUEST("", NIC("<guest dev='a/b'/>")),
        GUEST("", NIC("<link state='odd'/>")),
        GUEST("", "<interface type='direct'>" BACK "</interface>"),
        GUEST("<b:interface dev='eth0' grants='map'/>", NIC("")),
        GUEST("<b:interface dev='eth0' extra='1'/>", NIC("")),
        GUEST("<b:interface dev='eth0' tx='twice'/>", NIC("")),
        UPLINK("net_virtio0"),
        UPLINK("net_null0,size"),
        UPLINK("net_null0,a=b=c"),
        DRIVER("<b:uplink devargs='net_null0' mtu='1'/>", ""),
        DRIVER("<b:uplink/>", ""),
        HEAD("d") META("kind='driver' class='blk'", "<b:uplink devargs='net_null0'/>") "</domain>",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (!policy_schema_check(bad[i], strlen(bad[i]), "t.xml", err))
            fail_msg("the schema takes: %s", bad[i]);
        if (strncmp(err, "t.xml:", 6) != 0 || !strstr(err, ": does not match the schema: "))
            fail_msg("%s", err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_nic),
        cmocka_unit_test(reads_what_becomes_of_packets),
        cmocka_unit_test(what_is_not_said_has_a_default),
        cmocka_unit_test(a_native_guest_may_have_both),
        cmocka_unit_test(made_addresses_are_stable_and_local),
        cmocka_unit_test(the_uuid_makes_the_address),
        cmocka_unit_test(made_addresses_give_way),
        cmocka_unit_test(refuses_bad_addresses),
        cmocka_unit_test(refuses_bad_names),
        cmocka_unit_test(vlans_mean_what_libvirt_says),
        cmocka_unit_test(refuses_bad_vlans),
        cmocka_unit_test(bandwidth_is_in_libvirts_units),
        cmocka_unit_test(refuses_bad_bandwidth),
        cmocka_unit_test(refuses_bad_numbers_and_choices),
        cmocka_unit_test(doors_and_devices_go_together),
        cmocka_unit_test(tells_what_it_does_not_use),
        cmocka_unit_test(names_a_network_namespace),
        cmocka_unit_test(reads_an_uplink),
        cmocka_unit_test(refuses_bad_uplinks),
        cmocka_unit_test(devargs_have_a_limit),
        cmocka_unit_test(schema_stands_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
