/* SPDX-License-Identifier: MIT */
#include "watch.h"

#include <errno.h>
#include <string.h>

#include "count.h"

struct watch {
    uint32_t next, prev;       /* of the same connection, newest first        */
    uint32_t hash_next, hash_prev; /* of the same bucket; prev 0: first       */
    uint64_t hash;
    struct xsd_blob path, token;
    uint16_t cut; /* bytes to take off in front when telling of a path        */
    uint16_t conn;
    bool missed; /* an event found no room: owes one for the watched path     */
};

#define BUCKETS 4096u

static struct watch watches[XSD_WATCHES + 1]; /* [0] stands for "none" */
static uint32_t buckets[BUCKETS];
static uint32_t free_watches, fresh_watches;

void xsd_watch_reset(void)
{
    memset(buckets, 0, sizeof(buckets));
    free_watches = 0;
    fresh_watches = 1;
}

static uint32_t *bucket_of(uint64_t hash)
{
    return &buckets[(hash ^ hash >> 32) % BUCKETS];
}

/* ------------------------------------------------------------- add, remove */

static uint32_t find(const struct xsd_conn *c, const struct xsd_path *path, const char *token, size_t n)
{
    for (uint32_t i = c->watches; i; i = watches[i].next)
        if (xsd_blob_equal(&watches[i].path, path->text, path->len) &&
            xsd_blob_equal(&watches[i].token, token, n))
            return i;
    return 0;
}

static void insert(struct xsd_conn *c, uint32_t i)
{
    struct watch *w = &watches[i];
    uint32_t *bucket = bucket_of(w->hash);

    w->next = c->watches;
    if (w->next)
        watches[w->next].prev = i;
    c->watches = i;
    w->hash_next = *bucket;
    if (w->hash_next)
        watches[w->hash_next].hash_prev = i;
    *bucket = i;
}

int xsd_watch_add(struct xsd_conn *c, const struct xsd_path *path, const char *token, size_t n)
{
    struct xsd_account *a = xsd_account_of(c->domid);
    struct watch w = {.hash = xsd_hash(path->text, path->len),
                      .cut = (uint16_t)path->cut,
                      .conn = (uint16_t)xsd_conn_index(c)};

    if (n > XSD_TOKEN_MAX)
        return -E2BIG;
    if (find(c, path, token, n))
        return -EEXIST;
    int err = xsd_account_take(a, XSD_WATCH, 1, false);
    if (err)
        return err;
    err = xsd_blob_make(&w.path, a, false, path->text, path->len);
    if (err)
        goto no_path;
    err = xsd_blob_make(&w.token, a, false, token, n);
    if (err)
        goto no_token;

    uint32_t i = free_watches;
    if (i)
        free_watches = watches[i].next;
    else
        i = fresh_watches++; /* in range: the accounts' limits add up to XSD_WATCHES */
    watches[i] = w;
    insert(c, i);
    return 0;
no_token:
    xsd_blob_free(&w.path, a);
no_path:
    xsd_account_give(a, XSD_WATCH, 1);
    return err;
}

static void drop(struct xsd_conn *c, uint32_t i)
{
    struct watch *w = &watches[i];
    struct xsd_account *a = xsd_account_of(c->domid);

    *(w->prev ? &watches[w->prev].next : &c->watches) = w->next;
    if (w->next)
        watches[w->next].prev = w->prev;
    *(w->hash_prev ? &watches[w->hash_prev].hash_next : bucket_of(w->hash)) = w->hash_next;
    if (w->hash_next)
        watches[w->hash_next].hash_prev = w->hash_prev;
    c->missed -= w->missed;
    xsd_blob_free(&w->path, a);
    xsd_blob_free(&w->token, a);
    xsd_account_give(a, XSD_WATCH, 1);
    *w = (struct watch){.next = free_watches};
    free_watches = i;
}

int xsd_watch_remove(struct xsd_conn *c, const struct xsd_path *path, const char *token, size_t n)
{
    uint32_t i = find(c, path, token, n);

    if (!i)
        return -ENOENT;
    drop(c, i);
    return 0;
}

void xsd_watch_drop_all(struct xsd_conn *c)
{
    while (c->watches)
        drop(c, c->watches);
}

/* -------------------------------------------------------------------- tell */

static void tell(struct watch *w, const char *path, size_t len)
{
    struct xsd_conn *c = xsd_conn_at(w->conn);
    bool sent;

    /* An event that is owed says more than this one would. */
    if (w->missed)
        sent = false;
    else if (len == 0)
        sent = xsd_conn_event(c, "/", 1, &w->token);
    else
        sent = xsd_conn_event(c, path + w->cut, len - w->cut, &w->token);
    if (sent)
        return;
    xsd_count(XSD_COUNT_events_merged);
    c->missed += !w->missed;
    w->missed = true;
}

static void tell_watched(struct watch *w)
{
    static char path[XSD_PATH_MAX];

    tell(w, path, xsd_blob_copy(&w->path, path));
}

void xsd_watch_begin(struct xsd_conn *c)
{
    tell_watched(&watches[c->watches]);
}

void xsd_watch_resend(struct xsd_conn *c)
{
    for (uint32_t i = c->watches; i && c->missed; i = watches[i].next) {
        struct watch *w = &watches[i];
        if (!w->missed)
            continue;
        w->missed = false;
        c->missed--;
        tell_watched(w);
        if (w->missed)
            return;
    }
}

/* Tells the watches on exactly path[0..at) about path[0..len). */
static void fire_at(uint64_t hash, size_t at, const char *path, size_t len,
                    const struct xsd_perms *now, const struct xsd_perms *before)
{
    for (uint32_t i = *bucket_of(hash); i; i = watches[i].hash_next) {
        struct watch *w = &watches[i];
        domid_t who = xsd_conn_at(w->conn)->domid;

        if (w->hash == hash && (xsd_may_read(now, who) || xsd_may_read(before, who)) &&
            xsd_blob_equal(&w->path, path, at))
            tell(w, path, len);
    }
}

void xsd_watch_fire(const char *path, size_t len, const struct xsd_perms *now,
                    const struct xsd_perms *before)
{
    uint64_t hash = xsd_hash_start();

    fire_at(hash, 0, path, len, now, before);
    for (size_t at = 0, end; at < len; at = end) {
        end = xsd_path_next(path, at, len);
        hash = xsd_hash_add(hash, path + at, end - at);
        fire_at(hash, end, path, len, now, before);
    }
}

void xsd_watch_gone(const char *path, size_t len, const struct xsd_perms *perms, bool top)
{
    if (top)
        xsd_watch_fire(path, len, perms, NULL);
    else
        fire_at(xsd_hash(path, len), len, path, len, perms, NULL);
}

void xsd_watch_fire_special(const char *name)
{
    static const struct xsd_perms dom0_only = {.n = 1};
    size_t n = strlen(name);

    fire_at(xsd_hash(name, n), n, name, n, &dom0_only, NULL);
}
