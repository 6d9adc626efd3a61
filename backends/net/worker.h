/* SPDX-License-Identifier: MIT */
/*
 * worker.h - a thread and the queues it serves; worker 0 also has the uplink.
 *
 * Workers share nothing: each has its own copy of the switch's table, told by
 * mail, and hands packets for another worker's vifs (or, to worker 0, for the
 * uplink) over a ring that has one writer and one reader.  One polls while
 * there is work, goes on looking for a moment, then sleeps on its doorbells,
 * its mailbox and, worker 0, the uplink.
 */
#ifndef BULKHEAD_NET_WORKER_H
#define BULKHEAD_NET_WORKER_H

#include "../mailbox.h"
#include "port.h"
#include "uplink.h"

#define NET_WORKERS_MAX NET_QUEUES_MAX

struct net_worker;

/*
 * Packet buffers for the whole domain; after uplink_start_eal(), before
 * uplink_open() and the workers.  *rx is the pool for the uplink's frames up to
 * mtu.  0 or a negative errno with a word.
 */
int net_packets_init(uint16_t mtu, struct rte_mempool **rx, const char **why);

/*
 * Starts n workers, pinned to cpu[0..n).  uplink is worker 0's from now on (but
 * its counters are read by the control thread).  control_fd is the eventfd that
 * their mail rings.  0 or a negative errno.
 */
int net_workers_start(unsigned n, const int *cpu, struct uplink *uplink, int control_fd);
void net_workers_stop(void); /* for tests; they have no ports */

/* Control thread's mail with worker i.  mail.what is a struct net_port:
 *   MAIL_ATTACH    here is a vif; serve the queue of it that is yours, if one is
 *   MAIL_DETACH    give it back: forget it, finish its packets
 *   MAIL_PING      answer with MAIL_PONG
 *   MAIL_UPLINK    (to worker 0) the uplink is yours now
 *   MAIL_DETACHED  (answer) forgotten; its queue is yours again
 *   MAIL_BROKEN    (from the worker) look at net_queue_why(), then detach       */
bool net_worker_post(unsigned i, enum mail_kind kind, struct net_port *port);
bool net_worker_take(unsigned i, struct mail *out);

#endif
