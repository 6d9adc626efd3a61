/* SPDX-License-Identifier: MIT */
#include "journal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../proto.h"

#define MAGIC   UINT64_C(0x65726f7473686b62) /* "bkhstore" */
#define VERSION 1u /* one more whenever a record, or what it means, changes */

struct head {
    uint64_t magic; /* written last when the journal begins */
    uint64_t bytes;
    uint32_t version;
    uint32_t life;  /* processes that used it, this one included */
    uint64_t tip;   /* see there */
};

/* Which half, the sum at its end, and how much of it counts. */
#define TIP_HALF   (UINT64_C(1) << 63)
#define TIP_SUM    (UINT64_C(0x7fffffff) << 32)
#define TIP_COUNTS UINT64_C(0xffffffff)
#define HEAD_BYTES 4096u
#define HALF_BYTES ((STORE_JOURNAL_BYTES - HEAD_BYTES) / 2)
#define GROWTH_MIN (256u << 10) /* a half may grow by this beyond twice the tree */

enum kind {
    END = 1, /* of a request's records: ref and parent are the sum of all up to here */
    NODE,    /* permissions, name, value; what it is below of comes before it */
    VALUE,
    PERMS,
    REMOVAL, /* with all below */
    DOMAIN,  /* ref is a domid, here and below: there is this domain */
    PURGE,
};

/* One change: this, permissions as words, name, value, zeros up to the next word. */
struct record {
    uint32_t bytes; /* without the zeros at its end */
    uint8_t kind;
    uint8_t perms;  /* how many */
    uint16_t name;  /* bytes */
    uint32_t ref, parent;
};

#define WORD         8u
#define RECORD_MAX   (sizeof(struct record) + XSD_PERMS_MAX * 4 + WORD) /* but for name and value */
#define SNAPSHOT_MAX (XSD_NODES * (uint64_t)RECORD_MAX + XSD_BLOCKS * (uint64_t)XSD_BLOCK_DATA + \
                      (CORE_DOMAINS_MAX + 4) * (uint64_t)RECORD_MAX)

_Static_assert(sizeof(struct record) == 2 * WORD, "a record is whole words");
_Static_assert(HALF_BYTES % WORD == 0 && sizeof(struct head) <= HEAD_BYTES, "halves are whole words");
_Static_assert(SNAPSHOT_MAX <= HALF_BYTES, "the largest tree fits in a half");

static struct {
    uint8_t *base; /* NULL: no journal, or it is being read */
    unsigned half;
    uint64_t at;     /* where the next record goes                                 */
    uint64_t counts; /* what the tip says                                          */
    uint64_t sum;    /* of what counts                                             */
    uint64_t limit;  /* past this the tree goes into the other half                */
    bool full;       /* a record found no room: the tree itself must be written    */
} journal;

static struct head *head(void)
{
    return (struct head *)(void *)journal.base;
}

static uint8_t *half_at(uint8_t *base, unsigned half)
{
    return base + HEAD_BYTES + half * HALF_BYTES;
}

static uint64_t padded(uint64_t bytes)
{
    return (bytes + WORD - 1) / WORD * WORD;
}

/* Finds damage, not intent. Each sum begins with the one before, so a group that
 * is missing or twice there shows as well. */
static uint64_t add_words(uint64_t sum, const uint8_t *from, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i += WORD) {
        uint64_t word;
        memcpy(&word, from + i, WORD);
        sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        sum ^= sum >> 29;
    }
    return sum;
}

/* ------------------------------------------------------------------ writing */

static void append(enum kind kind, uint32_t ref, uint32_t parent, const struct xsd_perms *perms,
                   const struct xsd_blob *name, const struct xsd_blob *value)
{
    struct record r = {.bytes = sizeof(r), .kind = (uint8_t)kind, .ref = ref, .parent = parent};

    r.perms = perms ? perms->n : 0;
    r.name = name ? (uint16_t)name->bytes : 0;
    r.bytes += r.perms * 4u + r.name + (value ? value->bytes : 0);
    uint64_t end = journal.at + padded(r.bytes) + sizeof(r); /* of END, should it come next */
    journal.full = journal.full || end > HALF_BYTES;
    if (journal.full)
        return;
    uint8_t *to = half_at(journal.base, journal.half) + journal.at;
    memset(to + padded(r.bytes) - WORD, 0, WORD);
    memcpy(to, &r, sizeof(r));
    to += sizeof(r);
    for (unsigned i = 0; i < r.perms; i++, to += 4) {
        uint32_t word = perms->p[i].domid | (uint32_t)perms->p[i].may << 16;
        memcpy(to, &word, 4);
    }
    if (name)
        to += xsd_blob_copy(name, to);
    if (value)
        xsd_blob_copy(value, to);
    journal.at += padded(r.bytes);
}

static void append_node(xsd_ref ref)
{
    const struct xsd_node *n = xsd_tree_node(ref);

    append(NODE, ref, n->parent, &n->perms, &n->name, &n->value);
}

static struct record end_with(uint64_t sum)
{
    return (struct record){.bytes = sizeof(struct record), .kind = END, .ref = (uint32_t)sum,
                           .parent = (uint32_t)(sum >> 32)};
}

/* All records since the last END count from here on: one store. */
static void publish(void)
{
    uint8_t *to = half_at(journal.base, journal.half);
    uint64_t sum = add_words(journal.sum, to + journal.counts, journal.at - journal.counts);
    struct record end = end_with(sum);

    memcpy(to + journal.at, &end, sizeof(end));
    journal.at += sizeof(end);
    journal.sum = sum;
    journal.counts = journal.at;
    uint64_t tip = journal.counts | (sum & TIP_SUM) | (journal.half ? TIP_HALF : 0);
    __atomic_store_n(&head()->tip, tip, __ATOMIC_RELEASE);
}

void xsd_journal_node(xsd_ref ref)
{
    if (journal.base)
        append_node(ref);
}

void xsd_journal_value(xsd_ref ref)
{
    if (journal.base)
        append(VALUE, ref, 0, NULL, NULL, &xsd_tree_node(ref)->value);
}

void xsd_journal_perms(xsd_ref ref)
{
    if (journal.base)
        append(PERMS, ref, 0, &xsd_tree_node(ref)->perms, NULL, NULL);
}

static void append_number(enum kind kind, uint32_t number)
{
    if (journal.base)
        append(kind, number, 0, NULL, NULL, NULL);
}

void xsd_journal_removal(xsd_ref top)
{
    append_number(REMOVAL, top);
}

void xsd_journal_domain(domid_t domid)
{
    append_number(DOMAIN, domid);
}

void xsd_journal_purge(domid_t domid)
{
    append_number(PURGE, domid);
}

/* A parent before its children, and these in their order. */
static void append_tree(void)
{
    xsd_ref at = XSD_ROOT;

    xsd_journal_perms(XSD_ROOT);
    xsd_journal_value(XSD_ROOT);
    while (at) {
        xsd_ref next = xsd_tree_node(at)->first_child;
        while (!next && at != XSD_ROOT) {
            next = xsd_tree_node(at)->next;
            if (!next)
                at = xsd_tree_node(at)->parent;
        }
        if (next)
            append_node(next);
        at = next;
    }
}

/* Nothing of what counts is touched before the tip moves. */
void xsd_journal_compact(void)
{
    if (!journal.base)
        return;
    journal.half = !journal.half;
    journal.at = journal.counts = journal.sum = 0;
    journal.full = false;
    for (unsigned i = 1; i < CORE_DOMAINS_MAX; i++)
        if (xsd_account_at(i)->open)
            append(DOMAIN, xsd_account_at(i)->domid, 0, NULL, NULL, NULL);
    append_tree();
    publish();
    journal.limit = 2 * journal.counts + GROWTH_MIN;
}

void xsd_journal_commit(void)
{
    if (!journal.base || (journal.at == journal.counts && !journal.full))
        return;
    if (!journal.full)
        publish();
    if (journal.full || journal.counts > journal.limit)
        xsd_journal_compact();
}

/* ------------------------------------------------------------------ reading */

/* A record that was checked to lie in what counts. */
struct reader {
    struct record r;
    struct xsd_perms perms;
    const char *name;
    const uint8_t *value;
    size_t value_len;
};

static bool take_perms(struct reader *in, const uint8_t *from)
{
    in->perms.n = in->r.perms;
    for (unsigned i = 0; i < in->r.perms; i++) {
        uint32_t word;
        memcpy(&word, from + 4 * i, 4);
        if (word >> 16 > (XSD_MAY_READ | XSD_MAY_WRITE))
            return false;
        in->perms.p[i] = (struct xsd_perm){.domid = (domid_t)word, .may = (uint8_t)(word >> 16)};
    }
    return in->r.perms == 0 || xsd_account_of(xsd_owner(&in->perms));
}

static bool split(struct reader *in, const uint8_t *from)
{
    memcpy(&in->r, from, sizeof(in->r));
    uint64_t parts = sizeof(in->r) + 4u * in->r.perms + in->r.name;
    if (in->r.perms > XSD_PERMS_MAX || parts > in->r.bytes)
        return false;
    in->name = (const char *)from + sizeof(in->r) + 4u * in->r.perms;
    in->value = from + parts;
    in->value_len = in->r.bytes - parts;
    return in->value_len <= XENSTORE_PAYLOAD_MAX && in->r.name <= XSD_PATH_MAX &&
           take_perms(in, from + sizeof(in->r));
}

static void forget(const char *path, size_t len, const struct xsd_perms *perms, bool top)
{
    (void)path;
    (void)len;
    (void)perms;
    (void)top;
}

static int purge(uint32_t domid)
{
    if (!domid || !xsd_account_of(domid))
        return -EBADMSG;
    xsd_tree_purge((domid_t)domid, forget);
    xsd_account_close((domid_t)domid);
    return 0;
}

static int apply(const struct reader *in)
{
    xsd_ref ref = in->r.ref;
    int err;

    switch (in->r.kind) {
    case NODE:
        if (!in->perms.n || !in->r.name)
            return -EBADMSG;
        err = xsd_tree_restore(ref, in->r.parent, in->name, in->r.name, &in->perms);
        return err || !in->value_len ? err : xsd_tree_set_value(ref, in->value, in->value_len, true);
    case VALUE:
        return xsd_tree_has(ref) ? xsd_tree_set_value(ref, in->value, in->value_len, true) : -EBADMSG;
    case PERMS:
        return xsd_tree_has(ref) && in->perms.n ? xsd_tree_set_perms(ref, &in->perms, true) : -EBADMSG;
    case REMOVAL:
        if (!xsd_tree_has(ref) || ref == XSD_ROOT)
            return -EBADMSG;
        xsd_tree_remove(ref, forget);
        return 0;
    case DOMAIN: return ref <= LOCAL_DOMID_LAST ? xsd_account_open((domid_t)ref) : -EBADMSG;
    case PURGE: return purge(ref);
    default: return -EBADMSG;
    }
}

/* Where the END of the group is that begins at `at`, when the group is what was
 * written; otherwise `counts`. */
static uint64_t find_end(const uint8_t *half, uint64_t at, uint64_t counts, uint64_t *sum)
{
    uint64_t begin = at;
    struct record r;

    for (; counts - at >= sizeof(r); at += padded(r.bytes)) {
        memcpy(&r, half + at, sizeof(r));
        if (r.bytes < sizeof(r) || padded(r.bytes) > counts - at)
            return counts;
        if (r.kind != END)
            continue;
        *sum = add_words(*sum, half + begin, at - begin);
        struct record end = end_with(*sum);
        return memcmp(&r, &end, sizeof(r)) == 0 ? at : counts;
    }
    return counts;
}

static int replay(const uint8_t *half, uint64_t counts, uint64_t *sum)
{
    struct reader in;

    for (uint64_t at = 0; at < counts; at += sizeof(in.r)) {
        uint64_t end = find_end(half, at, counts, sum);
        if (end == counts)
            return -EBADMSG;
        for (; at < end; at += padded(in.r.bytes))
            if (!split(&in, half + at) || apply(&in))
                return -EBADMSG;
    }
    return 0;
}

/* --------------------------------------------------------------------- open */

/* NULL: *err says why. */
static uint8_t *map(int fd, int *err)
{
    struct stat st = {0};

    *err = fstat(fd, &st) < 0 ? -errno : st.st_size != STORE_JOURNAL_BYTES ? -EINVAL : 0;
    if (*err)
        return NULL;
    void *at = mmap(NULL, STORE_JOURNAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    *err = at == MAP_FAILED ? -errno : 0;
    return *err ? NULL : at;
}

static void begin(struct head *h)
{
    h->bytes = STORE_JOURNAL_BYTES;
    h->version = VERSION;
    h->life = 0;
    __atomic_store_n(&h->magic, MAGIC, __ATOMIC_RELEASE);
}

static int read_all(uint8_t *base)
{
    struct head *h = (struct head *)(void *)base;

    if (h->magic == 0 && h->tip == 0)
        begin(h);
    if (h->magic == MAGIC && h->version != VERSION)
        return -EPROTO;
    uint64_t counts = h->tip & TIP_COUNTS, sum = 0;
    if (h->magic != MAGIC || h->bytes != STORE_JOURNAL_BYTES || counts > HALF_BYTES || counts % WORD)
        return -EBADMSG;
    journal.half = h->tip >> 63;
    xsd_tree_age(h->life + 1);
    int err = replay(half_at(base, journal.half), counts, &sum);
    xsd_tree_restored();
    if (err || (sum & TIP_SUM) != (h->tip & TIP_SUM))
        return -EBADMSG;
    h->life++;
    journal.base = base;
    xsd_journal_compact();
    return 0;
}

static const char *sentence(int err)
{
    switch (err) {
    case -EINVAL: return "the journal (descriptor 5) is not memory of the size that the store uses";
    case -EPROTO:
        return "the journal is of another version: end bulkheadd and all domains, then start it again";
    case -EBADMSG: return "the journal is damaged: end bulkheadd and all domains, then start it again";
    default: return "the journal (descriptor 5) cannot be mapped";
    }
}

int xsd_journal_open(int fd, const char **why)
{
    int err;

    xsd_journal_close();
    uint8_t *base = map(fd, &err);
    close(fd);
    if (base)
        err = read_all(base);
    if (!err)
        return 0;
    if (base)
        munmap(base, STORE_JOURNAL_BYTES);
    *why = sentence(err);
    return err;
}

void xsd_journal_close(void)
{
    if (journal.base)
        munmap(journal.base, STORE_JOURNAL_BYTES);
    journal.base = NULL;
}

uint32_t xsd_journal_life(void)
{
    return journal.base ? head()->life : 0;
}
