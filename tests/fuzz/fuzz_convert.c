/* SPDX-License-Identifier: MIT */
/*
 * Guests and devices of libvirt to be converted. Beyond not failing: what is
 * refused leaves nothing, what is unchanged is the same byte for byte, and what
 * was converted is converted: a second time changes nothing.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <libxml/parser.h>

#include "../../deploy/cli/convert.h"
#include "../../policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static void require(int holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    xmlInitParser();
    return 0;
}

static int is_clean(const char *s)
{
    char copy[CONVERT_NOTE_MAX];

    memcpy(copy, s, strlen(s) + 1);
    policy_clean_text(copy);
    return !strcmp(copy, s);
}

static void check_domain(const char *xml, size_t len, const struct convert_options *opt)
{
    static struct convert_notes notes;
    unsigned converted;
    char *out, *again;

    if (convert_domain(xml, len, opt, &out, &notes)) {
        require(!out && *notes.error);
        return;
    }
    require(!*notes.error && notes.n <= CONVERT_NOTES_MAX);
    for (unsigned i = 0; i < notes.n; i++)
        require(!strncmp(notes.text[i], "f.xml:", 6) && is_clean(notes.text[i]));
    converted = notes.converted;
    if (converted) {
        require(!convert_domain(out, strlen(out), opt, &again, &notes));
        require(!notes.converted && notes.already >= converted && !strcmp(again, out));
        free(again);
    } else {
        require(strlen(out) == len && !memcmp(out, xml, len));
    }
    free(out);
}

static void check_device(const char *xml, size_t len, const struct convert_options *opt)
{
    static const char guest[] = "<domain type='kvm'><name>g</name></domain>";
    static struct convert_notes notes;
    struct convert_result result;

    if (convert_device(xml, len, guest, sizeof(guest) - 1, opt, &result, &notes))
        require(*notes.error && !result.device && !result.metadata);
    else
        require(result.device && *result.dev && (notes.converted == 1) == (result.metadata != NULL));
    convert_free(&result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct convert_options opt = {.file = "f.xml"};
    char *xml = malloc(size ? size : 1); /* of exactly that size */

    if (!xml)
        return 0;
    memcpy(xml, data, size);
    check_domain(xml, size, &opt);
    check_device(xml, size, &opt);
    free(xml);
    return 0;
}
