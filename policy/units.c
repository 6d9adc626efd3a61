/* SPDX-License-Identifier: MIT */
/* units.c - numbers, sizes and CPU sets as libvirt writes them. */
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "reader.h"

int units_decimal(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;

    if (!*text)
        return -EINVAL;
    for (; *text; text++) {
        uint64_t digit = (uint64_t)(*text - '0');

        if (*text < '0' || *text > '9')
            return -EINVAL;
        if (v > (UINT64_MAX - digit) / 10)
            return -ERANGE;
        v = v * 10 + digit;
    }
    if (v > max)
        return -ERANGE;
    *out = v;
    return 0;
}

int units_seconds(const char *text, uint64_t max, uint64_t *ms)
{
    const char *point = strchr(text, '.');
    size_t whole = point ? (size_t)(point - text) : strlen(text), places = point ? strlen(point + 1) : 0;
    char digits[24];

    if (whole == 0 || (point && (places == 0 || places > 3)))
        return -EINVAL;
    if (whole > sizeof(digits) - 4)
        return -ERANGE;
    memcpy(digits, text, whole);
    memset(digits + whole, '0', 3);
    if (point)
        memcpy(digits + whole, point + 1, places);
    digits[whole + 3] = '\0';
    return units_decimal(digits, max, ms);
}

/* libvirt: a bare letter or ..iB counts in 1024s, ..B in 1000s; case does not matter. */
static int unit_scale(const char *unit, uint64_t *scale)
{
    static const char letters[] = "kmgtpe";
    const char *at;
    uint64_t base, v = 1;

    if (!strcasecmp(unit, "b") || !strcasecmp(unit, "byte") || !strcasecmp(unit, "bytes")) {
        *scale = 1;
        return 0;
    }
    if (!*unit || !(at = strchr(letters, tolower((unsigned char)*unit))))
        return -EINVAL;
    if (!unit[1] || !strcasecmp(unit + 1, "ib"))
        base = 1024;
    else if (!strcasecmp(unit + 1, "b"))
        base = 1000;
    else
        return -EINVAL;
    for (long i = at - letters; i >= 0; i--)
        v *= base;
    *scale = v;
    return 0;
}

int units_bytes(const char *text, const char *unit, uint64_t *out)
{
    uint64_t v, scale;
    int rc = units_decimal(text, UINT64_MAX, &v);

    if (rc)
        return rc;
    rc = unit_scale(unit, &scale);
    if (rc)
        return -EPROTOTYPE;
    if (v > UINT64_MAX / scale)
        return -ERANGE;
    *out = v * scale;
    return 0;
}

static const char *read_cpu(const char *p, uint64_t *out)
{
    uint64_t v = 0;

    if (*p < '0' || *p > '9')
        return NULL;
    for (; *p >= '0' && *p <= '9'; p++) {
        v = v * 10 + (uint64_t)(*p - '0');
        if (v >= POLICY_CPUS_MAX)
            return NULL;
    }
    *out = v;
    return p;
}

/* "0-3,^2,5": ranges, and ^N takes one away again. */
int units_cpuset(const char *text, uint64_t *mask)
{
    uint64_t set = 0, first, last;
    const char *p = text;

    for (;;) {
        bool take_away = *p == '^';

        p = read_cpu(p + take_away, &first);
        if (!p)
            return -EINVAL;
        last = first;
        if (*p == '-' && !take_away) {
            p = read_cpu(p + 1, &last);
            if (!p || last < first)
                return -EINVAL;
        }
        for (uint64_t i = first; i <= last; i++) {
            if (take_away)
                set &= ~(1ull << i);
            else
                set |= 1ull << i;
        }
        if (!*p)
            break;
        if (*p++ != ',')
            return -EINVAL;
    }
    if (!set)
        return -EINVAL;
    *mask = set;
    return 0;
}
