/* SPDX-License-Identifier: MIT */
/*
 * Domain XML: what is understood, what is told, what is refused and with which
 * sentence and line.  Every document of deploy/examples passes our own checks
 * and the schema; what our checks accept, the schema accepts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test_policy.h"
#include "../../policy/reader.h"

#define DRIVER_META        META("kind='driver' class='blk'", "")
#define GUEST_META(inner)  META("kind='guest' door='nbd'", inner)
#define DRIVER(more) \
    "<domain type='lxc'>\n<name>disk0</name>\n<memory unit='MiB'>64</memory>\n" DRIVER_META more "</domain>"
/* <devices> is line 5, the first disk line 6. */
#define GUEST(hints, disks)                                                               \
    "<domain type='qemu'>\n<name>g1</name>\n<memory unit='MiB'>64</memory>\n" GUEST_META( \
        hints) "<devices>\n" disks "</devices></domain>"
#define DISK(driver, source, more)                                                           \
    "<disk type='file' device='disk'><driver name='bulkhead' type='raw' " driver "/>" source \
    "<backenddomain name='disk0'/><target dev='vda' bus='xen'/>" more "</disk>\n"
#define FILE_SOURCE "<source file='/img'/>"

static void reads_a_driver_domain(void **state)
{
    (void)state;
    must_accept("<domain type='lxc'><name> disk0 </name><uuid>6F1D3C52-8f0e-4c7e-9a55-2d7d3b1c9e10</uuid>"
                "<memory unit='GB'>2</memory><vcpu "
                "cpuset='0-3,^2'>1</vcpu><os><type>exe</type></os>" DRIVER_META
                "<devices><hostdev mode='capabilities' "
                "type='storage'><source><block>/dev/sdb</block></source></hostdev>"
                "</devices></domain>");
    assert_int_equal(spec.kind, POLICY_DRIVER);
    assert_int_equal(spec.cls, POLICY_CLASS_BLK);
    assert_string_equal(spec.name, "disk0");
    assert_string_equal(spec.uuid, "6f1d3c52-8f0e-4c7e-9a55-2d7d3b1c9e10");
    assert_int_equal(spec.memory_bytes, 2000000000);
    assert_int_equal(spec.cpus, 0xb);
    assert_int_equal(spec.nhostdevs, 1);
    assert_string_equal(spec.hostdevs[0], "/dev/sdb");
    assert_int_equal(notes.n, 0);
}

#define RECOVERY_OF(cls, inner)                                                                    \
    "<domain type='lxc'>\n<name>d</name>\n<memory unit='MiB'>64</memory>\n" META("kind='driver' " \
                                                                                 "class='" cls "'", \
                                                                                 inner) "</domain>"
#define RECOVERY(attrs) RECOVERY_OF("blk", "<b:recovery " attrs "/>")
#define HINT(attrs)     GUEST("<b:disk dev='vda' " attrs "/>", DISK("", FILE_SOURCE, ""))

static void reads_how_a_driver_domain_recovers(void **state)
{
    (void)state;
    must_accept(DRIVER(""));
    assert_true(spec.spare);
    assert_int_equal(spec.heartbeat_ms, 500);
    must_accept(RECOVERY(""));
    assert_true(spec.spare);
    assert_int_equal(spec.heartbeat_ms, 500);
    must_accept(RECOVERY("spare='no' heartbeat='0'"));
    assert_false(spec.spare);
    assert_int_equal(spec.heartbeat_ms, 0);
    must_accept(RECOVERY("spare='yes' heartbeat='100'"));
    assert_true(spec.spare);
    assert_int_equal(spec.heartbeat_ms, 100);
    must_accept(RECOVERY_OF("net", "<b:recovery heartbeat='60000'/><b:uplink devargs='net_null0'/>"));
    assert_true(spec.spare);
    assert_int_equal(spec.heartbeat_ms, 60000);
    assert_string_equal(spec.devargs, "net_null0");
    must_accept(GUEST("", DISK("", FILE_SOURCE, "")));
    assert_false(spec.spare);
    assert_int_equal(spec.heartbeat_ms, 0);
}

static void refuses_bad_recovery(void **state)
{
    static const char heartbeat[] = "t.xml:4: heartbeat of our <recovery> must be 0, for none, or a number "
                                    "of milliseconds from 100 to 60000";

    (void)state;
    must_refuse(RECOVERY("heartbeat='99'"), heartbeat);
    must_refuse(RECOVERY("heartbeat='60001'"), heartbeat);
    must_refuse(RECOVERY("heartbeat='0.5'"), heartbeat);
    must_refuse(RECOVERY("heartbeat=''"), heartbeat);
    must_refuse(RECOVERY("spare='warm'"), "t.xml:4: spare of our <recovery> must be 'yes' or 'no'");
    must_refuse(RECOVERY("spares='yes'"), "t.xml:4: unknown attribute 'spares' of our <recovery>");
    must_refuse(RECOVERY_OF("blk", "<b:recovery/><b:recovery/>"), "t.xml:4: a driver domain has only one "
                                                                  "<recovery>");
    must_refuse(GUEST("<b:recovery/>", DISK("", FILE_SOURCE, "")),
                "t.xml:4: unknown element <recovery> in our <domain> of a guest");
}

static void reads_how_a_disk_recovers(void **state)
{
    (void)state;
    must_accept(GUEST("", DISK("", FILE_SOURCE, "")));
    assert_int_equal(spec.disks[0].max_deaths, 3);
    assert_int_equal(spec.disks[0].timeout_ms, 0);
    must_accept(HINT("max-deaths='1' timeout='0.1'"));
    assert_int_equal(spec.disks[0].max_deaths, 1);
    assert_int_equal(spec.disks[0].timeout_ms, 100);
    must_accept(HINT("max-deaths='65535' timeout='86400.000'"));
    assert_int_equal(spec.disks[0].max_deaths, 65535);
    assert_int_equal(spec.disks[0].timeout_ms, 86400000);
    must_accept(HINT("timeout='30'"));
    assert_int_equal(spec.disks[0].timeout_ms, 30000);
    must_accept(HINT("timeout='2.05'"));
    assert_int_equal(spec.disks[0].timeout_ms, 2050);
}

static void refuses_bad_deaths_and_timeouts(void **state)
{
    static const char *const bad[] = {"0",  "0.099", "86400.001", "86401", "-1",
                                      "+5", "5s",    "1e3",       ".5",    "5.",
                                      "",   "1.2.3", "1.0005",    "99999999999999999999",
                                      "1000000000000000000000000"};

    (void)state;
    must_refuse(HINT("max-deaths='0'"),
                "t.xml:4: max-deaths of vda is too small: the minimum is 1");
    must_refuse(HINT("max-deaths='65536'"),
                "t.xml:4: max-deaths of vda must be a number from 1 to 65535");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char xml[1024];

        snprintf(xml, sizeof(xml), HINT("timeout='%s'"), bad[i]);
        must_refuse(xml, "t.xml:4: timeout of vda must be a number of seconds from 0.1 to 86400, with up to "
                         "three decimals");
    }
}

static void reads_disks(void **state)
{
    (void)state;
    must_accept(GUEST(
        "<b:disk dev='vdb' pool-pages='64' grants='map' weight='1000'/><b:disk dev='vdc' ram='1048576'/>",
        DISK("cache='none' queues='8'", FILE_SOURCE,
             "<readonly/>") "<disk type='block'><source dev='/dev/sdb'/><backenddomain name='d1'/><target "
                            "dev='vdb'/></disk>"
                            "<disk type='file'><backenddomain name='d1'/><target dev='vdc'/></disk>"));
    assert_int_equal(spec.kind, POLICY_GUEST);
    assert_int_equal(spec.door, POLICY_DOOR_NBD);
    assert_int_equal(spec.ndisks, 3);
    assert_string_equal(spec.disks[0].dev, "vda");
    assert_int_equal(spec.disks[0].devid, 51712);
    assert_string_equal(spec.disks[0].path, "/img");
    assert_string_equal(spec.disks[0].backend, "disk0");
    assert_true(spec.disks[0].direct && spec.disks[0].readonly);
    assert_int_equal(spec.disks[0].queues, 8);
    assert_int_equal(spec.disks[0].weight, POLICY_WEIGHT_DEFAULT);
    assert_int_equal(spec.disks[0].line, 6);
    assert_int_equal(spec.disks[1].devid, 51728);
    assert_int_equal(spec.disks[1].source, POLICY_SOURCE_BLOCK);
    assert_false(spec.disks[1].direct);
    assert_int_equal(spec.disks[1].pool_pages, 64);
    assert_int_equal(spec.disks[1].grants, POLICY_GRANTS_MAP);
    assert_int_equal(spec.disks[1].weight, 1000);
    assert_int_equal(spec.disks[2].source, POLICY_SOURCE_RAM);
    assert_int_equal(spec.disks[2].ram_bytes, 1 << 20);
}

static void tells_what_it_does_not_use(void **state)
{
    (void)state;
    must_accept("<domain type='qemu' "
                "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n<name>g1</name>\n"
                "<memory>65536</memory>\n<cpu mode='host-model'/>\n" GUEST_META(
                    "") "<devices>\n"
                        "<graphics type='vnc'/>\n<graphics type='spice'/>\n"
                        "<disk type='file'><source file='/other'/><target dev='sda'/></disk>\n"
                        "<disk type='file'><driver name='bulkhead' discard='unmap'/>" FILE_SOURCE
                        "<backenddomain name='d'/><target dev='vda'/><iotune/></disk>\n"
                        "</devices>\n<qemu:commandline><qemu:arg value='x'/></qemu:commandline></domain>");
    assert_int_equal(spec.memory_bytes, 64 << 20);
    assert_int_equal(notes.n, 6);
    assert_string_equal(notes.text[0], "t.xml:4: note: <cpu> is not used");
    assert_string_equal(notes.text[1], "t.xml:12: note: <commandline> is not used");
    assert_string_equal(notes.text[2], "t.xml:7: note: <graphics> is not used");
    assert_string_equal(notes.text[3], "t.xml:9: note: a <disk> without <backenddomain> is not served by "
                                       "bulkhead");
    assert_string_equal(notes.text[4], "t.xml:10: note: attribute discard of <driver> is not used");
    assert_string_equal(notes.text[5], "t.xml:10: note: <iotune> in <disk> is not used");
}

static void refuses_what_is_no_domain(void **state)
{
    (void)state;
    must_refuse("<domain>\n<name>x</nam>", "t.xml:2: not well-formed XML: Opening and ending tag mismatch: "
                                           "name line 2 and nam");
    must_refuse("", "t.xml:1: not well-formed XML: Document is empty");
    must_refuse("<network/>", "t.xml:1: the outermost element must be libvirt's <domain>");
    must_refuse("<domain><name>x</name></domain>", "t.xml:1: no <metadata> with a <domain> of the namespace "
                                                   "urn:bulkhead:domain:1: nothing here is for bulkhead");
    must_refuse("<?xml version='1.0'?>\n<!DOCTYPE domain [<!ENTITY a 'b'>]>\n<domain/>",
                "t.xml:2: a DOCTYPE is not allowed: remove it");
    must_refuse("<!DOCTYPE domain SYSTEM 'file:///etc/passwd'>\n<domain/>", "t.xml:1: a DOCTYPE is not "
                                                                            "allowed: remove it");
}

static void refuses_long_documents(void **state)
{
    char *xml = malloc(POLICY_XML_MAX + 2);

    (void)state;
    memset(xml, ' ', POLICY_XML_MAX + 1);
    xml[POLICY_XML_MAX + 1] = '\0';
    must_refuse(xml, "t.xml:1: the document is longer than 1048576 bytes");
    free(xml);
}

static void refuses_unknown_things_in_our_namespace(void **state)
{
    (void)state;
    must_refuse(DRIVER("\n<b:extra " NS "/>"), "t.xml:6: unknown element <extra> in the namespace "
                                               "urn:bulkhead:domain:1");
    must_refuse(DRIVER("<x " NS " b:y='1'/>"), "t.xml:5: unknown attribute 'y' in the namespace "
                                               "urn:bulkhead:domain:1");
    must_refuse("<domain><metadata>\n<b:domain " NS
                " kind='guest' door='nbd' colour='red'/></metadata></domain>",
                "t.xml:2: unknown attribute 'colour' of our <domain kind='guest'>");
    must_refuse("<domain><metadata><b:domain " NS " kind='driver' class='blk'/>\n<b:domain " NS
                " kind='driver' class='blk'/></metadata></domain>",
                "t.xml:2: a second <domain> of the namespace urn:bulkhead:domain:1 (first in line 1): only "
                "one is allowed");
    must_refuse(GUEST("<b:nic dev='eth0'/>", DISK("", FILE_SOURCE, "")), "t.xml:4: unknown element <nic> in "
                                                                         "our <domain> of a guest");
    must_refuse("<domain><name>d</name><memory>65536</memory>" META("kind='driver' class='blk'",
                                                                    "<b:disk dev='vda'/>") "</domain>",
                "t.xml:1: unknown element <disk> in our <domain> of a driver");
    must_refuse(GUEST("<b:disk dev='vda' poolpages='64'/>", DISK("", FILE_SOURCE, "")),
                "t.xml:4: unknown attribute 'poolpages' of our <disk>");
    must_refuse(GUEST("<b:disk dev='vdb'/>", DISK("", FILE_SOURCE, "")),
                "t.xml:4: our <disk dev='vdb'> names no <disk> with <backenddomain> below <devices>");
    must_refuse(GUEST("<b:disk dev='vda'/><b:disk dev='vda'/>", DISK("", FILE_SOURCE, "")),
                "t.xml:4: our <disk dev='vda'> is there twice");
}

static void refuses_unknown_kinds(void **state)
{
    (void)state;
    must_refuse("<domain>" META("", "") "</domain>", "t.xml:1: our <domain> has no kind='driver' or "
                                                     "kind='guest'");
    must_refuse("<domain>" META("kind='host'", "") "</domain>", "t.xml:1: unknown kind 'host': it is "
                                                                "'driver' or 'guest'");
    must_refuse("<domain>" META("kind='driver' class='gpu'", "") "</domain>",
                "t.xml:1: unknown class 'gpu': a driver domain's class is 'blk' or 'net'");
    must_refuse("<domain>" META("kind='guest'", "") "</domain>", "t.xml:1: unknown door '': a guest's door "
                                                                 "is 'vhost-user', 'nbd', 'tap' or 'native'");
    must_refuse(GUEST("<b:disk dev='vda' grants='steal'/>", DISK("", FILE_SOURCE, "")),
                "t.xml:4: grants of vda must be 'persistent', 'copy' or 'map'");
}

static void refuses_bad_names_and_numbers(void **state)
{
    (void)state;
    must_refuse("<domain><memory>65536</memory>" DRIVER_META "</domain>", "t.xml:1: the domain has no "
                                                                          "<name>");
    must_refuse("<domain>\n<name>../x</name><memory>65536</memory>" DRIVER_META "</domain>",
                "t.xml:2: a <name> has 1 to 47 characters of A-Z a-z 0-9 . _ - and begins with a letter or "
                "digit");
    must_refuse(DRIVER("<name>again</name>"), "t.xml:5: a <domain> has only one <name>");
    must_refuse("<domain><name>d</name>" DRIVER_META "</domain>", "t.xml:1: the domain has no <memory>");
    must_refuse("<domain><name>d</name><memory unit='parsec'>9</memory>" DRIVER_META "</domain>",
                "t.xml:1: unknown unit 'parsec' of <memory>: write b, KB, KiB, MB, MiB, GB or GiB");
    must_refuse("<domain><name>d</name><memory unit='GiB'>99999999999999</memory>" DRIVER_META "</domain>",
                "t.xml:1: <memory> must be a whole number that fits in 64 bits");
    must_refuse("<domain><name>d</name><memory unit='GiB'>-1</memory>" DRIVER_META "</domain>",
                "t.xml:1: <memory> must be a whole number that fits in 64 bits");
    must_refuse("<domain><name>d</name>\n<memory unit='MB'>16</memory>" DRIVER_META "</domain>",
                "t.xml:2: <memory> is too small: a driver domain needs at least 16 MiB");
    must_refuse(DRIVER("<uuid>12</uuid>"), "t.xml:5: <uuid> must read xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
    must_refuse(DRIVER("<vcpu>0</vcpu>"), "t.xml:5: <vcpu> must be a number from 1 to 1024");
    must_refuse(DRIVER("<vcpu cpuset='3-1'>1</vcpu>"), "t.xml:5: cpuset must be a set of CPUs 0 to 63, such "
                                                       "as '0-3,^2,5'");
    must_refuse(DRIVER("<vcpu cpuset='64'>1</vcpu>"), "t.xml:5: cpuset must be a set of CPUs 0 to 63, such "
                                                      "as '0-3,^2,5'");
    must_refuse(DRIVER("<devices><hostdev mode='subsystem' type='pci'/></devices>"),
                "t.xml:5: a <hostdev> of a driver domain must have mode='capabilities' type='storage'");
}

static void refuses_bad_disks(void **state)
{
    (void)state;
    must_refuse(GUEST("", ""), "t.xml:5: the guest has no <disk> with <backenddomain>: there is nothing to "
                               "serve");
    must_refuse(GUEST("", DISK("", FILE_SOURCE, "") DISK("", FILE_SOURCE, "")),
                "t.xml:7: target dev 'vda' is used twice (first in line 6)");
    must_refuse(GUEST("", DISK("", "<source file='img'/>", "")), "t.xml:6: the path of vda is relative: "
                                                                 "'img' must begin with /");
    must_refuse(GUEST("", DISK("", "", "")), "t.xml:6: disk vda has no <source>");
    must_refuse(GUEST("", DISK("", "<source dev='/dev/sdb'/>", "")), "t.xml:6: <source> of vda has no "
                                                                     "file='...'");
    must_refuse(GUEST("", DISK("cache='unsafe'", FILE_SOURCE, "")), "t.xml:6: cache of vda must be 'none' or "
                                                                    "'writeback'");
    must_refuse(GUEST("", DISK("queues='9'", FILE_SOURCE, "")), "t.xml:6: queues of vda must be a number "
                                                                "from 1 to 8");
    must_refuse(GUEST("", DISK("queues='0'", FILE_SOURCE, "")), "t.xml:6: queues of vda must be a number "
                                                                "from 1 to 8");
    must_refuse(GUEST("", DISK("", FILE_SOURCE, "<readonly/><readonly/>")), "t.xml:6: a <disk> has only one "
                                                                            "<readonly>");
    must_refuse(GUEST("", "<disk type='file'><driver type='qcow2'/>" FILE_SOURCE
                          "<backenddomain name='d'/><target dev='vda'/></disk>"),
                "t.xml:6: driver type of vda must be 'raw': no other image format is served");
    must_refuse(GUEST("", "<disk type='network'><backenddomain name='d'/><target dev='vda'/></disk>"),
                "t.xml:6: disk type must be 'file' or 'block', not 'network'");
    must_refuse(GUEST("", "<disk type='file' device='cdrom'><backenddomain name='d'/><target "
                          "dev='vda'/></disk>"),
                "t.xml:6: a <disk> with <backenddomain> must have device='disk'");
    must_refuse(GUEST("", "<disk type='file'>" FILE_SOURCE "<backenddomain name='d'/><target "
                          "dev='sda'/></disk>"),
                "t.xml:6: target dev must be vda to vdp");
    must_refuse(GUEST("", "<disk type='file'>" FILE_SOURCE "<backenddomain/><target dev='vda'/></disk>"),
                "t.xml:6: <backenddomain name='...'/> must name a driver domain");
    must_refuse(GUEST("<b:disk dev='vda' pool-pages='63'/>", DISK("", FILE_SOURCE, "")),
                "t.xml:4: pool-pages of vda is too small: the minimum is 64");
    must_refuse(GUEST("<b:disk dev='vda' pool-pages='many'/>", DISK("", FILE_SOURCE, "")),
                "t.xml:4: pool-pages of vda must be a number from 64 to 65536");
    must_refuse(GUEST("<b:disk dev='vda' weight='1001'/>", DISK("", FILE_SOURCE, "")),
                "t.xml:4: weight of vda must be a number from 1 to 1000");
    must_refuse(GUEST("<b:disk dev='vda' ram='1048576'/>", DISK("", FILE_SOURCE, "")),
                "t.xml:4: vda has both ram and a <source>: keep one");
    must_refuse(GUEST("<b:disk dev='vda' ram='1000'/>", DISK("", "", "")),
                "t.xml:4: ram of vda must be a number of bytes, a multiple of 4096, from 1048576 to "
                "1099511627776");
}

static void units_are_libvirts(void **state)
{
    static const struct {
        const char *unit;
        uint64_t bytes;
    } known[] = {
        {"b", 3},           {"bytes", 3},        {"KB", 3000},      {"k", 3072},
        {"KiB", 3072},      {"MB", 3000000},     {"M", 3 << 20},    {"MiB", 3 << 20},
        {"GB", 3000000000}, {"GiB", 3ull << 30}, {"G", 3ull << 30}, {"TiB", 3ull << 40},
    };
    uint64_t v;

    (void)state;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        assert_int_equal(units_bytes("3", known[i].unit, &v), 0);
        assert_int_equal(v, known[i].bytes);
    }
    assert_int_not_equal(units_bytes("18446744073709551616", "b", &v), 0);
    assert_int_equal(units_bytes("18446744073709551615", "b", &v), 0);
    assert_int_not_equal(units_bytes("16", "EiB", &v), 0);
    assert_int_equal(units_bytes("15", "EiB", &v), 0);
    assert_int_not_equal(units_bytes("", "b", &v), 0);
    assert_int_not_equal(units_bytes("1", "iB", &v), 0);
}

static void text_is_made_safe(void **state)
{
    char text[] = "a\x1b[2Jb\xc3\xa4\xff\xe2\x82z\xc2\x9b\x7f\xed\xa0\x80.";

    (void)state;
    policy_clean_text(text);
    assert_string_equal(text, "a?[2Jb\xc3\xa4???z??????.");
    assert_true(policy_name_ok("a.b_c-D9"));
    assert_false(policy_name_ok(""));
    assert_false(policy_name_ok(".hidden"));
    assert_false(policy_name_ok("a/b"));
    assert_false(policy_name_ok("@core"));
    assert_false(policy_name_ok("123456789012345678901234567890123456789012345678"));
    assert_true(policy_name_ok("12345678901234567890123456789012345678901234567"));
}

static void examples_pass_both(void **state)
{
    DIR *dir = opendir("deploy/examples");
    struct dirent *e;
    unsigned n = 0;

    (void)state;
    assert_non_null(dir);
    while ((e = readdir(dir))) {
        static char xml[65536];
        char path[512];
        size_t len;
        FILE *f;

        if (!strstr(e->d_name, ".xml"))
            continue;
        snprintf(path, sizeof(path), "deploy/examples/%s", e->d_name);
        f = fopen(path, "re");
        assert_non_null(f);
        len = fread(xml, 1, sizeof(xml) - 1, f);
        xml[len] = '\0';
        fclose(f);
        must_accept(xml);
        assert_int_equal(notes.n, 0);
        n++;
    }
    closedir(dir);
    assert_true(n >= 10);
}

/* The schema is a net of its own: it refuses without our checks. */
static void schema_stands_alone(void **state)
{
    static const char *const bad[] = {
        "<domain><name>d</name><memory>1</memory></domain>",
        "<domain><name>d</name><memory>1</memory>" META("kind='driver' class='gpu'", "") "</domain>",
        "<domain><name>d</name><memory>1</memory>" META("kind='guest' door='nbd' x='1'", "") "</domain>",
        "<domain><name>d</name><memory>1</memory>" DRIVER_META "<b:x " NS "/></domain>",
        "<domain><name>d</name><memory>lots</memory>" DRIVER_META "</domain>",
        "<domain><memory>1</memory>" DRIVER_META "</domain>",
        RECOVERY("heartbeat='99'"),
        RECOVERY("spare='warm'"),
        RECOVERY_OF("blk", "<b:recovery/><b:recovery/>"),
        GUEST("<b:recovery/>", DISK("", FILE_SOURCE, "")),
        HINT("max-deaths='0'"),
        HINT("timeout='0'"),
        HINT("timeout='1.0005'"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_not_equal(policy_schema_check(bad[i], strlen(bad[i]), "t.xml", err), 0);
        if (strncmp(err, "t.xml:", 6) != 0 || !strstr(err, ": does not match the schema: "))
            fail_msg("%s", err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_driver_domain),
        cmocka_unit_test(reads_how_a_driver_domain_recovers),
        cmocka_unit_test(refuses_bad_recovery),
        cmocka_unit_test(reads_how_a_disk_recovers),
        cmocka_unit_test(refuses_bad_deaths_and_timeouts),
        cmocka_unit_test(reads_disks),
        cmocka_unit_test(tells_what_it_does_not_use),
        cmocka_unit_test(refuses_what_is_no_domain),
        cmocka_unit_test(refuses_long_documents),
        cmocka_unit_test(refuses_unknown_things_in_our_namespace),
        cmocka_unit_test(refuses_unknown_kinds),
        cmocka_unit_test(refuses_bad_names_and_numbers),
        cmocka_unit_test(refuses_bad_disks),
        cmocka_unit_test(units_are_libvirts),
        cmocka_unit_test(text_is_made_safe),
        cmocka_unit_test(examples_pass_both),
        cmocka_unit_test(schema_stands_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
