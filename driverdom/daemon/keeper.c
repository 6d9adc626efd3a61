/* SPDX-License-Identifier: MIT */
/*
 * keeper.c - what the daemon asks of the keeper of network interfaces
 * (hyp-shim/local/netdev/link.h): uplinks of net driver domains, TAP devices of
 * guests.
 *
 * Every interface that is asked for has a number of its own, link_id + k, that
 * never means another one.  The keeper answers each request; while several are
 * on their way for one interface, only the last answer counts.
 *
 * What was asked for stays with the keeper until it is released, also while
 * nobody has it: a TAP device outlives its guest's process, and is got again by
 * asking with the same number.
 *
 * The keeper outlives this daemon too.  The next one does not know how many
 * answers are still on their way: it asks something of its own, and what comes
 * before the answer to that was the last one's.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../hyp-shim/local/netdev/link.h"
#include "../../hyp-shim/local/rights.h"
#include "daemon.h"

#define EVENTS_BUDGET 64
#define IDS_EACH      POLICY_NICS_MAX

_Static_assert(POLICY_NAME_MAX <= LINK_NETNS_MAX && POLICY_IFNAME_MAX <= LINK_NAME_MAX,
               "names fit a request");

void keeper_init(struct daemon *d)
{
    d->keeper = (struct keeper){.control = -1, .next_id = 1};
    log_init(&d->keeper.log, "@netdev");
}

static void hang_up(struct daemon *d)
{
    if (d->keeper.control >= 0)
        close(d->keeper.control);
    d->keeper.control = -1;
    d->keeper.blocked = false;
}

static int launch(struct daemon *d, int pair[2])
{
    struct hyp_domain_config cfg = {.class_id = HYP_CLASS_NETDEV, .name = "netdev"};
    int fds[2], unused[2], rc;

    rc = log_pipe(&d->keeper.log, &fds[0]);
    if (rc)
        return rc;
    fds[1] = pair[1];
    rc = hyp_domain_create(d->hyp, &cfg, fds, 2, &d->keeper.domid, unused);
    close(fds[0]);
    if (rc)
        return rc;
    rc = hyp_domain_unpause(d->hyp, d->keeper.domid);
    if (rc)
        hyp_domain_destroy(d->hyp, d->keeper.domid);
    return rc;
}

int keeper_start(struct daemon *d, char why[DAEMON_SENTENCE_MAX])
{
    int pair[2], rc;

    if (d->keeper.control >= 0)
        return 0;
    rc = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) ? -errno : 0;
    if (!rc) {
        rc = launch(d, pair);
        close(pair[1]);
        if (rc)
            close(pair[0]);
    }
    if (rc) {
        snprintf(why, DAEMON_SENTENCE_MAX, "the core would not make the keeper of network interfaces: %s",
                 strerror(-rc));
        d->keeper.domid = 0;
        return rc;
    }
    d->keeper.control = pair[0];
    return 0;
}

int keeper_channel(int channel[2], const char *whose, char why[DAEMON_SENTENCE_MAX])
{
    int rc;

    keeper_close_channel(channel);
    if (!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel))
        return 0;
    rc = -errno;
    channel[0] = channel[1] = -1;
    snprintf(why, DAEMON_SENTENCE_MAX, "cannot make the sockets of %s: %s", whose, strerror(-rc));
    return rc;
}

void keeper_close_channel(int channel[2])
{
    for (int i = 0; i < 2; i++) {
        if (channel[i] >= 0)
            close(channel[i]);
        channel[i] = -1;
    }
}

void keeper_channel_passed(int channel[2])
{
    if (channel[1] >= 0)
        close(channel[1]);
    channel[1] = -1;
}

/* ------------------------------------------------------------------ asking */

static void describe_uplink(const struct domain *dom, struct link_request *req)
{
    static const uint32_t kinds[] = {
        [POLICY_PMD_AF_PACKET] = LINK_KIND_PACKET,
        [POLICY_PMD_AF_XDP] = LINK_KIND_XDP,
        [POLICY_PMD_TAP] = LINK_KIND_TAP,
    };

    req->op = LINK_UPLINK;
    req->kind = kinds[dom->spec.pmd];
    req->mtu = dom->spec.mtu;
    snprintf(req->name, sizeof(req->name), "%s", dom->spec.ifname);
}

static void describe_tap(const struct domain *dom, unsigned i, struct link_request *req)
{
    const struct policy_nic *nic = &dom->spec.nics[i];

    req->op = LINK_TAP;
    req->index = nic->devid;
    req->mtu = nic->mtu;
    memcpy(req->mac, nic->mac, sizeof(req->mac));
    snprintf(req->name, sizeof(req->name), "%s", nic->dev);
    snprintf(req->netns, sizeof(req->netns), "%s", dom->spec.netns);
}

/* False: the keeper takes no more now. */
static bool ask_one(struct daemon *d, struct domain *dom, unsigned k, struct kept *kept, const int *channel)
{
    struct link_request req = {.version = LINK_VERSION, .id = dom->link_id + k};
    bool release = kept->at == KEPT_TO_RELEASE;
    int rc;

    if (kept->at != KEPT_TO_ASK && !release)
        return true;
    if (dom->spec.kind == POLICY_DRIVER)
        describe_uplink(dom, &req);
    else
        describe_tap(dom, k, &req);
    if (release)
        req.op = LINK_RELEASE;
    rc = rights_send(d->keeper.control, &req, sizeof(req), channel, release ? 0 : 1);
    if (rc)
        return false;
    (kept == &dom->spare.kept ? &dom->uplink.kept : kept)->answers++;
    kept->at = release ? KEPT_RELEASING : KEPT_ASKED;
    return true;
}

/* First of all that a new daemon asks: to give back what there never was. */
static bool ask_fresh(struct daemon *d)
{
    struct link_request req = {.version = LINK_VERSION, .op = LINK_RELEASE, .id = d->keeper.fresh};

    if (!d->keeper.fresh || d->keeper.fresh_asked)
        return true;
    d->keeper.fresh_asked = !rights_send(d->keeper.control, &req, sizeof(req), NULL, 0);
    return d->keeper.fresh_asked;
}

void keeper_ask(struct daemon *d)
{
    bool taken;

    if (d->keeper.control < 0)
        return;
    taken = ask_fresh(d);
    for (int g = 0; g < DAEMON_DOMAINS_MAX && taken; g++) {
        struct domain *dom = &d->domains[g];

        if (!dom->used)
            continue;
        taken = ask_one(d, dom, 0, &dom->uplink.kept, dom->channel) &&
                ask_one(d, dom, 0, &dom->spare.kept, dom->spare.channel);
        for (unsigned k = 0; taken && nic_next(dom, &k); k++)
            taken = ask_one(d, dom, k, &dom->tap[k], dom->channel);
    }
    d->keeper.blocked = !taken;
}

static void release(struct daemon *d, struct kept *kept)
{
    if (kept->at == KEPT_TO_RELEASE || kept->at == KEPT_RELEASING)
        return;
    keeper_drop(kept);
    kept->at = kept->had && d->keeper.control >= 0 ? KEPT_TO_RELEASE : KEPT_NONE;
    kept->had = false;
}

void keeper_drop(struct kept *kept)
{
    kept->had |= kept->at == KEPT_ASKED; /* it will have been taken */
    kept->at = KEPT_NONE;
}

void keeper_release(struct daemon *d, struct domain *dom)
{
    dom->uplink.state = 0;
    release(d, &dom->uplink.kept);
    for (unsigned k = 0; nic_next(dom, &k); k++)
        release(d, &dom->tap[k]);
    keeper_ask(d);
}

/* ----------------------------------------------------------------- hearing */

static void tell_state(struct daemon *d, struct domain *dom, const struct link_event *ev)
{
    static const char *const events[] = {[LINK_UP] = "uplink_up",
                                         [LINK_DOWN] = "uplink_down",
                                         [LINK_GONE] = "uplink_gone",
                                         [LINK_BACK] = "uplink_back"};

    if (ev->state < LINK_UP || ev->state > LINK_BACK || ev->state == dom->uplink.state)
        return;
    dom->uplink.state = ev->state;
    event_tell(d, events[ev->state], dom, json_pack("{s:s}", "interface", dom->spec.ifname));
    if (ev->state != LINK_BACK)
        return;
    /* Another interface of that name: sockets of the old one are of no use. */
    if (dom->state == ST_RUNNING)
        dom_renew(d, dom);
    else if (dom->state == ST_CRASHED || dom->state == ST_BACKOFF)
        dom->deadline = now_ms();
}

static void uplink_answer(struct daemon *d, struct domain *dom, const struct link_event *ev, const char *text)
{
    struct kept *kept = &dom->uplink.kept;
    char why[DAEMON_SENTENCE_MAX];
    bool asked = kept->at == KEPT_ASKED;

    kept->at = asked && !ev->error ? KEPT_HELD : KEPT_NONE;
    kept->had |= kept->at == KEPT_HELD;
    if (ev->error)
        snprintf(why, sizeof(why), "uplink %s of %s: %s", dom->spec.ifname, dom->spec.name, text);
    if (!asked) { /* a release: what it does not have it need not give back */
        if (ev->error && ev->error != -ENOENT)
            event_error(d, dom, "%s", why);
        return;
    }
    if (!ev->error) {
        dom->uplink.state = ev->state;
        driver_go_on(d, dom);
    } else if (dom->state == ST_STARTING) {
        dom_start_failed(d, dom, why);
    }
}

static void tap_answer(struct daemon *d, struct domain *dom, unsigned i, const struct link_event *ev,
                       const char *text)
{
    char why[DAEMON_SENTENCE_MAX];

    bool asked = dom->tap[i].at == KEPT_ASKED;

    dom->tap[i].at = asked && !ev->error ? KEPT_HELD : KEPT_NONE;
    dom->tap[i].had |= dom->tap[i].at == KEPT_HELD;
    if (!asked || dom->state != ST_STARTING || dom->built)
        return;
    if (!ev->error) {
        guest_go_on(d, dom);
        return;
    }
    snprintf(why, sizeof(why), "NIC %s of %s: %s", dom->spec.nics[i].dev, dom->spec.name, text);
    dom_start_failed(d, dom, why);
}

static void hear(struct daemon *d, const struct link_event *ev)
{
    char text[LINK_WHY_MAX + 1];

    snprintf(text, sizeof(text), "%.*s", (int)sizeof(ev->why), *ev->why ? ev->why : strerror(-ev->error));
    policy_clean_text(text);
    if (d->keeper.fresh && ev->op != LINK_STATE) {
        if (ev->id == d->keeper.fresh)
            d->keeper.fresh = 0;
        return;
    }
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        struct domain *dom = &d->domains[g];
        unsigned k = ev->id - dom->link_id;
        bool driver = dom->spec.kind == POLICY_DRIVER;
        struct kept *kept;

        if (!dom->used || k >= (driver ? 1 : POLICY_NICS_MAX))
            continue;
        if (ev->op == LINK_STATE) {
            if (driver)
                tell_state(d, dom, ev);
            return;
        }
        kept = driver ? &dom->uplink.kept : &dom->tap[k];
        if (!kept->answers || --kept->answers)
            return;
        if (driver && kept->at == KEPT_HELD && dom->spare.kept.at == KEPT_ASKED)
            spare_uplink(d, dom, ev->error, text);
        else if (kept->at != KEPT_ASKED && kept->at != KEPT_RELEASING)
            return;
        else if (driver)
            uplink_answer(d, dom, ev, text);
        else
            tap_answer(d, dom, k, ev, text);
        return;
    }
}

void keeper_serve(struct daemon *d, short revents)
{
    struct link_event ev;
    struct rights none;
    ssize_t n = 1;
    int flags;

    if (revents & POLLOUT)
        keeper_ask(d);
    for (int budget = EVENTS_BUDGET; budget && d->keeper.control >= 0; budget--) {
        n = rights_receive(d->keeper.control, &ev, sizeof(ev), &none, 0, &flags);
        if (n == -EAGAIN || n == -EINTR)
            return;
        if (n <= 0) {
            hang_up(d); /* its death is told by the core */
            return;
        }
        if (n == sizeof(ev) && !(flags & MSG_TRUNC))
            hear(d, &ev);
    }
}

/* ---------------------------------------------------------------- its death */

/* What was asked fails; uplinks are opened anew; TAP devices belong to who has them. */
static void lose(struct daemon *d, struct domain *dom)
{
    static const char why[] = "the keeper of network interfaces died; see: bulkhead log @netdev";
    struct kept *uplink = &dom->uplink.kept;
    bool had = uplink->at == KEPT_HELD, wanted = uplink->at == KEPT_ASKED || uplink->at == KEPT_TO_ASK;

    *uplink = dom->spare.kept = (struct kept){.at = KEPT_NONE};
    dom->uplink.state = 0;
    for (unsigned k = 0; nic_next(dom, &k); k++) {
        wanted |= dom->tap[k].at == KEPT_ASKED || dom->tap[k].at == KEPT_TO_ASK;
        dom->tap[k] = (struct kept){.at = dom->tap[k].at == KEPT_HELD ? KEPT_HELD : KEPT_NONE};
    }
    if (dom->state == ST_STARTING && !dom->built && (wanted || had))
        dom_start_failed(d, dom, why);
    else if (dom->state == ST_RUNNING && had)
        dom_renew(d, dom);
}

void keeper_died(struct daemon *d, int status)
{
    bool told_to = d->keeper.end_at != 0;

    log_pump(&d->keeper.log, LOG_FILE_MAX);
    hang_up(d);
    d->keeper.domid = 0;
    d->keeper.fresh = 0;
    if (told_to)
        return;
    event_tell(d, "died", NULL,
               json_pack("{s:s,s:i}", "name", d->keeper.log.name,
                         WIFSIGNALED(status) ? "signal" : "exit_status",
                         WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)));
    log_say(&d->own_log, "the keeper of network interfaces died; see %s/logs/@netdev.log", d->run_dir);
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++)
        if (d->domains[g].used)
            lose(d, &d->domains[g]);
}

/* ---------------------------------------------------------- another daemon's keeper */

/* A domain that was starting is started anew; a release is asked for again. */
static void settle(struct kept *kept)
{
    if (kept->at == KEPT_RELEASING)
        kept->at = KEPT_TO_RELEASE;
    else if (kept->at == KEPT_ASKED || kept->at == KEPT_TO_ASK)
        keeper_drop(kept);
    kept->answers = 0;
}

void keeper_adopted(struct daemon *d)
{
    struct keeper *keeper = &d->keeper;
    struct hyp_domain_info info;

    if (!keeper->domid) {
        hang_up(d);
        return;
    }
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        struct domain *dom = &d->domains[g];

        settle(&dom->uplink.kept);
        settle(&dom->spare.kept);
        for (unsigned k = 0; nic_next(dom, &k); k++)
            settle(&dom->tap[k]);
    }
    keeper->fresh = keeper->next_id;
    keeper->next_id += IDS_EACH;
    if (keeper->control >= 0 && hyp_domain_info(d->hyp, keeper->domid, &info) != -ESRCH) {
        keeper_ask(d);
        return;
    }
    hyp_domain_destroy(d->hyp, keeper->domid); /* one that nobody can speak to */
    keeper_died(d, SIGKILL);
}

/* -------------------------------------------------------------------- its end */

static bool is_waited_for(const struct daemon *d)
{
    for (int g = 0; g < DAEMON_DOMAINS_MAX; g++) {
        const struct domain *dom = &d->domains[g];
        bool waits = dom->uplink.kept.answers || dom->uplink.kept.at == KEPT_TO_RELEASE;

        for (unsigned k = 0; nic_next(dom, &k); k++)
            waits |= dom->tap[k].answers || dom->tap[k].at == KEPT_TO_RELEASE;
        if (dom->used && waits)
            return true;
    }
    return false;
}

bool keeper_end(struct daemon *d, uint64_t now)
{
    if (!d->keeper.domid)
        return true;
    if (!d->keeper.end_at)
        d->keeper.end_at = now + KEEPER_WAIT_MS;
    if (d->keeper.control >= 0 && !is_waited_for(d)) {
        hyp_domain_stop(d->hyp, d->keeper.domid);
        hang_up(d);
    }
    return now >= d->keeper.end_at;
}
