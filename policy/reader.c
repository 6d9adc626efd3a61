/* SPDX-License-Identifier: MIT */
/* reader.c - from bytes to a tree, and how the tree is asked. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <libxml/parser.h>
#include <libxml/SAX2.h>

#include <libxml/xmlerror.h>
#include "reader.h"

int reader_refuse(struct reader *r, long line, const char *fmt, ...)
{
    int n = snprintf(r->err, POLICY_ERR_MAX, "%.200s:%ld: ", r->file, line);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(r->err + n, POLICY_ERR_MAX - (size_t)n, fmt, ap);
    va_end(ap);
    policy_clean_text(r->err);
    return -EINVAL;
}

void reader_note(struct reader *r, long line, const char *fmt, ...)
{
    char text[POLICY_NOTE_MAX / 2], *slot;
    va_list ap;

    if (!r->notes || r->notes->n >= POLICY_NOTES_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    policy_clean_text(text);
    for (unsigned i = 0; i < r->notes->n; i++) {
        const char *old = strstr(r->notes->text[i], ": note: ");

        if (old && !strcmp(old + 8, text))
            return;
    }
    slot = r->notes->text[r->notes->n++];
    snprintf(slot, POLICY_NOTE_MAX, "%.90s:%ld: note: %s", r->file, line, text);
    policy_clean_text(slot);
}

/* A DOCTYPE stops the parser before a single declaration is read. */
static void refuse_doctype(void *ctx, const xmlChar *name, const xmlChar *ext, const xmlChar *sys)
{
    xmlParserCtxt *ctxt = ctx;
    struct reader *r = ctxt->_private;

    (void)name, (void)ext, (void)sys;
    if (!*r->err)
        reader_refuse(r, xmlSAX2GetLineNumber(ctxt), "a DOCTYPE is not allowed: remove it");
    xmlStopParser(ctxt);
}

/* The first complaint says what is wrong; the later ones follow from it. */
static void keep_first(void *ctx, xmlError *e)
{
    struct reader *r = ((xmlParserCtxt *)ctx)->_private;
    const char *what = e->message ? e->message : "not readable";

    if (!*r->err && e->level >= XML_ERR_ERROR)
        reader_refuse(r, e->line > 0 ? e->line : 1, "not well-formed XML: %.*s", (int)strcspn(what, "\n"),
                      what);
}

static void drop_namespace(xmlNode *parent)
{
    for (xmlNode *c = parent->children; c; c = c->next) {
        if (c->type != XML_ELEMENT_NODE)
            continue;
        if (reader_is_ours(c))
            c->ns = NULL;
        drop_namespace(c);
    }
}

/*
 * Libvirt's own words stand inside our <disk> and <interface>, without a
 * namespace.  virDomainSetMetadata() gives ours to all that has none, so that
 * they come back in it: there they mean the same.
 */
static void plain_words(xmlDoc *doc)
{
    xmlNode *metadata = reader_child(xmlDocGetRootElement(doc), "metadata", 0);

    for (xmlNode *c = metadata ? metadata->children : NULL; c; c = c->next)
        for (xmlNode *device = reader_is_ours(c) ? c->children : NULL; device; device = device->next)
            drop_namespace(device);
}

xmlDoc *reader_load(struct reader *r, const char *xml, size_t len)
{
    const int options = XML_PARSE_NONET | XML_PARSE_BIG_LINES | XML_PARSE_NOCDATA;
    xmlParserCtxt *ctxt;
    xmlDoc *doc;

    *r->err = '\0';
    if (len > POLICY_XML_MAX) {
        reader_refuse(r, 1, "the document is longer than %u bytes", POLICY_XML_MAX);
        return NULL;
    }
    ctxt = xmlNewParserCtxt();
    if (!ctxt) {
        reader_refuse(r, 1, "out of memory");
        return NULL;
    }
    ctxt->_private = r;
    ctxt->sax->internalSubset = refuse_doctype;
    ctxt->sax->serror = keep_first;
    doc = xmlCtxtReadMemory(ctxt, xml, (int)len, NULL, NULL, options);
    if (doc && *r->err) {
        xmlFreeDoc(doc);
        doc = NULL;
    }
    if (!doc && !*r->err)
        reader_refuse(r, 1, "not well-formed XML");
    xmlFreeParserCtxt(ctxt);
    if (doc)
        plain_words(doc);
    return doc;
}

bool reader_is(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && !node->ns && !strcmp((const char *)node->name, name);
}

bool reader_is_ours(const xmlNode *node)
{
    return node->ns && node->ns->href && !strcmp((const char *)node->ns->href, POLICY_NS);
}

xmlNode *reader_child(xmlNode *parent, const char *name, unsigned n)
{
    for (xmlNode *c = parent->children; c; c = c->next)
        if (reader_is(c, name) && n-- == 0)
            return c;
    return NULL;
}

int reader_once(struct reader *r, xmlNode *node, const char *const names[])
{
    for (; *names; names++) {
        xmlNode *again = reader_child(node, *names, 1);

        if (again)
            return reader_refuse(r, reader_line(again), "%s <%s> has only one <%s>",
                                 strchr("aeiou", *node->name) ? "an" : "a", (const char *)node->name, *names);
    }
    return 0;
}

void reader_note_children(struct reader *r, xmlNode *node, const char *const used[])
{
    for (xmlNode *c = node->children; c; c = c->next) {
        bool known = c->type != XML_ELEMENT_NODE;

        for (const char *const *name = used; *name && !known; name++)
            known = reader_is(c, *name);
        if (!known)
            reader_note(r, reader_line(c), "<%.40s> in <%.40s> is not used", (const char *)c->name,
                        (const char *)node->name);
    }
}

void reader_note_attrs(struct reader *r, xmlNode *node, const char *const used[])
{
    for (xmlAttr *a = node->properties; a; a = a->next) {
        bool known = a->ns != NULL;

        for (const char *const *name = used; *name && !known; name++)
            known = !strcmp((const char *)a->name, *name);
        if (!known)
            reader_note(r, reader_line(node), "attribute %.40s of <%.40s> is not used", (const char *)a->name,
                        (const char *)node->name);
    }
}

static int take_trimmed(xmlChar *text, char *buf, size_t cap)
{
    static const char blanks[] = " \t\r\n";
    const char *from;
    size_t n;
    int rc = -E2BIG;

    *buf = '\0';
    if (!text)
        return -ENOENT;
    from = (const char *)text + strspn((const char *)text, blanks);
    n = strlen(from);
    while (n && strchr(blanks, from[n - 1]))
        n--;
    if (n < cap) {
        memcpy(buf, from, n);
        buf[n] = '\0';
        rc = 0;
    }
    xmlFree(text);
    return rc;
}

int reader_text(xmlNode *node, char *buf, size_t cap)
{
    return take_trimmed(xmlNodeGetContent(node), buf, cap);
}

int reader_attr(xmlNode *node, const char *name, char *buf, size_t cap)
{
    return take_trimmed(xmlGetNoNsProp(node, (const xmlChar *)name), buf, cap);
}

int reader_attr_number(xmlNode *node, const char *name, uint64_t max, uint64_t *out)
{
    char text[32];
    int rc = reader_attr(node, name, text, sizeof(text));

    return rc ? rc : units_decimal(text, max, out);
}

bool reader_attr_is(xmlNode *node, const char *name, const char *value)
{
    char text[64];

    return node && reader_attr(node, name, text, sizeof(text)) == 0 && !strcmp(text, value);
}

int reader_queues(struct reader *r, xmlNode *node, const char *dev, unsigned *out)
{
    uint64_t queues;
    int rc = reader_attr_number(node, "queues", POLICY_QUEUES_MAX, &queues);

    if (rc == -ENOENT)
        return 0;
    if (rc || queues == 0)
        return reader_refuse(r, reader_line(node), "queues of %s must be a number from 1 to %u", dev,
                             POLICY_QUEUES_MAX);
    *out = (unsigned)queues;
    return 0;
}
