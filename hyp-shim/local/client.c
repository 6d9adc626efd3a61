/* SPDX-License-Identifier: MIT */
#include "client.h"
#include "rights.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A flood of rings is drained this far in one go; the rest wakes us again. */
#define CLEAR_READS 8
#define CLEAR_BYTES 512

static struct local_hyp *of(struct hyp *hyp)
{
    return (struct local_hyp *)hyp;
}

/* ------------------------------------------------------- packets with fds */

/* One packet of exactly `bytes`: 1 got, 0 none now, -ENOTCONN end or nonsense.
 * Descriptors that did not get through (our table is full) are for the caller
 * to miss: the packet itself is right. */
static int receive(int sock, void *packet, size_t bytes, struct rights *fds)
{
    ssize_t n;
    int flags;
    do
        n = rights_receive(sock, packet, bytes, fds, HYP_FDS_MAX, &flags);
    while (n == -EINTR);
    if (n == -EAGAIN)
        return 0;
    if (n == (ssize_t)bytes && !(flags & MSG_TRUNC))
        return 1;
    rights_close(fds);
    return -ENOTCONN;
}

static int wait_for(int sock, short events)
{
    struct pollfd p = { .fd = sock, .events = events };
    return ppoll(&p, 1, NULL, NULL) < 0 && errno != EINTR ? -errno : 0;
}

static int transmit(int sock, const void *packet, size_t bytes, const int *fds, unsigned nfds)
{
    int err;
    while ((err = rights_send(sock, packet, bytes, fds, nfds)) != 0) {
        if (err == -EPIPE || err == -ECONNRESET)
            return -ENOTCONN;
        if (err != -EAGAIN && err != -EINTR)
            return err;
        err = wait_for(sock, POLLOUT);
        if (err)
            return err;
    }
    return 0;
}

/* ------------------------------------------------------------------ events */

static int event_keep(struct local_hyp *h, const struct core_reply *r, struct rights *fds)
{
    if (h->events_in - h->events_out == CLIENT_EVENTS_MAX) {
        rights_close(fds);
        return -ENOTCONN; /* a lost death cannot be made good */
    }
    h->event_fds[h->events_in % CLIENT_EVENTS_MAX] = fds->n > 0 ? fds->fd[--fds->n] : -1;
    rights_close(fds);
    h->events[h->events_in++ % CLIENT_EVENTS_MAX] = (struct hyp_event){
        .kind = (enum hyp_event_kind)r->u.event.kind,
        .domid = (domid_t)r->u.event.domid,
        .device = r->u.event.device,
        .error = r->u.event.error,
        .at_ns = r->u.event.at_ns,
    };
    return 0;
}

/* Takes what arrived: *r holds a reply (1), or an event was kept (2), or
 * nothing was there (0). */
static int take_packet(struct local_hyp *h, struct core_reply *r, struct rights *fds)
{
    int got = receive(h->core_fd, r, sizeof(*r), fds);
    if (got == 1 && r->op == CORE_OP_NONE) {
        got = event_keep(h, r, fds);
        if (got == 0)
            return 2;
    }
    if (got < 0)
        h->gone = true;
    return got;
}

/* Events that came while a call waited are ours to announce. */
static void wake_set(struct local_hyp *h)
{
    uint64_t one = 1;
    if (write(h->wake_fd, &one, sizeof(one)) != sizeof(one))
        h->gone = true;
}

static void wake_clear(struct local_hyp *h)
{
    uint64_t count;
    if (read(h->wake_fd, &count, sizeof(count)) != sizeof(count))
        h->gone = true;
}

/* The oldest, and what came along with it. */
static void event_take(struct local_hyp *h, struct hyp_event *ev)
{
    unsigned at = h->events_out++ % CLIENT_EVENTS_MAX;
    *ev = h->events[at];
    h->device = ev->device;
    h->device_fd = h->event_fds[at];
    if (ev->kind == HYP_EV_DEATH && ev->domid <= LOCAL_DOMID_LAST)
        h->dead[ev->domid / 64] |= UINT64_C(1) << ev->domid % 64;
}

static int client_next_event(struct hyp *hyp, struct hyp_event *ev)
{
    struct local_hyp *h = of(hyp);
    pthread_mutex_lock(&h->lock);
    int got = 0;
    if (h->device_fd >= 0)
        close(h->device_fd);
    h->device_fd = -1;
    if (h->events_in != h->events_out) {
        event_take(h, ev);
        got = 1;
        if (h->events_in == h->events_out)
            wake_clear(h);
    } else if (h->gone) {
        got = -ENOTCONN;
    } else {
        struct core_reply r;
        struct rights fds;
        got = take_packet(h, &r, &fds);
        if (got == 2) {
            event_take(h, ev);
            got = 1;
        } else if (got == 1) { /* a reply that nobody waits for */
            rights_close(&fds);
            h->gone = true;
            got = -ENOTCONN;
        }
    }
    pthread_mutex_unlock(&h->lock);
    return got;
}

/* ------------------------------------------------------------------- calls */

static int wait_reply(struct local_hyp *h, const struct core_call *call, struct core_reply *r,
                      struct rights *fds)
{
    uint32_t before = h->events_in;
    int got;
    while ((got = take_packet(h, r, fds)) != 1) {
        if (got == 0)
            got = wait_for(h->core_fd, POLLIN);
        if (got < 0)
            break;
    }
    if (h->events_in != before)
        wake_set(h);
    if (got == 1 && r->op == call->op && r->seq == call->seq)
        return 0;
    if (got == 1)
        rights_close(fds);
    h->gone = true;
    return -ENOTCONN;
}

static int call_with_fds(struct local_hyp *h, struct core_call *call, size_t bytes, const int *send,
                         unsigned nsend, struct core_reply *r, struct rights *fds)
{
    if (h->gone)
        return -ENOTCONN;
    call->seq = ++h->seq;
    int err = transmit(h->core_fd, call, bytes, send, nsend);
    if (err == -ENOTCONN)
        h->gone = true;
    return err ? err : wait_reply(h, call, r, fds);
}

int client_call(struct local_hyp *h, struct core_call *call, size_t bytes, struct core_reply *reply,
                int *fds, unsigned nfds)
{
    struct rights got;
    int err = call_with_fds(h, call, bytes, NULL, 0, reply, &got);
    if (err)
        return err;
    if (reply->error || got.n != nfds) {
        rights_close(&got);
        return reply->error ? reply->error : -EMFILE;
    }
    for (unsigned i = 0; i < nfds; i++)
        fds[i] = got.fd[i];
    return 0;
}

/* A call whose reply says no more than yes or no. */
static int simple_call(struct local_hyp *h, struct core_call *call, size_t bytes, struct core_reply *reply)
{
    struct core_reply unused;
    pthread_mutex_lock(&h->lock);
    int err = client_call(h, call, bytes, reply ? reply : &unused, NULL, 0);
    pthread_mutex_unlock(&h->lock);
    return err;
}

/* A call whose reply is nfds descriptors. */
static int call_for_fds(struct local_hyp *h, struct core_call *call, size_t bytes, int *fds, unsigned nfds)
{
    struct core_reply unused;
    pthread_mutex_lock(&h->lock);
    int err = client_call(h, call, bytes, &unused, fds, nfds);
    pthread_mutex_unlock(&h->lock);
    return err;
}

static int client_ready(struct hyp *hyp)
{
    struct core_call call = { .op = CORE_OP_READY };
    return simple_call(of(hyp), &call, sizeof(call), NULL);
}

static int client_restrict(struct hyp *hyp, uint32_t keep)
{
    struct core_call_restrict call = { .h.op = CORE_OP_RESTRICT, .keep = keep };
    return simple_call(of(hyp), &call.h, sizeof(call), NULL);
}

static int client_device_acquire(struct hyp *hyp, uint32_t device, int *fd)
{
    struct local_hyp *h = of(hyp);
    struct core_call_device call = { .h.op = CORE_OP_DEVICE_ACQUIRE, .domid = hyp_domid(hyp),
                                     .device = device };
    pthread_mutex_lock(&h->lock);
    bool here = h->device_fd >= 0 && h->device == device;
    if (here) {
        *fd = h->device_fd;
        h->device_fd = -1;
    }
    pthread_mutex_unlock(&h->lock);
    return here ? 0 : call_for_fds(h, &call.h, sizeof(call), fd, 1);
}

/* ---------------------------------------------------------- event channels */

static bool is_dead(const struct local_hyp *h, domid_t domid)
{
    return domid <= LOCAL_DOMID_LAST && h->dead[domid / 64] >> domid % 64 & 1;
}

static void evtchn_close_port(struct local_hyp *h, uint32_t port)
{
    struct core_call_evtchn call = { .h.op = CORE_OP_EVTCHN_CLOSE, .port = port };
    struct core_reply reply;
    client_call(h, &call.h, sizeof(call), &reply, NULL, 0);
}

static int evtchn_new(struct hyp *hyp, struct core_call_evtchn *call, struct hyp_evtchn **out)
{
    struct local_hyp *h = of(hyp);
    struct core_reply reply;
    int fds[2];
    pthread_mutex_lock(&h->lock);
    struct local_evtchn *ch = h->evtchns;
    while (ch < h->evtchns + CLIENT_EVTCHNS_MAX && ch->hyp)
        ch++;
    int err = -EDQUOT;
    if (ch < h->evtchns + CLIENT_EVTCHNS_MAX) {
        err = client_call(h, &call->h, sizeof(*call), &reply, fds, 2);
        if (err == -EMFILE)
            evtchn_close_port(h, reply.u.evtchn.port);
    }
    if (err == 0) {
        if (call->peer <= LOCAL_DOMID_LAST)
            h->dead[call->peer / 64] &= ~(UINT64_C(1) << call->peer % 64); /* another of that number */
        *ch = (struct local_evtchn){ .c = { &client_ops, fds[0], reply.u.evtchn.port },
                                     .wr = fds[1], .peer = (domid_t)call->peer, .hyp = h };
        *out = (struct hyp_evtchn *)ch;
    }
    pthread_mutex_unlock(&h->lock);
    return err;
}

static int client_evtchn_alloc(struct hyp *hyp, domid_t remote, struct hyp_evtchn **out)
{
    struct core_call_evtchn call = { .h.op = CORE_OP_EVTCHN_ALLOC, .peer = remote };
    return evtchn_new(hyp, &call, out);
}

static int client_evtchn_bind(struct hyp *hyp, domid_t remote, evtchn_port_t port, struct hyp_evtchn **out)
{
    struct core_call_evtchn call = { .h.op = CORE_OP_EVTCHN_BIND, .peer = remote, .port = port };
    return evtchn_new(hyp, &call, out);
}

static int client_evtchn_notify(struct hyp_evtchn *ch)
{
    /* A full pipe means that the peer has been rung already. */
    return write(((struct local_evtchn *)ch)->wr, "", 1) == 1 || errno == EAGAIN ? 0 : -errno;
}

static void client_evtchn_clear(struct hyp_evtchn *ch)
{
    char sink[CLEAR_BYTES];
    int fd = ((struct local_evtchn *)ch)->c.fd;
    for (int i = 0; i < CLEAR_READS && read(fd, sink, sizeof(sink)) == (ssize_t)sizeof(sink); i++)
        ;
}

static void client_evtchn_close(struct hyp_evtchn *evtchn)
{
    struct local_evtchn *ch = (struct local_evtchn *)evtchn;
    struct local_hyp *h = ch->hyp;
    pthread_mutex_lock(&h->lock);
    close(ch->c.fd);
    close(ch->wr);
    if (!is_dead(h, ch->peer)) /* else the core has ended it */
        evtchn_close_port(h, ch->c.port);
    ch->hyp = NULL;
    pthread_mutex_unlock(&h->lock);
}

/* --------------------------------------------------------------- toolstack */

static int client_domain_create(struct hyp *hyp, const struct hyp_domain_config *cfg, const int *fds,
                                unsigned nfds, domid_t *out, int conn[2])
{
    if (nfds > HYP_FDS_MAX)
        return -EINVAL;
    struct local_hyp *h = of(hyp);
    struct core_call_create call = { .h.op = CORE_OP_DOMAIN_CREATE, .cfg = *cfg, .nfds = nfds };
    struct core_reply reply;
    struct rights got;
    conn[0] = conn[1] = -1;
    pthread_mutex_lock(&h->lock);
    int err = call_with_fds(h, &call.h, sizeof(call), fds, nfds, &reply, &got);
    pthread_mutex_unlock(&h->lock);
    if (err)
        return err;
    unsigned expected = cfg->class_id == HYP_CLASS_NATIVE ? 2 : 0;
    if (reply.error || got.n != expected) {
        rights_close(&got);
        if (reply.error == 0)
            hyp_domain_destroy(hyp, (domid_t)reply.u.domain.domid);
        return reply.error ? reply.error : -EMFILE;
    }
    for (unsigned i = 0; i < got.n; i++)
        conn[i] = got.fd[i];
    *out = (domid_t)reply.u.domain.domid;
    return 0;
}

static int domain_call(struct hyp *hyp, uint32_t op, domid_t domid, unsigned n, struct core_reply *reply)
{
    struct core_call_domain call = { .h.op = op, .domid = domid, .n = n };
    return simple_call(of(hyp), &call.h, sizeof(call), reply);
}

static int client_domain_unpause(struct hyp *hyp, domid_t domid)
{
    return domain_call(hyp, CORE_OP_DOMAIN_UNPAUSE, domid, 0, NULL);
}

static int client_domain_stop(struct hyp *hyp, domid_t domid)
{
    return domain_call(hyp, CORE_OP_DOMAIN_STOP, domid, 0, NULL);
}

static int client_domain_destroy(struct hyp *hyp, domid_t domid)
{
    return domain_call(hyp, CORE_OP_DOMAIN_DESTROY, domid, 0, NULL);
}

/* Of the first living domain from that number on. */
static int info_from(struct hyp *hyp, uint32_t domid, struct hyp_domain_info *out)
{
    struct core_call_domain call = { .h.op = CORE_OP_DOMAIN_INFO, .domid = domid };
    struct core_reply reply;
    int err = simple_call(of(hyp), &call.h, sizeof(call), &reply);
    if (err == 0)
        *out = reply.u.info;
    return err;
}

static int client_domain_info(struct hyp *hyp, domid_t domid, struct hyp_domain_info *out)
{
    struct hyp_domain_info info;
    int err = info_from(hyp, domid, &info);
    if (err == -ENOENT || (err == 0 && info.domid != domid))
        return -ESRCH;
    if (err == 0)
        *out = info;
    return err;
}

static int client_domain_next(struct hyp *hyp, domid_t after, struct hyp_domain_info *out)
{
    return info_from(hyp, (uint32_t)after + 1, out);
}

static int client_domain_holding(struct hyp *hyp, domid_t domid, unsigned n, struct hyp_holding *out)
{
    struct core_reply reply;
    int err = domain_call(hyp, CORE_OP_DOMAIN_HOLDING, domid, n, &reply);
    if (err == 0)
        *out = reply.u.holding;
    return err;
}

static int client_device_assign(struct hyp *hyp, domid_t domid, uint32_t device, const char *path,
                                unsigned flags)
{
    struct core_call_assign call = { .h.op = CORE_OP_DEVICE_ASSIGN, .domid = domid, .device = device,
                                     .flags = flags };
    size_t length = strlen(path);
    if (length >= sizeof(call.path))
        return -ENAMETOOLONG;
    memcpy(call.path, path, length);
    return simple_call(of(hyp), &call.h, sizeof(call), NULL);
}

static int client_device_release(struct hyp *hyp, domid_t domid, uint32_t device)
{
    struct core_call_device call = { .h.op = CORE_OP_DEVICE_RELEASE, .domid = domid, .device = device };
    return simple_call(of(hyp), &call.h, sizeof(call), NULL);
}

static int client_end(struct hyp *hyp)
{
    struct core_call call = { .op = CORE_OP_END };
    return simple_call(of(hyp), &call, sizeof(call), NULL);
}

int hyp_local_parcel(struct hyp *hyp, int parcel[2])
{
    struct core_call call = { .op = CORE_OP_PARCEL };
    return call_for_fds(of(hyp), &call, sizeof(call), parcel, 2);
}

/* ------------------------------------------------------------------ handle */

static int client_store_connect(struct hyp *hyp)
{
    struct core_call call = { .op = CORE_OP_STORE_CONNECT };
    int fd, err = call_for_fds(of(hyp), &call, sizeof(call), &fd, 1);
    return err ? err : fd;
}

static int client_store_fd(struct hyp *hyp)
{
    struct local_hyp *h = of(hyp);
    if (h->store_taken)
        return -ENOENT;
    int fd = h->store_fd >= 0 ? h->store_fd : client_store_connect(hyp);
    h->store_taken = fd >= 0;
    h->store_fd = -1;
    return fd;
}

static int client_fd(const struct hyp *hyp)
{
    return ((const struct local_hyp *)hyp)->poll_fd;
}

static void close_if(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void client_close(struct hyp *hyp)
{
    struct local_hyp *h = of(hyp);
    client_unguard(h);
    client_grants_drop(h);
    for (struct local_evtchn *ch = h->evtchns; ch < h->evtchns + CLIENT_EVTCHNS_MAX; ch++)
        if (ch->hyp) {
            close(ch->c.fd);
            close(ch->wr);
        }
    for (; h->events_out != h->events_in; h->events_out++)
        close_if(h->event_fds[h->events_out % CLIENT_EVENTS_MAX]);
    close_if(h->device_fd);
    close_if(h->poll_fd);
    close_if(h->wake_fd);
    close_if(h->store_fd);
    close_if(h->core_fd);
    pthread_mutex_destroy(&h->lock);
    munmap(h, sizeof(*h));
}

const struct hyp_ops client_ops = {
    .name = "local",
    .close = client_close,
    .store_fd = client_store_fd,
    .store_connect = client_store_connect,
    .fd = client_fd,
    .next_event = client_next_event,
    .ready = client_ready,
    .restrict_to = client_restrict,
    .pool_create = client_pool_create,
    .pool_regrant = client_pool_regrant,
    .pool_share = client_pool_share,
    .pool_end = client_pool_end,
    .pool_faulted = client_pool_faulted,
    .map_open = client_map_open,
    .map_close = client_map_close,
    .map_grants = client_map_grants,
    .unmap_grants = client_unmap_grants,
    .map_persistent = client_map_persistent,
    .map_run = client_map_run,
    .map_range = client_map_range,
    .grant_copy = client_grant_copy,
    .map_faulted = client_map_faulted,
    .guard_memory_faults = client_guard,
    .evtchn_alloc = client_evtchn_alloc,
    .evtchn_bind = client_evtchn_bind,
    .evtchn_notify = client_evtchn_notify,
    .evtchn_clear = client_evtchn_clear,
    .evtchn_close = client_evtchn_close,
    .device_acquire = client_device_acquire,
    .domain_create = client_domain_create,
    .domain_unpause = client_domain_unpause,
    .domain_stop = client_domain_stop,
    .domain_destroy = client_domain_destroy,
    .domain_info = client_domain_info,
    .domain_next = client_domain_next,
    .domain_holding = client_domain_holding,
    .device_assign = client_device_assign,
    .device_release = client_device_release,
    .end = client_end,
};

/* hyp_fd(): level-triggered, so it stays readable while either has something. */
static int watch_both(struct local_hyp *h)
{
    struct epoll_event in = { .events = EPOLLIN };
    h->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    h->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (h->wake_fd < 0 || h->poll_fd < 0 || epoll_ctl(h->poll_fd, EPOLL_CTL_ADD, h->core_fd, &in) ||
        epoll_ctl(h->poll_fd, EPOLL_CTL_ADD, h->wake_fd, &in))
        return -errno;
    return 0;
}

static int hello(struct local_hyp *h)
{
    struct core_call call = { .op = CORE_OP_HELLO };
    struct core_reply reply;
    int err = simple_call(h, &call, sizeof(call), &reply);
    if (err == 0 && reply.u.hello.version != CORE_PROTO_VERSION)
        err = -EPROTO;
    if (err == 0)
        h->c.domid = (domid_t)reply.u.hello.domid;
    return err;
}

static void ignore_sigpipe(void)
{
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

int hyp_local_open(struct hyp **out, int core_fd, int store_fd)
{
    struct local_hyp *h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (h == MAP_FAILED) {
        close_if(core_fd);
        close_if(store_fd);
        return -ENOMEM;
    }
    h->c.ops = &client_ops;
    h->core_fd = core_fd;
    h->store_fd = store_fd;
    h->wake_fd = h->poll_fd = h->device_fd = -1;
    pthread_mutex_init(&h->lock, NULL);
    ignore_sigpipe();
    int err = watch_both(h);
    if (err == 0)
        err = hello(h);
    if (err) {
        client_close((struct hyp *)h);
        return err;
    }
    *out = (struct hyp *)h;
    return 0;
}

/* A SOCK_SEQPACKET socket that is connected to a path, or a negative errno. */
static int connect_to(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    size_t length = strlen(path);
    if (length >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    memcpy(addr.sun_path, path, length);
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (sock < 0 || connect(sock, (const struct sockaddr *)&addr, sizeof(addr)) == 0)
        return sock < 0 ? -errno : sock;
    int err = -errno;
    close(sock);
    return err;
}

int hyp_local_attach(struct hyp **out, const char *path)
{
    struct attach_reply reply = { 0 };
    struct rights fds = { 0 };
    int got = 0, sock = connect_to(path);
    if (sock < 0)
        return sock == -ECONNREFUSED ? -ENOENT : sock;
    while (got == 0 && (got = receive(sock, &reply, sizeof(reply), &fds)) == 0)
        got = wait_for(sock, POLLIN);
    close(sock);
    if (got < 0)
        return got;
    int err = reply.version != CORE_PROTO_VERSION ? -EPROTO
              : reply.error                       ? reply.error
              : fds.n != 2                        ? -EPROTO
                                                  : 0;
    if (err) {
        rights_close(&fds);
        return err;
    }
    return hyp_local_open(out, fds.fd[0], fds.fd[1]);
}

int hyp_local_adopt(struct hyp **out, const char *path, int parcel[2])
{
    struct hyp *hyp;
    int sock = connect_to(path);
    if (sock < 0)
        return sock;
    int err = hyp_local_open(&hyp, sock, -1);
    if (err)
        return err == -ENOTCONN ? -EBUSY : err; /* the core hung up */
    err = hyp_local_parcel(hyp, parcel);
    if (err)
        hyp_close(hyp);
    else
        *out = hyp;
    return err;
}
