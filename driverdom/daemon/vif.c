/* SPDX-License-Identifier: MIT */
/* vif.c - a guest's NIC: its nodes. */
#include <stdio.h>
#include <string.h>

#include "../../hyp-shim/netproto.h"
#include "daemon.h"

_Static_assert(POLICY_QUEUES_MAX == NET_QUEUES_MAX && POLICY_MTU_MAX == NET_MTU_MAX &&
                   POLICY_MTU_MIN == NET_MTU_MIN && POLICY_VLAN_MAX == NET_VLAN_MAX,
               "what may be asked for is what can be served");
_Static_assert(POLICY_VLANS_MAX * sizeof("4094") <= STORE_VALUE_MAX, "a trunk's list is one value");

void vif_mac_text(const uint8_t mac[6], char out[18])
{
    snprintf(out, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

/* "42,100" */
static void add_trunk(const struct policy_nic *nic, struct nodes *backend)
{
    char list[STORE_VALUE_MAX];
    size_t at = 0;

    *list = '\0';
    for (unsigned id = 1; id <= POLICY_VLAN_MAX && at < sizeof(list); id++)
        if (nic->vlans[id / 64] & 1ull << id % 64)
            at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%u", at ? "," : "", id);
    nodes_add(backend, "bulkhead-trunk", "%s", list);
}

static void add_rate(const char *key, const struct policy_rate *rate, struct nodes *backend)
{
    if (rate->average)
        nodes_add(backend, key, "%llu %llu %llu", (unsigned long long)rate->average,
                  (unsigned long long)rate->peak, (unsigned long long)rate->burst);
}

void vif_nodes(const struct domain *guest, unsigned i, struct nodes *backend, struct nodes *frontend)
{
    const struct policy_nic *nic = &guest->spec.nics[i];
    unsigned mtu = nic->mtu ? nic->mtu : NET_MTU_DEFAULT;
    struct nodes *both[] = {backend, frontend};
    char mac[18];

    vif_mac_text(nic->mac, mac);
    for (int k = 0; k < 2; k++) {
        nodes_add(both[k], "handle", "%u", nic->devid);
        nodes_add(both[k], "mac", "%s", mac);
        nodes_add(both[k], "mtu", "%u", mtu);
    }
    nodes_add(backend, "type", "vif");
    nodes_add(backend, "bulkhead-weight", "%u", nic->weight);
    if (nic->pvid)
        nodes_add(backend, "bulkhead-vlan", "%u", nic->pvid);
    if (nic->trunk)
        add_trunk(nic, backend);
    nodes_add(backend, "bulkhead-isolated", "%d", nic->isolated);
    add_rate("bulkhead-inbound", &nic->inbound, backend);
    add_rate("bulkhead-outbound", &nic->outbound, backend);
    nodes_add_hints(frontend, nic->queues, nic->pool_pages, nic->grants);
    if (nic->tx != POLICY_TX_DROP)
        nodes_add(frontend, "bulkhead-tx", "%s", policy_tx_name(nic->tx));
}
