/* SPDX-License-Identifier: MIT */
#include "tree.h"

#include <errno.h>
#include <string.h>

#include "journal.h"

static struct xsd_node nodes[XSD_NODES + 1]; /* [0] stands for "none" */
static xsd_ref free_nodes;
static xsd_ref fresh_nodes; /* from here on never touched */
static uint64_t last_generation;

struct xsd_node *xsd_tree_node(xsd_ref ref)
{
    return &nodes[ref];
}

static void touch(xsd_ref ref)
{
    nodes[ref].generation = ++last_generation;
}

static struct xsd_account *account(xsd_ref ref)
{
    return xsd_account_of(xsd_owner(&nodes[ref].perms));
}

void xsd_tree_reset(void)
{
    free_nodes = XSD_NO_NODE;
    fresh_nodes = XSD_ROOT + 1;
    nodes[XSD_ROOT] = (struct xsd_node){.perms = {.n = 1}};
    (void)xsd_account_take(account(XSD_ROOT), XSD_NODE, 1, true); /* fits: the first node */
    touch(XSD_ROOT);
}

/* ------------------------------------------------------------------ look-up */

static xsd_ref child(xsd_ref parent, const char *name, size_t n)
{
    uint32_t hash = (uint32_t)xsd_hash(name, n);

    for (xsd_ref c = nodes[parent].first_child; c; c = nodes[c].next)
        if (nodes[c].name_hash == hash && xsd_blob_equal(&nodes[c].name, name, n))
            return c;
    return XSD_NO_NODE;
}

xsd_ref xsd_tree_nearest(const char *path, size_t len, size_t *found_len)
{
    xsd_ref at = XSD_ROOT;
    size_t done = 0;

    while (done < len) {
        size_t end = xsd_path_next(path, done, len);
        xsd_ref next = child(at, path + done + 1, end - done - 1);
        if (!next)
            break;
        at = next;
        done = end;
    }
    *found_len = done;
    return at;
}

xsd_ref xsd_tree_find(const char *path, size_t len)
{
    size_t found;
    xsd_ref at = xsd_tree_nearest(path, len, &found);

    return found == len ? at : XSD_NO_NODE;
}

void xsd_tree_path_of(xsd_ref ref, struct xsd_path *out)
{
    size_t len = 0;

    for (xsd_ref at = ref; at != XSD_ROOT; at = nodes[at].parent)
        len += 1 + nodes[at].name.bytes;
    out->len = len;
    out->cut = 0;
    out->text[len] = '\0';
    for (xsd_ref at = ref; at != XSD_ROOT; at = nodes[at].parent) {
        len -= nodes[at].name.bytes;
        xsd_blob_copy(&nodes[at].name, out->text + len);
        out->text[--len] = '/';
    }
}

/* ----------------------------------------------------------------- creation */

struct xsd_perms xsd_tree_inherit(const struct xsd_perms *parent, domid_t by)
{
    struct xsd_perms perms = *parent;

    if (by != 0)
        perms.p[0].domid = by;
    return perms;
}

static void link_child(xsd_ref parent, xsd_ref ref)
{
    struct xsd_node *p = &nodes[parent], *n = &nodes[ref];

    n->parent = parent;
    n->prev = p->last_child;
    n->next = XSD_NO_NODE;
    if (p->last_child)
        nodes[p->last_child].next = ref;
    else
        p->first_child = ref;
    p->last_child = ref;
    touch(parent);
}

static void unlink_child(xsd_ref ref)
{
    struct xsd_node *n = &nodes[ref], *p = &nodes[n->parent];

    *(n->prev ? &nodes[n->prev].next : &p->first_child) = n->next;
    *(n->next ? &nodes[n->next].prev : &p->last_child) = n->prev;
    touch(n->parent);
}

/* Makes the node at ref, which is in no list. -ENOSPC. */
static int fill(xsd_ref ref, xsd_ref parent, const char *name, size_t n, const struct xsd_perms *perms,
                bool slack)
{
    struct xsd_account *owner = xsd_account_of(xsd_owner(perms));
    struct xsd_blob name_blob;
    int err = xsd_account_take(owner, XSD_NODE, 1, slack);

    if (err)
        return err;
    err = xsd_blob_make(&name_blob, owner, slack, name, n);
    if (err) {
        xsd_account_give(owner, XSD_NODE, 1);
        return err;
    }
    nodes[ref] = (struct xsd_node){
        .name = name_blob, .name_hash = (uint32_t)xsd_hash(name, n), .perms = *perms};
    link_child(parent, ref);
    touch(ref);
    return 0;
}

int xsd_tree_add(xsd_ref parent, const char *name, size_t n, const struct xsd_perms *perms,
                 bool slack, xsd_ref *out)
{
    xsd_ref ref = free_nodes ? free_nodes : fresh_nodes;
    xsd_ref next = free_nodes ? nodes[ref].next : XSD_NO_NODE;
    int err = fill(ref, parent, name, n, perms, slack);

    if (err)
        return err;
    if (free_nodes)
        free_nodes = next;
    else
        fresh_nodes++; /* in range: the accounts' limits add up to XSD_NODES */
    *out = ref;
    xsd_journal_node(ref);
    return 0;
}

int xsd_tree_make(const struct xsd_path *path, domid_t by, size_t n, xsd_ref *out)
{
    size_t done;
    xsd_ref at = xsd_tree_nearest(path->text, path->len, &done);
    struct xsd_perms perms = xsd_tree_inherit(&nodes[at].perms, by);
    struct xsd_account *owner = xsd_account_of(xsd_owner(&perms));
    uint32_t missing = 0, blocks = xsd_blob_blocks(n);

    for (size_t from = done, end; from < path->len; from = end, missing++) {
        end = xsd_path_next(path->text, from, path->len);
        blocks += xsd_blob_blocks(end - from - 1);
    }
    /* Taken and given back at once: after that nothing below can fail. */
    int err = xsd_account_take(owner, XSD_NODE, missing, by == 0);
    if (err)
        return err;
    xsd_account_give(owner, XSD_NODE, missing);
    err = xsd_account_take(owner, XSD_BLOCK, blocks, by == 0);
    if (err)
        return err;
    xsd_account_give(owner, XSD_BLOCK, blocks);

    while (!err && done < path->len) {
        size_t end = xsd_path_next(path->text, done, path->len);
        err = xsd_tree_add(at, path->text + done + 1, end - done - 1, &perms, by == 0, &at);
        done = end;
    }
    *out = at;
    return err;
}

/* ------------------------------------------------------------------- change */

int xsd_tree_set_value(xsd_ref ref, const void *bytes, size_t n, bool slack)
{
    struct xsd_account *owner = account(ref);
    uint32_t before = xsd_blob_blocks(nodes[ref].value.bytes), after = xsd_blob_blocks(n);

    if (after > before) {
        int err = xsd_account_take(owner, XSD_BLOCK, after - before, slack);
        if (err)
            return err;
        xsd_account_give(owner, XSD_BLOCK, after - before);
    }
    xsd_blob_free(&nodes[ref].value, owner);
    touch(ref);
    int err = xsd_blob_make(&nodes[ref].value, owner, true, bytes, n); /* fits: seen above */
    xsd_journal_value(ref);
    return err;
}

void xsd_tree_take_value(xsd_ref ref, struct xsd_blob *value, struct xsd_account *from)
{
    xsd_blob_free(&nodes[ref].value, account(ref));
    xsd_blob_move(value, from, account(ref));
    nodes[ref].value = *value;
    *value = (struct xsd_blob){0};
    touch(ref);
    xsd_journal_value(ref);
}

static int change_perms(xsd_ref ref, const struct xsd_perms *perms, bool slack)
{
    struct xsd_node *n = &nodes[ref];
    struct xsd_account *from = account(ref), *to = xsd_account_of(xsd_owner(perms));

    if (from != to) {
        uint32_t blocks = xsd_blob_blocks(n->name.bytes) + xsd_blob_blocks(n->value.bytes);
        int err = xsd_account_take(to, XSD_NODE, 1, slack);
        if (err)
            return err;
        err = xsd_account_take(to, XSD_BLOCK, blocks, slack);
        if (err) {
            xsd_account_give(to, XSD_NODE, 1);
            return err;
        }
        xsd_account_give(from, XSD_NODE, 1);
        xsd_account_give(from, XSD_BLOCK, blocks);
    }
    n->perms = *perms;
    touch(ref);
    return 0;
}

int xsd_tree_set_perms(xsd_ref ref, const struct xsd_perms *perms, bool slack)
{
    int err = change_perms(ref, perms, slack);

    if (!err)
        xsd_journal_perms(ref);
    return err;
}

/* ------------------------------------------------------------------ removal */

static void free_node(xsd_ref ref)
{
    struct xsd_node *n = &nodes[ref];
    struct xsd_account *owner = account(ref);

    unlink_child(ref);
    xsd_blob_free(&n->name, owner);
    xsd_blob_free(&n->value, owner);
    xsd_account_give(owner, XSD_NODE, 1);
    *n = (struct xsd_node){.next = free_nodes};
    free_nodes = ref;
}

static void remove_all(xsd_ref top, xsd_gone_fn *gone)
{
    static struct xsd_path path;
    xsd_ref at = top;

    xsd_tree_path_of(top, &path);
    for (;;) {
        while (nodes[at].first_child) {
            at = nodes[at].first_child;
            path.text[path.len++] = '/';
            path.len += xsd_blob_copy(&nodes[at].name, path.text + path.len);
        }
        gone(path.text, path.len, &nodes[at].perms, at == top);
        xsd_ref parent = nodes[at].parent;
        path.len -= 1 + nodes[at].name.bytes;
        free_node(at);
        if (at == top)
            return;
        at = parent;
    }
}

void xsd_tree_remove(xsd_ref top, xsd_gone_fn *gone)
{
    xsd_journal_removal(top);
    remove_all(top, gone);
}

void xsd_tree_purge(domid_t domid, xsd_gone_fn *gone)
{
    struct xsd_node *root = &nodes[XSD_ROOT];

    if (xsd_owner(&root->perms) == domid) {
        struct xsd_perms perms = {.n = 1};
        (void)change_perms(XSD_ROOT, &perms, true);
    }
    for (xsd_ref ref = XSD_ROOT; ref < fresh_nodes; ref++) {
        if (!nodes[ref].perms.n)
            continue;
        if (xsd_owner(&nodes[ref].perms) == domid)
            remove_all(ref, gone);
        else if (xsd_perms_strip(&nodes[ref].perms, domid))
            touch(ref);
    }
}

/* -------------------------------------------------------------- restoration */

void xsd_tree_age(uint32_t life)
{
    uint64_t first = (uint64_t)life << 40;

    last_generation = last_generation < first ? first : last_generation;
    touch(XSD_ROOT);
}

bool xsd_tree_has(xsd_ref ref)
{
    return ref && ref < fresh_nodes && nodes[ref].perms.n;
}

int xsd_tree_restore(xsd_ref ref, xsd_ref parent, const char *name, size_t n,
                     const struct xsd_perms *perms)
{
    if (ref > XSD_NODES || ref <= XSD_ROOT || xsd_tree_has(ref) || !xsd_tree_has(parent))
        return -EBADMSG;
    while (fresh_nodes <= ref)
        nodes[fresh_nodes++].perms.n = 0;
    return fill(ref, parent, name, n, perms, true) ? -EBADMSG : 0;
}

void xsd_tree_restored(void)
{
    free_nodes = XSD_NO_NODE;
    for (xsd_ref ref = fresh_nodes - 1; ref > XSD_ROOT; ref--) {
        if (nodes[ref].perms.n)
            continue;
        nodes[ref] = (struct xsd_node){.next = free_nodes};
        free_nodes = ref;
    }
}
