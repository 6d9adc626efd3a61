/* SPDX-License-Identifier: MIT */
/*
 * heartbeat.c - whether a driver domain that does not answer lives, and what
 * becomes of one that lies.
 *
 * It is judged only when a frontend says that its work stands still.  Then
 * /local/domain/DD/ping gets a new number, which the driver domain copies to
 * /local/domain/DD/pong as soon as each of its threads came round: a slow device
 * is no hang, and neither is a processor that it has to wait for.
 */
#include <stdio.h>
#include <string.h>

#include "daemon.h"

static void home_of(domid_t domid, char out[STORE_PATH_MAX])
{
    snprintf(out, STORE_PATH_MAX, "/local/domain/%u", domid);
}

int heartbeat_watch(struct daemon *d, domid_t domid, bool on)
{
    char path[STORE_PATH_MAX], token[STORE_TOKEN_MAX];

    snprintf(path, sizeof(path), "/local/domain/%u/pong", domid);
    snprintf(token, sizeof(token), "%u/pong", domid);
    return on ? store_watch(d->store, path, token) : store_unwatch(d->store, path, token);
}

static void look_at_processors(struct daemon *d, struct domain *driver)
{
    struct hyp_domain_info info;

    driver->pinged_ns = monotonic_ns();
    driver->ping_pid = 0;
    if (!hyp_domain_info(d->hyp, driver->domid, &info) && cputime_read(info.pid, &driver->ping_cpu))
        driver->ping_pid = info.pid;
}

static bool is_starved(const struct domain *driver)
{
    struct cputime now;

    return driver->ping_pid && cputime_read(driver->ping_pid, &now) &&
           cputime_starved(&driver->ping_cpu, &now, monotonic_ns() - driver->pinged_ns);
}

void heartbeat_stalled(struct daemon *d, struct domain *driver)
{
    uint64_t now = now_ms(), half = (driver->spec.heartbeat_ms + 1) / 2;
    char home[STORE_PATH_MAX];

    /* Its last verdict stands for half a period, however often it is asked for. */
    if (!half || driver->state != ST_RUNNING || driver->ping_until || now < driver->ping_again)
        return;
    home_of(driver->domid, home);
    look_at_processors(d, driver);
    if (store_printf(d->store, STORE_NO_TXN, home, "ping", "%u", ++driver->ping))
        return;
    driver->ping_until = driver->ping_again = now + half;
}

static bool has_answered(struct daemon *d, const struct domain *dom)
{
    char home[STORE_PATH_MAX];
    uint64_t n;

    home_of(dom->domid, home);
    return !store_read_number(d->store, STORE_NO_TXN, home, "pong", UINT32_MAX, &n) && n == dom->ping;
}

void heartbeat_store_event(struct daemon *d, domid_t domid)
{
    for (int i = 0; i < DAEMON_DOMAINS_MAX; i++) {
        struct domain *dom = &d->domains[i];

        if (dom->used && dom->ping_until && (!domid || dom->domid == domid) && has_answered(d, dom))
            dom->ping_until = 0;
    }
}

void heartbeat_tick(struct daemon *d, struct domain *dom, uint64_t now)
{
    if (!dom->ping_until || now < dom->ping_until)
        return;
    dom->ping_until = 0;
    if (dom->state != ST_RUNNING || has_answered(d, dom))
        return;
    /* What was asked, or answered, may have been lost with the store: ask anew. */
    if (d->store_process.started_at * 1000000 >= dom->pinged_ns) {
        dom->ping_again = 0;
        return;
    }
    if (is_starved(dom)) {
        dom->ping_until = now + (dom->spec.heartbeat_ms + 1) / 2;
        return;
    }
    event_tell(d, "hang", dom, json_pack("{s:i}", "heartbeat_ms", (int)dom->spec.heartbeat_ms));
    log_say(&dom->log, "bulkheadd: domain %u has work and does not answer in %u ms: killed", dom->domid,
            (dom->spec.heartbeat_ms + 1) / 2);
    dom_put_down(d, dom, CAUSE_HANG);
}

/* A guest is believed so often: else it could keep everyone's driver domain down. */
static bool is_believed(struct domain *guest)
{
    uint64_t now = now_ms();

    for (int i = 0; i < LIES_MAX; i++) {
        if (guest->lie_at[i] && now - guest->lie_at[i] < LIES_MS)
            continue;
        guest->lie_at[i] = now;
        return true;
    }
    return false;
}

void heartbeat_lie(struct daemon *d, struct domain *guest, unsigned i, const char *what)
{
    const struct split *split = &guest->split[i];
    struct domain *driver = dom_find(d, split->backend);

    if (!driver || driver->state != ST_RUNNING || split->be != driver->domid ||
        driver->ordered == CAUSE_LIE)
        return;
    if (!is_believed(guest)) {
        if (guest_may_tell(guest))
            event_error(d, guest,
                        "%s %s: its frontend says that driver domain %s lies (%s), as it said %d times in "
                        "%d s: only this connection is broken",
                        split->word, split->dev, driver->spec.name, what, LIES_MAX, LIES_MS / 1000);
        return;
    }
    event_tell(d, "lie", driver,
               json_pack("{s:s,s:s,s:s}", "guest", guest->spec.name,
                         split_is_disk(i) ? "disk" : "nic", split->dev, "what", what));
    log_say(&driver->log, "bulkheadd: domain %u lies to %s of %s (%s): killed", driver->domid, split->dev,
            guest->spec.name, what);
    dom_put_down(d, driver, CAUSE_LIE);
}
