/* SPDX-License-Identifier: MIT */
/* reader.h - shared by the files of this folder: a document being read. */
#ifndef BULKHEAD_POLICY_READER_H
#define BULKHEAD_POLICY_READER_H

#include <libxml/tree.h>

#include "policy.h"

struct reader {
    const char *file;
    char *err;                  /* POLICY_ERR_MAX                                  */
    struct policy_notes *notes; /* may be NULL                                     */
};

/* Puts "FILE:LINE: sentence" into r->err; always returns -EINVAL. */
int reader_refuse(struct reader *r, long line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Once for each distinct text. */
void reader_note(struct reader *r, long line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static inline long reader_line(const xmlNode *node)
{
    return xmlGetLineNo(node);
}

/* Parses; NULL with a sentence in r->err. */
xmlDoc *reader_load(struct reader *r, const char *xml, size_t len);

/* True for an element of no namespace with that name. */
bool reader_is(const xmlNode *node, const char *name);
bool reader_is_ours(const xmlNode *node);
/* The n-th child element of no namespace with that name, or NULL. */
xmlNode *reader_child(xmlNode *parent, const char *name, unsigned n);

/* Text of an element or attribute without the blanks around it, into buf.
 * -ENOENT: no such attribute; -E2BIG: does not fit. */
int reader_text(xmlNode *node, char *buf, size_t cap);
int reader_attr(xmlNode *node, const char *name, char *buf, size_t cap);
/* As above, a decimal number; -ERANGE past max, -EINVAL no number. */
int reader_attr_number(xmlNode *node, const char *name, uint64_t max, uint64_t *out);
/* False for no node, too. */
bool reader_attr_is(xmlNode *node, const char *name, const char *value);
/* queues= of a device; *out stays when it is not said.  Refuses what is no good. */
int reader_queues(struct reader *r, xmlNode *node, const char *dev, unsigned *out);

/* What a node may hold: names is NULL-terminated.  _once refuses a child that is
 * there twice; the others tell, as notes, what is not used. */
int reader_once(struct reader *r, xmlNode *node, const char *const names[]);
void reader_note_children(struct reader *r, xmlNode *node, const char *const used[]);
void reader_note_attrs(struct reader *r, xmlNode *node, const char *const used[]);

/* units.c: plain decimal digits; seconds with up to three decimals, as milliseconds; libvirt's
 * scaled sizes; a set of CPUs. */
int units_decimal(const char *text, uint64_t max, uint64_t *out);
int units_seconds(const char *text, uint64_t max, uint64_t *ms);
int units_bytes(const char *text, const char *unit, uint64_t *out);
int units_cpuset(const char *text, uint64_t *mask);

/* disk.c */
int disk_read(struct reader *r, xmlNode *node, struct domain_spec *spec);
int disk_number(const char *dev, unsigned *devid); /* of vda .. vdp; -EINVAL: another name */
int disk_read_cache(struct reader *r, xmlNode *node, struct policy_disk *disk);
/* Our <disk>; _values: after its attributes have been looked through. */
int disk_read_hint(struct reader *r, xmlNode *hint, struct policy_disk *disk);
int disk_read_hint_values(struct reader *r, xmlNode *hint, struct policy_disk *disk);
int disk_check_complete(struct reader *r, struct domain_spec *spec);

/* nic.c */
int nic_read(struct reader *r, xmlNode *node, struct domain_spec *spec);
/* <mac> <mtu> <vlan> <bandwidth> <port> in node; nic may be in spec already. */
int nic_read_network(struct reader *r, xmlNode *node, struct domain_spec *spec, struct policy_nic *nic);
int nic_read_mac(struct reader *r, xmlNode *node, struct domain_spec *spec, struct policy_nic *nic);
int nic_read_mtu(struct reader *r, xmlNode *node, struct policy_nic *nic);
int nic_read_hint(struct reader *r, xmlNode *hint, struct policy_nic *nic);
int nic_read_hint_values(struct reader *r, xmlNode *hint, struct policy_nic *nic);
/* After the last one: addresses for those that were given none. */
void nic_make_addresses(struct domain_spec *spec);

/* vhost.c: all of a guest with door='vhost-user' but its name, uuid and memory size */
int vhost_read(struct reader *r, xmlNode *root, xmlNode *ours, struct domain_spec *spec);

/* plugged.c: one device of <devices>, after our metadata element; somebody else's is left alone */
int plugged_disk(struct reader *r, xmlNode *node, struct domain_spec *spec);
int plugged_nic(struct reader *r, xmlNode *node, struct domain_spec *spec);

/* uplink.c: <bulkhead:uplink> of a net driver domain */
int uplink_read(struct reader *r, xmlNode *node, struct domain_spec *spec);

/* hint.c: what stands inside our <domain>.  A hint's attributes: */
int hint_read_all(struct reader *r, xmlNode *ours, struct domain_spec *spec);
int hint_only(struct reader *r, xmlNode *hint, const char *const known[]);
int hint_number(struct reader *r, xmlNode *hint, const char *name, const char *dev, uint64_t min,
                uint64_t max, unsigned *out);
int hint_grants(struct reader *r, xmlNode *hint, const char *dev, enum policy_grants last,
                enum policy_grants *out);

/* schema.c */
int schema_check(struct reader *r, xmlDoc *doc);

#endif
