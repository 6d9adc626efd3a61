/* SPDX-License-Identifier: MIT */
#include "access.h"

#include <errno.h>

#include "count.h"
#include "watch.h"

/* A node as the client sees it. */
struct view {
    bool exists;
    const struct xsd_perms *perms;
    const struct xsd_blob *value;
    uint64_t generation;
    xsd_ref ref;             /* outside a transaction */
    struct xsd_entry *entry; /* inside */
};

static int look(struct xsd_ctx *x, const char *path, size_t len, struct view *v)
{
    *v = (struct view){0};
    if (x->txn) {
        int err = xsd_txn_see(x->txn, path, len, &v->entry);
        if (err)
            return err;
        v->exists = xsd_entry_exists(v->entry);
        v->perms = &v->entry->perms;
        v->value = &v->entry->value;
        v->generation = v->entry->generation;
        return 0;
    }
    v->ref = xsd_tree_find(path, len);
    if (v->ref) {
        const struct xsd_node *n = xsd_tree_node(v->ref);
        v->exists = true;
        v->perms = &n->perms;
        v->value = &n->value;
        v->generation = n->generation;
    }
    return 0;
}

/* 0: it exists and may be used so; -ENOENT: it does not, and may be known not
 * to; -EACCES. */
static int check(struct xsd_ctx *x, const struct xsd_path *path, unsigned need, struct view *v)
{
    int err = look(x, path->text, path->len, v);

    if (err)
        return err;
    if (v->exists && (xsd_may(v->perms, x->conn->domid) & need) == need)
        return 0;
    bool missing = !v->exists;
    struct view up = *v;
    for (size_t at = path->len; !err && !up.exists;) {
        at = xsd_path_parent(path->text, at);
        err = look(x, path->text, at, &up);
    }
    if (err)
        return err;
    if (missing && (xsd_may(up.perms, x->conn->domid) & need))
        return -ENOENT;
    xsd_count(XSD_COUNT_not_permitted);
    return -EACCES;
}

int xsd_read(struct xsd_ctx *x, const struct xsd_path *path, char *out)
{
    struct view v;
    int err = check(x, path, XSD_MAY_READ, &v);

    return err ? err : (int)xsd_blob_copy(v.value, out);
}

static bool is_dom0(const struct xsd_ctx *x)
{
    return x->conn->domid == 0;
}

/* The node exists now, with room for a value; or -ENOSPC and nothing changed. */
static int make(struct xsd_ctx *x, const struct xsd_path *path, size_t n, struct view *v)
{
    if (x->txn)
        return xsd_txn_make(x->txn, path, x->conn->domid, n, &v->entry);
    return xsd_tree_make(path, x->conn->domid, n, &v->ref);
}

static void changed(struct xsd_ctx *x, const struct xsd_path *path, xsd_ref ref,
                    const struct xsd_perms *before)
{
    if (!x->txn)
        xsd_watch_fire(path->text, path->len, &xsd_tree_node(ref)->perms, before);
}

static int set_value(struct xsd_ctx *x, struct view *v, const void *value, size_t n)
{
    if (x->txn)
        return xsd_txn_set_value(x->txn, v->entry, value, n);
    return xsd_tree_set_value(v->ref, value, n, is_dom0(x));
}

int xsd_write(struct xsd_ctx *x, const struct xsd_path *path, const void *value, size_t n)
{
    struct view v;
    int err = check(x, path, XSD_MAY_WRITE, &v);

    if (err && err != -ENOENT)
        return err;
    if (!is_dom0(x) && n > XSD_VALUE_GUEST) {
        xsd_count(XSD_COUNT_over_quota);
        return -ENOSPC;
    }
    if (err)
        err = make(x, path, n, &v);
    if (!err)
        err = set_value(x, &v, value, n);
    if (!err)
        changed(x, path, v.ref, NULL);
    return err;
}

int xsd_mkdir(struct xsd_ctx *x, const struct xsd_path *path)
{
    struct view v;
    int err = check(x, path, XSD_MAY_WRITE, &v);

    if (err != -ENOENT)
        return err;
    err = make(x, path, 0, &v);
    if (!err)
        changed(x, path, v.ref, NULL);
    return err;
}

int xsd_remove(struct xsd_ctx *x, const struct xsd_path *path)
{
    struct view v, parent;

    if (!path->len)
        return -EINVAL;
    int err = check(x, path, XSD_MAY_WRITE, &v);
    if (err == -ENOENT) {
        err = look(x, path->text, xsd_path_parent(path->text, path->len), &parent);
        return err ? err : parent.exists ? 0 : -ENOENT;
    }
    if (err)
        return err;
    if (x->txn)
        xsd_txn_remove(x->txn, v.entry);
    else
        xsd_tree_remove(v.ref, xsd_watch_gone);
    return 0;
}

int xsd_get_perms(struct xsd_ctx *x, const struct xsd_path *path, struct xsd_perms *out)
{
    struct view v;
    int err = check(x, path, XSD_MAY_READ, &v);

    if (!err)
        *out = *v.perms;
    return err;
}

int xsd_set_perms(struct xsd_ctx *x, const struct xsd_path *path, const struct xsd_perms *perms)
{
    struct view v;
    int err = check(x, path, XSD_MAY_WRITE | XSD_MAY_OWN, &v);

    if (err)
        return err;
    /* An owner cannot give its node, and what it costs, to another (XSA-352). */
    if (!is_dom0(x) && xsd_owner(perms) != xsd_owner(v.perms))
        return -EPERM;
    if (x->txn) {
        xsd_txn_set_perms(v.entry, perms);
        return 0;
    }
    struct xsd_perms before = *v.perms;
    err = xsd_tree_set_perms(v.ref, perms, is_dom0(x));
    if (!err)
        changed(x, path, v.ref, &before);
    return err;
}

int xsd_list(struct xsd_ctx *x, const struct xsd_path *path, uint64_t *generation,
             xsd_name_fn *fn, void *to)
{
    static char name[XSD_PATH_MAX];
    struct view v;
    int err = check(x, path, XSD_MAY_READ, &v);

    if (err)
        return err;
    *generation = v.generation;
    if (x->txn) {
        xsd_txn_list(x->txn, v.entry, fn, to);
        return 0;
    }
    for (xsd_ref c = xsd_tree_node(v.ref)->first_child; c; c = xsd_tree_node(c)->next)
        fn(to, name, xsd_blob_copy(&xsd_tree_node(c)->name, name));
    return 0;
}
