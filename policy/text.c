/* SPDX-License-Identifier: MIT */
/* text.c - names, and text that is fit to be shown. */
#include <string.h>

#include "policy.h"

bool policy_name_ok(const char *name)
{
    size_t n = strlen(name);

    if (n == 0 || n >= POLICY_NAME_MAX || *name == '.' || *name == '_' || *name == '-')
        return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

bool policy_ifname_ok(const char *name)
{
    return policy_name_ok(name) && strlen(name) < POLICY_IFNAME_MAX;
}

/* Length of the well-formed sequence at p, 0 when there is none (RFC 3629). */
static size_t utf8_length(const unsigned char *p)
{
    static const struct {
        unsigned char low, high, second_low, second_high;
        size_t n;
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };

    if (*p < 0x80)
        return 1;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (*p < forms[i].low || *p > forms[i].high)
            continue;
        if (p[1] < forms[i].second_low || p[1] > forms[i].second_high)
            return 0;
        for (size_t k = 2; k < forms[i].n; k++)
            if ((p[k] & 0xc0) != 0x80)
                return 0;
        return forms[i].n;
    }
    return 0;
}

void policy_clean_text(char *s)
{
    unsigned char *p = (unsigned char *)s;

    while (*p) {
        size_t n = utf8_length(p);
        bool control = *p < 0x20 || *p == 0x7f || (p[0] == 0xc2 && p[1] < 0xa0);

        if (n == 0)
            n = 1;
        if (control || (n == 1 && *p >= 0x80))
            memset(p, '?', n);
        p += n;
    }
}

const char *policy_kind_name(enum policy_kind kind)
{
    return kind == POLICY_DRIVER ? "driver" : "guest";
}

const char *policy_class_name(const struct domain_spec *spec)
{
    static const char *const doors[] = {
        [POLICY_DOOR_NONE] = "",
        [POLICY_DOOR_NBD] = "nbd",
        [POLICY_DOOR_NATIVE] = "native",
        [POLICY_DOOR_TAP] = "tap",
        [POLICY_DOOR_VHOST] = "vhost-user",
    };

    if (spec->kind == POLICY_DRIVER)
        return spec->cls == POLICY_CLASS_NET ? "net" : "blk";
    return doors[spec->door];
}

const char *policy_grants_name(enum policy_grants grants)
{
    static const char *const names[] = {
        [POLICY_GRANTS_AUTO] = "auto",
        [POLICY_GRANTS_PERSISTENT] = "persistent",
        [POLICY_GRANTS_COPY] = "copy",
        [POLICY_GRANTS_MAP] = "map",
    };

    return names[grants];
}

const char *policy_tx_name(enum policy_tx tx)
{
    return tx == POLICY_TX_RESEND ? "resend" : "drop";
}
