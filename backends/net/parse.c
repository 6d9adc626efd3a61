/* SPDX-License-Identifier: MIT */
/* parse.c - is this packet right?  Reads private copies only. */
#include "offload.h"
#include "queue.h"

/* Reads extras from slot[*at] on.  NULL or the counter; *at is past what was read. */
static uint64_t *parse_extras(struct net_counters *count, const netif_tx_request_t *slot, unsigned n,
                              unsigned *at, struct net_tx_packet *p)
{
    uint64_t *bad = NULL;
    uint32_t seen = 0;
    struct netif_extra_info x;

    do {
        if (*at == n) {
            p->incomplete = true;
            return &count->bad_extra;
        }
        memcpy(&x, &slot[(*at)++], sizeof(x));
        p->extras++;
        /* Multicast control is not offered; a hash is of no use here. */
        bool known = x.type == XEN_NETIF_EXTRA_TYPE_GSO || x.type == XEN_NETIF_EXTRA_TYPE_HASH;
        if (!known || (seen & 1u << x.type))
            bad = &count->bad_extra;
        if (known)
            seen |= 1u << x.type;
        if (x.type == XEN_NETIF_EXTRA_TYPE_GSO && !bad) {
            p->gso_type = x.u.gso.type;
            p->gso_size = x.u.gso.size;
            if (p->gso_size == 0 ||
                (p->gso_type != XEN_NETIF_GSO_TYPE_TCPV4 && p->gso_type != XEN_NETIF_GSO_TYPE_TCPV6))
                bad = &count->bad_gso;
        }
    } while (x.flags & XEN_NETIF_EXTRA_FLAG_MORE);
    return bad;
}

static bool in_page(uint32_t offset, uint32_t bytes)
{
    return offset <= HYP_PAGE_SIZE && bytes <= HYP_PAGE_SIZE - offset;
}

uint64_t *net_parse_slots(struct net_counters *count, const netif_tx_request_t *slot, unsigned n,
                          struct net_tx_packet *p)
{
    const netif_tx_request_t *first = &slot[0];
    uint64_t *bad = NULL;
    uint32_t others = 0;
    unsigned at = 1;

    *p = (struct net_tx_packet){ .slots = 1, .bytes = first->size,
                                 .csum_blank = first->flags & NETTXF_csum_blank };
    if (first->flags & NETTXF_extra_info)
        bad = parse_extras(count, slot, n, &at, p);
    for (bool more = first->flags & NETTXF_more_data; more && !p->incomplete; p->slots++) {
        if (at == n) {
            p->incomplete = true;
            bad = bad ? bad : &count->bad_slots;
            break;
        }
        const netif_tx_request_t *s = &slot[at++];
        more = s->flags & NETTXF_more_data;
        others += s->size;
        if (!in_page(s->offset, s->size) && !bad)
            bad = &count->bad_slots;
    }
    if (bad)
        return bad;
    if (p->slots > NET_SLOTS_MAX || others > p->bytes || !in_page(first->offset, p->bytes - others))
        return &count->bad_slots;
    p->first_bytes = p->bytes - others;
    return p->bytes < NET_HEADER_BYTES ? &count->too_short : NULL;
}

static bool may_send_tagged(const struct net_port *port, uint16_t vlan)
{
    return (vlan != 0 && vlan == port->pvid) ||
           (vlan <= NET_VLAN_MAX && port->vlans[vlan / 64] >> vlan % 64 & 1);
}

uint64_t *net_parse_frame(struct net_queue *q, struct rte_mbuf *m)
{
    const struct net_port *port = q->port;
    uint8_t *frame = packet_data(m);
    uint16_t vlan = port->pvid;

    if (memcmp(frame + NET_MAC_BYTES, port->mac, NET_MAC_BYTES) != 0)
        return &q->count.forged_mac;
    if (is_tag(load_be16(frame + ETHERTYPE_AT))) {
        if (!port->trunk || load_be16(frame + ETHERTYPE_AT) != ETHERTYPE_VLAN ||
            m->pkt_len < NET_HEADER_BYTES + NET_VLAN_BYTES)
            return &q->count.bad_vlan;
        uint16_t tagged = load_be16(frame + ETHERTYPE_AT + 2) & 0xfff;
        if (tagged != 0) /* 0 has a priority only */
            vlan = tagged;
        packet_untag(m);
        /* A tag within a tag would come out somewhere as another VLAN's. */
        if ((tagged != 0 && !may_send_tagged(port, tagged)) ||
            is_tag(load_be16(packet_data(m) + ETHERTYPE_AT)))
            return &q->count.bad_vlan;
    }
    if (port->trunk && vlan == 0)
        return &q->count.bad_vlan;
    m->vlan_tci = vlan;
    m->hash.usr |= q->marks;
    return NULL;
}

static bool parse_gso(const struct net_queue *q, const struct net_tx_packet *p, struct rte_mbuf *m)
{
    uint32_t headers = (uint32_t)m->l2_len + m->l3_len + m->l4_len;
    bool v6 = p->gso_type == XEN_NETIF_GSO_TYPE_TCPV6;

    if (!(m->hash.usr & PACKET_TCP) || !!(m->hash.usr & PACKET_V6) != v6)
        return false;
    if (headers + p->gso_size > q->frame_max)
        return false;
    m->tso_segsz = p->gso_size;
    unsigned n = net_offload_segments(m);
    if (n > OFFLOAD_SEGMENTS_MAX)
        return false;
    if (n > 1)
        m->hash.usr |= PACKET_GSO;
    else
        m->tso_segsz = 0;
    return true;
}

uint64_t *net_parse_offload(struct net_queue *q, const struct net_tx_packet *p, struct rte_mbuf *m)
{
    if (p->csum_blank || p->gso_size) {
        if (!net_offload_find(m))
            return p->gso_size ? &q->count.bad_gso : &q->count.bad_csum;
        if (p->gso_size && !parse_gso(q, p, m))
            return &q->count.bad_gso;
    }
    return !(m->hash.usr & PACKET_GSO) && m->pkt_len > q->frame_max ? &q->count.too_long : NULL;
}
