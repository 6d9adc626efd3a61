/* SPDX-License-Identifier: MIT */
/*
 * perm.h - who may do what with a node.
 *
 * The first entry names the owner, who may do everything; its letter is what
 * everyone may do whom no later entry names.  dom0 may do everything.
 * Every domid with any right is that of a living domain: a dead one's entries
 * are taken out before its domid can be given again (XSA-322, XSA-417).
 */
#ifndef BULKHEAD_STORE_PERM_H
#define BULKHEAD_STORE_PERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xen/xen.h>

#include "quota.h"

#define XSD_MAY_READ  1u
#define XSD_MAY_WRITE 2u
#define XSD_MAY_OWN   4u

struct xsd_perm {
    domid_t domid;
    uint8_t may; /* XSD_MAY_READ | XSD_MAY_WRITE */
};

struct xsd_perms {
    uint8_t n; /* at least 1 */
    struct xsd_perm p[XSD_PERMS_MAX];
};

static inline domid_t xsd_owner(const struct xsd_perms *perms)
{
    return perms->p[0].domid;
}

unsigned xsd_may(const struct xsd_perms *perms, domid_t who);
bool xsd_may_read(const struct xsd_perms *perms, domid_t who);
bool xsd_perms_name(const struct xsd_perms *perms, domid_t who);
/* Takes out every entry but the first that names a domain. */
bool xsd_perms_strip(struct xsd_perms *perms, domid_t who);

/*
 * text: len bytes of strings, each with its NUL: a letter and a domid.
 * -EINVAL malformed, or an owner that does not exist; -ENOSPC too many.
 * An entry for a domain that does not exist is refused for dom0, who should
 * know; for others, who should not be able to find out, it grants nothing.
 */
int xsd_perms_parse(struct xsd_perms *out, const char *text, size_t len, domid_t by);
/* The same in the other direction; returns the bytes written. */
#define XSD_PERMS_TEXT (XSD_PERMS_MAX * sizeof("b65535"))
size_t xsd_perms_print(const struct xsd_perms *perms, char out[XSD_PERMS_TEXT]);

/* Decimal digits only, the whole of text; -EINVAL. */
int xsd_number_parse(const char *text, size_t len, uint32_t max, uint32_t *out);

#endif
