/* SPDX-License-Identifier: MIT */
/*
 * state.c - the daemon's memory on disk.  What is written is what the tables
 * below name: each entry is a member of a struct, a number or a few.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"
#include "rundir.h"

#define STATE_VERSION 1
#define OWN_NAME      "@bulkheadd" /* no domain's: those begin with a letter or digit */
#define TURN_NAME     "@turn"      /* the last turn that changed more than one of them */

struct field {
    const char *key;
    size_t at;
    size_t bytes; /* of one */
    size_t count;
    bool sign;
};

#define ONE(type, member)    {#member, offsetof(type, member), sizeof(((type *)0)->member), 1, false}
#define SIGNED(type, member) {#member, offsetof(type, member), sizeof(((type *)0)->member), 1, true}
#define MANY(type, member)                                                                                   \
    {#member, offsetof(type, member), sizeof(((type *)0)->member[0]),                                        \
     sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0]), false}
#define END {NULL, 0, 0, 0, false}

static const struct field domain_fields[] = {
    ONE(struct domain, state),
    ONE(struct domain, domid),
    ONE(struct domain, old_domid),
    ONE(struct domain, incarnation),
    ONE(struct domain, restarts),
    ONE(struct domain, failures),
    ONE(struct domain, started_at),
    ONE(struct domain, deadline),
    ONE(struct domain, alive),
    ONE(struct domain, built),
    ONE(struct domain, unpaused),
    ONE(struct domain, start_again),
    ONE(struct domain, renewing),
    ONE(struct domain, automatic),
    ONE(struct domain, attached),
    ONE(struct domain, link_id),
    ONE(struct domain, next_device),
    ONE(struct domain, gate),
    ONE(struct domain, gate_ns),
    ONE(struct domain, plan),
    ONE(struct domain, plan_until),
    ONE(struct domain, ordered_ns),
    ONE(struct domain, ordered),
    ONE(struct domain, last_cause),
    SIGNED(struct domain, last_status),
    ONE(struct domain, last_downtime_us),
    ONE(struct domain, last_warm),
    MANY(struct domain, phase_us),
    MANY(struct domain, deaths),
    ONE(struct domain, ping),
    MANY(struct domain, lie_at),
    ONE(struct domain, uplink.kept.at),
    ONE(struct domain, uplink.kept.had),
    ONE(struct domain, uplink.state),
    ONE(struct domain, uplink.file[0].number),
    ONE(struct domain, uplink.file[0].open),
    ONE(struct domain, uplink.file[1].number),
    ONE(struct domain, uplink.file[1].open),
    ONE(struct domain, spare.at),
    ONE(struct domain, spare.domid),
    ONE(struct domain, spare.alive),
    ONE(struct domain, spare.unpaused),
    ONE(struct domain, spare.was_armed),
    ONE(struct domain, spare.make_at),
    ONE(struct domain, spare.deadline),
    ONE(struct domain, spare.started_at),
    ONE(struct domain, spare.failures),
    ONE(struct domain, spare.next_device),
    ONE(struct domain, spare.gate),
    ONE(struct domain, spare.gate_ns),
    ONE(struct domain, spare.kept.at),
    ONE(struct domain, recovery.on),
    ONE(struct domain, recovery.warm),
    ONE(struct domain, recovery.planned),
    ONE(struct domain, recovery.t0_ns),
    ONE(struct domain, recovery.death_ns),
    ONE(struct domain, recovery.books_ns),
    ONE(struct domain, recovery.attached_ns),
    ONE(struct domain, recovery.first_ns),
    ONE(struct domain, recovery.down_ns),
    ONE(struct domain, recovery.give_up_at),
    END,
};
_Static_assert(UPLINK_FILES == 2, "both are in the table");

static const struct field split_fields[] = {
    ONE(struct split, be),        ONE(struct split, live),     MANY(struct split, nodes_be),
    ONE(struct split, connected), ONE(struct split, armed),    ONE(struct split, awaited),
    ONE(struct split, stalled),   ONE(struct split, lies),     ONE(struct split, poisoned),
    ONE(struct split, timed_out), END,
};

static const struct field vbd_fields[] = {
    ONE(struct vbd, device),     ONE(struct vbd, number),   SIGNED(struct vbd, last_error),
    ONE(struct vbd, give_up_at), ONE(struct vbd, retry_at), ONE(struct vbd, opened_ns),
    END,
};

static const struct field kept_fields[] = {
    ONE(struct kept, at),
    ONE(struct kept, had),
    END,
};

static const struct field own_fields[] = {
    ONE(struct daemon, keeper.domid),
    ONE(struct daemon, keeper.next_id),
    ONE(struct daemon, store_process.failures),
    ONE(struct daemon, store_process.started_at),
    ONE(struct daemon, store_process.retry_at),
    END,
};

/* The parts of a domain: each a list of structs. */
static const struct part {
    const char *key;
    const struct field *fields;
    size_t at, stride;
    bool (*next)(const struct domain *dom, unsigned *i);
} parts[] = {
    {"splits", split_fields, offsetof(struct domain, split), sizeof(struct split), split_next},
    {"disks", vbd_fields, offsetof(struct domain, vbd), sizeof(struct vbd), disk_next},
    {"ahead", vbd_fields, offsetof(struct domain, ahead), sizeof(struct vbd), disk_next},
    {"taps", kept_fields, offsetof(struct domain, tap), sizeof(struct kept), nic_next},
};
#define PARTS (sizeof(parts) / sizeof(parts[0]))

/* A guest whose devices were being changed, or that is to be forgotten when it is down. */
static const struct field change_fields[] = {
    ONE(struct domain, change.at),
    ONE(struct domain, forget),
    END,
};

static void *element(const struct domain *dom, const struct part *part, unsigned i)
{
    return (char *)dom + part->at + i * part->stride;
}

/* ------------------------------------------------------------------ members */

static uint64_t get(const void *of, const struct field *f, size_t i)
{
    const char *p = (const char *)of + f->at + i * f->bytes;
    uint64_t value = 0;
    int32_t number;

    if (f->sign) {
        memcpy(&number, p, sizeof(number));
        return (uint64_t)(int64_t)number;
    }
    memcpy(&value, p, f->bytes); /* little endian, as all of the rings are */
    return value;
}

static bool put(void *of, const struct field *f, size_t i, const json_t *number)
{
    json_int_t value = json_integer_value(number);
    bool fits = f->sign ? value >= INT32_MIN && value <= INT32_MAX
                        : value >= 0 && (f->bytes >= 8 || !((uint64_t)value >> 8 * f->bytes));

    /* A bool of another value than these is no bool. */
    if (!json_is_integer(number) || !fits || (f->bytes == 1 && value > 1))
        return false;
    memcpy((char *)of + f->at + i * f->bytes, &value, f->bytes);
    return true;
}

/* -------------------------------------------------------------------- prints */

static void mix(uint64_t *print, uint64_t value)
{
    *print = (*print ^ value) * 0x9e3779b97f4a7c15u;
    *print ^= *print >> 29;
}

static void print_fields(uint64_t *print, const void *of, const struct field *f)
{
    for (; f->key; f++)
        for (size_t i = 0; i < f->count; i++)
            mix(print, get(of, f, i));
}

static uint64_t print_of(const struct domain *dom)
{
    uint64_t print = STATE_VERSION;

    print_fields(&print, dom, domain_fields);
    print_fields(&print, dom, change_fields);
    mix(&print, dom->there);
    for (size_t p = 0; p < PARTS; p++)
        for (unsigned i = 0; parts[p].next(dom, &i); i++)
            print_fields(&print, element(dom, &parts[p], i), parts[p].fields);
    return print | 1;
}

/* -------------------------------------------------------------------- writing */

static json_t *write_fields(const void *of, const struct field *f)
{
    json_t *out = json_object();

    for (; f->key; f++) {
        json_t *list = f->count > 1 ? json_array() : NULL;

        for (size_t i = 0; list && i < f->count; i++)
            json_array_append_new(list, json_integer((json_int_t)get(of, f, i)));
        json_object_set_new(out, f->key, list ? list : json_integer((json_int_t)get(of, f, 0)));
    }
    return out;
}

/* Which place is whose; the lists of the parts have no holes. */
static json_t *write_devices(const struct domain *dom)
{
    json_t *list = json_array();

    for (unsigned i = 0; split_next(dom, &i); i++)
        json_array_append_new(list, json_pack("{s:i,s:s,s:s,s:i}", "index", (int)i, "dev", dom->split[i].dev,
                                              "backend", dom->split[i].backend, "devid",
                                              (int)dom->split[i].devid));
    return list;
}

static json_t *write_domain(const struct domain *dom)
{
    json_t *out = json_pack("{s:i,s:s,s:o,s:o,s:o}", "version", STATE_VERSION, "name", dom->spec.name,
                            "domain", write_fields(dom, domain_fields), "change",
                            write_fields(dom, change_fields), "devices", write_devices(dom));

    for (size_t p = 0; p < PARTS; p++) {
        json_t *list = json_array();

        for (unsigned i = 0; parts[p].next(dom, &i); i++)
            json_array_append_new(list, write_fields(element(dom, &parts[p], i), parts[p].fields));
        json_object_set_new(out, parts[p].key, list);
    }
    return out;
}

/* True: the file is there. */
static bool write_file(struct daemon *d, const char *name, const json_t *document)
{
    char *text = json_dumps(document, JSON_COMPACT);
    int rc = text ? rundir_save_state(name, text, strlen(text)) : -ENOMEM;

    free(text);
    if (rc && rc != d->state_error)
        log_say(&d->own_log,
                "cannot write %s/state/%s.json: %s; if bulkheadd is killed now, the next one may start some "
                "domains anew",
                d->run_dir, name, strerror(-rc));
    d->state_error = rc;
    return !rc;
}

/* Where the print of a file that is to be written goes once it was. */
struct to_write {
    struct state_mark *mark;
    uint64_t print;
};

static void changed(struct daemon *d, json_t *all, struct to_write change[], const char *name,
                    json_t *document, struct state_mark *mark, uint64_t print)
{
    change[json_object_size(all)] = (struct to_write){mark, print};
    json_object_set_new(document, "turn", json_integer((json_int_t)d->turn + 1));
    json_object_set_new(all, name, document);
}

/* What was undefined leaves nothing, in the last turn's file either. */
static void forget(struct daemon *d, struct state_mark *mark)
{
    if (!dom_find(d, mark->name)) {
        rundir_forget_state(TURN_NAME);
        rundir_forget_state(mark->name);
    }
    *mark = (struct state_mark){.print = 0};
}

/* All that one turn changed is there at once: a file that holds all of it comes before those of each. */
static void write_turn(struct daemon *d, json_t *all, const struct to_write change[])
{
    const char *name;
    json_t *document;
    size_t i = 0;

    if (json_object_size(all) > 1 && !write_file(d, TURN_NAME, all))
        return;
    d->turn++;
    json_object_foreach (all, name, document) {
        struct state_mark *mark = change[i].mark;

        if (write_file(d, name, document)) {
            mark->print = change[i].print;
            memcpy(mark->name, name, strlen(name) + 1);
        }
        i++;
    }
}

void state_save(struct daemon *d)
{
    static struct to_write change[DAEMON_DOMAINS_MAX + 1];
    struct state_mark *own = &d->saved[DAEMON_DOMAINS_MAX];
    uint64_t print = STATE_VERSION;
    json_t *all = json_object();

    print_fields(&print, d, own_fields);
    if (own->print != print)
        changed(d, all, change, OWN_NAME, write_fields(d, own_fields), own, print);
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        const struct domain *dom = &d->domains[g];
        struct state_mark *mark = &d->saved[g];

        if (*mark->name && (!dom->used || strcmp(mark->name, dom->spec.name) != 0))
            forget(d, mark);
        print = dom->used ? print_of(dom) : 0;
        if (print != mark->print)
            changed(d, all, change, dom->spec.name, write_domain(dom), mark, print);
    }
    if (json_object_size(all) > 0)
        write_turn(d, all, change);
    json_decref(all);
}

/* -------------------------------------------------------------------- reading */

static bool read_fields(void *of, const struct field *f, const json_t *from)
{
    for (; f->key; f++) {
        const json_t *value = json_object_get(from, f->key);

        if (f->count > 1 && json_array_size(value) != f->count)
            return false;
        for (size_t i = 0; i < f->count; i++)
            if (!put(of, f, i, f->count > 1 ? json_array_get(value, i) : value))
                return false;
    }
    return true;
}

static bool enums_good(const struct domain *dom)
{
    bool good = dom->state <= ST_BACKOFF && dom->spare.at <= SPARE_READY && dom->plan <= PLAN_STOP &&
                dom->last_cause < CAUSE_COUNT && dom->ordered < CAUSE_COUNT &&
                dom->uplink.kept.at <= KEPT_RELEASING && dom->spare.kept.at <= KEPT_RELEASING &&
                dom->change.at <= CHANGE_UNDOING;

    for (unsigned i = 0; split_next(dom, &i); i++)
        good = good && dom->split[i].live < SLOTS;
    for (unsigned i = 0; disk_next(dom, &i); i++)
        good = good && dom->vbd[i].device <= VBD_OPEN && dom->ahead[i].device <= VBD_OPEN;
    for (unsigned k = 0; nic_next(dom, &k); k++)
        good = good && dom->tap[k].at <= KEPT_RELEASING;
    return good;
}

/* One that the definition does not name any more, or not yet: all that it takes to let go of it. */
static bool read_device(struct domain *dom, unsigned i, const json_t *from)
{
    const char *dev = json_string_value(json_object_get(from, "dev"));
    const char *backend = json_string_value(json_object_get(from, "backend"));
    json_int_t devid = json_integer_value(json_object_get(from, "devid"));

    if (!dev || !backend || strlen(backend) >= POLICY_NAME_MAX || devid < 0 || devid > UINT32_MAX)
        return false;
    if (split_is_disk(i)) {
        struct policy_disk *disk = &dom->spec.disks[i];

        *disk = (struct policy_disk){.devid = (unsigned)devid};
        if (strlen(dev) >= sizeof(disk->dev))
            return false;
        memcpy(disk->dev, dev, strlen(dev) + 1);
        memcpy(disk->backend, backend, strlen(backend) + 1);
    } else {
        struct policy_nic *nic = &dom->spec.nics[i - FIRST_NIC];

        *nic = (struct policy_nic){.devid = (unsigned)devid};
        if (strlen(dev) >= sizeof(nic->dev))
            return false;
        memcpy(nic->dev, dev, strlen(dev) + 1);
        memcpy(nic->backend, backend, strlen(backend) + 1);
    }
    split_place(dom, i);
    return true;
}

/* They keep their places: the store and the driver domains know them by what goes by it. */
static bool read_devices(struct domain *dom, const json_t *list)
{
    static struct domain_spec spec; /* large; one thread */
    const json_t *one;
    size_t n;

    spec = dom->spec;
    dom->there = 0;
    json_array_foreach (list, n, one) {
        json_int_t i = json_integer_value(json_object_get(one, "index"));
        const char *dev = json_string_value(json_object_get(one, "dev"));

        if (i < 0 || i >= SPLITS_MAX || dom->there & 1u << i || !dev)
            return false;
        if (!split_place_from(dom, (unsigned)i, &spec, dev) &&
            (dom->change.at == CHANGE_NONE || !read_device(dom, (unsigned)i, one)))
            return false;
    }
    return dom->change.at != CHANGE_NONE || json_array_size(list) == spec.ndisks + spec.nnics;
}

static bool read_domain(struct domain *dom, const json_t *from)
{
    const char *name = json_string_value(json_object_get(from, "name"));
    const json_t *change = json_object_get(from, "change"), *devices = json_object_get(from, "devices");

    if (json_integer_value(json_object_get(from, "version")) != STATE_VERSION || !name ||
        strcmp(name, dom->spec.name) != 0 ||
        !read_fields(dom, domain_fields, json_object_get(from, "domain")))
        return false;
    if (change && !read_fields(dom, change_fields, change))
        return false;
    if (devices && !read_devices(dom, devices))
        return false;
    for (size_t p = 0; p < PARTS; p++) {
        const json_t *list = json_object_get(from, parts[p].key);
        size_t n = 0;

        for (unsigned i = 0; parts[p].next(dom, &i); i++)
            if (!read_fields(element(dom, &parts[p], i), parts[p].fields, json_array_get(list, n++)))
                return false;
        if (json_array_size(list) != n)
            return false;
    }
    return enums_good(dom);
}

static json_t *read_file(const char *name)
{
    size_t bytes;
    char *text = rundir_read_state(name, &bytes);
    json_t *document = text ? json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL) : NULL;

    free(text);
    return document;
}

/* As the last whole turn had it; the caller's. */
static json_t *read_latest(struct daemon *d, const char *name, const json_t *turn)
{
    json_t *file = read_file(name), *other = json_object_get(turn, name);
    json_int_t at = json_integer_value(json_object_get(file, "turn"));

    if (json_integer_value(json_object_get(other, "turn")) > at) {
        json_decref(file);
        file = json_incref(other);
        at = json_integer_value(json_object_get(other, "turn"));
    }
    if (at > 0 && (uint64_t)at > d->turn)
        d->turn = (uint64_t)at;
    return file;
}

void state_load(struct daemon *d)
{
    static struct domain before; /* large; one thread */
    json_t *turn = read_file(TURN_NAME), *document = read_latest(d, OWN_NAME, turn);

    if (!read_fields(d, own_fields, document))
        log_say(&d->own_log, "%s/state/" OWN_NAME ".json cannot be read", d->run_dir);
    json_decref(document);
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        struct domain *dom = &d->domains[g];

        if (!dom->used)
            continue;
        before = *dom;
        document = read_latest(d, dom->spec.name, turn);
        if (!read_domain(dom, document)) {
            *dom = before;
            log_say(&d->own_log, "%s: there is no word of how it ran: it counts as not started",
                    dom->spec.name);
        }
        json_decref(document);
    }
    json_decref(turn);
}
