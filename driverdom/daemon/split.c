/* SPDX-License-Identifier: MIT */
/*
 * split.c - a guest's device in the store's books: the two directories of a split driver.
 *
 * A frontend's directory has two places, slots: /local/domain/FE/device/CLS/ID and
 * /local/domain/FE/twin/CLS/ID.  One is live, the other is for the spare of the
 * driver domain; at a takeover they change roles and nothing is written.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../../hyp-shim/xenbus.h"
#include "daemon.h"

#define TXN_TRIES 20

_Static_assert(SPLITS_MAX <= 31, "there is a bit for each, and it can be shifted by all");

void split_place(struct domain *dom, unsigned i)
{
    dom->there |= 1u << i;
    if (split_is_disk(i)) {
        const struct policy_disk *disk = &dom->spec.disks[i];

        dom->split[i] = (struct split){
            .cls = "vbd", .word = "disk", .dev = disk->dev, .backend = disk->backend, .devid = disk->devid};
    } else {
        const struct policy_nic *nic = &dom->spec.nics[i - FIRST_NIC];

        dom->split[i] = (struct split){
            .cls = "vif", .word = "NIC", .dev = nic->dev, .backend = nic->backend, .devid = nic->devid};
    }
}

void split_init(struct domain *dom)
{
    dom->there = 0;
    for (unsigned i = 0; i < dom->spec.ndisks; i++)
        split_place(dom, i);
    for (unsigned k = 0; k < dom->spec.nnics; k++)
        split_place(dom, FIRST_NIC + k);
}

bool split_place_from(struct domain *dom, unsigned i, const struct domain_spec *spec, const char *dev)
{
    for (unsigned n = 0; split_is_disk(i) && n < spec->ndisks; n++) {
        if (strcmp(spec->disks[n].dev, dev) != 0)
            continue;
        dom->spec.disks[i] = spec->disks[n];
        split_place(dom, i);
        return true;
    }
    for (unsigned n = 0; !split_is_disk(i) && n < spec->nnics; n++) {
        if (strcmp(spec->nics[n].dev, dev) != 0)
            continue;
        dom->spec.nics[i - FIRST_NIC] = spec->nics[n];
        dom->spec.nics[i - FIRST_NIC].devid = i - FIRST_NIC;
        split_place(dom, i);
        return true;
    }
    return false;
}

unsigned split_find(const struct domain *dom, const char *dev)
{
    for (unsigned i = 0; split_next(dom, &i); i++)
        if (!strcmp(dom->split[i].dev, dev))
            return i;
    return SPLITS_MAX;
}

static bool next_of(uint32_t there, unsigned *i)
{
    there >>= *i;
    if (!there)
        return false;
    *i += (unsigned)__builtin_ctz(there);
    return true;
}

bool split_next(const struct domain *dom, unsigned *i)
{
    return next_of(dom->there, i);
}

bool disk_next(const struct domain *dom, unsigned *i)
{
    return next_of(dom->there & ((1u << FIRST_NIC) - 1), i);
}

bool nic_next(const struct domain *dom, unsigned *k)
{
    return next_of(dom->there >> FIRST_NIC, k);
}

const char *split_words(const struct domain *guest)
{
    if (!(guest->there >> FIRST_NIC))
        return "disks";
    return guest->there & ((1u << FIRST_NIC) - 1) ? "disks and NICs" : "NICs";
}

void nodes_add(struct nodes *nodes, const char *key, const char *fmt, ...)
{
    struct node *node = &nodes->node[nodes->n++];
    va_list ap;

    node->key = key;
    va_start(ap, fmt);
    vsnprintf(node->value, sizeof(node->value), fmt, ap);
    va_end(ap);
}

void nodes_add_hints(struct nodes *frontend, unsigned queues, unsigned pool_pages, enum policy_grants grants)
{
    if (queues)
        nodes_add(frontend, "bulkhead-queues", "%u", queues);
    if (pool_pages)
        nodes_add(frontend, "bulkhead-pool-pages", "%u", pool_pages);
    if (grants != POLICY_GRANTS_AUTO)
        nodes_add(frontend, "bulkhead-grants", "%s", policy_grants_name(grants));
}

static int set_owner(struct daemon *d, store_txn t, const char *path, domid_t owner, domid_t reader)
{
    struct store_perm perms[2] = {{owner, 'n'}, {reader, 'r'}};

    return store_set_perms(d->store, t, path, perms, reader ? 2 : 1);
}

static int write_directory(struct daemon *d, store_txn t, const char *path, domid_t owner, domid_t reader,
                           const struct nodes *nodes)
{
    int rc = store_mkdir(d->store, t, path);

    if (!rc)
        rc = set_owner(d, t, path, owner, reader);
    for (unsigned i = 0; !rc && i < nodes->n; i++)
        rc = store_printf(d->store, t, path, nodes->node[i].key, "%s", nodes->node[i].value);
    return rc;
}

static void own_path(char out[STORE_PATH_MAX], const struct domain *guest, unsigned i, const char *below)
{
    snprintf(out, STORE_PATH_MAX, "/local/domain/%u/%s/%s/%u", guest->domid, below, guest->split[i].cls,
             guest->split[i].devid);
}

static int paths_of(const struct domain *guest, unsigned i, unsigned slot, domid_t be, char b[STORE_PATH_MAX],
                    char f[STORE_PATH_MAX])
{
    const struct split *split = &guest->split[i];

    own_path(f, guest, i, slot ? "twin" : "device");
    return xenbus_backend_path(b, be, split->cls, guest->domid, split->devid);
}

/* Gone already is as good as removed. */
static int remove_path(struct daemon *d, store_txn t, const char *path)
{
    int rc = store_rm(d->store, t, path);

    return rc == -ENOENT ? 0 : rc;
}

/* Whom nodes are for. */
struct end {
    unsigned slot;
    domid_t be;
    bool standby;
    unsigned heartbeat_ms;
};

/* What both classes have first; then theirs; the state last. */
static void gather(const struct domain *guest, unsigned i, const struct end *end, const char *b,
                   const char *f, struct nodes *backend, struct nodes *frontend)
{
    const struct split *split = &guest->split[i];

    backend->n = frontend->n = 0;
    nodes_add(backend, "frontend", "%s", f);
    nodes_add(backend, "frontend-id", "%u", guest->domid);
    nodes_add(backend, "online", "1");
    nodes_add(backend, "dev", "%s", split->dev);
    if (end->standby)
        nodes_add(backend, "standby", "1");
    nodes_add(frontend, "backend", "%s", b);
    nodes_add(frontend, "backend-id", "%u", end->be);
    nodes_add(frontend, "dev", "%s", split->dev);
    nodes_add(frontend, "bulkhead-heartbeat-ms", "%u", end->heartbeat_ms);
    if (split_is_disk(i))
        vbd_nodes(guest, i, end->standby, backend, frontend);
    else
        vif_nodes(guest, i - FIRST_NIC, backend, frontend);
    nodes_add(backend, "state", "%d", XenbusStateInitialising);
    nodes_add(frontend, "state", "%d", XenbusStateInitialising);
}

/*
 * The frontend's directory is made anew as well: what it wrote for the old
 * backend (references, ports, its state) means nothing to the new one, and the
 * permissions must name the new one throughout.
 */
static int write_once(struct daemon *d, struct domain *guest, unsigned i, const struct end *end)
{
    static struct nodes backend, frontend; /* large; one thread */
    const struct split *split = &guest->split[i];
    char b[STORE_PATH_MAX], f[STORE_PATH_MAX], old[STORE_PATH_MAX];
    store_txn t;
    int rc = paths_of(guest, i, end->slot, end->be, b, f);

    if (!rc)
        rc = store_txn_begin(d->store, &t);
    if (rc)
        return rc;
    if (split->nodes_be[end->slot]) {
        rc = paths_of(guest, i, end->slot, split->nodes_be[end->slot], old, f);
        if (!rc)
            rc = remove_path(d, t, old);
        if (!rc)
            rc = remove_path(d, t, f);
    }
    gather(guest, i, end, b, f, &backend, &frontend);
    if (!rc)
        rc = write_directory(d, t, b, end->be, guest->domid, &backend);
    if (!rc)
        rc = write_directory(d, t, f, guest->domid, end->be, &frontend);
    if (rc) {
        store_txn_abort(d->store, t);
        return rc;
    }
    return store_txn_commit(d->store, t);
}

void split_is_live(struct daemon *d, const struct domain *guest, unsigned i)
{
    const struct split *split = &guest->split[i];
    char b[STORE_PATH_MAX], f[STORE_PATH_MAX];

    if (paths_of(guest, i, split->live, split->be, b, f))
        return;
    strncat(b, "/standby", STORE_PATH_MAX - 1 - strlen(b));
    remove_path(d, STORE_NO_TXN, b);
}

static int set_watch(struct daemon *d, const char *dir, const char *key, const char *token, bool on)
{
    char path[STORE_PATH_MAX];

    snprintf(path, sizeof(path), "%.200s%s%s", dir, *key ? "/" : "", key);
    return on ? store_watch(d->store, path, token) : store_unwatch(d->store, path, token);
}

static int watch_report(struct daemon *d, const struct domain *guest, unsigned i, bool on)
{
    char path[STORE_PATH_MAX], token[STORE_TOKEN_MAX];

    own_path(path, guest, i, "report");
    snprintf(token, sizeof(token), "%u/%u", guest->domid, i);
    return set_watch(d, path, "", token, on);
}

static int watch_nodes(struct daemon *d, const struct domain *guest, unsigned i, unsigned slot, bool on)
{
    char b[STORE_PATH_MAX], f[STORE_PATH_MAX], token[STORE_TOKEN_MAX];
    int rc = paths_of(guest, i, slot, guest->split[i].nodes_be[slot], b, f);

    snprintf(token, sizeof(token), "%u/%u", guest->domid, i);
    if (!rc)
        rc = set_watch(d, f, "state", token, on);
    if (!rc || !on)
        rc = set_watch(d, b, "error", token, on);
    if (!rc || !on)
        rc = set_watch(d, b, "state", token, on);
    return rc;
}

int split_watch(struct daemon *d, const struct domain *guest, unsigned i)
{
    int rc = guest->built ? watch_report(d, guest, i, true) : 0;

    for (unsigned slot = 0; !rc && slot < SLOTS; slot++)
        if (guest->split[i].nodes_be[slot])
            rc = watch_nodes(d, guest, i, slot, true);
    return rc;
}

int split_write_nodes(struct daemon *d, struct domain *guest, unsigned i, unsigned slot, domid_t be,
                      bool standby)
{
    struct split *split = &guest->split[i];
    const struct domain *driver = dom_find(d, split->backend);
    const struct end end = {.slot = slot,
                            .be = be,
                            .standby = standby,
                            .heartbeat_ms = driver ? driver->spec.heartbeat_ms : 0};
    int rc;

    if (split->nodes_be[slot])
        watch_nodes(d, guest, i, slot, false);
    for (int tries = 0; (rc = write_once(d, guest, i, &end)) == -EAGAIN && tries < TXN_TRIES; tries++)
        ;
    if (rc)
        return rc;
    split->nodes_be[slot] = be;
    if (slot == split->live)
        *split->error = '\0';
    return watch_nodes(d, guest, i, slot, true);
}

void split_remove_nodes(struct daemon *d, struct domain *guest, unsigned i, unsigned slot)
{
    struct split *split = &guest->split[i];
    char b[STORE_PATH_MAX], f[STORE_PATH_MAX];

    if (!split->nodes_be[slot])
        return;
    watch_nodes(d, guest, i, slot, false);
    if (!paths_of(guest, i, slot, split->nodes_be[slot], b, f)) {
        remove_path(d, STORE_NO_TXN, b);
        remove_path(d, STORE_NO_TXN, f);
        *strrchr(b, '/') = '\0'; /* .../vbd/FE: empty when this was its last one */
        if (store_directory(d->store, STORE_NO_TXN, b, f, sizeof(f)) == 0)
            remove_path(d, STORE_NO_TXN, b);
    }
    split->nodes_be[slot] = 0;
    if (slot == split->live)
        split->connected = false;
    else
        split->armed = false;
}

static unsigned read_state(struct daemon *d, const char *dir)
{
    uint64_t state;

    if (store_read_number(d->store, STORE_NO_TXN, dir, "state", XenbusStateReconfigured, &state))
        return XenbusStateUnknown;
    return (unsigned)state;
}

unsigned split_frontend_state(struct daemon *d, const struct domain *guest, unsigned i)
{
    const struct split *split = &guest->split[i];
    char b[STORE_PATH_MAX], f[STORE_PATH_MAX];

    if (paths_of(guest, i, split->live, split->nodes_be[split->live], b, f))
        return XenbusStateUnknown;
    return read_state(d, f);
}

unsigned split_standby_state(struct daemon *d, const struct domain *guest, unsigned i)
{
    const struct split *split = &guest->split[i];
    domid_t be = split->nodes_be[!split->live];
    char b[STORE_PATH_MAX], f[STORE_PATH_MAX];

    if (!be || paths_of(guest, i, !split->live, be, b, f))
        return XenbusStateUnknown;
    return read_state(d, b);
}

void split_backend_error(struct daemon *d, const struct domain *guest, unsigned i, char *out, size_t cap)
{
    const struct split *split = &guest->split[i];
    char b[STORE_PATH_MAX], f[STORE_PATH_MAX], value[STORE_VALUE_MAX];

    *out = '\0';
    if (paths_of(guest, i, split->live, split->nodes_be[split->live], b, f))
        return;
    strncat(b, "/error", STORE_PATH_MAX - 1 - strlen(b));
    if (store_read(d->store, STORE_NO_TXN, b, value, sizeof(value)) <= 0)
        return;
    snprintf(out, cap, "%s", value);
    policy_clean_text(out);
}

/* ------------------------------------------------- what the frontend reports */

int split_open_report(struct daemon *d, struct domain *guest, unsigned i)
{
    struct split *split = &guest->split[i];
    char path[STORE_PATH_MAX];
    int rc;

    split->stalled = split->lies = split->poisoned = split->timed_out = 0;
    own_path(path, guest, i, "report");
    rc = store_mkdir(d->store, STORE_NO_TXN, path);
    if (!rc)
        rc = set_owner(d, STORE_NO_TXN, path, guest->domid, 0);
    return rc ? rc : watch_report(d, guest, i, true);
}

void split_close_report(struct daemon *d, struct domain *guest, unsigned i)
{
    char path[STORE_PATH_MAX];

    own_path(path, guest, i, "report");
    watch_report(d, guest, i, false);
    remove_path(d, STORE_NO_TXN, path);
}

bool split_read_report(struct daemon *d, const struct domain *guest, unsigned i, const char *key,
                       char out[REPORT_MAX])
{
    char path[STORE_PATH_MAX];

    own_path(path, guest, i, "report");
    strncat(path, "/", STORE_PATH_MAX - 1 - strlen(path));
    strncat(path, key, STORE_PATH_MAX - 1 - strlen(path));
    if (store_read(d->store, STORE_NO_TXN, path, out, REPORT_MAX) <= 0)
        return false;
    policy_clean_text(out);
    return true;
}

/* ---------------------------------------------------------------------- homes */

int home_make(struct daemon *d, const char *name, domid_t domid)
{
    char home[STORE_PATH_MAX];
    int rc;

    snprintf(home, sizeof(home), "/local/domain/%u", domid);
    rc = store_mkdir(d->store, STORE_NO_TXN, home);
    if (!rc)
        rc = set_owner(d, STORE_NO_TXN, home, domid, 0);
    if (!rc)
        rc = store_printf(d->store, STORE_NO_TXN, home, "name", "%s", name);
    if (!rc)
        rc = store_printf(d->store, STORE_NO_TXN, home, "domid", "%u", domid);
    return rc;
}

void home_remove(struct daemon *d, domid_t domid)
{
    char home[STORE_PATH_MAX];

    if (!domid)
        return;
    snprintf(home, sizeof(home), "/local/domain/%u", domid);
    remove_path(d, STORE_NO_TXN, home);
}
