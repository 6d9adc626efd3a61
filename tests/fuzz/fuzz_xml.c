/* SPDX-License-Identifier: MIT */
/*
 * Domain XML from anyone.  Beyond not failing: what is refused says where and
 * why and leaves nothing; what is accepted keeps every limit that the daemon
 * builds on, passes the schema, and is told in clean text.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libxml/parser.h>

#include "../../policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static void require(int holds)
{
    if (!holds)
        abort();
}

static int is_clean(const char *s)
{
    char copy[POLICY_ERR_MAX > POLICY_NOTE_MAX ? POLICY_ERR_MAX : POLICY_NOTE_MAX];

    snprintf(copy, sizeof(copy), "%s", s);
    policy_clean_text(copy);
    return !strcmp(copy, s);
}

static void check_disk(const struct domain_spec *spec, unsigned i)
{
    const struct policy_disk *disk = &spec->disks[i];

    require(policy_name_ok(disk->backend));
    require(disk->devid >= 51712 && disk->devid < 51712 + 16 * POLICY_DISKS_MAX && disk->devid % 16 == 0);
    for (unsigned k = 0; k < i; k++)
        require(spec->disks[k].devid != disk->devid);
    require((disk->source == POLICY_SOURCE_RAM) == (disk->ram_bytes != 0));
    require(disk->source == POLICY_SOURCE_RAM ? !*disk->path : *disk->path == '/');
    require(disk->queues <= POLICY_QUEUES_MAX);
    require(!disk->pool_pages ||
            (disk->pool_pages >= POLICY_POOL_PAGES_MIN && disk->pool_pages <= POLICY_POOL_PAGES_MAX));
    require(disk->weight >= 1 && disk->weight <= POLICY_WEIGHT_MAX);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    xmlInitParser();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct domain_spec spec;
    static struct policy_notes notes;
    char err[POLICY_ERR_MAX] = "";

    if (policy_parse((const char *)data, size, "f.xml", &spec, err, &notes)) {
        require(!strncmp(err, "f.xml:", 6) && is_clean(err));
        for (size_t i = 0; i < sizeof(spec); i++)
            require(((const unsigned char *)&spec)[i] == 0);
        return 0;
    }
    require(policy_name_ok(spec.name) && spec.memory_bytes);
    require(spec.kind == POLICY_DRIVER ? spec.ndisks == 0
                                       : spec.ndisks > 0 && spec.ndisks <= POLICY_DISKS_MAX);
    require(spec.nhostdevs <= POLICY_HOSTDEVS_MAX && notes.n <= POLICY_NOTES_MAX);
    for (unsigned i = 0; i < spec.ndisks; i++)
        check_disk(&spec, i);
    for (unsigned i = 0; i < notes.n; i++)
        require(is_clean(notes.text[i]));
    return 0;
}
