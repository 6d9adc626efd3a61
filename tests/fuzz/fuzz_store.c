/* SPDX-License-Identifier: MIT */
/*
 * The store under a hostile core, dom0 and guests.
 *
 * The input is a script of steps, each a byte and what it needs:
 *
 *   0x00..0x3f  a well-formed request of domain 1 or 2 from the lists below
 *   0x40..0x7f  raw bytes of domain 1 or 2: length byte, then the bytes
 *   0x80..0x9f  dom0 does something
 *   0xa0..0xbf  a domain dies and comes again; or the store does; or its
 *               journal is written anew
 *   0xc0..0xdf  a domain's connection is not read for a while
 *   0xe0..0xff  a turn
 *
 * What must always hold:
 *   - a guest never receives the secret: not as a value, not as a name in a
 *     list, a permission or an event;
 *   - every well-formed request gets one reply with its own req_id;
 *   - a store restored from the journal has the same tree, permissions and
 *     domains, and the accounts are right, now and then and after each input;
 *   - when all domains are gone, the accounts are empty;
 *   - dom0 is served at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <xen/io/xs_wire.h>

#include "hyp-shim/local/proto.h"
#include "hyp-shim/local/store/account.h"
#include "hyp-shim/local/store/server.h"
#include "tests/store_control.h"
#include "tests/store_dump.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct client {
    int fd; /* -1: hung up */
    bool quiet;  /* not reading now */
    bool raw;    /* sent bytes of its own: replies are not counted any more */
    uint32_t asked, answered; /* replies */
    size_t have;
    uint8_t in[1 << 17];
};

static struct client clients[3];
static int control, journal;
static char secret[17]; /* new for each input: no input can hold it by itself */

#define MUST(what) ((what) ? (void)0 : broken(#what))

static void broken(const char *what)
{
    fprintf(stderr, "fuzz_store: not true: %s\n", what);
    abort();
}

static void say(uint32_t op, uint32_t domid, int fd)
{
    (void)store_control_say(control, op, domid, fd, MSG_DONTWAIT);
}

static void introduce(unsigned domid)
{
    struct client *c = &clients[domid];
    int pair[2];

    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    c->fd = pair[0];
    c->quiet = c->raw = false;
    c->asked = c->answered = 0;
    c->have = 0;
    say(STORE_CONTROL_INTRODUCE, domid, pair[1]);
    close(pair[1]);
}

static void check_message(struct client *c, const struct xsd_sockmsg *h, const uint8_t *payload)
{
    MUST(h->len <= XENSTORE_PAYLOAD_MAX);
    if (c != &clients[0])
        MUST(!memmem(payload, h->len, secret, strlen(secret)));
    if (h->type == XS_WATCH_EVENT) {
        MUST(h->req_id == 0 && h->len >= 2 && payload[h->len - 1] == 0);
        return;
    }
    if (h->type == XS_ERROR)
        MUST(h->len >= 4 && payload[0] == 'E' && payload[h->len - 1] == 0);
    if (!c->raw)
        MUST(h->req_id == c->answered + 1);
    c->answered++;
}

static void take(struct client *c)
{
    while (c->fd >= 0 && !c->quiet) {
        ssize_t n = recv(c->fd, c->in + c->have, sizeof(c->in) - c->have, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            MUST(c->raw); /* only bad bytes end a connection */
            close(c->fd);
            c->fd = -1;
            return;
        }
        c->have += (size_t)n;
        size_t at = 0;
        struct xsd_sockmsg h;
        while (c->have - at >= sizeof(h)) {
            memcpy(&h, c->in + at, sizeof(h));
            MUST(h.len <= XENSTORE_PAYLOAD_MAX);
            if (c->have - at - sizeof(h) < h.len)
                break;
            check_message(c, &h, c->in + at + sizeof(h));
            at += sizeof(h) + h.len;
        }
        memmove(c->in, c->in + at, c->have - at);
        c->have -= at;
    }
}

static void turn(void)
{
    MUST(store_server_turn(0) == 0);
    for (unsigned i = 0; i < 3; i++)
        take(&clients[i]);
}

static void send_request(struct client *c, uint32_t type, uint32_t tx, const void *payload, size_t n)
{
    uint8_t message[sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX];
    struct xsd_sockmsg h = {.type = type, .req_id = c->asked + 1, .tx_id = tx, .len = (uint32_t)n};

    memcpy(message, &h, sizeof(h));
    memcpy(message + sizeof(h), payload, n);
    if (c->fd < 0 || send(c->fd, message, sizeof(h) + n, MSG_DONTWAIT | MSG_NOSIGNAL) <= 0)
        return;
    c->asked++;
}

#define SEND(c, type, literal) send_request(c, type, 0, literal, sizeof(literal))

static const char *const paths[] = {
    "a", "a/b", "a/b/c", "d", "/", "/local/domain/1", "/local/domain/2", "/local/domain/1/a",
    "/local/domain/2/a/b", "/shared", "/shared/x", "/shared/x/y", "/vault", "/vault/key", "/local",
    "@releaseDomain",
};
#define VAULT 12 /* paths from here on are not for dom0's random requests */
static const char *const perms[] = {"n1", "n2", "b1\0r2", "n2\0b1", "r0", "b0", "w1\0w2\0n0", "n1\0b9", "b"};
static const size_t perm_len[] = {3, 3, 6, 6, 3, 3, 9, 6, 2};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* One step's bytes, as far as there are any. */
struct script {
    const uint8_t *data;
    size_t size;
};

static uint8_t next(struct script *s)
{
    if (!s->size)
        return 0;
    s->size--;
    return *s->data++;
}

static void request(struct script *s, struct client *c)
{
    static const uint32_t types[] = {
        XS_READ, XS_WRITE, XS_MKDIR, XS_RM, XS_DIRECTORY, XS_DIRECTORY_PART, XS_GET_PERMS, XS_SET_PERMS,
        XS_WATCH, XS_UNWATCH, XS_TRANSACTION_START, XS_TRANSACTION_END, XS_RESET_WATCHES, XS_GET_DOMAIN_PATH,
        XS_IS_DOMAIN_INTRODUCED, XS_CONTROL, XS_RELEASE,
    };
    uint8_t type = next(s), what = next(s);
    size_t path = next(s) % (c == &clients[0] ? VAULT : COUNT(paths));
    uint32_t t = types[type % COUNT(types)], tx = type & 0x80 ? what >> 4 : 0;
    char payload[2048];
    size_t n = strlen(paths[path]) + 1;

    memcpy(payload, paths[path], n);
    if (t == XS_WRITE) {
        size_t len = (size_t)what * 7;
        memset(payload + n, 'v', len);
        n += len;
    } else if (t == XS_SET_PERMS) {
        size_t k = what % COUNT(perms);
        memcpy(payload + n, perms[k], perm_len[k]);
        n += perm_len[k];
    } else if (t == XS_WATCH || t == XS_UNWATCH) {
        payload[n++] = (char)('a' + what % 4);
        payload[n++] = '\0';
    } else if (t == XS_DIRECTORY_PART) {
        n += (size_t)snprintf(payload + n, 8, "%u", what) + 1;
    } else if (t == XS_TRANSACTION_START) {
        n = 1, payload[0] = '\0', tx = 0;
    } else if (t == XS_TRANSACTION_END) {
        payload[0] = what & 1 ? 'T' : 'F', payload[1] = '\0', n = 2;
    } else if (t == XS_GET_DOMAIN_PATH || t == XS_IS_DOMAIN_INTRODUCED || t == XS_RELEASE) {
        payload[0] = (char)('0' + what % 4), payload[1] = '\0', n = 2;
    }
    send_request(c, t, tx, payload, n);
}

static void raw(struct script *s, struct client *c)
{
    uint8_t n = next(s);

    if (n > s->size)
        n = (uint8_t)s->size;
    c->raw = true;
    if (c->fd >= 0)
        (void)!send(c->fd, s->data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    s->data += n;
    s->size -= n;
}

/* /vault/key holds the secret, and /vault/SECRET bears its name. */
static void hide_secret(void)
{
    char payload[64];
    int n = snprintf(payload, sizeof(payload), "/vault/key%c%s", 0, secret);

    send_request(&clients[0], XS_WRITE, 0, payload, (size_t)n);
    n = snprintf(payload, sizeof(payload), "/vault/%s%c%s", secret, 0, secret);
    send_request(&clients[0], XS_WRITE, 0, payload, (size_t)n);
}

/* dom0 never opens the vault. */
static void toolstack(struct script *s)
{
    struct client *c = &clients[0];

    switch (next(s) % 8) {
    case 0: hide_secret(); break;
    case 1: SEND(c, XS_RM, "/vault/key"); break;
    case 2: SEND(c, XS_SET_PERMS, "/shared\0n0\0b1\0b2"); break;
    case 3: SEND(c, XS_RM, "/shared"); SEND(c, XS_MKDIR, "/shared"); break;
    case 4: SEND(c, XS_MKDIR, "/local/domain/1"); SEND(c, XS_SET_PERMS, "/local/domain/1\0n1"); break;
    case 5: SEND(c, XS_MKDIR, "/local/domain/2"); SEND(c, XS_SET_PERMS, "/local/domain/2\0n2\0r1"); break;
    case 6: SEND(c, XS_WATCH, "/\0all"); break;
    default: request(s, c); break; /* anything else, below */
    }
}

static void begin_store(void)
{
    const char *why;
    int pair[2];

    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    control = pair[0];
    MUST(store_server_init(pair[1], -1) == 0);
    MUST(xsd_journal_open(fcntl(journal, F_DUPFD_CLOEXEC, 0), &why) == 0);
}

static void start(void)
{
    uint8_t random[(sizeof(secret) - 1) / 2];

    MUST(getrandom(random, sizeof(random), 0) == sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(secret + 2 * i, 3, "%02x", random[i]);
    journal = store_journal_new();
    MUST(journal >= 0);
    begin_store();
    for (unsigned i = 0; i < 3; i++)
        introduce(i);
    struct client *c = &clients[0];
    turn();
    SEND(c, XS_MKDIR, "/local/domain/1");
    SEND(c, XS_SET_PERMS, "/local/domain/1\0n1");
    SEND(c, XS_MKDIR, "/local/domain/2");
    SEND(c, XS_SET_PERMS, "/local/domain/2\0n2\0r1");
    SEND(c, XS_MKDIR, "/shared");
    SEND(c, XS_SET_PERMS, "/shared\0n0\0b1\0b2");
    SEND(c, XS_MKDIR, "/vault");
    SEND(c, XS_SET_PERMS, "/vault\0n0");
    hide_secret();
    turn();
}

static void reborn(unsigned domid)
{
    say(STORE_CONTROL_RELEASE, domid, -1);
    MUST(store_server_turn(0) == 0);
    MUST(!xsd_account_of(domid));
    if (clients[domid].fd >= 0)
        close(clients[domid].fd);
    introduce(domid);
}

/* The store is killed, and another begins with its journal; domain `dead` died
 * meanwhile (0: nobody), and both are there again. */
static void next_life(unsigned dead)
{
    struct store_living living = {.op = STORE_CONTROL_LIVING};

    char *before = store_dump();

    for (unsigned i = 0; i < 3; i++)
        if (clients[i].fd >= 0)
            close(clients[i].fd);
    store_server_end();
    close(control);
    begin_store();
    char *after = store_dump();
    MUST(!strcmp(before, after));
    MUST(store_charges_nodes_only());
    free(before);
    free(after);
    for (unsigned i = 1; i < 3; i++)
        if (i != dead)
            living.domid[living.n++] = i;
    MUST(send(control, &living, sizeof(living), 0) == (ssize_t)sizeof(living));
    MUST(store_server_turn(0) == 0);
    MUST(!dead || !xsd_account_of(dead));
    for (unsigned i = 0; i < 3; i++)
        introduce(i);
    turn();
}

static void finish(void)
{
    for (unsigned i = 0; i < 3; i++)
        clients[i].quiet = false;
    for (int i = 0; i < 2000; i++) {
        bool waiting = false;
        turn();
        for (unsigned d = 0; d < 3; d++)
            waiting |= clients[d].fd >= 0 && !clients[d].raw && clients[d].asked != clients[d].answered;
        if (!waiting)
            break;
    }
    for (unsigned d = 0; d < 3; d++)
        MUST(clients[d].fd < 0 || clients[d].raw || clients[d].asked == clients[d].answered);
    MUST(clients[0].fd >= 0);
    next_life(0);
    say(STORE_CONTROL_RELEASE, 1, -1);
    say(STORE_CONTROL_RELEASE, 2, -1);
    for (unsigned d = 0; d < 3; d++)
        if (clients[d].fd >= 0)
            close(clients[d].fd);
    MUST(store_server_turn(0) == 0);
    MUST(store_server_turn(0) == 0);
    MUST(!xsd_account_of(1) && !xsd_account_of(2));
    const uint32_t *used = xsd_account_of(0)->used;
    MUST(!used[XSD_WATCH] && !used[XSD_TXN] && !used[XSD_ENTRY] && !used[XSD_TOOL]);
    store_server_end();
    close(control);
    close(journal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script s = {data, size};

    start();
    while (s.size) {
        uint8_t step = next(&s);
        struct client *c = &clients[1 + (step & 1)];
        switch (step >> 5) {
        case 0:
        case 1: request(&s, c); break;
        case 2:
        case 3: raw(&s, c); break;
        case 4: toolstack(&s); break;
        case 5:
            if (step & 8)
                xsd_journal_compact();
            else if (step & 4)
                next_life((step & 3) % 3);
            else
                reborn(1 + (step & 1));
            break;
        case 6: c->quiet = step & 2; break;
        default: turn(); break;
        }
    }
    finish();
    return 0;
}
