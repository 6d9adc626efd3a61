/* SPDX-License-Identifier: MIT */
/* convert_tree.h - shared by the files of the conversion: one call, and its tree. */
#ifndef BULKHEAD_CONVERT_TREE_H
#define BULKHEAD_CONVERT_TREE_H

#include <libxml/tree.h>
#include <stdint.h>

#include "../../policy/policy.h"
#include "convert.h"

struct convert {
    const char *file, *run_dir, *disk_driver, *net_driver;
    struct convert_notes *notes;
    char guest[POLICY_NAME_MAX];
    char uuid[POLICY_UUID_MAX];
    uint64_t processors; /* of the guest; 0: not said                              */
    uint32_t letters;    /* of vda .. vdp that are taken                           */
    uint32_t behind;     /* of them, those in our metadata                         */
    unsigned nnics;      /* NICs in our metadata                                   */
    char nics[POLICY_NICS_MAX][POLICY_IFNAME_MAX];
    unsigned ndisks;     /* disks in our metadata                                  */
    xmlNode *ours;       /* our <domain>, new devices are added here; NULL: a device alone */
    xmlDoc *doc;         /* of a device alone                                      */
    xmlNode *made;       /* our element of the device that was converted last      */
    char made_dev[POLICY_IFNAME_MAX];
    bool disks_changed;
    bool no_memory;      /* libxml2 ran out of it: nothing that was made counts    */
};

/* "FILE:LINE: DEV: ..."; dev NULL: of the guest as a whole. */
void tree_note(struct convert *c, const xmlNode *node, const char *dev, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* That a device stays as it is, and why; always returns false. */
bool tree_stays(struct convert *c, const xmlNode *node, const char *dev, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

bool tree_is(const xmlNode *node, const char *name); /* an element of no namespace */
xmlNode *tree_child(const xmlNode *parent, const char *name); /* the first one; parent may be NULL */
xmlNode *tree_next(const xmlNode *node, const char *name);    /* the next sibling of that name */
/* NULL: there is none. Inside the tree; until the attribute changes. */
const char *tree_attr(const xmlNode *node, const char *name);
bool tree_attr_is(const xmlNode *node, const char *name, const char *value);
void tree_set(struct convert *c, xmlNode *node, const char *name, const char *value);
bool tree_unset(xmlNode *node, const char *name); /* whether it was there */
/* A whole decimal number; false: it is none or not in min .. max. */
bool tree_number(const char *text, uint64_t min, uint64_t max, uint64_t *out);

/* New elements stand on lines of their own, where their neighbours do. */
xmlNode *tree_add(struct convert *c, xmlNode *parent, const char *name);
xmlNode *tree_add_after(struct convert *c, xmlNode *before, const char *name);
xmlNode *tree_ensure(struct convert *c, xmlNode *parent, const char *name);
void tree_move(struct convert *c, xmlNode *node, xmlNode *parent); /* with what is in it */
void tree_remove(xmlNode *node);
/* Takes all attributes and children away. */
void tree_empty(xmlNode *node);

/* How a document quotes its attributes, and text that libxml2 has written made like it. */
bool tree_has_single_quotes(const char *xml, size_t len);
void tree_use_single_quotes(char *xml);

/* A device: <source type='unix' path=...> with <reconnect>, and <backenddomain>. */
void convert_source(struct convert *c, xmlNode *device, const char *dev, bool client, const char *driver);
/* Our <disk> or <interface> for it. */
xmlNode *convert_metadata(struct convert *c, const char *name, const char *dev, const char *driver);
/* Its driver domain, <backenddomain> or fallback; NULL: the name is no good. */
const char *convert_driver(const xmlNode *device, const char *fallback);
/* queues= of its <driver>, at most what we have; 0: not said.  Says so when it is less. */
unsigned convert_queues(struct convert *c, xmlNode *device, const char *dev);

/* convert_disk.c, convert_nic.c: true: converted; false: as it was, and why has been told. */
bool convert_disk(struct convert *c, xmlNode *disk);
bool convert_nic(struct convert *c, xmlNode *nic);

#endif
