/* SPDX-License-Identifier: MIT */
#include "txn.h"

#include <errno.h>
#include <string.h>

#include "count.h"
#include "watch.h"

/* What an entry says. */
#define SEEN    1u  /* generation was read from the tree: commit checks it    */
#define EXISTS  2u  /* in the transaction's view                              */
#define CREATED 4u  /* by the transaction: not in the tree below its view     */
#define REMOVED 8u  /* by the transaction: the tree's node, with all below    */
#define VALUE   16u /* written                                                */
#define PERMS   32u /* written                                                */

struct xsd_txn {
    uint32_t id; /* 0: unused slot */
    uint32_t next; /* of the same connection */
    uint32_t first, last; /* entries */
    domid_t domid;
    bool doomed;
};

#define BUCKETS 8192u

static struct xsd_txn txns[XSD_TXNS + 1]; /* [0] stands for "none", here and below */
static struct xsd_entry entries[XSD_ENTRIES + 1];
static uint32_t buckets[BUCKETS];
static uint32_t free_txns, fresh_txns, free_entries, fresh_entries, last_id;

void xsd_txn_reset(void)
{
    memset(buckets, 0, sizeof(buckets));
    free_txns = free_entries = last_id = 0;
    fresh_txns = fresh_entries = 1;
}

static struct xsd_account *account(const struct xsd_txn *t)
{
    return xsd_account_of(t->domid);
}

static uint32_t index_of(const struct xsd_txn *t)
{
    return (uint32_t)(t - txns);
}

/* ------------------------------------------------------------------ entries */

static uint32_t *bucket_of(uint32_t txn, uint64_t hash)
{
    return &buckets[((hash ^ hash >> 32) + txn * 2654435761u) % BUCKETS];
}

static struct xsd_entry *find(const struct xsd_txn *t, uint64_t hash, const char *path, size_t len)
{
    for (uint32_t i = *bucket_of(index_of(t), hash); i; i = entries[i].hash_next) {
        struct xsd_entry *e = &entries[i];
        if (e->txn == index_of(t) && e->hash == hash && xsd_blob_equal(&e->path, path, len))
            return e;
    }
    return NULL;
}

static void append(struct xsd_txn *t, uint32_t i)
{
    entries[i].prev = t->last;
    entries[i].next = 0;
    *(t->last ? &entries[t->last].next : &t->first) = i;
    t->last = i;
}

static void unlink_entry(struct xsd_txn *t, uint32_t i)
{
    struct xsd_entry *e = &entries[i];

    *(e->prev ? &entries[e->prev].next : &t->first) = e->next;
    *(e->next ? &entries[e->next].prev : &t->last) = e->prev;
}

static void free_entry(struct xsd_txn *t, uint32_t i)
{
    struct xsd_entry *e = &entries[i];

    unlink_entry(t, i);
    *(e->hash_prev ? &entries[e->hash_prev].hash_next : bucket_of(e->txn, e->hash)) = e->hash_next;
    if (e->hash_next)
        entries[e->hash_next].hash_prev = e->hash_prev;
    xsd_blob_free(&e->path, account(t));
    xsd_blob_free(&e->value, account(t));
    xsd_account_give(account(t), XSD_ENTRY, 1);
    *e = (struct xsd_entry){.next = free_entries};
    free_entries = i;
}

/* A new entry, linked everywhere, for a path that has none. -ENOSPC. */
static int add_entry(struct xsd_txn *t, uint64_t hash, const char *path, size_t len, struct xsd_entry **out)
{
    struct xsd_account *a = account(t);
    struct xsd_entry e = {.hash = hash, .txn = index_of(t)};
    int err = xsd_account_take(a, XSD_ENTRY, 1, false);

    if (err)
        return err;
    err = xsd_blob_make(&e.path, a, false, path, len);
    if (err) {
        xsd_account_give(a, XSD_ENTRY, 1);
        return err;
    }
    uint32_t i = free_entries;
    if (i)
        free_entries = entries[i].next;
    else
        i = fresh_entries++; /* in range: the accounts' limits add up to XSD_ENTRIES */
    uint32_t *bucket = bucket_of(e.txn, hash);
    e.hash_next = *bucket;
    if (e.hash_next)
        entries[e.hash_next].hash_prev = i;
    *bucket = i;
    entries[i] = e;
    append(t, i);
    *out = &entries[i];
    return 0;
}

bool xsd_entry_exists(const struct xsd_entry *e)
{
    return e->flags & EXISTS;
}

/* The transaction removed the node that the tree has here, or one above. */
static bool is_hidden(const struct xsd_txn *t, const char *path, size_t len, struct xsd_entry **self)
{
    uint64_t hash = xsd_hash_start();
    bool hidden = false;

    *self = find(t, hash, path, 0);
    for (size_t at = 0, end; at < len; at = end) {
        end = xsd_path_next(path, at, len);
        hash = xsd_hash_add(hash, path + at, end - at);
        *self = find(t, hash, path, end);
        hidden |= *self && ((*self)->flags & REMOVED);
    }
    return hidden;
}

int xsd_txn_see(struct xsd_txn *t, const char *path, size_t len, struct xsd_entry **out)
{
    static char value[XENSTORE_PAYLOAD_MAX];
    bool hidden = is_hidden(t, path, len, out);

    if (*out)
        return 0;
    int err = add_entry(t, xsd_hash(path, len), path, len, out);
    if (err || hidden)
        return err;
    struct xsd_entry *e = *out;
    e->flags = SEEN;
    xsd_ref ref = xsd_tree_find(path, len);
    if (!ref)
        return 0;
    const struct xsd_node *n = xsd_tree_node(ref);
    err = xsd_blob_make(&e->value, account(t), false, value, xsd_blob_copy(&n->value, value));
    if (err) {
        free_entry(t, (uint32_t)(e - entries));
        return err;
    }
    e->flags |= EXISTS;
    e->perms = n->perms;
    e->generation = n->generation;
    return 0;
}

/* ------------------------------------------------------------------- writes */

/* An entry that does not exist comes into being.  It moves to the end, so a
 * parent always comes before the children made below it. */
static void create(struct xsd_txn *t, struct xsd_entry *e, const struct xsd_perms *perms)
{
    uint32_t i = (uint32_t)(e - entries);

    unlink_entry(t, i);
    append(t, i);
    e->flags |= EXISTS | CREATED;
    e->perms = *perms;
}

int xsd_txn_make(struct xsd_txn *t, const struct xsd_path *path, domid_t by, size_t n,
                 struct xsd_entry **out)
{
    size_t at = path->len;
    int err;

    /* Up to the nearest that exists; so every entry is there before the first
     * of them changes. */
    while (!(err = xsd_txn_see(t, path->text, at, out)) && !((*out)->flags & EXISTS))
        at = xsd_path_parent(path->text, at);
    if (!err && !xsd_account_fits(account(t), XSD_BLOCK, xsd_blob_blocks(n), false))
        err = -ENOSPC;
    if (err)
        return err;
    struct xsd_perms perms = xsd_tree_inherit(&(*out)->perms, by);
    while (at < path->len) {
        at = xsd_path_next(path->text, at, path->len);
        *out = find(t, xsd_hash(path->text, at), path->text, at);
        create(t, *out, &perms);
    }
    return 0;
}

int xsd_txn_set_value(struct xsd_txn *t, struct xsd_entry *e, const void *bytes, size_t n)
{
    struct xsd_blob value;
    int err = xsd_blob_make(&value, account(t), false, bytes, n);

    if (err)
        return err;
    xsd_blob_free(&e->value, account(t));
    e->value = value;
    e->flags |= VALUE;
    return 0;
}

void xsd_txn_set_perms(struct xsd_entry *e, const struct xsd_perms *perms)
{
    e->perms = *perms;
    e->flags |= PERMS;
}

static void forget(struct xsd_txn *t, struct xsd_entry *e)
{
    xsd_blob_free(&e->value, account(t));
    e->flags &= ~(EXISTS | CREATED | VALUE | PERMS);
}

void xsd_txn_remove(struct xsd_txn *t, struct xsd_entry *e)
{
    static char path[XSD_PATH_MAX], other[XSD_PATH_MAX];
    size_t len = xsd_blob_copy(&e->path, path);

    if (!(e->flags & CREATED))
        e->flags |= REMOVED;
    forget(t, e);
    for (uint32_t i = t->first; i; i = entries[i].next) {
        size_t n = entries[i].path.bytes;
        if (n > len && xsd_path_is_below(path, len, other, xsd_blob_copy(&entries[i].path, other)))
            forget(t, &entries[i]);
    }
}

void xsd_txn_list(struct xsd_txn *t, const struct xsd_entry *e, xsd_name_fn *fn, void *to)
{
    static char path[XSD_PATH_MAX + 1];
    size_t len = xsd_blob_copy(&e->path, path);
    struct xsd_entry *self;
    uint64_t hash = xsd_hash_add(e->hash, "/", 1);

    path[len] = '/';
    if (!(e->flags & CREATED) && !is_hidden(t, path, len, &self)) {
        xsd_ref ref = xsd_tree_find(path, len);
        for (ref = ref ? xsd_tree_node(ref)->first_child : 0; ref; ref = xsd_tree_node(ref)->next) {
            size_t n = xsd_blob_copy(&xsd_tree_node(ref)->name, path + len + 1);
            self = find(t, xsd_hash_add(hash, path + len + 1, n), path, len + 1 + n);
            if (!self || (self->flags & (EXISTS | CREATED)) == EXISTS)
                fn(to, path + len + 1, n);
        }
    }
    for (uint32_t i = t->first; i; i = entries[i].next) {
        if (!(entries[i].flags & CREATED) || entries[i].path.bytes <= len)
            continue;
        static char other[XSD_PATH_MAX];
        size_t n = xsd_blob_copy(&entries[i].path, other);
        if (xsd_path_parent(other, n) == len && !memcmp(other, path, len))
            fn(to, other + len + 1, n - len - 1);
    }
}

/* ----------------------------------------------------------- start and end */

int xsd_txn_start(struct xsd_conn *c, uint32_t *id)
{
    int err = xsd_account_take(xsd_account_of(c->domid), XSD_TXN, 1, false);

    if (err)
        return err;
    uint32_t i = free_txns;
    if (i)
        free_txns = txns[i].next;
    else
        i = fresh_txns++; /* in range: the accounts' limits add up to XSD_TXNS */
    do
        last_id++;
    while (!last_id || xsd_txn_find(c, last_id));
    txns[i] = (struct xsd_txn){.id = last_id, .next = c->txns, .domid = c->domid};
    c->txns = i;
    *id = last_id;
    return 0;
}

struct xsd_txn *xsd_txn_find(struct xsd_conn *c, uint32_t id)
{
    for (uint32_t i = c->txns; i; i = txns[i].next)
        if (txns[i].id == id)
            return &txns[i];
    return NULL;
}

void xsd_txn_abort(struct xsd_conn *c, struct xsd_txn *t)
{
    uint32_t *link = &c->txns;

    while (t->first)
        free_entry(t, t->first);
    while (*link != index_of(t))
        link = &txns[*link].next;
    *link = t->next;
    xsd_account_give(account(t), XSD_TXN, 1);
    *t = (struct xsd_txn){.next = free_txns};
    free_txns = (uint32_t)(t - txns);
}

void xsd_txn_abort_all(struct xsd_conn *c)
{
    while (c->txns)
        xsd_txn_abort(c, &txns[c->txns]);
}

void xsd_txn_purge(domid_t domid)
{
    for (uint32_t i = 1; i < fresh_txns; i++)
        for (uint32_t e = txns[i].id ? txns[i].first : 0; e; e = entries[e].next)
            if ((entries[e].flags & EXISTS) && xsd_perms_name(&entries[e].perms, domid))
                txns[i].doomed = true;
}

/* ------------------------------------------------------------------- commit */

static char commit_path[XSD_PATH_MAX];

static bool conflicts(const struct xsd_txn *t)
{
    for (uint32_t i = t->first; i; i = entries[i].next) {
        const struct xsd_entry *e = &entries[i];
        if (!(e->flags & SEEN))
            continue;
        xsd_ref ref = xsd_tree_find(commit_path, xsd_blob_copy(&e->path, commit_path));
        if ((ref ? xsd_tree_node(ref)->generation : 0) != e->generation)
            return true;
    }
    return t->doomed;
}

/*
 * Whether every owner has room for what it will own.  Counted on the safe
 * side: nothing is taken off for what the same commit frees.
 */
static bool fits(const struct xsd_txn *t)
{
    static uint32_t more_nodes[CORE_DOMAINS_MAX], more_blocks[CORE_DOMAINS_MAX];
    bool slack = t->domid == 0;

    memset(more_nodes, 0, sizeof(more_nodes));
    memset(more_blocks, 0, sizeof(more_blocks));
    for (uint32_t i = t->first; i; i = entries[i].next) {
        const struct xsd_entry *e = &entries[i];
        if (!(e->flags & EXISTS) || !(e->flags & (CREATED | VALUE | PERMS)))
            continue;
        size_t len = xsd_blob_copy(&e->path, commit_path);
        size_t name = len ? len - xsd_path_parent(commit_path, len) - 1 : 0;
        struct xsd_account *owner = xsd_account_of(xsd_owner(&e->perms));
        unsigned slot = xsd_account_slot(owner);
        const struct xsd_node *old = xsd_tree_node(xsd_tree_find(commit_path, len));

        more_blocks[slot] += xsd_blob_blocks(e->value.bytes);
        if ((e->flags & CREATED) || xsd_owner(&old->perms) != xsd_owner(&e->perms)) {
            more_nodes[slot]++;
            more_blocks[slot] += xsd_blob_blocks(name) +
                                 (e->flags & CREATED ? 0 : xsd_blob_blocks(old->value.bytes));
        }
        if (!xsd_account_fits(owner, XSD_NODE, more_nodes[slot], slack) ||
            !xsd_account_fits(owner, XSD_BLOCK, more_blocks[slot], slack))
            return false;
    }
    return true;
}

/* Cannot fail after conflicts() and fits(); hence no results. */
static void apply(struct xsd_txn *t, struct xsd_entry *e)
{
    size_t len = xsd_blob_copy(&e->path, commit_path);
    xsd_ref ref = xsd_tree_find(commit_path, len);
    struct xsd_perms before = e->perms;

    if (e->flags & CREATED) {
        size_t up = xsd_path_parent(commit_path, len);
        (void)xsd_tree_add(xsd_tree_find(commit_path, up), commit_path + up + 1, len - up - 1,
                           &e->perms, true, &ref);
    } else if (e->flags & PERMS) {
        before = xsd_tree_node(ref)->perms;
        (void)xsd_tree_set_perms(ref, &e->perms, true);
    }
    if (e->flags & (CREATED | VALUE))
        xsd_tree_take_value(ref, &e->value, account(t));
    xsd_watch_fire(commit_path, len, &e->perms, &before);
}

int xsd_txn_commit(struct xsd_conn *c, struct xsd_txn *t)
{
    int err = conflicts(t) ? -EAGAIN : fits(t) ? 0 : -ENOSPC;

    for (uint32_t i = err ? 0 : t->first; i; i = entries[i].next) {
        size_t len = xsd_blob_copy(&entries[i].path, commit_path);
        xsd_ref ref = entries[i].flags & REMOVED ? xsd_tree_find(commit_path, len) : 0;
        if (ref)
            xsd_tree_remove(ref, xsd_watch_gone);
    }
    for (uint32_t i = err ? 0 : t->first; i; i = entries[i].next)
        if ((entries[i].flags & EXISTS) && (entries[i].flags & (CREATED | VALUE | PERMS)))
            apply(t, &entries[i]);
    if (err)
        xsd_count(err == -EAGAIN ? XSD_COUNT_txn_conflicts : XSD_COUNT_over_quota);
    c->conflicts = err == -EAGAIN ? c->conflicts + 1 : 0;
    xsd_txn_abort(c, t);
    return err;
}
