/* SPDX-License-Identifier: MIT */
/* What of a guest's XML is ours: seen, changed, and as libvirt gives it back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "../../deploy/libvirt/bridge.h"
#include "../../policy/policy.h"

#define HEAD    "<domain type='test'><name>g1</name>"
#define TAIL    "<memory>65536</memory><vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os>"
#define OURS    "<bulkhead:domain xmlns:bulkhead='" POLICY_NS "' kind='guest' door='vhost-user'>"
#define OUR_VDA "<bulkhead:disk dev='vda' file='/d/a.img' driver='disk0' queues='2'/>"
#define OUR_ETH                                                                                  \
    "<bulkhead:interface dev='eth0' driver='net0' queues='4'><mac address='52:54:00:00:00:01'/>" \
    "<mtu size='9000'/><vlan><tag id='5'/></vlan></bulkhead:interface>"
#define DEVICES                                                                                   \
    "<devices><disk type='vhostuser' device='disk'><driver name='qemu' type='raw'/>"              \
    "<source type='unix' path='/run/b/guests/g1/vda.sock'/><target dev='vda' bus='virtio'/>"      \
    "<alias name='virtio-disk0'/></disk>"                                                         \
    "<disk type='vhostuser' device='disk'><driver name='qemu' type='raw'/>"                       \
    "<source type='unix' path='/srv/other/vdb.sock'/><target dev='vdb' bus='virtio'/></disk>"     \
    "<interface type='vhostuser'><mac address='52:54:00:00:00:01'/>"                              \
    "<source type='unix' path='/run/b/guests/g1/eth0.sock' mode='client'/><model type='virtio'/>" \
    "<alias name='net0'/></interface></devices>"
#define GUEST HEAD "<metadata>" OURS OUR_VDA OUR_ETH "</bulkhead:domain></metadata>" TAIL DEVICES "</domain>"

static bool ours(const char *xml)
{
    return guestxml_is_ours(xml, strlen(xml));
}

static xmlDoc *parsed(const char *xml)
{
    xmlDoc *doc = guestxml_parse(xml, strlen(xml));

    assert_non_null(doc);
    return doc;
}

/* ------------------------------------------------------------ whose is it */

static void ours_is_told_by_our_namespace_in_metadata(void **state)
{
    (void)state;
    assert_true(ours(GUEST));
    assert_true(ours(HEAD "<metadata><x:domain xmlns:x='" POLICY_NS "'/></metadata></domain>"));
    assert_true(ours(HEAD "<metadata><domain xmlns='" POLICY_NS "'/></metadata></domain>"));
    assert_true(
        ours(HEAD "<metadata><a/>text<!-- c --><o xmlns='u'><p/></o>" OURS "</bulkhead:domain></metadata>"));

    assert_false(ours(HEAD TAIL "</domain>"));
    assert_false(ours(HEAD "<metadata/>" TAIL "</domain>"));
    assert_false(ours(HEAD "<metadata><x:domain xmlns:x='urn:other:1'/></metadata></domain>"));
    assert_false(ours(HEAD "<metadata><domain/></metadata></domain>"));
    /* Not where libvirt keeps metadata. */
    assert_false(ours(HEAD OURS "</bulkhead:domain></domain>"));
    assert_false(ours(HEAD "<metadata><o>" OURS "</bulkhead:domain></o></metadata></domain>"));
    assert_false(ours(HEAD "<metadata/><devices>" OURS "</bulkhead:domain></devices></domain>"));
    assert_false(ours("<network><metadata>" OURS "</bulkhead:domain></metadata></network>"));
}

static void whose_a_broken_document_is(void **state)
{
    static const char text[] = GUEST;
    const char *end = strstr(text, "</metadata>");

    (void)state;
    assert_true(guestxml_is_ours(text, (size_t)(end - text)));
    assert_false(guestxml_is_ours(text, (size_t)(strstr(text, "<bulkhead:") - text)));
    assert_false(ours(""));
    assert_false(ours("no XML"));
    assert_false(ours("<domain><metadata><a></metadata>"));
    assert_false(ours("<!DOCTYPE domain [<!ENTITY a 'b'>]>" GUEST));
    assert_false(guestxml_is_ours(text, (size_t)BRIDGE_XML_MAX + 1));
}

/* -------------------------------------------------------------- our element */

static void devices_are_added_and_removed(void **state)
{
    xmlDoc *doc = parsed(GUEST);

    (void)state;
    assert_true(guestxml_names(doc, true, "vda"));
    assert_true(guestxml_names(doc, false, "eth0"));
    assert_false(guestxml_names(doc, false, "vda"));
    assert_false(guestxml_names(doc, true, "vdb"));
    assert_int_equal(guestxml_add(doc, "<b:disk xmlns:b='" POLICY_NS "' dev='vdb' ram='1M'/>"), 0);
    assert_true(guestxml_names(doc, true, "vdb"));
    assert_true(guestxml_remove(doc, true, "vda"));
    assert_false(guestxml_remove(doc, true, "vda"));
    assert_false(guestxml_names(doc, true, "vda"));
    assert_true(guestxml_names(doc, true, "vdb"));
    assert_true(guestxml_names(doc, false, "eth0"));

    assert_int_equal(guestxml_add(doc, "<disk dev='vdc'/>"), -EINVAL);
    assert_int_equal(guestxml_add(doc, "<b:uplink xmlns:b='" POLICY_NS "'/>"), -EINVAL);
    assert_int_equal(guestxml_add(doc, "<b:disk"), -EINVAL);
    xmlFreeDoc(doc);
}

/* Nothing in it has a namespace: libvirt gives ours to all of it. */
static void metadata_is_as_libvirt_takes_it(void **state)
{
    xmlDoc *doc = parsed(GUEST), *none = parsed(HEAD TAIL "</domain>");
    char *text = guestxml_metadata(doc);

    (void)state;
    assert_non_null(text);
    assert_null(strstr(text, "bulkhead:"));
    assert_null(strstr(text, "xmlns"));
    assert_ptr_equal(strstr(text, "<domain kind=\"guest\" door=\"vhost-user\">"), text);
    free(text);
    assert_null(guestxml_metadata(none));
    assert_int_equal(guestxml_add(none, "<b:disk xmlns:b='" POLICY_NS "' dev='vda' ram='1M'/>"), 0);
    text = guestxml_metadata(none);
    assert_non_null(text);
    assert_non_null(strstr(text, "<domain kind=\"guest\" door=\"vhost-user\">"));
    assert_non_null(strstr(text, "<disk dev=\"vda\" ram=\"1M\"/>"));
    free(text);
    xmlFreeDoc(none);
    xmlFreeDoc(doc);
}

/* What we take out, change and give back through libvirt is still ours, with all that was in it. */
static void metadata_goes_through_libvirt(void **state)
{
    virConnectPtr conn = virConnectOpen("test:///default");
    virDomainPtr dom;
    xmlDoc *doc;
    char *xml, *text;

    (void)state;
    assert_non_null(conn);
    dom = virDomainDefineXML(conn, GUEST);
    assert_non_null(dom);
    xml = virDomainGetXMLDesc(dom, 0);
    assert_non_null(xml);
    assert_true(ours(xml));
    doc = parsed(xml);
    assert_int_equal(guestxml_add(doc, "<b:disk xmlns:b='" POLICY_NS "' dev='vdb' ram='1M'/>"), 0);
    text = guestxml_metadata(doc);
    assert_int_equal(virDomainSetMetadata(dom, VIR_DOMAIN_METADATA_ELEMENT, text, "bulkhead", POLICY_NS,
                                          VIR_DOMAIN_AFFECT_CONFIG),
                     0);
    xmlFreeDoc(doc);
    free(text);
    free(xml);

    xml = virDomainGetXMLDesc(dom, 0);
    doc = parsed(xml);
    assert_true(ours(xml));
    assert_true(guestxml_names(doc, true, "vda"));
    assert_true(guestxml_names(doc, true, "vdb"));
    assert_true(guestxml_names(doc, false, "eth0"));
    assert_non_null(strstr(xml, "tag id=\"5\""));
    xmlFreeDoc(doc);
    free(xml);
    virDomainUndefine(dom);
    virDomainFree(dom);
    virConnectClose(conn);
}

/* ------------------------------------------------------------- its devices */

static void a_device_of_ours_is_found(void **state)
{
    xmlDoc *doc = parsed(GUEST);
    struct guestxml_device d;

    (void)state;
    assert_int_equal(guestxml_device(doc, "vda", &d), 0);
    assert_true(d.disk);
    assert_string_equal(d.alias, "virtio-disk0");
    assert_non_null(strstr(d.xml, "vda.sock"));
    free(d.xml);
    assert_int_equal(guestxml_device(doc, "eth0", &d), 0);
    assert_false(d.disk);
    assert_string_equal(d.alias, "net0");
    free(d.xml);
    /* Somebody else's, and none. */
    assert_int_equal(guestxml_device(doc, "vdb", &d), -ENOENT);
    assert_int_equal(guestxml_device(doc, "vd", &d), -ENOENT);
    assert_int_equal(guestxml_device(doc, "", &d), -ENOENT);
    xmlFreeDoc(doc);
}

static char *completed(xmlDoc *guest, const char *xml)
{
    char why[BRIDGE_WHY_MAX], *out;

    if (guestxml_complete(guest, xml, strlen(xml), "d.xml", "/run/b", &out, why))
        fail_msg("refused: %s", why);
    return out;
}

static void what_is_left_out_is_filled_in(void **state)
{
    xmlDoc *doc = parsed(GUEST);
    char *xml = completed(doc, "<disk type='vhostuser'><target dev='vda'/></disk>");

    (void)state;
    assert_non_null(strstr(xml, "path=\"/run/b/guests/g1/vda.sock\""));
    assert_non_null(strstr(xml, "<reconnect enabled=\"yes\" timeout=\"1\"/>"));
    assert_non_null(strstr(xml, "<target dev=\"vda\" bus=\"virtio\"/>"));
    assert_non_null(strstr(xml, "queues=\"2\""));
    assert_null(strstr(xml, "mode="));
    free(xml);

    xml = completed(doc, "<interface type='vhostuser'><target dev='eth0'/></interface>");
    assert_non_null(strstr(xml, "path=\"/run/b/guests/g1/eth0.sock\""));
    assert_non_null(strstr(xml, "mode=\"client\""));
    assert_non_null(strstr(xml, "<mac address=\"52:54:00:00:00:01\"/>"));
    assert_non_null(strstr(xml, "<mtu size=\"9000\"/>"));
    assert_non_null(strstr(xml, "<model type=\"virtio\"/>"));
    assert_non_null(strstr(xml, "queues=\"4\""));
    free(xml);
    xmlFreeDoc(doc);
}

static void what_is_said_stays(void **state)
{
    static const char ordinary[] = "<disk type='file'><source file='/x'/><target dev='vdc'/></disk>";
    xmlDoc *doc = parsed(GUEST);
    char *xml = completed(doc, "<interface type='vhostuser'><mac address='52:54:00:00:00:02'/>"
                               "<source type='unix' path='/run/b/guests/g1/eth0.sock' mode='server'>"
                               "<reconnect enabled='no'/></source><model type='e1000'/>"
                               "<driver queues='1'/><mtu size='1500'/></interface>");

    (void)state;
    assert_non_null(strstr(xml, "52:54:00:00:00:02"));
    assert_null(strstr(xml, "52:54:00:00:00:01"));
    assert_non_null(strstr(xml, "mode=\"server\""));
    assert_non_null(strstr(xml, "<reconnect enabled=\"no\"/>"));
    assert_non_null(strstr(xml, "e1000"));
    assert_non_null(strstr(xml, "queues=\"1\""));
    assert_non_null(strstr(xml, "<mtu size=\"1500\"/>"));
    free(xml);
    xml = completed(doc, ordinary);
    assert_string_equal(xml, ordinary);
    free(xml);
    xmlFreeDoc(doc);
}

static void not_completed(const char *xml, const char *sentence)
{
    xmlDoc *doc = parsed(GUEST);
    char why[BRIDGE_WHY_MAX], *out;

    assert_int_equal(guestxml_complete(doc, xml, strlen(xml), "d.xml", "/run/b", &out, why), -EINVAL);
    assert_string_equal(why, sentence);
    assert_null(out);
    xmlFreeDoc(doc);
}

static void what_cannot_be_completed_is_refused(void **state)
{
    (void)state;
    not_completed("\n<disk type='vhostuser'/>",
                  "d.xml:2: it does not say which device of the guest it is: add <target dev='vda'/>");
    not_completed("<interface type='vhostuser'><source path='/a/b'/></interface>",
                  "d.xml:1: it does not say which device of the guest it is: add <target dev='eth0'/>");
    not_completed("<!DOCTYPE disk><disk type='vhostuser'/>", "d.xml:1: a DOCTYPE is not allowed: remove it");
    not_completed("", "d.xml:1: not well-formed XML: Document is empty");
}

/* ------------------------------------------------------- which one is meant */

static const char *found(const char *xml, char why[BRIDGE_WHY_MAX])
{
    static char dev[16];
    xmlDoc *doc = parsed(GUEST);
    int rc = guestxml_find(doc, xml, strlen(xml), "d.xml", dev, why);

    xmlFreeDoc(doc);
    return rc ? NULL : dev;
}

static void a_file_says_which_device_is_meant(void **state)
{
    char why[BRIDGE_WHY_MAX];

    (void)state;
    assert_string_equal(found("<disk type='vhostuser'><target dev='vda'/></disk>", why), "vda");
    assert_string_equal(
        found("<interface type='vhostuser'><source path='/r/guests/g1/eth0.sock'/></interface>", why),
        "eth0");
    /* By what is behind it, whatever it is called there. */
    assert_string_equal(found("<disk type='file'><source file='/d/a.img'/><target dev='sdq'/></disk>", why),
                        "vda");
    assert_string_equal(found("<interface type='bridge'><mac address='52:54:00:00:00:01'/></interface>", why),
                        "eth0");

    assert_null(found("<disk type='file'><source file='/d/b.img'/><target dev='vda'/></disk>", why));
    assert_string_equal(why,
                        "d.xml:1: the guest has no such disk, by its <source>, on a driver domain: give its "
                        "name instead of the file");
    assert_null(found("<interface type='bridge'><target dev='eth0'/></interface>", why));
    assert_string_equal(why,
                        "d.xml:1: the guest has no such NIC, by its <mac>, on a driver domain: give its name "
                        "instead of the file");
    assert_null(found("<hostdev/>", why));
    assert_string_equal(why, "d.xml:1: it is no <disk> and no <interface>");
}

static void no_words(void *opaque, virErrorPtr e)
{
    (void)opaque, (void)e;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ours_is_told_by_our_namespace_in_metadata),
        cmocka_unit_test(whose_a_broken_document_is),
        cmocka_unit_test(devices_are_added_and_removed),
        cmocka_unit_test(metadata_is_as_libvirt_takes_it),
        cmocka_unit_test(metadata_goes_through_libvirt),
        cmocka_unit_test(a_device_of_ours_is_found),
        cmocka_unit_test(what_is_left_out_is_filled_in),
        cmocka_unit_test(what_is_said_stays),
        cmocka_unit_test(what_cannot_be_completed_is_refused),
        cmocka_unit_test(a_file_says_which_device_is_meant),
    };

    virSetErrorFunc(NULL, no_words);
    return cmocka_run_group_tests_name("libvirt_guestxml", tests, NULL, NULL);
}
