/* SPDX-License-Identifier: MIT */
/* schema.c - bulkhead.rng, carried inside the program, and its use. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <libxml/relaxng.h>

#include "reader.h"

__asm__(".section .rodata\n"
        ".balign 16\n"
        ".globl policy_schema_start\n"
        "policy_schema_start:\n"
        ".incbin \"policy/bulkhead.rng\"\n"
        ".globl policy_schema_end\n"
        "policy_schema_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const char policy_schema_start[] __attribute__((visibility("hidden")));
extern const char policy_schema_end[] __attribute__((visibility("hidden")));

struct finding {
    long line;
    char text[200];
};

static void keep_first(void *data, xmlError *e)
{
    struct finding *f = data;
    const char *what = e->message ? e->message : "no reason given";

    if (*f->text)
        return;
    f->line = e->line > 0 ? e->line : 1;
    snprintf(f->text, sizeof(f->text), "%.*s", (int)strcspn(what, "\n"), what);
}

static void stay_silent(void *data, xmlError *e)
{
    (void)data, (void)e;
}

int schema_check(struct reader *r, xmlDoc *doc)
{
    size_t bytes = (size_t)(policy_schema_end - policy_schema_start);
    xmlRelaxNGParserCtxt *parser = xmlRelaxNGNewMemParserCtxt(policy_schema_start, (int)bytes);
    xmlRelaxNG *schema = NULL;
    xmlRelaxNGValidCtxt *valid = NULL;
    struct finding found = {.line = 1};
    int rc;

    if (parser) {
        xmlRelaxNGSetParserStructuredErrors(parser, stay_silent, NULL);
        schema = xmlRelaxNGParse(parser);
        xmlRelaxNGFreeParserCtxt(parser);
    }
    if (schema)
        valid = xmlRelaxNGNewValidCtxt(schema);
    if (!valid) {
        xmlRelaxNGFree(schema);
        reader_refuse(r, 1, "out of memory while reading the schema");
        return -ENOMEM;
    }
    xmlRelaxNGSetValidStructuredErrors(valid, keep_first, &found);
    rc = xmlRelaxNGValidateDoc(valid, doc);
    xmlRelaxNGFreeValidCtxt(valid);
    xmlRelaxNGFree(schema);
    if (rc == 0)
        return 0;
    return reader_refuse(r, found.line, "does not match the schema: %s",
                         *found.text ? found.text : "no reason given");
}
