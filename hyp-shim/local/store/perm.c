/* SPDX-License-Identifier: MIT */
#include "perm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "account.h"

unsigned xsd_may(const struct xsd_perms *perms, domid_t who)
{
    if (who == 0 || who == xsd_owner(perms))
        return XSD_MAY_READ | XSD_MAY_WRITE | XSD_MAY_OWN;
    for (unsigned i = 1; i < perms->n; i++)
        if (perms->p[i].domid == who)
            return perms->p[i].may;
    return perms->p[0].may;
}

bool xsd_may_read(const struct xsd_perms *perms, domid_t who)
{
    return perms && (xsd_may(perms, who) & XSD_MAY_READ);
}

bool xsd_perms_name(const struct xsd_perms *perms, domid_t who)
{
    for (unsigned i = 0; i < perms->n; i++)
        if (perms->p[i].domid == who)
            return true;
    return false;
}

bool xsd_perms_strip(struct xsd_perms *perms, domid_t who)
{
    unsigned kept = 1;

    for (unsigned i = 1; i < perms->n; i++)
        if (perms->p[i].domid != who)
            perms->p[kept++] = perms->p[i];
    bool changed = kept != perms->n;
    perms->n = (uint8_t)kept;
    return changed;
}

int xsd_number_parse(const char *text, size_t len, uint32_t max, uint32_t *out)
{
    uint64_t v = 0;

    if (!len || len > 10)
        return -EINVAL;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -EINVAL;
        v = v * 10 + (uint64_t)(text[i] - '0');
    }
    if (v > max)
        return -EINVAL;
    *out = (uint32_t)v;
    return 0;
}

static const char letters[] = "nrwb"; /* by XSD_MAY_READ | XSD_MAY_WRITE */

static int parse_one(struct xsd_perm *out, const char *text, size_t len, domid_t by, bool owner)
{
    uint32_t domid;
    const char *letter = len ? strchr(letters, text[0]) : NULL;

    if (!letter || !*letter || xsd_number_parse(text + 1, len - 1, UINT16_MAX, &domid))
        return -EINVAL;
    *out = (struct xsd_perm){.domid = (domid_t)domid, .may = (uint8_t)(letter - letters)};
    if (xsd_account_of(domid))
        return 0;
    if (owner || by == 0)
        return -EINVAL;
    out->may = 0;
    return 0;
}

int xsd_perms_parse(struct xsd_perms *out, const char *text, size_t len, domid_t by)
{
    *out = (struct xsd_perms){0};
    if (!len || text[len - 1] != '\0')
        return -EINVAL;
    while (len) {
        size_t n = strlen(text);
        if (out->n == XSD_PERMS_MAX)
            return -ENOSPC;
        int err = parse_one(&out->p[out->n], text, n, by, out->n == 0);
        if (err)
            return err;
        out->n++;
        text += n + 1;
        len -= n + 1;
    }
    return 0;
}

size_t xsd_perms_print(const struct xsd_perms *perms, char out[XSD_PERMS_TEXT])
{
    size_t used = 0;

    for (unsigned i = 0; i < perms->n; i++)
        used += (size_t)snprintf(out + used, XSD_PERMS_TEXT - used, "%c%u", letters[perms->p[i].may],
                                 perms->p[i].domid) + 1;
    return used;
}
