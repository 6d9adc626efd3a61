/* SPDX-License-Identifier: MIT */
#include "account.h"

#include <errno.h>
#include <string.h>

#include "count.h"

static struct xsd_account accounts[CORE_DOMAINS_MAX];
static uint8_t slot_plus_one[LOCAL_DOMID_LAST + 1]; /* by domid; 0: none */

_Static_assert(CORE_DOMAINS_MAX < 256, "a slot fits in a byte");

static const struct {
    uint32_t guest, slack, dom0;
} limits[XSD_KINDS] = {
    [XSD_NODE] = {XSD_NODES_GUEST, XSD_NODES_SLACK, XSD_NODES_DOM0},
    [XSD_BLOCK] = {XSD_BLOCKS_GUEST, XSD_BLOCKS_SLACK, XSD_BLOCKS_DOM0},
    [XSD_WATCH] = {XSD_WATCHES_GUEST, 0, XSD_WATCHES_DOM0},
    [XSD_TXN] = {XSD_TXNS_GUEST, 0, XSD_TXNS_DOM0},
    [XSD_ENTRY] = {XSD_ENTRIES_GUEST, 0, XSD_ENTRIES_DOM0},
    [XSD_TOOL] = {XSD_TOOLS_GUEST, 0, XSD_TOOLS_DOM0},
};

void xsd_account_reset(void)
{
    memset(accounts, 0, sizeof(accounts));
    memset(slot_plus_one, 0, sizeof(slot_plus_one));
    accounts[0].open = true;
    slot_plus_one[0] = 1;
}

int xsd_account_open(domid_t domid)
{
    if (domid > LOCAL_DOMID_LAST)
        return -EINVAL;
    if (slot_plus_one[domid])
        return -EEXIST;
    for (unsigned i = 1; i < CORE_DOMAINS_MAX; i++) {
        if (accounts[i].open)
            continue;
        accounts[i] = (struct xsd_account){.open = true, .domid = domid};
        slot_plus_one[domid] = (uint8_t)(i + 1);
        return 0;
    }
    return -ENOSPC;
}

void xsd_account_close(domid_t domid)
{
    struct xsd_account *a = xsd_account_of(domid);

    if (!a || domid == 0)
        return;
    a->open = false;
    slot_plus_one[domid] = 0;
}

struct xsd_account *xsd_account_of(uint32_t domid)
{
    if (domid > LOCAL_DOMID_LAST || !slot_plus_one[domid])
        return NULL;
    return &accounts[slot_plus_one[domid] - 1];
}

unsigned xsd_account_slot(const struct xsd_account *a)
{
    return (unsigned)(a - accounts);
}

const struct xsd_account *xsd_account_at(unsigned slot)
{
    return &accounts[slot];
}

bool xsd_account_fits(const struct xsd_account *a, enum xsd_kind kind, uint32_t n, bool slack)
{
    uint32_t limit = a->domid == 0 ? limits[kind].dom0
                                   : limits[kind].guest + (slack ? limits[kind].slack : 0);

    return a->used[kind] <= limit && n <= limit - a->used[kind];
}

int xsd_account_take(struct xsd_account *a, enum xsd_kind kind, uint32_t n, bool slack)
{
    if (!xsd_account_fits(a, kind, n, slack)) {
        xsd_count(XSD_COUNT_over_quota);
        return -ENOSPC;
    }
    a->used[kind] += n;
    return 0;
}

void xsd_account_give(struct xsd_account *a, enum xsd_kind kind, uint32_t n)
{
    a->used[kind] -= n;
}
