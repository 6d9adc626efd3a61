/* SPDX-License-Identifier: MIT */
/*
 * bridge.h - bulkhead-libvirt: what its files say to each other.  The program
 * stands between libvirt, which starts and ends guests, and bulkheadd, which
 * opens and closes their doors.  It keeps nothing on disk: what is true is what
 * those two say, and whatever it does may be done twice.
 *
 * Sentences for people go to stderr and begin with "bulkhead: ".
 */
#ifndef BULKHEAD_BRIDGE_H
#define BULKHEAD_BRIDGE_H

#include <jansson.h>
#include <libxml/tree.h>
#include <stdbool.h>
#include <stddef.h>

#define BRIDGE_FAILURE   1 /* exit status; a sentence has been said */
#define BRIDGE_MISUSE    2

#define BRIDGE_WHY_MAX   1024       /* a sentence, with NUL                       */
#define BRIDGE_XML_MAX   (1u << 20) /* bytes of a document                        */
#define BRIDGE_URI       "qemu:///system"
#define BRIDGE_TIMEOUT_S 60u

struct bridge_options {
    const char *run_dir;
    const char *uri;    /* of libvirt                                             */
    unsigned timeout_s; /* for one answer of bulkheadd, for a guest to let go     */
    bool json;
};

/* One line on stderr, with our name before it and the newline after it. */
__attribute__((format(printf, 1, 2))) void bridge_say(const char *fmt, ...);

/* ----------------------------------------------------------------- ask.c */

/*
 * One request of bulkheadd, on a connection of its own; steals the request.  0,
 * and *reply (where wanted) is the caller's; else why has one sentence and
 *   -ENOTCONN  bulkheadd cannot be reached
 *   -ETIMEDOUT it did not answer in timeout_s seconds; what it did is not known
 *   -EPERM     it refused
 *   -ENOMEM
 */
int ask(const struct bridge_options *opt, json_t *request, json_t **reply, char why[BRIDGE_WHY_MAX]);

/* Opens the doors of the guest that this XML is of, or brings them up to date.  What
 * the sentences of bulkheadd call the XML is "virsh dumpxml NAME". */
int ask_open(const struct bridge_options *opt, const char *name, const char *xml, char why[BRIDGE_WHY_MAX]);
int ask_close(const struct bridge_options *opt, const char *name, char why[BRIDGE_WHY_MAX]);

/* ------------------------------------------------------------ guestxml.c */

/* A guest's domain XML, as libvirt gives it.  Parsed without network, entities
 * or a DOCTYPE; no document here is longer than BRIDGE_XML_MAX. */

/* Is there an element of our namespace in <metadata>?  Reads no further than that: it
 * holds for a document that is cut off later, and what is no XML is not ours. */
bool guestxml_is_ours(const char *xml, size_t len);

/* NULL: not a <domain>, or no memory.  For xmlFreeDoc(). */
xmlDoc *guestxml_parse(const char *xml, size_t len);

/* Does our element name this device? */
bool guestxml_names(xmlDoc *doc, bool disk, const char *dev);

/* Puts one <bulkhead:disk> or <bulkhead:interface> into our element, which is made
 * where there is none.  0, -EINVAL (not such an element), -ENOMEM. */
int guestxml_add(xmlDoc *doc, const char *element);

/* Takes it out again; false: it was not there. */
bool guestxml_remove(xmlDoc *doc, bool disk, const char *dev);

/*
 * Our element as virDomainSetMetadata() takes it: libvirt gives our namespace to
 * every element that has none, so that here nothing has one.  For free(); NULL:
 * there is no such element, or no memory.
 */
char *guestxml_metadata(xmlDoc *doc);

/* A device that is plugged in. */
struct guestxml_device {
    bool disk;
    char dev[16];
    char alias[64]; /* libvirt's name for it, "" when the guest does not run       */
    char *xml;      /* the element, for free()                                     */
};

/* The vhost-user device of ours that is called dev.  0, -ENOENT, -ENOMEM. */
int guestxml_device(xmlDoc *doc, const char *dev, struct guestxml_device *out);

/*
 * Which device of the guest an operator's XML describes, by what cannot be mistaken: a
 * vhost-user device by its name or socket, another <disk> by the file behind it,
 * another <interface> by its address.  0, or -ENOENT, -EINVAL with a sentence
 * "FILE:LINE: ...".
 */
int guestxml_find(xmlDoc *guest, const char *xml, size_t len, const char *file, char dev[16],
                  char why[BRIDGE_WHY_MAX]);

/*
 * Completes a <disk type='vhostuser'> or <interface type='vhostuser'> that leaves out
 * what has one right value: the socket's path below run_dir, reconnect, and an
 * interface's address and MTU, which stand in the guest's metadata.  Other devices
 * come back as they are.  0, and *out is for free(); -EINVAL with a sentence
 * "FILE:LINE: ...", -ENOMEM likewise.
 */
int guestxml_complete(xmlDoc *guest, const char *xml, size_t len, const char *file, const char *run_dir,
                      char **out, char why[BRIDGE_WHY_MAX]);

/* ------------------------------------------------- hook.c follow.c attach.c */

/* As /etc/libvirt/hooks/qemu: args are the guest's name, operation, sub-operation and
 * "extra"; its XML comes on stdin.  Never calls libvirt, which waits for us.
 * Returns the exit status: not 0 keeps the guest from starting. */
int hook_run(const struct bridge_options *opt, char **args);

/* A service: returns only when it cannot begin. */
int follow_run(const struct bridge_options *opt);

/* From a device's XML in a file; into the running guest and into its definition. */
int attach_run(const struct bridge_options *opt, const char *guest, const char *path);

/* what is a device's name, or a file with its XML. */
int detach_run(const struct bridge_options *opt, const char *guest, const char *what);

/* main.c's, for tests: reads the command line, does what it says. */
int bridge_run(int argc, char **argv);

#endif
