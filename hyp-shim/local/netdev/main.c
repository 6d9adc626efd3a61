/* SPDX-License-Identifier: MIT */
/*
 * bulkhead-netdev: the keeper of network interfaces, a domain of class
 * HYP_CLASS_NETDEV.  The core starts it as root with CAP_NET_ADMIN,
 * CAP_NET_RAW and CAP_SYS_ADMIN, in the machine's network, mount and user
 * namespaces.  It gives back what it holds and ends when the toolstack hangs
 * up or asks it to stop, and on SIGTERM.
 */
#include "netdev.h"

#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "../../hyp.h"
#include "../jail.h"
#include "../rights.h"

static struct {
    struct hyp *hyp;
    int signals, news;       /* SIGTERM; links of the machine                    */
    bool over;
    bool answering;          /* the answer has still to be sent                  */
    struct link_event answer;
} keeper;

/* -------------------------------------------------------------------- sentences */

int netdev_refuse(char why[LINK_WHY_MAX], int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, LINK_WHY_MAX, format, args);
    va_end(args);
    return error;
}

void netdev_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* --------------------------------------------------------------------- requests */

/* A name that the kernel takes and that means one interface. */
static bool name_good(const char *name)
{
    if (!memchr(name, 0, LINK_NAME_MAX) || name[0] == '\0' || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0)
        return false;
    for (; *name; name++)
        if (*name <= ' ' || *name > '~' || *name == '/' || *name == ':' || *name == '%')
            return false;
    return true;
}

static int check(const struct link_request *q, const struct rights *fds, char why[LINK_WHY_MAX])
{
    bool wants_channel = q->op == LINK_UPLINK || q->op == LINK_TAP;
    if (q->version != LINK_VERSION)
        return netdev_refuse(why, -EPROTO, "the keeper speaks version %u, not %u; is the installation whole?",
                             LINK_VERSION, q->version);
    if (!wants_channel && q->op != LINK_RELEASE)
        return netdev_refuse(why, -ENOSYS, "the keeper has no request %u", q->op);
    if (fds->n != wants_channel || q->zero[0] || q->zero[1] || !memchr(q->netns, 0, sizeof(q->netns)))
        return netdev_refuse(why, -EPROTO, "the keeper does not understand this request");
    if (wants_channel && !name_good(q->name))
        return netdev_refuse(why, -EINVAL, "\"%.*s\" cannot be the name of a network interface",
                             LINK_NAME_MAX, q->name);
    if (q->op == LINK_UPLINK && (q->kind < LINK_KIND_PACKET || q->kind > LINK_KIND_TAP))
        return netdev_refuse(why, -EINVAL, "there is no kind %u of uplink", q->kind);
    if (q->op == LINK_TAP && (q->mac[0] & 1))
        return netdev_refuse(why, -EINVAL, "%02x:... is a group's MAC address; give %s one of its own",
                             q->mac[0], q->name);
    return 0;
}

static void describe(struct link_event *e, uint32_t state, const struct rtnl_link *link)
{
    e->state = state;
    e->mtu = link->mtu;
    memcpy(e->mac, link->mac, sizeof(e->mac));
}

/* Makes it, or finds it, and sends it; the channel is ours to close. */
static int make_tap(const struct link_request *q, int channel, struct link_event *e)
{
    struct rtnl_link link;
    int fd = tap_guest(q, &link, e->why);
    if (fd < 0) {
        close(channel);
        return fd;
    }
    struct link_grant grant = { .version = LINK_VERSION, .index = q->index, .state = LINK_UP,
                                .ifindex = (uint32_t)link.index, .mtu = link.mtu, .nsockets = 1 };
    memcpy(grant.mac, link.mac, sizeof(grant.mac));
    memcpy(grant.name, q->name, sizeof(grant.name));
    int err = rights_send(channel, &grant, sizeof(grant), &fd, 1);
    if (err)
        netdev_refuse(e->why, err, "cannot send the TAP device %s to its guest: %s", q->name,
                      strerrordesc_np(-err));
    close(channel);
    describe(e, LINK_UP, &link);
    return err;
}

static int carry_out(const struct link_request *q, struct rights *fds, struct link_event *e)
{
    struct uplink *u = NULL;
    int err = check(q, fds, e->why);
    if (err) {
        rights_close(fds);
        return err;
    }
    if (q->op == LINK_RELEASE)
        return tap_release(q->id) == 0 ? 0 : uplink_release(q->id, e->why);
    if (q->op == LINK_TAP)
        return make_tap(q, fds->fd[0], e);
    err = uplink_request(q, fds->fd[0], &u, e->why);
    if (err == 0)
        describe(e, u->state, &u->link);
    return err;
}

static void serve(void)
{
    struct link_request q;
    struct rights fds = { 0 };
    int flags;
    memset(&q, 0, sizeof(q));
    ssize_t n = rights_receive(LINK_CONTROL_FD, &q, sizeof(q), &fds, 1, &flags);
    if (n == -EAGAIN || n == -EINTR)
        return;
    if (n <= 0) { /* the toolstack is gone */
        keeper.over = true;
        return;
    }
    if (n != (ssize_t)sizeof(q) || (flags & (MSG_TRUNC | MSG_CTRUNC)))
        q.version = 0; /* check() refuses it */
    keeper.answer = (struct link_event){ .op = q.op, .id = q.id };
    keeper.answer.error = carry_out(&q, &fds, &keeper.answer);
    if (keeper.answer.error)
        netdev_log("%s", keeper.answer.why);
    keeper.answering = true;
}

/* ---------------------------------------------------------------------- answers */

/* false: no room now, or nobody there (which poll() says next). */
static bool tell(const struct link_event *e)
{
    return rights_send(LINK_CONTROL_FD, e, sizeof(*e), NULL, 0) == 0;
}

static void tell_all(void)
{
    if (keeper.answering && !tell(&keeper.answer))
        return;
    keeper.answering = false;
    for (unsigned i = 0; i < LINK_UPLINKS_MAX; i++) {
        struct uplink *u = uplink_at(i);
        struct link_event e = { .op = LINK_STATE, .id = u->id };
        describe(&e, u->state, &u->link);
        if (u->used && u->news) {
            if (!tell(&e))
                return;
            u->news = false;
        }
    }
}

static bool something_to_tell(void)
{
    bool news = keeper.answering;
    for (unsigned i = 0; i < LINK_UPLINKS_MAX; i++)
        news |= uplink_at(i)->used && uplink_at(i)->news;
    return news;
}

/* --------------------------------------------------------------------- the loop */

enum {
    POLL_CONTROL,
    POLL_HYP,
    POLL_SIGNALS,
    POLL_NEWS,
    POLL_UPLINK,
    POLL_CHANNEL = POLL_UPLINK + LINK_UPLINKS_MAX,
    POLL_COUNT = POLL_CHANNEL + LINK_UPLINKS_MAX * UPLINK_CHANNELS_MAX
};

static struct pollfd fds[POLL_COUNT];

/* While there is something to tell the next request waits: answers are in order,
 * and a toolstack that does not listen is not served. */
static void watch_all(void)
{
    fds[POLL_CONTROL] = (struct pollfd){ LINK_CONTROL_FD, something_to_tell() ? POLLOUT : POLLIN, 0 };
    fds[POLL_HYP] = (struct pollfd){ hyp_fd(keeper.hyp), POLLIN, 0 };
    fds[POLL_SIGNALS] = (struct pollfd){ keeper.signals, POLLIN, 0 };
    fds[POLL_NEWS] = (struct pollfd){ keeper.news, POLLIN, 0 };
    for (unsigned i = 0; i < LINK_UPLINKS_MAX; i++) {
        const struct uplink *u = uplink_at(i);
        fds[POLL_UPLINK + i] = (struct pollfd){ u->watch, POLLIN, 0 };
        for (unsigned c = 0; c < UPLINK_CHANNELS_MAX; c++) /* their end only: nothing is read from it */
            fds[POLL_CHANNEL + i * UPLINK_CHANNELS_MAX + c] = (struct pollfd){ u->channel[c], 0, 0 };
    }
}

static void hear_core(void)
{
    struct hyp_event ev;
    int got;
    while ((got = hyp_next_event(keeper.hyp, &ev)) == 1)
        keeper.over |= ev.kind == HYP_EV_STOP;
    keeper.over |= got < 0;
}

static void hear_links(void)
{
    for (unsigned i = 0; i < LINK_UPLINKS_MAX * UPLINK_CHANNELS_MAX; i++)
        if (fds[POLL_CHANNEL + i].revents)
            uplink_hangup(uplink_at(i / UPLINK_CHANNELS_MAX), i % UPLINK_CHANNELS_MAX);
    for (unsigned i = 0; i < LINK_UPLINKS_MAX; i++) {
        if (!fds[POLL_UPLINK + i].revents)
            continue;
        rtnl_drain(fds[POLL_UPLINK + i].fd);
        uplink_look(uplink_at(i));
    }
    if (fds[POLL_NEWS].revents) {
        rtnl_drain(keeper.news);
        uplink_look_machine();
    }
}

static void turn(void)
{
    const struct timespec quiet = { .tv_nsec = LATE_MS * 1000000L };
    watch_all();
    int n = ppoll(fds, POLL_COUNT, late_waiting() ? &quiet : NULL, NULL);
    if (n < 0)
        return; /* EINTR */
    if (n == 0)
        late_close_one();
    if (fds[POLL_HYP].revents)
        hear_core();
    keeper.over |= fds[POLL_SIGNALS].revents != 0;
    hear_links(); /* first: a request may make other use of a slot */
    if (fds[POLL_CONTROL].revents & POLLIN)
        serve();
    else if (fds[POLL_CONTROL].revents & (POLLHUP | POLLERR))
        keeper.over = true;
    tell_all();
}

/* ------------------------------------------------------------------------ start */

static int failed(const char *what, int err)
{
    netdev_log("%s: %s; it does not start", what, strerrordesc_np(-err));
    return 1;
}

static int confine(const char **step)
{
    int paths[NETNS_PATHS_MAX];
    unsigned n = netns_paths(paths);
    return jail_confine_to(paths, n, step);
}

int main(void)
{
    const char *step = "";
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    keeper.signals = signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);
    int err = keeper.signals < 0 ? -errno : netns_init();
    if (err)
        return failed("cannot look at its network namespace", err);
    err = confine(&step);
    if (err)
        return failed(step, err);
    err = hyp_open(&keeper.hyp, NULL);
    if (err)
        return failed("cannot reach the core", err);
    err = uplink_init();
    keeper.news = err ? err : rtnl_open_news();
    if (keeper.news < 0)
        return failed("cannot watch network interfaces", keeper.news);
    err = jail_seal(HYP_CLASS_NETDEV, &step);
    if (err)
        return failed(step, err);
    err = hyp_ready(keeper.hyp);
    if (err)
        return failed("cannot tell that it is ready", err);
    while (!keeper.over)
        turn();
    uplink_release_all();
    return 0;
}
