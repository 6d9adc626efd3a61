/* SPDX-License-Identifier: MIT */
/* convert_nic.c - an ordinary <interface> becomes a vhost-user one. */
#include <stdio.h>
#include <string.h>

#include "convert_tree.h"

/* ------------------------------------------------------- what may be in the way */

static bool check_type(struct convert *c, const xmlNode *nic, const char *dev)
{
    static const char *const good[] = {"bridge", "network", "direct", "user", "ethernet"};
    static const struct {
        const char *type, *why;
    } bad[] = {
        {"hostdev", "it is a device of the machine that the guest drives itself"},
        {"vdpa", "it is a device of the machine that the guest drives itself"},
        {"mcast", "it is a tunnel between programs of QEMU"},
        {"server", "it is a tunnel between programs of QEMU"},
        {"client", "it is a tunnel between programs of QEMU"},
        {"udp", "it is a tunnel between programs of QEMU"},
    };
    const char *type = tree_attr(nic, "type");

    for (size_t i = 0; type && i < sizeof(good) / sizeof(good[0]); i++)
        if (!strcmp(type, good[i]))
            return true;
    for (size_t i = 0; type && i < sizeof(bad) / sizeof(bad[0]); i++)
        if (!strcmp(type, bad[i].type))
            return tree_stays(c, nic, dev, "type='%s': %s", type, bad[i].why);
    return tree_stays(c, nic, dev, "nothing is known of type='%.20s'", type ? type : "");
}

static bool check_mac(struct convert *c, const xmlNode *nic, const char *dev)
{
    const xmlNode *mac = tree_child(nic, "mac");
    const char *text = tree_attr(mac, "address");
    bool good = text && strlen(text) == 17 && strspn(text, "0123456789abcdefABCDEF:") == 17 &&
                !strchr("13579bdfBDF", text[1]) && strcmp(text, "00:00:00:00:00:00") != 0;

    for (unsigned i = 2; good && i < 17; i += 3)
        good = text[i] == ':' && text[i - 1] != ':' && text[i - 2] != ':';
    return !mac || good || tree_stays(c, mac, dev, "its address is none that a NIC can have");
}

static bool check_vlan(struct convert *c, const xmlNode *nic, const char *dev)
{
    const xmlNode *vlan = tree_child(nic, "vlan");
    unsigned tags = 0;
    uint64_t id;

    for (const xmlNode *tag = tree_child(vlan, "tag"); tag; tag = tree_next(tag, "tag")) {
        const char *text = tree_attr(tag, "id");

        if (!text || !tree_number(text, 1, POLICY_VLAN_MAX, &id) || ++tags > POLICY_VLANS_MAX)
            return tree_stays(c, tag, dev, "a driver domain knows VLANs 1 to %u, %d at most", POLICY_VLAN_MAX,
                              POLICY_VLANS_MAX);
        if (tree_attr_is(tag, "nativeMode", "tagged"))
            return tree_stays(c, tag, dev, "a driver domain does not tag a native VLAN: nativeMode='tagged'");
    }
    return true;
}

static bool check_bandwidth(struct convert *c, const xmlNode *nic, const char *dev)
{
    static const char *const ways[] = {"inbound", "outbound"}, *const names[] = {"average", "peak", "burst"};
    const xmlNode *bandwidth = tree_child(nic, "bandwidth");
    uint64_t v, average, peak;

    for (size_t i = 0; bandwidth && i < 2; i++) {
        const xmlNode *way = tree_child(bandwidth, ways[i]);

        for (size_t k = 0; way && k < 3; k++) {
            const char *text = tree_attr(way, names[k]);

            if (text && !tree_number(text, 1, POLICY_RATE_MAX, &v))
                return tree_stays(c, way, dev, "%s of <%s> must be a number from 1 to %u for a driver domain",
                                  names[k], ways[i], POLICY_RATE_MAX);
        }
        if (way && !tree_attr(way, "average") && (tree_attr(way, "peak") || tree_attr(way, "burst")))
            return tree_stays(c, way, dev, "<%s> has no average", ways[i]);
        if (way && tree_attr(way, "peak") && tree_number(tree_attr(way, "peak"), 1, POLICY_RATE_MAX, &peak) &&
            tree_number(tree_attr(way, "average"), 1, POLICY_RATE_MAX, &average) && peak < average)
            return tree_stays(c, way, dev, "peak of <%s> is below its average", ways[i]);
    }
    return true;
}

/* What a guest's safety or its other devices rest on is never just dropped. */
static bool check_needs(struct convert *c, const xmlNode *nic, const char *dev)
{
    const xmlNode *filter = tree_child(nic, "filterref"), *port = tree_child(nic, "virtualport");
    const xmlNode *mtu = tree_child(nic, "mtu");
    const char *kind = tree_attr(port, "type");
    uint64_t v;

    if (filter)
        return tree_stays(c, filter, dev,
                          "its network filter '%.40s' would no longer apply: take <filterref> out if it is "
                          "enough that frames with another source than its <mac> are dropped",
                          tree_attr(filter, "filter") ? tree_attr(filter, "filter") : "");
    if (port && kind && strcmp(kind, "openvswitch") != 0)
        return tree_stays(c, port, dev, "its switch needs <virtualport type='%.20s'>", kind);
    if (tree_child(nic, "teaming"))
        return tree_stays(c, tree_child(nic, "teaming"), dev, "it is teamed with another device");
    if (mtu &&
        (!tree_attr(mtu, "size") || !tree_number(tree_attr(mtu, "size"), POLICY_MTU_MIN, POLICY_MTU_MAX, &v)))
        return tree_stays(c, mtu, dev, "its MTU must be %u to %u on a driver domain", POLICY_MTU_MIN,
                          POLICY_MTU_MAX);
    if (tree_attr_is(tree_child(nic, "driver"), "iommu", "on"))
        return tree_stays(c, nic, dev, "iommu='on' is not supported by vhost-user devices of bulkhead");
    return true;
}

/* ------------------------------------------------------------------ changes */

static void tell_network(struct convert *c, const xmlNode *nic, const char *dev, const char *driver)
{
    const xmlNode *source = tree_child(nic, "source");
    const char *type = tree_attr(nic, "type"), *name;

    if (!strcmp(type, "network")) {
        name = tree_attr(source, "network");
        tree_note(
            c, nic, dev,
            "leaves the libvirt network '%.40s' with its DHCP, DNS, NAT and rules%s: driver domain %s is its "
            "switch now, whose uplink must lead there",
            name ? name : "", tree_attr(source, "portgroup") ? ", and what its portgroup says" : "", driver);
    } else if (!strcmp(type, "bridge")) {
        name = tree_attr(source, "bridge");
        tree_note(c, nic, dev,
                  "leaves the bridge '%.20s': driver domain %s is its switch now, whose uplink must lead "
                  "there",
                  name ? name : "", driver);
    } else if (!strcmp(type, "direct")) {
        name = tree_attr(source, "dev");
        tree_note(c, nic, dev,
                  "leaves macvtap on '%.20s': driver domain %s is its switch now, whose uplink must be that "
                  "interface or lead to its network",
                  name ? name : "", driver);
    } else if (!strcmp(type, "user")) {
        tree_note(c, nic, dev,
                  "leaves QEMU's own network with its DHCP, DNS and NAT: driver domain %s is its switch now, "
                  "whose uplink must lead to a network that has them",
                  driver);
    } else {
        tree_note(c, nic, dev, "leaves its TAP device: driver domain %s is its switch now", driver);
    }
}

static void drop_elements(struct convert *c, xmlNode *nic, const char *dev)
{
    static const struct {
        const char *name, *why;
    } dropped[] = {
        {"virtualport", "there is no port of another switch"},
        {"script", "there is no TAP device of the machine"},
        {"downscript", "there is no TAP device of the machine"},
        {"tune", "there is no TAP device of the machine"},
        {"coalesce", "there is no TAP device of the machine"},
        {"ip", "a guest has its addresses from its network"},
        {"route", "a guest has its routes from its network"},
        {"backend", "QEMU moves no packets for it any more"},
        {"portForward", "there is no NAT"},
        {"guest", "what the guest calls its NIC is up to the guest"},
    };

    for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++) {
        xmlNode *found = tree_child(nic, dropped[i].name), *next;

        if (found)
            tree_note(c, found, dev, "<%s> is dropped: %s", dropped[i].name, dropped[i].why);
        for (; found; found = next) {
            next = tree_next(found, dropped[i].name);
            tree_remove(found);
        }
    }
    if (tree_unset(nic, "trustGuestRxFilters"))
        tree_note(c, nic, dev, "trustGuestRxFilters is dropped: the guest's <mac> is its only address");
}

static void change_model(struct convert *c, xmlNode *nic, const char *dev)
{
    xmlNode *model = tree_ensure(c, nic, "model"), *address = tree_child(nic, "address");
    const char *type = tree_attr(model, "type");

    if (tree_attr_is(address, "type", "usb"))
        tree_remove(address);
    if (type && (!strcmp(type, "virtio") || !strcmp(type, "virtio-transitional") ||
                 !strcmp(type, "virtio-non-transitional")))
        return;
    tree_note(c, nic, dev,
              "was %s%.20s, is a virtio NIC now: the guest needs a virtio-net driver, and may call it "
              "another name",
              type ? "model " : "libvirt's default model", type ? type : "");
    tree_set(c, model, "type", "virtio");
}

/* Three bytes from what is the guest's own, so that the address is the same each time. */
static void make_mac(const struct convert *c, const char *dev, char text[18])
{
    const char *parts[] = {*c->uuid ? c->uuid : c->guest, dev};
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < 2; i++)
        for (const char *p = parts[i]; *p; p++)
            h = (h ^ (unsigned char)*p) * 16777619u;
    h ^= h >> 15;
    snprintf(text, 18, "52:54:00:%02x:%02x:%02x", h >> 16 & 0xffu, h >> 8 & 0xffu, h & 0xffu);
}

static void change_target(struct convert *c, xmlNode *nic, const char *dev)
{
    xmlNode *target = tree_child(nic, "target");
    const char *name = tree_attr(target, "dev");

    if (name && strncmp(name, "vnet", 4) != 0 && strncmp(name, "macvtap", 7) != 0 && strcmp(name, dev) != 0)
        tree_note(c, target, dev, "the machine's interface '%.20s' goes away", name);
    if (target)
        tree_empty(target);
    else
        target = tree_add_after(c, tree_child(nic, "backenddomain"), "target");
    tree_set(c, target, "dev", dev);
}

/* eth0, eth1, ...: the first that is free. */
static bool choose_name(const struct convert *c, char dev[POLICY_IFNAME_MAX])
{
    for (unsigned i = 0; c->nnics < POLICY_NICS_MAX && i <= POLICY_NICS_MAX; i++) {
        bool taken = false;

        snprintf(dev, POLICY_IFNAME_MAX, "eth%u", i);
        for (unsigned k = 0; k < c->nnics; k++)
            taken = taken || !strcmp(c->nics[k], dev);
        if (!taken)
            return true;
    }
    return false;
}

static void fill_metadata(struct convert *c, xmlNode *nic, const char *dev, const char *driver,
                          unsigned queues)
{
    static const char *const moved[] = {"vlan", "bandwidth", "port"};
    xmlNode *ours = convert_metadata(c, "interface", dev, driver), *node;
    const xmlNode *mtu = tree_child(nic, "mtu");
    char text[18];

    if (!ours)
        return;
    if (queues) {
        snprintf(text, sizeof(text), "%u", queues);
        tree_set(c, ours, "queues", text);
    }
    if (!tree_child(nic, "mac")) {
        make_mac(c, dev, text);
        tree_note(c, nic, dev, "had no <mac>, and gets %s", text);
        tree_set(c, tree_add(c, nic, "mac"), "address", text);
    }
    tree_set(c, tree_add(c, ours, "mac"), "address", tree_attr(tree_child(nic, "mac"), "address"));
    if (mtu)
        tree_set(c, tree_add(c, ours, "mtu"), "size", tree_attr(mtu, "size"));
    for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
        node = tree_child(nic, moved[i]);
        if (node && (i == 2 || node->children))
            tree_move(c, node, ours);
        else if (node)
            tree_remove(node);
    }
    node = tree_child(tree_child(ours, "bandwidth"), "inbound");
    if (tree_unset(node, "floor")) {
        tree_note(c, nic, dev, "floor of <inbound> is dropped: a driver domain guarantees nobody a rate");
        if (!tree_attr(node, "average"))
            tree_remove(node);
    }
}

bool convert_nic(struct convert *c, xmlNode *nic)
{
    const xmlNode *mac = tree_child(nic, "mac");
    char dev[POLICY_IFNAME_MAX], driver[POLICY_NAME_MAX], label[20];
    const char *name;
    unsigned queues;

    snprintf(label, sizeof(label), "%.17s",
             tree_attr(mac, "address") ? tree_attr(mac, "address") : "interface");
    if (!check_type(c, nic, label) || !check_mac(c, nic, label) || !check_vlan(c, nic, label) ||
        !check_bandwidth(c, nic, label) || !check_needs(c, nic, label))
        return false;
    name = convert_driver(nic, c->net_driver);
    if (!name)
        return tree_stays(c, nic, label, "its <backenddomain> does not name a driver domain");
    if (!choose_name(c, dev))
        return tree_stays(c, nic, label, "a guest has at most %d NICs on driver domains", POLICY_NICS_MAX);
    snprintf(driver, sizeof(driver), "%s", name);

    tell_network(c, nic, dev, driver);
    drop_elements(c, nic, dev);
    change_model(c, nic, dev);
    queues = convert_queues(c, nic, dev);
    fill_metadata(c, nic, dev, driver, queues);
    while (nic->properties)
        xmlRemoveProp(nic->properties);
    tree_set(c, nic, "type", "vhostuser");
    convert_source(c, nic, dev, true, driver);
    change_target(c, nic, dev);
    snprintf(c->nics[c->nnics++], POLICY_IFNAME_MAX, "%s", dev);
    c->notes->converted++;
    return true;
}
