/* SPDX-License-Identifier: MIT */
/*
 * Bytes play the toolstack, the store and several domains: they send calls that
 * are right, nearly right and wrong, read their answers or not, and die; store and
 * toolstack come again.  After each turn the core's tables must be consistent; at
 * the end no descriptor may be left.
 */
#include "../core_rig.h"

#define GUESTS 6
#define CALLS_MAX 160 /* of one input */

struct input {
    const uint8_t *at;
    size_t left;
};

static uint8_t byte(struct input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->at++;
}

/* Mostly small, at times at an edge. */
static uint32_t word(struct input *in)
{
    uint8_t b = byte(in);
    switch (b >> 5) {
    case 7:
        return UINT32_MAX - (b & 31);
    case 6:
        return 1u << (b & 31);
    case 5:
        return (uint32_t)byte(in) << 8 | byte(in);
    default:
        return b;
    }
}

static int guest[GUESTS]; /* core connections; -1 none */
static domid_t guest_domid[GUESTS];

static void drain(int sock)
{
    struct core_reply r;
    int fds[HYP_FDS_MAX];
    unsigned nfds;
    while (rig_receive(sock, &r, fds, &nfds))
        for (unsigned i = 0; i < nfds; i++)
            close(fds[i]);
}

static void turn(void)
{
    rig_turn();
    rig_check();
    char words[256];
    while (rig.store_control >= 0 && recv(rig.store_control, words, sizeof(words), MSG_DONTWAIT) > 0)
        ; /* the store keeps up */
}

static void call(int sock, const void *packet, size_t bytes)
{
    if (send(sock, packet, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return; /* full, or gone: also a case */
}

static void hello(int sock)
{
    const struct core_call c = { CORE_OP_HELLO, 0 };
    call(sock, &c, sizeof(c));
}

static void create(struct input *in, unsigned slot)
{
    if (guest[slot] >= 0)
        return;
    struct core_call_create c = { .h = { CORE_OP_DOMAIN_CREATE, 5 },
                                  .cfg = { .name = "fuzz", .grant_pages = 3000 } };
    uint8_t b = byte(in);
    c.cfg.class_id = b & 1 ? HYP_CLASS_BLK : b & 2 ? HYP_CLASS_NBD : HYP_CLASS_NATIVE;
    rig.launch_fails = b & 4;
    drain(rig.toolstack);
    call(rig.toolstack, &c, sizeof(c));
    turn();
    rig.launch_fails = false;
    struct core_reply r;
    int fds[HYP_FDS_MAX];
    unsigned nfds = 0;
    while (rig_receive(rig.toolstack, &r, fds, &nfds)) {
        if (r.op != CORE_OP_DOMAIN_CREATE || r.error) {
            while (nfds > 0)
                close(fds[--nfds]);
            continue;
        }
        guest_domid[slot] = (domid_t)r.u.domain.domid;
        if (nfds == 2) {
            guest[slot] = fds[0];
            close(fds[1]);
        } else {
            struct domain *d = domain_find(&rig.core, r.u.domain.domid);
            guest[slot] = d ? rig_copy(rig_process(d->pidfd)->core) : -1;
        }
    }
    struct core_call_domain go = { { CORE_OP_DOMAIN_UNPAUSE, 6 }, guest_domid[slot], 0 };
    if (b & 8)
        return;
    call(rig.toolstack, &go, sizeof(go));
    hello(guest[slot] >= 0 ? guest[slot] : rig.toolstack);
    turn();
}

static void die(struct input *in, unsigned slot)
{
    struct domain *d = domain_find(&rig.core, guest_domid[slot]);
    if (d && d->pidfd >= 0 && byte(in) & 1)
        rig_kill(d->pidfd);
    if (guest[slot] >= 0)
        core_close(&guest[slot]);
}

static uint32_t some_domid(struct input *in)
{
    uint8_t b = byte(in);
    return b < 200 ? guest_domid[b % GUESTS] : b < 210 ? LOCAL_DOMID_STORE : word(in);
}

/* Fields that may be right: real domids, references and ports that exist. */
static void likely_call(struct input *in, int sock)
{
    union core_call_any c;
    static const size_t bytes[CORE_OP_COUNT] = {
        [CORE_OP_HELLO] = sizeof(c.h), [CORE_OP_READY] = sizeof(c.h),
        [CORE_OP_RESTRICT] = sizeof(c.restrict_to),
        [CORE_OP_POOL_CREATE] = sizeof(c.pool_create), [CORE_OP_POOL_REGRANT] = sizeof(c.pool),
        [CORE_OP_POOL_SHARE] = sizeof(c.pool), [CORE_OP_STORE_CONNECT] = sizeof(c.h),
        [CORE_OP_PARCEL] = sizeof(c.h), [CORE_OP_END] = sizeof(c.h),
        [CORE_OP_POOL_END] = sizeof(c.pool), [CORE_OP_POOL_MAP] = sizeof(c.pool),
        [CORE_OP_POOL_UNMAP] = sizeof(c.pool), [CORE_OP_EVTCHN_ALLOC] = sizeof(c.evtchn),
        [CORE_OP_EVTCHN_BIND] = sizeof(c.evtchn), [CORE_OP_EVTCHN_CLOSE] = sizeof(c.evtchn),
        [CORE_OP_DEVICE_ACQUIRE] = sizeof(c.device), [CORE_OP_DOMAIN_CREATE] = sizeof(c.create),
        [CORE_OP_DOMAIN_UNPAUSE] = sizeof(c.domain), [CORE_OP_DOMAIN_STOP] = sizeof(c.domain),
        [CORE_OP_DOMAIN_DESTROY] = sizeof(c.domain), [CORE_OP_DOMAIN_INFO] = sizeof(c.domain),
        [CORE_OP_DOMAIN_HOLDING] = sizeof(c.domain), [CORE_OP_DEVICE_ASSIGN] = sizeof(c.assign),
        [CORE_OP_DEVICE_RELEASE] = sizeof(c.device),
    };
    /* As the seeds know them; new ones come last. */
    static const uint8_t ops[] = {
        CORE_OP_NONE, CORE_OP_HELLO, CORE_OP_READY, CORE_OP_RESTRICT, CORE_OP_POOL_CREATE,
        CORE_OP_POOL_REGRANT, CORE_OP_POOL_END, CORE_OP_POOL_MAP, CORE_OP_POOL_UNMAP,
        CORE_OP_EVTCHN_ALLOC, CORE_OP_EVTCHN_BIND, CORE_OP_EVTCHN_CLOSE, CORE_OP_DEVICE_ACQUIRE,
        CORE_OP_DOMAIN_CREATE, CORE_OP_DOMAIN_UNPAUSE, CORE_OP_DOMAIN_STOP, CORE_OP_DOMAIN_DESTROY,
        CORE_OP_DOMAIN_INFO, CORE_OP_DOMAIN_HOLDING, CORE_OP_COUNT, CORE_OP_DEVICE_ASSIGN,
        CORE_OP_DEVICE_RELEASE, CORE_OP_COUNT, CORE_OP_POOL_SHARE, CORE_OP_STORE_CONNECT,
        CORE_OP_PARCEL, CORE_OP_END,
    };
    memset(&c, 0, sizeof(c));
    c.h.op = ops[byte(in) % sizeof(ops)];
    c.h.seq = byte(in);
    if (c.h.op == CORE_OP_END && byte(in) < 0xf0) /* or most inputs would be short */
        c.h.op = CORE_OP_STORE_CONNECT;
    switch (c.h.op) {
    case CORE_OP_RESTRICT:
        c.restrict_to.keep = word(in) | HYP_MAY_CONTROL;
        break;
    case CORE_OP_POOL_CREATE:
        c.pool_create.grantee = some_domid(in);
        c.pool_create.pages = word(in);
        c.pool_create.flags = byte(in) & 1;
        break;
    case CORE_OP_DOMAIN_CREATE:
        c.create.cfg.class_id = byte(in);
        c.create.cfg.name[0] = (char)byte(in);
        c.create.cfg.grant_pages = 100;
        break;
    case CORE_OP_DEVICE_ASSIGN:
        c.assign.domid = some_domid(in);
        c.assign.device = byte(in) & 7;
        c.assign.flags = byte(in) & 7;
        snprintf(c.assign.path, sizeof(c.assign.path), "%s",
                 (const char *[]){ "/ok", "/hang", "/missing", "ok" }[byte(in) & 3]);
        break;
    default: /* all others name a domain, or nothing, and a number */
        c.pool.peer = byte(in) & 1 ? some_domid(in) : 0;
        c.pool.ref = word(in);
        break;
    }
    size_t n = c.h.op < CORE_OP_COUNT && bytes[c.h.op] ? bytes[c.h.op] : sizeof(c.h);
    call(sock, &c, n);
}

static void die_store(void)
{
    struct domain *d = domain_find(&rig.core, LOCAL_DOMID_STORE);
    if (d)
        rig_kill(d->pidfd);
}

static void next_toolstack(void)
{
    core_close(&rig.toolstack);
    turn();
    rig.toolstack = rig_adopt();
    hello(rig.toolstack);
}

static void raw_call(struct input *in, int sock)
{
    uint8_t packet[64];
    size_t n = byte(in) % sizeof(packet);
    for (size_t i = 0; i < n; i++)
        packet[i] = byte(in);
    if (n > 1) { /* an op more often than not */
        packet[1] = 0;
        if (n > 3)
            packet[2] = packet[3] = 0;
    }
    if (n > 0)
        call(sock, packet, n);
}

/* A right call with a descriptor too many. */
static void gift(int sock)
{
    const struct core_call c = { CORE_OP_READY, 0 };
    const int fd = STDIN_FILENO;
    rights_send(sock, &c, sizeof(c), &fd, 1);
}

static void play(struct input *in)
{
    for (unsigned n = 0; n < CALLS_MAX && in->left > 0 && !rig.core.over; n++) {
        uint8_t b = byte(in);
        unsigned slot = (b >> 4) % (GUESTS + 1);
        int sock = slot == GUESTS ? rig.toolstack : guest[slot];
        unsigned what = b & 15;
        if (what < 2 && slot < GUESTS)
            create(in, slot);
        else if (what == 2 && slot < GUESTS)
            die(in, slot);
        else if (what == 0)
            die_store();
        else if (what == 1)
            rig_store();
        else if (what == 2)
            next_toolstack();
        else if (what == 3)
            turn();
        else if (sock >= 0 && what == 4)
            drain(sock);
        else if (sock >= 0 && what == 5)
            gift(sock);
        else if (sock >= 0 && what == 6)
            raw_call(in, sock);
        else if (sock >= 0)
            likely_call(in, sock);
    }
    turn();
    turn();
}

static unsigned open_files(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 600; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    /* What the core says about each refusal would be most of the output. */
    static char *more[64];
    static char quiet[] = "-close_fd_mask=2";
    if (*argc < 62) {
        memcpy(more, *argv, (size_t)*argc * sizeof(char *));
        more[(*argc)++] = quiet;
        *argv = more;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    unsigned before = open_files();
    for (unsigned i = 0; i < GUESTS; i++) {
        guest[i] = -1;
        guest_domid[i] = 0;
    }
    rig_start();
    hello(rig.toolstack);
    turn();
    play(&in);
    for (unsigned i = 0; i < GUESTS; i++)
        core_close(&guest[i]);
    rig_stop();
    RIG_MUST(open_files() == before);
    return 0;
}
