/* SPDX-License-Identifier: MIT */
/*
 * server.h - the store: one thread, one loop, nothing that blocks.
 *
 * Trusted with names and states by everyone; trusts the core, which tells it
 * over `control` which domains there are (struct store_control, store_living),
 * and nobody else.  There is one store in a process; all its memory is static.
 */
#ifndef BULKHEAD_STORE_SERVER_H
#define BULKHEAD_STORE_SERVER_H

/*
 * control: SOCK_SEQPACKET from the core.  listen: a listening stream socket
 * for stock tools, or -1; who connects is who SO_PEERCRED says: uid 0 and
 * LOCAL_UID_BASE are dom0, LOCAL_UID_BASE + D is domain D if there is one,
 * anyone else is closed at once.  Both are owned from now on.
 * May be called again, and then begins anew, with an empty tree and no journal:
 * xsd_journal_open() comes after it.  0 or a negative errno.
 */
int store_server_init(int control, int listen);

/*
 * Waits at most timeout_ms (-1: for ever) for something to do and does one
 * round of it, XSD_BUDGET requests for each connection.  0; or -ENOTCONN: the
 * core is gone, end the process.
 */
int store_server_turn(int timeout_ms);

/* Closes everything. */
void store_server_end(void);

#endif
