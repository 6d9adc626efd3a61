/* SPDX-License-Identifier: MIT */
#include "storelink.h"

#include <stdio.h>
#include <string.h>

static struct link_part text_part(const char *s)
{
    return (struct link_part){s, strlen(s) + 1};
}

static int ask_path(struct store *st, uint32_t type, store_txn t, const char *path)
{
    struct link_part parts[] = {text_part(path)};

    return link_ask(st, type, t, parts, 1);
}

/* ---------------------------------------------------------- reads, writes */

int store_read(struct store *st, store_txn t, const char *path, char *buf, size_t cap)
{
    int err = ask_path(st, XS_READ, t, path);

    if (err)
        return err;
    if (st->reply_len >= cap)
        return -E2BIG;
    if (memchr(st->reply, '\0', st->reply_len))
        return -EILSEQ;
    memcpy(buf, st->reply, st->reply_len + 1);
    return (int)st->reply_len;
}

int store_write(struct store *st, store_txn t, const char *path, const char *value)
{
    struct link_part parts[] = {text_part(path), {value, strlen(value)}};

    return link_ask(st, XS_WRITE, t, parts, 2);
}

int store_mkdir(struct store *st, store_txn t, const char *path)
{
    return ask_path(st, XS_MKDIR, t, path);
}

int store_rm(struct store *st, store_txn t, const char *path)
{
    int err = ask_path(st, XS_RM, t, path);

    return err == -ENOENT && st->repeated ? 0 : err; /* it was the first time */
}

static int count_names(const char *names, size_t len)
{
    int n = 0;

    for (size_t i = 0; i < len; i++)
        n += names[i] == '\0';
    return n;
}

#define DIRECTORY_TRIES 16

/* A list longer than one message comes in parts.  The generation in front of
 * each part tells whether the directory changed in between; the last part
 * ends with an empty name. */
static int directory_parts(struct store *st, store_txn t, const char *path, char *buf, size_t cap)
{
    char generation[24] = "", offset[24];
    size_t got = 0;

    for (int tries = 0; tries < DIRECTORY_TRIES;) {
        snprintf(offset, sizeof(offset), "%zu", got);
        struct link_part parts[] = {text_part(path), text_part(offset)};
        int err = link_ask(st, XS_DIRECTORY_PART, t, parts, 2);
        if (err)
            return err;
        size_t head = strlen(st->reply) + 1;
        if (head > sizeof(generation) || head >= st->reply_len)
            return link_break(st);
        if (got && strcmp(generation, st->reply) != 0) {
            got = 0;
            tries++;
            continue;
        }
        memcpy(generation, st->reply, head);
        const char *names = st->reply + head;
        size_t len = st->reply_len - head;
        bool last = len == 1 || names[len - 2] == '\0';
        len -= last;
        if (len > cap - got)
            return -E2BIG;
        memcpy(buf + got, names, len);
        got += len;
        if (last)
            return count_names(buf, got);
    }
    return -EAGAIN;
}

int store_directory(struct store *st, store_txn t, const char *path, char *buf, size_t cap)
{
    int err = ask_path(st, XS_DIRECTORY, t, path);

    if (err == -E2BIG)
        return directory_parts(st, t, path, buf, cap);
    if (err)
        return err;
    if (st->reply_len > cap)
        return -E2BIG;
    memcpy(buf, st->reply, st->reply_len);
    return count_names(buf, st->reply_len);
}

static int join(char out[STORE_PATH_MAX], const char *dir, const char *key)
{
    int n = snprintf(out, STORE_PATH_MAX, "%s/%s", dir, key);

    return n < 0 || n >= STORE_PATH_MAX ? -ENAMETOOLONG : 0;
}

/* Decimal digits and nothing else: no sign, no blank, no other base. */
static int parse_number(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;

    if (!*text)
        return -EINVAL;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -EINVAL;
        uint64_t digit = (uint64_t)(*text - '0');
        if (v > (max - digit) / 10 || digit > max)
            return -EINVAL;
        v = v * 10 + digit;
    }
    *out = v;
    return 0;
}

int store_read_number(struct store *st, store_txn t, const char *dir, const char *key,
                      uint64_t max, uint64_t *out)
{
    char path[STORE_PATH_MAX], text[24];
    int n = join(path, dir, key);

    if (!n)
        n = store_read(st, t, path, text, sizeof(text));
    if (n == -E2BIG || n == -EILSEQ)
        return -EINVAL;
    return n < 0 ? n : parse_number(text, max, out);
}

int store_printf(struct store *st, store_txn t, const char *dir, const char *key, const char *fmt, ...)
{
    char path[STORE_PATH_MAX], value[STORE_VALUE_MAX];
    va_list ap;
    int err = join(path, dir, key);

    if (err)
        return err;
    va_start(ap, fmt);
    int n = vsnprintf(value, sizeof(value), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(value))
        return -E2BIG;
    return store_write(st, t, path, value);
}

#define PERM_TEXT 8 /* a letter, five digits, NUL */
#define PERMS_ASK 16

int store_set_perms(struct store *st, store_txn t, const char *path,
                    const struct store_perm *perms, unsigned n)
{
    char text[PERMS_ASK][PERM_TEXT];
    struct link_part parts[1 + PERMS_ASK] = {text_part(path)};

    if (!n || n > PERMS_ASK)
        return -EINVAL;
    for (unsigned i = 0; i < n; i++) {
        snprintf(text[i], PERM_TEXT, "%c%u", perms[i].access, perms[i].domid);
        parts[1 + i] = text_part(text[i]);
    }
    return link_ask(st, XS_SET_PERMS, t, parts, 1 + n);
}

/* ------------------------------------------------------------------ watches */

static int ask_watch(struct store *st, uint32_t type, const char *path, const char *token)
{
    struct link_part parts[] = {text_part(path), text_part(token)};

    if (strlen(path) >= STORE_PATH_MAX || strlen(token) >= STORE_TOKEN_MAX)
        return -ENAMETOOLONG;
    return link_ask(st, type, STORE_NO_TXN, parts, 2);
}

int store_watch(struct store *st, const char *path, const char *token)
{
    int err = link_room_for_watch(st);

    if (!err)
        err = ask_watch(st, XS_WATCH, path, token);
    if (!err)
        link_add_watch(st, path, token);
    return err;
}

int store_unwatch(struct store *st, const char *path, const char *token)
{
    int err = ask_watch(st, XS_UNWATCH, path, token);

    if (!err)
        link_drop_watch(st, path, token);
    return err;
}

/* ------------------------------------------------------------- transactions */

int store_txn_begin(struct store *st, store_txn *t)
{
    uint64_t id;
    struct link_part none = text_part("");
    int err = link_room_for_txn(st);

    if (!err)
        err = link_ask(st, XS_TRANSACTION_START, STORE_NO_TXN, &none, 1);
    if (err)
        return err;
    if (parse_number(st->reply, UINT32_MAX, &id) || id == STORE_NO_TXN)
        return link_break(st);
    *t = link_add_txn(st, (uint32_t)id);
    return 0;
}

static int txn_end(struct store *st, store_txn t, const char *how)
{
    struct link_part part = text_part(how);
    int err = link_ask(st, XS_TRANSACTION_END, t, &part, 1);

    link_end_txn(st, t);
    return err;
}

int store_txn_commit(struct store *st, store_txn t)
{
    return txn_end(st, t, "T");
}

void store_txn_abort(struct store *st, store_txn t)
{
    if (link_has_txn(st, t))
        (void)txn_end(st, t, "F");
}
