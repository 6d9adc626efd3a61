/* SPDX-License-Identifier: MIT */
/*
 * nic.c - <interface> of a guest, and what our metadata adds to it.  Words and
 * units are libvirt's (formatdomain.html, formatnetwork.html): average and peak
 * are kilobytes of 1000 a second, burst is in KiB; several tags, or a native one,
 * make a trunk.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reader.h"

static const char *const children[] = {"mac",   "backenddomain", "mtu",    "vlan", "bandwidth", "port",
                                       "guest", "target",        "driver", "link", NULL};

/* The name inside the guest: <guest dev=> (as libvirt-lxc), else <target dev=>. */
static int read_name(struct reader *r, xmlNode *node, struct domain_spec *spec, struct policy_nic *nic)
{
    xmlNode *named = reader_child(node, "guest", 0);
    int rc = named ? reader_attr(named, "dev", nic->dev, sizeof(nic->dev)) : -ENOENT;

    if (rc == -ENOENT) {
        named = reader_child(node, "target", 0);
        rc = named ? reader_attr(named, "dev", nic->dev, sizeof(nic->dev)) : -ENOENT;
    }
    if (rc == -ENOENT) {
        named = node;
        snprintf(nic->dev, sizeof(nic->dev), "eth%u", nic->devid);
    } else if (rc || !policy_ifname_ok(nic->dev)) {
        return reader_refuse(
            r, reader_line(named),
            "the name of a NIC has 1 to %d characters of A-Z a-z 0-9 . _ - and begins with a "
            "letter or digit",
            POLICY_IFNAME_MAX - 1);
    }
    for (unsigned i = 0; i < spec->nnics; i++)
        if (!strcmp(spec->nics[i].dev, nic->dev))
            return reader_refuse(r, reader_line(named), "NIC name '%s' is used twice (first in line %u)",
                                 nic->dev, spec->nics[i].line);
    return 0;
}

static bool mac_text(const char *text, uint8_t mac[6])
{
    if (strlen(text) != 17)
        return false;
    for (unsigned i = 0; i < 17; i++)
        if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i]))
            return false;
    for (unsigned i = 0; i < 6; i++)
        mac[i] = (uint8_t)strtoul(text + 3 * i, NULL, 16);
    return true;
}

int nic_read_mac(struct reader *r, xmlNode *node, struct domain_spec *spec, struct policy_nic *nic)
{
    static const uint8_t none[6];
    xmlNode *mac = reader_child(node, "mac", 0);
    char text[32];

    if (!mac)
        return 0;
    if (reader_attr(mac, "address", text, sizeof(text)) || !mac_text(text, nic->mac))
        return reader_refuse(r, reader_line(mac), "<mac address='...'> of %s must read xx:xx:xx:xx:xx:xx",
                             nic->dev);
    if (nic->mac[0] & 1)
        return reader_refuse(r, reader_line(mac), "the MAC address %s of %s is a multicast address", text,
                             nic->dev);
    if (!memcmp(nic->mac, none, sizeof(none)))
        return reader_refuse(r, reader_line(mac), "the MAC address of %s is all zero", nic->dev);
    for (unsigned i = 0; i < spec->nnics; i++)
        if (&spec->nics[i] != nic && !memcmp(spec->nics[i].mac, nic->mac, sizeof(nic->mac)))
            return reader_refuse(r, reader_line(mac), "MAC address %s is used twice (first in line %u)", text,
                                 spec->nics[i].line);
    return 0;
}

int nic_read_mtu(struct reader *r, xmlNode *node, struct policy_nic *nic)
{
    xmlNode *mtu = reader_child(node, "mtu", 0);
    uint64_t size;

    if (!mtu)
        return 0;
    if (reader_attr_number(mtu, "size", POLICY_MTU_MAX, &size) || size < POLICY_MTU_MIN)
        return reader_refuse(r, reader_line(mtu), "<mtu size='...'> of %s must be a number from %u to %u",
                             nic->dev, POLICY_MTU_MIN, POLICY_MTU_MAX);
    nic->mtu = (unsigned)size;
    return 0;
}

/* ------------------------------------------------------------------- <vlan> */

static int read_tag(struct reader *r, xmlNode *tag, struct policy_nic *nic)
{
    static const char *const used[] = {"id", "nativeMode", NULL};
    char mode[16];
    uint64_t id;
    int rc = reader_attr_number(tag, "id", POLICY_VLAN_MAX, &id);

    if (rc || id == 0)
        return reader_refuse(r, reader_line(tag), "<tag id='...'> of %s must be a number from 1 to %u",
                             nic->dev, POLICY_VLAN_MAX);
    if (nic->vlans[id / 64] & 1ull << id % 64)
        return reader_refuse(r, reader_line(tag), "VLAN %u of %s is there twice", (unsigned)id, nic->dev);
    nic->vlans[id / 64] |= 1ull << id % 64;
    reader_note_attrs(r, tag, used);
    if (reader_attr(tag, "nativeMode", mode, sizeof(mode)) == -ENOENT)
        return 0;
    if (!strcmp(mode, "tagged"))
        return reader_refuse(r, reader_line(tag),
                             "nativeMode='tagged' of %s is not supported: leave nativeMode out and let the "
                             "guest tag, or write 'untagged'",
                             nic->dev);
    if (strcmp(mode, "untagged") != 0)
        return reader_refuse(r, reader_line(tag), "nativeMode of %s must be 'untagged', not '%s'", nic->dev,
                             mode);
    if (nic->pvid)
        return reader_refuse(r, reader_line(tag), "%s has two native VLANs, %u and %u: keep one", nic->dev,
                             nic->pvid, (unsigned)id);
    nic->pvid = (unsigned)id;
    return 0;
}

static int read_vlan(struct reader *r, xmlNode *node, struct policy_nic *nic)
{
    static const char *const used[] = {"trunk", NULL}, *const inside[] = {"tag", NULL};
    xmlNode *vlan = reader_child(node, "vlan", 0), *tag;
    unsigned tags = 0;
    char trunk[8];
    bool said;
    int rc;

    if (!vlan)
        return 0;
    said = reader_attr(vlan, "trunk", trunk, sizeof(trunk)) != -ENOENT;
    if (said && strcmp(trunk, "yes") != 0 && strcmp(trunk, "no") != 0)
        return reader_refuse(r, reader_line(vlan), "trunk of %s must be 'yes' or 'no'", nic->dev);
    reader_note_attrs(r, vlan, used);
    reader_note_children(r, vlan, inside);
    while ((tag = reader_child(vlan, "tag", tags))) {
        if (++tags > POLICY_VLANS_MAX)
            return reader_refuse(r, reader_line(tag), "%s has more than %d VLANs", nic->dev,
                                 POLICY_VLANS_MAX);
        rc = read_tag(r, tag, nic);
        if (rc)
            return rc;
    }
    if (!tags)
        return reader_refuse(r, reader_line(vlan), "<vlan> of %s has no <tag id='...'/>", nic->dev);
    nic->trunk = tags > 1 || nic->pvid || (said && *trunk == 'y');
    if (nic->trunk && said && *trunk == 'n')
        return reader_refuse(r, reader_line(vlan),
                             "%s has trunk='no', but %s: write trunk='yes', or keep one plain <tag>",
                             nic->dev, tags > 1 ? "several tags" : "a nativeMode");
    if (nic->trunk)
        return 0;
    for (unsigned id = 1; id <= POLICY_VLAN_MAX; id++)
        if (nic->vlans[id / 64] & 1ull << id % 64)
            nic->pvid = id;
    memset(nic->vlans, 0, sizeof(nic->vlans));
    return 0;
}

/* -------------------------------------------------------------- <bandwidth> */

static int read_rate_number(struct reader *r, xmlNode *node, const char *name, const struct policy_nic *nic,
                            uint64_t scale, uint64_t *out)
{
    int rc = reader_attr_number(node, name, POLICY_RATE_MAX, out);

    if (rc == -ENOENT) {
        *out = 0;
        return 0;
    }
    if (rc || *out == 0)
        return reader_refuse(r, reader_line(node), "%s of %s must be a number from 1 to %u", name, nic->dev,
                             POLICY_RATE_MAX);
    *out *= scale;
    return 0;
}

static int read_rate(struct reader *r, xmlNode *node, const struct policy_nic *nic, struct policy_rate *rate)
{
    static const char *const used[] = {"average", "peak", "burst", "floor", NULL};
    const char *word = (const char *)node->name;
    uint64_t floor;
    int rc = read_rate_number(r, node, "average", nic, 1000, &rate->average);

    if (!rc)
        rc = read_rate_number(r, node, "peak", nic, 1000, &rate->peak);
    if (!rc)
        rc = read_rate_number(r, node, "burst", nic, 1024, &rate->burst);
    if (!rc)
        rc = read_rate_number(r, node, "floor", nic, 1000, &floor);
    if (rc)
        return rc;
    if (floor && *word == 'o')
        return reader_refuse(r, reader_line(node), "<outbound> of %s has a floor: only <inbound> may",
                             nic->dev);
    if (floor)
        reader_note(r, reader_line(node), "floor of <inbound> is not used");
    if (!rate->average && (rate->peak || rate->burst || !floor))
        return reader_refuse(r, reader_line(node), "<%s> of %s has no average='...'", word, nic->dev);
    if (rate->peak && rate->peak < rate->average)
        return reader_refuse(r, reader_line(node), "peak of <%s> of %s is below its average", word, nic->dev);
    reader_note_attrs(r, node, used);
    return 0;
}

static int read_bandwidth(struct reader *r, xmlNode *node, struct policy_nic *nic)
{
    static const char *const inside[] = {"inbound", "outbound", NULL};
    xmlNode *bandwidth = reader_child(node, "bandwidth", 0), *in, *out;
    int rc;

    if (!bandwidth)
        return 0;
    rc = reader_once(r, bandwidth, inside);
    if (rc)
        return rc;
    reader_note_children(r, bandwidth, inside);
    in = reader_child(bandwidth, "inbound", 0);
    out = reader_child(bandwidth, "outbound", 0);
    if (in)
        rc = read_rate(r, in, nic, &nic->inbound);
    if (!rc && out)
        rc = read_rate(r, out, nic, &nic->outbound);
    return rc;
}

/* ------------------------------------------------------- <port> <driver> <link> */

static int read_port(struct reader *r, xmlNode *node, struct policy_nic *nic)
{
    static const char *const used[] = {"isolated", NULL};
    xmlNode *port = reader_child(node, "port", 0);
    char text[8];

    if (!port)
        return 0;
    reader_note_attrs(r, port, used);
    if (reader_attr(port, "isolated", text, sizeof(text)) == -ENOENT)
        return 0;
    if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0)
        return reader_refuse(r, reader_line(port), "isolated of %s must be 'yes' or 'no'", nic->dev);
    nic->isolated = *text == 'y';
    return 0;
}

static int read_driver(struct reader *r, xmlNode *node, struct policy_nic *nic)
{
    static const char *const used[] = {"queues", NULL};
    xmlNode *driver = reader_child(node, "driver", 0);

    if (!driver)
        return 0;
    reader_note_attrs(r, driver, used);
    return reader_queues(r, driver, nic->dev, &nic->queues);
}

static int read_link(struct reader *r, xmlNode *node, struct policy_nic *nic)
{
    xmlNode *link = reader_child(node, "link", 0);
    char state[8];

    if (!link)
        return 0;
    if (reader_attr(link, "state", state, sizeof(state)) ||
        (strcmp(state, "up") != 0 && strcmp(state, "down") != 0))
        return reader_refuse(r, reader_line(link), "<link state='...'/> of %s must be 'up' or 'down'",
                             nic->dev);
    if (*state == 'd')
        reader_note(r, reader_line(link), "<link state='down'/> is not used: %s will be up", nic->dev);
    return 0;
}

static int check_type(struct reader *r, xmlNode *node)
{
    char type[16];

    reader_attr(node, "type", type, sizeof(type));
    if (!strcmp(type, "bridge") || !strcmp(type, "network"))
        reader_note(r, reader_line(node), "type='%s' is taken as 'ethernet': the driver domain is the switch",
                    type);
    else if (strcmp(type, "ethernet") != 0)
        return reader_refuse(r, reader_line(node),
                             "interface type must be 'ethernet', 'bridge' or 'network', not '%s'", type);
    return 0;
}

int nic_read_network(struct reader *r, xmlNode *node, struct domain_spec *spec, struct policy_nic *nic)
{
    int rc = nic_read_mac(r, node, spec, nic);

    if (!rc)
        rc = nic_read_mtu(r, node, nic);
    if (!rc)
        rc = read_vlan(r, node, nic);
    if (!rc)
        rc = read_bandwidth(r, node, nic);
    if (!rc)
        rc = read_port(r, node, nic);
    return rc;
}

int nic_read(struct reader *r, xmlNode *node, struct domain_spec *spec)
{
    xmlNode *backend = reader_child(node, "backenddomain", 0);
    struct policy_nic *nic;
    int rc;

    if (!backend) {
        reader_note(r, reader_line(node), "an <interface> without <backenddomain> is not served by bulkhead");
        return 0;
    }
    if (spec->door == POLICY_DOOR_NBD)
        return reader_refuse(r, reader_line(node),
                             "a guest with door='nbd' has no NICs: use door='native', or a guest of its own "
                             "with door='tap'");
    if (spec->nnics == POLICY_NICS_MAX)
        return reader_refuse(r, reader_line(node), "more than %d NICs", POLICY_NICS_MAX);
    nic = &spec->nics[spec->nnics];
    *nic = (struct policy_nic){
        .devid = spec->nnics, .weight = POLICY_WEIGHT_DEFAULT, .line = (unsigned)reader_line(node)};
    rc = reader_once(r, node, children);
    if (!rc)
        rc = check_type(r, node);
    if (rc)
        return rc;
    rc = reader_attr(backend, "name", nic->backend, sizeof(nic->backend));
    if (rc || !policy_name_ok(nic->backend))
        return reader_refuse(r, reader_line(backend),
                             "<backenddomain name='...'/> must name a driver domain");
    rc = read_name(r, node, spec, nic);
    if (!rc)
        rc = nic_read_network(r, node, spec, nic);
    if (!rc)
        rc = read_driver(r, node, nic);
    if (!rc)
        rc = read_link(r, node, nic);
    if (rc)
        return rc;
    reader_note_children(r, node, children);
    spec->nnics++;
    return 0;
}

/* Three bytes from a text: FNV-1a, then mixed so that neighbours differ throughout. */
static uint32_t three_bytes(const char *text, unsigned salt)
{
    uint64_t h = 14695981039346656037ull;

    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211ull;
    h = (h ^ (salt + 1)) * 1099511628211ull;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdull;
    h ^= h >> 33;
    return (uint32_t)(h & 0xffffff);
}

static bool mac_taken(const struct domain_spec *spec, unsigned i)
{
    for (unsigned k = 0; k < spec->nnics; k++)
        if (k != i && !memcmp(spec->nics[k].mac, spec->nics[i].mac, sizeof(spec->nics[i].mac)))
            return true;
    return false;
}

void nic_make_addresses(struct domain_spec *spec)
{
    static const uint8_t none[6];

    for (unsigned i = 0; i < spec->nnics; i++) {
        uint8_t *mac = spec->nics[i].mac;
        unsigned salt = spec->nics[i].devid;

        if (memcmp(mac, none, sizeof(none)) != 0)
            continue;
        do {
            uint32_t low = three_bytes(*spec->uuid ? spec->uuid : spec->name, salt);

            mac[0] = 0x52, mac[1] = 0x54, mac[2] = 0x00; /* QEMU's and libvirt's: locally administered */
            mac[3] = (uint8_t)(low >> 16), mac[4] = (uint8_t)(low >> 8), mac[5] = (uint8_t)low;
            salt += POLICY_NICS_MAX;
        } while (mac_taken(spec, i));
    }
}

/* -------------------------------------------- <bulkhead:interface dev='eth0' .../> */

static int hint_tx(struct reader *r, xmlNode *hint, struct policy_nic *nic)
{
    char text[16];

    if (reader_attr(hint, "tx", text, sizeof(text)) == -ENOENT)
        return 0;
    for (enum policy_tx tx = POLICY_TX_DROP; tx <= POLICY_TX_RESEND; tx++) {
        if (!strcmp(text, policy_tx_name(tx))) {
            nic->tx = tx;
            return 0;
        }
    }
    return reader_refuse(r, reader_line(hint), "tx of %s must be 'drop' or 'resend'", nic->dev);
}

int nic_read_hint(struct reader *r, xmlNode *hint, struct policy_nic *nic)
{
    static const char *const known[] = {"dev", "pool-pages", "grants", "weight", "tx", NULL};
    int rc = hint_only(r, hint, known);

    return rc ? rc : nic_read_hint_values(r, hint, nic);
}

int nic_read_hint_values(struct reader *r, xmlNode *hint, struct policy_nic *nic)
{
    int rc = hint_number(r, hint, "pool-pages", nic->dev, POLICY_POOL_PAGES_MIN, POLICY_POOL_PAGES_MAX,
                         &nic->pool_pages);

    if (!rc)
        rc = hint_number(r, hint, "weight", nic->dev, 1, POLICY_WEIGHT_MAX, &nic->weight);
    if (!rc)
        rc = hint_grants(r, hint, nic->dev, POLICY_GRANTS_COPY, &nic->grants);
    if (!rc)
        rc = hint_tx(r, hint, nic);
    return rc;
}
