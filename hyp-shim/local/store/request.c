/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "access.h"
#include "count.h"
#include "journal.h"
#include "request.h"
#include "watch.h"

/* One request in work. */
struct request {
    struct xsd_ctx x;
    const struct xsd_sockmsg *h;
    const char *payload;
    size_t len;
    bool starts_watch; /* send its first event after the reply */
    size_t reply_len;  /* stays 0: "OK" */
    char reply[XENSTORE_PAYLOAD_MAX];
};

static domid_t sender(const struct request *r)
{
    return r->x.conn->domid;
}

static int bad_payload(void)
{
    xsd_count(XSD_COUNT_bad_payload);
    return -EINVAL;
}

/*
 * Splits the payload into exactly n strings, each with its NUL, in place.
 * With rest != NULL whatever follows them is left there, any bytes.
 */
struct text {
    const char *s;
    size_t n;
};

static int split(struct request *r, struct text *out, unsigned n, struct text *rest)
{
    size_t at = 0;

    for (unsigned i = 0; i < n; i++) {
        const char *nul = memchr(r->payload + at, '\0', r->len - at);
        if (!nul)
            return bad_payload();
        out[i] = (struct text){r->payload + at, (size_t)(nul - r->payload) - at};
        at += out[i].n + 1;
    }
    if (rest)
        *rest = (struct text){r->payload + at, r->len - at};
    else if (at != r->len)
        return bad_payload();
    return 0;
}

static int get_path(struct request *r, struct xsd_path *path)
{
    struct text t;
    int err = split(r, &t, 1, NULL);

    return err ? err : xsd_path_parse(path, t.s, t.n, sender(r));
}

static void say(struct request *r, const char *text)
{
    r->reply_len = strlen(text) + 1;
    memcpy(r->reply, text, r->reply_len);
}

/* Large, and one request at a time: not on the stack. */
static struct xsd_path the_path;

/* ------------------------------------------------------------------- nodes */

static int do_read(struct request *r)
{
    int n = get_path(r, &the_path);

    if (!n)
        n = xsd_read(&r->x, &the_path, r->reply);
    if (n < 0)
        return n;
    r->reply_len = (size_t)n;
    return 1; /* the reply is r->reply even when it is empty */
}

static int do_write(struct request *r)
{
    struct text t, value;
    int err = split(r, &t, 1, &value);

    if (!err)
        err = xsd_path_parse(&the_path, t.s, t.n, sender(r));
    return err ? err : xsd_write(&r->x, &the_path, value.s, value.n);
}

static int do_mkdir(struct request *r)
{
    int err = get_path(r, &the_path);

    return err ? err : xsd_mkdir(&r->x, &the_path);
}

static int do_rm(struct request *r)
{
    int err = get_path(r, &the_path);

    return err ? err : xsd_remove(&r->x, &the_path);
}

/* Collects the bytes of a list of names from `skip` on, whole names at the end. */
struct names {
    char *out;
    size_t cap, used;
    size_t skip, total;
    bool full;
};

static void add_name(void *to, const char *name, size_t n)
{
    struct names *l = to;
    size_t from = l->skip > l->total ? l->skip - l->total : 0;

    l->total += n + 1;
    if (from > n)
        return;
    l->full |= n - from + 1 > l->cap - l->used;
    if (l->full)
        return;
    memcpy(l->out + l->used, name + from, n - from);
    l->used += n - from;
    l->out[l->used++] = '\0';
}

static int do_directory(struct request *r)
{
    struct names l = {.out = r->reply, .cap = sizeof(r->reply)};
    uint64_t generation;
    int err = get_path(r, &the_path);

    if (!err)
        err = xsd_list(&r->x, &the_path, &generation, add_name, &l);
    if (err)
        return err;
    r->reply_len = l.used;
    return l.full ? -E2BIG : 1;
}

/* "generation\0", names from an offset on; one more NUL after the last. */
static int do_directory_part(struct request *r)
{
    char generation[24];
    struct text t[2];
    uint64_t number;
    uint32_t offset;
    int err = split(r, t, 2, NULL);

    if (!err)
        err = xsd_path_parse(&the_path, t[0].s, t[0].n, sender(r));
    if (err)
        return err;
    if (xsd_number_parse(t[1].s, t[1].n, UINT32_MAX, &offset))
        return bad_payload();
    /* The list goes where the longest generation would leave it room. */
    struct names l = {.out = r->reply + sizeof(generation),
                      .cap = sizeof(r->reply) - sizeof(generation) - 1,
                      .skip = offset};
    err = xsd_list(&r->x, &the_path, &number, add_name, &l);
    if (err)
        return err;
    size_t n = (size_t)snprintf(generation, sizeof(generation), "%" PRIu64, number) + 1;
    memcpy(r->reply, generation, n);
    memmove(r->reply + n, l.out, l.used);
    r->reply_len = n + l.used;
    if (!l.full)
        r->reply[r->reply_len++] = '\0';
    return 1;
}

static int do_get_perms(struct request *r)
{
    struct xsd_perms perms;
    int err = get_path(r, &the_path);

    if (!err)
        err = xsd_get_perms(&r->x, &the_path, &perms);
    if (err)
        return err;
    r->reply_len = xsd_perms_print(&perms, r->reply);
    return 1;
}

static int do_set_perms(struct request *r)
{
    struct xsd_perms perms;
    struct text t, rest;
    int err = split(r, &t, 1, &rest);

    if (!err)
        err = xsd_path_parse(&the_path, t.s, t.n, sender(r));
    if (err)
        return err;
    err = xsd_perms_parse(&perms, rest.s, rest.n, sender(r));
    if (err) {
        xsd_count(XSD_COUNT_bad_perms);
        return err;
    }
    return xsd_set_perms(&r->x, &the_path, &perms);
}

/* ----------------------------------------------------------------- watches */

static int get_watch(struct request *r, struct text *token)
{
    struct text t[2] = {{0}}, reserved;
    int err = split(r, t, 2, &reserved);

    if (!err)
        err = xsd_path_parse_watch(&the_path, t[0].s, t[0].n, sender(r));
    *token = t[1];
    return err;
}

static int do_watch(struct request *r)
{
    struct text token;
    int err = get_watch(r, &token);

    if (!err)
        err = xsd_watch_add(r->x.conn, &the_path, token.s, token.n);
    r->starts_watch = !err;
    return err;
}

static int do_unwatch(struct request *r)
{
    struct text token;
    int err = get_watch(r, &token);

    return err ? err : xsd_watch_remove(r->x.conn, &the_path, token.s, token.n);
}

/* Also legal inside a transaction, which it ends (CVE-2026-23557). */
static int do_reset_watches(struct request *r)
{
    xsd_watch_drop_all(r->x.conn);
    xsd_txn_abort_all(r->x.conn);
    return 0;
}

/* ------------------------------------------------------------ transactions */

static int do_transaction_start(struct request *r)
{
    char text[12];
    uint32_t id;

    if (r->x.txn)
        return -EBUSY;
    int err = xsd_txn_start(r->x.conn, &id);
    if (err)
        return err;
    snprintf(text, sizeof(text), "%" PRIu32, id);
    say(r, text);
    return 0;
}

static int do_transaction_end(struct request *r)
{
    struct text how;
    int err = split(r, &how, 1, NULL);

    if (err)
        return err;
    if (how.n != 1 || (how.s[0] != 'T' && how.s[0] != 'F'))
        return bad_payload();
    if (!r->x.txn) {
        xsd_count(XSD_COUNT_bad_txn);
        return -ENOENT;
    }
    if (how.s[0] == 'T')
        return xsd_txn_commit(r->x.conn, r->x.txn);
    xsd_txn_abort(r->x.conn, r->x.txn);
    return 0;
}

/* ----------------------------------------------------------------- domains */

static int get_domid(struct request *r, uint32_t *domid)
{
    struct text t;
    int err = split(r, &t, 1, NULL);

    if (err)
        return err;
    return xsd_number_parse(t.s, t.n, UINT16_MAX, domid) ? bad_payload() : 0;
}

static int do_get_domain_path(struct request *r)
{
    char path[32];
    uint32_t domid;
    int err = get_domid(r, &domid);

    if (err)
        return err;
    snprintf(path, sizeof(path), "/local/domain/%" PRIu32, domid);
    say(r, path);
    return 0;
}

/* Which other domains there are is not for guests to know. */
static int do_is_domain_introduced(struct request *r)
{
    uint32_t domid;
    int err = get_domid(r, &domid);

    if (err)
        return err;
    if (sender(r) != 0 && domid != sender(r)) {
        xsd_count(XSD_COUNT_not_privileged);
        return -EACCES;
    }
    say(r, xsd_account_of(domid) ? "T" : "F");
    return 0;
}

static int do_control(struct request *r)
{
    struct text command, rest;
    int err = split(r, &command, 1, &rest);

    if (err)
        return err;
    if (!strcmp(command.s, "help")) {
        say(r, "counters\nhelp\n");
    } else if (!strcmp(command.s, "counters")) {
        r->reply_len = xsd_count_print(r->reply, sizeof(r->reply)) + 1;
        r->reply[r->reply_len - 1] = '\0';
    } else {
        return -EINVAL;
    }
    return 0;
}

/* Domains come and go through the core alone; no target, no resume here. */
static int do_not_here(struct request *r)
{
    (void)r;
    return -ENOSYS;
}

/* ---------------------------------------------------------------- dispatch */

static const struct {
    int (*serve)(struct request *); /* NULL: no such request. 0 or 1: reply    */
    bool in_txn;                    /* tx_id counts; else it is ignored        */
    bool dom0;                      /* refused to everyone else                */
    bool writes;
} calls[XS_TYPE_COUNT] = {
    [XS_CONTROL] = {.serve = do_control, .dom0 = true},
    [XS_DIRECTORY] = {.serve = do_directory, .in_txn = true},
    [XS_READ] = {.serve = do_read, .in_txn = true},
    [XS_GET_PERMS] = {.serve = do_get_perms, .in_txn = true},
    [XS_WATCH] = {.serve = do_watch},
    [XS_UNWATCH] = {.serve = do_unwatch},
    [XS_TRANSACTION_START] = {.serve = do_transaction_start, .in_txn = true},
    [XS_TRANSACTION_END] = {.serve = do_transaction_end, .in_txn = true, .writes = true},
    [XS_INTRODUCE] = {.serve = do_not_here, .dom0 = true},
    [XS_RELEASE] = {.serve = do_not_here, .dom0 = true},
    [XS_GET_DOMAIN_PATH] = {.serve = do_get_domain_path},
    [XS_WRITE] = {.serve = do_write, .in_txn = true, .writes = true},
    [XS_MKDIR] = {.serve = do_mkdir, .in_txn = true, .writes = true},
    [XS_RM] = {.serve = do_rm, .in_txn = true, .writes = true},
    [XS_SET_PERMS] = {.serve = do_set_perms, .in_txn = true, .writes = true},
    [XS_IS_DOMAIN_INTRODUCED] = {.serve = do_is_domain_introduced},
    [XS_RESUME] = {.serve = do_not_here, .dom0 = true},
    [XS_SET_TARGET] = {.serve = do_not_here, .dom0 = true},
    [XS_RESET_WATCHES] = {.serve = do_reset_watches},
    [XS_DIRECTORY_PART] = {.serve = do_directory_part, .in_txn = true},
};

bool xsd_request_writes(const struct xsd_sockmsg *h)
{
    return h->type < XS_TYPE_COUNT && calls[h->type].writes;
}

static int serve(struct request *r)
{
    const struct xsd_sockmsg *h = r->h;

    if (h->type >= XS_TYPE_COUNT || !calls[h->type].serve) {
        xsd_count(XSD_COUNT_bad_type);
        return -ENOSYS;
    }
    if (calls[h->type].dom0 && sender(r) != 0) {
        xsd_count(XSD_COUNT_not_privileged);
        return -EACCES;
    }
    if (calls[h->type].in_txn && h->tx_id) {
        r->x.txn = xsd_txn_find(r->x.conn, h->tx_id);
        if (!r->x.txn) {
            xsd_count(XSD_COUNT_bad_txn);
            return -ENOENT;
        }
    }
    return calls[h->type].serve(r);
}

static const char *error_name(int err)
{
    for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++)
        if (xsd_errors[i].errnum == -err)
            return xsd_errors[i].errstring;
    return "EINVAL";
}

void xsd_request(struct xsd_conn *c, const struct xsd_sockmsg *h, const char *payload)
{
    static struct request r;

    r.x = (struct xsd_ctx){.conn = c};
    r.h = h;
    r.payload = payload;
    r.len = h->len;
    r.starts_watch = false;
    r.reply_len = 0;
    xsd_count(XSD_COUNT_requests);

    int result = serve(&r);
    xsd_journal_commit(); /* what an error left done as well */
    if (result < 0) {
        const char *name = error_name(result);
        xsd_conn_reply(c, XS_ERROR, h->req_id, h->tx_id, name, strlen(name) + 1);
        return;
    }
    if (result == 0 && !r.reply_len)
        say(&r, "OK");
    xsd_conn_reply(c, h->type, h->req_id, h->tx_id, r.reply, r.reply_len);
    if (r.starts_watch)
        xsd_watch_begin(c);
}
