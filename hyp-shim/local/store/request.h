/* SPDX-License-Identifier: MIT */
/* request.h - the requests of the wire protocol (xen: docs/misc/xenstore.txt). */
#ifndef BULKHEAD_STORE_REQUEST_H
#define BULKHEAD_STORE_REQUEST_H

#include "conn.h"

/* Serves one request whose payload is h->len bytes, and replies. */
void xsd_request(struct xsd_conn *c, const struct xsd_sockmsg *h, const char *payload);

/* It would change nodes: what a guest has to wait with while a starved
 * transaction of dom0 has the right of way. */
bool xsd_request_writes(const struct xsd_sockmsg *h);

#endif
