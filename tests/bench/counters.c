/* SPDX-License-Identifier: MIT */
#include "counters.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct counter *find(const struct counters *c, const char *name)
{
    for (unsigned i = 0; i < c->n; i++)
        if (strcmp(c->at[i].name, name) == 0)
            return (struct counter *)&c->at[i];
    return NULL;
}

static void set(struct counters *c, const char *name, uint64_t value)
{
    if (c->n == COUNTERS_MAX || strlen(name) >= sizeof(c->at[0].name))
        return;
    struct counter *one = &c->at[c->n++];
    snprintf(one->name, sizeof(one->name), "%s", name);
    one->value = value;
}

int counters_read(struct store *store, const char *dir, struct counters *out)
{
    char names[STORE_VALUE_MAX];
    uint64_t value;
    out->n = 0;
    int n = store_directory(store, STORE_NO_TXN, dir, names, sizeof(names));
    if (n < 0)
        return n == -ENOENT ? 0 : n;
    for (const char *name = names; n > 0; n--, name += strlen(name) + 1)
        if (store_read_number(store, STORE_NO_TXN, dir, name, UINT64_MAX, &value) == 0)
            set(out, name, value);
    return 0;
}

uint64_t counters_get(const struct counters *c, const char *name)
{
    const struct counter *one = find(c, name);
    return one ? one->value : 0;
}

void counters_add(struct counters *sum, const struct counters *before, const struct counters *after)
{
    for (unsigned i = 0; i < after->n; i++) {
        const char *name = after->at[i].name;
        uint64_t more = after->at[i].value - counters_get(before, name);
        struct counter *one = find(sum, name);
        if (one)
            one->value += more;
        else
            set(sum, name, more);
    }
}

bool counter_is_drop(const char *name)
{
    static const char *const other[] = {"tx_packets", "tx_bytes", "rx_packets", "rx_bytes",
                                        "doorbells",  "wakeups",  "storms",     "learned", "broken"};
    for (unsigned i = 0; i < sizeof(other) / sizeof(other[0]); i++)
        if (strcmp(name, other[i]) == 0)
            return false;
    return true;
}

uint64_t counters_drops(const struct counters *c)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < c->n; i++)
        if (counter_is_drop(c->at[i].name))
            sum += c->at[i].value;
    return sum;
}
