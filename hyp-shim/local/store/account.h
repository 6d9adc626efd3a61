/* SPDX-License-Identifier: MIT */
/* account.h - which domains exist, and how much of its share each one uses. */
#ifndef BULKHEAD_STORE_ACCOUNT_H
#define BULKHEAD_STORE_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include <xen/xen.h>

#include "quota.h"

enum xsd_kind { XSD_NODE, XSD_BLOCK, XSD_WATCH, XSD_TXN, XSD_ENTRY, XSD_TOOL, XSD_KINDS };

struct xsd_account {
    bool open;
    domid_t domid;
    uint32_t used[XSD_KINDS];
};

/* Forgets all domains but dom0, whose account is always open. */
void xsd_account_reset(void);
/* -EINVAL no domain can have this domid; -EEXIST; -ENOSPC too many domains. */
int xsd_account_open(domid_t domid);
/* Everything that the account holds must have been given back. */
void xsd_account_close(domid_t domid);
/* NULL: no such domain now. */
struct xsd_account *xsd_account_of(uint32_t domid);
unsigned xsd_account_slot(const struct xsd_account *a); /* 0 .. CORE_DOMAINS_MAX - 1 */
/* The other way round; it may be closed. */
const struct xsd_account *xsd_account_at(unsigned slot);

/* slack: the toolstack asks. */
bool xsd_account_fits(const struct xsd_account *a, enum xsd_kind kind, uint32_t n, bool slack);
/* 0, or -ENOSPC and nothing taken. */
int xsd_account_take(struct xsd_account *a, enum xsd_kind kind, uint32_t n, bool slack);
void xsd_account_give(struct xsd_account *a, enum xsd_kind kind, uint32_t n);

#endif
