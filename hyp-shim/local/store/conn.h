/* SPDX-License-Identifier: MIT */
/*
 * conn.h - connections and their buffers.
 *
 * What a client was sent and has not read waits in `out`, which is bounded:
 * replies stop because no request is served while a whole reply would not fit
 * (XSA-326, XSA-416), and watch events beyond it are merged into one for each
 * watch.  A client that does not read delays only itself.
 */
#ifndef BULKHEAD_STORE_CONN_H
#define BULKHEAD_STORE_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account.h"
#include "blob.h"

struct xsd_conn {
    int fd;          /* -1: unused slot                                      */
    uint32_t serial; /* never the same for two connections in a row          */
    domid_t domid;
    bool tool;          /* came through the listening socket                 */
    bool ended;         /* the peer sends no more                            */
    uint32_t watches;   /* watch.h: list                                     */
    uint32_t missed;    /* watch.h: how many of them owe an event            */
    uint32_t txns;      /* txn.h: list                                       */
    uint32_t conflicts; /* transactions in a row that failed with EAGAIN     */
    size_t in_len;
    size_t out_from, out_to;
    uint8_t *in;        /* XSD_IN_BYTES                                      */
    uint8_t *out;       /* XSD_OUT_BYTES                                     */
};

void xsd_conn_reset(void);
struct xsd_conn *xsd_conn_at(unsigned index); /* 0 .. XSD_CONNS - 1 */
unsigned xsd_conn_index(const struct xsd_conn *c);
static inline bool xsd_conn_is_dom0(const struct xsd_conn *c)
{
    return c->domid == 0;
}

/* Takes fd over.  NULL: a limit is reached, or the domain has its connection
 * already (only tools may have several); fd is closed. */
struct xsd_conn *xsd_conn_open(int fd, domid_t domid, bool tool);
/* With its watches and transactions. */
void xsd_conn_close(struct xsd_conn *c);

/* One receive: 1 got bytes, 0 nothing or no room, -ENOTCONN. */
int xsd_conn_receive(struct xsd_conn *c);
/* Sends what can be sent; -ENOTCONN. */
int xsd_conn_flush(struct xsd_conn *c);

/* A reply of any length fits now. */
bool xsd_conn_has_room(struct xsd_conn *c);
/* Only after xsd_conn_has_room(), one for each. */
void xsd_conn_reply(struct xsd_conn *c, uint32_t type, uint32_t req_id, uint32_t tx_id,
                    const void *payload, size_t n);
/* False: no room, nothing sent. */
bool xsd_conn_event(struct xsd_conn *c, const char *path, size_t n, const struct xsd_blob *token);

#endif
