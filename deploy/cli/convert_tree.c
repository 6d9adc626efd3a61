/* SPDX-License-Identifier: MIT */
/* convert_tree.c - asking and changing a document so that people still can read it. */
#include "convert_tree.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define INDENT_MAX 128

__attribute__((format(printf, 5, 0))) static void add_note(struct convert *c, const xmlNode *node,
                                                           const char *dev, const char *before,
                                                           const char *fmt, va_list ap)
{
    struct convert_notes *notes = c->notes;
    char *text;
    int n;

    if (notes->n == CONVERT_NOTES_MAX)
        return;
    text = notes->text[notes->n++];
    n = snprintf(text, CONVERT_NOTE_MAX, "%.150s:%ld: %.20s%s%s", c->file, xmlGetLineNo(node), dev ? dev : "",
                 dev ? ": " : "", before);
    vsnprintf(text + n, CONVERT_NOTE_MAX - (size_t)n, fmt, ap);
    policy_clean_text(text);
}

void tree_note(struct convert *c, const xmlNode *node, const char *dev, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_note(c, node, dev, "", fmt, ap);
    va_end(ap);
}

bool tree_stays(struct convert *c, const xmlNode *node, const char *dev, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_note(c, node, dev, "stays as it is: ", fmt, ap);
    va_end(ap);
    c->notes->left++;
    return false;
}

/* ------------------------------------------------------------------- asking */

bool tree_is(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && !node->ns && !strcmp((const char *)node->name, name);
}

static xmlNode *first_of(xmlNode *from, const char *name)
{
    while (from && !tree_is(from, name))
        from = from->next;
    return from;
}

xmlNode *tree_child(const xmlNode *parent, const char *name)
{
    return parent ? first_of(parent->children, name) : NULL;
}

xmlNode *tree_next(const xmlNode *node, const char *name)
{
    return first_of(node->next, name);
}

const char *tree_attr(const xmlNode *node, const char *name)
{
    xmlAttr *a = node ? xmlHasNsProp((xmlNode *)node, (const xmlChar *)name, NULL) : NULL;

    if (!a)
        return NULL;
    return a->children && a->children->content ? (const char *)a->children->content : "";
}

bool tree_attr_is(const xmlNode *node, const char *name, const char *value)
{
    const char *text = tree_attr(node, name);

    return text && !strcmp(text, value);
}

bool tree_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;

    if (!*text || strspn(text, "0123456789") != strlen(text) || strlen(text) > 18)
        return false;
    for (; *text; text++)
        v = v * 10 + (uint64_t)(*text - '0');
    *out = v;
    return v >= min && v <= max;
}

/* ----------------------------------------------------------------- changing */

void tree_set(struct convert *c, xmlNode *node, const char *name, const char *value)
{
    if (!node || !xmlSetProp(node, (const xmlChar *)name, (const xmlChar *)value))
        c->no_memory = true;
}

bool tree_unset(xmlNode *node, const char *name)
{
    return node && xmlUnsetProp(node, (const xmlChar *)name) == 0;
}

static bool is_blank(const xmlNode *node)
{
    return node && node->type == XML_TEXT_NODE && xmlIsBlankNode(node);
}

static bool is_line_end(const xmlNode *node)
{
    return is_blank(node) && strchr((const char *)node->content, '\n');
}

/* The blanks in front of an element that begins its line; false: it does not. */
static bool indent_of(const xmlNode *node, char indent[INDENT_MAX])
{
    const char *line;

    *indent = '\0';
    if (!node || !is_line_end(node->prev))
        return node && node->parent && node->parent->type == XML_DOCUMENT_NODE;
    line = strrchr((const char *)node->prev->content, '\n') + 1;
    if (strlen(line) >= INDENT_MAX - 4)
        return false;
    memcpy(indent, line, strlen(line) + 1);
    return true;
}

static xmlNode *new_line(struct convert *c, const char *indent)
{
    char text[INDENT_MAX + 1];
    xmlNode *node;

    snprintf(text, sizeof(text), "\n%s", indent);
    node = xmlNewText((const xmlChar *)text);
    if (!node)
        c->no_memory = true;
    return node;
}

/* Neighbouring texts would become one: texts are only put next to elements. */
static void append(struct convert *c, xmlNode *parent, xmlNode *node)
{
    char indent[INDENT_MAX], outer[INDENT_MAX];
    bool lines = indent_of(parent, outer);
    xmlNode *sibling = parent->children;

    while (sibling && sibling->type == XML_TEXT_NODE)
        sibling = sibling->next;
    if (!indent_of(sibling, indent))
        snprintf(indent, sizeof(indent), "%.120s  ", outer);
    if (sibling && !is_line_end(parent->last)) { /* all on one line */
        xmlAddChild(parent, node);
        return;
    }
    if (!sibling && lines) {
        while (parent->children && is_blank(parent->children))
            tree_remove(parent->children);
        xmlAddChild(parent, node);
        xmlAddNextSibling(node, new_line(c, outer));
    } else if (is_line_end(parent->last)) {
        xmlAddPrevSibling(parent->last, node);
    } else {
        xmlAddChild(parent, node);
        return;
    }
    xmlAddPrevSibling(node, new_line(c, indent));
}

static xmlNode *new_element(struct convert *c, const char *name)
{
    xmlNode *node = xmlNewNode(NULL, (const xmlChar *)name);

    if (!node)
        c->no_memory = true;
    return node;
}

xmlNode *tree_add(struct convert *c, xmlNode *parent, const char *name)
{
    xmlNode *node = parent ? new_element(c, name) : NULL;

    if (node)
        append(c, parent, node);
    return node;
}

xmlNode *tree_add_after(struct convert *c, xmlNode *before, const char *name)
{
    xmlNode *node = before ? new_element(c, name) : NULL;
    char indent[INDENT_MAX];

    if (!node)
        return NULL;
    xmlAddNextSibling(before, node);
    if (indent_of(before, indent))
        xmlAddPrevSibling(node, new_line(c, indent));
    return node;
}

xmlNode *tree_ensure(struct convert *c, xmlNode *parent, const char *name)
{
    xmlNode *node = tree_child(parent, name);

    return node ? node : tree_add(c, parent, name);
}

void tree_move(struct convert *c, xmlNode *node, xmlNode *parent)
{
    xmlNode *inside = node->children, *next;

    if (is_blank(node->prev))
        tree_remove(node->prev);
    xmlUnlinkNode(node);
    node->children = node->last = NULL;
    append(c, parent, node);
    for (; inside; inside = next) {
        next = inside->next;
        inside->next = inside->prev = inside->parent = NULL;
        if (inside->type == XML_ELEMENT_NODE)
            tree_move(c, inside, node);
        else if (inside->type == XML_COMMENT_NODE)
            append(c, node, inside);
        else /* text has no meaning in what is moved */
            xmlFreeNode(inside);
    }
}

void tree_remove(xmlNode *node)
{
    if (node->type == XML_ELEMENT_NODE && is_blank(node->prev))
        tree_remove(node->prev);
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

void tree_empty(xmlNode *node)
{
    while (node->properties)
        xmlRemoveProp(node->properties);
    while (node->children)
        tree_remove(node->children);
}

/* ------------------------------------------------------------------ writing */

/* Past a comment, a CDATA section, an instruction that begins at p; p: none does. */
static char *skip_special(char *p)
{
    static const struct {
        const char *begin, *end;
    } kinds[] = {{"<!--", "-->"}, {"<![CDATA[", "]]>"}, {"<?", "?>"}};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char *end = strncmp(p, kinds[i].begin, strlen(kinds[i].begin)) ? NULL : strstr(p, kinds[i].end);

        if (end)
            return end + strlen(kinds[i].end);
    }
    return p;
}

/* libxml2 writes attributes in double quotes, libvirt in single ones: what is kept shall not differ. */
void tree_use_single_quotes(char *p)
{
    while ((p = strchr(p, '<'))) {
        char *past = skip_special(p);

        if (past != p) {
            p = past;
            continue;
        }
        while ((p += strcspn(p, "\"'>")), *p && *p != '>') {
            char *end = strchr(p + 1, *p);

            if (!end)
                return;
            if (*p == '"' && !memchr(p, '\'', (size_t)(end - p)))
                *p = *end = '\'';
            p = end + 1;
        }
    }
}

bool tree_has_single_quotes(const char *xml, size_t len)
{
    const char *root = memmem(xml, len, "<domain", strlen("<domain"));

    for (; root && root < xml + len && *root != '>'; root++)
        if (*root == '"' || *root == '\'')
            return *root == '\'';
    return false;
}
