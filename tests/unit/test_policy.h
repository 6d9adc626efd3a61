/* SPDX-License-Identifier: MIT */
/* test_policy.h - a document is taken or refused, by the checks and by the schema. */
#ifndef BULKHEAD_TEST_POLICY_H
#define BULKHEAD_TEST_POLICY_H

#include <string.h>

#include "../../policy/policy.h"

static struct domain_spec spec;
static struct policy_notes notes;
static char err[POLICY_ERR_MAX];

static int parse(const char *xml)
{
    return policy_parse(xml, strlen(xml), "t.xml", &spec, err, &notes);
}

static void must_accept(const char *xml)
{
    if (parse(xml))
        fail_msg("refused: %s", err);
    if (policy_schema_check(xml, strlen(xml), "t.xml", err))
        fail_msg("the schema refuses what the checks accept: %s", err);
}

__attribute__((unused)) static void must_refuse(const char *xml, const char *sentence)
{
    static const struct domain_spec nothing;

    if (parse(xml) == 0)
        fail_msg("accepted, but wanted: %s", sentence);
    assert_string_equal(err, sentence);
    assert_memory_equal(&spec, &nothing, sizeof(spec));
}

#define NS                 "xmlns:b='urn:bulkhead:domain:1'"
#define META(attrs, inner) "<metadata><b:domain " NS " " attrs ">" inner "</b:domain></metadata>\n"

#endif
