/* SPDX-License-Identifier: MIT */
/*
 * test_store.h - the store in this process, and raw connections to it.
 *
 * begin() starts a store with dom0 and the domains 1 and 2; end() checks that
 * a store whose domains are all gone holds nothing any more.  ask() sends one
 * request, turns the store until the reply is there, and leaves reply and
 * watch events in the client.  Nothing here waits for time to pass.
 */
#ifndef BULKHEAD_TEST_STORE_H
#define BULKHEAD_TEST_STORE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <xen/io/xs_wire.h>

#include "hyp-shim/local/proto.h"
#include "hyp-shim/local/store/account.h"
#include "hyp-shim/local/store/count.h"
#include "hyp-shim/local/store/server.h"
#include "tests/store_control.h"

#define HOME(d) "/local/domain/" #d
#define EVENTS_KEPT 4096

struct client {
    int fd;
    uint32_t req_id;
    domid_t domid;
    bool closed; /* the store hung up */
    bool replied;
    unsigned nevents;
    size_t have;
    struct xsd_sockmsg h; /* of the reply */
    char reply[XENSTORE_PAYLOAD_MAX + 1];
    uint8_t in[65536];
    struct {
        char path[128], token[32];
    } events[EVENTS_KEPT];
};

static int control_fd;
static struct client dom0, guest1, guest2;

static inline void say(uint32_t op, uint32_t domid, int fd)
{
    assert_true(store_control_say(control_fd, op, domid, fd, 0));
}

static inline void turn(void)
{
    assert_int_equal(store_server_turn(0), 0);
}

/* The core introduces a domain with a fresh connection. */
static inline void introduce(struct client *c, domid_t domid)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    memset(c, 0, offsetof(struct client, in));
    c->fd = pair[0];
    c->domid = domid;
    say(STORE_CONTROL_INTRODUCE, domid, pair[1]);
    close(pair[1]);
    turn();
}

static inline void release(struct client *c)
{
    say(STORE_CONTROL_RELEASE, c->domid, -1);
    turn();
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

/* Takes whole messages out of what was received. */
static inline void digest(struct client *c)
{
    size_t at = 0;
    struct xsd_sockmsg h;

    while (c->have - at >= sizeof(h)) {
        memcpy(&h, c->in + at, sizeof(h));
        assert_true(h.len <= XENSTORE_PAYLOAD_MAX);
        if (c->have - at < sizeof(h) + h.len)
            break;
        const char *payload = (const char *)c->in + at + sizeof(h);
        if (h.type == XS_WATCH_EVENT) {
            assert_int_equal(h.req_id, 0);
            assert_int_equal(payload[h.len - 1], '\0');
            const char *token = payload + strlen(payload) + 1;
            assert_int_equal(strlen(payload) + strlen(token) + 2, h.len);
            if (c->nevents < EVENTS_KEPT) {
                snprintf(c->events[c->nevents].path, sizeof(c->events[0].path), "%s", payload);
                snprintf(c->events[c->nevents].token, sizeof(c->events[0].token), "%s", token);
            }
            c->nevents++;
        } else {
            assert_false(c->replied);
            c->replied = true;
            c->h = h;
            memcpy(c->reply, payload, h.len);
            c->reply[h.len] = '\0';
        }
        at += sizeof(h) + h.len;
    }
    memmove(c->in, c->in + at, c->have - at);
    c->have -= at;
}

/* Receives what is there; stops after a reply so that they come one by one. */
static inline void receive(struct client *c)
{
    while (!c->closed) {
        ssize_t n = recv(c->fd, c->in + c->have, sizeof(c->in) - c->have, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            c->closed = true;
            return;
        }
        c->have += (size_t)n;
        digest(c);
    }
}

static inline void send_raw(struct client *c, const void *bytes, size_t n)
{
    assert_int_equal(send(c->fd, bytes, n, MSG_NOSIGNAL), n);
}

static inline uint32_t send_request(struct client *c, uint32_t type, uint32_t tx, const void *payload,
                                    size_t n)
{
    static uint8_t message[sizeof(struct xsd_sockmsg) + 65536];
    struct xsd_sockmsg h = {.type = type, .req_id = ++c->req_id, .tx_id = tx, .len = (uint32_t)n};

    memcpy(message, &h, sizeof(h));
    if (n)
        memcpy(message + sizeof(h), payload, n);
    send_raw(c, message, sizeof(h) + n);
    return h.req_id;
}

/* 0, or the negative errno that the store named; the reply is in c->reply. */
static inline int ask_in(struct client *c, uint32_t type, uint32_t tx, const void *payload, size_t n)
{
    uint32_t id;

    receive(c);
    c->replied = false;
    id = send_request(c, type, tx, payload, n);
    for (int i = 0; i < 10000 && !c->replied && !c->closed; i++) {
        turn();
        receive(c);
    }
    if (c->closed)
        return -ENOTCONN;
    assert_true(c->replied);
    assert_int_equal(c->h.req_id, id);
    assert_int_equal(c->h.tx_id, tx);
    if (c->h.type != XS_ERROR) {
        assert_int_equal(c->h.type, type);
        return 0;
    }
    for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++)
        if (!strcmp(xsd_errors[i].errstring, c->reply))
            return -xsd_errors[i].errnum;
    fail_msg("unknown error name %s", c->reply);
    return 0;
}

/* Strings with NULs inside: the literal's own bytes, last NUL included. */
#define ASK(c, type, literal) ask_in(c, type, 0, literal, sizeof(literal))
#define ASK_IN(c, tx, type, literal) ask_in(c, type, tx, literal, sizeof(literal))

static inline int ask_path(struct client *c, uint32_t type, uint32_t tx, const char *path)
{
    return ask_in(c, type, tx, path, strlen(path) + 1);
}

static inline int put_in(struct client *c, uint32_t tx, const char *path, const char *value)
{
    char payload[XENSTORE_PAYLOAD_MAX + 1];
    int n = snprintf(payload, sizeof(payload), "%s%c%s", path, 0, value);

    assert_true(n > 0 && n <= XENSTORE_PAYLOAD_MAX);
    return ask_in(c, XS_WRITE, tx, payload, (size_t)n);
}

static inline int put(struct client *c, const char *path, const char *value)
{
    return put_in(c, 0, path, value);
}

static inline int get_in(struct client *c, uint32_t tx, const char *path)
{
    return ask_path(c, XS_READ, tx, path);
}

static inline int get(struct client *c, const char *path)
{
    return get_in(c, 0, path);
}

static inline int rm(struct client *c, const char *path)
{
    return ask_path(c, XS_RM, 0, path);
}

/* perms: "n1 r2" */
static inline int chmod_in(struct client *c, uint32_t tx, const char *path, const char *perms)
{
    char payload[XENSTORE_PAYLOAD_MAX];
    int n = snprintf(payload, sizeof(payload), "%s%c%s", path, 0, perms);

    for (char *p = payload + strlen(path) + 1; *p; p++)
        if (*p == ' ')
            *p = '\0';
    return ask_in(c, XS_SET_PERMS, tx, payload, (size_t)n + 1);
}

static inline int set_perms(struct client *c, const char *path, const char *perms)
{
    return chmod_in(c, 0, path, perms);
}

static inline int watch(struct client *c, const char *path, const char *token)
{
    char payload[XENSTORE_PAYLOAD_MAX];
    int n = snprintf(payload, sizeof(payload), "%s%c%s", path, 0, token);

    return ask_in(c, XS_WATCH, 0, payload, (size_t)n + 1);
}

/* Forgets the events so far. */
static inline void settle(struct client *c)
{
    for (int i = 0; i < 4; i++) {
        turn();
        receive(c);
    }
    c->nevents = 0;
}

static inline unsigned events_of(struct client *c, const char *path, const char *token)
{
    unsigned n = 0;

    turn();
    receive(c);
    for (unsigned i = 0; i < c->nevents && i < EVENTS_KEPT; i++)
        n += !strcmp(c->events[i].path, path) && !strcmp(c->events[i].token, token);
    return n;
}

static inline uint32_t txn_begin(struct client *c)
{
    assert_int_equal(ASK(c, XS_TRANSACTION_START, ""), 0);
    unsigned long id = strtoul(c->reply, NULL, 10);
    assert_in_range(id, 1, UINT32_MAX);
    return (uint32_t)id;
}

static inline int txn_end(struct client *c, uint32_t tx, const char *how)
{
    return ask_in(c, XS_TRANSACTION_END, tx, how, 2);
}

/* A home as the toolstack makes it: owned by the domain, closed to others. */
static inline void make_home(domid_t domid)
{
    char path[64], perms[16];

    snprintf(path, sizeof(path), "/local/domain/%u", domid);
    snprintf(perms, sizeof(perms), "n%u", domid);
    assert_int_equal(ask_path(&dom0, XS_MKDIR, 0, path), 0);
    assert_int_equal(set_perms(&dom0, path, perms), 0);
}

static inline void start_store(void)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    control_fd = pair[0];
    assert_int_equal(store_server_init(pair[1], -1), 0);
}

static inline int begin(void **state)
{
    (void)state;
    start_store();
    introduce(&dom0, 0);
    introduce(&guest1, 1);
    introduce(&guest2, 2);
    make_home(1);
    make_home(2);
    return 0;
}

static inline int end(void **state)
{
    (void)state;
    for (unsigned d = 1; d <= LOCAL_DOMID_LAST; d++)
        if (xsd_account_of(d)) {
            say(STORE_CONTROL_RELEASE, d, -1);
            turn();
        }
    close(guest1.fd);
    close(guest2.fd);
    close(dom0.fd);
    turn();
    turn();
    /* What is left is dom0's: nodes, of one or more blocks each, and nothing else. */
    struct xsd_account *a = xsd_account_of(0);
    for (int kind = XSD_WATCH; kind < XSD_KINDS; kind++)
        assert_int_equal(a->used[kind], 0);
    assert_true(a->used[XSD_NODE] >= 1);
    store_server_end();
    close(control_fd);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

#endif
