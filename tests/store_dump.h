/* SPDX-License-Identifier: MIT */
/*
 * store_dump.h - all that a store keeps, as one text: every node in its order
 * with its permissions and its value, and every domain.  Two stores with the
 * same dump are the same for everyone.
 */
#ifndef BULKHEAD_TESTS_STORE_DUMP_H
#define BULKHEAD_TESTS_STORE_DUMP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../hyp-shim/local/proto.h"
#include "../hyp-shim/local/store/journal.h"

/* Memory as the toolstack makes it for the store. */
static inline int store_journal_new(void)
{
    int fd = memfd_create("journal", MFD_CLOEXEC);

    if (fd >= 0 && ftruncate(fd, STORE_JOURNAL_BYTES) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static inline void store_dump_node(FILE *to, xsd_ref ref)
{
    static char value[XENSTORE_PAYLOAD_MAX], perms[XSD_PERMS_TEXT];
    static struct xsd_path path;
    const struct xsd_node *n = xsd_tree_node(ref);
    size_t bytes = xsd_blob_copy(&n->value, value);

    xsd_tree_path_of(ref, &path);
    fprintf(to, "/%s", path.len ? path.text + 1 : "");
    size_t len = xsd_perms_print(&n->perms, perms);
    for (size_t i = 0; i < len; i += strlen(perms + i) + 1)
        fprintf(to, " %s", perms + i);
    fprintf(to, " =%zu ", bytes);
    for (size_t i = 0; i < bytes; i++)
        fprintf(to, value[i] > ' ' && value[i] < 127 ? "%c" : "\\%02x", (unsigned char)value[i]);
    fputc('\n', to);
}

/* The next node in order; 0 after the last. */
static inline xsd_ref store_dump_next(xsd_ref at)
{
    xsd_ref next = xsd_tree_node(at)->first_child;

    while (!next && at != XSD_ROOT) {
        next = xsd_tree_node(at)->next;
        at = next ? at : xsd_tree_node(at)->parent;
    }
    return next;
}

static inline int store_dump_by_domid(const void *a, const void *b)
{
    return (int)*(const domid_t *)a - (int)*(const domid_t *)b;
}

/* To be freed. */
static inline char *store_dump(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);

    if (!to)
        abort();
    for (xsd_ref at = XSD_ROOT; at; at = store_dump_next(at))
        store_dump_node(to, at);
    domid_t domids[CORE_DOMAINS_MAX];
    size_t n = 0;
    for (unsigned i = 0; i < CORE_DOMAINS_MAX; i++)
        if (xsd_account_at(i)->open)
            domids[n++] = xsd_account_at(i)->domid;
    qsort(domids, n, sizeof(domids[0]), store_dump_by_domid);
    for (size_t i = 0; i < n; i++)
        fprintf(to, "domain %u\n", domids[i]);
    if (fclose(to))
        abort();
    return text;
}

/* True: each domain is charged for its nodes, and for nothing else. */
static inline bool store_charges_nodes_only(void)
{
    static uint32_t nodes[CORE_DOMAINS_MAX], blocks[CORE_DOMAINS_MAX];
    bool right = true;

    memset(nodes, 0, sizeof(nodes));
    memset(blocks, 0, sizeof(blocks));
    for (xsd_ref at = XSD_ROOT; at; at = store_dump_next(at)) {
        const struct xsd_node *n = xsd_tree_node(at);
        unsigned slot = xsd_account_slot(xsd_account_of(xsd_owner(&n->perms)));
        nodes[slot]++;
        blocks[slot] += xsd_blob_blocks(n->name.bytes) + xsd_blob_blocks(n->value.bytes);
    }
    for (unsigned i = 0; i < CORE_DOMAINS_MAX; i++) {
        const struct xsd_account *a = xsd_account_at(i);
        for (int kind = 0; a->open && kind < XSD_KINDS; kind++)
            right &= a->used[kind] == (kind == XSD_NODE ? nodes[i] : kind == XSD_BLOCK ? blocks[i] : 0);
    }
    return right;
}

#endif
